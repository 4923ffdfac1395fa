/* SPDX-License-Identifier: Apache-2.0
 *
 * Recovery in the modelled protocol: a new owner after kill -9, from the descriptors and the
 * hazards alone. It may be killed too, at any access, and starts again from the top.
 *
 * Order: fence; read hazards; give each descriptor its verdict (of two blocks of one key the higher
 * generation wins); retire what lost; rebuild the index in the other area; flip `active`; fence, scan
 * again, and only then free what lost: the first look at the hazards came before it was retired. A
 * reader in the old index that meets a retired block looks again, and ends in the new one. Kept blocks
 * keep their generation, so that a second recovery comes to the same verdict.
 *
 * Threads: single-threaded; the function is a thread of the model.
 */
#include "shm_model.h"

static struct owner *me(struct mc *mc) {
    return mc_local(mc);
}

static bool sound(struct mc *mc, int d) {
    return mc_latest(mc, at.crc[d]) ==
           crc_of(mc_latest(mc, at.key[d]), mc_latest(mc, at.sum[d]), mc_latest(mc, at.off[d]));
}

static bool writer_lives(struct mc *mc) {
    int t = sc->nreaders + 1;
    if (mc_stopped(mc, t))
        mc_join_thread(mc, t);
    return !mc_stopped(mc, t) && !without(MUT_RECOVER_FREE_RESERVED);
}

/* Of two blocks of one key one loses. */
static void settle_duplicates(struct mc *mc) {
    struct owner *o = me(mc);
    for (int a = 0; a < sc->ndesc; a++)
        for (int b = 0; b < sc->ndesc; b++) {
            if (a == b || !(o->keep >> a & o->keep >> b & 1) ||
                mc_latest(mc, at.key[a]) != mc_latest(mc, at.key[b]))
                continue;
            bool lower = mc_latest(mc, at.word[a]) >> 3 < mc_latest(mc, at.word[b]) >> 3;
            if (lower != without(MUT_RECOVER_LOWER_WINS))
                o->lose |= (uint8_t)(1 << a);
        }
    o->keep &= (uint8_t)~o->lose;
    if (o->lose)
        mc_note(mc, SAW_LOSER);
}

/* A block that is worth keeping. */
static bool whole(struct mc *mc, int d) {
    enum state st = state_of(mc_latest(mc, at.word[d]));
    return (st == COMMITTED || st == SUSPECT ||
            (st == MOVING && !without(MUT_RECOVER_DROP_MOVING)) ||
            (st == RETIRED && without(MUT_RECOVER_KEEP_RETIRED))) &&
           sound(mc, d);
}

static void judge(struct mc *mc, int d) {
    struct owner *o = me(mc);
    uint8_t bit = (uint8_t)(1 << d);
    enum state st = state_of(mc_latest(mc, at.word[d]));
    if (whole(mc, d))
        o->keep |= bit;
    else if (st == RESERVED && mc_latest(mc, at.key[d]) == FOR_CLIENT && o->writer_lives)
        o->held = (uint8_t)(d + 1);
    else if (st != FREE && st != RESERVED && (o->named & bit))
        o->pend |= bit;
    if (st == MOVING && !sound(mc, d))
        o->lost |= (uint8_t)(1 << mc_latest(mc, at.key[d]));
}

static void verdicts(struct mc *mc) {
    struct owner *o = me(mc);
    for (int d = 0; d < sc->ndesc; d++)
        judge(mc, d);
    settle_duplicates(mc);
    if (o->keep)
        mc_note(mc, SAW_KEPT);
    o->dfree = (uint8_t)((1 << sc->ndesc) - 1);
    o->sfree = (uint8_t)((1 << sc->nslot) - 1);
    for (int d = 0; d < sc->ndesc; d++)
        if ((o->keep | o->lose | o->pend) >> d & 1 || o->held == d + 1) {
            o->dfree &= (uint8_t) ~(1 << d);
            o->sfree &= (uint8_t) ~(1 << mc_latest(mc, at.off[d]));
        }
}

/* The word that a kept descriptor gets. */
static uint8_t kept_word(struct mc *mc, int d) {
    return word_of(gen_of(mc_latest(mc, at.word[d])), sc->suspect ? SUSPECT : COMMITTED);
}

static int other_area(struct mc *mc) {
    int now = mc_latest(mc, at.active) & 1;
    return without(MUT_RECOVER_IN_PLACE) ? now : !now;
}

static uint8_t next_active(struct mc *mc) {
    uint8_t inc =
        without(MUT_ACTIVE_NO_INCARNATION) ? 0 : (uint8_t)((mc_latest(mc, at.active) >> 1) + 1);
    return (uint8_t)(inc << 1 | other_area(mc));
}

/* The entry i of bucket 0 in the rebuilt index: the i-th kept descriptor, or empty. */
static uint8_t rebuilt_entry(struct mc *mc, int i) {
    for (int d = 0; d < sc->ndesc; d++)
        if (me(mc)->keep >> d & 1 && i-- == 0)
            return entry_of(mc_latest(mc, at.key[d]), d);
    return 0;
}

static uint8_t zero_next(struct mc *mc, int area) {
    for (int b = 0; b < 2; b++)
        for (int i = 0; i < sc->nent; i++)
            if (mc_latest(mc, at.entry[area][b][i]))
                return at.entry[area][b][i];
    for (int b = 0; b < 2; b++)
        if (mc_latest(mc, at.version[area][b]))
            return at.version[area][b];
    return mc_latest(mc, at.table[area]) ? at.table[area] : NO;
}

/* Area v: all zeros, table last. What is zero already is left alone: a reader that reads the older
 * zero knows less, so this allows more. */
void shm_zero(struct mc *mc) {
    struct owner *o = me(mc);
    MC_BEGIN(mc);
    while (zero_next(mc, o->v) != NO)
        STORE(mc, zero_next(mc, o->v), 0, MC_RLX);
    o->v = 0;
    MC_END(mc);
}

/* Fills the other area, with one bucket. */
void shm_rebuild(struct mc *mc) {
    struct owner *o = me(mc);
    MC_BEGIN(mc);
    o->v = (uint8_t)other_area(mc);
    MC_CALL(mc, FN_ZERO);
    STORE(mc, at.table[other_area(mc)], 1, MC_RLX);
    for (o->i = 0; rebuilt_entry(mc, o->i); o->i++)
        STORE(mc, at.entry[other_area(mc)][0][o->i], rebuilt_entry(mc, o->i), MC_RLX);
    o->i = 0;
    MC_END(mc);
}

/* Retires what lost. */
void shm_retire_losers(struct mc *mc) {
    struct owner *o = me(mc);
    MC_BEGIN(mc);
    while (o->lose) {
        o->d = (uint8_t)__builtin_ctz(o->lose);
        o->lose &= (uint8_t) ~(1 << o->d);
        MC_CALL(mc, FN_RETIRE);
    }
    MC_END(mc);
}

void shm_recover(struct mc *mc) {
    struct owner *o = me(mc);
    MC_BEGIN(mc);
    if (!without(MUT_RECOVER_NO_FENCE))
        FENCE_SC(mc);
    if (!without(MUT_RECOVER_NO_SCAN))
        MC_CALL(mc, FN_HAZARDS);
    if (sc->writer_ver) {
        MC_STEP(mc, MC_SYNC);
        o->writer_lives = writer_lives(mc);
    }
    /* In one pass: a block has its new generation when a later twin is compared with it. */
    if (without(MUT_RECOVER_NEW_GENERATION))
        for (o->i = 0; o->i < sc->ndesc - 1; o->i++)
            if (whole(mc, o->i))
                STORE(mc, at.word[o->i], word_of(shm_next_gen(mc), COMMITTED), MC_REL);
    verdicts(mc);
    for (o->i = 0; o->i < sc->ndesc; o->i++) {
        if (o->keep >> o->i & 1 && mc_latest(mc, at.word[o->i]) != kept_word(mc, o->i))
            STORE(mc, at.word[o->i], kept_word(mc, o->i), MC_REL);
        else if (o->dfree >> o->i & 1 && state_of(mc_latest(mc, at.word[o->i])) != FREE)
            STORE(mc, at.word[o->i], word_of(gen_of(mc_latest(mc, at.word[o->i])), FREE), MC_REL);
        else if (o->pend >> o->i & 1)
            STORE(mc, at.key[o->i], NONE, MC_RLX); /* its key cell is given away at once */
    }
    if (!without(MUT_RECOVER_KEEP_LOSER) && !without(MUT_RECOVER_RETIRE_LAST))
        MC_CALL(mc, FN_LOSERS);
    if (without(MUT_RECOVER_FLIP_FIRST))
        STORE(mc, at.active, next_active(mc), MC_REL);
    MC_CALL(mc, FN_REBUILD);
    if (without(MUT_RECOVER_ZERO_FIRST)) {
        o->v = mc_latest(mc, at.active) & 1;
        MC_CALL(mc, FN_ZERO);
    }
    if (!without(MUT_RECOVER_FLIP_FIRST))
        STORE(mc, at.active, next_active(mc), unless(MUT_RECOVER_FLIP_RELAXED, MC_REL));
    if (!without(MUT_RECOVER_IN_PLACE)) {
        if (!without(MUT_RECOVER_ZERO_NO_FENCE))
            mc_fence_rel(mc); /* the kernel takes the pages: no weaker than this */
        o->v = !(mc_latest(mc, at.active) & 1);
        MC_CALL(mc, FN_ZERO);
    }
    if (without(MUT_RECOVER_RETIRE_LAST))
        MC_CALL(mc, FN_LOSERS);
    o->keep = o->writer_lives = 0;
    if (!without(MUT_RECOVER_LOSER_NO_FENCE))
        FENCE_SC(mc);
    MC_CALL(mc, FN_SCAN);
    MC_END(mc);
}
