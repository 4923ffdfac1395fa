/* SPDX-License-Identifier: Apache-2.0
 *
 * Status codes of every Yolk function: >= 0 is success, -YK_E... is failure.
 *
 * One table (name, number, text) makes the enum here and the text table in src/base/status.c.
 * Numbers are part of the wire protocol and the ABI: append, never renumber. A miss is an answer,
 * not an error: YK_MISS is positive.
 */
#ifndef YOLK_STATUS_H
#define YOLK_STATUS_H

#define YK_STATUS_TABLE(X)                                                                         \
    X(EINVAL, 1, "invalid argument")                                                               \
    X(ENOMEM, 2, "out of memory")                                                                  \
    X(ENOSPC, 3, "no space in the tier before the deadline")                                       \
    X(EAGAIN, 4, "queue is full, try again")                                                       \
    X(ETIMEDOUT, 5, "deadline passed")                                                             \
    X(ECANCELED, 6, "cancelled")                                                                   \
    X(ECONFLICT, 7, "key exists with other bytes")                                                 \
    X(EPROTO, 8, "malformed or unexpected message")                                                \
    X(EIO, 9, "input/output error")                                                                \
    X(EFORK, 10, "handle used in a forked child")                                                  \
    X(ESTALE, 11, "epoch is older than the namespace's")                                           \
    X(ETOOBIG, 12, "larger than the limit")                                                        \
    X(EKEY, 13, "key is empty or longer than 255 bytes")                                           \
    X(ENOTSUP, 14, "not supported here")                                                           \
    X(EPERM, 15, "not permitted")                                                                  \
    X(EBUSY, 16, "in use")                                                                         \
    X(EGONE, 17, "node, connection or reservation is gone")                                        \
    X(EVERSION, 18, "incompatible version")                                                        \
    X(ECORRUPT, 19, "checksum mismatch")                                                           \
    X(EQUOTA, 20, "namespace quota exceeded")                                                      \
    X(ENONS, 21, "no such namespace")                                                              \
    X(EPINNED, 22, "pinned")                                                                       \
    X(EINTERNAL, 23, "internal error")                                                             \
    X(ECLOSED, 24, "handle is closed")                                                             \
    X(ELIMIT, 25, "a configured limit is reached")                                                 \
    X(ENOENT, 26, "not found")                                                                     \
    X(EFAULT, 27, "memory cannot be accessed")

enum yk_status {
    YK_OK = 0,
    YK_MISS = 1,  /* the block is not here: an answer, not an error */
    YK_FEWER = 3, /* of a put: stored, with fewer copies than it asked for (yolk.h) */
#define YK_STATUS_ENUM(name, num, text) YK_##name = (num),
    YK_STATUS_TABLE(YK_STATUS_ENUM)
#undef YK_STATUS_ENUM
    YK_STATUS_LAST = YK_EFAULT /* no comma at the end: C++98 has none there */
};

#endif
