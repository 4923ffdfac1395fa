/* SPDX-License-Identifier: Apache-2.0
 *
 * The target of a copy (docs/decisions/0017): this node is to have a block of its own.
 *
 *   KEEPING --it is here--> TELLING --its owners have confirmed it--> ended: 0
 *     |  ^
 *     |  `-- it has come --.
 *     `-- not here ----> PULLING --nobody has it, a remove came between, no room--> ended
 *
 * What is pulled comes as any guest does (pull.c: the guard, the check against removes just before the commit), and is
 * then kept: a step on the owner thread that finds it and makes it no guest. A guest that was here already is kept
 * likewise, and no bytes travel.
 *
 * Threads: the directory's loop; `keep_there`: the node's owner thread.
 */
#include "dir/copy_priv.h"

enum state { KEEPING, PULLING, TELLING };

struct dir_takes {
    struct dir_turns turns;
};

struct take {
    struct dir_job job;
    struct dir_turn turn;
    struct dir_wait wait; /* for the pull */
    enum state state;
    struct yk_peer_reply_to to; /* id 0: `done` */
    void (*done)(void *arg, int status);
    void *arg;
    uint64_t epoch, hash, deadline_ns;
    struct yk_dir_found found;
    struct yk_dir_mark mark;
    uint8_t wanted, xclass, pulled, marked;
    int status;
    uint32_t ns_len, key_len;
    unsigned char bytes[]; /* namespace, key */
};

#define TAKE(job) DIR_ITEM(job, struct take, job)

static struct yk_dir_key key_of(const struct take *t) {
    return (struct yk_dir_key){(const char *)t->bytes, t->ns_len, t->bytes + t->ns_len, t->key_len};
}

static void reply(struct yk_dir *d, const struct yk_peer_reply_to *to, int status) {
    unsigned char body[4];
    struct yk_wr w;
    yk_wr_init(&w, body, sizeof(body));
    yk_wr_u32(&w, (uint32_t)status);
    dir_reply(d, to, YK_DIR_TAKE, body, yk_wr_len(&w));
}

static void end(struct take *t, int status) {
    struct yk_dir *d = t->job.dir;
    dir_list_remove(&t->wait.by_pull);
    dir_turns_end(&d->takes->turns, &t->turn);
    d->n.taking--;
    if (status == 0)
        d->n.taken++;
    else
        d->n.take_failed++;
    if (t->done != NULL)
        t->done(t->arg, status);
    else
        reply(d, &t->to, status);
    free(t);
}

/* ---- telling ---------------------------------------------------------------------------------------- */

/* Have the owners heard of it? The mark is taken when the change has reached the core. */
static void tell(struct take *t) {
    struct yk_dir *d = t->job.dir;
    struct yk_dir_key key = key_of(t);
    t->state = TELLING;
    if (d->core == NULL) {
        dir_look_soon(d); /* it begins anew (join.c) */
        return;
    }
    if (!t->marked) {
        dir_changes_until_now(d);
        dir_tick_soon(d);
        if (!yk_dir_core_mark(d->core, &key, t->epoch, &t->mark)) {
            end(t, YK_MISS); /* it has gone again */
            return;
        }
        t->marked = 1;
    }
    int told = yk_dir_core_is_told(d->core, &t->mark);
    t->marked = told >= 0;
    if (told == 1)
        end(t, 0);
    else
        dir_look_soon(d);
}

/* ---- keeping, pulling ------------------------------------------------------------------------------- */

/* A namespace that nobody has opened here is made: another node has it. Its epoch, if it was ever raised, comes from
 * etcd, and until it has the commit is -YK_ESTALE. */
static void keep_there(struct dir_job *job, struct yk_store *store) {
    struct take *t = TAKE(job);
    struct yk_err err;
    uint32_t ns;
    t->status = yk_store_ns_open(store, t->bytes, t->ns_len, 1, &ns, &err);
    if (t->status == 0)
        t->status = yk_store_pool_keep(store, ns, t->epoch, t->bytes + t->ns_len, t->key_len, t->wanted, NULL);
}

static void keep(struct take *t);

static void pulled(struct dir_wait *wait, int status) {
    struct take *t = DIR_ITEM(wait, struct take, wait);
    t->pulled = 1;
    if (status == 0)
        keep(t);
    else
        end(t, status);
}

static void pull(struct take *t) {
    struct yk_dir *d = t->job.dir;
    struct dir_pull_want want = {.key = key_of(t),
                                 .epoch = t->epoch,
                                 .hash = t->hash,
                                 .deadline_ns = t->deadline_ns,
                                 .xclass = t->xclass,
                                 .found = &t->found};
    t->state = PULLING;
    t->wait.pulled = pulled;
    int rc = dir_pull_join(d, &want, &t->wait) ? 0 : dir_pull_start(d, &want, &t->wait);
    if (rc < 0)
        end(t, rc);
    else
        dir_look_soon(d);
}

static void kept(struct dir_job *job) {
    struct take *t = TAKE(job);
    if (job->closed || job->dir->stopping)
        end(t, -YK_ECLOSED);
    else if (t->status == 0)
        tell(t);
    else if (t->status == YK_MISS && !t->pulled)
        pull(t);
    else
        end(t, t->status);
}

static void keep(struct take *t) {
    struct yk_dir_key key = key_of(t);
    dir_copies_keep(t->job.dir, &key, t->hash); /* one under way is undone by `keep_there`, which comes behind it */
    t->state = KEEPING;
    t->job.there = keep_there;
    t->job.back = kept;
    dir_to_node(t->job.dir, &t->job);
}

/* ---- beginning, time -------------------------------------------------------------------------------- */

static int start(struct yk_dir *d, const struct yk_dirw_take *want, struct take **ret) {
    if (d->takes == NULL && (d->takes = calloc(1, sizeof(*d->takes))) != NULL)
        dir_turns_init(&d->takes->turns, DIR_TAKES_MAX, DIR_TAKES_MAX);
    if (d->takes == NULL || d->stopping || d->core == NULL || !yk_dir_core_serves(d->core))
        return -YK_EAGAIN;
    struct take *t = calloc(1, sizeof(*t) + want->ns.len + want->key.len);
    if (t == NULL)
        return -YK_ENOMEM;
    if (dir_turns_add(&d->takes->turns, &t->turn, want->xclass > YK_XFER_DEMAND) < 0) {
        free(t);
        return -YK_EAGAIN;
    }
    (void)dir_turns_next(&d->takes->turns); /* it is at once: none waits */
    t->job.dir = d;
    t->epoch = want->epoch;
    t->deadline_ns = yk_now_ns() + want->timeout_ms * YK_NS_PER_MS;
    t->wanted = want->wanted;
    t->xclass = want->xclass;
    t->ns_len = want->ns.len;
    t->key_len = want->key.len;
    memcpy(t->bytes, want->ns.data, t->ns_len);
    memcpy(t->bytes + t->ns_len, want->key.data, t->key_len);
    t->hash = yk_dir_hash((const char *)t->bytes, t->ns_len, t->bytes + t->ns_len, t->key_len);
    dir_found_from_wire(&want->found, &t->found);
    dir_list_init(&t->wait.by_pull);
    dir_list_init(&t->wait.by_wish);
    d->n.taking++;
    *ret = t;
    return 0;
}

int dir_take_start(struct yk_dir *d, const struct yk_dirw_take *want, void (*done)(void *arg, int status), void *arg) {
    struct take *t;
    int rc = start(d, want, &t);
    if (rc < 0)
        return rc;
    t->done = done;
    t->arg = arg;
    keep(t);
    return 0;
}

int dir_take_serve(struct yk_dir *d, const struct yk_peer_who *from, struct yk_rd *r,
                   const struct yk_peer_reply_to *to) {
    struct yk_dirw_take want;
    struct take *t;
    yk_rd_dir_take(r, &want);
    if (!yk_rd_ok(r))
        return -YK_EPROTO;
    dir_epoch_hear(d, from, &want.ns, want.epoch); /* on its way to the store before the commit is */
    int rc = dir_epoch_is_gone(d, &want.ns, want.epoch) ? -YK_ESTALE : start(d, &want, &t);
    if (rc < 0) {
        reply(d, to, rc);
        return 0;
    }
    t->to = *to;
    keep(t);
    return 0;
}

/* What is on the owner thread comes back by itself. */
uint32_t dir_takes_look(struct yk_dir *d, uint64_t now_ns) {
    if (d->takes == NULL)
        return 0;
    struct dir_link *busy = &d->takes->turns.busy;
    for (struct dir_link *l = busy->next, *next; l != busy; l = next) {
        struct take *t = DIR_ITEM(l, struct take, turn.at);
        next = l->next;
        if (t->state == KEEPING)
            continue;
        if (d->stopping || t->deadline_ns <= now_ns)
            end(t, d->stopping ? -YK_ECLOSED : -YK_ETIMEDOUT);
        else if (t->state == TELLING)
            tell(t);
    }
    return d->takes->turns.count;
}
