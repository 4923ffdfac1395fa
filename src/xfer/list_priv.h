/* SPDX-License-Identifier: Apache-2.0
 *
 * A ring of nodes that are part of what they link: adding and taking out cost no search and no memory.
 *
 * Thread: the owner's of the list.
 */
#ifndef YK_XFER_LIST_PRIV_H
#define YK_XFER_LIST_PRIV_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct yk_list {
    struct yk_list *next, *prev;
};

/* What a node is part of. */
#define yk_list_of(node, type, member) ((type *)(void *)((char *)(node)-offsetof(type, member)))

static inline void yk_list_init(struct yk_list *l) {
    l->next = l->prev = l;
}

static inline int yk_list_empty(const struct yk_list *l) {
    return l->next == l;
}

static inline void yk_list_add(struct yk_list *l, struct yk_list *node) {
    node->prev = l->prev;
    node->next = l;
    l->prev->next = node;
    l->prev = node;
}

/* Taking out what is in no list, twice too, does nothing. */
static inline void yk_list_remove(struct yk_list *node) {
    node->prev->next = node->next;
    node->next->prev = node->prev;
    node->next = node->prev = node;
}

#ifdef __cplusplus
}
#endif

#endif
