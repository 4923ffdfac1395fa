/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzz target: what the learned policy reads from its node's state directory.
 *
 * The input is first loaded as it is. Since a sum guards it, it is then read as damage to what a policy that has seen
 * and learned something saves: sets of (place, byte), after which the sum is made right. A policy that accepts
 * it goes on with requests, evictions, what comes up ahead and a training. And it is read as the file around that.
 *
 * Thread: one.
 */
#include "base/hash.h"
#include "node/learned_file.h"
#include "sched/learned.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define KEYS   400u
#define ROOM   60u
#define SUM_AT 24u /* in the bytes: behind magic, version, the head's size and the size of all */

static void require(int holds) {
    if (!holds)
        abort();
}

static uint64_t hash_of(uint32_t key) {
    return ((key + 1) * UINT64_C(0x2545f4914f6cdd1d)) & YK_POLICY_HASH_BITS;
}

static struct yk_policy *make(struct yk_policy_space **ret_space) {
    struct yk_policy_opts opts = {.capacity_objects = ROOM * 2, .seed = 3};
    struct yk_policy *p;
    require(yk_policy_space_new(KEYS, ret_space) == 0);
    require(yk_policy_new(&yk_policy_learned, *ret_space, &opts, &p) == 0);
    return p;
}

static void put(struct yk_policy *p, uint32_t key, bool *in, bool is_ahead) {
    uint32_t victim;
    if (yk_policy_count(p) == ROOM) {
        require(yk_policy_victim_any(p, &victim) == 0 && victim < KEYS && in[victim]);
        require(yk_policy_evict(p, victim, hash_of(victim)) == 0);
        in[victim] = false;
    }
    require(yk_policy_insert(p, key, &(struct yk_policy_block){.key_hash = hash_of(key),
                                                               .size_bytes = 1 + key % 5,
                                                               .parent_id = key % 2 ? key - 1 : YK_POLICY_NONE,
                                                               .is_ahead = is_ahead,
                                                               .found = key % 7 == 0}) == 0);
    in[key] = true;
}

static void use(struct yk_policy *p, uint32_t key, bool *in) {
    if (in[key])
        require(yk_policy_access(p, key) == 0);
    else
        put(p, key, in, false);
}

/* What comes up ahead; damage may name keys that are none. */
static void bring_up(struct yk_policy *p, uint64_t now_ms, bool *in) {
    uint64_t hashes[8];
    uint32_t n = yk_learned_prefetch(p, now_ms, hashes, 8);
    require(n <= 8);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t key = 0; key < KEYS; key++)
            if (hash_of(key) == hashes[i] && !in[key])
                put(p, key, in, true);
}

static void play(struct yk_policy *p, uint64_t now_ms, uint32_t requests) {
    bool in[KEYS] = {false};
    uint32_t random = 1;
    for (uint32_t i = 0; i < requests; i++) {
        random = random * 1664525u + 1013904223u;
        uint32_t key = (random >> 16) % (i % 3 ? KEYS / 4 : KEYS / 2) * 2;
        uint64_t chain[2] = {hash_of(key % KEYS), hash_of((key + 1) % KEYS)};
        yk_policy_request(p, &(struct yk_policy_request){.now_ms = now_ms + i * 100, .key_hashes = chain, .n = 2});
        struct yk_learned_training *t = yk_learned_training_begin(p);
        if (t != NULL) {
            yk_learned_training_run(t);
            yk_learned_training_end(p);
        }
        use(p, (key + 1) % KEYS, in);
        use(p, key % KEYS, in);
        if (i % 4 == 0)
            bring_up(p, now_ms + i * 100 + 50, in);
    }
    yk_learned_found(p);
    for (uint32_t key = 0; key < KEYS; key++) {
        struct yk_learned_block b;
        if (yk_learned_explain(p, hash_of(key), &b) != 0)
            continue;
        require(b.rate >= 0);
        for (uint32_t f = 0; f < YK_LEARNED_FEATURES; f++)
            require(b.features[f] < 64);
    }
}

static void try_bytes(const void *bytes, size_t len) {
    struct yk_policy_space *space;
    struct yk_policy *p = make(&space);
    struct yk_err err = {0};
    int rc = yk_learned_load(p, bytes, len, 5000, 100, &err);
    require(rc == 0 || (err.code == rc && err.text[0] != 0 && strchr(err.text, '\n') == NULL));
    if (rc == 0) {
        void *again;
        size_t again_len;
        play(p, 5000, 400);
        require(yk_learned_save(p, &again, &again_len) == 0);
        free(again);
    }
    yk_policy_free(p);
    yk_policy_space_free(space);
}

/* Saved once: making it takes longer than an input. */
static const unsigned char *good(size_t *ret_len) {
    static void *bytes;
    static size_t len;
    if (bytes == NULL) {
        struct yk_policy_space *space;
        struct yk_policy *p = make(&space);
        play(p, 0, 300);
        require(yk_learned_save(p, &bytes, &len) == 0);
        yk_policy_free(p);
        yk_policy_space_free(space);
    }
    *ret_len = len;
    return bytes;
}

static void try_file(const void *bytes, size_t len) {
    struct yk_learned_file *file = NULL;
    struct yk_err err = {0};
    size_t part;
    int rc = yk_learned_file_decode(bytes, len, &file, &err);
    require(rc == 0 || (file == NULL && err.code == rc && err.text[0] != 0));
    const unsigned char *found = rc == 0 ? yk_learned_file_find(file, "default", 0, &part) : NULL;
    require(found == NULL || yk_hash64(found, part) != 1); /* it may be read */
    yk_learned_file_free(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    size_t len;
    const unsigned char *from = good(&len);
    unsigned char *bytes = malloc(len);
    require(bytes != NULL);
    try_bytes(data, size);
    try_file(data, size);
    memcpy(bytes, from, len);
    for (size_t i = 0; i + 4 <= size; i += 4)
        bytes[(data[i] | (size_t)data[i + 1] << 8 | (size_t)data[i + 2] << 16) % len] = data[i + 3];
    uint64_t sum = yk_hash64(bytes + SUM_AT + 8, len - SUM_AT - 8);
    memcpy(bytes + SUM_AT, &sum, sizeof(sum));
    try_bytes(bytes, len);
    free(bytes);
    return 0;
}
