/* SPDX-License-Identifier: Apache-2.0
 *
 * What the nodes of a cluster measure, told to this node's router (yk_route_node): a thread that asks each member once a
 * second, as `yolk top --cluster` does, over a connection to each that stays. Only once somebody uses the router.
 *
 * Bounded: NODES_MAX members, ASKS_MAX questions a round, half a second for each; who does not answer is left alone
 * for some rounds. Nothing of the node waits for it.
 */
#ifndef YOLKD_REPORTS_H
#define YOLKD_REPORTS_H

#include "dir/dir.h"
#include "http/http.h"

struct yolkd_reports;

/* Both must live longer. -YK_ENOMEM. */
int yolkd_reports_start(const struct yk_dir *dir, const struct yk_http *http, struct yolkd_reports **ret, struct yk_err *err);

/* Waits for a question under way. NULL is fine. */
void yolkd_reports_stop(struct yolkd_reports *reports);

#endif
