/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory that runs out under the block table: fallocate passes through this file, which says that the
 * file system is full. Nothing may then be written to a page that is not there.
 */
#include "node/store.h"

#include "base/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB     (1u << 20)
#define WAIT_MS 20000

static int full;

int fallocate(int fd, int mode, off_t offset, off_t len) {
    if (full && mode == 0) {
        off_t hole = lseek(fd, offset, SEEK_HOLE);
        if (hole >= 0 && hole < offset + len) {
            errno = ENOSPC;
            return -1;
        }
    }
    return (int)syscall(SYS_fallocate, fd, mode, offset, len);
}

struct fixture {
    struct yk_store *s;
    uint32_t ns;
    uint64_t epoch;
};

static void open_with(struct fixture *f, uint64_t dram, uint64_t slow) {
    struct yk_store_opts o = {.policy = "lru", .reserve_percent = 2, .held_percent = 50};
    struct yk_err err = {0};
    full = 0;
    o.segment.data_bytes = dram;
    o.cxl = (struct yk_store_cxl_opts){slow, -1, {100, 10000000000ull, 250, 4000000000ull}};
    o.segment.max_blocks = 1u << 17;
    o.segment.max_clients = 4;
    o.segment.numa_node = -1;
    assert_int_equal(yk_store_open(&o, &f->s, &err), 0);
    assert_int_equal(yk_store_ns_open(f->s, "default", 7, 1, &f->ns, &err), 0);
    f->epoch = yk_store_ns_epoch(f->s, f->ns);
}

static void fixture_open(struct fixture *f) {
    open_with(f, 64 * MIB, 0);
}

static int put(struct fixture *f, uint32_t key, uint32_t len) {
    struct yk_err err = {0};
    struct yk_place p;
    int rc = yk_store_reserve(f->s, 0, len, &p, &err);
    if (rc < 0)
        return rc;
    char *data = (char *)yk_store_segment(f->s)->data + p.offset;
    memset(data, (int)key, len);
    struct yk_commit c = {.idx = p.idx,
                          .gen = p.gen,
                          .epoch = f->epoch,
                          .sum = yk_hash64(data, len),
                          .len = len,
                          .key = &key,
                          .key_len = sizeof(key)};
    yk_store_turn(f->s);
    rc = yk_store_commit(f->s, 0, f->ns, &c);
    (void)yk_store_tick(f->s);
    return rc;
}

/* Is it there? Then with its bytes. */
static int there(struct fixture *f, uint32_t key) {
    uint32_t idx;
    yk_block_info info;
    if (yk_store_find(f->s, f->ns, f->epoch, &key, sizeof(key), &idx) != 0)
        return 0;
    yk_store_info(f->s, idx, &info);
    assert_int_equal(yk_hash64(yk_store_payload(f->s, idx), (size_t)info.len), info.checksum);
    return 1;
}

static struct yk_counters counters(struct fixture *f) {
    struct yk_counters n;
    yk_store_counters(f->s, &n);
    return n;
}

static uint64_t taken(int fd) {
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    return (uint64_t)st.st_blocks;
}

static void puts_make_room_where_no_page_is_to_be_had(void **state) {
    struct fixture f;
    uint32_t key = 0;
    fixture_open(&f);
    const struct yk_segment *seg = yk_store_segment(f.s);
    for (; key < 16; key++)
        assert_int_equal(put(&f, key, MIB), 0);
    uint64_t data = taken(seg->fd_data), meta = taken(seg->fd_meta);
    full = 1;
    for (; key < 200; key++) {
        assert_int_equal(put(&f, key, key % 10 == 0 ? 4 * MIB : key % 3 == 0 ? MIB : 300000), 0);
        assert_true(there(&f, key));
    }
    for (uint32_t i = 0; i < key; i++)
        (void)there(&f, i);
    assert_int_equal(taken(seg->fd_data), data);
    assert_int_equal(taken(seg->fd_meta), meta);
    assert_false(seg->lost);
    assert_true(counters(&f).unbacked_bytes > 0);
    full = 0;
    for (int ms = 0; counters(&f).unbacked_bytes > 0 && ms < WAIT_MS; ms += 10) {
        poll(NULL, 0, 10);
        (void)yk_store_tick(f.s);
    }
    assert_int_equal(counters(&f).unbacked_bytes, 0);
    uint64_t evicted = counters(&f).evict_space;
    for (uint32_t i = 0; i < 32; i++)
        assert_int_equal(put(&f, key++, MIB), 0);
    assert_int_equal(counters(&f).evict_space, evicted); /* there is memory again */
    assert_true(taken(seg->fd_data) > data);
    yk_store_close(f.s, 0);
}

/* Slow memory goes on with the pages that it has: what is there does not make way for a place without pages. */
static void slow_memory_keeps_what_its_pages_hold(void **state) {
    struct fixture f;
    uint32_t key = 0;
    open_with(&f, 16 * MIB, 64 * MIB);
    const struct yk_segment *seg = yk_store_segment(f.s);
    while (counters(&f).cxl_block_bytes < 24 * MIB) {
        uint32_t len = key % 10 == 0 ? 2 * MIB : key % 3 == 0 ? MIB : 300000;
        assert_int_equal(put(&f, key++, len), 0);
    }
    uint64_t data = taken(seg->fd_data), least = UINT64_MAX;
    full = 1;
    for (uint32_t end = key + 300; key < end; key++) {
        assert_int_equal(put(&f, key, key % 10 == 0 ? 2 * MIB : key % 3 == 0 ? MIB : 300000), 0);
        assert_true(there(&f, key));
        uint64_t now = counters(&f).cxl_block_bytes;
        least = now < least ? now : least;
    }
    for (uint32_t i = 0; i < key; i++)
        (void)there(&f, i);
    assert_int_equal(taken(seg->fd_data), data);
    assert_false(seg->lost);
    assert_true(least > 12 * MIB);
    full = 0;
    for (int ms = 0; counters(&f).unbacked_bytes > 0 && ms < WAIT_MS; ms += 10) {
        poll(NULL, 0, 10);
        (void)yk_store_tick(f.s);
    }
    assert_int_equal(counters(&f).unbacked_bytes, 0);
    for (uint32_t i = 0; i < 80; i++)
        assert_int_equal(put(&f, key++, MIB), 0);
    assert_true(counters(&f).cxl_block_bytes > 40 * MIB); /* there is memory again */
    yk_store_close(f.s, 0);
}

/* Descriptors, keys and index: as if they were no longer than the pages that are there. */
static void tables_grow_no_further_than_their_pages(void **state) {
    enum { N = 60000 };
    struct fixture f;
    fixture_open(&f);
    const struct yk_segment *seg = yk_store_segment(f.s);
    for (uint32_t i = 0; i < 64; i++)
        assert_int_equal(put(&f, i, MIB / 4), 0); /* pages of payload for what follows */
    uint64_t meta = taken(seg->fd_meta);
    full = 1;
    for (uint32_t i = 1000; i < 1000 + N; i++) {
        assert_int_equal(put(&f, i, 64), 0);
        assert_true(there(&f, i));
    }
    assert_int_equal(taken(seg->fd_meta), meta);
    assert_true(counters(&f).blocks > 1000 && counters(&f).blocks < N);
    full = 0;
    for (uint32_t i = 1000 + N; i < 1000 + 2 * N; i++)
        assert_int_equal(put(&f, i, 64), 0);
    assert_true(taken(seg->fd_meta) > meta);
    assert_true(counters(&f).blocks >= N);
    yk_store_close(f.s, 0);
}

static void a_start_without_memory_is_refused(void **state) {
    struct yk_store_opts o = {.policy = "lru", .reserve_percent = 2, .held_percent = 50};
    struct yk_err err = {0};
    struct yk_store *s;
    o.segment.data_bytes = 64 * MIB;
    o.segment.max_clients = 4;
    o.segment.numa_node = -1;
    full = 1;
    assert_int_equal(yk_store_open(&o, &s, &err), -YK_ENOSPC);
    assert_non_null(strstr(err.text, "block table"));
    full = 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(puts_make_room_where_no_page_is_to_be_had),
        cmocka_unit_test(slow_memory_keeps_what_its_pages_hold),
        cmocka_unit_test(tables_grow_no_further_than_their_pages),
        cmocka_unit_test(a_start_without_memory_is_refused),
    };
    return cmocka_run_group_tests_name("back", tests, NULL, NULL);
}
