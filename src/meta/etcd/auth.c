/* SPDX-License-Identifier: Apache-2.0
 *
 * The token of etcd's user: asked for when the first request needs it, and again when etcd does not know it
 * any more (they end after minutes, with a member's restart, or when users change).
 *
 * A wrong password fails the requests that wait, and the next request asks again: the password may have
 * been set right in etcd meanwhile. An etcd that asks nobody for a password is fine.
 *
 * Thread: yolk-meta.
 */
#include "base/clock.h"
#include "meta/etcd/etcd_priv.h"

#include <stdlib.h>
#include <string.h>

static void ask(struct yk_etcd *etcd);

bool yk_auth_ready(const struct yk_etcd *etcd) {
    return etcd->auth == YK_AUTH_OFF || etcd->auth == YK_AUTH_HAVE;
}

static void set_token(struct yk_etcd *etcd, char *token) {
    if (etcd->token != NULL)
        explicit_bzero(etcd->token, strlen(etcd->token));
    free(etcd->token);
    etcd->token = token;
}

/* Only those who wait now: who begins to wait in between asks anew. */
static void release(struct yk_etcd *etcd, int status, const char *text) {
    struct yk_try *t, *last = TAILQ_LAST(&etcd->waiting, yk_tries);
    for (bool more = last != NULL; more && (t = TAILQ_FIRST(&etcd->waiting)) != NULL;) {
        more = t != last;
        TAILQ_REMOVE(&etcd->waiting, t, link);
        t->waiting = false;
        if (status < 0)
            yk_try_refused(t, status, text);
        else
            yk_try_go(t);
    }
}

static void ask_again(void *user) {
    struct yk_etcd *etcd = user;
    etcd->auth = YK_AUTH_NONE;
    if (!TAILQ_EMPTY(&etcd->waiting))
        ask(etcd);
}

/* Another member, at once or after its back-off. */
static void failed(struct yk_etcd *etcd, int code, const char *why) {
    struct yk_try *t;
    TAILQ_FOREACH(t, &etcd->waiting, link)
    yk_endpoint_err(etcd->auth_at, &t->req->trouble, code, why);
    yk_endpoint_bad(etcd->auth_at);
    ask_again(etcd);
}

static void have(struct yk_etcd *etcd, enum yk_auth_state state, char *token) {
    yk_endpoint_good(etcd->auth_at);
    set_token(etcd, token);
    etcd->token_number++;
    etcd->auth = state;
    release(etcd, 0, "");
}

static void judged(struct yk_etcd *etcd, struct yk_gw_reply *r) {
    struct yk_err text;
    char *token = r->token;
    r->token = NULL;
    if (r->meaning == YK_GW_NO_AUTH) {
        have(etcd, YK_AUTH_OFF, NULL);
    } else if (r->meaning == YK_GW_FINE && token != NULL) {
        have(etcd, YK_AUTH_HAVE, token);
        return;
    } else if (r->meaning == YK_GW_REFUSED) {
        yk_endpoint_err(etcd->auth_at, &text, r->status, r->error);
        yk_endpoint_good(etcd->auth_at);
        etcd->auth = YK_AUTH_NONE;
        release(etcd, r->status, text.text);
    } else {
        failed(etcd, -YK_EPROTO, r->error[0] != '\0' ? r->error : "the answer has no token");
    }
    free(token);
}

static void done(struct yk_http_call *call) {
    struct yk_etcd *etcd = call->user;
    struct yk_gw_limits limits = {.max_keys = 0, .max_bytes = 0};
    struct yk_gw_reply reply;
    struct yk_err err;
    etcd->auth = YK_AUTH_NONE;
    if (call->failed) {
        failed(etcd, call->err.code, call->err.text);
        return;
    }
    int rc =
        yk_gw_decode(yk_buf_text(&call->body), call->body.len, call->status, &limits, &reply, &err);
    yk_buf_fini(&call->body); /* the token */
    if (rc < 0) {
        failed(etcd, rc, err.text);
        return;
    }
    judged(etcd, &reply);
    yk_gw_reply_free(&reply);
}

static void ask(struct yk_etcd *etcd) {
    uint64_t retry_ns;
    struct yk_buf body;
    etcd->auth = YK_AUTH_ASKING;
    etcd->auth_at = yk_endpoint_pick(etcd, &retry_ns);
    if (etcd->auth_at == NULL) {
        yk_meta_timer_set(etcd->meta, &etcd->auth_timer, retry_ns);
        return;
    }
    yk_buf_init(&body, 65536);
    yk_gw_put_user(&body, etcd->opts->user, etcd->opts->password);
    /* Checking a password is slow on purpose (bcrypt), so it gets more time than others. */
    struct yk_http_ask a = {.base = etcd->auth_at->url,
                            .path = "/v3/auth/authenticate",
                            .body = yk_buf_text(&body),
                            .body_len = body.len,
                            .timeout_ms = 3 * etcd->opts->try_ms,
                            .connect_ms = etcd->opts->try_ms,
                            .max_bytes = 65536};
    int rc = body.status < 0 ? body.status : yk_etcd_http_start(etcd->http, &etcd->auth_call, &a);
    yk_buf_fini(&body);
    if (rc < 0)
        yk_meta_timer_set(etcd->meta, &etcd->auth_timer, yk_now_ns() + YK_NS_PER_S);
}

void yk_auth_want(struct yk_etcd *etcd, struct yk_try *t) {
    etcd->auth_timer.fn = ask_again;
    etcd->auth_timer.user = etcd;
    etcd->auth_call.on_done = done;
    etcd->auth_call.user = etcd;
    t->waiting = true;
    TAILQ_INSERT_TAIL(&etcd->waiting, t, link);
    if (etcd->auth == YK_AUTH_NONE)
        ask(etcd);
}

void yk_auth_refused(struct yk_etcd *etcd, uint64_t number) {
    if (number != etcd->token_number || !yk_auth_ready(etcd) || etcd->opts->user == NULL)
        return; /* there is a newer one already, or one is asked for */
    set_token(etcd, NULL);
    etcd->auth = YK_AUTH_NONE;
}

void yk_auth_fini(struct yk_etcd *etcd) {
    yk_meta_timer_stop(etcd->meta, &etcd->auth_timer);
    yk_etcd_http_stop(etcd->http, &etcd->auth_call);
    yk_buf_fini(&etcd->auth_call.body);
    set_token(etcd, NULL);
}
