/* SPDX-License-Identifier: Apache-2.0
 *
 * yolk gen: writes a trace from the generator of src/trace/gen.h to a file or standard output.
 *
 * Ids count up from 0, so a bit for each tells what was seen before: the summary says what a cache
 * without limit would hit, the ceiling of any replay.
 */
#include "trace/gen.h"
#include "commands.h"

#include "base/text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct gen_config {
    struct yolk_common common;
    int64_t requests, sessions, seed;
    int64_t chat, shared, agent, document;
    int arrival;
    double rate;
    int64_t block_tokens, context;
    bool summary;
};

static const char *const arrivals[] = {"poisson", "bursty", NULL};

#define ROW(name_, type_, field_)                                                                  \
    .name = (name_), .type = (type_), YK_OPT_AT(struct gen_config, field_)

static const struct yk_opt rows[] = {
    {ROW("requests", YK_OPT_INT, requests), .letter = 'r', .def = "1000", .min = "0",
     .help = "End after so many requests; 0 when all sessions are over."},
    {ROW("sessions", YK_OPT_INT, sessions), .def = "0", .min = "0",
     .help = "Start no more than so many sessions; 0 is no limit."},
    {ROW("chat", YK_OPT_INT, chat), .def = "50", .min = "0", .max = "10000",
     .help = "Share of the requests: chats of several turns. Shares are on any scale."},
    {ROW("shared", YK_OPT_INT, shared), .def = "20", .min = "0", .max = "10000",
     .help = "Share of single questions to an application's long system prompt."},
    {ROW("agent", YK_OPT_INT, agent), .def = "20", .min = "0", .max = "10000",
     .help = "Share of agents with tool calls."},
    {ROW("document", YK_OPT_INT, document), .def = "10", .min = "0", .max = "10000",
     .help = "Share of questions about long documents."},
    {ROW("arrival", YK_OPT_ENUM, arrival), .values = arrivals, .def = "poisson",
     .help = "How sessions arrive: independently of each other, or in bursts."},
    {ROW("rate", YK_OPT_REAL, rate), .def = "10", .min = "0.001", .max = "1000000",
     .help = "Requests a second, in the mean of a long trace."},
    {ROW("block-tokens", YK_OPT_INT, block_tokens), .def = "512", .min = "1", .max = "1048576",
     .help = "Tokens of one block."},
    {ROW("context", YK_OPT_INT, context), .def = "131072", .min = "1", .max = "1073741824",
     .help = "Tokens of the longest request."},
    {ROW("seed", YK_OPT_INT, seed), .def = "1", .min = "0",
     .help = "The same seed gives the same trace on every machine."},
    {ROW("summary", YK_OPT_BOOL, summary), .letter = 's',
     .help = "Say on standard error what was written; with --json as JSON."},
};

/* What was written so far. */
struct summary {
    uint64_t requests, blocks, hits, distinct, input_tokens, output_tokens, last_ms;
    unsigned char *seen; /* a bit for each id */
    uint64_t seen_bytes;
};

static int seen_room(struct summary *s, uint64_t id) {
    uint64_t want = s->seen_bytes != 0 ? s->seen_bytes : 4096;
    while (want <= id / 8)
        want *= 2;
    if (want == s->seen_bytes)
        return 0;
    unsigned char *p = realloc(s->seen, want);
    if (p == NULL)
        return -YK_ENOMEM;
    memset(p + s->seen_bytes, 0, want - s->seen_bytes);
    s->seen = p;
    s->seen_bytes = want;
    return 0;
}

static int summary_add(struct summary *s, const struct yk_trace_req *req) {
    int running = 1;
    for (uint32_t i = 0; i < req->n; i++) {
        uint64_t id = req->hash_ids[i];
        if (seen_room(s, id) < 0)
            return -YK_ENOMEM;
        int old = (s->seen[id / 8] >> (id % 8)) & 1;
        running &= old;
        s->hits += (uint64_t)running;
        s->distinct += (uint64_t)!old;
        s->seen[id / 8] |= (unsigned char)(1u << (id % 8));
    }
    s->requests++;
    s->blocks += req->n;
    s->input_tokens += req->input_length;
    s->output_tokens += req->output_length;
    s->last_ms = req->timestamp_ms;
    return 0;
}

static void summary_print(const struct summary *s, bool as_json) {
    double ceiling = s->blocks > 0 ? (double)s->hits / (double)s->blocks : 0;
    struct yk_json json;
    if (!as_json) {
        fprintf(stderr,
                "%" PRIu64 " requests over %.1f s, %" PRIu64 " blocks (%" PRIu64
                " different), %" PRIu64 " tokens in, %" PRIu64
                " out; a cache without limit hits %.1f %% of the blocks\n",
                s->requests, (double)s->last_ms / 1e3, s->blocks, s->distinct, s->input_tokens,
                s->output_tokens, 100 * ceiling);
        return;
    }
    yk_json_init_file(&json, stderr);
    yk_json_begin_object(&json);
    yk_json_put_uint(&json, "requests", s->requests);
    yk_json_put_double(&json, "seconds", (double)s->last_ms / 1e3);
    yk_json_put_uint(&json, "blocks", s->blocks);
    yk_json_put_uint(&json, "distinct_blocks", s->distinct);
    yk_json_put_uint(&json, "hit_blocks_without_limit", s->hits);
    yk_json_put_double(&json, "hit_ratio_without_limit", ceiling);
    yk_json_put_uint(&json, "input_tokens", s->input_tokens);
    yk_json_put_uint(&json, "output_tokens", s->output_tokens);
    yk_json_end_object(&json);
    yk_json_newline(&json);
    (void)yk_json_finish(&json);
}

static void gen_opts(const struct gen_config *c, struct yk_trace_gen_opts *o) {
    yk_trace_gen_opts_init(o);
    o->seed = (uint64_t)c->seed;
    o->requests = (uint64_t)c->requests;
    o->sessions = (uint64_t)c->sessions;
    o->mix[YK_TRACE_CHAT] = (uint32_t)c->chat;
    o->mix[YK_TRACE_SHARED] = (uint32_t)c->shared;
    o->mix[YK_TRACE_AGENT] = (uint32_t)c->agent;
    o->mix[YK_TRACE_DOCUMENT] = (uint32_t)c->document;
    o->arrival = c->arrival == 0 ? YK_TRACE_POISSON : YK_TRACE_BURSTY;
    o->rate_per_s = c->rate;
    o->block_tokens = (uint32_t)c->block_tokens;
    o->max_context_tokens = (uint32_t)c->context;
}

static int write_all(struct yk_trace_gen *gen, FILE *out, struct summary *s) {
    struct yk_trace_req req;
    struct yk_err err = {0};
    int rc;
    while ((rc = yk_trace_gen_next(gen, &req, &err)) == 1) {
        if (yk_trace_write(out, &req) < 0)
            return yolk_fail(YOLK_FAIL, "cannot write the trace: %s", strerror(errno));
        if (summary_add(s, &req) < 0)
            return yolk_fail(YOLK_FAIL, "out of memory");
    }
    return rc < 0 ? yolk_fail(YOLK_FAIL, "%s", err.text) : YOLK_OK;
}

static int gen(struct yolk_ctx *ctx) {
    const struct gen_config *c = ctx->config;
    const char *path = ctx->n_args > 0 ? ctx->args[0] : "-";
    struct yk_trace_gen_opts opts;
    struct yk_trace_gen *gen = NULL;
    struct summary s = {0};
    struct yk_err err = {0};
    char quoted[YK_QUOTE_MAX];
    if (c->requests == 0 && c->sessions == 0)
        return yolk_fail(YOLK_USAGE, "--requests and --sessions are both 0: the trace has no end");
    gen_opts(c, &opts);
    if (yk_trace_gen_new(&opts, &gen, &err) < 0)
        return yolk_fail(err.code == -YK_EINVAL ? YOLK_USAGE : YOLK_FAIL, "%s", err.text);
    FILE *out = strcmp(path, "-") == 0 ? stdout : fopen(path, "we");
    int code = YOLK_OK;
    if (out == NULL)
        code = yolk_fail(YOLK_USAGE, "cannot write %s: %s", yk_quote(path, quoted), strerror(errno));
    if (code == YOLK_OK)
        code = write_all(gen, out, &s);
    if (out != NULL && out != stdout && fclose(out) != 0 && code == YOLK_OK)
        code = yolk_fail(YOLK_FAIL, "cannot write %s: %s", yk_quote(path, quoted), strerror(errno));
    code = yolk_finish(code);
    if (code == YOLK_OK && (c->summary || ctx->common->json))
        summary_print(&s, ctx->common->json);
    yk_trace_gen_free(gen);
    free(s.seen);
    return code;
}

const struct yolk_cmd yolk_cmd_gen = {
    .name = "gen",
    .args = "[FILE]",
    .max_args = 1,
    .help = "write a request trace: chats, system prompts, agents, documents",
    .more = "The format is the public Mooncake one, a JSON object a line, as replay reads it. "
            "Without FILE it goes to standard output.",
    YOLK_CMD_OPTIONS(rows),
    .config_bytes = sizeof(struct gen_config),
    .flags = YOLK_CMD_LOCAL,
    .fn = gen,
};
