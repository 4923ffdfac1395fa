/* SPDX-License-Identifier: Apache-2.0
 *
 * Handles of a node whose gate is shut (shm/gate.h; docs/decisions/0014, "A node that returns"): all that looks up is a
 * miss, whether it reads the node's memory or asks; nobody is asked for it; and what was put is found again when the
 * gate is open. The pool is played here, and knows of nothing.
 */
#include "fixture.h"

#include "base/clock.h"
#include "node/pool.h"

#include <sched.h>

#define KEY  "kept"
#define LEN  9000u
#define OPEN UINT64_MAX

static uint32_t wants; /* atomic */

static void on_changed(void *arg, const struct yk_pool_block *b) {
    (void)arg;
    (void)b;
}

static int on_want(void *arg, const struct yk_pool_want *w) {
    (void)arg;
    (void)w;
    __atomic_fetch_add(&wants, 1, __ATOMIC_RELAXED);
    return -YK_EAGAIN;
}

static int on_remove(void *arg, const char *ns, uint32_t ns_len, uint64_t epoch, const void *key, uint32_t key_len,
                     uint64_t deadline_ns, uint64_t token) {
    (void)arg;
    return -YK_EAGAIN;
}

static int on_space(void *arg, unsigned what, const char *ns, uint32_t ns_len, uint64_t value, uint64_t deadline_ns,
                    uint64_t token) {
    (void)arg;
    return -YK_EAGAIN;
}

static void in_pool(struct yk_node_opts *o) {
    static const struct yk_pool_ops ops = {
        .changed = on_changed, .want = on_want, .remove = on_remove, .space = on_space, .waits = 1};
    o->pool = &ops;
}

static void namespace_make(void *arg, struct yk_store *store) {
    uint32_t ns;
    assert_int_equal(yk_store_ns_open(store, "default", 7, 1, &ns, NULL), 0);
    __atomic_store_n((int *)arg, 1, __ATOMIC_RELEASE);
}

static int begin(void **state, uint64_t ssd) {
    struct fixture *f = malloc(sizeof(*f));
    int made = 0; /* atomic */
    fixture_init(f, 0);
    f->dram = 64u * MIB;
    f->ssd = ssd;
    f->tune = in_pool;
    fixture_start(f);
    assert_int_equal(yk_node_post(f->node, namespace_make, &made), 0);
    for (uint64_t end = yk_now_ns() + 20 * YK_NS_PER_S; !__atomic_load_n(&made, __ATOMIC_ACQUIRE); sched_yield())
        assert_true(yk_now_ns() < end);
    assert_int_equal(yk_node_pool_begin(f->node), 0);
    *state = f;
    return 0;
}

static int one_tier(void **state) {
    return begin(state, 0);
}

static int two_tiers(void **state) {
    return begin(state, 256u * MIB);
}

/* All ways to look something up, each of them a hit or each a miss. */
static void look(yk_client *c, int hit) {
    static unsigned char buf[3][LEN];
    yk_key key = yk_key_str(KEY);
    struct iovec iov = {buf[0], LEN};
    yk_block_info info;
    yk_ref ref;
    size_t len;
    assert_status(yk_get(c, key, buf[1], LEN, &len), hit ? 0 : YK_MISS);
    assert_true(!hit || (len == LEN && is_filled(buf[1], LEN, 1)));
    assert_status(yk_get_range(c, key, 5, buf[2], 100), hit ? 0 : YK_MISS);
    int rc = yk_ref_get(c, key, &ref);
    assert_status(rc, hit ? 0 : YK_MISS);
    if (rc == 0)
        yk_ref_release(c, &ref);
    assert_int_equal(yk_exists(c, key), hit);
    assert_status(yk_stat(c, key, &info), hit ? 0 : YK_MISS);
    assert_int_equal(yk_match(c, &key, 1, NULL), hit);
    assert_int_equal(yk_match(c, &key, 1, &info), hit);
    yk_op ops[4] = {{.opcode = YK_OP_EXISTS, .key = key},
                    {.opcode = YK_OP_EXISTS, .key = key},
                    {.opcode = YK_OP_GET, .key = key, .iov = &iov, .iov_count = 1},
                    {.opcode = YK_OP_STAT, .key = key, .info = &info}};
    assert_int_equal(yk_run(c, ops, 4, 0), hit ? 4 : 0);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(ops[i].status, hit ? 0 : YK_MISS);
}

static void a_shut_gate_is_a_miss(void **state) {
    struct fixture *f = *state;
    static const uint32_t flags[2] = {0, YK_OPEN_NO_MAP};
    for (unsigned i = 0; i < 2; i++) {
        yk_client *c = open_with(f, flags[i], 20000);
        yk_node_pool_until(f->node, OPEN);
        put_ok(c, KEY, LEN, 1);
        look(c, 1);
        uint32_t before = __atomic_load_n(&wants, __ATOMIC_RELAXED);
        yk_node_pool_until(f->node, 0); /* it has heard that it was expelled */
        look(c, 0);
        yk_node_pool_until(f->node, yk_boot_ns()); /* it has heard nothing for too long */
        look(c, 0);
        assert_int_equal(__atomic_load_n(&wants, __ATOMIC_RELAXED), before);
        yk_node_pool_until(f->node, OPEN);
        look(c, 1);
        yk_close(c);
    }
}

static void a_node_begins_with_its_gate_shut(void **state) {
    struct fixture *f = *state;
    yk_client *c = open_client(f);
    put_ok(c, KEY, LEN, 1); /* what is put meanwhile is kept */
    look(c, 0);
    yk_node_pool_until(f->node, OPEN);
    look(c, 1);
    yk_close(c);
}

/* A reference that was handed out stays what it was. */
static void what_was_handed_out_stays(void **state) {
    struct fixture *f = *state;
    yk_client *c = open_client(f);
    yk_ref ref;
    yk_node_pool_until(f->node, OPEN);
    put_ok(c, KEY, LEN, 1);
    assert_status(yk_ref_get(c, yk_key_str(KEY), &ref), 0);
    yk_node_pool_until(f->node, 0);
    assert_true(is_filled(ref.data, ref.len, 1));
    yk_ref_release(c, &ref);
    yk_close(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_shut_gate_is_a_miss, one_tier, without_node),
        cmocka_unit_test_setup_teardown(a_shut_gate_is_a_miss, two_tiers, without_node),
        cmocka_unit_test_setup_teardown(a_node_begins_with_its_gate_shut, one_tier, without_node),
        cmocka_unit_test_setup_teardown(what_was_handed_out_stays, one_tier, without_node),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
