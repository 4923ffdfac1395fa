/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory that is unmapped while it is registered, on either side: its requests end with -YK_EFAULT, those
 * around them, on the same lane, with their exact bytes, and no lane goes down.
 */
#include <yolk/transfer.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BYTES (16u << 20)
#define HOLE  (4u << 20) /* [HOLE, 2 * HOLE) of memory that has one */

static yk_xfer *from, *to;
static yk_xfer_segment whole, holed; /* at the target */
static char *local, *local_holed, *remote, *remote_holed;
static char dir[64];

static char *map(void) {
    void *p = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(p != MAP_FAILED);
    return p;
}

/* Its addresses stay taken: nothing else comes to lie there. */
static void unmap(char *memory) {
    assert_true(mmap(memory + HOLE, HOLE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) !=
                MAP_FAILED);
}

static void fill(char *at, uint64_t len, uint32_t seed) {
    for (uint64_t i = 0; i < len; i++)
        at[i] = (char)((i * 2654435761u + seed) >> 11);
}

static yk_xfer *engine(uint32_t transports, const char *listen, char *a, char *b) {
    yk_xfer_opts o = {.size = sizeof(o), .transports = transports, .registry_dir = dir, .shm_dir = dir, .listen = listen,
                      .stall_ms = 15000, .connect_ms = 15000}; /* a busy machine is no reason for a lane to go down */
    yk_xfer_memory m[2] = {{.addr = a, .length = BYTES, .fd = -1, .access = YK_XFER_REMOTE_READ | YK_XFER_REMOTE_WRITE},
                           {.addr = b, .length = BYTES, .fd = -1, .access = YK_XFER_REMOTE_READ | YK_XFER_REMOTE_WRITE}};
    yk_xfer *e;
    assert_int_equal(yk_xfer_create(&o, &e), 0);
    assert_int_equal(yk_xfer_register(e, m, 2), 0);
    return e;
}

static void begin(uint32_t transports) {
    snprintf(dir, sizeof(dir), "/tmp/yk-unmapped-XXXXXX");
    assert_non_null(mkdtemp(dir));
    local = map();
    local_holed = map();
    remote = map();
    remote_holed = map();
    from = engine(transports, NULL, local, local_holed);
    to = engine(transports, "127.0.0.1:0", remote, remote_holed);
    assert_int_equal(yk_xfer_publish(to, "whole", remote, BYTES, NULL), 0);
    assert_int_equal(yk_xfer_publish(to, "holed", remote_holed, BYTES, NULL), 0);
    assert_int_equal(yk_xfer_open(from, "whole", 0, &whole), 0);
    assert_int_equal(yk_xfer_open(from, "holed", 0, &holed), 0);
    unmap(local_holed);
    unmap(remote_holed);
}

static void finish(void) {
    yk_xfer_destroy(from);
    yk_xfer_destroy(to);
    assert_int_equal(rmdir(dir), 0);
    munmap(local, BYTES);
    munmap(local_holed, BYTES);
    munmap(remote, BYTES);
    munmap(remote_holed, BYTES);
}

/* No rail has a failure to tell. */
static void no_lane_went_down(void) {
    char *json = NULL;
    assert_int_equal(yk_xfer_links_json(from, &json), 0);
    const char *at = json;
    for (; (at = strstr(at, "\"last_failure\":")) != NULL; at += 15)
        if (strncmp(at + 15 + strspn(at + 15, " "), "null", 4) != 0)
            fail_msg("%.200s", at);
    free(json);
}

#define REQUESTS 24u

/* One in three names a hole, of one side or the other, in the middle of it or over its edge; all in one
 * batch, twice, so that lanes are new and warm. */
static void a_mix(uint32_t op, uint64_t len) {
    yk_xfer_request q[REQUESTS];
    yk_xfer_submit_opts o = {.size = sizeof(o), .timeout_ms = 20000};
    yk_xfer_batch b;
    fill(op == YK_XFER_READ ? remote : local, BYTES, (uint32_t)len);
    memset(op == YK_XFER_READ ? local : remote, 0, BYTES);
    for (uint32_t i = 0; i < REQUESTS; i++) {
        uint64_t at = i * (BYTES / REQUESTS / 4096 * 4096);
        uint64_t bad = i / 6 % 2 ? HOLE + 8192 : HOLE - len / 2;
        q[i] = (yk_xfer_request){.op = op, .local = local + at, .segment = whole, .offset = at, .length = len};
        if (i % 6 == 2)
            q[i].local = local_holed + bad;
        if (i % 6 == 5) {
            q[i].segment = holed;
            q[i].offset = bad;
        }
    }
    assert_int_equal(yk_xfer_submit(from, q, REQUESTS, &o, &b), 0);
    assert_int_equal(yk_xfer_wait(from, b, UINT32_MAX), -YK_EFAULT);
    assert_non_null(strstr(yk_xfer_error_text(), "request 2 of 24: memory cannot be accessed"));
    for (uint32_t i = 0; i < REQUESTS; i++) {
        yk_xfer_status s;
        assert_int_equal(yk_xfer_request_status(from, b, i, &s), 0);
        assert_int_equal(s.status, i % 3 == 2 ? -YK_EFAULT : 0);
        if (i % 3 != 2)
            assert_memory_equal(local + q[i].offset, remote + q[i].offset, len);
    }
    assert_int_equal(yk_xfer_batch_free(from, b), 0);
}

static void by(uint32_t transports) {
    static const uint64_t lens[] = {100, 4096, 65536, 300000, 650000};
    begin(transports);
    for (uint32_t i = 0; i < 2 * sizeof(lens) / sizeof(lens[0]); i++) {
        a_mix(YK_XFER_READ, lens[i / 2]);
        a_mix(YK_XFER_WRITE, lens[i / 2]);
    }
    no_lane_went_down();
    finish();
}

static void tcp(void **state) {
    (void)state;
    by(YK_XFER_TCP);
}

/* Its memory has no descriptor: it is copied by process_vm_readv. */
static void shm(void **state) {
    (void)state;
    by(YK_XFER_SHM);
}

/* Into a lane that is idle, where the first bytes of a WRITE come along with its header. */
static void one_at_a_time(void **state) {
    (void)state;
    begin(YK_XFER_TCP);
    for (uint32_t i = 0; i < 12; i++) {
        uint64_t len = i % 3 == 0 ? 64 : i % 3 == 1 ? 8000 : 2000000;
        yk_xfer_request q = {.op = i & 1 ? YK_XFER_READ : YK_XFER_WRITE,
                             .local = i & 2 ? local : local_holed + HOLE,
                             .segment = i & 2 ? holed : whole,
                             .offset = i & 2 ? HOLE : 0,
                             .length = len};
        assert_int_equal(yk_xfer_run(from, &q, 1, NULL), -YK_EFAULT);
        q.local = local;
        q.segment = whole;
        q.offset = 0;
        fill(q.op == YK_XFER_READ ? remote : local, len, i);
        assert_int_equal(yk_xfer_run(from, &q, 1, NULL), 0);
        assert_memory_equal(local, remote, len);
    }
    no_lane_went_down();
    finish();
}

/* Nothing is wrong with the file. */
static void file(void **state) {
    char path[96], where[128];
    yk_xfer_segment s;
    (void)state;
    begin(YK_XFER_FILE | YK_XFER_MEM);
    snprintf(path, sizeof(path), "%s/file", dir);
    snprintf(where, sizeof(where), "file:%s", path);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fill(local, 1 << 20, 5);
    assert_int_equal(fwrite(local, 1 << 20, 1, f), 1);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(yk_xfer_open(from, where, 0, &s), 0);
    for (uint32_t op = YK_XFER_READ; op <= YK_XFER_WRITE; op++) {
        yk_xfer_request q = {.op = op, .local = local_holed + HOLE, .segment = s, .length = 65536};
        assert_int_equal(yk_xfer_run(from, &q, 1, NULL), -YK_EFAULT);
        q = (yk_xfer_request){.op = YK_XFER_READ, .local = local_holed, .segment = s, .length = 1 << 20};
        assert_int_equal(yk_xfer_run(from, &q, 1, NULL), 0);
        assert_memory_equal(local_holed, local, 1 << 20);
    }
    assert_int_equal(unlink(path), 0);
    finish();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tcp),
        cmocka_unit_test(shm),
        cmocka_unit_test(one_at_a_time),
        cmocka_unit_test(file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
