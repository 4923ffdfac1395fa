/* SPDX-License-Identifier: Apache-2.0
 *
 * UTF-8 checking, quoting and "did you mean" (text.h).
 */
#include "base/text.h"

#include <stdint.h>
#include <string.h>

static bool is_tail(unsigned char c) {
    return (c & 0xc0) == 0x80;
}

/* Three bytes and up: the second byte's range depends on the first, which is what rules out
 * overlong forms (e0, f0), surrogates (ed) and values above U+10FFFF (f4). */
static bool second_byte_ok(unsigned char first, unsigned char second) {
    switch (first) {
    case 0xe0:
        return second >= 0xa0;
    case 0xed:
        return second <= 0x9f;
    case 0xf0:
        return second >= 0x90;
    case 0xf4:
        return second <= 0x8f;
    default:
        return true;
    }
}

size_t yk_utf8_len(const char *p, size_t n) {
    const unsigned char *u = (const unsigned char *)p;
    size_t len;
    if (u[0] < 0x80)
        return 1;
    if (u[0] < 0xc2 || u[0] > 0xf4) /* a tail byte, an overlong form, or beyond the code space */
        return 0;
    len = (u[0] < 0xe0) ? 2 : (u[0] < 0xf0) ? 3 : 4;
    if (n < len || !is_tail(u[1]) || !second_byte_ok(u[0], u[1]))
        return 0;
    for (size_t i = 2; i < len; i++)
        if (!is_tail(u[i]))
            return 0;
    return len;
}

bool yk_utf8_valid(const char *p, size_t n) {
    for (size_t at = 0; at < n;) {
        size_t len = yk_utf8_len(p + at, n - at);
        if (len == 0)
            return false;
        at += len;
    }
    return true;
}

char *yk_quote(const char *text, char buf[YK_QUOTE_MAX]) {
    const size_t end = YK_QUOTE_MAX - 5; /* room for ...' and the NUL */
    size_t n = (text != NULL) ? strnlen(text, YK_QUOTE_MAX) : 0;
    size_t at = 0, out = 0;
    buf[out++] = '\'';
    while (at < n) {
        size_t len = yk_utf8_len(text + at, n - at);
        bool shown = len > 1 || (len == 1 && (unsigned char)text[at] >= 0x20 && text[at] != 0x7f);
        size_t add = shown ? len : 1;
        if (out + add > end)
            break;
        if (shown)
            memcpy(buf + out, text + at, add);
        else
            buf[out] = '?';
        out += add;
        at += (len > 0) ? len : 1;
    }
    if (at < n) {
        memcpy(buf + out, "...", 3);
        out += 3;
    }
    buf[out++] = '\'';
    buf[out] = '\0';
    return buf;
}

static unsigned min2(unsigned a, unsigned b) {
    return (a < b) ? a : b;
}

/* Optimal string alignment: three rows of the usual table, the third for swaps. */
unsigned yk_edit_distance(const char *a, const char *b) {
    unsigned rows[3][YK_EDIT_MAX + 1];
    size_t na = strnlen(a, YK_EDIT_MAX), nb = strnlen(b, YK_EDIT_MAX);
    for (size_t j = 0; j <= nb; j++)
        rows[0][j] = (unsigned)j;
    for (size_t i = 1; i <= na; i++) {
        unsigned *row = rows[i % 3], *above = rows[(i + 2) % 3], *above2 = rows[(i + 1) % 3];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= nb; j++) {
            unsigned best = above[j - 1] + ((a[i - 1] == b[j - 1]) ? 0u : 1u);
            best = min2(best, min2(above[j], row[j - 1]) + 1u);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                best = min2(best, above2[j - 2] + 1u);
            row[j] = best;
        }
    }
    return rows[na % 3][nb];
}

unsigned yk_edit_tolerance(const char *text) {
    unsigned third = (unsigned)(strnlen(text, YK_EDIT_MAX) / 3);
    return (third < 1) ? 1 : min2(third, 3);
}

const char *yk_did_you_mean(const char *text, const char *const *names, size_t n) {
    unsigned best = yk_edit_tolerance(text) + 1;
    const char *name = NULL;
    for (size_t i = 0; i < n; i++) {
        unsigned distance = yk_edit_distance(text, names[i]);
        if (distance < best) {
            best = distance;
            name = names[i];
        }
    }
    return name;
}
