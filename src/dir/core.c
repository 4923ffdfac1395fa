/* SPDX-License-Identifier: Apache-2.0
 *
 * What goes into the core and out of it (core.h), and what both halves of the protocol rest on: which map and
 * which terms this node knows, and what of its log is durable.
 *
 * Every entry does its part, and then yk_core_rest: what a node tells itself, slots for which something changed,
 * publications, the log's next piece of work. No call goes deeper than that. What a node tells itself is without end
 * while it takes over slots with many blocks of its own; so YK_CORE_NOTES bytes of it are taken until whoever drives the
 * core has looked at what came from others, and goes on (yk_dir_core_go_on, or a tick).
 *
 * Terms (0014, "who refuses what"): take() refuses lower ones and adopts higher ones, for messages of every kind;
 * adopt() makes this node refuse the old one first, in the log too. What answers for that waits until it is durable.
 *
 * Threads: as core.h.
 */
#include "dir/core_priv.h"

#include <stdlib.h>
#include <string.h>
#include <yolk/yolk.h>

/* ---- small things ------------------------------------------------------------------------------- */

uint32_t yk_core_next(const struct yk_core_slots *set, uint32_t from) {
    for (uint32_t i = from / 64; i < YK_DIR_SLOTS / 64; i++) {
        uint64_t bits = set->bits[i];
        if (i == from / 64)
            bits &= ~0ull << from % 64;
        if (bits != 0)
            return i * 64 + (uint32_t)__builtin_ctzll(bits);
    }
    return YK_DIR_SLOTS;
}

struct yk_dir_rlog_slot yk_core_slot(const struct yk_dir_core *core, uint32_t slot) {
    struct yk_dir_rlog_slot s;
    yk_dir_rlog_slot(core->log, slot, &s);
    return s;
}

int yk_core_place(const struct yk_dir_core *core, uint32_t member) {
    uint32_t low = 0, high = core->map->member_count;
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        if (core->map->member[mid].id < member)
            low = mid + 1;
        else
            high = mid;
    }
    return low < core->map->member_count && core->map->member[low].id == member ? (int)low : -1;
}

void yk_core_logged(struct yk_dir_core *core, uint32_t slot, uint64_t ticket) {
    if (ticket > core->hold[slot].ticket)
        core->hold[slot].ticket = ticket;
    yk_core_add(&core->undurable, slot);
}

void yk_core_later(const struct yk_dir_core *core, struct yk_core_retry *retry) {
    retry->wait_ms = retry->wait_ms == 0 ? YK_CORE_RETRY_MS : retry->wait_ms * 2;
    if (retry->wait_ms > YK_CORE_RETRY_MAX_MS)
        retry->wait_ms = YK_CORE_RETRY_MAX_MS;
    retry->at_ms = core->now_ms + retry->wait_ms;
}

void yk_core_soon(const struct yk_dir_core *core, struct yk_core_retry *retry) {
    uint64_t soon = core->now_ms + YK_CORE_RETRY_MS;
    retry->wait_ms = YK_CORE_RETRY_MS;
    if (retry->at_ms <= core->now_ms || retry->at_ms > soon)
        retry->at_ms = soon;
}

/* ---- sending -------------------------------------------------------------------------------------- */

struct yk_dir_msg yk_core_msg(const struct yk_dir_core *core, unsigned kind, uint32_t slot) {
    return (struct yk_dir_msg){
        .kind = (uint8_t)kind, .slot = (uint16_t)slot, .cluster = core->opts.cluster, .term = yk_core_seen(core, slot)};
}

void yk_core_send(struct yk_dir_core *core, uint32_t member, uint32_t len) {
    if (member != core->opts.self) {
        core->opts.ops.send(core->opts.ops.arg, member, core->buf, len);
        return;
    }
    struct yk_core_note *note = malloc(sizeof(*note) + len);
    if (note == NULL)
        return; /* lost, as any message may be */
    note->next = NULL;
    note->len = len;
    memcpy(note->bytes, core->buf, len);
    *core->notes_end = note;
    core->notes_end = &note->next;
}

void yk_core_tell(struct yk_dir_core *core, uint32_t member, struct yk_dir_msg msg) {
    struct yk_wr w;
    yk_dir_msg_begin(&w, core->buf, &msg);
    yk_core_send(core, member, yk_dir_msg_finish(&w, &msg, 0));
}

/* ---- terms and messages --------------------------------------------------------------------------- */

/* From now on nothing of a lower term counts here. 0, or the log cannot take it. */
static int adopt(struct yk_dir_core *core, uint32_t slot, uint64_t term) {
    uint64_t ticket = 0;
    int rc = yk_dir_rlog_seen(core->log, slot, term, &ticket);
    if (rc < 0)
        return rc;
    yk_core_logged(core, slot, ticket);
    core->hold[slot].asker = YK_DIR_NOBODY;
    if (core->own[slot] != NULL && core->own[slot]->term < term)
        yk_owner_lose(core, slot);
    if (core->opts.ops.term != NULL)
        core->opts.ops.term(core->opts.ops.arg, slot, term);
    yk_holder_learn(core, slot);
    yk_core_add(&core->unsettled, slot);
    return 0;
}

static void take(struct yk_dir_core *core, uint32_t from, uint64_t incarnation, struct yk_dir_msg *msg) {
    int place = core->map != NULL ? yk_core_place(core, from) : -1;
    if (place < 0 || incarnation < core->map->member[place].incarnation)
        return; /* who is not in the map yet, says it again; who lives no more, need not */
    uint64_t seen = yk_core_seen(core, msg->slot);
    if (msg->term < seen) {
        core->counts.refused++;
        if (msg->kind != YK_DIR_REFUSED)
            yk_core_tell(core, from, yk_core_msg(core, YK_DIR_REFUSED, msg->slot));
        return;
    }
    if (msg->term > seen && adopt(core, msg->slot, msg->term) < 0)
        return;
    yk_owner_message(core, from, msg);
    yk_holder_message(core, from, msg);
}

static int may_take_note(const struct yk_dir_core *core) {
    return core->notes != NULL && core->notes_taken < YK_CORE_NOTES;
}

/* The oldest first. */
static void take_notes(struct yk_dir_core *core) {
    struct yk_dir_msg msg;
    while (may_take_note(core)) {
        struct yk_core_note *note = core->notes;
        core->notes = note->next;
        if (core->notes == NULL)
            core->notes_end = &core->notes;
        if (core->me != NULL && yk_dir_msg_decode(note->bytes, note->len, &msg, NULL) == 0)
            take(core, core->opts.self, core->me->incarnation, &msg);
        core->notes_taken += note->len;
        free(note);
    }
}

/* ---- the log -------------------------------------------------------------------------------------- */

static void log_ended(struct yk_dir_core *core) {
    core->io_busy = 0;
    if (yk_dir_rlog_end(core->log, &core->io, NULL) < 0) {
        core->counts.log_failed = 1;
        return;
    }
    for (uint32_t i = 0; i < YK_DIR_SLOTS / 64; i++)
        core->unsettled.bits[i] |= core->undurable.bits[i];
    memset(&core->undurable, 0, sizeof(core->undurable));
}

static void log_write(struct yk_dir_core *core) {
    while (!core->io_busy && yk_dir_rlog_begin(core->log, &core->io) == 1) {
        core->io_busy = 1;
        if (core->opts.ops.sync != NULL) {
            core->opts.ops.sync(core->opts.ops.arg, &core->io);
            return;
        }
        yk_dir_rlog_io(&core->io);
        log_ended(core);
    }
}

/* ---- after every entry ---------------------------------------------------------------------------- */

static void settle(struct yk_dir_core *core) {
    for (uint32_t s = 0; (s = yk_core_next(&core->unsettled, s)) < YK_DIR_SLOTS;) {
        yk_core_out(&core->unsettled, s);
        yk_batch_settle(core, s);
        yk_holder_settle(core, s);
        yk_owner_settle(core, s);
        if (!yk_core_durable(core, s))
            yk_core_add(&core->undurable, s);
    }
}

void yk_core_rest(struct yk_dir_core *core) {
    if (core->map == NULL)
        return;
    do {
        take_notes(core);
        settle(core);
        yk_holder_replays(core);
        yk_told_go(core);
        yk_publish_go(core);
        log_write(core);
    } while (may_take_note(core) || yk_core_next(&core->unsettled, 0) < YK_DIR_SLOTS);
}

int yk_dir_core_has_more(const struct yk_dir_core *core) {
    return core->notes != NULL;
}

int yk_dir_core_go_on(struct yk_dir_core *core, uint64_t now_ms) {
    core->now_ms = now_ms;
    core->notes_taken = 0;
    yk_core_rest(core);
    return core->notes != NULL;
}

void yk_dir_core_synced(struct yk_dir_core *core) {
    if (core->io_busy)
        log_ended(core);
    yk_core_rest(core);
}

const char *yk_dir_core_failed(const struct yk_dir_core *core) {
    return yk_dir_rlog_failed(core->log) != 0 ? yk_dir_rlog_text(core->log) : NULL;
}

int yk_dir_core_message(struct yk_dir_core *core, uint32_t from, uint64_t incarnation, const void *message,
                        uint32_t len, uint64_t now_ms, struct yk_err *err) {
    struct yk_dir_msg msg;
    int rc = yk_dir_msg_decode(message, len, &msg, err);
    if (rc < 0)
        return rc;
    if (msg.cluster != core->opts.cluster)
        return yk_err_set(err, -YK_EPROTO, "%s of member %u: of cluster %016llx, and this is %016llx",
                          yk_dir_msg_name(msg.kind), from, (unsigned long long)msg.cluster,
                          (unsigned long long)core->opts.cluster);
    core->now_ms = now_ms;
    take(core, from, incarnation, &msg);
    yk_core_rest(core);
    return 0;
}

static void slots_changed(void *arg, const uint32_t *slots) {
    for (int i = 0; i < 2; i++)
        if (slots[i] < YK_DIR_SLOTS)
            yk_publish_queue(arg, slots[i]);
}

void yk_dir_core_block(struct yk_dir_core *core, const struct yk_dir_block *block) {
    uint32_t slots[2] = {UINT32_MAX, UINT32_MAX};
    uint64_t hash = yk_dir_hash(block->key.ns, block->key.ns_len, block->key.key, block->key.key_len);
    yk_dir_held_only(core->held, &block->key, hash, block->epoch, slots_changed, core);
    yk_dir_held_set(core->held, block, hash, slots);
    slots_changed(core, slots);
}

void yk_dir_core_walk(struct yk_dir_core *core) {
    yk_dir_held_round(core->held);
}

void yk_dir_core_unseen(struct yk_dir_core *core, uint32_t slot) {
    yk_dir_held_unseen(core->held, slot, slots_changed, core);
}

uint64_t yk_dir_core_group(const struct yk_dir_core *core, const struct yk_dir_key *key, uint64_t epoch) {
    uint64_t hash = yk_dir_hash(key->ns, key->ns_len, key->key, key->key_len);
    struct yk_dir_block block;
    return yk_dir_held_find(core->held, key, hash, epoch, &block) ? block.group : 0;
}

void yk_dir_core_known(struct yk_dir_core *core) {
    core->known = 1;
    for (uint32_t s = 0; s < YK_DIR_SLOTS && core->map != NULL; s++)
        yk_publish_queue(core, s);
    yk_core_rest(core);
}

void yk_dir_core_applied(struct yk_dir_core *core, uint64_t token, int status) {
    struct yk_core_work *work = (struct yk_core_work *)(uintptr_t)token;
    struct yk_core_hold *h = &core->hold[work->slot];
    int done = status == 0 || status == YK_MISS;
    work->state = done ? YK_WORK_DONE : YK_WORK_AGAIN;
    work->found = status == 0;
    if (!done) {
        yk_core_add(&core->live, work->slot);
        return;
    }
    if (work->kind == YK_WORK_DROP_COPY) {
        yk_holder_dropped(core, work);
    } else {
        h->busy--;
        yk_core_add(&core->unsettled, work->slot);
    }
    yk_core_rest(core);
}

/* ---- the map -------------------------------------------------------------------------------------- */

/* What members that are none, or live anew, had is gone from the table. */
static void forget(struct yk_dir_core *core, struct yk_dir_map *before) {
    for (uint32_t i = 0; i < core->map->member_count; i++) {
        const struct yk_dir_member *m = &core->map->member[i], *old = yk_dir_map_member(before, m->id);
        if (old == NULL || (old->state == m->state && old->incarnation == m->incarnation))
            continue;
        yk_dir_table_forget_all(core->table, m->id, m->state == YK_DIR_MEMBER ? m->incarnation : UINT64_MAX);
    }
    for (uint32_t i = 0; i < before->member_count; i++)
        if (yk_core_place(core, before->member[i].id) < 0)
            yk_dir_table_forget_all(core->table, before->member[i].id, UINT64_MAX);
}

static void learn_slot(struct yk_dir_core *core, uint32_t slot) {
    uint64_t term = core->map->slot[slot].term;
    if (term > yk_core_seen(core, slot) && adopt(core, slot, term) < 0)
        return;
    yk_holder_learn(core, slot);
    yk_owner_learn(core, slot);
    yk_core_add(&core->unsettled, slot);
}

void yk_dir_core_map(struct yk_dir_core *core, const struct yk_dir_map *map, uint64_t now_ms) {
    struct yk_dir_map *before = core->map;
    if (before != NULL && map->version <= before->version)
        return;
    struct yk_dir_map *copy = yk_dir_map_copy(map);
    struct yk_core_lane *lane = malloc((map->member_count + 1) * sizeof(*lane));
    if (copy == NULL || lane == NULL) {
        free(copy);
        free(lane);
        return;
    }
    uint64_t lived = core->me != NULL ? core->me->incarnation : 0;
    core->now_ms = now_ms;
    core->map = copy;
    core->me = yk_dir_map_member(copy, core->opts.self);
    free(core->lane);
    core->lane = lane;
    for (uint32_t i = 0; i <= map->member_count; i++)
        lane[i] = (struct yk_core_lane){.first = YK_DIR_SLOTS, .last = YK_DIR_SLOTS};
    yk_publish_lanes(core);
    int anew = lived != 0 && core->me != NULL && core->me->incarnation != lived;
    if (anew) {
        yk_dir_held_restart(core->held);
        yk_told_anew(core);
    }
    for (uint32_t s = 0; s < YK_DIR_SLOTS; s++) {
        if (anew)
            core->hold[s].term = 0; /* everything is said again */
        if (core->own[s] != NULL && before != NULL)
            yk_owner_members(core, core->own[s], before);
    }
    if (before != NULL)
        forget(core, before);
    for (uint32_t s = 0; s < YK_DIR_SLOTS; s++)
        learn_slot(core, s);
    free(before);
    yk_core_rest(core);
}

/* ---- time ----------------------------------------------------------------------------------------- */

void yk_dir_core_time(struct yk_dir_core *core, uint64_t now_ms) {
    core->now_ms = now_ms;
}

uint32_t yk_dir_core_tick(struct yk_dir_core *core, uint64_t now_ms) {
    core->now_ms = now_ms;
    core->notes_taken = 0;
    if (core->map == NULL)
        return YK_CORE_IDLE_MS;
    for (uint32_t s = 0; (s = yk_core_next(&core->live, s)) < YK_DIR_SLOTS; s++) {
        int waits = yk_holder_tick(core, s);
        waits |= yk_owner_tick(core, s);
        if (!waits)
            yk_core_out(&core->live, s);
    }
    yk_holder_tick_drops(core);
    yk_share_tick(core);
    yk_publish_digests(core);
    int more = yk_dir_table_sweep(core->table, YK_CORE_SWEEP);
    more |= yk_dir_rlog_trim(core->log, yk_core_wall_s(core)) == 1;
    yk_core_rest(core);
    more |= yk_core_next(&core->live, 0) < YK_DIR_SLOTS || core->conflicts != NULL || core->drops != NULL;
    return more ? YK_CORE_TICK_MS : YK_CORE_IDLE_MS;
}

/* ---- looking up, copies --------------------------------------------------------------------------- */

/* What the table says of a slot, in its owner's words. */
static void owner_says(struct yk_dir_core *core, const struct yk_core_own *own, struct yk_dir_found *io_found) {
    if (own == NULL)
        io_found->status = -YK_EGONE;
    else if (io_found->status == YK_MISS && !own->whole)
        io_found->status = YK_PENDING;
    if (io_found->status != 0 && io_found->status != -YK_EAGAIN)
        io_found->group = 0;
    core->counts.found += io_found->status == 0;
}

/* An alias: the group's slot, if this node owns that too; else it says whom to ask. */
static void follow_alias(struct yk_dir_core *core, struct yk_dir_question *q, struct yk_dir_found *io_found) {
    const struct yk_core_own *own = core->own[yk_dir_slot_of(io_found->group)];
    if (own == NULL)
        return;
    q->group = io_found->group;
    yk_dir_table_find(core->table, q, io_found);
    owner_says(core, own, io_found);
}

static void judge(struct yk_dir_core *core, struct yk_dir_question *q, struct yk_dir_found *io_found) {
    owner_says(core, core->own[yk_dir_slot_of(q->group != 0 ? q->group : q->hash)], io_found);
    if (io_found->status == -YK_EAGAIN)
        follow_alias(core, q, io_found);
}

static struct yk_dir_question question_of(const struct yk_dir_key *key, uint64_t epoch, uint64_t group) {
    return (struct yk_dir_question){.key = *key,
                                    .hash = yk_dir_hash(key->ns, key->ns_len, key->key, key->key_len),
                                    .epoch = epoch,
                                    .group = group};
}

void yk_dir_core_find(struct yk_dir_core *core, const struct yk_dir_key *key, uint64_t epoch, uint64_t group,
                      struct yk_dir_found *ret_found) {
    struct yk_dir_question q = question_of(key, epoch, group);
    core->counts.finds++;
    yk_dir_table_find(core->table, &q, ret_found);
    judge(core, &q, ret_found);
}

void yk_dir_core_find_many(struct yk_dir_core *core, const struct yk_dir_key *keys, const uint64_t *groups, uint32_t n,
                           uint64_t epoch, struct yk_dir_found *ret_found) {
    struct yk_dir_question q[YK_DIR_FIND_MAX];
    if (n == 0)
        return;
    for (uint32_t i = 0; i < n; i++)
        q[i] = question_of(&keys[i], epoch, groups[i]);
    core->counts.finds += n;
    yk_dir_table_find_many(core->table, q, n, ret_found);
    for (uint32_t i = 0; i < n; i++)
        judge(core, &q[i], &ret_found[i]);
}

int yk_dir_core_entries(const struct yk_dir_core *core, uint32_t slot, uint64_t *cursor, uint32_t steps,
                        void (*fn)(void *arg, const struct yk_dir_table_item *item), void *arg) {
    const struct yk_core_own *own = slot < YK_DIR_SLOTS ? core->own[slot] : NULL;
    if (own == NULL || !own->whole)
        return own == NULL ? -YK_EGONE : -YK_EAGAIN;
    return yk_dir_table_walk(core->table, slot, cursor, steps, fn, arg);
}

void yk_dir_core_stand(const struct yk_dir_core *core, const struct yk_dir_key *key, struct yk_dir_stand *ret) {
    uint32_t slot = yk_dir_slot_of(yk_dir_hash(key->ns, key->ns_len, key->key, key->key_len));
    struct yk_dir_num last = yk_core_slot(core, slot).last;
    *ret = (struct yk_dir_stand){last.term, last.rseq};
}

int yk_dir_core_may_commit(const struct yk_dir_core *core, const struct yk_dir_key *key,
                           const struct yk_dir_stand *stand) {
    uint64_t hash = yk_dir_hash(key->ns, key->ns_len, key->key, key->key_len);
    uint32_t slot = yk_dir_slot_of(hash);
    struct yk_dir_num at = {stand->term, stand->rseq};
    return yk_dir_core_serves(core) && yk_holder_takes(core, slot) &&
           yk_dir_num_cmp(yk_core_slot(core, slot).base, at) <= 0 && !yk_batch_names(core, slot, key) &&
           !yk_dir_rlog_removed(core->log, key, hash, at);
}

int yk_dir_core_serves(const struct yk_dir_core *core) {
    return yk_core_is(core, YK_DIR_MEMBER);
}

/* ---- life ----------------------------------------------------------------------------------------- */

static int open_parts(struct yk_dir_core *core, struct yk_err *err) {
    struct yk_dir_rlog_opts log = {.path = core->opts.log_path,
                                   .image = core->opts.log_image,
                                   .image_len = core->opts.log_image_len,
                                   .keep_removes = core->opts.log_removes,
                                   .keep_s = core->opts.log_seconds};
    struct yk_dir_held_opts held = {.max_bytes = core->opts.held_bytes};
    struct yk_dir_rlog_report report;
    int rc = yk_dir_rlog_open(&log, &core->log, &report, err);
    if (rc < 0)
        return rc;
    rc = yk_dir_table_open(core->opts.table_bytes, &core->table);
    if (rc == 0)
        rc = yk_dir_held_open(&held, &core->held);
    return rc < 0 ? yk_err_set(err, rc, "no address space for the directory's tables") : 0;
}

int yk_dir_core_open(const struct yk_dir_core_opts *opts, struct yk_dir_core **ret_core, struct yk_err *err) {
    struct yk_dir_core *core = calloc(1, sizeof(*core));
    if (core == NULL)
        return yk_err_set(err, -YK_ENOMEM, "no memory for the directory");
    core->opts = *opts;
    core->notes_end = &core->notes;
    if (core->opts.batch == 0)
        core->opts.batch = 512;
    if (core->opts.digest_ms == 0)
        core->opts.digest_ms = YK_CORE_DIGEST_MS;
    if (core->opts.batch < YK_DIR_HELD_PIECE_MIN)
        core->opts.batch = YK_DIR_HELD_PIECE_MIN;
    core->items = malloc(core->opts.batch * sizeof(*core->items));
    core->buf = malloc(YK_DIR_MESSAGE_MAX);
    int rc = core->items == NULL || core->buf == NULL ? yk_err_set(err, -YK_ENOMEM, "no memory for the directory")
                                                      : open_parts(core, err);
    if (rc < 0) {
        yk_dir_core_close(core);
        return rc;
    }
    for (uint32_t s = 0; s < YK_DIR_SLOTS; s++) {
        core->hold[s].works_end = &core->hold[s].works;
        core->hold[s].solid = yk_core_slot(core, s).last;
    }
    *ret_core = core;
    return 0;
}

void yk_dir_core_close(struct yk_dir_core *core) {
    if (core == NULL)
        return;
    for (uint32_t s = 0; s < YK_DIR_SLOTS; s++) {
        yk_owner_lose(core, s);
        yk_batch_drop(core, s);
        free(core->hold[s].piece);
        free(core->hold[s].found);
    }
    for (struct yk_core_work *next, *w = core->drops; w != NULL; w = next) {
        next = w->next;
        free(w);
    }
    for (struct yk_core_note *next, *n = core->notes; n != NULL; n = next) {
        next = n->next;
        free(n);
    }
    yk_dir_table_close(core->table);
    yk_dir_held_close(core->held);
    yk_dir_rlog_close(core->log);
    free(core->map);
    free(core->lane);
    free(core->items);
    free(core->buf);
    free(core);
}

void yk_dir_core_counts(const struct yk_dir_core *core, struct yk_dir_core_counts *ret) {
    struct yk_dir_load load;
    struct yk_dir_held_total held;
    struct yk_dir_rlog_counts log;
    *ret = core->counts;
    yk_dir_table_total(core->table, &load);
    yk_dir_held_total(core->held, &held);
    yk_dir_rlog_counts(core->log, &log);
    ret->entries = load.entries;
    ret->entry_bytes = load.bytes;
    ret->aliases = load.aliases;
    ret->held = held.blocks;
    ret->held_bytes = held.bytes;
    ret->unpublished = held.changes;
    ret->log_records = log.removes;
    ret->log_bytes = log.file_bytes;
    ret->removes_pending = core->asked;
    ret->conflicts_open = core->conflict_count;
    for (uint32_t s = 0; s < YK_DIR_SLOTS; s++) {
        ret->slots_owned += core->own[s] != NULL;
        ret->slots_whole += core->own[s] != NULL && core->own[s]->whole;
    }
}
