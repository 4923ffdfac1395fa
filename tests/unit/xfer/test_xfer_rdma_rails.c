/* SPDX-License-Identifier: Apache-2.0
 *
 * RDMA over several devices, and what becomes of requests when a device, the peer or memory fails. It needs devices
 * that may be cut, which is why it is run in a guest (tests/vm/test_rdma.py); without YOLK_RDMA_LISTEN all is skipped.
 *
 *   YOLK_RDMA_LISTEN     where the target listens: "0.0.0.0:7711"
 *   YOLK_RDMA_ADVERTISE  what it tells peers: "10.99.0.2:7711,10.99.1.2:7711", an address of each of its devices
 *   YOLK_RDMA_CUT        its network devices, as many and in this order: "n0b,n1b"; they are taken down and up, and lose
 *                        their addresses (of /24) and get them again
 *   YOLK_RDMA_REMOVE     a command that takes the first of them out of the host, with its RDMA device; it may wait until
 *   YOLK_RDMA_RETURN     nobody uses that any more; and one that brings it back. Without them neither that is tested, nor
 *                        what becomes of this side when one of its addresses becomes another
 *
 * The target is a process of its own, this program again, so that it can be killed. Its memory is shared with the
 * test, past the engine: what a write has left there is seen without it.
 */
#include <yolk/transfer.h>

#include "rdma_devices.h"

#include "base/clock.h"
#include "base/status.h"
#include "xfer/rdma/rdma_priv.h"
#ifdef YK_TEST_VERBS /* the transport is built, not none.c */
#include "xfer/rdma/device_priv.h"
#endif

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#define NAME       "rails"
#define BYTES      (8u << 20) /* of the segment, and of the memory here */
#define PIECE      (1u << 20) /* of a request */
#define PIECES     (BYTES / PIECE)
#define DEVICE_MIN (1u << 20) /* that each device must have moved to count as one that is used */
#define TIMEOUT_MS 60000u     /* of a batch: an emulated guest is slow */
#define POOR_MS    3000u      /* of those that the peer will not answer: they take all of it */
#define LOOK_S     240u       /* for what must come in the end */

static const char *listen_at, *advertise, *self_path;

/* ---- the target ---------------------------------------------------------------------------------------- */

struct target {
    pid_t pid;
    int memory_fd, end; /* end: closed, it ends well */
    char *memory;
    char dir[64];
};

/* What this program is as the target: rails serve FD DIR TRANSPORTS PIN; it says that it is there by a byte, and
 * stays until its input ends. */
static int serve(char **args) {
    yk_xfer *e;
    char byte = 0;
    yk_xfer_opts o = {.size = sizeof(o), .transports = (uint32_t)atoi(args[4]), .listen = listen_at,
                      .advertise = advertise, .insecure_network = 1, .shm_dir = "", .registry_dir = args[3],
                      .stall_ms = 5000, .connect_ms = 30000};
    void *memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, atoi(args[2]), 0);
    yk_xfer_memory m = {.addr = memory, .length = BYTES, .access = YK_XFER_REMOTE_READ | YK_XFER_REMOTE_WRITE,
                        .fd = -1};
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (atoi(args[5]) == 0)
        rdma_no_pinning();
    int rc = memory == MAP_FAILED ? -YK_ENOMEM : yk_xfer_create(&o, &e);
    if (rc == 0)
        rc = yk_xfer_register(e, &m, 1);
    if (rc == 0)
        rc = yk_xfer_publish(e, NAME, memory, BYTES, NULL);
    if (rc < 0) {
        fprintf(stderr, "the target: %s\n", yk_xfer_error_text());
        return 1;
    }
    if (write(STDOUT_FILENO, &byte, 1) == 1)
        while (read(STDIN_FILENO, &byte, 1) > 0) {
        }
    yk_xfer_destroy(e);
    return 0;
}

static pid_t left_over; /* of a case that failed: it would have the port of the next */

static void target_start(struct target *t, uint32_t transports, int pin) {
    int in[2], out[2];
    char fd[16], bits[16], byte;
    if (left_over > 0 && kill(left_over, SIGKILL) == 0)
        (void)waitpid(left_over, NULL, 0);
    snprintf(t->dir, sizeof(t->dir), "/tmp/yk-rails-XXXXXX");
    assert_non_null(mkdtemp(t->dir));
    t->memory_fd = memfd_create(NAME, 0);
    assert_true(t->memory_fd >= 0);
    assert_int_equal(ftruncate(t->memory_fd, BYTES), 0);
    t->memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, t->memory_fd, 0);
    assert_true(t->memory != MAP_FAILED);
    assert_int_equal(pipe2(in, O_CLOEXEC), 0); /* a command that is run meanwhile would hold its end open */
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    snprintf(fd, sizeof(fd), "%d", t->memory_fd);
    snprintf(bits, sizeof(bits), "%u", transports);
    t->pid = fork();
    assert_true(t->pid >= 0);
    if (t->pid == 0) {
        (void)dup2(in[0], STDIN_FILENO);
        (void)dup2(out[1], STDOUT_FILENO);
        close(in[1]);
        close(out[0]);
        execl(self_path, self_path, "serve", fd, t->dir, bits, pin ? "1" : "0", (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    left_over = t->pid;
    t->end = in[1];
    assert_int_equal(read(out[0], &byte, 1), 1);
    close(out[0]);
}

/* How it ended. */
static int target_end(struct target *t, int with) {
    int status;
    char command[100];
    if (with != 0)
        assert_int_equal(kill(t->pid, with), 0);
    close(t->end);
    assert_int_equal(waitpid(t->pid, &status, 0), t->pid);
    left_over = 0;
    munmap(t->memory, BYTES);
    close(t->memory_fd);
    snprintf(command, sizeof(command), "rm -r %s", t->dir); /* one that is killed withdraws nothing */
    assert_int_equal(system(command), 0);
    return status;
}

/* ---- the initiator -------------------------------------------------------------------------------------- */

struct rig {
    struct target target;
    yk_xfer *engine;
    yk_xfer_segment segment;
    char *local;
};

static void rig_open(struct rig *r, uint32_t transports, int pin_here, int pin_there) {
    yk_xfer_opts o = {.size = sizeof(o), .transports = transports, .insecure_network = 1, .shm_dir = "",
                      .stall_ms = 2000, .connect_ms = 30000};
    target_start(&r->target, transports, pin_there);
    r->local = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(r->local != MAP_FAILED);
    o.registry_dir = r->target.dir;
    if (!pin_here)
        rdma_no_pinning();
    if (yk_xfer_create(&o, &r->engine) < 0)
        fail_msg("%s", yk_xfer_error_text());
    yk_xfer_memory m = {.addr = r->local, .length = BYTES, .fd = -1};
    assert_int_equal(yk_xfer_register(r->engine, &m, 1), 0);
    if (yk_xfer_open(r->engine, NAME, TIMEOUT_MS, &r->segment) < 0)
        fail_msg("%s", yk_xfer_error_text());
}

static void rig_close(struct rig *r, int end_with) {
    yk_xfer_destroy(r->engine);
    munmap(r->local, BYTES);
    int status = target_end(&r->target, end_with);
    if (end_with == 0)
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void fill(char *at, uint32_t seed) {
    uint64_t w = 88172645463325252ull + seed;
    for (uint32_t i = 0; i < BYTES / 8; i++) {
        w ^= w << 13;
        w ^= w >> 7;
        w ^= w << 17;
        memcpy(at + i * 8, &w, 8);
    }
}

/* All of the segment, in pieces; ended by wait_for. */
static yk_xfer_batch begin(struct rig *r, uint32_t op, uint32_t seed, uint32_t timeout_ms) {
    yk_xfer_request q[PIECES];
    yk_xfer_submit_opts so = {.size = sizeof(so), .xclass = YK_XFER_DEMAND, .timeout_ms = timeout_ms};
    yk_xfer_batch b;
    char *from = op == YK_XFER_READ ? r->target.memory : r->local, *to = op == YK_XFER_READ ? r->local : r->target.memory;
    fill(from, seed);
    memset(to, 0x55, BYTES);
    for (uint32_t i = 0; i < PIECES; i++)
        q[i] = (yk_xfer_request){.op = op, .local = r->local + i * PIECE, .segment = r->segment, .offset = i * PIECE,
                                 .length = PIECE};
    assert_int_equal(yk_xfer_submit(r->engine, q, PIECES, &so, &b), 0);
    return b;
}

static void tell_links(struct rig *r) {
    char *text;
    if (yk_xfer_links_json(r->engine, &text) == 0) {
        print_message("%s\n", text);
        free(text);
    }
}

static int end(struct rig *r, yk_xfer_batch b) {
    int rc = yk_xfer_wait(r->engine, b, UINT32_MAX);
    assert_int_equal(yk_xfer_batch_free(r->engine, b), 0);
    return rc;
}

/* Both directions, every byte looked at. */
static void exact(struct rig *r, uint32_t seed) {
    for (uint32_t op = YK_XFER_READ; op <= YK_XFER_WRITE; op++) {
        int rc = end(r, begin(r, op, seed + op, TIMEOUT_MS));
        if (rc != 0)
            tell_links(r);
        assert_int_equal(rc, 0);
        assert_memory_equal(r->local, r->target.memory, BYTES);
    }
}

/* A number of the rails from there, in the table of links: the sum, since one whose own address went is kept for a minute
 * beside the one that came in its place. */
static uint64_t of_rail(struct rig *r, const char *transport, const char *remote, const char *what) {
    char *text, ways[200], key[40];
    uint64_t value = 0;
    assert_int_equal(yk_xfer_links_json(r->engine, &text), 0);
    snprintf(key, sizeof(key), "\"%s\":", what);
    for (const char *at = text; (at = strstr(at, "\"transport\":")) != NULL; at++) {
        const char *to = strstr(at, "\"remote\":"), *number = strstr(at, key);
        snprintf(ways, sizeof(ways), "%.*s", 60, at);
        if (to == NULL || number == NULL || strstr(ways, transport) == NULL)
            continue;
        to += strlen("\"remote\":");
        to += strspn(to, " \"");
        if (strncmp(to, remote, strlen(remote)) == 0 && to[strlen(remote)] == '"')
            value += strtoull(number + strlen(key), NULL, 10);
    }
    free(text);
    return value;
}

/* The n-th address that the target tells. */
static const char *address(uint32_t n, char host[64]) {
    const char *at = advertise;
    for (; n > 0 && at != NULL; n--)
        at = strchr(at, ',') != NULL ? strchr(at, ',') + 1 : NULL;
    assert_non_null(at);
    snprintf(host, 64, "%.*s", (int)strcspn(at, ":"), at);
    return host;
}

static uint32_t address_count(void) {
    uint32_t n = 1;
    for (const char *at = advertise; *at != 0; at++)
        n += *at == ',';
    return n;
}

static uint64_t rail_bytes(struct rig *r, uint32_t n) {
    char host[64];
    return of_rail(r, "\"rdma\"", address(n, host), "bytes");
}

/* ---- cases ------------------------------------------------------------------------------------------------- */

#define NEEDS_DEVICES(links)                                                                           \
    if (listen_at == NULL || advertise == NULL || (int)rdma_cut_count < (links)) {                          \
        print_message("YOLK_RDMA_LISTEN, _ADVERTISE or _CUT is not set: no devices to test with\n");   \
        skip();                                                                                        \
    }

/* Goes on until each rail has moved its part, in both directions. */
static void until_all_move(struct rig *r, uint32_t seed) {
    uint64_t until = yk_now_ns() + LOOK_S * YK_NS_PER_S, had[RDMA_CUTS_MAX];
    uint32_t n = address_count(), left;
    for (uint32_t i = 0; i < n; i++)
        had[i] = rail_bytes(r, i);
    do {
        if (yk_now_ns() >= until) {
            tell_links(r);
            fail_msg("not every rail moves bytes");
        }
        exact(r, seed += 2);
        left = 0;
        for (uint32_t i = 0; i < n; i++) {
            uint64_t has = rail_bytes(r, i);
            had[i] = has < had[i] ? has : had[i]; /* a rail has gone, and what it had counted */
            left += has - had[i] < DEVICE_MIN;
        }
    } while (left > 0);
}

static void every_device_moves_bytes(void **state) {
    struct rig r;
    char host[64];
    NEEDS_DEVICES(0)
    struct yk_rdma_port ports[YK_RDMA_PORTS_MAX];
    struct yk_rdma_settings all;
    assert_int_equal(yk_rdma_settings_parse(NULL, &all, NULL), 0);
    uint64_t began = yk_now_ns();
    uint32_t found = yk_rdma_ports_now(&all, ports, YK_RDMA_PORTS_MAX);
    print_message("%u addresses of ports, found in %u us\n", found, (unsigned)((yk_now_ns() - began) / 1000));
    rig_open(&r, YK_XFER_RDMA | YK_XFER_TCP, 1, 1);
    struct rdma_counters before = rdma_devices();
    until_all_move(&r, 1);
    struct rdma_counters after = rdma_devices();
    assert_int_equal(before.n, after.n);
    for (uint32_t i = 0; i < after.n; i++) {
        print_message("%s received %llu packets\n", after.name[i],
                      (unsigned long long)(after.packets[i] - before.packets[i]));
        /* What it read, or answers to what was read of it: of either there is at least one. */
        assert_true(after.packets[i] > before.packets[i]);
    }
    for (uint32_t i = 0; i < address_count(); i++) {
        print_message("rdma to %s: %llu bytes, ", address(i, host), (unsigned long long)rail_bytes(&r, i));
        print_message("tcp: %llu\n", (unsigned long long)of_rail(&r, "\"tcp\"", host, "bytes"));
    }
    rig_close(&r, 0);
}

/* In mid-transfer: when some bytes of it are there. 1: it ended before. */
static int under_way(struct rig *r, yk_xfer_batch b, uint32_t rail, uint64_t had) {
    uint64_t until = yk_now_ns() + LOOK_S * YK_NS_PER_S;
    while (rail_bytes(r, rail) == had) {
        if (yk_xfer_wait(r->engine, b, 0) != -YK_EAGAIN)
            return 0;
        assert_true(yk_now_ns() < until);
        (void)poll(NULL, 0, 1);
    }
    return 1;
}

static void a_link_is_cut(void **state) {
    struct rig r;
    uint32_t hits = 0, seed = 100;
    NEEDS_DEVICES(2)
    rig_open(&r, YK_XFER_RDMA | YK_XFER_TCP, 1, 1);
    until_all_move(&r, 50);
    for (uint32_t cut = 0; cut < rdma_cut_count; cut++)
        for (uint32_t op = YK_XFER_READ; op <= YK_XFER_WRITE; op++, seed++) {
            uint64_t had = rail_bytes(&r, cut), began = yk_now_ns();
            yk_xfer_batch b = begin(&r, op, seed, TIMEOUT_MS);
            hits += (uint32_t)under_way(&r, b, cut, had);
            rdma_set_link(cut, "down");
            int rc = end(&r, b);
            if (rc != 0)
                tell_links(&r);
            assert_int_equal(rc, 0);
            assert_memory_equal(r.local, r.target.memory, BYTES);
            print_message("%s down in a %s: it ended well after %u ms\n", rdma_cuts[cut],
                          op == YK_XFER_READ ? "read" : "write", (unsigned)((yk_now_ns() - began) / YK_NS_PER_MS));
            rdma_links_up();
        }
    assert_true(hits > 0);
    until_all_move(&r, 500); /* they have come back */
    rig_close(&r, 0);
}

static void shell(const char *format, const char *device) {
    char command[100];
    snprintf(command, sizeof(command), format, device);
    assert_int_equal(system(command), 0);
}

/* The first device's, and its entry of the GID table goes with it: what was addressed to it arrives nowhere. */
static void an_address_is_removed(void **state) {
    struct rig r;
    char host[64], how[100];
    NEEDS_DEVICES(2)
    address(0, host);
    rig_open(&r, YK_XFER_RDMA | YK_XFER_TCP, 1, 1);
    until_all_move(&r, 200);
    for (uint32_t op = YK_XFER_READ; op <= YK_XFER_WRITE; op++) {
        uint64_t had = rail_bytes(&r, 0), began = yk_now_ns();
        yk_xfer_batch b = begin(&r, op, 210 + op, TIMEOUT_MS);
        (void)under_way(&r, b, 0, had);
        snprintf(how, sizeof(how), "ip addr del %s/24 dev %%s", host);
        shell(how, rdma_cuts[0]);
        int rc = end(&r, b);
        if (rc != 0)
            tell_links(&r);
        assert_int_equal(rc, 0);
        assert_memory_equal(r.local, r.target.memory, BYTES);
        exact(&r, 220); /* and what is begun meanwhile */
        print_message("%s without its address: well after %u ms\n", rdma_cuts[0],
                      (unsigned)((yk_now_ns() - began) / YK_NS_PER_MS));
        snprintf(how, sizeof(how), "ip addr add %s/24 dev %%s", host);
        shell(how, rdma_cuts[0]);
        until_all_move(&r, 230);
    }
    rig_close(&r, 0);
}

/* Of this side, in the subnet of the n-th address of the target. */
static struct yk_rdma_address local_of(uint32_t n) {
    struct yk_rdma_address all[YK_RDMA_PORTS_MAX];
    uint32_t count = yk_rdma_addresses(all, YK_RDMA_PORTS_MAX);
    char host[64];
    address(n, host);
    size_t prefix = (size_t)(strrchr(host, '.') - host) + 1;
    for (uint32_t i = 0; i < count; i++)
        if (strncmp(all[i].host, host, prefix) == 0 && strcmp(all[i].host, host) != 0)
            return all[i];
    fail_msg("no address of ours in the subnet of %s", host);
    return all[0];
}

/* The name of the interface with an address. */
static void netdev_of(const char *host, char ret_name[64]) {
    char command[160];
    snprintf(command, sizeof(command), "ip -o addr show to %s | awk '{ print $2 }'", host);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%63s", ret_name), 1);
    pclose(f);
}

static void change_address(const char *device, const struct yk_rdma_address *from, const char *to) {
    char how[200];
    size_t prefix = (size_t)(strrchr(from->host, '.') - from->host) + 1;
    snprintf(how, sizeof(how), "ip addr del %s/24 dev %%s", from->host);
    shell(how, device);
    snprintf(how, sizeof(how), "ip addr add %.*s%s/24 dev %%s", (int)prefix, from->host, to);
    shell(how, device);
}

/* This side's, for another of its subnet: the GID that its queue pairs send from is another one, in the middle. The other
 * rails and TCP have everything, until the rail from the new address is found; that from the old one is used again when
 * its address is back. */
static void an_address_changes(void **state) {
    struct rig r;
    char device[64];
    NEEDS_DEVICES(2)
    if (getenv("YOLK_RDMA_REMOVE") == NULL)
        skip();
    struct yk_rdma_address old = local_of(0);
    netdev_of(old.host, device);
    rig_open(&r, YK_XFER_RDMA | YK_XFER_TCP, 1, 1);
    until_all_move(&r, 300);
    for (uint32_t op = YK_XFER_READ; op <= YK_XFER_WRITE; op++) {
        uint64_t had = rail_bytes(&r, 0), began = yk_now_ns();
        yk_xfer_batch b = begin(&r, op, 310 + op, TIMEOUT_MS);
        (void)under_way(&r, b, 0, had);
        change_address(device, &old, "77");
        int rc = end(&r, b);
        if (rc != 0)
            tell_links(&r);
        assert_int_equal(rc, 0);
        assert_memory_equal(r.local, r.target.memory, BYTES);
        exact(&r, 320); /* and what is begun meanwhile */
        print_message("%s with another address: well after %u ms\n", device,
                      (unsigned)((yk_now_ns() - began) / YK_NS_PER_MS));
        struct yk_rdma_address now = local_of(0);
        change_address(device, &now, strrchr(old.host, '.') + 1);
        until_all_move(&r, 330);
    }
    rig_close(&r, 0);
}

/* What a command does that may wait for this process. */
static pid_t begin_command(const char *text) {
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        execl("/bin/sh", "sh", "-c", text, (char *)NULL);
        _exit(127);
    }
    return pid;
}

static void end_command(pid_t pid) {
    uint64_t until = yk_now_ns() + LOOK_S * YK_NS_PER_S;
    int status;
    pid_t ended;
    while ((ended = waitpid(pid, &status, WNOHANG)) == 0) {
        assert_true(yk_now_ns() < until);
        (void)poll(NULL, 0, 50);
    }
    assert_int_equal(ended, pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* With a driver that does not part from its users the kernel waits for those to let go, which they do when they end; then
 * the device comes back, and is used again. */
static void a_device_is_taken_out(void **state) {
    struct rig r;
    const char *remove = getenv("YOLK_RDMA_REMOVE"), *back = getenv("YOLK_RDMA_RETURN");
    NEEDS_DEVICES(2)
    if (remove == NULL || back == NULL)
        skip();
    for (uint32_t op = YK_XFER_READ; op <= YK_XFER_WRITE; op++) {
        rig_open(&r, YK_XFER_RDMA | YK_XFER_TCP, 1, 1);
        until_all_move(&r, 400);
        uint64_t had = rail_bytes(&r, 0), began = yk_now_ns();
        yk_xfer_batch b = begin(&r, op, 410 + op, TIMEOUT_MS);
        int hit = under_way(&r, b, 0, had);
        pid_t pid = begin_command(remove);
        int rc = end(&r, b);
        if (rc != 0)
            tell_links(&r);
        assert_int_equal(rc, 0);
        assert_memory_equal(r.local, r.target.memory, BYTES);
        print_message("a device taken out in a %s (%s): it ended well after %u ms\n", op == YK_XFER_READ ? "read" : "write",
                      hit ? "in the middle" : "at its end", (unsigned)((yk_now_ns() - began) / YK_NS_PER_MS));
        exact(&r, 420); /* and what is begun meanwhile */
        print_message("and others after %u ms\n", (unsigned)((yk_now_ns() - began) / YK_NS_PER_MS));
        rig_close(&r, 0);
        print_message("nobody uses it any more\n");
        end_command(pid);
        print_message("it is gone\n");
        end_command(begin_command(back));
        rdma_links_up();
    }
    rig_open(&r, YK_XFER_RDMA | YK_XFER_TCP, 1, 1);
    until_all_move(&r, 440);
    rig_close(&r, 0);
}

#ifdef YK_TEST_VERBS /* the transport is built, not none.c */
static uint32_t polled; /* atomic */

static int poll_nothing(struct ibv_cq *cq, int count, struct ibv_wc *wc) {
    (void)cq, (void)count, (void)wc;
    __atomic_fetch_add(&polled, 1, __ATOMIC_RELAXED);
    return 0;
}

/* The device moves the bytes and the driver never says so, as some do when a link goes. It is the driver's own function
 * that is taken away, of one device of this side. */
static void a_completion_never_comes(void **state) {
    struct rig r;
    struct yk_rdma_dev *dev;
    struct yk_err err;
    NEEDS_DEVICES(2)
    struct yk_rdma_address local = local_of(0);
    rig_open(&r, YK_XFER_RDMA | YK_XFER_TCP, 1, 1);
    until_all_move(&r, 600);
    assert_int_equal(yk_rdma_dev_get(local.device, &dev, &err), 0);
    for (uint32_t round = 0; round < 2; round++) {
        __atomic_store_n(&polled, 0, __ATOMIC_RELAXED);
        uint64_t had = rail_bytes(&r, 0), began = yk_now_ns();
        yk_xfer_batch b = begin(&r, YK_XFER_READ, 610 + round, TIMEOUT_MS);
        (void)under_way(&r, b, 0, had);
        int (*poll_cq)(struct ibv_cq *, int, struct ibv_wc *) = dev->ctx->ops.poll_cq;
        __atomic_store_n(&dev->ctx->ops.poll_cq, poll_nothing, __ATOMIC_SEQ_CST); /* the shard's thread reads it */
        int rc = end(&r, b);
        if (rc != 0)
            tell_links(&r);
        assert_int_equal(rc, 0);
        assert_memory_equal(r.local, r.target.memory, BYTES);
        exact(&r, 620); /* and what is begun meanwhile */
        __atomic_store_n(&dev->ctx->ops.poll_cq, poll_cq, __ATOMIC_SEQ_CST);
        print_message("%s without completions: well after %u ms, %u looks in vain\n", local.device,
                      (unsigned)((yk_now_ns() - began) / YK_NS_PER_MS), __atomic_load_n(&polled, __ATOMIC_RELAXED));
        assert_true(__atomic_load_n(&polled, __ATOMIC_RELAXED) > 0);
        until_all_move(&r, 630);
    }
    yk_rdma_dev_put(dev);
    rig_close(&r, 0);
}
#endif

/* The wire takes packets and loses them, and nothing says so. */
static void packets_vanish(void **state) {
    struct rig r;
    NEEDS_DEVICES(2)
    shell("modprobe %s", "sch_netem");
    rig_open(&r, YK_XFER_RDMA | YK_XFER_TCP, 1, 1);
    until_all_move(&r, 60);
    for (uint32_t op = YK_XFER_READ; op <= YK_XFER_WRITE; op++) {
        uint64_t had = rail_bytes(&r, 0), began = yk_now_ns();
        yk_xfer_batch b = begin(&r, op, 70 + op, TIMEOUT_MS);
        (void)under_way(&r, b, 0, had);
        shell("tc qdisc add dev %s root netem loss 100%%", rdma_cuts[0]);
        int rc = end(&r, b);
        if (rc != 0)
            tell_links(&r);
        assert_int_equal(rc, 0);
        assert_memory_equal(r.local, r.target.memory, BYTES);
        exact(&r, 80); /* and what is begun meanwhile */
        print_message("%s loses all: well after %u ms\n", rdma_cuts[0], (unsigned)((yk_now_ns() - began) / YK_NS_PER_MS));
        shell("tc qdisc del dev %s root", rdma_cuts[0]);
        until_all_move(&r, 90);
    }
    rig_close(&r, 0);
}

/* Ends batches that the peer may not answer: each by its deadline, and a little for the machine. */
static void end_poor(struct rig *r, const yk_xfer_batch *b, uint32_t n, const char *what) {
    uint64_t began = yk_now_ns();
    for (uint32_t i = 0; i < n; i++) {
        int rc = end(r, b[i]);
        print_message("%s, batch %u: %s after %u ms\n", what, i, rc == 0 ? "well" : yk_status_text(rc),
                      (unsigned)((yk_now_ns() - began) / YK_NS_PER_MS));
        assert_true(rc <= 0 && rc != -YK_EAGAIN);
        assert_true(i + 1 < n || rc < 0); /* the last was begun when nobody could answer */
    }
    assert_true(yk_now_ns() - began < (POOR_MS + TIMEOUT_MS) * YK_NS_PER_MS);
}

/* TCP finds its way, here over loopback. */
static void tcp_is_left(void **state) {
    struct rig r;
    NEEDS_DEVICES(1)
    rig_open(&r, YK_XFER_RDMA | YK_XFER_TCP, 1, 1);
    exact(&r, 5);
    yk_xfer_batch b = begin(&r, YK_XFER_READ, 6, TIMEOUT_MS);
    for (uint32_t i = 0; i < rdma_cut_count; i++)
        rdma_set_link(i, "down");
    assert_int_equal(end(&r, b), 0);
    assert_memory_equal(r.local, r.target.memory, BYTES);
    exact(&r, 7);
    rdma_links_up();
    until_all_move(&r, 9);
    rig_close(&r, 0);
}

/* No way is left. */
static void all_links_are_cut(void **state) {
    struct rig r;
    NEEDS_DEVICES(1)
    rig_open(&r, YK_XFER_RDMA, 1, 1);
    exact(&r, 7);
    yk_xfer_batch b[3] = {begin(&r, YK_XFER_READ, 8, POOR_MS), begin(&r, YK_XFER_READ, 8, POOR_MS)};
    for (uint32_t i = 0; i < rdma_cut_count; i++)
        rdma_set_link(i, "down");
    b[2] = begin(&r, YK_XFER_READ, 8, POOR_MS);
    end_poor(&r, b, 3, "without any link");
    rdma_links_up();
    exact(&r, 9);
    rig_close(&r, 0);
}

/* Its devices answer reads, and its processors have no part in that. */
static void a_stopped_peer_is_read(void **state) {
    struct rig r;
    NEEDS_DEVICES(0)
    rig_open(&r, YK_XFER_RDMA | YK_XFER_TCP, 1, 1);
    until_all_move(&r, 110); /* keys are known by then */
    assert_int_equal(kill(r.target.pid, SIGSTOP), 0);
    struct rdma_counters before = rdma_devices();
    int rc = end(&r, begin(&r, YK_XFER_READ, 120, TIMEOUT_MS));
    print_message("the peer is stopped: a read of %u bytes ends with %d after %llu packets\n", BYTES, rc,
                  (unsigned long long)rdma_packets_since(&before));
    assert_int_equal(rc, 0);
    assert_memory_equal(r.local, r.target.memory, BYTES);
    yk_xfer_batch b = begin(&r, YK_XFER_WRITE, 130, POOR_MS); /* that takes its hand */
    end_poor(&r, &b, 1, "a write to one that is stopped");
    assert_int_equal(kill(r.target.pid, SIGCONT), 0);
    exact(&r, 140);
    rig_close(&r, 0);
}

static uint64_t untrue_reads(void) {
    struct yk_device_counts c[YK_RDMA_DEVICES_MAX];
    uint32_t n = yk_rdma_devices(c, YK_RDMA_DEVICES_MAX);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += c[i].untrue;
    return sum;
}

/* A host that is too busy to take packets in drops answers, and what comes behind a gap must not be taken for what was in
 * it, whatever the driver says: rxe says that reads are complete which it has not made (decision 0036). This goes on until
 * it did, where it is known to, and YOLK_RDMA_TIMES longer. */
static void answers_are_dropped(void **state) {
    struct rig r;
    NEEDS_DEVICES(0)
    const char *times = getenv("YOLK_RDMA_TIMES");
    uint32_t more = times != NULL ? (uint32_t)atoi(times) : 4, i = 0;
    struct utsname kernel;
    /* rxe's devices count packets, and siw's do not, which has TCP to make good what is lost. */
    int known = uname(&kernel) == 0 && strncmp(kernel.release, "6.1.", 4) == 0 && rdma_devices().n > 0;
    uint64_t until = yk_now_ns() + LOOK_S * YK_NS_PER_S, untrue = untrue_reads();
    rig_open(&r, YK_XFER_RDMA | YK_XFER_TCP, 1, 1);
    until_all_move(&r, 150);
    shell("echo %s >/proc/sys/net/core/netdev_max_backlog", "32");
    for (; i < more || (known && untrue_reads() == untrue && yk_now_ns() < until); i++)
        exact(&r, 160 + 2 * i);
    shell("echo %s >/proc/sys/net/core/netdev_max_backlog", "1000");
    print_message("%u times, %llu reads said to be complete had not come\n", i, (unsigned long long)(untrue_reads() - untrue));
    assert_true(!known || untrue_reads() > untrue);
    rig_close(&r, 0);
}

static void the_peer_is_killed(void **state) {
    struct rig r;
    NEEDS_DEVICES(0)
    for (uint32_t op = YK_XFER_READ; op <= YK_XFER_WRITE; op++) {
        rig_open(&r, YK_XFER_RDMA | YK_XFER_TCP, 1, 1);
        exact(&r, 20);
        uint64_t had = rail_bytes(&r, 0);
        yk_xfer_batch b[4] = {begin(&r, op, 30, POOR_MS), begin(&r, op, 30, POOR_MS), begin(&r, op, 30, POOR_MS)};
        (void)under_way(&r, b[2], 0, had);
        assert_int_equal(kill(r.target.pid, SIGKILL), 0);
        b[3] = begin(&r, op, 30, POOR_MS);
        end_poor(&r, b, 4, op == YK_XFER_READ ? "the peer is killed in a read" : "the peer is killed in a write");
        rig_close(&r, SIGKILL);
    }
}

/* Not one byte of payload goes through a device then, and all arrive. iWARP has no lanes then, since each connection has
 * a page that it must register: devices that count no packets are of that kind, and have TCP beside them. */
static void memory_that_may_not_be_pinned(void **state) {
    struct rig r;
    NEEDS_DEVICES(0)
    uint32_t transports = YK_XFER_RDMA | (rdma_devices().n == 0 ? (uint32_t)YK_XFER_TCP : 0);
    for (int here = 0; here <= 1; here++) {
        rig_open(&r, transports, here, !here);
        struct rdma_counters before = rdma_devices();
        exact(&r, 40);
        rdma_may_pin();
        print_message("no memory registered %s: %llu packets\n", here ? "there" : "here",
                      (unsigned long long)rdma_packets_since(&before));
        assert_true(rdma_packets_since(&before) < BYTES / 4096);
        rig_close(&r, 0);
    }
}

static int setup(void **state) {
    listen_at = getenv("YOLK_RDMA_LISTEN");
    advertise = getenv("YOLK_RDMA_ADVERTISE");
    rdma_cuts_read();
    return 0;
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_device_moves_bytes), cmocka_unit_test(memory_that_may_not_be_pinned),
        cmocka_unit_test(the_peer_is_killed),       cmocka_unit_test(a_link_is_cut),
        cmocka_unit_test(all_links_are_cut),        cmocka_unit_test(packets_vanish),
        cmocka_unit_test(a_stopped_peer_is_read),   cmocka_unit_test(tcp_is_left),
        cmocka_unit_test(an_address_is_removed),    cmocka_unit_test(an_address_changes),
        cmocka_unit_test(answers_are_dropped),
        cmocka_unit_test(a_device_is_taken_out),
#ifdef YK_TEST_VERBS /* the transport is built, not none.c */
        cmocka_unit_test(a_completion_never_comes),
#endif
    };
    self_path = argv[0];
    if (argc == 6 && strcmp(argv[1], "serve") == 0) {
        listen_at = getenv("YOLK_RDMA_LISTEN");
        advertise = getenv("YOLK_RDMA_ADVERTISE");
        return serve(argv);
    }
    if (getenv("YOLK_RDMA_CASE") != NULL)
        cmocka_set_test_filter(getenv("YOLK_RDMA_CASE"));
    return cmocka_run_group_tests(tests, setup, NULL);
}
