/* SPDX-License-Identifier: Apache-2.0
 *
 * Handles of a node whose DRAM holds a tenth of its blocks: whoever asks gets every block, exactly, and
 * need not know where it is. What is nowhere costs no message all the same.
 */
#include "fixture.h"

#include "base/clock.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define DRAM   (8u * MIB)
#define BLOCKS 1200 /* some 80 MiB */
#define LEN    (64u << 10)
#define MANY   32u

static const uint32_t both[2] = {0, YK_OPEN_NO_MAP};

#define EACH_HANDLE(f, c)                                                                          \
    for (int i_ = 0; i_ < 2; i_++)                                                                 \
        for (yk_client *c = open_with((f), both[i_], 20000); c != NULL; yk_close(c), c = NULL)

/* A block for each number; lengths of three kinds, the small ones off any alignment. */
struct name {
    char text[16];
};

static yk_key key_of(unsigned i, struct name *n) {
    snprintf(n->text, sizeof(n->text), "block-%u", i);
    return yk_key_str(n->text);
}

static size_t len_of(unsigned i) {
    return i % 16 == 5 ? 4 * LEN : i % 5 == 1 ? 9001 + i : LEN;
}

static void put_block(yk_client *c, unsigned i) {
    struct name n;
    put_ok(c, (const char *)key_of(i, &n).data, len_of(i), i);
}

static int get_block(yk_client *c, unsigned i) {
    struct name n;
    return get_is(c, (const char *)key_of(i, &n).data, len_of(i), i);
}

static void fill_node(struct fixture *f) {
    yk_client *c = open_client(f);
    for (unsigned i = 0; i < BLOCKS; i++)
        put_block(c, i);
    yk_close(c);
}

static void setup(struct fixture *f, int named) {
    fixture_init(f, named);
    f->dram = DRAM;
    f->ssd = 768u * MIB;
}

static int with_ssd(void **state) {
    struct fixture *f = malloc(sizeof(*f));
    setup(f, 0);
    fixture_start(f);
    fill_node(f);
    *state = f;
    return 0;
}

static int forked_ssd(void **state) {
    struct fixture *f = malloc(sizeof(*f));
    setup(f, 1);
    fixture_fork(f);
    *state = f;
    return 0;
}

static uint32_t tiers_of(yk_client *c, unsigned i) {
    struct name n;
    yk_block_info info;
    assert_status(yk_stat(c, key_of(i, &n), &info), 0);
    assert_int_equal(info.len, len_of(i));
    return info.tiers;
}

/* ---- gets ----------------------------------------------------------------------------------------- */

static void every_get_finds_every_block(void **state) {
    EACH_HANDLE(*state, c) {
        for (unsigned i = 0; i < BLOCKS; i++)
            assert_status(get_block(c, i), 0);
        uint64_t hits = STAT(c, hits), raised = STAT(c, raised);
        assert_int_equal(hits, BLOCKS);
        assert_int_equal(STAT(c, misses), 0);
        assert_int_equal(STAT(c, verify_failures), 0);
        if (i_ == 0) { /* in order over ten times DRAM: hardly any was there */
            assert_in_range(raised, BLOCKS / 2, hits);
            assert_in_range(STAT(c, raised_bytes), 1, STAT(c, hit_bytes));
        } else {
            assert_int_equal(raised, 0);
        }
    }
}

static void ranges_and_lists(void **state) {
    EACH_HANDLE(*state, c) {
        for (unsigned i = 0; i < BLOCKS; i += 7) {
            struct name n;
            size_t len = len_of(i), at = i % len, part = len - at < 5000 ? len - at : 5000;
            unsigned char *whole = malloc(len), *got = calloc(1, len);
            size_t n_got = 0;
            fill(whole, len, i);
            assert_status(yk_get_range(c, key_of(i, &n), at, got, part), 0);
            assert_memory_equal(got, whole + at, part);
            assert_status(yk_get_range(c, key_of(i, &n), len, got, 1), -YK_EINVAL);
            struct iovec iov[3] = {{got + 1000, len - 1000}, {NULL, 0}, {got, 1000}};
            assert_status(yk_getv(c, key_of(i, &n), iov, 3, &n_got), 0);
            assert_int_equal(n_got, len);
            assert_memory_equal(got + 1000, whole, len - 1000);
            assert_memory_equal(got, whole + len - 1000, 1000);
            assert_status(yk_get(c, key_of(i, &n), got, len - 1, &n_got), -YK_ETOOBIG);
            assert_int_equal(n_got, len);
            free(whole);
            free(got);
        }
    }
}

static void references_hold_what_came_up(void **state) {
    EACH_HANDLE(*state, c) {
        static yk_ref refs[MANY];
        struct name n;
        for (unsigned i = 0; i < MANY; i++) {
            assert_status(yk_ref_get(c, key_of(i * 37, &n), &refs[i]), 0);
            assert_int_equal(refs[i].len, len_of(i * 37));
        }
        if (i_ == 0)
            assert_true(STAT(c, raised) > 0);
        for (unsigned i = 1; i < BLOCKS; i += 3) /* DRAM is used over and over meanwhile */
            assert_status(get_block(c, i), 0);
        for (unsigned i = 0; i < MANY; i++) {
            assert_true(is_filled(refs[i].data, refs[i].len, i * 37));
            yk_ref_release(c, &refs[i]);
        }
        assert_status(yk_ref_get(c, yk_key_str("nowhere"), &refs[0]), YK_MISS);
        assert_int_equal(STAT(c, misses), 1);
    }
}

struct batch {
    yk_op ops[MANY];
    struct iovec iov[MANY];
    struct name names[MANY];
    unsigned number[MANY];
    unsigned char *mem;
};

static void batch_make(struct batch *b, unsigned first, unsigned apart) {
    memset(b->ops, 0, sizeof(b->ops));
    for (unsigned i = 0; i < MANY; i++) {
        b->number[i] = (first + i * apart) % BLOCKS;
        b->iov[i] = (struct iovec){b->mem + (size_t)i * 4 * LEN, 4 * LEN};
        b->ops[i] = (yk_op){.opcode = YK_OP_GET,
                            .key = key_of(b->number[i], &b->names[i]),
                            .iov = &b->iov[i],
                            .iov_count = 1,
                            .user = (void *)(uintptr_t)i};
    }
}

static void batch_check(const struct batch *b, unsigned i) {
    assert_int_equal(b->ops[i].status, 0);
    assert_int_equal(b->ops[i].len, len_of(b->number[i]));
    assert_true(is_filled(b->iov[i].iov_base, b->ops[i].len, b->number[i]));
}

static void batches_of_gets(void **state) {
    struct batch b;
    b.mem = malloc((size_t)MANY * 4 * LEN);
    EACH_HANDLE(*state, c) {
        for (unsigned turn = 0; turn < 40; turn++) {
            batch_make(&b, turn * 131, 61);
            assert_int_equal(yk_run(c, b.ops, MANY, 0), MANY);
            for (unsigned i = 0; i < MANY; i++)
                batch_check(&b, i);
        }
        assert_int_equal(STAT(c, hits), 40 * MANY);
    }
    free(b.mem);
}

/* Many at a time, each replaced as it ends; blocks that are nowhere among them. */
static void asynchronous_gets(void **state) {
    struct batch b;
    b.mem = malloc((size_t)MANY * 4 * LEN);
    EACH_HANDLE(*state, c) {
        unsigned ended = 0, total = 1500;
        batch_make(&b, 11, 73);
        unsigned next = MANY;
        assert_status(yk_submit(c, b.ops, MANY, 0), 0);
        while (ended < total) {
            yk_op *out[MANY];
            int n = yk_poll(c, out, MANY, 20000);
            assert_true(n > 0);
            for (int k = 0; k < n; k++, ended++) {
                unsigned i = (unsigned)(uintptr_t)out[k]->user;
                if (b.number[i] == BLOCKS)
                    assert_int_equal(out[k]->status, YK_MISS);
                else
                    batch_check(&b, i);
                if (next >= total)
                    continue;
                b.number[i] = next % 50 == 0 ? BLOCKS : next * 997 % BLOCKS;
                out[k]->key = key_of(b.number[i], &b.names[i]);
                assert_status(yk_submit(c, out[k], 1, 0), 0);
                next++;
            }
        }
        assert_int_equal(next, total);
    }
    free(b.mem);
}

/* Operations of one key in one batch: each sees what the one before it did, wherever the block is. */
static void order_of_one_key(void **state) {
    unsigned char got[2][LEN], data[LEN];
    EACH_HANDLE(*state, c) {
        for (unsigned i = 0; i < 300; i += 3) {
            struct name n;
            struct iovec in = {data, LEN}, out[2] = {{got[0], LEN}, {got[1], LEN}};
            yk_put_opts upsert = {.size = sizeof(upsert), .flags = YK_PUT_UPSERT};
            yk_key key = key_of(i * 4 + (unsigned)i_, &n);
            fill(data, LEN, i + 1000000);
            yk_op ops[6] = {
                {.opcode = YK_OP_EXISTS, .key = key},
                {.opcode = YK_OP_GET_RANGE, .key = key, .iov = &out[0], .iov_count = 1},
                {.opcode = YK_OP_PUT, .key = key, .iov = &in, .iov_count = 1, .put = &upsert},
                {.opcode = YK_OP_GET, .key = key, .iov = &out[1], .iov_count = 1},
                {.opcode = YK_OP_REMOVE, .key = key},
                {.opcode = YK_OP_EXISTS, .key = key},
            };
            out[0].iov_len = 9000;
            assert_int_equal(yk_run(c, ops, 6, 0), 5);
            assert_int_equal(ops[5].status, YK_MISS);
            assert_true(is_filled(got[0], 9000, i * 4 + (unsigned)i_));
            assert_true(is_filled(got[1], LEN, i + 1000000));
            put_block(c, i * 4 + (unsigned)i_);
        }
    }
}

/* ---- looking ---------------------------------------------------------------------------------------- */

static void lookups_see_both_tiers(void **state) {
    static struct name names[BLOCKS + 1];
    static yk_key keys[BLOCKS + 1];
    static yk_block_info infos[BLOCKS + 1];
    static yk_op ops[BLOCKS + 1];
    for (unsigned i = 0; i <= BLOCKS; i++) { /* the last is nowhere */
        keys[i] = key_of(i, &names[i]);
        ops[i] = (yk_op){.opcode = YK_OP_EXISTS, .key = keys[i]};
    }
    EACH_HANDLE(*state, c) {
        uint32_t seen = 0;
        assert_int_equal(yk_match(c, keys, BLOCKS + 1, NULL), BLOCKS);
        assert_int_equal(yk_match(c, keys, BLOCKS + 1, infos), BLOCKS);
        for (unsigned i = 0; i < BLOCKS; i++) {
            assert_int_equal(infos[i].len, len_of(i));
            assert_int_equal(infos[i].tiers & ~((1u << YK_TIER_DRAM) | (1u << YK_TIER_SSD)), 0);
            assert_int_not_equal(infos[i].tiers, 0);
            seen |= infos[i].tiers;
            assert_int_equal(yk_exists(c, keys[i]), 1);
        }
        assert_int_equal(seen, (1u << YK_TIER_DRAM) | (1u << YK_TIER_SSD));
        assert_int_equal(yk_run(c, ops, BLOCKS + 1, 0), BLOCKS);
        assert_int_equal(ops[BLOCKS].status, YK_MISS);
        assert_int_equal(STAT(c, hits) + STAT(c, misses), 0); /* none of it is a use */
        yk_block_info info;
        assert_status(yk_stat(c, keys[BLOCKS], &info), YK_MISS);
        assert_int_equal(yk_exists(c, keys[BLOCKS]), 0);
    }
}

static void what_is_nowhere_costs_no_message(void **state) {
    yk_client *c = open_client(*state);
    uint64_t trips = STAT(c, round_trips);
    char buf[16];
    yk_ref ref;
    for (unsigned i = 0; i < 1000; i++) {
        struct name n;
        yk_key key = key_of(BLOCKS + i, &n);
        yk_op ops[2] = {{.opcode = YK_OP_EXISTS, .key = key}, {.opcode = YK_OP_EXISTS, .key = key}};
        assert_int_equal(yk_exists(c, key), 0);
        assert_status(yk_get(c, key, buf, sizeof(buf), NULL), YK_MISS);
        assert_status(yk_ref_get(c, key, &ref), YK_MISS);
        assert_int_equal(yk_match(c, &key, 1, NULL), 0);
        assert_int_equal(yk_run(c, ops, 2, 0), 0);
    }
    assert_in_range(STAT(c, round_trips) - trips, 0,
                    5); /* a tag may be another's, one in millions */
    yk_close(c);
}

/* A chain's head is in DRAM, its tail is not, and beyond it is nothing. */
static void a_match_asks_once(void **state) {
    enum { CHAIN = 100 };
    struct name names[CHAIN + 10];
    yk_key keys[CHAIN + 10];
    yk_block_info infos[CHAIN + 10];
    yk_client *c = open_client(*state);
    for (unsigned i = 0; i < CHAIN + 10; i++)
        keys[i] = key_of(i < CHAIN ? i : BLOCKS + i, &names[i]);
    for (unsigned i = 0; i < 5; i++)
        assert_status(get_block(c, i), 0);
    uint64_t trips = STAT(c, round_trips);
    assert_int_equal(yk_match(c, keys, CHAIN + 10, NULL), CHAIN);
    assert_int_equal(STAT(c, round_trips), trips + 1);
    assert_int_equal(yk_match(c, keys, CHAIN + 10, infos), CHAIN);
    assert_int_equal(STAT(c, round_trips), trips + 2);
    for (unsigned i = 0; i < CHAIN; i++)
        assert_int_equal(infos[i].len, len_of(i));
    assert_int_equal(yk_match(c, keys, 5, infos), 5); /* all in DRAM */
    assert_int_equal(STAT(c, round_trips), trips + 2);
    assert_status(yk_remove(c, keys[60]), 0);
    assert_int_equal(yk_match(c, keys, CHAIN, NULL), 60);
    yk_close(c);
}

static void what_is_removed_is_nowhere(void **state) {
    EACH_HANDLE(*state, c) {
        char buf[16];
        for (unsigned i = (unsigned)i_; i < BLOCKS; i += 10) {
            struct name n;
            yk_block_info info;
            yk_ref ref;
            yk_key key = key_of(i, &n);
            if (i % 20 == 0)
                assert_status(get_block(c, i), 0); /* in both tiers now */
            assert_status(yk_remove(c, key), 0);
            assert_status(yk_get(c, key, buf, sizeof(buf), NULL), YK_MISS);
            assert_status(yk_get_range(c, key, 0, buf, 1), YK_MISS);
            assert_status(yk_ref_get(c, key, &ref), YK_MISS);
            assert_status(yk_stat(c, key, &info), YK_MISS);
            assert_int_equal(yk_match(c, &key, 1, NULL), 0);
            assert_status(yk_remove(c, key), YK_MISS);
        }
        for (unsigned i = 5; i < BLOCKS; i += 100)
            assert_status(get_block(c, i), 0);
    }
}

static void a_prefetch_brings_up(void **state) {
    EACH_HANDLE(*state, c) {
        struct name names[MANY];
        yk_key keys[MANY];
        int low = 0;
        for (unsigned i = 0; i < MANY; i++) {
            keys[i] = key_of(i * 7 + 400 * (unsigned)(i_ + 1), &names[i]);
            low += (tiers_of(c, i * 7 + 400 * (unsigned)(i_ + 1)) & 1u << YK_TIER_DRAM) == 0;
        }
        int raised = yk_prefetch(c, keys, MANY, YK_TIER_ANY, 10000);
        assert_in_range(raised, low / 2, MANY); /* DRAM changes all the time */
        uint64_t now = yk_now_ns(), end = now + 60 * YK_NS_PER_S, again = now + 6 * YK_NS_PER_S;
        unsigned up = 0;
        while (up < MANY && now < end) {
            up = 0;
            for (unsigned i = 0; i < MANY; i++)
                up += (tiers_of(c, i * 7 + 400 * (unsigned)(i_ + 1)) & 1u << YK_TIER_DRAM) != 0;
            if ((now = yk_now_ns()) >= again) { /* a hint that finds no room for 5 s is dropped */
                (void)yk_prefetch(c, keys, MANY, YK_TIER_ANY, 10000);
                again = now + 6 * YK_NS_PER_S;
            }
        }
        assert_int_equal(up, MANY);
        for (unsigned i = 0; i < MANY; i++)
            assert_status(get_block(c, i * 7 + 400 * (unsigned)(i_ + 1)), 0);
        assert_int_equal(STAT(c, raised), 0);
        assert_int_equal(yk_prefetch(c, keys, MANY, YK_TIER_DRAM, 10000), 0); /* all there */
    }
}

/* ---- deadlines, cancelling ---------------------------------------------------------------------------- */

static void deadlines_hold(void **state) {
    struct batch b;
    b.mem = malloc((size_t)MANY * 4 * LEN);
    EACH_HANDLE(*state, c) {
        for (unsigned turn = 0; turn < 60; turn++) {
            batch_make(&b, turn * 331, 67);
            int n = yk_run(c, b.ops, MANY, 1);
            assert_in_range(n, 0, MANY);
            for (unsigned i = 0; i < MANY; i++) {
                if (b.ops[i].status == 0)
                    batch_check(&b, i);
                else if (i_ == 0)
                    assert_int_equal(b.ops[i].status, YK_MISS);
                else
                    assert_true(b.ops[i].status == YK_MISS || b.ops[i].status == -YK_ETIMEDOUT);
            }
        }
        for (unsigned i = 0; i < BLOCKS; i += 3) /* late replies have hurt nothing */
            assert_status(get_block(c, i), 0);
    }
    free(b.mem);
}

static void cancelled_gets_end_once(void **state) {
    struct batch b;
    b.mem = malloc((size_t)MANY * 4 * LEN);
    EACH_HANDLE(*state, c) {
        for (unsigned turn = 0; turn < 30; turn++) {
            unsigned ended = 0, seen[MANY] = {0};
            batch_make(&b, turn * 173, 59);
            assert_status(yk_submit(c, b.ops, MANY, 0), 0);
            for (unsigned i = turn % 3; i < MANY; i += 3)
                assert_status(yk_cancel(c, &b.ops[i]), 0);
            while (ended < MANY) {
                yk_op *out[MANY];
                int n = yk_poll(c, out, MANY, 20000);
                assert_true(n > 0);
                for (int k = 0; k < n; k++, ended++) {
                    unsigned i = (unsigned)(uintptr_t)out[k]->user;
                    assert_int_equal(seen[i]++, 0);
                    if (b.ops[i].status != -YK_ECANCELED)
                        batch_check(&b, i);
                }
            }
        }
    }
    free(b.mem);
}

/* ---- threads -------------------------------------------------------------------------------------------- */

struct crew {
    yk_client *c;
    unsigned seed;
    uint64_t good, missed;
    int wrong;
};

/* No asserts here: they work in the test's own thread. */
static void *reader_main(void *arg) {
    struct crew *w = arg;
    unsigned char *buf = malloc(4 * LEN);
    for (unsigned k = 0; k < 1200; k++) {
        struct name n;
        size_t len = 0;
        unsigned i = (w->seed + k * 7919u) % BLOCKS;
        yk_key key = key_of(i, &n);
        yk_ref ref;
        int rc = k % 4 == 3 ? yk_ref_get(w->c, key, &ref) : yk_get(w->c, key, buf, 4 * LEN, &len);
        if (rc == 0 && k % 4 == 3) {
            w->wrong |= ref.len != len_of(i) || !is_filled(ref.data, ref.len, i);
            yk_ref_release(w->c, &ref);
        } else if (rc == 0) {
            w->wrong |= len != len_of(i) || !is_filled(buf, len, i);
        }
        w->good += rc == 0;
        w->missed += rc == YK_MISS;
        w->wrong |= rc < 0;
    }
    free(buf);
    return NULL;
}

static void *changer_main(void *arg) {
    struct crew *w = arg;
    unsigned char *buf = malloc(4 * LEN);
    for (unsigned k = 0; k < 300; k++) {
        struct name n;
        unsigned i = k * 8 % BLOCKS; /* the readers miss some of these */
        yk_key key = key_of(i, &n);
        w->wrong |= yk_remove(w->c, key) != 0;
        w->wrong |= yk_exists(w->c, key) != 0;
        fill(buf, len_of(i), i);
        w->wrong |= yk_put(w->c, key, buf, len_of(i), NULL) != 0;
    }
    free(buf);
    return NULL;
}

static void many_threads(void **state) {
    enum { READERS = 6 };
    yk_client *maps = open_client(*state), *socket = open_with(*state, YK_OPEN_NO_MAP, 20000);
    struct crew crew[READERS + 1];
    pthread_t t[READERS + 1];
    memset(crew, 0, sizeof(crew));
    for (unsigned i = 0; i <= READERS; i++) {
        crew[i] = (struct crew){.c = i % 3 == 2 ? socket : maps, .seed = i * 331};
        assert_int_equal(
            pthread_create(&t[i], NULL, i == READERS ? changer_main : reader_main, &crew[i]), 0);
    }
    for (unsigned i = 0; i <= READERS; i++) {
        pthread_join(t[i], NULL);
        assert_int_equal(crew[i].wrong, 0);
        if (i < READERS)
            assert_in_range(crew[i].good, 1000, 1200);
    }
    assert_true(STAT(maps, raised) > 0);
    assert_int_equal(STAT(maps, verify_failures) + STAT(socket, verify_failures), 0);
    yk_close(maps);
    yk_close(socket);
}

/* ---- nodes come and go ------------------------------------------------------------------------------------ */

static void a_killed_node_comes_back_with_its_ssd(void **state) {
    struct fixture *f = *state;
    yk_client *c[2] = {open_client(f), open_with(f, YK_OPEN_NO_MAP, 20000)};
    struct batch b;
    unsigned lost = 0;
    b.mem = malloc((size_t)MANY * 4 * LEN);
    fill_node(f);
    for (int kill = 0; kill < 3; kill++) {
        fixture_kill(f, SIGKILL);
        batch_make(&b, (unsigned)kill * 400, 67);
        assert_status(yk_submit(c[0], b.ops, MANY, 20000), 0); /* waits for it */
        fixture_fork(f);
        for (unsigned ended = 0; ended < MANY;) {
            yk_op *out[MANY];
            int n = yk_poll(c[0], out, MANY, 20000);
            assert_true(n > 0);
            for (int k = 0; k < n; k++, ended++)
                if (out[k]->status == 0)
                    batch_check(&b, (unsigned)(uintptr_t)out[k]->user);
                else
                    assert_int_equal(out[k]->status, YK_MISS);
        }
        for (unsigned i = 0; i < BLOCKS; i++) {
            int rc = get_block(c[i % 2], i); /* compares */
            assert_true(rc == 0 || rc == YK_MISS);
            lost += rc != 0;
            if (rc != 0)
                put_block(c[i % 2], i);
        }
        assert_in_range(lost, 0, BLOCKS / 4); /* what was being written, not more */
    }
    assert_true(STAT(c[0], reconnects) >= 3);
    yk_close(c[0]);
    yk_close(c[1]);
    free(b.mem);
}

struct shared {
    uint64_t done, missed, wrong;
    int stop;
};

struct hand {
    struct shared *sh;
    yk_client *c;
    unsigned seed;
    pthread_t thread;
};

static void *look_on(void *arg) {
    struct hand *h = arg;
    unsigned char *buf = malloc(4 * LEN);
    for (unsigned k = 0; !__atomic_load_n(&h->sh->stop, __ATOMIC_RELAXED); k++) {
        struct name n[3];
        unsigned i = (h->seed + k * 7919u) % BLOCKS;
        size_t len = 0;
        yk_key keys[3];
        for (unsigned j = 0; j < 3; j++)
            keys[j] = key_of((i + j) % BLOCKS, &n[j]);
        int run = yk_match(h->c, keys, 3, NULL), here = yk_exists(h->c, keys[0]);
        int rc = k % 4 == 0 ? yk_get(h->c, keys[0], buf, 4 * LEN, &len) : YK_MISS;
        int wrong = run < 0 || run > 3 || here < 0 || rc < 0 ||
                    (rc == 0 && (len != len_of(i) || !is_filled(buf, len, i)));
        __atomic_add_fetch(&h->sh->wrong, wrong, __ATOMIC_RELAXED);
        __atomic_add_fetch(&h->sh->missed, here == 0, __ATOMIC_RELAXED);
        __atomic_add_fetch(&h->sh->done, 1, __ATOMIC_RELAXED);
    }
    free(buf);
    return NULL;
}

static void looking_process(struct fixture *f, struct shared *sh) {
    yk_client *c[2] = {open_with(f, 0, 60000), open_with(f, YK_OPEN_NO_MAP, 60000)};
    struct hand h[4];
    for (unsigned i = 0; i < 4; i++) {
        h[i] = (struct hand){.sh = sh, .c = c[i == 3], .seed = i * 311};
        pthread_create(&h[i].thread, NULL, look_on, &h[i]);
    }
    for (unsigned i = 0; i < 4; i++)
        pthread_join(h[i].thread, NULL);
    yk_close(c[0]);
    yk_close(c[1]);
    _exit(0);
}

/* The filter is replaced while threads are in it. */
static void threads_look_while_the_node_is_killed(void **state) {
    struct fixture *f = *state;
    struct shared *sh = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(sh, MAP_FAILED);
    fill_node(f);
    pid_t pid = fork();
    if (pid == 0)
        looking_process(f, sh);
    uint64_t end = yk_now_ns() + 90 * YK_NS_PER_S;
    for (int round = 0; round < 8; round++) {
        uint64_t goal = __atomic_load_n(&sh->done, __ATOMIC_RELAXED) + 300;
        while (__atomic_load_n(&sh->done, __ATOMIC_RELAXED) < goal && yk_now_ns() < end)
            sched_yield();
        assert_true(__atomic_load_n(&sh->done, __ATOMIC_RELAXED) >= goal); /* it went on */
        fixture_kill(f, round % 2 == 0 ? SIGKILL : SIGTERM);
        fixture_fork(f);
    }
    __atomic_store_n(&sh->stop, 1, __ATOMIC_RELAXED);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(sh->wrong, 0);
    assert_in_range(sh->missed, 0, sh->done / 4); /* what was being written when it was killed */
    munmap(sh, 4096);
}

/* It only looks, so nothing tells it that its node was replaced but the segment. */
static void an_idle_handle_does_not_trust_an_old_filter(void **state) {
    struct fixture *f = *state;
    yk_client *idle = open_with(f, YK_OPEN_HANDLE_SIGBUS, 20000);
    put_block(idle, 0);
    assert_int_equal(yk_exists(idle, yk_key_str("block-0")), 1);
    fixture_kill(f, SIGKILL);
    fixture_fork(f);
    fill_node(f);
    for (unsigned i = 0; i < BLOCKS; i++) {
        struct name n;
        assert_int_equal(yk_exists(idle, key_of(i, &n)), 1);
    }
    assert_int_equal(STAT(idle, reconnects), 1);
    uint64_t trips = STAT(idle, round_trips);
    assert_int_equal(yk_exists(idle, yk_key_str("nowhere")), 0); /* it trusts the new one */
    assert_int_equal(STAT(idle, round_trips), trips);
    yk_close(idle);
}

static void a_node_comes_back_without_its_ssd(void **state) {
    struct fixture *f = *state;
    yk_client *c = open_client(f);
    unsigned found = 0;
    fill_node(f);
    fixture_kill(f, SIGTERM);
    uint64_t ssd = f->ssd;
    f->ssd = 0;
    fixture_fork(f);
    for (unsigned i = 0; i < BLOCKS; i++) {
        int rc = get_block(c, i);
        assert_true(rc == 0 || rc == YK_MISS);
        found += rc == 0;
    }
    assert_in_range(found, 1, BLOCKS / 4); /* DRAM's */
    assert_int_equal(STAT(c, raised), 0);
    uint64_t trips = STAT(c, round_trips);
    assert_int_equal(yk_exists(c, yk_key_str("nowhere")), 0);
    assert_int_equal(STAT(c, round_trips), trips);
    fixture_kill(f, SIGTERM);
    f->ssd = ssd; /* it missed a run: what is on it may have been removed since */
    fixture_fork(f);
    for (unsigned i = 0; i < BLOCKS; i++)
        put_block(c, i);
    for (unsigned i = 0; i < BLOCKS; i++)
        assert_status(get_block(c, i), 0);
    yk_close(c);
}

static void without_the_node_what_is_below_is_a_miss(void **state) {
    struct fixture *f = *state;
    fill_node(f);
    yk_client *c = open_with(f, 0, 50);
    fixture_kill(f, SIGKILL);
    unsigned here = 0;
    for (unsigned i = 0; i < BLOCKS; i += BLOCKS / 20) {
        int rc = get_block(c, i);
        assert_true(rc == 0 || rc == YK_MISS);
    }
    for (unsigned i = BLOCKS - 20; i < BLOCKS; i++)
        here += get_block(c, i) == 0;
    assert_true(here > 0); /* DRAM needs no node */
    assert_int_equal(yk_exists(c, yk_key_str("nowhere")), 0);
    yk_close(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_get_finds_every_block, with_ssd, without_node),
        cmocka_unit_test_setup_teardown(ranges_and_lists, with_ssd, without_node),
        cmocka_unit_test_setup_teardown(references_hold_what_came_up, with_ssd, without_node),
        cmocka_unit_test_setup_teardown(batches_of_gets, with_ssd, without_node),
        cmocka_unit_test_setup_teardown(asynchronous_gets, with_ssd, without_node),
        cmocka_unit_test_setup_teardown(order_of_one_key, with_ssd, without_node),
        cmocka_unit_test_setup_teardown(lookups_see_both_tiers, with_ssd, without_node),
        cmocka_unit_test_setup_teardown(what_is_nowhere_costs_no_message, with_ssd, without_node),
        cmocka_unit_test_setup_teardown(a_match_asks_once, with_ssd, without_node),
        cmocka_unit_test_setup_teardown(what_is_removed_is_nowhere, with_ssd, without_node),
        cmocka_unit_test_setup_teardown(a_prefetch_brings_up, with_ssd, without_node),
        cmocka_unit_test_setup_teardown(deadlines_hold, with_ssd, without_node),
        cmocka_unit_test_setup_teardown(cancelled_gets_end_once, with_ssd, without_node),
        cmocka_unit_test_setup_teardown(many_threads, with_ssd, without_node),
        cmocka_unit_test_setup_teardown(a_killed_node_comes_back_with_its_ssd, forked_ssd,
                                        without_node),
        cmocka_unit_test_setup_teardown(threads_look_while_the_node_is_killed, forked_ssd,
                                        without_node),
        cmocka_unit_test_setup_teardown(an_idle_handle_does_not_trust_an_old_filter, forked_ssd,
                                        without_node),
        cmocka_unit_test_setup_teardown(a_node_comes_back_without_its_ssd, forked_ssd,
                                        without_node),
        cmocka_unit_test_setup_teardown(without_the_node_what_is_below_is_a_miss, forked_ssd,
                                        without_node),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
