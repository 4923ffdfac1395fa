/* SPDX-License-Identifier: Apache-2.0
 *
 * What both ends of the socket protocol encode and decode alike (src/wire/msg.h).
 */
#include "wire/msg.h"

#include <string.h>

static const char *const op_names[YK_MSG_OPS] = {
    [0] = "none",
    [YK_MSG_HELLO] = "hello",
    [YK_MSG_BYE] = "bye",
    [YK_MSG_PING] = "ping",
    [YK_MSG_RESERVE] = "reserve",
    [YK_MSG_COMMIT] = "commit",
    [YK_MSG_ABORT] = "abort",
    [YK_MSG_PUT] = "put",
    [YK_MSG_GET] = "get",
    [YK_MSG_LOOKUP] = "lookup",
    [YK_MSG_EXISTS] = "exists",
    [YK_MSG_MATCH] = "match",
    [YK_MSG_CHANGE] = "change",
    [YK_MSG_REMOVE_MANY] = "remove_many",
    [YK_MSG_PREFETCH] = "prefetch",
    [YK_MSG_NS] = "ns",
    [YK_MSG_NS_LIST] = "ns_list",
    [YK_MSG_LIST] = "list",
    [YK_MSG_STATS] = "stats",
    [YK_MSG_ERROR] = "error",
    [YK_MSG_DRAIN] = "drain",
    [YK_MSG_RAISE] = "raise",
    [YK_MSG_ANNOUNCE] = "announce",
    [YK_MSG_EXPLAIN] = "explain",
};

const char *yk_wire_op_name(unsigned op) {
    return op < YK_MSG_OPS ? op_names[op] : "unknown";
}

int yk_frame_decode(const void *bytes16, uint64_t max_payload, struct yk_frame *ret_frame,
                    struct yk_err *err) {
    struct yk_rd r;
    struct yk_frame f;
    yk_rd_init(&r, bytes16, YK_FRAME_HDR);
    f.body_bytes = yk_rd_u32(&r);
    f.op = yk_rd_u8(&r);
    f.flags = yk_rd_u8(&r);
    uint16_t reserved = yk_rd_u16(&r);
    f.id = yk_rd_u64(&r);
    if (f.op == 0 || f.op >= YK_MSG_OPS || reserved != 0 || (f.flags & ~YK_FRAME_REPLY) != 0)
        return yk_err_set(err, -YK_EPROTO,
                          "not a Yolk frame: op %u, flags %u (is the other end a Yolk of another "
                          "version?)",
                          f.op, f.flags);
    int carries_payload = (f.flags & YK_FRAME_REPLY) ? f.op == YK_MSG_GET : f.op == YK_MSG_PUT;
    uint64_t payload = max_payload < UINT32_MAX ? max_payload : UINT32_MAX;
    uint64_t limit = carries_payload ? payload + 4096u : YK_FRAME_BODY_MAX;
    if (f.body_bytes > limit)
        return yk_err_set(err, -YK_EPROTO, "%s frame of %u bytes, at most %llu are allowed",
                          yk_wire_op_name(f.op), f.body_bytes, (unsigned long long)limit);
    *ret_frame = f;
    return 0;
}

void yk_frame_encode(void *bytes16, const struct yk_frame *frame) {
    struct yk_wr w;
    yk_wr_init(&w, bytes16, YK_FRAME_HDR);
    yk_wr_u32(&w, frame->body_bytes);
    yk_wr_u8(&w, frame->op);
    yk_wr_u8(&w, frame->flags);
    yk_wr_u16(&w, 0);
    yk_wr_u64(&w, frame->id);
}

void yk_wr_attrs(struct yk_wr *w, const struct yk_attrs *a) {
    yk_wr_u32(w, a->flags);
    yk_wr_u64(w, a->ttl_ms);
    yk_wr_u64(w, a->pin_ms);
    yk_wr_u64(w, a->session);
    yk_wr_u32(w, a->depth_tokens);
    yk_wr_u32(w, a->length_tokens);
    yk_wr_u32(w, a->model);
    yk_wr_u8(w, a->kind);
}

void yk_rd_attrs(struct yk_rd *r, struct yk_attrs *ret_attrs) {
    ret_attrs->flags = yk_rd_u32(r);
    ret_attrs->ttl_ms = yk_rd_u64(r);
    ret_attrs->pin_ms = yk_rd_u64(r);
    ret_attrs->session = yk_rd_u64(r);
    ret_attrs->depth_tokens = yk_rd_u32(r);
    ret_attrs->length_tokens = yk_rd_u32(r);
    ret_attrs->model = yk_rd_u32(r);
    ret_attrs->kind = yk_rd_u8(r);
}

void yk_wr_info(struct yk_wr *w, const yk_block_info *info) {
    yk_wr_u64(w, info->len);
    yk_wr_u64(w, info->checksum);
    yk_wr_u64(w, info->generation);
    yk_wr_u64(w, info->epoch);
    yk_wr_u64(w, info->expiry_ms);
    yk_wr_u64(w, info->session);
    yk_wr_u32(w, info->depth_tokens);
    yk_wr_u32(w, info->length_tokens);
    yk_wr_u32(w, info->model);
    yk_wr_u32(w, info->children);
    yk_wr_u8(w, (uint8_t)info->kind);
    yk_wr_u8(w, (uint8_t)info->pinned);
    yk_wr_u8(w, (uint8_t)info->tiers);
    yk_wr_u8(w, (uint8_t)info->has_parent);
}

void yk_rd_info(struct yk_rd *r, yk_block_info *ret_info) {
    memset(ret_info, 0, sizeof(*ret_info));
    ret_info->len = yk_rd_u64(r);
    ret_info->checksum = yk_rd_u64(r);
    ret_info->generation = yk_rd_u64(r);
    ret_info->epoch = yk_rd_u64(r);
    ret_info->expiry_ms = yk_rd_u64(r);
    ret_info->session = yk_rd_u64(r);
    ret_info->depth_tokens = yk_rd_u32(r);
    ret_info->length_tokens = yk_rd_u32(r);
    ret_info->model = yk_rd_u32(r);
    ret_info->children = yk_rd_u32(r);
    ret_info->kind = yk_rd_u8(r);
    ret_info->pinned = yk_rd_u8(r);
    ret_info->tiers = yk_rd_u8(r);
    ret_info->has_parent = yk_rd_u8(r);
}

void yk_wr_text(struct yk_wr *w, const char *text) {
    size_t len = strlen(text);
    if (len > 65535u)
        len = 65535u;
    yk_wr_u16(w, (uint16_t)len);
    yk_wr_bytes(w, text, len);
}

void yk_rd_text(struct yk_rd *r, char *buf, size_t cap) {
    size_t len = yk_rd_u16(r);
    const void *p = yk_rd_bytes(r, len);
    if (p == NULL)
        len = 0;
    if (len > cap - 1)
        len = cap - 1;
    if (len > 0)
        memcpy(buf, p, len);
    buf[len] = 0;
}
