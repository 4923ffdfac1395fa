/* SPDX-License-Identifier: Apache-2.0
 *
 * What the policy tests share: cmocka's includes, a seeded stream of numbers, and a `can` that
 * pins ids and counts its calls.
 */
#ifndef YK_TEST_SCHED_TESTING_H
#define YK_TEST_SCHED_TESTING_H

#include "sched/policy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* xorshift64: the state is never 0. */
static inline uint32_t random_below(uint64_t *state, uint32_t n) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (uint32_t)((*state >> 32) * n >> 32);
}

#define PINS_IDS 4096

struct pins {
    bool pinned[PINS_IDS];
    unsigned asked;
};

static inline enum yk_policy_answer unless_pinned(void *arg, uint32_t id) {
    struct pins *pins = (struct pins *)arg;
    pins->asked++;
    return pins->pinned[id] ? YK_POLICY_SKIP : YK_POLICY_TAKE;
}

static inline enum yk_policy_answer take_all(void *arg, uint32_t id) {
    (void)arg;
    (void)id;
    return YK_POLICY_TAKE;
}

static inline struct yk_policy *make_policy(const char *name, struct yk_policy_space *space,
                                            uint32_t capacity) {
    struct yk_policy_opts opts = {.capacity_objects = capacity, .seed = 42};
    const struct yk_policy_ops *ops = yk_policy_find(name);
    struct yk_policy *p;
    assert_non_null(ops);
    assert_int_equal(yk_policy_new(ops, space, &opts, &p), 0);
    return p;
}

static inline struct yk_policy_space *make_space(uint32_t max_ids) {
    struct yk_policy_space *space;
    assert_int_equal(yk_policy_space_new(max_ids, &space), 0);
    return space;
}

/* A block of 1 byte whose key hash is the id's own. */
static inline int insert_block(struct yk_policy *p, uint32_t id, uint32_t parent_id) {
    struct yk_policy_block block = {
        .key_hash = id * UINT64_C(0x2545f4914f6cdd1d), .size_bytes = 1, .parent_id = parent_id};
    return yk_policy_insert(p, id, &block);
}

/* The same of a block that is cut off. */
static inline int insert_cut_off(struct yk_policy *p, uint32_t id, uint32_t parent_id) {
    struct yk_policy_block block = {.key_hash = id * UINT64_C(0x2545f4914f6cdd1d),
                                    .size_bytes = 1,
                                    .parent_id = parent_id,
                                    .cut_off = true};
    return yk_policy_insert(p, id, &block);
}

static inline int evict_block(struct yk_policy *p, uint32_t id) {
    return yk_policy_evict(p, id, id * UINT64_C(0x2545f4914f6cdd1d));
}

/* The next victim, asked for as often as the policy wants to be; YK_POLICY_NONE: nothing is in. */
static inline uint32_t next_victim(struct yk_policy *p, yk_policy_can_fn can, void *arg) {
    uint32_t id = YK_POLICY_NONE;
    int rc;
    do
        rc = yk_policy_victim(p, can, arg, &id);
    while (rc == -YK_EAGAIN);
    assert_true(rc == 0 || rc == YK_MISS);
    return rc == 0 ? id : YK_POLICY_NONE;
}

#endif
