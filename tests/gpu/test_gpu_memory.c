/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory of a real GPU in the transfer engine: allocated by CUDA's driver, exported as a dma-buf, registered; and, where the
 * host has an RDMA device with an active port, moved by that. Without a GPU the program skips itself, without a port the
 * case that needs one does.
 *
 * Thread: the test's, and one without a context of CUDA.
 */
#include "xfer/cuda.h"
#include "xfer/engine_priv.h"
#include "xfer/rdma/rdma.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <dirent.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGE  4096u
#define BYTES ((96ull << 20) + 5000) /* two spans, and no whole page at the end */
#define BOTH  ((uint32_t)YK_XFER_REMOTE_READ | (uint32_t)YK_XFER_REMOTE_WRITE)
#define RDMA  ((uint32_t)YK_XFER_RDMA | (uint32_t)YK_XFER_TCP)

typedef unsigned long long pointer;

static struct {
    int (*alloc)(pointer *ret, size_t len);
    int (*alloc_managed)(pointer *ret, size_t len, unsigned int flags);
    int (*release)(pointer p);
    int (*to_host)(void *to, pointer from, size_t len);
    int (*to_device)(pointer to, const void *from, size_t len);
    int (*retain)(void **ret_context, int device);
    int (*set_current)(void *context);
    int (*name)(char *ret, int cap, int device);
} cuda;

static pointer memory;
static yk_xfer *engine;

/* ---- the rig -------------------------------------------------------------------------------------------- */

/* NULL, or what is missing. */
static const char *find_gpu(void) {
    static struct yk_err err;
    const struct {
        const char *name;
        void *to;
    } symbols[] = {
        {"cuMemAlloc_v2", &cuda.alloc},       {"cuMemAllocManaged", &cuda.alloc_managed},
        {"cuMemFree_v2", &cuda.release},      {"cuMemcpyDtoH_v2", &cuda.to_host},
        {"cuMemcpyHtoD_v2", &cuda.to_device}, {"cuDevicePrimaryCtxRetain", &cuda.retain},
        {"cuCtxSetCurrent", &cuda.set_current}, {"cuDeviceGetName", &cuda.name},
    };
    if (yk_cuda_driver_load(&err) == NULL)
        return err.text;
    void *lib = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL), *context;
    for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
        void *found = lib != NULL ? dlsym(lib, symbols[i].name) : NULL;
        if (found == NULL)
            return symbols[i].name;
        memcpy(symbols[i].to, &found, sizeof(found));
    }
    if (cuda.retain(&context, 0) != 0 || cuda.set_current(context) != 0)
        return "no CUDA device";
    return NULL;
}

static yk_xfer *engine_of(uint32_t transports, const char *listen) {
    yk_xfer_opts o = {.size = sizeof(o), .transports = transports, .listen = listen, .insecure_network = 1, .shm_dir = ""};
    yk_xfer *e;
    if (yk_xfer_create(&o, &e) < 0)
        fail_msg("%s", yk_xfer_error_text());
    return e;
}

static int descriptors(void) {
    DIR *d = opendir("/proc/self/fd");
    int n = 0;
    while (readdir(d) != NULL)
        n++;
    closedir(d);
    return n;
}

static yk_xfer_memory gpu_range(pointer at, uint64_t len, uint32_t access) {
    return (yk_xfer_memory){.addr = (void *)(uintptr_t)at, .length = len, .access = access | YK_XFER_CUDA, .fd = -1};
}

static int add(pointer at, uint64_t len) {
    yk_xfer_memory m = gpu_range(at, len, BOTH);
    return yk_xfer_register(engine, &m, 1);
}

static void take_out(pointer at) {
    void *addr = (void *)(uintptr_t)at;
    assert_int_equal(yk_xfer_unregister(engine, &addr, 1), 0);
}

static int begin(void **state) {
    (void)state;
    assert_int_equal(cuda.alloc(&memory, BYTES), 0);
    engine = engine_of(RDMA, "127.0.0.1:0");
    return 0;
}

static int end(void **state) {
    (void)state;
    yk_xfer_destroy(engine);
    return cuda.release(memory);
}

/* ---- cases ---------------------------------------------------------------------------------------------- */

/* The registry has a dma-buf of just the pages that it lies in. */
static void is_registered(pointer at, uint64_t len) {
    char path[64], what[64] = "";
    if (add(at, len) < 0)
        fail_msg("%s", yk_xfer_error_text());
    struct yk_region *r = yk_registry_find(engine->registry, (void *)(uintptr_t)at, len);
    assert_non_null(r);
    assert_int_equal(r->len, len);
    assert_true(yk_region_is_device(r));
    assert_int_equal(strncmp(r->location, "cuda:", 5), 0);
    assert_true(r->fd >= 0);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", r->fd);
    assert_true(readlink(path, what, sizeof(what) - 1) > 0);
    assert_non_null(strstr(what, "dmabuf"));
    assert_int_equal(r->fd_offset, at % PAGE);
    assert_int_equal(lseek(r->fd, 0, SEEK_END), (off_t)((at % PAGE + len + PAGE - 1) / PAGE * PAGE));
    yk_registry_put(engine->registry, r);
}

static void memory_is_exported(void **state) {
    (void)state;
    int before = descriptors();
    for (int i = 0; i < 3; i++) {
        is_registered(memory, BYTES);
        take_out(memory);
        is_registered(memory + PAGE + 100, 70000);
        is_registered(memory + (1 << 20), 1);
        take_out(memory + PAGE + 100);
        take_out(memory + (1 << 20));
    }
    assert_int_equal(descriptors(), before);
}

static void *without_context(void *arg) {
    *(int *)arg = add(memory, BYTES);
    return NULL;
}

static void no_context_is_needed(void **state) {
    pthread_t thread;
    int rc = -1;
    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, without_context, &rc), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(rc, 0);
    take_out(memory);
}

static void what_is_not_a_devices(void **state) {
    static char host[2 * PAGE];
    pointer managed;
    (void)state;
    int before = descriptors();
    assert_int_equal(add((uintptr_t)host, sizeof(host)), -YK_EINVAL);
    assert_int_equal(cuda.alloc_managed(&managed, 1 << 20, 1), 0);
    assert_int_equal(add(managed, 1 << 20), -YK_EINVAL);
    assert_int_equal(cuda.release(managed), 0);
    assert_true(add(memory, BYTES + (1ull << 40) / 2) < 0); /* beyond its end */
    yk_xfer_memory two[] = {gpu_range(memory, BYTES, 0), gpu_range((uintptr_t)host, PAGE, 0)};
    assert_int_equal(yk_xfer_register(engine, two, 2), -YK_EINVAL);
    assert_non_null(strstr(yk_xfer_error_text(), "memory 1"));
    assert_int_equal(descriptors(), before);
}

static void fill(unsigned char *bytes, size_t len, uint32_t seed) {
    for (size_t i = 0; i < len; i++)
        bytes[i] = (unsigned char)((i + seed) * 2654435761u >> 13);
}

/* Over TCP nothing goes there or comes from there: it is refused at once, and the GPU's bytes are what they were. */
static void tcp_is_no_way(void **state) {
    static unsigned char host[70000], was[70000], is[70000];
    char where[100];
    yk_xfer_segment seg;
    (void)state;
    fill(was, sizeof(was), 1);
    assert_int_equal(cuda.to_device(memory, was, sizeof(was)), 0);
    assert_int_equal(add(memory, BYTES), 0);
    assert_int_equal(yk_xfer_publish(engine, "gpu", (void *)(uintptr_t)memory, BYTES, NULL), 0);
    yk_xfer *tcp = engine_of(YK_XFER_TCP, "127.0.0.1:0");
    yk_xfer_memory m = {.addr = host, .length = sizeof(host), .access = BOTH, .fd = -1};
    assert_int_equal(yk_xfer_register(tcp, &m, 1), 0);
    assert_int_equal(yk_xfer_publish(tcp, "host", host, sizeof(host), NULL), 0);
    snprintf(where, sizeof(where), "%s/gpu", yk_xfer_address(engine));
    assert_int_equal(yk_xfer_open(tcp, where, 0, &seg), 0);
    yk_xfer_request q = {.op = YK_XFER_WRITE, .local = host, .segment = seg, .length = sizeof(host)};
    yk_xfer_submit_opts so = {.size = sizeof(so), .xclass = YK_XFER_DEMAND, .timeout_ms = 600000};
    assert_int_equal(yk_xfer_run(tcp, &q, 1, &so), -YK_ENOTSUP);
    snprintf(where, sizeof(where), "%s/host", yk_xfer_address(tcp));
    assert_int_equal(yk_xfer_open(engine, where, 0, &seg), 0);
    q = (yk_xfer_request){.op = YK_XFER_READ, .local = (void *)(uintptr_t)memory, .segment = seg, .length = sizeof(host)};
    assert_int_equal(yk_xfer_run(engine, &q, 1, &so), -YK_ENOTSUP);
    yk_xfer_destroy(tcp);
    assert_int_equal(cuda.to_host(is, memory, sizeof(is)), 0);
    assert_memory_equal(is, was, sizeof(is));
    take_out(memory);
}

/* From a GPU's memory into it by way of the host's, over the host's RDMA devices. */
static void rdma_moves_it(void **state) {
    struct yk_rdma_address a[16];
    struct yk_err err;
    (void)state;
    uint32_t n = yk_rdma_check(NULL, &err) == 0 ? yk_rdma_addresses(a, 16) : 0, v4 = 0;
    while (v4 < n && strchr(a[v4].host, ':') != NULL)
        v4++;
    if (v4 == n) {
        print_message("no RDMA device moves it here: %s\n", n == 0 ? err.text : "no port has an IPv4 address");
        skip();
    }
    size_t len = (8u << 20) + 77;
    unsigned char *host = malloc(len), *bytes = malloc(len);
    char where[100];
    yk_xfer_segment seg;
    snprintf(where, sizeof(where), "%s:0", a[v4].host);
    yk_xfer *other = engine_of(RDMA, where);
    yk_xfer_memory m = {.addr = host, .length = len, .access = BOTH, .fd = -1};
    assert_int_equal(yk_xfer_register(other, &m, 1), 0);
    assert_int_equal(yk_xfer_publish(other, "host", host, len, NULL), 0);
    assert_int_equal(add(memory, BYTES), 0);
    snprintf(where, sizeof(where), "%s/host", yk_xfer_address(other));
    assert_int_equal(yk_xfer_open(engine, where, 0, &seg), 0);
    for (uint32_t seed = 1; seed < 4; seed++) {
        fill(host, len, seed);
        pointer at = memory + (64ull << 20) - 3000 * seed; /* across a span's bound */
        yk_xfer_request q = {.op = YK_XFER_READ, .local = (void *)(uintptr_t)at, .segment = seg, .length = len};
        if (yk_xfer_run(engine, &q, 1, NULL) != 0)
            fail_msg("%s", yk_xfer_error_text());
        assert_int_equal(cuda.to_host(bytes, at, len), 0);
        assert_memory_equal(bytes, host, len);
        memset(host, 0, len);
        q.op = YK_XFER_WRITE;
        if (yk_xfer_run(engine, &q, 1, NULL) != 0)
            fail_msg("%s", yk_xfer_error_text());
        assert_memory_equal(host, bytes, len);
    }
    take_out(memory);
    yk_xfer_destroy(other);
    free(host);
    free(bytes);
}

int main(void) {
    char name[100] = "";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(memory_is_exported, begin, end),
        cmocka_unit_test_setup_teardown(no_context_is_needed, begin, end),
        cmocka_unit_test_setup_teardown(what_is_not_a_devices, begin, end),
        cmocka_unit_test_setup_teardown(tcp_is_no_way, begin, end),
        cmocka_unit_test_setup_teardown(rdma_moves_it, begin, end),
    };
    const char *missing = find_gpu();
    if (missing != NULL) {
        printf("# SKIP %s\n", missing);
        return 77;
    }
    (void)cuda.name(name, sizeof(name), 0);
    printf("# %s\n", name);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
