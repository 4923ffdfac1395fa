/* SPDX-License-Identifier: Apache-2.0
 *
 * What a node and its handles make of its device, as far as it takes a whole node to see it: memory that
 * is registered with it, a node that dozes over it, a device that hangs.
 */
#include "fixture.h"

#include "base/clock.h"
#include "shm/layout.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define LIMIT (60 * YK_NS_PER_S) /* of every wait */

static struct fixture fix;

static struct yk_ssd_dev_stats device(void) {
    struct yk_ssd_dev_stats st;
    yk_ssd_dev_stats_get(yk_node_ssd(fix.node), 0, &st);
    return st;
}

#define UNTIL(condition)                                                                           \
    for (uint64_t end_ = yk_now_ns() + LIMIT; !(condition); poll(NULL, 0, 1))                      \
    assert_true(yk_now_ns() < end_)

static void begin(int named, uint64_t dram, void (*tune)(struct yk_node_opts *o)) {
    fixture_init(&fix, named);
    fix.dram = dram;
    fix.ssd = 256u * MIB;
    fix.tune = tune;
    fixture_start(&fix);
}

/* ---- memory ----------------------------------------------------------------------------------------- */

static void populate(struct yk_node_opts *o) {
    o->populate = 1;
}

/* A fresh segment, then one that is found. Where the kernel forbids it, the device says so. */
static void populated_memory_is_registered(void **state) {
    (void)state;
    begin(1, 80u * MIB, populate);
    for (int found = 0; found < 2; found++) {
        UNTIL(device().fixed_bytes == fix.dram || device().io_note[0] != 0);
        fixture_stop(&fix);
        fixture_start(&fix);
    }
    fixture_fini(&fix);
}

static void memory_that_is_not_populated_is_left_alone(void **state) {
    (void)state;
    begin(0, 80u * MIB, NULL);
    yk_client *c = open_client(&fix);
    put_ok(c, "k", MIB, 1);
    assert_status(get_is(c, "k", MIB, 1), 0);
    yk_close(c);
    assert_int_equal(device().fixed_bytes, 0);
    assert_null(strstr(device().io_note, "registered"));
    fixture_fini(&fix);
}

/* ---- a node that dozes ------------------------------------------------------------------------------- */

#define BLOCKS 48u

static char *name_of(unsigned i, char *to) {
    sprintf(to, "block-%u", i);
    return to;
}

static void put_all(yk_client *c) {
    char name[32];
    for (unsigned i = 0; i < BLOCKS; i++)
        put_ok(c, name_of(i, name), MIB, i);
}

static int at_rest(void) {
    struct yk_node_stats n;
    struct yk_ssd_counters s;
    yk_node_stats(fix.node, &n);
    yk_ssd_counters_get(yk_node_ssd(fix.node), &s);
    return n.store.leaving_blocks + n.store.raising + s.queued_bytes + s.reads_now == 0;
}

/* The first one that is on SSD alone. */
static unsigned below(yk_client *c) {
    char name[32];
    yk_block_info info;
    unsigned i = 0;
    while (i < BLOCKS && (yk_stat(c, yk_key_str(name_of(i, name)), &info) != 0 ||
                          info.tiers != 1u << YK_TIER_SSD))
        i++;
    assert_true(i < BLOCKS);
    return i;
}

static void hold_all(struct yk_node_opts *o) {
    o->store.held_percent = 100;
}

/* It is a miss when its time is over, and its answer needs no other message. */
static void a_get_that_finds_no_room_is_answered(void **state) {
    (void)state;
    static yk_reservation held[64];
    unsigned char *buf = malloc(MIB);
    unsigned n = 0;
    char name[32];
    begin(0, 16u * MIB, hold_all);
    yk_client *c = open_client(&fix), *far = open_with(&fix, YK_OPEN_NO_MAP, 20000);
    put_all(c);
    unsigned i = below(c);
    while (n < 64 && yk_reserve(c, MIB / 2, 1000, &held[n]) == 0)
        n++;
    assert_true(n >= 16 && n < 64);
    assert_status(yk_get(far, yk_key_str(name_of(i, name)), buf, MIB, NULL), YK_MISS);
    while (n > 0)
        assert_status(yk_abort(c, &held[--n]), 0);
    assert_status(get_is(far, name, MIB, i), 0);
    yk_close(far);
    yk_close(c);
    fixture_fini(&fix);
    free(buf);
}

/* A device that keeps what it is given for itself, from `on` on, and is found out after some time. */
static struct {
    struct yk_file_ops ops;
    const struct yk_file_ops *inner;
    int on;      /* atomic */
    int patient; /* atomic: it is not found out yet */
    uint64_t since_ns;
} hang;

#define FOUND_OUT_NS (4 * YK_NS_PER_S) /* a node dozes by then */

static void hang_submit(struct yk_file *io, struct yk_file_req *reqs) {
    if (!__atomic_load_n(&hang.on, __ATOMIC_RELAXED))
        hang.inner->submit(io, reqs);
    else if (hang.since_ns == 0)
        hang.since_ns = yk_now_ns();
}

static uint64_t hang_stalled(const struct yk_file *io) {
    if (__atomic_load_n(&hang.patient, __ATOMIC_RELAXED))
        return 0;
    return hang.since_ns != 0 && yk_now_ns() - hang.since_ns > FOUND_OUT_NS
               ? YK_FILE_STALL_MS
               : hang.inner->stalled(io);
}

static int hang_wrap(void *arg, struct yk_file *io, struct yk_file **ret_io) {
    (void)arg;
    hang.inner = io->ops;
    hang.ops = *io->ops;
    hang.ops.submit = hang_submit;
    hang.ops.stalled = hang_stalled;
    io->ops = &hang.ops;
    *ret_io = io;
    return 0;
}

static void may_hang(struct yk_node_opts *o) {
    memset(&hang, 0, sizeof(hang));
    o->store.ssd.io_wrap = hang_wrap;
}

static void may_hang_and_puts_wait(struct yk_node_opts *o) {
    may_hang(o);
    hang.patient = 1;
    o->store.ssd.wait_ms = 20;
}

static uint64_t hurried(void) {
    struct yk_node_stats n;
    yk_node_stats(fix.node, &n);
    return n.store.demote_hurried;
}

/* Nothing is written any more, and nobody knows yet: blocks go unwritten, one get is exact or a miss. */
static void a_put_does_not_wait_for_a_device_that_hangs(void **state) {
    (void)state;
    char name[32];
    unsigned hits = 0;
    begin(0, 16u * MIB, may_hang_and_puts_wait);
    yk_client *c = open_client(&fix);
    __atomic_store_n(&hang.on, 1, __ATOMIC_RELAXED);
    put_all(c);
    assert_true(hurried() > 0);
    assert_int_equal(device().state, YK_SSD_DEV_OK);
    for (unsigned i = 0; i < BLOCKS; i++) {
        int rc = get_is(c, name_of(i, name), MIB, i);
        assert_true(rc == 0 || rc == YK_MISS);
        hits += rc == 0;
    }
    assert_true(hits > 0 && hits < BLOCKS);
    assert_status(get_is(c, name_of(BLOCKS - 1, name), MIB, BLOCKS - 1), 0);
    __atomic_store_n(&hang.patient, 0, __ATOMIC_RELAXED);
    UNTIL(device().state != YK_SSD_DEV_OK);
    yk_close(c);
    fixture_fini(&fix);
}

/* A device that remembers the order of the reads that it is given. */
#define CHAIN 40u

static struct {
    struct yk_file_ops ops;
    const struct yk_file_ops *inner;
    uint64_t bytes[2 * CHAIN];
    unsigned n; /* atomic; the node's thread writes, the test reads what is below it */
} seen;

static void seen_submit(struct yk_file *io, struct yk_file_req *reqs) {
    for (const struct yk_file_req *r = reqs; r != NULL; r = r->next) {
        if (r->op != YK_FILE_READ || r->prio != YK_SSD_PRIO_PREFETCH || seen.n == 2 * CHAIN)
            continue;
        seen.bytes[seen.n] = r->bytes;
        __atomic_store_n(&seen.n, seen.n + 1u, __ATOMIC_RELEASE);
    }
    seen.inner->submit(io, reqs);
}

static int seen_wrap(void *arg, struct yk_file *io, struct yk_file **ret_io) {
    (void)arg;
    seen.inner = io->ops;
    seen.ops = *io->ops;
    seen.ops.submit = seen_submit;
    io->ops = &seen.ops;
    *ret_io = io;
    return 0;
}

static void is_seen(struct yk_node_opts *o) {
    memset(&seen, 0, sizeof(seen));
    o->store.ssd.io_wrap = seen_wrap;
}

static size_t chain_len(unsigned i) {
    return (64u << 10) + i * 4096u;
}

static int low(yk_client *c, const char *key) {
    yk_block_info info;
    assert_status(yk_stat(c, yk_key_str(key), &info), 0);
    return info.tiers == 1u << YK_TIER_SSD;
}

/* Its ancestors first, whatever the order in which they were put, and lie on the device. */
static void a_chain_is_prefetched_in_its_order(void **state) {
    (void)state;
    char name[32], parent[32], names[CHAIN][32];
    yk_key keys[CHAIN];
    char *data = calloc(1, MIB);
    begin(0, 16u * MIB, is_seen);
    yk_client *c = open_client(&fix);
    for (unsigned i = CHAIN; i-- > 0;) {
        yk_put_opts o = {.size = sizeof(o)};
        snprintf(names[i], sizeof(names[i]), "chain-%u", i);
        snprintf(parent, sizeof(parent), "chain-%u", i - 1u);
        keys[i] = yk_key_str(names[i]);
        o.parent = i > 0 ? yk_key_str(parent) : (yk_key){NULL, 0};
        assert_status(yk_put(c, keys[i], data, chain_len(i), &o), 0);
    }
    put_all(c);
    for (unsigned i = 0; i < CHAIN; i++)
        UNTIL(low(c, names[i]));
    for (unsigned i = 0; i < 20; i++) /* room for all of it */
        assert_status(yk_remove(c, yk_key_str(name_of(BLOCKS - 1u - i, name))), 0);
    UNTIL(at_rest());
    assert_int_equal(yk_prefetch(c, keys, CHAIN, YK_TIER_ANY, 10000), CHAIN);
    UNTIL(__atomic_load_n(&seen.n, __ATOMIC_ACQUIRE) >= CHAIN);
    for (unsigned i = 0; i < CHAIN; i++)
        assert_int_equal(seen.bytes[i], chain_len(i));
    UNTIL(at_rest());
    yk_close(c);
    fixture_fini(&fix);
    free(data);
}

static void a_remove_ends_with_a_device_that_hangs(void **state) {
    (void)state;
    char name[32];
    begin(0, 16u * MIB, may_hang);
    yk_client *c = open_client(&fix);
    put_all(c);
    unsigned i = below(c);
    UNTIL(at_rest()); /* nothing but the removal keeps the node awake */
    __atomic_store_n(&hang.on, 1, __ATOMIC_RELAXED);
    assert_status(yk_remove(c, yk_key_str(name_of(i, name))), -YK_EIO);
    assert_int_equal(device().state, YK_SSD_DEV_GONE);
    /* Asked again, it is not here; but that it is gone would not be true. */
    assert_status(yk_remove(c, yk_key_str(name_of(i, name))), -YK_EIO);
    yk_close(c);
    fixture_fini(&fix);
}

static int open_at(uint64_t epoch, uint32_t timeout_ms) {
    yk_open_opts o = {.size = sizeof(o), .epoch = epoch, .timeout_ms = timeout_ms};
    yk_client *c = NULL;
    int rc = yk_open(fix.url, &o, &c);
    yk_close(c);
    return rc;
}

/* An epoch is served when it is durable, to who raised it and to who comes after; when it never will be,
 * both are told what to do. */
static void nobody_is_served_an_epoch_that_is_not_durable(void **state) {
    (void)state;
    begin(0, 16u * MIB, may_hang);
    assert_status(open_at(4, 20000), 0);
    __atomic_store_n(&hang.on, 1, __ATOMIC_RELAXED);
    assert_status(open_at(5, 500), -YK_ETIMEDOUT);
    assert_status(open_at(5, 500), -YK_ETIMEDOUT);
    assert_status(open_at(5, 20000), -YK_EIO); /* the device is found out */
    assert_non_null(strstr(yk_error_text(NULL), "cannot be recorded"));
    assert_status(open_at(5, 20000), -YK_EIO);
    assert_status(open_at(6, 20000), -YK_EIO);
    fixture_fini(&fix);
}

/* What the node tells the client of slot 1, through its page. */
static const uint32_t *doze_flag(void) {
    char path[128];
    snprintf(path, sizeof(path), "/dev/shm/yolk-%s.clients", fix.name);
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    const struct yk_client_page *page = mmap(NULL, 2 * sizeof(*page), PROT_READ, MAP_SHARED, fd, 0);
    assert_true(page != MAP_FAILED);
    close(fd);
    return &page[1].doze;
}

static void a_dozing_node_sees_its_device_go_and_come(void **state) {
    (void)state;
    char away[100];
    begin(1, 16u * MIB, NULL);
    yk_client *c = open_client(&fix);
    put_ok(c, "k", MIB, 1);
    const uint32_t *doze = doze_flag();
    snprintf(away, sizeof(away), "%s.away", fix.ssd_path);
    UNTIL(__atomic_load_n(doze, __ATOMIC_RELAXED));
    assert_int_equal(rename(fix.ssd_path, away), 0);
    UNTIL(device().state == YK_SSD_DEV_GONE);
    UNTIL(__atomic_load_n(doze, __ATOMIC_RELAXED));
    assert_int_equal(rename(away, fix.ssd_path), 0);
    UNTIL(device().state == YK_SSD_DEV_OK);
    yk_close(c);
    fixture_fini(&fix);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(populated_memory_is_registered),
        cmocka_unit_test(memory_that_is_not_populated_is_left_alone),
        cmocka_unit_test(a_get_that_finds_no_room_is_answered),
        cmocka_unit_test(a_chain_is_prefetched_in_its_order),
        cmocka_unit_test(a_put_does_not_wait_for_a_device_that_hangs),
        cmocka_unit_test(a_remove_ends_with_a_device_that_hangs),
        cmocka_unit_test(nobody_is_served_an_epoch_that_is_not_durable),
        cmocka_unit_test(a_dozing_node_sees_its_device_go_and_come),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
