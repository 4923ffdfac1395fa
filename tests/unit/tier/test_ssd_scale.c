/* SPDX-License-Identifier: Apache-2.0
 *
 * Recovery at scale: a sparse file with real footers of full segments of 1 MiB blocks, read through the
 * real device. What it reads is asserted: 1 TB must be recognised in 2 s by a device of 1 GB/s.
 *
 * 64 GB (1,000 segments) here; with YOLK_LONG=1 all of 1 TB.
 */
#include "base/clock.h"
#include "base/hash.h"
#include "tier/ssd/format.h"
#include "tier/ssd/ssd.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <yolk/status.h>

#define SEGMENT (64ull << 20)
#define BLOCK   (1ull << 20)
#define UID     0x1234567ull

static uint32_t segments;
static char path[128];
static unsigned char buf[1 << 20];

static void write_at(int fd, const void *from, size_t bytes, uint64_t at) {
    assert_int_equal(pwrite(fd, from, bytes, (off_t)at), (ssize_t)bytes);
}

static uint32_t key_make(uint32_t segment, uint32_t i, char *key) {
    return (uint32_t)snprintf(key, 64, "model-0123456789abcdef/%08x%08x", segment, i);
}

/* The footer of one full segment: 63 blocks, each with its parent. */
static void footer_write(int fd, uint32_t segment) {
    char key[64], parent[64];
    uint32_t bytes = 0, count = 0;
    for (uint32_t i = 0; i < 63; i++, count++) {
        struct yk_ssd_rec r = {.type = YK_SSD_REC_BLOCK,
                               .key = (unsigned char *)key,
                               .key_len = (uint8_t)key_make(segment, i, key),
                               .parent = (unsigned char *)parent,
                               .parent_len = (uint8_t)key_make(segment, i + 1, parent),
                               .len = BLOCK,
                               .place = (uint32_t)((i * BLOCK + 65536) / YK_SSD_UNIT),
                               .ns_uid = 7,
                               .epoch = 3,
                               .gen = (uint64_t)segment * 100 + i + 1,
                               .length_tokens = 4096,
                               .model = 1};
        bytes += yk_ssd_rec_put(buf + bytes, &r);
    }
    struct yk_ssd_foot f = {.uid = UID,
                            .seq = (1ull << 32) + segment,
                            .count = count,
                            .recs_bytes = bytes,
                            .gen_max = (uint64_t)segment * 100 + 64};
    yk_ssd_foot_put(buf, &f);
    uint64_t all = yk_ssd_foot_bytes(bytes);
    write_at(fd, buf, all, yk_ssd_segment_at(SEGMENT, segment + 1ull) - all);
}

static void file_make(void) {
    uint64_t size = YK_SSD_SEGMENTS_AT + segments * SEGMENT;
    static struct yk_ssd_ckpt c = {.uid = UID, .seq = 1, .run = 1, .started = 1, .ns_gen = 1};
    struct yk_ssd_super s = {
        .node_id = 9, .uid = UID, .size_bytes = size, .segment_bytes = SEGMENT};
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    yk_ssd_super_put(buf, &s);
    write_at(fd, buf, YK_SSD_SECTOR, YK_SSD_SUPER_AT(0));
    write_at(fd, buf, YK_SSD_SECTOR, YK_SSD_SUPER_AT(1));
    c.ns[4] = (struct yk_ssd_ns){.uid = 7, .epoch = 3, .name = "scale"};
    yk_ssd_ckpt_put(buf, &c);
    write_at(fd, buf, YK_SSD_CKPT_BYTES, YK_SSD_CKPT_AT(1));
    for (uint32_t i = 0; i < segments; i++)
        footer_write(fd, i);
    assert_int_equal(fsync(fd), 0);
    close(fd);
}

static void reads_little(void **state) {
    (void)state;
    const char *tmp = getenv("TMPDIR"), *is_long = getenv("YOLK_LONG");
    segments = is_long != NULL && strcmp(is_long, "1") == 0 ? 16384 : 1000;
    snprintf(path, sizeof(path), "%s/yolk-scale-%d", tmp != NULL ? tmp : "/var/tmp", (int)getpid());
    file_make();
    static struct yk_ssd_ns ns[YK_SSD_NAMESPACES];
    struct yk_ssd_opts o = {.dev[0].path = path, .dev_count = 1};
    struct yk_ssd *ssd;
    struct yk_err err = {0};
    int rc = yk_ssd_open(&o, ns, &ssd, &err);
    if (rc < 0) {
        unlink(path);
        fail_msg("%s", err.text);
    }
    struct yk_ssd_counters c;
    yk_ssd_counters_get(ssd, &c);
    double gb = (double)(segments * SEGMENT) / 1e9, mb = (double)c.recovery_bytes / 1e6;
    print_message(
        "%u segments (%.0f GB), %llu blocks: read %.1f MB in %.3f s; 1 TB: %.0f MB, %.2f s "
        "at 1 GB/s\n",
        segments, gb, (unsigned long long)c.recovered, mb, (double)c.recovery_us / 1e6,
        mb / gb * 1000, mb / gb);
    assert_int_equal(c.recovered, 63ull * segments);
    assert_int_equal(c.recovery_torn, 0);
    assert_true(mb / gb < 2.0); /* MB a GB: 2 GB a TB */
    char key[64];
    uint32_t len = key_make(segments - 1, 62, key), id;
    assert_int_equal(yk_ssd_find(ssd, 4, yk_hash_key(4, key, len), key, len, 1, &id), 0);
    yk_ssd_tick(ssd, 1); /* for the gauges */
    yk_ssd_counters_get(ssd, &c);
    print_message("%.2f bytes of memory a block beside its key\n",
                  (double)c.meta_bytes / (double)c.blocks);
    yk_ssd_close(ssd, 0, 0);
    unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(reads_little)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
