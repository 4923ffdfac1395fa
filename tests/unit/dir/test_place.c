/* SPDX-License-Identifier: Apache-2.0
 *
 * Which node gets one more copy (dir/place.h): zones first, then room, then a share by size and load.
 */
#include "dir/place.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define GIB  (1ull << 30)
#define KEYS 4000u

static const struct yk_dir_place_node alike[] = {
    {1, "a", 10 * GIB, GIB, 100}, {2, "a", 10 * GIB, GIB, 100}, {3, "b", 10 * GIB, GIB, 100},
    {4, "b", 10 * GIB, GIB, 100}, {5, "c", 10 * GIB, GIB, 100},
};

static uint64_t hash_of(uint64_t i) {
    return i * 0x9e3779b97f4a7c15ull;
}

static void nobody_is_chosen_of_none(void **state) {
    (void)state;
    assert_int_equal(yk_dir_place(alike, 0, NULL, 0, 1, 1), -1);
}

static void a_zone_without_a_copy_comes_first(void **state) {
    (void)state;
    const char *zones[] = {"a", "c"};
    for (uint64_t k = 0; k < KEYS; k++) {
        int at = yk_dir_place(alike, 5, zones, 2, hash_of(k), 1);
        assert_true(at == 2 || at == 3);
    }
}

static void with_a_copy_in_every_zone_any_will_do(void **state) {
    (void)state;
    const char *zones[] = {"a", "b", "c"};
    uint32_t got[5] = {0};
    for (uint64_t k = 0; k < KEYS; k++)
        got[yk_dir_place(alike, 5, zones, 3, hash_of(k), 1)]++;
    for (int i = 0; i < 5; i++) /* equal shares are 800 */
        assert_in_range(got[i], 600, 1000);
}

static void one_with_room_comes_before_one_that_evicts(void **state) {
    (void)state;
    struct yk_dir_place_node n[] = {{1, "", 10 * GIB, 10 * GIB, 0}, {2, "", 10 * GIB, 8 * GIB, 0}};
    for (uint64_t k = 0; k < KEYS; k++)
        assert_int_equal(yk_dir_place(n, 2, NULL, 0, hash_of(k), GIB), 1);
    n[1].zone = "a"; /* but a zone counts for more */
    const char *zones[] = {"a"};
    assert_int_equal(yk_dir_place(n, 2, zones, 1, 7, GIB), 0);
}

static void a_larger_and_a_less_busy_one_get_more(void **state) {
    (void)state;
    struct yk_dir_place_node n[] = {{1, "", 10 * GIB, 0, 0}, {2, "", 30 * GIB, 0, 0}};
    uint32_t got[2] = {0};
    for (uint64_t k = 0; k < KEYS; k++)
        got[yk_dir_place(n, 2, NULL, 0, hash_of(k), 1)]++;
    assert_true(got[1] > 2 * got[0]);
    assert_true(got[0] > KEYS / 20);
    n[1] = (struct yk_dir_place_node){2, "", 10 * GIB, 0, 1e6};
    got[0] = got[1] = 0;
    for (uint64_t k = 0; k < KEYS; k++)
        got[yk_dir_place(n, 2, NULL, 0, hash_of(k), 1)]++;
    assert_true(got[0] > 2 * got[1]);
    assert_true(got[1] > 0);
}

/* Whoever asks chooses alike, in whatever order it knows the nodes; and one that goes moves nobody else's choice. */
static void the_order_of_nodes_does_not_matter(void **state) {
    (void)state;
    struct yk_dir_place_node turned[5];
    for (int i = 0; i < 5; i++)
        turned[i] = alike[4 - i];
    for (uint64_t k = 0; k < KEYS; k++) {
        uint32_t id = alike[yk_dir_place(alike, 5, NULL, 0, hash_of(k), 1)].id;
        assert_int_equal(turned[yk_dir_place(turned, 5, NULL, 0, hash_of(k), 1)].id, id);
        if (id != 5)
            assert_int_equal(alike[yk_dir_place(alike, 4, NULL, 0, hash_of(k), 1)].id, id);
    }
}

static void what_is_not_known_is_no_harm(void **state) {
    (void)state;
    struct yk_dir_place_node n[] = {{1, "", 0, 0, 0}, {2, "", 0, UINT64_MAX, 0}};
    int at = yk_dir_place(n, 2, NULL, 0, 42, UINT64_MAX);
    assert_in_range(at, 0, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_is_chosen_of_none),
        cmocka_unit_test(a_zone_without_a_copy_comes_first),
        cmocka_unit_test(with_a_copy_in_every_zone_any_will_do),
        cmocka_unit_test(one_with_room_comes_before_one_that_evicts),
        cmocka_unit_test(a_larger_and_a_less_busy_one_get_more),
        cmocka_unit_test(the_order_of_nodes_does_not_matter),
        cmocka_unit_test(what_is_not_known_is_no_harm),
    };
    return cmocka_run_group_tests_name("dir_place", tests, NULL, NULL);
}
