/* SPDX-License-Identifier: Apache-2.0
 *
 * A device that fails at its Nth request, for every N until a run meets none: errors, half-done
 * requests, no space, a device that vanishes, flipped bits. Whatever happens: every put and read ends,
 * what is found has its bytes, the next opening works, and what was acknowledged as removed is not
 * there.
 */
#include "ssd_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <yolk/status.h>

#define STEPS  400u
#define READS  (1u << YK_FILE_READ)
#define WRITES (1u << YK_FILE_WRITE | 1u << YK_FILE_FLUSH)

static struct ssd_rig rig;

static void work(void) {
    for (uint32_t i = 0; i < STEPS; i++)
        ssd_rig_random(&rig);
    ssd_rig_settle(&rig);
    ssd_rig_check(&rig);
}

/* One run; 0 when the fault was never met. */
static uint64_t run(unsigned disks, uint64_t seed, unsigned kind, unsigned ops, uint64_t nth) {
    unsigned char *images[RIG_DISKS] = {NULL};
    ssd_rig_init(&rig, disks, 9, 64u << 10, seed, 1);
    rig.max_large = 16u << 10;
    rig.rot = kind == YK_FILE_FAULT_CORRUPT;
    rig.lenient = 1; /* what failed may be there or not */
    rig.fault = (struct yk_file_fault){
        .kind = (uint8_t)kind, .op_mask = (uint8_t)ops, .nth = nth, .arg = 0, .seed = nth};
    uint64_t hits = 1;
    int rc = ssd_rig_start(&rig);
    if (rc == 0) {
        work();
        hits = yk_file_fault_hits(rig.fault_io);
        ssd_rig_close(&rig, (int)(nth % 2));
    } else if (rc == -YK_EPERM) {
        assert_int_equal(kind, YK_FILE_FAULT_CORRUPT);
    } else {
        assert_true(rc == -YK_EIO || rc == -YK_ENOSPC || rc == -YK_EGONE || rc == -YK_ECORRUPT);
        assert_int_not_equal(strlen(rig.err.text), 0);
    }
    for (unsigned i = 0; i < disks; i++)
        images[i] = rig.disk[i]->image;
    if (rc == 0)
        ssd_rig_judge(&rig, images, disk_clock + 1, nth / 2 % 2, 0);
    ssd_rig_free(&rig);
    return hits;
}

static void sweep(unsigned disks, uint64_t seed, unsigned kind, unsigned ops, const char *what) {
    uint64_t n = 1, runs = 0;
    for (; run(disks, seed, kind, ops, n) > 0; n += ssd_rig_stride()) {
        runs++;
        assert_true(n < 100000);
    }
    assert_true(runs > 0);
    print_message("%s: %llu of %llu requests failed once\n", what, (unsigned long long)runs,
                  (unsigned long long)n - 1);
}

static void writes_fail(void **state) {
    (void)state;
    sweep(1, 11, YK_FILE_FAULT_EIO, WRITES, "EIO of writes and flushes");
    sweep(1, 12, YK_FILE_FAULT_SHORT, WRITES, "short writes");
}

static void reads_fail(void **state) {
    (void)state;
    sweep(1, 13, YK_FILE_FAULT_EIO, READS, "EIO of reads");
    sweep(1, 14, YK_FILE_FAULT_SHORT, READS, "short reads");
}

static void no_space(void **state) {
    (void)state;
    sweep(1, 15, YK_FILE_FAULT_ENOSPC, WRITES, "ENOSPC");
}

static void vanishes(void **state) {
    (void)state;
    sweep(1, 16, YK_FILE_FAULT_GONE, READS | WRITES, "the device vanishes");
    sweep(2, 17, YK_FILE_FAULT_GONE, READS | WRITES, "one of two vanishes");
}

static void flips(void **state) {
    (void)state;
    sweep(1, 18, YK_FILE_FAULT_CORRUPT, READS, "a flipped bit in what is read");
    sweep(1, 19, YK_FILE_FAULT_CORRUPT, 1u << YK_FILE_WRITE, "a flipped bit in what is written");
}

/* Writes go wrong now and then, for long. */
static void often(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed < 20; seed++) {
        ssd_rig_init(&rig, 1, 9, 64u << 10, seed, 1);
        rig.max_large = 16u << 10;
        rig.lenient = 1;
        assert_int_equal(ssd_rig_start(&rig), 0);
        ssd_rig_close(&rig, 1);
        rig.fault = (struct yk_file_fault){.kind = YK_FILE_FAULT_EIO,
                                          .op_mask = 1u << YK_FILE_WRITE,
                                          .rate_ppm = 20000,
                                          .seed = seed};
        if (ssd_rig_start(&rig) == 0) {
            work();
            work();
            ssd_rig_close(&rig, 1);
            unsigned char *image = rig.disk[0]->image;
            ssd_rig_judge(&rig, &image, disk_clock + 1, 0, 0);
        }
        ssd_rig_free(&rig);
    }
}

/* Blocks one after the other, each over its predecessor; 0, or what refuses them for good. */
static int put_on(uint32_t count, uint64_t len) {
    for (uint32_t i = 0; i < count; i++) {
        uint32_t turns = 0;
        int rc;
        ssd_rig_remove(&rig, 0, i % 20);
        while ((rc = ssd_rig_put(&rig, 0, i % 20, len, 0)) == -YK_EAGAIN) {
            ssd_rig_turn(&rig, turns % 4 == 0);
            if (++turns == 20000)
                fail_msg("put %u of %u is never answered", i, count);
        }
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* Errors now and then set segments aside; they are used again before none is left. */
static void segments_are_tried_again(void **state) {
    (void)state;
    ssd_rig_init(&rig, 1, 16, 1u << 20, 7, 0);
    rig.lenient = 1;
    assert_int_equal(ssd_rig_start(&rig), 0);
    ssd_rig_close(&rig, 1);
    rig.fault = (struct yk_file_fault){
        .kind = YK_FILE_FAULT_EIO, .op_mask = 1u << YK_FILE_WRITE, .rate_ppm = 4000, .seed = 5};
    assert_int_equal(ssd_rig_start(&rig), 0);
    while (yk_file_fault_hits(rig.fault_io) < 40)
        assert_int_equal(put_on(100, 100u << 10), 0);
    ssd_rig_settle(&rig);
    ssd_rig_check(&rig);
    ssd_rig_close(&rig, 1);
    ssd_rig_free(&rig);
}

#define BAD_SEGMENT (64u << 10)

static int last_sectors(const struct yk_file_req *r) {
    return r->op == YK_FILE_WRITE && r->offset >= 1u << 20 &&
           (r->offset + r->bytes) % BAD_SEGMENT == 0;
}

static int last_sectors_now_and_then(const struct yk_file_req *r) {
    static uint32_t n;
    return last_sectors(r) && ++n % 12 == 0;
}

static int first_sectors_of_some(const struct yk_file_req *r) {
    return r->op == YK_FILE_WRITE && r->offset > 8u * BAD_SEGMENT + (1u << 20) &&
           r->offset % BAD_SEGMENT == 0;
}

/* Without segments that can be filled and made free there is no log: that is said, nobody waits. */
static void too_few_segments(void **state) {
    (void)state;
    struct yk_ssd_dev_stats st;
    int (*const all[])(const struct yk_file_req *) = {last_sectors, last_sectors_now_and_then,
                                                        first_sectors_of_some};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        /* A seed with which not three writes in a row fail first, which ends it as well. */
        ssd_rig_init(&rig, 1, 12, BAD_SEGMENT, 8, 0);
        rig.lenient = 1;
        assert_int_equal(ssd_rig_start(&rig), 0);
        rig.disk[0]->fails = all[i];
        int rc = put_on(1000, 15u << 10);
        yk_ssd_dev_stats_get(rig.ssd, 0, &st);
        print_message("case %zu: %s\n", i, rc < 0 ? yk_ssd_note(rig.ssd, 0) : "goes on");
        assert_true(rc == (i == 0 ? -YK_EIO : 0));
        if (i == 0) {
            assert_int_equal(st.state, YK_SSD_DEV_READ_ONLY);
            assert_non_null(strstr(yk_ssd_note(rig.ssd, 0), "segments failed"));
        }
        rig.disk[0]->fails = NULL;
        ssd_rig_settle(&rig);
        ssd_rig_close(&rig, 1);
        assert_int_equal(yk_ssd_open(&rig.opts, rig.ns, &rig.ssd, &rig.err), 0);
        yk_ssd_close(rig.ssd, 1, 1000);
        ssd_rig_free(&rig);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_fail),
        cmocka_unit_test(reads_fail),
        cmocka_unit_test(no_space),
        cmocka_unit_test(vanishes),
        cmocka_unit_test(flips),
        cmocka_unit_test(often),
        cmocka_unit_test(segments_are_tried_again),
        cmocka_unit_test(too_few_segments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
