/* SPDX-License-Identifier: Apache-2.0
 *
 * One node's membership from inside (member.h):
 *
 *   member.c       its life, its thread, what users ask and are told
 *   member_etcd.c  from the metadata: watch, lease, election; and calls that wait for their answer
 *   member_view.c  what stands under the prefix, as the watch tells it
 *   member_space.c what is known of a namespace, with what stands there
 *   member_text.c  the values there
 *   member_disk.c  the state directory
 *   member_join.c  steps of a node: being in the cluster, an empty etcd, joining, coming back
 *   member_lead.c  steps of the balancer
 *
 * The thread yolk-member goes round: take what is new, make the steps that are to be made, tell, wait. Steps
 * look at what is there and not at what they did before.
 *
 * Thread: yolk-member, but for what stands under `lock`.
 */
#ifndef YK_DIR_MEMBER_PRIV_H
#define YK_DIR_MEMBER_PRIV_H

#include "base/buf.h"
#include "dir/balance.h"
#include "dir/member.h"

#include <pthread.h>
#include <sys/queue.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_MEMBER_PREFIX_MAX 200u /* leaves room for the longest key: "/ns/" and a namespace */
#define YK_MEMBER_CALL_MS  2000u /* how long a step waits for etcd */
#define YK_MEMBER_RETRY_MS 200u  /* before a step that failed is made again */
#define YK_MEMBER_TURN_MS  1000u /* without news; the balancer's pace */

/* A key that the watch told, on its way to the thread. */
struct yk_member_news {
    STAILQ_ENTRY(yk_member_news) link;
    uint64_t revision, lease;
    uint32_t value_len;
    uint8_t deleted, all; /* all: forget what was known, everything follows */
    char *value;          /* behind the key */
    char key[];           /* without the prefix */
};
STAILQ_HEAD(yk_member_newses, yk_member_news);

struct yk_member_seen_node {
    struct yk_member_node node;
    uint64_t revision, lease; /* revision 0: its key went, and was seen to go */
    uint64_t went_ms;         /* boot clock: that was told */
    uint8_t unsure;           /* a new state has begun and has not shown it yet */
};

struct yk_member_seen_space {
    struct yk_member_space space;   /* the highest known */
    struct yk_member_space in_etcd; /* but for the name */
    uint64_t revision;              /* 0: not in etcd */
    char *rest; /* members of its record that this program does not know, as they stood there; NULL: none */
    uint8_t untold;
};

/* seed/NAME: the version of the map that a node has, and terms that it knows to be higher. */
struct yk_member_seed {
    char name[YK_DIR_NAME_MAX + 1];
    uint64_t revision, lease, version;
    uint32_t count;
    struct yk_dir_slot *term; /* owner: the slot */
};

struct yk_member_view {
    uint8_t known; /* the watch has told everything */
    uint64_t since_ms; /* boot clock: so long all has been seen that went, and this node's lease was held */
    uint64_t cluster, cluster_revision; /* 0: not there */
    uint64_t map_revision;
    struct yk_dir_map *map;      /* NULL: not there, or (broken) it cannot be read */
    uint64_t seed_map_revision;
    struct yk_dir_map *seed_map; /* likewise */
    char broken[YK_ERR_TEXT_MAX]; /* what cannot be read, "" */
    uint64_t rebalance_revision;
    char rebalance[YK_MEMBER_REBALANCE_MAX + 1];
    struct yk_member_seen_node *nodes;
    struct yk_member_seen_space *spaces;
    struct yk_member_seed *seeds;
    char (*drains)[YK_DIR_NAME_MAX + 1];
    uint32_t node_count, node_cap, space_count, space_cap, seed_count, seed_cap, drain_count, drain_cap;
};

enum yk_member_job_kind { YK_MEMBER_JOB_SPACE, YK_MEMBER_JOB_DRAIN, YK_MEMBER_JOB_FORGET, YK_MEMBER_JOB_REBALANCE };

struct yk_member_job {
    STAILQ_ENTRY(yk_member_job) link;
    enum yk_member_job_kind kind;
    struct yk_member_space space; /* DRAIN, FORGET: name alone */
    int drain;
    uint8_t sent; /* it may have been made */
    uint64_t revision; /* REBALANCE: it was, at this one */
    uint64_t deadline_ns;
    yk_member_done_fn done;
    void *user;
};
STAILQ_HEAD(yk_member_jobs, yk_member_job);

struct yk_member {
    struct yk_member_opts opts; /* immutable, but for the two below; strings are in `self` or its own */
    char *prefix, *dir;
    struct yk_member_node self; /* what nodes/NAME says */
    pthread_t thread;
    int dir_fd, lock_fd;

    pthread_mutex_t lock; /* from here */
    pthread_cond_t wake;
    uint8_t stop, leave, woken, overflow;
    struct yk_member_newses inbox;
    size_t inbox_bytes;
    struct yk_meta_watch *watch; /* NULL: none, or (closing) ended */
    struct yk_meta_lease *lease;
    struct yk_meta_election *election;
    uint8_t watch_closing, watch_trouble, lease_lost, lease_closing, election_closing, elected;
    uint64_t lease_id, heard_ms;           /* heard_ms: boot clock; of the lease */
    uint64_t sure_lease, sure_ms; /* on which this node's key stands, beside the map that names it; 0: none. heard_ms then */
    uint64_t elected_term;                 /* elected: with this */
    char elected_key[YK_META_KEY_MAX + 1];
    char away_text[YK_ERR_TEXT_MAX];
    int watch_status, lease_status; /* -YK_EPERM: refused */
    struct yk_member_jobs jobs;
    uint32_t job_count;
    struct yk_member_load load;
    uint32_t suspect[YK_DIR_MEMBERS_MAX], suspect_count;
    struct yk_member_space *heard; /* epochs from messages, that the thread has not taken; YK_MEMBER_SPACES_MAX at most */
    uint32_t heard_count, heard_cap;
    uint64_t replayed; /* incarnation */
    uint8_t dropped, anew; /* anew: this incarnation is over */
    char held[YK_ERR_TEXT_MAX]; /* why it keeps out of the cluster; "": it does not */
    struct yk_member_state state; /* as told; to here */

    uint64_t terms[YK_DIR_SLOTS]; /* atomic, relaxed: numbers by themselves, read when etcd is filled again */

    struct yk_member_view view;
    struct yk_dir_map *map; /* the newest on disk, as told; NULL: none yet */
    uint64_t cluster;       /* 0: not known */
    uint64_t lived;         /* the newest incarnation on disk: joined, or about to */
    uint64_t own;           /* the one before it, if that was this node's own last; 0: not known */
    char lived_prefix[YK_MEMBER_PREFIX_MAX + 1]; /* where that was; "": not known */
    uint64_t planned;       /* to be joined in, on disk; 0: none */
    uint64_t incarnation;   /* 0: not joined */
    uint64_t steady_lease; /* that was held since view.since_ms; 0: none */
    uint8_t stale, phase;
    uint8_t at_home; /* the cluster in etcd is this node's */
    uint8_t current; /* and this node's map is etcd's: what is changed in it may be put there */
    uint8_t denied; /* etcd has refused a transaction in this turn */
    char text[YK_ERR_TEXT_MAX];
    uint64_t birth_ms, grace_ms, load_ms, plan_ms, outgrow_ms; /* boot clock: when something is due; 0: not */
    uint32_t turn_ms;        /* until the next turn */
    uint32_t plan_period_ms; /* between two plans of moves */
    struct yk_balance *balance;
    uint64_t hurried; /* the revision of `rebalance` that the balancer hurries for */
    uint8_t spaces_dirty;
    void *scratch; /* an encoded map */
};

/* ---- member_etcd.c: the metadata --------------------------------------------------------------- */

/* Opens what is not open, closes what has to be opened anew. */
void yk_member_attend(struct yk_member *m);
/* Closes everything and waits for the last callbacks. */
void yk_member_detach(struct yk_member *m, int leave);
int yk_member_lease_held(struct yk_member *m, uint64_t *ret_id);
void yk_member_take_news(struct yk_member *m); /* the inbox into the view */

/* Full keys. Returns ret. */
char *yk_member_key(const struct yk_member *m, const char *key, char ret[YK_META_KEY_MAX + 1]);

/* A transaction, built step by step, and waited for. Keys are without the prefix; values are borrowed. */
#define YK_MEMBER_TXN_MAX 32u
struct yk_member_txn {
    struct yk_member *member;
    uint32_t compares, changes;
    struct yk_meta_compare compare[YK_MEMBER_TXN_MAX];
    struct yk_meta_change change[YK_MEMBER_TXN_MAX];
    char keys[2 * YK_MEMBER_TXN_MAX][YK_META_KEY_MAX + 1];
};
struct yk_member_txn *yk_member_txn_new(struct yk_member *m); /* NULL: no memory */
void yk_member_txn_same(struct yk_member_txn *txn, const char *key, uint64_t revision); /* 0: it is not there */
void yk_member_txn_put(struct yk_member_txn *txn, const char *key, const void *value, size_t len, uint64_t lease);
void yk_member_txn_leads(struct yk_member_txn *txn); /* this node is the balancer */
void yk_member_txn_remove(struct yk_member_txn *txn, const char *key, int prefix);
/* Makes it, and frees it. 1: made, at *ret_revision; 0: something was not the same; -YK_E..., *ret_unsure: and
 * it may be made all the same. The text of a failure goes to m->text. */
int yk_member_txn_make(struct yk_member_txn *txn, uint64_t *ret_revision, int *ret_unsure);

/* The map as etcd has it now: *ret_map NULL and revision 0 when there is none. Freed by the caller. */
int yk_member_fetch_map(struct yk_member *m, struct yk_dir_map **ret_map, uint64_t *ret_revision);

/* ---- member_view.c ----------------------------------------------------------------------------- */

void yk_member_view_take(struct yk_member *m, struct yk_member_news *news);
void yk_member_view_settle(struct yk_member *m); /* after all that was to be taken: tells who is gone */
void yk_member_view_clear(struct yk_member_view *v);
struct yk_member_seen_node *yk_member_view_node(struct yk_member *m, const char *name);
struct yk_member_seen_space *yk_member_view_space(struct yk_member *m, const char *name);
int yk_member_view_drains(const struct yk_member *m, const char *name);
/* Room for one more in an array of the view; NULL: no memory. */
void *yk_member_grow(void *array, uint32_t *count, uint32_t *cap, size_t bytes);

/* ---- member_space.c ---------------------------------------------------------------------------- */

/* All of them leave names alone. */
int yk_member_same_space(const struct yk_member_space *a, const struct yk_member_space *b);
void yk_member_space_copy(struct yk_member_space *space, const struct yk_member_space *from);
void yk_member_space_no_terms(struct yk_member_space *space);
/* After changes: its version. */
void yk_member_space_changed(struct yk_member_space *space, const struct yk_member_space *was);
void yk_member_space_from_disk(struct yk_member_space *space);
/* What was found in etcd. Was there news? */
int yk_member_space_merge(struct yk_member_seen_space *seen, const struct yk_member_space *found);
int yk_member_space_is_missing(const struct yk_member_seen_space *seen);

/* ---- member_text.c ----------------------------------------------------------------------------- */

void yk_member_put_cluster(struct yk_buf *b, uint64_t cluster);
int yk_member_read_cluster(const void *value, size_t len, uint64_t *ret_cluster, struct yk_err *err);
void yk_member_put_node(struct yk_buf *b, const struct yk_member_node *node);
int yk_member_read_node(const char *name, const void *value, size_t len, struct yk_member_node *ret, struct yk_err *err);
#define YK_MEMBER_REST_MAX 65536u /* bytes of members that this program does not know */
/* rest: as it was read; NULL: none. */
void yk_member_put_space(struct yk_buf *b, const struct yk_member_space *space, const char *rest);
/* What a record of an older program does not say is YK_MEMBER_KEEP_...; *ret_rest is the caller's. 0 with a text: what is
 * not known is too much to be kept, and is not. */
int yk_member_read_space(const void *value, size_t len, struct yk_member_space *ret, char **ret_rest, struct yk_err *err);

/* The file `node`. */
struct yk_member_life {
    uint64_t cluster, incarnation;
    uint8_t stale;
    char name[YK_DIR_NAME_MAX + 1];
    char prefix[YK_MEMBER_PREFIX_MAX + 1]; /* where its cluster was; "": not known */
};
void yk_member_put_life(struct yk_buf *b, const struct yk_member_life *life);
int yk_member_read_life(const void *value, size_t len, struct yk_member_life *ret, struct yk_err *err);

/* ---- member_disk.c ----------------------------------------------------------------------------- */

int yk_member_disk_open(struct yk_member *m, struct yk_err *err); /* and reads it */
void yk_member_disk_close(struct yk_member *m);
/* 0, or why not, in m->text too. */
int yk_member_disk_map(struct yk_member *m, const struct yk_dir_map *map);
int yk_member_disk_life(struct yk_member *m, uint64_t cluster, uint64_t incarnation, int stale);
int yk_member_disk_spaces(struct yk_member *m);

/* ---- steps (member_join.c, member_lead.c, member.c) ---------------------------------------------- */

void yk_member_step_join(struct yk_member *m, uint64_t lease);
void yk_member_step_spaces(struct yk_member *m, int good);
void yk_member_step_jobs(struct yk_member *m, int good);
void yk_member_step_lead(struct yk_member *m);
/* Fills an etcd that has no map (NULL), or an old one, of this revision. */
void yk_member_step_fill(struct yk_member *m, const struct yk_dir_map *there, uint64_t revision);

int yk_member_leads(struct yk_member *m);

/* The map of the view becomes this node's, if it is newer: on disk, then told. 0, or -YK_E... */
int yk_member_adopt(struct yk_member *m);
/* This node made that map, at this revision: into the view, and adopted. Takes map. */
int yk_member_made_map(struct yk_member *m, struct yk_dir_map *map, uint64_t revision);
/* Tells the state, if it is another one than was told. */
void yk_member_say(struct yk_member *m);
void yk_member_text(struct yk_member *m, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The encoded map, in m->scratch. */
size_t yk_member_encode(struct yk_member *m, const struct yk_dir_map *map);

#ifdef __cplusplus
}
#endif

#endif
