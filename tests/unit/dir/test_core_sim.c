/* SPDX-License-Identifier: Apache-2.0
 *
 * Clusters of 2 to 5 cores through random schedules (core_rig.h): messages are late, lost, doubled, and overtake
 * one another; processes are killed, restarted, stopped and go on; disks lose what was not synced; nodes are
 * expelled and return; slots move; blocks are put, evicted, copied, removed. After every step the properties of
 * docs/decisions/0014 that can be seen in a state are checked, and at rest those about rest.
 *
 * test_core_sim                   some seeds; YOLK_LONG=1: thousands; YOLK_SLOW=1 (sanitizers): a few
 * test_core_sim SEED [verbose]    one of them, with everything that happens
 *
 * Threads: one.
 */
#include "core_rig.h"

enum { SLOW_SEEDS = 6, SHORT_SEEDS = 60, LONG_SEEDS = 3000, CHAOS_MS = 20000, REST_MS = 30000 };

struct odds {
    uint32_t put, evict, remove, copy, kill, pause, expel, move;
};
static struct odds odds;
static uint32_t gap_ms;
static int conflicts;
static uint64_t began[NODES + 1][SLOTS]; /* the term in which a node was last seen to begin as the owner */
static struct {
    uint64_t done, pending, lost, copies, copies_refused, replays, taken_out, dropped_slots, events, conflicts, wholes, marks;
    uint64_t messages[YK_DIR_MSG_KINDS];
} sum;

/* ---- what must hold in every state ------------------------------------------------------------------ */

static int serves(const struct rig *r, int n) {
    return r->node[n].core != NULL && yk_dir_core_serves(r->node[n].core);
}

/* Some member's view names n as one: it may read from it, whatever n knows. */
static int can_read(const struct rig *r, int n) {
    if (rig_is_member(r, n))
        return 1;
    for (int o = 1; o <= NODES; o++) {
        if (o == n || !rig_is_member(r, o) || !serves(r, o))
            continue;
        const struct yk_dir_member *m = yk_dir_map_member(r->node[o].core->map, (uint32_t)n);
        if (m != NULL && m->state == YK_DIR_MEMBER)
            return 1;
    }
    return 0;
}

static void check_removed(struct rig *r) {
    for (int n = 1; n <= NODES; n++)
        for (int k = 0; k < KEYS; k++) {
            const struct rig_block *b = &r->node[n].block[k];
            if (b->there && b->ver < r->done_ver[k] && serves(r, n) && can_read(r, n))
                RIG_FAIL(r, "1: what was removed can be read", "key %d, ver %" PRIu64 " of node %d; removed at %" PRIu64,
                         k, b->ver, n, r->done_ver[k]);
        }
}

/* Property 4: what an owner has confirmed to its holder is found as soon as the newest owner has the slot whole. */
static void check_known(struct rig *r) {
    for (int n = 1; n <= NODES; n++) {
        struct yk_dir_core *core = r->node[n].core;
        if (core == NULL || !serves(r, n) || !rig_is_member(r, n) ||
            core->me->incarnation != yk_dir_map_member(r->map, (uint32_t)n)->incarnation)
            continue;
        for (int k = 0; k < KEYS; k++) {
            struct rig_block *b = &r->node[n].block[k];
            uint32_t slot = yk_dir_slot_of(rig_key[k].group);
            const struct yk_core_hold *h = &core->hold[slot];
            struct yk_dir_stream stream;
            yk_dir_held_stream(core->held, slot, &stream);
            if (h->owner != YK_DIR_NOBODY && !h->snapshot && !stream.snapshot && stream.seq == stream.confirmed)
                b->known = b->there ? b->gen : 0;
            if (b->there && b->marked && yk_dir_core_is_told(core, &b->mark) == 1) {
                b->known = b->gen; /* so a copy is acknowledged */
                sum.marks++;
            }
            uint32_t o = r->map->slot[slot].owner;
            const struct yk_dir_core *owner = r->node[o].core;
            if (!b->there || b->known != b->gen || owner == NULL || owner->own[slot] == NULL ||
                owner->own[slot]->term != r->map->slot[slot].term || !owner->own[slot]->whole)
                continue;
            sum.wholes++;
            if (!(rig_found(r, k) >> n & 1))
                RIG_FAIL(r, "4: what was confirmed is not found", "key %d of node %d, owner %u of slot %u", k, n, o,
                         slot);
        }
    }
}

/* Property 6, when it could break: a new owner begins without a remove that a member has logged. */
static void check_gathered(struct rig *r, int me) {
    struct yk_dir_core *core = r->node[me].core;
    for (int i = 0; core != NULL && i < SLOTS; i++) {
        const struct yk_core_own *own = core->own[rig_slot[i]];
        if (own == NULL || own->phase != YK_OWN_ACTIVE || began[me][i] == own->term)
            continue;
        began[me][i] = own->term;
        if (own->term != r->map->slot[rig_slot[i]].term)
            continue; /* it is late: who answered it may have gone on with a newer owner */
        for (int n = 1; n <= NODES; n++) {
            const struct yk_dir_member *m = yk_dir_map_member(core->map, (uint32_t)n);
            struct yk_dir_remove rm = {0};
            if (n == me || r->node[n].core == NULL || !rig_is_member(r, n) || m == NULL || m->state != YK_DIR_MEMBER)
                continue;
            while (yk_dir_rlog_next(r->node[n].core->log, rig_slot[i], rm.num, &rm))
                if (!yk_dir_rlog_has(core->log, rig_slot[i], rm.origin))
                    RIG_FAIL(r, "6: a remove that a member has logged is lost with its owner",
                             "slot %u, %" PRIu64 ".%" PRIu64 " of node %d, owner %d", rig_slot[i], rm.origin.term,
                             rm.origin.rseq, n, me);
        }
    }
}

/* ---- what may happen ---------------------------------------------------------------------------------- */

static int pick_alive(struct rig *r) {
    int n = 1 + (int)rig_random(r, (uint64_t)r->nodes);
    return r->node[n].core != NULL && r->node[n].paused_ms <= r->now_ms ? n : 0;
}

static void kill_one(struct rig *r) {
    int n = 1 + (int)rig_random(r, (uint64_t)r->nodes);
    if (r->node[n].core == NULL)
        return;
    rig_kill(r, n, rig_random(r, 3) == 0);
    rig_at(r, rig_random(r, 4000), RESTART, n);
}

static void move_one(struct rig *r) {
    uint32_t to = 1 + (uint32_t)rig_random(r, (uint64_t)r->nodes);
    uint32_t slot = rig_slot[rig_random(r, SLOTS)];
    if (!rig_is_member(r, (int)to) || r->map->slot[slot].owner == to)
        return;
    rig_open_map(r);
    yk_dir_map_move(r->map, slot, to);
    rig_close_map(r);
    RIG_SAY(r, "balancer: slot %u to %u, term %" PRIu64, slot, to, r->map->slot[slot].term);
}

static void expel_one(struct rig *r) {
    uint32_t n = 1 + (uint32_t)rig_random(r, (uint64_t)r->nodes);
    const struct yk_dir_member *m = yk_dir_map_member(r->map, n);
    if (m == NULL || m->state == YK_DIR_EXPELLED || (m->state == YK_DIR_MEMBER && yk_dir_map_members(r->map, YK_DIR_MEMBER) < 2))
        return;
    rig_open_map(r);
    int rc = yk_dir_map_expel(r->map, n);
    rig_close_map(r);
    RIG_SAY(r, "balancer: expels %u: %d", n, rc);
}

static void put_one(struct rig *r) {
    int n = pick_alive(r), k = (int)rig_random(r, KEYS);
    uint64_t bytes = conflicts && rig_random(r, 4) == 0 ? rig_random(r, 2) : 0;
    if (n != 0)
        rig_put(r, n, k, rig_key[k].hash + bytes);
}

static void evict_one(struct rig *r) {
    int n = pick_alive(r), k = (int)rig_random(r, KEYS);
    if (n != 0 && r->node[n].block[k].there)
        rig_change(r, n, k, 0, 0, 0);
}

static void remove_one(struct rig *r) {
    int n = pick_alive(r), k = (int)rig_random(r, KEYS);
    uint32_t owner = r->map->slot[rig_key[k].slot].owner;
    if (rig_random(r, 4) != 0)
        n = r->node[owner].core != NULL && r->node[owner].paused_ms <= r->now_ms ? (int)owner : n;
    if (n != 0)
        rig_begin_remove(r, n, k, rig_random(r, 8) == 0 ? 100 : 10 * CHAOS_MS);
}

static void copy(struct rig *r, int from, int to, int k) {
    const struct rig_block *b = &r->node[from].block[k];
    struct yk_dir_key key = rig_key_of(k);
    struct event *e = rig_event(r, 1 + rig_random(r, r->quiet ? 2 : 10 * r->delay_ms), COPY, to);
    yk_dir_core_stand(r->node[from].core, &key, &e->stand);
    e->from = from;
    e->key = k;
    e->ver = b->ver;
    e->gen = b->sum; /* the bytes */
    rig_push(r, e);
}

static void copy_one(struct rig *r) {
    int to = pick_alive(r), k = (int)rig_random(r, KEYS), first = (int)rig_random(r, (uint64_t)r->nodes);
    for (int i = 0; to != 0 && !r->node[to].block[k].there && i < r->nodes; i++) {
        int from = 1 + (first + i) % r->nodes;
        if (from != to && serves(r, from) && r->node[from].paused_ms <= r->now_ms && r->node[from].block[k].there) {
            copy(r, from, to, k);
            return;
        }
    }
}

static void chaos(struct rig *r) {
    uint32_t total = odds.put + odds.evict + odds.remove + odds.copy + odds.kill + odds.pause + odds.expel + odds.move;
    uint32_t x = (uint32_t)rig_random(r, total);
    if (x < odds.put)
        put_one(r);
    else if ((x -= odds.put) < odds.evict)
        evict_one(r);
    else if ((x -= odds.evict) < odds.remove)
        remove_one(r);
    else if ((x -= odds.remove) < odds.copy)
        copy_one(r);
    else if ((x -= odds.copy) < odds.kill)
        kill_one(r);
    else if ((x -= odds.kill) < odds.pause)
        r->node[1 + rig_random(r, (uint64_t)r->nodes)].paused_ms = r->now_ms + rig_random(r, 3000);
    else if ((x -= odds.pause) < odds.expel)
        expel_one(r);
    else
        move_one(r);
    rig_at(r, 1 + rig_random(r, 2 * gap_ms), CHAOS, 0);
}

/* ---- at rest ------------------------------------------------------------------------------------------ */

static void check_rest(struct rig *r) {
    for (int n = 1; n <= r->nodes; n++)
        if (!rig_is_member(r, n) || !serves(r, n))
            RIG_FAIL(r, "at rest a node is no member", "node %d", n);
    for (int i = 0; i < SLOTS && r->failed == NULL; i++) {
        uint32_t o = r->map->slot[rig_slot[i]].owner;
        const struct yk_core_own *own = r->node[o].core->own[rig_slot[i]];
        if (own == NULL || !own->whole || own->phase != YK_OWN_ACTIVE || own->done != own->sendable || own->asked > 0)
            RIG_FAIL(r, "at rest a slot is not whole, or removes are under way", "slot %u of node %u", rig_slot[i], o);
    }
    for (int k = 0; k < KEYS && r->failed == NULL; k++)
        if (rig_found(r, k) != rig_holders(r, k))
            RIG_FAIL(r, "3: at rest the table is not what nodes hold", "key %d: found %x, held %x", k, rig_found(r, k),
                     rig_holders(r, k));
    for (int i = 0; i < r->removes; i++)
        if (!r->remove[i].ended)
            RIG_FAIL(r, "at rest a remove has not ended", "remove %d of key %d at node %d", i, r->remove[i].key,
                     r->remove[i].node);
}

static void rest(struct rig *r) {
    RIG_SAY(r, "---- rest ----");
    r->quiet = 1;
    for (int n = 1; n <= r->nodes; n++) {
        r->node[n].paused_ms = 0;
        if (r->node[n].core == NULL)
            rig_start(r, n, 1);
    }
}

/* ---- runs ----------------------------------------------------------------------------------------------- */

/* What a seed is about: some have many of one thing, and none of another. */
static void choose(struct rig *r) {
    static const uint32_t rare[] = {0, 1, 1, 3};
    r->loss_pm = (uint32_t[]){0, 20, 100, 300}[rig_random(r, 4)];
    r->dup_pm = (uint32_t[]){0, 50, 200}[rig_random(r, 3)];
    r->delay_ms = (uint32_t[]){3, 20, 200}[rig_random(r, 3)];
    r->sync_ms = (uint32_t[]){2, 10, 100}[rig_random(r, 3)];
    r->apply_ms = (uint32_t[]){2, 10, 100}[rig_random(r, 3)];
    r->learn_ms = (uint32_t[]){5, 50, 1000}[rig_random(r, 3)];
    r->fifo = rig_random(r, 2) == 0;
    gap_ms = (uint32_t[]){10, 40, 150}[rig_random(r, 3)];
    conflicts = rig_random(r, 3) == 0;
    odds = (struct odds){.put = 30, .evict = 5, .remove = 15, .copy = rig_random(r, 2) == 0 ? 15 : 60};
    odds.kill = rare[rig_random(r, 4)];
    odds.pause = rare[rig_random(r, 4)];
    odds.expel = rare[rig_random(r, 4)];
    odds.move = rare[rig_random(r, 4)];
}

static void count(const struct rig *r) {
    for (int i = 0; i < r->removes; i++) {
        sum.done += r->remove[i].done;
        sum.pending += r->remove[i].status == YK_PENDING;
        sum.lost += r->remove[i].status < 0;
    }
    for (int i = 0; i < YK_DIR_MSG_KINDS; i++)
        sum.messages[i] += r->messages[i];
    for (int n = 1; n <= NODES; n++)
        sum.conflicts += r->node[n].core != NULL ? r->node[n].core->counts.conflicts : 0;
    sum.copies += r->copies;
    sum.copies_refused += r->copies_refused;
    sum.replays += r->replays;
    sum.taken_out += r->taken_out;
    sum.dropped_slots += r->dropped_slots;
    sum.events += r->order;
}

/* 1: something went wrong, and was printed. */
static int run(uint64_t seed, int verbose) {
    int late = seed / 4 % 3 == 0; /* a node that is new comes later */
    struct rig *r = rig_new(seed, 2 + (int)(seed % 4) - late);
    memset(began, 0, sizeof(began));
    r->verbose = verbose;
    r->quiet = 0;
    r->digest_ms = seed % 3 == 0 ? 20 : 0; /* of what starts from here on */
    choose(r);
    rig_at(r, 1, CHAOS, 0);
    r->nodes += late;
    if (late)
        rig_at(r, rig_random(r, CHAOS_MS / 2), RESTART, r->nodes);
    uint64_t until = r->now_ms + CHAOS_MS, end = until + REST_MS;
    int resting = 0;
    for (unsigned n = 0; r->failed == NULL; n++) {
        if (!rig_step(r, resting ? end : until, resting ? NULL : chaos)) {
            if (resting)
                break;
            resting = 1;
            rest(r);
        }
        if (resting && r->heap_len > 0 && r->heap[0]->kind == CHAOS) {
            free(rig_pop(r));
            continue;
        }
        check_removed(r);
        for (int node = 1; node <= r->nodes; node++)
            check_gathered(r, node);
        if (!conflicts && n % 8 == 0)
            check_known(r);
    }
    if (r->failed == NULL)
        check_rest(r);
    count(r);
    int failed = r->failed != NULL;
    if (failed)
        printf("FAIL seed %" PRIu64 ": %s: %s (at %" PRIu64 " ms)\n", seed, r->failed, r->text, r->now_ms);
    rig_free(r);
    return failed;
}

int main(int argc, char **argv) {
    const char *full = getenv("YOLK_LONG"), *slow = getenv("YOLK_SLOW");
    uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    uint64_t seeds = argc > 1                               ? 1
                     : full != NULL && full[0] == '1'       ? LONG_SEEDS
                     : slow != NULL && slow[0] == '1'       ? SLOW_SEEDS
                                                            : SHORT_SEEDS;
    int failures = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (uint64_t seed = first; seed < first + seeds && failures < 10; seed++) {
        failures += run(seed, argc > 2);
        if (seed % 500 == 0)
            printf("%" PRIu64 " seeds\n", seed);
    }
    printf("%" PRIu64 " events; removes: %" PRIu64 " done, %" PRIu64 " pending, %" PRIu64 " gone; %" PRIu64
           " blocks taken out, %" PRIu64 " slots dropped; copies: %" PRIu64 ", refused %" PRIu64 "; %" PRIu64
           " returns; %" PRIu64 " conflicts; %" PRIu64 " look-ups of what was confirmed; %" PRIu64 " by marks\n",
           sum.events, sum.done, sum.pending, sum.lost, sum.taken_out, sum.dropped_slots, sum.copies,
           sum.copies_refused, sum.replays, sum.conflicts, sum.wholes, sum.marks);
    for (int i = 1; i < YK_DIR_MSG_KINDS; i++)
        printf("%s%s %" PRIu64, i > 1 ? ", " : "", yk_dir_msg_name((unsigned)i), sum.messages[i]);
    printf("\n%s: %d failures\n", failures ? "FAIL" : "ok", failures);
    return failures > 0;
}
