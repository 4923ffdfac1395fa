/* SPDX-License-Identifier: Apache-2.0
 *
 * Status codes (include/yolk/status.h) and the error text that travels with them.
 *
 * Who decides the code writes the text once, into a struct yk_err that its caller passed down; a
 * caller that does not care passes NULL. No thread-local state, no allocation.
 */
#ifndef YK_BASE_STATUS_H
#define YK_BASE_STATUS_H

#include <yolk/status.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_ERR_TEXT_MAX 240

/* Thread: the caller's. */
struct yk_err {
    int code; /* -YK_E... or 0 */
    char text[YK_ERR_TEXT_MAX];
};

/* Writes code and formatted text into err (NULL is fine) and returns code, so that a failing
 * function ends in `return yk_err_set(err, -YK_EINVAL, "...", ...)`. Long text is cut. */
int yk_err_set(struct yk_err *err, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Short symbolic name ("EINVAL") of a status; takes either sign. Never NULL. Static storage. */
const char *yk_status_name(int code);

/* One-line text of a status; takes either sign. Never NULL. Static storage. */
const char *yk_status_text(int code);

/* The closest YK_E... (positive) for an errno value. */
int yk_status_from_errno(int err_no);

#ifdef __cplusplus
}
#endif

#endif
