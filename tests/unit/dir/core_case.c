/* SPDX-License-Identifier: Apache-2.0
 *
 * core_case.h.
 */
#include "core_case.h"

struct rig *cluster(int nodes) {
    struct rig *r = rig_new(1, nodes);
    assert_null(r->failed);
    return r;
}

void settle(struct rig *r) {
    rig_run(r, WHILE_MS);
    if (r->failed != NULL)
        fail_msg("%s: %s", r->failed, r->text);
}

void put(struct rig *r, int n, int k) {
    assert_int_equal(rig_put(r, n, k, rig_key[k].hash), 1);
}

void move(struct rig *r, int slot, int to) {
    rig_open_map(r);
    assert_int_equal(yk_dir_map_move(r->map, rig_slot[slot], (uint32_t)to), 0);
    rig_close_map(r);
}

void expel(struct rig *r, int n) {
    rig_open_map(r);
    assert_int_equal(yk_dir_map_expel(r->map, (uint32_t)n), 0);
    rig_close_map(r);
}

int remove_key(struct rig *r, int n, int k) {
    int token = rig_begin_remove(r, n, k, 60 * 1000);
    assert_in_range(token, 0, REMOVES);
    return token;
}

struct yk_dir_found find(struct rig *r, int n, int k, uint64_t group) {
    struct yk_dir_found f;
    struct yk_dir_key key = rig_key_of(k);
    yk_dir_core_find(r->node[n].core, &key, 1, group, &f);
    return f;
}

/* A message as another core would send it. */
struct yk_dir_msg about(const struct rig *r, unsigned kind, int slot, uint64_t term) {
    (void)r;
    return (struct yk_dir_msg){.kind = (uint8_t)kind, .slot = (uint16_t)rig_slot[slot], .cluster = CLUSTER, .term = term};
}

int deliver(struct rig *r, int from, int to, struct yk_dir_msg msg, const struct yk_dir_record *record,
            struct yk_err *err) {
    static unsigned char buf[YK_DIR_MESSAGE_MAX];
    struct yk_wr w;
    yk_dir_msg_begin(&w, buf, &msg);
    if (record != NULL)
        yk_dir_msg_record(&w, record);
    uint32_t len = yk_dir_msg_finish(&w, &msg, record != NULL);
    return yk_dir_core_message(r->node[to].core, (uint32_t)from, r->node[from].core->me->incarnation, buf, len,
                               r->now_ms, err);
}
