/* SPDX-License-Identifier: Apache-2.0
 *
 * What peers and guests ask (wire/dir.h). Guests may ask, drain, forget and rebalance; what changes blocks or what the core says is
 * for members alone.
 *
 * FIND is answered from the core's table at once. HAVE and LOCATE go to the node's owner thread; LOCATE of a
 * block that is on SSD alone looks again, every tick of the look timer, until it has come up or the time is
 * over. How far this node has applied removes (the stand) is noted before the owner thread is asked: what it
 * then finds has seen at least those.
 *
 * Threads: the directory's loop; `..._there`: the node's owner thread.
 */
#include "dir/copy_priv.h"

#include <stdio.h>

#define REMOVE_MS_MAX 60000u /* whatever it says: as a node gives its clients */

struct serving {
    struct dir_job job;
    struct dir_link all; /* LOCATE: while the block comes up */
    struct yk_peer_reply_to to;
    uint64_t deadline_ns;
    struct yk_dirw_place place; /* LOCATE's answer */
    struct yk_pool_copy copy;
    struct yk_dirw_have *have;  /* HAVE's */
    uint32_t len;
    unsigned char body[]; /* of the request, well formed */
};

/* ---- FIND ------------------------------------------------------------------------------------------- */

void dir_found_to_wire(const struct yk_dir_found *f, struct yk_dirw_found *ret) {
    ret->status = f->status;
    ret->group = f->group;
    ret->epoch = f->epoch;
    ret->len = f->len;
    ret->sum = f->sum;
    ret->count = f->status == 0 ? f->count : 0;
    for (uint32_t i = 0; i < ret->count; i++)
        ret->copy[i] = (struct yk_dirw_copy){.member = f->copy[i].member,
                                             .tiers = f->copy[i].tiers,
                                             .incarnation = f->copy[i].incarnation,
                                             .gen = f->copy[i].gen};
}

/* Not this node's slot: whose it is. */
static uint32_t owner_of(const struct yk_dir *d, const struct yk_dir_key *key, uint64_t group) {
    uint64_t hash = group != 0 ? group : yk_dir_hash(key->ns, key->ns_len, key->key, key->key_len);
    uint32_t owner = d->map != NULL ? d->map->slot[yk_dir_slot_of(hash)].owner : YK_DIR_NOBODY;
    return owner != d->self ? owner : YK_DIR_NOBODY;
}

/* The next of the keys, at most YK_DIR_FIND_MAX. Returns how many. */
static uint32_t find_some(struct yk_dir *d, struct yk_rd *r, const struct yk_dirw_keys *keys, uint32_t left,
                          struct yk_wr *w) {
    struct yk_dir_key key[YK_DIR_FIND_MAX];
    uint64_t group[YK_DIR_FIND_MAX];
    struct yk_dir_found found[YK_DIR_FIND_MAX];
    struct yk_dirw_found wire;
    uint32_t n = 0;
    for (; n < left && n < YK_DIR_FIND_MAX; n++) {
        struct yk_dirw_str text;
        group[n] = yk_rd_u64(r);
        yk_rd_dir_key(r, &text);
        if (r->bad)
            return 0;
        key[n] = (struct yk_dir_key){keys->ns.data, keys->ns.len, text.data, text.len};
    }
    yk_dir_core_find_many(d->core, key, group, n, keys->epoch, found);
    for (uint32_t i = 0; i < n; i++) {
        dir_found_to_wire(&found[i], &wire);
        if (wire.status == -YK_EGONE)
            wire.group = owner_of(d, &key[i], group[i]);
        yk_wr_dir_found(w, &wire);
    }
    return n;
}

static int serve_find(struct yk_dir *d, const struct yk_peer_who *from, struct yk_rd *r,
                      const struct yk_peer_reply_to *to) {
    struct yk_dirw_keys keys;
    struct yk_wr w;
    yk_rd_dir_keys(r, &keys);
    if (r->bad)
        return -YK_EPROTO;
    dir_epoch_hear(d, from, &keys.ns, keys.epoch);
    size_t cap = 12u + keys.n * (size_t)YK_DIR_FOUND_BYTES_MAX;
    void *body = malloc(cap);
    if (body == NULL)
        return -YK_ENOMEM;
    yk_wr_init(&w, body, cap);
    yk_wr_u64(&w, d->map != NULL ? d->map->version : 0);
    yk_wr_u32(&w, keys.n);
    for (uint32_t done = 0; done < keys.n && !r->bad;)
        done += find_some(d, r, &keys, keys.n - done, &w);
    int rc = yk_rd_ok(r) ? 0 : -YK_EPROTO;
    if (rc == 0)
        dir_reply(d, to, YK_DIR_FIND, body, yk_wr_len(&w));
    free(body);
    return rc;
}

/* ---- what goes to the node -------------------------------------------------------------------------- */

static void serving_free(struct serving *s) {
    s->job.dir->serving_count--;
    dir_list_remove(&s->all);
    free(s->have);
    free(s);
}

/* A copy of the request; NULL: too much is under way, or no memory. The asker hears nothing, and goes on. */
static struct serving *serving_new(struct yk_dir *d, const void *body, uint32_t len,
                                   const struct yk_peer_reply_to *to) {
    struct serving *s = d->serving_count < DIR_SERVING_MAX && !d->stopping ? malloc(sizeof(*s) + len) : NULL;
    if (s == NULL)
        return NULL;
    memset(s, 0, sizeof(*s));
    s->job.dir = d;
    s->to = *to;
    s->len = len;
    memcpy(s->body, body, len);
    dir_list_init(&s->all);
    d->serving_count++;
    return s;
}

/* ---- HAVE ------------------------------------------------------------------------------------------- */

static void have_one(struct yk_store *store, uint32_t ns, uint64_t epoch, const struct yk_dirw_str *key,
                     struct yk_dirw_have *ret) {
    uint32_t idx, copies;
    int guest;
    yk_block_info info;
    *ret = (struct yk_dirw_have){.status = YK_MISS};
    if (yk_store_find_any(store, ns, epoch, key->data, key->len, &idx) != 0)
        return;
    yk_store_info(store, idx, &info);
    yk_store_pool_marks(store, idx, &guest, &copies);
    *ret = (struct yk_dirw_have){.gen = info.generation,
                                 .len = info.len,
                                 .sum = info.checksum,
                                 .tiers = yk_dir_told(info.tiers, guest, copies)};
}

static void have_there(struct dir_job *job, struct yk_store *store) {
    struct serving *s = DIR_ITEM(job, struct serving, job);
    struct yk_dirw_keys keys;
    struct yk_rd r;
    struct yk_err err;
    uint32_t ns;
    yk_rd_init(&r, s->body, s->len);
    yk_rd_dir_keys(&r, &keys);
    int known = yk_store_ns_open(store, keys.ns.data, keys.ns.len, 0, &ns, &err) == 0;
    for (uint32_t i = 0; i < keys.n; i++) {
        struct yk_dirw_str key;
        yk_rd_dir_key(&r, &key);
        s->have[i] = (struct yk_dirw_have){.status = YK_MISS};
        if (known)
            have_one(store, ns, keys.epoch, &key, &s->have[i]);
    }
}

static void have_back(struct dir_job *job) {
    struct serving *s = DIR_ITEM(job, struct serving, job);
    struct yk_dirw_keys keys;
    struct yk_rd r;
    struct yk_wr w;
    yk_rd_init(&r, s->body, s->len);
    yk_rd_dir_keys(&r, &keys);
    size_t cap = 4u + keys.n * (size_t)YK_DIR_HAVE_BYTES_MAX;
    void *body = job->closed ? NULL : malloc(cap);
    if (body != NULL) {
        yk_wr_init(&w, body, cap);
        yk_wr_u32(&w, keys.n);
        for (uint32_t i = 0; i < keys.n; i++)
            yk_wr_dir_have(&w, &s->have[i]);
        dir_reply(job->dir, &s->to, YK_DIR_HAVE, body, yk_wr_len(&w));
        free(body);
    }
    serving_free(s);
}

static int serve_have(struct yk_dir *d, const struct yk_peer_who *from, struct yk_rd *r, const void *body,
                      uint32_t len, const struct yk_peer_reply_to *to) {
    struct yk_dirw_keys keys;
    struct yk_dirw_str key;
    yk_rd_dir_keys(r, &keys);
    for (uint32_t i = 0; i < keys.n && !r->bad; i++)
        yk_rd_dir_key(r, &key);
    if (!yk_rd_ok(r))
        return -YK_EPROTO;
    dir_epoch_hear(d, from, &keys.ns, keys.epoch);
    struct serving *s = yk_dir_core_serves(d->core) ? serving_new(d, body, len, to) : NULL;
    if (s == NULL)
        return 0;
    s->have = calloc(keys.n, sizeof(*s->have));
    if (s->have == NULL) {
        serving_free(s);
        return 0;
    }
    s->job.there = have_there;
    s->job.back = have_back;
    dir_to_node(d, &s->job);
    return 0;
}

/* ---- LOCATE ----------------------------------------------------------------------------------------- */

static void locate_there(struct dir_job *job, struct yk_store *store) {
    struct serving *s = DIR_ITEM(job, struct serving, job);
    struct yk_dirw_one one;
    struct yk_rd r;
    struct yk_err err;
    uint32_t ns;
    yk_rd_init(&r, s->body, s->len);
    yk_rd_dir_locate(&r, &one);
    int rc = yk_store_ns_open(store, one.ns.data, one.ns.len, 0, &ns, &err);
    if (rc == 0)
        rc = yk_store_pool_locate(store, ns, one.epoch, one.key.data, one.key.len, &s->copy);
    s->place.status = rc == -YK_ENONS ? YK_MISS : rc;
}

static void place_from(struct serving *s) {
    const struct yk_pool_copy *c = &s->copy;
    struct yk_dirw_place *p = &s->place;
    p->idx = c->idx;
    p->gen = c->gen;
    p->offset = c->offset;
    p->len = c->len;
    p->sum = c->sum;
    p->epoch = c->epoch;
    p->left_ms = c->left_ms;
    p->attrs = c->attrs;
    p->parent = (struct yk_dirw_str){c->parent, c->parent_len};
}

static void locate_back(struct dir_job *job) {
    struct serving *s = DIR_ITEM(job, struct serving, job);
    struct yk_dir *d = job->dir;
    unsigned char body[YK_DIR_PLACE_BYTES_MAX];
    struct yk_wr w;
    if (job->closed)
        s->place.status = -YK_EGONE;
    if (s->place.status == YK_PENDING && dir_left_ms(s->deadline_ns, 1) > 0 && !d->stopping) {
        dir_list_add(&d->serving, &s->all);
        dir_look_soon(d);
        return;
    }
    if (s->place.status == YK_PENDING)
        s->place.status = -YK_ETIMEDOUT;
    if (s->place.status == 0) {
        place_from(s);
        d->n.lent++;
    }
    yk_wr_init(&w, body, sizeof(body));
    yk_wr_dir_place(&w, &s->place);
    dir_reply(d, &s->to, YK_DIR_LOCATE, body, yk_wr_len(&w));
    serving_free(s);
}

static int serve_locate(struct yk_dir *d, const struct yk_peer_who *from, struct yk_rd *r, const void *body,
                        uint32_t len, const struct yk_peer_reply_to *to) {
    struct yk_dirw_one one;
    struct yk_dir_stand stand;
    yk_rd_dir_locate(r, &one);
    if (!yk_rd_ok(r))
        return -YK_EPROTO;
    dir_epoch_hear(d, from, &one.ns, one.epoch);
    struct serving *s = yk_dir_core_serves(d->core) ? serving_new(d, body, len, to) : NULL;
    if (s == NULL)
        return 0;
    struct yk_dir_key key = {one.ns.data, one.ns.len, one.key.data, one.key.len};
    yk_dir_core_stand(d->core, &key, &stand);
    s->place.term = stand.term;
    s->place.rseq = stand.rseq;
    s->deadline_ns = yk_now_ns() + one.timeout_ms * YK_NS_PER_MS;
    s->job.there = locate_there;
    s->job.back = locate_back;
    dir_to_node(d, &s->job);
    return 0;
}

uint32_t dir_serve_look(struct yk_dir *d, uint64_t now_ns) {
    uint32_t left = 0;
    (void)now_ns; /* the answer looks at the time */
    for (struct dir_link *l = d->serving.next, *next; l != &d->serving; l = next) {
        struct serving *s = DIR_ITEM(l, struct serving, all);
        next = l->next;
        dir_list_remove(&s->all);
        dir_to_node(d, &s->job);
        left++;
    }
    return left;
}

/* ---- the rest --------------------------------------------------------------------------------------- */

static int serve_remove(struct yk_dir *d, const struct yk_peer_who *from, struct yk_rd *r,
                        const struct yk_peer_reply_to *to) {
    struct yk_dirw_one one;
    yk_rd_dir_remove(r, &one);
    if (!yk_rd_ok(r))
        return -YK_EPROTO;
    dir_epoch_hear(d, from, &one.ns, one.epoch);
    struct yk_dir_key key = {one.ns.data, one.ns.len, one.key.data, one.key.len};
    uint64_t now_ms = yk_boot_ms(), left_ms = one.until_ms > now_ms ? one.until_ms - now_ms : 0;
    if (left_ms > REMOVE_MS_MAX)
        left_ms = REMOVE_MS_MAX;
    dir_remove_serve(d, &key, yk_now_ns() + left_ms * YK_NS_PER_MS, from, to);
    return 0;
}

static int serve_space(struct yk_dir *d, const struct yk_peer_who *from, struct yk_rd *r) {
    struct yk_dirw_str ns;
    ns.data = yk_rd_str8(r, &ns.len);
    uint64_t epoch = yk_rd_u64(r);
    if (!yk_rd_ok(r) || ns.len == 0)
        return -YK_EPROTO;
    dir_epoch_hear(d, from, &ns, epoch);
    return 0;
}

static int serve_map(struct yk_dir *d, const struct yk_peer_reply_to *to) {
    size_t len = d->map != NULL ? yk_dir_map_bytes(d->map) : 0;
    void *body = malloc(len + 1u);
    if (body == NULL)
        return 0;
    if (len > 0)
        yk_dir_map_encode(d->map, body);
    dir_reply(d, to, YK_DIR_MAP, body, len);
    free(body);
    return 0;
}

static int serve_info(struct yk_dir *d, struct yk_rd *r, const struct yk_peer_reply_to *to) {
    struct yk_buf out;
    uint8_t what = yk_rd_left(r) > 0 ? yk_rd_u8(r) : YK_DIR_INFO_ALL;
    if (!yk_rd_ok(r) || what > YK_DIR_INFO_FIGURES)
        return -YK_EPROTO;
    yk_buf_init(&out, YK_PEER_BODY_MAX);
    if (what == YK_DIR_INFO_ALL)
        dir_info_json(d, &out);
    else
        dir_figures_json(d, &out);
    dir_reply(d, to, YK_DIR_INFO, yk_buf_text(&out), out.len);
    yk_buf_fini(&out);
    return 0;
}

static int serve_core(struct yk_dir *d, const struct yk_peer_who *from, const void *body, uint32_t len,
                      struct yk_err *err) {
    int rc = yk_dir_core_message(d->core, from->id, from->incarnation, body, len, dir_now_ms(), err);
    dir_tick_later(d);
    return rc;
}

static int is_asked(unsigned op) {
    return op != YK_DIR_CORE && op != YK_DIR_SPACE;
}

/* A guest may look, drain, forget and rebalance, and ask for tasks. */
static int is_allowed(const struct yk_peer_who *from, unsigned op) {
    return from->id != 0 ||
           (op != YK_DIR_CORE && op != YK_DIR_SPACE && op != YK_DIR_REMOVE && op != YK_DIR_LOCATE && op != YK_DIR_TAKE &&
            op != YK_DIR_GIVE);
}

/* What is answered without the core, too: the map; and that a remove has to ask again, which else would wait for its
 * whole deadline. */
static int goes_without_core(unsigned op) {
    return op == YK_DIR_INFO || op == YK_DIR_MAP || op == YK_DIR_DRAIN || op == YK_DIR_FORGET || op == YK_DIR_REMOVE;
}

static int serve(struct yk_dir *d, const struct yk_peer_who *from, unsigned op, const void *body, uint32_t len,
                 const struct yk_peer_reply_to *to, struct yk_err *err) {
    struct yk_rd r;
    yk_rd_init(&r, body, len);
    switch (op) {
    case YK_DIR_CORE:
        return serve_core(d, from, body, len, err);
    case YK_DIR_FIND:
        return serve_find(d, from, &r, to);
    case YK_DIR_HAVE:
        return serve_have(d, from, &r, body, len, to);
    case YK_DIR_LOCATE:
        return serve_locate(d, from, &r, body, len, to);
    case YK_DIR_REMOVE:
        return serve_remove(d, from, &r, to);
    case YK_DIR_MAP:
        return serve_map(d, to);
    case YK_DIR_INFO:
        return serve_info(d, &r, to);
    case YK_DIR_SPACE:
        return serve_space(d, from, &r);
    case YK_DIR_REBALANCE:
        return dir_serve_rebalance(d, &r, to);
    case YK_DIR_TAKE:
        return dir_take_serve(d, from, &r, to);
    case YK_DIR_GIVE:
        return dir_give_serve(d, from, &r, to);
    case YK_DIR_TASK:
        return dir_task_serve(d, from, &r, to);
    case YK_DIR_TASKS:
        return dir_tasks_serve(d, to);
    default:
        return dir_serve_change(d, op, &r, to);
    }
}

int dir_serve_frame(void *user, const struct yk_peer_who *from, unsigned op, const void *body, uint32_t len,
                    const struct yk_peer_reply_to *reply_to, struct yk_err *err) {
    struct yk_dir *d = user;
    if (op < YK_DIR_OP_FIRST || op >= YK_DIR_OPS)
        return yk_err_set(err, -YK_EPROTO, "op %u is not known here", op);
    if (is_asked(op) != (reply_to->id != 0))
        return yk_err_set(err, -YK_EPROTO, "%s must be %s", yk_dir_op_name(op),
                          is_asked(op) ? "asked, not told" : "told, not asked");
    if (!is_allowed(from, op))
        return yk_err_set(err, -YK_EPERM, "%s is for members of the cluster", yk_dir_op_name(op));
    if (d->stopping || (d->core == NULL && !goes_without_core(op)))
        return 0;
    err->text[0] = 0;
    int rc = serve(d, from, op, body, len, reply_to, err);
    if (rc < 0 && err->text[0] == 0)
        return yk_err_set(err, rc, "%s frame of %u bytes cannot be read", yk_dir_op_name(op), len);
    return rc < 0 ? rc : 0;
}
