/* SPDX-License-Identifier: Apache-2.0
 *
 * Nodes' reports for the router (reports.h). Counters come, and rates are made of two looks: bytes by the time in which
 * any moved, so a link that rests keeps the rate that it showed.
 *
 * By asking and not by being told: a node need not know who routes, and a router that comes and goes leaves nothing
 * behind. Thread: its own; start and stop: main's.
 */
#include "reports.h"

#include "base/clock.h"
#include "base/log.h"
#include "dir/guest.h"
#include "wire/dir.h"

#include <yolk/route.h>

#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define ROUND_MS    1000u
#define ASK_MS      500u
#define NODES_MAX   1024u
#define ASKS_MAX    256u /* of a round; the others come in the next ones */
#define REST_ROUNDS 10u
#define BUSY_MIN_NS 100000.0 /* in less too little moved to tell a rate */
#define NICE        5

struct counts {
    uint64_t at_ns;
    uint64_t near_bytes, near_ns, far_bytes, far_ns, sent_bytes;
    uint64_t ssd_reads, ssd_ns, ssd_bytes;
};

struct member {
    char name[YK_ROUTE_NAME_MAX + 1], address[300], zone[YK_ROUTE_NAME_MAX + 1];
    struct yk_guest *guest;
    bool listed, has_counts;
    uint32_t rest;
    struct counts counts;
    double near_s, far_s, ssd_s, ssd_ms; /* as last seen */
};

struct yolkd_reports {
    const struct yk_dir *dir;
    const struct yk_http *http;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool ends;
    /* the thread's */
    struct yk_guest *self;
    struct member *members[NODES_MAX];
    uint32_t n, next;
};

/* ---- asking ----------------------------------------------------------------------------------- */

static json_t *ask(struct yk_guest **guest, const char *address, uint8_t what) {
    struct yk_err err;
    const void *body;
    uint32_t len;
    int rc = *guest == NULL ? yk_guest_open(address, ASK_MS, guest, &err) : 0;
    if (rc == 0)
        rc = yk_guest_ask(*guest, YK_DIR_INFO, &what, 1, ASK_MS, &body, &len, &err);
    json_t *answer = rc == 0 ? json_loadb(body, len, 0, NULL) : NULL;
    if (answer == NULL) {
        yk_guest_close(*guest);
        *guest = NULL;
    }
    return answer;
}

static const char *text_of(const json_t *o, const char *key) {
    const char *text = json_string_value(json_object_get(o, key));
    return text != NULL ? text : "";
}

static uint64_t number(const json_t *o, const char *key) {
    json_int_t n = json_integer_value(json_object_get(o, key));
    return n > 0 ? (uint64_t)n : 0;
}

/* ---- members ---------------------------------------------------------------------------------- */

static void member_free(struct member *m) {
    yk_guest_close(m->guest);
    free(m);
}

static struct member *member_of(struct yolkd_reports *r, const char *name) {
    for (uint32_t i = 0; i < r->n; i++)
        if (strcmp(r->members[i]->name, name) == 0)
            return r->members[i];
    struct member *m = r->n < NODES_MAX ? calloc(1, sizeof(*m)) : NULL;
    if (m == NULL)
        return NULL;
    snprintf(m->name, sizeof(m->name), "%s", name);
    r->members[r->n++] = m;
    return m;
}

/* Another life of a node is at another address, and counts from the beginning. */
static void take_member(struct yolkd_reports *r, const json_t *node) {
    const char *name = text_of(node, "name"), *address = text_of(node, "peers");
    if (name[0] == '\0' || address[0] == '\0' || strcmp(text_of(node, "state"), "member") != 0)
        return;
    struct member *m = member_of(r, name);
    if (m == NULL)
        return;
    m->listed = true;
    snprintf(m->zone, sizeof(m->zone), "%s", text_of(node, "zone"));
    if (strcmp(m->address, address) == 0)
        return;
    yk_guest_close(m->guest);
    m->guest = NULL;
    m->has_counts = false;
    m->rest = 0;
    snprintf(m->address, sizeof(m->address), "%s", address);
}

static void look_who_is_there(struct yolkd_reports *r) {
    json_t *info = ask(&r->self, yk_dir_address(r->dir), YK_DIR_INFO_ALL), *node;
    uint32_t kept = 0;
    size_t i;
    if (info == NULL)
        return;
    for (uint32_t k = 0; k < r->n; k++)
        r->members[k]->listed = false;
    json_array_foreach(json_object_get(info, "nodes"), i, node)
        take_member(r, node);
    json_decref(info);
    for (uint32_t k = 0; k < r->n; k++)
        if (r->members[k]->listed)
            r->members[kept++] = r->members[k];
        else
            member_free(r->members[k]);
    r->n = kept;
}

/* ---- what one measures ------------------------------------------------------------------------ */

static struct counts counts_of(const json_t *f) {
    const json_t *near = json_object_get(f, "near"), *far = json_object_get(f, "far"), *ssd = json_object_get(f, "ssd");
    return (struct counts){.at_ns = yk_now_ns(),
                           .near_bytes = number(near, "bytes"),
                           .near_ns = number(near, "busy_ns"),
                           .far_bytes = number(far, "bytes"),
                           .far_ns = number(far, "busy_ns"),
                           .sent_bytes = number(f, "sent_bytes"),
                           .ssd_reads = number(ssd, "reads"),
                           .ssd_ns = number(ssd, "read_ns"),
                           .ssd_bytes = number(ssd, "read_bytes")};
}

/* What came since the last look; one that counts from the beginning again has nothing. */
static double since(uint64_t now, uint64_t before) {
    return now > before ? (double)(now - before) : 0;
}

static void see_rate(double *rate, double bytes, double busy_ns) {
    if (busy_ns < BUSY_MIN_NS || bytes <= 0)
        return;
    double seen = bytes * 1e9 / busy_ns;
    *rate = *rate > 0 ? (*rate + seen) / 2 : seen;
}

static void see_ssd(struct member *m, const struct counts *now, const struct counts *was) {
    double reads = since(now->ssd_reads, was->ssd_reads), ns = since(now->ssd_ns, was->ssd_ns);
    see_rate(&m->ssd_s, since(now->ssd_bytes, was->ssd_bytes), ns);
    if (reads > 0)
        m->ssd_ms = ns / reads / 1e6;
}

static double load_of(double busy, double whole) {
    return whole > 0 ? busy < whole ? busy / whole : 1 : 0;
}

static void see(struct member *m, const json_t *f, yk_route_node_report *ret) {
    struct counts now = counts_of(f), was = m->counts;
    const json_t *ssd = json_object_get(f, "ssd");
    /* At the first look all that there was since its start: better than nothing. */
    if (!m->has_counts)
        was = (struct counts){.at_ns = now.at_ns};
    double ns = since(now.at_ns, was.at_ns), near_ns = since(now.near_ns, was.near_ns), far_ns = since(now.far_ns, was.far_ns);
    see_rate(&m->near_s, since(now.near_bytes, was.near_bytes), near_ns);
    see_rate(&m->far_s, since(now.far_bytes, was.far_bytes), far_ns);
    see_ssd(m, &now, &was);
    *ret = (yk_route_node_report){.size = sizeof(*ret), .name = m->name, .zone = m->zone[0] != '\0' ? m->zone : NULL,
                                  .near_bytes_per_s = m->near_s, .far_bytes_per_s = m->far_s,
                                  .ssd_bytes_per_s = m->ssd_s, .ssd_latency_ms = m->ssd_ms,
                                  .ssd_reads = (uint32_t)number(ssd, "reads_now"),
                                  .dram_bytes = number(f, "capacity_bytes"), .dram_free_bytes = number(f, "free_bytes"),
                                  .ssd_bytes = number(ssd, "capacity_bytes"), .ssd_free_bytes = number(ssd, "free_bytes")};
    if (m->has_counts) {
        ret->in_load = load_of(near_ns + far_ns, ns);
        ret->out_load = load_of(since(now.sent_bytes, was.sent_bytes) * 1e9, m->near_s * ns);
    }
    m->counts = now;
    m->has_counts = true;
}

static void look_at(struct yolkd_reports *r, struct member *m, struct yk_routes *routes) {
    static struct yk_log_limit limit = YK_LOG_LIMIT_INIT(60000);
    yk_route_node_report report;
    if (m->rest > 0) {
        m->rest--;
        return;
    }
    json_t *f = ask(&m->guest, m->address, YK_DIR_INFO_FIGURES);
    if (f == NULL) {
        m->rest = REST_ROUNDS;
        return;
    }
    see(m, f, &report);
    json_decref(f);
    if (yk_route_node(routes, &report) < 0)
        yk_log_limited(&limit, YK_LOG_WARN, "yolkd", "the router does not take a node's report: %s", yk_route_error_text());
}

/* ---- the thread ------------------------------------------------------------------------------- */

/* False: it is over. */
static bool wait_a_round(struct yolkd_reports *r) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ROUND_MS / 1000;
    pthread_mutex_lock(&r->lock);
    int rc = 0;
    while (!r->ends && rc == 0)
        rc = pthread_cond_timedwait(&r->changed, &r->lock, &until);
    bool ends = r->ends;
    pthread_mutex_unlock(&r->lock);
    return !ends;
}

static bool is_over(struct yolkd_reports *r) {
    pthread_mutex_lock(&r->lock);
    bool ends = r->ends;
    pthread_mutex_unlock(&r->lock);
    return ends;
}

static void *run(void *arg) {
    struct yolkd_reports *r = arg;
    pthread_setname_np(pthread_self(), "yolkd-reports");
    setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE); /* Linux: of this thread */
    while (wait_a_round(r)) {
        struct yk_routes *routes = yk_http_routes(r->http);
        if (routes == NULL)
            continue;
        look_who_is_there(r);
        uint32_t asks = r->n < ASKS_MAX ? r->n : ASKS_MAX;
        for (uint32_t i = 0; i < asks && !is_over(r); i++)
            look_at(r, r->members[r->next++ % r->n], routes);
    }
    return NULL;
}

int yolkd_reports_start(const struct yk_dir *dir, const struct yk_http *http, struct yolkd_reports **ret, struct yk_err *err) {
    struct yolkd_reports *r = calloc(1, sizeof(*r));
    pthread_condattr_t attr;
    if (r == NULL)
        return yk_err_set(err, -YK_ENOMEM, "out of memory");
    r->dir = dir;
    r->http = http;
    pthread_mutex_init(&r->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&r->changed, &attr);
    pthread_condattr_destroy(&attr);
    if (pthread_create(&r->thread, NULL, run, r) != 0) {
        free(r);
        return yk_err_set(err, -YK_ENOMEM, "no thread for nodes' reports");
    }
    *ret = r;
    return 0;
}

void yolkd_reports_stop(struct yolkd_reports *r) {
    if (r == NULL)
        return;
    pthread_mutex_lock(&r->lock);
    r->ends = true;
    pthread_cond_signal(&r->changed);
    pthread_mutex_unlock(&r->lock);
    pthread_join(r->thread, NULL);
    for (uint32_t i = 0; i < r->n; i++)
        member_free(r->members[i]);
    yk_guest_close(r->self);
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->changed);
    free(r);
}
