/* SPDX-License-Identifier: Apache-2.0
 *
 * The metrics page's part of the router, once there is one. Should the router be busy the page shows what it showed
 * before.
 *
 * Thread: the rendering one.
 */
#include "http/http_priv.h"

#define WAIT_MS 50u

typedef void (*sample_fn)(struct yk_metrics_page *page, const yk_route_figures *f);

static void one(struct yk_metrics_page *page, const char *label, const char *value, double n) {
    struct yk_label l = {label, value};
    yk_metrics_sample(page, &l, 1, n);
}

static void instances(struct yk_metrics_page *page, const yk_route_figures *f) {
    one(page, "state", "heard", f->instances - f->silent);
    one(page, "state", "silent", f->silent);
    one(page, "state", "other", f->others);
    one(page, "state", "node", f->nodes);
}

static void forgotten(struct yk_metrics_page *page, const yk_route_figures *f) {
    yk_metrics_sample(page, NULL, 0, (double)f->forgotten);
}

static void verdicts(struct yk_metrics_page *page, const yk_route_figures *f) {
    one(page, "verdict", "admit", (double)f->admitted);
    one(page, "verdict", "late_queue", (double)f->late_queue);
    one(page, "verdict", "late_work", (double)f->late_work);
    one(page, "verdict", "nobody", (double)f->unknown);
    one(page, "verdict", "all_refuse", (double)f->refused);
}

static void choices(struct yk_metrics_page *page, const yk_route_figures *f) {
    one(page, "why", "thrifty", (double)f->thrifty);
    one(page, "why", "drawn", (double)f->drawn);
}

static void decisions(struct yk_metrics_page *page, const yk_route_figures *f) {
    yk_metrics_sample(page, NULL, 0, (double)f->taken);
}

static void open_decisions(struct yk_metrics_page *page, const yk_route_figures *f) {
    yk_metrics_sample(page, NULL, 0, f->open);
}

static void outcomes(struct yk_metrics_page *page, const yk_route_figures *f) {
    one(page, "result", "learned", (double)f->outcomes);
    one(page, "result", "dropped", (double)f->dropped);
    one(page, "result", "stray", (double)f->strays);
}

static void hot(struct yk_metrics_page *page, const yk_route_figures *f) {
    one(page, "answer", "hot", (double)f->hot);
    one(page, "answer", "replicate", (double)f->replicate);
}

static void collect_kept(void *page_route, struct yk_metrics_page *page) {
    const struct http_route_page *p = page_route;
    if (p->is_there)
        yk_metrics_sample(page, NULL, 0, (double)yk_metric_get(p->kept));
}

static void hot_chains(struct yk_metrics_page *page, const yk_route_figures *f) {
    yk_metrics_sample(page, NULL, 0, f->hot_chains);
}

static void blocks(struct yk_metrics_page *page, const yk_route_figures *f) {
    yk_metrics_sample(page, NULL, 0, f->blocks);
}

static void part(struct yk_metrics_page *page, const char *name, const yk_route_error *e) {
    struct yk_label mean[] = {{"part", name}, {"stat", "mean"}}, p90[] = {{"part", name}, {"stat", "p90"}};
    if (e->outcomes == 0)
        return;
    yk_metrics_sample(page, mean, 2, e->mean);
    yk_metrics_sample(page, p90, 2, e->p90);
}

static void errors(struct yk_metrics_page *page, const yk_route_figures *f) {
    part(page, "queue", &f->queue);
    part(page, "transfer", &f->transfer);
    part(page, "compute", &f->compute);
    part(page, "ttft", &f->ttft);
}

static void feeds(struct yk_metrics_page *page, const yk_route_figures *f) {
    yk_metrics_sample(page, NULL, 0, f->feeds);
}

static void batches(struct yk_metrics_page *page, const yk_route_figures *f) {
    one(page, "result", "applied", (double)f->batches);
    one(page, "result", "replayed", (double)f->replayed);
    one(page, "result", "missed", (double)f->missed);
    one(page, "result", "malformed", (double)f->malformed);
}

static void event_blocks(struct yk_metrics_page *page, const yk_route_figures *f) {
    yk_metrics_sample(page, NULL, 0, (double)f->event_blocks);
}

static void breaks(struct yk_metrics_page *page, const yk_route_figures *f) {
    one(page, "kind", "gap", (double)f->gaps);
    one(page, "kind", "restart", (double)f->restarts);
    one(page, "kind", "forgotten", (double)f->lost);
}

#define COLLECT(fn)                                                                                                    \
    static void collect_##fn(void *page_route, struct yk_metrics_page *page) {                                         \
        const struct http_route_page *p = page_route;                                                                  \
        if (p->is_there)                                                                                               \
            fn(page, &p->now);                                                                                         \
    }
COLLECT(instances)
COLLECT(forgotten)
COLLECT(verdicts)
COLLECT(choices)
COLLECT(decisions)
COLLECT(open_decisions)
COLLECT(outcomes)
COLLECT(hot)
COLLECT(hot_chains)
COLLECT(blocks)
COLLECT(errors)
COLLECT(feeds)
COLLECT(batches)
COLLECT(event_blocks)
COLLECT(breaks)
#undef COLLECT

#define C YK_METRIC_COUNTER
#define G YK_METRIC_GAUGE

static const struct {
    struct yk_metric_desc d;
    yk_metrics_collect_fn fn;
} list[] = {
    {{"yolk_route_instances", "Engines that the router hears of, that are silent, others that hold blocks, and nodes that measure.", G, 0},
     collect_instances},
    {{"yolk_route_forgotten_total", "Of these, forgotten for their silence.", C, 0}, collect_forgotten},
    {{"yolk_route_requests_total",
      "Requests by verdict: admitted; rejected for the queues, or late even without them; none to serve it; all refuse.", C, 0},
     collect_verdicts},
    {{"yolk_route_not_quickest_total", "Of the admitted: where the quickest was not first, by why.", C, 0}, collect_choices},
    {{"yolk_route_decisions_total", "Admitted and taken.", C, 0}, collect_decisions},
    {{"yolk_route_open_decisions", "Decisions whose outcome was not told.", G, 0}, collect_open_decisions},
    {{"yolk_route_outcomes_total", "Outcomes that were told, by what became of them.", C, 0}, collect_outcomes},
    {{"yolk_route_hot_total", "Requests for chains that many ask for; of these, where a copy was worth keeping.", C, 0},
     collect_hot},
    {{"yolk_route_kept_blocks_total", "Blocks of hot chains of which nodes were asked to keep a copy.", C, 0}, collect_kept},
    {{"yolk_route_hot_chains", "Chains that many ask for now.", G, 0}, collect_hot_chains},
    {{"yolk_route_blocks", "Pairs of a block and who has it that are known.", G, 0}, collect_blocks},
    {{"yolk_route_error_ratio",
      "How far off predictions were of the last 512 outcomes, by part: the error by the actual time, mean and p90.", G, 0},
     collect_errors},
    {{"yolk_route_feeds", "Engines whose KV events are listened to.", G, 0}, collect_feeds},
    {{"yolk_route_event_batches_total",
      "Batches of KV events: applied (of these, sent again after a gap: replayed), never seen, malformed.", C, 0},
     collect_batches},
    {{"yolk_route_event_blocks_total", "Blocks in the applied ones.", C, 0}, collect_event_blocks},
    {{"yolk_route_event_breaks_total",
      "Gaps in the numbers, engines that began anew, and how often all that an engine had told was forgotten.", C, 0},
     collect_breaks},
};

int http_route_page_add(struct http_route_page *page, struct yk_metrics *metrics, struct yk_err *err) {
    int rc = 0;
    for (size_t i = 0; rc >= 0 && i < sizeof(list) / sizeof(list[0]); i++)
        rc = yk_metrics_add_collector(metrics, &list[i].d, list[i].fn, page, err);
    return rc;
}

void http_route_page_copy(struct http_route_page *page, yk_routes *routes) {
    yk_route_figures now = {.size = sizeof(now)};
    if (routes == NULL || yk_route_figures_get(routes, WAIT_MS, &now) != 0)
        return;
    page->now = now;
    page->is_there = true;
}
