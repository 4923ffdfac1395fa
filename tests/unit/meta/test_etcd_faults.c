/* SPDX-License-Identifier: Apache-2.0
 *
 * The metadata while a cluster of three members fails in the ways that it does: its leader is killed or
 * hangs, its majority is away for a while, all of it restarts, all of it restarts empty, history is
 * compacted behind a watch, and a process that held a lease was stopped.
 *
 * In each a writer counts up a key while something happens; a watch must tell every number once and in
 * order. The writer guards its transactions, so that one that was unsure is neither lost nor made twice.
 */
#include "etcd_rig.h"
#include "rig.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define TRY_MS 400u /* so that tests wait less for members that hang */

struct scene {
    struct cluster cluster;
    struct yk_meta *meta;
    struct record r;
    struct lease_record lease;
    unsigned long counter;
    uint64_t revision; /* of the counter's key */
};

static const struct yk_meta_opts quick = {.try_ms = TRY_MS, .probe_ms = TRY_MS};

/* One more, made exactly once; asked until it is known to have been made. */
static void count_up(struct scene *s) {
    struct answer a;
    char next[24];
    uint64_t end = yk_boot_ms() + RIG_WAIT_MS;
    snprintf(next, sizeof(next), "%lu", ++s->counter);
    struct yk_meta_compare same = {
        .key = "f/counter", .field = YK_META_MOD_REVISION, .number = s->revision};
    struct yk_meta_change put = {
        .key = "f/counter", .value = next, .value_len = (uint32_t)strlen(next)};
    struct yk_meta_txn txn = {
        .compares = &same, .compare_count = 1, .changes = &put, .change_count = 1};
    for (;;) {
        rig_txn(s->meta, &txn, 2000, &a);
        if (a.status == 0 && a.done) {
            s->revision = a.revision;
            return;
        }
        if (a.status == 0) { /* an earlier try was made after all */
            assert_int_equal(a.count, 1);
            assert_string_equal(a.kvs[0].value, next);
            s->revision = a.kvs[0].mod_revision;
            return;
        }
        if (yk_boot_ms() > end)
            fail_msg("counting to %lu: %s: %s", s->counter, yk_status_name(a.status), a.text);
    }
}

static void count_to(struct scene *s, unsigned n) {
    for (unsigned i = 0; i < n; i++)
        count_up(s);
    record_wait(&s->r, "the counter", at_counter, &s->counter);
}

static void scene_start(struct scene *s, struct yk_meta_opts o) {
    memset(s, 0, sizeof(*s));
    cluster_start(&s->cluster, 3, false, NULL);
    s->meta = cluster_open(&s->cluster, -1, &o);
    record_open(&s->r, s->meta, "f/", 0);
    count_to(s, 3);
}

static void scene_end(struct scene *s) {
    record_close(&s->r);
    yk_meta_close(s->meta);
    cluster_stop(&s->cluster);
}

/* ---- one member ------------------------------------------------------------------------------- */

static void one_member_goes(int sig) {
    static struct scene s;
    scene_start(&s, quick);
    lease_open(&s.lease, s.meta, 20000);
    lease_wait(&s.lease, YK_META_LEASE_HELD);
    /* First the leader, then all in turn: the one that carries the watch is among them. */
    unsigned leader = cluster_leader(&s.cluster);
    for (unsigned round = 0; round < 4; round++) {
        unsigned i = round == 0 ? leader : round - 1;
        if (sig == SIGKILL)
            member_kill(&s.cluster, i);
        else
            member_signal(&s.cluster, i, sig);
        count_to(&s, 5);
        if (sig == SIGKILL)
            member_start(&s.cluster, i);
        else
            member_signal(&s.cluster, i, SIGCONT);
        count_to(&s, 3);
    }
    assert_int_equal(s.r.gaps, 0);
    assert_int_equal(s.r.states, 1);
    assert_int_equal(s.lease.losts, 0);
    lease_close(&s.lease, true);
    scene_end(&s);
}

static void test_leader_killed(void **state) {
    one_member_goes(SIGKILL);
}

static void test_leader_stopped(void **state) {
    one_member_goes(SIGSTOP);
}

/* ---- most of them, or all --------------------------------------------------------------------- */

static void test_majority_away(void **state) {
    static struct scene s;
    struct answer a;
    static struct election_record e;
    scene_start(&s, quick);
    lease_open(&s.lease, s.meta, 2000);
    election_open(&e, s.meta, "fe", &s.lease, "me");
    election_wait(&e, true, true, "me");
    uint64_t id = s.lease.id;
    member_kill(&s.cluster, 0);
    member_signal(&s.cluster, 1, SIGSTOP);
    record_wait(&s.r, "trouble", in_trouble, NULL);
    /* Nothing hangs, and the text says whom it asked. */
    rig_get_in(s.meta, "f/counter", 1000, &a);
    assert_int_equal(a.status, -YK_ETIMEDOUT);
    assert_non_null(strstr(a.text, "127.0.0.1"));
    lease_wait(&s.lease, YK_META_LEASE_UNSURE);
    assert_int_equal(yk_meta_lease_left_ms(s.lease.lease), 0);
    election_wait(&e, false, false, ""); /* who is not sure of its lease does not lead */
    member_start(&s.cluster, 0);
    member_signal(&s.cluster, 1, SIGCONT);
    count_to(&s, 3);
    assert_int_equal(s.r.gaps, 0);
    assert_int_equal(s.r.states, 1);
    /* etcd extends leases when a leader is elected; should this one have run out, it says so. */
    uint64_t end = yk_boot_ms() + RIG_WAIT_MS;
    enum yk_meta_lease_state now = YK_META_LEASE_UNSURE;
    while (now == YK_META_LEASE_UNSURE && yk_boot_ms() < end) {
        count_up(&s);
        pthread_mutex_lock(&s.lease.lock);
        now = s.lease.state;
        pthread_mutex_unlock(&s.lease.lock);
    }
    assert_true(now == YK_META_LEASE_HELD || now == YK_META_LEASE_LOST);
    if (now == YK_META_LEASE_HELD) {
        assert_int_equal(s.lease.id, id);
        election_wait(&e, true, true, "me");
    }
    election_close(&e);
    lease_close(&s.lease, true);
    scene_end(&s);
}

static void test_all_restarted(void **state) {
    static struct scene s;
    scene_start(&s, quick);
    for (unsigned i = 0; i < 3; i++)
        member_kill(&s.cluster, i);
    for (unsigned i = 0; i < 3; i++)
        member_start(&s.cluster, i);
    count_to(&s, 5);
    assert_int_equal(s.r.gaps, 0);
    assert_int_equal(s.r.states, 1);
    scene_end(&s);
}

/* The new history passes the old one's revision before the watch can look: only its name tells. */
static void test_all_restarted_empty(void **state) {
    static struct scene s;
    static struct record r;
    struct yk_meta *one, *other;
    struct yk_meta_opts o = quick;
    char key[24];
    scene_start(&s, quick);
    /* Sees member 0 only, which comes back last. */
    one = cluster_open(&s.cluster, 0, &o);
    rig_must_put(one, "f/old", "1", 0);
    record_open(&r, one, "f/", 0);
    record_wait(&r, "a key of the old history", has_key, "f/old");
    lease_open(&s.lease, one, 20000);
    lease_wait(&s.lease, YK_META_LEASE_HELD);
    for (unsigned i = 0; i < 3; i++)
        member_kill(&s.cluster, i);
    for (unsigned i = 0; i < 3; i++)
        member_wipe(&s.cluster, i);
    member_start(&s.cluster, 1);
    member_start(&s.cluster, 2);
    other = cluster_open(&s.cluster, 1, &o);
    for (unsigned i = 0; i < 40; i++) {
        snprintf(key, sizeof(key), "f/new-%u", i);
        rig_must_put(other, key, "1", 0);
    }
    member_start(&s.cluster, 0);
    record_wait(&r, "the first key of the new history", has_key, "f/new-0");
    record_wait(&r, "the last one", has_key, "f/new-39");
    assert_false(has_key(&r, "f/old"));
    assert_true(r.resyncs >= 1);
    assert_int_equal(r.count, 40);
    record_wait(&s.r, "the same, with all members", has_key, "f/new-39");
    assert_true(s.r.resyncs >= 1);
    lease_wait(&s.lease, YK_META_LEASE_LOST);
    lease_close(&s.lease, true);
    record_close(&r);
    yk_meta_close(other);
    yk_meta_close(one);
    scene_end(&s);
}

/* ---- history ---------------------------------------------------------------------------------- */

/* While the only member that a watch may ask is away, history goes on and is compacted. */
static void test_compaction_under_a_watch(void **state) {
    static struct scene s;
    static struct record r;
    struct yk_meta *one;
    struct yk_meta_opts o = quick;
    char args[64];
    scene_start(&s, quick);
    rig_must_put(s.meta, "f/gone", "1", 0);
    one = cluster_open(&s.cluster, 0, &o);
    record_open(&r, one, "f/", 0);
    record_wait(&r, "a key that will go", has_key, "f/gone");
    member_kill(&s.cluster, 0);
    struct answer a;
    rig_delete(s.meta, "f/gone", &a);
    assert_int_equal(a.status, 0);
    count_to(&s, 5);
    snprintf(args, sizeof(args), "compact %llu", (unsigned long long)s.revision);
    cluster_ctl(&s.cluster, NULL, args);
    member_start(&s.cluster, 0);
    record_wait(&r, "the state after the compaction", at_counter, &s.counter);
    assert_false(has_key(&r, "f/gone"));
    assert_int_equal(r.resyncs, 1);
    count_up(&s);
    record_wait(&r, "what comes after it", at_counter, &s.counter);
    assert_int_equal(r.resyncs, 1);
    record_close(&r);
    yk_meta_close(one);
    scene_end(&s);
}

/* ---- a process that was stopped --------------------------------------------------------------- */

/* In the child: holds a lease with a key, says so, and after a byte tells what it makes of it. */
static void stopped_process(struct cluster *c, int in, int out) {
    static struct lease_record l;
    struct yk_meta_opts o = quick;
    struct yk_meta *m = cluster_open(c, -1, &o);
    uint64_t left[2];
    char byte = 'h';
    lease_open(&l, m, 2000);
    lease_wait(&l, YK_META_LEASE_HELD);
    rig_must_put(m, "f/stopped", "1", l.id);
    if (write(out, &byte, 1) != 1 || read(in, &byte, 1) != 1)
        _exit(2);
    left[0] = yk_meta_lease_left_ms(l.lease); /* the first thing after it woke */
    lease_wait(&l, YK_META_LEASE_LOST);
    left[1] = l.helds;
    if (write(out, left, sizeof(left)) != sizeof(left))
        _exit(3);
    _exit(0); /* without a close: what is left ends with the process */
}

static void test_stopped_past_its_lease(void **state) {
    static struct scene s;
    int to[2], from[2], status;
    uint64_t left[2] = {1, 0};
    char byte;
    scene_start(&s, quick);
    assert_int_equal(pipe(to), 0);
    assert_int_equal(pipe(from), 0);
    /* A process of its own, by a fork before it has threads of its own: the parent's handle is not used. */
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        stopped_process(&s.cluster, to[0], from[1]);
    }
    assert_int_equal(read(from[0], &byte, 1), 1);
    record_wait(&s.r, "the process's key", has_key, "f/stopped");
    kill(pid, SIGSTOP);
    record_wait(&s.r, "the end of its lease", lacks_key, "f/stopped");
    assert_int_equal(write(to[1], "x", 1), 1);
    kill(pid, SIGCONT);
    assert_int_equal(read(from[0], left, sizeof(left)), sizeof(left));
    assert_int_equal(left[0], 0);
    assert_int_equal(left[1], 1); /* it was held once, and never again */
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    for (int i = 0; i < 2; i++) {
        close(to[i]);
        close(from[i]);
    }
    scene_end(&s);
}

/* ---- one member that hangs, and the only one --------------------------------------------------- */

static void count_calls(void *user, const struct yk_meta_result *r) {
    __atomic_fetch_add((unsigned *)user, 1, __ATOMIC_RELAXED);
}

static void test_only_member_stopped(void **state) {
    struct cluster c;
    struct answer a;
    struct yk_meta_opts o = {.try_ms = TRY_MS, .max_requests = 4};
    static unsigned calls;
    unsigned taken = 0;
    cluster_start(&c, 1, false, NULL);
    struct yk_meta *m = cluster_open(&c, -1, &o);
    rig_must_put(m, "f/a", "1", 0);
    member_signal(&c, 0, SIGSTOP);
    /* So many at a time, and no more. */
    while (yk_meta_get(m, "f/a", 8000, count_calls, &calls) == 0)
        taken++;
    assert_int_equal(taken, 4);
    assert_int_equal(yk_meta_get(m, "f/a", 3000, count_calls, &calls), -YK_EAGAIN);
    /* A change that was sent is unsure, whatever comes. */
    uint64_t end = yk_boot_ms() + RIG_WAIT_MS;
    struct yk_meta_change put = {.key = "f/b", .value = "1", .value_len = 1};
    struct yk_meta_txn txn = {.changes = &put, .change_count = 1};
    do
        rig_txn(m, &txn, 5000, &a); /* longer than any back-off */
    while (a.status == -YK_EAGAIN && yk_boot_ms() < end);
    assert_int_equal(a.status, -YK_ETIMEDOUT);
    assert_true(a.unsure);
    assert_non_null(strstr(a.text, "not answered"));
    member_signal(&c, 0, SIGCONT);
    rig_must_put(m, "f/c", "1", 0);
    yk_meta_close(m);
    assert_int_equal(calls, 4);
    cluster_stop(&c);
}

/* A change that did not leave is sure not to have been made. */
static void test_only_member_away(void **state) {
    struct cluster c;
    struct answer a;
    struct yk_meta_opts o = quick;
    cluster_start(&c, 1, false, NULL);
    struct yk_meta *m = cluster_open(&c, -1, &o);
    rig_must_put(m, "f/a", "1", 0);
    member_kill(&c, 0);
    struct yk_meta_change put = {.key = "f/a", .value = "2", .value_len = 1};
    struct yk_meta_txn txn = {.changes = &put, .change_count = 1};
    rig_txn(m, &txn, 1000, &a);
    assert_int_equal(a.status, -YK_ETIMEDOUT);
    assert_false(a.unsure);
    assert_non_null(strstr(a.text, "connect"));
    member_start(&c, 0);
    rig_get(m, "f/a", &a);
    assert_string_equal(a.kvs[0].value, "1");
    yk_meta_close(m);
    cluster_stop(&c);
}

int main(void) {
    /* The first ones always; all of them in make check-long. */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_leader_killed),
        cmocka_unit_test(test_only_member_stopped),
    };
    const struct CMUnitTest rest[] = {
        cmocka_unit_test(test_leader_stopped),
        cmocka_unit_test(test_majority_away),
        cmocka_unit_test(test_all_restarted),
        cmocka_unit_test(test_all_restarted_empty),
        cmocka_unit_test(test_compaction_under_a_watch),
        cmocka_unit_test(test_stopped_past_its_lease),
        cmocka_unit_test(test_only_member_away),
    };
    const char *full = getenv("YOLK_LONG");
    if (cluster_missing() != NULL) {
        printf("1..0 # SKIP %s\n", cluster_missing());
        return 77;
    }
    int failed = cmocka_run_group_tests_name("meta_etcd_faults", tests, NULL, NULL);
    if (full != NULL && strcmp(full, "1") == 0)
        failed += cmocka_run_group_tests_name("meta_etcd_faults, long", rest, NULL, NULL);
    return failed;
}
