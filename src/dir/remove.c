/* SPDX-License-Identifier: Apache-2.0
 *
 * Removes: those that are wanted, on their way to the owner of the key's slot, and those that the core applies
 * here (docs/decisions/0014; dir/core.h).
 *
 * A wanted remove goes to whoever the map names, and again when that was not the owner any more, could not take
 * it yet, or did not answer, until its deadline; a remove is as good twice as once. Only the key's own slot
 * counts. What is not done at the deadline may go on, if it had begun by then: -YK_ETIMEDOUT says so to the client,
 * YK_PENDING to the peer that passed it on.
 *
 *   TRY --this node owns it--> UNDER WAY --the core says--> ended
 *    ^ `--another does-------> ASKED ------it says-------> ended
 *    +------ RETRY_NS ---------- not the owner, not now, no answer
 *
 * Applying: the key is taken out on the owner thread, behind every commit that was posted before, and counts when the
 * store's ticket is durable.
 *
 * Threads: the directory's loop; `..._there`: the node's owner thread.
 */
#include "dir/dir_priv.h"

#define RETRY_NS   (5 * YK_NS_PER_MS)
#define DROP_STEPS 1024u /* of a walk, in one turn of the owner thread */

enum state { TRY, UNDER_WAY, ASKED };

struct removal {
    struct dir_job job; /* its last word to the node */
    struct dir_link all;
    uint64_t id; /* the core's token */
    enum state state;
    int status;
    struct yk_peer_reply_to to; /* id 0: this node */
    struct yk_peer_who from;    /* else */
    uint64_t token, deadline_ns, retry_ns;
    uint32_t slot, ns_len, key_len;
    unsigned char bytes[]; /* namespace, key */
};

/* ---- the end of one that was wanted ----------------------------------------------------------------- */

static void tell(struct dir_job *job, struct yk_store *store) {
    const struct removal *m = DIR_ITEM(job, struct removal, job);
    (void)store;
    yk_node_pool_removed(job->dir->node, m->token, m->status == YK_PENDING ? -YK_ETIMEDOUT : m->status);
}

static void told(struct dir_job *job) {
    struct yk_dir *d = job->dir;
    struct removal *m = DIR_ITEM(job, struct removal, job);
    if (m->to.id == 0)
        __atomic_fetch_sub(&d->wish_count, 1, __ATOMIC_RELAXED);
    else
        d->remove_count--;
    free(m);
}

static void reply(struct yk_dir *d, const struct yk_peer_reply_to *to, int status, const uint32_t *missing,
                  uint32_t count) {
    unsigned char body[16 + 4u * YK_DIR_MEMBERS_MAX];
    struct yk_wr w;
    yk_wr_init(&w, body, sizeof(body));
    yk_wr_u32(&w, (uint32_t)status);
    yk_wr_u64(&w, d->map != NULL ? d->map->version : 0);
    yk_wr_u32(&w, count);
    for (uint32_t i = 0; i < count; i++)
        yk_wr_u32(&w, missing[i]);
    dir_reply(d, to, YK_DIR_REMOVE, body, yk_wr_len(&w));
}

/* Who is expelled, or not in the map yet, was not waited for: it may have the key, and must not say that it went. */
static int was_counted(const struct removal *m) {
    const struct yk_dir *d = m->job.dir;
    const struct yk_dir_member *who = d->map != NULL ? yk_dir_map_member(d->map, m->from.id) : NULL;
    return m->to.id == 0 ||
           (who != NULL && who->state != YK_DIR_EXPELLED && m->from.incarnation >= who->incarnation);
}

static void end(struct removal *m, int status, const uint32_t *missing, uint32_t count) {
    if ((status == 0 || status == YK_MISS) && !was_counted(m))
        status = -YK_EGONE;
    dir_list_remove(&m->all);
    m->status = status;
    m->job.back = told;
    m->job.there = tell;
    if (m->to.id == 0) {
        dir_to_node(m->job.dir, &m->job);
        return;
    }
    reply(m->job.dir, &m->to, status, missing, count < YK_DIR_MEMBERS_MAX ? count : 0);
    dir_to_loop(m->job.dir, &m->job);
}

/* ---- on its way ------------------------------------------------------------------------------------- */

static void again(struct removal *m) {
    m->state = TRY;
    m->retry_ns = yk_now_ns() + RETRY_NS;
    dir_look_soon(m->job.dir);
}

static struct removal *by_id(struct yk_dir *d, uint64_t id) {
    for (struct dir_link *l = d->removes.next; l != &d->removes; l = l->next)
        if (DIR_ITEM(l, struct removal, all)->id == id)
            return DIR_ITEM(l, struct removal, all);
    return NULL;
}

void dir_remove_ended(void *arg, uint64_t id, int status, const uint32_t *missing, uint32_t missing_count) {
    struct removal *m = by_id(arg, id);
    if (m == NULL || m->state != UNDER_WAY)
        return;
    if (status == -YK_EGONE && m->to.id == 0)
        again(m);
    else
        end(m, status, missing, missing_count);
}

static void on_reply(void *user, int status, const void *body, uint32_t len) {
    struct removal *m = user;
    struct yk_rd r;
    yk_rd_init(&r, body, len);
    if (status == 0)
        status = (int32_t)yk_rd_u32(&r);
    if (r.bad || status < 0)
        again(m);
    else
        end(m, status, NULL, 0);
}

static int ask(struct removal *m, uint32_t owner, uint32_t ms) {
    unsigned char body[YK_DIR_ONE_BYTES_MAX];
    struct yk_dir *d = m->job.dir;
    struct yk_wr w;
    struct yk_dirw_one one = {
        .ns = {m->bytes, m->ns_len},
        .epoch = dir_epoch_of(d, (const char *)m->bytes, m->ns_len),
        .key = {m->bytes + m->ns_len, m->key_len}};
    int rc = d->peers != NULL ? yk_peers_their_ms(d->peers, owner, yk_boot_ms() + ms, &one.until_ms) : -YK_ECLOSED;
    if (rc < 0)
        return rc; /* it is tried again */
    yk_wr_init(&w, body, sizeof(body));
    yk_wr_dir_remove(&w, &one);
    return dir_peers_ask(d, owner, YK_DIR_REMOVE, &w, ms, on_reply, m);
}

static void try_now(struct removal *m) {
    struct yk_dir *d = m->job.dir;
    uint32_t owner = d->map->slot[m->slot].owner, ms = dir_left_ms(m->deadline_ns, UINT32_MAX);
    struct yk_dir_key key = {(const char *)m->bytes, m->ns_len, m->bytes + m->ns_len, m->key_len};
    int rc = -YK_ECLOSED;
    if (ms == 0 || d->stopping) {
        end(m, -YK_ETIMEDOUT, NULL, 0); /* here it was not begun */
        return;
    }
    if (owner == d->self && d->core == NULL) {
        rc = -YK_EAGAIN; /* it begins anew */
    } else if (owner == d->self) {
        m->state = UNDER_WAY; /* it may end within */
        rc = yk_dir_core_remove(d->core, &key, m->deadline_ns / YK_NS_PER_MS, m->id, dir_now_ms());
        dir_tick_soon(d);
    } else if (m->to.id != 0) {
        end(m, -YK_EGONE, NULL, 0); /* passed on once: who asked looks at its map again */
        return;
    } else {
        m->state = ASKED;
        rc = ask(m, owner, ms);
    }
    if (rc < 0)
        again(m);
}

static void begin(struct dir_job *job) {
    struct yk_dir *d = job->dir;
    struct removal *m = DIR_ITEM(job, struct removal, job);
    m->id = ++d->next_remove;
    dir_list_add(&d->removes, &m->all);
    if (d->core == NULL) /* it has not joined yet */
        end(m, -YK_EAGAIN, NULL, 0);
    else
        try_now(m);
}

static struct removal *removal_new(struct yk_dir *d, const struct yk_dir_key *key, uint64_t deadline_ns) {
    struct removal *m = malloc(sizeof(*m) + key->ns_len + key->key_len);
    if (m == NULL)
        return NULL;
    memset(m, 0, sizeof(*m));
    m->job = (struct dir_job){.dir = d, .back = begin};
    m->deadline_ns = deadline_ns;
    m->slot = yk_dir_slot_of(yk_dir_hash(key->ns, key->ns_len, key->key, key->key_len));
    m->ns_len = key->ns_len;
    m->key_len = key->key_len;
    memcpy(m->bytes, key->ns, key->ns_len);
    memcpy(m->bytes + key->ns_len, key->key, key->key_len);
    dir_list_init(&m->all);
    return m;
}

struct dir_job *dir_remove_wish(struct yk_dir *d, const struct yk_dir_key *key, uint64_t deadline_ns,
                                uint64_t token) {
    struct removal *m = removal_new(d, key, deadline_ns);
    if (m == NULL)
        return NULL;
    m->token = token;
    return &m->job;
}

void dir_remove_serve(struct yk_dir *d, const struct yk_dir_key *key, uint64_t deadline_ns,
                      const struct yk_peer_who *from, const struct yk_peer_reply_to *to) {
    struct removal *m = d->remove_count < DIR_REMOVES_MAX ? removal_new(d, key, deadline_ns) : NULL;
    if (m == NULL) {
        reply(d, to, -YK_EAGAIN, NULL, 0);
        return;
    }
    d->remove_count++;
    m->to = *to;
    m->from = *from;
    begin(&m->job);
}

uint32_t dir_removes_look(struct yk_dir *d, uint64_t now_ns) {
    uint32_t left = 0;
    for (struct dir_link *l = d->removes.next, *next; l != &d->removes; l = next) {
        struct removal *m = DIR_ITEM(l, struct removal, all);
        next = l->next;
        if (m->state == TRY && m->retry_ns <= now_ns)
            try_now(m);
        else if (m->state == UNDER_WAY && d->stopping)
            end(m, YK_PENDING, NULL, 0);
        left++;
    }
    return left;
}

/* ---- applied here ----------------------------------------------------------------------------------- */

#define ALL_SLOTS UINT32_MAX

struct apply {
    struct dir_ticket t;
    void (*done)(struct yk_dir *d, uint64_t token, int status);
    uint64_t token, gen;
    uint32_t life; /* of the core */
    uint32_t slot, cursor; /* of a whole slot, or all */
    uint32_t ns_len, key_len;
    unsigned char bytes[];
};

#define APPLY(job) DIR_ITEM(job, struct apply, t.job)

static void to_core(struct yk_dir *d, uint64_t token, int status) {
    dir_changes_until_now(d);
    yk_dir_core_time(d->core, dir_now_ms());
    yk_dir_core_applied(d->core, token, status);
    dir_tick_soon(d);
}

static void applied(struct dir_ticket *t) {
    struct apply *a = DIR_ITEM(t, struct apply, t);
    struct yk_dir *d = t->job.dir;
    if (a->done != to_core || (d->core != NULL && a->life == d->core_life))
        a->done(d, a->token, t->status);
    free(a);
}

static int remove_one(struct yk_store *store, const void *ns, uint32_t ns_len, const void *key, uint32_t key_len,
                      uint64_t gen, uint64_t *io_ticket) {
    struct yk_err err;
    uint32_t number;
    uint64_t ticket = 0;
    int rc = yk_store_ns_open(store, ns, ns_len, 0, &number, &err);
    if (rc == -YK_ENONS)
        return YK_MISS;
    if (rc == 0)
        rc = yk_store_pool_remove(store, number, key, key_len, gen, &ticket);
    *io_ticket = yk_store_ticket_join(*io_ticket, ticket);
    return rc == -YK_ENONS ? YK_MISS : rc;
}

static void apply_there(struct dir_job *job, struct yk_store *store) {
    struct apply *a = APPLY(job);
    a->t.status =
        remove_one(store, a->bytes, a->ns_len, a->bytes + a->ns_len, a->key_len, a->gen, &a->t.ticket);
}

static void apply_back(struct dir_job *job) {
    dir_ticket_wait(&APPLY(job)->t);
}

static struct apply *apply_new(struct yk_dir *d, uint64_t token, size_t bytes) {
    struct apply *a = malloc(sizeof(*a) + bytes);
    if (a == NULL)
        return NULL;
    memset(a, 0, sizeof(*a));
    a->t.job.dir = d;
    a->t.job.back = apply_back;
    a->t.done = applied;
    dir_list_init(&a->t.all);
    a->done = to_core;
    a->token = token;
    a->life = d->core_life;
    return a;
}

int dir_apply(void *arg, const struct yk_dir_key *key, uint64_t gen, uint64_t token) {
    struct yk_dir *d = arg;
    struct apply *a = apply_new(d, token, key->ns_len + key->key_len);
    dir_cache_drop(d, key);
    if (a == NULL)
        return -YK_ENOMEM;
    a->gen = gen;
    a->ns_len = key->ns_len;
    a->key_len = key->key_len;
    memcpy(a->bytes, key->ns, key->ns_len);
    memcpy(a->bytes + key->ns_len, key->key, key->key_len);
    a->t.job.there = apply_there;
    dir_to_node(d, &a->t.job);
    return 0;
}

/* ---- a whole slot, or all --------------------------------------------------------------------------- */

/* Keys of the slot among the next blocks of the walk, put together: the walk must not change the store. */
struct slot_keys {
    uint32_t slot, len;
    unsigned char bytes[DROP_STEPS * (2u + YK_DIR_NS_MAX + YK_KEY_MAX)];
};

static void note_key(void *arg, const struct yk_pool_block *b) {
    struct slot_keys *k = arg;
    if (k->slot != ALL_SLOTS && yk_dir_slot_of(yk_dir_hash(b->ns, b->ns_len, b->key, b->key_len)) != k->slot)
        return;
    k->bytes[k->len++] = (unsigned char)b->ns_len;
    k->bytes[k->len++] = (unsigned char)b->key_len;
    memcpy(k->bytes + k->len, b->ns, b->ns_len);
    memcpy(k->bytes + k->len + b->ns_len, b->key, b->key_len);
    k->len += b->ns_len + b->key_len;
}

static void drop_there(struct dir_job *job, struct yk_store *store) {
    struct apply *a = APPLY(job);
    struct slot_keys *k = malloc(sizeof(*k));
    a->t.status = -YK_ENOMEM;
    if (k == NULL)
        return;
    k->slot = a->slot;
    k->len = 0;
    yk_store_pool_walk(store, &a->cursor, DROP_STEPS, note_key, k);
    a->t.status = 0;
    for (const unsigned char *at = k->bytes; at < k->bytes + k->len && a->t.status >= 0; at += 2u + at[0] + at[1])
        a->t.status = remove_one(store, at + 2, at[0], at + 2 + at[0], at[1], 0, &a->t.ticket);
    if (a->cursor == YK_WALK_END)
        a->t.ticket = yk_store_ticket_join(a->t.ticket, yk_store_pool_dropped(store));
    free(k);
}

static void drop_back(struct dir_job *job) {
    struct apply *a = APPLY(job);
    if (!job->closed && a->t.status >= 0 && a->cursor != YK_WALK_END &&
        (a->done != to_core || a->life == job->dir->core_life))
        dir_to_node(job->dir, job); /* its next piece */
    else
        dir_ticket_wait(&a->t);
}

static int drop_start(struct yk_dir *d, uint32_t slot, uint64_t token,
                      void (*done)(struct yk_dir *d, uint64_t token, int status)) {
    struct apply *a = apply_new(d, token, 0);
    if (a == NULL)
        return -YK_ENOMEM;
    a->slot = slot;
    a->done = done;
    a->t.job.there = drop_there;
    a->t.job.back = drop_back;
    dir_to_node(d, &a->t.job);
    return 0;
}

int dir_drop_slot(void *arg, uint32_t slot, uint64_t token) {
    return drop_start(arg, slot, token, to_core);
}

int dir_drop_all(struct yk_dir *d, void (*done)(struct yk_dir *d, uint64_t token, int status)) {
    return drop_start(d, ALL_SLOTS, 0, done);
}
