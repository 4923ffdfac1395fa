/* SPDX-License-Identifier: Apache-2.0
 *
 * Membership's ears and mouth at the metadata: one watch over all keys of the prefix, the node's lease, the
 * balancer's election, and transactions that the thread waits for. One watch and not one for each kind of
 * key, so that what it tells is always the state of one revision.
 *
 * Callbacks come on the metadata's thread: they copy what they are told into the inbox, under the lock, and
 * wake the thread. The inbox has a limit; when it is passed (the thread waits for etcd while everybody
 * else talks) the watch is opened anew and tells the whole state.
 *
 * A lease that is lost takes its election with it: both are closed, and opened again when the last callback
 * of each has come. So there is at most one of each, and a late callback cannot be taken for a new one's.
 */
#include "dir/member_priv.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INBOX_BYTES_MAX (16u << 20)

char *yk_member_key(const struct yk_member *m, const char *key, char ret[YK_META_KEY_MAX + 1]) {
    snprintf(ret, YK_META_KEY_MAX + 1, "%s/%s", m->prefix, key);
    return ret;
}

static void wake(struct yk_member *m) {
    m->woken = 1;
    pthread_cond_broadcast(&m->wake);
}

/* ---- the watch -------------------------------------------------------------------------------- */

static void drop_inbox(struct yk_member *m) {
    struct yk_member_news *n;
    while ((n = STAILQ_FIRST(&m->inbox)) != NULL) {
        STAILQ_REMOVE_HEAD(&m->inbox, link);
        free(n);
    }
    m->inbox_bytes = 0;
}

static void overflow(struct yk_member *m) {
    drop_inbox(m);
    m->overflow = 1;
}

static void keep(struct yk_member *m, const char *key, const struct yk_meta_kv *kv) {
    size_t key_len = strlen(key), value_len = kv != NULL ? kv->value_len : 0;
    struct yk_member_news *n = m->overflow ? NULL : malloc(sizeof(*n) + key_len + 1 + value_len);
    if (n == NULL) {
        overflow(m);
        return;
    }
    *n = (struct yk_member_news){.all = kv == NULL, .value_len = (uint32_t)value_len};
    memcpy(n->key, key, key_len + 1);
    n->value = n->key + key_len + 1;
    if (value_len > 0)
        memcpy(n->value, kv->value, value_len);
    if (kv != NULL) {
        n->revision = kv->mod_revision;
        n->lease = kv->lease;
        n->deleted = kv->deleted;
    }
    STAILQ_INSERT_TAIL(&m->inbox, n, link);
    m->inbox_bytes += sizeof(*n) + key_len + value_len;
}

static void keep_all(struct yk_member *m, const struct yk_meta_watch_event *e) {
    size_t prefix = strlen(m->prefix) + 1;
    if (e->kind == YK_META_WATCH_STATE) {
        drop_inbox(m);
        keep(m, "", NULL);
    } else if (m->inbox_bytes > INBOX_BYTES_MAX) {
        overflow(m);
    }
    for (size_t i = 0; i < e->count && !m->overflow; i++)
        if (strncmp(e->kvs[i].key + prefix, "balancer/", 9) != 0)
            keep(m, e->kvs[i].key + prefix, &e->kvs[i]);
}

static void watched(void *user, const struct yk_meta_watch_event *e) {
    struct yk_member *m = user;
    pthread_mutex_lock(&m->lock);
    m->watch_trouble = e->kind == YK_META_WATCH_TROUBLE;
    m->watch_status = m->watch_trouble ? e->status : 0;
    if (e->kind == YK_META_WATCH_ENDED) {
        m->watch = NULL;
        m->watch_closing = m->overflow = 0;
    } else if (e->kind == YK_META_WATCH_TROUBLE) {
        snprintf(m->away_text, sizeof(m->away_text), "%s", e->text);
    } else if (!m->watch_closing) {
        keep_all(m, e);
    }
    wake(m);
    pthread_mutex_unlock(&m->lock);
}

void yk_member_take_news(struct yk_member *m) {
    struct yk_member_newses taken = STAILQ_HEAD_INITIALIZER(taken);
    struct yk_member_news *n;
    pthread_mutex_lock(&m->lock);
    STAILQ_CONCAT(&taken, &m->inbox);
    m->inbox_bytes = 0;
    pthread_mutex_unlock(&m->lock);
    while ((n = STAILQ_FIRST(&taken)) != NULL) {
        STAILQ_REMOVE_HEAD(&taken, link);
        yk_member_view_take(m, n);
        free(n);
    }
    yk_member_view_settle(m);
}

/* ---- lease and election ----------------------------------------------------------------------- */

static void leased(void *user, const struct yk_meta_lease_event *e) {
    struct yk_member *m = user;
    pthread_mutex_lock(&m->lock);
    m->lease_id = e->state == YK_META_LEASE_HELD ? e->id : 0;
    if (e->state == YK_META_LEASE_ENDED) {
        m->lease = NULL;
        m->lease_lost = m->lease_closing = 0;
    } else if (e->state == YK_META_LEASE_LOST) {
        m->lease_lost = 1;
    }
    int lost = e->state == YK_META_LEASE_LOST || e->state == YK_META_LEASE_UNSURE;
    m->lease_status = lost ? e->status : 0;
    if (lost)
        snprintf(m->away_text, sizeof(m->away_text), "%s", e->text);
    wake(m);
    pthread_mutex_unlock(&m->lock);
}

static void elected(void *user, const struct yk_meta_election_event *e) {
    struct yk_member *m = user;
    pthread_mutex_lock(&m->lock);
    m->elected = e->kind == YK_META_ELECTION_LEADER && e->mine;
    m->elected_term = e->term;
    snprintf(m->elected_key, sizeof(m->elected_key), "%s", e->key);
    if (e->kind == YK_META_ELECTION_ENDED) {
        m->election = NULL;
        m->election_closing = 0;
    }
    wake(m);
    pthread_mutex_unlock(&m->lock);
}

/* Under the lock. The clock decides: a process that was stopped sees that nothing is left before it is told. */
static uint64_t left_ms(struct yk_member *m) {
    uint64_t left = m->lease != NULL && !m->lease_closing && !m->lease_lost ? yk_meta_lease_left_ms(m->lease) : 0;
    if (left > 0) {
        uint64_t sent = yk_boot_ms() + left - m->opts.lease_ms; /* a keepalive that was answered; later at most */
        m->heard_ms = sent < yk_boot_ms() ? sent : yk_boot_ms();
    }
    return left;
}

int yk_member_lease_held(struct yk_member *m, uint64_t *ret_id) {
    pthread_mutex_lock(&m->lock);
    int held = left_ms(m) > 0 && m->lease_id != 0;
    *ret_id = m->lease_id;
    pthread_mutex_unlock(&m->lock);
    return held;
}

/* A watch in trouble may owe this node the news that it was expelled. */
uint64_t yk_member_sure_ms(struct yk_member *m) {
    pthread_mutex_lock(&m->lock);
    if (left_ms(m) > 0 && m->lease_id != 0 && m->lease_id == m->sure_lease && !m->watch_trouble)
        m->sure_ms = m->heard_ms;
    uint64_t sure_ms = m->sure_ms;
    pthread_mutex_unlock(&m->lock);
    return sure_ms;
}

/* What has to go, under the lock: closing only asks for it. */
static void close_some(struct yk_member *m, int all, int revoke) {
    int held = m->held[0] != '\0';
    if (m->lease != NULL && !m->lease_closing && (all || m->lease_lost || held)) {
        m->lease_closing = 1;
        yk_meta_lease_close(m->lease, revoke || held);
    }
    if (m->election != NULL && !m->election_closing && (all || m->lease == NULL || m->lease_closing)) {
        m->election_closing = 1;
        yk_meta_election_close(m->election);
    }
    if (m->watch != NULL && !m->watch_closing && (all || m->overflow)) {
        m->watch_closing = 1;
        yk_meta_watch_close(m->watch);
    }
}

/* Handles are written by this thread only, and under the lock, since their last callbacks clear them. */
static void open_some(struct yk_member *m) {
    char key[YK_META_KEY_MAX + 1];
    if (m->watch == NULL && yk_meta_watch_open(m->opts.meta, yk_member_key(m, "", key), 0, watched, m, &m->watch) < 0)
        m->watch = NULL;
    if (m->lease == NULL && m->election == NULL && m->held[0] == '\0' &&
        yk_meta_lease_open(m->opts.meta, m->opts.lease_ms, leased, m, &m->lease) < 0)
        m->lease = NULL;
    if (m->lease != NULL && !m->lease_closing && m->election == NULL &&
        yk_meta_election_open(m->opts.meta, yk_member_key(m, "balancer", key), m->lease, m->self.name,
                              (uint32_t)strlen(m->self.name), elected, m, &m->election) < 0)
        m->election = NULL;
}

void yk_member_attend(struct yk_member *m) {
    pthread_mutex_lock(&m->lock);
    close_some(m, 0, 0);
    open_some(m);
    pthread_mutex_unlock(&m->lock);
}

/* Each last callback comes within 2 s (meta.h); to leave without them would free what they use. */
void yk_member_detach(struct yk_member *m, int leave) {
    pthread_mutex_lock(&m->lock);
    close_some(m, 1, leave);
    while (m->watch != NULL || m->lease != NULL || m->election != NULL)
        pthread_cond_wait(&m->wake, &m->lock);
    drop_inbox(m);
    pthread_mutex_unlock(&m->lock);
}

/* ---- calls ------------------------------------------------------------------------------------ */

/* On the caller's stack: the metadata answers each call, soon after its deadline at the latest. */
struct call {
    struct yk_member *member;
    int ended, status, unsure, made;
    uint64_t revision, value_revision;
    void *value; /* of the first key; NULL: none, or no memory (then status says so) */
    size_t value_len;
    char text[YK_ERR_TEXT_MAX];
};

static void answered(void *user, const struct yk_meta_result *r) {
    struct call *c = user;
    struct yk_member *m = c->member;
    pthread_mutex_lock(&m->lock);
    c->status = r->status;
    c->unsure = r->unsure;
    c->made = r->done;
    c->revision = r->revision;
    snprintf(c->text, sizeof(c->text), "%s", r->text);
    if (r->status == 0 && r->count > 0) {
        c->value_revision = r->kvs[0].mod_revision;
        c->value_len = r->kvs[0].value_len;
        c->value = malloc(c->value_len + 1);
        if (c->value == NULL)
            c->status = -YK_ENOMEM;
        else if (c->value_len > 0)
            memcpy(c->value, r->kvs[0].value, c->value_len);
    }
    c->ended = 1;
    pthread_cond_broadcast(&m->wake);
    pthread_mutex_unlock(&m->lock);
}

static int wait_for(struct call *c, int rc) {
    struct yk_member *m = c->member;
    if (rc < 0) {
        yk_member_text(m, "the metadata takes no request: %s", yk_status_text(rc));
        return rc;
    }
    pthread_mutex_lock(&m->lock);
    while (!c->ended)
        pthread_cond_wait(&m->wake, &m->lock);
    pthread_mutex_unlock(&m->lock);
    if (c->status < 0)
        yk_member_text(m, "%s", c->text);
    m->denied |= c->status == -YK_EPERM;
    return c->status;
}

int yk_member_fetch_map(struct yk_member *m, struct yk_dir_map **ret_map, uint64_t *ret_revision) {
    struct call c = {.member = m};
    struct yk_err err = {0};
    char key[YK_META_KEY_MAX + 1];
    int rc = wait_for(&c, yk_meta_get(m->opts.meta, yk_member_key(m, "map", key), YK_MEMBER_CALL_MS, answered, &c));
    struct yk_dir_map *map = NULL;
    if (rc == 0 && c.value != NULL && (rc = yk_dir_map_decode(c.value, c.value_len, &map, &err)) < 0)
        yk_member_text(m, "%s: %s", key, err.text);
    free(c.value);
    if (rc < 0)
        return rc;
    *ret_map = map;
    *ret_revision = c.value_revision;
    return 0;
}

struct yk_member_txn *yk_member_txn_new(struct yk_member *m) {
    struct yk_member_txn *txn = malloc(sizeof(*txn));
    if (txn != NULL) {
        txn->member = m;
        txn->compares = txn->changes = 0;
    } else {
        yk_member_text(m, "no memory for a transaction");
    }
    return txn;
}

static const char *key_of(struct yk_member_txn *txn, const char *key) {
    return yk_member_key(txn->member, key, txn->keys[txn->compares + txn->changes]);
}

void yk_member_txn_same(struct yk_member_txn *txn, const char *key, uint64_t revision) {
    txn->compare[txn->compares] = (struct yk_meta_compare){
        .key = key_of(txn, key), .field = YK_META_MOD_REVISION, .rel = YK_META_EQUAL, .number = revision};
    txn->compares++;
}

void yk_member_txn_put(struct yk_member_txn *txn, const char *key, const void *value, size_t len, uint64_t lease) {
    txn->change[txn->changes] = (struct yk_meta_change){
        .key = key_of(txn, key), .value = value, .value_len = (uint32_t)len, .lease = lease};
    txn->changes++;
}

void yk_member_txn_leads(struct yk_member_txn *txn) {
    struct yk_member *m = txn->member;
    char *key = txn->keys[txn->compares + txn->changes];
    pthread_mutex_lock(&m->lock);
    snprintf(key, sizeof(txn->keys[0]), "%s", m->elected ? m->elected_key : "-"); /* "-": does not hold */
    txn->compare[txn->compares++] = (struct yk_meta_compare){.key = key,
                                                             .field = YK_META_CREATE_REVISION,
                                                             .rel = YK_META_EQUAL,
                                                             .number = m->elected ? m->elected_term : 1};
    pthread_mutex_unlock(&m->lock);
}

int yk_member_leads(struct yk_member *m) {
    pthread_mutex_lock(&m->lock);
    int leads = m->elected;
    pthread_mutex_unlock(&m->lock);
    return leads;
}

void yk_member_txn_remove(struct yk_member_txn *txn, const char *key, int prefix) {
    txn->change[txn->changes] =
        (struct yk_meta_change){.key = key_of(txn, key), .remove = true, .prefix = prefix != 0};
    txn->changes++;
}

int yk_member_txn_make(struct yk_member_txn *txn, uint64_t *ret_revision, int *ret_unsure) {
    struct call c = {.member = txn->member};
    struct yk_meta_txn t = {.compares = txn->compare,
                            .compare_count = txn->compares,
                            .changes = txn->change,
                            .change_count = txn->changes};
    int rc = wait_for(&c, yk_meta_txn(txn->member->opts.meta, &t, YK_MEMBER_CALL_MS, answered, &c));
    free(c.value);
    free(txn);
    *ret_unsure = c.unsure;
    *ret_revision = c.revision;
    return rc < 0 ? rc : c.made;
}
