/* SPDX-License-Identifier: Apache-2.0
 *
 * Regions shown to peers: copies by both ways, what is taken back is not touched any more, who is dead
 * holds nothing. Owners are children of this process, or this process for its own children.
 */
#include "xfer/share.h"

#include "base/clock.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define LEN (4u << 20)

/* The owner's side: one region that peers can map, one that they cannot. */
struct owner {
    struct yk_registry *g;
    struct yk_share *s;
    struct yk_region *mapped, *plain;
    char *mapped_mem, *plain_mem;
};

static struct yk_region *show(struct owner *o, void *mem, int fd, uint32_t access) {
    yk_xfer_memory m = {.addr = mem, .length = LEN, .access = access, .fd = fd};
    assert_int_equal(yk_registry_add(o->g, &m, 1, NULL), 0);
    struct yk_region *r = yk_registry_find(o->g, mem, LEN);
    yk_registry_put(o->g, r); /* nobody else removes it */
    yk_share_add(o->s, r);
    return r;
}

static void owner_open(struct owner *o, uint32_t access) {
    memset(o, 0, sizeof(*o));
    o->g = yk_registry_new();
    assert_int_equal(yk_share_new(77, &o->s, NULL), 0);
    int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_int_equal(ftruncate(fd, LEN + 4096), 0);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
    o->mapped_mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 4096);
    o->plain_mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(o->mapped_mem, 'm', LEN);
    memset(o->plain_mem, 'p', LEN);
    yk_xfer_memory m = {.addr = o->mapped_mem, .length = LEN, .access = access, .fd = fd, .fd_offset = 4096};
    assert_int_equal(yk_registry_add(o->g, &m, 1, NULL), 0);
    o->mapped = yk_registry_find(o->g, o->mapped_mem, LEN);
    yk_registry_put(o->g, o->mapped);
    yk_share_add(o->s, o->mapped);
    o->plain = show(o, o->plain_mem, -1, access);
    close(fd);
}

static void owner_close(struct owner *o) {
    yk_share_free(o->s);
    yk_registry_free(o->g);
    munmap(o->mapped_mem, LEN);
    munmap(o->plain_mem, LEN);
}

/* A child that runs fn as a peer of this process; its exit code says how it went. */
static pid_t peer_start(struct owner *o, int (*fn)(struct owner *o, struct yk_share_peer *p)) {
    pid_t parent = getpid(), pid = fork();
    if (pid != 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct yk_share_peer *p;
    struct yk_err err = {0};
    if (yk_share_open((uint32_t)parent, yk_share_fd(o->s), 77, &p, &err) < 0) {
        print_error("%s\n", err.text);
        _exit(100);
    }
    int rc = fn(o, p);
    yk_share_close(p);
    _exit(rc);
}

static int peer_end(pid_t pid) {
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 200;
}

#define NEED(cond)                                                                                 \
    if (!(cond))                                                                                   \
    return __LINE__ % 90 + 1

static int all_of(const char *mem, size_t len, char c) {
    return len == 0 || (mem[0] == c && memcmp(mem, mem + 1, len - 1) == 0);
}

static int reads_and_writes(struct owner *o, struct yk_share_peer *p) {
    static char buf[LEN];
    enum yk_share_how how;
    NEED(yk_share_copy(p, o->mapped->id, 0, buf, LEN, 0, &how) == 0 && how == YK_SHARE_MAP);
    NEED(all_of(buf, LEN, 'm'));
    int rc = yk_share_copy(p, o->plain->id, 0, buf, LEN, 0, &how);
    NEED(how == YK_SHARE_VM);
    if (rc != -YK_ENOTSUP) { /* where the kernel lets us */
        NEED(rc == 0 && all_of(buf, LEN, 'p'));
        memset(buf, 'x', LEN);
        NEED(yk_share_copy(p, o->plain->id, 1000, buf, 5000, 1, NULL) == 0);
    }
    memset(buf, 'x', LEN);
    NEED(yk_share_copy(p, o->mapped->id, LEN - 77, buf, 77, 1, NULL) == 0);
    return rc == -YK_ENOTSUP ? 99 : 0;
}

static void a_peer_copies_both_ways(void **state) {
    struct owner o;
    owner_open(&o, YK_XFER_REMOTE_READ | YK_XFER_REMOTE_WRITE);
    int rc = peer_end(peer_start(&o, reads_and_writes));
    if (rc == 99)
        print_message("process_vm_readv is not permitted here\n");
    else
        assert_int_equal(rc, 0);
    assert_true(all_of(o.mapped_mem, LEN - 77, 'm') && all_of(o.mapped_mem + LEN - 77, 77, 'x'));
    assert_true(all_of(o.plain_mem, 1000, 'p') && all_of(o.plain_mem + 6000, LEN - 6000, 'p'));
    assert_true(rc == 99 || all_of(o.plain_mem + 1000, 5000, 'x'));
    owner_close(&o);
}

static int is_refused(struct owner *o, struct yk_share_peer *p) {
    char buf[100];
    NEED(yk_share_copy(p, o->mapped->id, 0, buf, 100, 1, NULL) == -YK_EPERM);
    NEED(yk_share_copy(p, o->mapped->id, LEN - 99, buf, 100, 0, NULL) == -YK_EINVAL);
    NEED(yk_share_copy(p, o->mapped->id, UINT64_MAX, buf, 100, 0, NULL) == -YK_EINVAL);
    NEED(yk_share_copy(p, o->mapped->id, 0, buf, UINT64_MAX, 0, NULL) == -YK_EINVAL);
    NEED(yk_share_copy(p, o->mapped->id + (1ull << 32), 0, buf, 100, 0, NULL) == -YK_EGONE);
    NEED(yk_share_copy(p, 0, 0, buf, 100, 0, NULL) == -YK_EGONE);
    NEED(yk_share_copy(p, UINT64_MAX, 0, buf, 100, 0, NULL) == -YK_EGONE);
    return 0;
}

static void what_is_not_allowed_or_not_there_is_refused(void **state) {
    struct owner o;
    owner_open(&o, YK_XFER_REMOTE_READ);
    assert_int_equal(peer_end(peer_start(&o, is_refused)), 0);
    owner_close(&o);
}

static int is_not_shown(struct owner *o, struct yk_share_peer *p) {
    char buf[100];
    for (int write = 0; write < 2; write++) {
        NEED(yk_share_copy(p, o->mapped->id, 0, buf, 100, write, NULL) == -YK_EGONE);
        NEED(yk_share_copy(p, o->plain->id, 0, buf, 100, write, NULL) == -YK_EGONE);
    }
    return 0;
}

/* What takes guarded requests only is copied by nobody who could not be asked for the guard. */
static void what_is_guarded_only_is_not_shown(void **state) {
    struct owner o;
    owner_open(&o, YK_XFER_REMOTE_READ | YK_XFER_REMOTE_WRITE | YK_XFER_REMOTE_GUARDED);
    assert_int_equal(peer_end(peer_start(&o, is_not_shown)), 0);
    owner_close(&o);
}

static void another_process_is_not_taken_for_the_owner(void **state) {
    struct owner o;
    struct yk_share_peer *p;
    owner_open(&o, YK_XFER_REMOTE_READ);
    uint32_t pid = (uint32_t)getpid();
    int other = memfd_create("other", MFD_CLOEXEC);
    assert_int_equal(yk_share_open(pid, yk_share_fd(o.s), 78, &p, NULL), -YK_EGONE);
    assert_int_equal(yk_share_open(pid, other, 77, &p, NULL), -YK_EGONE);
    assert_int_equal(yk_share_open(pid, 100000, 77, &p, NULL), -YK_EGONE);
    close(other);
    owner_close(&o);
}

/* A file that its owner could cut short is not mapped: a copy would be SIGBUS. */
static int not_mapped(struct owner *o, struct yk_share_peer *p) {
    char buf[100];
    enum yk_share_how how;
    (void)yk_share_copy(p, o->plain->id, 0, buf, 100, 0, &how);
    NEED(how == YK_SHARE_VM);
    return 0;
}

static void a_file_that_may_shrink_is_not_mapped(void **state) {
    struct owner o;
    owner_open(&o, YK_XFER_REMOTE_READ);
    int fd = memfd_create("loose", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_int_equal(ftruncate(fd, LEN), 0);
    void *mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    o.plain = show(&o, mem, fd, YK_XFER_REMOTE_READ);
    assert_int_equal(peer_end(peer_start(&o, not_mapped)), 0);
    munmap(mem, LEN);
    close(fd);
    owner_close(&o);
}

/* ---- taking back --------------------------------------------------------------------------------- */

static int writes_until_refused(struct owner *o, struct yk_share_peer *p) {
    char buf[4096];
    memset(buf, 'w', sizeof(buf));
    for (;;) {
        int rc = yk_share_copy(p, o->mapped->id, 0, buf, sizeof(buf), 1, NULL);
        if (rc == 0)
            continue;
        return rc == -YK_EGONE ? 0 : 1;
    }
}

static void after_forget_nothing_is_written(void **state) {
    struct owner o;
    for (int round = 0; round < 20; round++) {
        owner_open(&o, YK_XFER_REMOTE_READ | YK_XFER_REMOTE_WRITE);
        pid_t pids[3];
        for (int i = 0; i < 3; i++)
            pids[i] = peer_start(&o, writes_until_refused);
        uint64_t end = yk_now_ns() + 10 * YK_NS_PER_S;
        while (((volatile char *)o.mapped_mem)[0] != 'w' && yk_now_ns() < end)
            sched_yield();
        assert_int_equal(o.mapped_mem[0], 'w');
        assert_int_equal(yk_share_forget(o.s, o.mapped, yk_now_ns() + 10 * YK_NS_PER_S), 0);
        memset(o.mapped_mem, 'n', LEN); /* it is ours again */
        for (int i = 0; i < 3; i++)
            assert_int_equal(peer_end(pids[i]), 0);
        assert_true(all_of(o.mapped_mem, LEN, 'n'));
        owner_close(&o);
    }
}

/* A peer that hangs inside of a copy: reading from a pipe's worth of userfault is not to be had
 * everywhere, so it says that it copies, as a stopped one would stand there, and stops itself. */
static void a_stopped_peer_is_waited_for_and_a_dead_one_is_not(void **state) {
    struct owner o;
    owner_open(&o, YK_XFER_REMOTE_READ | YK_XFER_REMOTE_WRITE);
    pid_t pid = peer_start(&o, writes_until_refused);
    int status = 0;
    uint64_t end = yk_now_ns() + 20 * YK_NS_PER_S;
    /* Stopped between the two stores of its hazard, sooner or later. */
    int rc = 0;
    while (yk_now_ns() < end) {
        while (((volatile char *)o.mapped_mem)[0] != 'w' && yk_now_ns() < end)
            sched_yield();
        kill(pid, SIGSTOP);
        assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
        rc = yk_share_forget(o.s, o.mapped, yk_now_ns() + 20 * YK_NS_PER_MS);
        if (rc == -YK_ETIMEDOUT)
            break;
        yk_share_add(o.s, o.mapped); /* it stood elsewhere: again, once it has written */
        o.mapped_mem[0] = 'n';
        kill(pid, SIGCONT);
    }
    assert_int_equal(rc, -YK_ETIMEDOUT);
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(yk_share_forget(o.s, o.mapped, yk_now_ns() + 10 * YK_NS_PER_S), 0);
    owner_close(&o);
}

/* The owner is a child that is killed: what it left in memory is not served any more. */
static void a_dead_owner_serves_nothing(void **state) {
    struct tell {
        uint32_t fd;
        uint64_t mapped, plain;
    } t;
    struct yk_share_peer *p;
    char buf[1000];
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct owner o;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        owner_open(&o, YK_XFER_REMOTE_READ | YK_XFER_REMOTE_WRITE);
        t = (struct tell){(uint32_t)yk_share_fd(o.s), o.mapped->id, o.plain->id};
        if (write(fds[1], &t, sizeof(t)) != (ssize_t)sizeof(t))
            _exit(1);
        for (;;)
            pause();
    }
    assert_int_equal(read(fds[0], &t, sizeof(t)), sizeof(t));
    assert_int_equal(yk_share_open((uint32_t)pid, (int)t.fd, 77, &p, NULL), 0);
    assert_int_equal(yk_share_copy(p, t.mapped, 0, buf, sizeof(buf), 0, NULL), 0);
    assert_true(all_of(buf, sizeof(buf), 'm'));
    assert_int_equal(yk_share_gone(p), 0);
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(yk_share_gone(p), 1);
    for (int write = 0; write < 2; write++) {
        assert_int_equal(yk_share_copy(p, t.mapped, 0, buf, sizeof(buf), write, NULL), -YK_EGONE);
        assert_int_equal(yk_share_copy(p, t.plain, 0, buf, sizeof(buf), write, NULL), -YK_EGONE);
    }
    yk_share_close(p);
    close(fds[0]);
    close(fds[1]);
}

static int does_nothing(struct owner *o, struct yk_share_peer *p) {
    return 0;
}

static void slots_of_the_dead_are_used_again(void **state) {
    struct owner o;
    struct yk_share_peer *p[8];
    owner_open(&o, YK_XFER_REMOTE_READ);
    uint32_t pid = (uint32_t)getpid();
    for (int i = 0; i < 8; i++)
        assert_int_equal(yk_share_open(pid, yk_share_fd(o.s), 77, &p[i], NULL), 0);
    for (unsigned i = 0; i < 40; i++)
        assert_int_equal(peer_end(peer_start(&o, does_nothing)), 0);
    for (int i = 0; i < 8; i++)
        yk_share_close(p[i]);
    owner_close(&o);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_peer_copies_both_ways),
        cmocka_unit_test(what_is_not_allowed_or_not_there_is_refused),
        cmocka_unit_test(what_is_guarded_only_is_not_shown),
        cmocka_unit_test(another_process_is_not_taken_for_the_owner),
        cmocka_unit_test(a_file_that_may_shrink_is_not_mapped),
        cmocka_unit_test(after_forget_nothing_is_written),
        cmocka_unit_test(a_stopped_peer_is_waited_for_and_a_dead_one_is_not),
        cmocka_unit_test(slots_of_the_dead_are_used_again),
        cmocka_unit_test(a_dead_owner_serves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
