/* SPDX-License-Identifier: Apache-2.0
 *
 * The node's transfer engine (docs/decisions/0011): peers that cannot map the memory of the DRAM tier read
 * blocks and write places in it, without the owner thread.
 *
 * The payload is one segment, open to guarded requests alone; the guard is the table of pins (guard.h).
 * The engine answers on threads of its own and touches nothing else of the node. It is destroyed before
 * the segment is unmapped.
 *
 * It listens where it is told, or ("auto") on the host of the first TCP listener, at any free port; for
 * peers of this host on a unix socket, too, beside the node's own if that folder can be written. Without a
 * TCP listener "auto" starts none: a port, on loopback as well, would let in whom the permissions of the
 * unix socket keep out. Clients are told all of it in HELLO. The addresses come from the engine as it tells them a resolver: that is
 * what this file's resolver is for.
 *
 * Threads: start and stop: those of the node's; addresses and segment: any.
 */
#include "node/node_priv.h"

#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <yolk/transfer.h>

#define ADDRESSES_MAX 1024u
#define NAMELESS      "nameless"
#define SOCKET_NAME   32u /* of what the engine adds to its socket's folder, and some */

struct transfer {
    yk_xfer *engine;
    char addresses[ADDRESSES_MAX];
    char segment[YK_XFER_NAME_MAX + 1];
    char where[ADDRESSES_MAX + YK_XFER_NAME_MAX + 2]; /* addresses/segment */
};

const char *transfer_addresses(const struct yk_node *node) {
    return node->transfer != NULL ? node->transfer->addresses : "";
}

const char *transfer_segment(const struct yk_node *node) {
    return node->transfer != NULL ? node->transfer->segment : "";
}

/* Without the word in front that says to peers which engine is meant. */
const char *yk_node_transfer(const struct yk_node *node) {
    const char *list = transfer_addresses(node);
    const char *first = strncmp(list, "engine=", 7) == 0 ? strchr(list, ',') : NULL;
    return first != NULL ? first + 1 : list;
}

struct yk_xfer *yk_node_engine(const struct yk_node *node) {
    return node->transfer != NULL ? node->transfer->engine : NULL;
}

const char *yk_node_segment(const struct yk_node *node) {
    return node->transfer != NULL ? node->transfer->where : "";
}

/* ---- the resolver ----------------------------------------------------------------------------- */

static int hear_address(void *user, const char *name, const char *address) {
    struct transfer *t = user;
    (void)name;
    snprintf(t->addresses, sizeof(t->addresses), "%s", address);
    return 0;
}

static int forget_address(void *user, const char *name) {
    (void)user;
    (void)name;
    return 0;
}

static int resolve_nothing(void *user, const char *name, char *ret_address, size_t cap) {
    (void)user;
    (void)name;
    (void)ret_address;
    (void)cap;
    return -YK_ENOENT;
}

/* ---- where it listens ------------------------------------------------------------------------- */

struct where {
    char tcp[NI_MAXHOST + 16]; /* HOST:PORT */
    char dir[sizeof(((struct sockaddr_un *)0)->sun_path)]; /* of the unix socket; "" = the engine's choice */
};

static int bound_to(int fd, struct sockaddr_storage *ret_addr, socklen_t *ret_len) {
    *ret_len = sizeof(*ret_addr);
    memset(ret_addr, 0, sizeof(*ret_addr));
    return getsockname(fd, (struct sockaddr *)ret_addr, ret_len) == 0 ? ret_addr->ss_family : AF_UNSPEC;
}

/* The host of the first TCP listener, with any free port. */
static void find_host(const struct yk_node *node, struct where *w) {
    struct sockaddr_storage a;
    socklen_t len;
    char host[NI_MAXHOST];
    for (uint32_t i = 0; i < node->listener_count && w->tcp[0] == 0; i++) {
        int family = bound_to(node->listener_fds[i], &a, &len);
        if ((family == AF_INET || family == AF_INET6) &&
            getnameinfo((struct sockaddr *)&a, len, host, sizeof(host), NULL, 0, NI_NUMERICHOST) == 0)
            snprintf(w->tcp, sizeof(w->tcp), family == AF_INET6 ? "[%s]:0" : "%s:0", host);
    }
}

static int set_dir(struct where *w, const char *path, size_t len) {
    if (path[0] != '/' || len == 0 || len + SOCKET_NAME >= sizeof(w->dir))
        return 0;
    memcpy(w->dir, path, len);
    w->dir[len] = 0;
    if (access(w->dir, W_OK) == 0)
        return 1;
    w->dir[0] = 0;
    return 0;
}

/* The folder of the first unix listener: whoever reaches that socket reaches one beside it. Else the one
 * that systemd made for the service. */
static void find_dir(const struct yk_node *node, struct where *w) {
    struct sockaddr_storage a;
    socklen_t len;
    for (uint32_t i = 0; i < node->listener_count; i++) {
        if (bound_to(node->listener_fds[i], &a, &len) != AF_UNIX)
            continue;
        const char *path = ((const struct sockaddr_un *)(const void *)&a)->sun_path;
        const char *end = strrchr(path, '/');
        if (end != NULL && set_dir(w, path, (size_t)(end - path)))
            return;
    }
    const char *run = getenv("RUNTIME_DIRECTORY");
    if (run != NULL)
        (void)set_dir(w, run, strcspn(run, ":"));
}

/* ---- life ------------------------------------------------------------------------------------- */

static int create(struct yk_node *node, struct transfer *t, const struct where *w, struct yk_err *err) {
    yk_xfer_resolver hear = {.size = sizeof(hear),
                             .user = t,
                             .publish = hear_address,
                             .withdraw = forget_address,
                             .resolve = resolve_nothing};
    yk_xfer_opts opts = {.size = sizeof(opts),
                         .transports = node->opts.transports,
                         .rdma = node->opts.rdma,
                         .listen = w->tcp,
                         .insecure_network = node->opts.allow_remote,
                         .shm_dir = w->dir[0] != 0 ? w->dir : NULL,
                         .resolver = &hear};
    yk_xfer_memory memory = {.addr = node->seg->data,
                             .length = node->seg->layout.data_bytes,
                             .access = YK_XFER_REMOTE_READ | YK_XFER_REMOTE_WRITE | YK_XFER_REMOTE_GUARDED,
                             .fd = node->seg->fd_data};
    yk_xfer_guard_ops guard = {.size = sizeof(guard),
                               .user = yk_store_pins(node->store),
                               .pin = yk_pins_pin,
                               .unpin = yk_pins_unpin};
    int rc = yk_xfer_create(&opts, &t->engine);
    if (rc == 0)
        rc = yk_xfer_register(t->engine, &memory, 1);
    if (rc == 0)
        rc = yk_xfer_publish(t->engine, t->segment, memory.addr, memory.length, &guard);
    if (rc == -YK_EINVAL && node->opts.rdma != NULL)
        return yk_err_set(err, rc, "the transfer engine does not start: %.200s", yk_xfer_error_text());
    const char *mend = rc == -YK_ENOTSUP ? "--transports others, such as rdma,tcp,shm"
                                         : "--transfer another HOST:PORT, auto or off";
    return rc == 0 ? 0
                   : yk_err_set(err, rc, "the transfer engine does not start: %.120s: give %s",
                                yk_xfer_error_text(), mend);
}

int transfer_start(struct yk_node *node, struct yk_err *err) {
    const char *how = node->opts.transfer, *name = node->opts.store.segment.name;
    struct where w = {"", ""};
    if (how == NULL || strcmp(how, "off") == 0)
        return 0;
    if (strcmp(how, "auto") == 0)
        find_host(node, &w);
    else
        snprintf(w.tcp, sizeof(w.tcp), "%s", how);
    if (w.tcp[0] == 0)
        return 0;
    find_dir(node, &w);
    struct transfer *t = calloc(1, sizeof(*t));
    if (t == NULL)
        return yk_err_set(err, -YK_ENOMEM, "out of memory");
    snprintf(t->segment, sizeof(t->segment), "%s", name != NULL ? name : NAMELESS);
    int rc = create(node, t, &w, err);
    node->transfer = t;
    snprintf(t->where, sizeof(t->where), "%s/%s", t->addresses, t->segment);
    if (rc < 0)
        transfer_stop(node);
    return rc;
}

void transfer_stop(struct yk_node *node) {
    if (node->transfer == NULL)
        return;
    yk_xfer_destroy(node->transfer->engine);
    free(node->transfer);
    node->transfer = NULL;
}
