/* SPDX-License-Identifier: Apache-2.0
 *
 * What the commands about the cluster share (cluster.c, balance.c, tasks.c): a guest of the node of --peer, or of where the
 * node of --url listens for peers, and what that node tells.
 *
 * Functions return 0, or an exit code after the error was printed.
 */
#ifndef YOLK_CLUSTER_H
#define YOLK_CLUSTER_H

#include "cmd.h"

#include "dir/core.h"
#include "dir/guest.h"
#include "dir/map.h"
#include "wire/dir.h"

#include <jansson.h>

struct yolk_cluster_config {
    struct yolk_common common;
    char *peer, *to, *from;
    bool hex, off;
    uint64_t within_ns;
};

#define YOLK_PEER_ROW                                                                                             \
    {.name = "peer", .letter = 'p', .type = YK_OPT_STR, YK_OPT_AT(struct yolk_cluster_config, peer),              \
     .metavar = "HOST:PORT",                                                                                      \
     .help = "Ask this node, where it listens for other nodes (--peer-listen of yolkd); not given: the node of "  \
             "--url."}

struct yolk_cluster {
    struct yk_guest *guest;
    json_t *info; /* INFO's answer */
    struct yk_dir_map *map; /* NULL until it is asked for */
};

int yolk_cluster_open(struct yolk_ctx *ctx, struct yolk_cluster *ret);
void yolk_cluster_close(struct yolk_cluster *cluster); /* after a failed open, too */

/* The epoch that blocks of the namespace have now, or the one that was given. */
int yolk_cluster_epoch(struct yolk_ctx *ctx, uint64_t *ret);

int yolk_guest_open(struct yolk_ctx *ctx, const char *address, struct yk_guest **ret);
/* request NULL: empty. *ret_body is the guest's, until its next question. */
int yolk_guest_ask(struct yolk_ctx *ctx, struct yk_guest *guest, unsigned op, const struct yk_wr *request,
                   const void **ret_body, uint32_t *ret_len);
/* In place of *io_info, which may be NULL. */
int yolk_guest_info(struct yolk_ctx *ctx, struct yk_guest *guest, json_t **io_info);

/* One word for what a node of INFO's "members" is: member, silent, suspect, draining, or a state that is none of a
 * member's. The object's own, or static. */
const char *yolk_member_state(const json_t *member);

#endif
