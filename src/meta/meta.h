/* SPDX-License-Identifier: Apache-2.0
 *
 * Cluster metadata: a small ordered key-value store with revisions, transactions, leases, watches and
 * elections. Two backends behind one interface (record 0015): `embedded`, in this process, for a node that
 * is alone, and `etcd`. Nothing per block goes in here.
 *
 * Nothing blocks. A call posts a message; its callback comes exactly once, on the thread `yolk-meta` of
 * this handle, at the latest soon after its deadline. Callbacks must not wait and must not close the
 * handle; they may call everything else. What a callback is given is valid until it returns.
 *
 * Every successful change raises the store's revision by one; all its keys carry that revision. Reads see
 * every change that was acknowledged before they were asked for. A change that was sent and not answered
 * may have been made: its result says `unsure`.
 *
 * Watches, leases and elections tell their state by callbacks of their own, the last of which is ..._ENDED;
 * then the handle is gone. Closing one only asks for that.
 *
 * Threads: any, but for yk_meta_close.
 */
#ifndef YK_META_META_H
#define YK_META_META_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_META_KEY_MAX   512u         /* bytes of a key or prefix, without its NUL */
#define YK_META_VALUE_MAX (256u << 10) /* bytes of a value */
#define YK_META_TXN_MAX   64u          /* comparisons, and changes, of a transaction */
#define YK_META_TXN_BYTES_MAX                                                                      \
    (1u << 20)                       /* its keys and values together; etcd allows 1.5 MiB in all */
#define YK_META_TTL_MIN_MS     1000u /* of a lease; etcd may give more than was asked for */
#define YK_META_TTL_MAX_MS     86400000u
#define YK_META_TIMEOUT_MAX_MS 600000u

/* Zero and NULL mean the default in brackets. Everything is copied by open. */
struct yk_meta_opts {
    const char *endpoints;            /* "http://a:2379,https://b:2379"; NULL or "" = embedded */
    const char *user, *password;      /* etcd's; NULL = none */
    const char *ca_file;              /* PEM; NULL = the system's authorities */
    const char *cert_file, *key_file; /* PEM, client certificate; NULL = none */
    const char *birth_key;            /* names the store's history ["yolk/birth"] */
    uint32_t max_requests;            /* in flight [256] */
    uint32_t max_watches;             /* those of elections count [64] */
    uint32_t max_range_keys;          /* of one range or state; more is -YK_ETOOBIG [65536] */
    uint32_t max_range_bytes;         /* likewise, keys and values [64 MiB] */
    uint32_t page_keys;               /* etcd: asked for at a time [1000] */
    uint32_t try_ms;                  /* etcd: how long one member may keep us waiting [1000] */
    uint32_t probe_ms;                /* etcd: between questions to members with watches [1000] */
    uint32_t max_history;             /* embedded: changes kept for watches from the past [4096] */
};

struct yk_meta;

/* Starts the thread. Does not talk to etcd yet, and so succeeds without one. -YK_EINVAL (text says which
 * option), -YK_ENOMEM, -YK_EIO, -YK_ENOTSUP (endpoints given, but built without libcurl). */
int yk_meta_open(const struct yk_meta_opts *opts, struct yk_meta **ret_meta, struct yk_err *err);

/* Ends everything with -YK_ECANCELED without a word to etcd (leases run out by themselves), and waits for
 * the thread. Not from a callback; nobody may use meta or its handles any more. NULL is fine. */
void yk_meta_close(struct yk_meta *meta);

/* "embedded" or "etcd". Static storage. */
const char *yk_meta_backend_name(const struct yk_meta *meta);

/* ---- reading and changing --------------------------------------------------------------------- */

struct yk_meta_kv {
    const char *key; /* ends in a NUL besides */
    const void *value;
    uint32_t key_len, value_len; /* bytes */
    uint64_t create_revision, mod_revision,
        version;    /* version: 1 after creation, then counts changes */
    uint64_t lease; /* 0 = none */
    bool deleted;   /* in changes of a watch: value, create_revision, version and lease are empty */
};

struct yk_meta_result {
    int status;        /* 0 or -YK_E... */
    const char *text;  /* why not: which endpoint, what was found, what to do; "" on success */
    bool unsure;       /* a change that failed may have been made, or may still be */
    bool done;         /* txn: all comparisons held and the changes were made */
    uint64_t revision; /* of the store */
    const struct yk_meta_kv
        *kvs; /* get: 0 or 1; range; txn not done: the compared keys that exist */
    size_t count;
};

typedef void (*yk_meta_fn)(void *user, const struct yk_meta_result *result);

/* Keys are text of 1 to YK_META_KEY_MAX bytes. timeout_ms: 1 to YK_META_TIMEOUT_MAX_MS.
 * All return 0, and then the callback comes; or, and then it never does: -YK_EINVAL, -YK_ETOOBIG,
 * -YK_EAGAIN (max_requests are in flight), -YK_ENOMEM, -YK_ECLOSED (from a callback while the handle is
 * being closed; opening watches, leases and elections fails so, too).
 * Results: 0, -YK_ETIMEDOUT, -YK_ECANCELED, -YK_EPERM (user, password, permission, certificate),
 * -YK_ENOENT (a lease that is not there), -YK_ENOSPC (etcd's quota), -YK_ETOOBIG, -YK_EVERSION,
 * -YK_EPROTO, -YK_EINVAL, -YK_EGONE (unsure, and not to be repeated). */
int yk_meta_get(struct yk_meta *meta, const char *key, uint32_t timeout_ms, yk_meta_fn fn,
                void *user);

/* All keys that begin with prefix, in order, as of one revision. */
int yk_meta_range(struct yk_meta *meta, const char *prefix, uint32_t timeout_ms, yk_meta_fn fn,
                  void *user);

enum yk_meta_field {
    YK_META_MOD_REVISION,
    YK_META_CREATE_REVISION,
    YK_META_VERSION,
    YK_META_VALUE
};
enum yk_meta_rel { YK_META_EQUAL, YK_META_NOT_EQUAL, YK_META_LESS, YK_META_GREATER };

/* A key that is not there has revisions and version 0; a comparison of its value never holds. */
struct yk_meta_compare {
    const char *key;
    enum yk_meta_field field;
    enum yk_meta_rel rel;
    uint64_t number;   /* all fields but the value */
    const void *value; /* the value */
    uint32_t value_len;
};

struct yk_meta_change {
    const char *key;
    const void *value; /* put */
    uint32_t value_len;
    uint64_t lease; /* put: 0 = none; the key goes when the lease does */
    bool remove;    /* else put */
    bool prefix;    /* remove: all keys that begin with key */
};

/* Borrowed during the call. No key may be changed twice in one transaction. */
struct yk_meta_txn {
    const struct yk_meta_compare *compares;
    uint32_t compare_count;
    uint32_t change_count;
    const struct yk_meta_change *changes;
    bool again; /* making it twice is as good as once: it may be repeated when unsure */
};

/* All changes at once if all comparisons hold; else none, and the compared keys as they are. */
int yk_meta_txn(struct yk_meta *meta, const struct yk_meta_txn *txn, uint32_t timeout_ms,
                yk_meta_fn fn, void *user);

/* Transactions without comparisons; repeated when unsure. */
int yk_meta_put(struct yk_meta *meta, const char *key, const void *value, uint32_t value_len,
                uint64_t lease, uint32_t timeout_ms, yk_meta_fn fn, void *user);
int yk_meta_delete(struct yk_meta *meta, const char *key, uint32_t timeout_ms, yk_meta_fn fn,
                   void *user);

/* ---- watches ---------------------------------------------------------------------------------- */

enum yk_meta_watch_kind {
    YK_META_WATCH_STATE, /* everything under the prefix at `revision`; changes after it follow */
    YK_META_WATCH_CHANGES, /* all changes of one revision or several, in order, none left out or twice */
    YK_META_WATCH_TROUBLE, /* nothing can be told for some time; it goes on by itself. Once a trouble */
    YK_META_WATCH_GOOD,  /* the trouble is over; STATE and CHANGES say that too */
    YK_META_WATCH_ENDED, /* the last call */
};

struct yk_meta_watch_event {
    enum yk_meta_watch_kind kind;
    bool resync;       /* STATE: not the first: what was told before no longer leads here */
    uint64_t revision; /* STATE, CHANGES: all up to it has been told */
    const struct yk_meta_kv *kvs;
    size_t count;
    int status; /* TROUBLE, ENDED */
    const char *text;
};

struct yk_meta_watch;
typedef void (*yk_meta_watch_fn)(void *user, const struct yk_meta_watch_event *event);

/* from_revision 0: a STATE, then changes. Else changes from that revision on; should they be compacted
 * away, or the store's history be another one, a STATE with resync. -YK_EINVAL, -YK_ENOMEM, -YK_ELIMIT. */
int yk_meta_watch_open(struct yk_meta *meta, const char *prefix, uint64_t from_revision,
                       yk_meta_watch_fn fn, void *user, struct yk_meta_watch **ret_watch);
void yk_meta_watch_close(struct yk_meta_watch *watch);

/* ---- leases ----------------------------------------------------------------------------------- */

/*   asking --> HELD <--> UNSURE --> LOST --> ENDED (after close, from any)                            */
enum yk_meta_lease_state {
    YK_META_LEASE_ASKING,
    YK_META_LEASE_HELD, /* left_ms > 0; its keys are there */
    YK_META_LEASE_UNSURE, /* nothing was heard for its whole time; asking goes on. Act as if it were lost */
    YK_META_LEASE_LOST,  /* etcd says so, or refused to grant it; its keys are gone */
    YK_META_LEASE_ENDED, /* the last call */
};

struct yk_meta_lease_event {
    enum yk_meta_lease_state state;
    uint64_t id, left_ms;
    int status; /* UNSURE, LOST, ENDED */
    const char *text;
};

struct yk_meta_lease;
typedef void (*yk_meta_lease_fn)(void *user, const struct yk_meta_lease_event *event);

/* Asks for a lease and keeps it alive; told at each change of state. What is left of it counts from the
 * sending of the message that was answered, by CLOCK_BOOTTIME. -YK_EINVAL, -YK_ENOMEM. */
int yk_meta_lease_open(struct yk_meta *meta, uint32_t ttl_ms, yk_meta_lease_fn fn, void *user,
                       struct yk_meta_lease **ret_lease);

/* revoke: tell etcd, so that its keys go at once; ENDED comes after that, or 2 s later at most. */
void yk_meta_lease_close(struct yk_meta_lease *lease, bool revoke);

/* 0 before it is granted. */
uint64_t yk_meta_lease_id(const struct yk_meta_lease *lease);

/* By the clock, whatever the callbacks have told so far: a process that was stopped sees 0 at once. */
uint64_t yk_meta_lease_left_ms(const struct yk_meta_lease *lease);

/* ---- elections -------------------------------------------------------------------------------- */

enum yk_meta_election_kind {
    YK_META_ELECTION_LEADER, /* there is one: `mine` tells if it is this candidate */
    YK_META_ELECTION_NONE,   /* there is none, or it can't be told: this one does not lead */
    YK_META_ELECTION_ENDED,  /* the last call */
};

struct yk_meta_election_event {
    enum yk_meta_election_kind kind;
    bool mine;
    const char *key;
    const void *value; /* what the leader gave to its campaign */
    uint32_t value_len;
    uint64_t
        term; /* the revision that made the leader's key; of two in one history the higher is newer */
};

struct yk_meta_election;
typedef void (*yk_meta_election_fn)(void *user, const struct yk_meta_election_event *event);

/* Observes who leads under prefix, and with a lease also stands for it: the oldest key there leads.
 * value is at most 4096 bytes. The candidacy ends with the lease (observing goes on); the lease may be
 * closed first. -YK_EINVAL, -YK_ENOMEM, -YK_ELIMIT. */
int yk_meta_election_open(struct yk_meta *meta, const char *prefix, struct yk_meta_lease *lease,
                          const void *value, uint32_t value_len, yk_meta_election_fn fn, void *user,
                          struct yk_meta_election **ret_election);

/* Resigns (2 s at most), then ENDED. */
void yk_meta_election_close(struct yk_meta_election *election);

#ifdef __cplusplus
}
#endif

#endif
