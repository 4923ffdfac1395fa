/* SPDX-License-Identifier: Apache-2.0
 *
 * See conformance.h. Bytes are a function of their place and a seed, so that any piece can be checked
 * alone; buffers have margins that must stay as they are.
 */
#include "conformance.h"

#include "base/clock.h"
#include "base/hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MARGIN  64u
#define OPEN_MS 60000u /* an emulated guest may take long to look at all its devices */

static char *local, *copy; /* CONFORM_BYTES and margins, each */

/* What is to be at this place: another part for each seed of numbers that are drawn once, since sanitizers make each
 * access many. */
static const char *pattern(uint64_t offset, uint64_t seed) {
    static uint64_t word[(CONFORM_BYTES + (1u << 20)) / 8];
    if (word[0] == 0)
        for (uint64_t i = 0, w = 88172645463325252ull; i < sizeof(word) / sizeof(word[0]); i++) {
            w ^= w << 13;
            w ^= w >> 7;
            word[i] = w ^= w << 17;
        }
    return (const char *)word + seed * 4099 % (1u << 20) + offset;
}

static void bytes_of(char *at, uint64_t offset, uint64_t len, uint64_t seed) {
    memcpy(at, pattern(offset, seed), len);
}

static int same(const char *at, uint64_t offset, uint64_t len, uint64_t seed) {
    return memcmp(at, pattern(offset, seed), len) == 0;
}

static int all_are(const char *at, uint64_t len, char byte) {
    return at[0] == byte && memcmp(at, at + 1, len - 1) == 0;
}

/* ---- two engines in this process ------------------------------------------------------------------- */

static int pin_all(void *user, uint32_t op, uint64_t descriptor, uint64_t generation, uint64_t epoch,
                   uint64_t offset, uint64_t length, uint64_t *ret_pin) {
    uint32_t *pins = user;
    if (descriptor != 7 || generation != 3 || epoch != 1)
        return YK_MISS;
    __atomic_fetch_add(pins, 1, __ATOMIC_RELAXED);
    *ret_pin = offset + length;
    return 0;
}

static void unpin_all(void *user, uint64_t pin) {
    uint32_t *pins = user;
    (void)pin;
    __atomic_fetch_sub(pins, 1, __ATOMIC_RELAXED);
}

static uint32_t pins; /* of guarded reads under way */

void conform_open_two(struct conform_rig *rig, const yk_xfer_opts *opts) {
    snprintf(rig->dir, sizeof(rig->dir), "/tmp/yk-conform-XXXXXX");
    assert_non_null(mkdtemp(rig->dir));
    yk_xfer_opts o = *opts;
    o.size = sizeof(o);
    o.transports = rig->transports;
    o.registry_dir = rig->dir;
    o.shm_dir = rig->dir;
    o.advertise = NULL;
    assert_int_equal(yk_xfer_create(&o, &rig->from), 0);
    o.advertise = opts->advertise;
    o.listen = rig->listen;
    o.fault = NULL;
    assert_int_equal(yk_xfer_create(&o, &rig->to), 0);
    void *memory;
    uint64_t bytes = rig->bytes != 0 ? rig->bytes : CONFORM_BYTES;
    assert_int_equal(yk_xfer_alloc(rig->to, bytes, YK_XFER_REMOTE_READ | YK_XFER_REMOTE_WRITE, &memory), 0);
    rig->memory = memory;
    yk_xfer_guard_ops guard = {.size = sizeof(guard), .user = &pins, .pin = pin_all, .unpin = unpin_all};
    assert_int_equal(yk_xfer_publish(rig->to, CONFORM_NAME, memory, bytes, &guard), 0);
    assert_int_equal(yk_xfer_open(rig->from, CONFORM_NAME, OPEN_MS, &rig->segment), 0);
}

void conform_close_two(struct conform_rig *rig) {
    yk_xfer_destroy(rig->from);
    yk_xfer_destroy(rig->to);
    assert_int_equal(pins, 0);
    assert_int_equal(rmdir(rig->dir), 0); /* all names were withdrawn, all sockets removed */
}

void conform_put_memory(struct conform_rig *rig, uint64_t offset, const void *data, uint64_t len) {
    memcpy(rig->memory + offset, data, len);
}

void conform_get_memory(struct conform_rig *rig, uint64_t offset, void *data, uint64_t len) {
    memcpy(data, rig->memory + offset, len);
}

/* ---- setting up --------------------------------------------------------------------------------------- */

/* With so many bytes of the segment, and registered here. */
static void begin_with(struct conform_rig *rig, const yk_xfer_opts *opts, uint64_t bytes) {
    yk_xfer_opts none = {.size = sizeof(none)};
    rig->bytes = bytes;
    rig->open(rig, opts != NULL ? opts : &none);
    if (local == NULL) {
        local = malloc(CONFORM_BYTES + 2 * MARGIN);
        copy = malloc(CONFORM_BYTES + 2 * MARGIN);
        assert_non_null(local);
        assert_non_null(copy);
    }
    yk_xfer_memory m = {.addr = local, .length = bytes + 2 * MARGIN, .fd = -1};
    assert_int_equal(yk_xfer_register(rig->from, &m, 1), 0);
}

static void begin(struct conform_rig *rig, const yk_xfer_opts *opts) {
    begin_with(rig, opts, CONFORM_BYTES);
}

static void finish(struct conform_rig *rig) {
    void *addr = local;
    assert_int_equal(yk_xfer_unregister(rig->from, &addr, 1), 0);
    rig->close(rig);
}

static yk_xfer_request request(const struct conform_rig *rig, uint32_t op, uint64_t at, uint64_t offset,
                               uint64_t len) {
    return (yk_xfer_request){
        .op = op, .local = local + MARGIN + at, .segment = rig->segment, .offset = offset, .length = len};
}

/* Runs one request by either way: run, or submit and wait. */
static int go(struct conform_rig *rig, const yk_xfer_request *q, int run) {
    yk_xfer_batch b;
    if (run)
        return yk_xfer_run(rig->from, q, 1, NULL);
    assert_int_equal(yk_xfer_submit(rig->from, q, 1, NULL, &b), 0);
    int rc = yk_xfer_wait(rig->from, b, UINT32_MAX);
    assert_int_equal(yk_xfer_batch_free(rig->from, b), 0);
    return rc;
}

/* ---- plain ----------------------------------------------------------------------------------------------- */

static const uint64_t sizes[] = {1,       2,        3,        63,          511,        4096,     4097,
                                 65535,   65536,    65537,    262145,      1048575,    1048576,  1048577,
                                 4194317, 9437184 - 1, 9437184};
#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

static void exact_bytes(struct conform_rig *rig) {
    begin(rig, NULL);
    for (uint64_t i = 0; i < SIZES * 2; i++) {
        uint64_t len = sizes[i / 2], offset = i * 4099 + i % 3, at = i * 257 + 1;
        int run = (int)(i % 2);
        yk_xfer_request q = request(rig, YK_XFER_WRITE, at, offset, len);
        memset(local, 0x55, CONFORM_BYTES + 2 * MARGIN);
        bytes_of(local + MARGIN + at, offset, len, i);
        memset(copy, 0x33, len + 2);
        rig->put(rig, offset > 0 ? offset - 1 : 0, copy, len + 2);
        assert_int_equal(go(rig, &q, run), 0);
        rig->get(rig, offset > 0 ? offset - 1 : 0, copy, len + 2);
        assert_true(same(copy + (offset > 0), offset, len, i));
        assert_int_equal(copy[len + (offset > 0)], 0x33);
        if (offset > 0)
            assert_int_equal(copy[0], 0x33);

        q.op = YK_XFER_READ;
        bytes_of(copy, offset, len, i + 1000);
        rig->put(rig, offset, copy, len);
        assert_int_equal(go(rig, &q, run), 0);
        assert_true(same(local + MARGIN + at, offset, len, i + 1000));
        assert_int_equal(local[MARGIN + at - 1], 0x55);
        assert_int_equal(local[MARGIN + at + len], 0x55);
    }
    finish(rig);
}

struct ends {
    uint32_t called;
    int status;
};

static void count_end(void *user, yk_xfer_batch batch, int status) {
    struct ends *e = user;
    (void)batch;
    e->status = status;
    __atomic_fetch_add(&e->called, 1, __ATOMIC_RELEASE);
}

/* Waits for a count with a deadline. */
static void wait_count(const uint32_t *count, uint32_t until) {
    uint64_t end = yk_now_ns() + 20 * YK_NS_PER_S;
    while (__atomic_load_n(count, __ATOMIC_ACQUIRE) < until && yk_now_ns() < end)
        (void)poll(NULL, 0, 1);
    assert_int_equal(__atomic_load_n(count, __ATOMIC_ACQUIRE), until);
}

#define BATCH 200u
static yk_xfer_request batch[BATCH];

static void make_batch(struct conform_rig *rig, uint32_t op, uint64_t seed) {
    uint64_t at = 0;
    for (uint32_t i = 0; i < BATCH; i++) {
        uint64_t len = 1 + (i * 7919u + seed * 31u) % 90000u;
        batch[i] = request(rig, op, at, at, len);
        at += len + 1;
    }
    assert_true(at < CONFORM_BYTES);
}

static void check_batch(struct conform_rig *rig, uint32_t op, uint64_t seed) {
    rig->get(rig, 0, copy, CONFORM_BYTES);
    for (uint32_t i = 0; i < BATCH; i++)
        assert_true(same(op == YK_XFER_WRITE ? copy + batch[i].offset : (char *)batch[i].local,
                         batch[i].offset, batch[i].length, seed));
}

static void all_completions(struct conform_rig *rig) {
    begin(rig, NULL);
    for (uint32_t k = 0; k < 8; k++) {
        uint32_t op = k % 2 ? YK_XFER_READ : YK_XFER_WRITE;
        struct ends ends = {0};
        yk_xfer_submit_opts o = {.size = sizeof(o), .xclass = k / 2, .user = &ends};
        yk_xfer_batch b;
        yk_xfer_completion c = {0};
        make_batch(rig, op, k);
        bytes_of(op == YK_XFER_WRITE ? local + MARGIN : copy, 0, CONFORM_BYTES, k);
        if (op == YK_XFER_READ)
            rig->put(rig, 0, copy, CONFORM_BYTES);
        if (k < 2) {
            assert_int_equal(yk_xfer_run(rig->from, batch, BATCH, &o), 0);
        } else if (k < 4) {
            o.flags = YK_XFER_EVENT;
            assert_int_equal(yk_xfer_submit(rig->from, batch, BATCH, &o, &b), 0);
            struct pollfd p = {.fd = yk_xfer_event_fd(rig->from), .events = POLLIN};
            assert_int_equal(poll(&p, 1, 20000), 1);
            assert_int_equal(yk_xfer_poll(rig->from, &c, 1, 0), 1);
            assert_true(c.batch == b && c.user == &ends && c.status == 0);
            assert_int_equal(poll(&p, 1, 0), 0);
            assert_int_equal(yk_xfer_batch_free(rig->from, b), 0);
        } else if (k < 6) {
            o.done = count_end;
            assert_int_equal(yk_xfer_submit(rig->from, batch, BATCH, &o, &b), 0);
            wait_count(&ends.called, 1);
            assert_int_equal(ends.status, 0);
        } else {
            o.flags = YK_XFER_WILL_WAIT;
            assert_int_equal(yk_xfer_submit(rig->from, batch, BATCH, &o, &b), 0);
            assert_int_equal(yk_xfer_wait(rig->from, b, UINT32_MAX), 0);
            for (uint32_t i = 0; i < BATCH; i++) {
                yk_xfer_status s;
                assert_int_equal(yk_xfer_request_status(rig->from, b, i, &s), 0);
                assert_true(s.status == 0 && s.bytes == batch[i].length && s.attempts >= 1);
            }
            assert_int_equal(yk_xfer_batch_free(rig->from, b), 0);
        }
        check_batch(rig, op, k);
    }
    finish(rig);
}

static void guards(struct conform_rig *rig) {
    if ((rig->can & CONFORM_GUARD) == 0)
        return;
    begin(rig, NULL);
    for (int i = 0; i < 6; i++) {
        uint64_t len = i % 2 ? 3000000 : 4097;
        bytes_of(copy, 100, len, 5);
        rig->put(rig, 100, copy, len);
        yk_xfer_guard g = {.descriptor = 7, .generation = 3, .epoch = 1};
        yk_xfer_request q = request(rig, YK_XFER_READ, 0, 100, len);
        q.guard = &g;
        g.has_checksum = i >= 4;
        g.checksum = yk_hash64(copy, len);
        g.generation = i == 2 || i == 3 ? 2 : 3;
        int rc = go(rig, &q, i >= 3);
        assert_int_equal(rc, g.generation == 2 ? YK_MISS : 0);
        if (rc == 0)
            assert_true(same(local + MARGIN, 100, len, 5));
    }
    finish(rig);
}

static void notes(struct conform_rig *rig) {
    if ((rig->can & CONFORM_NOTIFY) == 0)
        return;
    static yk_xfer_note n;
    begin(rig, NULL);
    for (uint32_t i = 0; i < 8; i++) {
        char text[YK_XFER_NOTIFY_MAX];
        uint32_t len = i == 3 ? YK_XFER_NOTIFY_MAX : 1 + i * 100;
        uint64_t bytes = 300000;
        yk_xfer_request q = request(rig, YK_XFER_WRITE, 0, i, i >= 6 ? 0 : bytes);
        yk_xfer_submit_opts o = {.size = sizeof(o), .xclass = i % 4, .notify = text, .notify_bytes = len};
        yk_xfer_batch b;
        bytes_of(text, 0, len, i);
        bytes_of(local + MARGIN, 0, bytes, i + 50);
        if (i % 2) {
            assert_int_equal(yk_xfer_run(rig->from, &q, 1, &o), 0);
        } else {
            assert_int_equal(yk_xfer_submit(rig->from, &q, 1, &o, &b), 0);
            assert_int_equal(yk_xfer_wait(rig->from, b, UINT32_MAX), 0);
            assert_int_equal(yk_xfer_batch_free(rig->from, b), 0);
        }
        assert_int_equal(yk_xfer_note_next(rig->to, &n), 0);
        assert_int_equal(n.bytes, len);
        assert_true(same((char *)n.data, 0, len, i));
        assert_int_equal(yk_xfer_note_next(rig->to, &n), YK_MISS);
        rig->get(rig, i, copy, bytes);
        if (i < 6)
            assert_true(same(copy, 0, bytes, i + 50));
    }
    finish(rig);
}

/* A notification that finds the queue full waits by itself: what comes behind it goes on. */
static void a_full_queue_holds_nothing_up(struct conform_rig *rig) {
    if ((rig->can & CONFORM_NOTIFY) == 0)
        return;
    static yk_xfer_note n;
    uint32_t kept = 4096; /* as transfer.h says */
    begin(rig, NULL);
    yk_xfer_request none = request(rig, YK_XFER_WRITE, 0, 0, 0), q = request(rig, YK_XFER_READ, 0, 0, 5000);
    yk_xfer_submit_opts o = {.size = sizeof(o), .xclass = YK_XFER_DEMAND, .notify = "n", .notify_bytes = 1};
    yk_xfer_batch b;
    for (uint32_t i = 0; i < kept; i++)
        assert_int_equal(yk_xfer_run(rig->from, &none, 1, &o), 0);
    assert_int_equal(yk_xfer_submit(rig->from, &none, 1, &o, &b), 0);
    for (uint32_t i = 0; i < 20; i++) {
        assert_int_equal(go(rig, &q, 0), 0);
        assert_int_equal(yk_xfer_wait(rig->from, b, 0), -YK_EAGAIN);
    }
    assert_int_equal(yk_xfer_note_next(rig->to, &n), 0);
    assert_int_equal(yk_xfer_wait(rig->from, b, UINT32_MAX), 0);
    assert_int_equal(yk_xfer_batch_free(rig->from, b), 0);
    o.timeout_ms = 20;
    assert_int_equal(yk_xfer_run(rig->from, &none, 1, &o), -YK_ETIMEDOUT);
    for (uint32_t i = 0; i < kept; i++)
        assert_int_equal(yk_xfer_note_next(rig->to, &n), 0);
    assert_int_equal(yk_xfer_note_next(rig->to, &n), YK_MISS);
    finish(rig);
}

/* After it has ended, whichever way, nothing writes to its memory any more. */
static void ends_early(struct conform_rig *rig) {
    begin(rig, NULL);
    for (uint32_t i = 0; i < 24; i++) {
        yk_xfer_submit_opts o = {.size = sizeof(o), .timeout_ms = i % 2 ? 1 : 0};
        yk_xfer_request q[4];
        yk_xfer_batch b;
        bytes_of(copy, 0, CONFORM_BYTES, i);
        rig->put(rig, 0, copy, CONFORM_BYTES);
        memset(local, 0x77, CONFORM_BYTES + 2 * MARGIN);
        for (uint64_t k = 0; k < 4; k++)
            q[k] = request(rig, YK_XFER_READ, k * (4 << 20), k * (4 << 20), 4 << 20);
        assert_int_equal(yk_xfer_submit(rig->from, q, 4, &o, &b), 0);
        if (i % 2 == 0) {
            if (i % 4)
                (void)yk_xfer_wait(rig->from, b, 1);
            assert_int_equal(yk_xfer_cancel(rig->from, b), 0);
            assert_int_equal(yk_xfer_cancel(rig->from, b), 0);
        }
        int rc = yk_xfer_wait(rig->from, b, 20000);
        assert_true(rc == 0 || rc == (i % 2 ? -YK_ETIMEDOUT : -YK_ECANCELED));
        for (size_t k = 0; k < 4; k++) {
            yk_xfer_status s;
            assert_int_equal(yk_xfer_request_status(rig->from, b, k, &s), 0);
            assert_true(s.status == 0 || s.status == -YK_ETIMEDOUT || s.status == -YK_ECANCELED);
            if (s.status == 0)
                assert_true(same(q[k].local, q[k].offset, q[k].length, i));
        }
        assert_int_equal(yk_xfer_batch_free(rig->from, b), 0);
        memset(local, 0x11, CONFORM_BYTES + 2 * MARGIN);
        (void)poll(NULL, 0, 2); /* late bytes would come now */
        if (!all_are(local + MARGIN, CONFORM_BYTES, 0x11))
            fail_msg("%s: a byte was written after its request had ended", rig->name);
    }
    finish(rig);
}

static void unregister_under_way(struct conform_rig *rig) {
    begin(rig, NULL);
    char *memory = malloc(8 << 20);
    assert_non_null(memory);
    for (uint32_t i = 0; i < 20; i++) {
        void *addr = memory;
        yk_xfer_memory m = {.addr = memory, .length = 8 << 20, .fd = -1};
        yk_xfer_request q = {.op = i % 2 ? YK_XFER_READ : YK_XFER_WRITE,
                             .local = memory,
                             .segment = rig->segment,
                             .length = 8 << 20};
        yk_xfer_batch b;
        memset(memory, 1, 8 << 20);
        assert_int_equal(yk_xfer_register(rig->from, &m, 1), 0);
        assert_int_equal(yk_xfer_submit(rig->from, &q, 1, NULL, &b), 0);
        if (i % 4 > 1)
            (void)poll(NULL, 0, 1);
        assert_int_equal(yk_xfer_unregister(rig->from, &addr, 1), 0);
        memset(memory, 2, 8 << 20);
        int rc = yk_xfer_wait(rig->from, b, 20000);
        assert_true(rc == 0 || rc == -YK_ECANCELED);
        assert_int_equal(yk_xfer_batch_free(rig->from, b), 0);
        for (size_t k = 0; k < 8 << 20; k += 61)
            assert_int_equal(memory[k], 2);
        assert_int_equal(yk_xfer_run(rig->from, &q, 1, NULL), -YK_EINVAL);
    }
    free(memory);
    finish(rig);
}

/* With any_local nothing of the caller's is registered: exact bytes, and early ends touch nothing. */
static void memory_of_nobody(struct conform_rig *rig) {
    yk_xfer_opts o = {.size = sizeof(o), .any_local = 1};
    void *addr = local;
    begin(rig, &o);
    assert_int_equal(yk_xfer_unregister(rig->from, &addr, 1), 0);
    for (uint64_t i = 0; i < 8; i++) {
        uint64_t len = i % 2 ? 3000000 : 4097;
        yk_xfer_request q = request(rig, i & 2 ? YK_XFER_WRITE : YK_XFER_READ, i, 100, len);
        bytes_of(i & 2 ? local + MARGIN + i : copy, 100, len, i);
        if ((i & 2) == 0)
            rig->put(rig, 100, copy, len);
        assert_int_equal(go(rig, &q, i >= 4), 0);
        if (i & 2)
            rig->get(rig, 100, copy, len);
        assert_true(same(i & 2 ? copy : local + MARGIN + i, 100, len, i));
    }
    yk_xfer_request q = request(rig, YK_XFER_READ, 0, 0, 9 << 20);
    yk_xfer_batch b;
    assert_int_equal(yk_xfer_submit(rig->from, &q, 1, NULL, &b), 0);
    assert_int_equal(yk_xfer_cancel(rig->from, b), 0);
    int rc = yk_xfer_wait(rig->from, b, 20000);
    assert_true(rc == 0 || rc == -YK_ECANCELED);
    memset(local, 0x11, CONFORM_BYTES);
    assert_int_equal(yk_xfer_batch_free(rig->from, b), 0);

    yk_xfer_memory m = {.addr = local + 4096, .length = 4096, .fd = -1};
    assert_int_equal(yk_xfer_register(rig->from, &m, 1), 0);
    q.local = local + 4000; /* half of it is somebody's who may take it back */
    q.length = 4096;
    assert_int_equal(yk_xfer_run(rig->from, &q, 1, NULL), -YK_EINVAL);
    assert_non_null(strstr(yk_xfer_error_text(), "in part"));
    q.local = local + 4096;
    assert_int_equal(yk_xfer_run(rig->from, &q, 1, NULL), 0);
    addr = local + 4096;
    assert_int_equal(yk_xfer_unregister(rig->from, &addr, 1), 0);
    assert_true(all_are(local + 8192, CONFORM_BYTES - 8192, 0x11));
    m = (yk_xfer_memory){.addr = local, .length = CONFORM_BYTES + 2 * MARGIN, .fd = -1};
    assert_int_equal(yk_xfer_register(rig->from, &m, 1), 0);
    finish(rig);
}

void conform_plain(struct conform_rig *rig) {
    exact_bytes(rig);
    memory_of_nobody(rig);
    all_completions(rig);
    guards(rig);
    notes(rig);
    a_full_queue_holds_nothing_up(rig);
    ends_early(rig);
    unregister_under_way(rig);
}

/* ---- faults ------------------------------------------------------------------------------------------------ */

#define FAULT_REQUESTS 8u
#define FAULT_BYTES    (4u << 20) /* that they are of. Each turn makes its engines anew, and has devices register them all */
#define GOOD_MS        3000u /* for each */
#define POOR_MS        150u  /* for those that the fault keeps from ending well, or that wait for a stall; six times as
                                much where a lane fails before it has ended more than a few slices */
#define LONG_MS        20000u /* at most, where the machine is busy */

/* One run: exact bytes or an error for each; how many slices it took. *failed: how many requests did, more. */
static uint64_t one_run(struct conform_rig *rig, uint32_t op, uint64_t seed, int sums, uint32_t timeout_ms,
                        uint32_t *failed) {
    static const uint64_t lengths[FAULT_REQUESTS] = {1, 4096, 70001, 65536, 2100000, 333, 1048577, 12};
    yk_xfer_request q[FAULT_REQUESTS];
    yk_xfer_guard g[FAULT_REQUESTS];
    yk_xfer_submit_opts o = {.size = sizeof(o), .xclass = seed % 4, .timeout_ms = timeout_ms};
    yk_xfer_batch b;
    uint64_t at = seed % 5, slices = 0, start = yk_now_ns();
    bytes_of(op == YK_XFER_WRITE ? local + MARGIN : copy, 0, FAULT_BYTES, seed);
    if (op == YK_XFER_READ)
        rig->put(rig, 0, copy, FAULT_BYTES);
    for (uint32_t i = 0; i < FAULT_REQUESTS; i++) {
        q[i] = request(rig, op, at, at, lengths[i]);
        if (sums) {
            g[i] = (yk_xfer_guard){.descriptor = 7, .generation = 3, .epoch = 1, .has_checksum = 1};
            g[i].checksum = yk_hash64(copy + at, lengths[i]);
            q[i].guard = &g[i];
        }
        at += lengths[i] + 3;
    }
    assert_int_equal(yk_xfer_submit(rig->from, q, FAULT_REQUESTS, &o, &b), 0);
    (void)yk_xfer_wait(rig->from, b, UINT32_MAX);
    assert_true(yk_now_ns() - start < (timeout_ms + 20000) * YK_NS_PER_MS);
    rig->get(rig, 0, copy, FAULT_BYTES);
    for (uint32_t i = 0; i < FAULT_REQUESTS; i++) {
        yk_xfer_status s;
        assert_int_equal(yk_xfer_request_status(rig->from, b, i, &s), 0);
        assert_int_not_equal(s.status, -YK_EAGAIN);
        slices += s.attempts;
        *failed += s.status != 0;
        if (s.status == 0)
            assert_true(s.bytes == lengths[i] &&
                        same(op == YK_XFER_WRITE ? copy + q[i].offset : (char *)q[i].local, q[i].offset,
                             lengths[i], seed));
        else
            assert_true(s.status == -YK_ETIMEDOUT || s.status == -YK_EIO || s.status == -YK_ECORRUPT);
    }
    assert_int_equal(yk_xfer_batch_free(rig->from, b), 0);
    return slices;
}

/* One run of reads and one of writes, with engines of their own; how many slices it took. */
static uint64_t faulty_run(struct conform_rig *rig, const char *fault, uint64_t n, int sums, uint32_t timeout_ms,
                           uint32_t *failed) {
    yk_xfer_opts o = {.size = sizeof(o), .fault = fault, .stall_ms = 20};
    begin_with(rig, &o, FAULT_BYTES);
    uint64_t slices = one_run(rig, YK_XFER_READ, n, sums, timeout_ms, failed);
    if (!sums)
        slices += one_run(rig, YK_XFER_WRITE, n + 1, 0, timeout_ms, failed);
    finish(rig);
    return slices;
}

/* It goes on until the fault hits nothing and all requests have ended well: where they end before anything was posted,
 * there were no slices that it could hit. Where it hit nothing, and they did not end, the machine is busy: they get longer. */
void conform_faults(struct conform_rig *rig, const char *kind, const char *extra) {
    int sums = strcmp(kind, "corrupt") == 0;
    if (sums && (rig->can & CONFORM_GUARD) == 0)
        return;
    const char *is_slow = getenv("YOLK_SLOW"); /* sanitizers, guests: a fifth of the series */
    uint32_t poor_ms = rig->poor_ms != 0 ? rig->poor_ms : POOR_MS, failed = 1, runs = 0, longer = 1;
    uint64_t slices = 0, last = 0, slow = is_slow != NULL && is_slow[0] == '1', start = yk_now_ns();
    for (uint64_t n = 1; failed > 0 || slices >= last; n += slow && n >= 3 ? 5 : 1) {
        char fault[64];
        snprintf(fault, sizeof(fault), "%s:every=%llu%s", kind, (unsigned long long)n, extra);
        if (n > 300)
            fail_msg("%s: no clean run", fault);
        uint32_t timeout_ms = n < 3 || strcmp(kind, "drop") == 0 ? poor_ms : n < 10 ? 6 * poor_ms : GOOD_MS;
        timeout_ms = longer * (timeout_ms < GOOD_MS ? timeout_ms : GOOD_MS);
        failed = 0;
        slices = faulty_run(rig, fault, n, sums, timeout_ms < LONG_MS ? timeout_ms : LONG_MS, &failed);
        longer *= failed > 0 && slices < n && timeout_ms < LONG_MS ? 2 : 1;
        last = n;
        runs++;
    }
    print_message("%s: %s%s: %u runs, the last of %u slices of which none in %u is hit; %u ms\n", rig->name, kind, extra, runs,
                  (unsigned)slices, (unsigned)last, (unsigned)((yk_now_ns() - start) / YK_NS_PER_MS));
}

/* How many requests of so many runs fail at that rate. */
static uint32_t at_rate(struct conform_rig *rig, const char *kind, const char *extra, const char *rate,
                        uint32_t runs, uint32_t timeout_ms) {
    char fault[64];
    uint32_t failed = 0;
    snprintf(fault, sizeof(fault), "%s:rate=%s%s", kind, rate, extra);
    yk_xfer_opts o = {.size = sizeof(o), .fault = fault, .stall_ms = 20};
    begin_with(rig, &o, FAULT_BYTES);
    for (uint32_t i = 0; i < runs; i++)
        (void)one_run(rig, i % 2 ? YK_XFER_WRITE : YK_XFER_READ, i, 0, timeout_ms, &failed);
    finish(rig);
    return failed;
}

void conform_rates(struct conform_rig *rig, const char *kind, const char *extra) {
    int alone = strcmp(extra, ",scope=request") == 0;
    int late = strcmp(kind, "delay") == 0;
    /* The numbers are the same in each run, and none of the first is so low. */
    assert_int_equal(at_rate(rig, kind, extra, "0.000000001", 4, 20000), 0);
    uint32_t some = at_rate(rig, kind, extra, "0.2", 4, 20000);
    assert_true(some < 4 * FAULT_REQUESTS && (!alone || some > 0));
    assert_int_equal(at_rate(rig, kind, extra, "1", 2, late ? 20000 : 150), late ? 0 : 2 * FAULT_REQUESTS);
}
