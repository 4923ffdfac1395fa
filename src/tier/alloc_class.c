/* SPDX-License-Identifier: Apache-2.0
 *
 * Size classes of the allocator: which class a length goes to, extents and their slots.
 *
 * A length is served by (in this order) a page run, if it fills at least 16 pages to 255/256; a
 * class of exactly its size, if it has one or earns one; the next shared class, if it is at most
 * 16 pages; a page run. A size earns its class by coming often: a small sketch counts the sizes
 * that have none. The first eight sizes need not earn theirs: a KV cache has a few sizes, and
 * then no byte goes to a class that fits worse. Small tiers have fewer classes: with 512 exact
 * ones, 9 % of 4 GiB was idle under random sizes up to 256 KiB, with 72 it was 5 %.
 *
 * An extent is as long as its size needs to waste less than 1/256, and no more slots are made at
 * once than a quarter of what the class has, so that a rare size reserves little. When the pool has
 * only scraps left, an extent fills the one whole that it fits best. (Cutting the usual length
 * out of the best fitting run left scraps for good: 98.1 % usable after 1,000 turnovers of
 * 64 GiB with two sizes, against 99.4.) Slots come from the fullest extent that has one: the others
 * then have a chance to fall empty. One empty extent a class is kept, so that a get and put at
 * the edge don't build and tear down extents; they are given up before a get fails.
 *
 * Thread: owner of the struct yk_alloc.
 */
#include <string.h>

#include "tier/alloc_priv.h"

#define FIT_DIV         256u  /* an extent or run may waste 1/256 */
#define RUN_PAGES_MIN   16u   /* below, even whole pages go to a class: runs of few pages scatter */
#define SHARED_PAGES    16u   /* above, rounding to pages costs no more than a shared class */
#define EXACT_FREE      8u    /* sizes that get a class of their own at once */
#define EXACT_PAGES     1024u /* one more class for so many pages: each has slots that are idle */
#define EXACT_SIGHTINGS 4u    /* and for so many gets close to each other */
/* An extent of 128 slots, or of 16 pages and 256 KiB, is worth its record of 192 bytes. */
#define EXT_SLOTS_GOOD 128u
#define EXT_PAGES_GOOD 16u
#define EXT_BYTES_GOOD (256u << 10)
#define SNUG_LOOK      64u /* lengths of free runs compared for an extent */

uint32_t yk_units_shared(uint32_t units) {
    uint64_t bytes = (uint64_t)units << UNIT_SHIFT;
    uint64_t step = (1ull << (63 - __builtin_clzll(bytes))) / 32;
    uint64_t align = bytes < 4096 ? YK_ALLOC_ALIGN_SMALL : YK_ALLOC_ALIGN_LARGE;
    if (step < align)
        step = align;
    return (uint32_t)(((bytes + step - 1) & ~(step - 1)) >> UNIT_SHIFT);
}

static uint32_t hash_home(uint32_t units) {
    return (units * 2654435761u) >> 21;
}

/* Index + 1, 0 if there is none. */
static uint32_t hash_find(const struct yk_alloc *a, uint32_t units) {
    uint32_t h = hash_home(units);
    while (a->hash[h] && a->cls[a->hash[h] - 1].units != units)
        h = (h + 1) % HASH_SLOTS;
    return a->hash[h];
}

struct yk_class *yk_class_find(struct yk_alloc *a, uint32_t units) {
    uint32_t i = hash_find(a, units);
    return i ? &a->cls[i - 1] : NULL;
}

static void hash_add(struct yk_alloc *a, const struct yk_class *c) {
    uint32_t h = hash_home(c->units);
    while (a->hash[h])
        h = (h + 1) % HASH_SLOTS;
    a->hash[h] = (uint16_t)(c - a->cls + 1);
}

/* Closes the gap, so that searches need no tombstones. */
static void hash_del(struct yk_alloc *a, const struct yk_class *c) {
    uint32_t h = hash_home(c->units);
    while (a->hash[h] != c - a->cls + 1)
        h = (h + 1) % HASH_SLOTS;
    for (uint32_t next = (h + 1) % HASH_SLOTS; a->hash[next]; next = (next + 1) % HASH_SLOTS) {
        uint32_t home = hash_home(a->cls[a->hash[next] - 1].units);
        if ((next - home) % HASH_SLOTS >= (next - h) % HASH_SLOTS) {
            a->hash[h] = a->hash[next];
            h = next;
        }
    }
    a->hash[h] = 0;
}

/* Sizes that every length may be rounded up to. */
static bool is_shared(const struct yk_alloc *a, uint32_t units) {
    return yk_units_shared(units) == units &&
           yk_pages_for(a, (uint64_t)units << UNIT_SHIFT) <= SHARED_PAGES;
}

/* A class record for one more exact size: a new one, or that of a size that has no extents left. */
static struct yk_class *exact_record(struct yk_alloc *a) {
    if (a->exact_count < EXACT_MAX && a->exact_count < a->pages / EXACT_PAGES + EXACT_FREE)
        return &a->cls[a->cls_top++];
    for (uint32_t i = 0; i < a->cls_top; i++) {
        struct yk_class *c = &a->cls[i];
        if (!c->shared && c->extents == 0) {
            hash_del(a, c);
            a->exact_count--;
            return c;
        }
    }
    return NULL;
}

/* NULL: the size is not a shared one, and all records of exact sizes are in use. */
struct yk_class *yk_class_new(struct yk_alloc *a, uint32_t units) {
    bool shared = is_shared(a, units);
    struct yk_class *c = shared ? &a->cls[a->cls_top++] : exact_record(a);
    if (!c)
        return NULL;
    memset(c, 0, sizeof(*c));
    memset(c->heads, 0xff, sizeof(c->heads));
    c->units = units;
    c->empty = YK_NONE;
    c->shared = shared;
    a->exact_count += !shared;
    hash_add(a, c);
    return c;
}

static bool exact_earned(struct yk_alloc *a, uint32_t units) {
    uint32_t i = hash_home(units) % SKETCH_MAX;
    if (a->exact_count < EXACT_FREE)
        return true;
    if (a->sketch[i].units == units)
        return ++a->sketch[i].count >= EXACT_SIGHTINGS;
    if (a->sketch[i].count > 0) {
        a->sketch[i].count--;
    } else {
        a->sketch[i].units = units;
        a->sketch[i].count = 1;
    }
    return false;
}

bool yk_run_suits(uint32_t page_shift, uint32_t units) {
    uint64_t bytes = (uint64_t)units << UNIT_SHIFT, page = 1ull << page_shift;
    uint64_t total = (bytes + page - 1) & ~(page - 1);
    return total >= RUN_PAGES_MIN << page_shift && (total - bytes) * FIT_DIV <= total;
}

/* The class for a length, made if need be; NULL: a page run. */
struct yk_class *yk_class_choose(struct yk_alloc *a, uint64_t len, uint32_t units) {
    if (yk_run_suits(a->page_shift, units))
        return NULL;
    struct yk_class *c = yk_class_find(a, units);
    if (c)
        return c;
    if (!is_shared(a, units) && exact_earned(a, units) && (c = yk_class_new(a, units)))
        return c;
    if (yk_pages_for(a, len) > SHARED_PAGES)
        return NULL;
    uint32_t shared = yk_units_shared(units);
    c = yk_class_find(a, shared);
    return c ? c : yk_class_new(a, shared);
}

/* The class size that yk_class_choose would come to, without counting a sighting; 0: a run. */
uint32_t yk_class_size(const struct yk_alloc *a, uint64_t len, uint32_t units) {
    if (yk_run_suits(a->page_shift, units))
        return 0;
    if (hash_find(a, units) || a->exact_count < EXACT_FREE)
        return units;
    return yk_pages_for(a, len) > SHARED_PAGES ? 0 : yk_units_shared(units);
}

/* Length of a new extent: pages and the slots that fit into them. Stops at the first length that
 * fits well and is long enough to spread the cost of a record; else the best fitting one with at
 * most about slots_cap slots. At most 256 pages and a slot: from there on the tail, less than a
 * page, is less than 1/256. */
void yk_ext_shape(uint32_t page_shift, uint32_t units, uint32_t slots_cap, uint32_t *ret_pages,
                  uint32_t *ret_slots) {
    uint64_t slot = (uint64_t)units << UNIT_SHIFT, page = 1ull << page_shift;
    uint64_t best_waste = 1, best_total = 0; /* waste / total, compared crosswise */
    for (uint64_t k = 1;; k++) {
        uint64_t npages = (k * slot + page - 1) >> page_shift;
        uint64_t total = npages << page_shift;
        uint64_t fit = total / slot;
        k = fit < SLOTS_MAX ? fit : SLOTS_MAX;
        uint64_t waste = total - k * slot;
        bool worth = k >= EXT_SLOTS_GOOD || (npages >= EXT_PAGES_GOOD && total >= EXT_BYTES_GOOD);
        bool good = waste * FIT_DIV <= total && worth;
        if (good || best_total == 0 || waste * best_total <= best_waste * total) {
            best_waste = waste;
            best_total = total;
            *ret_pages = (uint32_t)npages;
            *ret_slots = (uint32_t)k;
        }
        if (good || k >= slots_cap || k == SLOTS_MAX)
            return;
    }
}

static uint32_t ext_record(struct yk_alloc *a) {
    uint32_t x = a->ext_free;
    if (x == YK_NONE)
        return a->ext_top++;
    a->ext_free = a->ext[x].next;
    return x;
}

static void bucket_link(struct yk_alloc *a, uint32_t x) {
    struct yk_ext *e = &a->ext[x];
    struct yk_class *c = &a->cls[e->cls];
    uint32_t b = e->used == e->slots ? BUCKETS : (uint32_t)e->used >> e->shift;
    e->bucket = (uint8_t)b;
    if (b == BUCKETS)
        return;
    e->prev = YK_NONE;
    e->next = c->heads[b];
    if (e->next != YK_NONE)
        a->ext[e->next].prev = x;
    c->heads[b] = x;
    c->mask |= (uint8_t)(1u << b);
}

static void bucket_unlink(struct yk_alloc *a, uint32_t x) {
    struct yk_ext *e = &a->ext[x];
    struct yk_class *c = &a->cls[e->cls];
    if (e->bucket == BUCKETS)
        return;
    if (e->next != YK_NONE)
        a->ext[e->next].prev = e->prev;
    if (e->prev != YK_NONE)
        a->ext[e->prev].next = e->next;
    else if ((c->heads[e->bucket] = e->next) == YK_NONE)
        c->mask &= (uint8_t) ~(1u << e->bucket);
    e->bucket = BUCKETS;
}

/* After a change of used: into the bucket where it belongs. */
static void bucket_move(struct yk_alloc *a, uint32_t x) {
    const struct yk_ext *e = &a->ext[x];
    uint32_t b = e->used == e->slots ? BUCKETS : (uint32_t)e->used >> e->shift;
    if (b != e->bucket) {
        bucket_unlink(a, x);
        bucket_link(a, x);
    }
}

static void empty_keep(struct yk_alloc *a, struct yk_class *c, uint32_t x) {
    c->empty = x;
    a->held++;
}

static void empty_unkeep(struct yk_alloc *a, struct yk_class *c) {
    c->empty = YK_NONE;
    a->held--;
}

/* The pages must have been taken from the pool. All slots free; linked, and kept as the class's
 * empty extent if it has none (the caller uses a slot next, or it is a destination of moves). */
uint32_t yk_ext_new(struct yk_alloc *a, uint32_t cls, uint32_t page, uint32_t npages,
                    uint32_t slots) {
    struct yk_class *c = &a->cls[cls];
    uint32_t x = ext_record(a);
    struct yk_ext *e = &a->ext[x];
    uint32_t bits = slots > 1 ? 32 - (uint32_t)__builtin_clz(slots - 1) : 0;
    memset(e, 0, sizeof(*e));
    e->page = page;
    e->npages = npages;
    e->cls = (uint16_t)cls;
    e->slots = (uint16_t)slots;
    e->shift = (uint8_t)(bits > 3 ? bits - 3 : 0);
    for (uint32_t i = 0; i < slots; i++)
        e->free_bits[i / 64] |= 1ull << (i % 64);
    e->summary = (uint16_t)((1u << ((slots + 63) / 64)) - 1);
    yk_table_set(a, page, npages, c->units);
    for (uint32_t p = 0; p < npages; p++)
        a->map[page + p] = TAG_EXT | x;
    c->extents++;
    c->slots += slots;
    a->ext_count++;
    a->ext_pages += npages;
    a->ext_units += (uint64_t)slots * c->units;
    bucket_link(a, x);
    if (c->empty == YK_NONE)
        empty_keep(a, c, x);
    return x;
}

static void drain_unlink(struct yk_alloc *a, uint32_t x) {
    struct yk_ext *e = &a->ext[x];
    if (e->next != YK_NONE)
        a->ext[e->next].prev = e->prev;
    if (e->prev != YK_NONE)
        a->ext[e->prev].next = e->next;
    else
        a->draining = e->next;
    e->draining = false;
    if (a->compact.src == x)
        a->compact.src = YK_NONE;
}

/* An extent without used slots: its pages return to the pool. */
void yk_ext_free(struct yk_alloc *a, uint32_t x) {
    struct yk_ext *e = &a->ext[x];
    struct yk_class *c = &a->cls[e->cls];
    if (e->draining) {
        drain_unlink(a, x);
    } else {
        bucket_unlink(a, x);
        c->slots -= e->slots;
    }
    if (c->empty == x)
        empty_unkeep(a, c);
    c->extents--;
    a->ext_count--;
    a->ext_pages -= e->npages;
    a->ext_units -= (uint64_t)e->slots * c->units;
    yk_table_clear(a, e->page);
    memset(&a->map[e->page], 0, e->npages * sizeof(a->map[0]));
    yk_pages_give(a, e->page, e->npages);
    e->next = a->ext_free;
    a->ext_free = x;
}

/* No slot of a draining extent is handed out; it goes when its last one is put. */
void yk_ext_drain(struct yk_alloc *a, uint32_t x) {
    struct yk_ext *e = &a->ext[x];
    struct yk_class *c = &a->cls[e->cls];
    bucket_unlink(a, x);
    c->slots -= e->slots;
    c->used -= e->used;
    e->draining = true;
    e->prev = YK_NONE;
    e->next = a->draining;
    if (e->next != YK_NONE)
        a->ext[e->next].prev = x;
    a->draining = x;
}

void yk_ext_undrain(struct yk_alloc *a, uint32_t x) {
    struct yk_ext *e = &a->ext[x];
    struct yk_class *c = &a->cls[e->cls];
    drain_unlink(a, x);
    c->slots += e->slots;
    c->used += e->used;
    bucket_link(a, x);
}

void yk_ext_mark(struct yk_alloc *a, uint32_t x, uint32_t slot) {
    struct yk_ext *e = &a->ext[x];
    struct yk_class *c = &a->cls[e->cls];
    uint32_t w = slot / 64;
    e->free_bits[w] &= ~(1ull << (slot % 64));
    if (!e->free_bits[w])
        e->summary &= (uint16_t) ~(1u << w);
    e->used++;
    if (c->empty == x)
        empty_unkeep(a, c);
    c->used++;
    a->slots_used++;
    a->ext_used_units += c->units;
    bucket_move(a, x);
}

/* Slots that a run of npages has room for. */
static uint32_t slots_in(const struct yk_alloc *a, uint32_t units, uint64_t npages) {
    uint64_t slots = (npages << a->page_shift >> UNIT_SHIFT) / units;
    return slots < SLOTS_MAX ? (uint32_t)slots : SLOTS_MAX;
}

/* The free run, at most twice as long as an extent should be, that slots of the class fill best. */
static uint32_t snug_run(const struct yk_alloc *a, uint32_t units, uint32_t npages) {
    uint64_t best_lost = 0, best_len = 0;
    uint32_t len = yk_pages_for(a, (uint64_t)units << UNIT_SHIFT), best = YK_NONE;
    for (uint32_t n = 0; n < SNUG_LOOK; n++, len++) {
        uint32_t run = yk_pages_list(a, &len);
        if (run == YK_NONE || len >= 2 * npages)
            break;
        uint64_t total = (uint64_t)len << a->page_shift >> UNIT_SHIFT;
        uint64_t lost = total - (uint64_t)slots_in(a, units, len) * units;
        if (best == YK_NONE || lost * best_len <= best_lost * total) {
            best = run;
            best_lost = lost;
            best_len = total;
        }
    }
    return best;
}

/* One more extent for the class. While the pool has long runs, of the best length from the high end
 * of one; else what fills a whole run best, so that no scrap is left that suits nobody. */
static int ext_grow(struct yk_alloc *a, struct yk_class *c) {
    uint32_t npages, slots;
    yk_ext_shape(a->page_shift, c->units, c->slots / 4 + 1, &npages, &slots);
    uint32_t run = yk_pages_fit(a, npages), page = run;
    uint32_t len = run == YK_NONE ? 0 : a->map[run] & ~TAG_MASK;
    if (len != npages && len < 2 * npages) {
        uint32_t snug = snug_run(a, c->units, npages);
        if (snug == YK_NONE)
            return -YK_ENOSPC;
        run = page = snug;
        slots = slots_in(a, c->units, a->map[run] & ~TAG_MASK);
        npages = yk_pages_for(a, ((uint64_t)slots * c->units) << UNIT_SHIFT);
    } else {
        page = run + len - npages;
    }
    yk_pages_carve(a, run, page, npages);
    yk_ext_new(a, (uint32_t)(c - a->cls), page, npages, slots);
    return 0;
}

int yk_slot_get(struct yk_alloc *a, struct yk_class *c, uint64_t *ret_offset) {
    if (!c->mask) {
        int rc = ext_grow(a, c);
        if (rc < 0)
            return rc;
    }
    uint32_t x = c->heads[31 - __builtin_clz((uint32_t)c->mask)];
    const struct yk_ext *e = &a->ext[x];
    uint32_t w = (uint32_t)__builtin_ctz((uint32_t)e->summary);
    uint32_t slot = w * 64 + (uint32_t)__builtin_ctzll(e->free_bits[w]);
    yk_ext_mark(a, x, slot);
    *ret_offset = yk_slot_offset(a, e, slot);
    return 0;
}

void yk_slot_put(struct yk_alloc *a, uint32_t x, uint32_t slot) {
    struct yk_ext *e = &a->ext[x];
    struct yk_class *c = &a->cls[e->cls];
    e->free_bits[slot / 64] |= 1ull << (slot % 64);
    e->summary |= (uint16_t)(1u << (slot / 64));
    e->used--;
    a->slots_used--;
    a->ext_used_units -= c->units;
    if (e->draining) {
        if (e->used == 0)
            yk_ext_free(a, x);
        return;
    }
    c->used--;
    bucket_move(a, x);
    if (e->used > 0)
        return;
    if (c->empty == YK_NONE)
        empty_keep(a, c, x);
    else
        yk_ext_free(a, x);
}

/* Whether offset is the start of a slot (used or free) of an extent. Any offset may be asked. */
bool yk_slot_find(const struct yk_alloc *a, uint64_t offset, uint32_t *ret_x, uint32_t *ret_slot) {
    if (offset >> a->page_shift >= a->pages)
        return false;
    uint32_t word = a->map[offset >> a->page_shift];
    if ((word & TAG_MASK) != TAG_EXT)
        return false;
    uint32_t x = word & ~TAG_MASK;
    const struct yk_ext *e = &a->ext[x];
    uint64_t rel = offset - ((uint64_t)e->page << a->page_shift);
    uint32_t units = (uint32_t)(rel >> UNIT_SHIFT), per = a->cls[e->cls].units;
    uint32_t slot = units / per;
    if (rel % (1u << UNIT_SHIFT) || slot * per != units || slot >= e->slots)
        return false;
    *ret_x = x;
    *ret_slot = slot;
    return true;
}

void yk_class_release_empty(struct yk_alloc *a) {
    for (uint32_t i = 0; i < a->cls_top && a->held > 0; i++) {
        if (a->cls[i].empty != YK_NONE)
            yk_ext_free(a, a->cls[i].empty);
    }
}

/* Before a get fails: what is held back for speed or for a compaction becomes free. True if that
 * may have helped; c may be NULL (a page run is wanted). */
bool yk_class_relieve(struct yk_alloc *a, struct yk_class *c) {
    bool any = yk_run_flush(a) || a->held > 0;
    yk_class_release_empty(a);
    uint32_t next;
    for (uint32_t x = a->draining; c && x != YK_NONE; x = next) {
        next = a->ext[x].next;
        if (&a->cls[a->ext[x].cls] == c && a->ext[x].used < a->ext[x].slots) {
            yk_ext_undrain(a, x);
            any = true;
        }
    }
    return any;
}
