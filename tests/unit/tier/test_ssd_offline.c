/* SPDX-License-Identifier: Apache-2.0
 *
 * The offline reader finds what the tier wrote, by itself; and damage of any kind is told and no more.
 */
#include "ssd_rig.h"

#include "tier/ssd/offline.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <yolk/status.h>

#define SEGMENT  (64u << 10)
#define SEGMENTS 12u

static struct ssd_rig rig;
static char path[128];

static void file_write(void) {
    const char *tmp = getenv("TMPDIR");
    snprintf(path, sizeof(path), "%s/yolk-offline-%d", tmp != NULL ? tmp : "/var/tmp",
             (int)getpid());
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, rig.disk[0]->image, rig.disk[0]->size), (ssize_t)rig.disk[0]->size);
    close(fd);
}

struct sums {
    struct yk_ssd_offline *off;
    uint64_t good, bad, unreadable, known;
};

/* Is it a version that the model put, with its bytes? */
static int look(void *arg, uint64_t segment, const struct yk_ssd_rec *rec) {
    struct sums *s = arg;
    if (rec->type != YK_SSD_REC_BLOCK)
        return 0;
    int rc = yk_ssd_offline_payload(s->off, segment, rec);
    s->good += rc == 0;
    s->bad += rc == -YK_ECORRUPT;
    s->unreadable += rc == -YK_EIO;
    for (uint32_t i = 0; i < rig.nv; i++) {
        if (rig.v[i].sum == rec->sum && rig.v[i].len == rec->len) {
            s->known++;
            break;
        }
    }
    return 0;
}

static uint64_t damage(struct sums *s) {
    struct yk_err err = {0};
    uint64_t n = 0;
    memset(s, 0, sizeof(*s));
    int rc = yk_ssd_offline_open(path, &s->off, &err);
    if (rc < 0) {
        assert_true(strlen(err.text) > 0);
        return UINT64_MAX;
    }
    const struct yk_ssd_offline_info *info = yk_ssd_offline_info(s->off);
    for (unsigned i = 0; i < 2; i++)
        n += (uint64_t)(info->super_part[i] != YK_SSD_PART_GOOD) +
             (uint64_t)(info->ckpt_part[i] != YK_SSD_PART_GOOD);
    for (uint64_t i = 0; i < info->segments; i++) {
        struct yk_ssd_offline_segment seg;
        assert_int_equal(yk_ssd_offline_segment(s->off, i, look, s, &seg), 0);
        n += seg.damaged + seg.unreadable;
    }
    yk_ssd_offline_close(s->off);
    return n + s->bad + s->unreadable;
}

static void set_up(uint64_t seed, int clean) {
    ssd_rig_open(&rig, 1, SEGMENTS, SEGMENT, seed, 0);
    for (uint32_t i = 0; i < 1500; i++)
        ssd_rig_random(&rig);
    ssd_rig_settle(&rig);
    ssd_rig_close(&rig, clean);
    file_write();
}

static void finds_everything(void **state) {
    (void)state;
    for (int clean = 0; clean < 2; clean++) {
        struct sums s;
        set_up(7, clean);
        assert_int_equal(damage(&s), 0);
        assert_true(s.good > 20);
        assert_int_equal(s.known, s.good);
        struct yk_ssd_offline *off;
        assert_int_equal(yk_ssd_offline_open(path, &off, NULL), 0);
        const struct yk_ssd_offline_info *info = yk_ssd_offline_info(off);
        assert_int_equal(info->ckpt.clean, clean);
        assert_int_equal(info->segments, SEGMENTS);
        yk_ssd_offline_close(off);
        unlink(path);
        ssd_rig_free(&rig);
    }
}

static void tells_of_damage(void **state) {
    (void)state;
    struct sums s;
    set_up(8, 1);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    uint64_t seed = 1, told = 0;
    for (uint32_t i = 0; i < 400; i++) {
        uint64_t at = disk_random(&seed) % rig.disk[0]->size;
        if (i % 2) /* the records */
            at = (1u << 20) + (disk_random(&seed) % SEGMENTS + 1) * SEGMENT - 1 -
                 disk_random(&seed) % 600;
        unsigned char bit = (unsigned char)(rig.disk[0]->image[at] ^ 1u << i % 8);
        assert_int_equal(pwrite(fd, &bit, 1, (off_t)at), 1);
        told += damage(&s) != 0;
        assert_int_equal(s.known, s.good + s.bad);
        assert_int_equal(pwrite(fd, &rig.disk[0]->image[at], 1, (off_t)at), 1);
    }
    /* How many hit something depends on how full the cleaner left the device; not to be vacuous. */
    assert_true(told > 20);
    for (uint32_t cut = 0; cut < 40; cut++) { /* a file that was cut short */
        assert_int_equal(ftruncate(fd, (off_t)(rig.disk[0]->size - cut * rig.disk[0]->size / 40)),
                         0);
        assert_true((damage(&s) != 0) || cut == 0);
    }
    for (uint32_t i = 0; i < 40; i++) { /* whole pieces of noise */
        file_write();
        unsigned char noise[8192];
        for (size_t k = 0; k < sizeof(noise); k++)
            noise[k] = (unsigned char)disk_random(&seed);
        uint64_t at = disk_random(&seed) % (rig.disk[0]->size - sizeof(noise));
        int other = open(path, O_RDWR);
        assert_int_equal(pwrite(other, noise, sizeof(noise), (off_t)at), (ssize_t)sizeof(noise));
        close(other);
        damage(&s);
    }
    close(fd);
    unlink(path);
    ssd_rig_free(&rig);
}

/* Every byte of a footer's end and of a header, of segments that have both: a start needs only one of them,
 * and the tool tells of either. */
static void tells_of_every_byte(void **state) {
    (void)state;
    struct sums s;
    uint32_t sealed = 0;
    set_up(8, 1);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    for (uint64_t i = 0; i < SEGMENTS; i++) {
        const unsigned char *seg = rig.disk[0]->image + (1u << 20) + i * SEGMENT;
        struct yk_ssd_foot foot;
        struct yk_ssd_super super;
        uint32_t version;
        assert_int_equal(yk_ssd_super_get(rig.disk[0]->image, &super, &version), 0);
        if (yk_ssd_foot_peek(seg + SEGMENT - YK_SSD_SECTOR, super.uid, SEGMENT, &foot) < 0 ||
            foot.count == 0)
            continue;
        sealed++;
        for (uint32_t k = 0; k < YK_SSD_TAIL_BYTES + YK_SSD_HEAD_BYTES; k++) {
            uint64_t at = (uint64_t)(seg - rig.disk[0]->image) +
                          (k < YK_SSD_TAIL_BYTES ? SEGMENT - YK_SSD_TAIL_BYTES + k
                                                 : k - YK_SSD_TAIL_BYTES);
            unsigned char byte = (unsigned char)(rig.disk[0]->image[at] ^ (k % 2 ? 0xff : 0x10));
            assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
            if (damage(&s) == 0)
                fail_msg("nothing is told of byte %u of segment %u", k, (unsigned)i);
            assert_int_equal(pwrite(fd, &rig.disk[0]->image[at], 1, (off_t)at), 1);
        }
    }
    assert_true(sealed > 2);
    assert_int_equal(damage(&s), 0);
    close(fd);
    unlink(path);
    ssd_rig_free(&rig);
}

static void says_what_it_is_not(void **state) {
    (void)state;
    struct yk_ssd_offline *off;
    struct yk_err err;
    assert_int_equal(yk_ssd_offline_open("/nonexistent/x", &off, &err), -YK_ENOENT);
    assert_int_equal(yk_ssd_offline_open("/", &off, &err), -YK_EINVAL);
    assert_non_null(strstr(err.text, "is a directory"));
    set_up(9, 1);
    memset(rig.disk[0]->image, 0, rig.disk[0]->size);
    file_write();
    assert_int_equal(yk_ssd_offline_open(path, &off, &err), -YK_EPERM);
    assert_non_null(strstr(err.text, "zeros"));
    memcpy(rig.disk[0]->image, "XFSB", 4);
    file_write();
    assert_int_equal(yk_ssd_offline_open(path, &off, &err), -YK_EPERM);
    assert_non_null(strstr(err.text, "XFS"));
    unlink(path);
    ssd_rig_free(&rig);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_everything),
        cmocka_unit_test(tells_of_damage),
        cmocka_unit_test(tells_of_every_byte),
        cmocka_unit_test(says_what_it_is_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
