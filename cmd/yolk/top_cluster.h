/* SPDX-License-Identifier: Apache-2.0
 *
 * What yolk top --cluster and yolk ns list --cluster look at: each node of the cluster, as that node counts itself.
 *
 * The first look asks the node of --url where its peers reach it, and there who the others are; each look asks that
 * again and then every node that is said to live, by a connection that stays open (dir/guest.h). One that does not
 * answer costs NODE_MS, and is left alone for some looks.
 *
 * Threads: one.
 */
#ifndef YOLK_TOP_CLUSTER_H
#define YOLK_TOP_CLUSTER_H

#include "cmd.h"

#include "base/buf.h"

#include <jansson.h>

struct yolk_top_cluster;

/* 0, or an exit code after the error was printed. */
int yolk_top_cluster_open(struct yolk_ctx *ctx, struct yolk_top_cluster **ret);
void yolk_top_cluster_close(struct yolk_top_cluster *v);

/* Takes a new sample of all. 0, or a failure with a text that stands in the view until the next look. */
int yolk_top_cluster_look(struct yolk_top_cluster *v);
const char *yolk_top_cluster_why(const struct yolk_top_cluster *v);

/* What node number i says of itself, the view's own: 1, and NULL where it did not answer; 0: there are no more. */
int yolk_top_cluster_node(const struct yolk_top_cluster *v, uint32_t i, const char **ret_name, const json_t **ret_says);

/* A line a node and one for all, with what it does a second since the look before; as JSON what is counted. */
void yolk_top_cluster_text(const struct yolk_top_cluster *v, struct yk_buf *out);
int yolk_top_cluster_json(const struct yolk_top_cluster *v, FILE *out);

#endif
