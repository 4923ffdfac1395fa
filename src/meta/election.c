/* SPDX-License-Identifier: Apache-2.0
 *
 * Elections, from a lease, a transaction and a watch: the oldest key under a prefix leads.
 *
 * A candidate's key is PREFIX/LEASE and goes with its lease. All who take part watch the prefix and keep
 * the table of its keys, so each sees for itself who leads; the work of a change is one message to each.
 * Waiting for the next older key alone, as is common, would spare those messages, but then nobody knows
 * the leader. The key's creation revision is the leader's term: what it writes can be guarded by it.
 *
 * "Mine" needs two things: the oldest key was ours, and our lease is held; it then still is ours, also while
 * the watch is in trouble. The lease ends here before it ends in the store, so there are no two leaders as
 * long as clocks run equally fast; where that is not enough, the term decides (rule R11).
 *
 * Phases of a candidate: IDLE (no key that we know of) -> PUTTING (request under way) -> PUT (made; the
 * watch has shown it or will) -> IDLE when the watch shows that it went.
 *
 * Threads: public functions on any; the rest on yolk-meta.
 */
#include "base/clock.h"
#include "meta/meta_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VALUE_MAX      4096u
#define TRY_MS         2000u
#define TRY_AGAIN_MS   300u
#define LEASE_TEXT_LEN 17u /* '/' and 16 digits */

struct yk_election_key {
    uint64_t term;
    char *key; /* with the value behind its NUL, in one allocation */
    uint32_t value_len;
};

static void campaign(struct yk_meta_election *el);

/* ---- table of candidates ---------------------------------------------------------------------- */

static void forget(struct yk_meta_election *el, const char *key) {
    for (size_t i = 0; i < el->count; i++)
        if (strcmp(el->keys[i].key, key) == 0) {
            free(el->keys[i].key);
            memmove(&el->keys[i], &el->keys[i + 1], (el->count - i - 1) * sizeof(*el->keys));
            el->count--;
            return;
        }
}

static void forget_all(struct yk_meta_election *el) {
    for (size_t i = 0; i < el->count; i++)
        free(el->keys[i].key);
    el->count = 0;
}

/* False: no memory. */
static bool learn(struct yk_meta_election *el, const struct yk_meta_kv *kv) {
    forget(el, kv->key);
    if (el->count == el->cap) {
        size_t cap = el->cap > 0 ? el->cap * 2 : 8;
        struct yk_election_key *keys = realloc(el->keys, cap * sizeof(*keys));
        if (keys == NULL)
            return false;
        el->keys = keys;
        el->cap = cap;
    }
    struct yk_election_key k = {.term = kv->create_revision, .value_len = kv->value_len};
    size_t key_len = strlen(kv->key), at = el->count;
    if ((k.key = malloc(key_len + 1 + kv->value_len)) == NULL)
        return false;
    memcpy(k.key, kv->key, key_len + 1);
    if (kv->value_len > 0)
        memcpy(k.key + key_len + 1, kv->value, kv->value_len);
    while (at > 0 && el->keys[at - 1].term > k.term)
        at--;
    memmove(&el->keys[at + 1], &el->keys[at], (el->count - at) * sizeof(*el->keys));
    el->keys[at] = k;
    el->count++;
    return true;
}

static bool stands(const struct yk_meta_election *el) {
    for (size_t i = 0; i < el->count && el->key != NULL; i++)
        if (strcmp(el->keys[i].key, el->key) == 0)
            return true;
    return false;
}

/* ---- telling ---------------------------------------------------------------------------------- */

static bool holds_lease(const struct yk_meta_election *el) {
    return el->lease != NULL && el->lease->state == YK_META_LEASE_HELD &&
           yk_meta_lease_left_ms(el->lease) > 0;
}

static void tell(struct yk_meta_election *el) {
    const struct yk_election_key *k = el->count > 0 ? &el->keys[0] : NULL;
    bool ours = k != NULL && el->key != NULL && strcmp(k->key, el->key) == 0;
    if (!el->known && !ours)
        k = NULL;
    struct yk_meta_election_event e = {.kind = YK_META_ELECTION_NONE, .key = ""};
    if (el->closing || (ours && !holds_lease(el)))
        k = NULL; /* the store may think that we lead; we don't */
    if (k != NULL)
        e = (struct yk_meta_election_event){.kind = YK_META_ELECTION_LEADER,
                                            .mine = ours,
                                            .key = k->key,
                                            .value = k->key + strlen(k->key) + 1,
                                            .value_len = k->value_len,
                                            .term = k->term};
    if (el->told && el->told_term == e.term && el->told_mine == e.mine)
        return;
    el->told = true;
    el->told_term = e.term;
    el->told_mine = e.mine;
    el->fn(el->user, &e);
}

static void seen(void *user, const struct yk_meta_watch_event *event) {
    struct yk_meta_election *el = user;
    bool stood = stands(el), good = true;
    if (event->kind == YK_META_WATCH_TROUBLE) {
        el->known = false;
        tell(el);
        return;
    }
    if (event->kind == YK_META_WATCH_STATE) {
        forget_all(el);
        el->missed = false;
    }
    for (size_t i = 0; i < event->count; i++)
        if (event->kvs[i].deleted)
            forget(el, event->kvs[i].key);
        else
            good = learn(el, &event->kvs[i]) && good;
    el->missed |= !good;
    el->known = !el->missed;
    /* Made, but not there: it went, or (a state) the store's history is another one. */
    if (el->phase == YK_EL_PUT && !stands(el) && (stood || event->revision >= el->put_revision))
        el->phase = YK_EL_IDLE;
    tell(el);
    campaign(el);
}

/* ---- standing --------------------------------------------------------------------------------- */

static void made(void *user, const struct yk_meta_result *r) {
    struct yk_meta_election *el = user;
    el->req = NULL;
    el->phase = r->status < 0 || (!r->done && r->count == 0) ? YK_EL_IDLE : YK_EL_PUT;
    el->put_revision = r->revision;
    if (el->phase == YK_EL_IDLE)
        yk_meta_timer_set(el->meta, &el->timer, yk_now_ns() + TRY_AGAIN_MS * YK_NS_PER_MS);
}

static void again(void *user) {
    campaign(user);
}

static bool name_key(struct yk_meta_election *el) {
    size_t len = strlen(el->prefix) + LEASE_TEXT_LEN + 1;
    if (el->key == NULL && (el->key = malloc(len)) == NULL)
        return false;
    snprintf(el->key, len, "%s/%016" PRIx64, el->prefix, yk_meta_lease_id(el->lease));
    return true;
}

/* Puts our key if it should be there and isn't. */
static void campaign(struct yk_meta_election *el) {
    if (el->closing || el->phase != YK_EL_IDLE || !el->known || !holds_lease(el))
        return;
    if (!name_key(el) ||
        (el->req = yk_meta_req_new(el->meta, YK_META_DO_TXN, NULL, made, el)) == NULL) {
        yk_meta_timer_set(el->meta, &el->timer, yk_now_ns() + TRY_AGAIN_MS * YK_NS_PER_MS);
        return;
    }
    struct yk_meta_compare absent = {.key = el->key, .field = YK_META_VERSION};
    struct yk_meta_change put = {.key = el->key,
                                 .value = el->value,
                                 .value_len = el->value_len,
                                 .lease = yk_meta_lease_id(el->lease)};
    struct yk_meta_txn txn = {
        .compares = &absent, .compare_count = 1, .changes = &put, .change_count = 1, .again = true};
    if (yk_meta_req_txn(el->req, &txn) < 0) {
        yk_meta_req_drop(el->req);
        el->req = NULL;
        yk_meta_timer_set(el->meta, &el->timer, yk_now_ns() + TRY_AGAIN_MS * YK_NS_PER_MS);
        return;
    }
    el->phase = YK_EL_PUTTING;
    yk_meta_req_start(el->req, yk_now_ns() + TRY_MS * YK_NS_PER_MS);
}

void yk_election_lease_changed(struct yk_meta_election *el) {
    tell(el);
    campaign(el);
}

/* ---- opening and closing ---------------------------------------------------------------------- */

static void election_free(struct yk_meta_election *el) {
    forget_all(el);
    free(el->keys);
    free(el->prefix);
    free(el->key);
    free(el->value);
    free(el);
}

void yk_meta_election_end(struct yk_meta_election *el) {
    struct yk_meta_election_event e = {.kind = YK_META_ELECTION_ENDED, .key = ""};
    yk_meta_election_fn fn = el->fn;
    void *user = el->user;
    yk_meta_timer_stop(el->meta, &el->timer);
    if (el->req != NULL)
        yk_meta_req_drop(el->req);
    if (el->watch != NULL)
        yk_meta_watch_drop(el->watch);
    if (el->lease != NULL)
        TAILQ_REMOVE(&el->lease->elections, el, of_lease);
    TAILQ_REMOVE(&el->meta->elections, el, link);
    election_free(el);
    fn(user, &e);
}

static void resigned(void *user, const struct yk_meta_result *r) {
    struct yk_meta_election *el = user;
    el->req = NULL;
    yk_meta_election_end(el);
}

static void close_posted(struct yk_meta_msg *msg) {
    struct yk_meta_election *el =
        (void *)((char *)msg - offsetof(struct yk_meta_election, close_msg));
    struct yk_meta_change gone = {.key = el->key, .remove = true};
    struct yk_meta_txn txn = {.changes = &gone, .change_count = 1, .again = true};
    bool may_stand = el->phase != YK_EL_IDLE;
    el->closing = true;
    tell(el); /* before others can lead */
    if (el->req != NULL)
        yk_meta_req_drop(el->req);
    el->req = may_stand ? yk_meta_req_new(el->meta, YK_META_DO_TXN, NULL, resigned, el) : NULL;
    if (el->req == NULL || yk_meta_req_txn(el->req, &txn) < 0) {
        yk_meta_election_end(el);
        return;
    }
    yk_meta_req_start(el->req, yk_now_ns() + YK_META_RESIGN_MS * YK_NS_PER_MS);
}

static void open_posted(struct yk_meta_msg *msg) {
    struct yk_meta_election *el =
        (void *)((char *)msg - offsetof(struct yk_meta_election, open_msg));
    TAILQ_INSERT_TAIL(&el->meta->elections, el, link);
    if (el->lease != NULL)
        TAILQ_INSERT_TAIL(&el->lease->elections, el, of_lease);
    yk_meta_watch_start(el->watch);
}

static struct yk_meta_election *election_new(struct yk_meta *meta, const char *prefix,
                                             const void *value, uint32_t value_len) {
    struct yk_meta_election *el = calloc(1, sizeof(*el));
    if (el == NULL)
        return NULL;
    el->meta = meta;
    el->prefix = strdup(prefix);
    el->value = malloc(value_len + 1);
    el->value_len = value_len;
    el->timer.fn = again;
    el->timer.user = el;
    el->open_msg.fn = open_posted;
    el->close_msg.fn = close_posted;
    if (el->prefix == NULL || el->value == NULL) {
        election_free(el);
        return NULL;
    }
    if (value_len > 0)
        memcpy(el->value, value, value_len);
    return el;
}

/* Everything under PREFIX/ stands, and nothing else: not what another election has under PREFIX-2. */
static int make_watch(struct yk_meta_election *el) {
    size_t len = strlen(el->prefix) + 2;
    char *under = malloc(len);
    if (under == NULL)
        return -YK_ENOMEM;
    snprintf(under, len, "%s/", el->prefix);
    int rc = yk_meta_watch_make(el->meta, under, 0, seen, el, &el->watch);
    free(under);
    return rc;
}

int yk_meta_election_open(struct yk_meta *meta, const char *prefix, struct yk_meta_lease *lease,
                          const void *value, uint32_t value_len, yk_meta_election_fn fn, void *user,
                          struct yk_meta_election **ret_election) {
    int rc = yk_meta_check_key(prefix);
    if (rc < 0)
        return rc;
    if (fn == NULL || (value == NULL && value_len > 0) || value_len > VALUE_MAX ||
        strlen(prefix) + LEASE_TEXT_LEN > YK_META_KEY_MAX)
        return -YK_EINVAL;
    struct yk_meta_election *el = election_new(meta, prefix, value, value_len);
    if (el == NULL)
        return -YK_ENOMEM;
    el->lease = lease;
    el->fn = fn;
    el->user = user;
    if ((rc = make_watch(el)) < 0) {
        election_free(el);
        return rc;
    }
    *ret_election = el; /* before the first call to fn */
    if ((rc = yk_meta_post(meta, &el->open_msg)) < 0) {
        yk_meta_watch_drop(el->watch);
        election_free(el);
    }
    return rc;
}

void yk_meta_election_close(struct yk_meta_election *el) {
    (void)yk_meta_post(el->meta, &el->close_msg); /* refused: the metadata ends it */
}
