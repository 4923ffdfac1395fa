/* SPDX-License-Identifier: Apache-2.0
 *
 * Entries, keys, index and order of use (table.h).
 */
#include "tier/ssd/table.h"

#include "base/hash.h"

#include <string.h>
#include <sys/mman.h>

#include <yolk/status.h>

#define CELLS_MAX ((1ull << 32) - 64u) /* granules that 32 bits name */

static uint64_t id_hash(const void *arg, uint32_t id) {
    return yk_ssd_table_hash(arg, id);
}

static void id_prefetch(const void *arg, uint32_t id) {
    __builtin_prefetch(&((const struct yk_ssd_table *)arg)->e[id]);
}

static void *reserve(uint64_t bytes) {
    void *m = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    return m == MAP_FAILED ? NULL : m;
}

int yk_ssd_table_init(struct yk_ssd_table *t, uint32_t max, void *index_mem, uint64_t index_bytes) {
    memset(t, 0, sizeof(*t));
    t->max = max;
    t->free = t->youngest = t->oldest = YK_SSD_NONE;
    yk_attrs_init(&t->attrs);
    uint64_t cells = (uint64_t)max * (YK_CELL_CLASSES - 1u);
    t->e = reserve((uint64_t)max * sizeof(*t->e));
    t->index_own = index_mem == NULL;
    t->index_bytes = index_mem == NULL ? yk_filter_bytes(max) : index_bytes;
    t->index_mem = index_mem == NULL ? reserve(t->index_bytes) : index_mem;
    struct yk_index_ids ids = {.hash = id_hash, .prefetch = id_prefetch, .arg = t, .max = max};
    int rc = t->e == NULL || t->index_mem == NULL ? -YK_ENOMEM : 0;
    if (rc == 0)
        rc = yk_cells_init(&t->cells, cells < CELLS_MAX ? cells : CELLS_MAX);
    if (rc == 0)
        rc = yk_filter_make(t->index_mem, t->index_bytes, &ids, &t->index);
    if (rc < 0)
        yk_ssd_table_fini(t);
    return rc;
}

void yk_ssd_table_fini(struct yk_ssd_table *t) {
    if (t->e != NULL)
        munmap(t->e, (uint64_t)t->max * sizeof(*t->e));
    if (t->index_own && t->index_mem != NULL)
        munmap(t->index_mem, t->index_bytes);
    yk_cells_fini(&t->cells);
    t->e = NULL;
    t->index_mem = NULL;
}

/* ---- cells ------------------------------------------------------------------------------------------ */

static uint32_t words_of(uint32_t attr) {
    return (uint32_t)__builtin_popcount(attr &
                                        (YK_SSD_A_EXPIRY | YK_SSD_A_SESSION | YK_SSD_A_ATTR));
}

static uint32_t granules_of(uint32_t key_len, uint32_t attr) {
    return (key_len + 7u) / 8u + words_of(attr);
}

/* Where the word of a bit stands in the cell: those of lower bits come first. */
static uint64_t *word_at(const struct yk_ssd_table *t, const struct yk_ssd_entry *e, uint32_t bit) {
    return yk_cell(&t->cells, e->cell) + words_of(e->attr & (bit - 1u));
}

const void *yk_ssd_table_key(const struct yk_ssd_table *t, uint32_t id) {
    const struct yk_ssd_entry *e = &t->e[id];
    return yk_cell(&t->cells, e->cell) + words_of(e->attr);
}

uint64_t yk_ssd_table_hash(const struct yk_ssd_table *t, uint32_t id) {
    return yk_hash_key(t->e[id].ns, yk_ssd_table_key(t, id), t->e[id].key_len);
}

uint64_t yk_ssd_table_expiry(const struct yk_ssd_table *t, uint32_t id) {
    const struct yk_ssd_entry *e = &t->e[id];
    return e->attr & YK_SSD_A_EXPIRY ? *word_at(t, e, YK_SSD_A_EXPIRY) : 0;
}

uint64_t yk_ssd_table_session(const struct yk_ssd_table *t, uint32_t id) {
    const struct yk_ssd_entry *e = &t->e[id];
    return e->attr & YK_SSD_A_SESSION ? *word_at(t, e, YK_SSD_A_SESSION) : 0;
}

void yk_ssd_table_attr(const struct yk_ssd_table *t, uint32_t id, uint32_t *ret_length,
                       uint32_t *ret_model) {
    const struct yk_ssd_entry *e = &t->e[id];
    uint32_t number = e->attr & YK_SSD_A_NUMBER;
    *ret_length = t->attrs.a[number].length_tokens;
    *ret_model = t->attrs.a[number].model;
    if (e->attr & YK_SSD_A_ATTR) {
        uint64_t w = *word_at(t, e, YK_SSD_A_ATTR);
        *ret_length = (uint32_t)w;
        *ret_model = (uint32_t)(w >> 32);
    }
}

static void words_write(uint64_t *cell, uint32_t attr, uint64_t expiry, uint64_t session,
                        uint64_t pair) {
    if (attr & YK_SSD_A_EXPIRY)
        *cell++ = expiry;
    if (attr & YK_SSD_A_SESSION)
        *cell++ = session;
    if (attr & YK_SSD_A_ATTR)
        *cell = pair;
}

static void key_write(uint64_t *at, const void *key, uint32_t key_len) {
    at[(key_len - 1u) / 8u] = 0;
    memcpy(at, key, key_len);
}

int yk_ssd_table_expiry_set(struct yk_ssd_table *t, uint32_t id, uint64_t expiry_ms) {
    struct yk_ssd_entry *e = &t->e[id];
    if (e->attr & YK_SSD_A_EXPIRY) { /* 0 is as good as none there */
        *word_at(t, e, YK_SSD_A_EXPIRY) = expiry_ms;
        return 0;
    }
    if (expiry_ms == 0)
        return 0;
    uint32_t old = granules_of(e->key_len, e->attr);
    uint32_t cell = yk_cells_take(&t->cells, old + 1u);
    if (cell == YK_CELL_NONE)
        return -YK_ELIMIT;
    uint64_t *to = yk_cell(&t->cells, cell);
    to[0] = expiry_ms;
    memcpy(to + 1, yk_cell(&t->cells, e->cell), old * 8u);
    yk_cells_give(&t->cells, e->cell, old);
    e->cell = cell;
    e->attr |= YK_SSD_A_EXPIRY;
    return 0;
}

/* ---- order of use ------------------------------------------------------------------------------------ */

void yk_ssd_table_link(struct yk_ssd_table *t, uint32_t id) {
    struct yk_ssd_entry *e = &t->e[id];
    e->prev = YK_SSD_NONE;
    e->next = t->youngest;
    if (t->youngest != YK_SSD_NONE)
        t->e[t->youngest].prev = id;
    else
        t->oldest = id;
    t->youngest = id;
    t->clock++;
    e->stamp = yk_ssd_stamp(t);
}

void yk_ssd_table_unlink_order(struct yk_ssd_table *t, uint32_t id) {
    struct yk_ssd_entry *e = &t->e[id];
    if (e->prev != YK_SSD_NONE)
        t->e[e->prev].next = e->next;
    else
        t->youngest = e->next;
    if (e->next != YK_SSD_NONE)
        t->e[e->next].prev = e->prev;
    else
        t->oldest = e->prev;
    e->prev = e->next = YK_SSD_NONE;
}

void yk_ssd_table_touch(struct yk_ssd_table *t, uint32_t id) {
    if (t->youngest == id) {
        t->clock++;
        t->e[id].stamp = yk_ssd_stamp(t);
        return;
    }
    yk_ssd_table_unlink_order(t, id);
    yk_ssd_table_link(t, id);
}

/* ---- entries ------------------------------------------------------------------------------------------- */

static uint32_t id_take(struct yk_ssd_table *t) {
    uint32_t id = t->free;
    if (id != YK_SSD_NONE)
        t->free = t->e[id].next;
    else if (t->top < t->max)
        id = t->top++;
    return id;
}

static void id_give(struct yk_ssd_table *t, uint32_t id) {
    t->e[id].flags = 0;
    t->e[id].next = t->free;
    t->free = id;
}

int yk_ssd_table_add(struct yk_ssd_table *t, const struct yk_ssd_new *n, uint32_t *ret_id) {
    uint32_t id = id_take(t);
    if (id == YK_SSD_NONE)
        return -YK_ELIMIT;
    uint32_t number = yk_attrs_take(&t->attrs, n->length_tokens, n->model);
    uint32_t attr = number == YK_ATTR_NONE ? YK_SSD_A_ATTR : number;
    attr |= (n->expiry_ms != 0 ? YK_SSD_A_EXPIRY : 0) | (n->session != 0 ? YK_SSD_A_SESSION : 0);
    uint32_t granules = granules_of(n->key_len, attr);
    uint32_t cell = yk_cells_take(&t->cells, granules);
    if (cell == YK_CELL_NONE)
        goto err_attr;
    struct yk_ssd_entry *e = &t->e[id];
    *e = (struct yk_ssd_entry){.sum = n->sum,
                               .len = n->len,
                               .cell = cell,
                               .parent_hash = n->parent_hash,
                               .depth_tokens = n->depth_tokens,
                               .attr = (uint16_t)attr,
                               .ns = n->ns,
                               .key_len = (uint8_t)n->key_len,
                               .kind = n->kind,
                               .flags = n->flags | YK_SSD_E_USED};
    yk_ssd_entry_place_set(e, n->place);
    words_write(yk_cell(&t->cells, cell), attr, n->expiry_ms, n->session,
                (uint64_t)n->model << 32 | n->length_tokens);
    key_write(yk_cell(&t->cells, cell) + words_of(attr), n->key, n->key_len);
    if (yk_index_insert(&t->index, n->hash, id) < 0)
        goto err_cell;
    yk_ssd_table_link(t, id);
    t->count++;
    *ret_id = id;
    return 0;
err_cell:
    yk_cells_give(&t->cells, cell, granules);
err_attr:
    yk_attrs_give(&t->attrs, attr & YK_SSD_A_NUMBER);
    id_give(t, id);
    return -YK_ELIMIT;
}

void yk_ssd_table_unlink(struct yk_ssd_table *t, uint32_t id) {
    yk_index_remove(&t->index, yk_ssd_table_hash(t, id), id);
    yk_ssd_table_unlink_order(t, id);
    t->e[id].flags |= YK_SSD_E_DEAD;
    t->count--;
}

void yk_ssd_table_free(struct yk_ssd_table *t, uint32_t id) {
    struct yk_ssd_entry *e = &t->e[id];
    yk_cells_give(&t->cells, e->cell, granules_of(e->key_len, e->attr));
    yk_attrs_give(&t->attrs, e->attr & YK_SSD_A_NUMBER);
    id_give(t, id);
}

int yk_ssd_table_next(const struct yk_ssd_table *t, uint32_t ns, uint64_t hash, const void *key,
                      uint32_t key_len, struct yk_index_cursor *cursor, uint32_t *ret_id) {
    uint32_t id;
    while (yk_index_next(&t->index, hash, cursor, &id)) {
        const struct yk_ssd_entry *e = &t->e[id];
        if (e->ns == ns && e->key_len == key_len &&
            memcmp(yk_ssd_table_key(t, id), key, key_len) == 0) {
            *ret_id = id;
            return 1;
        }
    }
    return 0;
}

int yk_ssd_table_next_half(const struct yk_ssd_table *t, uint32_t ns, uint32_t half,
                           struct yk_index_cursor *cursor, uint32_t *ret_id) {
    uint32_t id;
    while (yk_index_next_any(&t->index, half, cursor, &id)) {
        if (t->e[id].ns == ns && (uint32_t)yk_ssd_table_hash(t, id) == half) {
            *ret_id = id;
            return 1;
        }
    }
    return 0;
}

int yk_ssd_table_by_hash(const struct yk_ssd_table *t, uint64_t hash, uint32_t *ret_id) {
    struct yk_index_cursor cursor = {0};
    while (yk_index_next(&t->index, hash, &cursor, ret_id))
        if (yk_ssd_table_hash(t, *ret_id) == hash)
            return 1;
    return 0;
}

uint64_t yk_ssd_table_bytes(const struct yk_ssd_table *t) {
    const struct yk_index *x = &t->index;
    uint64_t buckets = (1ull << x->level) + x->split + x->overflow_top;
    return (uint64_t)t->top * sizeof(struct yk_ssd_entry) + buckets * sizeof(struct yk_bucket) +
           sizeof(t->attrs);
}
