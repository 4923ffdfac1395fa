/* SPDX-License-Identifier: Apache-2.0
 *
 * Ways to a peer that come and go while the engine runs (ways.c), over the scripted transport.
 */
#include "fake.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define MB      (1u << 20)
#define LOOK_NS (30 * YK_NS_PER_S) /* for what must come */

static struct fake_rig rig;

static void move_all(void) {
    static yk_xfer_request q[8];
    for (uint32_t i = 0; i < 8; i++)
        q[i] = fake_request(&rig, YK_XFER_READ, i * MB, MB);
    assert_int_equal(yk_xfer_run(rig.engine, q, 8, NULL), 0);
}

/* Until a rail of the script has moved something. */
static void until_used(uint32_t rail) {
    uint64_t until = yk_now_ns() + LOOK_NS;
    while (__atomic_load_n(&fake.rail[rail].slices, __ATOMIC_ACQUIRE) == 0) {
        assert_true(yk_now_ns() < until);
        move_all();
    }
}

static void count_rails(struct yk_shard *s, void *arg) {
    for (uint32_t p = 0; p < s->route_cap; p++)
        *(uint32_t *)arg += s->routes[p] != NULL ? s->routes[p]->rail_count : 0;
}

static uint32_t rails_now(void) {
    uint32_t n = 0;
    yk_shard_call(rig.engine->shards[0], count_rails, &n);
    return n;
}

static void news(struct yk_shard *s, void *arg) {
    (void)arg;
    yk_ways_news(s);
}

static void begin(uint32_t rails, uint32_t hidden) {
    yk_xfer_opts o = {.size = sizeof(o), .stall_ms = 40};
    fake_begin(&rig, rails, 400e6, 8 * MB, &o);
    for (uint32_t i = 0; i < rails; i++)
        fake.rail[i].hidden = hidden >> i & 1;
}

/* Its interface gets another address: the rail fails, another is found, and the old one goes. */
static void a_way_in_place_of_one_that_failed(void **state) {
    (void)state;
    begin(2, 2);
    move_all();
    assert_int_equal(rails_now(), 1);
    __atomic_store_n(&fake.rail[0].hidden, 1, __ATOMIC_RELEASE);
    __atomic_store_n(&fake.rail[1].hidden, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&fake.rail[0].fail_at, 1, __ATOMIC_RELEASE);
    __atomic_store_n(&fake.rail[0].refuse, 1000000, __ATOMIC_RELEASE);
    until_used(1);
    assert_int_equal(rails_now(), 2);
    rig.engine->ways_gone_ns = 1;
    uint64_t until = yk_now_ns() + LOOK_NS;
    while (rails_now() == 2 && yk_now_ns() < until)
        move_all();
    assert_int_equal(rails_now(), 1);
    fake_end(&rig);
}

static void want(struct yk_shard *s, void *arg) {
    (void)arg;
    for (uint32_t p = 0; p < s->route_cap; p++)
        if (s->routes[p] != NULL)
            yk_ways_want(s->routes[p]);
}

/* What a look that was asked for at once finds missing is looked for again, without any news. */
static void a_way_that_is_missed(void **state) {
    (void)state;
    begin(2, 0);
    move_all();
    assert_int_equal(rails_now(), 2);
    rig.engine->ways_gone_ns = 1;
    __atomic_store_n(&fake.rail[1].hidden, 1, __ATOMIC_RELEASE);
    yk_shard_call(rig.engine->shards[0], want, NULL);
    uint64_t until = yk_now_ns() + LOOK_NS;
    while (rails_now() == 2 && yk_now_ns() < until)
        move_all();
    assert_int_equal(rails_now(), 1);
    fake_end(&rig);
}

/* One that comes beside those that work, as the kernel's news have it. */
static void a_way_that_comes(void **state) {
    (void)state;
    begin(3, 4);
    move_all();
    assert_int_equal(rails_now(), 2);
    __atomic_store_n(&fake.rail[2].hidden, 0, __ATOMIC_RELEASE);
    yk_shard_call(rig.engine->shards[0], news, NULL);
    until_used(2);
    assert_int_equal(rails_now(), 3);
    fake_end(&rig);
}

/* A device that follows its address late is seen by a later look. */
static void a_way_that_comes_late(void **state) {
    (void)state;
    begin(2, 2);
    move_all();
    yk_shard_call(rig.engine->shards[0], news, NULL);
    uint32_t looked = __atomic_load_n(&fake.looks, __ATOMIC_ACQUIRE);
    uint64_t until = yk_now_ns() + LOOK_NS;
    while (__atomic_load_n(&fake.looks, __ATOMIC_ACQUIRE) == looked) {
        assert_true(yk_now_ns() < until);
        move_all();
    }
    __atomic_store_n(&fake.rail[1].hidden, 0, __ATOMIC_RELEASE);
    until_used(1);
    fake_end(&rig);
}

/* The rails of a transport that is preferred come before others, whenever they are found. */
static void a_way_that_is_preferred(void **state) {
    (void)state;
    begin(2, 1);
    fake.split = 1;
    move_all();
    assert_true(fake.rail[1].slices > 0);
    __atomic_store_n(&fake.rail[0].hidden, 0, __ATOMIC_RELEASE);
    yk_shard_call(rig.engine->shards[0], news, NULL);
    until_used(0);
    uint32_t before = __atomic_load_n(&fake.rail[1].slices, __ATOMIC_ACQUIRE);
    move_all();
    assert_int_equal(fake.rail[1].slices, before);
    fake_end(&rig);
}

/* Looks are rare while a rail fails all the time, and a rail without a way is kept, and used when that is back. */
static void looks_are_rare(void **state) {
    (void)state;
    begin(2, 0);
    move_all();
    __atomic_store_n(&fake.rail[1].hidden, 1, __ATOMIC_RELEASE);
    __atomic_store_n(&fake.rail[1].refuse, 1000000, __ATOMIC_RELEASE);
    __atomic_store_n(&fake.rail[1].fail_at, 1, __ATOMIC_RELEASE);
    uint32_t looked = fake.looks;
    uint64_t began = yk_now_ns();
    while (yk_now_ns() - began < 2500 * YK_NS_PER_MS)
        move_all();
    uint64_t seconds = (yk_now_ns() - began) / YK_NS_PER_S;
    assert_true(fake.looks - looked <= 2 * (seconds + 2)); /* of two transports */
    assert_int_equal(rails_now(), 2);
    __atomic_store_n(&fake.rail[1].refuse, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&fake.rail[1].hidden, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&fake.rail[1].slices, 0, __ATOMIC_RELEASE);
    until_used(1);
    fake_end(&rig);
}

static void look_now(struct yk_shard *s, void *arg) {
    for (uint32_t p = 0; p < s->route_cap; p++)
        if (s->routes[p] != NULL)
            s->routes[p]->look_ns = 1;
    s->ways.fn(&s->ways);
    (void)arg;
}

static void count_lanes(struct yk_shard *s, void *arg) {
    const struct yk_route *t = NULL;
    for (uint32_t p = 0; p < s->route_cap && t == NULL; p++)
        t = s->routes[p];
    for (uint32_t i = 0; t != NULL && i < t->rail_count; i++)
        if (!yk_rail_is_empty(t->rails[i]))
            *(uint32_t *)arg |= 1u << t->rails[i]->desc.port;
}

/* Bits of the rails that have a lane. */
static uint32_t lanes_now(void) {
    uint32_t bits = 0;
    yk_shard_call(rig.engine->shards[0], count_lanes, &bits);
    return bits;
}

/* The ways of two are gone for good at once, one with a lane that rests and one without: the other stays. */
static void two_ways_that_go(void **state) {
    (void)state;
    begin(3, 0);
    uint64_t until = yk_now_ns() + LOOK_NS;
    __atomic_store_n(&fake.rail[0].refuse, 1000000, __ATOMIC_RELEASE);
    while (lanes_now() != 6) {
        assert_true(yk_now_ns() < until);
        move_all();
    }
    yk_shard_call(rig.engine->shards[0], news, NULL);
    __atomic_store_n(&fake.rail[0].hidden, 1, __ATOMIC_RELEASE);
    __atomic_store_n(&fake.rail[1].hidden, 1, __ATOMIC_RELEASE);
    yk_shard_call(rig.engine->shards[0], look_now, NULL);
    assert_int_equal(rails_now(), 3);
    rig.engine->ways_gone_ns = 1;
    while (rails_now() != 1) {
        assert_true(yk_now_ns() < until);
        yk_shard_call(rig.engine->shards[0], look_now, NULL);
        move_all();
    }
    assert_int_equal(lanes_now(), 4);
    fake_end(&rig);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_way_in_place_of_one_that_failed),
        cmocka_unit_test(a_way_that_is_missed),
        cmocka_unit_test(a_way_that_comes),
        cmocka_unit_test(a_way_that_comes_late),
        cmocka_unit_test(a_way_that_is_preferred),
        cmocka_unit_test(looks_are_rare),
        cmocka_unit_test(two_ways_that_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
