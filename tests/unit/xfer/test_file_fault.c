/* SPDX-License-Identifier: Apache-2.0
 *
 * The device that fails on purpose: each kind of fault does what it says, to the request that it was
 * meant for, and to nothing else.
 */
#include "file_rig.h"

#include "base/clock.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const struct variant faulty = {.name = "uring in fault", .ops = &yk_file_uring, .fault = 1};

#define READS  (1u << YK_FILE_READ)
#define WRITES (1u << YK_FILE_WRITE)

/* Thread: one. out: what was written at 0; in: for reading. */
struct bed {
    struct rig r;
    char *out, *in;
};

#define BED_BYTES 65536u

static void bed_init(struct bed *b) {
    rig_start(&b->r, &faulty);
    b->out = aligned_alloc(4096, BED_BYTES);
    b->in = aligned_alloc(4096, BED_BYTES);
    rig_fill(&b->r, b->out, BED_BYTES);
    memset(b->in, 0, BED_BYTES);
    assert_int_equal(rig_do(&b->r, YK_FILE_WRITE, 0, b->out, BED_BYTES), 0);
}

static void bed_fini(struct bed *b) {
    rig_fini(&b->r);
    free(b->out);
    free(b->in);
}

static void set(struct bed *b, unsigned kind, unsigned ops, uint64_t nth, uint64_t arg) {
    struct yk_file_fault f = {
        .kind = (uint8_t)kind, .op_mask = (uint8_t)ops, .nth = nth, .arg = arg, .seed = 3};
    yk_file_fault_set(b->r.io, &f);
}

static int read_all(struct bed *b) {
    memset(b->in, 0, BED_BYTES);
    return rig_do(&b->r, YK_FILE_READ, 0, b->in, BED_BYTES);
}

static unsigned wrong_bits(const struct bed *b) {
    unsigned n = 0;
    for (unsigned i = 0; i < BED_BYTES; i++)
        n += (unsigned)__builtin_popcount((uint8_t)(b->in[i] ^ b->out[i]));
    return n;
}

static void errors_hit_the_nth(void **state) {
    (void)state;
    struct bed b;
    bed_init(&b);
    set(&b, YK_FILE_FAULT_EIO, READS, 3, 0);
    for (int i = 1; i <= 5; i++) {
        assert_int_equal(rig_do(&b.r, YK_FILE_WRITE, 0, b.out, 4096), 0);
        assert_int_equal(read_all(&b), i == 3 ? -YK_EIO : 0);
        assert_int_equal(wrong_bits(&b) == 0, i != 3);
    }
    assert_int_equal(yk_file_fault_hits(b.r.io), 1);
    set(&b, YK_FILE_FAULT_ENOSPC, WRITES, 1, 0);
    assert_int_equal(rig_do(&b.r, YK_FILE_WRITE, 0, b.in, 4096), -YK_ENOSPC);
    assert_int_equal(read_all(&b), 0);
    assert_int_equal(wrong_bits(&b), 0);
    struct yk_file_stats st;
    b.r.io->ops->stats(b.r.io, &st);
    assert_int_equal(st.errors[YK_FILE_READ], 1);
    assert_int_equal(st.errors[YK_FILE_WRITE], 1);
    assert_int_equal(st.queued, 0);
    bed_fini(&b);
}

static void short_ones_are_half_done(void **state) {
    (void)state;
    struct bed b;
    bed_init(&b);
    set(&b, YK_FILE_FAULT_SHORT, READS | WRITES, 1, 0);
    assert_int_equal(read_all(&b), -YK_EIO);
    assert_memory_equal(b.in, b.out, BED_BYTES / 2u);
    for (unsigned i = BED_BYTES / 2u; i < BED_BYTES; i++)
        assert_int_equal(b.in[i], 0);
    set(&b, YK_FILE_FAULT_SHORT, WRITES, 1, 0);
    memset(b.in, 9, BED_BYTES);
    struct iovec iov[3] = {{b.in, 100}, {b.in + 4096, 40960}, {b.in, BED_BYTES - 41060u}};
    assert_int_equal(rig_do_iov(&b.r, YK_FILE_WRITE, 0, iov, 3), -YK_EIO);
    assert_int_equal(iov[1].iov_len, 40960); /* the caller's pieces are its own */
    assert_int_equal(read_all(&b), 0);
    assert_true(b.in[0] == 9 && b.in[BED_BYTES / 2u - 1u] == 9);
    assert_memory_equal(b.in + BED_BYTES / 2u, b.out + BED_BYTES / 2u, BED_BYTES / 2u);
    bed_fini(&b);
}

static void one_bit_is_wrong(void **state) {
    (void)state;
    struct bed b;
    bed_init(&b);
    set(&b, YK_FILE_FAULT_CORRUPT, READS, 1, 0);
    assert_int_equal(read_all(&b), 0);
    assert_int_equal(wrong_bits(&b), 1);
    assert_int_equal(read_all(&b), 0);
    assert_int_equal(wrong_bits(&b), 0);
    set(&b, YK_FILE_FAULT_CORRUPT, READS, 1, 8000u * 8u + 3u);
    assert_int_equal(read_all(&b), 0);
    assert_int_equal(b.in[8000] ^ b.out[8000], 8);
    /* What is written wrong stays wrong; the caller's bytes are not touched. */
    memcpy(b.in, b.out, BED_BYTES);
    set(&b, YK_FILE_FAULT_CORRUPT, WRITES, 1, 100u);
    assert_int_equal(rig_do(&b.r, YK_FILE_WRITE, 0, b.out, BED_BYTES), 0);
    assert_int_equal(wrong_bits(&b), 0);
    assert_int_equal(read_all(&b), 0);
    assert_int_equal(wrong_bits(&b), 1);
    assert_int_equal(b.in[12] ^ b.out[12], 16);
    bed_fini(&b);
}

static void late_ones_come_and_wake(void **state) {
    (void)state;
    struct bed b;
    bed_init(&b);
    set(&b, YK_FILE_FAULT_DELAY, READS, 1, 60);
    struct iovec iov = {b.in, BED_BYTES};
    struct yk_file_req late = {.op = YK_FILE_READ, .bytes = BED_BYTES, .iov = &iov, .iov_count = 1};
    uint64_t wakes = __atomic_load_n(&b.r.wakes, __ATOMIC_RELAXED);
    b.r.io->ops->submit(b.r.io, &late);
    assert_ptr_equal(rig_reap(&b.r), &late);
    assert_int_equal(late.status, 0);
    assert_true(late.done_ns - late.submit_ns >= 60u * YK_NS_PER_MS);
    assert_int_equal(wrong_bits(&b), 0);
    /* Once when the device was done, and once when its time had come: that may follow the reaping. */
    uint64_t until = yk_now_ns() + RIG_WAIT_MS * YK_NS_PER_MS;
    while (__atomic_load_n(&b.r.wakes, __ATOMIC_RELAXED) < wakes + 2u && yk_now_ns() < until)
        usleep(1000);
    assert_true(__atomic_load_n(&b.r.wakes, __ATOMIC_RELAXED) >= wakes + 2u);
    /* One that never comes lets others pass, is seen as stalled, and does not keep close. */
    set(&b, YK_FILE_FAULT_DELAY, READS, 1, 3600u * 1000u);
    b.r.io->ops->submit(b.r.io, &late);
    assert_int_equal(rig_do(&b.r, YK_FILE_WRITE, BED_BYTES, b.out, BED_BYTES), 0);
    uint64_t begun = yk_now_ns();
    while (b.r.io->ops->stalled(b.r.io) < 30u && yk_now_ns() - begun < 10u * YK_NS_PER_S) {
        assert_null(b.r.io->ops->reap(b.r.io));
        b.r.io->ops->wait(b.r.io, 10);
    }
    assert_true(b.r.io->ops->stalled(b.r.io) >= 30u);
    bed_fini(&b);
}

static void gone_is_gone_until_told(void **state) {
    (void)state;
    struct bed b;
    bed_init(&b);
    set(&b, YK_FILE_FAULT_GONE, READS, 2, 0);
    assert_int_equal(read_all(&b), 0);
    assert_int_equal(b.r.io->ops->check(b.r.io), 0);
    assert_int_equal(read_all(&b), -YK_EGONE);
    assert_int_equal(b.r.io->ops->check(b.r.io), -YK_EGONE);
    assert_int_equal(rig_do(&b.r, YK_FILE_WRITE, 0, b.out, 4096), -YK_EGONE);
    assert_int_equal(rig_do(&b.r, YK_FILE_FLUSH, 0, NULL, 0), -YK_EGONE);
    yk_file_fault_set(b.r.io, NULL);
    assert_int_equal(b.r.io->ops->check(b.r.io), 0);
    assert_int_equal(read_all(&b), 0);
    bed_fini(&b);
}

static void a_rate_is_kept_and_repeats(void **state) {
    (void)state;
    struct bed b;
    unsigned failed[2] = {0, 0};
    uint64_t pattern[2] = {0, 0};
    bed_init(&b);
    for (int round = 0; round < 2; round++) {
        struct yk_file_fault f = {
            .kind = YK_FILE_FAULT_EIO, .op_mask = READS, .rate_ppm = 250000, .seed = 11};
        yk_file_fault_set(b.r.io, &f);
        for (int i = 0; i < 400; i++) {
            unsigned hit = rig_do(&b.r, YK_FILE_READ, 0, b.in, 4096) < 0;
            failed[round] += hit;
            pattern[round] = pattern[round] * 31u + hit;
        }
    }
    assert_true(failed[0] > 60 && failed[0] < 140);
    assert_int_equal(pattern[0], pattern[1]);
    assert_int_equal(yk_file_fault_hits(b.r.io), failed[0] + failed[1]);
    bed_fini(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_hit_the_nth),      cmocka_unit_test(short_ones_are_half_done),
        cmocka_unit_test(one_bit_is_wrong),        cmocka_unit_test(late_ones_come_and_wake),
        cmocka_unit_test(gone_is_gone_until_told), cmocka_unit_test(a_rate_is_kept_and_repeats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
