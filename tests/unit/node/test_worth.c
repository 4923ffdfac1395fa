/* SPDX-License-Identifier: Apache-2.0
 *
 * What a use saves, in a node: with a model's growth its policy keeps chains that are deep, which save more compute, where
 * short prompts that come as often take as much room.
 */
#include "store_rig.h"

#include "base/hash.h"
#include "sched/policy.h"

#define BLOCK  16384u
#define ROOM   256u /* blocks */
#define DEEP   16u  /* blocks of a long prompt */
#define LONGS  16u  /* long prompts, ... */
#define SHORTS 256u /* ... and short ones, of one block */
#define ROUNDS 6000u

static unsigned char payload[BLOCK];

/* xorshift64: the state is never 0. */
static uint32_t random_below(uint64_t *state, uint32_t n) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (uint32_t)((*state >> 32) * n >> 32);
}

/* As a client would: announces the chain, uses what is there and puts what is not, tail first. The blocks that it had. */
static uint32_t ask(struct fixture *f, uint32_t chain, uint32_t n, uint64_t now_ms) {
    char keys[DEEP][32];
    uint64_t hashes[DEEP];
    uint32_t idx, hits = 0;
    for (uint32_t i = 0; i < n; i++) {
        snprintf(keys[i], sizeof(keys[i]), "c%u-%u", chain, i);
        hashes[i] = yk_hash_key(f->ns, keys[i], strlen(keys[i]));
    }
    yk_store_request(f->s, f->ns, &(struct yk_policy_request){.now_ms = now_ms, .key_hashes = hashes, .n = n});
    while (hits < n && find(f, keys[hits], &idx) == 0)
        hits++;
    for (uint32_t i = n; i-- > 0;) {
        if (find(f, keys[i], &idx) == 0)
            yk_store_access(f->s, idx);
        else
            assert_int_equal(put(f, keys[i], payload, BLOCK), 0);
    }
    return hits;
}

/* The share of a long prompt that is there when it comes again. Each of all prompts is as likely as any other. */
static double deep_hits(double saved_growth) {
    struct fixture f;
    uint64_t rng = 7, now_ms = 0;
    uint32_t hits = 0, blocks = 0;
    fixture_init(&f, (ROOM + 2 * DEEP) * BLOCK, ROOM, "learned");
    f.o.saved_growth = saved_growth;
    f.o.replays = 1;
    store_open(&f);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        uint32_t chain = random_below(&rng, LONGS + SHORTS), n = chain < LONGS ? DEEP : 1;
        uint32_t had = ask(&f, chain, n, now_ms += 1000);
        hits += n > 1 && round > ROUNDS / 2 ? had : 0;
        blocks += n > 1 && round > ROUNDS / 2 ? n : 0;
        yk_store_turn(f.s);
    }
    fixture_close(&f);
    return (double)hits / blocks;
}

static void what_saves_more_stays(void **state) {
    (void)state;
    double alike = deep_hits(0), deep = deep_hits(2);
    if (!(deep > alike + 0.1))
        fail_msg("of long prompts %.3f hit with growth, %.3f without", deep, alike);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_saves_more_stays)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
