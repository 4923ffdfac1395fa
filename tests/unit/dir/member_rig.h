/* SPDX-License-Identifier: Apache-2.0
 *
 * What tests of membership share: nodes that write down what they are told, and waiting for it to come true.
 *
 * Thread: the test's; what a node has written down is under its lock.
 */
#ifndef YK_TEST_DIR_MEMBER_RIG_H
#define YK_TEST_DIR_MEMBER_RIG_H

#include "base/clock.h"
#include "dir/member.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define RIG_WAIT_MS 100000u /* when a test gives up; nothing is judged by it */
#define RIG_NODES   16u
#define RIG_SPACES  256u

struct node {
    pthread_mutex_t lock;
    pthread_cond_t news;
    struct yk_member *member;
    struct yk_member_state state;
    struct yk_dir_map *map;
    unsigned maps, states, outs; /* outs: it was told that it is in the map no more */
    struct yk_member_node nodes[RIG_NODES];
    struct yk_member_space spaces[RIG_SPACES];
    unsigned node_count, space_count;
    char dir[160];
};

/* Options for tests: short times. name and dir are filled in. */
extern const struct yk_member_opts rig_opts;

/* A folder for state directories; gone with the program. */
const char *rig_folder(void);

/* Opens; the state directory is FOLDER/dir. ret -YK_E... of yk_member_open. */
int node_try(struct node *n, struct yk_meta *meta, const char *name, const char *dir, const struct yk_member_opts *o,
             struct yk_err *err);
void node_open(struct node *n, struct yk_meta *meta, const char *name, const char *dir, const struct yk_member_opts *o);
void node_close(struct node *n, int leave);

typedef int (*node_fn)(struct node *n, const void *arg);
void node_wait(struct node *n, const char *what, node_fn fn, const void *arg);
void node_wait_phase(struct node *n, enum yk_member_phase phase);
/* A node that joins a cluster for the first time: it cannot show that it holds nothing of before, and unless it is
 * the first it returns before it is a member. Does what its user has to do for that, and waits until it is in. */
void node_enter(struct node *n);
void node_wait_text(struct node *n, const char *text);

/* As they were told last. */
struct yk_member_state node_now(struct node *n);
struct yk_dir_map *node_map(struct node *n); /* a copy, to be freed */
uint64_t node_version(struct node *n);
uint64_t node_expulsions(struct node *n);
uint64_t node_term(struct node *n, uint32_t slot);
unsigned node_outs(struct node *n);

/* How many slots the map that the node was told gives to a name; its state there, 0: it is not there. */
uint32_t node_slots(struct node *n, const char *name);
unsigned node_state_of(struct node *n, const char *name);
void node_wait_state_of(struct node *n, const char *name, unsigned state);

/* Waits for the end of a change. */
int node_set_space(struct node *n, const char *name, uint64_t epoch, uint64_t quota, char text[YK_ERR_TEXT_MAX]);
/* Of one that stands already; all else of it stays. */
int node_set_copies(struct node *n, const char *name, uint32_t copies);
int node_set_terms(struct node *n, const char *name, uint64_t guarantee, uint32_t priority);
int node_drain(struct node *n, const char *name, int drain);
int node_forget(struct node *n, const char *name, char text[YK_ERR_TEXT_MAX]);
int node_rebalance(struct node *n);
void node_wait_space(struct node *n, const char *name, uint64_t epoch, uint64_t quota);
void node_wait_copies(struct node *n, const char *name, uint32_t copies);
void node_wait_terms(struct node *n, const char *name, uint64_t guarantee, uint32_t priority);

/* Nodes n0, n1, ... of one metadata, all of them members; their state directories are TEST-n0 and so on. */
void open_many(struct node *n, unsigned count, struct yk_meta *meta, const char *test);
void open_with(struct node *n, unsigned count, struct yk_meta *meta, const char *test, const struct yk_member_opts *o);
/* Until the node's map has so many members, and each its share of the slots. */
void wait_balanced(struct node *n, unsigned members);

struct yk_meta *rig_embedded(void);

#endif
