/* SPDX-License-Identifier: Apache-2.0
 *
 * What this node, as a holder, tells the owners of slots (docs/decisions/0014, "Publish", "Snapshot"): changes of
 * a slot in order, each message again until it is answered, and a snapshot where the owner has nothing to
 * build on: it is new, it found a gap, or the list of changes grew too long.
 *
 * A slot has one message under way; an owner is told of YK_CORE_STREAMS slots at a time, the rest waits in its lane.
 * So an owner that is away costs its lane and no other. A piece of a snapshot is kept until it is answered, since
 * a second one of the same place may not reach as far as the first. Changes are made anew from held.h each time:
 * "all behind A, up to B" may be said with any B.
 *
 * Of slots at rest the owner is told the digest now and then; where its own is another one, it asks for a snapshot.
 *
 * Rules of the model: again (learn: a new owner gets a snapshot), new-life (learn, by core.c), answer-term (core.c's
 * take), old incarnations' answers (on_answer).
 *
 * Threads: as core.h.
 */
#include "dir/core_priv.h"

#include <stdlib.h>

static struct yk_core_lane *lane_of(struct yk_dir_core *core, const struct yk_core_hold *h) {
    int place = h->owner != YK_DIR_NOBODY ? yk_core_place(core, h->owner) : -1;
    return place < 0 ? NULL : &core->lane[place];
}

/* No message of it is under way any more. */
static void landed(struct yk_dir_core *core, struct yk_core_hold *h) {
    struct yk_core_lane *lane = lane_of(core, h);
    if (h->sent && lane != NULL)
        lane->sent--;
    h->sent = 0;
    h->retry = (struct yk_core_retry){0};
}

void yk_publish_lanes(struct yk_dir_core *core) {
    for (uint32_t s = 0; s < YK_DIR_SLOTS; s++) {
        struct yk_core_hold *h = &core->hold[s];
        struct yk_core_lane *lane = lane_of(core, h);
        h->queued = 0;
        h->sent &= lane != NULL;
        if (h->sent)
            lane->sent++;
    }
}

static void drop_piece(struct yk_core_hold *h) {
    free(h->piece);
    h->piece = NULL;
}

static int has_news(struct yk_dir_core *core, uint32_t slot) {
    struct yk_dir_stream stream;
    yk_dir_held_stream(core->held, slot, &stream);
    return core->hold[slot].snapshot || stream.snapshot || stream.seq > stream.confirmed;
}

void yk_publish_queue(struct yk_dir_core *core, uint32_t slot) {
    struct yk_core_hold *h = &core->hold[slot];
    if (h->queued || h->sent || !core->known || !yk_core_is(core, YK_DIR_MEMBER))
        return;
    struct yk_core_lane *lane = lane_of(core, h);
    if (lane == NULL || !has_news(core, slot))
        return;
    h->queued = 1;
    h->next = YK_DIR_SLOTS;
    if (lane->first == YK_DIR_SLOTS)
        lane->first = slot;
    else
        core->hold[lane->last].next = slot;
    lane->last = slot;
}

void yk_publish_learn(struct yk_dir_core *core, uint32_t slot) {
    struct yk_core_hold *h = &core->hold[slot];
    const struct yk_dir_slot *s = &core->map->slot[slot];
    int known = yk_core_is(core, YK_DIR_MEMBER) && s->term == yk_core_seen(core, slot);
    uint32_t owner = known ? s->owner : YK_DIR_NOBODY;
    uint64_t term = known ? s->term : 0;
    if (h->owner != owner || h->term != term) {
        landed(core, h);
        drop_piece(h);
        h->owner = owner;
        h->term = term;
        h->snapshot = 1;
    }
    yk_publish_queue(core, slot);
}

/* ---- sending -------------------------------------------------------------------------------------- */

static int put_items(struct yk_wr *w, const struct yk_dir_item *items, int count) {
    for (int i = 0; i < count; i++) {
        struct yk_dir_change change = {.alias = items[i].alias, .block = items[i].block};
        if (!yk_dir_msg_change(w, &change))
            return i;
    }
    return count;
}

static struct yk_dir_msg head_of(const struct yk_dir_core *core, unsigned kind, uint32_t slot) {
    struct yk_dir_msg msg = yk_core_msg(core, kind, slot);
    msg.incarnation = core->me->incarnation;
    return msg;
}

/* The piece of a snapshot behind the last one. 0, or -YK_ENOMEM. */
static int make_piece(struct yk_dir_core *core, uint32_t slot) {
    struct yk_core_hold *h = &core->hold[slot];
    struct yk_core_piece at = {.more = 1};
    struct yk_dir_msg msg = head_of(core, YK_DIR_SNAPSHOT, slot);
    struct yk_wr w;
    if (h->piece != NULL) {
        at = *h->piece;
        at.number++;
    } else {
        at.id = ++core->snapshots;
        yk_dir_held_snapshot(core->held, slot, &at.seq);
    }
    drop_piece(h);
    msg.a = at.seq;
    msg.b = (uint64_t)at.id << 32 | at.number;
    yk_dir_msg_begin(&w, core->buf, &msg);
    uint32_t count = 0;
    do {
        int n = yk_dir_held_piece(core->held, slot, &at.cursor, core->items, YK_DIR_HELD_PIECE_MIN, &at.more);
        count += (uint32_t)put_items(&w, core->items, n);
    } while (at.more && yk_wr_len(&w) < YK_CORE_PIECE);
    msg.flags = at.more ? 0 : YK_DIR_LAST;
    at.len = yk_dir_msg_finish(&w, &msg, count);
    h->piece = malloc(sizeof(*h->piece) + at.len);
    if (h->piece == NULL)
        return -YK_ENOMEM;
    *h->piece = at;
    memcpy(h->piece->bytes, core->buf, at.len);
    return 0;
}

/* Puts the changes that were not confirmed into core->buf. Its length; 0: there are none; -YK_ESTALE: only a snapshot
 * helps. */
static int make_changes(struct yk_dir_core *core, uint32_t slot) {
    struct yk_dir_msg msg = head_of(core, YK_DIR_PUBLISH, slot);
    struct yk_dir_stream stream;
    uint32_t max = core->opts.batch;
    yk_dir_held_stream(core->held, slot, &stream);
    msg.a = stream.confirmed;
    for (;;) {
        struct yk_wr w;
        int n = yk_dir_held_batch(core->held, slot, msg.a, core->items, max, &msg.b);
        if (n < 0 || msg.b == msg.a)
            return n;
        yk_dir_msg_begin(&w, core->buf, &msg);
        int fit = put_items(&w, core->items, n);
        msg.flags = msg.b == stream.seq ? YK_DIR_LAST : 0;
        if (fit == n)
            return (int)yk_dir_msg_finish(&w, &msg, (uint32_t)n);
        max = (uint32_t)fit;
    }
}

/* Sends what the owner needs next. 0: nothing. */
static int send_next(struct yk_dir_core *core, uint32_t slot) {
    struct yk_core_hold *h = &core->hold[slot];
    struct yk_dir_stream stream;
    yk_dir_held_stream(core->held, slot, &stream);
    h->snapshot |= stream.snapshot;
    int len = h->snapshot ? 0 : make_changes(core, slot);
    h->snapshot |= len < 0;
    if (!h->snapshot && len == 0)
        return 0;
    if (h->snapshot && (h->piece != NULL || make_piece(core, slot) == 0)) {
        len = (int)h->piece->len;
        memcpy(core->buf, h->piece->bytes, h->piece->len);
        core->counts.snapshots_sent += h->piece->number == 0;
    }
    yk_core_later(core, &h->retry); /* without memory for a piece, too */
    yk_core_add(&core->live, slot);
    if (len > 0)
        yk_core_send(core, h->owner, (uint32_t)len);
    return 1;
}

void yk_publish_go(struct yk_dir_core *core) {
    for (uint32_t i = 0; i < core->map->member_count; i++) {
        struct yk_core_lane *lane = &core->lane[i];
        while (lane->first != YK_DIR_SLOTS && lane->sent < YK_CORE_STREAMS) {
            uint32_t slot = lane->first;
            struct yk_core_hold *h = &core->hold[slot];
            lane->first = h->next;
            h->queued = 0;
            if (h->owner != core->map->member[i].id) {
                yk_publish_queue(core, slot); /* it has another owner since */
                continue;
            }
            h->sent = (uint8_t)send_next(core, slot);
            lane->sent += h->sent;
        }
    }
}

int yk_publish_tick(struct yk_dir_core *core, uint32_t slot) {
    struct yk_core_hold *h = &core->hold[slot];
    if (!h->sent)
        return 0;
    if (yk_core_due(core, &h->retry) && !send_next(core, slot))
        landed(core, h);
    return h->sent;
}

/* ---- digests (R12) ------------------------------------------------------------------------------- */

/* Of a slot whose owner has confirmed all: 1: it was told. */
static int tell_digest(struct yk_dir_core *core, uint32_t slot) {
    const struct yk_core_hold *h = &core->hold[slot];
    struct yk_dir_stream stream;
    struct yk_dir_held_load load;
    yk_dir_held_stream(core->held, slot, &stream);
    if (h->owner == YK_DIR_NOBODY || h->sent || h->snapshot || h->piece != NULL || stream.snapshot || stream.seq == 0 ||
        stream.seq != stream.confirmed)
        return 0;
    yk_dir_held_load(core->held, slot, &load);
    struct yk_dir_msg msg = head_of(core, YK_DIR_DIGEST, slot);
    msg.a = stream.seq;
    msg.b = load.digest;
    core->counts.digests_sent++;
    yk_core_tell(core, h->owner, msg);
    return 1;
}

/* One after the other at a slow pace, each once and not again: what is lost comes with the next round. */
void yk_publish_digests(struct yk_dir_core *core) {
    uint32_t looked = 0;
    if (core->opts.digest_ms == UINT32_MAX || !core->known || !yk_core_is(core, YK_DIR_MEMBER))
        return;
    for (uint32_t told = 0; core->digest_at_ms <= core->now_ms && told < YK_CORE_DIGESTS; told++) {
        int one = 0;
        for (; !one && looked < YK_DIR_SLOTS; looked++) {
            one = tell_digest(core, core->digest_slot);
            core->digest_slot = (core->digest_slot + 1u) % YK_DIR_SLOTS;
        }
        core->digest_at_ms += core->opts.digest_ms;
        if (core->digest_at_ms + (uint64_t)core->opts.digest_ms * YK_CORE_DIGESTS < core->now_ms)
            core->digest_at_ms = core->now_ms; /* this node stood still */
    }
}

/* ---- answers -------------------------------------------------------------------------------------- */

static void on_taken(struct yk_dir_core *core, uint32_t slot, const struct yk_dir_msg *msg) {
    struct yk_core_hold *h = &core->hold[slot];
    if (h->piece == NULL || msg->b != ((uint64_t)h->piece->id << 32 | (h->piece->number + 1)) || !h->piece->more)
        return;
    landed(core, h);
    if (make_piece(core, slot) < 0)
        h->snapshot = 1; /* from its beginning, when there is memory */
    yk_publish_queue(core, slot);
}

static void on_confirm(struct yk_dir_core *core, uint32_t slot, const struct yk_dir_msg *msg) {
    struct yk_core_hold *h = &core->hold[slot];
    if (msg->flags & YK_DIR_WANT) {
        if (h->piece != NULL && h->piece->number == 0)
            return; /* it is on its way */
        drop_piece(h);
        h->snapshot = 1;
    } else {
        if (h->piece != NULL && msg->a >= h->piece->seq) {
            drop_piece(h);
            h->snapshot = 0;
        }
        yk_dir_held_confirm(core->held, slot, msg->a);
        core->counts.published++;
    }
    landed(core, h);
    yk_told_look(core, slot);
    yk_publish_queue(core, slot);
}

void yk_publish_answer(struct yk_dir_core *core, uint32_t from, const struct yk_dir_msg *msg) {
    const struct yk_core_hold *h = &core->hold[msg->slot];
    if (from != h->owner || msg->term != h->term || core->me == NULL || msg->incarnation != core->me->incarnation)
        return;
    if (msg->kind == YK_DIR_TAKEN)
        on_taken(core, msg->slot, msg);
    else
        on_confirm(core, msg->slot, msg);
}
