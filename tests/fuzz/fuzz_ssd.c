/* SPDX-License-Identifier: Apache-2.0
 *
 * Bytes of an SSD device through every decoder: superblock, checkpoint, header, footer, records,
 * foreign content. What is accepted must lie inside its segment, and comes out the same again when
 * it is written and read once more. Sums are made right for half of the inputs, so that what stands
 * behind them is reached.
 *
 * First byte: which decoder (low 3 bits), whether sums are mended (bit 3).
 */
#include "base/hash.h"
#include "tier/ssd/format.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SEGMENT (1u << 20)
#define UID     0x2a2a2a2a2a2a2a2aull

static unsigned char buf[YK_SSD_CKPT_BYTES];
static unsigned char again[YK_SSD_REC_MAX];

static void check(int ok) {
    if (!ok)
        abort();
}

static void sum_at(size_t at, size_t from, size_t to) {
    uint64_t sum = yk_hash64(buf + from, to - from);
    memcpy(buf + at, &sum, sizeof(sum));
}

static void records(struct yk_ssd_recs l) {
    struct yk_ssd_rec r, back;
    const unsigned char *at = l.at;
    uint32_t n = 0;
    while (yk_ssd_rec_next(&l, SEGMENT, &r) == 1) {
        check(l.at > at && l.at <= l.end && (size_t)(l.at - at) <= YK_SSD_REC_MAX);
        if (r.type == YK_SSD_REC_BLOCK)
            check((uint64_t)r.place * YK_SSD_UNIT + yk_ssd_takes(r.len) <= SEGMENT);
        if (r.type != YK_SSD_REC_NS)
            check(r.key_len > 0 && r.key >= at && r.key + r.key_len <= l.at);
        uint32_t bytes = yk_ssd_rec_put(again, &r);
        struct yk_ssd_recs one = {again, again + bytes};
        check(yk_ssd_rec_next(&one, SEGMENT, &back) == 1 && one.at == one.end);
        check(back.type == r.type && back.gen == r.gen && back.ns_uid == r.ns_uid);
        at = l.at;
        check(++n < 1u << 20);
    }
}

static void header(size_t size, int mend) {
    struct yk_ssd_head h;
    struct yk_ssd_recs l;
    if (mend && yk_ssd_head_peek(buf, UID, SEGMENT, &h) == 0 &&
        YK_SSD_HEAD_BYTES + h.recs_bytes <= size)
        sum_at(8, 16, YK_SSD_HEAD_BYTES + h.recs_bytes);
    yk_ssd_head_damaged(buf, UID, 0);
    yk_ssd_head_damaged(buf, UID, 5);
    yk_ssd_head_seq_is(buf, 5);
    if (yk_ssd_head_get(buf, size, UID, SEGMENT, &h, &l) < 0)
        return;
    check(h.bytes <= SEGMENT && (uint64_t)h.at_sector * YK_SSD_SECTOR + h.bytes <= SEGMENT);
    check(l.at >= buf && l.end <= buf + size);
    records(l);
}

static void footer(size_t size, int mend) {
    struct yk_ssd_foot f;
    struct yk_ssd_recs l;
    size_t tail = size - YK_SSD_TAIL_BYTES;
    if (mend) {
        uint32_t bytes;
        memcpy(&bytes, buf + tail + 36, sizeof(bytes));
        if (yk_ssd_foot_bytes(bytes) <= size)
            sum_at(tail + 56, size - yk_ssd_foot_bytes(bytes),
                   size - yk_ssd_foot_bytes(bytes) + bytes);
        sum_at(tail + 8, tail + 16, size);
    }
    if (yk_ssd_foot_peek(buf + size - YK_SSD_SECTOR, UID, SEGMENT, &f) < 0)
        return;
    uint64_t bytes = yk_ssd_foot_bytes(f.recs_bytes);
    check(bytes <= SEGMENT);
    if (bytes > size || yk_ssd_foot_get(buf + size - bytes, &f, &l) < 0)
        return;
    check(l.at >= buf && l.end <= buf + size);
    records(l);
}

static void superblock(int mend) {
    struct yk_ssd_super s;
    uint32_t version = 0;
    if (mend)
        sum_at(YK_SSD_SECTOR - 8, 0, YK_SSD_SECTOR - 8);
    if (yk_ssd_super_get(buf, &s, &version) < 0)
        return;
    check(version == YK_SSD_FORMAT && s.uid != 0);
    check(yk_ssd_super_segments(&s) > 0);
}

static void checkpoint(int mend) {
    static struct yk_ssd_ckpt c;
    if (mend)
        sum_at(YK_SSD_CKPT_BYTES - 8, 0, YK_SSD_CKPT_BYTES - 8);
    if (yk_ssd_ckpt_get(buf, UID, &c) < 0)
        return;
    check(c.uid == UID);
    yk_ssd_ckpt_put(buf, &c);
    check(yk_ssd_ckpt_get(buf, UID, &c) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2 || size > sizeof(buf))
        return 0;
    unsigned what = data[0] & 7u;
    int mend = (data[0] & 8u) != 0;
    size_t n = size - 1;
    memset(buf, 0, sizeof(buf));
    /* A footer ends where its last sector does. */
    size_t whole = n < YK_SSD_SECTOR ? YK_SSD_SECTOR : n / YK_SSD_SECTOR * YK_SSD_SECTOR;
    if (what == 2 && n < whole)
        memcpy(buf + whole - n, data + 1, n);
    else
        memcpy(buf, data + 1, n);
    if (what == 0)
        superblock(mend);
    else if (what == 1)
        header(whole, mend);
    else if (what == 2)
        footer(whole, mend);
    else if (what == 3)
        checkpoint(mend);
    else if (what == 4)
        records((struct yk_ssd_recs){buf, buf + n});
    else
        yk_ssd_foreign(buf, n);
    return 0;
}
