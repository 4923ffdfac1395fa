/* SPDX-License-Identifier: Apache-2.0
 *
 * Handles that outlive their node, and nodes that are killed, stopped, replaced or not nodes at all;
 * forks. The node is a process of its own here, forked while this one has no other thread.
 */
#include "fixture.h"

#include "base/clock.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static const uint32_t both[2] = {0, YK_OPEN_NO_MAP};

static int named_node(void **state) {
    struct fixture *f = malloc(sizeof(*f));
    fixture_init(f, 1);
    fixture_fork(f);
    *state = f;
    return 0;
}

static int nameless_node(void **state) {
    struct fixture *f = malloc(sizeof(*f));
    fixture_init(f, 0);
    fixture_fork(f);
    *state = f;
    return 0;
}

static int no_node(void **state) {
    struct fixture *f = malloc(sizeof(*f));
    fixture_init(f, 0);
    *state = f;
    return 0;
}

static yk_op put_op(const char *key, struct iovec *iov) {
    return (yk_op){.opcode = YK_OP_PUT, .key = yk_key_str(key), .iov = iov, .iov_count = 1};
}

static void a_killed_node_comes_back(void **state) {
    struct fixture *f = *state;
    for (int i = 0; i < 2; i++) {
        yk_client *c = open_with(f, both[i], 20000);
        const char *name = i == 0 ? "m" : "n", *later = i == 0 ? "p" : "q";
        yk_ref ref;
        yk_op *out;
        char data[5000];
        struct iovec iov = {data, sizeof(data)};
        yk_op op = put_op(later, &iov);
        put_ok(c, name, 70000, 3);
        assert_status(yk_ref_get(c, yk_key_str(name), &ref), 0);
        fill(data, sizeof(data), 4);
        fixture_kill(f, SIGKILL);
        assert_true(is_filled(ref.data, ref.len, 3));
        if (i == 0) { /* the mapping needs no node */
            assert_status(get_is(c, name, 70000, 3), 0);
            assert_int_equal(yk_exists(c, yk_key_str(name)), 1);
            assert_status(yk_put(c, yk_key_str(name), ref.data, ref.len, NULL), 0);
        }
        assert_status(yk_submit(c, &op, 1, 20000), 0);
        for (int k = 0; k < 3; k++)
            assert_int_equal(yk_poll(c, &out, 1, 5), 0);
        fixture_fork(f);
        assert_int_equal(yk_poll(c, &out, 1, 20000), 1);
        assert_status(op.status, 0);
        assert_int_equal(STAT(c, reconnects), 1);
        assert_status(get_is(c, later, sizeof(data), 4), 0);
        assert_status(get_is(c, name, 70000, 3), 0); /* it was suspect, and is good */
        assert_true(is_filled(ref.data, ref.len, 3));
        yk_ref_release(c, &ref);
        assert_status(yk_remove(c, yk_key_str(name)), 0);
        yk_close(c);
    }
}

static void a_reservation_survives_the_node(void **state) {
    struct fixture *f = *state;
    yk_client *c = open_client(f);
    yk_reservation r, s;
    for (int i = 0; i < 20; i++) { /* some are held ahead, too */
        char key[8];
        snprintf(key, sizeof(key), "h%d", i);
        put_ok(c, key, 30000, (uint64_t)i);
    }
    assert_status(yk_reserve(c, 30000, 0, &r), 0);
    assert_status(yk_reserve(c, 50000, 0, &s), 0);
    fill(r.data, r.len, 1);
    fixture_kill(f, SIGKILL);
    fill(s.data, s.len, 2);
    fixture_fork(f);
    assert_status(yk_commit(c, &r, yk_key_str("r"), NULL), 0);
    assert_status(yk_commit(c, &s, yk_key_str("s"), NULL), 0);
    assert_status(get_is(c, "r", 30000, 1), 0);
    assert_status(get_is(c, "s", 50000, 2), 0);
    for (int i = 20; i < 40; i++) {
        char key[8];
        snprintf(key, sizeof(key), "h%d", i);
        put_ok(c, key, 30000, (uint64_t)i);
    }
    for (int i = 0; i < 40; i++) {
        char key[8];
        snprintf(key, sizeof(key), "h%d", i);
        assert_status(get_is(c, key, 30000, (uint64_t)i), 0);
    }
    yk_close(c);
}

/* Mappings of segments in this process. */
static int mappings(void) {
    char line[512];
    int n = 0;
    FILE *f = fopen("/proc/self/maps", "r");
    assert_non_null(f);
    while (fgets(line, sizeof(line), f) != NULL)
        n += strstr(line, "memfd:yolk") != NULL;
    fclose(f);
    return n;
}

/* Another segment: what was there is gone, what is held stays readable, all goes on. */
static void a_node_that_lost_its_memory(void **state) {
    struct fixture *f = *state;
    yk_client *c = open_client(f);
    yk_reservation r, s;
    yk_ref ref;
    for (int i = 0; i < 10; i++) {
        char key[8];
        snprintf(key, sizeof(key), "h%d", i);
        put_ok(c, key, 30000, (uint64_t)i);
    }
    assert_status(yk_ref_get(c, yk_key_str("h3"), &ref), 0);
    assert_status(yk_reserve(c, 777, 0, &r), 0);
    assert_status(yk_reserve(c, 778, 0, &s), 0);
    fixture_kill(f, SIGKILL);
    fixture_fork(f);
    for (int i = 0; i < 10; i++) {
        char key[8];
        snprintf(key, sizeof(key), "n%d", i);
        put_ok(c, key, 30000, (uint64_t)i);
        assert_status(get_is(c, key, 30000, (uint64_t)i), 0);
    }
    assert_int_equal(STAT(c, reconnects), 1);
    assert_status(get_is(c, "h3", 30000, 3), YK_MISS);
    assert_true(is_filled(ref.data, ref.len, 3));
    fill(r.data, r.len, 9);
    assert_status(yk_commit(c, &r, yk_key_str("r"), NULL), -YK_EGONE);
    assert_status(yk_abort(c, &s), 0);
    assert_int_equal(STAT(c, refs_held), 1);
    assert_int_equal(mappings(), 8); /* the old one's as long as somebody reads there */
    yk_ref_release(c, &ref);
    assert_int_equal(mappings(), 4);
    assert_int_equal(STAT(c, refs_held), 0);
    assert_int_equal(STAT(c, puts), 20);
    yk_close(c);
}

/* Who has little time may have none left when it finds out. */
static void ends_without_node(int status, int has_time) {
    assert_true(status == -YK_EGONE || (!has_time && status == -YK_ETIMEDOUT));
}

static void without_a_node(void **state) {
    struct fixture *f = *state;
    for (int i = 0; i < 2; i++) {
        yk_client *c = open_with(f, both[i], 60);
        yk_client *final = open_with(f, both[i] | YK_OPEN_NO_RECONNECT, 60000);
        yk_op *out;
        yk_op op = {.opcode = YK_OP_REMOVE, .key = yk_key_str("k")};
        put_ok(final, "k", 100, 1);
        fixture_kill(f, SIGKILL);
        yk_client *const handles[2] = {c, final};
        for (int h = 0; h < 2; h++) {
            c = handles[h];
            uint64_t t0 = yk_now_ns();
            ends_without_node(yk_put(c, yk_key_str("x"), "x", 1, NULL), h);
            ends_without_node(yk_remove(c, yk_key_str("k")), h);
            ends_without_node(yk_ns_create(c, "n", 0), h);
            assert_int_equal(yk_exists(c, yk_key_str("k")), i == 0);
            assert_status(get_is(c, "k", 100, 1), i == 0 ? 0 : YK_MISS);
            assert_int_equal(yk_match(c, &op.key, 1, NULL), i == 0);
            assert_int_equal(yk_exists(c, yk_key_str("none")), 0);
            if (h == 1) /* nobody waits for what cannot come */
                assert_true(yk_now_ns() - t0 < 30 * YK_NS_PER_S);
            assert_status(yk_submit(c, &op, 1, 0), 0);
            assert_int_equal(yk_poll(c, &out, 1, 20000), 1);
            ends_without_node(op.status, h);
        }
        assert_status(yk_poll(final, &out, 1, 20000), -YK_EGONE);
        assert_status(yk_poll(handles[0], &out, 1, 1), 0);
        yk_close(handles[0]);
        yk_close(final);
        fixture_fork(f);
    }
}

static void a_node_that_is_stopped(void **state) {
    struct fixture *f = *state;
    for (int i = 0; i < 2; i++) {
        yk_client *c = open_with(f, both[i], 60);
        yk_op *out;
        yk_op ops[2] = {{.opcode = YK_OP_REMOVE, .key = yk_key_str("k")},
                        {.opcode = YK_OP_EXISTS, .key = yk_key_str("none")}};
        char *big = malloc(4u * MIB), key[16];
        fill(big, 4u * MIB, 5);
        yk_client *patient = open_client(f);
        put_ok(patient, "k", 100, 1);
        put_ok(patient, "l", 100, 1);
        yk_close(patient);
        fixture_kill(f, SIGSTOP);
        /* More than the socket holds: the payload is sent in part. */
        for (int n = 0; n < 4; n++) {
            snprintf(key, sizeof(key), "big%d", n);
            uint64_t t0 = yk_now_ns();
            int rc = yk_put(c, yk_key_str(key), big, 4u * MIB, NULL);
            assert_true(rc == -YK_ETIMEDOUT || rc == -YK_EGONE);
            assert_true(yk_now_ns() - t0 < 30 * YK_NS_PER_S);
        }
        assert_status(get_is(c, "k", 100, 1), i == 0 ? 0 : YK_MISS);
        int rc = yk_remove(c, yk_key_str("l"));
        assert_true(rc == -YK_ETIMEDOUT || rc == -YK_EGONE);
        assert_status(yk_submit(c, ops, 2, 0), 0);
        for (int n = 0; n < 2;) {
            int k = yk_poll(c, &out, 1, 20000);
            assert_int_equal(k, 1);
            n += k;
        }
        assert_true(ops[0].status == -YK_ETIMEDOUT || ops[0].status == -YK_EGONE);
        assert_status(ops[1].status, YK_MISS);
        fixture_kill(f, SIGCONT);
        yk_close(c);
        c = open_with(f, both[i], 20000);
        for (int n = 0; n < 4; n++) { /* made or not: never in part */
            snprintf(key, sizeof(key), "big%d", n);
            rc = get_is(c, key, 4u * MIB, 5);
            assert_true(rc == 0 || rc == YK_MISS);
            put_ok(c, key, 4u * MIB, 5);
            assert_status(yk_remove(c, yk_key_str(key)), 0);
        }
        free(big);
        yk_close(c);
    }
}

/* The same handle goes on after the stop; nothing that it held is lost or used twice. */
static void a_handle_outlasts_a_stop(void **state) {
    struct fixture *f = *state;
    for (int i = 0; i < 2; i++) {
        yk_client *c = open_with(f, both[i], 20000);
        yk_put_opts soon = {.size = sizeof(soon), .timeout_ms = 30};
        char data[3000], key[16];
        fill(data, sizeof(data), 1);
        for (int n = 0; n < 5; n++) {
            snprintf(key, sizeof(key), "a%d", n);
            put_ok(c, key, sizeof(data), 1);
            yk_remove(c, yk_key_str(key));
        }
        for (int round = 0; round < 3; round++) {
            fixture_kill(f, SIGSTOP);
            for (int n = 0; n < 6; n++) {
                snprintf(key, sizeof(key), "s%d", n);
                int rc = yk_put(c, yk_key_str(key), data, sizeof(data), &soon);
                assert_true(rc == -YK_ETIMEDOUT || rc == 0);
            }
            fixture_kill(f, SIGCONT);
            for (int n = 0; n < 30; n++) {
                snprintf(key, sizeof(key), "r%d/%d", round, n);
                put_ok(c, key, sizeof(data), (uint64_t)n);
            }
            for (int n = 0; n < 30; n++) {
                snprintf(key, sizeof(key), "r%d/%d", round, n);
                assert_status(get_is(c, key, sizeof(data), (uint64_t)n), 0);
            }
            for (int n = 0; n < 6; n++) {
                snprintf(key, sizeof(key), "s%d", n);
                int rc = get_is(c, key, sizeof(data), 1);
                assert_true(rc == 0 || rc == YK_MISS);
            }
        }
        yk_remove_many(c, YK_REMOVE_ALL, (yk_key){NULL, 0}, NULL);
        yk_close(c);
    }
}

static void a_truncated_segment_costs_its_blocks_only(void **state) {
    struct fixture *f = *state;
    yk_client *c = open_with(f, YK_OPEN_HANDLE_SIGBUS, 1000);
    char path[256];
    put_ok(c, "k", 3u * MIB, 1);
    assert_status(get_is(c, "k", 3u * MIB, 1), 0);
    fixture_kill(f, SIGKILL);
    snprintf(path, sizeof(path), "/dev/shm/yolk-%s.data", f->name);
    assert_int_equal(truncate(path, 0), 0);
    assert_status(get_is(c, "k", 3u * MIB, 1), YK_MISS);
    assert_int_equal(yk_exists(c, yk_key_str("k")), 0);
    snprintf(path, sizeof(path), "/dev/shm/yolk-%s.meta", f->name);
    assert_int_equal(truncate(path, 0), 0);
    snprintf(path, sizeof(path), "/dev/shm/yolk-%s.clients", f->name);
    assert_int_equal(truncate(path, 0), 0);
    yk_ref r;
    assert_status(yk_ref_get(c, yk_key_str("k"), &r), YK_MISS);
    assert_int_equal(yk_exists(c, yk_key_str("x")), 0);
    fixture_fork(f); /* makes another segment */
    put_ok(c, "k", 1000, 2);
    assert_status(get_is(c, "k", 1000, 2), 0);
    yk_close(c);
}

static void a_forked_child_cannot_use_the_handle(void **state) {
    struct fixture *f = *state;
    yk_client *c = open_client(f);
    yk_ref ref;
    put_ok(c, "k", 1000, 1);
    assert_status(yk_ref_get(c, yk_key_str("k"), &ref), 0);
    pid_t pid = fork();
    if (pid == 0) {
        yk_op op = {.opcode = YK_OP_EXISTS, .key = yk_key_str("k")}, *out;
        char buf[8];
        size_t n;
        int bad = 0;
        bad += yk_exists(c, yk_key_str("k")) != -YK_EFORK;
        bad += yk_get(c, yk_key_str("k"), buf, sizeof(buf), &n) != -YK_EFORK;
        bad += yk_put(c, yk_key_str("k"), "x", 1, NULL) != -YK_EFORK;
        bad += yk_submit(c, &op, 1, 0) != -YK_EFORK;
        bad += yk_poll(c, &out, 1, 0) != -YK_EFORK;
        bad += yk_fd(c) != -YK_EFORK;
        yk_ref_release(c, &ref);
        yk_close(c);
        /* A handle of its own works. */
        yk_client *own = NULL;
        bad += yk_open(f->url, NULL, &own) != 0;
        bad += own == NULL || yk_exists(own, yk_key_str("k")) != 1;
        yk_close(own);
        _exit(bad);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_true(is_filled(ref.data, ref.len, 1));
    yk_ref_release(c, &ref);
    put_ok(c, "l", 1000, 2);
    assert_status(get_is(c, "k", 1000, 1), 0);
    yk_close(c);
}

/* A client that dies holds nothing back. */
static void a_client_that_dies(void **state) {
    struct fixture *f = *state;
    for (int i = 0; i < 5; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            yk_client *c = open_client(f);
            yk_reservation r;
            yk_ref ref;
            put_ok(c, "k", 1000, 1);
            if (yk_reserve(c, 25u * MIB, 0, &r) != 0 || yk_ref_get(c, yk_key_str("k"), &ref) != 0)
                _exit(1);
            memset(r.data, 1, 1000);
            kill(getpid(), SIGKILL);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
    }
    yk_client *c = open_client(f);
    yk_reservation r;
    assert_status(yk_reserve(c, 25u * MIB, 10000, &r), 0);
    yk_close(c);
}

/* ---- many threads, many deaths ---- */

struct shared {
    uint64_t done, wrong, lost; /* operations; wrong bytes or statuses; acknowledged and missing */
    int stop;
};

struct hand {
    struct shared *sh;
    yk_client *c;
    int number;
    pthread_t thread;
};

static void tell(struct hand *h, const char *what, int rc) {
    print_error("thread %d: %s: %d (%s)\n", h->number, what, rc, yk_error_text(NULL));
    __atomic_add_fetch(&h->sh->wrong, 1, __ATOMIC_RELAXED);
}

static void *labour(void *arg) {
    struct hand *h = arg;
    char key[32], data[4000], got[4000];
    for (uint64_t i = 0; !__atomic_load_n(&h->sh->stop, __ATOMIC_RELAXED); i++) {
        uint64_t seed = (uint64_t)h->number * 1000000 + i;
        size_t len = 1000 + i % 3 * 1000, n;
        yk_ref ref;
        snprintf(key, sizeof(key), "%d/%llu", h->number, (unsigned long long)i);
        fill(data, len, seed);
        int rc = yk_put(h->c, yk_key_str(key), data, len, NULL);
        if (rc != 0)
            tell(h, "put", rc);
        rc = yk_get(h->c, yk_key_str(key), got, sizeof(got), &n);
        if (rc < 0 || (rc == 0 && (n != len || memcmp(got, data, len) != 0)))
            tell(h, "get", rc);
        if (rc == YK_MISS)
            __atomic_add_fetch(&h->sh->lost, 1, __ATOMIC_RELAXED);
        rc = yk_ref_get(h->c, yk_key_str(key), &ref);
        if (rc == 0) {
            if (ref.len != len || memcmp(ref.data, data, len) != 0)
                tell(h, "ref", 0);
            yk_ref_release(h->c, &ref);
        }
        if (i % 2 == 0) {
            rc = yk_remove(h->c, yk_key_str(key));
            if (rc < 0)
                tell(h, "remove", rc);
        } else {
            struct iovec iov = {data, len};
            yk_op *out, op = {.opcode = YK_OP_EXISTS, .key = yk_key_str(key), .iov = &iov};
            op.user = &op;
            rc = yk_run(h->c, &op, 1, 0);
            if (rc < 0 || op.status < 0)
                tell(h, "run", op.status);
            (void)yk_poll(h->c, &out, 1, 0);
        }
        __atomic_add_fetch(&h->sh->done, 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

static void labour_process(struct fixture *f, struct shared *sh) {
    yk_client *c[2] = {open_with(f, 0, 60000), open_with(f, YK_OPEN_NO_MAP, 60000)};
    struct hand h[4];
    for (int i = 0; i < 4; i++) {
        h[i] = (struct hand){.sh = sh, .c = c[i % 2], .number = i};
        pthread_create(&h[i].thread, NULL, labour, &h[i]);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(h[i].thread, NULL);
    yk_close(c[0]);
    yk_close(c[1]);
    _exit(0);
}

static void threads_go_on_whatever_happens_to_the_node(void **state) {
    struct fixture *f = *state;
    struct shared *sh = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(sh, MAP_FAILED);
    pid_t pid = fork();
    if (pid == 0)
        labour_process(f, sh);
    uint64_t end = yk_now_ns() + 60 * YK_NS_PER_S;
    for (int round = 0; round < 12; round++) {
        uint64_t goal = __atomic_load_n(&sh->done, __ATOMIC_RELAXED) + 40;
        while (__atomic_load_n(&sh->done, __ATOMIC_RELAXED) < goal && yk_now_ns() < end)
            sched_yield();
        assert_true(__atomic_load_n(&sh->done, __ATOMIC_RELAXED) >= goal); /* it went on */
        fixture_kill(f, round % 3 == 2 ? SIGSTOP : round % 3 == 1 ? SIGTERM : SIGKILL);
        if (round % 3 == 2)
            fixture_kill(f, SIGCONT);
        else
            fixture_fork(f);
    }
    __atomic_store_n(&sh->stop, 1, __ATOMIC_RELAXED);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(sh->wrong, 0);
    assert_true(sh->lost <= 4 * 8); /* what was being written when it was killed */
    munmap(sh, 4096);
}

/* ---- not a node ---- */

struct liar {
    int fd;
    unsigned seed;
    pthread_t thread;
};

static uint32_t draw(struct liar *l) {
    l->seed = l->seed * 1664525u + 1013904223u;
    return l->seed >> 8;
}

/* Answers everything with bytes of its own making. */
static void *lie(void *arg) {
    struct liar *l = arg;
    for (int fd; (fd = accept(l->fd, NULL, NULL)) >= 0; close(fd)) {
        unsigned char buf[512];
        if (recv(fd, buf, sizeof(buf), 0) <= 0)
            continue;
        unsigned n = draw(l) % sizeof(buf);
        for (unsigned i = 0; i < n; i++)
            buf[i] = (unsigned char)draw(l);
        if (draw(l) % 2 && n > 16) { /* looks like a frame */
            memset(buf, 0, 16);
            buf[0] = (unsigned char)(n - 16);
            buf[4] = 1;
            buf[5] = 1;
            memset(buf + 16, 0, draw(l) % 2 ? 6 : 0);
        }
        (void)!send(fd, buf, n, MSG_NOSIGNAL);
    }
    return NULL;
}

static void something_that_is_no_node(void **state) {
    struct fixture *f = *state;
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    struct liar l = {.seed = 1};
    snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", f->url + 5);
    l.fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(l.fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(listen(l.fd, 10), 0);
    pthread_create(&l.thread, NULL, lie, &l);
    for (int i = 0; i < 300; i++) {
        yk_open_opts o = {.size = sizeof(o), .timeout_ms = 20, .flags = both[i % 2]};
        yk_client *c = NULL;
        int rc = yk_open(f->url, &o, &c);
        assert_true(rc < 0 && rc >= -YK_ENOENT);
        assert_true(yk_error_text(NULL)[0] != 0);
    }
    shutdown(l.fd, SHUT_RDWR);
    close(l.fd);
    pthread_join(l.thread, NULL);
}

/* One that accepts and says nothing. */
static void something_that_is_silent(void **state) {
    struct fixture *f = *state;
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    yk_open_opts o = {.size = sizeof(o), .timeout_ms = 30};
    yk_client *c = NULL;
    snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", f->url + 5);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_status(yk_open(f->url, &o, &c), -YK_ETIMEDOUT);
    close(fd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_killed_node_comes_back, named_node, without_node),
        cmocka_unit_test_setup_teardown(a_reservation_survives_the_node, named_node, without_node),
        cmocka_unit_test_setup_teardown(a_node_that_lost_its_memory, nameless_node, without_node),
        cmocka_unit_test_setup_teardown(without_a_node, named_node, without_node),
        cmocka_unit_test_setup_teardown(a_node_that_is_stopped, nameless_node, without_node),
        cmocka_unit_test_setup_teardown(a_handle_outlasts_a_stop, nameless_node, without_node),
        cmocka_unit_test_setup_teardown(a_truncated_segment_costs_its_blocks_only, named_node,
                                        without_node),
        cmocka_unit_test_setup_teardown(a_forked_child_cannot_use_the_handle, nameless_node,
                                        without_node),
        cmocka_unit_test_setup_teardown(a_client_that_dies, nameless_node, without_node),
        cmocka_unit_test_setup_teardown(threads_go_on_whatever_happens_to_the_node, named_node,
                                        without_node),
        cmocka_unit_test_setup_teardown(something_that_is_no_node, no_node, without_node),
        cmocka_unit_test_setup_teardown(something_that_is_silent, no_node, without_node),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
