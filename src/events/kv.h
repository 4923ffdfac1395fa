/* SPDX-License-Identifier: Apache-2.0
 *
 * KV events of engines, decoded: the msgpack payload of a batch in the form that vLLM publishes
 *
 *     [ts, [event, ...], data_parallel_rank]
 *     event: ["BlockStored", block_hashes, parent_block_hash, token_ids, block_size, lora_id, medium, ...]
 *            ["BlockRemoved", block_hashes, medium, ...]
 *            ["AllBlocksCleared"]
 *
 * or, as later releases have it, with maps in place of these arrays: {"ts": .., "events": [{"type": "BlockStored",
 * "block_hashes": .., ..}]}. Fields are read by place in the one and by name in the other; more of them, and kinds of
 * events that are not known, are passed over. A hash is an integer, or bytes, which yk_hash64 makes one of.
 *
 * Groups of a hybrid model: layers that see the whole prefix are in other groups than those that see a window of it or
 * keep a state, each with its own blocks under the same hashes, and its own evictions (group_idx). A run from the head
 * is what the former have; of a window the head is gone while it can still be used. So of one group the blocks are
 * told, the first that is said to see all (kv_cache_spec_kind), and where no kind is said, or it is "unknown", the first
 * one. That is the most that can be used: whether the window before its end is still there is not looked at, nor whether
 * a state was kept at its end. Of a model without a group that sees all nothing is told.
 *
 * Nothing is copied or allocated, depth and work are bounded by the length. A batch that is malformed somewhere is
 * refused as a whole, before anything of it is told. Pure. Thread: any.
 */
#ifndef YK_EVENTS_KV_H
#define YK_EVENTS_KV_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes of one payload. What an engine with a step of 64 K tokens publishes of it is below 1 MiB for each group of layers. */
#define YK_KV_BATCH_MAX (4u << 20)

enum yk_kv_kind { YK_KV_STORED = 1, YK_KV_REMOVED, YK_KV_CLEARED };

/* Where the engine has it: "GPU", or nothing said; "CPU"; anything else is taken for a disk or a store. */
enum yk_kv_medium { YK_KV_GPU, YK_KV_CPU, YK_KV_OTHER };

/* One event; its blocks one by one. */
struct yk_kv_sink {
    void (*stored)(void *arg, uint64_t block, enum yk_kv_medium medium, uint32_t block_tokens);
    void (*removed)(void *arg, uint64_t block, enum yk_kv_medium medium);
    void (*cleared)(void *arg);
    void (*ended)(void *arg); /* the batch has been told; NULL: not wanted */
    void *arg;
};

/* What an engine has told of its groups; all 0: nothing yet. The caller keeps it from batch to batch. */
struct yk_kv_groups {
    bool known;    /* there was one that sees all, */
    uint32_t whole; /* the lowest of them */
};

struct yk_kv_batch {
    uint32_t events, passed_over; /* passed_over: of kinds or groups that are not known */
    uint64_t blocks;
    int64_t rank; /* -1: not said */
};

/* io_groups NULL: none are remembered. 0; -YK_EPROTO with a text that says what is wrong where; -YK_ETOOBIG. */
int yk_kv_decode(const void *data, size_t len, const struct yk_kv_sink *sink, struct yk_kv_groups *io_groups,
                 struct yk_kv_batch *ret_batch, struct yk_err *err);

#ifdef __cplusplus
}
#endif

#endif
