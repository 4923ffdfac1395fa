/* SPDX-License-Identifier: Apache-2.0
 *
 * Devices: somebody else's, too small, of another node or version, damaged; those that missed a run;
 * one that vanishes and returns; openings that are killed half way.
 */
#include "ssd_rig.h"

#include "base/hash.h"
#include "tier/ssd/format.h"
#include "tier/ssd/ssd_priv.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <yolk/status.h>

#define SEGMENT (64u << 10)

static struct ssd_rig rig;

static uint32_t found_count(void) {
    uint32_t n = 0;
    for (uint32_t id = 0; id < yk_ssd_top(rig.ssd); id++)
        n += (uint32_t)yk_ssd_live(rig.ssd, id);
    return n;
}

static void put_many(uint32_t n) {
    for (uint32_t key = 0; key < n; key++) {
        uint32_t turns = 0;
        while (ssd_rig_put(&rig, 0, key, 500 + key * 300, 0) == -YK_EAGAIN) {
            ssd_rig_turn(&rig, 1);
            assert_true(++turns < 10000);
        }
    }
    ssd_rig_settle(&rig);
}

static void expect(int rc, const char *text) {
    assert_int_equal(ssd_rig_start(&rig), rc);
    if (strstr(rig.err.text, text) == NULL)
        fail_msg("'%s' does not say '%s'", rig.err.text, text);
}

static uint64_t image_sum(void) {
    uint64_t sum = 0;
    for (uint64_t i = 0; i < rig.disk[0]->size; i += 8)
        sum = sum * 31 + *(uint64_t *)(void *)(rig.disk[0]->image + i);
    return sum;
}

static void foreign_content(void **state) {
    (void)state;
    static const struct {
        uint32_t at;
        const char *bytes;
        const char *says;
    } content[] = {
        {1080, "\x53\xef", "ext4"},   {0, "XFSB", "XFS"},           {510, "\x55\xaa", "partition"},
        {512, "EFI PART", "GPT"},     {65600, "_BHRfS_M", "btrfs"}, {0, "LUKS\xba\xbe", "LUKS"},
        {4086, "SWAPSPACE2", "swap"}, {777, "hello", "unknown"},    {900000, "x", "unknown"},
        {512, "LABELONE", "LVM"},
    };
    for (size_t i = 0; i < sizeof(content) / sizeof(content[0]); i++) {
        ssd_rig_init(&rig, 1, 8, SEGMENT, 1, 0);
        memcpy(rig.disk[0]->image + content[i].at, content[i].bytes, strlen(content[i].bytes));
        uint64_t before = image_sum();
        expect(-YK_EPERM, content[i].says);
        assert_true(image_sum() == before);
        assert_non_null(strstr(rig.err.text, "--ssd-format"));
        rig.opts.format = 1;
        assert_int_equal(ssd_rig_start(&rig), 0);
        ssd_rig_close(&rig, 1);
        ssd_rig_free(&rig);
    }
}

/* What stands at the end alone; in the middle nobody looks. */
static void foreign_end(void **state) {
    (void)state;
    for (uint32_t from_end = 1; from_end <= 1u << 20; from_end = from_end * 4 + 1) {
        ssd_rig_init(&rig, 1, 100, SEGMENT, 1, 0);
        rig.disk[0]->image[rig.disk[0]->size - from_end] = 7;
        uint64_t before = image_sum();
        expect(-YK_EPERM, "holds data at its end");
        assert_true(image_sum() == before);
        ssd_rig_free(&rig);
    }
    ssd_rig_open(&rig, 1, 100, SEGMENT, 1, 0); /* our own, of which somebody wiped the beginning */
    ssd_rig_close(&rig, 1);
    memset(rig.disk[0]->image, 0, 4u << 20);
    assert_int_equal(ssd_rig_start(&rig), 0);
    ssd_rig_close(&rig, 1);
    ssd_rig_free(&rig);
}

static void too_small(void **state) {
    (void)state;
    ssd_rig_init(&rig, 1, 3, SEGMENT, 1, 0);
    expect(-YK_ETOOBIG, "too small for segments of 64KiB: give it 1284KiB");
    assert_int_equal(yk_ssd_least_bytes(SEGMENT), 1284u << 10);
    rig.opts.segment_bytes = 1000;
    expect(-YK_EINVAL, "segments of");
    rig.opts.segment_bytes = 0;
    expect(-YK_ETOOBIG, "too small");
    ssd_rig_free(&rig);
}

static void other_node(void **state) {
    (void)state;
    ssd_rig_init(&rig, 1, 8, SEGMENT, 1, 0);
    rig.opts.node_id = 77;
    assert_int_equal(ssd_rig_start(&rig), 0);
    assert_int_equal(yk_ssd_node_id(rig.ssd), 77);
    put_many(10);
    ssd_rig_close(&rig, 1);
    uint64_t before = image_sum();
    rig.opts.node_id = 78;
    expect(-YK_EPERM, "belongs to node");
    assert_true(image_sum() == before);
    rig.opts.node_id = 0; /* one that does not know takes what the device says */
    assert_int_equal(ssd_rig_start(&rig), 0);
    assert_int_equal(yk_ssd_node_id(rig.ssd), 77);
    assert_int_equal(found_count(), 10);
    ssd_rig_close(&rig, 1);
    ssd_rig_free(&rig);
}

/* A node without a memory segment knows no id yet: the name tells. */
static void other_name(void **state) {
    (void)state;
    ssd_rig_init(&rig, 1, 8, SEGMENT, 1, 0);
    rig.opts.node_name = "one";
    assert_int_equal(ssd_rig_start(&rig), 0);
    put_many(10);
    ssd_rig_close(&rig, 1);
    uint64_t before = image_sum();
    rig.opts.node_name = "two";
    expect(-YK_EPERM, "belongs to node 'one', this one is 'two'");
    assert_non_null(strstr(rig.err.text, "--name one"));
    assert_non_null(strstr(rig.err.text, "--ssd-format"));
    assert_true(image_sum() == before);
    rig.opts.node_name = NULL; /* one without a name of its own */
    assert_int_equal(ssd_rig_start(&rig), 0);
    assert_int_equal(found_count(), 10);
    ssd_rig_close(&rig, 1);
    rig.opts.node_name = "one";
    assert_int_equal(ssd_rig_start(&rig), 0);
    assert_int_equal(found_count(), 10);
    ssd_rig_close(&rig, 1);
    rig.opts.node_name = "two";
    rig.opts.format = 1;
    assert_int_equal(ssd_rig_start(&rig), 0);
    ssd_rig_close(&rig, 1);
    rig.opts.format = 0;
    rig.opts.node_name = "one";
    expect(-YK_EPERM, "belongs to node 'two'");
    ssd_rig_free(&rig);
}

static void start_with_all(void) {
    assert_int_equal(ssd_rig_start(&rig), 0);
    assert_int_equal(found_count(), 10);
    ssd_rig_close(&rig, 1);
}

static void other_cluster(void **state) {
    (void)state;
    ssd_rig_init(&rig, 2, 8, SEGMENT, 1, 0);
    rig.opts.dev_count = 1;
    rig.opts.cluster_id = 0xc1;
    assert_int_equal(ssd_rig_start(&rig), 0);
    put_many(10);
    ssd_rig_close(&rig, 1);
    uint64_t before = image_sum();
    rig.opts.cluster_id = 0xc2;
    expect(-YK_EPERM, "belongs to cluster 00000000000000c1, this node to 00000000000000c2");
    assert_non_null(strstr(rig.err.text, "--ssd-format"));
    assert_true(image_sum() == before);
    rig.opts.cluster_id = 0; /* a node that knows of none: what is there stands */
    start_with_all();
    rig.opts.dev_count = 2; /* also for the device that is new */
    start_with_all();
    rig.opts.cluster_id = 0xc2;
    expect(-YK_EPERM, "disk0: belongs to cluster");
    rig.opts.cluster_id = 0xc1;
    start_with_all();
    rig.opts.dev[0] = rig.opts.dev[1];
    rig.opts.dev_count = 1;
    rig.opts.cluster_id = 0xc3;
    expect(-YK_EPERM, "disk1: belongs to cluster 00000000000000c1");
    ssd_rig_free(&rig);
}

/* Formatted by a node that was in no cluster yet: it may join any. */
static void of_no_cluster(void **state) {
    (void)state;
    ssd_rig_open(&rig, 1, 8, SEGMENT, 1, 0);
    put_many(10);
    ssd_rig_close(&rig, 1);
    rig.opts.cluster_id = 0xc1;
    start_with_all();
    ssd_rig_free(&rig);
}

static void other_version(void **state) {
    (void)state;
    ssd_rig_open(&rig, 1, 8, SEGMENT, 1, 0);
    ssd_rig_close(&rig, 1);
    for (unsigned i = 0; i < 2; i++) { /* as a later version would write it */
        unsigned char *s = rig.disk[0]->image + YK_SSD_SUPER_AT(i);
        s[8] = 2;
        uint64_t sum = yk_hash64(s, YK_SSD_SECTOR - 8);
        memcpy(s + YK_SSD_SECTOR - 8, &sum, 8);
    }
    expect(-YK_EVERSION, "format 2");
    ssd_rig_free(&rig);
}

static void damaged_superblocks(void **state) {
    (void)state;
    ssd_rig_open(&rig, 1, 8, SEGMENT, 1, 0);
    put_many(10);
    ssd_rig_close(&rig, 1);
    rig.disk[0]->image[YK_SSD_SUPER_AT(0) + 40] ^= 1;
    assert_int_equal(ssd_rig_start(&rig), 0); /* from the copy */
    assert_int_equal(found_count(), 10);
    ssd_rig_close(&rig, 1);
    rig.disk[0]->image[YK_SSD_SUPER_AT(1) + 50] ^= 1;
    expect(-YK_EPERM, "damaged");
    ssd_rig_free(&rig);
}

/* What is in the file's last segments: removals of what stands in the first ones. */
static void fill_and_remove(void) {
    put_many(40);
    assert_true(found_count() > 0);
    for (uint32_t key = 0; key < 40; key++)
        ssd_rig_remove(&rig, 0, key);
    ssd_rig_settle(&rig);
    assert_int_equal(found_count(), 0);
}

static void starts_empty(const char *says) {
    assert_int_equal(ssd_rig_start(&rig), 0);
    assert_int_equal(found_count(), 0);
    if (strstr(yk_ssd_note(rig.ssd, 0), says) == NULL)
        fail_msg("'%s' does not say '%s'", yk_ssd_note(rig.ssd, 0), says);
    put_many(10);
    ssd_rig_close(&rig, 1);
    rig.disk[0]->found = 0;
    assert_int_equal(ssd_rig_start(&rig), 0); /* and goes on like any other */
    assert_int_equal(found_count(), 10);
    assert_string_equal(yk_ssd_note(rig.ssd, 0), "");
    ssd_rig_close(&rig, 1);
}

static void cut_short(void **state) {
    (void)state;
    ssd_rig_open(&rig, 1, 12, SEGMENT, 1, 0);
    ssd_rig_close(&rig, 1);
    uint64_t size = rig.disk[0]->size;
    rig.disk[0]->size -= 2 * SEGMENT;
    expect(-YK_EINVAL, "was formatted with");
    assert_null(strstr(rig.err.text, "size"));
    rig.disk[0]->found = size; /* it is all there, but not all of it is asked for */
    expect(-YK_EINVAL, "give it that size");
    rig.disk[0]->size = size;
    ssd_rig_free(&rig);
}

/* Cut short while the node was down, and as long as before when it is opened: the removals that were in the
 * part that is zero now are lost, what they removed is not. Grown by who opens it, or by somebody before. */
static void cut_short_and_grown_again(void **state) {
    (void)state;
    for (int clean = 0; clean < 2; clean++) {
        for (uint32_t kept = 1; kept <= 16; kept++) {
            for (int by_us = 0; by_us < 2; by_us++) {
                ssd_rig_open(&rig, 1, 16, SEGMENT, 1, 0);
                fill_and_remove();
                ssd_rig_close(&rig, clean);
                uint64_t left = (1u << 20) + kept * SEGMENT;
                memset(rig.disk[0]->image + left, 0, rig.disk[0]->size - left);
                rig.disk[0]->found = by_us ? left : 0;
                starts_empty(by_us ? "was cut short to" : "its end is missing");
                ssd_rig_free(&rig);
            }
        }
    }
}

/* One of two: what the other has stays. */
static void one_of_two_is_cut_short(void **state) {
    (void)state;
    ssd_rig_open(&rig, 2, 8, SEGMENT, 1, 0);
    put_many(40);
    uint32_t on_second = rig.ssd->devs[1]->live;
    assert_true(on_second > 0 && on_second < 40);
    ssd_rig_close(&rig, 1);
    memset(rig.disk[0]->image + rig.disk[0]->size - SEGMENT, 0, SEGMENT);
    assert_int_equal(ssd_rig_start(&rig), 0);
    assert_int_equal(found_count(), on_second);
    ssd_rig_close(&rig, 1);
    ssd_rig_free(&rig);
}

/* It has grown, and keeps the format that it has: that is said. */
static void grown(void **state) {
    (void)state;
    ssd_rig_open(&rig, 1, 8, SEGMENT, 1, 0);
    put_many(10);
    ssd_rig_close(&rig, 1);
    struct disk *larger = disk_new("disk0", rig.disk[0]->size + SEGMENT);
    memcpy(larger->image, rig.disk[0]->image, rig.disk[0]->size);
    disk_free(rig.disk[0]);
    rig.disk[0] = larger;
    assert_int_equal(ssd_rig_start(&rig), 0);
    assert_int_equal(found_count(), 10);
    assert_non_null(strstr(yk_ssd_note(rig.ssd, 0), "is not used"));
    ssd_rig_close(&rig, 1);
    ssd_rig_free(&rig);
}

/* A flipped bit in the last sector is no cut. */
static void a_damaged_end_is_no_cut(void **state) {
    (void)state;
    ssd_rig_open(&rig, 1, 8, SEGMENT, 1, 0);
    put_many(10);
    ssd_rig_close(&rig, 1);
    rig.disk[0]->image[rig.disk[0]->size - YK_SSD_SECTOR + 30] ^= 1;
    start_with_all();
    ssd_rig_free(&rig);
}

/* As written before there was a third superblock. */
static void a_device_without_an_end(void **state) {
    (void)state;
    ssd_rig_open(&rig, 1, 8, SEGMENT, 1, 0);
    put_many(10);
    ssd_rig_close(&rig, 1);
    for (unsigned i = 0; i < 2; i++) {
        unsigned char *s = rig.disk[0]->image + YK_SSD_SUPER_AT(i);
        struct yk_ssd_super super;
        uint32_t version;
        assert_int_equal(yk_ssd_super_get(s, &super, &version), 0);
        assert_int_equal(super.end_at, rig.disk[0]->size - YK_SSD_SECTOR);
        super.end_at = 0;
        super.node_name[0] = 0;
        yk_ssd_super_put(s, &super);
    }
    memset(rig.disk[0]->image + rig.disk[0]->size - YK_SSD_SECTOR, 0, YK_SSD_SECTOR);
    start_with_all();
    start_with_all();
    ssd_rig_free(&rig);
}

/* Without both checkpoints nobody knows what the device missed. */
static void lost_checkpoints(void **state) {
    (void)state;
    ssd_rig_open(&rig, 1, 8, SEGMENT, 1, 0);
    put_many(10);
    ssd_rig_close(&rig, 1);
    rig.disk[0]->image[YK_SSD_CKPT_AT(0) + 300] ^= 1;
    assert_int_equal(ssd_rig_start(&rig), 0);
    assert_int_equal(found_count(), 10);
    ssd_rig_close(&rig, 1);
    rig.disk[0]->image[YK_SSD_CKPT_AT(0) + 300] ^= 1;
    rig.disk[0]->image[YK_SSD_CKPT_AT(1) + 300] ^= 1;
    assert_int_equal(ssd_rig_start(&rig), 0);
    assert_int_equal(found_count(), 0);
    assert_non_null(strstr(yk_ssd_note(rig.ssd, 0), "starts empty"));
    ssd_rig_close(&rig, 1);
    ssd_rig_free(&rig);
}

/* A run with one of two devices; and one that only the node remembers. */
static void missed_run(void **state) {
    (void)state;
    ssd_rig_open(&rig, 2, 8, SEGMENT, 1, 0);
    put_many(40);
    uint32_t on_first = rig.ssd->devs[0]->live, on_second = rig.ssd->devs[1]->live;
    assert_true(on_first > 0 && on_second > 0);
    ssd_rig_close(&rig, 1);
    assert_int_equal(ssd_rig_start(&rig), 0);
    assert_int_equal(found_count(), 40);
    ssd_rig_close(&rig, 0);
    rig.opts.dev_count = 1;
    assert_int_equal(ssd_rig_start(&rig), 0);
    assert_int_equal(found_count(), on_first);
    ssd_rig_close(&rig, 1);
    rig.opts.dev_count = 2;
    assert_int_equal(ssd_rig_start(&rig), 0);
    assert_int_equal(found_count(), on_first);
    assert_non_null(strstr(yk_ssd_note(rig.ssd, 1), "was not there in a run"));
    uint64_t run = yk_ssd_run(rig.ssd);
    ssd_rig_close(&rig, 1);
    rig.opts.run = run;
    assert_int_equal(ssd_rig_start(&rig), 0);
    assert_int_equal(found_count(), on_first);
    ssd_rig_close(&rig, 1);
    rig.opts.run = run + 2;
    assert_int_equal(ssd_rig_start(&rig), 0);
    assert_int_equal(found_count(), 0);
    assert_true(yk_ssd_run(rig.ssd) > run + 2);
    ssd_rig_close(&rig, 1);
    ssd_rig_free(&rig);
}

/* Every opening is cut at a random event of its own writes; after each the device opens and has all. */
static void killed_openings(void **state) {
    (void)state;
    for (unsigned disks = 1; disks <= 2; disks++) {
        ssd_rig_open(&rig, disks, 8, SEGMENT, 5, 0);
        put_many(40);
        ssd_rig_close(&rig, 0);
        uint32_t had = 0;
        for (unsigned turn = 0; turn < 50; turn++) {
            uint64_t seed = 1000 + turn;
            unsigned char *before[RIG_DISKS] = {NULL};
            uint32_t first = disk_clock;
            for (unsigned i = 0; i < disks; i++) {
                struct disk *d = rig.disk[i];
                before[i] = malloc(d->size);
                assert_non_null(before[i]);
                memcpy(before[i], d->image, d->size);
                d->record = 1;
            }
            struct yk_ssd *ssd;
            struct yk_ssd_ns ns[YK_SSD_NAMESPACES];
            memset(ns, 0, sizeof(ns));
            assert_int_equal(yk_ssd_open(&rig.opts, ns, &ssd, &rig.err), 0);
            rig.ssd = ssd;
            if (had == 0)
                had = found_count();
            if (found_count() != had)
                fail_msg("opening %u: %u blocks of %u", turn, found_count(), had);
            yk_ssd_close(ssd, 0, 0);
            uint32_t at = first + (uint32_t)(disk_random(&seed) % (disk_clock - first + 1));
            for (unsigned i = 0; i < disks;
                 i++) { /* what the cut leaves, on top of what was there */
                struct disk *d = rig.disk[i];
                memcpy(d->image, before[i], d->size);
                for (uint32_t k = 0; k < d->nevents; k++) {
                    const struct event *e = &d->events[k];
                    if (e->kind == EV_WRITE && e->stamp < at && disk_random(&seed) % 3 != 0)
                        for (uint64_t b = 0; b < e->bytes; b += YK_SSD_SECTOR)
                            if (disk_random(&seed) % 4 != 0)
                                memcpy(d->image + e->offset + b, e->data + b, YK_SSD_SECTOR);
                }
                /* What a flush covered is there whole. */
                for (uint32_t k = 0; k < d->nevents; k++) {
                    const struct event *e = &d->events[k];
                    if (e->kind == EV_WRITE && e->stamp < disk_covered(d, at))
                        memcpy(d->image + e->offset, e->data, e->bytes);
                }
                for (uint32_t k = 0; k < d->nevents; k++)
                    free(d->events[k].data);
                d->nevents = 0;
                d->record = 0;
                free(before[i]);
            }
        }
        ssd_rig_free(&rig);
    }
}

/* ---- while it runs -------------------------------------------------------------------------------------- */

static void until_state(unsigned dev, unsigned want) {
    struct yk_ssd_dev_stats st;
    for (uint32_t n = 0;; n++) {
        ssd_rig_turn(&rig, 1);
        for (uint32_t i = 0; i < rig.opts.dev_count; i++) { /* as if its time had come */
            rig.ssd->devs[i]->ret_at_ms = 0;
            rig.ssd->devs[i]->check_at_ms = 0;
        }
        yk_ssd_dev_stats_get(rig.ssd, dev, &st);
        if (st.state == want)
            return;
        assert_true(n < 10000);
    }
}

static void one_of_two_vanishes(void **state) {
    (void)state;
    ssd_rig_open(&rig, 2, 8, SEGMENT, 3, 1);
    put_many(40);
    uint32_t on_first = rig.ssd->devs[0]->live;
    uint64_t run = yk_ssd_run(rig.ssd);
    rig.disk[1]->gone = 1;
    until_state(1, YK_SSD_DEV_GONE);
    assert_true(yk_ssd_run(rig.ssd) > run);
    assert_int_equal(found_count(), on_first);
    ssd_rig_settle(&rig);
    ssd_rig_check(&rig);
    assert_int_equal(yk_ssd_hole(rig.ssd), 0); /* the first has recorded it */
    assert_int_equal(rig.ssd->devs[1]->live, 0);
    for (uint32_t key = 0; key < 40; key++)
        ssd_rig_remove(&rig, 0, key);
    ssd_rig_settle(&rig);
    assert_int_equal(found_count(), 0);
    rig.disk[1]->gone = 0;
    until_state(1, YK_SSD_DEV_OK);
    assert_non_null(strstr(yk_ssd_note(rig.ssd, 1), "came back"));
    assert_true(rig.disk[1]->no_wait && !rig.disk[0]->no_wait); /* the node serves meanwhile */
    put_many(30);
    assert_int_equal(found_count(), 30);
    assert_true(rig.ssd->devs[1]->live > 0);
    ssd_rig_close(&rig, 1);
    assert_int_equal(ssd_rig_start(&rig), 0);
    assert_int_equal(found_count(), 30);
    ssd_rig_close(&rig, 1);
    ssd_rig_free(&rig);
}

static int look_stop;

static void *look(void *arg) {
    struct yk_ssd_dev_stats st;
    uint64_t n = 0;
    (void)arg;
    for (; !__atomic_load_n(&look_stop, __ATOMIC_RELAXED); n++)
        yk_ssd_dev_stats_get(rig.ssd, 1, &st);
    return NULL;
}

/* A device is closed and opened again while other threads look at its statistics: they touch none. */
static void others_look_while_it_returns(void **state) {
    (void)state;
    pthread_t thread;
    ssd_rig_open(&rig, 2, 8, SEGMENT, 3, 0);
    put_many(10);
    look_stop = 0;
    assert_int_equal(pthread_create(&thread, NULL, look, NULL), 0);
    for (unsigned i = 0; i < 20; i++) {
        rig.disk[1]->gone = 1;
        until_state(1, YK_SSD_DEV_GONE);
        rig.disk[1]->gone = 0;
        until_state(1, YK_SSD_DEV_OK);
    }
    __atomic_store_n(&look_stop, 1, __ATOMIC_RELAXED);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(rig.disk[1]->strangers, 0);
    ssd_rig_close(&rig, 1);
    ssd_rig_free(&rig);
}

static void memory_is_registered_again_after_a_return(void **state) {
    (void)state;
    ssd_rig_open(&rig, 2, 8, SEGMENT, 3, 0);
    yk_ssd_mem_ready(rig.ssd, 5000000);
    yk_ssd_mem_ready(rig.ssd, 4000000); /* never less */
    assert_int_equal(rig.disk[0]->mem_ready, 5000000);
    assert_int_equal(rig.disk[1]->mem_ready, 5000000);
    rig.disk[1]->gone = 1;
    until_state(1, YK_SSD_DEV_GONE);
    yk_ssd_mem_ready(rig.ssd, 6000000);
    rig.disk[1]->gone = 0;
    until_state(1, YK_SSD_DEV_OK);
    assert_int_equal(rig.disk[0]->mem_ready, 6000000);
    assert_int_equal(rig.disk[1]->mem_ready, 6000000);
    ssd_rig_close(&rig, 1);
    ssd_rig_free(&rig);
}

/* It returns only in the next run: by then it has missed one. */
static void vanished_until_restart(void **state) {
    (void)state;
    ssd_rig_open(&rig, 2, 8, SEGMENT, 3, 1);
    put_many(40);
    uint32_t on_first = rig.ssd->devs[0]->live;
    rig.disk[1]->gone = 1;
    until_state(1, YK_SSD_DEV_GONE);
    ssd_rig_settle(&rig);
    ssd_rig_close(&rig, 0);
    rig.disk[1]->gone = 0;
    assert_int_equal(ssd_rig_start(&rig), 0);
    assert_int_equal(found_count(), on_first);
    assert_non_null(strstr(yk_ssd_note(rig.ssd, 1), "starts empty"));
    ssd_rig_close(&rig, 1);
    ssd_rig_free(&rig);
}

/* A key was removed on both devices, one after the other; only the second has it durable. */
static void removed_on_both(void **state) {
    (void)state;
    ssd_rig_open(&rig, 2, 8, SEGMENT, 3, 0);
    rig.eager = 1;
    assert_int_equal(ssd_rig_put(&rig, 0, 1, 20000, 0), 0);
    ssd_rig_settle(&rig);
    rig.disk[rig.v[0].device]->stuck = 1;
    ssd_rig_remove(&rig, 0, 1);
    while (rig.nv < 2 || rig.v[rig.nv - 1].device == rig.v[0].device) {
        assert_true(rig.nv < 10);
        ssd_rig_remove(&rig, 0, 1);
        assert_int_equal(ssd_rig_put(&rig, 0, 1, 20000, 0), 0);
    }
    ssd_rig_remove(&rig, 0, 1);
    const struct version *first = &rig.v[0], *last = &rig.v[rig.nv - 1];
    for (uint32_t n = 0; yk_ssd_durable(rig.ssd, last->ticket) != 1; n++) {
        assert_true(n < 10000);
        ssd_rig_turn(&rig, 0);
    }
    assert_int_equal(yk_ssd_durable(rig.ssd, first->ticket), 0);
    uint64_t ticket = ssd_rig_pending(&rig, 0, 1);
    assert_true(ticket != 0);
    assert_int_equal(yk_ssd_durable(rig.ssd, ticket), 0);
    rig.disk[first->device]->stuck = 0;
    ssd_rig_settle(&rig);
    assert_int_equal(yk_ssd_durable(rig.ssd, ticket), 1);
    assert_int_equal(ssd_rig_pending(&rig, 0, 1), 0);
    ssd_rig_close(&rig, 1);
    ssd_rig_free(&rig);
}

/* What is removed while one of two is gone, and was on that one, is acknowledged when the other has recorded
 * that the first has missed it. At any cut both are back. */
static void removed_while_one_is_gone(void **state) {
    (void)state;
    unsigned char *images[RIG_DISKS];
    uint32_t i = 0, id;
    ssd_rig_open(&rig, 2, 8, SEGMENT, 3, 1);
    put_many(8);
    while (rig.v[i].device != 1)
        assert_true(++i < rig.nv);
    struct version *v = &rig.v[i];
    rig.lenient = 1;
    uint32_t from = disk_clock;
    assert_int_equal(ssd_rig_pending(&rig, 0, v->key), 0);
    yk_ssd_dev_gone(rig.ssd->devs[1], "the test says so");
    assert_int_equal(yk_ssd_hole(rig.ssd), 1);
    assert_false(ssd_rig_find(&rig, 0, v->key, &id));
    v->removed = disk_clock;
    v->ticket = ssd_rig_pending(&rig, 0, v->key);
    assert_true(v->ticket != 0);
    assert_int_equal(yk_ssd_durable(rig.ssd, v->ticket), 0);
    rig.live[0][v->key] = 0;
    ssd_rig_settle(&rig);
    assert_true(v->removed_acked != RIG_NEVER);
    assert_int_equal(yk_ssd_hole(rig.ssd), 0);
    assert_int_equal(ssd_rig_pending(&rig, 0, v->key), 0);
    for (unsigned k = 0; k < 2; k++)
        images[k] = malloc(rig.disk[k]->size);
    for (uint32_t at = from; at <= disk_clock; at++) {
        for (uint64_t seed = 0; seed < 3; seed++) {
            for (unsigned k = 0; k < 2; k++)
                disk_cut(rig.disk[k], at, seed == 0 ? 0 : seed + k, images[k]);
            uint32_t clock = disk_clock;
            ssd_rig_judge(&rig, images, at, 1, 0);
            disk_clock = clock;
        }
    }
    for (unsigned k = 0; k < 2; k++)
        free(images[k]);
    ssd_rig_close(&rig, 1);
    ssd_rig_free(&rig);
}

static void replaced_meanwhile(void **state) {
    (void)state;
    ssd_rig_open(&rig, 1, 8, SEGMENT, 3, 1);
    put_many(10);
    rig.disk[0]->gone = 1;
    until_state(0, YK_SSD_DEV_GONE);
    ssd_rig_settle(&rig);
    assert_int_equal(yk_ssd_hole(rig.ssd), 1);
    memset(rig.disk[0]->image, 0x5a, rig.disk[0]->size);
    rig.disk[0]->gone = 0;
    for (uint32_t n = 0; n < 200; n++) {
        rig.ssd->devs[0]->ret_at_ms = 0;
        ssd_rig_turn(&rig, 1);
    }
    assert_int_equal(rig.ssd->devs[0]->state, YK_SSD_DEV_GONE);
    assert_non_null(strstr(yk_ssd_note(rig.ssd, 0), "something else"));
    for (uint64_t i = 0; i < rig.disk[0]->size; i++)
        assert_int_equal(rig.disk[0]->image[i], 0x5a);
    ssd_rig_close(&rig, 1);
    ssd_rig_free(&rig);
}

static void does_not_answer(void **state) {
    (void)state;
    ssd_rig_open(&rig, 1, 8, SEGMENT, 3, 1);
    put_many(10);
    assert_int_equal(ssd_rig_put(&rig, 0, 20, 20000, 0), 0);
    ssd_rig_read(&rig, 0, 5);
    rig.disk[0]->stuck = 1;
    until_state(0, YK_SSD_DEV_GONE);
    for (uint32_t n = 0; n < 200; n++)
        ssd_rig_turn(&rig, 1);
    assert_false(rig.v[10].ended); /* the device has its memory still */
    assert_int_equal(found_count(), 0);
    rig.disk[0]->stuck = 0;
    ssd_rig_settle(&rig);
    assert_true(rig.v[10].ended);
    until_state(0, YK_SSD_DEV_OK);
    assert_int_equal(found_count(), 0);
    put_many(10);
    assert_int_equal(found_count(), 10);
    ssd_rig_close(&rig, 1);
    ssd_rig_free(&rig);
}

/* Whoever sleeps until something is asked of the tier must not while a removal is on its way, though no block
 * is written or read. */
static void a_removal_under_way_is_busy(void **state) {
    (void)state;
    ssd_rig_open(&rig, 1, 8, SEGMENT, 3, 0);
    put_many(10);
    assert_int_equal(yk_ssd_busy(rig.ssd), 0);
    ssd_rig_remove(&rig, 0, 3);
    assert_int_equal(yk_ssd_busy(rig.ssd), 1);
    rig.disk[0]->slow = 1;
    for (uint32_t n = 0; yk_ssd_durable(rig.ssd, rig.v[3].ticket) == 0; n++) {
        assert_int_equal(yk_ssd_busy(rig.ssd), 1);
        ssd_rig_turn(&rig, 0);
        assert_true(n < 10000);
    }
    ssd_rig_settle(&rig);
    assert_int_equal(yk_ssd_busy(rig.ssd), 0);
    ssd_rig_close(&rig, 1);
    ssd_rig_free(&rig);
}

static void read_only_serves(void **state) {
    (void)state;
    ssd_rig_open(&rig, 1, 8, SEGMENT, 3, 1);
    put_many(10);
    yk_ssd_dev_read_only(rig.ssd->devs[0], "the test says so");
    assert_int_equal(yk_ssd_may_put(rig.ssd, 100), -YK_EIO);
    assert_int_equal(found_count(), 10);
    ssd_rig_check(&rig);
    ssd_rig_remove(&rig, 0, 3);
    assert_int_equal(yk_ssd_durable(rig.ssd, rig.v[3].ticket), -YK_EIO);
    assert_int_equal(found_count(), 9);
    ssd_rig_close(&rig, 1);
    ssd_rig_free(&rig);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(foreign_content),
        cmocka_unit_test(foreign_end),
        cmocka_unit_test(too_small),
        cmocka_unit_test(other_node),
        cmocka_unit_test(other_name),
        cmocka_unit_test(other_cluster),
        cmocka_unit_test(of_no_cluster),
        cmocka_unit_test(other_version),
        cmocka_unit_test(damaged_superblocks),
        cmocka_unit_test(cut_short),
        cmocka_unit_test(cut_short_and_grown_again),
        cmocka_unit_test(one_of_two_is_cut_short),
        cmocka_unit_test(grown),
        cmocka_unit_test(a_damaged_end_is_no_cut),
        cmocka_unit_test(a_device_without_an_end),
        cmocka_unit_test(lost_checkpoints),
        cmocka_unit_test(missed_run),
        cmocka_unit_test(killed_openings),
        cmocka_unit_test(one_of_two_vanishes),
        cmocka_unit_test(others_look_while_it_returns),
        cmocka_unit_test(memory_is_registered_again_after_a_return),
        cmocka_unit_test(vanished_until_restart),
        cmocka_unit_test(removed_on_both),
        cmocka_unit_test(removed_while_one_is_gone),
        cmocka_unit_test(replaced_meanwhile),
        cmocka_unit_test(does_not_answer),
        cmocka_unit_test(a_removal_under_way_is_busy),
        cmocka_unit_test(read_only_serves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
