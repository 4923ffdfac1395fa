/* SPDX-License-Identifier: Apache-2.0
 *
 * The conformance of the RDMA transport. It needs devices, which hosts of tests seldom have: YOLK_RDMA_LISTEN says
 * which address of one the target listens at ("10.0.1.2:0"), YOLK_RDMA_ADVERTISE which it tells ("10.0.1.2:7711,
 * 10.0.2.2:7711": two rails). Without the first all is skipped. tests/vm has a guest with such devices.
 *
 * That payload went through devices and not over the lane's stream shows in their counters, where they have such (rxe
 * does, siw does not), and in what the sockets of this process have carried. YOLK_RDMA_CASE: one case alone.
 */
#include "conformance.h"

#include "base/clock.h"
#include "xfer/rdma/rdma.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <cmocka.h>

static void open_rdma(struct conform_rig *rig, const yk_xfer_opts *opts) {
    yk_xfer_opts o = *opts;
    o.insecure_network = 1;
    o.advertise = rig->listen != NULL ? getenv("YOLK_RDMA_ADVERTISE") : NULL;
    o.stall_ms = o.stall_ms != 0 ? 10 * o.stall_ms : 5000; /* emulated devices are slow */
    o.connect_ms = 30000;
    conform_open_two(rig, &o);
}

static struct conform_rig rdma = {.name = "rdma",
                                  .can = CONFORM_GUARD | CONFORM_NOTIFY,
                                  .open = open_rdma,
                                  .close = conform_close_two,
                                  .put = conform_put_memory,
                                  .get = conform_get_memory,
                                  .transports = YK_XFER_RDMA,
                                  .poor_ms = 1000};

static int missing(void **state) {
    struct yk_err err;
    rdma.listen = getenv("YOLK_RDMA_LISTEN");
    if (rdma.listen != NULL && yk_rdma_check(NULL, &err) < 0)
        fail_msg("%s", err.text);
    (void)state;
    return 0;
}

#define COUNTERS_MS 20 /* the kernel reads them again when they are older than 10 ms */

/* Packets that all devices of the host have received. */
static uint64_t packets(void) {
    uint64_t sum = 0;
    (void)poll(NULL, 0, COUNTERS_MS);
    DIR *d = opendir("/sys/class/infiniband");
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        char path[400];
        unsigned long long n = 0;
        snprintf(path, sizeof(path), "/sys/class/infiniband/%s/ports/1/hw_counters/rcvd_pkts", e->d_name);
        FILE *f = fopen(path, "re");
        if (f != NULL && fscanf(f, "%llu", &n) == 1)
            sum += n;
        if (f != NULL)
            fclose(f);
    }
    if (d != NULL)
        closedir(d);
    return sum;
}

/* Bytes that TCP sockets of this process have sent; both ends of its lanes are here. The kernel's own, such as those of
 * siw, are not among them. */
static uint64_t streamed(void) {
    uint64_t sum = 0;
    for (int fd = 0; fd < 1024; fd++) {
        struct tcp_info info;
        socklen_t len = sizeof(info);
        memset(&info, 0, sizeof(info));
        if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0)
            sum += info.tcpi_bytes_sent;
    }
    return sum;
}

#define BYTES (4u << 20)

#define NEEDS_DEVICES                                                                              \
    if (rdma.listen == NULL) {                                                                     \
        print_message("YOLK_RDMA_LISTEN is not set: no RDMA devices to test with\n");              \
        skip();                                                                                    \
    }

/* One request; how long it took is told, since emulated devices are slow in ways that nobody expects. */
static void one(uint32_t op, char *local, uint64_t len, int guarded) {
    static yk_xfer_guard guard = {.descriptor = 7, .generation = 3, .epoch = 1};
    yk_xfer_submit_opts so = {.size = sizeof(so), .xclass = YK_XFER_DEMAND, .timeout_ms = 60000};
    yk_xfer_request q = {.op = op, .local = local, .segment = rdma.segment, .length = len,
                         .guard = guarded ? &guard : NULL};
    uint64_t begin = yk_now_ns();
    memset(rdma.memory, op == YK_XFER_READ ? 'r' : 0, len);
    memset(local, op == YK_XFER_WRITE ? 'w' : 0, len);
    int rc = yk_xfer_run(rdma.from, &q, 1, &so);
    char *links = NULL;
    if (rc != 0 && yk_xfer_links_json(rdma.from, &links) == 0)
        fail_msg("%s of %u bytes: %d; %s", op == YK_XFER_READ ? "read" : "write", (unsigned)len, rc, links);
    assert_int_equal(rc, 0);
    assert_memory_equal(rdma.memory, local, len);
    print_message("%s%s of %u bytes: %u ms\n", guarded ? "guarded " : "", op == YK_XFER_READ ? "read" : "write",
                  (unsigned)len, (unsigned)((yk_now_ns() - begin) / YK_NS_PER_MS));
}

/* Until devices know the memory of this process: before that its bytes go over TCP. */
static void settle(void) {
    struct yk_rdma_progress p[YK_RDMA_DEVICES_MAX];
    uint64_t until = yk_now_ns() + 60 * YK_NS_PER_S;
    uint32_t left;
    do {
        uint32_t n = yk_rdma_progress(p);
        assert_true(n > 0 && yk_now_ns() < until);
        left = 0;
        for (uint32_t i = 0; i < n; i++) {
            assert_int_equal(p[i].refused, 0);
            left += p[i].known < p[i].bytes;
        }
        (void)poll(NULL, 0, 10);
    } while (left > 0);
}

static void payload_goes_through_devices(void **state) {
    static const uint32_t sizes[] = {1, 4096, 64 << 10, BYTES};
    NEEDS_DEVICES
    yk_xfer_opts none = {.size = sizeof(none)};
    char *local = malloc(BYTES);
    assert_non_null(local);
    rdma.open(&rdma, &none);
    yk_xfer_memory m = {.addr = local, .length = BYTES, .fd = -1};
    assert_int_equal(yk_xfer_register(rdma.from, &m, 1), 0);
    settle();
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        for (int guarded = 0; guarded < 2; guarded++)
            for (uint32_t op = YK_XFER_READ; op <= YK_XFER_WRITE; op++) {
                uint64_t before = packets(), sent = streamed();
                one(op, local, sizes[i], guarded);
                uint64_t after = packets();
                if (after != 0 && sizes[i] >= 64 << 10) /* devices that count: a packet has 4 KiB at most */
                    assert_true(after - before >= sizes[i] / 4096);
                if (sizes[i] >= 64 << 10) /* a lane that is new has said much, but not as much as that */
                    assert_true(streamed() < sent + sizes[i] / 2);
            }
    void *addr = local;
    assert_int_equal(yk_xfer_unregister(rdma.from, &addr, 1), 0);
    rdma.close(&rdma);
    free(local);
}

static void plain(void **state) {
    NEEDS_DEVICES
    conform_plain(&rdma);
}

static void lanes_that_fail(void **state) {
    NEEDS_DEVICES
    conform_faults(&rdma, "error", "");
}

static void requests_that_fail(void **state) {
    NEEDS_DEVICES
    conform_faults(&rdma, "error", ",scope=request");
}

static void slices_that_vanish(void **state) {
    NEEDS_DEVICES
    conform_faults(&rdma, "drop", "");
}

static void bytes_that_change(void **state) {
    NEEDS_DEVICES
    conform_faults(&rdma, "corrupt", "");
}

/* Alone among the transports it says what is missing; beside others it just has no rails. */
static void hosts_without_it_say_so(void **state) {
    struct yk_err err;
    yk_xfer *e = NULL;
    yk_xfer_opts o = {.size = sizeof(o), .transports = YK_XFER_RDMA, .shm_dir = ""};
    int rc = yk_rdma_check(NULL, &err);
    if (rc == 0)
        skip();
    assert_int_equal(rc, -YK_ENOTSUP);
    assert_int_equal(yk_xfer_create(&o, &e), -YK_ENOTSUP);
    assert_non_null(strstr(yk_xfer_error_text(), "no RDMA: "));
    o.transports |= YK_XFER_TCP;
    assert_int_equal(yk_xfer_create(&o, &e), 0);
    yk_xfer_destroy(e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hosts_without_it_say_so), cmocka_unit_test(payload_goes_through_devices),
        cmocka_unit_test(plain),                   cmocka_unit_test(lanes_that_fail),
        cmocka_unit_test(requests_that_fail),      cmocka_unit_test(slices_that_vanish),
        cmocka_unit_test(bytes_that_change),
    };
    if (getenv("YOLK_RDMA_CASE") != NULL)
        cmocka_set_test_filter(getenv("YOLK_RDMA_CASE"));
    return cmocka_run_group_tests(tests, missing, NULL);
}
