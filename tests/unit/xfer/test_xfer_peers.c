/* SPDX-License-Identifier: Apache-2.0
 *
 * Peers that nobody uses any more are forgotten, with what shards have to them; those that somebody does,
 * or whose memory a dead lane may yet write to, are not.
 */
#include "fake.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MB (1u << 20)

static struct fake_rig rig;

static uint32_t peers(const struct yk_xfer *e) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < e->peer_count; i++)
        n += e->peers[i] != NULL;
    return n;
}

static uint32_t routes(const struct yk_xfer *e) {
    uint32_t n = 0;
    for (uint32_t k = 0; k < e->shard_count; k++)
        for (uint32_t i = 0; i < e->shards[k]->route_cap; i++)
            n += e->shards[k]->routes[i] != NULL;
    return n;
}

static void begin(const yk_xfer_opts *o) {
    fake_begin(&rig, 1, 400e6, 4 * MB, o);
    rig.engine->peer_idle_ns = 0;
}

/* Where a lane was slow its range may be barred for a moment yet. */
static void goes(void) {
    uint64_t until = yk_now_ns() + 20 * YK_NS_PER_S;
    for (yk_peers_sweep(rig.engine); peers(rig.engine) > 0 && yk_now_ns() < until; yk_peers_sweep(rig.engine))
        usleep(1000);
    assert_true(peers(rig.engine) == 0 && routes(rig.engine) == 0);
}

static void one_that_nobody_uses_goes(void **state) {
    (void)state;
    begin(NULL);
    yk_xfer_request q = fake_request(&rig, YK_XFER_WRITE, 0, 1 * MB);
    assert_int_equal(yk_xfer_run(rig.engine, &q, 1, NULL), 0);
    yk_peers_sweep(rig.engine); /* its segment is open */
    assert_true(peers(rig.engine) == 1 && routes(rig.engine) == 1 && fake.rail[0].downs == 0);
    assert_int_equal(yk_xfer_run(rig.engine, &q, 1, NULL), 0);
    assert_int_equal(yk_xfer_close(rig.engine, rig.segment), 0);
    rig.engine->peer_idle_ns = YK_PEER_IDLE_NS;
    yk_peers_sweep(rig.engine); /* it was a moment ago */
    assert_true(peers(rig.engine) == 1 && fake.rail[0].downs == 0);
    rig.engine->peer_idle_ns = 0;
    goes();
    assert_int_equal(fake.rail[0].downs, fake.rail[0].connects);
    fake_end(&rig);
}

/* A batch keeps it, also when it has ended and was not freed, or was refused. */
static void one_with_requests_stays(void **state) {
    (void)state;
    yk_xfer_batch b;
    begin(NULL);
    yk_xfer_request q[2] = {fake_request(&rig, YK_XFER_READ, 0, 4 * MB), fake_request(&rig, YK_XFER_READ, 0, 0)};
    yk_xfer_submit_opts so = {.size = sizeof(so), .xclass = YK_XFER_DEMAND, .notify = "n", .notify_bytes = 1};
    assert_int_equal(yk_xfer_submit(rig.engine, q, 2, NULL, &b), -YK_EINVAL);
    assert_int_equal(yk_xfer_submit(rig.engine, q, 1, &so, &b), 0);
    assert_int_equal(yk_xfer_close(rig.engine, rig.segment), 0);
    yk_peers_sweep(rig.engine);
    assert_int_equal(peers(rig.engine), 1);
    assert_int_equal(yk_xfer_wait(rig.engine, b, UINT32_MAX), 0);
    assert_memory_equal(rig.local, fake.memory, 4 * MB);
    yk_peers_sweep(rig.engine);
    assert_int_equal(peers(rig.engine), 1);
    assert_int_equal(yk_xfer_batch_free(rig.engine, b), 0);
    goes();
    fake_end(&rig);
}

/* R16: opened again, it would be written to where a late byte may still come. */
static void one_that_a_dead_lane_may_write_to_stays(void **state) {
    (void)state;
    yk_xfer_opts o = {.size = sizeof(o), .stall_ms = 20};
    begin(&o);
    yk_xfer_request q = fake_request(&rig, YK_XFER_WRITE, 0, 65536);
    assert_int_equal(yk_xfer_run(rig.engine, &q, 1, NULL), 0);
    yk_xfer_submit_opts so = {.size = sizeof(so), .timeout_ms = 60, .xclass = YK_XFER_DEMAND};
    fake.keeps_on = 1;
    __atomic_store_n(&fake.rail[0].silent, 1, __ATOMIC_RELEASE);
    assert_int_equal(yk_xfer_run(rig.engine, &q, 1, &so), -YK_ETIMEDOUT);
    __atomic_store_n(&fake.rail[0].silent, 0, __ATOMIC_RELEASE);
    assert_true(rig.engine->peers[0]->barred > 0);
    assert_int_equal(yk_xfer_close(rig.engine, rig.segment), 0);
    yk_peers_sweep(rig.engine);
    assert_int_equal(peers(rig.engine), 1);
    __atomic_store_n(&rig.engine->peers[0]->gone, 1, __ATOMIC_RELAXED); /* it restarted: no such memory */
    yk_peers_sweep(rig.engine);
    assert_true(peers(rig.engine) == 0 && routes(rig.engine) == 0);
    fake_end(&rig);
}

static uint32_t descriptors(void) {
    uint32_t n = 0;
    DIR *d = opendir("/proc/self/fd");
    assert_non_null(d);
    while (readdir(d) != NULL)
        n++;
    closedir(d);
    return n;
}

/* Over tcp, with shards: an engine that meets one peer after the other has the last ones only. */
static void many_one_after_the_other(void **state) {
    (void)state;
    static char local[65536];
    yk_xfer_opts o = {.size = sizeof(o), .transports = YK_XFER_TCP, .shards = 2};
    yk_xfer_memory m = {.addr = local, .length = sizeof(local), .fd = -1};
    yk_xfer *from, *to;
    uint32_t before = 0;
    assert_int_equal(yk_xfer_create(&o, &from), 0);
    from->peer_idle_ns = 0;
    assert_int_equal(yk_xfer_register(from, &m, 1), 0);
    o.listen = "127.0.0.1:0";
    for (int i = 0; i < 20; i++) {
        yk_xfer_segment s;
        void *memory;
        char where[256];
        assert_int_equal(yk_xfer_create(&o, &to), 0);
        assert_int_equal(yk_xfer_alloc(to, sizeof(local), YK_XFER_REMOTE_READ, &memory), 0);
        assert_int_equal(yk_xfer_publish(to, "s", memory, sizeof(local), NULL), 0);
        snprintf(where, sizeof(where), "%s/s", yk_xfer_address(to));
        assert_int_equal(yk_xfer_open(from, where, 0, &s), 0);
        assert_true(peers(from) <= 1 && from->peer_count <= 2);
        memset(memory, i, sizeof(local));
        yk_xfer_request q = {.op = YK_XFER_READ, .local = local, .segment = s, .length = sizeof(local)};
        assert_int_equal(yk_xfer_run(from, &q, 1, NULL), 0);
        assert_int_equal(local[i * 7], i);
        assert_int_equal(yk_xfer_close(from, s), 0);
        yk_xfer_destroy(to);
        if (i == 1)
            before = descriptors();
    }
    assert_true(descriptors() <= before);
    yk_xfer_destroy(from);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_that_nobody_uses_goes),
        cmocka_unit_test(one_with_requests_stays),
        cmocka_unit_test(one_that_a_dead_lane_may_write_to_stays),
        cmocka_unit_test(many_one_after_the_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
