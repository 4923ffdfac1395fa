/* SPDX-License-Identifier: Apache-2.0
 *
 * The one hash of Yolk: XXH3-64 without a seed, of payloads (the checksum in a descriptor) and of
 * keys (index buckets). Its value is stable between machines and releases, so it may be stored and
 * sent.
 *
 * The functions are compiled once, in copyhash.c, with xxhash.h inlined there. For keys that is as
 * fast as Debian's libxxhash.so (8 to 18 ns up to 200 bytes); long input gets an AVX2 loop, twice
 * as fast as the library, which is built for SSE2; and clients need no libxxhash at run time.
 * Inlining it into every includer was rejected: 6,000 lines to parse for about a nanosecond.
 * docs/decisions/0003-copy-and-hash.md has the figures.
 *
 * XXH3 is no defence against somebody who makes keys collide on purpose: compare full keys, bound
 * every probe.
 *
 * Thread: any; no state (a hasher: one at a time).
 */
#ifndef YK_BASE_HASH_H
#define YK_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* XXH3_64bits of len bytes at data; data may be NULL when len is 0. */
uint64_t yk_hash64(const void *data, size_t len);

/* yk_hash64 of what comes in pieces: the sum after the last one. NULL: no memory. */
struct yk_hasher;
struct yk_hasher *yk_hasher_new(void);
void yk_hasher_add(struct yk_hasher *hasher, const void *data, size_t len);
uint64_t yk_hasher_sum(const struct yk_hasher *hasher);
void yk_hasher_free(struct yk_hasher *hasher); /* NULL is fine */

/* Hash of a key within a namespace: XXH3_64bits_withSeed(key, len, ns_id), so that equal keys of
 * two namespaces fall into unrelated buckets without the two being joined in memory first. */
uint64_t yk_hash_key(uint32_t ns_id, const void *key, size_t len);

#ifdef __cplusplus
}
#endif

#endif
