/* SPDX-License-Identifier: Apache-2.0
 *
 * By hand: what a restart costs the learned policy, on a trace.
 *
 *   learned_restart TRACE CAPACITY REQUEST [SEED]
 *
 * One node is never restarted. The others are before that request: with their memory or without it, and with what was
 * learned or without it. Prints hits in % of each stretch of STRETCH requests that follows, and CPU time of the start.
 */
#include "sched/learned.h"
#include "sim/load.h"
#include "trace/trace.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define STRETCH  250u
#define MOST     3000u /* requests behind the restart */
#define VARIANTS 5

static const char *const names[VARIANTS] = {"never", "memory+learned", "memory", "learned", "nothing"};

struct node {
    struct yk_policy_space *space;
    struct yk_policy *policy;
    uint32_t *born; /* blocks by birth, 0 to count; gone ones too */
    uint64_t births;
    bool *in;
    uint32_t count;
    uint64_t hits;
};

static const struct yk_sim_trace *trace;
static uint32_t capacity;
static uint64_t seed = 1;

static void need(bool holds, const char *what) {
    if (holds)
        return;
    fprintf(stderr, "learned_restart: %s\n", what);
    exit(1);
}

static double cpu_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static uint64_t hash_of(uint32_t block) {
    uint64_t z = (trace->id[block] + 1) * UINT64_C(0xff51afd7ed558ccd);
    return z ^ (z >> 32);
}

static void open_node(struct node *n) {
    struct yk_policy_opts opts = {.capacity_objects = capacity, .seed = seed};
    *n = (struct node){.in = calloc(trace->distinct + 1, sizeof(bool)),
                       .born = calloc(trace->block_count + 1, sizeof(uint32_t))};
    need(n->in != NULL && n->born != NULL && yk_policy_space_new((uint32_t)trace->distinct, &n->space) == 0 &&
             yk_policy_new(&yk_policy_learned, n->space, &opts, &n->policy) == 0,
         "no memory");
}

static void close_node(struct node *n) {
    yk_policy_free(n->policy);
    yk_policy_space_free(n->space);
    free(n->in);
    free(n->born);
}

static void put(struct node *n, uint32_t block, bool found) {
    struct yk_policy_block info = {.key_hash = hash_of(block), .size_bytes = 1, .parent_id = trace->parent[block],
                                   .found = found};
    uint32_t victim;
    if (n->count == capacity) {
        need(yk_policy_victim_any(n->policy, &victim) == 0, "nothing can go");
        yk_policy_evict(n->policy, victim, hash_of(victim));
        n->in[victim] = false;
        n->count--;
    }
    need(yk_policy_insert(n->policy, block, &info) == 0, "a block does not come in");
    n->born[n->births++] = block;
    n->in[block] = true;
    n->count++;
}

static void run(struct node *n, uint64_t number) {
    static uint64_t hashes[1u << 16];
    const struct yk_sim_req *q = &trace->reqs[number];
    const uint32_t *blocks = trace->blocks + q->first;
    uint32_t hits = 0;
    need(q->n <= 1u << 16, "a request is too long");
    while (hits < q->n && n->in[blocks[hits]])
        hits++;
    n->hits += hits;
    for (uint32_t i = 0; i < q->n; i++)
        hashes[i] = hash_of(blocks[i]);
    yk_policy_request(n->policy,
                      &(struct yk_policy_request){.now_ms = q->at_ms,
                                                  .key_hashes = hashes,
                                                  .n = q->n,
                                                  .last_block_eighths = yk_trace_last_eighths(q->n, q->input_length, 512),
                                                  .output_length = q->output_length,
                                                  .stop = q->stop});
    struct yk_learned_training *t = yk_learned_training_begin(n->policy);
    if (t != NULL) {
        yk_learned_training_run(t);
        yk_learned_training_end(n->policy);
    }
    for (uint32_t i = q->n; i-- > 0;)
        if (!n->in[blocks[i]])
            put(n, blocks[i], false);
        else
            need(yk_policy_access(n->policy, blocks[i]) == 0, "a block is gone");
}

static void restart(struct node *to, const struct node *from, uint64_t now_ms, bool memory, const void *learned, size_t len) {
    open_node(to);
    double began = cpu_ms();
    need(learned == NULL || yk_learned_load(to->policy, learned, len, now_ms, 0, NULL) == 0, "it cannot be loaded");
    double loaded = cpu_ms();
    for (uint64_t i = 0; memory && i < from->births; i++)
        if (from->in[from->born[i]] && !to->in[from->born[i]])
            put(to, from->born[i], true);
    yk_learned_found(to->policy);
    printf("%s%s: %.1f ms to load, %.1f ms for %u blocks\n", memory ? "memory " : "", learned ? "learned" : "",
           loaded - began, cpu_ms() - loaded, to->count);
}

static void print_stretches(struct node n[VARIANTS], uint64_t at) {
    for (uint32_t i = 0; i < VARIANTS; i++)
        printf("%s%15s", i == 0 ? "requests " : "", names[i]);
    puts("");
    for (uint64_t done = 0; done < MOST && at < trace->req_count; done += STRETCH) {
        uint64_t blocks = 0, until = at + STRETCH < trace->req_count ? at + STRETCH : trace->req_count;
        for (uint32_t k = 0; k < VARIANTS; k++)
            n[k].hits = 0;
        for (; at < until; at++) {
            blocks += trace->reqs[at].n;
            for (uint32_t k = 0; k < VARIANTS; k++)
                run(&n[k], at);
        }
        printf("%8llu ", (unsigned long long)(done + STRETCH));
        for (uint32_t k = 0; k < VARIANTS; k++)
            printf("%15.2f", blocks > 0 ? 100.0 * (double)n[k].hits / (double)blocks : 0);
        puts("");
    }
}

int main(int argc, char **argv) {
    static struct yk_sim_trace loaded;
    static struct node n[VARIANTS];
    struct yk_err err = {0};
    void *bytes;
    size_t len;
    need(argc >= 4, "expected TRACE CAPACITY REQUEST [SEED]");
    capacity = (uint32_t)strtoul(argv[2], NULL, 10);
    uint64_t at = strtoull(argv[3], NULL, 10);
    seed = argc > 4 ? strtoull(argv[4], NULL, 10) : 1;
    need(yk_sim_load(argv[1], &loaded, &err) == 0, err.text);
    trace = &loaded;
    need(capacity > 0 && at > 0 && at < loaded.req_count, "expected a capacity, and a request of the trace");
    open_node(&n[0]);
    for (uint64_t i = 0; i < at; i++)
        run(&n[0], i);
    uint64_t now_ms = loaded.reqs[at - 1].at_ms;
    double began = cpu_ms();
    need(yk_learned_save(n[0].policy, &bytes, &len) == 0, "no memory");
    printf("%zu bytes, saved in %.1f ms\n", len, cpu_ms() - began);
    for (uint32_t k = 1; k < VARIANTS; k++)
        restart(&n[k], &n[0], now_ms, k <= 2, k % 2 ? bytes : NULL, len);
    print_stretches(n, at);
    free(bytes);
    for (uint32_t k = 0; k < VARIANTS; k++)
        close_node(&n[k]);
    yk_sim_trace_fini(&loaded);
    return 0;
}
