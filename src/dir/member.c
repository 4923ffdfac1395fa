/* SPDX-License-Identifier: Apache-2.0
 *
 * member.h: the life of a membership, its thread, and what passes between that and its users.
 *
 * The thread makes one turn whenever something is new, and at least once a second: attend to the watch, the
 * lease and the election; take what the watch told; the steps of a node, then those of the balancer; jobs;
 * tell the state. A step that waits for etcd holds up the others for YK_MEMBER_CALL_MS at most, and then
 * ends the turn's luck: without etcd none of them would get further.
 *
 * Threads: public functions on any; the rest on yolk-member.
 */
#include "dir/member_priv.h"

#include "base/clock.h"
#include "base/host.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void yk_member_text(struct yk_member *m, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    vsnprintf(m->text, sizeof(m->text), fmt, args);
    va_end(args);
}

size_t yk_member_encode(struct yk_member *m, const struct yk_dir_map *map) {
    yk_dir_map_encode(map, m->scratch); /* has room for every map */
    return yk_dir_map_bytes(map);
}

/* ---- telling ---------------------------------------------------------------------------------- */

static void tell_spaces(struct yk_member *m) {
    for (uint32_t i = 0; i < m->view.space_count; i++) {
        struct yk_member_seen_space *s = &m->view.spaces[i];
        if (s->untold && m->opts.ops.space != NULL)
            m->opts.ops.space(m->opts.ops.arg, &s->space);
        s->untold = 0;
    }
}

void yk_member_say(struct yk_member *m) {
    struct yk_member_state s;
    const struct yk_dir_member *mine = m->map != NULL ? yk_dir_map_named(m->map, m->self.name) : NULL;
    uint64_t lease;
    memset(&s, 0, sizeof(s)); /* compared as bytes */
    s.phase = m->phase;
    s.id = mine != NULL ? mine->id : 0;
    s.incarnation = m->incarnation;
    s.cluster = m->cluster;
    s.stale = m->incarnation != 0 && m->stale;
    s.draining = mine != NULL && mine->draining;
    s.good = yk_member_lease_held(m, &lease) != 0;
    s.leads = m->incarnation != 0 && yk_member_leads(m);
    snprintf(s.rebalance, sizeof(s.rebalance), "%s", m->view.rebalance);
    pthread_mutex_lock(&m->lock);
    s.away_since_ms = s.good ? 0 : m->heard_ms;
    s.denied = m->denied || m->watch_status == -YK_EPERM || m->lease_status == -YK_EPERM;
    snprintf(s.text, sizeof(s.text), "%s", m->text[0] != '\0' ? m->text : s.good && !s.denied ? "" : m->away_text);
    int same = memcmp(&s, &m->state, sizeof(s)) == 0;
    m->state = s;
    pthread_mutex_unlock(&m->lock);
    if (!same && m->opts.ops.state != NULL)
        m->opts.ops.state(m->opts.ops.arg, &s);
}

void yk_member_state(const struct yk_member *member, struct yk_member_state *ret) {
    struct yk_member *m = (struct yk_member *)(uintptr_t)member; /* a lock is no change */
    uint64_t lease;
    int held = yk_member_lease_held(m, &lease); /* by the clock, whatever has been told so far */
    pthread_mutex_lock(&m->lock);
    *ret = m->state;
    ret->good = ret->good && held;
    ret->away_since_ms = ret->good ? 0 : m->heard_ms;
    pthread_mutex_unlock(&m->lock);
}

/* ---- namespaces ------------------------------------------------------------------------------- */

/* 1: made; 0: it was changed meanwhile; -YK_E... */
static int put_space(struct yk_member *m, struct yk_member_seen_space *s, const struct yk_member_space *value,
                     int *ret_unsure) {
    char key[YK_MEMBER_SPACE_MAX + 8];
    struct yk_member_txn *txn = yk_member_txn_new(m);
    uint64_t revision;
    struct yk_buf b;
    *ret_unsure = 0;
    if (txn == NULL)
        return -YK_ENOMEM;
    yk_buf_init(&b, 512 + YK_MEMBER_REST_MAX);
    yk_member_put_space(&b, value, value->quota_bytes != YK_MEMBER_NO_SPACE ? s->rest : NULL);
    snprintf(key, sizeof(key), "ns/%s", s->space.name);
    yk_member_txn_same(txn, key, s->revision);
    yk_member_txn_same(txn, "cluster", m->view.cluster_revision);
    yk_member_txn_put(txn, key, b.data, b.len, 0);
    int rc = yk_member_txn_make(txn, &revision, ret_unsure);
    yk_buf_fini(&b);
    if (rc == 1) {
        s->revision = revision;
        if (value->quota_bytes == YK_MEMBER_NO_SPACE) {
            free(s->rest);
            s->rest = NULL;
        }
        yk_member_space_copy(&s->in_etcd, value);
        if (!yk_member_same_space(&s->space, value)) {
            yk_member_space_copy(&s->space, value);
            s->untold = 1;
            m->spaces_dirty = 1;
        }
    }
    return rc;
}

static void save_spaces(struct yk_member *m) {
    if (m->spaces_dirty && yk_member_disk_spaces(m) == 0)
        m->spaces_dirty = 0;
    if (!m->spaces_dirty)
        tell_spaces(m);
    else
        m->turn_ms = YK_MEMBER_RETRY_MS;
}

static void take_heard(struct yk_member *m) {
    pthread_mutex_lock(&m->lock);
    struct yk_member_space *heard = m->heard;
    uint32_t n = m->heard_count;
    m->heard = NULL;
    m->heard_count = m->heard_cap = 0;
    pthread_mutex_unlock(&m->lock);
    for (uint32_t i = 0; i < n; i++) {
        struct yk_member_seen_space *s = yk_member_view_space(m, heard[i].name);
        if (s == NULL || s->space.epoch >= heard[i].epoch)
            continue;
        s->space.epoch = heard[i].epoch;
        if (s->space.quota_bytes == YK_MEMBER_NO_SPACE)
            s->space.quota_bytes = 0; /* it is there again: else nobody would raise it */
        s->untold = 1;
        m->spaces_dirty = 1;
    }
    free(heard);
}

void yk_member_step_spaces(struct yk_member *m, int good) {
    int unsure, rc = 1;
    take_heard(m);
    for (uint32_t i = 0; i < m->view.space_count && good && m->at_home && rc >= 0; i++) {
        struct yk_member_seen_space *s = &m->view.spaces[i];
        struct yk_member_space value = s->space;
        if (!yk_member_space_is_missing(s))
            continue;
        if (s->revision != 0 && s->in_etcd.epoch < value.epoch) /* of one that was removed there is none */
            value.quota_bytes = s->in_etcd.quota_bytes != YK_MEMBER_NO_SPACE ? s->in_etcd.quota_bytes : 0;
        if ((rc = put_space(m, s, &value, &unsure)) != 1)
            m->turn_ms = YK_MEMBER_RETRY_MS;
    }
    save_spaces(m);
}

/* ---- jobs ------------------------------------------------------------------------------------- */

#define AGAIN 1 /* no status: the job goes on */

static int do_space(struct yk_member *m, struct yk_member_job *j) {
    struct yk_member_seen_space *s = yk_member_view_space(m, j->space.name);
    if (s == NULL) {
        yk_member_text(m, "there are %u namespaces already, or no memory", YK_MEMBER_SPACES_MAX);
        return -YK_ELIMIT;
    }
    struct yk_member_space value = s->space;
    int unsure = 0;
    if (j->space.epoch != 0 && j->space.epoch < value.epoch) {
        yk_member_text(m, "the epoch of '%.60s' is %llu already, and never falls", value.name,
                       (unsigned long long)value.epoch);
        return -YK_ESTALE;
    }
    int was_removed = value.quota_bytes == YK_MEMBER_NO_SPACE;
    value.epoch = j->space.epoch != 0 ? j->space.epoch : value.epoch;
    if (j->space.quota_bytes != YK_MEMBER_KEEP_QUOTA)
        value.quota_bytes = j->space.quota_bytes;
    else if (was_removed)
        value.quota_bytes = 0; /* there again */
    if (j->space.copies != YK_MEMBER_KEEP_COPIES)
        value.copies = j->space.copies;
    if (j->space.guarantee_bytes != YK_MEMBER_KEEP_GUARANTEE)
        value.guarantee_bytes = j->space.guarantee_bytes;
    if (j->space.priority != YK_MEMBER_KEEP_PRIORITY)
        value.priority = j->space.priority;
    if (value.quota_bytes == YK_MEMBER_NO_SPACE)
        yk_member_space_no_terms(&value);
    yk_member_space_changed(&value, &s->space);
    if (value.quota_bytes == YK_MEMBER_NO_SPACE && !was_removed && value.epoch >= INT64_MAX) {
        yk_member_text(m, "'%.60s' has the last epoch that there is: it cannot be removed", value.name);
        return -YK_ELIMIT;
    }
    if (value.quota_bytes == YK_MEMBER_NO_SPACE && !was_removed)
        value.epoch = (value.epoch > 0 ? value.epoch : 1) + 1; /* one that was never raised is at 1 */
    s->untold = 1; /* whoever asked may have lost what it knew of it */
    int rc = s->revision != 0 && yk_member_same_space(&s->in_etcd, &value) ? 1 : put_space(m, s, &value, &unsure);
    if (rc < 0)
        j->sent |= unsure != 0;
    save_spaces(m);
    return rc == 1 ? (m->spaces_dirty ? AGAIN : 0) : rc == 0 || unsure || rc == -YK_ETIMEDOUT ? AGAIN : rc;
}

static int do_drain(struct yk_member *m, struct yk_member_job *j) {
    char key[YK_DIR_NAME_MAX + 8];
    uint64_t revision;
    int unsure = 0;
    if (m->map == NULL || yk_dir_map_named(m->map, j->space.name) == NULL) {
        yk_member_text(m, "the map has no node named '%.63s'", j->space.name);
        return -YK_ENOENT;
    }
    struct yk_member_txn *txn = yk_member_txn_new(m);
    if (txn == NULL)
        return -YK_ENOMEM;
    snprintf(key, sizeof(key), "drain/%.63s", j->space.name);
    yk_member_txn_same(txn, "cluster", m->view.cluster_revision);
    if (j->drain)
        yk_member_txn_put(txn, key, "1", 1, 0);
    else
        yk_member_txn_remove(txn, key, 0);
    int rc = yk_member_txn_make(txn, &revision, &unsure);
    j->sent |= unsure != 0;
    return rc == 1 ? 0 : rc == 0 || unsure || rc == -YK_ETIMEDOUT ? AGAIN : rc;
}

/* May that name go? 0, or why not. */
static int may_forget(struct yk_member *m, const char *name) {
    const struct yk_dir_member *who = yk_dir_map_named(m->map, name);
    const struct yk_member_seen_node *s = yk_member_view_node(m, name);
    if (who == NULL) {
        yk_member_text(m, "the map has no node named '%.63s'", name);
        return -YK_ENOENT;
    }
    if (who->state == YK_DIR_EXPELLED && (s == NULL || s->revision == 0))
        return 0;
    yk_member_text(m,
                   "'%.63s' is %s: stop it, and wait until it is expelled; only then does nobody count on it any more",
                   name, who->state == YK_DIR_MEMBER ? "a member" : who->state == YK_DIR_RETURNING ? "returning" : "alive");
    return -YK_EBUSY;
}

static int do_forget(struct yk_member *m, struct yk_member_job *j) {
    char node[YK_DIR_NAME_MAX + 8], drain[YK_DIR_NAME_MAX + 8];
    uint64_t revision;
    int unsure = 0;
    if (!m->current)
        return AGAIN; /* this node's map is not etcd's yet */
    if (j->sent && yk_dir_map_named(m->map, j->space.name) == NULL)
        return 0; /* what was not sure to be made was */
    int rc = may_forget(m, j->space.name);
    struct yk_dir_map *map = rc == 0 ? yk_dir_map_copy(m->map) : NULL;
    struct yk_member_txn *txn = map != NULL ? yk_member_txn_new(m) : NULL;
    if (txn == NULL) {
        free(map);
        return rc < 0 ? rc : -YK_ENOMEM;
    }
    (void)yk_dir_map_forget(map, yk_dir_map_named(map, j->space.name)->id);
    snprintf(node, sizeof(node), "nodes/%.63s", j->space.name);
    snprintf(drain, sizeof(drain), "drain/%.63s", j->space.name);
    yk_member_txn_same(txn, "map", m->view.map_revision);
    yk_member_txn_same(txn, "cluster", m->view.cluster_revision);
    yk_member_txn_same(txn, node, 0);
    yk_member_txn_put(txn, "map", m->scratch, yk_member_encode(m, map), 0);
    yk_member_txn_remove(txn, drain, 0);
    rc = yk_member_txn_make(txn, &revision, &unsure);
    j->sent |= unsure != 0;
    if (rc == 1)
        (void)yk_member_made_map(m, map, revision); /* else it is adopted with the next turn */
    else
        free(map);
    return rc == 1 ? 0 : rc == 0 || unsure || rc == -YK_ETIMEDOUT ? AGAIN : rc;
}

/* Over when the watch has told it: whoever asked looks at the state next. */
static int do_rebalance(struct yk_member *m, struct yk_member_job *j) {
    int unsure = 0;
    if (j->revision != 0)
        return m->view.rebalance_revision >= j->revision ? 0 : AGAIN;
    struct yk_member_txn *txn = yk_member_txn_new(m);
    if (txn == NULL)
        return -YK_ENOMEM;
    yk_member_txn_same(txn, "cluster", m->view.cluster_revision);
    yk_member_txn_put(txn, "rebalance", YK_MEMBER_WANTED, strlen(YK_MEMBER_WANTED), 0);
    int rc = yk_member_txn_make(txn, &j->revision, &unsure);
    if (rc != 1)
        j->revision = 0;
    j->sent |= unsure != 0;
    return rc == 1 || rc == 0 || unsure || rc == -YK_ETIMEDOUT ? AGAIN : rc;
}

static void end_job(struct yk_member *m, struct yk_member_job *j, int status, const char *text) {
    pthread_mutex_lock(&m->lock);
    m->job_count--;
    pthread_mutex_unlock(&m->lock);
    j->done(j->user, status, text);
    free(j);
}

/* AGAIN, or how it ends. */
static int do_job(struct yk_member *m, struct yk_member_job *j, int good) {
    int late = yk_now_ns() >= j->deadline_ns, rc = AGAIN;
    if (good && m->at_home && !late)
        rc = j->kind == YK_MEMBER_JOB_SPACE   ? do_space(m, j)
             : j->kind == YK_MEMBER_JOB_DRAIN ? do_drain(m, j)
                                              : j->kind == YK_MEMBER_JOB_FORGET ? do_forget(m, j)
                                              : do_rebalance(m, j);
    else if (!j->sent && !good)
        rc = -YK_EGONE;
    if (rc == AGAIN && (late || yk_now_ns() >= j->deadline_ns))
        rc = j->sent ? -YK_ETIMEDOUT : -YK_EGONE;
    return rc;
}

void yk_member_step_jobs(struct yk_member *m, int good) {
    struct yk_member_jobs todo = STAILQ_HEAD_INITIALIZER(todo), later = STAILQ_HEAD_INITIALIZER(later);
    struct yk_member_job *j;
    char text[YK_ERR_TEXT_MAX];
    pthread_mutex_lock(&m->lock);
    STAILQ_CONCAT(&todo, &m->jobs);
    pthread_mutex_unlock(&m->lock);
    while ((j = STAILQ_FIRST(&todo)) != NULL) {
        STAILQ_REMOVE_HEAD(&todo, link);
        memcpy(text, m->text, sizeof(text));
        m->text[0] = '\0';
        int rc = do_job(m, j, good);
        if (rc == AGAIN)
            STAILQ_INSERT_TAIL(&later, j, link);
        else
            end_job(m, j, rc, rc == 0 ? "" : m->text[0] != '\0' ? m->text : text[0] != '\0' ? text : "etcd is away");
        memcpy(m->text, text, sizeof(text));
    }
    if (!STAILQ_EMPTY(&later) && m->turn_ms > YK_MEMBER_RETRY_MS)
        m->turn_ms = YK_MEMBER_RETRY_MS;
    pthread_mutex_lock(&m->lock);
    STAILQ_CONCAT(&later, &m->jobs);
    STAILQ_CONCAT(&m->jobs, &later);
    pthread_mutex_unlock(&m->lock);
}

static void cancel_jobs(struct yk_member *m) {
    struct yk_member_job *j;
    while ((j = STAILQ_FIRST(&m->jobs)) != NULL) { /* nobody adds any now */
        STAILQ_REMOVE_HEAD(&m->jobs, link);
        end_job(m, j, -YK_ECANCELED, "the membership was closed");
    }
}

static int add_job(struct yk_member *m, struct yk_member_job job, uint32_t timeout_ms) {
    if (job.done == NULL || timeout_ms == 0)
        return -YK_EINVAL;
    struct yk_member_job *j = malloc(sizeof(*j));
    if (j == NULL)
        return -YK_ENOMEM;
    *j = job;
    j->deadline_ns = yk_now_ns() + timeout_ms * YK_NS_PER_MS;
    pthread_mutex_lock(&m->lock);
    int rc = m->job_count < YK_MEMBER_JOBS_MAX ? 0 : -YK_EAGAIN;
    if (rc == 0) {
        STAILQ_INSERT_TAIL(&m->jobs, j, link);
        m->job_count++;
        m->woken = 1;
        pthread_cond_broadcast(&m->wake);
    }
    pthread_mutex_unlock(&m->lock);
    if (rc < 0)
        free(j);
    return rc;
}

int yk_member_set_space(struct yk_member *m, const struct yk_member_space *space, uint32_t timeout_ms,
                        yk_member_done_fn done, void *user) {
    struct yk_member_job job = {.kind = YK_MEMBER_JOB_SPACE, .space = *space, .done = done, .user = user};
    size_t len = strnlen(space->name, sizeof(space->name));
    if (len == 0 || len > YK_MEMBER_SPACE_MAX || space->epoch > INT64_MAX ||
        (space->quota_bytes > INT64_MAX && space->quota_bytes != YK_MEMBER_KEEP_QUOTA) ||
        (space->guarantee_bytes > INT64_MAX && space->guarantee_bytes != YK_MEMBER_KEEP_GUARANTEE))
        return -YK_EINVAL;
    return add_job(m, job, timeout_ms);
}

static int add_named_job(struct yk_member *m, struct yk_member_job job, const char *name, uint32_t timeout_ms) {
    if (strlen(name) == 0 || strlen(name) > YK_DIR_NAME_MAX)
        return -YK_EINVAL;
    snprintf(job.space.name, sizeof(job.space.name), "%s", name);
    return add_job(m, job, timeout_ms);
}

int yk_member_drain(struct yk_member *m, const char *name, int drain, uint32_t timeout_ms, yk_member_done_fn done,
                    void *user) {
    struct yk_member_job job = {.kind = YK_MEMBER_JOB_DRAIN, .drain = drain, .done = done, .user = user};
    return add_named_job(m, job, name, timeout_ms);
}

int yk_member_forget(struct yk_member *m, const char *name, uint32_t timeout_ms, yk_member_done_fn done, void *user) {
    struct yk_member_job job = {.kind = YK_MEMBER_JOB_FORGET, .done = done, .user = user};
    return add_named_job(m, job, name, timeout_ms);
}

int yk_member_rebalance(struct yk_member *m, uint32_t timeout_ms, yk_member_done_fn done, void *user) {
    return add_job(m, (struct yk_member_job){.kind = YK_MEMBER_JOB_REBALANCE, .done = done, .user = user}, timeout_ms);
}

/* ---- what users say ---------------------------------------------------------------------------- */

void yk_member_load(struct yk_member *m, const struct yk_member_load *load) {
    pthread_mutex_lock(&m->lock);
    m->load = *load;
    pthread_mutex_unlock(&m->lock);
}

void yk_member_suspect(struct yk_member *m, uint32_t id, int suspect) {
    pthread_mutex_lock(&m->lock);
    uint32_t at = 0;
    while (at < m->suspect_count && m->suspect[at] != id)
        at++;
    if (!suspect && at < m->suspect_count)
        m->suspect[at] = m->suspect[--m->suspect_count];
    else if (suspect && at == m->suspect_count && at < YK_DIR_MEMBERS_MAX)
        m->suspect[m->suspect_count++] = id;
    pthread_mutex_unlock(&m->lock);
}

void yk_member_term(struct yk_member *m, uint32_t slot, uint64_t term) {
    uint64_t *at = &m->terms[slot % YK_DIR_SLOTS], was = __atomic_load_n(at, __ATOMIC_RELAXED);
    while (was < term && !__atomic_compare_exchange_n(at, &was, term, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
}

/* One more that waits for the thread, which may hang in a flush. NULL: as many wait as there can be, or no memory. */
static struct yk_member_space *heard_new(struct yk_member *m, const char *name, uint32_t len) {
    if (m->heard_count == m->heard_cap) {
        uint32_t cap = m->heard_cap == 0 ? 16u : 2u * m->heard_cap;
        struct yk_member_space *more =
            cap <= YK_MEMBER_SPACES_MAX ? realloc(m->heard, cap * sizeof(*more)) : NULL;
        if (more == NULL)
            return NULL;
        m->heard = more;
        m->heard_cap = cap;
    }
    struct yk_member_space *s = &m->heard[m->heard_count++];
    *s = (struct yk_member_space){.epoch = 0};
    memcpy(s->name, name, len);
    return s;
}

void yk_member_epoch(struct yk_member *m, const char *name, uint32_t len, uint64_t epoch) {
    uint32_t at = 0;
    if (len == 0 || len > YK_MEMBER_SPACE_MAX || epoch > INT64_MAX || memchr(name, 0, len) != NULL)
        return;
    pthread_mutex_lock(&m->lock);
    while (at < m->heard_count && (strlen(m->heard[at].name) != len || memcmp(m->heard[at].name, name, len) != 0))
        at++;
    struct yk_member_space *s = at < m->heard_count ? &m->heard[at] : heard_new(m, name, len);
    if (s != NULL && s->epoch < epoch)
        s->epoch = epoch;
    m->woken = 1;
    pthread_cond_broadcast(&m->wake);
    pthread_mutex_unlock(&m->lock);
}

static void say_and_wake(struct yk_member *m, uint64_t replayed, int dropped) {
    pthread_mutex_lock(&m->lock);
    if (replayed != 0)
        m->replayed = replayed;
    m->dropped |= dropped != 0;
    m->woken = 1;
    pthread_cond_broadcast(&m->wake);
    pthread_mutex_unlock(&m->lock);
}

void yk_member_dropped(struct yk_member *m) {
    say_and_wake(m, 0, 1);
}

void yk_member_replayed(struct yk_member *m, uint64_t incarnation) {
    say_and_wake(m, incarnation, 0);
}

void yk_member_hold(struct yk_member *m, const char *why) {
    pthread_mutex_lock(&m->lock);
    snprintf(m->held, sizeof(m->held), "%s", why != NULL ? why : "");
    m->anew |= why != NULL;
    m->woken = 1;
    pthread_cond_broadcast(&m->wake);
    pthread_mutex_unlock(&m->lock);
}

/* ---- the thread ------------------------------------------------------------------------------- */

/* Since when etcd has been heard without a gap: what goes in a gap goes for other reasons, too. */
static void mark_gaps(struct yk_member *m, uint64_t lease, int held) {
    pthread_mutex_lock(&m->lock);
    held = held && !m->watch_trouble;
    pthread_mutex_unlock(&m->lock);
    if (held && lease != m->steady_lease)
        m->view.since_ms = yk_boot_ms();
    m->steady_lease = held ? lease : 0;
}

/* Who has its key on the lease that it holds was not expelled since it put it there: that compared the map. */
static void mark_sure(struct yk_member *m, uint64_t lease, int good) {
    const struct yk_member_seen_node *s = yk_member_view_node(m, m->self.name);
    int sure = good && m->current && m->phase == YK_MEMBER_IN && s != NULL && s->revision != 0 && s->lease == lease &&
               s->node.incarnation == m->incarnation;
    pthread_mutex_lock(&m->lock);
    m->sure_lease = sure ? lease : 0;
    pthread_mutex_unlock(&m->lock);
}

static void take_dropped(struct yk_member *m) {
    pthread_mutex_lock(&m->lock);
    int dropped = m->dropped;
    m->dropped = 0;
    pthread_mutex_unlock(&m->lock);
    if (dropped && m->stale && yk_member_disk_life(m, m->cluster, m->lived, 0) < 0)
        say_and_wake(m, 0, 1); /* again */
}

static void take_held(struct yk_member *m) {
    pthread_mutex_lock(&m->lock);
    int anew = m->anew;
    m->anew = 0;
    if (m->held[0] != '\0')
        memcpy(m->text, m->held, sizeof(m->text));
    pthread_mutex_unlock(&m->lock);
    if (anew) {
        m->incarnation = 0;
        m->phase = YK_MEMBER_STARTING;
    }
}

static void turn(struct yk_member *m) {
    uint64_t lease;
    m->turn_ms = YK_MEMBER_TURN_MS;
    m->text[0] = '\0';
    m->denied = 0;
    yk_member_attend(m);
    yk_member_take_news(m);
    take_dropped(m);
    take_held(m);
    int held = yk_member_lease_held(m, &lease), good = held && m->view.known;
    mark_gaps(m, lease, held);
    if (good)
        yk_member_step_join(m, lease);
    mark_sure(m, lease, good);
    yk_member_step_spaces(m, good);
    yk_member_say(m);
    if (good && m->phase != YK_MEMBER_REFUSED)
        yk_member_step_lead(m);
    yk_member_step_jobs(m, good);
    yk_member_say(m);
}

/* False: it shall end. */
static int sleep_until_news(struct yk_member *m) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += m->turn_ms / 1000;
    until.tv_nsec += (long)(m->turn_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&m->lock);
    while (!m->woken && !m->stop && pthread_cond_timedwait(&m->wake, &m->lock, &until) == 0) {
    }
    m->woken = 0;
    int goes_on = !m->stop;
    pthread_mutex_unlock(&m->lock);
    return goes_on;
}

static void *thread_main(void *arg) {
    struct yk_member *m = arg;
    if (m->map != NULL && m->opts.ops.map != NULL)
        m->opts.ops.map(m->opts.ops.arg, m->map);
    tell_spaces(m);
    do
        turn(m);
    while (sleep_until_news(m));
    cancel_jobs(m);
    yk_member_detach(m, m->leave);
    return NULL;
}

/* ---- opening and closing ----------------------------------------------------------------------- */

static int keep_text(char *to, size_t size, const char *from, const char *what, struct yk_err *err) {
    if (from != NULL && strlen(from) >= size)
        return yk_err_set(err, -YK_EINVAL, "the %s is longer than %zu bytes", what, size - 1);
    snprintf(to, size, "%s", from != NULL ? from : "");
    return 0;
}

static uint32_t or_default(uint32_t value, uint32_t otherwise) {
    return value != 0 ? value : otherwise;
}

static int take_opts(struct yk_member *m, const struct yk_member_opts *o, struct yk_err *err) {
    struct yk_member_node *n = &m->self;
    int rc;
    const char *prefix = o->prefix != NULL ? o->prefix : "yolk";
    size_t len = strlen(prefix);
    m->opts = *o;
    m->opts.lease_ms = or_default(o->lease_ms, 3000);
    m->opts.grace_ms = or_default(o->grace_ms, 10000);
    m->opts.load_ms = or_default(o->load_ms, 5000);
    m->opts.balance_ms = or_default(o->balance_ms, 10000);
    if (o->meta == NULL || o->dir == NULL || o->name == NULL)
        return yk_err_set(err, -YK_EINVAL, "a member needs metadata, a name, and a state directory");
    if (strcmp(yk_meta_backend_name(o->meta), "embedded") != 0)
        m->opts.birth_ms = or_default(o->birth_ms, 2000);
    if (m->opts.lease_ms < YK_META_TTL_MIN_MS || m->opts.lease_ms > 60000)
        return yk_err_set(err, -YK_EINVAL, "the lease is %u ms, expected %u to 60000", m->opts.lease_ms,
                          YK_META_TTL_MIN_MS);
    if (len == 0 || len > YK_MEMBER_PREFIX_MAX || prefix[len - 1] == '/')
        return yk_err_set(err, -YK_EINVAL, "the prefix '%.40s' is empty, longer than %u bytes, or ends in '/'", prefix,
                          YK_MEMBER_PREFIX_MAX);
    if (!yk_dir_is_name(o->name))
        return yk_err_set(err, -YK_EINVAL,
                          "the name '%.70s' is not 1 to %u letters, digits, '.', '-' or '_': choose such a one", o->name,
                          YK_DIR_NAME_MAX);
    if ((rc = keep_text(n->name, sizeof(n->name), o->name, "name", err)) < 0 ||
        (rc = keep_text(n->clients, sizeof(n->clients), o->clients, "address for clients", err)) < 0 ||
        (rc = keep_text(n->peers, sizeof(n->peers), o->peers, "address for peers", err)) < 0 ||
        (rc = keep_text(n->transfer, sizeof(n->transfer), o->transfer, "address for transfers", err)) < 0 ||
        (rc = keep_text(n->local, sizeof(n->local), o->local, "address for clients of this host", err)) < 0 ||
        (rc = keep_text(n->zone, sizeof(n->zone), o->zone, "zone", err)) < 0 ||
        (rc = keep_text(n->version, sizeof(n->version), o->version, "version", err)) < 0)
        return rc;
    yk_host_id(n->host);
    n->capacity_bytes = o->capacity_bytes;
    if (o->terms != NULL)
        memcpy(m->terms, o->terms, sizeof(m->terms));
    return 0;
}

static int make_parts(struct yk_member *m, const struct yk_member_opts *o, struct yk_err *err) {
    uint32_t loads = 2 * m->opts.load_ms;
    struct yk_balance_opts plan = {.interval_ms = m->opts.balance_ms > loads ? m->opts.balance_ms : loads};
    m->plan_period_ms = plan.interval_ms / 20; /* ten in the half of an interval in which there are moves */
    m->prefix = strdup(o->prefix != NULL ? o->prefix : "yolk");
    m->dir = strdup(o->dir);
    m->scratch = malloc(YK_META_VALUE_MAX);
    m->balance = yk_balance_new(&plan);
    if (m->prefix == NULL || m->dir == NULL || m->scratch == NULL || m->balance == NULL)
        return yk_err_set(err, -YK_ENOMEM, "no memory for a member");
    return 0;
}

static void dispose(struct yk_member *m) {
    yk_member_disk_close(m);
    yk_member_view_clear(&m->view);
    yk_balance_free(m->balance);
    pthread_cond_destroy(&m->wake);
    pthread_mutex_destroy(&m->lock);
    free(m->heard);
    free(m->map);
    free(m->scratch);
    free(m->prefix);
    free(m->dir);
    free(m);
}

static void make_lock(struct yk_member *m) {
    pthread_condattr_t attr;
    pthread_mutex_init(&m->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&m->wake, &attr);
    pthread_condattr_destroy(&attr);
}

int yk_member_open(const struct yk_member_opts *opts, struct yk_member **ret_member, struct yk_err *err) {
    struct yk_member *m = calloc(1, sizeof(*m));
    if (m == NULL)
        return yk_err_set(err, -YK_ENOMEM, "no memory for a member");
    m->dir_fd = m->lock_fd = -1;
    m->phase = m->state.phase = YK_MEMBER_STARTING;
    STAILQ_INIT(&m->inbox);
    STAILQ_INIT(&m->jobs);
    make_lock(m);
    int rc = take_opts(m, opts, err);
    if (rc == 0 && (rc = make_parts(m, opts, err)) == 0)
        rc = yk_member_disk_open(m, err);
    if (rc == 0) {
        int no = pthread_create(&m->thread, NULL, thread_main, m);
        if (no != 0)
            rc = yk_err_set(err, -yk_status_from_errno(no), "cannot start the thread yolk-member: %s", strerror(no));
    }
    if (rc < 0) {
        dispose(m);
        return rc;
    }
    pthread_setname_np(m->thread, "yolk-member");
    *ret_member = m;
    return 0;
}

void yk_member_close(struct yk_member *m, int leave) {
    if (m == NULL)
        return;
    pthread_mutex_lock(&m->lock);
    m->stop = 1;
    m->leave = leave != 0;
    pthread_cond_broadcast(&m->wake);
    pthread_mutex_unlock(&m->lock);
    pthread_join(m->thread, NULL);
    dispose(m);
}
