/* SPDX-License-Identifier: Apache-2.0
 *
 * What memory does, on each of the two ranges: how long a load takes that waits for the one before, and how much a copy
 * moves in a second.
 *
 * It reads alone, since what stands there may be blocks: the chain of loads takes its next address from a number of its
 * own and what it has loaded, whatever that is. Caches are emptied of the range before each look, where the processor
 * has an instruction for that. Of many short looks the best counts: a machine that is busy is not slow memory. Pages are
 * had before they are read; where there are none, and on processors without the instruction, the figures are as common
 * devices have them.
 *
 * Threads: the owner's, at a start. Some 50 ms.
 */
#include "node/cxl_priv.h"

#include "base/clock.h"
#include "base/copyhash.h"

#include <stdlib.h>

#define BYTES  (8ull << 20)
#define LOOKS  3u
#define PIECE  (256ull << 10)
#define RUNS   16u
#define LOADS  256u
#define LINE   64u
#define DRAM_LAT_NS 100u
#define DRAM_BPS    10000000000ull
#define SLOW_LAT_NS 300u
#define SLOW_BPS    4000000000ull

/* 0 where there is no such instruction. */
static int uncache(const unsigned char *p, uint64_t bytes) {
#if defined(__x86_64__)
    for (uint64_t at = 0; at < bytes; at += LINE)
        __builtin_ia32_clflush(p + at);
    __builtin_ia32_mfence();
    return 1;
#elif defined(__aarch64__)
    for (uint64_t at = 0; at < bytes; at += LINE)
        __asm__ volatile("dc civac, %0" ::"r"(p + at) : "memory");
    __asm__ volatile("dsb ish" ::: "memory");
    return 1;
#else
    (void)p;
    (void)bytes;
    return 0;
#endif
}

static void best(uint64_t *io, uint64_t ns) {
    *io = ns < *io ? ns : *io;
}

/* The quickest piece, in ns. */
static uint64_t copy_ns(const unsigned char *from, unsigned char *to, uint64_t bytes) {
    uint64_t least = UINT64_MAX;
    for (uint64_t at = 0; at + PIECE <= bytes; at += PIECE) {
        uint64_t begun = yk_now_ns();
        yk_copy(to + at, from + at, PIECE);
        best(&least, yk_now_ns() - begun);
    }
    return least;
}

/* The quickest run of LOADS, in ns. */
static uint64_t chain_ns(const unsigned char *p, uint64_t bytes) {
    uint64_t least = UINT64_MAX, x = 1;
    for (uint32_t run = 0; run < RUNS; run++) {
        uint64_t begun = yk_now_ns();
        for (uint32_t i = 0; i < LOADS; i++) {
            uint64_t at = (x >> 20) % (bytes / LINE) * LINE;
            uint64_t got = __atomic_load_n((const uint64_t *)(const void *)(p + at), __ATOMIC_RELAXED);
            x = (x + i) * 0x9e3779b97f4a7c15ull + got;
        }
        best(&least, yk_now_ns() - begun);
    }
    return least + (x == 0); /* the last number is used, or the compiler would leave the loads out */
}

static void look(const unsigned char *p, uint64_t bytes, uint64_t *io_lat_ns, uint64_t *io_bps) {
    unsigned char *to = malloc(bytes);
    uint64_t copied = UINT64_MAX, chained = UINT64_MAX;
    if (to == NULL)
        return;
    copy_ns(p, to, bytes); /* both are mapped then */
    for (uint32_t i = 0; i < LOOKS && uncache(p, bytes); i++) {
        best(&copied, copy_ns(p, to, bytes));
        uncache(p, bytes);
        best(&chained, chain_ns(p, bytes));
    }
    free(to);
    if (copied == UINT64_MAX || copied == 0)
        return;
    *io_bps = (uint64_t)((double)PIECE * 1e9 / (double)copied);
    *io_lat_ns = chained / LOADS + 1u;
}

static void look_at(struct yk_store *s, uint64_t offset, uint64_t range, uint64_t *io_lat_ns, uint64_t *io_bps,
                    uint64_t lat_ns, uint64_t bps) {
    uint64_t bytes = (range < BYTES ? range : BYTES) & ~(PIECE - 1u);
    if (*io_lat_ns != 0 && *io_bps != 0)
        return;
    if (*io_lat_ns != 0)
        lat_ns = *io_lat_ns;
    if (*io_bps != 0)
        bps = *io_bps;
    uint64_t seen_lat = lat_ns, seen_bps = bps;
    if (bytes != 0 && yk_store_back(s, offset, bytes) == 0)
        look((const unsigned char *)s->seg.data + offset, bytes, &seen_lat, &seen_bps);
    *io_lat_ns = *io_lat_ns != 0 ? lat_ns : seen_lat;
    *io_bps = *io_bps != 0 ? bps : seen_bps;
}

void cxl_measure(struct yk_store *s, struct yk_cxl_figures *io) {
    look_at(s, 0, s->dram_bytes, &io->dram_lat_ns, &io->dram_bps, DRAM_LAT_NS, DRAM_BPS);
    look_at(s, s->dram_bytes, s->cxl->bytes, &io->slow_lat_ns, &io->slow_bps, SLOW_LAT_NS, SLOW_BPS);
}
