/* SPDX-License-Identifier: Apache-2.0
 *
 * A block comes from another node (docs/decisions/0016 "The node is the client's gateway").
 *
 * One pull for one key (namespace, epoch), however many wish for it. It goes from copy to copy, the nearest and
 * those in memory first, suspect nodes last, until one has come or the deadline is over:
 *
 *   QUEUED --a turn--> LOCATING --where it is--> REACHING --its segment--> RESERVING --a place here--> READING
 *     ^                   | not there, no answer     | cannot be opened       | no space: RESTING         |
 *     |                   +---- next copy <----------+--<----- read failed, remove came between ----------+
 *     +-- copies are used up, and were old, their holders busy, reads failed: ASKING   commit: COMMITTING --> ended
 *
 * The read is guarded (R15) by what the holder said, and its checksum is verified by the engine when it came
 * over a network (R17). A guard that fails once may be a block that was moved: the same holder is asked once
 * more. A read that fails otherwise, a connection that broke say, closes the holder's segment: when that may be opened
 * anew and nobody else had the block, all are asked again. Whether it may be committed is asked of the core as the last
 * thing before the commit is posted (dir.h). What has been committed is a guest: it goes first unless it is used again.
 *
 * A pull has one thing under way at a time, so it needs one job and no locks; each ends by itself (peers and
 * engine keep deadlines, the owner thread is prompt), and only then the pull ends.
 *
 * Threads: the directory's loop; `there` functions: the node's owner thread; `read_done`: the engine's.
 */
#include "dir/dir_priv.h"

#define BUCKETS     4096u /* a power of two */
#define REST_NS     (2 * YK_NS_PER_MS)
#define REFUSED_NS  (5 * YK_NS_PER_MS)
#define REFUSED_MAX 200u  /* a second in all */
#define LOCATE_MS   1000u /* a holder may take so long to bring it up from SSD; then the next one is asked */
#define BUSY_NS     (20 * YK_NS_PER_MS)
#define BUSY_MAX    3u    /* times that all are asked again for holders that had no time, or whose read failed: a pull
                             keeps its turn meanwhile */

enum state { QUEUED, ASKING, LOCATING, REACHING, RESERVING, RESTING, READING, DROPPING, COMMITTING };

struct dir_pulls {
    struct dir_pull *bucket[BUCKETS];
    struct dir_turns turns;
};

struct dir_pull {
    struct dir_job job;
    struct dir_turn turn;
    struct dir_link reach;   /* in a peer's list */
    struct dir_link waits;   /* of wishes */
    struct dir_pull *next;   /* in its bucket */
    enum state state;
    void (*rested)(struct dir_pull *p); /* RESTING: what comes then */
    uint64_t epoch, hash, deadline_ns, rest_ns, located_ns;
    struct yk_dir_found found;
    uint32_t copy;           /* the next to be tried */
    uint32_t member;         /* that is tried now */
    uint8_t cached, again, xclass, cancelled;
    uint8_t far;     /* the read is from another zone */
    uint8_t refused; /* it is asked for again after a rest */
    uint8_t busy;    /* a holder that lives had no time to answer */
    uint8_t broken;  /* a holder that lives could not be read from just now */
    uint8_t busy_times; /* that all were asked anew for that */
    uint32_t refusals;
    int status;              /* of the step */
    struct dir_ask *ask;
    struct yk_dirw_place there; /* at the holder; parent lies in `parent` */
    yk_xfer_segment segment;
    yk_xfer_batch batch;
    struct yk_place here;
    void *addr;
    unsigned char parent[YK_KEY_MAX];
    uint32_t ns_len, key_len;
    unsigned char bytes[]; /* namespace, key */
};

#define PULL(job) DIR_ITEM(job, struct dir_pull, job)

static void try_next(struct dir_pull *p);
static void reserve(struct dir_pull *p);

static struct yk_dir_key key_of(const struct dir_pull *p) {
    return (struct yk_dir_key){(const char *)p->bytes, p->ns_len, p->bytes + p->ns_len, p->key_len};
}

static uint32_t left_ms(const struct dir_pull *p, uint32_t most) {
    return p->cancelled || p->job.dir->stopping ? 0 : dir_left_ms(p->deadline_ns, most);
}

/* ---- the table -------------------------------------------------------------------------------------- */

static struct dir_pull *find(const struct dir_pulls *all, const struct yk_dir_key *key, uint64_t hash) {
    struct dir_pull *p = all != NULL ? all->bucket[hash & (BUCKETS - 1u)] : NULL;
    while (p != NULL && (p->hash != hash || p->ns_len != key->ns_len || p->key_len != key->key_len ||
                         memcmp(p->bytes, key->ns, p->ns_len) != 0 ||
                         memcmp(p->bytes + p->ns_len, key->key, p->key_len) != 0))
        p = p->next;
    return p;
}

static void unlink_pull(struct dir_pulls *all, struct dir_pull *p) {
    struct dir_pull **at = &all->bucket[p->hash & (BUCKETS - 1u)];
    while (*at != p)
        at = &(*at)->next;
    *at = p->next;
}

uint64_t dir_pull_group(const struct yk_dir *d, const struct yk_dir_key *key, uint64_t hash) {
    const struct dir_pull *p = find(d->pulls, key, hash);
    return p != NULL ? p->found.group : 0;
}

/* ---- end -------------------------------------------------------------------------------------------- */

static void start_queued(struct dir_pulls *all);

/* In another zone, as far as that is known. */
static unsigned is_far(const struct yk_dir *d, uint32_t member) {
    const struct dir_peer *p = dir_peer_of(d, member);
    return p == NULL || strcmp(p->say.zone, d->opts.zone) != 0;
}

static void end(struct dir_pull *p, int status) {
    struct yk_dir *d = p->job.dir;
    struct dir_pulls *all = d->pulls;
    if (status == 0) {
        d->n.pulled++;
        d->n.pulled_bytes += p->there.len;
        d->n.far_pulled += is_far(d, p->member);
        d->n.far_pulled_bytes += is_far(d, p->member) ? p->there.len : 0;
    } else {
        d->n.pull_failed++;
    }
    d->n.pulling--;
    unlink_pull(all, p);
    dir_turns_end(&all->turns, &p->turn);
    while (!dir_list_empty(&p->waits)) {
        struct dir_wait *wait = DIR_ITEM(p->waits.next, struct dir_wait, by_pull);
        dir_list_remove(&wait->by_pull);
        dir_list_remove(&wait->by_wish);
        if (wait->pulled != NULL)
            wait->pulled(wait, status);
        else
            dir_wish_pulled(wait);
    }
    free(p);
    start_queued(all);
}

/* ---- a place here, and the commit ------------------------------------------------------------------- */

static void drop_there(struct dir_job *job, struct yk_store *store) {
    yk_store_pool_abort(store, &PULL(job)->here);
}

static void rest(struct dir_pull *p, uint64_t ns, void (*rested)(struct dir_pull *p)) {
    p->state = RESTING;
    p->rested = rested;
    p->rest_ns = yk_now_ns() + ns;
    dir_look_soon(p->job.dir);
}

static void dropped(struct dir_job *job) {
    struct dir_pull *p = PULL(job);
    int refused = p->refused;
    p->refused = 0;
    if (refused)
        rest(p, REFUSED_NS, try_next);
    else
        try_next(p);
}

static void drop_place(struct dir_pull *p) {
    p->state = DROPPING;
    p->job.there = drop_there;
    p->job.back = dropped;
    dir_to_node(p->job.dir, &p->job);
}

/* What is left of its time to live; 0: it lives for ever. */
static uint64_t life_ms(const struct dir_pull *p) {
    uint64_t gone_ms = (yk_now_ns() - p->located_ns) / YK_NS_PER_MS, left_ms = p->there.left_ms;
    return left_ms == 0 ? 0 : left_ms > gone_ms ? left_ms - gone_ms : 1;
}

static void commit_there(struct dir_job *job, struct yk_store *store) {
    struct dir_pull *p = PULL(job);
    struct yk_err err;
    uint32_t ns;
    struct yk_commit c = {.idx = p->here.idx,
                          .gen = p->here.gen,
                          .epoch = p->epoch,
                          .sum = p->there.sum,
                          .len = (uint32_t)p->there.len,
                          .attrs = p->there.attrs,
                          .key = p->bytes + p->ns_len,
                          .key_len = p->key_len,
                          .parent = p->parent,
                          .parent_len = p->there.parent.len};
    p->status = yk_store_ns_open(store, p->bytes, p->ns_len, 0, &ns, &err);
    if (p->status == 0)
        p->status = yk_store_pool_commit(store, ns, &c, life_ms(p), 1);
    else
        yk_store_pool_abort(store, &p->here);
}

/* The place is over in any case. */
static void committed(struct dir_job *job) {
    struct dir_pull *p = PULL(job);
    if (job->closed)
        p->status = -YK_ECLOSED;
    if (p->status == -YK_EAGAIN)
        rest(p, REST_NS, reserve); /* a quota takes more evictions than a turn makes: again from the place on */
    else
        end(p, p->status);
}

/* A copy that was refused: a remove came between, or this node or the holder is new to the slot's term and has not
 * heard its log yet. In the first case the holder has it no more when it is asked again; the second is soon over. */
static void commit(struct dir_pull *p) {
    struct yk_dir_key key = key_of(p);
    struct yk_dir_stand stand = {p->there.term, p->there.rseq};
    if (p->job.dir->core == NULL || !yk_dir_core_may_commit(p->job.dir->core, &key, &stand)) {
        if (p->refusals++ < REFUSED_MAX) {
            p->refused = 1;
            p->copy--;
        }
        drop_place(p);
        return;
    }
    p->state = COMMITTING;
    p->job.there = commit_there;
    p->job.back = committed;
    dir_to_node(p->job.dir, &p->job);
}

/* ---- the read --------------------------------------------------------------------------------------- */

/* One that answers nobody is gone: that is no matter of a connection. */
static void note_broken(struct dir_pull *p) {
    p->broken |= !dir_suspect(p->job.dir, p->member);
}

static void read_over(struct dir_job *job) {
    struct dir_pull *p = PULL(job);
    struct yk_dir *d = job->dir;
    struct dir_peer *peer = dir_peer_of(d, p->member);
    dir_meter_end(p->far ? &d->far : &d->near, p->status == 0 ? p->there.len : 0);
    if (p->status == 0) {
        commit(p);
        return;
    }
    if (p->status == YK_MISS && !p->again) { /* moved, perhaps: asked once more */
        p->again = 1;
        p->copy--;
    } else if (p->status < 0 && p->status != -YK_ECANCELED && p->status != -YK_ETIMEDOUT && peer != NULL) {
        dir_peer_broken(d, peer, p->segment);
        note_broken(p);
    }
    drop_place(p);
}

static void read_done(void *user, yk_xfer_batch batch, int status) {
    struct dir_pull *p = user;
    p->status = status;
    p->job.back = read_over;
    dir_to_loop(p->job.dir, &p->job);
}

static void read_begin(struct dir_pull *p) {
    yk_xfer_guard guard = {.descriptor = p->there.idx,
                           .generation = p->there.gen,
                           .epoch = p->there.epoch,
                           .checksum = p->there.sum,
                           .has_checksum = 1};
    yk_xfer_request request = {.op = YK_XFER_READ,
                               .local = p->addr,
                               .segment = p->segment,
                               .offset = p->there.offset,
                               .length = p->there.len,
                               .guard = &guard};
    yk_xfer_submit_opts opts = {.size = sizeof(opts),
                                .xclass = p->xclass,
                                .timeout_ms = left_ms(p, UINT32_MAX),
                                .user = p,
                                .done = read_done};
    if (opts.timeout_ms == 0) {
        drop_place(p);
        return;
    }
    p->state = READING;
    p->far = is_far(p->job.dir, p->member) != 0;
    dir_meter_begin(p->far ? &p->job.dir->far : &p->job.dir->near);
    int rc = yk_xfer_submit(p->job.dir->engine, &request, 1, &opts, &p->batch);
    if (rc < 0) {
        p->status = rc;
        read_over(&p->job);
    }
}

/* ---- a place ---------------------------------------------------------------------------------------- */

static void reserve_there(struct dir_job *job, struct yk_store *store) {
    struct dir_pull *p = PULL(job);
    p->status = yk_store_pool_reserve(store, p->there.len, &p->here, &p->addr);
}

static void reserved(struct dir_job *job) {
    struct dir_pull *p = PULL(job);
    if (job->closed)
        p->status = -YK_ECLOSED;
    if (p->status == 0) {
        read_begin(p);
    } else if (p->status == -YK_ENOSPC || p->status == -YK_EAGAIN) {
        rest(p, REST_NS, reserve);
    } else {
        end(p, p->status); /* never here, whoever has it */
    }
}

static void reserve(struct dir_pull *p) {
    p->state = RESERVING;
    p->job.there = reserve_there;
    p->job.back = reserved;
    dir_to_node(p->job.dir, &p->job);
}

/* ---- the holder ------------------------------------------------------------------------------------- */

/* A holder that does not answer anybody is not waited for, nor one whose segment cannot be opened. */
static void note_busy(struct dir_pull *p, int status) {
    int is_busy = status == -YK_ETIMEDOUT || status == -YK_EAGAIN;
    p->busy |= is_busy && !dir_suspect(p->job.dir, p->member);
}

static void reach(struct dir_pull *p) {
    struct yk_dir *d = p->job.dir;
    struct dir_peer *peer = dir_peer_of(d, p->member);
    int rc = peer != NULL ? dir_peer_reach(d, peer, &p->segment, &p->reach) : -YK_EGONE;
    p->state = REACHING;
    if (rc == -YK_EAGAIN)
        note_broken(p);
    if (rc == 0)
        reserve(p);
    else if (rc < 0)
        try_next(p);
}

void dir_pull_reached(struct dir_link *waiting, int status) {
    while (!dir_list_empty(waiting)) {
        struct dir_pull *p = DIR_ITEM(waiting->next, struct dir_pull, reach);
        dir_list_remove(&p->reach);
        if (status == 0)
            reach(p);
        else
            try_next(p);
    }
}

/* The parent's bytes are the frame's, and are kept here. */
static int take_place(struct dir_pull *p, const void *body, uint32_t len) {
    struct yk_rd r;
    struct yk_dirw_place *t = &p->there;
    yk_rd_init(&r, body, len);
    yk_rd_dir_place(&r, t);
    if (!yk_rd_ok(&r))
        return -YK_EPROTO;
    if (t->status != 0)
        return t->status;
    if (t->epoch != p->epoch || t->parent.len > sizeof(p->parent))
        return YK_MISS;
    if (t->parent.len > 0)
        memcpy(p->parent, t->parent.data, t->parent.len);
    t->parent.data = p->parent;
    t->attrs.flags &= YK_ATTR_WITH_COPIES(15u); /* whoever put it may have wanted it held there; here it is a guest */
    t->attrs.pin_ms = 0;
    p->located_ns = yk_now_ns();
    return 0;
}

static void located(void *user, int status, const void *body, uint32_t len) {
    struct dir_pull *p = user;
    if (status == 0)
        status = take_place(p, body, len);
    note_busy(p, status);
    if (status == 0)
        reach(p);
    else
        try_next(p);
}

static int locate(struct dir_pull *p) {
    unsigned char body[YK_DIR_ONE_BYTES_MAX];
    struct yk_wr w;
    uint32_t ms = left_ms(p, LOCATE_MS);
    struct yk_dirw_one one = {.ns = {p->bytes, p->ns_len},
                              .key = {p->bytes + p->ns_len, p->key_len},
                              .epoch = p->epoch,
                              .timeout_ms = ms};
    yk_wr_init(&w, body, sizeof(body));
    yk_wr_dir_locate(&w, &one);
    p->state = LOCATING;
    p->job.dir->n.pull_tries++;
    return dir_peers_ask(p->job.dir, p->member, YK_DIR_LOCATE, &w, ms, located, p);
}

/* ---- which copy ------------------------------------------------------------------------------------- */

/* Lower is better: a node that answers, a near one, one that has it in memory. */
static unsigned cost(const struct yk_dir *d, const struct yk_dir_copy *c) {
    return 4u * (dir_suspect(d, c->member)) + 2u * is_far(d, c->member) + ((c->tiers & (1u << YK_TIER_DRAM)) == 0);
}

/* The best of the rest comes to the place of the next. */
static void choose(struct dir_pull *p) {
    struct yk_dir_found *f = &p->found;
    uint32_t best = p->copy;
    for (uint32_t i = best + 1u; i < f->count; i++)
        if (cost(p->job.dir, &f->copy[i]) < cost(p->job.dir, &f->copy[best]))
            best = i;
    struct yk_dir_copy c = f->copy[best];
    f->copy[best] = f->copy[p->copy];
    f->copy[p->copy] = c;
}

static void asked(struct dir_ask *a) {
    struct dir_pull *p = a->arg;
    p->found = a->key[0].found;
    p->copy = 0;
    p->again = 0;
    p->ask = NULL;
    dir_ask_free(a);
    if (p->found.status != 0)
        p->found.count = 0;
    try_next(p);
}

/* What was cached has led nowhere, a holder had no time, or its read failed. */
static int ask_anew(struct dir_pull *p) {
    struct dir_ask *a = dir_ask_new(p->job.dir, 1);
    struct yk_dir_key key = key_of(p);
    p->cached = 0;
    dir_cache_drop(p->job.dir, &key);
    if (a == NULL)
        return -YK_ENOMEM;
    p->state = ASKING;
    p->ask = a;
    a->arg = p;
    a->done = asked;
    a->epoch = p->epoch;
    a->deadline_ns = p->deadline_ns;
    a->ns_len = p->ns_len;
    memcpy(a->ns, p->bytes, p->ns_len);
    a->key[0].key = p->bytes + p->ns_len;
    a->key[0].key_len = p->key_len;
    dir_ask_start(a);
    return 0;
}

static void ask_again(struct dir_pull *p) {
    p->busy = p->broken = 0;
    if (ask_anew(p) < 0)
        end(p, -YK_ENOMEM);
}

static void try_next(struct dir_pull *p) {
    const struct yk_dir *d = p->job.dir;
    while (p->copy < p->found.count && left_ms(p, 1) > 0) {
        choose(p);
        const struct yk_dir_copy *c = &p->found.copy[p->copy++];
        if (p->member != c->member)
            p->again = 0;
        p->member = c->member;
        if (c->member == d->self || !dir_is_live(d, c->member, c->incarnation))
            continue;
        int rc = locate(p);
        if (rc == 0)
            return;
        note_busy(p, rc);
    }
    if (p->cached && left_ms(p, 1) > 0 && ask_anew(p) == 0)
        return;
    if ((p->busy || p->broken) && p->busy_times < BUSY_MAX && left_ms(p, 1) > 0) {
        uint64_t ns = BUSY_NS << p->busy_times++;
        rest(p, p->broken && ns < DIR_REOPEN_NS ? DIR_REOPEN_NS : ns, ask_again);
        return;
    }
    end(p, left_ms(p, 1) > 0 ? YK_MISS : -YK_ETIMEDOUT);
}

/* ---- beginning -------------------------------------------------------------------------------------- */

static void first_turn(struct dir_job *job) {
    try_next(PULL(job));
}

/* By a job of its own: whoever asks for a pull never sees it end meanwhile. */
static void start_queued(struct dir_pulls *all) {
    for (struct dir_turn *t; (t = dir_turns_next(&all->turns)) != NULL;) {
        struct dir_pull *p = DIR_ITEM(t, struct dir_pull, turn);
        p->job.back = first_turn;
        dir_to_loop(p->job.dir, &p->job);
    }
}

int dir_pull_join(struct yk_dir *d, const struct dir_pull_want *want, struct dir_wait *wait) {
    struct dir_pull *p = find(d->pulls, &want->key, want->hash);
    if (p == NULL || p->epoch != want->epoch)
        return 0;
    if (p->deadline_ns < want->deadline_ns)
        p->deadline_ns = want->deadline_ns;
    if (want->xclass < p->xclass)
        p->xclass = want->xclass; /* the more urgent one */
    if (p->xclass <= YK_XFER_DEMAND)
        dir_turns_hurry(&d->pulls->turns, &p->turn);
    if (wait != NULL)
        dir_list_add(&p->waits, &wait->by_pull);
    start_queued(d->pulls); /* what is kept for those who wait may be its own now, or leave a turn to another */
    return 1;
}

static struct dir_pulls *table_of(struct yk_dir *d) {
    if (d->pulls == NULL && (d->pulls = calloc(1, sizeof(*d->pulls))) != NULL)
        dir_turns_init(&d->pulls->turns, DIR_PULLS_MAX, DIR_PULLS_BUSY);
    return d->pulls;
}

int dir_pull_start(struct yk_dir *d, const struct dir_pull_want *want, struct dir_wait *wait) {
    struct dir_pulls *all = table_of(d);
    const struct yk_dir_key *key = &want->key;
    if (d->engine == NULL || all == NULL)
        return -YK_EAGAIN;
    struct dir_pull *p = malloc(sizeof(*p) + key->ns_len + key->key_len);
    if (p == NULL)
        return -YK_ENOMEM;
    memset(p, 0, sizeof(*p));
    if (dir_turns_add(&all->turns, &p->turn, want->xclass > YK_XFER_DEMAND) < 0) {
        free(p);
        return -YK_EAGAIN;
    }
    p->job.dir = d;
    p->epoch = want->epoch;
    p->hash = want->hash;
    p->deadline_ns = want->deadline_ns;
    p->found = *want->found;
    p->cached = want->cached != 0;
    p->xclass = want->xclass;
    p->ns_len = key->ns_len;
    p->key_len = key->key_len;
    memcpy(p->bytes, key->ns, key->ns_len);
    memcpy(p->bytes + key->ns_len, key->key, key->key_len);
    dir_list_init(&p->reach);
    dir_list_init(&p->waits);
    if (wait != NULL)
        dir_list_add(&p->waits, &wait->by_pull);
    p->next = all->bucket[p->hash & (BUCKETS - 1u)];
    all->bucket[p->hash & (BUCKETS - 1u)] = p;
    d->n.pulls++;
    d->n.pulling++;
    start_queued(all);
    return 0;
}

/* ---- time ------------------------------------------------------------------------------------------- */

/* Those that wait for a peer or an engine end by that; here are those that wait for a time, or for a segment to be
 * opened, which may take longer than they have. */
uint32_t dir_pulls_look(struct yk_dir *d, uint64_t now_ns) {
    if (d->pulls == NULL)
        return 0;
    struct dir_link *busy = &d->pulls->turns.busy;
    for (struct dir_link *l = busy->next, *next; l != busy; l = next) {
        struct dir_pull *p = DIR_ITEM(l, struct dir_pull, turn.at);
        next = l->next;
        int over = left_ms(p, 1) == 0;
        if (p->state == RESTING && (over || p->rest_ns <= now_ns)) {
            if (over)
                end(p, -YK_ETIMEDOUT);
            else
                p->rested(p);
        } else if (p->state == REACHING && over) {
            dir_list_remove(&p->reach);
            end(p, -YK_ETIMEDOUT);
        }
    }
    return d->pulls->turns.count;
}

void dir_pulls_cancel(struct yk_dir *d) {
    if (d->pulls == NULL)
        return;
    for (struct dir_link *busy = &d->pulls->turns.busy, *l = busy->next; l != busy; l = l->next) {
        struct dir_pull *p = DIR_ITEM(l, struct dir_pull, turn.at);
        p->cancelled = 1;
        if (p->state == READING)
            (void)yk_xfer_cancel(d->engine, p->batch);
    }
}
