/* SPDX-License-Identifier: Apache-2.0
 *
 * The directory's service with everything that belongs to it, in one process (service_rig.h): what one node has,
 * clients of all find, byte for byte; a remove is one everywhere; a node that goes takes its blocks along and
 * nobody hangs.
 */
#include "service_rig.h"

#include "dir/dir_priv.h"

#include <stdio.h>
#include <string.h>

#define KIB 1024u

/* A node that is new to a cluster returns before it is a member; when its start is over it is one. */
static void whoever_has_started_is_a_member(void **state) {
    (void)state;
    rig_start(&rig, 0);
    rig_put(&rig, 0, "early", 4 * KIB);
    for (unsigned i = 1; i < 3; i++) {
        rig_start(&rig, i);
        rig_until_exists(&rig, i, "early", 1);
        rig_until_got(&rig, i, "early", 4 * KIB); /* who returns takes no copies */
    }
}

static void one_node_is_a_cluster(void **state) {
    (void)state;
    rig_start(&rig, 0);
    rig_until_members(&rig, 0, 1);
    rig_put(&rig, 0, "a", 100);
    assert_int_equal(rig_get(&rig, 0, "a", 100), 1);
    assert_int_equal(rig_get(&rig, 0, "nothing", 100), 0);
    assert_int_equal(yk_remove(rig.n[0].client, yk_key_str("a")), 0);
    assert_int_equal(rig_get(&rig, 0, "a", 100), 0);
    rig_put(&rig, 0, "a", 200);
    assert_int_equal(rig_get(&rig, 0, "a", 200), 1);
}

static void what_one_has_all_find(void **state) {
    (void)state;
    static const size_t len[] = {1, 4 * KIB, 1024 * KIB + 13};
    char key[16];
    for (unsigned i = 0; i < 3; i++)
        rig_start(&rig, i);
    for (unsigned k = 0; k < 3; k++) {
        snprintf(key, sizeof(key), "k%u", k);
        rig_put(&rig, 0, key, len[k]);
        for (unsigned i = 1; i < 3; i++) {
            rig_until_got(&rig, i, key, len[k]);
            assert_int_equal(rig_get(&rig, i, key, len[k]), 1); /* from its own memory */
        }
    }
    for (unsigned i = 1; i < 3; i++) {
        assert_int_equal(rig_get(&rig, i, "nothing", 1), 0);
        rig_until_pulled(&rig, i, 3);
    }
}

static void a_block_of_another_is_referred_to(void **state) {
    (void)state;
    yk_ref ref;
    uint64_t until = 0;
    int rc;
    rig_start(&rig, 0);
    rig_start(&rig, 1);
    rig_put(&rig, 0, "far", 64 * KIB);
    rig_until_exists(&rig, 1, "far", 1);
    while ((rc = yk_ref_get(rig.n[1].client, yk_key_str("far"), &ref)) == YK_MISS && rig_patience(&until))
        ; /* nobody could tell in time */
    assert_int_equal(rc, 0);
    assert_int_equal(ref.len, 64 * KIB);
    yk_ref_release(rig.n[1].client, &ref);
}

static void a_chain_is_matched_over_nodes(void **state) {
    (void)state;
    enum { N = 40 };
    char names[N][16];
    yk_key keys[N];
    for (unsigned i = 0; i < 3; i++)
        rig_start(&rig, i);
    for (unsigned k = 0; k < N; k++) {
        snprintf(names[k], sizeof(names[k]), "c%u", k);
        keys[k] = yk_key_str(names[k]);
        if (k < N - 1) /* first half on one node, the rest on another that has not its parents */
            rig_put_child(&rig, k < N / 2 ? 0 : 1, names[k], k > 0 ? names[k - 1] : NULL, 2 * KIB);
    }
    rig_until_exists(&rig, 2, names[N / 2 - 1], 1);
    rig_until_exists(&rig, 2, names[N - 2], 1);
    rig_until_matched(&rig, 2, keys, N, N - 1);
    rig_until_matched(&rig, 0, keys, N, N - 1);
    for (unsigned k = 0; k < N - 1; k++)
        rig_until_got(&rig, 2, names[k], 2 * KIB);
    rig_until_removed(&rig, 2, names[5]);
    rig_until_matched(&rig, 1, keys, N, 5);
}

static void a_remove_is_one_everywhere(void **state) {
    (void)state;
    char key[16];
    for (unsigned i = 0; i < 3; i++)
        rig_start(&rig, i);
    for (unsigned k = 0; k < 20; k++) { /* in slots of all of them */
        snprintf(key, sizeof(key), "r%u", k);
        rig_put(&rig, 0, key, 8 * KIB);
        rig_until_exists(&rig, 1, key, 1);
        rig_until_got(&rig, 1, key, 8 * KIB); /* now two have it */
        rig_until_removed(&rig, 2, key);
        for (unsigned i = 0; i < 3; i++)
            assert_int_equal(rig_get(&rig, i, key, 8 * KIB), 0);
        for (unsigned i = 0; i < 3; i++)
            rig_until_exists(&rig, i, key, 0); /* that holders have it no more is told a moment later */
        rig_put(&rig, 1, key, 9 * KIB); /* and what comes after it stays */
        rig_until_exists(&rig, 0, key, 1);
        rig_until_got(&rig, 0, key, 9 * KIB);
    }
}

static void a_node_that_leaves_takes_its_blocks_along(void **state) {
    (void)state;
    for (unsigned i = 0; i < 3; i++)
        rig_start(&rig, i);
    rig_put(&rig, 0, "gone", 4 * KIB);
    rig_put(&rig, 1, "stays", 4 * KIB);
    rig_until_exists(&rig, 2, "gone", 1);
    rig_until_exists(&rig, 2, "stays", 1);
    rig_stop(&rig, 0);
    rig_until_members(&rig, 1, 2);
    rig_until_members(&rig, 2, 2);
    assert_int_equal(rig_get(&rig, 2, "gone", 4 * KIB), 0);
    rig_until_exists(&rig, 2, "stays", 1);
    rig_until_got(&rig, 2, "stays", 4 * KIB);
    rig_put(&rig, 2, "new", 4 * KIB);
    rig_until_exists(&rig, 1, "new", 1);
    rig_until_removed(&rig, 1, "new");
    rig_start(&rig, 0); /* and comes back, empty: its memory had no name */
    rig_until_members(&rig, 1, 3);
    rig_until_exists(&rig, 0, "stays", 1);
    rig_until_got(&rig, 0, "stays", 4 * KIB);
    assert_int_equal(rig_get(&rig, 0, "new", 4 * KIB), 0);
}

static void an_epoch_is_the_cluster_s(void **state) {
    (void)state;
    yk_ns_info info[4];
    rig_start(&rig, 0);
    rig_start(&rig, 1);
    rig_put(&rig, 0, "old", 4 * KIB);
    rig_until_exists(&rig, 1, "old", 1);
    assert_int_equal(yk_ns_raise_epoch(rig.n[1].client, "default", 7), 0);
    assert_int_equal(rig_get(&rig, 1, "old", 4 * KIB), 0);
    rig_until_exists(&rig, 0, "old", 0); /* the watch tells the other node */
    assert_int_equal(yk_ns_list(rig.n[0].client, info, 4), 1);
    assert_int_equal(info[0].epoch, 7);
    assert_int_equal(rig_get(&rig, 0, "old", 4 * KIB), 0);
}

/* n1's directory, from its own thread: what has been asked of owners; and the slot of `key` becomes n2's in its map, which
 * is an old one from then on. */
struct look {
    struct dir_job job;
    const char *key; /* NULL: nothing is changed */
    uint64_t questions;
    int mine, done; /* mine: the slot is n1's, or n2's in truth; done: atomic */
};

static void look(struct dir_job *job) {
    struct look *l = DIR_ITEM(job, struct look, job);
    struct yk_dir *d = job->dir;
    l->questions = d->n.questions;
    if (l->key != NULL) {
        struct yk_dir_slot *s = &d->map->slot[yk_dir_slot_of(yk_dir_hash("default", 7, l->key, (uint32_t)strlen(l->key)))];
        uint32_t n2 = yk_dir_map_named(d->map, "n2")->id;
        l->mine = s->owner == d->self || s->owner == n2;
        d->map->version--;
        s->owner = n2;
    }
    __atomic_store_n(&l->done, 1, __ATOMIC_RELEASE);
}

static struct look look_at(const char *key) {
    struct look l = {.job = {.dir = rig.n[1].dir, .back = look}, .key = key};
    dir_to_loop(rig.n[1].dir, &l.job);
    while (!__atomic_load_n(&l.done, __ATOMIC_ACQUIRE))
        ;
    return l;
}

/* Who is asked for a slot that it does not own says whose it is, and that one is asked. (A newer map may come in between:
 * then there is another try.) */
static void a_wrong_owner_says_who_it_is(void **state) {
    (void)state;
    uint64_t more = 0;
    rig_start_all(&rig, 3);
    for (unsigned k = 0; k < 50 && more != 2; k++) {
        char key[8];
        snprintf(key, sizeof(key), "k%u", k);
        rig_put(&rig, 0, key, KIB);
        rig_until_exists(&rig, 1, key, 1);
        struct look before = look_at(key);
        if (yk_exists(rig.n[1].client, yk_key_str(key)) == 1 && !before.mine)
            more = look_at(NULL).questions - before.questions;
    }
    assert_int_equal(more, 2); /* n2, and the owner; else nodes would have been asked */
}

/* Not only the node that made the cluster. */
static int has_space(unsigned i, const char *name) {
    yk_ns_info info[8];
    int n = yk_ns_list(rig.n[i].client, info, 8), there = 0;
    for (int k = 0; k < n; k++)
        there |= strcmp(info[k].name, name) == 0;
    return there;
}

static yk_client *open_space(unsigned i, const char *name) {
    char url[160];
    yk_client *c = NULL;
    yk_open_opts o = {.size = sizeof(o), .name_space = name, .timeout_ms = 20000};
    snprintf(url, sizeof(url), "unix:%s", rig.n[i].socket);
    assert_int_equal(yk_open(url, &o, &c), 0);
    return c;
}

/* With its blocks, at all nodes; and one that was away drops them before it serves them. */
static void a_removed_namespace_is_gone_everywhere(void **state) {
    (void)state;
    for (unsigned i = 0; i < 3; i++)
        rig_start(&rig, i);
    uint64_t end = 0;
    for (unsigned i = 0; i < 3; i++) {
        yk_client *c = open_space(i, "team");
        char key[8];
        snprintf(key, sizeof(key), "k%u", i);
        assert_int_equal(yk_put(c, yk_key_str(key), key, 3, NULL), 0);
        yk_close(c);
    }
    assert_int_equal(yk_ns_remove(rig.n[0].client, "team"), 0);
    assert_false(has_space(0, "team"));
    for (unsigned i = 1; i < 3; i++) {
        while (has_space(i, "team") && rig_patience(&end))
            continue;
        assert_false(has_space(i, "team"));
    }
    assert_int_equal(yk_ns_remove(rig.n[1].client, "team"), 0); /* as good as once */
    /* It can be there again, and nothing of before is. */
    yk_client *again = open_space(2, "team"), *other = open_space(1, "team");
    for (unsigned i = 0; i < 3; i++) {
        char key[8], got[8];
        snprintf(key, sizeof(key), "k%u", i);
        size_t len;
        assert_int_equal(yk_get(again, yk_key_str(key), got, sizeof(got), &len), YK_MISS);
    }
    assert_int_equal(yk_put(again, yk_key_str("k0"), "new", 4, NULL), 0);
    int there;
    while ((there = yk_exists(other, yk_key_str("k0"))) != 1 && rig_patience(&end))
        continue;
    assert_int_equal(there, 1);
    yk_close(again);
    yk_close(other);
}

static void who_joined_later_leaves_and_comes_back(void **state) {
    (void)state;
    rig_start(&rig, 0);
    rig_start(&rig, 1);
    rig_until_members(&rig, 0, 2);
    for (unsigned turn = 0; turn < 2; turn++) {
        rig_stop(&rig, 1);
        rig_until_members(&rig, 0, 1);
        rig_start(&rig, 1);
        rig_until_members(&rig, 0, 2);
    }
}

/* Lets a block go without telling, as when the ring is full, and says that something was lost. */
static void lose_a_change(void *arg, struct yk_store *store) {
    struct yk_dir *d = rig.n[0].dir;
    struct yk_pool_block too_long = {.ns = "", .key_len = DIR_RING_BYTES};
    uint64_t ticket;
    uint32_t ns;
    __atomic_store_n(&d->open, 0, __ATOMIC_RELEASE);
    assert_int_equal(yk_store_ns_open(store, "default", 7, 0, &ns, NULL), 0);
    assert_int_equal(yk_store_pool_remove(store, ns, arg, (uint32_t)strlen(arg), 0, &ticket), 0);
    __atomic_store_n(&d->open, 1, __ATOMIC_RELEASE);
    dir_ring_put(d->ring, &too_long);
    uv_async_send(&d->wake);
}

static void what_went_unheard_is_not_published_for_ever(void **state) {
    (void)state;
    static char gone[] = "gone";
    rig_start(&rig, 0);
    rig_start(&rig, 1);
    rig_put(&rig, 0, gone, 4 * KIB);
    rig_put(&rig, 0, "stays", 4 * KIB);
    rig_until_exists(&rig, 1, gone, 1);
    rig_until_exists(&rig, 1, "stays", 1);
    assert_int_equal(yk_node_post(rig.n[0].node, lose_a_change, gone), 0);
    rig_until_exists(&rig, 1, gone, 0);
    rig_until_exists(&rig, 1, "stays", 1);
    rig_until_got(&rig, 1, "stays", 4 * KIB);
}

enum { POOLED = 16 }; /* more than libuv has threads for */

static void block(uv_work_t *work) {
    uv_sem_wait(work->data);
}

/* What blocks in libuv's threads, segments that are opened at silent peers above all, does not keep the log of removes
 * from its disk. */
static void a_remove_does_not_wait_for_what_blocks(void **state) {
    (void)state;
    uv_loop_t loop;
    uv_sem_t sem;
    uv_work_t work[POOLED];
    rig_start(&rig, 0);
    rig_put(&rig, 0, "a", 100);
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(uv_sem_init(&sem, 0), 0);
    for (unsigned i = 0; i < POOLED; i++) {
        work[i].data = &sem;
        assert_int_equal(uv_queue_work(&loop, &work[i], block, NULL), 0);
    }
    int rc = yk_remove(rig.n[0].client, yk_key_str("a"));
    for (unsigned i = 0; i < POOLED; i++)
        uv_sem_post(&sem);
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_sem_destroy(&sem);
    assert_int_equal(uv_loop_close(&loop), 0);
    assert_int_equal(rc, 0);
}

static unsigned asked;

/* NULL: it was not let in, which is an answer, too. */
static void ask(yk_client *client) {
    asked++;
    if (client == NULL)
        return;
    yk_key keys[2] = {yk_key_str("a"), yk_key_str("b")};
    assert_int_equal(yk_match(client, keys, 2, NULL), 0);
    assert_int_equal(yk_exists(client, keys[0]), 0);
    assert_true(yk_remove(client, keys[1]) != 0);
}

/* The map of its last life is on disk, and says nothing before the node has joined. */
static void a_node_without_etcd_answers_its_clients(void **state) {
    (void)state;
    rig_start(&rig, 0);
    rig_put(&rig, 0, "a", 100);
    assert_int_equal(yk_ns_raise_epoch(rig.n[0].client, "default", 3), 0);
    rig_stop(&rig, 0);
    assert_true(rig_start_without_etcd(&rig, 0, ask) < 0);
    assert_true(asked > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_node_is_a_cluster, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(whoever_has_started_is_a_member, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(what_one_has_all_find, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_block_of_another_is_referred_to, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_chain_is_matched_over_nodes, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_remove_is_one_everywhere, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_node_that_leaves_takes_its_blocks_along, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(an_epoch_is_the_cluster_s, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_wrong_owner_says_who_it_is, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_removed_namespace_is_gone_everywhere, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(who_joined_later_leaves_and_comes_back, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(what_went_unheard_is_not_published_for_ever, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_remove_does_not_wait_for_what_blocks, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_node_without_etcd_answers_its_clients, rig_setup, rig_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
