/* SPDX-License-Identifier: Apache-2.0
 *
 * Where the engine meets other processes: the server that answers them, the table of regions that those
 * of the host map, and the questions that block.
 *
 * Threads: any; start and stop as create and destroy.
 */
#include "xfer/ask.h"
#include "xfer/engine_priv.h"
#include "xfer/addresses.h"
#include "xfer/server.h"
#include "xfer/share.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROBE_MS 5000u

/* Appends an item, or leaves it out where it has no room; how many bytes. */
static size_t add_whole(char *text, size_t n, size_t cap, const char *item) {
    size_t len = strlen(item) + (n > 0);
    if (n + len >= cap)
        return 0;
    snprintf(text + n, cap - n, "%s%s", n > 0 ? "," : "", item);
    return len;
}

/* What others reach it by: first who it is, since at an address another engine may answer, or one that
 * came after it; its socket for this host last, since not all are on it. */
static void format_addresses(struct yk_xfer *e) {
    const struct yk_peer_info *i = &e->self;
    size_t n = (size_t)snprintf(e->reach, sizeof(e->reach), YK_ADDRESSES_ENGINE "%016llx",
                                (unsigned long long)i->incarnation);
    for (uint32_t k = 0; k < i->addr_count; k++) {
        const char *v6 = strchr(i->addrs[k].host, ':');
        char one[YK_PEER_HOST + 16];
        snprintf(one, sizeof(one), "%s%s%s:%u", v6 ? "[" : "", i->addrs[k].host, v6 ? "]" : "",
                 i->addrs[k].port);
        if (k == 0)
            snprintf(e->address, sizeof(e->address), "%s", one);
        n += add_whole(e->reach, n, sizeof(e->reach), one);
    }
    if (i->unix_path[0] != '\0') {
        char one[sizeof(i->unix_path) + 8];
        snprintf(one, sizeof(one), "unix:%s", i->unix_path);
        add_whole(e->reach, n, sizeof(e->reach), one);
    }
}

int yk_remote_start(struct yk_xfer *e, struct yk_err *err) {
    int rc = 0;
    if (e->opts.listen == NULL)
        return 0;
    if (e->opts.transports & YK_XFER_SHM) {
        rc = yk_share_new(e->self.incarnation, &e->share, err);
        if (rc < 0)
            return rc;
        e->self.share = (uint32_t)yk_share_fd(e->share) + 1;
    }
    rc = yk_server_open(&e->opts, &e->self, &e->server, err);
    if (rc < 0)
        return rc;
    format_addresses(e);
    struct yk_server_env env = {.registry = e->registry,
                                .opts = &e->opts,
                                .self = &e->self,
                                .note = yk_engine_note,
                                .user = e};
    return yk_server_start(e->server, &env, err);
}

void yk_remote_stop(struct yk_xfer *e) {
    yk_server_close(e->server);
    e->server = NULL;
}

void yk_remote_free(struct yk_xfer *e) {
    yk_share_free(e->share);
    e->share = NULL;
}

void yk_remote_show(struct yk_xfer *e, const struct yk_region *region) {
    if (e->share != NULL)
        yk_share_add(e->share, region);
}

int yk_remote_forget(struct yk_xfer *e, struct yk_region *region, uint64_t deadline_ns) {
    yk_server_forget(e->server, region);
    return e->share != NULL ? yk_share_forget(e->share, region, deadline_ns) : 0;
}

int yk_remote_revoke(struct yk_xfer *e, uint64_t incarnation) {
    return yk_server_revoke(e->server, incarnation);
}

/* At least one, so that a deadline that has passed is told as such by who tries. */
static uint32_t left_ms(uint64_t deadline_ns) {
    uint64_t now = yk_now_ns(), ms = deadline_ns > now ? (deadline_ns - now) / YK_NS_PER_MS : 0;
    return ms < 1 ? 1 : ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX;
}

int yk_remote_segment(struct yk_xfer *e, const char *address, const char *name, uint64_t deadline_ns,
                      struct yk_peer_info *ret_peer, struct yk_published *ret_segment,
                      struct yk_err *err) {
    struct yk_ask_segment s;
    int rc = yk_ask_lookup(address, e->self.incarnation, name, left_ms(deadline_ns), ret_peer, &s, err);
    if (rc < 0)
        return rc;
    *ret_segment = (struct yk_published){.region = s.region,
                                         .offset = s.offset,
                                         .len = s.len,
                                         .access = s.access,
                                         .guarded = s.guarded};
    return 0;
}

int yk_xfer_probe(yk_xfer *e, const char *address, uint32_t timeout_ms, uint64_t *ret_round_trip_ns) {
    struct yk_err err;
    struct yk_peer_info peer;
    uint64_t ns;
    int rc = yk_xfer_enter(e);
    if (rc < 0)
        return rc;
    if (address == NULL)
        return yk_xfer_fail(-YK_EINVAL, "the address is NULL");
    rc = yk_ask_greet(address, e->self.incarnation, timeout_ms != 0 ? timeout_ms : PROBE_MS, &peer, &ns,
                      &err);
    if (rc < 0)
        return yk_xfer_fail_err(&err);
    if (ret_round_trip_ns != NULL)
        *ret_round_trip_ns = ns;
    return 0;
}
