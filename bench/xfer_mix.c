/* SPDX-License-Identifier: Apache-2.0
 *
 * Several classes at once on one segment: what each of them gets, and how long it waits for it.
 *
 * Each class has threads of its own, so that none waits behind another's batch in this program, and keeps its
 * weight times FLYING batches of each thread under way: an offer, of which the engine serves what it will. So
 * the classes compete all the time, and each row's ratio is what its class got of all bytes. What a byte costs in
 * processors cannot be told apart by class: one row has it of all.
 *
 * Threads: those that it makes; they share nothing but the engine.
 */
#include "bench/xfer_priv.h"

#include "base/clock.h"

#include <pthread.h>
#include <stdlib.h>

#define FLYING      2u
#define FLYING_MAX  64u /* 32 times that */
#define THREADS_MAX 16u /* of each class */

struct stream {
    const struct xfer_load *load;
    pthread_t thread;
    uint32_t xclass, flying;
    uint64_t first, blocks; /* its part of the memories, in blocks */
    uint64_t until_ns;
    uint64_t requests;      /* ended well */
    struct yk_hist hist;    /* of batches */
    int status;
};

static int batch_end(struct stream *s, yk_xfer_batch *batch, uint64_t begun_ns) {
    if (*batch == 0)
        return 0;
    int rc = yk_xfer_wait(s->load->side->engine, *batch, UINT32_MAX);
    yk_xfer_batch_free(s->load->side->engine, *batch);
    *batch = 0;
    yk_hist_record(&s->hist, yk_now_ns() - begun_ns);
    s->requests += rc == 0 ? s->load->batch : 0;
    return rc;
}

static void batch_fill(const struct stream *s, uint64_t *at, yk_xfer_request *requests) {
    const struct xfer_load *l = s->load;
    for (uint32_t n = 0; n < l->batch; n++, (*at)++) {
        uint64_t offset = (s->first + *at % s->blocks) * l->bytes;
        requests[n] = (yk_xfer_request){.op = l->op,
                                        .local = l->side->memory + offset,
                                        .segment = l->side->segment,
                                        .offset = offset,
                                        .length = l->bytes};
    }
}

static void *stream_main(void *arg) {
    struct stream *s = arg;
    yk_xfer_submit_opts so = {.size = sizeof(so), .xclass = s->xclass};
    yk_xfer_batch flying[FLYING_MAX] = {0};
    uint64_t begun_ns[FLYING_MAX] = {0}, at = 0;
    yk_xfer_request *requests = malloc(s->load->batch * sizeof(*requests));
    int rc = requests != NULL ? 0 : -YK_ENOMEM;
    for (uint32_t n = 0; rc == 0 && (n == 0 || yk_now_ns() < s->until_ns); n++) {
        uint32_t k = n % s->flying;
        rc = batch_end(s, &flying[k], begun_ns[k]);
        batch_fill(s, &at, requests);
        begun_ns[k] = yk_now_ns();
        if (rc == 0)
            rc = yk_xfer_submit(s->load->side->engine, requests, s->load->batch, &so, &flying[k]);
    }
    for (uint32_t k = 0; k < s->flying; k++) {
        int one = batch_end(s, &flying[k], begun_ns[k]);
        rc = rc == 0 ? one : rc;
    }
    free(requests);
    s->status = rc < 0 ? xfer_failed("transfer", rc) : 0;
    return NULL;
}

static void rows(struct yk_bench_run *run, const struct xfer_load *load, const struct stream *streams, uint32_t count,
                 double seconds, double cpu_s) {
    uint64_t all = 0;
    for (uint32_t i = 0; i < count; i++)
        all += streams[i].requests;
    for (uint32_t c = 0; c < YK_XFER_CLASSES; c++) {
        static struct yk_hist hist;
        char name[96];
        uint64_t requests = 0;
        yk_hist_reset(&hist);
        for (uint32_t i = 0; i < count; i++)
            if (streams[i].xclass == c) {
                requests += streams[i].requests;
                yk_hist_merge(&hist, &streams[i].hist);
            }
        if (run->opts->weights[c] == 0)
            continue;
        snprintf(name, sizeof(name), "%s:%u %s %llu bytes x %u, %u threads", xfer_class_names[c],
                 run->opts->weights[c], load->op == YK_XFER_READ ? "read" : "write",
                 (unsigned long long)load->bytes, load->batch, load->threads);
        struct yk_bench_row row = YK_BENCH_ROW(name, "B/s", (double)(requests * load->bytes) / seconds);
        row.limit = (double)(all * load->bytes) / seconds;
        yk_row_hist(&row, &hist);
        yk_bench_report_row(&run->report, &row);
    }
    xfer_cpu_of(run, "all classes", cpu_s, (double)(all * load->bytes));
}

/* Makes the threads of each class, as far as that goes. */
static int start(const struct yk_bench_run *run, const struct xfer_load *load, struct stream *streams,
                 uint32_t count, uint32_t *ret_made) {
    uint64_t part = XFER_FOOTPRINT / load->bytes / count, until = yk_now_ns() + (uint64_t)(run->seconds * 1e9);
    uint32_t n = 0;
    for (uint32_t c = 0; c < YK_XFER_CLASSES; c++)
        for (uint32_t k = 0; k < load->threads && run->opts->weights[c] > 0; k++, n++) {
            streams[n] = (struct stream){.load = load,
                                         .xclass = c,
                                         .flying = run->opts->weights[c] * FLYING,
                                         .first = n * part,
                                         .blocks = part,
                                         .until_ns = until};
            *ret_made = n;
            if (pthread_create(&streams[n].thread, NULL, stream_main, &streams[n]) != 0)
                return -YK_ELIMIT;
        }
    *ret_made = n;
    return 0;
}

int xfer_mix(struct yk_bench_run *run, const struct xfer_load *load) {
    uint32_t classes = 0, made = 0;
    for (uint32_t c = 0; c < YK_XFER_CLASSES; c++) {
        classes += run->opts->weights[c] > 0;
        if (run->opts->weights[c] * FLYING > FLYING_MAX)
            return -YK_EINVAL;
    }
    uint32_t count = classes * load->threads;
    if (load->threads > THREADS_MAX || XFER_FOOTPRINT / load->bytes < count) {
        fprintf(stderr, "yolk bench: a mix of %u classes by %u threads each takes %u blocks of %llu bytes, more than "
                        "256 MiB\n", classes, load->threads, count, (unsigned long long)load->bytes);
        return YK_BENCH_USAGE;
    }
    struct stream *streams = calloc(count, sizeof(*streams));
    if (streams == NULL)
        return -YK_ENOMEM;
    uint64_t begun = yk_now_ns();
    double cpu_s = yk_bench_cpu_s();
    int rc = start(run, load, streams, count, &made);
    for (uint32_t i = 0; i < made; i++)
        pthread_join(streams[i].thread, NULL);
    double seconds = (double)(yk_now_ns() - begun) / 1e9;
    for (uint32_t i = 0; i < made && rc == 0; i++)
        rc = streams[i].status;
    if (rc == 0)
        rows(run, load, streams, count, seconds, yk_bench_cpu_s() - cpu_s);
    free(streams);
    return rc;
}
