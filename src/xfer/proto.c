/* SPDX-License-Identifier: Apache-2.0
 *
 * See proto.h. What decodes without an error encodes to the same bytes again: reserved fields must be
 * zero, a field that an op does not use too, so that each can get a meaning later.
 */
#include "xfer/proto.h"

#include "wire/codec.h"

#include <string.h>

static const char *const op_names[YK_PROTO_END] = {
    [0] = "none",
    [YK_PROTO_HELLO] = "hello",
    [YK_PROTO_LOOKUP] = "lookup",
    [YK_PROTO_READ] = "read",
    [YK_PROTO_WRITE] = "write",
    [YK_PROTO_NOTE] = "note",
    [YK_PROTO_FENCE] = "fence",
    [YK_PROTO_PING] = "ping",
    [YK_PROTO_OFFER] = "offer",
    [YK_PROTO_TAKE] = "take",
    [YK_PROTO_LEND] = "lend",
    [YK_PROTO_GIVEBACK] = "giveback",
    [YK_PROTO_PULL] = "pull",
};

const char *yk_proto_op_name(unsigned op) {
    return op < YK_PROTO_END ? op_names[op] : "unknown";
}

/* ---- requests and answers ---------------------------------------------------------------------- */

uint32_t yk_xreq_encode(void *bytes, const struct yk_xreq *req) {
    struct yk_wr w;
    yk_wr_init(&w, bytes, YK_XREQ_BYTES_MAX);
    yk_wr_u16(&w, YK_PROTO_MARK);
    yk_wr_u8(&w, req->op);
    yk_wr_u8(&w, req->flags);
    yk_wr_u32(&w, req->seq);
    yk_wr_u64(&w, req->region);
    yk_wr_u64(&w, req->offset);
    yk_wr_u64(&w, req->len);
    yk_wr_u64(&w, req->remote);
    yk_wr_u64(&w, req->key);
    if (req->flags & YK_XREQ_GUARD) {
        yk_wr_u64(&w, req->descriptor);
        yk_wr_u64(&w, req->generation);
        yk_wr_u64(&w, req->epoch);
        yk_wr_u64(&w, 0);
    }
    return (uint32_t)yk_wr_len(&w);
}

static int not_ours(unsigned mark, unsigned op, unsigned flags, struct yk_err *err) {
    return yk_err_set(err, -YK_EPROTO,
                      "not a message of a transfer engine: mark %#x, op %u, flags %#x", mark, op, flags);
}

int yk_xreq_size(const void *bytes, struct yk_err *err) {
    const unsigned char *p = bytes;
    unsigned mark = p[0] | (unsigned)p[1] << 8, op = p[2], flags = p[3];
    if (mark != YK_PROTO_MARK || op == 0 || op >= YK_PROTO_END ||
        (flags & ~(unsigned)(YK_XREQ_GUARD | YK_XREQ_MORE)) != 0 ||
        ((flags & YK_XREQ_GUARD) && !yk_xreq_is_access((uint8_t)op)) ||
        ((flags & YK_XREQ_MORE) && (op == YK_PROTO_HELLO || op == YK_PROTO_LOOKUP)))
        return not_ours(mark, op, flags, err);
    return flags & YK_XREQ_GUARD ? (int)YK_XREQ_BYTES_MAX : (int)YK_XREQ_BYTES;
}

static const struct {
    uint64_t least, most; /* length */
    int addressed;        /* has region and offset; FENCE and NOTE: offset alone */
    int remote;           /* 1: has `remote`; 2: `key`, too */
} limits[YK_PROTO_END] = {
    [YK_PROTO_HELLO] = {YK_HELLO_BYTES, 1024, 0, 0}, /* newer versions may say more */
    [YK_PROTO_LOOKUP] = {1, YK_XFER_NAME_MAX, 0, 0},
    [YK_PROTO_READ] = {1, YK_PROTO_LEN_MAX, 1, 0},
    [YK_PROTO_WRITE] = {1, YK_PROTO_LEN_MAX, 1, 0},
    [YK_PROTO_NOTE] = {0, YK_XFER_NOTIFY_MAX, 0, 0},
    [YK_PROTO_FENCE] = {0, 0, 0, 0},
    [YK_PROTO_PING] = {0, 0, 0, 0},
    [YK_PROTO_OFFER] = {YK_OFFER_BYTES, YK_OFFER_BYTES, 0, 0},
    [YK_PROTO_TAKE] = {0, 0, 0, 0},
    [YK_PROTO_LEND] = {1, YK_PROTO_LEN_MAX, 1, 1},
    [YK_PROTO_GIVEBACK] = {0, 0, 0, 1},
    [YK_PROTO_PULL] = {1, YK_PROTO_LEN_MAX, 1, 2},
};

int yk_xreq_decode(const void *bytes, uint32_t size, struct yk_xreq *ret_req, struct yk_err *err) {
    struct yk_rd r;
    struct yk_xreq q = {0};
    int rc = size >= YK_XREQ_BYTES ? yk_xreq_size(bytes, err) : -YK_EPROTO;
    if (rc < 0 || (uint32_t)rc != size)
        return rc < 0 ? rc : yk_err_set(err, -YK_EPROTO, "a request's header of %u bytes", size);
    yk_rd_init(&r, bytes, size);
    (void)yk_rd_u16(&r);
    q.op = yk_rd_u8(&r);
    q.flags = yk_rd_u8(&r);
    q.seq = yk_rd_u32(&r);
    q.region = yk_rd_u64(&r);
    q.offset = yk_rd_u64(&r);
    q.len = yk_rd_u64(&r);
    q.remote = yk_rd_u64(&r);
    q.key = yk_rd_u64(&r);
    uint64_t rest = limits[q.op].remote > 1 ? q.key >> 32 : q.key;
    rest |= limits[q.op].remote > 0 ? 0 : q.remote;
    if (q.flags & YK_XREQ_GUARD) {
        q.descriptor = yk_rd_u64(&r);
        q.generation = yk_rd_u64(&r);
        q.epoch = yk_rd_u64(&r);
        rest |= yk_rd_u64(&r);
    }
    if (q.len < limits[q.op].least || q.len > limits[q.op].most)
        return yk_err_set(err, -YK_EPROTO, "a %s of %llu bytes; %llu to %llu are allowed",
                          op_names[q.op], (unsigned long long)q.len,
                          (unsigned long long)limits[q.op].least,
                          (unsigned long long)limits[q.op].most);
    if (!limits[q.op].addressed)
        rest |= q.region | (q.op == YK_PROTO_FENCE || q.op == YK_PROTO_NOTE ? 0 : q.offset);
    if (rest != 0)
        return yk_err_set(err, -YK_EPROTO, "a %s with bits set that mean nothing", op_names[q.op]);
    *ret_req = q;
    return 0;
}

void yk_xans_encode(void *bytes16, const struct yk_xans *ans) {
    struct yk_wr w;
    yk_wr_init(&w, bytes16, YK_XANS_BYTES);
    yk_wr_u16(&w, YK_PROTO_MARK);
    yk_wr_u8(&w, ans->op);
    yk_wr_u8(&w, 0);
    yk_wr_u32(&w, ans->seq);
    yk_wr_u32(&w, (uint32_t)ans->status);
    yk_wr_u32(&w, ans->len);
}

int yk_xans_decode(const void *bytes16, struct yk_xans *ret_ans, struct yk_err *err) {
    struct yk_rd r;
    struct yk_xans a;
    yk_rd_init(&r, bytes16, YK_XANS_BYTES);
    unsigned mark = yk_rd_u16(&r);
    a.op = yk_rd_u8(&r);
    unsigned flags = yk_rd_u8(&r);
    a.seq = yk_rd_u32(&r);
    a.status = (int32_t)yk_rd_u32(&r);
    a.len = yk_rd_u32(&r);
    if (mark != YK_PROTO_MARK || a.op == 0 || a.op >= YK_PROTO_END || flags != 0)
        return not_ours(mark, a.op, flags, err);
    if (a.status > YK_MISS || a.status < -YK_STATUS_LAST)
        return yk_err_set(err, -YK_EPROTO, "a %s was answered by %d, which is no status",
                          op_names[a.op], a.status);
    uint32_t most = a.op == YK_PROTO_READ     ? YK_PROTO_LEN_MAX
                    : a.op == YK_PROTO_TAKE   ? YK_OFFER_BYTES
                    : a.op == YK_PROTO_LEND   ? YK_KEY_BYTES
                    : a.op == YK_PROTO_HELLO  ? YK_WELCOME_MAX
                    : a.op == YK_PROTO_LOOKUP ? YK_FOUND_MAX
                                              : 0;
    if (a.len > most)
        return yk_err_set(err, -YK_EPROTO, "the answer to a %s with %u bytes, at most %u are allowed",
                          op_names[a.op], a.len, most);
    *ret_ans = a;
    return 0;
}

/* ---- texts -------------------------------------------------------------------------------------- */

/* Copies a text of len bytes that has no control characters; what has any is refused. */
static void get_text(struct yk_rd *r, const void *p, uint32_t len, char *buf, size_t cap) {
    buf[0] = 0;
    if (len >= cap)
        r->bad = 1;
    if (p == NULL || r->bad)
        return;
    for (uint32_t i = 0; i < len; i++)
        if (((const unsigned char *)p)[i] < ' ')
            r->bad = 1;
    memcpy(buf, p, len);
    buf[len] = 0;
}

static void get_str8(struct yk_rd *r, char *buf, size_t cap) {
    uint32_t len;
    const void *p = yk_rd_str8(r, &len);
    get_text(r, p, len, buf, cap);
}

static void get_str16(struct yk_rd *r, char *buf, size_t cap) {
    uint32_t len = yk_rd_u16(r);
    get_text(r, yk_rd_bytes(r, len), len, buf, cap);
}

static void put_str16(struct yk_wr *w, const char *text, size_t cap) {
    size_t len = strnlen(text, cap);
    yk_wr_u16(w, (uint16_t)len);
    yk_wr_bytes(w, text, len);
}

/* ---- bodies ------------------------------------------------------------------------------------- */

uint32_t yk_hello_encode(void *bytes, const struct yk_hello *hello) {
    struct yk_wr w;
    yk_wr_init(&w, bytes, YK_HELLO_BYTES);
    yk_wr_u32(&w, YK_PROTO_MAGIC);
    yk_wr_u32(&w, hello->version);
    yk_wr_u64(&w, hello->lane);
    yk_wr_u64(&w, hello->incarnation);
    yk_wr_u64(&w, hello->wanted);
    yk_wr_u32(&w, hello->flags);
    return (uint32_t)yk_wr_len(&w);
}

/* Of another version, only that field is looked at: the target answers which one it speaks. */
int yk_hello_decode(const void *bytes, uint32_t size, struct yk_hello *ret_hello, struct yk_err *err) {
    struct yk_rd r;
    struct yk_hello h;
    yk_rd_init(&r, bytes, size);
    uint32_t magic = yk_rd_u32(&r);
    h.version = yk_rd_u32(&r);
    h.lane = yk_rd_u64(&r);
    h.incarnation = yk_rd_u64(&r);
    h.wanted = yk_rd_u64(&r);
    h.flags = yk_rd_u32(&r);
    if (magic != YK_PROTO_MAGIC || r.bad)
        return yk_err_set(err, -YK_EPROTO, "a hello of %u bytes that is none of a transfer engine",
                          size);
    if (h.version == YK_PROTO_VERSION && (!yk_rd_ok(&r) || (h.flags & ~(uint32_t)YK_XHELLO_URGENT)))
        return yk_err_set(err, -YK_EPROTO, "a hello of %u bytes with flags %#x", size, h.flags);
    *ret_hello = h;
    return 0;
}

uint32_t yk_welcome_encode(void *bytes, const struct yk_welcome *welcome) {
    struct yk_wr w;
    const struct yk_peer_info *p = &welcome->peer;
    uint32_t n = p->addr_count < YK_PEER_ADDRS ? p->addr_count : YK_PEER_ADDRS;
    yk_wr_init(&w, bytes, YK_WELCOME_MAX);
    yk_wr_u32(&w, welcome->version);
    put_str16(&w, welcome->text, sizeof(welcome->text) - 1);
    yk_wr_u64(&w, p->incarnation);
    yk_wr_str8(&w, p->boot_id, strnlen(p->boot_id, sizeof(p->boot_id) - 1));
    yk_wr_u32(&w, p->pid);
    yk_wr_u64(&w, p->memory_token);
    yk_wr_u32(&w, p->share);
    yk_wr_str8(&w, p->unix_path, strnlen(p->unix_path, sizeof(p->unix_path) - 1));
    yk_wr_u32(&w, welcome->credit_requests);
    yk_wr_u64(&w, welcome->credit_bytes);
    yk_wr_u8(&w, (uint8_t)n);
    for (uint32_t i = 0; i < n; i++) {
        yk_wr_str8(&w, p->addrs[i].host, strnlen(p->addrs[i].host, YK_PEER_HOST - 1));
        yk_wr_u16(&w, p->addrs[i].port);
        yk_wr_u32(&w, p->addrs[i].mbit);
        yk_wr_u8(&w, p->addrs[i].rdma);
    }
    return (uint32_t)yk_wr_len(&w);
}

int yk_welcome_decode(const void *bytes, uint32_t size, struct yk_welcome *ret_welcome,
                      struct yk_err *err) {
    struct yk_rd r;
    struct yk_welcome *w = ret_welcome;
    struct yk_peer_info *p = &w->peer;
    memset(w, 0, sizeof(*w));
    yk_rd_init(&r, bytes, size);
    w->version = yk_rd_u32(&r);
    get_str16(&r, w->text, sizeof(w->text));
    if (w->version != YK_PROTO_VERSION && !r.bad)
        return 0; /* what follows is laid out as that version has it */
    p->incarnation = yk_rd_u64(&r);
    get_str8(&r, p->boot_id, sizeof(p->boot_id));
    p->pid = yk_rd_u32(&r);
    p->memory_token = yk_rd_u64(&r);
    p->share = yk_rd_u32(&r);
    get_str8(&r, p->unix_path, sizeof(p->unix_path));
    w->credit_requests = yk_rd_u32(&r);
    w->credit_bytes = yk_rd_u64(&r);
    p->addr_count = yk_rd_u8(&r);
    if (p->addr_count > YK_PEER_ADDRS)
        r.bad = 1;
    for (uint32_t i = 0; i < p->addr_count && !r.bad; i++) {
        get_str8(&r, p->addrs[i].host, sizeof(p->addrs[i].host));
        p->addrs[i].port = yk_rd_u16(&r);
        p->addrs[i].mbit = yk_rd_u32(&r);
        p->addrs[i].rdma = yk_rd_u8(&r);
    }
    if (!yk_rd_ok(&r)) {
        memset(w, 0, sizeof(*w));
        return yk_err_set(err, -YK_EPROTO, "a welcome of %u bytes that does not decode", size);
    }
    return 0;
}

uint32_t yk_found_encode(void *bytes, int status, const struct yk_found *found) {
    struct yk_wr w;
    yk_wr_init(&w, bytes, YK_FOUND_MAX);
    if (status != 0) {
        put_str16(&w, found->text, sizeof(found->text) - 1);
        return (uint32_t)yk_wr_len(&w);
    }
    yk_wr_u64(&w, found->region);
    yk_wr_u64(&w, found->offset);
    yk_wr_u64(&w, found->len);
    yk_wr_u32(&w, found->access);
    yk_wr_u32(&w, found->guarded);
    return (uint32_t)yk_wr_len(&w);
}

int yk_found_decode(const void *bytes, uint32_t size, int status, struct yk_found *ret_found,
                    struct yk_err *err) {
    struct yk_rd r;
    struct yk_found f = {0};
    yk_rd_init(&r, bytes, size);
    if (status != 0) {
        get_str16(&r, f.text, sizeof(f.text));
    } else {
        f.region = yk_rd_u64(&r);
        f.offset = yk_rd_u64(&r);
        f.len = yk_rd_u64(&r);
        f.access = yk_rd_u32(&r);
        f.guarded = yk_rd_u32(&r);
        if (f.len == 0 || f.offset + f.len < f.offset || f.guarded > 1)
            r.bad = 1;
    }
    if (!yk_rd_ok(&r))
        return yk_err_set(err, -YK_EPROTO, "the answer to a lookup, %u bytes, does not decode", size);
    *ret_found = f;
    return 0;
}
