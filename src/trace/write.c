/* SPDX-License-Identifier: Apache-2.0
 *
 * Writes a request as a line of the public format, spaced as the public files are.
 *
 * Ids are formatted by hand: a generated trace is mostly ids, and printf for each of them takes
 * most of the generator's time.
 */
#include "trace/trace.h"

#include <inttypes.h>

#define DIGITS_MAX 20 /* of UINT64_MAX */

static void put_uint(FILE *out, uint64_t v) {
    char digits[DIGITS_MAX];
    int at = DIGITS_MAX;
    do {
        digits[--at] = (char)('0' + v % 10);
        v /= 10;
    } while (v != 0);
    fwrite(digits + at, 1, (size_t)(DIGITS_MAX - at), out);
}

int yk_trace_write(FILE *out, const struct yk_trace_req *req) {
    fprintf(out,
            "{\"timestamp\": %" PRIu64 ", \"input_length\": %" PRIu32
            ", \"output_length\": %" PRIu32,
            req->timestamp_ms, req->input_length, req->output_length);
    if (req->stop != 0)
        fprintf(out, ", \"stop\": %" PRIu32, req->stop);
    if (req->session != 0)
        fprintf(out, ", \"session\": %" PRIu64, req->session);
    fputs(", \"hash_ids\": [", out);
    for (uint32_t i = 0; i < req->n; i++) {
        if (i > 0)
            fputs(", ", out);
        put_uint(out, req->hash_ids[i]);
    }
    fputs("]}\n", out);
    return ferror(out) ? -YK_EIO : 0;
}
