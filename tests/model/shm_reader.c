/* SPDX-License-Identifier: Apache-2.0
 *
 * The clients of the modelled protocol (src/shm/view.c): readers, by reference and match, and the
 * writer.
 *
 * A lookup reads `active` (incarnation and index area), the table word and the bucket's version,
 * then the entries; a candidate is pinned and checked; a scan without a match is a miss only if
 * none of the three words changed. Retries have no bound here: that covers every bounded count, and
 * a bounded reader only gives up (falls back to the socket) in states that are explored anyway.
 *
 * Threads: single-threaded; the functions are threads of the model.
 */
#include "shm_model.h"

#include <stddef.h>
#include <string.h>

/* Passes over the bucket before a reader falls back to the socket. */
#define PASSES 2

struct reader {
    uint8_t script;
    uint8_t act, table, b, version; /* of this pass */
    uint8_t act2, table2, version2;
    uint8_t over, i, e, d, w1, w2;
    uint8_t key, sum, off, val;
    uint8_t changed, hit;
    uint8_t pin; /* hazard that pins */
    uint8_t pass;
    uint8_t topped;     /* hazard_top is raised */
    uint8_t seen[KEYS]; /* newest version found */
};

static struct reader *me(struct mc *mc) {
    return mc_local(mc);
}

static const struct look *look(struct mc *mc) {
    return &sc->look[mc_self(mc) - 1][me(mc)->script];
}

static void found(struct mc *mc, int sum) {
    struct reader *r = me(mc);
    const struct look *l = look(mc);
    if (key_of[sum] != l->key)
        mc_fail(mc, "lookup of key %d found version %d of key %d", l->key, sum, key_of[sum]);
    else if (l->no_hit)
        mc_fail(mc, "a removed key was found");
    else if (sum < l->min_ver || sum < r->seen[l->key])
        mc_fail(mc, "version %d found after a newer one was there", sum);
    else
        mc_say(mc, "found version %d", sum);
    r->seen[l->key] = (uint8_t)sum;
}

static void missed(struct mc *mc) {
    const struct look *l = look(mc);
    const struct owner *o = mc_local_of(mc, 0);
    mc_note(mc, SAW_MISS);
    mc_say(mc, "miss");
    if (l->no_miss && !(o->lost >> l->key & 1))
        mc_fail(mc, "key %d was there all the time, and lookup missed it", l->key);
}

static void payload(struct mc *mc) {
    struct reader *r = me(mc);
    if (r->val != r->sum)
        mc_fail(mc, "payload of version %d under a reference to version %d", r->val, r->sum);
}

/* Forgets one pass, so that equal situations are equal states. */
static void forget_pass(struct reader *r) {
    memset(&r->act, 0, offsetof(struct reader, pin) - offsetof(struct reader, act));
}

static bool steady(const struct reader *r) {
    return (r->version2 == r->version || without(MUT_MISS_NO_VERSION)) &&
           (r->table2 == r->table || without(MUT_MISS_NO_TABLE)) &&
           (r->act2 == r->act || without(MUT_MISS_NO_ACTIVE));
}

/* Reads the three words again, `active` last: version and table may come back to an old value, but
 * only in an area that was rebuilt, and who sees that sees the newer incarnation too. */
void shm_steady(struct mc *mc) {
    struct reader *r = me(mc);
    MC_BEGIN(mc);
    if (!without(MUT_MISS_NO_FENCE))
        mc_fence_acq(mc);
    if (without(MUT_MISS_ACTIVE_FIRST))
        LOAD(mc, r->act2, at.active, MC_ACQ);
    LOAD(mc, r->version2, at.version[r->act & 1][r->b], unless(MUT_MISS_RELAXED, MC_ACQ));
    LOAD(mc, r->table2, at.table[r->act & 1], unless(MUT_MISS_RELAXED, MC_ACQ));
    if (!without(MUT_MISS_ACTIVE_FIRST))
        LOAD(mc, r->act2, at.active, MC_RLX);
    MC_END(mc);
}

/* Finds area and bucket. */
void shm_enter(struct mc *mc) {
    struct reader *r = me(mc);
    MC_BEGIN(mc);
    r->changed = 0;
    LOAD(mc, r->act, at.active, unless(MUT_ACTIVE_RELAXED, MC_ACQ));
    LOAD(mc, r->table, at.table[r->act & 1], unless(MUT_TABLE_RELAXED, MC_ACQ));
    r->b = bucket_of(look(mc)->key, r->table);
    LOAD(mc, r->version, at.version[r->act & 1][r->b], unless(MUT_VERSION_RELAXED, MC_ACQ));
    MC_END(mc);
}

static bool readable(uint8_t word) {
    return state_of(word) == COMMITTED || state_of(word) == SUSPECT;
}

/* A candidate that cannot be read (on its way in or out, or being moved) makes a miss uncertain. */
static bool unsettling(uint8_t word) {
    if (without(MUT_MOVING_IS_ABSENT) && state_of(word) == MOVING)
        return false;
    return !without(MUT_UNREADABLE_IS_ABSENT);
}

static bool same_word(uint8_t w1, uint8_t w2, enum mut state_only) {
    return w1 == w2 || (without(state_only) && readable(w2));
}

/* Candidate d: 1 pinned and the one (word, hazard, fence, word; then the key), else 0. */
void shm_pin(struct mc *mc) {
    struct reader *r = me(mc);
    MC_BEGIN(mc);
    r->hit = 0;
    LOAD(mc, r->w1, at.word[r->d], unless(MUT_GET_W1_RELAXED, MC_ACQ));
    if (!readable(r->w1)) {
        r->changed |= unsettling(r->w1);
        MC_RETURN(mc);
    }
    if (without(MUT_LOCATION_BEFORE_RECHECK))
        LOAD(mc, r->off, at.off[r->d], MC_RLX);
    if (sc->tops && !r->topped && !without(MUT_TOP_AFTER_FENCE))
        STORE(mc, at.top[r->pin], 1, MC_REL);
    STORE(mc, at.hazard[r->pin], r->d + 1, unless(MUT_HAZARD_SET_RELAXED, MC_REL));
    if (!without(MUT_NO_READER_FENCE))
        FENCE_SC(mc);
    if (sc->tops && !r->topped && without(MUT_TOP_AFTER_FENCE))
        STORE(mc, at.top[r->pin], 1, MC_REL);
    r->topped = 1;
    LOAD(mc, r->w2, at.word[r->d], unless(MUT_GET_W2_RELAXED, MC_ACQ));
    if (!same_word(r->w1, r->w2, MUT_RECHECK_STATE_ONLY) && !without(MUT_NO_RECHECK)) {
        r->changed = 1;
        MC_RETURN(mc);
    }
    LOAD(mc, r->key, at.key[r->d], MC_RLX);
    if (r->key == look(mc)->key || without(MUT_NO_KEY_COMPARE)) {
        r->hit = 1;
        MC_RETURN(mc);
    }
    mc_fence_acq(mc); /* recovery may have given a retired block's key cell away */
    LOAD(mc, r->w2, at.word[r->d], MC_RLX);
    r->changed |= r->w1 != r->w2;
    MC_END(mc);
}

/* A second hazard, which the owner's scan comes to first, takes the reference over. */
void shm_copy(struct mc *mc) {
    struct reader *r = me(mc);
    MC_BEGIN(mc);
    STORE(mc, at.hazard[0], r->d + 1, MC_REL);
    FENCE_SC(mc);
    LOAD(mc, r->w2, at.word[r->d], MC_ACQ);
    if (r->w2 == r->w1 || without(MUT_COPY_UNCHECKED)) {
        STORE(mc, at.hazard[r->pin], 0, MC_REL);
        r->pin = r->pass = 0;
    } else {
        STORE(mc, at.hazard[0], 0, MC_REL);
    }
    MC_END(mc);
}

/* Uses the pinned block and releases it. */
void shm_use(struct mc *mc) {
    struct reader *r = me(mc);
    MC_BEGIN(mc);
    READ(mc, r->sum, at.sum[r->d]);
    if (!without(MUT_LOCATION_BEFORE_RECHECK))
        READ(mc, r->off, at.off[r->d]);
    found(mc, r->sum);
    mc_note(mc, SAW_HIT);
    if (without(MUT_CLEAR_BEFORE_USE))
        STORE(mc, at.hazard[r->pin], 0, MC_REL);
    READ(mc, r->val, at.cell[r->off]);
    payload(mc);
    if (look(mc)->kind == LOOK_COPY)
        MC_CALL(mc, FN_COPY);
    READ(mc, r->val, at.cell[r->off]);
    payload(mc);
    STORE(mc, at.hazard[r->pin], 0, unless(MUT_HAZARD_CLEAR_RELAXED, MC_REL));
    MC_END(mc);
}

/* Candidate d without a pin: what was read counts only if the word is the same before and after.
 * The payload cell stands for the key cell, memory that another descriptor's life may reuse. */
void shm_peek(struct mc *mc) {
    struct reader *r = me(mc);
    MC_BEGIN(mc);
    r->hit = 0;
    LOAD(mc, r->w1, at.word[r->d], unless(MUT_MATCH_W1_RELAXED, MC_ACQ));
    if (!readable(r->w1)) {
        r->changed |= unsettling(r->w1);
        MC_RETURN(mc);
    }
    LOAD(mc, r->key, at.key[r->d], MC_RLX);
    LOAD(mc, r->sum, at.sum[r->d], MC_RLX);
    LOAD(mc, r->off, at.off[r->d], MC_RLX);
    LOAD(mc, r->val, at.cell[r->off], MC_RLX);
    if (!without(MUT_MATCH_NO_FENCE))
        mc_fence_acq(mc);
    LOAD(mc, r->w2, at.word[r->d], MC_RLX);
    if (!same_word(r->w1, r->w2, MUT_MATCH_STATE_ONLY) && !without(MUT_MATCH_NO_RECHECK)) {
        r->changed = 1;
        MC_RETURN(mc);
    }
    r->hit = r->key == look(mc)->key;
    MC_END(mc);
}

static int entries(const struct reader *r) {
    return r->over ? 1 : sc->nent;
}

static uint8_t entry_at(const struct reader *r) {
    return r->over ? at.over[r->over] : at.entry[r->act & 1][r->b][r->i];
}

/* One pass over the bucket and its overflow: the block found is used, `hit` says whether. */
void shm_pass(struct mc *mc) {
    struct reader *r = me(mc);
    MC_BEGIN(mc);
    YIELD(mc);
    MC_CALL(mc, FN_ENTER);
    do {
        for (r->i = 0; r->i < entries(r); r->i++) {
            LOAD(mc, r->e, entry_at(r), unless(MUT_ENTRY_RELAXED, MC_ACQ));
            if (r->e >> 4 != tag_of(look(mc)->key))
                continue;
            r->d = (r->e & 15) - 1;
            if (look(mc)->kind == LOOK_MATCH)
                MC_CALL(mc, FN_PEEK);
            else
                MC_CALL(mc, FN_PIN);
            if (!r->hit)
                continue;
            if (look(mc)->kind != LOOK_MATCH)
                MC_CALL(mc, FN_USE);
            MC_RETURN(mc);
        }
        if (sc->chain && (r->over || !r->b))
            LOAD(mc, r->over, at.next[r->over], MC_ACQ);
    } while (r->over);
    MC_CALL(mc, FN_STEADY);
    MC_END(mc);
}

/* One lookup, by reference or match. */
void shm_lookup(struct mc *mc) {
    struct reader *r = me(mc);
    MC_BEGIN(mc);
    r->pin = (uint8_t)(at.nhazards > sc->nreaders ? 1 : mc_self(mc) - 1);
    for (r->pass = 0; r->pass < PASSES; r->pass++) {
        MC_CALL(mc, FN_PASS);
        if (r->hit && look(mc)->kind == LOOK_MATCH) {
            found(mc, r->sum);
            payload(mc);
            mc_note(mc, SAW_MATCH);
        }
        if (r->hit)
            MC_RETURN(mc);
        if (!r->changed && steady(r))
            break;
        mc_note(mc, SAW_RETRY);
        forget_pass(r);
    }
    if (look(mc)->kind != LOOK_MATCH)
        STORE(mc, at.hazard[r->pin], 0, MC_REL);
    if (r->pass < PASSES)
        missed(mc);
    else
        mc_note(mc, SAW_FALLBACK);
    MC_END(mc);
}

void shm_reader(struct mc *mc) {
    struct reader *r = me(mc);
    MC_BEGIN(mc);
    for (; look(mc)->kind != LOOK_END; r->script++) {
        if (look(mc)->kind == LOOK_AWAIT)
            do {
                YIELD(mc);
                LOAD(mc, r->val, at.mail[look(mc)->key], MC_ACQ);
            } while (!r->val);
        else
            MC_CALL(mc, FN_LOOKUP);
        forget_pass(r);
        r->pin = r->pass = 0;
    }
    MC_END(mc);
}

/* Writes its reservation whenever it gets to run (it may have been stopped for long), then commits.
 */
void shm_writer(struct mc *mc) {
    struct reader *r = me(mc);
    MC_BEGIN(mc);
    do {
        YIELD(mc);
        LOAD(mc, r->off, at.grant, MC_ACQ);
    } while (!r->off);
    WRITE(mc, at.cell[r->off - 1], sc->writer_ver);
    STORE(mc, at.commit, 1, MC_REL);
    MC_END(mc);
}
