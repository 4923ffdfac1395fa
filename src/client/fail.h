/* SPDX-License-Identifier: Apache-2.0
 *
 * The text of a thread's last failure (yk_error_text).
 *
 * Kept for each thread, not in the handle: a handle serves many threads, a failed yk_open has no
 * handle, and nothing has to be locked or freed. The cost, a text that outlives the handle it speaks
 * of, is documented in yolk.h.
 *
 * Threads: any; each sees its own.
 */
#ifndef YK_CLIENT_FAIL_H
#define YK_CLIENT_FAIL_H

#include "base/status.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Sets the text and returns code, so that a failing function ends in `return yk_fail(...)`. */
int yk_fail(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The same with the text of err, which was filled further down. */
int yk_fail_err(const struct yk_err *err);

/* What went wrong with a key: "put of 'abc': text of code" (the key's bytes as far as printable). */
int yk_fail_key(int code, const char *what, const void *key, size_t key_len);

/* The same for what a put may fail of: the node sends a status alone, and says in its log why. */
int yk_fail_put(int code, const char *what, const void *key, size_t key_len);
const char *yk_fail_put_text(int code);

/* The calling thread's text; "" before its first failure. */
const char *yk_fail_text(void);

#ifdef __cplusplus
}
#endif

#endif
