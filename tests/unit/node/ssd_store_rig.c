/* SPDX-License-Identifier: Apache-2.0
 *
 * See ssd_store_rig.h.
 */
#include "ssd_store_rig.h"

#include "base/hash.h"

#include <dirent.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>

static int counter;
static char shm_dir[64], ssd_dir[128];
static int wake_fd = -1;

struct yk_file *faults[2];
unsigned fault_count;

int wrap(void *arg, struct yk_file *io, struct yk_file **ret_io) {
    return yk_file_fault_new(io, ret_io) < 0 ? -YK_ENOMEM
                                               : (faults[fault_count++ % 2] = *ret_io, 0);
}

int make_dirs(void **state) {
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

int remove_dirs(void **state) {
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

void store_open(struct fixture *f) {
    struct yk_err err = {0};
    int rc = yk_store_open(&f->o, &f->s, &err);
    if (rc < 0)
        print_error("open: %s\n", err.text);
    assert_int_equal(rc, 0);
    assert_int_equal(yk_store_ns_open(f->s, "default", 7, 1, &f->ns, &err), 0);
    f->epoch = yk_store_ns_epoch(f->s, f->ns);
    f->durable = 0;
}

void fixture_init(struct fixture *f, uint64_t dram, uint64_t ssd, uint8_t when) {
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
}

void fixture_open(struct fixture *f, uint64_t dram, uint64_t ssd, uint8_t when) {
    fixture_init(f, dram, ssd, when);
    store_open(f);
}

void turn(struct fixture *f) {
    struct pollfd p = {wake_fd, POLLIN, 0};
    eventfd_t n;
    yk_store_ssd_poll(f->s);
    yk_store_tick(f->s);
    if (poll(&p, 1, 2) == 1) /* until a device has done something; a tick is due anyway */
        eventfd_read(wake_fd, &n);
}

void settle(struct fixture *f) {
    for (uint64_t end = yk_now_ns() + LIMIT; yk_store_ssd_busy(f->s);) {
        assert_true(yk_now_ns() < end);
        turn(f);
    }
}

void await(struct fixture *f, uint64_t ticket) {
    for (uint64_t end = yk_now_ns() + LIMIT; yk_store_durable(f->s, ticket) != 1;) {
        assert_true(yk_now_ns() < end);
        assert_true(yk_store_durable(f->s, ticket) == 0);
        turn(f);
    }
}

void restart(struct fixture *f, int clean) {
    yk_store_close(f->s, clean);
    store_open(f);
}

void reboot(struct fixture *f, int clean) {
    struct yk_segment seg = *yk_store_segment(f->s);
    yk_store_close(f->s, clean);
    yk_segment_unlink(&seg);
    store_open(f);
}

void fixture_close(struct fixture *f) {
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

uint32_t key_of(char *key, uint32_t i) {
    return (uint32_t)sprintf(key, "block-%u", i);
}

static int put_of(struct fixture *f, uint32_t i, uint32_t version, uint32_t len,
                  struct yk_commit *c) {
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
    c->idx = p.idx;
    c->gen = p.gen;
    c->sum = yk_hash64(to, len);
    c->len = len;
    c->epoch = f->epoch;
    c->key = key;
    c->key_len = key_of(key, i);
    c->attrs.depth_tokens = i;
    c->attrs.length_tokens = 512;
    c->attrs.session = 7;
    c->attrs.kind = 3;
    return yk_store_commit(f->s, 0, f->ns, c);
}

int put_flags(struct fixture *f, uint32_t i, uint32_t version, uint32_t len, uint32_t flags,
              uint64_t ttl_ms) {
    struct yk_commit c = {.attrs = {.flags = flags, .ttl_ms = ttl_ms}};
    return put_of(f, i, version, len, &c);
}

void put_child(struct fixture *f, uint32_t i, uint32_t parent, uint32_t len) {
    char key[32];
    struct yk_commit c = {.parent = key, .parent_len = key_of(key, parent)};
    assert_int_equal(put_of(f, i, 0, len, &c), 0);
}

void put(struct fixture *f, uint32_t i, uint32_t len) {
    assert_int_equal(put_flags(f, i, 0, len, 0, 0), 0);
}

int get(struct fixture *f, uint32_t i, uint32_t version, uint32_t len) {
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

int known(struct fixture *f, uint32_t i, uint32_t *ret_tiers) {
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

int on_ssd(struct fixture *f, uint32_t i, uint32_t *ret_id) {
    char key[32];
    uint32_t len = key_of(key, i);
    return yk_ssd_find(yk_store_ssd(f->s), f->ns, yk_hash_key(f->ns, key, len), key, len, 0,
                       ret_id) == 0;
}

int change(struct fixture *f, unsigned what, uint64_t arg, uint32_t i) {
    char key[32];
    uint32_t len = key_of(key, i);
    return yk_store_change(f->s, f->ns, f->epoch, what, arg, key, len);
}

void put_many(struct fixture *f, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        put(f, i, BLOCK);
    settle(f);
}
