/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzz target: messages between the cores of a cluster. The input is messages, each with who sends it and its
 * length; they go to a core that owns half of some slots, one after the other. What is refused has a text; what the
 * core asks to be done is done; what it sends can be read.
 *
 * Thread: one.
 */
#include "dir/core_msg.h"
#include "dir/map.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CLUSTER = 7, ASKED = 4096, SLOTS = 8 }; /* with an owner; more are slow to begin with */

static struct asked {
    uint64_t token[ASKED];
    unsigned count;
} asked;

static void check_items(const struct yk_dir_msg *msg) {
    struct yk_rd r = msg->items;
    struct yk_dir_change change;
    struct yk_dir_record record;
    unsigned kind = msg->kind;
    for (uint32_t i = 0; i < msg->count; i++)
        if (kind == YK_DIR_PUBLISH || kind == YK_DIR_SNAPSHOT)
            yk_dir_msg_next_change(&r, &change);
        else if (kind == YK_DIR_ACK)
            yk_rd_u64(&r);
        else
            yk_dir_msg_next_record(&r, &record);
    if (!yk_rd_ok(&r))
        abort();
}

static void on_send(void *arg, uint32_t member, const void *message, uint32_t len) {
    struct yk_dir_msg msg;
    (void)arg;
    if (member == 1 || yk_dir_msg_decode(message, len, &msg, NULL) < 0)
        abort();
    check_items(&msg);
}

static void note(uint64_t token) {
    if (asked.count == ASKED)
        abort(); /* the inputs are too short for so many */
    asked.token[asked.count++] = token;
}

static int on_apply(void *arg, const struct yk_dir_key *key, uint64_t gen, uint64_t token) {
    (void)arg, (void)gen;
    if (key->key_len == 0)
        abort();
    note(token);
    return 0;
}

static int on_drop_slot(void *arg, uint32_t slot, uint64_t token) {
    (void)arg;
    if (slot >= YK_DIR_SLOTS)
        abort();
    note(token);
    return 0;
}

static void on_removed(void *arg, uint64_t token, int status, const uint32_t *missing, uint32_t count) {
    (void)arg, (void)token, (void)status, (void)missing, (void)count;
}

static void on_replayed(void *arg, uint64_t incarnation) {
    (void)arg, (void)incarnation;
}

static struct yk_dir_map *make_map(int returning) {
    struct yk_dir_map *map = yk_dir_map_new(CLUSTER);
    uint32_t id;
    if (map == NULL || yk_dir_map_join(map, "a", 1, &id) < 0 || yk_dir_map_join(map, "b", 1, &id) < 0)
        abort();
    map->member[0].state = returning ? YK_DIR_RETURNING : YK_DIR_MEMBER;
    map->member[1].state = YK_DIR_MEMBER;
    for (uint32_t s = 0; s < YK_DIR_SLOTS; s++)
        map->slot[s] = s < SLOTS ? (struct yk_dir_slot){.owner = 1 + (s % 2 || returning), .term = 1}
                                 : (struct yk_dir_slot){.owner = YK_DIR_NOBODY};
    return map;
}

static void feed(struct yk_dir_core *core, const uint8_t *data, size_t size) {
    struct yk_dir_key key = {"n", 1, "k", 1};
    uint64_t now_ms = 1000;
    yk_dir_core_remove(core, &key, 5000, 1, now_ms);
    while (size > 3) {
        size_t len = data[1] | (size_t)data[2] << 8;
        struct yk_err err = {0};
        len = len < size - 3 ? len : size - 3;
        int rc = yk_dir_core_message(core, 2, data[0] & 3, data + 3, (uint32_t)len, now_ms, &err);
        if (rc < 0 && (err.text[0] == '\0' || err.code != rc))
            abort();
        while (asked.count > 0 && !(data[0] & 4))
            yk_dir_core_applied(core, asked.token[--asked.count], data[0] & 8 ? YK_MISS : 0);
        if (data[0] & 16)
            yk_dir_core_tick(core, now_ms += 500);
        data += 3 + len;
        size -= 3 + len;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const struct yk_dir_core_opts opts = {
        .cluster = CLUSTER,
        .self = 1,
        .table_bytes = 16 << 20,
        .held_bytes = 16 << 20,
        .ops = {.send = on_send, .apply = on_apply, .drop_slot = on_drop_slot, .removed = on_removed, .replayed = on_replayed},
    };
    struct yk_dir_core *core;
    if (size < 1 || size > 16384)
        return 0;
    asked.count = 0;
    if (yk_dir_core_open(&opts, &core, NULL) < 0)
        return 0;
    struct yk_dir_map *map = make_map(data[0] & 1);
    yk_dir_core_map(core, map, 1000);
    yk_dir_core_known(core);
    feed(core, data + 1, size - 1);
    free(map);
    yk_dir_core_close(core);
    return 0;
}
