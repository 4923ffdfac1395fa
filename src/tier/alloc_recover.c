/* SPDX-License-Identifier: Apache-2.0
 *
 * The allocator's persistent table, and what is done with it after a crash.
 *
 * One 64-bit word for the first page of each extent and page run: length in pages (17 bits), slot
 * size in units (27 bits, 0 = a page run with one allocation), and a 20-bit hash of both and of
 * the page number. One aligned store writes it, so a kill leaves the old word or the new one. A
 * process that dies loses no store it has executed, so keeping the stores in program order
 * (release) is all that is needed: a word stands before any of its slots is handed out, and goes
 * before its pages are used otherwise. Which slots are used is not stored: the owner of the block
 * descriptors knows (yk_alloc_claim). Rejected: a slot bitmap in the segment, a second truth that
 * a crash or a scribble could set against the descriptors.
 *
 * Recovery believes a word only if the hash fits, the extent lies inside the capacity and after the
 * one before it, and its length is the one that its slots need. The rest is set to 0 and counted.
 *
 * Thread: owner of the struct yk_alloc.
 */
#include "tier/alloc_priv.h"

#define NPAGES_BITS 17
#define UNITS_BITS  27
#define CHECK_BITS  20

static uint64_t word_make(uint32_t page, uint32_t npages, uint32_t units) {
    uint64_t body = npages | (uint64_t)units << NPAGES_BITS;
    uint64_t h = (body ^ (uint64_t)page << 40 ^ page) * 0x9e3779b97f4a7c15ull;
    h = (h ^ h >> 29) * 0xbf58476d1ce4e5b9ull;
    return body | (h >> (64 - CHECK_BITS)) << (NPAGES_BITS + UNITS_BITS);
}

void yk_table_set(struct yk_alloc *a, uint32_t page, uint32_t npages, uint32_t units) {
    __atomic_store_n(&a->table[page], word_make(page, npages, units), __ATOMIC_RELEASE);
}

void yk_table_clear(struct yk_alloc *a, uint32_t page) {
    __atomic_store_n(&a->table[page], 0, __ATOMIC_RELEASE);
}

static uint32_t slots_of(const struct yk_alloc *a, uint32_t npages, uint32_t units) {
    uint64_t slots = ((uint64_t)npages << a->page_shift >> UNIT_SHIFT) / units;
    return slots < SLOTS_MAX ? (uint32_t)slots : SLOTS_MAX;
}

/* Whether the allocator could have made such an extent. */
static bool shape_ok(const struct yk_alloc *a, uint32_t npages, uint32_t units) {
    uint64_t slot = (uint64_t)units << UNIT_SHIFT;
    if (slot > YK_ALLOC_LEN_MAX || yk_units_for(slot) != units)
        return false;
    uint32_t slots = slots_of(a, npages, units);
    return slots > 0 && yk_pages_for(a, slots * slot) == npages;
}

/* Takes over the extent or run that the word describes; false: nonsense. */
static bool adopt(struct yk_alloc *a, uint32_t page, uint64_t word) {
    uint32_t npages = word & ((1u << NPAGES_BITS) - 1);
    uint32_t units = word >> NPAGES_BITS & ((1u << UNITS_BITS) - 1);
    if (word != word_make(page, npages, units) || npages == 0 || npages > a->pages - page)
        return false;
    if (units == 0) {
        if (((uint64_t)npages << a->page_shift) > YK_ALLOC_LEN_MAX)
            return false;
        yk_run_mark(a, page, npages);
        a->map[page] |= RUN_UNCLAIMED;
        return true;
    }
    if (!shape_ok(a, npages, units))
        return false;
    struct yk_class *c = yk_class_find(a, units);
    if (!c && !(c = yk_class_new(a, units)))
        return false;
    yk_ext_new(a, (uint32_t)(c - a->cls), page, npages, slots_of(a, npages, units));
    return true;
}

static uint32_t npages_at(const struct yk_alloc *a, uint32_t page) {
    uint32_t word = a->map[page];
    return (word & TAG_MASK) == TAG_EXT ? a->ext[word & ~TAG_MASK].npages : word & RUN_LEN_MASK;
}

/* Reads the table; free pages are not in the pool before yk_alloc_recover_done. */
void yk_recover_load(struct yk_alloc *a) {
    uint32_t end = 0; /* of the extent before */
    for (uint32_t page = 0; page < a->pages; page++) {
        uint64_t word = __atomic_load_n(&a->table[page], __ATOMIC_RELAXED);
        if (word == 0)
            continue;
        if (page >= end && adopt(a, page, word)) {
            end = page + npages_at(a, page);
        } else {
            a->dropped++;
            yk_table_clear(a, page);
        }
    }
    a->recovering = true;
}

int yk_alloc_claim(struct yk_alloc *a, uint64_t offset, uint64_t len) {
    uint32_t x, slot;
    if (!a->recovering)
        return -YK_EBUSY;
    if (len == 0 || len > YK_ALLOC_LEN_MAX || offset >> a->page_shift >= a->pages)
        return -YK_ECORRUPT;
    uint32_t page = (uint32_t)(offset >> a->page_shift), word = a->map[page];
    if (yk_slot_find(a, offset, &x, &slot)) {
        struct yk_ext *e = &a->ext[x];
        if (!yk_slot_is_free(e, slot) || !yk_slot_takes(a, e, len))
            return -YK_ECORRUPT;
        yk_ext_mark(a, x, slot);
    } else if (yk_run_takes(a, offset, len) && word & RUN_UNCLAIMED) {
        a->map[page] &= ~RUN_UNCLAIMED;
    } else {
        return -YK_ECORRUPT;
    }
    a->payload_bytes += len;
    return 0;
}

/* What lies between extents and runs goes to the pool. */
static void pool_build(struct yk_alloc *a) {
    uint32_t gap = 0, page = 0;
    while (page < a->pages) {
        if (a->map[page] == TAG_INNER) {
            page++;
            continue;
        }
        if (page > gap)
            yk_pages_give(a, gap, page - gap);
        page += npages_at(a, page);
        gap = page;
    }
    if (page > gap)
        yk_pages_give(a, gap, page - gap);
}

static void unclaimed_free(struct yk_alloc *a) {
    for (uint32_t page = 0; page < a->pages; page++) {
        uint32_t word = a->map[page];
        if ((word & TAG_MASK) == TAG_RUN && word & RUN_UNCLAIMED)
            yk_run_free(a, page);
        else if ((word & TAG_MASK) == TAG_EXT && a->ext[word & ~TAG_MASK].used == 0)
            yk_ext_free(a, word & ~TAG_MASK);
    }
}

int yk_alloc_recover_done(struct yk_alloc *a) {
    if (!a->recovering)
        return -YK_EBUSY;
    pool_build(a);
    a->recovering = false;
    unclaimed_free(a);
    return 0;
}
