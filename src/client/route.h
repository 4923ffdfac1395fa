/* SPDX-License-Identifier: Apache-2.0
 *
 * Which nodes a handle may speak to, and which of them next (yk_open's url names several, or an etcd that knows).
 *
 * Ends stand in order of preference: those of a list in its order; those from etcd by how near they are, which is the
 * same host, the same zone, then any, and within these in an order that is each handle's own, so that the clients of a
 * node that died do not all go to the same one. The next is the first whose rest is over. An end that failed rests:
 * 10 ms, doubled up to half a second, half to all of it at random; so a handle with one end backs off as ever, and
 * one with several goes through them without waiting and then backs off.
 *
 * A handle whose node is not the nearest looks now and then whether a nearer one answers hello again (an accepted
 * connection says little: a node that returns to its cluster keeps them waiting). That look never waits: it is a
 * socket and a time, and whoever drives the connection gives it a turn. An end that answers the look and then takes no
 * connection all the same is looked at half as often each time, down to about once a minute: each such try is a moment
 * without a node.
 *
 * Each end keeps what its node granted: who comes back has the same client slot, and hazards that are still set
 * there are not mistaken for somebody else's (R3).
 *
 * Threads: the one that connects (it has client->connecting), or under the handle's lock while it is connected.
 */
#ifndef YK_CLIENT_ROUTE_H
#define YK_CLIENT_ROUTE_H

#include "base/parse.h"
#include "base/status.h"
#include "client/dial.h"

#ifdef __cplusplus
extern "C" {
#endif

#define YK_ROUTE_MAX 32u /* ends; of more nodes the nearest */

struct yk_route_end {
    struct yk_addr addr;
    uint32_t rank; /* lower is nearer; ends stand in its order */
    uint64_t retry_at_ns, backoff_ns;
    int is_final;    /* its last failure was one that trying again does not help */
    uint32_t failed; /* times in a row */
    uint8_t looked;     /* it comes next, since it has answered a look */
    uint32_t refused;   /* times in a row it did that, and then no connection came of it */
    uint64_t cookie, segment_id, heard; /* as its last welcome said, and the handle heard there (dial.h) */
    uint32_t slot;
};

struct yk_route {
    struct yk_route_end *ends;
    uint32_t count;
    uint32_t at;   /* of the connection; count: none was tried yet */
    uint64_t seed; /* of all that is at random */
    char *etcd;    /* "etcd://..."; NULL: a list */
    uint64_t find_at_ns; /* it may be asked again */
    int probe_fd;        /* of a look at a nearer end, or -1 */
    int probe_asked;     /* hello is sent */
    uint32_t probe_end;
    uint64_t probe_at_ns, probe_until_ns; /* its next turn (UINT64_MAX: none), its deadline */
};

void yk_route_init(struct yk_route *r, uint64_t seed);
void yk_route_fini(struct yk_route *r);

/* Reads "unix:/path", "tcp:HOST:PORT", a list of them with commas, or "etcd://HOST:PORT,.../CLUSTER?OPTIONS" (which is
 * asked, up to the deadline); NULL: one end without an address, to which there is a connection. -YK_EINVAL with a text, -YK_EGONE (etcd names no node), or why it cannot be asked. */
int yk_route_read(struct yk_route *r, const char *url, uint64_t deadline_ns, struct yk_err *err);

/* The end to try now, or -1: all rest, until yk_route_due. */
int yk_route_next(const struct yk_route *r, uint64_t now_ns);
uint64_t yk_route_due(const struct yk_route *r);
/* When an attempt at an end has to be over: with others to go to it does not get all the time there is. */
uint64_t yk_route_until(const struct yk_route *r, uint32_t end, uint64_t now_ns, uint64_t deadline_ns);
void yk_route_failed(struct yk_route *r, uint32_t end, int is_final, uint64_t now_ns);
/* Connected. may_move: it looks for nearer ones from now on. */
void yk_route_up(struct yk_route *r, uint32_t end, int may_move, uint64_t now_ns);
/* Every end says that trying again does not help. */
int yk_route_hopeless(const struct yk_route *r);

/* All ends of a list from etcd have failed: asks it anew, if it was not just asked. Blocks up to the deadline. */
void yk_route_refresh(struct yk_route *r, uint64_t deadline_ns);

/* While connected: gives the look at a nearer end its turn, without waiting. 1: that end answers and comes next, leave. */
int yk_route_tend(struct yk_route *r, const struct yk_greeting *greeting, uint64_t now_ns);
/* The connection is gone: so is the look. */
void yk_route_down(struct yk_route *r);

/* ---- find.c: etcd ------------------------------------------------------------------------------- */

/* Lines "host TAB zone TAB local TAB clients", a node each, "-" where it says nothing: what src/meta's yk_etcd_nodes
 * answers. 0, or a failure with a text. */
typedef int (*yk_find_fn)(const char *url, uint32_t timeout_ms, char *ret_text, size_t size, char *ret_err,
                          size_t err_size);
/* Set by programs that have it linked in; NULL: libyolk-etcd.so.0 is loaded, which plain clients must not need. */
extern yk_find_fn yk_client_find;

struct yk_found_end {
    struct yk_addr addr;
    uint32_t rank;
};
/* The ends that the text names, at most `most`, nearest first, equals in an order that *io_seed gives. Returns how
 * many. host: of this process; zone: "" = not known. */
uint32_t yk_found_read(const char *text, const char *host, const char *zone, uint64_t *io_seed,
                       struct yk_found_end *ret, uint32_t most);
/* Asks etcd, and reads that. Returns how many, or a failure with a text. */
int yk_find_ends(const char *url, uint64_t deadline_ns, uint64_t *io_seed, struct yk_found_end *ret, uint32_t most,
                 struct yk_err *err);

#ifdef __cplusplus
}
#endif

#endif
