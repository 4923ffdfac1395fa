/* SPDX-License-Identifier: Apache-2.0
 *
 * Predictive prefetch in a block table over two tiers (src/node/ahead.c): sessions that come back every 19 to 20 s are
 * brought up before they do, and what happens between the choice and the arrival of a block.
 *
 * And a start with nothing in DRAM (src/node/preload.c): what was learned to be worth most comes up first.
 *
 * The policy learns from announcements alone; blocks have bytes from FROM_MS on, so that a test is short.
 */
#include "ssd_store_rig.h"

#include "base/hash.h"
#include "node/learned_file.h"
#include "sched/learned.h"

#define SESSIONS 150u
#define TURNS    8u
#define HEAD     4u /* blocks of a session's first request, beside the one that each turn adds */
#define LEN      4096u
#define CAPACITY 100u
#define FROM_MS  280000u
#define UNTIL_MS 340000u

struct turn {
    uint64_t at_ms;
    uint32_t session, n;
};

struct world {
    struct fixture f;
    struct turn turns[SESSIONS * TURNS];
    uint32_t count, at, used;
    uint64_t now_ms;
};

static int by_time(const void *a, const void *b) {
    const struct turn *x = a, *y = b;
    return x->at_ms != y->at_ms ? (x->at_ms < y->at_ms ? -1 : 1) : x->session < y->session ? -1 : 1;
}

static uint32_t draw(uint64_t *seed, uint32_t below) {
    *seed = *seed * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(*seed >> 33) % below;
}

/* pause: least and most, in ms. */
static void world_open(struct world *w, uint32_t pause_least, uint32_t pause_most) {
    uint64_t seed = 7;
    memset(w, 0, sizeof(*w));
    fixture_init(&w->f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    w->f.o.policy = "learned";
    w->f.o.capacity_blocks = CAPACITY;
    w->f.o.replays = 1;
    w->f.o.ssd.ahead = 1;
    w->f.o.seed = 1;
    fault_count = 0;
    w->f.o.ssd.io_wrap = wrap;
    for (uint32_t i = 0; i < SESSIONS; i++) {
        uint64_t at_ms = draw(&seed, 400000);
        for (uint32_t k = 0; k < TURNS; k++) {
            w->turns[w->count++] = (struct turn){at_ms, i, HEAD + k + 1};
            at_ms += pause_least + draw(&seed, pause_most - pause_least);
        }
    }
    qsort(w->turns, w->count, sizeof(w->turns[0]), by_time);
    store_open(&w->f);
    put(&w->f, 0, LEN); /* with the first block the namespace has a policy */
}

static uint32_t block_of(uint32_t session, uint32_t i) {
    return 1000u + session * 100u + i;
}

static uint64_t hash_of(const struct world *w, uint32_t block) {
    char key[32];
    uint32_t len = key_of(key, block);
    return yk_hash_key(w->f.ns, key, len);
}

static void announce(struct world *w, const struct turn *t) {
    uint64_t hashes[HEAD + TURNS];
    for (uint32_t i = 0; i < t->n; i++)
        hashes[i] = hash_of(w, block_of(t->session, i)) & YK_POLICY_HASH_BITS;
    yk_store_request(w->f.s, w->f.ns,
                     &(struct yk_policy_request){.now_ms = t->at_ms + 1, .key_hashes = hashes, .n = t->n});
    struct yk_learned_training *training = yk_store_training_begin(w->f.s);
    if (training == NULL)
        return;
    yk_learned_training_run(training);
    yk_store_training_end(w->f.s);
}

static void use(struct world *w, const struct turn *t) {
    for (uint32_t i = t->n; i-- > 0;) {
        uint32_t block = block_of(t->session, i);
        if (get(&w->f, block, 0, LEN))
            continue;
        if (i > 0)
            put_child(&w->f, block, block_of(t->session, i - 1), LEN);
        else
            put(&w->f, block, LEN);
    }
    w->used += t->n;
    settle(&w->f);
}

static struct yk_counters counters(const struct world *w) {
    struct yk_counters n;
    yk_store_counters(w->f.s, &n);
    return n;
}

/* The turns until then. */
static void pass(struct world *w, uint64_t until_ms) {
    for (; w->at < w->count && w->turns[w->at].at_ms < until_ms; w->at++) {
        announce(w, &w->turns[w->at]);
        if (w->turns[w->at].at_ms >= FROM_MS)
            use(w, &w->turns[w->at]);
    }
    w->now_ms = until_ms;
}

/* Another second: what is due is named, and waits. */
static void next_second(struct world *w) {
    pass(w, w->now_ms + 1000);
    yk_store_time(w->f.s, w->f.ns, w->now_ms + 1);
}

static void until_named(struct world *w) {
    pass(w, FROM_MS + 25000);
    while (counters(w).prefetch_ahead_waiting < 4) {
        assert_true(w->now_ms < UNTIL_MS);
        settle(&w->f);
        next_second(w);
    }
}

static void adds_up(const struct world *w) {
    struct yk_counters n = counters(w);
    assert_int_equal(n.prefetch_ahead_asked, n.prefetch_ahead_moved + n.prefetch_ahead_cancelled);
    assert_int_equal(n.prefetch_ahead_waiting, 0);
    assert_true(n.prefetch_ahead_used + n.prefetch_ahead_wasted <= n.prefetch_ahead_moved);
}

static void world_close(struct world *w) {
    adds_up(w);
    fixture_close(&w->f);
}

static void what_is_due_comes_up_and_is_used(void **state) {
    static struct world w;
    world_open(&w, 19000, 20000);
    pass(&w, FROM_MS);
    while (w.now_ms < UNTIL_MS) {
        next_second(&w);
        settle(&w.f);
    }
    struct yk_counters n = counters(&w);
    assert_true(n.prefetch_ahead_moved > 200);
    assert_true(n.prefetch_ahead_used * 10 > n.prefetch_ahead_moved * 6);
    assert_int_equal(n.prefetched, n.prefetch_ahead_moved);
    world_close(&w);
}

/* Pauses that may be anything: no chain is likely to come back within the near wait. */
static void what_cannot_be_predicted_stays_below(void **state) {
    static struct world w;
    world_open(&w, 1000, 400000);
    pass(&w, FROM_MS);
    while (w.now_ms < UNTIL_MS) {
        next_second(&w);
        settle(&w.f);
    }
    struct yk_counters n = counters(&w);
    assert_true(n.demoted > 100);
    assert_true(n.prefetch_ahead_moved * 50 < w.used);
    world_close(&w);
}

static void without_the_option_nothing_is_asked(void **state) {
    static struct world w;
    world_open(&w, 19000, 20000);
    yk_store_close(w.f.s, 1);
    w.f.o.ssd.ahead = 0;
    store_open(&w.f);
    pass(&w, FROM_MS + 20000);
    for (uint32_t i = 0; i < 10; i++) {
        next_second(&w);
        settle(&w.f);
    }
    assert_int_equal(counters(&w).prefetch_ahead_asked, 0);
    world_close(&w);
}

/* Blocks that are to come up. */
static uint32_t due_blocks(struct world *w, uint32_t *ret_blocks) {
    uint32_t n = 0, tiers;
    for (uint32_t i = 0; i < SESSIONS; i++)
        for (uint32_t k = 0; k < HEAD + TURNS; k++) {
            uint32_t block = block_of(i, k);
            if (yk_learned_is_due(yk_store_policy_of_ns(w->f.s, w->f.ns), hash_of(w, block)) &&
                known(&w->f, block, &tiers) && tiers == 1u << YK_TIER_SSD)
                ret_blocks[n++] = block;
        }
    return n;
}

/* What did not come the policy does not hold either. */
static void nothing_is_held_of(struct world *w, const uint32_t *blocks, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        assert_false(yk_learned_is_due(yk_store_policy_of_ns(w->f.s, w->f.ns), hash_of(w, blocks[i])));
}

/* Whatever was named is gone, in this way, before any of it was read. */
static void lose_all(void (*lose)(struct world *w)) {
    static struct world w;
    static uint32_t due[SESSIONS * (HEAD + TURNS)];
    world_open(&w, 19000, 20000);
    until_named(&w);
    struct yk_counters before = counters(&w);
    uint32_t n_due = due_blocks(&w, due);
    assert_true(n_due > 0);
    lose(&w);
    settle(&w.f);
    nothing_is_held_of(&w, due, n_due);
    struct yk_counters n = counters(&w);
    assert_int_equal(n.prefetch_ahead_moved, before.prefetch_ahead_moved);
    assert_int_equal(n.prefetch_ahead_cancelled, before.prefetch_ahead_cancelled + before.prefetch_ahead_waiting);
    next_second(&w); /* and it goes on */
    settle(&w.f);
    world_close(&w);
}

static void each_block(struct world *w, unsigned what, uint64_t arg) {
    for (uint32_t i = 0; i < SESSIONS; i++)
        for (uint32_t k = 0; k < HEAD + TURNS; k++)
            (void)change(&w->f, what, arg, block_of(i, k));
    (void)yk_store_ticket_take(w->f.s);
}

static void remove_all(struct world *w) {
    each_block(w, YK_CHANGE_REMOVE, 0);
}

static void expire_all(struct world *w) {
    each_block(w, YK_CHANGE_EXPIRE, 1);
    usleep(20000);
}

static void raise_epoch(struct world *w) {
    assert_int_equal(yk_store_ns_raise(w->f.s, w->f.ns, w->f.epoch + 1), 0);
    w->f.epoch++;
    await(&w->f, yk_store_ticket_take(w->f.s));
}

static void ask_for_all(struct world *w) {
    for (uint32_t i = 0; i < SESSIONS; i++)
        announce(w, &(struct turn){w->now_ms, i, HEAD + TURNS});
}

static void what_was_removed_does_not_come_up(void **state) {
    lose_all(remove_all);
}

static void what_has_expired_does_not_come_up(void **state) {
    lose_all(expire_all);
}

static void an_older_epoch_does_not_come_up(void **state) {
    lose_all(raise_epoch);
}

/* Who asked brings it up. */
static void what_was_asked_for_already_is_cancelled(void **state) {
    lose_all(ask_for_all);
}

/* Somebody waits for another block: nothing is begun before that one. */
static void demand_comes_first(void **state) {
    static struct world w;
    static struct yk_place places[4096];
    char key[32];
    uint32_t n = 0, block = 0, tiers, tries = 0;
    world_open(&w, 19000, 20000);
    until_named(&w);
    struct yk_counters before = counters(&w);
    for (uint32_t i = 0; block == 0 && i < SESSIONS * 100u; i++) /* one that is on SSD alone, and not named */
        if (known(&w.f, 1000 + i, &tiers) && tiers == 1u << YK_TIER_SSD &&
            !yk_learned_is_due(yk_store_policy_of_ns(w.f.s, w.f.ns), hash_of(&w, 1000 + i) & YK_POLICY_HASH_BITS))
            block = 1000 + i;
    assert_true(block != 0);
    while (n < 4096 && tries < 3) /* all of DRAM that may be reserved; no turn, in which reads would begin */
        if (yk_store_reserve(w.f.s, 0, LEN, &places[n], NULL) == 0)
            n++;
        else
            tries++;
    w.f.raised = 0;
    uint32_t len = key_of(key, block);
    assert_int_equal(yk_store_raise(w.f.s, w.f.ns, w.f.epoch, key, len, YK_SSD_PRIO_DEMAND, yk_now_ns() + LIMIT, 1), YK_PENDING);
    for (uint32_t i = 0; i < 20; i++)
        turn(&w.f);
    assert_int_equal(w.f.raised, 0);
    assert_int_equal(counters(&w).prefetch_ahead_waiting, before.prefetch_ahead_waiting);
    for (uint32_t i = 0; i < n; i++)
        assert_int_equal(yk_store_abort(w.f.s, 0, places[i].idx, places[i].gen), 0);
    settle(&w.f);
    assert_int_equal(w.f.raised, 1);
    assert_true(counters(&w).prefetch_ahead_moved > before.prefetch_ahead_moved);
    world_close(&w);
}

/* Reads are under way when all is removed: their bytes become no blocks. */
static void what_is_removed_while_it_is_read_does_not_come_up(void **state) {
    static struct world w;
    uint32_t tiers;
    world_open(&w, 19000, 20000);
    until_named(&w);
    yk_store_ssd_poll(w.f.s); /* begins the first */
    remove_all(&w);
    settle(&w.f);
    for (uint32_t i = 0; i < SESSIONS; i++)
        for (uint32_t k = 0; k < HEAD + TURNS; k++)
            assert_false(known(&w.f, block_of(i, k), &tiers));
    world_close(&w);
}

static void a_device_that_fails_ends_it(void **state) {
    static struct world w;
    static uint32_t due[SESSIONS * (HEAD + TURNS)];
    world_open(&w, 19000, 20000);
    until_named(&w);
    struct yk_counters before = counters(&w);
    uint32_t n_due = due_blocks(&w, due);
    yk_file_fault_set(faults[0], &(struct yk_file_fault){.kind = YK_FILE_FAULT_GONE, .op_mask = 0xff, .nth = 1});
    settle(&w.f);
    nothing_is_held_of(&w, due, n_due);
    struct yk_counters n = counters(&w);
    assert_int_equal(n.prefetch_ahead_moved, before.prefetch_ahead_moved);
    assert_int_equal(n.prefetch_ahead_waiting, 0);
    world_close(&w);
}

/* ---- a client's own ---------------------------------------------------------------------------------- */

static bool is_in_dram(struct world *w, uint32_t block) {
    uint32_t tiers = 0;
    return known(&w->f, block, &tiers) && (tiers & 1u << YK_TIER_DRAM) != 0;
}

/* Its policy would not have them here; but who fetched them is about to use them. */
static void what_a_client_fetches_ahead_stays_for_its_use(void **state) {
    static struct world w;
    char key[32];
    uint32_t block, tiers;
    world_open(&w, 19000, 20000);
    for (uint32_t i = 1; i < 3 * CAPACITY; i++) {
        put(&w.f, i, LEN);
        settle(&w.f);
    }
    for (block = 1; block <= 10; block++) {
        assert_true(known(&w.f, block, &tiers) && tiers == 1u << YK_TIER_SSD);
        uint32_t len = key_of(key, block);
        assert_int_equal(yk_store_raise(w.f.s, w.f.ns, w.f.epoch, key, len, YK_SSD_PRIO_PREFETCH, 0, 0), YK_PENDING);
    }
    settle(&w.f);
    for (block = 1; block <= 10; block++)
        assert_true(is_in_dram(&w, block));
    for (uint32_t i = 0; i < 20; i++) {
        put(&w.f, 600000 + i, LEN);
        settle(&w.f);
    }
    for (block = 1; block <= 10; block++)
        assert_true(is_in_dram(&w, block));
    world_close(&w);
}

/* ---- a start ---------------------------------------------------------------------------------------- */

static void save_learned(struct world *w, const char *path) {
    struct yk_learned_file_writer file = {.fd = -1};
    struct yk_err err = {0};
    uint32_t which = 0, ns;
    char name[64];
    void *bytes;
    size_t len;
    const struct yk_policy *p = yk_store_learned_next(w->f.s, &which, &ns, name);
    assert_int_equal(yk_learned_save(p, &bytes, &len), 0);
    assert_int_equal(yk_learned_file_begin(&file, path, &err), 0);
    assert_int_equal(yk_learned_file_part(&file, name, ns, bytes, len, &err), 0);
    assert_int_equal(yk_learned_file_done(&file, yk_wall_ms(), &err), 0);
    free(bytes);
}

/* Of the blocks that the policy of before would have, all on SSD: how many a start brings up, and how many of what was
 * put last. learned: what it had learned is there. */
static void start_anew(bool learned, uint32_t *ret_kept, uint32_t *ret_last) {
    static struct world w;
    char path[200];
    struct yk_learned_first *first;
    uint32_t n, kept = 0, last = 0, all = 0;
    world_open(&w, 19000, 20000);
    yk_store_close(w.f.s, 1);
    w.f.o.ssd.when = YK_SSD_WRITE_THROUGH; /* all is on SSD when power goes */
    store_open(&w.f);
    snprintf(path, sizeof(path), "%s.learned", w.f.path);
    pass(&w, FROM_MS + 60000);
    assert_int_equal(yk_learned_first(yk_store_policy_of_ns(w.f.s, w.f.ns), &first, &n), 0);
    save_learned(&w, path);
    for (uint32_t i = 0; i < 2 * CAPACITY; i++) /* nobody wants them again */
        put(&w.f, 500000 + i, LEN);
    settle(&w.f);
    w.f.o.ssd.no_preload = 0;
    w.f.o.learned_path = learned ? path : NULL;
    reboot(&w.f, 0);
    settle(&w.f);
    for (uint32_t i = 0; i < SESSIONS * 100u; i++)
        for (uint32_t k = 0; k < n; k++)
            if ((hash_of(&w, 1000 + i) & YK_POLICY_HASH_BITS) == first[k].key_hash && known(&w.f, 1000 + i, NULL)) {
                all++;
                kept += is_in_dram(&w, 1000 + i);
            }
    for (uint32_t i = 0; i < 2 * CAPACITY; i++)
        last += is_in_dram(&w, 500000 + i);
    assert_true(all > CAPACITY / 2);
    *ret_kept = 100 * kept / all;
    *ret_last = last;
    free(first);
    unlink(path);
    fixture_close(&w.f);
}

static void a_start_loads_what_was_learned_to_be_worth_most(void **state) {
    uint32_t kept, last;
    start_anew(true, &kept, &last);
    assert_int_equal(kept, 100);
    assert_true(last < CAPACITY / 2);
    start_anew(false, &kept, &last);
    assert_int_equal(kept, 0);
    assert_int_equal(last, CAPACITY);
}

/* Nor did anybody ask for it: shares are not divided by what a start brings up. */
static void what_a_start_loads_was_not_asked_for(void **state) {
    static struct world w;
    yk_ns_info info;
    world_open(&w, 19000, 20000);
    for (uint32_t i = 1; i < 3 * CAPACITY; i++) {
        put(&w.f, i, LEN);
        settle(&w.f);
    }
    w.f.o.ssd.no_preload = 0;
    reboot(&w.f, 1);
    settle(&w.f);
    yk_store_tick(w.f.s);
    assert_true(counters(&w).preloaded >= CAPACITY / 2);
    assert_int_equal(yk_store_ns_info(w.f.s, w.f.ns, &info), 0);
    assert_int_equal(info.share_bytes, 0);
    for (uint32_t i = 1; i < 3 * CAPACITY; i++) /* but by what is */
        (void)get(&w.f, i, 0, LEN);
    yk_store_tick(w.f.s);
    assert_int_equal(yk_store_ns_info(w.f.s, w.f.ns, &info), 0);
    assert_true(info.share_bytes > 0);
    world_close(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_due_comes_up_and_is_used),
        cmocka_unit_test(what_cannot_be_predicted_stays_below),
        cmocka_unit_test(without_the_option_nothing_is_asked),
        cmocka_unit_test(what_was_removed_does_not_come_up),
        cmocka_unit_test(what_has_expired_does_not_come_up),
        cmocka_unit_test(an_older_epoch_does_not_come_up),
        cmocka_unit_test(what_was_asked_for_already_is_cancelled),
        cmocka_unit_test(what_is_removed_while_it_is_read_does_not_come_up),
        cmocka_unit_test(demand_comes_first),
        cmocka_unit_test(a_device_that_fails_ends_it),
        cmocka_unit_test(what_a_client_fetches_ahead_stays_for_its_use),
        cmocka_unit_test(a_start_loads_what_was_learned_to_be_worth_most),
        cmocka_unit_test(what_a_start_loads_was_not_asked_for),
    };
    return cmocka_run_group_tests(tests, make_dirs, remove_dirs);
}
