/* SPDX-License-Identifier: Apache-2.0
 *
 * Nodes in child processes (cluster_priv.h): one, or two that share metadata within their process where there is
 * no etcd. A child waits on a socket of whole messages for one byte: 's' start, '?' tell, 'q' end in good order
 * (that the socket is closed it would not see: later children have it, too). The end of its parent ends it at once.
 * Segments have no names.
 */
#include "bench/cluster_priv.h"

#include "base/clock.h"
#include "node/node.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define START_MS  60000
#define ASK_MS    5000
#define STOP_MS   15000u
#define SETTLE_NS (90 * YK_NS_PER_S)

/* ---- the child ---------------------------------------------------------------------------------------- */

struct child {
    struct cluster_node_opts opts;
    const char *dir, *name;
    uint32_t count;
    unsigned port; /* of the first, for clients without a map */
    struct yk_meta *meta;
    struct {
        struct yk_node *node;
        struct yk_dir *dir;
    } at[CLUSTER_TOGETHER];
};

static void socket_path(char *to, size_t cap, const char *dir, const char *name, uint32_t i) {
    snprintf(to, cap, "%s/%s-%u.sock", dir, name, i);
}

static int start_one(struct child *c, uint32_t i, struct yk_err *err) {
    char name[32], state[140];
    struct yk_node_opts no = {.transfer = "127.0.0.1:0", .listen_count = 1};
    struct yk_dir_opts d = {.shared_meta = c->meta, .name = name, .state_dir = state, .listen = "127.0.0.1:0",
                            .start_ms = START_MS - 5000};
    snprintf(name, sizeof(name), "%s-%u", c->name, i);
    snprintf(state, sizeof(state), "%s/%s", c->dir, name);
    d.meta.endpoints = c->opts.etcd;
    no.store.segment.data_bytes = c->opts.dram_bytes[i];
    no.store.segment.max_blocks = c->opts.max_blocks;
    no.store.segment.max_clients = 16;
    no.store.segment.numa_node = -1;
    no.store.policy = "lru";
    no.store.reserve_percent = 5;
    no.store.held_percent = 50;
    no.transports = c->opts.over_tcp ? YK_XFER_TCP : 0;
    no.listen[0].kind = YK_ADDR_UNIX;
    socket_path(no.listen[0].host, sizeof(no.listen[0].host), c->dir, c->name, i);
    if (i == 0) {
        no.listen[1] = (struct yk_addr){.kind = YK_ADDR_TCP, .port = (uint16_t)c->port};
        snprintf(no.listen[1].host, sizeof(no.listen[1].host), "127.0.0.1");
        no.listen_count = 2;
    }
    int rc = yk_dir_new(&d, &c->at[i].dir, err);
    if (rc < 0)
        return rc;
    no.pool = yk_dir_pool(c->at[i].dir);
    rc = yk_node_start(&no, &c->at[i].node, err);
    return rc < 0 ? rc : yk_dir_start(c->at[i].dir, c->at[i].node, err);
}

static void start(struct child *c, struct cluster_told *told) {
    struct yk_meta_opts mo = {0};
    struct yk_err err = {0};
    int rc = c->opts.etcd == NULL ? yk_meta_open(&mo, &c->meta, &err) : 0;
    for (uint32_t i = 0; i < c->count && rc == 0; i++) {
        rc = start_one(c, i, &err);
        if (rc == 0)
            snprintf(told->peers[i], sizeof(told->peers[i]), "%s", yk_dir_address(c->at[i].dir));
    }
    told->status = rc;
    snprintf(told->text, sizeof(told->text), "%s", err.text);
}

static uint64_t resident_bytes(void) {
    unsigned long all = 0, resident = 0, shared = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f == NULL)
        return 0;
    if (fscanf(f, "%lu %lu %lu", &all, &resident, &shared) != 3)
        resident = shared = 0;
    fclose(f);
    return (uint64_t)(resident - shared) * (uint64_t)sysconf(_SC_PAGESIZE); /* without the tier, which is shared */
}

static void tell(struct child *c, struct cluster_told *told) {
    struct yk_node_stats n;
    if (c->at[c->count - 1].dir == NULL || told->status < 0)
        return;
    yk_dir_stats(c->at[c->count - 1].dir, &told->dir);
    yk_node_stats(c->at[c->count - 1].node, &n);
    told->blocks = n.store.blocks;
    told->rss_bytes = resident_bytes();
}

static void stop(struct child *c) {
    for (uint32_t i = 0; i < c->count; i++)
        yk_dir_stop(c->at[i].dir);
    for (uint32_t i = 0; i < c->count; i++)
        yk_node_stop(c->at[i].node);
    for (uint32_t i = 0; i < c->count; i++)
        yk_dir_free(c->at[i].dir);
    yk_meta_close(c->meta);
}

static void child_main(struct child *c, int fd) {
    static struct cluster_told told;
    char what;
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    for (;;) {
        ssize_t n = recv(fd, &what, 1, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0 || what == 'q')
            break;
        if (what == 's')
            start(c, &told);
        tell(c, &told);
        if (send(fd, &told, sizeof(told), MSG_NOSIGNAL) < 0)
            break;
    }
    stop(c);
    _exit(0);
}

/* ---- the parent --------------------------------------------------------------------------------------- */

int cluster_node_spawn(struct cluster_node *n, const struct cluster_place *place, const char *name,
                       const struct cluster_node_opts *opts) {
    static struct child c;
    int fds[2];
    pid_t parent = getpid();
    *n = (struct cluster_node){.fd = -1};
    snprintf(n->name, sizeof(n->name), "%s", name);
    c = (struct child){.opts = *opts, .dir = place->dir, .name = name, .count = opts->together != 0 ? opts->together : 1};
    c.port = cluster_port();
    snprintf(n->far_url, sizeof(n->far_url), "tcp:127.0.0.1:%u", c.port);
    for (uint32_t i = 0; i < c.count; i++) {
        char path[112];
        socket_path(path, sizeof(path), place->dir, name, i);
        snprintf(n->url[i], sizeof(n->url[i]), "unix:%s", path);
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
        return -YK_EIO;
    n->pid = fork();
    if (n->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        close(fds[0]);
        child_main(&c, fds[1]);
    }
    close(fds[1]);
    n->fd = fds[0];
    if (n->pid > 0)
        return 0;
    close(n->fd);
    n->fd = -1;
    n->pid = 0;
    return -YK_EIO;
}

static int hear(struct cluster_node *n, int timeout_ms) {
    struct pollfd p = {n->fd, POLLIN, 0};
    int ready;
    while ((ready = poll(&p, 1, timeout_ms)) < 0 && errno == EINTR)
        continue;
    if (ready <= 0)
        return -YK_ETIMEDOUT;
    return recv(n->fd, &n->told, sizeof(n->told), MSG_DONTWAIT) == (ssize_t)sizeof(n->told) ? 0 : -YK_EGONE;
}

int cluster_node_begin(struct cluster_node *n) {
    return send(n->fd, "s", 1, MSG_NOSIGNAL) == 1 ? 0 : -YK_EGONE;
}

int cluster_node_ready(struct cluster_node *n) {
    int rc = hear(n, START_MS);
    if (rc == 0)
        rc = n->told.status;
    if (rc < 0)
        fprintf(stderr, "yolk bench: node %s does not start: %s\n", n->name,
                n->told.text[0] != 0 ? n->told.text : yk_strerror(rc));
    return rc;
}

int cluster_node_ask(struct cluster_node *n) {
    while (n->pid != 0 && recv(n->fd, &n->told, sizeof(n->told), MSG_DONTWAIT) > 0)
        continue; /* an answer that came too late */
    if (n->pid == 0 || send(n->fd, "?", 1, MSG_NOSIGNAL) != 1)
        return -YK_EGONE;
    return hear(n, ASK_MS);
}

static void node_end(struct cluster_node *n, uint32_t timeout_ms) {
    if (n->pid == 0)
        return;
    cluster_reap(&n->pid, timeout_ms);
    close(n->fd);
    n->fd = -1;
}

void cluster_node_kill(struct cluster_node *n) {
    node_end(n, 0);
}

void cluster_node_stop(struct cluster_node *n) {
    if (n->pid != 0)
        (void)send(n->fd, "q", 1, MSG_NOSIGNAL);
    node_end(n, STOP_MS);
}

static int settled(struct cluster_node *const *nodes, uint32_t count, uint32_t members) {
    uint64_t owned = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (cluster_node_ask(nodes[i]) < 0)
            return 0;
        const struct yk_dir_stats *d = &nodes[i]->told.dir;
        if (d->members != members || !d->serves || d->core.slots_whole != d->core.slots_owned)
            return 0;
        owned += d->core.slots_owned;
    }
    return owned == YK_DIR_SLOTS;
}

int cluster_settle(struct cluster_node *const *nodes, uint32_t count, uint32_t members) {
    uint64_t until = yk_now_ns() + SETTLE_NS;
    while (!settled(nodes, count, members)) {
        if (yk_now_ns() > until) {
            fprintf(stderr, "yolk bench: the cluster of %u nodes does not come to rest\n", members);
            return -YK_ETIMEDOUT;
        }
        cluster_pause_ms(20);
    }
    return 0;
}
