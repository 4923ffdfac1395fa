/* SPDX-License-Identifier: Apache-2.0
 *
 * Subscriptions to engines' KV events over ZeroMQ, as vLLM publishes them: a PUB socket whose messages have three
 * parts, topic, sequence number (8 bytes, big-endian) and a batch (kv.h); and, if the engine has one, a ROUTER socket
 * that sends batches of the past again: asked with a number, it answers with (number, batch) from there on, and a last
 * one of number -1.
 *
 * A sequence with a gap is repaired by that, or, where it cannot be, all that was told of the engine is taken back
 * (`lost`) and it goes on from there: less is known then, and nothing is wrong. So it is with a batch that cannot be
 * read, and with an engine whose numbers begin anew.
 *
 * Memory: libzmq keeps at most YK_FEED_QUEUE messages of YK_KV_BATCH_MAX bytes of what one engine publishes, and as
 * much of what it sends again; what is longer ends the connection. The rest waits in the engine's own queue, which
 * drops what is over its limit: a gap. So an engine that floods costs 128 MiB at worst, and one that is read as quickly
 * as it writes next to nothing. (What libzmq cannot bound is a message of endless parts: no engine sends such.)
 * Engines take turns: of each at most BURST_BYTES are read before the next one's.
 *
 * libzmq is loaded when the first subscription is made (libzmq.so.5); a build without its header, and a machine
 * without the library, refuse with -YK_ENOTSUP and a text that says which.
 *
 * Threads: one of their own for all subscriptions, below others in priority, which calls the sinks; libzmq has more.
 * Functions: any thread but that one.
 */
#ifndef YK_EVENTS_FEEDS_H
#define YK_EVENTS_FEEDS_H

#include "events/kv.h"

#ifdef __cplusplus
extern "C" {
#endif

#define YK_FEEDS_MAX        1024u
#define YK_FEED_ADDRESS_MAX 255u
#define YK_FEED_TOPIC_MAX   63u
#define YK_FEED_QUEUE       16

struct yk_feeds;

struct yk_feed_opts {
    const char *endpoint; /* "tcp://HOST:PORT", "ipc://PATH" */
    const char *replay;   /* likewise; NULL or "": none */
    const char *topic;    /* a prefix of the topics that are wanted; NULL: all */
    uint32_t replay_ms;   /* how long an answer is waited for; 0: 2,000 */
    struct yk_kv_sink sink;
    void (*lost)(void *arg); /* of the sink: what it was told no longer holds */
};

struct yk_feed_stats {
    uint64_t batches, blocks, gaps, replayed, lost, malformed, restarts;
    uint64_t missed; /* batches that are known to have been sent, and were never seen */
    uint64_t next; /* number that is expected */
};

int yk_feeds_new(struct yk_feeds **ret_feeds);
void yk_feeds_free(struct yk_feeds *feeds); /* ends the thread; NULL is fine */

/* Is it there? 0, or -YK_ENOTSUP with the reason. */
int yk_feeds_check(struct yk_err *err);

/* Could it be subscribed to, by its addresses and topic? -YK_ENOTSUP, -YK_EINVAL. */
int yk_feeds_look(const struct yk_feed_opts *opts, struct yk_err *err);

/* Subscribes; *ret_id names it. The engine need not be there yet. -YK_ENOTSUP, -YK_EINVAL (an address, the topic), -YK_ELIMIT,
 * -YK_ENOMEM. */
int yk_feeds_add(struct yk_feeds *feeds, const struct yk_feed_opts *opts, uint32_t *ret_id, struct yk_err *err);

/* When it returns the sink is called no more. Must not be called under a lock that a sink takes. YK_MISS. */
int yk_feeds_remove(struct yk_feeds *feeds, uint32_t id);

/* Of all that there are and were; `next` says nothing. */
void yk_feeds_total(struct yk_feeds *feeds, struct yk_feed_stats *ret_stats);

/* 0, YK_MISS. */
int yk_feeds_stats(struct yk_feeds *feeds, uint32_t id, struct yk_feed_stats *ret_stats);

#ifdef __cplusplus
}
#endif

#endif
