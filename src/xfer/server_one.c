/* SPDX-License-Identifier: Apache-2.0
 *
 * What a lane that was dialled does with payload that devices move (RDMA): makes its half of the queue pair,
 * lends keys, reads what a peer wants written. The target's device work is behind xfer/target.h; here are
 * the checks and the pins, which are those of every other request (server_req.c).
 *
 * A pin that is lent outlives its request: it is given back by GIVEBACK, or with the lane. Lanes of which a
 * device may still read a region are closed when that is unregistered, so `given` names the regions that a
 * key of was given. It takes as many as there are, since memory of devices, at this end or the peer's, has no other way: a
 * model's layers are a few hundred ranges.
 *
 * Thread: the server's.
 */
#include "server_priv.h"

#include "xfer/target.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define LENDS_MAX YK_SERVER_REQUESTS
#define GIVEN_MIN 64u /* that there is room for at once */

struct lend {
    uint64_t number; /* the initiator's */
    uint64_t pin;
    void *pin_user;
    void (*unpin)(void *user, uint64_t pin);
};

struct yk_in_one {
    struct yk_target *target;
    const char *failed; /* NULL: not */
    char text[YK_ERR_TEXT_MAX];
    unsigned char answer[YK_OFFER_BYTES];
    uint32_t lend_count, given_count, given_cap;
    struct lend lends[LENDS_MAX];
    uint64_t *given; /* numbers of regions */
};

static void on_pulled(void *user, uint32_t tag) {
    struct yk_in_lane *l = user;
    struct yk_in_req *q = yk_in_at(l->work, tag);
    l->moved += q->len;
    YK_IN_COUNT(l->server, bytes_in, q->len);
    q->pending = 0;
    yk_in_release(l, q); /* its pin, too, before it is answered */
    yk_in_ready(l);
}

static void on_failed(void *user, const char *text) {
    struct yk_in_lane *l = user;
    snprintf(l->one->text, sizeof(l->one->text), "%s", text);
    l->one->failed = l->one->text;
    yk_in_ready(l); /* closed when it is served */
}

static const struct yk_target_events events = {on_pulled, on_failed};

const char *yk_in_one_failed(const struct yk_in_lane *l) {
    return l->one != NULL ? l->one->failed : NULL;
}

int yk_in_one_lends(const struct yk_in_lane *l) {
    return l->one != NULL && l->one->lend_count > 0;
}

void yk_in_one_free(struct yk_in_lane *l) {
    struct yk_in_one *o = l->one;
    if (o == NULL)
        return;
    yk_target->close(o->target); /* from here on no device touches what is pinned */
    for (uint32_t i = 0; i < o->lend_count; i++)
        o->lends[i].unpin(o->lends[i].pin_user, o->lends[i].pin);
    free(o->given);
    free(o);
    l->one = NULL;
}

int yk_in_one_uses(const struct yk_in_lane *l, const struct yk_region *region) {
    if (l->one == NULL)
        return 0;
    for (uint32_t i = 0; i < l->one->given_count; i++)
        if (l->one->given[i] == region->id)
            return 1;
    for (uint32_t i = l->work != NULL ? l->work->head : 0; l->work != NULL && i != l->work->tail; i++)
        if (yk_in_at(l->work, i)->pending && yk_in_at(l->work, i)->region == region)
            return 1;
    return 0;
}

/* ---- requests ------------------------------------------------------------------------------------- */

static int offer(struct yk_in_lane *l) {
    struct yk_sockaddr own = {.len = sizeof(own.u)};
    struct yk_err err;
    char host[YK_PEER_HOST] = "";
    if (yk_target == NULL || !(l->server->env.opts->transports & YK_XFER_RDMA))
        return -YK_ENOTSUP;
    if (l->one != NULL)
        return -YK_EINVAL;
    if (getsockname(l->watch.fd, &own.u.any, &own.len) == 0)
        yk_sock_host(&own.u.any, host);
    struct yk_in_one *o = calloc(1, sizeof(*o));
    if (o == NULL)
        return -YK_ENOMEM;
    int rc = yk_target->open(l->server->env.opts, l->server->loop, &events, l, host, l->work->small, o->answer,
                             &o->target, &err);
    if (rc < 0) {
        free(o);
        return rc;
    }
    l->one = o;
    return 0;
}

/* Bytes in front of an answer. */
static int put_front(struct yk_in_req *q, const void *front, uint32_t len) {
    struct yk_xans ans = {.op = q->op, .seq = q->seq, .status = q->status, .len = len};
    q->blob = calloc(1, len + YK_XANS_BYTES);
    if (q->blob == NULL)
        return -YK_ENOMEM;
    if (front != NULL)
        memcpy(q->blob, front, len);
    yk_xans_encode(q->blob + len, &ans);
    q->blob_len = len + YK_XANS_BYTES;
    return 0;
}

static int give(struct yk_in_one *o, const struct yk_region *region) {
    for (uint32_t i = 0; i < o->given_count; i++)
        if (o->given[i] == region->id)
            return 0;
    if (o->given_count == o->given_cap) {
        uint32_t cap = o->given_cap == 0 ? GIVEN_MIN : 2 * o->given_cap;
        uint64_t *more = realloc(o->given, cap * sizeof(*more));
        if (more == NULL)
            return -YK_ENOTSUP;
        o->given = more;
        o->given_cap = cap;
    }
    o->given[o->given_count++] = region->id;
    return 0;
}

static int lend(struct yk_in_lane *l, struct yk_in_req *q) {
    struct yk_in_one *o = l->one;
    unsigned char key[YK_KEY_BYTES];
    if (q->status == 0 && (o == NULL || o->lend_count == LENDS_MAX)) /* a device's memory has no other way: later */
        q->status = o != NULL && yk_region_is_device(q->region) ? -YK_EAGAIN : -YK_ENOTSUP;
    if (q->status == 0)
        q->status = give(o, q->region);
    if (q->status == 0)
        q->status = yk_target->key(o->target, q->region, q->offset, q->len, key);
    int lent = q->status == 0 && q->pinned;
    if (lent) { /* the pin is the lane's now */
        o->lends[o->lend_count++] = (struct lend){q->number, q->pin, q->pin_user, q->unpin};
        q->pinned = 0;
    }
    yk_in_release(l, q);
    return put_front(q, q->status == 0 ? key : NULL, YK_KEY_BYTES);
}

static int giveback(struct yk_in_lane *l, uint64_t number) {
    struct yk_in_one *o = l->one;
    for (uint32_t i = 0; o != NULL && i < o->lend_count; i++) {
        struct lend was = o->lends[i];
        if (was.number != number)
            continue;
        o->lends[i] = o->lends[--o->lend_count];
        was.unpin(was.pin_user, was.pin);
        return 0;
    }
    return -YK_ENOENT;
}

void yk_in_one_flush(struct yk_in_lane *l) {
    if (l->one != NULL && l->one->target != NULL)
        yk_target->flush(l->one->target);
}

static void pull(struct yk_in_lane *l, struct yk_in_req *q) {
    uint32_t tag = (uint32_t)(q - l->work->ring);
    q->pending = q->status == 0; /* before it can be over */
    if (q->status == 0)
        q->status = l->one == NULL ? -YK_ENOTSUP
                                   : yk_target->pull(l->one->target, tag, q->region, q->offset, q->len, q->number,
                                                     q->rkey);
    if (q->status == 0)
        return;
    q->pending = 0;
    yk_in_release(l, q);
}

int yk_in_one(struct yk_in_lane *l, struct yk_in_req *q) {
    switch (q->op) {
    case YK_PROTO_OFFER:
        q->status = offer(l);
        return 0;
    case YK_PROTO_TAKE:
        q->status = l->one != NULL ? 0 : -YK_ENOTSUP;
        return put_front(q, l->one != NULL ? l->one->answer : NULL, YK_OFFER_BYTES);
    case YK_PROTO_LEND:
        return lend(l, q);
    case YK_PROTO_GIVEBACK:
        q->status = giveback(l, q->number);
        return 0;
    default:
        pull(l, q);
        return 0;
    }
}
