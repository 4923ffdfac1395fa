/* SPDX-License-Identifier: Apache-2.0
 *
 * Nodes and blocks for the tests of libyolk (fixture.h).
 */
#include "fixture.h"

#include "base/clock.h"

#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

void fixture_init(struct fixture *f, int named) {
    memset(f, 0, sizeof(*f));
    strcpy(f->dir, "/tmp/yk-test-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->url, sizeof(f->url), "unix:%s/s", f->dir);
    if (named)
        snprintf(f->name, sizeof(f->name), "ykt-%s", f->dir + strlen("/tmp/yk-test-"));
    snprintf(f->ssd_path, sizeof(f->ssd_path), "%s/ssd", f->dir);
    f->dram = 64u * MIB;
    f->max_clients = 16;
}

static int start(struct fixture *f, struct yk_node **ret_node) {
    struct yk_err err = {0, ""};
    struct yk_node_opts o;
    memset(&o, 0, sizeof(o));
    o.store.segment.name = f->name[0] != 0 ? f->name : NULL;
    o.store.segment.data_bytes = f->dram;
    o.store.segment.max_clients = f->max_clients;
    o.store.segment.numa_node = -1;
    o.store.policy = "lru";
    o.store.capacity_blocks = f->capacity_blocks;
    o.store.reserve_percent = 2;
    o.store.held_percent = 50;
    o.stop_timeout_ms = 200;
    if (f->ssd != 0) {
        o.store.ssd.dev[0] = (struct yk_ssd_dev_opts){f->ssd_path, f->ssd};
        o.store.ssd.dev_count = 1;
        o.store.ssd.segment_bytes = 8u * MIB;
    }
    if (f->tune != NULL)
        f->tune(&o);
    if (yk_parse_addr(f->url, &o.listen[0], &err) < 0)
        return err.code;
    o.listen_count = 1;
    int rc = yk_node_start(&o, ret_node, &err);
    if (rc < 0)
        fprintf(stderr, "node: %s\n", err.text);
    return rc;
}

void fixture_start(struct fixture *f) {
    assert_int_equal(start(f, &f->node), 0);
}

void fixture_stop(struct fixture *f) {
    yk_node_stop(f->node);
    f->node = NULL;
}

static void node_main(struct fixture *f, int go, int ready) {
    struct yk_node *node;
    sigset_t set;
    int sig;
    char byte;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    if (go >= 0 && read(go, &byte, 1) != 1)
        _exit(0);
    if (start(f, &node) < 0)
        _exit(1);
    if (write(ready, "", 1) != 1)
        _exit(1);
    sigwait(&set, &sig);
    yk_node_stop(node);
    _exit(0);
}

void fixture_fork(struct fixture *f) {
    int ready[2];
    char byte;
    assert_int_equal(pipe(ready), 0);
    f->pid = fork();
    assert_true(f->pid >= 0);
    if (f->pid == 0) {
        close(ready[0]);
        node_main(f, -1, ready[1]);
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
}

void fixture_fork_spare(struct fixture *f) {
    int ready[2], go[2];
    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(go), 0);
    f->spare = fork();
    assert_true(f->spare >= 0);
    if (f->spare == 0) {
        close(ready[0]);
        close(go[1]);
        node_main(f, go[0], ready[1]);
    }
    close(ready[1]);
    close(go[0]);
    f->spare_ready = ready[0];
    f->spare_go = go[1];
}

void fixture_start_spare(struct fixture *f) {
    char byte;
    assert_int_equal(write(f->spare_go, "", 1), 1);
    assert_int_equal(read(f->spare_ready, &byte, 1), 1);
    close(f->spare_go);
    close(f->spare_ready);
    f->pid = f->spare;
    f->spare = 0;
}

void fixture_kill(struct fixture *f, int sig) {
    assert_int_equal(kill(f->pid, sig), 0);
    if (sig == SIGCONT)
        return;
    int status;
    assert_int_equal(waitpid(f->pid, &status, sig == SIGSTOP ? WUNTRACED : 0), f->pid);
    if (sig != SIGSTOP)
        f->pid = 0;
}

void fixture_fini(struct fixture *f) {
    char path[256];
    if (f->node != NULL)
        fixture_stop(f);
    if (f->pid > 0) {
        kill(f->pid, SIGCONT);
        fixture_kill(f, SIGKILL);
    }
    if (f->spare > 0) {
        close(f->spare_go);
        close(f->spare_ready);
        waitpid(f->spare, NULL, 0);
    }
    snprintf(path, sizeof(path), "%s/s", f->dir);
    unlink(path);
    unlink(f->ssd_path);
    rmdir(f->dir);
    static const char *const ends[] = {"meta", "data", "clients"};
    for (int i = 0; f->name[0] != 0 && i < 3; i++) {
        snprintf(path, sizeof(path), "/dev/shm/yolk-%s.%s", f->name, ends[i]);
        unlink(path);
    }
}

yk_client *open_with(struct fixture *f, uint32_t flags, uint32_t timeout_ms) {
    yk_open_opts o = {.size = sizeof(o), .flags = flags, .timeout_ms = timeout_ms};
    yk_client *c = NULL;
    uint64_t until = yk_now_ns() + 20 * YK_NS_PER_S;
    int rc;
    while ((rc = yk_open(f->url, &o, &c)) == -YK_ETIMEDOUT && yk_now_ns() < until)
        ; /* some handles have less time than a busy machine needs for that */
    check_status(rc, 0, "yk_open", __FILE__, __LINE__);
    return c;
}

yk_client *open_client(struct fixture *f) {
    return open_with(f, 0, 20000);
}

static uint64_t mix(uint64_t x) {
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return x ^ x >> 31;
}

void fill(void *buf, size_t len, uint64_t seed) {
    unsigned char *p = buf;
    for (size_t i = 0; i < len; i += 8) {
        uint64_t w = mix(seed * 1000003u + i);
        memcpy(p + i, &w, len - i < 8 ? len - i : 8);
    }
}

int is_filled(const void *buf, size_t len, uint64_t seed) {
    const unsigned char *p = buf;
    for (size_t i = 0; i < len; i += 8) {
        uint64_t w = mix(seed * 1000003u + i);
        if (memcmp(p + i, &w, len - i < 8 ? len - i : 8) != 0)
            return 0;
    }
    return 1;
}

void put_ok(yk_client *c, const char *key, size_t len, uint64_t seed) {
    void *buf = malloc(len);
    fill(buf, len, seed);
    int rc = yk_put(c, yk_key_str(key), buf, len, NULL);
    free(buf);
    check_status(rc, 0, key, __FILE__, __LINE__);
}

int get_is(yk_client *c, const char *key, size_t len, uint64_t seed) {
    char *buf = malloc(len + 1);
    size_t n = 0;
    int rc = yk_get(c, yk_key_str(key), buf, len + 1, &n);
    if (rc == 0) {
        assert_int_equal(n, len);
        assert_true(is_filled(buf, len, seed));
    }
    free(buf);
    return rc;
}

uint64_t stat_of(yk_client *c, size_t offset) {
    yk_client_stats s;
    uint64_t v;
    assert_int_equal(yk_client_stats_get(c, &s, sizeof(s)), 0);
    memcpy(&v, (char *)&s + offset, sizeof(v));
    return v;
}

void check_status(int got, int want, const char *what, const char *file, int line) {
    if (got == want)
        return;
    print_error("%s is %d (%s, \"%s\"), expected %d\n", what, got, yk_strstatus(got),
                yk_error_text(NULL), want);
    _fail(file, line);
}

int with_node(void **state) {
    struct fixture *f = malloc(sizeof(*f));
    fixture_init(f, 0);
    fixture_start(f);
    *state = f;
    return 0;
}

int without_node(void **state) {
    struct fixture *f = *state;
    fixture_fini(f);
    free(f);
    return 0;
}
