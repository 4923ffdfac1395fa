/* SPDX-License-Identifier: Apache-2.0
 *
 * Segments: names here, by a resolver and by a shared directory; names that collide; owners that died.
 */
#include <yolk/transfer.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static char a_memory[4096], b_memory[4096];
/* Larger than the stacks that an engine asks for: threads start all the same. */
static _Thread_local volatile char large[2u << 20];

static yk_xfer *make(const char *dir, const yk_xfer_resolver *r, char *memory) {
    yk_xfer_opts o = {.size = sizeof(o), .transports = YK_XFER_MEM, .registry_dir = dir, .resolver = r};
    yk_xfer_memory m = {
        .addr = memory, .length = 4096, .access = YK_XFER_REMOTE_READ | YK_XFER_REMOTE_WRITE, .fd = -1};
    yk_xfer *e;
    assert_int_equal(yk_xfer_create(&o, &e), 0);
    assert_int_equal(yk_xfer_register(e, &m, 1), 0);
    return e;
}

static void names_of_one_engine(void **state) {
    (void)state;
    yk_xfer *e = make(NULL, NULL, a_memory);
    yk_xfer_segment s, other;
    yk_xfer_segment_info info;
    char long_name[200];
    memset(long_name, 'n', sizeof(long_name));
    long_name[YK_XFER_NAME_MAX + 1] = 0;
    assert_int_equal(yk_xfer_publish(e, "", a_memory, 10, NULL), -YK_EINVAL);
    assert_int_equal(yk_xfer_publish(e, "a/b", a_memory, 10, NULL), -YK_EINVAL);
    assert_int_equal(yk_xfer_publish(e, "file:x", a_memory, 10, NULL), -YK_EINVAL); /* nobody could open it */
    assert_int_equal(yk_xfer_publish(e, long_name, a_memory, 10, NULL), -YK_EINVAL);
    long_name[YK_XFER_NAME_MAX] = 0;
    assert_int_equal(yk_xfer_publish(e, long_name, a_memory, 10, NULL), 0);
    assert_int_equal(yk_xfer_publish(e, "x", a_memory, 4097, NULL), -YK_EINVAL);
    assert_int_equal(yk_xfer_publish(e, "x", b_memory, 10, NULL), -YK_EINVAL);
    assert_int_equal(yk_xfer_publish(e, "x", a_memory + 100, 1000, NULL), 0);
    assert_int_equal(yk_xfer_publish(e, "x", a_memory, 10, NULL), -YK_ECONFLICT);
    assert_int_equal(yk_xfer_open(e, "x", 0, &s), 0);
    assert_int_equal(yk_xfer_open(e, "x", 0, &other), 0);
    assert_int_not_equal(s, other);
    assert_int_equal(yk_xfer_segment_stat(e, s, &info), 0);
    assert_true(info.length == 1000 && info.access == 3 && !info.guarded && info.incarnation != 0);
    assert_int_equal(yk_xfer_open(e, "y", 0, &s), -YK_ENOENT);
    assert_int_equal(yk_xfer_open(e, "/", 0, &s), -YK_EINVAL);
    assert_int_equal(yk_xfer_open(e, "host:1/", 0, &s), -YK_EINVAL);
    assert_int_equal(yk_xfer_open(e, "mem:12/x", 0, &s), -YK_EGONE);
    assert_int_equal(yk_xfer_withdraw(e, "x"), 0);
    assert_int_equal(yk_xfer_withdraw(e, "x"), -YK_ENOENT);
    assert_int_equal(yk_xfer_open(e, "x", 0, &s), -YK_ENOENT);
    void *addr = a_memory; /* unregistering withdraws what lies in it */
    assert_int_equal(yk_xfer_unregister(e, &addr, 1), 0);
    assert_int_equal(yk_xfer_withdraw(e, long_name), -YK_ENOENT);
    yk_xfer_request q = {.op = YK_XFER_READ, .local = b_memory, .segment = other, .length = 10};
    yk_xfer_memory m = {.addr = b_memory, .length = 4096, .fd = -1};
    assert_int_equal(yk_xfer_register(e, &m, 1), 0);
    assert_int_equal(yk_xfer_run(e, &q, 1, NULL), -YK_EGONE); /* its memory is gone */
    yk_xfer_batch b;
    assert_int_equal(yk_xfer_submit(e, &q, 1, NULL, &b), 0);
    assert_int_equal(yk_xfer_wait(e, b, UINT32_MAX), -YK_EGONE);
    yk_xfer_destroy(e);
}

static void a_directory(void **state) {
    (void)state;
    char dir[] = "/tmp/yk-names-XXXXXX";
    assert_non_null(mkdtemp(dir));
    yk_xfer *a = make(dir, NULL, a_memory), *b = make(dir, NULL, b_memory);
    yk_xfer_segment s;
    assert_int_equal(yk_xfer_publish(a, ".", a_memory, 4096, NULL), 0); /* a file all the same */
    assert_int_equal(yk_xfer_publish(a, "kv", a_memory, 4096, NULL), 0);
    assert_int_equal(yk_xfer_publish(b, "kv", b_memory, 4096, NULL), -YK_ECONFLICT);
    assert_int_equal(yk_xfer_withdraw(b, "kv"), -YK_ENOENT);
    assert_int_equal(yk_xfer_open(b, "kv", 0, &s), 0);
    memset(a_memory, 9, sizeof(a_memory));
    yk_xfer_request q = {.op = YK_XFER_READ, .local = b_memory, .segment = s, .length = 4096};
    assert_int_equal(yk_xfer_run(b, &q, 1, NULL), 0);
    assert_int_equal(b_memory[4095], 9);
    assert_int_equal(yk_xfer_withdraw(a, "kv"), 0);
    assert_int_equal(yk_xfer_open(b, "kv", 0, &s), -YK_ENOENT);
    assert_int_equal(yk_xfer_publish(b, "kv", b_memory, 4096, NULL), 0);
    yk_xfer_destroy(b);
    assert_int_equal(yk_xfer_publish(a, "kv", a_memory, 4096, NULL), 0);
    yk_xfer_destroy(a);
    assert_int_equal(rmdir(dir), 0);
}

/* Its file is left behind; whoever wants the name gets it. */
static void an_owner_that_died(void **state) {
    (void)state;
    char dir[] = "/tmp/yk-names-XXXXXX";
    assert_non_null(mkdtemp(dir));
    pid_t pid = fork();
    if (pid == 0) {
        yk_xfer_opts o = {.size = sizeof(o), .transports = YK_XFER_MEM, .registry_dir = dir};
        yk_xfer_memory m = {.addr = a_memory, .length = 4096, .fd = -1};
        yk_xfer *e;
        _exit(yk_xfer_create(&o, &e) < 0 || yk_xfer_register(e, &m, 1) < 0 ||
              yk_xfer_publish(e, "kv", a_memory, 4096, NULL) < 0);
    }
    int status = 1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    yk_xfer *e = make(dir, NULL, b_memory);
    yk_xfer_segment s;
    assert_int_equal(yk_xfer_open(e, "kv", 0, &s), -YK_EGONE); /* another process's memory */
    assert_int_equal(yk_xfer_publish(e, "kv", b_memory, 4096, NULL), 0);
    assert_int_equal(yk_xfer_open(e, "kv", 0, &s), 0);
    yk_xfer_destroy(e);
    assert_int_equal(rmdir(dir), 0);
}

/* An engine that publishes, forks, and dies without a word. In the child that it leaves behind: the end of
 * `life` is waited for. */
static void publish_fork_and_die(const char *dir, const int life[2], const int told[2]) {
    yk_xfer_opts o = {.size = sizeof(o), .transports = YK_XFER_MEM, .registry_dir = dir};
    yk_xfer_memory m = {.addr = a_memory, .length = 4096, .fd = -1};
    yk_xfer *e;
    char byte;
    close(life[1]);
    close(told[0]);
    if (yk_xfer_create(&o, &e) < 0 || yk_xfer_register(e, &m, 1) < 0 ||
        yk_xfer_publish(e, "kv", a_memory, 4096, NULL) < 0 || yk_xfer_publish(e, "kw", a_memory, 4096, NULL) < 0 ||
        yk_xfer_withdraw(e, "kw") < 0)
        _exit(1);
    pid_t child = fork();
    if (child == 0)
        (void)!read(life[0], &byte, 1);
    _exit(child < 0);
}

/* The child of an engine's process does not hold its names. */
static void a_child_that_lives_longer(void **state) {
    (void)state;
    char dir[] = "/tmp/yk-names-XXXXXX", byte;
    int life[2], told[2], status = 1;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(pipe(life), 0);
    assert_int_equal(pipe(told), 0);
    pid_t pid = fork();
    if (pid == 0)
        publish_fork_and_die(dir, life, told);
    close(life[0]);
    close(told[1]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    struct pollfd p = {.fd = told[0], .events = POLLIN};
    assert_int_equal(poll(&p, 1, 0), 0); /* it is there, it has the other end */
    yk_xfer *e = make(dir, NULL, b_memory);
    int rc = -YK_ECONFLICT;
    for (int i = 0; i < 10000 && rc == -YK_ECONFLICT; i++) { /* until it has run so far that it let go of it */
        rc = yk_xfer_publish(e, "kv", b_memory, 4096, NULL);
        if (rc == -YK_ECONFLICT)
            (void)poll(NULL, 0, 1);
    }
    assert_int_equal(rc, 0);
    assert_int_equal(poll(&p, 1, 0), 0); /* it lives still */

    /* A child that ends takes nothing from its parent. */
    pid = fork();
    if (pid == 0)
        _exit(0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    yk_xfer *other = make(dir, NULL, a_memory);
    assert_int_equal(yk_xfer_publish(other, "kv", a_memory, 4096, NULL), -YK_ECONFLICT);
    yk_xfer_destroy(other);
    yk_xfer_destroy(e);
    close(life[1]);
    assert_int_equal(read(told[0], &byte, 1), 0); /* until it has ended */
    close(told[0]);
    assert_int_equal(rmdir(dir), 0);
}

static char known_name[64], known_address[128];

static int publish(void *user, const char *name, const char *address) {
    (void)user;
    if (strcmp(name, "taken") == 0)
        return -YK_ECONFLICT;
    snprintf(known_name, sizeof(known_name), "%s", name);
    snprintf(known_address, sizeof(known_address), "%s", address);
    return 0;
}

static int withdraw(void *user, const char *name) {
    (void)user;
    if (strcmp(name, known_name) == 0)
        known_name[0] = 0;
    return 0;
}

static int resolve(void *user, const char *name, char *ret_address, size_t cap) {
    (void)user;
    if (strcmp(name, known_name) != 0)
        return -YK_ENOENT;
    snprintf(ret_address, cap, "%s", known_address);
    return 0;
}

/* Whatever stands in a name's file: an address that is whole, or a refusal. */
static void a_file_that_is_none(void **state) {
    static const struct {
        const char *text;
        size_t len;
        int code;
    } files[] = {
        {"", 0, -YK_EIO},
        {"\n", 1, -YK_EIO},
        {"127.0.0.1:1", 11, -YK_EIO}, /* cut short: more digits may have followed */
        {"127.0.0.1:1\n127.0.0.1:2\n", 24, -YK_EIO},
        {"127.0\0.0.1:1\n", 13, -YK_EIO},
        {"engine=0,127.0.0.1:1\n", 21, -YK_EINVAL}, /* not: any engine */
        {"engine=12345678901234567,127.0.0.1:1\n", 37, -YK_EINVAL},
        {"127.0.0.1:1,,\n", 14, -YK_EINVAL},
        {"engine=1\n", 9, -YK_EINVAL},
        {"127.0.0.1:1\n", 12, -YK_EGONE}, /* a good one; nobody is there */
    };
    char dir[] = "/tmp/yk-names-XXXXXX", path[64], longer[2000];
    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/yk-kv", dir);
    yk_xfer *e = make(dir, NULL, a_memory);
    yk_xfer_segment s;
    for (size_t i = 0; i <= sizeof(files) / sizeof(files[0]); i++) {
        int last = i == sizeof(files) / sizeof(files[0]);
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        memset(longer, '1', sizeof(longer));
        longer[sizeof(longer) - 1] = '\n';
        assert_int_equal(fwrite(last ? longer : files[i].text, 1, last ? sizeof(longer) : files[i].len, f),
                         last ? sizeof(longer) : files[i].len);
        assert_int_equal(fclose(f), 0);
        int rc = yk_xfer_open(e, "kv", 0, &s);
        if (rc != (last ? -YK_EIO : files[i].code))
            fail_msg("file %zu: %d, %s", i, rc, yk_xfer_error_text());
    }
    assert_int_equal(yk_xfer_publish(e, "kv", a_memory, 4096, NULL), 0); /* nobody holds it */
    yk_xfer_destroy(e);
    assert_int_equal(rmdir(dir), 0);
}

static void *publish_kv(void *arg) {
    return (void *)(intptr_t)yk_xfer_publish(arg, "kv", a_memory, 4096, NULL);
}

/* A file system that hangs while a name's file is opened (here: for a lease on it) does not hang a fork; and the
 * child of that fork does not hold the name. */
static void a_fork_while_a_file_is_opened(void **state) {
    char dir[] = "/tmp/yk-names-XXXXXX", path[64];
    pthread_t thread;
    sigset_t lease;
    struct timespec wait = {.tv_sec = 20};
    void *rc;
    int life[2], status = 1;
    (void)state;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(pipe(life), 0);
    snprintf(path, sizeof(path), "%s/yk-kv", dir);
    yk_xfer *e = make(dir, NULL, a_memory);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    sigemptyset(&lease);
    sigaddset(&lease, SIGIO); /* comes when somebody opens it, who waits then */
    assert_int_equal(pthread_sigmask(SIG_BLOCK, &lease, NULL), 0);
    if (fcntl(fd, F_SETLEASE, F_WRLCK) < 0) {
        print_message("no lease on a file here: %s\n", strerror(errno));
        skip();
    }
    assert_int_equal(pthread_create(&thread, NULL, publish_kv, e), 0);
    assert_int_equal(sigtimedwait(&lease, NULL, &wait), SIGIO);
    pid_t pid = fork();
    if (pid == 0) {
        close(fd); /* else the lease is kept here, too */
        close(life[1]);
        (void)!read(life[0], path, 1);
        _exit(0);
    }
    close(life[0]);
    assert_int_equal(pthread_tryjoin_np(thread, NULL), EBUSY); /* it waits still */
    assert_int_equal(fcntl(fd, F_SETLEASE, F_UNLCK), 0);
    close(fd);
    assert_int_equal(pthread_join(thread, &rc), 0);
    assert_int_equal((intptr_t)rc, 0);
    yk_xfer_destroy(e);
    e = make(dir, NULL, b_memory);
    assert_int_equal(yk_xfer_publish(e, "kv", b_memory, 4096, NULL), 0); /* the child lives, and does not hold it */
    yk_xfer_destroy(e);
    close(life[1]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(rmdir(dir), 0);
}

static void a_resolver(void **state) {
    (void)state;
    yk_xfer_resolver r = {.size = sizeof(r), .publish = publish, .withdraw = withdraw, .resolve = resolve};
    yk_xfer *a = make(NULL, &r, a_memory), *b = make(NULL, &r, b_memory);
    yk_xfer_segment s;
    assert_int_equal(yk_xfer_publish(a, "taken", a_memory, 4096, NULL), -YK_ECONFLICT);
    assert_int_equal(yk_xfer_open(a, "taken", 0, &s), -YK_ENOENT);
    assert_int_equal(yk_xfer_publish(a, "kv", a_memory, 4096, NULL), 0);
    assert_int_equal(yk_xfer_open(b, "kv", 0, &s), 0);
    assert_int_equal(yk_xfer_open(b, "other", 0, &s), -YK_ENOENT);
    yk_xfer_destroy(a);
    assert_string_equal(known_name, ""); /* withdrawn with it */
    yk_xfer_request q = {.op = YK_XFER_READ, .local = b_memory, .segment = s, .length = 10};
    int rc = yk_xfer_run(b, &q, 1, NULL);
    assert_true(rc == -YK_ENOENT || rc == -YK_EGONE);
    yk_xfer_destroy(b);
}

static yk_xfer *listening(const yk_xfer_resolver *r, char *memory, const char *name) {
    yk_xfer_opts o = {.size = sizeof(o), .transports = YK_XFER_TCP, .listen = "127.0.0.1:0", .shm_dir = "",
                      .resolver = r};
    yk_xfer_memory m = {.addr = memory, .length = 4096, .access = YK_XFER_REMOTE_READ, .fd = -1};
    yk_xfer *e;
    assert_int_equal(yk_xfer_create(&o, &e), 0);
    assert_int_equal(yk_xfer_register(e, &m, 1), 0);
    assert_int_equal(yk_xfer_publish(e, name, memory, 4096, NULL), 0);
    return e;
}

static uint64_t incarnation_of(yk_xfer *e, const char *where) {
    yk_xfer_segment_info info;
    yk_xfer_segment s;
    assert_int_equal(yk_xfer_open(e, where, 0, &s), 0);
    assert_int_equal(yk_xfer_segment_stat(e, s, &info), 0);
    assert_int_equal(yk_xfer_close(e, s), 0);
    return info.incarnation;
}

/* Two engines have a segment of the same name, and the wrong one's address stands first in the list: what
 * is published says which engine is meant. */
static void a_stranger_at_an_address_is_passed_over(void **state) {
    (void)state;
    static char c_memory[4096];
    yk_xfer_resolver r = {.size = sizeof(r), .publish = publish, .withdraw = withdraw, .resolve = resolve};
    yk_xfer *a = listening(&r, a_memory, "kv"), *b = listening(NULL, b_memory, "kv");
    yk_xfer *c = listening(&r, c_memory, "c");
    char published[128], where[256];
    yk_xfer_segment s;
    assert_int_equal(yk_xfer_withdraw(a, "kv"), 0);
    assert_int_equal(yk_xfer_publish(a, "kv", a_memory, 4096, NULL), 0);
    snprintf(published, sizeof(published), "%s", known_address);
    assert_memory_equal(published, "engine=", 7);
    assert_string_equal(strchr(published, ',') + 1, yk_xfer_address(a));
    uint64_t want = incarnation_of(c, "kv");
    snprintf(where, sizeof(where), "%s/kv", yk_xfer_address(b)); /* without: whoever answers */
    assert_int_not_equal(incarnation_of(c, where), want);
    snprintf(known_address, sizeof(known_address), "engine=%016llx,%s,%s", (unsigned long long)want,
             yk_xfer_address(b), yk_xfer_address(a));
    assert_int_equal(incarnation_of(c, "kv"), want);
    snprintf(known_address, sizeof(known_address), "engine=%016llx,%s", (unsigned long long)want,
             yk_xfer_address(b));
    assert_int_equal(yk_xfer_open(c, "kv", 0, &s), -YK_EGONE);
    snprintf(where, sizeof(where), "engine=xyz,%s/kv", yk_xfer_address(a));
    assert_int_equal(yk_xfer_open(c, where, 0, &s), -YK_EINVAL);
    snprintf(where, sizeof(where), "engine=%llx/kv", (unsigned long long)want);
    assert_int_equal(yk_xfer_open(c, where, 0, &s), -YK_EINVAL);
    yk_xfer_destroy(c);
    yk_xfer_destroy(b);
    yk_xfer_destroy(a);
}

/* What a session that has ended left in the environment is no reason to fail. */
static void a_stale_runtime_directory(void **state) {
    (void)state;
    const char *was = getenv("XDG_RUNTIME_DIR");
    char *saved = was != NULL ? strdup(was) : NULL;
    yk_xfer_opts o = {.size = sizeof(o), .listen = "127.0.0.1:0"};
    yk_xfer *e;
    setenv("XDG_RUNTIME_DIR", "/run/user/no-such-session", 1);
    assert_int_equal(yk_xfer_create(&o, &e), 0);
    yk_xfer_destroy(e);
    o.shm_dir = "/run/user/no-such-session"; /* asked for: told */
    assert_int_equal(yk_xfer_create(&o, &e), -YK_EINVAL);
    if (saved != NULL)
        setenv("XDG_RUNTIME_DIR", saved, 1);
    else
        unsetenv("XDG_RUNTIME_DIR");
    free(saved);
}

static void rails_that_are_not_there(void **state) {
    (void)state;
    static const struct {
        const char *rails, *culprit; /* NULL: it is fine */
    } t[] = {{"lo", NULL},
             {"127.0.0.1", NULL},
             {"lo,127.0.0.1", NULL},
             {"no-such-dev0", "no-such-dev0"},
             {"lo,192.0.2.77", "192.0.2.77"},
             {"l", "'l'"},
             {",lo", "''"},
             {"a-name-that-is-longer-than-any-device-or-address-could-ever-be-in-this-world", "a-name"}};
    for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        yk_xfer_opts o = {.size = sizeof(o), .rails = t[i].rails};
        yk_xfer *e;
        assert_int_equal(yk_xfer_create(&o, &e), t[i].culprit == NULL ? 0 : -YK_EINVAL);
        if (t[i].culprit == NULL)
            yk_xfer_destroy(e);
        else if (strstr(yk_xfer_error_text(), t[i].culprit) == NULL)
            fail_msg("'%s' should name '%s'", yk_xfer_error_text(), t[i].culprit);
    }
}

/* ---- names of hosts ------------------------------------------------------------------------------- */

/* In place of the C library's, for this program: a server that does not answer before it is told to. */
static pthread_mutex_t dns_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t dns_cond = PTHREAD_COND_INITIALIZER;
static int dns_answers, dns_waiting;

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **ret) {
    (void)hints;
    if (node != NULL && strcmp(node, "slow.test") == 0) {
        pthread_mutex_lock(&dns_lock);
        dns_waiting++;
        while (!dns_answers)
            pthread_cond_wait(&dns_cond, &dns_lock);
        dns_waiting--;
        pthread_mutex_unlock(&dns_lock);
        return EAI_NONAME;
    }
    if (node == NULL || strcmp(node, "quick.test") != 0)
        return EAI_NONAME;
    struct addrinfo *a = calloc(1, sizeof(*a));
    struct sockaddr_in *in = calloc(1, sizeof(*in));
    if (a == NULL || in == NULL)
        abort();
    *in = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(service)),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    *a = (struct addrinfo){.ai_family = AF_INET, .ai_socktype = SOCK_STREAM, .ai_addrlen = sizeof(*in)};
    a->ai_addr = (struct sockaddr *)in;
    *ret = a;
    return 0;
}

void freeaddrinfo(struct addrinfo *a) {
    free(a->ai_addr);
    free(a);
}

/* Opening ends in time, whatever the resolver does; and what it leaves behind is bounded. */
static void a_name_that_does_not_resolve(void **state) {
    (void)state;
    yk_xfer *a = listening(NULL, a_memory, "kv"), *b = make(NULL, NULL, b_memory);
    char where[128];
    const char *port = strrchr(yk_xfer_address(a), ':') + 1;
    yk_xfer_segment s;
    int rc = 0, tries = 0;
    snprintf(where, sizeof(where), "quick.test:%s/kv", port);
    assert_int_equal(yk_xfer_open(b, where, 0, &s), 0);
    assert_int_equal(yk_xfer_open(b, "never.test:1/kv", 0, &s), -YK_EGONE);
    assert_int_equal(yk_xfer_open(b, "slow.test:1/kv", 30, &s), -YK_ETIMEDOUT);
    assert_non_null(strstr(yk_xfer_error_text(), "slow.test"));
    snprintf(where, sizeof(where), "slow.test:1,quick.test:%s/kv", port);
    for (rc = -YK_ETIMEDOUT; rc == -YK_ETIMEDOUT && tries < 3; tries++)
        rc = yk_xfer_open(b, where, 2000, &s); /* time is left for those behind it */
    assert_int_equal(rc, 0);
    tries = 0;
    while (rc != -YK_ELIMIT && tries++ < 100) {
        rc = yk_xfer_open(b, "slow.test:1/kv", 10, &s);
        assert_true(rc == -YK_ETIMEDOUT || rc == -YK_ELIMIT);
    }
    assert_int_equal(rc, -YK_ELIMIT);
    pthread_mutex_lock(&dns_lock);
    dns_answers = 1;
    pthread_cond_broadcast(&dns_cond);
    pthread_mutex_unlock(&dns_lock);
    snprintf(where, sizeof(where), "quick.test:%s/kv", port);
    for (tries = 0; rc == -YK_ELIMIT && tries < 10000; tries++) { /* they come to their ends */
        rc = yk_xfer_open(b, where, 0, &s);
        if (rc == -YK_ELIMIT)
            (void)poll(NULL, 0, 1);
    }
    assert_int_equal(rc, 0);
    yk_xfer_destroy(b);
    yk_xfer_destroy(a);
}

int main(void) {
    large[0] = 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_of_one_engine),
        cmocka_unit_test(a_directory),
        cmocka_unit_test(an_owner_that_died),
        cmocka_unit_test(a_child_that_lives_longer),
        cmocka_unit_test(a_file_that_is_none),
        cmocka_unit_test(a_fork_while_a_file_is_opened),
        cmocka_unit_test(a_resolver),
        cmocka_unit_test(a_stale_runtime_directory),
        cmocka_unit_test(rails_that_are_not_there),
        cmocka_unit_test(a_name_that_does_not_resolve),
        cmocka_unit_test(a_stranger_at_an_address_is_passed_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
