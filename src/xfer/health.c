/* SPDX-License-Identifier: Apache-2.0
 *
 * Noticing what does not say that it has failed.
 *
 * While there is work a timer looks at each lane that has slices, four times in stall_ms: one that has
 * moved nothing for stall_ms, and through three looks (this process may have slept itself), is given up
 * when there is another rail; the only one is kept until the deadline. A lane that does not come up in
 * connect_ms, or does not end a cancelled slice in stall_ms, is given up in any case.
 *
 * Links: the kernel says when an interface loses or finds its carrier (rtnetlink, a socket in the
 * shard's loop). That is quicker than silence, and brings a rail back before its time. Without the
 * socket (no descriptors left) silence alone decides.
 *
 * Thread: the shard's owner.
 */
#include "xfer/engine_priv.h"
#include "xfer/shard_priv.h"

#include "base/clock.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define STRIKES 3u

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
        l->moved = moved;
        l->moved_known = 1;
        l->moved_ns = now;
        l->strikes = 0;
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

static void look_at_link(struct yk_link *l, uint64_t now) {
    const struct yk_xfer_opts *o = &l->rail->route->shard->engine->opts;
    uint64_t stall_ns = o->stall_ms * YK_NS_PER_MS;
    if (l->state == YK_LINK_CONNECTING) {
        if (now - l->since_ns >= o->connect_ms * YK_NS_PER_MS)
            yk_rail_out(l->rail, "no answer to a connection");
        return;
    }
    if (l->state != YK_LINK_UP)
        return;
    if (!(l->rail->desc.caps & YK_RAIL_HOLDS) && stalled(l, now, stall_ns) &&
        yk_rail_has_other(l->rail))
        yk_rail_out(l->rail, "silent: nothing moved");
    else if (!(l->rail->desc.caps & YK_RAIL_HOLDS) && cancel_hangs(l, now, stall_ns))
        yk_rail_out(l->rail, "a cancelled request did not end");
}

static void look_at_rail(struct yk_rail *r, uint64_t now) {
    if (r->state == YK_RAIL_OUT && r->retry.due_ns == 0)
        yk_rail_retry(r); /* there was no memory for its timer */
    for (uint32_t k = 0; k < r->link_count; k++)
        look_at_link(&r->links[k], now);
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
            look_at_rail(&t->rails[i], now);
    }
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
            struct yk_rail *r = &t->rails[i];
            if (r->desc.local_if != index)
                continue;
            if (up && r->state == YK_RAIL_OUT)
                yk_rail_retry(r);
            else if (!up && r->state != YK_RAIL_OUT && yk_rail_has_other(r))
                yk_rail_out(r, "its interface has no link");
        }
    }
}

static void netlink_ready(struct yk_watch *w, uint32_t events) {
    struct yk_shard *s = w->user;
    char buf[8192] __attribute__((aligned(8)));
    ssize_t got;
    while ((got = recv(w->fd, buf, sizeof(buf), MSG_DONTWAIT)) > 0) {
        size_t left = (size_t)got;
        const struct nlmsghdr *h = (const struct nlmsghdr *)(const void *)buf;
        for (; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
            if (h->nlmsg_type != RTM_NEWLINK && h->nlmsg_type != RTM_DELLINK)
                continue;
            if (h->nlmsg_len < NLMSG_LENGTH(sizeof(struct ifinfomsg)))
                continue;
            const struct ifinfomsg *i = NLMSG_DATA(h);
            int up = h->nlmsg_type == RTM_NEWLINK && (i->ifi_flags & IFF_UP) &&
                     (i->ifi_flags & IFF_RUNNING);
            link_changed(s, (uint32_t)i->ifi_index, up);
        }
    }
}

void yk_health_open(struct yk_shard *s) {
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
    struct sockaddr_nl a;
    memset(&a, 0, sizeof(a));
    a.nl_family = AF_NETLINK;
    a.nl_groups = RTMGRP_LINK;
    s->netlink = (struct yk_watch){.fd = fd, .events = EPOLLIN, .fn = netlink_ready, .user = s};
    if (fd >= 0 && (bind(fd, (struct sockaddr *)(void *)&a, sizeof(a)) < 0 ||
                    yk_loop_watch(s->loop, &s->netlink) < 0)) {
        close(fd);
        s->netlink.fd = -1;
    }
}

void yk_health_close(struct yk_shard *s) {
    (void)yk_loop_timer(s->loop, &s->health, 0);
    if (s->netlink.fd < 0)
        return;
    yk_loop_unwatch(s->loop, &s->netlink);
    close(s->netlink.fd);
    s->netlink.fd = -1;
}
