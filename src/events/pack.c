/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading msgpack (pack.h): a table of the formats of one byte each, and their lengths.
 */
#include "events/pack.h"

#include <string.h>

void yk_pack_init(struct yk_pack *pack, const void *data, size_t len) {
    const unsigned char *at = data;
    *pack = (struct yk_pack){.at = at, .end = len > 0 ? at + len : at};
}

static struct yk_pack_item fail(struct yk_pack *pack) {
    pack->bad = true;
    return (struct yk_pack_item){.kind = YK_PACK_BAD};
}

static size_t left(const struct yk_pack *pack) {
    return pack->bad ? 0 : (size_t)(pack->end - pack->at);
}

/* A big-endian number of 1, 2, 4 or 8 bytes. */
static uint64_t number(struct yk_pack *pack, uint32_t bytes) {
    uint64_t value = 0;
    if (left(pack) < bytes) {
        pack->bad = true;
        return 0;
    }
    for (uint32_t i = 0; i < bytes; i++)
        value = value << 8 | *pack->at++;
    return value;
}

static struct yk_pack_item bytes_of(struct yk_pack *pack, enum yk_pack_kind kind, uint64_t n) {
    struct yk_pack_item item = {.kind = kind, .n = (uint32_t)n, .data = pack->at};
    if (pack->bad || left(pack) < n)
        return fail(pack);
    if (n > 0)
        pack->at += n;
    return item;
}

static struct yk_pack_item signed_of(struct yk_pack *pack, uint32_t bytes) {
    uint64_t value = number(pack, bytes);
    uint64_t sign = UINT64_C(1) << (8 * bytes - 1);
    if (value & sign)
        return (struct yk_pack_item){.kind = YK_PACK_INT, .number = (value ^ sign) - sign};
    return (struct yk_pack_item){.kind = YK_PACK_UINT, .number = value};
}

/* An array or map: each of its items takes a byte at least, so a count beyond what is left is a lie. */
static struct yk_pack_item counted(struct yk_pack *pack, enum yk_pack_kind kind, uint64_t n) {
    if (pack->bad || left(pack) < (kind == YK_PACK_MAP ? 2 * n : n))
        return fail(pack);
    return (struct yk_pack_item){.kind = kind, .n = (uint32_t)n};
}

/* 0xc0 to 0xdf. */
static struct yk_pack_item long_form(struct yk_pack *pack, unsigned char head) {
    switch (head) {
    case 0xc0:
        return (struct yk_pack_item){.kind = YK_PACK_NIL};
    case 0xc2:
    case 0xc3:
        return (struct yk_pack_item){.kind = YK_PACK_BOOL, .number = head & 1u};
    case 0xc4:
    case 0xc5:
    case 0xc6:
        return bytes_of(pack, YK_PACK_BIN, number(pack, 1u << (head - 0xc4)));
    case 0xc7:
    case 0xc8:
    case 0xc9:
        return bytes_of(pack, YK_PACK_EXT, number(pack, 1u << (head - 0xc7)) + 1);
    case 0xca:
    case 0xcb:
        number(pack, head == 0xca ? 4 : 8);
        return (struct yk_pack_item){.kind = YK_PACK_FLOAT};
    case 0xcc:
    case 0xcd:
    case 0xce:
    case 0xcf:
        return (struct yk_pack_item){.kind = YK_PACK_UINT, .number = number(pack, 1u << (head - 0xcc))};
    case 0xd0:
    case 0xd1:
    case 0xd2:
    case 0xd3:
        return signed_of(pack, 1u << (head - 0xd0));
    case 0xd4:
    case 0xd5:
    case 0xd6:
    case 0xd7:
    case 0xd8:
        return bytes_of(pack, YK_PACK_EXT, (1u << (head - 0xd4)) + 1);
    case 0xd9:
    case 0xda:
    case 0xdb:
        return bytes_of(pack, YK_PACK_STR, number(pack, 1u << (head - 0xd9)));
    case 0xdc:
    case 0xdd:
        return counted(pack, YK_PACK_ARRAY, number(pack, head == 0xdc ? 2 : 4));
    case 0xde:
    case 0xdf:
        return counted(pack, YK_PACK_MAP, number(pack, head == 0xde ? 2 : 4));
    default:
        return fail(pack); /* 0xc1 is never used */
    }
}

struct yk_pack_item yk_pack_next(struct yk_pack *pack) {
    if (left(pack) == 0)
        return fail(pack);
    unsigned char head = *pack->at++;
    struct yk_pack_item item = {.kind = YK_PACK_UINT, .number = head};
    if (head >= 0xe0)
        item = (struct yk_pack_item){.kind = YK_PACK_INT, .number = (uint64_t)(int64_t)(signed char)head};
    else if (head >= 0xc0)
        item = long_form(pack, head);
    else if (head >= 0xa0)
        item = bytes_of(pack, YK_PACK_STR, head & 0x1fu);
    else if (head >= 0x90)
        item = counted(pack, YK_PACK_ARRAY, head & 0x0fu);
    else if (head >= 0x80)
        item = counted(pack, YK_PACK_MAP, head & 0x0fu);
    return pack->bad ? fail(pack) : item;
}

void yk_pack_skip(struct yk_pack *pack, uint64_t n) {
    for (; n > 0 && !pack->bad; n--) {
        struct yk_pack_item item = yk_pack_next(pack);
        if (item.kind == YK_PACK_ARRAY)
            n += item.n;
        else if (item.kind == YK_PACK_MAP)
            n += 2ull * item.n;
    }
}
