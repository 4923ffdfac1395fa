/* SPDX-License-Identifier: Apache-2.0
 *
 * A writer of msgpack for tests, and of events as an engine writes them.
 */
#ifndef YK_TEST_EVENTS_PACKING_H
#define YK_TEST_EVENTS_PACKING_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct packing {
    unsigned char data[65536];
    size_t len;
};

static inline void pack_byte(struct packing *p, unsigned byte) {
    p->data[p->len++] = (unsigned char)byte;
}

static inline void pack_number(struct packing *p, unsigned head, uint64_t value, int bytes) {
    pack_byte(p, head);
    while (bytes-- > 0)
        pack_byte(p, (unsigned)(value >> (8 * bytes)) & 0xff);
}

static inline void pack_nil(struct packing *p) {
    pack_byte(p, 0xc0);
}

static inline void pack_uint(struct packing *p, uint64_t value) {
    if (value < 128)
        pack_byte(p, (unsigned)value);
    else if (value <= 0xff)
        pack_number(p, 0xcc, value, 1);
    else if (value <= 0xffff)
        pack_number(p, 0xcd, value, 2);
    else
        pack_number(p, value <= 0xffffffff ? 0xce : 0xcf, value, value <= 0xffffffff ? 4 : 8);
}

static inline void pack_float(struct packing *p, double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof(bits));
    pack_number(p, 0xcb, bits, 8);
}

static inline void pack_list(struct packing *p, unsigned n) {
    if (n < 16)
        pack_byte(p, 0x90 + n);
    else
        pack_number(p, 0xdc, n, 2);
}

static inline void pack_map(struct packing *p, unsigned n) {
    pack_byte(p, 0x80 + n);
}

static inline void pack_str(struct packing *p, const char *text) {
    size_t n = strlen(text);
    if (n < 32)
        pack_byte(p, 0xa0 + (unsigned)n);
    else
        pack_number(p, 0xd9, n, 1);
    memcpy(p->data + p->len, text, n);
    p->len += n;
}

static inline void pack_bin(struct packing *p, const void *data, size_t n) {
    pack_number(p, 0xc4, n, 1);
    memcpy(p->data + p->len, data, n);
    p->len += n;
}

/* The head of a batch of n events, in the form of lists. */
static inline void pack_batch(struct packing *p, unsigned events) {
    p->len = 0;
    pack_list(p, 3);
    pack_float(p, 1764300000.25);
    pack_list(p, events);
}

static inline void pack_batch_end(struct packing *p, unsigned rank) {
    pack_uint(p, rank);
}

/* Blocks of 16 tokens. medium NULL: nil. */
static inline void pack_stored(struct packing *p, const uint64_t *blocks, unsigned n, const char *medium) {
    pack_list(p, 7);
    pack_str(p, "BlockStored");
    pack_list(p, n);
    for (unsigned i = 0; i < n; i++)
        pack_uint(p, blocks[i]);
    pack_nil(p);
    pack_list(p, 16 * n);
    for (unsigned i = 0; i < 16 * n; i++)
        pack_uint(p, 1000 + i);
    pack_uint(p, 16);
    pack_nil(p);
    medium != NULL ? pack_str(p, medium) : pack_nil(p);
}

static inline void pack_removed(struct packing *p, const uint64_t *blocks, unsigned n, const char *medium) {
    pack_list(p, 3);
    pack_str(p, "BlockRemoved");
    pack_list(p, n);
    for (unsigned i = 0; i < n; i++)
        pack_uint(p, blocks[i]);
    medium != NULL ? pack_str(p, medium) : pack_nil(p);
}

static inline void pack_cleared(struct packing *p) {
    pack_list(p, 1);
    pack_str(p, "AllBlocksCleared");
}

#endif
