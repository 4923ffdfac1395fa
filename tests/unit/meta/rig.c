/* SPDX-License-Identifier: Apache-2.0
 *
 * rig.h.
 */
#include "rig.h"

#include <time.h>

static void init(pthread_mutex_t *lock, pthread_cond_t *news) {
    pthread_condattr_t attr;
    pthread_mutex_init(lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(news, &attr);
    pthread_condattr_destroy(&attr);
}

static struct timespec end_of_wait(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    ts.tv_sec += RIG_WAIT_MS / 1000;
    return ts;
}

static void keep(struct kept_kv *to, const struct yk_meta_kv *kv) {
    uint32_t n = kv->value_len < sizeof(to->value) - 1 ? kv->value_len : sizeof(to->value) - 1;
    assert_int_equal(strlen(kv->key), kv->key_len);
    memset(to, 0, sizeof(*to));
    snprintf(to->key, sizeof(to->key), "%s", kv->key);
    if (n > 0)
        memcpy(to->value, kv->value, n);
    to->value_len = kv->value_len;
    to->create_revision = kv->create_revision;
    to->mod_revision = kv->mod_revision;
    to->version = kv->version;
    to->lease = kv->lease;
}

/* ---- requests --------------------------------------------------------------------------------- */

struct waiter {
    pthread_mutex_t lock;
    pthread_cond_t news;
    struct answer *answer;
    unsigned calls;
};

static void answered(void *user, const struct yk_meta_result *r) {
    struct waiter *w = user;
    pthread_mutex_lock(&w->lock);
    struct answer *a = w->answer;
    if (a == NULL) { /* the test gave up */
        pthread_mutex_unlock(&w->lock);
        return;
    }
    a->status = r->status;
    snprintf(a->text, sizeof(a->text), "%s", r->text);
    a->unsure = r->unsure;
    a->done = r->done;
    a->revision = r->revision;
    a->count = r->count;
    for (size_t i = 0; i < r->count && i < 16; i++)
        keep(&a->kvs[i], &r->kvs[i]);
    w->calls++;
    pthread_cond_broadcast(&w->news);
    pthread_mutex_unlock(&w->lock);
}

/* On the heap: should the test give up, the callback still comes. */
static struct waiter *begin(struct answer *ret) {
    struct waiter *w = calloc(1, sizeof(*w));
    assert_non_null(w);
    memset(ret, 0, sizeof(*ret));
    init(&w->lock, &w->news);
    w->answer = ret;
    return w;
}

/* rc: of the call; below 0 it is the answer, and no callback comes. */
static void finish(struct waiter *w, int rc) {
    struct timespec end = end_of_wait();
    pthread_mutex_lock(&w->lock);
    while (rc == 0 && w->calls == 0)
        if (pthread_cond_timedwait(&w->news, &w->lock, &end) != 0) {
            w->answer = NULL;
            pthread_mutex_unlock(&w->lock);
            fail_msg("a request was never answered");
        }
    if (rc < 0)
        w->answer->status = rc;
    pthread_mutex_unlock(&w->lock);
    pthread_cond_destroy(&w->news);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

void rig_get_in(struct yk_meta *m, const char *key, uint32_t timeout_ms, struct answer *ret) {
    struct waiter *w = begin(ret);
    finish(w, yk_meta_get(m, key, timeout_ms, answered, w));
}

void rig_get(struct yk_meta *m, const char *key, struct answer *ret) {
    rig_get_in(m, key, RIG_WAIT_MS / 2, ret);
}

void rig_range(struct yk_meta *m, const char *prefix, struct answer *ret) {
    struct waiter *w = begin(ret);
    finish(w, yk_meta_range(m, prefix, RIG_WAIT_MS / 2, answered, w));
}

void rig_put(struct yk_meta *m, const char *key, const char *value, uint64_t lease,
             struct answer *ret) {
    struct waiter *w = begin(ret);
    finish(w, yk_meta_put(m, key, value, (uint32_t)strlen(value), lease, RIG_WAIT_MS / 2, answered,
                          w));
}

void rig_delete(struct yk_meta *m, const char *key, struct answer *ret) {
    struct waiter *w = begin(ret);
    finish(w, yk_meta_delete(m, key, RIG_WAIT_MS / 2, answered, w));
}

void rig_txn(struct yk_meta *m, const struct yk_meta_txn *txn, uint32_t timeout_ms,
             struct answer *ret) {
    struct waiter *w = begin(ret);
    finish(w, yk_meta_txn(m, txn, timeout_ms, answered, w));
}

uint64_t rig_must_put(struct yk_meta *m, const char *key, const char *value, uint64_t lease) {
    struct answer a;
    rig_put(m, key, value, lease, &a);
    if (a.status != 0)
        fail_msg("put %s: %s: %s", key, yk_status_name(a.status), a.text);
    return a.revision;
}

/* ---- watches ---------------------------------------------------------------------------------- */

static struct kept_kv *find(struct record *r, const char *key) {
    for (size_t i = 0; i < r->count; i++)
        if (strcmp(r->kvs[i].key, key) == 0)
            return &r->kvs[i];
    return NULL;
}

static void count_up(struct record *r, const struct kept_kv *kv, bool state) {
    const char *name = strrchr(kv->key, '/');
    if (name == NULL || strcmp(name, "/counter") != 0)
        return;
    unsigned long n = strtoul(kv->value, NULL, 10);
    if (!state && n != r->counter + 1)
        r->gaps++;
    r->counter = n;
}

static void change(struct record *r, const struct yk_meta_kv *kv, bool state) {
    struct kept_kv *at = find(r, kv->key);
    if (kv->deleted) {
        r->deletions++;
        if (at != NULL)
            *at = r->kvs[--r->count];
        return;
    }
    if (at == NULL && r->count < sizeof(r->kvs) / sizeof(r->kvs[0]))
        at = &r->kvs[r->count++];
    if (at != NULL) {
        keep(at, kv);
        count_up(r, at, state);
    }
}

static void watched(void *user, const struct yk_meta_watch_event *e) {
    struct record *r = user;
    pthread_mutex_lock(&r->lock);
    r->ended += e->kind == YK_META_WATCH_ENDED;
    if (e->kind == YK_META_WATCH_TROUBLE) {
        r->troubles++;
        r->trouble_status = e->status;
        snprintf(r->trouble, sizeof(r->trouble), "%s", e->text);
    }
    r->goods += e->kind == YK_META_WATCH_GOOD;
    if (e->kind == YK_META_WATCH_STATE) {
        r->count = 0;
        r->states++;
        r->resyncs += e->resync;
    }
    if (e->kind == YK_META_WATCH_CHANGES) {
        r->batches++;
        r->changes += (unsigned)e->count;
        if (e->revision <= r->revision)
            r->gaps++;
    }
    if (e->kind == YK_META_WATCH_STATE || e->kind == YK_META_WATCH_CHANGES) {
        r->revision = e->revision;
        for (size_t i = 0; i < e->count; i++)
            change(r, &e->kvs[i], e->kind == YK_META_WATCH_STATE);
    }
    pthread_cond_broadcast(&r->news);
    pthread_mutex_unlock(&r->lock);
}

void record_open(struct record *r, struct yk_meta *m, const char *prefix, uint64_t from) {
    memset(r, 0, sizeof(*r));
    init(&r->lock, &r->news);
    r->revision = from > 0 ? from - 1 : 0;
    assert_int_equal(yk_meta_watch_open(m, prefix, from, watched, r, &r->watch), 0);
}

void record_wait(struct record *r, const char *what, record_fn fn, const void *arg) {
    struct timespec end = end_of_wait();
    pthread_mutex_lock(&r->lock);
    while (!fn(r, arg))
        if (pthread_cond_timedwait(&r->news, &r->lock, &end) != 0)
            fail_msg(
                "waited in vain for: %s (states %u, resyncs %u, changes %u, counter %lu, trouble "
                "'%s')",
                what, r->states, r->resyncs, r->changes, r->counter, r->trouble);
    pthread_mutex_unlock(&r->lock);
}

bool has_key(const struct record *r, const void *key) {
    return find((struct record *)(uintptr_t)r, key) != NULL;
}

bool lacks_key(const struct record *r, const void *key) {
    return r->states > 0 && !has_key(r, key);
}

bool in_trouble(const struct record *r, const void *arg) {
    return r->troubles > 0;
}

bool at_counter(const struct record *r, const void *number) {
    return r->counter >= *(const unsigned long *)number;
}

bool at_states(const struct record *r, const void *number) {
    return r->states >= *(const unsigned *)number;
}

static bool has_ended(const struct record *r, const void *arg) {
    return r->ended > 0;
}

void record_free(struct record *r) {
    pthread_mutex_lock(&r->lock); /* the last call has left it */
    pthread_mutex_unlock(&r->lock);
    pthread_cond_destroy(&r->news);
    pthread_mutex_destroy(&r->lock);
}

void record_close(struct record *r) {
    yk_meta_watch_close(r->watch);
    record_wait(r, "the watch's end", has_ended, NULL);
    record_free(r);
}

/* ---- leases ----------------------------------------------------------------------------------- */

static void lease_told(void *user, const struct yk_meta_lease_event *e) {
    struct lease_record *r = user;
    pthread_mutex_lock(&r->lock);
    r->state = e->state;
    r->id = e->id;
    r->helds += e->state == YK_META_LEASE_HELD;
    r->unsures += e->state == YK_META_LEASE_UNSURE;
    r->losts += e->state == YK_META_LEASE_LOST;
    r->ended += e->state == YK_META_LEASE_ENDED;
    snprintf(r->text, sizeof(r->text), "%s", e->text);
    pthread_cond_broadcast(&r->news);
    pthread_mutex_unlock(&r->lock);
}

void lease_open(struct lease_record *r, struct yk_meta *m, uint32_t ttl_ms) {
    memset(r, 0, sizeof(*r));
    init(&r->lock, &r->news);
    assert_int_equal(yk_meta_lease_open(m, ttl_ms, lease_told, r, &r->lease), 0);
}

void lease_wait(struct lease_record *r, enum yk_meta_lease_state state) {
    struct timespec end = end_of_wait();
    pthread_mutex_lock(&r->lock);
    while (r->state != state)
        if (pthread_cond_timedwait(&r->news, &r->lock, &end) != 0)
            fail_msg("waited in vain for state %d of a lease, it is in %d: %s", (int)state,
                     (int)r->state, r->text);
    pthread_mutex_unlock(&r->lock);
}

void lease_close(struct lease_record *r, bool revoke) {
    yk_meta_lease_close(r->lease, revoke);
    lease_wait(r, YK_META_LEASE_ENDED);
    pthread_cond_destroy(&r->news);
    pthread_mutex_destroy(&r->lock);
}

/* ---- elections -------------------------------------------------------------------------------- */

static void elected(void *user, const struct yk_meta_election_event *e) {
    struct election_record *r = user;
    pthread_mutex_lock(&r->lock);
    r->ended += e->kind == YK_META_ELECTION_ENDED;
    r->leader = e->kind == YK_META_ELECTION_LEADER;
    r->mine = e->mine;
    r->term = e->term;
    snprintf(r->value, sizeof(r->value), "%.*s", (int)e->value_len,
             e->value != NULL ? (const char *)e->value : "");
    pthread_cond_broadcast(&r->news);
    pthread_mutex_unlock(&r->lock);
}

void election_open(struct election_record *r, struct yk_meta *m, const char *prefix,
                   struct lease_record *lease, const char *value) {
    memset(r, 0, sizeof(*r));
    init(&r->lock, &r->news);
    assert_int_equal(yk_meta_election_open(m, prefix, lease != NULL ? lease->lease : NULL, value,
                                           value != NULL ? (uint32_t)strlen(value) : 0, elected, r,
                                           &r->election),
                     0);
}

void election_wait(struct election_record *r, bool leader, bool mine, const char *value) {
    struct timespec end = end_of_wait();
    pthread_mutex_lock(&r->lock);
    while (r->leader != leader || r->mine != mine || strcmp(r->value, value) != 0)
        if (pthread_cond_timedwait(&r->news, &r->lock, &end) != 0)
            fail_msg("waited in vain for leader %d, mine %d, '%s'; found %d, %d, '%s'", leader,
                     mine, value, r->leader, r->mine, r->value);
    pthread_mutex_unlock(&r->lock);
}

void election_close(struct election_record *r) {
    struct timespec end = end_of_wait();
    yk_meta_election_close(r->election);
    pthread_mutex_lock(&r->lock);
    while (r->ended == 0)
        if (pthread_cond_timedwait(&r->news, &r->lock, &end) != 0)
            fail_msg("waited in vain for an election's end");
    pthread_mutex_unlock(&r->lock);
    pthread_cond_destroy(&r->news);
    pthread_mutex_destroy(&r->lock);
}
