/* SPDX-License-Identifier: Apache-2.0
 *
 * Metrics: every page is read back by the strict parser of prom_parse.h; names and labels that the
 * format or its practice does not allow are refused at registration.
 */
#include "base/metrics.h"

#include "prom_parse.h"

#include <math.h>
#include <pthread.h>

static struct yk_metrics *metrics;
static struct yk_buf out;
static struct prom_page page;
static struct yk_err err;

#define COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))

static const struct yk_metric_desc hits = {"yolk_hits_total", "Blocks found.", YK_METRIC_COUNTER,
                                           0};
static const struct yk_metric_desc bytes = {"yolk_bytes", "Bytes held.", YK_METRIC_GAUGE, 0};
static const struct yk_metric_desc lat = {"yolk_get_seconds", "Time of a get.", YK_METRIC_HISTOGRAM,
                                          0};

static int setup(void **state) {
    (void)state;
    yk_buf_init(&out, 1 << 20);
    return yk_metrics_new(100, &metrics);
}

static int teardown(void **state) {
    (void)state;
    yk_metrics_free(metrics);
    yk_buf_fini(&out);
    return 0;
}

static void render(void) {
    yk_buf_clear(&out);
    assert_int_equal(yk_metrics_render(metrics, &out), 0);
    prom_parse(&page, yk_buf_text(&out));
}

static void words_appear_with_help_and_type(void **state) {
    (void)state;
    uint64_t a = 0, b = 0, held = 0;
    struct yk_label dram[] = {{"tier", "dram"}}, ssd[] = {{"tier", "ssd"}};
    assert_int_equal(yk_metrics_add_word(metrics, &hits, dram, 1, &a, &err), 0);
    assert_int_equal(yk_metrics_add_word(metrics, &bytes, NULL, 0, &held, &err), 0);
    assert_int_equal(yk_metrics_add_word(metrics, &hits, ssd, 1, &b, &err), 0);
    yk_metric_add(&a, 5);
    yk_metric_add(&a, 2);
    yk_metric_set(&held, -3);
    assert_int_equal(yk_metric_get(&a), 7);
    render();
    assert_string_equal(yk_buf_text(&out), "# HELP yolk_hits_total Blocks found.\n"
                                           "# TYPE yolk_hits_total counter\n"
                                           "yolk_hits_total{tier=\"dram\"} 7\n"
                                           "yolk_hits_total{tier=\"ssd\"} 0\n"
                                           "# HELP yolk_bytes Bytes held.\n"
                                           "# TYPE yolk_bytes gauge\n"
                                           "yolk_bytes -3\n");
    a = UINT64_MAX;
    render();
    assert_non_null(strstr(yk_buf_text(&out), "{tier=\"dram\"} 18446744073709551615\n"));
}

static void shards_are_summed(void **state) {
    (void)state;
    uint64_t shard[3] = {1, 10, 100};
    struct yk_label ab[] = {{"a", "1"}, {"b", "2"}}, ba[] = {{"b", "2"}, {"a", "1"}};
    for (int i = 0; i < 3; i++)
        assert_int_equal(
            yk_metrics_add_word(metrics, &hits, (i == 1) ? ba : ab, 2, &shard[i], &err), 0);
    render();
    assert_int_equal(page.n, 1);
    assert_true(prom_get(&page, "yolk_hits_total", "a=\"1\",b=\"2\"", "") == 111);
}

static void divisors_give_base_units(void **state) {
    (void)state;
    uint64_t cpu_ns = 1234567890, ppm = 0;
    struct yk_metric_desc cpu = {"yolk_cpu_seconds_total", "CPU used.", YK_METRIC_COUNTER, 1e9};
    struct yk_metric_desc part = {"yolk_free_ratio", "Free part.", YK_METRIC_GAUGE, 1e6};
    assert_int_equal(yk_metrics_add_word(metrics, &cpu, NULL, 0, &cpu_ns, &err), 0);
    assert_int_equal(yk_metrics_add_word(metrics, &part, NULL, 0, &ppm, &err), 0);
    yk_metric_set(&ppm, -250000);
    render();
    assert_non_null(strstr(yk_buf_text(&out), "yolk_cpu_seconds_total 1.23456789\n"));
    assert_non_null(strstr(yk_buf_text(&out), "yolk_free_ratio -0.25\n"));
}

static void histograms_are_cumulative_and_merged(void **state) {
    (void)state;
    static struct yk_hist shard[2];
    struct yk_label op[] = {{"op", "get"}};
    for (int i = 0; i < 2; i++) {
        yk_hist_reset(&shard[i]);
        assert_int_equal(yk_metrics_add_hist(metrics, &lat, op, 1, &shard[i], &err), 0);
    }
    yk_hist_record(&shard[0], 300);
    yk_hist_record(&shard[0], 40000);
    yk_hist_record(&shard[1], 2000000000);
    yk_hist_record(&shard[1], 60000000000);
    render();
    assert_true(prom_get(&page, "yolk_get_seconds_bucket", "op=\"get\"", "2.5e-07") == 0);
    assert_true(prom_get(&page, "yolk_get_seconds_bucket", "op=\"get\"", "5e-07") == 1);
    assert_true(prom_get(&page, "yolk_get_seconds_bucket", "op=\"get\"", "2.5e-05") == 1);
    assert_true(prom_get(&page, "yolk_get_seconds_bucket", "op=\"get\"", "5e-05") == 2);
    assert_true(prom_get(&page, "yolk_get_seconds_bucket", "op=\"get\"", "1") == 2);
    assert_true(prom_get(&page, "yolk_get_seconds_bucket", "op=\"get\"", "2.5") == 3);
    assert_true(prom_get(&page, "yolk_get_seconds_bucket", "op=\"get\"", "10") == 3);
    assert_true(prom_get(&page, "yolk_get_seconds_bucket", "op=\"get\"", "+Inf") == 4);
    assert_true(fabs(prom_get(&page, "yolk_get_seconds_sum", "op=\"get\"", "") - 62.0000403) <
                1e-9);
}

static void a_histogram_without_labels(void **state) {
    (void)state;
    static struct yk_hist hist;
    assert_int_equal(yk_metrics_add_hist(metrics, &lat, NULL, 0, &hist, &err), 0);
    render();
    assert_true(prom_get(&page, "yolk_get_seconds_bucket", "", "+Inf") == 0);
    assert_true(prom_get(&page, "yolk_get_seconds_count", "", "") == 0);
}

static void values_are_escaped_and_made_utf8(void **state) {
    (void)state;
    uint64_t word = 1;
    struct yk_metric_desc desc = {"yolk_x", "A \\ back\nslash, \"quotes\" and \xff.",
                                  YK_METRIC_GAUGE, 0};
    struct yk_label odd[] = {{"ns", "a\"b\\c\nd\xff\xc3\xa9,}={"}};
    assert_int_equal(yk_metrics_add_word(metrics, &desc, odd, 1, &word, &err), 0);
    render();
    assert_non_null(strstr(yk_buf_text(&out), "# HELP yolk_x A \\\\ back\\nslash, \"quotes\" and "
                                              "\xef\xbf\xbd.\n"));
    assert_true(prom_get(&page, "yolk_x", "ns=\"a\\\"b\\\\c\\nd\xef\xbf\xbd\xc3\xa9,}={\"", "") ==
                1);
}

static void collect_namespaces(void *ctx, struct yk_metrics_page *into) {
    for (int i = 0; i < *(int *)ctx; i++) {
        char name[16];
        struct yk_label label = {"ns", name};
        snprintf(name, sizeof(name), "ns%d", i);
        yk_metrics_sample(into, &label, 1, i + 0.5);
    }
}

static void collectors_are_asked_for_each_page(void **state) {
    (void)state;
    int namespaces = 0;
    assert_int_equal(
        yk_metrics_add_collector(metrics, &bytes, collect_namespaces, &namespaces, &err), 0);
    render();
    assert_int_equal(page.n, 0);
    namespaces = 3;
    render();
    assert_int_equal(page.n, 3);
    assert_true(prom_get(&page, "yolk_bytes", "ns=\"ns2\"", "") == 2.5);
    assert_int_equal(
        yk_metrics_add_collector(metrics, &bytes, collect_namespaces, &namespaces, &err),
        -YK_EINVAL);
}

static void collect_wrongly(void *ctx, struct yk_metrics_page *into) {
    struct yk_label label = {ctx, "x"};
    yk_metrics_sample(into, &label, 1, 1);
}

static void a_collector_with_bad_labels_fails_the_page(void **state) {
    (void)state;
    char name[] = "le";
    assert_int_equal(yk_metrics_add_collector(metrics, &bytes, collect_wrongly, name, &err), 0);
    assert_int_equal(yk_metrics_render(metrics, &out), -YK_EINVAL);
}

static void refused(const char *name, const char *help, enum yk_metric_type type, const char *why) {
    static struct yk_hist hist;
    static uint64_t word;
    struct yk_metric_desc desc = {name, help, type, 0};
    int rc = (type == YK_METRIC_HISTOGRAM)
                 ? yk_metrics_add_hist(metrics, &desc, NULL, 0, &hist, &err)
                 : yk_metrics_add_word(metrics, &desc, NULL, 0, &word, &err);
    assert_int_equal(rc, -YK_EINVAL);
    if (strstr(err.text, why) == NULL)
        fail_msg("%s", err.text);
}

static void names_are_held_to_the_rules(void **state) {
    (void)state;
    char longest[YK_METRICS_NAME_MAX + 2];
    memset(longest, 'x', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    refused(NULL, "h", YK_METRIC_GAUGE, "expected letters");
    refused("", "h", YK_METRIC_GAUGE, "expected letters");
    refused("1x", "h", YK_METRIC_GAUGE, "expected letters");
    refused("a-b", "h", YK_METRIC_GAUGE, "expected letters");
    refused("a:b", "h", YK_METRIC_GAUGE, "expected letters");
    refused("a\n", "h", YK_METRIC_GAUGE, "expected letters");
    refused(longest, "h", YK_METRIC_GAUGE, "expected letters");
    refused("x_sum", "h", YK_METRIC_GAUGE, "parts of a histogram");
    refused("x_count", "h", YK_METRIC_GAUGE, "parts of a histogram");
    refused("x_bucket", "h", YK_METRIC_GAUGE, "parts of a histogram");
    refused("x", "h", YK_METRIC_COUNTER, "_total");
    refused("x_total", "h", YK_METRIC_GAUGE, "_total");
    refused("x", "h", YK_METRIC_HISTOGRAM, "_seconds");
    refused("x", "", YK_METRIC_GAUGE, "no help");
    refused("x", NULL, YK_METRIC_GAUGE, "no help");
    render();
    assert_int_equal(page.n_families, 0);
}

static void labels_are_held_to_the_rules(void **state) {
    (void)state;
    static const char *const bad[] = {NULL, "", "__name__", "le", "a-b", "1a", "a:b"};
    uint64_t word = 0;
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct yk_label label = {bad[i], "x"};
        assert_int_equal(yk_metrics_add_word(metrics, &hits, &label, 1, &word, &err), -YK_EINVAL);
        assert_non_null(strstr(err.text, "not an allowed name"));
    }
    struct yk_label twice[] = {{"a", "1"}, {"b", "2"}, {"a", "3"}}, null = {"a", NULL};
    assert_int_equal(yk_metrics_add_word(metrics, &hits, twice, 3, &word, &err), -YK_EINVAL);
    assert_non_null(strstr(err.text, "given twice"));
    assert_int_equal(yk_metrics_add_word(metrics, &hits, &null, 1, &word, &err), -YK_EINVAL);
    struct yk_label many[YK_METRICS_LABELS_MAX + 1];
    char names[YK_METRICS_LABELS_MAX + 1][2];
    for (size_t i = 0; i < COUNT_OF(many); i++) {
        names[i][0] = (char)('z' - i);
        names[i][1] = '\0';
        many[i] = (struct yk_label){names[i], "v"};
    }
    assert_int_equal(yk_metrics_add_word(metrics, &hits, many, COUNT_OF(many), &word, &err),
                     -YK_EINVAL);
    assert_int_equal(yk_metrics_add_word(metrics, &hits, many, COUNT_OF(many) - 1, &word, &err), 0);
    char value[5000];
    memset(value, 'v', sizeof(value) - 1);
    value[sizeof(value) - 1] = '\0';
    struct yk_label endless = {"a", value};
    assert_int_equal(yk_metrics_add_word(metrics, &hits, &endless, 1, &word, &err), -YK_ETOOBIG);
    render();
    assert_int_equal(page.n, 1);
}

static void a_name_has_one_type(void **state) {
    (void)state;
    static struct yk_hist hist;
    uint64_t word = 0;
    struct yk_metric_desc as_ns = bytes;
    as_ns.divisor = 1e9;
    assert_int_equal(yk_metrics_add_word(metrics, &bytes, NULL, 0, &word, &err), 0);
    assert_int_equal(yk_metrics_add_word(metrics, &as_ns, NULL, 0, &word, &err), -YK_EINVAL);
    assert_non_null(strstr(err.text, "another type"));
    assert_int_equal(yk_metrics_add_word(metrics, &lat, NULL, 0, &word, &err), -YK_EINVAL);
    assert_int_equal(yk_metrics_add_hist(metrics, &bytes, NULL, 0, &hist, &err), -YK_EINVAL);
    assert_int_equal(yk_metrics_add_collector(metrics, &lat, collect_namespaces, NULL, &err),
                     -YK_EINVAL);
}

static void the_registry_has_a_limit(void **state) {
    (void)state;
    uint64_t word = 0;
    struct yk_metrics *small;
    assert_int_equal(yk_metrics_new(2, &small), 0);
    assert_int_equal(yk_metrics_add_word(small, &hits, NULL, 0, &word, &err), 0);
    assert_int_equal(yk_metrics_add_word(small, &hits, NULL, 0, &word, &err), 0);
    assert_int_equal(yk_metrics_add_word(small, &hits, NULL, 0, &word, &err), -YK_ELIMIT);
    assert_int_equal(yk_metrics_add_collector(small, &bytes, collect_namespaces, NULL, &err),
                     -YK_ELIMIT);
    yk_metrics_free(small);
    yk_metrics_free(NULL);
}

static void a_page_over_its_limit_says_so(void **state) {
    (void)state;
    uint64_t word = 0;
    struct yk_buf small;
    yk_buf_init(&small, 20);
    assert_int_equal(yk_metrics_add_word(metrics, &hits, NULL, 0, &word, &err), 0);
    assert_int_equal(yk_metrics_render(metrics, &small), -YK_ETOOBIG);
    yk_buf_fini(&small);
}

struct owner {
    uint64_t word;
    struct yk_hist hist;
};

enum { UPDATES = 200000 };

static void *update(void *arg) {
    struct owner *owner = arg;
    for (int i = 0; i < UPDATES; i++) {
        yk_metric_add(&owner->word, 1);
        yk_hist_record(&owner->hist, (uint64_t)i);
    }
    return NULL;
}

static void rendering_beside_the_owner(void **state) {
    (void)state;
    static struct owner owner;
    pthread_t thread;
    double last = 0;
    assert_int_equal(yk_metrics_add_word(metrics, &hits, NULL, 0, &owner.word, &err), 0);
    assert_int_equal(yk_metrics_add_hist(metrics, &lat, NULL, 0, &owner.hist, &err), 0);
    assert_int_equal(pthread_create(&thread, NULL, update, &owner), 0);
    while (last < UPDATES) {
        render();
        double now = prom_get(&page, "yolk_hits_total", "", "");
        assert_true(now >= last);
        last = now;
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    render();
    assert_true(prom_get(&page, "yolk_get_seconds_count", "", "") == UPDATES);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(words_appear_with_help_and_type, setup, teardown),
        cmocka_unit_test_setup_teardown(shards_are_summed, setup, teardown),
        cmocka_unit_test_setup_teardown(divisors_give_base_units, setup, teardown),
        cmocka_unit_test_setup_teardown(histograms_are_cumulative_and_merged, setup, teardown),
        cmocka_unit_test_setup_teardown(a_histogram_without_labels, setup, teardown),
        cmocka_unit_test_setup_teardown(values_are_escaped_and_made_utf8, setup, teardown),
        cmocka_unit_test_setup_teardown(collectors_are_asked_for_each_page, setup, teardown),
        cmocka_unit_test_setup_teardown(a_collector_with_bad_labels_fails_the_page, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(names_are_held_to_the_rules, setup, teardown),
        cmocka_unit_test_setup_teardown(labels_are_held_to_the_rules, setup, teardown),
        cmocka_unit_test_setup_teardown(a_name_has_one_type, setup, teardown),
        cmocka_unit_test_setup_teardown(the_registry_has_a_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(a_page_over_its_limit_says_so, setup, teardown),
        cmocka_unit_test_setup_teardown(rendering_beside_the_owner, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
