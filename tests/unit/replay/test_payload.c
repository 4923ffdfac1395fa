/* SPDX-License-Identifier: Apache-2.0
 *
 * Payloads of a replay: what was filled checks, and nothing else does, for any length and alignment.
 */
#include "replay/payload.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define LEN_MAX 9000u

static unsigned char room[LEN_MAX + 64];

static void what_was_filled_checks(void **state) {
    (void)state;
    for (size_t len = 1; len <= LEN_MAX; len += len < 300 ? 1 : 61) {
        for (unsigned shift = 0; shift < 64; shift += 7) {
            uint64_t seed = yk_payload_seed(len * 64 + shift);
            size_t first = 12345;
            memset(room, 0xa5, sizeof(room));
            yk_payload_fill(room + shift, len, seed);
            assert_int_equal(room[shift + len], 0xa5); /* not a byte too many */
            assert_int_equal(yk_payload_check(room + shift, len, seed, &first), 0);
            assert_int_equal(yk_payload_check_sample(room + shift, len, seed, 16, &first), 0);
            assert_int_equal(first, 12345);
        }
    }
}

/* The bytes of a block are those of a longer one as far as it goes: ranges can be checked, too. */
static void length_does_not_matter(void **state) {
    (void)state;
    unsigned char longer[512];
    yk_payload_fill(longer, sizeof(longer), 77);
    for (size_t len = 1; len < sizeof(longer); len++) {
        yk_payload_fill(room, len, 77);
        assert_memory_equal(room, longer, len);
    }
}

static void each_wrong_byte_is_found(void **state) {
    (void)state;
    const size_t len = 4096 * 2 + 37;
    size_t first;
    yk_payload_fill(room, len, 5);
    for (size_t at = 0; at < len; at++) {
        room[at] ^= 0x10;
        assert_int_equal(yk_payload_check(room, len, 5, &first), 1);
        assert_int_equal(first, at);
        room[at] ^= 0x10;
    }
    room[8] ^= 1;
    room[5000] ^= 1;
    room[len - 1] ^= 1;
    assert_int_equal(yk_payload_check(room, len, 5, &first), 3);
    assert_int_equal(first, 8);
}

/* Blocks of neighbouring ids, and one block at another offset, do not pass for each other. */
static void other_blocks_are_wrong(void **state) {
    (void)state;
    const size_t len = 4096;
    size_t first;
    for (uint64_t id = 0; id < 100; id++) {
        yk_payload_fill(room, len, yk_payload_seed(id));
        assert_true(yk_payload_check(room, len, yk_payload_seed(id + 1), &first) > len / 2);
    }
    for (size_t shift = 1; shift < 64; shift++) {
        yk_payload_fill(room, len + 64, yk_payload_seed(3));
        assert_true(yk_payload_check(room + shift, len, yk_payload_seed(3), &first) > len / 2);
    }
    memset(room, 0, len);
    assert_true(yk_payload_check(room, len, yk_payload_seed(0), &first) > len / 2);
}

static void a_sample_sees_lines_here_and_there(void **state) {
    (void)state;
    const size_t len = 64 * 64;
    unsigned found = 0;
    size_t first;
    yk_payload_fill(room, len, 9);
    for (size_t line = 0; line < 64; line++) {
        room[line * 64 + 3] ^= 1;
        found += yk_payload_check_sample(room, len, 9, 16, &first) > 0;
        room[line * 64 + 3] ^= 1;
    }
    assert_int_equal(found, 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_filled_checks),
        cmocka_unit_test(length_does_not_matter),
        cmocka_unit_test(each_wrong_byte_is_found),
        cmocka_unit_test(other_blocks_are_wrong),
        cmocka_unit_test(a_sample_sees_lines_here_and_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
