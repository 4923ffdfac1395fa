/* SPDX-License-Identifier: Apache-2.0
 *
 * A client of Redis, as small as a benchmark needs it: one connection over a unix socket, commands of
 * binary-safe words, replies of the three kinds that it meets (status, integer, bulk).
 *
 * Written here rather than taken from hiredis so that the benchmark needs redis-server alone, and so
 * that payload is received into the caller's buffer without a copy in between: the peer is measured
 * at its best.
 *
 * Threads: one.
 */
#ifndef YK_BENCH_RESP_H
#define YK_BENCH_RESP_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_RESP_NIL (-1) /* a length: there is no such value */

struct yk_resp {
    int fd;
    size_t at, len;
    char in[16384];
};

/* 0 or -YK_EGONE. */
int yk_resp_open(struct yk_resp *r, const char *path);
void yk_resp_close(struct yk_resp *r);

/* Sends bytes that are complete commands. 0 or -YK_EGONE. */
int yk_resp_send(struct yk_resp *r, const void *bytes, size_t len);

/* Writes "*N" and the words of a command but for a last one of last_len bytes, whose head it writes
 * (SIZE_MAX: none follows). Returns bytes written. */
size_t yk_resp_command(char *to, const char *const *words, const size_t *lens, size_t n,
                       size_t last_len);

/* One reply. Integer: *ret_int. Bulk: up to cap bytes into buf, its length in *ret_int (or
 * YK_RESP_NIL). Status: *ret_int 0. -YK_EGONE; -YK_EPROTO: an error reply, or none of these. */
int yk_resp_reply(struct yk_resp *r, void *buf, size_t cap, int64_t *ret_int);

#ifdef __cplusplus
}
#endif

#endif
