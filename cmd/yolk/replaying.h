/* SPDX-License-Identifier: Apache-2.0
 *
 * What `yolk replay` and `yolk run` share: options that both have, progress, the end.
 *
 * Thread: one.
 */
#ifndef YOLK_REPLAYING_H
#define YOLK_REPLAYING_H

#include "cmd.h"
#include "replay/replay.h"

#define YOLK_OWN_BLOCKS 2000u /* that a node of its own keeps by default */

/* Fields of both commands' configs. */
struct yolk_replaying {
    uint64_t block_bytes;
    int64_t capacity, ssd_capacity, clients, requests, inflight, block_tokens;
    uint64_t dram_bytes;
    char *ssd;
    double speed;
    int order, verify, policy;
};

/* The rows, for a config struct that holds them in its field `replaying`. */
#define YOLK_REPLAYING_ROW(config, name_, type_, field_)                                           \
    .name = (name_), .type = (type_), YK_OPT_AT(config, replaying.field_)

#define YOLK_REPLAYING_ROWS(config, block_def, capacity_def, ssd_def, clients_def)                 \
    {YOLK_REPLAYING_ROW(config, "block", YK_OPT_SIZE, block_bytes),                                \
     .letter = 'b',                                                                                \
     .def = (block_def),                                                                           \
     .min = "1B",                                                                                  \
     .max = "4095M",                                                                               \
     .help = "Bytes of each block."},                                                              \
        {YOLK_REPLAYING_ROW(config, "capacity", YK_OPT_INT, capacity),                             \
         .letter = 'c',                                                                            \
         .def = (capacity_def),                                                                    \
         .min = "0",                                                                               \
         .max = "200M",                                                                            \
         .metavar = "BLOCKS",                                                                      \
         .help = "Blocks that the node of this run keeps at most; 0 is as many as fit --dram."},   \
        {YOLK_REPLAYING_ROW(config, "dram", YK_OPT_SIZE, dram_bytes), .letter = 'd', .def = "0",   \
         .help = "Memory of the node of this run; 0 is what --capacity needs."},                   \
        {YOLK_REPLAYING_ROW(config, "ssd-capacity", YK_OPT_INT, ssd_capacity),                     \
         .letter = 'S',                                                                            \
         .def = (ssd_def),                                                                         \
         .min = "0",                                                                               \
         .max = "200M",                                                                            \
         .metavar = "BLOCKS",                                                                      \
         .help = "Blocks that the node of this run keeps on SSD at most, in a file that is gone "  \
                 "with it; 0 is no SSD tier."},                                                    \
        {YOLK_REPLAYING_ROW(config, "ssd", YK_OPT_STR, ssd), .metavar = "DIR",                     \
         .help = "Where that file is; not given: $TMPDIR, or /var/tmp."},                          \
        {YOLK_REPLAYING_ROW(config, "clients", YK_OPT_INT, clients),                               \
         .letter = 'C',                                                                            \
         .def = (clients_def),                                                                     \
         .min = "1",                                                                               \
         .max = "1024",                                                                            \
         .help = "Client processes."},                                                             \
        {YOLK_REPLAYING_ROW(config, "policy", YK_OPT_ENUM, policy), .letter = 'p', .def = "lru",   \
         .values = yolk_policy_names, .help = "Eviction policy of the node of this run."},         \
        {YOLK_REPLAYING_ROW(config, "requests", YK_OPT_INT, requests), .letter = 'r', .def = "0",  \
         .min = "0", .help = "Stop after so many requests; 0 is all."},                            \
        {YOLK_REPLAYING_ROW(config, "speed", YK_OPT_REAL, speed),                                  \
         .letter = 's',                                                                            \
         .def = "0",                                                                               \
         .min = "0",                                                                               \
         .max = "1000000",                                                                         \
         .help = "So many times the speed of the trace's timestamps; 0 is as fast as possible."},  \
        {YOLK_REPLAYING_ROW(config, "order", YK_OPT_ENUM, order), .values = yolk_order_names,      \
         .def = "auto",                                                                            \
         .help =                                                                                   \
             "In which order a request's blocks count as used. auto: tail-first, so that the "     \
             "tail of a chain goes before its head; head-first for the chain policies, which see " \
             "to that themselves."},                                                               \
        {YOLK_REPLAYING_ROW(config, "inflight", YK_OPT_INT, inflight), .def = "1", .min = "1",     \
         .max = "64",                                                                              \
         .help = "Puts of a client that are under way at a time. With one, and one "               \
                 "client, the node sees the trace's accesses in exact order."},                    \
        {YOLK_REPLAYING_ROW(config, "verify", YK_OPT_ENUM, verify), .values = yolk_verify_names,   \
         .def = "full",                                                                            \
         .help = "Check every byte that a get returns, or a sample: one cache line of "            \
                 "16."},                                                                           \
    {                                                                                              \
        YOLK_REPLAYING_ROW(config, "block-tokens", YK_OPT_INT, block_tokens),                      \
            .def = "512", .min = "1", .max = "1048576",                                            \
            .help = "Tokens that one id of the trace stands for."                                  \
    }

extern const char *const yolk_order_names[];
extern const char *const yolk_policy_names[]; /* those of yk_policy_list() */
extern const char *const yolk_verify_names[];

/* Fills o but for url and progress. 0 or an exit code after the error was printed. */
int yolk_replaying_opts(const struct yolk_replaying *r, struct yk_replay_opts *o);

/* Replays with progress on standard error and prints what came of it, on standard output; table:
 * a line of text before it (NULL: none). Returns the exit code. */
int yolk_replaying_run(const struct yolk_ctx *ctx, const struct yk_replay_opts *o,
                       const struct yk_replay_trace *trace, const char *title);

/* Exit code of a trace that could not be read; prints err. */
int yolk_replaying_load_failed(const char *path, const struct yk_err *err);

#endif
