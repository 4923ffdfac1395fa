/* SPDX-License-Identifier: Apache-2.0
 *
 * Batches in flight (xfer_priv.h): each thread has its own part of both memories and keeps `deep`
 * batches under way, so that the path never runs dry between two of them.
 *
 * Threads: those that it makes; they share nothing but the engine.
 */
#include "bench/xfer_priv.h"

#include "base/clock.h"

#include <pthread.h>
#include <stdlib.h>

#define THREADS_MAX 16u
#define DEEP_MAX    4u

struct worker {
    const struct xfer_load *load;
    pthread_t thread;
    uint64_t first, blocks; /* its part of the memories, in blocks */
    uint64_t todo;          /* requests */
    int status;
    uint64_t begun_ns[DEEP_MAX];
};

static uint32_t batch_fill(const struct worker *w, uint64_t *at, uint64_t *left,
                           yk_xfer_request *requests) {
    const struct xfer_load *l = w->load;
    uint32_t n = 0;
    for (; n < l->batch && *left > 0; n++, (*left)--, (*at)++) {
        uint64_t offset = (w->first + *at % w->blocks) * l->bytes;
        requests[n] = (yk_xfer_request){.op = l->op,
                                        .local = l->side->memory + offset,
                                        .segment = l->side->segment,
                                        .offset = offset,
                                        .length = l->bytes};
    }
    return n;
}

static int batch_end(const struct worker *w, yk_xfer_batch *batch, uint32_t k) {
    if (*batch == 0)
        return 0;
    int rc = yk_xfer_wait(w->load->side->engine, *batch, UINT32_MAX);
    yk_xfer_batch_free(w->load->side->engine, *batch);
    if (w->load->hist != NULL && w->load->threads == 1)
        yk_hist_record(w->load->hist, yk_now_ns() - w->begun_ns[k]);
    *batch = 0;
    return rc;
}

static void *worker_main(void *arg) {
    struct worker *w = arg;
    const struct xfer_load *l = w->load;
    yk_xfer_submit_opts so = {
        .size = sizeof(so), .xclass = l->xclass, .flags = YK_XFER_WILL_WAIT};
    yk_xfer_batch flying[DEEP_MAX] = {0};
    yk_xfer_request *requests = malloc(l->batch * sizeof(*requests));
    uint64_t at = 0, left = w->todo;
    int rc = requests != NULL ? 0 : -YK_ENOMEM;
    for (uint32_t k = 0; left > 0 && rc == 0; k = (k + 1) % l->deep) {
        rc = batch_end(w, &flying[k], k);
        uint32_t n = batch_fill(w, &at, &left, requests);
        w->begun_ns[k] = yk_now_ns();
        if (rc == 0)
            rc = yk_xfer_submit(l->side->engine, requests, n, &so, &flying[k]);
    }
    for (uint32_t k = 0; k < l->deep; k++) {
        int one = batch_end(w, &flying[k], k);
        rc = rc == 0 ? one : rc;
    }
    free(requests);
    w->status = rc;
    return NULL;
}

int xfer_load_many(struct yk_series *s, uint64_t i, uint64_t n) {
    const struct xfer_load *l = s->arg;
    struct worker workers[THREADS_MAX];
    uint32_t threads = l->threads < THREADS_MAX ? l->threads : THREADS_MAX, made = 1;
    uint64_t part = XFER_FOOTPRINT / l->bytes / threads;
    for (uint32_t k = 0; k < threads; k++)
        workers[k] = (struct worker){.load = l,
                                     .first = k * part,
                                     .blocks = part,
                                     .todo = n / threads + (k < n % threads)};
    for (; made < threads; made++)
        if (pthread_create(&workers[made].thread, NULL, worker_main, &workers[made]) != 0)
            break;
    int rc = made == threads ? 0 : -YK_ELIMIT;
    worker_main(&workers[0]);
    for (uint32_t k = 1; k < made; k++)
        pthread_join(workers[k].thread, NULL);
    for (uint32_t k = 0; k < made && rc == 0; k++)
        rc = workers[k].status;
    return rc < 0 ? xfer_failed("transfer", rc) : 0;
}

int xfer_load_one(void *arg, uint64_t i) {
    const struct xfer_load *l = arg;
    uint64_t offset = i % (XFER_FOOTPRINT / l->bytes) * l->bytes;
    yk_xfer_request r = {.op = l->op,
                         .local = l->side->memory + offset,
                         .segment = l->side->segment,
                         .offset = offset,
                         .length = l->bytes};
    yk_xfer_submit_opts so = {.size = sizeof(so), .xclass = l->xclass};
    int rc = yk_xfer_run(l->side->engine, &r, 1, &so);
    return rc < 0 ? xfer_failed("transfer", rc) : 0;
}
