/* SPDX-License-Identifier: Apache-2.0
 *
 * Is a key surely not on SSD? (src/shm/filter.h)
 *
 * The order of stores that this relies on is in index.c: an entry goes elsewhere only after its copy
 * is there, and between the two the version of its chain's primary bucket is raised. So a walk that
 * found nothing, under one version and one table word, passed no entry that was there all the time.
 */
#include "shm/filter.h"

#include <string.h>

#include <yolk/status.h>

/* As in view.c: a turn takes about 100 ns, and so does what the owner changes. */
#define ATTEMPTS  64
#define CHAIN_MAX 64u

#define LOAD_RELAXED(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define LOAD_ACQUIRE(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)

uint64_t yk_filter_bytes(uint32_t max_ids) {
    uint32_t buckets, overflow;
    yk_index_size(max_ids, &buckets, &overflow);
    return sizeof(struct yk_ssd_index_hdr) + yk_index_bytes(buckets, overflow);
}

int yk_filter_make(void *mem, uint64_t bytes, const struct yk_index_ids *ids,
                   struct yk_index *ret_index) {
    struct yk_ssd_index_hdr *hdr = mem;
    uint32_t buckets, overflow;
    if (bytes < yk_filter_bytes(ids->max))
        return -YK_EINVAL;
    yk_index_size(ids->max, &buckets, &overflow);
    hdr->version = YK_FILTER_VERSION;
    hdr->max_buckets = buckets;
    hdr->max_overflow = overflow;
    hdr->bytes = yk_filter_bytes(ids->max);
    yk_index_init_at(ret_index, hdr + 1, buckets, overflow, ids);
    __atomic_store_n(&hdr->magic, YK_FILTER_MAGIC, __ATOMIC_RELEASE); /* pairs: yk_filter_init */
    return 0;
}

void yk_filter_complete(void *mem, int complete) {
    struct yk_ssd_index_hdr *hdr = mem;
    /* Release: who sees it sees the entries made before. Pairs: yk_filter_maybe. */
    __atomic_store_n(&hdr->complete, complete != 0, __ATOMIC_RELEASE);
}

int yk_filter_init(struct yk_filter *f, const void *mem, uint64_t bytes) {
    const struct yk_ssd_index_hdr *hdr = mem;
    if (bytes < sizeof(*hdr) || LOAD_ACQUIRE(&hdr->magic) != YK_FILTER_MAGIC)
        return -YK_ECORRUPT;
    if (hdr->version != YK_FILTER_VERSION)
        return -YK_EVERSION;
    uint32_t buckets = hdr->max_buckets,
             overflow = hdr->max_overflow; /* once: it is foreign memory */
    if (buckets == 0 || sizeof(*hdr) + yk_index_bytes(buckets, overflow) > bytes)
        return -YK_ECORRUPT;
    f->hdr = hdr;
    f->index = (const struct yk_index_hdr *)(hdr + 1);
    f->buckets = (const struct yk_bucket *)(f->index + 1);
    f->max_buckets = buckets;
    f->max_overflow = overflow;
    return 0;
}

static const struct yk_bucket *primary_of(const struct yk_filter *f, uint64_t hash,
                                          uint64_t table) {
    uint32_t level = (uint32_t)(table >> 32) & 31u;
    uint32_t b = (uint32_t)hash & ((1u << level) - 1u);
    if (b < (uint32_t)table)
        b = (uint32_t)hash & (uint32_t)((2ull << level) - 1u);
    return b < f->max_buckets ? &f->buckets[b] : NULL;
}

/* 1: the tag is in the chain, or the chain does not end. */
static int chain_has(const struct yk_filter *f, const struct yk_bucket *b, uint32_t tag) {
    for (uint32_t hops = 0; hops < CHAIN_MAX; hops++) {
        for (unsigned i = 0; i < YK_SHM_BUCKET_ENTRIES; i++) {
            uint64_t e = LOAD_ACQUIRE(&b->entry[i]);
            if (e != 0 && (uint32_t)(e >> 32) == tag)
                return 1;
        }
        uint32_t link = LOAD_ACQUIRE(&b->next);
        if (link == 0)
            return 0;
        if (link > f->max_overflow)
            return 1;
        b = &f->buckets[f->max_buckets + link - 1u];
    }
    return 1;
}

int yk_filter_maybe(const struct yk_filter *f, uint64_t hash) {
    if (LOAD_ACQUIRE(&f->hdr->complete) != 1)
        return 1;
    for (unsigned turn = 0; turn < ATTEMPTS; turn++) {
        uint64_t table = LOAD_ACQUIRE(&f->index->table);
        const struct yk_bucket *b = primary_of(f, hash, table);
        if (b == NULL)
            return 1;
        uint32_t version = LOAD_ACQUIRE(&b->version);
        if (chain_has(f, b, (uint32_t)(hash >> 32)))
            return 1;
        /* The loads above were acquires: these come after them. */
        if (LOAD_RELAXED(&b->version) == version && LOAD_RELAXED(&f->index->table) == table)
            return LOAD_RELAXED(&f->hdr->complete) != 1;
    }
    return 1;
}
