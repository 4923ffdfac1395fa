/* SPDX-License-Identifier: Apache-2.0
 *
 * libyolk: the client of a Yolk store.
 *
 * A store holds immutable blocks: a key (1..255 bytes) in a namespace, a payload (1 byte..4 GiB-1),
 * an optional parent key and a few attributes. A client on the node's host maps the node's memory:
 * exists, match, stat and get take no message and no system call there; everything that changes
 * state goes to the node in batches.
 *
 * Threads: every function may be called from any thread, on one handle at the same time, except
 *   yk_close, which no other call may overlap. A handle is not usable in a forked child: calls
 *   there return -YK_EFORK.
 * Ownership: the caller keeps all that it passes; keys and buffers are borrowed until the call
 *   returns, or, for yk_submit, until the operation is completed. Outputs (ret_...) are written
 *   only on success.
 * Errors: >= 0 is success, -YK_E... (yolk/status.h) is failure; yk_error_text(handle) says more
 *   about the last failure of the calling thread. YK_MISS (1) is an answer, not an error.
 * Deadlines: every call ends with a result or an error within its timeout_ms (0 = the handle's).
 * Node away: calls wait for it to come back, up to their deadline, and send again what it did not
 *   answer (a remove may then say YK_MISS for a block that it removed itself). At the deadline a
 *   change fails with -YK_EGONE, and a lookup or get is a miss; where the node's memory is mapped
 *   these need no node, but for blocks that are on SSD alone. -YK_ETIMEDOUT: the node is there and
 *   silent; the change may yet be made.
 * Clusters: a node that is one of many looks elsewhere for what it has not. What it gets from another node is a
 *   copy, which goes first unless it is used again. A block that nobody can tell of in time is a miss, but for
 *   yk_stat and YK_OP_STAT: -YK_EAGAIN. Pins, yk_touch, yk_expire, yk_verify, yk_list and yk_remove_many are of
 *   this node's copies (a pin brings one here); yk_remove and namespaces are of the whole cluster.
 * Option structs begin with `size`, set to sizeof by the caller; new fields go at the end; NULL
 *   stands for all defaults.
 * Structs that are filled may grow at their end, too: the functions that fill them are told their size (..._sized; those
 *   without it are for C and C++, and pass sizeof). A program and a library of different versions work together: what the
 *   program has no room for is left out, what the library does not know is 0. yk_key, yk_ref, yk_reservation and
 *   yk_op never change: another layout would have other names (docs/api.md).
 * Language: C11, GNU C99 or C++11: struct yk_op has an anonymous union, which strict C99 has not.
 */
#ifndef YOLK_YOLK_H
#define YOLK_YOLK_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include <yolk/status.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define YK_API __attribute__((visibility("default")))
#else
#define YK_API
#endif

#define YK_KEY_MAX       255u        /* bytes of a key */
#define YK_NAMESPACE_MAX 63u         /* bytes of a namespace's name */
#define YK_BLOCK_MAX     0xffffffffu /* bytes of a block */
#define YK_BATCH_MAX     4096u       /* operations of one yk_run or yk_submit */

typedef struct yk_client yk_client;

/* A key: any bytes, 1..255 of them, not terminated. */
typedef struct yk_key {
    const void *data;
    size_t len;
} yk_key;

/* A key from a C string. */
YK_API yk_key yk_key_str(const char *text);

/* ---- open and close --------------------------------------------------------------------- */

enum yk_open_flags {
    YK_OPEN_NO_MAP = 1,         /* do not map the node's memory: payload goes through sockets */
    YK_OPEN_VERIFY = 2,         /* verify the checksum of every local get, too */
    YK_OPEN_HANDLE_SIGBUS = 4,  /* a truncated segment makes gets miss instead of ending the process */
    YK_OPEN_NO_RECONNECT = 8,   /* a lost connection is final */
    YK_OPEN_NO_XFER = 16,       /* no transfer engine: what is not mapped goes through the socket */
    YK_OPEN_LOOK = 32           /* a namespace that does not exist stays so: see yk_open */
};

typedef struct yk_open_opts {
    uint32_t size;              /* sizeof(yk_open_opts) */
    uint32_t flags;             /* enum yk_open_flags */
    const char *name_space;     /* default "default"; created if it does not exist, unless
                                   with YK_OPEN_LOOK */
    uint64_t epoch;             /* of the weights; 0 = whatever the namespace has at open. A higher one
                                   than that raises it, as yk_ns_raise_epoch does: every older block of
                                   the namespace is dropped, for all clients */
    uint32_t timeout_ms;        /* of calls that name none; default 5000 */
    uint32_t inflight_max;      /* operations submitted and not polled; default 4096 */
    uint64_t hold_bytes;        /* reservations held ahead for puts; default 16 MiB, 0 = default */
    const char *rails;          /* own devices or addresses that payload may take when it is not mapped,
                                   "eth0,10.0.0.7"; NULL: all. -YK_EINVAL: they are needed, and this host
                                   does not have them */
    const char *transports;     /* and ways that it may take, "rdma,tcp" (yk_xfer_transports); NULL: all but
                                   rdma. With YK_OPEN_NO_MAP and a tcp: address never shm. -YK_EINVAL: they
                                   are none, or the first connection needs them and none is there. One
                                   that later has no way uses the connection itself */
    const char *rdma;           /* with rdma among these: which devices, and how (rdma of yk_xfer_opts); NULL: all */
} yk_open_opts;

/* Connects to a node. url: "unix:/path" (default unix:/run/yolk.sock when NULL, or $YOLK_URL),
 * "tcp:HOST:PORT" (large payload through the transfer engine, over all useful rails),
 * "embedded:dram=1G,..." (a node inside this process; needs libyolk-node). Of a cluster also several nodes,
 * "unix:/a,tcp:HOST:PORT,...", nearest first, or etcd, "etcd://HOST:PORT,HOST:PORT/CLUSTER?zone=ZONE" (needs libyolk-etcd;
 * further options, with '&' between: tls, ca=FILE, cert=FILE, key=FILE, user=NAME, password-file=FILE): the nodes that
 * live are read there, those of this host first, then those of the zone. The handle speaks to the first that answers.
 * When that one is gone it goes on with the next: what was under way is asked again there, up to its deadline;
 * references stay good, the caller's reservations are lost, pins were that node's. A nearer node that is back is
 * taken again by the next call that has to ask a node. Blocks up to timeout_ms.
 * Errors: EGONE nothing listens, EVERSION, EINVAL, ESTALE epoch lower than the namespace's, ELIMIT too many
 * clients, or all 256 namespaces of the node are taken. On failure *ret_client is untouched and
 * yk_error_text(NULL) has the text.
 * YK_OPEN_LOOK: if the namespace does not exist it is not created. Then every lookup and get is a miss,
 * and puts, changes, yk_list and yk_verify fail with -YK_ENONS, also after somebody else has created it:
 * until the handle is opened again, or has connected again. */
YK_API int yk_open(const char *url, const yk_open_opts *opts, yk_client **ret_client);

/* Releases all references and reservations of the handle and frees it. NULL is fine. Blocks until
 * operations in flight are ended (cancelled ones included). */
YK_API void yk_close(yk_client *client);

/* Text of the calling thread's last failure; never NULL. Valid until its next failing call. */
YK_API const char *yk_error_text(const yk_client *client);

/* Symbolic name ("ENOSPC") and text of a status. Never NULL. */
YK_API const char *yk_strstatus(int status);
YK_API const char *yk_strerror(int status);

/* "0.1.0" of the library. */
YK_API const char *yk_version(void);

/* ---- put ---------------------------------------------------------------------------------- */

enum yk_put_flags {
    YK_PUT_UPSERT = 1,   /* replace an existing block of other bytes */
    YK_PUT_HARD_PIN = 2, /* not evicted until unpinned or removed */
    YK_PUT_SOFT_PIN = 4  /* evicted last, until pin_ms from now */
};

enum yk_tier { YK_TIER_ANY = 0, YK_TIER_DRAM = 1, YK_TIER_SSD = 2, YK_TIER_CXL = 3, YK_TIER_VRAM = 4 };

typedef struct yk_put_opts {
    uint32_t size;          /* sizeof(yk_put_opts) */
    uint32_t flags;         /* enum yk_put_flags */
    yk_key parent;          /* the block before this one in its chain; {NULL, 0} = none */
    uint64_t ttl_ms;        /* 0 = no time to live */
    uint64_t pin_ms;        /* of a soft pin */
    uint64_t session;       /* attributes for the policies; 0 = not known */
    uint32_t depth_tokens;  /* tokens before this block in its chain */
    uint32_t length_tokens; /* tokens in this block */
    uint32_t model;
    uint32_t kind;          /* the caller's own classes, 0..255 */
    uint32_t tier;          /* enum yk_tier */
    uint32_t timeout_ms;    /* 0 = the handle's; a put under pressure waits for space up to it */
    const char *prefer;     /* in a cluster: the name of a node that shall have the block; NULL = any */
    uint32_t replicas;      /* in a cluster: copies in all, on as many nodes, in different zones as far as there
                               are any: 1 to YK_COPIES_MAX; 0 = yk_ns_set_copies' of the namespace, else 1 */
    uint32_t reserved;      /* 0 */
} yk_put_opts;

#define YK_COPIES_MAX 8
/* YK_FEWER, a put's status: stored, but with fewer copies than it asked for, or not at the node that it preferred: the cluster
 * has not as many nodes, they had no room, or it took longer than 4.5 s. Positive: whoever must have all copies compares
 * with 0. yk_run does not count it as 0. */

/* Stores a block. 0: stored, or the same bytes were there already; with replicas or a preferred node: all of those copies
 * can be found. YK_FEWER. -YK_ECONFLICT: the key has other
 * bytes. -YK_ENOSPC after the deadline. -YK_ETOOBIG: larger than the tier. -YK_ESTALE: the epoch
 * was raised since the put began, by this handle too. -YK_ENOTSUP: a tier that blocks cannot be put into
 * (blocks come into DRAM; the node takes them to SSD). -YK_EQUOTA, -YK_ELIMIT: the namespace's quota or
 * the share of hard pins would be passed. -YK_ENONS: the namespace was removed, or see YK_OPEN_LOOK. */
YK_API int yk_put(yk_client *client, yk_key key, const void *data, size_t len,
                  const yk_put_opts *opts);
YK_API int yk_putv(yk_client *client, yk_key key, const struct iovec *iov, int iov_count,
                   const yk_put_opts *opts);

/* A put in place: the block's memory, writable until commit or abort. The caller owns the struct;
 * its fields below data and len are the library's. */
typedef struct yk_reservation {
    void *data; /* len bytes in the node's memory */
    size_t len;
    uint64_t priv[4];
} yk_reservation;

/* Reserves len bytes, for a block of the handle's epoch now. The reservation survives a restart of
 * the node. -YK_ENOSPC as yk_put; -YK_ENOTSUP on a handle without the mapping. */
YK_API int yk_reserve(yk_client *client, size_t len, uint32_t timeout_ms,
                      yk_reservation *ret_reservation);

/* Makes the reserved block visible under key; the payload is hashed here. On any outcome but
 * -YK_ETIMEDOUT the reservation is over. After that one the block may be visible: its payload is not
 * to be written any more, only committed again or aborted (which takes back what was not made).
 * -YK_EGONE: it was lost with the node's memory, or the handle has gone to another node (the commit may have
 * been made then). -YK_ESTALE: the epoch was raised since yk_reserve. */
YK_API int yk_commit(yk_client *client, yk_reservation *reservation, yk_key key,
                     const yk_put_opts *opts);
YK_API int yk_abort(yk_client *client, yk_reservation *reservation);

/* ---- get ------------------------------------------------------------------------------------ */

/* Copies the block into buf. 0: *ret_len bytes written; YK_MISS; -YK_ETOOBIG: cap is smaller than
 * the block, whose length is then in *ret_len all the same. Payload that comes through the socket is
 * verified (asked for twice at most); bytes that fail their checksum are a miss. */
YK_API int yk_get(yk_client *client, yk_key key, void *buf, size_t cap, size_t *ret_len);

/* The same into a scatter list. */
YK_API int yk_getv(yk_client *client, yk_key key, const struct iovec *iov, int iov_count,
                   size_t *ret_len);

/* Copies bytes [offset, offset + len) of the block; -YK_EINVAL when the range leaves it. Through the
 * socket no more than these travel. What is verified: the node compares the block's checksum, which
 * is of the whole, before it serves a block that an unclean stop may have damaged; a mapped handle
 * does so itself, and always with YK_OPEN_VERIFY. A part that comes through the socket is not
 * compared again here, a range that is the whole block is, as with yk_get. */
YK_API int yk_get_range(yk_client *client, yk_key key, uint64_t offset, void *buf, size_t len);

/* A borrowed view of a block. On a mapped handle: the node's own memory, read-only, pinned until
 * released; on others, and where the node could not bring a block up from SSD, a private copy. */
typedef struct yk_ref {
    const void *data;
    size_t len;
    uint64_t checksum; /* XXH3-64 of the payload */
    uint64_t priv[2];
} yk_ref;

/* 0, YK_MISS, -YK_ELIMIT: too many references of this handle are held, or -YK_EINVAL: ret_ref is
 * NULL. */
YK_API int yk_ref_get(yk_client *client, yk_key key, yk_ref *ret_ref);
YK_API void yk_ref_release(yk_client *client, yk_ref *ref);

/* ---- look up: never extends a block's life ---------------------------------------------------- */

#define YK_TIERS_ELSEWHERE 1u /* of tiers: in a cluster, on other nodes alone */

typedef struct yk_block_info {
    uint64_t len;           /* bytes */
    uint64_t checksum;      /* XXH3-64 of the payload */
    uint64_t generation;
    uint64_t epoch;
    uint64_t expiry_ms;     /* wall clock, ms since 1970; 0 = none */
    uint64_t session;
    uint32_t tiers;         /* bit (1 << enum yk_tier) for each copy on the node that was asked; with bit
                               YK_TIERS_ELSEWHERE it has none, and the others are those of copies on other
                               nodes: then len, checksum and epoch are known, the rest is 0 */
    uint32_t depth_tokens;
    uint32_t length_tokens;
    uint32_t model;
    uint32_t kind;
    uint32_t children;      /* blocks that name this one as their parent */
    uint32_t pinned;        /* 0 no, 1 soft, 2 hard */
    uint32_t has_parent;
} yk_block_info;

#define YK_BLOCK_INFO_FIRST 80u /* its size in the first version: what a batch fills if it is not told another one */

/* 1 present, 0 not, or failure. */
YK_API int yk_exists(yk_client *client, yk_key key);

/* 0 or YK_MISS; -YK_EAGAIN: in a cluster, nobody could tell in time. */
YK_API int yk_stat_sized(yk_client *client, yk_key key, yk_block_info *ret_info, size_t info_size);
static inline int yk_stat(yk_client *client, yk_key key, yk_block_info *ret_info) {
    return yk_stat_sized(client, key, ret_info, sizeof(yk_block_info));
}

/* Length (0..count) of the longest prefix of keys that is present. ret_infos: NULL, or an array of
 * count, of which as many as returned are filled (len, tiers, checksum, generation). */
YK_API int yk_match_sized(yk_client *client, const yk_key *keys, size_t count, yk_block_info *ret_infos,
                          size_t info_size);
static inline int yk_match(yk_client *client, const yk_key *keys, size_t count, yk_block_info *ret_infos) {
    return yk_match_sized(client, keys, count, ret_infos, sizeof(yk_block_info));
}

/* What is known of a request beside its keys. Hints for the node's policy, which learns from them what they are worth;
 * nothing else depends on them. */
typedef struct yk_request {
    uint32_t size;          /* sizeof(yk_request) */
    uint32_t output_length; /* tokens that it makes, as far as that can be told; 0 = not known */
    uint32_t stop;          /* why its session stopped before, in classes of the caller's own, 1..15; 0 = not known */
    uint32_t last_eighths;  /* how full the last key's block is, 1 to 7 eighths; 0 = full, or not known */
    uint64_t at_ms;         /* when it came, for a node that replays a trace (others go by their own clock); 0 = now */
} yk_request;

/* A request begins, whose whole chain these keys are, head first, of blocks that are there or not. A node whose policy
 * learns decides by that what stays; for others it costs nothing. Call it before the request's blocks are got and put.
 * It takes a message. Without it yk_match of two keys or more says the same, without what is known beside the keys, and by
 * no message where the handle has the mapping; a handle that has called this announces nothing by yk_match any more. A
 * chain may be cut at some 2,000 keys. No keys, and at_ms: nothing is asked for, and a node that replays hears what time
 * it is. 0, or as yk_touch when the node is away; -YK_EINVAL, -YK_ENOTSUP of the request's
 * size. */
YK_API int yk_announce(yk_client *client, const yk_key *keys, size_t count, const yk_request *request);

/* ---- change ------------------------------------------------------------------------------------ */

/* 0 removed, YK_MISS was not there. When it returns, no later lookup finds the block. A hard pin
 * does not protect from remove. In a cluster it is removed on all nodes: -YK_ETIMEDOUT: not all have confirmed it
 * in some 4.5 s; if it had begun it goes on; to ask again is to wait for it. -YK_EAGAIN: too many removals are
 * under way, nothing was removed. */
YK_API int yk_remove(yk_client *client, yk_key key);

enum yk_remove_many { YK_REMOVE_PREFIX = 1, YK_REMOVE_GLOB = 2, YK_REMOVE_ALL = 3 };

/* Removes all blocks of the handle's namespace whose key starts with, or matches (* ? [set], as
 * fnmatch does), the pattern. Covers all that was committed before the call. In a cluster: of this node alone. */
YK_API int yk_remove_many(yk_client *client, int how, yk_key pattern, uint64_t *ret_count);

/* soft: evicted last until pin_ms from now; hard (pin_ms 0): not evicted. 0 or YK_MISS;
 * -YK_ELIMIT: hard pins would pass their share of the tier. */
YK_API int yk_pin(yk_client *client, yk_key key, uint64_t pin_ms);
YK_API int yk_unpin(yk_client *client, yk_key key);

/* Counts as an access. 0 or YK_MISS. */
YK_API int yk_touch(yk_client *client, yk_key key);

/* Sets the time to live from now (0 = for ever). 0 or YK_MISS. */
YK_API int yk_expire(yk_client *client, yk_key key, uint64_t ttl_ms);

/* Asks that the blocks be in tier within deadline_ms (YK_TIER_ANY: in DRAM), in the order of keys.
 * Does not wait for them. Returns how many will be raised, or (in a cluster) looked for on other nodes: those that
 * are there already do not count; 0 on a node of one tier that is alone, with yk_error_text saying so. */
YK_API int yk_prefetch(yk_client *client, const yk_key *keys, size_t count, int tier,
                       uint32_t deadline_ms);

/* ---- batches and the asynchronous form ---------------------------------------------------------- */

/* Each does what the function of its name does, and fails as that does. What is not named is ignored,
 * but flags. */
enum yk_opcode {
    YK_OP_GET = 1,   /* key, iov[] -> status, len */
    YK_OP_PUT,       /* key, iov[], put -> status */
    YK_OP_EXISTS,    /* key -> status 0 or YK_MISS */
    YK_OP_REMOVE,    /* key -> status 0 or YK_MISS */
    YK_OP_TOUCH,     /* key -> status 0 or YK_MISS */
    YK_OP_PIN,       /* key, arg = pin_ms -> status */
    YK_OP_UNPIN,     /* key -> status */
    YK_OP_EXPIRE,    /* key, arg = ttl_ms -> status */
    YK_OP_GET_RANGE, /* key, arg = offset, iov[] -> status, len */
    YK_OP_STAT,      /* key, info (may be NULL), arg = sizeof(*info), or 0: YK_BLOCK_INFO_FIRST (over 4,096:
                        -YK_EINVAL) -> status 0, YK_MISS or -YK_EAGAIN, *info */
    YK_OP_MATCH,     /* list: keys, count, infos -> status 0 or YK_MISS (not even the first is there), len =
                        length of the run, infos[0..len) */
    YK_OP_REF,       /* key, ref -> status, len, *ref: released with yk_ref_release when status is 0, and all
                        zero otherwise */
    YK_OP_PREFETCH,  /* list: keys, count, tier; arg = deadline_ms -> status, len = how many will be raised */
    YK_OP_REMOVE_MANY, /* key = pattern, arg = enum yk_remove_many -> status, len = blocks removed */
    YK_OP_RESERVE,   /* reservation, arg = bytes -> status, *reservation */
    YK_OP_COMMIT,    /* reservation, key, put -> status. -YK_ETIMEDOUT and -YK_ECANCELED leave the
                        reservation: commit again, or abort. So do -YK_EINVAL and -YK_EKEY here, which were
                        found before anything was done */
    YK_OP_ABORT      /* reservation -> status; at once, without a message */
};

/* Keys of one operation, and what it wants to know of them. Borrowed with all that it points at until the
 * operation has ended. */
typedef struct yk_key_list {
    uint32_t size;        /* sizeof(yk_key_list) */
    int32_t tier;         /* PREFETCH: enum yk_tier */
    const yk_key *keys;   /* count of them */
    size_t count;
    yk_block_info *infos; /* MATCH: NULL, or an array of count */
    uint32_t info_size;   /* sizeof(yk_block_info); 0: YK_BLOCK_INFO_FIRST */
    uint32_t reserved;    /* 0 */
} yk_key_list;

#define YK_PENDING 2 /* status of an operation that is under way */

typedef struct yk_op {
    uint32_t opcode;         /* enum yk_opcode */
    int32_t status;          /* out: 0, YK_MISS, YK_PENDING or -YK_E... */
    yk_key key;
    union {
        const struct iovec *iov;     /* destination (get) or source (put) */
        yk_block_info *info;         /* STAT */
        const yk_key_list *list;     /* MATCH, PREFETCH */
        yk_ref *ref;                 /* REF */
        yk_reservation *reservation; /* RESERVE, COMMIT, ABORT */
    };
    int32_t iov_count;       /* of iov */
    uint32_t flags;          /* 0 */
    uint64_t arg;
    const yk_put_opts *put;  /* may be NULL */
    uint64_t len;            /* out: bytes moved (get), or a count: see enum yk_opcode */
    void *user;              /* the caller's own */
    uint64_t priv[4];        /* the library's while under way */
} yk_op;

/* Runs a batch; returns when all are ended, each with its own status. Returns the number of
 * operations with status 0, or a failure of the whole batch. Operations of one batch run in order
 * for the same key; those on a list of keys, on a pattern, RESERVE and ABORT in no order with others, and
 * at their own time within the batch. */
YK_API int yk_run(yk_client *client, yk_op *ops, size_t count, uint32_t timeout_ms);

/* Starts a batch and returns. Each operation is ended exactly once: then yk_poll returns it.
 * ops, keys and buffers are borrowed until then. -YK_EAGAIN: inflight_max would be passed (nothing
 * was started). */
YK_API int yk_submit(yk_client *client, yk_op *ops, size_t count, uint32_t timeout_ms);

/* Fetches up to max ended operations; waits up to timeout_ms for the first (0 = does not wait).
 * Returns their number. */
YK_API int yk_poll(yk_client *client, yk_op **ret_ops, size_t max, uint32_t timeout_ms);

/* Asks that an operation end early; it still comes out of yk_poll, with -YK_ECANCELED or with its
 * result if that was first. */
YK_API int yk_cancel(yk_client *client, yk_op *op);

/* A descriptor that is readable when yk_poll has something to do. Owned by the handle. */
YK_API int yk_fd(yk_client *client);

/* ---- namespaces ----------------------------------------------------------------------------------- */

typedef struct yk_ns_info {
    char name[YK_NAMESPACE_MAX + 1];
    uint64_t epoch;
    uint64_t quota_bytes; /* of payload in both tiers; 0 = none */
    uint64_t used_bytes;  /* in both tiers, a block with two copies once */
    uint64_t blocks;      /* likewise */
    uint32_t copies;      /* of a put that names none (yk_put_opts.replicas); 0: one */
    uint32_t priority;    /* what a hit of it counts where memory is divided; 0: YK_PRIORITY_DEFAULT */
    uint64_t guarantee_bytes; /* of the node's memory, whatever others ask for; 0 = none */
    /* Where the policy of the node divides its memory among namespaces (docs/scheduler.md), else 0: */
    uint64_t guaranteed_bytes; /* what the guarantee comes to: less, if all together are more than there is */
    uint64_t share_bytes;      /* what it should have; 0: not known yet */
    uint64_t share_used_bytes; /* and has */
    double share_hit_ratio;    /* what an LRU of its share would have hit of what it asked for of late */
} yk_ns_info;

#define YK_PRIORITY_DEFAULT 100u
#define YK_PRIORITY_MAX     10000u

/* In a cluster the next six, and opening a namespace that is new or has to be raised, are agreed by all:
 * -YK_EAGAIN: that is not possible now; -YK_ETIMEDOUT: it was not confirmed in some 4.5 s, and may yet be made. */

/* Creates a namespace, or changes the quota of one. -YK_ELIMIT: a node has 256 of them, and one that was
 * removed counts until the node has started again, without a block of it and without a mapped client. What is over a lower one is evicted in the
 * background, first what is on SSD alone; puts make room for themselves meanwhile. */
YK_API int yk_ns_create(yk_client *client, const char *name, uint64_t quota_bytes);

/* Of a cluster's namespace: how many copies puts want that name none, 0 or 1 to 8; what is there already stays as it is.
 * -YK_ENOTSUP: the node is in no cluster. -YK_ENONS: there is none of that name. */
YK_API int yk_ns_set_copies(yk_client *client, const char *name, uint32_t copies);

/* Where a node divides its memory among namespaces: so much of it (0: nothing, at most INT64_MAX) is this one's as soon as
 * it has use for it, and a hit of it counts so many hundredths of another's (0 = YK_PRIORITY_DEFAULT, at most
 * YK_PRIORITY_MAX). In a cluster each node's. Guarantees that are more than a node has, together, count less there, each
 * in proportion. -YK_ENONS: there is none of that name. An older node: -YK_EINVAL. */
YK_API int yk_ns_set_guarantee(yk_client *client, const char *name, uint64_t bytes);
YK_API int yk_ns_set_priority(yk_client *client, const char *name, uint32_t priority);

/* Raises the epoch: every older block is invisible when this returns. -YK_ESTALE if the namespace's
 * is higher already. The handle's own epoch follows if the namespace is its own. */
YK_API int yk_ns_raise_epoch(yk_client *client, const char *name, uint64_t epoch);

/* Removes all blocks of a namespace and its policy. The name can be created again. In a cluster everywhere: 0 when that
 * is written down and this node has done it; the others do it when they hear of it, those that are away when they return. */
YK_API int yk_ns_remove(yk_client *client, const char *name);

/* Fills up to max entries; returns how many namespaces there are. */
YK_API int yk_ns_list_sized(yk_client *client, yk_ns_info *ret_infos, size_t max, size_t info_size);
static inline int yk_ns_list(yk_client *client, yk_ns_info *ret_infos, size_t max) {
    return yk_ns_list_sized(client, ret_infos, max, sizeof(yk_ns_info));
}

/* ---- the node ---------------------------------------------------------------------------------------- */

/* Lists keys of the handle's namespace that start with prefix, in no order; fn is called once for
 * each; its non-zero return ends the listing and is returned. */
typedef int (*yk_list_fn)(void *arg, yk_key key, const yk_block_info *info);
YK_API int yk_list_sized(yk_client *client, yk_key prefix, yk_list_fn fn, void *arg, size_t info_size);
static inline int yk_list(yk_client *client, yk_key prefix, yk_list_fn fn, void *arg) {
    return yk_list_sized(client, prefix, fn, arg, sizeof(yk_block_info));
}

/* The node's statistics as a JSON object; the caller frees *ret_json with free(). */
YK_API int yk_stats_json(yk_client *client, char **ret_json);

/* ---- memory --------------------------------------------------------------------------------- */

/* Declares [addr, addr + bytes): gets into it and puts from it will come, and it stays until yk_unregister or yk_close.
 * Where RDMA devices move payload (`transports`) they are told of it once, and not of each piece (docs/rdma.md); else
 * nothing changes. Operations work in memory that is not declared all the same; one whose buffer lies across
 * the edge of a declared range goes through the connection. May wait, for seconds at most. Thread: any.
 * -YK_EINVAL: no bytes, or it overlaps another; -YK_ELIMIT: 1024 are; -YK_ENOMEM. */
YK_API int yk_register(yk_client *client, void *addr, size_t bytes);
/* The range that begins at addr. When it returns 0 no device knows it; operations under way in it go on without
 * (their memory is the caller's to keep, as ever). -YK_ENOENT; -YK_ETIMEDOUT: what is under way there does not
 * end, or a device does not let go: it stays declared, is used for nothing new, and must be kept as it is until a call,
 * which waits again, returns 0, or yk_close. */
YK_API int yk_unregister(yk_client *client, void *addr);
/* What the policy of a node that learns thinks of a key of the handle's namespace, as a JSON object (docs/api.md), the
 * caller's to free(). It is no use of the block. YK_MISS: the policy does not know it; -YK_ENOTSUP: it does not learn;
 * -YK_EPROTO: the node is too old. Takes a message. */
YK_API int yk_explain_json(yk_client *client, yk_key key, char **ret_json);

typedef struct yk_client_stats {
    uint64_t hits, misses, hit_bytes, puts, put_bytes, conflicts, retries, verify_failures;
    uint64_t round_trips, reconnects;
    uint64_t refs_held, ref_bytes_held;
    uint64_t raised, raised_bytes; /* of hits and hit_bytes: found on SSD, brought up for it (on
                                      handles with the mapping) */
    uint64_t xfer_bytes;     /* payload that the transfer engine moved, of gets and puts */
    uint64_t xfer_fallbacks; /* operations that it was to do and could not: the socket did them */
} yk_client_stats;

/* Counters of this handle. size = sizeof(yk_client_stats). */
YK_API int yk_client_stats_get(yk_client *client, yk_client_stats *ret_stats, size_t size);

/* Reads every present block of keys again and compares checksums; returns how many were wrong (they
 * are dropped by the node). */
YK_API int yk_verify(yk_client *client, const yk_key *keys, size_t count);

#ifdef __cplusplus
}
#endif

#endif
