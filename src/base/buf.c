/* SPDX-License-Identifier: Apache-2.0
 *
 * Growable text buffer (buf.h).
 */
#include "base/buf.h"

#include "base/fmt.h"

#include <yolk/status.h>

#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_CAP 256

void yk_buf_init(struct yk_buf *buf, size_t max) {
    memset(buf, 0, sizeof(*buf));
    buf->max = max;
}

void yk_buf_fini(struct yk_buf *buf) {
    size_t max = buf->max;
    free(buf->data);
    yk_buf_init(buf, max);
}

void yk_buf_clear(struct yk_buf *buf) {
    buf->len = 0;
    buf->status = 0;
    if (buf->data != NULL)
        buf->data[0] = '\0';
}

/* Makes room for more bytes and a NUL. False: status says why. */
static bool reserve(struct yk_buf *buf, size_t more) {
    if (buf->status < 0)
        return false;
    if (more > buf->max - buf->len) {
        buf->status = -YK_ETOOBIG;
        return false;
    }
    size_t need = buf->len + more + 1;
    if (need <= buf->cap)
        return true;
    size_t cap = (buf->cap < FIRST_CAP) ? FIRST_CAP : buf->cap;
    while (cap < need)
        cap = (cap > SIZE_MAX / 2) ? need : cap * 2;
    char *data = realloc(buf->data, cap);
    if (data == NULL) {
        buf->status = -YK_ENOMEM;
        return false;
    }
    buf->data = data;
    buf->cap = cap;
    return true;
}

void yk_buf_append(struct yk_buf *buf, const void *data, size_t len) {
    if (!reserve(buf, len))
        return;
    if (len > 0)
        memcpy(buf->data + buf->len, data, len);
    buf->len += len;
    buf->data[buf->len] = '\0';
}

void yk_buf_puts(struct yk_buf *buf, const char *text) {
    yk_buf_append(buf, text, strlen(text));
}

void yk_buf_putc(struct yk_buf *buf, char c) {
    yk_buf_append(buf, &c, 1);
}

void yk_buf_printf(struct yk_buf *buf, const char *fmt, ...) {
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int len = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (len >= 0 && reserve(buf, (size_t)len)) {
        vsnprintf(buf->data + buf->len, (size_t)len + 1, fmt, again);
        buf->len += (size_t)len;
    }
    va_end(again);
}

void yk_buf_put_double(struct yk_buf *buf, double value) {
    char text[YK_FMT_MAX];
    if (isfinite(value))
        yk_buf_puts(buf, yk_fmt_double(value, text));
    else
        yk_buf_puts(buf, isnan(value) ? "NaN" : (value > 0) ? "+Inf" : "-Inf");
}

const char *yk_buf_text(const struct yk_buf *buf) {
    return (buf->data != NULL) ? buf->data : "";
}
