/* SPDX-License-Identifier: Apache-2.0
 *
 * A whole transport that goes away in the middle of a transfer: the socket of a peer of this host is shut and
 * its name removed while guarded requests are on it, and they end over TCP, with exact bytes. What is
 * written again waits for the fence, which TCP carries, too.
 */
#include <yolk/transfer.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define BYTES  (32u << 20)
#define CUT_AT 5 /* pins: one for each slice */

static char dir[64];
static char *remote, *local;
static uint32_t pins, cuts; /* the server's thread's, while it runs */
static int pinned;

/* Ends all connections of the peer's unix socket, and takes its name away. */
static void cut(void) {
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)] = "";
    for (int fd = 3; fd < 1024; fd++) {
        struct sockaddr_un a, there;
        socklen_t len = sizeof(a), size = sizeof(there);
        memset(&a, 0, sizeof(a));
        if (getsockname(fd, (struct sockaddr *)&a, &len) < 0 || a.sun_family != AF_UNIX ||
            strncmp(a.sun_path, dir, strlen(dir)) != 0)
            continue;
        char *name = strstr(a.sun_path, "/.yolk-xfer-"); /* as it was bound */
        if (name != NULL)
            snprintf(path, sizeof(path), "%.*s/%s", (int)(name - a.sun_path), a.sun_path, name + 2);
        if (getpeername(fd, (struct sockaddr *)&there, &size) < 0)
            continue; /* it listens */
        shutdown(fd, SHUT_RDWR);
        cuts++;
    }
    unlink(path);
}

static int pin(void *user, uint32_t op, uint64_t descriptor, uint64_t generation, uint64_t epoch, uint64_t offset,
               uint64_t length, uint64_t *ret_pin) {
    (void)user, (void)op, (void)descriptor, (void)generation, (void)epoch, (void)offset, (void)length;
    pinned++;
    if (++pins == CUT_AT)
        cut();
    *ret_pin = 1;
    return 0;
}

static void unpin(void *user, uint64_t p) {
    (void)user, (void)p;
    pinned--;
}

static void fill(char *at, uint32_t seed) {
    for (uint64_t i = 0; i < BYTES; i++)
        at[i] = (char)((i * 2654435761u + seed) >> 11);
}

/* What a rail of that transport has moved. */
static unsigned long long moved(yk_xfer *e, const char *transport) {
    char *json = NULL, word[48];
    unsigned long long bytes = 0;
    assert_int_equal(yk_xfer_links_json(e, &json), 0);
    snprintf(word, sizeof(word), "\"transport\":\"%s\"", transport);
    char *to = json;
    for (const char *at = json; *at != 0; at++) /* without blanks */
        if (*at != ' ')
            *to++ = *at;
    *to = 0;
    const char *at = strstr(json, word);
    at = at != NULL ? strstr(at, "\"bytes\":") : NULL;
    assert_non_null(at);
    assert_int_equal(sscanf(at, "\"bytes\":%llu", &bytes), 1);
    free(json);
    return bytes;
}

/* Was it cut while it moved? (Where the peer was slow to answer on its socket all of it went over TCP.) */
static int go(uint32_t op) {
    yk_xfer *from, *to;
    yk_xfer_segment segment;
    void *p;
    snprintf(dir, sizeof(dir), "/tmp/yk-switch-XXXXXX");
    assert_non_null(mkdtemp(dir));
    yk_xfer_opts o = {.size = sizeof(o), .transports = YK_XFER_SHM | YK_XFER_TCP, .registry_dir = dir, .shm_dir = dir};
    assert_int_equal(yk_xfer_create(&o, &from), 0);
    o.listen = "127.0.0.1:0";
    assert_int_equal(yk_xfer_create(&o, &to), 0);
    assert_int_equal(yk_xfer_alloc(to, BYTES, YK_XFER_REMOTE_READ | YK_XFER_REMOTE_WRITE, &p), 0);
    remote = p;
    assert_int_equal(yk_xfer_alloc(from, BYTES, 0, &p), 0);
    local = p;
    pins = cuts = 0;
    pinned = 0;
    yk_xfer_guard_ops guard = {.size = sizeof(guard), .pin = pin, .unpin = unpin};
    assert_int_equal(yk_xfer_publish(to, "s", remote, BYTES, &guard), 0);
    assert_int_equal(yk_xfer_open(from, "s", 0, &segment), 0);
    fill(op == YK_XFER_READ ? remote : local, op);
    yk_xfer_guard g = {.descriptor = 1};
    yk_xfer_request q = {.op = op, .local = local, .segment = segment, .length = BYTES, .guard = &g};
    assert_int_equal(yk_xfer_run(from, &q, 1, NULL), 0);
    assert_memory_equal(local, remote, BYTES);
    unsigned long long before = moved(from, "unix"), after = moved(from, "tcp");
    assert_int_equal(before + after, BYTES);
    yk_xfer_destroy(from);
    yk_xfer_destroy(to);
    assert_int_equal(pinned, 0);
    assert_int_equal(rmdir(dir), 0);
    return cuts >= 1 && pins > CUT_AT && after > 0;
}

static void until_cut(uint32_t op) {
    int cut_off = 0;
    for (int tries = 0; tries < 10 && !cut_off; tries++)
        cut_off = go(op);
    assert_true(cut_off);
}

static void a_read(void **state) {
    (void)state;
    until_cut(YK_XFER_READ);
}

static void a_write(void **state) {
    (void)state;
    until_cut(YK_XFER_WRITE);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_read), cmocka_unit_test(a_write)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
