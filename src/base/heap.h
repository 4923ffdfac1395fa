/* SPDX-License-Identifier: Apache-2.0
 *
 * A binary heap of numbers whose owner knows where each one stands, so that any of them can be moved: a step of
 * it, as the order and the places are the owner's.
 *
 * Inline with functions that the compiler sees, as the hot users are compared millions of times a second.
 * Thread: the owner's.
 */
#ifndef YK_BASE_HEAP_H
#define YK_BASE_HEAP_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Does a stand above b? Neither is changed. */
typedef bool (*yk_heap_above_fn)(const void *owner, uint32_t a, uint32_t b);
/* The item stands at this place now. */
typedef void (*yk_heap_placed_fn)(void *owner, uint32_t item, uint32_t place);

static inline void yk_heap_put(uint32_t *heap, uint32_t place, uint32_t item, yk_heap_placed_fn placed, void *owner) {
    heap[place] = item;
    placed(owner, item, place);
}

/* Puts the item into the heap of n, n > place, where `place` is its own or free, and moves it up or down to where it
 * belongs. */
static inline void yk_heap_sift(uint32_t *heap, uint32_t n, uint32_t place, uint32_t item, yk_heap_above_fn above,
                                yk_heap_placed_fn placed, void *owner) {
    for (; place > 0 && above(owner, item, heap[(place - 1) / 2]); place = (place - 1) / 2)
        yk_heap_put(heap, place, heap[(place - 1) / 2], placed, owner);
    for (;;) {
        uint32_t child = 2 * place + 1;
        if (child + 1 < n && above(owner, heap[child + 1], heap[child]))
            child++;
        if (child >= n || !above(owner, heap[child], item))
            break;
        yk_heap_put(heap, place, heap[child], placed, owner);
        place = child;
    }
    yk_heap_put(heap, place, item, placed, owner);
}

#ifdef __cplusplus
}
#endif

#endif
