/* SPDX-License-Identifier: Apache-2.0
 *
 * What the benchmarks of the store share: a node of their own with a client, keys, time.
 *
 * Threads: one.
 */
#ifndef YK_BENCH_RIG_H
#define YK_BENCH_RIG_H

#include "bench/bench.h"
#include "bench/measure.h"
#include "replay/own.h"

#include <yolk/yolk.h>

#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_RIG_KEY_BYTES 16u

/* A run of `yolk bench NAME`. */
struct yk_bench_run {
    const struct yk_bench_opts *opts;
    struct yk_bench_report report;
    double seconds; /* for what is measured together */
    uint64_t seed;
};

void yk_bench_run_init(struct yk_bench_run *run, const char *name, const struct yk_bench_opts *opts,
                       double seconds, double seconds_quick);

/* Where this process runs, and what it forks: on one processor (YK_BENCH_HERE), on another core of
 * the same package (YK_BENCH_THERE), or anywhere. A ping-pong between two processes takes three times
 * as long across cores as on one, and which of them the scheduler chooses changes from second to
 * second: cases of one client and its node, and the ping-pong beside them, are held across. No effect
 * where there is one core only. */
enum yk_bench_place { YK_BENCH_ANYWHERE, YK_BENCH_HERE, YK_BENCH_THERE };
void yk_bench_run_at(enum yk_bench_place place);

/* A node and a client of it. */
struct yk_rig {
    struct yk_own own;
    yk_client *client;
};

/* Failures are told on standard error and returned. flags: enum yk_open_flags. */
int yk_rig_open(struct yk_rig *rig, const struct yk_own_opts *opts, uint32_t flags);
int yk_rig_connect(const char *url, uint32_t flags, yk_client **ret_client);
void yk_rig_close(struct yk_rig *rig);

/* Writes key number i: 16 binary bytes, like a 128-bit hash. Made where it is used, since a table of
 * a million keys would add cache misses of the benchmark's own to those of the lookup. */
static inline void yk_rig_key(uint64_t i, char key[YK_RIG_KEY_BYTES]) {
    uint64_t words[2] = {i * UINT64_C(0x9e3779b97f4a7c15), i};
    memcpy(key, words, sizeof(words));
}

/* n keys, from number `first` on. */
struct yk_rig_keys {
    char *bytes;
    yk_key *keys;
    uint64_t n;
};
int yk_rig_keys_make(struct yk_rig_keys *k, uint64_t first, uint64_t n);
void yk_rig_keys_free(struct yk_rig_keys *k);

/* Puts keys [0, n) of so many bytes each, in batches; the payload is data's first len bytes. Stops
 * at the first failure. */
int yk_rig_fill(yk_client *c, const struct yk_rig_keys *k, uint64_t first, uint64_t n,
                const void *data, size_t len);

/* Bytes of memory that a benchmark may take: `wish`, or a third of what the machine has left. */
uint64_t yk_rig_memory(uint64_t wish);

/* A failed call of libyolk: tells it on standard error and returns status. */
int yk_rig_failed(const yk_client *c, const char *what, int status);

#ifdef __cplusplus
}
#endif

#endif
