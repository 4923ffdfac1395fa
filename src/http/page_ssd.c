/* SPDX-License-Identifier: Apache-2.0
 *
 * The metrics page, the part of the SSD tier (http_priv.h): movement between the tiers, what stands on
 * SSD, and each device. Without the tier only the movement rows are there, all 0, so that a rule over
 * several nodes needs no case for those without.
 *
 * Threads: as page.c.
 */
#include "http/http_priv.h"

#include <stddef.h>

#define C YK_METRIC_COUNTER
#define G YK_METRIC_GAUGE

struct row {
    const char *name, *help;
    enum yk_metric_type type;
    double divisor;
    size_t offset;
    const char *label, *value;
};

#define HITS_HELP     "Lookups of payload that hit, by the tier that the block was in."
#define MISSES_HELP   "Lookups of payload that missed in a tier; one that SSD answers missed in DRAM."
#define BLOCKS_HELP   "Blocks that can be found."
#define BYTES_HELP    "Payload bytes of blocks that can be found."
#define CAPACITY_HELP "Size of the tier."
#define MOVED_HELP    "Blocks that moved between the tiers, by way."
#define MOVED_B_HELP  "Bytes that moved between the tiers, by way."
#define GONE_HELP     "Blocks that left SSD, by reason."

/* Of the node's counters and what is derived from them. */
#define STORE(type, name, help, field, label, value)                                               \
    { name, help, type, 0, offsetof(struct http_ssd, now.store.field), label, value }
#define DERIVED(type, name, help, field, label, value)                                             \
    { name, help, type, 0, offsetof(struct http_ssd, field), label, value }

static const struct row node_rows[] = {
    DERIVED(C, "yolk_tier_hits_total", HITS_HELP, dram_hits, "tier", "dram"),
    STORE(C, "yolk_tier_hits_total", HITS_HELP, ssd_hits, "tier", "ssd"),
    DERIVED(C, "yolk_tier_misses_total", MISSES_HELP, dram_misses, "tier", "dram"),
    DERIVED(C, "yolk_tier_misses_total", MISSES_HELP, ssd_misses, "tier", "ssd"),
    DERIVED(C, "yolk_tier_hit_bytes_total", "Payload bytes of hits, by tier.", dram_hit_bytes,
            "tier", "dram"),
    STORE(C, "yolk_tier_hit_bytes_total", "Payload bytes of hits, by tier.", ssd_hit_bytes, "tier",
          "ssd"),
    STORE(C, "yolk_tier_moves_total", MOVED_HELP, demoted, "way", "demoted"),
    STORE(C, "yolk_tier_moves_total", MOVED_HELP, raised, "way", "raised"),
    STORE(C, "yolk_tier_moved_bytes_total", MOVED_B_HELP, demoted_bytes, "way", "demoted"),
    STORE(C, "yolk_tier_moved_bytes_total", MOVED_B_HELP, raised_bytes, "way", "raised"),
    STORE(C, "yolk_demotions_failed_total", "Blocks that could not be written to SSD and left.",
          demote_failed, NULL, NULL),
    STORE(C, "yolk_demotions_refused_total", "Blocks that were not worth a write.", demote_refused,
          NULL, NULL),
    STORE(C, "yolk_demotions_hurried_total",
          "Blocks that left unwritten, so that a put did not wait longer for a slow SSD.",
          demote_hurried, NULL, NULL),
    STORE(C, "yolk_raises_failed_total", "Blocks that could not be brought up from SSD.",
          raise_failed, NULL, NULL),
    STORE(C, "yolk_raises_yielded_total",
          "Blocks that came up, did not deserve to stay, and went first again.", yielded, NULL, NULL),
    STORE(C, "yolk_prefetched_total", "Blocks brought up before they were asked for.", prefetched,
          NULL, NULL),
    STORE(C, "yolk_prefetch_ahead_asked_total", "Blocks that the policy said are due, on SSD or not.",
          prefetch_ahead_asked, NULL, NULL),
    STORE(C, "yolk_prefetch_ahead_moved_total", "Blocks of those that came up before they were asked for.",
          prefetch_ahead_moved, NULL, NULL),
    STORE(C, "yolk_prefetch_ahead_used_total", "Blocks that came up so, and were used.", prefetch_ahead_used, NULL,
          NULL),
    STORE(C, "yolk_prefetch_ahead_wasted_total", "Blocks that came up so, and left unused.", prefetch_ahead_wasted,
          NULL, NULL),
    STORE(C, "yolk_prefetch_ahead_cancelled_total",
          "Blocks that were due, and were not needed any more, or nowhere, before they came up.",
          prefetch_ahead_cancelled, NULL, NULL),
    STORE(G, "yolk_prefetch_ahead_waiting", "Blocks that are due, and whose reads are not begun.",
          prefetch_ahead_waiting, NULL, NULL),
    STORE(G, "yolk_preload_bytes", "Preloading after a start: what is up, and what is to be.",
          preloaded_bytes, "state", "done"),
    STORE(G, "yolk_preload_bytes", "Preloading after a start: what is up, and what is to be.",
          preload_goal, "state", "goal"),
    STORE(G, "yolk_leaving_bytes", "Payload bytes in memory that are on their way to SSD.",
          leaving_bytes, NULL, NULL),
    STORE(G, "yolk_raising_blocks", "Blocks on their way up, or waiting for it.", raising, NULL,
          NULL),
};

#define SSD(type, name, help, field, label, value)                                                 \
    { name, help, type, 0, offsetof(struct http_ssd, ssd.field), label, value }

static const struct row ssd_rows[] = {
    SSD(G, "yolk_blocks", BLOCKS_HELP, blocks, "tier", "ssd"),
    SSD(G, "yolk_block_bytes", BYTES_HELP, block_bytes, "tier", "ssd"),
    SSD(G, "yolk_tier_capacity_bytes", CAPACITY_HELP, capacity_bytes, "tier", "ssd"),
    SSD(G, "yolk_ssd_free_bytes", "Bytes of segments that hold nothing.", free_bytes, NULL, NULL),
    SSD(G, "yolk_ssd_queued_bytes", "Payload bytes that wait to be written.", queued_bytes, NULL,
        NULL),
    SSD(G, "yolk_ssd_reads", "Reads of blocks under way.", reads_now, NULL, NULL),
    SSD(G, "yolk_ssd_metadata_bytes", "Memory of the tier's table, by what it holds.", meta_bytes,
        "kind", "index"),
    SSD(G, "yolk_ssd_metadata_bytes", "Memory of the tier's table, by what it holds.", key_bytes,
        "kind", "keys"),
    SSD(G, "yolk_ssd_devices", "Devices of the tier, by state.", devices_ok, "state", "ok"),
    DERIVED(G, "yolk_ssd_devices", "Devices of the tier, by state.", degraded, "state", "degraded"),
    DERIVED(G, "yolk_ssd_degraded", "1 when a device is read-only or gone.", is_degraded, NULL,
            NULL),
    SSD(C, "yolk_ssd_put_bytes_total", "Payload bytes of blocks written for the first time.",
        put_bytes, NULL, NULL),
    SSD(C, "yolk_ssd_written_bytes_total", "Bytes written to all devices, all told.", written_bytes,
        NULL, NULL),
    SSD(C, "yolk_ssd_read_bytes_total", "Payload bytes of blocks that were read.", read_bytes, NULL,
        NULL),
    {"yolk_ssd_write_amplification",
     "Bytes written to the devices over bytes of blocks put, since the start.", G, 1e6,
     offsetof(struct http_ssd, write_amplification_ppm), NULL, NULL},
    SSD(C, "yolk_ssd_clean_bytes_total", "Bytes of blocks that cleaning wrote again.", clean_bytes,
        NULL, NULL),
    SSD(C, "yolk_ssd_clean_segments_total", "Segments that cleaning freed.", clean_segments, NULL,
        NULL),
    SSD(C, "yolk_ssd_gone_total", GONE_HELP, clean_dropped, "reason", "cleaned"),
    SSD(C, "yolk_ssd_gone_total", GONE_HELP, expired, "reason", "expired"),
    SSD(C, "yolk_ssd_gone_total", GONE_HELP, outdated, "reason", "epoch"),
    SSD(C, "yolk_ssd_gone_total", GONE_HELP, evicted, "reason", "capacity"),
    SSD(C, "yolk_ssd_gone_total", GONE_HELP, removed, "reason", "removed"),
    SSD(C, "yolk_ssd_gone_total", GONE_HELP, rotten, "reason", "rotten"),
    SSD(C, "yolk_ssd_rotten_total", "Blocks whose bytes did not match their checksum.", rotten,
        NULL, NULL),
    SSD(C, "yolk_ssd_errors_total", "Requests that a device failed.", io_errors, NULL, NULL),
    SSD(C, "yolk_ssd_flushes_total", "Flushes of devices.", flushes, NULL, NULL),
    {"yolk_ssd_throttled_seconds_total", "Time that writes waited for the write limit.", C, 1e9,
     offsetof(struct http_ssd, ssd.throttle_ns), NULL, NULL},
    SSD(C, "yolk_ssd_recovered_blocks_total", "Blocks found on SSD at the start.", recovered, NULL,
        NULL),
    SSD(C, "yolk_ssd_recovery_dropped_total", "Records that were not taken over at the start.",
        recovery_dropped, NULL, NULL),
    SSD(C, "yolk_ssd_recovery_torn_total", "Batches that a crash had left unfinished.",
        recovery_torn, NULL, NULL),
};

#define DEV(type, name, help, field, label, value)                                                 \
    { name, help, type, 0, offsetof(struct yk_ssd_dev_stats, field), label, value }
#define IO_HELP       "Requests that the device has done, by operation."
#define IO_BYTES_HELP "Bytes of them."
#define IO_ERR_HELP   "Requests that the device failed, by operation."

static const struct row dev_rows[] = {
    DEV(G, "yolk_ssd_device_size_bytes", "Size of the device.", size_bytes, NULL, NULL),
    DEV(G, "yolk_ssd_device_live_bytes", "Space that live blocks take.", live_bytes, NULL, NULL),
    DEV(G, "yolk_ssd_device_segments_free", "Segments that hold nothing.", segments_free, NULL,
        NULL),
    DEV(C, "yolk_ssd_device_wear_bytes_total", "Bytes written since the device was formatted.",
        wear_bytes, NULL, NULL),
    DEV(G, "yolk_ssd_device_queue_depth", "Requests that the device has now.", io.queued, NULL,
        NULL),
    DEV(C, "yolk_ssd_device_requests_total", IO_HELP, io.ops[YK_FILE_READ], "op", "read"),
    DEV(C, "yolk_ssd_device_requests_total", IO_HELP, io.ops[YK_FILE_WRITE], "op", "write"),
    DEV(C, "yolk_ssd_device_requests_total", IO_HELP, io.ops[YK_FILE_FLUSH], "op", "flush"),
    DEV(C, "yolk_ssd_device_requests_total", IO_HELP, io.ops[YK_FILE_DISCARD], "op", "discard"),
    DEV(C, "yolk_ssd_device_bytes_total", IO_BYTES_HELP, io.bytes[YK_FILE_READ], "op", "read"),
    DEV(C, "yolk_ssd_device_bytes_total", IO_BYTES_HELP, io.bytes[YK_FILE_WRITE], "op", "write"),
    DEV(C, "yolk_ssd_device_bytes_total", IO_BYTES_HELP, io.bytes[YK_FILE_DISCARD], "op",
        "discard"),
    DEV(C, "yolk_ssd_device_errors_total", IO_ERR_HELP, io.errors[YK_FILE_READ], "op", "read"),
    DEV(C, "yolk_ssd_device_errors_total", IO_ERR_HELP, io.errors[YK_FILE_WRITE], "op", "write"),
    DEV(C, "yolk_ssd_device_errors_total", IO_ERR_HELP, io.errors[YK_FILE_FLUSH], "op", "flush"),
};

static int add_rows(struct yk_metrics *m, const struct row *rows, size_t n, const void *base,
                    const char *device, struct yk_err *err) {
    for (size_t i = 0; i < n; i++) {
        const struct row *r = &rows[i];
        struct yk_metric_desc d = {r->name, r->help, r->type, r->divisor};
        struct yk_label l[2] = {{"device", device}, {r->label, r->value}};
        size_t from = device == NULL, count = (device != NULL) + (r->label != NULL);
        const uint64_t *word = (const uint64_t *)(const void *)((const char *)base + r->offset);
        int rc = yk_metrics_add_word(m, &d, &l[from], count, word, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* A sample for each state, 1 where it is: what alerts and graphs of states are made of. */
static void collect_state(void *ctx, struct yk_metrics_page *page) {
    static const char *const names[] = {"ok", "read_only", "gone"};
    struct http_ssd *s = ctx;
    for (uint32_t i = 0; i < s->devices; i++) {
        for (unsigned state = 0; state < sizeof(names) / sizeof(names[0]); state++) {
            struct yk_label l[] = {{"device", s->dev[i].path}, {"state", names[state]}};
            yk_metrics_sample(page, l, 2, s->dev[i].state == state);
        }
    }
}

static int add_tier(struct http_ssd *s, struct yk_metrics *m, const struct yk_ssd *ssd,
                    struct yk_err *err) {
    static const struct yk_metric_desc state = {"yolk_ssd_device_state",
                                                "1 for the state that the device is in.", G, 0};
    static const struct yk_metric_desc latency = {
        "yolk_ssd_device_duration_seconds", "Time of a device's request, waiting for it included.",
        YK_METRIC_HISTOGRAM, 0};
    int rc = add_rows(m, ssd_rows, sizeof(ssd_rows) / sizeof(ssd_rows[0]), s, NULL, err);
    for (uint32_t i = 0; i < s->devices && rc == 0; i++)
        rc = add_rows(m, dev_rows, sizeof(dev_rows) / sizeof(dev_rows[0]), &s->dev[i],
                      s->dev[i].path, err);
    for (unsigned op = 0; op < 2 && rc == 0; op++) {
        struct yk_label l = {"op", op == 0 ? "read" : "write"};
        rc = yk_metrics_add_hist(m, &latency, &l, 1, yk_ssd_latency(ssd, op), err);
    }
    return rc < 0 ? rc : yk_metrics_add_collector(m, &state, collect_state, s, err);
}

int http_ssd_add(struct http_ssd *s, struct yk_node *node, struct yk_metrics *m,
                 struct yk_err *err) {
    const struct yk_ssd *ssd = yk_node_ssd(node);
    s->node = node;
    http_ssd_copy(s);
    int rc = add_rows(m, node_rows, sizeof(node_rows) / sizeof(node_rows[0]), s, NULL, err);
    return rc < 0 || ssd == NULL ? rc : add_tier(s, m, ssd, err);
}

static uint64_t less(uint64_t a, uint64_t b) {
    return a > b ? a - b : 0;
}

void http_ssd_copy(struct http_ssd *s) {
    const struct yk_ssd *ssd = yk_node_ssd(s->node);
    const struct yk_counters *n = &s->now.store;
    yk_node_stats(s->node, &s->now);
    s->dram_hits = less(n->local_hits + n->node_hits, n->ssd_hits + n->cxl_hits);
    s->dram_misses = n->local_misses + n->node_misses + n->ssd_hits;
    s->ssd_misses = ssd != NULL ? n->local_misses + n->node_misses : 0;
    s->dram_hit_bytes = less(n->local_hit_bytes + n->node_get_bytes, n->ssd_hit_bytes + n->cxl_hit_bytes);
    if (ssd == NULL)
        return;
    yk_ssd_counters_get(ssd, &s->ssd);
    s->devices =
        s->ssd.devices < YK_SSD_DEVICES_MAX ? (uint32_t)s->ssd.devices : YK_SSD_DEVICES_MAX;
    for (uint32_t i = 0; i < s->devices; i++)
        yk_ssd_dev_stats_get(ssd, i, &s->dev[i]);
    s->degraded = less(s->ssd.devices, s->ssd.devices_ok);
    s->is_degraded = s->degraded > 0;
    s->write_amplification_ppm =
        s->ssd.put_bytes > 0
            ? (uint64_t)((double)s->ssd.written_bytes / (double)s->ssd.put_bytes * 1e6)
            : 0;
}
