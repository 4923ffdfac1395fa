/* SPDX-License-Identifier: Apache-2.0
 *
 * A segment in memory without a name with an owner's half that is as small as it can be, for the
 * tests of src/shm.
 *
 * It plays the node: reserves, commits, retires, moves and reclaims with the same calls and the
 * same order of stores that layout.h and view.c ask of the owner, and nothing else (no policy, no
 * allocator: the test says where payload lies). Descriptor fields are written with relaxed atomic
 * stores, because readers of the race tests load them at any time.
 *
 * Threads: those functions that take a rig are the owner's; readers use rig->view and pages.
 */
#ifndef YK_TESTS_SHM_RIG_H
#define YK_TESTS_SHM_RIG_H

#include "shm/index.h"
#include "shm/owner.h"
#include "shm/view.h"

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#define RIG_EPOCH 7u

struct rig {
    struct yk_shm_layout layout;
    int meta_fd; /* for a second mapping */
    unsigned char *meta, *data;
    struct yk_client_page *pages;
    struct yk_shm_hdr *hdr;
    struct yk_owner owner;
    struct yk_index index;
    struct yk_view view;
    uint32_t *slots; /* all client slots, for hazard scans */
    uint32_t *limbo; /* retired, not yet reused */
    uint32_t limbo_count;
    void (*freed)(void *arg, uint32_t idx); /* payload of a reclaimed block; may be NULL */
    void *freed_arg;
};

/* What to put; zero fields take defaults: hash of the key, RIG_EPOCH, COMMITTED. */
struct rig_block {
    const void *key;
    uint32_t key_len;
    uint32_t ns;
    uint64_t hash;
    uint64_t epoch;
    uint64_t expiry_ms;
    uint64_t offset;
    uint64_t sum;
    uint32_t len;
    unsigned state;
};

/* Fails the test when memory is short. Namespaces 0..3 have the epoch RIG_EPOCH. */
void rig_open(struct rig *r, uint64_t data_bytes, uint32_t max_blocks, uint32_t max_clients);
void rig_close(struct rig *r);

/* Descriptor of the new block, or YK_SHM_NONE when descriptors, key cells or the index are full. */
uint32_t rig_put(struct rig *r, const struct rig_block *b);

/* Makes an existing block invisible; its memory follows in rig_scan. */
void rig_retire(struct rig *r, uint32_t idx);

/* Reuses what is retired and named by no hazard; returns how many. */
uint32_t rig_scan(struct rig *r);

/* The compactor's step: payload was copied to `to` before. 1 moved (the old place is free), 0 a
 * hazard names it and it stays where it was. */
int rig_move(struct rig *r, uint32_t idx, uint64_t to);

/* Fills a query for a key. */
struct yk_query rig_query(uint32_t ns, const void *key, uint32_t key_len);

#define RIG_READERS 2u

/* A thread that looks things up while the test's own thread is the owner. */
struct rig_reader {
    pthread_t thread;
    unsigned number;
    int stop;        /* atomic */
    uint64_t looks;  /* atomic */
    uint64_t unsure; /* -YK_EAGAIN: an answer, if not a common one */
    uint64_t missed; /* what was there all the time */
    uint64_t wrong;  /* what was not, or other bytes */
};

/* Starts RIG_READERS threads of fn(struct rig_reader *). */
void rig_readers_start(struct rig_reader *rd, void *(*fn)(void *));

/* For fn: counts one look; 0 when it is time to return. */
int rig_reader_goes_on(struct rig_reader *rd);

/* For the owner, which may be much faster or the only one that runs: 1 as long as a reader has not
 * looked so often. */
int rig_readers_lag(const struct rig_reader *rd, uint64_t looks);

/* Ends them; fails the test when one missed something or saw something wrong. */
void rig_readers_end(struct rig_reader *rd);

/* 1 if a handler may open a page and let the access that faulted be made again. Not so under the thread
 * sanitizer (it makes atomic accesses inside its run time) and valgrind (it does not keep registers
 * exact at each access). */
int rig_may_fault(void);

/* Deterministic random numbers. */
uint64_t rig_random(uint64_t *seed);

#endif
