/* SPDX-License-Identifier: Apache-2.0
 *
 * Free descriptors and key cells, generations, hazard scans, access rings (src/shm/owner.h).
 */
#include "shm/owner.h"

#include "base/clock.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Generations are promised in blocks of this many, so that the persisted limit is written once in
 * a million changes. */
#define GEN_BLOCK (1ull << 20)
/* Persisted generations at or above are scribble: the clock gets there in a thousand years. */
#define GEN_ABSURD (1ull << 55)
/* Words of the hazard bitmap that are cleared one by one; above it the whole bitmap is. */
#define NAMED_MAX 4096u

int yk_owner_init(struct yk_owner *o, void *meta, void *clients,
                  const struct yk_shm_layout *layout) {
    unsigned char *base = meta;
    memset(o, 0, sizeof(*o));
    o->hdr = meta;
    o->layout = *layout;
    o->desc_limit = layout->max_blocks;
    o->key_limit = layout->max_key_granules;
    o->ns = (struct yk_ns_entry *)(base + layout->off_ns);
    o->owners = (struct yk_client_owner *)(base + layout->off_owners);
    o->desc = (struct yk_desc *)(base + layout->off_desc);
    o->rest = (struct yk_rest *)(base + layout->off_rest);
    o->keys = base + layout->off_keys;
    o->pages = clients;
    o->named = calloc((layout->max_blocks + 63u) / 64u, sizeof(uint64_t));
    o->named_list = calloc(NAMED_MAX, sizeof(uint32_t));
    if (o->named == NULL || o->named_list == NULL) {
        yk_owner_fini(o);
        return -YK_ENOMEM;
    }
    /* At least the clock in microseconds: above any generation of a segment that this host lost
     * earlier, and of this one if its limit was scribbled on, as long as no more than one change a
     * microsecond was made. */
    uint64_t clock_us = yk_wall_ms() * 1000u;
    uint64_t limit = o->hdr->gen_limit;
    if (limit < clock_us || limit >= GEN_ABSURD)
        limit = o->hdr->gen_limit = clock_us;
    o->gen_next = o->gen_limit = limit;
    return 0;
}

void yk_owner_fini(struct yk_owner *o) {
    free(o->named);
    free(o->named_list);
    o->named = NULL;
    o->named_list = NULL;
}

uint64_t yk_owner_gen(struct yk_owner *o) {
    if (o->gen_next == o->gen_limit) {
        o->gen_limit += GEN_BLOCK;
        __atomic_store_n(&o->hdr->gen_limit, o->gen_limit, __ATOMIC_RELEASE);
    }
    return o->gen_next++;
}

static int desc_is_free(const struct yk_owner *o, uint32_t idx) {
    return idx < o->layout.max_blocks && YK_WORD_STATE(o->desc[idx].word) == YK_DESC_FREE;
}

uint32_t yk_owner_desc_take(struct yk_owner *o) {
    uint32_t idx = o->desc_free - 1u;
    if (desc_is_free(o, idx)) {
        o->desc_free = o->rest[idx].parent;
        o->desc_free_count--;
        return idx;
    }
    o->desc_free = 0;
    o->desc_free_count = 0;
    for (idx = o->hdr->desc_top; idx < o->desc_limit; idx++) {
        /* Relaxed: the scrubber only wants to know where to stop. */
        __atomic_store_n(&o->hdr->desc_top, idx + 1u, __ATOMIC_RELAXED);
        if (desc_is_free(o, idx))
            return idx;
    }
    return YK_SHM_NONE;
}

void yk_owner_desc_give(struct yk_owner *o, uint32_t idx) {
    struct yk_desc *d = &o->desc[idx];
    __atomic_store_n(&d->word, YK_WORD(YK_WORD_GEN(d->word), YK_DESC_FREE), __ATOMIC_RELEASE);
    __atomic_store_n(&o->rest[idx].parent, o->desc_free, __ATOMIC_RELAXED);
    o->desc_free = idx + 1u;
    o->desc_free_count++;
}

static unsigned char *cell_at(const struct yk_owner *o, uint32_t granule) {
    return o->keys + (uint64_t)granule * YK_SHM_KEY_GRANULE;
}

static uint32_t key_top(const struct yk_owner *o) {
    uint32_t top = o->hdr->key_top;
    return top <= o->layout.max_key_granules ? top : o->layout.max_key_granules;
}

static void cell_push(struct yk_owner *o, uint32_t granule, uint32_t granules) {
    uint32_t *list = &o->key_free[granules - 1u];
    __atomic_store_n((uint64_t *)(void *)cell_at(o, granule), *list, __ATOMIC_RELAXED);
    *list = granule + 1u;
}

static uint32_t cell_pop(struct yk_owner *o, uint32_t granules) {
    uint32_t *list = &o->key_free[granules - 1u];
    if (*list == 0)
        return YK_SHM_NONE;
    uint32_t granule = *list - 1u;
    uint64_t next = *(const uint64_t *)(const void *)cell_at(o, granule);
    uint32_t top = key_top(o);
    *list = next != 0 && next <= top && top - (next - 1u) >= granules ? (uint32_t)next : 0;
    return granule;
}

/* A cell of the wanted size: from its own list, from untouched space, or cut from a longer one. */
static uint32_t cell_take(struct yk_owner *o, uint32_t granules) {
    uint32_t cell = cell_pop(o, granules);
    if (cell != YK_SHM_NONE)
        return cell;
    uint32_t top = key_top(o);
    if (top <= o->key_limit && granules <= o->key_limit - top) {
        o->hdr->key_top = top + granules;
        return top;
    }
    for (uint32_t g = YK_KEY_CLASSES; g > granules; g--) {
        cell = cell_pop(o, g);
        if (cell != YK_SHM_NONE) {
            cell_push(o, cell + granules, g - granules);
            return cell;
        }
    }
    return YK_SHM_NONE;
}

/* Stores bytes into words of the segment, zero-padded up to n words. Relaxed: published by the word. */
static void words_set(uint64_t *to, uint32_t n, const void *bytes, uint32_t len) {
    uint64_t padded[YK_KEY_CLASSES * YK_SHM_KEY_GRANULE / 8] = {0};
    memcpy(padded, bytes, len);
    for (uint32_t i = 0; i < n; i++)
        __atomic_store_n(&to[i], padded[i], __ATOMIC_RELAXED);
}

uint32_t yk_owner_cell_take(struct yk_owner *o, const void *bytes, uint32_t len) {
    uint32_t granules = yk_cell_granules(len);
    if (len == 0 || len > 255u)
        return YK_SHM_NONE;
    uint32_t cell = cell_take(o, granules);
    if (cell != YK_SHM_NONE)
        words_set((uint64_t *)(void *)cell_at(o, cell), granules * YK_SHM_KEY_GRANULE / 8, bytes,
                  len);
    return cell;
}

const void *yk_owner_cell(const struct yk_owner *o, uint32_t cell, uint32_t len) {
    if (len == 0 || len > 255u ||
        (uint64_t)cell + yk_cell_granules(len) > o->layout.max_key_granules)
        return NULL;
    return cell_at(o, cell);
}

void yk_owner_cell_give(struct yk_owner *o, uint32_t cell, uint32_t len) {
    if (yk_owner_cell(o, cell, len) != NULL)
        cell_push(o, cell, yk_cell_granules(len));
}

const void *yk_owner_key(const struct yk_owner *o, uint32_t idx, struct yk_key_room *room) {
    const struct yk_desc *d = &o->desc[idx];
    uint32_t tail = yk_key_tail(d->key_len);
    if (d->key_len == 0)
        return NULL;
    if (tail == 0)
        return d->key;
    const void *cell = yk_owner_cell(o, d->key_cell, tail);
    if (cell == NULL)
        return NULL;
    memcpy(room->bytes, d->key, YK_SHM_KEY_INLINE);
    memcpy(room->bytes + YK_SHM_KEY_INLINE, cell, tail);
    return room->bytes;
}

int yk_owner_key_is(const struct yk_owner *o, uint32_t idx, const void *key, uint32_t key_len) {
    const struct yk_desc *d = &o->desc[idx];
    uint32_t tail = yk_key_tail(key_len);
    if (d->key_len != key_len || memcmp(d->key, key, key_len - tail) != 0)
        return 0;
    const void *cell = yk_owner_cell(o, d->key_cell, tail);
    return tail == 0 ||
           (cell != NULL && memcmp(cell, (const char *)key + YK_SHM_KEY_INLINE, tail) == 0);
}

void yk_owner_key_set(struct yk_owner *o, uint32_t idx, const void *key, uint32_t key_len,
                      uint32_t cell) {
    struct yk_desc *d = &o->desc[idx];
    words_set(d->key, YK_SHM_KEY_INLINE / 8, key, key_len - yk_key_tail(key_len));
    __atomic_store_n(&d->key_cell, cell, __ATOMIC_RELAXED);
    __atomic_store_n(&d->key_len, (uint8_t)key_len, __ATOMIC_RELAXED);
}

void yk_owner_keys_rebuild(struct yk_owner *o, const uint64_t *used) {
    memset(o->key_free, 0, sizeof(o->key_free));
    uint32_t top = key_top(o);
    uint32_t run = 0;
    for (uint32_t g = 0; g <= top; g++) {
        int in_use = g == top || ((used[g >> 6] >> (g & 63u)) & 1u);
        if (!in_use && ++run < YK_KEY_CLASSES)
            continue;
        if (!in_use) { /* a longest cell is complete */
            cell_push(o, g + 1u - run, run);
        } else if (run > 0) {
            cell_push(o, g - run, run);
        }
        run = 0;
    }
}

static uint32_t hazard_top(const struct yk_client_page *page) {
    uint32_t top = __atomic_load_n(&page->hazard_top, __ATOMIC_ACQUIRE);
    return top <= YK_SHM_HAZARDS ? top : YK_SHM_HAZARDS;
}

static void name(struct yk_owner *o, uint32_t idx) {
    if (o->named_count < NAMED_MAX)
        o->named_list[o->named_count] = idx >> 6;
    o->named_count += o->named_count <= NAMED_MAX;
    o->named[idx >> 6] |= 1ull << (idx & 63u);
}

static void name_all(struct yk_owner *o, const uint32_t *hazard, uint32_t top) {
    for (uint32_t i = 0; i < top; i++) {
        uint32_t h = __atomic_load_n(&hazard[i], __ATOMIC_ACQUIRE);
        if (h != 0 && h <= o->layout.max_blocks)
            name(o, h - 1u);
    }
}

static uint32_t pins_top(const struct yk_owner *o) {
    return o->pins != NULL ? __atomic_load_n(o->pins_top, __ATOMIC_ACQUIRE) : 0;
}

void yk_owner_hazards_collect(struct yk_owner *o, const uint32_t *slots, uint32_t count) {
    /* Pairs with the reader's fence between its hazard store and its second look at the word. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    for (uint32_t s = 0; s < count; s++) {
        const struct yk_client_page *page = &o->pages[slots[s]];
        name_all(o, page->hazard, hazard_top(page));
    }
    name_all(o, o->pins, pins_top(o));
}

void yk_owner_hazards_clear(struct yk_owner *o) {
    if (o->named_count > NAMED_MAX)
        memset(o->named, 0, ((o->layout.max_blocks + 63u) / 64u) * sizeof(uint64_t));
    for (uint32_t i = 0; i < o->named_count && i < NAMED_MAX; i++)
        o->named[o->named_list[i]] = 0;
    o->named_count = 0;
}

static int holds(const uint32_t *hazard, uint32_t top, uint32_t idx) {
    for (uint32_t i = 0; i < top; i++)
        if (__atomic_load_n(&hazard[i], __ATOMIC_ACQUIRE) == idx + 1u)
            return 1;
    return 0;
}

int yk_owner_is_pinned(const struct yk_owner *o, uint32_t idx) {
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* as in yk_owner_hazards_collect */
    return holds(o->pins, pins_top(o), idx);
}

int yk_owner_is_named(struct yk_owner *o, const uint32_t *slots, uint32_t count, uint32_t idx) {
    int named = yk_owner_is_pinned(o, idx); /* behind its fence */
    for (uint32_t s = 0; s < count && !named; s++) {
        const struct yk_client_page *page = &o->pages[slots[s]];
        named = holds(page->hazard, hazard_top(page), idx);
    }
    return named;
}

uint32_t yk_owner_ring_drain(struct yk_owner *o, uint32_t slot, uint64_t *ret_events, uint32_t max,
                             uint64_t *lost) {
    struct yk_client_page *page = &o->pages[slot];
    uint64_t head = __atomic_load_n(&page->ring_head, __ATOMIC_ACQUIRE);
    uint64_t tail = page->ring_tail;
    if (head - tail > YK_SHM_RING) { /* lapped, or scribbled on: the newest are kept */
        *lost += head > tail ? head - tail - YK_SHM_RING : 0;
        tail = head - YK_SHM_RING;
    }
    uint32_t n = 0;
    for (; tail != head && n < max; tail++, n++)
        ret_events[n] = __atomic_load_n(&page->ring[tail & (YK_SHM_RING - 1u)], __ATOMIC_RELAXED);
    __atomic_store_n(&page->ring_tail, tail, __ATOMIC_RELEASE);
    return n;
}

void yk_owner_page_reset(struct yk_owner *o, uint32_t slot) {
    memset(&o->pages[slot], 0, sizeof(o->pages[slot]));
}

int yk_owner_desc_sane(const struct yk_owner *o, uint32_t idx, int identity) {
    const struct yk_desc *d = &o->desc[idx];
    const struct yk_rest *rest = &o->rest[idx];
    struct yk_key_room room;
    if (rest->place_sum != yk_desc_place_sum(rest, idx) || rest->offset > o->layout.data_bytes ||
        rest->cap > o->layout.data_bytes - rest->offset)
        return 0;
    if (!identity)
        return 1;
    const void *key = yk_owner_key(o, idx, &room);
    return key != NULL && d->len <= rest->cap && d->len > 0 && d->ns < o->layout.max_namespaces &&
           rest->ident_sum == yk_desc_ident_sum(d, rest, key);
}
