/* SPDX-License-Identifier: Apache-2.0
 *
 * Random numbers and keys for the tests of the directory's structures: fixed seeds, a small world of keys, so that
 * things meet. Threads: a test's own.
 */
#ifndef YK_TESTS_DIR_FIXTURE_H
#define YK_TESTS_DIR_FIXTURE_H

#include "base/hash.h"
#include "dir/core.h"

#include <stdio.h>
#include <string.h>

/* xorshift64* */
static inline uint64_t random_next(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1dull;
}

static inline uint32_t random_below(uint64_t *state, uint32_t n) {
    return (uint32_t)((random_next(state) >> 33) % n);
}

/* Key number n, in one of the namespaces; lengths differ. */
struct test_key {
    char bytes[64], ns[16];
    struct yk_dir_key key;
    uint64_t hash; /* any function of namespace and key would do */
};

static inline void key_make(struct test_key *k, uint32_t n, uint32_t namespaces) {
    uint32_t len = (uint32_t)snprintf(k->bytes, sizeof(k->bytes), "key-%u-%.*s", n, (int)(n * 7u % 40u),
                                      "........................................");
    uint32_t ns_len = (uint32_t)snprintf(k->ns, sizeof(k->ns), "ns%u", n % namespaces);
    k->key = (struct yk_dir_key){k->ns, ns_len, k->bytes, len};
    k->hash = yk_hash_key(n % namespaces, k->bytes, len);
}

#endif
