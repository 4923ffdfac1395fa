/* SPDX-License-Identifier: Apache-2.0
 *
 * Engine and segment of a handle without a map (src/client/far.h).
 *
 * Opening a segment asks the node's engine over the network and may take as long as it is given, so it is
 * done without the lock, once a connection and once a rest, and bounded by a part of what the caller has:
 * an address that nobody answers costs half a second at most, and never the connection.
 *
 * A segment that was opened again after a rest may be the same that failed: that the engine answers
 * says nothing of the path that payload takes. The rest grows until a move has succeeded.
 *
 * Threads: see far.h.
 */
#include "client/client_priv.h"

#include "base/clock.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define OPEN_NS     (500 * YK_NS_PER_MS)
#define REST_NS     (1 * YK_NS_PER_S)
#define REST_MAX_NS (30 * YK_NS_PER_S)
/* Until the engine gives up a connection that is not answered: another rail, or the socket, is
 * there instead. */
#define CONNECT_MS 500u

void yk_far_init(struct yk_far *far) {
    memset(far, 0, sizeof(*far));
    far->inline_max = YK_FAR_INLINE;
    yk_buffers_init(&far->buffers);
    yk_list_init(&far->moves);
    yk_list_init(&far->spare);
}

void yk_far_set_inline(yk_client *c, uint64_t bytes) {
    c->far.inline_max = bytes;
    c->far.inline_set = 1;
}

static int copy(const char *text, const char **ret_copy) {
    *ret_copy = text != NULL ? strdup(text) : NULL;
    return text != NULL && *ret_copy == NULL ? -YK_ENOMEM : 0;
}

int yk_far_rails(struct yk_far *far, const char *rails, const char *transports, const char *rdma, struct yk_err *err) {
    if (transports != NULL && yk_xfer_transports(transports, &far->transports) < 0)
        return yk_err_set(err, -YK_EINVAL, "transports: %s", yk_xfer_error_text());
    if (rdma != NULL && !(far->transports & YK_XFER_RDMA))
        return yk_err_set(err, -YK_EINVAL, "rdma: '%.60s', and rdma is not among the transports", rdma);
    if (rdma != NULL && yk_xfer_rdma_check(rdma) < 0) /* here, since a handle that is mapped makes no engine */
        return yk_err_set(err, -YK_EINVAL, "%s", yk_xfer_error_text());
    int rc = copy(rails, &far->rails);
    rc = rc == 0 ? copy(rdma, &far->rdma) : rc;
    return rc < 0 ? yk_err_set(err, rc, "%s", yk_status_text(rc)) : 0;
}

void yk_far_fini(struct yk_far *far) {
    yk_xfer_destroy(far->engine);
    yk_buffers_fini(&far->buffers);
    far->engine = NULL;
    far->up = far->open = 0;
    yk_moves_free(far);
    free((void *)(uintptr_t)far->rails);
    free((void *)(uintptr_t)far->rdma);
    far->rails = far->rdma = NULL;
}

/* ---- opening ---------------------------------------------------------------------------------------- */

static int segment_open(yk_xfer *engine, const struct yk_welcome *w, uint64_t budget_ns,
                        struct yk_far_found *ret) {
    char where[sizeof(w->xfer_address) + sizeof(w->xfer_name) + 2];
    yk_xfer_segment_info info;
    uint64_t ms = budget_ns / YK_NS_PER_MS;
    snprintf(where, sizeof(where), "%s/%s", w->xfer_address, w->xfer_name);
    int rc = yk_xfer_open(engine, where, ms > 0 ? (uint32_t)ms : 1, &ret->segment);
    if (rc < 0)
        return rc;
    rc = yk_xfer_segment_stat(engine, ret->segment, &info);
    if (rc == 0 && !info.guarded) /* what a node publishes is */
        rc = -YK_EPROTO;
    if (rc < 0) {
        (void)yk_xfer_close(engine, ret->segment);
        return rc;
    }
    ret->length = info.length;
    ret->open = 1;
    return 0;
}

/* Who names a TCP address and forbids to map does not want what is on this host to be used. */
static int tcp_alone(const yk_client *c) {
    return (c->flags & YK_OPEN_NO_MAP) && c->addr.kind == YK_ADDR_TCP;
}

/* 0: the engine's choice, when none are named; else that of those named none is left. */
static uint32_t transports_of(const yk_client *c) {
    uint32_t named = c->far.transports;
    if (!tcp_alone(c))
        return named;
    return named != 0 ? named & ~(uint32_t)YK_XFER_SHM : YK_XFER_MEM | YK_XFER_TCP;
}

static int engine_make(const yk_client *c, yk_xfer **ret_engine) {
    yk_xfer_opts o = {.size = sizeof(o),
                      .transports = transports_of(c),
                      .rails = c->far.rails,
                      .rdma = c->far.rdma,
                      .connect_ms = CONNECT_MS,
                      .any_local = 1};
    return yk_xfer_create(&o, ret_engine);
}

/* How many addresses beside sockets of this host? The list may begin with "engine=ID". */
static unsigned count_remote(const char *addresses) {
    unsigned n = 0;
    for (const char *at = addresses; *at != 0;) {
        size_t len = strcspn(at, ",");
        n += strncmp(at, "engine=", 7) != 0 && strncmp(at, "unix:", 5) != 0;
        at += len + (at[len] == ',');
    }
    return n;
}

/* Is the node on this host? Then there is one way to it, whatever it names. */
static int is_same_host(int fd) {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_storage all;
    } own = {.any.sa_family = AF_UNSPEC}, peer = {.any.sa_family = AF_UNSPEC};
    socklen_t own_len = sizeof(own), peer_len = sizeof(peer);
    if (getsockname(fd, &own.any, &own_len) < 0 || getpeername(fd, &peer.any, &peer_len) < 0)
        return 0;
    if (own.any.sa_family == AF_INET)
        return own.v4.sin_addr.s_addr == peer.v4.sin_addr.s_addr;
    if (own.any.sa_family == AF_INET6)
        return IN6_ARE_ADDR_EQUAL(&own.v6.sin6_addr, &peer.v6.sin6_addr);
    return own.any.sa_family == AF_UNIX;
}

/* Up to which size do blocks stay on the connection? Where devices are to move the payload, a round trip more is little
 * beside what is not copied, over one rail too. */
static uint64_t inline_of(const yk_client *c, int fd, const struct yk_welcome *w) {
    if (c->far.transports & YK_XFER_RDMA)
        return YK_FAR_INLINE;
    return count_remote(w->xfer_address) < 2 || is_same_host(fd) ? YK_FAR_INLINE_ONE : YK_FAR_INLINE;
}

/* Does the welcome name a segment that this handle may use? */
static int is_offered(const yk_client *c, const struct yk_welcome *w) {
    return (w->flags & YK_HELLO_XFER) != 0 && (w->flags & YK_HELLO_MAP) == 0 &&
           !(tcp_alone(c) && count_remote(w->xfer_address) == 0);
}

int yk_far_find(yk_client *c, int fd, const struct yk_welcome *w, uint64_t deadline_ns,
                struct yk_far_found *ret, struct yk_err *err) {
    uint64_t now = yk_now_ns(), budget = deadline_ns > now ? (deadline_ns - now) / 4 : 0;
    memset(ret, 0, sizeof(*ret));
    if (c->flags & YK_OPEN_NO_XFER)
        return 0;
    if (c->far.transports != 0 && transports_of(c) == 0)
        return c->conn_number > 0 ? 0
                                  : yk_err_set(err, -YK_EINVAL, "transports: shm alone, which a tcp: address "
                                                                "without a mapping does not use");
    if (!is_offered(c, w))
        return 0;
    ret->inline_max = inline_of(c, fd, w);
    int rc = c->far.engine == NULL ? engine_make(c, &ret->engine) : 0;
    if (c->conn_number == 0 && ((rc == -YK_EINVAL && (c->far.rails != NULL || c->far.rdma != NULL)) ||
                                (rc == -YK_ENOTSUP && c->far.transports != 0)))
        return yk_err_set(err, -YK_EINVAL, "%s", yk_xfer_error_text());
    if (rc == 0 && ret->engine != NULL && (transports_of(c) & YK_XFER_RDMA))
        yk_buffers_use(&c->far.buffers, ret->engine);
    if (rc == 0)
        (void)segment_open(ret->engine != NULL ? ret->engine : c->far.engine, w,
                           budget < OPEN_NS ? budget : OPEN_NS, ret);
    return 0;
}

void yk_far_drop(yk_client *c, struct yk_far_found *found) {
    if (found->engine != NULL) {
        yk_buffers_leave(&c->far.buffers, found->engine);
        yk_xfer_destroy(found->engine);
    } else if (found->open) {
        (void)yk_xfer_close(c->far.engine, found->segment);
    }
    memset(found, 0, sizeof(*found));
}

/* ---- states ----------------------------------------------------------------------------------------- */

/* Requests that are under way keep what they need of a segment that is closed. */
static void segment_set(struct yk_far *far, const struct yk_far_found *found) {
    if (far->open)
        (void)yk_xfer_close(far->engine, far->segment);
    far->open = found->open;
    far->segment = found->segment;
    far->length = found->length;
    __atomic_store_n(&far->up, found->open, __ATOMIC_RELAXED);
}

void yk_far_rest(yk_client *c) {
    struct yk_far *far = &c->far;
    __atomic_store_n(&far->up, 0, __ATOMIC_RELAXED);
    far->rest_ns = far->rest_ns == 0 ? REST_NS : far->rest_ns * 2;
    if (far->rest_ns > REST_MAX_NS)
        far->rest_ns = REST_MAX_NS;
    far->retry_at_ns = yk_now_ns() + far->rest_ns;
}

static int is_granted(const yk_client *c) {
    return c->far.engine != NULL && is_offered(c, &c->welcome);
}

/* A node that restarts has another engine, at another port: until a request to the old one has run into
 * its deadline, its operation could have been done through the new connection. */
void yk_far_lost(yk_client *c) {
    __atomic_store_n(&c->far.up, 0, __ATOMIC_RELAXED);
    for (struct yk_link *l = c->far.moves.next; l != &c->far.moves; l = l->next)
        (void)yk_xfer_cancel(c->far.engine, YK_LIST_ITEM(l, struct yk_move, all)->batch);
}

void yk_far_adopt(yk_client *c, const struct yk_far_found *found) {
    struct yk_far *far = &c->far;
    if (found->engine != NULL)
        far->engine = found->engine;
    if (far->engine == NULL)
        return;
    segment_set(far, found);
    if (!far->inline_set && found->inline_max != 0)
        __atomic_store_n(&far->inline_max, found->inline_max, __ATOMIC_RELAXED);
    if (!found->open)
        yk_far_rest(c);
}

void yk_far_tend(yk_client *c, uint64_t budget_ns) {
    struct yk_far *far = &c->far;
    if (far->engine == NULL || far->up || far->opening || c->state != YK_CONN_UP ||
        !is_granted(c) || yk_now_ns() < far->retry_at_ns)
        return;
    struct yk_welcome w = c->welcome;
    struct yk_far_found found = {0};
    uint32_t number = c->conn_number;
    far->opening = 1;
    yk_conn_unlock(c); /* others go on meanwhile */
    int rc = segment_open(far->engine, &w, budget_ns < OPEN_NS ? budget_ns : OPEN_NS, &found);
    pthread_mutex_lock(&c->lock);
    far->opening = 0;
    if (c->conn_number != number) { /* it belongs to another welcome */
        yk_far_drop(c, &found);
    } else if (rc < 0) {
        yk_far_rest(c);
    } else {
        segment_set(far, &found);
    }
}
