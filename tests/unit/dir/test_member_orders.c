/* SPDX-License-Identifier: Apache-2.0
 *
 * Membership over the metadata in memory: what the cluster is told to do, and keeps. Drains, rebalances, namespaces with
 * their epochs and quotas; all of it also in an etcd that came back empty, which is another handle.
 */
#include "member_rig.h"

#include <sys/stat.h>
#include <unistd.h>

/* ---- draining --------------------------------------------------------------------------------- */

static int owns_nothing(struct node *n, const void *name) {
    const struct yk_dir_member *m = yk_dir_map_named(n->map, name);
    for (uint32_t i = 0; i < YK_DIR_SLOTS; i++)
        if (n->map->slot[i].owner == m->id)
            return 0;
    return 1;
}

static int is_draining(struct node *n, const void *wanted) {
    return n->state.draining == *(const int *)wanted;
}

static void test_drain(void **state) {
    struct yk_meta *meta = rig_embedded();
    struct node n[2];
    int on = 1, off = 0;
    open_many(n, 2, meta, "drain");
    wait_balanced(&n[0], 2);
    assert_int_equal(node_drain(&n[0], "nobody", 1), -YK_ENOENT);
    assert_int_equal(node_drain(&n[0], "n1", 1), 0);
    node_wait(&n[0], "an empty node", owns_nothing, "n1");
    node_wait(&n[1], "to be told so", is_draining, &on);
    assert_int_equal(node_drain(&n[1], "n1", 0), 0);
    node_wait(&n[1], "to be told so", is_draining, &off);
    wait_balanced(&n[0], 2);
    node_close(&n[0], 1);
    node_close(&n[1], 1);
    yk_meta_close(meta);
}

/* ---- rebalance -------------------------------------------------------------------------------- */

static int says(struct node *n, const void *text) {
    return strncmp(n->state.rebalance, text, strlen(text)) == 0;
}

/* Asked of any node; every node is told how it ended. */
static void test_rebalance(void **state) {
    struct yk_meta *meta = rig_embedded();
    struct node n[3];
    open_many(n, 3, meta, "rebalance");
    assert_int_equal(node_rebalance(&n[2]), 0); /* not the balancer */
    for (unsigned i = 0; i < 3; i++)
        node_wait(&n[i], "its end", says, "balanced: 'n");
    for (unsigned i = 0; i < 3; i++)
        assert_in_range(node_slots(&n[0], i == 0 ? "n0" : i == 1 ? "n1" : "n2"), YK_DIR_SLOTS / 3 * 94 / 100,
                        YK_DIR_SLOTS / 3 * 106 / 100);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(node_drain(&n[0], i == 0 ? "n0" : i == 1 ? "n1" : "n2", 1), 0);
    int on = 1;
    for (unsigned i = 0; i < 3; i++)
        node_wait(&n[i], "to be told so", is_draining, &on);
    assert_int_equal(node_rebalance(&n[1]), 0);
    node_wait(&n[1], "its end", says, "hindered: nobody is left to take 4096 slots");
    for (unsigned i = 0; i < 3; i++)
        node_close(&n[i], 1);
    yk_meta_close(meta);
}

static void test_suspects_get_no_slots(void **state) {
    struct yk_meta *meta = rig_embedded();
    struct node n[2];
    node_open(&n[0], meta, "n0", "suspect-n0", NULL);
    node_wait_phase(&n[0], YK_MEMBER_IN);
    yk_member_suspect(n[0].member, 2, 1); /* ids are given in order */
    node_open(&n[1], meta, "n1", "suspect-n1", NULL);
    node_enter(&n[1]);
    /* The balancer makes its steps in each of the turns that these changes need. */
    for (unsigned i = 1; i <= 20; i++)
        assert_int_equal(node_set_space(&n[0], "ns", i, 0, NULL), 0);
    assert_int_equal(node_slots(&n[0], "n1"), 0);
    yk_member_suspect(n[0].member, 2, 0);
    wait_balanced(&n[0], 2);
    node_close(&n[0], 1);
    node_close(&n[1], 1);
    yk_meta_close(meta);
}

/* What cannot be written down is not acted on; nor does the balancer go on from a map that is not the newest. */
static void test_disk_fails(void **state) {
    struct yk_meta *meta = rig_embedded();
    struct node a, b;
    char in_the_way[200];
    node_open(&a, meta, "a", "disk-a", NULL);
    node_wait_phase(&a, YK_MEMBER_IN);
    snprintf(in_the_way, sizeof(in_the_way), "%s/map.new", a.dir);
    assert_int_equal(mkdir(in_the_way, 0700), 0);
    node_open(&b, meta, "b", "disk-b", NULL);
    node_enter(&b);
    node_wait_text(&a, "nothing new is acted on");
    assert_int_equal(node_state_of(&a, "b"), 0);
    assert_int_equal(node_drain(&b, "a", 1), 0); /* there is something to do for the balancer, which is a */
    for (unsigned i = 1; i <= 5; i++)
        assert_int_equal(node_set_space(&a, "ns", i, 0, NULL), 0);
    assert_int_equal(rmdir(in_the_way), 0);
    node_wait_state_of(&a, "b", YK_DIR_MEMBER);
    node_wait(&a, "an empty node", owns_nothing, "a");
    assert_int_equal(node_outs(&b), 0);
    assert_int_equal(node_expulsions(&b), 0); /* as a map of another history would have brought */
    node_close(&b, 1);
    node_close(&a, 1);
    yk_meta_close(meta);
}

/* ---- namespaces ------------------------------------------------------------------------------- */

static void test_namespaces(void **state) {
    struct yk_meta *meta = rig_embedded();
    struct node n[2];
    char text[YK_ERR_TEXT_MAX];
    open_many(n, 2, meta, "spaces");
    assert_int_equal(node_set_space(&n[0], "model", 5, 1000, NULL), 0);
    node_wait_space(&n[0], "model", 5, 1000);
    node_wait_space(&n[1], "model", 5, 1000);
    assert_int_equal(node_set_space(&n[1], "model", 4, YK_MEMBER_KEEP_QUOTA, text), -YK_ESTALE);
    assert_non_null(strstr(text, "is 5 already"));
    assert_int_equal(node_set_space(&n[1], "model", 5, YK_MEMBER_KEEP_QUOTA, NULL), 0);
    assert_int_equal(node_set_space(&n[1], "model", 7, YK_MEMBER_KEEP_QUOTA, NULL), 0);
    node_wait_space(&n[0], "model", 7, 1000);
    assert_int_equal(node_set_space(&n[0], "model", 0, 0, NULL), 0);
    node_wait_space(&n[1], "model", 7, 0);
    assert_int_equal(node_set_space(&n[0], "", 1, 0, NULL), -YK_EINVAL);
    /* It is on disk: told before anything else, and given back to an etcd that lost it. */
    node_close(&n[0], 1);
    node_close(&n[1], 1);
    yk_meta_close(meta);
    meta = rig_embedded();
    node_open(&n[0], meta, "n0", "spaces-n0", NULL);
    node_wait_space(&n[0], "model", 7, 0);
    node_wait_phase(&n[0], YK_MEMBER_IN);
    struct node fresh;
    node_open(&fresh, meta, "fresh", "spaces-fresh", NULL);
    node_wait_space(&fresh, "model", 7, 0);
    node_close(&fresh, 1);
    node_close(&n[0], 1);
    yk_meta_close(meta);
}

/* As good as one of the watch: on disk, told, and given to an etcd that does not have it. */
static void test_epoch_of_a_message(void **state) {
    struct yk_meta *meta = rig_embedded();
    struct node n[2];
    open_many(n, 2, meta, "heard");
    assert_int_equal(node_set_space(&n[0], "model", 5, 1000, NULL), 0);
    node_wait_space(&n[1], "model", 5, 1000);
    yk_member_epoch(n[1].member, "model", 5, 9);
    yk_member_epoch(n[1].member, "model", 5, 7); /* news of before */
    yk_member_epoch(n[1].member, "other", 5, 3);
    yk_member_epoch(n[1].member, "\0bad", 4, 3);
    node_wait_space(&n[1], "model", 9, 1000);
    node_wait_space(&n[1], "other", 3, 0);
    node_wait_space(&n[0], "model", 9, 1000);
    node_close(&n[0], 1);
    node_close(&n[1], 1);
    yk_meta_close(meta);
    meta = rig_embedded();
    node_open(&n[1], meta, "n1", "heard-n1", NULL);
    node_wait_space(&n[1], "model", 9, 1000);
    node_wait_space(&n[1], "other", 3, 0);
    node_close(&n[1], 1);
    yk_meta_close(meta);
}

/* A removal is a higher epoch, and stands where the quota does: for who comes later, too, and in an etcd filled anew. */
static void test_removed_namespace(void **state) {
    struct yk_meta *meta = rig_embedded();
    struct node n[2];
    open_many(n, 2, meta, "removed");
    assert_int_equal(node_set_space(&n[0], "model", 5, 1000, NULL), 0);
    assert_int_equal(node_set_space(&n[0], "plain", 0, 0, NULL), 0);
    assert_int_equal(node_set_space(&n[1], "model", 0, YK_MEMBER_NO_SPACE, NULL), 0);
    assert_int_equal(node_set_space(&n[1], "plain", 0, YK_MEMBER_NO_SPACE, NULL), 0);
    node_wait_space(&n[0], "model", 6, YK_MEMBER_NO_SPACE);
    node_wait_space(&n[0], "plain", 2, YK_MEMBER_NO_SPACE); /* who was never raised is at 1 */
    assert_int_equal(node_set_space(&n[0], "model", 0, YK_MEMBER_NO_SPACE, NULL), 0); /* it is gone already */
    node_wait_space(&n[1], "model", 6, YK_MEMBER_NO_SPACE);
    node_close(&n[1], 1);
    assert_int_equal(node_set_space(&n[0], "plain", 0, YK_MEMBER_KEEP_QUOTA, NULL), 0); /* somebody opens it */
    node_wait_space(&n[0], "plain", 2, 0);
    yk_member_epoch(n[0].member, "model", 5, 7); /* a peer has it at a higher one: it is there again */
    node_wait_space(&n[0], "model", 7, 0);
    assert_int_equal(node_set_space(&n[0], "model", 0, YK_MEMBER_NO_SPACE, NULL), 0);
    node_close(&n[0], 1);
    yk_meta_close(meta);
    meta = rig_embedded();
    node_open(&n[0], meta, "n0", "removed-n0", NULL);
    node_wait_phase(&n[0], YK_MEMBER_IN);
    node_open(&n[1], meta, "n1", "removed-n1", NULL); /* it was away */
    node_wait_space(&n[1], "model", 8, YK_MEMBER_NO_SPACE);
    node_wait_space(&n[1], "plain", 2, 0);
    assert_int_equal(node_set_space(&n[0], "last", INT64_MAX, 0, NULL), 0); /* no epoch is left for a removal */
    assert_int_equal(node_set_space(&n[0], "last", 0, YK_MEMBER_NO_SPACE, NULL), -YK_ELIMIT);
    node_close(&n[0], 1);
    node_close(&n[1], 1);
    yk_meta_close(meta);
}

/* So do guarantee and priority: each is left by changes of the other and of the rest, and none outlives its namespace. */
static void test_terms_of_a_namespace(void **state) {
    struct yk_meta *meta = rig_embedded();
    struct node n[2];
    open_many(n, 2, meta, "terms");
    assert_int_equal(node_set_space(&n[0], "model", 5, 1000, NULL), 0);
    assert_int_equal(node_set_terms(&n[1], "model", 1u << 30, YK_MEMBER_KEEP_PRIORITY), 0);
    node_wait_terms(&n[0], "model", 1u << 30, 0);
    assert_int_equal(node_set_terms(&n[0], "model", YK_MEMBER_KEEP_GUARANTEE, 300), 0);
    assert_int_equal(node_set_copies(&n[0], "model", 2), 0);
    node_wait_terms(&n[1], "model", 1u << 30, 300);
    node_wait_copies(&n[1], "model", 2);
    node_wait_space(&n[1], "model", 5, 1000);
    assert_int_equal(node_set_terms(&n[0], "model", (uint64_t)INT64_MAX + 1, 0), -YK_EINVAL);
    assert_int_equal(node_set_terms(&n[0], "other", 7, 8), 0);
    node_wait_terms(&n[1], "other", 7, 8);
    assert_int_equal(node_set_space(&n[0], "other", 0, YK_MEMBER_NO_SPACE, NULL), 0);
    node_wait_terms(&n[1], "other", 0, 0);
    node_close(&n[0], 1);
    node_close(&n[1], 1);
    yk_meta_close(meta);
    meta = rig_embedded(); /* empty: filled from a disk */
    node_open(&n[0], meta, "n0", "terms-n0", NULL);
    node_wait_terms(&n[0], "model", 1u << 30, 300);
    node_wait_phase(&n[0], YK_MEMBER_IN);
    struct node fresh;
    node_open(&fresh, meta, "fresh", "terms-fresh", NULL);
    node_wait_terms(&fresh, "model", 1u << 30, 300);
    node_close(&fresh, 1);
    node_close(&n[0], 1);
    yk_meta_close(meta);
}

/* The number of copies goes with the rest: all hear it, other changes leave it, a disk keeps it for an etcd filled anew. */
static void test_copies_of_a_namespace(void **state) {
    struct yk_meta *meta = rig_embedded();
    struct node n[2];
    open_many(n, 2, meta, "copies");
    assert_int_equal(node_set_space(&n[0], "model", 5, 1000, NULL), 0);
    node_wait_space(&n[1], "model", 5, 1000);
    assert_int_equal(node_set_copies(&n[1], "model", 3), 0);
    node_wait_copies(&n[0], "model", 3);
    node_wait_space(&n[0], "model", 5, 1000);
    assert_int_equal(node_set_space(&n[0], "model", 6, YK_MEMBER_KEEP_QUOTA, NULL), 0);
    node_wait_space(&n[1], "model", 6, 1000);
    node_wait_copies(&n[1], "model", 3);
    assert_int_equal(node_set_copies(&n[0], "other", 2), 0);
    assert_int_equal(node_set_space(&n[0], "other", 0, YK_MEMBER_NO_SPACE, NULL), 0);
    node_wait_copies(&n[1], "other", 0);
    node_close(&n[0], 1);
    node_close(&n[1], 1);
    yk_meta_close(meta);
    meta = rig_embedded();
    node_open(&n[0], meta, "n0", "copies-n0", NULL);
    node_wait_copies(&n[0], "model", 3);
    node_wait_phase(&n[0], YK_MEMBER_IN);
    struct node fresh;
    node_open(&fresh, meta, "fresh", "copies-fresh", NULL);
    node_wait_copies(&fresh, "model", 3);
    node_close(&fresh, 1);
    node_close(&n[0], 1);
    yk_meta_close(meta);
}

/* However many there are, while the thread hangs (here in what it is told): none is forgotten. */
static void test_many_epochs_while_it_hangs(void **state) {
    enum { N = 200 };
    struct yk_meta *meta = rig_embedded();
    struct node n;
    char name[16];
    node_open(&n, meta, "n", "hangs", NULL);
    node_wait_phase(&n, YK_MEMBER_IN);
    pthread_mutex_lock(&n.lock); /* every op of the rig waits for it */
    for (unsigned round = 1; round <= 2; round++)
        for (unsigned i = 0; i < N; i++) {
            snprintf(name, sizeof(name), "space-%u", i);
            yk_member_epoch(n.member, name, (uint32_t)strlen(name), round + i);
        }
    pthread_mutex_unlock(&n.lock);
    node_wait_space(&n, "space-0", 2, 0);
    for (unsigned i = 0; i < N; i++) {
        snprintf(name, sizeof(name), "space-%u", i);
        node_wait_space(&n, name, 2 + i, 0);
    }
    node_close(&n, 1);
    yk_meta_close(meta);
}

/* ---- an etcd that came back empty --------------------------------------------------------------- */

static void reopen(struct node *n, struct yk_meta *meta, const char *test, unsigned i, const struct yk_member_opts *o) {
    char name[16], dir[64];
    snprintf(name, sizeof(name), "n%u", i);
    snprintf(dir, sizeof(dir), "%s-%s", test, name);
    node_open(n, meta, name, dir, o);
}

/* Nobody is waited for when all have come. */
static void test_filled_again_by_all(void **state) {
    struct yk_meta *meta = rig_embedded();
    struct node n[3];
    int on = 1;
    struct yk_member_opts o = rig_opts;
    static uint64_t terms[YK_DIR_SLOTS];
    o.lease_ms = 30000; /* they close one after the other, and none expels another */
    open_with(n, 3, meta, "all", &o);
    wait_balanced(&n[0], 3);
    uint64_t cluster = node_now(&n[0]).cluster;
    assert_int_equal(node_drain(&n[0], "n2", 1), 0);
    for (unsigned i = 0; i < 3; i++)
        node_wait(&n[i], "an empty node", owns_nothing, "n2");
    struct yk_dir_map *was = node_map(&n[0]);
    for (unsigned i = 0; i < 3; i++)
        node_close(&n[i], 0);
    yk_meta_close(meta);
    meta = rig_embedded();
    o.grace_ms = 3600000;
    for (unsigned i = 0; i < 3; i++) {
        o.terms = i == 1 ? terms : NULL;
        terms[9] = 1000; /* one of them has heard of a term that no map on disk has */
        reopen(&n[i], meta, "all", i, &o);
    }
    for (unsigned i = 0; i < 3; i++) {
        node_wait_phase(&n[i], YK_MEMBER_IN);
        assert_int_equal(node_now(&n[i]).cluster, cluster);
        assert_int_equal(node_now(&n[i]).incarnation, 2);
        assert_false(node_now(&n[i]).stale);
    }
    for (uint32_t i = 0; i < YK_DIR_SLOTS; i++)
        assert_true(node_term(&n[2], i) > was->slot[i].term);
    assert_true(node_term(&n[2], 9) > 1000);
    node_wait(&n[2], "to be told so", is_draining, &on);
    /* The balancer has had its turns since, and left it so. */
    for (unsigned i = 1; i <= 5; i++)
        assert_int_equal(node_set_space(&n[2], "ns", i, 0, NULL), 0);
    assert_int_equal(node_now(&n[2]).draining, 1);
    assert_int_equal(node_expulsions(&n[2]), was->expulsions);
    free(was);
    for (unsigned i = 0; i < 3; i++)
        node_close(&n[i], 1);
    yk_meta_close(meta);
}

static int has_outgrown(struct node *n, const void *arg) {
    return n->map->slot[9].term > *(const uint64_t *)arg;
}

/* A term that somebody has heard of and that the map does not come to: nobody would take anything from the owner. */
static void test_known_terms_are_outgrown(void **state) {
    struct yk_meta *meta = rig_embedded();
    struct node n[2];
    uint64_t term = 500;
    open_many(n, 2, meta, "outgrow");
    yk_member_term(n[1].member, 9, term); /* whoever it is, owner or not, leader or not */
    node_wait(&n[0], "a higher term", has_outgrown, &term);
    assert_int_equal(node_term(&n[0], 9), term + 1);
    assert_int_equal(node_expulsions(&n[0]), 0);
    node_close(&n[0], 1);
    node_close(&n[1], 1);
    yk_meta_close(meta);
}

static void test_filled_again_without_one(void **state) {
    struct yk_meta *meta = rig_embedded();
    struct node n[3];
    struct yk_member_opts o = rig_opts;
    o.lease_ms = 30000; /* they close one after the other, and none expels another */
    open_with(n, 3, meta, "some", &o);
    wait_balanced(&n[0], 3);
    for (unsigned i = 0; i < 3; i++)
        node_close(&n[i], 0);
    yk_meta_close(meta);
    meta = rig_embedded();
    reopen(&n[0], meta, "some", 0, NULL);
    node_wait_text(&n[0], "waits for");
    reopen(&n[1], meta, "some", 1, NULL);
    node_wait_phase(&n[0], YK_MEMBER_IN);
    node_wait_phase(&n[1], YK_MEMBER_IN);
    node_wait_state_of(&n[0], "n2", YK_DIR_EXPELLED); /* after its time of grace */
    assert_int_equal(node_slots(&n[0], "n2"), 0);
    reopen(&n[2], meta, "some", 2, NULL);
    node_wait_phase(&n[2], YK_MEMBER_RETURNING);
    for (unsigned i = 0; i < 3; i++)
        node_close(&n[i], 1);
    yk_meta_close(meta);
}

/* Who was expelled while its disk did not hear of it is expelled in the new etcd, too. */
static void test_newest_map_counts(void **state) {
    struct yk_meta *meta = rig_embedded();
    struct node n[2];
    open_many(n, 2, meta, "newest");
    node_close(&n[1], 0);
    node_wait_state_of(&n[0], "n1", YK_DIR_EXPELLED);
    uint64_t expulsions = node_expulsions(&n[0]);
    node_close(&n[0], 0);
    yk_meta_close(meta);
    meta = rig_embedded();
    reopen(&n[1], meta, "newest", 1, NULL); /* the one with the old map comes first, and leads */
    node_wait_text(&n[1], "waits for");
    reopen(&n[0], meta, "newest", 0, NULL);
    node_wait_phase(&n[0], YK_MEMBER_IN);
    node_wait_phase(&n[1], YK_MEMBER_RETURNING);
    assert_true(node_expulsions(&n[0]) >= expulsions);
    node_close(&n[0], 1);
    node_close(&n[1], 1);
    yk_meta_close(meta);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_drain),
        cmocka_unit_test(test_rebalance),
        cmocka_unit_test(test_suspects_get_no_slots),
        cmocka_unit_test(test_disk_fails),
        cmocka_unit_test(test_namespaces),
        cmocka_unit_test(test_epoch_of_a_message),
        cmocka_unit_test(test_removed_namespace),
        cmocka_unit_test(test_copies_of_a_namespace),
        cmocka_unit_test(test_terms_of_a_namespace),
        cmocka_unit_test(test_many_epochs_while_it_hangs),
        cmocka_unit_test(test_filled_again_by_all),
        cmocka_unit_test(test_known_terms_are_outgrown),
        cmocka_unit_test(test_filled_again_without_one),
        cmocka_unit_test(test_newest_map_counts),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("dir_member_orders", tests, NULL, NULL);
}
