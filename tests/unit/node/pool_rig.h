/* SPDX-License-Identifier: Apache-2.0
 *
 * A node in a pool that the test plays: what the pool is asked is noted, in order, and answered when the test says
 * so; peers speak raw frames over socket pairs.
 *
 * Threads: the test's; ops run on the node's and touch what `lock` guards alone.
 */
#ifndef YK_TEST_NODE_POOL_RIG_H
#define YK_TEST_NODE_POOL_RIG_H

#include "base/clock.h"
#include "node/pool.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB     (1u << 20)
#define WAIT_MS 20000 /* of the test, and of the node for the pool */
#define LIMIT   (WAIT_MS * 1000000ull)
#define ASKED   32u
#define NAMED   8u /* keys of a want that are noted */

struct want {
    int kind, chain;
    char first[32], ns[64], key[NAMED][32];
    uint32_t ns_number, count;
    uint64_t epoch, deadline_ns, token;
};

struct drop {
    char key[32];
    uint64_t epoch, deadline_ns, token;
};

struct space {
    unsigned what;
    char ns[64];
    uint64_t value, token;
};

struct peer {
    int fd, fds[4];
    uint32_t slot, ns;
    uint64_t cookie, epoch, filter_bytes;
    uint64_t heard; /* of the places that it was granted: those it knows of */
    struct yk_frame f;
    unsigned char *body;
};

struct rig {
    struct yk_node *node; /* NULL: it was stopped */
    struct peer *a;       /* one that has said hello, in "default" */
    pthread_mutex_t lock;
    pthread_cond_t cond;
    int refuse; /* whatever is asked; it is noted all the same */
    uint32_t told, want_count, drop_count, space_count;
    struct want wants[ASKED];
    struct drop drops[ASKED];
    struct space spaces[ASKED];
};

int rig_begin(void **state);
int rig_begin_hasty(void **state); /* the node waits for the pool for a millisecond */
int rig_end(void **state);
void rig_stop(struct rig *g);
#define T(test) cmocka_unit_test_setup_teardown(test, rig_begin, rig_end)

/* What the pool was asked, the n-th time; waits for it. */
struct want *want_at(struct rig *g, uint32_t n);
struct drop *drop_at(struct rig *g, uint32_t n);
struct space *space_at(struct rig *g, uint32_t n);

/* The pool's answers; made when these return. */
void found(struct rig *g, uint64_t token, const struct yk_pool_found *said, uint32_t count);
void removed(struct rig *g, uint64_t token, int status);
/* A guest with these bytes comes; then the want is answered. */
void bring(struct rig *g, const struct want *w, const char *key, const char *bytes);
/* All posts of before have run. */
void flush(struct rig *g);
void conns_are(struct rig *g, uint64_t n);

struct peer *peer_open(struct rig *g);
struct peer *peer_join(struct rig *g, const char *ns, uint64_t epoch); /* and hello */
void peer_leave(struct peer *p);
void hello_send(struct peer *p, uint32_t flags, const char *ns, uint64_t epoch);
int hello_answer(struct peer *p, uint32_t granted);

struct yk_place reserve(struct peer *p, uint64_t len);
int give_back(struct peer *p, const struct yk_place *place); /* its status: 0 while it is the peer's */
int put(struct peer *p, const char *key, const char *bytes);
void get_send(struct peer *p, const char *key);
int get_answer(struct peer *p, const char *bytes); /* its status; 0: exactly these bytes */
int get(struct peer *p, const char *key, const char *bytes);

void keys_send(struct peer *p, unsigned op, const char *const *keys, uint32_t n);
struct look {
    int32_t status;
    yk_block_info info;
};
void lookup_answer(struct peer *p, struct look *ret, uint32_t n);
uint64_t exists_answer(struct peer *p, uint32_t n); /* the first 64 bits */
uint32_t match_answer(struct peer *p);

void raise_send(struct peer *p, const char *const *keys, uint32_t n, uint32_t timeout_ms);
void raise_answer(struct peer *p, int32_t *ret_status, uint32_t n);
uint32_t prefetch(struct peer *p, const char *const *keys, uint32_t n);

struct item {
    unsigned what;
    uint64_t arg;
    const char *key;
};
void change_send(struct peer *p, const struct item *items, uint32_t n);
void change_answer(struct peer *p, int32_t *ret_status, uint32_t n);

void ns_send(struct peer *p, unsigned what, uint64_t arg, const char *name);
int ns_answer(struct peer *p);

#endif
