/* SPDX-License-Identifier: Apache-2.0
 *
 * A restart in the middle of a trace (sim.h): three runs of it, of which one is not restarted, one loads ahead what it
 * had, and one fills as blocks are asked for; and when the latter two are back.
 *
 * Thread: one.
 */
#include "sim/cache_priv.h"

#include <stdlib.h>
#include <string.h>

#define BACK_AT 0.9 /* of what it would have been */

static int run_one(const struct yk_sim_trace *t, const struct yk_sim_opts *o, const struct yk_sim_restart *restart,
                   uint32_t *hits, struct yk_sim_result *ret, struct yk_err *err) {
    struct yk_sim_opts opts = *o;
    opts.restart = restart;
    opts.ret_cache_hits = hits;
    return yk_sim_run(t, &opts, ret, err);
}

/* The first request from which on a window of them hits as much as if there had been no restart. */
static struct yk_sim_back find_back(const struct yk_sim_trace *t, const struct yk_sim_restart *r, const uint32_t *hits,
                                    const uint32_t *never) {
    struct yk_sim_back back = {0};
    uint64_t have = 0, want = 0;
    for (uint64_t i = r->request; i < t->req_count && !back.is_back; i++) {
        have += hits[i];
        want += never[i];
        if (i + 1 < r->request + r->window)
            continue;
        uint64_t first = i + 1 - r->window;
        back.is_back = (double)have >= BACK_AT * (double)want;
        back.requests = first - r->request;
        back.ms = yk_sim_since_ms(t, r->request, first);
        have -= hits[first];
        want -= never[first];
    }
    return back;
}

int yk_sim_restart_run(const struct yk_sim_trace *t, const struct yk_sim_opts *o, const struct yk_sim_restart *r,
                       struct yk_sim_restarted *ret, struct yk_err *err) {
    struct yk_sim_restart on_demand = *r;
    struct yk_sim_result other;
    uint32_t *hits = malloc(3 * (t->req_count + 1) * sizeof(*hits));
    if (hits == NULL)
        return yk_err_set(err, -YK_ENOMEM, "no memory for the hits of %llu requests", (unsigned long long)t->req_count);
    uint32_t *loads = hits + t->req_count, *fills = loads + t->req_count;
    on_demand.preload_per_s = 0;
    memset(ret, 0, sizeof(*ret));
    int rc = run_one(t, o, NULL, hits, &ret->never, err);
    if (rc == 0)
        rc = run_one(t, o, r, loads, &ret->preload, err);
    if (rc == 0)
        rc = run_one(t, o, &on_demand, fills, &other, err);
    if (rc == 0) {
        ret->preload_back = find_back(t, r, loads, hits);
        ret->demand_back = find_back(t, r, fills, hits);
    }
    free(hits);
    return rc;
}
