/* SPDX-License-Identifier: Apache-2.0
 *
 * The parent of a replay: node, clients, progress, end (src/replay/replay.h).
 *
 * Signals that would end the process are blocked and waited for together with SIGCHLD and the next
 * progress line in one sigtimedwait; so there are no handlers, and whatever happens the clients are
 * told to stop, the node is stopped, and the socket is removed.
 */
#include "replay/replay.h"

#include "base/clock.h"
#include "base/fmt.h"
#include "replay/own.h"
#include "replay/worker_priv.h"

#include <yolk/yolk.h>

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define RESERVE_PERCENT     2u
#define PROGRESS_DEFAULT_MS 1000u
#define DESCRIPTORS_MAX     (64000000u) /* of a node */
#define STOP_GRACE_NS       (5 * YK_NS_PER_S)
#define FIGURES_MS          1200u /* a cluster's figures are a second old at most */

struct run {
    const struct yk_replay_opts *o;
    const struct yk_replay_trace *trace;
    struct yk_replay_result *r;
    struct yk_err *err;
    struct yk_own own;
    const char *url;
    yk_client *watch[YK_REPLAY_URLS_MAX]; /* the parent's own handles, for statistics */
    struct yk_replay_member member_before[YK_REPLAY_URLS_MAX];
    struct yk_replay_node_counts before;
    struct yk_replay_ssd_counts ssd_before;
    struct share *share;
    size_t share_bytes;
    pid_t *pids; /* 0 = gone */
    uint32_t alive;
    uint64_t start_ns, stop_ns;
    int status;
};

/* ---- the node ------------------------------------------------------------------------------- */

static int own_node(const struct yk_replay_opts *o) {
    return o->url == NULL && o->url_count == 0;
}

static uint32_t nodes_of(const struct run *u) {
    return u->o->url_count > 0 ? u->o->url_count : 1;
}

static const char *url_of(const struct run *u, uint32_t i) {
    return u->o->url_count > 0 ? u->o->urls[i % u->o->url_count] : u->url;
}

/* "1000 blocks of 64KiB for 2 clients need 1.2 GiB" */
static char *need_text(const struct yk_replay_opts *o, uint64_t need, char *buf, size_t cap) {
    char want[YK_FMT_MAX], block[YK_FMT_MAX];
    const char *s = o->clients == 1 ? "" : "s";
    yk_fmt_bytes_exact(o->block_bytes, block);
    yk_fmt_bytes(need, want);
    if (o->capacity_blocks != 0)
        snprintf(buf, cap, "%llu blocks of %s for %u client%s need %s",
                 (unsigned long long)o->capacity_blocks, block, o->clients, s, want);
    else
        snprintf(buf, cap, "a node for blocks of %s and %u client%s needs %s", block, o->clients, s,
                 want);
    return buf;
}

int yk_replay_dram(const struct yk_replay_opts *o, uint64_t *ret_bytes, struct yk_err *err) {
    char have[YK_FMT_MAX], found[YK_FMT_MAX], text[160];
    uint64_t need =
        yk_own_dram_bytes(o->capacity_blocks, o->block_bytes, o->clients, RESERVE_PERCENT);
    if (o->ssd_capacity_blocks > 0)
        need += yk_own_ahead_bytes(need);
    if (o->dram_bytes != 0 && o->dram_bytes < need)
        return yk_err_set(err, -YK_EINVAL, "--dram: %s of memory is too little: %s",
                          yk_fmt_bytes(o->dram_bytes, have), need_text(o, need, text, sizeof(text)));
    uint64_t bytes = o->dram_bytes != 0 ? o->dram_bytes : need, room = yk_own_room();
    if (room != 0 && bytes > room && o->dram_bytes == 0)
        return yk_err_set(err, -YK_ENOSPC, "--capacity: %s, expected at most the %s that are free here",
                          need_text(o, need, text, sizeof(text)), yk_fmt_bytes(room, have));
    if (room != 0 && bytes > room)
        return yk_err_set(err, -YK_ENOSPC,
                          "--dram: found %s, expected at most the %s that are free here",
                          yk_fmt_bytes_exact(bytes, found), yk_fmt_bytes(room, have));
    *ret_bytes = bytes;
    return 0;
}

uint64_t yk_replay_ssd_bytes(const struct yk_replay_opts *o, uint64_t *ret_segment_bytes) {
    return o->ssd_capacity_blocks == 0
               ? 0
               : yk_own_ssd_bytes(o->ssd_capacity_blocks, o->block_bytes, o->exact,
                                  ret_segment_bytes);
}

/* For all blocks that fit, and for those on their way in (held ahead by clients) or out. */
static uint32_t descriptors(const struct yk_replay_opts *o, uint64_t dram_bytes) {
    uint64_t block = o->block_bytes < 64 ? 64 : o->block_bytes;
    uint64_t n = o->capacity_blocks != 0 ? o->capacity_blocks : dram_bytes / block;
    n += o->clients * 2048u + 4096u;
    return n < DESCRIPTORS_MAX ? (uint32_t)n : DESCRIPTORS_MAX;
}

static int start_node(struct run *u) {
    const struct yk_replay_opts *o = u->o;
    struct yk_own_opts oo = {.capacity_blocks = o->capacity_blocks,
                             .max_clients = o->clients + 8u,
                             .reserve_percent = RESERVE_PERCENT,
                             .policy = o->policy,
                             .replays = 1,
                             .populate = 1,
                             .ssd_capacity_blocks = o->ssd_capacity_blocks,
                             .ahead = o->ahead,
                             .ssd_dir = o->ssd_dir};
    int rc = yk_replay_dram(o, &oo.dram_bytes, u->err);
    if (rc < 0)
        return rc;
    oo.max_blocks = descriptors(o, oo.dram_bytes);
    oo.ssd_bytes = yk_replay_ssd_bytes(o, &oo.ssd_segment_bytes);
    u->r->dram_bytes = oo.dram_bytes;
    rc = yk_own_start(&oo, &u->own, u->err);
    u->url = u->own.url;
    return rc;
}

static uint64_t number(const json_t *root, const char *name) {
    return (uint64_t)json_integer_value(json_object_get(root, name));
}

static void add_ssd_counts(const json_t *root, struct yk_replay_ssd_counts *ret) {
    const json_t *ssd = json_object_get(root, "ssd");
    if (!json_is_object(ssd))
        return;
    ret->known = true;
    ret->hits += number(root, "ssd_hits");
    ret->hit_bytes += number(root, "ssd_hit_bytes");
    ret->demoted += number(root, "demoted");
    ret->demoted_bytes += number(root, "demoted_bytes");
    ret->raised += number(root, "raised");
    ret->raised_bytes += number(root, "raised_bytes");
    ret->failed += number(root, "demote_failed") + number(root, "raise_failed");
    ret->ahead_moved += number(root, "prefetch_ahead_moved");
    ret->ahead_used += number(root, "prefetch_ahead_used");
    ret->put_bytes += number(ssd, "put_bytes");
    ret->written_bytes += number(ssd, "written_bytes");
    ret->blocks += number(ssd, "blocks");
    ret->capacity_bytes += number(ssd, "capacity_bytes");
}

static void add_node_counts(const json_t *root, struct yk_replay_node_counts *ret) {
    ret->known = true;
    ret->evictions +=
        number(root, "evict_capacity") + number(root, "evict_space") + number(root, "evict_quota");
    ret->evict_space += number(root, "evict_space");
    ret->evicted_bytes += number(root, "evicted_bytes");
    ret->commits += number(root, "commits");
    ret->duplicates += number(root, "duplicates");
    ret->events_lost += number(root, "events_lost");
    ret->blocks += number(root, "blocks");
    ret->capacity_bytes += number(root, "capacity_bytes");
}

static void member_counts(const json_t *root, struct yk_replay_member *ret) {
    const json_t *cluster = json_object_get(root, "cluster");
    *ret = (struct yk_replay_member){.known = json_is_object(cluster),
                                     .commits = number(root, "commits"),
                                     .hits = number(root, "local_hits") + number(root, "node_hits"),
                                     .pulled = number(cluster, "pulled"),
                                     .pulled_bytes = number(cluster, "pulled_bytes"),
                                     .lent = number(cluster, "lent"),
                                     .frame_bytes = number(cluster, "bytes_in") + number(cluster, "bytes_out"),
                                     .blocks = number(root, "blocks")};
}

/* The sum over all nodes, and what each of several says. */
static void node_counts(struct run *u, struct yk_replay_node_counts *ret,
                        struct yk_replay_ssd_counts *ret_ssd, struct yk_replay_member *ret_members) {
    memset(ret, 0, sizeof(*ret));
    memset(ret_ssd, 0, sizeof(*ret_ssd));
    for (uint32_t i = 0; i < nodes_of(u); i++) {
        char *text = NULL;
        if (u->watch[i] == NULL || yk_stats_json(u->watch[i], &text) < 0)
            continue;
        json_t *root = json_loads(text, 0, NULL);
        free(text);
        if (root == NULL)
            continue;
        add_node_counts(root, ret);
        add_ssd_counts(root, ret_ssd);
        if (u->o->url_count > 0)
            member_counts(root, &ret_members[i]);
        json_decref(root);
    }
}

static void members_end(struct run *u) {
    for (uint32_t i = 0; i < u->o->url_count; i++) {
        struct yk_replay_member *n = &u->r->member[i];
        const struct yk_replay_member *was = &u->member_before[i];
        n->known = n->known && was->known;
        n->commits -= was->commits;
        n->hits -= was->hits;
        n->pulled -= was->pulled;
        n->pulled_bytes -= was->pulled_bytes;
        n->lent -= was->lent;
        n->frame_bytes -= was->frame_bytes;
    }
}

static void node_counts_end(struct run *u) {
    if (u->o->url_count > 0)
        poll(NULL, 0, FIGURES_MS);
    struct yk_replay_node_counts *n = &u->r->node;
    struct yk_replay_ssd_counts *ssd = &u->r->ssd;
    const struct yk_replay_ssd_counts *was = &u->ssd_before;
    node_counts(u, n, ssd, u->r->member);
    members_end(u);
    ssd->hits -= was->hits;
    ssd->hit_bytes -= was->hit_bytes;
    ssd->demoted -= was->demoted;
    ssd->demoted_bytes -= was->demoted_bytes;
    ssd->raised -= was->raised;
    ssd->raised_bytes -= was->raised_bytes;
    ssd->failed -= was->failed;
    ssd->ahead_moved -= was->ahead_moved;
    ssd->ahead_used -= was->ahead_used;
    ssd->put_bytes -= was->put_bytes;
    ssd->written_bytes -= was->written_bytes;
    n->evictions -= u->before.evictions;
    n->evict_space -= u->before.evict_space;
    n->evicted_bytes -= u->before.evicted_bytes;
    n->commits -= u->before.commits;
    n->duplicates -= u->before.duplicates;
    n->events_lost -= u->before.events_lost;
}

/* The parent's handles; they come after the last fork. */
static int open_watch(struct run *u) {
    yk_open_opts oo = {.size = sizeof(oo),
                       .flags = YK_OPEN_NO_MAP | YK_OPEN_NO_XFER,
                       .name_space = u->o->name_space != NULL ? u->o->name_space : "replay"};
    int rc = 0;
    for (uint32_t i = 0; i < nodes_of(u) && rc == 0; i++)
        rc = yk_open(url_of(u, i), &oo, &u->watch[i]);
    return rc < 0 ? yk_err_set(u->err, rc, "%s", yk_error_text(NULL)) : 0;
}

/* ---- clients -------------------------------------------------------------------------------- */

static void client_main(struct run *u, uint32_t i, pid_t parent, const sigset_t *signals) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    /* The parent alone is interrupted; it stops us. */
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    sigprocmask(SIG_UNBLOCK, signals, NULL);
    yk_own_forget(&u->own);
    worker_run(u->o, url_of(u, i), u->trace, u->share, &u->share->clients[i]);
    _exit(0);
}

static int fork_clients(struct run *u, const sigset_t *signals) {
    pid_t parent = getpid();
    for (uint32_t i = 0; i < u->o->clients; i++) {
        u->pids[i] = fork();
        if (u->pids[i] == 0)
            client_main(u, i, parent, signals);
        if (u->pids[i] < 0) {
            u->pids[i] = 0;
            return yk_err_set(u->err, -YK_EIO, "fork: %s", strerror(errno));
        }
        u->alive++;
    }
    return 0;
}

static enum worker_state state_of(const struct run *u, uint32_t i) {
    return (enum worker_state)__atomic_load_n(&u->share->clients[i].state, __ATOMIC_ACQUIRE);
}

static void stop_clients(struct run *u) {
    if (u->stop_ns == 0)
        u->stop_ns = yk_now_ns();
    __atomic_store_n(&u->share->stop, 1, __ATOMIC_RELAXED);
    worker_open_gate(u->share);
}

/* Takes the first failure as the result, and ends the others. */
static void client_failed(struct run *u, int status, const char *text) {
    if (u->status == 0)
        u->status = yk_err_set(u->err, status, "%s", text);
    stop_clients(u);
}

static void client_gone(struct run *u, uint32_t i, int wstatus) {
    char text[80];
    u->pids[i] = 0;
    u->alive--;
    if (state_of(u, i) == WORKER_FAILED) {
        const struct yk_err *e = &u->share->clients[i].err;
        client_failed(u, e->code, e->text);
    } else if (state_of(u, i) != WORKER_DONE) {
        if (WIFSIGNALED(wstatus))
            snprintf(text, sizeof(text), "client %u was ended by signal %d", i, WTERMSIG(wstatus));
        else
            snprintf(text, sizeof(text), "client %u ended in the middle", i);
        client_failed(u, -YK_EINTERNAL, text);
    }
}

static void reap_clients(struct run *u) {
    int wstatus;
    for (uint32_t i = 0; i < u->o->clients; i++)
        if (u->pids[i] != 0 && waitpid(u->pids[i], &wstatus, WNOHANG) == u->pids[i])
            client_gone(u, i, wstatus);
}

static void kill_clients(struct run *u) {
    for (uint32_t i = 0; i < u->o->clients; i++) {
        if (u->pids[i] == 0)
            continue;
        kill(u->pids[i], SIGKILL);
        while (waitpid(u->pids[i], NULL, 0) < 0 && errno == EINTR)
            continue;
        u->pids[i] = 0;
        u->alive--;
    }
}

/* ---- waiting -------------------------------------------------------------------------------- */

/* One turn: a signal, or the time is over. */
static void turn(struct run *u, const sigset_t *signals, uint32_t ms) {
    const struct timespec ts = {ms / 1000u, (long)(ms % 1000u) * 1000000L};
    int sig = sigtimedwait(signals, NULL, &ts);
    if (sig == SIGINT || sig == SIGTERM || sig == SIGHUP) {
        u->r->interrupted = true;
        stop_clients(u);
    }
    reap_clients(u);
    if (u->own.kept.pid != 0 && sig == SIGCHLD && waitpid(u->own.kept.pid, NULL, WNOHANG) == u->own.kept.pid) {
        u->own.kept.pid = 0;
        client_failed(u, -YK_EGONE, "the node's process ended in the middle");
    }
    if (u->stop_ns != 0 && yk_now_ns() - u->stop_ns > STOP_GRACE_NS)
        kill_clients(u); /* one hangs in a call */
}

static int all_ready(const struct run *u) {
    for (uint32_t i = 0; i < u->o->clients; i++)
        if (state_of(u, i) == WORKER_STARTING)
            return 0;
    return 1;
}

static void add_counts(struct yk_replay_counts *to, const struct yk_replay_counts *from) {
    const uint64_t *f = (const uint64_t *)(const void *)from;
    uint64_t *t = (uint64_t *)(void *)to;
    uint64_t late = to->late_ns_max > from->late_ns_max ? to->late_ns_max : from->late_ns_max;
    for (size_t i = 0; i < sizeof(*to) / sizeof(uint64_t); i++)
        t[i] += __atomic_load_n(&f[i], __ATOMIC_RELAXED);
    to->late_ns_max = late;
}

static void counts(const struct run *u, struct yk_replay_counts *ret) {
    memset(ret, 0, sizeof(*ret));
    for (uint32_t i = 0; i < u->o->clients; i++)
        add_counts(ret, &u->share->clients[i].n);
}

static void show(struct run *u) {
    struct yk_replay_counts n;
    counts(u, &n);
    struct yk_replay_progress p = {.elapsed_s = (double)(yk_now_ns() - u->start_ns) / 1e9,
                                   .requests = n.requests,
                                   .requests_all = u->trace->req_count,
                                   .blocks = n.blocks,
                                   .hits = n.hits,
                                   .put_bytes = n.put_bytes,
                                   .get_bytes = n.get_bytes};
    u->o->progress(u->o->progress_arg, &p);
}

static void wait_end(struct run *u, const sigset_t *signals) {
    uint32_t ms = u->o->progress_ms != 0 ? u->o->progress_ms : PROGRESS_DEFAULT_MS;
    uint64_t shown = u->start_ns;
    while (u->alive > 0) {
        turn(u, signals, ms);
        uint64_t now = yk_now_ns();
        if (u->o->progress != NULL && u->alive > 0 && now - shown >= ms * YK_NS_PER_MS) {
            show(u);
            shown = now;
        }
    }
}

/* ---- the whole ------------------------------------------------------------------------------ */

static int make_share(struct run *u) {
    u->share_bytes = sizeof(struct share) + u->o->clients * sizeof(struct worker_share) + 128;
    void *p = mmap(NULL, u->share_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    u->pids = calloc(u->o->clients, sizeof(*u->pids));
    if (p == MAP_FAILED || u->pids == NULL) {
        free(u->pids);
        if (p != MAP_FAILED)
            munmap(p, u->share_bytes);
        return yk_err_set(u->err, -YK_ENOMEM, "out of memory");
    }
    u->share = p;
    u->share->client_count = u->o->clients;
    return 0;
}

static int begin(struct run *u, const sigset_t *signals) {
    int rc = own_node(u->o) ? start_node(u) : 0;
    if (rc == 0)
        rc = fork_clients(u, signals);
    if (rc == 0)
        rc = open_watch(u);
    while (rc == 0 && u->status == 0 && u->stop_ns == 0 && !all_ready(u))
        turn(u, signals, 2);
    yk_own_hide(&u->own); /* all are connected, or it is over */
    return rc < 0 ? rc : u->status;
}

static void add_up(struct run *u) {
    counts(u, &u->r->n);
    for (uint32_t i = 0; i < u->o->clients; i++) {
        yk_hist_merge(&u->r->put, &u->share->clients[i].put);
        yk_hist_merge(&u->r->get, &u->share->clients[i].get);
        yk_hist_merge(&u->r->match, &u->share->clients[i].match);
    }
}

static int run(struct run *u, const sigset_t *signals) {
    int rc = make_share(u);
    if (rc < 0)
        return rc;
    rc = begin(u, signals);
    if (rc == 0) {
        node_counts(u, &u->before, &u->ssd_before, u->member_before);
        u->start_ns = yk_now_ns();
        __atomic_store_n(&u->share->go_ns, u->start_ns, __ATOMIC_RELEASE);
        worker_open_gate(u->share);
        wait_end(u, signals);
        u->r->elapsed_s = (double)(yk_now_ns() - u->start_ns) / 1e9;
        node_counts_end(u);
        rc = u->status;
    }
    kill_clients(u);
    add_up(u);
    if (own_node(u->o) && u->o->ssd_capacity_blocks > 0)
        yk_replay_alone(u->o, u->trace, u->r->n.requests, &u->r->alone);
    for (uint32_t i = 0; i < nodes_of(u); i++)
        yk_close(u->watch[i]);
    yk_own_stop(&u->own, &u->r->node_cpu_s);
    free(u->pids);
    munmap(u->share, u->share_bytes);
    return rc;
}

int yk_replay_run(const struct yk_replay_opts *opts, const struct yk_replay_trace *trace,
                  struct yk_replay_result *ret_result, struct yk_err *err) {
    struct run u = {.o = opts, .trace = trace, .r = ret_result, .err = err, .url = opts->url};
    sigset_t signals, old;
    memset(ret_result, 0, sizeof(*ret_result));
    if (opts->clients == 0 || opts->clients > YK_REPLAY_CLIENTS_MAX || opts->inflight == 0 ||
        opts->inflight > YK_REPLAY_INFLIGHT_MAX || opts->block_bytes == 0 ||
        opts->block_bytes > YK_BLOCK_MAX || opts->url_count > YK_REPLAY_URLS_MAX)
        return yk_err_set(err, -YK_EINVAL,
                          "clients %u, puts under way %u, block %llu: out of range", opts->clients,
                          opts->inflight, (unsigned long long)opts->block_bytes);
    u.own.kept.life_fd = -1;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGHUP);
    sigaddset(&signals, SIGCHLD);
    sigprocmask(SIG_BLOCK, &signals, &old);
    int rc = run(&u, &signals);
    sigprocmask(SIG_SETMASK, &old, NULL);
    return rc;
}
