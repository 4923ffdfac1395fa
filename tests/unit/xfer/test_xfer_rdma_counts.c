/* SPDX-License-Identifier: Apache-2.0
 *
 * What a slice over RDMA costs, counted and not timed: work requests, doorbells, completions, and system calls of both
 * ends. It needs devices, which is why it is run in a guest (tests/vm/test_rdma.py); without YOLK_RDMA_LISTEN all
 * is skipped.
 *
 *   YOLK_RDMA_LISTEN  where the target listens: "10.99.0.2:7712", an address of a device
 *
 * The target is a process of its own, forked before there is an engine here. It answers each byte with what its devices
 * have counted. Counts are of what happened, so that they hold on a machine of any speed; what depends on who was
 * quicker (whether a completion was slept for) has bounds with room.
 *
 * On rxe a doorbell, and arming a completion queue, is a system call each; hardware has none of them.
 */
#include <yolk/transfer.h>

#include "rdma_devices.h"
#include "system_calls.h"

#include "base/clock.h"
#include "base/status.h"
#include "xfer/rdma/rdma_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define BYTES      (16u << 20) /* of the segment, and of the memory here */
#define TIMEOUT_MS 120000u     /* of a batch: an emulated guest is slow */
#define LOOK_S     240u        /* for what must come in the end */
#define DEVICES    16u
#define REQUESTS   128u        /* of a batch */
/* System calls at most, of a slice that shares nothing with others: */
#define ALONE      6u  /* doorbell, arming, the sleep, and three reads: event, no other event, what woke the loop */
#define MESSAGE    4u  /* of a message of the stream and its answer: sent, slept for, received, nothing more there */
#define AROUND     64u /* of a batch: submitted, waited for */
#define TIMED      8u  /* of a second: a slow machine has many in one batch */

static const char *listen_at;

/* ---- both ends ------------------------------------------------------------------------------------------ */

static int pin_all(void *user, uint32_t op, uint64_t descriptor, uint64_t generation, uint64_t epoch, uint64_t offset,
                   uint64_t length, uint64_t *ret_pin) {
    *ret_pin = offset + length;
    return 0;
}

static void unpin_all(void *user, uint64_t pin) {
}

static yk_xfer *engine_of(const char *where, char *memory, const char *dir) {
    yk_xfer_guard_ops guards = {.size = sizeof(guards), .pin = pin_all, .unpin = unpin_all};
    yk_xfer *e;
    yk_xfer_opts o = {.size = sizeof(o), .transports = YK_XFER_RDMA | YK_XFER_TCP, .listen = where,
                      .insecure_network = 1, .shm_dir = "", .registry_dir = dir, .stall_ms = 5000, .connect_ms = 30000};
    yk_xfer_memory m = {.addr = memory, .length = BYTES, .access = YK_XFER_REMOTE_READ | YK_XFER_REMOTE_WRITE, .fd = -1};
    int rc = yk_xfer_create(&o, &e);
    if (rc == 0)
        rc = yk_xfer_register(e, &m, 1);
    if (rc == 0 && where != NULL)
        rc = yk_xfer_publish(e, "counts", memory, BYTES, &guards);
    if (rc < 0)
        fprintf(stderr, "an engine: %s\n", yk_xfer_error_text());
    return rc < 0 ? NULL : e;
}

static char *shared_memory(void) {
    void *memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(memory != MAP_FAILED);
    return memory;
}

/* All devices of this process together. */
static struct yk_device_counts counts_here(void) {
    struct yk_device_counts each[DEVICES], sum = {.name = "all"};
    uint32_t n = yk_rdma_devices(each, DEVICES);
    for (uint32_t i = 0; i < n; i++) {
        sum.requests += each[i].requests;
        sum.signalled += each[i].signalled;
        sum.doorbells += each[i].doorbells;
        sum.completions += each[i].completions;
        sum.wakeups += each[i].wakeups;
        sum.arms += each[i].arms;
        sum.bytes += each[i].bytes;
    }
    return sum;
}

/* ---- the target ------------------------------------------------------------------------------------------ */

struct rig {
    pid_t pid;
    int ask, hear; /* ask: closed, the target ends well */
    char dir[64];
    char *there, *here; /* its memory, and ours */
    yk_xfer *engine;
    yk_xfer_segment segment;
};

static void target_main(struct rig *r, int asked, int answer) {
    char byte = 0;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    yk_xfer *e = engine_of(listen_at, r->there, r->dir);
    if (e == NULL || write(answer, &byte, 1) != 1)
        _exit(1);
    while (read(asked, &byte, 1) > 0) {
        struct yk_device_counts c = counts_here();
        if (write(answer, &c, sizeof(c)) != (ssize_t)sizeof(c))
            _exit(1);
    }
    yk_xfer_destroy(e);
    _exit(0);
}

static struct yk_device_counts counts_there(struct rig *r) {
    struct yk_device_counts c;
    assert_int_equal(write(r->ask, "?", 1), 1);
    assert_int_equal(read(r->hear, &c, sizeof(c)), sizeof(c));
    return c;
}

static void rig_open(struct rig *r) {
    int down[2], up[2];
    char byte;
    snprintf(r->dir, sizeof(r->dir), "/tmp/yk-counts-XXXXXX");
    assert_non_null(mkdtemp(r->dir));
    r->there = shared_memory();
    r->here = shared_memory();
    assert_int_equal(pipe(down), 0);
    assert_int_equal(pipe(up), 0);
    r->pid = fork();
    assert_true(r->pid >= 0);
    if (r->pid == 0) {
        close(down[1]);
        close(up[0]);
        target_main(r, down[0], up[1]);
    }
    close(down[0]);
    close(up[1]);
    r->ask = down[1];
    r->hear = up[0];
    assert_int_equal(read(r->hear, &byte, 1), 1);
    r->engine = engine_of(NULL, r->here, r->dir);
    assert_non_null(r->engine);
    if (yk_xfer_open(r->engine, "counts", TIMEOUT_MS, &r->segment) < 0)
        fail_msg("%s", yk_xfer_error_text());
}

static void rig_close(struct rig *r) {
    char command[100];
    int status;
    yk_xfer_destroy(r->engine);
    close(r->ask);
    close(r->hear);
    assert_int_equal(waitpid(r->pid, &status, 0), r->pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    munmap(r->there, BYTES);
    munmap(r->here, BYTES);
    snprintf(command, sizeof(command), "rm -r %s", r->dir);
    assert_int_equal(system(command), 0);
}

/* ---- loads ------------------------------------------------------------------------------------------------ */

static yk_xfer_guard guard = {.descriptor = 7, .generation = 3, .epoch = 1};

/* n requests of `bytes`, one behind the other, as one batch; every byte is looked at. */
static void move(struct rig *r, uint32_t op, uint32_t n, uint32_t bytes, int guarded) {
    static yk_xfer_request q[REQUESTS];
    static uint32_t seed;
    yk_xfer_submit_opts so = {.size = sizeof(so), .xclass = YK_XFER_DEMAND, .timeout_ms = TIMEOUT_MS};
    yk_xfer_batch b;
    char *from = op == YK_XFER_READ ? r->there : r->here, *to = op == YK_XFER_READ ? r->here : r->there;
    seed++;
    for (uint32_t i = 0; i < n * bytes; i += 4)
        memcpy(from + i, &(uint32_t){i * 2654435761u + seed}, 4);
    for (uint32_t i = 0; i < n; i++)
        q[i] = (yk_xfer_request){.op = op, .local = r->here + (uint64_t)i * bytes, .segment = r->segment,
                                 .offset = (uint64_t)i * bytes, .length = bytes, .guard = guarded ? &guard : NULL};
    assert_int_equal(yk_xfer_submit(r->engine, q, n, &so, &b), 0);
    assert_int_equal(yk_xfer_wait(r->engine, b, UINT32_MAX), 0);
    assert_int_equal(yk_xfer_batch_free(r->engine, b), 0);
    assert_memory_equal(to, from, n * bytes);
}

struct moved {
    uint64_t slices, bytes, failed; /* of rails over RDMA */
    uint64_t other;                 /* slices of other rails */
};

static struct moved moved_by_rails(struct rig *r) {
    struct moved m = {0};
    json_t *shard, *peer, *rail;
    size_t i, k, l;
    char *text;
    assert_int_equal(yk_xfer_links_json(r->engine, &text), 0);
    json_t *root = json_loads(text, 0, NULL);
    assert_non_null(root);
    json_array_foreach(json_object_get(root, "shards"), i, shard)
        json_array_foreach(json_object_get(shard, "peers"), k, peer)
            json_array_foreach(json_object_get(peer, "rails"), l, rail) {
                uint64_t slices = (uint64_t)json_integer_value(json_object_get(rail, "slices"));
                if (strcmp(json_string_value(json_object_get(rail, "transport")), "rdma") != 0) {
                    m.other += slices;
                    continue;
                }
                m.slices += slices;
                m.bytes += (uint64_t)json_integer_value(json_object_get(rail, "bytes"));
                m.failed += (uint64_t)json_integer_value(json_object_get(rail, "failed"));
            }
    json_decref(root);
    free(text);
    return m;
}

/* Until RDMA has everything, and this side has the key to all of the segment. */
static void warm(struct rig *r, uint32_t op) {
    uint64_t until = yk_now_ns() + LOOK_S * YK_NS_PER_S;
    struct moved before, after;
    do {
        assert_true(yk_now_ns() < until);
        before = moved_by_rails(r);
        move(r, op, 16, 1u << 20, 0);
        after = moved_by_rails(r);
    } while (after.other > before.other || after.bytes - before.bytes < BYTES);
}

/* One load with what it cost. A load during which a lane failed, or another way was taken, says nothing of the cost of
 * a slice: it is done again. */
struct cost {
    struct yk_device_counts here, there;
    uint64_t slices, calls_here, calls_there;
    uint64_t by_time; /* calls that may be due to time that passed: timers, signs of life */
};

static struct yk_device_counts difference(struct yk_device_counts a, struct yk_device_counts b) {
    return (struct yk_device_counts){.requests = b.requests - a.requests,
                                     .signalled = b.signalled - a.signalled,
                                     .doorbells = b.doorbells - a.doorbells,
                                     .completions = b.completions - a.completions,
                                     .wakeups = b.wakeups - a.wakeups,
                                     .arms = b.arms - a.arms,
                                     .bytes = b.bytes - a.bytes};
}

static void tell(const char *what, const char *end, const struct yk_device_counts *c, uint64_t slices) {
    print_message("%s, %s: %llu slices, %llu work requests (%llu signalled), %llu doorbells, %llu completions, %llu "
                  "wake-ups, %llu arms, %llu bytes\n",
                  what, end, (unsigned long long)slices, (unsigned long long)c->requests,
                  (unsigned long long)c->signalled, (unsigned long long)c->doorbells,
                  (unsigned long long)c->completions, (unsigned long long)c->wakeups, (unsigned long long)c->arms,
                  (unsigned long long)c->bytes);
}

static struct cost cost_of(struct rig *r, const char *what, uint32_t op, uint32_t n, uint32_t bytes, int guarded) {
    uint64_t until = yk_now_ns() + LOOK_S * YK_NS_PER_S;
    struct system_calls ours, theirs;
    struct moved before, after;
    struct cost c;
    char who[80];
    do {
        assert_true(yk_now_ns() < until);
        warm(r, op);
        before = moved_by_rails(r);
        c.there = counts_there(r);
        c.here = counts_here();
        system_calls_of(getpid(), &ours);
        system_calls_of(r->pid, &theirs);
        uint64_t began = yk_now_ns();
        move(r, op, n, bytes, guarded);
        c.by_time = TIMED * ((yk_now_ns() - began) / YK_NS_PER_S);
        snprintf(who, sizeof(who), "%s, initiator", what);
        c.calls_here = system_calls_since(getpid(), &ours, who);
        snprintf(who, sizeof(who), "%s, target", what);
        c.calls_there = system_calls_since(r->pid, &theirs, who);
        c.here = difference(c.here, counts_here());
        c.there = difference(c.there, counts_there(r));
        after = moved_by_rails(r);
    } while (after.failed > before.failed || after.other > before.other);
    c.slices = after.slices - before.slices;
    tell(what, "initiator", &c.here, c.slices);
    tell(what, "target", &c.there, c.slices);
    return c;
}

/* ---- cases --------------------------------------------------------------------------------------------------- */

#define NEEDS_DEVICES                                                                              \
    if (listen_at == NULL) {                                                                       \
        print_message("YOLK_RDMA_LISTEN is not set: no RDMA devices to test with\n");              \
        skip();                                                                                    \
    }

/* What holds of every queue pair that has nothing under way. */
static void assert_whole(const struct yk_device_counts *c) {
    assert_int_equal(c->completions, c->signalled); /* each that asked has had one, and nobody else */
    assert_true(c->signalled <= c->requests);
    assert_true(c->doorbells <= c->signalled); /* the last of a list asks */
    assert_true(c->arms <= c->doorbells + c->wakeups);
    assert_true(c->wakeups <= c->completions + 1); /* an event may be left of what was polled before */
}

static void a_read_is_one_request_of_this_side(void **state) {
    struct rig r;
    NEEDS_DEVICES
    rig_open(&r);
    struct cost c = cost_of(&r, "read 64 KiB", YK_XFER_READ, REQUESTS, 64u << 10, 0);
    assert_whole(&c.here);
    assert_int_equal(c.here.requests, c.slices);
    assert_int_equal(c.here.bytes, REQUESTS * (64u << 10)); /* all of it, and none over the stream */
    assert_int_equal(c.there.requests, 0);
    /* Nobody at the target has anything to do; what there is are signs of life, and our question for its counts. */
    assert_true(c.calls_there <= c.slices / 4 + c.by_time);
    assert_true(c.calls_here <= ALONE * c.slices + AROUND + c.by_time);
    rig_close(&r);
}

static void small_reads_share_doorbells_and_completions(void **state) {
    struct rig r;
    NEEDS_DEVICES
    rig_open(&r);
    struct cost c = cost_of(&r, "read 4 KiB", YK_XFER_READ, REQUESTS, 4u << 10, 0);
    assert_whole(&c.here);
    assert_int_equal(c.here.requests, c.slices);
    assert_int_equal(c.here.bytes, REQUESTS * (4u << 10));
    assert_true(c.here.doorbells <= c.slices / 2); /* 16 requests are a list when they are there at once */
    assert_true(c.here.completions <= c.slices / 2);
    assert_true(c.calls_here <= ALONE * c.slices / 2 + AROUND + c.by_time);
    assert_true(c.calls_there <= c.slices / 4 + c.by_time);
    rig_close(&r);
}

static void a_guarded_read_is_one_request_and_two_messages(void **state) {
    struct rig r;
    NEEDS_DEVICES
    rig_open(&r);
    struct cost c = cost_of(&r, "guarded read 64 KiB", YK_XFER_READ, REQUESTS, 64u << 10, 1);
    assert_whole(&c.here);
    assert_int_equal(c.here.requests, c.slices);
    assert_int_equal(c.here.bytes, REQUESTS * (64u << 10));
    assert_int_equal(c.there.requests, 0);
    assert_true(c.calls_here <= (ALONE + 2 * MESSAGE) * c.slices + AROUND + c.by_time);
    assert_true(c.calls_there <= 2 * MESSAGE * c.slices + AROUND + c.by_time);
    rig_close(&r);
}

/* A write is a read by the target (record 0019): its device, its completions. */
static void a_write_is_one_request_of_the_target(void **state) {
    struct rig r;
    NEEDS_DEVICES
    rig_open(&r);
    struct cost c = cost_of(&r, "write 64 KiB", YK_XFER_WRITE, REQUESTS, 64u << 10, 0);
    assert_whole(&c.there);
    assert_int_equal(c.there.requests, c.slices);
    assert_int_equal(c.there.bytes, REQUESTS * (64u << 10));
    assert_int_equal(c.here.requests, 0);
    assert_true(c.calls_here <= MESSAGE * c.slices + AROUND + c.by_time);
    assert_true(c.calls_there <= (ALONE + MESSAGE) * c.slices + AROUND + c.by_time);
    rig_close(&r);
}

/* The table of links shows them, by device. */
static void the_table_of_links_has_them(void **state) {
    struct rig r;
    char *text;
    NEEDS_DEVICES
    rig_open(&r);
    warm(&r, YK_XFER_READ);
    assert_int_equal(yk_xfer_links_json(r.engine, &text), 0);
    json_t *root = json_loads(text, 0, NULL), *devices = json_object_get(root, "devices"), *device;
    uint64_t bytes = 0, requests = 0;
    size_t i;
    json_array_foreach(devices, i, device) {
        assert_true(json_string_length(json_object_get(device, "device")) > 0);
        bytes += (uint64_t)json_integer_value(json_object_get(device, "bytes"));
        requests += (uint64_t)json_integer_value(json_object_get(device, "requests"));
    }
    struct yk_device_counts all = counts_here();
    assert_int_equal(bytes, all.bytes);
    assert_int_equal(requests, all.requests);
    assert_true(bytes >= BYTES);
    json_decref(root);
    free(text);
    rig_close(&r);
}

static int setup(void **state) {
    listen_at = getenv("YOLK_RDMA_LISTEN");
    if (listen_at != NULL && system_calls_begin() < 0)
        fail_msg("system calls cannot be counted: no tracefs, or not root");
    return 0;
}

static int teardown(void **state) {
    if (listen_at != NULL)
        system_calls_end();
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_read_is_one_request_of_this_side),
        cmocka_unit_test(small_reads_share_doorbells_and_completions),
        cmocka_unit_test(a_guarded_read_is_one_request_and_two_messages),
        cmocka_unit_test(a_write_is_one_request_of_the_target),
        cmocka_unit_test(the_table_of_links_has_them),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
