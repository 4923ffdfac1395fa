/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of the block allocator (alloc.h): the page map, extents, classes.
 *
 * map[] holds one word a page, tag in the top two bits:
 *   INNER  inside a free run or a page run, or nothing (all zero)
 *   FREE   first or last page of a free run; low bits = its length in pages
 *   RUN    first page of a page run that holds one allocation; low bits = length, RUN_* flags above
 *   EXT    any page of a multi-slot extent; low bits = index into ext[]
 * Words that stop being a first or last page go back to INNER at once, so that a word with a tag is
 * always true: yk_alloc_put trusts it to judge offsets that come from outside.
 *
 * The persistent table has one word a page too, set for the first page of a run or extent only.
 */
#ifndef YK_TIER_ALLOC_PRIV_H
#define YK_TIER_ALLOC_PRIV_H

#include "tier/alloc.h"

#define YK_NONE UINT32_MAX

#define UNIT_SHIFT 6 /* sizes are counted in units of 64 bytes */

#define TAG_INNER (0u << 30)
#define TAG_FREE  (1u << 30)
#define TAG_RUN   (2u << 30)
#define TAG_EXT   (3u << 30)
#define TAG_MASK  (3u << 30)

#define RUN_MOVING    (1u << 29) /* either end of a proposed move */
#define RUN_STUCK     (1u << 28) /* skipped in this compaction session; linked in a->stuck */
#define RUN_UNCLAIMED (1u << 27) /* recovery only */
#define RUN_HELD      (1u << 26) /* put, but kept whole for the next get of its length */
#define RUN_LEN_MASK  ((1u << 26) - 1)

/* Slots an extent can have: 16 bitmap words, one bit of the summary each. */
#define SLOT_WORDS 16u
#define SLOTS_MAX  (SLOT_WORDS * 64u)

/* Class sizes: all of the shared classes (312 with 64 KiB pages) and 512 exact ones. */
#define EXACT_MAX   512u
#define CLASSES_MAX 1024u
#define HASH_SLOTS  2048u
#define SKETCH_MAX  256u
#define BUCKETS     8u

/* Page runs that were put last, by length: a get of the same length takes one back without
 * merging and splitting free runs, and without a write to the table. */
#define HOT_SETS 16u
#define HOT_RUNS 31u

/* Free lists: one for each length up to 1023 pages, then 16 for each doubling. */
#define BIN_EXACT 1024u
#define BINS      (BIN_EXACT + 20u * 16u)
#define BIN_WORDS ((BINS + 63u) / 64u)

/* A multi-slot extent. Linked through prev/next into a bucket of its class, the list of draining
 * extents, or (next only) the free records. */
struct __attribute__((aligned(64))) yk_ext {
    uint32_t page, npages;
    uint32_t prev, next;
    uint32_t stuck_session; /* compaction session in which a slot was skipped */
    uint16_t cls;
    uint16_t slots, used;
    uint16_t summary; /* bit w: free_bits[w] is not zero */
    uint8_t bucket;   /* BUCKETS: in none (full) */
    uint8_t shift;    /* used >> shift = bucket */
    bool draining;
    uint64_t free_bits[SLOT_WORDS];
};

/* A slot size. Draining extents are not counted in slots and used. */
struct yk_class {
    uint32_t units;
    uint32_t extents;
    uint32_t slots, used;
    uint32_t empty; /* the one extent that is kept although it is empty, or YK_NONE */
    uint8_t mask;   /* bit b: heads[b] is not empty; the highest is the fullest */
    bool shared;    /* one of the shared sizes */
    uint32_t heads[BUCKETS];
};

struct yk_link {
    uint32_t prev, next;
};

struct yk_hot {
    uint32_t npages;
    uint32_t count;
    uint32_t pages[HOT_RUNS];
};

enum yk_compact_phase { COMPACT_IDLE, COMPACT_DRAIN, COMPACT_JOIN };

struct yk_compact {
    enum yk_compact_phase phase;
    uint32_t session;
    uint32_t want_pages; /* 0: as far as it goes */
    uint32_t cls;        /* next class to look at while draining */
    uint32_t src;        /* extent whose slots are being proposed, or YK_NONE */
    uint32_t slot;       /* next slot of src */
    uint32_t cursor;     /* next page to look at while joining; always a first page */
    uint32_t idle_pages; /* pages looked at since the last move that was found */
};

struct yk_alloc {
    uint64_t capacity_bytes;
    uint32_t page_shift;
    uint32_t pages;
    bool recovering;

    uint32_t *map;
    struct yk_link *links; /* free runs by first page; stuck runs too */
    uint64_t *table;
    void *mem; /* map, links, ext, and table if it is not the caller's */
    size_t mem_bytes;

    uint32_t bins[BINS];
    uint64_t bin_bits[BIN_WORDS];
    uint32_t bin_words; /* bit w: bin_bits[w] is not zero */
    uint32_t free_pages;

    struct yk_ext *ext;
    uint32_t ext_top;  /* records ever used */
    uint32_t ext_free; /* first free record below it */
    uint32_t draining; /* list */
    uint32_t stuck;    /* list of runs */

    struct yk_hot hot[HOT_SETS];
    uint32_t hot_pages; /* in all of them */

    struct yk_class cls[CLASSES_MAX];
    uint32_t cls_top;
    uint32_t exact_count;
    uint32_t held;             /* classes that keep an empty extent */
    uint16_t hash[HASH_SLOTS]; /* class index + 1 */
    struct {
        uint32_t units;
        uint32_t count;
    } sketch[SKETCH_MAX];

    struct yk_compact compact;

    uint64_t payload_bytes;
    uint64_t ext_units, ext_used_units; /* slots of all extents, draining ones too */
    uint64_t slots_used;
    uint64_t ext_pages, run_pages;
    uint64_t dropped;
    uint32_t ext_count, run_count;
};

static inline uint64_t yk_page_bytes(const struct yk_alloc *a) {
    return 1ull << a->page_shift;
}

static inline uint32_t yk_pages_for(const struct yk_alloc *a, uint64_t bytes) {
    return (uint32_t)((bytes + yk_page_bytes(a) - 1) >> a->page_shift);
}

/* Exact slot size of len, in units. */
static inline uint32_t yk_units_for(uint64_t len) {
    uint64_t align = len < 4096 ? YK_ALLOC_ALIGN_SMALL : YK_ALLOC_ALIGN_LARGE;
    return (uint32_t)(((len + align - 1) & ~(align - 1)) >> UNIT_SHIFT);
}

/* alloc_pages.c: the page pool. All lengths in pages; YK_NONE = there is none. */
void yk_pages_init(struct yk_alloc *a);
uint32_t yk_pages_fit(const struct yk_alloc *a, uint32_t n); /* best fitting free run */
uint32_t yk_pages_fit_except(const struct yk_alloc *a, uint32_t n, uint32_t not1, uint32_t not2);
uint32_t yk_pages_list(const struct yk_alloc *a, uint32_t *len);
uint32_t yk_pages_longest(const struct yk_alloc *a); /* length, 0 if none */
uint32_t yk_pages_take(struct yk_alloc *a, uint32_t n, bool high);
void yk_pages_carve(struct yk_alloc *a, uint32_t head, uint32_t page, uint32_t n);
void yk_pages_give(struct yk_alloc *a, uint32_t page, uint32_t n);
void yk_run_mark(struct yk_alloc *a, uint32_t page, uint32_t n);
uint32_t yk_run_take(struct yk_alloc *a, uint32_t n); /* YK_NONE: no such run */
void yk_run_put(struct yk_alloc *a, uint32_t page);
bool yk_run_flush(struct yk_alloc *a); /* all held runs to the pool; false: there were none */
void yk_run_free(struct yk_alloc *a, uint32_t page);
void yk_run_unstick(struct yk_alloc *a, uint32_t page);

/* alloc_class.c: classes, extents, slots. */
uint32_t yk_units_shared(uint32_t units); /* the shared class size that holds it */
struct yk_class *yk_class_find(struct yk_alloc *a, uint32_t units);
uint32_t yk_class_size(const struct yk_alloc *a, uint64_t len, uint32_t units);
struct yk_class *yk_class_new(struct yk_alloc *a, uint32_t units);
struct yk_class *yk_class_choose(struct yk_alloc *a, uint64_t len, uint32_t units);
bool yk_run_suits(uint32_t page_shift, uint32_t units);
void yk_ext_shape(uint32_t page_shift, uint32_t units, uint32_t slots_cap, uint32_t *ret_pages,
                  uint32_t *ret_slots);
uint32_t yk_ext_new(struct yk_alloc *a, uint32_t cls, uint32_t page, uint32_t npages,
                    uint32_t slots);
void yk_ext_free(struct yk_alloc *a, uint32_t x);
void yk_ext_drain(struct yk_alloc *a, uint32_t x);
void yk_ext_undrain(struct yk_alloc *a, uint32_t x);
void yk_ext_mark(struct yk_alloc *a, uint32_t x, uint32_t slot);
int yk_slot_get(struct yk_alloc *a, struct yk_class *c, uint64_t *ret_offset);
void yk_slot_put(struct yk_alloc *a, uint32_t x, uint32_t slot);
bool yk_slot_find(const struct yk_alloc *a, uint64_t offset, uint32_t *ret_x, uint32_t *ret_slot);
bool yk_class_relieve(struct yk_alloc *a, struct yk_class *c);
void yk_class_release_empty(struct yk_alloc *a);

static inline bool yk_slot_is_free(const struct yk_ext *e, uint32_t slot) {
    return e->free_bits[slot / 64] >> (slot % 64) & 1;
}

static inline uint64_t yk_slot_offset(const struct yk_alloc *a, const struct yk_ext *e,
                                      uint32_t slot) {
    return ((uint64_t)e->page << a->page_shift) +
           (((uint64_t)slot * a->cls[e->cls].units) << UNIT_SHIFT);
}

/* alloc.c: whether a get of len could have returned this slot, or the run at this offset. */
bool yk_slot_takes(const struct yk_alloc *a, const struct yk_ext *e, uint64_t len);
bool yk_run_takes(const struct yk_alloc *a, uint64_t offset, uint64_t len);

/* alloc_recover.c: the table. */
void yk_table_set(struct yk_alloc *a, uint32_t page, uint32_t npages, uint32_t units);
void yk_table_clear(struct yk_alloc *a, uint32_t page);
void yk_recover_load(struct yk_alloc *a);

#endif
