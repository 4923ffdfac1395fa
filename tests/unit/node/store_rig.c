/* SPDX-License-Identifier: Apache-2.0
 *
 * See store_rig.h.
 */
#include "store_rig.h"

#include "base/hash.h"

#include <dirent.h>
#include <sys/stat.h>

static int counter;
static char dir[64];

int make_dir(void **state) {
    snprintf(dir, sizeof(dir), "/dev/shm/yolk-test-%d", (int)getpid());
    return mkdir(dir, 0700);
}

int remove_dir(void **state) {
    char path[512];
    DIR *d = opendir(dir);
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
        unlink(path);
    }
    if (d != NULL)
        closedir(d);
    return rmdir(dir);
}

void store_open(struct fixture *f) {
    struct yk_err err = {0};
    int rc = yk_store_open(&f->o, &f->s, &err);
    if (rc < 0)
        print_error("open: %s\n", err.text);
    assert_int_equal(rc, 0);
    assert_int_equal(yk_store_ns_open(f->s, "default", 7, 1, &f->ns, &err), 0);
    f->epoch = yk_store_ns_epoch(f->s, f->ns);
}

void fixture_init(struct fixture *f, uint64_t bytes, uint64_t capacity_blocks, const char *policy) {
    memset(f, 0, sizeof(*f));
    snprintf(f->name, sizeof(f->name), "%d", counter++);
    f->o.segment.dir = dir;
    f->o.segment.name = f->name;
    f->o.segment.data_bytes = bytes;
    f->o.segment.max_clients = 16;
    f->o.segment.numa_node = -1;
    f->o.policy = policy;
    f->o.capacity_blocks = capacity_blocks;
    f->o.reserve_percent = 2;
    f->o.held_percent = 50;
}

void fixture_open(struct fixture *f, uint64_t bytes, uint64_t capacity_blocks, const char *policy) {
    fixture_init(f, bytes, capacity_blocks, policy);
    store_open(f);
}

void crash(struct fixture *f) {
    yk_store_close(f->s, 0);
    store_open(f);
}

void fixture_close(struct fixture *f) {
    struct yk_segment seg = *yk_store_segment(f->s);
    yk_store_close(f->s, 1);
    yk_segment_unlink(&seg);
}

int put_as(struct fixture *f, uint32_t slot, const char *key, const char *parent, const void *data,
           uint32_t len, uint32_t flags) {
    struct yk_place p;
    struct yk_err err = {0};
    int rc = yk_store_reserve(f->s, slot, len, &p, &err);
    if (rc < 0)
        return rc;
    memcpy((char *)yk_store_segment(f->s)->data + p.offset, data, len);
    struct yk_commit c = {.idx = p.idx,
                          .gen = p.gen,
                          .epoch = f->epoch,
                          .sum = yk_hash64(data, len),
                          .len = len,
                          .key = key,
                          .key_len = (uint32_t)strlen(key)};
    c.attrs.flags = flags;
    if (parent != NULL) {
        c.parent = parent;
        c.parent_len = (uint32_t)strlen(parent);
    }
    return yk_store_commit(f->s, slot, f->ns, &c);
}

int put(struct fixture *f, const char *key, const void *data, uint32_t len) {
    return put_as(f, 0, key, NULL, data, len, 0);
}

void put_tiny(struct fixture *f, int n) {
    char key[16] = {0};
    for (int i = 0; i < n; i++) {
        snprintf(key, sizeof(key), "t%d", i);
        assert_int_equal(put(f, key, "x", 1), 0);
    }
}

int find(struct fixture *f, const char *key, uint32_t *ret_idx) {
    return yk_store_find(f->s, f->ns, f->epoch, key, (uint32_t)strlen(key), ret_idx);
}

int here(struct fixture *f, const char *key) {
    uint32_t idx;
    return find(f, key, &idx) == 0;
}

int same(struct fixture *f, const char *key, const void *data, uint32_t len) {
    uint32_t idx;
    yk_block_info info;
    if (find(f, key, &idx) != 0 || yk_store_settle(f->s, idx) != 0)
        return 0;
    yk_store_info(f->s, idx, &info);
    return info.len == len && memcmp(yk_store_payload(f->s, idx), data, len) == 0;
}

int change(struct fixture *f, unsigned what, uint64_t arg, const char *key) {
    return yk_store_change(f->s, f->ns, f->epoch, what, arg, key, (uint32_t)strlen(key));
}

struct yk_counters counters(struct fixture *f) {
    struct yk_counters n;
    yk_store_tick(f->s);
    yk_store_counters(f->s, &n);
    return n;
}
