/* SPDX-License-Identifier: Apache-2.0
 *
 * Blocks come up from SSD: who waits for whom, in which order, and until when.
 */
#include "ssd_store_rig.h"

static void a_hint_that_the_filter_gives(void **state) {
    struct fixture f;
    uint64_t bytes = 0;
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    assert_true(yk_store_filter_fd(f.s, &bytes) >= 0);
    assert_true(bytes > 0);
    fixture_close(&f);
}

static void asking_for_one_block_twice_reads_it_once(void **state) {
    struct fixture f;
    struct yk_counters a, b;
    char key[32];
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    put_many(&f, 600);
    yk_store_counters(f.s, &a);
    f.raised = 0;
    uint32_t len = key_of(key, 0);
    for (uint64_t t = 1; t <= 5; t++)
        assert_int_equal(yk_store_raise(f.s, f.ns, f.epoch, key, len, YK_SSD_PRIO_DEMAND, 0, t),
                         YK_PENDING);
    settle(&f);
    yk_store_counters(f.s, &b);
    assert_int_equal(b.raised, a.raised + 1);
    assert_int_equal(f.raised, 5);
    fixture_close(&f);
}

/* All of DRAM is reserved, so that what is asked for has to wait. */
static uint32_t reserve_all(struct fixture *f, struct yk_place *places, uint32_t most) {
    uint32_t n = 0, tries = 0;
    while (n < most && tries < 200) {
        if (yk_store_reserve(f->s, 0, BLOCK, &places[n], NULL) == 0) {
            n++;
            tries = 0;
        } else {
            turn(f);
            tries++;
        }
    }
    assert_true(n < most);
    return n;
}

static void ask(struct fixture *f, uint32_t i, unsigned prio, uint64_t deadline_ns,
                uint64_t token) {
    char key[32];
    uint32_t len = key_of(key, i);
    assert_int_equal(yk_store_raise(f->s, f->ns, f->epoch, key, len, prio, deadline_ns, token),
                     YK_PENDING);
}

static void until_raised(struct fixture *f, uint32_t n) {
    for (uint64_t end = yk_now_ns() + LIMIT; f->raised < n;) {
        assert_true(yk_now_ns() < end);
        turn(f);
    }
}

/* Demand comes before what is fetched ahead, in its own order, and so does what was fetched ahead and is
 * demanded now. */
static void demand_waits_for_demand_alone(void **state) {
    static struct yk_place places[1024];
    struct fixture f;
    uint64_t far = yk_now_ns() + 10 * LIMIT;
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    put_many(&f, 600);
    uint32_t n = reserve_all(&f, places, 1024);
    ask(&f, 1, YK_SSD_PRIO_PREFETCH, far, 1);
    ask(&f, 2, YK_SSD_PRIO_PREFETCH, far, 2);
    ask(&f, 3, YK_SSD_PRIO_DEMAND, far, 3);
    ask(&f, 4, YK_SSD_PRIO_DEMAND, far, 4);
    ask(&f, 2, YK_SSD_PRIO_DEMAND, far, 12);
    turn(&f);
    assert_int_equal(f.raised, 0);
    assert_int_equal(yk_store_abort(f.s, 0, places[n - 1].idx, places[n - 1].gen), 0);
    until_raised(&f, 5); /* all through the one place, one after the other */
    static const uint64_t order[] = {3, 4, 2, 12, 1};
    for (uint32_t i = 0; i < 5; i++)
        assert_int_equal(f.order[i], order[i]);
    while (--n > 0)
        yk_store_abort(f.s, 0, places[n - 1].idx, places[n - 1].gen);
    fixture_close(&f);
}

/* A deadline holds behind others that have more time; what is fetched ahead does not wait for ever. */
static void deadlines_hold_anywhere_in_a_list(void **state) {
    static struct yk_place places[1024];
    struct fixture f;
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    put_many(&f, 600);
    uint32_t n = reserve_all(&f, places, 1024);
    uint64_t now = yk_now_ns(), far = now + 1000 * LIMIT, soon = now + 500000000u;
    ask(&f, 1, YK_SSD_PRIO_PREFETCH, far, 1);
    ask(&f, 2, YK_SSD_PRIO_PREFETCH, soon, 2);
    ask(&f, 3, YK_SSD_PRIO_DEMAND, far, 3);
    ask(&f, 4, YK_SSD_PRIO_DEMAND, soon, 4);
    until_raised(&f, 2);
    assert_true(yk_now_ns() >= soon);
    assert_int_equal(f.order[0] + f.order[1], 6);
    until_raised(&f, 3);
    assert_int_equal(f.order[2], 1);
    while (n-- > 0)
        yk_store_abort(f.s, 0, places[n].idx, places[n].gen);
    until_raised(&f, 4);
    assert_true(get(&f, 3, 0, BLOCK));
    fixture_close(&f);
}

static int in_dram(struct fixture *f, uint32_t i) {
    uint32_t tiers = 0;
    return known(f, i, &tiers) && (tiers & 1u << YK_TIER_DRAM) != 0;
}

/* One after the other, each read by who asked for it. */
static void get_some(struct fixture *f, uint32_t from, uint32_t to) {
    for (uint32_t i = from; i < to; i++) {
        assert_true(get(f, i, 0, BLOCK));
        settle(f);
    }
}

/* Opened and filled; where which of 600 blocks is left in memory. How many are depends on when the cleaner had its
 * turns: where too few are to tell anything, once more. */
static void open_half_full(struct fixture *f, const char *policy, char there[600]) {
    for (uint32_t tries = 0, count = 0; count <= 100; tries++) {
        assert_true(tries < 10);
        if (tries > 0)
            fixture_close(f);
        fixture_init(f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
        f->o.policy = policy;
        store_open(f);
        put_many(f, 600);
        count = 0;
        for (uint32_t i = 0; i < 600; i++)
            count += (uint32_t)(there[i] = (char)in_dram(f, i));
    }
}

/* How many of the blocks in memory were pushed out while 100 others came up. */
static uint32_t lost_to_risers(const char *policy, uint32_t yielded) {
    struct fixture f;
    struct yk_counters n;
    uint32_t lost = 0;
    char there[600];
    open_half_full(&f, policy, there);
    for (uint32_t i = 0; i < 100; i++)
        assert_false(there[i]);
    get_some(&f, 0, 100);
    for (uint32_t i = 100; i < 600; i++)
        lost += there[i] && !in_dram(&f, i);
    yk_store_counters(f.s, &n);
    assert_int_equal(n.yielded, yielded);
    fixture_close(&f);
    return lost;
}

/* Blocks that nobody has used since they were written come up for their readers, and take each other's
 * place, unless the policy lets everything rise. What the tier keeps free ahead of need goes besides, more of it where
 * its turns come late: so once in ten is enough. */
static void what_does_not_deserve_to_rise_pushes_nobody_out(void **state) {
    static const char *const policies[] = {"lru", "chain-lru", "s3fifo", "chain-s3fifo"};
    for (uint32_t which = 0; which < 4; which++) {
        int rises = which < 2, seen = 0;
        for (uint32_t tries = 0; tries < 10 && !seen; tries++) {
            uint32_t lost = lost_to_risers(policies[which], rises ? 0 : 100);
            seen = rises ? lost > 60 : lost < 60;
        }
        assert_true(seen);
    }
}

/* The second time it is asked for a block rises, and so does what was fetched ahead, or is asked for by two. */
static void what_is_asked_for_again_stays(void **state) {
    struct fixture f;
    struct yk_counters n;
    uint32_t again = 60;
    for (uint32_t tries = 0; again == 60; tries++) { /* until there is one that came up, and has gone again */
        assert_true(tries < 10);
        if (tries > 0)
            fixture_close(&f);
        fixture_init(&f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
        f.o.policy = "s3fifo";
        store_open(&f);
        put_many(&f, 600);
        get_some(&f, 0, 60);
        for (again = 0; again < 60 && in_dram(&f, again);)
            again++;
    }
    get_some(&f, again, again + 1);
    ask(&f, 60, YK_SSD_PRIO_PREFETCH, yk_now_ns() + LIMIT, 1);
    ask(&f, 61, YK_SSD_PRIO_DEMAND, yk_now_ns() + LIMIT, 2);
    ask(&f, 61, YK_SSD_PRIO_DEMAND, yk_now_ns() + LIMIT, 3);
    settle(&f);
    get_some(&f, 60, 62);
    yk_store_counters(f.s, &n);
    assert_int_equal(n.yielded, 60);
    get_some(&f, 100, 140);
    yk_store_counters(f.s, &n);
    assert_int_equal(n.yielded, 100);
    assert_true(in_dram(&f, again));
    assert_true(in_dram(&f, 60));
    assert_true(in_dram(&f, 61));
    fixture_close(&f);
}

/* Many that come up together are all there for their readers. */
static void guests_wait_for_their_readers(void **state) {
    struct fixture f;
    struct yk_counters a, b;
    fixture_init(&f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    f.o.policy = "s3fifo";
    store_open(&f);
    put_many(&f, 600);
    for (uint32_t i = 0; i < 16; i++)
        ask(&f, i, YK_SSD_PRIO_DEMAND, yk_now_ns() + LIMIT, i + 1u);
    settle(&f);
    yk_store_counters(f.s, &a);
    get_some(&f, 0, 16);
    yk_store_counters(f.s, &b);
    assert_int_equal(a.raised, b.raised); /* each was read once */
    assert_int_equal(b.yielded, 16);
    fixture_close(&f);
}

/* What is asked for comes while writes that were begun before are still with the device. */
static void a_read_goes_before_writes(void **state) {
    struct fixture f;
    struct yk_counters before, n;
    struct yk_file_fault late = {.kind = YK_FILE_FAULT_DELAY,
                                .op_mask = 1u << YK_FILE_WRITE,
                                .rate_ppm = 1000000,
                                .arg = 3600u * 1000u};
    fixture_init(&f, 16 * MIB, 96 * MIB, YK_SSD_WRITE_THROUGH);
    f.o.ssd.io_wrap = wrap;
    fault_count = 0;
    store_open(&f);
    for (uint32_t i = 0; i < 10; i++)
        put(&f, i, BLOCK);
    settle(&f);
    fault_count = 0;
    reboot(&f, 1);
    settle(&f);
    yk_file_fault_set(faults[0], &late);
    for (uint32_t i = 100; i < 164; i++)
        put(&f, i, BLOCK);
    yk_store_counters(f.s, &before);
    for (uint64_t end = yk_now_ns() + LIMIT; yk_file_fault_hits(faults[0]) < 4;) {
        assert_true(yk_now_ns() < end);
        turn(&f);
    }
    for (uint32_t i = 0; i < 10; i++)
        assert_true(get(&f, i, 0, BLOCK));
    yk_store_counters(f.s, &n);
    assert_int_equal(n.raised, before.raised + 10);
    assert_int_equal(n.demoted, before.demoted); /* not one of the writes has ended */
    struct yk_segment seg = *yk_store_segment(f.s);
    yk_store_close(f.s, 0);
    yk_segment_unlink(&seg);
    unlink(f.path);
}

static void removed_while_it_comes_up(void **state) {
    struct fixture f;
    char key[32];
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    put_many(&f, 600);
    uint32_t len = key_of(key, 3);
    assert_int_equal(yk_store_raise(f.s, f.ns, f.epoch, key, len, YK_SSD_PRIO_DEMAND, 0, 1),
                     YK_PENDING);
    assert_int_equal(change(&f, YK_CHANGE_REMOVE, 0, 3), 0);
    settle(&f);
    assert_false(known(&f, 3, NULL));
    assert_false(get(&f, 3, 0, BLOCK));
    assert_int_equal(f.raised, 1);
    fixture_close(&f);
}

static void rot_is_counted(void **state) {
    struct fixture f;
    struct yk_file_fault flip = {
        .kind = YK_FILE_FAULT_CORRUPT, .op_mask = 1u << YK_FILE_READ, .nth = 1};
    struct yk_ssd_counters n;
    uint32_t tiers = 0;
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    f.o.ssd.io_wrap = wrap;
    fault_count = 0;
    restart(&f, 1);
    put_many(&f, 600);
    assert_true(known(&f, 0, &tiers));
    assert_int_equal(tiers, 1u << YK_TIER_SSD);
    yk_file_fault_set(faults[0], &flip);
    assert_false(get(&f, 0, 0, BLOCK));
    uint64_t ticket = yk_store_ticket_take(f.s);
    assert_true(ticket != 0);
    await(&f, ticket);
    assert_false(known(&f, 0, NULL));
    yk_ssd_counters_get(yk_store_ssd(f.s), &n);
    assert_int_equal(n.rotten, 1);
    assert_int_equal(n.removed, 0);
    assert_true(get(&f, 1, 0, BLOCK));
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hint_that_the_filter_gives),
        cmocka_unit_test(asking_for_one_block_twice_reads_it_once),
        cmocka_unit_test(demand_waits_for_demand_alone),
        cmocka_unit_test(deadlines_hold_anywhere_in_a_list),
        cmocka_unit_test(what_does_not_deserve_to_rise_pushes_nobody_out),
        cmocka_unit_test(what_is_asked_for_again_stays),
        cmocka_unit_test(guests_wait_for_their_readers),
        cmocka_unit_test(a_read_goes_before_writes),
        cmocka_unit_test(removed_while_it_comes_up),
        cmocka_unit_test(rot_is_counted),
    };
    return cmocka_run_group_tests(tests, make_dirs, remove_dirs);
}
