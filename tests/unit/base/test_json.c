/* SPDX-License-Identifier: Apache-2.0
 *
 * JSON writer: exact output, all of it read back by another implementation (jansson), every misuse,
 * and failing sinks.
 */
#include "base/json.h"

#include <yolk/status.h>

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))

static struct yk_json json;
static struct yk_buf buf;

static int setup(void **state) {
    (void)state;
    yk_buf_init(&buf, 1 << 20);
    yk_json_init_buf(&json, &buf);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    yk_buf_fini(&buf);
    return 0;
}

/* The document as another reader sees it; the caller decrefs. */
static json_t *read_back(void) {
    json_error_t error;
    json_t *root;
    assert_int_equal(yk_json_finish(&json), 0);
    root = json_loadb(buf.data, buf.len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL,
                      &error);
    if (root == NULL)
        fail_msg("%s in %s", error.text, buf.data);
    return root;
}

static void wrote(const char *text) {
    json_decref(read_back());
    assert_string_equal(yk_buf_text(&buf), text);
}

static void nested_values(void **state) {
    (void)state;
    yk_json_begin_object(&json);
    yk_json_put_str(&json, "bench", "store");
    yk_json_put_int(&json, "i", -5);
    yk_json_put_uint(&json, "u", UINT64_MAX / 2);
    yk_json_put_double(&json, "d", 0.1);
    yk_json_put_bool(&json, "t", true);
    yk_json_put_bool(&json, "f", false);
    yk_json_put_null(&json, "n");
    yk_json_put_str(&json, "s", NULL);
    yk_json_key(&json, "a");
    yk_json_begin_array(&json);
    yk_json_int(&json, 1);
    yk_json_begin_array(&json);
    yk_json_end_array(&json);
    yk_json_begin_object(&json);
    yk_json_end_object(&json);
    yk_json_begin_object(&json);
    yk_json_put_int(&json, "x", 1);
    yk_json_end_object(&json);
    yk_json_str(&json, "y");
    yk_json_end_array(&json);
    yk_json_put_int(&json, "z", 0);
    yk_json_end_object(&json);
    wrote("{\"bench\": \"store\", \"i\": -5, \"u\": 9223372036854775807, \"d\": 0.1, \"t\": true, "
          "\"f\": false, \"n\": null, \"s\": null, \"a\": [1, [], {}, {\"x\": 1}, \"y\"], \"z\": "
          "0}");
}

static void roots_of_every_kind(void **state) {
    (void)state;
    yk_json_str(&json, "x");
    wrote("\"x\"");
    yk_buf_clear(&buf);
    yk_json_init_buf(&json, &buf);
    yk_json_null(&json);
    wrote("null");
}

static void numbers(void **state) {
    (void)state;
    yk_json_begin_array(&json);
    yk_json_int(&json, INT64_MIN);
    yk_json_int(&json, INT64_MAX);
    yk_json_double(&json, -2.5e-7);
    yk_json_double(&json, 1e300);
    yk_json_double(&json, 3);
    yk_json_double(&json, NAN);
    yk_json_double(&json, INFINITY);
    yk_json_double(&json, -INFINITY);
    yk_json_end_array(&json);
    wrote("[-9223372036854775808, 9223372036854775807, -2.5e-07, 1e+300, 3, null, null, null]");
    yk_buf_clear(&buf);
    yk_json_init_buf(&json, &buf);
    yk_json_uint(&json, UINT64_MAX); /* more than jansson holds */
    assert_int_equal(yk_json_finish(&json), 0);
    assert_string_equal(yk_buf_text(&buf), "18446744073709551615");
}

static void strings_are_escaped(void **state) {
    (void)state;
    yk_json_begin_object(&json);
    yk_json_put_str(&json, "k\"\n", "\" \\ / \b\f\n\r\t \x01\x1f\x7f");
    yk_json_end_object(&json);
    wrote("{\"k\\\"\\n\": \"\\\" \\\\ / \\b\\f\\n\\r\\t \\u0001\\u001f\x7f\"}");
}

static void every_byte_string_survives_or_is_replaced(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t len;
        const char *seen;
    } rows[] = {
        {"", 0, ""},
        {"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", 14,
         "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"},
        {"\xff", 1, "\xef\xbf\xbd"},
        {"a\xc3", 2, "a\xef\xbf\xbd"},
        {"\xed\xa0\x80", 3, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xc0\x80x", 3, "\xef\xbf\xbd\xef\xbf\xbdx"},
        {"\xe2\x82\xac\xe2\x82", 5, "\xe2\x82\xac\xef\xbf\xbd\xef\xbf\xbd"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        yk_buf_clear(&buf);
        yk_json_init_buf(&json, &buf);
        yk_json_strn(&json, rows[i].bytes, rows[i].len);
        json_t *root = read_back();
        assert_string_equal(json_string_value(root), rows[i].seen);
        json_decref(root);
    }
}

static void all_two_byte_strings_give_valid_json(void **state) {
    (void)state;
    yk_json_begin_array(&json);
    for (unsigned v = 0; v < 65536; v++) {
        char bytes[2] = {(char)(v >> 8), (char)v};
        yk_json_strn(&json, bytes, 2);
    }
    yk_json_end_array(&json);
    json_t *root = read_back();
    assert_int_equal(json_array_size(root), 65536);
    assert_int_equal(json_string_length(json_array_get(root, 0)), 2); /* NULs */
    json_decref(root);
}

static void one_text_a_line(void **state) {
    (void)state;
    for (int i = 0; i < 3; i++) {
        yk_json_begin_object(&json);
        yk_json_put_int(&json, "i", i);
        yk_json_end_object(&json);
        yk_json_newline(&json);
    }
    assert_int_equal(yk_json_finish(&json), 0);
    assert_string_equal(yk_buf_text(&buf), "{\"i\": 0}\n{\"i\": 1}\n{\"i\": 2}\n");
}

static void nothing_at_all_is_fine(void **state) {
    (void)state;
    assert_int_equal(yk_json_finish(&json), 0);
    assert_string_equal(yk_buf_text(&buf), "");
}

static void depth_has_a_limit(void **state) {
    (void)state;
    for (int i = 0; i < YK_JSON_DEPTH_MAX; i++)
        yk_json_begin_array(&json);
    for (int i = 0; i < YK_JSON_DEPTH_MAX; i++)
        yk_json_end_array(&json);
    json_decref(read_back());
    yk_json_init_buf(&json, &buf);
    for (int i = 0; i < YK_JSON_DEPTH_MAX + 1; i++)
        yk_json_begin_array(&json);
    for (int i = 0; i < YK_JSON_DEPTH_MAX + 1; i++)
        yk_json_end_array(&json);
    assert_int_equal(yk_json_finish(&json), -YK_EINTERNAL);
}

/* Each letter is a call: { } [ ] k(ey) v(alue) n(ewline). */
static int play(const char *calls) {
    yk_buf_clear(&buf);
    yk_json_init_buf(&json, &buf);
    for (; *calls != '\0'; calls++) {
        switch (*calls) {
        case '{':
            yk_json_begin_object(&json);
            break;
        case '}':
            yk_json_end_object(&json);
            break;
        case '[':
            yk_json_begin_array(&json);
            break;
        case ']':
            yk_json_end_array(&json);
            break;
        case 'k':
            yk_json_key(&json, "k");
            break;
        case 'v':
            yk_json_int(&json, 1);
            break;
        default:
            yk_json_newline(&json);
            break;
        }
    }
    return yk_json_finish(&json);
}

static void misuse_is_reported(void **state) {
    (void)state;
    static const char *const wrong[] = {"vv", "{v}", "{k}", "{kk", "[k", "k",  "]",  "}",   "{]",
                                        "[}", "[",   "{",   "{kv", "n",  "[n", "v]", "vnn", "{k[}"};
    for (size_t i = 0; i < COUNT_OF(wrong); i++)
        if (play(wrong[i]) != -YK_EINTERNAL)
            fail_msg("'%s' passed: %s", wrong[i], yk_buf_text(&buf));
    assert_int_equal(play("{k[vv]k{}}n"), 0);
}

/* All sequences of up to six calls: what is accepted is JSON. */
static void whatever_is_accepted_is_json(void **state) {
    (void)state;
    static const char alphabet[] = "{}[]kv";
    unsigned accepted = 0;
    for (unsigned n = 1; n <= 6; n++) {
        unsigned total = 1;
        for (unsigned i = 0; i < n; i++)
            total *= 6;
        for (unsigned v = 0; v < total; v++) {
            char calls[8] = "";
            for (unsigned i = 0, rest = v; i < n; i++, rest /= 6)
                calls[i] = alphabet[rest % 6];
            if (play(calls) != 0)
                continue;
            json_error_t error;
            json_t *root = json_loadb(buf.data, buf.len, JSON_DECODE_ANY, &error);
            if (root == NULL)
                fail_msg("%s gave %s", calls, buf.data);
            json_decref(root);
            accepted++;
        }
    }
    assert_true(accepted > 20);
}

static void nothing_is_written_after_an_error(void **state) {
    (void)state;
    yk_json_begin_array(&json);
    yk_json_key(&json, "x");
    size_t len = buf.len;
    yk_json_int(&json, 5);
    yk_json_end_array(&json);
    assert_int_equal(buf.len, len);
    assert_int_equal(yk_json_finish(&json), -YK_EINTERNAL);
}

static void a_full_buffer_is_reported(void **state) {
    (void)state;
    struct yk_buf small;
    yk_buf_init(&small, 4);
    yk_json_init_buf(&json, &small);
    yk_json_str(&json, "longer");
    assert_int_equal(yk_json_finish(&json), -YK_ETOOBIG);
    yk_buf_fini(&small);
}

static void files(void **state) {
    (void)state;
    char *text = NULL;
    size_t len;
    FILE *file = open_memstream(&text, &len);
    assert_non_null(file);
    yk_json_init_file(&json, file);
    yk_json_begin_object(&json);
    yk_json_put_str(&json, "a", "b\"c");
    yk_json_end_object(&json);
    yk_json_newline(&json);
    assert_int_equal(yk_json_finish(&json), 0);
    assert_string_equal(text, "{\"a\": \"b\\\"c\"}\n");
    fclose(file);
    free(text);
    file = fopen("/dev/full", "w");
    assert_non_null(file);
    yk_json_init_file(&json, file);
    yk_json_str(&json, "lost");
    assert_int_equal(yk_json_finish(&json), -YK_EIO);
    fclose(file);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(nested_values),
        TEST(roots_of_every_kind),
        TEST(numbers),
        TEST(strings_are_escaped),
        TEST(every_byte_string_survives_or_is_replaced),
        TEST(all_two_byte_strings_give_valid_json),
        TEST(one_text_a_line),
        TEST(nothing_at_all_is_fine),
        TEST(depth_has_a_limit),
        TEST(misuse_is_reported),
        TEST(whatever_is_accepted_is_json),
        TEST(nothing_is_written_after_an_error),
        TEST(a_full_buffer_is_reported),
        TEST(files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
