/* SPDX-License-Identifier: Apache-2.0
 *
 * Subscriptions to a real publisher of libzmq: events arrive, gaps are repaired by what is sent again, and where that
 * cannot be, or an engine begins anew, what was told is taken back.
 */
#include "packing.h"

#include "base/clock.h"
#include "events/feeds.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <zmq.h>

#include <cmocka.h>

#define LONG_MS 120000 /* a busy machine takes its time; what holds ends at once */
#define BLOCKS  64u

/* What the sinks were told. */
struct told {
    pthread_mutex_t lock;
    bool has[BLOCKS];
    uint32_t lost;
};

struct rig {
    void *ctx, *pub, *router;
    char endpoint[128], replay[128];
    struct yk_feeds *feeds;
    uint32_t feed;
    struct told told;
};

static void stored(void *arg, uint64_t block, enum yk_kv_medium medium, uint32_t block_tokens) {
    struct told *t = arg;
    pthread_mutex_lock(&t->lock);
    t->has[block % BLOCKS] = true;
    pthread_mutex_unlock(&t->lock);
}

static void removed(void *arg, uint64_t block, enum yk_kv_medium medium) {
    struct told *t = arg;
    pthread_mutex_lock(&t->lock);
    t->has[block % BLOCKS] = false;
    pthread_mutex_unlock(&t->lock);
}

static void cleared(void *arg) {
    struct told *t = arg;
    pthread_mutex_lock(&t->lock);
    memset(t->has, 0, sizeof(t->has));
    pthread_mutex_unlock(&t->lock);
}

static void lost(void *arg) {
    struct told *t = arg;
    cleared(arg);
    pthread_mutex_lock(&t->lock);
    t->lost++;
    pthread_mutex_unlock(&t->lock);
}

static bool has(struct rig *r, uint32_t block) {
    pthread_mutex_lock(&r->told.lock);
    bool is = r->told.has[block];
    pthread_mutex_unlock(&r->told.lock);
    return is;
}

static struct yk_feed_stats stats(struct rig *r) {
    struct yk_feed_stats s;
    assert_int_equal(yk_feeds_stats(r->feeds, r->feed, &s), 0);
    return s;
}

#define WAIT_FOR(condition)                                                                                            \
    do {                                                                                                               \
        uint64_t until_ns = yk_now_ns() + LONG_MS * YK_NS_PER_MS;                                                      \
        while (!(condition)) {                                                                                         \
            assert_true(yk_now_ns() < until_ns);                                                                       \
            usleep(2000);                                                                                              \
        }                                                                                                              \
    } while (0)

static void *bind_any(void *ctx, int type, char address[128]) {
    int wait_ms = LONG_MS, zero = 0;
    size_t len = 128;
    void *s = zmq_socket(ctx, type);
    assert_non_null(s);
    zmq_setsockopt(s, ZMQ_RCVTIMEO, &wait_ms, sizeof(wait_ms));
    zmq_setsockopt(s, ZMQ_LINGER, &zero, sizeof(zero));
    assert_int_equal(zmq_bind(s, "tcp://127.0.0.1:*"), 0);
    assert_int_equal(zmq_getsockopt(s, ZMQ_LAST_ENDPOINT, address, &len), 0);
    return s;
}

/* An XPUB is a PUB that hears of subscriptions: what is sent from then on arrives. */
static void wait_for_subscriber(struct rig *r) {
    unsigned char heard[64];
    assert_true(zmq_recv(r->pub, heard, sizeof(heard), 0) > 0);
}

static void make(struct rig *r, bool with_replay, uint32_t replay_ms) {
    struct yk_err err = {0};
    *r = (struct rig){.ctx = zmq_ctx_new()};
    pthread_mutex_init(&r->told.lock, NULL);
    r->pub = bind_any(r->ctx, ZMQ_XPUB, r->endpoint);
    r->router = bind_any(r->ctx, ZMQ_ROUTER, r->replay);
    assert_int_equal(yk_feeds_new(&r->feeds), 0);
    struct yk_feed_opts opts = {.endpoint = r->endpoint, .replay = with_replay ? r->replay : NULL, .topic = "kv",
                                .replay_ms = replay_ms, .sink = {stored, removed, cleared, NULL, &r->told}, .lost = lost};
    if (yk_feeds_add(r->feeds, &opts, &r->feed, &err) != 0)
        fail_msg("%s", err.text);
    wait_for_subscriber(r);
}

static void end(struct rig *r) {
    yk_feeds_free(r->feeds);
    zmq_close(r->pub);
    zmq_close(r->router);
    zmq_ctx_term(r->ctx);
    pthread_mutex_destroy(&r->told.lock);
}

static void pack_number_be(unsigned char into[8], uint64_t number) {
    for (int i = 0; i < 8; i++)
        into[i] = (unsigned char)(number >> (8 * (7 - i)));
}

static void batch_of(struct packing *p, uint64_t block) {
    pack_batch(p, 1);
    pack_stored(p, &block, 1, "GPU");
    pack_batch_end(p, 0);
}

static void send_raw(struct rig *r, const char *topic, uint64_t number, const void *data, size_t len) {
    unsigned char be[8];
    pack_number_be(be, number);
    assert_true(zmq_send(r->pub, topic, strlen(topic), ZMQ_SNDMORE) >= 0);
    assert_int_equal(zmq_send(r->pub, be, 8, ZMQ_SNDMORE), 8);
    assert_int_equal(zmq_send(r->pub, data, len, 0), (int)len);
}

/* The batch of that number stores the block of that number. */
static void publish(struct rig *r, uint64_t number) {
    struct packing p;
    batch_of(&p, number);
    send_raw(r, "kv@0", number, p.data, p.len);
}

/* A question for batches of the past; returns from which on. */
static uint64_t question(struct rig *r, unsigned char id[64], int *ret_len) {
    unsigned char empty[8], be[8];
    uint64_t from = 0;
    *ret_len = zmq_recv(r->router, id, 64, 0);
    assert_true(*ret_len > 0);
    assert_int_equal(zmq_recv(r->router, empty, 8, 0), 0);
    assert_int_equal(zmq_recv(r->router, be, 8, 0), 8);
    for (int i = 0; i < 8; i++)
        from = from << 8 | be[i];
    return from;
}

static void answer(struct rig *r, const unsigned char *id, int id_len, uint64_t number, bool is_end) {
    struct packing p = {.len = 0};
    unsigned char be[8];
    pack_number_be(be, is_end ? UINT64_MAX : number);
    if (!is_end)
        batch_of(&p, number);
    zmq_send(r->router, id, (size_t)id_len, ZMQ_SNDMORE);
    zmq_send(r->router, "", 0, ZMQ_SNDMORE);
    zmq_send(r->router, be, 8, ZMQ_SNDMORE);
    zmq_send(r->router, p.data, p.len, 0);
}

static void events_arrive(void **state) {
    struct packing p;
    uint64_t blocks[] = {0, 1};
    struct rig r;
    make(&r, false, 0);
    for (uint32_t i = 0; i < 10; i++)
        publish(&r, i);
    send_raw(&r, "other", 10, "x", 1); /* another topic */
    pack_batch(&p, 1);
    pack_removed(&p, blocks, 2, "GPU");
    pack_batch_end(&p, 0);
    send_raw(&r, "kv@0", 10, p.data, p.len);
    WAIT_FOR(stats(&r).batches == 11);
    assert_false(has(&r, 0) || has(&r, 1));
    assert_true(has(&r, 2) && has(&r, 9));
    assert_int_equal(stats(&r).gaps, 0);
    assert_int_equal(stats(&r).next, 11);
    assert_int_equal(r.told.lost, 0);
    end(&r);
}

static void a_gap_is_repaired(void **state) {
    unsigned char id[64];
    struct rig r;
    int len;
    make(&r, true, LONG_MS);
    publish(&r, 0);
    WAIT_FOR(has(&r, 0));
    publish(&r, 4); /* 1 to 3 were lost */
    publish(&r, 5);
    assert_int_equal(question(&r, id, &len), 1);
    for (uint32_t i = 1; i <= 4; i++)
        answer(&r, id, len, i, false);
    answer(&r, id, len, 0, true);
    WAIT_FOR(has(&r, 5));
    for (uint32_t i = 0; i <= 5; i++)
        assert_true(has(&r, i));
    assert_int_equal(stats(&r).gaps, 1);
    assert_int_equal(stats(&r).replayed, 4);
    assert_int_equal(stats(&r).lost, 0);
    end(&r);
}

/* It was there before its subscriber: what it has is asked for. */
static void what_was_before_is_asked_for(void **state) {
    unsigned char id[64];
    struct rig r;
    int len;
    make(&r, true, LONG_MS);
    publish(&r, 9);
    assert_int_equal(question(&r, id, &len), 0);
    for (uint32_t i = 6; i <= 8; i++) /* it remembers no more */
        answer(&r, id, len, i, false);
    answer(&r, id, len, 0, true);
    WAIT_FOR(has(&r, 9));
    assert_true(has(&r, 6) && has(&r, 7) && has(&r, 8));
    assert_int_equal(r.told.lost, 0);
    end(&r);
}

static void a_gap_that_stays_takes_all_back(void **state) {
    struct rig r;
    make(&r, false, 0);
    publish(&r, 0);
    publish(&r, 1);
    publish(&r, 7);
    WAIT_FOR(has(&r, 7));
    assert_false(has(&r, 0) || has(&r, 1));
    assert_int_equal(stats(&r).gaps, 1);
    assert_int_equal(stats(&r).lost, 1);
    end(&r);
}

static void nobody_answers(void **state) {
    struct rig r;
    make(&r, true, 50);
    publish(&r, 0);
    WAIT_FOR(has(&r, 0));
    publish(&r, 7);
    WAIT_FOR(has(&r, 7));
    assert_false(has(&r, 0));
    publish(&r, 8);
    WAIT_FOR(has(&r, 8));
    assert_true(has(&r, 7));
    end(&r);
}

/* Nothing longer than a batch may be is read, when the past is sent again neither. */
static void what_is_too_long_is_not_read(void **state) {
    size_t len = YK_KV_BATCH_MAX + 1u;
    unsigned char id[64], be[8] = {0}, *data = calloc(1, len);
    struct rig r;
    int id_len;
    assert_non_null(data);
    make(&r, true, 1000);
    publish(&r, 0);
    WAIT_FOR(has(&r, 0));
    publish(&r, 3);
    assert_int_equal(question(&r, id, &id_len), 1);
    be[7] = 1;
    zmq_send(r.router, id, (size_t)id_len, ZMQ_SNDMORE);
    zmq_send(r.router, "", 0, ZMQ_SNDMORE);
    zmq_send(r.router, be, 8, ZMQ_SNDMORE);
    zmq_send(r.router, data, len, 0);
    WAIT_FOR(has(&r, 3));
    assert_int_equal(stats(&r).malformed, 0);
    assert_int_equal(stats(&r).replayed, 0);
    end(&r);
    free(data);
}

static void an_engine_begins_anew(void **state) {
    struct rig r;
    make(&r, false, 0);
    for (uint32_t i = 0; i < 5; i++)
        publish(&r, i + 20);
    WAIT_FOR(has(&r, 24));
    publish(&r, 0);
    WAIT_FOR(has(&r, 0));
    assert_false(has(&r, 20) || has(&r, 24));
    publish(&r, 1);
    WAIT_FOR(has(&r, 1));
    assert_int_equal(stats(&r).restarts, 1);
    end(&r);
}

static void what_cannot_be_read_takes_all_back(void **state) {
    struct rig r;
    make(&r, false, 0);
    publish(&r, 0);
    send_raw(&r, "kv@0", 1, "\x93\x01\xff", 3);
    WAIT_FOR(stats(&r).malformed == 1);
    WAIT_FOR(stats(&r).lost == 1);
    assert_false(has(&r, 0));
    assert_true(zmq_send(r.pub, "kv", 2, 0) == 2); /* of one part */
    WAIT_FOR(stats(&r).malformed == 2);
    publish(&r, 2);
    WAIT_FOR(has(&r, 2));
    end(&r);
}

static void what_is_removed_is_told_no_more(void **state) {
    struct yk_feed_stats s;
    struct yk_err err;
    struct rig r;
    make(&r, false, 0);
    publish(&r, 0);
    WAIT_FOR(has(&r, 0));
    assert_int_equal(yk_feeds_remove(r.feeds, r.feed), 0);
    assert_int_equal(yk_feeds_remove(r.feeds, r.feed), YK_MISS);
    assert_int_equal(yk_feeds_stats(r.feeds, r.feed, &s), YK_MISS);
    wait_for_subscriber(&r); /* that it went */
    publish(&r, 1);
    assert_false(has(&r, 1));
    struct yk_feed_opts opts = {.endpoint = "http://127.0.0.1:1", .sink = {stored, removed, cleared, NULL, &r.told}, .lost = lost};
    assert_int_equal(yk_feeds_add(r.feeds, &opts, &r.feed, &err), -YK_EINVAL);
    opts.endpoint = "tcp://*:5557";
    assert_int_equal(yk_feeds_add(r.feeds, &opts, &r.feed, &err), -YK_EINVAL);
    end(&r);
}

/* Before its thread has looked once. */
static void what_has_just_been_added_may_end_at_once(void **state) {
    for (int i = 0; i < 50; i++) {
        struct told told = {.lock = PTHREAD_MUTEX_INITIALIZER};
        struct yk_feed_opts opts = {.endpoint = "tcp://127.0.0.1:1", .replay = "tcp://127.0.0.1:1",
                                    .sink = {stored, removed, cleared, NULL, &told}, .lost = lost};
        struct yk_feeds *feeds;
        uint32_t id;
        assert_int_equal(yk_feeds_new(&feeds), 0);
        assert_int_equal(yk_feeds_add(feeds, &opts, &id, NULL), 0);
        if (i % 2 == 0)
            assert_int_equal(yk_feeds_remove(feeds, id), 0);
        assert_int_equal(yk_feeds_add(feeds, &opts, &id, NULL), 0);
        yk_feeds_free(feeds);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_arrive),
        cmocka_unit_test(a_gap_is_repaired),
        cmocka_unit_test(what_was_before_is_asked_for),
        cmocka_unit_test(a_gap_that_stays_takes_all_back),
        cmocka_unit_test(nobody_answers),
        cmocka_unit_test(what_is_too_long_is_not_read),
        cmocka_unit_test(an_engine_begins_anew),
        cmocka_unit_test(what_cannot_be_read_takes_all_back),
        cmocka_unit_test(what_is_removed_is_told_no_more),
        cmocka_unit_test(what_has_just_been_added_may_end_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
