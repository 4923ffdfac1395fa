/* SPDX-License-Identifier: Apache-2.0
 *
 * A node that drains hands its blocks over (src/dir/drain.c), with whole nodes in one process (service_rig.h): after it
 * has gone others have them; what was used comes before what was not, and nobody is flooded.
 */
#include "service_rig.h"

#include "base/clock.h"
#include "dir/guest.h"
#include "node/pool.h"
#include "wire/dir.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define KIB   1024u
#define ASK   5000u
#define UNTIL (100 * YK_NS_PER_S)

static void begin(uint64_t data_bytes, unsigned nodes) {
    rig.data_bytes = data_bytes;
    rig_open(&rig);
    rig_start_all(&rig, nodes);
}

static void pause_ms(unsigned ms) {
    struct timespec t = {.tv_nsec = ms * 1000000L};
    nanosleep(&t, NULL);
}

static void ask(unsigned op, const void *request, uint32_t request_len) {
    struct yk_guest *guest;
    struct yk_err err = {0};
    const void *body;
    uint32_t len;
    struct yk_rd r;
    assert_int_equal(yk_guest_open(yk_dir_address(rig.n[1].dir), ASK, &guest, &err), 0);
    assert_int_equal(yk_guest_ask(guest, op, request, request_len, ASK, &body, &len, &err), 0);
    yk_rd_init(&r, body, len);
    assert_int_equal(yk_rd_u32(&r), 0);
    yk_guest_close(guest);
}

/* As yolk drain does. */
static void drain(unsigned i, int on) {
    unsigned char request[64];
    char name[8];
    struct yk_wr w;
    snprintf(name, sizeof(name), "n%u", i);
    yk_wr_init(&w, request, sizeof(request));
    yk_wr_str8(&w, name, strlen(name));
    yk_wr_u8(&w, (uint8_t)on);
    ask(YK_DIR_DRAIN, request, (uint32_t)yk_wr_len(&w));
}

static int is_drained(unsigned i) {
    return rig_stats(&rig, i).drained;
}

static void key_of(char key[24], const char *kind, unsigned k) {
    snprintf(key, 24, "%s %u", kind, k);
}

/* Slots that the node owned when it went are made again: till then a miss is allowed (R12). */
static void until_got(unsigned i, const char *key, size_t len) {
    uint64_t end = yk_now_ns() + UNTIL;
    for (; !rig_get(&rig, i, key, len); pause_ms(5))
        assert_true(yk_now_ns() < end);
}

/* Its clients are served meanwhile, and others have all of it when it has gone. */
static void others_have_what_a_drained_node_had(void **state) {
    (void)state;
    enum { N = 120 };
    char key[24];
    uint64_t end = yk_now_ns() + UNTIL;
    begin(32u << 20, 3);
    for (unsigned k = 0; k < N; k++) {
        key_of(key, "d", k);
        rig_put_child(&rig, 0, key, NULL, 1 + k * 300);
    }
    rig_until_published(&rig, 0, N);
    drain(0, 1);
    for (unsigned k = 0; !is_drained(0); k++) {
        assert_true(yk_now_ns() < end);
        key_of(key, "d", k % N);
        assert_int_equal(rig_get(&rig, 0, key, 1 + (k % N) * 300), 1);
        if (k == 5) /* put while it drains: it is handed over, too */
            rig_put(&rig, 0, "late", 5000);
        pause_ms(1);
    }
    for (; rig_stats(&rig, 0).drain_handed < N + 1; pause_ms(5)) /* the late one by the next round */
        assert_true(yk_now_ns() < end);
    assert_int_equal(rig_stats(&rig, 0).drain_kept, 0);
    for (unsigned k = 0; k < N; k++) { /* it answers to the end */
        key_of(key, "d", k);
        assert_int_equal(rig_get(&rig, 0, key, 1 + k * 300), 1);
    }
    rig_stop(&rig, 0);
    rig_until_members(&rig, 1, 2);
    rig_until_members(&rig, 2, 2);
    until_got(1, "late", 5000);
    for (unsigned k = 0; k < N; k++) {
        key_of(key, "d", k);
        until_got(1 + k % 2, key, 1 + k * 300);
    }
}

/* Both nodes that stay have a share, and what they have already does not travel. */
static void what_others_have_is_not_sent(void **state) {
    (void)state;
    enum { N = 40 };
    char key[24];
    uint64_t end = yk_now_ns() + UNTIL;
    begin(32u << 20, 3);
    for (unsigned k = 0; k < N; k++) {
        key_of(key, "both", k);
        rig_put(&rig, 0, key, 4 * KIB);
        rig_until_got(&rig, 1, key, 4 * KIB);
        for (unsigned times = 0; times < 2; times++) /* used again: it is its own now */
            assert_int_equal(yk_touch(rig.n[1].client, yk_key_str(key)), 0);
    }
    rig_until_published(&rig, 0, N);
    rig_until_published(&rig, 1, N);
    uint64_t pulled = rig_stats(&rig, 1).pulled + rig_stats(&rig, 2).pulled;
    drain(0, 1);
    while (!is_drained(0)) {
        assert_true(yk_now_ns() < end);
        pause_ms(5);
    }
    assert_int_equal(rig_stats(&rig, 1).pulled + rig_stats(&rig, 2).pulled, pulled);
    /* Undone: it is one of them again. */
    drain(0, 0);
    for (end = yk_now_ns() + UNTIL; rig_stats(&rig, 0).drained || rig_stats(&rig, 0).core.slots_owned == 0; pause_ms(5))
        assert_true(yk_now_ns() < end);
}

/* The owner's table may name a copy that has just been let go: who drains counts none that its node has not confirmed. */
static void each_copy_that_counts_has_been_confirmed(void **state) {
    (void)state;
    enum { N = 20, LEN = 4 * KIB };
    char key[24];
    uint64_t end = yk_now_ns() + UNTIL, taken[3];
    begin(32u << 20, 3);
    for (unsigned k = 0; k < N; k++) {
        yk_put_opts two = {.size = sizeof(two), .replicas = 2};
        key_of(key, "three", k);
        unsigned char *p = rig_payload(key, LEN);
        assert_int_equal(yk_put(rig.n[0].client, yk_key_str(key), p, LEN, &two), 0);
        free(p);
        for (unsigned i = 1; i < 3; i++) { /* one of them has it already */
            rig_until_got(&rig, i, key, LEN);
            for (unsigned times = 0; times < 2; times++)
                assert_int_equal(yk_touch(rig.n[i].client, yk_key_str(key)), 0);
        }
    }
    for (unsigned i = 0; i < 3; i++) {
        rig_until_published(&rig, i, N);
        taken[i] = rig_stats(&rig, i).taken;
    }
    drain(0, 1);
    for (; !is_drained(0); pause_ms(5))
        assert_true(yk_now_ns() < end);
    assert_true(rig_stats(&rig, 0).drain_handed >= N);
    for (unsigned i = 1; i < 3; i++)
        for (; rig_stats(&rig, i).taken < taken[i] + N; pause_ms(5)) /* figures are as old as a second */
            assert_true(yk_now_ns() < end);
}

/* ---- a holder that refuses ---------------------------------------------------------------------------- */

static const struct yk_store *keeper, *refuser; /* atomic: who kept the last block; who keeps none any more */

int __real_yk_store_pool_keep(struct yk_store *s, uint32_t ns, uint64_t epoch, const void *key, uint32_t key_len,
                              uint32_t copies, uint64_t *ret_gen);
int __wrap_yk_store_pool_keep(struct yk_store *s, uint32_t ns, uint64_t epoch, const void *key, uint32_t key_len,
                              uint32_t copies, uint64_t *ret_gen);

int __wrap_yk_store_pool_keep(struct yk_store *s, uint32_t ns, uint64_t epoch, const void *key, uint32_t key_len,
                              uint32_t copies, uint64_t *ret_gen) {
    __atomic_store_n(&keeper, s, __ATOMIC_RELEASE);
    if (s == __atomic_load_n(&refuser, __ATOMIC_ACQUIRE))
        return -YK_EAGAIN;
    return __real_yk_store_pool_keep(s, ns, epoch, key, key_len, copies, ret_gen);
}

/* From now on node 1 says of no block that it keeps it. */
static void refuse_at_1(void) {
    yk_put_opts there = {.size = sizeof(there), .prefer = "n1"};
    assert_int_equal(yk_put(rig.n[0].client, yk_key_str("mark"), "mark", 4, &there), 0);
    __atomic_store_n(&refuser, __atomic_load_n(&keeper, __ATOMIC_ACQUIRE), __ATOMIC_RELEASE);
}

static int stop_refusing(void **state) {
    __atomic_store_n(&refuser, NULL, __ATOMIC_RELEASE);
    return rig_teardown(state);
}

/* The owners name node 1, which has them, answers, and will not say that it keeps them: they go to node 2. */
static void a_holder_that_refuses_keeps_no_block_from_others(void **state) {
    (void)state;
    enum { N = 20, LEN = 4 * KIB };
    char key[24];
    begin(32u << 20, 3);
    for (unsigned k = 0; k < N; k++) {
        key_of(key, "refused", k);
        rig_put(&rig, 0, key, LEN);
        rig_until_got(&rig, 1, key, LEN);
        for (unsigned times = 0; times < 2; times++) /* used again: it is its own now */
            assert_int_equal(yk_touch(rig.n[1].client, yk_key_str(key)), 0);
    }
    refuse_at_1();
    rig_until_published(&rig, 0, N);
    rig_until_published(&rig, 1, N);
    drain(0, 1);
    for (uint64_t end = yk_now_ns() + UNTIL; !is_drained(0) || rig_stats(&rig, 2).taken < N; pause_ms(5))
        assert_true(yk_now_ns() < end);
}

/* What node 1 holds, as node 0 has heard. */
static uint64_t held_of_1(void) {
    struct yk_guest *guest;
    struct yk_err err = {0};
    const void *body;
    uint32_t len;
    json_t *node;
    size_t i;
    uint64_t held = 0;
    assert_int_equal(yk_guest_open(yk_dir_address(rig.n[0].dir), ASK, &guest, &err), 0);
    assert_int_equal(yk_guest_ask(guest, YK_DIR_INFO, NULL, 0, ASK, &body, &len, &err), 0);
    json_t *info = json_loadb(body, len, 0, NULL);
    assert_non_null(info);
    json_array_foreach(json_object_get(info, "nodes"), i, node) {
        if (strcmp(json_string_value(json_object_get(node, "name")), "n1") == 0)
            held = (uint64_t)json_integer_value(json_object_get(node, "held_bytes"));
    }
    json_decref(info);
    yk_guest_close(guest);
    return held;
}

/* The other node is full: what was used is handed over all the same, what was never used stays. */
static void what_was_used_goes_where_there_is_no_room(void **state) {
    (void)state;
    enum { FULL = 300, HOT = 3, COLD = 4, LEN = 1000 * KIB }; /* more than is kept free */
    char key[24];
    uint64_t end = yk_now_ns() + UNTIL;
    begin(16u << 20, 2);
    for (unsigned k = 0; k < FULL; k++) { /* more than it can hold */
        key_of(key, "full", k);
        rig_put(&rig, 1, key, 64 * KIB);
    }
    for (unsigned k = 0; k < HOT + COLD; k++) {
        key_of(key, k < HOT ? "hot" : "cold", k);
        rig_put(&rig, 0, key, LEN);
    }
    for (unsigned k = 0; k < HOT; k++) {
        key_of(key, "hot", k);
        assert_int_equal(yk_touch(rig.n[0].client, yk_key_str(key)), 0);
    }
    rig_until_published(&rig, 0, HOT + COLD);
    while (held_of_1() + LEN <= (16u << 20) / 16 * 15) {
        if (yk_now_ns() >= end)
            fail_msg("node 1 says that it holds %u bytes", (unsigned)held_of_1());
        pause_ms(20);
    }
    drain(0, 1);
    for (end = yk_now_ns() + UNTIL; !is_drained(0); pause_ms(5))
        assert_true(yk_now_ns() < end);
    assert_true(rig_stats(&rig, 0).drain_kept > 0);
    rig_stop(&rig, 0);
    rig_until_members(&rig, 1, 1);
    for (unsigned k = 0; k < HOT; k++) {
        key_of(key, "hot", k);
        until_got(1, key, LEN);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(others_have_what_a_drained_node_had, rig_teardown),
        cmocka_unit_test_teardown(what_others_have_is_not_sent, rig_teardown),
        cmocka_unit_test_teardown(each_copy_that_counts_has_been_confirmed, rig_teardown),
        cmocka_unit_test_teardown(a_holder_that_refuses_keeps_no_block_from_others, stop_refusing),
        cmocka_unit_test_teardown(what_was_used_goes_where_there_is_no_room, rig_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
