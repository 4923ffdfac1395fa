/* SPDX-License-Identifier: Apache-2.0
 *
 * Other members, and the segments that their payload is in (dir_priv.h).
 *
 * Opening a segment asks the engine there and may block, so a thread of libuv's pool does it, once a member
 * and incarnation; pulls wait for it. One that cannot be opened, or broke, is left alone for some time: the
 * other copies are asked meanwhile.
 *
 *   CLOSED --wanted--> OPENING --answered--> OPEN --a request failed--> CLOSED
 *     ^                   | not                                           |
 *     +-- DIR_REOPEN_NS --+-----------------------------------------------+
 *
 * Threads: the directory's loop, but for `opening`.
 */
#include "dir/dir_priv.h"

#include <stdio.h>

#define OPEN_MS 500u

struct opener {
    uv_work_t work;
    struct yk_dir *dir;
    uint32_t id;
    uint64_t incarnation;
    int rc;
    yk_xfer_segment segment;
    char where[sizeof(((struct yk_member_node *)0)->transfer)];
};

struct dir_peer *dir_peer_of(const struct yk_dir *d, uint32_t id) {
    for (uint32_t i = 0; i < d->peer_count; i++)
        if (d->peer[i]->say.id == id)
            return d->peer[i];
    return NULL;
}

static void segment_close(struct yk_dir *d, struct dir_peer *p) {
    if (p->state == DIR_SEG_OPEN)
        (void)yk_xfer_close(d->engine, p->segment);
    p->state = DIR_SEG_CLOSED;
}

int dir_peer_set(struct yk_dir *d, const struct yk_member_node *node, int gone) {
    struct dir_peer *p = dir_peer_of(d, node->id);
    if (p == NULL && d->peer_count == YK_DIR_MEMBERS_MAX)
        return -YK_ELIMIT;
    if (p == NULL) {
        p = calloc(1, sizeof(*p));
        if (p == NULL)
            return -YK_ENOMEM;
        dir_list_init(&p->waiting);
        p->say.id = node->id;
        d->peer[d->peer_count++] = p;
    }
    if (p->say.incarnation != node->incarnation || strcmp(p->say.transfer, node->transfer) != 0) {
        dir_pull_reached(&p->waiting, -YK_EGONE);
        segment_close(d, p);
        p->retry_ns = 0;
    }
    p->say = *node;
    p->gone = gone != 0;
    return 0;
}

void dir_peer_forget(struct yk_dir *d, uint32_t id) {
    for (uint32_t i = 0; i < d->peer_count; i++) {
        struct dir_peer *p = d->peer[i];
        if (p->say.id != id)
            continue;
        dir_pull_reached(&p->waiting, -YK_EGONE);
        segment_close(d, p);
        d->peer[i] = d->peer[--d->peer_count];
        free(p);
        return;
    }
}

void dir_peers_free(struct yk_dir *d) {
    while (d->peer_count > 0)
        dir_peer_forget(d, d->peer[0]->say.id);
}

/* ---- opening ---------------------------------------------------------------------------------------- */

static void opening(uv_work_t *work) {
    struct opener *o = work->data;
    o->rc = yk_xfer_open(o->dir->engine, o->where, OPEN_MS, &o->segment);
}

static void opened(uv_work_t *work, int status) {
    struct opener *o = work->data;
    struct yk_dir *d = o->dir;
    struct dir_peer *p = dir_peer_of(d, o->id);
    int wanted = p != NULL && p->state == DIR_SEG_OPENING && p->say.incarnation == o->incarnation &&
                 strcmp(p->say.transfer, o->where) == 0;
    if (status < 0)
        o->rc = -YK_ECANCELED;
    if (wanted) {
        p->state = o->rc == 0 ? DIR_SEG_OPEN : DIR_SEG_CLOSED;
        p->segment = o->segment;
        p->retry_ns = o->rc == 0 ? 0 : yk_now_ns() + DIR_REOPEN_NS;
        p->broke = 0;
        dir_pull_reached(&p->waiting, o->rc);
    } else if (o->rc == 0) {
        (void)yk_xfer_close(d->engine, o->segment);
    }
    free(o);
}

int dir_peer_reach(struct yk_dir *d, struct dir_peer *p, yk_xfer_segment *ret_segment, struct dir_link *wait) {
    if (p->state == DIR_SEG_OPEN) {
        *ret_segment = p->segment;
        return 0;
    }
    if (p->say.transfer[0] == 0)
        return -YK_EGONE;
    if (p->state == DIR_SEG_CLOSED && yk_now_ns() < p->retry_ns)
        return p->broke ? -YK_EAGAIN : -YK_EGONE;
    if (p->state == DIR_SEG_CLOSED) {
        struct opener *o = calloc(1, sizeof(*o));
        if (o == NULL)
            return -YK_EGONE;
        o->work.data = o;
        o->dir = d;
        o->id = p->say.id;
        o->incarnation = p->say.incarnation;
        snprintf(o->where, sizeof(o->where), "%s", p->say.transfer);
        if (uv_queue_work(&d->loop, &o->work, opening, opened) < 0) {
            free(o);
            return -YK_EGONE;
        }
        p->state = DIR_SEG_OPENING;
    }
    dir_list_add(&p->waiting, wait);
    return YK_PENDING;
}

void dir_peer_broken(struct yk_dir *d, struct dir_peer *p, yk_xfer_segment segment) {
    if (p->state != DIR_SEG_OPEN || p->segment != segment)
        return;
    segment_close(d, p);
    p->retry_ns = yk_now_ns() + DIR_REOPEN_NS;
    p->broke = 1;
}
