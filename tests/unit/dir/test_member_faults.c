/* SPDX-License-Identifier: Apache-2.0
 *
 * Membership over a real etcd that hangs, or comes back empty, and nodes that are processes of their own, which
 * are stopped past their lease, or killed.
 */
#include "../meta/etcd_rig.h"
#include "member_rig.h"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct yk_meta_opts quick = {.try_ms = 400, .probe_ms = 400};

static struct yk_meta *open_etcd(struct cluster *c) {
    struct yk_meta_opts o = quick;
    return cluster_open(c, -1, &o);
}

static int is_good(struct node *n, const void *arg) {
    return n->state.good;
}

static int is_away(struct node *n, const void *arg) {
    return !n->state.good;
}

/* ---- etcd ------------------------------------------------------------------------------------- */

static void test_etcd_hangs(void **state) {
    struct cluster c;
    static struct node n[2];
    struct yk_meta *meta[2];
    char text[YK_ERR_TEXT_MAX], name[] = "n0", dir[] = "hang-0";
    struct yk_member_opts o = rig_opts;
    o.grace_ms = 20000;
    cluster_start(&c, 1, false, NULL);
    for (unsigned i = 0; i < 2; i++) {
        name[1] = dir[5] = (char)('0' + i);
        meta[i] = open_etcd(&c);
        node_open(&n[i], meta[i], name, dir, &o);
        node_enter(&n[i]);
    }
    member_signal(&c, 0, SIGSTOP);
    for (unsigned i = 0; i < 2; i++) {
        node_wait(&n[i], "to be told that etcd is away", is_away, NULL);
        assert_int_equal(node_now(&n[i]).phase, YK_MEMBER_IN); /* nothing is given up */
        assert_true(node_now(&n[i]).away_since_ms > 0 && node_now(&n[i]).away_since_ms <= yk_boot_ms());
        assert_true(node_now(&n[i]).text[0] != '\0');
    }
    assert_int_equal(node_set_space(&n[0], "ns", 9, 0, text), -YK_EGONE);
    assert_true(text[0] != '\0');
    member_signal(&c, 0, SIGCONT);
    for (unsigned i = 0; i < 2; i++)
        node_wait(&n[i], "etcd", is_good, NULL);
    assert_int_equal(node_set_space(&n[0], "ns", 9, 0, NULL), 0);
    node_wait_space(&n[1], "ns", 9, 0);
    for (unsigned i = 0; i < 2; i++) { /* both their leases were over; neither holds it against the other */
        assert_int_equal(node_outs(&n[i]), 0);
        assert_int_equal(node_expulsions(&n[i]), 0);
        assert_int_equal(node_now(&n[i]).incarnation, 1);
    }
    for (unsigned i = 0; i < 2; i++) {
        node_close(&n[i], 1);
        yk_meta_close(meta[i]);
    }
    cluster_stop(&c);
}

static int has_terms(struct node *n, const void *old) {
    const struct yk_dir_map *was = old;
    for (uint32_t i = 0; i < YK_DIR_SLOTS; i++)
        if (n->map->slot[i].term <= was->slot[i].term)
            return 0;
    return 1;
}

static void test_etcd_comes_back_empty(void **state) {
    struct cluster c;
    static struct node n[2];
    struct yk_meta *meta;
    struct yk_member_opts o = rig_opts;
    o.grace_ms = 20000;
    cluster_start(&c, 1, false, NULL);
    meta = open_etcd(&c);
    node_open(&n[0], meta, "a", "empty-a", &o);
    node_enter(&n[0]);
    node_open(&n[1], meta, "b", "empty-b", &o);
    node_enter(&n[1]);
    assert_int_equal(node_set_space(&n[0], "ns", 3, 77, NULL), 0);
    node_wait_space(&n[1], "ns", 3, 77);
    node_wait_state_of(&n[0], "b", YK_DIR_MEMBER);
    struct yk_dir_map *was = node_map(&n[0]);
    member_kill(&c, 0);
    member_wipe(&c, 0);
    member_start(&c, 0);
    for (unsigned i = 0; i < 2; i++) {
        node_wait(&n[i], "higher terms", has_terms, was);
        node_wait_phase(&n[i], YK_MEMBER_IN);
        node_wait(&n[i], "etcd", is_good, NULL);
        assert_int_equal(node_now(&n[i]).cluster, was->cluster);
        assert_int_equal(node_now(&n[i]).incarnation, 1); /* they went on living */
        assert_int_equal(node_expulsions(&n[i]), was->expulsions);
        assert_int_equal(node_outs(&n[i]), 0);
    }
    /* A node that joins now finds it all. */
    struct node fresh;
    node_open(&fresh, meta, "c", "empty-c", &o);
    node_enter(&fresh);
    assert_int_equal(node_now(&fresh).cluster, was->cluster);
    node_wait_space(&fresh, "ns", 3, 77);
    free(was);
    node_close(&fresh, 1);
    node_close(&n[0], 1);
    node_close(&n[1], 1);
    yk_meta_close(meta);
    cluster_stop(&c);
}

/* Before etcd is there, the disk's map is told, and nothing is joined. */
static void test_start_without_etcd(void **state) {
    struct cluster c;
    struct node n;
    struct yk_meta *meta;
    cluster_start(&c, 1, false, NULL);
    meta = open_etcd(&c);
    node_open(&n, meta, "a", "without-a", NULL);
    node_enter(&n);
    node_close(&n, 1);
    member_kill(&c, 0);
    node_open(&n, meta, "a", "without-a", NULL);
    node_wait_state_of(&n, "a", YK_DIR_MEMBER);
    node_wait_phase(&n, YK_MEMBER_STARTING);
    assert_int_equal(node_now(&n).incarnation, 0);
    assert_false(node_now(&n).good);
    member_start(&c, 0);
    node_wait_phase(&n, YK_MEMBER_IN);
    assert_int_equal(node_now(&n).incarnation, 2);
    node_close(&n, 1);
    yk_meta_close(meta);
    cluster_stop(&c);
}

/* ---- nodes that are processes ------------------------------------------------------------------ */

struct child {
    pid_t pid;
    int to, from;
};

static void say(int fd, char byte) {
    if (write(fd, &byte, 1) != 1)
        _exit(2);
}

/* Joins, says 'j'; when it was expelled 'o', and when it is returning 'r', with its incarnation; returns when told
 * to, and says 'i'. */
static void child_main(struct cluster *c, const char *name, int in, int out) {
    static struct node n;
    char byte;
    struct yk_meta *meta = open_etcd(c);
    node_open(&n, meta, name, name, NULL);
    node_enter(&n);
    say(out, 'j');
    node_wait_phase(&n, YK_MEMBER_RETURNING);
    say(out, node_outs(&n) == 1 ? 'o' : '?');
    say(out, (char)('0' + node_now(&n).incarnation));
    if (read(in, &byte, 1) != 1)
        _exit(3);
    yk_member_replayed(n.member, node_now(&n).incarnation);
    node_wait_phase(&n, YK_MEMBER_IN);
    say(out, 'i');
    (void)!read(in, &byte, 1); /* until its parent ends it */
    _exit(0);
}

/* Forked before this process has threads. */
static struct child child_start(struct cluster *c, const char *name) {
    struct child child;
    int to[2], from[2];
    rig_folder();
    assert_int_equal(pipe(to), 0);
    assert_int_equal(pipe(from), 0);
    fflush(NULL);
    child.pid = fork();
    assert_true(child.pid >= 0);
    if (child.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(to[1]);
        close(from[0]);
        child_main(c, name, to[0], from[1]);
    }
    close(to[0]);
    close(from[1]);
    child.to = to[1];
    child.from = from[0];
    return child;
}

static char heard(struct child *c) {
    struct pollfd p = {.fd = c->from, .events = POLLIN};
    char byte = 0;
    assert_int_equal(poll(&p, 1, RIG_WAIT_MS), 1);
    assert_int_equal(read(c->from, &byte, 1), 1);
    return byte;
}

static void child_end(struct child *c) {
    kill(c->pid, SIGKILL);
    waitpid(c->pid, NULL, 0);
    close(c->to);
    close(c->from);
}

static void test_stopped_past_its_lease(void **state) {
    struct cluster c;
    static struct node a;
    cluster_start(&c, 1, false, NULL);
    struct child child = child_start(&c, "stopped");
    struct yk_meta *meta = open_etcd(&c);
    assert_int_equal(heard(&child), 'j');
    node_open(&a, meta, "watcher", "watcher", NULL);
    node_enter(&a);
    assert_int_equal(node_slots(&a, "stopped") + node_slots(&a, "watcher"), YK_DIR_SLOTS);
    kill(child.pid, SIGSTOP);
    node_wait_state_of(&a, "stopped", YK_DIR_EXPELLED);
    assert_int_equal(node_slots(&a, "stopped"), 0);
    assert_int_equal(node_slots(&a, "watcher"), YK_DIR_SLOTS);
    kill(child.pid, SIGCONT);
    assert_int_equal(heard(&child), 'o');
    assert_int_equal(heard(&child), '2');
    node_wait_state_of(&a, "stopped", YK_DIR_RETURNING);
    assert_int_equal(write(child.to, "r", 1), 1);
    assert_int_equal(heard(&child), 'i');
    node_wait_state_of(&a, "stopped", YK_DIR_MEMBER);
    child_end(&child);
    node_wait_state_of(&a, "stopped", YK_DIR_EXPELLED); /* killed */
    assert_int_equal(node_expulsions(&a), 2);
    assert_int_equal(node_outs(&a), 0);
    node_close(&a, 1);
    yk_meta_close(meta);
    cluster_stop(&c);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stopped_past_its_lease),
        cmocka_unit_test(test_etcd_hangs),
        cmocka_unit_test(test_etcd_comes_back_empty),
        cmocka_unit_test(test_start_without_etcd),
    };
    if (cluster_missing() != NULL) {
        printf("1..0 # SKIP %s\n", cluster_missing());
        return 77;
    }
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("dir_member_faults", tests, NULL, NULL);
}
