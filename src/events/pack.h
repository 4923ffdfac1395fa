/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading msgpack, as published: a cursor over bytes that returns one item's head at a time and can pass over whole
 * items. An error sticks, so that callers look once.
 *
 * Our own, 120 lines, and not msgpack-c: that makes a tree of what it reads, on the heap, of any depth and size that
 * a sender likes. Thread: one at a time.
 */
#ifndef YK_EVENTS_PACK_H
#define YK_EVENTS_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum yk_pack_kind {
    YK_PACK_BAD, /* malformed, cut short, or there was an error before */
    YK_PACK_NIL,
    YK_PACK_BOOL,
    YK_PACK_UINT,
    YK_PACK_INT,   /* below 0 */
    YK_PACK_FLOAT,
    YK_PACK_STR,
    YK_PACK_BIN,
    YK_PACK_ARRAY, /* n items follow */
    YK_PACK_MAP,   /* n pairs of items follow */
    YK_PACK_EXT
};

struct yk_pack {
    const unsigned char *at, *end;
    bool bad;
};

struct yk_pack_item {
    enum yk_pack_kind kind;
    uint64_t number;           /* of UINT, BOOL; of INT as two's complement */
    uint32_t n;                /* bytes of STR, BIN, EXT; items of ARRAY; pairs of MAP */
    const unsigned char *data; /* of STR, BIN, EXT, inside of what is read */
};

void yk_pack_init(struct yk_pack *pack, const void *data, size_t len);

/* The next item; what an array or map holds comes next. */
struct yk_pack_item yk_pack_next(struct yk_pack *pack);

/* Passes over the next n items with all that they hold. No recursion: time and memory are bounded by the bytes. */
void yk_pack_skip(struct yk_pack *pack, uint64_t n);

#ifdef __cplusplus
}
#endif

#endif
