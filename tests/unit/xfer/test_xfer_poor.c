/* SPDX-License-Identifier: Apache-2.0
 *
 * An initiator whose descriptors have run out: what has lanes goes on over those, what has none says so by its
 * deadline, nothing is taken for a peer that is gone, and all of it works again when there are descriptors. And one
 * that cannot list its devices: it goes on with what it has without, but for what would be better later.
 */
#include <yolk/transfer.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define BYTES (1u << 20)
#define LIMIT 96 /* descriptors */

static char memory[BYTES], local[BYTES];
static int no_devices; /* atomic: errno of getifaddrs, or 0 */

/* In place of the C library's. */
int getifaddrs(struct ifaddrs **ret) {
    int (*real)(struct ifaddrs **) = NULL;
    *(void **)&real = dlsym(RTLD_NEXT, "getifaddrs");
    errno = __atomic_load_n(&no_devices, __ATOMIC_RELAXED);
    return errno == 0 && real != NULL ? real(ret) : -1;
}

struct target {
    pid_t pid;
    char where[160];
};

/* A process that serves "m" until it is killed. */
static void start(struct target *t, uint32_t transports) {
    int told[2];
    assert_int_equal(pipe(told), 0);
    t->pid = fork();
    if (t->pid == 0) {
        yk_xfer_opts o = {.size = sizeof(o), .transports = transports, .listen = "127.0.0.1:0", .shm_dir = ""};
        yk_xfer_memory m = {.addr = memory, .length = BYTES, .fd = -1, .access = YK_XFER_REMOTE_READ};
        yk_xfer *e;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (uint32_t i = 0; i < BYTES; i++)
            memory[i] = (char)(i * 2654435761u >> 13);
        if (yk_xfer_create(&o, &e) < 0 || yk_xfer_register(e, &m, 1) < 0 ||
            yk_xfer_publish(e, "m", memory, BYTES, NULL) < 0)
            _exit(1);
        (void)!write(told[1], yk_xfer_address(e), strlen(yk_xfer_address(e)));
        close(told[1]);
        for (;;)
            pause();
    }
    close(told[1]);
    ssize_t n = read(told[0], t->where, sizeof(t->where) - 3);
    assert_true(t->pid > 0 && n > 0);
    memcpy(t->where + n, "/m", 3);
    close(told[0]);
}

static void stop(const struct target *t) {
    assert_int_equal(kill(t->pid, SIGKILL), 0);
    assert_int_equal(waitpid(t->pid, NULL, 0), t->pid);
}

static int get(yk_xfer *e, yk_xfer_segment s, uint32_t xclass, uint32_t timeout_ms) {
    yk_xfer_request q = {.op = YK_XFER_READ, .local = local, .segment = s, .length = BYTES};
    yk_xfer_submit_opts o = {.size = sizeof(o), .xclass = xclass, .timeout_ms = timeout_ms};
    memset(local, 0, BYTES);
    int rc = yk_xfer_run(e, &q, 1, &o);
    for (uint32_t i = 0; rc == 0 && i < BYTES; i++)
        if (local[i] != (char)(i * 2654435761u >> 13))
            fail_msg("byte %u is wrong", i);
    return rc;
}

static uint32_t take_all(int fds[LIMIT]) {
    uint32_t n = 0;
    while (n < LIMIT && (fds[n] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
        n++;
    assert_true(n < LIMIT);
    return n;
}

static void no_descriptors(void **state) {
    struct target t[3];
    yk_xfer_segment s[3];
    struct rlimit before, few;
    int fds[LIMIT];
    char *json = NULL;
    yk_xfer *e;
    (void)state;
    for (int i = 0; i < 3; i++)
        start(&t[i], YK_XFER_TCP);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    few = (struct rlimit){.rlim_cur = LIMIT, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    yk_xfer_opts o = {.size = sizeof(o), .transports = YK_XFER_TCP, .any_local = 1};
    assert_int_equal(yk_xfer_create(&o, &e), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(yk_xfer_open(e, t[i].where, 0, &s[i]), 0);
    assert_int_equal(get(e, s[0], YK_XFER_URGENT, 10000), 0); /* one lane of two */
    assert_int_equal(yk_xfer_explain_json(e, s[1], 1, YK_XFER_READ, &json), 0); /* its ways are known */
    free(json);

    uint32_t n = take_all(fds);
    yk_xfer_segment none;
    assert_int_equal(yk_xfer_open(e, t[0].where, 0, &none), -YK_ELIMIT);
    for (uint32_t c = 0; c < YK_XFER_CLASSES; c++)
        assert_int_equal(get(e, s[0], c, 10000), 0);
    assert_int_equal(get(e, s[1], YK_XFER_DEMAND, 1000), -YK_ETIMEDOUT);
    assert_non_null(strstr(yk_xfer_error_text(), "Too many open files"));
    assert_int_equal(get(e, s[2], YK_XFER_DEMAND, 10000), -YK_ELIMIT);
    assert_non_null(strstr(yk_xfer_error_text(), "cannot be listed: Too many open files"));

    while (n > 0)
        close(fds[--n]);
    for (int i = 0; i < 3; i++)
        assert_int_equal(get(e, s[i], YK_XFER_DEMAND, 10000), 0);
    yk_xfer_destroy(e);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    for (int i = 0; i < 3; i++)
        stop(&t[i]);
}

static void devices_that_cannot_be_listed(void **state) {
    static const uint32_t by[] = {YK_XFER_SHM | YK_XFER_TCP, YK_XFER_TCP};
    static const int errnos[] = {EAFNOSUPPORT, EMFILE};
    struct target t;
    (void)state;
    start(&t, YK_XFER_SHM | YK_XFER_TCP);
    for (int i = 0; i < 4; i++) {
        int why = errnos[i / 2], tcp_alone = i % 2;
        yk_xfer_opts o = {.size = sizeof(o), .transports = by[tcp_alone], .any_local = 1};
        yk_xfer_segment s;
        yk_xfer *e;
        assert_int_equal(yk_xfer_create(&o, &e), 0);
        assert_int_equal(yk_xfer_open(e, t.where, 0, &s), 0);
        __atomic_store_n(&no_devices, why, __ATOMIC_RELAXED);
        int rc = get(e, s, YK_XFER_DEMAND, 10000);
        assert_int_equal(rc, tcp_alone && why == EMFILE ? -YK_ELIMIT : 0);
        __atomic_store_n(&no_devices, 0, __ATOMIC_RELAXED);
        assert_int_equal(get(e, s, YK_XFER_DEMAND, 10000), 0);
        yk_xfer_destroy(e);
    }
    stop(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_descriptors),
        cmocka_unit_test(devices_that_cannot_be_listed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
