/* SPDX-License-Identifier: Apache-2.0
 *
 * By hand: the hit ratio of every policy on a trace file.
 *
 *   policy_hits [--head-first] TRACE CAPACITY...
 *
 * prints "policy capacity hit_blocks total_blocks percent orphaned" for each policy and capacity.
 * A program for the developer, built with the tests; the tests themselves use generated traces.
 */
#include "hit_sim.h"
#include "trace/trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int run(const struct yk_policy_ops *ops, uint32_t capacity, enum hit_sim_order order,
               const char *path) {
    struct yk_trace *trace;
    struct yk_trace_req req;
    struct yk_err err;
    if (yk_trace_open(path, &trace, &err) != 0) {
        fprintf(stderr, "policy_hits: %s\n", err.text);
        return 2;
    }
    struct hit_sim *sim = hit_sim_new(ops, capacity, order);
    int rc;
    while ((rc = yk_trace_next(trace, &req, &err)) == 1)
        hit_sim_request(sim, req.hash_ids, req.n);
    if (rc < 0)
        fprintf(stderr, "policy_hits: %s\n", err.text);
    else
        printf("%s %u %llu %llu %.2f %llu\n", ops->name, capacity,
               (unsigned long long)hit_sim_hits(sim), (unsigned long long)hit_sim_total(sim),
               100.0 * (double)hit_sim_hits(sim) / (double)hit_sim_total(sim),
               (unsigned long long)hit_sim_orphaned(sim));
    hit_sim_free(sim);
    yk_trace_close(trace);
    return rc < 0 ? 2 : 0;
}

int main(int argc, char **argv) {
    int at = 1;
    enum hit_sim_order order = TAIL_FIRST;
    if (at < argc && strcmp(argv[at], "--head-first") == 0) {
        order = HEAD_FIRST;
        at++;
    }
    if (argc - at < 2) {
        fprintf(stderr, "usage: policy_hits [--head-first] TRACE CAPACITY...\n");
        return 2;
    }
    const char *path = argv[at++];
    int rc = 0;
    for (; at < argc && rc == 0; at++) {
        long capacity = strtol(argv[at], NULL, 10);
        if (capacity < 1 || capacity > 10000000) {
            fprintf(stderr, "policy_hits: found capacity '%s', expected 1 to 10000000\n", argv[at]);
            return 2;
        }
        const struct yk_policy_ops *const *ops = yk_policy_list();
        for (; *ops != NULL && rc == 0; ops++)
            rc = run(*ops, (uint32_t)capacity, order, path);
    }
    return rc;
}
