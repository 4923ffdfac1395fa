/* SPDX-License-Identifier: Apache-2.0
 *
 * The core over a scripted transport: who gets what, and what happens when rails slow down, go silent,
 * fail and come back.
 */
#include "fake.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <jansson.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define MB (1u << 20)

static struct fake_rig rig;
static yk_xfer_request batch[512];

/* Words, not bytes: sanitizers make each access many. */
static void fill(char *at, uint64_t len, uint32_t seed) {
    for (uint64_t i = 0; i < len; i += 8) {
        uint64_t word = (i + 1 + seed) * 0x9e3779b97f4a7c15ull;
        memcpy(at + i, &word, len - i < 8 ? len - i : 8);
    }
}

/* Requests of `each` bytes over the whole segment. */
static uint32_t cover(uint32_t op, uint64_t each) {
    uint32_t n = 0;
    for (uint64_t at = 0; at < fake.bytes; at += each)
        batch[n++] = fake_request(&rig, op, at, fake.bytes - at < each ? fake.bytes - at : each);
    return n;
}

static void run_all(uint32_t op, uint64_t each) {
    fill(op == YK_XFER_READ ? fake.memory : rig.local, fake.bytes, (uint32_t)each);
    assert_int_equal(yk_xfer_run(rig.engine, batch, cover(op, each), NULL), 0);
    assert_memory_equal(fake.memory, rig.local, fake.bytes);
}

static uint64_t bytes_of(uint32_t rail) {
    return __atomic_load_n(&fake.rail[rail].bytes, __ATOMIC_RELAXED);
}

static void rails_share_by_speed(void **state) {
    (void)state;
    fake_begin(&rig, 3, 100e6, 60 * MB, NULL);
    fake.rail[2].bytes_per_s = 400e6;
    run_all(YK_XFER_READ, 4 * MB);
    run_all(YK_XFER_WRITE, 1 * MB);
    double all = 120.0 * MB;
    assert_true((double)bytes_of(2) > all * 0.4 && (double)bytes_of(2) < all * 0.9);
    assert_true((double)bytes_of(0) > all * 0.03 && (double)bytes_of(1) > all * 0.03);
    fake_end(&rig);
}

static void one_that_slows_down_loses_its_share(void **state) {
    (void)state;
    fake_begin(&rig, 2, 200e6, 40 * MB, NULL);
    run_all(YK_XFER_READ, 4 * MB);
    assert_true(bytes_of(0) > 4 * MB && bytes_of(1) > 4 * MB);
    fake.rail[0].bytes_per_s = 10e6;
    uint64_t before = bytes_of(0);
    run_all(YK_XFER_READ, 4 * MB);
    assert_true(bytes_of(0) - before < 8 * MB);
    fake_end(&rig);
}

/* The most that was under way on a rail at a time, by the log. */
static uint64_t most_under_way(uint32_t rail) {
    uint64_t most = 0;
    for (uint32_t i = 0; i < fake.log_count; i++) {
        uint64_t sum = 0;
        for (uint32_t k = 0; k <= i; k++)
            if (fake.log[k].rail == rail && (k == i || fake.log[k].due_ns > fake.log[i].at_ns))
                sum += fake.log[k].len;
        most = fake.log[i].rail == rail && sum > most ? sum : most;
    }
    return most;
}

/* Devices that take long to set up are not a long way: no more is put under way on the first than on any other, and
 * the second has its part. */
static void a_slow_set_up_is_no_long_way(void **state) {
    int seen = 0; /* rails that are slow because this machine is busy are another matter: then again */
    (void)state;
    for (int tries = 0; tries < 5 && !seen; tries++) {
        fake_begin(&rig, 2, 100e6, 48 * MB, NULL);
        for (uint32_t i = 0; i < 2; i++) {
            fake.rail[i].connect_ns = (400 + 10 * i) * YK_NS_PER_MS;
            fake.rail[i].greet_ns = 10000;
        }
        run_all(YK_XFER_READ, 4 * MB);
        seen = most_under_way(0) <= 4 * MB && most_under_way(1) <= 4 * MB && bytes_of(0) > 4 * MB && bytes_of(1) > 4 * MB;
        fake_end(&rig);
    }
    assert_true(seen);
}

static void a_small_request_takes_one_rail(void **state) {
    (void)state;
    fake_begin(&rig, 4, 100e6, 1 * MB, NULL);
    yk_xfer_request q = fake_request(&rig, YK_XFER_READ, 0, 4096);
    for (int i = 0; i < 20; i++)
        assert_int_equal(yk_xfer_run(rig.engine, &q, 1, NULL), 0);
    uint32_t used = 0;
    for (uint32_t i = 0; i < 4; i++)
        used += fake.rail[i].connects > 0;
    assert_int_equal(used, 1);
    assert_int_equal(fake.rail[0].connects, 1);
    fake_end(&rig);
}

/* A rail's lanes follow what is under way on it, and what it loses: only on a long way, only where lanes mind. */
static void a_long_way_gets_lanes(void **state) {
    static const struct {
        uint64_t path_ns;
        double bytes_per_s;
        uint32_t loses, patient, least, most; /* lanes */
    } ways[] = {
        {5000000, 20e6, 1, 0, 4, 32}, /* twice as many each time */
        {5000000, 20e6, 1, 1, 1, 1},
        {5000000, 20e6, 0, 0, 1, 1},
        {1000000, 20e6, 1, 0, 1, 1}, /* within a data centre */
        {50000000, 90e6, 1, 1, 2, 3}, /* 4 MB under way: more than a lane is thought to take */
    };
    (void)state;
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        yk_xfer_opts o = {.size = sizeof(o), .stall_ms = 40};
        fake_begin(&rig, 1, ways[i].bytes_per_s, (i == 4 ? 180 : 24) * MB, &o);
        fake.rail[0].path_ns = ways[i].path_ns;
        fake.rail[0].loses = ways[i].loses;
        fake.rail[0].patient = ways[i].patient;
        run_all(YK_XFER_READ, 4 * MB);
        if (fake.rail[0].connects < ways[i].least || fake.rail[0].connects > ways[i].most)
            fail_msg("way %zu has %u lanes", i, fake.rail[0].connects);
        assert_int_equal(fake.rail[0].downs, 0);
        fake_end(&rig);
    }
}

/* One that does not come up beside those that work is tried again later, and nothing else is given up. */
static void a_lane_that_does_not_come_up_beside_others(void **state) {
    yk_xfer_opts o = {.size = sizeof(o), .stall_ms = 40, .lanes = 4, .connect_ms = 500};
    (void)state;
    fake_begin(&rig, 1, 40e6, 16 * MB, &o);
    yk_xfer_request q = fake_request(&rig, YK_XFER_READ, 0, 4096);
    yk_xfer_submit_opts so = {.size = sizeof(so), .xclass = YK_XFER_URGENT};
    assert_int_equal(yk_xfer_run(rig.engine, &q, 1, &so), 0); /* its lane is up */
    __atomic_store_n(&fake.rail[0].mute, 3, __ATOMIC_RELEASE);
    uint64_t until = yk_now_ns() + 30 * YK_NS_PER_S;
    while (__atomic_load_n(&fake.rail[0].connects, __ATOMIC_ACQUIRE) < 1 + 4 + 3) {
        assert_true(yk_now_ns() < until);
        run_all(YK_XFER_READ, 4 * MB);
    }
    assert_int_equal(fake.rail[0].downs, 3);
    assert_int_equal(fake.rail[0].connects, 1 + 4 + 3);
    fake_end(&rig);
}

/* Of two that are alike the near one is to take the first slice, and the other says why it does not. */
static void a_near_rail_is_preferred(void **state) {
    (void)state;
    char *text = NULL;
    fake_begin(&rig, 2, 100e6, 1 * MB, NULL);
    fake.rail[0].distance = 1;
    assert_int_equal(yk_xfer_explain_json(rig.engine, rig.segment, 4096, YK_XFER_READ, &text), 0);
    json_t *root = json_loads(text, 0, NULL), *rails = json_object_get(root, "rails");
    const json_t *far = json_array_get(rails, 0), *close = json_array_get(rails, 1);
    assert_int_equal(json_integer_value(json_object_get(far, "distance")), 1);
    assert_int_equal(json_integer_value(json_object_get(close, "distance")), 0);
    assert_true(json_is_true(json_object_get(close, "first_slice")));
    assert_true(json_is_false(json_object_get(far, "first_slice")));
    assert_string_equal(json_string_value(json_object_get(far, "reason")), "would end later, and is farther");
    assert_true(json_number_value(json_object_get(far, "predicted_slice_ns")) >
                json_number_value(json_object_get(close, "predicted_slice_ns")));
    json_decref(root);
    free(text);
    fake_end(&rig);
}

static void lanes_that_fail_are_repeated(void **state) {
    (void)state;
    for (uint32_t n = 1; n < 24; n += 3) {
        fake_begin(&rig, 2, 400e6, 8 * MB, NULL);
        fake.rail[0].fail_at = n;
        run_all(YK_XFER_READ, 1 * MB);
        run_all(YK_XFER_READ, 100000);
        fake_end(&rig);
    }
}

/* Each may have left bytes on their way: none is sent again before its lane is closed at the target. */
static void writes_wait_for_the_fence(void **state) {
    (void)state;
    for (uint32_t n = 1; n < 24; n += 3) {
        fake_begin(&rig, 2, 400e6, 8 * MB, NULL);
        fake.rail[1].fail_at = n;
        fake.rail[0].fail_at = n + 4;
        run_all(YK_XFER_WRITE, 1 * MB);
        assert_true(fake.fences > 0);
        fake_end(&rig);
    }
}

static void a_later_write_waits_too(void **state) {
    (void)state;
    yk_xfer_opts o = {.size = sizeof(o), .stall_ms = 20};
    fake_begin(&rig, 1, 400e6, 1 * MB, &o);
    yk_xfer_request q = fake_request(&rig, YK_XFER_WRITE, 0, 65536);
    assert_int_equal(yk_xfer_run(rig.engine, &q, 1, NULL), 0); /* a lane is there */
    yk_xfer_submit_opts so = {.size = sizeof(so), .timeout_ms = 60};
    fake.keeps_on = 1;
    fake.rail[0].silent = 1;
    assert_int_equal(yk_xfer_run(rig.engine, &q, 1, &so), -YK_ETIMEDOUT);
    fill(rig.local, 65536, 99);
    so.timeout_ms = 100; /* silent still: neither the fence nor the write gets through */
    assert_int_equal(yk_xfer_run(rig.engine, &q, 1, &so), -YK_ETIMEDOUT);
    __atomic_store_n(&fake.rail[0].silent, 0, __ATOMIC_RELEASE);
    assert_int_equal(yk_xfer_run(rig.engine, &q, 1, NULL), 0);
    assert_true(fake.fences > 0);
    assert_memory_equal(fake.memory, rig.local, 65536);
    fake_end(&rig);
}

/* What a lane left behind is fenced over another transport when its own has no way any more. */
static void a_fence_goes_over_another_transport(void **state) {
    (void)state;
    fake_begin(&rig, 2, 400e6, 8 * MB, NULL);
    fake.split = 1;
    yk_xfer_submit_opts so = {.size = sizeof(so), .timeout_ms = 10000, .xclass = YK_XFER_DEMAND};
    yk_xfer_request q = fake_request(&rig, YK_XFER_WRITE, 0, 4096);
    assert_int_equal(yk_xfer_run(rig.engine, &q, 1, &so), 0);
    assert_true(fake.rail[0].connects > 0 && fake.rail[1].connects == 0);
    fake.rail[0].refuse = UINT32_MAX;
    fake.rail[0].fail_at = 2;
    fill(rig.local, fake.bytes, 5);
    assert_int_equal(yk_xfer_run(rig.engine, batch, cover(YK_XFER_WRITE, 1 * MB), &so), 0);
    assert_true(fake.fences > 0 && fake.rail[1].bytes > 0);
    assert_memory_equal(fake.memory, rig.local, fake.bytes);
    fake_end(&rig);
}

struct later {
    int rc;
};

static void *write_later(void *arg) {
    struct later *l = arg;
    yk_xfer_submit_opts so = {.size = sizeof(so), .timeout_ms = 5000};
    yk_xfer_request q = fake_request(&rig, YK_XFER_WRITE, 1000, 5000);
    l->rc = yk_xfer_run(rig.engine, &q, 1, &so);
    return NULL;
}

/* The same from other threads, which have other shards: they know nothing of the dead lane, and must not
 * write over what it may yet write to. */
static void a_later_write_of_another_shard_waits_too(void **state) {
    struct later l[2] = {{0}};
    pthread_t thread;
    (void)state;
    yk_xfer_opts o = {.size = sizeof(o), .stall_ms = 20, .connect_ms = 100, .shards = 2};
    yk_xfer_submit_opts so = {.size = sizeof(so), .timeout_ms = 60};
    fake_begin(&rig, 1, 500e6, 8 * MB, &o);
    fake.keeps_on = 1;
    yk_xfer_request q = fake_request(&rig, YK_XFER_WRITE, 0, 1 * MB);
    assert_int_equal(yk_xfer_run(rig.engine, &q, 1, NULL), 0);
    __atomic_store_n(&fake.rail[0].silent, 1, __ATOMIC_RELEASE);
    assert_int_equal(yk_xfer_run(rig.engine, &q, 1, &so), -YK_ETIMEDOUT);
    __atomic_store_n(&fake.rail[0].silent, 0, __ATOMIC_RELEASE);
    fake.keeps_on = 0;
    for (int i = 0; i < 2; i++) { /* one after the other: one of them has the other shard */
        fake.rail[0].free_at_ns = 0;
        assert_int_equal(pthread_create(&thread, NULL, write_later, &l[i]), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(l[i].rc, 0);
    }
    assert_true(fake.fences > 0);
    assert_memory_equal(fake.memory + 1000, rig.local + 1000, 5000);
    fake_end(&rig); /* and nothing was written over what was not closed yet */
}

static void silence_is_noticed(void **state) {
    (void)state;
    yk_xfer_opts o = {.size = sizeof(o), .stall_ms = 40};
    fake_begin(&rig, 2, 100e6, 16 * MB, &o);
    run_all(YK_XFER_READ, 1 * MB);
    __atomic_store_n(&fake.rail[0].silent, 1, __ATOMIC_RELEASE);
    run_all(YK_XFER_WRITE, 1 * MB);
    assert_true(fake.rail[0].downs > 0);
    __atomic_store_n(&fake.rail[0].silent, 0, __ATOMIC_RELEASE);
    uint64_t before = bytes_of(0), end = yk_now_ns() + 10 * YK_NS_PER_S;
    while (bytes_of(0) - before < 2 * MB && yk_now_ns() < end)
        run_all(YK_XFER_READ, 1 * MB);
    assert_true(bytes_of(0) - before >= 2 * MB); /* it is back */
    fake_end(&rig);
}

static struct yk_rail *rail_at(uint32_t i) {
    struct yk_shard *s = rig.engine->shards[0];
    for (uint32_t p = 0; p < s->route_cap; p++)
        if (s->routes[p] != NULL && s->routes[p]->rail_count > i)
            return s->routes[p]->rails[i];
    return NULL;
}

/* The better transport connects and then moves nothing, again and again: it is looked at less and less often, and what
 * it holds up goes over the other. */
static void one_that_connects_in_vain_is_left_alone(void **state) {
    (void)state;
    yk_xfer_opts o = {.size = sizeof(o), .stall_ms = 20};
    fake_begin(&rig, 2, 400e6, 4 * MB, &o);
    fake.split = 1;
    run_all(YK_XFER_READ, 1 * MB);
    struct yk_rail *r = rail_at(0);
    assert_non_null(r);
    assert_int_equal(r->duds, 0);
    __atomic_store_n(&fake.rail[0].vain, 1, __ATOMIC_RELEASE);
    uint64_t until = yk_now_ns() + 60 * YK_NS_PER_S;
    while (r->duds < 3 && yk_now_ns() < until)
        run_all(YK_XFER_READ, 1 * MB); /* each of them ends well */
    assert_true(r->duds >= 3);
    uint64_t before = bytes_of(1);
    run_all(YK_XFER_READ, 1 * MB);
    assert_true(bytes_of(1) > before);
    __atomic_store_n(&fake.rail[0].vain, 0, __ATOMIC_RELEASE);
    before = bytes_of(0);
    while (bytes_of(0) == before && yk_now_ns() < until)
        run_all(YK_XFER_READ, 1 * MB);
    assert_true(bytes_of(0) > before); /* it is back, */
    assert_int_equal(r->duds, 0);      /* and forgiven */
    fake_end(&rig);
}

/* The same, and small slices pass beside its devices (over a stream): they speak for that, and not for these. */
static void what_goes_beside_forgives_nothing(void **state) {
    (void)state;
    yk_xfer_opts o = {.size = sizeof(o), .stall_ms = 20};
    fake_begin(&rig, 2, 400e6, 4 * MB, &o);
    fake.split = 1;
    fake.rail[0].aside_max = 4096;
    yk_xfer_request small = fake_request(&rig, YK_XFER_READ, 0, 100);
    run_all(YK_XFER_READ, 1 * MB);
    struct yk_rail *r = rail_at(0);
    assert_non_null(r);
    __atomic_store_n(&fake.rail[0].vain, 1, __ATOMIC_RELEASE);
    uint64_t until = yk_now_ns() + 60 * YK_NS_PER_S;
    for (uint32_t duds = 0; duds < 3; duds = r->duds) {
        uint64_t before = bytes_of(0);
        while (bytes_of(0) == before && yk_now_ns() < until)
            assert_int_equal(yk_xfer_run(rig.engine, &small, 1, NULL), 0); /* until one has gone there */
        assert_true(bytes_of(0) > before);
        assert_true(r->duds >= duds);
        while (r->duds == duds && yk_now_ns() < until)
            run_all(YK_XFER_READ, 1 * MB); /* each of them ends well */
        assert_true(r->duds > duds);
    }
    __atomic_store_n(&fake.rail[0].vain, 0, __ATOMIC_RELEASE);
    while (r->duds > 0 && yk_now_ns() < until)
        run_all(YK_XFER_READ, 1 * MB);
    assert_int_equal(r->duds, 0); /* its devices have moved something */
    fake_end(&rig);
}

/* A rail says how long its lanes take at least: others' time does not end them, and theirs is not others'. */
static void devices_have_their_time(void **state) {
    (void)state;
    yk_xfer_opts o = {.size = sizeof(o), .stall_ms = 20, .connect_ms = 20};
    fake_begin(&rig, 1, 400e6, 4 * MB, &o);
    fake.rail[0].connect_ns = 300 * YK_NS_PER_MS;
    fake.rail[0].connect_ms = 60000;
    run_all(YK_XFER_READ, 1 * MB);
    assert_int_equal(fake.rail[0].downs, 0);
    fake_end(&rig);
    fake_begin(&rig, 2, 400e6, 4 * MB, &o);
    fake.split = 1;
    fake.rail[0].connect_ms = 60000;
    fake.rail[0].mute = UINT32_MAX;
    fake.rail[1].mute = 2; /* these are given up, and others are dialled, before the first rail's time has come */
    run_all(YK_XFER_READ, 1 * MB);
    assert_true(fake.rail[1].downs > 0);
    assert_int_equal(fake.rail[0].downs, 0);
    assert_int_equal(bytes_of(0), 0);
    fake_end(&rig);
}

static void the_only_rail_is_kept_until_the_deadline(void **state) {
    (void)state;
    yk_xfer_opts o = {.size = sizeof(o), .stall_ms = 20};
    fake_begin(&rig, 1, 100e6, 4 * MB, &o);
    run_all(YK_XFER_READ, 1 * MB);
    __atomic_store_n(&fake.rail[0].silent, 1, __ATOMIC_RELEASE);
    yk_xfer_submit_opts so = {.size = sizeof(so), .timeout_ms = 200};
    uint64_t start = yk_now_ns();
    assert_int_equal(yk_xfer_run(rig.engine, batch, cover(YK_XFER_READ, 1 * MB), &so), -YK_ETIMEDOUT);
    assert_true(yk_now_ns() - start >= 200 * YK_NS_PER_MS);
    assert_int_equal(fake.rail[0].downs, 0);
    __atomic_store_n(&fake.rail[0].silent, 0, __ATOMIC_RELEASE);
    run_all(YK_XFER_READ, 1 * MB);
    fake_end(&rig);
}

/* Another that cannot do what this one does is no reason to give it up. */
static void one_that_cannot_do_it_is_no_other(void **state) {
    (void)state;
    yk_xfer_opts o = {.size = sizeof(o), .stall_ms = 20};
    yk_xfer_submit_opts so = {.size = sizeof(so), .timeout_ms = 300, .xclass = YK_XFER_DEMAND};
    fake_begin(&rig, 2, 100e6, 4 * MB, &o);
    fake.rail[1].lacks = YK_RAIL_WRITE;
    run_all(YK_XFER_WRITE, 1 * MB);
    __atomic_store_n(&fake.rail[0].silent, 1, __ATOMIC_RELEASE);
    uint32_t connects = fake.rail[0].connects;
    (void)yk_xfer_run(rig.engine, batch, cover(YK_XFER_WRITE, 1 * MB), &so);
    assert_int_equal(fake.rail[0].connects - connects, 0); /* it was kept, and none was needed in its place */
    __atomic_store_n(&fake.rail[0].silent, 0, __ATOMIC_RELEASE);
    fake_end(&rig);
}

static uint64_t lanes(void) {
    return __atomic_load_n(&fake.lanes, __ATOMIC_ACQUIRE);
}

/* A router in between has forgotten the connections: nothing is answered on them, and nothing refused. A
 * new one gets through; what may be on its way over the old ones is fenced, as ever. */
static void a_path_that_forgot_its_lanes_is_dialled_beside(void **state) {
    (void)state;
    yk_xfer_opts o = {.size = sizeof(o), .stall_ms = 20};
    yk_xfer_submit_opts so = {.size = sizeof(so), .timeout_ms = 10000, .xclass = YK_XFER_DEMAND};
    for (uint32_t op = YK_XFER_READ; op <= YK_XFER_WRITE; op++) {
        fake_begin(&rig, 1, 100e6, 4 * MB, &o);
        run_all(op, 1 * MB);
        for (int again = 0; again < 2; again++) {
            uint32_t connects = fake.rail[0].connects, n = cover(op, 1 * MB);
            __atomic_store_n(&fake.rail[0].forgot, lanes(), __ATOMIC_RELEASE);
            fill(op == YK_XFER_READ ? fake.memory : rig.local, fake.bytes, 7u + (uint32_t)again);
            assert_int_equal(yk_xfer_run(rig.engine, batch, n, &so), 0);
            assert_memory_equal(fake.memory, rig.local, fake.bytes);
            assert_true(fake.rail[0].connects > connects);
        }
        assert_true(fake.rail[0].downs >= 2 && (op == YK_XFER_READ || fake.fences > 0));
        fake_end(&rig);
    }
}

/* A peer that is stopped is as silent, but its kernel takes what is sent: its lanes are kept. */
static void a_peer_that_is_stopped_keeps_its_lanes(void **state) {
    (void)state;
    yk_xfer_opts o = {.size = sizeof(o), .stall_ms = 20};
    yk_xfer_submit_opts so = {.size = sizeof(so), .timeout_ms = 1000, .xclass = YK_XFER_DEMAND};
    fake_begin(&rig, 1, 100e6, 4 * MB, &o);
    run_all(YK_XFER_READ, 1 * MB);
    fake.rail[0].acks = 1;
    __atomic_store_n(&fake.rail[0].forgot, lanes(), __ATOMIC_RELEASE); /* a new one would be answered */
    uint32_t connects = fake.rail[0].connects;
    assert_int_equal(yk_xfer_run(rig.engine, batch, cover(YK_XFER_READ, 1 * MB), &so), -YK_ETIMEDOUT);
    assert_true(fake.rail[0].connects == connects && fake.rail[0].downs == 0);
    fake_end(&rig);
}

/* Who answers there is another engine by now: said at once, not at the deadline. */
static void a_silent_peer_that_restarted_is_gone(void **state) {
    (void)state;
    yk_xfer_opts o = {.size = sizeof(o), .stall_ms = 20};
    fake_begin(&rig, 1, 100e6, 4 * MB, &o);
    run_all(YK_XFER_WRITE, 1 * MB);
    fake.rail[0].restarted = 1;
    __atomic_store_n(&fake.rail[0].forgot, lanes(), __ATOMIC_RELEASE);
    assert_int_equal(yk_xfer_run(rig.engine, batch, cover(YK_XFER_WRITE, 1 * MB), NULL), -YK_EGONE);
    fake_end(&rig);
}

static void what_does_not_end_is_closed(void **state) {
    (void)state;
    yk_xfer_opts o = {.size = sizeof(o), .stall_ms = 20};
    fake_begin(&rig, 1, 1e6, 4 * MB, &o);
    fake.keeps_on = 1;
    yk_xfer_batch b;
    assert_int_equal(yk_xfer_submit(rig.engine, batch, cover(YK_XFER_READ, 1 * MB), NULL, &b), 0);
    fake_wait(&fake.rail[0].connects, 1);
    (void)yk_xfer_wait(rig.engine, b, 20);
    assert_int_equal(yk_xfer_cancel(rig.engine, b), 0);
    assert_int_equal(yk_xfer_wait(rig.engine, b, 10000), -YK_ECANCELED);
    assert_int_equal(fake.rail[0].downs, 1);
    assert_int_equal(yk_xfer_batch_free(rig.engine, b), 0);
    fake_end(&rig);
}

static void a_broken_one_is_dialled_again(void **state) {
    (void)state;
    fake_begin(&rig, 1, 400e6, 4 * MB, NULL);
    fake.rail[0].refuse = 3;
    run_all(YK_XFER_READ, 1 * MB);
    assert_true(fake.rail[0].connects >= 4);
    fake_end(&rig);
}

static void a_peer_that_restarted_is_gone(void **state) {
    (void)state;
    fake_begin(&rig, 2, 100e6, 8 * MB, NULL);
    run_all(YK_XFER_WRITE, 1 * MB);
    fake.rail[0].restarted = fake.rail[1].restarted = 1;
    fake.rail[0].fail_at = fake.rail[1].fail_at = 2;
    assert_int_equal(yk_xfer_run(rig.engine, batch, cover(YK_XFER_WRITE, 1 * MB), NULL), -YK_EGONE);
    uint32_t posts = fake.log_count;
    assert_int_equal(yk_xfer_run(rig.engine, batch, 1, NULL), -YK_EGONE);
    assert_int_equal(fake.log_count, posts); /* nothing is sent to old numbers */
    fake_end(&rig);
}

/* Another engine answers at one of the peer's addresses: that rail will not do, the peer is there. */
static void a_stranger_at_one_address_is_passed_over(void **state) {
    (void)state;
    fake_begin(&rig, 2, 100e6, 8 * MB, NULL);
    run_all(YK_XFER_WRITE, 1 * MB);
    fake.rail[0].restarted = 1;
    fake.rail[0].fail_at = 2;
    uint32_t before = fake.rail[0].connects;
    run_all(YK_XFER_WRITE, 1 * MB);
    run_all(YK_XFER_READ, 1 * MB);
    fake_wait(&fake.rail[0].connects, before + 1); /* it was asked, and is not what the peer says */
    run_all(YK_XFER_WRITE, 500000);
    fake.rail[1].restarted = 1; /* the other one, too */
    fake.rail[1].fail_at = 2;
    assert_int_equal(yk_xfer_run(rig.engine, batch, cover(YK_XFER_WRITE, 1 * MB), NULL), -YK_EGONE);
    fake_end(&rig);
}

/* A way on which the peer never answered (an address of its own host, seen from another) does not speak for it: it is
 * gone when another is where it was. Nor does that a stranger is there speak against it. */
static void a_way_that_was_never_answered_has_no_say(void **state) {
    (void)state;
    yk_xfer_opts o = {.size = sizeof(o), .stall_ms = 20, .connect_ms = 60000};
    yk_xfer_submit_opts so = {.size = sizeof(so), .timeout_ms = 30000};
    for (int stranger = 0; stranger < 2; stranger++) {
        fake_begin(&rig, 2, 100e6, 4 * MB, &o);
        fake.rail[1].mute = stranger ? 0 : 1000;
        fake.rail[1].restarted = (uint32_t)stranger;
        run_all(YK_XFER_WRITE, 1 * MB);
        fake_wait(&fake.rail[1].connects, 1);
        fake.rail[0].fail_at = 2;
        run_all(YK_XFER_WRITE, 1 * MB); /* its lane broke, it is there */
        fake.rail[0].restarted = 1;
        fake.rail[0].fail_at = 2;
        assert_int_equal(yk_xfer_run(rig.engine, batch, cover(YK_XFER_WRITE, 1 * MB), &so), -YK_EGONE);
        fake_end(&rig);
    }
}

/* Who gave up says what the rails said last. */
static void a_failure_names_its_rail(void **state) {
    (void)state;
    yk_xfer_submit_opts so = {.size = sizeof(so), .timeout_ms = 100};
    fake_begin(&rig, 1, 100e6, 8 * MB, NULL);
    fake.rail[0].refuse = UINT32_MAX;
    yk_xfer_request q = fake_request(&rig, YK_XFER_READ, 0, 4096);
    for (int tries = 0, said = 0; !said; tries++) { /* in its time the rail may not have been dialled */
        assert_true(tries < 20);
        assert_int_equal(yk_xfer_run(rig.engine, &q, 1, &so), -YK_ETIMEDOUT);
        said = strstr(yk_xfer_error_text(), "fake") != NULL && strstr(yk_xfer_error_text(), "refused") != NULL;
    }
    fake.rail[0].refuse = 0;
    assert_int_equal(yk_xfer_run(rig.engine, &q, 1, NULL), 0);
    fake.rail[0].silent = 1; /* nothing has failed this time */
    assert_int_equal(yk_xfer_run(rig.engine, &q, 1, &so), -YK_ETIMEDOUT);
    assert_null(strstr(yk_xfer_error_text(), "refused"));
    fake.rail[0].silent = 0;
    fake_end(&rig);
}

static void urgent_passes(void **state) {
    (void)state;
    fake_begin(&rig, 1, 100e6, 32 * MB, NULL);
    yk_xfer_submit_opts back = {.size = sizeof(back), .xclass = YK_XFER_BACKGROUND};
    yk_xfer_submit_opts fast = {.size = sizeof(fast), .xclass = YK_XFER_URGENT};
    yk_xfer_batch b;
    yk_xfer_request q = fake_request(&rig, YK_XFER_READ, 0, 65536);
    assert_int_equal(yk_xfer_run(rig.engine, &q, 1, &fast), 0);
    assert_int_equal(yk_xfer_submit(rig.engine, batch, cover(YK_XFER_READ, 1 * MB), &back, &b), 0);
    fake_wait(&fake.rail[0].slices, 4);
    int passed = 0; /* by some of them: this thread may be late to see how it ended */
    for (int i = 0; i < 10; i++) {
        uint64_t before = bytes_of(0);
        assert_int_equal(yk_xfer_run(rig.engine, &q, 1, &fast), 0);
        uint64_t moved = bytes_of(0) - before;
        passed += moved < 4 * MB && yk_xfer_wait(rig.engine, b, 0) == -YK_EAGAIN; /* it is under way still */
    }
    assert_true(passed > 0);
    assert_int_equal(yk_xfer_wait(rig.engine, b, UINT32_MAX), 0);
    assert_int_equal(yk_xfer_batch_free(rig.engine, b), 0);
    fake_end(&rig);
}

/* All four classes full: each gets something, background a twentieth, and urgent the most. */
static void nobody_starves(void **state) {
    (void)state;
    yk_xfer_batch b[4];
    uint64_t got[4] = {0}, all = 0;
    fake_begin(&rig, 1, 200e6, 32 * MB, NULL);
    uint32_t n = cover(YK_XFER_READ, 256 << 10);
    for (uint32_t c = 4; c-- > 0;) {
        yk_xfer_submit_opts o = {.size = sizeof(o), .xclass = c};
        assert_int_equal(yk_xfer_submit(rig.engine, batch, n, &o, &b[c]), 0);
    }
    for (uint32_t c = 0; c < 4; c++) { /* the log is the engine's thread's until all have ended */
        assert_int_equal(yk_xfer_wait(rig.engine, b[c], UINT32_MAX), 0);
        assert_int_equal(yk_xfer_batch_free(rig.engine, b[c]), 0);
    }
    uint32_t last = 0; /* where urgent had been posted whole */
    for (uint32_t i = 0; i < fake.log_count; i++)
        last = fake.log[i].xclass == 0 ? i : last;
    for (uint32_t i = 0; i <= last; i++)
        got[fake.log[i].xclass] += fake.log[i].len;
    for (uint32_t c = 0; c < 4; c++)
        all += got[c];
    assert_true(got[3] * 20 >= all);
    assert_true(got[0] > got[1] && got[1] > got[3]);
    fake_end(&rig);
}

static void a_small_one_does_not_wait_for_a_large_one(void **state) {
    (void)state;
    yk_xfer_batch b;
    fake_begin(&rig, 1, 100e6, 64 * MB, NULL);
    yk_xfer_request large = fake_request(&rig, YK_XFER_READ, 0, 64 * MB);
    yk_xfer_request small = fake_request(&rig, YK_XFER_WRITE, 0, 4096);
    assert_int_equal(yk_xfer_submit(rig.engine, &large, 1, NULL, &b), 0);
    fake_wait(&fake.rail[0].slices, 2);
    assert_int_equal(yk_xfer_run(rig.engine, &small, 1, NULL), 0);
    assert_int_equal(yk_xfer_wait(rig.engine, b, 0), -YK_EAGAIN);
    assert_int_equal(yk_xfer_batch_free(rig.engine, b), 0); /* cancelled, and freed when it has ended */
    fake_end(&rig);
}

static void deadlines_end_what_waits(void **state) {
    (void)state;
    fake_begin(&rig, 1, 1e4, 8 * MB, NULL); /* minutes */
    yk_xfer_submit_opts so = {.size = sizeof(so), .timeout_ms = 50};
    uint64_t start = yk_now_ns();
    assert_int_equal(yk_xfer_run(rig.engine, batch, cover(YK_XFER_READ, 1 * MB), &so), -YK_ETIMEDOUT);
    assert_true(yk_now_ns() - start < 20 * YK_NS_PER_S);
    fake_end(&rig);
}

static void destroy_ends_what_is_under_way(void **state) {
    (void)state;
    yk_xfer_batch b;
    for (int i = 0; i < 4; i++) {
        fake_begin(&rig, 2, 10e6, 32 * MB, NULL);
        yk_xfer_submit_opts so = {.size = sizeof(so), .flags = i == 3 ? YK_XFER_WILL_WAIT : 0};
        assert_int_equal(
            yk_xfer_submit(rig.engine, batch, cover(i % 2 ? YK_XFER_WRITE : YK_XFER_READ, 1 * MB), &so, &b),
            0);
        if (i < 2)
            fake_wait(&fake.rail[0].slices, 1);
        fake_end(&rig);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rails_share_by_speed),
        cmocka_unit_test(one_that_slows_down_loses_its_share),
        cmocka_unit_test(a_slow_set_up_is_no_long_way),
        cmocka_unit_test(a_small_request_takes_one_rail),
        cmocka_unit_test(a_near_rail_is_preferred),
        cmocka_unit_test(a_long_way_gets_lanes),
        cmocka_unit_test(a_lane_that_does_not_come_up_beside_others),
        cmocka_unit_test(lanes_that_fail_are_repeated),
        cmocka_unit_test(writes_wait_for_the_fence),
        cmocka_unit_test(a_later_write_waits_too),
        cmocka_unit_test(a_fence_goes_over_another_transport),
        cmocka_unit_test(a_later_write_of_another_shard_waits_too),
        cmocka_unit_test(silence_is_noticed),
        cmocka_unit_test(one_that_connects_in_vain_is_left_alone),
        cmocka_unit_test(what_goes_beside_forgives_nothing),
        cmocka_unit_test(devices_have_their_time),
        cmocka_unit_test(the_only_rail_is_kept_until_the_deadline),
        cmocka_unit_test(one_that_cannot_do_it_is_no_other),
        cmocka_unit_test(a_path_that_forgot_its_lanes_is_dialled_beside),
        cmocka_unit_test(a_peer_that_is_stopped_keeps_its_lanes),
        cmocka_unit_test(a_silent_peer_that_restarted_is_gone),
        cmocka_unit_test(what_does_not_end_is_closed),
        cmocka_unit_test(a_broken_one_is_dialled_again),
        cmocka_unit_test(a_peer_that_restarted_is_gone),
        cmocka_unit_test(a_way_that_was_never_answered_has_no_say),
        cmocka_unit_test(a_stranger_at_one_address_is_passed_over),
        cmocka_unit_test(a_failure_names_its_rail),
        cmocka_unit_test(urgent_passes),
        cmocka_unit_test(nobody_starves),
        cmocka_unit_test(a_small_one_does_not_wait_for_a_large_one),
        cmocka_unit_test(deadlines_end_what_waits),
        cmocka_unit_test(destroy_ends_what_is_under_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
