/* SPDX-License-Identifier: Apache-2.0
 *
 * A store with slow memory, and blocks that can be told apart: shared by test_cxl.c and test_cxl_restart.c. Both ranges
 * are ordinary memory, and what they are said to do is given.
 */
#ifndef YK_TEST_CXL_RIG_H
#define YK_TEST_CXL_RIG_H

#include "store_rig.h"

#define BLOCK (64u << 10)
#define LAT   100u
#define BPS   10000000000ull

/* Bytes of block i in its version: all of them differ from those of any other. */
const void *bytes_of(uint32_t i, uint32_t version);
char *key_of(uint32_t i);
int put_at(struct fixture *f, uint32_t i, uint32_t version);
void put_block(struct fixture *f, uint32_t i);
int exact(struct fixture *f, uint32_t i, uint32_t version);
/* Where it is: YK_TIER_DRAM, YK_TIER_CXL, or 0. */
int tier_of(struct fixture *f, uint32_t i);
void use(struct fixture *f, uint32_t i);
/* A use of slow memory costs so many percent of one of DRAM. */
void slow_init(struct fixture *f, uint64_t dram, uint64_t slow, uint64_t blocks, const char *policy, unsigned percent);
void slow_open(struct fixture *f, uint64_t dram, uint64_t slow, uint64_t blocks, const char *policy, unsigned percent);

#endif
