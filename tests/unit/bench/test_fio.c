/* SPDX-License-Identifier: Apache-2.0
 *
 * What fio prints: the figures of a job are found, a job that failed or did nothing is told, and nothing
 * that is no JSON of fio's passes for one.
 */
#include "bench/fio.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <yolk/status.h>

#define PERCENTILES                                                                                \
    "\"percentile\": {\"50.000000\": 218112, \"99.000000\": 276480, \"99.900000\": 493568}"
#define OP(bytes, bw, ios, clat)                                                                   \
    "{\"io_bytes\": " bytes ", \"bw_bytes\": " bw ", \"total_ios\": " ios ", \"clat_ns\": {" clat  \
    "}}"
#define GOOD OP("1002962944", "1001960983", "3826", "\"max\": 18805453, " PERCENTILES)
#define NONE OP("0", "0", "0", "\"max\": 0")
#define JOB(error, read, write)                                                                    \
    "{\"fio version\": \"fio-3.33\", \"jobs\": [{\"error\": " error ", \"read\": " read            \
    ", \"write\": " write "}]}"

static struct yk_err err;
static struct yk_fio_result result;

static int parse(const char *text, enum yk_fio_rw rw) {
    memset(&err, 0, sizeof(err));
    memset(&result, 0, sizeof(result));
    return yk_fio_parse(text, strlen(text), rw, &result, &err);
}

static void figures_are_found(void **state) {
    (void)state;
    assert_int_equal(parse(JOB("0", GOOD, NONE), YK_FIO_READ), 0);
    assert_true(result.rate == 1001960983.0);
    assert_int_equal(result.bytes, 1002962944);
    assert_int_equal(result.ops, 3826);
    assert_true(result.p50_ns == 218112 && result.p99_ns == 276480 && result.p999_ns == 493568);
    assert_true(result.max_ns == 18805453);
    assert_int_equal(parse(JOB("0", NONE, GOOD), YK_FIO_WRITE), 0);
}

static void words_around_the_json_are_skipped(void **state) {
    (void)state;
    assert_int_equal(parse("fio: a note\nanother\n" JOB("0", GOOD, NONE) "\n", YK_FIO_READ), 0);
    assert_int_equal(parse(JOB("0", GOOD, NONE) "\nthe end\n", YK_FIO_READ), 0);
    assert_int_equal(result.ops, 3826);
}

static void a_failed_job_says_why(void **state) {
    (void)state;
    assert_int_equal(parse(JOB("28", GOOD, NONE), YK_FIO_READ), -YK_EPROTO);
    assert_non_null(strstr(err.text, "No space left"));
    assert_int_equal(parse(JOB("0", NONE, GOOD), YK_FIO_READ), -YK_EPROTO);
    assert_non_null(strstr(err.text, "did nothing"));
}

static void what_is_missing_is_named(void **state) {
    (void)state;
    static const struct {
        const char *text, *named;
    } rows[] = {
        {"{}", "error"},
        {"{\"jobs\": []}", "error"},
        {"{\"jobs\": 7}", "error"},
        {JOB("\"0\"", GOOD, NONE), "error"},
        {JOB("0", "{}", NONE), "bw_bytes"},
        {JOB("0", "{\"bw_bytes\": 1}", NONE), "io_bytes"},
        {JOB("0", OP("1", "1", "1", "\"max\": 5"), NONE), "50.000000"},
        {JOB("0", OP("1", "1", "1", PERCENTILES), NONE), "max"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        result.ops = 7;
        memset(&err, 0, sizeof(err));
        assert_int_equal(
            yk_fio_parse(rows[i].text, strlen(rows[i].text), YK_FIO_READ, &result, &err),
            -YK_EPROTO);
        assert_non_null(strstr(err.text, rows[i].named));
        assert_int_equal(result.ops, 7); /* outputs only on success */
    }
}

static void every_cut_is_refused(void **state) {
    (void)state;
    static const char text[] = JOB("0", GOOD, NONE);
    for (size_t len = 0; len < sizeof(text) - 1; len++) {
        char *cut = malloc(len + 1u); /* exact, for the sanitizers */
        memcpy(cut, text, len);
        assert_int_equal(yk_fio_parse(cut, len, YK_FIO_READ, &result, &err), -YK_EPROTO);
        free(cut);
    }
    assert_int_equal(parse("no such command", YK_FIO_READ), -YK_EPROTO);
    assert_int_equal(parse("{\"jobs\": [{]}", YK_FIO_READ), -YK_EPROTO);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(figures_are_found),
        cmocka_unit_test(words_around_the_json_are_skipped),
        cmocka_unit_test(a_failed_job_says_why),
        cmocka_unit_test(what_is_missing_is_named),
        cmocka_unit_test(every_cut_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
