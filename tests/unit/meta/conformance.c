/* SPDX-License-Identifier: Apache-2.0
 *
 * conformance.h. Each test gets an empty store. Recorders are static: should a test fail, callbacks still
 * come until its handle is closed.
 */
#include "conformance.h"

static struct yk_meta *meta;

static struct yk_meta *open_with(struct yk_meta_opts *o) {
    store.wipe();
    return store.open(o);
}

static int setup(void **state) {
    struct yk_meta_opts o = {.page_keys = 3, .max_history = 64};
    meta = open_with(&o);
    return 0;
}

static int teardown(void **state) {
    yk_meta_close(meta);
    meta = NULL;
    return 0;
}

static void test_put_get_range_delete(void **state) {
    struct answer a;
    char key[32];
    rig_get(meta, "t/none", &a);
    assert_int_equal(a.status, 0);
    assert_int_equal(a.count, 0);
    uint64_t first = rig_must_put(meta, "t/a", "1", 0),
             second = rig_must_put(meta, "t/a", "two", 0);
    assert_int_equal(second, first + 1);
    rig_get(meta, "t/a", &a);
    assert_int_equal(a.count, 1);
    assert_string_equal(a.kvs[0].value, "two");
    assert_int_equal(a.kvs[0].create_revision, first);
    assert_int_equal(a.kvs[0].mod_revision, second);
    assert_int_equal(a.kvs[0].version, 2);
    assert_true(a.revision >= second);
    /* More than a page, in order; nothing of other prefixes. */
    for (int i = 9; i >= 0; i--) {
        snprintf(key, sizeof(key), "t/r/%d", i);
        rig_must_put(meta, key, "", 0);
    }
    rig_must_put(meta, "t/s", "x", 0);
    rig_range(meta, "t/r/", &a);
    assert_int_equal(a.count, 10);
    for (int i = 0; i < 10; i++) {
        snprintf(key, sizeof(key), "t/r/%d", i);
        assert_string_equal(a.kvs[i].key, key);
        assert_int_equal(a.kvs[i].value_len, 0);
    }
    rig_delete(meta, "t/a", &a);
    assert_int_equal(a.status, 0);
    uint64_t deleted = a.revision;
    rig_get(meta, "t/a", &a);
    assert_int_equal(a.count, 0);
    rig_delete(meta, "t/a", &a); /* nothing there: no new revision */
    assert_int_equal(a.status, 0);
    assert_int_equal(a.revision, deleted);
}

static void test_bytes_of_all_kinds(void **state) {
    unsigned char value[256];
    struct answer a;
    for (unsigned len = 250; len < 256; len++) {
        for (unsigned i = 0; i < len; i++)
            value[i] = (unsigned char)(i * 7 + len);
        value[3] = 0;
        struct yk_meta_change c = {.key = "b/\x01\xc3\xa4\xff", .value = value, .value_len = len};
        struct yk_meta_txn txn = {.changes = &c, .change_count = 1};
        rig_txn(meta, &txn, RIG_WAIT_MS / 2, &a);
        assert_int_equal(a.status, 0);
        assert_true(a.done);
        rig_range(meta, "b/\x01\xc3\xa4\xff", &a);
        assert_int_equal(a.count, 1);
        assert_string_equal(a.kvs[0].key, "b/\x01\xc3\xa4\xff");
        assert_int_equal(a.kvs[0].value_len, len);
        assert_memory_equal(a.kvs[0].value, value, len < 255 ? len : 255);
    }
}

static bool holds(struct yk_meta_compare c) {
    struct answer a;
    struct yk_meta_txn txn = {.compares = &c, .compare_count = 1};
    rig_txn(meta, &txn, RIG_WAIT_MS / 2, &a);
    if (a.status != 0)
        fail_msg("%s", a.text);
    return a.done;
}

static void test_comparisons(void **state) {
    uint64_t made = rig_must_put(meta, "c/k", "m", 0), changed = rig_must_put(meta, "c/k", "mm", 0);
    struct yk_meta_compare c = {.key = "c/k", .field = YK_META_CREATE_REVISION, .number = made};
    assert_true(holds(c));
    c.rel = YK_META_NOT_EQUAL;
    assert_false(holds(c));
    c = (struct yk_meta_compare){.key = "c/k", .field = YK_META_MOD_REVISION, .rel = YK_META_LESS};
    c.number = changed;
    assert_false(holds(c));
    c.number++;
    assert_true(holds(c));
    c.rel = YK_META_GREATER;
    assert_false(holds(c));
    c = (struct yk_meta_compare){.key = "c/k", .field = YK_META_VERSION, .number = 2};
    assert_true(holds(c));
    static const struct {
        const char *value;
        enum yk_meta_rel rel;
        bool holds;
    } values[] = {{"mm", YK_META_EQUAL, true},    {"m", YK_META_EQUAL, false},
                  {"m", YK_META_GREATER, true},   {"mmm", YK_META_LESS, true},
                  {"n", YK_META_LESS, true},      {"a", YK_META_LESS, false},
                  {"", YK_META_GREATER, true},    {"", YK_META_EQUAL, false},
                  {"x", YK_META_NOT_EQUAL, true}, {"mm", YK_META_NOT_EQUAL, false}};
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        c = (struct yk_meta_compare){.key = "c/k",
                                     .field = YK_META_VALUE,
                                     .rel = values[i].rel,
                                     .value = values[i].value,
                                     .value_len = (uint32_t)strlen(values[i].value)};
        if (holds(c) != values[i].holds)
            fail_msg("row %zu", i);
    }
    /* What is not there has number 0 and no value, not even the empty one. */
    c = (struct yk_meta_compare){.key = "c/none", .field = YK_META_VERSION};
    assert_true(holds(c));
    c.field = YK_META_MOD_REVISION;
    assert_true(holds(c));
    c.field = YK_META_VALUE;
    assert_false(holds(c));
    c.rel = YK_META_NOT_EQUAL;
    c.value = "x";
    c.value_len = 1;
    assert_false(holds(c));
}

static void test_transactions(void **state) {
    struct answer a;
    uint64_t made = rig_must_put(meta, "x/a", "1", 0);
    rig_must_put(meta, "x/d/1", "", 0);
    rig_must_put(meta, "x/d/2", "", 0);
    struct yk_meta_compare compares[] = {
        {.key = "x/a", .field = YK_META_MOD_REVISION, .number = made},
        {.key = "x/new", .field = YK_META_VERSION},
    };
    struct yk_meta_change changes[] = {
        {.key = "x/a", .value = "2", .value_len = 1},
        {.key = "x/new", .value = "n", .value_len = 1},
        {.key = "x/d/", .remove = true, .prefix = true},
    };
    struct yk_meta_txn txn = {
        .compares = compares, .compare_count = 2, .changes = changes, .change_count = 3};
    rig_txn(meta, &txn, RIG_WAIT_MS / 2, &a);
    assert_int_equal(a.status, 0);
    assert_true(a.done);
    uint64_t revision = a.revision;
    rig_range(meta, "x/", &a);
    assert_int_equal(a.count, 2);
    assert_int_equal(a.kvs[0].mod_revision, revision);
    assert_int_equal(a.kvs[1].mod_revision, revision);
    /* Again: nothing holds, nothing happens, and we are told what is there. */
    rig_txn(meta, &txn, RIG_WAIT_MS / 2, &a);
    assert_int_equal(a.status, 0);
    assert_false(a.done);
    assert_int_equal(a.count, 2);
    assert_string_equal(a.kvs[0].key, "x/a");
    assert_string_equal(a.kvs[0].value, "2");
    assert_string_equal(a.kvs[1].key, "x/new");
    assert_int_equal(a.revision, revision);
    /* A lease that is not there: all or nothing. */
    struct yk_meta_change leased[] = {
        {.key = "x/a", .value = "3", .value_len = 1},
        {.key = "x/b", .value = "3", .value_len = 1, .lease = 12345},
    };
    txn = (struct yk_meta_txn){.changes = leased, .change_count = 2};
    rig_txn(meta, &txn, RIG_WAIT_MS / 2, &a);
    assert_int_equal(a.status, -YK_ENOENT);
    assert_false(a.unsure);
    rig_get(meta, "x/a", &a);
    assert_string_equal(a.kvs[0].value, "2");
}

static void ignore(void *user, const struct yk_meta_result *r) {
    (*(unsigned *)user)++;
}

static void test_what_is_refused(void **state) {
    char long_key[YK_META_KEY_MAX + 2];
    static char big[YK_META_VALUE_MAX + 1];
    struct yk_meta_change twice[] = {{.key = "r/a"}, {.key = "r/a", .remove = true}};
    struct yk_meta_change covered[] = {{.key = "r/a"},
                                       {.key = "r/", .remove = true, .prefix = true}};
    struct yk_meta_txn txn = {.changes = twice, .change_count = 2};
    struct yk_meta_watch *w;
    struct yk_meta_lease *l;
    static unsigned calls;
    memset(long_key, 'k', sizeof(long_key) - 1);
    long_key[sizeof(long_key) - 1] = '\0';
    assert_int_equal(yk_meta_get(meta, "", 1000, ignore, &calls), -YK_EINVAL);
    assert_int_equal(yk_meta_get(meta, "a", 0, ignore, &calls), -YK_EINVAL);
    assert_int_equal(yk_meta_get(meta, long_key, 1000, ignore, &calls), -YK_ETOOBIG);
    assert_int_equal(yk_meta_put(meta, "a", big, sizeof(big), 0, 1000, ignore, &calls),
                     -YK_ETOOBIG);
    assert_int_equal(yk_meta_put(meta, "a", NULL, 1, 0, 1000, ignore, &calls), -YK_EINVAL);
    assert_int_equal(yk_meta_txn(meta, &txn, 1000, ignore, &calls), -YK_EINVAL);
    txn.changes = covered;
    assert_int_equal(yk_meta_txn(meta, &txn, 1000, ignore, &calls), -YK_EINVAL);
    txn.change_count = YK_META_TXN_MAX + 1;
    assert_int_equal(yk_meta_txn(meta, &txn, 1000, ignore, &calls), -YK_ETOOBIG);
    txn.change_count = 0;
    assert_int_equal(yk_meta_txn(meta, &txn, 1000, ignore, &calls), -YK_EINVAL);
    assert_int_equal(yk_meta_watch_open(meta, "a", 0, NULL, NULL, &w), -YK_EINVAL);
    assert_int_equal(yk_meta_lease_open(meta, 1, NULL, NULL, &l), -YK_EINVAL);
    assert_int_equal(calls, 0);
    long_key[YK_META_KEY_MAX] = '\0';
    rig_must_put(meta, long_key, "longest", 0);
}

static void test_largest_values(void **state) {
    static char big[YK_META_VALUE_MAX];
    struct yk_meta_change changes[] = {
        {.key = "l/1", .value = big, .value_len = sizeof(big)},
        {.key = "l/2", .value = big, .value_len = sizeof(big)},
        {.key = "l/3", .value = big, .value_len = sizeof(big)},
    };
    struct yk_meta_txn txn = {.changes = changes, .change_count = 3, .again = true};
    static struct record r;
    struct answer a;
    memset(big, 0xfe, sizeof(big));
    record_open(&r, meta, "l/", 0);
    rig_txn(meta, &txn, RIG_WAIT_MS / 2, &a);
    if (a.status != 0)
        fail_msg("%s", a.text);
    record_wait(&r, "large values", has_key, "l/3");
    assert_true(r.batches == 1 || r.states == 1); /* a transaction is told whole */
    assert_int_equal(r.kvs[0].value_len, sizeof(big));
    record_close(&r);
}

static void test_watch(void **state) {
    static struct record r, past;
    struct answer a;
    rig_must_put(meta, "w/old", "1", 0);
    rig_must_put(meta, "v/other", "1", 0);
    record_open(&r, meta, "w/", 0);
    record_wait(&r, "the state", has_key, "w/old");
    uint64_t from = rig_must_put(meta, "w/counter", "1", 0);
    rig_must_put(meta, "w/counter", "2", 0);
    rig_must_put(meta, "v/other", "2", 0);
    rig_delete(meta, "w/old", &a);
    rig_must_put(meta, "w/counter", "3", 0);
    unsigned long three = 3;
    record_wait(&r, "three changes", at_counter, &three);
    assert_int_equal(r.states, 1);
    assert_int_equal(r.resyncs, 0);
    assert_int_equal(r.changes, 4);
    assert_int_equal(r.deletions, 1);
    assert_int_equal(r.gaps, 0);
    assert_int_equal(r.count, 1);
    /* From a revision that is past. */
    record_open(&past, meta, "w/", from);
    record_wait(&past, "changes from the past", at_counter, &three);
    assert_int_equal(past.states, 0);
    assert_int_equal(past.changes, 4);
    assert_int_equal(past.gaps, 0);
    /* From one that lies ahead: nothing of what comes before it. */
    record_close(&past);
    record_open(&past, meta, "w/", r.revision + 3);
    rig_must_put(meta, "w/too-early", "", 0);
    rig_must_put(meta, "w/too-early", "", 0);
    rig_must_put(meta, "w/counter", "4", 0);
    rig_must_put(meta, "w/end", "", 0);
    record_wait(&past, "what lay ahead", has_key, "w/end");
    assert_false(has_key(&past, "w/too-early"));
    record_close(&past);
    record_close(&r);
}

static void test_watch_tells_transactions_whole(void **state) {
    struct yk_meta_change changes[8];
    char keys[8][16];
    static struct record r;
    struct answer a;
    record_open(&r, meta, "q/", 0);
    unsigned one = 1;
    record_wait(&r, "the state", at_states, &one);
    for (int i = 0; i < 8; i++) {
        snprintf(keys[i], sizeof(keys[i]), "q/%d", i);
        changes[i] = (struct yk_meta_change){.key = keys[i], .value = "v", .value_len = 1};
    }
    struct yk_meta_txn txn = {.changes = changes, .change_count = 8};
    rig_txn(meta, &txn, RIG_WAIT_MS / 2, &a);
    record_wait(&r, "all keys", has_key, "q/7");
    assert_int_equal(r.batches, 1);
    assert_int_equal(r.changes, 8);
    assert_int_equal(r.revision, a.revision);
    record_close(&r);
}

static void test_watch_behind_a_compaction(void **state) {
    static struct record r;
    uint64_t from = rig_must_put(meta, "k/gone", "1", 0);
    struct answer a;
    rig_delete(meta, "k/gone", &a);
    uint64_t last = rig_must_put(meta, "k/here", "1", 0);
    store.compact(meta, last);
    record_open(&r, meta, "k/", from);
    record_wait(&r, "the state", has_key, "k/here");
    assert_int_equal(r.states, 1);
    assert_int_equal(r.resyncs, 1);
    assert_int_equal(r.deletions, 0);
    rig_must_put(meta, "k/next", "1", 0);
    record_wait(&r, "what came after", has_key, "k/next");
    assert_int_equal(r.states, 1);
    record_close(&r);
}

static void test_lease_is_kept(void **state) {
    static struct lease_record l;
    struct answer a;
    lease_open(&l, meta, 4000);
    lease_wait(&l, YK_META_LEASE_HELD);
    assert_int_equal(l.id, yk_meta_lease_id(l.lease));
    rig_must_put(meta, "ls/k", "1", l.id);
    /* Longer than its time: what is left rises five times, each a third of it. */
    uint64_t left = yk_meta_lease_left_ms(l.lease), end = yk_boot_ms() + RIG_WAIT_MS;
    for (unsigned rises = 0; rises < 5;) {
        uint64_t now_left = yk_meta_lease_left_ms(l.lease);
        rises += now_left > left;
        left = now_left;
        assert_true(yk_boot_ms() < end);
        rig_get(meta, "ls/k", &a);
        assert_int_equal(a.status, 0);
    }
    assert_int_equal(a.count, 1);
    assert_int_equal(a.kvs[0].lease, l.id);
    assert_int_equal(l.losts, 0);
    uint64_t id = l.id;
    lease_close(&l, true);
    assert_int_equal(l.ended, 1);
    rig_get(meta, "ls/k", &a);
    assert_int_equal(a.count, 0);
    rig_put(meta, "ls/k", "1", id, &a);
    assert_int_equal(a.status, -YK_ENOENT);
}

/* One that is closed without a word ends by itself, and takes its keys along. */
static void test_lease_runs_out(void **state) {
    static struct lease_record l;
    static struct record r;
    lease_open(&l, meta, 1000);
    lease_wait(&l, YK_META_LEASE_HELD);
    rig_must_put(meta, "lo/a", "1", l.id);
    rig_must_put(meta, "lo/b", "1", l.id);
    rig_must_put(meta, "lo/stays", "1", 0);
    record_open(&r, meta, "lo/", 0);
    record_wait(&r, "the state", has_key, "lo/b");
    lease_close(&l, false);
    record_wait(&r, "the end of the lease's keys", lacks_key, "lo/a");
    record_wait(&r, "the end of the lease's keys", lacks_key, "lo/b");
    assert_true(has_key(&r, "lo/stays"));
    assert_int_equal(r.batches, 1); /* all at one revision */
    record_close(&r);
}

static void test_election(void **state) {
    static struct lease_record la, lb;
    static struct election_record a, b, observer;
    static struct record r;
    election_open(&observer, meta, "el", NULL, NULL);
    lease_open(&la, meta, 20000);
    lease_open(&lb, meta, 20000);
    election_open(&a, meta, "el", &la, "alice");
    election_wait(&a, true, true, "alice");
    election_open(&b, meta, "el", &lb, "bob");
    election_wait(&b, true, false, "alice");
    election_wait(&observer, true, false, "alice");
    uint64_t term = a.term;
    assert_int_equal(b.term, term);
    /* Both must stand before one goes. */
    char key[64];
    lease_wait(&lb, YK_META_LEASE_HELD);
    snprintf(key, sizeof(key), "el/%016llx", (unsigned long long)lb.id);
    record_open(&r, meta, "el/", 0);
    record_wait(&r, "the second candidate", has_key, key);
    record_close(&r);
    election_close(&a);
    election_wait(&b, true, true, "bob");
    election_wait(&observer, true, false, "bob");
    assert_true(b.term > term);
    /* The lease's end is the leader's. */
    lease_close(&lb, true);
    election_wait(&observer, false, false, "");
    election_wait(&b, false, false, "");
    election_close(&b);
    election_close(&observer);
    lease_close(&la, true);
}

/* Whose key is taken away by somebody else stands again. */
static void test_election_key_taken(void **state) {
    static struct lease_record l;
    static struct election_record e;
    struct answer a;
    lease_open(&l, meta, 20000);
    election_open(&e, meta, "et", &l, "carol");
    election_wait(&e, true, true, "carol");
    uint64_t term = e.term;
    char key[64];
    snprintf(key, sizeof(key), "et/%016llx", (unsigned long long)l.id);
    rig_delete(meta, key, &a);
    assert_int_equal(a.status, 0);
    uint64_t end = yk_boot_ms() + RIG_WAIT_MS;
    for (;;) {
        pthread_mutex_lock(&e.lock);
        bool again = e.mine && e.term > term;
        pthread_mutex_unlock(&e.lock);
        if (again)
            break;
        assert_true(yk_boot_ms() < end);
        rig_get(meta, "et", &a);
    }
    election_close(&e);
    lease_close(&l, false);
}

static void test_limits(void **state) {
    struct yk_meta_opts o = {.max_watches = 2, .max_range_keys = 4, .page_keys = 3};
    static struct record r[2];
    struct yk_meta_watch *w;
    struct answer a;
    char key[16];
    yk_meta_close(meta);
    meta = open_with(&o);
    for (int i = 0; i < 4; i++) {
        snprintf(key, sizeof(key), "m/%d", i);
        rig_must_put(meta, key, "", 0);
    }
    rig_range(meta, "m/", &a);
    assert_int_equal(a.status, 0);
    assert_int_equal(a.count, 4);
    rig_must_put(meta, "m/5", "", 0);
    rig_range(meta, "m/", &a);
    assert_int_equal(a.status, -YK_ETOOBIG);
    record_open(&r[0], meta, "n/", 0);
    record_open(&r[1], meta, "m/", 0);
    assert_int_equal(yk_meta_watch_open(meta, "n/", 0, (yk_meta_watch_fn)(void *)abort, NULL, &w),
                     -YK_ELIMIT);
    record_wait(&r[1], "trouble with a state that is too large", in_trouble, NULL);
    assert_int_equal(r[1].trouble_status, -YK_ETOOBIG);
    rig_delete(meta, "m/5", &a);
    record_wait(&r[1], "the state once it fits", has_key, "m/3");
    record_close(&r[0]);
    record_close(&r[1]);
}

/* Everything ends once, and the handle with it. */
static void test_close_ends_everything(void **state) {
    static struct record r;
    static struct lease_record l;
    static struct election_record e;
    lease_open(&l, meta, 20000);
    election_open(&e, meta, "ce", &l, "v");
    record_open(&r, meta, "ce/", 0);
    election_wait(&e, true, true, "v");
    yk_meta_close(meta);
    meta = NULL;
    assert_int_equal(r.ended, 1);
    assert_int_equal(l.ended, 1);
    assert_int_equal(e.ended, 1);
    assert_false(e.mine);
    record_free(&r);
}

/* Requests, watches and closes from many callbacks and threads at once. */
static void *busy(void *arg) {
    struct answer a;
    char key[32];
    for (int i = 0; i < 30; i++) {
        struct record r;
        snprintf(key, sizeof(key), "th/%d", (int)(intptr_t)arg);
        rig_put(meta, key, "1", 0, &a);
        assert_int_equal(a.status, 0);
        record_open(&r, meta, key, 0);
        if (i % 2 == 0)
            record_wait(&r, "the state", has_key, key);
        record_close(&r);
    }
    return NULL;
}

static void test_threads(void **state) {
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, busy, (void *)(intptr_t)i), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int conformance_run(const char *name) {
    const struct CMUnitTest tests[] = {
        CASE(test_put_get_range_delete),
        CASE(test_bytes_of_all_kinds),
        CASE(test_comparisons),
        CASE(test_transactions),
        CASE(test_what_is_refused),
        CASE(test_largest_values),
        CASE(test_watch),
        CASE(test_watch_tells_transactions_whole),
        CASE(test_watch_behind_a_compaction),
        CASE(test_lease_is_kept),
        CASE(test_lease_runs_out),
        CASE(test_election),
        CASE(test_election_key_taken),
        CASE(test_limits),
        CASE(test_close_ends_everything),
        CASE(test_threads),
    };
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}
