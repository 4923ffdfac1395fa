/* SPDX-License-Identifier: Apache-2.0
 *
 * The file in which a node keeps what its policies have learned: a part for each namespace, under its name and
 * number.
 *
 * It is written beside its place and renamed there when all of it is on the disk, so what is found is whole, or of
 * before. A sum guards the file's own tables; each part has one of its own (sched/learned.h).
 *
 * Format, in this machine's order of bytes: a head (magic, version, how many parts, bytes of all, wall clock, sum), then
 * for each part a head (name, namespace, bytes, where they are) and its bytes, filled up to eighths.
 *
 * Threads: one at a time, any.
 */
#ifndef YK_NODE_LEARNED_FILE_H
#define YK_NODE_LEARNED_FILE_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Of the whole file: a node that finds more starts anew, and what would not fit is not written. */
#define YK_LEARNED_FILE_MAX (512ull << 20)

struct yk_learned_file_writer {
    int fd;       /* -1: nothing was begun */
    uint64_t at;  /* where the next part goes */
    uint64_t sum; /* of the parts' heads */
    uint32_t parts;
    char path[4096], beside[4096 + 8];
};

/* Begins a file that is to stand at path, whose folder is made if its parent is there. 0, or -YK_E... with a text. A
 * writer that has begun ends by done or abandon. */
int yk_learned_file_begin(struct yk_learned_file_writer *w, const char *path, struct yk_err *err);
int yk_learned_file_part(struct yk_learned_file_writer *w, const char *name, uint32_t ns, const void *bytes, size_t len,
                         struct yk_err *err);
/* wall_ms: as of when it is. Blocks until it is on the disk. */
int yk_learned_file_done(struct yk_learned_file_writer *w, uint64_t wall_ms, struct yk_err *err);
void yk_learned_file_abandon(struct yk_learned_file_writer *w); /* also of one that has not begun, or is done */

struct yk_learned_file; /* what was found */

/* All of it, in memory. YK_MISS: there is none. -YK_ECORRUPT, -YK_EVERSION, -YK_ETOOBIG, -YK_EIO, -YK_ENOMEM with a
 * text. */
int yk_learned_file_read(const char *path, struct yk_learned_file **ret_file, struct yk_err *err);
/* The same of bytes, which are copied. */
int yk_learned_file_decode(const void *bytes, size_t len, struct yk_learned_file **ret_file, struct yk_err *err);
void yk_learned_file_free(struct yk_learned_file *file); /* NULL is fine */

/* The part of a namespace: valid until free. NULL: it has none, or its number is another by now. */
const void *yk_learned_file_find(const struct yk_learned_file *file, const char *name, uint32_t ns, size_t *ret_len);
uint64_t yk_learned_file_wall_ms(const struct yk_learned_file *file);

#ifdef __cplusplus
}
#endif

#endif
