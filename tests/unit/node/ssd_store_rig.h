/* SPDX-License-Identifier: Apache-2.0
 *
 * A block table over two tiers, without sockets, for the tests of src/node: a named segment, and an SSD
 * that is a real file. Blocks are numbers: key, bytes and attributes follow from them.
 *
 * Threads: the test's; on_wake comes from the devices' (an eventfd that turn() waits for).
 */
#ifndef YK_TEST_NODE_SSD_STORE_RIG_H
#define YK_TEST_NODE_SSD_STORE_RIG_H

#include "node/store.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB   (1ull << 20)
#define BLOCK (64u << 10)
#define LIMIT (60ull * 1000000000ull) /* of every wait */

struct fixture {
    struct yk_store *s;
    struct yk_store_opts o;
    char name[32], path[160];
    uint32_t ns;
    uint64_t epoch;
    uint64_t durable;   /* highest ticket heard of */
    uint32_t raised;    /* callbacks */
    uint64_t order[16]; /* their tokens */
};

/* cmocka's group setup and teardown. */
int make_dirs(void **state);
int remove_dirs(void **state);

/* A fresh DRAM and SSD of so many bytes; other options may be changed between init and store_open. Policy lru,
 * nothing is preloaded. */
void fixture_init(struct fixture *f, uint64_t dram, uint64_t ssd, uint8_t when);
void fixture_open(struct fixture *f, uint64_t dram, uint64_t ssd, uint8_t when);
void fixture_close(struct fixture *f);
void store_open(struct fixture *f);

/* For o.ssd.io_wrap: faults[n % 2] is the n-th device that was opened since fault_count was 0. */
extern struct yk_file *faults[2];
extern unsigned fault_count;
int wrap(void *arg, struct yk_file *io, struct yk_file **ret_io);

/* The daemon ends, by a kill if not clean; DRAM survives. */
void restart(struct fixture *f, int clean);
/* The host is started again: only what is on SSD survives. */
void reboot(struct fixture *f, int clean);

void turn(struct fixture *f);
void settle(struct fixture *f); /* until nothing is under way */
void await(struct fixture *f, uint64_t ticket);

uint32_t key_of(char *key, uint32_t i); /* its length; key has room for 32 bytes */
int put_flags(struct fixture *f, uint32_t i, uint32_t version, uint32_t len, uint32_t flags,
              uint64_t ttl_ms);
void put(struct fixture *f, uint32_t i, uint32_t len);
void put_child(struct fixture *f, uint32_t i, uint32_t parent, uint32_t len);
/* More blocks than DRAM holds: 0 .. n-1, all of them known afterwards. */
void put_many(struct fixture *f, uint32_t n);
/* The block's bytes: 1 exact, 0 a miss; anything else fails the test. */
int get(struct fixture *f, uint32_t i, uint32_t version, uint32_t len);
int known(struct fixture *f, uint32_t i, uint32_t *ret_tiers);
int on_ssd(struct fixture *f, uint32_t i, uint32_t *ret_id);
int change(struct fixture *f, unsigned what, uint64_t arg, uint32_t i);

#endif
