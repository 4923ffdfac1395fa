/* SPDX-License-Identifier: Apache-2.0
 *
 * The metadata of a node that is alone: a sorted table in memory, with the semantics that etcd has.
 *
 * Keys and values are blobs that table and history share by count. The history is a ring of the last
 * changes; a watch from before it gets the state anew, as with a compacted etcd. A transaction allocates
 * all it needs before it changes anything, so that it happens whole or not at all. An array that is moved
 * on insertion, not a tree: this holds thousands of keys, and changes a few times a second.
 *
 * Thread: yolk-meta, but for wake.
 */
#include "base/clock.h"
#include "meta/backend.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct blob {
    uint32_t refs;
    char data[]; /* key, NUL, value */
};

struct item {
    struct yk_meta_kv kv; /* key and value lie in blob */
    struct blob *blob;
};

struct grant {
    uint64_t id, ttl_ms, until_boot_ms;
};

struct embedded {
    struct yk_meta *meta;
    int event_fd;
    uint64_t revision;
    struct item *items; /* by key */
    size_t count, cap;
    struct item *history; /* ring: the changes (first + i) % max_history */
    size_t first, changes, max_history;
    uint64_t complete_from; /* the history has all changes from this revision on */
    struct grant *grants;
    size_t grant_count, grant_cap;
    struct yk_meta_timer timer; /* the next lease to end */
    struct yk_meta_kv *scratch; /* what is told */
    size_t scratch_cap;
    TAILQ_HEAD(, watched) watches;
};

struct watched {
    struct yk_meta_watch *watch;
    bool state_first;
    TAILQ_ENTRY(watched) link;
};

/* ---- table ------------------------------------------------------------------------------------ */

static struct blob *blob_new(const char *key, const void *value, uint32_t value_len) {
    size_t key_len = strlen(key);
    struct blob *b = malloc(sizeof(*b) + key_len + 1 + value_len);
    if (b == NULL)
        return NULL;
    b->refs = 1;
    memcpy(b->data, key, key_len + 1);
    if (value_len > 0)
        memcpy(b->data + key_len + 1, value, value_len);
    return b;
}

static void blob_unref(struct blob *b) {
    if (b != NULL && --b->refs == 0)
        free(b);
}

/* Place of the first key that is not below key. */
static size_t lower_bound(const struct embedded *e, const char *key) {
    size_t lo = 0, hi = e->count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (strcmp(e->items[mid].kv.key, key) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static struct item *find(struct embedded *e, const char *key) {
    size_t at = lower_bound(e, key);
    return at < e->count && strcmp(e->items[at].kv.key, key) == 0 ? &e->items[at] : NULL;
}

static bool begins(const char *key, const char *prefix) {
    return strncmp(key, prefix, strlen(prefix)) == 0;
}

static bool grow(void *array, size_t *cap, size_t wanted, size_t item_bytes) {
    void **p = array;
    if (wanted <= *cap)
        return true;
    size_t n = wanted * 2;
    void *bigger = realloc(*p, n * item_bytes);
    if (bigger == NULL)
        return false;
    *p = bigger;
    *cap = n;
    return true;
}

/* Takes over item's reference. */
static void remember(struct embedded *e, struct item item) {
    if (e->changes == e->max_history) {
        struct item *oldest = &e->history[e->first];
        e->complete_from = oldest->kv.mod_revision + 1;
        blob_unref(oldest->blob);
        e->first = (e->first + 1) % e->max_history;
        e->changes--;
    }
    e->history[(e->first + e->changes++) % e->max_history] = item;
}

static void remove_at(struct embedded *e, size_t at) {
    struct item old = e->items[at];
    memmove(&e->items[at], &e->items[at + 1], (e->count - at - 1) * sizeof(*e->items));
    e->count--;
    old.kv = (struct yk_meta_kv){.key = old.kv.key,
                                 .key_len = old.kv.key_len,
                                 .value = old.kv.value,
                                 .mod_revision = e->revision + 1,
                                 .deleted = true};
    remember(e, old);
}

/* There is room for one more. */
static void put(struct embedded *e, const struct yk_meta_change *c, struct blob *blob) {
    size_t at = lower_bound(e, c->key);
    struct yk_meta_kv kv = {.create_revision = e->revision + 1};
    if (at < e->count && strcmp(e->items[at].kv.key, c->key) == 0) {
        kv = e->items[at].kv;
        blob_unref(e->items[at].blob);
    } else {
        memmove(&e->items[at + 1], &e->items[at], (e->count - at) * sizeof(*e->items));
        e->count++;
    }
    kv.key_len = (uint32_t)strlen(c->key);
    kv.key = blob->data;
    kv.value = blob->data + kv.key_len + 1;
    kv.value_len = c->value_len;
    kv.mod_revision = e->revision + 1;
    kv.version++;
    kv.lease = c->lease;
    e->items[at] = (struct item){.kv = kv, .blob = blob};
    blob->refs++;
    remember(e, e->items[at]);
}

/* ---- leases ----------------------------------------------------------------------------------- */

static struct grant *grant_of(struct embedded *e, uint64_t id) {
    for (size_t i = 0; i < e->grant_count; i++)
        if (e->grants[i].id == id)
            return &e->grants[i];
    return NULL;
}

static void end_grant(struct embedded *e, struct grant *g) {
    uint64_t id = g->id;
    size_t before = e->count;
    *g = e->grants[--e->grant_count];
    for (size_t i = e->count; i-- > 0;)
        if (e->items[i].kv.lease == id)
            remove_at(e, i);
    if (e->count != before)
        e->revision++;
}

/* Ends what is over, and sets the timer to the next. */
static void expire(void *user) {
    struct embedded *e = user;
    uint64_t now = yk_boot_ms(), next = UINT64_MAX;
    for (size_t i = 0; i < e->grant_count;)
        if (e->grants[i].until_boot_ms <= now) {
            end_grant(e, &e->grants[i]);
        } else {
            next = e->grants[i].until_boot_ms < next ? e->grants[i].until_boot_ms : next;
            i++;
        }
    if (next != UINT64_MAX)
        yk_meta_timer_set(e->meta, &e->timer, yk_now_ns() + (next - now) * YK_NS_PER_MS);
}

static void do_lease(struct embedded *e, struct yk_meta_req *req) {
    struct grant *g = grant_of(e, req->lease);
    uint64_t now = yk_boot_ms();
    if (req->what == YK_META_DO_GRANT && g == NULL) {
        if (!grow(&e->grants, &e->grant_cap, e->grant_count + 1, sizeof(*e->grants))) {
            yk_meta_fail(req, -YK_ENOMEM, "no memory for a lease");
            return;
        }
        g = &e->grants[e->grant_count++];
        *g = (struct grant){.id = req->lease, .ttl_ms = req->ttl_ms};
    }
    if (g == NULL) {
        yk_meta_fail(req, -YK_ENOENT, "the lease is not there any more");
        return;
    }
    g->until_boot_ms = now + g->ttl_ms;
    req->sent_boot_ms = now;
    req->answer_ttl_ms = g->ttl_ms;
    if (req->what == YK_META_DO_REVOKE)
        end_grant(e, g);
    expire(e);
    struct yk_meta_result r = {.revision = e->revision};
    yk_meta_done(req, &r);
}

/* ---- transactions ----------------------------------------------------------------------------- */

static bool related(int order, enum yk_meta_rel rel) {
    switch (rel) {
    case YK_META_EQUAL:
        return order == 0;
    case YK_META_NOT_EQUAL:
        return order != 0;
    case YK_META_LESS:
        return order < 0;
    default:
        return order > 0;
    }
}

static bool holds(struct embedded *e, const struct yk_meta_compare *c) {
    static const struct yk_meta_kv absent;
    const struct item *item = find(e, c->key);
    const struct yk_meta_kv *kv = item != NULL ? &item->kv : &absent;
    if (c->field == YK_META_VALUE) {
        uint32_t n = kv->value_len < c->value_len ? kv->value_len : c->value_len;
        int order = n > 0 ? memcmp(kv->value, c->value, n) : 0;
        if (order == 0)
            order = (kv->value_len > c->value_len) - (kv->value_len < c->value_len);
        return item != NULL && related(order, c->rel);
    }
    uint64_t has = c->field == YK_META_MOD_REVISION      ? kv->mod_revision
                   : c->field == YK_META_CREATE_REVISION ? kv->create_revision
                                                         : kv->version;
    return related((has > c->number) - (has < c->number), c->rel);
}

static void tell_compared(struct embedded *e, struct yk_meta_req *req) {
    struct yk_meta_kv kvs[YK_META_TXN_MAX];
    struct yk_meta_result r = {.revision = e->revision, .kvs = kvs};
    for (uint32_t i = 0; i < req->txn.compare_count; i++) {
        const struct item *item = find(e, req->txn.compares[i].key);
        if (item != NULL)
            kvs[r.count++] = item->kv;
    }
    yk_meta_done(req, &r);
}

static void apply(struct embedded *e, const struct yk_meta_change *c, struct blob *blob) {
    if (!c->remove) {
        put(e, c, blob);
        return;
    }
    size_t at = lower_bound(e, c->key);
    while (at < e->count && (c->prefix ? begins(e->items[at].kv.key, c->key)
                                       : strcmp(e->items[at].kv.key, c->key) == 0))
        remove_at(e, at);
}

static bool changes_something(struct embedded *e, const struct yk_meta_change *c) {
    size_t at = lower_bound(e, c->key);
    return !c->remove || (at < e->count && (c->prefix ? begins(e->items[at].kv.key, c->key)
                                                      : strcmp(e->items[at].kv.key, c->key) == 0));
}

static void do_txn(struct embedded *e, struct yk_meta_req *req) {
    const struct yk_meta_txn *txn = &req->txn;
    struct blob *blobs[YK_META_TXN_MAX] = {NULL};
    struct yk_meta_result r = {.done = true};
    bool some = false;
    for (uint32_t i = 0; i < txn->compare_count; i++)
        if (!holds(e, &txn->compares[i])) {
            tell_compared(e, req);
            return;
        }
    for (uint32_t i = 0; i < txn->change_count && r.status == 0; i++) {
        const struct yk_meta_change *c = &txn->changes[i];
        if (!c->remove && c->lease != 0 && grant_of(e, c->lease) == NULL) {
            r.status = -YK_ENOENT;
            r.text = "the lease is not there any more";
        } else if (!c->remove && (blobs[i] = blob_new(c->key, c->value, c->value_len)) == NULL)
            r.status = -YK_ENOMEM;
        some |= changes_something(e, c);
    }
    if (!grow(&e->items, &e->cap, e->count + txn->change_count, sizeof(*e->items)))
        r.status = -YK_ENOMEM;
    if (r.status == -YK_ENOMEM)
        r.text = "no memory for the change";
    for (uint32_t i = 0; i < txn->change_count; i++)
        if (r.status == 0)
            apply(e, &txn->changes[i], blobs[i]);
        else
            blob_unref(blobs[i]);
    r.done = r.status == 0;
    e->revision += r.done && some ? 1 : 0;
    r.revision = e->revision;
    yk_meta_done(req, &r);
}

/* ---- reading ---------------------------------------------------------------------------------- */

/* What is under prefix, in scratch; -YK_ENOMEM, -YK_ETOOBIG. */
static int collect(struct embedded *e, const char *prefix, size_t *ret_count) {
    const struct yk_meta_opts *o = yk_meta_opts_of(e->meta);
    size_t n = 0, bytes = 0;
    for (size_t at = lower_bound(e, prefix); at < e->count && begins(e->items[at].kv.key, prefix);
         at++) {
        const struct yk_meta_kv *kv = &e->items[at].kv;
        bytes += kv->key_len + kv->value_len;
        if (n >= o->max_range_keys || bytes > o->max_range_bytes)
            return -YK_ETOOBIG;
        if (!grow(&e->scratch, &e->scratch_cap, n + 1, sizeof(*e->scratch)))
            return -YK_ENOMEM;
        e->scratch[n++] = *kv;
    }
    *ret_count = n;
    return 0;
}

static void do_range(struct embedded *e, struct yk_meta_req *req) {
    struct yk_meta_result r = {.revision = e->revision};
    const struct item *item;
    if (req->prefix) {
        r.status = collect(e, req->key, &r.count);
        r.kvs = e->scratch;
        r.text =
            r.status == -YK_ETOOBIG ? "more keys or bytes under the prefix than max_range_..." : "";
    } else if ((item = find(e, req->key)) != NULL) {
        r.kvs = &item->kv;
        r.count = 1;
    }
    yk_meta_done(req, &r);
}

static void start(void *backend, struct yk_meta_req *req) {
    struct embedded *e = backend;
    expire(e);
    if (req->what == YK_META_DO_RANGE)
        do_range(e, req);
    else if (req->what == YK_META_DO_TXN)
        do_txn(e, req);
    else
        do_lease(e, req);
}

static void stop(void *backend, struct yk_meta_req *req) {} /* nothing is ever under way */

/* ---- watches ---------------------------------------------------------------------------------- */

static int watch(void *backend, struct yk_meta_watch *w) {
    struct embedded *e = backend;
    struct watched *at = calloc(1, sizeof(*at));
    if (at == NULL)
        return -YK_ENOMEM;
    at->watch = w;
    at->state_first = w->next == 0;
    w->state = at;
    TAILQ_INSERT_TAIL(&e->watches, at, link);
    return 0;
}

static void unwatch(void *backend, struct yk_meta_watch *w) {
    struct embedded *e = backend;
    struct watched *at = w->state;
    TAILQ_REMOVE(&e->watches, at, link);
    free(at);
}

static void tell_state(struct embedded *e, struct watched *at) {
    size_t count;
    int rc = collect(e, at->watch->prefix, &count);
    if (rc == 0) {
        at->state_first = false;
        yk_meta_tell_state(at->watch, e->scratch, count, e->revision);
    } else {
        yk_meta_tell_trouble(at->watch, rc,
                             rc == -YK_ETOOBIG
                                 ? "more keys or bytes under the prefix than max_range_..."
                                 : "no memory for the state");
    }
}

static void tell_news(struct embedded *e, struct watched *at) {
    size_t n = 0;
    for (size_t i = 0; i < e->changes; i++) {
        const struct item *item = &e->history[(e->first + i) % e->max_history];
        if (item->kv.mod_revision < at->watch->next || !begins(item->kv.key, at->watch->prefix))
            continue;
        if (!grow(&e->scratch, &e->scratch_cap, n + 1, sizeof(*e->scratch)))
            return; /* next turn */
        e->scratch[n++] = item->kv;
        if (item->kv.deleted)
            e->scratch[n - 1].value = NULL;
    }
    yk_meta_tell_changes(at->watch, e->scratch, n, e->revision);
}

static bool needs_state(const struct embedded *e, const struct watched *at) {
    return at->state_first || at->watch->next < e->complete_from;
}

static bool has_news(const struct embedded *e) {
    const struct watched *at;
    TAILQ_FOREACH(at, &e->watches, link)
    if (!at->watch->in_trouble && (needs_state(e, at) || at->watch->next <= e->revision))
        return true;
    return false;
}

static void turn(void *backend, int wait_ms) {
    struct embedded *e = backend;
    struct watched *at;
    struct pollfd p = {.fd = e->event_fd, .events = POLLIN};
    uint64_t wakes;
    if (poll(&p, 1, has_news(e) ? 0 : wait_ms) > 0)
        (void)!read(e->event_fd, &wakes, sizeof(wakes));
    TAILQ_FOREACH(at, &e->watches, link) {
        if (needs_state(e, at))
            tell_state(e, at);
        else if (at->watch->next <= e->revision)
            tell_news(e, at);
    }
}

static void wake(void *backend) {
    struct embedded *e = backend;
    uint64_t one = 1;
    (void)!write(e->event_fd, &one, sizeof(one)); /* full: it is awake already */
}

/* ---- life ------------------------------------------------------------------------------------- */

static void embedded_close(void *backend) {
    struct embedded *e = backend;
    for (size_t i = 0; i < e->count; i++)
        blob_unref(e->items[i].blob);
    for (size_t i = 0; e->history != NULL && i < e->changes; i++)
        blob_unref(e->history[(e->first + i) % e->max_history].blob);
    if (e->event_fd >= 0)
        close(e->event_fd);
    free(e->items);
    free(e->history);
    free(e->grants);
    free(e->scratch);
    free(e);
}

static int embedded_open(struct yk_meta *meta, const struct yk_meta_opts *opts, void **ret_backend,
                         struct yk_err *err) {
    struct embedded *e = calloc(1, sizeof(*e));
    if (e == NULL)
        return yk_err_set(err, -YK_ENOMEM, "no memory for metadata");
    e->meta = meta;
    e->revision = 1; /* as an empty etcd */
    e->max_history = opts->max_history;
    e->history = calloc(e->max_history, sizeof(*e->history));
    e->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    e->timer.fn = expire;
    e->timer.user = e;
    TAILQ_INIT(&e->watches);
    if (e->history == NULL || e->event_fd < 0) {
        int rc = e->history == NULL ? -YK_ENOMEM : -yk_status_from_errno(errno);
        embedded_close(e);
        return yk_err_set(err, rc, "cannot make the metadata's table: %s", yk_status_text(rc));
    }
    *ret_backend = e;
    return 0;
}

const struct yk_meta_backend yk_meta_embedded = {
    .name = "embedded",
    .open = embedded_open,
    .close = embedded_close,
    .start = start,
    .stop = stop,
    .watch = watch,
    .unwatch = unwatch,
    .turn = turn,
    .wake = wake,
};
