/* SPDX-License-Identifier: Apache-2.0
 *
 * Many threads on one engine: 512 that submit, callbacks, events, cancels and unregistering at once; each
 * request ends once, with exact bytes or an error.
 */
#include <yolk/transfer.h>

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define THREADS 512u
#define PIECE   16384u

static yk_xfer *a, *b;
static yk_xfer_segment segment;
static char *local, *remote;
static uint32_t wrong, ends, begun, rounds;
static uint32_t seen[THREADS * 8]; /* completions of each batch with an event */

static void begin(uint32_t shards, const char *fault) {
    char dir[] = "/tmp/yk-threads-XXXXXX";
    yk_xfer_opts o = {.size = sizeof(o), .transports = YK_XFER_MEM, .shards = shards};
    uint64_t bytes = 4ull * THREADS * PIECE;
    void *at;
    const char *slow = getenv("YOLK_SLOW");
    rounds = slow != NULL && slow[0] == '1' ? 2 : 8;
    assert_non_null(mkdtemp(dir));
    o.registry_dir = dir;
    assert_int_equal(yk_xfer_create(&o, &b), 0);
    o.fault = fault;
    assert_int_equal(yk_xfer_create(&o, &a), 0);
    assert_int_equal(yk_xfer_alloc(b, bytes, YK_XFER_REMOTE_READ | YK_XFER_REMOTE_WRITE, &at), 0);
    remote = at;
    assert_int_equal(yk_xfer_alloc(a, bytes, 0, &at), 0);
    local = at;
    assert_int_equal(yk_xfer_publish(b, "threads", remote, bytes, NULL), 0);
    assert_int_equal(yk_xfer_open(a, "threads", 0, &segment), 0);
    assert_int_equal(yk_xfer_withdraw(b, "threads"), 0);
    assert_int_equal(rmdir(dir), 0);
    wrong = ends = begun = 0;
    memset(seen, 0, sizeof(seen));
}

static void finish(void) {
    yk_xfer_destroy(a);
    yk_xfer_destroy(b);
    assert_int_equal(wrong, 0);
}

static void bad(void) {
    __atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED);
}

static void done(void *user, yk_xfer_batch batch, int status) {
    (void)user, (void)batch;
    if (status != 0)
        bad();
    __atomic_fetch_add(&ends, 1, __ATOMIC_RELEASE);
}

/* Each thread has its own piece: what it wrote it reads back. */
static void one(uint32_t id, uint32_t round) {
    char *mine = local + (uint64_t)id * PIECE;
    yk_xfer_request q = {.op = YK_XFER_WRITE,
                         .local = mine,
                         .segment = segment,
                         .offset = (uint64_t)id * PIECE,
                         .length = PIECE - id};
    yk_xfer_submit_opts o = {.size = sizeof(o), .xclass = id % 4};
    yk_xfer_batch batch;
    memset(mine, (int)(id + round), PIECE);
    if (round % 2) {
        if (yk_xfer_submit(a, &q, 1, &o, &batch) < 0 || yk_xfer_wait(a, batch, UINT32_MAX) != 0 ||
            yk_xfer_batch_free(a, batch) < 0)
            bad();
    } else if (yk_xfer_run(a, &q, 1, &o) != 0) {
        bad();
    }
    memset(mine, 0, PIECE);
    q.op = YK_XFER_READ;
    o.flags = YK_XFER_WILL_WAIT;
    if (yk_xfer_submit(a, &q, 1, &o, &batch) < 0 || yk_xfer_wait(a, batch, UINT32_MAX) != 0 ||
        yk_xfer_batch_free(a, batch) < 0)
        bad();
    for (uint32_t i = 0; i < q.length; i++)
        if (mine[i] != (char)(id + round)) {
            bad();
            break;
        }
    o = (yk_xfer_submit_opts){.size = sizeof(o), .xclass = id % 4};
    if (round % 2)
        o.done = done;
    else
        o.flags = YK_XFER_EVENT;
    o.user = &seen[id * 8 + round % 8];
    q.local = mine + (uint64_t)THREADS * PIECE; /* nobody waits for it */
    if (yk_xfer_submit(a, &q, 1, &o, &batch) < 0)
        bad();
    else
        __atomic_fetch_add(&begun, 1, __ATOMIC_RELAXED);
}

static void *run_one(void *arg) {
    uint32_t id = (uint32_t)(uintptr_t)arg;
    for (uint32_t r = 0; r < rounds; r++)
        one(id, r);
    return NULL;
}

static void start(pthread_t *t, uint32_t n, void *(*fn)(void *)) {
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 256u << 10);
    for (uint32_t i = 0; i < n; i++)
        assert_int_equal(pthread_create(&t[i], &attr, fn, (void *)(uintptr_t)i), 0);
    pthread_attr_destroy(&attr);
}

static void submitters(uint32_t shards, const char *fault) {
    static pthread_t t[THREADS];
    yk_xfer_completion c[16];
    uint64_t end = yk_now_ns() + 60 * YK_NS_PER_S;
    begin(shards, fault);
    start(t, THREADS, run_one);
    uint32_t events = 0, total = THREADS * rounds;
    while (events + __atomic_load_n(&ends, __ATOMIC_ACQUIRE) < total && yk_now_ns() < end) {
        int n = yk_xfer_poll(a, c, 16, 10);
        for (int i = 0; i < n; i++) {
            events++;
            if (c[i].status != 0 || ++*(uint32_t *)c[i].user != 1 ||
                yk_xfer_batch_free(a, c[i].batch) != 0)
                bad();
        }
    }
    for (uint32_t i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(events + ends, total);
    assert_int_equal(begun, total);
    finish();
}

static void many_threads(void **state) {
    (void)state;
    submitters(1, NULL);
}

static void many_threads_and_shards(void **state) {
    (void)state;
    submitters(3, NULL);
}

static void many_threads_and_faults(void **state) {
    (void)state;
    submitters(2, "delay:every=7,ms=1");
}

/* ---- cancels beside everything ------------------------------------------------------------------------- */

static uint32_t stop;

/* Each thread has a megabyte. */
static void *cancel_some(void *arg) {
    uint32_t id = (uint32_t)(uintptr_t)arg;
    yk_xfer_request q[4];
    for (uint32_t i = 0; i < 200 && !__atomic_load_n(&stop, __ATOMIC_RELAXED); i++) {
        yk_xfer_batch batch;
        for (uint32_t k = 0; k < 4; k++)
            q[k] = (yk_xfer_request){.op = k % 2 ? YK_XFER_READ : YK_XFER_WRITE,
                                     .local = local + (uint64_t)id * (1 << 20) + k * 262144,
                                     .segment = segment,
                                     .offset = (uint64_t)id * (1 << 20) + k * 262144,
                                     .length = 262144};
        if (yk_xfer_submit(a, q, 4, NULL, &batch) < 0) {
            bad();
            continue;
        }
        if (i % 3)
            (void)yk_xfer_cancel(a, batch);
        int rc = i % 5 ? yk_xfer_wait(a, batch, UINT32_MAX) : 0;
        if (rc != 0 && rc != -YK_ECANCELED)
            bad();
        if (yk_xfer_batch_free(a, batch) < 0)
            bad();
    }
    return NULL;
}

static void *unregister_some(void *arg) {
    (void)arg;
    char *mine = malloc(1 << 20);
    for (uint32_t i = 0; i < 100 && mine != NULL; i++) {
        void *addr = mine;
        yk_xfer_batch batch;
        yk_xfer_memory m = {.addr = mine, .length = 1 << 20, .fd = -1};
        yk_xfer_request q = {.op = YK_XFER_READ, .local = mine, .segment = segment, .length = 1 << 20};
        if (yk_xfer_register(a, &m, 1) < 0)
            bad();
        int rc = yk_xfer_submit(a, &q, 1, NULL, &batch);
        if (rc < 0 || yk_xfer_unregister(a, &addr, 1) < 0)
            bad();
        if (rc == 0)
            (void)yk_xfer_batch_free(a, batch);
    }
    free(mine);
    return NULL;
}

static void *look_at_views(void *arg) {
    (void)arg;
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        char *json;
        if (yk_xfer_links_json(a, &json) < 0)
            bad();
        else
            free(json);
        if (yk_xfer_explain_json(a, segment, 1 << 20, YK_XFER_READ, &json) < 0)
            bad();
        else
            free(json);
    }
    return NULL;
}

static void cancels_and_the_rest(void **state) {
    (void)state;
    static pthread_t t[8], u, v;
    begin(2, NULL);
    stop = 0;
    start(t, 7, cancel_some);
    start(&u, 1, unregister_some);
    start(&v, 1, look_at_views);
    pthread_join(u, NULL);
    for (int i = 0; i < 7; i++)
        pthread_join(t[i], NULL);
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    pthread_join(v, NULL);
    finish();
}

/* ---- large batches over all shards ---------------------------------------------------------------------- */

static void split_batches(void **state) {
    (void)state;
    static yk_xfer_request q[THREADS * 8];
    uint64_t each = (uint64_t)PIECE / 2;
    begin(4, "delay:every=100,ms=1");
    for (uint32_t r = 0; r < rounds; r++) {
        yk_xfer_batch batch;
        yk_xfer_completion c;
        yk_xfer_submit_opts o = {.size = sizeof(o), .flags = r % 2 ? YK_XFER_EVENT : 0};
        uint32_t n = THREADS * 8; /* 32 MiB: enough to be split */
        for (uint32_t i = 0; i < n; i++)
            q[i] = (yk_xfer_request){.op = YK_XFER_WRITE,
                                     .local = local + i * each,
                                     .segment = segment,
                                     .offset = i * each,
                                     .length = each};
        memset(local, (int)r + 1, n * each);
        assert_int_equal(yk_xfer_submit(a, q, n, &o, &batch), 0);
        if (r % 2) {
            assert_int_equal(yk_xfer_poll(a, &c, 1, 30000), 1);
            assert_int_equal(c.status, 0);
        } else {
            assert_int_equal(yk_xfer_wait(a, batch, UINT32_MAX), 0);
        }
        assert_int_equal(yk_xfer_batch_free(a, batch), 0);
        assert_memory_equal(local, remote, n * each);
        if (r % 4 == 3) { /* ends early in all parts */
            assert_int_equal(yk_xfer_submit(a, q, n, NULL, &batch), 0);
            assert_int_equal(yk_xfer_cancel(a, batch), 0);
            int rc = yk_xfer_wait(a, batch, UINT32_MAX);
            assert_true(rc == 0 || rc == -YK_ECANCELED);
            assert_int_equal(yk_xfer_batch_free(a, batch), 0);
        }
    }
    finish();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_threads),         cmocka_unit_test(many_threads_and_shards),
        cmocka_unit_test(many_threads_and_faults), cmocka_unit_test(cancels_and_the_rest),
        cmocka_unit_test(split_batches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
