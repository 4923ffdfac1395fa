/* SPDX-License-Identifier: Apache-2.0
 *
 * Traces into memory, with numbers for ids (src/sim/load.h).
 */
#include "sim/load.h"

#include "base/array.h"
#include "sched/policy.h"

#include <stdlib.h>
#include <string.h>

static uint64_t place_of(const struct yk_sim_trace *t, uint64_t id) {
    uint64_t at = (id + 1) * UINT64_C(0x9e3779b97f4a7c15);
    at = (at ^ at >> 32) & (t->table_size - 1);
    while (t->table[at] != 0 && t->id[t->table[at] - 1] != id)
        at = (at + 1) & (t->table_size - 1);
    return at;
}

/* Room for one more at half load. */
static int grow_table(struct yk_sim_trace *t) {
    if ((t->distinct + 1) * 2 <= t->table_size)
        return 0;
    uint64_t size = t->table_size != 0 ? t->table_size * 2 : 4096;
    uint32_t *table = calloc(size, sizeof(*table));
    if (table == NULL)
        return -YK_ENOMEM;
    free(t->table);
    t->table = table;
    t->table_size = size;
    for (uint64_t i = 0; i < t->distinct; i++)
        t->table[place_of(t, t->id[i])] = (uint32_t)i + 1;
    return 0;
}

/* The number of an id: 0 and *ret_number. */
static int number(struct yk_sim_trace *t, uint64_t id, uint32_t parent, uint32_t *ret_number) {
    uint64_t cap = t->distinct_cap;
    if (grow_table(t) < 0)
        return -YK_ENOMEM;
    uint64_t at = place_of(t, id);
    if (t->table[at] == 0) {
        if (t->distinct == YK_POLICY_IDS_MAX)
            return -YK_ETOOBIG;
        if (yk_array_room((void **)&t->id, sizeof(*t->id), t->distinct, 1, &cap) < 0 ||
            yk_array_room((void **)&t->parent, sizeof(*t->parent), t->distinct, 1, &t->distinct_cap) < 0)
            return -YK_ENOMEM;
        t->id[t->distinct] = id;
        t->parent[t->distinct] = parent;
        t->table[at] = (uint32_t)++t->distinct;
    }
    *ret_number = t->table[at] - 1;
    return 0;
}

int yk_sim_trace_add(struct yk_sim_trace *t, const struct yk_trace_req *req, struct yk_err *err) {
    uint32_t parent = YK_SIM_NONE;
    int rc = 0;
    if (t->block_count + req->n > YK_SIM_IDS_MAX || t->req_count == YK_SIM_REQS_MAX)
        return yk_err_set(err, -YK_ETOOBIG, "the trace has more than %llu block accesses or %llu requests",
                          (unsigned long long)YK_SIM_IDS_MAX, (unsigned long long)YK_SIM_REQS_MAX);
    if (yk_array_room((void **)&t->reqs, sizeof(*t->reqs), t->req_count, 1, &t->req_cap) < 0 ||
        yk_array_room((void **)&t->blocks, sizeof(*t->blocks), t->block_count, req->n, &t->block_cap) < 0)
        rc = -YK_ENOMEM;
    for (uint32_t i = 0; rc == 0 && i < req->n; i++) {
        rc = number(t, req->hash_ids[i], parent, &t->blocks[t->block_count + i]);
        if (rc == 0)
            parent = t->blocks[t->block_count + i];
    }
    if (rc < 0)
        return yk_err_set(err, rc, "no memory for a trace of %llu blocks, or more than %u different ones",
                          (unsigned long long)t->block_count, YK_POLICY_IDS_MAX);
    t->reqs[t->req_count++] = (struct yk_sim_req){.at_ms = req->timestamp_ms,
                                                  .first = t->block_count,
                                                  .n = req->n,
                                                  .input_length = req->input_length,
                                                  .output_length = req->output_length,
                                                  .stop = req->stop};
    t->block_count += req->n;
    return 0;
}

void yk_sim_trace_fini(struct yk_sim_trace *t) {
    free(t->reqs);
    free(t->blocks);
    free(t->parent);
    free(t->id);
    free(t->table);
    memset(t, 0, sizeof(*t));
}

static int add(void *arg, const struct yk_trace_req *req, struct yk_err *err) {
    return yk_sim_trace_add(arg, req, err);
}

int yk_sim_load(const char *path, struct yk_sim_trace *ret_trace, struct yk_err *err) {
    struct yk_sim_trace t = {0};
    int rc = yk_trace_each(path, 0, add, &t, err);
    if (rc < 0)
        yk_sim_trace_fini(&t);
    else
        *ret_trace = t;
    return rc;
}
