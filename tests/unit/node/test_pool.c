/* SPDX-License-Identifier: Apache-2.0
 *
 * A node that is in a pool (node/pool.h) as its peers meet it: raw frames over a socket pair, and a pool that
 * notes what it is asked and answers what the test says. What libyolk makes of it is in
 * tests/unit/client/test_client_pool.c, what the block table tells in test_pool_store.c.
 */
#include "pool_rig.h"

#include "base/hash.h"
#include "shm/filter.h"

#include <sys/mman.h>
#include <sys/stat.h>

#define ELSEWHERE (YK_TIERS_ELSEWHERE | 1u << YK_TIER_DRAM)

static const struct yk_pool_found FOUND = {0, 1u << YK_TIER_DRAM, 1234, 99};
static const struct yk_pool_found NOWHERE = {YK_MISS, 0, 0, 0};
static const struct yk_pool_found UNKNOWN = {-YK_EAGAIN, 0, 0, 0};

/* ---- gets ------------------------------------------------------------------------------------------- */

static void a_get_finds_what_the_pool_brought(void **state) {
    struct rig *g = *state;
    get_send(g->a, "k");
    struct want *w = want_at(g, 0);
    assert_int_equal(w->kind, YK_POOL_BRING);
    assert_int_equal(w->count, 1);
    assert_string_equal(w->key[0], "k");
    assert_string_equal(w->ns, "default");
    assert_int_equal(w->ns_number, g->a->ns);
    assert_int_equal(w->epoch, g->a->epoch);
    assert_true(w->deadline_ns > yk_now_ns());
    bring(g, w, "k", "payload");
    assert_int_equal(get_answer(g->a, "payload"), 0);
    assert_int_equal(get(g->a, "k", "payload"), 0); /* it is here now */
    assert_int_equal(g->want_count, 1);
}

static void what_is_nowhere_is_a_miss(void **state) {
    struct rig *g = *state;
    get_send(g->a, "k");
    found(g, want_at(g, 0)->token, NULL, 0);
    assert_int_equal(get_answer(g->a, ""), YK_MISS);
    g->refuse = 1; /* nobody can be asked */
    assert_int_equal(get(g->a, "k", ""), YK_MISS);
}

static void what_is_here_is_not_asked_for(void **state) {
    struct rig *g = *state;
    assert_int_equal(put(g->a, "k", "own"), 0);
    assert_int_equal(get(g->a, "k", "own"), 0);
    g->a->epoch++; /* another epoch than the namespace's is nowhere */
    assert_int_equal(get(g->a, "k", ""), YK_MISS);
    assert_int_equal(g->want_count, 0);
}

static void a_raise_waits_for_all_of_its_keys(void **state) {
    struct rig *g = *state;
    const char *keys[4] = {"own", "a", "b", ""};
    int32_t status[4];
    assert_int_equal(put(g->a, "own", "x"), 0);
    raise_send(g->a, keys, 4, 10000);
    struct want *w = want_at(g, 0);
    assert_int_equal(w->kind, YK_POOL_BRING);
    assert_int_equal(w->count, 2);
    assert_string_equal(w->key[0], "a");
    assert_string_equal(w->key[1], "b");
    bring(g, w, "b", "bytes");
    raise_answer(g->a, status, 4);
    assert_int_equal(status[0], 0);
    assert_int_equal(status[1], YK_MISS);
    assert_int_equal(status[2], 0);
    assert_int_equal(status[3], -YK_EKEY);
    g->refuse = 1;
    raise_send(g->a, keys, 2, 10000);
    raise_answer(g->a, status, 2);
    assert_int_equal(status[0], 0);
    assert_int_equal(status[1], -YK_EAGAIN);
}

static void a_prefetch_waits_for_nobody(void **state) {
    struct rig *g = *state;
    const char *keys[3] = {"own", "a", "b"};
    assert_int_equal(put(g->a, "own", "x"), 0);
    assert_int_equal(prefetch(g->a, keys, 3), 2);
    struct want *w = want_at(g, 0);
    assert_int_equal(w->kind, YK_POOL_BRING);
    assert_int_equal(w->token, 0);
    assert_int_equal(w->count, 2);
    bring(g, w, "a", "bytes"); /* its answer with token 0 is nobody's */
    assert_int_equal(get(g->a, "a", "bytes"), 0);
    g->refuse = 1;
    assert_int_equal(prefetch(g->a, &keys[2], 1), 0);
}

static void a_pin_brings_the_block_here(void **state) {
    struct rig *g = *state;
    struct item items[2] = {{YK_CHANGE_PIN, 0, "k"}, {YK_CHANGE_TOUCH, 0, "k"}};
    int32_t status[2];
    change_send(g->a, items, 2);
    struct want *w = want_at(g, 0);
    assert_int_equal(w->kind, YK_POOL_BRING);
    assert_int_equal(w->count, 1);
    bring(g, w, "k", "bytes");
    change_answer(g->a, status, 2);
    assert_int_equal(status[0], 0);
    assert_int_equal(status[1], 0);
    struct yk_node_stats st;
    yk_node_stats(g->node, &st);
    assert_int_equal(st.store.hard_pinned_bytes, 5);
}

/* ---- look up ---------------------------------------------------------------------------------------- */

static void a_lookup_asks_once_for_all_that_is_missing(void **state) {
    struct rig *g = *state;
    const char *keys[6] = {"a", "own", "b", "", "c", "a"};
    struct yk_pool_found said[4] = {FOUND, NOWHERE, UNKNOWN, FOUND};
    struct look look[6];
    assert_int_equal(put(g->a, "own", "own"), 0);
    keys_send(g->a, YK_MSG_LOOKUP, keys, 6);
    struct want *w = want_at(g, 0);
    assert_int_equal(w->kind, YK_POOL_FIND);
    assert_int_equal(w->chain, 0);
    assert_int_equal(w->count, 4);
    assert_string_equal(w->key[1], "b");
    assert_string_equal(w->key[3], "a");
    found(g, w->token, said, 4);
    lookup_answer(g->a, look, 6);
    assert_int_equal(look[0].status, 0);
    assert_int_equal(look[0].info.len, 1234);
    assert_int_equal(look[0].info.checksum, 99);
    assert_int_equal(look[0].info.epoch, g->a->epoch);
    assert_int_equal(look[0].info.tiers, ELSEWHERE);
    assert_int_equal(look[0].info.generation, 0);
    assert_int_equal(look[1].status, 0);
    assert_int_equal(look[1].info.tiers, 1u << YK_TIER_DRAM);
    assert_int_equal(look[2].status, YK_MISS);
    assert_int_equal(look[3].status, -YK_EKEY);
    assert_int_equal(look[4].status, -YK_EAGAIN);
    assert_int_equal(look[5].status, 0);
    assert_int_equal(g->want_count, 1);
}

static void exists_knows_blocks_of_other_nodes(void **state) {
    struct rig *g = *state;
    const char *keys[5] = {"a", "own", "b", "c", "d"};
    struct yk_pool_found said[4] = {FOUND, NOWHERE, UNKNOWN, FOUND};
    assert_int_equal(put(g->a, "own", "own"), 0);
    keys_send(g->a, YK_MSG_EXISTS, keys, 5);
    struct want *w = want_at(g, 0);
    assert_int_equal(w->count, 4);
    found(g, w->token, said, 4);
    assert_int_equal(exists_answer(g->a, 5), 0x13);
}

static void a_match_is_a_chain(void **state) {
    struct rig *g = *state;
    const char *keys[7] = {"h0", "h1", "x", "y", "h2", "z", "h3"};
    struct yk_pool_found said[3] = {FOUND, FOUND, NOWHERE};
    for (unsigned i = 0; i < 7; i++)
        if (keys[i][0] == 'h')
            assert_int_equal(put(g->a, keys[i], "own"), 0);
    keys_send(g->a, YK_MSG_MATCH, keys, 7);
    struct want *w = want_at(g, 0);
    assert_int_equal(w->kind, YK_POOL_FIND);
    assert_int_equal(w->chain, 1);
    assert_string_equal(w->first, "h0");
    assert_int_equal(w->count, 3);
    assert_string_equal(w->key[0], "x");
    assert_string_equal(w->key[2], "z");
    found(g, w->token, said, 3);
    assert_int_equal(match_answer(g->a), 5);
    keys_send(g->a, YK_MSG_MATCH, keys, 2);
    assert_int_equal(match_answer(g->a), 2);
    assert_int_equal(g->want_count, 1);
}

/* More keys than are looked at in one go. */
static void a_long_match_finds_its_answers(void **state) {
    struct rig *g = *state;
    static char text[200][8];
    const char *keys[200];
    static struct yk_pool_found said[200];
    uint32_t n = 0;
    for (unsigned i = 0; i < 200; i++) {
        snprintf(text[i], sizeof(text[i]), "k%u", i);
        keys[i] = text[i];
        if (i % 3 == 0)
            assert_int_equal(put(g->a, keys[i], "own"), 0);
        else
            said[n++] = i == 151 ? UNKNOWN : FOUND;
    }
    keys_send(g->a, YK_MSG_MATCH, keys, 200);
    struct want *w = want_at(g, 0);
    assert_int_equal(w->count, n);
    found(g, w->token, said, n);
    assert_int_equal(match_answer(g->a), 151);
}

static void who_cannot_be_asked_is_not_taken_for_a_miss(void **state) {
    struct rig *g = *state;
    const char *keys[2] = {"own", "a"};
    struct look look[2];
    assert_int_equal(put(g->a, "own", "own"), 0);
    g->refuse = 1;
    keys_send(g->a, YK_MSG_LOOKUP, keys, 2);
    lookup_answer(g->a, look, 2);
    assert_int_equal(look[0].status, 0);
    assert_int_equal(look[1].status, -YK_EAGAIN);
    keys_send(g->a, YK_MSG_EXISTS, keys, 2);
    assert_int_equal(exists_answer(g->a, 2), 1);
    keys_send(g->a, YK_MSG_MATCH, keys, 2);
    assert_int_equal(match_answer(g->a), 1);
    g->refuse = 0;
    keys_send(g->a, YK_MSG_LOOKUP, keys, 2);
    found(g, want_at(g, 3)->token, NULL, 0); /* nobody can tell */
    lookup_answer(g->a, look, 2);
    assert_int_equal(look[1].status, -YK_EAGAIN);
}

/* ---- what may go wrong ------------------------------------------------------------------------------- */

static void a_pool_that_does_not_answer_is_not_waited_for(void **state) {
    struct rig *g = *state;
    const char *keys[1] = {"k"};
    int32_t status;
    raise_send(g->a, keys, 1, 1);
    uint64_t token = want_at(g, 0)->token;
    raise_answer(g->a, &status, 1);
    assert_int_equal(status, YK_MISS);
    found(g, token, NULL, 0); /* too late */
    get_send(g->a, "k"); /* may have the same place to wait in */
    struct want *w = want_at(g, 1);
    assert_true(w->token != token);
    found(g, token, NULL, 0);
    flush(g);
    bring(g, w, "k", "bytes");
    assert_int_equal(get_answer(g->a, "bytes"), 0);
}

/* Nothing that it was asked for is answered, and everybody is, as well as it can be. */
static void requests_without_a_deadline_have_the_nodes(void **state) {
    struct rig *g = *state;
    const char *keys[1] = {"k"};
    struct item items[1] = {{YK_CHANGE_REMOVE, 0, "k"}};
    struct look look[1];
    int32_t status;
    assert_int_equal(get(g->a, "k", ""), YK_MISS);
    keys_send(g->a, YK_MSG_LOOKUP, keys, 1);
    lookup_answer(g->a, look, 1);
    assert_int_equal(look[0].status, -YK_EAGAIN);
    change_send(g->a, items, 1);
    change_answer(g->a, &status, 1);
    assert_int_equal(status, -YK_ETIMEDOUT);
    ns_send(g->a, YK_NS_CREATE, 5, "new");
    assert_int_equal(ns_answer(g->a), -YK_ETIMEDOUT);
    assert_int_equal(g->want_count, 2);
    found(g, g->wants[0].token, NULL, 0);
    found(g, g->wants[1].token, &FOUND, 1);
    removed(g, g->drops[0].token, 0);
    removed(g, g->spaces[0].token, 0);
    assert_int_equal(get(g->a, "k", ""), YK_MISS);
}

static void answers_that_nobody_waits_for_are_ignored(void **state) {
    struct rig *g = *state;
    struct item items[2] = {{YK_CHANGE_REMOVE, 0, "x"}, {YK_CHANGE_REMOVE, 0, "y"}};
    int32_t status[2];
    for (uint64_t token = 0; token < 3; token++) {
        found(g, token, &FOUND, 1);
        removed(g, token, 0);
    }
    found(g, UINT64_MAX, &FOUND, 1);
    removed(g, UINT64_MAX, 0);
    get_send(g->a, "k");
    struct want *w = want_at(g, 0);
    removed(g, w->token, 0);          /* is not what is owed */
    found(g, w->token, &FOUND, 5000); /* more than was asked */
    found(g, w->token, NULL, 0);      /* twice */
    assert_int_equal(get_answer(g->a, ""), YK_MISS);
    change_send(g->a, items, 2);
    uint64_t x = drop_at(g, 0)->token, y = drop_at(g, 1)->token;
    found(g, x, NULL, 0);
    removed(g, x, 0);
    removed(g, x, -YK_EIO);
    removed(g, x | 0xffull << 16, 0); /* an item that it has not */
    removed(g, y, YK_MISS);
    change_answer(g->a, status, 2);
    assert_int_equal(status[0], 0);
    assert_int_equal(status[1], YK_MISS);
}

static void a_connection_that_leaves_is_not_waited_for(void **state) {
    struct rig *g = *state;
    const char *keys[2] = {"k", "l"};
    struct peer *b = peer_join(g, "default", 0);
    get_send(b, "k");
    keys_send(b, YK_MSG_LOOKUP, keys, 2);
    struct want *w = want_at(g, 0), *v = want_at(g, 1);
    peer_leave(b);
    conns_are(g, 1);
    bring(g, w, "k", "bytes");
    found(g, v->token, NULL, 0);
    assert_int_equal(get(g->a, "k", "bytes"), 0);
    assert_int_equal(g->want_count, 2);
}

static void keys_that_are_looked_for_are_limited(void **state) {
    struct rig *g = *state;
    static char text[YK_BATCH_MAX][8];
    static const char *keys[YK_BATCH_MAX];
    static struct look look[YK_BATCH_MAX];
    for (unsigned i = 0; i < YK_BATCH_MAX; i++) {
        snprintf(text[i], sizeof(text[i]), "%u", i);
        keys[i] = text[i];
    }
    for (unsigned i = 0; i < 16; i++)
        keys_send(g->a, YK_MSG_EXISTS, keys, YK_BATCH_MAX);
    want_at(g, 15);
    keys_send(g->a, YK_MSG_LOOKUP, keys, YK_BATCH_MAX); /* is answered before them */
    lookup_answer(g->a, look, YK_BATCH_MAX);
    assert_int_equal(look[0].status, -YK_EAGAIN);
    assert_int_equal(get(g->a, "k", ""), YK_MISS);
    assert_int_equal(g->want_count, 16);
    for (unsigned i = 0; i < 16; i++)
        found(g, want_at(g, i)->token, NULL, 0);
    for (unsigned i = 0; i < 16; i++)
        exists_answer(g->a, YK_BATCH_MAX);
    get_send(g->a, "k");
    found(g, want_at(g, 16)->token, NULL, 0);
    assert_int_equal(get_answer(g->a, ""), YK_MISS);
}

static void after_its_end_the_node_is_alone(void **state) {
    struct rig *g = *state;
    struct item items[2] = {{YK_CHANGE_REMOVE, 0, "own"}, {YK_CHANGE_REMOVE, 0, "none"}};
    struct peer *b = peer_join(g, "default", 0), *d = peer_join(g, "default", 0);
    int32_t status[2];
    assert_int_equal(put(g->a, "own", "own"), 0);
    get_send(g->a, "k");
    change_send(b, items, 2);
    ns_send(d, YK_NS_CREATE, 5, "new");
    want_at(g, 0);
    drop_at(g, 1);
    space_at(g, 0);
    yk_node_pool_end(g->node);
    assert_int_equal(get_answer(g->a, ""), YK_MISS);
    change_answer(b, status, 2);
    assert_int_equal(status[0], -YK_ETIMEDOUT);
    assert_int_equal(status[1], -YK_ETIMEDOUT);
    assert_int_equal(ns_answer(d), -YK_ETIMEDOUT);
    uint32_t told = g->told;
    assert_int_equal(get(g->a, "k", ""), YK_MISS);
    change_send(b, items, 2);
    change_answer(b, status, 2);
    assert_int_equal(status[0], -YK_EAGAIN); /* gone here alone, it would come back from elsewhere */
    assert_int_equal(status[1], -YK_EAGAIN);
    assert_int_equal(get(g->a, "own", "own"), 0);
    ns_send(d, YK_NS_CREATE, 5, "new");
    assert_int_equal(ns_answer(d), -YK_EAGAIN);
    yk_node_pool_end(g->node);
    assert_int_equal(g->want_count, 1);
    assert_int_equal(g->drop_count, 2);
    assert_int_equal(g->space_count, 1);
    assert_int_equal(g->told, told);
    peer_leave(b);
    peer_leave(d);
}

static void a_stop_waits_for_no_answer(void **state) {
    struct rig *g = *state;
    struct item items[1] = {{YK_CHANGE_REMOVE, 0, "k"}};
    struct peer *b = peer_join(g, "default", 0);
    get_send(g->a, "k");
    want_at(g, 0);
    change_send(b, items, 1);
    drop_at(g, 0);
    peer_leave(b);
    rig_stop(g);
}

/* ---- removals and namespaces -------------------------------------------------------------------------- */

static void a_removal_is_the_pools(void **state) {
    struct rig *g = *state;
    struct item items[5] = {{YK_CHANGE_REMOVE, 0, "a"},
                            {YK_CHANGE_TOUCH, 0, "own"},
                            {YK_CHANGE_REMOVE, 0, "own"},
                            {YK_CHANGE_REMOVE, 0, ""},
                            {YK_CHANGE_REMOVE, 0, "b"}};
    int32_t status[5];
    assert_int_equal(put(g->a, "own", "own"), 0);
    change_send(g->a, items, 5);
    struct drop *a = drop_at(g, 0), *own = drop_at(g, 1), *b = drop_at(g, 2);
    assert_string_equal(a->key, "a");
    assert_string_equal(own->key, "own");
    assert_string_equal(b->key, "b");
    assert_int_equal(own->epoch, g->a->epoch);
    assert_true(own->deadline_ns > yk_now_ns());
    removed(g, b->token, -YK_ETIMEDOUT);
    removed(g, own->token, 0);
    removed(g, a->token, YK_MISS);
    change_answer(g->a, status, 5);
    assert_int_equal(status[0], YK_MISS);
    assert_int_equal(status[1], 0);
    assert_int_equal(status[2], 0);
    assert_int_equal(status[3], -YK_EKEY);
    assert_int_equal(status[4], -YK_ETIMEDOUT);
    assert_int_equal(get(g->a, "own", "own"), 0); /* this pool has not removed it */
    g->refuse = 1;
    change_send(g->a, &items[2], 1);
    change_answer(g->a, status, 1);
    assert_int_equal(status[0], -YK_EAGAIN);
    assert_int_equal(get(g->a, "own", "own"), 0);
}

static void a_removal_beside_a_verification_is_the_pools_too(void **state) {
    struct rig *g = *state;
    struct item items[3] = {{YK_CHANGE_VERIFY, 0, "own"}, {YK_CHANGE_REMOVE, 0, "own"}, {YK_CHANGE_VERIFY, 0, "k"}};
    int32_t status[3];
    assert_int_equal(put(g->a, "own", "own"), 0);
    change_send(g->a, items, 3);
    removed(g, drop_at(g, 0)->token, -YK_ETIMEDOUT);
    change_answer(g->a, status, 3);
    assert_int_equal(status[0], 0);
    assert_int_equal(status[1], -YK_ETIMEDOUT);
    assert_int_equal(status[2], YK_MISS); /* what is elsewhere is verified there */
    assert_int_equal(get(g->a, "own", "own"), 0);
    assert_int_equal(g->want_count, 0);
}

static void namespaces_are_the_clusters(void **state) {
    struct rig *g = *state;
    ns_send(g->a, YK_NS_CREATE, 1 << 20, "team");
    struct space *s = space_at(g, 0);
    assert_int_equal(s->what, YK_NS_CREATE);
    assert_int_equal(s->value, 1 << 20);
    assert_string_equal(s->ns, "team");
    removed(g, s->token, 0);
    assert_int_equal(ns_answer(g->a), 0);
    ns_send(g->a, YK_NS_RAISE, 9, "team");
    removed(g, space_at(g, 1)->token, -YK_ESTALE);
    assert_int_equal(ns_answer(g->a), -YK_ESTALE);
    ns_send(g->a, YK_NS_RAISE, 9, "team");
    removed(g, space_at(g, 2)->token, 0);
    assert_int_equal(ns_answer(g->a), 0);
    ns_send(g->a, YK_NS_RAISE, 7, "team"); /* the cluster has taken it; this node has heard of more */
    removed(g, space_at(g, 3)->token, 0);
    assert_int_equal(ns_answer(g->a), 0);
    ns_send(g->a, YK_NS_REMOVE, 0, "team");
    removed(g, space_at(g, 4)->token, 0);
    assert_int_equal(ns_answer(g->a), 0);
    ns_send(g->a, YK_NS_REMOVE, 0, "team"); /* the same: gone here already */
    removed(g, space_at(g, 5)->token, 0);
    assert_int_equal(ns_answer(g->a), 0);
    ns_send(g->a, YK_NS_REMOVE, 0, "team");
    removed(g, space_at(g, 6)->token, YK_MISS);
    assert_int_equal(ns_answer(g->a), -YK_ENONS);
    ns_send(g->a, YK_NS_RAISE, UINT64_MAX, "default"); /* is nobody's to ask */
    assert_int_equal(ns_answer(g->a), -YK_EINVAL);
    ns_send(g->a, YK_NS_CREATE, 0, "");
    assert_int_equal(ns_answer(g->a), -YK_EINVAL);
    g->refuse = 1;
    ns_send(g->a, YK_NS_CREATE, 0, "other");
    assert_int_equal(ns_answer(g->a), -YK_EAGAIN);
}

static void opening_a_namespace_asks_for_what_is_not_known(void **state) {
    struct rig *g = *state;
    struct peer *b = peer_open(g);
    hello_send(b, 0, "default", 0); /* known, at no epoch in particular */
    assert_int_equal(hello_answer(b, 0), 0);
    peer_leave(b);
    assert_int_equal(g->space_count, 0);
    b = peer_open(g);
    hello_send(b, YK_HELLO_LOOK, "new", 0); /* will not make it */
    assert_int_equal(hello_answer(b, 0), 0);
    assert_int_equal(b->ns, YK_NO_NS);
    peer_leave(b);
    assert_int_equal(g->space_count, 0);
    b = peer_open(g);
    hello_send(b, 0, "new", 4);
    struct space *s = space_at(g, 0);
    assert_int_equal(s->what, YK_POOL_NS_OPEN);
    assert_int_equal(s->value, 4);
    assert_string_equal(s->ns, "new");
    removed(g, s->token, 0);
    assert_int_equal(hello_answer(b, 0), 0);
    assert_int_equal(b->epoch, 4);
    peer_leave(b);
    b = peer_open(g);
    hello_send(b, 0, "new", 5);
    removed(g, space_at(g, 1)->token, -YK_ETIMEDOUT);
    assert_int_equal(hello_answer(b, 0), -YK_ETIMEDOUT);
    peer_leave(b);
    b = peer_open(g);
    hello_send(b, 0, "new", UINT64_MAX);
    assert_int_equal(hello_answer(b, 0), -YK_EINVAL);
    peer_leave(b);
    assert_int_equal(g->space_count, 2);
    b = peer_open(g);
    hello_send(b, 0, "", 5);
    assert_int_equal(hello_answer(b, 0), -YK_EINVAL);
    peer_leave(b);
    g->refuse = 1;
    b = peer_open(g);
    hello_send(b, 0, "more", 0);
    assert_int_equal(hello_answer(b, 0), -YK_EAGAIN);
    peer_leave(b);
    b = peer_open(g);
    hello_send(b, 0, "new", 4);
    assert_int_equal(hello_answer(b, 0), 0);
    peer_leave(b);
}

#define MAPS (YK_HELLO_MAP | YK_HELLO_FILTER)

/* Another connection of the same client. */
static struct peer *peer_again(struct rig *g, const struct peer *before) {
    struct peer *p = peer_open(g);
    p->slot = before->slot;
    p->cookie = before->cookie;
    p->heard = before->heard;
    return p;
}

/* A hello waits for the pool. Its client has made another connection since, and got places there: when the hello's
 * turn comes it speaks for nobody. (The old connection may stand open: a forked child has it, too.) */
static void a_hello_that_comes_late(void **state) {
    struct rig *g = *state;
    struct peer *first = peer_open(g), *late[2], *now, *next;
    struct yk_place place[2];
    first->heard = 0;
    hello_send(first, MAPS, "default", 0);
    assert_int_equal(hello_answer(first, MAPS), 0);
    for (uint32_t i = 0; i < 2; i++) {
        late[i] = peer_again(g, first);
        hello_send(late[i], MAPS, "new", 4);
        space_at(g, i);
    }
    now = peer_again(g, first);
    hello_send(now, MAPS, "default", 0);
    assert_int_equal(hello_answer(now, MAPS), 0);
    assert_int_equal(now->slot, first->slot);
    for (int i = 0; i < 2; i++)
        place[i] = reserve(now, 1000);
    removed(g, space_at(g, 0)->token, 0);
    assert_int_equal(hello_answer(late[0], MAPS), -YK_EGONE);
    assert_int_equal(give_back(now, &place[0]), 0);
    now->heard = place[1].gen;
    next = peer_again(g, now);
    peer_leave(now);
    conns_are(g, 4); /* those of the rig, of both that are late, and the next */
    removed(g, space_at(g, 1)->token, 0);
    assert_int_equal(hello_answer(late[1], MAPS), -YK_EGONE);
    hello_send(next, MAPS, "default", 0);
    assert_int_equal(hello_answer(next, MAPS), 0);
    assert_int_equal(give_back(next, &place[1]), 0);
    peer_leave(next);
    peer_leave(late[0]);
    peer_leave(late[1]);
    peer_leave(first);
}

/* ---- the filter, posts --------------------------------------------------------------------------------- */

static void the_filter_allows_every_key(void **state) {
    struct rig *g = *state;
    struct peer *b = peer_open(g);
    struct yk_filter f;
    struct stat st;
    hello_send(b, YK_HELLO_MAP | YK_HELLO_FILTER, "default", 0);
    assert_int_equal(hello_answer(b, YK_HELLO_MAP | YK_HELLO_FILTER), 0);
    assert_true(b->fds[3] >= 0);
    assert_int_equal(fstat(b->fds[3], &st), 0);
    assert_true((uint64_t)st.st_size >= b->filter_bytes);
    assert_true(mmap(NULL, 64, PROT_READ | PROT_WRITE, MAP_SHARED, b->fds[3], 0) == MAP_FAILED);
    void *mem = mmap(NULL, b->filter_bytes, PROT_READ, MAP_SHARED, b->fds[3], 0);
    assert_true(mem != MAP_FAILED);
    assert_int_equal(yk_filter_init(&f, mem, b->filter_bytes), 0);
    for (uint64_t i = 0; i < 1000; i++)
        assert_int_equal(yk_filter_maybe(&f, yk_hash64(&i, sizeof(i))), 1);
    munmap(mem, b->filter_bytes);
    peer_leave(b);
}

#define POSTS 1000u

struct order {
    struct rig *g;
    uint32_t at[POSTS], n;
    int late; /* what a post at the stop got */
};

struct numbered {
    struct order *o;
    uint32_t i;
};

static void count(void *arg, struct yk_store *store) {
    struct numbered *p = arg;
    (void)store;
    p->o->n++;
}

static void note(void *arg, struct yk_store *store) {
    struct numbered *p = arg;
    assert_non_null(store);
    p->o->at[p->o->n++] = p->i;
}

/* Posts itself as long as it may. */
static void post_again(void *arg, struct yk_store *store) {
    struct order *o = arg;
    (void)store;
    o->late = yk_node_post(o->g->node, post_again, o);
}

static void hold_back(void *arg, struct yk_store *store) {
    struct order *o = arg;
    (void)store;
    pthread_mutex_lock(&o->g->lock); /* the test has it until it has posted all */
    pthread_mutex_unlock(&o->g->lock);
}

static void posts_run_once_and_in_order(void **state) {
    struct rig *g = *state;
    static struct order o;
    static struct numbered p[POSTS];
    memset(&o, 0, sizeof(o));
    o.g = g;
    pthread_mutex_lock(&g->lock);
    assert_int_equal(yk_node_post(g->node, hold_back, &o), 0);
    for (uint32_t i = 0; i < POSTS; i++) {
        p[i] = (struct numbered){&o, i};
        assert_int_equal(yk_node_post(g->node, note, &p[i]), 0);
    }
    pthread_mutex_unlock(&g->lock);
    flush(g);
    assert_int_equal(o.n, POSTS);
    for (uint32_t i = 0; i < POSTS; i++)
        assert_int_equal(o.at[i], i);
    assert_int_equal(yk_node_post(g->node, post_again, &o), 0);
    assert_int_equal(put(g->a, "k", "own"), 0); /* others have their turns */
    rig_stop(g);
    assert_int_equal(o.late, -YK_ECLOSED); /* the last was run, and no more are taken */
}

static void posts_are_limited(void **state) {
    struct rig *g = *state;
    static struct order o;
    static struct numbered p;
    int rc;
    memset(&o, 0, sizeof(o));
    o.g = g;
    p = (struct numbered){&o, 0};
    uint32_t n = 0;
    pthread_mutex_lock(&g->lock);
    assert_int_equal(yk_node_post(g->node, hold_back, &o), 0);
    while ((rc = yk_node_post(g->node, count, &p)) == 0 && n <= YK_NODE_POSTS_MAX)
        n++;
    pthread_mutex_unlock(&g->lock);
    assert_int_equal(rc, -YK_EAGAIN);
    assert_in_range(n, YK_NODE_POSTS_MAX - 1u, YK_NODE_POSTS_MAX); /* the one that holds back is taken, or not yet */
    yk_node_pool_end(g->node); /* finds room all the same */
    flush(g);
    assert_int_equal(o.n, n);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        T(a_get_finds_what_the_pool_brought),
        T(what_is_nowhere_is_a_miss),
        T(what_is_here_is_not_asked_for),
        T(a_raise_waits_for_all_of_its_keys),
        T(a_prefetch_waits_for_nobody),
        T(a_pin_brings_the_block_here),
        T(a_lookup_asks_once_for_all_that_is_missing),
        T(exists_knows_blocks_of_other_nodes),
        T(a_match_is_a_chain),
        T(a_long_match_finds_its_answers),
        T(who_cannot_be_asked_is_not_taken_for_a_miss),
        T(a_pool_that_does_not_answer_is_not_waited_for),
        cmocka_unit_test_setup_teardown(requests_without_a_deadline_have_the_nodes, rig_begin_hasty, rig_end),
        T(answers_that_nobody_waits_for_are_ignored),
        T(a_connection_that_leaves_is_not_waited_for),
        T(keys_that_are_looked_for_are_limited),
        T(after_its_end_the_node_is_alone),
        T(a_stop_waits_for_no_answer),
        T(a_removal_is_the_pools),
        T(a_removal_beside_a_verification_is_the_pools_too),
        T(namespaces_are_the_clusters),
        T(opening_a_namespace_asks_for_what_is_not_known),
        T(a_hello_that_comes_late),
        T(the_filter_allows_every_key),
        T(posts_run_once_and_in_order),
        T(posts_are_limited),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
