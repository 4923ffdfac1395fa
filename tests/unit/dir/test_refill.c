/* SPDX-License-Identifier: Apache-2.0
 *
 * Whole nodes and a real etcd that comes back empty: terms that only a node's log of removes knows count (R11).
 */
#include "../meta/etcd_rig.h"
#include "service_rig.h"

#include "dir/map.h"
#include "dir/rlog.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TERM 1000u /* no map ever had it */

static struct cluster etcd;

static int setup(void **state) {
    (void)state;
    struct yk_meta *embedded;
    cluster_start(&etcd, 1, false, NULL);
    rig.data_bytes = 0;
    rig_open(&rig);
    embedded = rig.meta;
    rig.meta = cluster_open(&etcd, -1, NULL);
    yk_meta_close(embedded);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    rig_close(&rig);
    cluster_stop(&etcd);
    return 0;
}

/* As if the node had taken part in a term of that slot, and the map of it were lost with etcd and its owner's disk. */
static void log_knows(unsigned node, uint32_t slot, uint64_t term) {
    struct yk_dir_rlog_opts o = {0};
    struct yk_dir_rlog_io io;
    struct yk_dir_rlog *log;
    struct yk_err err = {0};
    char path[160];
    uint64_t ticket;
    snprintf(path, sizeof(path), "%s/n%u/removes", rig.dir, node);
    o.path = path;
    if (yk_dir_rlog_open(&o, &log, NULL, &err) != 0)
        fail_msg("%s", err.text);
    assert_int_equal(yk_dir_rlog_seen(log, slot, term, &ticket), 0);
    assert_int_equal(yk_dir_rlog_begin(log, &io), 1);
    yk_dir_rlog_io(&io);
    assert_int_equal(yk_dir_rlog_end(log, &io, &err), 0);
    yk_dir_rlog_close(log);
}

/* As the node's disk has it. */
static uint64_t term_of(unsigned node, uint32_t slot) {
    static unsigned char bytes[256 << 10];
    struct yk_dir_map *map = NULL;
    struct yk_err err = {0};
    char path[160];
    snprintf(path, sizeof(path), "%s/n%u/map", rig.dir, node);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t len = fread(bytes, 1, sizeof(bytes), f);
    fclose(f);
    if (yk_dir_map_decode(bytes, len, &map, &err) < 0)
        fail_msg("%s", err.text);
    uint64_t term = map->slot[slot].term;
    free(map);
    return term;
}

/* The node that knows it comes when etcd is filled already: until the map is higher it takes nothing from the slot's
 * owner, so it could never catch up with it. */
static void a_term_that_one_log_knows_is_outgrown(void **state) {
    (void)state;
    uint32_t slot = yk_dir_slot_of(yk_dir_hash("default", 7, "key", 3));
    rig_start(&rig, 0);
    rig_start(&rig, 1);
    rig_until_members(&rig, 0, 2);
    rig_put(&rig, 0, "key", 4000);
    rig_stop(&rig, 1);
    rig_until_members(&rig, 0, 1);
    log_knows(1, slot, TERM);
    member_kill(&etcd, 0);
    member_wipe(&etcd, 0);
    member_start(&etcd, 0);
    rig_start(&rig, 1);
    rig_until_members(&rig, 0, 2);
    assert_true(term_of(1, slot) > TERM);
    rig_until_exists(&rig, 1, "key", 1);
    rig_until_got(&rig, 1, "key", 4000);
    rig_until_removed(&rig, 1, "key");
    assert_int_equal(rig_get(&rig, 0, "key", 4000), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_term_that_one_log_knows_is_outgrown, setup, teardown),
    };
    if (cluster_missing() != NULL) {
        printf("1..0 # SKIP %s\n", cluster_missing());
        return 77;
    }
    return cmocka_run_group_tests_name("dir_refill", tests, NULL, NULL);
}
