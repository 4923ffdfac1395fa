/* SPDX-License-Identifier: Apache-2.0
 *
 * The peers of an engine: one for each incarnation that something was opened of (this engine's own memory
 * and files are two of them). Opened segments, requests and shards point to them.
 *
 * A peer of which nothing has been open for a minute goes, with the routes, rails and lanes that shards
 * have to it, when something is opened next: that is where their number grows, and where a caller waits
 * anyway. One that was found to have restarted goes without the minute. One that a dead lane may yet write
 * to stays, since its ranges must be known if it is opened again (R16).
 *
 * Threads: any, under `tables`; never held across the calls into shards. References are taken under it,
 * where `opens` or another reference keeps the peer, and given back without: release there, acquire where
 * the sweep looks, so that what the last request left behind (bars) is seen.
 */
#include "xfer/addresses.h"
#include "xfer/engine_priv.h"
#include "xfer/shard_priv.h"

#include "base/clock.h"

#include <stdlib.h>

/* ---- finding and making ----------------------------------------------------------------------------- */

static struct yk_peer *find(const struct yk_xfer *e, uint64_t incarnation, int file) {
    for (uint32_t i = 0; i < e->peer_count; i++) {
        struct yk_peer *p = e->peers[i];
        if (p != NULL && !p->leaving && p->info.incarnation == incarnation && p->file == file)
            return p;
    }
    return NULL;
}

/* A free place in the table; YK_PEERS_MAX: there is none. */
static uint32_t place(struct yk_xfer *e) {
    uint32_t i = 0;
    while (i < e->peer_count && e->peers[i] != NULL)
        i++;
    if (i < e->peer_count || i == YK_PEERS_MAX)
        return i;
    if (e->peer_count == e->peer_cap) {
        uint32_t cap = e->peer_cap == 0 ? 8 : e->peer_cap * 2;
        struct yk_peer **more = realloc(e->peers, cap * sizeof(struct yk_peer *));
        if (more == NULL)
            return YK_PEERS_MAX;
        e->peers = more;
        e->peer_cap = cap;
    }
    e->peers[e->peer_count++] = NULL;
    return i;
}

static struct yk_peer *add(struct yk_xfer *e, const struct yk_peer_info *info, int file) {
    uint32_t i = place(e);
    struct yk_peer *p = i < YK_PEERS_MAX ? calloc(1, sizeof(*p)) : NULL;
    if (p == NULL)
        return NULL;
    p->info = *info;
    p->file = file;
    p->index = i;
    pthread_mutex_init(&p->lock, NULL);
    yk_list_init(&p->bars);
    if (e->direct && !file && info->memory_token == yk_inproc_token())
        p->local = yk_inproc_find(info->incarnation);
    e->peers[i] = p;
    return p;
}

int yk_engine_peer(struct yk_xfer *e, const struct yk_peer_info *info, int file,
                   struct yk_peer **ret_peer, struct yk_err *err) {
    pthread_mutex_lock(&e->tables);
    struct yk_peer *p = find(e, info->incarnation, file);
    if (p == NULL)
        p = add(e, info, file);
    if (p != NULL)
        yk_peer_ref(p);
    pthread_mutex_unlock(&e->tables);
    if (p == NULL)
        return yk_err_set(err, -YK_ELIMIT, "no memory for another peer, or %u of them", YK_PEERS_MAX);
    *ret_peer = p;
    return 0;
}

static void peer_free(struct yk_peer *p) {
    if (p == NULL)
        return;
    yk_inproc_put(p->local);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

void yk_peers_free(struct yk_xfer *e) {
    for (uint32_t i = 0; i < e->peer_count; i++)
        peer_free(e->peers[i]);
    free(e->peers);
}

/* ---- shutting out ------------------------------------------------------------------------------------ */

static void part_with(struct yk_shard *s, void *arg) {
    const struct yk_peer *p = arg;
    if (p->index >= s->route_cap || s->routes[p->index] == NULL)
        return;
    yk_route_lost(s->routes[p->index], "it was revoked");
    yk_rails_reap(s); /* so that no device is at it when this returns */
}

static void part(struct yk_xfer *e, uint64_t incarnation) {
    pthread_mutex_lock(&e->tables);
    struct yk_peer *p = find(e, incarnation, 0);
    if (p != NULL)
        yk_peer_ref(p);
    pthread_mutex_unlock(&e->tables);
    if (p == NULL)
        return;
    __atomic_store_n(&p->gone, 1, __ATOMIC_RELAXED);
    for (uint32_t k = 0; k < e->shard_count; k++)
        yk_shard_call(e->shards[k], part_with, p);
    yk_peer_put(p);
}

int yk_xfer_revoke(yk_xfer *e, const char *address) {
    struct yk_addresses_item item;
    struct yk_err err;
    const char *at = address;
    int rc = yk_xfer_enter(e);
    if (rc < 0)
        return rc;
    if (address == NULL || yk_addresses_next(&at, &item, &err) <= 0 || item.engine == 0)
        return yk_xfer_fail(-YK_EINVAL, "'%.60s': expected " YK_ADDRESSES_ENGINE "ID", address != NULL ? address : "");
    if (item.engine == e->self.incarnation)
        return yk_xfer_fail(-YK_EINVAL, "'%.60s' is this engine", address);
    rc = yk_remote_revoke(e, item.engine);
    if (rc < 0)
        return yk_xfer_fail(rc, "'%.60s': no more engines can be shut out", address);
    part(e, item.engine);
    return 0;
}

/* ---- going ------------------------------------------------------------------------------------------- */

static int may_go(const struct yk_xfer *e, const struct yk_peer *p, uint64_t now) {
    if (p == NULL || p->leaving || p->opens > 0 || __atomic_load_n(&p->refs, __ATOMIC_ACQUIRE) > 0)
        return 0;
    if (__atomic_load_n(&p->gone, __ATOMIC_RELAXED))
        return 1;
    return now >= p->closed_ns + e->peer_idle_ns && __atomic_load_n(&p->barred, __ATOMIC_RELAXED) == 0;
}

static void forget(struct yk_shard *s, void *arg) {
    const struct yk_peer *p = arg;
    if (p->index >= s->route_cap || s->routes[p->index] == NULL)
        return;
    if (s->dead_links > 0)
        yk_rails_reap(s); /* they are counted */
    yk_route_free(s->routes[p->index]);
    s->routes[p->index] = NULL;
}

void yk_peers_sweep(struct yk_xfer *e) {
    pthread_mutex_lock(&e->tables);
    uint64_t now = yk_now_ns();
    int due = now >= e->swept_ns + e->peer_idle_ns / 4;
    if (due)
        e->swept_ns = now;
    for (uint32_t i = 0; due && i < e->peer_count; i++) {
        struct yk_peer *p = e->peers[i];
        if (!may_go(e, p, now))
            continue;
        p->leaving = 1; /* its place is nobody else's before all shards have let go of it */
        pthread_mutex_unlock(&e->tables);
        for (uint32_t k = 0; k < e->shard_count; k++)
            yk_shard_call(e->shards[k], forget, p);
        pthread_mutex_lock(&e->tables);
        e->peers[i] = NULL;
        peer_free(p);
    }
    pthread_mutex_unlock(&e->tables);
}
