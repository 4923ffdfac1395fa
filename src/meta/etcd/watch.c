/* SPDX-License-Identifier: Apache-2.0
 *
 * A watch over etcd: its stream, and how it goes on after one without a gap or a repetition.
 *
 *   PAUSE --back-off--> CHECK --history is the one we know--> OPEN --created--> STREAM
 *     ^                   | another one, or the first time:     |                 |
 *     |                   +--> STATE --told------------------->-+                 |
 *     +------------- any failure, any end of the stream ---------<----------------+
 *
 * PAUSE   the timer is set.
 * CHECK   a request is under way: the value of the birth key, or the transaction that makes it. Another
 *         value than before means another history: what was told no longer leads anywhere.
 * STATE   a request is under way: everything under the prefix.
 * OPEN    a stream at a member from revision `next` on, and the timer that ends its patience.
 * STREAM  the same, created; no timer: its member is probed (probe.c).
 *
 * Requests of CHECK and STATE may be answered by any member, since they are linearizable; a member that
 * lags behind holds the stream until it has the revision. What was compacted leads to STATE.
 *
 * A response that is a fragment may end inside a revision: what is of its last revision waits for the
 * rest, so whole revisions are told, and `next` is always the one after.
 *
 * Thread: yolk-meta.
 */
#include "base/clock.h"
#include "meta/etcd/etcd_priv.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum state { PAUSE, CHECK, STATE, OPEN, STREAM };

struct yk_etcd_watch {
    struct yk_etcd *etcd;
    struct yk_meta_watch *watch;
    enum state state;
    uint64_t history; /* that `next` is of; 0: none yet */
    bool compacted;   /* the state has to be told */
    struct yk_meta_req *req;
    struct yk_http_call call;
    struct yk_endpoint *at;
    struct yk_meta_timer timer;
    unsigned fails;
    uint64_t failing_since_ns; /* 0: it is well */
    /* Events of a revision that is not whole yet. */
    struct yk_meta_kv *held;
    size_t held_count, held_bytes;
    TAILQ_ENTRY(yk_etcd_watch) link;
};

static void check(void *user);

static void set_state(struct yk_etcd_watch *w, enum state state) {
    assert(state == PAUSE || state == CHECK || (state == STATE && w->state == CHECK) ||
           (state == OPEN && w->state <= STATE) || (state == STREAM && w->state == OPEN));
    w->state = state;
}

/* Ends what the state has under way. */
static void leave(struct yk_etcd_watch *w) {
    yk_meta_timer_stop(w->etcd->meta, &w->timer);
    if (w->req != NULL)
        yk_meta_req_drop(w->req);
    w->req = NULL;
    if (w->at != NULL)
        yk_probe_stream_closed(w->at);
    w->at = NULL;
    yk_etcd_http_stop(w->etcd->http, &w->call);
    yk_buf_fini(&w->call.body);
    yk_gw_kvs_free(w->held, w->held_count);
    w->held = NULL;
    w->held_count = w->held_bytes = 0;
}

static bool lasts(int status) {
    return status == -YK_EPERM || status == -YK_ETOOBIG || status == -YK_EVERSION ||
           status == -YK_ELIMIT;
}

/* From any state back to PAUSE. Users hear of it when it lasts: a member that dies is no trouble. */
static void retry(struct yk_etcd_watch *w, int status, const char *why) {
    uint64_t now = yk_now_ns(), patience = 2 * w->etcd->opts->try_ms * YK_NS_PER_MS;
    leave(w);
    set_state(w, PAUSE);
    w->fails++;
    if (w->failing_since_ns == 0)
        w->failing_since_ns = now;
    w->timer.fn = check;
    yk_meta_timer_set(w->etcd->meta, &w->timer,
                      w->fails == 1 ? now : now + yk_etcd_backoff_ns(w->etcd, w->fails));
    if (lasts(status) || now - w->failing_since_ns >= patience)
        yk_meta_tell_trouble(w->watch, status, why);
}

/* ---- the stream ------------------------------------------------------------------------------- */

static void impatient(void *user) {
    struct yk_etcd_watch *w = user;
    struct yk_err text;
    yk_endpoint_err(w->at, &text, -YK_ETIMEDOUT, "does not begin a watch");
    yk_endpoint_bad(w->at);
    retry(w, -YK_ETIMEDOUT, text.text);
}

static void stream_open(struct yk_etcd_watch *w) {
    struct yk_etcd *etcd = w->etcd;
    struct yk_buf body;
    uint64_t retry_ns;
    struct yk_endpoint *at = yk_endpoint_pick(etcd, &retry_ns);
    if (at == NULL || !yk_auth_ready(etcd)) {
        retry(w, -YK_EIO, "no member of etcd answers");
        return;
    }
    yk_buf_init(&body, 8192);
    yk_gw_put_watch(&body, w->watch->prefix, w->watch->next);
    struct yk_http_ask ask = {.base = at->url,
                              .path = "/v3/watch",
                              .body = yk_buf_text(&body),
                              .body_len = body.len,
                              .token = etcd->token,
                              .connect_ms = etcd->opts->try_ms,
                              .max_bytes = YK_BODY_MAX};
    int rc = body.status < 0 ? body.status : yk_etcd_http_start(etcd->http, &w->call, &ask);
    yk_buf_fini(&body);
    if (rc < 0) {
        retry(w, rc, "no memory for a watch");
        return;
    }
    set_state(w, OPEN);
    w->at = at;
    yk_probe_stream_opened(at);
    w->timer.fn = impatient;
    yk_meta_timer_set(etcd->meta, &w->timer, yk_now_ns() + etcd->opts->try_ms * YK_NS_PER_MS);
}

static void stream_is_good(struct yk_etcd_watch *w) {
    yk_meta_timer_stop(w->etcd->meta, &w->timer);
    set_state(w, STREAM);
    yk_endpoint_good(w->at);
    w->fails = 0;
    w->failing_since_ns = 0;
    yk_meta_tell_good(w->watch);
}

/* Adds the response's events to those held. False: no memory, or more than any transaction has. */
static bool hold(struct yk_etcd_watch *w, struct yk_gw_reply *r) {
    const struct yk_meta_opts *o = w->etcd->opts;
    if (r->count > o->max_range_keys - w->held_count || r->bytes > YK_BODY_MAX - w->held_bytes)
        return false;
    struct yk_meta_kv *kvs = realloc(w->held, (w->held_count + r->count) * sizeof(*kvs));
    if (kvs == NULL)
        return false;
    w->held_bytes += r->bytes;
    memcpy(kvs + w->held_count, r->kvs, r->count * sizeof(*kvs));
    w->held = kvs;
    w->held_count += r->count;
    r->count = 0; /* they are the watch's now */
    return true;
}

/* Tells the first n of those held. */
static void tell(struct yk_etcd_watch *w, size_t n) {
    size_t old = 0;
    while (old < n && w->held[old].mod_revision < w->watch->next)
        old++; /* told before */
    if (n > old)
        yk_meta_tell_changes(w->watch, w->held + old, n - old, w->held[n - 1].mod_revision);
    for (size_t i = 0; i < n; i++) {
        w->held_bytes -= w->held[i].key_len + w->held[i].value_len;
        free((char *)(uintptr_t)w->held[i].key);
    }
    w->held_count -= n;
    memmove(w->held, w->held + n, w->held_count * sizeof(*w->held));
}

static void events(struct yk_etcd_watch *w, struct yk_gw_reply *r) {
    bool fragment = r->fragment;
    if (r->count == 0 && (fragment || w->held_count == 0))
        return;
    if (r->count > 0 && !hold(w, r)) {
        retry(w, -YK_ELIMIT, "no memory for changes, or too many at one revision");
        return;
    }
    size_t n = w->held_count;
    for (size_t i = 1; i < n; i++)
        if (w->held[i].mod_revision < w->held[i - 1].mod_revision) {
            retry(w, -YK_EPROTO, "changes came out of order");
            return;
        }
    if (fragment)
        while (n > 0 && w->held[n - 1].mod_revision == w->held[w->held_count - 1].mod_revision)
            n--;
    if (n > 0)
        tell(w, n);
}

static void refused(struct yk_etcd_watch *w, const struct yk_gw_reply *r) {
    struct yk_err text;
    yk_endpoint_err(w->at, &text, r->status, r->error);
    if (r->meaning == YK_GW_TOKEN)
        yk_auth_refused(w->etcd, w->etcd->token_number);
    else if (r->meaning == YK_GW_ELSEWHERE || r->meaning == YK_GW_UNSURE)
        yk_endpoint_bad(w->at);
    retry(w, r->meaning == YK_GW_REFUSED ? r->status : -YK_EIO, text.text);
}

static void on_line(struct yk_http_call *call, const char *line, size_t len) {
    struct yk_etcd_watch *w = call->user;
    struct yk_gw_limits limits = {.max_keys = w->etcd->opts->max_range_keys,
                                  .max_bytes = YK_BODY_MAX};
    struct yk_gw_reply reply;
    struct yk_err err;
    int rc = yk_gw_decode(line, len, 200, &limits, &reply, &err);
    if (rc < 0) {
        struct yk_err text;
        yk_endpoint_err(w->at, &text, rc, err.text);
        yk_endpoint_bad(w->at);
        retry(w, rc, text.text);
        return;
    }
    if (reply.meaning != YK_GW_FINE) {
        refused(w, &reply);
    } else if (reply.canceled) {
        w->compacted |= reply.compact_revision > 0;
        retry(w, lasts(-YK_EPERM) && strstr(reply.error, "permission denied") ? -YK_EPERM : -YK_EIO,
              reply.error);
    } else {
        if (reply.created && w->state == OPEN)
            stream_is_good(w);
        if (w->state == STREAM)
            events(w, &reply);
    }
    yk_gw_reply_free(&reply);
}

static void on_done(struct yk_http_call *call) {
    struct yk_etcd_watch *w = call->user;
    struct yk_err text;
    yk_endpoint_err(w->at, &text, call->failed ? call->err.code : -YK_EIO,
                    call->failed ? call->err.text : "ended a watch");
    yk_endpoint_bad(w->at);
    retry(w, text.code, text.text);
}

/* ---- check and state -------------------------------------------------------------------------- */

static bool request(struct yk_etcd_watch *w, enum yk_meta_what what, const char *key,
                    yk_meta_fn fn) {
    w->req = yk_meta_req_new(w->etcd->meta, what, key, fn, w);
    if (w->req == NULL)
        retry(w, -YK_ENOMEM, "no memory for a watch");
    return w->req != NULL;
}

static void start_request(struct yk_etcd_watch *w) {
    yk_meta_req_start(w->req, yk_now_ns() + 4 * w->etcd->opts->try_ms * YK_NS_PER_MS);
}

static void got_state(void *user, const struct yk_meta_result *r) {
    struct yk_etcd_watch *w = user;
    w->req = NULL;
    if (r->status < 0) {
        retry(w, r->status, r->text);
        return;
    }
    if (w->history != w->etcd->history) { /* changed while it came */
        retry(w, -YK_ESTALE, "etcd has another history");
        return;
    }
    w->compacted = false;
    yk_meta_tell_state(w->watch, r->kvs, r->count, r->revision);
    stream_open(w);
}

/* The store's history is called by this name. */
static void checked(struct yk_etcd_watch *w, const char *name) {
    struct yk_etcd *etcd = w->etcd;
    if (strcmp(name, etcd->birth) != 0) {
        if (etcd->birth[0] != '\0') {
            etcd->history++;
            yk_watches_restart(etcd, NULL, -YK_ESTALE, "etcd has another history");
        }
        snprintf(etcd->birth, sizeof(etcd->birth), "%s", name);
    }
    if (w->history == 0 && w->watch->next != 0)
        w->history = etcd->history; /* from a revision: its user knows the history */
    if (w->history == etcd->history && w->watch->next != 0 && !w->compacted) {
        stream_open(w);
        return;
    }
    w->history = etcd->history;
    set_state(w, STATE);
    if (!request(w, YK_META_DO_RANGE, w->watch->prefix, got_state))
        return;
    w->req->prefix = true;
    start_request(w);
}

/* The birth key was made, by us or by another at the same time. */
static void named(void *user, const struct yk_meta_result *r) {
    struct yk_etcd_watch *w = user;
    w->req = NULL;
    if (r->status < 0)
        retry(w, r->status, r->text);
    else
        retry(w, 0, "the store has a name now");
}

static void make_name(struct yk_etcd_watch *w) {
    uint64_t random[2];
    char name[YK_BIRTH_LEN + 1];
    if (getrandom(random, sizeof(random), GRND_NONBLOCK) != (ssize_t)sizeof(random)) {
        random[0] = yk_etcd_random(w->etcd);
        random[1] = yk_etcd_random(w->etcd);
    }
    snprintf(name, sizeof(name), "%016llx%016llx", (unsigned long long)random[0],
             (unsigned long long)random[1]);
    struct yk_meta_compare absent = {.key = w->etcd->opts->birth_key, .field = YK_META_VERSION};
    struct yk_meta_change put = {
        .key = w->etcd->opts->birth_key, .value = name, .value_len = YK_BIRTH_LEN};
    struct yk_meta_txn txn = {
        .compares = &absent, .compare_count = 1, .changes = &put, .change_count = 1, .again = true};
    if (!request(w, YK_META_DO_TXN, NULL, named))
        return;
    if (yk_meta_req_txn(w->req, &txn) < 0)
        retry(w, -YK_ENOMEM, "no memory for a watch");
    else
        start_request(w);
}

static void got_name(void *user, const struct yk_meta_result *r) {
    struct yk_etcd_watch *w = user;
    char name[YK_BIRTH_LEN + 1] = "", text[YK_META_KEY_MAX + 64];
    w->req = NULL;
    if (r->status == 0 && r->count > 0)
        yk_birth_of(&r->kvs[0], name);
    if (r->status < 0) {
        retry(w, r->status, r->text);
    } else if (r->count == 0) {
        make_name(w);
    } else if (name[0] == '\0') {
        snprintf(text, sizeof(text), "the key '%s' holds nothing: remove it",
                 w->etcd->opts->birth_key);
        retry(w, -YK_EPROTO, text);
    } else {
        checked(w, name);
    }
}

static void check(void *user) {
    struct yk_etcd_watch *w = user;
    set_state(w, CHECK);
    if (request(w, YK_META_DO_RANGE, w->etcd->opts->birth_key, got_name))
        start_request(w);
}

void yk_birth_of(const struct yk_meta_kv *kv, char ret_name[YK_BIRTH_LEN + 1]) {
    snprintf(ret_name, YK_BIRTH_LEN + 1, "%.*s", (int)kv->value_len, (const char *)kv->value);
}

/* ---- for others ------------------------------------------------------------------------------- */

void yk_watches_restart(struct yk_etcd *etcd, const struct yk_endpoint *at, int status,
                        const char *why) {
    struct yk_etcd_watch *w;
    TAILQ_FOREACH(w, &etcd->watches, link)
    if (w->at != NULL && (at == NULL || w->at == at))
        retry(w, status, why);
}

int yk_etcd_watch(void *backend, struct yk_meta_watch *watch) {
    struct yk_etcd *etcd = backend;
    struct yk_etcd_watch *w = calloc(1, sizeof(*w));
    if (w == NULL)
        return -YK_ENOMEM;
    w->etcd = etcd;
    w->watch = watch;
    w->call.on_line = on_line;
    w->call.on_done = on_done;
    w->call.user = w;
    w->timer.user = w;
    watch->state = w;
    TAILQ_INSERT_TAIL(&etcd->watches, w, link);
    check(w);
    return 0;
}

void yk_etcd_unwatch(void *backend, struct yk_meta_watch *watch) {
    struct yk_etcd *etcd = backend;
    struct yk_etcd_watch *w = watch->state;
    leave(w);
    TAILQ_REMOVE(&etcd->watches, w, link);
    free(w);
}
