/* SPDX-License-Identifier: Apache-2.0
 *
 * Interned (namespace, epoch) pairs (space_priv.h).
 *
 * Thread: its holder's.
 */
#include "dir/space_priv.h"
#include "base/hash.h"

#include <stdlib.h>
#include <string.h>

int yk_spaces_init(struct yk_spaces *spaces) {
    memset(spaces, 0, sizeof(*spaces));
    memset(spaces->head, 0xff, sizeof(spaces->head));
    /* Mostly never touched. */
    spaces->at = calloc(YK_SPACES_MAX, sizeof(*spaces->at));
    spaces->freed = calloc(YK_SPACES_MAX, sizeof(*spaces->freed));
    if (spaces->at != NULL && spaces->freed != NULL)
        return 0;
    yk_spaces_fini(spaces);
    return -YK_ENOMEM;
}

void yk_spaces_fini(struct yk_spaces *spaces) {
    for (uint32_t i = 0; spaces->at != NULL && i < spaces->end; i++)
        free(spaces->at[i]);
    free(spaces->at);
    free(spaces->freed);
    memset(spaces, 0, sizeof(*spaces));
}

static uint32_t bucket(const char *ns, uint32_t ns_len, uint64_t epoch) {
    return (uint32_t)(yk_hash64(ns, ns_len) + epoch) % YK_SPACE_HEADS;
}

int yk_spaces_is(const struct yk_spaces *spaces, uint32_t number, const char *ns, uint32_t ns_len,
                 uint64_t epoch) {
    const struct yk_space *s = number < spaces->end ? spaces->at[number] : NULL;
    return s != NULL && s->epoch == epoch && s->ns_len == ns_len &&
           (ns_len == 0 || memcmp(s->ns, ns, ns_len) == 0);
}

uint32_t yk_spaces_find(const struct yk_spaces *spaces, const char *ns, uint32_t ns_len, uint64_t epoch) {
    uint32_t i = spaces->head[bucket(ns, ns_len, epoch)];
    while (i != YK_SPACE_NONE && !yk_spaces_is(spaces, i, ns, ns_len, epoch))
        i = spaces->at[i]->next;
    return i;
}

int yk_spaces_take(struct yk_spaces *spaces, const char *ns, uint32_t ns_len, uint64_t epoch,
                   uint16_t *ret_number) {
    if (ns_len > YK_DIR_NS_MAX)
        return -YK_EINVAL;
    uint32_t i = yk_spaces_find(spaces, ns, ns_len, epoch);
    if (i == YK_SPACE_NONE) {
        if (spaces->freed_count == 0 && spaces->end == YK_SPACES_MAX)
            return -YK_ELIMIT;
        struct yk_space *s = malloc(sizeof(*s) + ns_len);
        if (s == NULL)
            return -YK_ENOMEM;
        i = spaces->freed_count > 0 ? spaces->freed[--spaces->freed_count] : spaces->end++;
        uint16_t *head = &spaces->head[bucket(ns, ns_len, epoch)];
        *s = (struct yk_space){.epoch = epoch, .next = *head, .ns_len = (uint8_t)ns_len};
        if (ns_len > 0)
            memcpy(s->ns, ns, ns_len);
        *head = (uint16_t)i;
        spaces->at[i] = s;
    }
    spaces->at[i]->refs++;
    *ret_number = (uint16_t)i;
    return 0;
}

void yk_spaces_drop(struct yk_spaces *spaces, uint32_t number) {
    struct yk_space *s = spaces->at[number];
    if (--s->refs > 0)
        return;
    uint16_t *link = &spaces->head[bucket(s->ns, s->ns_len, s->epoch)];
    while (*link != number)
        link = &spaces->at[*link]->next;
    *link = s->next;
    free(s);
    spaces->at[number] = NULL;
    spaces->freed[spaces->freed_count++] = (uint16_t)number;
}
