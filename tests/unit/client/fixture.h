/* SPDX-License-Identifier: Apache-2.0
 *
 * A real node for the tests of libyolk: in this process (quick), or in a process of its own (which
 * can be stopped and killed).
 *
 * Each test gets its own node with a nameless or a named segment and a socket in a temporary folder;
 * handles are opened against it and closed before it. Threads: the test's.
 */
#ifndef YK_TEST_CLIENT_FIXTURE_H
#define YK_TEST_CLIENT_FIXTURE_H

#include "node/node.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include <cmocka.h>
#include <yolk/yolk.h>

#define MIB (1u << 20)

struct fixture {
    char dir[64];
    char url[128];
    char name[64]; /* of the segment; "" = nameless */
    uint64_t dram;
    uint64_t capacity_blocks;
    uint64_t ssd; /* bytes of a file in dir that is its SSD; 0 = none */
    char ssd_path[80];
    uint32_t max_clients;
    void (*tune)(struct yk_node_opts *o); /* other options; NULL = none */
    struct yk_node *node; /* in this process */
    pid_t pid;            /* or in that one */
    pid_t spare;          /* one that waits; 0 = none */
    int spare_go, spare_ready;
};

/* Folder and address, no node yet. named: the segment survives the node. */
void fixture_init(struct fixture *f, int named);
/* Ends the node, removes folder and segment. */
void fixture_fini(struct fixture *f);

void fixture_start(struct fixture *f);
void fixture_stop(struct fixture *f);
/* The node as a child process. Only in a process that has no other threads. */
void fixture_fork(struct fixture *f);
/* A second process that starts the same node when it is told to: tests have threads by then. */
void fixture_fork_spare(struct fixture *f);
void fixture_start_spare(struct fixture *f); /* it is the node's from here on */
void fixture_kill(struct fixture *f, int sig); /* and waits, but for SIGSTOP and SIGCONT */

yk_client *open_with(struct fixture *f, uint32_t flags, uint32_t timeout_ms);
yk_client *open_client(struct fixture *f);

/* Bytes that depend on seed and place. */
void fill(void *buf, size_t len, uint64_t seed);
int is_filled(const void *buf, size_t len, uint64_t seed);

/* Puts `len` bytes of fill(seed) under a name; asserts success. */
void put_ok(yk_client *c, const char *key, size_t len, uint64_t seed);
/* Gets them back into a buffer and compares. Returns yk_get's status. */
int get_is(yk_client *c, const char *key, size_t len, uint64_t seed);

uint64_t stat_of(yk_client *c, size_t offset);
#define STAT(c, field) stat_of((c), offsetof(yk_client_stats, field))

/* Asserts a status and shows the text of an unexpected one. */
void check_status(int got, int want, const char *what, const char *file, int line);
#define assert_status(expr, want) check_status((expr), (want), #expr, __FILE__, __LINE__)

/* cmocka setup and teardown: a node in this process. */
int with_node(void **state);
int without_node(void **state);

#endif
