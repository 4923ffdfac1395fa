/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading and writing of message bodies: what goes in comes out, and an end that was passed stays
 * passed.
 *
 * Decoders check nothing field by field and rely on one check at their end. That is safe only if a
 * reader that ran over returns nothing but zeros from then on (the get that failed included) and
 * stands still, and if a writer without space writes nothing, not even the part that would fit. Buffers
 * here are allocations of exactly their size, so that a sanitizer sees one byte too many.
 */
#include "wire/codec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

__attribute__((noinline)) static unsigned char *exact(size_t n, int fill) {
    unsigned char *p = malloc(n > 0 ? n : 1);
    assert_non_null(p);
    memset(p, fill, n);
    return p;
}

static void integers_are_little_endian(void **state) {
    (void)state;
    static const unsigned char want[] = {0x01, 0x03, 0x02, 0x07, 0x06, 0x05, 0x04, 0x0f,
                                         0x0e, 0x0d, 0x0c, 0x0b, 0x0a, 0x09, 0x88};
    unsigned char buf[sizeof(want)];
    struct yk_wr w;
    struct yk_rd r;
    yk_wr_init(&w, buf, sizeof(buf));
    yk_wr_u8(&w, 0x01);
    yk_wr_u16(&w, 0x0203);
    yk_wr_u32(&w, 0x04050607);
    yk_wr_u64(&w, 0x88090a0b0c0d0e0full);
    assert_true(yk_wr_ok(&w));
    assert_int_equal(yk_wr_len(&w), sizeof(want));
    assert_memory_equal(buf, want, sizeof(want));
    yk_rd_init(&r, buf, sizeof(buf));
    assert_int_equal(yk_rd_left(&r), sizeof(want));
    assert_int_equal(yk_rd_u8(&r), 0x01);
    assert_int_equal(yk_rd_u16(&r), 0x0203);
    assert_int_equal(yk_rd_u32(&r), 0x04050607);
    assert_false(yk_rd_ok(&r)); /* something is left */
    assert_true(yk_rd_u64(&r) == 0x88090a0b0c0d0e0full);
    assert_true(yk_rd_ok(&r));
    assert_int_equal(yk_rd_left(&r), 0);
    assert_int_equal(yk_rd_u8(&r), 0);
    assert_false(yk_rd_ok(&r));
}

static void extremes_survive(void **state) {
    (void)state;
    unsigned char buf[15];
    struct yk_wr w;
    struct yk_rd r;
    yk_wr_init(&w, buf, sizeof(buf));
    yk_wr_u8(&w, UINT8_MAX);
    yk_wr_u16(&w, UINT16_MAX);
    yk_wr_u32(&w, UINT32_MAX);
    yk_wr_u64(&w, UINT64_MAX);
    yk_rd_init(&r, buf, sizeof(buf));
    assert_true(yk_rd_u8(&r) == UINT8_MAX && yk_rd_u16(&r) == UINT16_MAX);
    assert_true(yk_rd_u32(&r) == UINT32_MAX && yk_rd_u64(&r) == UINT64_MAX);
    assert_true(yk_rd_ok(&r));
}

/* Reads one field of kind k; the value, or the first byte of a string. */
static uint64_t read_kind(struct yk_rd *r, unsigned k) {
    uint32_t len;
    const unsigned char *p;
    switch (k) {
    case 0:
        return yk_rd_u8(r);
    case 1:
        return yk_rd_u16(r);
    case 2:
        return yk_rd_u32(r);
    case 3:
        return yk_rd_u64(r);
    case 4:
        p = yk_rd_bytes(r, 5);
        return p != NULL ? *p : 0;
    default:
        p = yk_rd_str8(r, &len);
        assert_int_equal(p == NULL, len == 0);
        return p != NULL ? *p : 0;
    }
}

static void a_reader_past_its_end_reads_zeros_for_ever(void **state) {
    (void)state;
    static const size_t need[] = {1, 2, 4, 8, 5, 0xff + 1};
    for (unsigned k = 0; k < 6; k++) {
        for (size_t n = 0; n < 20 && n < need[k]; n++) {
            struct yk_rd r;
            unsigned char *buf = exact(n, 0xff);
            yk_rd_init(&r, buf, n);
            assert_true(read_kind(&r, k) == 0);
            assert_false(yk_rd_ok(&r));
            assert_int_equal(yk_rd_left(&r), 0);
            for (unsigned again = 0; again < 6; again++)
                assert_true(read_kind(&r, again) == 0);
            assert_null(yk_rd_bytes(&r, 0));
            assert_null(yk_rd_bytes(&r, SIZE_MAX));
            assert_false(yk_rd_ok(&r));
            free(buf);
        }
    }
}

__attribute__((noinline)) static void write_kind(struct yk_wr *w, unsigned k) {
    static const unsigned char bytes[256] = {9};
    switch (k) {
    case 0:
        yk_wr_u8(w, 1);
        break;
    case 1:
        yk_wr_u16(w, 0x0101);
        break;
    case 2:
        yk_wr_u32(w, 0x01010101);
        break;
    case 3:
        yk_wr_u64(w, 0x0101010101010101ull);
        break;
    case 4:
        yk_wr_bytes(w, bytes, 5);
        break;
    default:
        yk_wr_str8(w, bytes, 19);
        break;
    }
}

static void a_writer_without_space_writes_nothing(void **state) {
    (void)state;
    static const size_t need[] = {1, 2, 4, 8, 5, 20};
    for (unsigned k = 0; k < 6; k++) {
        for (size_t n = 0; n < need[k]; n++) {
            struct yk_wr w;
            unsigned char *buf = exact(n, 0x55);
            yk_wr_init(&w, buf, n);
            write_kind(&w, k);
            assert_false(yk_wr_ok(&w));
            size_t len = yk_wr_len(&w);
            for (unsigned again = 0; again < 6; again++)
                write_kind(&w, again);
            assert_null(yk_wr_space(&w, 0));
            assert_false(yk_wr_ok(&w));
            assert_int_equal(yk_wr_len(&w), len);
            assert_int_equal(len, 0);
            for (size_t i = len; i < n; i++)
                assert_int_equal(buf[i], 0x55);
            free(buf);
        }
    }
}

static void strings_of_every_length(void **state) {
    (void)state;
    unsigned char text[256];
    for (unsigned i = 0; i < sizeof(text); i++)
        text[i] = (unsigned char)(i + 1);
    for (size_t len = 0; len <= 255; len++) {
        unsigned char *buf = exact(len + 1, 0);
        struct yk_wr w;
        struct yk_rd r;
        uint32_t got;
        yk_wr_init(&w, buf, len + 1);
        yk_wr_str8(&w, text, len);
        assert_true(yk_wr_ok(&w));
        yk_rd_init(&r, buf, len + 1);
        const void *p = yk_rd_str8(&r, &got);
        assert_non_null(p);
        assert_int_equal(got, len);
        assert_memory_equal(p, text, len);
        assert_true(yk_rd_ok(&r));
        if (len > 0) { /* one byte short */
            yk_rd_init(&r, buf, len);
            assert_null(yk_rd_str8(&r, &got));
            assert_int_equal(got, 0);
            assert_false(yk_rd_ok(&r));
        }
        free(buf);
    }
    unsigned char buf[400];
    struct yk_wr w;
    yk_wr_init(&w, buf, sizeof(buf));
    yk_wr_str8(&w, text, 256); /* does not fit its length byte */
    assert_false(yk_wr_ok(&w));
    assert_int_equal(yk_wr_len(&w), 0);
}

static void nothing_is_a_body_too(void **state) {
    (void)state;
    struct yk_rd r;
    struct yk_wr w;
    yk_rd_init(&r, NULL, 0);
    assert_true(yk_rd_ok(&r));
    assert_int_equal(yk_rd_left(&r), 0);
    yk_rd_bytes(&r, 0);
    assert_true(yk_rd_ok(&r));
    assert_int_equal(yk_rd_u64(&r), 0);
    assert_false(yk_rd_ok(&r));
    yk_wr_init(&w, NULL, 0);
    yk_wr_bytes(&w, NULL, 0);
    assert_true(yk_wr_ok(&w));
    assert_int_equal(yk_wr_len(&w), 0);
    yk_wr_u8(&w, 1);
    assert_false(yk_wr_ok(&w));
}

static void huge_lengths_are_refused(void **state) {
    (void)state;
    unsigned char buf[8] = {0};
    static const size_t lens[] = {9, SIZE_MAX, SIZE_MAX / 2 + 1, (size_t)1 << 32};
    for (unsigned i = 0; i < 4; i++) {
        struct yk_rd r;
        struct yk_wr w;
        yk_rd_init(&r, buf, sizeof(buf));
        assert_null(yk_rd_bytes(&r, lens[i]));
        assert_false(yk_rd_ok(&r));
        yk_wr_init(&w, buf, sizeof(buf));
        assert_null(yk_wr_space(&w, lens[i]));
        assert_false(yk_wr_ok(&w));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_are_little_endian),
        cmocka_unit_test(extremes_survive),
        cmocka_unit_test(a_reader_past_its_end_reads_zeros_for_ever),
        cmocka_unit_test(a_writer_without_space_writes_nothing),
        cmocka_unit_test(strings_of_every_length),
        cmocka_unit_test(nothing_is_a_body_too),
        cmocka_unit_test(huge_lengths_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
