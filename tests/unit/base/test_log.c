/* SPDX-License-Identifier: Apache-2.0
 *
 * Log lines are read back from a pipe: form with and without the journal, one line whatever the
 * text holds, cutting, levels, and the limit for repeated warnings. The clocks are checked against
 * the system's.
 */
#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static int pipe_fds[2];
static char got[3 * YK_LOG_LINE_MAX];

static int setup(void **state) {
    (void)state;
    unsetenv("JOURNAL_STREAM");
    if (pipe2(pipe_fds, O_NONBLOCK) != 0)
        return -1;
    yk_log_init(pipe_fds[1], YK_LOG_INFO);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    yk_log_init(STDERR_FILENO, YK_LOG_WARN);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    return 0;
}

static const char *read_all(void) {
    ssize_t n = read(pipe_fds[0], got, sizeof(got) - 1);
    got[(n > 0) ? n : 0] = '\0';
    return got;
}

static void line_has_stamp_level_module_and_text(void **state) {
    (void)state;
    time_t before = time(NULL);
    yk_log(YK_LOG_WARN, "shm", "segment %d", 7);
    time_t after = time(NULL);
    const char *line = read_all();
    struct tm tm = {0};
    const char *rest = strptime(line, "%Y-%m-%dT%H:%M:%S", &tm);
    assert_non_null(rest);
    time_t stamp = timegm(&tm);
    assert_true(stamp >= before && stamp <= after);
    int ms, used = 0;
    assert_int_equal(sscanf(rest, ".%3dZ%n", &ms, &used), 1);
    assert_int_equal(used, 5);
    assert_string_equal(rest + 5, " warn  shm: segment 7\n");
}

static void journal_lines_have_a_priority_and_no_stamp(void **state) {
    (void)state;
    struct stat st;
    char stream[64];
    assert_int_equal(fstat(pipe_fds[1], &st), 0);
    snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
    setenv("JOURNAL_STREAM", stream, 1);
    yk_log_init(pipe_fds[1], YK_LOG_DEBUG);
    yk_log(YK_LOG_ERROR, "a", "x");
    yk_log(YK_LOG_WARN, "a", "x");
    yk_log(YK_LOG_INFO, "a", "x");
    yk_log(YK_LOG_DEBUG, "a", "x");
    assert_string_equal(read_all(), "<3>a: x\n<4>a: x\n<6>a: x\n<7>a: x\n");
}

static void an_inherited_journal_stream_is_not_believed(void **state) {
    (void)state;
    static const char *const streams[] = {"1:1", "", "x", "8:", "1:2:3"};
    for (size_t i = 0; i < sizeof(streams) / sizeof(streams[0]); i++) {
        setenv("JOURNAL_STREAM", streams[i], 1);
        yk_log_init(pipe_fds[1], YK_LOG_INFO);
        yk_log(YK_LOG_INFO, "a", "x");
        assert_true(read_all()[0] == '2'); /* the year */
    }
}

static void levels_filter_and_arguments_stay_unevaluated(void **state) {
    (void)state;
    int evaluated = 0;
    yk_log(YK_LOG_DEBUG, "a", "%d", ++evaluated);
    assert_string_equal(read_all(), "");
    assert_int_equal(evaluated, 0);
    yk_log_set_level(YK_LOG_DEBUG);
    assert_int_equal(yk_log_get_level(), YK_LOG_DEBUG);
    yk_log(YK_LOG_DEBUG, "a", "%d", ++evaluated);
    assert_non_null(strstr(read_all(), " debug a: 1\n"));
    yk_log_set_level(YK_LOG_ERROR);
    yk_log(YK_LOG_WARN, "a", "%d", ++evaluated);
    assert_string_equal(read_all(), "");
    assert_string_equal(yk_log_level_name(YK_LOG_INFO), "info");
    assert_string_equal(yk_log_level_name((enum yk_log_level)9), "?");
}

static void text_can_not_forge_a_line(void **state) {
    (void)state;
    yk_log(YK_LOG_INFO, "a", "key 'x\n2030 error b: \x1b[2J\x7f' \xc3\xa9");
    const char *line = read_all();
    assert_non_null(strstr(line, " info  a: key 'x\\x0a2030 error b: \\x1b[2J\\x7f' \xc3\xa9\n"));
    assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
}

static void long_lines_are_cut(void **state) {
    (void)state;
    char text[YK_LOG_LINE_MAX + 100];
    for (size_t len = YK_LOG_LINE_MAX - 60; len < sizeof(text); len++) {
        memset(text, (len % 2) ? 'x' : '\n', len);
        text[len] = '\0';
        yk_log(YK_LOG_INFO, "a", "%s", text);
        const char *line = read_all();
        size_t got_len = strlen(line);
        assert_true(got_len <= YK_LOG_LINE_MAX);
        assert_int_equal(line[got_len - 1], '\n');
        bool whole =
            (len % 2) && len + strlen("2026-01-31T12:00:00.123Z info  a: ") + 4 <= YK_LOG_LINE_MAX;
        assert_int_equal(strstr(line, "...\n") == NULL, whole);
    }
}

static void a_module_longer_than_a_line_is_cut(void **state) {
    (void)state;
    char module[YK_LOG_LINE_MAX + 1];
    memset(module, 'm', sizeof(module) - 1);
    module[sizeof(module) - 1] = '\0';
    yk_log(YK_LOG_INFO, module, "text");
    const char *line = read_all();
    assert_int_equal(strlen(line), YK_LOG_LINE_MAX);
    assert_int_equal(line[YK_LOG_LINE_MAX - 1], '\n');
}

static void errno_survives(void **state) {
    (void)state;
    yk_log_init(-1, YK_LOG_INFO);
    errno = ENOSPC;
    yk_log(YK_LOG_INFO, "a", "to a closed descriptor");
    assert_int_equal(errno, ENOSPC);
}

static void repeated_lines_are_counted(void **state) {
    (void)state;
    struct yk_log_limit limit = YK_LOG_LIMIT_INIT(100);
    uint64_t dropped = 99;
    assert_true(yk_log_limit_pass(&limit, 5000, &dropped));
    assert_int_equal(dropped, 0);
    assert_false(yk_log_limit_pass(&limit, 5000, &dropped));
    assert_false(yk_log_limit_pass(&limit, 5099, &dropped));
    assert_true(yk_log_limit_pass(&limit, 5100, &dropped));
    assert_int_equal(dropped, 2);
    assert_true(yk_log_limit_pass(&limit, 5200, &dropped));
    assert_int_equal(dropped, 0);
}

static void a_limited_site_says_how_many_were_left_out(void **state) {
    (void)state;
    struct yk_log_limit limit = YK_LOG_LIMIT_INIT(3600 * 1000);
    for (int i = 0; i < 5; i++)
        yk_log_limited(&limit, YK_LOG_WARN, "a", "garbage %d", i);
    const char *line = read_all();
    assert_non_null(strstr(line, " warn  a: garbage 0\n"));
    assert_null(strstr(line, "garbage 1"));
    limit.next_ms = 0; /* the period is over */
    yk_log_limited(&limit, YK_LOG_WARN, "a", "garbage %d", 5);
    assert_non_null(strstr(read_all(), " warn  a: (4 like this suppressed) garbage 5\n"));
    limit.next_ms = 0;
    yk_log_limited(&limit, YK_LOG_DEBUG, "a", "below the level");
    assert_string_equal(read_all(), "");
}

static void clocks_agree_with_the_system(void **state) {
    (void)state;
    struct timespec ts;
    uint64_t before_ns = yk_now_ns();
    clock_gettime(CLOCK_MONOTONIC, &ts);
    uint64_t mono_ns = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
    assert_true(before_ns <= mono_ns && mono_ns <= yk_now_ns());
    uint64_t before_ms = yk_boot_ms();
    clock_gettime(CLOCK_BOOTTIME, &ts);
    uint64_t boot_ms = (uint64_t)ts.tv_sec * 1000u + (uint64_t)ts.tv_nsec / 1000000u;
    assert_true(before_ms <= boot_ms && boot_ms <= yk_boot_ms());
    assert_true(yk_wall_ms() / 1000 >= 1700000000u); /* set at all: later than 2023 */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(line_has_stamp_level_module_and_text, setup, teardown),
        cmocka_unit_test_setup_teardown(journal_lines_have_a_priority_and_no_stamp, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(an_inherited_journal_stream_is_not_believed, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(levels_filter_and_arguments_stay_unevaluated, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(text_can_not_forge_a_line, setup, teardown),
        cmocka_unit_test_setup_teardown(long_lines_are_cut, setup, teardown),
        cmocka_unit_test_setup_teardown(a_module_longer_than_a_line_is_cut, setup, teardown),
        cmocka_unit_test_setup_teardown(errno_survives, setup, teardown),
        cmocka_unit_test_setup_teardown(repeated_lines_are_counted, setup, teardown),
        cmocka_unit_test_setup_teardown(a_limited_site_says_how_many_were_left_out, setup,
                                        teardown),
        cmocka_unit_test(clocks_agree_with_the_system),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
