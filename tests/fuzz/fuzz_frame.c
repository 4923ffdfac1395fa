/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzz target: a frame as it comes from a socket, header and body.
 *
 * The body is decoded by the layout that src/wire/msg.h gives its op, in both directions, with the
 * functions that node and client use. What was decoded without an error is encoded again and must give
 * the same bytes: so a length that is taken for another, or a field that is skipped, is found even
 * where it crashes nothing.
 *
 * Layouts are strings: 1 2 4 8 integers, s str8, t text, a attrs, i info, * all that is left, n a count
 * (u32) of the group in brackets that follows at once or after other fields. Parts that a reply has
 * only on success are taken as there. Thread: one.
 */
#include "wire/msg.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const requests[YK_MSG_OPS] = {
    [YK_MSG_HELLO] = "4444888s",
    [YK_MSG_BYE] = "",
    [YK_MSG_PING] = "*",
    [YK_MSG_RESERVE] = "448",
    [YK_MSG_COMMIT] = "n48[48884ass]",
    [YK_MSG_ABORT] = "n[48]",
    [YK_MSG_PUT] = "4888ass*",
    [YK_MSG_GET] = "8888s",
    [YK_MSG_LOOKUP] = "8n[s]",
    [YK_MSG_EXISTS] = "8n[s]",
    [YK_MSG_MATCH] = "8n[s]",
    [YK_MSG_CHANGE] = "8n[18s]",
    [YK_MSG_REMOVE_MANY] = "1s",
    [YK_MSG_PREFETCH] = "14n[s]",
    [YK_MSG_NS] = "18s",
    [YK_MSG_NS_LIST] = "*",
    [YK_MSG_LIST] = "884s",
    [YK_MSG_STATS] = "",
    [YK_MSG_DRAIN] = "",
    [YK_MSG_ANNOUNCE] = "88444n[s]",
    [YK_MSG_EXPLAIN] = "s",
};

/* Of a node with a transfer engine. */
static const char *const hello_xfer = "4t4488484888888tt";

static const char *const replies[YK_MSG_OPS] = {
    [YK_MSG_HELLO] = "4t4488484888888",
    [YK_MSG_BYE] = "4",
    [YK_MSG_PING] = "*",
    [YK_MSG_RESERVE] = "4n[488]",
    [YK_MSG_COMMIT] = "n[4]n[488]",
    [YK_MSG_ABORT] = "n[4]",
    [YK_MSG_PUT] = "4",
    [YK_MSG_GET] = "4i488*",
    [YK_MSG_LOOKUP] = "n[4i]",
    [YK_MSG_EXISTS] = "4*",
    [YK_MSG_MATCH] = "4",
    [YK_MSG_CHANGE] = "n[4]",
    [YK_MSG_REMOVE_MANY] = "48",
    [YK_MSG_PREFETCH] = "44t",
    [YK_MSG_NS] = "4t",
    [YK_MSG_NS_LIST] = "4n[s8888]*",
    [YK_MSG_LIST] = "48n[si]",
    [YK_MSG_STATS] = "4*",
    [YK_MSG_EXPLAIN] = "4*",
    [YK_MSG_ERROR] = "4t",
};

struct both {
    struct yk_rd r;
    struct yk_wr w;
    int inexact; /* a text with a zero inside: its reader sees less than was there */
};

static void text(struct both *b) {
    static char buf[65536];
    size_t before = yk_rd_left(&b->r);
    yk_rd_text(&b->r, buf, sizeof(buf));
    size_t took = before - yk_rd_left(&b->r);
    if (!b->r.bad && strlen(buf) + 2 != took)
        b->inexact = 1;
    yk_wr_text(&b->w, buf);
}

/* One field; the value of an integer. */
static uint64_t field(struct both *b, char kind) {
    uint32_t len = 0;
    const void *p = NULL;
    uint64_t v = 0;
    struct yk_attrs attrs;
    yk_block_info info;
    switch (kind) {
    case '1':
        yk_wr_u8(&b->w, (uint8_t)(v = yk_rd_u8(&b->r)));
        break;
    case '2':
        yk_wr_u16(&b->w, (uint16_t)(v = yk_rd_u16(&b->r)));
        break;
    case '4':
    case 'n':
        yk_wr_u32(&b->w, (uint32_t)(v = yk_rd_u32(&b->r)));
        break;
    case '8':
        yk_wr_u64(&b->w, v = yk_rd_u64(&b->r));
        break;
    case 's':
        p = yk_rd_str8(&b->r, &len);
        yk_wr_str8(&b->w, p, len);
        break;
    case 't':
        text(b);
        break;
    case 'a':
        yk_rd_attrs(&b->r, &attrs);
        yk_wr_attrs(&b->w, &attrs);
        break;
    case 'i':
        yk_rd_info(&b->r, &info);
        yk_wr_info(&b->w, &info);
        break;
    default:
        len = (uint32_t)yk_rd_left(&b->r);
        p = yk_rd_bytes(&b->r, len);
        if (p != NULL)
            yk_wr_bytes(&b->w, p, len);
        break;
    }
    return v;
}

static void body(struct both *b, const char *layout) {
    uint64_t count = 0;
    while (*layout != 0) {
        if (*layout != '[') {
            uint64_t v = field(b, *layout);
            count = *layout == 'n' ? v : count;
            layout++;
            continue;
        }
        const char *end = strchr(layout, ']');
        /* As every decoder must: the count is a stranger's, the reader's end is not. */
        for (uint64_t i = 0; i < count && !b->r.bad; i++)
            for (const char *at = layout + 1; at < end; at++)
                field(b, *at);
        layout = end + 1;
    }
}

static void decode(const char *layout, const uint8_t *data, size_t size) {
    struct both b;
    unsigned char *copy = malloc(size > 0 ? size : 1);
    if (copy == NULL || layout == NULL) {
        free(copy);
        return;
    }
    b.inexact = 0;
    yk_rd_init(&b.r, data, size);
    yk_wr_init(&b.w, copy, size);
    body(&b, layout);
    if (yk_rd_ok(&b.r) && !b.inexact &&
        (!yk_wr_ok(&b.w) || yk_wr_len(&b.w) != size || memcmp(copy, data, size) != 0))
        abort();
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct yk_frame f;
    struct yk_err err;
    unsigned char again[YK_FRAME_HDR];
    if (size < YK_FRAME_HDR)
        return 0;
    if (yk_frame_decode(data, 1 << 20, &f, &err) == 0) {
        yk_frame_encode(again, &f);
        if (memcmp(again, data, YK_FRAME_HDR) != 0)
            abort();
        decode(f.flags & YK_FRAME_REPLY ? replies[f.op] : requests[f.op], data + YK_FRAME_HDR,
               size - YK_FRAME_HDR);
        if (f.op == YK_MSG_HELLO && (f.flags & YK_FRAME_REPLY))
            decode(hello_xfer, data + YK_FRAME_HDR, size - YK_FRAME_HDR);
    } else if (strlen(err.text) == 0) {
        abort();
    }
    return 0;
}
