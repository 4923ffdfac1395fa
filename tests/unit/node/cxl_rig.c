/* SPDX-License-Identifier: Apache-2.0
 *
 * See cxl_rig.h.
 */
#include "cxl_rig.h"

static unsigned char room[BLOCK];

const void *bytes_of(uint32_t i, uint32_t version) {
    uint64_t x = (uint64_t)i << 32 | version;
    for (size_t at = 0; at < BLOCK; at += sizeof(x)) {
        uint64_t word = x + at * 0x9e3779b97f4a7c15ull;
        memcpy(room + at, &word, sizeof(word));
    }
    return room;
}

char *key_of(uint32_t i) {
    static char key[32];
    snprintf(key, sizeof(key), "block-%u", i);
    return key;
}

int put_at(struct fixture *f, uint32_t i, uint32_t version) {
    return put_as(f, 0, key_of(i), NULL, bytes_of(i, version), BLOCK, YK_PUT_UPSERT);
}

void put_block(struct fixture *f, uint32_t i) {
    yk_store_turn(f->s);
    assert_int_equal(put_at(f, i, 0), 0);
}

int exact(struct fixture *f, uint32_t i, uint32_t version) {
    return same(f, key_of(i), bytes_of(i, version), BLOCK);
}

int tier_of(struct fixture *f, uint32_t i) {
    uint32_t idx;
    yk_block_info info;
    if (find(f, key_of(i), &idx) != 0)
        return 0;
    yk_store_info(f->s, idx, &info);
    assert_true(info.tiers == 1u << YK_TIER_DRAM || info.tiers == 1u << YK_TIER_CXL);
    return info.tiers == 1u << YK_TIER_CXL ? YK_TIER_CXL : YK_TIER_DRAM;
}

void use(struct fixture *f, uint32_t i) {
    assert_int_equal(change(f, YK_CHANGE_TOUCH, 0, key_of(i)), 0);
}

void slow_init(struct fixture *f, uint64_t dram, uint64_t slow, uint64_t blocks, const char *policy, unsigned percent) {
    fixture_init(f, dram, blocks, policy);
    f->o.cxl = (struct yk_store_cxl_opts){.bytes = slow, .node = -1, .figures = {LAT, BPS, LAT * percent / 100u, BPS * 100u / percent}};
}

void slow_open(struct fixture *f, uint64_t dram, uint64_t slow, uint64_t blocks, const char *policy, unsigned percent) {
    slow_init(f, dram, slow, blocks, policy, percent);
    store_open(f);
}
