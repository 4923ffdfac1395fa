/* SPDX-License-Identifier: Apache-2.0
 *
 * Whole nodes in one process: each a store with sockets, an engine and a directory of its own; metadata is
 * embedded and shared. Clients are libyolk's.
 */
#ifndef YK_TEST_SERVICE_RIG_H
#define YK_TEST_SERVICE_RIG_H

#include "dir/dir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <yolk/yolk.h>

#define RIG_NODES 4

struct rig_node {
    struct yk_node *node;
    struct yk_dir *dir;
    yk_client *client;
    char state[128], socket[128];
    int started, start_over; /* over: atomic */
};

struct rig {
    struct yk_meta *meta;
    char dir[64];
    uint64_t data_bytes; /* of each node; 0: 32 MiB */
    const char *zone[RIG_NODES]; /* set before the node starts; NULL: none */
    struct rig_node n[RIG_NODES];
};

extern struct rig rig; /* the program's one */

void rig_open(struct rig *r);
void rig_close(struct rig *r);
/* A case's own: opens `rig` with nodes of the usual size, and closes it. */
int rig_setup(void **state);
int rig_teardown(void **state);
/* Node i, and a client of it. */
void rig_start(struct rig *r, unsigned i);
/* Nodes 0 to count - 1, until each sees all of them as members. */
void rig_start_all(struct rig *r, unsigned count);
/* Node i comes while no etcd answers: what its start returns; meanwhile is called again and again until then. */
int rig_start_without_etcd(struct rig *r, unsigned i, void (*meanwhile)(yk_client *client));
void rig_stop(struct rig *r, unsigned i);

struct yk_dir_stats rig_stats(struct rig *r, unsigned i);

/* Payload that follows from the key; freed by the caller. */
unsigned char *rig_payload(const char *key, size_t len);
/* That, put. */
void rig_put(struct rig *r, unsigned i, const char *key, size_t len);
/* As put would, below a parent. */
void rig_put_child(struct rig *r, unsigned i, const char *key, const char *parent, size_t len);
/* 1: exactly that payload; 0: a miss. Anything else fails the test. */
int rig_get(struct rig *r, unsigned i, const char *key, size_t len);

/* A pause in a loop that waits for something: 0 when it has waited for long enough. *io_until_ms begins with 0. */
int rig_patience(uint64_t *io_until_ms);

/* Until it is so, or the test fails. */
void rig_until_exists(struct rig *r, unsigned i, const char *key, int exists);
/* A get is a miss where nobody could tell in time; it is asked again. */
void rig_until_got(struct rig *r, unsigned i, const char *key, size_t len);
/* A remove that was not in time goes on, and is asked for again until it is done: then nobody has the block. */
void rig_until_removed(struct rig *r, unsigned i, const char *key);
void rig_until_matched(struct rig *r, unsigned i, const yk_key *keys, size_t count, int matched);
/* Blocks that came from elsewhere: so many, and no more. */
void rig_until_pulled(struct rig *r, unsigned i, uint64_t blocks);
/* All that the node has is told to the owners, and that is so many blocks at least. */
void rig_until_published(struct rig *r, unsigned i, uint64_t blocks);
void rig_until_members(struct rig *r, unsigned i, uint32_t members);

#endif
