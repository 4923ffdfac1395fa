/* SPDX-License-Identifier: Apache-2.0
 *
 * The list of policies, the choice among several instances, and the list of admissions.
 */
#include "sched/policies_priv.h"

#include <string.h>

static const struct yk_policy_ops *const policies[] = {
    &yk_policy_lru, &yk_policy_s3fifo, &yk_policy_chain_lru, &yk_policy_chain_s3fifo,
    &yk_policy_learned, NULL,
};

void yk_policy_no_request(struct yk_policy *p, const struct yk_policy_request *request) {
    (void)p;
    (void)request;
}

const struct yk_policy_ops *const *yk_policy_list(void) {
    return policies;
}

const struct yk_policy_ops *yk_policy_find(const char *name) {
    for (size_t i = 0; policies[i] != NULL; i++)
        if (strcmp(policies[i]->name, name) == 0)
            return policies[i];
    return NULL;
}

static bool admit_all(const struct yk_policy_leaving *block) {
    (void)block;
    return true;
}

/* Where most prompts come once, most blocks are never asked for again, and neither is their copy. */
static bool admit_used(const struct yk_policy_leaving *block) {
    return block->used;
}

static const struct yk_policy_admit admits[] = {
    {"all", "every block that leaves", admit_all},
    {"used", "those that were used since they were put", admit_used},
    {NULL, NULL, NULL},
};

const struct yk_policy_admit *yk_policy_admit_list(void) {
    return admits;
}

static size_t find_oldest(struct yk_policy *const *ps, size_t n) {
    size_t best = n;
    uint64_t best_stamp = UINT64_MAX, stamp;
    for (size_t i = 0; i < n; i++) {
        if (yk_policy_peek(ps[i], &stamp) == 0 && stamp < best_stamp) {
            best = i;
            best_stamp = stamp;
        }
    }
    return best;
}

static enum yk_policy_answer take_any(void *arg, uint32_t id) {
    (void)arg;
    (void)id;
    return YK_POLICY_TAKE;
}

int yk_policy_victim_any(struct yk_policy *p, uint32_t *ret_id) {
    int rc;
    do
        rc = yk_policy_victim(p, take_any, NULL, ret_id);
    while (rc == -YK_EAGAIN);
    return rc;
}

int yk_policy_victim_oldest(struct yk_policy *const *ps, size_t n, yk_policy_can_fn can, void *arg,
                            size_t *ret_which, uint32_t *ret_id) {
    for (unsigned step = 0; step < YK_POLICY_STEPS_MAX; step++) {
        size_t i = find_oldest(ps, n);
        if (i == n)
            return YK_MISS;
        /* One step, then look again: a skipped candidate makes another instance's the oldest. */
        int rc = ps[i]->ops->victim(ps[i], can, arg, 1, ret_id);
        if (rc == 0)
            *ret_which = i;
        if (rc != -YK_EAGAIN)
            return rc;
    }
    return -YK_EAGAIN;
}
