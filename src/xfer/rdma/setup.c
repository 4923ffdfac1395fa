/* SPDX-License-Identifier: Apache-2.0
 *
 * What two ends of a queue pair tell each other, over the lane's stream (rdma_priv.h has the layouts). From
 * outside: every field is checked before anything is made of it; what decodes encodes to the same bytes.
 *
 * Threads: the caller's; no state.
 */
#include "rdma_priv.h"

#include "wire/codec.h"

#include <string.h>

#define MAGIC         0x51446b59u /* "YkDQ" */
#define VERSION       1u
#define VERSION_IWARP 2u
#define CALL_MAGIC    0x43446b59u /* "YkDC" */
#define CALL_VERSION  1u

static void encode_iwarp(struct yk_wr *w, const struct yk_rdma_offer *o) {
    yk_wr_u16(w, VERSION_IWARP);
    yk_wr_u8(w, 0);
    yk_wr_u8(w, o->reads);
    yk_wr_u16(w, o->port);
    yk_wr_u16(w, 0);
    yk_wr_u32(w, o->rkey);
    yk_wr_u64(w, o->addr);
    yk_wr_bytes(w, o->token, sizeof(o->token));
}

void yk_rdma_offer_encode(void *bytes, const struct yk_rdma_offer *o) {
    struct yk_wr w;
    yk_wr_init(&w, bytes, YK_OFFER_BYTES);
    yk_wr_u32(&w, MAGIC);
    if (o->iwarp) {
        encode_iwarp(&w, o);
        return;
    }
    yk_wr_u16(&w, VERSION);
    yk_wr_u8(&w, o->mtu);
    yk_wr_u8(&w, o->reads);
    yk_wr_u32(&w, o->qpn);
    yk_wr_u32(&w, o->psn);
    yk_wr_u16(&w, o->lid);
    yk_wr_u16(&w, 0);
    yk_wr_bytes(&w, o->gid, sizeof(o->gid));
    yk_wr_u32(&w, 0);
}

static int decode_iwarp(struct yk_rd *r, struct yk_rdma_offer *ret_offer, struct yk_err *err) {
    struct yk_rdma_offer o = {.iwarp = 1};
    uint32_t rest = yk_rd_u8(r);
    uint64_t says = 0;
    o.reads = yk_rd_u8(r);
    o.port = yk_rd_u16(r);
    rest |= yk_rd_u16(r);
    says |= o.rkey = yk_rd_u32(r);
    says |= o.addr = yk_rd_u64(r);
    memcpy(o.token, yk_rd_bytes(r, sizeof(o.token)), sizeof(o.token));
    for (size_t i = 0; i < sizeof(o.token); i++)
        says |= o.token[i];
    if (o.reads == 0 || rest != 0 || (o.port == 0 && says != 0) ||
        (o.port != 0 && o.addr + sizeof(o.token) < o.addr))
        return yk_err_set(err, -YK_EPROTO, "an iWARP queue pair at port %u with %u reads", o.port, o.reads);
    *ret_offer = o;
    return 0;
}

int yk_rdma_offer_decode(const void *bytes, struct yk_rdma_offer *ret_offer, struct yk_err *err) {
    struct yk_rd r;
    struct yk_rdma_offer o = {.iwarp = 0};
    yk_rd_init(&r, bytes, YK_OFFER_BYTES);
    uint32_t magic = yk_rd_u32(&r), version = yk_rd_u16(&r);
    if (magic == MAGIC && version == VERSION_IWARP)
        return decode_iwarp(&r, ret_offer, err);
    o.mtu = yk_rd_u8(&r);
    o.reads = yk_rd_u8(&r);
    o.qpn = yk_rd_u32(&r);
    o.psn = yk_rd_u32(&r);
    o.lid = yk_rd_u16(&r);
    uint32_t rest = yk_rd_u16(&r);
    memcpy(o.gid, yk_rd_bytes(&r, sizeof(o.gid)), sizeof(o.gid));
    rest |= yk_rd_u32(&r);
    if (magic != MAGIC)
        return yk_err_set(err, -YK_EPROTO, "not what a queue pair says of itself: it begins with %#x", magic);
    if (version != VERSION)
        return yk_err_set(err, -YK_EVERSION, "version %u of the set-up of RDMA; this engine speaks %u and %u",
                          version, VERSION, VERSION_IWARP);
    if (o.mtu < 1 || o.mtu > 5 || o.reads == 0 || o.qpn == 0 || o.qpn >> 24 != 0 || o.psn >> 24 != 0 || rest != 0)
        return yk_err_set(err, -YK_EPROTO, "a queue pair %#x with mtu %u, %u reads, psn %#x", o.qpn, o.mtu, o.reads,
                          o.psn);
    *ret_offer = o;
    return 0;
}

void yk_rdma_call_encode(void *bytes, const uint8_t token[YK_CM_TOKEN]) {
    struct yk_wr w;
    yk_wr_init(&w, bytes, YK_CALL_BYTES);
    yk_wr_u32(&w, CALL_MAGIC);
    yk_wr_u32(&w, CALL_VERSION);
    yk_wr_bytes(&w, token, YK_CM_TOKEN);
}

int yk_rdma_call_is(const void *bytes, uint32_t len, const uint8_t token[YK_CM_TOKEN]) {
    unsigned char expected[YK_CALL_BYTES];
    yk_rdma_call_encode(expected, token);
    return len >= YK_CALL_BYTES && memcmp(bytes, expected, YK_CALL_BYTES) == 0;
}

void yk_rdma_key_encode(void *bytes, const struct yk_rdma_key *k) {
    struct yk_wr w;
    yk_wr_init(&w, bytes, YK_KEY_BYTES);
    yk_wr_u64(&w, k->addr);
    yk_wr_u64(&w, k->from);
    yk_wr_u64(&w, k->span);
    yk_wr_u32(&w, k->rkey);
    yk_wr_u32(&w, 0);
}

int yk_rdma_key_decode(const void *bytes, struct yk_rdma_key *ret_key, struct yk_err *err) {
    struct yk_rd r;
    struct yk_rdma_key k = {.lkey = 0};
    yk_rd_init(&r, bytes, YK_KEY_BYTES);
    k.addr = yk_rd_u64(&r);
    k.from = yk_rd_u64(&r);
    k.span = yk_rd_u64(&r);
    k.rkey = yk_rd_u32(&r);
    uint32_t rest = yk_rd_u32(&r);
    if (k.span == 0 || k.from + k.span < k.span || k.addr + k.span < k.span || rest != 0)
        return yk_err_set(err, -YK_EPROTO, "a key to %llu bytes at %llu", (unsigned long long)k.span,
                          (unsigned long long)k.from);
    *ret_key = k;
    return 0;
}

int yk_rdma_key_covers(const struct yk_rdma_key *k, uint64_t offset, uint64_t len) {
    return offset >= k->from && len <= k->span && offset - k->from <= k->span - len;
}
