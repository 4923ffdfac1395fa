/* SPDX-License-Identifier: Apache-2.0
 *
 * KV events are read in both published forms, what is not known is passed over, and what is malformed is refused
 * before anything of it was told.
 */
#include "packing.h"

#include "base/hash.h"
#include "events/kv.h"

#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

struct told {
    char text[4096];
    size_t len;
};

static void note(struct told *t, const char *what, uint64_t block, int medium, uint32_t tokens) {
    t->len += (size_t)snprintf(t->text + t->len, sizeof(t->text) - t->len, "%s %llu %d %u;", what,
                               (unsigned long long)block, medium, tokens);
}

static void stored(void *arg, uint64_t block, enum yk_kv_medium medium, uint32_t block_tokens) {
    note(arg, "+", block, medium, block_tokens);
}

static void removed(void *arg, uint64_t block, enum yk_kv_medium medium) {
    note(arg, "-", block, medium, 0);
}

static void cleared(void *arg) {
    note(arg, "clear", 0, 0, 0);
}

static int decode(const struct packing *p, struct told *t, struct yk_kv_batch *batch) {
    struct yk_kv_sink sink = {stored, removed, cleared, NULL, t};
    struct yk_err err;
    *t = (struct told){0};
    int rc = yk_kv_decode(p->data, p->len, &sink, NULL, batch, &err);
    if (rc < 0)
        assert_int_equal(t->len, 0);
    return rc;
}

static void lists_are_read(void **state) {
    const uint64_t blocks[] = {1, UINT64_MAX, 70000};
    struct yk_kv_batch batch;
    struct packing p;
    struct told t;
    pack_batch(&p, 4);
    pack_stored(&p, blocks, 3, NULL);
    pack_stored(&p, blocks, 1, "cpu");
    pack_removed(&p, blocks + 1, 2, "GPU");
    pack_cleared(&p);
    pack_batch_end(&p, 3);
    assert_int_equal(decode(&p, &t, &batch), 0);
    assert_string_equal(t.text, "+ 1 0 16;+ 18446744073709551615 0 16;+ 70000 0 16;+ 1 1 16;"
                                "- 18446744073709551615 0 0;- 70000 0 0;clear 0 0 0;");
    assert_int_equal(batch.events, 4);
    assert_int_equal(batch.blocks, 6);
    assert_int_equal(batch.rank, 3);
}

static void maps_are_read(void **state) {
    const unsigned char digest[32] = {1, 2, 3};
    struct yk_kv_batch batch;
    struct packing p = {.len = 0};
    struct told t;
    char want[100];
    pack_map(&p, 2);
    pack_str(&p, "events");
    pack_list(&p, 2);
    pack_map(&p, 5);
    pack_str(&p, "token_ids");
    pack_list(&p, 0);
    pack_str(&p, "block_hashes");
    pack_list(&p, 1);
    pack_bin(&p, digest, sizeof(digest));
    pack_str(&p, "medium");
    pack_str(&p, "SHARED_STORE");
    pack_str(&p, "block_size");
    pack_uint(&p, 32);
    pack_str(&p, "type");
    pack_str(&p, "BlockStored");
    pack_map(&p, 1);
    pack_str(&p, "type");
    pack_str(&p, "AllBlocksCleared");
    pack_str(&p, "ts");
    pack_float(&p, 1);
    assert_int_equal(decode(&p, &t, &batch), 0);
    snprintf(want, sizeof(want), "+ %llu 2 32;clear 0 0 0;", (unsigned long long)yk_hash64(digest, sizeof(digest)));
    assert_string_equal(t.text, want);
    assert_int_equal(batch.rank, -1);
}

static void what_is_not_known_is_passed_over(void **state) {
    const uint64_t blocks[] = {5};
    struct yk_kv_batch batch;
    struct packing p;
    struct told t;
    p.len = 0;
    pack_list(&p, 5); /* more fields than there are now */
    pack_nil(&p);
    pack_list(&p, 3);
    pack_list(&p, 2);
    pack_str(&p, "BlockRenamed");
    pack_map(&p, 1);
    pack_str(&p, "deep");
    pack_list(&p, 1);
    pack_bin(&p, "x", 1);
    pack_list(&p, 6); /* removed, of another group, with fields that are new */
    pack_str(&p, "BlockRemoved");
    pack_list(&p, 1);
    pack_uint(&p, 9);
    pack_nil(&p);
    pack_uint(&p, 1);
    pack_str(&p, "new");
    pack_uint(&p, 7);
    pack_removed(&p, blocks, 1, NULL);
    pack_nil(&p);
    pack_str(&p, "later");
    pack_uint(&p, 8);
    assert_int_equal(decode(&p, &t, &batch), 0);
    assert_string_equal(t.text, "- 5 0 0;");
    assert_int_equal(batch.passed_over, 2);
}

/* ---- groups of hybrid models ---- */

static void pack_group_stored(struct packing *p, uint64_t block, uint64_t group, const char *kind) {
    pack_map(p, kind != NULL ? 5 : 4);
    pack_str(p, "type");
    pack_str(p, "BlockStored");
    pack_str(p, "block_hashes");
    pack_list(p, 1);
    pack_uint(p, block);
    pack_str(p, "block_size");
    pack_uint(p, 16);
    pack_str(p, "group_idx");
    pack_uint(p, group);
    if (kind == NULL)
        return;
    pack_str(p, "kv_cache_spec_kind");
    pack_str(p, kind);
}

static void pack_group_removed(struct packing *p, uint64_t block, uint64_t group) {
    pack_list(p, 4);
    pack_str(p, "BlockRemoved");
    pack_list(p, 1);
    pack_uint(p, block);
    pack_nil(p);
    pack_uint(p, group);
}

static void expect_told(const struct packing *p, struct yk_kv_groups *groups, const char *want, uint32_t passed_over) {
    struct told t = {0};
    struct yk_kv_sink sink = {stored, removed, cleared, NULL, &t};
    struct yk_kv_batch batch;
    assert_int_equal(yk_kv_decode(p->data, p->len, &sink, groups, &batch, NULL), 0);
    assert_string_equal(t.text, want);
    assert_int_equal(batch.passed_over, passed_over);
}

/* A window's blocks go while those of the whole prefix stay; they have the same hashes. */
static void of_groups_the_one_that_sees_all_counts(void **state) {
    struct yk_kv_groups groups = {0};
    struct packing p;
    pack_batch(&p, 4);
    pack_group_stored(&p, 7, 0, "sliding_window");
    pack_group_stored(&p, 7, 1, "mla_attention");
    pack_group_removed(&p, 7, 0);
    pack_group_stored(&p, 8, 2, "mamba");
    pack_batch_end(&p, 0);
    expect_told(&p, &groups, "+ 7 0 16;", 3);
    assert_true(groups.known && groups.whole == 1);
    pack_batch(&p, 2); /* later, and without a kind */
    pack_group_removed(&p, 7, 0);
    pack_group_removed(&p, 7, 1);
    pack_batch_end(&p, 0);
    expect_told(&p, &groups, "- 7 0 0;", 1);
}

static void of_several_that_see_all_the_first_counts(void **state) {
    struct yk_kv_groups groups = {0};
    struct packing p;
    pack_batch(&p, 4);
    pack_group_stored(&p, 7, 3, "full_attention");
    pack_group_stored(&p, 7, 1, "sink_full_attention");
    pack_group_stored(&p, 8, 3, "full_attention");
    pack_group_stored(&p, 8, 1, "sink_full_attention");
    pack_batch_end(&p, 0);
    expect_told(&p, &groups, "+ 7 0 16;+ 7 0 16;+ 8 0 16;", 1);
    assert_int_equal(groups.whole, 1);
}

static void without_a_kind_the_first_group_counts(void **state) {
    struct yk_kv_groups groups = {0};
    struct packing p;
    pack_batch(&p, 3);
    pack_group_stored(&p, 7, 0, NULL);
    pack_group_stored(&p, 8, 1, NULL);
    pack_group_removed(&p, 7, 1);
    pack_batch_end(&p, 0);
    expect_told(&p, &groups, "+ 7 0 16;", 2);
    assert_false(groups.known);
}

/* "unknown" is no kind: layers that are kept as one group though they are of several. */
static void a_group_of_several_kinds_counts_as_if_none_was_said(void **state) {
    struct yk_kv_groups groups = {0};
    struct packing p;
    pack_batch(&p, 3);
    pack_group_stored(&p, 7, 0, "unknown");
    pack_group_stored(&p, 8, 0, "unknown");
    pack_group_removed(&p, 7, 0);
    pack_batch_end(&p, 0);
    expect_told(&p, &groups, "+ 7 0 16;+ 8 0 16;- 7 0 0;", 0);
    pack_batch(&p, 2); /* beside one that is said to see all it does not */
    pack_group_stored(&p, 9, 1, "full_attention");
    pack_group_stored(&p, 9, 0, "unknown");
    pack_batch_end(&p, 0);
    expect_told(&p, &groups, "+ 9 0 16;", 1);
}

/* A batch that is malformed at its end has taught nothing. */
static void what_is_malformed_teaches_nothing(void **state) {
    struct yk_kv_groups groups = {0};
    struct yk_kv_batch batch;
    struct packing p;
    pack_batch(&p, 2);
    pack_group_stored(&p, 7, 4, "full_attention");
    pack_uint(&p, 5);
    pack_batch_end(&p, 0);
    assert_int_equal(yk_kv_decode(p.data, p.len, NULL, &groups, &batch, NULL), -YK_EPROTO);
    assert_false(groups.known);
}

/* Every shorter one, and every one with one byte changed, is refused or is another batch; nothing reads past it. */
static void what_is_malformed_tells_nothing(void **state) {
    const uint64_t blocks[] = {1, 300, 70000, 1ull << 40};
    struct yk_kv_batch batch;
    struct packing p, q;
    struct told t;
    pack_batch(&p, 2);
    pack_stored(&p, blocks, 4, "gpu");
    pack_removed(&p, blocks, 2, NULL);
    pack_batch_end(&p, 0);
    for (size_t cut = 0; cut < p.len; cut++) {
        unsigned char *exact = malloc(cut + 1);
        struct yk_kv_sink sink = {stored, removed, cleared, NULL, &t};
        t.len = 0;
        memcpy(exact, p.data, cut);
        assert_int_equal(yk_kv_decode(exact, cut, &sink, NULL, &batch, NULL), -YK_EPROTO);
        assert_int_equal(t.len, 0);
        free(exact);
    }
    for (size_t at = 0; at < p.len; at++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            q = p;
            q.data[at] ^= (unsigned char)(1u << bit);
            decode(&q, &t, &batch);
        }
    }
    q = p;
    q.data[q.len++] = 0;
    assert_int_equal(decode(&q, &t, &batch), -YK_EPROTO);
}

static void lies_about_sizes_are_refused(void **state) {
    static const unsigned char lies[][12] = {
        {0xdd, 0xff, 0xff, 0xff, 0xff},                   /* a list of four billion */
        {0x92, 0x01, 0xdd, 0xff, 0xff, 0xff, 0xff},       /* such events */
        {0x92, 0x01, 0x91, 0xdf, 0x80, 0, 0, 0},          /* an event of such a map */
        {0x92, 0x01, 0x91, 0x92, 0xdb, 0xff, 0xff, 0xff, 0xff},
        {0x92, 0x01, 0x91, 0x92, 0xa1, 'x', 0xc9, 0xff, 0xff, 0xff, 0xff, 0},
        {0x92, 0x01, 0x91, 0xc1},
    };
    struct yk_kv_batch batch;
    struct yk_err err;
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++)
        assert_int_equal(yk_kv_decode(lies[i], sizeof(lies[i]), NULL, NULL, &batch, &err), -YK_EPROTO);
    assert_int_equal(yk_kv_decode("", YK_KV_BATCH_MAX + 1, NULL, NULL, &batch, &err), -YK_ETOOBIG);
    assert_int_equal(yk_kv_decode("", 0, NULL, NULL, &batch, &err), -YK_EPROTO);
}

/* What is wrong is said with a place in the batch. */
static void an_event_without_hashes_is_refused_at_its_place(void **state) {
    struct yk_kv_batch batch;
    struct yk_err err = {0};
    struct packing p;
    pack_batch(&p, 1);
    pack_list(&p, 1);
    pack_str(&p, "BlockStored");
    size_t at = p.len, said = 0;
    pack_batch_end(&p, 0);
    assert_int_equal(yk_kv_decode(p.data, p.len, NULL, NULL, &batch, &err), -YK_EPROTO);
    assert_non_null(strstr(err.text, "block_hashes"));
    assert_int_equal(sscanf(strstr(err.text, "at byte"), "at byte %zu", &said), 1);
    assert_int_equal(said, at);
}

/* Lists in lists: no recursion, so no stack to run out of. */
static void depth_costs_nothing(void **state) {
    size_t n = 1u << 20;
    unsigned char *deep = malloc(n);
    struct yk_kv_batch batch;
    memset(deep, 0x91, n);
    deep[n - 1] = 0xc0;
    deep[0] = 0x92;
    assert_int_equal(yk_kv_decode(deep, n, NULL, NULL, &batch, NULL), -YK_EPROTO);
    free(deep);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_are_read),
        cmocka_unit_test(maps_are_read),
        cmocka_unit_test(what_is_not_known_is_passed_over),
        cmocka_unit_test(of_groups_the_one_that_sees_all_counts),
        cmocka_unit_test(of_several_that_see_all_the_first_counts),
        cmocka_unit_test(without_a_kind_the_first_group_counts),
        cmocka_unit_test(a_group_of_several_kinds_counts_as_if_none_was_said),
        cmocka_unit_test(what_is_malformed_teaches_nothing),
        cmocka_unit_test(what_is_malformed_tells_nothing),
        cmocka_unit_test(lies_about_sizes_are_refused),
        cmocka_unit_test(an_event_without_hashes_is_refused_at_its_place),
        cmocka_unit_test(depth_costs_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
