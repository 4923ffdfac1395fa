/* SPDX-License-Identifier: Apache-2.0
 *
 * Guarded requests: when the target asks its guard and when it lets go, against bytes on a connection;
 * and through the public interface over each transport, where a request is cut into slices, asked for
 * again, missed in the middle, or refused because its segment takes nothing without a guard.
 *
 * The guard of these tests is one for all: what it has seen is counted under a lock, since it is called
 * on the target's threads.
 */
#include "tcp_rig.h"

#include "xfer/proto.h"

#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#define GENERATION 3u
#define BYTES      (4u << 20)

static struct seen {
    uint32_t pins, unpins, calls;
    uint64_t bytes;        /* of what was pinned */
    uint32_t op;           /* of the last */
    int dirty;             /* memory was written before it was asked for, or a pin was none of ours */
    uint32_t again;        /* so many calls are told to come again */
    uint64_t miss_from;    /* ranges that reach beyond are missed; 0: none */
    const char *watch;     /* memory that is 'o' all over when a write is pinned, or NULL */
} seen;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int pin(void *user, uint32_t op, uint64_t descriptor, uint64_t generation, uint64_t epoch,
               uint64_t offset, uint64_t length, uint64_t *ret_pin) {
    int rc = 0;
    pthread_mutex_lock(&lock);
    seen.calls++;
    seen.op = op;
    if (seen.again > 0) {
        seen.again -= seen.again != UINT32_MAX;
        rc = -YK_EAGAIN;
    } else if (descriptor != 7 || generation != GENERATION || epoch != 1 ||
               (seen.miss_from > 0 && offset + length > seen.miss_from)) {
        rc = YK_MISS;
    } else {
        for (uint64_t i = 0; seen.watch != NULL && i < length; i++)
            seen.dirty |= seen.watch[offset + i] != 'o';
        seen.pins++;
        seen.bytes += length;
        *ret_pin = 0x100 + op;
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

static void unpin(void *user, uint64_t p) {
    pthread_mutex_lock(&lock);
    seen.dirty |= p != 0x100 + YK_XFER_READ && p != 0x100 + YK_XFER_WRITE;
    seen.unpins++;
    pthread_mutex_unlock(&lock);
}

static struct seen look(void) {
    pthread_mutex_lock(&lock);
    struct seen s = seen;
    pthread_mutex_unlock(&lock);
    return s;
}

static void forget(void) {
    pthread_mutex_lock(&lock);
    memset(&seen, 0, sizeof(seen));
    pthread_mutex_unlock(&lock);
}

#define WAIT_SEEN(cond)                                                                            \
    do {                                                                                           \
        uint64_t until_ = yk_now_ns() + RIG_WAIT_NS;                                               \
        struct seen s = look();                                                                    \
        while (!(cond) && yk_now_ns() < until_) {                                                  \
            usleep(1000);                                                                          \
            s = look();                                                                            \
        }                                                                                          \
        assert_true(cond);                                                                         \
    } while (0)

static const yk_xfer_guard_ops ops = {sizeof(ops), NULL, pin, unpin};

/* ---- bytes on a connection ----------------------------------------------------------------------- */

#define SEGMENT_AT 4096u

/* Publishes [SEGMENT_AT, ...) of the target with the guard. */
static void open_guarded(struct rig *r) {
    struct yk_err err;
    forget();
    rig_open(r);
    memset(r->target, 'o', RIG_BYTES);
    assert_int_equal(yk_registry_publish(r->registry, "g", r->target + SEGMENT_AT, RIG_BYTES - SEGMENT_AT,
                                         &ops, &err), 0);
    pthread_mutex_lock(&lock);
    seen.watch = r->target + SEGMENT_AT;
    pthread_mutex_unlock(&lock);
}

static uint32_t put_header(void *to, uint8_t op, uint32_t seq, uint64_t region, uint64_t offset,
                           uint64_t len, uint64_t generation, int more) {
    struct yk_xreq q = {.op = op,
                        .flags = (uint8_t)((generation != 0 ? YK_XREQ_GUARD : 0) | (more ? YK_XREQ_MORE : 0)),
                        .seq = seq,
                        .region = region,
                        .offset = offset,
                        .len = len,
                        .descriptor = 7,
                        .generation = generation,
                        .epoch = 1};
    return yk_xreq_encode(to, &q);
}

static void send_header(int fd, uint8_t op, uint32_t seq, uint64_t region, uint64_t offset, uint64_t len,
                        uint64_t generation, int more) {
    unsigned char b[YK_XREQ_BYTES_MAX];
    rig_send(fd, b, put_header(b, op, seq, region, offset, len, generation, more));
}

static int answer(int fd, uint8_t op, uint32_t seq) {
    unsigned char in[YK_XANS_BYTES];
    struct yk_xans a;
    assert_int_equal(rig_recv(fd, in, sizeof(in)), 1);
    assert_int_equal(yk_xans_decode(in, &a, NULL), 0);
    assert_int_equal(a.op, op);
    assert_int_equal(a.seq, seq);
    return a.status;
}

static int all_of(const char *at, uint64_t len, char c) {
    for (uint64_t i = 0; i < len; i++)
        if (at[i] != c)
            return 0;
    return 1;
}

static char payload[200000];

/* Asked before a byte is written, let go when the last has been and before anybody is told so. */
static void a_write_is_pinned_from_its_first_byte_to_its_last(void **state) {
    struct rig r = {0};
    (void)state;
    open_guarded(&r);
    int fd = rig_greeted(&r, 1, 1);
    memset(payload, 'n', sizeof(payload));
    for (uint32_t seq = 1; seq <= 20; seq++) {
        uint64_t len = seq % 2 ? 100000 : 500, at = SEGMENT_AT + seq * 100000;
        send_header(fd, YK_PROTO_WRITE, seq, r.region, at, len, GENERATION, 0);
        rig_send(fd, payload, len / 2);
        WAIT_SEEN(s.pins == seq);
        assert_true(look().unpins == seq - 1 && look().op == YK_XFER_WRITE && !look().dirty);
        rig_send(fd, payload, len - len / 2);
        assert_int_equal(answer(fd, YK_PROTO_WRITE, seq), 0);
        assert_int_equal(look().unpins, seq); /* at once: who has the answer may close the place */
        rig_sync(&r);
        assert_true(all_of(r.target + at, len, 'n') && r.target[at + len] == 'o');
    }
    close(fd);
    rig_close(&r);
}

/* What is missed, or has to come again, is told with nothing written; the lane goes on. A run of them
 * in which some are. */
static void what_the_guard_refuses_goes_nowhere(void **state) {
    struct rig r = {0};
    (void)state;
    open_guarded(&r);
    int fd = rig_greeted(&r, 1, 1);
    memset(payload, 'n', sizeof(payload));
    send_header(fd, YK_PROTO_WRITE, 1, r.region, SEGMENT_AT, sizeof(payload), GENERATION - 1, 0);
    rig_send(fd, payload, sizeof(payload));
    assert_int_equal(answer(fd, YK_PROTO_WRITE, 1), YK_MISS);
    pthread_mutex_lock(&lock);
    seen.again = 1;
    pthread_mutex_unlock(&lock);
    send_header(fd, YK_PROTO_WRITE, 2, r.region, SEGMENT_AT, 1000, GENERATION, 0);
    rig_send(fd, payload, 1000);
    assert_int_equal(answer(fd, YK_PROTO_WRITE, 2), -YK_EAGAIN);
    send_header(fd, YK_PROTO_WRITE, 3, r.region, 0, 1000, GENERATION, 0); /* no segment is there */
    rig_send(fd, payload, 1000);
    assert_int_equal(answer(fd, YK_PROTO_WRITE, 3), -YK_EINVAL);
    rig_sync(&r);
    assert_true(all_of(r.target, RIG_BYTES, 'o'));
    assert_int_equal(look().pins, 0);

    uint32_t n = YK_GROUP_MAX;
    for (uint32_t i = 0; i < n; i++)
        send_header(fd, YK_PROTO_WRITE, 4 + i, r.region, SEGMENT_AT + i * 1000, 1000,
                    i % 3 == 1 ? GENERATION + 1 : GENERATION, i + 1 < n);
    for (uint32_t i = 0; i < n; i++)
        rig_send(fd, payload, 1000);
    for (uint32_t i = 0; i < n; i++)
        assert_int_equal(answer(fd, YK_PROTO_WRITE, 4 + i), i % 3 == 1 ? YK_MISS : 0);
    assert_int_equal(look().pins, look().unpins);
    rig_sync(&r);
    for (uint32_t i = 0; i < n; i++)
        assert_true(all_of(r.target + SEGMENT_AT + i * 1000, 1000, i % 3 == 1 ? 'o' : 'n'));
    close(fd);
    rig_close(&r);
}

/* A lane that ends in the middle lets go: closed by its initiator, or by a fence, before that is
 * answered. */
static void a_lane_that_ends_lets_go(void **state) {
    struct rig r = {0};
    (void)state;
    open_guarded(&r);
    for (uint32_t i = 0; i < 2; i++) {
        int fd = rig_greeted(&r, 10 + i, 1), other = rig_greeted(&r, 20 + i, 1);
        send_header(fd, YK_PROTO_WRITE, 1, r.region, SEGMENT_AT, 100000, GENERATION, 0);
        rig_send(fd, payload, 30000);
        WAIT_SEEN(s.pins == i + 1);
        assert_int_equal(look().unpins, i);
        if (i == 0) {
            close(fd);
            WAIT_SEEN(s.unpins == 1);
        } else {
            unsigned char b[YK_XREQ_BYTES_MAX];
            struct yk_xreq q = {.op = YK_PROTO_FENCE, .seq = 1, .offset = 10 + i};
            rig_send(other, b, yk_xreq_encode(b, &q));
            assert_int_equal(answer(other, YK_PROTO_FENCE, 1), 0);
            assert_int_equal(look().unpins, 2);
            close(fd);
        }
        close(other);
    }
    rig_close(&r);
}

/* Who takes nothing, or sends half of a write, does not keep its pins for long; others may be as slow as
 * before. */
static void a_silent_peer_loses_its_pins(void **state) {
    struct rig r = {.server_env = {.pin_ms = 100}};
    struct yk_server_counts c;
    (void)state;
    open_guarded(&r);
    int reader = rig_greeted(&r, 1, 1), writer = rig_greeted(&r, 2, 1), slow = rig_greeted(&r, 3, 1);
    send_header(slow, YK_PROTO_WRITE, 1, r.region, 0, 1000, 0, 0);
    rig_send(slow, payload, 500);
    send_header(reader, YK_PROTO_READ, 1, r.region, SEGMENT_AT, RIG_BYTES - SEGMENT_AT, GENERATION, 0);
    uint32_t n = put_header(payload, YK_PROTO_WRITE, 1, r.region, SEGMENT_AT, 100000, GENERATION, 0);
    rig_send(writer, payload, n + 1000); /* at once: it may be closed when we are slow */
    WAIT_SEEN(s.pins == 2);
    WAIT_SEEN(s.unpins == 2);
    uint64_t until = yk_now_ns() + RIG_WAIT_NS;
    do
        yk_server_stat(r.server, &c);
    while (c.lanes != 1 && yk_now_ns() < until && usleep(1000) == 0);
    assert_int_equal(c.lanes, 1);
    rig_send(slow, payload, 500);
    assert_int_equal(answer(slow, YK_PROTO_WRITE, 1), 0);
    close(reader);
    close(writer);
    close(slow);
    rig_close(&r);
}

static void memory_that_is_guarded_only_is_for_nobody_else(void **state) {
    struct rig r = {0};
    struct yk_err err;
    static char memory[8192];
    yk_xfer_memory m = {.addr = memory, .length = sizeof(memory), .fd = -1,
                        .access = YK_XFER_REMOTE_READ | YK_XFER_REMOTE_WRITE | YK_XFER_REMOTE_GUARDED};
    (void)state;
    open_guarded(&r);
    forget();
    memset(memory, 'o', sizeof(memory));
    assert_int_equal(yk_registry_add(r.registry, &m, 1, &err), 0);
    struct yk_region *g = yk_registry_find(r.registry, memory, 1);
    uint64_t region = g->id;
    yk_registry_put(r.registry, g);
    assert_int_equal(yk_registry_publish(r.registry, "bare", memory, 100, NULL, &err), -YK_EINVAL);
    assert_non_null(strstr(err.text, "guard"));
    assert_int_equal(yk_registry_publish(r.registry, "only", memory, 4096, &ops, &err), 0);
    int fd = rig_greeted(&r, 1, 1);
    send_header(fd, YK_PROTO_WRITE, 1, region, 0, 1000, 0, 0);
    rig_send(fd, payload, 1000);
    assert_int_equal(answer(fd, YK_PROTO_WRITE, 1), -YK_EPERM);
    send_header(fd, YK_PROTO_READ, 2, region, 0, 1000, 0, 0);
    assert_int_equal(rig_recv(fd, payload, 1000), 1);
    assert_int_equal(answer(fd, YK_PROTO_READ, 2), -YK_EPERM);
    assert_true(all_of(payload, 1000, 0));
    rig_sync(&r);
    assert_true(all_of(memory, sizeof(memory), 'o') && look().calls == 0);
    send_header(fd, YK_PROTO_READ, 3, region, 0, 1000, GENERATION, 0);
    assert_int_equal(rig_recv(fd, payload, 1000), 1);
    assert_int_equal(answer(fd, YK_PROTO_READ, 3), 0);
    assert_true(all_of(payload, 1000, 'o'));
    close(fd);
    rig_close(&r);
}

/* The initiator's lane: guards of writes and reads in one group, each with its own. */
static void a_group_with_guards(void **state) {
    struct rig r = {0};
    struct rig_lane l;
    static struct rig_slice s[YK_GROUP_MAX];
    struct yk_xfer_guard good = {7, GENERATION, 1, 0, 0}, stale = {7, GENERATION - 1, 1, 0, 0};
    (void)state;
    open_guarded(&r);
    pthread_mutex_lock(&lock);
    seen.watch = NULL;
    pthread_mutex_unlock(&lock);
    memset(r.local, 'n', RIG_BYTES);
    rig_connect(&r, &l, 1);
    for (uint32_t i = 0; i < YK_GROUP_MAX; i++) {
        rig_fill(&s[i], i % 4 ? YK_SLICE_WRITE : YK_SLICE_READ, r.local + i * 1000, 1000, r.region,
                 SEGMENT_AT + i * 1000);
        s[i].slice.guard = i % 5 == 1 ? &stale : i % 5 == 2 ? NULL : &good;
        rig_post(&r, &l, &s[i]);
    }
    yk_xport_tcp.flush(l.lane);
    rig_finish(&r);
    rig_sync(&r);
    for (uint32_t i = 0; i < YK_GROUP_MAX; i++) {
        int missed = i % 5 == 1;
        assert_int_equal(s[i].slice.status, missed ? YK_MISS : 0);
        if (i % 4)
            assert_true(all_of(r.target + SEGMENT_AT + i * 1000, 1000, missed ? 'o' : 'n'));
        else if (!missed)
            assert_true(all_of(r.local + i * 1000, 1000, 'o'));
    }
    assert_int_equal(look().pins, look().unpins);
    rig_hang_up(&l);
    rig_close(&r);
}

/* ---- the public interface, over each transport --------------------------------------------------- */

static struct ends {
    yk_xfer *from, *to;
    yk_xfer_segment plain, only;
    char *memory; /* of the target: BYTES, then BYTES that are guarded only */
    char dir[32];
} x;
static char local[BYTES];

static void open_ends(const void *transport) {
    struct yk_xfer_opts o = {.size = sizeof(o), .transports = *(const uint32_t *)transport,
                             .registry_dir = x.dir, .shm_dir = x.dir};
    yk_xfer_memory m = {.addr = local, .length = BYTES, .fd = -1};
    uint32_t access = YK_XFER_REMOTE_READ | YK_XFER_REMOTE_WRITE;
    void *a, *b;
    forget();
    strcpy(x.dir, "/tmp/yk-guard-XXXXXX");
    assert_non_null(mkdtemp(x.dir));
    assert_int_equal(yk_xfer_create(&o, &x.from), 0);
    o.listen = "127.0.0.1:0";
    assert_int_equal(yk_xfer_create(&o, &x.to), 0);
    assert_int_equal(yk_xfer_register(x.from, &m, 1), 0);
    assert_int_equal(yk_xfer_alloc(x.to, BYTES, access, &a), 0);
    assert_int_equal(yk_xfer_alloc(x.to, BYTES, access | YK_XFER_REMOTE_GUARDED, &b), 0);
    x.memory = b;
    memset(b, 'o', BYTES);
    assert_int_equal(yk_xfer_publish(x.to, "plain", a, BYTES, &ops), 0);
    assert_int_equal(yk_xfer_publish(x.to, "bare", b, BYTES, NULL), -YK_EINVAL);
    assert_int_equal(yk_xfer_publish(x.to, "only", b, BYTES, &ops), 0);
    assert_int_equal(yk_xfer_open(x.from, "plain", 0, &x.plain), 0);
    assert_int_equal(yk_xfer_open(x.from, "only", 0, &x.only), 0);
}

static void close_ends(void) {
    yk_xfer_destroy(x.from);
    yk_xfer_destroy(x.to);
    assert_int_equal(look().pins, look().unpins);
    assert_int_equal(rmdir(x.dir), 0);
}

static int go(uint32_t op, uint64_t offset, uint64_t len, const yk_xfer_guard *g, uint32_t timeout_ms,
              int run) {
    yk_xfer_request q = {.op = op, .local = local + offset, .segment = x.only, .offset = offset,
                         .length = len, .guard = g};
    yk_xfer_submit_opts o = {.size = sizeof(o), .xclass = YK_XFER_DEMAND, .timeout_ms = timeout_ms};
    yk_xfer_batch b;
    if (run)
        return yk_xfer_run(x.from, &q, 1, &o);
    assert_int_equal(yk_xfer_submit(x.from, &q, 1, &o, &b), 0);
    int rc = yk_xfer_wait(x.from, b, UINT32_MAX);
    assert_int_equal(yk_xfer_batch_free(x.from, b), 0);
    return rc;
}

/* Each slice carries the guard: what was pinned is all of it, and let go of when the request has ended. */
static void guarded_writes(void **state) {
    yk_xfer_guard good = {.descriptor = 7, .generation = GENERATION, .epoch = 1}, stale = good;
    stale.generation++;
    open_ends(*state);
    for (int i = 0; i < 8; i++) {
        uint64_t len = i % 2 ? 3000000 : 4097;
        forget();
        memset(local, i % 4 < 2 ? 'n' : 'x', BYTES);
        int rc = go(YK_XFER_WRITE, 100, len, i % 4 < 2 ? &good : &stale, 0, i >= 4);
        assert_int_equal(rc, i % 4 < 2 ? 0 : YK_MISS);
        struct seen s = look();
        assert_true(s.op == YK_XFER_WRITE && s.pins == s.unpins);
        assert_true(s.bytes == (i % 4 < 2 ? len : 0));
        assert_true(all_of(x.memory + 100, i % 4 < 2 ? len : 4097, 'n'));
    }
    memset(local, 0, BYTES);
    assert_int_equal(go(YK_XFER_READ, 0, BYTES, &good, 0, 1), 0);
    assert_true(all_of(local + 100, 3000000, 'n') && local[99] == 'o' && local[3000100] == 'o');
    close_ends();
}

static void a_miss_in_the_middle_is_a_miss(void **state) {
    yk_xfer_guard good = {.descriptor = 7, .generation = GENERATION, .epoch = 1};
    open_ends(*state);
    for (uint32_t i = 0; i < 4; i++) {
        forget();
        pthread_mutex_lock(&lock);
        seen.miss_from = BYTES - 1;
        pthread_mutex_unlock(&lock);
        memset(local, 'n', BYTES);
        assert_int_equal(go(i % 2 ? YK_XFER_WRITE : YK_XFER_READ, 0, BYTES, &good, 0, i >= 2), YK_MISS);
        assert_int_equal(x.memory[BYTES - 1], 'o');
        assert_int_equal(look().pins, look().unpins);
    }
    close_ends();
}

/* A target that has no pin left is asked again, until the deadline. */
static void no_pin_now_is_asked_again(void **state) {
    yk_xfer_guard good = {.descriptor = 7, .generation = GENERATION, .epoch = 1};
    open_ends(*state);
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t op = i % 2 ? YK_XFER_WRITE : YK_XFER_READ;
        forget();
        pthread_mutex_lock(&lock);
        seen.again = 4;
        pthread_mutex_unlock(&lock);
        memset(local, 'n', BYTES);
        assert_int_equal(go(op, 0, 5000, &good, 0, i >= 2), 0);
        assert_int_equal(look().calls, 5);
        assert_true(all_of(op == YK_XFER_WRITE ? x.memory : local, 5000, i == 0 ? 'o' : 'n'));
        pthread_mutex_lock(&lock);
        seen.again = UINT32_MAX;
        pthread_mutex_unlock(&lock);
        assert_int_equal(go(op, 0, 3000000, &good, 30, i >= 2), -YK_ETIMEDOUT);
        assert_int_equal(look().pins, look().unpins);
    }
    close_ends();
}

static void nothing_without_a_guard(void **state) {
    yk_xfer_segment_info info;
    open_ends(*state);
    assert_int_equal(yk_xfer_segment_stat(x.from, x.only, &info), 0);
    assert_int_equal(info.access, YK_XFER_REMOTE_READ | YK_XFER_REMOTE_WRITE | YK_XFER_REMOTE_GUARDED);
    for (uint32_t op = YK_XFER_READ; op <= YK_XFER_WRITE; op++) {
        yk_xfer_request q = {.op = op, .local = local, .segment = x.only, .length = 100};
        yk_xfer_batch b;
        assert_int_equal(yk_xfer_run(x.from, &q, 1, NULL), -YK_EPERM);
        assert_non_null(strstr(yk_xfer_error_text(), "request 0"));
        assert_non_null(strstr(yk_xfer_error_text(), "guard"));
        assert_int_equal(yk_xfer_submit(x.from, &q, 1, NULL, &b), -YK_EPERM);
        q.segment = x.plain; /* has a guard, and does not insist on it */
        assert_int_equal(yk_xfer_run(x.from, &q, 1, NULL), 0);
    }
    assert_int_equal(look().calls, 0);
    close_ends();
}

int main(void) {
    static const uint32_t mem = YK_XFER_MEM, tcp = YK_XFER_TCP, shm = YK_XFER_SHM;
#define TRANSPORTS(test)                                                                           \
    cmocka_unit_test_prestate(test, (void *)(uintptr_t)&mem),                                      \
        cmocka_unit_test_prestate(test, (void *)(uintptr_t)&tcp),                                  \
        cmocka_unit_test_prestate(test, (void *)(uintptr_t)&shm)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_write_is_pinned_from_its_first_byte_to_its_last),
        cmocka_unit_test(what_the_guard_refuses_goes_nowhere),
        cmocka_unit_test(a_lane_that_ends_lets_go),
        cmocka_unit_test(a_silent_peer_loses_its_pins),
        cmocka_unit_test(memory_that_is_guarded_only_is_for_nobody_else),
        cmocka_unit_test(a_group_with_guards),
        TRANSPORTS(guarded_writes),
        TRANSPORTS(a_miss_in_the_middle_is_a_miss),
        TRANSPORTS(no_pin_now_is_asked_again),
        TRANSPORTS(nothing_without_a_guard),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
