/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzz target: one line of a request trace.
 *
 * Beyond not crashing: a refusal has a text of one line that says what was found and expected, and
 * what is accepted, written and parsed again is the same request.
 *
 * Thread: one.
 */
#include "trace/trace.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds) {
    if (!holds)
        abort();
}

static void check_round_trip(const struct yk_trace_req *req) {
    struct yk_trace_req again = {0};
    struct yk_err err = {0};
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    require(out != NULL);
    require(yk_trace_write(out, req) == 0);
    fclose(out);
    require(yk_trace_parse_line(text, len, &again, &err) == 0);
    require(again.timestamp_ms == req->timestamp_ms && again.session == req->session &&
            again.input_length == req->input_length && again.output_length == req->output_length &&
            again.stop == req->stop && again.n == req->n);
    for (uint32_t i = 0; i < req->n; i++)
        require(again.hash_ids[i] == req->hash_ids[i]);
    free(text);
    yk_trace_req_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct yk_trace_req req = {0};
    struct yk_err err = {0};
    int rc = yk_trace_parse_line((const char *)data, size, &req, &err);
    if (rc == 0)
        check_round_trip(&req);
    else
        require(strncmp(err.text, "found ", 6) == 0 && strstr(err.text, ", expected ") != NULL &&
                strchr(err.text, '\n') == NULL);
    yk_trace_req_fini(&req);
    return 0;
}
