/* SPDX-License-Identifier: Apache-2.0
 *
 * What is asked of CUDA's driver, and in which order. The driver is a script here, for the cases that one at hand does not
 * have (no dma-bufs, memory of no context, an error in the middle); what a real one answers is for tests/gpu.
 *
 * Thread: the test's.
 */
#include "xfer/cuda.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define PAGE 4096u
#define AT   0x7f0000200000ull
#define LEN  (1u << 20) /* of the only allocation, of device 3 */

static struct {
    int no_driver, peermem, managed, no_context, fails; /* fails: what exporting returns */
    int depth, retained, exported, synchronous;
    unsigned long long from;
    size_t len;
} script;

static int no_init(unsigned int flags) {
    (void)flags;
    return 0;
}

static int attribute(void *ret, int which, unsigned long long at) {
    if (at < AT || at >= AT + LEN)
        return 1;
    if (which == 1)
        *(void **)ret = script.no_context ? NULL : &script;
    else
        *(int *)ret = which == 2 ? 2 : which == 9 ? 3 : which == 8 ? script.managed : 0;
    return 0;
}

static int set_attribute(const void *value, int which, unsigned long long at) {
    script.synchronous = which == 6 && *(const unsigned int *)value == 1 && at >= AT && at < AT + LEN;
    return 0;
}

static int push(void *context) {
    assert_ptr_equal(context, &script);
    script.depth++;
    return 0;
}

static int pop(void **ret_context) {
    *ret_context = &script;
    script.depth--;
    return 0;
}

static int retain(void **ret_context, int device) {
    assert_int_equal(device, 3);
    *ret_context = &script;
    script.retained++;
    return 0;
}

static int release(int device) {
    assert_int_equal(device, 3);
    script.retained--;
    return 0;
}

static int handle(void *ret, unsigned long long from, size_t len, int type, unsigned long long flags) {
    assert_int_equal(type, 1);
    assert_int_equal(flags, 0);
    assert_true(script.depth == 1 && from % PAGE == 0 && len % PAGE == 0);
    if (script.fails != 0)
        return script.fails;
    *(int *)ret = open("/dev/null", O_RDWR | O_CLOEXEC);
    script.exported++;
    script.from = from;
    script.len = len;
    return 0;
}

static int has_peermem(void) {
    return script.peermem;
}

static struct yk_cuda_driver driver = {.init = no_init, .attribute = attribute, .set_attribute = set_attribute,
                                       .push_context = push, .pop_context = pop, .retain_context = retain,
                                       .release_context = release, .handle = handle, .has_peermem = has_peermem};

/* In place of the one that loads libcuda. */
const struct yk_cuda_driver *yk_cuda_driver_load(struct yk_err *err) {
    if (!script.no_driver)
        return &driver;
    yk_err_set(err, -YK_ENOTSUP, "no CUDA");
    return NULL;
}

static struct yk_err err;

static int find(unsigned long long at, uint64_t len, struct yk_cuda_memory *m) {
    int rc = yk_cuda_find((const void *)(uintptr_t)at, len, m, &err);
    assert_int_equal(script.depth, 0);
    assert_int_equal(script.retained, 0);
    return rc;
}

static int begin(void **state) {
    (void)state;
    memset(&script, 0, sizeof(script));
    driver.handle = handle;
    return 0;
}

/* ---- cases ---------------------------------------------------------------------------------------------- */

static void whole_pages_are_exported(void **state) {
    const struct {
        unsigned long long at;
        uint64_t len, from, bytes;
    } cases[] = {{0, LEN, 0, LEN}, {0, 1, 0, PAGE}, {100, PAGE, 0, 2 * PAGE}, {3 * PAGE + 7, PAGE - 7, 3 * PAGE, PAGE}};
    struct yk_cuda_memory m;
    (void)state;
    for (script.no_context = 0; script.no_context < 2; script.no_context++)
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
            script.synchronous = 0;
            assert_int_equal(find(AT + cases[i].at, cases[i].len, &m), 0);
            assert_true(m.fd >= 0);
            close(m.fd);
            assert_int_equal(m.device, 3);
            assert_int_equal(m.offset, cases[i].at % PAGE);
            assert_int_equal(script.from, AT + cases[i].from);
            assert_int_equal(script.len, cases[i].bytes);
            assert_true(script.synchronous);
        }
}

static void what_is_refused(void **state) {
    struct yk_cuda_memory m = {.fd = -7};
    (void)state;
    assert_int_equal(find(AT - 1, 2, &m), -YK_EINVAL);
    assert_int_equal(find(AT + LEN - 1, 2, &m), -YK_EINVAL);
    script.managed = 1;
    assert_int_equal(find(AT, LEN, &m), -YK_EINVAL);
    assert_non_null(strstr(err.text, "managed"));
    script.managed = 0;
    script.no_driver = 1;
    assert_int_equal(find(AT, LEN, &m), -YK_ENOTSUP);
    assert_int_equal(script.exported, 0);
    assert_int_equal(m.fd, -7);
}

/* Where nothing is exported, the kernel's module is what is left. */
static void without_dma_bufs(void **state) {
    struct yk_cuda_memory m = {.fd = -7};
    (void)state;
    script.fails = 801;
    assert_int_equal(find(AT, LEN, &m), -YK_ENOTSUP);
    assert_non_null(strstr(err.text, "801"));
    assert_non_null(strstr(err.text, "nvidia_peermem"));
    driver.handle = NULL;
    assert_int_equal(find(AT, LEN, &m), -YK_ENOTSUP);
    assert_int_equal(m.fd, -7);
    script.peermem = 1;
    assert_int_equal(find(AT, LEN, &m), 0);
    assert_int_equal(m.fd, -1);
    assert_int_equal(m.device, 3);
    assert_true(script.synchronous);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(whole_pages_are_exported, begin),
        cmocka_unit_test_setup(what_is_refused, begin),
        cmocka_unit_test_setup(without_dma_bufs, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
