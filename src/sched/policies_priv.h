/* SPDX-License-Identifier: Apache-2.0
 *
 * The policies there are. policy.c lists them; nobody else needs them by name.
 */
#ifndef YK_SCHED_POLICIES_PRIV_H
#define YK_SCHED_POLICIES_PRIV_H

#include "sched/policy.h"

extern const struct yk_policy_ops yk_policy_lru;          /* lru.c */
extern const struct yk_policy_ops yk_policy_chain_lru;    /* lru.c */
extern const struct yk_policy_ops yk_policy_s3fifo;       /* s3fifo.c */
extern const struct yk_policy_ops yk_policy_chain_s3fifo; /* s3fifo.c */

#endif
