/* SPDX-License-Identifier: Apache-2.0
 *
 * Arrays that grow (src/base/array.h).
 */
#include "base/array.h"

#include "base/status.h"

#include <stdlib.h>

#define FIRST_ITEMS 1024

int yk_array_room(void **array, size_t item_bytes, uint64_t n, uint64_t more, uint64_t *cap) {
    uint64_t want = *cap != 0 ? *cap : FIRST_ITEMS;
    if (n + more <= *cap)
        return 0;
    while (want < n + more)
        want *= 2;
    void *p = realloc(*array, want * item_bytes);
    if (p == NULL)
        return -YK_ENOMEM;
    *array = p;
    *cap = want;
    return 0;
}
