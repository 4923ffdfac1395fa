/* SPDX-License-Identifier: Apache-2.0
 *
 * Ends, their rests, and the look at nearer ones (src/client/route.h).
 */
#include "client/route.h"

#include "base/clock.h"
#include "wire/msg.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKOFF_FIRST_NS (10 * YK_NS_PER_MS)
#define BACKOFF_LAST_NS  (500 * YK_NS_PER_MS)
#define FINAL_NS         (5 * YK_NS_PER_S)   /* the rest of one that refused for good */
#define SLICE_NS         (500 * YK_NS_PER_MS) /* of an attempt, with others to go to; doubled for each failure */
#define SLICE_SHIFT_MAX  4u
#define FIND_EVERY_NS    YK_NS_PER_S
#define PROBE_EVERY_NS   YK_NS_PER_S /* half to all of it */
#define PROBE_SHIFT_MAX  6u /* of one that answers and then refuses: a minute */
#define PROBE_TURN_NS    (10 * YK_NS_PER_MS)
#define PROBE_LAST_NS    (5 * YK_NS_PER_S) /* for an answer */

/* Half to all of a time, so that a thousand clients do not come back in step. */
static uint64_t jitter(struct yk_route *r, uint64_t ns) {
    r->seed = r->seed * 6364136223846793005ull + 1442695040888963407ull;
    return ns / 2 + (r->seed >> 33) % (ns / 2);
}

void yk_route_init(struct yk_route *r, uint64_t seed) {
    memset(r, 0, sizeof(*r));
    r->seed = seed;
    r->probe_fd = -1;
    r->probe_at_ns = UINT64_MAX;
}

void yk_route_fini(struct yk_route *r) {
    yk_route_down(r);
    free(r->ends);
    free(r->etcd);
    r->ends = NULL;
    r->etcd = NULL;
    r->count = 0;
}

/* ---- reading ------------------------------------------------------------------------------------ */

/* Where an entry ends: at a comma that another one follows (a path may hold commas of its own). */
static size_t entry_length(const char *at) {
    for (const char *comma = strchr(at, ','); comma != NULL; comma = strchr(comma + 1, ','))
        if (strncmp(comma + 1, "unix:", 5) == 0 || strncmp(comma + 1, "tcp:", 4) == 0)
            return (size_t)(comma - at);
    return strlen(at);
}

static int read_entry(const char *at, size_t len, struct yk_addr *ret, struct yk_err *err) {
    char text[YK_ADDR_TEXT_MAX];
    struct yk_err why;
    if (len >= sizeof(text) || (strncmp(at, "unix:", 5) != 0 && strncmp(at, "tcp:", 4) != 0))
        return yk_err_set(err, -YK_EINVAL,
                          "url '%.80s': expected unix:/path, tcp:HOST:PORT, several of them with commas between, "
                          "etcd://HOST:PORT/CLUSTER or embedded:OPTIONS",
                          at);
    memcpy(text, at, len);
    text[len] = 0;
    if (yk_parse_addr(text, ret, &why) < 0)
        return yk_err_set(err, -YK_EINVAL, "url '%.60s': %s", text, why.text);
    return 0;
}

static int read_list(const char *url, struct yk_found_end *ret, uint32_t *ret_count, struct yk_err *err) {
    uint32_t n = 0;
    for (const char *at = url;;) {
        size_t len = entry_length(at);
        if (n == YK_ROUTE_MAX)
            return yk_err_set(err, -YK_EINVAL, "url: more than %u nodes", YK_ROUTE_MAX);
        int rc = read_entry(at, len, &ret[n].addr, err);
        if (rc < 0)
            return rc;
        ret[n].rank = n;
        n++;
        if (at[len] == 0)
            break;
        at += len + 1;
    }
    *ret_count = n;
    return 0;
}

static int is_same(const struct yk_addr *a, const struct yk_addr *b) {
    return a->kind == b->kind && a->port == b->port && strcmp(a->host, b->host) == 0;
}

/* Is it a way that etcd does not name now, but that may come back: a node of this host? */
static int is_kept(const struct yk_route *r, const struct yk_route_end *e) {
    return r->etcd != NULL && e->rank == 0;
}

static uint32_t take_known(const struct yk_route *r, struct yk_route_end *ends, uint32_t n) {
    for (uint32_t i = 0; i < r->count; i++) {
        uint32_t k = 0;
        while (k < n && !is_same(&ends[k].addr, &r->ends[i].addr))
            k++;
        if (k < n) {
            uint32_t rank = ends[k].rank;
            ends[k] = r->ends[i];
            ends[k].rank = rank;
        } else if (is_kept(r, &r->ends[i]) && n < YK_ROUTE_MAX) {
            memmove(&ends[1], &ends[0], n * sizeof(*ends));
            ends[0] = r->ends[i];
            n++;
        }
    }
    return n;
}

/* These are the ends from now on; of those that were there before, what is known of them stays. */
static int set_ends(struct yk_route *r, const struct yk_found_end *found, uint32_t count, struct yk_err *err) {
    struct yk_route_end *ends = calloc(YK_ROUTE_MAX, sizeof(*ends));
    if (ends == NULL)
        return yk_err_set(err, -YK_ENOMEM, "out of memory");
    for (uint32_t i = 0; i < count; i++) {
        ends[i].addr = found[i].addr;
        ends[i].rank = found[i].rank;
    }
    count = take_known(r, ends, count);
    free(r->ends);
    r->ends = ends;
    r->count = r->at = count;
    return 0;
}

static int find(struct yk_route *r, uint64_t deadline_ns, struct yk_err *err) {
    struct yk_found_end *found = calloc(YK_ROUTE_MAX, sizeof(*found));
    if (found == NULL)
        return yk_err_set(err, -YK_ENOMEM, "out of memory");
    int rc = yk_find_ends(r->etcd, deadline_ns, &r->seed, found, YK_ROUTE_MAX, err);
    if (rc > 0)
        rc = set_ends(r, found, (uint32_t)rc, err);
    else if (rc == 0)
        rc = yk_err_set(err, -YK_EGONE, "%.160s names no node that this host can reach", r->etcd);
    free(found);
    return rc;
}

int yk_route_read(struct yk_route *r, const char *url, uint64_t deadline_ns, struct yk_err *err) {
    uint32_t n = 0;
    if (url != NULL && strncmp(url, "etcd:", 5) == 0) {
        r->etcd = strdup(url);
        return r->etcd != NULL ? find(r, deadline_ns, err) : yk_err_set(err, -YK_ENOMEM, "out of memory");
    }
    struct yk_found_end *list = calloc(YK_ROUTE_MAX, sizeof(*list));
    if (list == NULL)
        return yk_err_set(err, -YK_ENOMEM, "out of memory");
    int rc = 0;
    if (url != NULL)
        rc = read_list(url, list, &n, err);
    else
        n = 1;
    if (rc == 0)
        rc = set_ends(r, list, n, err);
    free(list);
    return rc;
}

/* ---- which next --------------------------------------------------------------------------------- */

int yk_route_next(const struct yk_route *r, uint64_t now_ns) {
    for (uint32_t i = 0; i < r->count; i++)
        if (r->ends[i].retry_at_ns <= now_ns)
            return (int)i;
    return -1;
}

uint64_t yk_route_due(const struct yk_route *r) {
    uint64_t due = UINT64_MAX;
    for (uint32_t i = 0; i < r->count; i++)
        due = r->ends[i].retry_at_ns < due ? r->ends[i].retry_at_ns : due;
    return due;
}

uint64_t yk_route_until(const struct yk_route *r, uint32_t end, uint64_t now_ns, uint64_t deadline_ns) {
    uint32_t failed = r->ends[end].failed;
    uint64_t slice = SLICE_NS << (failed < SLICE_SHIFT_MAX ? failed : SLICE_SHIFT_MAX);
    return r->count > 1 && now_ns + slice < deadline_ns ? now_ns + slice : deadline_ns;
}

void yk_route_failed(struct yk_route *r, uint32_t end, int is_final, uint64_t now_ns) {
    struct yk_route_end *e = &r->ends[end];
    e->backoff_ns = e->backoff_ns == 0 ? BACKOFF_FIRST_NS : e->backoff_ns * 2;
    if (e->backoff_ns > BACKOFF_LAST_NS)
        e->backoff_ns = BACKOFF_LAST_NS;
    e->retry_at_ns = now_ns + jitter(r, is_final ? FINAL_NS : e->backoff_ns);
    e->is_final = is_final;
    e->failed++;
    e->refused += e->looked && e->refused < PROBE_SHIFT_MAX;
    e->looked = 0;
}

int yk_route_hopeless(const struct yk_route *r) {
    for (uint32_t i = 0; i < r->count; i++)
        if (!r->ends[i].is_final)
            return 0;
    return 1;
}

void yk_route_refresh(struct yk_route *r, uint64_t deadline_ns) {
    uint64_t now = yk_now_ns();
    struct yk_err err;
    if (r->etcd == NULL || now < r->find_at_ns || yk_route_next(r, now) >= 0)
        return;
    (void)find(r, now + FIND_EVERY_NS < deadline_ns ? now + FIND_EVERY_NS : deadline_ns, &err);
    r->find_at_ns = yk_now_ns() + jitter(r, 2 * FIND_EVERY_NS);
}

/* ---- nearer ones -------------------------------------------------------------------------------- */

static void probe_rest(struct yk_route *r, uint64_t now_ns) {
    if (r->probe_fd >= 0)
        close(r->probe_fd);
    r->probe_fd = -1;
    r->probe_asked = 0;
    r->probe_at_ns = now_ns + jitter(r, PROBE_EVERY_NS << r->ends[r->probe_end].refused);
}

void yk_route_up(struct yk_route *r, uint32_t end, int may_move, uint64_t now_ns) {
    struct yk_route_end *e = &r->ends[end];
    r->at = end;
    e->backoff_ns = e->retry_at_ns = 0;
    e->is_final = e->looked = 0;
    e->failed = e->refused = 0;
    r->probe_end = 0;
    probe_rest(r, now_ns);
    if (!may_move || r->ends[0].rank >= e->rank)
        r->probe_at_ns = UINT64_MAX;
}

void yk_route_down(struct yk_route *r) {
    if (r->probe_fd >= 0)
        close(r->probe_fd);
    r->probe_fd = -1;
    r->probe_at_ns = UINT64_MAX;
}

/* Nearer ends take turns. */
static void probe_failed(struct yk_route *r, uint64_t now_ns) {
    uint32_t next = r->probe_end + 1u;
    r->probe_end = r->ends[next].rank < r->ends[r->at].rank ? next : 0;
    probe_rest(r, now_ns);
}

static void probe_begin(struct yk_route *r, uint64_t now_ns) {
    r->probe_fd = yk_dial_begin(&r->ends[r->probe_end].addr);
    if (r->probe_fd < 0) {
        probe_failed(r, now_ns);
        return;
    }
    r->probe_asked = 0;
    r->probe_at_ns = now_ns;
    r->probe_until_ns = now_ns + PROBE_LAST_NS;
}

/* 1: it has answered hello, 0: not yet, or a failure. */
static int probe_look(struct yk_route *r, const struct yk_greeting *greeting, uint64_t now_ns) {
    struct pollfd p = {r->probe_fd, r->probe_asked ? POLLIN : POLLOUT, 0};
    struct yk_greeting g = *greeting;
    if (poll(&p, 1, 0) <= 0)
        return 0;
    if (r->probe_asked)
        return yk_dial_answered(r->probe_fd);
    g.cookie = g.segment_id = g.heard = 0; /* as a stranger, who wants nothing */
    g.flags = YK_HELLO_LOOK;
    g.slot = 0;
    r->probe_asked = 1;
    return yk_dial_ask(r->probe_fd, &g, now_ns);
}

int yk_route_tend(struct yk_route *r, const struct yk_greeting *greeting, uint64_t now_ns) {
    if (now_ns < r->probe_at_ns)
        return 0;
    if (r->probe_fd < 0)
        probe_begin(r, now_ns);
    if (r->probe_fd < 0)
        return 0;
    int rc = probe_look(r, greeting, now_ns);
    r->probe_at_ns = now_ns + PROBE_TURN_NS;
    if (rc > 0) {
        r->ends[r->probe_end].retry_at_ns = 0; /* it comes next */
        r->ends[r->probe_end].looked = 1;
    } else if (rc < 0 || now_ns >= r->probe_until_ns) {
        probe_failed(r, now_ns);
    }
    return rc > 0;
}
