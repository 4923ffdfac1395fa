/* SPDX-License-Identifier: Apache-2.0
 *
 * One request to a node's HTTP server: JSON there, JSON back. Forty lines of sockets rather than libcurl, which a
 * build may lack, as both ends are ours.
 *
 * Thread: any.
 */
#ifndef YOLK_HTTP_ASK_H
#define YOLK_HTTP_ASK_H

#include "base/buf.h"
#include "base/status.h"

/* POST of `body` to `path` at "HOST:PORT", or GET where body is NULL. 0 with the answer's body in ret_body, which the
 * caller has made with a limit and finishes, and *ret_status; -YK_E... with a text. Blocks up to timeout_ms. */
int yolk_http_ask(const char *address, const char *path, const char *body, uint32_t timeout_ms, struct yk_buf *ret_body,
                  int *ret_status, struct yk_err *err);

#endif
