/* SPDX-License-Identifier: Apache-2.0
 *
 * The source of a move (docs/decisions/0017): a block shall be elsewhere, and not here. This node is its coordinator,
 * since only it can say what it still has: it looks which generation that is (a guest is no copy, and is not moved), then
 * copy.c sees to the rest, the end of the own copy included.
 *
 * Threads: the directory's loop; `look_there`: the node's owner thread.
 */
#include "dir/copy_priv.h"

struct give {
    struct dir_job job;
    void (*done)(void *arg, int status, uint64_t bytes, const char *text);
    void *arg;
    struct dir_give_want want; /* its key leads into `bytes` */
    int status;
    uint64_t gen;
    uint32_t copies;
    unsigned char bytes[]; /* namespace, key */
};

#define GIVE(job) DIR_ITEM(job, struct give, job)

static void end(struct give *g, int status, uint64_t bytes, const char *text) {
    g->done(g->arg, status, bytes, text);
    free(g);
}

static void copied(void *arg, const struct dir_copy_end *e) {
    int status = e->status == YK_FEWER ? -YK_EAGAIN : e->status;
    const char *text = status == -YK_EBUSY && e->text[0] == 0 ? "another node counts on this copy just now" : e->text;
    end(arg, status, e->bytes, text);
}

static void look_there(struct dir_job *job, struct yk_store *store) {
    struct give *g = GIVE(job);
    const struct yk_dir_key *key = &g->want.key;
    struct yk_err err;
    uint32_t ns, idx;
    int guest;
    yk_block_info info;
    g->status = YK_MISS;
    if (yk_store_ns_open(store, key->ns, key->ns_len, 0, &ns, &err) != 0 ||
        yk_store_find_any(store, ns, g->want.epoch, key->key, key->key_len, &idx) != 0)
        return;
    yk_store_info(store, idx, &info);
    yk_store_pool_marks(store, idx, &guest, &g->copies);
    g->gen = info.generation;
    g->status = guest ? YK_MISS : info.pinned ? -YK_EBUSY : 0;
}

static void looked(struct dir_job *job) {
    struct give *g = GIVE(job);
    struct dir_copy_want want = {.key = g->want.key,
                                 .epoch = g->want.epoch,
                                 .wanted = g->want.to != YK_DIR_NOBODY ? 0 : g->copies > 0 ? g->copies : 1,
                                 .to = g->want.to,
                                 .here = 1,
                                 .gen = g->gen,
                                 .leave = DIR_GOES,
                                 .xclass = YK_XFER_BACKGROUND,
                                 .deadline_ns = g->want.deadline_ns};
    struct yk_dir_map *map = job->dir->map;
    const struct yk_dir_member *m = map != NULL ? yk_dir_map_member(map, g->want.to) : NULL;
    int rc = job->closed ? -YK_ECLOSED : g->status;
    if (rc == 0 && m != NULL && m->draining) {
        end(g, -YK_EBUSY, 0, "the node that it shall go to drains");
        return;
    }
    if (rc == 0 && (rc = dir_copy_start(job->dir, &want, copied, g)) == 0)
        return;
    end(g, rc, 0, rc == YK_MISS ? "the node has no copy of its own" : rc == -YK_EBUSY ? "it is pinned there" : "");
}

int dir_give_start(struct yk_dir *d, const struct dir_give_want *want,
                   void (*done)(void *arg, int status, uint64_t bytes, const char *text), void *arg) {
    if (d->stopping || d->core == NULL || !yk_dir_core_serves(d->core))
        return -YK_EAGAIN;
    struct give *g = calloc(1, sizeof(*g) + want->key.ns_len + want->key.key_len);
    if (g == NULL)
        return -YK_ENOMEM;
    g->want = *want;
    memcpy(g->bytes, want->key.ns, want->key.ns_len);
    memcpy(g->bytes + want->key.ns_len, want->key.key, want->key.key_len);
    g->want.key.ns = (const char *)g->bytes;
    g->want.key.key = g->bytes + want->key.ns_len;
    g->done = done;
    g->arg = arg;
    g->job = (struct dir_job){.dir = d, .there = look_there, .back = looked};
    dir_to_node(d, &g->job);
    return 0;
}

/* ---- for a peer --------------------------------------------------------------------------------------- */

struct asked {
    struct yk_dir *dir;
    struct yk_peer_reply_to to;
};

static void reply(struct yk_dir *d, const struct yk_peer_reply_to *to, int status, uint64_t bytes, const char *text) {
    unsigned char body[16 + YK_ERR_TEXT_MAX];
    struct yk_wr w;
    yk_wr_init(&w, body, sizeof(body));
    yk_wr_u32(&w, (uint32_t)status);
    yk_wr_u64(&w, bytes);
    yk_wr_text(&w, text);
    dir_reply(d, to, YK_DIR_GIVE, body, yk_wr_len(&w));
}

static void answer(void *arg, int status, uint64_t bytes, const char *text) {
    struct asked *a = arg;
    reply(a->dir, &a->to, status, bytes, text);
    free(a);
}

int dir_give_serve(struct yk_dir *d, const struct yk_peer_who *from, struct yk_rd *r,
                   const struct yk_peer_reply_to *to) {
    struct yk_dirw_give w;
    yk_rd_dir_give(r, &w);
    if (!yk_rd_ok(r))
        return -YK_EPROTO;
    dir_epoch_hear(d, from, &w.ns, w.epoch);
    struct dir_give_want want = {.key = {w.ns.data, w.ns.len, w.key.data, w.key.len},
                                 .epoch = w.epoch,
                                 .deadline_ns = yk_now_ns() + w.timeout_ms * YK_NS_PER_MS,
                                 .to = w.to};
    struct asked *a = malloc(sizeof(*a));
    int rc = a == NULL ? -YK_ENOMEM : 0;
    if (a != NULL) {
        *a = (struct asked){d, *to};
        rc = dir_give_start(d, &want, answer, a);
    }
    if (rc < 0) {
        reply(d, to, rc, 0, "");
        free(a);
    }
    return 0;
}
