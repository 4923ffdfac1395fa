/* SPDX-License-Identifier: Apache-2.0
 *
 * Lanes that break: at every byte of an exchange, because the target was stopped, killed, restarted, or
 * never was one. Every slice ends once; what is not marked as touched has not changed the target.
 */
#include "tcp_rig.h"

#include "xfer/sock.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static void wait_down(struct rig *r, struct rig_lane *l) {
    uint64_t until = yk_now_ns() + RIG_WAIT_NS;
    while (l->state == RIG_UP && yk_now_ns() < until)
        yk_loop_turn(r->loop, YK_NS_PER_S);
    assert_int_equal(l->state, RIG_DOWN);
}

#define STEP 200

/* Two writes, a read, a notification through a proxy that cuts; 1: nothing was cut. */
static int exchange(struct rig *r, uint64_t up, uint64_t down) {
    static const uint8_t ops[4] = {YK_SLICE_WRITE, YK_SLICE_READ, YK_SLICE_WRITE, YK_SLICE_NOTE};
    struct rig_slice s[4];
    struct rig_lane l;
    uint64_t passed_up, passed_down;
    uint16_t port;
    int good = 0;
    struct rig_proxy *p = rig_proxy_new(r, up, down, &port);
    memset(r->target, 1, 4 * STEP);
    memset(r->local, 2, 4 * STEP);
    rig_sync(r);
    rig_dial(r, &l, 1, port);
    for (int i = 0; i < 4 && l.state == RIG_UP; i++) {
        rig_fill(&s[i], ops[i], r->local + i * STEP, STEP, ops[i] == YK_SLICE_NOTE ? 0 : r->region,
                 ops[i] == YK_SLICE_NOTE ? 0 : (uint64_t)i * STEP);
        rig_post(r, &l, &s[i]);
    }
    uint32_t posted = r->out;
    if (posted > 0)
        yk_xport_tcp.flush(l.lane);
    while (l.state == RIG_UP && r->out > 0)
        yk_loop_turn(r->loop, RIG_WAIT_NS);
    rig_hang_up(&l);
    assert_int_equal(r->out, 0);
    rig_proxy_free(p, &passed_up, &passed_down);
    struct yk_server_counts c;
    do /* what it had received has taken effect when its lane is gone */
        yk_server_stat(r->server, &c);
    while (c.lanes > 0);
    rig_sync(r);
    for (uint32_t i = 0; i < posted; i++) {
        const struct yk_slice *q = &s[i].slice;
        assert_int_equal(s[i].ended, 1);
        good += q->status == 0;
        assert_true(q->status == 0 || q->scope == YK_SCOPE_LANE);
        if (q->op == YK_SLICE_WRITE && q->status == 0)
            assert_int_equal(r->target[i * STEP + STEP - 1], 2);
        if (q->op == YK_SLICE_WRITE && q->status != 0 && !q->touched)
            assert_int_equal(r->target[i * STEP], 1);
        if (q->op == YK_SLICE_READ && q->status == 0)
            assert_int_equal(r->local[i * STEP], 1);
    }
    return good == 4 && passed_up < up && passed_down < down;
}

static void cut_anywhere(void **state) {
    struct rig r = {0};
    (void)state;
    rig_open(&r);
    uint64_t n = 0;
    while (!exchange(&r, n, 1u << 20))
        n++;
    assert_true(n > 600 && n < 2000); /* the first clean run is after all bytes */
    for (n = 0; !exchange(&r, 1u << 20, n);)
        n++;
    assert_true(n > 300 && n < 5000);
    rig_close(&r);
}

/* ---- another process ------------------------------------------------------------------------------ */

struct child {
    struct yk_peer_info self;
    uint64_t region;
    int ready; /* atomic */
};

static pid_t start_child(struct child **ret_child) {
    struct child *c = mmap(NULL, sizeof(*c), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(c != MAP_FAILED);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct rig r = {0};
        alarm(60);
        rig_open(&r);
        c->self = r.self;
        c->region = r.region;
        __atomic_store_n(&c->ready, 1, __ATOMIC_RELEASE);
        for (;;)
            pause();
    }
    while (!__atomic_load_n(&c->ready, __ATOMIC_ACQUIRE)) {
        int status;
        assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
        usleep(1000);
    }
    *ret_child = c;
    return pid;
}

static void end_child(pid_t pid, struct child *c) {
    int status;
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    munmap(c, sizeof(*c));
}

/* Stopped: nothing ends by itself; cancelling a read does, hanging up ends the rest, as touched. */
static void stopped_and_killed(void **state) {
    struct child *c;
    pid_t pid = start_child(&c); /* before this process has threads */
    struct rig r = {0};
    struct rig_lane l;
    struct rig_slice s[4];
    struct yk_peer_info own;
    int status;
    (void)state;
    rig_open(&r);
    own = r.self;
    r.self = c->self;
    r.region = c->region;
    rig_connect(&r, &l, 1);
    assert_int_equal(rig_run(&r, &l, YK_SLICE_WRITE, r.local, 4096, 0), 0);
    kill(pid, SIGSTOP);
    waitpid(pid, &status, WUNTRACED);
    rig_fill(&s[0], YK_SLICE_READ, r.local, 100000, r.region, 0);
    rig_fill(&s[1], YK_SLICE_WRITE, r.local, 100000, r.region, 0);
    rig_fill(&s[2], YK_SLICE_WRITE, r.local, RIG_BYTES, r.region, 0); /* more than sockets hold */
    rig_fill(&s[3], YK_SLICE_WRITE, r.local, 1000, r.region, 0);
    for (int i = 0; i < 4; i++)
        rig_post(&r, &l, &s[i]);
    yk_xport_tcp.flush(l.lane);
    for (int i = 0; i < 20; i++)
        yk_loop_turn(r.loop, 5 * YK_NS_PER_MS);
    assert_int_equal(r.out, 4);
    uint64_t moved = yk_xport_tcp.moved(l.lane);
    yk_loop_turn(r.loop, 5 * YK_NS_PER_MS);
    assert_true(yk_xport_tcp.moved(l.lane) - moved < 1u << 20); /* silence shows */
    for (int i = 0; i < 3; i++)
        yk_xport_tcp.cancel(l.lane, &s[i].slice);
    assert_true(s[0].ended && s[0].slice.status == -YK_ECANCELED);
    assert_true(!s[1].ended && !s[2].ended); /* begun: they end with an answer, or the lane */
    assert_int_equal(l.state, RIG_UP);
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    wait_down(&r, &l);
    assert_int_equal(l.scope, YK_SCOPE_LANE);
    rig_hang_up(&l);
    for (int i = 1; i < 4; i++)
        assert_true(s[i].ended && s[i].slice.status < 0 && s[i].slice.scope == YK_SCOPE_LANE);
    assert_true(s[1].slice.touched && s[2].slice.touched && !s[3].slice.touched);
    rig_dial(&r, &l, 1, 0); /* nobody there */
    assert_true(l.state == RIG_DOWN && l.code == -YK_EGONE && l.scope == YK_SCOPE_LANE);
    rig_hang_up(&l);
    munmap(c, sizeof(*c));
    r.self = own;
    rig_close(&r);
}

/* Continued: what was begun ends as if nothing had been. */
static void stopped_and_continued(void **state) {
    struct child *c;
    pid_t pid = start_child(&c);
    struct rig r = {0};
    struct rig_lane l;
    struct rig_slice s[3];
    (void)state;
    rig_open(&r);
    r.self = c->self;
    r.region = c->region;
    rig_connect(&r, &l, 1);
    rig_pattern(r.local, RIG_BYTES / 2, 0);
    kill(pid, SIGSTOP);
    rig_fill(&s[0], YK_SLICE_WRITE, r.local, RIG_BYTES / 2, r.region, 0);
    rig_fill(&s[1], YK_SLICE_READ, r.local + RIG_BYTES / 2, RIG_BYTES / 4, r.region, 1000);
    rig_fill(&s[2], YK_SLICE_READ, r.local, RIG_BYTES / 4, r.region, 0);
    for (int i = 0; i < 3; i++)
        rig_post(&r, &l, &s[i]);
    yk_xport_tcp.flush(l.lane);
    for (int i = 0; i < 10; i++)
        yk_loop_turn(r.loop, 5 * YK_NS_PER_MS);
    kill(pid, SIGCONT);
    rig_finish(&r);
    for (int i = 0; i < 3; i++)
        assert_int_equal(s[i].slice.status, 0);
    assert_true(rig_is_pattern(r.local + RIG_BYTES / 2, RIG_BYTES / 4, 1000));
    rig_hang_up(&l);
    end_child(pid, c);
    rig_close(&r);
}

/* Restarted on the same port: the old incarnation is not there any more, and that is final. */
static void restarted(void **state) {
    struct rig r = {0};
    struct rig_lane l;
    char listen[32];
    (void)state;
    rig_open(&r);
    struct yk_peer_info before = r.self;
    rig_connect(&r, &l, 1);
    rig_server_stop(&r);
    wait_down(&r, &l);
    rig_hang_up(&l);
    snprintf(listen, sizeof(listen), "127.0.0.1:%u", before.addrs[0].port);
    r.opts.listen = listen;
    rig_server_start(&r);
    struct yk_peer_info after = r.self;
    r.self = before;
    rig_dial(&r, &l, 1, 0);
    assert_true(l.state == RIG_DOWN && l.scope == YK_SCOPE_RAIL && l.code == -YK_EGONE);
    rig_hang_up(&l);
    r.self = after;
    rig_connect(&r, &l, 1);
    rig_hang_up(&l);
    rig_close(&r);
}

/* In a process of its own: answers whoever comes. */
static void answer(int listener, const void *bytes, size_t len) {
    int c = accept(listener, NULL, NULL);
    _exit(send(c, bytes, len, MSG_NOSIGNAL) == (ssize_t)len ? 0 : 1);
}

/* A refusal by an engine of a later version, whose welcome goes on as nobody here knows. */
static size_t refusal(unsigned char *out) {
    static const char text[] = "later";
    unsigned char *p = out + YK_XANS_BYTES;
    struct yk_xans ans = {.op = YK_PROTO_HELLO, .status = -YK_EVERSION, .len = 4 + 2 + 5 + 9};
    memset(out, 0xff, YK_XANS_BYTES + ans.len);
    memcpy(p, (unsigned char[]){YK_PROTO_VERSION + 1, 0, 0, 0, 5, 0}, 6);
    memcpy(p + 6, text, 5);
    yk_xans_encode(out, &ans);
    return YK_XANS_BYTES + ans.len;
}

/* What is dialled accepts and says nothing, or nonsense, or that it speaks another version. */
static void not_an_engine(void **state) {
    static const int codes[] = {-YK_ETIMEDOUT, -YK_EPROTO, -YK_EVERSION};
    unsigned char bytes[YK_XANS_BYTES + 64];
    struct rig r = {0};
    struct rig_lane l;
    struct yk_sockaddr a;
    (void)state;
    rig_open(&r);
    for (int what = 0; what < 3; what++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(yk_sock_parse("127.0.0.1", 0, &a), 0);
        assert_int_equal(bind(fd, &a.u.any, a.len), 0);
        assert_int_equal(listen(fd, 4), 0);
        assert_int_equal(getsockname(fd, &a.u.any, &a.len), 0);
        pid_t pid = what > 0 ? fork() : -1;
        if (pid == 0 && what == 1)
            answer(fd, "HTTP/1.1 400 Bad Request\r\n\r\n", 28);
        if (pid == 0)
            answer(fd, bytes, refusal(bytes));
        r.opts.connect_ms = what > 0 ? 10000 : 100;
        rig_dial(&r, &l, 0, yk_sock_port(&a.u.any));
        assert_int_equal(l.state, RIG_DOWN);
        assert_int_equal(l.code, codes[what]);
        assert_true(what < 2 || l.scope == YK_SCOPE_RAIL); /* no use in trying it again at once */
        rig_hang_up(&l);
        close(fd);
        if (pid > 0)
            waitpid(pid, NULL, 0);
    }
    rig_close(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stopped_and_killed), cmocka_unit_test(stopped_and_continued),
        cmocka_unit_test(not_an_engine),      cmocka_unit_test(restarted),
        cmocka_unit_test(cut_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
