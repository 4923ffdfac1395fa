/* SPDX-License-Identifier: Apache-2.0
 *
 * Which RDMA ports this host has, and which pairs of addresses make rails.
 *
 * All from sysfs: no library is loaded for it, and a test can make the tree. Of a port's GID table, entries
 * that are RoCE v2 and an IPv4 or global IPv6 address count: those route, and the engine finds peers by such
 * addresses. Link-local ones stand for the same port again, and so does IPv6 where IPv4 makes a rail: a GID is
 * chosen with the address, by `rails` here and by `advertise` there. A VLAN's interface has entries of its own. On
 * InfiniBand GIDs are no addresses: a port is known by that of its IPoIB interface, as librdmacm does it, and its first
 * entry is used unless settings name another. On iWARP the one entry is the MAC of the interface, and addresses are that
 * interface's: it is the one below the device, or (siw has none there) the first with that MAC that is no upper one, such
 * as a VLAN's.
 *
 * A look takes as long as there are entries, and every lane that is dialled or taken wants one: what a look has found
 * counts for four times as long as it took, so that looks have a fifth of a thread's time at most.
 *
 * Threads: any; locks docs/locks.md.
 */
#include "rdma_priv.h"

#include "base/clock.h"
#include "base/status.h"
#include "xfer/sock.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CLASS       "/sys/class/infiniband"
#define NET         "/sys/class/net"
#define EMPTY_MAX   32u  /* empty entries of a table in a row, and no more are looked at: the kernel takes the first that
                            is free, and each look is a system call or three, on a thread that moves bytes */
#define SEEN_MAX_NS (250 * YK_NS_PER_MS) /* news of addresses are looked at after 200 ms, 1.2 and 2.2 s (ways.c) */
#define FIXED_NS    8000.0
#define CONNECT_MS  5000u /* to set devices up on both sides; what is late holds nobody up: TCP has it meanwhile */
#define PLAIN_BYTES 1.25e9 /* a port that does not say: 10 Gbit/s */
#define SELF_COST   1000u
#define CAPS        (YK_RAIL_READ | YK_RAIL_WRITE | YK_RAIL_GUARD | YK_RAIL_NOTIFY | YK_RAIL_NETWORK)

/* ---- sysfs ------------------------------------------------------------------------------------------ */

/* First line of a file; 0: there is none. */
static int text_of(char *buf, size_t cap, const char *path) {
    FILE *f = fopen(path, "re");
    int ok = f != NULL && fgets(buf, (int)cap, f) != NULL; /* absent entries of a table fail here */
    if (f != NULL)
        fclose(f);
    if (ok)
        buf[strcspn(buf, "\n")] = 0;
    return ok;
}

static int is_name(const struct dirent *d) {
    return d->d_name[0] != '.';
}

struct dir {
    struct dirent **entry;
    int count;
};

static struct dir list(const char *path) {
    struct dir d = {NULL, 0};
    d.count = scandir(path, &d.entry, is_name, alphasort);
    return d;
}

static void list_free(struct dir *d) {
    for (int i = 0; i < d->count; i++)
        free(d->entry[i]);
    free(d->entry);
}

#define PATH_BYTES 512

/* "0000:0000:0000:0000:0000:ffff:0a00:0001" as 16 bytes; 0: it is none, or all zeros. */
static int parse_gid(const char *text, uint8_t gid[16]) {
    static const uint8_t zero[16];
    return inet_pton(AF_INET6, text, gid) == 1 && memcmp(gid, zero, 16) != 0;
}

/* The address that a GID is; 0: link-local. */
static int gid_host(const uint8_t gid[16], char host[YK_PEER_HOST]) {
    static const uint8_t v4[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    if (gid[0] == 0xfe && (gid[1] & 0xc0) == 0x80)
        return 0;
    return memcmp(gid, v4, 12) == 0 ? inet_ntop(AF_INET, gid + 12, host, YK_PEER_HOST) != NULL
                                    : inet_ntop(AF_INET6, gid, host, YK_PEER_HOST) != NULL;
}

/* The interface of an InfiniBand port: of those of its device the one that says so, or the first. */
static void ipoib_of(const char *root, struct yk_rdma_port *p) {
    char path[PATH_BYTES], text[32];
    snprintf(path, sizeof(path), "%s" CLASS "/%s/device/net", root, p->device);
    struct dir d = list(path);
    for (int i = 0; i < d.count; i++) {
        snprintf(path, sizeof(path), "%s" CLASS "/%s/device/net/%s/dev_port", root, p->device, d.entry[i]->d_name);
        if (p->netdev[0] != 0 && (!text_of(text, sizeof(text), path) || atoi(text) + 1 != p->port))
            continue;
        snprintf(p->netdev, sizeof(p->netdev), "%.15s", d.entry[i]->d_name);
    }
    list_free(&d);
}

/* VLANs, bonds, bridges have the MAC of what they stand on, and say what they are; devices do not. */
static int is_upper(const char *root, const char *netdev) {
    char path[PATH_BYTES], text[64];
    snprintf(path, sizeof(path), "%s" NET "/%.15s/uevent", root, netdev);
    FILE *f = fopen(path, "re");
    int upper = 0;
    while (f != NULL && fgets(text, sizeof(text), f) != NULL)
        upper |= strncmp(text, "DEVTYPE=", 8) == 0;
    if (f != NULL)
        fclose(f);
    return upper;
}

static void netdev_of_mac(const char *root, struct yk_rdma_port *p) {
    char path[PATH_BYTES], text[64], mac[32];
    const uint8_t *g = p->gid;
    snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", g[0], g[1], g[2], g[3], g[4], g[5]);
    snprintf(path, sizeof(path), "%s" NET, root);
    struct dir d = list(path);
    for (int i = 0; i < d.count && p->netdev[0] == 0; i++) {
        snprintf(path, sizeof(path), "%s" NET "/%.15s/address", root, d.entry[i]->d_name);
        if (text_of(text, sizeof(text), path) && strcmp(text, mac) == 0 && !is_upper(root, d.entry[i]->d_name))
            snprintf(p->netdev, sizeof(p->netdev), "%.15s", d.entry[i]->d_name);
    }
    list_free(&d);
}

/* The interface of an iWARP port, whose GID is known. */
static void iwarp_of(const char *root, struct yk_rdma_port *p) {
    ipoib_of(root, p);
    if (p->netdev[0] == 0)
        netdev_of_mac(root, p);
}

static uint32_t scan_gids(const char *root, const struct yk_rdma_port *base, struct yk_rdma_port *ret, uint32_t cap) {
    char path[PATH_BYTES], text[64];
    uint32_t n = 0, empty = 0;
    for (uint32_t i = 0; i < YK_RDMA_GIDS_MAX && n < cap && empty < EMPTY_MAX; i++) {
        struct yk_rdma_port p = *base;
        p.gid_index = i;
        snprintf(path, sizeof(path), "%s" CLASS "/%s/ports/%u/gids/%u", root, p.device, p.port, i);
        empty++;
        if (!text_of(text, sizeof(text), path) || !parse_gid(text, p.gid))
            continue;
        empty = 0;
        if (p.infiniband || p.iwarp) {
            p.iwarp ? iwarp_of(root, &p) : ipoib_of(root, &p);
            ret[n++] = p;
            continue;
        }
        snprintf(path, sizeof(path), "%s" CLASS "/%s/ports/%u/gid_attrs/types/%u", root, p.device, p.port, i);
        if (!text_of(text, sizeof(text), path) || strcmp(text, "RoCE v2") != 0 || !gid_host(p.gid, p.host))
            continue;
        snprintf(path, sizeof(path), "%s" CLASS "/%s/ports/%u/gid_attrs/ndevs/%u", root, p.device, p.port, i);
        if (text_of(text, sizeof(text), path))
            snprintf(p.netdev, sizeof(p.netdev), "%.15s", text);
        ret[n++] = p;
    }
    return n;
}

static uint32_t scan_port(const char *root, const char *device, const char *name, struct yk_rdma_port *ret,
                          uint32_t cap) {
    char path[PATH_BYTES], text[64];
    struct yk_rdma_port p = {.port = (uint8_t)atoi(name)};
    snprintf(p.device, sizeof(p.device), "%.63s", device);
    snprintf(path, sizeof(path), "%s" CLASS "/%.63s/ports/%u/state", root, device, p.port);
    if (!text_of(text, sizeof(text), path) || strstr(text, "ACTIVE") == NULL)
        return 0;
    snprintf(path, sizeof(path), "%s" CLASS "/%.63s/node_type", root, device);
    p.iwarp = text_of(text, sizeof(text), path) && strstr(text, "RNIC") != NULL;
    snprintf(path, sizeof(path), "%s" CLASS "/%.63s/ports/%u/link_layer", root, device, p.port);
    p.infiniband = text_of(text, sizeof(text), path) && strcmp(text, "InfiniBand") == 0;
    snprintf(path, sizeof(path), "%s" CLASS "/%.63s/ports/%u/lid", root, device, p.port);
    if (text_of(text, sizeof(text), path))
        p.lid = (uint16_t)strtoul(text, NULL, 0);
    snprintf(path, sizeof(path), "%s" CLASS "/%.63s/ports/%u/rate", root, device, p.port);
    if (text_of(text, sizeof(text), path)) /* "100 Gb/sec (4X EDR)", "2.5 Gb/sec (1X SDR)" */
        p.mbit = (uint32_t)(strtod(text, NULL) * 1000);
    return scan_gids(root, &p, ret, cap);
}

uint32_t yk_rdma_ports_scan(const char *root, struct yk_rdma_port *ret_ports, uint32_t cap) {
    char path[PATH_BYTES];
    uint32_t n = 0;
    snprintf(path, sizeof(path), "%s" CLASS, root);
    struct dir devices = list(path);
    for (int i = 0; i < devices.count; i++) {
        snprintf(path, sizeof(path), "%s" CLASS "/%.63s/ports", root, devices.entry[i]->d_name);
        struct dir ports = list(path);
        for (int k = 0; k < ports.count; k++)
            n += scan_port(root, devices.entry[i]->d_name, ports.entry[k]->d_name, ret_ports + n, cap - n);
        list_free(&ports);
    }
    list_free(&devices);
    return n;
}

/* 1: it has an address that is up, the next from *at on. */
static int add_address(struct yk_rdma_port *p, const struct ifaddrs **at) {
    char host[YK_PEER_HOST];
    for (const struct ifaddrs *i = *at; i != NULL; i = i->ifa_next) {
        if (i->ifa_addr == NULL || i->ifa_netmask == NULL || !(i->ifa_flags & IFF_UP))
            continue;
        yk_sock_host(i->ifa_addr, host);
        int by_name = p->infiniband || p->iwarp;
        if (host[0] == 0 || strncmp(host, "fe80:", 5) == 0 ||
            (by_name ? strcmp(i->ifa_name, p->netdev) : strcmp(host, p->host)) != 0)
            continue;
        snprintf(p->host, sizeof(p->host), "%s", host);
        yk_sock_host(i->ifa_netmask, p->mask);
        p->ifindex = if_nametoindex(i->ifa_name);
        *at = i->ifa_next;
        return 1;
    }
    return 0;
}

static int is_chosen(const struct yk_rdma_settings *s, const struct yk_rdma_port *p) {
    int named = s->device_count == 0;
    for (uint32_t i = 0; i < s->device_count && !named; i++)
        named = strcmp(s->device[i].name, p->device) == 0 && (s->device[i].port == 0 || s->device[i].port == p->port);
    return named && (s->gid_index == YK_RDMA_ANY_GID || s->gid_index == p->gid_index);
}

/* All entries of a port of InfiniBand or iWARP stand for one address: one is enough. */
static int is_again(const struct yk_rdma_port *ports, uint32_t n, const struct yk_rdma_port *p) {
    for (uint32_t i = 0; i < n && (p->infiniband || p->iwarp); i++)
        if (strcmp(ports[i].device, p->device) == 0 && ports[i].port == p->port)
            return 1;
    return 0;
}

uint32_t yk_rdma_ports_chosen(const struct yk_rdma_settings *s, struct yk_rdma_port *ports, uint32_t n) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; i++)
        if (is_chosen(s, &ports[i]) && !is_again(ports, kept, &ports[i]))
            ports[kept++] = ports[i];
    return kept;
}

static int there_is(const char *root, const char *device, uint32_t port) {
    char path[PATH_BYTES];
    snprintf(path, sizeof(path), "%s" CLASS "/%.63s/ports/%u", root, device, port);
    if (port == 0)
        *strrchr(path, '/') = 0;
    return access(path, F_OK) == 0;
}

int yk_rdma_ports_fit(const struct yk_rdma_settings *s, const char *root, struct yk_err *err) {
    struct yk_rdma_port ports[YK_RDMA_PORTS_MAX];
    struct yk_rdma_settings any = *s;
    for (uint32_t i = 0; i < s->device_count; i++)
        if (!there_is(root, s->device[i].name, 0))
            return yk_err_set(err, -YK_EINVAL, "rdma: there is no device %s here (yolk topo shows those there are)",
                              s->device[i].name);
        else if (!there_is(root, s->device[i].name, s->device[i].port))
            return yk_err_set(err, -YK_EINVAL, "rdma: device %s has no port %u", s->device[i].name, s->device[i].port);
    any.gid_index = YK_RDMA_ANY_GID;
    uint32_t up = yk_rdma_ports_chosen(&any, ports, yk_rdma_ports_scan(root, ports, YK_RDMA_PORTS_MAX));
    uint32_t fit = yk_rdma_ports_chosen(s, ports, yk_rdma_ports_scan(root, ports, YK_RDMA_PORTS_MAX));
    if (up > 0 && fit == 0)
        return yk_err_set(err, -YK_EINVAL, "rdma: gid-index %u is no RoCE v2 entry with an address of any active port",
                          s->gid_index);
    return 0;
}

int yk_rdma_fits(const char *settings, struct yk_err *err) {
    struct yk_rdma_settings s;
    int rc = yk_rdma_settings_parse(settings, &s, err);
    return rc < 0 ? rc : yk_rdma_ports_fit(&s, "", err);
}

static struct {
    pthread_mutex_t lock; /* only tried: who does not get it (a forked child may never) looks for itself */
    uint64_t until_ns;
    uint32_t n;
    struct yk_rdma_port ports[YK_RDMA_PORTS_MAX];
} seen = {.lock = PTHREAD_MUTEX_INITIALIZER};

static uint32_t look(struct yk_rdma_port *ret_ports) {
    uint64_t began_ns = yk_now_ns();
    uint32_t n = yk_rdma_ports_scan("", ret_ports, YK_RDMA_PORTS_MAX);
    uint64_t now_ns = yk_now_ns(), rest_ns = 4 * (now_ns - began_ns);
    if (pthread_mutex_trylock(&seen.lock) != 0)
        return n;
    seen.until_ns = now_ns + (rest_ns < SEEN_MAX_NS ? rest_ns : SEEN_MAX_NS);
    seen.n = n;
    memcpy(seen.ports, ret_ports, n * sizeof(*ret_ports));
    pthread_mutex_unlock(&seen.lock);
    return n;
}

/* Ports of this host, as they are or were a moment ago. */
static uint32_t look_or_seen(struct yk_rdma_port *ret_ports) {
    uint32_t n = 0;
    if (pthread_mutex_trylock(&seen.lock) != 0)
        return look(ret_ports);
    int fresh = yk_now_ns() < seen.until_ns;
    if (fresh) {
        n = seen.n;
        memcpy(ret_ports, seen.ports, n * sizeof(*ret_ports));
    }
    pthread_mutex_unlock(&seen.lock);
    return fresh ? n : look(ret_ports);
}

/* Of n ports those that have an address and are chosen. */
static uint32_t with_address(const struct yk_rdma_settings *s, struct yk_rdma_port *found, uint32_t n,
                             struct yk_rdma_port *ret_ports, uint32_t cap) {
    struct ifaddrs *all = NULL;
    uint32_t kept = 0;
    n = yk_rdma_ports_chosen(s, found, n);
    if (n == 0 || getifaddrs(&all) < 0)
        return 0;
    for (uint32_t i = 0; i < n; i++) {
        const struct ifaddrs *at = all;
        int more = !found[i].iwarp || yk_cm_there();
        while (more && kept < cap && add_address(&found[i], &at)) {
            ret_ports[kept++] = found[i];
            more = found[i].iwarp; /* which goes by TCP, from each address of its interface */
        }
    }
    freeifaddrs(all);
    return kept;
}

uint32_t yk_rdma_ports_now(const struct yk_rdma_settings *s, struct yk_rdma_port *ret_ports, uint32_t cap) {
    struct yk_rdma_port found[YK_RDMA_PORTS_MAX];
    uint32_t n = look_or_seen(found);
    return with_address(s, found, n, ret_ports, cap);
}

uint32_t yk_rdma_addresses(struct yk_rdma_address *ret_addresses, uint32_t cap) {
    struct yk_rdma_port found[YK_RDMA_PORTS_MAX], ports[YK_RDMA_PORTS_MAX];
    struct yk_rdma_settings all;
    uint32_t n = 0;
    if (yk_rdma_settings_parse(NULL, &all, NULL) == 0)
        n = with_address(&all, found, look(found), ports, cap < YK_RDMA_PORTS_MAX ? cap : YK_RDMA_PORTS_MAX);
    for (uint32_t i = 0; i < n; i++) {
        struct yk_rdma_address *a = &ret_addresses[i];
        *a = (struct yk_rdma_address){.port = ports[i].port, .gid_index = ports[i].gid_index};
        snprintf(a->device, sizeof(a->device), "%s", ports[i].device);
        snprintf(a->host, sizeof(a->host), "%s", ports[i].host);
        snprintf(a->mask, sizeof(a->mask), "%s", ports[i].mask);
    }
    return n;
}

const struct yk_rdma_port *yk_rdma_port_of(const struct yk_rdma_port *ports, uint32_t n, const char *host) {
    for (uint32_t i = 0; i < n; i++)
        if (strcmp(ports[i].host, host) == 0)
            return &ports[i];
    return NULL;
}

/* ---- rails ------------------------------------------------------------------------------------------ */

static int wanted(const char *filter, const struct yk_rdma_port *p) {
    if (filter == NULL)
        return 1;
    for (const char *at = filter; *at != 0;) {
        size_t len = strcspn(at, ",");
        const char *names[] = {p->netdev, p->host, p->device};
        for (int i = 0; i < 3; i++)
            if (len == strlen(names[i]) && memcmp(at, names[i], len) == 0)
                return 1;
        at += len + (at[len] == ',');
    }
    return 0;
}

static int shares_net(const struct yk_rdma_port *p, const char *host) {
    struct yk_sockaddr a, own, mask;
    return yk_sock_parse(host, 0, &a) == 0 && yk_sock_parse(p->host, 0, &own) == 0 &&
           yk_sock_parse(p->mask, 0, &mask) == 0 && yk_sock_same_net(&own.u.any, &a.u.any, &mask.u.any);
}

static int is_v6(const char *host) {
    return strchr(host, ':') != NULL;
}

static int same_family(const char *a, const char *b) {
    return is_v6(a) == is_v6(b);
}

static struct yk_rail_desc rail_of(const struct yk_rdma_port *p, const struct yk_peer_addr *to, uint32_t distance) {
    uint32_t mbit = to->mbit > 0 && to->mbit < p->mbit ? to->mbit : p->mbit;
    struct yk_rail_desc r = {.port = to->port,
                             .caps = CAPS,
                             .local_if = p->ifindex,
                             .distance = distance,
                             .connect_ms = CONNECT_MS,
                             .bytes_per_s = mbit > 0 ? mbit * 125000.0 : PLAIN_BYTES,
                             .fixed_ns = FIXED_NS};
    snprintf(r.local, sizeof(r.local), "%s", p->host);
    snprintf(r.remote, sizeof(r.remote), "%s", to->host);
    return r;
}

enum yk_rdma_kind yk_rdma_port_kind(const struct yk_rdma_port *p) {
    return p->iwarp ? YK_RDMA_IWARP : YK_RDMA_PLAIN;
}

/* The peer's addresses that may be used: with RDMA, and its for certain. */
static int is_target(const struct yk_rdma_port *ports, uint32_t n, const struct yk_peer_addr *a, int same_host) {
    return a->rdma != YK_RDMA_NONE && (same_host || yk_rdma_port_of(ports, n, a->host) == NULL);
}

struct pairing {
    const struct yk_rdma_port *ports;
    uint32_t n;
    const char *filter;
    uint32_t used[YK_RDMA_PORTS_MAX]; /* rails of each */
};

/* IPv6 would be a second rail over devices that have one by IPv4 already. */
static int is_spare(const struct pairing *p, uint32_t k) {
    for (uint32_t i = 0; i < p->n && is_v6(p->ports[k].host); i++)
        if (p->used[i] > 0 && !is_v6(p->ports[i].host) && p->ports[i].port == p->ports[k].port &&
            strcmp(p->ports[i].device, p->ports[k].device) == 0)
            return 1;
    return 0;
}

/* The one that has the fewest rails so far; the address itself only when there is no other. n: none. */
static uint32_t pair_for(const struct pairing *p, const struct yk_peer_addr *to, int routed) {
    const char *host = to->host;
    uint32_t best = p->n, least = UINT32_MAX;
    for (uint32_t k = 0; k < p->n; k++) {
        if (yk_rdma_port_kind(&p->ports[k]) != to->rdma)
            continue;
        uint32_t cost = p->used[k] + (strcmp(p->ports[k].host, host) == 0 ? SELF_COST : 0u);
        int reaches = routed ? same_family(p->ports[k].host, host) : shares_net(&p->ports[k], host);
        if (!reaches || !wanted(p->filter, &p->ports[k]) || is_spare(p, k) || cost >= least)
            continue;
        best = k;
        least = cost;
    }
    return best;
}

uint32_t yk_rdma_rails_of(const struct yk_rdma_port *ports, uint32_t n, const char *filter,
                          const struct yk_peer_info *peer, int same_host, struct yk_rail_desc *ret_rails,
                          uint32_t cap) {
    struct pairing p = {.ports = ports, .n = n, .filter = filter};
    uint32_t count = 0;
    for (int routed = 0; routed < 2 && count == 0; routed++)
        for (int v6 = 0; v6 < 2; v6++)
            for (uint32_t i = 0; i < peer->addr_count && count < cap; i++) {
                const struct yk_peer_addr *a = &peer->addrs[i];
                if (is_v6(a->host) != v6 || !is_target(ports, n, a, same_host))
                    continue;
                uint32_t best = pair_for(&p, a, routed);
                if (best == n)
                    continue;
                ret_rails[count++] = rail_of(&ports[best], a, (uint32_t)routed);
                p.used[best]++;
            }
    return count;
}
