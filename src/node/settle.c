/* SPDX-License-Identifier: Apache-2.0
 *
 * A stop: what DRAM alone has goes to SSD, the most valuable first, for as long as it may take; and the
 * order of use goes with it. So a reboot finds what was in memory, and knows what to bring up first.
 * After a mere restart DRAM's segment is there, and all of this is only a second copy.
 *
 * The policies are asked for their victims until they have none: that is the order, the least valuable
 * first. They are empty afterwards, so this is the last that is done with them.
 *
 * Threads: the owner's. Blocks until it is done or the time is over.
 */
#include "node/cxl_priv.h"

#include "base/clock.h"

#include <stdlib.h>

#define WAIT_MS 10u

static enum yk_policy_answer take_all(void *arg, uint32_t id) {
    (void)arg;
    (void)id;
    return YK_POLICY_TAKE;
}

/* Empties the policies into `order`, the least valuable first. */
static uint32_t order_take(struct yk_policy *const *policies, uint32_t count, uint32_t *order, uint32_t most) {
    uint32_t n = 0, idx;
    size_t which;
    int rc = 0;
    while (count > 0 && n < most && rc == 0) {
        for (int tries = 0; tries < 64; tries++) {
            rc = yk_policy_victim_oldest(policies, count, take_all, NULL, &which, &idx);
            if (rc != -YK_EAGAIN)
                break;
        }
        if (rc == 0 && (rc = yk_policy_remove(policies[which], idx)) == 0)
            order[n++] = idx;
    }
    return n;
}

static void touch(struct yk_store *s, uint32_t idx) {
    const struct yk_desc *d = desc_at(s, idx);
    uint32_t id;
    struct yk_key_room room;
    const void *key = yk_owner_key(&s->own, idx, &room);
    if (key != NULL && yk_store_ssd_find(s, d->ns, d->hash, key, d->key_len, &id) == 0)
        yk_ssd_touch(s->low->ssd, id);
}

void yk_store_ssd_settle(struct yk_store *s, uint64_t deadline_ns) {
    struct ssd_side *l = s->low;
    if (l == NULL || l->ssd == NULL)
        return;
    uint32_t most = s->own.layout.max_blocks, n = 0;
    uint32_t *order = malloc(((size_t)most + 1u) * sizeof(*order));
    if (order == NULL)
        return; /* a stop without it is a stop, too */
    yk_store_drain(s);
    l->raised = NULL;
    l->durable = NULL;
    if (s->cxl != NULL) /* what has sunk is worth less than what has not */
        n = order_take(s->cxl->policies, s->cxl->policy_count, order, most);
    n += order_take(s->policies, s->policy_count, order + n, most - n);
    if (yk_now_ns() < deadline_ns)
        for (uint32_t i = n; i-- > 0;)
            ssd_write_down(s, order[i]);
    while ((l->queue_head != l->queue_tail || l->demotion_count > 0) &&
           yk_now_ns() < deadline_ns) {
        yk_ssd_tick(l->ssd, yk_view_now_ms(&s->view));
        ssd_demote_pump(s);
        yk_ssd_wait(l->ssd, WAIT_MS);
    }
    for (uint32_t i = 0; i < n; i++)
        if (desc_live(desc_at(s, order[i])))
            touch(s, order[i]);
    free(order);
}
