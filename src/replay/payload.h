/* SPDX-License-Identifier: Apache-2.0
 *
 * Payloads that can be checked: the bytes of a block follow from its seed, the seed from its id.
 *
 * Lane i (8 bytes) of a block is seed + i * an odd constant: one addition a lane, which compilers
 * turn into vector code that runs at the speed of the cache, so that making and checking every byte
 * of a replay costs less than moving it. Two blocks differ in every lane, and so do two places of
 * one block: bytes of another block, of another offset, or of an older generation of the buffer are
 * all found. A stream cipher or a hash of each lane was rejected: ten times the cost, and nobody
 * forges payloads here.
 *
 * Thread: any; no state.
 */
#ifndef YK_REPLAY_PAYLOAD_H
#define YK_REPLAY_PAYLOAD_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The seed of an id. Different ids have different seeds. */
uint64_t yk_payload_seed(uint64_t id);

/* Fills len bytes at buf, of any alignment. */
void yk_payload_fill(void *buf, size_t len, uint64_t seed);

/* How many of the len bytes are not what yk_payload_fill writes; *ret_first is the offset of the
 * first of them (untouched when there is none). */
size_t yk_payload_check(const void *buf, size_t len, uint64_t seed, size_t *ret_first);

/* The same for one cache line in each `stride` lines and the last bytes only. */
size_t yk_payload_check_sample(const void *buf, size_t len, uint64_t seed, size_t stride,
                               size_t *ret_first);

#ifdef __cplusplus
}
#endif

#endif
