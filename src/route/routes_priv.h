/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of the router as others call it (yolk/route.h): a lock and a clock around the pure ones, src/sched's router
 * and its table of who has what, and names for the numbers that these use.
 *
 *   routes.c   life, names, load reports
 *   told.c     who has what: what is told, and engines' events
 *   recent.c   chains that are being computed
 *   ask.c      a request: candidates, sources of blocks, the answer; outcomes
 *   show.c     all of it as JSON
 *
 * One number stands for a name everywhere: in `holders`, for the router and for the table. Numbers are used again
 * once all that was known of the one before is forgotten.
 *
 * Threads: `lock` guards everything. Removing a subscription waits for its thread, whose sinks take the lock, so it is
 * done outside of it, under `control`, which is taken before the lock by all that add and remove subscriptions. A
 * holder that goes is `leaving` meanwhile, and nobody finds it.
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

struct routes_holder {
    char name[YK_ROUTE_NAME_MAX + 1]; /* "": free */
    char zone[YK_ROUTE_NAME_MAX + 1];
    char node[YK_ROUTE_NAME_MAX + 1];
    struct yk_routes *routes; /* for sinks, which get the holder */
    bool leaving;
    bool has_load;  /* an instance, or a store that reports */
    bool told;      /* somebody tells what it has */
    bool has_feed;
    uint32_t feed, flags;
    uint64_t seen_ms, reported_ms;
    uint32_t waiting, running;
    uint64_t waiting_tokens;
    double tokens_s, dram_s, ssd_s, peer_s, far_s, network_load;
    char endpoint[YK_FEED_ADDRESS_MAX + 1];
    uint32_t node_at;    /* number of its node, */
    uint64_t node_names; /* as of these names; 0: it was not looked for yet */
    /* of one call of ask */
    uint32_t lead[YK_WHERE_TIERS];
};

struct yk_routes {
    pthread_mutex_t control, lock;
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
    /* of one call of ask */
    struct yk_where_lead *leads;
    struct yk_router_node *nodes;
    struct yk_router_source *sources;
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

/* Under the lock. By name: its number, or ROUTES_NONE; made if it is not there: -YK_EINVAL, -YK_ELIMIT. */
uint32_t routes_find(const struct yk_routes *routes, const char *name);
int routes_make(struct yk_routes *routes, const char *name, uint32_t *ret_at);

#endif
