/* SPDX-License-Identifier: Apache-2.0
 *
 * etcd's JSON gateway as bytes: what is asked, what is answered, what errors mean. Pure: no I/O, no clock.
 *
 * Numbers of 64 bits travel as strings, keys and values in base64, and what is zero or empty is left out.
 * Answers are outside bytes: bounded, and anything unexpected is an error with a text (fuzzed:
 * tests/fuzz/fuzz_gateway.c).
 *
 * Thread: any.
 */
#ifndef YK_META_ETCD_GATEWAY_H
#define YK_META_ETCD_GATEWAY_H

#include "base/buf.h"
#include "meta/meta.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- asking: one JSON object appended to buf, whose status tells failure ------------------------ */

/* The end of all that begins with prefix, as etcd wants it, into end; its length. end holds as many bytes
 * as prefix has. 0: there is none (only 0xff). */
size_t yk_gw_prefix_end(const char *prefix, size_t len, char *end);

struct yk_gw_range {
    const char *key, *end; /* end NULL: this key alone */
    size_t key_len, end_len;
    uint64_t limit, revision; /* 0 = none, now */
};

void yk_gw_put_range(struct yk_buf *buf, const struct yk_gw_range *range);
void yk_gw_put_txn(struct yk_buf *buf, const struct yk_meta_txn *txn);
void yk_gw_put_grant(struct yk_buf *buf, uint64_t id, uint64_t ttl_s);
void yk_gw_put_lease(struct yk_buf *buf, uint64_t id); /* keepalive and revoke */
void yk_gw_put_watch(struct yk_buf *buf, const char *prefix, uint64_t start_revision);
void yk_gw_put_user(struct yk_buf *buf, const char *name, const char *password);

/* ---- answers ---------------------------------------------------------------------------------- */

enum yk_gw_meaning {
    YK_GW_FINE,
    YK_GW_REFUSED,   /* not done, and will not be anywhere: status says why */
    YK_GW_ELSEWHERE, /* not done; another member may */
    YK_GW_UNSURE,    /* may have been done; another member may */
    YK_GW_TOKEN,     /* not done: the token is missing, unknown or old */
    YK_GW_NO_AUTH,   /* authenticate: etcd asks nobody */
    YK_GW_EXISTS,    /* grant: the lease is there */
    YK_GW_COMPACTED  /* the revision is gone (or in no history yet) */
};

struct yk_gw_reply {
    enum yk_gw_meaning meaning;
    int status;      /* REFUSED: -YK_E... */
    char error[200]; /* one line; "" if fine */

    uint64_t cluster, revision, term; /* header; 0 = not told */
    bool succeeded;                   /* txn */
    bool more;                        /* range: limit cut it */
    struct yk_meta_kv *kvs;           /* range; ranges of a txn, in order; events of a watch */
    size_t count, cap;
    size_t bytes; /* of keys and values */
    uint64_t ttl_s;
    char *token; /* authenticate */
    bool created, canceled, fragment;
    uint64_t compact_revision;
};

struct yk_gw_limits {
    size_t max_keys, max_bytes; /* of keys and values together */
};

/* One answer, unary (with its HTTP status) or a line of a stream (200). 0, and reply is to be freed;
 * -YK_EPROTO, -YK_ETOOBIG, -YK_ENOMEM. An error that etcd reports is a success here: see meaning. */
int yk_gw_decode(const char *text, size_t len, long http_status, const struct yk_gw_limits *limits,
                 struct yk_gw_reply *ret_reply, struct yk_err *err);
void yk_gw_reply_free(struct yk_gw_reply *reply); /* zeroed or freed ones are fine */

/* Frees kvs[0..count) and the array. */
void yk_gw_kvs_free(struct yk_meta_kv *kvs, size_t count);

/* Meaning and text of an error, into reply: gRPC code, etcd's message. */
void yk_gw_judge(struct yk_gw_reply *reply, int64_t code, const char *message);

#ifdef __cplusplus
}
#endif

#endif
