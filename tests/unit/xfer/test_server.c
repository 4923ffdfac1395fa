/* SPDX-License-Identifier: Apache-2.0
 *
 * The target's half against peers that are not well: garbage, silence, half messages, too many of them;
 * memory that is unregistered under way; descriptors that run out; a thousand that say nothing.
 */
#include "tcp_rig.h"

#include "xfer/ask.h"
#include "xfer/proto.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

/* Waits for a condition on the server's counts. */
#define WAIT_FOR(r, c, cond)                                                                       \
    do {                                                                                           \
        uint64_t until_ = yk_now_ns() + RIG_WAIT_NS;                                               \
        yk_server_stat((r)->server, &(c));                                                         \
        while (!(cond) && yk_now_ns() < until_) {                                                  \
            usleep(1000);                                                                          \
            yk_server_stat((r)->server, &(c));                                                     \
        }                                                                                          \
        assert_true(cond);                                                                         \
    } while (0)

/* A request's header with one byte changed. */
static size_t header(unsigned char *to, uint8_t op, uint32_t seq, uint64_t region, uint64_t len, int at,
                     int byte) {
    struct yk_xreq q = {.op = op, .seq = seq, .region = region, .len = len};
    uint32_t n = yk_xreq_encode(to, &q);
    if (at >= 0)
        to[at] = (unsigned char)byte;
    return n;
}

static void expect_closed(struct rig *r, int fd, const char *what) {
    struct yk_server_counts c;
    char byte;
    static uint64_t broken;
    if (rig_recv(fd, &byte, 1))
        fail_msg("%s: was answered", what);
    WAIT_FOR(r, c, c.lanes == 0);
    if (c.broken == broken || c.last_broken[0] == 0)
        fail_msg("%s: was not counted", what);
    broken = c.broken;
    close(fd);
}

static void garbage(void **state) {
    struct rig r = {0};
    unsigned char b[8192];
    size_t n;
    (void)state;
    rig_open(&r);
    memset(b, 0, sizeof(b));
    static const char *const first[] = {"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: curl/8.0\r\nAccept: */*\r\n\r\n"};
    int fd = rig_raw(&r);
    rig_send(fd, first[0], strlen(first[0]));
    expect_closed(&r, fd, "http");
    fd = rig_raw(&r);
    rig_send(fd, b, sizeof(b));
    expect_closed(&r, fd, "zeros");
    fd = rig_raw(&r);
    n = header(b, YK_PROTO_READ, 0, r.region, 4096, -1, 0);
    rig_send(fd, b, n);
    expect_closed(&r, fd, "a read in front of the hello");
    fd = rig_raw(&r);
    n = header(b, YK_PROTO_HELLO, 0, 0, YK_HELLO_BYTES, -1, 0);
    memset(b + n, 7, YK_HELLO_BYTES);
    rig_send(fd, b, n + YK_HELLO_BYTES);
    expect_closed(&r, fd, "a hello of something else");
    static const struct {
        const char *what;
        uint8_t op;
        uint32_t seq;
        uint64_t len;
        int at, byte;
    } bad[] = {
        {"a second hello", YK_PROTO_HELLO, 1, YK_HELLO_BYTES, -1, 0},
        {"a number twice", YK_PROTO_PING, 0, 0, -1, 0},
        {"a number too high", YK_PROTO_PING, 2, 0, -1, 0},
        {"a write of 2^63 bytes", YK_PROTO_WRITE, 1, 1ull << 63, -1, 0},
        {"a read of none", YK_PROTO_READ, 1, 0, -1, 0},
        {"a note of 5000 bytes", YK_PROTO_NOTE, 1, 5000, -1, 0},
        {"an unknown op", YK_PROTO_PING, 1, 0, 2, 99},
        {"an unknown flag", YK_PROTO_PING, 1, 0, 3, 0x40},
        {"a guarded ping", YK_PROTO_PING, 1, 0, 3, YK_XREQ_GUARD},
        {"reserved bits", YK_PROTO_WRITE, 1, 4096, 40, 1},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        int addressed = bad[i].op == YK_PROTO_READ || bad[i].op == YK_PROTO_WRITE;
        fd = rig_greeted(&r, 10 + i, 1);
        n = header(b, bad[i].op, bad[i].seq, addressed ? r.region : 0, bad[i].len, bad[i].at, bad[i].byte);
        rig_send(fd, b, n);
        expect_closed(&r, fd, bad[i].what);
    }
    fd = rig_greeted(&r, 99, 1);
    n = 0;
    for (uint32_t i = 1; i <= YK_GROUP_MAX + 1; i++)
        n += header(b + n, YK_PROTO_PING, i, 0, 0, 3, YK_XREQ_MORE);
    rig_send(fd, b, n);
    while (rig_recv(fd, b, YK_XANS_BYTES)) /* those before the end of the run may have been answered */
        continue;
    close(fd);
    struct yk_server_counts c;
    WAIT_FOR(&r, c, c.lanes == 0 && strstr(c.last_broken, "run") != NULL);
    rig_close(&r);
}

/* Silence, half a message and then the end. Others are served meanwhile. */
static void silence(void **state) {
    struct rig r = {.server_env = {.hello_ms = 100}};
    unsigned char b[YK_XREQ_BYTES];
    struct yk_server_counts c;
    struct rig_lane l;
    (void)state;
    rig_open(&r);
    int quiet = rig_raw(&r), half = rig_raw(&r), greeted = rig_greeted(&r, 1, 1);
    rig_connect(&r, &l, 1);
    rig_send(half, b, 20);
    char byte;
    assert_false(rig_recv(quiet, &byte, 1));
    assert_false(rig_recv(half, &byte, 1));
    WAIT_FOR(&r, c, c.broken == 2);
    int later = rig_raw(&r); /* when its time is over, that one has been silent for longer, and may be */
    assert_false(rig_recv(later, &byte, 1));
    close(later);
    struct pollfd p = {.fd = greeted, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 0), 0);
    WAIT_FOR(&r, c, c.broken == 3);
    rig_send(greeted, b, header(b, YK_PROTO_WRITE, 1, r.region, 4096, -1, 0));
    rig_send(greeted, b, sizeof(b));
    close(greeted);
    WAIT_FOR(&r, c, c.broken == 4);
    assert_non_null(strstr(c.last_broken, "middle"));
    assert_int_equal(rig_run(&r, &l, YK_SLICE_READ, r.local, 4096, 0), 0);
    close(quiet);
    close(half);
    rig_hang_up(&l);
    rig_close(&r);
}

static void too_many(void **state) {
    struct rig r = {.server_env = {.lanes_max = 2}};
    struct yk_server_counts c;
    char byte;
    (void)state;
    rig_open(&r);
    int a = rig_greeted(&r, 1, 1), b = rig_greeted(&r, 2, 1), third = rig_raw(&r);
    assert_false(rig_recv(third, &byte, 1));
    yk_server_stat(r.server, &c);
    assert_int_equal(c.refused, 1);
    close(b);
    WAIT_FOR(&r, c, c.lanes == 1);
    close(third);
    third = rig_greeted(&r, 3, 1);
    close(third);
    close(a);
    rig_close(&r);
}

/* ---- memory that goes --------------------------------------------------------------------------- */

static void unregister(struct rig *r) {
    struct yk_region *g;
    assert_int_equal(yk_registry_doom(r->registry, r->target, &g), 0);
    yk_server_forget(r->server, g);
    assert_int_equal(yk_registry_remove(r->registry, g), 1);
}

static int answer(int fd, uint8_t op, uint32_t seq) {
    unsigned char in[YK_XANS_BYTES];
    struct yk_xans a;
    assert_int_equal(rig_recv(fd, in, sizeof(in)), 1);
    assert_int_equal(yk_xans_decode(in, &a, NULL), 0);
    assert_int_equal(a.op, op);
    assert_int_equal(a.seq, seq);
    return a.status;
}

/* Half a write is in, a read's answer is half sent: both fail, the lane goes on, and the pages are never
 * touched again. */
static void unregistered_under_way(void **state) {
    struct rig r = {0};
    struct yk_server_counts c;
    unsigned char head[YK_XREQ_BYTES];
    char *buf = calloc(1, RIG_BYTES);
    (void)state;
    rig_open(&r);
    rig_pattern(r.target, RIG_BYTES, 0);
    int in = rig_greeted(&r, 1, 1), out = rig_greeted(&r, 2, 1);
    rig_send(in, head, header(head, YK_PROTO_WRITE, 1, r.region, 100000, -1, 0));
    rig_send(in, buf, 50000);
    rig_send(out, head, header(head, YK_PROTO_READ, 1, r.region, RIG_BYTES, -1, 0));
    uint64_t asked = 2 * (YK_XREQ_BYTES + YK_HELLO_BYTES) + 2 * YK_XREQ_BYTES + 50000;
    WAIT_FOR(&r, c, c.bytes_in == asked && c.bytes_out > 200000);
    unregister(&r);
    assert_int_equal(mprotect(r.target, RIG_BYTES, PROT_NONE), 0);
    rig_send(in, buf, 50000);
    assert_int_equal(answer(in, YK_PROTO_WRITE, 1), -YK_EGONE);
    assert_int_equal(rig_recv(out, buf, RIG_BYTES), 1);
    assert_int_equal(answer(out, YK_PROTO_READ, 1), -YK_EGONE);
    assert_true(rig_is_pattern(buf + 50000, 50000, 50000) && buf[RIG_BYTES - 1] == 0);
    for (int i = 0; i < 2; i++) {
        rig_send(i ? in : out, head, header(head, YK_PROTO_PING, 2, 0, 0, -1, 0));
        assert_int_equal(answer(i ? in : out, YK_PROTO_PING, 2), 0);
        rig_send(i ? in : out, head, header(head, YK_PROTO_READ, 3, r.region, 64, -1, 0));
        assert_int_equal(rig_recv(i ? in : out, buf, 64), 1);
        assert_int_equal(answer(i ? in : out, YK_PROTO_READ, 3), -YK_EGONE);
        close(i ? in : out);
    }
    free(buf);
    rig_close(&r);
}

/* The same many times over in a stream of writes and reads. */
static void unregistered_in_streams(void **state) {
    struct rig r = {0};
    struct rig_lane l;
    struct rig_slice s[64];
    struct yk_err err;
    (void)state;
    rig_open(&r);
    rig_connect(&r, &l, 1);
    for (int round = 0; round < 30; round++) {
        for (int i = 0; i < 64; i++) {
            rig_fill(&s[i], i % 3 ? YK_SLICE_WRITE : YK_SLICE_READ, r.local + i * 65536, 65536, r.region,
                     (uint64_t)i * 65536);
            rig_post(&r, &l, &s[i]);
        }
        memset(r.local, round, RIG_BYTES);
        yk_xport_tcp.flush(l.lane);
        for (int i = 0; i < round % 10; i++)
            yk_loop_turn(r.loop, 0);
        unregister(&r);
        memset(r.target, 100, RIG_BYTES); /* ours again */
        rig_finish(&r);
        for (int i = 0; i < 64; i++)
            assert_true(s[i].slice.status == 0 || s[i].slice.status == -YK_EGONE);
        rig_sync(&r);
        for (uint64_t i = 0; i < RIG_BYTES; i++)
            if (r.target[i] != 100)
                fail_msg("round %d: byte %llu was written", round, (unsigned long long)i);
        yk_xfer_memory m = {.addr = r.target, .length = RIG_BYTES, .fd = -1, .access = 3};
        assert_int_equal(yk_registry_add(r.registry, &m, 1, &err), 0);
        struct yk_region *g = yk_registry_find(r.registry, r.target, 1);
        assert_true(g->id != r.region); /* numbers do not come again */
        r.region = g->id;
        yk_registry_put(r.registry, g);
    }
    rig_hang_up(&l);
    rig_close(&r);
}

/* ---- many --------------------------------------------------------------------------------------- */

/* How often other threads of this process have gone to sleep. */
static uint64_t sleeps_of_others(void) {
    uint64_t sum = 0;
    DIR *d = opendir("/proc/self/task");
    assert_non_null(d);
    for (const struct dirent *e; (e = readdir(d)) != NULL;) {
        char path[64], line[128];
        unsigned long long n;
        if (e->d_name[0] == '.' || strtol(e->d_name, NULL, 10) == getpid())
            continue;
        snprintf(path, sizeof(path), "/proc/self/task/%.20s/status", e->d_name);
        FILE *f = fopen(path, "r");
        while (f != NULL && fgets(line, sizeof(line), f) != NULL)
            if (sscanf(line, "voluntary_ctxt_switches: %llu", &n) == 1)
                sum += n;
        if (f != NULL)
            fclose(f);
    }
    closedir(d);
    return sum;
}

/* Waits until none of them has been awake for a second and a half, longer than any timer would be. The thread
 * sanitizer has a thread of its own, which never rests. */
static void wait_for_quiet(void) {
#ifdef __SANITIZE_THREAD__
    return;
#endif
    uint64_t until = yk_now_ns() + RIG_WAIT_NS, since = yk_now_ns(), seen = sleeps_of_others();
    while (yk_now_ns() - since < 1500 * YK_NS_PER_MS) {
        usleep(1000);
        uint64_t now = sleeps_of_others();
        since = now != seen ? yk_now_ns() : since;
        seen = now;
        assert_true(yk_now_ns() < until);
    }
}

/* Without a descriptor left accepting pauses, without a loop that spins, and goes on later. */
static void no_descriptors(void **state) {
    struct rig r = {.opts = {.connect_ms = 60000}}; /* none of them says anything */
    struct yk_server_counts c;
    struct rlimit old, tight;
    (void)state;
    rig_open(&r);
    int fds[20];
    getrlimit(RLIMIT_NOFILE, &old);
    int probe = dup(0);
    tight = old;
    for (int i = 0; i < 20; i++)
        fds[i] = socket(AF_INET, SOCK_STREAM, 0);
    tight.rlim_cur = (rlim_t)fds[19] + 1;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    close(probe);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(rig_port(&r))};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int i = 0; i < 20; i++)
        assert_int_equal(connect(fds[i], (struct sockaddr *)&a, sizeof(a)), 0);
    WAIT_FOR(&r, c, c.accept_pauses > 0);
    uint64_t pauses = c.accept_pauses, since = yk_now_ns();
    WAIT_FOR(&r, c, c.accept_pauses > pauses + 2);
    assert_true(c.accept_pauses - pauses <= (yk_now_ns() - since) / (100 * YK_NS_PER_MS) + 1); /* 100 ms each */
    assert_true(c.lanes < 20);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    WAIT_FOR(&r, c, c.lanes == 20);
    for (int i = 0; i < 20; i++)
        close(fds[i]);
    WAIT_FOR(&r, c, c.lanes == 0);
    rig_close(&r);
}

static uint64_t resident(void) {
    unsigned long long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%*u %llu", &pages), 1);
    fclose(f);
    return pages * 4096;
}

/* A thousand lanes that have done something and now do nothing: no CPU, and little memory. */
static void idle(void **state) {
    enum { LANES = 1000 };
    struct rig r = {0};
    static struct rig_lane l[LANES];
    (void)state;
    rig_open(&r);
    rig_connect(&r, &l[0], 1);
    rig_run(&r, &l[0], YK_SLICE_WRITE, r.local, RIG_BYTES, 0);
    rig_run(&r, &l[0], YK_SLICE_READ, r.local, RIG_BYTES, 0);
    uint64_t before = resident();
    for (int i = 1; i < LANES; i++) {
        rig_connect(&r, &l[i], i % 2);
        assert_int_equal(rig_run(&r, &l[i], YK_SLICE_WRITE, r.local, 10000, 0), 0);
        assert_int_equal(rig_run(&r, &l[i], YK_SLICE_READ, r.local, 10000, 0), 0);
    }
    if (!SANITIZED)
        assert_true(resident() - before < LANES * (64ull << 10) / 2); /* both ends */
    wait_for_quiet();
    for (int i = 0; i < LANES; i++)
        rig_hang_up(&l[i]);
    rig_close(&r);
}

/* ---- listening and asking ------------------------------------------------------------------------ */

static void listens(void **state) {
    struct yk_peer_info self;
    struct yk_server *s, *t;
    struct yk_err err;
    char where[64];
    (void)state;
    yk_xfer_opts o = {.size = sizeof(o), .listen = "127.0.0.1:0", .shm_dir = ""};
    memset(&self, 0, sizeof(self));
    assert_int_equal(yk_server_open(&o, &self, &s, &err), 0);
    assert_int_equal(self.addr_count, 1);
    assert_string_equal(self.addrs[0].host, "127.0.0.1");
    snprintf(where, sizeof(where), "127.0.0.1:%u", self.addrs[0].port);
    o.listen = where;
    assert_int_equal(yk_server_open(&o, &self, &t, &err), -YK_EBUSY);
    yk_server_close(s);
    static const struct {
        const char *listen, *advertise;
        int want;
    } bad[] = {
        {"0.0.0.0:0", NULL, -YK_EPERM},          {"nonsense", NULL, -YK_EINVAL},
        {"127.0.0.1", NULL, -YK_EINVAL},         {"unix:/tmp/x", NULL, -YK_EINVAL},
        {"no-such-host.invalid:1", NULL, -YK_ENOENT}, {"127.0.0.1:0", "10.0.0.1", -YK_EINVAL},
        {"127.0.0.1:0", ",", -YK_EINVAL},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        o.listen = bad[i].listen;
        o.advertise = bad[i].advertise;
        err.text[0] = 0;
        assert_int_equal(yk_server_open(&o, &self, &t, &err), bad[i].want);
        assert_true(err.text[0] != 0);
    }
    o = (yk_xfer_opts){.size = sizeof(o), .listen = "localhost:0", .shm_dir = ""};
    assert_int_equal(yk_server_open(&o, &self, &s, &err), 0);
    assert_true(self.addr_count >= 1);
    yk_server_close(s);
    o = (yk_xfer_opts){.size = sizeof(o), .listen = "0.0.0.0:0", .insecure_network = 1, .shm_dir = "",
                       .advertise = "10.1.2.3:7000,[fd00::1]:7001"};
    assert_int_equal(yk_server_open(&o, &self, &s, &err), 0);
    assert_int_equal(self.addr_count, 2);
    assert_string_equal(self.addrs[1].host, "fd00::1");
    assert_int_equal(self.addrs[1].port, 7001);
    yk_server_close(s);
    o.advertise = NULL;
    assert_int_equal(yk_server_open(&o, &self, &s, &err), 0);
    assert_true(self.addr_count >= 1 && self.addrs[0].port != 0);
    for (uint32_t i = 1; i < self.addr_count; i++)
        assert_true(strncmp(self.addrs[i].host, "127.", 4) != 0);
    yk_server_close(s);
}

/* Who speaks another version is told both, in what all versions can read: no addresses follow. */
static void other_versions(void **state) {
    struct rig r = {0};
    (void)state;
    rig_open(&r);
    assert_true(r.self.addr_count > 0);
    for (uint32_t version = YK_PROTO_VERSION - 1; version <= YK_PROTO_VERSION + 1; version += 2) {
        struct yk_hello hello = {.version = version, .lane = 1, .incarnation = 2};
        struct yk_welcome w;
        char want[64];
        int status, fd = rig_hello(&r, &hello, &status, &w);
        assert_int_equal(status, -YK_EVERSION);
        assert_true(w.version == YK_PROTO_VERSION && w.peer.addr_count == 0);
        snprintf(want, sizeof(want), "version %u of the protocol, yours %u", YK_PROTO_VERSION, version);
        assert_non_null(strstr(w.text, want));
        close(fd);
    }
    rig_close(&r);
}

static void asks(void **state) {
    char dir[] = "/tmp/yolk-test-XXXXXX", where[200];
    struct yk_peer_info peer;
    struct yk_ask_segment seg;
    struct yk_err err;
    struct stat st;
    uint64_t ns;
    (void)state;
    assert_non_null(mkdtemp(dir));
    struct rig r = {.opts = {.shm_dir = dir}};
    rig_open(&r);
    assert_int_equal(yk_registry_publish(r.registry, "kv-0", r.target + 100, 5000, NULL, &err), 0);
    assert_int_equal(stat(r.self.unix_path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    for (int i = 0; i < 3; i++) {
        if (i == 0)
            snprintf(where, sizeof(where), "127.0.0.1:%u", rig_port(&r));
        else if (i == 1)
            snprintf(where, sizeof(where), "unix:%s", r.self.unix_path);
        else /* the first that answers */
            snprintf(where, sizeof(where), "127.0.0.1:1,unix:%s", r.self.unix_path);
        if (yk_ask_greet(where, 5, 5000, &peer, &ns, &err) < 0)
            fail_msg("%s", err.text);
        assert_true(ns > 0 && peer.incarnation == r.self.incarnation && peer.pid == r.self.pid);
        assert_memory_equal(&peer, &r.self, sizeof(peer));
        assert_int_equal(yk_ask_lookup(where, 5, "kv-0", 5000, &peer, &seg, &err), 0);
        assert_true(seg.region == r.region && seg.offset == 100 && seg.len == 5000 && seg.access == 3 &&
                    seg.guarded == 0);
        assert_int_equal(yk_ask_lookup(where, 5, "kv-1", 5000, &peer, &seg, &err), -YK_ENOENT);
        assert_non_null(strstr(err.text, "kv-1"));
    }
    assert_int_equal(yk_ask_greet("127.0.0.1:1", 5, 1000, &peer, &ns, &err), -YK_EGONE);
    assert_int_equal(yk_ask_greet("unix:/tmp/nobody-here", 5, 1000, &peer, &ns, &err), -YK_EGONE);
    assert_int_equal(yk_ask_greet("", 5, 1000, &peer, &ns, &err), -YK_EINVAL);
    assert_int_equal(yk_ask_greet("127.0.0.1:0", 5, 1000, &peer, &ns, &err), -YK_EINVAL);
    int mute = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t len = sizeof(a);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(mute, (struct sockaddr *)&a, len), 0);
    assert_int_equal(listen(mute, 1), 0);
    getsockname(mute, (struct sockaddr *)&a, &len);
    snprintf(where, sizeof(where), "127.0.0.1:%u", ntohs(a.sin_port));
    uint64_t begin = yk_now_ns();
    assert_int_equal(yk_ask_greet(where, 5, 50, &peer, &ns, &err), -YK_ETIMEDOUT);
    assert_true(yk_now_ns() - begin >= 49 * YK_NS_PER_MS);
    close(mute);
    rig_close(&r);
    assert_int_equal(rmdir(dir), 0); /* the socket is gone */
}

/* What killed engines left is removed by the next one, what others use is not. */
static void sockets_of_the_dead_are_swept(void **state) {
    char dir[] = "/tmp/yk-sweep-XXXXXX", dead[64], other[64], live[128];
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    struct yk_xfer_opts o = {.size = sizeof(o), .shm_dir = dir};
    struct yk_peer_info self = {.incarnation = 17}, second = {.incarnation = 18};
    struct yk_server *s, *t;
    struct yk_err err;
    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(dead, sizeof(dead), "%s/yolk-xfer-0000000000000011f", dir);
    snprintf(other, sizeof(other), "%s/yolk-xfer-file", dir);
    snprintf(a.sun_path, sizeof(a.sun_path), "%s", dead);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    close(fd);
    fd = open(other, O_CREAT | O_WRONLY, 0600);
    close(fd);
    assert_int_equal(yk_server_open(&o, &self, &s, &err), 0);
    assert_int_equal(access(dead, F_OK), -1);
    assert_int_equal(access(other, F_OK), 0);
    snprintf(live, sizeof(live), "%s", self.unix_path);
    assert_int_equal(yk_server_open(&o, &second, &t, &err), 0);
    assert_int_equal(access(live, F_OK), 0);
    yk_server_close(t);
    yk_server_close(s);
    unlink(other);
    assert_int_equal(rmdir(dir), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sockets_of_the_dead_are_swept),
        cmocka_unit_test(garbage),
        cmocka_unit_test(silence),
        cmocka_unit_test(too_many),
        cmocka_unit_test(unregistered_under_way),
        cmocka_unit_test(unregistered_in_streams),
        cmocka_unit_test(no_descriptors),
        cmocka_unit_test(idle),
        cmocka_unit_test(listens),
        cmocka_unit_test(other_versions),
        cmocka_unit_test(asks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
