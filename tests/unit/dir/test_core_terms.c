/* SPDX-License-Identifier: Apache-2.0
 *
 * The directory's protocol (dir/core.h), rule by rule, in a small cluster (core_rig.h): terms and changes of owner,
 * nodes that return, and messages that are strange.
 *
 * Threads: one.
 */
#include "core_case.h"

/* ---- terms and owners --------------------------------------------------------------------------------- */

static void lower_terms_are_refused(void **state) {
    (void)state;
    struct rig *r = cluster(2);
    put(r, 2, 0);
    settle(r);
    uint64_t old = r->map->slot[rig_slot[0]].term;
    move(r, 0, 2);
    settle(r);
    struct yk_dir_msg msg = about(r, YK_DIR_REMOVE, 0, old);
    struct yk_dir_record record = {.origin = {old, 1}, .key = rig_key_of(0)};
    uint64_t refusals = r->messages[YK_DIR_REFUSED];
    msg.a = 1;
    assert_int_equal(deliver(r, 1, 2, msg, &record, NULL), 0);
    assert_int_equal(r->messages[YK_DIR_REFUSED], refusals + 1);
    settle(r);
    assert_int_equal(rig_holders(r, 0), 1 << 2);
    rig_free(r);
}

static void terms_outlive_a_crash(void **state) {
    (void)state;
    struct rig *r = cluster(2);
    uint64_t term = r->map->slot[rig_slot[0]].term + 5;
    assert_int_equal(deliver(r, 1, 2, about(r, YK_DIR_REFUSED, 0, term), NULL, NULL), 0);
    settle(r);
    rig_kill(r, 2, 0);
    rig_start(r, 2, 1);
    assert_int_equal(yk_core_seen(r->node[2].core, rig_slot[0]), term);
    rig_free(r);
}

static uint64_t told_term;

static void on_term(void *arg, uint32_t slot, uint64_t term) {
    (void)arg;
    if (slot == rig_slot[0])
        told_term = term;
}

/* They are what an etcd that comes back empty is told (R11). */
static void higher_terms_are_told(void **state) {
    (void)state;
    struct rig *r = cluster(2);
    uint64_t term = r->map->slot[rig_slot[0]].term + 5;
    r->node[2].core->opts.ops.term = on_term;
    told_term = 0;
    assert_int_equal(deliver(r, 1, 2, about(r, YK_DIR_REFUSED, 0, term), NULL, NULL), 0);
    assert_int_equal(told_term, term);
    assert_int_equal(deliver(r, 1, 2, about(r, YK_DIR_REFUSED, 0, term - 1), NULL, NULL), 0);
    assert_int_equal(told_term, term);
    rig_free(r);
}

static void higher_terms_end_ownership(void **state) {
    (void)state;
    struct rig *r = cluster(2);
    uint64_t term = r->map->slot[rig_slot[0]].term;
    r->node[2].cut_off = 1;
    int token = remove_key(r, 1, 0);
    rig_run(r, 50);
    assert_int_equal(deliver(r, 2, 1, about(r, YK_DIR_REFUSED, 0, term + 1), NULL, NULL), 0);
    assert_int_equal(r->remove[token].status, -YK_EGONE);
    assert_int_equal(rig_begin_remove(r, 1, 0, 1000), -YK_EGONE);
    rig_free(r);
}

static void new_owner_goes_on(void **state) {
    (void)state;
    struct rig *r = cluster(3);
    put(r, 3, 0);
    put(r, 3, 3);
    settle(r);
    r->node[3].cut_off = 1;
    remove_key(r, 1, 0);
    remove_key(r, 1, 3);
    settle(r);
    expel(r, 1); /* node 2 alone has logged them */
    r->node[1].deaf = r->node[1].cut_off = 1;
    settle(r);
    move(r, 0, 2);
    r->node[3].cut_off = 0;
    settle(r);
    assert_int_equal(rig_holders(r, 0) | rig_holders(r, 3), 0);
    struct yk_dir_rlog_slot s = yk_core_slot(r->node[3].core, rig_slot[0]);
    assert_int_equal(s.last.term, r->map->slot[rig_slot[0]].term);
    assert_int_equal(s.last.rseq, 2);
    rig_free(r);
}

static void sent_again_is_not_applied_again(void **state) {
    (void)state;
    struct rig *r = cluster(2);
    put(r, 2, 0);
    settle(r);
    remove_key(r, 1, 0);
    rig_run(r, 500); /* the log keeps it for 5 s */
    put(r, 2, 0);
    rig_run(r, 500);
    move(r, 0, 2);
    rig_run(r, 500);
    move(r, 0, 1);
    rig_run(r, 500);
    assert_int_equal(rig_holders(r, 0), 1 << 2);
    assert_int_equal(yk_core_slot(r->node[2].core, rig_slot[0]).last.term, r->map->slot[rig_slot[0]].term);
    rig_free(r);
}

static void restarted_owner_waits_for_a_new_term(void **state) {
    (void)state;
    struct rig *r = cluster(1);
    uint64_t term = r->map->slot[rig_slot[0]].term;
    rig_kill(r, 1, 0);
    rig_start(r, 1, 1);
    settle(r);
    assert_true(r->map->slot[rig_slot[0]].term > term);
    assert_int_equal(r->node[1].core->own[rig_slot[0]]->term, r->map->slot[rig_slot[0]].term);
    rig_kill(r, 1, 0);
    rig_start(r, 1, 1);
    r->node[1].disk_held = 1; /* it has not logged that it leads: it leads nothing yet */
    rig_run(r, 500);
    assert_int_equal(rig_begin_remove(r, 1, 0, 1000), -YK_EAGAIN);
    rig_free(r);
}

/* ---- returning ------------------------------------------------------------------------------------------ */

static void returns_without_what_was_removed(void **state) {
    (void)state;
    struct rig *r = cluster(3);
    put(r, 3, 0);
    put(r, 3, 3);
    settle(r);
    r->node[3].deaf = r->node[3].cut_off = 1;
    expel(r, 3);
    settle(r);
    int token = remove_key(r, 1, 0);
    settle(r);
    assert_true(r->remove[token].done);
    assert_int_equal(rig_holders(r, 0), 1 << 3);
    r->node[3].deaf = r->node[3].cut_off = 0;
    rig_at(r, 0, LEARN, 3);
    while (r->node[3].core->map->version < r->map->version && rig_step(r, r->now_ms + WHILE_MS, NULL))
        ;
    assert_false(yk_dir_core_serves(r->node[3].core));
    settle(r);
    assert_true(yk_dir_core_serves(r->node[3].core));
    assert_int_equal(rig_holders(r, 0), 0);
    assert_int_equal(rig_holders(r, 3), 1 << 3);
    assert_int_equal(rig_found(r, 3), 1 << 3);
    rig_free(r);
}

static void drops_what_the_log_does_not_reach(void **state) {
    (void)state;
    struct rig *r = cluster(2);
    put(r, 2, 0);
    put(r, 2, 1);
    remove_key(r, 1, 6);
    settle(r);
    r->node[2].deaf = r->node[2].cut_off = 1;
    expel(r, 2);
    settle(r);
    for (int i = 0; i < 12; i++) /* more than the log keeps (4) */
        remove_key(r, 1, 3);
    rig_run(r, 10000);
    assert_true(yk_core_slot(r->node[1].core, rig_slot[0]).base.rseq > 1);
    uint64_t before = r->dropped_slots;
    r->node[2].deaf = r->node[2].cut_off = 0;
    rig_at(r, 0, LEARN, 2);
    settle(r);
    assert_true(yk_dir_core_serves(r->node[2].core));
    assert_int_equal(r->dropped_slots, before + 1);
    assert_int_equal(rig_holders(r, 0), 0);
    assert_int_equal(rig_holders(r, 1), 1 << 2); /* of another slot */
    rig_free(r);
}

static void log_without_its_end(void **state) {
    (void)state;
    struct rig *r = cluster(2);
    remove_key(r, 1, 0);
    settle(r);
    size_t len = 0;
    const void *image = yk_dir_rlog_image(r->node[2].core->log, &len);
    unsigned char *old = malloc(len); /* its disk will show this again */
    memcpy(old, image, len);
    remove_key(r, 1, 3);
    settle(r);
    rig_kill(r, 2, 0);
    free(r->node[2].image);
    r->node[2].image = old;
    r->node[2].image_len = len;
    rig_start(r, 2, 1);
    int token = remove_key(r, 1, 6);
    settle(r);
    assert_true(r->remove[token].done);
    assert_int_equal(yk_core_slot(r->node[2].core, rig_slot[0]).last.rseq, 3);
    rig_free(r);
}

static void done_waits_for_who_returns(void **state) {
    (void)state;
    struct rig *r = cluster(3);
    put(r, 3, 0);
    settle(r);
    expel(r, 3);
    rig_run(r, 1);
    r->node[3].disk_held = 1; /* its return does not end */
    settle(r);
    assert_int_equal(yk_dir_map_member(r->map, 3)->state, YK_DIR_RETURNING);
    int token = remove_key(r, 1, 3);
    settle(r);
    assert_false(r->remove[token].ended);
    r->node[3].disk_held = 0;
    settle(r);
    assert_true(r->remove[token].done);
    assert_int_equal(yk_dir_map_member(r->map, 3)->state, YK_DIR_MEMBER);
    rig_free(r);
}

static void takes_no_remove_before_the_replay(void **state) {
    (void)state;
    struct rig *r = cluster(2);
    put(r, 2, 0);
    settle(r);
    expel(r, 2);
    r->node[1].cut_off = 1;
    rig_run(r, 500);
    assert_int_equal(r->node[2].core->me->state, YK_DIR_RETURNING);
    uint64_t term = yk_core_seen(r->node[2].core, rig_slot[0]);
    struct yk_dir_num last = yk_core_slot(r->node[2].core, rig_slot[0]).last;
    struct yk_dir_msg msg = about(r, YK_DIR_REMOVE, 0, term);
    struct yk_dir_record record = {.origin = {term, last.rseq + 1}, .key = rig_key_of(0)};
    msg.a = last.rseq + 1;
    assert_int_equal(deliver(r, 1, 2, msg, &record, NULL), 0);
    rig_run(r, 500);
    assert_int_equal(yk_dir_num_cmp(yk_core_slot(r->node[2].core, rig_slot[0]).last, last), 0);
    assert_int_equal(rig_holders(r, 0), 1 << 2);
    rig_free(r);
}

static void replay_of_another_return(void **state) {
    (void)state;
    struct rig *r = cluster(2);
    expel(r, 2);
    r->node[1].cut_off = 1;
    rig_run(r, 500);
    assert_int_equal(r->node[2].core->me->state, YK_DIR_RETURNING);
    uint64_t term = yk_core_seen(r->node[2].core, rig_slot[0]);
    struct yk_dir_msg msg = about(r, YK_DIR_REPLAY, 0, term);
    msg.incarnation = r->node[2].core->me->incarnation - 1;
    msg.flags = YK_DIR_LAST;
    msg.num[YK_DIR_NEWEST] = msg.num[YK_DIR_BASE] = (struct yk_dir_num){term, 0};
    assert_int_equal(deliver(r, 1, 2, msg, NULL, NULL), 0);
    rig_run(r, 500);
    assert_true(r->node[2].core->hold[rig_slot[0]].replayed < r->node[2].core->me->incarnation);
    r->node[1].cut_off = 0;
    settle(r);
    assert_true(yk_dir_core_serves(r->node[2].core));
    rig_free(r);
}

/* ---- messages --------------------------------------------------------------------------------------------- */

static void strange_messages(void **state) {
    (void)state;
    struct rig *r = cluster(1);
    struct yk_err err = {0};
    unsigned char newer[64] = {YK_DIR_MSG_FORMAT + 1, 1};
    assert_int_equal(yk_dir_core_message(r->node[1].core, 1, 1, newer, sizeof(newer), r->now_ms, &err), -YK_EVERSION);
    assert_non_null(strstr(err.text, "format 2"));
    assert_non_null(strstr(err.text, "format 1"));
    newer[0] = YK_DIR_MSG_FORMAT;
    newer[1] = YK_DIR_MSG_KINDS;
    assert_int_equal(yk_dir_core_message(r->node[1].core, 1, 1, newer, sizeof(newer), r->now_ms, &err), -YK_EVERSION);
    assert_int_equal(yk_dir_core_message(r->node[1].core, 1, 1, newer, 1, r->now_ms, &err), -YK_EPROTO);
    struct yk_dir_msg msg = about(r, YK_DIR_ASK, 0, 1);
    msg.cluster = CLUSTER + 1;
    assert_int_equal(deliver(r, 1, 1, msg, NULL, &err), -YK_EPROTO);
    assert_non_null(strstr(err.text, "cluster"));
    msg = about(r, YK_DIR_PUBLISH, 0, 1);
    struct yk_dir_record record = {.key = rig_key_of(0)};
    assert_int_equal(deliver(r, 1, 1, msg, &record, &err), -YK_EPROTO); /* a record is no change */
    rig_free(r);
}

static void changes_survive_the_wire(void **state) {
    (void)state;
    static unsigned char buf[YK_DIR_MESSAGE_MAX];
    struct yk_dir_msg msg = {.kind = YK_DIR_PUBLISH, .slot = 4095, .cluster = 1, .term = 2, .incarnation = 3, .a = 4, .b = 5};
    struct yk_dir_change in[2] = {{.block = {.key = {"n", 1, "key", 3}, .group = 1, .epoch = 2, .gen = 3, .len = 4,
                                             .sum = 5, .tiers = 6}},
                                  {.alias = 1,
                                   .block = {.key = {"n", 1, "k2", 2}, .group = 8, .epoch = 7, .sum = 9}}};
    struct yk_wr w;
    struct yk_dir_msg out;
    struct yk_dir_change c;
    yk_dir_msg_begin(&w, buf, &msg);
    assert_true(yk_dir_msg_change(&w, &in[0]) && yk_dir_msg_change(&w, &in[1]));
    uint32_t len = yk_dir_msg_finish(&w, &msg, 2);
    assert_int_equal(yk_dir_msg_decode(buf, len, &out, NULL), 0);
    assert_int_equal(out.count, 2);
    assert_int_equal(out.b, 5);
    yk_dir_msg_next_change(&out.items, &c);
    assert_memory_equal(c.block.key.key, "key", 3);
    assert_int_equal(c.block.len, 4);
    assert_int_equal(c.block.tiers, 6);
    yk_dir_msg_next_change(&out.items, &c);
    assert_int_equal(c.alias, 1);
    assert_memory_equal(c.block.key.key, "k2", 2);
    assert_int_equal(c.block.epoch, 7);
    assert_int_equal(c.block.sum, 9);
    for (uint32_t cut = 0; cut < len; cut++)
        assert_true(yk_dir_msg_decode(buf, cut, &out, NULL) < 0);
    /* What does not fit any more is left out whole. */
    yk_dir_msg_begin(&w, buf, &msg);
    while (yk_dir_msg_change(&w, &in[0]))
        ;
    assert_true(yk_wr_ok(&w));
    assert_true(yk_wr_len(&w) <= YK_DIR_MESSAGE_MAX);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lower_terms_are_refused),
        cmocka_unit_test(terms_outlive_a_crash),
        cmocka_unit_test(higher_terms_are_told),
        cmocka_unit_test(higher_terms_end_ownership),
        cmocka_unit_test(new_owner_goes_on),
        cmocka_unit_test(sent_again_is_not_applied_again),
        cmocka_unit_test(restarted_owner_waits_for_a_new_term),
        cmocka_unit_test(returns_without_what_was_removed),
        cmocka_unit_test(drops_what_the_log_does_not_reach),
        cmocka_unit_test(log_without_its_end),
        cmocka_unit_test(done_waits_for_who_returns),
        cmocka_unit_test(takes_no_remove_before_the_replay),
        cmocka_unit_test(replay_of_another_return),
        cmocka_unit_test(strange_messages),
        cmocka_unit_test(changes_survive_the_wire),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
