/* SPDX-License-Identifier: Apache-2.0
 *
 * What a node holds, against an array of what it was told; and what it tells owners, against a table (table.h) that
 * is told it: batches that come late, twice or never, confirmations that lag, snapshots during changes, new
 * incarnations. Whenever a slot's owner has caught up, its share and the node's load are the same, digest
 * included, and at the end the owner knows every block as it is and no other.
 */
#include "dir/held.h"
#include "dir/table.h"
#include "dir_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { KEYS = 40, EPOCHS = 2, SLOTS = 4, MEMBER = 3, BATCH = 16 };

/* What the owner of a slot knows of the node besides the table. */
struct owner {
    uint64_t have;    /* all changes up to it */
    int synced;       /* has had a snapshot in this incarnation */
    int open;         /* a snapshot is under way: */
    uint64_t at;      /* its number */
    uint64_t cursor;
};

struct sim {
    struct yk_dir_held *held;
    struct yk_dir_table *table;
    uint64_t seed, incarnation;
    struct test_key key[KEYS];
    struct yk_dir_block truth[KEYS][EPOCHS]; /* tiers 0: not held */
    struct owner owner[SLOTS];
    uint32_t elided, caught_up, snapshots, lost;
};

/* Keys and groups live in a few slots; some keys have the same hash, which aliases cannot tell apart. */
static void sim_keys(struct sim *s) {
    for (uint32_t k = 0; k < KEYS; k++) {
        key_make(&s->key[k], k, 2);
        uint64_t low = k % 5 == 1 ? 4242 : s->key[k].hash & 0xfffffffffffffull;
        s->key[k].hash = (uint64_t)(k % SLOTS) << 52 | low;
    }
}

static uint64_t sim_group(struct sim *s, uint32_t k) {
    return random_below(&s->seed, 2) ? s->key[k].hash
                                     : (uint64_t)random_below(&s->seed, SLOTS) << 52 | random_below(&s->seed, 2);
}

static void sim_change(struct sim *s) {
    uint32_t k = random_below(&s->seed, KEYS), e = random_below(&s->seed, EPOCHS), slots[2];
    struct yk_dir_block *truth = &s->truth[k][e], b = *truth, is;
    b.key = s->key[k].key;
    b.epoch = e;
    if (random_below(&s->seed, 2) == 0)
        b.tiers = 0;
    else if (b.tiers == 0 || random_below(&s->seed, 3) == 0) {
        b.group = sim_group(s, k);
        b.gen = random_next(&s->seed);
        b.sum = random_below(&s->seed, 2);
        b.len = 10 + random_below(&s->seed, 3);
        b.tiers = 1;
    } else {
        b.tiers = (uint8_t)(1 + random_below(&s->seed, 3));
    }
    int rc = yk_dir_held_set(s->held, &b, s->key[k].hash, slots);
    assert_int_equal(rc, truth->tiers == 0 && b.tiers == 0 ? YK_MISS : 0);
    if (truth->tiers == 0 && b.tiers == 0)
        assert_true(slots[0] == 0xffffffffu && slots[1] == 0xffffffffu);
    *truth = b;
    rc = yk_dir_held_find(s->held, &b.key, s->key[k].hash, e, &is);
    assert_int_equal(rc, b.tiers != 0);
    if (rc) {
        assert_true(is.group == b.group && is.gen == b.gen && is.sum == b.sum && is.len == b.len &&
                    is.tiers == b.tiers && is.epoch == e);
        assert_true(slots[0] == 0xffffffffu || slots[0] < SLOTS);
    }
}

static void is_published(void *arg, const uint32_t *slots) {
    (void)arg;
    assert_true(slots[0] < SLOTS);
}

/* All that is held of a key in other epochs goes. */
static void sim_only(struct sim *s) {
    uint32_t k = random_below(&s->seed, KEYS), e = random_below(&s->seed, EPOCHS);
    yk_dir_held_only(s->held, &s->key[k].key, s->key[k].hash, e, is_published, NULL);
    for (uint32_t other = 0; other < EPOCHS; other++) {
        if (other == e)
            continue;
        s->truth[k][other].tiers = 0;
        assert_int_equal(yk_dir_held_find(s->held, &s->key[k].key, s->key[k].hash, other, NULL), 0);
    }
    assert_int_equal(yk_dir_held_find(s->held, &s->key[k].key, s->key[k].hash, e, NULL), s->truth[k][e].tiers != 0);
}

static void owner_apply(struct sim *s, uint32_t slot, const struct yk_dir_item *i) {
    int rc;
    if (i->alias && i->block.tiers != 0)
        rc = yk_dir_table_alias_add(s->table, slot, MEMBER, s->incarnation, i->hash, i->block.epoch, i->block.group,
                                    i->block.sum);
    else if (i->alias)
        rc = yk_dir_table_alias_drop(s->table, slot, MEMBER, s->incarnation, i->hash, i->block.epoch, i->block.group,
                                     i->block.sum);
    else if (i->block.tiers != 0)
        rc = yk_dir_table_add(s->table, slot, MEMBER, s->incarnation, &i->block, i->hash);
    else
        rc = yk_dir_table_drop(s->table, slot, MEMBER, s->incarnation, &i->block.key, i->hash, i->block.epoch);
    assert_in_range(rc, 0, YK_MISS);
}

static void check_caught_up(struct sim *s, uint32_t slot) {
    struct yk_dir_held_load load;
    struct yk_dir_share share = {0};
    yk_dir_held_load(s->held, slot, &load);
    if (yk_dir_table_share(s->table, slot, MEMBER, &share) != 0)
        share = (struct yk_dir_share){0};
    assert_true(share.copies == load.entries && share.aliases == load.aliases && share.digest == load.digest);
    s->caught_up++;
}

/* A batch from somewhere between what is confirmed and what the owner has: sent again, or new, or lost. */
static void sim_batch(struct sim *s, uint32_t slot) {
    struct owner *o = &s->owner[slot];
    struct yk_dir_item items[BATCH];
    struct yk_dir_stream stream;
    yk_dir_held_stream(s->held, slot, &stream);
    if (!o->synced || o->open)
        return;
    uint64_t from = o->have, to;
    if (stream.confirmed < o->have && random_below(&s->seed, 3) == 0)
        from = stream.confirmed + random_below(&s->seed, (uint32_t)(o->have - stream.confirmed));
    int n = yk_dir_held_batch(s->held, slot, from, items, 1 + random_below(&s->seed, BATCH), &to);
    if (n == -YK_ESTALE) {
        assert_true(stream.snapshot || from < stream.confirmed);
        o->synced = 0;
        s->lost++;
        return;
    }
    assert_true(n >= 0 && to >= from && to <= stream.seq);
    s->elided += (uint32_t)(to - from) > (uint32_t)n;
    if (random_below(&s->seed, 4) == 0 || to <= o->have)
        return; /* lost; or nothing new */
    for (int i = 0; i < n; i++)
        owner_apply(s, slot, &items[i]);
    o->have = to;
    if (to == stream.seq)
        check_caught_up(s, slot);
}

static void sim_snapshot(struct sim *s, uint32_t slot) {
    struct owner *o = &s->owner[slot];
    struct yk_dir_item items[YK_DIR_HELD_PIECE_MIN];
    int more;
    if (!o->open) {
        if (o->synced && random_below(&s->seed, 30) != 0)
            return;
        yk_dir_held_snapshot(s->held, slot, &o->at);
        assert_int_equal(yk_dir_table_snapshot_begin(s->table, slot, MEMBER, s->incarnation), 0);
        o->open = 1;
        o->cursor = 0;
        return;
    }
    int n = yk_dir_held_piece(s->held, slot, &o->cursor, items, YK_DIR_HELD_PIECE_MIN, &more);
    assert_true(n >= 0);
    for (int i = 0; i < n; i++) {
        assert_true(items[i].block.tiers != 0);
        owner_apply(s, slot, &items[i]);
    }
    if (more)
        return;
    assert_int_equal(yk_dir_table_snapshot_end(s->table, slot, MEMBER, s->incarnation), 0);
    o->open = 0;
    o->synced = 1;
    o->have = o->at;
    s->snapshots++;
}

static void sim_confirm(struct sim *s, uint32_t slot) {
    struct owner *o = &s->owner[slot];
    if (o->synced && !o->open && o->have > 0)
        yk_dir_held_confirm(s->held, slot, o->have - random_below(&s->seed, 2));
}

static void sim_restart(struct sim *s) {
    yk_dir_held_restart(s->held);
    s->incarnation++;
    memset(s->owner, 0, sizeof(s->owner));
}

static void sim_step(struct sim *s) {
    uint32_t what = random_below(&s->seed, 1000), slot = random_below(&s->seed, SLOTS);
    if (what < 570)
        sim_change(s);
    else if (what < 600)
        sim_only(s);
    else if (what < 750)
        sim_batch(s, slot);
    else if (what < 870)
        sim_snapshot(s, slot);
    else if (what < 998)
        sim_confirm(s, slot);
    else
        sim_restart(s);
}

struct seen {
    const struct sim *sim;
    uint32_t entries;
};

static void seen_one(void *arg, const struct yk_dir_table_item *item) {
    struct seen *seen = arg;
    if (item->key.key == NULL)
        return;
    for (uint32_t k = 0; k < KEYS; k++) {
        const struct yk_dir_block *b = &seen->sim->truth[k][item->found.epoch];
        if (seen->sim->key[k].key.key_len != item->key.key_len ||
            memcmp(seen->sim->key[k].bytes, item->key.key, item->key.key_len) != 0)
            continue;
        assert_true(b->tiers == item->found.copy[0].tiers && b->gen == item->found.copy[0].gen);
        assert_true(b->group == item->found.group && b->sum == item->found.sum && b->len == item->found.len);
        seen->entries++;
        return;
    }
    fail();
}

/* No more changes: everything gets through. */
static void sim_settle(struct sim *s) {
    struct seen seen = {.sim = s};
    struct yk_dir_held_total total;
    uint32_t held = 0;
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        struct yk_dir_stream stream;
        uint64_t cursor = 0;
        uint32_t tries = 0;
        for (;; tries++) {
            struct owner *o = &s->owner[slot];
            yk_dir_held_stream(s->held, slot, &stream);
            if (o->synced && !o->open && o->have == stream.seq && !stream.snapshot)
                break;
            assert_true(tries < 10000);
            if (!o->synced || o->open)
                sim_snapshot(s, slot);
            else
                sim_batch(s, slot);
        }
        check_caught_up(s, slot);
        yk_dir_held_confirm(s->held, slot, stream.seq);
        while (yk_dir_table_walk(s->table, slot, &cursor, 50, seen_one, &seen))
            ;
    }
    for (uint32_t k = 0; k < KEYS; k++)
        for (uint32_t e = 0; e < EPOCHS; e++)
            held += s->truth[k][e].tiers != 0;
    yk_dir_held_total(s->held, &total);
    assert_true(seen.entries == held && total.blocks == held);
    assert_int_equal(total.changes, 0); /* confirmed: nothing is kept */
}

static void owners_learn_what_is_held(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        struct sim *s = calloc(1, sizeof(*s));
        struct yk_dir_held_opts opts = {.max_bytes = 64u << 20,
                                        .max_changes = seed % 2 ? 12 : 1000,
                                        .max_total = seed % 4 == 1 ? 25 : 0};
        assert_non_null(s);
        s->seed = seed * 104729;
        s->incarnation = 1;
        sim_keys(s);
        assert_int_equal(yk_dir_held_open(&opts, &s->held), 0);
        assert_int_equal(yk_dir_table_open(64u << 20, &s->table), 0);
        for (uint32_t i = 0; i < 40000; i++) {
            sim_step(s);
            if (i % 8000 == 7999)
                sim_settle(s);
        }
        assert_true(s->caught_up > 20 && s->snapshots > 20 && s->elided > 20 && (s->lost > 0 || seed % 2 == 0));
        yk_dir_table_close(s->table);
        yk_dir_held_close(s->held);
        free(s);
    }
}

/* ---- one at a time ------------------------------------------------------------------------------ */

static struct yk_dir_held *held_new(uint32_t max_changes) {
    struct yk_dir_held *h = NULL;
    struct yk_dir_held_opts opts = {.max_bytes = 8u << 20, .max_changes = max_changes};
    assert_int_equal(yk_dir_held_open(&opts, &h), 0);
    return h;
}

static struct yk_dir_block block_of(const struct test_key *k, uint64_t group) {
    return (struct yk_dir_block){
        .key = k->key, .group = group, .epoch = 1, .gen = 9, .len = 1000, .sum = 5, .tiers = 1};
}

static void children_are_with_their_parents(void **state) {
    (void)state;
    struct yk_dir_held *h = held_new(0);
    struct test_key a, b, c;
    key_make(&a, 1, 1);
    key_make(&b, 2, 1);
    key_make(&c, 3, 1);
    struct yk_dir_key none = {.key = NULL};
    assert_true(yk_dir_held_group(h, &a.key, a.hash, 1, &none, 0) == a.hash);
    struct yk_dir_block block = block_of(&a, a.hash);
    assert_int_equal(yk_dir_held_set(h, &block, a.hash, NULL), 0);
    assert_true(yk_dir_held_group(h, &b.key, b.hash, 1, &a.key, a.hash) == a.hash);
    assert_true(yk_dir_held_group(h, &b.key, b.hash, 2, &a.key, a.hash) == b.hash); /* another epoch */
    block = block_of(&b, a.hash);
    assert_int_equal(yk_dir_held_set(h, &block, b.hash, NULL), 0);
    assert_true(yk_dir_held_group(h, &c.key, c.hash, 1, &b.key, b.hash) == a.hash); /* the whole chain */
    block = block_of(&a, a.hash);
    block.tiers = 0;
    assert_int_equal(yk_dir_held_set(h, &block, a.hash, NULL), 0);
    assert_true(yk_dir_held_group(h, &b.key, b.hash, 1, &a.key, a.hash) == a.hash); /* it stays where it is */
    assert_true(yk_dir_held_group(h, &c.key, c.hash, 1, &a.key, a.hash) == c.hash);
    yk_dir_held_close(h);
}

static void a_list_folds(void **state) {
    (void)state;
    struct yk_dir_held *h = held_new(0);
    struct yk_dir_item items[8];
    struct test_key a, b;
    uint64_t to;
    key_make(&a, 1, 1);
    key_make(&b, 2, 1);
    b.hash = a.hash ^ 1;
    uint32_t slot = yk_dir_slot_of(a.hash);
    struct yk_dir_block one = block_of(&a, a.hash), two = block_of(&b, b.hash);
    /* Came, changed, changed: one item, under the last number. */
    for (uint8_t tiers = 1; tiers <= 3; tiers++) {
        one.tiers = tiers;
        assert_int_equal(yk_dir_held_set(h, &one, a.hash, NULL), 0);
    }
    assert_int_equal(yk_dir_held_batch(h, slot, 0, items, 8, &to), 1);
    assert_true(to == 3 && items[0].block.tiers == 3);
    /* Came and went before anybody was told: nothing. */
    assert_int_equal(yk_dir_held_set(h, &two, b.hash, NULL), 0);
    two.tiers = 0;
    assert_int_equal(yk_dir_held_set(h, &two, b.hash, NULL), 0);
    assert_int_equal(yk_dir_held_batch(h, slot, 3, items, 8, &to), 0);
    assert_int_equal(to, 5);
    /* But of the first one somebody was. */
    one.tiers = 0;
    assert_int_equal(yk_dir_held_set(h, &one, a.hash, NULL), 0);
    assert_int_equal(yk_dir_held_batch(h, slot, 0, items, 8, &to), 1);
    assert_true(to == 6 && items[0].block.tiers == 0 && items[0].block.key.key_len == a.key.key_len);
    assert_int_equal(yk_dir_held_batch(h, slot, 6, items, 8, &to), 0);
    assert_int_equal(to, 6);
    assert_int_equal(yk_dir_held_batch(h, slot, 7, items, 8, &to), -YK_EINVAL);
    yk_dir_held_confirm(h, slot, 6);
    assert_int_equal(yk_dir_held_batch(h, slot, 5, items, 8, &to), -YK_ESTALE);
    yk_dir_held_close(h);
}

static void a_long_list_is_thrown_away(void **state) {
    (void)state;
    struct yk_dir_held *h = held_new(4);
    struct yk_dir_item items[YK_DIR_HELD_PIECE_MIN];
    struct yk_dir_stream stream;
    struct test_key k;
    uint64_t to, seq, cursor = 0;
    int more;
    for (uint32_t i = 0; i < 5; i++) {
        key_make(&k, i, 1);
        k.hash &= 0xffffff;
        struct yk_dir_block b = block_of(&k, k.hash);
        assert_int_equal(yk_dir_held_set(h, &b, k.hash, NULL), 0);
        yk_dir_held_stream(h, 0, &stream);
        assert_true(stream.seq == i + 1 && stream.snapshot == (i == 4) && stream.changes == (i == 4 ? 0 : i + 1));
    }
    assert_int_equal(yk_dir_held_batch(h, 0, 0, items, 8, &to), -YK_ESTALE);
    assert_int_equal(yk_dir_held_batch(h, 0, 5, items, 8, &to), -YK_ESTALE);
    yk_dir_held_snapshot(h, 0, &seq);
    assert_int_equal(seq, 5);
    /* The last one changes before the snapshot comes to it, or after: it is told as it is, and again behind. */
    struct yk_dir_block b = block_of(&k, k.hash);
    b.tiers = 2;
    assert_int_equal(yk_dir_held_set(h, &b, k.hash, NULL), 0);
    assert_int_equal(yk_dir_held_piece(h, 0, &cursor, items, YK_DIR_HELD_PIECE_MIN - 1, &more), -YK_EINVAL);
    assert_int_equal(yk_dir_held_piece(h, 0, &cursor, items, YK_DIR_HELD_PIECE_MIN, &more), 5);
    assert_int_equal(more, 0);
    assert_int_equal(yk_dir_held_batch(h, 0, seq, items, 8, &to), 1);
    assert_true(to == 6 && items[0].block.tiers == 2);
    yk_dir_held_close(h);
}

static void nobody_is_asked(void *arg, const uint32_t *slots) {
    (void)slots;
    ++*(uint32_t *)arg;
}

/* Epoch after epoch of one key, while its owner is told and never answers: what is gone keeps out nothing. */
static void what_is_gone_takes_no_place(void **state) {
    (void)state;
    struct yk_dir_held *h = held_new(0);
    struct yk_dir_item items[YK_DIR_HELD_PIECE_MIN];
    struct yk_dir_held_total total;
    struct yk_dir_stream stream;
    struct test_key k;
    uint32_t went = 0;
    uint64_t to;
    key_make(&k, 1, 1);
    uint32_t slot = yk_dir_slot_of(k.hash);
    for (uint32_t epoch = 1; epoch <= 300; epoch++) {
        struct yk_dir_block b = block_of(&k, k.hash);
        b.epoch = epoch;
        yk_dir_held_only(h, &k.key, k.hash, epoch, nobody_is_asked, &went);
        assert_int_equal(yk_dir_held_set(h, &b, k.hash, NULL), 0);
        assert_int_equal(yk_dir_held_find(h, &k.key, k.hash, epoch, NULL), 1);
        yk_dir_held_stream(h, slot, &stream);
        if (stream.snapshot)
            yk_dir_held_snapshot(h, slot, &to);
        yk_dir_held_stream(h, slot, &stream);
        assert_true(yk_dir_held_batch(h, slot, stream.confirmed, items, YK_DIR_HELD_PIECE_MIN, &to) >= 0);
    }
    yk_dir_held_total(h, &total);
    assert_true(total.blocks == 1 && total.dropped > 0 && went == 299);
    yk_dir_held_close(h);
}

/* What memory does not allow is not held, and nothing of it stays. */
static void limits_hold(void **state) {
    (void)state;
    struct yk_dir_held *h = NULL;
    struct yk_dir_held_opts opts = {.max_bytes = 512u << 10};
    struct yk_dir_held_total total;
    struct test_key k;
    uint32_t n = 0;
    int rc = 0;
    assert_int_equal(yk_dir_held_open(&(struct yk_dir_held_opts){.max_bytes = 1}, &h), -YK_EINVAL);
    assert_int_equal(yk_dir_held_open(&opts, &h), 0);
    for (; rc == 0 && n < 100000; n++) {
        key_make(&k, n, 1);
        struct yk_dir_block b = block_of(&k, k.hash ^ 1ull << 60);
        rc = yk_dir_held_set(h, &b, k.hash, NULL);
    }
    assert_int_equal(rc, -YK_ELIMIT);
    assert_in_range(n, 1000, 10000);
    yk_dir_held_total(h, &total);
    assert_true(total.blocks == n - 1 && total.bytes == 1000ull * (n - 1));
    assert_int_equal(yk_dir_held_find(h, &k.key, k.hash, 1, NULL), 0);
    key_make(&k, 0, 1);
    struct yk_dir_block b = block_of(&k, k.hash ^ 1ull << 60);
    b.tiers = 0;
    assert_int_equal(yk_dir_held_set(h, &b, k.hash, NULL), 0);
    yk_dir_held_total(h, &total);
    assert_true(total.blocks == n - 2 && total.bytes == 1000ull * (n - 2));
    b = block_of(&k, k.hash);
    b.key.key_len = 0;
    assert_int_equal(yk_dir_held_set(h, &b, k.hash, NULL), -YK_EINVAL);
    yk_dir_held_close(h);
}

static void confirm_all(struct yk_dir_held *h) {
    struct yk_dir_stream stream;
    for (uint32_t slot = 0; slot < YK_DIR_SLOTS; slot++) {
        yk_dir_held_stream(h, slot, &stream);
        yk_dir_held_confirm(h, slot, stream.seq);
    }
}

static void memory_is_as_said(void **state) {
    (void)state;
    enum { N = 200000 };
    struct yk_dir_held *h = NULL;
    struct yk_dir_held_total before, after;
    char key[33];
    assert_int_equal(yk_dir_held_open(NULL, &h), 0);
    yk_dir_held_total(h, &before);
    for (uint32_t i = 0; i < N; i++) {
        snprintf(key, sizeof(key), "%032u", i);
        struct yk_dir_block b = {.key = {"ns", 2, key, 32}, .group = i % 4 ? 7 : yk_hash64(key, 32), .gen = i,
                                 .len = 1, .tiers = 1};
        assert_int_equal(yk_dir_held_set(h, &b, yk_hash64(key, 32), NULL), 0);
        if (i % 10000 == 0)
            confirm_all(h);
    }
    confirm_all(h);
    yk_dir_held_total(h, &after);
    double each = (double)(after.memory - before.memory) / N - 32;
    printf("bytes a block beside its key of 32 bytes: %.1f\n", each);
    assert_true(after.changes == 0 && each <= 84);
    yk_dir_held_close(h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(owners_learn_what_is_held),   cmocka_unit_test(children_are_with_their_parents),
        cmocka_unit_test(a_list_folds),                cmocka_unit_test(a_long_list_is_thrown_away),
        cmocka_unit_test(what_is_gone_takes_no_place), cmocka_unit_test(limits_hold),
        cmocka_unit_test(memory_is_as_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
