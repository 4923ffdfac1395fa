/* SPDX-License-Identifier: Apache-2.0
 *
 * Lanes of one rail, over the scripted transport: those that a burst got go again, and one that cannot be had does not
 * take the others down, nor keeps others waiting. Afterwards nothing runs, and no key of memory goes that one of them uses. (One that is silent: test_xfer_slows.c, which makes its own time.)
 */
#include "fake.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MB (1u << 20)

static struct fake_rig rig;
static yk_xfer_request batch[512];

/* All of the segment, in requests of `each` bytes. */
static void move_all(uint32_t op, uint64_t each, uint32_t seed) {
    char *from = op == YK_XFER_READ ? fake.memory : rig.local;
    uint32_t n = 0;
    for (uint64_t i = 0; i < fake.bytes; i++)
        from[i] = (char)((i * 2654435761u + seed) >> 13);
    for (uint64_t at = 0; at < fake.bytes; at += each)
        batch[n++] = fake_request(&rig, op, at, each);
    assert_int_equal(yk_xfer_run(rig.engine, batch, n, NULL), 0);
    assert_memory_equal(fake.memory, rig.local, fake.bytes);
}

/* Moves until the rail has got more lanes than it began with: on a busy machine it is not always full. */
static void burst(uint32_t op) {
    uint32_t before = fake.rail[0].connects;
    uint64_t end = yk_now_ns() + 20 * YK_NS_PER_S;
    while (fake.rail[0].connects < before + 2 && yk_now_ns() < end)
        move_all(op, 4 * MB, op);
    assert_true(fake.rail[0].connects >= before + 2);
}

/* With nothing under way: the shard's thread sees to it. The one that it began with stays. */
static void lanes_of_a_burst_go_again(void **state) {
    yk_xfer_opts o = {.size = sizeof(o), .stall_ms = 40};
    (void)state;
    fake_begin(&rig, 1, 20e6, 12 * MB, &o);
    rig.engine->lanes_idle_ns = 50 * YK_NS_PER_MS;
    fake.rail[0].path_ns = 5000000;
    fake.rail[0].loses = 1;
    for (uint32_t op = YK_XFER_READ; op <= YK_XFER_WRITE; op++) {
        burst(op);
        fake_wait(&fake.rail[0].downs, fake.rail[0].connects - 1);
        assert_int_equal(fake.rail[0].downs, fake.rail[0].connects - 1);
    }
    fake_end(&rig);
}

#ifndef __SANITIZE_THREAD__ /* that has a thread of its own, which never rests */
/* How often other threads of this process have gone to sleep. */
static uint64_t sleeps_of_others(void) {
    uint64_t sum = 0;
    DIR *d = opendir("/proc/self/task");
    assert_non_null(d);
    for (const struct dirent *e; (e = readdir(d)) != NULL;) {
        char path[300], line[128];
        if (e->d_name[0] == '.' || atoi(e->d_name) == gettid())
            continue;
        snprintf(path, sizeof(path), "/proc/self/task/%s/status", e->d_name);
        FILE *f = fopen(path, "r");
        while (f != NULL && fgets(line, sizeof(line), f) != NULL)
            if (strncmp(line, "voluntary_ctxt_switches:", 24) == 0)
                sum += strtoull(line + 24, NULL, 10);
        if (f != NULL)
            fclose(f);
    }
    closedir(d);
    return sum;
}

/* With lanes up, and its extra ones closed, the engine's thread sleeps and has no timer: a second without a wake-up
 * comes. */
static void nothing_runs_when_all_has_ended(void **state) {
    yk_xfer_opts o = {.size = sizeof(o), .stall_ms = 40};
    (void)state;
    fake_begin(&rig, 1, 20e6, 12 * MB, &o);
    rig.engine->lanes_idle_ns = 50 * YK_NS_PER_MS;
    fake.rail[0].path_ns = 5000000;
    fake.rail[0].loses = 1;
    burst(YK_XFER_READ);
    fake_wait(&fake.rail[0].downs, fake.rail[0].connects - 1);
    uint64_t end = yk_now_ns() + 20 * YK_NS_PER_S, since = yk_now_ns(), seen = sleeps_of_others();
    while (yk_now_ns() - since < YK_NS_PER_S) {
        (void)poll(NULL, 0, 20);
        uint64_t now = sleeps_of_others();
        since = now != seen ? yk_now_ns() : since;
        seen = now;
        assert_true(yk_now_ns() < end);
    }
    fake_end(&rig);
}
#endif

/* Without a descriptor for another lane what is up stays up and carries what the other would; when there is one
 * again, that is made. */
static void a_lane_that_cannot_be_had(void **state) {
    yk_xfer_opts o = {.size = sizeof(o), .stall_ms = 40};
    yk_xfer_submit_opts urgent = {.size = sizeof(urgent), .xclass = YK_XFER_URGENT};
    (void)state;
    fake_begin(&rig, 1, 100e6, 4 * MB, &o);
    yk_xfer_request q = fake_request(&rig, YK_XFER_READ, 0, 4096);
    assert_int_equal(yk_xfer_run(rig.engine, &q, 1, &urgent), 0);
    __atomic_store_n(&fake.rail[0].poor, 1, __ATOMIC_RELEASE);
    move_all(YK_XFER_WRITE, 1 * MB, 1);
    assert_int_equal(fake.lanes, 1);
    assert_true(fake.rail[0].connects > 1);
    __atomic_store_n(&fake.rail[0].poor, 0, __ATOMIC_RELEASE);
    for (uint64_t end = yk_now_ns() + 10 * YK_NS_PER_S; fake.lanes == 1 && yk_now_ns() < end;)
        move_all(YK_XFER_READ, 1 * MB, 2);
    assert_int_equal(fake.lanes, 2);
    assert_int_equal(fake.rail[0].downs, 0);
    fake_end(&rig);
}

/* The same where that shows after the other end has answered, as with a device that makes no more queue pairs: the
 * urgent lane is the one that it began with all the time. */
static void a_lane_that_lacks_something_in_the_end(void **state) {
    yk_xfer_opts o = {.size = sizeof(o), .stall_ms = 40};
    yk_xfer_submit_opts urgent = {.size = sizeof(urgent), .xclass = YK_XFER_URGENT};
    struct fake_rail *r = &fake.rail[0];
    (void)state;
    fake_begin(&rig, 1, 100e6, 4 * MB, &o);
    yk_xfer_request q = fake_request(&rig, YK_XFER_READ, 0, 4096);
    assert_int_equal(yk_xfer_run(rig.engine, &q, 1, &urgent), 0);
    __atomic_store_n(&r->meagre, 1, __ATOMIC_RELEASE);
    for (uint32_t i = 0; i < 3; i++) {
        move_all(YK_XFER_WRITE, 1 * MB, i);
        assert_int_equal(yk_xfer_run(rig.engine, &q, 1, &urgent), 0);
    }
    assert_true(r->connects > 1);
    uint32_t lacked = r->connects;
    __atomic_store_n(&r->meagre, 0, __ATOMIC_RELEASE);
    for (uint64_t end = yk_now_ns() + 10 * YK_NS_PER_S; r->connects == lacked && yk_now_ns() < end;)
        move_all(YK_XFER_READ, 1 * MB, 7);
    assert_int_equal(yk_xfer_run(rig.engine, &q, 1, &urgent), 0);
    assert_true(r->connects > lacked && r->urgent == 1);
    fake_end(&rig);
}

/* A small request for which one rail is connected does not spend its time on one that is not answered: the next rail,
 * of the same transport or another, is connected meanwhile, and no attempt is given up for that. */
static void a_rail_that_is_long_in_connecting(void **state) {
    static const uint32_t classes[] = {YK_XFER_URGENT, YK_XFER_DEMAND};
    yk_xfer_opts o = {.size = sizeof(o), .stall_ms = 20, .connect_ms = 60000};
    (void)state;
    for (uint32_t i = 0; i < 4; i++) {
        yk_xfer_submit_opts so = {.size = sizeof(so), .xclass = classes[i / 2], .timeout_ms = 30000};
        fake_begin(&rig, 3, 100e6, 4 * MB, &o);
        fake.split = i % 2;
        fake.rail[0].mute = fake.rail[1].mute = 100;
        yk_xfer_request q = fake_request(&rig, YK_XFER_READ, 0, 4096);
        for (int k = 0; k < 3; k++)
            assert_int_equal(yk_xfer_run(rig.engine, &q, 1, &so), 0);
        assert_int_equal(fake.rail[2].slices, 3);
        for (int k = 0; k < 2; k++)
            assert_true(fake.rail[k].connects == 1 && fake.rail[k].downs == 0 && fake.rail[k].slices == 0);
        fake_end(&rig);
    }
}

static void lanes_of(struct yk_shard *s, void *arg) {
    *(uint32_t *)arg = s->lanes;
}

static uint32_t lanes_now(void) {
    uint32_t n;
    yk_shard_call(rig.engine->shards[0], lanes_of, &n);
    return n;
}

/* More peers than there is room for: those that lie idle give theirs, and have it again when they are wanted. */
static void idle_lanes_make_room(void **state) {
    enum { PEERS = 6, KEPT = 4 };
    yk_xfer_segment segments[PEERS];
    struct yk_err err;
    (void)state;
    fake_begin(&rig, 1, 400e6, 4 * MB, NULL);
    rig.engine->lanes_kept = KEPT;
    rig.engine->evict_ns = 0;
    segments[0] = rig.segment;
    for (uint32_t i = 1; i < PEERS; i++) {
        struct yk_peer_info info = {.incarnation = 5000 + i};
        struct yk_seg seg = {.region = 1, .len = fake.bytes, .access = YK_XFER_REMOTE_READ | YK_XFER_REMOTE_WRITE};
        assert_int_equal(yk_engine_peer(rig.engine, &info, 0, &seg.peer, &err), 0);
        assert_int_equal(yk_engine_segment(rig.engine, &seg, 0, &segments[i], &err), 0);
        yk_peer_put(seg.peer);
    }
    for (uint32_t round = 0; round < 3; round++)
        for (uint32_t i = 0; i < PEERS; i++) {
            rig.segment = segments[i];
            move_all(round % 2 ? YK_XFER_WRITE : YK_XFER_READ, MB, round * PEERS + i);
            assert_true(lanes_now() <= KEPT);
        }
    assert_true(fake.rail[0].downs >= PEERS);
    assert_int_equal(lanes_now(), fake.rail[0].connects - fake.rail[0].downs);
    fake_end(&rig);
}

/* As it is of a rail whose lanes came up just now. */
static void not_used_yet(struct yk_shard *s, void *arg) {
    (void)arg;
    for (uint32_t p = 0; p < s->route_cap; p++)
        if (s->routes[p] != NULL)
            s->routes[p]->rails[0]->used_ns = 0;
}

/* A lane that has just come up, and was not used yet, is not one that has been idle for long. */
static void a_new_lane_is_not_idle(void **state) {
    yk_xfer_submit_opts so = {.size = sizeof(so), .timeout_ms = 300};
    struct yk_peer_info info = {.incarnation = 5000};
    struct yk_err err;
    (void)state;
    fake_begin(&rig, 1, 400e6, MB, NULL);
    struct yk_seg seg = {.region = 1, .len = fake.bytes, .access = YK_XFER_REMOTE_READ | YK_XFER_REMOTE_WRITE};
    rig.engine->evict_ns = 3600 * YK_NS_PER_S;
    move_all(YK_XFER_READ, MB, 1);
    yk_shard_call(rig.engine->shards[0], not_used_yet, NULL);
    rig.engine->lanes_kept = lanes_now();
    assert_int_equal(yk_engine_peer(rig.engine, &info, 0, &seg.peer, &err), 0);
    assert_int_equal(yk_engine_segment(rig.engine, &seg, 0, &rig.segment, &err), 0);
    yk_peer_put(seg.peer);
    yk_xfer_request q = fake_request(&rig, YK_XFER_READ, 0, MB);
    assert_int_equal(yk_xfer_run(rig.engine, &q, 1, &so), -YK_ETIMEDOUT);
    assert_int_equal(fake.rail[0].downs, 0);
    fake_end(&rig);
}

/* Memory that is unregistered while a lane is at it: its keys are there until the lane has done (fake.torn). */
static void keys_go_last(void **state) {
    yk_xfer_submit_opts so = {.size = sizeof(so), .timeout_ms = 60000};
    yk_xfer_batch b;
    (void)state;
    fake_begin(&rig, 1, 20e6, 4 * MB, NULL);
    fake.keeps_on = 1;
    yk_xfer_request q = fake_request(&rig, YK_XFER_READ, 0, 4 * MB);
    void *addr = rig.local;
    assert_int_equal(yk_xfer_submit(rig.engine, &q, 1, &so, &b), 0);
    fake_wait(&fake.rail[0].slices, 1);
    assert_int_equal(yk_xfer_unregister(rig.engine, &addr, 1), 0);
    assert_int_equal(fake.torn, 0);
    (void)yk_xfer_wait(rig.engine, b, 60000);
    assert_int_equal(yk_xfer_batch_free(rig.engine, b), 0);
    fake_end(&rig);
}

/* A lane that does not come up since the peer has no room costs none of ours, as one for which this process lacks
 * something does; what is up goes on in both cases. */
static void want_of_the_peer_is_not_ours(void **state) {
    static const int codes[] = {-YK_EBUSY, -YK_ELIMIT};
    (void)state;
    for (uint32_t i = 0; i < 2; i++) {
        yk_xfer_opts o = {.size = sizeof(o), .stall_ms = 40};
        yk_xfer_submit_opts so = {.size = sizeof(so), .timeout_ms = 60000};
        yk_xfer_batch b;
        struct yk_peer_info info = {.incarnation = 6000};
        struct yk_seg seg = {.region = 1, .len = 4 * MB, .access = YK_XFER_REMOTE_READ | YK_XFER_REMOTE_WRITE};
        struct yk_err err;
        fake_begin(&rig, 1, 400e6, 4 * MB, &o);
        rig.engine->evict_ns = 0;
        yk_xfer_segment first = rig.segment, second;
        move_all(YK_XFER_READ, MB, i);
        assert_int_equal(yk_engine_peer(rig.engine, &info, 0, &seg.peer, &err), 0);
        assert_int_equal(yk_engine_segment(rig.engine, &seg, 0, &second, &err), 0);
        yk_peer_put(seg.peer);
        fake.rail[0].refusal = codes[i];
        __atomic_store_n(&fake.rail[0].meagre, 1, __ATOMIC_RELEASE);
        rig.segment = second;
        yk_xfer_request q = fake_request(&rig, YK_XFER_READ, 0, 4096);
        uint32_t before = __atomic_load_n(&fake.rail[0].connects, __ATOMIC_ACQUIRE);
        assert_int_equal(yk_xfer_submit(rig.engine, &q, 1, &so, &b), 0);
        fake_wait(&fake.rail[0].connects, before + 3); /* the first has failed by the time of the last */
        assert_int_equal(yk_xfer_cancel(rig.engine, b), 0);
        (void)yk_xfer_wait(rig.engine, b, 60000);
        assert_int_equal(yk_xfer_batch_free(rig.engine, b), 0);
        __atomic_store_n(&fake.rail[0].meagre, 0, __ATOMIC_RELEASE);
        rig.segment = first;
        before = __atomic_load_n(&fake.rail[0].connects, __ATOMIC_ACQUIRE);
        move_all(YK_XFER_READ, MB, i);
        assert_int_equal(fake.rail[0].connects == before, codes[i] == -YK_EBUSY);
        fake_end(&rig);
    }
    assert_int_equal(yk_peer_said(-YK_ELIMIT), -YK_EBUSY);
    assert_int_equal(yk_peer_said(-YK_EPERM), -YK_EPERM);
}

static void *let_go_soon(void *arg) {
    (void)arg;
    (void)poll(NULL, 0, 30);
    __atomic_store_n(&fake.pins, 0, __ATOMIC_RELEASE);
    return NULL;
}

/* A device that does not let go of memory: unregistering ends, the memory is used for nothing new and its place stays
 * taken, and who asks again learns when it is free. */
static void a_device_that_does_not_let_go(void **state) {
    static char more[4096];
    yk_xfer_opts o = {.size = sizeof(o)};
    pthread_t other;
    (void)state;
    fake_begin(&rig, 1, 1e9, MB, &o);
    rig.engine->unregister_ns = 20 * YK_NS_PER_MS;
    void *addr = rig.local;
    fake.pins = 1;
    assert_int_equal(yk_xfer_unregister(rig.engine, &addr, 1), -YK_ETIMEDOUT);
    assert_non_null(strstr(yk_xfer_error_text(), "device"));
    batch[0] = fake_request(&rig, YK_XFER_READ, 0, 4096);
    assert_true(yk_xfer_run(rig.engine, batch, 1, NULL) < 0);
    yk_xfer_memory again = {.addr = rig.local, .length = MB, .fd = -1};
    assert_int_equal(yk_xfer_register(rig.engine, &again, 1), -YK_EINVAL);
    assert_int_equal(yk_xfer_unregister(rig.engine, &addr, 1), -YK_ETIMEDOUT);
    rig.engine->unregister_ns = 10 * YK_NS_PER_S;
    assert_int_equal(pthread_create(&other, NULL, let_go_soon, NULL), 0);
    assert_int_equal(yk_xfer_unregister(rig.engine, &addr, 1), 0);
    assert_int_equal(pthread_join(other, NULL), 0);
    assert_int_equal(yk_xfer_unregister(rig.engine, &addr, 1), -YK_ENOENT);
    assert_int_equal(yk_xfer_register(rig.engine, &again, 1), 0);
    void *two[] = {rig.local, more};
    yk_xfer_memory beside = {.addr = more, .length = sizeof(more), .fd = -1};
    assert_int_equal(yk_xfer_register(rig.engine, &beside, 1), 0);
    fake.pins = 1;
    rig.engine->unregister_ns = 20 * YK_NS_PER_MS;
    assert_int_equal(yk_xfer_unregister(rig.engine, two, 2), -YK_ETIMEDOUT);
    assert_int_equal(yk_xfer_unregister(rig.engine, two, 2), -YK_ETIMEDOUT);
    fake.pins = 0;
    assert_int_equal(yk_xfer_unregister(rig.engine, &two[1], 1), 0);
    assert_int_equal(yk_xfer_unregister(rig.engine, two, 2), -YK_ENOENT);
    assert_int_equal(yk_xfer_unregister(rig.engine, two, 1), 0);
    assert_int_equal(yk_xfer_register(rig.engine, &again, 1), 0);
    fake.pins = 1; /* the engine's end does not wait for it without end, */
    rig.engine->unregister_ns = 20 * YK_NS_PER_MS;
    fake_end(&rig);
}

/* nor the end of memory that the engine has allocated. */
static void allocated_memory_that_is_not_let_go(void **state) {
    yk_xfer_opts o = {.size = sizeof(o)};
    void *addr;
    (void)state;
    fake_begin(&rig, 1, 1e9, MB, &o);
    rig.engine->unregister_ns = 20 * YK_NS_PER_MS;
    assert_int_equal(yk_xfer_alloc(rig.engine, MB, 0, &addr), 0);
    fake.pins = 1;
    assert_int_equal(yk_xfer_free(rig.engine, addr), -YK_ETIMEDOUT);
    memset(addr, 1, MB); /* it is there yet */
    fake.pins = 0;
    rig.engine->unregister_ns = 10 * YK_NS_PER_S;
    assert_int_equal(yk_xfer_free(rig.engine, addr), 0);
    assert_int_equal(yk_xfer_free(rig.engine, addr), -YK_ENOENT);
    fake_end(&rig);
}

static void *unregister_it(void *arg) {
    *(int *)arg = yk_xfer_unregister(rig.engine, (void *[]){rig.local}, 1);
    return NULL;
}

/* Who unregisters what another thread is unregistering is not told that it is free. */
static void two_that_unregister(void **state) {
    yk_xfer_opts o = {.size = sizeof(o)};
    pthread_t other;
    int rc = 1;
    (void)state;
    fake_begin(&rig, 1, 1e9, MB, &o);
    rig.engine->unregister_ns = 60 * YK_NS_PER_S;
    void *addr = rig.local;
    __atomic_store_n(&fake.pins, 1, __ATOMIC_RELEASE);
    assert_int_equal(pthread_create(&other, NULL, unregister_it, &rc), 0);
    uint64_t until = yk_now_ns() + 30 * YK_NS_PER_S;
    struct yk_region *r;
    while ((r = yk_registry_find(rig.engine->registry, addr, 1)) != NULL && yk_now_ns() < until) {
        yk_registry_put(rig.engine->registry, r);
        (void)poll(NULL, 0, 1);
    }
    assert_int_equal(yk_xfer_unregister(rig.engine, &addr, 1), -YK_EBUSY);
    __atomic_store_n(&fake.pins, 0, __ATOMIC_RELEASE);
    assert_int_equal(pthread_join(other, NULL), 0);
    assert_int_equal(rc, 0);
    assert_int_equal(yk_xfer_unregister(rig.engine, &addr, 1), -YK_ENOENT);
    fake_end(&rig);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lanes_of_a_burst_go_again),
        cmocka_unit_test(a_lane_that_cannot_be_had),
        cmocka_unit_test(a_lane_that_lacks_something_in_the_end),
        cmocka_unit_test(a_rail_that_is_long_in_connecting),
        cmocka_unit_test(idle_lanes_make_room),
        cmocka_unit_test(a_new_lane_is_not_idle),
        cmocka_unit_test(keys_go_last),
#ifndef __SANITIZE_THREAD__
        cmocka_unit_test(nothing_runs_when_all_has_ended),
#endif
        cmocka_unit_test(want_of_the_peer_is_not_ours),
        cmocka_unit_test(a_device_that_does_not_let_go),
        cmocka_unit_test(two_that_unregister),
        cmocka_unit_test(allocated_memory_that_is_not_let_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
