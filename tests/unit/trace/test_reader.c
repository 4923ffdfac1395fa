/* SPDX-License-Identifier: Apache-2.0
 *
 * Trace files: lines over buffer ends, errors with file and line, standard input, compression.
 */
#include "testing.h"

#include <fcntl.h>

#ifdef YK_HAVE_ZSTD
#include <zstd.h>
#endif

#define LINE(t)                                                                                    \
    "{\"timestamp\": " #t ", \"input_length\": 1, \"output_length\": 1, \"hash_ids\": [" #t "]}"

static struct yk_trace *open_bytes(const void *bytes, size_t len, char *path) {
    struct yk_trace *t = NULL;
    struct yk_err err = {0};
    make_file(path, bytes, len);
    assert_int_equal(yk_trace_open(path, &t, &err), 0);
    unlink(path);
    return t;
}

/* Requests whose times are 1, 2, ... n, then the end. */
static void expect_times(struct yk_trace *t, uint64_t n) {
    struct yk_trace_req req;
    struct yk_err err = {0};
    for (uint64_t i = 1; i <= n; i++) {
        assert_int_equal(yk_trace_next(t, &req, &err), 1);
        assert_int_equal(req.timestamp_ms, i);
    }
    assert_int_equal(yk_trace_next(t, &req, &err), 0);
    assert_int_equal(yk_trace_next(t, &req, &err), 0);
    yk_trace_close(t);
}

static void expect_failure(struct yk_trace *t, int code, const char *text) {
    struct yk_trace_req req;
    struct yk_err err = {0};
    int rc;
    while ((rc = yk_trace_next(t, &req, &err)) == 1)
        ;
    assert_int_equal(rc, code);
    assert_int_equal(err.code, code);
    assert_string_equal(err.text, text);
    assert_int_equal(yk_trace_next(t, &req, NULL), code); /* and stays so */
    yk_trace_close(t);
}

static void lines_end_in_any_way(void **state) {
    (void)state;
    char path[64];
    const char plain[] = LINE(1) "\n" LINE(2) "\n" LINE(3) "\n";
    const char odd[] = "\n" LINE(1) "\r\n  \n\r\n" LINE(2) "\n\n" LINE(3);
    expect_times(open_bytes(plain, strlen(plain), path), 3);
    expect_times(open_bytes(odd, strlen(odd), path), 3);
    expect_times(open_bytes("", 0, path), 0);
    expect_times(open_bytes("\n\n", 2, path), 0);
}

/* A line with so many ids that it takes about `bytes`. */
static size_t put_long_line(char *out, uint64_t time, size_t bytes) {
    int n =
        sprintf(out, "{\"timestamp\":%llu,\"input_length\":1,\"output_length\":1,\"hash_ids\":[0",
                (unsigned long long)time);
    size_t len = (size_t)n;
    while (len < bytes) {
        memcpy(out + len, ",1234567", 8);
        len += 8;
    }
    memcpy(out + len, "]}\n", 3);
    return len + 3;
}

static void lines_longer_than_any_buffer(void **state) {
    (void)state;
    const size_t sizes[] = {65500, 65536, 100, 200000, 131072, 50, 1000000, 100};
    char path[64], *text = malloc(2000000);
    size_t len = 0;
    for (size_t i = 0; i < 8; i++)
        len += put_long_line(text + len, i + 1, sizes[i]);
    expect_times(open_bytes(text, len, path), 8);
    free(text);
}

static void a_line_over_the_limit_is_refused(void **state) {
    (void)state;
    char path[64], want[200], *text = malloc(3u * YK_TRACE_LINE_MAX);
    memset(text, ' ', 3u * YK_TRACE_LINE_MAX);
    memcpy(text, LINE(1) "\n", strlen(LINE(1)) + 1);
    struct yk_trace *t = open_bytes(text, 3u * YK_TRACE_LINE_MAX, path);
    free(text);
    snprintf(want, sizeof(want), "%s:2: found a line over %u bytes, expected at most that", path,
             YK_TRACE_LINE_MAX);
    expect_failure(t, -YK_ETOOBIG, want);
}

static void errors_name_file_and_line(void **state) {
    (void)state;
    char path[64], want[200];
    const char bad[] = LINE(1) "\n\n" LINE(2) "\n{\"timestamp\": x}\n" LINE(3) "\n";
    struct yk_trace *t = open_bytes(bad, strlen(bad), path);
    snprintf(want, sizeof(want), "%s:4: found 'x', expected an integer from 0 (column 15)", path);
    expect_failure(t, -YK_EINVAL, want);
}

static void a_long_path_keeps_its_end(void **state) {
    (void)state;
    char path[600] = "/tmp/yk-trace-test-", tail[64];
    struct yk_trace *t;
    struct yk_trace_req req;
    struct yk_err err = {0};
    snprintf(tail, sizeof(tail), "%d.jsonl", (int)getpid());
    memset(path + 19, 'a', 200);
    strcpy(path + 219, tail);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs("{", f);
    fclose(f);
    assert_int_equal(yk_trace_open(path, &t, &err), 0);
    unlink(path);
    assert_int_equal(yk_trace_next(t, &req, &err), -YK_EINVAL);
    assert_non_null(strstr(err.text, tail));
    assert_non_null(strstr(err.text, ":1: found the end of the line"));
    yk_trace_close(t);
}

static void what_cannot_be_opened(void **state) {
    (void)state;
    struct yk_trace *t = NULL;
    struct yk_err err = {0};
    assert_int_equal(yk_trace_open("/nonexistent/t.jsonl", &t, &err), -YK_ENOENT);
    assert_string_equal(err.text, "/nonexistent/t.jsonl: cannot open: No such file or directory");
    assert_true(yk_trace_open("/tmp", &t, &err) < 0);
    assert_string_equal(err.text, "/tmp: found a directory, expected a file");
    assert_null(t);
    yk_trace_close(NULL);
}

static void gzip_is_named(void **state) {
    (void)state;
    char path[64], want[200];
    struct yk_trace *t = NULL;
    struct yk_err err = {0};
    make_file(path, "\x1f\x8b\x08\x00\x00", 5);
    assert_int_equal(yk_trace_open(path, &t, &err), -YK_ENOTSUP);
    unlink(path);
    snprintf(want, sizeof(want),
             "%s: found gzip data, expected plain text or Zstandard (unpack it with: gzip -dc "
             "FILE)",
             path);
    assert_string_equal(err.text, want);
}

/* Bytes come one at a time through a pipe that is standard input. */
static void standard_input(void **state) {
    (void)state;
    const char text[] = LINE(1) "\n" LINE(2) "\n{";
    int pipes[2], keep = dup(STDIN_FILENO);
    struct yk_trace *t;
    struct yk_trace_req req;
    struct yk_err err = {0};
    assert_int_equal(pipe(pipes), 0);
    for (size_t i = 0; i < strlen(text); i++)
        assert_int_equal(write(pipes[1], text + i, 1), 1);
    close(pipes[1]);
    dup2(pipes[0], STDIN_FILENO);
    close(pipes[0]);
    assert_int_equal(yk_trace_open("-", &t, &err), 0);
    for (uint64_t i = 1; i <= 2; i++) {
        assert_int_equal(yk_trace_next(t, &req, &err), 1);
        assert_int_equal(req.timestamp_ms, i);
    }
    assert_int_equal(yk_trace_next(t, &req, &err), -YK_EINVAL);
    assert_string_equal(err.text, "standard input:3: found the end of the line, expected a field "
                                  "name in quotes (column 2)");
    yk_trace_close(t);
    assert_true(fcntl(STDIN_FILENO, F_GETFD) >= 0); /* not ours to close */
    dup2(keep, STDIN_FILENO);
    close(keep);
}

#ifdef YK_HAVE_ZSTD
static size_t compress_lines(char *out, size_t size, uint64_t first, uint64_t n,
                             size_t line_bytes) {
    char *text = malloc(n * (line_bytes + 200));
    size_t len = 0;
    for (uint64_t i = 0; i < n; i++)
        len += put_long_line(text + len, first + i, line_bytes);
    size_t got = ZSTD_compress(out, size, text, len, 1);
    assert_false(ZSTD_isError(got));
    free(text);
    return got;
}

static void zstandard_frames_are_one_stream(void **state) {
    (void)state;
    char path[64], *bytes = malloc(1 << 20);
    size_t len = compress_lines(bytes, 1 << 20, 1, 300, 5000); /* much more out than in */
    len += compress_lines(bytes + len, (1 << 20) - len, 301, 5, 100);
    expect_times(open_bytes(bytes, len, path), 305);
    free(bytes);
}

static void bad_zstandard_data(void **state) {
    (void)state;
    char path[64], want[200], *bytes = malloc(1 << 20);
    size_t len = compress_lines(bytes, 1 << 20, 1, 3, 100);
    struct yk_trace *t = open_bytes(bytes, len - 10, path);
    struct yk_trace_req req;
    struct yk_err err = {0};
    int rc;
    while ((rc = yk_trace_next(t, &req, &err)) == 1)
        ;
    assert_int_equal(rc, -YK_ECORRUPT);
    snprintf(want, sizeof(want),
             "found the end of the file, expected the rest of a Zstandard frame");
    assert_non_null(strstr(err.text, want));
    yk_trace_close(t);
    memset(bytes + 4, 0xff, len - 4);
    t = open_bytes(bytes, len, path);
    assert_int_equal(yk_trace_next(t, &req, &err), -YK_ECORRUPT);
    assert_non_null(strstr(err.text, ":1: found bad Zstandard data ("));
    yk_trace_close(t);
    free(bytes);
}
#else
static void zstandard_frames_are_one_stream(void **state) {
    (void)state;
    char path[64];
    struct yk_trace *t = NULL;
    struct yk_err err = {0};
    make_file(path, "\x28\xb5\x2f\xfd\x00", 5);
    assert_int_equal(yk_trace_open(path, &t, &err), -YK_ENOTSUP);
    unlink(path);
    assert_non_null(strstr(err.text, "found Zstandard data, expected plain text"));
}

static void bad_zstandard_data(void **state) {
    (void)state;
    skip();
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_end_in_any_way),
        cmocka_unit_test(lines_longer_than_any_buffer),
        cmocka_unit_test(a_line_over_the_limit_is_refused),
        cmocka_unit_test(errors_name_file_and_line),
        cmocka_unit_test(a_long_path_keeps_its_end),
        cmocka_unit_test(what_cannot_be_opened),
        cmocka_unit_test(gzip_is_named),
        cmocka_unit_test(standard_input),
        cmocka_unit_test(zstandard_frames_are_one_stream),
        cmocka_unit_test(bad_zstandard_data),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
