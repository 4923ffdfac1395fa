/* SPDX-License-Identifier: Apache-2.0
 *
 * Configuration file: what a line may look like, and what each wrong one is told.
 */
#include "opt_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static struct yk_opts opts;
static struct config config;
static struct yk_err err;

static int setup(void **state) {
    (void)state;
    return yk_opt_init(&opts, &spec, &config, &err);
}

static int teardown(void **state) {
    (void)state;
    yk_opt_fini(&opts);
    return 0;
}

static int read_text(const char *text) {
    memset(&err, 0, sizeof(err));
    return yk_opt_parse_text(&opts, "y.conf", text, strlen(text), &err);
}

static void accepted(const char *text) {
    if (read_text(text) != 0)
        fail_msg("%s", err.text);
}

static void said(const char *text, const char *message) {
    assert_int_equal(read_text(text), -YK_EINVAL);
    assert_string_equal(err.text, message);
}

static void lines_of_every_kind(void **state) {
    (void)state;
    accepted("# a comment\n"
             "   # another\n"
             "\n"
             "\t \r\n"
             "dram = 2G\r\n"
             "clients=7\n"
             "  timeout\t=\t3s   # a comment behind\n"
             "path = /a#b  c\n"
             "http =\n"
             "scrub = no");
    assert_true(config.dram_bytes == 2ull << 30);
    assert_true(config.clients == 7);
    assert_true(config.timeout_ns == 3000000000);
    assert_string_equal(config.path, "/a#b  c");
    assert_int_equal(config.http.kind, YK_ADDR_NONE);
    assert_false(config.scrub);
    accepted("");
    accepted("\n");
    accepted("#");
}

static void quoted_values(void **state) {
    (void)state;
    accepted("path = \" a # \\\"b\\\" \\\\ \\n\\t \"  # comment");
    assert_string_equal(config.path, " a # \"b\" \\ \n\t ");
    accepted("path = \"\"");
    assert_string_equal(config.path, "");
    accepted("path = a\\nb"); /* no escapes without quotes */
    assert_string_equal(config.path, "a\\nb");
    accepted("path = a \"b\"");
    assert_string_equal(config.path, "a \"b\"");
    accepted("path = # only a comment");
    assert_string_equal(config.path, "");
    said("path = \"abc", "y.conf:1: found no closing quote, expected \" at the end of the value");
    said("path = \"abc\\\"",
         "y.conf:1: found no closing quote, expected \" at the end of the value");
    said("path = \"a\\x\"",
         "y.conf:1: found '\\x\"', expected one of \\\" \\\\ \\n \\t inside quotes");
    said("path = \"a\\", "y.conf:1: found '\\', expected one of \\\" \\\\ \\n \\t inside quotes");
    said("path = \"a\" b", "y.conf:1: found 'b', expected nothing after the closing quote");
    said("path = \"a\"#b", "y.conf:1: found '#b', expected nothing after the closing quote");
}

static void sections(void **state) {
    (void)state;
    accepted("clients = 5\n"
             "[memory]\n"
             "dram = 2G\n"
             " [ Network ]  # any case\n"
             "timeout = 3s\n"
             "[memory]\n"
             "policy = lru\n");
    assert_int_equal(config.policy, 0);
    said("[memry]\n", "y.conf:1: found 'memry', expected one of the sections [memory] [network]");
    said("[]\n", "y.conf:1: found '', expected one of the sections [memory] [network]");
    said("[memory\n", "y.conf:1: found '[memory', expected [section]");
    said("[memory] x\n", "y.conf:1: found '[memory] x', expected [section]");
    said("\n[memory]\ntimeout = 3s\n",
         "y.conf:3: timeout: found under [memory], expected under [network]");
    said("[memory]\nclients = 3\n",
         "y.conf:2: clients: found under [memory], expected before any section");
}

static void wrong_lines(void **state) {
    (void)state;
    said("dram 2G\n", "y.conf:1: found 'dram 2G', expected name = value");
    said("clients=1\ndram = 8X\n",
         "y.conf:2: dram: found '8X', expected a size such as 512MiB, 16K or 1.5G");
    said("drma = 2G\n", "y.conf:1: found 'drma', which is no option (did you mean 'dram'?)");
    said("--dram = 2G\n", "y.conf:1: found '--dram', which is no option (did you mean 'dram'?)");
    said("= 2G\n", "y.conf:1: found '', which is no option");
    said("x\x01y = 2G\n", "y.conf:1: found 'x?y', which is no option");
    said("dram = 1G\n\ndram = 2G\n",
         "y.conf:3: dram: found a second time, expected once (first in line 1)");
    said("config = x\n", "y.conf:1: config: not allowed in a file, expected as --config");
    said("check-config = yes\n",
         "y.conf:1: check-config: not allowed in a file, expected as --check-config");
    assert_int_equal(yk_opt_parse_text(&opts, "y.conf", "a\0b", 3, &err), -YK_EINVAL);
    assert_string_equal(err.text, "y.conf:1: found a NUL byte, expected text");
}

static void lists_go_on_over_lines(void **state) {
    (void)state;
    accepted("listen = a:1\nlisten = b:2, c:3\n");
    assert_int_equal(config.listen.n, 3);
    assert_string_equal(config.listen.items[2], "c:3");
    accepted("listen = d:4\n"); /* a second file replaces */
    assert_int_equal(config.listen.n, 1);
    accepted("listen =\n");
    assert_int_equal(config.listen.n, 0);
}

static void a_long_path_keeps_its_end(void **state) {
    (void)state;
    char path[300];
    memset(path, 'x', sizeof(path));
    memcpy(path + sizeof(path) - 11, "/yolkd.conf", 11);
    path[sizeof(path) - 1] = '\0';
    assert_int_equal(yk_opt_parse_text(&opts, path, "dram = 8X", 9, &err), -YK_EINVAL);
    assert_non_null(strstr(err.text, "xxx/yolkd.con:1: dram: found '8X', expected a size"));
    assert_int_equal(strncmp(err.text, "...xxx", 6), 0);
}

static void files_have_a_limit(void **state) {
    (void)state;
    char *text = malloc(YK_OPT_FILE_MAX + 1);
    assert_non_null(text);
    memset(text, '\n', YK_OPT_FILE_MAX + 1);
    assert_int_equal(yk_opt_parse_text(&opts, "y.conf", text, YK_OPT_FILE_MAX, &err), 0);
    assert_int_equal(yk_opt_parse_text(&opts, "y.conf", text, YK_OPT_FILE_MAX + 1, &err),
                     -YK_ETOOBIG);
    memset(text, 'x', YK_OPT_FILE_MAX); /* one line that never ends */
    assert_int_equal(yk_opt_parse_text(&opts, "y.conf", text, YK_OPT_FILE_MAX, &err), -YK_EINVAL);
    free(text);
}

/* Whatever single byte of a good file is replaced: an answer, and one line of it. */
static void one_wrong_byte_anywhere(void **state) {
    (void)state;
    static const char good[] = "[memory]\ndram = \"2G\" # c\ntiers = dram,ssd\npolicy=lru\n";
    static const char wrong[] = "\0\n\"\\#=[],\xff ";
    char text[sizeof(good)];
    for (size_t at = 0; at < sizeof(good) - 1; at++) {
        for (size_t i = 0; i < sizeof(wrong); i++) {
            memcpy(text, good, sizeof(good));
            text[at] = wrong[i];
            memset(&err, 0, sizeof(err));
            int rc = yk_opt_parse_text(&opts, "y.conf", text, sizeof(good) - 1, &err);
            assert_true(rc == 0 || rc == -YK_EINVAL);
            assert_int_equal(rc, err.code);
            assert_null(strchr(err.text, '\n'));
            if (rc < 0)
                assert_int_equal(strncmp(err.text, "y.conf:", 7), 0);
        }
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(lines_of_every_kind), TEST(quoted_values),           TEST(sections),
        TEST(wrong_lines),         TEST(lists_go_on_over_lines),  TEST(a_long_path_keeps_its_end),
        TEST(files_have_a_limit),  TEST(one_wrong_byte_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
