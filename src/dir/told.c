/* SPDX-License-Identifier: Apache-2.0
 *
 * A remove is answered for when everybody has been told that its copies are gone.
 *
 * What goes from this node is published to the owner of the block's group, a remove is answered to the owner of
 * the key's own slot: two ways, and the second may be quicker (the first owner was cut off for a while, say). Then a
 * remove is done, and a table still has the copy; the next put of that key, with other bytes, would be taken for the
 * loser of a conflict with it (R8) and dropped. So no answer leaves before the publications of all that had
 * changed here when the remove was applied are confirmed.
 *
 * That is kept by rounds, one at a time: a round begins with the numbers that all slots have reached, and ends when the
 * owners have confirmed them. Who waits, waits for a round that has not begun yet. A slot that finds a new owner
 * meanwhile is told by its snapshot. Nobody has this node in a table while it is no member, or before it
 * knows what it holds: then nothing is waited for.
 *
 * For one block the same is asked by a mark (core.h): of a copy that is to be acknowledged (docs/decisions/0017).
 *
 * Threads: as core.h.
 */
#include "dir/core_priv.h"

static int publishes(const struct yk_dir_core *core) {
    return core->known && yk_core_is(core, YK_DIR_MEMBER);
}

/* The slot's owner has not confirmed all up to `seq`, or gets all of it by a snapshot. */
static int owes(const struct yk_dir_core *core, uint32_t slot, uint64_t seq) {
    const struct yk_core_hold *h = &core->hold[slot];
    struct yk_dir_stream stream;
    yk_dir_held_stream(core->held, slot, &stream);
    if (stream.seq == 0)
        return 0; /* nothing was ever here */
    return h->snapshot || h->piece != NULL || stream.snapshot || stream.confirmed < seq;
}

static void end_round(struct yk_dir_core *core) {
    struct yk_core_told *t = &core->told;
    t->ended = t->begun;
    for (uint32_t s = 0; s < YK_DIR_SLOTS; s++)
        if (core->hold[s].told == t->ended)
            yk_core_add(&core->unsettled, s);
}

static void begin_round(struct yk_dir_core *core) {
    struct yk_core_told *t = &core->told;
    struct yk_dir_stream stream;
    t->begun++;
    t->left = 0;
    for (uint32_t s = 0; s < YK_DIR_SLOTS && publishes(core); s++) {
        yk_dir_held_stream(core->held, s, &stream);
        if (!owes(core, s, stream.seq))
            continue;
        t->seq[s] = stream.seq;
        t->left++;
    }
    if (t->left == 0)
        end_round(core);
}

void yk_told_want(struct yk_dir_core *core, uint32_t slot) {
    core->hold[slot].told = core->told.wanted = core->told.begun + 1;
}

int yk_told(const struct yk_dir_core *core, uint32_t slot) {
    return core->hold[slot].told <= core->told.ended;
}

void yk_told_look(struct yk_dir_core *core, uint32_t slot) {
    struct yk_core_told *t = &core->told;
    if (t->seq[slot] == 0 || owes(core, slot, t->seq[slot]))
        return;
    t->seq[slot] = 0;
    if (--t->left == 0)
        end_round(core);
}

void yk_told_anew(struct yk_dir_core *core) {
    struct yk_core_told *t = &core->told;
    for (uint32_t s = 0; s < YK_DIR_SLOTS; s++)
        t->seq[s] = 0;
    if (t->left > 0) {
        t->left = 0;
        end_round(core);
    }
}

void yk_told_go(struct yk_dir_core *core) {
    struct yk_core_told *t = &core->told;
    if (t->left > 0 && !publishes(core))
        yk_told_anew(core);
    if (t->left == 0 && t->wanted > t->begun)
        begin_round(core);
}

/* ---- one block ------------------------------------------------------------------------------------- */

int yk_dir_core_mark(const struct yk_dir_core *core, const struct yk_dir_key *key, uint64_t epoch,
                     struct yk_dir_mark *ret) {
    uint64_t hash = yk_dir_hash(key->ns, key->ns_len, key->key, key->key_len);
    struct yk_dir_stream stream;
    struct yk_dir_block b;
    if (core->me == NULL || !yk_dir_held_find(core->held, key, hash, epoch, &b))
        return 0;
    ret->incarnation = core->me->incarnation;
    ret->slot[0] = yk_dir_slot_of(b.group);
    ret->slot[1] = yk_dir_slot_of(hash);
    for (int i = 0; i < 2; i++) {
        yk_dir_held_stream(core->held, ret->slot[i], &stream);
        ret->seq[i] = stream.seq;
    }
    return 1;
}

int yk_dir_core_is_told(const struct yk_dir_core *core, const struct yk_dir_mark *mark) {
    if (core->me == NULL || core->me->incarnation != mark->incarnation)
        return -YK_ESTALE;
    return publishes(core) && !owes(core, mark->slot[0], mark->seq[0]) && !owes(core, mark->slot[1], mark->seq[1]);
}
