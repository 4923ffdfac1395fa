/* SPDX-License-Identifier: Apache-2.0
 *
 * The smallest owner of a segment (tests/unit/shm/rig.h).
 */
#include "rig.h"

#include "base/hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>
#include <yolk/status.h>

/* Memory between two pages that nobody may touch: an access past a region's end ends the test. */
static void *guarded(uint64_t bytes, int fd) {
    unsigned char *p =
        mmap(NULL, bytes + 2 * YK_SHM_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(p, MAP_FAILED);
    int flags = MAP_FIXED | (fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
    void *at = mmap(p + YK_SHM_PAGE, bytes, PROT_READ | PROT_WRITE, flags, fd, 0);
    assert_ptr_equal(at, p + YK_SHM_PAGE);
    return at;
}

static void unguard(void *at, uint64_t bytes) {
    munmap((unsigned char *)at - YK_SHM_PAGE, bytes + 2 * YK_SHM_PAGE);
}

void rig_open(struct rig *r, uint64_t data_bytes, uint32_t max_blocks, uint32_t max_clients) {
    memset(r, 0, sizeof(*r));
    assert_int_equal(yk_shm_layout_make(data_bytes, max_blocks, max_clients, 64, &r->layout), 0);
    r->meta_fd = memfd_create("rig", MFD_CLOEXEC);
    assert_true(r->meta_fd >= 0);
    assert_int_equal(ftruncate(r->meta_fd, (off_t)r->layout.meta_bytes), 0);
    r->meta = guarded(r->layout.meta_bytes, r->meta_fd);
    r->data = guarded(data_bytes, -1);
    r->pages = guarded(r->layout.clients_bytes, -1);
    r->hdr = (struct yk_shm_hdr *)(void *)r->meta;
    r->hdr->magic = YK_SHM_MAGIC;
    r->hdr->version = YK_SHM_VERSION;
    r->hdr->hdr_bytes = sizeof(*r->hdr);
    r->hdr->layout = r->layout;
    r->hdr->layout_sum = yk_shm_layout_sum(&r->layout);
    assert_int_equal(yk_owner_init(&r->owner, r->meta, r->pages, &r->layout), 0);
    yk_index_init(&r->index, r->meta, &r->layout, 0);
    assert_int_equal(yk_view_init(&r->view, r->meta, r->layout.meta_bytes, r->data, data_bytes), 0);
    for (unsigned i = 0; i < 4; i++) {
        r->owner.ns[i].state = 1;
        r->owner.ns[i].epoch = RIG_EPOCH;
    }
    r->slots = calloc(max_clients, sizeof(uint32_t));
    r->limbo = calloc(max_blocks, sizeof(uint32_t));
    assert_non_null(r->slots);
    assert_non_null(r->limbo);
    for (uint32_t i = 0; i < max_clients; i++)
        r->slots[i] = i;
}

void rig_close(struct rig *r) {
    yk_owner_fini(&r->owner);
    free(r->slots);
    free(r->limbo);
    close(r->meta_fd);
    unguard(r->meta, r->layout.meta_bytes);
    unguard(r->data, r->layout.data_bytes);
    unguard(r->pages, r->layout.clients_bytes);
}

static void word_set(struct rig *r, uint32_t idx, uint64_t word) {
    __atomic_store_n(&r->owner.desc[idx].word, word, __ATOMIC_RELEASE);
}

static void words_set(void *at, const void *from, size_t first, size_t n) {
    uint64_t *to = at, words[16];
    assert_true(n <= 16);
    memcpy(words, from, n * 8);
    for (size_t i = first; i < n; i++)
        __atomic_store_n(&to[i], words[i], __ATOMIC_RELAXED);
}

/* All but the word. */
static void fields_set(struct rig *r, uint32_t idx, const struct yk_desc *d,
                       const struct yk_rest *rest) {
    words_set(&r->owner.desc[idx], d, 1, sizeof(*d) / 8);
    words_set(&r->owner.rest[idx], rest, 0, sizeof(*rest) / 8);
}

static void commit(struct rig *r, uint32_t idx, uint32_t cell, uint64_t gen,
                   const struct rig_block *b) {
    struct yk_desc d;
    struct yk_rest rest;
    memset(&d, 0, sizeof(d));
    memset(&rest, 0, sizeof(rest));
    d.hash = b->hash != 0 ? b->hash : yk_hash_key(b->ns, b->key, b->key_len);
    rest.offset = b->offset;
    rest.sum = b->sum;
    d.len = rest.cap = b->len != 0 ? b->len : 1;
    memcpy(d.key, b->key, b->key_len - yk_key_tail(b->key_len));
    d.key_cell = cell;
    d.epoch = b->epoch != 0 ? b->epoch : RIG_EPOCH;
    d.ns = b->ns;
    d.key_len = (uint8_t)b->key_len;
    d.expiry_ms = b->expiry_ms;
    rest.parent = rest.owner = YK_SHM_NONE;
    rest.birth = (uint32_t)gen;
    rest.place_sum = yk_desc_place_sum(&rest, idx);
    rest.ident_sum = yk_desc_ident_sum(&d, &rest, b->key);
    fields_set(r, idx, &d, &rest);
    word_set(r, idx, YK_WORD(gen, b->state != 0 ? b->state : (unsigned)YK_DESC_COMMITTED));
}

uint32_t rig_put(struct rig *r, const struct rig_block *b) {
    uint32_t idx = yk_owner_desc_take(&r->owner);
    if (idx == YK_SHM_NONE)
        return idx;
    uint64_t gen = yk_owner_gen(&r->owner);
    word_set(r, idx, YK_WORD(gen, YK_DESC_RESERVED));
    uint32_t tail = yk_key_tail(b->key_len), cell = 0;
    if (tail != 0)
        cell = yk_owner_cell_take(&r->owner, (const char *)b->key + YK_SHM_KEY_INLINE, tail);
    if (cell == YK_SHM_NONE) {
        yk_owner_desc_give(&r->owner, idx);
        return YK_SHM_NONE;
    }
    commit(r, idx, cell, gen, b);
    if (yk_index_insert(&r->index, r->owner.desc[idx].hash, idx) == 0)
        return idx;
    word_set(r, idx, YK_WORD(yk_owner_gen(&r->owner), YK_DESC_RETIRED));
    r->limbo[r->limbo_count++] = idx;
    return YK_SHM_NONE;
}

void rig_retire(struct rig *r, uint32_t idx) {
    assert_int_equal(yk_index_remove(&r->index, r->owner.desc[idx].hash, idx), 0);
    word_set(r, idx, YK_WORD(yk_owner_gen(&r->owner), YK_DESC_RETIRED));
    r->limbo[r->limbo_count++] = idx;
}

uint32_t rig_scan(struct rig *r) {
    uint32_t kept = 0, freed = 0;
    yk_owner_hazards_collect(&r->owner, r->slots, r->layout.max_clients);
    for (uint32_t i = 0; i < r->limbo_count; i++) {
        uint32_t idx = r->limbo[i];
        const struct yk_desc *d = &r->owner.desc[idx];
        if (yk_owner_named(&r->owner, idx)) {
            r->limbo[kept++] = idx;
            continue;
        }
        if (r->freed != NULL)
            r->freed(r->freed_arg, idx);
        yk_owner_cell_give(&r->owner, d->key_cell, yk_key_tail(d->key_len));
        yk_owner_desc_give(&r->owner, idx);
        freed++;
    }
    r->limbo_count = kept;
    yk_owner_hazards_clear(&r->owner);
    return freed;
}

int rig_move(struct rig *r, uint32_t idx, uint64_t to) {
    struct yk_rest *rest = &r->owner.rest[idx], moved = *rest;
    uint64_t word = r->owner.desc[idx].word;
    word_set(r, idx, YK_WORD(yk_owner_gen(&r->owner), YK_DESC_MOVING));
    /* The full fence in it also keeps the stores below after the word's. */
    if (yk_owner_is_named(&r->owner, r->slots, r->layout.max_clients, idx)) {
        word_set(r, idx, word);
        return 0;
    }
    moved.offset = to;
    moved.place_sum = yk_desc_place_sum(&moved, idx);
    words_set(rest, &moved, 0, sizeof(moved) / 8);
    word_set(r, idx, YK_WORD(yk_owner_gen(&r->owner), YK_WORD_STATE(word)));
    return 1;
}

struct yk_query rig_query(uint32_t ns, const void *key, uint32_t key_len) {
    struct yk_query q = {.hash = yk_hash_key(ns, key, key_len),
                         .epoch = RIG_EPOCH,
                         .key = key,
                         .key_len = key_len,
                         .ns = ns};
    return q;
}

void rig_readers_start(struct rig_reader *rd, void *(*fn)(void *)) {
    memset(rd, 0, RIG_READERS * sizeof(*rd));
    for (unsigned i = 0; i < RIG_READERS; i++) {
        rd[i].number = i;
        assert_int_equal(pthread_create(&rd[i].thread, NULL, fn, &rd[i]), 0);
    }
}

int rig_reader_goes_on(struct rig_reader *rd) {
    __atomic_store_n(&rd->looks, rd->looks + 1, __ATOMIC_RELAXED);
    return !__atomic_load_n(&rd->stop, __ATOMIC_ACQUIRE);
}

int rig_readers_lag(const struct rig_reader *rd, uint64_t looks) {
    for (unsigned i = 0; i < RIG_READERS; i++)
        if (__atomic_load_n(&rd[i].looks, __ATOMIC_RELAXED) < looks)
            return 1;
    return 0;
}

void rig_readers_end(struct rig_reader *rd) {
    for (unsigned i = 0; i < RIG_READERS; i++)
        __atomic_store_n(&rd[i].stop, 1, __ATOMIC_RELEASE);
    for (unsigned i = 0; i < RIG_READERS; i++)
        pthread_join(rd[i].thread, NULL);
    for (unsigned i = 0; i < RIG_READERS; i++) {
        assert_int_equal(rd[i].missed, 0);
        assert_int_equal(rd[i].wrong, 0);
    }
}

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define __SANITIZE_THREAD__ 1
#endif
#endif

int rig_may_fault(void) {
#ifdef __SANITIZE_THREAD__
    return 0;
#else
    const char *preload = getenv("LD_PRELOAD");
    return preload == NULL || strstr(preload, "vgpreload") == NULL;
#endif
}

uint64_t rig_random(uint64_t *seed) {
    uint64_t z = *seed += 0x9e3779b97f4a7c15ull; /* splitmix64's constants */
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}
