/* SPDX-License-Identifier: Apache-2.0
 *
 * The shared-memory protocol (rules R1 to R7) as a model: what its parts share.
 *
 * One owner thread runs a script of operations (put, upsert, remove, compact, split, ...) and may
 * be killed before any of its accesses; a new owner then recovers from the descriptors. Readers run
 * scripts of lookups: by reference (hazard) or by match (no pin). A writer fills a reserved slot by
 * itself. Each `MUT_` takes one step of the protocol away or weakens it; the test expects a
 * counterexample for each.
 *
 * The words: a block is a version number; key_of[] says whose it is. A payload slot is one cell
 * that holds the version last written there; a descriptor's fields are key, sum (the version that
 * the payload must be), off (slot) and crc. So a torn or foreign read is a wrong number.
 *
 * Threads: single-threaded.
 */
#ifndef YK_TESTS_MODEL_SHM_MODEL_H
#define YK_TESTS_MODEL_SHM_MODEL_H

#include "mc.h"

enum {
    MAX_DESC = 3,
    MAX_SLOT = 3,
    MAX_ENT = 2,
    MAX_READERS = 2,
    MAX_MAIL = 3,
    MAX_SCRIPT = 12,
    NO = 0xff,
};

enum state { FREE, RESERVED, COMMITTED, SUSPECT, MOVING, RETIRED };
enum key { NONE, A, B, C, KEYS, FOR_CLIENT = KEYS }; /* A and C share a tag and a bucket */

enum mut {
    MUT_NONE,
    /* Reader, by reference. */
    MUT_NO_READER_FENCE,
    MUT_NO_RECHECK,
    MUT_LOCATION_BEFORE_RECHECK,
    MUT_HAZARD_SET_RELAXED,
    MUT_HAZARD_CLEAR_RELAXED,
    MUT_NO_KEY_COMPARE,
    MUT_GET_W1_RELAXED,
    MUT_GET_W2_RELAXED,
    MUT_RECHECK_STATE_ONLY,
    MUT_CLEAR_BEFORE_USE,
    MUT_COPY_UNCHECKED,
    MUT_TOP_AFTER_FENCE,
    /* Reader, match. */
    MUT_MATCH_NO_RECHECK,
    MUT_MATCH_NO_FENCE,
    MUT_MATCH_W1_RELAXED,
    MUT_MATCH_STATE_ONLY,
    /* Reader, index. */
    MUT_MOVING_IS_ABSENT,
    MUT_UNREADABLE_IS_ABSENT,
    MUT_MISS_NO_VERSION,
    MUT_MISS_NO_TABLE,
    MUT_MISS_NO_ACTIVE,
    MUT_MISS_NO_FENCE,
    MUT_MISS_RELAXED,
    MUT_MISS_ACTIVE_FIRST,
    MUT_ACTIVE_RELAXED,
    MUT_TABLE_RELAXED,
    MUT_VERSION_RELAXED,
    MUT_ENTRY_RELAXED,
    /* Owner. */
    MUT_NO_RETIRE_FENCE,
    MUT_NO_RETIRE_SCAN,
    MUT_SCAN_RELAXED,
    MUT_FENCE_BEFORE_RETIRE,
    MUT_SCAN_ONE_READER,
    MUT_COMMIT_RELAXED,
    MUT_COMMIT_BEFORE_FIELDS,
    MUT_GENERATION_REPEATS,
    MUT_FREE_NOT_STORED,
    MUT_SWAP_RELAXED,
    MUT_SWAP_BEFORE_COMMIT,
    MUT_SWAP_NO_BUMP,
    MUT_BUMP_BEFORE_SWAP,
    MUT_BUMP_RELAXED,
    MUT_RETIRE_BEFORE_BUMP,
    MUT_RETIRE_RELAXED,
    MUT_SPLIT_DELETE_FIRST,
    MUT_SPLIT_PUBLISH_FIRST,
    MUT_SPLIT_PUBLISH_RELAXED,
    MUT_SPLIT_DELETE_RELAXED,
    MUT_RELOCATE_NO_BUMP,
    MUT_RELOCATE_DELETE_FIRST,
    MUT_RELOCATE_BUMP_FIRST,
    MUT_TRIM_NO_BUMP,
    MUT_TRIM_BUMP_FIRST,
    MUT_TRIM_REUSE_RELAXED,
    MUT_ACK_BEFORE_RETIRE,
    MUT_NO_RETIRE_WORD,
    /* Owner, compaction. */
    MUT_MOVE_NO_FENCE,
    MUT_MOVE_NO_SCAN,
    MUT_MOVE_NO_MOVING,
    MUT_MOVE_OFFSET_BEFORE_SCAN,
    MUT_MOVE_COPY_LAST,
    MUT_MOVE_COMMIT_RELAXED,
    MUT_MOVE_SAME_GENERATION,
    MUT_RESTORE_RELAXED,
    /* Recovery. */
    MUT_RECOVER_NO_FENCE,
    MUT_RECOVER_NO_SCAN,
    MUT_RECOVER_LOWER_WINS,
    MUT_RECOVER_KEEP_LOSER,
    MUT_RECOVER_RETIRE_LAST,
    MUT_RECOVER_LOSER_NO_FENCE,
    MUT_RECOVER_FLIP_FIRST,
    MUT_RECOVER_FLIP_RELAXED,
    MUT_RECOVER_IN_PLACE,
    MUT_RECOVER_ZERO_FIRST,
    MUT_RECOVER_ZERO_NO_FENCE,
    MUT_RECOVER_DROP_MOVING,
    MUT_RECOVER_NEW_GENERATION,
    MUT_RECOVER_KEEP_RETIRED,
    MUT_RECOVER_FREE_RESERVED,
    MUT_ACTIVE_NO_INCARNATION,
    MUT_VERIFY_RELAXED,
    /* Death of clients. */
    MUT_WRITER_TIMEOUT,
    MUT_READER_TIMEOUT,
    MUTS
};

enum op_kind {
    OP_END,
    OP_PUT,     /* key, ver */
    OP_RESERVE, /* a slot for the writer thread, which fills it */
    OP_SETTLE,  /* key, ver: waits for the writer's commit or death */
    OP_UPSERT,  /* key, ver */
    OP_EVICT,   /* key: index entry and word; OP_RECLAIM frees */
    OP_REMOVE,  /* key: evict that is acknowledged: mail `ver` */
    OP_RECLAIM, /* fence, scan */
    OP_SCAN,    /* a later scan, without a fence */
    OP_DRAIN,   /* later scans until nothing waits */
    OP_COMPACT, /* key */
    OP_SPLIT,
    OP_TRIM,     /* the empty first overflow bucket leaves its chain and is used elsewhere */
    OP_RELOCATE, /* key: to another entry of its bucket */
    OP_VERIFY,   /* every suspect block becomes committed */
    OP_ACK,      /* mail `ver` */
};

struct op {
    uint8_t kind, key, ver;
};

enum look_kind { LOOK_END, LOOK_GET, LOOK_COPY, LOOK_MATCH, LOOK_AWAIT };

/* What the reader may find; min_ver: nothing older (versions of a key rise). */
struct look {
    uint8_t kind, key; /* LOOK_AWAIT: key = mail */
    bool no_miss, no_hit;
    uint8_t min_ver;
};

/* Thread: immutable. What stands in memory at the start: descriptor i holds version block[i] (0: is
 * free) in slot i. */
struct scenario {
    const char *name, *what;
    uint8_t ndesc, nslot, nent, nreaders;
    uint8_t block[MAX_DESC];
    uint8_t crashes;    /* of the owner, at most */
    bool chain;         /* bucket 0 has two overflow buckets; block 0's entry is in the second */
    bool tops;          /* hazards count only below their client's top */
    bool suspect;       /* recovery keeps blocks as SUSPECT, not COMMITTED */
    uint8_t writer_ver; /* a writer thread for OP_RESERVE, putting this; 0: none */
    bool deaths;        /* readers and the writer may be killed */
    struct op op[MAX_SCRIPT];
    struct look look[MAX_READERS][4];
    uint32_t must; /* enum note: what has to be seen happening */
    bool deep;     /* minutes, not seconds: only when asked for */
};

/* Numbers of the locations of the scenario that runs. */
struct layout {
    uint8_t word[MAX_DESC], key[MAX_DESC], sum[MAX_DESC], off[MAX_DESC], crc[MAX_DESC];
    uint8_t cell[MAX_SLOT];
    uint8_t hazard[MAX_READERS + 1];
    uint8_t top[MAX_READERS + 1];
    uint8_t nhazards;
    uint8_t active;
    uint8_t table[2];
    uint8_t version[2][2];
    uint8_t entry[2][2][MAX_ENT];
    uint8_t over[3]; /* the entry of overflow buckets 1 and 2 */
    uint8_t next[3]; /* of bucket 0, and of the overflow buckets: 0 ends the chain */
    uint8_t mail[MAX_MAIL], grant, commit;
    int n;
};

/* Bits for mc_note: what was seen happening at all, so that no test passes because nothing
 * happened. */
enum note {
    SAW_HIT,
    SAW_MISS,
    SAW_RETRY,
    SAW_FALLBACK,
    SAW_MATCH,
    SAW_NAMED,
    SAW_FREED,
    SAW_REUSE,
    SAW_MOVED,
    SAW_RESTORED,
    SAW_CRASH,
    SAW_KEPT,
    SAW_LOSER,
    SAW_SPLIT,
    SAW_DEATH,
    NOTES
};

enum fn {
    FN_OWNER,
    FN_PUT,
    FN_UPSERT,
    FN_REMOVE,
    FN_RETIRE,
    FN_HAZARDS,
    FN_SCAN,
    FN_DRAIN,
    FN_COMPACT,
    FN_SPLIT,
    FN_TRIM,
    FN_RELOCATE,
    FN_RESERVE,
    FN_SETTLE,
    FN_RECOVER,
    FN_ZERO,
    FN_REBUILD,
    FN_LOSERS,
    FN_READER,
    FN_LOOKUP,
    FN_PASS,
    FN_ENTER,
    FN_PIN,
    FN_USE,
    FN_COPY,
    FN_PEEK,
    FN_STEADY,
    FN_WRITER,
    FNS
};

extern const struct scenario shm_scenarios[]; /* ends with a NULL name */
extern const struct scenario *sc;             /* that runs */
extern enum mut mut, mut2;                    /* what is taken away */
extern struct layout at;
extern const uint8_t key_of[]; /* of versions 1.. */

static inline bool without(enum mut m) {
    return mut == m || mut2 == m;
}

static inline enum mc_order unless(enum mut m, enum mc_order order) {
    return without(m) ? MC_RLX : order;
}

static inline uint8_t word_of(int gen, enum state st) {
    return (uint8_t)(gen << 3 | st);
}
static inline enum state state_of(uint8_t word) {
    return word & 7;
}
static inline int gen_of(uint8_t word) {
    return word >> 3;
}

static inline uint8_t tag_of(int key) {
    return key == B ? 2 : 1;
}
static inline uint8_t entry_of(int key, int d) {
    return (uint8_t)(tag_of(key) << 4 | (d + 1));
}
static inline uint8_t bucket_of(int key, int table) {
    return table == 2 && key != B;
}

static inline uint8_t crc_of(int key, int sum, int off) {
    return (uint8_t)(1 + key + sum * KEYS + off * 8 * KEYS);
}

/* The owner's locals. Those before `crashes` are lost when it is killed. */
struct owner {
    uint8_t dfree, sfree;  /* bits */
    uint8_t pend;          /* retired descriptors that wait for hazards */
    uint8_t held;          /* reserved descriptor + 1 */
    uint8_t d, s, from;    /* descriptor, slot, slot before a move */
    uint8_t old;           /* descriptor that an upsert replaces, or NO */
    uint8_t w, i, h, e, v; /* a word, loop counters, a hazard or entry, a value */
    uint8_t named;         /* descriptors that a hazard names */
    uint8_t keep, lose;    /* recovery's verdict, bits */
    uint8_t key, ver;      /* of the operation */
    uint8_t writer_lives;
    uint8_t crashes;
    uint8_t recovering;
    uint8_t script;
    uint8_t gen;  /* persisted: never repeats */
    uint8_t gone; /* bits of versions whose removal or replacement was acknowledged */
    uint8_t lost; /* bits of keys that recovery gave up */
};

/* The model of sc: numbers its locations. */
struct mc_model shm_model(void);

int shm_next_gen(struct mc *mc);

/* Threads of the model and their parts: enum fn. */
void shm_owner(struct mc *mc);
void shm_put(struct mc *mc);
void shm_upsert(struct mc *mc);
void shm_remove(struct mc *mc);
void shm_retire(struct mc *mc);
void shm_hazards(struct mc *mc);
void shm_scan(struct mc *mc);
void shm_drain(struct mc *mc);
void shm_compact(struct mc *mc);
void shm_split(struct mc *mc);
void shm_trim(struct mc *mc);
void shm_relocate(struct mc *mc);
void shm_reserve(struct mc *mc);
void shm_settle(struct mc *mc);
void shm_recover(struct mc *mc);
void shm_zero(struct mc *mc);
void shm_rebuild(struct mc *mc);
void shm_retire_losers(struct mc *mc);
void shm_reader(struct mc *mc);
void shm_lookup(struct mc *mc);
void shm_pass(struct mc *mc);
void shm_enter(struct mc *mc);
void shm_pin(struct mc *mc);
void shm_use(struct mc *mc);
void shm_copy(struct mc *mc);
void shm_peek(struct mc *mc);
void shm_steady(struct mc *mc);
void shm_writer(struct mc *mc);

#endif
