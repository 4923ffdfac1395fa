/* SPDX-License-Identifier: Apache-2.0
 *
 * A whole trace in memory, read before anything is started: a bad line ends a replay before it
 * begins, and client processes share the pages. One array of ids for all requests (8 bytes an id).
 *
 * Thread: the builder's; immutable afterwards.
 */
#ifndef YK_REPLAY_LOAD_H
#define YK_REPLAY_LOAD_H

#include "trace/gen.h"
#include "trace/trace.h"

#ifdef __cplusplus
extern "C" {
#endif

#define YK_REPLAY_IDS_MAX (1ull << 28) /* 2 GiB of ids */

struct yk_replay_req {
    uint64_t at_ms;
    uint64_t first; /* of its ids */
    uint64_t session;
    uint32_t n;
    uint32_t input_length, output_length; /* tokens */
    uint32_t stop;                        /* enum yk_trace_stop */
};

/* All zero is an empty trace. */
struct yk_replay_trace {
    struct yk_replay_req *reqs;
    uint64_t *ids;
    uint64_t req_count, id_count;
    uint64_t req_cap, id_cap;
};

/* Reads a file ("-" is standard input) up to max_requests (0 = all). As yk_trace_next; -YK_ETOOBIG
 * over YK_REPLAY_IDS_MAX. */
int yk_replay_load(const char *path, uint64_t max_requests, struct yk_replay_trace *ret_trace,
                   struct yk_err *err);

/* The same from the generator. */
int yk_replay_generate(const struct yk_trace_gen_opts *opts, struct yk_replay_trace *ret_trace,
                       struct yk_err *err);

/* Appends a copy of req. */
int yk_replay_trace_add(struct yk_replay_trace *trace, const struct yk_trace_req *req,
                        struct yk_err *err);

void yk_replay_trace_fini(struct yk_replay_trace *trace);

#ifdef __cplusplus
}
#endif

#endif
