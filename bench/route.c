/* SPDX-License-Identifier: Apache-2.0
 *
 * `yolk bench route`: what a decision of the router costs, by targets and length of the chain, and what an event does.
 *
 * A decision is yk_route_ask, taken, and its outcome told: all that one request costs. The table of who has what is
 * full, each chain of it is held by four engines, by each to another depth, and each decision is for another chain, so
 * its places are as cold as in a gateway's process. Its limit is a bare walk over as many blocks of such a table,
 * which is what has to be read at least.
 *
 * An event is a block that is entered in a full table, so that the oldest leaves, in calls of 64 blocks as from an
 * engine's batch; its limit is a look at one block of the table. Decoding is apart: batches as engines publish them.
 *
 * Thread: the caller's.
 */
#include "bench/bench.h"
#include "bench/measure.h"
#include "bench/report.h"

#include "events/kv.h"
#include "sched/where.h"

#include <yolk/route.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECONDS      20.0
#define COPIES       (1u << 20)
#define COPIES_QUICK (1u << 16)
#define HOLDERS      4u /* of each chain */
#define TELL         64u
#define BLOCK_TOKENS 16u
#define EVENT_BLOCKS 64u
#define NAME         24

static const uint32_t targets[] = {8, 64, 1000};
static const uint32_t lengths[] = {16, 256, 4096};

struct bench {
    struct yk_bench_report *report;
    double seconds;
    uint64_t random;
    uint32_t copies;
    /* one case */
    yk_routes *routes;
    struct yk_where *where;
    uint32_t n_targets, length, chains;
    uint64_t *chain, next;
    unsigned char *batch;
    size_t batch_len;
};

/* ---- what is there --------------------------------------------------------------------------- */

/* Block k of chain c: any chain's, and never the same for two. */
static uint64_t block_of(uint64_t c, uint32_t k) {
    return (c << 16 | k) * UINT64_C(0x9e3779b97f4a7c15) + 1;
}

static void fill_chain(struct bench *b, uint64_t c) {
    for (uint32_t k = 0; k < b->length; k++)
        b->chain[k] = block_of(c, k);
}

static void name_of(uint32_t target, char name[NAME]) {
    snprintf(name, NAME, "engine-%u", target);
}

static int report_load(struct bench *b, uint32_t target) {
    char name[NAME], zone[NAME];
    name_of(target, name);
    snprintf(zone, sizeof(zone), "zone-%u", target % 8);
    yk_route_load_report p = {.size = sizeof(p), .flags = YK_ROUTE_SHARES, .name = name, .zone = zone,
                              .waiting = target % 5, .waiting_tokens = target % 5 * 3000};
    return yk_route_load(b->routes, &p);
}

/* Four engines have the chain, to its end, three, two and one quarters of it. */
static int tell_chain(struct bench *b, uint64_t c) {
    char name[NAME];
    int rc = 0;
    fill_chain(b, c);
    for (uint32_t h = 0; h < HOLDERS && rc == 0; h++) {
        name_of((uint32_t)((c * HOLDERS + h) % b->n_targets), name);
        rc = yk_route_stored(b->routes, name, YK_ROUTE_VRAM, b->chain, (size_t)b->length * (HOLDERS - h) / HOLDERS);
    }
    return rc;
}

static int set_up(struct bench *b, uint32_t n_targets, uint32_t length) {
    yk_route_opts opts = {.size = sizeof(opts), .blocks_max = b->copies, .silent_ms = 3600000, .seed = b->random};
    b->n_targets = n_targets;
    b->length = length;
    b->chains = b->copies / (length * HOLDERS * 5 / 8) + 1;
    b->chain = malloc(length * sizeof(*b->chain));
    int rc = b->chain != NULL ? yk_route_open(&opts, &b->routes) : -YK_ENOMEM;
    for (uint32_t i = 0; i < n_targets && rc == 0; i++)
        rc = report_load(b, i);
    for (uint32_t c = 0; c < b->chains && rc == 0; c++)
        rc = tell_chain(b, c);
    if (rc == 0)
        rc = yk_where_new(b->copies, 1, b->random, &b->where);
    for (uint64_t i = 0; i < b->copies && rc == 0; i++)
        rc = yk_where_add(b->where, 0, block_of(i / length, (uint32_t)(i % length)), YK_WHERE_VRAM);
    return rc;
}

static void tear_down(struct bench *b) {
    yk_route_close(b->routes);
    yk_where_free(b->where);
    free(b->chain);
    b->routes = NULL;
    b->where = NULL;
    b->chain = NULL;
}

/* ---- operations ------------------------------------------------------------------------------ */

static int op_decide(void *arg, uint64_t i) {
    struct bench *b = arg;
    yk_route_choice best[3];
    yk_route_answer answer;
    fill_chain(b, yk_random_below(&b->random, b->chains));
    yk_route_request q = {.size = sizeof(q), .flags = YK_ROUTE_TAKE, .tokens = b->length * BLOCK_TOKENS + 5,
                          .block_tokens = BLOCK_TOKENS, .blocks = b->length, .chain = b->chain};
    int rc = yk_route_ask(b->routes, &q, best, 3, &answer);
    if (rc < 0 || answer.verdict != YK_ROUTE_ADMIT)
        return rc < 0 ? rc : -YK_EINTERNAL;
    yk_route_result done = {.size = sizeof(done), .queue_ms = best[0].queue_ms, .transfer_ms = best[0].transfer_ms,
                            .compute_ms = best[0].compute_ms, .ttft_ms = best[0].ttft_ms};
    return yk_route_outcome(b->routes, answer.decision, &done);
}

static int op_walk(void *arg, uint64_t i) {
    struct bench *b = arg;
    struct yk_where_lead lead;
    fill_chain(b, yk_random_below(&b->random, b->copies / b->length));
    return yk_where_leads(b->where, b->chain, b->length, &lead, 1) == 1 ? 0 : -YK_EINTERNAL;
}

static int op_tell(void *arg, uint64_t i) {
    struct bench *b = arg;
    uint64_t blocks[TELL];
    char name[NAME];
    name_of((uint32_t)yk_random_below(&b->random, b->n_targets), name);
    for (uint32_t k = 0; k < TELL; k++)
        blocks[k] = block_of(1u << 30, 0) + b->next++;
    return yk_route_stored(b->routes, name, YK_ROUTE_VRAM, blocks, TELL);
}

static int op_look(void *arg, uint64_t i) {
    struct bench *b = arg;
    struct yk_where_lead lead;
    uint64_t block = block_of(yk_random_below(&b->random, b->copies / b->length), (uint32_t)yk_random_below(&b->random, b->length));
    return yk_where_leads(b->where, &block, 1, &lead, 1) == 1 ? 0 : -YK_EINTERNAL;
}

static void on_stored(void *arg, uint64_t block, enum yk_kv_medium medium, uint32_t block_tokens) {
    ((struct bench *)arg)->next += block;
}

static void on_removed(void *arg, uint64_t block, enum yk_kv_medium medium) {
}

static void on_cleared(void *arg) {
}

static int op_decode(void *arg, uint64_t i) {
    struct bench *b = arg;
    const struct yk_kv_sink sink = {on_stored, on_removed, on_cleared, NULL, b};
    struct yk_kv_batch told;
    return yk_kv_decode(b->batch, b->batch_len, &sink, NULL, &told, NULL);
}

/* What a plain pass over the bytes of a batch costs. */
static int op_pass(void *arg, uint64_t i) {
    struct bench *b = arg;
    uint64_t sum = 0, word;
    for (size_t at = 0; at + sizeof(word) <= b->batch_len; at += sizeof(word)) {
        memcpy(&word, b->batch + at, sizeof(word));
        sum += word;
    }
    b->next += sum & 1;
    return 0;
}

/* ---- a batch as engines publish it ------------------------------------------------------------ */

static void put(struct bench *b, const void *bytes, size_t n) {
    memcpy(b->batch + b->batch_len, bytes, n);
    b->batch_len += n;
}

static void put_be(struct bench *b, unsigned char head, uint64_t value, int bytes) {
    unsigned char out[9] = {head};
    for (int i = 0; i < bytes; i++)
        out[1 + i] = (unsigned char)(value >> (8 * (bytes - 1 - i)));
    put(b, out, 1 + (size_t)bytes);
}

/* [ts, [["BlockStored", hashes of 32 bytes, parent, tokens, 16, nil, "GPU"]], rank] */
static int make_batch(struct bench *b) {
    unsigned char hash[34] = {0xc4, 32};
    b->batch = malloc(EVENT_BLOCKS * (sizeof(hash) + BLOCK_TOKENS * 5) + 256);
    if (b->batch == NULL)
        return -YK_ENOMEM;
    put(b, "\x93\xcb\x00\x00\x00\x00\x00\x00\x00\x00\x91\x97\xab" "BlockStored", 24);
    put_be(b, 0xdc, EVENT_BLOCKS, 2);
    for (uint32_t i = 0; i < EVENT_BLOCKS; i++) {
        for (uint32_t k = 2; k < sizeof(hash); k++)
            hash[k] = (unsigned char)yk_random(&b->random);
        put(b, hash, sizeof(hash));
    }
    put(b, hash, sizeof(hash));
    put_be(b, 0xdc, EVENT_BLOCKS * BLOCK_TOKENS, 2);
    for (uint32_t i = 0; i < EVENT_BLOCKS * BLOCK_TOKENS; i++)
        put_be(b, 0xce, 65536 + yk_random_below(&b->random, 65536), 4);
    put(b, "\x10\xc0\xa3GPU\x00", 7);
    return 0;
}

/* ---- cases ------------------------------------------------------------------------------------ */

static int measure_pair(struct bench *b, const char *name, const char *base, struct yk_series *s, struct yk_series *limit) {
    struct yk_series *both[] = {s, limit};
    int rc = yk_measure(both, 2, b->seconds);
    if (rc < 0)
        return rc;
    yk_series_row(b->report, base, "1/s", limit, NULL);
    yk_series_row(b->report, name, "1/s", s, limit);
    return 0;
}

static int decide(struct bench *b, uint32_t n_targets, uint32_t length) {
    static struct yk_series s, limit;
    char name[80], base[80];
    const char *wanted[] = {name, NULL};
    snprintf(name, sizeof(name), "decide %u targets %u blocks", n_targets, length);
    snprintf(base, sizeof(base), "base walk of %u blocks (%u targets)", length, n_targets);
    if (!yk_bench_wants(b->report, wanted))
        return 0;
    int rc = set_up(b, n_targets, length);
    s = (struct yk_series){.op = op_decide, .arg = b, .per_round = 64, .weight = 1};
    limit = (struct yk_series){.op = op_walk, .arg = b, .per_round = 64, .weight = 1};
    if (rc == 0)
        rc = measure_pair(b, name, base, &s, &limit);
    tear_down(b);
    return rc;
}

static int events(struct bench *b) {
    static const char *const wanted[] = {"event entered", NULL};
    static struct yk_series s, limit;
    if (!yk_bench_wants(b->report, wanted))
        return 0;
    int rc = set_up(b, 64, 256);
    s = (struct yk_series){.op = op_tell, .arg = b, .per_round = 256, .weight = TELL};
    limit = (struct yk_series){.op = op_look, .arg = b, .per_round = 4096, .sample_every = 64, .weight = 1};
    if (rc == 0)
        rc = measure_pair(b, "event entered", "base look at one block", &s, &limit);
    tear_down(b);
    return rc;
}

static int decoding(struct bench *b) {
    static const char *const wanted[] = {"event decoded", NULL};
    static struct yk_series s, limit;
    if (!yk_bench_wants(b->report, wanted))
        return 0;
    int rc = make_batch(b);
    s = (struct yk_series){.op = op_decode, .arg = b, .per_round = 256, .weight = EVENT_BLOCKS};
    limit = (struct yk_series){.op = op_pass, .arg = b, .per_round = 256, .weight = EVENT_BLOCKS};
    if (rc == 0)
        rc = measure_pair(b, "event decoded", "base pass over its bytes", &s, &limit);
    free(b->batch);
    return rc;
}

int yk_bench_route(const struct yk_bench_opts *opts) {
    struct yk_bench_report report;
    struct bench b = {.report = &report, .random = opts->seed != 0 ? opts->seed : 1};
    int rc = 0;
    yk_bench_report_init(&report, "route", opts->out, opts->json);
    report.cases = opts->cases;
    report.n_cases = opts->n_cases;
    b.copies = opts->quick ? COPIES_QUICK : COPIES;
    b.seconds = opts->quick ? 0 : (opts->seconds > 0 ? opts->seconds : SECONDS) / 11; /* cases */
    for (size_t t = 0; t < sizeof(targets) / sizeof(targets[0]) && rc == 0; t++)
        for (size_t l = 0; l < sizeof(lengths) / sizeof(lengths[0]) && rc == 0; l++)
            rc = decide(&b, targets[t], lengths[l]);
    if (rc == 0)
        rc = events(&b);
    if (rc == 0)
        rc = decoding(&b);
    return yk_bench_report_end(&report, rc);
}
