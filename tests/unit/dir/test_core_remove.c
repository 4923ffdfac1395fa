/* SPDX-License-Identifier: Apache-2.0
 *
 * The directory's protocol (dir/core.h), rule by rule, in a small cluster (core_rig.h): what is taken out. The loser
 * of two contents for one key, removes until they are done, and copies that a remove meets under way.
 *
 * Threads: one.
 */
#include "core_case.h"

/* ---- conflicts ---------------------------------------------------------------------------------------- */

static void other_bytes_are_dropped(void **state) {
    (void)state;
    struct rig *r = cluster(3);
    put(r, 2, 0);
    settle(r);
    assert_int_equal(rig_put(r, 3, 0, rig_key[0].hash + 1), 1);
    settle(r);
    assert_int_equal(rig_holders(r, 0), 1 << 2);
    assert_int_equal(rig_found(r, 0), 1 << 2);
    assert_int_equal(r->node[1].core->conflict_count, 0);
    assert_int_equal(find(r, 1, 0, 0).sum, rig_key[0].hash);
    rig_free(r);
}

static void put_in_group(struct rig *r, int n, int k, uint64_t group, uint64_t epoch, uint64_t sum) {
    struct rig_node *node = &r->node[n];
    node->block[k] = (struct rig_block){.there = 1, .ver = ++r->ver, .gen = ++node->gen, .sum = sum};
    struct yk_dir_block block = {
        .key = rig_key_of(k), .group = group, .epoch = epoch, .gen = node->gen, .len = 100, .sum = sum, .tiers = 1};
    yk_dir_core_block(node->core, &block);
    rig_at(r, 0, TICK, n);
}

/* One is below another root than the other, so that no group's slot has both: the key's own has. */
static void other_bytes_in_another_group_are_dropped(void **state) {
    (void)state;
    struct rig *r = cluster(3);
    put_in_group(r, 2, 0, rig_key[1].hash, 1, 7);
    settle(r);
    put_in_group(r, 3, 0, rig_key[0].hash, 1, 8);
    settle(r);
    assert_int_equal(rig_holders(r, 0), 1 << 2);
    put_in_group(r, 3, 0, rig_key[2].hash, 1, 8);
    settle(r);
    assert_int_equal(rig_holders(r, 0), 1 << 2);
    assert_int_equal(r->node[1].core->conflict_count, 0);
    put_in_group(r, 3, 0, rig_key[2].hash, 1, 7); /* the same bytes may be in two */
    put_in_group(r, 2, 3, rig_key[1].hash, 2, 7);
    settle(r);
    put_in_group(r, 3, 3, rig_key[2].hash, 1, 8); /* and others of another epoch */
    settle(r);
    assert_int_equal(rig_holders(r, 0), 1 << 2 | 1 << 3);
    assert_int_equal(rig_holders(r, 3), 1 << 2 | 1 << 3);
    rig_free(r);
}

/* A node tells of a key in the epoch of now. Blocks of older ones are known to nobody then, and however many there were,
 * the next one is found. */
static void other_epochs_are_gone(void **state) {
    (void)state;
    struct rig *r = cluster(2);
    struct yk_dir_core_counts n;
    struct yk_dir_key key = rig_key_of(0);
    struct yk_dir_found f;
    for (uint64_t epoch = 1; epoch <= 100; epoch++) {
        put_in_group(r, 2, 0, rig_key[0].hash, epoch, 7);
        if (epoch % 2 == 0)
            settle(r);
        yk_dir_core_counts(r->node[2].core, &n);
        assert_int_equal(n.held, 1);
    }
    yk_dir_core_counts(r->node[1].core, &n);
    assert_int_equal(n.entries, 1);
    assert_int_equal(n.not_noted, 0);
    yk_dir_core_find(r->node[1].core, &key, 100, 0, &f);
    assert_int_equal(f.status, 0);
    yk_dir_core_block(r->node[2].core, &(struct yk_dir_block){.key = key, .group = rig_key[0].hash, .epoch = 101});
    r->node[2].block[0].there = 0;
    settle(r);
    yk_dir_core_counts(r->node[1].core, &n);
    assert_int_equal(n.entries, 0);
    rig_free(r);
}

/* On SSD alone, blocks with the same bytes have the same generation. */
static void two_of_one_generation_are_both_dropped(void **state) {
    (void)state;
    struct rig *r = cluster(2);
    put(r, 1, 0);
    put(r, 1, SLOTS); /* in the same slot */
    settle(r);
    assert_int_equal(rig_put(r, 2, 0, 7), 1);
    r->node[2].gen--;
    assert_int_equal(rig_put(r, 2, SLOTS, 7), 1);
    settle(r);
    assert_int_equal(rig_holders(r, 0), 1 << 1);
    assert_int_equal(rig_holders(r, SLOTS), 1 << 1);
    assert_int_equal(r->node[1].core->conflict_count, 0);
    rig_free(r);
}

static void order_to_drop_comes_again(void **state) {
    (void)state;
    struct rig *r = cluster(2);
    put(r, 1, 0);
    settle(r);
    assert_int_equal(rig_put(r, 2, 0, 7), 1);
    while (r->node[1].core->conflict_count == 0 && rig_step(r, r->now_ms + WHILE_MS, NULL))
        ;
    r->node[2].cut_off = 1;
    settle(r);
    assert_int_equal(rig_holders(r, 0), 1 << 1 | (r->taken_out == 0) << 2);
    r->node[2].cut_off = 0;
    settle(r);
    assert_int_equal(rig_holders(r, 0), 1 << 1);
    assert_int_equal(r->node[1].core->conflict_count, 0);
    rig_free(r);
}

/* ---- removes -------------------------------------------------------------------------------------------- */

static void removed_everywhere(void **state) {
    (void)state;
    struct rig *r = cluster(3);
    for (int n = 1; n <= 3; n++)
        put(r, n, 0);
    put(r, 3, 3);
    settle(r);
    int all = remove_key(r, 1, 0), none = remove_key(r, 1, 6), far = remove_key(r, 1, 3);
    settle(r);
    assert_int_equal(r->remove[all].status, 0);
    assert_int_equal(r->remove[none].status, YK_MISS);
    assert_int_equal(r->remove[far].status, 0);
    assert_true(r->remove[none].ended);
    assert_int_equal(rig_holders(r, 0) | rig_holders(r, 3), 0);
    assert_int_equal(rig_begin_remove(r, 2, 0, 1000), -YK_EGONE);
    rig_free(r);
}

static void pending_with_names(void **state) {
    (void)state;
    struct rig *r = cluster(3);
    put(r, 3, 0);
    settle(r);
    r->node[3].cut_off = 1;
    int token = rig_begin_remove(r, 1, 0, 500);
    settle(r);
    assert_int_equal(r->remove[token].status, YK_PENDING);
    assert_int_equal(r->remove[token].missing_count, 1);
    assert_int_equal(r->remove[token].missing[0], 3);
    assert_int_equal(rig_holders(r, 0), 1 << 3);
    r->node[3].cut_off = 0;
    settle(r);
    assert_int_equal(rig_holders(r, 0), 0); /* it went on */
    rig_free(r);
}

/* A slot's removes do not stand still for what a node has no memory for: it is tried again. */
static void applied_when_there_is_memory(void **state) {
    (void)state;
    struct rig *r = cluster(3);
    put(r, 1, 0);
    put(r, 3, 0);
    settle(r);
    r->no_memory = 7; /* at the owner, and at holders */
    int first = remove_key(r, 1, 0), second = remove_key(r, 1, 3);
    settle(r);
    assert_int_equal(r->no_memory, 0);
    assert_int_equal(r->remove[first].status, 0);
    assert_int_equal(r->remove[second].status, YK_MISS);
    assert_int_equal(rig_holders(r, 0), 0);
    put(r, 1, 0);
    settle(r);
    assert_int_equal(rig_put(r, 2, 0, rig_key[0].hash + 1), 1);
    r->no_memory = 3; /* of an order to drop a copy */
    settle(r);
    assert_int_equal(r->no_memory, 0);
    assert_int_equal(rig_holders(r, 0), 1 << 1);
    rig_free(r);
}

/* Who gave up may have put the key again: a remove that has no number by its deadline never gets one. */
static void too_late_for_a_number(void **state) {
    (void)state;
    struct rig *r = cluster(3);
    put(r, 2, 0);
    put(r, 3, 0);
    settle(r);
    r->node[3].cut_off = 1; /* its publications do not come, so the second waits for the first */
    int first = rig_begin_remove(r, 1, 3, 500), late = rig_begin_remove(r, 1, 0, 0);
    settle(r);
    assert_int_equal(r->remove[first].status, YK_PENDING);
    assert_int_equal(r->remove[late].status, -YK_ETIMEDOUT);
    r->node[3].cut_off = 0;
    late = rig_begin_remove(r, 1, 0, 100);
    r->node[1].paused_ms = r->now_ms + 1000; /* the owner is stopped before it has applied it */
    settle(r);
    assert_int_equal(r->remove[late].status, -YK_ETIMEDOUT); /* it goes on nowhere */
    settle(r);
    assert_int_equal(rig_holders(r, 0), 1 << 2 | 1 << 3);
    int again = remove_key(r, 1, 0);
    settle(r);
    assert_true(r->remove[again].done);
    assert_int_equal(rig_holders(r, 0), 0);
    rig_free(r);
}

/* The answer to a remove does not overtake what says that the copy is gone: else the next put of the key would be
 * taken for the loser of a conflict with it. */
static void answered_when_published(void **state) {
    (void)state;
    for (int k = 0; k < 3; k += 2) { /* a key in its own group, and one that stands in another's */
        struct rig *r = cluster(3);
        put(r, 3, k);
        settle(r);
        r->mute = 3;
        int token = rig_begin_remove(r, 1, k, 500);
        settle(r);
        assert_int_equal(rig_holders(r, k), 0);
        assert_int_equal(r->remove[token].status, YK_PENDING);
        assert_int_equal(r->remove[token].missing_count, 1);
        assert_int_equal(r->remove[token].missing[0], 3);
        r->mute = 0;
        settle(r);
        token = remove_key(r, 1, k);
        settle(r);
        assert_int_equal(r->remove[token].status, YK_MISS);
        assert_int_equal(rig_put(r, 2, k, rig_key[k].hash + 1), 1);
        settle(r);
        assert_int_equal(rig_holders(r, k), 1 << 2);
        assert_int_equal(r->node[1].core->counts.conflicts, 0);
        rig_free(r);
    }
}

/* What a copy is acknowledged by: a mark is reached when the owners of both slots have confirmed up to it. */
static void told_when_the_owners_have_confirmed(void **state) {
    (void)state;
    for (int k = 0; k < 3; k += 2) {
        struct rig *r = cluster(3);
        struct yk_dir_key key = rig_key_of(k);
        struct yk_dir_mark mark;
        struct yk_dir_core *core = r->node[3].core;
        settle(r);
        assert_int_equal(yk_dir_core_mark(core, &key, 1, &mark), 0); /* nothing is here */
        r->mute = 3;
        put(r, 3, k);
        assert_int_equal(yk_dir_core_mark(core, &key, 1, &mark), 1);
        settle(r);
        assert_int_equal(yk_dir_core_is_told(core, &mark), 0);
        r->mute = 0;
        settle(r);
        assert_int_equal(yk_dir_core_is_told(core, &mark), 1);
        assert_int_equal(rig_holders(r, k), 1 << 3);
        r->mute = 3; /* another owner does not know it yet */
        move(r, k / 2, 2);
        settle(r);
        assert_int_equal(yk_dir_core_is_told(core, &mark), 0);
        r->mute = 0;
        settle(r);
        assert_int_equal(yk_dir_core_is_told(core, &mark), 1);
        rig_kill(r, 3, 0);
        rig_start(r, 3, 1);
        settle(r);
        assert_int_equal(yk_dir_core_is_told(r->node[3].core, &mark), -YK_ESTALE);
        rig_free(r);
    }
}

/* Nor that of an owner to itself. */
static void done_when_the_owner_has_published(void **state) {
    (void)state;
    struct rig *r = cluster(2);
    move(r, 1, 2); /* the slot of key 1, in whose group key 2 is */
    settle(r);
    put(r, 1, 2);
    settle(r);
    r->mute = 1;
    int token = rig_begin_remove(r, 1, 2, 500);
    settle(r);
    assert_int_equal(rig_holders(r, 2), 0);
    assert_int_equal(r->remove[token].status, YK_PENDING);
    r->mute = 0;
    settle(r);
    assert_int_equal(rig_put(r, 2, 2, rig_key[2].hash + 1), 1);
    settle(r);
    assert_int_equal(rig_holders(r, 2), 1 << 2);
    rig_free(r);
}

static void answered_when_durable(void **state) {
    (void)state;
    struct rig *r = cluster(2);
    put(r, 2, 0);
    settle(r);
    r->node[2].disk_held = 1;
    int token = remove_key(r, 1, 0);
    settle(r);
    assert_int_equal(rig_holders(r, 0), 0);
    assert_false(r->remove[token].ended);
    rig_kill(r, 2, 0); /* what was not synced is gone, and comes again */
    r->node[2].disk_held = 0;
    rig_start(r, 2, 1);
    settle(r);
    assert_true(r->remove[token].done);
    rig_free(r);
}

static void owner_logs_first(void **state) {
    (void)state;
    struct rig *r = cluster(2);
    put(r, 2, 0);
    settle(r);
    r->node[1].disk_held = 1;
    int token = remove_key(r, 1, 0);
    settle(r);
    assert_int_equal(rig_holders(r, 0), 1 << 2);
    r->node[1].disk_held = 0;
    settle(r);
    assert_true(r->remove[token].done);
    rig_free(r);
}

static void only_the_next_number(void **state) {
    (void)state;
    struct rig *r = cluster(2);
    remove_key(r, 1, 0);
    settle(r);
    uint64_t term = r->map->slot[rig_slot[0]].term;
    struct yk_dir_num last = yk_core_slot(r->node[2].core, rig_slot[0]).last;
    assert_int_equal(last.rseq, 1);
    struct yk_dir_msg msg = about(r, YK_DIR_REMOVE, 0, term);
    msg.a = 3;
    struct yk_dir_record record = {.origin = {term, 3}, .key = rig_key_of(3)};
    assert_int_equal(deliver(r, 1, 2, msg, &record, NULL), 0);
    settle(r);
    assert_int_equal(yk_core_slot(r->node[2].core, rig_slot[0]).last.rseq, 1);
    msg.a = 2;
    record.origin.rseq = 2;
    assert_int_equal(deliver(r, 1, 2, msg, &record, NULL), 0);
    settle(r);
    assert_int_equal(yk_core_slot(r->node[2].core, rig_slot[0]).last.rseq, 2);
    rig_free(r);
}

static void done_knows_of_expulsions(void **state) {
    (void)state;
    struct rig *r = cluster(3);
    put(r, 3, 0);
    settle(r);
    r->node[2].deaf = r->node[3].deaf = 1;
    expel(r, 3);
    settle(r);
    int token = remove_key(r, 1, 0);
    settle(r);
    assert_false(r->remove[token].ended); /* node 2 could still read from node 3 */
    assert_int_equal(yk_core_slot(r->node[2].core, rig_slot[0]).last.rseq, 1);
    r->node[2].deaf = 0;
    rig_at(r, 0, LEARN, 2);
    settle(r);
    assert_true(r->remove[token].done);
    r->node[3].deaf = 0;
    rig_at(r, 0, LEARN, 3);
    settle(r);
    assert_true(yk_dir_core_serves(r->node[3].core));
    assert_int_equal(rig_holders(r, 0), 0);
    rig_free(r);
}

/* `done` of a new term says nothing of what this node has not taken over into it. */
static void keeps_what_is_not_done(void **state) {
    (void)state;
    struct rig *r = cluster(2);
    uint64_t term = r->map->slot[rig_slot[0]].term;
    struct yk_dir_record record[2] = {{.origin = {term, 1}, .key = rig_key_of(0)},
                                      {.origin = {term, 2}, .key = rig_key_of(3)}};
    struct yk_dir_msg msg = about(r, YK_DIR_REMOVE, 0, term);
    struct yk_dir_remove kept;
    r->node[1].cut_off = 1; /* it is spoken for */
    for (msg.a = 1; msg.a <= 2; msg.a++) {
        assert_int_equal(deliver(r, 1, 2, msg, &record[msg.a - 1], NULL), 0);
        rig_run(r, 100);
    }
    msg.term = term + 1;
    msg.a = 1;
    assert_int_equal(deliver(r, 1, 2, msg, &record[0], NULL), 0);
    rig_run(r, 100);
    msg.a = 0;
    msg.b = 1;
    assert_int_equal(deliver(r, 1, 2, msg, NULL, NULL), 0);
    rig_run(r, 10000); /* twice as long as the log keeps what is done */
    assert_int_equal(yk_dir_rlog_next(r->node[2].core->log, rig_slot[0], (struct yk_dir_num){0}, &kept), 1);
    assert_int_equal(kept.origin.rseq, 2);
    msg.a = 2;
    assert_int_equal(deliver(r, 1, 2, msg, &record[1], NULL), 0);
    rig_run(r, 100);
    msg.a = 0;
    msg.b = 2;
    assert_int_equal(deliver(r, 1, 2, msg, NULL, NULL), 0);
    rig_run(r, 10000);
    assert_int_equal(yk_core_slot(r->node[2].core, rig_slot[0]).removes, 0);
    rig_free(r);
}

/* ---- copies ----------------------------------------------------------------------------------------------- */

static int may_commit(struct rig *r, int n, int k, struct yk_dir_stand stand) {
    struct yk_dir_key key = rig_key_of(k);
    return yk_dir_core_may_commit(r->node[n].core, &key, &stand);
}

static void copies_and_removes(void **state) {
    (void)state;
    struct rig *r = cluster(2);
    struct yk_dir_stand before, after;
    struct yk_dir_key key = rig_key_of(0);
    put(r, 1, 0);
    settle(r);
    yk_dir_core_stand(r->node[1].core, &key, &before);
    assert_true(may_commit(r, 2, 0, before));
    remove_key(r, 1, 0);
    /* While it is being applied here, before it is in the log. */
    while (r->node[2].core->hold[rig_slot[0]].batch == YK_BATCH_NONE && rig_step(r, r->now_ms + WHILE_MS, NULL))
        ;
    assert_false(may_commit(r, 2, 0, before));
    settle(r);
    assert_false(may_commit(r, 2, 0, before));
    assert_true(may_commit(r, 2, 3, before)); /* another key of the slot */
    yk_dir_core_stand(r->node[1].core, &key, &after);
    assert_true(may_commit(r, 2, 0, after));
    for (int i = 0; i < 12; i++)
        remove_key(r, 1, 6);
    rig_run(r, 10000);
    assert_false(may_commit(r, 2, 3, before)); /* the log does not reach back that far */
    expel(r, 2);
    rig_run(r, 10);
    yk_dir_core_stand(r->node[1].core, &key, &after);
    assert_false(may_commit(r, 2, 0, after));
    rig_free(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(other_bytes_are_dropped),
        cmocka_unit_test(other_bytes_in_another_group_are_dropped),
        cmocka_unit_test(other_epochs_are_gone),
        cmocka_unit_test(two_of_one_generation_are_both_dropped),
        cmocka_unit_test(order_to_drop_comes_again),
        cmocka_unit_test(removed_everywhere),
        cmocka_unit_test(pending_with_names),
        cmocka_unit_test(applied_when_there_is_memory),
        cmocka_unit_test(too_late_for_a_number),
        cmocka_unit_test(answered_when_durable),
        cmocka_unit_test(answered_when_published),
        cmocka_unit_test(told_when_the_owners_have_confirmed),
        cmocka_unit_test(done_when_the_owner_has_published),
        cmocka_unit_test(owner_logs_first),
        cmocka_unit_test(only_the_next_number),
        cmocka_unit_test(done_knows_of_expulsions),
        cmocka_unit_test(keeps_what_is_not_done),
        cmocka_unit_test(copies_and_removes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
