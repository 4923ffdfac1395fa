/* SPDX-License-Identifier: Apache-2.0
 *
 * Room in an array on the heap that grows by doubling.
 *
 * For what is built off the hot path and has a limit of its own. Thread: any; nothing is shared.
 */
#ifndef YK_BASE_ARRAY_H
#define YK_BASE_ARRAY_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Room for `more` items of item_bytes behind the n that are there: *array and *cap, in items, may change. Both begin
 * as NULL and 0, and the caller frees the array. The caller bounds n + more, so that the bytes fit 63 bits.
 * 0, or -YK_ENOMEM, and all is as before. */
int yk_array_room(void **array, size_t item_bytes, uint64_t n, uint64_t more, uint64_t *cap);

#ifdef __cplusplus
}
#endif

#endif
