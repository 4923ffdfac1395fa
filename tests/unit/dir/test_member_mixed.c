/* SPDX-License-Identifier: Apache-2.0
 *
 * A namespace's record in a cluster of mixed versions: here are members, and a script that writes what an older program
 * writes (the members that it knows, and no others), or a later one (members that nobody here knows).
 */
#include "member_rig.h"

#include <unistd.h>
#include <yolk/yolk.h>

#define GUARANTEE (1u << 30)

struct answer {
    pthread_mutex_t lock;
    pthread_cond_t news;
    int ended, status;
    char value[512];
};

static void answered(void *user, const struct yk_meta_result *r) {
    struct answer *a = user;
    pthread_mutex_lock(&a->lock);
    a->status = r->status;
    if (r->status == 0 && r->count > 0)
        snprintf(a->value, sizeof(a->value), "%.*s", (int)r->kvs[0].value_len, (const char *)r->kvs[0].value);
    a->ended = 1;
    pthread_cond_signal(&a->news);
    pthread_mutex_unlock(&a->lock);
}

static void await(struct answer *a, int rc) {
    assert_int_equal(rc, 0);
    pthread_mutex_lock(&a->lock);
    while (!a->ended)
        pthread_cond_wait(&a->news, &a->lock);
    pthread_mutex_unlock(&a->lock);
    assert_int_equal(a->status, 0);
}

#define ANSWER {.lock = PTHREAD_MUTEX_INITIALIZER, .news = PTHREAD_COND_INITIALIZER}

static void writes(struct yk_meta *meta, const char *name, const char *record) {
    struct answer a = ANSWER;
    char key[64];
    snprintf(key, sizeof(key), "yolk/ns/%s", name);
    await(&a, yk_meta_put(meta, key, record, (uint32_t)strlen(record), 0, 10000, answered, &a));
}

/* Waits until the record has that text, or (absent) has it no more. */
static void wait_record(struct yk_meta *meta, const char *name, const char *text, int absent) {
    uint64_t end = yk_now_ns() + RIG_WAIT_MS * 1000000ull;
    char key[64];
    snprintf(key, sizeof(key), "yolk/ns/%s", name);
    for (;;) {
        struct answer a = ANSWER;
        await(&a, yk_meta_get(meta, key, 10000, answered, &a));
        if ((strstr(a.value, text) == NULL) == absent)
            return;
        if (yk_now_ns() > end)
            fail_msg("'%s' is %s, and should %s'%s'", name, a.value, absent ? "not have " : "have ", text);
        usleep(2000);
    }
}

/* It raises the epoch, as the oldest that there is would: the rest of what was set stays, and stands in etcd again. */
static void test_older_writer_drops_nothing(void **state) {
    struct yk_meta *meta = rig_embedded();
    struct node n[2];
    open_many(n, 2, meta, "drops");
    assert_int_equal(node_set_space(&n[0], "model", 5, 1000, NULL), 0);
    assert_int_equal(node_set_copies(&n[0], "model", 3), 0);
    assert_int_equal(node_set_terms(&n[0], "model", GUARANTEE, 300), 0);
    node_wait_terms(&n[1], "model", GUARANTEE, 300);
    for (unsigned epoch = 6; epoch < 9; epoch++) {
        char record[80];
        snprintf(record, sizeof(record), "{\"epoch\": %u, \"quota\": 2000}", epoch);
        writes(meta, "model", record);
        for (int i = 0; i < 2; i++) {
            node_wait_space(&n[i], "model", epoch, 2000);
            node_wait_terms(&n[i], "model", GUARANTEE, 300);
            node_wait_copies(&n[i], "model", 3);
        }
        wait_record(meta, "model", "\"guarantee\": 1073741824", 0);
        wait_record(meta, "model", "\"copies\": 3", 0);
        wait_record(meta, "model", "\"priority\": 300", 0);
    }
    struct node fresh; /* it knows what etcd says alone */
    node_open(&fresh, meta, "fresh", "drops-fresh", NULL);
    node_wait_terms(&fresh, "model", GUARANTEE, 300);
    node_close(&fresh, 1);
    node_close(&n[0], 1);
    node_close(&n[1], 1);
    yk_meta_close(meta);
}

/* What it does know counts as anybody's, and what was never set is not made up. */
static void test_older_writer_is_heard(void **state) {
    struct yk_meta *meta = rig_embedded();
    struct node n[2];
    open_many(n, 2, meta, "heard");
    writes(meta, "model", "{\"epoch\": 5, \"quota\": 0, \"copies\": 2}");
    node_wait_copies(&n[1], "model", 2);
    assert_int_equal(node_set_terms(&n[0], "model", GUARANTEE, YK_MEMBER_KEEP_PRIORITY), 0);
    writes(meta, "model", "{\"epoch\": 5, \"quota\": 0, \"copies\": 4}");
    for (int i = 0; i < 2; i++) {
        node_wait_copies(&n[i], "model", 4);
        node_wait_terms(&n[i], "model", GUARANTEE, 0);
    }
    wait_record(meta, "model", "\"guarantee\"", 0);
    writes(meta, "plain", "{\"epoch\": 3, \"quota\": 0}");
    node_wait_space(&n[0], "plain", 3, 0);
    assert_int_equal(node_set_space(&n[0], "plain", 4, YK_MEMBER_KEEP_QUOTA, NULL), 0);
    wait_record(meta, "plain", "\"version\"", 1);
    node_close(&n[0], 1);
    node_close(&n[1], 1);
    yk_meta_close(meta);
}

/* One that is removed has nothing of it any more, whoever removes it; nor when it is opened again. */
static void test_older_writer_removes(void **state) {
    struct yk_meta *meta = rig_embedded();
    struct node n[2];
    open_many(n, 2, meta, "removes");
    assert_int_equal(node_set_space(&n[0], "model", 5, 0, NULL), 0);
    assert_int_equal(node_set_terms(&n[0], "model", GUARANTEE, 300), 0);
    node_wait_terms(&n[1], "model", GUARANTEE, 300);
    node_close(&n[1], 1); /* and it does not hear of it */
    writes(meta, "model", "{\"epoch\": 6, \"quota\": 9223372036854775807}");
    node_wait_space(&n[0], "model", 6, YK_MEMBER_NO_SPACE);
    node_wait_terms(&n[0], "model", 0, 0);
    wait_record(meta, "model", "\"version\"", 0);
    writes(meta, "model", "{\"epoch\": 6, \"quota\": 0}");
    node_wait_space(&n[0], "model", 6, 0);
    wait_record(meta, "model", "\"version\"", 0);
    node_open(&n[1], meta, "n1", "removes-n1", NULL);
    node_wait_space(&n[1], "model", 6, 0);
    node_wait_terms(&n[1], "model", 0, 0);
    wait_record(meta, "model", "guarantee", 1);
    node_close(&n[0], 1);
    node_close(&n[1], 1);
    yk_meta_close(meta);
}

/* A member that was away has an older version of what was taken away since, and the record was an older program's last. */
static void test_who_was_away_brings_nothing_back(void **state) {
    struct yk_meta *meta = rig_embedded();
    struct node n[2];
    open_many(n, 2, meta, "away");
    assert_int_equal(node_set_space(&n[0], "model", 5, 0, NULL), 0);
    assert_int_equal(node_set_terms(&n[0], "model", GUARANTEE, 300), 0);
    node_wait_terms(&n[1], "model", GUARANTEE, 300);
    node_close(&n[1], 1);
    assert_int_equal(node_set_terms(&n[0], "model", 0, YK_MEMBER_KEEP_PRIORITY), 0);
    writes(meta, "model", "{\"epoch\": 6, \"quota\": 0}");
    node_wait_space(&n[0], "model", 6, 0);
    wait_record(meta, "model", "\"priority\": 300", 0);
    node_open(&n[1], meta, "n1", "away-n1", NULL);
    node_wait_terms(&n[1], "model", 0, 300);
    node_wait_terms(&n[0], "model", 0, 300);
    wait_record(meta, "model", "guarantee", 1);
    node_close(&n[0], 1);
    node_close(&n[1], 1);
    yk_meta_close(meta);
}

/* Members of a later program's record stay, through every change made here, until the namespace goes. */
static void test_what_is_not_known_stays(void **state) {
    struct yk_meta *meta = rig_embedded();
    struct node n[2];
    open_many(n, 2, meta, "unknown");
    writes(meta, "model", "{\"later\": {\"list\": [1, 2.5, \"x\\u00e9\"]}, \"epoch\": 5, \"quota\": 1000, \"more\": null}");
    node_wait_space(&n[0], "model", 5, 1000);
    node_wait_space(&n[1], "model", 5, 1000);
    assert_int_equal(node_set_space(&n[0], "model", 6, YK_MEMBER_KEEP_QUOTA, NULL), 0);
    assert_int_equal(node_set_terms(&n[0], "model", GUARANTEE, 300), 0);
    node_wait_terms(&n[1], "model", GUARANTEE, 300);
    assert_int_equal(node_set_copies(&n[1], "model", 2), 0);
    yk_member_epoch(n[1].member, "model", 5, 9);
    node_wait_space(&n[0], "model", 9, 1000);
    wait_record(meta, "model", "\"epoch\": 9", 0);
    wait_record(meta, "model", "\"later\":{\"list\":[1,2.5,\"xé\"]},\"more\":null}", 0);
    wait_record(meta, "model", "\"priority\": 300", 0);
    assert_int_equal(node_set_space(&n[0], "model", 0, YK_MEMBER_NO_SPACE, NULL), 0);
    wait_record(meta, "model", "later", 1);
    node_close(&n[0], 1);
    node_close(&n[1], 1);
    yk_meta_close(meta);
}

/* An epoch was heard before the record, which came back with a lower one: what an older program set there is not lost. */
static void test_older_record_below_what_was_heard(void **state) {
    struct yk_meta *meta = rig_embedded();
    struct node n[1];
    open_many(n, 1, meta, "below");
    yk_member_epoch(n[0].member, "model", 5, 9);
    wait_record(meta, "model", "\"epoch\": 9", 0);
    writes(meta, "model", "{\"epoch\": 5, \"quota\": 1000, \"copies\": 3, \"guarantee\": 1073741824}");
    wait_record(meta, "model", "\"epoch\": 9", 0);
    wait_record(meta, "model", "\"copies\": 3", 0);
    wait_record(meta, "model", "\"guarantee\": 1073741824", 0);
    node_wait_space(&n[0], "model", 9, 1000);
    node_wait_copies(&n[0], "model", 3);
    node_wait_terms(&n[0], "model", GUARANTEE, 0);
    node_close(&n[0], 1);
    yk_meta_close(meta);
}

/* More than is kept: what is known of the record counts all the same, and no epoch falls. */
static void test_too_much_that_is_not_known(void **state) {
    struct yk_meta *meta = rig_embedded();
    struct node n[1];
    static char record[70000 + 128];
    size_t at;
    open_many(n, 1, meta, "much");
    assert_int_equal(node_set_space(&n[0], "model", 5, 1000, NULL), 0);
    at = (size_t)snprintf(record, sizeof(record), "{\"epoch\": 9, \"quota\": 2000, \"copies\": 2, \"later\": \"");
    memset(record + at, 'x', 70000);
    memcpy(record + at + 70000, "\"}", 3);
    writes(meta, "model", record);
    node_wait_space(&n[0], "model", 9, 2000);
    node_wait_copies(&n[0], "model", 2);
    wait_record(meta, "model", "\"version\"", 0); /* it was written again */
    wait_record(meta, "model", "\"epoch\": 9", 0);
    node_close(&n[0], 1);
    yk_meta_close(meta);
}

/* Numbers that nobody can count on from, or that mean something else in a change. */
static void test_numbers_at_their_ends(void **state) {
    struct yk_meta *meta = rig_embedded();
    struct node n[2];
    open_many(n, 2, meta, "ends");
    writes(meta, "model", "{\"epoch\": 5, \"quota\": 0, \"copies\": 2, \"version\": 9223372036854775807}");
    node_wait_copies(&n[0], "model", 2);
    assert_int_equal(node_set_terms(&n[0], "model", GUARANTEE, 300), 0);
    node_wait_terms(&n[1], "model", GUARANTEE, 300);
    wait_record(meta, "model", "\"guarantee\": 1073741824", 0);
    writes(meta, "most", "{\"epoch\": 5, \"quota\": 0, \"copies\": 4294967295, \"priority\": 4294967295, \"version\": 1}");
    node_wait_copies(&n[0], "most", YK_COPIES_MAX);
    node_wait_terms(&n[0], "most", 0, YK_PRIORITY_MAX);
    node_close(&n[0], 1);
    node_close(&n[1], 1);
    yk_meta_close(meta);
}

#define AT_ONCE 30 /* namespaces: two changes of each are fewer than YK_MEMBER_JOBS_MAX */

static void counted(void *user, int status, const char *text) {
    (void)text;
    __atomic_fetch_add((unsigned *)user, status == 0, __ATOMIC_RELEASE);
}

/* It is removed and opened again before the watch has told the first: nothing of before is there. */
static void test_removed_and_opened_at_once(void **state) {
    struct yk_meta *meta = rig_embedded();
    struct node n[1];
    unsigned done = 0;
    open_many(n, 1, meta, "once");
    for (unsigned i = 0; i < AT_ONCE; i++) {
        char name[16];
        snprintf(name, sizeof(name), "model%u", i);
        writes(meta, name, "{\"epoch\": 5, \"quota\": 1000, \"later\": 1}");
        node_wait_space(&n[0], name, 5, 1000);
    }
    for (unsigned i = 0; i < 2 * AT_ONCE; i++) {
        struct yk_member_space s = {.quota_bytes = i % 2 ? 7 : YK_MEMBER_NO_SPACE, .copies = YK_MEMBER_KEEP_COPIES,
                                    .guarantee_bytes = YK_MEMBER_KEEP_GUARANTEE, .priority = YK_MEMBER_KEEP_PRIORITY};
        snprintf(s.name, sizeof(s.name), "model%u", i / 2);
        assert_int_equal(yk_member_set_space(n[0].member, &s, RIG_WAIT_MS, counted, &done), 0);
    }
    for (unsigned i = 0; i < AT_ONCE; i++) {
        char name[16];
        snprintf(name, sizeof(name), "model%u", i);
        node_wait_space(&n[0], name, 6, 7);
        wait_record(meta, name, "\"quota\": 7", 0);
        wait_record(meta, name, "later", 1);
    }
    node_close(&n[0], 1); /* all changes have ended */
    assert_int_equal(__atomic_load_n(&done, __ATOMIC_ACQUIRE), 2 * AT_ONCE);
    yk_meta_close(meta);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_older_writer_drops_nothing),
        cmocka_unit_test(test_older_writer_is_heard),
        cmocka_unit_test(test_older_writer_removes),
        cmocka_unit_test(test_who_was_away_brings_nothing_back),
        cmocka_unit_test(test_what_is_not_known_stays),
        cmocka_unit_test(test_older_record_below_what_was_heard),
        cmocka_unit_test(test_too_much_that_is_not_known),
        cmocka_unit_test(test_numbers_at_their_ends),
        cmocka_unit_test(test_removed_and_opened_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
