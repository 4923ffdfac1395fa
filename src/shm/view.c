/* SPDX-License-Identifier: Apache-2.0
 *
 * Lock-free lookups in a segment that its owner changes meanwhile (src/shm/view.h).
 *
 * Memory order, in one place:
 *   owner commit     fields, word(COMMITTED) release, entry release
 *   reader           entry acquire -> word acquire (W1) -> fields relaxed -> acquire fence -> word
 * (W2) owner retire     entry cleared, word(RETIRED) , seq_cst fence, hazards read reader pin
 * hazard store, seq_cst fence, word read In the last pair at least one side sees the other (store
 * buffering is excluded by the two full fences), so either the owner finds the hazard or the reader
 * finds the word changed. tests/model explores exactly this with each step left out in turn.
 */
#include "shm/view.h"

#include "base/clock.h"

#include <string.h>

#include <yolk/status.h>

/* How often a lookup starts again before it gives up: each turn is about 100 ns and a change by the
 * owner takes less, so dozens mean that the owner stopped in the middle of one. */
#define ATTEMPTS 64
/* Overflow buckets walked before the chain is taken for a scribbled one. */
#define CHAIN_MAX 64u

#define LOAD_RELAXED(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define LOAD_ACQUIRE(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)

static inline void cpu_relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

int yk_view_init(struct yk_view *view, const void *meta, uint64_t meta_bytes, const void *data,
                 uint64_t data_bytes) {
    const struct yk_shm_hdr *hdr = meta;
    if (meta_bytes < YK_SHM_PAGE || hdr->magic != YK_SHM_MAGIC)
        return -YK_ECORRUPT;
    if (hdr->version != YK_SHM_VERSION)
        return -YK_EVERSION;
    struct yk_shm_layout l = hdr->layout;
    struct yk_shm_layout want;
    if (hdr->layout_sum != yk_shm_layout_sum(&l) || l.meta_bytes != meta_bytes ||
        (data != NULL && l.data_bytes > data_bytes) ||
        yk_shm_layout_make(l.data_bytes, l.max_blocks, l.max_clients, l.extents_bytes, &want) < 0 ||
        memcmp(&l, &want, sizeof(l)) != 0)
        return -YK_ECORRUPT;
    view->hdr = hdr;
    view->meta = meta;
    view->data = data;
    view->layout = l;
    view->slow_from = hdr->slow_bytes == 0 ? UINT64_MAX : l.data_bytes - hdr->slow_bytes;
    view->ns = (const struct yk_ns_entry *)(view->meta + l.off_ns);
    view->desc = (const struct yk_desc *)(view->meta + l.off_desc);
    view->rest = (const struct yk_rest *)(view->meta + l.off_rest);
    view->keys = view->meta + l.off_keys;
    return 0;
}

uint64_t yk_view_now_ms(const struct yk_view *view) {
    uint64_t wall = yk_wall_ms();
    uint64_t seen = LOAD_RELAXED(&view->hdr->clock_ms);
    return wall > seen ? wall : seen;
}

/* One index area and the table word it was entered with. */
struct area {
    const struct yk_index_hdr *hdr;
    const struct yk_bucket *buckets;
    uint64_t active;
    uint64_t table;
};

static inline void area_enter(const struct yk_view *view, struct area *a) {
    a->active = LOAD_ACQUIRE(&view->hdr->active);
    a->hdr = (const struct yk_index_hdr *)(view->meta + view->layout.off_index[a->active & 1u]);
    a->buckets = (const struct yk_bucket *)(a->hdr + 1);
    a->table = LOAD_ACQUIRE(&a->hdr->table);
}

static inline int area_unchanged(const struct yk_view *view, const struct area *a) {
    return LOAD_ACQUIRE(&a->hdr->table) == a->table &&
           LOAD_ACQUIRE(&view->hdr->active) == a->active;
}

static inline uint32_t area_bucket(const struct yk_view *view, const struct area *a,
                                   uint64_t hash) {
    uint32_t level = (uint32_t)(a->table >> 32) & 31u;
    uint32_t split = (uint32_t)a->table;
    uint32_t b = (uint32_t)hash & ((1u << level) - 1u);
    if (b < split)
        b = (uint32_t)hash & (uint32_t)((2ull << level) - 1u);
    return b < view->layout.max_buckets ? b : 0;
}

/* Copies n words, each with a relaxed load, so that a concurrent change is no data race; whether the
 * copy is one block's is decided by the word afterwards. */
static inline void words_copy(uint64_t *to, const void *words, size_t n) {
    const uint64_t *from = words;
    for (size_t i = 0; i < n; i++)
        to[i] = LOAD_RELAXED(&from[i]);
}

static inline void found_copy(const struct yk_view *view, uint32_t idx, struct yk_found *ret) {
    uint64_t desc[sizeof(ret->desc) / 8], rest[sizeof(ret->rest) / 8];
    words_copy(desc, &view->desc[idx], sizeof(desc) / 8);
    words_copy(rest, &view->rest[idx], sizeof(rest) / 8);
    memcpy(&ret->desc, desc, sizeof(desc));
    memcpy(&ret->rest, rest, sizeof(rest));
}

/* Compares bytes with zero-padded words of the segment. */
static inline int bytes_equal(const uint64_t *words, const unsigned char *bytes, uint32_t len) {
    uint32_t i = 0;
    for (; i + 8 <= len; i += 8) {
        uint64_t w;
        memcpy(&w, bytes + i, 8);
        if (w != LOAD_RELAXED(&words[i / 8]))
            return 0;
    }
    if (i < len) {
        uint64_t w = 0;
        memcpy(&w, bytes + i, len - i);
        if (w != LOAD_RELAXED(&words[i / 8]))
            return 0;
    }
    return 1;
}

/* Is the whole key of d this one, whose length is d's? Most end in the descriptor's own line. */
static inline int key_equal(const struct yk_view *view, const struct yk_desc *d, const void *key,
                            uint32_t len) {
    uint32_t tail = yk_key_tail(len), cell;
    if (!bytes_equal(d->key, key, len - tail))
        return 0;
    if (tail == 0)
        return 1;
    cell = LOAD_RELAXED(&d->key_cell);
    if ((uint64_t)cell + yk_cell_granules(tail) > view->layout.max_key_granules)
        return 0;
    const void *at = view->keys + (uint64_t)cell * YK_SHM_KEY_GRANULE;
    return bytes_equal(at, (const unsigned char *)key + YK_SHM_KEY_INLINE, tail);
}

enum verdict {
    V_OTHER,  /* another block */
    V_MATCH,  /* the one */
    V_HIDDEN, /* the one, but expired or of another epoch */
    V_CHANGED /* look again */
};

/* Is descriptor idx the block that q asks for? Bounds come first: it may be garbage. placed: its payload's
 * place is wanted, too. */
static enum verdict judge(const struct yk_view *view, const struct yk_query *q, uint64_t now_ms,
                          uint32_t idx, int placed) {
    const struct yk_desc *d = &view->desc[idx];
    if (LOAD_RELAXED(&d->hash) != q->hash || LOAD_RELAXED(&d->key_len) != q->key_len ||
        LOAD_RELAXED(&d->ns) != q->ns || !key_equal(view, d, q->key, q->key_len))
        return V_OTHER;
    if (placed) {
        uint64_t offset = LOAD_RELAXED(&view->rest[idx].offset);
        if (offset > view->layout.data_bytes ||
            LOAD_RELAXED(&d->len) > view->layout.data_bytes - offset)
            return V_HIDDEN;
    }
    uint64_t expiry = LOAD_RELAXED(&d->expiry_ms);
    if (LOAD_RELAXED(&d->epoch) != q->epoch || (expiry != 0 && expiry <= now_ms))
        return V_HIDDEN;
    return V_MATCH;
}

static inline int readable(uint64_t word) {
    unsigned s = YK_WORD_STATE(word);
    return s == YK_DESC_COMMITTED || s == YK_DESC_SUSPECT;
}

/* The other bytes of a long key. */
static inline void prefetch_tail(const struct yk_view *view, const struct yk_desc *d) {
    uint32_t cell = LOAD_RELAXED(&d->key_cell);
    if (yk_key_tail(LOAD_RELAXED(&d->key_len)) != 0 && cell < view->layout.max_key_granules)
        __builtin_prefetch(view->keys + (uint64_t)cell * YK_SHM_KEY_GRANULE);
}

/* Two lines as a rule. */
static inline void prefetch_rest(const struct yk_rest *rest) {
    __builtin_prefetch(rest);
    __builtin_prefetch((const char *)(rest + 1) - 1);
}

/* Looks at one candidate. hazard NULL: optimistic. ret NULL: nobody wants the copy. */
static enum verdict candidate(const struct yk_view *view, const struct yk_query *q, uint64_t now_ms,
                              uint32_t idx, uint32_t *hazard, struct yk_found *ret) {
    const struct yk_desc *d = &view->desc[idx];
    if (ret != NULL)
        prefetch_rest(&view->rest[idx]);    /* while the descriptor comes */
    uint64_t word = LOAD_ACQUIRE(&d->word); /* pairs with the release store of commit */
    if (!readable(word))
        return V_CHANGED;
    if (hazard != NULL) {
        prefetch_tail(view, d); /* nothing is loaded ahead across the fence below */
        /* Release: naming another block is letting the one before go (as yk_hazard_clear). */
        __atomic_store_n(hazard, idx + 1, __ATOMIC_RELEASE);
        /* Pairs with the fence between the owner's retire and its scan. */
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        if (LOAD_ACQUIRE(&d->word) != word)
            return V_CHANGED;
    }
    enum verdict v = judge(view, q, now_ms, idx, ret != NULL);
    if (v == V_MATCH && ret != NULL)
        found_copy(view, idx, ret);
    if (hazard == NULL || v != V_MATCH) {
        /* Sequence lock: the fields above are loaded before the word is loaded again. */
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (LOAD_RELAXED(&d->word) != word)
            return V_CHANGED;
    }
    if (v == V_MATCH && ret != NULL) {
        ret->idx = idx;
        ret->slow = ret->rest.offset >= view->slow_from;
        /* Not the copied one: the block may have been on its way (MOVING, RETIRED) at that moment.
         */
        ret->word = ret->desc.word = word;
    }
    return v;
}

/* One pass over the bucket and its overflow. Returns 0 found, YK_MISS, -YK_EAGAIN look again. */
static int pass(const struct yk_view *view, const struct yk_query *q, uint64_t now_ms,
                uint32_t *hazard, struct yk_found *ret) {
    struct area a;
    area_enter(view, &a);
    const struct yk_bucket *first = &a.buckets[area_bucket(view, &a, q->hash)];
    uint32_t version = LOAD_ACQUIRE(&first->version);
    uint32_t tag = (uint32_t)(q->hash >> 32);
    int changed = 0;
    const struct yk_bucket *b = first;
    for (uint32_t hops = 0; hops < CHAIN_MAX; hops++) {
        for (unsigned i = 0; i < YK_SHM_BUCKET_ENTRIES; i++) {
            uint64_t e = LOAD_ACQUIRE(&b->entry[i]); /* pairs with the release of yk_index_* */
            if (e == 0 || (uint32_t)(e >> 32) != tag)
                continue;
            uint32_t idx = (uint32_t)e - 1u;
            if (idx >= view->layout.max_blocks)
                continue;
            enum verdict v = candidate(view, q, now_ms, idx, hazard, ret);
            if (v == V_MATCH)
                return 0;
            changed |= v == V_CHANGED;
        }
        uint32_t next = LOAD_ACQUIRE(&b->next);
        if (next == 0 || next > view->layout.max_overflow)
            break;
        b = &a.buckets[view->layout.max_buckets + next - 1u];
    }
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    if (changed || LOAD_ACQUIRE(&first->version) != version || !area_unchanged(view, &a))
        return -YK_EAGAIN;
    return YK_MISS;
}

/* R9: engine and namespace must agree on the epoch exactly. */
static inline int visible_in(const struct yk_view *view, const struct yk_query *q) {
    return q->ns < view->layout.max_namespaces &&
           LOAD_ACQUIRE(&view->ns[q->ns].epoch) == q->epoch && !yk_view_lost(view);
}

static int lookup(const struct yk_view *view, const struct yk_query *q, uint64_t now_ms,
                  uint32_t *hazard, struct yk_found *ret) {
    int rc = YK_MISS;
    if (!visible_in(view, q))
        return YK_MISS;
    for (int i = 0; i < ATTEMPTS; i++) {
        rc = pass(view, q, now_ms, hazard, ret);
        if (rc != -YK_EAGAIN)
            break;
        cpu_relax();
    }
    if (rc != 0 && hazard != NULL)
        yk_hazard_clear(hazard);
    return rc;
}

int yk_view_find(const struct yk_view *view, const struct yk_query *q, uint64_t now_ms,
                 struct yk_found *ret) {
    return lookup(view, q, now_ms, NULL, ret);
}

int yk_view_pin(const struct yk_view *view, const struct yk_query *q, uint64_t now_ms,
                uint32_t *hazard, struct yk_found *ret) {
    return lookup(view, q, now_ms, hazard, ret);
}

void yk_view_prefetch(const struct yk_view *view, uint64_t hash) {
    struct area a;
    area_enter(view, &a);
    __builtin_prefetch(&a.buckets[area_bucket(view, &a, hash)]);
}

/* ---- many --------------------------------------------------------------------------------
 *
 * The cache misses of one key depend on each other (bucket, perhaps an overflow bucket, descriptor,
 * the cell of a long key); those of different keys don't. So a scout runs ahead of the lookups: each turn it takes
 * one step for each of STEPS keys, every step asking for the line that its next one reads, and then
 * one key is looked up, whose lines have arrived. What the scout reads may be stale or garbage: it is
 * bounds-checked. The descriptor that it found is looked at first: if that is the block, as its key and
 * its word say, it does not matter how it was found, and most keys need no second pass over the bucket.
 * Anything else, a miss above all, is for the lookup to say. */

#define STEPS 4u /* of bucket, overflow bucket, descriptor, cell of a long key */
/* Keys between a step and the next, where there are so many. A line that is in no cache, on a page that
 * is in no TLB, takes 300 ns where a virtual machine has its pages in pages; a key takes 80 at best. 256
 * of a million keys: 26 us with 4, 21 with 8, 18 with 16. */
#define APART 16u
#define RING  128u

_Static_assert(RING > STEPS * APART && (RING & (RING - 1)) == 0, "a slot is free before its reuse");

/* Where the scout is with one key. */
struct scout {
    const struct yk_bucket *bucket; /* to be searched; NULL = done */
    uint32_t idx;                   /* descriptor that was found */
};

static inline void scout_start(const struct yk_view *view, const struct area *a, uint64_t hash,
                               struct scout *s) {
    s->bucket = &a->buckets[area_bucket(view, a, hash)];
    s->idx = YK_SHM_NONE;
    __builtin_prefetch(s->bucket);
}

static inline void scout_search(const struct yk_view *view, const struct area *a, uint64_t hash,
                                int rest_too, struct scout *s) {
    const struct yk_bucket *b = s->bucket;
    uint32_t tag = (uint32_t)(hash >> 32);
    for (unsigned i = 0; i < YK_SHM_BUCKET_ENTRIES; i++) {
        uint64_t e = LOAD_RELAXED(&b->entry[i]);
        uint32_t idx = (uint32_t)e - 1u;
        if ((uint32_t)(e >> 32) != tag || idx >= view->layout.max_blocks)
            continue;
        s->bucket = NULL;
        s->idx = idx;
        __builtin_prefetch(&view->desc[idx]);
        if (rest_too)
            prefetch_rest(&view->rest[idx]);
        return;
    }
    uint32_t next = LOAD_RELAXED(&b->next);
    s->bucket = NULL;
    if (next != 0 && next <= view->layout.max_overflow) {
        s->bucket = &a->buckets[view->layout.max_buckets + next - 1u];
        __builtin_prefetch(s->bucket);
    }
}

static inline void scout_step(const struct yk_view *view, const struct area *a, uint64_t hash,
                              int rest_too, struct scout *s) {
    if (s->bucket != NULL) {
        scout_search(view, a, hash, rest_too, s);
    } else if (s->idx != YK_SHM_NONE) {
        prefetch_tail(view, &view->desc[s->idx]);
    }
}

static inline int look_one(const struct yk_view *view, const struct yk_query *q, uint64_t now_ms,
                           uint32_t idx, struct yk_found *ret) {
    if (idx != YK_SHM_NONE && visible_in(view, q) &&
        candidate(view, q, now_ms, idx, NULL, ret) == V_MATCH)
        return 0;
    return lookup(view, q, now_ms, NULL, ret);
}

/* ret_rc NULL: ends at the first key that is not found. Returns how many keys it is done with. */
static inline size_t look_many(const struct yk_view *view, const struct yk_query *q, size_t n,
                               uint64_t now_ms, struct yk_found *ret_found, int *ret_rc,
                               int *ret_unsure) {
    struct scout scouts[RING];
    struct area a;
    area_enter(view, &a);
    /* A few keys don't wait for turns that have nothing to do. */
    size_t apart = n / STEPS < 1 ? 1 : n / STEPS < APART ? n / STEPS : APART;
    for (size_t turn = 0; turn < n + STEPS * apart; turn++) {
        if (turn < n)
            scout_start(view, &a, q[turn].hash, &scouts[turn % RING]);
        for (size_t step = 1; step < STEPS; step++) {
            size_t i = turn - step * apart; /* wraps to a large number at the start */
            if (i < n)
                scout_step(view, &a, q[i].hash, ret_found != NULL, &scouts[i % RING]);
        }
        size_t i = turn - STEPS * apart;
        if (i >= n)
            continue;
        int rc = look_one(view, &q[i], now_ms, scouts[i % RING].idx,
                          ret_found != NULL ? &ret_found[i] : NULL);
        if (ret_rc != NULL) {
            ret_rc[i] = rc;
        } else if (rc != 0) {
            *ret_unsure = rc != YK_MISS;
            return i;
        }
    }
    return n;
}

size_t yk_view_match(const struct yk_view *view, const struct yk_query *q, size_t n,
                     uint64_t now_ms, struct yk_found *ret_found, int *ret_unsure) {
    *ret_unsure = 0;
    return look_many(view, q, n, now_ms, ret_found, NULL, ret_unsure);
}

void yk_view_find_many(const struct yk_view *view, const struct yk_query *q, size_t n,
                       uint64_t now_ms, struct yk_found *ret_found, int *ret_rc) {
    look_many(view, q, n, now_ms, ret_found, ret_rc, NULL);
}
