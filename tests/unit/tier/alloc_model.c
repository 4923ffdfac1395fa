/* SPDX-License-Identifier: Apache-2.0
 *
 * See alloc_model.h.
 */
#include "alloc_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

uint64_t model_rand(struct model *m, uint64_t n) {
    m->rng ^= m->rng >> 12;
    m->rng ^= m->rng << 25;
    m->rng ^= m->rng >> 27;
    return (m->rng * 0x2545f4914f6cdd1dull >> 20) % n;
}

uint64_t model_len(struct model *m, enum model_sizes sizes) {
    static const uint64_t few[] = {36864, 9000, 65536, 20480};
    switch (sizes) {
    case SIZES_FEW:
        return few[model_rand(m, 4)];
    case SIZES_SMALL:
        return 1 + model_rand(m, 5000);
    case SIZES_ODD:
        return 1 + model_rand(m, 70000);
    case SIZES_LARGE:
        return 1 + model_rand(m, 2000000);
    default:
        return model_len(m, (enum model_sizes)model_rand(m, SIZES_ALL));
    }
}

static void alloc_open(struct model *m) {
    struct yk_alloc_opts opts = {.size = sizeof(opts),
                                 .capacity_bytes = m->capacity_bytes,
                                 .table = m->table,
                                 .table_bytes = yk_alloc_table_bytes(m->capacity_bytes)};
    struct yk_err err = {0};
    if (yk_alloc_new(&opts, &m->a, &err) < 0)
        fail_msg("yk_alloc_new: %s", err.text);
}

void model_init(struct model *m, uint64_t capacity_bytes, bool table, uint64_t seed) {
    uint64_t units = capacity_bytes / 64 + 1;
    *m = (struct model){
        .capacity_bytes = capacity_bytes, .max = units, .rng = seed * 0x9e3779b97f4a7c15ull + 1};
    m->owner = calloc(units, sizeof(m->owner[0]));
    m->live = calloc(units, sizeof(m->live[0]));
    assert_non_null(m->owner);
    assert_non_null(m->live);
    if (table) {
        m->table = malloc(yk_alloc_table_bytes(capacity_bytes));
        assert_non_null(m->table);
        memset(m->table, 0xa5, yk_alloc_table_bytes(capacity_bytes));
    }
    alloc_open(m);
}

void model_fini(struct model *m) {
    yk_alloc_free(m->a);
    free(m->table);
    free(m->owner);
    free(m->live);
}

void model_own(struct model *m, uint64_t offset, uint64_t len, uint32_t from, uint32_t to) {
    assert_true(len > 0 && offset + len <= m->capacity_bytes);
    assert_int_equal(offset % (len < 4096 ? 64 : 512), 0);
    for (uint64_t u = offset / 64; u < (offset + len + 63) / 64; u++) {
        if (m->owner[u] != from)
            fail_msg("unit %llu belongs to %u, expected %u", (unsigned long long)u, m->owner[u],
                     from);
        m->owner[u] = to;
    }
}

int model_get(struct model *m, uint64_t len) {
    uint64_t offset = UINT64_MAX;
    int rc = yk_alloc_get(m->a, len, &offset);
    if (rc < 0) {
        assert_int_equal(rc, -YK_ENOSPC);
        assert_true(offset == UINT64_MAX);
        return rc;
    }
    uint32_t id = ++m->last_id;
    model_own(m, offset, len, 0, id);
    m->live[m->count++] = (struct model_block){offset, len, id};
    m->payload_bytes += len;
    return 0;
}

void model_drop(struct model *m, size_t i) {
    struct model_block b = m->live[i];
    model_own(m, b.offset, b.len, b.id, 0);
    m->payload_bytes -= b.len;
    m->live[i] = m->live[--m->count];
}

void model_put(struct model *m, size_t i) {
    struct model_block b = m->live[i];
    assert_int_equal(yk_alloc_put(m->a, b.offset, b.len), 0);
    model_drop(m, i);
}

size_t model_find(const struct model *m, uint64_t offset) {
    size_t i = 0;
    while (i < m->count && m->live[i].offset != offset)
        i++;
    return i;
}

void model_check(const struct model *m, uint64_t extra_slots) {
    struct yk_alloc_stats st;
    struct yk_alloc_class_stats cs[1024];
    yk_alloc_stats(m->a, &st);
    assert_int_equal(st.capacity_bytes, m->capacity_bytes);
    assert_int_equal(st.payload_bytes, m->payload_bytes);
    assert_int_equal(st.slots, m->count + extra_slots);
    assert_true(st.slot_bytes >= st.payload_bytes);
    assert_int_equal(st.slot_bytes + st.idle_bytes + st.free_bytes + st.waste_bytes,
                     st.capacity_bytes);
    assert_true(st.largest_free_bytes <= st.free_bytes);
    uint32_t n = yk_alloc_classes(m->a, cs, 1024), extents = 0;
    uint64_t used = 0, slots = 0;
    for (uint32_t i = 0; i < n; i++) {
        assert_true(cs[i].used <= cs[i].slots);
        extents += cs[i].extents;
        used += cs[i].used * cs[i].slot_bytes;
        slots += cs[i].slots * cs[i].slot_bytes;
    }
    assert_int_equal(extents, st.extents);
    if (extra_slots == 0) /* else extents may be draining: in no class's figures */
        assert_true(used <= st.slot_bytes && slots - used <= st.idle_bytes);
}

void model_empty(struct model *m) {
    while (m->count > 0)
        model_put(m, model_rand(m, m->count));
    assert_int_equal(yk_alloc_compact_begin(m->a, 0), 0);
    model_check(m, 0);
    struct yk_alloc_stats st;
    yk_alloc_stats(m->a, &st);
    assert_int_equal(st.free_bytes, st.capacity_bytes / st.page_bytes * st.page_bytes);
    assert_int_equal(st.largest_free_bytes, st.free_bytes);
    assert_int_equal(st.extents + st.runs, 0);
}
