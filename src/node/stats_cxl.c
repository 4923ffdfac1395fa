/* SPDX-License-Identifier: Apache-2.0
 *
 * Slow memory in the node's statistics: the object "cxl" of the JSON, null where there is none.
 */
#include "node/node_priv.h"

#include "base/json.h"

#include <stddef.h>
#include <string.h>

static const struct {
    const char *name;
    size_t offset;
} fields[] = {
#define F(name, field)                                                                             \
    { name, offsetof(struct yk_counters, field) }
    F("blocks", cxl_blocks),
    F("block_bytes", cxl_block_bytes),
    F("capacity_bytes", cxl_capacity_bytes),
    F("free_bytes", cxl_free_bytes),
    F("idle_bytes", cxl_idle_bytes),
    F("hits", cxl_hits),
    F("hit_bytes", cxl_hit_bytes),
    F("sunk", sunk),
    F("sunk_bytes", sunk_bytes),
    F("sink_refused", sink_refused),
    F("sink_waits", sink_waits),
    F("risen", risen),
    F("risen_bytes", risen_bytes),
    F("rise_refused", rise_refused),
    F("left", cxl_evicted),
    F("latency_ns", cxl_latency_ns),
    F("bytes_per_s", cxl_bytes_per_s),
    F("dram_latency_ns", cxl_dram_latency_ns),
    F("dram_bytes_per_s", cxl_dram_bytes_per_s),
#undef F
};

void node_stats_cxl(const struct yk_node *node, struct yk_buf *out) {
    struct yk_counters n;
    struct yk_json j;
    yk_store_counters(node->store, &n);
    if (n.cxl_capacity_bytes == 0) {
        yk_buf_puts(out, ",\"cxl\":null");
        return;
    }
    yk_buf_puts(out, ",\"cxl\":");
    yk_json_init_buf(&j, out);
    yk_json_begin_object(&j);
    yk_json_put_bool(&j, "used", n.cxl_used != 0);
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        uint64_t v;
        memcpy(&v, (const char *)&n + fields[i].offset, sizeof(v));
        yk_json_put_uint(&j, fields[i].name, v);
    }
    yk_json_end_object(&j);
}
