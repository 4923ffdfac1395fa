/* SPDX-License-Identifier: Apache-2.0
 *
 * One flipped bit on a device, anywhere: it opens, everything found has its bytes, and nothing that was
 * acknowledged as removed comes back, although the bit may be in the record of the removal. Devices
 * that were closed, and such as a kill leaves behind, whose last segments have no footer.
 */
#include "ssd_rig.h"

#include "tier/ssd/format.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <yolk/status.h>

#define SEGMENT  (64u << 10)
#define SEGMENTS 9u

static struct ssd_rig rig;

static void flip(unsigned char *image, uint64_t at) {
    unsigned char bit = (unsigned char)(1u << disk_random(&rig.seed) % 8);
    image[at] ^= bit;
    ssd_rig_judge(&rig, &image, disk_clock + 1, (int)(disk_random(&rig.seed) % 2), 0);
    image[at] ^= bit;
}

/* Somewhere in so many bytes; sums and first fields more often than the rest. */
static uint64_t somewhere(uint64_t at, uint64_t bytes) {
    switch (disk_random(&rig.seed) % 3) {
    case 0:
        return at + disk_random(&rig.seed) % 96;
    case 1:
        return at + bytes - 1 - disk_random(&rig.seed) % 72;
    default:
        return at + disk_random(&rig.seed) % bytes;
    }
}

static void flip_everywhere(unsigned char *image, uint32_t times) {
    for (uint32_t i = 0; i < times; i++) {
        flip(image, somewhere(YK_SSD_SUPER_AT(i % 2), YK_SSD_SECTOR));
        flip(image, somewhere(YK_SSD_CKPT_AT(i % 2), YK_SSD_CKPT_BYTES));
        uint64_t segment = YK_SSD_SEGMENTS_AT + i % SEGMENTS * SEGMENT;
        flip(image, somewhere(segment, YK_SSD_SECTOR));
        flip(image, somewhere(segment + SEGMENT - YK_SSD_SECTOR, YK_SSD_SECTOR));
        flip(image, segment + disk_random(&rig.seed) % SEGMENT);
    }
    /* Every sector of what a kill left unsealed may begin a batch. */
    for (uint64_t at = YK_SSD_SEGMENTS_AT; at < YK_SSD_SEGMENTS_AT + SEGMENTS * SEGMENT;
         at += YK_SSD_SECTOR)
        for (uint32_t i = 0; i < 4; i++)
            flip(image, at + disk_random(&rig.seed) % (i < 3 ? 80 : 2048));
}

static void closed(void **state) {
    (void)state;
    ssd_rig_open(&rig, 1, SEGMENTS, SEGMENT, 21, 1);
    rig.max_large = 12u << 10;
    for (uint32_t i = 0; i < 1500; i++)
        ssd_rig_random(&rig);
    ssd_rig_settle(&rig);
    ssd_rig_close(&rig, 1);
    flip_everywhere(rig.disk[0]->image, 60);
    ssd_rig_free(&rig);
}

static void killed(void **state) {
    (void)state;
    for (uint64_t seed = 31; seed < 34; seed++) {
        ssd_rig_open(&rig, 1, SEGMENTS, SEGMENT, seed, 1);
        rig.max_large = 12u << 10;
        for (uint32_t i = 0; i < 1000 + 50 * seed; i++)
            ssd_rig_random(&rig);
        for (uint32_t i = 0; i < 400; i++)
            ssd_rig_turn(&rig, 0);
        unsigned char *image = malloc(rig.disk[0]->size);
        assert_non_null(image);
        memcpy(image, rig.disk[0]->image, rig.disk[0]->size);
        flip_everywhere(image, 30);
        free(image);
        ssd_rig_close(&rig, 0);
        ssd_rig_free(&rig);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(closed),
        cmocka_unit_test(killed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
