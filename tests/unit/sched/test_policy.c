/* SPDX-License-Identifier: Apache-2.0
 *
 * The conformance suite: what every policy of the list promises, whatever its order is.
 */
#include "testing.h"

#define IDS 512

static void for_each_policy(void (*check)(const char *name)) {
    for (const struct yk_policy_ops *const *ops = yk_policy_list(); *ops != NULL; ops++)
        check((*ops)->name);
}

#define CONFORMS(check)                                                                            \
    static void check(void **state) {                                                              \
        (void)state;                                                                               \
        for_each_policy(check##_of);                                                               \
    }

static void list_and_find(void **state) {
    (void)state;
    const struct yk_policy_ops *const *ops = yk_policy_list();
    size_t n = 0;
    for (; ops[n] != NULL; n++) {
        assert_ptr_equal(yk_policy_find(ops[n]->name), ops[n]);
        assert_true(strlen(ops[n]->help) > 0);
    }
    assert_int_equal(n, 5);
    assert_null(yk_policy_find("random"));
    assert_null(yk_policy_find(""));
}

static void spaces_have_limits(void **state) {
    (void)state;
    struct yk_policy_space *space = NULL;
    assert_int_equal(yk_policy_space_new(0, &space), -YK_EINVAL);
    assert_int_equal(yk_policy_space_new(YK_POLICY_IDS_MAX + 1, &space), -YK_EINVAL);
    assert_null(space);
    space = make_space(YK_POLICY_IDS_MAX); /* a gigabyte of address space, none of memory */
    struct yk_policy *p = make_policy("lru", space, 10);
    assert_int_equal(insert_block(p, YK_POLICY_IDS_MAX - 1, YK_POLICY_NONE), 0);
    assert_int_equal(next_victim(p, take_all, NULL), YK_POLICY_IDS_MAX - 1);
    yk_policy_free(p);
    yk_policy_space_free(space);
    yk_policy_space_free(NULL);
    yk_policy_free(NULL);
}

static void bad_calls_are_refused_of(const char *name) {
    struct yk_policy_space *space = make_space(IDS);
    struct yk_policy *p = make_policy(name, space, IDS), *other = make_policy(name, space, IDS);
    uint32_t id = 77;
    uint64_t stamp;
    assert_int_equal(yk_policy_victim(p, take_all, NULL, &id), YK_MISS);
    assert_int_equal(yk_policy_peek(p, &stamp), YK_MISS);
    assert_int_equal(id, 77);
    assert_int_equal(insert_block(p, IDS, YK_POLICY_NONE), -YK_EINVAL);
    assert_int_equal(insert_block(p, 1, IDS), -YK_EINVAL);
    assert_int_equal(insert_block(p, 1, 1), -YK_EINVAL);
    assert_int_equal(insert_block(p, 1, YK_POLICY_NONE), 0);
    assert_int_equal(insert_block(p, 1, YK_POLICY_NONE), -YK_EBUSY);
    assert_int_equal(insert_block(other, 1, YK_POLICY_NONE), -YK_EBUSY);
    assert_int_equal(yk_policy_access(other, 1), YK_MISS);
    assert_int_equal(yk_policy_remove(other, 1), YK_MISS);
    assert_int_equal(evict_block(other, 1), YK_MISS);
    assert_int_equal(yk_policy_access(p, 2), YK_MISS);
    assert_int_equal(yk_policy_access(p, IDS), YK_MISS);
    assert_int_equal(yk_policy_remove(p, 2), YK_MISS);
    assert_int_equal(evict_block(p, YK_POLICY_NONE), YK_MISS);
    assert_int_equal(yk_policy_count(p), 1);
    yk_policy_free(p);
    yk_policy_free(other);
    yk_policy_space_free(space);
}
CONFORMS(bad_calls_are_refused)

static void all_leave_once_of(const char *name) {
    struct yk_policy_space *space = make_space(IDS);
    struct yk_policy *p = make_policy(name, space, IDS);
    bool left[IDS] = {false};
    for (uint32_t id = 0; id < IDS; id++)
        insert_block(p, id, id % 16 != 0 ? id - 1 : YK_POLICY_NONE);
    for (uint32_t i = 0; i < 3 * IDS; i++)
        yk_policy_access(p, (i * i) % IDS);
    for (uint32_t i = 0; i < IDS; i++) {
        uint32_t id = next_victim(p, take_all, NULL);
        assert_in_range(id, 0, IDS - 1);
        assert_false(left[id]);
        left[id] = true;
        assert_int_equal(next_victim(p, take_all, NULL), id); /* until it is evicted */
        assert_int_equal(evict_block(p, id), 0);
    }
    assert_int_equal(yk_policy_count(p), 0);
    assert_int_equal(next_victim(p, take_all, NULL), YK_POLICY_NONE);
    yk_policy_free(p);
    yk_policy_space_free(space);
}
CONFORMS(all_leave_once)

static void pinned_blocks_cost_bounded_work_of(const char *name) {
    struct yk_policy_space *space = make_space(PINS_IDS);
    struct yk_policy *p = make_policy(name, space, PINS_IDS);
    static struct pins pins;
    uint32_t id;
    memset(&pins, 0, sizeof(pins));
    for (uint32_t i = 0; i < PINS_IDS; i++) {
        insert_block(p, i, YK_POLICY_NONE);
        pins.pinned[i] = true;
    }
    assert_int_equal(yk_policy_victim(p, unless_pinned, &pins, &id), -YK_EAGAIN);
    assert_in_range(pins.asked, 1, YK_POLICY_STEPS_MAX);
    assert_int_equal(yk_policy_count(p), PINS_IDS);
    /* All but the youngest are pinned: found in the end, and then not far from the front. */
    pins.pinned[PINS_IDS - 1] = false;
    assert_int_equal(next_victim(p, unless_pinned, &pins), PINS_IDS - 1);
    evict_block(p, PINS_IDS - 1);
    memset(pins.pinned, 0, sizeof(pins.pinned));
    pins.asked = 0;
    assert_int_not_equal(next_victim(p, unless_pinned, &pins), YK_POLICY_NONE);
    assert_int_equal(pins.asked, 1);
    yk_policy_free(p);
    yk_policy_space_free(space);
}
CONFORMS(pinned_blocks_cost_bounded_work)

/* One block is pinned for good at the old end; each later victim must not meet it again. */
static void a_skipped_block_is_rotated_past_of(const char *name) {
    struct yk_policy_space *space = make_space(IDS);
    struct yk_policy *p = make_policy(name, space, IDS);
    static struct pins pins;
    memset(&pins, 0, sizeof(pins));
    for (uint32_t id = 0; id < IDS; id++)
        insert_block(p, id, YK_POLICY_NONE);
    uint32_t first = next_victim(p, take_all, NULL);
    pins.pinned[first] = true;
    for (uint32_t i = 0; i < IDS / 2; i++)
        evict_block(p, next_victim(p, unless_pinned, &pins));
    assert_int_equal(pins.asked, IDS / 2 + 1);
    yk_policy_free(p);
    yk_policy_space_free(space);
}
CONFORMS(a_skipped_block_is_rotated_past)

static void few_pinned_blocks_end_the_search_of(const char *name) {
    struct yk_policy_space *space = make_space(IDS);
    struct yk_policy *p = make_policy(name, space, IDS);
    static struct pins pins;
    uint32_t id;
    memset(&pins, 0, sizeof(pins));
    for (uint32_t i = 0; i < 3; i++) {
        insert_block(p, i, YK_POLICY_NONE);
        pins.pinned[i] = true;
    }
    assert_int_equal(yk_policy_victim(p, unless_pinned, &pins, &id), -YK_EAGAIN);
    assert_int_equal(pins.asked, 3);
    yk_policy_free(p);
    yk_policy_space_free(space);
}
CONFORMS(few_pinned_blocks_end_the_search)

struct table {
    bool in[IDS];
    uint32_t parent[IDS], n;
};

static bool has_child(const struct table *t, uint32_t id) {
    for (uint32_t c = 0; c < IDS; c++)
        if (t->in[c] && t->parent[c] == id)
            return true;
    return false;
}

static void random_step(struct yk_policy *p, struct table *t, uint64_t *rng) {
    uint32_t id = random_below(rng, IDS), what = random_below(rng, 100);
    if (!t->in[id] && what < 70) {
        uint32_t parent = random_below(rng, IDS);
        t->parent[id] = parent != id && t->in[parent] ? parent : YK_POLICY_NONE;
        assert_int_equal(insert_block(p, id, t->parent[id]), 0);
        t->in[id] = true;
        t->n++;
    } else if (t->in[id] && what < 60) {
        assert_int_equal(yk_policy_access(p, id), 0);
    } else if (t->in[id] && what < 65 && !has_child(t, id)) {
        assert_int_equal(yk_policy_remove(p, id), 0);
        t->in[id] = false;
        t->n--;
    } else if (t->n > 0 && what >= 65) {
        uint32_t victim = next_victim(p, take_all, NULL);
        assert_true(t->in[victim]);
        if (p->ops->caps & YK_POLICY_CAP_CHAIN)
            assert_false(has_child(t, victim));
        evict_block(p, victim);
        t->in[victim] = false;
        t->n--;
    }
}

static void random_streams_keep_count_of(const char *name) {
    struct yk_policy_space *space = make_space(IDS);
    struct yk_policy *p = make_policy(name, space, IDS / 2);
    static struct table t;
    uint64_t rng = 99, stamp;
    memset(&t, 0, sizeof(t));
    for (int i = 0; i < 30000; i++) {
        random_step(p, &t, &rng);
        assert_int_equal(yk_policy_count(p), t.n);
        assert_int_equal(yk_policy_peek(p, &stamp), t.n > 0 ? 0 : YK_MISS);
    }
    yk_policy_free(p);
    yk_policy_space_free(space);
}
CONFORMS(random_streams_keep_count)

/* Parents may be removed under their children and ids used again for anything: everything still
 * leaves in the end. */
static void orphans_block_nobody_of(const char *name) {
    struct yk_policy_space *space = make_space(IDS);
    struct yk_policy *p = make_policy(name, space, IDS);
    uint64_t rng = 3;
    for (int i = 0; i < 30000; i++) {
        uint32_t id = random_below(&rng, IDS), parent = random_below(&rng, IDS);
        if (yk_policy_remove(p, id) == YK_MISS && parent != id)
            insert_block(p, id, parent);
    }
    for (uint32_t left = yk_policy_count(p); left > 0; left--)
        assert_int_equal(evict_block(p, next_victim(p, take_all, NULL)), 0);
    assert_int_equal(yk_policy_count(p), 0);
    yk_policy_free(p);
    yk_policy_space_free(space);
}
CONFORMS(orphans_block_nobody)

static uint64_t digest_of_victims(const char *name) {
    struct yk_policy_space *space = make_space(IDS);
    struct yk_policy *p = make_policy(name, space, 100);
    uint64_t rng = 11, digest = 0;
    for (int i = 0; i < 20000; i++) {
        uint32_t id = random_below(&rng, IDS);
        if (yk_policy_access(p, id) == 0)
            continue;
        if (yk_policy_count(p) == 100) {
            uint32_t victim = next_victim(p, take_all, NULL);
            evict_block(p, victim);
            digest = digest * 1000003 + victim;
        }
        insert_block(p, id, YK_POLICY_NONE);
    }
    yk_policy_free(p);
    yk_policy_space_free(space);
    return digest;
}

static void same_calls_same_victims_of(const char *name) {
    assert_true(digest_of_victims(name) == digest_of_victims(name));
}
CONFORMS(same_calls_same_victims)

static void instances_do_not_meet_of(const char *name) {
    struct yk_policy_space *space = make_space(IDS);
    struct yk_policy *p[2] = {make_policy(name, space, IDS), make_policy(name, space, IDS)};
    for (uint32_t id = 0; id < IDS; id++)
        insert_block(p[id % 2], id, id >= 2 && id % 8 >= 2 ? id - 2 : YK_POLICY_NONE);
    for (uint32_t i = 0; i < IDS / 2; i++) {
        uint32_t id = next_victim(p[0], take_all, NULL);
        assert_int_equal(id % 2, 0);
        evict_block(p[0], id);
    }
    assert_int_equal(yk_policy_count(p[0]), 0);
    assert_int_equal(yk_policy_count(p[1]), IDS / 2);
    yk_policy_free(p[0]);
    yk_policy_free(p[1]);
    yk_policy_space_free(space);
}
CONFORMS(instances_do_not_meet)

static void instances_are_limited_of(const char *name) {
    struct yk_policy_space *space = make_space(IDS);
    struct yk_policy *p[YK_POLICY_INSTANCES_MAX], *one_more = NULL;
    struct yk_policy_opts opts = {.capacity_objects = 10, .seed = 1};
    const struct yk_policy_ops *ops = yk_policy_find(name);
    for (uint32_t i = 0; i < YK_POLICY_INSTANCES_MAX; i++)
        p[i] = make_policy(name, space, 10);
    assert_int_equal(yk_policy_new(ops, space, &opts, &one_more), -YK_ELIMIT);
    assert_null(one_more);
    insert_block(p[7], 1, YK_POLICY_NONE);
    yk_policy_free(p[7]); /* with an id inside: its place is not given again */
    assert_int_equal(yk_policy_new(ops, space, &opts, &p[7]), -YK_ELIMIT);
    yk_policy_free(p[8]);
    assert_int_equal(yk_policy_new(ops, space, &opts, &p[8]), 0);
    assert_int_equal(insert_block(p[8], 1, YK_POLICY_NONE), -YK_EBUSY);
    for (uint32_t i = 0; i < YK_POLICY_INSTANCES_MAX; i++)
        if (i != 7)
            yk_policy_free(p[i]);
    yk_policy_space_free(space);
}
CONFORMS(instances_are_limited)

/* What a crash or a stray write leaves may send any id to any instance, with any parent. */
static void wrong_instances_hurt_nobody_of(const char *name) {
    struct yk_policy_space *space = make_space(IDS);
    struct yk_policy *p[3];
    uint64_t rng = 41;
    for (int i = 0; i < 3; i++)
        p[i] = make_policy(name, space, IDS);
    for (int i = 0; i < 30000; i++) {
        uint32_t id = random_below(&rng, IDS), parent = random_below(&rng, IDS);
        struct yk_policy *any = p[random_below(&rng, 3)];
        switch (random_below(&rng, 4)) {
        case 0:
            insert_block(any, id, parent);
            break;
        case 1:
            yk_policy_access(any, id);
            break;
        case 2:
            yk_policy_remove(any, id);
            break;
        default:
            evict_block(any, next_victim(any, take_all, NULL));
        }
    }
    for (int i = 0; i < 3; i++) {
        for (uint32_t left = yk_policy_count(p[i]); left > 0; left--)
            assert_int_equal(evict_block(p[i], next_victim(p[i], take_all, NULL)), 0);
        assert_int_equal(yk_policy_count(p[i]), 0);
        yk_policy_free(p[i]);
    }
    yk_policy_space_free(space);
}
CONFORMS(wrong_instances_hurt_nobody)

/* What yields goes first, until it is accessed. With children it waits for them, and goes first when it may. */
static void what_yields_goes_first_of(const char *name) {
    struct yk_policy_space *space = make_space(IDS);
    struct yk_policy *p = make_policy(name, space, IDS);
    bool parents = yk_policy_find(name)->caps & YK_POLICY_CAP_PARENTS;
    assert_int_equal(yk_policy_yield(p, 5), YK_MISS);
    assert_int_equal(yk_policy_yield(p, IDS), YK_MISS);
    for (uint32_t id = 0; id < 50; id++)
        assert_int_equal(insert_block(p, id, id == 31 ? 30 : YK_POLICY_NONE), 0);
    assert_int_equal(yk_policy_yield(p, 40), 0);
    assert_int_equal(next_victim(p, take_all, NULL), 40);
    assert_int_equal(yk_policy_yield(p, 45), 0);
    assert_int_equal(yk_policy_access(p, 45), 0);
    assert_int_equal(next_victim(p, take_all, NULL), 40);
    assert_int_equal(evict_block(p, 40), 0);
    assert_int_not_equal(next_victim(p, take_all, NULL), 45);
    assert_int_equal(yk_policy_yield(p, 30), 0);
    assert_int_equal(next_victim(p, take_all, NULL) == 30, !parents);
    assert_int_equal(yk_policy_remove(p, 31), 0);
    assert_int_equal(next_victim(p, take_all, NULL), 30);
    assert_int_equal(yk_policy_count(p), 48);
    yk_policy_free(p);
    yk_policy_space_free(space);
}
CONFORMS(what_yields_goes_first)

/* A child of what yields is no tail that nobody reaches: it does not go with it. */
static void children_of_what_yields_stay_of(const char *name) {
    struct yk_policy_space *space = make_space(IDS);
    struct yk_policy *p = make_policy(name, space, IDS);
    for (uint32_t id = 0; id < 50; id++)
        assert_int_equal(insert_block(p, id, YK_POLICY_NONE), 0);
    assert_int_equal(yk_policy_yield(p, 30), 0);
    struct yk_policy_block child = {
        .key_hash = 7, .size_bytes = 1, .parent_id = 30, .parent_yields = true};
    assert_int_equal(yk_policy_insert(p, 60, &child), 0);
    assert_int_not_equal(next_victim(p, take_all, NULL), 60);
    yk_policy_free(p);
    yk_policy_space_free(space);
}
CONFORMS(children_of_what_yields_stay)

/* A block that is used for the first time since it went down need not rise; one that was used may. */
static void what_was_used_rises_of(const char *name) {
    struct yk_policy_space *space = make_space(IDS);
    struct yk_policy *p = make_policy(name, space, IDS);
    bool lru = yk_policy_find(name)->caps & YK_POLICY_CAP_EXACT_LRU;
    assert_true(yk_policy_rises(p, 12345, true));
    assert_int_equal(yk_policy_rises(p, 12345, false), lru);
    yk_policy_free(p);
    yk_policy_space_free(space);
}
CONFORMS(what_was_used_rises)

static void admissions(void **state) {
    (void)state;
    const struct yk_policy_admit *all = yk_policy_admit_list(), *used = all + 1;
    struct yk_policy_leaving once = {.used = false}, twice = {.used = true};
    assert_string_equal(all->name, "all");
    assert_string_equal(used->name, "used");
    assert_null(used[1].name);
    assert_true(all->admits(&once) && all->admits(&twice));
    assert_true(!used->admits(&once) && used->admits(&twice));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(list_and_find),
        cmocka_unit_test(spaces_have_limits),
        cmocka_unit_test(bad_calls_are_refused),
        cmocka_unit_test(all_leave_once),
        cmocka_unit_test(pinned_blocks_cost_bounded_work),
        cmocka_unit_test(a_skipped_block_is_rotated_past),
        cmocka_unit_test(few_pinned_blocks_end_the_search),
        cmocka_unit_test(random_streams_keep_count),
        cmocka_unit_test(orphans_block_nobody),
        cmocka_unit_test(same_calls_same_victims),
        cmocka_unit_test(instances_do_not_meet),
        cmocka_unit_test(instances_are_limited),
        cmocka_unit_test(wrong_instances_hurt_nobody),
        cmocka_unit_test(what_yields_goes_first),
        cmocka_unit_test(children_of_what_yields_stay),
        cmocka_unit_test(what_was_used_rises),
        cmocka_unit_test(admissions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
