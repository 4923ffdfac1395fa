/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening and closing a handle, and what concerns the handle as a whole.
 *
 * A fork leaves a child with a copy of the handle that shares the socket and has no mapping: it must
 * not use either. A process-wide count that the child's fork handler raises tells it apart from its
 * parent for the price of one load, where getpid would be a system call.
 *
 * Threads: any, but yk_close, which no other call may overlap.
 */
#include "client/client_priv.h"

#include "base/clock.h"
#include "client/fail.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define DEFAULT_URL        "unix:/run/yolk.sock"
#define DEFAULT_TIMEOUT_MS 5000u
#define DEFAULT_INFLIGHT   4096u
#define DEFAULT_HOLD_BYTES (16ull << 20)
#define INFLIGHT_LIMIT     (1u << 18)
#define REQS_SPARE         256u
/* What yk_close waits for the node's answer: without it the node notices when the process ends. */
#define CLOSE_MS 1000u

uint32_t yk_fork_count;

static void in_child(void) {
    __atomic_fetch_add(&yk_fork_count, 1, __ATOMIC_RELAXED);
}

static void watch_forks(void) {
    pthread_atfork(NULL, NULL, in_child);
}

static int forked(const yk_client *c) {
    return c->forks != __atomic_load_n(&yk_fork_count, __ATOMIC_RELAXED);
}

/* ---- small things ------------------------------------------------------------------------------------------ */

yk_key yk_key_str(const char *text) {
    return (yk_key){text, text != NULL ? strlen(text) : 0};
}

const char *yk_error_text(const yk_client *client) {
    (void)client;
    return yk_fail_text();
}

const char *yk_strstatus(int status) {
    return yk_status_name(status);
}

const char *yk_strerror(int status) {
    return yk_status_text(status);
}

const char *yk_version(void) {
    return YK_VERSION;
}

int yk_client_enter(const yk_client *c) {
    if (__builtin_expect(c == NULL, 0))
        return yk_fail(-YK_EINVAL, "the handle is NULL");
    if (__builtin_expect(forked(c), 0))
        return yk_fail(-YK_EFORK, "a handle that was opened before fork() is used in the child");
    return 0;
}

int yk_client_check_key(yk_key key) {
    if (__builtin_expect(key.data == NULL && key.len > 0, 0))
        return yk_fail(-YK_EKEY, "a key of %zu bytes at NULL", key.len);
    if (__builtin_expect(key.len == 0 || key.len > YK_KEY_MAX, 0))
        return yk_fail(-YK_EKEY, "a key of %zu bytes, expected 1 to %u", key.len, YK_KEY_MAX);
    return 0;
}

uint64_t yk_client_deadline(const yk_client *c, uint32_t timeout_ms) {
    return yk_now_ns() + (timeout_ms != 0 ? timeout_ms : c->timeout_ms) * YK_NS_PER_MS;
}

void yk_client_count(yk_client *c, struct yk_map *map, enum yk_client_counter what, uint64_t n) {
    if (map != NULL)
        yk_map_count(map, what, n);
    else
        __atomic_fetch_add(&c->own[what], n, __ATOMIC_RELAXED);
}

void yk_client_count_raised(yk_client *c, uint64_t bytes) {
    __atomic_fetch_add(&c->raised, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&c->raised_bytes, bytes, __ATOMIC_RELAXED);
}

/* ---- open ------------------------------------------------------------------------------------------------------ */

static int read_opts(const yk_open_opts *opts, yk_open_opts *ret) {
    memset(ret, 0, sizeof(*ret));
    int rc = opts == NULL ? 0 : yk_opts_read(opts, opts->size, ret, sizeof(*ret), "yk_open_opts");
    if (rc < 0)
        return rc;
    uint32_t known = YK_OPEN_NO_MAP | YK_OPEN_VERIFY | YK_OPEN_HANDLE_SIGBUS | YK_OPEN_NO_RECONNECT |
                     YK_OPEN_NO_XFER | YK_OPEN_LOOK;
    if (ret->flags & ~known)
        return yk_fail(-YK_EINVAL, "open flags %#x: %#x are not known", ret->flags,
                       ret->flags & ~known);
    if (ret->name_space == NULL)
        ret->name_space = "default";
    size_t len = strlen(ret->name_space);
    if (len == 0 || len > YK_NAMESPACE_MAX)
        return yk_fail(-YK_EINVAL, "the namespace's name has %zu bytes, expected 1 to %u", len,
                       YK_NAMESPACE_MAX);
    if (ret->timeout_ms == 0)
        ret->timeout_ms = DEFAULT_TIMEOUT_MS;
    if (ret->inflight_max == 0)
        ret->inflight_max = DEFAULT_INFLIGHT;
    if (ret->inflight_max > INFLIGHT_LIMIT)
        return yk_fail(-YK_EINVAL, "inflight_max is %u, at most %u", ret->inflight_max,
                       INFLIGHT_LIMIT);
    if (ret->hold_bytes == 0)
        ret->hold_bytes = DEFAULT_HOLD_BYTES;
    return 0;
}

/* Where to connect. An embedded node is started here. */
static int read_url(yk_client *c, const char *url, int *ret_fd, struct yk_err *err) {
    *ret_fd = -1;
    if (url == NULL)
        url = getenv("YOLK_URL");
    if (url == NULL || url[0] == 0)
        url = DEFAULT_URL;
    int embedded = strncmp(url, "embedded:", 9) == 0;
    int rc = embedded ? yk_embedded_start(url + 9, ret_fd, &c->node, err) : 0;
    return rc < 0 ? rc : yk_route_read(&c->route, embedded ? NULL : url, yk_client_deadline(c, 0), err);
}

static void init_lists(yk_client *c) {
    yk_list_init(&c->sleepers);
    yk_list_init(&c->calls);
    yk_list_init(&c->recs_free);
    yk_list_init(&c->async_recs);
    yk_list_init(&c->async_runnable);
    for (unsigned i = 0; i < YK_QUEUES; i++)
        yk_list_init(&c->queue[i]);
    for (unsigned i = 0; i < YK_KEY_BUCKETS; i++)
        yk_list_init(&c->keys[i]);
}

static int init_tables(yk_client *c) {
    uint32_t recs = c->inflight_max + YK_RECS_SPARE;
    c->req_count = c->inflight_max + REQS_SPARE;
    c->recs = calloc(recs, sizeof(*c->recs));
    c->reqs = calloc(c->req_count, sizeof(*c->reqs));
    c->tx.buf = malloc(YK_TX_BYTES);
    c->rx.buf = malloc(YK_RX_BYTES);
    c->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (c->recs == NULL || c->reqs == NULL || c->tx.buf == NULL || c->rx.buf == NULL)
        return -YK_ENOMEM;
    if (c->event_fd < 0)
        return -yk_status_from_errno(errno);
    c->rx.cap = YK_RX_BYTES;
    c->recs_left = recs;
    return 0;
}

static yk_client *client_new(const yk_open_opts *o) {
    yk_client *c = aligned_alloc(64, (sizeof(*c) + 63u) / 64u * 64u);
    if (c == NULL)
        return NULL;
    memset(c, 0, sizeof(*c));
    strcpy(c->name_space, o->name_space); /* its length was checked */
    c->flags = o->flags;
    c->timeout_ms = o->timeout_ms;
    c->inflight_max = o->inflight_max;
    c->epoch = o->epoch;
    c->forks = __atomic_load_n(&yk_fork_count, __ATOMIC_RELAXED);
    c->fd = c->epoll_fd = c->event_fd = c->timer_fd = -1;
    c->timer_at_ns = UINT64_MAX;
    yk_route_init(&c->route, yk_now_ns() ^ (uint64_t)(uintptr_t)c ^ (uint64_t)getpid() << 32);
    pthread_mutex_init(&c->lock, NULL);
    init_lists(c);
    yk_hold_init(&c->hold, o->hold_bytes);
    yk_far_init(&c->far);
    return c;
}

static void close_fd(int fd) {
    if (fd >= 0)
        close(fd);
}

static void free_maps(struct yk_map *m, int is_forked) {
    while (m != NULL) {
        struct yk_map *older = m->older;
        yk_map_close(m, is_forked);
        m = older;
    }
}

/* Frees all that is the process's own; sends nothing. */
static void client_free(yk_client *c, int is_forked) {
    yk_far_fini(&c->far);
    close_fd(c->fd);
    close_fd(c->epoll_fd);
    close_fd(c->timer_fd);
    close_fd(c->event_fd);
    free_maps(c->map, is_forked);
    free_maps(c->retired, is_forked);
    yk_route_fini(&c->route);
    if (!is_forked) {
        yk_embedded_stop(c->node);
        pthread_mutex_destroy(&c->lock);
    }
    free(c->tx.buf);
    free(c->rx.buf);
    free(c->recs);
    free(c->reqs);
    free(c);
}

int yk_open(const char *url, const yk_open_opts *opts, yk_client **ret_client) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    yk_open_opts o;
    struct yk_err err = {0, ""};
    int fd = -1;
    if (ret_client == NULL)
        return yk_fail(-YK_EINVAL, "yk_open: ret_client is NULL");
    int rc = read_opts(opts, &o);
    if (rc < 0)
        return rc;
    pthread_once(&once, watch_forks);
    yk_client *c = client_new(&o);
    if (c == NULL)
        return yk_fail(-YK_ENOMEM, "out of memory");
    rc = init_tables(c);
    if (rc == 0)
        rc = yk_far_rails(&c->far, o.rails, o.transports, o.rdma, &err);
    else
        yk_err_set(&err, rc, "%s", yk_status_text(rc));
    if (rc == 0)
        rc = read_url(c, url, &fd, &err);
    if (rc == 0)
        rc = yk_conn_open(c, fd, yk_client_deadline(c, 0), &err);
    if (rc < 0) {
        client_free(c, 0);
        return yk_fail_err(&err);
    }
    *ret_client = c;
    return 0;
}

/* ---- close ----------------------------------------------------------------------------------------------------- */

static int goodbye_reply(void *arg, struct yk_rd *body) {
    (void)arg;
    (void)yk_rd_u32(body);
    return yk_rd_ok(body) ? 0 : -YK_EPROTO;
}

static void cancel_all(yk_client *c) {
    pthread_mutex_lock(&c->lock);
    for (struct yk_link *l = c->async_recs.next, *next; l != &c->async_recs; l = next) {
        struct yk_rec *rec = YK_LIST_ITEM(l, struct yk_rec, owner_link);
        next = l->next;
        if (rec->io) { /* no other call is under way: the engine moves it */
            if (!rec->end_due)
                yk_rec_end(c, rec, -YK_ECANCELED);
            continue;
        }
        yk_rec_end(c, rec, -YK_ECANCELED);
        next = c->async_recs.next; /* others may have gone with it */
    }
    pthread_mutex_unlock(&c->lock);
    yk_far_fini(&c->far); /* what it moved has ended with it */
    c->flags |= YK_OPEN_NO_XFER;
}

void yk_close(yk_client *c) {
    if (c == NULL)
        return;
    if (forked(c)) {
        client_free(c, 1);
        return;
    }
    cancel_all(c);
    struct yk_call bye = {.op = YK_MSG_BYE, .reply = goodbye_reply};
    uint32_t ms = c->timeout_ms < CLOSE_MS ? c->timeout_ms : CLOSE_MS;
    (void)yk_conn_call(c, &bye, yk_client_deadline(c, ms));
    client_free(c, 0);
}

/* ---- statistics of the handle --------------------------------------------------------------------------------- */

static void count_pinned(const struct yk_map *m, yk_client_stats *io_stats) {
    uint64_t refs, bytes;
    yk_map_pinned(m, &refs, &bytes);
    io_stats->refs_held += refs;
    io_stats->ref_bytes_held += bytes;
}

int yk_client_stats_get(yk_client *c, yk_client_stats *ret_stats, size_t size) {
    yk_client_stats s;
    uint64_t n[YK_COUNTERS];
    int rc = yk_client_enter(c);
    if (rc < 0)
        return rc;
    if (ret_stats == NULL || size == 0)
        return yk_fail(-YK_EINVAL, "yk_client_stats_get with room for %zu bytes", size);
    memset(&s, 0, sizeof(s));
    pthread_mutex_lock(&c->lock);
    for (unsigned i = 0; i < YK_COUNTERS; i++) {
        n[i] = __atomic_load_n(&c->own[i], __ATOMIC_RELAXED);
        if (c->map != NULL)
            n[i] += __atomic_load_n(&c->map->page->counters[i], __ATOMIC_RELAXED) - c->map->counted[i];
    }
    if (c->map != NULL)
        count_pinned(c->map, &s);
    for (const struct yk_map *m = c->retired; m != NULL; m = m->older)
        count_pinned(m, &s);
    s.round_trips = c->round_trips;
    s.reconnects = c->reconnects;
    s.xfer_bytes = c->far.bytes;
    s.xfer_fallbacks = c->far.fallbacks;
    yk_conn_unlock(c);
    s.hits = n[YK_COUNT_HIT];
    s.misses = n[YK_COUNT_MISS];
    s.hit_bytes = n[YK_COUNT_HIT_BYTES];
    s.retries = n[YK_COUNT_RETRY];
    s.verify_failures = n[YK_COUNT_VERIFY_FAIL];
    s.puts = __atomic_load_n(&c->puts, __ATOMIC_RELAXED);
    s.put_bytes = __atomic_load_n(&c->put_bytes, __ATOMIC_RELAXED);
    s.conflicts = __atomic_load_n(&c->conflicts, __ATOMIC_RELAXED);
    s.raised = __atomic_load_n(&c->raised, __ATOMIC_RELAXED);
    s.raised_bytes = __atomic_load_n(&c->raised_bytes, __ATOMIC_RELAXED);
    yk_sized_copy(ret_stats, size, &s, sizeof(s));
    return 0;
}
