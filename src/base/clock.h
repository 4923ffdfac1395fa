/* SPDX-License-Identifier: Apache-2.0
 *
 * The three clocks of the program, each with one use.
 *
 * yk_now_ns   monotonic: latencies, deadlines, back-off. It stops while the machine sleeps.
 * yk_boot_ms  monotonic including sleep: leases and times to live counted by one boot, so that a
 *             suspended machine finds them expired when it wakes.
 * yk_wall_ms  the calendar: log stamps, expiry that must survive a reboot. It may step either way.
 *
 * Inline, since the first is read twice in every measured operation (a vDSO call, 30 ns measured).
 * The code under sched/ has no clock: times are passed in, so that the simulator can pass its own.
 *
 * Thread: any.
 */
#ifndef YK_BASE_CLOCK_H
#define YK_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_NS_PER_US 1000ull
#define YK_NS_PER_MS 1000000ull
#define YK_NS_PER_S  1000000000ull

static inline uint64_t yk_now_ns(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * YK_NS_PER_S + (uint64_t)ts.tv_nsec;
}

static inline uint64_t yk_boot_ms(void) {
    struct timespec ts;
    clock_gettime(CLOCK_BOOTTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000u + (uint64_t)ts.tv_nsec / YK_NS_PER_MS;
}

/* The same in nanoseconds. */
static inline uint64_t yk_boot_ns(void) {
    struct timespec ts;
    clock_gettime(CLOCK_BOOTTIME, &ts);
    return (uint64_t)ts.tv_sec * YK_NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* Milliseconds since 1970-01-01 UTC. */
static inline uint64_t yk_wall_ms(void) {
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000u + (uint64_t)ts.tv_nsec / YK_NS_PER_MS;
}

#ifdef __cplusplus
}
#endif

#endif
