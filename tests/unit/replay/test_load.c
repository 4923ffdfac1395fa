/* SPDX-License-Identifier: Apache-2.0
 *
 * Traces in memory: as many requests as asked for, with their ids; a bad line leaves nothing.
 */
#include "replay/load.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void write_file(char path[32], const char *text) {
    strcpy(path, "/tmp/yolk-load-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static const char three[] =
    "{\"timestamp\": 0, \"input_length\": 600, \"output_length\": 5, \"hash_ids\": [1, 2]}\n"
    "{\"timestamp\": 7, \"input_length\": 0, \"output_length\": 5, \"hash_ids\": []}\n"
    "{\"timestamp\": 9, \"input_length\": 1400, \"output_length\": 5, \"hash_ids\": [1, 2, 9]}\n";

static void a_trace_is_read_up_to_the_limit(void **state) {
    (void)state;
    char path[32];
    struct yk_replay_trace t = {0};
    write_file(path, three);
    assert_int_equal(yk_replay_load(path, 0, &t, NULL), 0);
    assert_int_equal(t.req_count, 3);
    assert_int_equal(t.id_count, 5);
    assert_int_equal(t.reqs[1].n, 0);
    assert_int_equal(t.reqs[2].n, 3);
    assert_int_equal(t.reqs[2].at_ms, 9);
    assert_int_equal(t.reqs[2].input_length, 1400);
    assert_int_equal(t.ids[t.reqs[2].first + 2], 9);
    yk_replay_trace_fini(&t);
    assert_int_equal(yk_replay_load(path, 2, &t, NULL), 0);
    assert_int_equal(t.req_count, 2);
    assert_int_equal(t.id_count, 2);
    yk_replay_trace_fini(&t);
    unlink(path);
}

static void a_bad_line_says_where(void **state) {
    (void)state;
    char path[32], place[40];
    struct yk_replay_trace t = {0};
    struct yk_err err = {0};
    write_file(path, "{\"timestamp\": 0, \"input_length\": 1, \"output_length\": 5, \"hash_ids\": "
                     "[1]}\n{\"timestamp\": x}\n");
    assert_int_equal(yk_replay_load(path, 0, &t, &err), -YK_EINVAL);
    snprintf(place, sizeof(place), "%s:2: ", path);
    assert_memory_equal(err.text, place, strlen(place));
    assert_null(t.reqs);
    unlink(path);
    assert_int_equal(yk_replay_load(path, 0, &t, &err), -YK_ENOENT);
    write_file(path, "\n");
    assert_int_equal(yk_replay_load(path, 0, &t, &err), -YK_EINVAL);
    assert_non_null(strstr(err.text, "found no request"));
    assert_null(t.reqs);
    unlink(path);
}

/* More than one growth of either array. */
static void generated_traces_are_the_generators(void **state) {
    (void)state;
    struct yk_trace_gen_opts o;
    struct yk_replay_trace t = {0};
    struct yk_trace_req req;
    struct yk_trace_gen *gen;
    yk_trace_gen_opts_init(&o);
    o.requests = 3000;
    assert_int_equal(yk_replay_generate(&o, &t, NULL), 0);
    assert_int_equal(t.req_count, 3000);
    assert_int_equal(yk_trace_gen_new(&o, &gen, NULL), 0);
    for (uint64_t i = 0; i < t.req_count; i++) {
        assert_int_equal(yk_trace_gen_next(gen, &req, NULL), 1);
        assert_int_equal(t.reqs[i].n, req.n);
        assert_int_equal(t.reqs[i].at_ms, req.timestamp_ms);
        assert_memory_equal(t.ids + t.reqs[i].first, req.hash_ids, req.n * sizeof(uint64_t));
    }
    yk_trace_gen_free(gen);
    yk_replay_trace_fini(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_trace_is_read_up_to_the_limit),
        cmocka_unit_test(a_bad_line_says_where),
        cmocka_unit_test(generated_traces_are_the_generators),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
