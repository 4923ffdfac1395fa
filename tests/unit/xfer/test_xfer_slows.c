/* SPDX-License-Identifier: Apache-2.0
 *
 * A rail that becomes slower loses its share within 10 ms of evidence, and one that becomes faster gets it; a lane that
 * is silent goes without the others: over the scripted transport, and in time that this program makes. The clock and the loop's sleep are in place of the C
 * library's: a loop that would sleep moves the clock on by a step, so that each run is the same, however busy the
 * machine is.
 *
 * Thread: one; who waits for the batch turns the shard.
 */
#include "fake.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MB      (1u << 20)
#define MS      YK_NS_PER_MS
#define STEP_NS 50000u

static uint64_t now_ns = YK_NS_PER_S; /* atomic */
static uint64_t change_ns;            /* then rail 0 has another speed */
static double change_to;

int clock_gettime(clockid_t id, struct timespec *ts) {
    if (id != CLOCK_MONOTONIC)
        return (int)syscall(SYS_clock_gettime, id, ts);
    uint64_t now = __atomic_load_n(&now_ns, __ATOMIC_RELAXED);
    *ts = (struct timespec){.tv_sec = (time_t)(now / YK_NS_PER_S), .tv_nsec = (long)(now % YK_NS_PER_S)};
    return 0;
}

int epoll_wait(int fd, struct epoll_event *events, int most, int timeout_ms) {
    int n = (int)syscall(SYS_epoll_pwait, fd, events, most, 0, NULL, 0);
    if (n == 0 && timeout_ms != 0) {
        uint64_t now = __atomic_add_fetch(&now_ns, STEP_NS, __ATOMIC_RELAXED);
        if (change_ns != 0 && now >= change_ns) {
            fake.rail[0].bytes_per_s = change_to;
            change_ns = 0;
        }
    }
    return n;
}

static struct fake_rig rig;

/* All of the segment. */
static void move_all(uint32_t op, uint64_t each) {
    static yk_xfer_request q[256];
    yk_xfer_submit_opts so = {.size = sizeof(so), .xclass = YK_XFER_DEMAND, .flags = YK_XFER_WILL_WAIT};
    yk_xfer_batch b;
    uint32_t n = 0;
    for (uint64_t at = 0; at < fake.bytes; at += each)
        q[n++] = fake_request(&rig, op, at, each);
    assert_int_equal(yk_xfer_submit(rig.engine, q, n, &so, &b), 0);
    assert_int_equal(yk_xfer_wait(rig.engine, b, UINT32_MAX), 0);
    assert_int_equal(yk_xfer_batch_free(rig.engine, b), 0);
}

/* Reads; rail 0 changes its speed so much later. Returns when that was. */
static uint64_t run(uint64_t after_ns, double to) {
    uint64_t when = now_ns + after_ns;
    fake.log_count = 0;
    change_to = to;
    change_ns = when;
    move_all(YK_XFER_READ, 4 * MB);
    assert_true(fake.log_count < FAKE_LOG && change_ns == 0);
    return when;
}

/* What part of the bytes that were given to rails in that time rail 0 has got. */
static double share(uint64_t from_ns, uint64_t to_ns) {
    double mine = 0, all = 0;
    for (uint32_t i = 0; i < fake.log_count; i++) {
        const struct fake_post *p = &fake.log[i];
        if (p->at_ns < from_ns || p->at_ns >= to_ns)
            continue;
        all += (double)p->len;
        mine += p->rail == 0 ? (double)p->len : 0;
    }
    assert_true(all > 0);
    return mine / all;
}

/* When the new speed can first be seen: the first slice that was given to rail 0 at that speed ends, or would have
 * ended at the old one, whichever is sooner. */
static uint64_t evidence(uint64_t when, double before) {
    for (uint32_t i = 0; i < fake.log_count; i++) {
        const struct fake_post *p = &fake.log[i];
        if (p->rail != 0 || p->at_ns < when)
            continue;
        uint64_t took = (uint64_t)((double)p->len / fake.rail[0].bytes_per_s * 1e9);
        uint64_t would = p->due_ns - took + (uint64_t)((double)p->len / before * 1e9);
        return would < p->due_ns ? would : p->due_ns;
    }
    fail_msg("rail 0 was not used");
    return 0;
}

static void changes(double before, double after) {
    fake_begin(&rig, 2, 200e6, 64 * MB, NULL);
    fake.rail[0].bytes_per_s = before;
    uint64_t when = run(50 * MS, after), seen = evidence(when, before);
    double fair = after / (after + 200e6);
    double had = share(when - 20 * MS, when), has = share(seen + 10 * MS, seen + 60 * MS);
    print_message("%3.0f -> %3.0f MB/s beside 200: its share %.3f -> %.3f, by speed %.3f\n", before / 1e6, after / 1e6,
                  had, has, fair);
    if (after < before)
        assert_true(had > 0.4 && has < fair * 1.2 + 0.01);
    else
        assert_true(had < 0.3 && has > fair * 0.8);
    fake_end(&rig);
}

static void slower(void **state) {
    (void)state;
    changes(200e6, 100e6);
    changes(200e6, 50e6);
    changes(200e6, 20e6);
    changes(200e6, 2e6);
    changes(400e6, 40e6);
}

static void faster(void **state) {
    (void)state;
    changes(50e6, 200e6);
    changes(20e6, 200e6);
    changes(20e6, 100e6);
}

/* Others of its rail move meanwhile: they stay, with another rail to go to and without. */
static void a_silent_lane_goes_alone(void **state) {
    yk_xfer_opts o = {.size = sizeof(o), .stall_ms = 100, .lanes = 4, .connect_ms = 50};
    (void)state;
    for (uint32_t rails = 1; rails <= 2; rails++)
        for (uint32_t op = YK_XFER_READ; op <= YK_XFER_WRITE; op++) {
            fake_begin(&rig, rails, 40e6, 32 * MB * rails, &o);
            memset(op == YK_XFER_READ ? fake.memory : rig.local, 7, fake.bytes);
            move_all(op, 1 * MB);
            assert_int_equal(fake.rail[0].connects, 4);
            fake.rail[0].deaf = 1; /* the first that was made */
            memset(op == YK_XFER_READ ? fake.memory : rig.local, 9, fake.bytes);
            move_all(op, 1 * MB);
            assert_int_equal(fake.rail[0].downs, 1);
            assert_int_equal(fake.rail[0].connects, 5); /* another came in its place */
            assert_int_equal(fake.rail[1].downs, 0);
            assert_memory_equal(fake.memory, rig.local, fake.bytes);
            fake_end(&rig);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slower),
        cmocka_unit_test(faster),
        cmocka_unit_test(a_silent_lane_goes_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
