/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of the router as others call it (yolk/route.h): a lock and a clock around the pure ones, src/sched's router
 * and its table of who has what, and names for the numbers that these use.
 *
 *   routes.c   life, holders, load reports
 *   names.c    names of holders
 *   told.c     who has what: what is told, and engines' events
 *   recent.c   chains that are being computed
 *   costs.c    what is known of links and SSDs
 *   ask.c      a request: candidates, sources of blocks, the answer; outcomes
 *   near.c     for each zone who has most of a request's chain
 *   show.c     all of it as JSON
 *   figures.c  what it has done, and how it stands
 *
 * One number stands for a name everywhere: in `holders`, for the router and for the table. Numbers are used again
 * once all that was known of the one before is forgotten.
 *
 * Threads: `lock` guards everything. It is taken by routes_lock, in turns: who wants it holds `next` while he waits,
 * so one that takes it again and again, as the thread of events under a flood, has others between. What is done under
 * it is bounded (told.c); what takes longer is done in pieces. Removing a subscription waits for its thread, whose
 * sinks take the lock, so it is done outside of it, under `control`, which is taken before the lock by all that add
 * and remove subscriptions. A holder that goes is `leaving` meanwhile, and nobody finds it.
 */
#ifndef YK_ROUTE_ROUTES_PRIV_H
#define YK_ROUTE_ROUTES_PRIV_H

#include "events/feeds.h"
#include "sched/route.h"
#include "sched/where.h"

#include <yolk/route.h>

#include <pthread.h>

#define ROUTES_NONE    UINT32_MAX
#define ROUTES_SOURCES 6u /* of one instance: three of its own, three of peers */
#define ROUTES_EVENTS  256u
#define ROUTES_MOST    3u

struct routes_holder {
    char name[YK_ROUTE_NAME_MAX + 1]; /* "": free */
    char zone[YK_ROUTE_NAME_MAX + 1];
    char node[YK_ROUTE_NAME_MAX + 1];
    struct yk_routes *routes; /* for sinks, which get the holder */
    uint64_t zone_hash; /* 0: none */
    uint64_t born;      /* never the same for two */
    uint32_t next_name;
    bool leaving;
    bool goes; /* leaves piece by piece to make room */
    bool has_load;  /* an instance, or a store that reports */
    bool told;      /* somebody tells what it has */
    bool has_feed;
    uint32_t feed, flags;
    uint64_t seen_ms, reported_ms;
    uint32_t waiting, running;
    uint64_t waiting_tokens;
    double tokens_s, dram_s, ssd_s, peer_s, far_s, network_load;
    bool is_node; /* measures; so `measured`, at measured_ms */
    uint64_t measured_ms;
    yk_route_node_report measured; /* without its texts */
    char endpoint[YK_FEED_ADDRESS_MAX + 1];
    uint32_t node_at;    /* number of its node, */
    uint64_t node_names; /* as of these names; 0: it was not looked for yet */
    /* of one call of ask */
    uint32_t lead[YK_WHERE_TIERS];
    uint64_t asked; /* it is a target of that call */
};

/* Who has most, as some of them may be the one that asks, or its node. */
struct routes_most {
    uint32_t at[ROUTES_MOST], blocks[ROUTES_MOST];
};

struct routes_zone {
    uint64_t hash, asked; /* of another call: free */
    struct routes_most memory;
};

/* What the thread of events has been told and not entered yet; its own. */
struct routes_events {
    uint32_t n;
    uint64_t blocks[ROUTES_EVENTS];
    uint8_t tiers[ROUTES_EVENTS];
    bool stored[ROUTES_EVENTS];
};

struct routes_counts {
    uint64_t asked, admitted, late_queue, late_work, unknown, refused;
    uint64_t taken, thrifty, drawn, hot, replicate;
    uint64_t outcomes, strays, dropped;
};

struct yk_routes {
    pthread_mutex_t control, next, lock;
    struct yk_router *router;
    struct yk_where *where;
    struct yk_feeds *feeds;
    struct routes_recent *recent;
    uint32_t next_recent;
    struct routes_holder *holders;
    uint32_t holders_max, n; /* n: numbers ever used */
    uint32_t silent_ms, forget_ms;
    uint32_t kv_bytes_per_token;
    uint64_t names; /* grows whenever a name comes or goes */
    uint32_t *heads, heads_mask; /* names.c */
    uint64_t forgotten;
    struct routes_counts counts;
    struct routes_events events;
    /* of one call of ask */
    struct yk_where_lead *leads;
    struct yk_router_node *nodes;
    struct yk_router_source *sources;
    struct routes_zone *zones;
    uint32_t zones_mask;
    uint64_t asks; /* number of the call */
};

uint64_t routes_now_ms(void);

/* recent.c, under the lock. raise: leads of holders, by what was given to them. */
struct routes_recent *routes_recent_new(void);
void routes_recent_add(struct yk_routes *routes, uint32_t holder, uint64_t decision, const uint64_t *chain, uint32_t n);
void routes_recent_drop(struct yk_routes *routes, uint64_t decision);
void routes_recent_forget(struct yk_routes *routes, uint32_t holder);
void routes_recent_raise(struct yk_routes *routes, const uint64_t *chain, uint32_t n);

/* Writes the calling thread's text and returns the code. */
int routes_fail(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* What a caller passes of which it says the size: what it does not have stays in `to` as it is. -YK_ENOTSUP: it sets what is
 * not known here. */
int routes_take(const void *from, uint32_t size, void *to, size_t known, const char *what);

static inline void routes_lock(struct yk_routes *routes) {
    pthread_mutex_lock(&routes->next);
    pthread_mutex_lock(&routes->lock);
    pthread_mutex_unlock(&routes->next);
}

static inline void routes_unlock(struct yk_routes *routes) {
    pthread_mutex_unlock(&routes->lock);
}

/* names.c, under the lock. find: the number, or ROUTES_NONE. add: holders[at] has the name. */
int routes_names_new(struct yk_routes *routes);
bool routes_is_name(const char *name);
uint32_t routes_find(const struct yk_routes *routes, const char *name);
void routes_names_add(struct yk_routes *routes, uint32_t at);
void routes_names_remove(struct yk_routes *routes, uint32_t at);

/* Under the lock. By name, made if it is not there: -YK_EINVAL, -YK_ELIMIT. */
int routes_make(struct yk_routes *routes, const char *name, uint32_t *ret_at);

/* Under the lock, which it lets go of between pieces: nothing is known of what it has. */
void routes_clear(struct yk_routes *routes, uint32_t at);

/* costs.c, under the lock: what a source of blocks costs an instance. */
struct routes_cost {
    double bytes_s, latency_s, load; /* 0: not known */
};
struct routes_cost routes_cost_dram(const struct yk_routes *routes, uint32_t at);
struct routes_cost routes_cost_ssd(const struct yk_routes *routes, uint32_t at);
struct routes_cost routes_cost_peer(const struct yk_routes *routes, uint32_t at, uint32_t peer, bool from_ssd);
bool routes_measures(const struct routes_holder *holder, uint64_t now_ms);

void routes_set_zone(struct routes_holder *holder); /* its name has changed */

/* figures.c, under the lock. */
void routes_figures(const struct yk_routes *routes, yk_route_figures *ret_figures);

/* near.c, under the lock. */
uint64_t routes_zone_of(const struct yk_routes *routes, uint32_t at); /* its node's, else its own; 0: none */
int routes_zones_new(struct yk_routes *routes);
void routes_most_keep(struct routes_most *most, uint32_t at, uint32_t blocks);
void routes_zones_note(struct yk_routes *routes, uint32_t at); /* of this call */
const struct routes_most *routes_zones_find(const struct yk_routes *routes, uint64_t hash); /* NULL: nobody */

#endif
