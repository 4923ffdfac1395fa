/* SPDX-License-Identifier: Apache-2.0
 *
 * Structs of the public headers that may grow at their end, between a program and a library of different versions: each
 * says how large the struct is for it.
 *
 * Thread: any.
 */
#ifndef YK_BASE_SIZED_H
#define YK_BASE_SIZED_H

#include <stddef.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* As much as both have; what only `to` has is 0. */
static inline void yk_sized_copy(void *to, size_t to_size, const void *from, size_t from_size) {
    size_t both = to_size < from_size ? to_size : from_size;
    memcpy(to, from, both);
    memset((char *)to + both, 0, to_size - both);
}

/* Is anything set behind what is known? It is meant, and cannot be done. */
static inline int yk_sized_has_more(const void *from, size_t size, size_t known) {
    for (size_t i = known; i < size; i++)
        if (((const unsigned char *)from)[i] != 0)
            return 1;
    return 0;
}

#ifdef __cplusplus
}
#endif

#endif
