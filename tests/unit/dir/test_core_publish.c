/* SPDX-License-Identifier: Apache-2.0
 *
 * The directory's protocol (dir/core.h), rule by rule, as test_core_remove.c and test_core_terms.c do it: each test
 * brings about, in a small cluster (core_rig.h), what the rule is for. Here: what is published, found, compared by
 * digests, and told to new owners. test_core_sim.c has what comes about by itself.
 *
 * Threads: one.
 */
#include "core_case.h"

/* ---- publishing and looking up ---------------------------------------------------------------------- */

static void published(void **state) {
    (void)state;
    struct rig *r = cluster(2);
    put(r, 2, 0);
    put(r, 1, 0);
    put(r, 2, 2);
    settle(r);
    struct yk_dir_found f = find(r, 1, 0, 0);
    assert_int_equal(f.status, 0);
    assert_int_equal(f.count, 2);
    assert_int_equal(f.sum, rig_key[0].hash);
    assert_int_equal(find(r, 1, 1, 0).status, YK_MISS);
    assert_int_equal(find(r, 2, 0, 0).status, -YK_EGONE);
    /* Key 2 stands in the group of key 1; its own slot knows where that is. */
    f = find(r, 1, 2, 0);
    assert_int_equal(f.status, 0);
    assert_int_equal(f.group, rig_key[2].group);
    move(r, 1, 2);
    settle(r);
    f = find(r, 1, 2, 0);
    assert_int_equal(f.status, -YK_EAGAIN);
    assert_int_equal(f.group, rig_key[1].hash);
    assert_int_equal(find(r, 2, 2, f.group).status, 0);
    rig_change(r, 2, 0, 0, 0, 0);
    settle(r);
    f = find(r, 1, 0, 0);
    assert_int_equal(f.count, 1);
    assert_int_equal(f.copy[0].member, 1);
    rig_free(r);
}

/* A raise that did not reach a node comes with the blocks of the new epoch. */
static void epochs_come_with_publications(void **state) {
    (void)state;
    for (int k = 0; k < 3; k += 2) { /* as a block, and as an alias, too */
        struct rig *r = cluster(3);
        struct yk_dir_block b = {.key = rig_key_of(k), .group = rig_key[k].group, .epoch = 7, .gen = 5, .len = 9,
                                 .sum = 11, .tiers = yk_dir_told(1u << YK_TIER_DRAM, 0, 1)};
        uint32_t owner = r->map->slot[yk_dir_slot_of(b.group)].owner;
        yk_dir_core_block(r->node[3].core, &b);
        settle(r);
        assert_int_equal(r->epoch[owner], 7);
        assert_int_equal(r->epoch[r->map->slot[rig_key[k].slot].owner], 7);
        b.epoch = 9;
        b.tiers = 0; /* what is gone says nothing */
        yk_dir_core_block(r->node[3].core, &b);
        settle(r);
        assert_int_equal(r->epoch[owner], 7);
        rig_free(r);
    }
}

/* All keys in one question, more than once each, as one by one: found, by an alias, not there, in a slot of another
 * owner, and an alias that leads to another owner. */
static void many_at_once(void **state) {
    (void)state;
    enum { MANY = 60 };
    struct rig *r = cluster(2);
    struct yk_dir_key key[MANY];
    struct yk_dir_found found[MANY];
    uint64_t group[MANY];
    int statuses = 0;
    put(r, 2, 0);
    put(r, 2, 2);
    put(r, 2, 5);
    move(r, 1, 2);
    settle(r);
    for (uint32_t i = 0; i < MANY; i++) {
        key[i] = rig_key_of((int)i % KEYS);
        group[i] = i / KEYS % 2 == 0 ? 0 : rig_key[i % KEYS].group;
    }
    memset(found, 0x5a, sizeof(found));
    yk_dir_core_find_many(r->node[1].core, key, group, MANY, 1, found);
    for (uint32_t i = 0; i < MANY; i++) {
        struct yk_dir_found one = find(r, 1, (int)i % KEYS, group[i]);
        assert_int_equal(found[i].status, one.status);
        assert_int_equal(found[i].group, one.group);
        statuses |= one.status == 0 ? 1 : one.status == YK_MISS ? 2 : one.status == -YK_EGONE ? 4 : 8;
        if (one.status != 0)
            continue;
        assert_int_equal(found[i].sum, one.sum);
        assert_int_equal(found[i].len, one.len);
        assert_int_equal(found[i].count, one.count);
        assert_int_equal(found[i].copy[0].member, one.copy[0].member);
        assert_int_equal(found[i].copy[0].gen, one.copy[0].gen);
    }
    assert_int_equal(statuses, 15); /* all kinds came */
    rig_free(r);
}

static void lost_publications_come_again(void **state) {
    (void)state;
    struct rig *r = cluster(2);
    r->node[2].cut_off = 1;
    for (int k = 0; k < KEYS; k++)
        put(r, 2, k);
    settle(r);
    assert_int_equal(rig_found(r, 0), 0);
    r->node[2].cut_off = 0;
    settle(r);
    for (int k = 0; k < KEYS; k++)
        assert_int_equal(rig_found(r, k), 1 << 2);
    rig_free(r);
}

/* ---- digests ---------------------------------------------------------------------------------------- */

static struct rig *cluster_with_digests(int nodes) {
    struct rig *r = cluster(nodes);
    for (int n = 1; n <= nodes; n++)
        r->node[n].core->opts.digest_ms = 50;
    return r;
}

static uint64_t differed(const struct rig *r) {
    uint64_t n = 0;
    for (int i = 1; i <= r->nodes; i++)
        n += r->node[i].core->counts.digests_differed;
    return n;
}

/* What the owner lacks comes back, and what it has too much goes; for others and for what it holds itself. */
static void digests_repair_what_differs(void **state) {
    (void)state;
    for (int holder = 1; holder <= 2; holder++)
        for (int lacks = 0; lacks < 2; lacks++) {
            struct rig *r = cluster_with_digests(2);
            struct yk_dir_key key = rig_key_of(0);
            struct yk_dir_share share;
            uint32_t owner = r->map->slot[rig_key[0].slot].owner;
            struct yk_dir_core *at = r->node[owner].core;
            put(r, holder, lacks ? 0 : 3); /* of one slot */
            settle(r);
            assert_int_equal(differed(r), 0);
            uint64_t inc = r->node[holder].core->me->incarnation;
            struct yk_dir_block b = {.key = key, .group = rig_key[0].hash, .epoch = 1, .gen = 99, .len = 1, .sum = 2,
                                     .tiers = yk_dir_told(1u << YK_TIER_DRAM, 0, 1)};
            if (lacks)
                assert_int_equal(yk_dir_table_drop(at->table, rig_key[0].slot, (uint32_t)holder, inc, &key, rig_key[0].hash, 1), 0);
            else
                assert_int_equal(yk_dir_table_add(at->table, rig_key[0].slot, (uint32_t)holder, inc, &b, rig_key[0].hash), 0);
            assert_int_equal(rig_found(r, 0), lacks ? 0 : 1 << holder);
            settle(r);
            assert_int_equal(rig_found(r, 0), lacks ? 1 << holder : 0);
            assert_int_equal(rig_found(r, 3), lacks ? 0 : 1 << holder);
            assert_int_equal(differed(r), 1); /* once was enough */
            assert_int_equal(yk_dir_table_share(at->table, rig_key[0].slot, (uint32_t)holder, &share), 0);
            assert_int_equal(share.copies, 1);
            rig_free(r);
        }
}

/* No more than one short message a pace, and no answer; nothing for slots in which there never was anything. */
static void equal_digests_cost_little(void **state) {
    (void)state;
    struct rig *r = cluster_with_digests(3);
    for (int k = 0; k < KEYS; k++)
        put(r, 1 + k % 3, k);
    settle(r);
    uint64_t before[YK_DIR_MSG_KINDS], sent = r->node[1].core->counts.digests_sent;
    memcpy(before, r->messages, sizeof(before));
    rig_run(r, 20000);
    sent = r->node[1].core->counts.digests_sent - sent;
    assert_true(sent > 0 && sent <= 20000 / 50 + YK_CORE_DIGESTS);
    assert_true(r->messages[YK_DIR_DIGEST] > before[YK_DIR_DIGEST]);
    before[YK_DIR_DIGEST] = r->messages[YK_DIR_DIGEST];
    assert_memory_equal(before, r->messages, sizeof(before));
    assert_int_equal(differed(r), 0);
    rig_free(r);
    r = cluster_with_digests(2);
    settle(r);
    assert_int_equal(r->node[1].core->counts.digests_sent + r->node[2].core->counts.digests_sent, 0);
    rig_free(r);
}

/* What differs whatever is sent is asked for less and less often. */
static void what_goes_on_to_differ_is_left_alone(void **state) {
    (void)state;
    struct rig *r = cluster_with_digests(2);
    int owner = (int)r->map->slot[rig_key[0].slot].owner, holder = 3 - owner;
    struct yk_dir_core *core = r->node[holder].core;
    struct yk_dir_stream stream;
    struct yk_err err;
    uint64_t wants = 0;
    put(r, holder, 0);
    settle(r);
    core->opts.digest_ms = UINT32_MAX; /* its own would be equal */
    for (int i = 0; i < 300; i++) {
        uint64_t confirms = r->messages[YK_DIR_CONFIRM];
        struct yk_dir_msg msg = about(r, YK_DIR_DIGEST, 0, r->map->slot[rig_slot[0]].term);
        yk_dir_held_stream(core->held, rig_slot[0], &stream);
        msg.incarnation = core->me->incarnation;
        msg.a = stream.seq;
        msg.b = 12345;
        assert_int_equal(deliver(r, holder, owner, msg, NULL, &err), 0);
        wants += r->messages[YK_DIR_CONFIRM] > confirms;
        rig_run(r, 100);
    }
    assert_in_range(wants, 5, 12);
    rig_free(r);
}

/* ---- snapshots and walks ---------------------------------------------------------------------------- */

static void hold_many(struct rig *r, int n, unsigned from, unsigned to, int there) {
    for (unsigned i = from; i < to; i++) {
        char name[200];
        int len = snprintf(name, sizeof(name), "%0150u", i);
        struct yk_dir_block b = {.key = {rig_ns, sizeof(rig_ns) - 1, name, (uint32_t)len},
                                 .group = rig_key[0].hash,
                                 .epoch = 1,
                                 .gen = i + 1,
                                 .len = 1,
                                 .sum = i,
                                 .tiers = there ? 1 : 0};
        yk_dir_core_block(r->node[n].core, &b);
    }
}

/* A slot too large for one message goes in pieces, whatever the network does to them. */
static void snapshot_in_pieces(void **state) {
    (void)state;
    struct rig *r = cluster(2);
    struct yk_dir_core_counts c;
    hold_many(r, 2, 0, 3000, 1);
    settle(r);
    r->quiet = 0;
    r->loss_pm = r->dup_pm = 200;
    r->delay_ms = 30;
    uint64_t pieces = r->messages[YK_DIR_SNAPSHOT];
    move(r, 0, 2);
    rig_run(r, 200);
    move(r, 0, 1);
    for (int i = 0; i < 100; i++) {
        hold_many(r, 2, 3000 + (unsigned)i * 10, 3010 + (unsigned)i * 10, 1);
        hold_many(r, 2, (unsigned)i * 5, (unsigned)i * 5 + 5, 0);
        rig_at(r, 0, TICK, 2);
        rig_run(r, 20);
    }
    rig_run(r, 20000);
    r->quiet = 1;
    settle(r);
    yk_dir_core_counts(r->node[1].core, &c);
    assert_int_equal(c.slots_whole, SLOTS);
    assert_int_equal(c.entries, 3500);
    assert_true(r->messages[YK_DIR_SNAPSHOT] - pieces > 8);
    assert_true(r->messages[YK_DIR_TAKEN] > 0);
    rig_free(r);
}

static void new_owner_is_pending_until_whole(void **state) {
    (void)state;
    struct rig *r = cluster(3);
    put(r, 3, 0);
    put(r, 2, 3);
    settle(r);
    r->node[3].cut_off = 1;
    move(r, 0, 2);
    settle(r);
    assert_int_equal(find(r, 2, 3, 0).status, 0);
    assert_int_equal(find(r, 2, 0, 0).status, YK_PENDING);
    expel(r, 3);
    settle(r);
    assert_int_equal(find(r, 2, 0, 0).status, YK_MISS);
    r->node[3].cut_off = 0;
    settle(r);
    assert_int_equal(rig_found(r, 0), 1 << 3);
    rig_free(r);
}

static uint64_t entries_of(const struct yk_dir_core *core) {
    struct yk_dir_core_counts n;
    yk_dir_core_counts(core, &n);
    return n.entries;
}

/* What a new owner has of its slots itself it takes piece by piece: who asks it meanwhile has a turn between. */
static void own_blocks_are_taken_in_pieces(void **state) {
    (void)state;
    enum { MANY = 8000 };
    struct rig *r = cluster(2);
    struct yk_dir_core *core = r->node[2].core;
    for (uint32_t i = 0; i < MANY; i++) {
        char key[16];
        uint32_t len = (uint32_t)snprintf(key, sizeof(key), "own-%05u", i);
        yk_dir_core_block(core, &(struct yk_dir_block){.key = {rig_ns, sizeof(rig_ns) - 1, key, len},
                                                       .group = rig_key[0].hash,
                                                       .epoch = 1,
                                                       .gen = i + 1,
                                                       .len = 1,
                                                       .tiers = 2});
    }
    settle(r);
    assert_int_equal(entries_of(r->node[1].core), MANY);
    assert_int_equal(yk_dir_core_has_more(core), 0);
    expel(r, 1);
    yk_dir_core_map(core, r->map, r->now_ms);
    uint64_t had = entries_of(core);
    uint32_t calls = 1;
    assert_int_equal(yk_dir_core_has_more(core), 1);
    for (int i = 0; i < 100; i++)
        yk_dir_core_known(core); /* nor in a row of calls without a turn between */
    assert_int_equal(entries_of(core), had);
    for (int more = 1; more; calls++) {
        more = yk_dir_core_go_on(core, r->now_ms);
        assert_in_range(entries_of(core) - had, 0, MANY / 3);
        had = entries_of(core);
    }
    assert_in_range(calls, 4, 64);
    settle(r);
    assert_int_equal(entries_of(core), MANY);
    rig_free(r);
}

static void nothing_from_the_expelled(void **state) {
    (void)state;
    struct rig *r = cluster(2);
    put(r, 2, 0);
    settle(r);
    r->node[2].deaf = 1;
    expel(r, 2);
    settle(r);
    put(r, 2, 3);
    settle(r);
    assert_int_equal(rig_found(r, 0), 0);
    assert_int_equal(rig_found(r, 3), 0);
    r->node[2].deaf = 0;
    rig_at(r, 0, LEARN, 2);
    settle(r);
    assert_int_equal(rig_found(r, 0), 1 << 2);
    assert_int_equal(rig_found(r, 3), 1 << 2);
    rig_free(r);
}

/* What does not follow what the owner has is not taken, and a snapshot is asked for. */
static void gaps_need_a_snapshot(void **state) {
    (void)state;
    struct rig *r = cluster(2);
    put(r, 2, 0);
    settle(r);
    const struct yk_core_share *share = &r->node[1].core->own[rig_slot[0]]->share[1];
    uint64_t seq = share->seq, snapshots = r->messages[YK_DIR_SNAPSHOT];
    struct yk_dir_msg msg = about(r, YK_DIR_PUBLISH, 0, r->map->slot[rig_slot[0]].term);
    msg.incarnation = r->node[2].core->me->incarnation;
    msg.a = seq + 1;
    msg.b = seq + 2;
    assert_int_equal(deliver(r, 2, 1, msg, NULL, NULL), 0);
    assert_int_equal(share->seq, seq);
    settle(r);
    assert_true(r->messages[YK_DIR_SNAPSHOT] > snapshots);
    msg.a = seq;
    msg.incarnation--; /* of an earlier life: not even an answer */
    uint64_t answers = r->messages[YK_DIR_CONFIRM];
    assert_int_equal(deliver(r, 2, 1, msg, NULL, NULL), 0);
    assert_int_equal(share->seq, seq);
    assert_int_equal(r->messages[YK_DIR_CONFIRM], answers);
    assert_int_equal(rig_found(r, 0), 1 << 2);
    rig_free(r);
}

static void snapshot_only_when_all_is_known(void **state) {
    (void)state;
    struct rig *r = cluster(2);
    r->node[2].core->known = 0;
    move(r, 0, 1);
    put(r, 2, 0);
    move(r, 0, 2);
    move(r, 0, 1);
    settle(r);
    assert_int_equal(find(r, 1, 0, 0).status, YK_PENDING);
    yk_dir_core_known(r->node[2].core);
    settle(r);
    assert_int_equal(rig_found(r, 0), 1 << 2);
    rig_free(r);
}

/* Changes were lost: what a walk does not find has gone, and owners hear of it. */
static void what_a_walk_does_not_find_is_gone(void **state) {
    (void)state;
    struct rig *r = cluster(2);
    for (int k = 0; k < KEYS; k++)
        put(r, 2, k);
    settle(r);
    for (int k = 0; k < KEYS; k += 2)
        r->node[2].block[k].there = 0; /* and nobody is told */
    yk_dir_core_walk(r->node[2].core);
    for (int k = 0; k < KEYS; k++)
        if (k % 2 != 0)
            rig_tell_block(r, 2, k);
    for (uint32_t s = 0; s < YK_DIR_SLOTS; s++)
        yk_dir_core_unseen(r->node[2].core, s);
    rig_at(r, 0, TICK, 2);
    settle(r);
    for (int k = 0; k < KEYS; k++)
        assert_int_equal(rig_found(r, k), k % 2 != 0 ? 1 << 2 : 0);
    rig_free(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published),
        cmocka_unit_test(epochs_come_with_publications),
        cmocka_unit_test(many_at_once),
        cmocka_unit_test(lost_publications_come_again),
        cmocka_unit_test(digests_repair_what_differs),
        cmocka_unit_test(equal_digests_cost_little),
        cmocka_unit_test(what_goes_on_to_differ_is_left_alone),
        cmocka_unit_test(snapshot_in_pieces),
        cmocka_unit_test(new_owner_is_pending_until_whole),
        cmocka_unit_test(own_blocks_are_taken_in_pieces),
        cmocka_unit_test(nothing_from_the_expelled),
        cmocka_unit_test(gaps_need_a_snapshot),
        cmocka_unit_test(snapshot_only_when_all_is_known),
        cmocka_unit_test(what_a_walk_does_not_find_is_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
