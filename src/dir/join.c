/* SPDX-License-Identifier: Apache-2.0
 *
 * What the membership tells (member.h), brought to the loop and made true there: the map, other nodes, and this
 * node's own place among them.
 *
 *   not joined --IN or RETURNING, with a map--> [stale: all blocks go] --> core opened --> all blocks are looked
 *   at, and the logs of all slots are caught up with --> a member, and etcd has said so --> ready: start may return,
 *   clients may open namespaces, and find what this node holds
 *
 * (Catching up may drop what the node holds of a slot; so nothing is put before.)
 *
 * A later incarnation (this node was expelled and returns) reaches the core by the map. But one that is stale (its
 * name was another's meanwhile, or forgotten) begins anew: the core is closed, and all goes from `stale` on. So does
 * one whose log could not be written (log_lost.c), without losing what it holds. While there is no core
 * its own clients find nothing, as before its start.
 *
 * Threads: `..._told`: the membership's; the rest: the directory's loop.
 */
#include "dir/copy_priv.h"

#include "base/log.h"
#include "dir/rlog.h"

#include <stdio.h>
#include <unistd.h>

static void take_state(struct yk_dir *d);

static int has_joined(const struct yk_dir *d) {
    const struct yk_member_state *s = &d->state;
    return (s->phase == YK_MEMBER_IN || s->phase == YK_MEMBER_RETURNING) && s->id != 0 && s->incarnation != 0 &&
           d->map != NULL && yk_dir_map_member(d->map, s->id) != NULL;
}

/* ---- the core --------------------------------------------------------------------------------------- */

static void core_send(void *arg, uint32_t member, const void *message, uint32_t len) {
    struct yk_dir *d = arg;
    if (d->peers != NULL)
        (void)yk_peers_tell(d->peers, member, YK_DIR_CORE, message, len);
}

static void core_term(void *arg, uint32_t slot, uint64_t term) {
    struct yk_dir *d = arg;
    if (!d->stopping)
        yk_member_term(d->member, slot, term);
}

static void core_replayed(void *arg, uint64_t incarnation) {
    struct yk_dir *d = arg;
    if (!d->stopping)
        yk_member_replayed(d->member, incarnation);
}

static const char *log_path(const struct yk_dir *d, char ret[4096]) {
    snprintf(ret, 4096, "%s/" DIR_LOG_FILE, d->opts.state_dir);
    return ret;
}

uint64_t *dir_log_terms(const struct yk_dir *d) {
    uint64_t *terms = malloc(YK_DIR_SLOTS * sizeof(*terms));
    struct yk_err err = {0};
    char path[4096];
    if (terms != NULL && yk_dir_rlog_terms(log_path(d, path), terms, &err) < 0)
        yk_log(YK_LOG_WARN, "dir", "%s", err.text); /* that stops it when the log is opened for good */
    return terms;
}

static void fail(struct yk_dir *d, const struct yk_err *err) {
    yk_log(YK_LOG_ERROR, "dir", "%s", err->text);
    pthread_mutex_lock(&d->lock);
    d->fail = *err;
    pthread_cond_broadcast(&d->cond);
    pthread_mutex_unlock(&d->lock);
}

int dir_core_close(struct yk_dir *d) {
    struct yk_dir_core *core = d->core;
    if (core == NULL)
        return 0;
    if (d->syncing || d->walking)
        return -YK_EAGAIN;
    d->over = d->incarnation;
    d->core_life++;
    d->caught_up = 0;
    yk_dir_core_close(core);
    d->core = NULL;
    return 0;
}

static void core_open(struct yk_dir *d) {
    char path[4096];
    struct yk_err err = {0};
    struct yk_dir_core_opts o = {.cluster = d->state.cluster,
                                 .self = d->state.id,
                                 .log_path = log_path(d, path),
                                 .wall_s = (yk_wall_ms() - dir_now_ms()) / 1000u,
                                 .ops = {.send = core_send,
                                         .apply = dir_apply,
                                         .drop_slot = dir_drop_slot,
                                         .sync = dir_sync,
                                         .removed = dir_remove_ended,
                                         .replayed = core_replayed,
                                         .term = core_term,
                                         .epoch = dir_epoch_published,
                                         .arg = d}};
    d->opening = 0;
    if (d->stopping || !has_joined(d))
        return;
    int rc = yk_dir_core_open(&o, &d->core, &err);
    if (rc < 0) {
        d->core = NULL;
        if (d->ready)
            dir_log_failed(d, "read", err.text);
        else
            fail(d, &err);
        return;
    }
    take_state(d);
    yk_dir_core_map(d->core, d->map, dir_now_ms());
    dir_walk_start(d);
    dir_tick_soon(d);
}

/* A log that goes with a past that is not this node's any more. */
static void dropped_all(struct yk_dir *d, uint64_t token, int status) {
    char path[4096];
    struct yk_err err;
    (void)token;
    if (status < 0 && d->ready) {
        d->opening = 0; /* dir_join_look tries again */
        return;
    }
    if (status < 0) {
        yk_err_set(&err, status, "what this node holds may have been removed elsewhere, and cannot be dropped");
        fail(d, &err);
        return;
    }
    (void)unlink(log_path(d, path));
    if (!d->stopping)
        yk_member_dropped(d->member); /* else its next life would drop everything again, and never be admitted */
    core_open(d);
}

/* ---- this node's state ------------------------------------------------------------------------------ */

static void take_state(struct yk_dir *d) {
    struct yk_peer_who who = {d->state.id, d->state.incarnation};
    d->self = who.id;
    if (d->incarnation == who.incarnation)
        return;
    d->incarnation = who.incarnation;
    if (d->peers != NULL)
        yk_peers_self(d->peers, d->state.cluster, &who);
}

/* 0014, "A node that returns": cut_off_ms from when etcd was last heard, unless this node has heard that it is none of
 * the members, or has not yet heard all that was removed. 1: its own clients find what it holds. */
static int gate_set(struct yk_dir *d) {
    uint64_t sure_ms = 0;
    if (d->caught_up && !d->stopping && d->core != NULL && yk_dir_core_serves(d->core))
        sure_ms = yk_member_sure_ms(d->member);
    yk_node_pool_until(d->node, sure_ms != 0 ? (sure_ms + d->opts.cut_off_ms) * YK_NS_PER_MS : 0);
    return sure_ms != 0;
}

void dir_gate_set(struct yk_dir *d) {
    (void)gate_set(d);
}

/* Ready is whose clients will find what they put. */
void dir_state_changed(struct yk_dir *d) {
    d->caught_up = d->caught_up || (d->core != NULL && !d->walking && has_joined(d) && yk_dir_core_serves(d->core) &&
                                    yk_dir_core_behind(d->core) == 0);
    int open = gate_set(d);
    pthread_mutex_lock(&d->lock);
    d->ready = d->ready || (d->caught_up && open);
    d->said = d->state;
    pthread_cond_broadcast(&d->cond);
    pthread_mutex_unlock(&d->lock);
}

/* It came back with a past that is not that of what it holds; core_open takes its new life. */
static int is_stale_anew(const struct yk_dir *d) {
    return d->core != NULL && d->state.stale && d->state.incarnation != d->incarnation;
}

static void join(struct yk_dir *d) {
    if (has_joined(d) && is_stale_anew(d) && dir_core_close(d) < 0)
        return; /* dir_join_look */
    if (has_joined(d) && d->core != NULL) {
        take_state(d);
    } else if (has_joined(d) && d->state.incarnation != d->over && !d->opening && !d->stopping &&
               d->log_text[0] == '\0') {
        d->opening = 1;
        if (!d->state.stale)
            core_open(d);
        else if (dir_drop_all(d, dropped_all) < 0)
            d->opening = 0; /* the next news tries again */
    }
    dir_state_changed(d);
}

void dir_join_look(struct yk_dir *d) {
    if (!d->stopping && (d->core == NULL || is_stale_anew(d)))
        join(d);
}

/* ---- news ------------------------------------------------------------------------------------------- */

struct news {
    struct dir_job job;
    struct yk_dir_map *map;
    struct yk_member_state state;
    struct yk_member_node node;
    int gone;
};

static void news_send(struct yk_dir *d, const struct news *like, void (*back)(struct dir_job *job)) {
    struct news *n = malloc(sizeof(*n));
    if (n == NULL) {
        free(like->map);
        return; /* what comes later says it again, but for a state that does not change: memory is short then */
    }
    *n = *like;
    memset(&n->job, 0, sizeof(n->job));
    n->job.back = back;
    dir_to_loop(d, &n->job);
}

/* Whoever is in the map and lives has an address, and nobody else. */
static void address_set(struct yk_dir *d, const struct dir_peer *p) {
    const struct yk_dir_member *m = d->map != NULL ? yk_dir_map_member(d->map, p->say.id) : NULL;
    if (d->peers == NULL || strcmp(p->say.name, d->opts.name) == 0)
        return; /* by name: its id is a new one when it was forgotten */
    if (m == NULL || m->state == YK_DIR_EXPELLED)
        (void)yk_peers_set(d->peers, p->say.id, 0, NULL);
    else if (!p->gone)
        (void)yk_peers_set(d->peers, p->say.id, p->say.incarnation, p->say.peers);
}

static void addresses_set(struct yk_dir *d) {
    for (uint32_t i = d->peer_count; i-- > 0;) {
        address_set(d, d->peer[i]);
        if (d->peer[i]->gone && yk_dir_map_member(d->map, d->peer[i]->say.id) == NULL)
            dir_peer_forget(d, d->peer[i]->say.id);
    }
}

static void map_came(struct dir_job *job) {
    struct news *n = DIR_ITEM(job, struct news, job);
    struct yk_dir *d = job->dir;
    if (d->map == NULL || n->map->version > d->map->version || n->map->cluster != d->map->cluster) {
        dir_repair_map(d, d->map, n->map);
        free(d->map);
        d->map = n->map;
        addresses_set(d);
        if (d->core != NULL) {
            yk_dir_core_map(d->core, d->map, dir_now_ms());
            dir_tick_soon(d);
        }
        join(d);
    } else {
        free(n->map);
    }
    free(n);
}

void dir_map_told(void *arg, const struct yk_dir_map *map) {
    struct news n = {.map = yk_dir_map_copy(map)};
    if (n.map != NULL)
        news_send(arg, &n, map_came);
}

static void node_came(struct dir_job *job) {
    struct news *n = DIR_ITEM(job, struct news, job);
    struct yk_dir *d = job->dir;
    if (n->node.id != 0 && dir_peer_set(d, &n->node, n->gone) == 0)
        address_set(d, dir_peer_of(d, n->node.id));
    free(n);
}

void dir_node_told(void *arg, const struct yk_member_node *node, int gone) {
    struct news n = {.node = *node, .gone = gone};
    news_send(arg, &n, node_came);
}

static void state_came(struct dir_job *job) {
    struct news *n = DIR_ITEM(job, struct news, job);
    struct yk_dir *d = job->dir;
    if (n->state.text[0] != 0 && strcmp(n->state.text, d->state.text) != 0)
        yk_log(YK_LOG_WARN, "dir", "%s", n->state.text);
    d->state = n->state;
    join(d);
    free(n);
}

void dir_state_told(void *arg, const struct yk_member_state *state) {
    struct news n = {.state = *state};
    news_send(arg, &n, state_came);
}
