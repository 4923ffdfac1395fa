/* SPDX-License-Identifier: Apache-2.0
 *
 * The allocator's front: life cycle, get, put, figures. See alloc.h for what it does and why,
 * alloc_class.c for slots, alloc_pages.c for pages, alloc_recover.c for what survives a crash,
 * alloc_compact.c for moves.
 *
 * Arrays with a word a page are reserved at once without being populated: memory is used as
 * extents are, and no get or put ever allocates. With 64 KiB pages and blocks of 8 KiB that is
 * about 4 bytes a block when 8 GiB are full, the table included.
 *
 * Thread: owner of the struct yk_alloc.
 */
#include "tier/alloc.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tier/alloc_priv.h"

#define PAGE_SHIFT_MIN 12u
#define PAGE_SHIFT_MAX 16u
/* Enough pages that partly used ones don't matter in a small tier either. At 20 bytes a page, as
 * many as 64 KiB pages in 4 GiB; larger tiers keep to 64 KiB and have more of them. */
#define PAGES_AIM  65536ull
#define HUGE_BYTES ((uintptr_t)2 << 20)

static uint32_t page_shift_for(uint64_t capacity_bytes) {
    uint32_t shift = PAGE_SHIFT_MIN;
    while (shift < PAGE_SHIFT_MAX && capacity_bytes >> (shift + 1) >= PAGES_AIM)
        shift++;
    return shift;
}

uint64_t yk_alloc_page_bytes(uint64_t capacity_bytes) {
    return 1ull << page_shift_for(capacity_bytes);
}

uint64_t yk_alloc_table_bytes(uint64_t capacity_bytes) {
    return (capacity_bytes >> page_shift_for(capacity_bytes)) * sizeof(uint64_t);
}

/* Pages of one size that hold count blocks of len. */
static uint64_t pages_for_count(uint32_t shift, uint64_t len, uint64_t count) {
    uint32_t units = yk_units_for(len), npages, slots;
    uint64_t slot = (uint64_t)units << UNIT_SHIFT, page = 1ull << shift;
    if (yk_run_suits(shift, units))
        return ((slot + page - 1) >> shift) * count;
    if (slot % page == 0 || page % slot == 0)
        return (slot * count + page - 1) >> shift;
    yk_ext_shape(shift, units, SLOTS_MAX, &npages, &slots);
    /* Extents grow with the class, by a quarter: the first 30 or so are shorter than that, and each
     * wastes less than a page. The last one, cut short by the end, wastes a slot at most. */
    return ((count + 1) * npages + slots - 1) / slots + 40;
}

uint64_t yk_alloc_capacity_for(uint64_t len, uint64_t count) {
    if (len == 0 || len > YK_ALLOC_LEN_MAX || count == 0 || count > YK_ALLOC_CAPACITY_MAX / len)
        return 0;
    /* The page size depends on the capacity and the capacity on the page size. */
    for (uint32_t shift = PAGE_SHIFT_MIN; shift <= PAGE_SHIFT_MAX; shift++) {
        uint64_t capacity = pages_for_count(shift, len, count) << shift;
        if (page_shift_for(capacity) < shift) /* the least capacity with pages of this size */
            capacity = PAGES_AIM << shift;
        if (page_shift_for(capacity) == shift)
            return capacity <= YK_ALLOC_CAPACITY_MAX ? capacity : 0;
    }
    return 0;
}

/* Places the arrays at base, which may be NULL to learn the size. */
static size_t arrays_layout(struct yk_alloc *a, uintptr_t base, bool own_table) {
    uintptr_t at = base;
    a->ext = (struct yk_ext *)at; /* the one that needs the most alignment */
    at += a->pages * sizeof(a->ext[0]);
    a->map = (uint32_t *)at;
    at += a->pages * sizeof(a->map[0]);
    a->links = (struct yk_link *)at;
    at += a->pages * sizeof(a->links[0]);
    if (own_table) {
        at = (at + sizeof(uint64_t) - 1) & ~(sizeof(uint64_t) - 1);
        a->table = (uint64_t *)at;
        at += a->pages * sizeof(a->table[0]);
    }
    return at - base;
}

/* One reservation for all arrays, zeroed, populated as it is used. In large tiers by huge pages, if
 * they can be had: a put reads three places in megabytes, and half of its time went to TLB misses
 * (8 GiB of 8 KiB blocks: 2.7 to 3.8 M pairs of put and get a second). */
static int arrays_new(struct yk_alloc *a, const struct yk_alloc_opts *opts) {
    size_t bytes = arrays_layout(a, 0, !opts->table) + HUGE_BYTES;
    void *mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mem == MAP_FAILED)
        return -YK_ENOMEM;
    a->mem = mem;
    a->mem_bytes = bytes;
    if (a->pages > PAGES_AIM)
        (void)madvise(mem, bytes, MADV_HUGEPAGE);
    arrays_layout(a, ((uintptr_t)mem + HUGE_BYTES - 1) & ~(HUGE_BYTES - 1), !opts->table);
    if (opts->table)
        a->table = opts->table;
    return 0;
}

static int opts_check(const struct yk_alloc_opts *opts, struct yk_err *err) {
    uint64_t capacity = opts->capacity_bytes, need = yk_alloc_table_bytes(capacity);
    if (opts->size != sizeof(*opts))
        return yk_err_set(err, -YK_EINVAL, "allocator options are %u bytes, expected %zu",
                          opts->size, sizeof(*opts));
    if (capacity < YK_ALLOC_CAPACITY_MIN)
        return yk_err_set(err, -YK_EINVAL, "capacity of %llu bytes is below the least, %llu",
                          (unsigned long long)capacity, YK_ALLOC_CAPACITY_MIN);
    if (capacity > YK_ALLOC_CAPACITY_MAX)
        return yk_err_set(err, -YK_ETOOBIG, "capacity of %llu bytes is above the most, %llu",
                          (unsigned long long)capacity, YK_ALLOC_CAPACITY_MAX);
    if (opts->table && (opts->table_bytes < need || (uintptr_t)opts->table % sizeof(uint64_t)))
        return yk_err_set(
            err, -YK_EINVAL, "extent table at %p has %llu bytes, expected %llu, 8-byte aligned",
            opts->table, (unsigned long long)opts->table_bytes, (unsigned long long)need);
    if (opts->recover && !opts->table)
        return yk_err_set(err, -YK_EINVAL, "recovery without an extent table");
    return 0;
}

static void alloc_init(struct yk_alloc *a, const struct yk_alloc_opts *opts) {
    a->capacity_bytes = opts->capacity_bytes;
    a->page_shift = page_shift_for(opts->capacity_bytes);
    a->pages = (uint32_t)(opts->capacity_bytes >> a->page_shift);
    a->ext_free = a->draining = a->stuck = YK_NONE;
    a->compact.src = YK_NONE;
    yk_pages_init(a);
}

int yk_alloc_new(const struct yk_alloc_opts *opts, struct yk_alloc **ret, struct yk_err *err) {
    int rc = opts_check(opts, err);
    if (rc < 0)
        return rc;
    struct yk_alloc *a = calloc(1, sizeof(*a));
    if (!a)
        return yk_err_set(err, -YK_ENOMEM, "no memory for an allocator");
    alloc_init(a, opts);
    if (arrays_new(a, opts) < 0) {
        yk_alloc_free(a);
        return yk_err_set(err, -YK_ENOMEM, "no memory for the page map of %llu bytes",
                          (unsigned long long)opts->capacity_bytes);
    }
    if (opts->recover) {
        yk_recover_load(a);
    } else {
        if (opts->table)
            memset(a->table, 0, a->pages * sizeof(a->table[0]));
        yk_pages_give(a, 0, a->pages);
    }
    *ret = a;
    return 0;
}

void yk_alloc_free(struct yk_alloc *a) {
    if (!a)
        return;
    if (a->mem)
        munmap(a->mem, a->mem_bytes);
    free(a);
}

static int run_get(struct yk_alloc *a, uint64_t len, uint64_t *ret_offset) {
    uint32_t page = yk_run_take(a, yk_pages_for(a, len));
    if (page == YK_NONE)
        return -YK_ENOSPC;
    *ret_offset = (uint64_t)page << a->page_shift;
    return 0;
}

static int place(struct yk_alloc *a, struct yk_class *c, uint64_t len, uint64_t *ret_offset) {
    return c ? yk_slot_get(a, c, ret_offset) : run_get(a, len, ret_offset);
}

int yk_alloc_get(struct yk_alloc *a, uint64_t len, uint64_t *ret_offset) {
    if (len == 0)
        return -YK_EINVAL;
    if (len > YK_ALLOC_LEN_MAX)
        return -YK_ETOOBIG;
    if (a->recovering)
        return -YK_EBUSY;
    struct yk_class *c = yk_class_choose(a, len, yk_units_for(len));
    int rc = place(a, c, len, ret_offset);
    if (rc == -YK_ENOSPC && yk_class_relieve(a, c))
        rc = place(a, c, len, ret_offset);
    if (rc == 0)
        a->payload_bytes += len;
    return rc;
}

bool yk_slot_takes(const struct yk_alloc *a, const struct yk_ext *e, uint64_t len) {
    uint32_t units = yk_units_for(len), slot = a->cls[e->cls].units;
    return units == slot || yk_units_shared(units) == slot;
}

bool yk_run_takes(const struct yk_alloc *a, uint64_t offset, uint64_t len) {
    uint64_t page = offset >> a->page_shift;
    if (page >= a->pages || offset & (yk_page_bytes(a) - 1))
        return false;
    uint32_t word = a->map[page];
    return (word & (TAG_MASK | RUN_HELD | RUN_LEN_MASK)) == (TAG_RUN | yk_pages_for(a, len));
}

int yk_alloc_put(struct yk_alloc *a, uint64_t offset, uint64_t len) {
    uint32_t x, slot;
    if (a->recovering)
        return -YK_EBUSY;
    if (len == 0 || len > YK_ALLOC_LEN_MAX)
        return -YK_EINVAL;
    if (yk_slot_find(a, offset, &x, &slot)) {
        if (yk_slot_is_free(&a->ext[x], slot) || !yk_slot_takes(a, &a->ext[x], len))
            return -YK_EINVAL;
        yk_slot_put(a, x, slot);
    } else if (yk_run_takes(a, offset, len)) {
        yk_run_put(a, (uint32_t)(offset >> a->page_shift));
    } else {
        return -YK_EINVAL;
    }
    /* A wrong length that rounds to the same slot can't be told: never below zero at least. */
    a->payload_bytes -= len < a->payload_bytes ? len : a->payload_bytes;
    return 0;
}

uint64_t yk_alloc_slot_bytes(const struct yk_alloc *a, uint64_t len) {
    if (len == 0 || len > YK_ALLOC_LEN_MAX)
        return 0;
    uint32_t slot = yk_class_size(a, len, yk_units_for(len));
    return slot ? (uint64_t)slot << UNIT_SHIFT : (uint64_t)yk_pages_for(a, len) << a->page_shift;
}

void yk_alloc_stats(const struct yk_alloc *a, struct yk_alloc_stats *ret) {
    uint64_t ext_bytes = a->ext_pages << a->page_shift, run_bytes = a->run_pages << a->page_shift;
    uint64_t used = a->ext_used_units << UNIT_SHIFT, slots = a->ext_units << UNIT_SHIFT;
    uint64_t pool = ((uint64_t)a->free_pages + a->hot_pages) << a->page_shift;
    *ret = (struct yk_alloc_stats){
        .capacity_bytes = a->capacity_bytes,
        .page_bytes = yk_page_bytes(a),
        .payload_bytes = a->payload_bytes,
        .slot_bytes = used + run_bytes,
        .idle_bytes = slots - used,
        .free_bytes = pool,
        .waste_bytes = a->capacity_bytes - pool - run_bytes - ext_bytes + (ext_bytes - slots),
        .largest_free_bytes = (uint64_t)yk_pages_longest(a) << a->page_shift,
        .metadata_bytes = sizeof(*a) + a->ext_top * sizeof(a->ext[0]) +
                          a->pages * (sizeof(a->map[0]) + sizeof(a->links[0]) + sizeof(uint64_t)),
        .slots = a->slots_used,
        .dropped = a->dropped,
        .extents = a->ext_count,
        .runs = a->run_count,
    };
}

uint32_t yk_alloc_classes(const struct yk_alloc *a, struct yk_alloc_class_stats *ret,
                          uint32_t max) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < a->cls_top; i++) {
        const struct yk_class *c = &a->cls[i];
        if (c->extents == 0)
            continue;
        if (n < max)
            ret[n] = (struct yk_alloc_class_stats){.slot_bytes = (uint64_t)c->units << UNIT_SHIFT,
                                                   .slots = c->slots,
                                                   .used = c->used,
                                                   .extents = c->extents};
        n++;
    }
    return n;
}
