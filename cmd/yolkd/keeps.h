/* SPDX-License-Identifier: Apache-2.0
 *
 * Copies of hot chains: where the router sends a request for a chain that many ask for to an engine whose node has it
 * not, that node is asked to keep a copy (docs/decisions/0017: a task, as by `yolk copy --to`). What a read brings is a
 * guest there and the first to go; a copy that was asked for is the node's own, and stays for as long as its policy
 * finds it worth that.
 *
 * Bounded: KEEPS_MAX chains wait, of each KEYS_MAX blocks are asked for, and the same chain for the same node once a
 * minute, or a second after it was refused. A thread of its own; nothing waits for it.
 */
#ifndef YOLKD_KEEPS_H
#define YOLKD_KEEPS_H

#include "dir/dir.h"
#include "http/http.h"

struct yolkd_keeps;

/* Both must live until the end. -YK_ENOMEM. */
int yolkd_keeps_start(const struct yk_dir *dir, struct yk_node *node, struct yolkd_keeps **ret, struct yk_err *err);

/* struct yk_http_opts.keep; arg is the keeps. Any thread. */
uint32_t yolkd_keeps_want(void *arg, const struct yk_http_keep *what);

/* Waits for a question under way; what is wanted from then on is not asked for. NULL is fine, as to free, which comes
 * after who may want something has ended. */
void yolkd_keeps_end(struct yolkd_keeps *keeps);
void yolkd_keeps_free(struct yolkd_keeps *keeps);

#endif
