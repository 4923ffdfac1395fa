/* SPDX-License-Identifier: Apache-2.0
 *
 * The groups of cases of `yolk bench store`. Each starts a node of its own and removes it.
 *
 * Threads: one.
 */
#ifndef YK_BENCH_STORE_PRIV_H
#define YK_BENCH_STORE_PRIV_H

#include "bench/rig.h"

int yk_store_copies(struct yk_bench_run *run);  /* blocks of 1 MiB and 16 KiB in and out */
int yk_store_lookups(struct yk_bench_run *run); /* a million blocks: find, match, change, socket */
int yk_store_crowd(struct yk_bench_run *run);   /* many processes; payload through the socket */
int yk_store_far(struct yk_bench_run *run);     /* clients without a map: engine and socket */
int yk_store_restart(struct yk_bench_run *run); /* a node that finds its memory again */

#endif
