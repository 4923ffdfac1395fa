/* SPDX-License-Identifier: Apache-2.0
 *
 * Bodies of the frames between nodes: what goes in comes out; what is cut anywhere, or counts what is not
 * there, is refused, and never read past its end.
 *
 * Buffers of readers are allocations of exactly their size, so that a sanitizer sees one byte too many.
 */
#include "wire/dir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static unsigned char buf[4096];
static struct yk_wr w;

static void begin(void) {
    yk_wr_init(&w, buf, sizeof(buf));
}

/* A reader of the first `len` bytes that were written. */
static void *reader(struct yk_rd *r, size_t len) {
    void *exact = malloc(len > 0 ? len : 1);
    assert_non_null(exact);
    memcpy(exact, buf, len);
    yk_rd_init(r, exact, len);
    return exact;
}

/* No part of what was written is taken for the whole. */
static void every_cut_fails(void (*read)(struct yk_rd *r)) {
    assert_true(yk_wr_ok(&w));
    for (size_t len = 0; len < yk_wr_len(&w); len++) {
        struct yk_rd r;
        void *exact = reader(&r, len);
        read(&r);
        assert_false(yk_rd_ok(&r));
        free(exact);
    }
}

static const struct yk_dirw_str ns = {"tenant", 6}, key = {"a key", 5};

static void read_found(struct yk_rd *r) {
    struct yk_dirw_found f;
    yk_rd_dir_found(r, &f);
}

static void found_comes_back(void **state) {
    (void)state;
    struct yk_rd r;
    struct yk_dirw_found in = {.status = 0, .group = 7, .epoch = 3, .len = 1ull << 33, .sum = UINT64_MAX, .count = 8};
    struct yk_dirw_found out;
    for (uint32_t i = 0; i < in.count; i++)
        in.copy[i] = (struct yk_dirw_copy){i + 1u, (uint8_t)(i + 2u), 1ull << 40, UINT64_MAX - i};
    begin();
    yk_wr_dir_found(&w, &in);
    assert_int_equal(yk_wr_len(&w), YK_DIR_FOUND_BYTES_MAX);
    void *exact = reader(&r, yk_wr_len(&w));
    yk_rd_dir_found(&r, &out);
    assert_true(yk_rd_ok(&r));
    assert_true(out.status == 0 && out.group == 7 && out.epoch == 3 && out.len == in.len && out.sum == in.sum);
    assert_int_equal(out.count, 8);
    for (uint32_t i = 0; i < 8; i++)
        assert_true(out.copy[i].member == i + 1u && out.copy[i].tiers == i + 2u &&
                    out.copy[i].incarnation == 1ull << 40 && out.copy[i].gen == UINT64_MAX - i);
    free(exact);
    every_cut_fails(read_found);
}

static void what_was_not_found_has_no_more(void **state) {
    (void)state;
    static const int32_t statuses[] = {YK_MISS, YK_PENDING, -YK_EGONE, -YK_EAGAIN};
    for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
        struct yk_rd r;
        struct yk_dirw_found in = {.status = statuses[i], .group = 9}, out;
        begin();
        yk_wr_dir_found(&w, &in);
        assert_int_equal(yk_wr_len(&w), 12);
        void *exact = reader(&r, 12);
        yk_rd_dir_found(&r, &out);
        assert_true(yk_rd_ok(&r));
        assert_true(out.status == statuses[i] && out.group == 9 && out.count == 0);
        free(exact);
    }
}

static void counts_that_cannot_be_are_refused(void **state) {
    (void)state;
    static const uint8_t copies[] = {0, YK_DIR_TELL_MAX + 1u, 255};
    static const uint32_t keys[] = {0, YK_DIR_KEYS_MAX + 1u, UINT32_MAX};
    struct yk_rd r;
    for (size_t i = 0; i < 3; i++) {
        begin();
        memset(buf, 0, 37 + 255 * 21 < sizeof(buf) ? 37 + 255 * 21 : sizeof(buf));
        buf[36] = copies[i];
        yk_rd_init(&r, buf, sizeof(buf));
        read_found(&r);
        assert_true(r.bad);
        struct yk_dirw_keys in = {ns, 1, keys[i]}, out;
        begin();
        yk_wr_dir_keys(&w, &in);
        yk_rd_init(&r, buf, yk_wr_len(&w));
        yk_rd_dir_keys(&r, &out);
        assert_true(r.bad);
    }
}

static void read_keys(struct yk_rd *r) {
    struct yk_dirw_keys k;
    yk_rd_dir_keys(r, &k);
}

static void keys_come_back(void **state) {
    (void)state;
    struct yk_rd r;
    struct yk_dirw_keys in = {ns, 12, 2}, out;
    struct yk_dirw_str one;
    begin();
    yk_wr_dir_keys(&w, &in);
    every_cut_fails(read_keys);
    yk_wr_str8(&w, key.data, key.len);
    yk_wr_str8(&w, "", 0);
    yk_rd_init(&r, buf, yk_wr_len(&w));
    yk_rd_dir_keys(&r, &out);
    assert_true(out.epoch == 12 && out.n == 2 && out.ns.len == ns.len && memcmp(out.ns.data, ns.data, ns.len) == 0);
    yk_rd_dir_key(&r, &one);
    assert_true(!r.bad && one.len == key.len && memcmp(one.data, key.data, key.len) == 0);
    yk_rd_dir_key(&r, &one); /* a key is never empty */
    assert_true(r.bad);
}

static void read_have(struct yk_rd *r) {
    struct yk_dirw_have h;
    yk_rd_dir_have(r, &h);
}

static void have_comes_back(void **state) {
    (void)state;
    struct yk_rd r;
    struct yk_dirw_have in = {.gen = 5, .len = 6, .sum = 7, .tiers = 2}, out;
    begin();
    yk_wr_dir_have(&w, &in);
    assert_int_equal(yk_wr_len(&w), YK_DIR_HAVE_BYTES_MAX);
    every_cut_fails(read_have);
    yk_rd_init(&r, buf, yk_wr_len(&w));
    yk_rd_dir_have(&r, &out);
    assert_true(yk_rd_ok(&r) && out.status == 0 && out.gen == 5 && out.len == 6 && out.sum == 7 && out.tiers == 2);
}

static void read_place(struct yk_rd *r) {
    struct yk_dirw_place p;
    yk_rd_dir_place(r, &p);
}

static void place_comes_back(void **state) {
    (void)state;
    struct yk_rd r;
    unsigned char parent[255];
    struct yk_dirw_place out, in = {.idx = 4,
                                    .gen = 1ull << 55,
                                    .offset = 1ull << 45,
                                    .len = 1u << 20,
                                    .sum = 8,
                                    .epoch = 9,
                                    .left_ms = 10,
                                    .term = 11,
                                    .rseq = 12,
                                    .attrs = {.session = 13, .depth_tokens = 14, .kind = 2},
                                    .parent = {parent, sizeof(parent)}};
    memset(parent, 'p', sizeof(parent));
    begin();
    yk_wr_dir_place(&w, &in);
    assert_true(yk_wr_len(&w) <= YK_DIR_PLACE_BYTES_MAX);
    every_cut_fails(read_place);
    yk_rd_init(&r, buf, yk_wr_len(&w));
    yk_rd_dir_place(&r, &out);
    assert_true(yk_rd_ok(&r));
    assert_true(out.idx == 4 && out.gen == in.gen && out.offset == in.offset && out.len == in.len && out.sum == 8);
    assert_true(out.epoch == 9 && out.left_ms == 10 && out.term == 11 && out.rseq == 12);
    assert_true(out.attrs.session == 13 && out.attrs.depth_tokens == 14 && out.attrs.kind == 2);
    assert_true(out.parent.len == 255 && memcmp(out.parent.data, parent, 255) == 0);
}

/* A block is 1 to 4 GiB - 1 bytes: anything else would be a read of nothing, or of too much. */
static void places_of_no_length_are_refused(void **state) {
    (void)state;
    static const uint64_t lens[] = {0, 1ull << 32, UINT64_MAX};
    for (size_t i = 0; i < 3; i++) {
        struct yk_rd r;
        struct yk_dirw_place in = {.len = lens[i]}, out;
        begin();
        yk_wr_dir_place(&w, &in);
        yk_rd_init(&r, buf, yk_wr_len(&w));
        yk_rd_dir_place(&r, &out);
        assert_true(r.bad);
    }
}

static void read_locate(struct yk_rd *r) {
    struct yk_dirw_one one;
    yk_rd_dir_locate(r, &one);
}

static void read_remove(struct yk_rd *r) {
    struct yk_dirw_one one;
    yk_rd_dir_remove(r, &one);
}

static void requests_about_one_key_come_back(void **state) {
    (void)state;
    struct yk_rd r;
    struct yk_dirw_one in = {.ns = ns, .key = key, .epoch = 3, .until_ms = 1ull << 40, .timeout_ms = 250}, out;
    begin();
    yk_wr_dir_locate(&w, &in);
    every_cut_fails(read_locate);
    yk_rd_init(&r, buf, yk_wr_len(&w));
    yk_rd_dir_locate(&r, &out);
    assert_true(yk_rd_ok(&r) && out.epoch == 3 && out.timeout_ms == 250 && out.key.len == key.len);
    assert_memory_equal(out.key.data, key.data, key.len);
    begin();
    yk_wr_dir_remove(&w, &in);
    every_cut_fails(read_remove);
    yk_rd_init(&r, buf, yk_wr_len(&w));
    yk_rd_dir_remove(&r, &out);
    assert_true(yk_rd_ok(&r) && out.epoch == 3 && out.until_ms == 1ull << 40 && out.ns.len == ns.len);
    assert_memory_equal(out.key.data, key.data, key.len);
}

static void read_take(struct yk_rd *r) {
    struct yk_dirw_take t;
    yk_rd_dir_take(r, &t);
}

static struct yk_dirw_take some_take(void) {
    struct yk_dirw_take t = {
        .ns = ns, .key = key, .epoch = 3, .timeout_ms = 250, .wanted = 8, .xclass = 3, .found = {.group = 7, .count = 1}};
    t.found.copy[0] = (struct yk_dirw_copy){5, 0xe2, 9, 11};
    return t;
}

static void copies_to_be_taken_come_back(void **state) {
    (void)state;
    struct yk_rd r;
    struct yk_dirw_take in = some_take(), out;
    begin();
    yk_wr_dir_take(&w, &in);
    every_cut_fails(read_take);
    yk_rd_init(&r, buf, yk_wr_len(&w));
    yk_rd_dir_take(&r, &out);
    assert_true(yk_rd_ok(&r) && out.epoch == 3 && out.timeout_ms == 250 && out.wanted == 8 && out.xclass == 3);
    assert_true(out.ns.len == ns.len && out.key.len == key.len && out.found.group == 7 && out.found.count == 1);
    assert_true(out.found.copy[0].member == 5 && out.found.copy[0].tiers == 0xe2);
}

static void copies_that_cannot_be_are_refused(void **state) {
    (void)state;
    for (int i = 0; i < 5; i++) {
        struct yk_dirw_take in = some_take(), out;
        struct yk_rd r;
        in.wanted = i == 0 ? 0 : i == 1 ? YK_DIR_TELL_MAX + 1u : 8;
        in.xclass = i == 2 ? YK_DIR_CLASSES : 0;
        in.found.status = i == 3 ? YK_MISS : 0;
        in.key.len = i == 4 ? 0 : in.key.len;
        begin();
        yk_wr_dir_take(&w, &in);
        yk_rd_init(&r, buf, yk_wr_len(&w));
        yk_rd_dir_take(&r, &out);
        assert_true(r.bad);
    }
}

static void read_task(struct yk_rd *r) {
    struct yk_dirw_task t;
    yk_rd_dir_task(r, &t);
}

static void tasks_come_back(void **state) {
    (void)state;
    struct yk_rd r;
    struct yk_dirw_task in = {
        .ns = ns, .key = key, .node = {"n1", 2}, .from = {"n10", 3}, .epoch = 3, .timeout_ms = 250, .kind = 2}, out;
    begin();
    yk_wr_dir_task(&w, &in);
    every_cut_fails(read_task);
    yk_rd_init(&r, buf, yk_wr_len(&w));
    yk_rd_dir_task(&r, &out);
    assert_true(yk_rd_ok(&r) && out.epoch == 3 && out.timeout_ms == 250 && out.kind == 2 && out.node.len == 2);
    assert_memory_equal(out.node.data, "n1", 2);
    assert_memory_equal(out.key.data, key.data, key.len);
    assert_true(out.from.len == 3 && memcmp(out.from.data, "n10", 3) == 0);
    in.kind = 1; /* a copy has no second node, and must have the first */
    for (int named = 1; named >= 0; named--) {
        in.node.len = named ? 2 : 0;
        begin();
        yk_wr_dir_task(&w, &in);
        yk_rd_init(&r, buf, yk_wr_len(&w));
        yk_rd_dir_task(&r, &out);
        assert_int_equal(yk_rd_ok(&r), named);
        assert_int_equal(out.from.len, 0);
    }
}

static void read_give(struct yk_rd *r) {
    struct yk_dirw_give g;
    yk_rd_dir_give(r, &g);
}

static void gifts_come_back(void **state) {
    (void)state;
    struct yk_rd r;
    struct yk_dirw_give in = {.ns = ns, .key = key, .epoch = 3, .timeout_ms = 250, .to = 7}, out;
    begin();
    yk_wr_dir_give(&w, &in);
    every_cut_fails(read_give);
    yk_rd_init(&r, buf, yk_wr_len(&w));
    yk_rd_dir_give(&r, &out);
    assert_true(yk_rd_ok(&r) && out.epoch == 3 && out.timeout_ms == 250 && out.to == 7 && out.ns.len == ns.len);
    assert_memory_equal(out.key.data, key.data, key.len);
}

static void ops_have_names(void **state) {
    (void)state;
    for (unsigned op = YK_DIR_OP_FIRST; op < YK_DIR_OPS; op++)
        assert_string_not_equal(yk_dir_op_name(op), "unknown");
    assert_string_equal(yk_dir_op_name(YK_DIR_FIND), "find");
    assert_string_equal(yk_dir_op_name(YK_DIR_OP_FIRST - 1u), "unknown");
    assert_string_equal(yk_dir_op_name(YK_DIR_OPS), "unknown");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(found_comes_back),
        cmocka_unit_test(what_was_not_found_has_no_more),
        cmocka_unit_test(counts_that_cannot_be_are_refused),
        cmocka_unit_test(keys_come_back),
        cmocka_unit_test(have_comes_back),
        cmocka_unit_test(place_comes_back),
        cmocka_unit_test(places_of_no_length_are_refused),
        cmocka_unit_test(requests_about_one_key_come_back),
        cmocka_unit_test(copies_to_be_taken_come_back),
        cmocka_unit_test(copies_that_cannot_be_are_refused),
        cmocka_unit_test(tasks_come_back),
        cmocka_unit_test(gifts_come_back),
        cmocka_unit_test(ops_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
