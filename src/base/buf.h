/* SPDX-License-Identifier: Apache-2.0
 *
 * Growable text buffer with a limit and a sticky error.
 *
 * For what is built off the hot path: metrics pages, JSON, help texts. Appending never fails
 * visibly: the first failure (out of memory, limit reached) is kept in `status`, later appends do
 * nothing, and the one who sends the text looks once at the end. open_memstream was rejected: it
 * has no limit, and stdio's locale reaches into its numbers.
 *
 * Thread: one at a time.
 */
#ifndef YK_BASE_BUF_H
#define YK_BASE_BUF_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* data is NUL-terminated whenever it isn't NULL; the NUL is not counted in len. */
struct yk_buf {
    char *data;
    size_t len;
    size_t cap;
    size_t max; /* len never exceeds it */
    int status; /* 0, -YK_ENOMEM, -YK_ETOOBIG */
};

/* An empty buffer that will hold at most max bytes. No allocation. */
void yk_buf_init(struct yk_buf *buf, size_t max);

/* Frees the contents; the buffer is as after init. Buffers of all zero are fine. */
void yk_buf_fini(struct yk_buf *buf);

/* Forgets contents and error, keeps the memory. */
void yk_buf_clear(struct yk_buf *buf);

void yk_buf_append(struct yk_buf *buf, const void *data, size_t len);
void yk_buf_puts(struct yk_buf *buf, const char *text);
void yk_buf_putc(struct yk_buf *buf, char c);
void yk_buf_printf(struct yk_buf *buf, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The shortest decimal form that reads back to the same number, with '.' in every locale. Infinite
 * and NaN as "+Inf", "-Inf", "NaN" (Prometheus' spelling; JSON has its own rule, see json.h). */
void yk_buf_put_double(struct yk_buf *buf, double value);

/* Contents as a C string, "" if empty. Valid until the next append. */
const char *yk_buf_text(const struct yk_buf *buf);

#ifdef __cplusplus
}
#endif

#endif
