/* SPDX-License-Identifier: Apache-2.0
 *
 * What the owner of a slot does with what holders publish (docs/decisions/0014): publications, snapshots, when a
 * slot is whole, and copies with other bytes than an earlier one (R8).
 *
 * Where the rules of tests/model/test_dir_table.c are:
 *
 *   NO_GAPS, REPEATS      on_publish
 *   OLD_SNAPSHOT          on_snapshot
 *   LIFE, NEW_LIFE        lives
 *   TERM                  core.c, take
 *   AGAIN, ANSWER_TERM    publish.c
 *   EXPELLED_MUTE         lives
 *   EXPELLED_OUT          core.c, forget; yk_owner_members
 *   WHOLE                 yk_share_whole
 *
 * A digest of the holder's that differs from the table's asks for a snapshot (on_digest).
 *
 * While a snapshot comes in, no changes are taken: they would be of before it, or come again behind it.
 *
 * R8: table.h keeps the copy that was published first. The other's holder is told to drop exactly that
 * (key, generation), again until it says that it has; a new owner finds out by itself. Of copies in one group the
 * owner of the group's slot judges, of copies in different groups that of the key's own slot, which has them all, as
 * entries or as aliases: never both of them, or each might tell another one to go.
 *
 * Threads: as core.h.
 */
#include "dir/core_priv.h"

#include <stdlib.h>
#include <string.h>

void yk_share_reset(struct yk_core_share *share, uint64_t incarnation) {
    share->incarnation = incarnation;
    share->seq = share->told = 0;
    share->snap_id = share->snap_next = 0;
    share->synced = share->snapping = 0;
    share->again = share->doubt = share->skip = 0;
}

void yk_share_whole(struct yk_dir_core *core, struct yk_core_own *own) {
    int whole = 1;
    for (uint32_t i = 0; i < core->map->member_count && whole; i++)
        if (core->map->member[i].state == YK_DIR_MEMBER)
            whole = own->share[i].synced && own->share[i].incarnation >= core->map->member[i].incarnation;
    own->whole = (uint8_t)whole;
}

static void confirm(struct yk_dir_core *core, uint32_t member, const struct yk_core_own *own,
                    const struct yk_core_share *share, uint8_t flags) {
    struct yk_dir_msg msg = yk_core_msg(core, YK_DIR_CONFIRM, own->slot);
    msg.incarnation = share->incarnation;
    msg.a = share->seq;
    msg.flags = flags;
    yk_core_tell(core, member, msg);
}

void yk_share_want(struct yk_dir_core *core, struct yk_core_own *own) {
    for (uint32_t i = 0; i < core->map->member_count; i++) {
        const struct yk_dir_member *m = &core->map->member[i];
        struct yk_core_share *share = &own->share[i];
        if (m->state != YK_DIR_MEMBER || share->synced || share->snapping)
            continue;
        if (share->incarnation < m->incarnation)
            yk_share_reset(share, m->incarnation);
        confirm(core, m->id, own, share, YK_DIR_WANT);
    }
}

/* ---- copies that lost ------------------------------------------------------------------------------ */

static void tell_drop(struct yk_dir_core *core, struct yk_core_conflict *c) {
    struct yk_dir_msg msg = yk_core_msg(core, YK_DIR_DROP, c->slot);
    struct yk_wr w;
    msg.a = c->gen;
    yk_dir_msg_begin(&w, core->buf, &msg);
    yk_dir_msg_record(&w, &(struct yk_dir_record){.key = c->key});
    yk_core_later(core, &c->retry);
    yk_core_send(core, c->member, yk_dir_msg_finish(&w, &msg, 1));
}

/* Beyond the limit a copy stays what it is without being noted: one that nobody else finds, until its holder
 * publishes it to another owner. */
static void add_conflict(struct yk_dir_core *core, uint32_t slot, uint32_t member, const struct yk_dir_block *b) {
    core->counts.conflicts++;
    for (const struct yk_core_conflict *c = core->conflicts; c != NULL; c = c->next)
        if (c->gen == b->gen && c->member == member && c->slot == slot && yk_core_same_key(&c->key, &b->key))
            return; /* (of blocks on SSD alone, those with the same bytes have the same generation) */
    struct yk_core_conflict *c = NULL;
    if (core->conflict_count < YK_CORE_DROPS)
        c = calloc(1, sizeof(*c) + b->key.ns_len + b->key.key_len);
    if (c == NULL)
        return;
    char *text = (char *)(c + 1);
    memcpy(text, b->key.ns, b->key.ns_len);
    memcpy(text + b->key.ns_len, b->key.key, b->key.key_len);
    c->key = (struct yk_dir_key){text, b->key.ns_len, text + b->key.ns_len, b->key.key_len};
    c->slot = (uint16_t)slot;
    c->member = member;
    c->gen = b->gen;
    c->next = core->conflicts;
    core->conflicts = c;
    core->conflict_count++;
    tell_drop(core, c);
}

static void end_conflict(struct yk_dir_core *core, struct yk_core_conflict **at) {
    struct yk_core_conflict *c = *at;
    *at = c->next;
    core->conflict_count--;
    free(c);
}

static void on_dropped(struct yk_dir_core *core, uint32_t from, struct yk_dir_msg *msg) {
    struct yk_dir_record record;
    yk_dir_msg_next_record(&msg->items, &record);
    for (struct yk_core_conflict **at = &core->conflicts; *at != NULL; at = &(*at)->next)
        if ((*at)->member == from && (*at)->slot == msg->slot && (*at)->gen == msg->a &&
            yk_core_same_key(&(*at)->key, &record.key)) {
            end_conflict(core, at);
            return;
        }
}

void yk_share_tick(struct yk_dir_core *core) {
    for (struct yk_core_conflict **at = &core->conflicts; *at != NULL;) {
        int place = yk_core_place(core, (*at)->member);
        if (place < 0 || core->map->member[place].state != YK_DIR_MEMBER) {
            end_conflict(core, at); /* what it has counts for nothing, and is told again if it returns */
            continue;
        }
        if (yk_core_due(core, &(*at)->retry))
            tell_drop(core, *at);
        at = &(*at)->next;
    }
}

void yk_share_lose(struct yk_dir_core *core, uint32_t slot) {
    for (struct yk_core_conflict **at = &core->conflicts; *at != NULL;)
        if ((*at)->slot == slot)
            end_conflict(core, at);
        else
            at = &(*at)->next;
    yk_dir_table_drop_slot(core->table, slot);
}

/* ---- what holders say ------------------------------------------------------------------------------ */

static int note_alias(struct yk_dir_core *core, uint32_t slot, uint32_t member, uint64_t inc, uint64_t hash,
                      const struct yk_dir_block *b) {
    if (b->tiers == 0)
        return yk_dir_table_alias_drop(core->table, slot, member, inc, hash, b->epoch, b->group, b->sum);
    return yk_dir_table_alias_add(core->table, slot, member, inc, hash, b->epoch, b->group, b->sum);
}

static int note_block(struct yk_dir_core *core, uint32_t slot, uint32_t member, uint64_t inc, uint64_t hash,
                      const struct yk_dir_block *b) {
    if (b->tiers == 0)
        return yk_dir_table_drop(core->table, slot, member, inc, &b->key, hash, b->epoch);
    return yk_dir_table_add(core->table, slot, member, inc, b, hash);
}

/* What is gone may be of an epoch that is over. */
static void tell_epoch(const struct yk_dir_core *core, const struct yk_dir_block *b, struct yk_dir_block *io_last) {
    if (b->tiers == 0 || core->opts.ops.epoch == NULL ||
        (io_last->epoch == b->epoch && io_last->key.ns_len == b->key.ns_len &&
         memcmp(io_last->key.ns, b->key.ns, b->key.ns_len) == 0))
        return;
    *io_last = *b;
    core->opts.ops.epoch(core->opts.ops.arg, b->key.ns, b->key.ns_len, b->epoch);
}

static void note_all(struct yk_dir_core *core, uint32_t member, struct yk_dir_msg *msg) {
    struct yk_dir_block last = {.key = {.ns = ""}};
    for (uint32_t i = 0; i < msg->count; i++) {
        struct yk_dir_change change;
        const struct yk_dir_block *b = &change.block;
        yk_dir_msg_next_change(&msg->items, &change);
        tell_epoch(core, b, &last);
        uint64_t hash = yk_dir_hash(b->key.ns, b->key.ns_len, b->key.key, b->key.key_len);
        int rc = (change.alias ? note_alias : note_block)(core, msg->slot, member, msg->incarnation, hash, b);
        if (rc == -YK_ECONFLICT)
            add_conflict(core, msg->slot, member, b);
        else
            core->counts.not_noted += rc < 0;
    }
}

/* It is a member, and in no earlier life than is known. */
static int lives(struct yk_dir_core *core, int place, struct yk_core_share *share, uint64_t incarnation) {
    const struct yk_dir_member *m = &core->map->member[place];
    if (m->state != YK_DIR_MEMBER || incarnation < m->incarnation || incarnation < share->incarnation)
        return 0;
    if (incarnation > share->incarnation)
        yk_share_reset(share, incarnation);
    return 1;
}

static void on_publish(struct yk_dir_core *core, struct yk_core_own *own, uint32_t from,
                       struct yk_core_share *share, struct yk_dir_msg *msg) {
    if (share->snapping)
        return;
    if (!share->synced || msg->a > share->seq) {
        confirm(core, from, own, share, YK_DIR_WANT);
        return;
    }
    if (msg->b > share->seq) {
        note_all(core, from, msg);
        share->seq = msg->b;
    }
    confirm(core, from, own, share, 0);
}

/* Every snapshot of a holder's life has an id, higher than those before; pieces of one come one after the other. */
static void on_snapshot(struct yk_dir_core *core, struct yk_core_own *own, uint32_t from,
                        struct yk_core_share *share, struct yk_dir_msg *msg) {
    uint32_t id = (uint32_t)(msg->b >> 32), number = (uint32_t)msg->b;
    /* After a digest that differed, one of what the owner has already; but none of before. */
    int again = share->again && msg->a == share->seq && (share->snapping ? id >= share->snap_id : id > share->snap_id);
    if (share->synced && msg->a <= share->seq && !again) {
        confirm(core, from, own, share, 0);
        return;
    }
    if (id < share->snap_id)
        return;
    if (number == 0 && (!share->snapping || id > share->snap_id)) {
        yk_dir_table_snapshot_begin(core->table, msg->slot, from, msg->incarnation);
        share->snapping = 1;
        share->snap_id = id;
        share->snap_next = 0;
    }
    if (!share->snapping || id != share->snap_id || number > share->snap_next) {
        confirm(core, from, own, share, YK_DIR_WANT);
        return;
    }
    if (number == share->snap_next) {
        note_all(core, from, msg);
        share->snap_next++;
        if (msg->flags & YK_DIR_LAST) {
            yk_dir_table_snapshot_end(core->table, msg->slot, from, msg->incarnation);
            share->snapping = share->again = 0;
            share->synced = 1;
            share->seq = msg->a;
            core->counts.snapshots_taken++;
            yk_share_whole(core, own);
            confirm(core, from, own, share, 0);
            return;
        }
    }
    struct yk_dir_msg taken = yk_core_msg(core, YK_DIR_TAKEN, msg->slot);
    taken.incarnation = msg->incarnation;
    taken.a = msg->a;
    taken.b = (uint64_t)id << 32 | share->snap_next;
    yk_core_tell(core, from, taken);
}

/* R12: both sides count what the holder has. Compared is what both have at one number; where it differs all of it is
 * asked for anew, and what is known counts until it has come. What goes on to differ (there was no room in the table for
 * all) is asked for less and less often. */
static void on_digest(struct yk_dir_core *core, struct yk_core_own *own, uint32_t from, struct yk_core_share *share,
                      const struct yk_dir_msg *msg) {
    struct yk_dir_share known = {0};
    if (!share->synced || share->snapping || share->seq != msg->a)
        return;
    (void)yk_dir_table_share(core->table, own->slot, from, &known);
    if (known.digest == msg->b) {
        share->again = share->doubt = share->skip = 0;
        return;
    }
    core->counts.digests_differed++;
    if (share->skip > 0) {
        share->skip--;
        return;
    }
    share->skip = share->doubt;
    share->doubt = (uint8_t)(2u * share->doubt + 1u < YK_CORE_DOUBT_MAX ? 2u * share->doubt + 1u : YK_CORE_DOUBT_MAX);
    share->again = 1;
    confirm(core, from, own, share, YK_DIR_WANT);
}

void yk_share_message(struct yk_dir_core *core, struct yk_core_own *own, uint32_t from, struct yk_dir_msg *msg) {
    int place = yk_core_place(core, from);
    if (msg->kind == YK_DIR_DROPPED)
        on_dropped(core, from, msg);
    else if (!lives(core, place, &own->share[place], msg->incarnation))
        return; /* it says it again when both have the same map */
    else if (msg->kind == YK_DIR_PUBLISH)
        on_publish(core, own, from, &own->share[place], msg);
    else if (msg->kind == YK_DIR_DIGEST)
        on_digest(core, own, from, &own->share[place], msg);
    else
        on_snapshot(core, own, from, &own->share[place], msg);
}
