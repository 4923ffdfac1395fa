/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzz target: the cluster's map as it comes from etcd, a peer or the disk.
 *
 * The input is first decoded as it is. Since a map has a sum and 48 KiB of slots, it is then read as
 * damage to a good one: how many members, and pairs of (place, byte), after which the sum is made right.
 * What is accepted has one encoding, and goes on obeying the map's rules when it is changed.
 *
 * Thread: one.
 */
#include "base/hash.h"
#include "dir/map.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int holds) {
    if (!holds)
        abort();
}

static void check_same(const struct yk_dir_map *map, const void *bytes, size_t len) {
    require(yk_dir_map_bytes(map) == len);
    void *again = malloc(len);
    require(again != NULL);
    yk_dir_map_encode(map, again);
    require(memcmp(again, bytes, len) == 0);
    free(again);
}

/* The decoder checks them. */
static void check_rules(const struct yk_dir_map *map) {
    struct yk_dir_map *back = NULL;
    size_t len = yk_dir_map_bytes(map);
    void *bytes = malloc(len);
    require(bytes != NULL);
    yk_dir_map_encode(map, bytes);
    require(yk_dir_map_decode(bytes, len, &back, NULL) == 0);
    free(back);
    free(bytes);
}

static void change(struct yk_dir_map *map) {
    uint32_t id = 0, first = map->member_count > 0 ? map->member[0].id : 1;
    if (yk_dir_map_expel(map, first) == 0 && yk_dir_map_join(map, map->member[0].name, 0, &id) == 0)
        require(id == first);
    if (yk_dir_map_join(map, "fuzz", 5, &id) == 0)
        require(yk_dir_map_member(map, id)->incarnation >= 5);
    check_rules(map);
}

static void try_bytes(const void *bytes, size_t len) {
    struct yk_dir_map *map = NULL;
    struct yk_err err = {0};
    int rc = yk_dir_map_decode(bytes, len, &map, &err);
    if (rc < 0) {
        require(map == NULL && rc == err.code && err.text[0] != '\0' && strchr(err.text, '\n') == NULL);
        return;
    }
    check_same(map, bytes, len);
    change(map);
    free(map);
}

static struct yk_dir_map *good(unsigned members) {
    struct yk_dir_map *map = yk_dir_map_new(1);
    char name[16];
    uint32_t id;
    require(map != NULL);
    for (unsigned i = 0; i < members; i++) {
        snprintf(name, sizeof(name), "m%u", i);
        require(yk_dir_map_join(map, name, 0, &id) == 0);
        require(i == 0 || yk_dir_map_admit(map, id, 1) == 0);
    }
    return map;
}

static void damage(unsigned char *bytes, size_t len, const uint8_t *data, size_t size) {
    for (size_t i = 0; i + 3 <= size; i += 3)
        bytes[(data[i] | (size_t)data[i + 1] << 8) % len] = data[i + 2];
    uint64_t sum = yk_hash64(bytes, len - 8);
    for (unsigned i = 0; i < 8; i++)
        bytes[len - 8 + i] = (unsigned char)(sum >> (8 * i));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    try_bytes(data, size);
    if (size == 0)
        return 0;
    struct yk_dir_map *map = good(data[0] % 5);
    size_t len = yk_dir_map_bytes(map);
    unsigned char *bytes = malloc(len);
    require(bytes != NULL);
    yk_dir_map_encode(map, bytes);
    damage(bytes, len, data + 1, size - 1);
    try_bytes(bytes, len);
    free(bytes);
    free(map);
    return 0;
}
