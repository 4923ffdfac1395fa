/* SPDX-License-Identifier: Apache-2.0
 *
 * Handles of a node that is one of many: what it has not comes from elsewhere, and who asks need not know. The
 * pool is played here (node/pool.h): "far-N" are blocks of other nodes, "unsure-N" such that nobody can tell of,
 * everything else is nowhere. It answers each question in a later turn of the node's loop.
 */
#include "fixture.h"

#include "base/clock.h"
#include "base/hash.h"
#include "node/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>

#define FARS  600u
#define LEN   (64u << 10)
#define LIMIT (60ull * 1000000000ull)
#define LOAD(p) __atomic_load_n((p), __ATOMIC_RELAXED)

static struct yk_node *node;
static uint8_t gone[FARS]; /* owner thread's: were removed */
static uint32_t wants, wanted, drops, spaces; /* what was asked; atomic */

static size_t len_of(unsigned i) {
    return i % 3 == 1 ? 9001 + i : LEN;
}

/* ---- the pool --------------------------------------------------------------------------------------- */

struct asked {
    enum { BRING, FIND, REMOVE, SPACE } what;
    unsigned op;
    uint32_t ns_number, count;
    uint64_t epoch, value, token;
    char ns[64];
    char key[][16];
};

static int number_of(const char *key, const char *kind, unsigned *ret) {
    char text[16];
    if (sscanf(key, kind, ret) != 1)
        return 0;
    snprintf(text, sizeof(text), kind, *ret);
    return strcmp(text, key) == 0;
}

static int is_far(const char *key, unsigned *ret) {
    return number_of(key, "far-%u", ret) && *ret < FARS && !gone[*ret];
}

static void bring(struct yk_store *store, const struct asked *a, const char *key) {
    struct yk_place p;
    void *to;
    unsigned i;
    if (!is_far(key, &i) || yk_store_pool_reserve(store, len_of(i), &p, &to) < 0)
        return;
    fill(to, len_of(i), i);
    struct yk_commit c = {.idx = p.idx,
                          .gen = p.gen,
                          .epoch = a->epoch,
                          .sum = yk_hash64(to, len_of(i)),
                          .len = (uint32_t)len_of(i),
                          .key = key,
                          .key_len = (uint32_t)strlen(key)};
    assert_true(yk_store_pool_commit(store, a->ns_number, &c, 0, 1) <= 0);
}

static void find(const char *key, struct yk_pool_found *ret) {
    unsigned i;
    memset(ret, 0, sizeof(*ret));
    ret->status = YK_MISS;
    if (number_of(key, "unsure-%u", &i))
        ret->status = -YK_EAGAIN;
    if (!is_far(key, &i))
        return;
    ret->status = 0;
    ret->len = len_of(i);
    ret->tiers = 1u << YK_TIER_SSD;
}

static int remove_all(struct yk_store *store, const struct asked *a) {
    uint64_t ticket;
    unsigned i;
    int far = is_far(a->key[0], &i);
    if (far)
        gone[i] = 1;
    int rc = yk_store_pool_remove(store, a->ns_number, a->key[0], (uint32_t)strlen(a->key[0]), 0, &ticket);
    return rc == YK_MISS && far ? 0 : rc;
}

static int space_set(struct yk_store *store, const struct asked *a) {
    uint32_t ns;
    if (strcmp(a->ns, "forbidden") == 0)
        return -YK_EPERM;
    int create = a->op == YK_NS_CREATE || a->op == YK_POOL_NS_OPEN;
    int rc = yk_store_ns_open(store, a->ns, (uint32_t)strlen(a->ns), create, &ns, NULL);
    if (rc == 0 && a->op == YK_NS_CREATE)
        return yk_store_ns_quota(store, ns, a->value);
    if (rc == 0 && a->op == YK_NS_REMOVE)
        return yk_store_ns_remove(store, ns);
    return rc == 0 && a->value != 0 ? yk_store_ns_raise(store, ns, a->value) : rc;
}

static void serve(void *arg, struct yk_store *store) {
    struct asked *a = arg;
    struct yk_pool_found *found = calloc(a->count, sizeof(*found));
    for (uint32_t i = 0; i < a->count; i++) {
        if (a->what == BRING)
            bring(store, a, a->key[i]);
        else if (a->what == FIND)
            find(a->key[i], &found[i]);
    }
    if (a->what == REMOVE)
        yk_node_pool_removed(node, a->token, remove_all(store, a));
    else if (a->what == SPACE)
        yk_node_pool_removed(node, a->token, space_set(store, a));
    else
        yk_node_pool_found(node, a->token, a->what == FIND ? found : NULL, a->count);
    free(found);
    free(a);
}

static struct asked *asked_new(uint32_t count, const char *ns, uint32_t ns_len, uint64_t token) {
    struct asked *a = calloc(1, sizeof(*a) + (size_t)(count + 1u) * sizeof(a->key[0]));
    a->count = count;
    a->token = token;
    memcpy(a->ns, ns, ns_len);
    return a;
}

static void key_set(struct asked *a, uint32_t i, const void *key, uint32_t len) {
    assert_true(len < sizeof(a->key[0]));
    memcpy(a->key[i], key, len);
}

static int take(struct asked *a) {
    assert_int_equal(yk_node_post(node, serve, a), 0);
    return 0;
}

static void on_changed(void *arg, const struct yk_pool_block *b) {
    (void)arg;
    (void)b;
}

static int on_want(void *arg, const struct yk_pool_want *w) {
    (void)arg;
    struct asked *a = asked_new(w->count, w->ns, w->ns_len, w->token);
    __atomic_fetch_add(&wants, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&wanted, w->count, __ATOMIC_RELAXED);
    a->what = w->kind == YK_POOL_BRING ? BRING : FIND;
    a->ns_number = w->ns_number;
    a->epoch = w->epoch;
    for (uint32_t i = 0; i < w->count; i++)
        key_set(a, i, w->keys[i].key, w->keys[i].key_len);
    return take(a);
}

static int on_remove(void *arg, const char *ns, uint32_t ns_len, uint64_t epoch, const void *key,
                     uint32_t key_len, uint64_t deadline_ns, uint64_t token) {
    struct asked *a = asked_new(0, ns, ns_len, token);
    (void)arg;
    (void)epoch;
    (void)deadline_ns;
    __atomic_fetch_add(&drops, 1, __ATOMIC_RELAXED);
    a->what = REMOVE;
    key_set(a, 0, key, key_len);
    return take(a);
}

static int on_space(void *arg, unsigned what, const char *ns, uint32_t ns_len, uint64_t value,
                    uint64_t deadline_ns, uint64_t token) {
    struct asked *a = asked_new(0, ns, ns_len, token);
    (void)arg;
    (void)deadline_ns;
    __atomic_fetch_add(&spaces, 1, __ATOMIC_RELAXED);
    a->what = SPACE;
    a->op = what;
    a->value = value;
    return take(a);
}

static const struct yk_pool_ops ops = {
    .changed = on_changed, .want = on_want, .remove = on_remove, .space = on_space};

static struct yk_file *device; /* whose reads may fail; the node's owner's */

static int wrap(void *arg, struct yk_file *io, struct yk_file **ret_io) {
    (void)arg;
    int rc = yk_file_fault_new(io, ret_io);
    device = *ret_io;
    return rc;
}

/* Clients are not taken until it begins. */
static void in_slow_pool(struct yk_node_opts *o) {
    static struct yk_pool_ops slow;
    slow = ops;
    slow.waits = 1;
    o->pool = &slow;
    o->pool_wait_ms = 60000;
}

static void in_pool(struct yk_node_opts *o) {
    o->pool = &ops;
    o->pool_wait_ms = 60000;
    o->store.ssd.io_wrap = wrap;
}

/* ---- nodes and handles ------------------------------------------------------------------------------ */

static int begin_in(void **state, uint64_t dram, uint64_t ssd, void (*tune)(struct yk_node_opts *o)) {
    struct fixture *f = malloc(sizeof(*f));
    fixture_init(f, 0);
    f->dram = dram;
    f->ssd = ssd;
    f->tune = tune;
    memset(gone, 0, sizeof(gone));
    fixture_start(f);
    node = f->node;
    *state = f;
    return 0;
}

static int begin(void **state, uint64_t dram, uint64_t ssd) {
    return begin_in(state, dram, ssd, in_pool);
}

static int held_back(void **state) {
    return begin_in(state, 64u * MIB, 0, in_slow_pool);
}

static int one_tier(void **state) {
    return begin(state, 64u * MIB, 0);
}

static int two_tiers(void **state) {
    return begin(state, 64u * MIB, 256u * MIB);
}

/* Guests have to make way for each other. */
static int small(void **state) {
    return begin(state, 6u * MIB, 0);
}

static int small_tiers(void **state) {
    return begin(state, 6u * MIB, 256u * MIB);
}

static const uint32_t both[2] = {0, YK_OPEN_NO_MAP};

#define EACH_HANDLE(f, c)                                                                          \
    for (int i_ = 0; i_ < 2; i_++)                                                                 \
        for (yk_client *c = open_with((f), both[i_], 20000); c != NULL; yk_close(c), c = NULL)

struct name {
    char text[16];
};

static yk_key key_of(const char *kind, unsigned i, struct name *n) {
    snprintf(n->text, sizeof(n->text), "%s-%u", kind, i);
    return yk_key_str(n->text);
}

static int get_far(yk_client *c, unsigned i) {
    struct name n;
    return get_is(c, (const char *)key_of("far", i, &n).data, len_of(i), i);
}

/* ---- gets ------------------------------------------------------------------------------------------- */

static void a_get_brings_the_block(void **state) {
    EACH_HANDLE(*state, c) {
        unsigned first = (unsigned)i_ * 100;
        for (unsigned i = first; i < first + 100; i++)
            assert_status(get_far(c, i), 0);
        uint32_t before = LOAD(&wants);
        for (unsigned i = first; i < first + 100; i++)
            assert_status(get_far(c, i), 0);
        assert_int_equal(LOAD(&wants), before); /* they are here now */
        struct name n;
        char buf[16];
        assert_status(yk_get(c, key_of("none", 1, &n), buf, sizeof(buf), NULL), YK_MISS);
        assert_status(yk_get(c, key_of("unsure", 1, &n), buf, sizeof(buf), NULL), YK_MISS);
        assert_int_equal(STAT(c, hits), 200);
        assert_int_equal(STAT(c, misses), 2);
    }
}

static void references_and_ranges(void **state) {
    EACH_HANDLE(*state, c) {
        unsigned first = (unsigned)i_ * 100;
        unsigned char *whole = malloc(LEN), got[1000];
        for (unsigned i = first; i < first + 30; i++) {
            struct name n;
            yk_ref ref;
            assert_status(yk_ref_get(c, key_of("far", i, &n), &ref), 0);
            assert_true(ref.len == len_of(i) && is_filled(ref.data, ref.len, i));
            yk_ref_release(c, &ref);
            fill(whole, len_of(i + 30), i + 30);
            assert_status(yk_get_range(c, key_of("far", i + 30, &n), 77, got, sizeof(got)), 0);
            assert_memory_equal(got, whole + 77, sizeof(got));
        }
        free(whole);
    }
}

enum { MANY = 64 };

static void batches_and_polls(void **state) {
    unsigned char *mem = malloc((size_t)MANY * LEN);
    EACH_HANDLE(*state, c) {
        struct name names[MANY];
        struct iovec iov[MANY];
        yk_op many[MANY], *out[MANY];
        memset(many, 0, sizeof(many));
        for (unsigned turn = 0; turn < 2; turn++) {
            for (unsigned i = 0; i < MANY; i++) {
                unsigned at = 200 + (unsigned)i_ * 2 * MANY + turn * MANY + i;
                iov[i] = (struct iovec){mem + (size_t)i * LEN, LEN};
                many[i] = (yk_op){.opcode = YK_OP_GET,
                                  .key = key_of(i == 7 ? "none" : "far", at, &names[i]),
                                  .iov = &iov[i],
                                  .iov_count = 1,
                                  .user = (void *)(uintptr_t)at};
            }
            if (turn == 0) {
                assert_int_equal(yk_run(c, many, MANY, 0), MANY - 1);
            } else {
                assert_status(yk_submit(c, many, MANY, 0), 0);
                for (int n = 0; n < MANY;) {
                    int k = yk_poll(c, out, MANY, 20000);
                    assert_true(k > 0);
                    n += k;
                }
            }
            for (unsigned i = 0; i < MANY; i++) {
                unsigned at = (unsigned)(uintptr_t)many[i].user;
                assert_int_equal(many[i].status, i == 7 ? YK_MISS : 0);
                assert_true(i == 7 || is_filled(iov[i].iov_base, len_of(at), at));
            }
        }
    }
    free(mem);
}

static void *get_many(void *arg) {
    yk_client *c = arg;
    unsigned x = (unsigned)(uintptr_t)pthread_self();
    for (unsigned n = 0; n < 400; n++) {
        x = x * 1103515245u + 12345u;
        int rc = get_far(c, (x >> 8) % FARS); /* compares */
        assert_true(rc == 0 || rc == YK_MISS);
    }
    return NULL;
}

/* More than memory holds comes and goes, for many at a time: bytes are right all the same. */
static void guests_come_and_go(void **state) {
    yk_client *c[2] = {open_with(*state, both[0], 20000), open_with(*state, both[1], 20000)};
    pthread_t threads[4];
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, get_many, c[i % 2]), 0);
    for (unsigned i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_true(STAT(c[0], hits) > 0 && STAT(c[1], hits) > 0);
    yk_close(c[0]);
    yk_close(c[1]);
}

static void a_put_asks_nobody(void **state) {
    EACH_HANDLE(*state, c) {
        uint32_t before = LOAD(&wants);
        for (unsigned i = 0; i < 50; i++) {
            struct name n;
            put_ok(c, (const char *)key_of("own", i, &n).data, 3000, i);
        }
        assert_int_equal(LOAD(&wants), before);
    }
}

static void a_pin_and_a_prefetch_bring(void **state) {
    EACH_HANDLE(*state, c) {
        struct name names[3];
        unsigned first = 500 + (unsigned)i_ * 10;
        yk_block_info info;
        assert_status(yk_pin(c, key_of("far", first, &names[0]), 60000), 0);
        assert_status(yk_stat(c, key_of("far", first, &names[0]), &info), 0);
        assert_int_equal(info.tiers, 1u << YK_TIER_DRAM);
        assert_int_equal(info.pinned, 1);
        assert_status(yk_pin(c, key_of("none", 1, &names[0]), 60000), YK_MISS);
        yk_key keys[3] = {key_of("far", first, &names[0]), key_of("far", first + 1, &names[1]),
                          key_of("far", first + 2, &names[2])};
        assert_int_equal(yk_prefetch(c, keys, 3, YK_TIER_ANY, 1000), 2);
        for (uint64_t end = yk_now_ns() + LIMIT;; sched_yield()) {
            assert_true(yk_now_ns() < end);
            assert_status(yk_stat(c, keys[2], &info), 0);
            if (!(info.tiers & YK_TIERS_ELSEWHERE))
                break;
        }
        assert_int_equal(info.tiers, 1u << YK_TIER_DRAM);
    }
}

static void fail_reads(void *arg, struct yk_store *store) {
    static const struct yk_file_fault fault = {
        .kind = YK_FILE_FAULT_EIO, .op_mask = 1u << YK_FILE_READ, .rate_ppm = 1000000};
    (void)store;
    yk_file_fault_set(device, &fault);
    __atomic_store_n((int *)arg, 1, __ATOMIC_RELEASE);
}

/* What this node's SSD has, and cannot read any more, another node has. */
static void what_does_not_come_up_is_brought(void **state) {
    EACH_HANDLE(*state, c) {
        unsigned first = (unsigned)i_ * 100;
        int failing = 0;
        for (unsigned i = first; i < first + 100; i++) { /* as one's own: more than memory holds */
            struct name n;
            put_ok(c, (const char *)key_of("far", i, &n).data, len_of(i), i);
        }
        for (unsigned i = 0; i < 200; i++) {
            struct name n;
            put_ok(c, (const char *)key_of(i_ == 0 ? "own" : "more", i, &n).data, LEN, i);
        }
        if (i_ == 0)
            assert_int_equal(yk_node_post(node, fail_reads, &failing), 0);
        for (uint64_t end = yk_now_ns() + LIMIT; i_ == 0 && !__atomic_load_n(&failing, __ATOMIC_ACQUIRE); sched_yield())
            assert_true(yk_now_ns() < end);
        uint32_t before = LOAD(&wants);
        yk_block_info info;
        struct name n;
        assert_status(yk_stat(c, key_of("far", first, &n), &info), 0);
        assert_int_equal(info.tiers, 1u << YK_TIER_SSD);
        assert_status(get_far(c, first), 0);
        assert_int_equal(LOAD(&wants), before + 1);
    }
}

/* ---- look up ----------------------------------------------------------------------------------------- */

static void lookups_know_of_other_nodes(void **state) {
    EACH_HANDLE(*state, c) {
        struct name n;
        yk_block_info info;
        assert_int_equal(yk_exists(c, key_of("far", 1, &n)), 1);
        assert_status(yk_stat(c, key_of("far", 1, &n), &info), 0);
        assert_int_equal(info.len, len_of(1));
        assert_int_equal(info.tiers, YK_TIERS_ELSEWHERE | 1u << YK_TIER_SSD);
        assert_int_equal(yk_exists(c, key_of("none", 1, &n)), 0);
        assert_status(yk_stat(c, key_of("none", 1, &n), &info), YK_MISS);
        assert_int_equal(yk_exists(c, key_of("unsure", 1, &n)), 0);
        assert_status(yk_stat(c, key_of("unsure", 1, &n), &info), -YK_EAGAIN);
        yk_op op = {.opcode = YK_OP_STAT, .key = key_of("unsure", 1, &n), .info = &info};
        assert_int_equal(yk_run(c, &op, 1, 0), 0);
        assert_int_equal(op.status, -YK_EAGAIN);
        assert_int_equal(STAT(c, hits) + STAT(c, misses), 0); /* none of it is a use */
    }
}

static void a_batch_and_a_match_ask_once(void **state) {
    EACH_HANDLE(*state, c) {
        struct name names[100];
        yk_key keys[100];
        yk_op many[100];
        yk_block_info infos[100];
        memset(many, 0, sizeof(many));
        for (unsigned i = 0; i < 100; i++) {
            keys[i] = key_of(i == 80 ? "none" : i % 10 == 0 ? "own" : "far", i, &names[i]);
            if (i % 10 == 0 && i != 80)
                put_ok(c, names[i].text, 3000, i);
            many[i] = (yk_op){.opcode = YK_OP_EXISTS, .key = keys[i]};
        }
        uint64_t trips = STAT(c, round_trips);
        uint32_t asked = LOAD(&wants), of = LOAD(&wanted);
        assert_int_equal(yk_run(c, many, 100, 0), 99);
        assert_int_equal(many[80].status, YK_MISS);
        assert_int_equal(STAT(c, round_trips), trips + 1);
        assert_int_equal(LOAD(&wants), asked + 1);
        assert_int_equal(LOAD(&wanted), of + 91);
        assert_int_equal(yk_match(c, keys, 100, NULL), 80);
        assert_int_equal(STAT(c, round_trips), trips + 2);
        assert_int_equal(LOAD(&wants), asked + 2);
        assert_int_equal(yk_match(c, keys, 100, infos), 80);
        assert_int_equal(STAT(c, round_trips), trips + 3);
        assert_int_equal(LOAD(&wants), asked + 3);
        assert_int_equal(infos[10].tiers, 1u << YK_TIER_DRAM);
        assert_int_equal(infos[79].len, len_of(79));
        assert_int_equal(infos[79].tiers, YK_TIERS_ELSEWHERE | 1u << YK_TIER_SSD);
        yk_key_list list = {.size = sizeof(list), .keys = keys, .count = 100};
        yk_op op = {.opcode = YK_OP_MATCH, .list = &list};
        assert_int_equal(yk_run(c, &op, 1, 0), 1);
        assert_int_equal(op.len, 80);
        assert_int_equal(LOAD(&wants), asked + 4);
    }
}

/* ---- change ------------------------------------------------------------------------------------------- */

static void a_remove_is_everywhere(void **state) {
    EACH_HANDLE(*state, c) {
        struct name n;
        unsigned first = 400 + (unsigned)i_ * 10;
        assert_status(get_far(c, first), 0); /* a copy is here, too */
        assert_status(yk_remove(c, key_of("far", first, &n)), 0);
        assert_status(get_far(c, first), YK_MISS);
        assert_status(yk_remove(c, key_of("far", first, &n)), YK_MISS);
        assert_status(yk_remove(c, key_of("far", first + 1, &n)), 0); /* none is here */
        assert_int_equal(yk_exists(c, key_of("far", first + 1, &n)), 0);
        put_ok(c, "own", 3000, 1);
        struct name names[3];
        yk_op many[3] = {{.opcode = YK_OP_REMOVE, .key = key_of("far", first + 2, &names[0])},
                         {.opcode = YK_OP_REMOVE, .key = yk_key_str("own")},
                         {.opcode = YK_OP_REMOVE, .key = key_of("none", 1, &names[1])}};
        uint32_t before = LOAD(&drops);
        assert_int_equal(yk_run(c, many, 3, 0), 2);
        assert_int_equal(many[2].status, YK_MISS);
        assert_int_equal(LOAD(&drops), before + 3);
        assert_status(get_is(c, "own", 3000, 1), YK_MISS);
    }
}

static void namespaces_are_agreed(void **state) {
    struct fixture *f = *state;
    yk_client *c = open_client(f), *d;
    yk_ns_info infos[8];
    uint32_t before = LOAD(&spaces);
    assert_status(yk_ns_create(c, "team", 5u * MIB), 0);
    assert_status(yk_ns_raise_epoch(c, "team", 7), 0);
    assert_int_equal(LOAD(&spaces), before + 2);
    int n = yk_ns_list(c, infos, 8);
    assert_int_equal(n, 2);
    int at = strcmp(infos[0].name, "team") != 0;
    assert_string_equal(infos[at].name, "team");
    assert_int_equal(infos[at].epoch, 7);
    assert_int_equal(infos[at].quota_bytes, 5u * MIB);
    assert_status(yk_ns_raise_epoch(c, "team", 6), -YK_ESTALE);
    assert_status(yk_ns_create(c, "forbidden", 0), -YK_EPERM);
    yk_open_opts o = {.size = sizeof(o), .name_space = "team", .epoch = 8};
    before = LOAD(&spaces);
    assert_status(yk_open(f->url, &o, &d), 0); /* raises it */
    assert_int_equal(LOAD(&spaces), before + 1);
    put_ok(d, "k", 3000, 1);
    yk_close(d);
    o.epoch = 0;
    assert_status(yk_open(f->url, &o, &d), 0); /* known: nobody is asked */
    assert_int_equal(LOAD(&spaces), before + 1);
    assert_status(get_is(d, "k", 3000, 1), 0);
    assert_status(get_far(d, 3), 0);
    yk_close(d);
    o.name_space = "forbidden";
    assert_status(yk_open(f->url, &o, &d), -YK_EPERM);
    assert_non_null(strstr(yk_error_text(NULL), "forbidden"));
    o.flags = YK_OPEN_LOOK;
    assert_status(yk_open(f->url, &o, &d), 0);
    assert_status(get_far(d, 3), YK_MISS); /* in no namespace */
    yk_close(d);
    assert_status(yk_ns_remove(c, "team"), 0);
    assert_int_equal(yk_ns_list(c, infos, 8), 1);
    yk_close(c);
}

static void clients_wait_until_the_pool_begins(void **state) {
    struct fixture *f = *state;
    yk_open_opts o = {.size = sizeof(o), .timeout_ms = 200};
    yk_client *c = NULL;
    assert_true(yk_open(f->url, &o, &c) < 0);
    assert_null(c);
    yk_node_pool_until(f->node, UINT64_MAX);
    assert_int_equal(yk_node_pool_begin(f->node), 0);
    c = open_client(f);
    put_ok(c, "k", 3000, 1);
    assert_int_equal(yk_node_pool_begin(f->node), 0); /* as good as once */
    assert_status(get_is(c, "k", 3000, 1), 0);
    yk_close(c);
}

#define BOTH(test)                                                                                 \
    cmocka_unit_test_setup_teardown(test, one_tier, without_node),                                 \
        cmocka_unit_test_setup_teardown(test, two_tiers, without_node)

int main(void) {
    const struct CMUnitTest tests[] = {
        BOTH(a_get_brings_the_block),
        BOTH(references_and_ranges),
        BOTH(batches_and_polls),
        cmocka_unit_test_setup_teardown(guests_come_and_go, small, without_node),
        BOTH(a_put_asks_nobody),
        BOTH(a_pin_and_a_prefetch_bring),
        cmocka_unit_test_setup_teardown(what_does_not_come_up_is_brought, small_tiers, without_node),
        BOTH(lookups_know_of_other_nodes),
        BOTH(a_batch_and_a_match_ask_once),
        BOTH(a_remove_is_everywhere),
        BOTH(namespaces_are_agreed),
        cmocka_unit_test_setup_teardown(clients_wait_until_the_pool_begins, held_back, without_node),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
