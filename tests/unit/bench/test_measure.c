/* SPDX-License-Identifier: Apache-2.0
 *
 * Rounds: series take turns, failures end them, rates and rows follow from what was counted. Nothing
 * here depends on how fast the machine is.
 */
#include "bench/measure.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <yolk/status.h>

static char turns[4096];
static size_t turn_count;

struct counter {
    char name;
    uint64_t calls, fail_at;
};

static int count(void *arg, uint64_t i) {
    struct counter *c = arg;
    assert_int_equal(i, c->calls); /* operations are numbered over all rounds */
    c->calls++;
    if (turn_count < sizeof(turns) - 1 && (turn_count == 0 || turns[turn_count - 1] != c->name))
        turns[turn_count++] = c->name;
    return c->fail_at != 0 && c->calls == c->fail_at ? -YK_EIO : 0;
}

static struct yk_series a, b;

static void series_take_turns(void **state) {
    (void)state;
    struct counter ca = {'a', 0, 0}, cb = {'b', 0, 0};
    struct yk_series *both[] = {&a, &b};
    a = (struct yk_series){.op = count, .arg = &ca, .per_round = 10, .weight = 1};
    b = (struct yk_series){.op = count, .arg = &cb, .per_round = 5, .weight = 2, .sample_every = 5};
    turn_count = 0;
    assert_int_equal(yk_measure(both, 2, 0), 0);
    assert_memory_equal(turns, "ababab", 6);
    assert_int_equal(ca.calls, 30);
    assert_int_equal(cb.calls, 15);
    assert_int_equal(a.ops, 30);
    assert_int_equal(yk_hist_count(&a.hist), 30);
    assert_int_equal(yk_hist_count(&b.hist), 3);
    assert_true(a.rate > 0 && b.rate > 0);
}

static void a_failure_ends_it(void **state) {
    (void)state;
    struct counter ca = {'a', 0, 17}, cb = {'b', 0, 0};
    struct yk_series *both[] = {&a, &b};
    a = (struct yk_series){.op = count, .arg = &ca, .per_round = 10, .weight = 1};
    b = (struct yk_series){.op = count, .arg = &cb, .per_round = 5, .weight = 1};
    assert_int_equal(yk_measure(both, 2, 1000), -YK_EIO);
    assert_int_equal(ca.calls, 17);
    assert_int_equal(cb.calls, 5);
}

static void limits_do_what_they_say(void **state) {
    (void)state;
    struct yk_copy_limit c;
    assert_int_equal(yk_copy_limit_open(&c, 1000000, 65536), 0);
    assert_int_equal(c.footprint, 15 * 65536);
    memset(c.buffers[0], 7, 65536);
    c.to_shared = 1;
    assert_int_equal(yk_copy_limit_op(&c, 0), 0);
    assert_memory_equal(c.shared, c.buffers[0], 65536);
    c.to_shared = 0;
    memset(c.shared, 9, c.footprint);
    assert_int_equal(yk_copy_limit_op(&c, 0), 0);
    assert_int_equal(c.buffers[0][65535], 9);
    yk_copy_limit_close(&c);

    struct yk_pingpong p;
    assert_int_equal(yk_pingpong_open(&p), 0);
    for (uint64_t i = 0; i < 10; i++)
        assert_int_equal(yk_pingpong_op(&p, i), 0);
    yk_pingpong_close(&p);

    struct yk_load_limit l;
    assert_int_equal(yk_load_limit_open(&l, 1 << 20, 3, 16), 0);
    assert_int_equal(yk_load_limit_op(&l, 0), 0);
    yk_load_limit_close(&l);
}

static void rows_have_every_field(void **state) {
    (void)state;
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    struct yk_bench_report r;
    a = (struct yk_series){.rate = 50, .ops = 10, .cpu_s = 1};
    b = (struct yk_series){.rate = 200};
    yk_bench_report_init(&r, "x", out, true);
    yk_series_row(&r, "half \"quoted\"", "1/s", &a, &b);
    yk_series_cpu_rows(&r, "half", &a);
    fclose(out);
    assert_string_equal(text,
                        "{\"bench\": \"x\", \"case\": \"half \\\"quoted\\\"\", \"value\": 50, "
                        "\"unit\": \"1/s\", \"limit\": 200, \"ratio\": 0.25, "
                        "\"p50_us\": null, \"p99_us\": null, \"p999_us\": null, "
                        "\"cpu_s\": 1}\n"
                        "{\"bench\": \"x\", \"case\": \"cpu half client\", \"value\": 0.1, "
                        "\"unit\": \"s\", \"limit\": null, \"ratio\": null, "
                        "\"p50_us\": null, \"p99_us\": null, \"p999_us\": null, "
                        "\"cpu_s\": null}\n");
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(series_take_turns),
        cmocka_unit_test(a_failure_ends_it),
        cmocka_unit_test(limits_do_what_they_say),
        cmocka_unit_test(rows_have_every_field),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
