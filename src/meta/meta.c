/* SPDX-License-Identifier: Apache-2.0
 *
 * The core of the metadata (meta.h): one thread that owns everything, a mailbox by which others reach it,
 * timers, and the way of a request from its caller to the backend and back.
 *
 * A mailbox under a mutex, and not a ring without locks: metadata is a few messages a second. Requests are
 * allocated one by one for the same reason; their number is limited.
 *
 * Threads: public functions run on any and only post; what is static here runs on yolk-meta.
 */
#include "base/clock.h"
#include "meta/meta_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct yk_meta_opts *yk_meta_opts_of(const struct yk_meta *meta) {
    return &meta->opts;
}

const char *yk_meta_backend_name(const struct yk_meta *meta) {
    return meta->ops->name;
}

/* ---- mailbox ---------------------------------------------------------------------------------- */

int yk_meta_post(struct yk_meta *meta, struct yk_meta_msg *msg) {
    pthread_mutex_lock(&meta->lock);
    bool closed = meta->stop;
    if (!closed)
        STAILQ_INSERT_TAIL(&meta->mailbox, msg, link);
    pthread_mutex_unlock(&meta->lock);
    if (closed)
        return -YK_ECLOSED;
    meta->ops->wake(meta->backend);
    return 0;
}

/* False when the metadata shall end. */
static bool run_mailbox(struct yk_meta *meta) {
    STAILQ_HEAD(, yk_meta_msg) taken = STAILQ_HEAD_INITIALIZER(taken);
    pthread_mutex_lock(&meta->lock);
    STAILQ_CONCAT(&taken, &meta->mailbox);
    bool stop = meta->stop;
    pthread_mutex_unlock(&meta->lock);
    struct yk_meta_msg *msg;
    while ((msg = STAILQ_FIRST(&taken)) != NULL) {
        STAILQ_REMOVE_HEAD(&taken, link);
        msg->fn(msg);
    }
    return !stop;
}

/* ---- timers ----------------------------------------------------------------------------------- */

void yk_meta_timer_stop(struct yk_meta *meta, struct yk_meta_timer *timer) {
    if (timer->due_ns != 0)
        TAILQ_REMOVE(&meta->timers, timer, link);
    timer->due_ns = 0;
}

void yk_meta_timer_set(struct yk_meta *meta, struct yk_meta_timer *timer, uint64_t due_ns) {
    yk_meta_timer_stop(meta, timer);
    timer->due_ns = due_ns != 0 ? due_ns : 1;
    struct yk_meta_timer *before = TAILQ_LAST(&meta->timers, yk_meta_timers);
    while (before != NULL && before->due_ns > timer->due_ns)
        before = TAILQ_PREV(before, yk_meta_timers, link);
    if (before != NULL)
        TAILQ_INSERT_AFTER(&meta->timers, before, timer, link);
    else
        TAILQ_INSERT_HEAD(&meta->timers, timer, link);
}

static void run_timers(struct yk_meta *meta) {
    uint64_t now = yk_now_ns();
    struct yk_meta_timer *t;
    while ((t = TAILQ_FIRST(&meta->timers)) != NULL && t->due_ns <= now) {
        yk_meta_timer_stop(meta, t);
        t->fn(t->user);
    }
}

#define WAIT_MAX_MS 1000 /* no need to wake up; it only bounds what a lost wake-up could cost */

static int wait_ms(const struct yk_meta *meta) {
    const struct yk_meta_timer *t = TAILQ_FIRST(&meta->timers);
    uint64_t now = yk_now_ns();
    if (t == NULL || t->due_ns >= now + WAIT_MAX_MS * YK_NS_PER_MS)
        return WAIT_MAX_MS;
    return t->due_ns <= now ? 0 : (int)((t->due_ns - now + YK_NS_PER_MS - 1) / YK_NS_PER_MS);
}

/* ---- requests --------------------------------------------------------------------------------- */

/* It no longer counts; its callback may ask for the next. */
static void uncount(struct yk_meta_req *req) {
    if (!req->internal)
        __atomic_fetch_sub(&req->meta->requests, 1, __ATOMIC_RELAXED); /* pairs with submit */
    req->internal = true;
}

static void req_free(struct yk_meta_req *req) {
    uncount(req);
    free(req->key);
    free(req->txn_copy);
    free(req);
}

static void req_unlink(struct yk_meta_req *req) {
    yk_meta_timer_stop(req->meta, &req->timer);
    if (req->started)
        TAILQ_REMOVE(&req->meta->reqs, req, link);
    req->started = false;
}

void yk_meta_done(struct yk_meta_req *req, const struct yk_meta_result *result) {
    struct yk_meta_result r = *result;
    r.unsure = r.status < 0 && req->unsure;
    if (r.text == NULL)
        r.text = "";
    req_unlink(req);
    uncount(req);
    req->fn(req->user, &r);
    req_free(req);
}

void yk_meta_fail(struct yk_meta_req *req, int status, const char *text) {
    struct yk_meta_result r = {.status = status, .text = text};
    yk_meta_done(req, &r);
}

void yk_meta_req_drop(struct yk_meta_req *req) {
    if (req->started)
        req->meta->ops->stop(req->meta->backend, req);
    req_unlink(req);
    req_free(req);
}

static void expired(void *user) {
    struct yk_meta_req *req = user;
    char text[YK_ERR_TEXT_MAX + 64];
    req->meta->ops->stop(req->meta->backend, req);
    snprintf(text, sizeof(text), "no answer within %u ms%s%s", req->timeout_ms,
             req->trouble.text[0] != '\0' ? "; " : "", req->trouble.text);
    yk_meta_fail(req, -YK_ETIMEDOUT, text);
}

void yk_meta_req_start(struct yk_meta_req *req, uint64_t deadline_ns) {
    uint64_t now = yk_now_ns();
    if (req->timeout_ms == 0)
        req->timeout_ms = deadline_ns > now ? (uint32_t)((deadline_ns - now) / YK_NS_PER_MS) : 0;
    req->deadline_ns = deadline_ns;
    req->timer.fn = expired;
    req->timer.user = req;
    req->started = true;
    TAILQ_INSERT_TAIL(&req->meta->reqs, req, link);
    yk_meta_timer_set(req->meta, &req->timer, deadline_ns);
    req->meta->ops->start(req->meta->backend, req);
}

struct yk_meta_req *yk_meta_req_new(struct yk_meta *meta, enum yk_meta_what what, const char *key,
                                    yk_meta_fn fn, void *user) {
    struct yk_meta_req *req = calloc(1, sizeof(*req));
    if (req == NULL || (key != NULL && (req->key = strdup(key)) == NULL)) {
        free(req);
        return NULL;
    }
    req->meta = meta;
    req->what = what;
    req->internal = true;
    req->fn = fn;
    req->user = user;
    return req;
}

static const void *put_away(char **at, const void *data, size_t len, bool text) {
    char *copy = *at;
    if (len > 0)
        memcpy(copy, data, len);
    if (text)
        copy[len++] = '\0';
    *at += len;
    return copy;
}

int yk_meta_req_txn(struct yk_meta_req *req, const struct yk_meta_txn *txn) {
    size_t bytes =
        txn->compare_count * sizeof(*txn->compares) + txn->change_count * sizeof(*txn->changes);
    for (uint32_t i = 0; i < txn->compare_count; i++)
        bytes += strlen(txn->compares[i].key) + 1 + txn->compares[i].value_len;
    for (uint32_t i = 0; i < txn->change_count; i++)
        bytes += strlen(txn->changes[i].key) + 1 + txn->changes[i].value_len;
    char *at = req->txn_copy = malloc(bytes);
    if (at == NULL)
        return -YK_ENOMEM;
    struct yk_meta_compare *compares = (void *)at;
    struct yk_meta_change *changes = (void *)(compares + txn->compare_count);
    at = (char *)(changes + txn->change_count);
    for (uint32_t i = 0; i < txn->compare_count; i++) {
        compares[i] = txn->compares[i];
        compares[i].key = put_away(&at, compares[i].key, strlen(compares[i].key), true);
        compares[i].value = put_away(&at, compares[i].value, compares[i].value_len, false);
    }
    for (uint32_t i = 0; i < txn->change_count; i++) {
        changes[i] = txn->changes[i];
        changes[i].key = put_away(&at, changes[i].key, strlen(changes[i].key), true);
        changes[i].value = put_away(&at, changes[i].value, changes[i].value_len, false);
    }
    req->txn = *txn;
    req->txn.compares = compares;
    req->txn.changes = changes;
    return 0;
}

static void start_posted(struct yk_meta_msg *msg) {
    struct yk_meta_req *req = (void *)((char *)msg - offsetof(struct yk_meta_req, msg));
    yk_meta_req_start(req, req->deadline_ns);
}

static int submit(struct yk_meta *meta, struct yk_meta_req *req, uint32_t timeout_ms) {
    int rc = 0;
    if (req == NULL)
        return -YK_ENOMEM;
    if (__atomic_fetch_add(&meta->requests, 1, __ATOMIC_RELAXED) >= meta->opts.max_requests)
        rc = -YK_EAGAIN;
    req->internal = false;
    req->timeout_ms = timeout_ms;
    req->deadline_ns = yk_now_ns() + timeout_ms * YK_NS_PER_MS;
    req->msg.fn = start_posted;
    if (rc == 0)
        rc = yk_meta_post(meta, &req->msg);
    if (rc < 0)
        req_free(req);
    return rc;
}

static int check(const char *key, uint32_t timeout_ms, yk_meta_fn fn) {
    if (fn == NULL || timeout_ms == 0 || timeout_ms > YK_META_TIMEOUT_MAX_MS)
        return -YK_EINVAL;
    return yk_meta_check_key(key);
}

int yk_meta_get(struct yk_meta *meta, const char *key, uint32_t timeout_ms, yk_meta_fn fn,
                void *user) {
    int rc = check(key, timeout_ms, fn);
    return rc < 0
               ? rc
               : submit(meta, yk_meta_req_new(meta, YK_META_DO_RANGE, key, fn, user), timeout_ms);
}

int yk_meta_range(struct yk_meta *meta, const char *prefix, uint32_t timeout_ms, yk_meta_fn fn,
                  void *user) {
    int rc = check(prefix, timeout_ms, fn);
    if (rc < 0)
        return rc;
    struct yk_meta_req *req = yk_meta_req_new(meta, YK_META_DO_RANGE, prefix, fn, user);
    if (req != NULL)
        req->prefix = true;
    return submit(meta, req, timeout_ms);
}

int yk_meta_txn(struct yk_meta *meta, const struct yk_meta_txn *txn, uint32_t timeout_ms,
                yk_meta_fn fn, void *user) {
    int rc = check("-", timeout_ms, fn);
    if (rc < 0 || (rc = yk_meta_check_txn(txn)) < 0)
        return rc;
    struct yk_meta_req *req = yk_meta_req_new(meta, YK_META_DO_TXN, NULL, fn, user);
    if (req != NULL && yk_meta_req_txn(req, txn) < 0) {
        free(req);
        req = NULL;
    }
    return submit(meta, req, timeout_ms);
}

int yk_meta_put(struct yk_meta *meta, const char *key, const void *value, uint32_t value_len,
                uint64_t lease, uint32_t timeout_ms, yk_meta_fn fn, void *user) {
    struct yk_meta_change change = {
        .key = key, .value = value, .value_len = value_len, .lease = lease};
    struct yk_meta_txn txn = {.changes = &change, .change_count = 1, .again = true};
    return yk_meta_txn(meta, &txn, timeout_ms, fn, user);
}

int yk_meta_delete(struct yk_meta *meta, const char *key, uint32_t timeout_ms, yk_meta_fn fn,
                   void *user) {
    struct yk_meta_change change = {.key = key, .remove = true};
    struct yk_meta_txn txn = {.changes = &change, .change_count = 1, .again = true};
    return yk_meta_txn(meta, &txn, timeout_ms, fn, user);
}

/* ---- life ------------------------------------------------------------------------------------- */

static void end_all(struct yk_meta *meta) {
    struct yk_meta_election *e;
    struct yk_meta_lease *l;
    struct yk_meta_req *r;
    while ((e = TAILQ_FIRST(&meta->elections)) != NULL)
        yk_meta_election_end(e);
    while ((l = TAILQ_FIRST(&meta->leases)) != NULL)
        yk_meta_lease_end(l, -YK_ECANCELED, "the metadata was closed");
    yk_meta_watches_end(meta);
    while ((r = TAILQ_FIRST(&meta->reqs)) != NULL) {
        meta->ops->stop(meta->backend, r);
        yk_meta_fail(r, -YK_ECANCELED, "the metadata was closed");
    }
}

static void *thread_main(void *arg) {
    struct yk_meta *meta = arg;
    while (run_mailbox(meta)) {
        run_timers(meta);
        meta->ops->turn(meta->backend, wait_ms(meta));
    }
    end_all(meta);
    return NULL;
}

static const char **const_strings(struct yk_meta_opts *o, unsigned i) {
    const char **all[] = {&o->endpoints, &o->user,     &o->password, &o->ca_file,
                          &o->cert_file, &o->key_file, &o->birth_key};
    return i < sizeof(all) / sizeof(all[0]) ? all[i] : NULL;
}

static void free_opts(struct yk_meta_opts *o) {
    const char **s;
    for (unsigned i = 0; (s = const_strings(o, i)) != NULL; i++)
        free((char *)(uintptr_t)*s);
}

static void default_to(uint32_t *value, uint32_t otherwise) {
    if (*value == 0)
        *value = otherwise;
}

static int copy_opts(struct yk_meta_opts *to, const struct yk_meta_opts *from, struct yk_err *err) {
    const char **s;
    *to = *from;
    default_to(&to->max_requests, 256);
    default_to(&to->max_watches, 64);
    default_to(&to->max_range_keys, 65536);
    default_to(&to->max_range_bytes, 64u << 20);
    default_to(&to->page_keys, 1000);
    default_to(&to->try_ms, 1000);
    default_to(&to->probe_ms, 1000);
    default_to(&to->max_history, 4096);
    if (to->birth_key == NULL)
        to->birth_key = "yolk/birth";
    int rc = yk_meta_check_opts(to, err);
    for (unsigned i = 0; (s = const_strings(to, i)) != NULL; i++)
        if (rc < 0)
            *s = NULL;
        else if (*s != NULL && (*s = strdup(*s)) == NULL)
            rc = yk_err_set(err, -YK_ENOMEM, "no memory for options");
    return rc;
}

static void dispose(struct yk_meta *meta) {
    if (meta->backend != NULL)
        meta->ops->close(meta->backend);
    free_opts(&meta->opts);
    pthread_mutex_destroy(&meta->lock);
    free(meta);
}

static int choose(struct yk_meta *meta, struct yk_err *err) {
    if (meta->opts.endpoints == NULL || meta->opts.endpoints[0] == '\0') {
        meta->ops = &yk_meta_embedded;
        return 0;
    }
#ifdef YK_HAVE_CURL
    meta->ops = &yk_meta_etcd;
    return 0;
#else
    return yk_err_set(
        err, -YK_ENOTSUP,
        "etcd endpoints were given, but this program was built without libcurl: build it "
        "with libcurl4-openssl-dev installed");
#endif
}

int yk_meta_open(const struct yk_meta_opts *opts, struct yk_meta **ret_meta, struct yk_err *err) {
    static const struct yk_meta_opts defaults;
    struct yk_meta *meta = calloc(1, sizeof(*meta));
    if (meta == NULL)
        return yk_err_set(err, -YK_ENOMEM, "no memory for metadata");
    pthread_mutex_init(&meta->lock, NULL);
    STAILQ_INIT(&meta->mailbox);
    TAILQ_INIT(&meta->reqs);
    TAILQ_INIT(&meta->watch_list);
    TAILQ_INIT(&meta->leases);
    TAILQ_INIT(&meta->elections);
    TAILQ_INIT(&meta->timers);
    int rc = copy_opts(&meta->opts, opts != NULL ? opts : &defaults, err);
    if (rc == 0)
        rc = choose(meta, err);
    if (rc == 0)
        rc = meta->ops->open(meta, &meta->opts, &meta->backend, err);
    if (rc == 0) {
        int no = pthread_create(&meta->thread, NULL, thread_main, meta);
        if (no != 0)
            rc = yk_err_set(err, -yk_status_from_errno(no), "cannot start the thread yolk-meta: %s",
                            strerror(no));
    }
    if (rc < 0) {
        dispose(meta);
        return rc;
    }
    pthread_setname_np(meta->thread, "yolk-meta");
    *ret_meta = meta;
    return 0;
}

void yk_meta_close(struct yk_meta *meta) {
    if (meta == NULL)
        return;
    pthread_mutex_lock(&meta->lock);
    meta->stop = true;
    pthread_mutex_unlock(&meta->lock);
    meta->ops->wake(meta->backend);
    pthread_join(meta->thread, NULL);
    dispose(meta);
}
