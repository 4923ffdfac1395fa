/* SPDX-License-Identifier: Apache-2.0
 *
 * The cluster's map: what is written is what is read; nothing damaged is taken for a map; and whatever
 * changes come in whatever order, terms, incarnations, ids and expulsions only grow and each slot has an
 * owner that is a member.
 */
#include "dir/map.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct yk_dir_map *map_of(unsigned members) {
    struct yk_dir_map *map = yk_dir_map_new(0xc1);
    char name[16];
    uint32_t id;
    assert_non_null(map);
    for (unsigned i = 0; i < members; i++) {
        snprintf(name, sizeof(name), "node-%u", i);
        assert_int_equal(yk_dir_map_join(map, name, 0, &id), 0);
        assert_int_equal(id, i + 1);
        if (i > 0) /* the first is a member at once */
            assert_int_equal(yk_dir_map_admit(map, id, 1), 0);
    }
    return map;
}

static void *encoded(const struct yk_dir_map *map, size_t *ret_len) {
    *ret_len = yk_dir_map_bytes(map);
    void *bytes = malloc(*ret_len);
    assert_non_null(bytes);
    yk_dir_map_encode(map, bytes);
    return bytes;
}

static uint32_t owned(const struct yk_dir_map *map, uint32_t id) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < YK_DIR_SLOTS; i++)
        n += map->slot[i].owner == id;
    return n;
}

static void spread(struct yk_dir_map *map) {
    uint32_t n = map->member_count;
    for (uint32_t i = 0; i < YK_DIR_SLOTS; i++)
        assert_int_equal(yk_dir_map_move(map, i, map->member[i % n].id), 0);
}

/* ---- codec ------------------------------------------------------------------------------------ */

static void round_trip(const struct yk_dir_map *map) {
    struct yk_dir_map *back = NULL;
    struct yk_err err = {0};
    size_t len;
    void *bytes = encoded(map, &len);
    assert_in_range(len, 1, 200u << 10);
    if (yk_dir_map_decode(bytes, len, &back, &err) < 0)
        fail_msg("%s", err.text);
    assert_memory_equal(back, map, sizeof(*map));
    free(back);
    free(bytes);
}

static void test_round_trips(void **state) {
    static const unsigned counts[] = {0, 1, 3, YK_DIR_MEMBERS_MAX};
    for (unsigned i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        struct yk_dir_map *map = map_of(counts[i]);
        round_trip(map);
        if (counts[i] == 3) {
            spread(map);
            uint32_t id;
            assert_int_equal(yk_dir_map_drain(map, 1, 1), 0);
            assert_int_equal(yk_dir_map_expel(map, 2), 0);
            assert_int_equal(yk_dir_map_join(map, "node-1", UINT64_MAX, &id), 0);
            round_trip(map);
        }
        free(map);
    }
}

/* Every byte of each part of a map, and each of its bits in turn. */
static void test_no_flipped_byte_is_taken(void **state) {
    struct yk_dir_map *map = map_of(3), *back = NULL;
    size_t len;
    unsigned char *bytes = encoded(map, &len);
    for (size_t i = 0; i < len; i++) {
        struct yk_err err = {0};
        unsigned char was = bytes[i];
        bytes[i] ^= (unsigned char)(1u << (i % 8));
        int rc = yk_dir_map_decode(bytes, len, &back, &err);
        bytes[i] = was;
        if (rc != -YK_EPROTO && rc != -YK_EVERSION)
            fail_msg("byte %zu: %d", i, rc);
        assert_true(err.text[0] != '\0');
        assert_null(back);
    }
    free(bytes);
    free(map);
}

static void test_no_part_is_taken(void **state) {
    struct yk_dir_map *map = map_of(2), *back = NULL;
    size_t len;
    unsigned char *bytes = encoded(map, &len);
    for (size_t n = 0; n < len; n++) {
        unsigned char *part = malloc(n > 0 ? n : 1); /* of that size, so that a sanitizer sees its end */
        memcpy(part, bytes, n);
        assert_int_equal(yk_dir_map_decode(part, n, &back, NULL), -YK_EPROTO);
        free(part);
    }
    unsigned char *more = calloc(1, len + 1);
    memcpy(more, bytes, len);
    assert_int_equal(yk_dir_map_decode(more, len + 1, &back, NULL), -YK_EPROTO);
    assert_null(back);
    free(more);
    free(bytes);
    free(map);
}

static void test_newer_format_is_named(void **state) {
    struct yk_dir_map *map = map_of(1), *back = NULL;
    struct yk_err err = {0};
    size_t len;
    unsigned char *bytes = encoded(map, &len);
    bytes[4] = 7;
    assert_int_equal(yk_dir_map_decode(bytes, len, &back, &err), -YK_EVERSION);
    assert_non_null(strstr(err.text, "format 7"));
    assert_non_null(strstr(err.text, "up to 1"));
    free(bytes);
    free(map);
}

/* What has a right sum and breaks a rule: encode writes what it is given. */
static void refused(struct yk_dir_map *map, const char *why) {
    struct yk_dir_map *back = NULL;
    struct yk_err err = {0};
    size_t len;
    void *bytes = encoded(map, &len);
    assert_int_equal(yk_dir_map_decode(bytes, len, &back, &err), -YK_EPROTO);
    if (strstr(err.text, why) == NULL)
        fail_msg("'%s' lacks '%s'", err.text, why);
    free(bytes);
    free(map);
}

static struct yk_dir_map *with(void (*change)(struct yk_dir_map *map)) {
    struct yk_dir_map *map = map_of(3);
    change(map);
    return map;
}

static void no_cluster(struct yk_dir_map *map) {
    map->cluster = 0;
}
static void strange_owner(struct yk_dir_map *map) {
    map->slot[9].owner = 77;
}
static void expelled_owner(struct yk_dir_map *map) {
    map->member[0].state = YK_DIR_EXPELLED;
}
static void no_owner(struct yk_dir_map *map) {
    map->slot[4095].owner = YK_DIR_NOBODY;
}
static void no_term(struct yk_dir_map *map) {
    map->slot[0].term = 0;
}
static void nobody_is_in(struct yk_dir_map *map) {
    for (unsigned i = 0; i < 3; i++)
        map->member[i].state = YK_DIR_RETURNING;
}
static void id_of_the_future(struct yk_dir_map *map) {
    map->next_id = 3;
}
static void ids_in_disorder(struct yk_dir_map *map) {
    map->member[1].id = 1;
}
static void same_name(struct yk_dir_map *map) {
    strcpy(map->member[2].name, "node-0");
}
static void bad_name(struct yk_dir_map *map) {
    strcpy(map->member[2].name, "node/0");
}
static void no_name(struct yk_dir_map *map) {
    map->member[1].name[0] = '\0';
}
static void bad_state(struct yk_dir_map *map) {
    map->member[1].state = 4;
}
static void no_life(struct yk_dir_map *map) {
    map->member[1].incarnation = 0;
}

static void test_rules_are_checked(void **state) {
    refused(with(no_cluster), "cluster");
    refused(with(strange_owner), "slot 9 is owned by 77");
    refused(with(expelled_owner), "slot 0 is owned by 1");
    refused(with(no_owner), "slot 4095 is owned by 0");
    refused(with(no_term), "term 0");
    refused(with(nobody_is_in), "none of the map's 3 nodes is a member");
    refused(with(id_of_the_future), "id 3");
    refused(with(ids_in_disorder), "id 1, after 1");
    refused(with(same_name), "two members named node-0");
    refused(with(bad_name), "name of 6 bytes");
    refused(with(no_name), "name of 0 bytes");
    refused(with(bad_state), "state 4");
    refused(with(no_life), "incarnation 0");
    struct yk_dir_map *empty = map_of(0);
    empty->slot[3].term = 1;
    refused(empty, "slot 3");
}

/* ---- changes ---------------------------------------------------------------------------------- */

static void test_first_member_owns_all(void **state) {
    struct yk_dir_map *map = map_of(0);
    uint32_t id = 0;
    assert_int_equal(yk_dir_map_join(map, "a", 0, &id), 0);
    assert_int_equal(id, 1);
    assert_int_equal(owned(map, 1), YK_DIR_SLOTS);
    assert_int_equal(map->slot[0].term, 1);
    assert_int_equal(map->version, 1);
    assert_int_equal(map->member[0].state, YK_DIR_MEMBER);
    assert_int_equal(yk_dir_map_join(map, "b", 0, &id), 0);
    assert_int_equal(id, 2);
    assert_int_equal(map->member[1].state, YK_DIR_RETURNING); /* counted before it is a member */
    assert_int_equal(yk_dir_map_move(map, 0, 2), -YK_ENOENT);
    assert_int_equal(yk_dir_map_admit(map, 2, 1), 0);
    assert_int_equal(map->member[1].state, YK_DIR_MEMBER);
    assert_int_equal(owned(map, 1), YK_DIR_SLOTS); /* others get theirs by moves */
    assert_int_equal(map->slot[0].term, 1);
    free(map);
}

static void test_restart_raises_its_terms_alone(void **state) {
    struct yk_dir_map *map = map_of(2);
    uint32_t id;
    spread(map);
    struct yk_dir_map *was = yk_dir_map_copy(map);
    assert_int_equal(yk_dir_map_join(map, "node-0", 0, &id), 0);
    assert_int_equal(id, 1);
    assert_int_equal(map->member[0].incarnation, 2);
    assert_int_equal(map->member[0].state, YK_DIR_MEMBER);
    for (uint32_t i = 0; i < YK_DIR_SLOTS; i++) {
        assert_int_equal(map->slot[i].owner, was->slot[i].owner);
        assert_int_equal(map->slot[i].term, was->slot[i].term + (was->slot[i].owner == 1));
    }
    /* What its disk asks for counts when it is higher. */
    assert_int_equal(yk_dir_map_join(map, "node-0", 9, &id), 0);
    assert_int_equal(map->member[0].incarnation, 9);
    assert_int_equal(yk_dir_map_join(map, "node-0", 4, &id), 0);
    assert_int_equal(map->member[0].incarnation, 10);
    free(was);
    free(map);
}

static void test_slots_of_the_expelled_spread(void **state) {
    struct yk_dir_map *map = map_of(5);
    spread(map);
    struct yk_dir_map *was = yk_dir_map_copy(map);
    assert_int_equal(yk_dir_map_drain(map, 5, 1), 0);
    assert_int_equal(yk_dir_map_expel(map, 2), 0);
    assert_int_equal(map->member[1].state, YK_DIR_EXPELLED);
    assert_int_equal(map->expulsions, 1);
    assert_int_equal(owned(map, 2), 0);
    assert_int_equal(owned(map, 5), owned(was, 5)); /* it shall have no more */
    for (uint32_t id = 1; id <= 4; id++)
        if (id != 2)
            assert_in_range(owned(map, id), (YK_DIR_SLOTS - owned(was, 5)) / 3, (YK_DIR_SLOTS - owned(was, 5)) / 3 + 1);
    for (uint32_t i = 0; i < YK_DIR_SLOTS; i++) {
        int his = was->slot[i].owner == 2;
        assert_int_equal(map->slot[i].term, was->slot[i].term + (uint64_t)his);
        if (!his)
            assert_int_equal(map->slot[i].owner, was->slot[i].owner);
    }
    /* Once more changes nothing; with draining ones alone left, they have to. */
    uint64_t version = map->version;
    assert_int_equal(yk_dir_map_expel(map, 2), -YK_ENOENT);
    assert_int_equal(yk_dir_map_expel(map, 99), -YK_ENOENT);
    assert_int_equal(map->version, version);
    assert_int_equal(yk_dir_map_expel(map, 1), 0);
    assert_int_equal(yk_dir_map_expel(map, 3), 0);
    assert_int_equal(yk_dir_map_expel(map, 4), 0);
    assert_int_equal(owned(map, 5), YK_DIR_SLOTS);
    version = map->version;
    assert_int_equal(yk_dir_map_expel(map, 5), -YK_EBUSY); /* the last one stays */
    assert_int_equal(map->version, version);
    assert_int_equal(map->expulsions, 4);
    free(was);
    free(map);
}

static void test_way_back(void **state) {
    struct yk_dir_map *map = map_of(2);
    uint32_t id;
    spread(map);
    assert_int_equal(yk_dir_map_admit(map, 2, 1), -YK_ESTALE); /* it is a member */
    assert_int_equal(yk_dir_map_forget(map, 2), -YK_EBUSY);
    assert_int_equal(yk_dir_map_expel(map, 2), 0);
    assert_int_equal(yk_dir_map_admit(map, 2, 1), -YK_ESTALE); /* expelled: it has to come back first */
    assert_int_equal(yk_dir_map_join(map, "node-1", 0, &id), 0);
    assert_int_equal(id, 2);
    assert_int_equal(map->member[1].state, YK_DIR_RETURNING);
    assert_int_equal(map->member[1].incarnation, 2);
    assert_int_equal(yk_dir_map_move(map, 0, 2), -YK_ENOENT); /* owners are members */
    assert_int_equal(yk_dir_map_admit(map, 2, 1), -YK_ESTALE);
    /* A restart while it returns, and an end. */
    assert_int_equal(yk_dir_map_join(map, "node-1", 0, &id), 0);
    assert_int_equal(map->member[1].state, YK_DIR_RETURNING);
    assert_int_equal(yk_dir_map_admit(map, 2, 2), -YK_ESTALE);
    assert_int_equal(yk_dir_map_expel(map, 2), 0);
    assert_int_equal(map->expulsions, 2);
    assert_int_equal(yk_dir_map_join(map, "node-1", 0, &id), 0);
    assert_int_equal(yk_dir_map_admit(map, 2, 4), 0);
    assert_int_equal(map->member[1].state, YK_DIR_MEMBER);
    assert_int_equal(owned(map, 2), 0);
    /* A name that went for good comes back as another. */
    assert_int_equal(yk_dir_map_expel(map, 2), 0);
    assert_int_equal(yk_dir_map_forget(map, 2), 0);
    assert_int_equal(yk_dir_map_forget(map, 2), -YK_ENOENT);
    assert_null(yk_dir_map_named(map, "node-1"));
    assert_int_equal(yk_dir_map_join(map, "node-1", 0, &id), 0);
    assert_int_equal(id, 3);
    assert_int_equal(map->member[1].state, YK_DIR_RETURNING);
    round_trip(map);
    free(map);
}

static void test_limits(void **state) {
    struct yk_dir_map *map = map_of(YK_DIR_MEMBERS_MAX);
    char name[YK_DIR_NAME_MAX + 2];
    uint32_t id;
    memset(name, 'x', sizeof(name));
    name[sizeof(name) - 1] = '\0';
    uint64_t version = map->version;
    assert_int_equal(yk_dir_map_join(map, "one-more", 0, &id), -YK_ELIMIT);
    assert_int_equal(yk_dir_map_join(map, "node-7", 0, &id), 0);
    assert_int_equal(yk_dir_map_join(map, "", 0, &id), -YK_EINVAL);
    assert_int_equal(yk_dir_map_join(map, "a/b", 0, &id), -YK_EINVAL);
    assert_int_equal(yk_dir_map_join(map, name, 0, &id), -YK_EINVAL);
    name[YK_DIR_NAME_MAX] = '\0';
    assert_int_equal(yk_dir_map_join(map, name, 0, &id), -YK_ELIMIT);
    assert_int_equal(yk_dir_map_move(map, YK_DIR_SLOTS, 1), -YK_ENOENT);
    assert_int_equal(yk_dir_map_drain(map, 5000, 1), -YK_ENOENT);
    assert_int_equal(map->version, version + 1);
    free(map);
}

static void test_restored_in_higher_terms(void **state) {
    static uint64_t terms[YK_DIR_SLOTS];
    struct yk_dir_map *map = map_of(2);
    uint64_t version = map->version;
    terms[7] = 40;
    assert_int_equal(yk_dir_map_restore(map, NULL, terms), 0);
    assert_int_equal(map->slot[7].term, 41);
    assert_int_equal(map->slot[8].term, 2);
    assert_int_equal(map->version, version + 1);
    assert_int_equal(map->expulsions, 0);
    round_trip(map);
    /* Beside another history that went further in some things. */
    struct yk_dir_map *there = map_of(6);
    there->slot[8].term = 90;
    assert_int_equal(yk_dir_map_expel(there, 2), 0);
    assert_int_equal(yk_dir_map_restore(map, there, terms), 0);
    assert_int_equal(map->slot[7].term, 42);
    assert_int_equal(map->slot[8].term, 91);
    assert_int_equal(map->next_id, 7);
    assert_int_equal(map->version, there->version + 1);
    assert_int_equal(map->expulsions, 2);
    assert_int_equal(map->member[0].state, YK_DIR_MEMBER);
    assert_int_equal(map->member[1].state, YK_DIR_EXPELLED); /* removes were done there without it */
    assert_int_equal(yk_dir_map_expel(there, 1), 0);
    assert_int_equal(yk_dir_map_restore(map, there, terms), -YK_EBUSY); /* nobody would be left */
    round_trip(map);
    free(there);
    free(map);
    /* Who was forgotten there had been expelled there. One whose id was never given there is another matter. */
    map = map_of(4);
    there = map_of(3);
    assert_int_equal(yk_dir_map_expel(there, 2), 0);
    assert_int_equal(yk_dir_map_forget(there, 2), 0);
    assert_int_equal(yk_dir_map_restore(map, there, terms), 0);
    assert_int_equal(map->member[0].state, YK_DIR_MEMBER);
    assert_int_equal(map->member[1].state, YK_DIR_EXPELLED);
    assert_int_equal(map->member[2].state, YK_DIR_MEMBER);
    assert_int_equal(map->member[3].state, YK_DIR_MEMBER);
    free(there);
    free(map);
}

static void test_terms_are_outgrown(void **state) {
    static uint64_t terms[YK_DIR_SLOTS];
    struct yk_dir_map *map = map_of(2), *empty = map_of(0);
    uint64_t version = map->version;
    terms[3] = 1;
    assert_int_equal(yk_dir_map_outgrow(map, terms), 0); /* as high as that it is */
    assert_int_equal(map->version, version);
    terms[7] = 40;
    terms[8] = UINT64_MAX; /* nobody can have had it */
    assert_int_equal(yk_dir_map_outgrow(map, terms), 1);
    assert_int_equal(map->version, version + 1);
    assert_int_equal(map->slot[7].term, 41);
    assert_int_equal(map->slot[7].owner, 1);
    assert_int_equal(map->slot[8].term, 1);
    round_trip(map);
    assert_int_equal(yk_dir_map_outgrow(empty, terms), 0);
    round_trip(empty);
    free(map);
    free(empty);
}

static void test_groups_differ(void **state) {
    assert_int_equal(yk_dir_hash("ns", 2, "key", 3), yk_dir_hash("ns", 2, "key", 3));
    assert_true(yk_dir_hash("ns", 2, "key", 3) != yk_dir_hash("nsk", 3, "ey", 2));
    assert_true(yk_dir_hash("a", 1, "key", 3) != yk_dir_hash("b", 1, "key", 3));
    assert_int_equal(yk_dir_slot_of(UINT64_MAX), YK_DIR_SLOTS - 1);
    assert_int_equal(yk_dir_slot_of(0), 0);
}

/* ---- any changes in any order ------------------------------------------------------------------ */

static uint64_t rng(uint64_t *s) {
    *s ^= *s << 13;
    *s ^= *s >> 7;
    return *s ^= *s << 17;
}

static int change(struct yk_dir_map *map, uint64_t *seed) {
    char name[16];
    uint32_t id = (uint32_t)(rng(seed) % (map->next_id + 1));
    snprintf(name, sizeof(name), "n%u", (unsigned)(rng(seed) % 12));
    switch (rng(seed) % 8) {
    case 0:
    case 1:
        return yk_dir_map_join(map, name, rng(seed) % 5, &id);
    case 2:
        return yk_dir_map_expel(map, id);
    case 3: {
        const struct yk_dir_member *m = yk_dir_map_member(map, id);
        return yk_dir_map_admit(map, id, m != NULL ? m->incarnation : 1);
    }
    case 4:
        return rng(seed) % 4 == 0 ? yk_dir_map_forget(map, id) : -YK_ENOENT;
    case 5:
        return yk_dir_map_drain(map, id, (int)(rng(seed) % 2));
    default:
        return yk_dir_map_move(map, (uint32_t)(rng(seed) % YK_DIR_SLOTS), id);
    }
}

static void check_growth(const struct yk_dir_map *was, struct yk_dir_map *is) {
    assert_true(is->next_id >= was->next_id && is->expulsions >= was->expulsions);
    for (uint32_t i = 0; i < YK_DIR_SLOTS; i++) {
        assert_true(is->slot[i].term >= was->slot[i].term);
        if (is->slot[i].owner != was->slot[i].owner)
            assert_true(is->slot[i].term > was->slot[i].term);
    }
    for (uint32_t i = 0; i < was->member_count; i++) {
        const struct yk_dir_member *m = yk_dir_map_member(is, was->member[i].id);
        assert_true(m == NULL || m->incarnation >= was->member[i].incarnation);
        assert_true(m == NULL || strcmp(m->name, was->member[i].name) == 0);
    }
}

static void test_any_changes(void **state) {
    uint64_t seed = 0x9e3779b97f4a7c15ull, made = 0;
    struct yk_dir_map *map = map_of(0);
    for (unsigned i = 0; i < 4000; i++) {
        struct yk_dir_map *was = yk_dir_map_copy(map);
        int rc = change(map, &seed);
        if (rc < 0) {
            assert_memory_equal(map, was, sizeof(*map));
        } else {
            assert_int_equal(map->version, was->version + 1);
            check_growth(was, map);
            round_trip(map); /* the decoder checks what always holds */
            made++;
        }
        free(was);
    }
    assert_true(made > 1000);
    free(map);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trips),
        cmocka_unit_test(test_no_flipped_byte_is_taken),
        cmocka_unit_test(test_no_part_is_taken),
        cmocka_unit_test(test_newer_format_is_named),
        cmocka_unit_test(test_rules_are_checked),
        cmocka_unit_test(test_first_member_owns_all),
        cmocka_unit_test(test_restart_raises_its_terms_alone),
        cmocka_unit_test(test_slots_of_the_expelled_spread),
        cmocka_unit_test(test_way_back),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_restored_in_higher_terms),
        cmocka_unit_test(test_terms_are_outgrown),
        cmocka_unit_test(test_groups_differ),
        cmocka_unit_test(test_any_changes),
    };
    return cmocka_run_group_tests_name("dir_map", tests, NULL, NULL);
}
