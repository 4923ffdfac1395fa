/* SPDX-License-Identifier: Apache-2.0
 *
 * The shortest way: memory of this process to memory of this process, copied by the caller of run, with
 * no shard and no queue. A reference to both regions keeps them; between chunks it looks whether one is
 * being unregistered, or the deadline has passed.
 *
 * Threads: any; touches only what the caller's batch refers to.
 */
#include "xfer/engine_priv.h"

#include "base/clock.h"

#include <string.h>
#include <time.h>

#define CHUNK (8u << 20) /* large enough that memcpy streams past the caches */

static int one(const struct yk_req *r, const struct yk_region *remote, uint64_t deadline_ns,
               uint64_t *ret_done) {
    char *there = remote->base + r->offset;
    for (uint64_t at = 0; at < r->len; at += CHUNK) {
        uint64_t len = r->len - at < CHUNK ? r->len - at : CHUNK;
        if (r->region != NULL && __atomic_load_n(&r->region->dying, __ATOMIC_RELAXED))
            return -YK_ECANCELED;
        if (__atomic_load_n(&remote->dying, __ATOMIC_RELAXED))
            return -YK_EGONE;
        if (at > 0 && yk_now_ns() >= deadline_ns)
            return -YK_ETIMEDOUT;
        if (r->op == YK_XFER_READ)
            memcpy(r->local + at, there + at, len);
        else
            memcpy(there + at, r->local + at, len);
        *ret_done += len;
    }
    return 0;
}

static void carry_out(struct yk_batch *b, struct yk_req *r) {
    struct yk_registry *g = r->peer->local->registry;
    struct yk_region *remote = yk_registry_get(g, r->remote);
    uint32_t need = r->op == YK_XFER_READ ? (uint32_t)YK_XFER_REMOTE_READ
                                          : (uint32_t)YK_XFER_REMOTE_WRITE;
    r->attempts = 1;
    if (remote == NULL || remote->base == NULL)
        r->status = -YK_EGONE;
    else if (yk_region_is_device(remote))
        r->status = -YK_ENOTSUP;
    else if (!yk_region_allows(remote, need, 0))
        r->status = -YK_EPERM;
    else if (r->offset > remote->len || r->len > remote->len - r->offset)
        r->status = -YK_EINVAL;
    else
        r->status = one(r, remote, b->deadline_ns, &r->done);
    yk_registry_put(g, remote);
    yk_registry_put(b->engine->registry, r->region);
    r->ended = 1;
}

static int hand_note(struct yk_batch *b) {
    struct yk_xfer *e = b->engine;
    struct timespec ms = {.tv_nsec = 1000000};
    for (;;) {
        int rc = yk_inproc_note(b->note_peer->local, e->mem_address, b->note, b->note_bytes);
        if (rc != -YK_EAGAIN)
            return rc;
        if (yk_now_ns() >= b->deadline_ns)
            return -YK_ETIMEDOUT;
        nanosleep(&ms, NULL); /* its queue is full: nobody tells when it is not */
    }
}

static int here(const struct yk_peer *peer) {
    return peer->local != NULL && !peer->file;
}

int yk_direct_run(struct yk_batch *b, int *ret_status) {
    struct yk_xfer *e = b->engine;
    if (b->note_peer != NULL && !here(b->note_peer))
        return 0;
    for (uint32_t i = 0; i < b->n; i++)
        if (!here(b->reqs[i].peer) || b->reqs[i].guarded || b->reqs[i].device)
            return 0;
    int rc = 0, failed;
    for (uint32_t i = 0; i < b->n; i++) {
        carry_out(b, &b->reqs[i]);
        failed = b->reqs[i].status;
        rc = rc == 0 ? failed : rc;
    }
    if (rc == 0 && b->note_bytes > 0)
        rc = hand_note(b);
    b->done = 2;
    __atomic_fetch_sub(&e->in_flight, yk_batch_charge(b), __ATOMIC_RELAXED);
    *ret_status = rc;
    return 1;
}
