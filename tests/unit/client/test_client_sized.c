/* SPDX-License-Identifier: Apache-2.0
 *
 * Programs and libraries of different versions: structs that may grow are shorter or longer for the caller than here. What
 * is filled has as much as both know, the rest of the caller's is 0, and nothing behind it is touched. What is passed
 * may be short; what is longer may say nothing there that is not known here.
 */
#include "fixture.h"

#include <stdio.h>
#include <yolk/route.h>
#include <yolk/transfer.h>

#define ROOM  1024u
#define CANARY 0xa5
#define MORE  24u /* that a later version has behind what is known */

typedef void (*fill_fn)(void *arg, void *to, size_t size);

/* n structs in a row, of a size that is asked for, against the same of the size that is known. */
static void fills_as_asked(fill_fn fn, void *arg, size_t n, size_t known, size_t size) {
    unsigned char whole[ROOM], part[ROOM];
    size_t both = size < known ? size : known;
    memset(part, CANARY, sizeof(part));
    memset(whole, 0, sizeof(whole));
    assert_true(n * size + 16 <= ROOM && n * known <= ROOM);
    fn(arg, whole, known);
    fn(arg, part, size);
    for (size_t i = 0; i < n; i++) {
        assert_memory_equal(part + i * size, whole + i * known, both);
        for (size_t at = both; at < size; at++)
            assert_int_equal(part[i * size + at], 0);
    }
    for (size_t at = n * size; at < ROOM; at++)
        assert_int_equal(part[at], CANARY);
}

static void fills(fill_fn fn, void *arg, size_t n, size_t known, size_t less) {
    fills_as_asked(fn, arg, n, known, less);
    fills_as_asked(fn, arg, n, known, known);
    fills_as_asked(fn, arg, n, known, known + MORE);
}

/* ---- blocks ----------------------------------------------------------------------------------------- */

static const char *const names[] = {"one", "two"};

static void by_stat(void *c, void *to, size_t size) {
    assert_status(yk_stat_sized(c, yk_key_str("two"), to, size), 0);
}

static void by_match(void *c, void *to, size_t size) {
    yk_key keys[] = {yk_key_str(names[0]), yk_key_str(names[1]), yk_key_str("three")};
    assert_int_equal(yk_match_sized(c, keys, 3, to, size), 2);
}

static void by_stat_op(void *c, void *to, size_t size) {
    yk_op op = {.opcode = YK_OP_STAT, .key = yk_key_str("two"), .info = to, .arg = size};
    assert_int_equal(yk_run(c, &op, 1, 0), 1);
}

static void by_match_op(void *c, void *to, size_t size) {
    yk_key keys[] = {yk_key_str(names[0]), yk_key_str(names[1]), yk_key_str("three")};
    yk_key_list list = {.size = sizeof(list), .keys = keys, .count = 3, .infos = to, .info_size = (uint32_t)size};
    yk_op op = {.opcode = YK_OP_MATCH, .list = &list};
    assert_int_equal(yk_run(c, &op, 1, 0), 1);
    assert_int_equal(op.len, 2);
}

struct listed {
    void *to;
    size_t size;
};

static int is_listed(void *arg, yk_key key, const yk_block_info *info) {
    const struct listed *l = arg;
    assert_int_equal(key.len, 3);
    memcpy(l->to, info, l->size); /* all that was asked for can be read */
    return 0;
}

static void by_list(void *c, void *to, size_t size) {
    struct listed l = {to, size};
    assert_status(yk_list_sized(c, yk_key_str("two"), is_listed, &l, size), 0);
}

/* Who does not say how long it is has the first version of it. */
static void by_first_op(void *c, void *to, size_t size) {
    yk_key keys[] = {yk_key_str(names[0])};
    struct {
        uint32_t size;
        int32_t tier;
        const yk_key *keys;
        size_t count;
        void *infos;
    } first = {.size = sizeof(first), .keys = keys, .count = 1, .infos = to};
    yk_op op = {.opcode = YK_OP_MATCH, .list = (const yk_key_list *)(const void *)&first};
    (void)size;
    assert_int_equal(yk_run(c, &op, 1, 0), 1);
    memset(to, CANARY, YK_BLOCK_INFO_FIRST);
    op = (yk_op){.opcode = YK_OP_STAT, .key = keys[0], .info = to};
    assert_int_equal(yk_run(c, &op, 1, 0), 1);
}

static void infos_of_blocks(void **state) {
    static const uint32_t ways[] = {0, YK_OPEN_NO_MAP};
    for (unsigned i = 0; i < 2; i++) {
        yk_client *c = open_with(*state, ways[i], 0);
        put_ok(c, names[0], 5000, 1);
        put_ok(c, names[1], 6000, 2);
        fills(by_stat, c, 1, sizeof(yk_block_info), 16);
        fills(by_match, c, 2, sizeof(yk_block_info), 16);
        fills(by_stat_op, c, 1, sizeof(yk_block_info), 16);
        fills(by_match_op, c, 2, sizeof(yk_block_info), 16);
        fills(by_list, c, 1, sizeof(yk_block_info), 16);
        fills_as_asked(by_first_op, c, 1, YK_BLOCK_INFO_FIRST, YK_BLOCK_INFO_FIRST);
        yk_close(c);
    }
}

/* ---- namespaces, counters ---------------------------------------------------------------------------- */

static void by_ns_list(void *c, void *to, size_t size) {
    assert_int_equal(yk_ns_list_sized(c, to, 2, size), 2);
}

static void by_stats(void *c, void *to, size_t size) {
    assert_status(yk_client_stats_get(c, to, size), 0);
}

static void other_infos(void **state) {
    yk_client *c = open_client(*state);
    assert_status(yk_ns_create(c, "team", 12345), 0);
    fills(by_ns_list, c, 2, sizeof(yk_ns_info), 64 + 4 * 8); /* up to blocks: the first version */
    fills(by_stats, c, 1, sizeof(yk_client_stats), 16);
    yk_close(c);
}

/* ---- the router -------------------------------------------------------------------------------------- */

static void by_ask(void *r, void *to, size_t size) {
    yk_route_request q = {.size = sizeof(q), .tokens = 5000};
    yk_route_answer a;
    assert_int_equal(yk_route_ask_sized(r, &q, to, 2, size, &a, sizeof(a)), 0);
    assert_int_equal(a.ranked, 2);
}

static void by_answer(void *r, void *to, size_t size) {
    yk_route_request q = {.size = sizeof(q), .tokens = 5000};
    yk_route_choice c[2];
    assert_int_equal(yk_route_ask_sized(r, &q, c, 2, sizeof(c[0]), to, size), 0);
}

static void by_figures(void *r, void *to, size_t size) {
    yk_route_figures *f = to;
    f->size = (uint32_t)size;
    assert_int_equal(yk_route_figures_get(r, 1000, f), 0);
    f->size = 0; /* the caller's own: not to be compared */
}

/* Without a queue, which would be shorter the next time it is asked for. */
static void loads(yk_routes *r, const char *name, double tokens_per_s) {
    yk_route_load_report p = {.size = sizeof(p), .name = name, .tokens_per_s = tokens_per_s};
    assert_int_equal(yk_route_load(r, &p), 0);
}

static void answers_of_the_router(void **state) {
    yk_routes *r;
    yk_route_opts o = {.size = sizeof(o), .silent_ms = 3600000};
    (void)state;
    assert_int_equal(yk_route_open(&o, &r), 0);
    loads(r, "a", 20000);
    loads(r, "b", 100);
    fills(by_ask, r, 2, sizeof(yk_route_choice), 64 + 8);
    fills(by_answer, r, 1, sizeof(yk_route_answer), 8);
    fills_as_asked(by_figures, r, 1, sizeof(yk_route_figures), 16);
    fills_as_asked(by_figures, r, 1, sizeof(yk_route_figures), sizeof(yk_route_figures) + MORE);
    yk_route_close(r);
}

/* ---- the transfer engine ------------------------------------------------------------------------------- */

struct opened {
    yk_xfer *engine;
    yk_xfer_segment segment;
};

static void by_segment_stat(void *arg, void *to, size_t size) {
    const struct opened *o = arg;
    assert_int_equal(yk_xfer_segment_stat_sized(o->engine, o->segment, to, size), 0);
}

static void a_segment(void **state) {
    struct opened o;
    void *memory;
    (void)state;
    assert_int_equal(yk_xfer_create(NULL, &o.engine), 0);
    assert_int_equal(yk_xfer_alloc(o.engine, 4096, YK_XFER_REMOTE_READ, &memory), 0);
    assert_int_equal(yk_xfer_publish(o.engine, "segment", memory, 4096, NULL), 0);
    assert_int_equal(yk_xfer_open(o.engine, "segment", 0, &o.segment), 0);
    fills(by_segment_stat, &o, 1, sizeof(yk_xfer_segment_info), 8);
    yk_xfer_destroy(o.engine);
}

/* ---- what is passed ------------------------------------------------------------------------------------- */

/* A struct of a later version: `size` first, behind what is known here MORE bytes, of which the last may be set. */
static void *later(const void *known, size_t bytes, int is_set, unsigned char room[ROOM]) {
    uint32_t size = (uint32_t)(bytes + MORE);
    memset(room, 0, ROOM);
    memcpy(room, known, bytes);
    memcpy(room, &size, sizeof(size));
    room[bytes + MORE - 1] = is_set != 0;
    return room;
}

static void options_are_of_any_version(void **state) {
    struct fixture *f = *state;
    yk_client *c;
    yk_routes *r;
    yk_xfer *e;
    unsigned char room[ROOM] __attribute__((aligned(16)));
    yk_open_opts open = {.size = sizeof(open)};
    yk_put_opts put = {.size = sizeof(put)};
    yk_request request = {.size = sizeof(request)};
    yk_route_opts routes = {.size = sizeof(routes)};
    yk_route_load_report load = {.size = sizeof(load), .name = "a"};
    yk_route_node_report node = {.size = sizeof(node), .name = "n"};
    yk_route_request ask = {.size = sizeof(ask), .tokens = 100};
    yk_route_result result = {.size = sizeof(result)};
    yk_route_choice choice;
    yk_route_answer answer;
    yk_xfer_opts xfer = {.size = sizeof(xfer)};
    yk_xfer_submit_opts submit = {.size = sizeof(submit)};
    yk_xfer_request move = {.op = YK_XFER_READ};
    yk_xfer_batch batch;
    yk_key key = yk_key_str("key");
    assert_status(yk_open(f->url, later(&open, sizeof(open), 1, room), &c), -YK_ENOTSUP);
    assert_status(yk_open(f->url, later(&open, sizeof(open), 0, room), &c), 0);
    assert_status(yk_put(c, key, "x", 1, later(&put, sizeof(put), 1, room)), -YK_ENOTSUP);
    assert_status(yk_put(c, key, "x", 1, later(&put, sizeof(put), 0, room)), 0);
    put.size = offsetof(yk_put_opts, prefer); /* the first version */
    assert_status(yk_put(c, key, "x", 1, &put), 0);
    assert_status(yk_announce(c, &key, 1, later(&request, sizeof(request), 1, room)), -YK_ENOTSUP);
    assert_status(yk_announce(c, &key, 1, later(&request, sizeof(request), 0, room)), 0);
    yk_close(c);
    assert_int_equal(yk_route_open(later(&routes, sizeof(routes), 1, room), &r), -YK_ENOTSUP);
    assert_int_equal(yk_route_open(later(&routes, sizeof(routes), 0, room), &r), 0);
    assert_int_equal(yk_route_load(r, later(&load, sizeof(load), 1, room)), -YK_ENOTSUP);
    assert_int_equal(yk_route_load(r, later(&load, sizeof(load), 0, room)), 0);
    assert_int_equal(yk_route_node(r, later(&node, sizeof(node), 1, room)), -YK_ENOTSUP);
    assert_int_equal(yk_route_node(r, later(&node, sizeof(node), 0, room)), 0);
    node.size = offsetof(yk_route_node_report, dram_bytes);
    assert_int_equal(yk_route_node(r, &node), 0);
    assert_int_equal(yk_route_ask(r, later(&ask, sizeof(ask), 1, room), &choice, 1, &answer), -YK_ENOTSUP);
    assert_int_equal(yk_route_ask(r, later(&ask, sizeof(ask), 0, room), &choice, 1, &answer), 0);
    assert_int_equal(yk_route_outcome(r, 7, later(&result, sizeof(result), 1, room)), -YK_ENOTSUP);
    assert_int_equal(yk_route_outcome(r, 7, later(&result, sizeof(result), 0, room)), YK_MISS);
    yk_route_close(r);
    assert_int_equal(yk_xfer_create(later(&xfer, sizeof(xfer), 1, room), &e), -YK_ENOTSUP);
    assert_int_equal(yk_xfer_create(later(&xfer, sizeof(xfer), 0, room), &e), 0);
    assert_int_equal(yk_xfer_submit(e, &move, 1, later(&submit, sizeof(submit), 1, room), &batch), -YK_ENOTSUP);
    assert_int_not_equal(yk_xfer_submit(e, &move, 1, later(&submit, sizeof(submit), 0, room), &batch), -YK_ENOTSUP);
    yk_xfer_destroy(e);
}

static void assert_op(yk_client *c, yk_op op, int want) {
    (void)yk_run(c, &op, 1, 0);
    assert_int_equal(op.status, want);
}

/* In batches sizes stand in fields that mean other things elsewhere, or that nobody set: what is no struct's size is
 * refused before anything is written; so is a list that says what is not known here. */
static void sizes_in_batches(void **state) {
    yk_client *c = open_client(*state);
    yk_key keys[] = {yk_key_str("one")};
    yk_block_info info[2];
    unsigned char room[ROOM] __attribute__((aligned(16)));
    yk_key_list list = {.size = sizeof(list), .keys = keys, .count = 1, .infos = info, .info_size = sizeof(info[0])};
    put_ok(c, "one", 5000, 1);
    memset(info, CANARY, sizeof(info));
    assert_op(c, (yk_op){.opcode = YK_OP_STAT, .key = keys[0], .info = info, .arg = 1u << 20}, -YK_EINVAL);
    list.info_size = 1u << 20;
    assert_op(c, (yk_op){.opcode = YK_OP_MATCH, .list = &list}, -YK_EINVAL);
    list.info_size = sizeof(info[0]);
    list.reserved = 1;
    assert_op(c, (yk_op){.opcode = YK_OP_MATCH, .list = &list}, -YK_ENOTSUP);
    list.reserved = 0;
    assert_op(c, (yk_op){.opcode = YK_OP_MATCH, .list = later(&list, sizeof(list), 1, room)}, -YK_ENOTSUP);
    list.size = 1u << 20;
    assert_op(c, (yk_op){.opcode = YK_OP_MATCH, .list = &list}, -YK_EINVAL);
    list.size = sizeof(list);
    for (size_t i = 0; i < sizeof(info); i++)
        assert_int_equal(((unsigned char *)info)[i], CANARY);
    assert_op(c, (yk_op){.opcode = YK_OP_STAT, .key = keys[0], .arg = 1u << 20}, 0); /* nothing is to be filled */
    assert_op(c, (yk_op){.opcode = YK_OP_MATCH, .list = later(&list, sizeof(list), 0, room)}, 0);
    yk_close(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(infos_of_blocks, with_node, without_node),
        cmocka_unit_test_setup_teardown(other_infos, with_node, without_node),
        cmocka_unit_test_setup_teardown(sizes_in_batches, with_node, without_node),
        cmocka_unit_test(answers_of_the_router),
        cmocka_unit_test(a_segment),
        cmocka_unit_test_setup_teardown(options_are_of_any_version, with_node, without_node),
    };
    return cmocka_run_group_tests_name("client_sized", tests, NULL, NULL);
}
