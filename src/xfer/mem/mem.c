/* SPDX-License-Identifier: Apache-2.0
 *
 * Copies between the memory of engines of one process, a piece at a time, by who turns the shard. A
 * lane carries its slices out in order; the first is under way: it holds a reference to the peer's
 * region, and its pin when it is guarded (R15). Between pieces it looks whether the region is being
 * unregistered. No byte is moved by anybody else, so that a slice that ended early has touched nothing
 * since.
 *
 * A process copying to itself by its own thread needs no connection: lanes are up at once, and go down
 * only with the engine.
 *
 * Thread: the shard's.
 */
#include "xfer/mem/mem.h"

#include "xfer/inproc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROOM 64u

struct mem_lane {
    struct yk_lane lane;
    struct yk_inproc *peer;
    struct yk_slice *first, *last;
    uint32_t count;
    uint64_t moved;
    /* of the first slice, when begun */
    int begun, pinned;
    struct yk_region *region;
    yk_xfer_guard_ops guard;
    uint64_t pin, at;
};

static int mem_open(const struct yk_shard_env *env, struct yk_xport **ret_xport, struct yk_err *err) {
    struct yk_xport *x = calloc(1, sizeof(*x));
    if (x == NULL)
        return yk_err_set(err, -YK_ENOMEM, "mem: no memory");
    *x = (struct yk_xport){.ops = &yk_xport_mem, .env = env};
    *ret_xport = x;
    return 0;
}

static void mem_close(struct yk_xport *xport) {
    free(xport);
}

static uint32_t mem_rails(struct yk_xport *xport, const struct yk_peer_info *peer,
                          struct yk_rail_desc *ret_rails, uint32_t cap) {
    struct yk_inproc *l = peer->memory_token == yk_inproc_token() ? yk_inproc_find(peer->incarnation) : NULL;
    if (l == NULL || cap == 0)
        return 0;
    yk_inproc_put(l);
    *ret_rails = (struct yk_rail_desc){.caps = YK_RAIL_READ | YK_RAIL_WRITE | YK_RAIL_GUARD |
                                               YK_RAIL_NOTIFY | YK_RAIL_COPIES,
                                       .bytes_per_s = 8e9,
                                       .fixed_ns = 500};
    snprintf(ret_rails->local, sizeof(ret_rails->local), "memory");
    snprintf(ret_rails->remote, sizeof(ret_rails->remote), "memory");
    return 1;
}

static int mem_connect(struct yk_xport *xport, const struct yk_peer_info *peer,
                       const struct yk_rail_desc *rail, int bulk, struct yk_lane **ret_lane,
                       struct yk_err *err) {
    static uint64_t ids; /* atomic */
    struct yk_inproc *local = yk_inproc_find(peer->incarnation);
    if (local == NULL)
        return yk_err_set(err, -YK_EGONE, "the engine has been destroyed");
    struct mem_lane *l = calloc(1, sizeof(*l));
    if (l == NULL) {
        yk_inproc_put(local);
        return yk_err_set(err, -YK_ENOMEM, "mem: no memory for a lane");
    }
    l->lane = (struct yk_lane){.ops = &yk_xport_mem,
                               .xport = xport,
                               .id = __atomic_add_fetch(&ids, 1, __ATOMIC_RELAXED),
                               .up = 1};
    l->peer = local;
    *ret_lane = &l->lane;
    return 0;
}

/* ---- slices --------------------------------------------------------------------------------------- */

/* What the first slice holds. */
static void let_go(struct mem_lane *l) {
    if (l->pinned)
        l->guard.unpin(l->guard.user, l->pin);
    yk_registry_put(l->peer->registry, l->region);
    l->region = NULL;
    l->begun = l->pinned = 0;
    l->at = 0;
}

static void unlink_slice(struct mem_lane *l, struct yk_slice *s) {
    if (s->prev != NULL)
        s->prev->next = s->next;
    else
        l->first = s->next;
    if (s->next != NULL)
        s->next->prev = s->prev;
    else
        l->last = s->prev;
    l->count--;
}

static void end(struct mem_lane *l, struct yk_slice *s, int status, enum yk_scope scope) {
    if (s == l->first)
        let_go(l);
    unlink_slice(l, s);
    s->status = status;
    s->scope = (uint8_t)(status < 0 ? scope : YK_SCOPE_NONE);
    s->touched = 0;
    l->lane.xport->env->events->slice_done(&l->lane, s);
}

static int pin(struct mem_lane *l, const struct yk_slice *s) {
    uint64_t offset = 0;
    const struct yk_xfer_guard *g = s->guard;
    uint32_t op = s->op == YK_SLICE_READ ? YK_XFER_READ : YK_XFER_WRITE;
    int rc = yk_registry_guard(l->peer->registry, s->region, s->offset, s->len, &l->guard, &offset);
    if (rc < 0)
        return -YK_EGONE; /* withdrawn */
    rc = l->guard.pin(l->guard.user, op, g->descriptor, g->generation, g->epoch, offset, s->len,
                      &l->pin);
    l->pinned = rc == 0;
    return rc > 0 ? YK_MISS : rc;
}

static int begin(struct mem_lane *l, const struct yk_slice *s) {
    uint32_t need = s->op == YK_SLICE_READ ? (uint32_t)YK_XFER_REMOTE_READ
                                           : (uint32_t)YK_XFER_REMOTE_WRITE;
    l->at = 0;
    l->region = yk_registry_get(l->peer->registry, s->region);
    l->begun = 1;
    if (l->region == NULL)
        return -YK_EGONE;
    if (s->device || yk_region_is_device(l->region))
        return -YK_ENOTSUP;
    if (l->region->base == NULL || !yk_region_allows(l->region, need, s->guard != NULL))
        return -YK_EPERM;
    if (s->offset > l->region->len || s->len > l->region->len - s->offset)
        return -YK_EINVAL;
    return s->guard != NULL ? pin(l, s) : 0;
}

/* Copies up to `bytes`; 1: the slice has ended. */
static int copy(struct mem_lane *l, struct yk_slice *s, uint64_t *bytes) {
    int rc = l->begun ? 0 : begin(l, s);
    if (rc == 0 && __atomic_load_n(&l->region->dying, __ATOMIC_RELAXED))
        rc = -YK_EGONE;
    if (rc != 0) {
        end(l, s, rc, YK_SCOPE_REQUEST);
        return 1;
    }
    uint64_t len = s->len - l->at < *bytes ? s->len - l->at : *bytes;
    char *there = l->region->base + s->offset + l->at;
    if (s->op == YK_SLICE_READ)
        memcpy(s->local + l->at, there, len);
    else
        memcpy(there, s->local + l->at, len);
    l->at += len;
    l->moved += len;
    *bytes -= len;
    if (l->at < s->len)
        return 0;
    end(l, s, 0, YK_SCOPE_NONE);
    return 1;
}

static void hand_note(struct mem_lane *l, struct yk_slice *s) {
    const struct yk_shard_env *env = l->lane.xport->env;
    char from[32];
    snprintf(from, sizeof(from), "mem:%016llx", (unsigned long long)env->incarnation);
    int rc = yk_inproc_note(l->peer, from, s->local, (uint32_t)s->len);
    l->moved++;
    end(l, s, rc, YK_SCOPE_REQUEST);
}

static int mem_progress(struct yk_lane *lane, uint64_t bytes) {
    struct mem_lane *l = (struct mem_lane *)lane;
    while (l->first != NULL && bytes > 0) {
        struct yk_slice *s = l->first;
        if (s->op == YK_SLICE_NOTE)
            hand_note(l, s);
        else if (s->op == YK_SLICE_READ || s->op == YK_SLICE_WRITE)
            (void)copy(l, s, &bytes);
        else
            end(l, s, 0, YK_SCOPE_NONE); /* a fence or ping: nothing is ever under way elsewhere */
    }
    return l->first != NULL;
}

static uint32_t mem_room(const struct yk_lane *lane) {
    return ROOM - ((const struct mem_lane *)lane)->count;
}

static void mem_post(struct yk_lane *lane, struct yk_slice *s) {
    struct mem_lane *l = (struct mem_lane *)lane;
    s->next = NULL;
    s->prev = l->last;
    if (l->last != NULL)
        l->last->next = s;
    else
        l->first = s;
    l->last = s;
    l->count++;
}

static void mem_cancel(struct yk_lane *lane, struct yk_slice *s) {
    end((struct mem_lane *)lane, s, -YK_ECANCELED, YK_SCOPE_REQUEST);
}

static void mem_disconnect(struct yk_lane *lane) {
    struct mem_lane *l = (struct mem_lane *)lane;
    while (l->first != NULL)
        end(l, l->first, -YK_EGONE, YK_SCOPE_LANE);
    yk_inproc_put(l->peer);
    free(l);
}

static uint64_t mem_moved(struct yk_lane *lane) {
    return ((struct mem_lane *)lane)->moved;
}

const struct yk_xport_ops yk_xport_mem = {
    .name = "mem",
    .bit = YK_XFER_MEM,
    .open = mem_open,
    .close = mem_close,
    .rails = mem_rails,
    .connect = mem_connect,
    .disconnect = mem_disconnect,
    .room = mem_room,
    .post = mem_post,
    .cancel = mem_cancel,
    .moved = mem_moved,
    .progress = mem_progress,
};
