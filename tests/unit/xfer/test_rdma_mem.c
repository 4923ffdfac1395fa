/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory that is made known to devices (mem.c, registrar.c, device.c). The library is a script here: it answers when the
 * test lets it, and refuses what the test says, which no device does on request. That real devices move bytes by these
 * keys is for test_xfer_rdma.c.
 */
#include "xfer/rdma/device_priv.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define DEVICES 2u
#define CHUNK   YK_RDMA_CHUNK
#define LOOK_NS (30 * YK_NS_PER_S) /* for what must come */
#define LOG_MAX 64u

/* ---- the library ---------------------------------------------------------------------------------------- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct script {
    uint32_t passes;    /* registrations that may end, UINT32_MAX: all */
    uint32_t inside;    /* that are under way */
    uint32_t refusing;  /* all of them */
    uint32_t absent;    /* there are no devices */
    uint32_t pages;     /* those that are opened take memory that is not pinned: what is refused otherwise */
    uint32_t slow;      /* opening waits until it is 0 */
    uint32_t opening;   /* that are at it */
    uint32_t strict;    /* none takes memory for which its writes may come in any order */
    uint32_t relaxed;   /* so often one was asked to */
    uint32_t keeping;   /* no device forgets anything */
    uint32_t kept;      /* so often one was asked to */
    uint32_t begun, made, gone, opened, closed;
    uint32_t buffers;   /* dma-bufs that were registered; of the last: */
    int buffer_fd;
    uint64_t buffer_at, buffer_iova;
    int access;         /* of the last */
    uint64_t log[LOG_MAX]; /* addresses, as they began */
    uint32_t key;
} script;

static struct ibv_device devices[DEVICES];
static struct verbs_context contexts[DEVICES];
static struct ibv_pd pds[DEVICES];

static void set(uint32_t *field, uint32_t value) {
    pthread_mutex_lock(&lock);
    *field = value;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static uint32_t get(const uint32_t *field) {
    pthread_mutex_lock(&lock);
    uint32_t value = *field;
    pthread_mutex_unlock(&lock);
    return value;
}

static void await(const uint32_t *field, uint32_t at_least) {
    uint64_t until = yk_now_ns() + LOOK_NS;
    struct timespec ms = {.tv_nsec = 1000000};
    while (get(field) < at_least && yk_now_ns() < until)
        nanosleep(&ms, NULL);
    assert_true(get(field) >= at_least);
}

static struct ibv_device **list(int *count) {
    struct ibv_device **l = calloc(DEVICES + 1, sizeof(struct ibv_device *));
    *count = get(&script.absent) ? 0 : (int)DEVICES;
    for (int i = 0; l != NULL && i < *count; i++)
        l[i] = &devices[i];
    return l;
}

static void list_free(struct ibv_device **l) {
    free(l);
}

static const char *name_of(struct ibv_device *d) {
    return d->name;
}

static uint32_t number_of(const struct ibv_context *c) {
    return (uint32_t)(c->device - devices);
}

static int query_more(struct ibv_context *c, const struct ibv_query_device_ex_input *in, struct ibv_device_attr_ex *attr,
                      size_t size) {
    (void)c, (void)in, (void)size;
    if (get(&script.pages))
        attr->odp_caps = (struct ibv_odp_caps){IBV_ODP_SUPPORT, {.rc_odp_caps = IBV_ODP_SUPPORT_READ}};
    return 0;
}

static struct ibv_context *open_one(struct ibv_device *d) {
    struct verbs_context *v = &contexts[d - devices];
    pthread_mutex_lock(&lock);
    script.opening++;
    while (script.slow && d == &devices[0])
        pthread_cond_wait(&changed, &lock);
    script.opening--;
    script.opened++;
    pthread_mutex_unlock(&lock);
    memset(v, 0, sizeof(*v));
    v->sz = sizeof(*v);
    v->query_device_ex = query_more;
    v->context.device = d;
    v->context.abi_compat = __VERBS_ABI_IS_EXTENDED;
    return &v->context;
}

static int close_one(struct ibv_context *c) {
    (void)c;
    pthread_mutex_lock(&lock);
    script.closed++;
    pthread_mutex_unlock(&lock);
    return 0;
}

static int query(struct ibv_context *c, struct ibv_device_attr *attr) {
    (void)c;
    attr->max_qp_rd_atom = attr->max_qp_init_rd_atom = 16;
    attr->max_qp_wr = 256;
    return 0;
}

static struct ibv_pd *pd_of(struct ibv_context *c) {
    return &pds[number_of(c)];
}

static int pd_free(struct ibv_pd *pd) {
    (void)pd;
    return 0;
}

static struct ibv_mr *reg(struct ibv_pd *pd, void *addr, size_t len, int access) {
    struct ibv_mr *mr = calloc(1, sizeof(*mr));
    pthread_mutex_lock(&lock);
    script.inside++;
    script.log[script.begun++ % LOG_MAX] = (uint64_t)(uintptr_t)addr;
    script.access = access;
    while (script.passes == 0)
        pthread_cond_wait(&changed, &lock);
    script.passes -= script.passes != UINT32_MAX;
    script.inside--;
    int refused = mr == NULL || (script.refusing && !(access & IBV_ACCESS_ON_DEMAND));
    script.made += !refused;
    uint32_t key = ++script.key;
    pthread_mutex_unlock(&lock);
    if (refused) {
        free(mr);
        return NULL;
    }
    *mr = (struct ibv_mr){.pd = pd, .addr = addr, .length = len, .lkey = key, .rkey = key};
    return mr;
}

static struct ibv_mr *reg_more(struct ibv_pd *pd, void *addr, size_t len, uint64_t iova, unsigned int access) {
    assert_true(iova == (uint64_t)(uintptr_t)addr);
    pthread_mutex_lock(&lock);
    script.relaxed += (access & IBV_ACCESS_RELAXED_ORDERING) != 0;
    int refused = script.strict || script.refusing;
    pthread_mutex_unlock(&lock);
    return refused ? NULL : reg(pd, addr, len, (int)access);
}

static struct ibv_mr *reg_buffer(struct ibv_pd *pd, uint64_t offset, size_t len, uint64_t iova, int fd, int access) {
    pthread_mutex_lock(&lock);
    script.buffers++;
    script.buffer_fd = fd;
    script.buffer_at = offset;
    script.buffer_iova = iova;
    pthread_mutex_unlock(&lock);
    return reg(pd, (void *)(uintptr_t)iova, len, access);
}

static int dereg(struct ibv_mr *mr) {
    pthread_mutex_lock(&lock);
    int keeps = script.keeping != 0;
    script.kept += (uint32_t)keeps;
    script.gone += !keeps;
    pthread_mutex_unlock(&lock);
    if (keeps)
        return EBUSY;
    free(mr);
    return 0;
}

static const struct yk_verbs verbs = {
    .get_device_list = list, .free_device_list = list_free, .get_device_name = name_of, .open_device = open_one,
    .close_device = close_one, .query_device = query, .alloc_pd = pd_of, .dealloc_pd = pd_free, .reg_mr = reg,
    .reg_mr_iova2 = reg_more, .reg_dmabuf_mr = reg_buffer, .dereg_mr = dereg, .forks_well = 1,
};

/* In place of the one that loads libibverbs. */
const struct yk_verbs *yk_verbs_load(struct yk_err *err) {
    (void)err;
    return &verbs;
}

static int begin(void **state) {
    (void)state;
    memset(&script, 0, sizeof(script));
    memcpy(devices[0].name, "dev0", 5);
    memcpy(devices[1].name, "dev1", 5);
    return 0;
}

/* Nothing is left of what was made. */
static int end(void **state) {
    (void)state;
    uint64_t until = yk_now_ns() + LOOK_NS;
    struct timespec ms = {.tv_nsec = 1000000};
    while (get(&script.opened) != get(&script.closed) && yk_now_ns() < until) /* a device that a lane asked for is kept */
        nanosleep(&ms, NULL);
    return script.made == script.gone && script.opened == script.closed && script.inside == 0 ? 0 : -1;
}

/* ---- the rig -------------------------------------------------------------------------------------------- */

struct rig {
    char *base;
    uint64_t len;
    struct yk_rdma_mem *mem;
    struct yk_rdma_dev *dev[DEVICES];
};

static void rig_open(struct rig *r, uint64_t len) {
    r->len = len;
    r->base = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_true(r->base != MAP_FAILED);
    r->mem = yk_rdma_mem_new(r->base, len, NULL);
    assert_non_null(r->mem);
    for (uint32_t i = 0; i < DEVICES; i++)
        assert_int_equal(yk_rdma_dev_get(devices[i].name, &r->dev[i], NULL), 0);
}

/* As who unregisters it. */
static int mem_end(struct yk_rdma_mem *m, uint64_t until_ns) {
    struct timespec ms = {.tv_nsec = 1000000};
    int rc;
    while ((rc = yk_rdma_mem_end(m, 0)) < 0 && yk_now_ns() < until_ns)
        nanosleep(&ms, NULL);
    return rc;
}

static void rig_close(struct rig *r) {
    assert_int_equal(mem_end(r->mem, yk_now_ns() + LOOK_NS), 0);
    for (uint32_t i = 0; i < DEVICES; i++)
        yk_rdma_dev_put(r->dev[i]);
    munmap(r->base, r->len);
}

static int key(struct rig *r, uint32_t dev, uint64_t offset, uint64_t len, struct yk_rdma_key *ret_key) {
    return yk_rdma_mem_key(r->mem, r->dev[dev], offset, len, ret_key);
}

static void settle(struct rig *r) {
    assert_int_equal(yk_rdma_mem_wait(r->mem, yk_now_ns() + LOOK_NS), 0);
}

static struct yk_rdma_progress progress(const char *device) {
    struct yk_rdma_progress all[YK_RDMA_DEVICES_MAX];
    uint32_t n = yk_rdma_progress(all);
    for (uint32_t i = 0; i < n; i++)
        if (strcmp(all[i].device, device) == 0)
            return all[i];
    return (struct yk_rdma_progress){.bytes = 0};
}

/* ---- cases ---------------------------------------------------------------------------------------------- */

/* Each device has a thread; who asks for a key meanwhile is told that there is none, and is not held up. */
static void devices_work_side_by_side(void **state) {
    struct rig r;
    struct yk_rdma_key k;
    (void)state;
    rig_open(&r, 3 * CHUNK + 4096);
    yk_rdma_mem_want(r.mem, "dev0", YK_RDMA_ALL);
    yk_rdma_mem_want(r.mem, "dev1", YK_RDMA_ALL);
    await(&script.inside, 2);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(key(&r, i % 2, i * CHUNK, 4096, &k), -YK_ENOTSUP);
    assert_int_equal(progress("dev0").bytes, r.len);
    assert_int_equal(progress("dev0").known, 0);
    set(&script.passes, UINT32_MAX);
    settle(&r);
    for (uint32_t i = 0; i < DEVICES; i++) {
        assert_int_equal(progress(devices[i].name).known, r.len);
        assert_int_equal(progress(devices[i].name).refused, 0);
        assert_int_equal(key(&r, i, 3 * CHUNK, 4096, &k), 0);
    }
    assert_int_equal(get(&script.begun), 8); /* each once */
    rig_close(&r);
    assert_int_equal(progress("dev0").bytes, 0);
}

static void what_is_needed_comes_first(void **state) {
    struct rig r;
    struct yk_rdma_key k;
    static const uint64_t order[] = {0, 3, 1, 2};
    (void)state;
    rig_open(&r, 4 * CHUNK);
    yk_rdma_mem_want(r.mem, "dev0", YK_RDMA_ALL);
    await(&script.inside, 1);
    for (int i = 0; i < 3; i++)
        assert_int_equal(key(&r, 0, 3 * CHUNK + 10, 100, &k), -YK_ENOTSUP);
    set(&script.passes, UINT32_MAX);
    settle(&r);
    assert_int_equal(get(&script.begun), 4);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal((script.log[i] - (uint64_t)(uintptr_t)r.base) / CHUNK, order[i]);
    rig_close(&r);
}

/* A device that nobody named when the memory was registered: one that came up later. */
static void a_device_that_comes_later(void **state) {
    struct rig r;
    struct yk_rdma_key k;
    (void)state;
    rig_open(&r, 2 * CHUNK);
    set(&script.passes, UINT32_MAX);
    assert_int_equal(key(&r, 1, CHUNK, 100, &k), -YK_ENOTSUP);
    settle(&r);
    assert_int_equal(key(&r, 1, CHUNK, 100, &k), 0);
    assert_int_equal(key(&r, 1, 0, 100, &k), 0);
    assert_int_equal(progress("dev0").bytes, 0);
    rig_close(&r);
}

static int until_known(struct rig *r, uint32_t dev, uint64_t offset) {
    uint64_t until = yk_now_ns() + LOOK_NS;
    struct timespec ms = {.tv_nsec = 1000000};
    struct yk_rdma_key k;
    int rc;
    while ((rc = key(r, dev, offset, 1, &k)) < 0 && yk_now_ns() < until)
        nanosleep(&ms, NULL);
    return rc;
}

static void what_was_refused_is_tried_again(void **state) {
    struct rig r;
    struct yk_rdma_key k;
    (void)state;
    rig_open(&r, 2 * CHUNK);
    set(&script.refusing, 1);
    set(&script.passes, UINT32_MAX);
    yk_rdma_mem_want(r.mem, "dev0", YK_RDMA_ALL);
    settle(&r);
    assert_int_equal(progress("dev0").known, 0);
    assert_int_equal(progress("dev0").refused, r.len);
    uint32_t begun = get(&script.begun);
    assert_int_equal(begun, 2);
    set(&script.refusing, 0);
    set(&script.passes, 0);
    uint64_t until = yk_now_ns() + LOOK_NS;
    while (get(&script.begun) == begun && yk_now_ns() < until)
        assert_int_equal(key(&r, 0, 0, 1, &k), -YK_ENOTSUP);
    assert_true(yk_rdma_mem_comes(r.mem, r.dev[0], 0, 1)); /* it is under way */
    assert_false(yk_rdma_mem_comes(r.mem, r.dev[0], CHUNK, 1));
    set(&script.passes, UINT32_MAX);
    assert_int_equal(until_known(&r, 0, CHUNK), 0);
    assert_int_equal(until_known(&r, 0, 0), 0);
    assert_int_equal(progress("dev0").known, r.len);
    assert_int_equal(progress("dev0").refused, 0);
    rig_close(&r);
}

static void a_device_that_cannot_be_opened(void **state) {
    struct rig r;
    (void)state;
    rig_open(&r, 2 * CHUNK);
    for (uint32_t i = 0; i < DEVICES; i++)
        yk_rdma_dev_put(r.dev[i]);
    set(&script.absent, 1);
    set(&script.passes, UINT32_MAX);
    yk_rdma_mem_want(r.mem, "dev0", YK_RDMA_ALL);
    settle(&r);
    assert_int_equal(progress("dev0").refused, r.len);
    assert_int_equal(get(&script.begun), 0);
    set(&script.absent, 0);
    for (uint32_t i = 0; i < DEVICES; i++)
        assert_int_equal(yk_rdma_dev_get(devices[i].name, &r.dev[i], NULL), 0);
    assert_int_equal(until_known(&r, 0, CHUNK), 0);
    settle(&r);
    assert_int_equal(progress("dev0").known, r.len); /* the rest goes on by itself */
    assert_int_equal(progress("dev0").refused, 0);
    rig_close(&r);
}

/* Memory that is unregistered in the middle of it: when that is over no device is at it, and none will be. Until then who
 * unregisters is told so, and not held up. */
static void the_end_waits_for_what_is_under_way(void **state) {
    struct rig r;
    struct yk_rdma_key k;
    (void)state;
    rig_open(&r, 8 * CHUNK);
    struct yk_rdma_mem *at_work = r.mem;
    yk_rdma_mem_want(r.mem, "dev0", YK_RDMA_ALL);
    yk_rdma_mem_want(r.mem, "dev1", YK_RDMA_ALL);
    await(&script.inside, 2);
    for (int i = 0; i < 3; i++)
        assert_int_equal(yk_rdma_mem_end(at_work, 0), -YK_EAGAIN);
    assert_int_equal(get(&script.inside), 2);
    set(&script.passes, 1);
    await(&script.gone, 1);
    assert_int_equal(yk_rdma_mem_end(at_work, 0), -YK_EAGAIN); /* the other device */
    set(&script.passes, UINT32_MAX);
    assert_int_equal(mem_end(at_work, yk_now_ns() + LOOK_NS), 0);
    assert_int_equal(get(&script.inside), 0);
    assert_int_equal(get(&script.begun), 2);
    assert_int_equal(get(&script.gone), 2);
    r.mem = yk_rdma_mem_new(r.base, r.len, NULL);
    assert_int_equal(key(&r, 0, 7 * CHUNK, 1, &k), -YK_ENOTSUP);
    settle(&r);
    rig_close(&r);
}

/* A device that hangs in a registration: nobody who has an end to wait for is held up by it, and what it was never told
 * is free at once. When it goes on by itself it forgets what it was to forget. */
static void a_device_that_hangs(void **state) {
    struct rig r;
    struct yk_rdma_key k;
    char *other = mmap(NULL, CHUNK, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    (void)state;
    rig_open(&r, 2 * CHUNK);
    yk_rdma_mem_want(r.mem, "dev0", YK_RDMA_ALL);
    await(&script.inside, 1);
    struct yk_rdma_mem *behind = yk_rdma_mem_new(other, CHUNK, NULL);
    yk_rdma_mem_want(behind, "dev0", YK_RDMA_ALL);
    assert_int_equal(yk_rdma_mem_wait(behind, yk_now_ns() + 1), -YK_ETIMEDOUT);
    assert_int_equal(yk_rdma_mem_end(behind, 0), 0);
    assert_int_equal(yk_rdma_mem_end(r.mem, 0), -YK_EAGAIN);
    assert_int_equal(yk_rdma_mem_end(r.mem, 1), -YK_EAGAIN); /* it is given up */
    assert_int_equal(progress("dev0").bytes, r.len);
    r.mem = yk_rdma_mem_new(r.base, r.len, NULL);
    assert_int_equal(key(&r, 0, 0, 1, &k), -YK_ENOTSUP);
    set(&script.passes, UINT32_MAX);
    await(&script.gone, 1);
    settle(&r);
    assert_int_equal(key(&r, 0, 0, 1, &k), 0);
    rig_close(&r);
    munmap(other, CHUNK);
}

/* A device that refuses to forget memory knows it: it is not free until that was done, and others are served meanwhile. */
static void a_device_that_does_not_forget(void **state) {
    struct rig r;
    char *other = mmap(NULL, CHUNK, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    (void)state;
    set(&script.passes, UINT32_MAX);
    rig_open(&r, 3 * CHUNK);
    yk_rdma_mem_want(r.mem, "dev0", YK_RDMA_ALL);
    settle(&r);
    set(&script.keeping, 1);
    assert_int_equal(yk_rdma_mem_end(r.mem, 0), -YK_EAGAIN);
    await(&script.kept, 4); /* of three chunks: it was asked again */
    assert_int_equal(yk_rdma_mem_end(r.mem, 0), -YK_EAGAIN);
    struct yk_rdma_mem *behind = yk_rdma_mem_new(other, CHUNK, NULL);
    yk_rdma_mem_want(behind, "dev0", YK_RDMA_ALL);
    assert_int_equal(yk_rdma_mem_wait(behind, yk_now_ns() + LOOK_NS), 0);
    assert_int_equal(get(&script.gone), 0);
    set(&script.keeping, 0);
    assert_int_equal(mem_end(behind, yk_now_ns() + LOOK_NS), 0);
    rig_close(&r);
    assert_int_equal(get(&script.gone), 4);
    munmap(other, CHUNK);
}

/* One that hangs while it is opened has no memory. */
static void a_device_that_hangs_in_its_opening(void **state) {
    struct rig r = {.len = CHUNK};
    (void)state;
    set(&script.passes, UINT32_MAX);
    set(&script.slow, 1);
    r.base = mmap(NULL, r.len, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    r.mem = yk_rdma_mem_new(r.base, r.len, NULL);
    yk_rdma_mem_want(r.mem, "dev0", YK_RDMA_ALL);
    await(&script.opening, 1);
    assert_int_equal(yk_rdma_mem_end(r.mem, 0), 0);
    munmap(r.base, r.len);
    set(&script.slow, 0);
    await(&script.closed, 1);
    assert_int_equal(get(&script.begun), 0);
}

/* A chunk of each region in turn: a small one waits for one chunk of the large one before it. */
static void small_memory_does_not_wait_for_large(void **state) {
    struct rig r;
    char *other = mmap(NULL, CHUNK, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    (void)state;
    rig_open(&r, 8 * CHUNK);
    yk_rdma_mem_want(r.mem, "dev0", YK_RDMA_ALL);
    await(&script.inside, 1);
    struct yk_rdma_mem *small = yk_rdma_mem_new(other, CHUNK, NULL);
    yk_rdma_mem_want(small, "dev0", YK_RDMA_ALL);
    set(&script.passes, 2); /* the one that is under way, and the next */
    assert_int_equal(yk_rdma_mem_wait(small, yk_now_ns() + LOOK_NS), 0);
    assert_true(script.log[1] == (uint64_t)(uintptr_t)other);
    set(&script.passes, UINT32_MAX);
    assert_int_equal(mem_end(small, yk_now_ns() + LOOK_NS), 0);
    settle(&r);
    assert_int_equal(progress("dev0").known, r.len);
    rig_close(&r);
    munmap(other, CHUNK);
}

/* What one engine's settings leave out is not told of its memory because another engine has a lane over it. */
static void a_device_is_told_of_its_engines_memory(void **state) {
    static const int one, two;
    char *base = mmap(NULL, 2 * CHUNK, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    struct yk_rdma_dev *dev;
    struct yk_err err;
    (void)state;
    set(&script.passes, UINT32_MAX);
    struct yk_rdma_mem *a = yk_rdma_mem_new(base, CHUNK, &one), *b = yk_rdma_mem_new(base + CHUNK, CHUNK, &two);
    assert_int_equal(yk_rdma_dev_soon("dev0", &one, &dev, &err), -YK_EAGAIN);
    assert_int_equal(yk_rdma_mem_wait(a, yk_now_ns() + LOOK_NS), 0);
    assert_int_equal(yk_rdma_mem_wait(b, yk_now_ns() + LOOK_NS), 0);
    assert_int_equal(progress("dev0").known, CHUNK);
    assert_int_equal(get(&script.begun), 1);
    assert_true(script.log[0] == (uint64_t)(uintptr_t)base);
    assert_int_equal(mem_end(a, yk_now_ns() + LOOK_NS), 0);
    assert_int_equal(mem_end(b, yk_now_ns() + LOOK_NS), 0);
    munmap(base, 2 * CHUNK);
}

/* No key has a byte that is not the region's, nor lets a peer write. */
static void keys_end_with_the_region(void **state) {
    static const uint64_t lens[] = {1, 4096, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 12345};
    struct rig r;
    struct yk_rdma_key k;
    (void)state;
    set(&script.passes, UINT32_MAX);
    for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
        rig_open(&r, lens[i]);
        yk_rdma_mem_want(r.mem, "dev0", YK_RDMA_ALL);
        settle(&r);
        for (uint64_t at = 0; at < lens[i]; at += CHUNK / 2) {
            assert_int_equal(key(&r, 0, at, 1, &k), 0);
            assert_true(yk_rdma_key_covers(&k, at, 1));
            assert_true(k.from + k.span <= lens[i] && k.span <= CHUNK);
            assert_true(k.addr == (uint64_t)(uintptr_t)r.base + k.from);
        }
        assert_int_equal(key(&r, 0, lens[i] - 1, 1, &k), 0);
        assert_int_equal(key(&r, 0, lens[i] - 1, 2, &k), -YK_ENOTSUP);
        assert_int_equal(key(&r, 0, lens[i], 1, &k), -YK_ENOTSUP);
        assert_int_equal(key(&r, 0, UINT64_MAX, 2, &k), -YK_ENOTSUP);
        assert_int_equal(key(&r, 0, 0, 0, &k), -YK_ENOTSUP);
        assert_int_equal(key(&r, 0, 0, UINT64_MAX, &k), -YK_ENOTSUP);
        if (lens[i] > CHUNK) /* of two chunks */
            assert_int_equal(key(&r, 0, CHUNK - 1, 2, &k), -YK_ENOTSUP);
        assert_false(script.access & (IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC | IBV_ACCESS_MW_BIND));
        rig_close(&r);
    }
}

/* How asking for a device ends that is being opened. */
static int opened_soon(const char *device, struct yk_rdma_dev **ret_dev) {
    uint64_t until = yk_now_ns() + LOOK_NS;
    struct timespec ms = {.tv_nsec = 1000000};
    struct yk_err err;
    int rc;
    while ((rc = yk_rdma_dev_soon(device, NULL, ret_dev, &err)) == -YK_EAGAIN && yk_now_ns() < until)
        nanosleep(&ms, NULL);
    return rc;
}

/* Who must not wait for a device has a helper open it, and is told; others are opened meanwhile. */
static void a_device_that_opens_slowly(void **state) {
    struct rig r = {.len = 2 * CHUNK};
    struct yk_rdma_dev *other, *same;
    struct yk_err err;
    (void)state;
    set(&script.passes, UINT32_MAX);
    r.base = mmap(NULL, r.len, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_true(r.base != MAP_FAILED);
    r.mem = yk_rdma_mem_new(r.base, r.len, NULL);
    assert_non_null(r.mem);
    set(&script.slow, 1);
    for (int i = 0; i < 3; i++)
        assert_int_equal(yk_rdma_dev_soon("dev0", NULL, &same, &err), -YK_EAGAIN);
    await(&script.opening, 1);
    assert_int_equal(yk_rdma_dev_soon("dev0", NULL, &same, &err), -YK_EAGAIN);
    assert_int_equal(opened_soon("dev1", &other), 0);
    assert_null(yk_rdma_dev_ref("dev0"));
    set(&script.slow, 0);
    assert_int_equal(opened_soon("dev0", &same), 0);
    assert_int_equal(get(&script.opened), 2);
    settle(&r);
    assert_int_equal(progress("dev0").known, r.len);
    yk_rdma_dev_put(other);
    yk_rdma_dev_put(same);
    assert_int_equal(mem_end(r.mem, yk_now_ns() + LOOK_NS), 0);
    await(&script.closed, 2); /* a while after the lanes that asked for them */
    set(&script.absent, 1);
    r.mem = yk_rdma_mem_new(r.base, r.len, NULL);
    assert_int_equal(opened_soon("dev0", &same), -YK_ENOENT);
    settle(&r);
    assert_int_equal(progress("dev0").refused, r.len); /* it is not there */
    assert_int_equal(mem_end(r.mem, yk_now_ns() + LOOK_NS), 0);
    munmap(r.base, r.len);
}

/* A lane has its device without any memory that it shall know, and for as long as it wants. */
static void a_device_without_memory(void **state) {
    struct yk_rdma_dev *dev;
    (void)state;
    assert_int_equal(opened_soon("dev1", &dev), 0); /* the other one has only just not been there */
    assert_int_equal(get(&script.opened), 1);
    yk_rdma_dev_put(dev);
    await(&script.closed, 1);
}

/* Memory that cannot be pinned, with devices that page: they know it all the same. */
static void what_is_not_pinned_is_paged(void **state) {
    struct rig r;
    struct yk_rdma_key k;
    struct yk_rdma_loan *loan = NULL;
    (void)state;
    set(&script.pages, 1);
    set(&script.passes, UINT32_MAX);
    rig_open(&r, 2 * CHUNK);
    yk_rdma_mem_want(r.mem, "dev0", YK_RDMA_ALL);
    settle(&r);
    assert_false(script.access & IBV_ACCESS_ON_DEMAND); /* what can be pinned is */
    set(&script.refusing, 1);
    yk_rdma_mem_want(r.mem, "dev1", YK_RDMA_ALL);
    settle(&r);
    assert_true(script.access & IBV_ACCESS_ON_DEMAND);
    assert_int_equal(progress("dev1").known, r.len);
    assert_int_equal(key(&r, 1, CHUNK, CHUNK, &k), 0);
    char *own = r.base + 4096;
    assert_int_equal(yk_rdma_borrow(r.dev[0], own, 100000, 1, &k, &loan), 0);
    assert_true(k.span == 100000 && k.addr == (uint64_t)(uintptr_t)own);
    assert_int_equal(script.access, IBV_ACCESS_REMOTE_READ | IBV_ACCESS_ON_DEMAND);
    yk_rdma_return(r.dev[0], loan);
    rig_close(&r);
}

/* A device's memory: by its dma-buf, in chunks of that, whatever becomes of the caller's descriptor; or, without one, by its
 * address, and never paged, since no page of the host is behind that. */
static void a_gpus_memory(void **state) {
    struct rig r;
    struct yk_rdma_key k;
    (void)state;
    set(&script.pages, 1);
    set(&script.passes, UINT32_MAX);
    int fd = memfd_create("buffer", MFD_CLOEXEC);
    rig_open(&r, 2 * CHUNK + 100);
    assert_int_equal(yk_rdma_mem_device(r.mem, fd, 8192), 0);
    close(fd);
    yk_rdma_mem_want(r.mem, "dev0", YK_RDMA_ALL);
    settle(&r);
    assert_int_equal(get(&script.buffers), 3);
    assert_int_equal(script.buffer_at, 8192 + 2 * CHUNK);
    assert_true(script.buffer_iova == (uint64_t)(uintptr_t)r.base + 2 * CHUNK);
    assert_true((script.access & IBV_ACCESS_REMOTE_READ) && !(script.access & IBV_ACCESS_REMOTE_WRITE));
    assert_int_equal(key(&r, 0, CHUNK + 1, 100, &k), 0);
    assert_true(k.addr == (uint64_t)(uintptr_t)r.base + CHUNK && k.from == CHUNK && k.span == CHUNK);
    assert_true(fcntl(script.buffer_fd, F_GETFD) >= 0);
    rig_close(&r);
    assert_int_equal(fcntl(script.buffer_fd, F_GETFD), -1);
    rig_open(&r, CHUNK);
    assert_int_equal(yk_rdma_mem_device(r.mem, -1, 0), 0);
    set(&script.refusing, 1);
    yk_rdma_mem_want(r.mem, "dev1", YK_RDMA_ALL);
    settle(&r);
    assert_false(script.access & IBV_ACCESS_ON_DEMAND);
    assert_int_equal(progress("dev1").refused, r.len);
    assert_int_equal(key(&r, 1, 0, 1, &k), -YK_ENOTSUP);
    assert_false(yk_rdma_mem_comes(r.mem, r.dev[1], 0, 1));
    rig_close(&r);
}

/* One that does not take memory with relaxed order is asked once. */
static void order_is_relaxed_where_it_can_be(void **state) {
    struct rig r;
    (void)state;
    set(&script.passes, UINT32_MAX);
    for (uint32_t strict = 0; strict < 2; strict++) {
        set(&script.strict, strict);
        set(&script.relaxed, 0);
        rig_open(&r, 4 * CHUNK);
        yk_rdma_mem_want(r.mem, "dev0", YK_RDMA_ALL);
        settle(&r);
        assert_int_equal(get(&script.relaxed), strict ? 1 : 4);
        assert_int_equal((script.access & IBV_ACCESS_RELAXED_ORDERING) != 0, !strict);
        assert_int_equal(progress("dev0").known, r.len);
        rig_close(&r);
    }
}

/* Who logs at debug is told how far it is, and the last line says that it is done. */
static void large_memory_is_told_of(void **state) {
    struct rig r;
    char text[4096] = "";
    FILE *log = tmpfile();
    (void)state;
    assert_non_null(log);
    yk_log_init(fileno(log), YK_LOG_DEBUG);
    set(&script.passes, UINT32_MAX);
    rig_open(&r, 18 * CHUNK);
    yk_rdma_mem_want(r.mem, "dev0", YK_RDMA_ALL);
    settle(&r);
    yk_log_init(STDERR_FILENO, YK_LOG_INFO);
    assert_true(pread(fileno(log), text, sizeof(text) - 1, 0) > 0);
    assert_non_null(strstr(text, "dev0 knows 1.1 of 1.1 GiB of memory, and was refused 0.0"));
    fclose(log);
    rig_close(&r);
}

/* Several regions share a device's thread, and one that goes leaves the others theirs. */
static void regions_come_and_go(void **state) {
    struct rig r[4];
    struct yk_rdma_key k;
    (void)state;
    set(&script.passes, UINT32_MAX);
    for (uint32_t round = 0; round < 20; round++) {
        for (uint32_t i = 0; i < 4; i++) {
            rig_open(&r[i], (i + 1) * CHUNK);
            yk_rdma_mem_want(r[i].mem, "dev0", YK_RDMA_ALL);
            yk_rdma_mem_want(r[i].mem, "dev1", i);
        }
        rig_close(&r[round % 4]);
        for (uint32_t i = 0; i < 4; i++) {
            if (i == round % 4)
                continue;
            settle(&r[i]);
            assert_int_equal(key(&r[i], 0, i * CHUNK, 1, &k), 0);
            assert_int_equal(key(&r[i], 1, i * CHUNK, 1, &k), 0);
            rig_close(&r[i]);
        }
    }
    assert_int_equal(progress("dev0").bytes, 0);
}

/* What a child has its devices do is its own; its parent's counts are not. */
static void a_child_counts_from_the_beginning(void **state) {
    struct yk_device_counts c[YK_RDMA_DEVICES_MAX];
    struct rig r;
    int status = -1;
    (void)state;
    rig_open(&r, 4096);
    r.dev[0]->counts->bytes++;
    assert_true(yk_rdma_devices(c, YK_RDMA_DEVICES_MAX) >= DEVICES);
    pid_t child = fork();
    if (child == 0)
        _exit((int)yk_rdma_devices(c, YK_RDMA_DEVICES_MAX));
    assert_true(child > 0 && waitpid(child, &status, 0) == child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_true(yk_rdma_devices(c, YK_RDMA_DEVICES_MAX) >= DEVICES);
    rig_close(&r);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, begin, end)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(devices_work_side_by_side),
        CASE(what_is_needed_comes_first),
        CASE(a_device_that_comes_later),
        CASE(what_was_refused_is_tried_again),
        CASE(a_device_that_cannot_be_opened),
        CASE(the_end_waits_for_what_is_under_way),
        CASE(a_device_that_hangs),
        CASE(a_device_that_does_not_forget),
        CASE(a_device_that_hangs_in_its_opening),
        CASE(small_memory_does_not_wait_for_large),
        CASE(a_device_is_told_of_its_engines_memory),
        CASE(keys_end_with_the_region),
        CASE(a_device_that_opens_slowly),
        CASE(a_device_without_memory),
        CASE(what_is_not_pinned_is_paged),
        CASE(a_gpus_memory),
        CASE(order_is_relaxed_where_it_can_be),
        CASE(large_memory_is_told_of),
        CASE(regions_come_and_go),
        CASE(a_child_counts_from_the_beginning),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
