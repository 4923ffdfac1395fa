/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory that the kernel can read and write but not pin (a device's that is mapped): no request fails for that.
 * Calls that pin pages are in place of the C library's here, and say of all memory what the kernel says of such.
 */
#include "tcp_rig.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static uint32_t refused_copies, refused_sends; /* atomic */

static ssize_t refuse(uint32_t *count) {
    __atomic_fetch_add(count, 1, __ATOMIC_RELAXED);
    errno = EFAULT;
    return -1;
}

ssize_t process_vm_readv(pid_t pid, const struct iovec *lvec, unsigned long ln, const struct iovec *rvec,
                         unsigned long rn, unsigned long flags) {
    (void)pid, (void)lvec, (void)ln, (void)rvec, (void)rn, (void)flags;
    return refuse(&refused_copies);
}

ssize_t process_vm_writev(pid_t pid, const struct iovec *lvec, unsigned long ln, const struct iovec *rvec,
                          unsigned long rn, unsigned long flags) {
    (void)pid, (void)lvec, (void)ln, (void)rvec, (void)rn, (void)flags;
    return refuse(&refused_copies);
}

ssize_t sendmsg(int fd, const struct msghdr *m, int flags) {
    return flags & MSG_ZEROCOPY ? refuse(&refused_sends) : syscall(SYS_sendmsg, fd, m, flags);
}

/* Small payload is copied from the server's buffer, large is not. */
static void a_server(void **state) {
    static const uint64_t lens[] = {1, 100, 4096, 8000, 1u << 20};
    struct rig r = {0};
    struct rig_lane l;
    (void)state;
    rig_open(&r);
    rig_connect(&r, &l, 1);
    for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
        rig_pattern(r.local, lens[i], i);
        assert_int_equal(rig_run(&r, &l, YK_SLICE_WRITE, r.local, lens[i], 4096 * i), 0);
        rig_sync(&r);
        assert_true(rig_is_pattern(r.target + 4096 * i, lens[i], i));
    }
    assert_true(__atomic_load_n(&refused_copies, __ATOMIC_RELAXED) > 0);
    /* What is not there at all is told as ever. */
    assert_true(mmap(r.target, 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED);
    assert_int_equal(rig_run(&r, &l, YK_SLICE_WRITE, r.local, 100, 4000), -YK_EFAULT);
    assert_int_equal(rig_run(&r, &l, YK_SLICE_WRITE, r.local, 100, 8150), -YK_EFAULT);
    assert_int_equal(rig_run(&r, &l, YK_SLICE_WRITE, r.local, 100, 8192), 0);
    assert_int_equal(l.state, RIG_UP);
    rig_hang_up(&l);
    rig_close(&r);
}

static void sends_without_a_copy(void **state) {
    struct rig r = {.caps = YK_RAIL_NETWORK};
    struct rig_lane l;
    (void)state;
    rig_open(&r);
    rig_connect(&r, &l, 1);
    for (uint64_t i = 0; i < 4; i++) {
        rig_pattern(r.local, 1u << 20, i);
        assert_int_equal(rig_run(&r, &l, YK_SLICE_WRITE, r.local, 1u << 20, i << 20), 0);
        rig_sync(&r);
        assert_true(rig_is_pattern(r.target + (i << 20), 1u << 20, i));
    }
    assert_true(__atomic_load_n(&refused_sends, __ATOMIC_RELAXED) > 0);
    rig_hang_up(&l);
    rig_close(&r);
}

/* Where a copy between processes cannot be made, the peer's socket is the way. */
static void shared_memory(void **state) {
    static char here[1u << 20], there[1u << 20];
    char dir[] = "/tmp/yk-unpinned-XXXXXX";
    yk_xfer *from, *to;
    yk_xfer_segment s;
    (void)state;
    assert_non_null(mkdtemp(dir));
    yk_xfer_opts o = {.size = sizeof(o), .transports = YK_XFER_SHM, .shm_dir = dir, .registry_dir = dir, .any_local = 1};
    yk_xfer_memory m = {.addr = there, .length = sizeof(there), .fd = -1,
                        .access = YK_XFER_REMOTE_READ | YK_XFER_REMOTE_WRITE};
    assert_int_equal(yk_xfer_create(&o, &from), 0);
    o.listen = "127.0.0.1:0";
    assert_int_equal(yk_xfer_create(&o, &to), 0);
    assert_int_equal(yk_xfer_register(to, &m, 1), 0);
    assert_int_equal(yk_xfer_publish(to, "m", there, sizeof(there), NULL), 0);
    assert_int_equal(yk_xfer_open(from, "m", 0, &s), 0);
    __atomic_store_n(&refused_copies, 0, __ATOMIC_RELAXED);
    for (uint32_t op = YK_XFER_READ; op <= YK_XFER_WRITE; op++) {
        yk_xfer_request q = {.op = op, .local = here, .segment = s, .length = sizeof(here)};
        rig_pattern(op == YK_XFER_READ ? there : here, sizeof(here), op);
        memset(op == YK_XFER_READ ? here : there, 0, sizeof(here));
        assert_int_equal(yk_xfer_run(from, &q, 1, NULL), 0);
        assert_memory_equal(here, there, sizeof(here));
    }
    assert_true(__atomic_load_n(&refused_copies, __ATOMIC_RELAXED) >= 2); /* that way was tried */
    yk_xfer_destroy(from);
    yk_xfer_destroy(to);
    assert_int_equal(rmdir(dir), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_server),
        cmocka_unit_test(sends_without_a_copy),
        cmocka_unit_test(shared_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
