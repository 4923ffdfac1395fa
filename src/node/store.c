/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening and closing of the block table (src/node/store.h), sizes that follow from the tier's, and
 * the counters that other threads read.
 */
#include "node/cxl_priv.h"

#include "shm/gate.h"

#include <stdlib.h>
#include <string.h>

/* A descriptor for each of these bytes: KV blocks have 16 KiB and more; smaller ones run out of
 * descriptors before memory. Only what is used becomes resident. */
#define BYTES_PER_BLOCK 4096u
#define BLOCKS_MIN      4096u
/* Reclaim begins below the percentage asked for and goes on to one and a half of it. */
#define RESERVE_MAX_DIV 4u

static uint64_t round_up(uint64_t n, uint64_t unit) {
    return (n + unit - 1) / unit * unit;
}

static void sizes(const struct yk_store_opts *opts, struct yk_segment_opts *so) {
    *so = opts->segment;
    uint64_t unit = so->huge_dir != NULL ? 2u << 20 : YK_SHM_PAGE;
    so->data_bytes = round_up(so->data_bytes, unit);
    so->slow_bytes = round_up(opts->cxl.bytes, unit);
    so->slow_node = opts->cxl.node;
    so->extents_bytes = yk_alloc_table_bytes(so->data_bytes);
    if (so->slow_bytes != 0) /* one table behind the other, and a page that is nobody's */
        so->extents_bytes += YK_SHM_PAGE + yk_alloc_table_bytes(so->slow_bytes);
    if (so->max_blocks == 0) {
        uint64_t n = (so->data_bytes + so->slow_bytes) / BYTES_PER_BLOCK;
        n = n < BLOCKS_MIN ? BLOCKS_MIN : n;
        so->max_blocks = n > YK_POLICY_IDS_MAX ? YK_POLICY_IDS_MAX : (uint32_t)n;
    }
}

uint64_t yk_store_beside_bytes(const struct yk_store_opts *opts) {
    struct yk_segment_opts so;
    struct yk_shm_layout l;
    sizes(opts, &so);
    if (yk_shm_layout_make(so.data_bytes + so.slow_bytes, so.max_blocks, so.max_clients, so.extents_bytes, &l) < 0)
        return 0;
    return l.meta_bytes + l.clients_bytes;
}

static int open_alloc(struct yk_store *s, struct yk_err *err) {
    struct yk_alloc_opts ao = {
        .size = sizeof(ao),
        .capacity_bytes = s->dram_bytes,
        .table = (char *)s->seg.meta + s->own.layout.off_extents,
        .table_bytes = yk_alloc_table_bytes(s->dram_bytes),
        .recover = s->seg.found != YK_SEGMENT_FRESH,
    };
    return yk_alloc_new(&ao, &s->alloc, err);
}

static int open_parts(struct yk_store *s, const struct yk_store_opts *opts, struct yk_err *err) {
    s->dram_bytes = s->seg.layout.data_bytes - s->seg.slow_bytes;
    int rc = yk_owner_init(&s->own, s->seg.meta, s->seg.clients, &s->seg.layout);
    if (rc == 0)
        rc = yk_view_init(&s->view, s->seg.meta, s->seg.layout.meta_bytes, s->seg.data,
                          s->seg.layout.data_bytes);
    if (rc == 0)
        rc = yk_pins_new(&s->view, &s->pins);
    if (rc == 0) {
        yk_pins_bind(s->pins, &s->own);
        rc = yk_store_clients_init(s);
    }
    if (rc == 0)
        rc = yk_policy_space_new(s->seg.layout.max_blocks, &s->space);
    if (rc == 0)
        rc = open_alloc(s, err);
    if (rc < 0)
        return yk_err_set(err, rc, "cannot open the block table: %s", yk_status_text(rc));
    uint64_t data = s->dram_bytes;
    s->low_bytes = data / 100u * opts->reserve_percent;
    if (s->low_bytes > data / RESERVE_MAX_DIV)
        s->low_bytes = data / RESERVE_MAX_DIV;
    s->high_bytes = s->low_bytes + s->low_bytes / 2u;
    s->held_max = data / 100u * opts->held_percent;
    STORE(&s->n.hard_pin_max_bytes, pins_max(s));
    s->capacity_blocks = opts->capacity_blocks;
    s->local_copies = opts->local_copies;
    s->next_expiry_ms = UINT64_MAX;
    yk_store_turn(s);
    s->seed = opts->seed;
    s->saved_growth = opts->saved_growth;
    s->replays = opts->replays;
    COUNT_ADD(s, meta_blocks_max, s->seg.layout.max_blocks);
    rc = yk_store_back_open(s);
    if (rc < 0)
        return yk_err_set(err, rc, "no memory for the block table: the file system of the segment, or "
                                   "the machine's memory, is full");
    yk_store_namespaces_recover(s);
    if (opts->ssd.dev_count > 0 || opts->pool != NULL || s->seg.slow_bytes != 0) {
        s->marks = calloc(s->own.layout.max_blocks, 1);
        if (s->marks == NULL)
            return yk_err_set(err, -YK_ENOMEM, "out of memory");
    }
    if (yk_store_partition_open(s) < 0)
        return yk_err_set(err, -YK_ENOMEM, "out of memory");
    rc = yk_store_cxl_open(s, opts, err);
    if (rc == 0)
        rc = yk_store_ssd_open(s, opts, err);
    if (rc == 0) {
        yk_store_learned_open(s, opts->learned_path);
        rc = yk_store_recover(s, err);
    }
    if (rc == 0)
        yk_store_cxl_ready(s);
    if (rc == 0)
        yk_store_ssd_ready(s);
    yk_store_gauges(s); /* who looks before the first tick sees the tier's size */
    if (rc == 0 && opts->pool != NULL)
        s->pool = *opts->pool;
    return rc;
}

int yk_store_open(const struct yk_store_opts *opts, struct yk_store **ret_store,
                  struct yk_err *err) {
    struct yk_segment_opts so;
    struct yk_store *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return yk_err_set(err, -YK_ENOMEM, "out of memory");
    s->policy_ops = yk_policy_find(opts->policy);
    if (s->policy_ops == NULL) {
        free(s);
        return yk_err_set(err, -YK_EINVAL, "there is no policy '%s'", opts->policy);
    }
    sizes(opts, &so);
    int rc = yk_segment_open(&s->seg, &so, err);
    if (rc < 0) {
        free(s);
        return rc;
    }
    /* What was removed elsewhere is still found by those who have it mapped, until the cluster has been heard. */
    int waits = opts->pool != NULL && opts->pool->waits;
    if (waits)
        yk_gate_set(s->seg.meta, YK_GATE_SHUT);
    rc = open_parts(s, opts, err);
    if (rc < 0) {
        yk_store_close(s, 0);
        return rc;
    }
    if (!waits)
        yk_gate_set(s->seg.meta, YK_GATE_NONE);
    *ret_store = s;
    return 0;
}

void yk_store_close(struct yk_store *s, int clean) {
    if (s == NULL)
        return;
    yk_store_pool_forget(s);
    yk_store_ssd_close(s, clean);
    for (uint32_t i = 0; i < s->policy_count; i++)
        yk_policy_free(s->policies[i]);
    yk_store_learned_forget(s);
    yk_store_partition_close(s);
    yk_policy_space_free(s->space);
    yk_store_cxl_close(s);
    yk_alloc_free(s->alloc);
    yk_owner_fini(&s->own);
    yk_pins_free(s->pins);
    yk_store_clients_fini(s);
    yk_store_back_close(s);
    yk_segment_close(&s->seg, clean);
    free(s->move_map);
    free(s->marks);
    free(s);
}

void yk_store_pool_forget(struct yk_store *s) {
    memset(&s->pool, 0, sizeof(s->pool));
}

const char *yk_store_policy(const struct yk_store *s) {
    return s->policy_ops->name;
}

struct yk_segment *yk_store_segment(struct yk_store *s) {
    return &s->seg;
}

struct yk_pins *yk_store_pins(struct yk_store *s) {
    return s->pins;
}

const struct yk_view *yk_store_view(const struct yk_store *s) {
    return &s->view;
}

void yk_store_counters(const struct yk_store *s, struct yk_counters *ret) {
    const uint64_t *from = (const uint64_t *)(const void *)&s->n;
    uint64_t *to = (uint64_t *)(void *)ret;
    for (size_t i = 0; i < sizeof(*ret) / sizeof(uint64_t); i++)
        to[i] = LOAD(&from[i]);
    struct yk_pins_counts p;
    yk_pins_counts(s->pins, &p);
    ret->remote_reads = p.reads;
    ret->remote_read_bytes = p.read_bytes;
    ret->remote_writes = p.writes;
    ret->remote_write_bytes = p.write_bytes;
    ret->remote_missed = p.missed;
    ret->remote_full = p.full;
}

void yk_store_ns_lookups(const struct yk_store *s, uint32_t ns, struct yk_ns_lookups *ret) {
    const struct yk_ns_lookups *n = &s->shares[ns < YK_SHM_NAMESPACES ? ns : 0].n;
    *ret = (struct yk_ns_lookups){LOAD(&n->local_hits), LOAD(&n->local_misses), LOAD(&n->node_hits),
                                  LOAD(&n->node_misses), LOAD(&n->ssd_hits)};
}
