/* SPDX-License-Identifier: Apache-2.0
 *
 * Tables of what yk_xfer_links_json and yk_xfer_explain_json say, on standard output.
 *
 * Thread: one.
 */
#ifndef YOLK_XFER_VIEW_H
#define YOLK_XFER_VIEW_H

/* json: borrowed. 0, or -YK_EINVAL: it is no JSON, and nothing was printed. */
int yolk_xfer_print_links(const char *json);
int yolk_xfer_print_choice(const char *json);

/* Of links: whether some rail has no lane yet, is getting one, and has not failed before. */
int yolk_xfer_is_connecting(const char *json);

#endif
