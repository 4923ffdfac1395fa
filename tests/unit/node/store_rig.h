/* SPDX-License-Identifier: Apache-2.0
 *
 * A block table without sockets, for the tests of src/node: a named segment in a folder of this process,
 * and the calls that most tests make of it. A restart is played by closing the store, marked clean or
 * not, and opening the same segment again.
 */
#ifndef YK_TEST_NODE_STORE_RIG_H
#define YK_TEST_NODE_STORE_RIG_H

#include "node/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB (1u << 20)

struct fixture {
    struct yk_store *s;
    struct yk_store_opts o;
    char name[64];
    uint32_t ns;
    uint64_t epoch;
};

/* cmocka's group setup and teardown: segments live in a folder of this process, which goes whatever a
 * test does. */
int make_dir(void **state);
int remove_dir(void **state);

/* A fresh segment of so many bytes; other options may be changed between init and store_open. */
void fixture_init(struct fixture *f, uint64_t bytes, uint64_t capacity_blocks, const char *policy);
void fixture_open(struct fixture *f, uint64_t bytes, uint64_t capacity_blocks, const char *policy);
void fixture_close(struct fixture *f); /* and the segment goes */

void store_open(struct fixture *f);
void crash(struct fixture *f); /* and opens again */

/* Namespace "default". Keys are strings; slot 0 is the node's own. */
int put_as(struct fixture *f, uint32_t slot, const char *key, const char *parent, const void *data,
           uint32_t len, uint32_t flags);
int put(struct fixture *f, const char *key, const void *data, uint32_t len);
void put_tiny(struct fixture *f, int n); /* one byte each: t0, t1, ... */
int find(struct fixture *f, const char *key, uint32_t *ret_idx);
int here(struct fixture *f, const char *key);
/* 1: it is there with these bytes. */
int same(struct fixture *f, const char *key, const void *data, uint32_t len);
int change(struct fixture *f, unsigned what, uint64_t arg, const char *key);

/* After a tick. */
struct yk_counters counters(struct fixture *f);

#endif
