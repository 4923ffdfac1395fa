/* SPDX-License-Identifier: Apache-2.0
 *
 * Bytes of a log of removes through its reader. What is accepted must be in order, must do what a log does, and must
 * come out the same when what was kept of it is read again, and when it is compacted.
 *
 * First byte: 0: the rest is a file. Else the rest tells how to make one, with sums that are right, so that what
 * stands behind them is reached: for each record a control byte (1: a frame ends behind it; 2: its body is damaged,
 * 4: its head is, 8: the frame's head is), type, slot (two bytes), length, body.
 */
#include "dir/rlog_priv.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define UID 0x2a2a2a2a2a2a2a2aull

static void check(int ok) {
    if (!ok)
        abort();
}

static void append(struct rlog_buf *to, const void *data, size_t len) {
    check(rlog_buf_need(to, len + 1u) == 0); /* a file of no bytes is one, too: its image is not NULL */
    memcpy(to->data + to->len, data, len);
    to->len += len;
}

static void frame_end(struct rlog_buf *image, struct rlog_buf *frame, struct rlog_file *file, int damaged) {
    rlog_frame_put(frame, file);
    frame->data[16] ^= (unsigned char)damaged;
    append(image, frame->data, frame->len);
    file->number++;
    frame->len = RLOG_FRAME;
}

static void make(struct rlog_buf *image, const uint8_t *at, size_t left) {
    struct rlog_file file = {.id = UID, .number = 1};
    struct rlog_buf frame = {0};
    check(rlog_buf_need(&frame, RLOG_FRAME) == 0 && rlog_buf_need(image, RLOG_HEAD) == 0);
    rlog_head_put(image->data, UID);
    image->len = RLOG_HEAD;
    frame.len = RLOG_FRAME;
    while (left >= 5) {
        struct yk_wr w;
        size_t start = frame.len, len = at[4] < left - 5 ? at[4] : left - 5;
        check(rlog_record_begin(&frame, (at[2] | (uint32_t)at[3] << 8) & 0x1fffu, at[1], len, &w) == 0);
        yk_wr_bytes(&w, at + 5, len);
        rlog_record_end(&frame, len);
        frame.data[start + 8] ^= at[0] & 2u;
        frame.data[start + 16] ^= at[0] & 4u;
        if (at[0] & 1u)
            frame_end(image, &frame, &file, at[0] & 8u);
        at += 5 + len;
        left -= 5 + len;
    }
    frame_end(image, &frame, &file, 0);
    free(frame.data);
}

static struct yk_dir_rlog *open_image(const void *image, size_t len, struct yk_dir_rlog_report *report) {
    struct yk_dir_rlog *log = NULL;
    struct yk_dir_rlog_opts opts = {.image = image, .image_len = len, .compact_min = 1};
    int rc = yk_dir_rlog_open(&opts, &log, report, NULL);
    check(rc == 0 || rc == -YK_ECORRUPT || rc == -YK_EVERSION || rc == -YK_ENOMEM);
    return log;
}

static int same(struct yk_dir_num a, struct yk_dir_num b) {
    return yk_dir_num_cmp(a, b) == 0;
}

static void compare(const struct yk_dir_rlog *a, const struct yk_dir_rlog *b) {
    for (uint32_t i = 0; i < YK_DIR_SLOTS; i++) {
        const struct rlog_slot *x = &a->slot[i], *y = &b->slot[i];
        check(x->seen == y->seen && x->led == y->led && x->count == y->count && x->lost == y->lost);
        check(same(x->last, y->last) && same(x->base, y->base) && same(x->forgot, y->forgot));
        for (uint32_t j = 0; j < x->count; j++) {
            const struct rlog_remove *p = x->removes[j], *q = y->removes[j];
            check(same(p->num, q->num) && p->key_len == q->key_len && p->ns_len == q->ns_len && p->key_len > 0);
            check(j == 0 || yk_dir_num_cmp(x->removes[j - 1]->num, p->num) <= 0);
            check(yk_dir_slot_of(p->hash) == i);
        }
    }
}

static void compact(struct yk_dir_rlog *log) {
    struct yk_dir_rlog_io io;
    struct yk_dir_rlog_counts before, after;
    log->compact_soon = 1;
    yk_dir_rlog_counts(log, &before);
    while (yk_dir_rlog_begin(log, &io) == 1) {
        yk_dir_rlog_io(&io);
        check(yk_dir_rlog_end(log, &io, NULL) == 0);
        yk_dir_rlog_counts(log, &after);
        if (after.compactions > before.compactions)
            return;
    }
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct rlog_buf made = {0};
    struct yk_dir_rlog_report report, again;
    if (size < 1)
        return 0;
    if (data[0] == 0)
        append(&made, data + 1, size - 1);
    else
        make(&made, data + 1, size - 1);
    struct yk_dir_rlog *log = open_image(made.data, made.len, &report);
    if (log != NULL) {
        size_t len;
        const void *image = yk_dir_rlog_image(log, &len);
        check(len + report.cut_bytes == made.len && memcmp(image, made.data, len) == 0);
        struct yk_dir_rlog *other = open_image(image, len, &again);
        check(other != NULL && again.cut_bytes == 0 && again.lost_slots == report.lost_slots);
        compare(log, other);
        yk_dir_rlog_close(other);
        compact(log);
        image = yk_dir_rlog_image(log, &len);
        other = open_image(image, len, &again);
        check(other != NULL && again.cut_bytes == 0 && again.rotten == 0 && again.lost_slots == report.lost_slots);
        compare(log, other);
        yk_dir_rlog_close(other);
        yk_dir_rlog_close(log);
    }
    free(made.data);
    return 0;
}
