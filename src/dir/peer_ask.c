/* SPDX-License-Identifier: Apache-2.0
 *
 * Requests under way: a table that ids lead into, and a wheel of deadlines.
 *
 * An id is (how often its place was used) << 32 | place, so that a reply that comes after its request has
 * ended, or that a stranger made up, finds nothing. Places are made in chunks that never move, and kept.
 *
 * The wheel has PEER_WHEEL slots of a tick; a request stands in the slot of its deadline and is passed over
 * by the rounds that come before it. Putting in and taking out are a few stores; a heap was not needed, since
 * nearly every request ends before its deadline.
 */
#include "dir/peer_priv.h"

#include <stdlib.h>

void asks_init(struct yk_peers *ps) {
    link_init(&ps->asks_free);
    link_init(&ps->ended);
    for (uint32_t i = 0; i < PEER_WHEEL; i++)
        link_init(&ps->wheel[i]);
    ps->wheel_tick = uv_now(ps->loop) / PEER_TICK_MS;
}

void asks_fini(struct yk_peers *ps) {
    for (uint32_t i = 0; i < ps->chunks; i++)
        free(ps->chunk[i]);
}

static int more_asks(struct yk_peers *ps) {
    if (ps->chunks == PEER_ASK_CHUNKS)
        return -YK_EAGAIN;
    struct ask *a = calloc(PEER_ASK_CHUNK, sizeof(*a));
    if (a == NULL)
        return -YK_ENOMEM;
    for (uint32_t i = 0; i < PEER_ASK_CHUNK; i++) {
        a[i].id = ps->chunks * PEER_ASK_CHUNK + i;
        link_init(&a[i].wheel_link);
        link_add(&ps->asks_free, &a[i].peer_link);
    }
    ps->chunk[ps->chunks++] = a;
    return 0;
}

struct ask *ask_new(struct yk_peers *ps, struct peer *p, uint32_t timeout_ms, int *ret_status) {
    int rc = link_empty(&ps->asks_free) ? more_asks(ps) : 0;
    if (rc < 0) {
        *ret_status = rc;
        return NULL;
    }
    /* The last one freed is the one that is still in the processor's cache. */
    struct ask *a = LINK_ITEM(ps->asks_free.prev, struct ask, peer_link);
    link_del(&a->peer_link);
    uint64_t now = uv_now(ps->loop);
    if (p->ask_count == 0 && !p->suspect && !p->owing)
        p->heard_ms = now;
    a->id += 1ull << 32;
    a->peer = p;
    a->due = (now + timeout_ms) / PEER_TICK_MS + 1;
    if (!ps->ticking)
        ps->wheel_tick = now / PEER_TICK_MS; /* nothing stands in the wheel: it need not be turned */
    link_add(&p->asks, &a->peer_link);
    link_add(&ps->wheel[a->due % PEER_WHEEL], &a->wheel_link);
    p->ask_count++;
    ps->asks_open++;
    peers_tick(ps);
    return a;
}

struct ask *ask_of(const struct yk_peers *ps, uint64_t id) {
    uint32_t at = (uint32_t)id;
    if (at / PEER_ASK_CHUNK >= ps->chunks)
        return NULL;
    struct ask *a = &ps->chunk[at / PEER_ASK_CHUNK][at % PEER_ASK_CHUNK];
    return a->id == id && a->peer != NULL ? a : NULL;
}

/* Out of its peer and the wheel. */
static void ask_leave(struct yk_peers *ps, struct ask *a) {
    link_del(&a->peer_link);
    link_del(&a->wheel_link);
    a->peer->ask_count--;
    a->peer = NULL;
    ps->asks_open--;
}

void ask_drop(struct yk_peers *ps, struct ask *a) {
    ask_leave(ps, a);
    link_add(&ps->asks_free, &a->peer_link);
}

void ask_end(struct yk_peers *ps, struct ask *a, int status) {
    ask_leave(ps, a);
    a->status = status;
    link_add(&ps->ended, &a->peer_link);
    peers_turn(ps);
}

void ask_end_all(struct yk_peers *ps, struct peer *p, int status) {
    while (!link_empty(&p->asks))
        ask_end(ps, LINK_ITEM(p->asks.next, struct ask, peer_link), status);
}

static void call_back(struct yk_peers *ps, struct ask *a, int status, const void *body, uint32_t len) {
    yk_peer_reply_fn reply = a->reply;
    void *user = a->user;
    link_add(&ps->asks_free, &a->peer_link);
    reply(user, status, body, len);
}

void ask_reply(struct yk_peers *ps, struct ask *a, const void *body, uint32_t len) {
    ask_leave(ps, a);
    call_back(ps, a, 0, body, len);
}

void asks_call_back(struct yk_peers *ps) {
    while (!link_empty(&ps->ended)) {
        struct ask *a = LINK_ITEM(ps->ended.next, struct ask, peer_link);
        link_del(&a->peer_link);
        call_back(ps, a, a->status, NULL, 0);
    }
}

void asks_tick(struct yk_peers *ps) {
    uint64_t now = uv_now(ps->loop) / PEER_TICK_MS;
    uint64_t from = now - ps->wheel_tick > PEER_WHEEL ? now - PEER_WHEEL : ps->wheel_tick;
    for (uint64_t t = from + 1; t <= now; t++) {
        struct link *slot = &ps->wheel[t % PEER_WHEEL];
        for (struct link *l = slot->next, *next; l != slot; l = next) {
            struct ask *a = LINK_ITEM(l, struct ask, wheel_link);
            next = l->next;
            if (a->due > now)
                continue;
            ps->n.timeouts++;
            a->peer->owing = 1;
            ask_end(ps, a, -YK_ETIMEDOUT);
        }
    }
    ps->wheel_tick = now;
}
