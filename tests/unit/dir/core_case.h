/* SPDX-License-Identifier: Apache-2.0
 *
 * What the cases of test_core_publish.c, _remove.c and _terms.c share: short words for what is done with a small
 * cluster (core_rig.h), each of which fails the test where it does not succeed.
 *
 * Threads: one.
 */
#ifndef YK_TESTS_DIR_CORE_CASE_H
#define YK_TESTS_DIR_CORE_CASE_H

#include "core_rig.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { WHILE_MS = 3000 }; /* for what is under way to end */

struct rig *cluster(int nodes);
void settle(struct rig *r);
void put(struct rig *r, int n, int k);
void move(struct rig *r, int slot, int to);
void expel(struct rig *r, int n);
int remove_key(struct rig *r, int n, int k);
struct yk_dir_found find(struct rig *r, int n, int k, uint64_t group);
/* A message as another core would send it. */
struct yk_dir_msg about(const struct rig *r, unsigned kind, int slot, uint64_t term);
int deliver(struct rig *r, int from, int to, struct yk_dir_msg msg, const struct yk_dir_record *record,
            struct yk_err *err);

#endif
