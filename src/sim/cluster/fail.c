/* SPDX-License-Identifier: Apache-2.0
 *
 * Nodes that fail: each in the mean once in --mtbf, at random by the seed.
 *
 * A node that fails loses what its tiers have and what it works on, and is back at once. Its requests go to where the
 * router says now and begin anew; who had its first token keeps that time, and waits for the next one. What it was
 * sending arrives all the same. Nodes fail until the last request has come, so every run ends.
 */
#include "sim/cluster/cluster_priv.h"

#include <math.h>

static double random_unit(struct cluster *c) {
    uint64_t x = c->random += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return ((double)((x ^ (x >> 31)) >> 11) + 0.5) / 9007199254740992.0;
}

void fail_plan(struct cluster *c) {
    if (c->opts->mtbf_s > 0)
        c->fails_at = c->now - log(random_unit(c)) * c->opts->mtbf_s / c->opts->nodes;
    else
        c->fails_at = INFINITY;
}

/* As it was when it came. */
static void begin_anew(struct cluster *c, uint32_t job) {
    struct job *j = &c->jobs[job];
    *j = (struct job){.number = j->number, .arrived = j->arrived, .first_s = j->first_s, .tokens = j->tokens, .next = NONE};
    c->result->repeated++;
}

static void stop_loads(struct cluster *c, uint32_t node) {
    for (uint32_t i = 0; i < c->flows.n; i++)
        if (flows_moves(&c->flows, i) && c->jobs[c->flows.flow[i].job].node == node)
            flows_end(&c->flows, c->now, i);
}

int fail_next(struct cluster *c) {
    uint32_t node = (uint32_t)(random_unit(c) * c->opts->nodes), list = NONE;
    int rc = 0;
    c->result->failures++;
    stop_loads(c, node);
    decode_lose(c, node, &list);
    prefill_lose(c, node, &list);
    routing_lost(c, node);
    for (uint32_t tier = 0; tier < YK_SIM_TIERS; tier++)
        copies_lose(&c->copies, cache_of(node, tier));
    c->node[node].written_until = 0;
    while (rc == 0 && list != NONE) {
        uint32_t job = list;
        list = c->jobs[job].next;
        begin_anew(c, job);
        rc = cluster_send(c, job);
    }
    fail_plan(c);
    return rc;
}
