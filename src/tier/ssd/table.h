/* SPDX-License-Identifier: Apache-2.0
 *
 * The SSD tier's table: what is known of every block without touching a device.
 *
 * 48 bytes an entry, in one array that is reserved whole and touched as it is used; the key and rare
 * attributes stand in a cell (cells.h); a linear-hashing index (shm/index.h) leads from a key's hash
 * to its entries, and entries are linked in order of use. An entry does not hold its hash: the index
 * asks for it only when a bucket is split, and then it is made from the key again.
 *
 * A generation of its own is not in an entry either: it is needed only where records are compared,
 * at recovery, which keeps it aside meanwhile.
 *
 * Several entries may have one key: one that is valid, and others that wait to be freed. Which is
 * valid is the business of who uses the table.
 *
 * Threads: the owner's only; readers of the index see shm/filter.h.
 */
#ifndef YK_TIER_SSD_TABLE_H
#define YK_TIER_SSD_TABLE_H

#include "shm/filter.h"
#include "tier/ssd/cells.h"
#include "tier/ssd/ssd.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Flags: the low 8 bits are an entry's `flags`, the rest the top 4 bits of its `attr`. */
#define YK_SSD_E_TAG     0x07u /* its namespace's tag when it was put; 0 = of no epoch that counts */
#define YK_SSD_E_USED    0x08u /* the id is not free */
#define YK_SSD_E_DEAD    0x10u /* in no list and no index any more, its id not given back yet */
#define YK_SSD_E_WRITTEN 0x20u /* its batch is on the device */
#define YK_SSD_E_HOT     0x40u /* used since it was written */
#define YK_SSD_E_EXPREC  0x80u /* its expiry stands in a record of its own */

#define YK_SSD_A_EXPIRY  0x1000u /* words in the cell, in this order */
#define YK_SSD_A_SESSION 0x2000u
#define YK_SSD_A_ATTR    0x4000u
#define YK_SSD_A_NUMBER  0x0fffu

struct yk_ssd_entry {
    uint64_t sum;
    uint32_t place_lo; /* place: segment << 24 | unit in it */
    uint32_t len;
    uint32_t cell;
    uint32_t parent_hash;
    uint32_t prev, next; /* order of use: prev is younger; next of a free id: the next free one */
    uint32_t stamp;      /* of the table's clock when it was used last */
    uint32_t depth_tokens;
    uint16_t place_hi;
    uint16_t attr;
    uint8_t ns, key_len, kind, flags;
};

struct yk_ssd_table {
    struct yk_ssd_entry *e;
    uint32_t max, top, free, count; /* ids; count: those in index and order */
    uint32_t youngest, oldest;
    uint64_t clock; /* puts and touches; >> YK_SSD_STAMP_SHIFT makes a stamp */
    struct yk_cells cells;
    struct yk_attrs attrs;
    struct yk_index index;
    void *index_mem;
    uint64_t index_bytes;
    int index_own;
};

#define YK_SSD_STAMP_SHIFT 4u /* 2^36 uses until a stamp comes again */

/* max ids; index_mem NULL: private memory. -YK_ENOMEM, -YK_EINVAL (index memory too small). */
int yk_ssd_table_init(struct yk_ssd_table *t, uint32_t max, void *index_mem, uint64_t index_bytes);
void yk_ssd_table_fini(struct yk_ssd_table *t);

struct yk_ssd_new {
    const void *key;
    uint64_t hash, sum, expiry_ms, session;
    uint64_t place;
    uint32_t key_len, len, depth_tokens, length_tokens, model, parent_hash;
    uint8_t ns, kind, flags;
};

/* A new entry, the youngest. -YK_ELIMIT (ids, cells or overflow buckets are used up). */
int yk_ssd_table_add(struct yk_ssd_table *t, const struct yk_ssd_new *n, uint32_t *ret_id);

/* Out of index and order: nobody finds it; its content stays until free gives back the id. */
void yk_ssd_table_unlink(struct yk_ssd_table *t, uint32_t id);
void yk_ssd_table_free(struct yk_ssd_table *t, uint32_t id);

/* The next entry with this key: cursor all zero first, nothing may change in between. 1 or 0. */
int yk_ssd_table_next(const struct yk_ssd_table *t, uint32_t ns, uint64_t hash, const void *key,
                      uint32_t key_len, struct yk_index_cursor *cursor, uint32_t *ret_id);
int yk_ssd_table_next_half(const struct yk_ssd_table *t, uint32_t ns, uint32_t half,
                           struct yk_index_cursor *cursor, uint32_t *ret_id);

/* An entry with this hash of namespace and key. 1 and its id, or 0. */
int yk_ssd_table_by_hash(const struct yk_ssd_table *t, uint64_t hash, uint32_t *ret_id);

void yk_ssd_table_touch(struct yk_ssd_table *t, uint32_t id);
/* Order of use only: id becomes the youngest. */
void yk_ssd_table_link(struct yk_ssd_table *t, uint32_t id);
void yk_ssd_table_unlink_order(struct yk_ssd_table *t, uint32_t id);

const void *yk_ssd_table_key(const struct yk_ssd_table *t, uint32_t id);
uint64_t yk_ssd_table_hash(const struct yk_ssd_table *t, uint32_t id);
uint64_t yk_ssd_table_expiry(const struct yk_ssd_table *t, uint32_t id);
uint64_t yk_ssd_table_session(const struct yk_ssd_table *t, uint32_t id);
void yk_ssd_table_attr(const struct yk_ssd_table *t, uint32_t id, uint32_t *ret_length,
                       uint32_t *ret_model);
/* -YK_ELIMIT: no cell that has room for it; nothing changed. */
int yk_ssd_table_expiry_set(struct yk_ssd_table *t, uint32_t id, uint64_t expiry_ms);

/* Memory in use, keys apart; memory of keys. */
uint64_t yk_ssd_table_bytes(const struct yk_ssd_table *t);

static inline uint64_t yk_ssd_place(uint32_t segment, uint64_t unit) {
    return (uint64_t)segment << 24 | unit;
}

static inline uint64_t yk_ssd_entry_place(const struct yk_ssd_entry *e) {
    return (uint64_t)e->place_hi << 32 | e->place_lo;
}

static inline void yk_ssd_entry_place_set(struct yk_ssd_entry *e, uint64_t place) {
    e->place_hi = (uint16_t)(place >> 32);
    e->place_lo = (uint32_t)place;
}

static inline uint32_t yk_ssd_entry_segment(const struct yk_ssd_entry *e) {
    return (uint32_t)(yk_ssd_entry_place(e) >> 24);
}

static inline uint64_t yk_ssd_entry_unit(const struct yk_ssd_entry *e) {
    return yk_ssd_entry_place(e) & 0xffffffu;
}

static inline uint32_t yk_ssd_stamp(const struct yk_ssd_table *t) {
    return (uint32_t)(t->clock >> YK_SSD_STAMP_SHIFT);
}

#ifdef __cplusplus
}
#else
_Static_assert(sizeof(struct yk_ssd_entry) == 48, "docs and sizing say so");
#endif

#endif
