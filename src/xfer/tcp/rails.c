/* SPDX-License-Identifier: Apache-2.0
 *
 * Which local devices reach which of a peer's.
 *
 * A peer names its addresses; each local device in the same subnet makes a rail to one of them. Where
 * a subnet has several devices on both sides they are paired off, the first with the first, so that
 * four and four make four rails, not sixteen. A peer on this host needs one rail, through lo. When no
 * subnet is shared, the kernel's routes decide: a rail for each address, a few at most.
 *
 * Addresses that stand on every host (loopback, the bridge of containers) lead to the wrong engine:
 * one that is also ours is used only when the peer's kernel is this one; and the greeting checks. The same
 * kernel may be another container's, with addresses of its own: then what is also ours leads to ourselves, and
 * those that are not ours are the ways there. (A peer beside us has none of these.)
 *
 * Thread: any.
 */
#include "tcp_priv.h"

#include "xfer/sock.h"

#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#define DEVICES_MAX 64
#define ROUTED_MAX  4

#define LOOPBACK_BYTES_PER_S 4e9
#define LOOPBACK_FIXED_NS    30000.0
#define UNKNOWN_BYTES_PER_S  1.25e9 /* 10 Gbit/s */
#define NETWORK_FIXED_NS     50000.0
#define CAPS (YK_RAIL_READ | YK_RAIL_WRITE | YK_RAIL_GUARD | YK_RAIL_NOTIFY)

/* Whether a list "eth0,10.0.0.7" names the device; NULL names all. */
static int wanted(const char *filter, const struct yk_tcp_device *d) {
    if (filter == NULL)
        return 1;
    for (const char *at = filter; *at != 0;) {
        size_t len = strcspn(at, ",");
        if ((len == strlen(d->name) && memcmp(at, d->name, len) == 0) ||
            (len == strlen(d->host) && memcmp(at, d->host, len) == 0))
            return 1;
        at += len + (at[len] == ',');
    }
    return 0;
}

static struct yk_rail_desc rail_of(const struct yk_tcp_device *d, const struct yk_peer_addr *to) {
    struct yk_rail_desc r = {.port = to->port, .caps = CAPS | YK_RAIL_NETWORK,
                             .fixed_ns = NETWORK_FIXED_NS};
    uint32_t mbit = d != NULL ? d->mbit : 0;
    if (to->mbit > 0 && (mbit == 0 || to->mbit < mbit))
        mbit = to->mbit;
    r.bytes_per_s = mbit > 0 ? mbit * 125000.0 : UNKNOWN_BYTES_PER_S;
    snprintf(r.remote, sizeof(r.remote), "%s", to->host);
    if (d != NULL) {
        snprintf(r.local, sizeof(r.local), "%s", d->host);
        r.local_if = d->index;
    }
    return r;
}

static int is_own(const struct yk_tcp_device *d, uint32_t n, const struct yk_sockaddr *a) {
    struct yk_sockaddr own;
    for (uint32_t i = 0; i < n; i++)
        if (yk_sock_parse(d[i].host, 0, &own) == 0 && yk_sock_same_host(&own.u.any, &a->u.any))
            return 1;
    return yk_sock_is_loopback(&a->u.any);
}

static int shares_net(const struct yk_tcp_device *d, const struct yk_sockaddr *a) {
    struct yk_sockaddr own, mask;
    return !d->loopback && yk_sock_parse(d->host, 0, &own) == 0 && yk_sock_parse(d->mask, 0, &mask) == 0 &&
           yk_sock_same_net(&own.u.any, &a->u.any, &mask.u.any);
}

/* Devices in the subnet of the peer's address; *ret_rank: how many of the peer's addresses before it
 * share one with the first of them. */
static uint32_t in_net(const struct yk_tcp_device *d, uint32_t n, const char *filter,
                       const struct yk_peer_info *peer, uint32_t at, uint32_t *ret_found,
                       uint32_t *ret_rank, uint32_t *ret_rivals) {
    struct yk_sockaddr a;
    uint32_t count = 0;
    *ret_rank = *ret_rivals = 0;
    if (yk_sock_parse(peer->addrs[at].host, 0, &a) < 0)
        return 0;
    for (uint32_t i = 0; i < n; i++)
        if (wanted(filter, &d[i]) && shares_net(&d[i], &a))
            ret_found[count++] = i;
    for (uint32_t i = 0; count > 0 && i < peer->addr_count; i++) {
        struct yk_sockaddr b;
        if (yk_sock_parse(peer->addrs[i].host, 0, &b) < 0 || !shares_net(&d[ret_found[0]], &b))
            continue;
        *ret_rivals += 1;
        *ret_rank += i < at;
    }
    return count;
}

/* Rails to a peer of this host: one is all there is, unless it has addresses that are not ours. */
static uint32_t inside(const struct yk_tcp_device *d, uint32_t n, const struct yk_peer_info *peer,
                       struct yk_rail_desc *ret_rails) {
    for (uint32_t i = 0; i < peer->addr_count; i++) {
        struct yk_sockaddr a;
        if (yk_sock_parse(peer->addrs[i].host, 0, &a) < 0 || !is_own(d, n, &a))
            continue;
        struct yk_rail_desc r = rail_of(NULL, &peer->addrs[i]);
        r.caps = CAPS;
        r.bytes_per_s = LOOPBACK_BYTES_PER_S;
        r.fixed_ns = LOOPBACK_FIXED_NS;
        *ret_rails = r;
        return 1;
    }
    return 0;
}

static uint32_t direct(const struct yk_tcp_device *d, uint32_t n, const char *filter,
                       const struct yk_peer_info *peer, struct yk_rail_desc *ret_rails, uint32_t cap) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < peer->addr_count; i++) {
        uint32_t found[DEVICES_MAX], rank, rivals;
        struct yk_sockaddr a;
        uint32_t here = in_net(d, n, filter, peer, i, found, &rank, &rivals);
        if (here == 0 || (yk_sock_parse(peer->addrs[i].host, 0, &a) == 0 && is_own(d, n, &a)))
            continue;
        /* This address takes the devices rank, rank + rivals, ...; with fewer devices than addresses,
         * one that another has, too. */
        for (uint32_t k = rank; (k == rank || k < here) && count < cap; k += rivals)
            ret_rails[count++] = rail_of(&d[found[k % here]], &peer->addrs[i]);
    }
    return count;
}

static uint32_t routed(const struct yk_tcp_device *d, uint32_t n, const char *filter,
                       const struct yk_peer_info *peer, struct yk_rail_desc *ret_rails, uint32_t cap) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < peer->addr_count && count < cap && count < ROUTED_MAX; i++) {
        const struct yk_tcp_device *from = NULL;
        struct yk_sockaddr a, own;
        if (yk_sock_parse(peer->addrs[i].host, 0, &a) < 0 || is_own(d, n, &a))
            continue;
        for (uint32_t k = 0; filter != NULL && k < n && from == NULL; k++)
            if (!d[k].loopback && wanted(filter, &d[k]) && yk_sock_parse(d[k].host, 0, &own) == 0 &&
                own.u.any.sa_family == a.u.any.sa_family)
                from = &d[k];
        if (filter != NULL && from == NULL)
            continue;
        ret_rails[count] = rail_of(from, &peer->addrs[i]);
        ret_rails[count++].distance = 1;
    }
    return count;
}

uint32_t yk_tcp_rails_of(const struct yk_tcp_device *devices, uint32_t device_count, const char *filter,
                         const struct yk_peer_info *peer, int same_host, struct yk_rail_desc *ret_rails,
                         uint32_t cap) {
    uint32_t n = cap > 0 && same_host ? inside(devices, device_count, peer, ret_rails) : 0;
    uint32_t more = direct(devices, device_count, filter, peer, ret_rails + n, cap - n);
    if (more == 0)
        more = routed(devices, device_count, filter, peer, ret_rails + n, cap - n);
    return n + more;
}

/* down: those that are not up, too. *ret_blind: errno where they could not be looked at, else 0. */
static uint32_t devices_now(struct yk_tcp_device *ret, uint32_t cap, int down, int *ret_blind) {
    struct ifaddrs *all = NULL;
    uint32_t n = 0;
    *ret_blind = getifaddrs(&all) < 0 ? errno : 0;
    if (*ret_blind != 0)
        return 0;
    for (struct ifaddrs *i = all; i != NULL && n < cap; i = i->ifa_next) {
        struct yk_tcp_device *d = &ret[n];
        memset(d, 0, sizeof(*d));
        if (i->ifa_addr == NULL || i->ifa_netmask == NULL || !(down || (i->ifa_flags & IFF_UP)))
            continue;
        yk_sock_host(i->ifa_addr, d->host);
        yk_sock_host(i->ifa_netmask, d->mask);
        if (d->host[0] == 0 || strncmp(d->host, "fe80:", 5) == 0)
            continue;
        snprintf(d->name, sizeof(d->name), "%s", i->ifa_name);
        d->index = if_nametoindex(i->ifa_name);
        d->loopback = yk_sock_is_loopback(i->ifa_addr);
        d->mbit = d->loopback ? 0 : yk_sock_device_mbit(i->ifa_name);
        n++;
    }
    freeifaddrs(all);
    return n;
}

int yk_tcp_check_filter(const char *filter, struct yk_err *err) {
    struct yk_tcp_device devices[DEVICES_MAX];
    int blind;
    uint32_t n = filter != NULL ? devices_now(devices, DEVICES_MAX, 1, &blind) : 0;
    for (const char *at = filter; at != NULL && *at != 0;) {
        char item[YK_PEER_HOST];
        size_t len = strcspn(at, ",");
        snprintf(item, sizeof(item), "%.*s", (int)(len < sizeof(item) ? len : sizeof(item)), at);
        int found = len < sizeof(item) && if_nametoindex(item) != 0; /* it may get an address later */
        for (uint32_t i = 0; i < n && !found; i++)
            found = len < sizeof(item) && strcmp(item, devices[i].host) == 0;
        if (!found)
            return yk_err_set(err, -YK_EINVAL,
                              "options: rails: '%s' is no device and no address of this host", item);
        at += len + (at[len] == ',');
    }
    return 0;
}

uint32_t yk_tcp_rails(struct yk_xport *xport, const struct yk_peer_info *peer,
                      struct yk_rail_desc *ret_rails, uint32_t cap) {
    struct yk_tcp_device devices[DEVICES_MAX];
    char boot[YK_BOOT_ID_BYTES];
    uint32_t n = devices_now(devices, DEVICES_MAX, 0, &xport->blind);
    int same_host = yk_host_boot_id(boot) && strcmp(boot, peer->boot_id) == 0;
    return yk_tcp_rails_of(devices, n, xport->env->rails, peer, same_host, ret_rails, cap);
}
