/* SPDX-License-Identifier: Apache-2.0
 *
 * Fault sweep over allocations in the parts of base that allocate: options, metrics, buffers, JSON.
 *
 * The linker replaces malloc and its kin (--wrap) in everything but libc; the n-th call fails, and
 * those after it too. Each scenario is run for n = 1, 2, ... up to the first run in which nothing
 * failed, and must end with -YK_ENOMEM and nothing leaked (allocations are counted here; the
 * address sanitizer sees more).
 */
#include "base/json.h"
#include "base/metrics.h"
#include "opt_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static long fail_from; /* counts down; 0: never fails */
static bool failed;
static long live;

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t size);
char *__real_strdup(const char *text);
char *__real_strndup(const char *text, size_t n);
void __real_free(void *memory);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t n);
void __wrap_free(void *memory);

static bool refuse(void) {
    if (fail_from > 0 && --fail_from == 0)
        failed = true;
    return failed;
}

static void *counted(void *memory) {
    live += (memory != NULL);
    return memory;
}

void *__wrap_malloc(size_t size) {
    return refuse() ? NULL : counted(__real_malloc(size));
}

void *__wrap_calloc(size_t n, size_t size) {
    return refuse() ? NULL : counted(__real_calloc(n, size));
}

void *__wrap_realloc(void *old, size_t size) {
    if (refuse())
        return NULL;
    void *memory = __real_realloc(old, size);
    return (old == NULL) ? counted(memory) : memory;
}

char *__wrap_strdup(const char *text) {
    return refuse() ? NULL : counted(__real_strdup(text));
}

char *__wrap_strndup(const char *text, size_t n) {
    return refuse() ? NULL : counted(__real_strndup(text, n));
}

void __wrap_free(void *memory) {
    live -= (memory != NULL);
    __real_free(memory);
}

/* Runs the scenario with the n-th allocation failing, for every n there is. */
static void sweep(int (*scenario)(void)) {
    for (long n = 1;; n++) {
        long before = live;
        fail_from = n;
        failed = false;
        int rc = scenario();
        bool was_clean = !failed;
        fail_from = 0;
        failed = false;
        assert_int_equal(live, before);
        if (was_clean) {
            assert_int_equal(rc, 0);
            assert_true(n > 3); /* it did allocate */
            return;
        }
        if (rc != -YK_ENOMEM)
            fail_msg("allocation %ld: %s", n, yk_status_name(rc));
    }
}

static int load_options(void) {
    static const char file[] = "dram = 2G\nlisten = a:1, b:2\nlisten = c:3\npath = \"x\"\n";
    char *argv[] = {(char *)"x", (char *)"--path=a", (char *)"--tiers=dram,ssd",
                    (char *)"--tiers=cxl", (char *)"k"};
    char *envp[] = {(char *)"YOLK_LISTEN=e:5", (char *)"YOLK_PATH=b", NULL};
    struct yk_opts opts;
    struct config config;
    struct yk_err err = {0};
    int rc = yk_opt_init(&opts, &spec, &config, &err);
    rc = (rc < 0) ? rc : yk_opt_parse_args(&opts, 5, argv, &err);
    rc = (rc < 0) ? rc : yk_opt_parse_env(&opts, envp, &err);
    rc = (rc < 0) ? rc : yk_opt_parse_text(&opts, "f", file, sizeof(file) - 1, &err);
    assert_int_equal(rc, err.code);
    yk_opt_fini(&opts);
    return rc;
}

static void options_survive(void **state) {
    (void)state;
    sweep(load_options);
}

static void collect(void *ctx, struct yk_metrics_page *page) {
    struct yk_label label = {"ns", "default"};
    yk_metrics_sample(page, &label, 1, 1);
}

static int render_metrics(void) {
    static const struct yk_metric_desc hits = {"x_total", "Hits.", YK_METRIC_COUNTER, 0};
    static const struct yk_metric_desc lat = {"x_seconds", "Time.", YK_METRIC_HISTOGRAM, 0};
    static const struct yk_metric_desc ns = {"x_bytes", "Bytes.", YK_METRIC_GAUGE, 0};
    static const struct yk_label labels[] = {{"b", "1"}, {"a", "2"}};
    static uint64_t word;
    static struct yk_hist hist;
    struct yk_metrics *metrics = NULL;
    struct yk_buf page;
    yk_buf_init(&page, 1 << 20);
    int rc = yk_metrics_new(10, &metrics);
    rc = (rc < 0) ? rc : yk_metrics_add_word(metrics, &hits, labels, 2, &word, NULL);
    rc = (rc < 0) ? rc : yk_metrics_add_word(metrics, &hits, labels, 2, &word, NULL);
    rc = (rc < 0) ? rc : yk_metrics_add_hist(metrics, &lat, NULL, 0, &hist, NULL);
    rc = (rc < 0) ? rc : yk_metrics_add_collector(metrics, &ns, collect, NULL, NULL);
    rc = (rc < 0) ? rc : yk_metrics_render(metrics, &page);
    yk_metrics_free(metrics);
    yk_buf_fini(&page);
    return rc;
}

static void metrics_survive(void **state) {
    (void)state;
    sweep(render_metrics);
}

static int write_json(void) {
    struct yk_buf buf;
    struct yk_json json;
    yk_buf_init(&buf, 1 << 20);
    yk_json_init_buf(&json, &buf);
    yk_json_begin_array(&json);
    for (int i = 0; i < 1000; i++)
        yk_json_int(&json, i);
    yk_json_end_array(&json);
    int rc = yk_json_finish(&json);
    yk_buf_fini(&buf);
    return rc;
}

static void json_survives(void **state) {
    (void)state;
    sweep(write_json);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_survive),
        cmocka_unit_test(metrics_survive),
        cmocka_unit_test(json_survives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
