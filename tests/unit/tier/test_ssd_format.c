/* SPDX-License-Identifier: Apache-2.0
 *
 * What stands on a device: comes back as it was written, and no change of it is taken for good.
 */
#include "tier/ssd/format.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <yolk/status.h>

#define SEGMENT (1u << 20)

static unsigned char buf[YK_SSD_CKPT_BYTES], list[YK_SSD_CKPT_BYTES];

static const struct yk_ssd_rec recs[] = {
    {.type = YK_SSD_REC_BLOCK,
     .kind = 3,
     .key = (const unsigned char *)"key",
     .key_len = 3,
     .parent = (const unsigned char *)"parent",
     .parent_len = 6,
     .len = 5000,
     .place = 77,
     .depth_tokens = 1,
     .length_tokens = 2,
     .model = 3,
     .ns_uid = 4,
     .gen = 5,
     .epoch = 6,
     .sum = 7,
     .expiry_ms = 8,
     .session = 9},
    {.type = YK_SSD_REC_TOMB,
     .key = (const unsigned char *)"k",
     .key_len = 1,
     .ns_uid = 1,
     .gen = 2,
     .origin = 3},
    {.type = YK_SSD_REC_EXPIRY,
     .key = (const unsigned char *)"kk",
     .key_len = 2,
     .ns_uid = 1,
     .gen = 2,
     .expiry_ms = 4},
    {.type = YK_SSD_REC_ORDER,
     .key = (const unsigned char *)"12345678abcdefgh",
     .key_len = 16,
     .ns_uid = 11,
     .gen = 11,
     .origin = 31},
    {.type = YK_SSD_REC_NS,
     .ns_number = 255,
     .ns_uid = 9,
     .gen = 8,
     .ns = {.uid = 9, .epoch = 7, .quota_bytes = 6, .removed = 1, .name = "name"}},
};
#define RECS (sizeof(recs) / sizeof(recs[0]))

static void same(const struct yk_ssd_rec *a, const struct yk_ssd_rec *b) {
    assert_int_equal(a->type, b->type);
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->len, b->len);
    assert_int_equal(a->place, b->place);
    assert_int_equal(a->depth_tokens, b->depth_tokens);
    assert_int_equal(a->length_tokens, b->length_tokens);
    assert_int_equal(a->model, b->model);
    assert_int_equal(a->ns_uid, b->ns_uid);
    assert_int_equal(a->gen, b->gen);
    assert_int_equal(a->epoch, b->epoch);
    assert_int_equal(a->sum, b->sum);
    assert_int_equal(a->expiry_ms, b->expiry_ms);
    assert_int_equal(a->session, b->session);
    assert_int_equal(a->origin, b->origin);
    assert_int_equal(a->ns_number, b->ns_number);
    assert_memory_equal(&a->ns, &b->ns, sizeof(a->ns));
    assert_int_equal(a->key_len, b->key_len);
    assert_int_equal(a->parent_len, b->parent_len);
    if (a->key_len > 0)
        assert_memory_equal(a->key, b->key, a->key_len);
    if (a->parent_len > 0)
        assert_memory_equal(a->parent, b->parent, a->parent_len);
}

static uint32_t list_make(unsigned char *to) {
    uint32_t bytes = 0;
    for (size_t i = 0; i < RECS; i++) {
        uint32_t n = yk_ssd_rec_put(NULL, &recs[i]);
        assert_int_equal(yk_ssd_rec_put(to + bytes, &recs[i]), n);
        bytes += n;
    }
    return bytes;
}

static void records(void **state) {
    (void)state;
    uint32_t bytes = list_make(list);
    struct yk_ssd_recs l = {list, list + bytes};
    struct yk_ssd_rec r;
    for (size_t i = 0; i < RECS; i++) {
        assert_int_equal(yk_ssd_rec_next(&l, SEGMENT, &r), 1);
        same(&r, &recs[i]);
    }
    assert_int_equal(yk_ssd_rec_next(&l, SEGMENT, &r), 0);
    for (uint32_t cut = 0; cut < bytes; cut++) { /* of every length it is a shorter list, or none */
        unsigned char *exact = malloc(cut + 1);
        assert_non_null(exact);
        memcpy(exact, list, cut);
        struct yk_ssd_recs c = {exact, exact + cut};
        int rc;
        while ((rc = yk_ssd_rec_next(&c, SEGMENT, &r)) == 1)
            ;
        assert_true(rc == 0 || rc == -YK_ECORRUPT);
        free(exact);
    }
}

static void places(void **state) {
    (void)state;
    struct yk_ssd_rec r = recs[0], got;
    struct {
        uint32_t len, place;
        int rc;
    } cases[] = {
        {100, SEGMENT / 64 - 2, 1},
        {100, SEGMENT / 64 - 1, -YK_ECORRUPT},
        {0, SEGMENT / 64, 1},
        {0, SEGMENT / 64 + 1, -YK_ECORRUPT},
        {SEGMENT, 0, 1},
        {SEGMENT + 1, 0, -YK_ECORRUPT},
        {UINT32_MAX, UINT32_MAX, -YK_ECORRUPT},
        {20000, 64, 1},
        {20000, 65, -YK_ECORRUPT},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        r.len = cases[i].len;
        r.place = cases[i].place;
        struct yk_ssd_recs l = {buf, buf + yk_ssd_rec_put(buf, &r)};
        assert_int_equal(yk_ssd_rec_next(&l, SEGMENT, &got), cases[i].rc);
    }
}

static void superblocks(void **state) {
    (void)state;
    struct yk_ssd_super s = {.node_id = 1,
                             .cluster_id = 2,
                             .uid = 3,
                             .size_bytes = 64 << 20,
                             .segment_bytes = SEGMENT,
                             .created_ms = 4},
                        got;
    uint32_t version;
    yk_ssd_super_put(buf, &s);
    assert_int_equal(yk_ssd_super_get(buf, &got, &version), 0);
    assert_memory_equal(&s, &got, sizeof(s));
    for (uint32_t bit = 0; bit < YK_SSD_SECTOR * 8; bit++) {
        buf[bit / 8] ^= (unsigned char)(1u << bit % 8);
        int rc = yk_ssd_super_get(buf, &got, &version);
        assert_int_equal(rc, bit < 64 ? -YK_ENOENT : -YK_ECORRUPT);
        buf[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
}

static void checkpoints(void **state) {
    (void)state;
    static struct yk_ssd_ckpt c = {.uid = 1,
                                   .seq = 2,
                                   .run = 3,
                                   .started = 2,
                                   .clock_ms = 4,
                                   .gen_max = 5,
                                   .ns_gen = 6,
                                   .wear_bytes = 7,
                                   .clean = 1},
                              got;
    for (uint32_t i = 0; i < YK_SSD_NAMESPACES; i++) {
        c.ns[i] =
            (struct yk_ssd_ns){.uid = i + 1, .epoch = i, .quota_bytes = 2 * i, .removed = i % 2,
                               .guarantee_bytes = i % 3 ? 0 : 3 * i, .priority = i % 5 ? 0 : i};
        memset(c.ns[i].name, 'a' + (int)(i % 26), i % 65);
    }
    yk_ssd_ckpt_put(buf, &c);
    assert_int_equal(yk_ssd_ckpt_get(buf, 1, &got), 0);
    assert_memory_equal(&c, &got, sizeof(c));
    assert_int_equal(yk_ssd_ckpt_get(buf, 2, &got), -YK_ENOENT);
    for (uint32_t bit = 0; bit < YK_SSD_CKPT_BYTES * 8; bit += bit < 4096 ? 1 : 97) {
        buf[bit / 8] ^= (unsigned char)(1u << bit % 8);
        assert_true(yk_ssd_ckpt_get(buf, 1, &got) < 0);
        buf[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
}

static void headers(void **state) {
    (void)state;
    uint32_t bytes = list_make(buf + YK_SSD_HEAD_BYTES);
    struct yk_ssd_head h = {.uid = 1,
                            .seq = 0x100000005ull,
                            .number = 3,
                            .count = RECS,
                            .recs_bytes = bytes,
                            .room = 2 * YK_SSD_SECTOR,
                            .bytes = 5 * YK_SSD_SECTOR,
                            .clock_ms = 6,
                            .gen_max = 7,
                            .at_sector = 9},
                       got;
    struct yk_ssd_recs l;
    yk_ssd_head_put(buf, &h);
    assert_int_equal(yk_ssd_head_get(buf, h.room, 1, SEGMENT, &got, &l), 0);
    assert_true(got.seq == h.seq && got.number == h.number && got.count == h.count);
    assert_true(got.recs_bytes == h.recs_bytes && got.room == h.room && got.bytes == h.bytes);
    assert_true(got.uid == h.uid && got.at_sector == h.at_sector);
    assert_true(got.clock_ms == h.clock_ms && got.gen_max == h.gen_max);
    assert_int_equal(l.end - l.at, bytes);
    assert_int_equal(yk_ssd_head_get(buf, YK_SSD_SECTOR, 1, SEGMENT, &got, &l), -YK_ECORRUPT);
    assert_int_equal(yk_ssd_head_get(buf, h.room, 2, SEGMENT, &got, &l), -YK_ECORRUPT);
    assert_int_equal(yk_ssd_head_get(buf, h.room, 1, 13 * YK_SSD_SECTOR, &got, &l), -YK_ECORRUPT);
    for (uint32_t bit = 0; bit < (YK_SSD_HEAD_BYTES + bytes) * 8; bit++) {
        buf[bit / 8] ^= (unsigned char)(1u << bit % 8);
        assert_int_equal(yk_ssd_head_get(buf, h.room, 1, SEGMENT, &got, &l), -YK_ECORRUPT);
        assert_true(yk_ssd_head_damaged(buf, 1, 0)); /* it is known for what it was all the same */
        assert_true(yk_ssd_head_damaged(buf, 1, h.seq));
        assert_true(yk_ssd_head_seq_is(buf, h.seq));
        assert_false(yk_ssd_head_damaged(buf, 1, h.seq - 1));
        assert_false(yk_ssd_head_damaged(buf, 1, h.seq + 1));
        assert_false(yk_ssd_head_seq_is(buf, h.seq ^ 1));
        buf[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    memset(buf, 0, YK_SSD_SECTOR);
    assert_false(yk_ssd_head_damaged(buf, 1, 0));
}

static void footers(void **state) {
    (void)state;
    uint32_t bytes = list_make(buf);
    struct yk_ssd_foot f = {.uid = 1,
                            .seq = 2,
                            .count = RECS,
                            .recs_bytes = bytes,
                            .clock_ms = 3,
                            .gen_max = 4},
                       got;
    struct yk_ssd_recs l;
    yk_ssd_foot_put(buf, &f);
    uint64_t all = yk_ssd_foot_bytes(bytes);
    assert_int_equal(yk_ssd_foot_peek(buf + all - YK_SSD_SECTOR, 1, SEGMENT, &got), 0);
    assert_memory_equal(&f, &got, sizeof(f));
    assert_int_equal(yk_ssd_foot_get(buf, &got, &l), 0);
    assert_int_equal(l.end - l.at, bytes);
    assert_int_equal(yk_ssd_foot_peek(buf + all - YK_SSD_SECTOR, 2, SEGMENT, &got), -YK_ECORRUPT);
    for (uint64_t bit = 0; bit < all * 8; bit++) {
        if (bit / 8 >= bytes && bit / 8 < all - YK_SSD_TAIL_BYTES)
            continue;
        buf[bit / 8] ^= (unsigned char)(1u << bit % 8);
        assert_true(yk_ssd_foot_peek(buf + all - YK_SSD_SECTOR, 1, SEGMENT, &got) < 0 ||
                    yk_ssd_foot_get(buf, &got, &l) < 0);
        buf[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records),     cmocka_unit_test(places),  cmocka_unit_test(superblocks),
        cmocka_unit_test(checkpoints), cmocka_unit_test(headers), cmocka_unit_test(footers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
