/* SPDX-License-Identifier: Apache-2.0
 *
 * Copy kernels: the hash is libxxhash's for every length, alignment and split; the copy is exact
 * and stays inside its destination; hash and stored bytes agree while somebody scribbles on the
 * source. Each variant is forced in turn, then the public functions, which choose one.
 */
#include "base/copyhash.h"
#include "base/copyhash_priv.h"
#include "base/hash.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include <cmocka.h>

#define ROOM       ((8u << 20) + 4096) /* the largest length here, and misalignment */
#define GUARD      64u
#define GUARD_BYTE 0xA5
#define MAX_PARTS  40

/* Under the thread sanitizer the torn-source test is left out: the race is its subject. */
#if defined(__SANITIZE_THREAD__)
#define RACES_ALLOWED 0
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RACES_ALLOWED 0
#endif
#endif
#ifndef RACES_ALLOWED
#define RACES_ALLOWED 1
#endif

static uint8_t *src_room, *dst_room;
static uint64_t rng_state = 0x9E3779B97F4A7C15ull;

static uint64_t rng(void) {
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 7;
    rng_state ^= rng_state << 17;
    return rng_state;
}

static int set_up(void **state) {
    (void)state;
    src_room = aligned_alloc(4096, ROOM);
    dst_room = aligned_alloc(4096, ROOM);
    if (!src_room || !dst_room)
        return -1;
    for (size_t i = 0; i + 8 <= ROOM; i += 8) {
        const uint64_t r = rng();
        memcpy(src_room + i, &r, 8);
    }
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    free(src_room);
    free(dst_room);
    return 0;
}

/* The public functions in the shape of a variant. */
static bool yes(void) {
    return true;
}
static uint64_t public_copyv(void *dst, const struct iovec *iov, int n, size_t total) {
    return n == 1 ? yk_copy_hash(dst, iov[0].iov_base, total) : yk_copyv_hash(dst, iov, n);
}
static uint64_t public_hashv(const struct iovec *iov, int n, size_t total) {
    return n == 1 ? yk_hash64(iov[0].iov_base, total) : yk_hash64v(iov, n);
}
static const struct yk_copyhash_variant chosen = {"chosen", yes, public_copyv, public_hashv,
                                                  yk_copy};

typedef void check_fn(const struct yk_copyhash_variant *v);

static void each_variant(check_fn *check) {
    check(&chosen);
    for (const struct yk_copyhash_variant *v = yk_copyhash_variants; v->name; v++) {
        if (v->usable())
            check(v);
        else
            print_message("variant %s: not on this CPU\n", v->name);
    }
}

static void fill_guarded(uint8_t *dst, size_t len) {
    memset(dst - GUARD, GUARD_BYTE, len + 2 * GUARD);
}

static void assert_copied(const uint8_t *dst, const uint8_t *src, size_t len) {
    uint8_t guard[GUARD];
    memset(guard, GUARD_BYTE, GUARD);
    assert_true(len == 0 || memcmp(dst, src, len) == 0);
    assert_memory_equal(dst - GUARD, guard, GUARD);
    assert_memory_equal(dst + len, guard, GUARD);
}

/* One contiguous input at these misalignments: copy+hash, hash alone, copy alone. */
static void check_one(const struct yk_copyhash_variant *v, size_t dst_off, size_t src_off,
                      size_t len) {
    uint8_t *dst = dst_room + 2 * GUARD + dst_off, *src = src_room + src_off;
    const struct iovec iov = {src, len};
    const uint64_t want = XXH3_64bits(src, len);

    fill_guarded(dst, len);
    if (v->copyv_hash(dst, &iov, 1, len) != want)
        fail_msg("%s: hash of %zu bytes, dst +%zu, src +%zu", v->name, len, dst_off, src_off);
    assert_copied(dst, src, len);
    assert_true(v->hashv(&iov, 1, len) == want);
    fill_guarded(dst, len);
    v->copy(dst, src, len);
    assert_copied(dst, src, len);
}

static void lengths(const struct yk_copyhash_variant *v) {
    for (size_t len = 0; len <= 5000; len++)
        check_one(v, 0, len % 7, len);
}

static void large_lengths(const struct yk_copyhash_variant *v) {
    static const size_t at[] = {16u << 10, 64u << 10, 128u << 10, 1u << 20, 3274752, 8u << 20};
    for (size_t i = 0; i < sizeof(at) / sizeof(*at); i++) {
        for (int d = -1; d <= 1; d++)
            check_one(v, 0, 0, at[i] + (size_t)d);
        check_one(v, 32, 3, at[i] - 1013);
        check_one(v, 5, 1, at[i] + 77);
    }
}

static void alignments(const struct yk_copyhash_variant *v) {
    static const size_t len[] = {63, 241, 1999};
    for (size_t i = 0; i < sizeof(len) / sizeof(*len); i++) {
        for (size_t d = 0; d < 64; d++) {
            for (size_t s = 0; s < 64; s++)
                check_one(v, d, s, len[i]);
        }
    }
    for (size_t o = 0; o < 64; o++)
        check_one(v, o, 63 - o, (128u << 10) + o);
}

/* Cuts len bytes at src into parts, some empty, some with no address at all. */
static int cut(struct iovec *iov, uint8_t *src, size_t len, size_t part_max) {
    int n = 0;
    while (n < MAX_PARTS - 1) {
        size_t k = rng() % 8 ? rng() % (part_max + 1) : 0;
        k = k < len ? k : len;
        iov[n++] = (struct iovec){k || rng() % 2 ? src : NULL, k};
        src += k;
        len -= k;
    }
    iov[n++] = (struct iovec){src, len};
    return n;
}

static void splits(const struct yk_copyhash_variant *v) {
    static const size_t part_max[] = {3, 40, 64, 130, 1500, 9000};
    struct iovec iov[MAX_PARTS];
    for (int round = 0; round < 3000; round++) {
        const size_t len = rng() % (round % 16 ? 6000 : 300000);
        uint8_t *dst = dst_room + 2 * GUARD + (round % 2 ? rng() % 64 : 0);
        uint8_t *src = src_room + rng() % 64;
        const int n = cut(iov, src, len, part_max[rng() % 6]);
        const uint64_t want = XXH3_64bits(src, len);

        fill_guarded(dst, len);
        if (v->copyv_hash(dst, iov, n, len) != want)
            fail_msg("%s: hash of %zu bytes in %d parts, round %d", v->name, len, n, round);
        assert_copied(dst, src, len);
        assert_true(v->hashv(iov, n, len) == want);
    }
}

static void every_length_is_exact(void **state) {
    (void)state;
    each_variant(lengths);
}
static void large_lengths_are_exact(void **state) {
    (void)state;
    each_variant(large_lengths);
}
static void every_alignment_is_exact(void **state) {
    (void)state;
    each_variant(alignments);
}
static void every_split_is_exact(void **state) {
    (void)state;
    each_variant(splits);
}

static void pieces_hash_as_the_whole(void **state) {
    static unsigned char data[100000];
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (unsigned char)(i * 31 >> 3);
    for (size_t piece = 1; piece <= sizeof(data); piece = piece * 7 + 1) {
        struct yk_hasher *h = yk_hasher_new();
        assert_non_null(h);
        for (size_t at = 0; at < sizeof(data); at += piece)
            yk_hasher_add(h, data + at, sizeof(data) - at < piece ? sizeof(data) - at : piece);
        assert_true(yk_hasher_sum(h) == yk_hash64(data, sizeof(data)));
        yk_hasher_free(h);
    }
    yk_hasher_free(NULL);
}

static void nothing_is_fine(void **state) {
    (void)state;
    const struct iovec none = {NULL, 0};
    const uint64_t want = XXH3_64bits("", 0);
    assert_true(yk_copy_hash(NULL, NULL, 0) == want);
    assert_true(yk_copyv_hash(NULL, NULL, 0) == want);
    assert_true(yk_copyv_hash(NULL, &none, 1) == want);
    assert_true(yk_hash64(NULL, 0) == want);
    assert_true(yk_hash64v(NULL, 0) == want);
    yk_copy(NULL, NULL, 0);
}

/* Stored and sent: these must never move. */
static void values_are_pinned(void **state) {
    (void)state;
    uint8_t b[1000];
    for (size_t i = 0; i < sizeof(b); i++)
        b[i] = (uint8_t)(i * 7);
    assert_true(yk_hash64("", 0) == 0x2D06800538D394C2ull);
    assert_true(yk_hash64(b, 200) == 0x7C64F3B17285E96Aull);
    assert_true(yk_hash64(b, 1000) == 0x10AD30264426C830ull);
    assert_true(yk_hash_key(7, b, 32) == 0x9EDF25B32913FBAAull);
}

static void keys_hash_by_namespace(void **state) {
    (void)state;
    for (size_t len = 1; len <= 255; len++) {
        assert_true(yk_hash_key(0, src_room, len) == yk_hash64(src_room, len));
        assert_true(yk_hash_key(1, src_room, len) != yk_hash_key(2, src_room, len));
        assert_true(yk_hash_key(9, src_room, len) == XXH3_64bits_withSeed(src_room, len, 9));
    }
}

#if RACES_ALLOWED
struct scribbler {
    _Atomic uint64_t *words;
    size_t count;
    atomic_bool stop;
    atomic_size_t rounds;
};

static void *scribble(void *arg) {
    struct scribbler *s = arg;
    for (uint64_t x = 1; !atomic_load(&s->stop); x++) {
        for (size_t i = 0; i < s->count; i++)
            atomic_store_explicit(&s->words[i], x * 0x9E3779B97F4A7C15ull, memory_order_relaxed);
        atomic_fetch_add(&s->rounds, 1);
    }
    return NULL;
}

static void torn(const struct yk_copyhash_variant *v) {
    static const size_t len[] = {200, 1000, 70001, 256u << 10};
    struct scribbler s = {.words = (void *)src_room, .count = (256u << 10) / 8};
    uint8_t *dst = dst_room + 2 * GUARD;
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, scribble, &s), 0);
    while (atomic_load(&s.rounds) < 1) {
    }
    for (int round = 0; round < 200; round++) {
        const size_t n = len[round % 4];
        const struct iovec iov = {src_room, n};
        const uint64_t h = v->copyv_hash(dst, &iov, 1, n);
        assert_true(h == XXH3_64bits(dst, n));
    }
    atomic_store(&s.stop, true);
    pthread_join(thread, NULL);
}

static void hash_is_of_the_stored_bytes(void **state) {
    (void)state;
    each_variant(torn);
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_length_is_exact),
        cmocka_unit_test(large_lengths_are_exact),
        cmocka_unit_test(every_alignment_is_exact),
        cmocka_unit_test(every_split_is_exact),
        cmocka_unit_test(pieces_hash_as_the_whole),
        cmocka_unit_test(nothing_is_fine),
        cmocka_unit_test(values_are_pinned),
        cmocka_unit_test(keys_hash_by_namespace),
#if RACES_ALLOWED
        cmocka_unit_test(hash_is_of_the_stored_bytes),
#endif
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
