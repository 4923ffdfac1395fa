/* SPDX-License-Identifier: Apache-2.0
 *
 * Keys from arguments and files, and as text (keys.h).
 */
#include "keys.h"

#include "base/text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAX ((size_t)YOLK_KEYS_MAX * (2 * YK_KEY_MAX + 1))

static int hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Into out, which may be in. Bytes, or -1. */
static int hex_decode(const char *in, size_t len, unsigned char *out) {
    if (len % 2 != 0)
        return -1;
    for (size_t i = 0; i < len; i += 2) {
        int high = hex_digit(in[i]), low = hex_digit(in[i + 1]);
        if (high < 0 || low < 0)
            return -1;
        out[i / 2] = (unsigned char)(high << 4 | low);
    }
    return (int)(len / 2);
}

/* place: "" or "keys.txt:3: ". text need not be terminated. */
static int key_from_text(const char *place, const char *text, size_t len, bool hex,
                         unsigned char *storage, yk_key *ret_key) {
    char quoted[YK_QUOTE_MAX], shown[YK_QUOTE_MAX];
    snprintf(shown, sizeof(shown), "%.*s", (int)(len < sizeof(shown) ? len : sizeof(shown) - 1),
             text);
    yk_quote(shown, quoted);
    size_t bytes = len;
    if (hex) {
        int n = len <= 2 * YK_KEY_MAX ? hex_decode(text, len, storage) : (int)(len / 2);
        if (n < 0)
            return yolk_fail(YOLK_USAGE, "%sfound %s, expected a key as pairs of hex digits", place,
                             quoted);
        bytes = (size_t)n;
    }
    if (bytes == 0 || bytes > YK_KEY_MAX)
        return yolk_fail(YOLK_USAGE, "%sfound %s of %zu bytes, expected a key of 1 to %u bytes",
                         place, quoted, bytes, YK_KEY_MAX);
    *ret_key = (yk_key){hex ? (const void *)storage : (const void *)text, bytes};
    return 0;
}

int yolk_key_from_arg(const char *arg, bool hex, unsigned char storage[YK_KEY_MAX],
                      yk_key *ret_key) {
    return key_from_text("", arg, strlen(arg), hex, storage, ret_key);
}

int yolk_keys_from_args(const char *const *args, size_t n_args, bool hex, struct yolk_keys *ret) {
    *ret = (struct yolk_keys){.n = 0};
    ret->keys = calloc(n_args + 1, sizeof(*ret->keys));
    ret->bytes = hex ? calloc(n_args + 1, YK_KEY_MAX) : NULL;
    if (ret->keys == NULL || (hex && ret->bytes == NULL))
        return yolk_fail(YOLK_FAIL, "no memory for %zu keys", n_args);
    for (size_t i = 0; i < n_args; i++) {
        unsigned char *storage = hex ? ret->bytes + i * YK_KEY_MAX : NULL;
        int rc = key_from_text("", args[i], strlen(args[i]), hex, storage, &ret->keys[i]);
        if (rc != 0)
            return rc;
        ret->n++;
    }
    return 0;
}

/* The whole of a file, of at most FILE_MAX bytes. */
static int read_all(const char *path, unsigned char **ret_data, size_t *ret_len) {
    bool is_stdin = strcmp(path, "-") == 0;
    FILE *f = is_stdin ? stdin : fopen(path, "re");
    size_t cap = 0, len = 0;
    unsigned char *data = NULL;
    int rc = 0;
    if (f == NULL)
        return yolk_fail(YOLK_USAGE, "cannot open '%s': %s", path, strerror(errno));
    while (rc == 0 && !feof(f)) {
        if (len == cap) {
            cap = cap != 0 ? cap * 2 : 65536;
            unsigned char *more = cap <= FILE_MAX ? realloc(data, cap) : NULL;
            if (more == NULL) {
                rc = yolk_fail(YOLK_FAIL,
                               "'%s' is longer than %zu bytes, or there is no memory for it", path,
                               len);
                break;
            }
            data = more;
        }
        len += fread(data + len, 1, cap - len, f);
        if (ferror(f))
            rc = yolk_fail(YOLK_USAGE, "cannot read '%s': %s", path, strerror(errno));
    }
    if (!is_stdin)
        fclose(f);
    *ret_data = data;
    *ret_len = len;
    return rc;
}

static int split_lines(const char *path, bool hex, size_t len, struct yolk_keys *keys) {
    char place[128];
    size_t at = 0, cap = 0;
    while (at < len) {
        const char *line = (const char *)keys->bytes + at;
        const char *end = memchr(line, '\n', len - at);
        size_t n = end != NULL ? (size_t)(end - line) : len - at;
        if (keys->n == cap) {
            cap = cap != 0 ? cap * 2 : 256;
            yk_key *more = cap <= YOLK_KEYS_MAX ? realloc(keys->keys, cap * sizeof(*more)) : NULL;
            if (more == NULL)
                return yolk_fail(YOLK_FAIL,
                                 "'%s' has more than %zu keys, or there is no memory for "
                                 "them",
                                 path, keys->n);
            keys->keys = more;
        }
        snprintf(place, sizeof(place), "%.100s:%zu: ", path, keys->n + 1);
        int rc = key_from_text(place, line, n, hex, keys->bytes + at, &keys->keys[keys->n]);
        if (rc != 0)
            return rc;
        keys->n++;
        at += n + 1;
    }
    return 0;
}

int yolk_keys_from_file(const char *path, bool hex, struct yolk_keys *ret) {
    size_t len = 0;
    *ret = (struct yolk_keys){.n = 0};
    int rc = read_all(path, &ret->bytes, &len);
    return rc != 0 ? rc : split_lines(path, hex, len, ret);
}

void yolk_keys_free(struct yolk_keys *keys) {
    free(keys->keys);
    free(keys->bytes);
    *keys = (struct yolk_keys){.n = 0};
}

static bool is_plain(const char *p, size_t n) {
    return n > 1 || (p[0] >= ' ' && p[0] != 0x7f);
}

char *yolk_key_text(yk_key key, bool hex, char buf[YOLK_KEY_TEXT_MAX]) {
    static const char digits[] = "0123456789abcdef";
    const char *data = key.data;
    size_t at = 0;
    for (size_t i = 0; i < key.len && i < YK_KEY_MAX;) {
        unsigned char c = (unsigned char)data[i];
        size_t n = hex ? 0 : yk_utf8_len(data + i, key.len - i);
        /* C1 controls (U+0080 to U+009F) move the cursor of some terminals. */
        bool control = n == 2 && c == 0xc2 && (unsigned char)data[i + 1] < 0xa0;
        if (n > 0 && is_plain(data + i, n) && !control && c != '\\') {
            memcpy(buf + at, data + i, n);
            at += n;
            i += n;
            continue;
        }
        i++;
        if (!hex && c == '\\') {
            buf[at++] = '\\';
            buf[at++] = '\\';
            continue;
        }
        if (!hex) {
            buf[at++] = '\\';
            buf[at++] = 'x';
        }
        buf[at++] = digits[c >> 4];
        buf[at++] = digits[c & 15];
    }
    buf[at] = '\0';
    return buf;
}

char *yolk_safe_text(const char *text, char buf[YOLK_KEY_TEXT_MAX]) {
    return yolk_key_text(yk_key_str(text), false, buf);
}

void yolk_json_key(struct yk_json *json, yk_key key, bool hex) {
    char text[YOLK_KEY_TEXT_MAX];
    yk_json_key(json, "key");
    yk_json_strn(json, key.data, key.len);
    if (hex || !yk_utf8_valid(key.data, key.len))
        yk_json_put_str(json, "key_hex", yolk_key_text(key, true, text));
}
