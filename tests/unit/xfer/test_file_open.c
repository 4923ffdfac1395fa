/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening a device: what is made, found, locked, refused, and with which words; block
 * devices, full file systems and kernels that forbid things, where this process may arrange them
 * (root, loop devices); skipped with the reason where not.
 */
#include "file_rig.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static const struct variant uring = {.name = "uring", .ops = &yk_file_uring};
static const struct variant threads = {.name = "threads", .ops = &yk_file_threads};

static void refused(struct rig *r, int code, const char *words) {
    memset(&r->err, 0, sizeof(r->err));
    struct yk_file *io = NULL;
    int rc = r->v->ops->open(&r->opts, &io, &r->err);
    if (rc != code || !strstr(r->err.text, words))
        fail_msg("%s, not %s with '%s': %s", yk_status_name(rc), yk_status_name(code), words,
                 r->err.text);
    assert_null(io);
}

static int exists(const char *path) {
    return access(path, F_OK) == 0;
}

/* ---- sizes ---------------------------------------------------------------------------------- */

static void a_new_file_has_its_space(void **state) {
    (void)state;
    struct rig r;
    rig_start(&r, &uring);
    struct stat st;
    assert_int_equal(stat(r.path, &st), 0);
    assert_int_equal(st.st_size, RIG_SIZE);
    assert_true((uint64_t)st.st_blocks * 512u >= RIG_SIZE);
    assert_int_equal(st.st_mode & 0777, 0600);
    struct yk_file_info info;
    r.io->ops->info(r.io, &info);
    assert_int_equal(info.size_bytes, RIG_SIZE);
    assert_int_equal(info.is_block, 0);
    assert_true(info.sector_bytes >= 512 && info.sector_bytes <= YK_FILE_SECTOR);
    rig_fini(&r);
}

static void a_file_grows_and_keeps_what_it_has(void **state) {
    (void)state;
    struct rig r;
    rig_init(&r, &uring);
    char *buf = aligned_alloc(4096, 4096);
    memset(buf, 7, 4096);
    rig_open(&r);
    assert_int_equal(rig_do(&r, YK_FILE_WRITE, RIG_SIZE - 4096u, buf, 4096), 0);
    rig_close(&r);
    r.opts.size_bytes = 2u * RIG_SIZE;
    r.opts.create = 0;
    refused(&r, -YK_EINVAL, "smaller than the 32 MiB");
    r.opts.create = 1;
    rig_open(&r);
    memset(buf, 0, 4096);
    assert_int_equal(rig_do(&r, YK_FILE_READ, RIG_SIZE - 4096u, buf, 4096), 0);
    assert_true(buf[0] == 7 && buf[4095] == 7);
    assert_int_equal(rig_do(&r, YK_FILE_WRITE, 2u * RIG_SIZE - 4096u, buf, 4096), 0);
    rig_close(&r);
    /* Less than what is there uses less, and takes nothing away. */
    r.opts.size_bytes = RIG_SIZE;
    rig_open(&r);
    assert_int_equal(rig_do(&r, YK_FILE_READ, RIG_SIZE, buf, 4096), -YK_EINVAL);
    struct stat st;
    assert_int_equal(stat(r.path, &st), 0);
    assert_int_equal(st.st_size, 2u * RIG_SIZE);
    rig_fini(&r);
    free(buf);
}

static void holes_get_their_space(void **state) {
    (void)state;
    struct rig r;
    rig_init(&r, &uring);
    int fd = open(r.path, O_CREAT | O_RDWR, 0600);
    assert_int_equal(ftruncate(fd, RIG_SIZE), 0);
    close(fd);
    struct stat st;
    r.opts.size_bytes = 0; /* as it is */
    rig_open(&r);
    assert_int_equal(stat(r.path, &st), 0);
    assert_int_equal(st.st_blocks, 0);
    rig_close(&r);
    r.opts.size_bytes = RIG_SIZE;
    rig_open(&r);
    assert_int_equal(stat(r.path, &st), 0);
    assert_true((uint64_t)st.st_blocks * 512u >= RIG_SIZE);
    rig_fini(&r);
}

/* Who looks before it takes, and does not take it, leaves no trace. */
static void an_open_that_wrote_nothing_is_taken_back(void **state) {
    (void)state;
    struct rig r;
    struct stat st;
    struct yk_file_info info;
    char *buf = aligned_alloc(4096, 4096);
    memset(buf, 7, 4096);
    rig_init(&r, &uring);
    r.opts.tentative = 1;
    rig_open(&r);
    r.io->ops->info(r.io, &info);
    assert_int_equal(info.found_bytes, 0);
    assert_int_equal(rig_do(&r, YK_FILE_READ, 0, buf, 4096), 0);
    rig_close(&r);
    assert_false(exists(r.path));
    int fd = open(r.path, O_CREAT | O_RDWR, 0600);
    assert_int_equal(write(fd, "hello", 5), 5);
    close(fd);
    rig_open(&r);
    r.io->ops->info(r.io, &info);
    assert_true(info.found_bytes == 5 && info.size_bytes == RIG_SIZE);
    rig_close(&r);
    assert_int_equal(stat(r.path, &st), 0);
    assert_int_equal(st.st_size, 5);
    rig_open(&r); /* taken */
    assert_int_equal(rig_do(&r, YK_FILE_WRITE, 4096, buf, 4096), 0);
    rig_close(&r);
    assert_int_equal(stat(r.path, &st), 0);
    assert_int_equal(st.st_size, RIG_SIZE);
    rig_open(&r); /* as long as it is to be: nothing to take back */
    rig_close(&r);
    assert_int_equal(stat(r.path, &st), 0);
    assert_int_equal(st.st_size, RIG_SIZE);
    rig_fini(&r);
    free(buf);
}

/* ---- refusals ------------------------------------------------------------------------------- */

static void what_cannot_be_opened_says_why(void **state) {
    (void)state;
    struct rig r;
    char path[200];
    rig_init(&r, &uring);
    r.opts.create = 0;
    refused(&r, -YK_ENOENT, "does not exist");
    r.opts.create = 1;
    r.opts.size_bytes = 0;
    refused(&r, -YK_ENOENT, "PATH:SIZE");
    r.opts.size_bytes = 1000;
    refused(&r, -YK_EINVAL, "multiple of 4096");
    r.opts.size_bytes = RIG_SIZE;
    r.opts.path = "";
    refused(&r, -YK_EINVAL, "empty");
    r.opts.path = r.dir;
    refused(&r, -YK_EINVAL, "is a directory");
    r.opts.path = "/dev/null";
    refused(&r, -YK_EINVAL, "neither a file nor a block device");
    snprintf(path, sizeof(path), "%s/none/ssd", r.dir);
    r.opts.path = path;
    refused(&r, -YK_ENOENT, "directory does not exist");
    assert_false(exists(r.path));
    int fd = open(r.path, O_CREAT | O_RDWR, 0600);
    close(fd);
    r.opts.path = r.path;
    r.opts.size_bytes = 0;
    refused(&r, -YK_EINVAL, "say how large");
    assert_true(exists(r.path));
    rig_fini(&r);
}

/* In a child without the rights of root. */
static void a_file_that_may_not_be_written_says_so(void **state) {
    (void)state;
    if (geteuid() != 0) {
        print_message("needs root to become somebody else\n");
        skip();
    }
    struct rig r;
    rig_start(&r, &threads);
    rig_close(&r);
    assert_int_equal(chmod(r.path, 0400), 0);
    assert_int_equal(chmod(r.dir, 0755), 0);
    pid_t pid = fork();
    if (pid == 0) {
        /* Relative to where it stands: directories above may be closed to others. */
        if (setgid(65534) < 0 || setuid(65534) < 0)
            _exit(2);
        struct yk_file *io;
        int rc = yk_file_threads.open(&r.opts, &io, &r.err);
        _exit(rc == -YK_EPERM && strstr(r.err.text, "as user 65534") ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    rig_fini(&r);
}

static void no_space_says_both_figures(void **state) {
    (void)state;
    struct rig r;
    rig_init(&r, &uring);
    r.opts.size_bytes = 1ull << 50;
    refused(&r, -YK_ENOSPC, "of 1 PiB needs 1 PiB more");
    assert_false(exists(r.path));
    assert_non_null(strstr(r.err.text, "free"));
    r.opts.size_bytes = RIG_SIZE;
    rig_open(&r);
    rig_close(&r);
    r.opts.size_bytes = 1ull << 50;
    refused(&r, -YK_ENOSPC, "needs 1 PiB more");
    struct stat st;
    assert_int_equal(stat(r.path, &st), 0);
    assert_int_equal(st.st_size, RIG_SIZE);
    rig_fini(&r);
}

/* ---- locks ---------------------------------------------------------------------------------- */

static void one_process_at_a_time(void **state) {
    (void)state;
    struct rig r;
    int to_child[2], to_parent[2];
    char c = 0, words[100];
    rig_init(&r, &uring);
    assert_int_equal(pipe(to_child), 0);
    assert_int_equal(pipe(to_parent), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(to_child[1]); /* the end of the parent ends this */
        struct yk_file *io;
        int rc = yk_file_uring.open(&r.opts, &io, &r.err);
        c = rc == 0 ? 'y' : 'n';
        if (write(to_parent[1], &c, 1) != 1 || read(to_child[0], &c, 1) != 1)
            _exit(1);
        _exit(0); /* without close, as if killed */
    }
    close(to_child[0]);
    assert_int_equal(read(to_parent[0], &c, 1), 1);
    assert_int_equal(c, 'y');
    snprintf(words, sizeof(words), "in use by process %d (", (int)pid);
    refused(&r, -YK_EBUSY, words);
    /* Reading beside it is what the offline tool does. */
    r.opts.read_only = 1;
    rig_open(&r);
    rig_close(&r);
    r.opts.read_only = 0;
    assert_int_equal(write(to_child[1], "x", 1), 1);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    rig_open(&r); /* although the kernel may still take the child's ring down */
    struct yk_file *io = r.io;
    refused(&r, -YK_EBUSY, "is given twice");
    r.io = io;
    rig_close(&r);
    rig_open(&r); /* at once: close has given the lock back */
    rig_fini(&r);
    close(to_child[1]);
    close(to_parent[0]);
    close(to_parent[1]);
}

/* The lock of a process that has ended, as somebody else still has the file that it locked: a start waits
 * for seconds, a return does not. */
static void who_may_not_wait_does_not(void **state) {
    (void)state;
    struct rig r;
    rig_start(&r, &uring);
    rig_close(&r);
    int fd = open(r.path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    pid_t pid = fork();
    if (pid == 0)
        _exit(flock(fd, LOCK_EX | LOCK_NB) == 0 ? 0 : 1);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    r.opts.no_wait = 1;
    uint64_t least = UINT64_MAX; /* of some: a disk may take seconds besides */
    for (int tries = 0; tries < 5 && least >= YK_NS_PER_S; tries++) {
        uint64_t begun = yk_now_ns();
        refused(&r, -YK_EBUSY, "in use");
        uint64_t took = yk_now_ns() - begun;
        least = took < least ? took : least;
    }
    assert_true(least < YK_NS_PER_S);
    close(fd);
    rig_open(&r);
    rig_fini(&r);
}

/* A process that is killed with much under way leaves nothing that keeps the next one out. */
static void a_killed_owner_is_followed(void **state) {
    (void)state;
    struct rig r;
    rig_init(&r, &uring);
    for (int round = 0; round < 5; round++) {
        int up[2];
        char c;
        assert_int_equal(pipe(up), 0);
        pid_t pid = fork();
        if (pid == 0) {
            struct yk_file *io;
            static struct yk_file_req req[64];
            static struct iovec iov;
            iov = (struct iovec){aligned_alloc(4096, 1u << 16), 1u << 16};
            if (yk_file_uring.open(&r.opts, &io, &r.err) < 0 || !iov.iov_base)
                _exit(1);
            memset(iov.iov_base, 1, iov.iov_len);
            for (unsigned i = 0; i < 64; i++)
                req[i] = (struct yk_file_req){.op = YK_FILE_WRITE,
                                              .offset = i << 16,
                                              .bytes = 1u << 16,
                                              .iov = &iov,
                                              .iov_count = 1,
                                              .next = i < 63 ? &req[i + 1] : NULL};
            io->ops->submit(io, req);
            if (write(up[1], "x", 1) != 1)
                _exit(1);
            for (;;)
                pause();
        }
        assert_int_equal(read(up[0], &c, 1), 1);
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        rig_open(&r);
        rig_close(&r);
        close(up[0]);
        close(up[1]);
    }
    rig_fini(&r);
}

/* ---- a small file system, a block device ---------------------------------------------------- */

static int sh(const char *format, const char *a, const char *b) {
    char command[600];
    snprintf(command, sizeof(command), format, a, b);
    return system(command);
}

/* An ext4 of 64 MiB at dir/mnt, or the case is skipped. */
static void mount_small(struct rig *r, char *mnt, size_t bytes) {
    char image[200];
    snprintf(image, sizeof(image), "%s/image", r->dir);
    snprintf(mnt, bytes, "%s/mnt", r->dir);
    assert_int_equal(mkdir(mnt, 0700), 0);
    if (geteuid() != 0 ||
        sh("truncate -s 64M %s && mkfs.ext4 -q -F %s >/dev/null 2>&1", image, image) ||
        sh("mount -o loop %s %s >/dev/null 2>&1", image, mnt)) {
        rig_fini(r);
        print_message("cannot mount a loop device here\n");
        skip();
    }
}

static void a_full_file_system_is_told_apart(void **state) {
    (void)state;
    struct rig r;
    char mnt[100], path[200], fill[200];
    rig_init(&r, &uring);
    mount_small(&r, mnt, sizeof(mnt));
    snprintf(path, sizeof(path), "%s/ssd", mnt);
    snprintf(fill, sizeof(fill), "%s/fill", mnt);
    r.opts.path = path;
    r.opts.size_bytes = 128u << 20;
    refused(&r, -YK_ENOSPC, "of 128 MiB needs 128 MiB more, and its file system has ");
    assert_false(exists(path));
    r.opts.size_bytes = RIG_SIZE;
    rig_open(&r);
    rig_close(&r);
    /* Holes that the file system can no longer fill: at open if a size is given, else at the write. */
    int fd = open(fill, O_CREAT | O_RDWR, 0600);
    struct statvfs vfs;
    assert_int_equal(statvfs(mnt, &vfs), 0);
    assert_int_equal(fallocate(fd, 0, 0, (off_t)(vfs.f_bavail * vfs.f_frsize)), 0);
    close(fd);
    assert_int_equal(truncate(path, 2 * RIG_SIZE), 0);
    r.opts.size_bytes = 2u * RIG_SIZE;
    refused(&r, -YK_ENOSPC, "of 32 MiB needs 16 MiB more");
    r.opts.size_bytes = 0;
    rig_open(&r);
    char *buf = aligned_alloc(4096, 1u << 20);
    memset(buf, 1, 1u << 20);
    assert_int_equal(rig_do(&r, YK_FILE_WRITE, 0, buf, 1u << 20), 0);
    int status = 0; /* what root may use beyond the others goes first */
    for (unsigned at = RIG_SIZE; at < 2u * RIG_SIZE && status == 0; at += 1u << 20)
        status = rig_do(&r, YK_FILE_WRITE, at, buf, 1u << 20);
    assert_int_equal(status, -YK_ENOSPC);
    rig_close(&r);
    free(buf);
    assert_int_equal(sh("umount %s%s", mnt, ""), 0);
    rmdir(mnt);
    rig_fini(&r);
}

static void a_file_system_without_a_limit_is_not_full(void **state) {
    (void)state;
    struct rig r;
    char mnt[100], path[200];
    rig_init(&r, &uring);
    snprintf(mnt, sizeof(mnt), "%s/mnt", r.dir);
    snprintf(path, sizeof(path), "%s/ssd", mnt);
    assert_int_equal(mkdir(mnt, 0700), 0);
    if (geteuid() != 0 || sh("mount -t tmpfs -o size=0 none %s%s 2>/dev/null", mnt, "")) {
        rig_fini(&r);
        print_message("cannot mount a tmpfs here\n");
        skip();
    }
    r.opts.path = path;
    rig_open(&r);
    rig_close(&r);
    assert_int_equal(sh("umount %s%s", mnt, ""), 0);
    rig_fini(&r);
}

static void a_block_device_works(void **state) {
    (void)state;
    struct rig r;
    char image[200], loop[64] = "";
    rig_init(&r, &uring);
    snprintf(image, sizeof(image), "%s/image", r.dir);
    FILE *f = NULL;
    if (geteuid() == 0 && sh("truncate -s 64M %s%s", image, "") == 0) {
        char command[300];
        snprintf(command, sizeof(command), "losetup -f --show %s 2>/dev/null", image);
        f = popen(command, "r");
    }
    if (!f || !fgets(loop, sizeof(loop), f)) {
        if (f)
            pclose(f);
        rig_fini(&r);
        print_message("cannot make a loop device here\n");
        skip();
    }
    pclose(f);
    loop[strcspn(loop, "\n")] = 0;
    r.opts.path = loop;
    r.opts.size_bytes = 128u << 20;
    refused(&r, -YK_EINVAL, "is 64 MiB long, smaller than the 128 MiB");
    r.opts.size_bytes = 0;
    rig_open(&r);
    struct yk_file_info info;
    r.io->ops->info(r.io, &info);
    assert_int_equal(info.size_bytes, 64u << 20);
    assert_int_equal(info.is_block, 1);
    assert_int_equal(info.direct, 1);
    refused(&r, -YK_EBUSY, "is given twice");
    char *buf = aligned_alloc(4096, 2u << 20), *in = buf + (1u << 20);
    rig_fill(&r, buf, 1u << 20);
    assert_int_equal(rig_do(&r, YK_FILE_WRITE, 1u << 20, buf, 1u << 20), 0);
    assert_int_equal(rig_do(&r, YK_FILE_FLUSH, 0, NULL, 0), 0);
    assert_int_equal(rig_do(&r, YK_FILE_READ, 1u << 20, in, 1u << 20), 0);
    assert_memory_equal(in, buf, 1u << 20);
    assert_int_equal(rig_do(&r, YK_FILE_DISCARD, 1u << 20, NULL, 1u << 20), 0);
    assert_int_equal(r.io->ops->check(r.io), 0);
    /* Shrunk under us, as far as a loop device can vanish. */
    assert_int_equal(truncate(image, 8 << 20), 0);
    assert_int_equal(sh("losetup -c %s%s", loop, ""), 0);
    assert_int_equal(r.io->ops->check(r.io), -YK_EGONE);
    assert_true(rig_do(&r, YK_FILE_READ, 32u << 20, in, 1u << 20) < 0);
    rig_close(&r);
    assert_int_equal(sh("losetup -d %s%s", loop, ""), 0);
    rig_fini(&r);
    free(buf);
}

/* ---- what the kernel may forbid ------------------------------------------------------------- */

/* What became of a child that ends with 0 when all is well, 77 where it could not try. */
static void child_is_well(pid_t pid) {
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        print_message("this process may not arrange it\n");
        skip();
    }
    assert_int_equal(status, 0);
}

static int forbid_io_uring(int err) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)err),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog prog = {.len = 4, .filter = code};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) == 0;
}

static void without_io_uring_threads_do_it(void **state) {
    (void)state;
    static const int errs[] = {EPERM, ENOSYS};
    for (unsigned i = 0; i < 2; i++) {
        struct rig r;
        rig_init(&r, &uring);
        pid_t pid = fork();
        if (pid == 0) {
            if (!forbid_io_uring(errs[i]))
                _exit(77);
            rig_open(&r);
            struct yk_file_info info;
            r.io->ops->info(r.io, &info);
            char *buf = aligned_alloc(4096, 8192);
            memset(buf, 3, 4096);
            int well = !info.ring && strstr(info.note, "io_uring cannot be had") &&
                       rig_do(&r, YK_FILE_WRITE, 0, buf, 4096) == 0 &&
                       rig_do(&r, YK_FILE_READ, 0, buf + 4096, 4096) == 0 &&
                       memcmp(buf, buf + 4096, 4096) == 0;
            rig_close(&r);
            free(buf);
            _exit(well ? 0 : 1);
        }
        child_is_well(pid);
        rig_fini(&r);
    }
}

/* To 80 MiB, or what is allowed already if that is less: a chunk and a bit, or none. */
static int limit_locked_memory(void) {
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    if (syscall(SYS_capget, &head, data) < 0)
        return 0;
    data[CAP_IPC_LOCK / 32].effective &= ~(1u << CAP_IPC_LOCK % 32);
    struct rlimit limit;
    if (getrlimit(RLIMIT_MEMLOCK, &limit) < 0)
        return 0;
    if (limit.rlim_max > 80u << 20)
        limit.rlim_max = 80u << 20;
    limit.rlim_cur = limit.rlim_max;
    return syscall(SYS_capset, &head, data) == 0 && setrlimit(RLIMIT_MEMLOCK, &limit) == 0;
}

static void locked_memory_that_ends_is_noted_once(void **state) {
    (void)state;
    struct rig r;
    rig_init(&r, &uring);
    pid_t pid = fork();
    if (pid == 0) {
        if (!limit_locked_memory())
            _exit(77);
        size_t bytes = 256u << 20;
        r.opts.mem_bytes = bytes;
        r.opts.mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        rig_open(&r);
        struct yk_file_info info;
        r.io->ops->info(r.io, &info);
        if (!info.ring)
            _exit(77);
        r.io->ops->mem_ready(r.io, bytes);
        uint64_t begun = yk_now_ns();
        do {
            r.io->ops->wait(r.io, 1);
            r.io->ops->info(r.io, &info);
        } while (!info.note[0] && yk_now_ns() - begun < RIG_WAIT_MS * YK_NS_PER_MS);
        struct rlimit limit = {0};
        getrlimit(RLIMIT_MEMLOCK, &limit);
        int well = info.fixed_bytes == (limit.rlim_cur == 80u << 20 ? 64u << 20 : 0) &&
                   strstr(info.note, "locked memory is limited to ") &&
                   strstr(info.note, "LimitMEMLOCK") &&
                   rig_do(&r, YK_FILE_WRITE, 0, (char *)r.opts.mem + (200u << 20), 4096) == 0 &&
                   rig_do(&r, YK_FILE_WRITE, 0, r.opts.mem, 4096) == 0;
        if (!well)
            fprintf(stderr, "%llu bytes; '%s'\n", (unsigned long long)info.fixed_bytes, info.note);
        rig_close(&r);
        _exit(well ? 0 : 1);
    }
    child_is_well(pid);
    rig_fini(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_file_has_its_space),
        cmocka_unit_test(a_file_grows_and_keeps_what_it_has),
        cmocka_unit_test(holes_get_their_space),
        cmocka_unit_test(an_open_that_wrote_nothing_is_taken_back),
        cmocka_unit_test(what_cannot_be_opened_says_why),
        cmocka_unit_test(a_file_that_may_not_be_written_says_so),
        cmocka_unit_test(no_space_says_both_figures),
        cmocka_unit_test(one_process_at_a_time),
        cmocka_unit_test(who_may_not_wait_does_not),
        cmocka_unit_test(a_killed_owner_is_followed),
        cmocka_unit_test(a_full_file_system_is_told_apart),
        cmocka_unit_test(a_file_system_without_a_limit_is_not_full),
        cmocka_unit_test(a_block_device_works),
        cmocka_unit_test(without_io_uring_threads_do_it),
        cmocka_unit_test(locked_memory_that_ends_is_noted_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
