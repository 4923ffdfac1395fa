/* SPDX-License-Identifier: Apache-2.0
 *
 * The SIGBUS guard: inside its ranges an access past a file's end reads zeros, outside them SIGBUS
 * is what it was before.
 *
 * Whatever would end a process is tried in a forked child. With sanitizers the handler "before" is
 * theirs and ends the child too, in its own way: so the tests ask whether it lives, not how it
 * died.
 */
#include "shm/guard.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <yolk/status.h>

/* cmocka puts its own SIGBUS handler over the guard's before each test. */
static struct sigaction guard_action;

static void guard_on(void) {
    assert_int_equal(sigaction(SIGBUS, &guard_action, NULL), 0);
}

#define PAGE  4096u
#define BYTES (8 * PAGE)

static unsigned char *map_file(int *fd, int prot) {
    *fd = memfd_create("guard", MFD_CLOEXEC);
    assert_true(*fd >= 0);
    assert_int_equal(ftruncate(*fd, BYTES), 0);
    unsigned char *p = mmap(NULL, BYTES, prot, MAP_SHARED, *fd, 0);
    assert_ptr_not_equal(p, MAP_FAILED);
    return p;
}

static unsigned char look(const unsigned char *at) {
    return *(const volatile unsigned char *)at;
}

/* 1 when a child that runs fn(arg) exits with 0. */
static int survives(void (*fn)(void *), void *arg) {
    int status;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit no_core = {0, 0};
        setrlimit(RLIMIT_CORE, &no_core);
        close(STDERR_FILENO);
        fn(arg);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void a_lost_range_reads_zeros(void **state) {
    (void)state;
    guard_on();
    int fd, lost = 0;
    unsigned char *p = map_file(&fd, PROT_READ | PROT_WRITE);
    memset(p, 0x55, BYTES);
    assert_int_equal(yk_guard_install(), 0); /* again: nothing changes */
    assert_int_equal(yk_guard_add(p, BYTES, PROT_READ | PROT_WRITE, &lost), 0);
    assert_int_equal(look(p + 5), 0x55);
    assert_int_equal(lost, 0);
    assert_int_equal(ftruncate(fd, PAGE), 0);
    assert_int_equal(look(p + BYTES - 1), 0);
    assert_int_equal(__atomic_load_n(&lost, __ATOMIC_ACQUIRE), 1);
    for (unsigned i = 0; i < BYTES; i++) /* all of it, so that nobody sees half a block */
        assert_int_equal(look(p + i), 0);
    p[0] = 1;
    yk_guard_remove(p);
    munmap(p, BYTES);
    close(fd);
}

static void other_ranges_are_left_alone(void **state) {
    (void)state;
    guard_on();
    int fd[3], lost[3] = {0, 0, 0};
    unsigned char *p[3];
    for (unsigned i = 0; i < 3; i++) {
        p[i] = map_file(&fd[i], PROT_READ | PROT_WRITE);
        memset(p[i], 0x30 + (int)i, BYTES);
        assert_int_equal(yk_guard_add(p[i], BYTES, PROT_READ | PROT_WRITE, &lost[i]), 0);
    }
    assert_int_equal(ftruncate(fd[1], 0), 0);
    assert_int_equal(look(p[1] + 7), 0);
    assert_int_equal(look(p[0] + 7), 0x30);
    assert_int_equal(look(p[2] + 7), 0x32);
    assert_true(!lost[0] && lost[1] && !lost[2]);
    for (unsigned i = 0; i < 3; i++) {
        yk_guard_remove(p[i]);
        munmap(p[i], BYTES);
        close(fd[i]);
    }
    yk_guard_remove(NULL);
    yk_guard_remove(p[0]); /* not guarded any more: nothing */
}

static void access_past_the_end(void *arg) {
    look((unsigned char *)arg + BYTES - 1);
}

static void outside_all_ranges_it_is_fatal(void **state) {
    (void)state;
    guard_on();
    int fd, lost = 0;
    unsigned char *p = map_file(&fd, PROT_READ);
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_false(survives(access_past_the_end, p));
    /* Neither side of the range belongs to it. */
    assert_int_equal(yk_guard_add(p, BYTES - PAGE, PROT_READ, &lost), 0);
    assert_false(survives(access_past_the_end, p));
    yk_guard_remove(p);
    assert_int_equal(yk_guard_add(p, BYTES, PROT_READ, &lost), 0);
    assert_true(survives(access_past_the_end, p));
    yk_guard_remove(p);
    assert_false(survives(access_past_the_end, p));
    assert_int_equal(lost, 0);
    munmap(p, BYTES);
    close(fd);
}

static void send_to_self(void *arg) {
    (void)arg;
    kill(getpid(), SIGBUS);
}

static void a_signal_that_was_sent_ends_the_process(void **state) {
    (void)state;
    guard_on();
    assert_false(survives(send_to_self, NULL));
}

static void slots_end_and_are_used_again(void **state) {
    (void)state;
    static unsigned char place[400 * 16];
    int lost = 0;
    unsigned n = 0;
    while (n < 400 && yk_guard_add(place + n * 16, 16, PROT_READ, &lost) == 0)
        n++;
    assert_true(n > 100 && n < 400);
    assert_int_equal(yk_guard_add(place, 16, PROT_READ, &lost), -YK_ELIMIT);
    yk_guard_remove(place + 16 * 50);
    assert_int_equal(yk_guard_add(place + 16 * 50, 16, PROT_READ, &lost), 0);
    for (unsigned i = 0; i < n; i++)
        yk_guard_remove(place + i * 16);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lost_range_reads_zeros),
        cmocka_unit_test(other_ranges_are_left_alone),
        cmocka_unit_test(outside_all_ranges_it_is_fatal),
        cmocka_unit_test(a_signal_that_was_sent_ends_the_process),
        cmocka_unit_test(slots_end_and_are_used_again),
    };
    if (yk_guard_install() != 0 || sigaction(SIGBUS, NULL, &guard_action) != 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
