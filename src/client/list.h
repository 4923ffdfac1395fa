/* SPDX-License-Identifier: Apache-2.0
 *
 * Doubly linked list through its members: an operation moves between queues in constant time and
 * leaves the middle of one when it is cancelled, and no node is ever allocated.
 *
 * A head is a link that points at itself when the list is empty. A link that is in no list points at
 * itself too, so that removing it again is harmless.
 *
 * Threads: the caller's (in libyolk: under the lock of the handle).
 */
#ifndef YK_CLIENT_LIST_H
#define YK_CLIENT_LIST_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct yk_link {
    struct yk_link *prev, *next;
};

/* The object of `type` whose `member` is at link. */
#define YK_LIST_ITEM(link, type, member) ((type *)(void *)((char *)(link)-offsetof(type, member)))

static inline void yk_list_init(struct yk_link *l) {
    l->prev = l->next = l;
}

static inline int yk_list_empty(const struct yk_link *head) {
    return head->next == head;
}

/* Adds at the end. link must be in no list. */
static inline void yk_list_add(struct yk_link *head, struct yk_link *link) {
    link->prev = head->prev;
    link->next = head;
    head->prev->next = link;
    head->prev = link;
}

static inline void yk_list_add_first(struct yk_link *head, struct yk_link *link) {
    yk_list_add(head->next, link);
}

static inline void yk_list_remove(struct yk_link *link) {
    link->prev->next = link->next;
    link->next->prev = link->prev;
    yk_list_init(link);
}

/* Takes the first, or NULL. */
static inline struct yk_link *yk_list_take(struct yk_link *head) {
    struct yk_link *l = head->next;
    if (l == head)
        return NULL;
    yk_list_remove(l);
    return l;
}

/* Moves all of `from`, in order, before the first of `to`. */
static inline void yk_list_splice_first(struct yk_link *to, struct yk_link *from) {
    while (!yk_list_empty(from)) {
        struct yk_link *l = from->prev;
        yk_list_remove(l);
        yk_list_add_first(to, l);
    }
}

#ifdef __cplusplus
}
#endif

#endif
