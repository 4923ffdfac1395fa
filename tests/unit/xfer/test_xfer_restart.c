/* SPDX-License-Identifier: Apache-2.0
 *
 * Both ends killed at once, in the middle of transfers, and started again: the target at its port and under its name,
 * which is free again. The new initiator gets the new target's bytes and no others; who had the old one open is told
 * that it is gone, and finds the new one.
 */
#include <yolk/transfer.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BYTES  (1u << 20)
#define HALF   (BYTES / 2) /* this is read, the rest is written */
#define WAIT_S 20

/* Between the processes; atomic. */
static struct shared {
    uint32_t started;    /* targets that serve, ever */
    uint32_t moved;      /* rounds of the present initiator */
    uint32_t looked;     /* of the bystander */
    char address[64];    /* of the first target; before `started` */
} *shared;

static char dir[64], memory[BYTES], local[BYTES];
static uint32_t transports;

static void fill(char *at, uint32_t len, uint32_t seed) {
    for (uint32_t i = 0; i < len; i++)
        at[i] = (char)((i * 2654435761u + seed * 40503u) >> 13);
}

static int is_filled(const char *at, uint32_t len, uint32_t seed) {
    for (uint32_t i = 0; i < len; i++)
        if (at[i] != (char)((i * 2654435761u + seed * 40503u) >> 13))
            return 0;
    return 1;
}

static int reached(const uint32_t *counter, uint32_t at_least) {
    time_t end = time(NULL) + WAIT_S;
    while (__atomic_load_n(counter, __ATOMIC_ACQUIRE) < at_least && time(NULL) < end)
        (void)poll(NULL, 0, 1);
    return __atomic_load_n(counter, __ATOMIC_ACQUIRE) >= at_least;
}

static pid_t start(int (*fn)(uint32_t), uint32_t arg) {
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        _exit(fn(arg));
    }
    assert_true(pid > 0);
    return pid;
}

static int fails(const char *what) {
    fprintf(stderr, "%s: %s\n", what, yk_xfer_error_text());
    return 1;
}

/* Until it is killed. */
static int target(uint32_t generation) {
    yk_xfer_opts o = {.size = sizeof(o), .transports = transports, .shm_dir = dir, .registry_dir = dir,
                      .listen = generation == 1 ? "127.0.0.1:0" : shared->address};
    yk_xfer_memory m = {.addr = memory, .length = BYTES, .fd = -1, .access = YK_XFER_REMOTE_READ | YK_XFER_REMOTE_WRITE};
    yk_xfer *e;
    fill(memory, HALF, generation);
    if (yk_xfer_create(&o, &e) < 0 || yk_xfer_register(e, &m, 1) < 0 || yk_xfer_publish(e, "m", memory, BYTES, NULL) < 0)
        return fails("target");
    if (generation == 1)
        snprintf(shared->address, sizeof(shared->address), "%s", yk_xfer_address(e));
    __atomic_store_n(&shared->started, generation, __ATOMIC_RELEASE);
    for (;;)
        pause();
}

static yk_xfer *engine(const char *listen) {
    yk_xfer_opts o = {.size = sizeof(o), .transports = transports, .shm_dir = dir, .registry_dir = dir, .any_local = 1,
                      .listen = listen};
    yk_xfer *e = NULL;
    return yk_xfer_create(&o, &e) == 0 ? e : NULL;
}

/* The name may be nobody's, or the dead one's, for a while. */
static int open_it(yk_xfer *e, yk_xfer_segment *ret) {
    time_t end = time(NULL) + WAIT_S;
    int rc;
    while ((rc = yk_xfer_open(e, "m", 0, ret)) < 0 && (rc == -YK_EGONE || rc == -YK_ENOENT) && time(NULL) < end)
        (void)poll(NULL, 0, 1);
    return rc;
}

/* Reads, writes, reads that back. */
static int initiator(uint32_t generation) {
    yk_xfer *e = engine(NULL);
    yk_xfer_segment s;
    if (e == NULL || open_it(e, &s) < 0)
        return fails("initiator");
    for (uint32_t n = 1;; n++) {
        yk_xfer_request q = {.op = YK_XFER_READ, .local = local, .segment = s, .length = HALF};
        if (yk_xfer_run(e, &q, 1, NULL) < 0)
            return fails("read");
        if (!is_filled(local, HALF, generation))
            return fails("read: wrong bytes");
        q = (yk_xfer_request){.op = YK_XFER_WRITE, .local = local, .segment = s, .offset = HALF, .length = HALF};
        fill(local, HALF, n);
        if (yk_xfer_run(e, &q, 1, NULL) < 0)
            return fails("write");
        memset(local, 0, HALF);
        q.op = YK_XFER_READ;
        if (yk_xfer_run(e, &q, 1, NULL) < 0 || !is_filled(local, HALF, n))
            return fails("read again");
        __atomic_store_n(&shared->moved, n, __ATOMIC_RELEASE);
    }
}

/* Has one open over all restarts: each time the old one is gone for it, and the name leads to the new one. */
static int bystander(uint32_t generations) {
    yk_xfer *e = engine(NULL);
    for (uint32_t g = 1; e != NULL && g <= generations; g++) {
        yk_xfer_segment s;
        if (!reached(&shared->started, g) || open_it(e, &s) < 0)
            return fails("bystander");
        yk_xfer_request q = {.op = YK_XFER_READ, .local = local, .segment = s, .length = HALF};
        if (yk_xfer_run(e, &q, 1, NULL) < 0 || !is_filled(local, HALF, g))
            return fails("bystander reads");
        __atomic_store_n(&shared->looked, g, __ATOMIC_RELEASE);
        if (g < generations && reached(&shared->started, g + 1) && yk_xfer_run(e, &q, 1, NULL) != -YK_EGONE)
            return fails("bystander reads what is gone");
        if (yk_xfer_close(e, s) < 0)
            return fails("bystander closes");
    }
    yk_xfer_destroy(e);
    return e == NULL;
}

static void end(pid_t pid) {
    int status = 0;
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status)); /* it had not ended by itself */
}

#define GENERATIONS 4u

static void restarts(uint32_t by) {
    int status = 1;
    transports = by;
    snprintf(dir, sizeof(dir), "/tmp/yk-restart-XXXXXX");
    assert_non_null(mkdtemp(dir));
    memset(shared, 0, sizeof(*shared));
    pid_t third = start(bystander, GENERATIONS);
    for (uint32_t g = 1; g <= GENERATIONS; g++) {
        shared->moved = 0;
        pid_t a = start(target, g);
        pid_t b = start(initiator, g);
        assert_true(reached(&shared->started, g) && reached(&shared->moved, 1 + 3 * g) && reached(&shared->looked, g));
        assert_int_equal(kill(a, SIGSTOP), 0); /* what is under way stays there */
        end(b);
        end(a);
    }
    assert_int_equal(waitpid(third, &status, 0), third);
    assert_int_equal(status, 0);
    yk_xfer *last = engine("127.0.0.1:0"); /* takes the name, and clears up what the dead have left */
    yk_xfer_memory m = {.addr = memory, .length = BYTES, .fd = -1, .access = YK_XFER_REMOTE_READ};
    assert_non_null(last);
    assert_int_equal(yk_xfer_register(last, &m, 1), 0);
    assert_int_equal(yk_xfer_publish(last, "m", memory, BYTES, NULL), 0);
    yk_xfer_destroy(last);
    assert_int_equal(rmdir(dir), 0);
}

static void over_tcp(void **state) {
    (void)state;
    restarts(YK_XFER_TCP);
}

static void within_the_host(void **state) {
    (void)state;
    restarts(YK_XFER_SHM | YK_XFER_TCP);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(over_tcp),
        cmocka_unit_test(within_the_host),
    };
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return shared == MAP_FAILED || cmocka_run_group_tests(tests, NULL, NULL);
}
