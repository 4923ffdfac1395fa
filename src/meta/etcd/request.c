/* SPDX-License-Identifier: Apache-2.0
 *
 * A request of the core, tried at one member after another until an answer counts or its deadline ends it
 * (the core's business).
 *
 * What counts: an answer, or a refusal that every member would give. A member that cannot be reached, has
 * no leader, or keeps us waiting is left for the next. A change that may have been made is tried again
 * only if twice is as good as once; one that must not be repeated stays with its member until the
 * deadline, since an answer that comes late is better than not knowing, and other requests go elsewhere
 * meanwhile.
 *
 * A range comes in pages, all of the first one's revision, from whichever members; if that revision is
 * compacted under way, the range begins anew.
 *
 * Thread: yolk-meta.
 */
#include "base/clock.h"
#include "meta/etcd/etcd_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOKENS_MAX       3    /* refused in a row before a member counts as bad */
#define RESTARTS_MAX     5    /* of a range */
#define PAST_DEADLINE_MS 1000 /* the core's deadline comes first, and knows what to say */

static void done(struct yk_http_call *call);

/* ---- ends ------------------------------------------------------------------------------------- */

static void try_free(struct yk_try *t) {
    if (t->waiting)
        TAILQ_REMOVE(&t->etcd->waiting, t, link);
    yk_meta_timer_stop(t->etcd->meta, &t->timer);
    yk_etcd_http_stop(t->etcd->http, &t->call);
    yk_buf_fini(&t->call.body);
    yk_gw_kvs_free(t->kvs, t->count);
    free(t);
}

void yk_etcd_stop(void *backend, struct yk_meta_req *req) {
    struct yk_try *t = req->state;
    if (t == NULL)
        return;
    /* What is under way may arrive after all. */
    req->unsure |= req->what == YK_META_DO_TXN && yk_http_active(&t->call);
    req->state = NULL;
    try_free(t);
}

static void end(struct yk_try *t, const struct yk_meta_result *result) {
    struct yk_meta_req *req = t->req;
    req->state = NULL;
    yk_meta_done(req, result);
    try_free(t);
}

void yk_try_refused(struct yk_try *t, int status, const char *text) {
    struct yk_meta_result r = {.status = status, .text = text};
    end(t, &r);
}

/* ---- trying ----------------------------------------------------------------------------------- */

static void again(void *user) {
    yk_try_go(user);
}

static void try_at(struct yk_try *t, uint64_t due_ns) {
    t->timer.fn = again;
    yk_meta_timer_set(t->etcd->meta, &t->timer, due_ns);
}

/* A change that is not to be repeated has waited for long: it stays, others go elsewhere. */
static void is_slow(void *user) {
    struct yk_try *t = user;
    yk_endpoint_err(t->at, &t->req->trouble, -YK_ETIMEDOUT, "sent, but not answered");
    yk_endpoint_bad(t->at);
}

static const char *path_of(enum yk_meta_what what) {
    static const char *const paths[] = {
        [YK_META_DO_RANGE] = "/v3/kv/range",      [YK_META_DO_TXN] = "/v3/kv/txn",
        [YK_META_DO_GRANT] = "/v3/lease/grant",   [YK_META_DO_KEEPALIVE] = "/v3/lease/keepalive",
        [YK_META_DO_REVOKE] = "/v3/lease/revoke",
    };
    return paths[what];
}

static void put_range(struct yk_try *t, struct yk_buf *buf) {
    const struct yk_meta_req *req = t->req;
    char to[YK_META_KEY_MAX];
    struct yk_gw_range r = {.key = req->key, .key_len = strlen(req->key), .revision = t->revision};
    if (req->prefix) {
        r.end_len = yk_gw_prefix_end(req->key, r.key_len, to);
        r.end = to;
        r.limit = t->etcd->opts->page_keys;
    }
    if (t->count > 0) { /* from behind the last key: its NUL is the next possible byte */
        r.key = t->kvs[t->count - 1].key;
        r.key_len = t->kvs[t->count - 1].key_len + 1;
    }
    yk_gw_put_range(buf, &r);
}

static void put_ask(struct yk_try *t, struct yk_buf *buf) {
    const struct yk_meta_req *req = t->req;
    if (req->what == YK_META_DO_RANGE)
        put_range(t, buf);
    else if (req->what == YK_META_DO_TXN)
        yk_gw_put_txn(buf, &req->txn);
    else if (req->what == YK_META_DO_GRANT)
        yk_gw_put_grant(buf, req->lease, (req->ttl_ms + 999) / 1000);
    else
        yk_gw_put_lease(buf, req->lease);
}

static void ask(struct yk_try *t) {
    const struct yk_meta_opts *o = t->etcd->opts;
    struct yk_buf body;
    uint64_t now = yk_now_ns();
    uint64_t left = t->req->deadline_ns > now ? (t->req->deadline_ns - now) / YK_NS_PER_MS + 1 : 1;
    uint64_t patience = (uint64_t)o->try_ms << (t->slow < 4 ? t->slow : 4);
    yk_buf_init(&body, 8u << 20);
    put_ask(t, &body);
    struct yk_http_ask ask = {
        .base = t->at->url,
        .path = path_of(t->req->what),
        .body = yk_buf_text(&body),
        .body_len = body.len,
        .token = t->etcd->token,
        .timeout_ms =
            (uint32_t)(t->may_repeat && patience < left ? patience : left + PAST_DEADLINE_MS),
        .connect_ms = o->try_ms,
        .max_bytes = YK_BODY_MAX,
        .fresh = !t->may_repeat};
    t->token_number = t->etcd->token_number;
    t->seen = t->etcd->seen_revision;
    t->sent_boot_ms = yk_boot_ms();
    if (t->first_sent_boot_ms == 0)
        t->first_sent_boot_ms = t->sent_boot_ms;
    int rc = body.status < 0 ? body.status : yk_etcd_http_start(t->etcd->http, &t->call, &ask);
    yk_buf_fini(&body);
    if (rc < 0) {
        yk_try_refused(t, rc, "no memory to ask etcd");
        return;
    }
    if (!t->may_repeat) {
        t->timer.fn = is_slow;
        yk_meta_timer_set(t->etcd->meta, &t->timer, now + o->try_ms * YK_NS_PER_MS);
    }
}

void yk_try_go(struct yk_try *t) {
    uint64_t retry_ns;
    if (!yk_auth_ready(t->etcd)) {
        yk_auth_want(t->etcd, t);
        return;
    }
    t->at = yk_endpoint_pick(t->etcd, &retry_ns);
    if (t->at == NULL)
        try_at(t, retry_ns);
    else
        ask(t);
}

/* The try came to nothing. */
static void failed(struct yk_try *t, bool maybe_made, bool member_bad, int code, const char *why) {
    struct yk_meta_req *req = t->req;
    yk_endpoint_err(t->at, &req->trouble, code, why);
    if (member_bad)
        yk_endpoint_bad(t->at);
    if (maybe_made && req->what == YK_META_DO_TXN) {
        req->unsure = true;
        if (!t->may_repeat) {
            struct yk_err text;
            yk_endpoint_err(t->at, &text, code, why);
            yk_try_refused(t, -YK_EGONE, text.text);
            return;
        }
    }
    yk_try_go(t);
}

/* ---- answers ---------------------------------------------------------------------------------- */

void yk_etcd_note(struct yk_etcd *etcd, const struct yk_gw_reply *reply, uint64_t seen_at_asking) {
    if (reply->revision == 0)
        return;
    if (reply->revision < seen_at_asking) {
        etcd->history++;
        etcd->seen_revision = reply->revision;
        etcd->birth[0] = '\0';
        yk_watches_restart(etcd, NULL, -YK_ESTALE, "etcd lost its history");
    } else if (reply->revision > etcd->seen_revision) {
        etcd->seen_revision = reply->revision;
    }
}

static void restart_range(struct yk_try *t, const char *why) {
    yk_gw_kvs_free(t->kvs, t->count);
    t->kvs = NULL;
    t->count = t->bytes = t->revision = 0;
    if (++t->restarts > RESTARTS_MAX)
        yk_try_refused(t, -YK_EIO, why);
    else
        yk_try_go(t);
}

/* Adds a page. False: the request has ended. */
static bool add_page(struct yk_try *t, struct yk_gw_reply *r) {
    const struct yk_meta_opts *o = t->etcd->opts;
    if (r->count > o->max_range_keys - t->count || r->bytes > o->max_range_bytes - t->bytes) {
        char text[160];
        snprintf(text, sizeof(text),
                 "more than %u keys or %u bytes under the prefix: remove some, or "
                 "raise the limit",
                 o->max_range_keys, o->max_range_bytes);
        yk_try_refused(t, -YK_ETOOBIG, text);
        return false;
    }
    struct yk_meta_kv *kvs = realloc(t->kvs, (t->count + r->count + 1) * sizeof(*kvs));
    if (kvs == NULL) {
        yk_try_refused(t, -YK_ENOMEM, "no memory for the answer");
        return false;
    }
    if (r->count > 0)
        memcpy(kvs + t->count, r->kvs, r->count * sizeof(*kvs));
    t->kvs = kvs;
    t->count += r->count;
    t->bytes += r->bytes;
    r->count = 0; /* what they point to is the try's now */
    return true;
}

static void range_answered(struct yk_try *t, struct yk_gw_reply *r) {
    bool more = r->more && r->count > 0 && t->req->prefix;
    if (t->revision == 0)
        t->revision = r->revision;
    if (!add_page(t, r))
        return;
    if (more) {
        yk_try_go(t);
        return;
    }
    struct yk_meta_result result = {.revision = t->revision, .kvs = t->kvs, .count = t->count};
    end(t, &result);
}

static void lease_answered(struct yk_try *t, const struct yk_gw_reply *r) {
    struct yk_meta_req *req = t->req;
    struct yk_meta_result result = {.revision = r->revision};
    req->sent_boot_ms = t->sent_boot_ms;
    req->answer_ttl_ms = r->ttl_s * 1000;
    if (r->meaning == YK_GW_EXISTS) { /* the answer to an earlier try was lost */
        req->sent_boot_ms = t->first_sent_boot_ms;
        req->answer_ttl_ms = req->ttl_ms;
    } else if (req->what != YK_META_DO_REVOKE && r->ttl_s == 0) {
        yk_try_refused(t, -YK_ENOENT, "the lease is not there any more");
        return;
    }
    end(t, &result);
}

static void answered(struct yk_try *t, struct yk_gw_reply *r) {
    enum yk_meta_what what = t->req->what;
    yk_endpoint_good(t->at);
    if (what == YK_META_DO_RANGE) {
        yk_etcd_note(t->etcd, r, t->seen);
        range_answered(t, r);
    } else if (what == YK_META_DO_TXN) {
        struct yk_meta_result result = {
            .done = r->succeeded, .revision = r->revision, .kvs = r->kvs, .count = r->count};
        yk_etcd_note(t->etcd, r, t->seen);
        end(t, &result);
    } else {
        lease_answered(t, r);
    }
}

static void judged(struct yk_try *t, struct yk_gw_reply *r) {
    struct yk_err text;
    yk_endpoint_err(t->at, &text, r->status, r->error);
    switch (r->meaning) {
    case YK_GW_FINE:
        answered(t, r);
        return;
    case YK_GW_EXISTS:
        if (t->req->what == YK_META_DO_GRANT)
            lease_answered(t, r);
        else
            yk_try_refused(t, -YK_EPROTO, text.text);
        return;
    case YK_GW_COMPACTED:
        yk_endpoint_good(t->at);
        restart_range(t, text.text);
        return;
    case YK_GW_TOKEN:
        if (t->etcd->opts->user == NULL) {
            yk_endpoint_err(t->at, &text, -YK_EPERM,
                            "it asks for a user and password; none were given");
            yk_try_refused(t, -YK_EPERM, text.text);
            return;
        }
        yk_auth_refused(t->etcd, t->token_number);
        failed(t, false, ++t->tokens > TOKENS_MAX, -YK_EPERM, r->error);
        return;
    case YK_GW_ELSEWHERE:
    case YK_GW_UNSURE:
    case YK_GW_NO_AUTH:
        failed(t, r->meaning == YK_GW_UNSURE, true, -YK_EIO, r->error);
        return;
    case YK_GW_REFUSED:
        yk_endpoint_good(t->at);
        yk_try_refused(t, r->status, text.text);
        return;
    }
}

static void done(struct yk_http_call *call) {
    struct yk_try *t = call->user;
    struct yk_gw_limits limits = {.max_keys = t->etcd->opts->max_range_keys + YK_META_TXN_MAX,
                                  .max_bytes = YK_BODY_MAX};
    struct yk_gw_reply reply;
    struct yk_err err;
    yk_meta_timer_stop(t->etcd->meta, &t->timer);
    if (call->failed) {
        t->slow += call->err.code == -YK_ETIMEDOUT;
        failed(t, call->sent, true, call->err.code, call->err.text);
        return;
    }
    int rc =
        yk_gw_decode(yk_buf_text(&call->body), call->body.len, call->status, &limits, &reply, &err);
    if (rc < 0) {
        /* Not etcd's words: a member that is none, or is starting. */
        failed(t, call->status == 200, true, rc, err.text);
        return;
    }
    judged(t, &reply);
    yk_gw_reply_free(&reply);
}

void yk_etcd_start(void *backend, struct yk_meta_req *req) {
    struct yk_etcd *etcd = backend;
    struct yk_try *t = calloc(1, sizeof(*t));
    if (t == NULL) {
        yk_meta_fail(req, -YK_ENOMEM, "no memory to ask etcd");
        return;
    }
    t->etcd = etcd;
    t->req = req;
    t->call.on_done = done;
    t->call.user = t;
    t->timer.user = t;
    t->may_repeat = req->what != YK_META_DO_TXN || req->txn.again;
    req->state = t;
    yk_try_go(t);
}
