/* SPDX-License-Identifier: Apache-2.0
 *
 * The metrics page: one row for each series below. Words are taken from one copy of the node's
 * figures, made at the start of a render, so that a page is of one moment; histograms are the
 * node's own. CPU, memory and network use of the process come from the kernel.
 *
 * Threads: http_page_new at start, then the rendering thread alone.
 */
#include "http/http_priv.h"

#include "node/pool.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

struct http_page {
    struct yk_node *node;
    struct yk_metrics *metrics;
    struct yk_node_stats now;
    struct yk_pool_figures cluster;
    struct http_ssd ssd;
    struct http_route_page route;
};

struct row {
    const char *name, *help;
    enum yk_metric_type type;
    size_t offset;
    const char *label, *value; /* NULL: none */
};

#define STORE_ROW(type, name, help, field, label, value)                                           \
    { name, help, type, offsetof(struct yk_node_stats, store.field), label, value }
#define NODE_ROW(type, name, help, field)                                                          \
    { name, help, type, offsetof(struct yk_node_stats, field), NULL, NULL }

#define C YK_METRIC_COUNTER
#define G YK_METRIC_GAUGE

#define LOOKUPS_HELP "Lookups of payload, by where they were answered and how."
#define EVICT_HELP   "Blocks that left, by reason."
#define REMOTE_HELP                                                                                \
    "Slices of requests to the transfer engine: allowed by their guard, refused (miss), or full: all pins " \
    "were taken."
#define BYTES_HELP   "Bytes of the tier, by what they are used for."

static const struct row rows[] = {
    STORE_ROW(G, "yolk_blocks", "Blocks that can be found.", blocks, "tier", "dram"),
    STORE_ROW(G, "yolk_block_bytes", "Payload bytes of blocks that can be found.", block_bytes,
              "tier", "dram"),
    STORE_ROW(G, "yolk_tier_capacity_bytes", "Size of the tier.", capacity_bytes, "tier", "dram"),
    STORE_ROW(G, "yolk_tier_bytes", BYTES_HELP, free_bytes, "use", "free"),
    STORE_ROW(G, "yolk_tier_bytes", BYTES_HELP, idle_bytes, "use", "free_in_class"),
    STORE_ROW(G, "yolk_tier_bytes", BYTES_HELP, waste_bytes, "use", "waste"),
    STORE_ROW(G, "yolk_tier_bytes", BYTES_HELP, unbacked_bytes, "use", "unbacked"),
    STORE_ROW(G, "yolk_tier_bytes", BYTES_HELP, limbo_bytes, "use", "limbo"),
    STORE_ROW(G, "yolk_tier_bytes", BYTES_HELP, reserved_bytes, "use", "reserved"),
    STORE_ROW(G, "yolk_tier_bytes", BYTES_HELP, hard_pinned_bytes, "use", "hard_pinned"),
    STORE_ROW(G, "yolk_tier_largest_free_bytes",
              "Longest free run: fragmentation is what it lacks "
              "to free.",
              largest_free_bytes, "tier", "dram"),
    STORE_ROW(G, "yolk_suspect_blocks",
              "Blocks whose checksum is still to be verified after an "
              "unclean stop.",
              suspect_blocks, NULL, NULL),
    STORE_ROW(C, "yolk_lookups_total", LOOKUPS_HELP, local_hits, "result", "local_hit"),
    STORE_ROW(C, "yolk_lookups_total", LOOKUPS_HELP, local_misses, "result", "local_miss"),
    STORE_ROW(C, "yolk_lookups_total", LOOKUPS_HELP, node_hits, "result", "node_hit"),
    STORE_ROW(C, "yolk_lookups_total", LOOKUPS_HELP, node_misses, "result", "node_miss"),
    STORE_ROW(C, "yolk_hit_bytes_total", "Payload bytes of hits.", local_hit_bytes, "path",
              "local"),
    STORE_ROW(C, "yolk_hit_bytes_total", "Payload bytes of hits.", node_get_bytes, "path", "node"),
    STORE_ROW(C, "yolk_hit_bytes_total", "Payload bytes of hits.", located_bytes, "path", "transfer"),
    STORE_ROW(C, "yolk_located_gets_total",
              "Of the hits of the node: those that were answered with a place, for the transfer engine.",
              located_gets, NULL, NULL),
    STORE_ROW(G, "yolk_remote_places", "Places reserved that peers write through the transfer engine.",
              remote_places, NULL, NULL),
    STORE_ROW(C, "yolk_transfer_requests_total", REMOTE_HELP, remote_reads, "result", "read"),
    STORE_ROW(C, "yolk_transfer_requests_total", REMOTE_HELP, remote_writes, "result", "write"),
    STORE_ROW(C, "yolk_transfer_requests_total", REMOTE_HELP, remote_missed, "result", "miss"),
    STORE_ROW(C, "yolk_transfer_requests_total", REMOTE_HELP, remote_full, "result", "full"),
    STORE_ROW(C, "yolk_transfer_bytes_total", "Payload bytes of these.", remote_read_bytes, "op", "read"),
    STORE_ROW(C, "yolk_transfer_bytes_total", "Payload bytes of these.", remote_write_bytes, "op", "write"),
    STORE_ROW(C, "yolk_remote_corrupt_total",
              "Commits of payload that came through the transfer engine with another checksum.",
              remote_corrupt, NULL, NULL),
    STORE_ROW(C, "yolk_match_keys_total", "Keys in local match calls.", local_match_keys, NULL,
              NULL),
    STORE_ROW(C, "yolk_lookup_retries_total", "Local lookups that had to start again.",
              local_retries, NULL, NULL),
    STORE_ROW(C, "yolk_puts_total", "Blocks committed.", commits, NULL, NULL),
    STORE_ROW(C, "yolk_put_bytes_total", "Payload bytes committed.", put_bytes, NULL, NULL),
    STORE_ROW(C, "yolk_put_duplicates_total", "Puts of bytes that were there already.", duplicates,
              NULL, NULL),
    STORE_ROW(C, "yolk_put_conflicts_total", "Puts of other bytes under a key that was taken.",
              conflicts, NULL, NULL),
    STORE_ROW(C, "yolk_reservations_total", "Places reserved.", reserves, NULL, NULL),
    STORE_ROW(C, "yolk_reservations_abandoned_total", "Reservations of clients that died or left.",
              abandoned, NULL, NULL),
    STORE_ROW(C, "yolk_evictions_total", EVICT_HELP, evict_capacity, "reason", "capacity"),
    STORE_ROW(C, "yolk_evictions_total", EVICT_HELP, evict_space, "reason", "space"),
    STORE_ROW(C, "yolk_evictions_total", EVICT_HELP, evict_quota, "reason", "quota"),
    STORE_ROW(C, "yolk_evictions_total", EVICT_HELP, evict_expired, "reason", "expired"),
    STORE_ROW(C, "yolk_evictions_total", EVICT_HELP, evict_epoch, "reason", "epoch"),
    STORE_ROW(C, "yolk_evictions_total", EVICT_HELP, evict_replaced, "reason", "replaced"),
    STORE_ROW(C, "yolk_evictions_total", EVICT_HELP, removed, "reason", "removed"),
    STORE_ROW(C, "yolk_evictions_total", EVICT_HELP, corrupt, "reason", "corrupt"),
    STORE_ROW(C, "yolk_access_events_total", "Accesses that reached the policy.", events, NULL,
              NULL),
    STORE_ROW(C, "yolk_requests_announced_total", "Requests that the policy was told of, as it wants to be.",
              requests, NULL, NULL),
    STORE_ROW(C, "yolk_policies_restored_total", "Policies that went on with what they had learned before the start.",
              learned_loaded, NULL, NULL),
    STORE_ROW(C, "yolk_policy_trainings_total", "Models that the policy made of what it saw.", trainings, NULL, NULL),
    STORE_ROW(C, "yolk_access_events_lost_total", "Accesses overwritten before they were read.",
              events_lost, NULL, NULL),
    STORE_ROW(C, "yolk_moves_total", "Blocks moved by the compactor.", moves, NULL, NULL),
    STORE_ROW(C, "yolk_background_moves_total", "Of these, moved while the node was idle.",
              background_moves, NULL, NULL),
    STORE_ROW(C, "yolk_moved_bytes_total", "Bytes moved by the compactor.", moved_bytes, NULL,
              NULL),
    STORE_ROW(C, "yolk_verified_total", "Checksums that were right.", verified, NULL, NULL),
    STORE_ROW(C, "yolk_verify_failed_total", "Checksums that were wrong; the block was dropped.",
              verify_failed, NULL, NULL),
    STORE_ROW(C, "yolk_recovered_blocks_total", "Blocks found again at the start.", recovered, NULL,
              NULL),
    STORE_ROW(C, "yolk_recovery_dropped_total", "Blocks that were not, at the start.",
              recovery_dropped, NULL, NULL),
    STORE_ROW(G, "yolk_clients", "Client slots in use, the node's own included.", clients, NULL,
              NULL),
    NODE_ROW(G, "yolk_connections", "Open connections.", conns),
    NODE_ROW(C, "yolk_connections_accepted_total", "Connections accepted.", conns_accepted),
    NODE_ROW(C, "yolk_connections_refused_total", "Connections over the limit.", conns_refused),
    NODE_ROW(G, "yolk_connection_buffer_bytes", "Buffers of connections.", conn_buffer_bytes),
    NODE_ROW(C, "yolk_protocol_errors_total", "Connections closed for malformed frames.",
             protocol_errors),
    NODE_ROW(G, "yolk_waiting_requests", "Requests that wait for space.", waiting),
    NODE_ROW(C, "yolk_wait_timeouts_total",
             "Requests whose deadline passed before there was space.", wait_timeouts),
    NODE_ROW(C, "yolk_socket_received_bytes_total", "Bytes received from clients.", in_bytes),
    NODE_ROW(C, "yolk_socket_sent_bytes_total", "Bytes sent to clients.", out_bytes),
    NODE_ROW(C, "yolk_scrubbed_bytes_total", "Bytes read by the scrubber.", scrubbed_bytes),
};

/* Of a node with slow memory alone. */
static const struct row cxl_rows[] = {
    STORE_ROW(G, "yolk_blocks", "Blocks that can be found.", cxl_blocks, "tier", "cxl"),
    STORE_ROW(G, "yolk_block_bytes", "Payload bytes of blocks that can be found.", cxl_block_bytes, "tier", "cxl"),
    STORE_ROW(G, "yolk_tier_capacity_bytes", "Size of the tier.", cxl_capacity_bytes, "tier", "cxl"),
    STORE_ROW(C, "yolk_tier_hits_total", "Lookups of payload that hit, by the tier that the block was in.", cxl_hits, "tier",
              "cxl"),
    STORE_ROW(C, "yolk_tier_hit_bytes_total", "Payload bytes of hits, by tier.", cxl_hit_bytes, "tier", "cxl"),
    STORE_ROW(G, "yolk_cxl_bytes", "Free bytes of slow memory: in no class of sizes, in one.", cxl_free_bytes, "use", "free"),
    STORE_ROW(G, "yolk_cxl_bytes", "Free bytes of slow memory: in no class of sizes, in one.", cxl_idle_bytes, "use",
              "free_in_class"),
    STORE_ROW(C, "yolk_cxl_moves_total", "Blocks that sank from DRAM into slow memory, that rose from it, that left it.", sunk,
              "way", "sunk"),
    STORE_ROW(C, "yolk_cxl_moves_total", "Blocks that sank from DRAM into slow memory, that rose from it, that left it.", risen,
              "way", "risen"),
    STORE_ROW(C, "yolk_cxl_moves_total", "Blocks that sank from DRAM into slow memory, that rose from it, that left it.",
              cxl_evicted, "way", "left"),
    STORE_ROW(C, "yolk_cxl_moved_bytes_total", "Payload bytes of these.", sunk_bytes, "way", "sunk"),
    STORE_ROW(C, "yolk_cxl_moved_bytes_total", "Payload bytes of these.", risen_bytes, "way", "risen"),
    STORE_ROW(C, "yolk_cxl_refused_total", "Blocks that found no place where they should have gone.", sink_refused, "way", "sunk"),
    STORE_ROW(C, "yolk_cxl_refused_total", "Blocks that found no place where they should have gone.", rise_refused, "way",
              "risen"),
    STORE_ROW(C, "yolk_cxl_waits_total", "Times that a block waited for its turn to sink.", sink_waits, NULL, NULL),
    STORE_ROW(G, "yolk_memory_latency_nanoseconds", "Latency of dependent loads, as measured at the start.",
              cxl_dram_latency_ns, "tier", "dram"),
    STORE_ROW(G, "yolk_memory_latency_nanoseconds", "Latency of dependent loads, as measured at the start.", cxl_latency_ns,
              "tier", "cxl"),
    STORE_ROW(G, "yolk_memory_bytes_per_second", "Bandwidth of a copy, as measured at the start.", cxl_dram_bytes_per_s, "tier",
              "dram"),
    STORE_ROW(G, "yolk_memory_bytes_per_second", "Bandwidth of a copy, as measured at the start.", cxl_bytes_per_s, "tier",
              "cxl"),
    STORE_ROW(G, "yolk_cxl_used", "0: slow memory is no quicker than SSD, and nothing sinks into it.", cxl_used, NULL, NULL),
};

static int add_rows(struct http_page *p, const struct row *list, size_t count, struct yk_err *err) {
    for (size_t i = 0; i < count; i++) {
        const struct row *r = &list[i];
        struct yk_metric_desc d = {r->name, r->help, r->type, 0};
        struct yk_label l = {r->label, r->value};
        const uint64_t *word = (const uint64_t *)(const void *)((char *)&p->now + r->offset);
        int rc = yk_metrics_add_word(p->metrics, &d, &l, r->label != NULL, word, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* Of a node in a cluster alone. */
static int add_cluster(struct http_page *p, struct yk_err *err) {
    static const struct row all[] = {
#define ROW(field, type, metric, label, value, help)                                               \
    { metric, help, type, offsetof(struct yk_pool_figures, field), label, value },
        YK_POOL_FIGURES(ROW)
#undef ROW
    };
    if (yk_node_pool_figures(p->node, &p->cluster) != 0)
        return 0;
    int rc = 0;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]) && rc == 0; i++) {
        const struct row *r = &all[i];
        struct yk_metric_desc d = {r->name, r->help, r->type, 0};
        struct yk_label l = {r->label, r->value};
        const uint64_t *word = (const uint64_t *)(const void *)((char *)&p->cluster + r->offset);
        rc = yk_metrics_add_word(p->metrics, &d, &l, r->label[0] != 0, word, err);
    }
    return rc;
}

static int add_ops(struct http_page *p, struct yk_err *err) {
    struct yk_metric_desc n = {"yolk_requests_total", "Frames handled, by operation.", C, 0};
    struct yk_metric_desc k = {"yolk_request_keys_total", "Keys in frames, by operation.", C, 0};
    struct yk_metric_desc t = {"yolk_request_duration_seconds",
                               "Time from a frame complete to its reply queued.",
                               YK_METRIC_HISTOGRAM, 0};
    for (unsigned op = 1; op < YK_MSG_OPS; op++) {
        struct yk_label l = {"op", yk_wire_op_name(op)};
        if (op == YK_MSG_ERROR)
            continue;
        int rc = yk_metrics_add_word(p->metrics, &n, &l, 1, &p->now.requests[op], err);
        if (rc == 0)
            rc = yk_metrics_add_word(p->metrics, &k, &l, 1, &p->now.keys[op], err);
        if (rc == 0)
            rc = yk_metrics_add_hist(p->metrics, &t, &l, 1, yk_node_latency(p->node, op), err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* One sample a namespace; value picks the figure. */
static void namespaces(struct http_page *p, struct yk_metrics_page *page,
                       double (*value)(const yk_ns_info *)) {
    yk_ns_info info;
    for (uint32_t i = 0; i < YK_SHM_NAMESPACES; i++) {
        if (yk_node_ns_info(p->node, i, &info) != 0)
            continue;
        struct yk_label l = {"namespace", info.name};
        yk_metrics_sample(page, &l, 1, value(&info));
    }
}

#define NS_FIGURE(figure, value)                                                                    \
    static double ns_##figure(const yk_ns_info *i) {                                                \
        return (double)(value);                                                                     \
    }                                                                                               \
    static void collect_ns_##figure(void *p, struct yk_metrics_page *g) {                           \
        namespaces(p, g, ns_##figure);                                                              \
    }
NS_FIGURE(bytes, i->used_bytes)
NS_FIGURE(blocks, i->blocks)
NS_FIGURE(quota, i->quota_bytes)
NS_FIGURE(epoch, i->epoch)
NS_FIGURE(guarantee, i->guarantee_bytes)
NS_FIGURE(guaranteed, i->guaranteed_bytes)
NS_FIGURE(priority, i->priority != 0 ? i->priority : YK_PRIORITY_DEFAULT)
NS_FIGURE(share, i->share_bytes)
NS_FIGURE(share_used, i->share_used_bytes)
NS_FIGURE(share_hit_ratio, i->share_hit_ratio)
#undef NS_FIGURE

/* A sample of each namespace and tier. A lookup that SSD answers has missed in DRAM. */
static void collect_ns_lookups(struct http_page *p, struct yk_metrics_page *page, int hits) {
    int tiers = yk_node_ssd(p->node) != NULL ? 2 : 1;
    yk_ns_info info;
    struct yk_ns_lookups n;
    for (uint32_t i = 0; i < YK_SHM_NAMESPACES; i++) {
        if (yk_node_ns_info(p->node, i, &info) != 0)
            continue;
        yk_node_ns_lookups(p->node, i, &n);
        uint64_t all = n.local_hits + n.node_hits, missed = n.local_misses + n.node_misses;
        uint64_t dram = all > n.ssd_hits ? all - n.ssd_hits : 0;
        const uint64_t value[2][2] = {{missed + n.ssd_hits, missed}, {dram, n.ssd_hits}};
        for (int tier = 0; tier < tiers; tier++) {
            struct yk_label l[] = {{"namespace", info.name}, {"tier", tier == 0 ? "dram" : "ssd"}};
            yk_metrics_sample(page, l, 2, (double)value[hits][tier]);
        }
    }
}

static void collect_ns_hits(void *p, struct yk_metrics_page *g) {
    collect_ns_lookups(p, g, 1);
}
static void collect_ns_misses(void *p, struct yk_metrics_page *g) {
    collect_ns_lookups(p, g, 0);
}

static void collect_cpu(void *ctx, struct yk_metrics_page *page) {
    struct rusage u;
    if (getrusage(RUSAGE_SELF, &u) < 0)
        return;
    struct yk_label user = {"mode", "user"}, sys = {"mode", "system"};
    yk_metrics_sample(page, &user, 1, (double)u.ru_utime.tv_sec + (double)u.ru_utime.tv_usec / 1e6);
    yk_metrics_sample(page, &sys, 1, (double)u.ru_stime.tv_sec + (double)u.ru_stime.tv_usec / 1e6);
}

static void collect_memory(void *ctx, struct yk_metrics_page *page) {
    unsigned long size, resident, shared;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f == NULL)
        return;
    int n = fscanf(f, "%lu %lu %lu", &size, &resident, &shared);
    fclose(f);
    if (n != 3)
        return;
    double unit = (double)sysconf(_SC_PAGESIZE);
    struct yk_label priv = {"kind", "private"}, shr = {"kind", "shared"};
    yk_metrics_sample(page, &priv, 1, (double)(resident - shared) * unit);
    yk_metrics_sample(page, &shr, 1, (double)shared * unit);
}

static int add_collectors(struct http_page *p, struct yk_err *err) {
    static const struct {
        struct yk_metric_desc d;
        yk_metrics_collect_fn fn;
    } list[] = {
        {{"yolk_namespace_bytes", "Payload bytes of a namespace in both tiers, each block once.", G, 0}, collect_ns_bytes},
        {{"yolk_namespace_blocks", "Blocks of a namespace in both tiers, each once.", G, 0}, collect_ns_blocks},
        {{"yolk_namespace_quota_bytes", "Quota of a namespace, 0 = none.", G, 0}, collect_ns_quota},
        {{"yolk_namespace_epoch", "Epoch of a namespace's weights.", G, 0}, collect_ns_epoch},
        {{"yolk_namespace_guarantee_bytes", "Memory that a namespace is guaranteed, as it was set; 0 = none.", G, 0},
         collect_ns_guarantee},
        {{"yolk_namespace_guaranteed_bytes", "What that comes to beside the guarantees of the others.", G, 0},
         collect_ns_guaranteed},
        {{"yolk_namespace_priority", "What a hit of a namespace counts where memory is divided.", G, 0}, collect_ns_priority},
        {{"yolk_namespace_share_bytes", "Memory that a namespace should have; 0 = none is divided, or not yet.", G, 0},
         collect_ns_share},
        {{"yolk_namespace_share_used_bytes", "Memory that it has of what is divided.", G, 0}, collect_ns_share_used},
        {{"yolk_namespace_share_hit_ratio", "What an LRU of its share would have hit of what it asked for of late.", G, 0},
         collect_ns_share_hit_ratio},
        {{"yolk_namespace_hits_total", "Lookups of payload that hit, by namespace and tier.", C, 0},
         collect_ns_hits},
        {{"yolk_namespace_misses_total",
          "Lookups of payload that missed in a tier; what misses in the lowest one is nowhere.", C, 0},
         collect_ns_misses},
        {{"yolk_process_cpu_seconds_total", "CPU time of the node.", C, 0}, collect_cpu},
        {{"yolk_process_resident_bytes", "Resident memory of the node.", G, 0}, collect_memory},
    };
    for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
        int rc = yk_metrics_add_collector(p->metrics, &list[i].d, list[i].fn, p, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int http_page_new(struct yk_http *h, struct http_page **ret_page, struct yk_err *err) {
    struct yk_node *node = h->node;
    struct http_page *p = calloc(1, sizeof(*p));
    if (p == NULL)
        return yk_err_set(err, -YK_ENOMEM, "out of memory");
    p->node = node;
    p->route.kept = &h->kept;
    int rc = yk_metrics_new(1024, &p->metrics);
    yk_node_stats(node, &p->now);
    if (rc == 0)
        rc = add_rows(p, rows, sizeof(rows) / sizeof(rows[0]), err);
    if (rc == 0 && p->now.store.cxl_capacity_bytes != 0)
        rc = add_rows(p, cxl_rows, sizeof(cxl_rows) / sizeof(cxl_rows[0]), err);
    if (rc == 0)
        rc = add_ops(p, err);
    if (rc == 0)
        rc = add_collectors(p, err);
    if (rc == 0)
        rc = add_cluster(p, err);
    if (rc == 0)
        rc = http_learned_add(node, p->metrics, err);
    if (rc == 0)
        rc = http_ssd_add(&p->ssd, node, p->metrics, err);
    if (rc == 0)
        rc = http_route_page_add(&p->route, p->metrics, err);
    if (rc < 0) {
        http_page_free(p);
        return rc;
    }
    *ret_page = p;
    return 0;
}

void http_page_free(struct http_page *p) {
    if (p == NULL)
        return;
    yk_metrics_free(p->metrics);
    free(p);
}

int http_page_render(struct http_page *p, yk_routes *routes, struct yk_buf *out) {
    yk_node_stats(p->node, &p->now);
    (void)yk_node_pool_figures(p->node, &p->cluster);
    http_ssd_copy(&p->ssd);
    http_route_page_copy(&p->route, routes);
    return yk_metrics_render(p->metrics, out);
}
