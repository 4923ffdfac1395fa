/* SPDX-License-Identifier: Apache-2.0
 *
 * See tcp_rig.h.
 */
#include "tcp_rig.h"

#include "xfer/proto.h"
#include "xfer/sock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/time.h>
#include <unistd.h>

/* ---- events ------------------------------------------------------------------------------------- */

static void slice_done(struct yk_lane *lane, struct yk_slice *slice) {
    struct rig_slice *s = slice->core;
    struct rig *r = (struct rig *)(void *)((char *)(uintptr_t)lane->xport->env - offsetof(struct rig, env));
    assert_int_equal(s->posted, 1);
    assert_int_equal(s->ended, 0);
    s->ended = 1;
    r->out--;
}

static void lane_up(struct yk_lane *lane) {
    struct rig_lane *l = lane->core;
    assert_int_equal(l->state, RIG_NEW);
    l->state = RIG_UP;
}

static void lane_down(struct yk_lane *lane, int code, enum yk_scope scope, const char *text) {
    struct rig_lane *l = lane->core;
    assert_int_not_equal(l->state, RIG_DOWN);
    assert_true(code < 0 && text[0] != 0);
    l->state = RIG_DOWN;
    l->code = code;
    l->scope = scope;
    snprintf(l->text, sizeof(l->text), "%s", text);
}

static const struct yk_shard_events events = {slice_done, lane_up, lane_down};

/* ---- life --------------------------------------------------------------------------------------- */

static int note(void *user, const char *peer, const void *data, uint32_t len) {
    struct rig *r = user;
    return r->note != NULL ? r->note(user, peer, data, len) : 0;
}

void rig_server_start(struct rig *r) {
    struct yk_err err;
    memset(&r->served, 0, sizeof(r->served));
    assert_int_equal(getrandom(&r->served.incarnation, 8, 0), 8);
    yk_host_boot_id(r->served.boot_id);
    r->served.pid = (uint32_t)getpid();
    if (yk_server_open(&r->opts, &r->served, &r->server, &err) < 0)
        fail_msg("%s", err.text);
    r->server_env.registry = r->registry;
    r->server_env.opts = &r->opts;
    r->server_env.self = &r->served;
    r->server_env.note = note;
    r->server_env.user = r;
    r->self = r->served;
    assert_int_equal(yk_server_start(r->server, &r->server_env, &err), 0);
}

void rig_server_stop(struct rig *r) {
    yk_server_close(r->server);
    r->server = NULL;
}

static char *map(void) {
    void *p = mmap(NULL, RIG_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(p != MAP_FAILED);
    return p;
}

void rig_open(struct rig *r) {
    struct yk_err err;
    r->opts.size = sizeof(r->opts);
    if (r->opts.listen == NULL)
        r->opts.listen = "127.0.0.1:0";
    if (r->opts.connect_ms == 0)
        r->opts.connect_ms = 10000; /* the machine may be busy */
    if (r->opts.shm_dir == NULL)
        r->opts.shm_dir = "";
    r->target = map();
    r->local = map();
    r->registry = yk_registry_new();
    yk_xfer_memory m = {.addr = r->target, .length = RIG_BYTES, .fd = -1,
                        .access = YK_XFER_REMOTE_READ | YK_XFER_REMOTE_WRITE};
    assert_int_equal(yk_registry_add(r->registry, &m, 1, &err), 0);
    struct yk_region *region = yk_registry_find(r->registry, r->target, RIG_BYTES);
    assert_non_null(region);
    r->region = region->id;
    yk_registry_put(r->registry, region);
    rig_server_start(r);
    assert_int_equal(yk_loop_new(&r->loop, &err), 0);
    r->env = (struct yk_shard_env){.loop = r->loop, .events = &events, .opts = &r->opts,
                                   .incarnation = 4711};
    assert_int_equal(yk_xport_tcp.open(&r->env, &r->xport, &err), 0);
}

void rig_close(struct rig *r) {
    assert_int_equal(r->out, 0);
    yk_xport_tcp.close(r->xport);
    yk_loop_free(r->loop);
    rig_server_stop(r);
    yk_registry_free(r->registry);
    munmap(r->target, RIG_BYTES);
    munmap(r->local, RIG_BYTES);
}

uint16_t rig_port(const struct rig *r) {
    return r->self.addrs[0].port;
}

/* ---- lanes and slices ---------------------------------------------------------------------------- */

void rig_dial(struct rig *r, struct rig_lane *l, int bulk, uint16_t port) {
    struct yk_rail_desc rail;
    struct yk_err err;
    memset(l, 0, sizeof(*l));
    assert_int_equal(yk_xport_tcp.rails(r->xport, &r->self, &rail, 1), 1);
    rail.caps |= r->caps;
    rail.port = port != 0 ? port : rail.port;
    if (yk_xport_tcp.connect(r->xport, &r->self, &rail, bulk, &l->lane, &err) < 0)
        fail_msg("%s", err.text);
    l->lane->core = l;
    uint64_t until = yk_now_ns() + RIG_WAIT_NS;
    while (l->state == RIG_NEW && yk_now_ns() < until)
        yk_loop_turn(r->loop, RIG_WAIT_NS);
    assert_int_not_equal(l->state, RIG_NEW);
}

void rig_connect(struct rig *r, struct rig_lane *l, int bulk) {
    rig_dial(r, l, bulk, 0);
    rig_is_up(r, l);
}

void rig_is_up(const struct rig *r, const struct rig_lane *l) {
    struct yk_server_counts c = {0};
    if (l->state == RIG_UP)
        return;
    if (r->server != NULL)
        yk_server_stat(r->server, &c);
    fail_msg("lane: %s; server: %s", l->text, c.last_broken);
}

void rig_hang_up(struct rig_lane *l) {
    yk_xport_tcp.disconnect(l->lane);
    l->lane = NULL;
}

void rig_fill(struct rig_slice *s, uint8_t op, char *local, uint64_t len, uint64_t region,
              uint64_t offset) {
    memset(s, 0, sizeof(*s));
    s->slice.op = op;
    s->slice.local = local;
    s->slice.len = len;
    s->slice.region = region;
    s->slice.offset = offset;
    s->slice.core = s;
}

void rig_post(struct rig *r, struct rig_lane *l, struct rig_slice *s) {
    assert_true(yk_xport_tcp.room(l->lane) > 0);
    s->posted = 1;
    r->out++;
    yk_xport_tcp.post(l->lane, &s->slice);
}

void rig_finish(struct rig *r) {
    uint64_t until = yk_now_ns() + RIG_WAIT_NS;
    while (r->out > 0 && yk_now_ns() < until)
        yk_loop_turn(r->loop, 50 * YK_NS_PER_MS);
    assert_int_equal(r->out, 0);
}

int rig_run(struct rig *r, struct rig_lane *l, uint8_t op, char *local, uint64_t len, uint64_t offset) {
    struct rig_slice s;
    int needs_region = op == YK_SLICE_READ || op == YK_SLICE_WRITE;
    rig_fill(&s, op, local, len, needs_region ? r->region : 0, offset);
    rig_post(r, l, &s);
    yk_xport_tcp.flush(l->lane);
    rig_finish(r);
    return s.slice.status;
}

void rig_sync(struct rig *r) {
    if (r->server != NULL)
        yk_server_forget(r->server, (const struct yk_region *)(const void *)r);
}

void rig_no_lanes(struct rig *r) {
    struct yk_server_counts c = {.lanes = 1};
    uint64_t until = yk_now_ns() + RIG_WAIT_NS;
    for (yk_server_stat(r->server, &c); c.lanes > 0 && yk_now_ns() < until; yk_server_stat(r->server, &c))
        yk_loop_turn(r->loop, YK_NS_PER_MS);
    assert_int_equal(c.lanes, 0);
}

void rig_pattern(char *at, uint64_t len, uint64_t seed) {
    for (uint64_t i = 0; i < len; i++)
        at[i] = (char)((seed + i) * 0x9e3779b97f4a7c15ull >> 56);
}

int rig_is_pattern(const char *at, uint64_t len, uint64_t seed) {
    for (uint64_t i = 0; i < len; i++)
        if (at[i] != (char)((seed + i) * 0x9e3779b97f4a7c15ull >> 56))
            return 0;
    return 1;
}

/* ---- raw connections and the proxy ---------------------------------------------------------------- */

static int dial(uint16_t port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct timeval wait = {.tv_sec = 10};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
        if (fd >= 0)
            close(fd);
        return -1;
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
    return fd;
}

int rig_raw(const struct rig *r) {
    return dial(rig_port(r));
}

void rig_send(int fd, const void *bytes, size_t len) {
    for (size_t done = 0; done < len;) {
        ssize_t n = send(fd, (const char *)bytes + done, len - done, MSG_NOSIGNAL);
        assert_true(n > 0);
        done += (size_t)n;
    }
}

int rig_recv(int fd, void *bytes, size_t len) {
    for (size_t done = 0; done < len;) {
        ssize_t n = recv(fd, (char *)bytes + done, len - done, 0);
        assert_true(n >= 0 || errno == ECONNRESET);
        if (n <= 0)
            return 0;
        done += (size_t)n;
    }
    return 1;
}

int rig_hello(const struct rig *r, const struct yk_hello *hello, int *ret_status, struct yk_welcome *ret_welcome) {
    unsigned char out[YK_XREQ_BYTES + YK_HELLO_BYTES], in[YK_XANS_BYTES + YK_WELCOME_MAX];
    struct yk_xreq req = {.op = YK_PROTO_HELLO, .len = YK_HELLO_BYTES};
    struct yk_xans ans;
    int fd = rig_raw(r);
    assert_true(fd >= 0);
    yk_xreq_encode(out, &req);
    yk_hello_encode(out + YK_XREQ_BYTES, hello);
    rig_send(fd, out, sizeof(out));
    assert_int_equal(rig_recv(fd, in, YK_XANS_BYTES), 1);
    assert_int_equal(yk_xans_decode(in, &ans, NULL), 0);
    assert_int_equal(rig_recv(fd, in, ans.len), 1);
    assert_int_equal(yk_welcome_decode(in, ans.len, ret_welcome, NULL), 0);
    *ret_status = ans.status;
    return fd;
}

int rig_greeted(const struct rig *r, uint64_t lane, uint64_t incarnation) {
    struct yk_hello hello = {.version = YK_PROTO_VERSION, .lane = lane, .incarnation = incarnation};
    struct yk_welcome w;
    int status, fd = rig_hello(r, &hello, &status, &w);
    assert_int_equal(status, 0);
    return fd;
}

struct rig_proxy {
    pthread_t thread;
    int listener;
    uint16_t to;
    uint64_t limit[2], passed[2];
};

/* Passes on what there is; -1: this way is over. */
static int pass(struct rig_proxy *p, int way, int from, int to) {
    char buf[4096];
    uint64_t left = p->limit[way] - p->passed[way];
    ssize_t n = recv(from, buf, left < sizeof(buf) ? left : sizeof(buf), 0);
    if (n <= 0 || send(to, buf, (size_t)n, MSG_NOSIGNAL) != n)
        return -1;
    p->passed[way] += (uint64_t)n;
    return p->passed[way] == p->limit[way] ? -1 : 0;
}

static void *proxy_main(void *arg) {
    struct rig_proxy *p = arg;
    int a = accept(p->listener, NULL, NULL), b = a >= 0 ? dial(p->to) : -1;
    int on = b >= 0 && p->limit[0] > 0;
    while (on) {
        struct pollfd f[2] = {{.fd = a, .events = POLLIN}, {.fd = b, .events = POLLIN}};
        if (poll(f, 2, 10000) <= 0)
            break;
        if ((f[0].revents && pass(p, 0, a, b) < 0) || (f[1].revents && pass(p, 1, b, a) < 0))
            on = 0;
    }
    if (a >= 0)
        close(a);
    if (b >= 0)
        close(b);
    return NULL;
}

struct rig_proxy *rig_proxy_new(const struct rig *r, uint64_t up, uint64_t down, uint16_t *ret_port) {
    struct rig_proxy *p = calloc(1, sizeof(*p));
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t len = sizeof(a);
    assert_non_null(p);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    p->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(p->listener, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(p->listener, 4), 0);
    assert_int_equal(getsockname(p->listener, (struct sockaddr *)&a, &len), 0);
    p->to = rig_port(r);
    p->limit[0] = up;
    p->limit[1] = down;
    *ret_port = ntohs(a.sin_port);
    assert_int_equal(pthread_create(&p->thread, NULL, proxy_main, p), 0);
    return p;
}

void rig_proxy_free(struct rig_proxy *p, uint64_t *ret_up, uint64_t *ret_down) {
    shutdown(p->listener, SHUT_RDWR); /* ends an accept that nobody will answer */
    pthread_join(p->thread, NULL);
    close(p->listener);
    *ret_up = p->passed[0];
    *ret_down = p->passed[1];
    free(p);
}
