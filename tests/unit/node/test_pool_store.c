/* SPDX-License-Identifier: Apache-2.0
 *
 * What the block table tells a pool and lets it do (node/pool.h), without sockets: a mirror that is kept by what
 * is told is what a walk finds, whatever happens to the blocks; copies of other nodes' blocks come, are used, and
 * go first; blocks are shown to others, and removed.
 */
#include "ssd_store_rig.h"

#include "base/hash.h"
#include "node/pool.h"

#include <yolk/transfer.h>

#define KEYS 400u
#define DRAM (6 * MIB)
#define SSD  (24 * MIB)

/* By key number; tiers 0: it is not there. */
struct mirror {
    struct {
        uint64_t epoch, gen, len, sum;
        uint8_t tiers, guest;
    } of[KEYS];
    char parent[KEYS][32]; /* that was told last */
    uint32_t told;
};

static struct mirror mirror;

static void mirror_set(struct mirror *m, const struct yk_pool_block *b) {
    char text[32] = "";
    unsigned i;
    assert_int_equal(b->ns_len, 7);
    assert_memory_equal(b->ns, "default", 7);
    assert_true(b->key_len < sizeof(text));
    memcpy(text, b->key, b->key_len);
    assert_int_equal(sscanf(text, "block-%u", &i), 1);
    assert_true(i < KEYS);
    memset(&m->of[i], 0, sizeof(m->of[i]));
    if (b->tiers != 0) {
        m->of[i].epoch = b->epoch;
        m->of[i].gen = b->gen;
        m->of[i].len = b->len;
        m->of[i].sum = b->sum;
        m->of[i].tiers = b->tiers;
        m->of[i].guest = b->guest;
    }
    memset(m->parent[i], 0, sizeof(m->parent[i]));
    if (b->parent != NULL)
        memcpy(m->parent[i], b->parent, b->parent_len);
    m->told++;
}

static void on_changed(void *arg, const struct yk_pool_block *b) {
    (void)arg;
    mirror_set(&mirror, b);
}

static void on_walk(void *arg, const struct yk_pool_block *b) {
    struct mirror *m = arg;
    uint32_t before = m->told;
    mirror_set(m, b);
    assert_int_equal(m->told, before + 1);
}

static void walk(struct fixture *f, struct mirror *m) {
    uint32_t cursor = 0;
    memset(m, 0, sizeof(*m));
    while (cursor != YK_WALK_END)
        yk_store_pool_walk(f->s, &cursor, 7, on_walk, m);
}

/* What is found was told as it is, at any time. */
static int compare(struct fixture *f) {
    static struct mirror now;
    int same = 1;
    walk(f, &now);
    for (uint32_t i = 0; i < KEYS; i++) {
        int equal = memcmp(&now.of[i], &mirror.of[i], sizeof(now.of[i])) == 0;
        if (!equal && now.of[i].tiers != 0) {
            print_error("block-%u: found tiers %x gen %llx guest %u, told tiers %x gen %llx guest %u\n", i,
                        now.of[i].tiers, (unsigned long long)now.of[i].gen, now.of[i].guest,
                        mirror.of[i].tiers, (unsigned long long)mirror.of[i].gen, mirror.of[i].guest);
            fail();
        }
        same &= equal;
    }
    return same;
}

/* What is swept is told later. */
static void agree(struct fixture *f) {
    for (uint64_t end = yk_now_ns() + LIMIT; !compare(f);) {
        assert_true(yk_now_ns() < end);
        turn(f);
    }
}

static const struct yk_pool_ops ops = {.changed = on_changed};

static void init(struct fixture *f, int tiers) {
    memset(&mirror, 0, sizeof(mirror));
    fixture_init(f, DRAM, SSD, YK_SSD_ON_DEMOTION);
    f->o.ssd.dev_count = tiers == 2;
    f->o.pool = &ops;
}

static void begin(struct fixture *f, int tiers) {
    init(f, tiers);
    store_open(f);
    assert_int_equal(mirror.told, 0);
}

/* A start tells nothing: it is walked. */
static void started(struct fixture *f) {
    assert_int_equal(mirror.told, 0);
    walk(f, &mirror);
}

/* ---- copies ----------------------------------------------------------------------------------------- */

static int copy_in(struct fixture *f, uint32_t i, unsigned char byte, uint32_t len, int guest, int rotten) {
    char key[32];
    struct yk_place p;
    void *to;
    uint64_t end = yk_now_ns() + LIMIT;
    int rc;
    while ((rc = yk_store_pool_reserve(f->s, len, &p, &to)) == -YK_ENOSPC) {
        assert_true(yk_now_ns() < end);
        turn(f);
    }
    assert_int_equal(rc, 0);
    memset(to, byte, len);
    struct yk_commit c = {.idx = p.idx,
                          .gen = p.gen,
                          .epoch = f->epoch,
                          .sum = yk_hash64(to, len) + (uint64_t)rotten,
                          .len = len,
                          .key = key,
                          .key_len = key_of(key, i),
                          .attrs = {.depth_tokens = 5, .flags = YK_PUT_HARD_PIN}};
    rc = yk_store_pool_commit(f->s, f->ns, &c, 0, guest);
    assert_int_equal(yk_store_abort(f->s, 0, p.idx, p.gen), -YK_EGONE); /* the place is over */
    return rc;
}

/* As a client does: brings it up, reads it. 1: it is there. */
static int use(struct fixture *f, uint32_t i) {
    char key[32];
    uint32_t len = key_of(key, i), idx;
    yk_block_info info;
    int rc;
    for (uint64_t end = yk_now_ns() + LIMIT;;) {
        rc = yk_store_raise(f->s, f->ns, f->epoch, key, len, YK_SSD_PRIO_DEMAND, 0, 1);
        if (rc != YK_PENDING && rc != -YK_EAGAIN)
            break;
        assert_true(yk_now_ns() < end);
        turn(f);
    }
    if (rc != 0 || yk_store_find(f->s, f->ns, f->epoch, key, len, &idx) != 0 ||
        yk_store_settle(f->s, idx) != 0)
        return 0;
    yk_store_info(f->s, idx, &info);
    assert_int_equal(yk_hash64(yk_store_payload(f->s, idx), info.len), info.checksum);
    yk_store_access(f->s, idx);
    return 1;
}

static int locate(struct fixture *f, uint32_t i, struct yk_pool_copy *ret) {
    char key[32];
    uint32_t len = key_of(key, i);
    return yk_store_pool_locate(f->s, f->ns, f->epoch, key, len, ret);
}

static int pool_remove(struct fixture *f, uint32_t i, uint64_t gen) {
    char key[32];
    uint64_t ticket = 0;
    uint32_t len = key_of(key, i);
    int rc = yk_store_pool_remove(f->s, f->ns, key, len, gen, &ticket);
    await(f, ticket);
    return rc;
}

/* ---- the mirror -------------------------------------------------------------------------------------- */

static uint64_t seed;

static uint32_t draw(uint32_t below) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)((seed >> 20) % below);
}

static uint32_t some_len(void) {
    return draw(3) == 0 ? BLOCK : 1000u + draw(40000);
}

static void raise_epoch(struct fixture *f) {
    assert_int_equal(yk_store_ns_raise(f->s, f->ns, ++f->epoch), 0);
}

static void again(struct fixture *f, unsigned how) {
    memset(&mirror, 0, sizeof(mirror));
    if (how == 2 && f->o.ssd.dev_count > 0)
        reboot(f, 1);
    else
        restart(f, how != 0);
    started(f);
}

static void remove_some(struct fixture *f) {
    char prefix[32];
    uint32_t cursor = 0, len = (uint32_t)sprintf(prefix, "block-%u", draw(40));
    while (cursor != YK_WALK_END)
        yk_store_remove_step(f->s, f->ns, YK_REMOVE_PREFIX, prefix, len, &cursor, 64);
    yk_store_ticket_take(f->s);
}

static void step(struct fixture *f) {
    uint32_t i = draw(KEYS), what = draw(1000);
    struct yk_pool_copy copy;
    if (what < 450)
        put_flags(f, i, draw(2), some_len(), draw(4) == 0 ? YK_PUT_UPSERT : 0, draw(40) == 0 ? 1 : 0);
    else if (what < 500)
        change(f, YK_CHANGE_REMOVE, 0, i);
    else if (what < 700)
        use(f, i);
    else if (what < 850)
        copy_in(f, i, (unsigned char)(1 + draw(2)), some_len(), (int)draw(2), draw(20) == 0);
    else if (what < 900)
        locate(f, i, &copy);
    else if (what < 930)
        pool_remove(f, i, draw(2) == 0 ? 0 : mirror.of[i].gen);
    else if (what < 960)
        yk_store_compact(f->s, BLOCK, 16);
    else if (what < 965)
        remove_some(f);
    else if (what < 968)
        raise_epoch(f);
    else if (what < 970)
        yk_store_ns_quota(f->s, f->ns, draw(2) == 0 ? 0 : 8 * MIB);
    else if (what < 974)
        again(f, draw(3));
    else
        turn(f);
}

static void a_mirror_is_what_a_walk_finds(void **state) {
    for (int tiers = 1; tiers <= 2; tiers++) {
        struct fixture f;
        struct yk_counters n;
        uint64_t evicted = 0, moves = 0, demoted = 0, raised = 0;
        begin(&f, tiers);
        seed = 88172645463325252ull;
        for (uint32_t at = 0; at < 6000; at++) {
            step(&f);
            if (at % 16 == 0)
                compare(&f);
            if (at % 500 == 499)
                agree(&f);
            yk_store_counters(f.s, &n);
            evicted = n.evict_space > evicted ? n.evict_space : evicted;
            moves = n.moves > moves ? n.moves : moves;
            demoted = n.demoted > demoted ? n.demoted : demoted;
            raised = n.raised > raised ? n.raised : raised;
        }
        settle(&f);
        agree(&f);
        assert_true(evicted > 0);
        assert_true(moves > 0);
        assert_true(tiers == 1 || (demoted > 0 && raised > 0));
        fixture_close(&f);
    }
}

/* ---- what is told ------------------------------------------------------------------------------------- */

static void a_commit_tells_the_parent_that_its_writer_named(void **state) {
    struct fixture f;
    begin(&f, 1);
    put_child(&f, 2, 1, 1000); /* which is not here */
    assert_int_equal(mirror.told, 1);
    assert_string_equal(mirror.parent[2], "block-1");
    assert_int_equal(mirror.of[2].tiers, 1u << YK_TIER_DRAM);
    assert_int_equal(mirror.of[2].len, 1000);
    assert_int_equal(mirror.of[2].epoch, f.epoch);
    assert_int_equal(put_flags(&f, 2, 0, 1000, 0, 0), 0); /* the same bytes: nothing is new */
    assert_int_equal(mirror.told, 1);
    assert_int_equal(change(&f, YK_CHANGE_REMOVE, 0, 2), 0);
    assert_int_equal(mirror.told, 2);
    assert_int_equal(mirror.of[2].tiers, 0);
    fixture_close(&f);
}

static void both_tiers_are_told_as_one(void **state) {
    struct fixture f;
    uint32_t tiers = 0;
    begin(&f, 2);
    f.o.ssd.when = YK_SSD_ON_DEMOTION;
    for (uint32_t i = 0; i < 200; i++)
        put(&f, i, BLOCK);
    settle(&f);
    assert_true(known(&f, 0, &tiers));
    assert_int_equal(tiers, 1u << YK_TIER_SSD);
    assert_int_equal(mirror.of[0].tiers, tiers);
    assert_true(mirror.of[0].gen & YK_POOL_GEN_SSD);
    assert_true(use(&f, 0));
    assert_int_equal(mirror.of[0].tiers, 1u << YK_TIER_DRAM | 1u << YK_TIER_SSD);
    assert_false(mirror.of[0].gen & YK_POOL_GEN_SSD);
    assert_int_equal(mirror.of[0].guest, 0); /* it is this node's own */
    fixture_close(&f);
}

/* Whoever drops all that a walk meets leaves nothing behind. */
static void a_walk_meets_what_comes_up_behind_it(void **state) {
    static struct mirror met;
    struct fixture f;
    uint32_t cursor = 0;
    begin(&f, 2);
    for (uint32_t i = 0; i < 200; i++)
        put(&f, i, BLOCK);
    settle(&f);
    memset(&met, 0, sizeof(met));
    while (!YK_IS_ON_SSD(cursor)) /* all of DRAM */
        yk_store_pool_walk(f.s, &cursor, 1, on_walk, &met);
    assert_int_equal(met.of[0].tiers, 0);
    assert_true(use(&f, 0));
    assert_int_equal(mirror.of[0].tiers, 1u << YK_TIER_DRAM | 1u << YK_TIER_SSD);
    while (cursor != YK_WALK_END)
        yk_store_pool_walk(f.s, &cursor, 1, on_walk, &met);
    assert_int_equal(met.of[0].tiers, mirror.of[0].tiers);
    assert_int_equal(met.of[0].gen, mirror.of[0].gen);
    fixture_close(&f);
}

static uint32_t gone, there;

static void count_told(void *arg, const struct yk_pool_block *b) {
    (void)arg;
    gone += b->tiers == 0;
    there = b->tiers;
}

/* The old namespace's block is swept when the new one of its name has the key: what was told last holds. */
static void a_namespace_that_is_made_again_keeps_its_blocks(void **state) {
    static const struct yk_pool_ops counting = {.changed = count_told};
    struct fixture f;
    struct yk_err err = {0};
    init(&f, 1);
    f.o.pool = &counting;
    store_open(&f);
    gone = there = 0;
    put(&f, 1, 1000);
    assert_int_equal(yk_store_ns_remove(f.s, f.ns), 0);
    assert_int_equal(yk_store_ns_open(f.s, "default", 7, 1, &f.ns, &err), 0);
    f.epoch = yk_store_ns_epoch(f.s, f.ns);
    put(&f, 1, 1000);
    struct yk_counters n;
    for (uint64_t end = yk_now_ns() + LIMIT;; turn(&f)) {
        yk_store_counters(f.s, &n);
        if (n.evict_epoch == 1)
            break;
        assert_true(yk_now_ns() < end);
    }
    assert_int_equal(gone, 0);
    assert_int_equal(there, 1u << YK_TIER_DRAM);
    fixture_close(&f);
}

/* ---- guests -------------------------------------------------------------------------------------------- */

static void a_guest_goes_first_unless_it_is_used_again(void **state) {
    for (int twice = 0; twice < 2; twice++) {
        struct fixture f;
        struct yk_counters counted;
        init(&f, 2);
        f.o.capacity_blocks = 32;
        store_open(&f);
        for (uint32_t i = 0; i < 31; i++)
            put(&f, i, 1000);
        assert_int_equal(copy_in(&f, 100, 1, 1000, 1, 0), 0);
        assert_int_equal(mirror.of[100].guest, 1);
        assert_int_equal(mirror.of[100].tiers, 1u << YK_TIER_DRAM);
        for (int n = 0; n <= twice; n++)
            assert_true(use(&f, 100));
        assert_int_equal(mirror.of[100].guest, !twice);
        put(&f, 200, 1000); /* one has to go: of those that are its own, 0 is the oldest */
        settle(&f);
        assert_int_equal(known(&f, 100, NULL), twice);
        yk_store_counters(f.s, &counted);
        assert_int_equal(counted.copies_kept, twice);
        assert_int_equal(mirror.of[100].tiers, twice ? 1u << YK_TIER_DRAM : 0u);
        agree(&f);
        fixture_close(&f);
    }
}

/* The policy of the node: always as a block of its own, or never, however often it is used. */
static void a_policy_says_what_is_kept(void **state) {
    for (int always = 0; always < 2; always++) {
        struct fixture f;
        struct yk_counters n;
        init(&f, 2);
        f.o.capacity_blocks = 32;
        f.o.local_copies = always ? YK_LOCAL_ALWAYS : YK_LOCAL_NEVER;
        store_open(&f);
        for (uint32_t i = 0; i < 31; i++)
            put(&f, i, 1000);
        assert_int_equal(copy_in(&f, 100, 1, 1000, 1, 0), 0);
        assert_int_equal(mirror.of[100].guest, !always);
        for (int times = 0; times < (always ? 1 : 5); times++)
            assert_true(use(&f, 100));
        assert_int_equal(mirror.of[100].guest, !always);
        put(&f, 200, 1000);
        settle(&f);
        assert_int_equal(known(&f, 100, NULL), always);
        yk_store_counters(f.s, &n);
        assert_int_equal(n.copies, 1);
        assert_int_equal(n.copies_kept, always);
        agree(&f);
        fixture_close(&f);
    }
}

static void only_the_block_that_was_meant_is_lent(void **state) {
    struct fixture f;
    uint64_t gen = 0;
    begin(&f, 1);
    put(&f, 1, 1000);
    assert_int_equal(yk_store_pool_keep(f.s, f.ns, f.epoch, "block-1", 7, 1, &gen), 0);
    assert_int_equal(gen, mirror.of[1].gen);
    assert_int_equal(yk_store_pool_remove(f.s, f.ns, "block-1", 7, 0, &(uint64_t){0}), 0);
    put(&f, 1, 1000); /* the same bytes, but another put's */
    assert_int_equal(yk_store_pool_lend(f.s, f.ns, f.epoch, "block-1", 7, gen), YK_MISS);
    assert_int_equal(mirror.of[1].guest, 0);
    assert_int_equal(yk_store_pool_lend(f.s, f.ns, f.epoch, "block-1", 7, 0), YK_MISS);
    assert_int_equal(yk_store_pool_leave(f.s, f.ns, f.epoch, "block-1", 7, gen), -YK_EAGAIN); /* it did not go */
    assert_int_equal(yk_store_pool_leave(f.s, f.ns, f.epoch, "block-9", 7, gen), YK_MISS);
    assert_int_equal(yk_store_pool_lend(f.s, f.ns, f.epoch, "block-1", 7, mirror.of[1].gen), 0);
    assert_int_equal(mirror.of[1].guest, 1);
    fixture_close(&f);
}

static void a_copy_that_stays_is_like_a_block_of_its_own(void **state) {
    struct fixture f;
    struct yk_counters n;
    uint32_t tiers = 0;
    begin(&f, 2);
    assert_int_equal(copy_in(&f, 7, 1, BLOCK, 0, 0), 0);
    assert_int_equal(mirror.of[7].guest, 0);
    for (uint32_t i = 100; i < 300; i++)
        put(&f, i, BLOCK);
    settle(&f);
    assert_true(known(&f, 7, &tiers));
    assert_int_equal(tiers, 1u << YK_TIER_SSD);
    assert_true(use(&f, 7));
    yk_store_counters(f.s, &n);
    assert_int_equal(n.copies, 1);
    assert_int_equal(n.copy_bytes, BLOCK);
    assert_int_equal(n.commits, 200);
    assert_int_equal(n.hard_pinned_bytes, 0); /* a pin is of the node where it was made */
    fixture_close(&f);
}

/* What is left to live goes from node to node: their calendars need not agree. */
static void a_copy_lives_as_long_as_is_left(void **state) {
    struct fixture f;
    struct yk_pool_copy copy;
    struct yk_place p;
    void *to;
    char key[32];
    begin(&f, 1);
    assert_int_equal(yk_store_pool_reserve(f.s, 100, &p, &to), 0);
    memset(to, 7, 100);
    struct yk_commit c = {.idx = p.idx, .gen = p.gen, .epoch = f.epoch, .sum = yk_hash64(to, 100), .len = 100, .key = key,
                          .key_len = key_of(key, 1)};
    assert_int_equal(yk_store_pool_commit(f.s, f.ns, &c, 3600000, 1), 0);
    assert_int_equal(locate(&f, 1, &copy), 0);
    assert_in_range(copy.left_ms, 1, 3600000);
    assert_int_equal(copy_in(&f, 2, 1, 1000, 0, 0), 0);
    assert_int_equal(locate(&f, 2, &copy), 0);
    assert_int_equal(copy.left_ms, 0); /* for ever */
    fixture_close(&f);
}

static void a_copy_meets_what_is_there(void **state) {
    for (int tiers = 1; tiers <= 2; tiers++) {
        struct fixture f;
        struct yk_counters n;
        begin(&f, tiers);
        assert_int_equal(copy_in(&f, 1, 1, 1000, 0, 0), 0);
        uint64_t gen = mirror.of[1].gen;
        assert_int_equal(copy_in(&f, 1, 1, 1000, 1, 0), 0); /* the same: it stays as it is */
        assert_int_equal(mirror.of[1].gen, gen);
        assert_int_equal(mirror.of[1].guest, 0);
        assert_int_equal(copy_in(&f, 1, 2, 1000, 1, 0), -YK_ECONFLICT);
        raise_epoch(&f);
        f.epoch--;
        assert_int_equal(copy_in(&f, 2, 1, 1000, 1, 0), -YK_ESTALE);
        f.epoch++;
        assert_int_equal(copy_in(&f, 1, 2, 1000, 1, 0), 0); /* what stood there is of an older epoch */
        yk_store_counters(f.s, &n);
        assert_int_equal(n.reserved_blocks, 0);
        agree(&f);
        fixture_close(&f);
    }
}

/* What is brought has a quarter of what may be reserved, and clients the rest; one may be larger. */
static void what_is_brought_leaves_room_to_put(void **state) {
    struct fixture f;
    struct yk_place places[64], p;
    uint64_t share = DRAM / 100u * 50u / 4u; /* held_percent is 50 */
    uint32_t n = 0;
    void *to;
    begin(&f, 1);
    for (int turn = 0; turn < 2; turn++) {
        for (n = 0; yk_store_pool_reserve(f.s, BLOCK, &places[n], &to) == 0; n++)
            assert_true(n + 1 < 64);
        assert_true(n >= 1 && (uint64_t)n * BLOCK <= share && (uint64_t)(n + 1) * BLOCK > share);
        assert_int_equal(yk_store_pool_reserve(f.s, BLOCK, &p, &to), -YK_ENOSPC);
        assert_int_equal(yk_store_reserve(f.s, 0, BLOCK, &p, NULL), 0); /* a put's */
        assert_int_equal(yk_store_abort(f.s, 0, p.idx, p.gen), 0);
        while (n > 0) {
            n--;
            yk_store_pool_abort(f.s, &places[n]);
            yk_store_pool_abort(f.s, &places[n]); /* is over, and counts once */
        }
        assert_int_equal(copy_in(&f, 1, 1, BLOCK, 1, 0), 0); /* so do those that became blocks */
    }
    assert_int_equal(yk_store_pool_reserve(f.s, share + 1, &p, &to), 0);
    assert_int_equal(yk_store_pool_reserve(f.s, 1, &places[0], &to), -YK_ENOSPC);
    yk_store_pool_abort(f.s, &p);
    fixture_close(&f);
}

static void a_copy_that_came_damaged_is_a_miss(void **state) {
    struct fixture f;
    struct yk_counters n;
    begin(&f, 1);
    assert_int_equal(copy_in(&f, 1, 1, 1000, 1, 1), 0);
    assert_int_equal(use(&f, 1), 0);
    assert_int_equal(mirror.of[1].tiers, 0);
    yk_store_counters(f.s, &n);
    assert_int_equal(n.corrupt, 1);
    assert_int_equal(n.unverified_blocks, 0);
    assert_int_equal(n.suspect_blocks, 0);
    fixture_close(&f);
}

/* ---- locate, remove ------------------------------------------------------------------------------------- */

static void a_block_is_shown_where_a_guard_lets_it_be_read(void **state) {
    struct fixture f;
    struct yk_pool_copy c;
    uint64_t pin;
    begin(&f, 1);
    put(&f, 1, 1000);
    put_child(&f, 2, 1, 2000);
    again(&f, 0); /* not clean: they are suspect */
    assert_int_equal(locate(&f, 2, &c), 0);
    assert_int_equal(c.len, 2000);
    assert_int_equal(c.gen, mirror.of[2].gen);
    assert_int_equal(c.sum, mirror.of[2].sum);
    assert_int_equal(c.epoch, f.epoch);
    assert_int_equal(c.attrs.depth_tokens, 2);
    assert_int_equal(c.attrs.session, 7);
    assert_int_equal(c.attrs.kind, 3);
    assert_int_equal(c.parent_len, 7);
    assert_memory_equal(c.parent, "block-1", 7);
    assert_int_equal(yk_pins_pin(yk_store_pins(f.s), YK_XFER_READ, c.idx, c.gen, c.epoch, c.offset, c.len, &pin), 0);
    yk_pins_unpin(yk_store_pins(f.s), pin);
    assert_int_equal(locate(&f, 3, &c), YK_MISS);
    f.epoch++;
    assert_int_equal(locate(&f, 2, &c), YK_MISS);
    fixture_close(&f);
}

static void a_block_on_ssd_comes_up_to_be_shown(void **state) {
    struct fixture f;
    struct yk_pool_copy c;
    int rc;
    begin(&f, 2);
    for (uint32_t i = 0; i < 200; i++)
        put(&f, i, BLOCK);
    settle(&f);
    assert_int_equal(locate(&f, 0, &c), YK_PENDING);
    for (uint64_t end = yk_now_ns() + LIMIT; (rc = locate(&f, 0, &c)) == YK_PENDING;) {
        assert_true(yk_now_ns() < end);
        turn(&f);
    }
    assert_int_equal(rc, 0);
    assert_int_equal(c.gen, mirror.of[0].gen);
    fixture_close(&f);
}

static void a_removal_takes_what_it_names(void **state) {
    struct fixture f;
    begin(&f, 2);
    for (uint32_t i = 0; i < 200; i++)
        put(&f, i, BLOCK);
    settle(&f);
    for (uint32_t i = 0; i < 200; i += 199) { /* on SSD alone; in DRAM alone */
        uint64_t gen = mirror.of[i].gen;
        assert_int_equal(pool_remove(&f, i, gen + 1), YK_MISS);
        assert_true(known(&f, i, NULL));
        assert_int_equal(pool_remove(&f, i, gen), 0);
        assert_false(known(&f, i, NULL));
        assert_int_equal(pool_remove(&f, i, gen), YK_MISS);
        assert_int_equal(pool_remove(&f, i, 0), YK_MISS);
    }
    assert_true(use(&f, 1)); /* in both, now: what was told of SSD names the same bytes */
    uint64_t low = YK_POOL_GEN_SSD | mirror.of[1].sum >> 1;
    assert_int_equal(pool_remove(&f, 1, low), 0);
    assert_int_equal(pool_remove(&f, 2, 0), 0);
    agree(&f);
    reboot(&f, 0);
    assert_false(known(&f, 0, NULL));
    assert_false(known(&f, 1, NULL));
    assert_false(known(&f, 2, NULL));
    assert_true(known(&f, 3, NULL));
    fixture_close(&f);
}

static void a_removal_is_of_all_epochs(void **state) {
    struct fixture f;
    struct yk_counters n;
    begin(&f, 1);
    put(&f, 1, 1000);
    raise_epoch(&f);
    assert_int_equal(pool_remove(&f, 1, 0), 0); /* not swept yet */
    yk_store_counters(f.s, &n);
    assert_int_equal(n.removed, 1);
    char key[32];
    uint64_t ticket = 1;
    assert_int_equal(yk_store_pool_remove(f.s, f.ns, key, 0, 0, &ticket), -YK_EKEY);
    assert_int_equal(yk_store_pool_remove(f.s, 200, key, key_of(key, 1), 0, &ticket), -YK_ENONS);
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_mirror_is_what_a_walk_finds),
        cmocka_unit_test(a_commit_tells_the_parent_that_its_writer_named),
        cmocka_unit_test(both_tiers_are_told_as_one),
        cmocka_unit_test(a_walk_meets_what_comes_up_behind_it),
        cmocka_unit_test(a_namespace_that_is_made_again_keeps_its_blocks),
        cmocka_unit_test(a_guest_goes_first_unless_it_is_used_again),
        cmocka_unit_test(a_policy_says_what_is_kept),
        cmocka_unit_test(only_the_block_that_was_meant_is_lent),
        cmocka_unit_test(a_copy_that_stays_is_like_a_block_of_its_own),
        cmocka_unit_test(a_copy_lives_as_long_as_is_left),
        cmocka_unit_test(a_copy_meets_what_is_there),
        cmocka_unit_test(what_is_brought_leaves_room_to_put),
        cmocka_unit_test(a_copy_that_came_damaged_is_a_miss),
        cmocka_unit_test(a_block_is_shown_where_a_guard_lets_it_be_read),
        cmocka_unit_test(a_block_on_ssd_comes_up_to_be_shown),
        cmocka_unit_test(a_removal_takes_what_it_names),
        cmocka_unit_test(a_removal_is_of_all_epochs),
    };
    return cmocka_run_group_tests(tests, make_dirs, remove_dirs);
}
