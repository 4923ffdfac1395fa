/* SPDX-License-Identifier: Apache-2.0
 *
 * Two engines over RDMA devices that are soft_verbs.c: what hardware, and a guest's emulation, do not do on request. All
 * else of the engine is real, the streams of its lanes, which go over loopback, too.
 */
#include "soft_verbs.h"

#include "base/clock.h"
#include "xfer/engine_priv.h"
#include "xfer/rdma/rdma_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BYTES      (8u << 20)
#define TIMEOUT_MS 60000u
#define LOOK_NS    (60 * YK_NS_PER_S) /* for what must come */

static struct {
    char dir[64];
    char *there, *here;
    yk_xfer *target, *engine;
    yk_xfer_segment segment;
} rig;

static struct {
    uint32_t pins, unpins; /* atomic */
    uint32_t held[BYTES >> 12]; /* atomic: pins of each 4 KiB of the segment */
    uint32_t bare; /* atomic: reads of its memory without a pin */
    int watched;
} guards;

/* ---- the rig -------------------------------------------------------------------------------------------- */

static void hold(uint64_t pin, uint32_t more) {
    for (uint64_t i = (pin & 0xffffffff) >> 12; i < ((pin & 0xffffffff) + (pin >> 32) + 4095) >> 12; i++)
        __atomic_fetch_add(&guards.held[i], more, __ATOMIC_SEQ_CST);
}

static int pin(void *user, uint32_t op, uint64_t descriptor, uint64_t generation, uint64_t epoch, uint64_t offset,
               uint64_t length, uint64_t *ret_pin) {
    (void)user, (void)op, (void)descriptor, (void)generation, (void)epoch;
    *ret_pin = length << 32 | offset;
    hold(*ret_pin, 1);
    __atomic_fetch_add(&guards.pins, 1, __ATOMIC_SEQ_CST);
    return 0;
}

static void unpin(void *user, uint64_t pin_) {
    (void)user;
    hold(pin_, UINT32_MAX);
    __atomic_fetch_add(&guards.unpins, 1, __ATOMIC_SEQ_CST);
}

/* A device reads: of the segment, only what is pinned. */
static void on_read(const void *addr, uint64_t len) {
    const char *at = addr;
    if (at < rig.there || at >= rig.there + BYTES)
        return;
    for (uint64_t i = (uint64_t)(at - rig.there) >> 12; i < ((uint64_t)(at - rig.there) + len + 4095) >> 12; i++)
        if (__atomic_load_n(&guards.held[i], __ATOMIC_SEQ_CST) == 0)
            __atomic_fetch_add(&guards.bare, 1, __ATOMIC_SEQ_CST);
}

static yk_xfer *engine_of(const char *listen, const char *rdma) {
    yk_xfer_opts o = {.size = sizeof(o), .transports = YK_XFER_RDMA | YK_XFER_TCP, .listen = listen,
                      .insecure_network = 1, .shm_dir = "", .registry_dir = rig.dir, .rdma = rdma};
    yk_xfer *e;
    if (yk_xfer_create(&o, &e) < 0)
        fail_msg("%s", yk_xfer_error_text());
    return e;
}

/* Bits of devices: that do not open yet; that are emulated. */
static void begin_with(uint32_t devices, uint32_t hang, uint32_t emulated) {
    yk_xfer_guard_ops ops = {.size = sizeof(ops), .pin = pin, .unpin = unpin};
    soft_begin(devices);
    soft_hang(hang, 0);
    soft_untrue(emulated, 0);
    memset(&guards, 0, sizeof(guards));
    snprintf(rig.dir, sizeof(rig.dir), "/tmp/yk-soft-XXXXXX");
    assert_non_null(mkdtemp(rig.dir));
    rig.there = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    rig.here = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(rig.there != MAP_FAILED && rig.here != MAP_FAILED);
    rig.target = engine_of("127.0.0.1:0", NULL);
    yk_xfer_memory m = {.addr = rig.there, .length = BYTES, .access = YK_XFER_REMOTE_READ | YK_XFER_REMOTE_WRITE, .fd = -1};
    assert_int_equal(yk_xfer_register(rig.target, &m, 1), 0);
    assert_int_equal(yk_xfer_publish(rig.target, "soft", rig.there, BYTES, &ops), 0);
    rig.engine = engine_of(NULL, NULL);
    m = (yk_xfer_memory){.addr = rig.here, .length = BYTES, .fd = -1};
    assert_int_equal(yk_xfer_register(rig.engine, &m, 1), 0);
    if (yk_xfer_open(rig.engine, "soft", TIMEOUT_MS, &rig.segment) < 0)
        fail_msg("%s", yk_xfer_error_text());
}

static void begin(uint32_t devices) {
    begin_with(devices, 0, 0);
}

/* Nothing is left of what was made, though a helper keeps a device for a while. */
static void end(void) {
    char command[100];
    yk_xfer_destroy(rig.engine);
    yk_xfer_destroy(rig.target);
    soft_end();
    munmap(rig.there, BYTES);
    munmap(rig.here, BYTES);
    snprintf(command, sizeof(command), "rm -r %s", rig.dir);
    assert_int_equal(system(command), 0);
}

static yk_xfer_guard guard = {.descriptor = 7, .generation = 3, .epoch = 1};

/* What orders this with the other engine's threads goes through sockets, which a race detector does not follow. */
__attribute__((no_sanitize("thread"))) static void fill(char *from, uint32_t bytes, uint32_t seed) {
    for (uint32_t i = 0; i < bytes / 4; i++)
        ((uint32_t *)(void *)from)[i] = i * 2654435761u + seed;
}

/* n requests of `bytes`, one behind the other; every byte is looked at. */
static void move(uint32_t op, uint32_t n, uint32_t bytes, int guarded) {
    static yk_xfer_request q[128];
    static uint32_t seed;
    yk_xfer_submit_opts so = {.size = sizeof(so), .xclass = YK_XFER_DEMAND, .timeout_ms = TIMEOUT_MS};
    char *from = op == YK_XFER_READ ? rig.there : rig.here, *to = op == YK_XFER_READ ? rig.here : rig.there;
    fill(from, n * bytes, ++seed);
    for (uint32_t i = 0; i < n; i++)
        q[i] = (yk_xfer_request){.op = op, .local = rig.here + (uint64_t)i * bytes, .segment = rig.segment,
                                 .offset = (uint64_t)i * bytes, .length = bytes, .guard = guarded ? &guard : NULL};
    if (yk_xfer_run(rig.engine, q, n, &so) != 0)
        fail_msg("%s", yk_xfer_error_text());
    assert_memory_equal(to, from, n * bytes);
}

static uint64_t bytes_by(uint32_t device) {
    return soft_now().bytes[device];
}

/* Until that device moves what is moved. */
static void until_moved_by(uint32_t device, uint32_t op) {
    uint64_t until = yk_now_ns() + LOOK_NS, before;
    do {
        assert_true(yk_now_ns() < until);
        before = bytes_by(device);
        move(op, 16, 256u << 10, 0);
        (void)poll(NULL, 0, 5);
    } while (bytes_by(device) == before);
}

static struct yk_device_counts counts_of(const char *name) {
    struct yk_device_counts c[YK_RDMA_DEVICES_MAX];
    uint32_t n = yk_rdma_devices(c, YK_RDMA_DEVICES_MAX);
    for (uint32_t i = 0; i < n; i++)
        if (strcmp(c[i].name, name) == 0)
            return c[i];
    return (struct yk_device_counts){.requests = 0};
}

/* ---- cases ---------------------------------------------------------------------------------------------- */

static void bytes_go_by_devices(void **state) {
    (void)state;
    begin(2);
    until_moved_by(1, YK_XFER_READ);
    until_moved_by(0, YK_XFER_WRITE);
    move(YK_XFER_READ, 128, 64u << 10, 1);
    move(YK_XFER_WRITE, 128, 64u << 10, 1);
    move(YK_XFER_READ, 100, 4096, 0);
    assert_int_equal(soft_now().refused, 0);
    end();
}

/* What answers and requests that come together lead to is posted together: guarded reads by the initiator, writes by the
 * target. Each read is under its pin, and pins go back. */
static void doorbells_are_shared(void **state) {
    (void)state;
    begin(2);
    soft_on_read(NULL);
    until_moved_by(1, YK_XFER_READ);
    until_moved_by(0, YK_XFER_WRITE);
    for (uint32_t op = YK_XFER_READ; op <= YK_XFER_WRITE; op++) {
        const char *device = op == YK_XFER_READ ? "soft1" : "soft0";
        struct yk_device_counts before = counts_of(device), after;
        soft_on_read(op == YK_XFER_READ ? on_read : NULL);
        for (int i = 0; i < 4; i++)
            move(op, 128, 64u << 10, 1);
        soft_on_read(NULL);
        after = counts_of(device);
        assert_true(after.requests - before.requests >= 256); /* the rest went beside them */
        print_message("%s: %llu requests, %llu doorbells\n", device,
                      (unsigned long long)(after.requests - before.requests),
                      (unsigned long long)(after.doorbells - before.doorbells));
        assert_true((after.doorbells - before.doorbells) * 2 <= after.requests - before.requests);
    }
    uint64_t until = yk_now_ns() + LOOK_NS;
    while (__atomic_load_n(&guards.unpins, __ATOMIC_SEQ_CST) != __atomic_load_n(&guards.pins, __ATOMIC_SEQ_CST) &&
           yk_now_ns() < until)
        (void)poll(NULL, 0, 5);
    assert_int_equal(guards.pins, guards.unpins);
    assert_int_equal(guards.bare, 0);
    assert_int_equal(soft_now().refused, 0);
    end();
}

/* A device that does not open holds up neither the thread that wants a lane over it, nor who unregisters; when it does
 * open it is used. */
static void a_device_that_does_not_open(void **state) {
    (void)state;
    begin_with(2, 2, 0);
    move(YK_XFER_READ, 16, 256u << 10, 0);
    move(YK_XFER_WRITE, 16, 256u << 10, 0);
    void *addr = rig.here;
    assert_int_equal(yk_xfer_unregister(rig.engine, &addr, 1), 0);
    assert_int_equal(soft_now().hanging, 1);
    assert_int_equal(bytes_by(1), 0);
    yk_xfer_memory m = {.addr = rig.here, .length = BYTES, .fd = -1};
    soft_hang(0, 0);
    assert_int_equal(yk_xfer_register(rig.engine, &m, 1), 0);
    until_moved_by(1, YK_XFER_READ);
    end();
}

/* One that hangs in a registration: who unregisters that memory is told, and the rest goes on. */
static void a_device_that_does_not_register(void **state) {
    (void)state;
    begin(2);
    until_moved_by(1, YK_XFER_READ);
    char *more = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    yk_xfer_memory m = {.addr = more, .length = BYTES, .fd = -1};
    void *addr = more;
    soft_hang(0, 2);
    assert_int_equal(yk_xfer_register(rig.engine, &m, 1), 0);
    uint64_t until = yk_now_ns() + LOOK_NS;
    while (soft_now().hanging == 0 && yk_now_ns() < until)
        (void)poll(NULL, 0, 1);
    rig.engine->unregister_ns = 20 * YK_NS_PER_MS;
    assert_int_equal(yk_xfer_unregister(rig.engine, &addr, 1), -YK_ETIMEDOUT);
    move(YK_XFER_READ, 16, 256u << 10, 0);
    rig.engine->unregister_ns = LOOK_NS;
    soft_hang(0, 0);
    assert_int_equal(yk_xfer_unregister(rig.engine, &addr, 1), 0);
    munmap(more, BYTES);
    end();
}

/* Keys reach the segment's memory and no byte beside it, and none lets a peer write: not to what it may read, and not to
 * what it may write by requests. */
static void keys_are_for_reading(void **state) {
    (void)state;
    begin(2);
    until_moved_by(1, YK_XFER_READ);
    until_moved_by(0, YK_XFER_WRITE);
    uint64_t there = (uint64_t)(uintptr_t)rig.there;
    uint32_t readable = 0;
    for (uint32_t key = 1; key < 4096; key++)
        for (uint32_t d = 0; d < 2; d++) {
            readable += (uint32_t)soft_may(d, key, there, BYTES, 0);
            assert_false(soft_may(d, key, there, 1, 1) || soft_may(d, key, there + BYTES - 1, 1, 1));
            assert_false(soft_may(d, key, (uint64_t)(uintptr_t)rig.here, 1, 1));
            assert_false(soft_may(d, key, there - 1, 2, 0) || soft_may(d, key, there + BYTES - 1, 2, 0));
        }
    assert_true(readable > 0);
    end();
}

/* A device that is taken out while bytes go over it: no request fails, it lets go of all memory, and one that comes in its
 * place is told of it and used. */
static void a_device_is_taken_out_and_put_back(void **state) {
    (void)state;
    begin(2);
    until_moved_by(1, YK_XFER_READ);
    for (int i = 0; i < 2; i++) {
        struct soft before = soft_now();
        soft_take_out(1);
        uint64_t until = yk_now_ns() + LOOK_NS;
        while (soft_now().closed == before.closed) {
            assert_true(yk_now_ns() < until);
            move(YK_XFER_READ, 16, 256u << 10, 1);
            move(YK_XFER_WRITE, 16, 256u << 10, 0);
        }
        assert_int_equal(soft_now().opened, before.opened);
        soft_put_back(1);
        until_moved_by(1, YK_XFER_READ);
        assert_int_equal(soft_now().opened, before.opened + 1);
    }
    end();
}

/* An address that becomes another one: a rail to it is found, without another engine. */
static void an_address_becomes_another(void **state) {
    (void)state;
    begin(2);
    until_moved_by(1, YK_XFER_READ);
    soft_take_out(1);
    soft_host(1, "127.0.0.77");
    until_moved_by(1, YK_XFER_READ);
    move(YK_XFER_READ, 128, 64u << 10, 1);
    char *text;
    assert_int_equal(yk_xfer_links_json(rig.engine, &text), 0);
    assert_non_null(strstr(text, "127.0.0.77"));
    free(text);
    end();
}

/* Requests until no more untrue completion is to come. */
static void until_untrue(uint32_t op, uint32_t n, uint32_t bytes, int guarded, uint32_t reads) {
    uint64_t until = yk_now_ns() + LOOK_NS;
    until_moved_by(op == YK_XFER_READ ? 1 : 0, op);
    soft_untrue(3, reads);
    while (soft_now().untrue > 0) {
        assert_true(yk_now_ns() < until);
        move(op, n, bytes, guarded);
    }
}

/* An emulated device says of reads that they are complete, and nothing has come, or not all, and the queue pair fails or goes
 * on: no byte is taken for read, and no request fails. Not for reads either that have no completion of their own. Reads that
 * are too short to tell go another way. */
static void completions_that_are_untrue(void **state) {
    (void)state;
    begin_with(2, 0, 3);
    until_moved_by(1, YK_XFER_READ);
    until_moved_by(0, YK_XFER_WRITE);
    for (uint32_t i = 0; i < 24; i++) {
        uint64_t untrue = counts_of("soft0").untrue + counts_of("soft1").untrue;
        until_untrue(i % 2 == 0 ? YK_XFER_READ : YK_XFER_WRITE, 32, 256u << 10, i % 4 >= 2, 1 + i % 3);
        assert_true(counts_of("soft0").untrue + counts_of("soft1").untrue > untrue);
    }
    for (uint32_t i = 0; i < 8; i++)
        until_untrue(YK_XFER_READ, 100, 4096, 0, 1);
    for (uint32_t bytes = 4; bytes <= 16; bytes += 4)
        move(YK_XFER_READ, 100, bytes, 0);
    assert_int_equal(soft_now().refused, 0);
    end();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_go_by_devices),
        cmocka_unit_test(doorbells_are_shared),
        cmocka_unit_test(a_device_that_does_not_open),
        cmocka_unit_test(a_device_that_does_not_register),
        cmocka_unit_test(keys_are_for_reading),
        cmocka_unit_test(a_device_is_taken_out_and_put_back),
        cmocka_unit_test(an_address_becomes_another),
        cmocka_unit_test(completions_that_are_untrue),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
