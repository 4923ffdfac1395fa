/* SPDX-License-Identifier: Apache-2.0
 *
 * The policies there are. policy.c lists them; nobody else needs them by name.
 */
#ifndef YK_SCHED_POLICIES_PRIV_H
#define YK_SCHED_POLICIES_PRIV_H

#include "sched/learned.h"

extern const struct yk_policy_ops yk_policy_lru;          /* lru.c */
extern const struct yk_policy_ops yk_policy_chain_lru;    /* lru.c */
extern const struct yk_policy_ops yk_policy_s3fifo;       /* s3fifo.c */
extern const struct yk_policy_ops yk_policy_chain_s3fifo; /* s3fifo.c */

/* The request op of those who do not want to know. */
void yk_policy_no_request(struct yk_policy *p, const struct yk_policy_request *request);

#endif
