/* SPDX-License-Identifier: Apache-2.0
 *
 * libyolk's router: which engine should serve a request, by predicted time to first token
 *
 *     queue + transfer of what is missing + compute of the rest.
 *
 * For gateways and schedulers, in their own process; it needs no node and no network. What it knows it is told: load
 * reports of engines (yk_route_load), what they and Yolk's nodes have (their KV events, yk_route_stored, or with the
 * request), and how requests went (yk_route_outcome), from which it learns what queues, transfers and computing cost
 * on each engine. docs/scheduler.md says how it decides.
 *
 * A block is a 64-bit hash that stands for all of the prefix up to its end, as engines' block hashes do; hashes of
 * other lengths are made one by yk_route_hash. Names are 1 to 63 bytes.
 *
 * Threads: any function from any thread, on one handle at the same time, but yk_route_close. Each takes a lock for
 * microseconds, a millisecond or two for a request of thousands of blocks or targets; what takes longer (many blocks
 * told at once, a holder that goes) is done in pieces, between which others have their turn. Ownership: the caller keeps
 * all that it passes. Structs that are passed begin with `size`, of those that are filled it is told (..._sized), as in
 * yolk.h; yk_route_held never changes. Errors: 0, YK_MISS or -YK_E... (yolk/status.h). Memory is
 * bounded by the options.
 */
#ifndef YOLK_ROUTE_H
#define YOLK_ROUTE_H

#include <stddef.h>
#include <stdint.h>

#include <yolk/status.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef YK_API
#if defined(__GNUC__)
#define YK_API __attribute__((visibility("default")))
#else
#define YK_API
#endif
#endif

#define YK_ROUTE_NAME_MAX  63u
#define YK_ROUTE_CHAIN_MAX 65536u /* blocks of one request: a million tokens in blocks of 16 */
#define YK_ROUTE_NAMES_MAX 4096u  /* targets of one, and holders that it tells of */

typedef struct yk_routes yk_routes;

typedef struct yk_route_opts {
    uint32_t size;
    uint32_t instances_max;  /* engines and other holders of blocks; 0: 1024, at most 4096 */
    uint32_t blocks_max;     /* of who has what, copies on all of them; 0: 1048576 */
    uint32_t silent_ms;      /* who has not reported for so long comes after all that have; 0: 10000 */
    uint32_t forget_ms;      /* and after so long is forgotten; 0: 600000 */
    uint64_t seed;
    const char *model;       /* shape that the compute curve begins with: "8b", "70b", "moe"; NULL: 8b */
    double flops_per_s;      /* useful ones, of one instance, for that; 0: 2e14 */
    double quantile;         /* admission goes by the time that this share of requests keeps to; 0: 0.9 */
    double overlap;          /* share of a queue's time in which transfers go on; 0: none, as engines without prefetch */
} yk_route_opts;

YK_API int yk_route_open(const yk_route_opts *opts, yk_routes **ret_routes);
YK_API void yk_route_close(yk_routes *routes); /* NULL is fine */

/* The last failure of the calling thread, as a sentence; "" if there was none. */
YK_API const char *yk_route_error_text(void);

/* ---- what instances report ---- */

enum yk_route_load_flags {
    YK_ROUTE_REFUSES = 1, /* drains, or is full: gets no requests, its blocks can still be fetched */
    YK_ROUTE_SHARES = 2,  /* others can fetch what it has (a node of a Yolk cluster; an engine with a connector) */
    YK_ROUTE_STORE = 4    /* holds blocks and serves no requests: a Yolk node without an engine */
};

/* An engine instance says how it is, every second or so. A report that names one for the first time makes it known. */
typedef struct yk_route_load_report {
    uint32_t size;
    uint32_t flags;
    const char *name;
    const char *zone;         /* NULL: as before, or none */
    const char *node;         /* the Yolk node of its host, whose DRAM and SSD are its own; NULL: as before, or none */
    uint32_t waiting, running;
    uint64_t waiting_tokens;  /* prompt tokens still to compute, of the waiting and the running; 0: not known */
    double tokens_per_s;      /* prompt tokens that it computes a second; 0: not known */
    double dram_bytes_per_s, ssd_bytes_per_s; /* how fast its own blocks come to it; 0: as before, or 20 and 5 GB/s */
    double peer_bytes_per_s, far_bytes_per_s; /* others', in its zone and in other zones; 0: as before, or 2 and 0.5 GB/s */
    double network_load;      /* share of its network that is in use, 0 to 1 */
} yk_route_load_report;

/* -YK_EINVAL: name, zone or node; -YK_ELIMIT: instances_max. */
YK_API int yk_route_load(yk_routes *routes, const yk_route_load_report *report);

/* What a node of Yolk measures of its links and its SSD, by which transfers to it and from it are reckoned, unless an
 * engine that names it as its own reports something else. 0: not known. */
typedef struct yk_route_node_report {
    uint32_t size;
    uint32_t ssd_reads;       /* under way */
    const char *name;
    const char *zone;         /* NULL: as before, or none */
    double near_bytes_per_s, far_bytes_per_s; /* how blocks came from nodes of its zone, and of others, while any did */
    double in_load, out_load; /* share of its network that is in use, 0 to 1, each way */
    double ssd_bytes_per_s, ssd_latency_ms;   /* of one read; latency with its wait */
    uint64_t dram_bytes, dram_free_bytes, ssd_bytes, ssd_free_bytes;
} yk_route_node_report;

/* Makes the node known as a holder that shares its blocks, and serves no requests but if an engine of the name reports.
 * -YK_EINVAL, -YK_ELIMIT. */
YK_API int yk_route_node(yk_routes *routes, const yk_route_node_report *report);

/* It is gone, with all that was known of it. 0, YK_MISS. */
YK_API int yk_route_gone(yk_routes *routes, const char *name);

/* ---- who has what ---- */

enum yk_route_tier { YK_ROUTE_VRAM = 0, YK_ROUTE_DRAM = 1, YK_ROUTE_SSD = 2 };

/* The holder has these; any number of them. Makes a holder known that reports no load, too. An instance of which
 * nothing is told, here or by its events, is taken to keep in VRAM what it was given to compute; any other for ten
 * seconds, by when it will have told. -YK_EINVAL, -YK_ELIMIT. */
YK_API int yk_route_stored(yk_routes *routes, const char *name, unsigned tier, const uint64_t *blocks, size_t n);
YK_API int yk_route_removed(yk_routes *routes, const char *name, unsigned tier, const uint64_t *blocks, size_t n);
YK_API int yk_route_cleared(yk_routes *routes, const char *name);

/* As events hash what is no integer. */
YK_API uint64_t yk_route_hash(const void *data, size_t len);

/* Listens to an engine's KV events (vLLM's form over ZeroMQ): endpoint and replay are tcp://HOST:PORT or ipc://PATH,
 * replay and topic may be NULL. Asked again with the same endpoint it changes nothing, with another it changes over.
 * -YK_ENOTSUP: libzmq is not there. Blocks for up to a tenth of a second when it changes over. */
YK_API int yk_route_events(yk_routes *routes, const char *name, const char *endpoint, const char *replay,
                           const char *topic);

/* ---- asking ---- */

/* What the caller knows of one holder and this request's chain, from the directory for example: how many blocks from
 * its head on are in VRAM, in VRAM or DRAM, in any tier. Counts instead of what the router knows if it is more, and not
 * at all of one for whom instances_max has no place. */
typedef struct yk_route_held {
    const char *name;
    uint32_t blocks[3];
} yk_route_held;

enum yk_route_flags {
    YK_ROUTE_TAKE = 1 /* the first choice will be used: it counts from now on, and has a number for its outcome */
};

typedef struct yk_route_request {
    uint32_t size;
    uint32_t flags;
    uint32_t tokens;              /* of the prompt */
    uint32_t output_tokens;       /* 0: not known */
    uint32_t block_tokens;        /* 0: tokens / blocks */
    uint32_t blocks;              /* whole blocks of the prompt */
    uint64_t block_bytes;         /* KV of one, all layers; 0: of the model's shape */
    const uint64_t *chain;        /* hashes of these blocks, head first; NULL: not known */
    const yk_route_held *held;
    size_t n_held;
    const char *const *targets;   /* only these; NULL: all */
    size_t n_targets;
    double objective_ms;          /* of the time to first token; 0: none */
} yk_route_request;

typedef struct yk_route_choice {
    char name[YK_ROUTE_NAME_MAX + 1];
    double ttft_ms;                         /* the three below */
    double queue_ms, transfer_ms, compute_ms;
    double worse_ms;                        /* it takes no longer than this in opts.quantile of cases */
    uint32_t vram, dram, ssd, peer;         /* blocks by where they would come from */
    char peer_name[YK_ROUTE_NAME_MAX + 1];  /* from whom most do; "": nobody */
    uint32_t compute_blocks, new_tokens;    /* the rest */
    uint64_t transfer_bytes;
    uint32_t in_flight;                     /* requests decided for it that its last report cannot know of */
    uint8_t silent, meets;                  /* meets the objective */
} yk_route_choice;

enum yk_route_verdict {
    YK_ROUTE_ADMIT = 0,
    YK_ROUTE_REJECT = 1, /* no instance would keep to the objective */
    YK_ROUTE_NOBODY = 2  /* there is none, or all refuse */
};

typedef struct yk_route_answer {
    uint32_t verdict;   /* enum yk_route_verdict */
    uint32_t ranked;    /* choices written, best first */
    uint64_t decision;  /* of YK_ROUTE_TAKE; 0: none was taken, as when it is rejected */
    double wait_ms;     /* of REJECT: in about how long it would be admitted; 0: waiting does not help */
    uint8_t hot;        /* many ask for its chain */
    uint8_t replicate;  /* worth keeping a copy where the request goes */
    uint8_t thrifty;    /* the first is not the quickest: it brings less, and is about as good */
    uint8_t drawn;      /* others are as good as the first */
} yk_route_answer;

/* -YK_EINVAL: a name, a chain longer than YK_ROUTE_CHAIN_MAX, more names than YK_ROUTE_NAMES_MAX, max 0. */
YK_API int yk_route_ask_sized(yk_routes *routes, const yk_route_request *request, yk_route_choice *ret_choices, size_t max,
                              size_t choice_size, yk_route_answer *ret_answer, size_t answer_size);
static inline int yk_route_ask(yk_routes *routes, const yk_route_request *request, yk_route_choice *ret_choices, size_t max,
                               yk_route_answer *ret_answer) {
    return yk_route_ask_sized(routes, request, ret_choices, max, sizeof(yk_route_choice), ret_answer,
                              sizeof(yk_route_answer));
}

/* How it went; below 0: not known. new_tokens: that the engine computed, 0: not known. 0; YK_MISS: no such decision,
 * or it was told before, or is one of too many. */
typedef struct yk_route_result {
    uint32_t size;
    uint32_t new_tokens;
    double queue_ms, transfer_ms, compute_ms, ttft_ms;
} yk_route_result;
YK_API int yk_route_outcome(yk_routes *routes, uint64_t decision, const yk_route_result *result);

/* The node that an engine says is its host's. 0, YK_MISS. */
YK_API int yk_route_node_of(yk_routes *routes, const char *name, char ret_node[YK_ROUTE_NAME_MAX + 1]);

/* It was not sent after all. 0, YK_MISS. */
YK_API int yk_route_drop(yk_routes *routes, uint64_t decision);

/* How far off predictions of one part were: |predicted - actual| / actual (of 1 ms at least). */
typedef struct yk_route_error {
    uint32_t outcomes; /* the last ones that told the part, 512 at most; 0: there is nothing yet */
    double mean, p90;
} yk_route_error;

/* What it has done since it was opened, and how it stands. */
typedef struct yk_route_figures {
    uint32_t size;
    uint32_t instances, silent; /* that take requests; of these, without a report lately */
    uint32_t others;            /* known holders of blocks that take none */
    uint32_t nodes;             /* of all these: nodes that reported what they measure, lately */
    uint32_t blocks;            /* of who has what */
    uint32_t open;              /* decisions whose outcome was not told */
    uint32_t hot_chains;
    uint64_t forgotten;         /* instances and holders, for their silence */
    uint64_t asked, admitted;
    uint64_t late_queue, late_work; /* rejected: for the queues; it would be late even without them */
    uint64_t unknown, refused;      /* nobody: none was there, or asked for; all refuse */
    uint64_t taken, thrifty, drawn; /* of the admitted: taken, and where the quickest was not first */
    uint64_t hot, replicate;
    uint64_t outcomes, strays, dropped; /* strays: for decisions that are not known */
    yk_route_error queue, transfer, compute, ttft;
    /* engines' KV events */
    uint32_t feeds;
    uint64_t batches, event_blocks, gaps, missed, replayed, lost, malformed, restarts; /* missed: batches never seen */
} yk_route_figures;

/* -YK_EAGAIN: it was busy for wait_ms. ret_figures->size is the caller's to set. */
YK_API int yk_route_figures_get(yk_routes *routes, uint32_t wait_ms, yk_route_figures *ret_figures);

/* Instances and what was learned of each, as one JSON object, terminated; the caller frees it. -YK_ENOMEM. */
YK_API int yk_route_json(yk_routes *routes, char **ret_json);

#ifdef __cplusplus
}
#endif

#endif
