/* SPDX-License-Identifier: Apache-2.0
 *
 * What a restart finds in two tiers, of the daemon (DRAM survives) and of the host (only the SSD does):
 * what is there, in which order it comes up, and that what was removed, has expired or is of an older
 * epoch stays away.
 */
#include "ssd_store_rig.h"

static void a_restart_finds_both_tiers(void **state) {
    for (int clean = 0; clean < 2; clean++) {
        struct fixture f;
        fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
        put_many(&f, 600);
        restart(&f, clean);
        for (uint32_t i = 0; i < 600; i++)
            assert_true(get(&f, i, 0, BLOCK));
        fixture_close(&f);
    }
}

static void a_reboot_finds_the_ssd(void **state) {
    struct fixture f;
    uint32_t found = 0;
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    put_many(&f, 600);
    reboot(&f, 0);
    for (uint32_t i = 0; i < 600; i++)
        found += (uint32_t)get(&f, i, 0, BLOCK);
    assert_true(found > 300);
    fixture_close(&f);
}

/* A stop that writes what DRAM alone has loses nothing to a reboot, and preloading begins with what was
 * used last. */
static void a_stop_writes_what_memory_has(void **state) {
    struct fixture f;
    uint32_t tiers = 0;
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    put_many(&f, 600);
    for (uint32_t i = 0; i < 20; i++) /* of those that were written first */
        assert_true(get(&f, i, 0, BLOCK));
    f.o.ssd.no_preload = 0;
    yk_store_ssd_settle(f.s, yk_now_ns() + LIMIT);
    reboot(&f, 1);
    for (uint32_t i = 0; i < 600; i++)
        assert_true(known(&f, i, NULL));
    settle(&f);
    for (uint32_t i = 0; i < 20; i++) {
        assert_true(known(&f, i, &tiers));
        assert_true(tiers & 1u << YK_TIER_DRAM);
    }
    for (uint32_t i = 0; i < 600; i++)
        assert_true(get(&f, i, 0, BLOCK));
    fixture_close(&f);
}

static void a_stop_keeps_its_deadline(void **state) {
    struct fixture f;
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    put_many(&f, 600);
    yk_store_ssd_settle(f.s, 1); /* it is over */
    restart(&f, 1);
    for (uint32_t i = 0; i < 600; i++)
        assert_true(get(&f, i, 0, BLOCK));
    fixture_close(&f);
}

static void preloading_brings_blocks_up(void **state) {
    struct fixture f;
    struct yk_counters n;
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_WRITE_THROUGH);
    f.o.ssd.no_preload = 0;
    put_many(&f, 600);
    reboot(&f, 1);
    settle(&f);
    yk_store_counters(f.s, &n);
    assert_true(n.preloaded > 100);
    assert_int_equal(n.preloaded_bytes, n.preloaded * BLOCK);
    uint32_t tiers = 0;
    assert_true(known(&f, 599, &tiers)); /* the youngest is among them */
    assert_true(tiers & 1u << YK_TIER_DRAM);
    assert_true(get(&f, 599, 0, BLOCK));
    fixture_close(&f);
}

static void what_was_removed_stays_away(void **state) {
    struct fixture f;
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    put_many(&f, 600);
    for (uint32_t i = 0; i < 600; i += 2)
        assert_int_equal(change(&f, YK_CHANGE_REMOVE, 0, i), 0);
    uint64_t ticket = yk_store_ticket_take(f.s);
    assert_true(ticket != 0);
    await(&f, ticket);
    for (int kind = 0; kind < 3; kind++) {
        for (uint32_t i = 0; i < 600; i++)
            assert_int_equal(known(&f, i, NULL) && i % 2 == 0, 0);
        if (kind == 0)
            restart(&f, 0);
        else
            reboot(&f, kind == 1);
    }
    for (uint32_t i = 0; i < 600; i += 2)
        assert_false(get(&f, i, 0, BLOCK));
    fixture_close(&f);
}

static void an_epoch_hides_what_is_on_ssd(void **state) {
    struct fixture f;
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    put_many(&f, 600);
    assert_int_equal(yk_store_ns_raise(f.s, f.ns, f.epoch + 1), 0);
    await(&f, yk_store_ticket_take(f.s));
    f.epoch++;
    for (uint32_t i = 0; i < 600; i++)
        assert_false(known(&f, i, NULL));
    reboot(&f, 0);
    assert_int_equal(f.epoch, 2);
    for (uint32_t i = 0; i < 600; i++)
        assert_false(known(&f, i, NULL));
    put(&f, 5, BLOCK);
    assert_true(get(&f, 5, 0, BLOCK));
    fixture_close(&f);
}

/* Whoever comes with an epoch that another has just raised waits for the same record (R9). */
static void an_equal_epoch_waits_for_who_raised_it(void **state) {
    struct fixture f;
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    assert_int_equal(yk_store_ns_raise(f.s, f.ns, f.epoch + 1), 0);
    uint64_t first = yk_store_ticket_take(f.s);
    assert_true(first != 0 && yk_store_durable(f.s, first) == 0);
    assert_int_equal(yk_store_ns_raise(f.s, f.ns, f.epoch + 1), 0);
    uint64_t second = yk_store_ticket_take(f.s);
    assert_true(second >= first && yk_store_durable(f.s, second) == 0);
    await(&f, second);
    assert_int_equal(yk_store_ns_raise(f.s, f.ns, f.epoch + 1), 0);
    assert_int_equal(yk_store_durable(f.s, yk_store_ticket_take(f.s)), 1);
    fixture_close(&f);
}

static void an_epoch_that_no_device_records_is_an_error(void **state) {
    struct fixture f;
    struct yk_file_fault fault = {
        .kind = YK_FILE_FAULT_EIO, .op_mask = 1u << YK_FILE_FLUSH, .nth = 1};
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    f.o.ssd.io_wrap = wrap;
    fault_count = 0;
    restart(&f, 1);
    settle(&f);
    yk_file_fault_set(faults[0], &fault);
    assert_int_equal(yk_store_ns_raise(f.s, f.ns, f.epoch + 1), 0);
    uint64_t ticket = yk_store_ticket_take(f.s);
    for (uint64_t end = yk_now_ns() + LIMIT; yk_store_durable(f.s, ticket) == 0;) {
        assert_true(yk_now_ns() < end);
        turn(&f);
    }
    assert_int_equal(yk_store_durable(f.s, ticket), -YK_EIO);
    assert_int_equal(yk_store_ns_raise(f.s, f.ns, f.epoch + 1), 0); /* no better for the next */
    assert_int_equal(yk_store_durable(f.s, yk_store_ticket_take(f.s)), -YK_EIO);
    assert_int_equal(yk_store_ns_raise(f.s, f.ns, f.epoch + 2), -YK_EIO);
    assert_int_equal(yk_store_ns_epoch(f.s, f.ns), f.epoch + 1);
    fixture_close(&f);
}

static void a_removed_namespace_is_gone_for_good(void **state) {
    struct fixture f;
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    put_many(&f, 600);
    assert_int_equal(yk_store_ns_remove(f.s, f.ns), 0);
    await(&f, yk_store_ticket_take(f.s));
    reboot(&f, 0); /* makes it anew, under the same name */
    for (uint32_t i = 0; i < 600; i++)
        assert_false(known(&f, i, NULL));
    fixture_close(&f);
}

static void a_time_to_live_holds_over_a_reboot(void **state) {
    struct fixture f;
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_WRITE_THROUGH);
    put(&f, 1, BLOCK);
    put(&f, 2, BLOCK);
    settle(&f);
    assert_int_equal(change(&f, YK_CHANGE_EXPIRE, 1, 1), 0);
    await(&f, yk_store_ticket_take(f.s));
    for (uint64_t end = yk_now_ns() + LIMIT; known(&f, 1, NULL);) {
        assert_true(yk_now_ns() < end);
        turn(&f);
    }
    reboot(&f, 0);
    assert_false(known(&f, 1, NULL));
    assert_true(known(&f, 2, NULL));
    fixture_close(&f);
}

/* The same bytes once more, for a block that is on SSD alone: a time to live that the put names holds there,
 * too, and one that the block has holds on if it names none. */
static void a_time_to_live_of_what_is_on_ssd(void **state) {
    struct fixture f;
    uint32_t tiers = 0;
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    put_many(&f, 600);
    assert_int_equal(change(&f, YK_CHANGE_EXPIRE, 2000, 1), 0);
    await(&f, yk_store_ticket_take(f.s));
    for (uint32_t i = 0; i < 2; i++) {
        assert_true(known(&f, i, &tiers));
        assert_int_equal(tiers, 1u << YK_TIER_SSD);
        assert_int_equal(put_flags(&f, i, 0, BLOCK, 0, i == 0 ? 300 : 0), 0);
        uint64_t ticket = yk_store_ticket_take(f.s);
        assert_int_equal(ticket != 0, i == 0);
        await(&f, ticket);
    }
    for (uint64_t end = yk_now_ns() + LIMIT; known(&f, 0, NULL) || known(&f, 1, NULL);) {
        assert_true(yk_now_ns() < end);
        turn(&f);
    }
    reboot(&f, 0);
    assert_false(known(&f, 0, NULL));
    assert_false(known(&f, 1, NULL));
    assert_true(known(&f, 2, NULL));
    fixture_close(&f);
}

/* The tier has dropped a block of its own accord, and that is not durable yet. Who removes it then, from
 * DRAM, where it is gone already, or by a pattern, hears of it only when it cannot come back. */
static void dropped_and_removed(void **state) {
    for (int how = 0; how < 3; how++) {
        struct fixture f;
        fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_WRITE_THROUGH);
        f.o.ssd.capacity_blocks = 10;
        restart(&f, 1);
        for (uint32_t i = 0; i < 10; i++)
            put(&f, i, BLOCK);
        settle(&f);
        put(&f, 10, BLOCK); /* 0 goes for it */
        yk_store_ticket_take(f.s);
        uint32_t cursor = 0;
        assert_int_equal(change(&f, YK_CHANGE_REMOVE, 0, 0), 0);
        uint64_t ticket = yk_store_ticket_take(f.s);
        if (how == 1) {
            assert_int_equal(change(&f, YK_CHANGE_REMOVE, 0, 0), YK_MISS);
            ticket = yk_store_ticket_take(f.s);
        }
        if (how == 2) {
            while (cursor != YK_WALK_END)
                assert_int_equal(
                    yk_store_remove_step(f.s, f.ns, YK_REMOVE_GLOB, "block-0", 7, &cursor, 64), 0);
            ticket = yk_store_ticket_take(f.s);
        }
        assert_true(ticket != 0);
        await(&f, ticket);
        reboot(&f, 0);
        assert_false(known(&f, 0, NULL));
        assert_true(known(&f, 1, NULL));
        fixture_close(&f);
    }
}

/* What DRAM has and stood on a device that is gone by now: its removal is acknowledged when the other device
 * has recorded that. */
static void removed_while_a_device_is_gone(void **state) {
    struct fixture f;
    struct yk_file_fault gone = {.kind = YK_FILE_FAULT_GONE, .op_mask = 0xff, .nth = 1};
    struct yk_file_fault slow = {.kind = YK_FILE_FAULT_DELAY,
                                .op_mask = 1u << YK_FILE_WRITE,
                                .rate_ppm = 1000000,
                                .arg = 200};
    struct yk_ssd_dev_stats st;
    struct yk_ssd_info info;
    char second[168];
    uint32_t id, n = 0, there[10] = {0};
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_WRITE_THROUGH);
    snprintf(second, sizeof(second), "%s-2", f.path);
    f.o.ssd.dev[1] = (struct yk_ssd_dev_opts){second, 96 * MIB};
    f.o.ssd.dev_count = 2;
    f.o.ssd.io_wrap = wrap;
    fault_count = 0;
    restart(&f, 1);
    for (uint32_t i = 0; i < 10; i++) {
        put(&f, i, BLOCK);
        settle(&f);
        assert_true(on_ssd(&f, i, &id));
        yk_ssd_info_get(yk_store_ssd(f.s), id, &info);
        there[i] = info.device == 0;
        n += there[i];
    }
    assert_true(n > 0 && n < 10);
    yk_file_fault_set(faults[1], &slow);
    yk_file_fault_set(faults[0], &gone);
    for (uint32_t i = 10; i < 14; i++) /* some of them for the first */
        put(&f, i, BLOCK);
    for (uint64_t end = yk_now_ns() + LIMIT;;) {
        assert_true(yk_now_ns() < end);
        yk_store_ssd_poll(f.s);
        yk_store_tick(f.s);
        yk_ssd_dev_stats_get(yk_store_ssd(f.s), 0, &st);
        if (st.state == YK_SSD_DEV_GONE)
            break;
    }
    yk_store_ticket_take(f.s);
    for (uint32_t i = 0; i < 10; i++)
        if (there[i])
            assert_int_equal(change(&f, YK_CHANGE_REMOVE, 0, i), 0);
    uint64_t ticket = yk_store_ticket_take(f.s);
    assert_true(ticket != 0);
    assert_int_equal(yk_store_durable(f.s, ticket), 0);
    await(&f, ticket);
    reboot(&f, 0);
    for (uint32_t i = 0; i < 10; i++)
        assert_int_equal(known(&f, i, NULL), !there[i]);
    unlink(second);
    fixture_close(&f);
}

/* The only device is gone: nobody would know after a reboot what was removed meanwhile. So a removal is done,
 * but not acknowledged, whether the key is in DRAM, or perhaps on the device; everything else goes on. */
static void removed_while_the_only_device_is_gone(void **state) {
    struct fixture f;
    struct yk_file_fault gone = {.kind = YK_FILE_FAULT_GONE, .op_mask = 0xff, .nth = 1};
    struct yk_ssd_dev_stats st;
    uint32_t cursor = 0;
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_WRITE_THROUGH);
    f.o.ssd.io_wrap = wrap;
    fault_count = 0;
    restart(&f, 1);
    put(&f, 1, BLOCK);
    settle(&f);
    yk_file_fault_set(faults[0], &gone);
    put(&f, 3, BLOCK); /* the request that notices */
    for (uint64_t end = yk_now_ns() + LIMIT;;) {
        assert_true(yk_now_ns() < end);
        yk_store_ssd_poll(f.s);
        yk_store_tick(f.s);
        yk_ssd_dev_stats_get(yk_store_ssd(f.s), 0, &st);
        if (st.state == YK_SSD_DEV_GONE)
            break;
    }
    yk_store_ticket_take(f.s);
    assert_int_equal(change(&f, YK_CHANGE_REMOVE, 0, 1), 0);
    assert_int_equal(yk_store_durable(f.s, yk_store_ticket_take(f.s)), -YK_EIO);
    assert_false(known(&f, 1, NULL));
    assert_int_equal(change(&f, YK_CHANGE_REMOVE, 0, 1), YK_MISS);
    assert_int_equal(yk_store_durable(f.s, yk_store_ticket_take(f.s)), -YK_EIO);
    while (cursor != YK_WALK_END)
        yk_store_remove_step(f.s, f.ns, YK_REMOVE_GLOB, "block-1", 7, &cursor, 64);
    assert_int_equal(yk_store_durable(f.s, yk_store_ticket_take(f.s)), -YK_EIO);
    put(&f, 2, BLOCK);
    assert_int_equal(yk_store_durable(f.s, yk_store_ticket_take(f.s)), 1);
    assert_true(get(&f, 2, 0, BLOCK));
    fixture_close(&f);
}

static void a_run_without_the_ssd_empties_it(void **state) {
    struct fixture f;
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_WRITE_THROUGH);
    put(&f, 1, BLOCK);
    settle(&f);
    f.o.ssd.dev_count = 0;
    restart(&f, 1);
    assert_int_equal(change(&f, YK_CHANGE_REMOVE, 0, 1), 0); /* the SSD does not hear of it */
    f.o.ssd.dev_count = 1;
    restart(&f, 1);
    assert_false(known(&f, 1, NULL));
    fixture_close(&f);
}

static void remove_now(struct fixture *f, uint32_t i) {
    assert_int_equal(change(f, YK_CHANGE_REMOVE, 0, i), 0);
    await(f, yk_store_ticket_take(f->s));
}

/* The next run: with the named segment or a nameless one, with the SSD or without. */
static void run_with(struct fixture *f, int segment, int ssd) {
    yk_store_close(f->s, 1);
    f->o.segment.name = segment ? f->name : NULL;
    f->o.ssd.dev_count = (uint32_t)ssd;
    store_open(f);
}

/* What was removed in a run of the SSD with another segment does not come back from the one that was not
 * there, nor by way of it to SSD. */
static void a_run_without_the_segment_outdates_it(void **state) {
    struct fixture f;
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_WRITE_THROUGH);
    put(&f, 1, BLOCK);
    put(&f, 2, BLOCK);
    settle(&f);
    run_with(&f, 0, 1);
    remove_now(&f, 1);
    run_with(&f, 1, 1);
    assert_false(known(&f, 1, NULL));
    assert_true(get(&f, 2, 0, BLOCK)); /* from SSD */
    assert_non_null(strstr(yk_store_segment(f.s)->why_fresh, "outdated"));
    settle(&f);
    restart(&f, 1); /* it was in the last run: its blocks stand */
    assert_string_equal(yk_store_segment(f.s)->why_fresh, "");
    assert_false(known(&f, 1, NULL));
    assert_true(known(&f, 2, NULL));
    reboot(&f, 1);
    assert_false(known(&f, 1, NULL));
    assert_true(known(&f, 2, NULL));
    fixture_close(&f);
}

/* Both were used without the other, in any order: neither knows what was removed there. */
static void runs_of_either_alone(void **state) {
    for (int first = 0; first < 2; first++) {
        struct fixture f;
        fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_WRITE_THROUGH);
        put(&f, 1, BLOCK);
        put(&f, 2, BLOCK);
        settle(&f);
        for (int i = 0; i < 2; i++) {
            int segment = i == first;
            run_with(&f, segment, !segment);
            remove_now(&f, segment ? 1 : 2);
        }
        run_with(&f, 1, 1);
        assert_false(known(&f, 1, NULL));
        assert_false(known(&f, 2, NULL));
        put(&f, 3, BLOCK);
        settle(&f);
        reboot(&f, 1);
        assert_true(get(&f, 3, 0, BLOCK));
        assert_false(known(&f, 1, NULL));
        assert_false(known(&f, 2, NULL));
        fixture_close(&f);
    }
}

/* A segment that was in use before it first meets an SSD that was, too. */
static void they_meet_for_the_first_time(void **state) {
    struct fixture f;
    fixture_init(&f, 16 * MIB, 96 * MIB, YK_SSD_WRITE_THROUGH);
    f.o.ssd.dev_count = 0;
    store_open(&f);
    put(&f, 1, BLOCK);
    run_with(&f, 0, 1);
    put(&f, 1, BLOCK);
    put(&f, 2, BLOCK);
    settle(&f);
    remove_now(&f, 1);
    run_with(&f, 1, 0);
    assert_true(known(&f, 1, NULL));
    put(&f, 2, BLOCK);
    assert_int_equal(change(&f, YK_CHANGE_REMOVE, 0, 2), 0);
    run_with(&f, 1, 1);
    assert_false(known(&f, 1, NULL));
    assert_false(known(&f, 2, NULL));
    fixture_close(&f);
}

/* One that meets a new SSD keeps what it has. */
static void a_new_ssd_for_a_segment(void **state) {
    struct fixture f;
    fixture_init(&f, 16 * MIB, 96 * MIB, YK_SSD_WRITE_THROUGH);
    f.o.ssd.dev_count = 0;
    store_open(&f);
    put(&f, 1, BLOCK);
    run_with(&f, 1, 1);
    assert_true(get(&f, 1, 0, BLOCK));
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_restart_finds_both_tiers),
        cmocka_unit_test(a_reboot_finds_the_ssd),
        cmocka_unit_test(a_stop_writes_what_memory_has),
        cmocka_unit_test(a_stop_keeps_its_deadline),
        cmocka_unit_test(preloading_brings_blocks_up),
        cmocka_unit_test(what_was_removed_stays_away),
        cmocka_unit_test(an_epoch_hides_what_is_on_ssd),
        cmocka_unit_test(an_equal_epoch_waits_for_who_raised_it),
        cmocka_unit_test(an_epoch_that_no_device_records_is_an_error),
        cmocka_unit_test(a_removed_namespace_is_gone_for_good),
        cmocka_unit_test(a_time_to_live_holds_over_a_reboot),
        cmocka_unit_test(a_time_to_live_of_what_is_on_ssd),
        cmocka_unit_test(dropped_and_removed),
        cmocka_unit_test(removed_while_a_device_is_gone),
        cmocka_unit_test(removed_while_the_only_device_is_gone),
        cmocka_unit_test(a_run_without_the_ssd_empties_it),
        cmocka_unit_test(a_run_without_the_segment_outdates_it),
        cmocka_unit_test(runs_of_either_alone),
        cmocka_unit_test(they_meet_for_the_first_time),
        cmocka_unit_test(a_new_ssd_for_a_segment),
    };
    return cmocka_run_group_tests(tests, make_dirs, remove_dirs);
}
