/* SPDX-License-Identifier: Apache-2.0
 *
 * What tests of the metadata share: calls that wait for their callback, and recorders for watches, leases
 * and elections, whose conditions are waited for with a deadline.
 *
 * Thread: the test's; what recorders hold is under their lock.
 */
#ifndef YK_TEST_META_RIG_H
#define YK_TEST_META_RIG_H

#include "base/clock.h"
#include "meta/meta.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define RIG_WAIT_MS 60000u /* when a test gives up; nothing is judged by it */

/* ---- requests --------------------------------------------------------------------------------- */

struct kept_kv {
    char key[YK_META_KEY_MAX + 1], value[256];
    uint32_t value_len;
    uint64_t create_revision, mod_revision, version, lease;
};

struct answer {
    int status;
    char text[YK_ERR_TEXT_MAX + 128];
    bool unsure, done;
    uint64_t revision;
    size_t count;
    struct kept_kv kvs[16]; /* the first of them */
};

void rig_get(struct yk_meta *m, const char *key, struct answer *ret);
void rig_range(struct yk_meta *m, const char *prefix, struct answer *ret);
void rig_put(struct yk_meta *m, const char *key, const char *value, uint64_t lease,
             struct answer *ret);
void rig_delete(struct yk_meta *m, const char *key, struct answer *ret);
void rig_txn(struct yk_meta *m, const struct yk_meta_txn *txn, uint32_t timeout_ms,
             struct answer *ret);
void rig_get_in(struct yk_meta *m, const char *key, uint32_t timeout_ms, struct answer *ret);

/* Fails the test unless it worked. */
uint64_t rig_must_put(struct yk_meta *m, const char *key, const char *value, uint64_t lease);

/* ---- a watch's record -------------------------------------------------------------------------- */

struct record {
    pthread_mutex_t lock;
    pthread_cond_t news;
    struct yk_meta_watch *watch;
    struct kept_kv kvs[128]; /* what is under the prefix, as told */
    size_t count;
    unsigned states, resyncs, batches, changes, deletions, troubles, goods, ended;
    uint64_t revision;
    char trouble[YK_ERR_TEXT_MAX + 128];
    int trouble_status;
    /* Values of the key .../counter as numbers: each one more than the one before. */
    unsigned long counter, gaps;
};

void record_open(struct record *r, struct yk_meta *m, const char *prefix, uint64_t from);
void record_close(struct record *r); /* and waits for its last call */
void record_free(struct record *r);

typedef bool (*record_fn)(const struct record *r, const void *arg);
/* Fails the test when it does not come true. */
void record_wait(struct record *r, const char *what, record_fn fn, const void *arg);
bool has_key(const struct record *r, const void *key);
bool lacks_key(const struct record *r, const void *key);
bool in_trouble(const struct record *r, const void *arg);
bool at_counter(const struct record *r, const void *number);
bool at_states(const struct record *r, const void *number);

/* ---- leases and elections ---------------------------------------------------------------------- */

struct lease_record {
    pthread_mutex_t lock;
    pthread_cond_t news;
    struct yk_meta_lease *lease;
    enum yk_meta_lease_state state;
    unsigned helds, unsures, losts, ended;
    uint64_t id;
    char text[YK_ERR_TEXT_MAX + 128];
};

void lease_open(struct lease_record *r, struct yk_meta *m, uint32_t ttl_ms);
void lease_wait(struct lease_record *r, enum yk_meta_lease_state state);
void lease_close(struct lease_record *r, bool revoke);

struct election_record {
    pthread_mutex_t lock;
    pthread_cond_t news;
    struct yk_meta_election *election;
    bool leader, mine;
    char value[64];
    uint64_t term;
    unsigned ended;
};

void election_open(struct election_record *r, struct yk_meta *m, const char *prefix,
                   struct lease_record *lease, const char *value);
void election_wait(struct election_record *r, bool leader, bool mine, const char *value);
void election_close(struct election_record *r);

#endif
