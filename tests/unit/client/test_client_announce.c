/* SPDX-License-Identifier: Apache-2.0
 *
 * What a node whose policy learns hears of requests: chains that are matched, by the ring of a mapped handle and by the
 * message of another; what is announced with hints; that it learns from them beside its owner's thread, writes what
 * it has learned while it serves, and says what it thinks of a block.
 */
#include "fixture.h"

#include "base/clock.h"
#include "node/learned_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHAIN 300u

static void learns(struct yk_node_opts *o) {
    o->store.policy = "learned";
    o->store.capacity_blocks = 200;
}

static void start_with(struct fixture *f, void (*tune)(struct yk_node_opts *o)) {
    fixture_init(f, 0);
    f->tune = tune;
    fixture_start(f);
}

static void end(struct fixture *f) {
    fixture_stop(f);
    fixture_fini(f);
}

static struct yk_counters counters(const struct fixture *f) {
    struct yk_node_stats s;
    yk_node_stats(f->node, &s);
    return s.store;
}

static char names[CHAIN][16];

static const yk_key *chain_of(unsigned number) {
    static yk_key keys[CHAIN];
    for (unsigned i = 0; i < CHAIN; i++) {
        snprintf(names[i], sizeof(names[i]), "%u-%u", number, i);
        keys[i] = yk_key_str(names[i]);
    }
    return keys;
}

/* Both wait for the node, which looks at rings before it answers these. */
static void let_it_look(yk_client *c) {
    put_ok(c, "look", 10, 1);
    assert_status(yk_touch(c, yk_key_str("look")), 0);
}

static void test_a_match_is_heard(void **state) {
    struct fixture f;
    (void)state;
    start_with(&f, learns);
    yk_client *mapped = open_client(&f), *far = open_with(&f, YK_OPEN_NO_MAP | YK_OPEN_NO_XFER, 0);
    let_it_look(mapped);
    assert_int_equal(counters(&f).requests, 0);
    assert_int_equal(yk_match(mapped, chain_of(1), CHAIN, NULL), 0); /* none of them is there */
    assert_int_equal(yk_match(mapped, chain_of(2), CHAIN, NULL), 0);
    let_it_look(mapped);
    assert_int_equal(counters(&f).requests, 2);
    assert_int_equal(yk_match(far, chain_of(3), CHAIN, NULL), 0);
    assert_int_equal(counters(&f).requests, 3);
    assert_int_equal(yk_exists(far, yk_key_str("look")), 1); /* no request */
    assert_int_equal(yk_exists(mapped, yk_key_str("look")), 1);
    let_it_look(mapped);
    assert_int_equal(counters(&f).requests, 3);
    yk_close(mapped);
    yk_close(far);
    end(&f);
}

static void test_what_is_announced_is_not_heard_twice(void **state) {
    static const uint32_t flags[] = {0, YK_OPEN_NO_MAP | YK_OPEN_NO_XFER};
    yk_request q = {.size = sizeof(q), .output_length = 100, .stop = UINT32_MAX, .last_eighths = 3, .at_ms = UINT64_MAX};
    struct fixture f;
    (void)state;
    start_with(&f, learns);
    for (unsigned i = 0; i < 2; i++) {
        yk_client *c = open_with(&f, flags[i], 0);
        let_it_look(c);
        uint64_t before = counters(&f).requests;
        assert_status(yk_announce(c, chain_of(4), CHAIN, &q), 0);
        assert_int_equal(counters(&f).requests, before + 1);
        assert_int_equal(yk_match(c, chain_of(4), CHAIN, NULL), 0);
        let_it_look(c);
        assert_int_equal(counters(&f).requests, before + 1);
        assert_status(yk_announce(c, chain_of(4), 0, NULL), 0);
        assert_status(yk_announce(c, NULL, 3, NULL), -YK_EINVAL);
        yk_request no_size = {.output_length = 1};
        assert_status(yk_announce(c, chain_of(4), CHAIN, &no_size), -YK_EINVAL);
        yk_close(c);
    }
    end(&f);
}

static void test_a_node_that_does_not_learn_hears_nothing(void **state) {
    struct fixture f;
    (void)state;
    start_with(&f, NULL);
    yk_client *c = open_client(&f);
    let_it_look(c);
    uint64_t trips = STAT(c, round_trips);
    assert_status(yk_announce(c, chain_of(1), CHAIN, NULL), 0);
    assert_int_equal(STAT(c, round_trips), trips);
    assert_int_equal(yk_match(c, chain_of(1), CHAIN, NULL), 0);
    let_it_look(c);
    assert_int_equal(counters(&f).requests, 0);
    yk_close(c);
    end(&f);
}

static void use(yk_client *c, unsigned number) {
    static const size_t len = 100;
    const yk_key *keys = chain_of(number);
    unsigned char buf[100];
    size_t got;
    int run = yk_match(c, keys, 8, NULL);
    assert_true(run >= 0);
    for (int i = 7; i >= 0; i--) {
        yk_put_opts o = {.size = sizeof(o), .parent = i > 0 ? keys[i - 1] : (yk_key){NULL, 0}};
        if (i < run && yk_get(c, keys[i], buf, len, &got) == 0)
            continue;
        fill(buf, len, number * 8 + (unsigned)i);
        assert_status(yk_put(c, keys[i], buf, len, &o), 0);
    }
}

/* Chains come and go, and the node is stopped in the middle of whatever it does. */
static void test_it_learns_beside_its_owner(void **state) {
    struct fixture f;
    (void)state;
    start_with(&f, learns);
    yk_client *c = open_client(&f);
    uint64_t until = yk_now_ns() + 120 * YK_NS_PER_S;
    unsigned n = 0;
    for (; counters(&f).trainings < 3 && yk_now_ns() < until; n++)
        use(c, n % 3 != 0 ? n % 40 : n);
    assert_true(counters(&f).trainings >= 3);
    assert_true(counters(&f).requests > 100);
    assert_int_equal(counters(&f).blocks, 200);
    yk_close(c);
    end(&f);
}

static char kept[128]; /* the file of what was learned */

static void learns_and_keeps(struct yk_node_opts *o) {
    learns(o);
    o->store.learned_path = kept;
    o->learned_save_ms = 20;
}

static void remove_kept(void) {
    unlink(kept);
    *strrchr(kept, '/') = 0;
    assert_int_equal(rmdir(kept), 0); /* nothing is left beside it */
}

/* Written again and again beside requests, each time whole; what a node without its memory then finds is what it had. */
static void test_what_it_learns_is_kept_while_it_serves(void **state) {
    struct fixture f;
    struct stat before = {0}, now;
    struct yk_learned_file *file;
    unsigned versions = 0, n = 0;
    size_t len;
    (void)state;
    fixture_init(&f, 0);
    f.tune = learns_and_keeps;
    snprintf(kept, sizeof(kept), "%s/state/learned", f.dir); /* its folder is made */
    fixture_start(&f);
    yk_client *c = open_client(&f);
    uint64_t until = yk_now_ns() + 120 * YK_NS_PER_S;
    for (; (versions < 5 || counters(&f).trainings < 1) && yk_now_ns() < until; n++) {
        use(c, n % 3 != 0 ? n % 40 : n);
        if (stat(kept, &now) != 0 || now.st_ino == before.st_ino)
            continue;
        before = now;
        versions++;
        assert_int_equal(yk_learned_file_read(kept, &file, NULL), 0);
        assert_non_null(yk_learned_file_find(file, "default", 0, &len));
        yk_learned_file_free(file);
    }
    assert_true(versions >= 5);
    yk_close(c);
    fixture_stop(&f);
    fixture_start(&f);
    c = open_client(&f);
    use(c, 1);
    assert_int_equal(counters(&f).learned_loaded, 1);
    yk_close(c);
    fixture_stop(&f);
    remove_kept();
    fixture_fini(&f);
}

static void learns_keeps_and_settles(struct yk_node_opts *o) {
    learns_and_keeps(o);
    o->learned_save_ms = 1u << 30; /* by the stop alone */
    o->settle_ms = 20000;
    o->store.ssd.no_preload = 1;
}

/* A stop that writes blocks down empties the policies for it: what they had learned is kept from before. */
static void test_a_stop_keeps_what_was_learned_though_blocks_are_written_down(void **state) {
    struct fixture f;
    char *json = NULL;
    (void)state;
    fixture_init(&f, 0);
    f.tune = learns_keeps_and_settles;
    f.ssd = 64u * MIB;
    snprintf(kept, sizeof(kept), "%s/state/learned", f.dir);
    fixture_start(&f);
    for (int stopped = 0; stopped < 2; stopped++) {
        yk_client *c = open_client(&f);
        use(c, stopped);
        if (!stopped)
            use(c, 2);
        assert_status(yk_explain_json(c, chain_of(2)[3], &json), 0);
        assert_non_null(strstr(json, "\"in_lru\": true"));
        assert_non_null(strstr(json, "\"in_s3fifo\": true"));
        assert_non_null(strstr(json, "\"in_learned\": true"));
        free(json);
        yk_close(c);
        fixture_stop(&f);
        if (!stopped)
            fixture_start(&f);
    }
    remove_kept();
    fixture_fini(&f);
}

/* What could not be written is written when it can be, without a request more. */
static void test_what_was_not_kept_is_kept_later(void **state) {
    struct fixture f;
    char beside[160];
    struct stat st;
    (void)state;
    fixture_init(&f, 0);
    f.tune = learns_and_keeps;
    snprintf(kept, sizeof(kept), "%s/state", f.dir);
    assert_int_equal(mkdir(kept, 0700), 0);
    snprintf(kept, sizeof(kept), "%s/state/learned", f.dir);
    snprintf(beside, sizeof(beside), "%s.new", kept);
    assert_int_equal(mkfifo(beside, 0600), 0);
    int fd = open(beside, O_RDONLY | O_NONBLOCK);
    assert_true(fd >= 0);
    fixture_start(&f);
    yk_client *c = open_client(&f);
    put_ok(c, "one", 10, 1);
    yk_close(c);
    for (uint64_t until = yk_now_ns() + 60 * YK_NS_PER_S; stat(beside, &st) == 0 && S_ISFIFO(st.st_mode);)
        assert_true(yk_now_ns() < until);
    fixture_stop(&f);
    close(fd);
    assert_int_equal(stat(kept, &st), 0);
    remove_kept();
    fixture_fini(&f);
}

static void test_it_says_what_it_thinks(void **state) {
    struct fixture f;
    char *json = NULL;
    (void)state;
    start_with(&f, learns);
    yk_client *c = open_client(&f);
    use(c, 7);
    assert_status(yk_explain_json(c, chain_of(7)[3], &json), 0);
    assert_non_null(strstr(json, "\"here\""));
    assert_non_null(strstr(json, "\"from_tail\""));
    free(json);
    assert_status(yk_explain_json(c, yk_key_str("never seen"), &json), YK_MISS);
    assert_status(yk_explain_json(c, yk_key_str(""), &json), -YK_EKEY);
    assert_status(yk_explain_json(c, chain_of(7)[3], NULL), -YK_EINVAL);
    yk_close(c);
    end(&f);
    start_with(&f, NULL);
    c = open_client(&f);
    assert_status(yk_explain_json(c, chain_of(7)[3], &json), -YK_ENOTSUP);
    yk_close(c);
    end(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_match_is_heard),
        cmocka_unit_test(test_what_is_announced_is_not_heard_twice),
        cmocka_unit_test(test_a_node_that_does_not_learn_hears_nothing),
        cmocka_unit_test(test_it_learns_beside_its_owner),
        cmocka_unit_test(test_what_it_learns_is_kept_while_it_serves),
        cmocka_unit_test(test_a_stop_keeps_what_was_learned_though_blocks_are_written_down),
        cmocka_unit_test(test_what_was_not_kept_is_kept_later),
        cmocka_unit_test(test_it_says_what_it_thinks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
