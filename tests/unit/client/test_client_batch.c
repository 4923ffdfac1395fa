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
    while (held < 4 && yk_reserve(holder, 15u * MIB, 100, &r[held]) == 0)
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
        cmocka_unit_test_setup_teardown(threads_share_a_handle, with_node, without_node),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
