/* SPDX-License-Identifier: Apache-2.0
 *
 * Places that peers write through the transfer engine: who has them, how they are closed before they
 * become blocks (docs/decisions/0011).
 *
 * They are reservations like a client's (put.c), and belong to a connection: a number of this file's
 * stands in their `owner`, with YK_SHM_OWNER_REMOTE, in place of a client slot. No process has to be
 * known dead before their memory is used again: every byte comes through this node's engine, which
 * pins the place (guard.c) before the first one. So a place that ends while it is pinned waits in limbo,
 * and a write that comes later finds another word.
 */
#include "node/store_priv.h"

#include "base/hash.h"

#include <stdlib.h>
#include <string.h>

/* More than there are connections. */
#define PEERS_MAX (1u << 24)

struct client *yk_store_holder(struct yk_store *s, uint32_t owner) {
    uint32_t peer = YK_SHM_OWNER_PEER(owner);
    if (owner < s->own.layout.max_clients)
        return &s->clients[owner];
    return yk_owner_is_remote(owner) && peer < s->peer_count && s->peers[peer].active ? &s->peers[peer]
                                                                                     : NULL;
}

int yk_store_peer_open(struct yk_store *s, uint32_t *ret_peer) {
    uint32_t at = 0;
    while (at < s->peer_count && s->peers[at].active)
        at++;
    if (at == PEERS_MAX)
        return -YK_ELIMIT;
    if (at == s->peer_count) {
        uint32_t count = s->peer_count != 0 ? 2u * s->peer_count : 16u;
        struct client *p = realloc(s->peers, count * sizeof(*p));
        if (p == NULL)
            return -YK_ENOMEM;
        memset(p + s->peer_count, 0, (count - s->peer_count) * sizeof(*p));
        s->peers = p;
        s->peer_count = count;
    }
    s->peers[at].active = 1;
    *ret_peer = YK_SHM_OWNER_REMOTE | at;
    return 0;
}

void yk_store_peer_close(struct yk_store *s, uint32_t peer) {
    struct client *c = yk_store_holder(s, peer);
    if (c == NULL || !yk_owner_is_remote(peer))
        return;
    yk_store_reservations_end(s, c, peer);
    memset(c, 0, sizeof(*c));
    yk_store_scan(s);
}

static void owner_set(struct yk_rest *rest, uint32_t idx, uint32_t owner) {
    STORE(&rest->owner, owner);
    STORE(&rest->place_sum, yk_desc_place_sum(rest, idx));
}

int yk_store_place_settle(struct yk_store *s, const struct yk_commit *c) {
    struct yk_rest *rest = rest_at(s, c->idx);
    uint32_t owner = rest->owner;
    owner_set(rest, c->idx, owner | YK_SHM_OWNER_CLOSED);
    /* Whoever pins after this look finds the place closed; whoever did before is seen by it. */
    if (yk_owner_is_pinned(&s->own, c->idx)) {
        owner_set(rest, c->idx, owner);
        return -YK_EBUSY;
    }
    const unsigned char *payload = (const unsigned char *)s->seg.data + rest->offset;
    if (yk_hash64(payload, c->len) == c->sum)
        return 0;
    COUNT(s, remote_corrupt);
    return -YK_ECORRUPT;
}
