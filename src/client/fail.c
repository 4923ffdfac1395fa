/* SPDX-License-Identifier: Apache-2.0
 *
 * The text of a thread's last failure (src/client/fail.h).
 */
#include "client/fail.h"

#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char last_text[YK_ERR_TEXT_MAX];

int yk_fail(int code, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(last_text, sizeof(last_text), fmt, ap);
    va_end(ap);
    return code;
}

int yk_fail_err(const struct yk_err *err) {
    return yk_fail(err->code, "%s", err->text[0] != 0 ? err->text : yk_status_text(err->code));
}

static int fail_key(int code, const char *what, const void *key, size_t key_len, const char *why) {
    char bytes[64], quoted[YK_QUOTE_MAX];
    size_t n = key_len < sizeof(bytes) - 1 ? key_len : sizeof(bytes) - 1;
    if (key == NULL)
        n = 0;
    for (size_t i = 0; i < n; i++) {
        char c = ((const char *)key)[i];
        bytes[i] = c == 0 ? '?' : c;
    }
    bytes[n] = 0;
    return yk_fail(code, "%s of %s: %s", what, yk_quote(bytes, quoted), why);
}

int yk_fail_key(int code, const char *what, const void *key, size_t key_len) {
    return fail_key(code, what, key, key_len, yk_status_text(code));
}

const char *yk_fail_put_text(int code) {
    return code == -YK_EIO ? "the node's memory is lost (a file of its segment was truncated, or its "
                             "file system is full), or its SSD failed: its log says which"
                           : yk_status_text(code);
}

int yk_fail_put(int code, const char *what, const void *key, size_t key_len) {
    return fail_key(code, what, key, key_len, yk_fail_put_text(code));
}

const char *yk_fail_text(void) {
    return last_text;
}
