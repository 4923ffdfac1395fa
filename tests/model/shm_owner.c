/* SPDX-License-Identifier: Apache-2.0
 *
 * The owner (the daemon's shard thread) of the modelled protocol: put, upsert, evict, remove,
 * reclaim, compaction, index changes, reservations. Recovery is in shm_recover.c.
 *
 * One rule runs through all index changes: publish the new way to a block, bump (the bucket's
 * version, the table word, or `active`), then withdraw the old way, each with release order. A
 * reader that saw the old way withdrawn then also sees the bump, and does not take it for a miss.
 *
 * Threads: single-threaded; the functions are threads of the model.
 */
#include "shm_model.h"

static struct owner *me(struct mc *mc) {
    return mc_local(mc);
}

static const struct op *op(struct mc *mc) {
    return &sc->op[me(mc)->script - 1];
}

int shm_next_gen(struct mc *mc) {
    return without(MUT_GENERATION_REPEATS) ? 1 : ++me(mc)->gen;
}

static int lowest(uint8_t bits) {
    return __builtin_ctz(bits);
}

/* Highest: so that a freed descriptor isn't the next one taken where there are others. */
static int highest(uint8_t bits) {
    return 31 - __builtin_clz(bits);
}

static int area(struct mc *mc) {
    return mc_latest(mc, at.active) & 1;
}

/* The descriptor of the live block with this key, or NO. Owner's own stores: no order needed. */
static int find(struct mc *mc, int key) {
    for (int d = 0; d < sc->ndesc; d++) {
        enum state st = state_of(mc_latest(mc, at.word[d]));
        if ((st == COMMITTED || st == SUSPECT) && mc_latest(mc, at.key[d]) == key)
            return d;
    }
    return NO;
}

/* Location of the entry in bucket b (both: -1) that holds e, or NO. */
static int entry_with(struct mc *mc, int b, uint8_t e) {
    for (int i = 0; i < 2 * sc->nent; i++) {
        int bucket = i / sc->nent, loc = at.entry[area(mc)][bucket][i % sc->nent];
        if ((b < 0 || b == bucket) && mc_latest(mc, loc) == e)
            return loc;
    }
    return NO;
}

static int entry_for(struct mc *mc, int d) {
    return entry_with(mc, -1, entry_of(mc_latest(mc, at.key[d]), d));
}

static int free_entry(struct mc *mc, int key) {
    return entry_with(mc, bucket_of(key, mc_latest(mc, at.table[area(mc)])), 0);
}

static int version_of(struct mc *mc, int key) {
    return at.version[area(mc)][bucket_of(key, mc_latest(mc, at.table[area(mc)]))];
}

static void take(struct mc *mc) {
    struct owner *o = me(mc);
    o->d = (uint8_t)highest(o->dfree);
    o->s = (uint8_t)lowest(o->sfree);
    o->dfree &= (uint8_t) ~(1 << o->d);
    o->sfree &= (uint8_t) ~(1 << o->s);
}

/* Every version of key up to this one has been acknowledged as gone. */
static void gone_to(struct mc *mc, int key, int ver) {
    for (int v = 1; v <= ver; v++)
        if (key_of[v] == key)
            me(mc)->gone |= (uint8_t)(1 << v);
}

static bool room(struct mc *mc) {
    return me(mc)->dfree && me(mc)->sfree;
}

/* key, ver -> d: a committed block. It is in the index before it can be read, so that a full index
 * fails the put and takes nothing back; a block that replaces `old` is swapped in later. */
void shm_put(struct mc *mc) {
    struct owner *o = me(mc);
    MC_BEGIN(mc);
    take(mc);
    STORE(mc, at.word[o->d], word_of(shm_next_gen(mc), RESERVED), MC_REL);
    if (without(MUT_COMMIT_BEFORE_FIELDS))
        STORE(mc, at.word[o->d], word_of(o->gen, COMMITTED), MC_REL);
    WRITE(mc, at.cell[o->s], o->ver);
    STORE(mc, at.key[o->d], o->key, MC_RLX);
    WRITE(mc, at.sum[o->d], o->ver);
    WRITE(mc, at.off[o->d], o->s);
    WRITE(mc, at.crc[o->d], crc_of(o->key, o->ver, o->s));
    if (o->old == NO)
        STORE(mc, free_entry(mc, o->key), entry_of(o->key, o->d), MC_REL);
    else if (without(MUT_SWAP_BEFORE_COMMIT))
        STORE(mc, entry_for(mc, o->old), entry_of(o->key, o->d), MC_REL);
    STORE(mc, at.word[o->d], word_of(gen_of(mc_latest(mc, at.word[o->d])), COMMITTED),
          unless(MUT_COMMIT_RELAXED, MC_REL));
    mc_note(mc, SAW_REUSE);
    MC_END(mc);
}

/* d: its word is retired; it waits for the hazards. */
void shm_retire(struct mc *mc) {
    struct owner *o = me(mc);
    MC_BEGIN(mc);
    if (without(MUT_FENCE_BEFORE_RETIRE))
        FENCE_SC(mc);
    if (!without(MUT_NO_RETIRE_WORD))
        STORE(mc, at.word[o->d], word_of(shm_next_gen(mc), RETIRED),
              unless(MUT_RETIRE_RELAXED, MC_REL));
    o->pend |= (uint8_t)(1 << o->d);
    MC_END(mc);
}

static bool no_fence(void) {
    return without(MUT_NO_RETIRE_FENCE) || without(MUT_FENCE_BEFORE_RETIRE);
}

/* Reads every hazard into `named`. */
void shm_hazards(struct mc *mc) {
    struct owner *o = me(mc);
    MC_BEGIN(mc);
    o->named = 0;
    for (o->i = 0; o->i < at.nhazards - without(MUT_SCAN_ONE_READER); o->i++) {
        if (sc->tops) {
            LOAD(mc, o->h, at.top[o->i], MC_ACQ);
            if (!o->h)
                continue;
        }
        LOAD(mc, o->h, at.hazard[o->i], unless(MUT_SCAN_RELAXED, MC_ACQ));
        if (o->h)
            o->named |= (uint8_t)(1 << (o->h - 1));
    }
    o->i = o->h = 0;
    MC_END(mc);
}

/* One scan for all that wait: what is not named is free. No fence of its own. */
void shm_scan(struct mc *mc) {
    struct owner *o = me(mc);
    MC_BEGIN(mc);
    if (!without(MUT_NO_RETIRE_SCAN))
        MC_CALL(mc, FN_HAZARDS);
    if (o->named & o->pend)
        mc_note(mc, SAW_NAMED);
    for (o->i = 0; o->i < sc->ndesc; o->i++) {
        if (!((o->pend & ~o->named) >> o->i & 1))
            continue;
        if (!without(MUT_FREE_NOT_STORED))
            STORE(mc, at.word[o->i], word_of(gen_of(mc_latest(mc, at.word[o->i])), FREE), MC_REL);
        o->pend &= (uint8_t) ~(1 << o->i);
        o->dfree |= (uint8_t)(1 << o->i);
        o->sfree |= (uint8_t)(1 << mc_latest(mc, at.off[o->i]));
        mc_note(mc, SAW_FREED);
    }
    o->i = o->named = 0;
    MC_END(mc);
}

/* Hazards of dead readers go, nobody else's. */
static void reap(struct mc *mc) {
    for (int r = 0; r < sc->nreaders; r++) {
        if (!mc_latest(mc, at.hazard[r]))
            continue;
        if (!mc_stopped(mc, r + 1) && !(without(MUT_READER_TIMEOUT) && mc_choose(mc, 2)))
            continue;
        if (mc_stopped(mc, r + 1))
            mc_join_thread(mc, r + 1);
        mc_store(mc, at.hazard[r], 0, MC_REL);
        mc_note(mc, SAW_DEATH);
    }
}

/* Later scans until nothing waits. */
void shm_drain(struct mc *mc) {
    struct owner *o = me(mc);
    MC_BEGIN(mc);
    while (o->pend) {
        YIELD(mc);
        if (sc->deaths) {
            MC_STEP(mc, MC_SYNC);
            reap(mc);
        }
        MC_CALL(mc, FN_SCAN);
    }
    MC_END(mc);
}

/* d moves to another slot; its idx, entry and hazards stay. */
void shm_compact(struct mc *mc) {
    struct owner *o = me(mc);
    MC_BEGIN(mc);
    o->from = mc_latest(mc, at.off[o->d]);
    o->w = mc_latest(mc, at.word[o->d]);
    o->s = (uint8_t)lowest(o->sfree);
    o->sfree &= (uint8_t) ~(1 << o->s);
    READ(mc, o->v, at.cell[o->from]);
    if (!without(MUT_MOVE_COPY_LAST))
        WRITE(mc, at.cell[o->s], o->v);
    if (!without(MUT_MOVE_NO_MOVING))
        STORE(mc, at.word[o->d], word_of(shm_next_gen(mc), MOVING), MC_REL);
    if (!without(MUT_MOVE_NO_FENCE))
        FENCE_SC(mc);
    if (without(MUT_MOVE_OFFSET_BEFORE_SCAN)) {
        STORE(mc, at.off[o->d], o->s, MC_RLX);
        WRITE(mc, at.crc[o->d], crc_of(o->key, o->v, o->s));
    }
    if (!without(MUT_MOVE_NO_SCAN))
        MC_CALL(mc, FN_HAZARDS);
    if (o->named >> o->d & 1) {
        if (without(MUT_MOVE_OFFSET_BEFORE_SCAN)) {
            STORE(mc, at.off[o->d], o->from, MC_RLX);
            WRITE(mc, at.crc[o->d], crc_of(o->key, o->v, o->from));
        }
        STORE(mc, at.word[o->d], o->w, unless(MUT_RESTORE_RELAXED, MC_REL));
        o->sfree |= (uint8_t)(1 << o->s);
        mc_note(mc, SAW_RESTORED);
        MC_RETURN(mc);
    }
    if (!without(MUT_MOVE_OFFSET_BEFORE_SCAN)) {
        WRITE(mc, at.off[o->d], o->s);
        WRITE(mc, at.crc[o->d], crc_of(o->key, o->v, o->s));
    }
    STORE(mc, at.word[o->d],
          without(MUT_MOVE_SAME_GENERATION) ? o->w : word_of(shm_next_gen(mc), COMMITTED),
          unless(MUT_MOVE_COMMIT_RELAXED, MC_REL));
    if (without(MUT_MOVE_COPY_LAST))
        WRITE(mc, at.cell[o->s], o->v);
    o->sfree |= (uint8_t)(1 << o->from);
    mc_note(mc, SAW_MOVED);
    MC_END(mc);
}

/* Bucket 0 splits into 0 and 1: entry i goes to entry i of the new bucket. */
void shm_split(struct mc *mc) {
    struct owner *o = me(mc);
    MC_BEGIN(mc);
    if (without(MUT_SPLIT_PUBLISH_FIRST))
        STORE(mc, at.table[area(mc)], 2, MC_REL);
    for (o->i = 0; o->i < sc->nent; o->i++) {
        o->e = mc_latest(mc, at.entry[area(mc)][0][o->i]);
        if (o->e >> 4 != tag_of(A))
            continue;
        if (without(MUT_SPLIT_DELETE_FIRST))
            STORE(mc, at.entry[area(mc)][0][o->i], 0, MC_REL);
        STORE(mc, at.entry[area(mc)][1][o->i], o->e, MC_REL);
    }
    STORE(mc, at.table[area(mc)], 2, unless(MUT_SPLIT_PUBLISH_RELAXED, MC_REL));
    for (o->i = 0; o->i < sc->nent; o->i++)
        if (mc_latest(mc, at.entry[area(mc)][0][o->i]) >> 4 == tag_of(A))
            STORE(mc, at.entry[area(mc)][0][o->i], 0, unless(MUT_SPLIT_DELETE_RELAXED, MC_REL));
    mc_note(mc, SAW_SPLIT);
    MC_END(mc);
}

static void bump(struct mc *mc) {
    int loc = version_of(mc, me(mc)->key);
    mc_store(mc, loc, (uint8_t)(mc_latest(mc, loc) + 1), unless(MUT_BUMP_RELAXED, MC_REL));
}

/* The first overflow bucket of bucket 0 is empty: out of the chain, then into another one. */
void shm_trim(struct mc *mc) {
    MC_BEGIN(mc);
    if (without(MUT_TRIM_BUMP_FIRST)) {
        MC_STEP(mc, MC_ST);
        bump(mc);
    }
    STORE(mc, at.next[0], 2, MC_REL);
    if (!without(MUT_TRIM_NO_BUMP) && !without(MUT_TRIM_BUMP_FIRST)) {
        MC_STEP(mc, MC_ST);
        bump(mc);
    }
    STORE(mc, at.next[1], 0, unless(MUT_TRIM_REUSE_RELAXED, MC_REL));
    STORE(mc, at.over[1], entry_of(A, 0), unless(MUT_TRIM_REUSE_RELAXED, MC_REL));
    MC_END(mc);
}

/* d's entry moves to a free place of its bucket. */
void shm_relocate(struct mc *mc) {
    struct owner *o = me(mc);
    MC_BEGIN(mc);
    o->h = (uint8_t)entry_for(mc, o->d);
    o->v = (uint8_t)free_entry(mc, o->key);
    o->e = entry_of(o->key, o->d);
    if (without(MUT_RELOCATE_DELETE_FIRST))
        STORE(mc, o->h, 0, MC_REL);
    if (without(MUT_RELOCATE_BUMP_FIRST)) {
        MC_STEP(mc, MC_ST);
        bump(mc);
    }
    STORE(mc, o->v, o->e, MC_REL);
    if (!without(MUT_RELOCATE_NO_BUMP) && !without(MUT_RELOCATE_BUMP_FIRST)) {
        MC_STEP(mc, MC_ST);
        bump(mc);
    }
    STORE(mc, o->h, 0, MC_REL);
    MC_END(mc);
}

/* A new version of key takes the entry of `old`, which retires. */
void shm_upsert(struct mc *mc) {
    struct owner *o = me(mc);
    MC_BEGIN(mc);
    MC_CALL(mc, FN_PUT);
    if (without(MUT_BUMP_BEFORE_SWAP)) {
        MC_STEP(mc, MC_ST);
        bump(mc);
    }
    if (!without(MUT_SWAP_BEFORE_COMMIT))
        STORE(mc, entry_for(mc, o->old), entry_of(o->key, o->d), unless(MUT_SWAP_RELAXED, MC_REL));
    if (!without(MUT_SWAP_NO_BUMP) && !without(MUT_BUMP_BEFORE_SWAP) &&
        !without(MUT_RETIRE_BEFORE_BUMP)) {
        MC_STEP(mc, MC_ST);
        bump(mc);
    }
    o->d = o->old;
    MC_CALL(mc, FN_RETIRE);
    if (without(MUT_RETIRE_BEFORE_BUMP)) {
        MC_STEP(mc, MC_ST);
        bump(mc);
    }
    gone_to(mc, o->key, o->ver - 1);
    MC_END(mc);
}

/* Out of the index, retired, and acknowledged if somebody waits for that. */
void shm_remove(struct mc *mc) {
    struct owner *o = me(mc);
    MC_BEGIN(mc);
    if (entry_for(mc, o->d) != NO)
        STORE(mc, entry_for(mc, o->d), 0, MC_REL);
    if (op(mc)->kind == OP_REMOVE && without(MUT_ACK_BEFORE_RETIRE)) {
        gone_to(mc, o->key, mc_latest(mc, at.sum[o->d]));
        STORE(mc, at.mail[op(mc)->ver], 1, MC_REL);
    }
    MC_CALL(mc, FN_RETIRE);
    if (op(mc)->kind == OP_REMOVE) {
        gone_to(mc, o->key, mc_latest(mc, at.sum[o->d]));
        STORE(mc, at.mail[op(mc)->ver], 1, MC_REL);
    }
    MC_END(mc);
}

/* A slot for the writer thread; the descriptor alone says so after a crash. */
void shm_reserve(struct mc *mc) {
    struct owner *o = me(mc);
    MC_BEGIN(mc);
    take(mc);
    STORE(mc, at.key[o->d], FOR_CLIENT, MC_RLX);
    WRITE(mc, at.off[o->d], o->s);
    STORE(mc, at.word[o->d], word_of(shm_next_gen(mc), RESERVED), MC_REL);
    o->held = o->d + 1;
    STORE(mc, at.grant, o->s + 1, MC_REL);
    MC_END(mc);
}

/* Whether the writer is known to be dead, or never knew of its reservation. */
static bool writer_gone(struct mc *mc) {
    int t = sc->nreaders + 1;
    if (mc_stopped(mc, t))
        mc_join_thread(mc, t);
    return mc_stopped(mc, t) || !mc_latest(mc, at.grant) ||
           (without(MUT_WRITER_TIMEOUT) && mc_choose(mc, 2));
}

/* The writer's commit makes a block of its reservation, its death frees it. */
void shm_settle(struct mc *mc) {
    struct owner *o = me(mc);
    MC_BEGIN(mc);
    o->d = o->held - 1;
    o->s = mc_latest(mc, at.off[o->d]);
    for (;;) {
        YIELD(mc);
        LOAD(mc, o->v, at.commit, MC_ACQ);
        if (o->v)
            break;
        MC_STEP(mc, MC_SYNC);
        if (writer_gone(mc)) {
            STORE(mc, at.key[o->d], NONE, MC_RLX);
            STORE(mc, at.word[o->d], word_of(gen_of(mc_latest(mc, at.word[o->d])), FREE), MC_REL);
            o->held = 0;
            o->dfree |= (uint8_t)(1 << o->d);
            o->sfree |= (uint8_t)(1 << o->s);
            mc_note(mc, SAW_DEATH);
            MC_RETURN(mc);
        }
    }
    STORE(mc, at.key[o->d], o->key, MC_RLX);
    WRITE(mc, at.sum[o->d], o->ver);
    WRITE(mc, at.crc[o->d], crc_of(o->key, o->ver, o->s));
    STORE(mc, free_entry(mc, o->key), entry_of(o->key, o->d), MC_REL);
    STORE(mc, at.word[o->d], word_of(gen_of(mc_latest(mc, at.word[o->d])), COMMITTED), MC_REL);
    o->held = 0;
    MC_END(mc);
}

static void begin(struct mc *mc) {
    struct owner *o = me(mc);
    o->key = sc->op[o->script].key;
    o->ver = sc->op[o->script].ver;
    o->script++;
    o->d = o->old = (uint8_t)(o->key ? find(mc, o->key) : NO);
}

/* The operation is over: forget it, so that equal situations are equal states. */
static void end(struct mc *mc) {
    struct owner *o = me(mc);
    o->d = o->s = o->from = o->old = o->w = o->i = o->h = o->e = o->v = o->named = 0;
    o->key = o->ver = 0;
}

void shm_owner(struct mc *mc) {
    struct owner *o = me(mc);
    MC_BEGIN(mc);
    if (o->recovering) {
        MC_CALL(mc, FN_RECOVER);
        o->recovering = 0;
        end(mc);
    }
    while (sc->op[o->script].kind != OP_END) {
        begin(mc);
        if (op(mc)->kind == OP_PUT && o->d == NO && room(mc)) {
            MC_CALL(mc, FN_PUT);
        } else if (op(mc)->kind == OP_UPSERT && o->d != NO && room(mc)) {
            MC_CALL(mc, FN_UPSERT);
        } else if ((op(mc)->kind == OP_EVICT || op(mc)->kind == OP_REMOVE) && o->d != NO) {
            MC_CALL(mc, FN_REMOVE);
        } else if (op(mc)->kind == OP_RECLAIM) {
            if (!no_fence())
                FENCE_SC(mc);
            MC_CALL(mc, FN_SCAN);
        } else if (op(mc)->kind == OP_SCAN) {
            MC_CALL(mc, FN_SCAN);
        } else if (op(mc)->kind == OP_DRAIN) {
            MC_CALL(mc, FN_DRAIN);
        } else if (op(mc)->kind == OP_COMPACT && o->d != NO && o->sfree) {
            MC_CALL(mc, FN_COMPACT);
        } else if (op(mc)->kind == OP_SPLIT) {
            MC_CALL(mc, FN_SPLIT);
        } else if (op(mc)->kind == OP_TRIM) {
            MC_CALL(mc, FN_TRIM);
        } else if (op(mc)->kind == OP_RELOCATE && o->d != NO) {
            MC_CALL(mc, FN_RELOCATE);
        } else if (op(mc)->kind == OP_VERIFY) {
            for (o->i = 0; o->i < sc->ndesc; o->i++)
                if (state_of(mc_latest(mc, at.word[o->i])) == SUSPECT)
                    STORE(mc, at.word[o->i],
                          word_of(gen_of(mc_latest(mc, at.word[o->i])), COMMITTED),
                          unless(MUT_VERIFY_RELAXED, MC_REL));
        } else if (op(mc)->kind == OP_RESERVE && room(mc)) {
            MC_CALL(mc, FN_RESERVE);
        } else if (op(mc)->kind == OP_SETTLE && o->held) {
            MC_CALL(mc, FN_SETTLE);
        } else if (op(mc)->kind == OP_ACK) {
            STORE(mc, at.mail[o->ver], 1, MC_REL);
        }
        end(mc);
    }
    MC_END(mc);
}
