/* SPDX-License-Identifier: Apache-2.0
 *
 * See ask.h. A socket that does not block and poll() with what is left of the deadline. The round trip is that of the
 * hello, after the connection stands.
 *
 * Threads: any; no state.
 */
#include "xfer/ask.h"

#include "base/clock.h"
#include "xfer/addresses.h"
#include "xfer/dns.h"
#include "xfer/proto.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

struct ask {
    const char *where; /* for texts */
    uint64_t incarnation, until_ns;
    uint64_t wanted; /* 0: whoever answers */
    int fd;
    struct yk_err *err;
    struct yk_welcome welcome;
    uint64_t round_trip_ns;
};

static int fail_errno(struct ask *a, int e) {
    int code;
    const char *why = yk_sock_dial_error(e, &code);
    return yk_err_set(a->err, code, "'%.100s': %s", a->where, why);
}

static int wait_for(struct ask *a, short events) {
    for (;;) {
        uint64_t now = yk_now_ns();
        if (now >= a->until_ns)
            return yk_err_set(a->err, -YK_ETIMEDOUT, "'%.100s' did not answer in time", a->where);
        struct pollfd p = {.fd = a->fd, .events = events};
        uint64_t ms = (a->until_ns - now) / YK_NS_PER_MS + 1;
        int n = poll(&p, 1, ms < 60000 ? (int)ms : 60000);
        if (n > 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return fail_errno(a, errno);
    }
}

static int connect_to(struct ask *a, const struct yk_sockaddr *to) {
    int e = 0;
    socklen_t len = sizeof(e);
    a->fd = socket(to->u.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (a->fd < 0)
        return fail_errno(a, errno);
    if (to->u.any.sa_family != AF_UNIX)
        yk_sock_tune(a->fd, 0);
    if (connect(a->fd, &to->u.any, to->len) == 0)
        return 0;
    if (errno != EINPROGRESS && errno != EINTR)
        return fail_errno(a, errno == EAGAIN ? ECONNREFUSED : errno); /* unix: its backlog is full */
    int rc = wait_for(a, POLLOUT);
    if (rc < 0)
        return rc;
    if (getsockopt(a->fd, SOL_SOCKET, SO_ERROR, &e, &len) < 0 || e != 0)
        return fail_errno(a, e != 0 ? e : errno);
    return 0;
}

/* All that was asked for is here: the connection is reset, not closed, so that its port is not kept for a minute.
 * Who opens many segments would run out of them. */
static void hang_up(struct ask *a) {
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    if (a->fd < 0)
        return;
    (void)setsockopt(a->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    close(a->fd);
    a->fd = -1;
}

static int transfer(struct ask *a, char *bytes, size_t len, int out) {
    for (size_t done = 0; done < len;) {
        ssize_t n = out ? send(a->fd, bytes + done, len - done, MSG_NOSIGNAL)
                        : recv(a->fd, bytes + done, len - done, 0);
        int rc = 0;
        if (n > 0)
            done += (size_t)n;
        else if (n == 0)
            return yk_err_set(a->err, -YK_EGONE, "'%.100s' closed the connection", a->where);
        else if (errno == EAGAIN)
            rc = wait_for(a, out ? POLLOUT : POLLIN);
        else if (errno != EINTR)
            rc = fail_errno(a, errno);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* A request with payload, and the body of its answer into ret_body (cap YK_WELCOME_MAX). */
static int exchange(struct ask *a, const struct yk_xreq *req, const void *payload, char *ret_body,
                    struct yk_xans *ret_ans) {
    char out[YK_XREQ_BYTES_MAX + YK_XFER_NAME_MAX + YK_HELLO_BYTES], in[YK_XANS_BYTES];
    uint32_t size = yk_xreq_encode(out, req);
    memcpy(out + size, payload, req->len);
    int rc = transfer(a, out, size + req->len, 1);
    if (rc == 0)
        rc = transfer(a, in, sizeof(in), 0);
    if (rc < 0)
        return rc;
    if (yk_xans_decode(in, ret_ans, NULL) < 0 || ret_ans->op != req->op || ret_ans->seq != req->seq ||
        ret_ans->len > YK_WELCOME_MAX)
        return yk_err_set(a->err, -YK_EPROTO, "what answers at '%.100s' is no transfer engine", a->where);
    return transfer(a, ret_body, ret_ans->len, 0);
}

static int greet(struct ask *a) {
    struct yk_hello h = {.version = YK_PROTO_VERSION, .incarnation = a->incarnation,
                         .wanted = a->wanted};
    struct yk_xreq req = {.op = YK_PROTO_HELLO, .len = YK_HELLO_BYTES};
    struct yk_xans ans;
    unsigned char hello[YK_HELLO_BYTES];
    char body[YK_WELCOME_MAX];
    if (getrandom(&h.lane, sizeof(h.lane), 0) != (ssize_t)sizeof(h.lane))
        h.lane = yk_now_ns();
    h.flags = YK_XHELLO_URGENT;
    yk_hello_encode(hello, &h);
    uint64_t begin = yk_now_ns();
    int rc = exchange(a, &req, hello, body, &ans);
    a->round_trip_ns = yk_now_ns() - begin;
    if (rc == 0)
        rc = yk_welcome_decode(body, ans.len, &a->welcome, a->err);
    if (rc < 0)
        return rc;
    int status = a->welcome.version != YK_PROTO_VERSION ? -YK_EVERSION : ans.status;
    return status == 0 ? 0
                       : yk_err_set(a->err, status < 0 ? status : -YK_EPROTO, "'%.60s': %.150s", a->where,
                                    a->welcome.text);
}

static int lookup(struct ask *a, const char *name, struct yk_ask_segment *ret_segment) {
    size_t len = strlen(name);
    struct yk_xreq req = {.op = YK_PROTO_LOOKUP, .seq = 1, .len = len};
    struct yk_xans ans;
    struct yk_found f;
    char body[YK_WELCOME_MAX];
    int rc = exchange(a, &req, name, body, &ans);
    if (rc == 0)
        rc = yk_found_decode(body, ans.len, ans.status, &f, a->err);
    if (rc < 0)
        return rc;
    if (ans.status != 0)
        return yk_err_set(a->err, ans.status < 0 ? ans.status : -YK_EPROTO, "'%.60s', segment '%.60s': %.90s",
                          a->where, name, f.text);
    *ret_segment = (struct yk_ask_segment){f.region, f.offset, f.len, f.access, f.guarded};
    return 0;
}

/* That nobody is at one address says more than that there is nothing to come from to the next (-YK_ELIMIT): no local
 * address of its family, say. gone: what was said of those before. */
static int more_telling(struct ask *a, int rc, struct yk_err *gone) {
    if (rc == -YK_ELIMIT && gone->code < 0)
        return yk_err_set(a->err, gone->code, "%s", gone->text);
    if (rc == -YK_EGONE && a->err != NULL)
        *gone = *a->err;
    return rc;
}

/* One of the addresses, all that it resolves to. */
static int ask_one(struct ask *a, const char *name, struct yk_ask_segment *ret_segment) {
    struct yk_addr addr;
    struct yk_sockaddr to[YK_DNS_MAX];
    struct yk_err why, gone = {.code = 0};
    int n = yk_parse_addr(a->where, &addr, &why);
    if (n < 0 || addr.kind == YK_ADDR_NONE || (addr.kind == YK_ADDR_TCP && addr.port == 0))
        return yk_err_set(a->err, -YK_EINVAL, "'%.100s' is no address: expected HOST:PORT or unix:/PATH",
                          a->where);
    if (addr.kind == YK_ADDR_UNIX)
        n = yk_sock_unix(addr.host, &to[0]) < 0 ? -YK_EINVAL : 1;
    else
        n = yk_dns_resolve(addr.host, addr.port, a->until_ns, to, a->err);
    if (n < 0)
        return n == -YK_ENOENT ? yk_err_set(a->err, -YK_EGONE, "'%.100s': its name does not resolve", a->where)
                               : n;
    int rc = -YK_EGONE;
    for (int i = 0; i < n; i++) {
        rc = connect_to(a, &to[i]);
        if (rc == 0)
            rc = greet(a);
        if (rc == 0 && name != NULL)
            rc = lookup(a, name, ret_segment);
        hang_up(a);
        rc = more_telling(a, rc, &gone);
        if (rc == 0 || rc == -YK_ETIMEDOUT || rc == -YK_ENOENT)
            break;
    }
    return rc;
}

static int ask(struct ask *a, const char *address, const char *name, uint32_t timeout_ms,
               struct yk_ask_segment *ret_segment) {
    struct yk_addresses_item item;
    const char *at = address != NULL ? address : "";
    int more, rc = yk_err_set(a->err, -YK_EINVAL, "an address is needed: HOST:PORT or unix:/PATH");
    size_t name_len = name != NULL ? strlen(name) : 1;
    if (name_len == 0 || name_len > YK_XFER_NAME_MAX)
        return yk_err_set(a->err, -YK_EINVAL, "a segment's name has 1 to %u bytes", YK_XFER_NAME_MAX);
    a->fd = -1;
    a->where = item.text;
    uint64_t end_ns = yk_now_ns() + (timeout_ms > 0 ? timeout_ms : 5000) * YK_NS_PER_MS;
    while ((more = yk_addresses_next(&at, &item, a->err)) > 0) {
        if (item.engine != 0) {
            a->wanted = item.engine;
            continue;
        }
        /* One that is silent leaves time for those behind it. */
        uint64_t now = yk_now_ns(), left = end_ns > now ? end_ns - now : 0;
        a->until_ns = now + left / (1 + yk_addresses_count(at));
        rc = ask_one(a, name, ret_segment);
        if (rc == 0 || yk_now_ns() >= end_ns)
            return rc; /* -YK_ENOENT: it may have been another engine, at an address that stands on many hosts */
    }
    return more < 0 ? more : rc;
}

int yk_ask_greet(const char *address, uint64_t incarnation, uint32_t timeout_ms,
                 struct yk_peer_info *ret_peer, uint64_t *ret_round_trip_ns, struct yk_err *err) {
    struct ask a = {.incarnation = incarnation, .err = err};
    int rc = ask(&a, address, NULL, timeout_ms, NULL);
    if (rc < 0)
        return rc;
    *ret_peer = a.welcome.peer;
    if (ret_round_trip_ns != NULL)
        *ret_round_trip_ns = a.round_trip_ns;
    return 0;
}

int yk_ask_lookup(const char *address, uint64_t incarnation, const char *name, uint32_t timeout_ms,
                  struct yk_peer_info *ret_peer, struct yk_ask_segment *ret_segment,
                  struct yk_err *err) {
    struct ask a = {.incarnation = incarnation, .err = err};
    struct yk_ask_segment found;
    int rc = ask(&a, address, name, timeout_ms, &found);
    if (rc < 0)
        return rc;
    *ret_peer = a.welcome.peer;
    *ret_segment = found;
    return 0;
}
