/* SPDX-License-Identifier: Apache-2.0
 *
 * The block table over two tiers, without sockets, on a real file: blocks leave DRAM for SSD, are found
 * there, come up again with their bytes, and what was removed stays removed over every kind of
 * restart: of the daemon (DRAM survives), of the host (only the SSD does).
 */
#include "node/store.h"

#include "base/clock.h"
#include "base/hash.h"

#include <dirent.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB   (1ull << 20)
#define BLOCK (64u << 10)
#define LIMIT (20ull * 1000000000ull) /* of every wait */

struct fixture {
    struct yk_store *s;
    struct yk_store_opts o;
    char name[32], path[160];
    uint32_t ns;
    uint64_t epoch;
    uint64_t durable; /* highest ticket heard of */
    uint32_t raised;  /* callbacks */
    uint64_t order[16]; /* their tokens */
};

static int counter;
static char shm_dir[64], ssd_dir[128];
static int wake_fd = -1;

static int make_dirs(void **state) {
    const char *tmp = getenv("TMPDIR");
    snprintf(shm_dir, sizeof(shm_dir), "/dev/shm/yolk-test-%d", (int)getpid());
    snprintf(ssd_dir, sizeof(ssd_dir), "%s/yolk-ssd-XXXXXX", tmp != NULL ? tmp : "/tmp");
    wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return wake_fd < 0 || mkdir(shm_dir, 0700) < 0 || mkdtemp(ssd_dir) == NULL;
}

static void empty(const char *dir) {
    char path[512];
    DIR *d = opendir(dir);
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
        unlink(path);
    }
    if (d != NULL)
        closedir(d);
}

static int remove_dirs(void **state) {
    empty(shm_dir);
    empty(ssd_dir);
    return rmdir(shm_dir) | rmdir(ssd_dir);
}

static void on_raised(void *arg, uint64_t token) {
    struct fixture *f = arg;
    f->order[f->raised++ % 16u] = token;
}

static void on_durable(void *arg, uint64_t ticket) {
    struct fixture *f = arg;
    if (ticket > f->durable)
        f->durable = ticket;
}

/* From a device's thread. */
static void on_wake(void *arg) {
    eventfd_write(wake_fd, 1);
}

static void store_open(struct fixture *f) {
    struct yk_err err = {0};
    int rc = yk_store_open(&f->o, &f->s, &err);
    if (rc < 0)
        print_error("open: %s\n", err.text);
    assert_int_equal(rc, 0);
    assert_int_equal(yk_store_ns_open(f->s, "default", 7, 1, &f->ns, &err), 0);
    f->epoch = yk_store_ns_epoch(f->s, f->ns);
    f->durable = 0;
}

static void fixture_open(struct fixture *f, uint64_t dram, uint64_t ssd, uint8_t when) {
    memset(f, 0, sizeof(*f));
    snprintf(f->name, sizeof(f->name), "%d", counter++);
    snprintf(f->path, sizeof(f->path), "%s/%s", ssd_dir, f->name);
    f->o.segment.dir = shm_dir;
    f->o.segment.name = f->name;
    f->o.segment.data_bytes = dram;
    f->o.segment.max_clients = 16;
    f->o.segment.numa_node = -1;
    f->o.policy = "lru";
    f->o.reserve_percent = 2;
    f->o.held_percent = 50;
    f->o.ssd.dev[0] = (struct yk_ssd_dev_opts){f->path, ssd};
    f->o.ssd.dev_count = 1;
    f->o.ssd.segment_bytes = 2 * MIB;
    f->o.ssd.when = when;
    f->o.ssd.no_preload = 1;
    f->o.wake = on_wake;
    f->o.raised = on_raised;
    f->o.durable = on_durable;
    f->o.arg = f;
    store_open(f);
}

static void turn(struct fixture *f) {
    struct pollfd p = {wake_fd, POLLIN, 0};
    eventfd_t n;
    yk_store_ssd_poll(f->s);
    yk_store_tick(f->s);
    if (poll(&p, 1, 2) == 1) /* until a device has done something; a tick is due anyway */
        eventfd_read(wake_fd, &n);
}

static void settle(struct fixture *f) {
    for (uint64_t end = yk_now_ns() + LIMIT; yk_store_ssd_busy(f->s);) {
        assert_true(yk_now_ns() < end);
        turn(f);
    }
}

static void await(struct fixture *f, uint64_t ticket) {
    for (uint64_t end = yk_now_ns() + LIMIT; yk_store_durable(f->s, ticket) != 1;) {
        assert_true(yk_now_ns() < end);
        assert_true(yk_store_durable(f->s, ticket) == 0);
        turn(f);
    }
}

/* The daemon ends, by a kill if not clean; DRAM survives. */
static void restart(struct fixture *f, int clean) {
    yk_store_close(f->s, clean);
    store_open(f);
}

/* The host is started again: only what is on SSD survives. */
static void reboot(struct fixture *f, int clean) {
    struct yk_segment seg = *yk_store_segment(f->s);
    yk_store_close(f->s, clean);
    yk_segment_unlink(&seg);
    store_open(f);
}

static void fixture_close(struct fixture *f) {
    struct yk_segment seg = *yk_store_segment(f->s);
    yk_store_close(f->s, 1);
    yk_segment_unlink(&seg);
    unlink(f->path);
}

static void fill(unsigned char *buf, uint32_t len, uint32_t i) {
    uint64_t x = i * 0x9e3779b97f4a7c15ull + 1;
    for (uint32_t k = 0; k + 8 <= len; k += 8) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        memcpy(buf + k, &x, 8);
    }
    for (uint32_t k = len & ~7u; k < len; k++)
        buf[k] = (unsigned char)(i + k);
}

static uint32_t key_of(char *key, uint32_t i) {
    return (uint32_t)sprintf(key, "block-%u", i);
}

static int put_flags(struct fixture *f, uint32_t i, uint32_t version, uint32_t len, uint32_t flags,
                     uint64_t ttl_ms) {
    char key[32];
    struct yk_place p;
    int rc;
    for (uint64_t end = yk_now_ns() + LIMIT;
         (rc = yk_store_reserve(f->s, 0, len, &p, NULL)) == -YK_ENOSPC;) {
        assert_true(yk_now_ns() < end);
        turn(f);
    }
    assert_int_equal(rc, 0);
    unsigned char *to = (unsigned char *)yk_store_segment(f->s)->data + p.offset;
    fill(to, len, i * 1000u + version);
    struct yk_commit c = {
        .idx = p.idx, .gen = p.gen, .sum = yk_hash64(to, len), .len = len, .epoch = f->epoch};
    c.key = key;
    c.key_len = key_of(key, i);
    c.attrs.flags = flags;
    c.attrs.ttl_ms = ttl_ms;
    c.attrs.depth_tokens = i;
    c.attrs.length_tokens = 512;
    c.attrs.session = 7;
    c.attrs.kind = 3;
    return yk_store_commit(f->s, 0, f->ns, &c);
}

static void put(struct fixture *f, uint32_t i, uint32_t len) {
    assert_int_equal(put_flags(f, i, 0, len, 0, 0), 0);
}

/* The block's bytes: 1 exact, 0 a miss; anything else fails the test. */
static int get(struct fixture *f, uint32_t i, uint32_t version, uint32_t len) {
    char key[32];
    uint32_t key_len = key_of(key, i), idx;
    unsigned char *want = malloc(len);
    int rc, token = 1;
    for (uint64_t end = yk_now_ns() + LIMIT;;) {
        rc = yk_store_raise(f->s, f->ns, f->epoch, key, key_len, YK_SSD_PRIO_DEMAND, 0,
                            (uint64_t)token);
        if (rc != YK_PENDING && rc != -YK_EAGAIN)
            break;
        assert_true(yk_now_ns() < end);
        turn(f);
    }
    if (rc == 0 && yk_store_find(f->s, f->ns, f->epoch, key, key_len, &idx) == 0 &&
        yk_store_settle(f->s, idx) == 0) {
        yk_block_info info;
        yk_store_info(f->s, idx, &info);
        assert_int_equal(info.len, len);
        assert_int_equal(info.depth_tokens, i);
        assert_int_equal(info.length_tokens, 512);
        assert_int_equal(info.session, 7);
        assert_int_equal(info.kind, 3);
        fill(want, len, i * 1000u + version);
        assert_memory_equal(yk_store_payload(f->s, idx), want, len);
        yk_store_access(f->s, idx);
    } else {
        rc = YK_MISS;
    }
    free(want);
    return rc == 0;
}

static int known(struct fixture *f, uint32_t i, uint32_t *ret_tiers) {
    char key[32];
    uint32_t idx;
    yk_block_info info;
    if (yk_store_find_any(f->s, f->ns, f->epoch, key, key_of(key, i), &idx) != 0)
        return 0;
    yk_store_info(f->s, idx, &info);
    if (ret_tiers != NULL)
        *ret_tiers = info.tiers;
    return 1;
}

static int change(struct fixture *f, unsigned what, uint64_t arg, uint32_t i) {
    char key[32];
    uint32_t len = key_of(key, i);
    return yk_store_change(f->s, f->ns, f->epoch, what, arg, key, len);
}

/* More blocks than DRAM holds: 0 .. n-1, all of them known afterwards. */
static void put_many(struct fixture *f, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        put(f, i, BLOCK);
    settle(f);
}

static void a_pool_larger_than_dram_keeps_everything(void **state) {
    struct fixture f;
    struct yk_counters n;
    uint32_t tiers = 0, low = 0;
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    put_many(&f, 600);
    for (uint32_t i = 0; i < 600; i++) {
        assert_true(known(&f, i, &tiers));
        low += tiers == 1u << YK_TIER_SSD;
    }
    assert_true(low > 300);
    yk_store_counters(f.s, &n);
    assert_true(n.demoted >= low);
    for (uint32_t i = 0; i < 600; i++)
        assert_true(get(&f, i, 0, BLOCK));
    yk_store_counters(f.s, &n);
    assert_true(n.ssd_hits >= low);
    assert_int_equal(n.raise_failed, 0);
    fixture_close(&f);
}

static void sizes_of_all_kinds_come_back(void **state) {
    struct fixture f;
    fixture_open(&f, 16 * MIB, 128 * MIB, YK_SSD_ON_DEMOTION);
    uint32_t len[400];
    for (uint32_t i = 0; i < 400; i++) {
        static const uint32_t some[] = {1,    63,    511,    512,     4095,  4096,
                                        4097, 65537, 200000, 1048576, 777777};
        len[i] = some[i % 11];
        put(&f, i, len[i]);
    }
    settle(&f);
    for (uint32_t i = 0; i < 400; i++)
        assert_true(get(&f, i, 0, len[i]));
    fixture_close(&f);
}

static void a_second_write_is_not_needed(void **state) {
    struct fixture f;
    struct yk_counters a, b;
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    put_many(&f, 600);
    for (uint32_t i = 0; i < 600; i++)
        get(&f, i, 0, BLOCK);
    settle(&f);
    yk_store_counters(f.s, &a);
    for (uint32_t i = 0; i < 600; i++)
        get(&f, i, 0, BLOCK);
    settle(&f);
    yk_store_counters(f.s, &b);
    assert_true(b.raised > a.raised + 200);
    assert_int_equal(b.demoted, a.demoted); /* all have their copy */
    fixture_close(&f);
}

static void write_through_has_a_copy_at_once(void **state) {
    struct fixture f;
    uint32_t tiers = 0;
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_WRITE_THROUGH);
    put(&f, 1, BLOCK);
    settle(&f);
    assert_true(known(&f, 1, &tiers));
    assert_int_equal(tiers, 1u << YK_TIER_DRAM | 1u << YK_TIER_SSD);
    reboot(&f, 1);
    assert_true(known(&f, 1, &tiers));
    assert_int_equal(tiers, 1u << YK_TIER_SSD);
    assert_true(get(&f, 1, 0, BLOCK));
    fixture_close(&f);
}

static void a_restart_finds_both_tiers(void **state) {
    for (int clean = 0; clean < 2; clean++) {
        struct fixture f;
        fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
        put_many(&f, 600);
        restart(&f, clean);
        for (uint32_t i = 0; i < 600; i++)
            assert_true(get(&f, i, 0, BLOCK));
        fixture_close(&f);
    }
}

static void a_reboot_finds_the_ssd(void **state) {
    struct fixture f;
    uint32_t found = 0;
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    put_many(&f, 600);
    reboot(&f, 0);
    for (uint32_t i = 0; i < 600; i++)
        found += (uint32_t)get(&f, i, 0, BLOCK);
    assert_true(found > 300);
    fixture_close(&f);
}

/* A stop that writes what DRAM alone has loses nothing to a reboot, and preloading begins with what was
 * used last. */
static void a_stop_writes_what_memory_has(void **state) {
    struct fixture f;
    uint32_t tiers = 0;
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    put_many(&f, 600);
    for (uint32_t i = 0; i < 20; i++) /* of those that were written first */
        assert_true(get(&f, i, 0, BLOCK));
    f.o.ssd.no_preload = 0;
    yk_store_ssd_settle(f.s, yk_now_ns() + LIMIT);
    reboot(&f, 1);
    for (uint32_t i = 0; i < 600; i++)
        assert_true(known(&f, i, NULL));
    settle(&f);
    for (uint32_t i = 0; i < 20; i++) {
        assert_true(known(&f, i, &tiers));
        assert_true(tiers & 1u << YK_TIER_DRAM);
    }
    for (uint32_t i = 0; i < 600; i++)
        assert_true(get(&f, i, 0, BLOCK));
    fixture_close(&f);
}

static void a_stop_keeps_its_deadline(void **state) {
    struct fixture f;
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    put_many(&f, 600);
    yk_store_ssd_settle(f.s, 1); /* it is over */
    restart(&f, 1);
    for (uint32_t i = 0; i < 600; i++)
        assert_true(get(&f, i, 0, BLOCK));
    fixture_close(&f);
}

static void preloading_brings_blocks_up(void **state) {
    struct fixture f;
    struct yk_counters n;
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_WRITE_THROUGH);
    f.o.ssd.no_preload = 0;
    put_many(&f, 600);
    reboot(&f, 1);
    settle(&f);
    yk_store_counters(f.s, &n);
    assert_true(n.preloaded > 100);
    assert_int_equal(n.preloaded_bytes, n.preloaded * BLOCK);
    uint32_t tiers = 0;
    assert_true(known(&f, 599, &tiers)); /* the youngest is among them */
    assert_true(tiers & 1u << YK_TIER_DRAM);
    assert_true(get(&f, 599, 0, BLOCK));
    fixture_close(&f);
}

static void what_was_removed_stays_away(void **state) {
    struct fixture f;
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    put_many(&f, 600);
    for (uint32_t i = 0; i < 600; i += 2)
        assert_int_equal(change(&f, YK_CHANGE_REMOVE, 0, i), 0);
    uint64_t ticket = yk_store_ticket_take(f.s);
    assert_true(ticket != 0);
    await(&f, ticket);
    for (int kind = 0; kind < 3; kind++) {
        for (uint32_t i = 0; i < 600; i++)
            assert_int_equal(known(&f, i, NULL) && i % 2 == 0, 0);
        if (kind == 0)
            restart(&f, 0);
        else
            reboot(&f, kind == 1);
    }
    for (uint32_t i = 0; i < 600; i += 2)
        assert_false(get(&f, i, 0, BLOCK));
    fixture_close(&f);
}

static void batch_removal_covers_both_tiers(void **state) {
    struct fixture f;
    uint32_t cursor = 0;
    uint64_t removed = 0;
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    put_many(&f, 600);
    while (cursor != YK_WALK_END)
        removed += yk_store_remove_step(f.s, f.ns, YK_REMOVE_GLOB, "block-*", 7, &cursor, 64);
    assert_int_equal(removed, 600);
    await(&f, yk_store_ticket_take(f.s));
    reboot(&f, 0);
    for (uint32_t i = 0; i < 600; i++)
        assert_false(known(&f, i, NULL));
    fixture_close(&f);
}

static void listing_names_each_once(void **state) {
    struct fixture f;
    uint32_t cursor = 0, idx, n = 0;
    unsigned char seen[600] = {0};
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    put_many(&f, 600);
    for (uint32_t i = 0; i < 600; i += 7)
        get(&f, i, 0, BLOCK); /* some are in both tiers */
    while (cursor != YK_WALK_END) {
        uint32_t steps = 50, len;
        if (yk_store_list_next(f.s, f.ns, f.epoch, "block-", 6, &cursor, &steps, &idx) != 1)
            continue;
        char key[32] = "";
        const void *k = yk_store_key(f.s, idx, &len);
        memcpy(key, k, len);
        uint32_t i = (uint32_t)atoi(key + 6);
        assert_int_equal(seen[i], 0);
        seen[i] = 1;
        n++;
    }
    assert_int_equal(n, 600);
    fixture_close(&f);
}

static void an_epoch_hides_what_is_on_ssd(void **state) {
    struct fixture f;
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    put_many(&f, 600);
    assert_int_equal(yk_store_ns_raise(f.s, f.ns, f.epoch + 1), 0);
    await(&f, yk_store_ticket_take(f.s));
    f.epoch++;
    for (uint32_t i = 0; i < 600; i++)
        assert_false(known(&f, i, NULL));
    reboot(&f, 0);
    assert_int_equal(f.epoch, 2);
    for (uint32_t i = 0; i < 600; i++)
        assert_false(known(&f, i, NULL));
    put(&f, 5, BLOCK);
    assert_true(get(&f, 5, 0, BLOCK));
    fixture_close(&f);
}

/* Whoever comes with an epoch that another has just raised waits for the same record (R9). */
static void an_equal_epoch_waits_for_who_raised_it(void **state) {
    struct fixture f;
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    assert_int_equal(yk_store_ns_raise(f.s, f.ns, f.epoch + 1), 0);
    uint64_t first = yk_store_ticket_take(f.s);
    assert_true(first != 0 && yk_store_durable(f.s, first) == 0);
    assert_int_equal(yk_store_ns_raise(f.s, f.ns, f.epoch + 1), 0);
    uint64_t second = yk_store_ticket_take(f.s);
    assert_true(second >= first && yk_store_durable(f.s, second) == 0);
    await(&f, second);
    assert_int_equal(yk_store_ns_raise(f.s, f.ns, f.epoch + 1), 0);
    assert_int_equal(yk_store_durable(f.s, yk_store_ticket_take(f.s)), 1);
    fixture_close(&f);
}

static struct yk_file *fault_io;

static int wrap_fault(void *arg, struct yk_file *io, struct yk_file **ret_io) {
    int rc = yk_file_fault_new(io, ret_io);
    fault_io = *ret_io;
    return rc;
}

static void an_epoch_that_no_device_records_is_an_error(void **state) {
    struct fixture f;
    struct yk_file_fault fault = {
        .kind = YK_FILE_FAULT_EIO, .op_mask = 1u << YK_FILE_FLUSH, .nth = 1};
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    f.o.ssd.io_wrap = wrap_fault;
    restart(&f, 1);
    settle(&f);
    yk_file_fault_set(fault_io, &fault);
    assert_int_equal(yk_store_ns_raise(f.s, f.ns, f.epoch + 1), 0);
    uint64_t ticket = yk_store_ticket_take(f.s);
    for (uint64_t end = yk_now_ns() + LIMIT; yk_store_durable(f.s, ticket) == 0;) {
        assert_true(yk_now_ns() < end);
        turn(&f);
    }
    assert_int_equal(yk_store_durable(f.s, ticket), -YK_EIO);
    assert_int_equal(yk_store_ns_raise(f.s, f.ns, f.epoch + 1), 0); /* no better for the next */
    assert_int_equal(yk_store_durable(f.s, yk_store_ticket_take(f.s)), -YK_EIO);
    assert_int_equal(yk_store_ns_raise(f.s, f.ns, f.epoch + 2), -YK_EIO);
    assert_int_equal(yk_store_ns_epoch(f.s, f.ns), f.epoch + 1);
    fixture_close(&f);
}

static void a_removed_namespace_is_gone_for_good(void **state) {
    struct fixture f;
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    put_many(&f, 600);
    assert_int_equal(yk_store_ns_remove(f.s, f.ns), 0);
    await(&f, yk_store_ticket_take(f.s));
    reboot(&f, 0); /* makes it anew, under the same name */
    for (uint32_t i = 0; i < 600; i++)
        assert_false(known(&f, i, NULL));
    fixture_close(&f);
}

static void other_bytes_conflict_and_an_upsert_replaces(void **state) {
    struct fixture f;
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    put_many(&f, 600);
    uint32_t tiers = 0;
    assert_true(known(&f, 0, &tiers));
    assert_int_equal(tiers, 1u << YK_TIER_SSD);
    assert_int_equal(put_flags(&f, 0, 1, BLOCK, 0, 0), -YK_ECONFLICT);
    assert_int_equal(put_flags(&f, 0, 1, BLOCK, YK_PUT_UPSERT, 0), 0);
    uint64_t ticket = yk_store_ticket_take(f.s);
    assert_true(ticket != 0); /* the reply waits until the older bytes cannot come back */
    await(&f, ticket);
    assert_true(get(&f, 0, 1, BLOCK));
    reboot(&f, 0);
    assert_false(get(&f, 0, 0, BLOCK));
    fixture_close(&f);
}

static void the_same_bytes_again_are_no_conflict(void **state) {
    struct fixture f;
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    put_many(&f, 600);
    assert_int_equal(put_flags(&f, 0, 0, BLOCK, 0, 0), 0);
    assert_int_equal(yk_store_ticket_take(f.s), 0);
    uint32_t tiers = 0;
    assert_true(known(&f, 0, &tiers));
    assert_int_equal(tiers, 1u << YK_TIER_DRAM | 1u << YK_TIER_SSD);
    fixture_close(&f);
}

static void a_time_to_live_holds_over_a_reboot(void **state) {
    struct fixture f;
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_WRITE_THROUGH);
    put(&f, 1, BLOCK);
    put(&f, 2, BLOCK);
    settle(&f);
    assert_int_equal(change(&f, YK_CHANGE_EXPIRE, 1, 1), 0);
    await(&f, yk_store_ticket_take(f.s));
    for (uint64_t end = yk_now_ns() + LIMIT; known(&f, 1, NULL);) {
        assert_true(yk_now_ns() < end);
        turn(&f);
    }
    reboot(&f, 0);
    assert_false(known(&f, 1, NULL));
    assert_true(known(&f, 2, NULL));
    fixture_close(&f);
}

/* The same bytes once more, for a block that is on SSD alone: a time to live that the put names holds there,
 * too, and one that the block has holds on if it names none. */
static void a_time_to_live_of_what_is_on_ssd(void **state) {
    struct fixture f;
    uint32_t tiers = 0;
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    put_many(&f, 600);
    assert_int_equal(change(&f, YK_CHANGE_EXPIRE, 2000, 1), 0);
    await(&f, yk_store_ticket_take(f.s));
    for (uint32_t i = 0; i < 2; i++) {
        assert_true(known(&f, i, &tiers));
        assert_int_equal(tiers, 1u << YK_TIER_SSD);
        assert_int_equal(put_flags(&f, i, 0, BLOCK, 0, i == 0 ? 300 : 0), 0);
        uint64_t ticket = yk_store_ticket_take(f.s);
        assert_int_equal(ticket != 0, i == 0);
        await(&f, ticket);
    }
    for (uint64_t end = yk_now_ns() + LIMIT; known(&f, 0, NULL) || known(&f, 1, NULL);) {
        assert_true(yk_now_ns() < end);
        turn(&f);
    }
    reboot(&f, 0);
    assert_false(known(&f, 0, NULL));
    assert_false(known(&f, 1, NULL));
    assert_true(known(&f, 2, NULL));
    fixture_close(&f);
}

static void a_hint_that_the_filter_gives(void **state) {
    struct fixture f;
    uint64_t bytes = 0;
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    assert_true(yk_store_filter_fd(f.s, &bytes) >= 0);
    assert_true(bytes > 0);
    fixture_close(&f);
}

static void asking_for_one_block_twice_reads_it_once(void **state) {
    struct fixture f;
    struct yk_counters a, b;
    char key[32];
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    put_many(&f, 600);
    yk_store_counters(f.s, &a);
    f.raised = 0;
    uint32_t len = key_of(key, 0);
    for (uint64_t t = 1; t <= 5; t++)
        assert_int_equal(yk_store_raise(f.s, f.ns, f.epoch, key, len, YK_SSD_PRIO_DEMAND, 0, t),
                         YK_PENDING);
    settle(&f);
    yk_store_counters(f.s, &b);
    assert_int_equal(b.raised, a.raised + 1);
    assert_int_equal(f.raised, 5);
    fixture_close(&f);
}

/* All of DRAM is reserved, so that what is asked for has to wait. */
static uint32_t reserve_all(struct fixture *f, struct yk_place *places, uint32_t most) {
    uint32_t n = 0, tries = 0;
    while (n < most && tries < 200) {
        if (yk_store_reserve(f->s, 0, BLOCK, &places[n], NULL) == 0) {
            n++;
            tries = 0;
        } else {
            turn(f);
            tries++;
        }
    }
    assert_true(n < most);
    return n;
}

static void ask(struct fixture *f, uint32_t i, unsigned prio, uint64_t deadline_ns,
                uint64_t token) {
    char key[32];
    uint32_t len = key_of(key, i);
    assert_int_equal(yk_store_raise(f->s, f->ns, f->epoch, key, len, prio, deadline_ns, token),
                     YK_PENDING);
}

static void until_raised(struct fixture *f, uint32_t n) {
    for (uint64_t end = yk_now_ns() + LIMIT; f->raised < n;) {
        assert_true(yk_now_ns() < end);
        turn(f);
    }
}

/* Demand comes before what is fetched ahead, in its own order, and so does what was fetched ahead and is
 * demanded now. */
static void demand_waits_for_demand_alone(void **state) {
    static struct yk_place places[1024];
    struct fixture f;
    uint64_t far = yk_now_ns() + 10 * LIMIT;
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    put_many(&f, 600);
    uint32_t n = reserve_all(&f, places, 1024);
    ask(&f, 1, YK_SSD_PRIO_PREFETCH, far, 1);
    ask(&f, 2, YK_SSD_PRIO_PREFETCH, far, 2);
    ask(&f, 3, YK_SSD_PRIO_DEMAND, far, 3);
    ask(&f, 4, YK_SSD_PRIO_DEMAND, far, 4);
    ask(&f, 2, YK_SSD_PRIO_DEMAND, far, 12);
    turn(&f);
    assert_int_equal(f.raised, 0);
    assert_int_equal(yk_store_abort(f.s, 0, places[n - 1].idx, places[n - 1].gen), 0);
    until_raised(&f, 5); /* all through the one place, one after the other */
    static const uint64_t order[] = {3, 4, 2, 12, 1};
    for (uint32_t i = 0; i < 5; i++)
        assert_int_equal(f.order[i], order[i]);
    while (--n > 0)
        yk_store_abort(f.s, 0, places[n - 1].idx, places[n - 1].gen);
    fixture_close(&f);
}

/* A deadline holds behind others that have more time; what is fetched ahead does not wait for ever. */
static void deadlines_hold_anywhere_in_a_list(void **state) {
    static struct yk_place places[1024];
    struct fixture f;
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    put_many(&f, 600);
    uint32_t n = reserve_all(&f, places, 1024);
    uint64_t now = yk_now_ns(), far = now + 1000 * LIMIT, soon = now + 50000000u;
    ask(&f, 1, YK_SSD_PRIO_PREFETCH, far, 1);
    ask(&f, 2, YK_SSD_PRIO_PREFETCH, soon, 2);
    ask(&f, 3, YK_SSD_PRIO_DEMAND, far, 3);
    ask(&f, 4, YK_SSD_PRIO_DEMAND, soon, 4);
    until_raised(&f, 2);
    assert_true(yk_now_ns() >= soon);
    assert_int_equal(f.order[0] + f.order[1], 6);
    until_raised(&f, 3);
    assert_int_equal(f.order[2], 1);
    while (n-- > 0)
        yk_store_abort(f.s, 0, places[n].idx, places[n].gen);
    until_raised(&f, 4);
    assert_true(get(&f, 3, 0, BLOCK));
    fixture_close(&f);
}

static void removed_while_it_comes_up(void **state) {
    struct fixture f;
    char key[32];
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    put_many(&f, 600);
    uint32_t len = key_of(key, 3);
    assert_int_equal(yk_store_raise(f.s, f.ns, f.epoch, key, len, YK_SSD_PRIO_DEMAND, 0, 1),
                     YK_PENDING);
    assert_int_equal(change(&f, YK_CHANGE_REMOVE, 0, 3), 0);
    settle(&f);
    assert_false(known(&f, 3, NULL));
    assert_false(get(&f, 3, 0, BLOCK));
    assert_int_equal(f.raised, 1);
    fixture_close(&f);
}

static void removed_while_it_goes_down(void **state) {
    struct fixture f;
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_WRITE_THROUGH);
    for (uint32_t i = 0; i < 100; i++) {
        put(&f, i, BLOCK);
        assert_int_equal(change(&f, YK_CHANGE_REMOVE, 0, i), 0);
        if (i % 10 == 0)
            turn(&f);
    }
    uint64_t ticket = yk_store_ticket_take(f.s);
    settle(&f);
    await(&f, ticket);
    reboot(&f, 0);
    for (uint32_t i = 0; i < 100; i++)
        assert_false(known(&f, i, NULL));
    fixture_close(&f);
}

/* The tier has dropped a block of its own accord, and that is not durable yet. Who removes it then, from
 * DRAM, where it is gone already, or by a pattern, hears of it only when it cannot come back. */
static void dropped_and_removed(void **state) {
    for (int how = 0; how < 3; how++) {
        struct fixture f;
        fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_WRITE_THROUGH);
        f.o.ssd.capacity_blocks = 10;
        restart(&f, 1);
        for (uint32_t i = 0; i < 10; i++)
            put(&f, i, BLOCK);
        settle(&f);
        put(&f, 10, BLOCK); /* 0 goes for it */
        yk_store_ticket_take(f.s);
        uint32_t cursor = 0;
        assert_int_equal(change(&f, YK_CHANGE_REMOVE, 0, 0), 0);
        uint64_t ticket = yk_store_ticket_take(f.s);
        if (how == 1) {
            assert_int_equal(change(&f, YK_CHANGE_REMOVE, 0, 0), YK_MISS);
            ticket = yk_store_ticket_take(f.s);
        }
        if (how == 2) {
            while (cursor != YK_WALK_END)
                assert_int_equal(
                    yk_store_remove_step(f.s, f.ns, YK_REMOVE_GLOB, "block-0", 7, &cursor, 64), 0);
            ticket = yk_store_ticket_take(f.s);
        }
        assert_true(ticket != 0);
        await(&f, ticket);
        reboot(&f, 0);
        assert_false(known(&f, 0, NULL));
        assert_true(known(&f, 1, NULL));
        fixture_close(&f);
    }
}

static struct yk_file *faults[2];
static unsigned fault_count;

static int wrap(void *arg, struct yk_file *io, struct yk_file **ret_io) {
    return yk_file_fault_new(io, ret_io) < 0 ? -YK_ENOMEM
                                               : (faults[fault_count++ % 2] = *ret_io, 0);
}

static int on_ssd(struct fixture *f, uint32_t i, uint32_t *ret_id) {
    char key[32];
    uint32_t len = key_of(key, i);
    return yk_ssd_find(yk_store_ssd(f->s), f->ns, yk_hash_key(f->ns, key, len), key, len, 0,
                       ret_id) == 0;
}

/* What DRAM has and stood on a device that is gone by now: its removal is acknowledged when the other device
 * has recorded that. */
static void removed_while_a_device_is_gone(void **state) {
    struct fixture f;
    struct yk_file_fault gone = {.kind = YK_FILE_FAULT_GONE, .op_mask = 0xff, .nth = 1};
    struct yk_file_fault slow = {.kind = YK_FILE_FAULT_DELAY,
                                .op_mask = 1u << YK_FILE_WRITE,
                                .rate_ppm = 1000000,
                                .arg = 200};
    struct yk_ssd_dev_stats st;
    struct yk_ssd_info info;
    char second[168];
    uint32_t id, n = 0, there[10] = {0};
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_WRITE_THROUGH);
    snprintf(second, sizeof(second), "%s-2", f.path);
    f.o.ssd.dev[1] = (struct yk_ssd_dev_opts){second, 96 * MIB};
    f.o.ssd.dev_count = 2;
    f.o.ssd.io_wrap = wrap;
    fault_count = 0;
    restart(&f, 1);
    for (uint32_t i = 0; i < 10; i++) {
        put(&f, i, BLOCK);
        settle(&f);
        assert_true(on_ssd(&f, i, &id));
        yk_ssd_info_get(yk_store_ssd(f.s), id, &info);
        there[i] = info.device == 0;
        n += there[i];
    }
    assert_true(n > 0 && n < 10);
    yk_file_fault_set(faults[1], &slow);
    yk_file_fault_set(faults[0], &gone);
    for (uint32_t i = 10; i < 14; i++) /* some of them for the first */
        put(&f, i, BLOCK);
    for (uint64_t end = yk_now_ns() + LIMIT;;) {
        assert_true(yk_now_ns() < end);
        yk_store_ssd_poll(f.s);
        yk_store_tick(f.s);
        yk_ssd_dev_stats_get(yk_store_ssd(f.s), 0, &st);
        if (st.state == YK_SSD_DEV_GONE)
            break;
    }
    yk_store_ticket_take(f.s);
    for (uint32_t i = 0; i < 10; i++)
        if (there[i])
            assert_int_equal(change(&f, YK_CHANGE_REMOVE, 0, i), 0);
    uint64_t ticket = yk_store_ticket_take(f.s);
    assert_true(ticket != 0);
    assert_int_equal(yk_store_durable(f.s, ticket), 0);
    await(&f, ticket);
    reboot(&f, 0);
    for (uint32_t i = 0; i < 10; i++)
        assert_int_equal(known(&f, i, NULL), !there[i]);
    unlink(second);
    fixture_close(&f);
}

static void rot_is_counted(void **state) {
    struct fixture f;
    struct yk_file_fault flip = {
        .kind = YK_FILE_FAULT_CORRUPT, .op_mask = 1u << YK_FILE_READ, .nth = 1};
    struct yk_ssd_counters n;
    uint32_t tiers = 0;
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_ON_DEMOTION);
    f.o.ssd.io_wrap = wrap;
    fault_count = 0;
    restart(&f, 1);
    put_many(&f, 600);
    assert_true(known(&f, 0, &tiers));
    assert_int_equal(tiers, 1u << YK_TIER_SSD);
    yk_file_fault_set(faults[0], &flip);
    assert_false(get(&f, 0, 0, BLOCK));
    uint64_t ticket = yk_store_ticket_take(f.s);
    assert_true(ticket != 0);
    await(&f, ticket);
    assert_false(known(&f, 0, NULL));
    yk_ssd_counters_get(yk_store_ssd(f.s), &n);
    assert_int_equal(n.rotten, 1);
    assert_int_equal(n.removed, 0);
    assert_true(get(&f, 1, 0, BLOCK));
    fixture_close(&f);
}

/* A block is found to be damaged while it is written to SSD, and put again before that ends: it has one
 * entry, and none when it is removed. */
static void damaged_while_it_goes_down(void **state) {
    struct fixture f;
    char key[32];
    uint32_t idx, len = key_of(key, 1);
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_WRITE_THROUGH);
    for (uint32_t i = 0; i < 20; i++) {
        put(&f, 1, BLOCK);
        assert_int_equal(yk_store_find(f.s, f.ns, f.epoch, key, len, &idx), 0);
        ((unsigned char *)(uintptr_t)yk_store_payload(f.s, idx))[100] ^= 1;
        assert_int_equal(change(&f, YK_CHANGE_VERIFY, 0, 1), -YK_ECORRUPT);
        put(&f, 1, BLOCK);
        settle(&f);
        assert_true(get(&f, 1, 0, BLOCK));
        assert_int_equal(change(&f, YK_CHANGE_REMOVE, 0, 1), 0);
        assert_false(known(&f, 1, NULL));
        await(&f, yk_store_ticket_take(f.s));
    }
    fixture_close(&f);
}

static void a_run_without_the_ssd_empties_it(void **state) {
    struct fixture f;
    fixture_open(&f, 16 * MIB, 96 * MIB, YK_SSD_WRITE_THROUGH);
    put(&f, 1, BLOCK);
    settle(&f);
    f.o.ssd.dev_count = 0;
    restart(&f, 1);
    assert_int_equal(change(&f, YK_CHANGE_REMOVE, 0, 1), 0); /* the SSD does not hear of it */
    f.o.ssd.dev_count = 1;
    restart(&f, 1);
    assert_false(known(&f, 1, NULL));
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pool_larger_than_dram_keeps_everything),
        cmocka_unit_test(sizes_of_all_kinds_come_back),
        cmocka_unit_test(a_second_write_is_not_needed),
        cmocka_unit_test(write_through_has_a_copy_at_once),
        cmocka_unit_test(a_restart_finds_both_tiers),
        cmocka_unit_test(a_reboot_finds_the_ssd),
        cmocka_unit_test(a_stop_writes_what_memory_has),
        cmocka_unit_test(a_stop_keeps_its_deadline),
        cmocka_unit_test(preloading_brings_blocks_up),
        cmocka_unit_test(what_was_removed_stays_away),
        cmocka_unit_test(batch_removal_covers_both_tiers),
        cmocka_unit_test(listing_names_each_once),
        cmocka_unit_test(an_epoch_hides_what_is_on_ssd),
        cmocka_unit_test(an_equal_epoch_waits_for_who_raised_it),
        cmocka_unit_test(an_epoch_that_no_device_records_is_an_error),
        cmocka_unit_test(a_removed_namespace_is_gone_for_good),
        cmocka_unit_test(other_bytes_conflict_and_an_upsert_replaces),
        cmocka_unit_test(the_same_bytes_again_are_no_conflict),
        cmocka_unit_test(a_time_to_live_holds_over_a_reboot),
        cmocka_unit_test(a_time_to_live_of_what_is_on_ssd),
        cmocka_unit_test(a_hint_that_the_filter_gives),
        cmocka_unit_test(asking_for_one_block_twice_reads_it_once),
        cmocka_unit_test(demand_waits_for_demand_alone),
        cmocka_unit_test(deadlines_hold_anywhere_in_a_list),
        cmocka_unit_test(removed_while_it_comes_up),
        cmocka_unit_test(removed_while_it_goes_down),
        cmocka_unit_test(dropped_and_removed),
        cmocka_unit_test(removed_while_a_device_is_gone),
        cmocka_unit_test(rot_is_counted),
        cmocka_unit_test(damaged_while_it_goes_down),
        cmocka_unit_test(a_run_without_the_ssd_empties_it),
    };
    return cmocka_run_group_tests(tests, make_dirs, remove_dirs);
}
