/* SPDX-License-Identifier: Apache-2.0
 *
 * Noticing what does not say that it has failed.
 *
 * While there is work a timer looks at each lane that has slices, four times in stall_ms: one that has
 * moved nothing for stall_ms, and through three looks (this process may have slept itself), is given up
 * when there is another rail, and its rail with it, unless other lanes of that have moved meanwhile. A lane that
 * does not come up in connect_ms, or does not end a cancelled slice in stall_ms, is given up in any case; one that
 * takes longer than stall_ms to come up is not waited for where there is another rail.
 *
 * The only rail: a peer that is slow or stopped is as silent as a path that lost the connection. So the
 * lane is sent a PING, whose bytes the peer's kernel acknowledges whatever the peer does: that is
 * movement. When none comes another lane is dialled beside (rail.c); until that is answered, the silent
 * one is kept.
 *
 * A long way has more under way than one connection may have (its window), or dares to after each loss (its
 * congestion control, where that is not bbr). So while a rail is full it gets lanes, up to 32: one for each
 * WIDEN_BYTES that it has under way by what it moves and how long that takes; and twice as many as it has when
 * packets were lost on lanes that slow down for it.
 *
 * Links: the kernel says when an interface loses or finds its carrier (rtnetlink, a socket in the
 * shard's loop), and an address (ways.c). That is quicker than silence, and brings a rail back before its time. Without the
 * socket (no descriptors left) silence alone decides.
 *
 * Thread: the shard's owner.
 */
#include "xfer/engine_priv.h"
#include "xfer/shard_priv.h"

#include "base/clock.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define STRIKES   3u
#define WIDEN_TRIPS 20u                /* between two looks at a rail's lanes: TCP has settled by then */
#define WIDEN_BYTES (2u << 20)         /* a third of the window that the kernel gives by default */
#define BESIDE_NS (200 * YK_NS_PER_MS) /* before a PING, and from there on: TCP repeats what was lost meanwhile */

/* xorshift: for jitter. */
uint64_t yk_shard_random(struct yk_shard *s) {
    s->random ^= s->random << 13;
    s->random ^= s->random >> 7;
    s->random ^= s->random << 17;
    return s->random;
}

/* ---- silence ------------------------------------------------------------------------------------- */

static int stalled(struct yk_link *l, uint64_t now, uint64_t stall_ns) {
    if (l->count == 0 || l->lane->ops->moved == NULL)
        return 0;
    uint64_t moved = l->lane->ops->moved(l->lane);
    if (moved != l->moved || !l->moved_known) {
        uint64_t proven = l->lane->ops->proven != NULL ? l->lane->ops->proven(l->lane) : moved;
        l->stirred_ns = l->moved_known && proven != l->proven ? now : l->stirred_ns;
        l->proven = proven;
        l->moved = moved;
        l->moved_known = 1;
        l->moved_ns = now;
        l->strikes = 0;
        l->asked_ns = 0;
        return 0;
    }
    l->strikes++;
    return l->strikes >= STRIKES && now - l->moved_ns >= stall_ns;
}

static int cancel_hangs(const struct yk_link *l, uint64_t now, uint64_t stall_ns) {
    for (const struct yk_list *at = l->pieces.next; at != &l->pieces; at = at->next) {
        const struct yk_piece *p = yk_list_of(at, struct yk_piece, link);
        if (p->cancel_ns != 0 && now - p->cancel_ns >= stall_ns)
            return 1;
    }
    return 0;
}

/* Without room or memory for it nothing is asked: then the silence speaks for itself. */
static void ask(struct yk_link *l, uint64_t now) {
    struct yk_route *t = l->rail->route;
    struct yk_piece *p = yk_piece_new(t->shard);
    l->asked_ns = now;
    if (p == NULL)
        return;
    p->s.op = YK_SLICE_PING;
    if (yk_sched_post(l, p))
        yk_route_changed(t); /* for its flush */
    else
        yk_piece_free(t->shard, p);
}

/* Whether the way is there: another lane of the rail has moved since this one has not. */
static int others_move(const struct yk_link *l, uint64_t now, uint64_t stall_ns) {
    const struct yk_rail *r = l->rail;
    for (uint32_t k = 0; k < r->link_count; k++)
        if (&r->links[k] != l && r->links[k].state == YK_LINK_UP && r->links[k].stirred_ns + stall_ns / 2 > now)
            return 1;
    return 0;
}

static void give_up(struct yk_link *l, uint64_t now, uint64_t stall_ns, const char *why) {
    if (others_move(l, now, stall_ns))
        yk_link_out(l, why);
    else
        yk_rail_out(l->rail, why);
}

static void silent_alone(struct yk_link *l, uint64_t now, uint64_t stall_ns) {
    uint64_t wait_ns = stall_ns > BESIDE_NS ? stall_ns : BESIDE_NS;
    if (l->asked_ns == 0 && now - l->moved_ns >= wait_ns)
        ask(l, now);
    else if (l->asked_ns == 0 || now - l->asked_ns < wait_ns)
        return;
    else if (others_move(l, now, stall_ns))
        yk_link_out(l, "silent, while others of its rail are not");
    else
        yk_rail_beside(l->rail, now);
}

int yk_link_is_late(const struct yk_link *l, uint64_t now) {
    return l->state == YK_LINK_CONNECTING && l->strikes >= STRIKES &&
           now >= l->since_ns + l->rail->route->shard->engine->opts.stall_ms * YK_NS_PER_MS;
}

static void look_at_link(struct yk_link *l, uint64_t now) {
    const struct yk_xfer_opts *o = &l->rail->route->shard->engine->opts;
    uint64_t stall_ns = o->stall_ms * YK_NS_PER_MS + 4 * l->rail->path_ns; /* a loss, and the way */
    if (l->state == YK_LINK_CONNECTING) {
        if (now < l->since_ns + yk_rail_connect_ns(l->rail)) { /* it may have begun after `now` */
            l->strikes++;
            if (yk_link_is_late(l, now))
                yk_route_changed(l->rail->route);
            return;
        }
        if (l == &l->rail->beside)
            yk_rail_beside_out(l->rail);
        else if (!yk_link_missed(l, "no answer to a connection"))
            yk_rail_out(l->rail, "no answer to a connection");
        return;
    }
    if (l->state != YK_LINK_UP || (l->rail->desc.caps & YK_RAIL_HOLDS))
        return;
    int silent = stalled(l, now, stall_ns);
    if (silent && yk_rail_has_other(l->rail))
        give_up(l, now, stall_ns, "silent: nothing moved");
    else if (cancel_hangs(l, now, stall_ns))
        give_up(l, now, stall_ns, "a cancelled request did not end");
    else if (silent && !(l->rail->desc.caps & YK_RAIL_COPIES)) /* those are silent when we are */
        silent_alone(l, now, stall_ns);
}

/* What its lanes have lost, of those that mind. */
static uint64_t lost(const struct yk_rail *r) {
    uint64_t sum = 0;
    for (uint32_t k = 1; k < r->link_count; k++) {
        const struct yk_link *l = &r->links[k];
        if (l->state == YK_LINK_UP && !l->lane->patient && l->lane->ops->lost != NULL)
            sum += l->lane->ops->lost(l->lane);
    }
    return sum;
}

static void look_at_lanes(struct yk_rail *r, uint64_t now) {
    if (r->path_ns < YK_LONG_NS || r->state != YK_RAIL_OK || !r->full) {
        r->widen_ns = 0; /* what it moves says nothing */
        return;
    }
    r->full_ns = now;
    uint64_t ns = now - r->widen_ns, began = r->widen_ns;
    if (began != 0 && ns < WIDEN_TRIPS * r->path_ns)
        return;
    double moved = (double)(r->total_bytes - r->widen_bytes);
    uint64_t gone = lost(r), most = YK_LANES_MAX - 1, bulk = r->link_count - 1;
    uint64_t want = 1 + (uint64_t)(moved / (double)ns * (double)r->path_ns / WIDEN_BYTES);
    if (gone > r->widen_lost && want < 2 * bulk)
        want = 2 * bulk;
    if (began != 0 && want > bulk) {
        if (bulk == r->route->shard->engine->opts.lanes)
            yk_shard_wide(r->route->shard, 1);
        r->link_count = 1 + (uint32_t)(want < most ? want : most);
        yk_route_changed(r->route);
    }
    r->widen_ns = now;
    r->widen_bytes = r->total_bytes;
    r->widen_lost = gone;
}

static void look_at_rail(struct yk_rail *r, uint64_t now) {
    if (r->state == YK_RAIL_OUT && r->retry.due_ns == 0)
        yk_rail_retry(r); /* there was no memory for its timer */
    if (r->starved && now >= r->starved_ns) {
        r->starved = 0;
        yk_route_changed(r->route);
    }
    for (uint32_t k = 0; k < r->link_count; k++)
        look_at_link(&r->links[k], now);
    look_at_link(&r->beside, now);
    look_at_lanes(r, now);
}

/* Of parts that had no memory for their timer: one a time, others may end with it. */
static void look_at_deadlines(struct yk_shard *s, uint64_t now) {
    for (struct yk_list *at = s->parts.next; at != &s->parts; at = at->next) {
        struct yk_part *p = yk_list_of(at, struct yk_part, link);
        if (p->timer.due_ns == 0 && p->batch->deadline_ns <= now) {
            yk_part_fail(s, p, NULL, NULL, -YK_ETIMEDOUT);
            return;
        }
    }
}

static void health_due(struct yk_timer *timer) {
    struct yk_shard *s = timer->user;
    uint64_t now = yk_now_ns();
    struct yk_list *next;
    for (struct yk_list *at = s->active.next; at != &s->active; at = next) {
        struct yk_route *t = yk_list_of(at, struct yk_route, active);
        next = at->next;
        for (uint32_t i = 0; i < t->rail_count; i++)
            look_at_rail(t->rails[i], now);
    }
    if (s->wide > 0)
        yk_rails_narrow(s);
    look_at_deadlines(s, now);
    if (s->work > 0)
        yk_health_arm(s);
}

void yk_health_arm(struct yk_shard *s) {
    if (s->health.due_ns != 0)
        return;
    uint64_t ns = s->engine->opts.stall_ms * YK_NS_PER_MS / 4;
    ns = ns < 2 * YK_NS_PER_MS ? 2 * YK_NS_PER_MS : ns;
    s->health.fn = health_due;
    s->health.user = s;
    (void)yk_loop_timer(s->loop, &s->health, yk_now_ns() + ns);
}

/* ---- links --------------------------------------------------------------------------------------- */

static void link_changed(struct yk_shard *s, uint32_t index, int up) {
    for (uint32_t p = 0; p < s->route_cap; p++) {
        struct yk_route *t = s->routes[p];
        for (uint32_t i = 0; t != NULL && i < t->rail_count; i++) {
            struct yk_rail *r = t->rails[i];
            if (r->desc.local_if != index)
                continue;
            if (up && r->state == YK_RAIL_OUT)
                yk_rail_retry(r);
            else if (!up && r->state != YK_RAIL_OUT && yk_rail_has_other(r))
                yk_rail_out(r, "its interface has no link");
        }
    }
}

static void told(struct yk_shard *s, const struct nlmsghdr *h) {
    if (h->nlmsg_type == RTM_NEWADDR || h->nlmsg_type == RTM_DELADDR)
        yk_ways_news(s);
    if ((h->nlmsg_type != RTM_NEWLINK && h->nlmsg_type != RTM_DELLINK) ||
        h->nlmsg_len < NLMSG_LENGTH(sizeof(struct ifinfomsg)))
        return;
    const struct ifinfomsg *i = NLMSG_DATA(h);
    int up = h->nlmsg_type == RTM_NEWLINK && (i->ifi_flags & IFF_UP) && (i->ifi_flags & IFF_RUNNING);
    if (up)
        yk_ways_news(s);
    link_changed(s, (uint32_t)i->ifi_index, up);
}

static void netlink_ready(struct yk_watch *w, uint32_t events) {
    struct yk_shard *s = w->user;
    char buf[8192] __attribute__((aligned(8)));
    ssize_t got;
    while ((got = recv(w->fd, buf, sizeof(buf), MSG_DONTWAIT)) > 0) {
        size_t left = (size_t)got;
        const struct nlmsghdr *h = (const struct nlmsghdr *)(const void *)buf;
        for (; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left))
            told(s, h);
    }
    if (got < 0 && errno == ENOBUFS) /* some was lost: nobody looked for long */
        yk_ways_news(s);
}

void yk_health_open(struct yk_shard *s) {
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
    struct sockaddr_nl a;
    memset(&a, 0, sizeof(a));
    a.nl_family = AF_NETLINK;
    a.nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR;
    s->netlink = (struct yk_watch){.fd = fd, .events = EPOLLIN, .fn = netlink_ready, .user = s};
    if (fd >= 0 && (bind(fd, (struct sockaddr *)(void *)&a, sizeof(a)) < 0 ||
                    yk_loop_watch(s->loop, &s->netlink) < 0)) {
        close(fd);
        s->netlink.fd = -1;
    }
}

void yk_health_close(struct yk_shard *s) {
    (void)yk_loop_timer(s->loop, &s->health, 0);
    (void)yk_loop_timer(s->loop, &s->ways, 0);
    if (s->netlink.fd < 0)
        return;
    yk_loop_unwatch(s->loop, &s->netlink);
    close(s->netlink.fd);
    s->netlink.fd = -1;
}
