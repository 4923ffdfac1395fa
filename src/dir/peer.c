/* SPDX-License-Identifier: Apache-2.0
 *
 * The messenger's interface (peer.h), and its turn of the loop (peer_priv.h says why there is one).
 *
 * libuv's own streams were left for plain sockets and uv_poll: a write request for each send, and a buffer
 * given out for each read, are what a small frame costs most.
 */
#include "dir/peer_priv.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SUSPECT_MS    200u
#define SUSPECT_LEAST 40u
#define CONNECT_MS    1000u
#define MAX_QUEUED    (16u << 20)
#define MAX_CONNS     4096u
#define MAX_CONNS_MAX (1u << 20)
#define MAX_ASKS      16384u
#define SWEEP_MS      100u
#define STOOD_STILL   5u /* ticks; a longer time between two counts as so long: this process did not run */

/* ---- the turn of the loop ------------------------------------------------------------------------ */

static void reap(struct yk_peers *ps) {
    while (!link_empty(&ps->graves)) {
        struct peer *p = LINK_ITEM(ps->graves.next, struct peer, todo);
        link_del(&p->todo);
        link_del(&p->all);
        obuf_free(&p->queue);
        free(p);
    }
}

/* Each of the three may bring work for the others; back-off keeps that from going on for ever. */
static void on_turn(uv_prepare_t *handle) {
    struct yk_peers *ps = handle->data;
    while (!link_empty(&ps->ended) || !link_empty(&ps->todo) || !link_empty(&ps->dirty)) {
        asks_call_back(ps);
        while (!link_empty(&ps->todo)) {
            struct peer *p = LINK_ITEM(ps->todo.next, struct peer, todo);
            link_del(&p->todo);
            peer_dial(ps, p);
        }
        while (!link_empty(&ps->dirty))
            peer_conn_flush(LINK_ITEM(ps->dirty.next, struct conn, dirty));
    }
    reap(ps);
    ps->turning = 0;
    uv_prepare_stop(handle);
}

void peers_turn(struct yk_peers *ps) {
    if (ps->turning || ps->closing)
        return;
    ps->turning = 1;
    uv_prepare_start(&ps->turn, on_turn);
}

/* This process stood still: nobody else is to blame for what did not come meanwhile. */
static void forgive(struct yk_peers *ps, uint64_t ms) {
    for (struct link *l = ps->peers.next; l != &ps->peers; l = l->next) {
        struct peer *p = LINK_ITEM(l, struct peer, all);
        p->heard_ms += ms;
        p->dial_until_ms += ms;
    }
    for (struct link *l = ps->conns.next; l != &ps->conns; l = l->next) {
        struct conn *c = LINK_ITEM(l, struct conn, all);
        c->since_ms += ms;
        c->moved_ms += ms;
    }
}

static void on_tick(uv_timer_t *timer) {
    struct yk_peers *ps = timer->data;
    uint64_t now = uv_now(ps->loop), step = now - ps->ticked_ms;
    ps->ticked_ms = now;
    if (step > STOOD_STILL * PEER_TICK_MS)
        forgive(ps, step - STOOD_STILL * PEER_TICK_MS);
    asks_tick(ps);
    int again = ps->asks_open > 0 || ps->paused;
    if (ps->paused && now >= ps->paused_until_ms)
        peers_listen_pause(ps, 0);
    /* Neither list loses anyone before the turn is over. */
    for (struct link *l = ps->peers.next; l != &ps->peers && !ps->closing; l = l->next)
        again |= peer_tick(ps, LINK_ITEM(l, struct peer, all), now);
    if (now - ps->swept_ms >= SWEEP_MS) {
        ps->swept_ms = now;
        ps->watching = 0;
        for (struct link *l = ps->conns.next; l != &ps->conns && !ps->closing; l = l->next)
            ps->watching |= conn_sweep(LINK_ITEM(l, struct conn, all), now);
    }
    if (again || ps->watching || ps->closing)
        return;
    ps->ticking = 0;
    uv_timer_stop(timer);
}

void peers_tick(struct yk_peers *ps) {
    ps->watching = 1;
    if (ps->ticking || ps->closing)
        return;
    ps->ticking = 1;
    ps->ticked_ms = ps->swept_ms = uv_now(ps->loop);
    uv_timer_start(&ps->timer, on_tick, PEER_TICK_MS, PEER_TICK_MS);
}

/* ---- open, close --------------------------------------------------------------------------------- */

static uint32_t or_default(uint32_t value, uint32_t instead) {
    return value != 0 ? value : instead;
}

static int take_opts(struct yk_peers *ps, const struct yk_peers_opts *o, struct yk_err *err) {
    ps->opts = *o;
    ps->opts.listen = NULL; /* the caller's */
    ps->opts.suspect_ms = or_default(o->suspect_ms, SUSPECT_MS);
    ps->opts.connect_ms = or_default(o->connect_ms, CONNECT_MS);
    ps->opts.max_queued = or_default(o->max_queued, MAX_QUEUED);
    ps->opts.max_conns = or_default(o->max_conns, MAX_CONNS);
    ps->opts.max_asks = or_default(o->max_asks, MAX_ASKS);
    ps->cluster = o->cluster;
    if (o->loop == NULL || (o->listen != NULL && o->ops.frame == NULL))
        return yk_err_set(err, -YK_EINVAL, "a loop is needed, and who listens needs ops.frame");
    if (ps->opts.suspect_ms < SUSPECT_LEAST || ps->opts.max_conns > MAX_CONNS_MAX)
        return yk_err_set(err, -YK_EINVAL, "suspect_ms is at least %u, max_conns at most %u", SUSPECT_LEAST,
                          MAX_CONNS_MAX);
    return 0;
}

static void init(struct yk_peers *ps) {
    ps->loop = ps->opts.loop;
    ps->listen_fd = -1;
    link_init(&ps->peers);
    link_init(&ps->graves);
    link_init(&ps->todo);
    link_init(&ps->conns);
    link_init(&ps->dirty);
    asks_init(ps);
}

/* What may fail comes before the loop has any handle that only another turn of it would close. */
int yk_peers_open(const struct yk_peers_opts *opts, struct yk_peers **ret_peers, struct yk_err *err) {
    struct yk_peers *ps = calloc(1, sizeof(*ps));
    if (ps == NULL)
        return yk_err_set(err, -YK_ENOMEM, "out of memory");
    int rc = take_opts(ps, opts, err);
    ps->scratch = malloc(PEER_SCRATCH);
    if (rc == 0 && ps->scratch == NULL)
        rc = yk_err_set(err, -YK_ENOMEM, "out of memory");
    if (rc == 0)
        init(ps);
    if (rc == 0 && opts->listen != NULL)
        rc = peers_listen(ps, opts->listen, err);
    if (rc < 0) {
        free(ps->scratch);
        free(ps);
        return rc;
    }
    uv_prepare_init(ps->loop, &ps->turn);
    uv_timer_init(ps->loop, &ps->timer);
    ps->turn.data = ps->timer.data = ps;
    ps->handles += 2;
    *ret_peers = ps;
    return 0;
}

void peers_handle_closed(struct yk_peers *ps) {
    ps->handles--;
    if (!ps->closing)
        return;
    asks_call_back(ps);
    if (ps->handles > 0)
        return;
    void (*done)(void *) = ps->done;
    void *user = ps->done_user;
    reap(ps);
    asks_fini(ps);
    free(ps->accepted);
    free(ps->scratch);
    free(ps);
    if (done != NULL)
        done(user);
}

static void on_handle_closed(uv_handle_t *handle) {
    peers_handle_closed(handle->data);
}

static void forget(struct yk_peers *ps, struct peer *p, int status) {
    struct peer **at = &ps->bucket[p->member % PEER_BUCKETS];
    while (*at != p)
        at = &(*at)->next;
    *at = p->next;
    p->gone = 1;
    peer_reset(ps, p, status);
    link_add(&ps->graves, &p->todo);
    peers_turn(ps);
}

void yk_peers_close(struct yk_peers *ps, void (*done)(void *user), void *user) {
    if (ps == NULL) {
        if (done != NULL)
            done(user);
        return;
    }
    ps->done = done;
    ps->done_user = user;
    for (uint32_t i = 0; i < PEER_BUCKETS; i++)
        while (ps->bucket[i] != NULL)
            forget(ps, ps->bucket[i], -YK_ECANCELED);
    for (struct link *l = ps->conns.next; l != &ps->conns; l = l->next)
        peer_conn_close(LINK_ITEM(l, struct conn, all));
    ps->closing = 1;
    uv_close((uv_handle_t *)&ps->turn, on_handle_closed);
    uv_close((uv_handle_t *)&ps->timer, on_handle_closed);
    if (ps->listen_fd >= 0) {
        uv_close((uv_handle_t *)&ps->listener, on_handle_closed);
        close(ps->listen_fd);
    }
}

/* ---- who is where -------------------------------------------------------------------------------- */

struct peer *peer_find(const struct yk_peers *ps, uint32_t member) {
    struct peer *p = ps->bucket[member % PEER_BUCKETS];
    while (p != NULL && p->member != member)
        p = p->next;
    return p;
}

static struct peer *peer_new(struct yk_peers *ps, uint32_t member) {
    struct peer *p = calloc(1, sizeof(*p));
    if (p == NULL)
        return NULL;
    p->member = member;
    link_init(&p->todo);
    link_init(&p->asks);
    link_add(&ps->peers, &p->all);
    p->next = ps->bucket[member % PEER_BUCKETS];
    ps->bucket[member % PEER_BUCKETS] = p;
    return p;
}

int yk_peers_set(struct yk_peers *ps, uint32_t member, uint64_t incarnation, const char *address) {
    struct yk_addr addr;
    struct peer *p = peer_find(ps, member);
    if (member == 0 || ps->closing)
        return -YK_EINVAL;
    if (address == NULL) {
        if (p != NULL)
            forget(ps, p, -YK_ECLOSED);
        return 0;
    }
    if (yk_parse_addr(address, &addr, NULL) < 0 || addr.kind != YK_ADDR_TCP || addr.port == 0)
        return -YK_EINVAL;
    if (p != NULL && p->incarnation == incarnation && p->addr.port == addr.port &&
        strcmp(p->addr.host, addr.host) == 0)
        return 0;
    if (p != NULL)
        peer_reset(ps, p, -YK_ECLOSED);
    else
        p = peer_new(ps, member);
    if (p == NULL)
        return -YK_ENOMEM;
    p->addr = addr;
    p->incarnation = incarnation;
    p->clocked = 0;
    snprintf(p->address, sizeof(p->address), strchr(addr.host, ':') != NULL ? "[%s]:%u" : "%s:%u", addr.host,
             addr.port);
    accepted_end_before(ps, member, incarnation);
    if (p->suspect)
        peer_wanted(ps, p);
    return 0;
}

void yk_peers_self(struct yk_peers *ps, uint64_t cluster, const struct yk_peer_who *self) {
    if (ps->cluster == cluster && ps->opts.self.id == self->id && ps->opts.self.incarnation == self->incarnation)
        return;
    ps->cluster = cluster;
    ps->opts.self = *self;
    for (struct link *l = ps->peers.next; l != &ps->peers; l = l->next) {
        struct peer *p = LINK_ITEM(l, struct peer, all);
        if (!p->gone)
            peer_reset(ps, p, -YK_ECLOSED);
    }
    for (struct link *l = ps->conns.next; l != &ps->conns; l = l->next)
        peer_conn_close(LINK_ITEM(l, struct conn, all));
    peers_tick(ps); /* suspects are dialled anew */
}

/* ---- frames -------------------------------------------------------------------------------------- */

static int check(const struct yk_peers *ps, unsigned op, uint32_t len) {
    uint32_t most = ps->opts.self.id == 0 ? YK_PEER_GUEST_BODY_MAX : YK_PEER_BODY_MAX;
    if (ps->closing)
        return -YK_ECLOSED;
    if (op == 0 || op > YK_PEER_OP_MAX)
        return -YK_EINVAL;
    return len > most ? -YK_ETOOBIG : 0;
}

static int say(struct yk_peers *ps, struct peer *p, const struct yk_frame *f, const void *body) {
    int up = p->conn != NULL && p->conn->state == CONN_UP;
    int rc = obuf_frame(up ? &p->conn->out : &p->queue, ps->opts.max_queued, f, body);
    if (rc < 0)
        return rc;
    ps->n.frames_out++;
    if (up)
        conn_wrote(p->conn);
    else
        peer_wanted(ps, p);
    return 0;
}

int yk_peers_tell(struct yk_peers *ps, uint32_t member, unsigned op, const void *body, uint32_t len) {
    int rc = check(ps, op, len);
    struct peer *p = peer_find(ps, member);
    if (rc < 0)
        return rc;
    struct yk_frame f = {len, (uint8_t)op, 0, 0};
    return p != NULL ? say(ps, p, &f, body) : -YK_ENOENT;
}

int yk_peers_ask(struct yk_peers *ps, uint32_t member, unsigned op, const void *body, uint32_t len,
                 uint32_t timeout_ms, yk_peer_reply_fn reply, void *user) {
    int rc = timeout_ms == 0 || reply == NULL ? -YK_EINVAL : check(ps, op, len);
    struct peer *p = peer_find(ps, member);
    if (rc < 0)
        return rc;
    if (p == NULL)
        return -YK_ENOENT;
    if (p->ask_count >= ps->opts.max_asks)
        return -YK_EAGAIN;
    struct ask *a = ask_new(ps, p, timeout_ms, &rc);
    if (a == NULL)
        return rc;
    a->reply = reply;
    a->user = user;
    struct yk_frame f = {len, (uint8_t)op, 0, a->id};
    rc = say(ps, p, &f, body);
    if (rc < 0)
        ask_drop(ps, a);
    return rc;
}

int yk_peers_reply(struct yk_peers *ps, const struct yk_peer_reply_to *to, unsigned op, const void *body,
                   uint32_t len) {
    struct conn *c = accepted_of(ps, to->conn);
    if (to->id == 0 || op == 0 || op > YK_PEER_OP_MAX)
        return -YK_EINVAL;
    if (len > YK_PEER_BODY_MAX)
        return -YK_ETOOBIG;
    if (c == NULL || c->state != CONN_UP)
        return 0;
    struct yk_frame f = {len, (uint8_t)op, YK_FRAME_REPLY, to->id};
    int rc = obuf_frame(&c->out, ps->opts.max_queued, &f, body);
    if (rc < 0) {
        ps->n.broken++;
        peer_conn_close(c);
        return rc;
    }
    ps->n.frames_out++;
    conn_wrote(c);
    return 0;
}

/* ---- what is known ------------------------------------------------------------------------------- */

const char *yk_peers_address(const struct yk_peers *ps) {
    return ps->address;
}

uint64_t yk_peers_cluster(const struct yk_peers *ps) {
    return ps->cluster;
}

int yk_peers_their_ms(struct yk_peers *ps, uint32_t member, uint64_t boot_ms, uint64_t *ret_their_ms) {
    struct peer *p = peer_find(ps, member);
    if (p == NULL || ps->closing)
        return p == NULL ? -YK_ENOENT : -YK_ECLOSED;
    if (!p->clocked) {
        p->clock_wanted = 1;
        peer_wanted(ps, p);
        return -YK_EAGAIN;
    }
    *ret_their_ms = boot_ms - p->behind_ms;
    return 0;
}

int yk_peers_suspect(const struct yk_peers *ps, uint32_t member) {
    const struct peer *p = peer_find(ps, member);
    return p != NULL && p->suspect;
}

const char *yk_peers_why(const struct yk_peers *ps, uint32_t member) {
    const struct peer *p = peer_find(ps, member);
    return p != NULL ? p->why.text : "";
}

void yk_peers_counts(const struct yk_peers *ps, struct yk_peers_counts *ret) {
    *ret = ps->n;
}
