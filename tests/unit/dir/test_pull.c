/* SPDX-License-Identifier: Apache-2.0
 *
 * Blocks that come from other nodes while they are put, removed and lost: with
 * whole nodes in one process (service_rig.h).
 *
 * Versions of one key are put on one node and removed on another, while readers on all nodes get it all the time,
 * so that copies are under way at every moment of a remove. Each version says its number in every word: a reader
 * that began after the remove of version v was answered must never see v or an older one, and never a mixture.
 */
#include "service_rig.h"

#include <yolk/transfer.h>

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORDS    4096u
#define VERSIONS 150u

struct reader {
    pthread_t thread;
    yk_client *client; /* NULL: it does not run */
    uint64_t gets; /* atomic, relaxed */
    uint64_t hits, wrong; /* read when it has ended */
};

static struct reader readers[3];
static uint64_t gone; /* atomic: versions up to it are removed, and that was answered */
static int over;      /* atomic */

static void *read_on(void *arg) {
    struct reader *r = arg;
    uint64_t *words = malloc(WORDS * sizeof(*words));
    size_t len;
    while (words != NULL && !__atomic_load_n(&over, __ATOMIC_ACQUIRE)) {
        uint64_t before = __atomic_load_n(&gone, __ATOMIC_ACQUIRE);
        int rc = yk_get(r->client, yk_key_str("key"), words, WORDS * sizeof(*words), &len);
        __atomic_store_n(&r->gets, r->gets + 1, __ATOMIC_RELAXED);
        sched_yield(); /* the client is not this thread's alone */
        if (rc != 0) {
            r->wrong += rc < 0 && rc != -YK_EAGAIN && rc != -YK_ETIMEDOUT;
            continue;
        }
        r->hits++;
        r->wrong += len != WORDS * sizeof(*words) || words[0] <= before;
        for (uint32_t i = 1; i < WORDS; i++)
            r->wrong += words[i] != words[0];
    }
    free(words);
    return NULL;
}

static void start(struct reader *r, yk_client *client) {
    *r = (struct reader){.client = client};
    if (pthread_create(&r->thread, NULL, read_on, r) != 0) {
        r->client = NULL;
        fail_msg("no thread");
    }
}

static void end_all(void) {
    __atomic_store_n(&over, 1, __ATOMIC_RELEASE);
    for (unsigned i = 0; i < 3; i++) {
        if (readers[i].client != NULL)
            pthread_join(readers[i].thread, NULL);
        readers[i].client = NULL;
    }
}

static int setup(void **state) {
    __atomic_store_n(&gone, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&over, 0, __ATOMIC_RELEASE);
    return rig_setup(state);
}

/* Of a case that failed, too: readers end before what they read from. */
static int teardown(void **state) {
    end_all();
    return rig_teardown(state);
}

static void put_version(unsigned node, uint64_t version) {
    uint64_t *words = malloc(WORDS * sizeof(*words));
    yk_put_opts o = {.size = sizeof(o)};
    assert_non_null(words);
    for (uint32_t i = 0; i < WORDS; i++)
        words[i] = version;
    int rc = yk_put(rig.n[node].client, yk_key_str("key"), words, WORDS * sizeof(*words), &o);
    if (rc != 0)
        fail_msg("put of version %u: %s", (unsigned)version, yk_error_text(rig.n[node].client));
    free(words);
}

/* Lets each reader go on a little. */
static void until_read(unsigned count, uint64_t gets) {
    for (unsigned i = 0; i < count; i++) {
        uint64_t from = __atomic_load_n(&readers[i].gets, __ATOMIC_RELAXED);
        while (__atomic_load_n(&readers[i].gets, __ATOMIC_RELAXED) < from + gets)
            sched_yield();
    }
}

static void nothing_comes_back_while_copies_are_under_way(void **state) {
    (void)state;
    for (unsigned i = 0; i < 3; i++)
        rig_start(&rig, i);
    for (unsigned i = 0; i < 3; i++)
        start(&readers[i], rig.n[i].client);
    for (uint64_t v = 1; v <= VERSIONS; v++) {
        put_version(v % 3, v);
        until_read(3, v % 8);
        rig_until_removed(&rig, (v + 1) % 3, "key");
        __atomic_store_n(&gone, v, __ATOMIC_RELEASE);
    }
    end_all();
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(readers[i].wrong, 0);
        assert_true(readers[i].hits > 0);
    }
}

/* Whoever reads while a holder leaves gets a block or a miss, and never waits for it. */
static void a_holder_that_leaves_hangs_nobody(void **state) {
    (void)state;
    rig_start(&rig, 0);
    rig_start(&rig, 1);
    put_version(1, 1);
    start(&readers[0], rig.n[0].client);
    until_read(1, 3);
    rig_stop(&rig, 1);
    until_read(1, 3);
    end_all();
    assert_int_equal(readers[0].wrong, 0);
}

/* ---- reads that fail ---------------------------------------------------------------------------------- */

static const char *fault; /* of engines that are made from now on */

int __real_yk_xfer_create(const yk_xfer_opts *opts, yk_xfer **ret_engine);
int __wrap_yk_xfer_create(const yk_xfer_opts *opts, yk_xfer **ret_engine);

int __wrap_yk_xfer_create(const yk_xfer_opts *opts, yk_xfer **ret_engine) {
    yk_xfer_opts o = *opts;
    o.fault = fault;
    return __real_yk_xfer_create(&o, ret_engine);
}

/* Every second one does, and nobody else has the block: it is asked for again, and comes. */
static void a_read_of_the_only_copy_that_fails_is_tried_again(void **state) {
    enum { N = 20, LEN = 5000 };
    char key[16];
    (void)state;
    fault = "error:every=2,scope=request";
    rig_start_all(&rig, 2);
    fault = NULL;
    for (unsigned k = 0; k < N; k++) {
        snprintf(key, sizeof(key), "k%u", k);
        rig_put(&rig, 0, key, LEN);
    }
    rig_until_published(&rig, 0, N);
    for (unsigned k = 0; k < N; k++) {
        snprintf(key, sizeof(key), "k%u", k);
        rig_until_got(&rig, 1, key, LEN);
    }
    rig_until_pulled(&rig, 1, N);
    struct yk_dir_stats st = rig_stats(&rig, 1);
    assert_true(st.pull_tries >= N + N / 2);
    assert_in_range(st.pull_failed, 0, N / 4); /* on a machine that stands still a pull may fail otherwise */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_read_of_the_only_copy_that_fails_is_tried_again, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_comes_back_while_copies_are_under_way, setup, teardown),
        cmocka_unit_test_setup_teardown(a_holder_that_leaves_hangs_nobody, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
