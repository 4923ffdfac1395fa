/* SPDX-License-Identifier: Apache-2.0
 *
 * The SSD tier in the node's statistics: the object "ssd" of the JSON, null where there is none.
 *
 * Write amplification is bytes written to the devices over bytes of blocks put: what cleaning, headers,
 * footers and padding add. It is 0 until something was put.
 */
#include "node/node_priv.h"

#include "base/json.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

const struct yk_ssd *yk_node_ssd(const struct yk_node *node) {
    return yk_store_ssd(node->store);
}

static const struct {
    const char *name;
    size_t offset;
} fields[] = {
#define F(name)                                                                                    \
    { #name, offsetof(struct yk_ssd_counters, name) }
    F(blocks),         F(block_bytes),
    F(capacity_bytes), F(free_bytes),
    F(queued_bytes),   F(reads_now),
    F(meta_bytes),     F(key_bytes),
    F(devices_ok),     F(puts),
    F(put_bytes),      F(put_fails),
    F(reads),          F(read_bytes),
    F(read_fails),     F(rotten),
    F(written_bytes),  F(clean_bytes),
    F(clean_blocks),   F(clean_segments),
    F(clean_dropped),  F(clean_dropped_bytes),
    F(tombstones),     F(flushes),
    F(batches),        F(checkpoints),
    F(expired),        F(outdated),
    F(evicted),        F(removed),
    F(recovered),      F(recovery_dropped),
    F(recovery_torn),  F(recovery_us),
    F(recovery_bytes), F(throttle_ns),
    F(io_errors),
#undef F
};

static const char *state_name(uint8_t state) {
    return state == YK_SSD_DEV_OK ? "ok" : state == YK_SSD_DEV_READ_ONLY ? "read-only" : "gone";
}

/* Why it is in its state, and what is slower than it could be. */
static void put_note(struct yk_json *j, const struct yk_ssd_dev_stats *st) {
    char both[sizeof(st->note) + sizeof(st->io_note) + 2];
    snprintf(both, sizeof(both), "%s%s%s", st->note,
             st->note[0] != 0 && st->io_note[0] != 0 ? "; " : "", st->io_note);
    yk_json_put_str(j, "note", both);
}

static void put_device(struct yk_json *j, const struct yk_ssd *ssd, uint32_t dev) {
    struct yk_ssd_dev_stats st;
    yk_ssd_dev_stats_get(ssd, dev, &st);
    const struct yk_file_stats *io = &st.io;
    yk_json_begin_object(j);
    yk_json_put_str(j, "path", st.path);
    yk_json_put_str(j, "state", state_name(st.state));
    yk_json_put_bool(j, "direct", st.direct);
    yk_json_put_bool(j, "fixed_file", st.fixed_file);
    yk_json_put_bool(j, "fixed_mem", st.fixed_mem);
    yk_json_put_uint(j, "fixed_bytes", st.fixed_bytes);
    yk_json_put_uint(j, "size_bytes", st.size_bytes);
    yk_json_put_uint(j, "segment_bytes", st.segment_bytes);
    yk_json_put_uint(j, "segments", st.segments);
    yk_json_put_uint(j, "segments_free", st.segments_free);
    yk_json_put_uint(j, "live_bytes", st.live_bytes);
    yk_json_put_uint(j, "wear_bytes", st.wear_bytes);
    yk_json_put_uint(j, "queue_depth", io->queued);
    yk_json_put_uint(j, "reads", io->ops[YK_FILE_READ]);
    yk_json_put_uint(j, "read_bytes", io->bytes[YK_FILE_READ]);
    yk_json_put_uint(j, "writes", io->ops[YK_FILE_WRITE]);
    yk_json_put_uint(j, "written_bytes", io->bytes[YK_FILE_WRITE]);
    yk_json_put_uint(j, "flushes", io->ops[YK_FILE_FLUSH]);
    yk_json_put_uint(j, "discarded_bytes", io->bytes[YK_FILE_DISCARD]);
    yk_json_put_uint(j, "bounced_bytes", io->bounced_bytes);
    yk_json_put_uint(j, "read_errors", io->errors[YK_FILE_READ]);
    yk_json_put_uint(j, "write_errors", io->errors[YK_FILE_WRITE] + io->errors[YK_FILE_FLUSH]);
    yk_json_put_uint(j, "stalled_ms", st.stalled_ms);
    yk_json_put_str(j, "cleaner", st.cleaner);
    put_note(j, &st);
    yk_json_end_object(j);
}

static void put_hist(struct yk_json *j, const char *name, const struct yk_hist *from) {
    struct yk_hist h;
    yk_hist_snapshot(from, &h);
    yk_json_key(j, name);
    yk_json_begin_object(j);
    yk_json_put_uint(j, "count", yk_hist_count(&h));
    yk_json_put_double(j, "p50_us", (double)yk_hist_percentile(&h, 50) / 1e3);
    yk_json_put_double(j, "p99_us", (double)yk_hist_percentile(&h, 99) / 1e3);
    yk_json_put_double(j, "p999_us", (double)yk_hist_percentile(&h, 99.9) / 1e3);
    yk_json_end_object(j);
}

void node_stats_ssd(const struct yk_node *node, struct yk_buf *out) {
    const struct yk_ssd *ssd = yk_node_ssd(node);
    struct yk_ssd_counters n;
    struct yk_json j;
    if (ssd == NULL) {
        yk_buf_puts(out, ",\"ssd\":null");
        return;
    }
    yk_ssd_counters_get(ssd, &n);
    yk_buf_puts(out, ",\"ssd\":");
    yk_json_init_buf(&j, out);
    yk_json_begin_object(&j);
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        uint64_t v;
        memcpy(&v, (const char *)&n + fields[i].offset, sizeof(v));
        yk_json_put_uint(&j, fields[i].name, v);
    }
    yk_json_put_double(&j, "write_amplification",
                       n.put_bytes > 0 ? (double)n.written_bytes / (double)n.put_bytes : 0);
    yk_json_key(&j, "devices");
    yk_json_begin_array(&j);
    for (uint32_t i = 0; i < n.devices && i < YK_SSD_DEVICES_MAX; i++)
        put_device(&j, ssd, i);
    yk_json_end_array(&j);
    yk_json_key(&j, "latency");
    yk_json_begin_object(&j);
    put_hist(&j, "read", yk_ssd_latency(ssd, 0));
    put_hist(&j, "write", yk_ssd_latency(ssd, 1));
    yk_json_end_object(&j);
    yk_json_end_object(&j);
}
