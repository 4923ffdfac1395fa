/* SPDX-License-Identifier: Apache-2.0
 *
 * Traces into memory (src/replay/load.h).
 */
#include "replay/load.h"

#include "base/array.h"

#include <stdlib.h>
#include <string.h>

int yk_replay_trace_add(struct yk_replay_trace *t, const struct yk_trace_req *req,
                        struct yk_err *err) {
    if (t->id_count + req->n > YK_REPLAY_IDS_MAX)
        return yk_err_set(err, -YK_ETOOBIG,
                          "the trace has more than %llu ids: replay part of it (--requests)",
                          (unsigned long long)YK_REPLAY_IDS_MAX);
    if (yk_array_room((void **)&t->reqs, sizeof(*t->reqs), t->req_count, 1, &t->req_cap) < 0 ||
        yk_array_room((void **)&t->ids, sizeof(*t->ids), t->id_count, req->n, &t->id_cap) < 0)
        return yk_err_set(err, -YK_ENOMEM, "out of memory for a trace of %llu ids",
                          (unsigned long long)t->id_count);
    if (req->n > 0)
        memcpy(t->ids + t->id_count, req->hash_ids, req->n * sizeof(*t->ids));
    t->reqs[t->req_count++] = (struct yk_replay_req){.at_ms = req->timestamp_ms,
                                                     .first = t->id_count,
                                                     .session = req->session,
                                                     .n = req->n,
                                                     .input_length = req->input_length,
                                                     .output_length = req->output_length,
                                                     .stop = req->stop};
    t->id_count += req->n;
    return 0;
}

void yk_replay_trace_fini(struct yk_replay_trace *t) {
    free(t->reqs);
    free(t->ids);
    memset(t, 0, sizeof(*t));
}

static int add(void *arg, const struct yk_trace_req *req, struct yk_err *err) {
    return yk_replay_trace_add(arg, req, err);
}

int yk_replay_load(const char *path, uint64_t max_requests, struct yk_replay_trace *ret_trace,
                   struct yk_err *err) {
    struct yk_replay_trace t = {0};
    int rc = yk_trace_each(path, max_requests, add, &t, err);
    if (rc < 0)
        yk_replay_trace_fini(&t);
    else
        *ret_trace = t;
    return rc;
}

int yk_replay_generate(const struct yk_trace_gen_opts *opts, struct yk_replay_trace *ret_trace,
                       struct yk_err *err) {
    struct yk_replay_trace t = {0};
    struct yk_trace_req req;
    struct yk_trace_gen *gen;
    int rc = yk_trace_gen_new(opts, &gen, err);
    if (rc < 0)
        return rc;
    while ((rc = yk_trace_gen_next(gen, &req, err)) == 1) {
        rc = yk_replay_trace_add(&t, &req, err);
        if (rc < 0)
            break;
    }
    yk_trace_gen_free(gen);
    if (rc < 0) {
        yk_replay_trace_fini(&t);
        return rc;
    }
    *ret_trace = t;
    return 0;
}
