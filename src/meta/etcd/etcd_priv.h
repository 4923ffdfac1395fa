/* SPDX-License-Identifier: Apache-2.0
 *
 * The etcd backend's parts, which share one state:
 *
 *   etcd.c      ops table, life
 *   endpoint.c  which member is asked next; what is known about each
 *   request.c   a request of the core: tries at members until an answer counts
 *   auth.c      the token
 *   watch.c     a watch: check of the history, state, stream
 *   probe.c     members that carry watches are asked if they are well
 *
 * Thread: yolk-meta.
 */
#ifndef YK_META_ETCD_ETCD_PRIV_H
#define YK_META_ETCD_ETCD_PRIV_H

#include "meta/backend.h"
#include "meta/etcd/gateway.h"
#include "meta/etcd/http.h"

#ifdef __cplusplus
extern "C" {
#endif

#define YK_ENDPOINTS_MAX 32
#define YK_BIRTH_LEN     32u         /* hex digits */
#define YK_BODY_MAX      (64u << 20) /* of an answer or a line of a stream */

struct yk_etcd;

struct yk_endpoint {
    struct yk_etcd *etcd;
    char *url;
    unsigned fails;    /* in a row */
    uint64_t retry_ns; /* monotonic; not to be asked before, but for want of others */
    unsigned streams;  /* of watches */
    struct yk_http_call probe;
    struct yk_meta_timer probe_timer;
    uint64_t probe_seen; /* revision that was known when the probe left */
};

enum yk_auth_state {
    YK_AUTH_OFF, /* no user given, or etcd asks nobody */
    YK_AUTH_NONE,
    YK_AUTH_ASKING,
    YK_AUTH_HAVE
};

struct yk_try;
struct yk_etcd_watch;

struct yk_etcd {
    struct yk_meta *meta;
    const struct yk_meta_opts *opts;
    struct yk_http *http;
    struct yk_endpoint endpoints[YK_ENDPOINTS_MAX];
    unsigned count, current;
    uint64_t random; /* state of the generator for jitter */

    enum yk_auth_state auth;
    char *token;
    uint64_t token_number; /* counts tokens */
    struct yk_http_call auth_call;
    struct yk_endpoint *auth_at;
    struct yk_meta_timer auth_timer;
    TAILQ_HEAD(yk_tries, yk_try) waiting; /* for a token */

    /* What is known of the store's history; a new number means that it is another one. */
    uint64_t history, seen_revision;
    char birth[YK_BIRTH_LEN + 1];
    TAILQ_HEAD(, yk_etcd_watch) watches;
};

/* ---- endpoint.c ------------------------------------------------------------------------------- */

int yk_endpoints_parse(struct yk_etcd *etcd, const char *text, struct yk_err *err);
void yk_endpoints_free(struct yk_etcd *etcd);

/* Who is asked next. NULL: all are in back-off until *ret_retry_ns. */
struct yk_endpoint *yk_endpoint_pick(struct yk_etcd *etcd, uint64_t *ret_retry_ns);
void yk_endpoint_good(struct yk_endpoint *at);
/* Others are asked from now on, this one after a back-off that grows. */
void yk_endpoint_bad(struct yk_endpoint *at);

/* Back-off for the nth failure in a row, with jitter. */
uint64_t yk_etcd_backoff_ns(struct yk_etcd *etcd, unsigned fails);
uint64_t yk_etcd_random(struct yk_etcd *etcd);

/* "http://a:2379: WHY" */
void yk_endpoint_err(const struct yk_endpoint *at, struct yk_err *err, int code, const char *why);

/* ---- request.c -------------------------------------------------------------------------------- */

void yk_etcd_start(void *backend, struct yk_meta_req *req);
void yk_etcd_stop(void *backend, struct yk_meta_req *req);
void yk_try_go(struct yk_try *t);                                    /* now that there is a token */
void yk_try_refused(struct yk_try *t, int status, const char *text); /* there will be none */

/* Looks at a linearizable answer's header: did revisions fall since the question left? */
void yk_etcd_note(struct yk_etcd *etcd, const struct yk_gw_reply *reply, uint64_t seen_at_asking);

/* ---- auth.c ----------------------------------------------------------------------------------- */

bool yk_auth_ready(const struct yk_etcd *etcd);
void yk_auth_want(struct yk_etcd *etcd,
                  struct yk_try *t); /* calls yk_try_go or yk_try_refused later */
/* The token of this number was refused. */
void yk_auth_refused(struct yk_etcd *etcd, uint64_t number);
void yk_auth_fini(struct yk_etcd *etcd);

/* ---- watch.c, probe.c ------------------------------------------------------------------------- */

int yk_etcd_watch(void *backend, struct yk_meta_watch *watch);
void yk_etcd_unwatch(void *backend, struct yk_meta_watch *watch);

/* Streams at a member (NULL: all) are opened anew, where the history is checked first. */
void yk_watches_restart(struct yk_etcd *etcd, const struct yk_endpoint *at, int status,
                        const char *why);

/* The name of the history in the birth key's value. */
void yk_birth_of(const struct yk_meta_kv *kv, char ret_name[YK_BIRTH_LEN + 1]);

void yk_probe_stream_opened(struct yk_endpoint *at);
void yk_probe_stream_closed(struct yk_endpoint *at);

struct yk_try {
    struct yk_etcd *etcd;
    struct yk_meta_req *req;
    struct yk_endpoint *at;
    struct yk_http_call call;
    struct yk_meta_timer
        timer;    /* until the next try; or, while one is under way, until it is slow */
    bool waiting; /* for a token */
    bool may_repeat;
    unsigned slow;   /* tries that got no answer in time: the next ones get more */
    unsigned tokens; /* refused in a row */
    uint64_t token_number, seen, sent_boot_ms, first_sent_boot_ms;
    /* Pages of a range. */
    struct yk_meta_kv *kvs;
    size_t count;
    size_t bytes;
    uint64_t revision;
    unsigned restarts;
    TAILQ_ENTRY(yk_try) link;
};

#ifdef __cplusplus
}
#endif

#endif
