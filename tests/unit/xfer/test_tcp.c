/* SPDX-License-Identifier: Apache-2.0
 *
 * The tcp transport against a server in the same process: what is read and written is exact in all
 * sizes and mixes, each slice ends once, what must be refused is, cancelling ends a slice without its
 * memory being touched later.
 */
#include "tcp_rig.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

static void sizes(void **state) {
    static const uint64_t lens[] = {1, 15, 16, 17, 100, 4095, 4096, 8191, 8192, 8193, 65536, 1000003, RIG_BYTES};
    struct rig r = {0};
    struct rig_lane l;
    (void)state;
    rig_open(&r);
    for (int bulk = 0; bulk < 2; bulk++) {
        rig_connect(&r, &l, bulk);
        for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
            uint64_t len = lens[i], offset = (RIG_BYTES - len) / 2;
            rig_pattern(r.local, len, len);
            assert_int_equal(rig_run(&r, &l, YK_SLICE_WRITE, r.local, len, offset), 0);
            rig_sync(&r);
            assert_true(rig_is_pattern(r.target + offset, len, len));
            memset(r.local, 0, RIG_BYTES);
            assert_int_equal(rig_run(&r, &l, YK_SLICE_READ, r.local + offset, len, offset), 0);
            assert_true(rig_is_pattern(r.local + offset, len, len));
            assert_true(offset == 0 || (r.local[offset - 1] == 0 && r.local[offset + len] == 0));
        }
        assert_int_equal(rig_run(&r, &l, YK_SLICE_PING, NULL, 0, 0), 0);
        assert_true(yk_xport_tcp.moved(l.lane) > 2 * RIG_BYTES);
        rig_hang_up(&l);
    }
    rig_close(&r);
}

/* n slices of len, as fast as there is room. */
static void stream_of(struct rig *r, struct rig_lane *l, uint8_t op, uint64_t len, uint32_t n) {
    struct rig_slice *s = calloc(n, sizeof(*s));
    uint64_t places = RIG_BYTES / len;
    assert_non_null(s);
    for (uint32_t i = 0; i < n;) {
        uint32_t room = yk_xport_tcp.room(l->lane);
        for (; room > 0 && i < n; room--, i++) {
            uint64_t at = i % places * len;
            rig_fill(&s[i], op, r->local + at, len, r->region, at);
            rig_post(r, l, &s[i]);
        }
        yk_xport_tcp.flush(l->lane);
        yk_loop_turn(r->loop, 10 * YK_NS_PER_MS);
        rig_is_up(r, l);
    }
    rig_finish(r);
    for (uint32_t i = 0; i < n; i++)
        assert_true(s[i].ended == 1 && s[i].slice.status == 0);
    free(s);
}

static void batches(void **state) {
    static const uint64_t lens[] = {700, 4096, 16384, 65536, 1u << 20, 4u << 20};
    struct rig r = {0};
    struct rig_lane l;
    (void)state;
    rig_open(&r);
    rig_connect(&r, &l, 1);
    for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
        uint64_t used = RIG_BYTES / lens[i] * lens[i];
        uint32_t n = (uint32_t)(used / lens[i]);
        rig_sync(&r);
        rig_pattern(r.local, used, i);
        stream_of(&r, &l, YK_SLICE_WRITE, lens[i], n);
        rig_sync(&r);
        assert_true(rig_is_pattern(r.target, used, i));
        memset(r.local, 0, RIG_BYTES);
        stream_of(&r, &l, YK_SLICE_READ, lens[i], n);
        assert_true(rig_is_pattern(r.local, used, i));
    }
    rig_hang_up(&l);
    rig_close(&r);
}

#define MIX 3000

static int count_note(void *user, const char *peer, const void *data, uint32_t len) {
    static int tries;
    struct rig *r = user;
    assert_true(strncmp(peer, "127.0.0.1:", 10) == 0);
    assert_true(len == 0 || rig_is_pattern(data, len, len));
    if (++tries % 3 == 0)
        return -YK_EAGAIN; /* the initiator is told so */
    __atomic_fetch_add((int *)(void *)r->target, 1, __ATOMIC_RELAXED);
    return 0;
}

/* All kinds in one stream, posted in odd lumps, some cancelled. The target's first bytes count notes. */
static void mix(void **state) {
    struct rig r = {.note = count_note};
    struct rig_lane l;
    struct rig_slice *s = calloc(MIX, sizeof(*s));
    uint64_t x = 12345;
    int notes = 0;
    (void)state;
    rig_open(&r);
    rig_pattern(r.target + 4096, RIG_BYTES - 4096, 4096);
    rig_connect(&r, &l, 1);
    for (uint32_t i = 0; i < MIX;) {
        uint32_t lump = 1 + (uint32_t)(x >> 20) % 90, first = i;
        for (; lump > 0 && i < MIX && yk_xport_tcp.room(l.lane) > 0; lump--, i++) {
            x = x * 6364136223846793005ull + 1442695040888963407ull;
            uint64_t len = 1 + (x >> 40) % ((x >> 33) % 8 == 0 ? 100000 : 3000);
            uint64_t at = 4096 + (x >> 12) % (RIG_BYTES - 4096 - len);
            unsigned kind = (x >> 60) % 8;
            if (kind < 4)
                rig_fill(&s[i], YK_SLICE_READ, r.local + at, len, r.region, at);
            else if (kind < 6) { /* the same bytes that are there */
                rig_fill(&s[i], YK_SLICE_WRITE, r.local + 4096, len, r.region, 4096);
                s[i].slice.local = malloc(len);
                rig_pattern(s[i].slice.local, len, 4096);
            } else if (kind == 6) {
                len = len > 4096 ? 0 : len;
                rig_fill(&s[i], YK_SLICE_NOTE, NULL, len, 0, 0);
                s[i].slice.local = malloc(len + 1);
                rig_pattern(s[i].slice.local, len, len);
                notes++;
            } else
                rig_fill(&s[i], YK_SLICE_PING, NULL, 0, 0, 0);
            rig_post(&r, &l, &s[i]);
        }
        if (x >> 62 == 0)
            for (uint32_t k = first; k < i; k += 5)
                if (s[k].slice.op != YK_SLICE_NOTE)
                    yk_xport_tcp.cancel(l.lane, &s[k].slice);
        yk_xport_tcp.flush(l.lane);
        if (x >> 61 == 3)
            for (uint32_t k = first; k < i; k += 7)
                if (!s[k].ended)
                    yk_xport_tcp.cancel(l.lane, &s[k].slice);
        yk_loop_turn(r.loop, 5 * YK_NS_PER_MS);
        rig_is_up(&r, &l);
    }
    rig_finish(&r);
    int cancelled = 0, again = 0;
    for (uint32_t i = 0; i < MIX; i++) {
        struct yk_slice *q = &s[i].slice;
        assert_int_equal(s[i].ended, 1);
        assert_true(q->status == 0 || q->status == (q->op == YK_SLICE_NOTE ? -YK_EAGAIN : -YK_ECANCELED));
        cancelled += q->status == -YK_ECANCELED;
        again += q->status == -YK_EAGAIN;
        if (q->op == YK_SLICE_READ && q->status == 0)
            assert_true(rig_is_pattern(q->local, q->len, q->offset));
        if (q->op == YK_SLICE_WRITE || q->op == YK_SLICE_NOTE)
            free(q->local);
    }
    assert_true(cancelled > 0 && again > 0);
    assert_int_equal(__atomic_load_n((int *)(void *)r.target, __ATOMIC_RELAXED), notes - again);
    free(s);
    rig_hang_up(&l);
    rig_close(&r);
}

static void refusals(void **state) {
    struct rig r = {0};
    struct rig_lane l;
    struct yk_err err;
    static char secret[4096] __attribute__((aligned(4096)));
    (void)state;
    rig_open(&r);
    yk_xfer_memory m = {.addr = secret, .length = sizeof(secret), .fd = -1, .access = YK_XFER_REMOTE_READ};
    assert_int_equal(yk_registry_add(r.registry, &m, 1, &err), 0);
    struct yk_region *g = yk_registry_find(r.registry, secret, 1);
    struct rig_slice s[8];
    rig_connect(&r, &l, 0);
    memset(r.local, 7, 4096);
    rig_fill(&s[0], YK_SLICE_WRITE, r.local, 4096, g->id, 0);               /* not writable */
    rig_fill(&s[1], YK_SLICE_READ, r.local, 4096, g->id, 0);                /* fine */
    rig_fill(&s[2], YK_SLICE_READ, r.local + 8192, 4096, g->id, 1);         /* past the end */
    rig_fill(&s[3], YK_SLICE_READ, r.local + 8192, 4096, g->id, UINT64_MAX - 4); /* wraps around */
    rig_fill(&s[4], YK_SLICE_WRITE, r.local, 200000, 99, 0);                /* no such region */
    rig_fill(&s[5], YK_SLICE_READ, r.local + 8192, 300000, 99, 0);
    rig_fill(&s[6], YK_SLICE_FENCE, NULL, 0, 0, l.lane->id);                /* itself */
    rig_fill(&s[7], YK_SLICE_PING, NULL, 0, 0, 0);
    yk_registry_put(r.registry, g);
    memset(r.local + 8192, 7, 300000);
    for (int i = 0; i < 8; i++)
        rig_post(&r, &l, &s[i]);
    yk_xport_tcp.flush(l.lane);
    rig_finish(&r);
    static const int want[8] = {-YK_EPERM, 0, -YK_EINVAL, -YK_EINVAL, -YK_EGONE, -YK_EGONE, -YK_EINVAL, 0};
    for (int i = 0; i < 8; i++) {
        assert_int_equal(s[i].slice.status, want[i]);
        assert_int_equal(s[i].slice.scope, want[i] < 0 ? YK_SCOPE_REQUEST : YK_SCOPE_NONE);
    }
    assert_int_equal(r.local[100], 0);
    assert_int_equal(l.state, RIG_UP);
    rig_hang_up(&l);
    rig_close(&r);
}

static int pins, unpins;

static int pin(void *user, uint32_t op, uint64_t d, uint64_t g, uint64_t e, uint64_t offset, uint64_t len,
               uint64_t *ret) {
    assert_true(op == YK_XFER_READ && d == 1 && e == 3 && offset == 96 && len == 50000);
    if (g != 2)
        return YK_MISS;
    *ret = ++pins + 1000;
    return 0;
}

static void unpin(void *user, uint64_t p) {
    assert_true(p > 1000);
    unpins++;
}

static void guarded(void **state) {
    yk_xfer_guard_ops ops = {sizeof(ops), NULL, pin, unpin};
    struct yk_xfer_guard good = {1, 2, 3, 0, 0}, stale = {1, 1, 3, 0, 0};
    struct rig r = {0};
    struct rig_lane l;
    struct rig_slice s[4];
    struct yk_err err;
    (void)state;
    pins = unpins = 0;
    rig_open(&r);
    assert_int_equal(yk_registry_publish(r.registry, "g", r.target + 4000, 100000, &ops, &err), 0);
    rig_pattern(r.target, 100000, 0);
    rig_connect(&r, &l, 0);
    for (int i = 0; i < 4; i++) {
        rig_fill(&s[i], YK_SLICE_READ, r.local + i * 50000, 50000, r.region, i == 3 ? 10 : 4096);
        s[i].slice.guard = i == 1 ? &stale : &good;
        rig_post(&r, &l, &s[i]);
    }
    yk_xport_tcp.flush(l.lane);
    rig_finish(&r);
    rig_sync(&r);
    assert_int_equal(s[0].slice.status, 0);
    assert_true(rig_is_pattern(r.local, 50000, 4096));
    assert_int_equal(s[1].slice.status, YK_MISS);
    assert_int_equal(s[2].slice.status, 0);
    assert_int_equal(s[3].slice.status, -YK_EINVAL); /* nothing there answers guarded reads */
    assert_true(pins == 2 && unpins == 2);
    rig_hang_up(&l);
    rig_close(&r);
}

/* A fence is answered when the other lane is closed at the target, and only then. */
static void fences(void **state) {
    struct rig r = {0};
    struct rig_lane a, b;
    struct yk_server_counts c;
    (void)state;
    rig_open(&r);
    rig_connect(&r, &a, 1);
    rig_connect(&r, &b, 0);
    assert_int_equal(rig_run(&r, &b, YK_SLICE_FENCE, NULL, 0, 12345), 0); /* unknown: is closed */
    assert_int_equal(a.state, RIG_UP);
    assert_int_equal(rig_run(&r, &b, YK_SLICE_FENCE, NULL, 0, a.lane->id), 0);
    yk_server_stat(r.server, &c);
    assert_int_equal(c.lanes, 1);
    uint64_t until = yk_now_ns() + RIG_WAIT_NS;
    while (a.state == RIG_UP && yk_now_ns() < until)
        yk_loop_turn(r.loop, YK_NS_PER_S);
    assert_int_equal(a.state, RIG_DOWN);
    rig_hang_up(&a);
    rig_hang_up(&b);
    rig_close(&r);
}

/* As to another host: large payload is handed to the kernel without a copy. Loopback copies it all the
 * same and says so, on the error queue, which must not be taken for a failure. */
static void without_copy(void **state) {
    struct rig r = {.caps = YK_RAIL_NETWORK};
    struct rig_lane l;
    struct rig_slice s[3];
    (void)state;
    rig_open(&r);
    for (int round = 0; round < 20; round++) {
        rig_connect(&r, &l, round % 2);
        rig_pattern(r.local, RIG_BYTES, (uint64_t)round);
        stream_of(&r, &l, YK_SLICE_WRITE, 128 << 10, RIG_BYTES / (128 << 10));
        rig_sync(&r);
        assert_true(rig_is_pattern(r.target, RIG_BYTES, (uint64_t)round));
        stream_of(&r, &l, YK_SLICE_READ, 256 << 10, 20);
        rig_hang_up(&l);
        rig_connect(&r, &l, round % 2); /* hung up in the middle */
        for (int i = 0; i < 3; i++) {
            rig_fill(&s[i], YK_SLICE_WRITE, r.local, RIG_BYTES, r.region, 0);
            rig_post(&r, &l, &s[i]);
        }
        yk_xport_tcp.flush(l.lane);
        for (int i = 0; i < round; i++)
            yk_loop_turn(r.loop, 0);
        rig_hang_up(&l);
        assert_int_equal(r.out, 0);
        for (int i = 0; i < 3; i++)
            assert_true(s[i].slice.status == 0 || s[i].slice.scope == YK_SCOPE_LANE);
        assert_true(s[0].slice.status == 0 || s[0].slice.touched);
        rig_no_lanes(&r); /* no fence here: the next round's bytes come after this one's */
    }
    rig_close(&r);
}

static int add_note(void *user, const char *peer, const void *data, uint32_t len) {
    struct rig *r = user;
    assert_true(peer[0] != 0 && len == 3 && memcmp(data, "abc", 3) == 0);
    __atomic_fetch_add((int *)(void *)r->target, 1, __ATOMIC_RELAXED);
    return 0;
}

/* One that is repeated, over whichever lane, arrives once; without a number each time. */
static void notes_once(void **state) {
    struct rig r = {.note = add_note};
    struct rig_lane a, b;
    (void)state;
    rig_open(&r);
    rig_connect(&r, &a, 1);
    rig_connect(&r, &b, 0);
    memcpy(r.local, "abc", 3);
    for (uint64_t number = 0; number < 50; number++)
        for (int k = 0; k < 3; k++)
            assert_int_equal(rig_run(&r, k == 1 ? &b : &a, YK_SLICE_NOTE, r.local, 3, number), 0);
    assert_int_equal(__atomic_load_n((int *)(void *)r.target, __ATOMIC_RELAXED), 49 + 3);
    rig_hang_up(&a);
    rig_hang_up(&b);
    rig_close(&r);
}

/* A caller that polls its lane needs no turn of the loop. */
static void looking(void **state) {
    struct rig r = {.opts = {.poll_us = 50}};
    struct rig_lane l;
    (void)state;
    rig_open(&r);
    rig_connect(&r, &l, 0);
    for (int i = 0; i < 100; i++) {
        struct rig_slice s;
        rig_fill(&s, i % 2 ? YK_SLICE_READ : YK_SLICE_WRITE, r.local, 4096, r.region, 0);
        rig_post(&r, &l, &s);
        yk_xport_tcp.flush(l.lane);
        uint64_t until = yk_now_ns() + RIG_WAIT_NS;
        while (!s.ended && yk_now_ns() < until)
            yk_xport_tcp.look(l.lane);
        assert_int_equal(s.ended, 1);
        assert_int_equal(s.slice.status, 0);
    }
    rig_hang_up(&l);
    rig_close(&r);
}

/* A request or an answer that is small leaves when it is ready, acknowledged or not what went before. */
static void nothing_waits_for_acknowledgements(void **state) {
    struct rig r = {0};
    struct rig_lane l;
    int ends = 0;
    (void)state;
    rig_open(&r);
    rig_connect(&r, &l, 1);
    for (int fd = 0; fd < 1024; fd++) {
        struct sockaddr_storage peer;
        socklen_t len = sizeof(peer), size = sizeof(int);
        int on = 0;
        if (getpeername(fd, (struct sockaddr *)&peer, &len) < 0 || peer.ss_family != AF_INET)
            continue;
        assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, &size), 0);
        assert_true(on);
        ends++;
    }
    assert_int_equal(ends, 2);
    rig_hang_up(&l);
    rig_close(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes),   cmocka_unit_test(batches), cmocka_unit_test(mix),
        cmocka_unit_test(refusals), cmocka_unit_test(guarded), cmocka_unit_test(fences),
        cmocka_unit_test(looking),  cmocka_unit_test(notes_once),
        cmocka_unit_test(without_copy), cmocka_unit_test(nothing_waits_for_acknowledgements),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
