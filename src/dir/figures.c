/* SPDX-License-Identifier: Apache-2.0
 *
 * What is counted of the cluster, as the rows of node/pool_figures.h want it: for the node's statistics and metrics,
 * and for guests that look at all nodes (INFO with a byte, wire/dir.h).
 *
 * Threads: any; dir_figures_json: the directory's loop.
 */
#include "dir/dir_priv.h"

#include "base/hist.h"
#include "base/json.h"
#include "tier/ssd/ssd.h"

void dir_figures(void *arg, struct yk_pool_figures *ret) {
    struct yk_dir_stats n;
    yk_dir_stats(arg, &n);
    *ret = (struct yk_pool_figures){
        .members = n.members,
        .returning = n.returning,
        .expelled = n.expelled,
        .serves = n.serves != 0,
        .etcd = n.etcd != 0,
        .balancer = n.balancer != 0,
        .incarnation = n.incarnation,
        .map_version = n.map_version,
        .slots_owned = n.core.slots_owned,
        .slots_whole = n.core.slots_whole,
        .entries = n.core.entries,
        .aliases = n.core.aliases,
        .held = n.core.held,
        .unpublished = n.core.unpublished,
        .removes_pending = n.core.removes_pending,
        .removes = n.core.removes,
        .conflicts = n.core.conflicts,
        .repaired = n.core.digests_differed,
        .finds = n.core.finds,
        .asks = n.asks,
        .ask_keys = n.ask_keys,
        .cache_hits = n.cache_hits,
        .refused = n.refused,
        .asking = n.asking,
        .pulled = n.pulled,
        .pull_failed = n.pull_failed,
        .pull_tries = n.pull_tries,
        .pulling = n.pulling,
        .pulled_bytes = n.pulled_bytes,
        .pulled_cross_bytes = n.far_pulled_bytes,
        .lent = n.lent,
        .peer_conns = n.peers.conns,
        .frames_in = n.peers.frames_in,
        .frames_out = n.peers.frames_out,
        .bytes_in = n.peers.bytes_in,
        .bytes_out = n.peers.bytes_out,
        .broken = n.peers.broken,
        .refused_frames = n.peers.refused,
        .timeouts = n.peers.timeouts,
        .log_records = n.core.log_records,
        .log_bytes = n.core.log_bytes,
        .log_failed = (unsigned)n.kept_out,
    };
}

/* What a node has and does beside the cluster, as far as a view of all nodes needs it. */
static void put_store(const struct yk_dir *d, struct yk_json *j) {
    struct yk_node_stats n;
    yk_node_stats(d->node, &n);
    yk_json_put_uint(j, "capacity_bytes", n.store.capacity_bytes);
    yk_json_put_uint(j, "blocks", n.store.blocks);
    yk_json_put_uint(j, "block_bytes", n.store.block_bytes);
    yk_json_put_uint(j, "clients", n.store.clients);
    yk_json_put_uint(j, "hits", n.store.local_hits + n.store.node_hits);
    yk_json_put_uint(j, "misses", n.store.local_misses + n.store.node_misses);
    yk_json_put_uint(j, "commits", n.store.commits);
    yk_json_put_uint(j, "put_bytes", n.store.put_bytes);
    yk_json_put_uint(j, "copies", n.store.copies);
    yk_json_put_uint(j, "copy_bytes", n.store.copy_bytes);
}

static void put_meter(struct yk_json *j, const char *key, const struct dir_meter *m) {
    yk_json_key(j, key);
    yk_json_begin_object(j);
    yk_json_put_uint(j, "bytes", m->bytes);
    yk_json_put_uint(j, "busy_ns", dir_meter_busy_ns(m));
    yk_json_end_object(j);
}

static void put_ssd(const struct yk_ssd *ssd, struct yk_json *j) {
    struct yk_ssd_counters n;
    struct yk_hist reads;
    yk_ssd_counters_get(ssd, &n);
    yk_hist_snapshot(yk_ssd_latency(ssd, 0), &reads);
    yk_json_key(j, "ssd");
    yk_json_begin_object(j);
    yk_json_put_uint(j, "capacity_bytes", n.capacity_bytes);
    yk_json_put_uint(j, "free_bytes", n.free_bytes);
    yk_json_put_uint(j, "reads", yk_hist_count(&reads));
    yk_json_put_uint(j, "read_ns", reads.sum_ns);
    yk_json_put_uint(j, "read_bytes", n.read_bytes);
    yk_json_put_uint(j, "reads_now", n.reads_now);
    yk_json_end_object(j);
}

/* What a transfer to here, or from here, has to do with: for routers (cmd/yolkd/reports.c). */
static void put_transfers(const struct yk_dir *d, struct yk_json *j) {
    struct yk_node_stats n;
    const struct yk_ssd *ssd = yk_node_ssd(d->node);
    yk_node_stats(d->node, &n);
    put_meter(j, "near", &d->near);
    put_meter(j, "far", &d->far);
    yk_json_put_uint(j, "sent_bytes", n.store.remote_read_bytes);
    yk_json_put_uint(j, "free_bytes", n.store.free_bytes + n.store.idle_bytes);
    if (ssd != NULL)
        put_ssd(ssd, j);
}

static void put_spaces(const struct yk_dir *d, struct yk_json *j) {
    yk_ns_info info;
    yk_json_key(j, "namespaces");
    yk_json_begin_array(j);
    for (uint32_t i = 0; i < YK_SHM_NAMESPACES; i++) {
        if (yk_node_ns_info(d->node, i, &info) != 0)
            continue;
        yk_json_begin_object(j);
        yk_json_put_str(j, "name", info.name);
        yk_json_put_uint(j, "epoch", info.epoch);
        yk_json_put_uint(j, "quota_bytes", info.quota_bytes);
        yk_json_put_uint(j, "copies", info.copies);
        yk_json_put_uint(j, "guarantee_bytes", info.guarantee_bytes);
        yk_json_put_uint(j, "priority", info.priority);
        yk_json_put_uint(j, "guaranteed_bytes", info.guaranteed_bytes);
        yk_json_put_uint(j, "share_bytes", info.share_bytes);
        yk_json_put_uint(j, "share_used_bytes", info.share_used_bytes);
        yk_json_put_uint(j, "used_bytes", info.used_bytes);
        yk_json_put_uint(j, "blocks", info.blocks);
        yk_json_end_object(j);
    }
    yk_json_end_array(j);
}

void dir_figures_json(const struct yk_dir *d, struct yk_buf *out) {
    struct yk_pool_figures f;
    struct yk_json j;
    dir_figures((void *)(uintptr_t)d, &f);
    yk_json_init_buf(&j, out);
    yk_json_begin_object(&j);
    yk_json_put_str(&j, "name", d->opts.name);
    yk_json_put_uint(&j, "id", d->self);
    put_store(d, &j);
    put_transfers(d, &j);
#define PUT(field, type, metric, label, value, help) yk_json_put_uint(&j, #field, f.field);
    YK_POOL_FIGURES(PUT)
#undef PUT
    put_spaces(d, &j);
    yk_json_end_object(&j);
    (void)yk_json_finish(&j);
}
