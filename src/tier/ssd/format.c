/* SPDX-License-Identifier: Apache-2.0
 *
 * Superblock, checkpoint, batch header and footer (format.h); records are in record.c.
 *
 * Sums stand where a reader finds them before it knows anything else: in the last 8 bytes of a
 * superblock's sector and of a checkpoint's slot, in the second 8 bytes of a header and of a footer's
 * tail. Everything that a later version may add has room inside what is summed.
 */
#include "tier/ssd/format.h"

#include "base/hash.h"
#include "wire/codec.h"

#include <string.h>

_Static_assert(YK_SSD_SECTOR % YK_FILE_SECTOR == 0, "what the log writes is whole sectors of a device");

#include <yolk/status.h>

#define MAGIC_SUPER 0x314453536b6c6f59ull /* "YolkSSD1" */
#define MAGIC_CKPT  0x54504b436b6c6f59ull /* "YolkCKPT" */
#define MAGIC_HEAD  0x484354426b6c6f59ull /* "YolkBTCH" */
#define MAGIC_FOOT  0x544f4f466b6c6f59ull /* "YolkFOOT" */

static uint64_t u64_at(const void *p) {
    struct yk_rd r;
    yk_rd_init(&r, p, 8);
    return yk_rd_u64(&r);
}

static void u64_put_at(void *p, uint64_t v) {
    struct yk_wr w;
    yk_wr_init(&w, p, 8);
    yk_wr_u64(&w, v);
}

/* ---- superblock --------------------------------------------------------------------------------- */

void yk_ssd_super_put(void *sector, const struct yk_ssd_super *super) {
    struct yk_wr w;
    memset(sector, 0, YK_SSD_SECTOR);
    yk_wr_init(&w, sector, YK_SSD_SECTOR);
    yk_wr_u64(&w, MAGIC_SUPER);
    yk_wr_u32(&w, YK_SSD_FORMAT);
    yk_wr_u32(&w, YK_SSD_SECTOR);
    yk_wr_u64(&w, super->node_id);
    yk_wr_u64(&w, super->cluster_id);
    yk_wr_u64(&w, super->uid);
    yk_wr_u64(&w, super->size_bytes);
    yk_wr_u64(&w, super->segment_bytes);
    yk_wr_u64(&w, super->created_ms);
    yk_wr_u64(&w, super->end_at);
    yk_wr_str8(&w, super->node_name, strnlen(super->node_name, sizeof(super->node_name) - 1u));
    u64_put_at((unsigned char *)sector + YK_SSD_SECTOR - 8, yk_hash64(sector, YK_SSD_SECTOR - 8));
}

static int segment_bytes_ok(uint64_t bytes) {
    return bytes >= YK_SSD_SEGMENT_MIN && bytes <= YK_SSD_SEGMENT_MAX && bytes % YK_SSD_SECTOR == 0;
}

int yk_ssd_super_get(const void *sector, struct yk_ssd_super *ret_super, uint32_t *ret_version) {
    struct yk_rd r;
    yk_rd_init(&r, sector, YK_SSD_SECTOR);
    if (yk_rd_u64(&r) != MAGIC_SUPER)
        return -YK_ENOENT;
    uint32_t version = yk_rd_u32(&r);
    uint64_t sum = u64_at((const unsigned char *)sector + YK_SSD_SECTOR - 8);
    if (sum != yk_hash64(sector, YK_SSD_SECTOR - 8))
        return -YK_ECORRUPT;
    *ret_version = version;
    if (version != YK_SSD_FORMAT)
        return -YK_EVERSION;
    if (yk_rd_u32(&r) != YK_SSD_SECTOR)
        return -YK_ECORRUPT;
    struct yk_ssd_super s = {.node_id = yk_rd_u64(&r)};
    s.cluster_id = yk_rd_u64(&r);
    s.uid = yk_rd_u64(&r);
    s.size_bytes = yk_rd_u64(&r);
    s.segment_bytes = yk_rd_u64(&r);
    s.created_ms = yk_rd_u64(&r);
    s.end_at = yk_rd_u64(&r); /* this and the name: zero in what was written before there were such */
    uint32_t len;
    const void *name = yk_rd_str8(&r, &len);
    if (name == NULL || len >= sizeof(s.node_name))
        return -YK_ECORRUPT;
    memcpy(s.node_name, name, len);
    if (s.uid == 0 || !segment_bytes_ok(s.segment_bytes) ||
        (s.end_at != 0 && s.end_at != yk_ssd_end_at(s.size_bytes)) || yk_ssd_super_segments(&s) == 0)
        return -YK_ECORRUPT;
    *ret_super = s;
    return 0;
}

/* ---- checkpoint --------------------------------------------------------------------------------- */

static void ns_put(struct yk_wr *w, uint32_t number, const struct yk_ssd_ns *ns) {
    yk_wr_u8(w, (uint8_t)number);
    yk_wr_u8(w, ns->removed != 0);
    yk_wr_u64(w, ns->uid);
    yk_wr_u64(w, ns->epoch);
    yk_wr_u64(w, ns->quota_bytes);
    yk_wr_str8(w, ns->name, strnlen(ns->name, sizeof(ns->name)));
}

/* Terms of shares came later: they stand behind all namespaces, where older programs do not look, and for those alone that
 * have any. */
static int has_terms(const struct yk_ssd_ns *ns) {
    return ns->uid != 0 && (ns->guarantee_bytes != 0 || ns->priority != 0);
}

static void terms_put(struct yk_wr *w, uint32_t number, const struct yk_ssd_ns *ns) {
    yk_wr_u8(w, (uint8_t)number);
    yk_wr_u64(w, ns->guarantee_bytes);
    yk_wr_u32(w, ns->priority);
}

static int terms_get(struct yk_rd *r, struct yk_ssd_ns *table) {
    struct yk_ssd_ns *ns = &table[yk_rd_u8(r)];
    ns->guarantee_bytes = yk_rd_u64(r);
    ns->priority = yk_rd_u32(r);
    return r->bad || ns->uid == 0 ? -YK_ECORRUPT : 0;
}

void yk_ssd_ckpt_put(void *slot, const struct yk_ssd_ckpt *c) {
    struct yk_wr w;
    uint32_t count = 0, with_terms = 0;
    for (uint32_t i = 0; i < YK_SSD_NAMESPACES; i++) {
        count += c->ns[i].uid != 0;
        with_terms += (uint32_t)has_terms(&c->ns[i]);
    }
    memset(slot, 0, YK_SSD_CKPT_BYTES);
    yk_wr_init(&w, slot, YK_SSD_CKPT_BYTES - 8);
    yk_wr_u64(&w, MAGIC_CKPT);
    yk_wr_u64(&w, c->uid);
    yk_wr_u64(&w, c->seq);
    yk_wr_u64(&w, c->run);
    yk_wr_u64(&w, c->started);
    yk_wr_u64(&w, c->clock_ms);
    yk_wr_u64(&w, c->gen_max);
    yk_wr_u64(&w, c->ns_gen);
    yk_wr_u64(&w, c->wear_bytes);
    yk_wr_u16(&w, c->clean != 0);
    yk_wr_u16(&w, (uint16_t)count);
    yk_wr_u32(&w, with_terms);
    for (uint32_t i = 0; i < YK_SSD_NAMESPACES; i++)
        if (c->ns[i].uid != 0)
            ns_put(&w, i, &c->ns[i]);
    for (uint32_t i = 0; i < YK_SSD_NAMESPACES; i++)
        if (has_terms(&c->ns[i]))
            terms_put(&w, i, &c->ns[i]);
    u64_put_at((unsigned char *)slot + YK_SSD_CKPT_BYTES - 8,
               yk_hash64(slot, YK_SSD_CKPT_BYTES - 8));
}

static int ns_get(struct yk_rd *r, struct yk_ssd_ns *table) {
    uint32_t number = yk_rd_u8(r), len;
    struct yk_ssd_ns ns = {.removed = yk_rd_u8(r)};
    ns.uid = yk_rd_u64(r);
    ns.epoch = yk_rd_u64(r);
    ns.quota_bytes = yk_rd_u64(r);
    const void *name = yk_rd_str8(r, &len);
    if (r->bad || ns.uid == 0 || len > sizeof(ns.name) || table[number].uid != 0)
        return -YK_ECORRUPT;
    memcpy(ns.name, name, len);
    table[number] = ns;
    return 0;
}

int yk_ssd_ckpt_get(const void *slot, uint64_t uid, struct yk_ssd_ckpt *c) {
    struct yk_rd r;
    yk_rd_init(&r, slot, YK_SSD_CKPT_BYTES - 8);
    memset(c, 0, sizeof(*c));
    if (yk_rd_u64(&r) != MAGIC_CKPT)
        return -YK_ENOENT;
    if (u64_at((const unsigned char *)slot + YK_SSD_CKPT_BYTES - 8) !=
        yk_hash64(slot, YK_SSD_CKPT_BYTES - 8))
        return -YK_ECORRUPT;
    c->uid = yk_rd_u64(&r);
    if (c->uid != uid)
        return -YK_ENOENT;
    c->seq = yk_rd_u64(&r);
    c->run = yk_rd_u64(&r);
    c->started = yk_rd_u64(&r);
    c->clock_ms = yk_rd_u64(&r);
    c->gen_max = yk_rd_u64(&r);
    c->ns_gen = yk_rd_u64(&r);
    c->wear_bytes = yk_rd_u64(&r);
    c->clean = yk_rd_u16(&r) != 0;
    uint32_t count = yk_rd_u16(&r);
    uint32_t with_terms = yk_rd_u32(&r);
    for (uint32_t i = 0; i < count; i++)
        if (ns_get(&r, c->ns) < 0)
            return -YK_ECORRUPT;
    for (uint32_t i = 0; i < with_terms; i++)
        if (terms_get(&r, c->ns) < 0)
            return -YK_ECORRUPT;
    return 0;
}

/* ---- batch header --------------------------------------------------------------------------------- */

/* A sequence stands in a header twice, so that a header with one flipped bit still says whose it was. */
static uint32_t seq_check(uint64_t seq) {
    return (uint32_t)(yk_hash64(&seq, sizeof(seq)) >> 32);
}

void yk_ssd_head_put(void *buf, const struct yk_ssd_head *h) {
    struct yk_wr w;
    unsigned char *b = buf;
    yk_wr_init(&w, buf, YK_SSD_HEAD_BYTES);
    yk_wr_u64(&w, MAGIC_HEAD);
    yk_wr_u64(&w, 0);
    yk_wr_u64(&w, h->uid);
    yk_wr_u64(&w, h->seq);
    yk_wr_u32(&w, h->number);
    yk_wr_u32(&w, h->count);
    yk_wr_u32(&w, h->recs_bytes);
    yk_wr_u32(&w, h->room);
    yk_wr_u64(&w, h->bytes);
    yk_wr_u64(&w, h->clock_ms);
    yk_wr_u64(&w, h->gen_max);
    yk_wr_u32(&w, h->at_sector);
    yk_wr_u32(&w, seq_check(h->seq));
    memset(b + YK_SSD_HEAD_BYTES + h->recs_bytes, 0, h->room - YK_SSD_HEAD_BYTES - h->recs_bytes);
    u64_put_at(b + 8, yk_hash64(b + 16, YK_SSD_HEAD_BYTES - 16 + h->recs_bytes));
}

static uint64_t head_read(const void *sector, struct yk_ssd_head *h, uint32_t *ret_check) {
    struct yk_rd r;
    memset(h, 0, sizeof(*h));
    yk_rd_init(&r, sector, YK_SSD_HEAD_BYTES);
    uint64_t magic = yk_rd_u64(&r);
    yk_rd_u64(&r);
    h->uid = yk_rd_u64(&r);
    h->seq = yk_rd_u64(&r);
    h->number = yk_rd_u32(&r);
    h->count = yk_rd_u32(&r);
    h->recs_bytes = yk_rd_u32(&r);
    h->room = yk_rd_u32(&r);
    h->bytes = yk_rd_u64(&r);
    h->clock_ms = yk_rd_u64(&r);
    h->gen_max = yk_rd_u64(&r);
    h->at_sector = yk_rd_u32(&r);
    *ret_check = yk_rd_u32(&r);
    return magic;
}

int yk_ssd_head_peek(const void *sector, uint64_t uid, uint64_t segment_bytes,
                     struct yk_ssd_head *ret) {
    struct yk_ssd_head h;
    uint32_t check;
    if (head_read(sector, &h, &check) != MAGIC_HEAD || h.uid != uid || h.seq == 0)
        return -YK_ECORRUPT;
    uint64_t at = (uint64_t)h.at_sector * YK_SSD_SECTOR;
    if (h.room == 0 || h.room % YK_SSD_SECTOR != 0 || h.room > YK_SSD_ROOM_MAX ||
        h.recs_bytes > h.room - YK_SSD_HEAD_BYTES || h.bytes < h.room ||
        h.bytes % YK_SSD_SECTOR != 0 || at > segment_bytes || h.bytes > segment_bytes - at)
        return -YK_ECORRUPT;
    *ret = h;
    return 0;
}

int yk_ssd_head_get(const void *buf, uint64_t bytes, uint64_t uid, uint64_t segment_bytes,
                    struct yk_ssd_head *ret, struct yk_ssd_recs *ret_recs) {
    const unsigned char *b = buf;
    struct yk_ssd_head h;
    if (bytes < YK_SSD_SECTOR || yk_ssd_head_peek(buf, uid, segment_bytes, &h) < 0 ||
        h.room > bytes || u64_at(b + 8) != yk_hash64(b + 16, YK_SSD_HEAD_BYTES - 16 + h.recs_bytes))
        return -YK_ECORRUPT;
    *ret = h;
    ret_recs->at = b + YK_SSD_HEAD_BYTES;
    ret_recs->end = ret_recs->at + h.recs_bytes;
    return 0;
}

static int seq_is(const struct yk_ssd_head *h, uint32_t check, uint64_t seq) {
    uint32_t want = seq_check(seq);
    return want == check || (h->seq == seq && __builtin_popcount(want ^ check) <= 1);
}

int yk_ssd_head_seq_is(const void *sector, uint64_t seq) {
    struct yk_ssd_head h;
    uint32_t check;
    head_read(sector, &h, &check);
    return seq_is(&h, check, seq);
}

int yk_ssd_head_damaged(const void *sector, uint64_t uid, uint64_t seq) {
    struct yk_ssd_head h;
    uint32_t check;
    int magic = head_read(sector, &h, &check) == MAGIC_HEAD;
    if (seq != 0)
        return seq_is(&h, check, seq) && (magic || h.uid == uid);
    return magic + (h.uid == uid) + (h.seq != 0 && seq_check(h.seq) == check) >= 2;
}

/* ---- footer ----------------------------------------------------------------------------------------- */

uint64_t yk_ssd_foot_bytes(uint64_t recs_bytes) {
    return yk_ssd_up(recs_bytes + YK_SSD_TAIL_BYTES, YK_SSD_SECTOR);
}

void yk_ssd_foot_put(void *buf, const struct yk_ssd_foot *f) {
    unsigned char *b = buf;
    uint64_t bytes = yk_ssd_foot_bytes(f->recs_bytes);
    unsigned char *tail = b + bytes - YK_SSD_TAIL_BYTES;
    struct yk_wr w;
    memset(b + f->recs_bytes, 0, bytes - f->recs_bytes);
    yk_wr_init(&w, tail, YK_SSD_TAIL_BYTES);
    yk_wr_u64(&w, MAGIC_FOOT);
    yk_wr_u64(&w, 0);
    yk_wr_u64(&w, f->uid);
    yk_wr_u64(&w, f->seq);
    yk_wr_u32(&w, f->count);
    yk_wr_u32(&w, f->recs_bytes);
    yk_wr_u64(&w, f->clock_ms);
    yk_wr_u64(&w, f->gen_max);
    yk_wr_u64(&w, yk_hash64(b, f->recs_bytes));
    u64_put_at(tail + 8, yk_hash64(tail + 16, YK_SSD_TAIL_BYTES - 16));
}

int yk_ssd_foot_peek(const void *last_sector, uint64_t uid, uint64_t segment_bytes,
                     struct yk_ssd_foot *ret) {
    const unsigned char *tail =
        (const unsigned char *)last_sector + YK_SSD_SECTOR - YK_SSD_TAIL_BYTES;
    struct yk_ssd_foot f;
    struct yk_rd r;
    yk_rd_init(&r, tail, YK_SSD_TAIL_BYTES);
    if (yk_rd_u64(&r) != MAGIC_FOOT ||
        yk_rd_u64(&r) != yk_hash64(tail + 16, YK_SSD_TAIL_BYTES - 16))
        return -YK_ECORRUPT;
    f.uid = yk_rd_u64(&r);
    f.seq = yk_rd_u64(&r);
    f.count = yk_rd_u32(&r);
    f.recs_bytes = yk_rd_u32(&r);
    f.clock_ms = yk_rd_u64(&r);
    f.gen_max = yk_rd_u64(&r);
    if (f.uid != uid || f.seq == 0 || yk_ssd_foot_bytes(f.recs_bytes) > segment_bytes)
        return -YK_ECORRUPT;
    *ret = f;
    return 0;
}

int yk_ssd_foot_damaged(const void *last_sector, uint64_t uid) {
    const unsigned char *tail =
        (const unsigned char *)last_sector + YK_SSD_SECTOR - YK_SSD_TAIL_BYTES;
    int magic = u64_at(tail) == MAGIC_FOOT, ours = u64_at(tail + 16) == uid;
    int whole = u64_at(tail + 8) == yk_hash64(tail + 16, YK_SSD_TAIL_BYTES - 16);
    return whole ? ours && !magic : ours || magic;
}

int yk_ssd_foot_get(const void *buf, const struct yk_ssd_foot *foot, struct yk_ssd_recs *ret_recs) {
    const unsigned char *b = buf;
    uint64_t bytes = yk_ssd_foot_bytes(foot->recs_bytes);
    if (u64_at(b + bytes - 8) != yk_hash64(b, foot->recs_bytes))
        return -YK_ECORRUPT;
    ret_recs->at = b;
    ret_recs->end = b + foot->recs_bytes;
    return 0;
}

/* ---- devices ---------------------------------------------------------------------------------------- */

uint64_t yk_ssd_segments(uint64_t size_bytes, uint64_t segment_bytes) {
    if (size_bytes <= YK_SSD_SEGMENTS_AT)
        return 0;
    uint64_t n = (size_bytes - YK_SSD_SEGMENTS_AT) / segment_bytes;
    return n < YK_SSD_SEGMENTS_MAX ? n : YK_SSD_SEGMENTS_MAX;
}

uint64_t yk_ssd_super_segments(const struct yk_ssd_super *super) {
    return yk_ssd_segments(super->end_at != 0 ? super->end_at : super->size_bytes,
                           super->segment_bytes);
}
