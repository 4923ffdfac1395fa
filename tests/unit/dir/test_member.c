/* SPDX-License-Identifier: Apache-2.0
 *
 * Membership over the metadata in memory: several nodes share one handle and so one store. Who joins, leaves, returns,
 * and under which names. What the cluster is told to do: test_member_orders.c. With a real etcd, its failures, and
 * processes that are stopped: test_member_faults.c.
 */
#include "member_rig.h"

#include "base/hash.h"

#include <fcntl.h>
#include <unistd.h>

static int has_nodes(struct node *n, const void *arg) {
    return n->node_count == *(const unsigned *)arg;
}

/* ---- alone ------------------------------------------------------------------------------------ */

static int is_good(struct node *n, const void *arg) {
    (void)arg;
    return n->state.good;
}

static void test_alone(void **state) {
    struct yk_meta *meta = rig_embedded();
    struct node n;
    node_open(&n, meta, "only", "alone", NULL);
    node_wait_phase(&n, YK_MEMBER_IN);
    node_wait(&n, "its lease", is_good, NULL);
    struct yk_member_state s;
    yk_member_state(n.member, &s);
    assert_int_equal(s.id, 1);
    assert_int_equal(s.incarnation, 1);
    assert_true(s.cluster != 0);
    assert_false(s.stale);
    assert_int_equal(node_slots(&n, "only"), YK_DIR_SLOTS);
    node_close(&n, 1);
    /* The process starts again, and its metadata is empty: the map is its disk's, in higher terms. */
    yk_meta_close(meta);
    meta = rig_embedded();
    node_open(&n, meta, "only", "alone", NULL);
    node_wait_phase(&n, YK_MEMBER_IN);
    assert_int_equal(node_now(&n).cluster, s.cluster);
    assert_int_equal(node_now(&n).incarnation, 2);
    assert_false(node_now(&n).stale);
    assert_int_equal(node_slots(&n, "only"), YK_DIR_SLOTS);
    assert_true(node_term(&n, 0) > 1);
    node_close(&n, 0);
    yk_meta_close(meta);
}

/* ---- several ---------------------------------------------------------------------------------- */

static int says_all(struct node *n, const void *arg) {
    const struct yk_member_node *told = &n->nodes[0];
    return strcmp(told->clients, "127.0.0.1:1") == 0 && strcmp(told->peers, "127.0.0.1:2") == 0 &&
           strcmp(told->transfer, "127.0.0.1:3") == 0 && strcmp(told->zone, "r/z") == 0 &&
           strcmp(told->version, "1") == 0 && told->capacity_bytes == 1 << 20;
}

static void test_three_share_the_slots(void **state) {
    struct yk_meta *meta = rig_embedded();
    struct node n[3];
    unsigned three = 3;
    open_many(n, 3, meta, "three");
    for (unsigned i = 0; i < 3; i++) {
        wait_balanced(&n[i], 3);
        node_wait(&n[i], "all nodes", has_nodes, &three);
        assert_int_equal(node_now(&n[i]).cluster, node_now(&n[0]).cluster);
        assert_int_equal(node_now(&n[i]).id, i + 1);
    }
    node_wait(&n[0], "what nodes say", says_all, NULL);
    for (unsigned i = 0; i < 3; i++)
        node_close(&n[i], 1);
    yk_meta_close(meta);
}

/* A new node is counted by removes before it is a member, and owns nothing until then. */
static void test_new_nodes_return_first(void **state) {
    struct yk_meta *meta = rig_embedded();
    struct node a, b;
    node_open(&a, meta, "a", "first-a", NULL);
    node_wait_phase(&a, YK_MEMBER_IN); /* it makes the cluster: there is nothing that it could have missed */
    node_open(&b, meta, "b", "first-b", NULL);
    node_wait_phase(&b, YK_MEMBER_RETURNING);
    node_wait_state_of(&a, "b", YK_DIR_RETURNING);
    assert_true(node_now(&b).stale);
    yk_member_replayed(b.member, node_now(&b).incarnation); /* what it may hold is not gone yet */
    for (unsigned i = 1; i <= 5; i++) /* both have had their turns */
        assert_int_equal(node_set_space(i % 2 ? &a : &b, "ns", i, 0, NULL), 0);
    assert_int_equal(node_state_of(&b, "b"), YK_DIR_RETURNING);
    assert_int_equal(node_slots(&a, "a"), YK_DIR_SLOTS);
    yk_member_dropped(b.member);
    node_wait_phase(&b, YK_MEMBER_IN);
    assert_int_equal(node_now(&b).incarnation, 1);
    wait_balanced(&a, 2);
    node_close(&b, 1);
    node_close(&a, 1);
    yk_meta_close(meta);
}

static int has_load(struct node *n, const void *arg) {
    for (unsigned i = 0; i < n->node_count; i++)
        if (strcmp(n->nodes[i].name, "n1") == 0)
            return n->nodes[i].load.entries == *(const uint64_t *)arg;
    return 0;
}

static void test_loads_are_told(void **state) {
    struct yk_meta *meta = rig_embedded();
    struct node n[2];
    struct yk_member_load load = {.lookups_per_s = 12.5, .entries = 777};
    open_many(n, 2, meta, "loads");
    yk_member_load(n[1].member, &load);
    node_wait(&n[0], "a load", has_load, &load.entries);
    node_close(&n[0], 1);
    node_close(&n[1], 1);
    yk_meta_close(meta);
}

/* ---- leaving, dying, returning ------------------------------------------------------------------ */

static void test_expelled_and_back(void **state) {
    struct yk_meta *meta = rig_embedded();
    struct node n[3];
    open_many(n, 3, meta, "back");
    wait_balanced(&n[0], 3);
    uint64_t expulsions = node_expulsions(&n[0]);
    node_close(&n[2], 0); /* as if killed: its lease runs out */
    node_wait_state_of(&n[0], "n2", YK_DIR_EXPELLED);
    node_wait_state_of(&n[1], "n2", YK_DIR_EXPELLED);
    assert_int_equal(node_expulsions(&n[0]), expulsions + 1);
    assert_int_equal(node_slots(&n[0], "n2"), 0);
    assert_int_equal(node_slots(&n[0], "n0") + node_slots(&n[0], "n1"), YK_DIR_SLOTS);
    node_open(&n[2], meta, "n2", "back-n2", NULL);
    node_wait_phase(&n[2], YK_MEMBER_RETURNING);
    assert_int_equal(node_now(&n[2]).incarnation, 2);
    assert_int_equal(node_now(&n[2]).id, 3);
    assert_false(node_now(&n[2]).stale);
    node_wait_state_of(&n[0], "n2", YK_DIR_RETURNING);
    /* A replay for an earlier life counts for nothing: the change that comes behind it finds it so. */
    yk_member_replayed(n[2].member, 1);
    assert_int_equal(node_set_space(&n[2], "ns", 1, 0, NULL), 0);
    assert_int_equal(node_state_of(&n[2], "n2"), YK_DIR_RETURNING);
    assert_int_equal(node_slots(&n[0], "n2"), 0);
    yk_member_replayed(n[2].member, 2);
    node_wait_phase(&n[2], YK_MEMBER_IN);
    wait_balanced(&n[0], 3);
    for (unsigned i = 0; i < 3; i++)
        node_close(&n[i], 1);
    yk_meta_close(meta);
}

/* Only a name that nobody counts on goes; and who comes under it is new. */
static void test_forgotten(void **state) {
    struct yk_meta *meta = rig_embedded();
    struct node n[3];
    char text[YK_ERR_TEXT_MAX];
    open_many(n, 3, meta, "forget");
    wait_balanced(&n[0], 3);
    assert_int_equal(node_forget(&n[0], "nobody", text), -YK_ENOENT);
    assert_non_null(strstr(text, "no node named 'nobody'"));
    assert_int_equal(node_forget(&n[0], "n2", text), -YK_EBUSY);
    assert_non_null(strstr(text, "'n2' is a member: stop it"));
    assert_int_equal(node_drain(&n[0], "n2", 1), 0);
    node_close(&n[2], 0);
    node_wait_state_of(&n[1], "n2", YK_DIR_EXPELLED);
    node_wait_state_of(&n[0], "n2", YK_DIR_EXPELLED);
    uint64_t expulsions = node_expulsions(&n[0]);
    assert_int_equal(node_forget(&n[1], "n2", text), 0);
    node_wait_state_of(&n[0], "n2", 0);
    assert_int_equal(node_forget(&n[1], "n2", text), -YK_ENOENT);
    assert_int_equal(node_expulsions(&n[0]), expulsions);
    node_open(&n[2], meta, "n2", "forget-n2", NULL); /* with its old state directory */
    node_wait_phase(&n[2], YK_MEMBER_RETURNING);
    assert_int_equal(node_now(&n[2]).id, 4);
    assert_true(node_now(&n[2]).incarnation > 1); /* no message of its past is taken for one of now */
    assert_true(node_now(&n[2]).stale);
    assert_false(node_now(&n[2]).draining); /* that went with the name */
    node_wait_state_of(&n[0], "n2", YK_DIR_RETURNING);
    assert_int_equal(node_forget(&n[0], "n2", text), -YK_EBUSY);
    assert_non_null(strstr(text, "'n2' is returning"));
    node_enter(&n[2]);
    wait_balanced(&n[0], 3);
    for (unsigned i = 0; i < 3; i++)
        node_close(&n[i], 1);
    yk_meta_close(meta);
}

static void test_restart_within_its_lease(void **state) {
    struct yk_meta *meta = rig_embedded();
    struct node n[2];
    struct yk_member_opts o = rig_opts;
    o.lease_ms = 30000; /* the old key is there all the time */
    node_open(&n[0], meta, "a", "within-a", NULL);
    node_wait_phase(&n[0], YK_MEMBER_IN);
    node_open(&n[1], meta, "b", "within-b", &o);
    node_enter(&n[1]);
    wait_balanced(&n[0], 2);
    node_close(&n[1], 0);
    node_open(&n[1], meta, "b", "within-b", &o);
    node_wait_phase(&n[1], YK_MEMBER_IN); /* its own name is not in its way */
    assert_int_equal(node_now(&n[1]).incarnation, 2);
    assert_false(node_now(&n[1]).stale);
    assert_int_equal(node_expulsions(&n[1]), 0);
    assert_true(node_slots(&n[1], "b") > 0);
    node_close(&n[0], 1);
    node_close(&n[1], 1);
    yk_meta_close(meta);
}

static void test_leader_leaves(void **state) {
    struct yk_meta *meta = rig_embedded();
    struct node n[3];
    open_many(n, 3, meta, "leader");
    unsigned leader = 0;
    struct yk_member_state s;
    for (unsigned i = 0; i < 3; i++) {
        yk_member_state(n[i].member, &s);
        leader = s.leads ? i : leader;
    }
    char name[16];
    snprintf(name, sizeof(name), "n%u", leader);
    node_close(&n[leader], 0);
    for (unsigned i = 0; i < 3; i++)
        if (i != leader)
            node_wait_state_of(&n[i], name, YK_DIR_EXPELLED);
    for (unsigned i = 0; i < 3; i++)
        if (i != leader)
            node_close(&n[i], 1);
    yk_meta_close(meta);
}

/* ---- names and directories ---------------------------------------------------------------------- */

static int is_joined(struct node *n, const void *arg) {
    return n->state.incarnation != 0;
}

static void test_name_in_use(void **state) {
    struct yk_meta *meta = rig_embedded();
    struct node a, twin, other;
    node_open(&other, meta, "other", "use-other", NULL);
    node_wait_phase(&other, YK_MEMBER_IN);
    node_open(&a, meta, "a", "use-a", NULL);
    node_enter(&a);
    node_open(&twin, meta, "a", "use-twin", NULL);
    node_wait_phase(&twin, YK_MEMBER_REFUSED);
    node_wait_text(&twin, "the name 'a' is in use");
    node_wait_text(&twin, "another name");
    assert_int_equal(node_outs(&a), 0);
    /* When that one goes, the name is free; what the new one holds is not to be trusted. */
    node_close(&a, 1);
    node_wait(&twin, "its place in the map", is_joined, NULL); /* before the old one was expelled, or after */
    assert_int_equal(node_now(&twin).id, 2);
    assert_int_equal(node_now(&twin).incarnation, 2);
    assert_true(node_now(&twin).stale);
    node_enter(&twin);
    node_close(&twin, 1);
    node_close(&other, 1);
    yk_meta_close(meta);
}

static void test_directories_are_not_shared(void **state) {
    struct yk_meta *meta = rig_embedded();
    struct yk_err err = {0};
    struct node a, b;
    node_open(&a, meta, "a", "shared", NULL);
    node_wait_phase(&a, YK_MEMBER_IN);
    assert_int_equal(node_try(&b, meta, "a", "shared", NULL, &err), -YK_EBUSY);
    assert_non_null(strstr(err.text, "another process has"));
    node_close(&a, 1);
    assert_int_equal(node_try(&b, meta, "b", "shared", NULL, &err), -YK_EINVAL);
    assert_non_null(strstr(err.text, "'a'"));
    assert_non_null(strstr(err.text, "directory of its own"));
    assert_int_equal(node_try(&b, meta, "a/b", "shared", NULL, &err), -YK_EINVAL);
    assert_non_null(strstr(err.text, "choose"));
    yk_meta_close(meta);
}

static void test_damaged_files_are_refused(void **state) {
    static const char *const files[] = {"map", "node", "spaces"};
    struct yk_meta *meta = rig_embedded();
    struct node a;
    char path[200];
    node_open(&a, meta, "a", "damaged", NULL);
    node_wait_phase(&a, YK_MEMBER_IN);
    assert_int_equal(node_set_space(&a, "ns", 3, 4, NULL), 0);
    node_close(&a, 1);
    for (unsigned i = 0; i < 3; i++) {
        struct yk_err err = {0};
        unsigned char byte;
        snprintf(path, sizeof(path), "%s/%s", a.dir, files[i]);
        int fd = open(path, O_RDWR | O_CLOEXEC);
        assert_int_equal(pread(fd, &byte, 1, 9), 1);
        unsigned char flipped = byte ^ 0x80;
        assert_int_equal(pwrite(fd, &flipped, 1, 9), 1);
        assert_int_equal(node_try(&a, meta, "a", "damaged", NULL, &err), -YK_EPROTO);
        assert_non_null(strstr(err.text, files[i]));
        assert_non_null(strstr(err.text, "remove the directory"));
        assert_int_equal(pwrite(fd, &byte, 1, 9), 1);
        close(fd);
    }
    node_open(&a, meta, "a", "damaged", NULL);
    node_wait_phase(&a, YK_MEMBER_IN);
    node_close(&a, 1);
    yk_meta_close(meta);
}

/* Whole, but of a form that this program does not know: nobody is told to throw it away. */
static void test_files_of_another_version_are_refused(void **state) {
    static const char file[] = "YNs9 what a later program has written";
    unsigned char bytes[sizeof(file) - 1 + 8];
    struct yk_meta *meta = rig_embedded();
    struct yk_err err = {0};
    struct node a;
    char path[200];
    node_open(&a, meta, "a", "later", NULL);
    node_wait_phase(&a, YK_MEMBER_IN);
    node_close(&a, 1);
    memcpy(bytes, file, sizeof(file) - 1);
    uint64_t sum = yk_hash64(bytes, sizeof(file) - 1);
    for (int i = 0; i < 8; i++)
        bytes[sizeof(file) - 1 + i] = (unsigned char)(sum >> 8 * i);
    snprintf(path, sizeof(path), "%s/spaces", a.dir);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, bytes, sizeof(bytes)), sizeof(bytes));
    close(fd);
    assert_int_equal(node_try(&a, meta, "a", "later", NULL, &err), -YK_EVERSION);
    assert_non_null(strstr(err.text, "another version"));
    assert_null(strstr(err.text, "remove"));
    yk_meta_close(meta);
}

static void test_other_cluster(void **state) {
    struct yk_meta *meta = rig_embedded(), *meta2 = rig_embedded();
    struct node a, b;
    char id[20];
    node_open(&a, meta, "a", "mine-a", NULL);
    node_open(&b, meta2, "b", "mine-b", NULL);
    node_wait_phase(&a, YK_MEMBER_IN);
    node_wait_phase(&b, YK_MEMBER_IN);
    snprintf(id, sizeof(id), "%016llx", (unsigned long long)node_now(&b).cluster);
    assert_true(node_now(&a).cluster != node_now(&b).cluster);
    node_close(&b, 1);
    uint64_t version = node_version(&a);
    node_open(&b, meta, "b", "mine-b", NULL); /* with the state of another cluster */
    node_wait_phase(&b, YK_MEMBER_REFUSED);
    node_wait_text(&b, id);
    node_wait_text(&b, "new state directory");
    assert_int_equal(node_version(&a), version); /* nothing was written */
    node_close(&b, 1);
    node_close(&a, 1);
    yk_meta_close(meta);
    yk_meta_close(meta2);
}

/* What is empty under another prefix than the one of its cluster is no etcd that was emptied. */
static void test_wrong_prefix(void **state) {
    struct yk_meta *meta = rig_embedded(), *empty;
    struct yk_member_opts elsewhere = rig_opts;
    struct node a;
    node_open(&a, meta, "a", "prefix-a", NULL);
    node_wait_phase(&a, YK_MEMBER_IN);
    uint64_t cluster = node_now(&a).cluster;
    node_close(&a, 1);
    elsewhere.prefix = "elsewhere";
    node_open(&a, meta, "a", "prefix-a", &elsewhere);
    node_wait_phase(&a, YK_MEMBER_REFUSED);
    node_wait_text(&a, "nothing under 'elsewhere/'");
    node_wait_text(&a, "under 'yolk/'");
    node_wait_text(&a, "--cluster");
    node_close(&a, 1);
    /* It wrote nothing there: who is new finds the place empty. */
    struct node fresh;
    node_open(&fresh, meta, "fresh", "prefix-fresh", &elsewhere);
    node_wait_phase(&fresh, YK_MEMBER_IN);
    assert_true(node_now(&fresh).cluster != cluster);
    node_close(&fresh, 1);
    yk_meta_close(meta);
    empty = rig_embedded(); /* under its own prefix that is one that was emptied */
    node_open(&a, empty, "a", "prefix-a", NULL);
    node_wait_phase(&a, YK_MEMBER_IN);
    assert_int_equal(node_now(&a).cluster, cluster);
    node_close(&a, 1);
    yk_meta_close(empty);
}

/* A state directory that is restored from a copy of before. */
static void copy_file(const char *from, const char *to) {
    char buf[4096];
    int in = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ssize_t n;
    assert_true(in >= 0 && out >= 0);
    while ((n = read(in, buf, sizeof(buf))) > 0)
        assert_int_equal(write(out, buf, (size_t)n), n);
    close(in);
    close(out);
}

/* The balancer has heard of it, too: else who is quick goes on as a member. */
static void leave(struct node *n, struct node *other) {
    node_close(n, 1);
    node_wait_state_of(other, "b", YK_DIR_EXPELLED);
}

static void test_old_state_is_stale(void **state) {
    struct yk_meta *meta = rig_embedded();
    struct node a, b;
    char file[200], copy[200];
    node_open(&a, meta, "a", "stale-a", NULL);
    node_wait_phase(&a, YK_MEMBER_IN);
    node_open(&b, meta, "b", "stale-b", NULL);
    node_wait_phase(&b, YK_MEMBER_RETURNING);
    assert_true(node_now(&b).stale); /* it has no past here that it could show */
    node_enter(&b);
    leave(&b, &a);
    snprintf(file, sizeof(file), "%s/node", b.dir);
    snprintf(copy, sizeof(copy), "%s/node.copy", b.dir);
    copy_file(file, copy);
    for (unsigned life = 2; life <= 3; life++) { /* it restarts: fine */
        node_open(&b, meta, "b", "stale-b", NULL);
        node_wait_phase(&b, YK_MEMBER_RETURNING);
        assert_int_equal(node_now(&b).incarnation, life);
        assert_false(node_now(&b).stale);
        leave(&b, &a);
    }
    copy_file(copy, file);
    node_open(&b, meta, "b", "stale-b", NULL);
    node_wait_phase(&b, YK_MEMBER_RETURNING);
    assert_int_equal(node_now(&b).incarnation, 4);
    assert_true(node_now(&b).stale);
    leave(&b, &a); /* before it has dropped anything: it still has to */
    node_open(&b, meta, "b", "stale-b", NULL);
    node_wait_phase(&b, YK_MEMBER_RETURNING);
    assert_true(node_now(&b).stale);
    node_close(&b, 1);
    node_close(&a, 1);
    yk_meta_close(meta);
}

/* Only a member may say of itself that it has heard of etcd. */
static void test_sure_of_being_a_member(void **state) {
    struct yk_meta *meta = rig_embedded();
    struct node one, other;
    uint64_t begin = yk_boot_ms();
    node_open(&one, meta, "a", "sure-a", NULL);
    node_wait_phase(&one, YK_MEMBER_IN);
    uint64_t sure = yk_member_sure_ms(one.member);
    assert_true(sure >= begin && sure <= yk_boot_ms());
    node_open(&other, meta, "a", "sure-b", NULL); /* the name is taken */
    node_wait_phase(&other, YK_MEMBER_REFUSED);
    assert_int_equal(yk_member_sure_ms(other.member), 0);
    node_close(&other, 1);
    node_close(&one, 1);
    yk_meta_close(meta);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alone),
        cmocka_unit_test(test_three_share_the_slots),
        cmocka_unit_test(test_new_nodes_return_first),
        cmocka_unit_test(test_loads_are_told),
        cmocka_unit_test(test_expelled_and_back),
        cmocka_unit_test(test_forgotten),
        cmocka_unit_test(test_restart_within_its_lease),
        cmocka_unit_test(test_leader_leaves),
        cmocka_unit_test(test_name_in_use),
        cmocka_unit_test(test_directories_are_not_shared),
        cmocka_unit_test(test_damaged_files_are_refused),
        cmocka_unit_test(test_files_of_another_version_are_refused),
        cmocka_unit_test(test_other_cluster),
        cmocka_unit_test(test_wrong_prefix),
        cmocka_unit_test(test_old_state_is_stale),
        cmocka_unit_test(test_sure_of_being_a_member),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("dir_member", tests, NULL, NULL);
}
