/* SPDX-License-Identifier: Apache-2.0
 *
 * Records of batches and footers (format.h): a type byte, fixed fields, then key and parent or name.
 *
 * A record's length follows from its own bytes, so a list needs no directory; one that makes no sense
 * ends the list, since nothing after it can be trusted to begin where it seems to.
 */
#include "tier/ssd/format.h"

#include "wire/codec.h"

#include <string.h>

#include <yolk/status.h>

#define BLOCK_BYTES  72u
#define TOMB_BYTES   28u
#define EXPIRY_BYTES 28u
#define NS_BYTES     36u

uint64_t yk_ssd_takes(uint64_t len) {
    return yk_ssd_up(len, len >= YK_SSD_LARGE ? YK_SSD_SECTOR : YK_SSD_UNIT);
}

static uint32_t rec_bytes(const struct yk_ssd_rec *r) {
    switch (r->type) {
    case YK_SSD_REC_BLOCK:
        return BLOCK_BYTES + r->key_len + r->parent_len;
    case YK_SSD_REC_TOMB:
    case YK_SSD_REC_ORDER:
        return TOMB_BYTES + r->key_len;
    case YK_SSD_REC_EXPIRY:
        return EXPIRY_BYTES + r->key_len;
    default:
        return NS_BYTES + (uint32_t)strnlen(r->ns.name, sizeof(r->ns.name));
    }
}

static void block_put(struct yk_wr *w, const struct yk_ssd_rec *r) {
    yk_wr_u8(w, r->kind);
    yk_wr_u8(w, r->key_len);
    yk_wr_u8(w, r->parent_len);
    yk_wr_u32(w, r->len);
    yk_wr_u32(w, r->place);
    yk_wr_u32(w, r->depth_tokens);
    yk_wr_u32(w, r->length_tokens);
    yk_wr_u32(w, r->model);
    yk_wr_u64(w, r->ns_uid);
    yk_wr_u64(w, r->gen);
    yk_wr_u64(w, r->epoch);
    yk_wr_u64(w, r->sum);
    yk_wr_u64(w, r->expiry_ms);
    yk_wr_u64(w, r->session);
    yk_wr_bytes(w, r->key, r->key_len);
    yk_wr_bytes(w, r->parent, r->parent_len);
}

/* A tombstone, an expiry, a part of an order: one more word and the key. */
static void keyed_put(struct yk_wr *w, const struct yk_ssd_rec *r, uint64_t word) {
    yk_wr_u8(w, 0);
    yk_wr_u8(w, r->key_len);
    yk_wr_u8(w, 0);
    yk_wr_u64(w, r->ns_uid);
    yk_wr_u64(w, r->gen);
    yk_wr_u64(w, word);
    yk_wr_bytes(w, r->key, r->key_len);
}

static void ns_put(struct yk_wr *w, const struct yk_ssd_rec *r) {
    uint32_t len = (uint32_t)strnlen(r->ns.name, sizeof(r->ns.name));
    yk_wr_u8(w, r->ns_number);
    yk_wr_u8(w, (uint8_t)len);
    yk_wr_u8(w, r->ns.removed != 0);
    yk_wr_u64(w, r->ns.uid);
    yk_wr_u64(w, r->gen);
    yk_wr_u64(w, r->ns.epoch);
    yk_wr_u64(w, r->ns.quota_bytes);
    yk_wr_bytes(w, r->ns.name, len);
}

uint32_t yk_ssd_rec_put(void *at, const struct yk_ssd_rec *rec) {
    uint32_t bytes = rec_bytes(rec);
    if (at == NULL)
        return bytes;
    struct yk_wr w;
    yk_wr_init(&w, at, bytes);
    yk_wr_u8(&w, rec->type);
    if (rec->type == YK_SSD_REC_BLOCK)
        block_put(&w, rec);
    else if (rec->type == YK_SSD_REC_NS)
        ns_put(&w, rec);
    else
        keyed_put(&w, rec, rec->type == YK_SSD_REC_EXPIRY ? rec->expiry_ms : rec->origin);
    return bytes;
}

static int block_get(struct yk_rd *rd, uint64_t segment_bytes, struct yk_ssd_rec *r) {
    r->kind = yk_rd_u8(rd);
    r->key_len = yk_rd_u8(rd);
    r->parent_len = yk_rd_u8(rd);
    r->len = yk_rd_u32(rd);
    r->place = yk_rd_u32(rd);
    r->depth_tokens = yk_rd_u32(rd);
    r->length_tokens = yk_rd_u32(rd);
    r->model = yk_rd_u32(rd);
    r->ns_uid = yk_rd_u64(rd);
    r->gen = yk_rd_u64(rd);
    r->epoch = yk_rd_u64(rd);
    r->sum = yk_rd_u64(rd);
    r->expiry_ms = yk_rd_u64(rd);
    r->session = yk_rd_u64(rd);
    r->key = yk_rd_bytes(rd, r->key_len);
    r->parent = yk_rd_bytes(rd, r->parent_len);
    uint64_t at = (uint64_t)r->place * YK_SSD_UNIT;
    return at <= segment_bytes && yk_ssd_takes(r->len) <= segment_bytes - at &&
           (r->len < YK_SSD_LARGE || at % YK_SSD_SECTOR == 0);
}

static int keyed_get(struct yk_rd *rd, struct yk_ssd_rec *r, uint64_t *ret_word) {
    uint8_t zero = yk_rd_u8(rd);
    r->key_len = yk_rd_u8(rd);
    zero |= yk_rd_u8(rd);
    r->ns_uid = yk_rd_u64(rd);
    r->gen = yk_rd_u64(rd);
    *ret_word = yk_rd_u64(rd);
    r->key = yk_rd_bytes(rd, r->key_len);
    return zero == 0;
}

static int ns_get(struct yk_rd *rd, struct yk_ssd_rec *r) {
    r->ns_number = yk_rd_u8(rd);
    uint32_t len = yk_rd_u8(rd);
    r->ns.removed = yk_rd_u8(rd);
    r->ns_uid = r->ns.uid = yk_rd_u64(rd);
    r->gen = yk_rd_u64(rd);
    r->ns.epoch = yk_rd_u64(rd);
    r->ns.quota_bytes = yk_rd_u64(rd);
    const void *name = yk_rd_bytes(rd, len);
    if (name == NULL || len > sizeof(r->ns.name))
        return 0;
    memcpy(r->ns.name, name, len);
    return 1;
}

int yk_ssd_rec_next(struct yk_ssd_recs *recs, uint64_t segment_bytes, struct yk_ssd_rec *ret) {
    struct yk_rd rd;
    struct yk_ssd_rec r;
    int good;
    if (recs->at == recs->end)
        return 0;
    memset(&r, 0, sizeof(r));
    yk_rd_init(&rd, recs->at, (size_t)(recs->end - recs->at));
    r.type = yk_rd_u8(&rd);
    if (r.type == YK_SSD_REC_BLOCK)
        good = block_get(&rd, segment_bytes, &r) && r.key_len > 0;
    else if (r.type == YK_SSD_REC_TOMB)
        good = keyed_get(&rd, &r, &r.origin) && r.key_len > 0;
    else if (r.type == YK_SSD_REC_EXPIRY)
        good = keyed_get(&rd, &r, &r.expiry_ms) && r.key_len > 0;
    else if (r.type == YK_SSD_REC_ORDER)
        good = keyed_get(&rd, &r, &r.origin) && r.key_len > 0 && r.key_len % 8u == 0;
    else
        good = r.type == YK_SSD_REC_NS && ns_get(&rd, &r);
    if (!good || rd.bad || r.ns_uid == 0)
        return -YK_ECORRUPT;
    recs->at = rd.at;
    *ret = r;
    return 1;
}
