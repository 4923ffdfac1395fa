/* SPDX-License-Identifier: Apache-2.0
 *
 * What the requests of a lane that was dialled do.
 *
 * Every request is checked when its header is here: region, access, range, guard. What cannot be done
 * is answered with a status; its payload goes into the sink. It takes effect when all its payload is
 * here. A guarded READ keeps its pin until its bytes are sent, a guarded WRITE until its last byte is
 * here; either until its lane is closed or its memory taken back.
 *
 * Thread: the server's.
 */
#include "server_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int is_read(uint8_t op) {
    return op == YK_PROTO_READ || op == YK_PROTO_LEND;
}

/* Payload does not come over the stream, nor go there. */
static int by_device(uint8_t op) {
    return op == YK_PROTO_LEND || op == YK_PROTO_PULL;
}

static int pin(struct yk_in_lane *l, struct yk_in_req *q, const struct yk_xreq *req) {
    yk_xfer_guard_ops guard;
    uint64_t offset;
    int rc = yk_registry_guard(l->server->env.registry, req->region, req->offset, req->len, &guard,
                               &offset);
    if (rc < 0)
        return -YK_EINVAL; /* nothing there answers guarded requests */
    uint32_t op = is_read(req->op) ? YK_XFER_READ : YK_XFER_WRITE;
    rc = guard.pin(guard.user, op, req->descriptor, req->generation, req->epoch, offset, req->len,
                   &q->pin);
    if (rc == 0) {
        q->pinned = 1;
        q->pin_user = guard.user;
        q->unpin = guard.unpin;
    }
    return rc > 0 ? YK_MISS : rc;
}

void yk_in_fault(struct yk_in_lane *l, struct yk_in_req *q) {
    yk_in_release(l, q);
    q->status = -YK_EFAULT;
}

/* READ and WRITE, LEND and PULL: the memory, if this peer may have it. */
static void begin_access(struct yk_in_lane *l, struct yk_in_req *q, const struct yk_xreq *req) {
    struct yk_region *r = yk_registry_get(l->server->env.registry, req->region);
    uint32_t need = is_read(req->op) ? YK_XFER_REMOTE_READ : YK_XFER_REMOTE_WRITE;
    if (r == NULL)
        q->status = -YK_EGONE;
    else if (r->file || r->base == NULL || (yk_region_is_device(r) && !by_device(req->op)))
        q->status = -YK_ENOTSUP;
    else if (!yk_region_allows(r, need, (req->flags & YK_XREQ_GUARD) != 0))
        q->status = -YK_EPERM;
    else if (req->len > r->len || req->offset > r->len - req->len)
        q->status = -YK_EINVAL;
    else if (req->flags & YK_XREQ_GUARD)
        q->status = pin(l, q, req);
    if (q->status != 0) {
        yk_registry_put(l->server->env.registry, r);
        return;
    }
    q->region = r;
    q->mem = r->base + req->offset;
}

int yk_in_begin(struct yk_in_lane *l, const struct yk_xreq *req) {
    struct yk_in_work *w = l->work;
    struct yk_in_req *q = yk_in_at(w, w->tail);
    if (req->seq != l->seq || (req->op == YK_PROTO_HELLO) != (req->seq == 0)) {
        char text[120];
        snprintf(text, sizeof(text), "request %u is a %s with number %u", l->seq,
                 yk_proto_op_name(req->op), req->seq);
        yk_in_close(l, text);
        return -1;
    }
    l->seq++;
    *q = (struct yk_in_req){.op = req->op, .seq = req->seq, .len = req->len};
    if (yk_xreq_is_access(req->op))
        begin_access(l, q, req);
    q->number = req->op >= YK_PROTO_OFFER ? req->remote : req->offset;
    q->offset = req->offset;
    q->rkey = (uint32_t)req->key;
    q->guarded = (req->flags & YK_XREQ_GUARD) != 0;
    w->tail++;
    YK_IN_COUNT(l->server, requests, 1);
    return 0;
}

static struct yk_in_lane *find_lane(struct yk_server *s, uint64_t id, uint64_t incarnation) {
    struct yk_in_lane *l = s->lanes;
    while (l != NULL && (!l->greeted || l->id != id || l->incarnation != incarnation))
        l = l->next;
    return l;
}

static int fence(struct yk_in_lane *l, uint64_t id) {
    struct yk_in_lane *other = find_lane(l->server, id, l->incarnation);
    if (other == l)
        return -YK_EINVAL;
    if (other != NULL)
        yk_in_close(other, NULL);
    return 0;
}

/* An answer with a body behind it. */
static int put_blob(struct yk_in_req *q, int status, const void *body, uint32_t len) {
    struct yk_xans ans = {.op = q->op, .seq = q->seq, .status = status, .len = len};
    q->blob = malloc(YK_XANS_BYTES + len);
    if (q->blob == NULL)
        return -YK_ENOMEM;
    yk_xans_encode(q->blob, &ans);
    memcpy(q->blob + YK_XANS_BYTES, body, len);
    q->blob_len = YK_XANS_BYTES + len;
    return 0;
}

static int lookup(struct yk_in_lane *l, struct yk_in_req *q) {
    struct yk_published p;
    struct yk_found f = {0};
    char name[YK_XFER_NAME_MAX + 1];
    unsigned char body[YK_FOUND_MAX];
    memcpy(name, l->work->small, q->len);
    name[q->len] = 0;
    int rc = yk_registry_segment(l->server->env.registry, name, &p);
    struct yk_region *r = rc == 0 ? yk_registry_get(l->server->env.registry, p.region) : NULL;
    if (r == NULL) {
        rc = -YK_ENOENT;
        snprintf(f.text, sizeof(f.text), "no segment of that name is published there");
    } else if (r->file) {
        rc = -YK_ENOTSUP;
        snprintf(f.text, sizeof(f.text), "that segment is a file: only its own process reaches it");
    } else {
        f = (struct yk_found){p.region, p.offset, p.len, p.access, p.guarded != 0, ""};
    }
    yk_registry_put(l->server->env.registry, r);
    return put_blob(q, rc, body, yk_found_encode(body, rc, &f));
}

static int hello(struct yk_in_lane *l, struct yk_in_req *q) {
    struct yk_server *s = l->server;
    struct yk_welcome w = {.version = YK_PROTO_VERSION,
                           .peer = *s->env.self,
                           .credit_requests = YK_SERVER_REQUESTS - YK_GROUP_MAX,
                           .credit_bytes = YK_SERVER_BYTES};
    unsigned char body[YK_WELCOME_MAX];
    struct yk_hello h;
    struct yk_err err;
    int status = 0;
    if (yk_hello_decode(l->work->small, (uint32_t)q->len, &h, &err) < 0) {
        yk_in_close(l, err.text);
        return -1;
    }
    if (h.version != YK_PROTO_VERSION) {
        status = -YK_EVERSION;
        w.peer.addr_count = 0; /* their layout is not that of other versions */
        snprintf(w.text, sizeof(w.text), "this engine speaks version %u of the protocol, yours %u",
                 YK_PROTO_VERSION, h.version);
    } else if (h.wanted != 0 && h.wanted != s->env.self->incarnation) {
        status = -YK_EGONE;
        snprintf(w.text, sizeof(w.text), "this is another incarnation of the engine");
    } else if (yk_in_is_revoked(s, h.incarnation)) {
        status = -YK_EPERM;
        snprintf(w.text, sizeof(w.text), "your engine was revoked here");
    } else if (find_lane(s, h.lane, h.incarnation) != NULL) {
        status = -YK_ECONFLICT;
        snprintf(w.text, sizeof(w.text), "this lane is open already");
    } else {
        l->greeted = 1;
        int patient;
        (void)yk_sock_path(l->watch.fd, &patient);
        l->urgent = (h.flags & YK_XHELLO_URGENT) != 0;
        l->id = h.lane;
        l->incarnation = h.incarnation;
    }
    l->closing = status != 0;
    return put_blob(q, status, body, yk_welcome_encode(body, &w));
}

/* The request at recv has all its payload, and takes effect. */
static int act(struct yk_in_lane *l, struct yk_in_req *q) {
    switch (q->op) {
    case YK_PROTO_HELLO:
        return hello(l, q);
    case YK_PROTO_LOOKUP:
        return lookup(l, q);
    case YK_PROTO_NOTE:
        q->status = yk_in_note(l, q->number, l->work->small, (uint32_t)q->len);
        return 0;
    case YK_PROTO_FENCE:
        q->status = fence(l, q->number);
        return 0;
    case YK_PROTO_WRITE:
        yk_in_release(l, q); /* its pin, too, before it is answered: who has the answer finds none */
        return 0;
    case YK_PROTO_OFFER:
    case YK_PROTO_TAKE:
    case YK_PROTO_LEND:
    case YK_PROTO_GIVEBACK:
    case YK_PROTO_PULL:
        return yk_in_one(l, q);
    default:
        return 0;
    }
}

int yk_in_advance(struct yk_in_lane *l) {
    struct yk_in_work *w = l->work;
    while (w->recv != w->tail) {
        struct yk_in_req *q = yk_in_at(w, w->recv);
        if (yk_xreq_has_payload(q->op) && (w->run > 0 || w->got < q->len))
            break;
        int rc = act(l, q);
        if (rc < 0) {
            yk_in_close(l, rc == -YK_ENOMEM ? "no memory for an answer" : NULL);
            return rc;
        }
        w->recv++;
        w->got = 0;
    }
    return 0;
}
