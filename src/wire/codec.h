/* SPDX-License-Identifier: Apache-2.0
 *
 * Bounded little-endian reading and writing of message bodies.
 *
 * A reader or writer that ran over its end goes bad and stays bad: that get and every later one
 * returns zeros, that put and every later one writes nothing, and the one check at the end (yk_rd_ok,
 * yk_wr_ok) decides. So decoders need no check a field, and none can be forgotten.
 *
 * Threads: the caller's.
 */
#ifndef YK_WIRE_CODEC_H
#define YK_WIRE_CODEC_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

struct yk_rd {
    const unsigned char *at, *end;
    int bad;
};

struct yk_wr {
    unsigned char *base, *at, *end;
    int bad;
};

/* data NULL: nothing to read. */
static inline void yk_rd_init(struct yk_rd *r, const void *data, size_t len) {
    if (data == NULL) {
        data = "";
        len = 0;
    }
    r->at = (const unsigned char *)data;
    r->end = r->at + len;
    r->bad = 0;
}

/* len bytes in place, or NULL when fewer are left. */
static inline const void *yk_rd_bytes(struct yk_rd *r, size_t len) {
    if (r->bad || (size_t)(r->end - r->at) < len) {
        r->bad = 1;
        return NULL;
    }
    const void *p = r->at;
    r->at += len;
    return p;
}

static inline uint8_t yk_rd_u8(struct yk_rd *r) {
    const unsigned char *p = (const unsigned char *)yk_rd_bytes(r, 1);
    return p != NULL ? *p : 0;
}

static inline uint16_t yk_rd_u16(struct yk_rd *r) {
    const unsigned char *p = (const unsigned char *)yk_rd_bytes(r, 2);
    return p != NULL ? (uint16_t)(p[0] | p[1] << 8) : 0;
}

/* Written so that compilers make one load of it where the machine is little-endian. */
static inline uint32_t yk_le32(const unsigned char *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint32_t yk_rd_u32(struct yk_rd *r) {
    const unsigned char *p = (const unsigned char *)yk_rd_bytes(r, 4);
    return p != NULL ? yk_le32(p) : 0;
}

static inline uint64_t yk_rd_u64(struct yk_rd *r) {
    const unsigned char *p = (const unsigned char *)yk_rd_bytes(r, 8);
    return p != NULL ? yk_le32(p) | (uint64_t)yk_le32(p + 4) << 32 : 0;
}

/* A key or a name: length byte, bytes. *ret_len 0 when absent. */
static inline const void *yk_rd_str8(struct yk_rd *r, uint32_t *ret_len) {
    *ret_len = yk_rd_u8(r);
    const void *p = yk_rd_bytes(r, *ret_len);
    if (p == NULL)
        *ret_len = 0;
    return p;
}

static inline int yk_rd_ok(const struct yk_rd *r) {
    return !r->bad && r->at == r->end;
}

static inline size_t yk_rd_left(const struct yk_rd *r) {
    return r->bad ? 0 : (size_t)(r->end - r->at);
}

/* buf NULL: no space. */
static inline void yk_wr_init(struct yk_wr *w, void *buf, size_t cap) {
    static unsigned char none;
    if (buf == NULL) {
        buf = &none;
        cap = 0;
    }
    w->base = w->at = (unsigned char *)buf;
    w->end = w->base + cap;
    w->bad = 0;
}

static inline void *yk_wr_space(struct yk_wr *w, size_t len) {
    if (w->bad || (size_t)(w->end - w->at) < len) {
        w->bad = 1;
        return NULL;
    }
    void *p = w->at;
    w->at += len;
    return p;
}

static inline void yk_wr_bytes(struct yk_wr *w, const void *data, size_t len) {
    void *p = yk_wr_space(w, len);
    if (p != NULL && len > 0)
        memcpy(p, data, len);
}

static inline void yk_wr_u8(struct yk_wr *w, uint8_t v) {
    yk_wr_bytes(w, &v, 1);
}

static inline void yk_wr_u16(struct yk_wr *w, uint16_t v) {
    unsigned char b[2] = {(unsigned char)v, (unsigned char)(v >> 8)};
    yk_wr_bytes(w, b, 2);
}

static inline void yk_wr_u32(struct yk_wr *w, uint32_t v) {
    unsigned char b[4] = {(unsigned char)v, (unsigned char)(v >> 8), (unsigned char)(v >> 16),
                          (unsigned char)(v >> 24)};
    yk_wr_bytes(w, b, 4);
}

static inline void yk_wr_u64(struct yk_wr *w, uint64_t v) {
    unsigned char b[8] = {(unsigned char)v,         (unsigned char)(v >> 8),
                          (unsigned char)(v >> 16), (unsigned char)(v >> 24),
                          (unsigned char)(v >> 32), (unsigned char)(v >> 40),
                          (unsigned char)(v >> 48), (unsigned char)(v >> 56)};
    yk_wr_bytes(w, b, 8);
}

static inline void yk_wr_str8(struct yk_wr *w, const void *data, size_t len) {
    if (len > 255)
        w->bad = 1;
    unsigned char *p = (unsigned char *)yk_wr_space(w, len + 1);
    if (p == NULL)
        return;
    p[0] = (unsigned char)len;
    if (len > 0)
        memcpy(p + 1, data, len);
}

static inline size_t yk_wr_len(const struct yk_wr *w) {
    return (size_t)(w->at - w->base);
}

static inline int yk_wr_ok(const struct yk_wr *w) {
    return !w->bad;
}

#ifdef __cplusplus
}
#endif

#endif
