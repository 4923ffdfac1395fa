/* SPDX-License-Identifier: Apache-2.0
 *
 * Names and texts of status codes, from the table in include/yolk/status.h.
 */
#include "base/status.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

int yk_err_set(struct yk_err *err, int code, const char *fmt, ...) {
    if (err != NULL) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(err->text, sizeof(err->text), fmt, ap);
        va_end(ap);
        err->code = code;
    }
    return code;
}

const char *yk_status_name(int code) {
    if (code == YK_FEWER)
        return "FEWER";
    switch (abs(code)) {
    case YK_OK:
        return "OK";
#define YK_STATUS_NAME(name, num, text)                                                            \
    case num:                                                                                      \
        return (code == YK_MISS) ? "MISS" : #name;
        YK_STATUS_TABLE(YK_STATUS_NAME)
#undef YK_STATUS_NAME
    default:
        return "UNKNOWN";
    }
}

const char *yk_status_text(int code) {
    if (code == YK_FEWER)
        return "stored, with fewer copies than asked for";
    switch (abs(code)) {
    case YK_OK:
        return "ok";
#define YK_STATUS_TEXT(name, num, text)                                                            \
    case num:                                                                                      \
        return (code == YK_MISS) ? "not found (a miss)" : text;
        YK_STATUS_TABLE(YK_STATUS_TEXT)
#undef YK_STATUS_TEXT
    default:
        return "unknown status";
    }
}

int yk_status_from_errno(int err_no) {
    switch (err_no) {
    case 0:
        return YK_OK;
    case ENOMEM:
        return YK_ENOMEM;
    case ENOSPC:
    case EDQUOT:
        return YK_ENOSPC;
    case EAGAIN:
        return YK_EAGAIN;
    case ETIMEDOUT:
        return YK_ETIMEDOUT;
    case EINVAL:
        return YK_EINVAL;
    case EPERM:
    case EACCES:
    case EROFS:
        return YK_EPERM;
    case EBUSY:
    case EADDRINUSE:
        return YK_EBUSY;
    case ENOENT:
        return YK_ENOENT;
    case EFAULT:
        return YK_EFAULT;
    case ECONNREFUSED:
    case ECONNRESET:
    case EPIPE:
    case ENOTCONN:
        return YK_EGONE;
    case ENOTSUP:
    case ENOSYS:
        return YK_ENOTSUP;
    default:
        return YK_EIO;
    }
}
