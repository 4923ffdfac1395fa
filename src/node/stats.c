/* SPDX-License-Identifier: Apache-2.0
 *
 * The node's figures for other threads: copies of counters, and all of them as one JSON object
 * (`yolk stat --node`, GET /v1/stats). Names here are the names of docs/api.md; the Prometheus form
 * in src/http is made from the same copies.
 */
#include "node/node_priv.h"

#include "base/buf.h"
#include "base/clock.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LOADN(p) __atomic_load_n((p), __ATOMIC_RELAXED)

void yk_node_stats(const struct yk_node *node, struct yk_node_stats *ret) {
    const uint64_t *from = (const uint64_t *)(const void *)&node->n;
    uint64_t *to = (uint64_t *)(void *)ret;
    for (size_t i = 0; i < sizeof(*ret) / sizeof(uint64_t); i++)
        to[i] = LOADN(&from[i]);
    yk_store_counters(node->store, &ret->store);
}

const struct yk_hist *yk_node_latency(const struct yk_node *node, unsigned op) {
    return &node->latency[op < YK_MSG_OPS ? op : 0];
}

int yk_node_ns_info(struct yk_node *node, uint32_t ns, yk_ns_info *ret_info) {
    if (ns >= YK_SHM_NAMESPACES)
        return YK_MISS;
    pthread_mutex_lock(&node->lock);
    *ret_info = node->ns_snapshot[ns];
    pthread_mutex_unlock(&node->lock);
    return ret_info->name[0] != 0 ? 0 : YK_MISS;
}

void yk_node_ns_lookups(const struct yk_node *node, uint32_t ns, struct yk_ns_lookups *ret) {
    yk_store_ns_lookups(node->store, ns, ret);
}

enum yk_segment_found yk_node_found(const struct yk_node *node, const char **ret_why) {
    *ret_why = node->seg->why_fresh;
    return node->seg->found;
}

int yk_node_tier_lost(const struct yk_node *node) {
    return __atomic_load_n(&node->seg->lost, __ATOMIC_ACQUIRE);
}

static const struct {
    const char *name;
    size_t offset;
} fields[] = {
#define F(name)                                                                                    \
    { #name, offsetof(struct yk_counters, name) }
    F(blocks),
    F(block_bytes),
    F(capacity_bytes),
    F(free_bytes),
    F(idle_bytes),
    F(waste_bytes),
    F(largest_free_bytes),
    F(limbo_blocks),
    F(limbo_bytes),
    F(reserved_blocks),
    F(reserved_bytes),
    F(hard_pinned_bytes),
    F(hard_pin_max_bytes),
    F(unbacked_bytes),
    F(suspect_blocks),
    F(clients),
    F(local_hits),
    F(local_misses),
    F(local_hit_bytes),
    F(local_matches),
    F(local_match_keys),
    F(local_retries),
    F(node_hits),
    F(node_misses),
    F(node_gets),
    F(node_get_bytes),
    F(located_gets),
    F(located_bytes),
    F(remote_places),
    F(remote_reads),
    F(remote_read_bytes),
    F(remote_writes),
    F(remote_write_bytes),
    F(remote_missed),
    F(remote_full),
    F(remote_corrupt),
    F(commits),
    F(put_bytes),
    F(duplicates),
    F(conflicts),
    F(reserves),
    F(aborts),
    F(abandoned),
    F(evict_capacity),
    F(evict_space),
    F(evict_quota),
    F(evict_expired),
    F(evict_epoch),
    F(evict_replaced),
    F(evicted_bytes),
    F(removed),
    F(corrupt),
    F(events),
    F(events_lost),
    F(requests),
    F(trainings),
    F(learned_loaded),
    F(divided_bytes),
    F(guaranteed_bytes),
    F(scans),
    F(moves),
    F(moves_refused),
    F(moved_bytes),
    F(background_moves),
    F(verified),
    F(verify_failed),
    F(recovered),
    F(recovery_dropped),
    F(recovery_us),
    F(demoted),
    F(demoted_bytes),
    F(demote_failed),
    F(demote_refused),
    F(demote_hurried),
    F(raised),
    F(raised_bytes),
    F(raise_failed),
    F(ssd_hits),
    F(ssd_hit_bytes),
    F(yielded),
    F(prefetched),
    F(preloaded),
    F(prefetch_ahead_asked),
    F(prefetch_ahead_moved),
    F(prefetch_ahead_used),
    F(prefetch_ahead_wasted),
    F(prefetch_ahead_cancelled),
    F(prefetch_ahead_waiting),
    F(copies),
    F(copy_bytes),
    F(copies_kept),
    F(preloaded_bytes),
    F(preload_goal),
    F(unverified_blocks),
    F(leaving_blocks),
    F(leaving_bytes),
    F(raising),
#undef F
};

/* Pairs of a bucket's number (base/hist.h) and its count, of those that are not empty: so that the
 * difference of two looks is a histogram too. */
static void put_buckets(const struct yk_hist *h, struct yk_buf *b) {
    const char *sep = "";
    yk_buf_puts(b, ",\"buckets\":[");
    for (uint32_t i = 0; i < YK_HIST_BUCKETS; i++) {
        if (h->buckets[i] == 0)
            continue;
        yk_buf_printf(b, "%s%u,%llu", sep, i, (unsigned long long)h->buckets[i]);
        sep = ",";
    }
    yk_buf_puts(b, "]");
}

static void put_latency(const struct yk_node *node, struct yk_buf *b) {
    const char *sep = "";
    yk_buf_puts(b, ",\"latency\":{");
    for (unsigned op = 1; op < YK_MSG_OPS; op++) {
        struct yk_hist h;
        if (yk_hist_load(&node->latency[op].count) == 0)
            continue;
        yk_hist_snapshot(&node->latency[op], &h);
        yk_buf_printf(
            b, "%s\"%s\":{\"count\":%llu,\"p50_us\":%.3f,\"p99_us\":%.3f,\"p999_us\":%.3f", sep,
            yk_wire_op_name(op), (unsigned long long)yk_hist_count(&h),
            (double)yk_hist_percentile(&h, 50) / 1e3, (double)yk_hist_percentile(&h, 99) / 1e3,
            (double)yk_hist_percentile(&h, 99.9) / 1e3);
        put_buckets(&h, b);
        yk_buf_puts(b, "}");
        sep = ",";
    }
    yk_buf_puts(b, "}");
}

static const char *found_name(enum yk_segment_found f) {
    return f == YK_SEGMENT_FRESH ? "fresh" : f == YK_SEGMENT_CLEAN ? "clean" : "unclean";
}

void yk_node_set_peers(struct yk_node *node, const char *address) {
    pthread_mutex_lock(&node->lock);
    snprintf(node->peers, sizeof(node->peers), "%s", address);
    pthread_mutex_unlock(&node->lock);
}

/* An address has no character that JSON would escape: it is one that was bound, or a host's name. */
static void put_peers(struct yk_node *node, struct yk_buf *out) {
    pthread_mutex_lock(&node->lock);
    if (node->peers[0] != 0 && strpbrk(node->peers, "\"\\") == NULL)
        yk_buf_printf(out, ",\"peers\":\"%s\"", node->peers);
    pthread_mutex_unlock(&node->lock);
}

static void put_cluster(const struct yk_node *node, struct yk_buf *out) {
    struct yk_pool_figures f;
    const char *sep = "";
    if (yk_node_pool_figures(node, &f) != 0)
        return;
    yk_buf_puts(out, ",\"cluster\":{");
#define PUT(field, type, metric, label, value, help)                                               \
    yk_buf_printf(out, "%s\"" #field "\":%llu", sep, (unsigned long long)f.field);                 \
    sep = ",";
    YK_POOL_FIGURES(PUT)
#undef PUT
    yk_buf_puts(out, "}");
}

int yk_node_stats_json(struct yk_node *node, char **ret_json) {
    struct yk_node_stats n;
    struct yk_buf b;
    yk_node_stats(node, &n);
    yk_buf_init(&b, 1u << 20);
    yk_buf_printf(&b,
                  "{\"version\":\"%s\",\"pid\":%d,\"uptime_ms\":%llu,\"start\":\"%s\","
                  "\"tier_lost\":%s,\"policy\":\"%s\",\"local_copies\":\"%s\",\"connections\":%llu,"
                  "\"connections_accepted\":%llu,\"connections_refused\":%llu,"
                  "\"connection_buffer_bytes\":%llu,\"protocol_errors\":%llu,\"waiting\":%llu,"
                  "\"wait_timeouts\":%llu,"
                  "\"in_bytes\":%llu,\"out_bytes\":%llu,\"populated_bytes\":%llu,"
                  "\"scrubbed_bytes\":%llu",
                  YK_VERSION, (int)getpid(), (unsigned long long)(yk_wall_ms() - n.start_wall_ms),
                  found_name(node->seg->found), yk_node_tier_lost(node) ? "true" : "false",
                  node->opts.store.policy, yk_local_copies_names[node->opts.store.local_copies],
                  (unsigned long long)n.conns,
                  (unsigned long long)n.conns_accepted, (unsigned long long)n.conns_refused,
                  (unsigned long long)n.conn_buffer_bytes, (unsigned long long)n.protocol_errors,
                  (unsigned long long)n.waiting, (unsigned long long)n.wait_timeouts,
                  (unsigned long long)n.in_bytes, (unsigned long long)n.out_bytes,
                  (unsigned long long)n.populated_bytes, (unsigned long long)n.scrubbed_bytes);
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        uint64_t v;
        memcpy(&v, (const char *)&n.store + fields[i].offset, sizeof(v));
        yk_buf_printf(&b, ",\"%s\":%llu", fields[i].name, (unsigned long long)v);
    }
    put_latency(node, &b);
    node_stats_cxl(node, &b);
    node_stats_ssd(node, &b);
    put_peers(node, &b);
    put_cluster(node, &b);
    node_stats_learned(node, &b);
    yk_buf_puts(&b, "}");
    if (b.status < 0 || b.data == NULL) {
        yk_buf_fini(&b);
        return -YK_ENOMEM;
    }
    *ret_json = b.data; /* handed over: yk_buf_fini would free it */
    return 0;
}
