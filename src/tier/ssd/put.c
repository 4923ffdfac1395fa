/* SPDX-License-Identifier: Apache-2.0
 *
 * A block comes: which device takes it, its entry, its record.
 *
 * The device with the least under way takes it. A device takes blocks of a namespace only when a
 * checkpoint there has the namespace, so that recovery knows all namespaces before it reads a record.
 *
 * Threads: the owner's.
 */
#include "tier/ssd/ssd_priv.h"

#include <string.h>

#include <yolk/status.h>

#define EVICT_LOOK 64u /* entries from the oldest on that may be under way still */

static int dev_may(const struct yk_ssd_dev *d, uint64_t len) {
    if (d->state != YK_SSD_DEV_OK)
        return -YK_EIO;
    if (len > yk_ssd_len_max(d))
        return -YK_ETOOBIG;
    if ((d->writing_bytes > 0 && d->writing_bytes + len > YK_SSD_QUEUE_BYTES) ||
        d->ssd->tokens <= 0 || !yk_ssd_batch_may(d, len))
        return -YK_EAGAIN;
    return 0;
}

/* The most hopeful of several answers. */
static int better(int a, int b) {
    static const int order[] = {0, -YK_EAGAIN, -YK_ETOOBIG};
    for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++)
        if (a == order[i] || b == order[i])
            return order[i];
    return a;
}

int yk_ssd_may_put(const struct yk_ssd *ssd, uint64_t len) {
    int rc = -YK_EIO;
    for (uint32_t i = 0; i < ssd->ndev && rc != 0; i++)
        rc = better(rc, dev_may(ssd->devs[i], len));
    return rc;
}

static int dev_knows(const struct yk_ssd_dev *d, uint32_t ns) {
    return d->ckpt_ns_gen >= d->ssd->ns_made[ns];
}

static int dev_choose(struct yk_ssd *ssd, const struct yk_ssd_put *put, struct yk_ssd_dev **ret) {
    struct yk_ssd_dev *best = NULL;
    int rc = -YK_EIO;
    for (uint32_t n = 0; n < ssd->ndev; n++) {
        struct yk_ssd_dev *d = ssd->devs[(ssd->put_turn + n) % ssd->ndev];
        int one = dev_may(d, put->len);
        if (one == 0 && !dev_knows(d, put->ns)) {
            d->ckpt_want = 1;
            one = -YK_EAGAIN;
        }
        rc = better(rc, one);
        if (one == 0 && (best == NULL || d->writing_bytes < best->writing_bytes))
            best = d;
    }
    ssd->put_turn++;
    *ret = best;
    return rc;
}

static void evict(struct yk_ssd *ssd, uint32_t id) {
    yk_ssd_tomb(ssd, id, 0);
    yk_ssd_entry_drop(ssd, id);
    YK_SSD_ADD(ssd->c.evicted, 1);
}

int yk_ssd_evict(struct yk_ssd *ssd, uint32_t id) {
    if (yk_dev_of(ssd, id)->state != YK_SSD_DEV_OK)
        return -YK_EIO;
    if (!(ssd->table.e[id].flags & YK_SSD_E_WRITTEN))
        return -YK_EAGAIN;
    evict(ssd, id);
    return 0;
}

/* Makes room for one entry: the oldest that is on a device goes. */
static int evict_one(struct yk_ssd *ssd) {
    uint32_t id = ssd->table.oldest;
    for (uint32_t n = 0; n < EVICT_LOOK && id != YK_SSD_NONE; n++, id = ssd->table.e[id].prev) {
        if (!(ssd->table.e[id].flags & YK_SSD_E_WRITTEN))
            continue;
        evict(ssd, id);
        return 0;
    }
    return -YK_EAGAIN;
}

static void record_make(struct yk_ssd *ssd, const struct yk_ssd_put *put, struct yk_ssd_rec *r) {
    memset(r, 0, sizeof(*r));
    r->type = YK_SSD_REC_BLOCK;
    r->kind = put->kind;
    r->key = put->key;
    r->key_len = (uint8_t)put->key_len;
    r->parent = put->parent;
    r->parent_len = (uint8_t)put->parent_len;
    r->len = (uint32_t)put->len;
    r->depth_tokens = put->depth_tokens;
    r->length_tokens = put->length_tokens;
    r->model = put->model;
    r->ns_uid = ssd->ns[put->ns].uid;
    r->epoch = ssd->ns[put->ns].epoch;
    r->sum = put->sum;
    r->expiry_ms = put->expiry_ms;
    r->session = put->session;
}

static int entry_make(struct yk_ssd *ssd, const struct yk_ssd_put *put, uint64_t place,
                      uint32_t *ret_id) {
    struct yk_ssd_new n = {.key = put->key,
                           .key_len = put->key_len,
                           .hash = put->hash,
                           .sum = put->sum,
                           .len = (uint32_t)put->len,
                           .expiry_ms = put->expiry_ms,
                           .session = put->session,
                           .place = place,
                           .depth_tokens = put->depth_tokens,
                           .length_tokens = put->length_tokens,
                           .model = put->model,
                           .parent_hash = put->parent_hash,
                           .ns = (uint8_t)put->ns,
                           .kind = put->kind,
                           .flags = ssd->ns_tag[put->ns]};
    int rc = yk_ssd_table_add(&ssd->table, &n, ret_id);
    if (rc == 0) {
        ssd->ns_tags[put->ns][ssd->ns_tag[put->ns]]++;
        yk_seg_count(ssd, *ret_id, 1);
    }
    return rc;
}

static void credit_add(struct yk_ssd_dev *d, uint64_t bytes) {
    struct yk_ssd_clean *c = &d->clean;
    c->credit += bytes * d->ssd->o.clean_percent / 100u;
    if (c->credit > d->super.segment_bytes)
        c->credit = d->super.segment_bytes;
}

int yk_ssd_put(struct yk_ssd *ssd, const struct yk_ssd_put *put, uint32_t *ret_id) {
    struct yk_ssd_dev *d;
    struct yk_ssd_batch *b;
    struct yk_ssd_rec rec;
    if (put->key_len == 0 || put->key_len > 255 || put->parent_len > 255 ||
        put->ns >= YK_SSD_NAMESPACES)
        return -YK_EINVAL;
    if (ssd->ns[put->ns].uid == 0 || ssd->ns[put->ns].removed)
        return -YK_ENONS;
    int rc = dev_choose(ssd, put, &d);
    if (rc < 0)
        return rc;
    yk_ssd_entry_make_way(ssd, put->ns, put->hash, put->key, put->key_len);
    if (ssd->table.count >= ssd->capacity && (rc = evict_one(ssd)) < 0)
        return rc;
    record_make(ssd, put, &rec);
    rc = yk_ssd_batch_for(d, put->len, yk_ssd_rec_put(NULL, &rec), ROOM_PUT, &b);
    if (rc < 0)
        return rc;
    rec.place = (uint32_t)(yk_ssd_batch_place(b, put->len) / YK_SSD_UNIT);
    rec.gen = yk_ssd_gen_next(ssd, put->gen);
    rc = entry_make(ssd, put, yk_ssd_place(b->open->seg, rec.place), ret_id);
    if (rc < 0)
        return rc;
    struct yk_ssd_bput *p = &b->puts[b->nputs++];
    *p = (struct yk_ssd_bput){.cookie = put->cookie,
                              .place = yk_ssd_place(b->open->seg, rec.place),
                              .id = *ret_id,
                              .rec_at = b->recs_bytes};
    yk_ssd_batch_payload(d, b, put->payload, put->len);
    yk_ssd_batch_record(b, &rec, 0);
    credit_add(d, yk_ssd_takes(put->len));
    YK_SSD_ADD(ssd->c.puts, 1);
    YK_SSD_ADD(ssd->c.put_bytes, put->len);
    return 0;
}
