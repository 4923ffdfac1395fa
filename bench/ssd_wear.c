/* SPDX-License-Identifier: Apache-2.0
 *
 * What the log costs beside the blocks: bytes written for each byte of payload, and memory for each block.
 *
 * Write amplification is taken from the tier's own counters after the device was filled once, over as many
 * bytes as it holds. In order: blocks expire in the order in which they came, when four fifths of the
 * device are full of younger ones. At random: 90 % of the device are kept live, for each new block one goes
 * that was taken at random, and three are used, so that the cleaner has to keep what it can.
 */
#include "bench/ssd_priv.h"

#define BYTES        (256 * KIB)
#define TINY_BYTES   64u
#define TINY         1048576u
#define TINY_QUICK   20000u
#define LIVE_PERCENT 90u
#define PERCENT      100u
#define IN_ORDER     80u /* percent of the device */

static double ratio(const struct yk_ssd_counters *from, const struct yk_ssd_counters *to) {
    return (double)(to->written_bytes - from->written_bytes) /
           (double)(to->put_bytes - from->put_bytes);
}

/* Fills, then counts while as much is written again. */
static int amplification(struct ssd_bench *b, const char *name, uint64_t ttl_percent,
                         uint32_t keep_percent) {
    struct ssd_tier_opts to = {.block_bytes = BYTES, .size_bytes = b->size / 2 / MIB * MIB};
    struct yk_ssd_counters from, until;
    struct ssd_tier *t;
    uint64_t n = to.size_bytes / BYTES, ttl = n * ttl_percent / PERCENT;
    ssd_progress(b, "%s", name);
    int rc = ssd_tier_open(b, &to, &t);
    if (rc < 0)
        return rc;
    rc = ssd_tier_fill(t, n + n / 4u, ttl, keep_percent);
    yk_ssd_counters_get(ssd_tier_ssd(t), &from);
    if (rc == 0)
        rc = ssd_tier_fill(t, n, ttl, keep_percent);
    yk_ssd_counters_get(ssd_tier_ssd(t), &until);
    if (rc == 0) {
        char text[96];
        struct yk_bench_row r = YK_BENCH_ROW(name, "fraction", ratio(&from, &until));
        yk_bench_report_row(&b->run.report, &r);
        snprintf(text, sizeof(text), "base dropped live, %s", name);
        r = YK_BENCH_ROW(text, "fraction",
                         (double)(until.clean_dropped_bytes - from.clean_dropped_bytes) /
                             (double)(until.put_bytes - from.put_bytes));
        yk_bench_report_row(&b->run.report, &r);
    }
    ssd_tier_close(t);
    return rc;
}

int ssd_wear(struct ssd_bench *b) {
    int rc = amplification(b, "write amplification in order", IN_ORDER, 0);
    return rc < 0 ? rc : amplification(b, "write amplification random 90%", 0, LIVE_PERCENT);
}

int ssd_index(struct ssd_bench *b) {
    uint64_t n = b->run.opts->quick ? TINY_QUICK : TINY;
    struct ssd_tier_opts to = {.block_bytes = TINY_BYTES};
    struct yk_ssd_counters c;
    struct ssd_tier *t;
    ssd_progress(b, "index bytes a block");
    int rc = ssd_tier_open(b, &to, &t);
    if (rc < 0)
        return rc;
    rc = ssd_tier_fill(t, n, 0, 0);
    yk_ssd_counters_get(ssd_tier_ssd(t), &c);
    if (rc == 0 && c.blocks > 0) {
        struct yk_bench_row r = YK_BENCH_ROW("base index blocks", "1", (double)c.blocks);
        yk_bench_report_row(&b->run.report, &r);
        r = YK_BENCH_ROW("index bytes a block", "B", (double)c.meta_bytes / (double)c.blocks);
        yk_bench_report_row(&b->run.report, &r);
    }
    ssd_tier_close(t);
    return rc;
}
