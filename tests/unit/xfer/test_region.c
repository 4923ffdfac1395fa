/* SPDX-License-Identifier: Apache-2.0
 *
 * Registered memory: what overlaps is refused, all or none, numbers never repeat, who holds a reference
 * keeps it, names are taken once.
 */
#include "xfer/region.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define ARENA (1u << 20)
static char arena[ARENA];

static int open_registry(void **state) {
    *state = yk_registry_new();
    return *state == NULL;
}

static int close_registry(void **state) {
    yk_registry_free(*state);
    return 0;
}

static yk_xfer_memory range(uint64_t at, uint64_t len) {
    return (yk_xfer_memory){.addr = arena + at, .length = len, .access = YK_XFER_REMOTE_READ, .fd = -1};
}

static int add(struct yk_registry *g, uint64_t at, uint64_t len) {
    yk_xfer_memory m = range(at, len);
    return yk_registry_add(g, &m, 1, NULL);
}

static void overlaps_are_refused_neighbours_are_not(void **state) {
    assert_int_equal(add(*state, 1000, 1000), 0);
    assert_int_equal(add(*state, 2000, 500), 0);
    assert_int_equal(add(*state, 500, 500), 0);
    static const uint64_t bad[][2] = {{1000, 1000}, {1999, 1}, {900, 101}, {0, 4096}, {1500, 10}, {2499, 9}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct yk_err err = {0};
        yk_xfer_memory m = range(bad[i][0], bad[i][1]);
        assert_int_equal(yk_registry_add(*state, &m, 1, &err), -YK_EINVAL);
        assert_non_null(strstr(err.text, "overlap"));
    }
}

static void nonsense_is_refused_with_its_number(void **state) {
    yk_xfer_memory m[3] = {range(0, 10), range(100, 0), range(200, 10)};
    struct yk_err err = {0};
    uint32_t regions, segments;
    assert_int_equal(yk_registry_add(*state, m, 3, &err), -YK_EINVAL);
    assert_non_null(strstr(err.text, "memory 1"));
    yk_registry_counts(*state, &regions, &segments);
    assert_int_equal(regions, 0); /* all or none */
    assert_null(yk_registry_find(*state, arena, 1));
    m[1] = (yk_xfer_memory){.addr = NULL, .length = 10, .fd = -1};
    assert_int_equal(yk_registry_add(*state, m, 3, NULL), -YK_EINVAL);
    m[1] = (yk_xfer_memory){.addr = (void *)(UINTPTR_MAX - 100), .length = 4096, .fd = -1};
    assert_int_equal(yk_registry_add(*state, m, 3, NULL), -YK_EINVAL);
    m[1] = (yk_xfer_memory){.addr = arena, .length = YK_XFER_LENGTH_MAX + 1, .fd = -1};
    assert_int_equal(yk_registry_add(*state, m, 3, NULL), -YK_EINVAL);
    m[1] = range(100, 10);
    m[1].access = 8;
    assert_int_equal(yk_registry_add(*state, m, 3, NULL), -YK_EINVAL);
    m[1].access = 0;
    m[1].fd = 1 << 20;
    assert_int_equal(yk_registry_add(*state, m, 3, NULL), -YK_EINVAL);
    m[1] = range(205, 10);
    assert_int_equal(yk_registry_add(*state, m, 3, NULL), -YK_EINVAL);
    m[1].addr = arena + 100;
    assert_int_equal(yk_registry_add(*state, m, 3, NULL), 0);
}

static void a_range_is_found_when_it_lies_in_one_region_whole(void **state) {
    add(*state, 1000, 1000);
    add(*state, 2000, 1000);
    static const struct {
        uint64_t at, len;
        int found;
    } cases[] = {{1000, 1000, 1}, {1999, 1, 1}, {2000, 1, 1},  {2999, 1, 1}, {999, 1, 0},
                 {3000, 1, 0},    {1999, 2, 0}, {1000, 1001, 0}, {1500, UINT64_MAX, 0}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct yk_region *r = yk_registry_find(*state, arena + cases[i].at, cases[i].len);
        assert_int_equal(r != NULL, cases[i].found);
        yk_registry_put(*state, r);
    }
}

/* Memory that need not be registered: what is in part, or going, is told from what is not at all. */
static void what_is_registered_in_part_is_told(void **state) {
    yk_xfer_memory m[2] = {range(100, 200), range(300, 100)};
    struct yk_region *r = NULL;
    assert_int_equal(yk_registry_add(*state, m, 2, NULL), 0);
    static const struct {
        uint32_t at, len;
        int want;
    } t[] = {{100, 200, 0},           {299, 1, 0},    {300, 100, 0},          {0, 100, -YK_ENOENT},
             {0, 101, -YK_EBUSY},     {50, 1000, -YK_EBUSY}, {99, 1, -YK_ENOENT},    {400, 1, -YK_ENOENT},
             {299, 2, -YK_EBUSY},     {399, 2, -YK_EBUSY},   {401, 50, -YK_ENOENT}, {100, 201, -YK_EBUSY}};
    for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        assert_int_equal(yk_registry_local(*state, arena + t[i].at, t[i].len, &r), t[i].want);
        if (t[i].want == 0)
            yk_registry_put(*state, r);
    }
    assert_int_equal(yk_registry_doom(*state, arena + 100, &r), 0);
    assert_int_equal(yk_registry_local(*state, arena + 100, 10, &r), -YK_EBUSY);
    assert_int_equal(yk_registry_remove(*state, r), 1);
    assert_int_equal(yk_registry_local(*state, arena + 100, 10, &r), -YK_ENOENT);
}

static void ten_thousand_are_all_found(void **state) {
    enum { N = 10000 };
    static uint64_t ids[N];
    for (unsigned i = 0; i < N; i++)
        assert_int_equal(add(*state, (uint64_t)(i * 7919u % N) * 100, 64), 0);
    for (unsigned i = 0; i < N; i++) {
        struct yk_region *r = yk_registry_find(*state, arena + i * 100 + 10, 54);
        assert_non_null(r);
        assert_ptr_equal(r->base, arena + i * 100);
        ids[i] = r->id;
        yk_registry_put(*state, r);
        assert_null(yk_registry_find(*state, arena + i * 100 + 64, 1));
    }
    for (unsigned i = 0; i < N; i++) {
        struct yk_region *r = yk_registry_get(*state, ids[i]);
        assert_ptr_equal(r->base, arena + i * 100);
        yk_registry_put(*state, r);
    }
}

static void numbers_never_repeat_and_old_ones_find_nothing(void **state) {
    uint64_t seen[200];
    for (unsigned i = 0; i < 200; i++) {
        struct yk_region *r, *gone;
        assert_int_equal(add(*state, 0, 100), 0);
        r = yk_registry_find(*state, arena, 1);
        seen[i] = r->id;
        for (unsigned k = 0; k < i; k++) {
            assert_int_not_equal(seen[k], seen[i]);
            assert_null(yk_registry_get(*state, seen[k]));
        }
        yk_registry_put(*state, r);
        assert_int_equal(yk_registry_doom(*state, arena, &gone), 0);
        assert_int_equal(yk_registry_remove(*state, gone), 1);
    }
    assert_null(yk_registry_get(*state, 0));
    assert_null(yk_registry_get(*state, UINT64_MAX));
}

static void what_is_held_stays_until_it_is_put(void **state) {
    struct yk_region *r, *gone;
    add(*state, 0, 100);
    r = yk_registry_find(*state, arena, 10);
    uint64_t id = r->id;
    assert_int_equal(yk_registry_publish(*state, "s", arena, 100, NULL, NULL), 0);
    assert_int_equal(yk_registry_doom(*state, arena, &gone), 0);
    assert_ptr_equal(gone, r);
    assert_int_equal(yk_registry_doom(*state, arena, &gone), -YK_EBUSY);
    assert_null(yk_registry_find(*state, arena, 10)); /* no new references */
    assert_null(yk_registry_get(*state, id));
    struct yk_published p;
    assert_int_equal(yk_registry_segment(*state, "s", &p), -YK_ENOENT); /* its name is free */
    assert_int_equal(yk_registry_remove(*state, gone), 0);
    assert_int_equal(add(*state, 0, 100), -YK_EINVAL); /* it is not free yet */
    yk_registry_put(*state, r);
    assert_int_equal(yk_registry_remove(*state, gone), 1);
    assert_int_equal(add(*state, 0, 100), 0);
}

static void locations_are_checked(void **state) {
    static const struct {
        const char *text;
        int rc;
    } cases[] = {{"cpu:0", 0},          {"cxl:12", 0},          {"", 0},
                 {"cuda:0", -YK_ENOTSUP}, {"banana", -YK_EINVAL}, {"cpu:", -YK_EINVAL},
                 {"cpu:x", -YK_EINVAL}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        yk_xfer_memory m = range(i * 100, 10);
        m.location = cases[i].text;
        assert_int_equal(yk_registry_add(*state, &m, 1, NULL), cases[i].rc);
    }
}

static int pin(void *user, uint32_t op, uint64_t d, uint64_t g, uint64_t e, uint64_t o, uint64_t l,
               uint64_t *ret) {
    *ret = 1;
    return 0;
}
static void unpin(void *user, uint64_t p) {
    (void)p;
}

static void names_are_checked_and_taken_once(void **state) {
    struct yk_err err = {0};
    struct yk_published p;
    char name[YK_XFER_NAME_MAX + 2];
    memset(name, 'n', sizeof(name));
    name[YK_XFER_NAME_MAX + 1] = '\0';
    add(*state, 0, 1000);
    assert_int_equal(yk_registry_publish(*state, name, arena, 10, NULL, &err), -YK_EINVAL);
    name[YK_XFER_NAME_MAX] = '\0';
    assert_int_equal(yk_registry_publish(*state, name, arena, 10, NULL, &err), 0);
    assert_int_equal(yk_registry_publish(*state, "", arena, 10, NULL, &err), -YK_EINVAL);
    assert_int_equal(yk_registry_publish(*state, NULL, arena, 10, NULL, &err), -YK_EINVAL);
    assert_int_equal(yk_registry_publish(*state, "a/b", arena, 10, NULL, &err), -YK_EINVAL);
    assert_int_equal(yk_registry_publish(*state, "a", arena + 500, 501, NULL, &err), -YK_EINVAL);
    assert_non_null(strstr(err.text, "not in registered memory"));
    assert_int_equal(yk_registry_publish(*state, "a", arena + 500, 0, NULL, &err), -YK_EINVAL);
    assert_int_equal(yk_registry_publish(*state, "a", arena + 500, 500, NULL, &err), 0);
    assert_int_equal(yk_registry_publish(*state, "a", arena, 10, NULL, &err), -YK_ECONFLICT);
    assert_int_equal(yk_registry_segment(*state, "a", &p), 0);
    assert_int_equal(p.offset, 500);
    assert_int_equal(p.len, 500);
    assert_int_equal(p.access, YK_XFER_REMOTE_READ);
    assert_int_equal(yk_registry_withdraw(*state, "a"), 0);
    assert_int_equal(yk_registry_withdraw(*state, "a"), -YK_ENOENT);
    assert_int_equal(yk_registry_segment(*state, "a", &p), -YK_ENOENT);
}

static void a_guard_is_found_for_what_lies_in_its_segment(void **state) {
    yk_xfer_guard_ops guard = {.size = sizeof(guard), .user = state, .pin = pin, .unpin = unpin}, got;
    struct yk_published p;
    uint64_t offset;
    add(*state, 0, 1000);
    yk_registry_publish(*state, "plain", arena, 1000, NULL, NULL);
    yk_registry_publish(*state, "guarded", arena + 100, 200, &guard, NULL);
    yk_registry_segment(*state, "guarded", &p);
    assert_int_equal(yk_registry_guard(*state, p.region, 100, 200, &got, &offset), 0);
    assert_int_equal(offset, 0);
    assert_ptr_equal(got.user, state);
    assert_int_equal(yk_registry_guard(*state, p.region, 299, 1, &got, &offset), 0);
    assert_int_equal(offset, 199);
    assert_int_equal(yk_registry_guard(*state, p.region, 99, 2, &got, &offset), -YK_ENOENT);
    assert_int_equal(yk_registry_guard(*state, p.region, 299, 2, &got, &offset), -YK_ENOENT);
    assert_int_equal(yk_registry_guard(*state, p.region, 100, UINT64_MAX, &got, &offset), -YK_ENOENT);
    assert_int_equal(yk_registry_guard(*state, p.region + 1, 100, 1, &got, &offset), -YK_ENOENT);
}

static void a_file_has_a_number_and_no_address(void **state) {
    int fd = memfd_create("file", MFD_CLOEXEC);
    uint64_t id;
    struct yk_published p;
    struct yk_region *r;
    assert_int_equal(yk_registry_add_file(*state, fd, 4096, YK_XFER_REMOTE_READ, &id), 0);
    assert_int_equal(yk_registry_publish_file(*state, "f", id, 4096, YK_XFER_REMOTE_READ, NULL), 0);
    assert_int_equal(yk_registry_segment(*state, "f", &p), 0);
    assert_int_equal(p.region, id);
    r = yk_registry_get(*state, id);
    assert_int_equal(r->file, 1);
    assert_int_equal(r->fd, fd);
    yk_registry_put(*state, r);
    assert_int_equal(yk_registry_doom_id(*state, id, &r), 0);
    assert_int_equal(yk_registry_doom_id(*state, id, &r), -YK_ENOENT);
    assert_int_equal(yk_registry_remove(*state, r), 1);
    assert_int_equal(close(fd), -1); /* it was taken */
}

/* ---- threads -------------------------------------------------------------------------------------- */

struct hammer {
    struct yk_registry *g;
    int stop; /* atomic */
};

static void *hammer_main(void *arg) {
    struct hammer *h = arg;
    while (!__atomic_load_n(&h->stop, __ATOMIC_RELAXED)) {
        struct yk_region *r = yk_registry_find(h->g, arena + 5000, 10);
        if (r == NULL)
            continue;
        assert_int_equal(r->len, 100); /* freed memory would not say so for long (sanitizers) */
        yk_registry_put(h->g, r);
    }
    return NULL;
}

static void who_finds_it_may_use_it_while_others_remove_it(void **state) {
    struct hammer h = {.g = *state};
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, hammer_main, &h), 0);
    for (int i = 0; i < 3000; i++) {
        struct yk_region *gone;
        assert_int_equal(add(*state, 4990, 100), 0);
        assert_int_equal(yk_registry_doom(*state, arena + 4990, &gone), 0);
        while (!yk_registry_remove(*state, gone))
            sched_yield();
    }
    __atomic_store_n(&h.stop, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, open_registry, close_registry)
        TEST(overlaps_are_refused_neighbours_are_not),
        TEST(nonsense_is_refused_with_its_number),
        TEST(a_range_is_found_when_it_lies_in_one_region_whole),
        TEST(what_is_registered_in_part_is_told),
        TEST(ten_thousand_are_all_found),
        TEST(numbers_never_repeat_and_old_ones_find_nothing),
        TEST(what_is_held_stays_until_it_is_put),
        TEST(locations_are_checked),
        TEST(names_are_checked_and_taken_once),
        TEST(a_guard_is_found_for_what_lies_in_its_segment),
        TEST(a_file_has_a_number_and_no_address),
        TEST(who_finds_it_may_use_it_while_others_remove_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
