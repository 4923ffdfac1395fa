/* SPDX-License-Identifier: Apache-2.0
 *
 * How far a chain reaches at each node of a cluster, for `yolk route`: each member is asked what it has itself.
 */
#ifndef YOLK_ROUTE_HELD_H
#define YOLK_ROUTE_HELD_H

#include "cluster.h"

/* {"NODE": {"dram": n, "ssd": n}, ...} of those that have the head; the caller releases it. Members that do not answer
 * are left out. An exit code. */
int yolk_route_held(struct yolk_ctx *ctx, const yk_key *keys, size_t n, json_t **ret_held);

#endif
