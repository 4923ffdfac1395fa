/* SPDX-License-Identifier: Apache-2.0
 *
 * Is a member that carries watches still well, and is its history the one we know?
 *
 * A stream says nothing while nothing changes, and also when its member hangs or is cut off from the
 * others. So each member with streams is asked one thing again and again: the key that names the history
 * (watch.c), by a linearizable read, which takes a majority. No answer in time: its watches go to others.
 * Another name: the store was emptied or restored, and all watches begin anew.
 *
 * Thread: yolk-meta.
 */
#include "base/clock.h"
#include "meta/etcd/etcd_priv.h"

#include <string.h>

static void next(struct yk_endpoint *e) {
    yk_meta_timer_set(e->etcd->meta, &e->probe_timer,
                      yk_now_ns() + e->etcd->opts->probe_ms * YK_NS_PER_MS);
}

static void unwell(struct yk_endpoint *e, int code, const char *why) {
    struct yk_err text;
    yk_endpoint_err(e, &text, code, why);
    yk_endpoint_bad(e);
    yk_watches_restart(e->etcd, e, code, text.text);
}

static bool same_birth(const struct yk_etcd *etcd, const struct yk_gw_reply *r) {
    char name[YK_BIRTH_LEN + 1] = "";
    if (r->count == 1)
        yk_birth_of(&r->kvs[0], name);
    return strcmp(name, etcd->birth) == 0;
}

static void answered(struct yk_endpoint *e, const struct yk_gw_reply *r) {
    struct yk_etcd *etcd = e->etcd;
    if (r->meaning == YK_GW_TOKEN || r->meaning == YK_GW_REFUSED) {
        /* It has a majority, and the next request finds out about user and rights. */
        if (r->meaning == YK_GW_TOKEN)
            yk_auth_refused(etcd, etcd->token_number);
        yk_watches_restart(etcd, e, -YK_EPERM, r->error);
        return;
    }
    if (r->meaning != YK_GW_FINE) {
        unwell(e, -YK_EIO, r->error);
        return;
    }
    yk_endpoint_good(e);
    yk_etcd_note(etcd, r, e->probe_seen);
    if (etcd->birth[0] != '\0' && !same_birth(etcd, r)) {
        etcd->birth[0] = '\0';
        etcd->history++;
        etcd->seen_revision = r->revision;
        yk_watches_restart(etcd, NULL, -YK_ESTALE, "etcd has another history");
    }
}

static void done(struct yk_http_call *call) {
    struct yk_endpoint *e = call->user;
    struct yk_gw_limits limits = {.max_keys = 1, .max_bytes = YK_META_VALUE_MAX};
    struct yk_gw_reply reply;
    struct yk_err err;
    next(e);
    if (call->failed) {
        unwell(e, call->err.code, call->err.text);
        return;
    }
    int rc =
        yk_gw_decode(yk_buf_text(&call->body), call->body.len, call->status, &limits, &reply, &err);
    if (rc < 0) {
        unwell(e, rc, err.text);
        return;
    }
    answered(e, &reply);
    yk_gw_reply_free(&reply);
}

static void ask(void *user) {
    struct yk_endpoint *e = user;
    struct yk_etcd *etcd = e->etcd;
    struct yk_gw_range range = {.key = etcd->opts->birth_key,
                                .key_len = strlen(etcd->opts->birth_key)};
    struct yk_buf body;
    if (!yk_auth_ready(etcd)) {
        next(e);
        return;
    }
    yk_buf_init(&body, 4096);
    yk_gw_put_range(&body, &range);
    struct yk_http_ask a = {.base = e->url,
                            .path = "/v3/kv/range",
                            .body = yk_buf_text(&body),
                            .body_len = body.len,
                            .token = etcd->token,
                            .timeout_ms = etcd->opts->try_ms,
                            .connect_ms = etcd->opts->try_ms,
                            .max_bytes = 2 * YK_META_VALUE_MAX};
    e->probe_seen = etcd->seen_revision;
    if (body.status < 0 || yk_etcd_http_start(etcd->http, &e->probe, &a) < 0)
        next(e);
    yk_buf_fini(&body);
}

void yk_probe_stream_opened(struct yk_endpoint *e) {
    if (e->streams++ > 0)
        return;
    e->probe.on_done = done;
    e->probe.user = e;
    e->probe_timer.fn = ask;
    e->probe_timer.user = e;
    next(e);
}

void yk_probe_stream_closed(struct yk_endpoint *e) {
    if (--e->streams > 0)
        return;
    yk_meta_timer_stop(e->etcd->meta, &e->probe_timer);
    yk_etcd_http_stop(e->etcd->http, &e->probe);
    yk_buf_fini(&e->probe.body);
}
