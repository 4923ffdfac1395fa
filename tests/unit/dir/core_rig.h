/* SPDX-License-Identifier: Apache-2.0
 *
 * A cluster of cores (dir/core.h) in one process, for test_core_*.c: nodes with a store of a few
 * keys, a network, disks of which only what was synced outlives a kill, and a register for the map. Nothing has a
 * clock: what happens next is the earliest event, and of two at one time the one that was made first, so a run
 * is its seed.
 *
 * Only SLOTS slots have an owner: all keys are chosen to fall into them.
 *
 * Threads: one.
 */
#ifndef YK_TESTS_DIR_CORE_RIG_H
#define YK_TESTS_DIR_CORE_RIG_H

#include "dir/core_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yolk/yolk.h>

enum { NODES = 6, KEYS = 9, SLOTS = 3, REMOVES = 512, CLUSTER = 77 };

enum event_kind { DELIVER, APPLY, SYNC, TICK, LEARN, JOIN, ADMIT, COPY, RESTART, RESUME, CHAOS };

struct event {
    uint64_t at_ms, order;
    enum event_kind kind;
    int node, from;
    uint64_t life; /* of the node; of another one it is for nothing */
    uint64_t incarnation, token, gen;
    int key, what; /* APPLY: key -1: the slot `what` */
    struct yk_dir_stand stand;
    uint64_t ver;
    uint32_t len;
    unsigned char *bytes;
};

/* A block as the test sees it: ver grows with every put in the cluster, a copy has that of its source. */
struct rig_block {
    int there, outside; /* outside: it came while the node was expelled, whether it knew or not */
    uint64_t ver, gen, sum, known; /* known: the generation that an owner has confirmed */
    struct yk_dir_mark mark; /* of when it came */
    int marked;
};

struct rig_node {
    struct yk_dir_core *core; /* NULL: it is dead */
    struct yk_dir_rlog_io *io;
    uint64_t life, gen, paused_ms, map_version;
    int joining;   /* an event that joins is under way */
    int disk_held; /* nothing gets onto its disk */
    int cut_off;   /* no message comes to it or from it */
    int deaf;      /* it learns no map */
    void *image; /* its disk, while it is dead */
    size_t image_len;
    struct rig_block block[KEYS];
};

struct rig_remove {
    int key, node, ended, status, done;
    uint64_t begun_ver, done_ver;
    uint32_t missing[NODES + 1], missing_count;
};

struct rig {
    uint64_t seed, random, now_ms, order, ver;
    int verbose, quiet; /* quiet: nothing is lost, and all is quick */
    uint32_t loss_pm, dup_pm, delay_ms, sync_ms, apply_ms, learn_ms; /* pm: of 1,000 */
    int fifo;           /* within a stream, as connections do it */
    int no_memory;      /* for so many removals more nothing can be applied */
    uint64_t epoch[NODES + 1]; /* the highest that publications told a node */
    int mute;           /* this node's publications do not arrive; 0: all do */
    struct yk_dir_map *map;
    uint32_t digest_ms; /* 0: nodes started from then on tell no digests: they would mend what others should not break */
    int nodes;
    struct rig_node node[NODES + 1]; /* by member id */
    uint64_t stream_ms[NODES + 1][NODES + 1];
    struct event **heap;
    size_t heap_len, heap_cap;
    struct rig_remove remove[REMOVES];
    int removes;
    uint64_t done_ver[KEYS]; /* no put of before may be read */
    uint64_t messages[YK_DIR_MSG_KINDS], replays, taken_out, copies, copies_refused, dropped_slots;
    const char *failed;
    char text[256];
};

/* Keys 0, 3, 6 fall into the first slot, 1, 4, 7 into the second... Every third block is in the group of the key
 * before it, and so has an alias. */
struct rig_key {
    char name[16];
    uint64_t hash, group;
    uint32_t slot;
};
extern struct rig_key rig_key[KEYS];
extern uint32_t rig_slot[SLOTS];
extern const char rig_ns[6];

#define RIG_SAY(r, ...)                                                                            \
    do {                                                                                           \
        if ((r)->verbose) {                                                                        \
            printf("%7" PRIu64 " ", (r)->now_ms);                                                  \
            printf(__VA_ARGS__);                                                                   \
            printf("\n");                                                                          \
        }                                                                                          \
    } while (0)

#define RIG_FAIL(r, what, ...)                                                                     \
    do {                                                                                           \
        if ((r)->failed == NULL) {                                                                 \
            (r)->failed = (what);                                                                  \
            snprintf((r)->text, sizeof((r)->text), __VA_ARGS__);                                   \
            RIG_SAY(r, "FAILED: %s: %s", (r)->failed, (r)->text);                                  \
        }                                                                                          \
    } while (0)

struct rig *rig_new(uint64_t seed, int nodes);
void rig_free(struct rig *r);
/* The next event. 0: there is none before `until_ms`. */
int rig_step(struct rig *r, uint64_t until_ms, void (*chaos)(struct rig *r));
void rig_run(struct rig *r, uint64_t ms);

struct yk_dir_key rig_key_of(int k);
uint64_t rig_random(struct rig *r, uint64_t below);
struct event *rig_event(struct rig *r, uint64_t in_ms, enum event_kind kind, int node);
void rig_push(struct rig *r, struct event *e);
struct event *rig_pop(struct rig *r);
void rig_at(struct rig *r, uint64_t in_ms, enum event_kind kind, int node);

/* Around a change of the map: the functions of map.h want all slots owned. */
void rig_open_map(struct rig *r);
void rig_close_map(struct rig *r);
int rig_is_member(const struct rig *r, int n);

void rig_start(struct rig *r, int n, int returns);
void rig_kill(struct rig *r, int n, int empties);

void rig_tell_block(struct rig *r, int n, int k);
void rig_change(struct rig *r, int n, int k, int there, uint64_t ver, uint64_t sum);
int rig_put(struct rig *r, int n, int k, uint64_t sum);
int rig_begin_remove(struct rig *r, int n, int k, uint64_t deadline_ms);
/* Which members the owner of the block's slot names as holders, as a mask; -1: it cannot say. */
int rig_found(struct rig *r, int k);
int rig_holders(const struct rig *r, int k);

#endif
