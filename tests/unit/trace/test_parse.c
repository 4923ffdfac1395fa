/* SPDX-License-Identifier: Apache-2.0
 *
 * The line parser and the line writer: what is taken, what is refused, and with which words.
 */
#include "testing.h"

static int parse(const char *line, struct yk_trace_req *req, struct yk_err *err) {
    /* A copy that ends where the line does, so that a sanitizer sees a read past it. */
    size_t len = strlen(line);
    char *exact = malloc(len > 0 ? len : 1);
    memcpy(exact, line, len);
    int rc = yk_trace_parse_line(exact, len, req, err);
    free(exact);
    return rc;
}

static void a_line_of_the_public_format(void **state) {
    (void)state;
    struct yk_trace_req req = {0};
    assert_int_equal(parse("{\"timestamp\": 27482, \"input_length\": 6955, \"output_length\": 52, "
                           "\"hash_ids\": [46, 47, 2353]}",
                           &req, NULL),
                     0);
    assert_int_equal(req.timestamp_ms, 27482);
    assert_int_equal(req.input_length, 6955);
    assert_int_equal(req.output_length, 52);
    assert_int_equal(req.n, 3);
    assert_int_equal(req.hash_ids[0], 46);
    assert_int_equal(req.hash_ids[2], 2353);
    assert_int_equal(req.stop, YK_TRACE_STOP_NONE);
    assert_int_equal(req.session, 0);
    yk_trace_req_fini(&req);
}

#define HEAD "{\"timestamp\":1,\"input_length\":2,\"output_length\":3,\"hash_ids\":[4]"

static void extra_fields_are_taken_or_ignored(void **state) {
    (void)state;
    struct yk_trace_req req = {0};
    assert_int_equal(parse(HEAD ",\"stop\":1,\"session\":18446744073709551615}", &req, NULL), 0);
    assert_int_equal(req.stop, YK_TRACE_STOP_TOOL);
    assert_true(req.session == UINT64_MAX);
    const char *ignored[] = {
        "\"stop\":\"end\"",
        "\"stop\":null",
        "\"stop\":256",
        "\"stop\":[\"a\",\"b\"]",
        "\"stop\":-1",
        "\"session\":\"8c1f\"",
        "\"session\":1.5",
        "\"x\":{\"a\":[1,-2.5e+3,{\"b\":[]}],\"c\":{}}",
        "\"x\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9 \xc3\xa9\"",
        "\"x\":true,\"y\":false,\"z\":null",
        "\"hash_id\":0,\"timestamps\":0,\"\":0",
        "\"\\u0074imestamp\":\"another field than timestamp\"",
        "\"x\":[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]",
    };
    for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++) {
        char line[512];
        struct yk_err err = {0};
        snprintf(line, sizeof(line), HEAD ",%s}", ignored[i]);
        assert_int_equal(parse(line, &req, &err), 0);
        assert_int_equal(req.stop, 0);
        assert_int_equal(req.session, 0);
        assert_int_equal(req.n, 1);
    }
    yk_trace_req_fini(&req);
}

static void order_and_space_do_not_matter(void **state) {
    (void)state;
    struct yk_trace_req req = {0};
    assert_int_equal(parse(" \t{ \"hash_ids\" : [ ] , \"output_length\" :3,\"timestamp\"\t: 1 , "
                           "\"input_length\": 0 } \r\n",
                           &req, NULL),
                     0);
    assert_int_equal(req.n, 0);
    assert_int_equal(req.output_length, 3);
    yk_trace_req_fini(&req);
}

static void limits_of_numbers(void **state) {
    (void)state;
    struct yk_trace_req req = {0};
    assert_int_equal(parse("{\"timestamp\":9007199254740992,\"input_length\":4294967295,"
                           "\"output_length\":0,\"hash_ids\":[18446744073709551615,0]}",
                           &req, NULL),
                     0);
    assert_true(req.timestamp_ms == YK_TRACE_TIME_MAX_MS);
    assert_true(req.input_length == UINT32_MAX);
    assert_true(req.hash_ids[0] == UINT64_MAX);
    yk_trace_req_fini(&req);
}

static void refusals_say_what_and_where(void **state) {
    (void)state;
    static const struct {
        const char *line, *text;
    } cases[] = {
        {"", "found the end of the line, expected '{' (column 1)"},
        {"[1]", "found '[', expected '{' (column 1)"},
        {"{}", "found no 'timestamp', expected that field"},
        {"{\"timestamp\":1,\"input_length\":1,\"output_length\":1}",
         "found no 'hash_ids', expected that field"},
        {"{\"timestamp\" 1}", "found '1', expected ':' (column 14)"},
        {"{timestamp:1}", "found 't', expected a field name in quotes (column 2)"},
        {"{\"timestamp\":1,}", "found '}', expected a field name in quotes (column 16)"},
        {"{\"timestamp\":1 \"x\":1}", "found '\"', expected ',' or '}' (column 16)"},
        {"{\"timestamp\":\"1\"}", "found '\"', expected an integer from 0 (column 14)"},
        {"{\"timestamp\":-1}", "found '-', expected an integer from 0 (column 14)"},
        {"{\"timestamp\":1.5}", "found '.', expected the end of an integer (column 15)"},
        {"{\"timestamp\":1e3}", "found 'e', expected the end of an integer (column 15)"},
        {"{\"timestamp\":01}", "found '0', expected an integer without leading zeros (column 14)"},
        {"{\"timestamp\":}", "found '}', expected an integer from 0 (column 14)"},
        {"{\"timestamp\":", "found the end of the line, expected an integer from 0 (column 14)"},
        {"{\"timestamp\":9007199254740993}",
         "found a number over 9007199254740992, expected an integer from 0 to that (column 14)"},
        {"{\"input_length\":4294967296}",
         "found a number over 4294967295, expected an integer from 0 to that (column 17)"},
        {"{\"hash_ids\":[18446744073709551616]}",
         "found a number over 18446744073709551615, expected an integer from 0 to that "
         "(column 14)"},
        {"{\"hash_ids\":1}", "found '1', expected '[' of the hash_ids (column 13)"},
        {"{\"hash_ids\":[1 2]}", "found '2', expected ',' or ']' (column 16)"},
        {"{\"hash_ids\":[1,]}", "found ']', expected an integer from 0 (column 16)"},
        {"{\"hash_ids\":[1", "found the end of the line, expected ',' or ']' (column 15)"},
        {"{\"timestamp\":1,\"timestamp\":2}",
         "found a second 'timestamp', expected each field once (column 16)"},
        {HEAD "} x", "found 'x', expected the end of the line (column 67)"},
        {HEAD "}{}", "found '{', expected the end of the line (column 66)"},
        {"{\"x\":tru}", "found 't', expected a JSON value (column 6)"},
        {"{\"x\":\x01}", "found byte 0x01, expected a JSON value (column 6)"},
        {"\xef\xbb\xbf{}", "found byte 0xef, expected '{' (column 1)"},
        {"{\"x\":-}", "found '}', expected a digit (column 7)"},
        {"{\"x\":-01}", "found '0', expected a number without leading zeros (column 7)"},
        {"{\"x\":1.}", "found '}', expected a digit (column 8)"},
        {"{\"x\":1e}", "found '}', expected a digit (column 8)"},
        {"{\"x\":\"a", "found the end of the line, expected '\"' (column 8)"},
        {"{\"x\":\"a\tb\"}",
         "found byte 0x09, expected no control character in a string (column 8)"},
        {"{\"x\":\"\\x\"}", "found 'x', expected one of \"\\/bfnrtu after '\\' (column 8)"},
        {"{\"x\":\"\\",
         "found the end of the line, expected one of \"\\/bfnrtu after '\\' (column 8)"},
        {"{\"x\":\"\\u12g4\"}",
         "found 'g', expected four hexadecimal digits after '\\u' (column 11)"},
        {"{\"x\":[1,}", "found '}', expected a JSON value (column 9)"},
        {"{\"x\":{\"a\":1]}", "found ']', expected ',' or '}' (column 12)"},
        {"{\"x\":{\"a\"}}", "found '}', expected ':' (column 10)"},
    };
    struct yk_trace_req req = {0};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct yk_err err = {0};
        assert_int_equal(parse(cases[i].line, &req, &err), -YK_EINVAL);
        assert_string_equal(err.text, cases[i].text);
        assert_int_equal(parse(cases[i].line, &req, NULL), -YK_EINVAL);
    }
    yk_trace_req_fini(&req);
}

static void nesting_is_bounded(void **state) {
    (void)state;
    struct yk_trace_req req = {0};
    struct yk_err err = {0};
    char line[4096];
    memset(line, '[', sizeof(line));
    memcpy(line, "{\"x\":", 5);
    assert_int_equal(yk_trace_parse_line(line, sizeof(line), &req, &err), -YK_ETOOBIG);
    assert_string_equal(err.text,
                        "found values nested deeper than 16, expected at most that (column 23)");
    yk_trace_req_fini(&req);
}

static void ids_are_bounded(void **state) {
    (void)state;
    struct yk_trace_req req = {0};
    struct yk_err err = {0};
    size_t len = strlen(HEAD), size = len + 2 * (size_t)YK_TRACE_IDS_MAX + 2;
    char *line = malloc(size);
    memcpy(line, HEAD, len); /* one id is there already */
    len--;
    for (uint32_t i = 1; i < YK_TRACE_IDS_MAX; i++) {
        memcpy(line + len, ",7", 2);
        len += 2;
    }
    memcpy(line + len, "]}", 2);
    assert_int_equal(yk_trace_parse_line(line, len + 2, &req, &err), 0);
    assert_int_equal(req.n, YK_TRACE_IDS_MAX);
    memcpy(line + len, ",7", 2);
    assert_int_equal(yk_trace_parse_line(line, len + 2, &req, &err), -YK_ETOOBIG);
    assert_non_null(strstr(err.text, "found more than 1048576 hash_ids"));
    free(line);
    yk_trace_req_fini(&req);
}

static char *written(const struct yk_trace_req *req) {
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    assert_int_equal(yk_trace_write(out, req), 0);
    fclose(out);
    return text;
}

static void writes_the_public_format(void **state) {
    (void)state;
    uint64_t ids[] = {0, 10, UINT64_MAX};
    struct yk_trace_req req = {
        .timestamp_ms = 5, .input_length = 1500, .output_length = 7, .hash_ids = ids, .n = 3};
    char *text = written(&req);
    assert_string_equal(text, "{\"timestamp\": 5, \"input_length\": 1500, \"output_length\": 7, "
                              "\"hash_ids\": [0, 10, 18446744073709551615]}\n");
    free(text);
    req.stop = YK_TRACE_STOP_END;
    req.session = 12;
    req.n = 0;
    text = written(&req);
    assert_string_equal(text, "{\"timestamp\": 5, \"input_length\": 1500, \"output_length\": 7, "
                              "\"stop\": 2, \"session\": 12, \"hash_ids\": []}\n");
    struct yk_trace_req again = {0};
    assert_int_equal(parse(text, &again, NULL), 0);
    assert_int_equal(again.stop, 2);
    assert_int_equal(again.session, 12);
    free(text);
    yk_trace_req_fini(&again);
}

static void a_full_device_is_an_error(void **state) {
    (void)state;
    FILE *out = fopen("/dev/full", "w");
    struct yk_trace_req req = {0};
    if (out == NULL)
        skip();
    setvbuf(out, NULL, _IONBF, 0);
    assert_int_equal(yk_trace_write(out, &req), -YK_EIO);
    fclose(out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_of_the_public_format),
        cmocka_unit_test(extra_fields_are_taken_or_ignored),
        cmocka_unit_test(order_and_space_do_not_matter),
        cmocka_unit_test(limits_of_numbers),
        cmocka_unit_test(refusals_say_what_and_where),
        cmocka_unit_test(nesting_is_bounded),
        cmocka_unit_test(ids_are_bounded),
        cmocka_unit_test(writes_the_public_format),
        cmocka_unit_test(a_full_device_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
