/* SPDX-License-Identifier: Apache-2.0
 *
 * One client process of a replay: takes requests, matches, gets and checks, puts.
 *
 * Latencies are those of the calls alone; making and checking payload is outside of them. A put
 * that is pipelined is measured from its submission to the poll that returned it.
 *
 * Threads: one.
 */
#include "replay/worker_priv.h"

#include "base/clock.h"
#include "replay/own.h"
#include "replay/payload.h"

#include <yolk/yolk.h>

#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define KEY_BYTES      16u       /* an id in hex: readable in `yolk ls`, and one granule of a key */
#define TOUCH_BATCH    1024u     /* of YK_BATCH_MAX */
#define SAMPLE_STRIDE  16u       /* with `sample`: one cache line of so many is checked */
#define TIMEOUT_MS     30000u    /* of a call: longer than any wait for space should be */
#define SLEEP_SLICE_NS 50000000u /* between two looks at `stop` */
#define ADD(w, field, v)                                                                           \
    __atomic_store_n(&(w)->own->n.field, (w)->own->n.field + (uint64_t)(v), __ATOMIC_RELAXED)

/* A put under way, or free. */
struct put {
    yk_op op;
    yk_put_opts opts;
    struct iovec iov;
    uint64_t start_ns;
    struct put *next; /* free list */
};

struct worker {
    const struct yk_replay_opts *o;
    const struct yk_replay_trace *trace;
    struct share *share;
    struct worker_share *own;
    yk_client *client;
    /* of the request */
    const struct yk_replay_req *req;
    const uint64_t *ids;
    uint32_t hits;
    yk_key *keys;
    char *key_bytes;
    size_t key_cap;
    unsigned char *got; /* a block */
    struct put puts[YK_REPLAY_INFLIGHT_MAX];
    struct put *put_free;
    uint32_t put_busy;
    yk_op *touches;
    struct yk_err *err;
};

static int stopped(const struct worker *w) {
    return __atomic_load_n(&w->share->stop, __ATOMIC_RELAXED) != 0;
}

static int fail_call(struct worker *w, int rc, const char *what) {
    return yk_err_set(w->err, rc, "request %" PRIu64 ": %s: %s",
                      (uint64_t)(w->req - w->trace->reqs) + 1, what, yk_error_text(w->client));
}

/* ---- keys ----------------------------------------------------------------------------------- */

static void key_write(char *to, uint64_t id) {
    static const char digits[] = "0123456789abcdef";
    for (unsigned i = KEY_BYTES; i-- > 0; id >>= 4)
        to[i] = digits[id & 15u];
}

static int keys_make(struct worker *w) {
    size_t n = w->req->n;
    if (n > w->key_cap) {
        free(w->keys);
        free(w->key_bytes);
        w->key_cap = 2 * n;
        w->keys = malloc(w->key_cap * sizeof(*w->keys));
        w->key_bytes = malloc(w->key_cap * KEY_BYTES);
        if (w->keys == NULL || w->key_bytes == NULL)
            return yk_err_set(w->err, -YK_ENOMEM, "out of memory for %zu keys", n);
    }
    for (size_t i = 0; i < n; i++) {
        key_write(w->key_bytes + i * KEY_BYTES, w->ids[i]);
        w->keys[i] = (yk_key){w->key_bytes + i * KEY_BYTES, KEY_BYTES};
    }
    return 0;
}

/* ---- get ------------------------------------------------------------------------------------ */

static int wrong(struct worker *w, uint32_t i, size_t bytes, size_t first) {
    uint64_t id = w->ids[i];
    ADD(w, wrong_bytes, bytes);
    return yk_err_set(w->err, -YK_ECORRUPT,
                      "request %" PRIu64 ", block %u (id %" PRIu64 ", key %.*s): %zu of %" PRIu64
                      " bytes are wrong, the first at offset %zu (0x%02x)",
                      (uint64_t)(w->req - w->trace->reqs) + 1, i, id, (int)KEY_BYTES,
                      (const char *)w->keys[i].data, bytes, w->o->block_bytes, first,
                      w->got[first]);
}

static int check(struct worker *w, uint32_t i) {
    size_t len = w->o->block_bytes, first = 0;
    uint64_t seed = yk_payload_seed(w->ids[i]);
    size_t bytes = w->o->sample ? yk_payload_check_sample(w->got, len, seed, SAMPLE_STRIDE, &first)
                                : yk_payload_check(w->got, len, seed, &first);
    ADD(w, checked_bytes, w->o->sample ? len / SAMPLE_STRIDE : len);
    return bytes > 0 ? wrong(w, i, bytes, first) : 0;
}

/* 0 right bytes, YK_MISS, or failure. */
static int get_one(struct worker *w, uint32_t i) {
    size_t len = 0;
    uint64_t start = yk_now_ns();
    int rc = yk_get(w->client, w->keys[i], w->got, w->o->block_bytes, &len);
    uint64_t ns = yk_now_ns() - start;
    ADD(w, call_ns, ns);
    if (rc == YK_MISS)
        return rc;
    if (rc == -YK_ETOOBIG || (rc == 0 && len != w->o->block_bytes))
        return yk_err_set(w->err, -YK_ECONFLICT,
                          "the node has blocks of %zu bytes under these keys, not of %" PRIu64
                          ": use another --namespace",
                          len, w->o->block_bytes);
    if (rc < 0)
        return fail_call(w, rc, "get");
    yk_hist_record(&w->own->get, ns);
    ADD(w, gets, 1);
    ADD(w, get_bytes, len);
    return check(w, i);
}

/* Gets the leading run. A block that is gone by now cuts it. */
static int get_hits(struct worker *w) {
    uint32_t matched = w->hits;
    for (uint32_t k = 0; k < matched && !stopped(w); k++) {
        uint32_t i = w->o->order == YK_REPLAY_TAIL_FIRST ? matched - 1 - k : k;
        int rc = get_one(w, i);
        if (rc < 0)
            return rc;
        if (rc == YK_MISS && i < w->hits)
            w->hits = i;
        if (rc == YK_MISS && w->o->order == YK_REPLAY_HEAD_FIRST)
            break;
    }
    ADD(w, vanished, matched - w->hits);
    return 0;
}

/* ---- put ------------------------------------------------------------------------------------ */

static int put_ended(struct worker *w, int status) {
    if (status == 0) {
        ADD(w, puts, 1);
        ADD(w, put_bytes, w->o->block_bytes);
        return 0;
    }
    if (status == -YK_ENOSPC || status == -YK_ETIMEDOUT) {
        ADD(w, refused, 1);
        return 0;
    }
    if (status == -YK_ECONFLICT)
        return yk_err_set(w->err, status,
                          "the node has other bytes under these keys: use another --namespace");
    return fail_call(w, status, "put");
}

static void put_prepare(struct worker *w, struct put *p, uint32_t i) {
    yk_payload_fill(p->iov.iov_base, p->iov.iov_len, yk_payload_seed(w->ids[i]));
    memset(&p->opts, 0, sizeof(p->opts));
    p->opts.size = sizeof(p->opts);
    if (i > 0)
        p->opts.parent = w->keys[i - 1];
    p->opts.session = w->req->session;
    p->opts.depth_tokens = i * w->o->block_tokens;
    p->opts.length_tokens = w->o->block_tokens;
}

static int put_now(struct worker *w, uint32_t i) {
    struct put *p = &w->puts[0];
    put_prepare(w, p, i);
    uint64_t start = yk_now_ns();
    int rc = yk_put(w->client, w->keys[i], p->iov.iov_base, p->iov.iov_len, &p->opts);
    uint64_t ns = yk_now_ns() - start;
    ADD(w, call_ns, ns);
    if (rc == 0)
        yk_hist_record(&w->own->put, ns);
    return put_ended(w, rc);
}

/* Waits until at most `left` puts are under way. */
static int put_poll(struct worker *w, uint32_t left) {
    yk_op *ended[YK_REPLAY_INFLIGHT_MAX];
    int result = 0;
    while (w->put_busy > left) {
        uint64_t start = yk_now_ns();
        int n = yk_poll(w->client, ended, YK_REPLAY_INFLIGHT_MAX, TIMEOUT_MS);
        uint64_t now = yk_now_ns();
        ADD(w, call_ns, now - start);
        if (n < 0)
            return fail_call(w, n, "poll");
        for (int i = 0; i < n; i++) {
            struct put *p = ended[i]->user;
            if (ended[i]->status == 0)
                yk_hist_record(&w->own->put, now - p->start_ns);
            int rc = put_ended(w, ended[i]->status);
            result = result < 0 ? result : rc;
            p->next = w->put_free;
            w->put_free = p;
            w->put_busy--;
        }
    }
    return result;
}

static int put_start(struct worker *w, uint32_t i) {
    int rc = w->put_free == NULL ? put_poll(w, w->o->inflight - 1) : 0;
    if (rc < 0)
        return rc;
    struct put *p = w->put_free;
    w->put_free = p->next;
    put_prepare(w, p, i);
    p->op = (yk_op){.opcode = YK_OP_PUT,
                    .key = w->keys[i],
                    .iov = &p->iov,
                    .iov_count = 1,
                    .put = &p->opts,
                    .user = p};
    p->start_ns = yk_now_ns();
    rc = yk_submit(w->client, &p->op, 1, 0);
    ADD(w, call_ns, yk_now_ns() - p->start_ns);
    if (rc < 0) {
        p->next = w->put_free;
        w->put_free = p;
        return fail_call(w, rc, "submit");
    }
    w->put_busy++;
    return 0;
}

static int put_one(struct worker *w, uint32_t i) {
    return w->o->inflight > 1 ? put_start(w, i) : put_now(w, i);
}

/* What the run does not cover, in the order. */
static int put_missing(struct worker *w) {
    uint32_t n = w->req->n - w->hits;
    int rc = 0;
    for (uint32_t k = 0; k < n && rc == 0 && !stopped(w); k++)
        rc = put_one(w, w->o->order == YK_REPLAY_TAIL_FIRST ? w->req->n - 1 - k : w->hits + k);
    /* Keys are the next request's soon. */
    int ended = put_poll(w, 0);
    return rc < 0 ? rc : ended;
}

/* ---- touch ---------------------------------------------------------------------------------- */

/* Touches hits [from, from + n), last first; what is gone is put again. */
static int touch_some(struct worker *w, uint32_t from, uint32_t n) {
    for (uint32_t k = 0; k < n; k++)
        w->touches[k] = (yk_op){.opcode = YK_OP_TOUCH, .key = w->keys[from + n - 1 - k]};
    uint64_t start = yk_now_ns();
    int rc = yk_run(w->client, w->touches, n, TIMEOUT_MS);
    ADD(w, call_ns, yk_now_ns() - start);
    if (rc < 0)
        return fail_call(w, rc, "touch");
    for (uint32_t k = 0; k < n; k++) {
        rc = w->touches[k].status;
        if (rc == YK_MISS)
            rc = put_now(w, from + n - 1 - k);
        if (rc < 0)
            return fail_call(w, rc, "touch");
    }
    return 0;
}

/* In a cache that does not hold the request beside itself each touch may find its block evicted by
 * the put before it: so they go one by one there. */
static int touch_hits(struct worker *w) {
    uint64_t cap = w->o->capacity_blocks;
    uint32_t lot = cap != 0 && w->req->n >= cap ? 1 : TOUCH_BATCH;
    int rc = 0;
    for (uint32_t left = w->hits; left > 0 && rc == 0 && !stopped(w);) {
        uint32_t n = left < lot ? left : lot;
        left -= n;
        rc = touch_some(w, left, n);
    }
    return rc;
}

/* ---- exact order over two tiers ------------------------------------------------------------------ */

/* Gets the hits in the order; what is gone by now is put again. */
static int use_hits(struct worker *w) {
    for (uint32_t k = 0; k < w->hits && !stopped(w); k++) {
        uint32_t i = w->o->order == YK_REPLAY_TAIL_FIRST ? w->hits - 1 - k : k;
        int rc = get_one(w, i);
        if (rc == YK_MISS) {
            ADD(w, vanished, 1);
            rc = put_now(w, i);
        }
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* 1: nothing is on its way to SSD, or up from it. */
static int settled(struct worker *w) {
    char *text = NULL;
    int rc = yk_stats_json(w->client, &text);
    if (rc < 0)
        return fail_call(w, rc, "statistics");
    json_t *root = json_loads(text, 0, NULL);
    rc = json_integer_value(json_object_get(root, "leaving_blocks")) == 0 &&
         json_integer_value(json_object_get(root, "raising")) == 0 &&
         json_integer_value(json_object_get(root, "prefetch_ahead_waiting")) == 0;
    json_decref(root);
    free(text);
    return rc;
}

/* Without it blocks that wait for their turn to be written are in the pool beyond what SSD may hold. */
static int settle(struct worker *w) {
    const struct timespec pause = {0, 200000};
    int rc;
    while ((rc = settled(w)) == 0 && !stopped(w))
        nanosleep(&pause, NULL);
    return rc < 0 ? rc : 0;
}

static int use_exactly(struct worker *w) {
    int tail_first = w->o->order == YK_REPLAY_TAIL_FIRST;
    int rc = tail_first ? put_missing(w) : use_hits(w);
    if (rc == 0)
        rc = tail_first ? use_hits(w) : put_missing(w);
    return rc == 0 ? settle(w) : rc;
}

/* ---- requests ------------------------------------------------------------------------------- */

static void count_request(struct worker *w) {
    uint64_t saved = (uint64_t)w->hits * w->o->block_tokens;
    ADD(w, requests, 1);
    ADD(w, blocks, w->req->n);
    ADD(w, hits, w->hits);
    ADD(w, tokens, w->req->input_length);
    ADD(w, tokens_saved, saved < w->req->input_length ? saved : w->req->input_length);
}

/* A node of one's own goes by the times of the trace (own.c); others by their own, whatever is said here. */
static int announce(struct worker *w) {
    yk_request q = {.size = sizeof(q),
                    .output_length = w->req->output_length,
                    .stop = w->req->stop,
                    .last_eighths = yk_trace_last_eighths(w->req->n, w->req->input_length, w->o->block_tokens),
                    .at_ms = w->req->at_ms + 1};
    uint64_t start = yk_now_ns();
    int rc = yk_announce(w->client, w->keys, w->req->n, &q);
    ADD(w, call_ns, yk_now_ns() - start);
    return rc < 0 ? fail_call(w, rc, "announce") : 0;
}

#define TICK_MS   1000u
#define TICKS_MAX 60u /* as the simulator has it */

static int tell_time(struct worker *w, uint64_t at_ms) {
    yk_request q = {.size = sizeof(q), .at_ms = at_ms + 1};
    int rc = yk_announce(w->client, NULL, 0, &q);
    return rc < 0 ? fail_call(w, rc, "announce") : settle(w);
}

/* The seconds between the request before and this one pass. */
static int pass_time(struct worker *w, uint64_t index) {
    uint64_t from = index > 0 ? w->trace->reqs[index - 1].at_ms / TICK_MS : 0, until = w->trace->reqs[index].at_ms;
    int rc = 0;
    w->req = &w->trace->reqs[index];
    for (uint64_t i = 1; index > 0 && i <= TICKS_MAX && (from + i) * TICK_MS < until && rc == 0 && !stopped(w); i++)
        rc = tell_time(w, (from + i) * TICK_MS);
    return rc;
}

static int request(struct worker *w, uint64_t index) {
    w->req = &w->trace->reqs[index];
    w->ids = w->trace->ids + w->req->first;
    int rc = keys_make(w);
    if (rc == 0)
        rc = announce(w);
    if (rc < 0)
        return rc;
    uint64_t start = yk_now_ns();
    rc = yk_match(w->client, w->keys, w->req->n, NULL);
    uint64_t ns = yk_now_ns() - start;
    if (rc < 0)
        return fail_call(w, rc, "match");
    yk_hist_record(&w->own->match, ns);
    ADD(w, call_ns, ns);
    w->hits = (uint32_t)rc;
    if (w->o->exact) {
        rc = use_exactly(w);
        if (rc == 0 && !stopped(w))
            count_request(w);
        return rc;
    }
    rc = get_hits(w);
    if (rc == 0)
        rc = put_missing(w);
    /* With nothing put, the gets alone were the accesses (as far as the ring holds them). */
    if (rc == 0 && w->o->order == YK_REPLAY_TAIL_FIRST &&
        (w->hits < w->req->n || w->hits > TOUCH_BATCH))
        rc = touch_hits(w);
    if (rc == 0 && !stopped(w))
        count_request(w);
    return rc;
}

/* Sleeps until the request's time has come; notes how late it is otherwise. */
static void pace(struct worker *w, uint64_t index) {
    if (w->o->speed <= 0)
        return;
    uint64_t at_ms = w->trace->reqs[index].at_ms - w->trace->reqs[0].at_ms;
    uint64_t due = w->share->go_ns + (uint64_t)((double)at_ms * 1e6 / w->o->speed);
    for (uint64_t now; (now = yk_now_ns()) < due && !stopped(w);) {
        uint64_t ns = due - now < SLEEP_SLICE_NS ? due - now : SLEEP_SLICE_NS;
        struct timespec ts = {(time_t)(ns / YK_NS_PER_S), (long)(ns % YK_NS_PER_S)};
        nanosleep(&ts, NULL);
    }
    uint64_t late = yk_now_ns() - due;
    if (late > w->own->n.late_ns_max)
        w->own->n.late_ns_max = late;
}

static int work(struct worker *w) {
    int rc = 0;
    while (rc == 0 && !stopped(w)) {
        uint64_t i = __atomic_fetch_add(&w->share->next, 1, __ATOMIC_RELAXED);
        if (i >= w->trace->req_count)
            break;
        pace(w, i);
        if (w->o->exact && w->o->ahead)
            rc = pass_time(w, i);
        if (rc == 0 && !stopped(w))
            rc = request(w, i);
    }
    return rc;
}

/* ---- begin, end ----------------------------------------------------------------------------- */

static int buffers(struct worker *w) {
    size_t len = (w->o->block_bytes + 4095u) & ~(size_t)4095u;
    w->got = aligned_alloc(4096, len);
    w->touches = malloc(TOUCH_BATCH * sizeof(*w->touches));
    if (w->got == NULL || w->touches == NULL)
        return yk_err_set(w->err, -YK_ENOMEM, "out of memory");
    for (uint32_t i = w->o->inflight; i-- > 0;) {
        struct put *p = &w->puts[i];
        p->iov = (struct iovec){aligned_alloc(4096, len), w->o->block_bytes};
        if (p->iov.iov_base == NULL)
            return yk_err_set(w->err, -YK_ENOMEM, "out of memory");
        p->next = w->put_free;
        w->put_free = p;
    }
    return 0;
}

static int connect_node(struct worker *w, const char *url) {
    yk_open_opts oo = {.size = sizeof(oo),
                       .flags = (w->o->no_map || w->o->exact ? YK_OPEN_NO_MAP : 0u) |
                                (w->o->no_xfer ? YK_OPEN_NO_XFER : 0u),
                       .rails = w->o->rails,
                       .name_space = w->o->name_space != NULL ? w->o->name_space : "replay",
                       .timeout_ms = w->o->timeout_ms != 0 ? w->o->timeout_ms : TIMEOUT_MS,
                       .hold_bytes = w->o->url == NULL && w->o->url_count == 0 ? yk_own_hold_bytes(w->o->clients) : 0};
    int rc = yk_open(url, &oo, &w->client);
    return rc < 0 ? yk_err_set(w->err, rc, "%s", yk_error_text(NULL)) : 0;
}

static void set_state(struct worker_share *own, enum worker_state state) {
    __atomic_store_n(&own->state, state, __ATOMIC_RELEASE);
}

void worker_open_gate(struct share *share) {
    __atomic_store_n(&share->gate, 1, __ATOMIC_RELEASE);
    (void)syscall(SYS_futex, &share->gate, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* Until the parent says go, or stop. Its death ends us (PR_SET_PDEATHSIG). */
static void wait_go(const struct worker *w) {
    while (__atomic_load_n(&w->share->gate, __ATOMIC_ACQUIRE) == 0)
        (void)syscall(SYS_futex, &w->share->gate, FUTEX_WAIT, 0, NULL, NULL, 0);
}

static void count_cpu(struct worker *w) {
    struct rusage ru;
    getrusage(RUSAGE_SELF, &ru);
    ADD(w, cpu_ns,
        (uint64_t)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) * YK_NS_PER_S +
            (uint64_t)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) * YK_NS_PER_US);
}

static void count_xfer(struct worker *w) {
    yk_client_stats s;
    if (w->client == NULL || yk_client_stats_get(w->client, &s, sizeof(s)) < 0)
        return;
    ADD(w, xfer_bytes, s.xfer_bytes);
    ADD(w, xfer_fallbacks, s.xfer_fallbacks);
}

void worker_run(const struct yk_replay_opts *opts, const char *url,
                const struct yk_replay_trace *trace, struct share *share,
                struct worker_share *own) {
    static struct worker worker;
    struct worker *w = &worker;
    *w = (struct worker){.o = opts, .trace = trace, .share = share, .own = own, .err = &own->err};
    int rc = buffers(w);
    if (rc == 0)
        rc = connect_node(w, url);
    if (rc == 0) {
        set_state(own, WORKER_READY);
        wait_go(w);
        set_state(own, WORKER_RUNNING);
        rc = work(w);
    }
    count_cpu(w);
    count_xfer(w);
    set_state(own, rc < 0 ? WORKER_FAILED : WORKER_DONE);
    yk_close(w->client);
}
