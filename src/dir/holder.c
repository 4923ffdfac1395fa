/* SPDX-License-Identifier: Apache-2.0
 *
 * What a holder does with removes, with a new owner that asks for its log, and when it returns
 * (docs/decisions/0014). What it publishes is publish.c's, what it applies batch.c's.
 *
 * Where the rules of tests/model/dir_model.c are, as far as they are a holder's:
 *
 *   TERM, TAIL_ADOPTS  core.c, take and adopt: whoever is answered, the old owner is refused first
 *   TERM_PERSISTS      yk_holder_settle: no answer before what was adopted is durable
 *   DURABLE            yk_holder_settle: `solid` follows `last` when the log says so
 *   NO_GAPS            is_next
 *   ONCE, BEGUN        on_remove, on_replay: what the log has, by its origin, is not applied
 *   TRIM_DONE          note_done
 *   REPLAY_FIRST       yk_holder_takes
 *   REACH              end_replay
 *   INCARNATION        on_replay
 *   SERVE_AFTER        yk_dir_core_serves (core.c)
 *   COPY_LOG, _REACH   yk_dir_core_may_commit (core.c)
 *
 * A slot whose log is new, or was lost, or has lost its end, is caught up with in the same way as by a returning node; its owner
 * counts its member all the while.
 *
 * Threads: as core.h.
 */
#include "dir/core_priv.h"

#include <stdlib.h>
#include <yolk/yolk.h>

/* A log that never had a number says nothing of what was removed before; one that lost its end, as little. */
static int is_behind(const struct yk_dir_core *core, uint32_t slot) {
    struct yk_dir_rlog_slot s = yk_core_slot(core, slot);
    return core->own[slot] == NULL && (s.lost || core->hold[slot].cut || (s.last.term == 0 && s.last.rseq == 0));
}

/* It has to have the owner's log before it does anything about removes. */
static int needs_replay(const struct yk_dir_core *core, uint32_t slot) {
    if (core->map->slot[slot].owner == YK_DIR_NOBODY)
        return 0; /* nobody ever removed anything there */
    if (yk_core_is(core, YK_DIR_RETURNING))
        return core->hold[slot].replayed != core->me->incarnation;
    return yk_core_is(core, YK_DIR_MEMBER) && is_behind(core, slot);
}

int yk_holder_takes(const struct yk_dir_core *core, uint32_t slot) {
    return (yk_core_is(core, YK_DIR_MEMBER) || yk_core_is(core, YK_DIR_RETURNING)) && !needs_replay(core, slot);
}

uint32_t yk_dir_core_behind(const struct yk_dir_core *core) {
    uint32_t n = 0;
    for (uint32_t s = 0; s < YK_DIR_SLOTS; s++)
        n += core->map == NULL || core->me == NULL || needs_replay(core, s);
    return n;
}

uint32_t yk_dir_core_waits_for(const struct yk_dir_core *core) {
    for (uint32_t s = 0; core->map != NULL && core->me != NULL && s < YK_DIR_SLOTS; s++)
        if (needs_replay(core, s))
            return core->map->slot[s].owner;
    return YK_DIR_NOBODY;
}

static void stop_replay(struct yk_dir_core *core, uint32_t slot) {
    struct yk_core_hold *h = &core->hold[slot];
    if (h->collecting)
        yk_batch_drop(core, slot);
    core->replays -= h->asked;
    h->asked = h->collecting = 0;
    h->replay_after = (struct yk_dir_num){0};
}

void yk_holder_learn(struct yk_dir_core *core, uint32_t slot) {
    struct yk_core_hold *h = &core->hold[slot];
    if (core->map == NULL)
        return;
    if (h->asked && h->batch != YK_BATCH_REPLAY &&
        (!needs_replay(core, slot) || h->replay_for != core->me->incarnation ||
         h->replay_term != yk_core_seen(core, slot)))
        stop_replay(core, slot);
    if (needs_replay(core, slot))
        yk_core_add(&core->behind, slot);
    yk_publish_learn(core, slot);
}

/* ---- removes -------------------------------------------------------------------------------------- */

static int is_next(struct yk_dir_num last, struct yk_dir_num num) {
    return num.term > last.term ? num.rseq == 1 : num.term == last.term && num.rseq == last.rseq + 1;
}

/* The owner's `done` is in numbers of its term. A log that still has others has not taken all that the owner
 * carried over: what of it is done cannot be told from its number. */
static void note_done(struct yk_dir_core *core, const struct yk_dir_msg *msg) {
    struct yk_dir_remove first;
    struct yk_dir_num done = {msg->term, msg->b};
    if (yk_dir_rlog_next(core->log, msg->slot, (struct yk_dir_num){0}, &first) && first.num.term == msg->term)
        yk_dir_rlog_done(core->log, msg->slot, done);
}

/* The owner counts on an answer of this node to a remove that its log has not: a disk has lost the log's end. */
static int is_cut(struct yk_dir_num last, const struct yk_dir_msg *msg) {
    return msg->b > (last.term == msg->term ? last.rseq : 0);
}

static void answer(struct yk_dir_core *core, uint32_t slot) {
    struct yk_core_hold *h = &core->hold[slot];
    struct yk_dir_msg msg = yk_core_msg(core, YK_DIR_ACK, slot);
    struct yk_wr w;
    if (core->own[slot] != NULL || h->remover == YK_DIR_NOBODY || h->solid.term != msg.term ||
        !yk_holder_takes(core, slot))
        return;
    h->unanswered = (uint8_t)!yk_told(core, slot);
    if (h->unanswered)
        return;
    msg.a = h->solid.rseq;
    msg.b = core->map->expulsions;
    yk_dir_msg_begin(&w, core->buf, &msg);
    for (uint32_t i = 0; i < h->found_count; i++)
        yk_dir_msg_rseq(&w, h->found[i]);
    yk_core_send(core, h->remover, yk_dir_msg_finish(&w, &msg, h->found_count));
}

static void on_remove(struct yk_dir_core *core, uint32_t from, struct yk_dir_msg *msg) {
    struct yk_core_hold *h = &core->hold[msg->slot];
    struct yk_dir_num last = yk_core_slot(core, msg->slot).last;
    uint32_t taken = 0;
    h->remover = from;
    if (!yk_holder_takes(core, msg->slot) || h->batch != YK_BATCH_NONE || core->own[msg->slot] != NULL)
        return; /* it comes again */
    if (is_cut(last, msg)) {
        h->cut = 1;
        yk_core_add(&core->behind, msg->slot);
        return;
    }
    note_done(core, msg);
    for (uint32_t i = 0; i < msg->count && taken < YK_CORE_BATCH; i++) {
        struct yk_dir_record record;
        yk_dir_msg_next_record(&msg->items, &record);
        record.num = (struct yk_dir_num){msg->term, msg->a + i};
        if (yk_dir_num_cmp(record.num, last) <= 0)
            continue;
        struct yk_core_work *work = is_next(last, record.num) ? yk_batch_add(core, msg->slot, &record) : NULL;
        if (work == NULL)
            break;
        work->state = yk_dir_rlog_has(core->log, msg->slot, record.origin) ? YK_WORK_DONE : YK_WORK_ASKED;
        last = record.num;
        taken++;
    }
    if (taken > 0)
        yk_batch_start(core, msg->slot, YK_BATCH_REMOVE, msg->term);
    else if (yk_core_durable(core, msg->slot))
        answer(core, msg->slot);
}

/* ---- a new owner asks for the log ------------------------------------------------------------------ */

/* Puts records behind `after` and up to `last` into a message. How many; *ret_all: none follow. */
static uint32_t put_log(struct yk_dir_core *core, struct yk_wr *w, uint32_t slot, struct yk_dir_num after,
                        struct yk_dir_num last, int *ret_all) {
    struct yk_dir_remove r;
    uint32_t count = 0;
    while ((*ret_all = !yk_dir_rlog_next(core->log, slot, after, &r) || yk_dir_num_cmp(r.num, last) > 0) == 0) {
        struct yk_dir_record record = {r.num, r.origin, r.key};
        if (!yk_dir_msg_record(w, &record))
            break;
        after = r.num;
        count++;
    }
    return count;
}

void yk_holder_tell_log(struct yk_dir_core *core, uint32_t to, struct yk_dir_msg *msg, struct yk_dir_num last) {
    struct yk_dir_rlog_slot s = yk_core_slot(core, msg->slot);
    struct yk_wr w;
    int all;
    msg->num[YK_DIR_BASE] = s.base;
    msg->num[YK_DIR_NEWEST] = last;
    msg->num[YK_DIR_FORGOT] = s.forgot;
    yk_dir_msg_begin(&w, core->buf, msg);
    uint32_t count = put_log(core, &w, msg->slot, msg->num[YK_DIR_AFTER], last, &all);
    msg->flags = all ? YK_DIR_LAST : 0;
    yk_core_send(core, to, yk_dir_msg_finish(&w, msg, count));
}

static void answer_asker(struct yk_dir_core *core, uint32_t slot) {
    struct yk_core_hold *h = &core->hold[slot];
    struct yk_dir_msg msg = yk_core_msg(core, YK_DIR_LOG, slot);
    uint32_t to = h->asker;
    h->asker = YK_DIR_NOBODY;
    if (!yk_core_is(core, YK_DIR_MEMBER))
        return; /* what a returning node alone had logged was never done */
    msg.num[YK_DIR_AFTER] = h->ask_after;
    yk_holder_tell_log(core, to, &msg, (struct yk_dir_num){UINT64_MAX, UINT64_MAX});
}

void yk_holder_settle(struct yk_dir_core *core, uint32_t slot) {
    struct yk_core_hold *h = &core->hold[slot];
    if (!yk_core_durable(core, slot))
        return;
    struct yk_dir_num last = yk_core_slot(core, slot).last;
    int news = yk_dir_num_cmp(h->solid, last) != 0 || h->unanswered;
    h->solid = last;
    if (news)
        answer(core, slot);
    if (h->asker != YK_DIR_NOBODY)
        answer_asker(core, slot);
}

/* ---- catching up ------------------------------------------------------------------------------------ */

static void ask_replay(struct yk_dir_core *core, uint32_t slot) {
    struct yk_core_hold *h = &core->hold[slot];
    struct yk_dir_msg msg = yk_core_msg(core, YK_DIR_REPLAY_ASK, slot);
    yk_core_later(core, &h->replay_retry);
    yk_core_add(&core->live, slot);
    if (msg.term != core->map->slot[slot].term)
        return; /* the map is old: nobody knows the owner */
    msg.incarnation = core->me->incarnation;
    msg.num[YK_DIR_AFTER] = h->replay_after;
    yk_core_tell(core, core->map->slot[slot].owner, msg);
}

/* All slots are replayed, and that is on disk. */
static void tell_replayed(struct yk_dir_core *core) {
    if (!yk_core_is(core, YK_DIR_RETURNING) || core->told_replayed == core->me->incarnation ||
        yk_dir_rlog_durable(core->log) < core->replay_ticket)
        return;
    core->told_replayed = core->me->incarnation;
    core->opts.ops.replayed(core->opts.ops.arg, core->me->incarnation);
}

void yk_holder_replays(struct yk_dir_core *core) {
    uint32_t s = 0;
    while (core->replays < YK_CORE_REPLAYS && (s = yk_core_next(&core->behind, s)) < YK_DIR_SLOTS) {
        struct yk_core_hold *h = &core->hold[s];
        if (!needs_replay(core, s)) {
            yk_core_out(&core->behind, s);
        } else if (!h->asked && h->batch == YK_BATCH_NONE) {
            h->asked = 1;
            h->replay_for = core->me->incarnation;
            h->replay_term = yk_core_seen(core, s);
            h->replay_retry = (struct yk_core_retry){0};
            core->replays++;
            ask_replay(core, s);
        }
        s++;
    }
    if (core->replays == 0 && yk_core_next(&core->behind, 0) == YK_DIR_SLOTS)
        tell_replayed(core);
}

/* The owner's log is here as a whole: what it has and this node has not is applied; or, where it does not go
 * back to this node's last number, all of the slot is dropped. */
static void end_replay(struct yk_dir_core *core, const struct yk_dir_msg *msg) {
    struct yk_core_hold *h = &core->hold[msg->slot];
    struct yk_dir_rlog_slot s = yk_core_slot(core, msg->slot);
    int reaches = !s.lost && yk_dir_num_cmp(s.last, msg->num[YK_DIR_BASE]) >= 0;
    h->replay_head = (struct yk_dir_rlog_slot){.seen = s.seen,
                                               .led = s.led,
                                               .last = msg->num[YK_DIR_NEWEST],
                                               .base = msg->num[YK_DIR_BASE],
                                               .forgot = msg->num[YK_DIR_FORGOT]};
    for (struct yk_core_work *w = h->works; w != NULL; w = w->next)
        if (!reaches || yk_dir_rlog_has(core->log, msg->slot, w->remove.origin))
            w->state = YK_WORK_DONE;
    if (!reaches) {
        struct yk_core_work *drop = yk_batch_add(core, msg->slot, &(struct yk_dir_record){0});
        if (drop == NULL) {
            stop_replay(core, msg->slot);
            return;
        }
        drop->kind = YK_WORK_DROP_SLOT;
    }
    h->collecting = 0;
    yk_batch_start(core, msg->slot, YK_BATCH_REPLAY, msg->term);
}

static void on_replay(struct yk_dir_core *core, uint32_t from, struct yk_dir_msg *msg) {
    struct yk_core_hold *h = &core->hold[msg->slot];
    if (!h->asked || h->batch != YK_BATCH_NONE || msg->incarnation != core->me->incarnation ||
        !needs_replay(core, msg->slot) || yk_dir_num_cmp(msg->num[YK_DIR_AFTER], h->replay_after) != 0)
        return;
    h->remover = from;
    h->collected = h->collecting ? h->collected : 0;
    h->collecting = 1;
    for (uint32_t i = 0; i < msg->count; i++) {
        struct yk_dir_record record;
        yk_dir_msg_next_record(&msg->items, &record);
        if (++h->collected > YK_DIR_RLOG_REMOVES_MAX || yk_batch_add(core, msg->slot, &record) == NULL) {
            stop_replay(core, msg->slot);
            return;
        }
        h->replay_after = record.num;
    }
    h->replay_retry = (struct yk_core_retry){0};
    if (msg->flags & YK_DIR_LAST)
        end_replay(core, msg);
    else if (msg->count > 0)
        ask_replay(core, msg->slot);
}

void yk_holder_replayed(struct yk_dir_core *core, uint32_t slot, int failed) {
    struct yk_core_hold *h = &core->hold[slot];
    stop_replay(core, slot);
    if (failed || core->me == NULL || h->replay_for != core->me->incarnation) {
        yk_core_add(&core->behind, slot); /* again, or for the newer return */
        return;
    }
    h->replayed = core->me->incarnation;
    h->cut = 0;
    if (h->ticket > core->replay_ticket)
        core->replay_ticket = h->ticket;
    yk_core_add(&core->unsettled, slot);
}

/* ---- copies that lost ------------------------------------------------------------------------------ */

static void on_drop(struct yk_dir_core *core, uint32_t from, struct yk_dir_msg *msg) {
    struct yk_dir_record record;
    yk_dir_msg_next_record(&msg->items, &record);
    for (const struct yk_core_work *w = core->drops; w != NULL; w = w->next)
        if (w->gen == msg->a && yk_core_same_key(&w->remove.key, &record.key))
            return; /* it is being dropped */
    struct yk_core_work *work = core->drop_count < YK_CORE_DROPS ? yk_work_new(msg->slot, &record) : NULL;
    if (work == NULL)
        return; /* it comes again */
    work->kind = YK_WORK_DROP_COPY;
    work->from = from;
    work->gen = msg->a;
    work->next = core->drops;
    core->drops = work;
    core->drop_count++;
    yk_work_ask(core, work);
}

void yk_holder_dropped(struct yk_dir_core *core, struct yk_core_work *work) {
    struct yk_core_work **at = &core->drops;
    struct yk_dir_msg msg = yk_core_msg(core, YK_DIR_DROPPED, work->slot);
    struct yk_wr w;
    while (*at != work)
        at = &(*at)->next;
    *at = work->next;
    core->drop_count--;
    msg.a = work->gen;
    yk_dir_msg_begin(&w, core->buf, &msg);
    yk_dir_msg_record(&w, &(struct yk_dir_record){.key = work->remove.key});
    yk_core_send(core, work->from, yk_dir_msg_finish(&w, &msg, 1));
    free(work);
}

/* ---- in and out ------------------------------------------------------------------------------------ */

void yk_holder_message(struct yk_dir_core *core, uint32_t from, struct yk_dir_msg *msg) {
    struct yk_core_hold *h = &core->hold[msg->slot];
    switch (msg->kind) {
    case YK_DIR_CONFIRM:
    case YK_DIR_TAKEN:
        yk_publish_answer(core, from, msg);
        break;
    case YK_DIR_REMOVE:
        on_remove(core, from, msg);
        break;
    case YK_DIR_ASK:
        h->asker = from;
        h->ask_after = msg->num[YK_DIR_AFTER];
        yk_core_add(&core->unsettled, msg->slot);
        break;
    case YK_DIR_REPLAY:
        on_replay(core, from, msg);
        break;
    case YK_DIR_DROP:
        on_drop(core, from, msg);
        break;
    default:
        break;
    }
}

int yk_holder_tick(struct yk_dir_core *core, uint32_t slot) {
    struct yk_core_hold *h = &core->hold[slot];
    int waits = yk_publish_tick(core, slot);
    yk_batch_again(core, slot);
    if (h->asked && h->batch == YK_BATCH_NONE && yk_core_due(core, &h->replay_retry)) {
        if (h->collecting)
            yk_batch_drop(core, slot);
        h->collecting = 0;
        h->replay_after = (struct yk_dir_num){0};
        ask_replay(core, slot); /* from the beginning */
    }
    return waits || h->asked || h->busy > 0;
}

void yk_holder_tick_drops(struct yk_dir_core *core) {
    for (struct yk_core_work *w = core->drops; w != NULL; w = w->next)
        if (w->state == YK_WORK_AGAIN)
            yk_work_ask(core, w);
}
