/* SPDX-License-Identifier: Apache-2.0
 *
 * Payloads that can be checked (src/replay/payload.h).
 *
 * Checking goes by chunks: the vector loop only says whether all of a chunk is right, and what is
 * wrong in one that is not is counted byte by byte.
 */
#include "replay/payload.h"

#include <string.h>

#define STEP       UINT64_C(0x9e3779b97f4a7c15)
#define LANE       sizeof(uint64_t)
#define CHUNK      4096u /* bytes; a multiple of a cache line */
#define CACHE_LINE 64u

/* The finaliser of SplitMix64: a bijection, so no two ids share a seed. */
uint64_t yk_payload_seed(uint64_t id) {
    uint64_t z = id + STEP;
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* Two lanes in a register of any 64-bit machine; a line of four, so that additions need not wait
 * for each other. (Wider vector types make gcc spill where the machine has none so wide.) */
typedef uint64_t pair_t __attribute__((vector_size(16)));

struct line {
    pair_t pair[4];
};

_Static_assert(sizeof(struct line) == CACHE_LINE, "a line of lanes is a cache line");

#define LINE_STEP (CACHE_LINE / LANE * STEP)

static inline void line_at(struct line *line, uint64_t first) {
    for (unsigned i = 0; i < 4; i++)
        line->pair[i] = (pair_t){first + 2 * i * STEP, first + (2 * i + 1) * STEP};
}

static inline void line_next(struct line *line) {
    for (unsigned i = 0; i < 4; i++)
        line->pair[i] += LINE_STEP;
}

void yk_payload_fill(void *buf, size_t len, uint64_t seed) {
    unsigned char *p = buf;
    struct line line;
    size_t at = 0;
    line_at(&line, seed);
    for (; at + CACHE_LINE <= len; at += CACHE_LINE) {
        memcpy(p + at, &line, CACHE_LINE);
        line_next(&line);
    }
    memcpy(p + at, &line, len - at);
}

/* 0 if all of so many cache lines are right. */
static uint64_t lines_differ(const unsigned char *p, size_t lines, uint64_t first) {
    struct line line, have;
    pair_t differ[4] = {{0}};
    line_at(&line, first);
    for (size_t n = 0; n < lines; n++) {
        memcpy(&have, p + n * CACHE_LINE, CACHE_LINE);
        for (unsigned i = 0; i < 4; i++)
            differ[i] |= have.pair[i] ^ line.pair[i];
        line_next(&line);
    }
    pair_t any = differ[0] | differ[1] | differ[2] | differ[3];
    return any[0] | any[1];
}

static size_t wrong_bytes(const unsigned char *p, size_t at, size_t len, uint64_t seed,
                          size_t *first) {
    size_t wrong = 0;
    for (size_t i = at; i < at + len; i++) {
        uint64_t v = seed + i / LANE * STEP;
        unsigned char expected;
        memcpy(&expected, (const unsigned char *)&v + i % LANE, 1);
        if (p[i] == expected)
            continue;
        if (wrong++ == 0 && i < *first)
            *first = i;
    }
    return wrong;
}

/* Bytes [at, at + len); at is a multiple of a lane. */
static size_t check_part(const unsigned char *p, size_t at, size_t len, uint64_t seed,
                         size_t *first) {
    if (len % CACHE_LINE == 0 &&
        lines_differ(p + at, len / CACHE_LINE, seed + at / LANE * STEP) == 0)
        return 0;
    return wrong_bytes(p, at, len, seed, first);
}

size_t yk_payload_check(const void *buf, size_t len, uint64_t seed, size_t *ret_first) {
    return yk_payload_check_sample(buf, len, seed, 1, ret_first);
}

size_t yk_payload_check_sample(const void *buf, size_t len, uint64_t seed, size_t stride,
                               size_t *ret_first) {
    size_t part = stride > 1 ? CACHE_LINE : CHUNK;
    size_t wrong = 0, first = SIZE_MAX, at = 0;
    for (; at + part <= len; at += part * stride)
        wrong += check_part(buf, at, part, seed, &first);
    size_t tail = len - len % part; /* what no whole part covers */
    if (tail < len)
        wrong += check_part(buf, tail, len - tail, seed, &first);
    if (wrong > 0)
        *ret_first = first;
    return wrong;
}
