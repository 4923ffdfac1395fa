/* SPDX-License-Identifier: Apache-2.0
 *
 * A whole request trace in memory, its ids numbered in the order of their first appearance.
 *
 * Simulated policies index arrays by block, and the offline optimum needs the future, so the trace is read
 * to its end first. An id stands for its block and all before it, so a block's parent is the id that stood
 * before it when it was seen first; parents have smaller numbers, whatever the file says.
 *
 * Thread: the builder's; immutable afterwards.
 */
#ifndef YK_SIM_LOAD_H
#define YK_SIM_LOAD_H

#include "trace/trace.h"

#ifdef __cplusplus
extern "C" {
#endif

#define YK_SIM_NONE     UINT32_MAX
#define YK_SIM_IDS_MAX  (UINT64_C(1) << 28) /* accesses: 1 GiB */
#define YK_SIM_REQS_MAX (UINT64_C(1) << 26)

struct yk_sim_req {
    uint64_t at_ms;
    uint64_t first; /* of its blocks */
    uint32_t n;
    uint32_t input_length, output_length; /* tokens */
    uint32_t stop;                        /* enum yk_trace_stop */
};

/* All zero is an empty trace. */
struct yk_sim_trace {
    struct yk_sim_req *reqs;
    uint32_t *blocks; /* numbers, of all requests */
    uint32_t *parent; /* by number, or YK_SIM_NONE */
    uint64_t *id;     /* by number: what the trace calls it */
    uint64_t req_count, block_count, distinct;
    uint64_t req_cap, block_cap, distinct_cap;
    uint32_t *table; /* id -> number + 1; open addressing, a power of two */
    uint64_t table_size;
};

/* Reads a file ("-" is standard input). As yk_trace_next; -YK_EINVAL: no request; -YK_ETOOBIG: over a limit. */
int yk_sim_load(const char *path, struct yk_sim_trace *ret_trace, struct yk_err *err);

/* Appends a copy of req. -YK_ETOOBIG, -YK_ENOMEM: the trace is to be finished. */
int yk_sim_trace_add(struct yk_sim_trace *trace, const struct yk_trace_req *req, struct yk_err *err);

void yk_sim_trace_fini(struct yk_sim_trace *trace);

#ifdef __cplusplus
}
#endif

#endif
