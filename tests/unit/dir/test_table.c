/* SPDX-License-Identifier: Apache-2.0
 *
 * What an owner knows against a model of it: arrays that are searched from end to end, and a second's thought. Random
 * changes with fixed seeds; after each some of the look-ups, and from time to time everything, must agree. Then what
 * the model does not say: conflicts, limits, memory, walks during growth.
 *
 *     test_table speed [entries]     prints look-ups a second
 */
#include "dir/digest_priv.h"
#include "dir/table.h"
#include "dir_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

enum { KEYS = 60, NAMESPACES = 3, EPOCHS = 2, MEMBERS = 5, GROUPS = 3, ALIAS_EPOCH = 7 };

/* Groups in three slots; a key's own slot may be one of them, as mask says. */
static uint64_t group_of(uint32_t g) {
    return (uint64_t)(g + 1) << 52 | 77u * (g + 1);
}

struct model_copy {
    int there, named; /* named: since the snapshot began */
    uint64_t gen;
    uint8_t tiers;
    uint32_t order; /* of coming */
};

struct model_entry {
    uint64_t sum, len;
    struct model_copy copy[MEMBERS];
};

struct model {
    struct yk_dir_table *table;
    uint64_t seed;
    struct test_key key[KEYS];
    struct model_entry entry[GROUPS][KEYS][EPOCHS];
    struct model_copy alias[GROUPS][KEYS][GROUPS]; /* slot, key, member mod GROUPS: one holder each is enough */
    uint64_t incarnation[GROUPS][MEMBERS];         /* 0: the slot does not know the member */
    int open[GROUPS][MEMBERS];
    uint32_t order;
};

static uint32_t slot_of(uint32_t g) {
    return yk_dir_slot_of(group_of(g));
}

/* The member's own copies of a slot: fn of each. */
static void each_copy(struct model *m, uint32_t g, uint32_t member, void (*fn)(struct model_copy *c)) {
    for (uint32_t k = 0; k < KEYS; k++) {
        for (uint32_t e = 0; e < EPOCHS; e++)
            fn(&m->entry[g][k][e].copy[member]);
        if (member < GROUPS)
            fn(&m->alias[g][k][member]);
    }
}

static void copy_clear(struct model_copy *c) {
    *c = (struct model_copy){0};
}
static void copy_unname(struct model_copy *c) {
    c->named = 0;
}
static void copy_settle(struct model_copy *c) {
    if (!c->named)
        copy_clear(c);
}

/* What the slot does with a sender's incarnation; -YK_ESTALE. */
static int model_life(struct model *m, uint32_t g, uint32_t member, uint64_t incarnation) {
    if (incarnation < m->incarnation[g][member])
        return -YK_ESTALE;
    if (incarnation > m->incarnation[g][member]) {
        each_copy(m, g, member, copy_clear);
        m->open[g][member] = 0;
        m->incarnation[g][member] = incarnation;
    }
    return 0;
}

static int model_add(struct model *m, uint32_t g, uint32_t member, uint64_t incarnation, uint32_t k, uint32_t e,
                     const struct yk_dir_block *b) {
    int rc = model_life(m, g, member, incarnation), others = 0;
    if (rc != 0)
        return rc;
    struct model_entry *entry = &m->entry[g][k][e];
    for (uint32_t i = 0; i < MEMBERS; i++)
        others |= i != member && entry->copy[i].there;
    if (others && (entry->sum != b->sum || entry->len != b->len)) {
        copy_clear(&entry->copy[member]);
        return -YK_ECONFLICT;
    }
    entry->sum = b->sum;
    entry->len = b->len;
    struct model_copy *c = &entry->copy[member];
    uint32_t order = c->there ? c->order : ++m->order;
    *c = (struct model_copy){1, 1, b->gen, b->tiers, order};
    return 0;
}

static int model_drop(struct model *m, uint32_t g, uint32_t member, uint64_t incarnation,
                      struct model_copy *c) {
    int rc = model_life(m, g, member, incarnation);
    if (rc != 0)
        return rc;
    rc = c->there ? 0 : YK_MISS;
    copy_clear(c);
    return rc;
}

static int entry_lives(const struct model_entry *e) {
    for (uint32_t i = 0; i < MEMBERS; i++)
        if (e->copy[i].there)
            return 1;
    return 0;
}

static void check_found(const struct model *m, uint32_t g, const struct model_entry *e,
                        const struct yk_dir_found *f) {
    uint32_t count = 0, before = 0;
    for (uint32_t i = 0; i < MEMBERS; i++)
        count += e->copy[i].there != 0;
    assert_int_equal(f->status, count > 0 ? 0 : YK_MISS);
    if (count == 0)
        return;
    assert_int_equal(f->count, count);
    assert_true(f->sum == e->sum && f->len == e->len && f->group == group_of(g));
    for (uint32_t i = 0; i < f->count; i++) {
        const struct model_copy *c = &e->copy[f->copy[i].member];
        assert_true(c->there && c->gen == f->copy[i].gen && c->tiers == f->copy[i].tiers);
        assert_true(c->order > before); /* the first copies first */
        assert_true(f->copy[i].incarnation == m->incarnation[g][f->copy[i].member]);
        before = c->order;
    }
}

static void check_key(struct model *m, uint32_t g, uint32_t k, uint32_t e) {
    struct yk_dir_found f;
    struct yk_dir_question q = {m->key[k].key, m->key[k].hash, e, group_of(g)};
    yk_dir_table_find(m->table, &q, &f);
    check_found(m, g, &m->entry[g][k][e], &f);
    assert_true(f.status != 0 || f.epoch == e);
}

/* Aliases stand in the slot of the key's hash: in the tests that is made one of the groups' by their hash. */
static uint64_t alias_hash(const struct model *m, uint32_t g, uint32_t k) {
    return (uint64_t)(g + 1) << 52 | (m->key[k].hash & 0xfffffffffffffull);
}
static uint64_t alias_group(uint32_t g, uint32_t k) {
    return group_of((g + 1 + k % 2) % GROUPS);
}

static void check_alias(struct model *m, uint32_t g, uint32_t k) {
    struct yk_dir_found f;
    struct yk_dir_question q = {m->key[k].key, alias_hash(m, g, k), ALIAS_EPOCH, 0};
    int there = 0;
    for (uint32_t i = 0; i < GROUPS; i++)
        there |= m->alias[g][k][i].there;
    yk_dir_table_find(m->table, &q, &f);
    assert_int_equal(f.status, there ? -YK_EAGAIN : YK_MISS);
    if (there)
        assert_true(f.group == alias_group(g, k) && f.sum == k);
}

static void check_share(struct model *m, uint32_t g, uint32_t member) {
    struct yk_dir_share want = {.incarnation = m->incarnation[g][member]}, is;
    for (uint32_t k = 0; k < KEYS; k++) {
        for (uint32_t e = 0; e < EPOCHS; e++) {
            const struct model_copy *c = &m->entry[g][k][e].copy[member];
            want.copies += c->there != 0;
            want.digest += c->there ? yk_digest_copy(m->key[k].hash, c->gen, c->tiers) : 0;
        }
        if (member < GROUPS && m->alias[g][k][member].there) {
            want.aliases++;
            want.digest += yk_digest_alias(alias_hash(m, g, k), ALIAS_EPOCH, alias_group(g, k), k);
        }
    }
    int rc = yk_dir_table_share(m->table, slot_of(g), member, &is);
    assert_int_equal(rc, want.incarnation != 0 ? 0 : YK_MISS);
    if (rc == 0)
        assert_memory_equal(&want, &is, sizeof(is));
}

struct walked {
    uint32_t entries, aliases;
};

static void walked_one(void *arg, const struct yk_dir_table_item *item) {
    struct walked *w = arg;
    assert_int_equal(item->found.status, item->key.key != NULL ? 0 : -YK_EAGAIN);
    w->entries += item->key.key != NULL;
    w->aliases += item->key.key == NULL;
}

static void check_slot(struct model *m, uint32_t g) {
    struct walked want = {0}, is = {0};
    uint64_t cursor = 0;
    for (uint32_t k = 0; k < KEYS; k++) {
        for (uint32_t e = 0; e < EPOCHS; e++) {
            check_key(m, g, k, e);
            want.entries += (uint32_t)entry_lives(&m->entry[g][k][e]);
        }
        check_alias(m, g, k);
        want.aliases += m->alias[g][k][0].there || m->alias[g][k][1].there || m->alias[g][k][2].there;
    }
    while (yk_dir_table_walk(m->table, slot_of(g), &cursor, 5, walked_one, &is))
        ;
    assert_memory_equal(&want, &is, sizeof(is)); /* nothing changed meanwhile: once each */
    for (uint32_t member = 0; member < MEMBERS; member++)
        check_share(m, g, member);
}

/* After the sweep the counts are those of what lives. */
static void check_all(struct model *m) {
    struct yk_dir_load total, sum = {0}, want = {0};
    uint32_t rounds = 0;
    while (yk_dir_table_sweep(m->table, 64))
        assert_true(++rounds < 100000);
    for (uint32_t g = 0; g < GROUPS; g++) {
        struct yk_dir_load load;
        check_slot(m, g);
        yk_dir_table_load(m->table, slot_of(g), &load);
        sum.entries += load.entries;
        sum.aliases += load.aliases;
        sum.bytes += load.bytes;
        for (uint32_t k = 0; k < KEYS; k++) {
            for (uint32_t e = 0; e < EPOCHS; e++)
                if (entry_lives(&m->entry[g][k][e])) {
                    want.entries++;
                    want.bytes += m->entry[g][k][e].len;
                }
            want.aliases += m->alias[g][k][0].there || m->alias[g][k][1].there || m->alias[g][k][2].there;
        }
    }
    yk_dir_table_total(m->table, &total);
    assert_memory_equal(&total, &sum, sizeof(sum));
    assert_memory_equal(&total, &want, sizeof(want));
}

static void step_block(struct model *m, uint32_t g, uint32_t member, uint64_t incarnation) {
    uint32_t k = random_below(&m->seed, KEYS), e = random_below(&m->seed, EPOCHS);
    if (random_below(&m->seed, 3) == 0) {
        int want = model_drop(m, g, member, incarnation, &m->entry[g][k][e].copy[member]);
        assert_int_equal(yk_dir_table_drop(m->table, slot_of(g), member, incarnation, &m->key[k].key,
                                           m->key[k].hash, e),
                         want);
    } else {
        struct yk_dir_block b = {.key = m->key[k].key,
                                 .group = group_of(g),
                                 .epoch = e,
                                 .gen = random_next(&m->seed),
                                 .len = 100 + k,
                                 .sum = random_below(&m->seed, 20) == 0,
                                 .tiers = (uint8_t)(1 + random_below(&m->seed, 3))};
        int want = model_add(m, g, member, incarnation, k, e, &b);
        assert_int_equal(yk_dir_table_add(m->table, slot_of(g), member, incarnation, &b, m->key[k].hash), want);
    }
    check_key(m, g, k, e);
}

static void step_alias(struct model *m, uint32_t g, uint32_t member, uint64_t incarnation) {
    uint32_t k = random_below(&m->seed, KEYS);
    uint64_t hash = alias_hash(m, g, k);
    if (member >= GROUPS)
        return;
    if (random_below(&m->seed, 3) == 0) {
        int want = model_drop(m, g, member, incarnation, &m->alias[g][k][member]);
        assert_int_equal(yk_dir_table_alias_drop(m->table, slot_of(g), member, incarnation, hash, ALIAS_EPOCH,
                                                 alias_group(g, k), k),
                         want);
    } else {
        int want = model_life(m, g, member, incarnation);
        if (want == 0)
            m->alias[g][k][member] = (struct model_copy){.there = 1, .named = 1};
        assert_int_equal(yk_dir_table_alias_add(m->table, slot_of(g), member, incarnation, hash, ALIAS_EPOCH,
                                                alias_group(g, k), k),
                         want);
    }
    check_alias(m, g, k);
}

static void step_snapshot(struct model *m, uint32_t g, uint32_t member, uint64_t incarnation) {
    uint32_t slot = slot_of(g), what = random_below(&m->seed, 4);
    int open = m->open[g][member] && incarnation == m->incarnation[g][member];
    if (!m->open[g][member] || what == 0) {
        int want = model_life(m, g, member, incarnation);
        assert_int_equal(yk_dir_table_snapshot_begin(m->table, slot, member, incarnation), want);
        if (want == 0) {
            each_copy(m, g, member, copy_unname);
            m->open[g][member] = 1;
        }
        return;
    }
    int rc = what == 1 ? yk_dir_table_snapshot_abort(m->table, slot, member, incarnation)
                       : yk_dir_table_snapshot_end(m->table, slot, member, incarnation);
    assert_int_equal(rc, open ? 0 : incarnation < m->incarnation[g][member] ? -YK_ESTALE : -YK_ENOENT);
    if (open && what != 1)
        each_copy(m, g, member, copy_settle);
    if (open)
        m->open[g][member] = 0;
}

static void model_forget(struct model *m, uint32_t g, uint32_t member, uint64_t below) {
    if (m->incarnation[g][member] == 0 || m->incarnation[g][member] >= below)
        return;
    each_copy(m, g, member, copy_clear);
    m->incarnation[g][member] = 0;
    m->open[g][member] = 0;
}

static void step_forget(struct model *m, uint32_t g, uint32_t member) {
    uint64_t below = random_below(&m->seed, 2) ? UINT64_MAX : m->incarnation[g][member];
    switch (random_below(&m->seed, 3)) {
    case 0:
        yk_dir_table_forget(m->table, slot_of(g), member, below);
        model_forget(m, g, member, below);
        return;
    case 1:
        yk_dir_table_forget_all(m->table, member, below);
        for (uint32_t i = 0; i < GROUPS; i++)
            model_forget(m, i, member, below);
        return;
    default:
        if (random_below(&m->seed, 4) != 0)
            return;
        yk_dir_table_drop_slot(m->table, slot_of(g));
        for (uint32_t i = 0; i < MEMBERS; i++)
            model_forget(m, g, i, UINT64_MAX);
    }
}

static void step(struct model *m) {
    uint32_t g = random_below(&m->seed, GROUPS), member = random_below(&m->seed, MEMBERS);
    uint64_t incarnation = m->incarnation[g][member] == 0 ? 5 : m->incarnation[g][member];
    uint32_t luck = random_below(&m->seed, 200);
    if (luck == 0)
        incarnation++;
    else if (luck == 1)
        incarnation--;
    uint32_t what = random_below(&m->seed, 100);
    if (what < 70)
        step_block(m, g, member, incarnation);
    else if (what < 92)
        step_alias(m, g, member, incarnation);
    else if (what < 99)
        step_snapshot(m, g, member, incarnation);
    else
        step_forget(m, g, member);
    if (random_below(&m->seed, 3) == 0)
        yk_dir_table_sweep(m->table, 3);
}

static void behaves_as_the_model(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct model *m = calloc(1, sizeof(*m));
        assert_non_null(m);
        m->seed = seed * 7919;
        assert_int_equal(yk_dir_table_open(64u << 20, &m->table), 0);
        for (uint32_t k = 0; k < KEYS; k++)
            key_make(&m->key[k], k, NAMESPACES);
        for (uint32_t i = 0; i < 40000; i++) {
            step(m);
            if (i % 1000 == 0)
                check_slot(m, random_below(&m->seed, GROUPS)); /* before a sweep */
            if (i % 2000 == 0)
                check_all(m);
        }
        check_all(m);
        yk_dir_table_close(m->table);
        free(m);
    }
}

/* ---- one at a time ------------------------------------------------------------------------------ */

static struct yk_dir_table *table_new(uint64_t max) {
    struct yk_dir_table *t = NULL;
    assert_int_equal(yk_dir_table_open(max, &t), 0);
    return t;
}

static struct yk_dir_block block_of(const struct test_key *k, uint64_t group) {
    return (struct yk_dir_block){
        .key = k->key, .group = group, .epoch = 1, .gen = 9, .len = 1000, .sum = 5, .tiers = 1};
}

static struct yk_dir_found look(const struct yk_dir_table *t, const struct test_key *k, uint64_t group) {
    struct yk_dir_found f;
    struct yk_dir_question q = {k->key, k->hash, 1, group};
    yk_dir_table_find(t, &q, &f);
    return f;
}

static void the_first_content_stays(void **state) {
    (void)state;
    struct yk_dir_table *t = table_new(1u << 20);
    struct test_key k;
    key_make(&k, 1, 1);
    uint32_t slot = yk_dir_slot_of(k.hash);
    struct yk_dir_block first = block_of(&k, k.hash), other = first;
    other.sum = 6;
    assert_int_equal(yk_dir_table_add(t, slot, 1, 1, &first, k.hash), 0);
    assert_int_equal(yk_dir_table_add(t, slot, 2, 1, &other, k.hash), -YK_ECONFLICT);
    struct yk_dir_found f = look(t, &k, 0);
    assert_true(f.status == 0 && f.count == 1 && f.copy[0].member == 1 && f.sum == 5);
    /* Who alone has it may replace it. */
    assert_int_equal(yk_dir_table_add(t, slot, 1, 1, &other, k.hash), 0);
    assert_int_equal(yk_dir_table_add(t, slot, 2, 1, &other, k.hash), 0);
    f = look(t, &k, 0);
    assert_true(f.count == 2 && f.sum == 6);
    /* One of two that comes with other bytes has not the old ones any more. */
    assert_int_equal(yk_dir_table_add(t, slot, 1, 1, &first, k.hash), -YK_ECONFLICT);
    f = look(t, &k, 0);
    assert_true(f.count == 1 && f.copy[0].member == 2 && f.sum == 6);
    /* The first is gone with its member, and does not stand in the way before it is swept. */
    yk_dir_table_forget_all(t, 2, UINT64_MAX);
    assert_int_equal(look(t, &k, 0).status, YK_MISS);
    assert_int_equal(yk_dir_table_add(t, slot, 3, 1, &first, k.hash), 0);
    f = look(t, &k, 0);
    assert_true(f.count == 1 && f.copy[0].member == 3 && f.sum == 5);
    yk_dir_table_close(t);
}

static void keys_are_compared_whole(void **state) {
    (void)state;
    struct yk_dir_table *t = table_new(1u << 20);
    struct test_key a, b;
    key_make(&a, 1, 1);
    key_make(&b, 2, 1);
    b.hash = a.hash;
    struct yk_dir_block block = block_of(&a, a.hash);
    assert_int_equal(yk_dir_table_add(t, yk_dir_slot_of(a.hash), 1, 1, &block, a.hash), 0);
    assert_int_equal(look(t, &a, 0).status, 0);
    assert_int_equal(look(t, &b, 0).status, YK_MISS);
    b = a;
    b.key.ns = "other";
    b.key.ns_len = 5;
    assert_int_equal(look(t, &b, 0).status, YK_MISS);
    yk_dir_table_close(t);
}

/* An entry, where there is one, is the better answer than an alias; a question with a group gets no alias. */
static void an_alias_is_second(void **state) {
    (void)state;
    struct yk_dir_table *t = table_new(1u << 20);
    struct test_key k;
    key_make(&k, 1, 1);
    uint32_t slot = yk_dir_slot_of(k.hash);
    uint64_t group = k.hash ^ 1ull << 60;
    assert_int_equal(yk_dir_table_alias_add(t, slot, 1, 1, k.hash, 1, group, 5), 0);
    struct yk_dir_found f = look(t, &k, 0);
    assert_true(f.status == -YK_EAGAIN && f.group == group);
    assert_int_equal(look(t, &k, k.hash).status, YK_MISS);
    struct yk_dir_block block = block_of(&k, k.hash);
    assert_int_equal(yk_dir_table_add(t, slot, 2, 1, &block, k.hash), 0);
    assert_int_equal(look(t, &k, 0).status, 0);
    assert_int_equal(yk_dir_table_drop(t, slot, 2, 1, &k.key, k.hash, 1), 0);
    assert_int_equal(look(t, &k, 0).status, -YK_EAGAIN);
    yk_dir_table_close(t);
}

/* R8 over groups: copies of one key with other bytes, one below its own root, one below another, or both below others.
 * Who came first stays; another epoch, the same bytes, or the same member is no conflict. */
static void other_bytes_in_another_group_are_a_conflict(void **state) {
    (void)state;
    struct yk_dir_table *t = table_new(1u << 20);
    struct test_key k;
    key_make(&k, 1, 1);
    uint32_t slot = yk_dir_slot_of(k.hash);
    uint64_t one = k.hash ^ 1ull << 60, two = k.hash ^ 1ull << 61;
    struct yk_dir_block own = block_of(&k, k.hash);
    assert_int_equal(yk_dir_table_alias_add(t, slot, 1, 1, k.hash, 1, one, 7), 0);
    assert_int_equal(yk_dir_table_alias_add(t, slot, 2, 1, k.hash, 1, two, 7), 0);
    assert_int_equal(yk_dir_table_alias_add(t, slot, 2, 1, k.hash, 2, two, 8), 0);
    assert_int_equal(yk_dir_table_alias_add(t, slot, 3, 1, k.hash, 1, two, 8), -YK_ECONFLICT);
    assert_int_equal(yk_dir_table_add(t, slot, 3, 1, &own, k.hash), -YK_ECONFLICT); /* sum 5 */
    struct yk_dir_load load;
    yk_dir_table_load(t, slot, &load);
    assert_int_equal(load.entries, 0);
    assert_int_equal(load.aliases, 3);
    /* In one group the owner of its slot judges, which alone knows both. */
    assert_int_equal(yk_dir_table_alias_drop(t, slot, 2, 1, k.hash, 1, two, 7), 0);
    assert_int_equal(yk_dir_table_alias_add(t, slot, 3, 1, k.hash, 1, one, 8), 0);
    assert_int_equal(yk_dir_table_alias_drop(t, slot, 3, 1, k.hash, 1, one, 8), 0);
    /* A member that has put other bytes in place of its own is in nobody's way. */
    assert_int_equal(yk_dir_table_alias_add(t, slot, 1, 1, k.hash, 1, two, 9), 0);
    yk_dir_table_forget(t, slot, 1, UINT64_MAX);
    assert_int_equal(yk_dir_table_add(t, slot, 3, 1, &own, k.hash), 0);
    assert_int_equal(yk_dir_table_alias_add(t, slot, 2, 1, k.hash, 1, one, 7), -YK_ECONFLICT);
    assert_int_equal(yk_dir_table_alias_add(t, slot, 2, 1, k.hash, 1, one, own.sum), 0);
    yk_dir_table_close(t);
}

static void nonsense_is_refused(void **state) {
    (void)state;
    struct yk_dir_table *t = table_new(1u << 20);
    struct test_key k;
    key_make(&k, 1, 1);
    uint32_t slot = yk_dir_slot_of(k.hash);
    struct yk_dir_block b = block_of(&k, k.hash);
    assert_int_equal(yk_dir_table_add(t, slot ^ 1u, 1, 1, &b, k.hash), -YK_EINVAL);
    assert_int_equal(yk_dir_table_add(t, YK_DIR_SLOTS, 1, 1, &b, k.hash), -YK_EINVAL);
    b.tiers = 0;
    assert_int_equal(yk_dir_table_add(t, slot, 1, 1, &b, k.hash), -YK_EINVAL);
    b.tiers = 1;
    b.key.key_len = 0;
    assert_int_equal(yk_dir_table_add(t, slot, 1, 1, &b, k.hash), -YK_EINVAL);
    assert_int_equal(yk_dir_table_alias_add(t, slot, 1, 1, k.hash, 1, k.hash, 1), -YK_EINVAL);
    assert_int_equal(yk_dir_table_alias_add(t, slot ^ 1u, 1, 1, k.hash, 1, 7, 1), -YK_EINVAL);
    assert_int_equal(yk_dir_table_drop(t, YK_DIR_SLOTS, 1, 1, &k.key, k.hash, 1), -YK_EINVAL);
    assert_int_equal(yk_dir_table_snapshot_begin(t, YK_DIR_SLOTS, 1, 1), -YK_EINVAL);
    assert_int_equal(yk_dir_table_snapshot_end(t, slot, 1, 1), -YK_ENOENT);
    assert_int_equal(yk_dir_table_open(1, &t), -YK_EINVAL);
    yk_dir_table_close(t);
}

static void limits_hold(void **state) {
    (void)state;
    struct yk_dir_table *t = table_new(1u << 20);
    struct test_key k;
    /* More copies than are kept; a look-up tells some. */
    key_make(&k, 1, 1);
    struct yk_dir_block b = block_of(&k, k.hash);
    for (uint32_t member = 1; member <= YK_DIR_TABLE_COPIES + 1; member++)
        assert_int_equal(yk_dir_table_add(t, yk_dir_slot_of(k.hash), member, 1, &b, k.hash),
                         member <= YK_DIR_TABLE_COPIES ? 0 : -YK_ELIMIT);
    assert_int_equal(look(t, &k, 0).count, YK_DIR_COPIES_MAX);
    for (uint32_t member = 1; member < YK_DIR_TABLE_COPIES; member++)
        assert_int_equal(yk_dir_table_drop(t, yk_dir_slot_of(k.hash), member, 1, &k.key, k.hash, 1), 0);
    assert_int_equal(look(t, &k, 0).copy[0].member, YK_DIR_TABLE_COPIES);
    /* Memory; what was refused can be had when something has gone. */
    uint32_t n = 2;
    int rc = 0;
    for (; rc == 0 && n < 100000; n++) {
        key_make(&k, n, 1);
        b = block_of(&k, k.hash);
        rc = yk_dir_table_add(t, yk_dir_slot_of(k.hash), 1, 1, &b, k.hash);
    }
    assert_int_equal(rc, -YK_ELIMIT);
    assert_in_range(n, 2000, 20000);
    yk_dir_table_forget_all(t, 1, UINT64_MAX);
    while (yk_dir_table_sweep(t, 1000))
        ;
    assert_int_equal(yk_dir_table_add(t, yk_dir_slot_of(k.hash), 1, 1, &b, k.hash), 0);
    yk_dir_table_close(t);
    /* Keys made to fall together. */
    t = table_new(1u << 20);
    rc = 0;
    for (n = 0; rc == 0 && n < 1000; n++) {
        key_make(&k, n, 1);
        b = block_of(&k, 42);
        rc = yk_dir_table_add(t, 0, 1, 1, &b, 42);
    }
    assert_int_equal(rc, -YK_ELIMIT);
    assert_in_range(n, 32, 128);
    /* Of those that are gone and not swept yet none is in the way. */
    yk_dir_table_forget(t, 0, 1, UINT64_MAX);
    assert_int_equal(yk_dir_table_add(t, 0, 2, 1, &b, 42), 0);
    yk_dir_table_forget(t, 0, 2, UINT64_MAX);
    for (rc = 0, n = 0; rc == 0 && n < 1000; n++)
        rc = yk_dir_table_alias_add(t, 0, 3, 1, 42, n, 1ull << 60, 7);
    assert_int_equal(rc, -YK_ELIMIT);
    yk_dir_table_forget(t, 0, 3, UINT64_MAX);
    assert_int_equal(yk_dir_table_alias_add(t, 0, 4, 1, 42, n, 1ull << 60, 7), 0);
    yk_dir_table_close(t);
}

/* What is there from the beginning to the end of a walk is told, however the index grows meanwhile. */
static void seen_one(void *arg, const struct yk_dir_table_item *item) {
    uint32_t n;
    assert_int_equal(sscanf(item->key.key, "key-%u", &n), 1);
    ((unsigned char *)arg)[n] = 1;
}

static void a_walk_misses_nothing(void **state) {
    (void)state;
    static unsigned char seen[40000];
    struct yk_dir_table *t = table_new(16u << 20);
    struct test_key k;
    uint64_t cursor = 0, group = 99;
    uint32_t n = 0, more = 1;
    memset(seen, 0, sizeof(seen));
    for (uint32_t to = 1000; more; to += 10) {
        for (; n < to && n < 40000; n++) {
            key_make(&k, n, 1);
            struct yk_dir_block b = block_of(&k, group);
            assert_int_equal(yk_dir_table_add(t, 0, 1, 1, &b, k.hash), 0);
        }
        more = (uint32_t)yk_dir_table_walk(t, 0, &cursor, 20, seen_one, seen);
    }
    assert_true(n > 1500);
    for (uint32_t i = 0; i < 1000; i++)
        assert_true(seen[i]);
    yk_dir_table_close(t);
}

/* find_many gives what find gives, hits and misses, entries and aliases. */
static void many_are_as_one(void **state) {
    (void)state;
    struct yk_dir_table *t = table_new(16u << 20);
    static struct test_key keys[3000];
    static struct yk_dir_question q[3000];
    static struct yk_dir_found found[3000];
    uint64_t seed = 3;
    for (uint32_t i = 0; i < 3000; i++) {
        key_make(&keys[i], i, 5);
        uint64_t group = i % 3 == 0 ? keys[i].hash : (uint64_t)(1 + i % 3) << 52;
        struct yk_dir_block b = block_of(&keys[i], group);
        if (i % 7 != 0)
            assert_int_equal(yk_dir_table_add(t, yk_dir_slot_of(group), 1, 1, &b, keys[i].hash), 0);
        if (i % 7 != 0 && i % 3 != 0 && yk_dir_slot_of(keys[i].hash) != yk_dir_slot_of(group))
            assert_int_equal(yk_dir_table_alias_add(t, yk_dir_slot_of(keys[i].hash), 1, 1, keys[i].hash, 1, group,
                                                    5),
                             0);
        q[i] = (struct yk_dir_question){keys[i].key, keys[i].hash, 1, i % 2 ? group : 0};
    }
    for (uint32_t n = 0; n < 3000; n = n * 2 + random_below(&seed, 3)) {
        memset(found, 0xee, sizeof(found));
        yk_dir_table_find_many(t, q, n, found);
        for (uint32_t i = 0; i < n; i++) {
            struct yk_dir_found one;
            yk_dir_table_find(t, &q[i], &one);
            assert_int_equal(one.status, found[i].status);
            if (one.status != YK_MISS)
                assert_true(one.group == found[i].group && one.count == found[i].count);
        }
        n += n == 0;
    }
    yk_dir_table_close(t);
}

/* What table.h says of memory, and that it comes back. */
static void memory_is_as_said(void **state) {
    (void)state;
    enum { N = 400000 };
    struct yk_dir_table *t = table_new(0);
    uint64_t empty = yk_dir_table_memory(t), keys = 0;
    char key[33];
    for (uint32_t i = 0; i < N; i++) {
        snprintf(key, sizeof(key), "%032u", i);
        uint64_t hash = yk_hash64(key, 32), group = hash;
        struct yk_dir_block b = {.key = {"ns", 2, key, 32}, .group = group, .gen = i, .len = 1, .tiers = 1};
        assert_int_equal(yk_dir_table_add(t, yk_dir_slot_of(group), 1, 1, &b, hash), 0);
        keys += 32;
    }
    uint64_t full = yk_dir_table_memory(t);
    double each = (double)(full - empty - keys) / N;
    printf("bytes an entry beside its key of 32 bytes: %.1f\n", each);
    /* Slots with a hundred entries each: their own structures weigh more than they would. */
    assert_true(each <= 70);
    for (uint32_t slot = 0; slot < YK_DIR_SLOTS; slot++)
        yk_dir_table_drop_slot(t, slot);
    assert_true(yk_dir_table_memory(t) >= keys); /* nothing is done at once */
    while (yk_dir_table_sweep(t, 1000))
        ;
    assert_true(yk_dir_table_memory(t) < empty + (5u << 20));
    yk_dir_table_close(t);
}

/* One slot that gets nearly all: nothing depends on slots being alike. */
static void one_slot_may_have_all(void **state) {
    (void)state;
    enum { N = 200000 };
    struct yk_dir_table *t = table_new(0);
    char key[33];
    uint64_t empty = yk_dir_table_memory(t);
    for (uint32_t i = 0; i < N; i++) {
        snprintf(key, sizeof(key), "%032u", i);
        struct yk_dir_block b = {.key = {"ns", 2, key, 32}, .group = 1, .gen = i, .len = 1, .tiers = 1};
        assert_int_equal(yk_dir_table_add(t, 0, 1, 1, &b, yk_hash64(key, 32)), 0);
    }
    double each = (double)(yk_dir_table_memory(t) - empty) / N - 32;
    printf("bytes an entry beside its key of 32 bytes, in one slot: %.1f\n", each);
    assert_true(each <= 64);
    yk_dir_table_close(t);
}

/* ---- speed, when asked for ---------------------------------------------------------------------- */

/* Of this thread: the machine may be shared. */
static uint64_t cpu_ns(void) {
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static int speed(uint32_t n) {
    enum { BATCH = 256 };
    struct yk_dir_table *t = table_new(0);
    char(*keys)[32] = malloc((size_t)n * 32);
    struct yk_dir_question *q = malloc((size_t)n * sizeof(*q));
    static struct yk_dir_found found[BATCH];
    if (keys == NULL || q == NULL)
        return 1;
    for (uint32_t i = 0; i < n; i++) {
        char text[40];
        snprintf(text, sizeof(text), "%032u", i);
        memcpy(keys[i], text, 32);
        uint64_t hash = yk_hash64(keys[i], 32);
        q[i] = (struct yk_dir_question){{"ns", 2, keys[i], 32}, hash, 0, 0};
        struct yk_dir_block b = {.key = q[i].key, .group = hash, .gen = i, .len = 1, .tiers = 1};
        yk_dir_table_add(t, yk_dir_slot_of(hash), 1 + i % 8, 1, &b, hash);
    }
    /* Asked in another order than they were put; keys lie one after the other, as in a message. */
    for (uint32_t i = 0; i < n; i++) {
        char text[40];
        snprintf(text, sizeof(text), "%032u", (uint32_t)((uint64_t)i * 2654435761u % n));
        memcpy(keys[i], text, 32);
        q[i].hash = yk_hash64(keys[i], 32);
    }
    uint64_t t0 = cpu_ns();
    for (uint32_t i = 0; i < n; i++)
        yk_dir_table_find(t, &q[i], &found[0]);
    uint64_t t1 = cpu_ns();
    uint64_t hits = 0;
    for (uint32_t i = 0; i + BATCH <= n; i += BATCH) {
        yk_dir_table_find_many(t, &q[i], BATCH, found);
        hits += found[0].status == 0;
    }
    uint64_t t2 = cpu_ns();
    printf("%u entries: one by one %.1f M/s, in batches of %d %.1f M/s (%llu hits)\n", n, n * 1e3 / (double)(t1 - t0),
           BATCH, n * 1e3 / (double)(t2 - t1), (unsigned long long)hits);
    yk_dir_table_close(t);
    free(q);
    free(keys);
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "speed") == 0)
        return speed(argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 1000000);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(behaves_as_the_model),    cmocka_unit_test(the_first_content_stays),
        cmocka_unit_test(keys_are_compared_whole), cmocka_unit_test(an_alias_is_second),
        cmocka_unit_test(other_bytes_in_another_group_are_a_conflict),
        cmocka_unit_test(nonsense_is_refused),     cmocka_unit_test(limits_hold),
        cmocka_unit_test(a_walk_misses_nothing),   cmocka_unit_test(many_are_as_one),
        cmocka_unit_test(memory_is_as_said),       cmocka_unit_test(one_slot_may_have_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
