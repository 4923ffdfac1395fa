/* SPDX-License-Identifier: Apache-2.0
 *
 * Numbers of 16 bits for (namespace, epoch), counted by their users: records of the table and of what is held
 * carry one in place of a name and an epoch. There are few: namespaces times epochs that are still in memory.
 *
 * Thread: its holder's.
 */
#ifndef YK_DIR_SPACE_PRIV_H
#define YK_DIR_SPACE_PRIV_H

#include "dir/core.h"

#ifdef __cplusplus
extern "C" {
#endif

#define YK_SPACE_NONE  0xffffu
#define YK_SPACES_MAX  0xfffeu
#define YK_SPACE_HEADS 1024u

struct yk_space {
    uint64_t epoch;
    uint64_t refs;
    uint16_t next; /* in its bucket */
    uint8_t ns_len;
    char ns[]; /* ns_len bytes */
};

struct yk_spaces {
    struct yk_space **at; /* [YK_SPACES_MAX], by number; NULL: not used */
    uint16_t head[YK_SPACE_HEADS];
    uint16_t *freed;      /* [YK_SPACES_MAX]: numbers below `end` that are free, */
    uint32_t freed_count; /* so many */
    uint32_t end;         /* never used from here on */
};

/* -YK_ENOMEM. */
int yk_spaces_init(struct yk_spaces *spaces);
void yk_spaces_fini(struct yk_spaces *spaces);

/* YK_SPACE_NONE: nobody uses it. */
uint32_t yk_spaces_find(const struct yk_spaces *spaces, const char *ns, uint32_t ns_len, uint64_t epoch);
/* Is it this one? */
int yk_spaces_is(const struct yk_spaces *spaces, uint32_t number, const char *ns, uint32_t ns_len, uint64_t epoch);
/* Finds or makes it, one more user. -YK_ENOMEM, -YK_ELIMIT, -YK_EINVAL (a name too long). */
int yk_spaces_take(struct yk_spaces *spaces, const char *ns, uint32_t ns_len, uint64_t epoch, uint16_t *ret_number);
void yk_spaces_drop(struct yk_spaces *spaces, uint32_t number);

#ifdef __cplusplus
}
#endif

#endif
