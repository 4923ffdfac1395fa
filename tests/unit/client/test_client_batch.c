/* SPDX-License-Identifier: Apache-2.0
 *
 * Batches and the asynchronous form against a real node: order, exactly one end for each operation,
 * limits, cancel, deadlines, many threads on one handle.
 */
#include "fixture.h"

#include "base/clock.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>

#define N 300

struct item {
    char key[24];
    struct iovec iov;
    char buf[2000];
};

static const uint32_t both[2] = {0, YK_OPEN_NO_MAP};
#define EACH_HANDLE(f, c)                                                                          \
    for (int i_ = 0; i_ < 2; i_++)                                                                 \
        for (yk_client *c = open_with((f), both[i_], 20000); c != NULL; yk_close(c), c = NULL)

static size_t len_of(int i) {
    return 1000 + (size_t)(i % 7) * 100;
}

/* Makes n operations on keys of a name. */
static void make(yk_op *ops, struct item *items, int n, uint32_t opcode, const char *name) {
    memset(ops, 0, sizeof(*ops) * (size_t)n);
    for (int i = 0; i < n; i++) {
        snprintf(items[i].key, sizeof(items[i].key), "%s/%d", name, i);
        items[i].iov = (struct iovec){items[i].buf, len_of(i)};
        if (opcode == YK_OP_PUT)
            fill(items[i].buf, len_of(i), (uint64_t)i);
        else
            memset(items[i].buf, 0, sizeof(items[i].buf));
        ops[i].opcode = opcode;
        ops[i].key = yk_key_str(items[i].key);
        ops[i].iov = &items[i].iov;
        ops[i].iov_count = 1;
        ops[i].user = &items[i];
    }
}

static struct item items[N], more[N];
static yk_op ops[N], later[N];

static void batches_of_each_kind(void **state) {
    EACH_HANDLE(*state, c) {
        const char *name = i_ == 0 ? "a" : "b";
        make(ops, items, N, YK_OP_PUT, name);
        assert_int_equal(yk_run(c, ops, N, 0), N);
        make(ops, items, N, YK_OP_GET, name);
        snprintf(items[5].key, sizeof(items[5].key), "none");
        ops[5].key = yk_key_str(items[5].key);
        assert_int_equal(yk_run(c, ops, N, 0), N - 1);
        for (int i = 0; i < N; i++) {
            assert_status(ops[i].status, i == 5 ? YK_MISS : 0);
            if (i == 5)
                continue;
            assert_int_equal(ops[i].len, len_of(i));
            assert_true(is_filled(items[i].buf, len_of(i), (uint64_t)i));
        }
        make(ops, items, N, YK_OP_EXISTS, name);
        assert_int_equal(yk_run(c, ops, N, 0), N);
        make(ops, items, N, YK_OP_TOUCH, name);
        assert_int_equal(yk_run(c, ops, N, 0), N);
        make(ops, items, N, YK_OP_PIN, name);
        ops[0].arg = 1000;
        assert_int_equal(yk_run(c, ops, N, 0), N);
        yk_block_info info;
        assert_status(yk_stat(c, ops[0].key, &info), 0);
        assert_int_equal(info.pinned, 1);
        assert_status(yk_stat(c, ops[1].key, &info), 0);
        assert_int_equal(info.pinned, 2);
        make(ops, items, N, YK_OP_UNPIN, name);
        assert_int_equal(yk_run(c, ops, N, 0), N);
        assert_status(yk_stat(c, ops[1].key, &info), 0);
        assert_int_equal(info.pinned, 0);
        make(ops, items, N, YK_OP_EXPIRE, name);
        ops[7].arg = 3600000;
        assert_int_equal(yk_run(c, ops, N, 0), N);
        assert_status(yk_stat(c, ops[7].key, &info), 0);
        assert_true(info.expiry_ms > yk_wall_ms() + 3500000);
        make(ops, items, N, YK_OP_GET_RANGE, name);
        for (int i = 0; i < N; i++) {
            ops[i].arg = 100;
            items[i].iov.iov_len = 50;
        }
        assert_int_equal(yk_run(c, ops, N, 0), N);
        make(later, more, N, YK_OP_PUT, name);
        assert_memory_equal(items[9].buf, more[9].buf + 100, 50);
        make(ops, items, N, YK_OP_REMOVE, name);
        assert_int_equal(yk_run(c, ops, N, 0), N);
        assert_int_equal(yk_run(c, ops, N, 0), 0);
        assert_int_equal(ops[3].status, YK_MISS);
    }
}

static void operations_of_a_key_keep_their_order(void **state) {
    EACH_HANDLE(*state, c) {
        char one[3] = "111", two[3] = "222", got[6][3];
        struct iovec src[2] = {{one, 3}, {two, 3}}, dst[6];
        yk_put_opts up = {.size = sizeof(up), .flags = YK_PUT_UPSERT};
        yk_op o[9];
        memset(o, 0, sizeof(o));
        memset(got, 0, sizeof(got));
        static const uint32_t code[9] = {YK_OP_GET,    YK_OP_PUT, YK_OP_GET,
                                         YK_OP_PUT,    YK_OP_GET, YK_OP_REMOVE,
                                         YK_OP_EXISTS, YK_OP_PUT, YK_OP_GET};
        for (int round = 0; round < 2; round++) {
            for (int i = 0, g = 0; i < 9; i++) {
                o[i].opcode = code[i];
                o[i].key = yk_key_str(i_ == 0 ? "k0" : "k1");
                if (code[i] == YK_OP_PUT)
                    o[i].iov = &src[i == 3];
                else if (code[i] == YK_OP_GET) {
                    dst[g] = (struct iovec){got[g], 3};
                    o[i].iov = &dst[g++];
                }
                o[i].iov_count = 1;
                o[i].put = &up;
            }
            int rc = yk_run(c, o, 9, 0);
            assert_int_equal(o[0].status, round == 0 ? YK_MISS : 0);
            for (int i = 1; i < 9; i++)
                assert_int_equal(o[i].status, i == 6 ? YK_MISS : 0);
            assert_int_equal(rc, 7 + round);
            assert_memory_equal(got[1], "111", 3);
            assert_memory_equal(got[2], "222", 3);
            assert_memory_equal(got[3], "111", 3);
        }
    }
}

static void a_batch_says_which_operations_are_bad(void **state) {
    EACH_HANDLE(*state, c) {
        make(ops, items, 6, YK_OP_PUT, i_ == 0 ? "x" : "y");
        ops[1].key.len = 0;
        ops[2].opcode = 99;
        ops[3].iov_count = -1;
        ops[4].flags = 1;
        assert_int_equal(yk_run(c, ops, 6, 0), 2);
        assert_int_equal(ops[1].status, -YK_EKEY);
        assert_int_equal(ops[2].status, -YK_EINVAL);
        assert_int_equal(ops[3].status, -YK_EINVAL);
        assert_int_equal(ops[4].status, -YK_EINVAL);
        yk_op none = {.opcode = 99}; /* has no key, but that is not what is wrong with it */
        assert_int_equal(yk_run(c, &none, 1, 0), 0);
        assert_int_equal(none.status, -YK_EINVAL);
        assert_string_equal(yk_error_text(c), "no operation has the code 99");
        yk_op nowhere = {.opcode = YK_OP_EXISTS, .key = {NULL, 4}};
        assert_int_equal(yk_run(c, &nowhere, 1, 0), 0);
        assert_int_equal(nowhere.status, -YK_EKEY);
        assert_string_equal(yk_error_text(c), "a key of 4 bytes at NULL");
        assert_status(yk_run(c, ops, YK_BATCH_MAX + 1, 0), -YK_ETOOBIG);
        assert_status(yk_run(c, NULL, 1, 0), -YK_EINVAL);
        assert_int_equal(yk_run(c, NULL, 0, 0), 0);
    }
}

/* Polls until n operations have come out, each once. */
static void poll_all(yk_client *c, int n, int by_fd) {
    yk_op *out[64];
    struct pollfd p = {yk_fd(c), POLLIN, 0};
    for (int got = 0; got < n;) {
        if (by_fd)
            assert_int_equal(poll(&p, 1, 20000), 1);
        int k = yk_poll(c, out, 64, by_fd ? 0 : 20000);
        assert_true(k >= 0 && (k > 0 || by_fd));
        for (int i = 0; i < k; i++) {
            assert_int_not_equal(out[i]->status, YK_PENDING);
            struct item *it = out[i]->user;
            assert_non_null(it); /* not seen before */
            out[i]->user = NULL;
        }
        got += k;
    }
    assert_int_equal(yk_poll(c, out, 64, 0), 0);
}

static void submitted_operations_come_out_once(void **state) {
    for (int by_fd = 0; by_fd < 2; by_fd++)
        EACH_HANDLE(*state, c) {
            char name[8] = {'s', (char)('0' + i_), (char)('0' + by_fd), 0};
            make(ops, items, N, YK_OP_PUT, name);
            assert_status(yk_submit(c, ops, N, 0), 0);
            poll_all(c, N, by_fd);
            for (int i = 0; i < N; i++)
                assert_int_equal(ops[i].status, 0);
            make(ops, items, N, YK_OP_GET, name);
            make(later, more, N, YK_OP_EXISTS, name);
            assert_status(yk_submit(c, ops, N, 0), 0);
            assert_status(yk_submit(c, later, N, 0), 0);
            poll_all(c, 2 * N, by_fd);
            for (int i = 0; i < N; i++) {
                assert_int_equal(ops[i].status, 0);
                assert_int_equal(later[i].status, 0);
                assert_true(is_filled(items[i].buf, len_of(i), (uint64_t)i));
            }
        }
}

static void more_than_inflight_max_is_refused_whole(void **state) {
    struct fixture *f = *state;
    yk_open_opts o = {.size = sizeof(o), .inflight_max = 10};
    yk_client *c;
    assert_status(yk_open(f->url, &o, &c), 0);
    make(ops, items, 20, YK_OP_PUT, "i");
    assert_status(yk_submit(c, ops, 11, 0), -YK_EAGAIN);
    assert_status(yk_submit(c, ops, 6, 0), 0);
    assert_status(yk_submit(c, ops + 6, 5, 0), -YK_EAGAIN);
    assert_status(yk_submit(c, ops + 6, 4, 0), 0);
    poll_all(c, 10, 0);
    assert_status(yk_submit(c, ops + 10, 10, 0), 0);
    poll_all(c, 10, 0);
    for (int i = 0; i < 20; i++)
        assert_int_equal(ops[i].status, 0);
    /* A batch that waits is cut to what there are records for. */
    make(ops, items, N, YK_OP_REMOVE, "i");
    assert_int_equal(yk_run(c, ops, N, 0), 20);
    yk_close(c);
}

static void cancelled_operations_come_out_too(void **state) {
    EACH_HANDLE(*state, c) {
        char name[4] = {'c', (char)('0' + i_), 0};
        yk_op *out[64];
        int ended[3] = {0, 0, 0};
        make(ops, items, 60, YK_OP_PUT, name);
        assert_status(yk_submit(c, ops, 60, 0), 0);
        for (int i = 0; i < 60; i += 2)
            assert_status(yk_cancel(c, &ops[i]), 0);
        for (int got = 0, k; got < 60; got += k) {
            k = yk_poll(c, out, 64, 20000);
            assert_true(k > 0);
            for (int i = 0; i < k; i++)
                ended[out[i]->status == 0 ? 0 : out[i]->status == -YK_ECANCELED ? 1 : 2]++;
        }
        assert_int_equal(ended[0] + ended[1], 60);
        assert_true(ended[0] >= 30);
        assert_status(yk_cancel(c, &ops[0]), 0); /* it has ended */
        /* What was not cancelled is there; what was is there whole or not at all. */
        for (int i = 0; i < 60; i++) {
            int rc = get_is(c, items[i].key, len_of(i), (uint64_t)i);
            assert_true(rc == 0 || (rc == YK_MISS && i % 2 == 0));
        }
        make(ops, items, 60, YK_OP_PUT, name);
        assert_int_equal(yk_run(c, ops, 60, 0), 60);
    }
}

static void close_ends_what_is_under_way(void **state) {
    for (int i = 0; i < 20; i++) {
        yk_client *c = open_with(*state, both[i % 2], 20000);
        make(ops, items, N, YK_OP_PUT, "z");
        assert_status(yk_submit(c, ops, N, 0), 0);
        yk_close(c);
    }
    yk_client *c = open_client(*state);
    put_ok(c, "after", 100, 1);
    yk_close(c);
}

static void a_put_waits_for_space_until_its_deadline(void **state) {
    struct fixture *f = *state;
    yk_client *holder = open_client(f);
    yk_reservation r[4];
    int held = 0;
    /* Half of the tier may be reserved. */
    while (held < 4 && yk_reserve(holder, 15u * MIB, held < 2 ? 20000 : 100, &r[held]) == 0)
        held++;
    assert_int_equal(held, 2);
    EACH_HANDLE(f, c) {
        char *big = calloc(1, 4u * MIB);
        struct iovec iov = {big, 4u * MIB};
        yk_put_opts o = {.size = sizeof(o), .timeout_ms = 50};
        int rc = yk_put(c, yk_key_str("big"), big, 4u * MIB, &o);
        assert_true(rc == -YK_ENOSPC || rc == -YK_ETIMEDOUT);
        /* One waits while the space comes back. */
        yk_op op = {.opcode = YK_OP_PUT,
                    .key = yk_key_str(i_ == 0 ? "big0" : "big1"),
                    .iov = &iov,
                    .iov_count = 1};
        yk_op *out;
        assert_status(yk_submit(c, &op, 1, 20000), 0);
        assert_int_equal(yk_poll(c, &out, 1, 30), 0);
        assert_int_equal(op.status, YK_PENDING);
        assert_status(yk_abort(holder, &r[0]), 0);
        assert_int_equal(yk_poll(c, &out, 1, 20000), 1);
        assert_int_equal(op.status, 0);
        free(big);
        assert_status(yk_remove(c, op.key), 0);
        if (i_ == 0) {
            yk_close(c); /* and what it holds ahead */
            c = open_client(f);
            assert_status(yk_reserve(holder, 15u * MIB, 5000, &r[0]), 0);
        }
    }
    yk_close(holder);
}

static void a_deadline_in_a_batch_ends_its_put_only(void **state) {
    struct fixture *f = *state;
    yk_client *holder = open_client(f), *c = open_client(f);
    yk_reservation r[2];
    assert_status(yk_reserve(holder, 15u * MIB, 0, &r[0]), 0);
    assert_status(yk_reserve(holder, 15u * MIB, 0, &r[1]), 0);
    char *big = calloc(1, 4u * MIB);
    struct iovec iov = {big, 4u * MIB};
    yk_put_opts soon = {.size = sizeof(soon), .timeout_ms = 40};
    yk_op o[3];
    memset(o, 0, sizeof(o));
    o[0] = (yk_op){
        .opcode = YK_OP_PUT, .key = yk_key_str("big"), .iov = &iov, .iov_count = 1, .put = &soon};
    o[1] = (yk_op){.opcode = YK_OP_EXISTS, .key = yk_key_str("big")};
    o[2] = (yk_op){.opcode = YK_OP_REMOVE, .key = yk_key_str("none")};
    assert_int_equal(yk_run(c, o, 3, 20000), 0);
    assert_true(o[0].status == -YK_ENOSPC || o[0].status == -YK_ETIMEDOUT);
    assert_int_equal(o[1].status, YK_MISS);
    assert_int_equal(o[2].status, YK_MISS);
    free(big);
    yk_close(c);
    yk_close(holder);
}

/* ---- operations on lists, references, places ---- */

/* Runs them: by yk_run, or by yk_submit and yk_poll. Each has to end with its status. */
static void run_both_ways(yk_client *c, yk_op *o, int n, int async, const int *want) {
    yk_op *out[16];
    if (!async) {
        int good = 0;
        for (int i = 0; i < n; i++)
            good += want[i] == 0;
        assert_int_equal(yk_run(c, o, (size_t)n, 0), good);
    } else {
        assert_status(yk_submit(c, o, (size_t)n, 0), 0);
        for (int got = 0, k; got < n; got += k) {
            k = yk_poll(c, out, 16, 20000);
            assert_true(k > 0);
        }
    }
    for (int i = 0; i < n; i++)
        assert_int_equal(o[i].status, want[i]);
}

/* Both handles, both ways, and a node inside this process. */
#define EACH_WAY(f, c, way)                                                                        \
    for (int way = 0; way < 6; way++)                                                              \
        for (yk_client *c = way < 4 ? open_with((f), both[way / 2], 20000) : open_embedded();      \
             c != NULL; yk_close(c), c = NULL)

static yk_client *open_embedded(void) {
    yk_client *c;
    assert_status(yk_open("embedded:dram=64M", NULL, &c), 0);
    return c;
}

static void name_of(char *to, int way, int i) {
    snprintf(to, 200, "way%d/%0*d", way, i % 10 == 9 ? 180 : 4, i);
}

static void stat_and_match_in_batches(void **state) {
    enum { KEYS = 400, LIST = 500 };
    EACH_WAY(*state, c, way) {
        static char names[LIST][200];
        static yk_key keys[LIST];
        static yk_block_info infos[LIST], info[3];
        for (int i = 0; i < LIST; i++) {
            name_of(names[i], way, i);
            keys[i] = yk_key_str(names[i]);
            if (i < KEYS)
                put_ok(c, names[i], len_of(i), (uint64_t)i);
        }
        yk_key_list all = {.size = sizeof(all), .keys = keys, .count = LIST};
        yk_key_list told = {.size = sizeof(told), .keys = keys, .count = LIST, .infos = infos};
        yk_key_list some = {.size = sizeof(some), .keys = keys + 3, .count = 5};
        yk_key_list none = {.size = sizeof(none), .keys = keys + KEYS, .count = 7};
        yk_key_list zero = {.size = sizeof(zero)};
        memset(infos, 0, sizeof(infos));
        memset(info, 0, sizeof(info));
        yk_op o[9] = {{.opcode = YK_OP_STAT, .key = keys[5], .info = &info[0]},
                      {.opcode = YK_OP_MATCH, .list = &all},
                      {.opcode = YK_OP_STAT, .key = keys[KEYS], .info = &info[1]},
                      {.opcode = YK_OP_MATCH, .list = &told},
                      {.opcode = YK_OP_MATCH, .list = &some},
                      {.opcode = YK_OP_MATCH, .list = &none},
                      {.opcode = YK_OP_MATCH, .list = &zero},
                      {.opcode = YK_OP_STAT, .key = keys[6]},
                      {.opcode = YK_OP_STAT, .key = keys[7], .info = &info[2]}};
        const int want[9] = {0, 0, YK_MISS, 0, 0, YK_MISS, YK_MISS, 0, 0};
        run_both_ways(c, o, 9, way % 2, want);
        assert_int_equal(o[1].len, KEYS);
        assert_int_equal(o[3].len, KEYS);
        assert_int_equal(o[4].len, 5);
        assert_int_equal(o[5].len, 0);
        assert_int_equal(info[0].len, len_of(5));
        assert_int_equal(info[1].len, 0);
        assert_int_equal(info[2].len, len_of(7));
        assert_int_equal(info[2].tiers, 1u << YK_TIER_DRAM);
        for (int i = 0; i < KEYS; i++)
            assert_int_equal(infos[i].len, len_of(i));
        assert_int_equal(infos[KEYS].len, 0);
        /* A stat stands where it was put among the operations of its key. */
        yk_op order[3] = {{.opcode = YK_OP_STAT, .key = keys[8], .info = &info[0]},
                          {.opcode = YK_OP_REMOVE, .key = keys[8]},
                          {.opcode = YK_OP_STAT, .key = keys[8], .info = &info[1]}};
        run_both_ways(c, order, 3, way % 2, (const int[]){0, 0, YK_MISS});
    }
}

static void references_in_batches(void **state) {
    EACH_WAY(*state, c, way) {
        yk_ref refs[4];
        char key[200];
        name_of(key, way, 1);
        put_ok(c, key, 5000, 7);
        memset(refs, 0x55, sizeof(refs));
        yk_op o[5] = {{.opcode = YK_OP_REF, .key = yk_key_str(key), .ref = &refs[0]},
                      {.opcode = YK_OP_REF, .key = yk_key_str("none"), .ref = &refs[1]},
                      {.opcode = YK_OP_REMOVE, .key = yk_key_str(key)},
                      {.opcode = YK_OP_REF, .key = yk_key_str(key), .ref = &refs[2]},
                      {.opcode = YK_OP_REF, .key = yk_key_str(key)}};
        run_both_ways(c, o, 5, way % 2, (const int[]){0, YK_MISS, 0, YK_MISS, -YK_EINVAL});
        assert_int_equal(o[0].len, 5000);
        assert_int_equal(refs[0].len, 5000);
        assert_true(is_filled(refs[0].data, 5000, 7)); /* removed meanwhile, and still held */
        assert_null(refs[1].data);
        assert_null(refs[2].data);
        yk_ref_release(c, &refs[0]);
        yk_ref_release(c, &refs[1]);
        assert_int_equal(STAT(c, refs_held), 0);
    }
}

/* What a cancelled operation had pinned or received is nobody's. */
static void cancelled_references_hold_nothing(void **state) {
    EACH_HANDLE(*state, c) {
        static yk_ref refs[N];
        int good = 0;
        make(ops, items, N, YK_OP_PUT, i_ == 0 ? "ra" : "rb");
        assert_int_equal(yk_run(c, ops, N, 0), N);
        make(ops, items, N, YK_OP_REF, i_ == 0 ? "ra" : "rb");
        for (int i = 0; i < N; i++)
            ops[i].ref = &refs[i];
        assert_status(yk_submit(c, ops, 60, 0), 0);
        for (int i = 0; i < 60; i += 2)
            assert_status(yk_cancel(c, &ops[i]), 0);
        poll_all(c, 60, 0);
        for (int i = 0; i < 60; i++) {
            assert_true(ops[i].status == 0 || ops[i].status == -YK_ECANCELED);
            assert_int_equal(ops[i].status == 0, refs[i].data != NULL);
            if (ops[i].status != 0)
                continue;
            good++;
            assert_true(is_filled(refs[i].data, len_of(i), (uint64_t)i));
            yk_ref_release(c, &refs[i]);
        }
        assert_true(good >= 30);
        assert_int_equal(STAT(c, refs_held), 0);
        /* One that waits for another of its key has not been tried. */
        memset(refs, 0x55, sizeof(refs));
        for (int i = 0; i < 2; i++) {
            ops[2 * i].opcode = YK_OP_REMOVE;
            ops[2 * i].user = ops[2 * i + 1].user = &items[i];
            ops[2 * i + 1].key = ops[2 * i].key;
        }
        assert_status(yk_submit(c, ops, 4, 0), 0);
        assert_status(yk_cancel(c, &ops[1]), 0);
        poll_all(c, 4, 0);
        assert_status(ops[1].status, -YK_ECANCELED);
        assert_status(ops[3].status, YK_MISS);
        assert_null(refs[1].data);
        assert_null(refs[3].data);
        make(ops, items, N, YK_OP_REF, i_ == 0 ? "ra" : "rb");
        for (int i = 0; i < N; i++)
            ops[i].ref = &refs[i];
        /* Close lets go of what nobody fetched. */
        assert_status(yk_submit(c, ops, 60, 0), 0);
    }
}

static void prefetch_and_patterns_in_batches(void **state) {
    EACH_WAY(*state, c, way) {
        char prefix[16], glob[16];
        yk_key keys[2] = {yk_key_str("x"), yk_key_str("y")};
        snprintf(prefix, sizeof(prefix), "p%d/", way);
        snprintf(glob, sizeof(glob), "q%d/*", way);
        make(ops, items, 100, YK_OP_PUT, prefix);
        assert_int_equal(yk_run(c, ops, 100, 0), 100);
        snprintf(prefix, sizeof(prefix), "q%d", way);
        make(ops, items, 50, YK_OP_PUT, prefix);
        assert_int_equal(yk_run(c, ops, 50, 0), 50);
        snprintf(prefix, sizeof(prefix), "p%d/", way);
        yk_key_list list = {.size = sizeof(list), .keys = keys, .count = 2, .tier = YK_TIER_ANY};
        yk_key_list bad_tier = list, bad_key = list, no_size = list;
        yk_key empty[2] = {keys[0], {NULL, 0}};
        bad_tier.tier = 9;
        bad_key.keys = empty;
        no_size.size = 0;
        yk_op o[9] = {
            {.opcode = YK_OP_REMOVE_MANY, .key = yk_key_str(prefix), .arg = YK_REMOVE_PREFIX},
            {.opcode = YK_OP_REMOVE_MANY, .key = yk_key_str(glob), .arg = YK_REMOVE_GLOB},
            {.opcode = YK_OP_PREFETCH, .list = &list, .arg = 100},
            {.opcode = YK_OP_PREFETCH, .list = &bad_tier},
            {.opcode = YK_OP_PREFETCH, .list = &bad_key},
            {.opcode = YK_OP_MATCH, .list = &no_size},
            {.opcode = YK_OP_MATCH},
            {.opcode = YK_OP_REMOVE_MANY, .key = yk_key_str(prefix), .arg = 4},
            {.opcode = YK_OP_PREFETCH, .list = &list}};
        const int want[9] = {0, 0, 0, -YK_EINVAL, -YK_EKEY, -YK_EINVAL, -YK_EINVAL, -YK_EINVAL, 0};
        run_both_ways(c, o, 9, way % 2, want);
        assert_int_equal(o[0].len, 100);
        assert_int_equal(o[1].len, 50);
        assert_int_equal(o[2].len, 0); /* there is one tier */
    }
}

static void puts_in_place_in_batches(void **state) {
    EACH_WAY(*state, c, way) {
        yk_reservation r[8];
        char key[8][200];
        memset(ops, 0, sizeof(ops));
        memset(r, 0, sizeof(r));
        int want[8] = {0};
        for (int i = 0; i < 8; i++) {
            ops[i] = (yk_op){.opcode = YK_OP_RESERVE, .reservation = &r[i], .arg = len_of(i) * 10};
            want[i] = way == 2 || way == 3 ? -YK_ENOTSUP : 0;
            name_of(key[i], way, i);
        }
        run_both_ways(c, ops, 8, way % 2, want);
        if (want[0] != 0)
            continue;
        memset(ops, 0, sizeof(ops));
        for (int i = 0; i < 8; i++) {
            assert_int_equal(r[i].len, len_of(i) * 10);
            fill(r[i].data, r[i].len, (uint64_t)i);
            ops[i] = (yk_op){.opcode = i == 3 ? YK_OP_ABORT : YK_OP_COMMIT,
                             .key = yk_key_str(key[i]),
                             .reservation = &r[i]};
        }
        ops[5].key.len = 0; /* found before anything was done: the reservation stays */
        want[5] = -YK_EKEY;
        run_both_ways(c, ops, 8, way % 2, want);
        for (int i = 0; i < 8; i++) {
            assert_int_equal(r[i].data == NULL, i != 5);
            assert_status(get_is(c, key[i], len_of(i) * 10, (uint64_t)i),
                          i == 3 || i == 5 ? YK_MISS : 0);
        }
        ops[0] = (yk_op){.opcode = YK_OP_COMMIT, .key = yk_key_str(key[5]), .reservation = &r[5]};
        ops[1] = (yk_op){.opcode = YK_OP_COMMIT, .key = yk_key_str(key[3]), .reservation = &r[3]};
        run_both_ways(c, ops, 2, way % 2, (const int[]){0, -YK_EINVAL});
        assert_status(get_is(c, key[5], len_of(5) * 10, 5), 0);
        /* Other bytes under a key that is there. */
        assert_status(yk_reserve(c, 100, 0, &r[0]), 0);
        fill(r[0].data, 100, 99);
        ops[0] = (yk_op){.opcode = YK_OP_COMMIT, .key = yk_key_str(key[0]), .reservation = &r[0]};
        run_both_ways(c, ops, 1, way % 2, (const int[]){-YK_ECONFLICT});
        assert_null(r[0].data);
    }
}

/* A commit that is cancelled or not: its caller still has the reservation, and may do either. */
static void cancelled_commits_leave_the_reservation(void **state) {
    struct fixture *f = *state;
    yk_client *c = open_client(f);
    char key[40][16];
    static yk_reservation r[40];
    int ended[2] = {0, 0};
    memset(ops, 0, sizeof(ops));
    for (int i = 0; i < 40; i++) {
        snprintf(key[i], sizeof(key[i]), "cc%d", i);
        assert_status(yk_reserve(c, 3000, 0, &r[i]), 0);
        fill(r[i].data, 3000, (uint64_t)i);
        ops[i] = (yk_op){.opcode = YK_OP_COMMIT,
                         .key = yk_key_str(key[i]),
                         .reservation = &r[i],
                         .user = &items[i]};
    }
    assert_status(yk_submit(c, ops, 40, 0), 0);
    for (int i = 0; i < 40; i += 2)
        assert_status(yk_cancel(c, &ops[i]), 0);
    poll_all(c, 40, 0);
    for (int i = 0; i < 40; i++) {
        assert_true(ops[i].status == 0 || ops[i].status == -YK_ECANCELED);
        ended[ops[i].status != 0]++;
        assert_int_equal(ops[i].status == 0, r[i].data == NULL);
        if (ops[i].status != 0 && i % 4 == 0)
            assert_status(yk_commit(c, &r[i], yk_key_str(key[i]), NULL), 0);
        else if (ops[i].status != 0)
            assert_status(yk_abort(c, &r[i]), 0);
        int rc = get_is(c, key[i], 3000, (uint64_t)i);
        assert_true(rc == 0 || (rc == YK_MISS && ops[i].status != 0 && i % 4 != 0));
    }
    assert_true(ended[0] >= 20);
    yk_close(c);
}

/* ---- threads ---- */

struct worker {
    yk_client *c;
    int number;
    pthread_t thread;
    int wrong;
};

static void must(struct worker *w, int good, const char *what, int rc) {
    if (good)
        return;
    print_error("thread %d: %s: %d\n", w->number, what, rc);
    w->wrong++;
}

static void *work(void *arg) {
    struct worker *w = arg;
    char key[32], data[3000], got[3000];
    for (int i = 0; i < 150; i++) {
        size_t n;
        int shared = i % 3 == 0; /* keys that all threads put, get and remove */
        snprintf(key, sizeof(key), "t%d/%d", shared ? 0 : w->number, i % 40);
        size_t len = 500 + (size_t)(i % 40) * 60;
        fill(data, len, (uint64_t)(i % 40));
        int rc = yk_put(w->c, yk_key_str(key), data, len, NULL);
        must(w, rc == 0, "put", rc);
        rc = yk_get(w->c, yk_key_str(key), got, sizeof(got), &n);
        must(w, rc == 0 || (rc == YK_MISS && shared), "get", rc);
        must(w, rc != 0 || (n == len && memcmp(got, data, len) == 0), "bytes of a get", rc);
        yk_ref ref;
        if (yk_ref_get(w->c, yk_key_str(key), &ref) == 0) {
            must(w, ref.len == len && memcmp(ref.data, data, len) == 0, "bytes of a ref", 0);
            yk_ref_release(w->c, &ref);
        }
        must(w, yk_exists(w->c, yk_key_str(key)) >= 0, "exists", 0);
        rc = i % 5 == 0 ? yk_remove(w->c, yk_key_str(key)) : 0;
        must(w, rc >= 0, "remove", rc);
    }
    return NULL;
}

static void *submitter(void *arg) {
    struct worker *w = arg;
    struct item *it = calloc(50, sizeof(*it));
    yk_op *o = calloc(50, sizeof(*o));
    yk_op *out[50];
    char name[16];
    snprintf(name, sizeof(name), "u%d", w->number);
    for (int round = 0; round < 10; round++) {
        make(o, it, 50, round % 2 ? YK_OP_REMOVE : YK_OP_PUT, name);
        int rc = yk_submit(w->c, o, 50, 0);
        must(w, rc == 0, "submit", rc);
        /* Another thread may fetch ours, and we fetch theirs: count ends only. */
        for (int i = 0; i < 50;) {
            int k = yk_poll(w->c, out, 50, 5);
            for (int j = 0; j < k; j++)
                __atomic_store_n(&out[j]->user, NULL, __ATOMIC_RELEASE);
            while (i < 50 && __atomic_load_n(&o[i].user, __ATOMIC_ACQUIRE) == NULL)
                i++;
        }
        for (int i = 0; i < 50; i++)
            must(w, o[i].status == 0, "submitted operation", o[i].status);
    }
    free(it);
    free(o);
    return NULL;
}

static void threads_share_a_handle(void **state) {
    EACH_HANDLE(*state, c) {
        struct worker w[6];
        for (int i = 0; i < 6; i++) {
            w[i] = (struct worker){.c = c, .number = i + 1 + 10 * i_};
            assert_int_equal(pthread_create(&w[i].thread, NULL, i < 4 ? work : submitter, &w[i]),
                             0);
        }
        for (int i = 0; i < 6; i++) {
            pthread_join(w[i].thread, NULL);
            assert_int_equal(w[i].wrong, 0);
        }
        assert_int_equal(STAT(c, refs_held), 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(batches_of_each_kind, with_node, without_node),
        cmocka_unit_test_setup_teardown(operations_of_a_key_keep_their_order, with_node,
                                        without_node),
        cmocka_unit_test_setup_teardown(a_batch_says_which_operations_are_bad, with_node,
                                        without_node),
        cmocka_unit_test_setup_teardown(submitted_operations_come_out_once, with_node,
                                        without_node),
        cmocka_unit_test_setup_teardown(more_than_inflight_max_is_refused_whole, with_node,
                                        without_node),
        cmocka_unit_test_setup_teardown(cancelled_operations_come_out_too, with_node, without_node),
        cmocka_unit_test_setup_teardown(close_ends_what_is_under_way, with_node, without_node),
        cmocka_unit_test_setup_teardown(a_put_waits_for_space_until_its_deadline, with_node,
                                        without_node),
        cmocka_unit_test_setup_teardown(a_deadline_in_a_batch_ends_its_put_only, with_node,
                                        without_node),
        cmocka_unit_test_setup_teardown(stat_and_match_in_batches, with_node, without_node),
        cmocka_unit_test_setup_teardown(references_in_batches, with_node, without_node),
        cmocka_unit_test_setup_teardown(cancelled_references_hold_nothing, with_node, without_node),
        cmocka_unit_test_setup_teardown(prefetch_and_patterns_in_batches, with_node, without_node),
        cmocka_unit_test_setup_teardown(puts_in_place_in_batches, with_node, without_node),
        cmocka_unit_test_setup_teardown(cancelled_commits_leave_the_reservation, with_node,
                                        without_node),
        cmocka_unit_test_setup_teardown(threads_share_a_handle, with_node, without_node),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
