/* SPDX-License-Identifier: Apache-2.0
 *
 * `yolk bench alloc`, shortest run: its lines are well-formed, every fixed case is there, and the
 * usable shares (seeded, the same on every machine) keep what the documentation says. Rates are
 * not judged here.
 */
#include "bench/bench.h"
#include "bench/report.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char *run(bool json, size_t *ret_len) {
    char *text = NULL;
    FILE *out = open_memstream(&text, ret_len);
    struct yk_bench_opts opts = {.size = sizeof(opts), .json = json, .quick = true, .out = out};
    const struct yk_bench *b = yk_bench_find("alloc");
    assert_non_null(b);
    assert_int_equal(b->fn(&opts), 0);
    fclose(out);
    return text;
}

static const char *const keys[] = {"bench", "case",   "value",  "unit",    "limit",
                                   "ratio", "p50_us", "p99_us", "p999_us", "cpu_s"};

static double value_of(json_t *lines, const char *name) {
    size_t i;
    json_t *line;
    json_array_foreach(lines, i, line) {
        if (strcmp(json_string_value(json_object_get(line, "case")), name) == 0)
            return json_number_value(json_object_get(line, "value"));
    }
    fail_msg("no case '%s'", name);
    return 0;
}

static void json_lines_hold_what_was_promised(void **state) {
    (void)state;
    size_t len;
    char *text = run(true, &len), *save = NULL;
    json_t *lines = json_array();
    for (char *s = strtok_r(text, "\n", &save); s; s = strtok_r(NULL, "\n", &save)) {
        json_t *line = json_loads(s, 0, NULL);
        assert_non_null(line);
        assert_int_equal(json_object_size(line), sizeof(keys) / sizeof(keys[0]));
        for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
            assert_non_null(json_object_get(line, keys[i]));
        assert_string_equal(json_string_value(json_object_get(line, "bench")), "alloc");
        json_array_append_new(lines, line);
    }
    assert_true(value_of(lines, "usable one-size") > 0.99);
    assert_true(value_of(lines, "usable two-sizes") > 0.99);
    assert_true(value_of(lines, "usable random") > 0.95);
    assert_true(value_of(lines, "ops") > 0);
    json_decref(lines);
    free(text);
}

static void without_json_it_is_a_table(void **state) {
    (void)state;
    size_t len;
    char *text = run(false, &len);
    assert_int_equal(strncmp(text, "bench ", 6), 0);
    assert_non_null(strstr(text, "usable two-sizes"));
    assert_null(strchr(text, '{'));
    free(text);
}

static void rows_print_null_and_escape(void **state) {
    (void)state;
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    struct yk_bench_report r;
    struct yk_bench_row row = YK_BENCH_ROW("a \"b\" \\ \n", "B/s", 2.0);
    uint64_t lat_ns[] = {3000, 1000, 2000};
    yk_bench_report_init(&r, "x", out, true);
    row.limit = 4.0;
    yk_bench_row_percentiles(&row, lat_ns, 0);
    yk_bench_report_row(&r, &row);
    yk_bench_row_percentiles(&row, lat_ns, 3);
    assert_true(row.p50_us == 2.0 && row.p99_us == 2.0);
    fclose(out);
    assert_string_equal(text, "{\"bench\": \"x\", \"case\": \"a \\\"b\\\" \\\\ \\u000a\", "
                              "\"value\": 2, \"unit\": \"B/s\", \"limit\": 4, \"ratio\": 0.5, "
                              "\"p50_us\": null, \"p99_us\": null, \"p999_us\": null, "
                              "\"cpu_s\": null}\n");
    free(text);
}

static void unknown_names_are_not_found(void **state) {
    (void)state;
    assert_null(yk_bench_find("nonsense"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_lines_hold_what_was_promised),
        cmocka_unit_test(without_json_it_is_a_table),
        cmocka_unit_test(rows_print_null_and_escape),
        cmocka_unit_test(unknown_names_are_not_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
