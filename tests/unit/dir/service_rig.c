/* SPDX-License-Identifier: Apache-2.0
 *
 * service_rig.h. Folders are in memory where there is such a file system: what is tested here is not what a disk does,
 * and one that others keep busy may take seconds for a flush. Segments have no names: what is left after a crash of the
 * test is the folders.
 */
#include "service_rig.h"

#include "base/clock.h"

#include <ftw.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define UNTIL_MS 30000u

struct rig rig;

void rig_open(struct rig *r) {
    struct yk_meta_opts o = {0};
    struct yk_err err = {0};
    uint64_t bytes = r->data_bytes;
    memset(r, 0, sizeof(*r));
    r->data_bytes = bytes != 0 ? bytes : 32u << 20;
    snprintf(r->dir, sizeof(r->dir), "/dev/shm/yolk-dir-XXXXXX");
    if (mkdtemp(r->dir) == NULL) {
        snprintf(r->dir, sizeof(r->dir), "/tmp/yolk-dir-XXXXXX");
        assert_non_null(mkdtemp(r->dir));
    }
    if (yk_meta_open(&o, &r->meta, &err) != 0)
        fail_msg("%s", err.text);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw) {
    return remove(path);
}

void rig_close(struct rig *r) {
    for (unsigned i = 0; i < RIG_NODES; i++)
        rig_stop(r, i);
    yk_meta_close(r->meta);
    nftw(r->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

int rig_setup(void **state) {
    (void)state;
    rig.data_bytes = 0;
    rig_open(&rig);
    return 0;
}

int rig_teardown(void **state) {
    (void)state;
    rig_close(&rig);
    return 0;
}

static void node_start(struct rig *r, struct rig_node *n, const struct yk_pool_ops *pool) {
    struct yk_err err = {0};
    struct yk_node_opts o = {.pool = pool, .transfer = "127.0.0.1:0", .listen_count = 1};
    o.store.segment.data_bytes = r->data_bytes;
    o.store.segment.max_clients = 16;
    o.store.segment.numa_node = -1;
    o.store.policy = "lru";
    o.store.reserve_percent = 2;
    o.store.held_percent = 50;
    o.listen[0].kind = YK_ADDR_UNIX;
    snprintf(o.listen[0].host, sizeof(o.listen[0].host), "%s", n->socket);
    if (yk_node_start(&o, &n->node, &err) != 0)
        fail_msg("%s", err.text);
}

static void client_open(struct rig_node *n) {
    char url[160];
    yk_open_opts o = {.size = sizeof(o), .timeout_ms = 20000};
    uint64_t until = 0;
    int rc;
    snprintf(url, sizeof(url), "unix:%s", n->socket);
    while (((rc = yk_open(url, &o, &n->client)) == -YK_ETIMEDOUT || rc == -YK_EGONE) && rig_patience(&until))
        ; /* its namespace may be made all the same, and a lease that was lost is had again */
    if (rc != 0)
        fail_msg("%s", yk_error_text(NULL));
}

/* Its node, and a directory that has not begun. */
static void node_make(struct rig *r, unsigned i, struct yk_dir_opts *o) {
    struct rig_node *n = &r->n[i];
    struct yk_err err = {0};
    char name[16];
    snprintf(name, sizeof(name), "n%u", i);
    snprintf(n->state, sizeof(n->state), "%s/%s", r->dir, name);
    snprintf(n->socket, sizeof(n->socket), "%s/%s.sock", r->dir, name);
    o->name = name;
    o->listen = "127.0.0.1:0";
    o->state_dir = n->state;
    o->zone = r->zone[i];
    o->lease_ms = 5000; /* longer than a thread of a busy machine is kept waiting */
    if (yk_dir_new(o, &n->dir, &err) != 0)
        fail_msg("%s", err.text);
    node_start(r, n, yk_dir_pool(n->dir));
}

void rig_start(struct rig *r, unsigned i) {
    struct rig_node *n = &r->n[i];
    struct yk_err err = {0};
    struct yk_dir_opts o = {.shared_meta = r->meta, .start_ms = UNTIL_MS};
    node_make(r, i, &o);
    if (yk_dir_start(n->dir, n->node, &err) != 0)
        fail_msg("n%u: %s", i, err.text);
    client_open(n);
}

void rig_start_all(struct rig *r, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        rig_start(r, i);
    for (unsigned i = 0; i < count; i++)
        rig_until_members(r, i, count);
}

static void *start_main(void *arg) {
    struct rig_node *n = arg;
    struct yk_err err = {0};
    n->started = yk_dir_start(n->dir, n->node, &err);
    __atomic_store_n(&n->start_over, 1, __ATOMIC_RELEASE);
    return NULL;
}

int rig_start_without_etcd(struct rig *r, unsigned i, void (*meanwhile)(yk_client *client)) {
    struct rig_node *n = &r->n[i];
    struct yk_dir_opts o = {.start_ms = 1500};
    pthread_t thread;
    char url[160];
    o.meta.endpoints = "http://127.0.0.1:1"; /* nobody listens there */
    node_make(r, i, &o);
    snprintf(url, sizeof(url), "unix:%s", n->socket);
    assert_int_equal(pthread_create(&thread, NULL, start_main, n), 0);
    while (!__atomic_load_n(&n->start_over, __ATOMIC_ACQUIRE)) {
        yk_open_opts open = {.size = sizeof(open), .timeout_ms = 5000};
        if (n->client == NULL && yk_open(url, &open, &n->client) != 0)
            n->client = NULL; /* its namespace is known when it has joined */
        meanwhile(n->client);
    }
    pthread_join(thread, NULL);
    return n->started;
}

void rig_stop(struct rig *r, unsigned i) {
    struct rig_node *n = &r->n[i];
    if (n->node == NULL)
        return;
    if (n->client != NULL)
        yk_close(n->client);
    yk_dir_stop(n->dir);
    yk_node_stop(n->node);
    yk_dir_free(n->dir);
    memset(n, 0, sizeof(*n));
}

struct yk_dir_stats rig_stats(struct rig *r, unsigned i) {
    struct yk_dir_stats st;
    yk_dir_stats(r->n[i].dir, &st);
    return st;
}

/* ---- blocks ----------------------------------------------------------------------------------------- */

unsigned char *rig_payload(const char *key, size_t len) {
    unsigned char *p = malloc(len);
    uint32_t x = 2166136261u;
    assert_non_null(p);
    for (const char *k = key; *k != 0; k++)
        x = (x ^ (unsigned char)*k) * 16777619u;
    for (size_t i = 0; i < len; i++) {
        x = x * 1664525u + 1013904223u;
        p[i] = (unsigned char)(x >> 24);
    }
    return p;
}

void rig_put_child(struct rig *r, unsigned i, const char *key, const char *parent, size_t len) {
    unsigned char *p = rig_payload(key, len);
    yk_put_opts o = {.size = sizeof(o)};
    if (parent != NULL)
        o.parent = yk_key_str(parent);
    int rc = yk_put(r->n[i].client, yk_key_str(key), p, len, &o);
    if (rc != 0)
        fail_msg("put %s on node %u: %s", key, i, yk_error_text(r->n[i].client));
    free(p);
}

void rig_put(struct rig *r, unsigned i, const char *key, size_t len) {
    rig_put_child(r, i, key, NULL, len);
}

int rig_get(struct rig *r, unsigned i, const char *key, size_t len) {
    unsigned char *want = rig_payload(key, len), *got = malloc(len);
    size_t n = 0;
    assert_non_null(got);
    int rc = yk_get(r->n[i].client, yk_key_str(key), got, len, &n);
    if (rc != 0 && rc != YK_MISS)
        fail_msg("get %s on node %u: %s", key, i, yk_error_text(r->n[i].client));
    if (rc == 0) {
        assert_int_equal(n, len);
        assert_memory_equal(got, want, len);
    }
    free(want);
    free(got);
    return rc == 0;
}

/* What each node knows, before a test fails. */
static void explain(struct rig *r) {
    for (unsigned i = 0; i < RIG_NODES; i++) {
        struct yk_dir_stats st;
        if (r->n[i].dir == NULL)
            continue;
        yk_dir_stats(r->n[i].dir, &st);
        print_message("n%u: id %u of %u, map %llu, slots %llu (%llu whole), entries %llu, held %llu (%llu not "
                      "published), pulled %llu (%llu failed)\n",
                      i, st.id, st.members, (unsigned long long)st.map_version, (unsigned long long)st.core.slots_owned,
                      (unsigned long long)st.core.slots_whole, (unsigned long long)st.core.entries,
                      (unsigned long long)st.core.held, (unsigned long long)st.core.unpublished,
                      (unsigned long long)st.pulled, (unsigned long long)st.pull_failed);
    }
}

#define FAIL(r, ...)                                                                                              \
    do {                                                                                                          \
        explain(r);                                                                                               \
        fail_msg(__VA_ARGS__);                                                                                    \
    } while (0)

/* ---- waiting ---------------------------------------------------------------------------------------- */

int rig_patience(uint64_t *io_until_ms) {
    struct timespec pause = {.tv_nsec = 2000000};
    uint64_t now = yk_now_ns() / YK_NS_PER_MS;
    if (*io_until_ms == 0)
        *io_until_ms = now + UNTIL_MS;
    nanosleep(&pause, NULL);
    return now < *io_until_ms;
}

void rig_until_exists(struct rig *r, unsigned i, const char *key, int exists) {
    uint64_t until = 0;
    while (yk_exists(r->n[i].client, yk_key_str(key)) != exists)
        if (!rig_patience(&until))
            FAIL(r, "node %u: %s is%s there", i, key, exists ? " not" : "");
}

void rig_until_got(struct rig *r, unsigned i, const char *key, size_t len) {
    uint64_t until = 0;
    while (rig_get(r, i, key, len) == 0)
        if (!rig_patience(&until))
            FAIL(r, "node %u: %s is a miss", i, key);
}

void rig_until_removed(struct rig *r, unsigned i, const char *key) {
    uint64_t until = 0;
    int rc;
    while ((rc = yk_remove(r->n[i].client, yk_key_str(key))) < 0)
        if (!rig_patience(&until))
            FAIL(r, "node %u: %s is not removed: %d", i, key, rc);
}

void rig_until_matched(struct rig *r, unsigned i, const yk_key *keys, size_t count, int matched) {
    uint64_t until = 0;
    int n;
    while ((n = yk_match(r->n[i].client, keys, count, NULL)) != matched)
        if (!rig_patience(&until))
            FAIL(r, "node %u matches %d, not %d", i, n, matched);
}

void rig_until_pulled(struct rig *r, unsigned i, uint64_t blocks) {
    uint64_t until = 0;
    struct yk_dir_stats st;
    do
        yk_dir_stats(r->n[i].dir, &st);
    while (st.pulled < blocks && rig_patience(&until));
    assert_int_equal(st.pulled, blocks);
}

void rig_until_published(struct rig *r, unsigned i, uint64_t blocks) {
    uint64_t until = 0;
    struct yk_dir_stats st;
    for (;;) {
        yk_dir_stats(r->n[i].dir, &st);
        if (st.core.held >= blocks && st.core.unpublished == 0)
            return;
        if (!rig_patience(&until))
            FAIL(r, "node %u has not told all of %llu blocks", i, (unsigned long long)blocks);
    }
}

void rig_until_members(struct rig *r, unsigned i, uint32_t members) {
    uint64_t until = 0;
    struct yk_dir_stats st;
    for (;;) {
        yk_dir_stats(r->n[i].dir, &st);
        if (st.members == members && st.serves)
            return;
        if (!rig_patience(&until))
            FAIL(r, "node %u sees %u members, not %u", i, st.members, members);
    }
}
