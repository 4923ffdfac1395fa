/* SPDX-License-Identifier: Apache-2.0
 *
 * The reader's half of the shared block index: find, match, pin. No system call, no lock, no
 * write but to the reader's own hazard slot.
 *
 * Two ways to look, both exact:
 *   find   an optimistic snapshot: word, fields, word again (a sequence lock on the generation).
 *          Enough for exists, stat and match, which hold nothing.
 *   pin    the word, the hazard slot, a full fence, the word again (R2). After it the payload
 *          stays until the slot is cleared.
 * A miss counts only if neither the bucket nor the table changed meanwhile (R5); otherwise the
 * reader tries again, a bounded number of times, and then answers -YK_EAGAIN: ask the node.
 *
 * Everything read from the segment is bounds-checked: a scribbled index or header gives wrong
 * lookups (misses), never a crash or a read outside the mapping.
 *
 * Threads: a view is immutable after yk_view_init but for area and active_seen, which any thread
 * may refresh (atomic). One hazard slot belongs to one thread at a time.
 */
#ifndef YK_SHM_VIEW_H
#define YK_SHM_VIEW_H

#include "shm/layout.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Mapped segment as its reader sees it. Pointers are into mappings that outlive the view. */
struct yk_view {
    const struct yk_shm_hdr *hdr;
    const struct yk_ns_entry *ns;
    const struct yk_desc *desc;
    const struct yk_rest *rest;
    const unsigned char *keys; /* cells */
    const unsigned char *meta;
    const unsigned char *data;
    struct yk_shm_layout layout; /* a private copy: the shared one may be scribbled on */
    uint64_t slow_from;          /* payload at or above it is in slow memory; UINT64_MAX: none is */
};

/* What is looked for. key is borrowed during calls; hash is yk_hash_key(ns, key, key_len). */
struct yk_query {
    uint64_t hash;
    uint64_t epoch;
    const void *key;
    uint32_t key_len;
    uint32_t ns;
};

/* What was found: a consistent copy of one descriptor. */
struct yk_found {
    uint32_t idx;
    int slow; /* its payload is in slow memory */
    uint64_t word;
    struct yk_desc desc;
    struct yk_rest rest;
};

/* Checks magic, version and layout of the mapped meta file and fills view. meta_bytes and
 * data_bytes are the sizes of the mappings. data may be NULL for a reader of metadata only.
 * Returns 0, -YK_EVERSION or -YK_ECORRUPT. */
int yk_view_init(struct yk_view *view, const void *meta, uint64_t meta_bytes, const void *data,
                 uint64_t data_bytes);

/* Prefetches what a find of this hash will touch first. */
void yk_view_prefetch(const struct yk_view *view, uint64_t hash);

/* Looks up without pinning. Returns 0 with *ret filled (NULL: not wanted), YK_MISS, or -YK_EAGAIN
 * (the index would not hold still, or the block is being moved: ask the node). A SUSPECT block is
 * found: its state is in the word. Reads expiry against now_ms. Whether the payload's place lies in the
 * tier is looked at only where ret is wanted. */
int yk_view_find(const struct yk_view *view, const struct yk_query *q, uint64_t now_ms,
                 struct yk_found *ret);

/* Length of the leading run of q[0..n) that is present; infos NULL or n entries. -YK_EAGAIN is
 * never returned: *ret_unsure is set to 1 when the run ended at a key the view could not decide. */
size_t yk_view_match(const struct yk_view *view, const struct yk_query *q, size_t n,
                     uint64_t now_ms, struct yk_found *ret_found, int *ret_unsure);

/* Looks up n keys: ret_rc[i] is what yk_view_find would return; ret_found NULL or n entries, filled
 * where ret_rc is 0. Costs a third of n calls of that, since the cache misses of different keys
 * overlap. */
void yk_view_find_many(const struct yk_view *view, const struct yk_query *q, size_t n,
                       uint64_t now_ms, struct yk_found *ret_found, int *ret_rc);

/* Looks up and pins: on 0 *hazard names the block until the caller stores 0 there with
 * yk_hazard_clear. Otherwise *hazard is clear. Same returns as yk_view_find; *ret_expiry etc. are
 * in ret->desc, payload at view->data + ret->rest.offset. */
int yk_view_pin(const struct yk_view *view, const struct yk_query *q, uint64_t now_ms,
                uint32_t *hazard, struct yk_found *ret);

static inline void yk_hazard_clear(uint32_t *hazard) {
    /* Release: all reads of the payload happen before the owner's scan can see the slot free.
     * Pairs with the acquire loads of yk_hazards_collect. */
    __atomic_store_n(hazard, 0u, __ATOMIC_RELEASE);
}

/* The wall clock used for expiry: never before the latest that the node has persisted (R18). */
uint64_t yk_view_now_ms(const struct yk_view *view);

/* 1 when the segment was given up (a truncated file, a lost tier). */
static inline int yk_view_lost(const struct yk_view *view) {
    return __atomic_load_n(&view->hdr->lost, __ATOMIC_ACQUIRE) != 0;
}

#ifdef __cplusplus
}
#endif

#endif
