/* SPDX-License-Identifier: Apache-2.0
 *
 * The scenarios in which the shared-memory protocol is explored: what stands in memory, what the owner
 * does, what is looked up, and what must have been seen happening (so that nothing passes by being
 * empty). Each is as small as shows its point: states grow by a factor of five to ten with every
 * operation, lookup or crash more.
 *
 * Versions: 1 A, 2 C, 3 A again, 4 B, 5 C again, 7 B again. A and C share tag and bucket.
 *
 * Threads: immutable.
 */
#include "shm_model.h"

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
#define TRIM(k)                                                                                    \
    { OP_TRIM, k, 0 }
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

/* clang-format off */
const struct scenario shm_scenarios[] = {
    {
        .name = "reuse",
        .what = "evict, reclaim, put another key in the same slot, twice",
        .ndesc = 1, .nslot = 1, .nent = 1, .nreaders = 2, .block = {1},
        .op = {EVICT(A), RECLAIM, DRAIN, PUT(C, 2), EVICT(C), RECLAIM, DRAIN, PUT(A, 3)},
        .look = {{GET(A)}, {GET(A)}},
        .must = REUSED | SEEN(MISS) | SEEN(RETRY) | SEEN(FALLBACK),
    },
    {
        .name = "reuse-1",
        .what = "the same under one reader of both keys, with hazard tops",
        .ndesc = 1, .nslot = 1, .nent = 1, .nreaders = 1, .block = {1},
        .tops = true,
        .op = {EVICT(A), RECLAIM, DRAIN, PUT(C, 2), EVICT(C), RECLAIM, DRAIN, PUT(A, 3)},
        .look = {{GET(A), GET(C)}},
        .must = REUSED | SEEN(MISS),
    },
    {
        .name = "batch",
        .what = "two blocks retired with one fence and one scan, later scans without a fence",
        .ndesc = 2, .nslot = 2, .nent = 2, .nreaders = 2, .block = {1, 4},
        .op = {EVICT(A), EVICT(B), RECLAIM, DRAIN, PUT(C, 2), PUT(B, 7)},
        .look = {{GET(A)}, {GET(B)}},
        .must = REUSED,
    },
    {
        .name = "batch-1",
        .what = "the same under one reader whose hazard goes from one block to the other",
        .ndesc = 2, .nslot = 2, .nent = 2, .nreaders = 1, .block = {1, 4},
        .op = {EVICT(A), EVICT(B), RECLAIM, DRAIN, PUT(C, 2), PUT(B, 7)},
        .look = {{GET(A), GET(B)}},
        .must = REUSED,
    },
    {
        .name = "copy",
        .what = "a reference goes from one hazard slot to another",
        .ndesc = 1, .nslot = 1, .nent = 1, .nreaders = 1, .block = {1},
        .op = {EVICT(A), RECLAIM, DRAIN, PUT(C, 2)},
        .look = {{COPY(A)}},
        .must = REUSED,
    },
    {
        .name = "match",
        .what = "match without a pin while descriptor and cell change hands twice",
        .ndesc = 1, .nslot = 1, .nent = 1, .nreaders = 1, .block = {1},
        .op = {EVICT(A), RECLAIM, DRAIN, PUT(C, 2), EVICT(C), RECLAIM, DRAIN, PUT(A, 3)},
        .look = {{MATCH(A), MATCH(A)}},
        .must = SEEN(MATCH) | SEEN(MISS) | SEEN(RETRY),
    },
    {
        .name = "move",
        .what = "compaction and a put into the old place, under two pinning readers",
        .ndesc = 2, .nslot = 2, .nent = 2, .nreaders = 2, .block = {1},
        .op = {COMPACT(A), PUT(C, 2), COMPACT(A)},
        .look = {{GET_SURE(A)}, {GET_SURE(A)}},
        .must = SEEN(HIT) | SEEN(MOVED) | SEEN(RESTORED) | SEEN(REUSE) | SEEN(FALLBACK),
    },
    {
        .name = "move-match",
        .what = "two compactions in a row, one reader matches, one pins",
        .ndesc = 2, .nslot = 2, .nent = 2, .nreaders = 2, .block = {1},
        .op = {COMPACT(A), COMPACT(A), PUT(C, 2)},
        .look = {{MATCH_SURE(A)}, {GET_SURE(A)}},
        .must = SEEN(HIT) | SEEN(MATCH) | SEEN(MOVED) | SEEN(RESTORED) | SEEN(REUSE),
    },
    {
        .name = "move-twice",
        .what = "moved, the old place reused, then restored on a pin",
        .ndesc = 2, .nslot = 3, .nent = 2, .nreaders = 2, .block = {1},
        .op = {COMPACT(A), PUT(C, 2), COMPACT(A)},
        .look = {{MATCH_SURE(A)}, {GET_SURE(A)}},
        .must = SEEN(HIT) | SEEN(MATCH) | SEEN(MOVED) | SEEN(RESTORED) | SEEN(REUSE),
    },
    {
        .name = "upsert",
        .what = "a key replaced, its old descriptor reused for another of its tag",
        .ndesc = 2, .nslot = 2, .nent = 2, .nreaders = 2, .block = {1},
        .op = {UPSERT(A, 3), RECLAIM, DRAIN, PUT(C, 2)},
        .look = {{GET_SURE(A)}, {MATCH_SURE(A)}},
        .must = REUSED | SEEN(MATCH) | SEEN(RETRY),
    },
    {
        .name = "upsert-1",
        .what = "a key replaced by a descriptor that was another key's before",
        .ndesc = 2, .nslot = 2, .nent = 2, .nreaders = 1, .block = {1, 2},
        .op = {EVICT(C), RECLAIM, DRAIN, UPSERT(A, 3), RECLAIM, DRAIN, PUT(C, 5)},
        .look = {{MATCH_SURE(A), GET_SURE(A)}},
        .must = REUSED | SEEN(MATCH) | SEEN(RETRY),
    },
    {
        .name = "upsert-ack",
        .what = "after the acknowledgement only the new version is found",
        .ndesc = 2, .nslot = 2, .nent = 2, .nreaders = 1, .block = {1},
        .op = {UPSERT(A, 3), ACK(0), RECLAIM, DRAIN, PUT(C, 2)},
        .look = {{AWAIT(0), GET_NEW(A, 3)}},
        .must = SEEN(HIT),
    },
    {
        .name = "split",
        .what = "a bucket splits while its keys are looked up",
        .ndesc = 2, .nslot = 2, .nent = 2, .nreaders = 2, .block = {1, 4},
        .op = {SPLIT, EVICT(B), RECLAIM, DRAIN, PUT(C, 2)},
        .look = {{GET_SURE(A), GET_SURE(A)}, {MATCH_SURE(A), GET(B)}},
        .must = REUSED | SEEN(MATCH) | SEEN(SPLIT) | SEEN(RETRY),
    },
    {
        .name = "relocate",
        .what = "an entry goes to another place of its bucket and back",
        .ndesc = 2, .nslot = 2, .nent = 2, .nreaders = 1, .block = {1},
        .op = {RELOCATE(A), PUT(B, 4), EVICT(B), RELOCATE(A)},
        .look = {{GET_SURE(A), GET_SURE(A)}},
        .must = SEEN(HIT) | SEEN(RETRY),
    },
    {
        .name = "trim",
        .what = "an empty overflow bucket leaves the chain in front of a key and serves another",
        .ndesc = 1, .nslot = 1, .nent = 1, .nreaders = 1, .block = {4},
        .chain = true,
        .op = {TRIM(B)},
        .look = {{GET_SURE(B), MATCH_SURE(B)}},
        .must = SEEN(HIT) | SEEN(RETRY) | SEEN(MATCH),
    },
    {
        .name = "remove",
        .what = "an acknowledged remove, and the owner killed anywhere",
        .ndesc = 2, .nslot = 2, .nent = 2, .nreaders = 1, .block = {1, 2},
        .crashes = 1,
        .op = {REMOVE(A, 0), RECLAIM, DRAIN, PUT(B, 4)},
        .look = {{AWAIT(0), GET_GONE(A), GET_SURE(C)}},
        .must = SEEN(HIT) | SEEN(MISS) | CRASHED,
    },
    {
        .name = "crash",
        .what = "evict, put, put, and the owner killed anywhere",
        .ndesc = 2, .nslot = 2, .nent = 2, .nreaders = 1, .block = {1},
        .crashes = 1,
        .op = {EVICT(A), RECLAIM, PUT(C, 2), ACK(0), DRAIN, PUT(B, 4)},
        .look = {{GET(A), GET(C)}},
        .must = REUSED | CRASHED | SEEN(MISS),
    },
    {
        .name = "crash-2",
        .what = "one slot, two readers, and the owner killed anywhere",
        .ndesc = 1, .nslot = 1, .nent = 1, .nreaders = 2, .block = {1},
        .crashes = 1,
        .op = {EVICT(A), RECLAIM, DRAIN, PUT(C, 2)},
        .look = {{GET(A)}, {GET(A)}},
        .must = REUSED | CRASHED,
    },
    {
        .name = "crash-other",
        .what = "a key that nothing happens to, while the owner is killed over another",
        .ndesc = 2, .nslot = 2, .nent = 2, .nreaders = 1, .block = {1, 4},
        .crashes = 1,
        .op = {EVICT(B), RECLAIM, PUT(B, 7), ACK(0)},
        .look = {{GET_SURE(A), GET(B)}},
        .must = REUSED | CRASHED,
    },
    {
        .name = "crash-suspect",
        .what = "recovery keeps blocks as suspect, then verifies, then reuses them",
        .ndesc = 2, .nslot = 2, .nent = 2, .nreaders = 1, .block = {1},
        .crashes = 1,
        .suspect = true,
        .op = {COMPACT(A), VERIFY, EVICT(A), RECLAIM, DRAIN, PUT(C, 2)},
        .look = {{GET(A), MATCH(A)}},
        .must = REUSED | CRASHED | SEEN(MATCH) | SEEN(MOVED) | SEEN(RESTORED),
    },
    {
        .name = "crash-move",
        .what = "the owner killed anywhere in a compaction",
        .ndesc = 2, .nslot = 2, .nent = 2, .nreaders = 1, .block = {1},
        .crashes = 1,
        .op = {COMPACT(A), PUT(C, 2), ACK(0)},
        .look = {{GET_SURE(A), MATCH_SURE(A)}},
        .must = SEEN(HIT) | CRASHED | SEEN(MATCH) | SEEN(MOVED) | SEEN(RESTORED),
    },
    {
        .name = "crash-upsert",
        .what = "the owner killed anywhere in an upsert and the remove that follows",
        .ndesc = 3, .nslot = 3, .nent = 2, .nreaders = 1, .block = {1},
        .crashes = 1,
        .op = {UPSERT(A, 3), RECLAIM, DRAIN, REMOVE(A, 0), PUT(C, 2)},
        .look = {{GET(A), AWAIT(0), GET_GONE(A)}},
        .must = SEEN(HIT) | CRASHED | SEEN(LOSER) | SEEN(FREED),
    },
    {
        .name = "crash-swap",
        .what = "the owner killed anywhere in an upsert: which version is found before and after",
        .ndesc = 2, .nslot = 2, .nent = 2, .nreaders = 1, .block = {1},
        .crashes = 1,
        .op = {UPSERT(A, 3)},
        .look = {{GET_SURE(A), GET_SURE(A)}},
        .must = SEEN(HIT) | CRASHED | SEEN(LOSER),
    },
    {
        .name = "crash-twice",
        .what = "the owner killed anywhere in an upsert, and again anywhere in what follows",
        .ndesc = 2, .nslot = 2, .nent = 2, .nreaders = 1, .block = {1},
        .crashes = 2,
        .op = {UPSERT(A, 3), RECLAIM, PUT(C, 2), ACK(0)},
        .look = {{GET_SURE(A)}},
        .must = SEEN(HIT) | CRASHED | SEEN(LOSER) | SEEN(FREED) | SEEN(RETRY),
    },
    {
        .name = "crash-split",
        .what = "the owner killed anywhere in a split, and again anywhere in the recovery",
        .ndesc = 1, .nslot = 1, .nent = 1, .nreaders = 1, .block = {1},
        .crashes = 2,
        .op = {SPLIT},
        .look = {{GET_SURE(A), GET_SURE(A)}},
        .must = SEEN(HIT) | CRASHED | SEEN(SPLIT) | SEEN(RETRY),
    },
    {
        .name = "writer",
        .what = "a writer fills its reservation, sleeps, dies; readers die with hazards set",
        .ndesc = 2, .nslot = 2, .nent = 2, .nreaders = 1, .block = {1},
        .writer_ver = 3,
        .deaths = true,
        .op = {EVICT(A), RECLAIM, RESERVE, DRAIN, PUT(C, 2), SETTLE(A, 3), PUT(B, 4)},
        .look = {{GET(A)}},
        .must = REUSED | SEEN(DEATH),
    },
    {
        .name = "writer-crash",
        .what = "a writer's reservation outlives the owner",
        .ndesc = 2, .nslot = 2, .nent = 2, .block = {1},
        .crashes = 1,
        .writer_ver = 3,
        .deaths = true,
        .op = {EVICT(A), RECLAIM, RESERVE, DRAIN, PUT(C, 2), SETTLE(A, 3), PUT(B, 4)},
        .must = CRASHED | SEEN(DEATH) | SEEN(FREED),
    },
    {
        .name = "death",
        .what = "two readers die at any step",
        .ndesc = 1, .nslot = 1, .nent = 1, .nreaders = 2, .block = {1},
        .deaths = true,
        .op = {EVICT(A), RECLAIM, DRAIN, PUT(C, 2)},
        .look = {{GET(A)}, {GET(A)}},
        .must = REUSED | SEEN(DEATH),
    },
    {
        .name = "deep-move",
        .what = "the owner killed anywhere in a compaction, under two readers",
        .ndesc = 2, .nslot = 2, .nent = 2, .nreaders = 2, .block = {1},
        .crashes = 1,
        .op = {COMPACT(A), PUT(C, 2), ACK(0)},
        .look = {{GET_SURE(A)}, {MATCH_SURE(A)}},
        .must = SEEN(HIT) | CRASHED | SEEN(MATCH) | SEEN(MOVED) | SEEN(RESTORED),
        .deep = true,
    },
    {
        .name = "deep-mix",
        .what = "move, replace, reuse and remove, and the owner killed anywhere",
        .ndesc = 3, .nslot = 3, .nent = 2, .nreaders = 1, .block = {1},
        .crashes = 1,
        .op = {COMPACT(A), UPSERT(A, 3), RECLAIM, DRAIN, PUT(C, 2), COMPACT(A), REMOVE(A, 0),
               RECLAIM},
        .look = {{GET(A), MATCH(A), GET(C)}},
        .must = REUSED | CRASHED | SEEN(MATCH) | SEEN(MOVED) | SEEN(RESTORED),
        .deep = true,
    },
    {
        .name = "deep-twice",
        .what = "the owner killed anywhere in an upsert and again in what follows, two lookups",
        .ndesc = 2, .nslot = 2, .nent = 2, .nreaders = 1, .block = {1},
        .crashes = 2,
        .op = {UPSERT(A, 3), RECLAIM, PUT(C, 2), ACK(0)},
        .look = {{GET_SURE(A), GET_SURE(A)}},
        .must = SEEN(HIT) | CRASHED | SEEN(LOSER) | SEEN(FREED) | SEEN(RETRY),
        .deep = true,
    },
    {0},
};
/* clang-format on */
