/* SPDX-License-Identifier: Apache-2.0
 *
 * Generates request traces that reuse prefixes the way real serving traffic does.
 *
 * A trace is made of sessions. A session draws a shared beginning from its kind's catalogue (a
 * system prompt, an agent's tools, a document; the popular ones often, by Zipf's law), then takes
 * turns: a message comes in, the answer is appended, and some time later the next request carries
 * all of that as its prefix.
 *
 *   kind      shared beginning (catalogue)   turns   what makes it different
 *   chat      12 prompts, 0.1 to 4 K         4       5 % of turns replace the last message,
 *                                                    3 % ask for another answer to the same
 *   shared    64 prompts, 0.8 to 16 K        1       one question to an application's prompt
 *   agent     4 programs, 10 to 26 K         40      85 % of turns end in a tool call, whose
 *                                                    result follows after a median of 15 s;
 *                                                    a full context is folded into a summary
 *   document  400 documents, 6 to 120 K      3       short questions; documents come back in
 *                                                    other sessions
 *
 * Turns are means of geometric counts. Lengths and pauses are tables of quantiles in gen_kinds.c,
 * set by what public studies and traces of such traffic show (chat prompts of a few hundred tokens
 * in the median with a long tail, agents with tens of turns in contexts beyond 100 K tokens); they
 * are a model of the shapes, not a fit to one trace.
 *
 * Ids count up from 0: each new full block of a context gets the next one, and the blocks of a
 * shared beginning are the same in all its sessions. A last block that is not full gets an id of
 * its own, as what follows will change it; only a repeated request has it again.
 *
 * The same options give the same trace on every machine (rng_priv.h).
 *
 * Thread: a generator belongs to one thread at a time.
 */
#ifndef YK_TRACE_GEN_H
#define YK_TRACE_GEN_H

#include "trace/trace.h"

#ifdef __cplusplus
extern "C" {
#endif

enum yk_trace_kind {
    YK_TRACE_CHAT,
    YK_TRACE_SHARED,
    YK_TRACE_AGENT,
    YK_TRACE_DOCUMENT,
    YK_TRACE_KINDS
};

enum yk_trace_arrival {
    YK_TRACE_POISSON, /* sessions start independently of each other */
    YK_TRACE_BURSTY,  /* the same, at 4 times the rate in bursts of 10 s and 0.4 times in the 50 s
                         between them (exponential lengths, means given) */
};

#define YK_TRACE_MIX_MAX        10000
#define YK_TRACE_RATE_MAX_PER_S 1e6
#define YK_TRACE_CONTEXT_MAX    (1u << 30) /* tokens */
#define YK_TRACE_GEN_ACTIVE_MAX (1u << 20) /* sessions between their first and last request */

struct yk_trace_gen_opts {
    uint64_t seed;
    uint64_t requests;            /* end after so many; 0: when all sessions are over */
    uint64_t sessions;            /* start no more than so many; 0: no limit */
    uint32_t mix[YK_TRACE_KINDS]; /* share of the requests, any scale up to YK_TRACE_MIX_MAX */
    enum yk_trace_arrival arrival;
    double rate_per_s;           /* requests, in the mean of a long trace; 0.001 and more */
    uint32_t block_tokens;       /* of one id */
    uint32_t max_context_tokens; /* no request is longer */
};

struct yk_trace_gen;

/* 1,000 requests, half of them chats, at 10 a second, blocks of 512 tokens, contexts of 131,072. */
void yk_trace_gen_opts_init(struct yk_trace_gen_opts *opts);

/* "chat" and so on; NULL for what is no kind. */
const char *yk_trace_kind_name(int kind);

/* -YK_EINVAL with text; -YK_ENOMEM. opts is copied. */
int yk_trace_gen_new(const struct yk_trace_gen_opts *opts, struct yk_trace_gen **ret_gen,
                     struct yk_err *err);

/* The next request in order of time: 1 and *req, which borrows its ids until the next call or
 * free; 0 at the end; -YK_ENOMEM; -YK_ELIMIT: over YK_TRACE_GEN_ACTIVE_MAX sessions are active. */
int yk_trace_gen_next(struct yk_trace_gen *gen, struct yk_trace_req *req, struct yk_err *err);

/* NULL is fine. */
void yk_trace_gen_free(struct yk_trace_gen *gen);

#ifdef __cplusplus
}
#endif

#endif
