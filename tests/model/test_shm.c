/* SPDX-License-Identifier: Apache-2.0
 *
 * Explores the shared-memory protocol (shm_model.h; docs/decisions/0002-shm-protocol-model.md).
 *
 * First every scenario as the protocol is: no counterexample in either memory, and everything that
 * the scenario is about did happen. Then every mutation: with one step taken away there must be a
 * counterexample (or none, where the step is a second defence; then the pair is tried, too).
 *
 *   test_shm                        all of it, one line each
 *   test_shm SCENARIO [MUT [MUT]]   one, in both memories, with the shortest counterexample
 *
 * Not cmocka: a table of explorations with their figures reads better than one of test names.
 *
 * Threads: single-threaded.
 */
#include "shm_model.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PUT(k, v)                                                                                  \
    { OP_PUT, k, v }
#define UPSERT(k, v)                                                                               \
    { OP_UPSERT, k, v }
#define EVICT(k)                                                                                   \
    { OP_EVICT, k, 0 }
#define REMOVE(k, m)                                                                               \
    { OP_REMOVE, k, m }
#define RECLAIM                                                                                    \
    { OP_RECLAIM, 0, 0 }
#define DRAIN                                                                                      \
    { OP_DRAIN, 0, 0 }
#define COMPACT(k)                                                                                 \
    { OP_COMPACT, k, 0 }
#define SPLIT                                                                                      \
    { OP_SPLIT, 0, 0 }
#define RELOCATE(k)                                                                                \
    { OP_RELOCATE, k, 0 }
#define VERIFY                                                                                     \
    { OP_VERIFY, 0, 0 }
#define RESERVE                                                                                    \
    { OP_RESERVE, 0, 0 }
#define SETTLE(k, v)                                                                               \
    { OP_SETTLE, k, v }
#define ACK(m)                                                                                     \
    { OP_ACK, 0, m }

#define LOOK(what, k, no_miss, no_hit, min)                                                        \
    { LOOK_##what, k, no_miss, no_hit, min }
#define GET(k)        LOOK(GET, k, false, false, 0)
#define GET_SURE(k)   LOOK(GET, k, true, false, 0) /* the key is there all the time */
#define GET_GONE(k)   LOOK(GET, k, false, true, 0) /* the key is removed */
#define GET_NEW(k, v) LOOK(GET, k, true, false, v)
#define COPY(k)       LOOK(COPY, k, false, false, 0)
#define MATCH(k)      LOOK(MATCH, k, false, false, 0)
#define MATCH_SURE(k) LOOK(MATCH, k, true, false, 0)
#define AWAIT(m)      LOOK(AWAIT, m, false, false, 0)

#define SEEN(note) (1u << SAW_##note)
#define REUSED     (SEEN(HIT) | SEEN(FREED) | SEEN(REUSE) | SEEN(NAMED))
#define CRASHED    (SEEN(CRASH) | SEEN(KEPT))

/* clang-format off: one line for each thought. */
/* Versions: 1 A, 2 C, 3 A again, 4 B, 5 C again, 7 B again. A and C share tag and bucket. */
static const struct scenario scenarios[] = {
    {
        .name = "reuse",
        .what = "evict, reclaim, put another key in the same slot, twice",
        .ndesc = 1,
        .nslot = 1,
        .nent = 1,
        .nreaders = 2,
        .block = {1},
        .op = {EVICT(A), RECLAIM, DRAIN, PUT(C, 2), EVICT(C), RECLAIM, DRAIN, PUT(A, 3)},
        .look = {{GET(A)}, {GET(A)}},
        .must = REUSED | SEEN(MISS) | SEEN(RETRY) | SEEN(FALLBACK),
    },
    {
        .name = "reuse-1",
        .what = "the same under one reader of both keys, with hazard tops",
        .ndesc = 1,
        .nslot = 1,
        .nent = 1,
        .nreaders = 1,
        .block = {1},
        .tops = true,
        .op = {EVICT(A), RECLAIM, DRAIN, PUT(C, 2), EVICT(C), RECLAIM, DRAIN, PUT(A, 3)},
        .look = {{GET(A), GET(C)}},
        .must = REUSED | SEEN(MISS),
    },
    {
        .name = "batch",
        .what = "two blocks retired with one fence and one scan, later scans without a fence",
        .ndesc = 2,
        .nslot = 2,
        .nent = 2,
        .nreaders = 2,
        .block = {1, 4},
        .op = {EVICT(A), EVICT(B), RECLAIM, DRAIN, PUT(C, 2), PUT(B, 7)},
        .look = {{GET(A)}, {GET(B)}},
        .must = REUSED,
    },
    {
        .name = "batch-1",
        .what = "the same under one reader whose hazard goes from one block to the other",
        .ndesc = 2,
        .nslot = 2,
        .nent = 2,
        .nreaders = 1,
        .block = {1, 4},
        .op = {EVICT(A), EVICT(B), RECLAIM, DRAIN, PUT(C, 2), PUT(B, 7)},
        .look = {{GET(A), GET(B)}},
        .must = REUSED,
    },
    {
        .name = "copy",
        .what = "a reference goes from one hazard slot to another",
        .ndesc = 1,
        .nslot = 1,
        .nent = 1,
        .nreaders = 1,
        .block = {1},
        .op = {EVICT(A), RECLAIM, DRAIN, PUT(C, 2)},
        .look = {{COPY(A)}},
        .must = REUSED,
    },
    {
        .name = "match",
        .what = "match without a pin while descriptor and cell change hands twice",
        .ndesc = 1,
        .nslot = 1,
        .nent = 1,
        .nreaders = 1,
        .block = {1},
        .op = {EVICT(A), RECLAIM, DRAIN, PUT(C, 2), EVICT(C), RECLAIM, DRAIN, PUT(A, 3)},
        .look = {{MATCH(A), MATCH(A)}},
        .must = SEEN(MATCH) | SEEN(MISS) | SEEN(RETRY),
    },
    {
        .name = "move",
        .what = "compaction and a put into the old place, under two pinning readers",
        .ndesc = 2,
        .nslot = 2,
        .nent = 2,
        .nreaders = 2,
        .block = {1},
        .op = {COMPACT(A), PUT(C, 2), COMPACT(A)},
        .look = {{GET_SURE(A)}, {GET_SURE(A)}},
        .must = SEEN(HIT) | SEEN(MOVED) | SEEN(RESTORED) | SEEN(REUSE) | SEEN(FALLBACK),
    },
    {
        .name = "move-match",
        .what = "two compactions in a row, one reader matches, one pins",
        .ndesc = 2,
        .nslot = 2,
        .nent = 2,
        .nreaders = 2,
        .block = {1},
        .op = {COMPACT(A), COMPACT(A), PUT(C, 2)},
        .look = {{MATCH_SURE(A)}, {GET_SURE(A)}},
        .must = SEEN(HIT) | SEEN(MATCH) | SEEN(MOVED) | SEEN(RESTORED) | SEEN(REUSE),
    },
    {
        .name = "move-twice",
        .what = "moved, the old place reused, then restored on a pin",
        .ndesc = 2,
        .nslot = 3,
        .nent = 2,
        .nreaders = 2,
        .block = {1},
        .op = {COMPACT(A), PUT(C, 2), COMPACT(A)},
        .look = {{MATCH_SURE(A)}, {GET_SURE(A)}},
        .must = SEEN(HIT) | SEEN(MATCH) | SEEN(MOVED) | SEEN(RESTORED) | SEEN(REUSE),
    },
    {
        .name = "upsert",
        .what = "a key replaced, its old descriptor reused for another of its tag",
        .ndesc = 2,
        .nslot = 2,
        .nent = 2,
        .nreaders = 2,
        .block = {1},
        .op = {UPSERT(A, 3), RECLAIM, DRAIN, PUT(C, 2)},
        .look = {{GET_SURE(A)}, {MATCH_SURE(A)}},
        .must = REUSED | SEEN(MATCH) | SEEN(RETRY),
    },
    {
        .name = "upsert-1",
        .what = "a key replaced by a descriptor that was another key's before",
        .ndesc = 2,
        .nslot = 2,
        .nent = 2,
        .nreaders = 1,
        .block = {1, 2},
        .op = {EVICT(C), RECLAIM, DRAIN, UPSERT(A, 3), RECLAIM, DRAIN, PUT(C, 5)},
        .look = {{MATCH_SURE(A), GET_SURE(A)}},
        .must = REUSED | SEEN(MATCH) | SEEN(RETRY),
    },
    {
        .name = "upsert-ack",
        .what = "after the acknowledgement only the new version is found",
        .ndesc = 2,
        .nslot = 2,
        .nent = 2,
        .nreaders = 1,
        .block = {1},
        .op = {UPSERT(A, 3), ACK(0), RECLAIM, DRAIN, PUT(C, 2)},
        .look = {{AWAIT(0), GET_NEW(A, 3)}},
        .must = SEEN(HIT),
    },
    {
        .name = "split",
        .what = "a bucket splits while its keys are looked up",
        .ndesc = 2,
        .nslot = 2,
        .nent = 2,
        .nreaders = 2,
        .block = {1, 4},
        .op = {SPLIT, EVICT(B), RECLAIM, DRAIN, PUT(C, 2)},
        .look = {{GET_SURE(A), GET_SURE(A)}, {MATCH_SURE(A), GET(B)}},
        .must = REUSED | SEEN(MATCH) | SEEN(SPLIT) | SEEN(RETRY),
    },
    {
        .name = "relocate",
        .what = "an entry goes to another place of its bucket and back",
        .ndesc = 2,
        .nslot = 2,
        .nent = 2,
        .nreaders = 1,
        .block = {1},
        .op = {RELOCATE(A), PUT(B, 4), EVICT(B), RELOCATE(A)},
        .look = {{GET_SURE(A), GET_SURE(A)}},
        .must = SEEN(HIT) | SEEN(RETRY),
    },
    {
        .name = "remove",
        .what = "an acknowledged remove, and the owner killed anywhere",
        .ndesc = 2,
        .nslot = 2,
        .nent = 2,
        .nreaders = 1,
        .block = {1, 2},
        .crashes = 1,
        .op = {REMOVE(A, 0), RECLAIM, DRAIN, PUT(B, 4)},
        .look = {{AWAIT(0), GET_GONE(A), GET_SURE(C)}},
        .must = SEEN(HIT) | SEEN(MISS) | CRASHED,
    },
    {
        .name = "crash",
        .what = "evict, put, put, and the owner killed anywhere",
        .ndesc = 2,
        .nslot = 2,
        .nent = 2,
        .nreaders = 1,
        .block = {1},
        .crashes = 1,
        .op = {EVICT(A), RECLAIM, PUT(C, 2), DRAIN, PUT(B, 4)},
        .look = {{GET(A), GET(C)}},
        .must = REUSED | CRASHED | SEEN(MISS),
    },
    {
        .name = "crash-2",
        .what = "one slot, two readers, and the owner killed anywhere",
        .ndesc = 1,
        .nslot = 1,
        .nent = 1,
        .nreaders = 2,
        .block = {1},
        .crashes = 1,
        .op = {EVICT(A), RECLAIM, DRAIN, PUT(C, 2)},
        .look = {{GET(A)}, {GET(A)}},
        .must = REUSED | CRASHED,
    },
    {
        .name = "crash-other",
        .what = "a key that nothing happens to, while the owner is killed over another",
        .ndesc = 2,
        .nslot = 2,
        .nent = 2,
        .nreaders = 1,
        .block = {1, 4},
        .crashes = 1,
        .op = {EVICT(B), RECLAIM, PUT(B, 7)},
        .look = {{GET_SURE(A), GET(B)}},
        .must = REUSED | CRASHED,
    },
    {
        .name = "crash-suspect",
        .what = "recovery keeps blocks as suspect, then verifies, then reuses them",
        .ndesc = 2,
        .nslot = 2,
        .nent = 2,
        .nreaders = 1,
        .block = {1},
        .crashes = 1,
        .suspect = true,
        .op = {COMPACT(A), VERIFY, EVICT(A), RECLAIM, DRAIN, PUT(C, 2)},
        .look = {{GET(A), MATCH(A)}},
        .must = REUSED | CRASHED | SEEN(MATCH) | SEEN(MOVED) | SEEN(RESTORED),
    },
    {
        .name = "crash-move",
        .what = "the owner killed anywhere in a compaction",
        .ndesc = 2,
        .nslot = 2,
        .nent = 2,
        .nreaders = 1,
        .block = {1},
        .crashes = 1,
        .op = {COMPACT(A), PUT(C, 2)},
        .look = {{GET_SURE(A), MATCH_SURE(A)}},
        .must = SEEN(HIT) | CRASHED | SEEN(MATCH) | SEEN(MOVED) | SEEN(RESTORED),
    },
    {
        .name = "crash-upsert",
        .what = "the owner killed anywhere in an upsert and the remove that follows",
        .ndesc = 3,
        .nslot = 3,
        .nent = 2,
        .nreaders = 1,
        .block = {1},
        .crashes = 1,
        .op = {UPSERT(A, 3), RECLAIM, DRAIN, REMOVE(A, 0), PUT(C, 2)},
        .look = {{GET(A), AWAIT(0), GET_GONE(A)}},
        .must = SEEN(HIT) | CRASHED | SEEN(LOSER) | SEEN(FREED),
    },
    {
        .name = "crash-swap",
        .what = "the owner killed anywhere in an upsert: which version is found before and after",
        .ndesc = 2,
        .nslot = 2,
        .nent = 2,
        .nreaders = 1,
        .block = {1},
        .crashes = 1,
        .op = {UPSERT(A, 3)},
        .look = {{GET_SURE(A), GET_SURE(A)}},
        .must = SEEN(HIT) | CRASHED | SEEN(LOSER),
    },
    {
        .name = "crash-twice",
        .what = "the owner killed anywhere in an upsert, and again anywhere in what follows",
        .ndesc = 2,
        .nslot = 2,
        .nent = 2,
        .nreaders = 1,
        .block = {1},
        .crashes = 2,
        .op = {UPSERT(A, 3), RECLAIM, PUT(C, 2)},
        .look = {{GET_SURE(A), GET_SURE(A)}},
        .must = SEEN(HIT) | CRASHED | SEEN(LOSER) | SEEN(FREED) | SEEN(RETRY),
    },
    {
        .name = "crash-split",
        .what = "the owner killed anywhere in a split, and again anywhere in the recovery",
        .ndesc = 1,
        .nslot = 1,
        .nent = 1,
        .nreaders = 1,
        .block = {1},
        .crashes = 2,
        .op = {SPLIT},
        .look = {{GET_SURE(A), GET_SURE(A)}},
        .must = SEEN(HIT) | CRASHED | SEEN(SPLIT) | SEEN(RETRY),
    },
    {
        .name = "writer",
        .what = "a writer fills its reservation, sleeps, dies; readers die with hazards set",
        .ndesc = 2,
        .nslot = 2,
        .nent = 2,
        .nreaders = 1,
        .block = {1},
        .writer_ver = 3,
        .deaths = true,
        .op = {EVICT(A), RECLAIM, RESERVE, DRAIN, PUT(C, 2), SETTLE(A, 3), PUT(B, 4)},
        .look = {{GET(A)}},
        .must = REUSED | SEEN(DEATH),
    },
    {
        .name = "writer-crash",
        .what = "a writer's reservation outlives the owner",
        .ndesc = 2,
        .nslot = 2,
        .nent = 2,
        .block = {1},
        .crashes = 1,
        .writer_ver = 3,
        .deaths = true,
        .op = {EVICT(A), RECLAIM, RESERVE, DRAIN, PUT(C, 2), SETTLE(A, 3), PUT(B, 4)},
        .must = CRASHED | SEEN(DEATH) | SEEN(FREED),
    },
    {
        .name = "death",
        .what = "two readers die at any step",
        .ndesc = 1,
        .nslot = 1,
        .nent = 1,
        .nreaders = 2,
        .block = {1},
        .deaths = true,
        .op = {EVICT(A), RECLAIM, DRAIN, PUT(C, 2)},
        .look = {{GET(A)}, {GET(A)}},
        .must = REUSED | SEEN(DEATH),
    },
};

/* clang-format on */

/* In which memories the counterexample is expected. */
enum { NEVER = 0, ON_TSO = 1 << MC_TSO, ON_WEAK = 1 << MC_WEAK, BOTH = ON_TSO | ON_WEAK };

struct row {
    const char *name, *name2, *scenario;
    enum mut mut, mut2;
    int caught; /* in these; in the others it is not tried, unless NEVER: then in both */
};

#define ONE(m, scenario, caught)                                                                   \
    { #m, "", scenario, MUT_##m, MUT_NONE, caught }
#define TWO(m, m2, scenario, caught)                                                               \
    { #m, #m2, scenario, MUT_##m, MUT_##m2, caught }

static const struct row rows[] = {
    ONE(NO_READER_FENCE, "reuse-1", BOTH), ONE(NO_READER_FENCE, "move", BOTH),
    ONE(NO_RECHECK, "reuse-1", BOTH), ONE(HAZARD_SET_RELAXED, "batch-1", ON_WEAK),
    ONE(HAZARD_CLEAR_RELAXED, "reuse-1", ON_WEAK), ONE(NO_KEY_COMPARE, "reuse-1", BOTH),
    ONE(CLEAR_BEFORE_USE, "reuse-1", BOTH), ONE(COPY_UNCHECKED, "copy", BOTH),
    ONE(TOP_AFTER_FENCE, "reuse-1", BOTH), ONE(MATCH_NO_RECHECK, "match", BOTH),
    ONE(MATCH_NO_FENCE, "match", ON_WEAK), ONE(MATCH_W1_RELAXED, "match", ON_WEAK),
    ONE(MATCH_STATE_ONLY, "match", BOTH), ONE(MOVING_IS_ABSENT, "move", BOTH),
    ONE(UNREADABLE_IS_ABSENT, "move", BOTH), ONE(MISS_NO_VERSION, "upsert-1", BOTH),
    ONE(MISS_NO_VERSION, "relocate", BOTH), ONE(MISS_NO_TABLE, "crash-split", BOTH),
    ONE(MISS_NO_ACTIVE, "crash-other", BOTH), ONE(MISS_RELAXED, "crash-twice", ON_WEAK),
    ONE(MISS_ACTIVE_FIRST, "crash-twice", BOTH), ONE(ACTIVE_RELAXED, "crash-other", ON_WEAK),
    ONE(TABLE_RELAXED, "crash-split", ON_WEAK), ONE(VERSION_RELAXED, "relocate", ON_WEAK),
    ONE(NO_RETIRE_FENCE, "reuse-1", BOTH), ONE(NO_RETIRE_SCAN, "reuse-1", BOTH),
    ONE(SCAN_RELAXED, "reuse-1", ON_WEAK), ONE(SCAN_ONE_READER, "reuse", BOTH),
    ONE(FENCE_BEFORE_RETIRE, "reuse-1", BOTH), ONE(NO_RETIRE_WORD, "reuse-1", BOTH),
    ONE(COMMIT_RELAXED, "reuse-1", ON_WEAK), ONE(COMMIT_BEFORE_FIELDS, "reuse-1", BOTH),
    ONE(GENERATION_REPEATS, "match", BOTH), ONE(FREE_NOT_STORED, "crash", BOTH),
    ONE(SWAP_NO_BUMP, "upsert-1", BOTH), ONE(BUMP_BEFORE_SWAP, "upsert-1", BOTH),
    ONE(BUMP_RELAXED, "relocate", ON_WEAK), ONE(SPLIT_DELETE_FIRST, "crash-split", BOTH),
    ONE(SPLIT_PUBLISH_FIRST, "crash-split", BOTH),
    ONE(SPLIT_PUBLISH_RELAXED, "crash-split", ON_WEAK),
    ONE(SPLIT_DELETE_RELAXED, "crash-split", ON_WEAK), ONE(RELOCATE_NO_BUMP, "relocate", BOTH),
    ONE(RELOCATE_DELETE_FIRST, "relocate", BOTH), ONE(RELOCATE_BUMP_FIRST, "relocate", BOTH),
    ONE(ACK_BEFORE_RETIRE, "remove", BOTH), ONE(MOVE_NO_FENCE, "move", BOTH),
    ONE(MOVE_NO_SCAN, "move", BOTH), ONE(MOVE_NO_MOVING, "move", BOTH),
    ONE(MOVE_OFFSET_BEFORE_SCAN, "move", BOTH), ONE(MOVE_COPY_LAST, "move", BOTH),
    ONE(MOVE_COMMIT_RELAXED, "move", ON_WEAK), ONE(MOVE_SAME_GENERATION, "move-match", BOTH),
    ONE(RECOVER_NO_FENCE, "crash", ON_WEAK), ONE(RECOVER_NO_SCAN, "crash", BOTH),
    ONE(RECOVER_LOWER_WINS, "crash-swap", BOTH), ONE(RECOVER_KEEP_LOSER, "crash-upsert", BOTH),
    ONE(RECOVER_LOSER_NO_FENCE, "crash-upsert", BOTH), ONE(RECOVER_FLIP_FIRST, "crash-other", BOTH),
    ONE(RECOVER_FLIP_RELAXED, "crash-other", ON_WEAK), ONE(RECOVER_IN_PLACE, "crash-other", BOTH),
    ONE(RECOVER_ZERO_FIRST, "crash-other", BOTH),
    ONE(RECOVER_ZERO_NO_FENCE, "crash-other", ON_WEAK),
    ONE(RECOVER_NEW_GENERATION, "crash-swap", BOTH), ONE(RECOVER_DROP_MOVING, "crash-move", BOTH),
    ONE(RECOVER_KEEP_RETIRED, "remove", BOTH), ONE(RECOVER_FREE_RESERVED, "writer-crash", BOTH),
    ONE(ACTIVE_NO_INCARNATION, "crash-split", BOTH), ONE(WRITER_TIMEOUT, "writer", BOTH),
    ONE(READER_TIMEOUT, "writer", BOTH),
    /* Second defences: alone they may go, with their partner they may not. */
    ONE(RETIRE_BEFORE_BUMP, "upsert-1", NEVER),
    TWO(RETIRE_BEFORE_BUMP, UNREADABLE_IS_ABSENT, "upsert-1", BOTH),
    ONE(RETIRE_RELAXED, "upsert-1", NEVER),
    TWO(RETIRE_RELAXED, UNREADABLE_IS_ABSENT, "upsert-1", ON_WEAK),
    ONE(SWAP_BEFORE_COMMIT, "upsert-1", NEVER),
    TWO(SWAP_BEFORE_COMMIT, UNREADABLE_IS_ABSENT, "upsert-1", BOTH),
    ONE(SWAP_RELAXED, "upsert-1", NEVER), ONE(ENTRY_RELAXED, "upsert-1", NEVER),
    ONE(MISS_NO_FENCE, "relocate", NEVER), TWO(MISS_NO_FENCE, ENTRY_RELAXED, "relocate", ON_WEAK),
    ONE(RECOVER_RETIRE_FIRST, "crash-swap", NEVER),
    TWO(RECOVER_RETIRE_FIRST, UNREADABLE_IS_ABSENT, "crash-swap", BOTH),
    ONE(GET_W1_RELAXED, "reuse-1", NEVER), ONE(GET_W2_RELAXED, "reuse-1", NEVER),
    TWO(GET_W1_RELAXED, GET_W2_RELAXED, "move", NEVER), /* the sc fence does it */
    ONE(RECHECK_STATE_ONLY, "reuse-1", NEVER),          /* the hazard does it */
    ONE(LOCATION_BEFORE_RECHECK, "move", NEVER),        /* the generation does it */
    ONE(RESTORE_RELAXED, "move-match", NEVER),          /* the sc fence before it does it */
    ONE(VERIFY_RELAXED, "crash-suspect", NEVER),        /* nothing changed but the state */
};

static int failures;

static const struct scenario *scenario_named(const char *name) {
    for (size_t i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++)
        if (strcmp(scenarios[i].name, name) == 0)
            return &scenarios[i];
    fprintf(stderr, "test_shm: no scenario '%s'\n", name);
    exit(2);
}

static enum mut mut_named(const char *name) {
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (strcmp(rows[i].name, name) == 0)
            return rows[i].mut;
    fprintf(stderr, "test_shm: no mutation '%s'\n", name);
    exit(2);
}

static struct mc_result explore(const struct scenario *s, enum mut m, enum mut m2,
                                const struct mc_opts *opts) {
    sc = s;
    mut = m;
    mut2 = m2;
    struct mc_model model = shm_model();
    struct mc_result res;
    if (mc_explore(&model, opts, &res) < 0) {
        printf("FAIL %s: over %u states, or out of memory\n", s->name, res.states);
        failures++;
    }
    return res;
}

static const char *memory(int mode) {
    return mode == MC_TSO ? "TSO " : "weak";
}

static void check_scenario(const struct scenario *s, enum mc_mode mode) {
    struct mc_opts opts = {.mode = mode, .trace = stdout};
    clock_t t0 = clock();
    struct mc_result res = explore(s, MUT_NONE, MUT_NONE, &opts);
    bool ok = res.exhausted && (res.notes & s->must) == s->must;
    printf("%s %-13s %s %8u states %8llu steps %5.2f s  %s%s\n", ok ? "ok  " : "FAIL", s->name,
           memory(mode), res.states, (unsigned long long)res.steps,
           (double)(clock() - t0) / CLOCKS_PER_SEC, s->what, res.failed ? res.text : "");
    if (res.exhausted && !ok)
        printf("     %s: never happened: %#llx\n", s->name,
               (unsigned long long)(s->must & ~res.notes));
    failures += !ok;
}

static void check_row(const struct row *r, enum mc_mode mode) {
    if (r->caught && !(r->caught & 1 << mode))
        return;
    struct mc_opts opts = {.mode = mode};
    struct mc_result res = explore(scenario_named(r->scenario), r->mut, r->mut2, &opts);
    bool ok = r->caught ? res.failed : res.exhausted;
    printf("%s %s%s%s, %s %s %8u states: %s\n", ok ? "ok  " : "FAIL", r->name, r->mut2 ? " + " : "",
           r->name2, r->scenario, memory(mode), res.states,
           res.failed ? res.text : "no counterexample");
    failures += !ok;
}

/* Each mutation has a row of its own. */
static void check_rows_complete(void) {
    bool has[MUTS] = {[MUT_NONE] = true};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (!rows[i].mut2)
            has[rows[i].mut] = true;
    for (int m = 0; m < MUTS; m++)
        if (!has[m]) {
            printf("FAIL mutation %d has no row\n", m);
            failures++;
        }
}

/* What the reduction leaves out changes no verdict: small scenarios without it. */
static void check_reduction(const char *name, enum mut m, enum mc_mode mode, bool fails) {
    struct mc_opts opts = {.mode = mode, .full = true};
    struct mc_result res = explore(scenario_named(name), m, MUT_NONE, &opts);
    bool ok = fails ? res.failed : res.exhausted;
    printf("%s unreduced %-13s %s %8u states, mutation %d\n", ok ? "ok  " : "FAIL", name,
           memory(mode), res.states, m);
    failures += !ok;
}

static int explore_one(int argc, char **argv) {
    enum mut m = argc > 2 ? mut_named(argv[2]) : MUT_NONE;
    enum mut m2 = argc > 3 ? mut_named(argv[3]) : MUT_NONE;
    for (int mode = 0; mode < MC_MODES; mode++) {
        struct mc_opts opts = {.mode = mode, .bfs = true, .trace = stdout};
        struct mc_result res = explore(scenario_named(argv[1]), m, m2, &opts);
        printf("%s %s: %u states, %s\n", argv[1], memory(mode), res.states,
               res.failed ? res.text : "no counterexample");
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 1)
        return explore_one(argc, argv);
    setvbuf(stdout, NULL, _IOLBF, 0);
    check_rows_complete();
    for (size_t i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++)
        for (int mode = 0; mode < MC_MODES; mode++)
            check_scenario(&scenarios[i], mode);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        for (int mode = 0; mode < MC_MODES; mode++)
            check_row(&rows[i], mode);
    static const char *const small[] = {"reuse-1", "copy", "relocate", "upsert-1", "writer-crash"};
    for (size_t i = 0; i < sizeof(small) / sizeof(small[0]); i++)
        for (int mode = 0; mode < MC_MODES; mode++)
            check_reduction(small[i], MUT_NONE, mode, false);
    check_reduction("reuse-1", MUT_NO_READER_FENCE, MC_TSO, true);
    check_reduction("reuse-1", MUT_SCAN_RELAXED, MC_WEAK, true);
    check_reduction("relocate", MUT_BUMP_RELAXED, MC_WEAK, true);
    printf("%s: %d failures\n", failures ? "FAIL" : "ok", failures);
    return failures > 0;
}
