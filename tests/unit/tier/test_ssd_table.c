/* SPDX-License-Identifier: Apache-2.0
 *
 * The SSD tier's table: against a plain array, and what a block costs in memory.
 */
#include "tier/ssd/table.h"

#include "base/hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <yolk/status.h>

static struct yk_ssd_table t;
static uint64_t seed;

static uint64_t rnd(void) {
    seed += 0x9e3779b97f4a7c15ull;
    uint64_t z = seed;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    return z ^ z >> 27;
}

/* ---- beside a model -------------------------------------------------------------------------------- */

#define KEYS 3000u

struct model {
    uint32_t id, key_len, length_tokens, model, depth, stamp;
    uint64_t expiry, session, sum;
    int there;
};

static struct model m[KEYS];

static uint32_t key_of(uint32_t k, unsigned char *to) {
    uint32_t len = 1 + k * 7 % 255;
    memset(to, 'a' + (int)(k % 20), len);
    memcpy(to, &k, len < 4 ? len : 4);
    return len < 2 ? 0 : len; /* one byte is not enough to tell keys apart */
}

static void check_one(uint32_t k) {
    unsigned char key[256];
    uint32_t len = key_of(k, key), id, n = 0, found = 0, length, mod;
    struct yk_index_cursor c = {0};
    uint64_t hash = yk_hash_key(k % 5, key, len);
    while (yk_ssd_table_next(&t, k % 5, hash, key, len, &c, &id)) {
        found = id;
        n++;
    }
    assert_int_equal(n, m[k].there);
    if (!m[k].there)
        return;
    assert_int_equal(found, m[k].id);
    assert_int_equal(yk_ssd_table_expiry(&t, id = found), m[k].expiry);
    assert_int_equal(yk_ssd_table_session(&t, id), m[k].session);
    yk_ssd_table_attr(&t, id, &length, &mod);
    assert_int_equal(length, m[k].length_tokens);
    assert_int_equal(mod, m[k].model);
    assert_true(t.e[id].sum == m[k].sum);
    assert_true(yk_ssd_table_hash(&t, id) == hash);
    struct yk_index_cursor half = {0};
    for (n = 0; yk_ssd_table_next_half(&t, k % 5, (uint32_t)hash, &half, &id);)
        n += id == found;
    assert_int_equal(n, 1);
}

static void add(uint32_t k) {
    unsigned char key[256];
    uint32_t len = key_of(k, key);
    if (len == 0)
        return;
    m[k] = (struct model){.key_len = len,
                          .length_tokens = rnd() % 3 ? (uint32_t)(rnd() % 4) : (uint32_t)rnd(),
                          .model = (uint32_t)(rnd() % 2),
                          .depth = (uint32_t)rnd(),
                          .expiry = rnd() % 3 ? 0 : rnd(),
                          .session = rnd() % 3 ? 0 : rnd(),
                          .sum = rnd(),
                          .there = 1};
    struct yk_ssd_new n = {.key = key,
                           .key_len = len,
                           .hash = yk_hash_key(k % 5, key, len),
                           .sum = m[k].sum,
                           .expiry_ms = m[k].expiry,
                           .session = m[k].session,
                           .place = rnd() & 0xffffffffffffull,
                           .length_tokens = m[k].length_tokens,
                           .model = m[k].model,
                           .ns = (uint8_t)(k % 5)};
    assert_int_equal(yk_ssd_table_add(&t, &n, &m[k].id), 0);
    assert_true(yk_ssd_entry_place(&t.e[m[k].id]) == n.place);
    assert_int_equal(t.youngest, m[k].id);
}

static void as_the_model(void **state) {
    (void)state;
    uint32_t count = 0;
    memset(m, 0, sizeof(m));
    assert_int_equal(yk_ssd_table_init(&t, KEYS, NULL, 0), 0);
    for (uint32_t i = 0; i < 200000; i++) {
        uint32_t k = (uint32_t)(rnd() % KEYS);
        if (!m[k].there) {
            add(k);
            count += (uint32_t)m[k].there;
        } else if (rnd() % 3 == 0) {
            m[k].expiry = rnd() % 2 ? rnd() : 0;
            assert_int_equal(yk_ssd_table_expiry_set(&t, m[k].id, m[k].expiry), 0);
        } else if (rnd() % 2) {
            yk_ssd_table_touch(&t, m[k].id);
            assert_int_equal(t.youngest, m[k].id);
        } else {
            yk_ssd_table_unlink(&t, m[k].id);
            yk_ssd_table_free(&t, m[k].id);
            m[k].there = 0;
            count--;
        }
        if (i % 64 == 0)
            check_one((uint32_t)(rnd() % KEYS));
        assert_int_equal(t.count, count);
    }
    uint32_t n = 0;
    for (uint32_t id = t.youngest, before = YK_SSD_NONE; id != YK_SSD_NONE; id = t.e[id].next) {
        assert_int_equal(t.e[id].prev, before);
        assert_true(before == YK_SSD_NONE || t.e[before].stamp >= t.e[id].stamp);
        before = id;
        n++;
    }
    assert_int_equal(n, count);
    for (uint32_t k = 0; k < KEYS; k++) {
        check_one(k);
        if (!m[k].there)
            continue;
        yk_ssd_table_unlink(&t, m[k].id);
        yk_ssd_table_free(&t, m[k].id);
    }
    assert_int_equal(t.cells.used, 0);
    assert_int_equal(t.index.count, 0);
    yk_ssd_table_fini(&t);
}

/* More pairs of attributes than numbers for them: the rest stands in the cells. */
static void many_attributes(void **state) {
    (void)state;
    uint32_t ids[10000], length, model;
    assert_int_equal(yk_ssd_table_init(&t, 10000, NULL, 0), 0);
    for (uint32_t turn = 0; turn < 3; turn++) {
        for (uint32_t i = 0; i < 10000; i++) {
            struct yk_ssd_new n = {.key = &i,
                                   .key_len = 4,
                                   .hash = yk_hash_key(0, &i, 4),
                                   .length_tokens = i * 3,
                                   .model = turn};
            assert_int_equal(yk_ssd_table_add(&t, &n, &ids[i]), 0);
        }
        for (uint32_t i = 0; i < 10000; i++) {
            yk_ssd_table_attr(&t, ids[i], &length, &model);
            assert_int_equal(length, i * 3);
            assert_int_equal(model, turn);
            yk_ssd_table_unlink(&t, ids[i]);
            yk_ssd_table_free(&t, ids[i]);
        }
    }
    yk_ssd_table_fini(&t);
}

static void full(void **state) {
    (void)state;
    uint32_t id;
    assert_int_equal(yk_ssd_table_init(&t, 100, NULL, 0), 0);
    for (uint32_t i = 0; i <= 100; i++) {
        struct yk_ssd_new n = {.key = &i, .key_len = 4, .hash = yk_hash_key(0, &i, 4)};
        assert_int_equal(yk_ssd_table_add(&t, &n, &id), i < 100 ? 0 : -YK_ELIMIT);
    }
    assert_int_equal(t.count, 100);
    yk_ssd_table_fini(&t);
    char small[128];
    assert_int_equal(yk_ssd_table_init(&t, 100, small, sizeof(small)), -YK_EINVAL);
}

/* ---- memory ------------------------------------------------------------------------------------------ */

#define MANY 1000000u

static void sixty_four_bytes_a_block(void **state) {
    (void)state;
    uint32_t id;
    assert_int_equal(yk_ssd_table_init(&t, MANY + 1000, NULL, 0), 0);
    double worst = 0;
    for (uint32_t i = 0; i < MANY; i++) {
        char key[40];
        uint32_t len = (uint32_t)snprintf(key, sizeof(key), "model/%08x/%u", i * 2654435761u, i);
        struct yk_ssd_new n = {.key = key,
                               .key_len = len,
                               .hash = yk_hash_key(1, key, len),
                               .length_tokens = i % 64 * 16,
                               .model = 7,
                               .ns = 1};
        assert_int_equal(yk_ssd_table_add(&t, &n, &id), 0);
        if (i > MANY / 4) {
            double one = (double)yk_ssd_table_bytes(&t) / (i + 1);
            worst = one > worst ? one : worst;
        }
    }
    print_message("%u blocks: %.2f bytes each beside %.2f of key (%.2f at worst from a quarter of "
                  "that on)\n",
                  MANY, (double)yk_ssd_table_bytes(&t) / MANY, (double)t.cells.used * 8 / MANY,
                  worst);
    assert_true(worst <= 64.0);
    yk_ssd_table_fini(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_the_model),
        cmocka_unit_test(many_attributes),
        cmocka_unit_test(full),
        cmocka_unit_test(sixty_four_bytes_a_block),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
