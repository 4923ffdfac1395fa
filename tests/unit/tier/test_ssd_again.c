/* SPDX-License-Identifier: Apache-2.0
 *
 * Removals whose tombstone was lost, but not the block that was put under the key afterwards: two devices,
 * or two batches of one, of which a power cut kept the later. The older record is still on the device; it
 * must not be found when the younger one is removed and cleaned away.
 */
#include "ssd_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <yolk/status.h>

#define KEY     13u
#define LENGTH  (16u << 10)
#define SEGMENT (256u << 10)

static struct ssd_rig rig;

/* The model begins anew with what is found. */
static void opened_again(void) {
    rig.opts.now_ms = rig.now_ms;
    rig.lenient = 1;
    for (uint32_t k = 0; k < rig.nv; k++)
        rig.v[k].ticket = 0;
    memset(rig.live, 0, sizeof(rig.live));
    rig.nv = rig.nchanges = 0;
    assert_int_equal(ssd_rig_start(&rig), 0);
}

static int found(uint32_t key) {
    uint32_t id;
    return ssd_rig_find(&rig, 0, key, &id);
}

static void put(uint32_t ns, uint32_t key, uint64_t len) {
    uint32_t turns = 0;
    while (ssd_rig_put(&rig, ns, key, len, 0) == -YK_EAGAIN) {
        ssd_rig_turn(&rig, 1);
        assert_true(++turns < 50000);
    }
    ssd_rig_settle(&rig);
}

/* What was found at the last opening is no version of the model. */
static void remove_found(uint32_t ns, uint32_t key) {
    uint32_t id;
    if (!ssd_rig_find(&rig, ns, key, &id))
        return;
    uint64_t ticket = yk_ssd_remove(rig.ssd, id, ++rig.gen);
    for (uint32_t n = 0; yk_ssd_durable(rig.ssd, ticket) == 0; n++) {
        ssd_rig_turn(&rig, 1);
        assert_true(n < 50000);
    }
    assert_int_equal(yk_ssd_durable(rig.ssd, ticket), 1);
}

/* Segments go round, but for those with the keys below KEY, which are used. */
static void others_go_round(void) {
    uint32_t id;
    for (uint32_t i = 0; i < 160; i++) {
        put(2, i % 4, 60u << 10);
        ssd_rig_remove(&rig, 2, i % 4);
        for (uint32_t key = 0; key < KEY; key++)
            if (ssd_rig_find(&rig, 0, key, &id))
                yk_ssd_touch(rig.ssd, id);
    }
    ssd_rig_settle(&rig);
}

static unsigned char *copy_of(const struct disk *d) {
    unsigned char *c = malloc(d->size);
    assert_non_null(c);
    memcpy(c, d->image, d->size);
    return c;
}

/* The segment to which something was written since the copy was made. */
static uint64_t written_to(const struct disk *d, const unsigned char *before) {
    uint64_t at = 1u << 20;
    while (at < d->size && memcmp(before + at, d->image + at, 4096) == 0)
        at += 4096;
    assert_true(at < d->size);
    return at - (at - (1u << 20)) % SEGMENT;
}

/* Puts what fills up until the next put goes to another device than this one. */
static void turn_from(uint8_t device) {
    for (uint32_t key = 10; rig.opts.dev_count > 1; key++) {
        assert_true(key < 20);
        put(1, key, 100);
        if (rig.v[rig.nv - 1].device == device)
            return;
    }
}

/* early: the younger one is removed before the cut, too; else after it. restarts: so often is it recovered
 * before anything is cleaned. */
static void lost_removal(unsigned disks, uint32_t segments, int early, unsigned restarts) {
    ssd_rig_open(&rig, disks, segments, SEGMENT, 1, 0);
    for (uint32_t key = 0; key <= KEY; key++) /* a segment of each disk, or most of one */
        put(0, key, LENGTH);
    const struct version *v = &rig.v[rig.nv - 1];
    struct disk *d = rig.disk[v->device];
    uint8_t device = v->device;
    for (uint32_t key = 0; key < 4 * disks; key++) /* the tombstone comes into another one */
        put(1, key, 60u << 10);
    unsigned char *before = copy_of(d);
    ssd_rig_remove(&rig, 0, KEY);
    ssd_rig_settle(&rig);
    uint64_t lost = written_to(d, before);
    for (uint32_t key = 20; disks == 1 && key < 24; key++) /* and the younger one into a third */
        put(1, key, 60u << 10);
    turn_from(device);
    put(0, KEY, LENGTH);
    assert_true(disks == 1 || rig.v[rig.nv - 1].device != device);
    if (early) {
        ssd_rig_remove(&rig, 0, KEY);
        ssd_rig_settle(&rig);
    }
    ssd_rig_close(&rig, 0);
    memcpy(d->image + lost, before + lost, SEGMENT);
    free(before);
    for (unsigned i = 0; i < restarts; i++) {
        opened_again();
        assert_int_equal(found(KEY), !early && i == 0);
        if (!early && i == 0)
            remove_found(0, KEY);
        if (i + 1 < restarts)
            ssd_rig_close(&rig, 0);
    }
    for (uint32_t key = 0; key < RIG_KEYS; key++)
        remove_found(1, key);
    others_go_round();
    ssd_rig_close(&rig, 0);
    opened_again();
    for (uint32_t key = 0; segments >= 9 && key < KEY; key++)
        assert_true(found(key));
    assert_false(found(KEY));
    ssd_rig_close(&rig, 1);
    ssd_rig_free(&rig);
}

static void lost_in_another_batch(void **state) {
    (void)state;
    for (unsigned restarts = 1; restarts <= 3; restarts++) {
        lost_removal(1, 9, 0, restarts);
        lost_removal(1, 9, 1, restarts);
    }
}

static void lost_on_another_device(void **state) {
    (void)state;
    for (unsigned restarts = 1; restarts <= 3; restarts++) {
        lost_removal(2, 9, 0, restarts);
        lost_removal(2, 9, 1, restarts);
    }
}

/* What is recorded again finds room where hardly any is free, and cleaning goes on. */
static void lost_on_a_full_device(void **state) {
    (void)state;
    for (uint32_t segments = 5; segments < 9; segments++)
        for (int early = 0; early < 2; early++)
            lost_removal(1, segments, early, 1);
}

static int writes(const struct yk_file_req *r) {
    return r->op == YK_FILE_WRITE;
}

/* The table has no room for a record, of a device that cannot be written any more; what is put under its key on
 * the other one is removed, and cleaned away. */
static void forgotten_for_a_limit(void **state) {
    (void)state;
    ssd_rig_open(&rig, 2, 9, SEGMENT, 1, 0);
    put(0, KEY, LENGTH);
    uint8_t device = rig.v[0].device;
    for (uint32_t key = 0; key < 10; key++)
        put(1, key, 100);
    for (uint32_t key = 0; key < KEY; key++)
        put(0, key, LENGTH);
    ssd_rig_close(&rig, 1);
    rig.opts.capacity_blocks = 10 + KEY;
    opened_again();
    assert_false(found(KEY));
    rig.disk[device]->fails = writes;
    struct yk_ssd_dev_stats st = {.state = YK_SSD_DEV_OK};
    for (uint32_t n = 0; st.state != YK_SSD_DEV_READ_ONLY; n++) {
        assert_true(n < 1000);
        put(1, 20 + n % 30, 100);
        ssd_rig_remove(&rig, 1, 20 + n % 30);
        ssd_rig_settle(&rig);
        yk_ssd_dev_stats_get(rig.ssd, device, &st);
    }
    put(0, KEY, LENGTH);
    assert_true(found(KEY));
    assert_int_not_equal(rig.v[rig.nv - 1].device, device);
    remove_found(0, KEY);
    others_go_round();
    ssd_rig_close(&rig, 0);
    rig.disk[device]->fails = NULL;
    rig.opts.capacity_blocks = 0;
    opened_again();
    assert_false(found(KEY));
    ssd_rig_close(&rig, 1);
    ssd_rig_free(&rig);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lost_in_another_batch),
        cmocka_unit_test(lost_on_another_device),
        cmocka_unit_test(lost_on_a_full_device),
        cmocka_unit_test(forgotten_for_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
