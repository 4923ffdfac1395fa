/* SPDX-License-Identifier: Apache-2.0
 *
 * What changes and describes blocks, namespaces and the node, through libyolk against a real node;
 * access events; opening.
 */
#include "fixture.h"

#include "base/clock.h"

#include <sched.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

static const uint32_t both[2] = {0, YK_OPEN_NO_MAP};
#define EACH_HANDLE(f, c)                                                                          \
    for (int i_ = 0; i_ < 2; i_++)                                                                 \
        for (yk_client *c = open_with((f), both[i_], 20000); c != NULL; yk_close(c), c = NULL)

static yk_client *open_ns(struct fixture *f, const char *name, uint64_t epoch) {
    yk_open_opts o = {.size = sizeof(o), .name_space = name, .epoch = epoch};
    yk_client *c = NULL;
    check_status(yk_open(f->url, &o, &c), 0, name, __FILE__, __LINE__);
    return c;
}

static void changes_of_a_block(void **state) {
    yk_block_info info;
    EACH_HANDLE(*state, c) {
        yk_key k = yk_key_str("k"), none = yk_key_str("none");
        put_ok(c, "k", 1000, 1);
        assert_status(yk_touch(c, k), 0);
        assert_status(yk_pin(c, k, 60000), 0);
        assert_status(yk_stat(c, k, &info), 0);
        assert_int_equal(info.pinned, 1);
        assert_status(yk_pin(c, k, 0), 0);
        assert_status(yk_stat(c, k, &info), 0);
        assert_int_equal(info.pinned, 2);
        assert_status(yk_unpin(c, k), 0);
        assert_status(yk_expire(c, k, 3600000), 0);
        assert_status(yk_stat(c, k, &info), 0);
        assert_int_equal(info.pinned, 0);
        assert_in_range(info.expiry_ms, yk_wall_ms() + 3000000, yk_wall_ms() + 3600000);
        assert_status(yk_expire(c, k, 0), 0);
        assert_status(yk_stat(c, k, &info), 0);
        assert_int_equal(info.expiry_ms, 0);
        assert_status(yk_pin(c, k, 0), 0);
        assert_status(yk_remove(c, k), 0); /* a hard pin does not protect from it */
        assert_int_equal(yk_exists(c, k), 0);
        assert_status(yk_remove(c, k), YK_MISS);
        assert_status(yk_touch(c, none), YK_MISS);
        assert_status(yk_pin(c, none, 0), YK_MISS);
        assert_status(yk_unpin(c, none), YK_MISS);
        assert_status(yk_expire(c, none, 1), YK_MISS);
    }
}

static void a_time_to_live_ends(void **state) {
    EACH_HANDLE(*state, c) {
        yk_put_opts o = {.size = sizeof(o), .ttl_ms = 30};
        yk_key k = yk_key_str(i_ == 0 ? "t0" : "t1");
        assert_status(yk_put(c, k, "x", 1, &o), 0);
        uint64_t end = yk_now_ns() + 10 * YK_NS_PER_S;
        while (yk_exists(c, k) == 1 && yk_now_ns() < end)
            sched_yield();
        assert_int_equal(yk_exists(c, k), 0);
        assert_status(yk_stat(c, k, NULL), YK_MISS);
    }
}

/* A put of what is there leaves it as that put wanted it. */
static void a_put_again_brings_expiry_and_pin_up_to_date(void **state) {
    yk_client *c = open_client(*state);
    yk_block_info info;
    yk_key k = yk_key_str("k");
    yk_put_opts o = {.size = sizeof(o), .ttl_ms = 60000};
    assert_status(yk_put(c, k, "x", 1, &o), 0);
    o.ttl_ms = 3600000;
    o.flags = YK_PUT_SOFT_PIN;
    o.pin_ms = 60000;
    assert_status(yk_put(c, k, "x", 1, &o), 0);
    assert_status(yk_stat(c, k, &info), 0);
    assert_true(info.expiry_ms > yk_wall_ms() + 3000000);
    assert_int_equal(info.pinned, 1);
    assert_status(yk_put(c, k, "x", 1, NULL), 0); /* for ever; a pin is not taken off */
    assert_status(yk_stat(c, k, &info), 0);
    assert_int_equal(info.expiry_ms, 0);
    o.flags = YK_PUT_HARD_PIN;
    o.ttl_ms = 0;
    assert_status(yk_put(c, k, "x", 1, &o), 0);
    assert_status(yk_stat(c, k, &info), 0);
    assert_int_equal(info.pinned, 2);
    yk_close(c);
}

static void batch_removal(void **state) {
    EACH_HANDLE(*state, c) {
        uint64_t n = 99;
        char key[24];
        for (int i = 0; i < 100; i++) {
            snprintf(key, sizeof(key), "%s/%d", i % 2 ? "odd" : "even", i);
            put_ok(c, key, 100, (uint64_t)i);
        }
        assert_status(yk_remove_many(c, YK_REMOVE_PREFIX, yk_key_str("odd/9"), &n), 0);
        assert_int_equal(n, 6); /* 9, 91, 93, 95, 97, 99 */
        assert_status(yk_remove_many(c, YK_REMOVE_GLOB, yk_key_str("e*/[2-4]"), &n), 0);
        assert_int_equal(n, 2);
        assert_int_equal(yk_exists(c, yk_key_str("even/4")), 0);
        assert_int_equal(yk_exists(c, yk_key_str("even/6")), 1);
        assert_status(yk_remove_many(c, YK_REMOVE_ALL, (yk_key){NULL, 0}, &n), 0);
        assert_int_equal(n, 92);
        assert_status(yk_remove_many(c, YK_REMOVE_ALL, (yk_key){NULL, 0}, NULL), 0);
        assert_status(yk_remove_many(c, 7, yk_key_str("x"), NULL), -YK_EINVAL);
    }
}

struct seen {
    int count, stop_at;
    uint64_t bytes;
    yk_client *c;
};

static int see(void *arg, yk_key key, const yk_block_info *info) {
    struct seen *s = arg;
    assert_true(key.len > 4 && memcmp(key.data, "list", 4) == 0);
    s->bytes += info->len;
    assert_int_equal(yk_exists(s->c, key), 1); /* calls are allowed in here */
    return ++s->count == s->stop_at ? 77 : 0;
}

static void listing(void **state) {
    EACH_HANDLE(*state, c) {
        char key[24];
        struct seen s = {.c = c};
        yk_op ops[500];
        char names[500][16];
        struct iovec one = {(char[]){"x"}, 1};
        memset(ops, 0, sizeof(ops));
        for (int b = 0; b < 5; b++) {
            for (int i = 0; i < 500; i++) {
                snprintf(names[i], sizeof(names[i]), "list%d", b * 500 + i);
                ops[i] = (yk_op){
                    .opcode = YK_OP_PUT, .key = yk_key_str(names[i]), .iov = &one, .iov_count = 1};
            }
            assert_int_equal(yk_run(c, ops, 500, 0), 500);
        }
        snprintf(key, sizeof(key), "other%d", i_);
        put_ok(c, key, 10, 1);
        assert_status(yk_list(c, yk_key_str("list"), see, &s), 0);
        assert_int_equal(s.count, 2500);
        assert_int_equal(s.bytes, 2500);
        s = (struct seen){.c = c, .stop_at = 3};
        assert_int_equal(yk_list(c, yk_key_str("list"), see, &s), 77);
        assert_int_equal(s.count, 3);
        assert_status(yk_list(c, yk_key_str("nothing"), see, &s), 0);
        assert_status(yk_list(c, yk_key_str("x"), NULL, NULL), -YK_EINVAL);
    }
}

static void namespaces_are_apart(void **state) {
    struct fixture *f = *state;
    yk_client *a = open_ns(f, "a", 0), *b = open_ns(f, "b", 0);
    yk_ns_info infos[8];
    put_ok(a, "k", 1000, 1);
    assert_int_equal(yk_exists(b, yk_key_str("k")), 0);
    put_ok(b, "k", 1000, 2);
    assert_status(get_is(a, "k", 1000, 1), 0);
    assert_status(get_is(b, "k", 1000, 2), 0);
    assert_status(yk_ns_create(a, "c", 5000), 0);
    int n = yk_ns_list(a, infos, 8);
    assert_int_equal(n, 3);
    assert_int_equal(yk_ns_list(a, NULL, 0), 3);
    uint64_t quota = 0, blocks = 0;
    for (int i = 0; i < n; i++) {
        quota += infos[i].quota_bytes;
        blocks += infos[i].blocks;
    }
    assert_int_equal(quota, 5000);
    assert_int_equal(blocks, 2);
    yk_client *c = open_ns(f, "c", 0);
    for (int i = 0; i < 20; i++) {
        char key[8];
        snprintf(key, sizeof(key), "q%d", i);
        put_ok(c, key, 1000, (uint64_t)i);
    }
    static const char big[6000];
    assert_status(yk_put(c, yk_key_str("big"), big, sizeof(big), NULL), -YK_EQUOTA);
    assert_status(yk_ns_remove(a, "b"), 0);
    assert_status(get_is(b, "k", 1000, 2), YK_MISS);
    assert_status(yk_put(b, yk_key_str("k"), "x", 1, NULL), -YK_ENONS);
    assert_status(yk_ns_remove(a, "b"), -YK_ENONS);
    assert_non_null(strstr(yk_error_text(a), "b"));
    assert_status(yk_ns_create(a, "", 0), -YK_EINVAL);
    yk_close(a);
    yk_close(b);
    yk_close(c);
}

static yk_ns_info info_of(yk_client *c, const char *name) {
    yk_ns_info infos[8];
    int n = yk_ns_list(c, infos, 8);
    for (int i = 0; i < n; i++)
        if (strcmp(infos[i].name, name) == 0)
            return infos[i];
    fail_msg("there is no namespace %s", name);
    return infos[0];
}

/* Kept whether or not the node's policy divides its memory; this one's does not. */
static void a_namespace_is_promised_memory(void **state) {
    struct fixture *f = *state;
    yk_client *a = open_ns(f, "a", 0);
    assert_true(info_of(a, "a").guarantee_bytes == 0 && info_of(a, "a").priority == 0);
    assert_status(yk_ns_set_guarantee(a, "a", 5u << 20), 0);
    assert_status(yk_ns_set_priority(a, "a", YK_PRIORITY_MAX), 0);
    yk_ns_info info = info_of(a, "a");
    assert_true(info.guarantee_bytes == 5u << 20 && info.priority == YK_PRIORITY_MAX);
    assert_true(info.guaranteed_bytes == 0 && info.share_bytes == 0 && info.share_hit_ratio == 0);
    assert_status(yk_ns_create(a, "a", 7u << 20), 0); /* its quota, and nothing else */
    assert_true(info_of(a, "a").quota_bytes == 7u << 20 && info_of(a, "a").guarantee_bytes == 5u << 20);
    assert_status(yk_ns_set_guarantee(a, "a", INT64_MAX), 0);
    assert_status(yk_ns_set_guarantee(a, "a", (uint64_t)INT64_MAX + 1), -YK_EINVAL);
    assert_status(yk_ns_set_priority(a, "a", YK_PRIORITY_MAX + 1), -YK_EINVAL);
    assert_true(info_of(a, "a").guarantee_bytes == INT64_MAX && info_of(a, "a").priority == YK_PRIORITY_MAX);
    assert_status(yk_ns_set_guarantee(a, "nobody's", 1), -YK_ENONS);
    assert_status(yk_ns_set_priority(a, "nobody's", 1), -YK_ENONS);
    assert_status(yk_ns_set_priority(a, "", 1), -YK_EINVAL);
    yk_close(a);
}

static int count_blocks(void *arg, yk_key key, const yk_block_info *info) {
    (void)key;
    (void)info;
    ++*(int *)arg;
    return 0;
}

/* What only looks makes no namespace: a name that nobody has is a miss, and stays free. */
static void looking_makes_no_namespace(void **state) {
    struct fixture *f = *state;
    yk_client *other = open_ns(f, "other", 0);
    for (int i = 0; i < 2; i++) {
        yk_open_opts o = {
            .size = sizeof(o), .flags = both[i] | YK_OPEN_LOOK, .name_space = "none", .epoch = 7};
        yk_key k = yk_key_str("k");
        yk_client *c = NULL;
        char buf[8];
        size_t len;
        int listed = 0;
        yk_ref ref;
        uint64_t removed;
        assert_status(yk_open(f->url, &o, &c), 0);
        assert_int_equal(yk_exists(c, k), 0);
        assert_int_equal(yk_match(c, &k, 1, NULL), 0);
        assert_status(yk_stat(c, k, NULL), YK_MISS);
        assert_status(yk_get(c, k, buf, sizeof(buf), &len), YK_MISS);
        assert_status(yk_ref_get(c, k, &ref), YK_MISS);
        assert_int_equal(yk_prefetch(c, &k, 1, YK_TIER_ANY, 100), 0);
        assert_status(yk_verify(c, &k, 1), -YK_ENONS);
        assert_status(yk_put(c, k, "x", 1, NULL), -YK_ENONS);
        static const char large[200000];
        assert_status(yk_put(c, k, large, sizeof(large), NULL), -YK_ENONS);
        assert_status(yk_remove(c, k), -YK_ENONS);
        assert_status(yk_touch(c, k), -YK_ENONS);
        assert_status(yk_remove_many(c, YK_REMOVE_ALL, (yk_key){NULL, 0}, &removed), -YK_ENONS);
        assert_status(yk_list(c, (yk_key){NULL, 0}, count_blocks, &listed), -YK_ENONS);
        assert_int_equal(listed, 0);
        assert_int_equal(yk_ns_list(c, NULL, 0), 1);
        /* It serves what is of the node, and another's namespace, not one that came meanwhile. */
        assert_status(yk_ns_raise_epoch(c, "other", 3 + (uint64_t)i), 0);
        yk_client *maker = open_ns(f, "none", 7);
        put_ok(maker, "k", 100, 1);
        assert_status(yk_stat(c, k, NULL), YK_MISS);
        yk_close(c);
        assert_status(yk_open(f->url, &o, &c), 0);
        assert_status(get_is(c, "k", 100, 1), 0);
        assert_status(yk_ns_remove(c, "none"), 0);
        yk_close(c);
        yk_close(maker);
    }
    yk_close(other);
}

/* A handle that connects again, and finds the namespace there by then, takes it at its own epoch only. */
static void a_looking_handle_keeps_its_epoch(void **state) {
    struct fixture *f = *state;
    for (int later = 0; later < 2; later++) {
        yk_open_opts o = {.size = sizeof(o),
                          .flags = YK_OPEN_LOOK,
                          .name_space = later ? "a" : "b",
                          .epoch = 5,
                          .timeout_ms = 20000};
        yk_client *c = NULL;
        assert_status(yk_open(f->url, &o, &c), 0);
        yk_client *maker = open_ns(f, o.name_space, later ? 6 : 5);
        put_ok(maker, "k", 100, 1);
        yk_close(maker);
        fixture_stop(f);
        fixture_start(f);
        maker = open_ns(f, o.name_space, later ? 6 : 5);
        put_ok(maker, "k", 100, 1);
        int rc = yk_touch(c, yk_key_str("k")); /* it notices, and connects again */
        if (later) {
            assert_int_equal(rc, -YK_ESTALE);
            assert_int_equal(yk_exists(c, yk_key_str("k")), 0);
        } else {
            assert_int_equal(rc, 0);
            assert_status(get_is(c, "k", 100, 1), 0);
        }
        yk_close(maker);
        yk_close(c);
    }
}

static void raising_the_epoch_hides_older_blocks(void **state) {
    struct fixture *f = *state;
    for (int i = 0; i < 2; i++) {
        const char *name = i == 0 ? "e" : "f";
        yk_client *a = open_ns(f, name, 5), *old = open_ns(f, name, 0);
        yk_open_opts o = {.size = sizeof(o), .name_space = name, .epoch = 4};
        yk_client *none;
        put_ok(a, "k", 1000, 1);
        assert_status(get_is(old, "k", 1000, 1), 0);
        assert_status(yk_ns_raise_epoch(a, name, 9), 0);
        assert_int_equal(yk_exists(a, yk_key_str("k")), 0);
        assert_status(get_is(old, "k", 1000, 1), YK_MISS);
        put_ok(a, "k", 1000, 2); /* with the new epoch */
        assert_status(get_is(a, "k", 1000, 2), 0);
        assert_status(yk_put(old, yk_key_str("x"), "x", 1, NULL), -YK_ESTALE);
        assert_status(yk_ns_raise_epoch(a, name, 8), -YK_ESTALE);
        assert_status(yk_open(f->url, &o, &none), -YK_ESTALE);
        assert_non_null(strstr(yk_error_text(NULL), "9"));
        yk_close(a);
        yk_close(old);
    }
}

/* More of them are in the way than the node evicts in one turn of its loop. */
static void a_large_put_makes_room_in_a_quota_of_tiny_blocks(void **state) {
    enum { N = 3000 };
    static yk_op ops[N];
    static char keys[N][8];
    struct iovec one = {(char *)"x", 1};
    EACH_HANDLE(*state, c) {
        yk_reservation r;
        for (int in_place = 0; in_place < 2; in_place++) {
            assert_status(yk_ns_create(c, "default", 2 * N), 0);
            for (int i = 0; i < N; i++) {
                snprintf(keys[i], sizeof(keys[i]), "%d", i);
                ops[i] = (yk_op){
                    .opcode = YK_OP_PUT, .key = yk_key_str(keys[i]), .iov = &one, .iov_count = 1};
            }
            assert_int_equal(yk_run(c, ops, N, 0), N);
            assert_status(yk_ns_create(c, "default", N), 0);
            if (!in_place) {
                put_ok(c, "large", N - 10, 1);
            } else if (i_ == 0) {
                assert_status(yk_reserve(c, N - 10, 0, &r), 0);
                fill(r.data, N - 10, 1);
                assert_status(yk_commit(c, &r, yk_key_str("large"), NULL), 0);
            }
            assert_status(get_is(c, "large", N - 10, 1), in_place && i_ == 1 ? YK_MISS : 0);
            assert_status(yk_remove_many(c, YK_REMOVE_ALL, yk_key_str(""), NULL), 0);
        }
    }
}

/* A put whose payload was computed with the old weights, by the handle that raises the epoch. */
static void a_put_under_way_stays_in_its_epoch(void **state) {
    yk_client *c = open_client(*state);
    char data[1000];
    yk_reservation r;
    yk_op *ended;
    struct iovec iov = {data, sizeof(data)};
    yk_op op = {.opcode = YK_OP_PUT, .key = yk_key_str("batch"), .iov = &iov, .iov_count = 1};
    fill(data, sizeof(data), 1);
    assert_status(yk_reserve(c, 1000, 0, &r), 0);
    memcpy(r.data, data, sizeof(data));
    iov.iov_len = 900; /* of this length nothing is held: it asks for a place first */
    assert_status(yk_submit(c, &op, 1, 0), 0);
    assert_status(yk_ns_raise_epoch(c, "default", 50), 0);
    assert_int_equal(yk_poll(c, &ended, 1, 20000), 1);
    assert_int_equal(op.status, -YK_ESTALE);
    assert_status(yk_commit(c, &r, yk_key_str("in place"), NULL), -YK_ESTALE);
    assert_int_equal(yk_exists(c, yk_key_str("batch")), 0);
    assert_int_equal(yk_exists(c, yk_key_str("in place")), 0);
    put_ok(c, "batch", 900, 2); /* what begins now is of the new one */
    assert_status(get_is(c, "batch", 900, 2), 0);
    yk_close(c);
}

static void prefetch_and_statistics(void **state) {
    EACH_HANDLE(*state, c) {
        yk_key keys[2] = {yk_key_str("k"), yk_key_str("l")};
        char *json = NULL;
        put_ok(c, "k", 10, 1);
        assert_int_equal(yk_prefetch(c, keys, 2, YK_TIER_DRAM, 100), 0);
        assert_non_null(strstr(yk_error_text(c), "tier"));
        assert_status(yk_prefetch(c, keys, 2, 99, 100), -YK_EINVAL);
        assert_status(yk_stats_json(c, &json), 0);
        assert_int_equal(json[0], '{');
        assert_non_null(strchr(json, '}'));
        free(json);
        assert_status(yk_stats_json(c, NULL), -YK_EINVAL);
    }
}

/* More gets than the access ring holds, while the node sleeps: it is asked to drain, so that none
 * is lost. What only looks counts as no access. */
static void accesses_reach_a_node_that_dozes(void **state) {
    struct fixture *f = *state;
    yk_client *c = open_client(f);
    struct yk_node_stats before, after;
    yk_ref r;
    put_ok(c, "k", 100, 1);
    assert_status(yk_touch(c, yk_key_str("k")), 0);
    yk_node_stats(f->node, &before);
    for (int i = 0; i < 3000; i++)
        assert_int_equal(yk_exists(c, yk_key_str("k")), 1);
    for (int i = 0; i < 20000; i++) {
        assert_status(yk_ref_get(c, yk_key_str("k"), &r), 0);
        yk_ref_release(c, &r);
        if (i % 1000 == 0) /* lets the node's thread run on a busy machine */
            sched_yield();
    }
    uint64_t end = yk_now_ns() + 10 * YK_NS_PER_S;
    do {
        put_ok(c, "k2", 100, 1);
        assert_status(yk_remove(c, yk_key_str("k2")), 0); /* a commit drains */
        yk_node_stats(f->node, &after);
    } while (after.store.events + after.store.events_lost <
                 before.store.events + before.store.events_lost + 20000 &&
             yk_now_ns() < end);
    uint64_t seen = after.store.events - before.store.events;
    uint64_t lost = after.store.events_lost - before.store.events_lost;
    assert_int_equal(seen + lost, 20000);
    assert_true(seen >= 4096); /* more than one ring's worth: it was asked */
    yk_close(c);
}

static void opening_says_what_is_wrong(void **state) {
    struct fixture *f = *state;
    yk_client *c = (yk_client *)state;
    yk_open_opts o = {.size = sizeof(o)};
    assert_status(yk_open("unix:/nowhere/at/all", NULL, &c), -YK_EGONE);
    assert_non_null(strstr(yk_error_text(NULL), "/nowhere/at/all"));
    assert_status(yk_open("http://x", NULL, &c), -YK_EINVAL);
    assert_status(yk_open("tcp:127.0.0.1:0x", NULL, &c), -YK_EINVAL);
    assert_status(yk_open(f->url, NULL, NULL), -YK_EINVAL);
    o.flags = 1u << 20;
    assert_status(yk_open(f->url, &o, &c), -YK_EINVAL);
    o.flags = 0;
    o.name_space = "";
    assert_status(yk_open(f->url, &o, &c), -YK_EINVAL);
    o.name_space = "1234567890123456789012345678901234567890123456789012345678901234";
    assert_status(yk_open(f->url, &o, &c), -YK_EINVAL);
    assert_string_equal(yk_error_text(NULL),
                        "the namespace's name has 64 bytes, expected 1 to 63");
    o.name_space = NULL;
    o.inflight_max = 1u << 30;
    assert_status(yk_open(f->url, &o, &c), -YK_EINVAL);
    o.inflight_max = 0;
    o.size = 4;
    assert_status(yk_open(f->url, &o, &c), -YK_EINVAL);
    assert_ptr_equal(c, state); /* untouched */
    assert_status(yk_client_stats_get(NULL, NULL, 0), -YK_EINVAL);
    assert_status(yk_open(f->url, NULL, &c), 0);
    put_ok(c, "k", 10, 1);
    assert_status(yk_ref_get(c, yk_key_str("k"), NULL), -YK_EINVAL);
    yk_close(c);
    yk_close(NULL);
    yk_client *many[20];
    int n = 0, rc = 0;
    while (n < 20 && (rc = yk_open(f->url, NULL, &many[n])) == 0)
        n++;
    assert_status(rc, -YK_ELIMIT);
    assert_int_equal(n, (int)f->max_clients - 1);
    yk_close(many[0]);
    assert_status(yk_open(f->url, NULL, &many[0]), 0); /* the slot is free again */
    for (int i = 0; i < n; i++)
        yk_close(many[i]);
}

/* Without descriptors every step fails as a failure, and none takes another's descriptor for its own. */
static void no_descriptor_is_left(void **state) {
    struct fixture *f = *state;
    struct rlimit old, few;
    yk_client *c = (yk_client *)state, *open = open_client(f);
    int next = dup(0);
    assert_true(next >= 0);
    close(next);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    for (int more = 0; more < 2; more++) { /* with one more the socket fails, and not the eventfd */
        few = old;
        few.rlim_cur = (rlim_t)(next + more);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
        int rc = yk_open(f->url, NULL, &c), fd = yk_fd(open);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
        assert_status(rc, -YK_EIO);
        assert_ptr_equal(c, state);
        assert_status(fd, -YK_EIO);
    }
    assert_true(yk_fd(open) >= 0);
    put_ok(open, "k", 100, 1);
    assert_status(get_is(open, "k", 100, 1), 0);
    yk_close(open);
}

static void small_things(void **state) {
    (void)state;
    assert_string_equal(yk_version(), YK_VERSION);
    assert_string_equal(yk_strstatus(-YK_ENOSPC), "ENOSPC");
    assert_string_equal(yk_strerror(-YK_EKEY), "key is empty or longer than 255 bytes");
    assert_int_equal(yk_key_str("abc").len, 3);
    assert_int_equal(yk_key_str(NULL).len, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(changes_of_a_block, with_node, without_node),
        cmocka_unit_test_setup_teardown(a_time_to_live_ends, with_node, without_node),
        cmocka_unit_test_setup_teardown(a_put_again_brings_expiry_and_pin_up_to_date, with_node,
                                        without_node),
        cmocka_unit_test_setup_teardown(batch_removal, with_node, without_node),
        cmocka_unit_test_setup_teardown(listing, with_node, without_node),
        cmocka_unit_test_setup_teardown(namespaces_are_apart, with_node, without_node),
        cmocka_unit_test_setup_teardown(a_namespace_is_promised_memory, with_node, without_node),
        cmocka_unit_test_setup_teardown(looking_makes_no_namespace, with_node, without_node),
        cmocka_unit_test_setup_teardown(a_looking_handle_keeps_its_epoch, with_node, without_node),
        cmocka_unit_test_setup_teardown(raising_the_epoch_hides_older_blocks, with_node,
                                        without_node),
        cmocka_unit_test_setup_teardown(a_large_put_makes_room_in_a_quota_of_tiny_blocks, with_node,
                                        without_node),
        cmocka_unit_test_setup_teardown(a_put_under_way_stays_in_its_epoch, with_node,
                                        without_node),
        cmocka_unit_test_setup_teardown(prefetch_and_statistics, with_node, without_node),
        cmocka_unit_test_setup_teardown(accesses_reach_a_node_that_dozes, with_node, without_node),
        cmocka_unit_test_setup_teardown(opening_says_what_is_wrong, with_node, without_node),
        cmocka_unit_test_setup_teardown(no_descriptor_is_left, with_node, without_node),
        cmocka_unit_test(small_things),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
