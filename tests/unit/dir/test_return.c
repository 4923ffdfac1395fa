/* SPDX-License-Identifier: Apache-2.0
 *
 * Nodes that have to begin anew while their process goes on: whose name was another's meanwhile (`stale`), or was
 * forgotten, and whose log of removes cannot be written any more. What the map says of them is written into etcd by
 * the test, as others would.
 */
#include "service_rig.h"

#include "base/clock.h"
#include "dir/map.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define WAIT_MS 40000u /* when a test gives up; nothing is judged by it */

static int setup(void **state) {
    rig_setup(state);
    rig_start_all(&rig, 2);
    return 0;
}

/* ---- waiting ------------------------------------------------------------------------------------------ */

typedef int (*is_fn)(const struct yk_dir_stats *st, uint64_t arg);

static void until(unsigned i, const char *what, is_fn is, uint64_t arg) {
    uint64_t end = yk_now_ns() + WAIT_MS * YK_NS_PER_MS;
    struct timespec pause = {.tv_nsec = 2000000};
    struct yk_dir_stats st;
    for (;;) {
        yk_dir_stats(rig.n[i].dir, &st);
        if (is(&st, arg))
            return;
        if (yk_now_ns() > end)
            fail_msg("n%u: %s does not come: map %llu, %u members, %u returning, %u expelled", i, what,
                     (unsigned long long)st.map_version, st.members, st.returning, st.expelled);
        nanosleep(&pause, NULL);
    }
}

/* Of a map behind that version. */
static int both_are_in(const struct yk_dir_stats *st, uint64_t version) {
    return st->map_version > version && st->members == 2 && st->serves;
}

static int is_alone(const struct yk_dir_stats *st, uint64_t arg) {
    (void)arg;
    return st->members == 1 && st->expelled == 1 && st->serves;
}

/* ---- the map in etcd ---------------------------------------------------------------------------------- */

struct call {
    pthread_mutex_t lock;
    pthread_cond_t news;
    int ended, status, done;
    uint64_t revision;
    struct yk_dir_map *map;
};

static void answered(void *user, const struct yk_meta_result *r) {
    struct call *c = user;
    pthread_mutex_lock(&c->lock);
    c->ended = 1;
    c->status = r->status;
    c->done = r->done;
    if (r->status == 0 && r->count > 0) {
        c->revision = r->kvs[0].mod_revision;
        (void)yk_dir_map_decode(r->kvs[0].value, r->kvs[0].value_len, &c->map, NULL);
    }
    pthread_cond_broadcast(&c->news);
    pthread_mutex_unlock(&c->lock);
}

static void wait_for(struct call *c, int rc) {
    assert_int_equal(rc, 0);
    pthread_mutex_lock(&c->lock);
    while (!c->ended)
        pthread_cond_wait(&c->news, &c->lock);
    pthread_mutex_unlock(&c->lock);
    assert_int_equal(c->status, 0);
}

#define CALL {.lock = PTHREAD_MUTEX_INITIALIZER, .news = PTHREAD_COND_INITIALIZER}

/* Makes a change to the newest map; returns that one's version. */
static uint64_t change_map(void (*change)(struct yk_dir_map *map, struct yk_dir_member *n1)) {
    for (;;) {
        struct call get = CALL, put = CALL;
        wait_for(&get, yk_meta_get(rig.meta, "yolk/map", 5000, answered, &get));
        assert_non_null(get.map);
        change(get.map, yk_dir_map_named(get.map, "n1"));
        uint64_t version = get.map->version;
        size_t len = yk_dir_map_bytes(get.map);
        void *bytes = malloc(len);
        assert_non_null(bytes);
        yk_dir_map_encode(get.map, bytes);
        struct yk_meta_compare same = {
            .key = "yolk/map", .field = YK_META_MOD_REVISION, .rel = YK_META_EQUAL, .number = get.revision};
        struct yk_meta_change to = {.key = "yolk/map", .value = bytes, .value_len = (uint32_t)len};
        struct yk_meta_txn txn = {.compares = &same, .compare_count = 1, .changes = &to, .change_count = 1};
        wait_for(&put, yk_meta_txn(rig.meta, &txn, 5000, answered, &put));
        free(bytes);
        free(get.map);
        free(put.map);
        if (put.done)
            return version;
    }
}

/* Another process had the name for a while: it may have acknowledged what n1 has not heard of. */
static void live_as_another(struct yk_dir_map *map, struct yk_dir_member *n1) {
    uint32_t id = n1->id;
    assert_int_equal(yk_dir_map_expel(map, id), 0);
    assert_int_equal(yk_dir_map_join(map, "n1", n1->incarnation + 5, &id), 0);
    assert_int_equal(yk_dir_map_expel(map, id), 0);
}

static void forget(struct yk_dir_map *map, struct yk_dir_member *n1) {
    uint32_t id = n1->id;
    assert_int_equal(yk_dir_map_expel(map, id), 0);
    assert_int_equal(yk_dir_map_forget(map, id), 0);
}

/* ---- beginning anew ----------------------------------------------------------------------------------- */

/* It takes part like any other again. */
static void takes_part(void) {
    rig_put(&rig, 1, "new", 5000);
    rig_put(&rig, 0, "other", 5000);
    rig_until_got(&rig, 0, "new", 5000);
    rig_until_got(&rig, 1, "other", 5000);
    rig_until_removed(&rig, 0, "new");
    rig_until_removed(&rig, 1, "other");
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(rig_get(&rig, i, "new", 5000), 0);
        assert_int_equal(rig_get(&rig, i, "other", 5000), 0);
    }
}

static void begins_anew(void (*change)(struct yk_dir_map *map, struct yk_dir_member *n1)) {
    rig_put(&rig, 1, "old", 4000);
    rig_until_exists(&rig, 0, "old", 1);
    uint64_t version = change_map(change);
    until(0, "n1", both_are_in, version);
    until(1, "itself", both_are_in, version);
    assert_int_equal(rig_get(&rig, 1, "old", 4000), 0); /* nobody knows what was removed of that */
    assert_int_equal(rig_get(&rig, 0, "old", 4000), 0);
    takes_part();
}

static void whose_name_was_another_s_drops_all_and_returns(void **state) {
    struct yk_dir_stats st;
    (void)state;
    begins_anew(live_as_another);
    yk_dir_stats(rig.n[1].dir, &st);
    assert_int_equal(st.id, 2);
}

static void who_was_forgotten_drops_all_and_comes_as_another(void **state) {
    struct yk_dir_stats st;
    (void)state;
    begins_anew(forget);
    yk_dir_stats(rig.n[1].dir, &st);
    assert_int_equal(st.id, 3);
}

/* ---- a log that cannot be written --------------------------------------------------------------------- */

static int is_kept_out(const struct yk_dir_stats *st, uint64_t arg) {
    (void)arg;
    return st->kept_out && !st->serves;
}

/* From now on n1's log of removes is on a disk that is full. */
static void fill_log(void) {
    char path[160], link[64], to[256];
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC), found = 0;
    snprintf(path, sizeof(path), "%s/removes", rig.n[1].state);
    assert_true(full >= 0);
    for (int fd = 0; fd < 1024; fd++) {
        snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        ssize_t n = readlink(link, to, sizeof(to) - 1);
        to[n > 0 ? n : 0] = 0;
        if (strcmp(to, path) == 0)
            found += dup3(full, fd, O_CLOEXEC) == fd;
    }
    close(full);
    assert_int_equal(found, 1);
}

static void both_have(const char *key) {
    rig_put(&rig, 0, key, 4000);
    rig_until_got(&rig, 1, key, 4000);
}

static void whose_log_is_full_keeps_out_until_it_is_not(void **state) {
    struct yk_dir_stats st;
    char in_the_way[160];
    (void)state;
    both_have("gone");
    both_have("late");
    rig_put(&rig, 1, "kept", 4000);
    rig_until_exists(&rig, 0, "kept", 1);
    snprintf(in_the_way, sizeof(in_the_way), "%s/probe", rig.n[1].state);
    assert_int_equal(mkdir(in_the_way, 0700), 0); /* nor can anything else be written there */
    fill_log();
    rig_until_removed(&rig, 0, "gone"); /* it is done: without n1 */
    until(0, "n1's expulsion", is_alone, 0);
    until(1, "its end", is_kept_out, 0);
    assert_int_equal(rig_get(&rig, 0, "gone", 4000), 0);
    rig_until_removed(&rig, 0, "late");
    assert_int_equal(rig_get(&rig, 1, "kept", 4000), 0); /* its own clients find nothing: it may have been removed */
    yk_dir_stats(rig.n[0].dir, &st);
    assert_int_equal(rmdir(in_the_way), 0);
    until(0, "n1", both_are_in, st.map_version);
    until(1, "itself", both_are_in, st.map_version);
    yk_dir_stats(rig.n[1].dir, &st);
    assert_false(st.kept_out);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(rig_get(&rig, i, "gone", 4000), 0);
        assert_int_equal(rig_get(&rig, i, "late", 4000), 0);
    }
    rig_until_got(&rig, 0, "kept", 4000); /* it has lost nothing */
    takes_part();
}

/* Asks node 1 by a client of its own, as one of its host does, for blocks that must not come. */
#define GONE 24u

struct watch {
    pthread_t thread;
    yk_client *client;
    int over; /* atomic */
    uint64_t asked, found;
};

static void gone_key(char key[16], unsigned k) {
    snprintf(key, 16, "gone %u", k);
}

static void *watch_main(void *arg) {
    struct watch *w = arg;
    char key[16];
    while (!__atomic_load_n(&w->over, __ATOMIC_ACQUIRE)) {
        for (unsigned k = 0; k < GONE; k++) {
            gone_key(key, k);
            w->found += yk_exists(w->client, yk_key_str(key)) == 1;
            w->asked++;
        }
    }
    return NULL;
}

static void watch_begin(struct watch *w) {
    char url[160];
    yk_open_opts o = {.size = sizeof(o), .timeout_ms = 20000};
    memset(w, 0, sizeof(*w));
    snprintf(url, sizeof(url), "unix:%s", rig.n[1].socket);
    assert_int_equal(yk_open(url, &o, &w->client), 0);
}

/* The core is opened anew, and what it holds has been removed meanwhile: until that is known here the gate is shut. */
static void whose_core_begins_anew_shows_nothing_that_was_removed(void **state) {
    struct yk_dir_stats st;
    struct watch watch;
    char key[16], in_the_way[160];
    (void)state;
    for (unsigned k = 0; k < GONE; k++) {
        gone_key(key, k);
        rig_put(&rig, 1, key, 4000);
        rig_until_exists(&rig, 0, key, 1);
    }
    both_have("kept");
    watch_begin(&watch);
    snprintf(in_the_way, sizeof(in_the_way), "%s/probe", rig.n[1].state);
    assert_int_equal(mkdir(in_the_way, 0700), 0);
    fill_log();
    gone_key(key, 0);
    rig_until_removed(&rig, 0, key); /* which it finds out by */
    until(0, "n1's expulsion", is_alone, 0);
    until(1, "its end", is_kept_out, 0);
    for (unsigned k = 1; k < GONE; k++) {
        gone_key(key, k);
        rig_until_removed(&rig, 0, key);
    }
    assert_int_equal(rig_get(&rig, 1, "kept", 4000), 0);
    assert_int_equal(pthread_create(&watch.thread, NULL, watch_main, &watch), 0);
    yk_dir_stats(rig.n[0].dir, &st);
    assert_int_equal(rmdir(in_the_way), 0);
    until(0, "n1", both_are_in, st.map_version);
    until(1, "itself", both_are_in, st.map_version);
    rig_until_got(&rig, 1, "kept", 4000);
    __atomic_store_n(&watch.over, 1, __ATOMIC_RELEASE);
    pthread_join(watch.thread, NULL);
    yk_close(watch.client);
    assert_true(watch.asked > 0);
    assert_int_equal(watch.found, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(whose_name_was_another_s_drops_all_and_returns, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(who_was_forgotten_drops_all_and_comes_as_another, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(whose_log_is_full_keeps_out_until_it_is_not, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(whose_core_begins_anew_shows_nothing_that_was_removed, setup, rig_teardown),
    };
    return cmocka_run_group_tests_name("dir_return", tests, NULL, NULL);
}
