/* SPDX-License-Identifier: Apache-2.0
 *
 * Removes are applied first and logged then (core_priv.h): a batch is what of a slot is between the two. One a
 * slot at a time: a remove of the owner's, removes that this node begins as the owner, a member's log that it takes
 * over as a new one, or the owner's log in place of its own.
 *
 * Logged first, a crash between the two would leave a log that says of a block that it is gone; since what is in
 * the log is not applied again (0014, "once"), it never would be. Applied first, the crash leaves a remove that
 * comes again and finds nothing.
 *
 * A batch of a term that is refused by now is applied and not logged: its remove was never done, and whoever goes
 * on with it sends it again.
 *
 * Threads: as core.h.
 */
#include "dir/core_priv.h"

#include <stdlib.h>
#include <string.h>

struct yk_core_work *yk_work_new(uint32_t slot, const struct yk_dir_record *record) {
    uint32_t ns_len = record->key.ns_len, key_len = record->key.key_len;
    struct yk_core_work *work = calloc(1, sizeof(*work) + ns_len + key_len);
    if (work == NULL)
        return NULL;
    char *text = (char *)(work + 1);
    if (ns_len > 0)
        memcpy(text, record->key.ns, ns_len);
    if (key_len > 0)
        memcpy(text + ns_len, record->key.key, key_len);
    work->slot = (uint16_t)slot;
    work->remove.num = record->num;
    work->remove.origin = record->origin;
    work->remove.key = (struct yk_dir_key){text, ns_len, text + ns_len, key_len};
    work->remove.hash = yk_dir_hash(text, ns_len, text + ns_len, key_len);
    return work;
}

struct yk_core_work *yk_batch_add(struct yk_dir_core *core, uint32_t slot, const struct yk_dir_record *record) {
    struct yk_core_work *work = yk_work_new(slot, record);
    if (work == NULL)
        return NULL;
    *core->hold[slot].works_end = work;
    core->hold[slot].works_end = &work->next;
    return work;
}

/* What there was no memory for is asked for again by ticks: a slot's removes must not stand still for it. */
void yk_work_ask(struct yk_dir_core *core, struct yk_core_work *work) {
    int rc = work->kind == YK_WORK_DROP_SLOT
                 ? core->opts.ops.drop_slot(core->opts.ops.arg, work->slot, (uintptr_t)work)
                 : core->opts.ops.apply(core->opts.ops.arg, &work->remove.key, work->gen, (uintptr_t)work);
    work->state = rc == 0 ? YK_WORK_ASKED : YK_WORK_AGAIN;
    if (rc != 0)
        yk_core_add(&core->live, work->slot);
}

void yk_batch_start(struct yk_dir_core *core, uint32_t slot, enum yk_core_batch batch, uint64_t term) {
    struct yk_core_hold *h = &core->hold[slot];
    h->batch = batch;
    h->batch_term = term;
    h->busy = 0;
    for (struct yk_core_work *w = h->works; w != NULL; w = w->next)
        h->busy += w->state != YK_WORK_DONE;
    for (struct yk_core_work *w = h->works; w != NULL; w = w->next)
        if (w->state != YK_WORK_DONE)
            yk_work_ask(core, w);
    yk_core_add(&core->unsettled, slot);
}

void yk_batch_again(struct yk_dir_core *core, uint32_t slot) {
    for (struct yk_core_work *w = core->hold[slot].works; w != NULL; w = w->next)
        if (w->state == YK_WORK_AGAIN)
            yk_work_ask(core, w);
}

void yk_batch_drop(struct yk_dir_core *core, uint32_t slot) {
    struct yk_core_hold *h = &core->hold[slot];
    for (struct yk_core_work *next, *w = h->works; w != NULL; w = next) {
        next = w->next;
        if (w->waited)
            yk_owner_gone(core, slot, h->batch_term, w->token);
        free(w);
    }
    h->works = NULL;
    h->works_end = &h->works;
    h->batch = YK_BATCH_NONE;
    h->busy = 0;
}

int yk_batch_names(const struct yk_dir_core *core, uint32_t slot, const struct yk_dir_key *key) {
    for (const struct yk_core_work *w = core->hold[slot].works; w != NULL; w = w->next) {
        if (w->kind == YK_WORK_DROP_SLOT || yk_core_same_key(&w->remove.key, key))
            return 1;
    }
    return 0;
}

/* What was here is told with the answer, so that whoever removes a key learns whether there was one. */
static void note_found(struct yk_core_hold *h, const struct yk_core_work *w) {
    if (!w->found || h->found_count == YK_CORE_BATCH)
        return;
    if (h->found == NULL)
        h->found = malloc(YK_CORE_BATCH * sizeof(*h->found));
    if (h->found != NULL)
        h->found[h->found_count++] = w->remove.num.rseq;
}

static void log_removes(struct yk_dir_core *core, uint32_t slot) {
    struct yk_core_hold *h = &core->hold[slot];
    h->found_count = 0;
    for (struct yk_core_work *w = h->works; w != NULL; w = w->next) {
        uint64_t ticket = 0;
        if (h->batch == YK_BATCH_BEGIN && yk_owner_late(core, slot, w))
            continue; /* what it took out here was only one copy */
        if (h->batch == YK_BATCH_BEGIN) {
            w->remove.num = yk_core_slot(core, slot).last;
            w->remove.num.rseq++;
            w->remove.origin = w->remove.num;
        }
        if (yk_dir_rlog_remove(core->log, &w->remove, yk_core_wall_s(core), &ticket) < 0)
            return; /* the rest comes again; of one's own, yk_batch_drop says that it has ended */
        yk_core_logged(core, slot, ticket);
        note_found(h, w);
        if (h->batch == YK_BATCH_BEGIN) {
            yk_owner_begun(core, slot, w, w->remove.num.rseq);
            w->waited = 0;
        }
    }
}

static int log_merge(struct yk_dir_core *core, uint32_t slot) {
    for (struct yk_core_work *w = core->hold[slot].works; w != NULL; w = w->next) {
        uint64_t ticket = 0;
        int rc = yk_dir_rlog_merge(core->log, &w->remove, yk_core_wall_s(core), &ticket);
        if (rc < 0)
            return rc;
        yk_core_logged(core, slot, ticket);
    }
    return 0;
}

static int log_replay(struct yk_dir_core *core, uint32_t slot) {
    struct yk_core_hold *h = &core->hold[slot];
    uint64_t ticket = 0;
    uint32_t n = 0;
    struct yk_dir_remove *removes = malloc((h->collected + 1) * sizeof(*removes));
    h->found_count = 0; /* of another term's numbers */
    if (removes == NULL)
        return -YK_ENOMEM;
    for (struct yk_core_work *w = h->works; w != NULL; w = w->next)
        if (w->kind == YK_WORK_REMOVE)
            removes[n++] = w->remove;
    int rc = yk_dir_rlog_replace(core->log, slot, &h->replay_head, removes, n, yk_core_wall_s(core), &ticket);
    free(removes);
    if (rc == 0)
        yk_core_logged(core, slot, ticket);
    return rc;
}

void yk_batch_settle(struct yk_dir_core *core, uint32_t slot) {
    struct yk_core_hold *h = &core->hold[slot];
    enum yk_core_batch batch = h->batch;
    if (batch == YK_BATCH_NONE || h->busy > 0)
        return;
    int current = h->batch_term == yk_core_seen(core, slot), failed = 1, applied = h->works != NULL;
    if (current && (batch == YK_BATCH_REMOVE || batch == YK_BATCH_BEGIN))
        log_removes(core, slot);
    else if (current && batch == YK_BATCH_MERGE)
        failed = log_merge(core, slot) < 0;
    else if (current)
        failed = log_replay(core, slot) < 0;
    yk_batch_drop(core, slot);
    if (applied) /* most logs that a new owner gathers have nothing for it */
        yk_told_want(core, slot);
    if (batch == YK_BATCH_MERGE)
        yk_owner_merged(core, slot, failed);
    if (batch == YK_BATCH_REPLAY)
        yk_holder_replayed(core, slot, failed);
}
