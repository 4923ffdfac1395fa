/* SPDX-License-Identifier: Apache-2.0
 *
 * Nodes out of etcd (src/client/route.h).
 *
 * Who speaks etcd's protocol needs libcurl and jansson, which a plain client must not: that part is libyolk-etcd, of
 * src/meta, loaded when a url asks for it, as libyolk-node is for an embedded node. What it answers is text, so that
 * the two libraries share no struct.
 *
 * A node is on this host if it runs under the same kernel: the boot id says so, in containers, too. Its unix socket
 * may be out of reach there; then its TCP address is the next. An address of 127.0.0.0/8 is good on its own host
 * alone: elsewhere somebody else would answer.
 *
 * Threads: any.
 */
#include "client/route.h"

#include "base/clock.h"
#include "base/host.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ETCD_LIBRARY "libyolk-etcd.so.0"
#define TEXT_BYTES   (512u << 10) /* 1,024 nodes */
#define FIELDS       4u

enum { SAME_HOST, SAME_ZONE, ANYWHERE };

yk_find_fn yk_client_find;

static yk_find_fn load(struct yk_err *err) {
    if (yk_client_find != NULL)
        return yk_client_find;
    void *lib = dlopen(ETCD_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    yk_find_fn f = lib != NULL ? (yk_find_fn)dlsym(lib, "yk_etcd_nodes") : NULL;
    if (f == NULL) {
        const char *why = dlerror();
        yk_err_set(err, -YK_ENOTSUP, "etcd: needs %s: %s", ETCD_LIBRARY, why != NULL ? why : "it has no such function");
    }
    return f; /* it stays loaded */
}

/* ---- reading what it says ----------------------------------------------------------------------- */

static int is_loopback(const struct yk_addr *a) {
    return strncmp(a->host, "127.", 4) == 0 || strcmp(a->host, "::1") == 0 || strcmp(a->host, "localhost") == 0;
}

static uint64_t next_random(uint64_t *seed) {
    *seed = *seed * 6364136223846793005ull + 1442695040888963407ull;
    return *seed >> 33;
}

struct list {
    struct yk_found_end *ends;
    uint32_t count, most, seen[ANYWHERE + 1];
    uint64_t *seed;
};

/* Behind those that are as near; of more than there is room for, each has the same chance to stay. */
static void add(struct list *l, const struct yk_addr *addr, uint32_t rank) {
    uint32_t from = 0, to;
    while (from < l->count && l->ends[from].rank < rank)
        from++;
    for (to = from; to < l->count && l->ends[to].rank == rank;)
        to++;
    uint32_t at = from + (uint32_t)(next_random(l->seed) % (++l->seen[rank]));
    if (to == l->most) { /* full, and nothing farther is there that would make room */
        if (at < to)
            l->ends[at] = (struct yk_found_end){*addr, rank};
        return;
    }
    if (l->count == l->most)
        l->count--; /* the farthest */
    at = at < to ? at : to;
    memmove(&l->ends[at + 1], &l->ends[at], (l->count - at) * sizeof(*l->ends));
    l->ends[at] = (struct yk_found_end){*addr, rank};
    l->count++;
}

static void add_node(struct list *l, char *const field[FIELDS], const char *host, const char *zone) {
    struct yk_addr local, tcp;
    struct yk_err err;
    int here = host[0] != 0 && strcmp(field[0], host) == 0;
    if (here && yk_parse_addr(field[2], &local, &err) == 0 && local.kind == YK_ADDR_UNIX)
        add(l, &local, SAME_HOST);
    if (yk_parse_addr(field[3], &tcp, &err) < 0 || tcp.kind != YK_ADDR_TCP || (!here && is_loopback(&tcp)))
        return;
    int near = here || (zone[0] != 0 && strcmp(field[1], zone) == 0);
    add(l, &tcp, near ? SAME_ZONE : ANYWHERE);
}

uint32_t yk_found_read(const char *text, const char *host, const char *zone, uint64_t *io_seed,
                       struct yk_found_end *ret, uint32_t most) {
    struct list l = {.ends = ret, .most = most, .seed = io_seed};
    char line[1400];
    for (size_t len; *text != 0; text += len + (text[len] == '\n')) {
        char *field[FIELDS], *at = line;
        unsigned n = 0;
        len = strcspn(text, "\n");
        if (len >= sizeof(line))
            continue;
        memcpy(line, text, len);
        line[len] = 0;
        for (char *tab; n < FIELDS && at != NULL; n++, at = tab) {
            field[n] = at;
            tab = strchr(at, '\t');
            if (tab != NULL)
                *tab++ = 0;
        }
        if (n == FIELDS)
            add_node(&l, field, host, zone);
    }
    return l.count;
}

/* ---- asking ------------------------------------------------------------------------------------- */

/* "zone=" of the url's options. */
static void read_zone(const char *url, char *ret, size_t size) {
    const char *at = strchr(url, '?');
    ret[0] = 0;
    while (at != NULL) {
        if (strncmp(at + 1, "zone=", 5) == 0)
            snprintf(ret, size, "%.*s", (int)strcspn(at + 6, "&"), at + 6);
        at = strchr(at + 1, '&');
    }
}

int yk_find_ends(const char *url, uint64_t deadline_ns, uint64_t *io_seed, struct yk_found_end *ret, uint32_t most,
                 struct yk_err *err) {
    char host[YK_HOST_ID_MAX], zone[64], why[YK_ERR_TEXT_MAX] = "";
    uint64_t now = yk_now_ns();
    uint64_t ms = deadline_ns > now ? (deadline_ns - now) / YK_NS_PER_MS + 1 : 1;
    yk_find_fn f = load(err);
    if (f == NULL)
        return -YK_ENOTSUP;
    char *text = malloc(TEXT_BYTES);
    if (text == NULL)
        return yk_err_set(err, -YK_ENOMEM, "out of memory");
    yk_host_id(host);
    read_zone(url, zone, sizeof(zone));
    int rc = f(url, ms < 60000 ? (uint32_t)ms : 60000u, text, TEXT_BYTES, why, sizeof(why));
    if (rc < 0)
        yk_err_set(err, rc, "%s", why[0] != 0 ? why : yk_status_text(rc));
    else
        rc = (int)yk_found_read(text, host, zone, io_seed, ret, most);
    free(text);
    return rc;
}
