/* SPDX-License-Identifier: Apache-2.0
 *
 * What is refused, with which entry and why, and that nothing of it has begun; handles that are stale;
 * limits; batches that end early.
 */
#include "fake.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define BYTES (1u << 20)

static char memory[BYTES], other[65536], target[BYTES];
static yk_xfer *e;
static yk_xfer_segment segment, read_only;
static uint32_t called;

static int no_pin(void *user, uint32_t op, uint64_t d, uint64_t g, uint64_t ep, uint64_t o, uint64_t l,
                  uint64_t *ret) {
    (void)user, (void)op, (void)d, (void)g, (void)ep, (void)o, (void)l, (void)ret;
    return YK_MISS;
}
static void no_unpin(void *user, uint64_t pin) {
    (void)user, (void)pin;
}

static int setup(void **state) {
    (void)state;
    yk_xfer_opts o = {.size = sizeof(o), .transports = YK_XFER_MEM, .inflight_max = 100};
    yk_xfer_memory m[] = {
        {.addr = memory, .length = BYTES, .fd = -1},
        {.addr = target, .length = BYTES / 2, .access = YK_XFER_REMOTE_READ | YK_XFER_REMOTE_WRITE, .fd = -1},
        {.addr = target + BYTES / 2, .length = BYTES / 2, .access = YK_XFER_REMOTE_READ, .fd = -1},
    };
    memset(memory, 1, BYTES);
    memset(target, 2, BYTES);
    return yk_xfer_create(&o, &e) < 0 || yk_xfer_register(e, m, 3) < 0 ||
           yk_xfer_publish(e, "rw", target, BYTES / 2, NULL) < 0 ||
           yk_xfer_publish(e, "ro", target + BYTES / 2, BYTES / 2, NULL) < 0 ||
           yk_xfer_open(e, "rw", 0, &segment) < 0 || yk_xfer_open(e, "ro", 0, &read_only) < 0;
}

static int teardown(void **state) {
    (void)state;
    yk_xfer_destroy(e);
    return 0;
}

/* The second of three is bad; nothing of the first or third happens. */
static void refused(yk_xfer_request bad, int code, const char *text) {
    yk_xfer_request q[3] = {
        {.op = YK_XFER_WRITE, .local = memory, .segment = segment, .length = 4096},
        bad,
        {.op = YK_XFER_WRITE, .local = memory, .segment = segment, .offset = 8192, .length = 4096},
    };
    yk_xfer_batch b = 77;
    for (int i = 0; i < 2; i++) {
        int rc = i ? yk_xfer_run(e, q, 3, NULL) : yk_xfer_submit(e, q, 3, NULL, &b);
        assert_int_equal(rc, code);
        if (strstr(yk_xfer_error_text(), text) == NULL || strstr(yk_xfer_error_text(), "request 1") == NULL)
            fail_msg("'%s' should say 'request 1' and '%s'", yk_xfer_error_text(), text);
    }
    assert_int_equal(b, 77);
    for (int i = 0; i < 12288; i++)
        assert_int_equal(target[i], 2);
}

static yk_xfer_request good(void) {
    return (yk_xfer_request){
        .op = YK_XFER_READ, .local = memory, .segment = segment, .offset = 100, .length = 1000};
}

#define REFUSED(change, code, text)                                                                \
    do {                                                                                           \
        yk_xfer_request q = good();                                                                \
        change;                                                                                    \
        refused(q, code, text);                                                                    \
    } while (0)

static void bad_requests(void **state) {
    (void)state;
    yk_xfer_guard g = {.descriptor = 1};
    REFUSED(q.local = other, -YK_EINVAL, "not in registered memory");
    REFUSED(q.local = memory + BYTES - 10, -YK_EINVAL, "not in registered memory");
    REFUSED(q.local = NULL, -YK_EINVAL, "NULL");
    REFUSED(q.local = (void *)(UINTPTR_MAX - 10), -YK_EINVAL, "not in registered memory");
    REFUSED(q.length = 0, -YK_EINVAL, "length is 0");
    REFUSED(q.length = UINT64_MAX, -YK_EINVAL, "1 TiB");
    REFUSED(q.length = YK_XFER_LENGTH_MAX, -YK_EINVAL, "past the segment's end");
    REFUSED(q.offset = UINT64_MAX, -YK_EINVAL, "past the segment's end");
    REFUSED(q.offset = BYTES / 2 - 999, -YK_EINVAL, "past the segment's end");
    REFUSED(q.op = 0, -YK_EINVAL, "neither");
    REFUSED(q.op = 3, -YK_EINVAL, "neither");
    REFUSED(q.reserved = 1, -YK_EINVAL, "reserved");
    REFUSED(q.segment = 0, -YK_ENOENT, "not open");
    REFUSED(q.segment = segment + (1ull << 32), -YK_ENOENT, "not open");
    REFUSED(q.segment = UINT64_MAX, -YK_ENOENT, "not open");
    REFUSED((q.segment = read_only, q.op = YK_XFER_WRITE), -YK_EPERM, "written");
    REFUSED((q.guard = &g, q.op = YK_XFER_WRITE), -YK_EINVAL, "guard");
    REFUSED(q.guard = &g, -YK_EINVAL, "guarded");
}

static void done(void *user, yk_xfer_batch batch, int status) {
    (void)user, (void)batch, (void)status;
    __atomic_fetch_add(&called, 1, __ATOMIC_RELEASE);
}

static void bad_batches(void **state) {
    (void)state;
    yk_xfer_request q = good();
    yk_xfer_batch b;
    yk_xfer_submit_opts o = {.size = sizeof(o)};
    assert_int_equal(yk_xfer_submit(e, NULL, 1, NULL, &b), -YK_EINVAL);
    assert_int_equal(yk_xfer_submit(e, &q, 0, NULL, &b), -YK_EINVAL);
    assert_int_equal(yk_xfer_submit(e, &q, YK_XFER_BATCH_MAX + 1, NULL, &b), -YK_EINVAL);
    assert_int_equal(yk_xfer_submit(e, &q, 1, NULL, NULL), -YK_EINVAL);
    assert_int_equal(yk_xfer_submit(NULL, &q, 1, NULL, &b), -YK_EINVAL);
#define BAD_OPTS(change)                                                                           \
    o = (yk_xfer_submit_opts){.size = sizeof(o)};                                                  \
    change;                                                                                        \
    assert_int_equal(yk_xfer_submit(e, &q, 1, &o, &b), -YK_EINVAL)
    BAD_OPTS(o.size = 0);
    BAD_OPTS(o.xclass = 4);
    BAD_OPTS(o.flags = 8);
    BAD_OPTS(o.notify_bytes = 10);
    BAD_OPTS((o.notify_bytes = YK_XFER_NOTIFY_MAX + 1, o.notify = memory));
    BAD_OPTS((o.flags = YK_XFER_EVENT, o.done = done));
    o = (yk_xfer_submit_opts){.size = sizeof(o), .done = done};
    assert_int_equal(yk_xfer_run(e, &q, 1, &o), -YK_EINVAL);
    assert_int_equal(called, 0);
}

static void bad_memory(void **state) {
    (void)state;
    yk_xfer_memory m = {.addr = memory + 100, .length = 10, .fd = -1};
    void *addr = memory + 1;
    assert_int_equal(yk_xfer_register(e, &m, 1), -YK_EINVAL);
    assert_non_null(strstr(yk_xfer_error_text(), "overlap"));
    m.addr = other;
    m.length = 0;
    assert_int_equal(yk_xfer_register(e, &m, 1), -YK_EINVAL);
    m.length = YK_XFER_LENGTH_MAX + 1;
    assert_int_equal(yk_xfer_register(e, &m, 1), -YK_EINVAL);
    m = (yk_xfer_memory){.addr = other, .length = 10, .access = 8, .fd = -1};
    assert_int_equal(yk_xfer_register(e, &m, 1), -YK_EINVAL);
    yk_xfer_memory two[2] = {{.addr = other, .length = 100, .fd = -1}, {.addr = other + 50, .length = 100, .fd = -1}};
    assert_int_equal(yk_xfer_register(e, two, 2), -YK_EINVAL);
    assert_non_null(strstr(yk_xfer_error_text(), "memory 1"));
    assert_int_equal(yk_xfer_unregister(e, &addr, 1), -YK_ENOENT);
    addr = other; /* the first of the two was not kept */
    assert_int_equal(yk_xfer_unregister(e, &addr, 1), -YK_ENOENT);
    assert_int_equal(yk_xfer_register(e, NULL, 1), -YK_EINVAL);
    assert_int_equal(yk_xfer_free(e, memory), -YK_ENOENT);
    assert_int_equal(yk_xfer_alloc(e, 0, 0, &addr), -YK_EINVAL);
}

/* Freeing unregisters, if that was not done; the engine keeps nothing of it until its end. */
static void allocated_memory_is_freed_once(void **state) {
    (void)state;
    for (int first = 0; first < 2; first++) {
        void *addr;
        assert_int_equal(yk_xfer_alloc(e, 10000, 0, &addr), 0);
        if (first)
            assert_int_equal(yk_xfer_unregister(e, &addr, 1), 0);
        assert_int_equal(yk_xfer_free(e, addr), 0);
        assert_int_equal(yk_xfer_free(e, addr), -YK_ENOENT);
    }
}

static void bad_engines(void **state) {
    (void)state;
    yk_xfer *x = NULL;
    yk_xfer_resolver r = {.size = 0};
#define BAD_ENGINE(code, text, ...)                                                                \
    do {                                                                                           \
        yk_xfer_opts o = {.size = sizeof(o), __VA_ARGS__};                                         \
        assert_int_equal(yk_xfer_create(&o, &x), code);                                            \
        if (strstr(yk_xfer_error_text(), text) == NULL)                                            \
            fail_msg("'%s' should say '%s'", yk_xfer_error_text(), text);                          \
    } while (0)
    BAD_ENGINE(-YK_EINVAL, "transports", .transports = 1u << 20);
    BAD_ENGINE(-YK_EINVAL, "shards", .shards = 5);
    BAD_ENGINE(-YK_EINVAL, "lanes", .lanes = 9);
    BAD_ENGINE(-YK_EINVAL, "poll_us", .poll_us = 1001);
    BAD_ENGINE(-YK_EINVAL, "listen", .listen = "nonsense");
    BAD_ENGINE(-YK_EPERM, "insecure_network", .listen = "0.0.0.0:0");
    BAD_ENGINE(-YK_EINVAL, "advertise", .advertise = "10.0.0.1:1");
    BAD_ENGINE(-YK_EINVAL, "registry_dir", .registry_dir = "/nonexistent");
    BAD_ENGINE(-YK_EINVAL, "resolver", .resolver = &r);
    BAD_ENGINE(-YK_EINVAL, "fault", .fault = "delay");
    BAD_ENGINE(-YK_EINVAL, "expected delay", .fault = "explode:every=1");
    BAD_ENGINE(-YK_EINVAL, "every=0", .fault = "drop:every=0");
    BAD_ENGINE(-YK_EINVAL, "one of", .fault = "drop:every=2,rate=0.5");
    BAD_ENGINE(-YK_EINVAL, "rate=2", .fault = "drop:rate=2");
    yk_xfer_opts o = {.size = 3};
    assert_int_equal(yk_xfer_create(&o, &x), -YK_EINVAL);
    assert_int_equal(yk_xfer_create(NULL, NULL), -YK_EINVAL);
    assert_null(x);
    yk_xfer_destroy(NULL);
}

/* With one descriptor more each time: refused with a reason, until it works; nothing is left open. */
static void descriptors_run_out(void **state) {
    (void)state;
    struct rlimit before, few;
    yk_xfer_opts o = {.size = sizeof(o), .transports = YK_XFER_MEM, .shards = 2};
    yk_xfer *x;
    int rc = -1, next = open("/dev/null", O_RDONLY);
    assert_true(next >= 0);
    close(next);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    for (rlim_t k = 0; k < 40 && rc < 0; k++) {
        few = (struct rlimit){.rlim_cur = (rlim_t)next + k, .rlim_max = before.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
        rc = yk_xfer_create(&o, &x);
        assert_true(rc == 0 || rc == -YK_ELIMIT);
        int now = open("/dev/null", O_RDONLY);
        if (rc < 0)
            assert_int_equal(now, k > 0 ? next : -1);
        if (now >= 0)
            close(now);
    }
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(rc, 0);
    yk_xfer_destroy(x);
}

static void stale_handles(void **state) {
    (void)state;
    yk_xfer_request q = good();
    yk_xfer_batch b, again;
    yk_xfer_status s;
    yk_xfer_segment seg;
    assert_int_equal(yk_xfer_submit(e, &q, 1, NULL, &b), 0);
    assert_int_equal(yk_xfer_wait(e, b, UINT32_MAX), 0);
    assert_int_equal(yk_xfer_request_status(e, b, 1, &s), -YK_EINVAL);
    assert_int_equal(yk_xfer_batch_free(e, b), 0);
    assert_int_equal(yk_xfer_submit(e, &q, 1, NULL, &again), 0);
    for (int i = 0; (uint32_t)again != (uint32_t)b && i < 10000; i++) { /* until its slot comes again: whoever ended it
                                                                           may have held it a moment longer */
        assert_int_equal(yk_xfer_wait(e, again, UINT32_MAX), 0);
        assert_int_equal(yk_xfer_batch_free(e, again), 0);
        assert_int_equal(yk_xfer_submit(e, &q, 1, NULL, &again), 0);
    }
    assert_int_equal((uint32_t)again, (uint32_t)b);
    assert_int_equal(yk_xfer_wait(e, b, 0), -YK_ENOENT);
    assert_int_equal(yk_xfer_cancel(e, b), -YK_ENOENT);
    assert_int_equal(yk_xfer_batch_free(e, b), -YK_ENOENT);
    assert_int_equal(yk_xfer_request_status(e, b, 0, &s), -YK_ENOENT);
    assert_int_equal(yk_xfer_wait(e, UINT64_MAX, 0), -YK_ENOENT);
    assert_int_equal(yk_xfer_wait(e, again, UINT32_MAX), 0);
    assert_int_equal(yk_xfer_batch_free(e, again), 0);

    assert_int_equal(yk_xfer_open(e, "rw", 0, &seg), 0);
    q.segment = seg;
    assert_int_equal(yk_xfer_run(e, &q, 1, NULL), 0);
    assert_int_equal(yk_xfer_close(e, seg), 0);
    assert_int_equal(yk_xfer_close(e, seg), -YK_ENOENT);
    assert_int_equal(yk_xfer_run(e, &q, 1, NULL), -YK_ENOENT);
    yk_xfer_segment_info info;
    assert_int_equal(yk_xfer_segment_stat(e, seg, &info), -YK_ENOENT);
}

static void guard_of_its_own(void **state) {
    (void)state;
    yk_xfer_guard_ops ops = {.size = sizeof(ops), .pin = no_pin, .unpin = no_unpin};
    yk_xfer_guard g = {.descriptor = 1};
    yk_xfer_segment seg;
    assert_int_equal(yk_xfer_publish(e, "guarded", target + 4096, 4096, &ops), 0);
    assert_int_equal(yk_xfer_open(e, "guarded", 0, &seg), 0);
    yk_xfer_request q = {.op = YK_XFER_READ, .local = memory, .segment = seg, .length = 100, .guard = &g};
    assert_int_equal(yk_xfer_run(e, &q, 1, NULL), YK_MISS);
    assert_int_equal(yk_xfer_close(e, seg), 0);
    assert_int_equal(yk_xfer_withdraw(e, "guarded"), 0);
    ops.pin = NULL;
    assert_int_equal(yk_xfer_publish(e, "guarded", target + 4096, 4096, &ops), -YK_EINVAL);
}

static void a_freed_batch_is_not_polled(void **state) {
    (void)state;
    yk_xfer_request q = good();
    yk_xfer_submit_opts o = {.size = sizeof(o), .xclass = YK_XFER_DEMAND, .flags = YK_XFER_EVENT};
    yk_xfer_completion c;
    yk_xfer_batch b;
    assert_int_equal(yk_xfer_submit(e, &q, 1, &o, &b), 0);
    assert_int_equal(yk_xfer_wait(e, b, UINT32_MAX), 0);
    assert_int_equal(yk_xfer_batch_free(e, b), 0);
    assert_int_equal(yk_xfer_poll(e, &c, 1, 20), 0);
}

/* Who only looks whether a batch has ended does not keep it from ending. */
static void looking_is_enough(void **state) {
    (void)state;
    yk_xfer_request q = good();
    yk_xfer_submit_opts o = {.size = sizeof(o), .xclass = YK_XFER_DEMAND, .flags = YK_XFER_WILL_WAIT};
    yk_xfer_batch b;
    uint64_t end = yk_now_ns() + 20 * YK_NS_PER_S;
    assert_int_equal(yk_xfer_submit(e, &q, 1, &o, &b), 0);
    int rc;
    while ((rc = yk_xfer_wait(e, b, 0)) == -YK_EAGAIN && yk_now_ns() < end)
        sched_yield();
    assert_int_equal(rc, 0);
    assert_int_equal(yk_xfer_batch_free(e, b), 0);
}

static void in_flight_is_limited(void **state) {
    (void)state;
    static yk_xfer_request q[101];
    yk_xfer_batch b;
    for (int i = 0; i < 101; i++)
        q[i] = good();
    assert_int_equal(yk_xfer_submit(e, q, 101, NULL, &b), -YK_EINVAL); /* never would it fit */
    for (int i = 0; i < 50; i++) {
        assert_int_equal(yk_xfer_submit(e, q, 100, NULL, &b), 0);
        assert_int_equal(yk_xfer_wait(e, b, UINT32_MAX), 0);
        assert_int_equal(yk_xfer_batch_free(e, b), 0);
    }
}

static void freed_before_its_end(void **state) {
    (void)state;
    struct fake_rig rig;
    yk_xfer_batch b;
    fake_begin(&rig, 1, 1e6, 8 << 20, NULL);
    yk_xfer_request q = fake_request(&rig, YK_XFER_READ, 0, 8 << 20);
    yk_xfer_submit_opts o = {.size = sizeof(o), .done = done};
    called = 0;
    assert_int_equal(yk_xfer_submit(rig.engine, &q, 1, &o, &b), 0);
    assert_int_equal(yk_xfer_batch_free(rig.engine, b), 0);
    fake_wait(&called, 1);
    for (uint32_t i = 0; i < 20; i++) {
        o.done = NULL;
        o.flags = i % 2 ? YK_XFER_EVENT : 0;
        assert_int_equal(yk_xfer_submit(rig.engine, &q, 1, &o, &b), 0);
        assert_int_equal(yk_xfer_batch_free(rig.engine, b), 0);
        assert_int_equal(yk_xfer_wait(rig.engine, b, 0), -YK_ENOENT);
    }
    fake_end(&rig);
    (void)poll(NULL, 0, 5);
    assert_int_equal(called, 1); /* once */
}

/* A wait that gives up leaves the batch to the engine's thread. */
static void waits_that_give_up(void **state) {
    (void)state;
    struct fake_rig rig;
    yk_xfer_batch b;
    yk_xfer_completion c;
    fake_begin(&rig, 1, 50e6, 4 << 20, NULL);
    yk_xfer_request q = fake_request(&rig, YK_XFER_READ, 0, 4 << 20);
    yk_xfer_submit_opts o = {.size = sizeof(o), .flags = YK_XFER_WILL_WAIT};
    assert_int_equal(yk_xfer_submit(rig.engine, &q, 1, &o, &b), 0);
    assert_int_equal(yk_xfer_wait(rig.engine, b, 0), -YK_EAGAIN);
    assert_int_equal(yk_xfer_wait(rig.engine, b, 5), -YK_EAGAIN);
    yk_xfer_status s = {.status = -YK_EAGAIN};
    uint64_t end = yk_now_ns() + 10 * YK_NS_PER_S;
    while (s.status == -YK_EAGAIN && yk_now_ns() < end)
        assert_int_equal(yk_xfer_request_status(rig.engine, b, 0, &s), 0);
    assert_int_equal(s.status, 0);
    assert_int_equal(yk_xfer_wait(rig.engine, b, UINT32_MAX), 0);
    assert_int_equal(yk_xfer_batch_free(rig.engine, b), 0);
    assert_int_equal(yk_xfer_poll(rig.engine, &c, 1, 2), 0);
    o.flags = YK_XFER_EVENT;
    assert_int_equal(yk_xfer_submit(rig.engine, &q, 1, &o, &b), 0);
    assert_int_equal(yk_xfer_poll(rig.engine, &c, 1, 10000), 1);
    assert_int_equal(yk_xfer_batch_free(rig.engine, b), 0);
    fake_end(&rig);
}

static void a_forked_child_is_refused(void **state) {
    (void)state;
    yk_xfer_request q = good();
    pid_t pid = fork();
    if (pid == 0) {
        yk_xfer_note n;
        int ok = yk_xfer_run(e, &q, 1, NULL) == -YK_EFORK && yk_xfer_note_next(e, &n) == -YK_EFORK;
        yk_xfer_destroy(e); /* does nothing */
        _exit(ok ? 0 : 1);
    }
    int status = 1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(yk_xfer_run(e, &q, 1, NULL), 0);
}

static void views(void **state) {
    (void)state;
    char *json = NULL;
    yk_xfer_request q = good();
    yk_xfer_batch b;
    assert_int_equal(yk_xfer_submit(e, &q, 1, NULL, &b), 0);
    assert_int_equal(yk_xfer_wait(e, b, UINT32_MAX), 0);
    assert_int_equal(yk_xfer_batch_free(e, b), 0);
    assert_int_equal(yk_xfer_links_json(e, &json), 0);
    assert_non_null(strstr(json, "\"transport\": \"mem\""));
    free(json);
    assert_int_equal(yk_xfer_explain_json(e, segment, 1 << 20, YK_XFER_READ, &json), 0);
    assert_non_null(strstr(json, "predicted"));
    free(json);
    assert_int_equal(yk_xfer_explain_json(e, 12345, 1, YK_XFER_READ, &json), -YK_ENOENT);
    assert_int_equal(yk_xfer_explain_json(e, segment, 1, 9, &json), -YK_EINVAL);
    assert_int_equal(yk_xfer_links_json(e, NULL), -YK_EINVAL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_requests),
        cmocka_unit_test(bad_batches),
        cmocka_unit_test(bad_memory),
        cmocka_unit_test(allocated_memory_is_freed_once),
        cmocka_unit_test(bad_engines),
        cmocka_unit_test(descriptors_run_out),
        cmocka_unit_test(stale_handles),
        cmocka_unit_test(guard_of_its_own),
        cmocka_unit_test(in_flight_is_limited),
        cmocka_unit_test(freed_before_its_end),
        cmocka_unit_test(a_freed_batch_is_not_polled),
        cmocka_unit_test(looking_is_enough),
        cmocka_unit_test(waits_that_give_up),
        cmocka_unit_test(a_forked_child_is_refused),
        cmocka_unit_test(views),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
