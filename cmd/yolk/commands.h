/* SPDX-License-Identifier: Apache-2.0
 *
 * The commands that commands.c lists. Each stands in the file that its name suggests: put.c, get.c,
 * list.c (ls, match, stat of keys), change.c (rm, touch, pin, unpin, expire, prefetch), ns.c, top.c, ssd.c,
 * topo.c, cluster.c (nodes, slots, locate), balance.c (drain, rebalance, forget), tasks.c (copy, tasks), route.c, bench.c,
 * gen.c, replay.c, run.c, sim.c (with sim_cluster.c), sched.c, main.c (version).
 */
#ifndef YOLK_COMMANDS_H
#define YOLK_COMMANDS_H

#include "cmd.h"

extern const struct yolk_cmd yolk_cmd_put;
extern const struct yolk_cmd yolk_cmd_get;
extern const struct yolk_cmd yolk_cmd_ls;
extern const struct yolk_cmd yolk_cmd_stat;
extern const struct yolk_cmd yolk_cmd_rm;
extern const struct yolk_cmd yolk_cmd_match;
extern const struct yolk_cmd yolk_cmd_touch;
extern const struct yolk_cmd yolk_cmd_pin;
extern const struct yolk_cmd yolk_cmd_unpin;
extern const struct yolk_cmd yolk_cmd_expire;
extern const struct yolk_cmd yolk_cmd_prefetch;
extern const struct yolk_cmd yolk_cmd_ns;
extern const struct yolk_cmd yolk_cmd_top;
extern const struct yolk_cmd yolk_cmd_ssd;
extern const struct yolk_cmd yolk_cmd_topo;
extern const struct yolk_cmd yolk_cmd_xfer;
extern const struct yolk_cmd yolk_cmd_nodes;
extern const struct yolk_cmd yolk_cmd_slots;
extern const struct yolk_cmd yolk_cmd_locate;
extern const struct yolk_cmd yolk_cmd_drain;
extern const struct yolk_cmd yolk_cmd_forget;
extern const struct yolk_cmd yolk_cmd_rebalance;
extern const struct yolk_cmd yolk_cmd_copy;
extern const struct yolk_cmd yolk_cmd_move;
extern const struct yolk_cmd yolk_cmd_tasks;
extern const struct yolk_cmd yolk_cmd_route;
extern const struct yolk_cmd yolk_cmd_bench;
extern const struct yolk_cmd yolk_cmd_gen;
extern const struct yolk_cmd yolk_cmd_replay;
extern const struct yolk_cmd yolk_cmd_run;
extern const struct yolk_cmd yolk_cmd_sim;
extern const struct yolk_cmd yolk_cmd_sched;
extern const struct yolk_cmd yolk_cmd_version;

#endif
