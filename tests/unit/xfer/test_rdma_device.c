/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory of devices in the engine, over RDMA devices that are soft_verbs.c. In place of a GPU's memory stands a dma-buf of
 * /dev/udmabuf where the host has that, else a memfd; its address in this process is a mapping that nobody may touch, so
 * that an engine which does falls over it (or, in a system call, fails its request). The tests look at it by a mapping of
 * their own. What they do not show is anything about drivers, of GPUs or of RDMA devices.
 */
#include "soft_verbs.h"

#include "base/clock.h"
#include "base/hash.h"
#include "xfer/engine_priv.h"
#include "xfer/rdma/rdma_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#if __has_include(<linux/udmabuf.h>)
#include <linux/udmabuf.h>
#include <sys/ioctl.h>
#endif

#define PAGE       4096u
#define LEAD       (PAGE + 72u) /* of memory in its dma-buf, and in the page at its address */
#define BYTES      (YK_DEVICE_SPAN + (3u << 20)) /* two spans; few pages of them are ever touched */
#define TIMEOUT_MS 600000u /* nothing waits for it: what is refused is refused at once, or the test hangs */
#define LOOK_NS    (60 * YK_NS_PER_S)
#define BOTH       ((uint32_t)YK_XFER_REMOTE_READ | (uint32_t)YK_XFER_REMOTE_WRITE)
#define RDMA       ((uint32_t)YK_XFER_RDMA | (uint32_t)YK_XFER_TCP)

enum { HOST, DEVICE, KINDS };

struct memory {
    int fd;
    int kind;
    char *addr; /* what the engine is told; nobody may touch it where it is a device's */
    char *from; /* of the mapping there */
    char *view; /* the test's */
};

static struct {
    char dir[64];
    struct memory there[KINDS], here[KINDS];
    yk_xfer *target, *engine;
    yk_xfer_segment segment[KINDS];
} rig;

static uint32_t pins, unpins; /* atomic */
static uint32_t reached; /* atomic: system calls that were to reach into a device's memory, which fail for no other reason */

/* ---- the rig -------------------------------------------------------------------------------------------- */

/* A dma-buf of the memfd, or that itself. */
static int buffer_of(int memfd, uint64_t len) {
#ifdef UDMABUF_CREATE
    struct udmabuf_create c = {.memfd = (uint32_t)memfd, .flags = UDMABUF_FLAGS_CLOEXEC, .size = len};
    int dev = open("/dev/udmabuf", O_RDWR | O_CLOEXEC);
    int fd = dev >= 0 ? ioctl(dev, UDMABUF_CREATE, &c) : -1;
    if (dev >= 0)
        close(dev);
    if (fd >= 0) {
        close(memfd);
        return fd;
    }
#endif
    (void)len;
    return memfd;
}

static struct memory memory_new(int kind) {
    struct memory m = {.kind = kind};
    uint64_t len = BYTES + 2 * PAGE;
    int memfd = memfd_create("device", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_true(memfd >= 0 && ftruncate(memfd, (off_t)len) == 0 && fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK) == 0);
    m.fd = buffer_of(memfd, len);
    m.view = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, m.fd, 0);
    assert_true(m.view != MAP_FAILED);
    m.view += LEAD;
    m.addr = m.view;
    if (kind == DEVICE) {
        m.from = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        assert_true(m.from != MAP_FAILED);
        m.addr = m.from + LEAD;
    }
    return m;
}

static void memory_free(struct memory *m) {
    munmap(m->view - LEAD, BYTES + 2 * PAGE);
    if (m->kind == DEVICE)
        munmap(m->from, BYTES + 2 * PAGE);
    close(m->fd);
}

static void note_reach(const struct iovec *to, unsigned long n) {
    for (unsigned long i = 0; i < n; i++)
        for (int k = 0; k < 2; k++) {
            const struct memory *m = k == 0 ? &rig.there[DEVICE] : &rig.here[DEVICE];
            uintptr_t at = (uintptr_t)to[i].iov_base, from = (uintptr_t)m->from;
            if (from != 0 && at + to[i].iov_len > from && at < from + BYTES + 2 * PAGE)
                __atomic_fetch_add(&reached, 1, __ATOMIC_SEQ_CST);
        }
}

/* In place of the library's. */
ssize_t process_vm_writev(pid_t pid, const struct iovec *from, unsigned long from_n, const struct iovec *to,
                          unsigned long to_n, unsigned long flags) {
    note_reach(to, to_n);
    return syscall(SYS_process_vm_writev, pid, from, from_n, to, to_n, flags);
}

ssize_t process_vm_readv(pid_t pid, const struct iovec *to, unsigned long to_n, const struct iovec *from,
                         unsigned long from_n, unsigned long flags) {
    note_reach(from, from_n);
    return syscall(SYS_process_vm_readv, pid, to, to_n, from, from_n, flags);
}

static yk_xfer_memory as_told(const struct memory *m, uint32_t access) {
    yk_xfer_memory told = {.addr = m->addr, .length = BYTES, .access = access, .fd = -1};
    if (m->kind == DEVICE) {
        told.access |= YK_XFER_DMABUF;
        told.fd = m->fd;
        told.fd_offset = LEAD;
    }
    return told;
}

static int pin(void *user, uint32_t op, uint64_t descriptor, uint64_t generation, uint64_t epoch, uint64_t offset,
               uint64_t length, uint64_t *ret_pin) {
    (void)user, (void)op, (void)epoch, (void)offset, (void)length;
    *ret_pin = descriptor;
    if (generation != 3)
        return YK_MISS;
    __atomic_fetch_add(&pins, 1, __ATOMIC_SEQ_CST);
    return 0;
}

static void unpin(void *user, uint64_t pin_) {
    (void)user, (void)pin_;
    __atomic_fetch_add(&unpins, 1, __ATOMIC_SEQ_CST);
}

static yk_xfer *engine_of(uint32_t transports, const char *listen, const char *advertise) {
    yk_xfer_opts o = {.size = sizeof(o), .transports = transports, .listen = listen, .advertise = advertise,
                      .insecure_network = 1, .shm_dir = "", .registry_dir = rig.dir[0] != 0 ? rig.dir : NULL};
    yk_xfer *e;
    if (yk_xfer_create(&o, &e) < 0)
        fail_msg("%s", yk_xfer_error_text());
    return e;
}

static void register_both(yk_xfer *e, const struct memory m[KINDS], uint32_t access) {
    yk_xfer_memory told[KINDS] = {as_told(&m[HOST], access), as_told(&m[DEVICE], access)};
    if (yk_xfer_register(e, told, KINDS) < 0)
        fail_msg("%s", yk_xfer_error_text());
}

static void publish_both(yk_xfer *e, const struct memory m[KINDS]) {
    yk_xfer_guard_ops ops = {.size = sizeof(ops), .pin = pin, .unpin = unpin};
    assert_int_equal(yk_xfer_publish(e, "host", m[HOST].addr, BYTES, &ops), 0);
    assert_int_equal(yk_xfer_publish(e, "device", m[DEVICE].addr, BYTES, &ops), 0);
}

static void open_both(yk_xfer *e) {
    if (yk_xfer_open(e, "host", TIMEOUT_MS, &rig.segment[HOST]) < 0 ||
        yk_xfer_open(e, "device", TIMEOUT_MS, &rig.segment[DEVICE]) < 0)
        fail_msg("%s", yk_xfer_error_text());
}

static void begin_at(uint32_t devices, const char *listen, const char *advertise) {
    soft_begin(devices);
    pins = unpins = reached = 0;
    snprintf(rig.dir, sizeof(rig.dir), "/tmp/yk-device-XXXXXX");
    assert_non_null(mkdtemp(rig.dir));
    for (int k = 0; k < KINDS; k++) {
        rig.there[k] = memory_new(k);
        rig.here[k] = memory_new(k);
    }
    rig.target = engine_of(RDMA, listen, advertise);
    rig.engine = engine_of(RDMA, NULL, NULL);
}

static void begin(void) {
    begin_at(2, "127.0.0.1:0", NULL);
    register_both(rig.target, rig.there, BOTH);
    publish_both(rig.target, rig.there);
    register_both(rig.engine, rig.here, 0);
    open_both(rig.engine);
}

/* Nothing is left of what was made. */
static void end(void) {
    char command[100];
    yk_xfer_destroy(rig.engine);
    yk_xfer_destroy(rig.target);
    soft_end();
    assert_int_equal(__atomic_load_n(&reached, __ATOMIC_SEQ_CST), 0);
    for (int k = 0; k < KINDS; k++) {
        memory_free(&rig.there[k]);
        memory_free(&rig.here[k]);
    }
    snprintf(command, sizeof(command), "rm -r %s", rig.dir);
    assert_int_equal(system(command), 0);
}

/* What orders this with the engines' threads goes through sockets, which a race detector does not follow. */
__attribute__((no_sanitize("thread"))) static void fill(char *from, uint64_t bytes, uint32_t seed) {
    for (uint64_t i = 0; i < bytes; i++)
        from[i] = (char)((i + seed) * 2654435761u >> 13);
}

static uint64_t moved_by_devices(void) {
    struct soft s = soft_now();
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < SOFT_DEVICES; i++)
        bytes += s.bytes[i];
    return bytes;
}

static yk_xfer_guard guard = {.descriptor = 7, .generation = 3, .epoch = 1};

struct move {
    uint32_t op;
    int here, there; /* HOST, DEVICE */
    uint64_t at_here, at_there, len;
    int guarded;
};

static yk_xfer_request request_of(const struct move *m) {
    return (yk_xfer_request){.op = m->op, .local = rig.here[m->here].addr + m->at_here, .segment = rig.segment[m->there],
                             .offset = m->at_there, .length = m->len, .guard = m->guarded ? &guard : NULL};
}

static int run(const struct move *m, uint32_t n) {
    yk_xfer_request q[32];
    yk_xfer_submit_opts so = {.size = sizeof(so), .xclass = YK_XFER_DEMAND, .timeout_ms = TIMEOUT_MS};
    for (uint32_t i = 0; i < n; i++)
        q[i] = request_of(&m[i]);
    return yk_xfer_run(rig.engine, q, n, &so);
}

static yk_xfer_batch submitted(const struct move *m) {
    yk_xfer_request q = request_of(m);
    yk_xfer_submit_opts so = {.size = sizeof(so), .xclass = YK_XFER_DEMAND, .timeout_ms = TIMEOUT_MS};
    yk_xfer_batch b;
    assert_int_equal(yk_xfer_submit(rig.engine, &q, 1, &so, &b), 0);
    return b;
}

static char *source_of(const struct move *m) {
    return m->op == YK_XFER_READ ? rig.there[m->there].view + m->at_there : rig.here[m->here].view + m->at_here;
}

static char *sink_of(const struct move *m) {
    return m->op == YK_XFER_READ ? rig.here[m->here].view + m->at_here : rig.there[m->there].view + m->at_there;
}

/* n of them in one batch, with other places each: all bytes are there, and none beside them. */
static void move(const struct move *m, uint32_t n) {
    static uint32_t seed;
    for (uint32_t i = 0; i < n; i++) {
        fill(source_of(&m[i]), m[i].len, ++seed);
        memset(sink_of(&m[i]) - 1, 0x77, m[i].len + 2);
    }
    if (run(m, n) != 0)
        fail_msg("%s", yk_xfer_error_text());
    for (uint32_t i = 0; i < n; i++) {
        const char *sink = sink_of(&m[i]);
        assert_memory_equal(sink, source_of(&m[i]), m[i].len);
        assert_int_equal(sink[-1], 0x77);
        assert_int_equal(sink[m[i].len], 0x77);
    }
}

/* By devices, each byte once. */
static void move_by_devices(const struct move *m) {
    uint64_t before = moved_by_devices();
    move(m, 1);
    assert_int_equal(moved_by_devices() - before, m->len);
}

/* It ends at once, and says what is missing. */
static void refused(const struct move *m) {
    assert_int_equal(run(m, 1), -YK_ENOTSUP);
    if (strstr(yk_xfer_error_text(), "device memory needs an RDMA device that can reach it") == NULL)
        fail_msg("%s", yk_xfer_error_text());
}

/* ---- cases ---------------------------------------------------------------------------------------------- */

static const uint64_t sizes[] = {1, 72, 4096, 16383, 65536, (1u << 20) + 7};

static void bytes_are_exact(void **state) {
    (void)state;
    begin();
    for (uint32_t op = YK_XFER_READ; op <= YK_XFER_WRITE; op++)
        for (int kinds = 1; kinds < 4; kinds++) /* here, there, both */
            for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
                for (int guarded = 0; guarded < 2; guarded++) {
                    struct move m = {op, kinds & 1, kinds >> 1, 4095 + i, 12289, sizes[i], guarded};
                    move_by_devices(&m);
                }
    assert_int_equal(soft_now().refused, 0);
    assert_true(soft_now().buffers > 0);
    uint64_t until = yk_now_ns() + LOOK_NS;
    while (__atomic_load_n(&unpins, __ATOMIC_SEQ_CST) != __atomic_load_n(&pins, __ATOMIC_SEQ_CST) && yk_now_ns() < until)
        (void)poll(NULL, 0, 5);
    assert_true(pins > 0);
    assert_int_equal(pins, unpins);
    end();
}

/* No slice lies in two spans, of this side's region or of the other's. */
static void spans_are_kept(void **state) {
    (void)state;
    begin();
    for (uint32_t op = YK_XFER_READ; op <= YK_XFER_WRITE; op++)
        for (int kinds = 1; kinds < 4; kinds++) {
            struct move m[] = {{op, kinds & 1, kinds >> 1, YK_DEVICE_SPAN - 70000, 100, 140000, 0},
                               {op, kinds & 1, kinds >> 1, 100, YK_DEVICE_SPAN - 1, 2, 1},
                               {op, kinds & 1, kinds >> 1, YK_DEVICE_SPAN - 300000, YK_DEVICE_SPAN - 500000, 1u << 20, 0}};
            for (int i = 0; i < 3; i++)
                move_by_devices(&m[i]);
        }
    assert_int_equal(soft_now().refused, 0);
    end();
}

static void a_guard_that_misses(void **state) {
    (void)state;
    begin();
    guard.generation = 4;
    struct move m = {YK_XFER_READ, DEVICE, DEVICE, 4096, 8192, 65536, 1};
    assert_int_equal(run(&m, 1), YK_MISS);
    m.op = YK_XFER_WRITE;
    assert_int_equal(run(&m, 1), YK_MISS);
    guard.generation = 3;
    assert_int_equal(pins, 0);
    end();
}

/* What arrives in a device's memory nobody can look at; what leaves it, its reader does. */
static void checksums(void **state) {
    (void)state;
    begin();
    struct move m = {YK_XFER_READ, DEVICE, HOST, 4096, 8192, 65536, 1};
    fill(rig.there[HOST].view + 8192, m.len, 99);
    fill(rig.there[DEVICE].view + 8192, m.len, 99);
    guard.checksum = yk_hash64(rig.there[HOST].view + 8192, m.len);
    guard.has_checksum = 1;
    assert_int_equal(run(&m, 1), -YK_ENOTSUP);
    assert_non_null(strstr(yk_xfer_error_text(), "checksum"));
    m.here = HOST;
    m.there = DEVICE;
    assert_int_equal(run(&m, 1), 0);
    guard.checksum++;
    assert_int_equal(run(&m, 1), -YK_ECORRUPT);
    guard.has_checksum = 0;
    end();
}

static void mixed_batches(void **state) {
    (void)state;
    begin();
    struct move m[32];
    for (int round = 0; round < 4; round++) {
        for (uint32_t i = 0; i < 32; i++) {
            uint64_t at = i * 70000 + 1;
            m[i] = (struct move){round & 1 ? YK_XFER_WRITE : YK_XFER_READ, (int)(i & 1), (int)(i >> 1 & 1), at, at + 3,
                                 i % 5 == 0 ? 100 : 60000, round >> 1};
        }
        move(m, 32);
    }
    assert_int_equal(soft_now().refused, 0);
    end();
}

/* Devices that take no dma-buf: at this side, at the other. */
static void devices_without_dma_buf(void **state) {
    (void)state;
    for (uint32_t strangers = 1; strangers < 4; strangers++) {
        begin_at(2, "127.0.0.1:0", NULL);
        soft_strangers(strangers);
        register_both(rig.target, rig.there, BOTH);
        publish_both(rig.target, rig.there);
        register_both(rig.engine, rig.here, 0);
        open_both(rig.engine);
        struct move into = {YK_XFER_READ, DEVICE, HOST, 4096, 8192, 65536, 0};
        struct move from = {YK_XFER_WRITE, HOST, DEVICE, 4096, 8192, 300, 1};
        struct move host = {YK_XFER_READ, HOST, HOST, 4096, 8192, 65536, 0};
        for (int i = 0; i < 2; i++) {
            if (strangers & 2) /* soft1 is this side's, soft0 the target's */
                refused(&into);
            else
                move_by_devices(&into);
            if (strangers & 1)
                refused(&from);
            else
                move_by_devices(&from);
            move(&host, 1);
        }
        end();
    }
}

/* A port that is free now. */
static int free_port(void) {
    rig.dir[0] = 0;
    yk_xfer *e = engine_of(YK_XFER_TCP, "127.0.0.1:0", NULL);
    int port = atoi(strrchr(yk_xfer_address(e), ':') + 1);
    yk_xfer_destroy(e);
    return port;
}

static int rails_over_rdma(void) {
    char *text;
    int n = 0;
    assert_int_equal(yk_xfer_links_json(rig.engine, &text), 0);
    for (const char *at = text; (at = strstr(at, "\"transport\": \"rdma\"")) != NULL; at++)
        n++;
    free(text);
    return n;
}

/* Of two rails the devices of one cannot: all goes over the other. */
static void one_rail_of_two(void **state) {
    char listen[32], advertise[64];
    (void)state;
    for (uint32_t strangers = 1; strangers < 4; strangers <<= 1) {
        int port = free_port();
        snprintf(listen, sizeof(listen), "0.0.0.0:%d", port);
        snprintf(advertise, sizeof(advertise), "127.0.0.1:%d,127.0.0.2:%d", port, port);
        begin_at(4, listen, advertise);
        soft_strangers(strangers);
        register_both(rig.target, rig.there, BOTH);
        publish_both(rig.target, rig.there);
        register_both(rig.engine, rig.here, 0);
        open_both(rig.engine);
        for (uint32_t op = YK_XFER_READ; op <= YK_XFER_WRITE; op++)
            for (int here = HOST; here <= DEVICE; here++) { /* with both, either rail has the stranger at one end */
                struct move m = {op, here, !here, 4096, 8192, 2u << 20, 0};
                for (int i = 0; i < 4; i++)
                    move_by_devices(&m);
            }
        assert_int_equal(rails_over_rdma(), 2);
        end();
    }
}

/* Memory that a device does not know yet is waited for, and goes over nothing else. */
static void it_waits_for_its_device(void **state) {
    (void)state;
    begin_at(2, "127.0.0.1:0", NULL);
    register_both(rig.target, rig.there, BOTH);
    publish_both(rig.target, rig.there);
    soft_hang(0, 2); /* this side's */
    register_both(rig.engine, rig.here, 0);
    open_both(rig.engine);
    struct move m = {YK_XFER_READ, DEVICE, HOST, 4096, 8192, 65536, 0};
    yk_xfer_request q = request_of(&m);
    yk_xfer_submit_opts so = {.size = sizeof(so), .xclass = YK_XFER_DEMAND, .timeout_ms = TIMEOUT_MS};
    yk_xfer_batch b;
    fill(source_of(&m), m.len, 5);
    assert_int_equal(yk_xfer_submit(rig.engine, &q, 1, &so, &b), 0);
    yk_xfer_status s = {.attempts = 0};
    uint64_t until = yk_now_ns() + LOOK_NS;
    while (s.attempts < 3 && yk_now_ns() < until) {
        assert_int_equal(yk_xfer_request_status(rig.engine, b, 0, &s), 0);
        assert_int_equal(s.status, -YK_EAGAIN);
        (void)poll(NULL, 0, 2);
    }
    assert_true(s.attempts >= 3);
    soft_hang(0, 0);
    assert_int_equal(yk_xfer_wait(rig.engine, b, UINT32_MAX), 0);
    assert_memory_equal(sink_of(&m), source_of(&m), m.len);
    yk_xfer_batch_free(rig.engine, b);
    end();
}

/* So many chunks, devices together. */
static void all_known(uint32_t chunks) {
    uint64_t until = yk_now_ns() + LOOK_NS;
    while (soft_now().made < chunks && yk_now_ns() < until)
        (void)poll(NULL, 0, 2);
    assert_int_equal(soft_now().made, chunks);
}

/* Of two rails the device of one does not get to know it: it goes over the other. */
static void one_device_of_two_hangs(void **state) {
    char listen[32], advertise[64];
    (void)state;
    for (uint32_t device = 0; device < 2; device++) { /* they make two rails, one at each end */
        int port = free_port();
        snprintf(listen, sizeof(listen), "0.0.0.0:%d", port);
        snprintf(advertise, sizeof(advertise), "127.0.0.1:%d,127.0.0.2:%d", port, port);
        begin_at(4, listen, advertise);
        register_both(rig.target, rig.there, BOTH);
        publish_both(rig.target, rig.there);
        all_known(KINDS * 2 * 4);
        soft_hang(0, 1u << device);
        register_both(rig.engine, rig.here, 0);
        open_both(rig.engine);
        for (uint32_t op = YK_XFER_READ; op <= YK_XFER_WRITE; op++)
            for (uint64_t len = 65536; len <= 8u << 20; len *= 128) {
                struct move m = {op, DEVICE, HOST, 4096, 8192, len, 0};
                for (int i = 0; i < 4; i++)
                    move_by_devices(&m);
            }
        soft_hang(0, 0);
        end();
    }
}

/* Requests that wait, and requests that are under way. */
static void unregistered_meanwhile(void **state) {
    (void)state;
    for (uint32_t hang = 0; hang < 3; hang += 2) {
        begin_at(2, "127.0.0.1:0", NULL);
        register_both(rig.target, rig.there, BOTH);
        publish_both(rig.target, rig.there);
        register_both(rig.engine, rig.here, 0);
        open_both(rig.engine);
        struct move warm = {YK_XFER_READ, DEVICE, HOST, 4096, 8192, 65536, 0};
        move(&warm, 1);
        void *addr = rig.here[DEVICE].addr;
        yk_xfer_memory again = as_told(&rig.here[DEVICE], 0);
        if (hang) { /* it is registered anew, and its device does not get to that */
            assert_int_equal(yk_xfer_unregister(rig.engine, &addr, 1), 0);
            soft_hang(0, hang);
            assert_int_equal(yk_xfer_register(rig.engine, &again, 1), 0);
        }
        yk_xfer_request q[16];
        yk_xfer_submit_opts so = {.size = sizeof(so), .xclass = YK_XFER_DEMAND, .timeout_ms = TIMEOUT_MS};
        yk_xfer_batch b;
        for (uint32_t i = 0; i < 16; i++) {
            struct move m = {YK_XFER_READ, DEVICE, HOST, i << 20, i << 20, 1u << 20, 0};
            q[i] = request_of(&m);
        }
        assert_int_equal(yk_xfer_submit(rig.engine, q, 16, &so, &b), 0);
        rig.engine->unregister_ns = hang ? 20 * YK_NS_PER_MS : LOOK_NS;
        assert_int_equal(yk_xfer_unregister(rig.engine, &addr, 1), hang ? -YK_ETIMEDOUT : 0);
        int rc = yk_xfer_wait(rig.engine, b, UINT32_MAX);
        if (hang)
            assert_int_equal(rc, -YK_ECANCELED);
        else
            assert_true(rc == 0 || rc == -YK_ECANCELED);
        yk_xfer_batch_free(rig.engine, b);
        rig.engine->unregister_ns = LOOK_NS;
        soft_hang(0, 0);
        if (hang)
            assert_int_equal(yk_xfer_unregister(rig.engine, &addr, 1), 0);
        uint64_t before = moved_by_devices();
        assert_int_equal(yk_xfer_register(rig.engine, &again, 1), 0);
        assert_int_equal(moved_by_devices(), before); /* nothing was left under way */
        move(&warm, 1);
        end();
    }
}

/* What waits for its rail holds up nothing that has another. */
static void others_do_not_wait_for_it(void **state) {
    (void)state;
    begin();
    struct move m[2] = {{YK_XFER_READ, DEVICE, HOST, 4096, 8192, 65536, 0}, {YK_XFER_READ, DEVICE, HOST, 1u << 20, 8192, 65536, 0}};
    struct move host = {YK_XFER_READ, HOST, HOST, 4096, 1u << 20, 65536, 0};
    move(m, 1);
    rig.engine->ways_gone_ns = 10 * LOOK_NS; /* it is waited for */
    soft_take_out(0);
    soft_take_out(1);
    yk_xfer_batch b[2] = {submitted(&m[0]), submitted(&m[1])};
    for (uint32_t i = 0; i < 4; i++) {
        host.op = i % 2 == 0 ? YK_XFER_READ : YK_XFER_WRITE;
        move(&host, 1);
    }
    for (int i = 0; i < 2; i++) {
        yk_xfer_status s;
        assert_int_equal(yk_xfer_request_status(rig.engine, b[i], 0, &s), 0);
        assert_int_equal(s.status, -YK_EAGAIN);
    }
    soft_put_back(0);
    soft_put_back(1);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(yk_xfer_wait(rig.engine, b[i], UINT32_MAX), 0);
        assert_memory_equal(sink_of(&m[i]), source_of(&m[i]), m[i].len);
        yk_xfer_batch_free(rig.engine, b[i]);
    }
    end();
}

/* All devices are taken out: when there is no such way any more the request ends, and when they are back the next one
 * goes. */
static void all_devices_go(void **state) {
    (void)state;
    begin();
    struct move m = {YK_XFER_READ, DEVICE, HOST, 4096, 8192, 65536, 0};
    struct move host = {YK_XFER_READ, HOST, HOST, 4096, 8192, 65536, 0};
    move(&m, 1);
    rig.engine->ways_gone_ns = YK_NS_PER_MS;
    soft_take_out(0);
    soft_take_out(1);
    refused(&m);
    refused(&m);
    move(&host, 1);
    soft_put_back(0);
    soft_put_back(1);
    uint64_t until = yk_now_ns() + LOOK_NS;
    while (run(&m, 1) == -YK_ENOTSUP && yk_now_ns() < until)
        (void)poll(NULL, 0, 10);
    move(&m, 1);
    end();
}

/* Emulated devices' reads are looked at where they went, which such memory does not allow: they read from it, not into it. */
static void emulated_devices_read_from_it(void **state) {
    (void)state;
    begin_at(2, "127.0.0.1:0", NULL);
    soft_untrue(3, 0);
    register_both(rig.target, rig.there, BOTH);
    publish_both(rig.target, rig.there);
    register_both(rig.engine, rig.here, 0);
    open_both(rig.engine);
    for (uint32_t op = YK_XFER_READ; op <= YK_XFER_WRITE; op++)
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            struct move into = {op, op == YK_XFER_READ, op == YK_XFER_WRITE, 4096, 8192, sizes[i], 0};
            struct move from = {op, op == YK_XFER_WRITE, op == YK_XFER_READ, 4096, 8192, sizes[i], 0};
            refused(&into);
            if (sizes[i] >= 8) /* less cannot be looked at */
                move_by_devices(&from);
        }
    end();
}

/* Engines that have no RDMA do not take such memory, and do not reach that of others. */
static void tcp_alone(void **state) {
    (void)state;
    begin();
    yk_xfer *rdma = rig.engine;
    yk_xfer_segment rdma_device = rig.segment[DEVICE];
    yk_xfer *tcp = rig.engine = engine_of(YK_XFER_TCP | YK_XFER_MEM | YK_XFER_SHM, "127.0.0.1:0", NULL);
    yk_xfer_memory told[KINDS] = {as_told(&rig.here[HOST], BOTH), as_told(&rig.here[DEVICE], BOTH)};
    assert_int_equal(yk_xfer_register(tcp, told, KINDS), -YK_ENOTSUP);
    assert_non_null(strstr(yk_xfer_error_text(), "memory 1: device memory needs an RDMA device"));
    assert_int_equal(yk_xfer_register(tcp, told, 1), 0); /* none of them was taken */
    open_both(tcp);
    yk_xfer_segment_info info;
    assert_int_equal(yk_xfer_segment_stat(tcp, rig.segment[DEVICE], &info), 0);
    assert_int_equal(info.access, BOTH | YK_XFER_DMABUF);
    struct move m = {YK_XFER_READ, HOST, DEVICE, 4096, 8192, 65536, 0};
    refused(&m);
    m.op = YK_XFER_WRITE;
    refused(&m);
    m.there = HOST;
    move(&m, 1);
    /* And the other way round. */
    assert_int_equal(yk_xfer_publish(tcp, "tcp", rig.here[HOST].addr, BYTES, NULL), 0);
    rig.engine = rdma;
    assert_int_equal(yk_xfer_open(rdma, "tcp", TIMEOUT_MS, &rig.segment[HOST]), 0);
    m = (struct move){YK_XFER_READ, DEVICE, HOST, 4096, 8192, 65536, 0};
    refused(&m);
    rig.segment[DEVICE] = rdma_device;
    yk_xfer_destroy(tcp);
    end();
}

/* Host memory that nobody registered, to and from a device's: small slices of it are borrowed, too. */
static void borrowed_memory(void **state) {
    (void)state;
    begin();
    yk_xfer_opts o = {.size = sizeof(o), .transports = RDMA, .insecure_network = 1, .shm_dir = "", .registry_dir = rig.dir,
                      .any_local = 1};
    yk_xfer_destroy(rig.engine);
    assert_int_equal(yk_xfer_create(&o, &rig.engine), 0);
    open_both(rig.engine);
    for (uint32_t op = YK_XFER_READ; op <= YK_XFER_WRITE; op++)
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            struct move m = {op, HOST, DEVICE, 4096, YK_DEVICE_SPAN - 60, sizes[i], (int)(i & 1)};
            move_by_devices(&m);
        }
    end();
}

/* Layers of a model, of a device's memory and of the host's. */
static void many_regions(void **state) {
    enum { LAYERS = 150, LAYER = 65536 };
    (void)state;
    begin_at(2, "127.0.0.1:0", NULL);
    register_both(rig.engine, rig.here, 0);
    for (int kind = KINDS - 1; kind >= 0; kind--) { /* so that those of a device have keys first */
        for (uint32_t i = 0; i < LAYERS; i++) {
            char name[32];
            yk_xfer_memory m = as_told(&rig.there[kind], BOTH);
            m.addr = (char *)m.addr + i * LAYER;
            m.fd_offset += i * LAYER;
            m.length = LAYER;
            snprintf(name, sizeof(name), "layer-%d-%u", kind, i);
            assert_int_equal(yk_xfer_register(rig.target, &m, 1), 0);
            assert_int_equal(yk_xfer_publish(rig.target, name, m.addr, LAYER, NULL), 0);
        }
        for (int round = 0; round < 2; round++)
            for (uint32_t i = 0; i < LAYERS; i++) {
                char name[32];
                yk_xfer_segment seg;
                snprintf(name, sizeof(name), "layer-%d-%u", kind, i);
                assert_int_equal(yk_xfer_open(rig.engine, name, TIMEOUT_MS, &seg), 0);
                fill(rig.there[kind].view + i * LAYER, 3000, i);
                yk_xfer_request q = {.op = YK_XFER_READ, .local = rig.here[DEVICE].addr, .segment = seg, .length = 3000};
                if (yk_xfer_run(rig.engine, &q, 1, NULL) != 0)
                    fail_msg("layer %u: %s", i, yk_xfer_error_text());
                assert_memory_equal(rig.here[DEVICE].view, rig.there[kind].view + i * LAYER, 3000);
                assert_int_equal(yk_xfer_close(rig.engine, seg), 0);
            }
    }
    assert_int_equal(soft_now().refused, 0);
    end();
}

/* A copy within the process, with a waiting call and without. */
static void no_copy_within_the_process(void **state) {
    (void)state;
    begin_at(0, "127.0.0.1:0", NULL);
    yk_xfer_destroy(rig.target);
    rig.target = engine_of(RDMA | YK_XFER_MEM, NULL, NULL);
    register_both(rig.target, rig.there, BOTH);
    publish_both(rig.target, rig.there);
    yk_xfer_destroy(rig.engine);
    rig.engine = engine_of(RDMA | YK_XFER_MEM, NULL, NULL);
    register_both(rig.engine, rig.here, 0);
    open_both(rig.engine);
    for (int guarded = 0; guarded < 2; guarded++)
        for (int kinds = 1; kinds < 4; kinds++) {
            struct move m = {YK_XFER_READ, kinds & 1, kinds >> 1, 4096, 8192, 65536, guarded};
            refused(&m);
        }
    struct move host = {YK_XFER_READ, HOST, HOST, 4096, 8192, 65536, 0};
    move(&host, 1);
    end();
}

/* What is said of it when it is registered. */
static void registering(void **state) {
    (void)state;
    begin_at(2, "127.0.0.1:0", NULL);
    yk_xfer_memory good = as_told(&rig.here[DEVICE], 0), m = good;
    void *addr = good.addr;
    m.fd = -1;
    assert_int_equal(yk_xfer_register(rig.engine, &m, 1), -YK_EINVAL);
    m = good;
    m.fd_offset++;
    assert_int_equal(yk_xfer_register(rig.engine, &m, 1), -YK_EINVAL);
    m = good;
    m.access |= YK_XFER_CUDA;
    assert_int_equal(yk_xfer_register(rig.engine, &m, 1), -YK_EINVAL);
    m = good;
    m.location = "cuda:x";
    assert_int_equal(yk_xfer_register(rig.engine, &m, 1), -YK_EINVAL);
    m.location = "cuda:3";
    assert_int_equal(yk_xfer_register(rig.engine, &m, 1), 0);
    assert_int_equal(yk_xfer_register(rig.engine, &good, 1), -YK_EINVAL); /* it overlaps */
    assert_int_equal(yk_xfer_unregister(rig.engine, &addr, 1), 0);
    void *at;
    assert_int_equal(yk_xfer_alloc(rig.engine, 4096, YK_XFER_DMABUF, &at), -YK_EINVAL);
    end();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_are_exact),
        cmocka_unit_test(spans_are_kept),
        cmocka_unit_test(a_guard_that_misses),
        cmocka_unit_test(checksums),
        cmocka_unit_test(mixed_batches),
        cmocka_unit_test(devices_without_dma_buf),
        cmocka_unit_test(one_rail_of_two),
        cmocka_unit_test(it_waits_for_its_device),
        cmocka_unit_test(one_device_of_two_hangs),
        cmocka_unit_test(unregistered_meanwhile),
        cmocka_unit_test(others_do_not_wait_for_it),
        cmocka_unit_test(all_devices_go),
        cmocka_unit_test(emulated_devices_read_from_it),
        cmocka_unit_test(tcp_alone),
        cmocka_unit_test(borrowed_memory),
        cmocka_unit_test(many_regions),
        cmocka_unit_test(no_copy_within_the_process),
        cmocka_unit_test(registering),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
