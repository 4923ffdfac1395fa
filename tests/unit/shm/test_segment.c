/* SPDX-License-Identifier: Apache-2.0
 *
 * Files of a segment: made, found again, shared out, refused, replaced.
 *
 * Named segments live in a directory of this test's own on /dev/shm, or $TMPDIR where there is
 * none; it is removed when the program ends, however it ends. What must not happen is that a
 * segment is lost for a reason that an operator can repair: so each refusal is followed by an
 * opening that finds the old blocks.
 */
#include "shm/guard.h"
#include "shm/segment.h"
#include "shm/view.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define DATA (8u << 20)

static char dir[64];
static struct yk_err err;
/* cmocka puts its own SIGBUS handler over the guard's before each test. */
static struct sigaction guard_action;

static void dir_remove(void) {
    static const char *const parts[] = {"meta", "data", "clients"};
    char path[600];
    for (unsigned i = 0; i < 3; i++) {
        snprintf(path, sizeof(path), "%s/yolk-t.%s", dir, parts[i]);
        unlink(path);
        rmdir(path);
    }
    rmdir(dir);
}

static struct yk_segment_opts opts_named(void) {
    struct yk_segment_opts o = {.dir = dir,
                                .name = "t",
                                .data_bytes = DATA,
                                .extents_bytes = 4096,
                                .max_blocks = 1000,
                                .max_clients = 4,
                                .numa_node = -1};
    return o;
}

static void path_of(char *path, const char *part) {
    snprintf(path, 128, "%s/yolk-t.%s", dir, part);
}

static int exists(const char *part) {
    char path[128];
    struct stat st;
    path_of(path, part);
    return lstat(path, &st) == 0;
}

static void assert_no_files(void) {
    assert_false(exists("meta") || exists("data") || exists("clients"));
}

static int open_named(struct yk_segment *seg, const struct yk_segment_opts *o) {
    memset(&err, 0, sizeof(err));
    int rc = yk_segment_open(seg, o, &err);
    if (rc != 0) {
        assert_int_equal(err.code, rc);
        assert_true(err.text[0] != 0);
        assert_null(seg->meta);
        assert_int_equal(seg->fd_meta, -1);
    }
    return rc;
}

static void mark_set(struct yk_segment *seg) {
    strcpy((char *)seg->data + 12345, "still here");
    ((struct yk_shm_hdr *)seg->meta)->gen_limit = 77;
}

static int mark_there(const struct yk_segment *seg) {
    return strcmp((const char *)seg->data + 12345, "still here") == 0 &&
           ((const struct yk_shm_hdr *)seg->meta)->gen_limit == 77;
}

/* A named segment with a mark in it, stopped in good order. */
static void make_marked(void) {
    struct yk_segment seg;
    struct yk_segment_opts o = opts_named();
    assert_int_equal(open_named(&seg, &o), 0);
    assert_int_equal(seg.found, YK_SEGMENT_FRESH);
    mark_set(&seg);
    yk_segment_close(&seg, 1);
}

static void take_marked(void) {
    struct yk_segment seg;
    struct yk_segment_opts o = opts_named();
    assert_int_equal(open_named(&seg, &o), 0);
    assert_int_not_equal(seg.found, YK_SEGMENT_FRESH);
    assert_true(mark_there(&seg));
    yk_segment_unlink(&seg);
    yk_segment_close(&seg, 0);
    assert_no_files();
}

static void nameless_segments_cannot_shrink(void **state) {
    (void)state;
    struct yk_segment seg;
    struct yk_view view;
    struct yk_segment_opts o = opts_named();
    o.name = NULL;
    o.dir = "/there/is/no/such/directory"; /* not looked at */
    assert_int_equal(open_named(&seg, &o), 0);
    assert_int_equal(seg.found, YK_SEGMENT_FRESH);
    assert_string_equal(seg.why_fresh, "");
    assert_int_equal(yk_view_init(&view, seg.meta, seg.layout.meta_bytes, seg.data, DATA), 0);
    assert_true(view.hdr->segment_id != 0);
    assert_int_equal(ftruncate(seg.fd_data, 0), -1);
    assert_int_equal(ftruncate(seg.fd_meta, 0), -1);
    assert_int_equal(ftruncate(seg.fd_clients, 1 << 30), -1);
    assert_ptr_equal(mmap(NULL, YK_SHM_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, seg.fd_meta_ro, 0),
                     MAP_FAILED); /* what clients get cannot be written through */
    yk_segment_unlink(&seg);
    yk_segment_close(&seg, 1);
    yk_segment_close(&seg, 1); /* closed is closed */
    yk_segment_close(NULL, 0);
    assert_no_files();
}

static void named_segments_are_found_again(void **state) {
    (void)state;
    struct yk_segment seg;
    struct yk_segment_opts o = opts_named();
    assert_int_equal(open_named(&seg, &o), 0);
    assert_int_equal(seg.found, YK_SEGMENT_FRESH);
    uint64_t id = ((struct yk_shm_hdr *)seg.meta)->segment_id;
    mark_set(&seg);
    yk_segment_close(&seg, 0); /* as a kill does */
    assert_int_equal(open_named(&seg, &o), 0);
    assert_int_equal(seg.found, YK_SEGMENT_UNCLEAN);
    assert_string_equal(seg.why_fresh, "");
    assert_true(mark_there(&seg));
    yk_segment_close(&seg, 1);
    assert_int_equal(open_named(&seg, &o), 0);
    assert_int_equal(seg.found, YK_SEGMENT_CLEAN);
    assert_true(mark_there(&seg));
    assert_true(((struct yk_shm_hdr *)seg.meta)->segment_id == id);
    yk_segment_close(&seg, 0); /* clean was only true until it was opened */
    assert_int_equal(open_named(&seg, &o), 0);
    assert_int_equal(seg.found, YK_SEGMENT_UNCLEAN);
    ((struct yk_shm_hdr *)seg.meta)->lost = 1; /* of another life */
    yk_segment_close(&seg, 0);
    assert_int_equal(open_named(&seg, &o), 0);
    assert_int_equal(((struct yk_shm_hdr *)seg.meta)->lost, 0);
    struct stat st;
    assert_int_equal(fstat(seg.fd_meta, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    yk_segment_unlink(&seg);
    yk_segment_close(&seg, 1);
    assert_no_files();
}

static void a_second_opener_is_refused_by_name(void **state) {
    (void)state;
    struct yk_segment seg, other;
    struct yk_segment_opts o = opts_named();
    char pid[32];
    assert_int_equal(open_named(&seg, &o), 0);
    mark_set(&seg);
    assert_int_equal(open_named(&other, &o), -YK_EBUSY);
    snprintf(pid, sizeof(pid), "process %d:", (int)getpid());
    assert_non_null(strstr(err.text, pid));
    assert_non_null(strstr(err.text, "'t'"));
    assert_true(mark_there(&seg));
    o.max_blocks *= 2; /* nor may it replace what is in use */
    assert_int_equal(open_named(&other, &o), -YK_EBUSY);
    assert_true(exists("meta") && exists("data") && exists("clients"));
    yk_segment_close(&seg, 1);
    take_marked();
}

/* Opens what was damaged: it must be fresh and say why. */
static void expect_replaced(const char *why) {
    struct yk_segment seg;
    struct yk_segment_opts o = opts_named();
    assert_int_equal(open_named(&seg, &o), 0);
    assert_int_equal(seg.found, YK_SEGMENT_FRESH);
    if (strstr(seg.why_fresh, why) == NULL)
        fail_msg("'%s' does not say '%s'", seg.why_fresh, why);
    assert_false(mark_there(&seg));
    mark_set(&seg);
    yk_segment_close(&seg, 1);
    assert_int_equal(open_named(&seg, &o), 0); /* and is a good one from now on */
    assert_int_equal(seg.found, YK_SEGMENT_CLEAN);
    assert_true(mark_there(&seg));
    yk_segment_unlink(&seg);
    yk_segment_close(&seg, 0);
    assert_no_files();
}

static void file_write(const char *part, off_t at, const void *bytes, size_t n) {
    char path[128];
    path_of(path, part);
    int fd = open(path, O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, n, at), (ssize_t)n);
    close(fd);
}

static void file_truncate(const char *part, off_t bytes) {
    char path[128];
    path_of(path, part);
    assert_int_equal(truncate(path, bytes), 0);
}

static void what_cannot_be_used_is_replaced(void **state) {
    (void)state;
    const uint32_t version = YK_SHM_VERSION + 1;
    const unsigned char garbage[64] = {0x11, 0x22, 0x33};
    make_marked();
    file_write("meta", offsetof(struct yk_shm_hdr, version), &version, 4);
    char says[24];
    snprintf(says, sizeof(says), "version %u", version);
    expect_replaced(says);
    make_marked();
    file_write("meta", 0, garbage, sizeof(garbage));
    expect_replaced("damaged");
    make_marked();
    file_write("meta", offsetof(struct yk_shm_hdr, layout) + 3, garbage, 1);
    expect_replaced("damaged");
    make_marked();
    file_truncate("meta", 100);
    expect_replaced("damaged");
    make_marked();
    file_truncate("meta", 1 << 20);
    expect_replaced("truncated");
    make_marked();
    file_truncate("data", DATA - 1);
    expect_replaced("truncated");
    make_marked();
    file_truncate("clients", 0);
    expect_replaced("truncated");
    make_marked();
    file_truncate("meta", 0); /* as if its maker was killed at once */
    expect_replaced("");
}

/* Marked, and of a node in other namespaces, where a process had `slot`; 0: none had any. */
static void make_strange(size_t ns_at, uint32_t slot) {
    struct yk_segment seg;
    struct yk_segment_opts o = opts_named();
    assert_int_equal(open_named(&seg, &o), 0);
    mark_set(&seg);
    *(uint64_t *)(void *)((char *)seg.meta + ns_at) += 1;
    if (slot > 0) {
        struct yk_client_owner *owners = (void *)((char *)seg.meta + seg.layout.off_owners);
        owners[slot].cookie = 7;
        owners[slot].pid = (uint32_t)getpid();
    }
    yk_segment_close(&seg, 1);
}

static void clients_that_cannot_be_seen_keep_it_for_themselves(void **state) {
    (void)state;
    make_strange(offsetof(struct yk_shm_hdr, pid_ns), 3);
    expect_replaced("cannot be seen");
    make_strange(offsetof(struct yk_shm_hdr, time_ns), 1);
    expect_replaced("cannot be seen");
    make_strange(offsetof(struct yk_shm_hdr, pid_ns), 0);
    take_marked(); /* nobody had it mapped */
    make_strange(offsetof(struct yk_shm_hdr, reserved0), 1);
    take_marked(); /* the namespaces are the same: recovery looks whether it lives */
}

static void another_size_replaces_and_says_both(void **state) {
    (void)state;
    struct yk_segment seg;
    struct yk_segment_opts o = opts_named();
    make_marked();
    o.data_bytes = 2 * DATA;
    assert_int_equal(open_named(&seg, &o), 0);
    assert_int_equal(seg.found, YK_SEGMENT_FRESH);
    assert_non_null(strstr(seg.why_fresh, "8388608"));
    assert_non_null(strstr(seg.why_fresh, "16777216"));
    assert_int_equal(seg.layout.data_bytes, 2 * DATA);
    yk_segment_unlink(&seg);
    yk_segment_close(&seg, 0);
    assert_no_files();
}

/* Old files may still be mapped by clients: they keep theirs, the new ones have the names. */
static void replaced_files_stay_with_who_maps_them(void **state) {
    (void)state;
    char path[128];
    make_marked();
    path_of(path, "data");
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    const char *old = mmap(NULL, DATA, PROT_READ, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(old, MAP_FAILED);
    const uint32_t version = 99;
    file_write("meta", offsetof(struct yk_shm_hdr, version), &version, 4);
    expect_replaced("version 99");
    assert_string_equal(old + 12345, "still here");
    munmap((void *)(uintptr_t)old, DATA);
    close(fd);
}

static void too_large_is_refused_with_figures_and_loses_nothing(void **state) {
    (void)state;
    struct yk_segment seg;
    struct yk_segment_opts o = opts_named();
    uint64_t room = yk_segment_room(dir);
    assert_true(room > 0);
    o.data_bytes = 1ull << 50;
    assert_int_equal(open_named(&seg, &o), -YK_ENOSPC);
    assert_non_null(strstr(err.text, "1 PiB of DRAM"));
    assert_non_null(strstr(err.text, "lower --dram"));
    assert_no_files();
    make_marked();
    assert_int_equal(open_named(&seg, &o), -YK_ENOSPC);
    take_marked(); /* a wrong figure in a config file is no reason to lose the blocks */
    o.name = NULL;
    assert_int_equal(open_named(&seg, &o), -YK_ENOSPC);
    /* What goes beside the payload counts. */
    o.data_bytes = YK_SHM_PAGE;
    o.max_clients = 65536;
    o.max_blocks = 1u << 30;
    assert_int_equal(open_named(&seg, &o), -YK_ENOSPC);
    o.max_blocks = opts_named().max_blocks;
    o.data_bytes = 0;
    assert_int_equal(open_named(&seg, &o), -YK_EINVAL);
    o.data_bytes = DATA;
    o.max_clients = 0;
    assert_int_equal(open_named(&seg, &o), -YK_EINVAL);
    assert_int_equal(yk_segment_room("/there/is/no/such/directory") > 0, 1);
}

static void places_that_cannot_hold_it_are_named(void **state) {
    (void)state;
    struct yk_segment seg;
    struct yk_segment_opts o = opts_named();
    char path[128], long_dir[700], long_name[300];
    o.dir = "/there/is/no/such/directory";
    assert_int_equal(open_named(&seg, &o), -YK_ENOENT);
    assert_non_null(strstr(err.text, "/there/is/no/such/directory/yolk-t.meta"));
    o.dir = "/proc/self"; /* nothing can be made there, by root either */
    assert_true(open_named(&seg, &o) < 0);
    memset(long_dir, 'd', sizeof(long_dir));
    long_dir[sizeof(long_dir) - 1] = 0;
    o.dir = long_dir;
    assert_int_equal(open_named(&seg, &o), -YK_EINVAL);
    o.dir = dir;
    memset(long_name, 'n', sizeof(long_name));
    long_name[sizeof(long_name) - 1] = 0;
    o.name = long_name;
    assert_true(open_named(&seg, &o) < 0);
    o.name = "../t"; /* a name is no path */
    assert_int_equal(open_named(&seg, &o), -YK_EINVAL);
    o.name = "";
    assert_int_equal(open_named(&seg, &o), -YK_EINVAL);
    o.name = "t";
    path_of(path, "data");
    assert_int_equal(symlink("/dev/null", path), 0);
    assert_true(open_named(&seg, &o) < 0); /* somebody else's link is not followed */
    assert_non_null(strstr(err.text, path));
    assert_int_equal(unlink(path), 0);
    path_of(path, "clients");
    assert_int_equal(mkdir(path, 0700), 0);
    assert_true(open_named(&seg, &o) < 0);
    assert_int_equal(rmdir(path), 0);
    path_of(path, "meta");
    unlink(path);
    path_of(path, "data");
    unlink(path);
    assert_no_files();
}

static void files_of_somebody_else_are_refused(void **state) {
    (void)state;
    struct yk_segment seg;
    struct yk_segment_opts o = opts_named();
    char path[128];
    if (geteuid() != 0)
        skip();
    make_marked();
    path_of(path, "data");
    assert_int_equal(chown(path, 1, 1), 0);
    assert_int_equal(open_named(&seg, &o), -YK_EPERM);
    assert_non_null(strstr(err.text, "user 1"));
    assert_int_equal(chown(path, 0, 0), 0);
    take_marked();
}

static void a_directory_that_is_not_writable(void **state) {
    (void)state;
    int status;
    if (geteuid() != 0)
        skip();
    pid_t pid = fork(); /* as a user that root is not */
    if (pid == 0) {
        struct yk_segment seg;
        struct yk_segment_opts o = opts_named();
        if (setuid(65534) != 0)
            _exit(9);
        int rc = yk_segment_open(&seg, &o, &err);
        _exit(rc == -YK_EPERM && strstr(err.text, dir) != NULL ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* ---- two daemons at once ------------------------------------------------------------------ */

struct starter {
    pthread_t thread;
    pthread_barrier_t *barrier;
    struct yk_segment seg;
    struct yk_err err;
    int rc;
};

static void *starter_run(void *arg) {
    struct starter *s = arg;
    struct yk_segment_opts o = opts_named();
    pthread_barrier_wait(s->barrier);
    s->rc = yk_segment_open(&s->seg, &o, &s->err);
    return NULL;
}

static void check_winner(const struct yk_segment *seg) {
    const int fds[3] = {seg->fd_meta, seg->fd_data, seg->fd_clients};
    for (unsigned i = 0; i < 3; i++) {
        struct stat at, open_one;
        assert_int_equal(stat(seg->paths[i], &at), 0);
        assert_int_equal(fstat(fds[i], &open_one), 0);
        assert_true(at.st_ino == open_one.st_ino);
    }
}

/* The moment to get it wrong is a replacement: one takes the lock of a file that the other has just
 * removed. Whoever succeeds must own the files that have the names. */
static void of_two_at_once_one_wins(void **state) {
    (void)state;
    enum { TURNS = 60, N = 3 };
    struct starter s[N];
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, N);
    for (unsigned turn = 0; turn < TURNS; turn++) {
        unsigned winners = 0;
        make_marked();
        const uint32_t version = 99;
        file_write("meta", offsetof(struct yk_shm_hdr, version), &version, 4);
        for (unsigned i = 0; i < N; i++) {
            s[i].barrier = &barrier;
            assert_int_equal(pthread_create(&s[i].thread, NULL, starter_run, &s[i]), 0);
        }
        for (unsigned i = 0; i < N; i++)
            pthread_join(s[i].thread, NULL);
        for (unsigned i = 0; i < N; i++) {
            winners += s[i].rc == 0;
            if (s[i].rc == 0)
                check_winner(&s[i].seg);
            else
                assert_int_equal(s[i].rc, -YK_EBUSY);
        }
        assert_int_equal(winners, 1);
        for (unsigned i = 0; i < N; i++) {
            if (s[i].rc == 0) {
                yk_segment_unlink(&s[i].seg);
                yk_segment_close(&s[i].seg, 0);
            }
        }
        assert_no_files();
    }
    pthread_barrier_destroy(&barrier);
}

static void index_areas_are_emptied_alone(void **state) {
    (void)state;
    struct yk_segment seg;
    struct yk_segment_opts o = opts_named();
    o.name = NULL;
    assert_int_equal(open_named(&seg, &o), 0);
    const struct yk_shm_layout *l = &seg.layout;
    unsigned char *meta = seg.meta;
    memset(meta + l->off_keys, 0x77, l->meta_bytes - l->off_keys);
    assert_int_equal(yk_segment_index_zero(&seg, 0), 0);
    for (uint64_t i = 0; i < l->index_bytes; i++)
        assert_int_equal(meta[l->off_index[0] + i], 0);
    for (uint64_t i = l->off_keys; i < l->off_index[0]; i++)
        assert_int_equal(meta[i], 0x77);
    for (uint64_t i = 0; i < l->index_bytes; i++)
        assert_int_equal(meta[l->off_index[1] + i], 0x77);
    assert_int_equal(yk_segment_index_zero(&seg, 1), 0);
    for (uint64_t i = 0; i < l->index_bytes; i++)
        assert_int_equal(meta[l->off_index[1] + i], 0);
    yk_segment_close(&seg, 1);
}

/* ---- a file that is truncated while it is mapped ----------------------------------------------
 */

static void a_truncated_file_costs_the_tier_only(void **state) {
    (void)state;
    struct yk_segment seg;
    struct yk_segment_opts o = opts_named();
    assert_int_equal(sigaction(SIGBUS, &guard_action, NULL), 0);
    assert_int_equal(open_named(&seg, &o), 0);
    mark_set(&seg);
    assert_int_equal(seg.lost, 0);
    file_truncate("data", 4096);
    assert_int_equal(((volatile unsigned char *)seg.data)[DATA / 2], 0);
    assert_int_equal(__atomic_load_n(&seg.lost, __ATOMIC_ACQUIRE), 1);
    for (unsigned i = 0; i < DATA; i += 512)
        assert_int_equal(((volatile unsigned char *)seg.data)[i], 0);
    ((volatile unsigned char *)seg.data)[DATA - 1] = 5; /* writes go nowhere */
    seg.lost = 0;
    file_truncate("meta", 0);
    assert_int_equal(((volatile struct yk_shm_hdr *)seg.meta)->magic, 0);
    assert_int_equal(__atomic_load_n(&seg.lost, __ATOMIC_ACQUIRE), 1);
    yk_segment_unlink(&seg);
    yk_segment_close(&seg, 1);
    assert_no_files();
}

static void a_truncated_file_is_noticed_before_it_is_touched(void **state) {
    (void)state;
    static const char *const parts[] = {"meta", "data", "clients"};
    for (unsigned i = 0; i < 3; i++) {
        struct yk_segment seg;
        struct yk_segment_opts o = opts_named();
        struct yk_view view;
        assert_int_equal(sigaction(SIGBUS, &guard_action, NULL), 0);
        assert_int_equal(open_named(&seg, &o), 0);
        assert_int_equal(yk_view_init(&view, seg.meta, seg.layout.meta_bytes, seg.data, DATA), 0);
        assert_int_equal(yk_segment_check(&seg), 0);
        file_truncate(parts[i], 2 * DATA); /* longer does no harm */
        assert_int_equal(yk_segment_check(&seg), 0);
        assert_int_equal(yk_view_lost(&view), 0);
        file_truncate(parts[i], 100);
        assert_int_equal(yk_segment_check(&seg), 1);
        assert_int_equal(yk_segment_check(&seg), 1); /* for good */
        assert_int_equal(yk_view_lost(&view), 1);
        yk_segment_unlink(&seg);
        yk_segment_close(&seg, 1);
        assert_no_files();
    }
}

static int dir_make(void) {
    const char *tmp = getenv("TMPDIR");
    struct stat st;
    snprintf(dir, sizeof(dir), "%.30s/yolk-test-XXXXXX",
             stat("/dev/shm", &st) == 0 ? "/dev/shm"
             : tmp != NULL              ? tmp
                                        : "/tmp");
    return mkdtemp(dir) != NULL ? 0 : -1;
}

/* The tests run in a child, so that the directory goes even if a sanitizer ends them. */
static int run_and_clean(int (*run)(void)) {
    int status = 1;
    if (dir_make() < 0)
        return 1;
    pid_t pid = fork();
    if (pid == 0)
        exit(run());
    if (pid > 0)
        waitpid(pid, &status, 0);
    dir_remove();
    return status == 0 ? 0 : 1;
}

static int run(void) {
    if (yk_guard_install() != 0 || sigaction(SIGBUS, NULL, &guard_action) != 0)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nameless_segments_cannot_shrink),
        cmocka_unit_test(named_segments_are_found_again),
        cmocka_unit_test(a_second_opener_is_refused_by_name),
        cmocka_unit_test(what_cannot_be_used_is_replaced),
        cmocka_unit_test(clients_that_cannot_be_seen_keep_it_for_themselves),
        cmocka_unit_test(another_size_replaces_and_says_both),
        cmocka_unit_test(replaced_files_stay_with_who_maps_them),
        cmocka_unit_test(too_large_is_refused_with_figures_and_loses_nothing),
        cmocka_unit_test(places_that_cannot_hold_it_are_named),
        cmocka_unit_test(files_of_somebody_else_are_refused),
        cmocka_unit_test(a_directory_that_is_not_writable),
        cmocka_unit_test(of_two_at_once_one_wins),
        cmocka_unit_test(index_areas_are_emptied_alone),
        cmocka_unit_test(a_truncated_file_costs_the_tier_only),
        cmocka_unit_test(a_truncated_file_is_noticed_before_it_is_touched),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void) {
    return run_and_clean(run);
}
