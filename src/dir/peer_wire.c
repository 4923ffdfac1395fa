/* SPDX-License-Identifier: Apache-2.0
 *
 * See peer_wire.h. Numbers of a hello are compared, never used as lengths; the one length of the header is
 * held against the limit of its reader before anything is kept.
 */
#include "dir/peer_wire.h"

#include "base/text.h"

#include <string.h>

static int header(const void *bytes16, struct yk_frame *ret) {
    struct yk_rd r;
    yk_rd_init(&r, bytes16, YK_FRAME_HDR);
    ret->body_bytes = yk_rd_u32(&r);
    ret->op = yk_rd_u8(&r);
    ret->flags = yk_rd_u8(&r);
    uint16_t reserved = yk_rd_u16(&r);
    ret->id = yk_rd_u64(&r);
    return ret->op != 0 && (ret->flags & ~YK_FRAME_REPLY) == 0 && reserved == 0;
}

int yk_peer_frame_decode(const void *bytes16, uint32_t body_max, struct yk_frame *ret_frame, struct yk_err *err) {
    struct yk_frame f;
    if (!header(bytes16, &f) || (f.op > YK_PEER_OP_MAX && f.op != YK_PEER_PING && f.op != YK_PEER_ERROR))
        return yk_err_set(err, -YK_EPROTO, "not a frame between nodes: op %u, flags %u", f.op, f.flags);
    if (f.body_bytes > body_max)
        return yk_err_set(err, -YK_ETOOBIG, "a frame (op %u) of %u bytes, at most %u are allowed", f.op,
                          f.body_bytes, body_max);
    *ret_frame = f;
    return 0;
}

int yk_peer_first_decode(const void *bytes16, struct yk_frame *ret_frame, struct yk_err *err) {
    struct yk_frame f;
    if (!header(bytes16, &f) || f.op != YK_PEER_HELLO || f.flags != 0 || f.body_bytes > YK_PEER_HELLO_MAX)
        return yk_err_set(err, -YK_EPROTO,
                          "the first frame is not the hello of a Yolk node (op %u, %u bytes): this port is for "
                          "the nodes of a cluster, clients have another",
                          f.op, f.body_bytes);
    *ret_frame = f;
    return 0;
}

int yk_peer_answer_decode(const void *bytes16, struct yk_frame *ret_frame, struct yk_err *err) {
    struct yk_frame f;
    if (!header(bytes16, &f) || (f.op != YK_PEER_HELLO && f.op != YK_PEER_ERROR) || f.flags != YK_FRAME_REPLY ||
        f.body_bytes > YK_PEER_HELLO_MAX)
        return yk_err_set(err, -YK_EPROTO,
                          "a hello was not answered as a Yolk node does (op %u, %u bytes): is this the port for "
                          "nodes?",
                          f.op, f.body_bytes);
    *ret_frame = f;
    return 0;
}

void yk_peer_hello_encode(unsigned char ret_bytes[YK_PEER_HELLO_BYTES], int reply, const struct yk_peer_hello *h) {
    struct yk_frame f = {YK_PEER_HELLO_BYTES - YK_FRAME_HDR, YK_PEER_HELLO, reply ? YK_FRAME_REPLY : 0, 0};
    struct yk_wr w;
    yk_frame_encode(ret_bytes, &f);
    yk_wr_init(&w, ret_bytes + YK_FRAME_HDR, f.body_bytes);
    yk_wr_u32(&w, YK_PEER_MAGIC);
    yk_wr_u32(&w, h->version);
    yk_wr_u32(&w, h->version_min);
    yk_wr_u32(&w, h->who.id);
    yk_wr_u64(&w, h->cluster);
    yk_wr_u64(&w, h->who.incarnation);
    yk_wr_u64(&w, h->clock_ms);
}

int yk_peer_hello_decode(const void *body, uint32_t len, struct yk_peer_hello *ret_hello, struct yk_err *err) {
    struct yk_peer_hello h;
    struct yk_rd r;
    yk_rd_init(&r, body, len);
    uint32_t magic = yk_rd_u32(&r);
    if (!r.bad && magic != YK_PEER_MAGIC)
        return yk_err_set(err, -YK_EPROTO, "a hello with magic %08x, that of Yolk's nodes is %08x", magic,
                          YK_PEER_MAGIC);
    h.version = yk_rd_u32(&r);
    h.version_min = yk_rd_u32(&r);
    h.who.id = yk_rd_u32(&r);
    h.cluster = yk_rd_u64(&r);
    h.who.incarnation = yk_rd_u64(&r);
    h.clock_ms = yk_rd_u64(&r);
    if (r.bad || h.version == 0 || h.version_min > h.version)
        return yk_err_set(err, -YK_EPROTO, "a hello of %u bytes that makes no sense (versions %u to %u)", len,
                          r.bad ? 0 : h.version_min, r.bad ? 0 : h.version);
    *ret_hello = h;
    return 0;
}

int yk_peer_hello_fit(const struct yk_peer_hello *mine, const struct yk_peer_hello *theirs, struct yk_err *err) {
    uint32_t most = mine->version < theirs->version ? mine->version : theirs->version;
    if (most < mine->version_min || most < theirs->version_min)
        return yk_err_set(err, -YK_EVERSION,
                          "member %u speaks versions %u to %u of the nodes' protocol, member %u versions %u to %u",
                          mine->who.id, mine->version_min, mine->version, theirs->who.id, theirs->version_min,
                          theirs->version);
    if (mine->cluster != 0 && theirs->cluster != 0 && mine->cluster != theirs->cluster)
        return yk_err_set(err, -YK_EPERM, "member %u is of cluster %016llx, member %u of cluster %016llx",
                          mine->who.id, (unsigned long long)mine->cluster, theirs->who.id,
                          (unsigned long long)theirs->cluster);
    return (int)(most & 0x7fffffffu);
}

size_t yk_peer_error_encode(unsigned char ret_bytes[YK_PEER_ERROR_BYTES], int status, const char *text) {
    struct yk_wr w;
    yk_wr_init(&w, ret_bytes + YK_FRAME_HDR, YK_PEER_ERROR_BYTES - YK_FRAME_HDR);
    size_t len = strnlen(text, YK_ERR_TEXT_MAX - 1);
    yk_wr_u32(&w, (uint32_t)status);
    yk_wr_u16(&w, (uint16_t)len);
    yk_wr_bytes(&w, text, len);
    struct yk_frame f = {(uint32_t)yk_wr_len(&w), YK_PEER_ERROR, YK_FRAME_REPLY, 0};
    yk_frame_encode(ret_bytes, &f);
    return YK_FRAME_HDR + f.body_bytes;
}

/* A stranger's text goes into logs and onto terminals. */
static void plain(char *text) {
    for (size_t n; *text != 0; text += n) {
        n = yk_utf8_len(text, strlen(text));
        if (n == 0 || (n == 1 && ((unsigned char)*text < 0x20 || *text == 0x7f))) {
            *text = '?';
            n = 1;
        }
    }
}

int yk_peer_error_decode(const void *body, uint32_t len, struct yk_err *ret_err) {
    struct yk_rd r;
    char text[YK_ERR_TEXT_MAX];
    yk_rd_init(&r, body, len);
    int32_t status = (int32_t)yk_rd_u32(&r);
    yk_rd_text(&r, text, sizeof(text));
    plain(text);
    if (!yk_rd_ok(&r) || status >= 0 || status < -YK_STATUS_LAST)
        return yk_err_set(ret_err, -YK_EPROTO, "a refusal that cannot be read (%u bytes)", len);
    return yk_err_set(ret_err, status, "%s", text[0] != 0 ? text : yk_status_text(status));
}
