/* SPDX-License-Identifier: Apache-2.0
 *
 * What a node does for removes in the slots that it owns (docs/decisions/0014); what it knows of holders is in
 * shares.c.
 *
 *          learn: the map says so, in a term that this node never led
 *             |
 *          LEADING     nothing is sent before the term is durable as led
 *             |
 *          GATHERING   every member is asked for its log; what this node has not is applied and logged
 *             |        all members have answered, or were expelled
 *          ACTIVE      all that the log has got numbers of this term, in order of origin, and is sent as if new;
 *             |        removes are begun
 *          lose: a higher term is known
 *
 * `sendable` is the last number that is applied and durable here, `done` the last that everybody who counts has
 * answered, each knowing of all expulsions that the owner knows of.
 *
 * Where the rules of tests/model/dir_model.c are, as far as they are an owner's:
 *
 *   NEW_LIFE           yk_owner_learn
 *   GATHER             all_gathered
 *   ORDER, BEGUN       activate (yk_dir_rlog_renumber), on_log
 *   DURABLE            settle_active: sendable
 *   COUNT_RETURN       counts
 *   KNOWN_EXPELLED     find_done
 *   TRIM_DONE          find_done (yk_dir_rlog_done)
 *   ANNOUNCE           on_replay_ask: only to whom the map names
 *   INCARNATION        on_replay_ask
 *   SEED_EXPELLED, MAP_DURABLE: member.c
 *
 * Threads: as core.h.
 */
#include "dir/core_priv.h"

#include <stdlib.h>
#include <string.h>
#include <yolk/yolk.h>

/* ---- owning --------------------------------------------------------------------------------------- */

static void become(struct yk_dir_core *core, uint32_t slot) {
    uint64_t term = core->map->slot[slot].term, ticket = 0;
    struct yk_core_own *own = calloc(1, sizeof(*own));
    struct yk_core_share *share = calloc(core->map->member_count, sizeof(*share));
    if (own == NULL || share == NULL || yk_dir_rlog_led(core->log, slot, term, &ticket) < 0) {
        free(own);
        free(share);
        return; /* with the next map */
    }
    yk_core_logged(core, slot, ticket);
    own->slot = (uint16_t)slot;
    own->phase = YK_OWN_LEADING;
    own->term = term;
    own->share = share;
    own->waiting_end = &own->waiting;
    own->wishes_end = &own->wishes;
    core->own[slot] = own;
    yk_core_later(core, &own->retry);
    yk_core_add(&core->live, slot);
}

void yk_owner_learn(struct yk_dir_core *core, uint32_t slot) {
    const struct yk_dir_slot *s = &core->map->slot[slot];
    struct yk_dir_rlog_slot log = yk_core_slot(core, slot);
    if (core->own[slot] == NULL && s->owner == core->opts.self && yk_core_is(core, YK_DIR_MEMBER) &&
        s->term == log.seen && log.led < s->term)
        become(core, slot);
    if (core->own[slot] == NULL)
        return;
    yk_share_whole(core, core->own[slot]);
    yk_core_add(&core->live, slot); /* there may be new members to ask */
}

void yk_owner_members(struct yk_dir_core *core, struct yk_core_own *own, const struct yk_dir_map *before) {
    struct yk_core_share *share = calloc(core->map->member_count + 1, sizeof(*share));
    for (uint32_t i = 0; share != NULL && i < before->member_count; i++) {
        int place = yk_core_place(core, before->member[i].id);
        if (place >= 0)
            share[place] = own->share[i];
    }
    if (share == NULL) {
        yk_owner_lose(core, own->slot); /* nobody owns it then, until its term rises */
        return;
    }
    free(own->share);
    own->share = share;
    for (uint32_t i = 0; i < core->map->member_count; i++) {
        const struct yk_dir_member *m = &core->map->member[i];
        if (m->state != YK_DIR_MEMBER || m->incarnation > share[i].incarnation)
            yk_share_reset(&share[i], m->incarnation > share[i].incarnation ? m->incarnation : share[i].incarnation);
    }
}

static void end_wish(struct yk_dir_core *core, struct yk_core_own *own, uint64_t token, int status,
                     const uint32_t *missing, uint32_t count) {
    own->asked--;
    core->asked--;
    core->opts.ops.removed(core->opts.ops.arg, token, status, missing, count);
}

void yk_owner_gone(struct yk_dir_core *core, uint32_t slot, uint64_t term, uint64_t token) {
    struct yk_core_own *own = core->own[slot];
    if (own != NULL && own->term == term)
        own->asked--;
    core->asked--;
    core->opts.ops.removed(core->opts.ops.arg, token, -YK_EGONE, NULL, 0);
}

void yk_owner_lose(struct yk_dir_core *core, uint32_t slot) {
    struct yk_core_own *own = core->own[slot];
    if (own == NULL)
        return;
    core->own[slot] = NULL;
    for (struct yk_core_wish *next, *w = own->wishes; w != NULL; w = next) {
        next = w->next;
        if (!w->answered)
            end_wish(core, own, w->token, -YK_EGONE, NULL, 0);
        free(w);
    }
    for (struct yk_core_work *next, *w = own->waiting; w != NULL; w = next) {
        next = w->next;
        if (w->waited)
            end_wish(core, own, w->token, -YK_EGONE, NULL, 0);
        free(w);
    }
    yk_share_lose(core, slot);
    free(own->share);
    free(own);
}

/* ---- a new owner gathers -------------------------------------------------------------------------- */

static void ask(struct yk_dir_core *core, const struct yk_core_own *own, uint32_t place) {
    struct yk_dir_msg msg = yk_core_msg(core, YK_DIR_ASK, own->slot);
    msg.num[YK_DIR_AFTER] = own->share[place].after;
    yk_core_tell(core, core->map->member[place].id, msg);
}

static int must_gather(const struct yk_dir_core *core, const struct yk_core_own *own, uint32_t place) {
    const struct yk_dir_member *m = &core->map->member[place];
    return m->state == YK_DIR_MEMBER && m->id != core->opts.self && !own->share[place].gathered;
}

static void ask_all(struct yk_dir_core *core, struct yk_core_own *own) {
    for (uint32_t i = 0; i < core->map->member_count; i++)
        if (must_gather(core, own, i))
            ask(core, own, i);
}

static int all_gathered(const struct yk_dir_core *core, const struct yk_core_own *own) {
    for (uint32_t i = 0; i < core->map->member_count; i++)
        if (must_gather(core, own, i))
            return 0;
    return 1;
}

static void on_log(struct yk_dir_core *core, struct yk_core_own *own, uint32_t from, struct yk_dir_msg *msg) {
    struct yk_core_share *share = &own->share[yk_core_place(core, from)];
    struct yk_core_hold *h = &core->hold[own->slot];
    if (own->phase != YK_OWN_GATHERING || h->batch != YK_BATCH_NONE ||
        !must_gather(core, own, (uint32_t)yk_core_place(core, from)) ||
        yk_dir_num_cmp(msg->num[YK_DIR_AFTER], share->after) != 0)
        return;
    own->log_from = from;
    own->log_after = share->after;
    own->log_last = msg->flags & YK_DIR_LAST || msg->count == 0;
    if (yk_dir_num_cmp(msg->num[YK_DIR_BASE], own->base) > 0)
        own->base = msg->num[YK_DIR_BASE];
    if (yk_dir_num_cmp(msg->num[YK_DIR_FORGOT], own->forgot) > 0)
        own->forgot = msg->num[YK_DIR_FORGOT];
    for (uint32_t i = 0; i < msg->count; i++) {
        struct yk_dir_record record;
        yk_dir_msg_next_record(&msg->items, &record);
        if (!yk_dir_rlog_has(core->log, own->slot, record.origin) &&
            yk_batch_add(core, own->slot, &record) == NULL) {
            yk_batch_drop(core, own->slot);
            return; /* it comes again */
        }
        own->log_after = record.num;
    }
    yk_core_soon(core, &own->retry);
    yk_batch_start(core, own->slot, YK_BATCH_MERGE, own->term);
}

void yk_owner_merged(struct yk_dir_core *core, uint32_t slot, int failed) {
    struct yk_core_own *own = core->own[slot];
    int place = yk_core_place(core, own != NULL ? own->log_from : YK_DIR_NOBODY);
    if (own == NULL || own->phase != YK_OWN_GATHERING || place < 0 || failed)
        return;
    own->share[place].after = own->log_after;
    own->share[place].gathered = own->log_last;
    ask_all(core, own); /* the rest of this one; and others came while it was being applied */
}

static int by_origin(const void *a, const void *b) {
    return yk_dir_num_cmp(((const struct yk_dir_remove *)a)->origin, ((const struct yk_dir_remove *)b)->origin);
}

/* A log that began here, or was lost: renumbered, and complete as far back as the others' are, or from now on. */
static int begin_log(struct yk_dir_core *core, const struct yk_core_own *own, uint64_t *ret_ticket) {
    struct yk_dir_rlog_slot s = yk_core_slot(core, own->slot);
    struct yk_dir_remove *removes = malloc((s.removes + 1) * sizeof(*removes)), r = {0};
    uint32_t n = 0;
    if (removes == NULL)
        return -YK_ENOMEM;
    while (n < s.removes && yk_dir_rlog_next(core->log, own->slot, r.num, &r))
        removes[n++] = r;
    qsort(removes, n, sizeof(*removes), by_origin);
    for (uint32_t i = 0; i < n; i++)
        removes[i].num = (struct yk_dir_num){own->term, i + 1};
    s.last = (struct yk_dir_num){own->term, n};
    s.base = (struct yk_dir_num){own->term, 0};
    s.forgot = own->forgot;
    for (uint32_t i = 0; i < core->map->member_count; i++)
        if (own->share[i].gathered)
            s.base = own->base;
    int rc = yk_dir_rlog_replace(core->log, own->slot, &s, removes, n, yk_core_wall_s(core), ret_ticket);
    free(removes);
    return rc;
}

static void activate(struct yk_dir_core *core, struct yk_core_own *own) {
    struct yk_dir_rlog_slot s = yk_core_slot(core, own->slot);
    uint64_t ticket = 0;
    int rc = s.lost || s.last.term == 0 ? begin_log(core, own, &ticket)
                                        : yk_dir_rlog_renumber(core->log, own->slot, own->term, &ticket);
    if (rc < 0)
        return; /* again with the next try */
    yk_core_logged(core, own->slot, ticket);
    own->phase = YK_OWN_ACTIVE;
}

/* ---- removes ---------------------------------------------------------------------------------------- */

static int counts(const struct yk_dir_core *core, uint32_t place) {
    const struct yk_dir_member *m = &core->map->member[place];
    return m->id != core->opts.self && (m->state == YK_DIR_MEMBER || m->state == YK_DIR_RETURNING);
}

/* Sends a member what it has not answered, as far as one message holds; nothing of that: what is done. */
static void send_removes(struct yk_dir_core *core, struct yk_core_own *own, uint32_t place) {
    struct yk_core_share *share = &own->share[place];
    struct yk_dir_msg msg = yk_core_msg(core, YK_DIR_REMOVE, own->slot);
    struct yk_dir_num at = {own->term, share->acked};
    struct yk_dir_remove r;
    struct yk_wr w;
    uint32_t n = 0;
    msg.b = own->done;
    yk_dir_msg_begin(&w, core->buf, &msg);
    while (n < YK_CORE_BATCH && yk_dir_rlog_next(core->log, own->slot, at, &r) && r.num.rseq <= own->sendable) {
        struct yk_dir_record record = {r.num, r.origin, r.key};
        if (r.num.rseq != at.rseq + 1 || !yk_dir_msg_record(&w, &record))
            break; /* what is forgotten, a node behind it gets by a replay */
        msg.a = n == 0 ? r.num.rseq : msg.a;
        at = r.num;
        n++;
    }
    share->sent = n > 0 ? at.rseq : share->sent;
    share->told = own->done;
    yk_core_send(core, core->map->member[place].id, yk_dir_msg_finish(&w, &msg, n));
}

static int knows_expelled(const struct yk_dir_core *core, const struct yk_core_share *share) {
    return share->acked_expulsions >= core->map->expulsions;
}

/* Who has not said of remove `rseq` that it is applied. */
static uint32_t who_misses(const struct yk_dir_core *core, const struct yk_core_own *own, uint64_t rseq,
                           uint32_t *ret_members) {
    uint32_t n = 0;
    if (rseq > own->sendable)
        ret_members[n++] = core->opts.self;
    for (uint32_t i = 0; i < core->map->member_count; i++)
        if (counts(core, i) && (own->share[i].acked < rseq || !knows_expelled(core, &own->share[i])))
            ret_members[n++] = core->map->member[i].id;
    return n;
}

static void find_done(struct yk_dir_core *core, struct yk_core_own *own) {
    uint64_t done = own->sendable;
    if (!yk_told(core, own->slot))
        return; /* what of it was here is still in somebody's table */
    for (uint32_t i = 0; i < core->map->member_count; i++) {
        const struct yk_core_share *share = &own->share[i];
        uint64_t has = knows_expelled(core, share) ? share->acked : own->done;
        if (counts(core, i) && has < done)
            done = has;
    }
    if (done <= own->done)
        return;
    own->done = done;
    yk_dir_rlog_done(core->log, own->slot, (struct yk_dir_num){own->term, done});
    while (own->wishes != NULL && own->wishes->rseq <= done) {
        struct yk_core_wish *w = own->wishes;
        own->wishes = w->next;
        if (own->wishes == NULL)
            own->wishes_end = &own->wishes;
        if (!w->answered)
            end_wish(core, own, w->token, w->found ? 0 : YK_MISS, NULL, 0);
        free(w);
    }
}

void yk_owner_begun(struct yk_dir_core *core, uint32_t slot, const struct yk_core_work *work, uint64_t rseq) {
    struct yk_core_own *own = core->own[slot];
    struct yk_core_wish *wish = work->waited ? calloc(1, sizeof(*wish)) : NULL;
    core->counts.removes++;
    if (work->waited && wish == NULL)
        end_wish(core, own, work->token, -YK_ENOMEM, NULL, 0);
    if (wish == NULL)
        return;
    *wish = (struct yk_core_wish){
        .token = work->token, .deadline_ms = work->deadline_ms, .rseq = rseq, .found = work->found};
    *own->wishes_end = wish;
    own->wishes_end = &wish->next;
}

/* Numbered after its asker has given up, a remove would take out what was put since. */
int yk_owner_late(struct yk_dir_core *core, uint32_t slot, struct yk_core_work *w) {
    if (w->deadline_ms > core->now_ms)
        return 0;
    if (w->waited && core->own[slot] != NULL) { /* else the batch's end tells */
        w->waited = 0;
        end_wish(core, core->own[slot], w->token, -YK_ETIMEDOUT, NULL, 0);
    }
    return 1;
}

/* The removes that wait become the slot's batch. */
static void begin_removes(struct yk_dir_core *core, struct yk_core_own *own) {
    struct yk_core_hold *h = &core->hold[own->slot];
    for (uint32_t n = 0; own->waiting != NULL && n < YK_CORE_BATCH;) {
        struct yk_core_work *w = own->waiting;
        own->waiting = w->next;
        w->next = NULL;
        if (yk_owner_late(core, own->slot, w)) {
            free(w);
            continue;
        }
        *h->works_end = w;
        h->works_end = &w->next;
        n++;
    }
    if (own->waiting == NULL)
        own->waiting_end = &own->waiting;
    if (h->works != NULL)
        yk_batch_start(core, own->slot, YK_BATCH_BEGIN, own->term);
}

static void settle_active(struct yk_dir_core *core, struct yk_core_own *own) {
    if (yk_core_durable(core, own->slot))
        own->sendable = yk_core_slot(core, own->slot).last.rseq;
    if (own->waiting != NULL && core->hold[own->slot].batch == YK_BATCH_NONE && yk_told(core, own->slot))
        begin_removes(core, own);
    for (uint32_t i = 0; i < core->map->member_count; i++) {
        const struct yk_core_share *share = &own->share[i];
        if (!counts(core, i) || share->acked >= own->sendable || share->sent > share->acked)
            continue;
        yk_core_soon(core, &own->retry);
        send_removes(core, own, i);
    }
    find_done(core, own);
    yk_core_add(&core->live, own->slot);
}

void yk_owner_settle(struct yk_dir_core *core, uint32_t slot) {
    struct yk_core_own *own = core->own[slot];
    if (own == NULL)
        return;
    if (own->phase == YK_OWN_LEADING && yk_core_durable(core, slot)) {
        own->phase = YK_OWN_GATHERING;
        ask_all(core, own);
    }
    if (own->phase == YK_OWN_GATHERING && core->hold[slot].batch == YK_BATCH_NONE && all_gathered(core, own))
        activate(core, own);
    if (own->phase == YK_OWN_ACTIVE)
        settle_active(core, own);
}

int yk_dir_core_remove(struct yk_dir_core *core, const struct yk_dir_key *key, uint64_t deadline_ms, uint64_t token,
                       uint64_t now_ms) {
    uint64_t hash = yk_dir_hash(key->ns, key->ns_len, key->key, key->key_len);
    struct yk_core_own *own = core->own[yk_dir_slot_of(hash)];
    core->now_ms = now_ms;
    if (own == NULL)
        return -YK_EGONE;
    if (core->counts.log_failed)
        return -YK_EIO;
    if (own->phase != YK_OWN_ACTIVE || own->asked >= YK_CORE_ASKED || core->asked >= YK_CORE_ASKED_ALL)
        return -YK_EAGAIN;
    struct yk_core_work *work = yk_work_new(own->slot, &(struct yk_dir_record){.key = *key});
    if (work == NULL)
        return -YK_EAGAIN;
    work->waited = 1;
    work->token = token;
    work->deadline_ms = deadline_ms;
    *own->waiting_end = work;
    own->waiting_end = &work->next;
    own->asked++;
    core->asked++;
    yk_core_add(&core->unsettled, own->slot);
    yk_core_rest(core);
    return 0;
}

static void on_ack(struct yk_dir_core *core, struct yk_core_own *own, uint32_t from, struct yk_dir_msg *msg) {
    struct yk_core_share *share = &own->share[yk_core_place(core, from)];
    if (own->phase != YK_OWN_ACTIVE || msg->a > own->sendable)
        return;
    for (uint32_t i = 0; i < msg->count; i++) {
        uint64_t rseq = yk_rd_u64(&msg->items);
        for (struct yk_core_wish *w = own->wishes; w != NULL && w->rseq <= rseq; w = w->next)
            w->found |= w->rseq == rseq;
    }
    if (msg->a > share->acked || msg->b > share->acked_expulsions) {
        share->acked = msg->a > share->acked ? msg->a : share->acked;
        share->acked_expulsions = msg->b > share->acked_expulsions ? msg->b : share->acked_expulsions;
        yk_core_soon(core, &own->retry);
    }
    yk_core_add(&core->unsettled, own->slot);
}

/* ---- a node that returns wants the log -------------------------------------------------------------- */

static void on_replay_ask(struct yk_dir_core *core, struct yk_core_own *own, uint32_t from,
                          const struct yk_dir_msg *msg) {
    uint32_t place = (uint32_t)yk_core_place(core, from);
    struct yk_dir_msg reply = yk_core_msg(core, YK_DIR_REPLAY, own->slot);
    if (own->phase != YK_OWN_ACTIVE || !yk_core_durable(core, own->slot) || !counts(core, place) ||
        core->map->member[place].incarnation != msg->incarnation)
        return; /* it asks again */
    reply.incarnation = msg->incarnation;
    reply.num[YK_DIR_AFTER] = msg->num[YK_DIR_AFTER];
    yk_holder_tell_log(core, from, &reply, (struct yk_dir_num){own->term, own->sendable});
}

/* ---- in and out ------------------------------------------------------------------------------------- */

void yk_owner_message(struct yk_dir_core *core, uint32_t from, struct yk_dir_msg *msg) {
    struct yk_core_own *own = core->own[msg->slot];
    if (own == NULL || own->term != msg->term)
        return;
    switch (msg->kind) {
    case YK_DIR_PUBLISH:
    case YK_DIR_SNAPSHOT:
    case YK_DIR_DROPPED:
    case YK_DIR_DIGEST:
        yk_share_message(core, own, from, msg);
        break;
    case YK_DIR_LOG:
        on_log(core, own, from, msg);
        break;
    case YK_DIR_ACK:
        on_ack(core, own, from, msg);
        break;
    case YK_DIR_REPLAY_ASK:
        on_replay_ask(core, own, from, msg);
        break;
    default:
        break;
    }
}

/* Waiters whose time is over are told who is missing, and the removes go on; or, where those have no number yet, that
 * they never will. */
static void end_late(struct yk_dir_core *core, struct yk_core_own *own) {
    uint32_t missing[YK_DIR_MEMBERS_MAX + 1];
    struct yk_core_hold *h = &core->hold[own->slot];
    for (struct yk_core_wish *w = own->wishes; w != NULL; w = w->next)
        if (!w->answered && w->deadline_ms <= core->now_ms) {
            w->answered = 1;
            end_wish(core, own, w->token, YK_PENDING, missing, who_misses(core, own, w->rseq, missing));
        }
    for (struct yk_core_work **at = &own->waiting; *at != NULL;) {
        struct yk_core_work *w = *at;
        if (yk_owner_late(core, own->slot, w)) {
            *at = w->next;
            free(w);
        } else {
            at = &w->next;
            own->waiting_end = at;
        }
    }
    if (own->waiting == NULL)
        own->waiting_end = &own->waiting;
    if (h->batch == YK_BATCH_BEGIN && h->batch_term == own->term)
        for (struct yk_core_work *w = h->works; w != NULL; w = w->next)
            if (w->waited && w->deadline_ms <= core->now_ms) { /* it is being applied here */
                w->waited = 0;
                end_wish(core, own, w->token, -YK_ETIMEDOUT, NULL, 0); /* it gets no number (batch.c) */
            }
}

/* Members that have something to hear. */
static int send_again(struct yk_dir_core *core, struct yk_core_own *own, int due) {
    int waits = 0;
    for (uint32_t i = 0; i < core->map->member_count; i++) {
        const struct yk_core_share *share = &own->share[i];
        int behind = share->acked < own->sendable || (own->done < own->sendable && !knows_expelled(core, share));
        if (!counts(core, i) || (!behind && share->told >= own->done))
            continue;
        waits |= behind || !due;
        if (due)
            send_removes(core, own, i);
    }
    return waits;
}

int yk_owner_tick(struct yk_dir_core *core, uint32_t slot) {
    struct yk_core_own *own = core->own[slot];
    if (own == NULL)
        return 0;
    int due = yk_core_due(core, &own->retry);
    int waits = own->phase != YK_OWN_ACTIVE || !own->whole || own->waiting != NULL || own->wishes != NULL;
    if (due && own->phase == YK_OWN_GATHERING) {
        ask_all(core, own);
        yk_core_add(&core->unsettled, slot);
    }
    if (due && !own->whole)
        yk_share_want(core, own);
    if (own->phase == YK_OWN_ACTIVE)
        waits |= send_again(core, own, due);
    end_late(core, own);
    if (due)
        yk_core_later(core, &own->retry);
    return waits;
}
