/* SPDX-License-Identifier: Apache-2.0
 *
 * Where a trace's bytes come from: a file or standard input, plain or Zstandard-compressed.
 *
 * One function that fills a buffer, so that the reader above sees plain bytes only. Compression is
 * told by the first bytes rather than by the name, because standard input has none.
 *
 * Thread: the reader's.
 */
#ifndef YK_TRACE_SOURCE_PRIV_H
#define YK_TRACE_SOURCE_PRIV_H

#include "base/status.h"

#include <stddef.h>

struct yk_trace_source;

/* "-" is standard input. Error texts here and below don't name the file. */
int yk_trace_source_open(const char *path, struct yk_trace_source **ret_source, struct yk_err *err);

/* Up to len (> 0) plain bytes into buf. 0 and *ret_len, which is 0 only at the end; or -YK_E.... */
int yk_trace_source_read(struct yk_trace_source *source, char *buf, size_t len, size_t *ret_len,
                         struct yk_err *err);

void yk_trace_source_close(struct yk_trace_source *source);

#endif
