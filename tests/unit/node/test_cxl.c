/* SPDX-License-Identifier: Apache-2.0
 *
 * Slow memory as a tier (docs/decisions/0020): blocks sink in the order of use, rise when it is worth it, and are always
 * exactly what was put. Both ranges are ordinary memory here, and what they are said to do is given.
 */
#include "cxl_rig.h"

#include "base/clock.h"
#include "base/hash.h"
#include "shm/layout.h"

#include <signal.h>
#include <sys/wait.h>

/* ---- sinking --------------------------------------------------------------------------------------------- */

static void the_oldest_sinks_and_what_is_full_lets_its_oldest_go(void **state) {
    struct fixture f;
    slow_open(&f, 8 * MIB, 2 * MIB, 10, "lru", 250);
    for (uint32_t i = 0; i < 10; i++)
        put_block(&f, i);
    use(&f, 0);
    put_block(&f, 10);
    put_block(&f, 11);
    assert_int_equal(tier_of(&f, 0), YK_TIER_DRAM);
    assert_int_equal(tier_of(&f, 1), YK_TIER_CXL);
    assert_int_equal(tier_of(&f, 2), YK_TIER_CXL);
    assert_int_equal(tier_of(&f, 3), YK_TIER_DRAM);
    struct yk_counters n = counters(&f);
    assert_int_equal(n.blocks, 10);
    assert_int_equal(n.cxl_blocks, 2);
    assert_int_equal(n.cxl_block_bytes, 2 * BLOCK);
    assert_int_equal(n.sunk, 2);
    assert_int_equal(n.evict_capacity, 0);
    assert_int_equal(n.cxl_capacity_bytes, 2 * MIB);
    for (uint32_t i = 12; i < 60; i++)
        put_block(&f, i);
    n = counters(&f);
    assert_int_equal(n.blocks, 10);
    assert_true(n.cxl_blocks >= 24 && n.cxl_blocks <= 32);
    assert_int_equal(n.cxl_evicted, n.evict_space);
    assert_int_equal(tier_of(&f, 1), 0);
    uint32_t gone = 0;
    for (uint32_t i = 1; i < 60; i++) { /* 0 was used, and so is younger than 9 */
        int tier = tier_of(&f, i);
        gone += tier == 0;
        assert_int_equal(exact(&f, i, 0), tier != 0);
        if (i >= 11)
            assert_true(tier_of(&f, i - 1) == 0 || tier != 0);
    }
    assert_int_equal(gone + n.blocks + n.cxl_blocks, tier_of(&f, 0) ? 60 : 59);
    fixture_close(&f);
}

/* The same for want of bytes, ahead of need and in the middle of a put. */
static void puts_beyond_dram_find_their_blocks_in_slow_memory(void **state) {
    struct fixture f;
    slow_open(&f, 8 * MIB, 24 * MIB, 0, "lru", 250);
    for (uint32_t i = 0; i < 300; i++) {
        put_block(&f, i);
        if (i % 7 == 0)
            yk_store_tick(f.s);
    }
    for (uint32_t i = 0; i < 300; i++)
        assert_true(exact(&f, i, 0));
    assert_int_equal(tier_of(&f, 0), YK_TIER_CXL);
    assert_int_equal(tier_of(&f, 299), YK_TIER_DRAM);
    struct yk_counters n = counters(&f);
    assert_int_equal(n.blocks + n.cxl_blocks, 300);
    assert_int_equal(n.evicted_bytes, 0);
    fixture_close(&f);
}

static void without_it_nothing_is_kept(void **state) {
    struct fixture f;
    fixture_open(&f, 8 * MIB, 10, "lru");
    for (uint32_t i = 0; i < 20; i++)
        put_block(&f, i);
    struct yk_counters n = counters(&f);
    assert_int_equal(n.blocks, 10);
    assert_int_equal(n.cxl_capacity_bytes + n.cxl_blocks + n.sunk + n.cxl_used, 0);
    assert_int_equal(yk_store_segment(f.s)->layout.data_bytes, 8 * MIB);
    assert_int_equal(((struct yk_shm_hdr *)yk_store_segment(f.s)->meta)->slow_bytes, 0);
    fixture_close(&f);
}

/* What one turn copies is bounded: what is over it waits, and is dropped for a put that has waited long enough. */
static void one_turn_copies_so_much_and_no_put_waits_longer(void **state) {
    struct fixture f;
    slow_open(&f, 64 * MIB, 128 * MIB, 0, "lru", 250);
    uint32_t i = 0;
    while (counters(&f).sunk == 0)
        put_block(&f, i++);
    yk_store_turn(f.s);
    int rc = 0;
    for (; i < 4000 && rc == 0; i++) /* no new turn, and no tick that frees ahead of need */
        rc = put_at(&f, i, 0);
    assert_int_equal(rc, -YK_ENOSPC);
    struct yk_counters n = counters(&f);
    assert_true(n.sink_waits > 0);
    assert_int_equal(n.evicted_bytes, 0);
    yk_store_ssd_hurry(f.s, BLOCK);
    assert_int_equal(put_at(&f, i, 0), 0);
    assert_true(counters(&f).evict_space > 0);
    put_block(&f, i + 1u); /* the next turn goes on as before */
    for (uint32_t at = 0; at < i; at++)
        assert_true(exact(&f, at, 0) || tier_of(&f, at) == 0);
    fixture_close(&f);
}

static void what_is_pinned_stays_and_what_is_dead_goes(void **state) {
    struct fixture f;
    slow_open(&f, 8 * MIB, 8 * MIB, 10, "lru", 250);
    put_block(&f, 0);
    put_block(&f, 1);
    assert_int_equal(change(&f, YK_CHANGE_PIN, 0, key_of(0)), 0);
    assert_int_equal(change(&f, YK_CHANGE_EXPIRE, 1, key_of(1)), 0);
    for (uint64_t end = yk_wall_ms() + 2; yk_wall_ms() <= end;)
        ;
    for (uint32_t i = 2; i < 30; i++)
        put_block(&f, i);
    assert_int_equal(tier_of(&f, 0), YK_TIER_DRAM);
    assert_int_equal(tier_of(&f, 1), 0);
    assert_int_equal(tier_of(&f, 2), YK_TIER_CXL);
    struct yk_counters n = counters(&f);
    assert_int_equal(n.sunk, n.cxl_blocks);
    /* What is pinned in slow memory stays there. */
    assert_int_equal(change(&f, YK_CHANGE_PIN, 0, key_of(2)), 0);
    for (uint32_t i = 30; i < 400; i++)
        put_block(&f, i);
    assert_int_equal(tier_of(&f, 2), YK_TIER_CXL);
    assert_true(exact(&f, 2, 0));
    assert_int_equal(tier_of(&f, 3), 0);
    fixture_close(&f);
}

/* A quota takes from slow memory first; removals and epochs find what is there. */
static void quotas_removals_and_epochs_reach_it(void **state) {
    struct fixture f;
    slow_open(&f, 8 * MIB, 8 * MIB, 10, "lru", 250);
    for (uint32_t i = 0; i < 30; i++)
        put_block(&f, i);
    assert_int_equal(counters(&f).cxl_blocks, 20);
    assert_int_equal(change(&f, YK_CHANGE_REMOVE, 0, key_of(5)), 0);
    assert_int_equal(tier_of(&f, 5), 0);
    assert_int_equal(counters(&f).cxl_blocks, 19);
    assert_int_equal(yk_store_ns_quota(f.s, f.ns, 20 * BLOCK), 0);
    counters(&f);
    struct yk_counters n = counters(&f);
    assert_int_equal(n.blocks, 10);
    assert_int_equal(n.cxl_blocks, 10);
    assert_int_equal(tier_of(&f, 9), 0);
    assert_int_equal(tier_of(&f, 10), YK_TIER_CXL);
    assert_int_equal(yk_store_ns_raise(f.s, f.ns, f.epoch + 1), 0);
    f.epoch++;
    assert_int_equal(tier_of(&f, 25), 0);
    for (int i = 0; i < 3; i++)
        n = counters(&f);
    assert_int_equal(n.blocks + n.cxl_blocks + n.limbo_blocks, 0);
    put_block(&f, 1);
    assert_true(exact(&f, 1, 0));
    fixture_close(&f);
}

/* A child never stands without its parent, in whichever range either is. */
static void chains_keep_their_parents_over_both_ranges(void **state) {
    static const char *const policies[] = {"chain-lru", "chain-s3fifo", "learned"};
    for (size_t p = 0; p < sizeof(policies) / sizeof(policies[0]); p++) {
        struct fixture f;
        unsigned seed = 5;
        slow_open(&f, 8 * MIB, 2 * MIB, 20, policies[p], 250);
        for (uint32_t step = 0; step < 800; step++) {
            uint32_t chain = (uint32_t)rand_r(&seed) % 12u, at = (uint32_t)rand_r(&seed) % 8u;
            char parent[32] = {0}, key[32];
            yk_store_turn(f.s);
            snprintf(key, sizeof(key), "c%u-%u", chain, at);
            if (at > 0)
                snprintf(parent, sizeof(parent), "c%u-%u", chain, at - 1u);
            if (at > 0 && !here(&f, parent))
                continue;
            if (at > 0)
                change(&f, YK_CHANGE_TOUCH, 0, parent);
            assert_int_equal(put_as(&f, 0, key, at > 0 ? parent : NULL, bytes_of(chain, at), BLOCK, 0), 0);
            if (at > 0 && !here(&f, parent)) /* it made way for its child, which it was not the parent of yet */
                assert_int_equal(change(&f, YK_CHANGE_REMOVE, 0, key), 0);
            if (step % 5 == 0)
                yk_store_tick(f.s);
            for (uint32_t c = 0; c < 12; c++) {
                for (uint32_t i = 1; i < 8; i++) {
                    snprintf(key, sizeof(key), "c%u-%u", c, i);
                    snprintf(parent, sizeof(parent), "c%u-%u", c, i - 1u);
                    assert_true(!here(&f, key) || here(&f, parent));
                }
            }
        }
        assert_true(counters(&f).sunk > 50);
        assert_true(counters(&f).cxl_evicted > 0);
        fixture_close(&f);
    }
}

/* ---- rising ---------------------------------------------------------------------------------------------- */

/* Uses after which the oldest block in slow memory has risen; 0: not after twenty. */
static unsigned uses_to_rise(unsigned percent, int dram_full) {
    struct fixture f;
    unsigned n = 0;
    slow_open(&f, 8 * MIB, 8 * MIB, 10, "lru", percent);
    for (uint32_t i = 0; i < 20; i++)
        put_block(&f, i);
    if (!dram_full)
        for (uint32_t i = 12; i < 20; i++)
            assert_int_equal(change(&f, YK_CHANGE_REMOVE, 0, key_of(i)), 0);
    while (n < 20 && tier_of(&f, 0) == YK_TIER_CXL) {
        use(&f, 0);
        n++;
        yk_store_turn(f.s);
        assert_int_equal(tier_of(&f, 0), YK_TIER_CXL); /* not in the middle of a use */
        yk_store_tick(f.s);
        assert_true(exact(&f, 0, 0));
    }
    struct yk_counters c = counters(&f);
    int rose = tier_of(&f, 0) == YK_TIER_DRAM;
    assert_int_equal(c.cxl_hits, n);
    assert_int_equal(c.cxl_hit_bytes, (uint64_t)n * BLOCK);
    assert_int_equal(c.risen, rose);
    assert_int_equal(c.blocks, dram_full ? 10 : 2 + rose);
    assert_int_equal(c.cxl_blocks, dram_full ? 10 : 10 - rose);
    if (rose && dram_full)
        assert_int_equal(tier_of(&f, 10), YK_TIER_CXL); /* the oldest has made way */
    fixture_close(&f);
    return rose ? n : 0;
}

static void a_block_rises_when_its_uses_are_worth_two_moves(void **state) {
    assert_int_equal(uses_to_rise(100, 1), 0);
    assert_int_equal(uses_to_rise(130, 1), 9);
    assert_int_equal(uses_to_rise(250, 1), 4);
    assert_int_equal(uses_to_rise(1000, 1), 3);
    assert_int_equal(uses_to_rise(250, 0), 2); /* a place that nobody has costs no move down */
    assert_int_equal(uses_to_rise(100, 0), 0);
}

static void what_has_risen_begins_anew(void **state) {
    struct fixture f;
    slow_open(&f, 8 * MIB, 8 * MIB, 10, "lru", 250);
    for (uint32_t i = 0; i < 20; i++)
        put_block(&f, i);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 4; i++) {
            assert_int_equal(tier_of(&f, 0), YK_TIER_CXL);
            use(&f, 0);
            yk_store_tick(f.s);
        }
        assert_int_equal(tier_of(&f, 0), YK_TIER_DRAM);
        for (uint32_t i = 1; i < 110; i++)
            if (tier_of(&f, i) == YK_TIER_DRAM)
                use(&f, i);
        put_block(&f, 100u + (uint32_t)round);
        assert_true(exact(&f, 0, 0));
    }
    assert_int_equal(counters(&f).risen, 3);
    fixture_close(&f);
}

/* A start finds a namespace in slow memory alone: what it has there rises as any other's does. */
static void what_has_nothing_in_dram_rises_after_a_restart(void **state) {
    struct fixture f;
    struct yk_err err = {0};
    uint32_t other, first;
    slow_open(&f, 8 * MIB, 8 * MIB, 10, "lru", 250);
    first = f.ns;
    assert_int_equal(yk_store_ns_open(f.s, "other", 5, 1, &other, &err), 0);
    put_block(&f, 0);
    f.ns = other;
    for (uint32_t i = 1; i < 15; i++)
        put_block(&f, i);
    yk_store_close(f.s, 1);
    store_open(&f);
    assert_int_equal(f.ns, first);
    assert_int_equal(tier_of(&f, 0), YK_TIER_CXL);
    for (int i = 0; i < 6; i++) {
        use(&f, 0);
        yk_store_turn(f.s);
        yk_store_tick(f.s);
    }
    assert_int_equal(tier_of(&f, 0), YK_TIER_DRAM);
    assert_true(exact(&f, 0, 0));
    fixture_close(&f);
}

/* ---- compaction ----------------------------------------------------------------------------------------- */

/* Gaps of DRAM close, however much more is in slow memory than in DRAM. */
static void gaps_close_beneath_much_slow_memory(void **state) {
    enum { SMALL = 4096, STAY = 300, ALL = 6000 };
    struct fixture f;
    char key[32];
    slow_init(&f, 8 * MIB, 32 * MIB, 400, "lru", 250);
    f.o.segment.max_blocks = 1u << 14;
    store_open(&f);
    for (uint32_t i = 0; i < ALL; i++) {
        yk_store_turn(f.s);
        assert_int_equal(put_as(&f, 0, key_of(i), NULL, bytes_of(i, 0), SMALL, 0), 0);
        for (uint32_t k = 0; k < STAY && i > STAY && i % 50 == 0; k++)
            use(&f, k);
    }
    assert_true(counters(&f).cxl_blocks > 5000);
    for (uint32_t i = 0; i < STAY; i += 2)
        assert_int_equal(change(&f, YK_CHANGE_REMOVE, 0, key_of(i)), 0);
    counters(&f);
    uint32_t moved = yk_store_compact(f.s, 0, 1000);
    struct yk_counters n = counters(&f);
    assert_true(moved > 0);
    assert_int_equal(n.moves_refused, 0);
    for (uint32_t i = 0; i < ALL; i++) {
        snprintf(key, sizeof(key), "%s", key_of(i));
        assert_int_equal(same(&f, key, bytes_of(i, 0), SMALL), here(&f, key));
    }
    fixture_close(&f);
}

/* ---- held -------------------------------------------------------------------------------------------------- */

struct reader {
    uint32_t slot;
    struct yk_client_page *page;
};

static void reader_open(struct fixture *f, struct reader *r) {
    uint64_t cookie;
    assert_int_equal(yk_store_client_attach(f->s, (uint32_t)getpid(), 0, 0, &r->slot, &cookie), 0);
    r->page = (struct yk_client_page *)yk_store_segment(f->s)->clients + r->slot;
    r->page->hazard_top = 16;
}

/* The payload, or NULL: a miss. */
static const unsigned char *hold(struct fixture *f, struct reader *r, unsigned slot, uint32_t i) {
    struct yk_found found;
    const char *key = key_of(i);
    uint32_t len = (uint32_t)strlen(key);
    struct yk_query q = {.hash = yk_hash_key(f->ns, key, len), .epoch = f->epoch, .key = key, .key_len = len, .ns = f->ns};
    if (yk_view_pin(yk_store_view(f->s), &q, yk_wall_ms(), &r->page->hazard[slot], &found) != 0)
        return NULL;
    assert_int_equal(found.slow, tier_of(f, i) == YK_TIER_CXL);
    return yk_store_view(f->s)->data + found.rest.offset;
}

static void what_is_held_stays_where_it_is(void **state) {
    struct fixture f;
    struct reader r;
    slow_open(&f, 8 * MIB, 8 * MIB, 10, "lru", 250);
    reader_open(&f, &r);
    for (uint32_t i = 0; i < 10; i++)
        put_block(&f, i);
    const unsigned char *p = hold(&f, &r, 0, 0);
    put_block(&f, 10);
    put_block(&f, 11);
    assert_int_equal(tier_of(&f, 0), YK_TIER_DRAM);
    assert_int_equal(tier_of(&f, 1), YK_TIER_CXL);
    assert_memory_equal(p, bytes_of(0, 0), BLOCK);
    yk_hazard_clear(&r.page->hazard[0]);
    /* And in slow memory: it does not rise under its reader, and does when that is through. */
    p = hold(&f, &r, 1, 1);
    for (int i = 0; i < 8; i++) {
        use(&f, 1);
        yk_store_turn(f.s);
        yk_store_tick(f.s);
    }
    assert_int_equal(tier_of(&f, 1), YK_TIER_CXL);
    assert_memory_equal(p, bytes_of(1, 0), BLOCK);
    assert_true(counters(&f).rise_refused > 0);
    yk_hazard_clear(&r.page->hazard[1]);
    use(&f, 1);
    yk_store_tick(f.s);
    assert_int_equal(tier_of(&f, 1), YK_TIER_DRAM);
    assert_true(exact(&f, 1, 0));
    fixture_close(&f);
}

/* ---- random schedules ---------------------------------------------------------------------------------------- */

#define KEYS  240u
#define HOLDS 12u

struct held {
    uint32_t key, version;
    const unsigned char *at; /* NULL: free */
};

/* What is known of the store: where each block was after the last step, and the order in each range, oldest first. */
struct model {
    struct fixture f;
    struct reader r;
    unsigned seed;
    uint32_t version[KEYS];
    int tier[KEYS];
    uint32_t uses[KEYS]; /* since it sank */
    int loose[KEYS]; /* it was held: a policy that met it then has put it to the young end, unseen */
    uint32_t order[2][KEYS], count[2]; /* DRAM, slow memory */
    struct held held[HOLDS];
    uint32_t fresh; /* the key that this step has put */
};

static unsigned pick(struct model *m, unsigned n) {
    return (unsigned)rand_r(&m->seed) % n;
}

static void order_drop(struct model *m, int range, uint32_t key) {
    uint32_t *o = m->order[range], n = 0;
    for (uint32_t i = 0; i < m->count[range]; i++)
        if (o[i] != key)
            o[n++] = o[i];
    m->count[range] = n;
}

static void order_young(struct model *m, int range, uint32_t key) {
    order_drop(m, range, key);
    m->loose[key] = 0;
    m->order[range][m->count[range]++] = key;
}

static void forget(struct model *m, uint32_t key) {
    if (m->tier[key] != 0)
        order_drop(m, m->tier[key] == YK_TIER_CXL, key);
    m->tier[key] = 0;
}

static int is_held(const struct model *m, uint32_t key) {
    for (unsigned i = 0; i < HOLDS; i++)
        if (m->held[i].at != NULL && m->held[i].key == key && m->held[i].version == m->version[key])
            return 1;
    return 0;
}

/* Whoever left the range in this step was older than all that stayed, but for those that were held. */
static void left_in_order(struct model *m, int range, const int *now) {
    int here_now = range ? YK_TIER_CXL : YK_TIER_DRAM;
    uint32_t last = 0;
    for (uint32_t i = 0; i < m->count[range]; i++) {
        uint32_t key = m->order[range][i];
        int rose = range && now[key] == YK_TIER_DRAM;
        if (now[key] != here_now && !rose)
            last = i + 1u;
        m->loose[key] |= is_held(m, key);
    }
    for (uint32_t i = 0; i < last; i++) {
        uint32_t key = m->order[range][i];
        assert_true(now[key] != here_now || m->loose[key]);
    }
}

/* Compares the store with what was known, and learns where blocks are now. */
static void look(struct model *m) {
    int now[KEYS];
    uint32_t sunk[KEYS], n = 0;
    for (uint32_t i = 0; i < KEYS; i++) {
        now[i] = m->tier[i] == 0 ? 0 : tier_of(&m->f, i);
        if (m->tier[i] == 0 && i != m->fresh)
            assert_int_equal(tier_of(&m->f, i), 0);
    }
    left_in_order(m, 0, now);
    left_in_order(m, 1, now);
    for (uint32_t i = 0; i < m->count[0]; i++)
        if (now[m->order[0][i]] == YK_TIER_CXL)
            sunk[n++] = m->order[0][i];
    for (uint32_t i = 0; i < KEYS; i++) {
        if (m->tier[i] == YK_TIER_CXL && now[i] == YK_TIER_DRAM) {
            assert_true(m->uses[i] > 1); /* worth one move at the least */
            order_drop(m, 1, i);
            order_young(m, 0, i);
            m->loose[i] = 1; /* in which order they rose is not seen */
            m->tier[i] = now[i];
        } else if (m->tier[i] != 0 && now[i] == 0) {
            forget(m, i);
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        order_drop(m, 0, sunk[i]);
        order_young(m, 1, sunk[i]);
        m->tier[sunk[i]] = YK_TIER_CXL;
        m->uses[sunk[i]] = 0;
    }
}

static void step_put(struct model *m, uint32_t key) {
    uint32_t version = m->version[key] + pick(m, 2);
    if (m->tier[key] == 0)
        version = m->version[key] + 1u;
    int rc = put_at(&m->f, key, version);
    if (rc != 0) {
        assert_int_equal(rc, -YK_ENOSPC);
        return;
    }
    int now = tier_of(&m->f, key);
    if (m->tier[key] != 0 && version == m->version[key] && (now == YK_TIER_CXL || now == m->tier[key])) {
        look(m); /* whoever made way did so before */
        order_young(m, now == YK_TIER_CXL, key); /* the same bytes: a use */
        m->uses[key]++;
        return;
    }
    forget(m, key);
    m->version[key] = version;
    m->fresh = key;
    look(m); /* whoever made way did so before it came in */
    m->fresh = KEYS;
    m->tier[key] = YK_TIER_DRAM;
    order_young(m, 0, key);
}

static void step_use(struct model *m, uint32_t key) {
    if (m->tier[key] == 0)
        return;
    use(&m->f, key);
    m->uses[key]++;
    order_young(m, m->tier[key] == YK_TIER_CXL, key);
}

static void step_hold(struct model *m, uint32_t key) {
    unsigned slot = pick(m, HOLDS);
    struct held *h = &m->held[slot];
    if (h->at != NULL) {
        h->at = NULL;
        yk_hazard_clear(&m->r.page->hazard[slot]);
        return;
    }
    h->at = hold(&m->f, &m->r, slot, key);
    assert_int_equal(h->at != NULL, m->tier[key] != 0);
    h->key = key;
    h->version = m->version[key];
}

static void step(struct model *m) {
    uint32_t key = pick(m, 3) == 0 ? pick(m, KEYS) : pick(m, KEYS / 6u);
    unsigned what = pick(m, 20);
    if (pick(m, 3) == 0)
        yk_store_turn(m->f.s);
    if (what < 9) {
        step_put(m, pick(m, KEYS));
    } else if (what < 15) {
        step_use(m, key);
    } else if (what < 17) {
        step_hold(m, key);
    } else if (what == 17 && m->tier[key] != 0) {
        assert_int_equal(change(&m->f, YK_CHANGE_REMOVE, 0, key_of(key)), 0);
        forget(m, key);
    } else {
        yk_store_tick(m->f.s);
    }
    look(m);
}

static void all_exact(struct model *m) {
    for (uint32_t i = 0; i < KEYS; i++)
        assert_int_equal(exact(&m->f, i, m->version[i]), m->tier[i] != 0);
    struct yk_counters n;
    yk_store_counters(m->f.s, &n);
    assert_int_equal(n.blocks, m->count[0]);
    assert_int_equal(n.cxl_blocks, m->count[1]);
    assert_int_equal(n.corrupt, 0);
}

static void schedules_agree_with_a_model_of_two_orders(void **state) {
    for (unsigned seed = 1; seed <= 6; seed++) {
        struct model m = {.seed = seed, .fresh = KEYS};
        slow_open(&m.f, 4 * MIB, (4u + 2u * (seed % 3u)) * MIB, seed % 2u ? 40 : 0, "lru", 250);
        reader_open(&m.f, &m.r);
        for (uint32_t i = 0; i < 2000; i++) {
            step(&m);
            for (unsigned k = 0; k < HOLDS && i % 4 == 0; k++)
                if (m.held[k].at != NULL)
                    assert_memory_equal(m.held[k].at, bytes_of(m.held[k].key, m.held[k].version), BLOCK);
            if (i % 100 == 0)
                all_exact(&m);
        }
        all_exact(&m);
        struct yk_counters n = counters(&m.f);
        assert_true(n.sunk > 100 && n.risen > 0 && n.cxl_evicted > 0);
        fixture_close(&m.f);
    }
}

/* ---- measuring ------------------------------------------------------------------------------------------------------ */

static void what_is_not_given_is_measured(void **state) {
    struct fixture f;
    slow_init(&f, 16 * MIB, 16 * MIB, 0, "lru", 250);
    f.o.cxl.figures = (struct yk_cxl_figures){0};
    store_open(&f);
    for (uint32_t i = 0; i < 400; i++)
        put_block(&f, i);
    crash(&f); /* it reads blocks then, and changes none */
    struct yk_counters n = counters(&f);
    assert_int_equal(n.cxl_used, 1);
    assert_true(n.cxl_dram_latency_ns > 0 && n.cxl_latency_ns > 0);
    assert_true(n.cxl_dram_bytes_per_s > 0 && n.cxl_bytes_per_s > 0);
    for (uint32_t i = 0; i < 400; i++)
        assert_true(exact(&f, i, 0));
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_oldest_sinks_and_what_is_full_lets_its_oldest_go),
        cmocka_unit_test(puts_beyond_dram_find_their_blocks_in_slow_memory),
        cmocka_unit_test(without_it_nothing_is_kept),
        cmocka_unit_test(one_turn_copies_so_much_and_no_put_waits_longer),
        cmocka_unit_test(what_is_pinned_stays_and_what_is_dead_goes),
        cmocka_unit_test(quotas_removals_and_epochs_reach_it),
        cmocka_unit_test(chains_keep_their_parents_over_both_ranges),
        cmocka_unit_test(a_block_rises_when_its_uses_are_worth_two_moves),
        cmocka_unit_test(what_has_risen_begins_anew),
        cmocka_unit_test(what_has_nothing_in_dram_rises_after_a_restart),
        cmocka_unit_test(gaps_close_beneath_much_slow_memory),
        cmocka_unit_test(what_is_held_stays_where_it_is),
        cmocka_unit_test(schedules_agree_with_a_model_of_two_orders),
        cmocka_unit_test(what_is_not_given_is_measured),
    };
    return cmocka_run_group_tests_name("cxl", tests, make_dir, remove_dir);
}
