/* SPDX-License-Identifier: Apache-2.0
 *
 * Whose turn it is: copies, takes and pulls are done so many at a time, and the rest waits.
 *
 * Somebody waits for some of them: for the blocks that a request lacks, for the copies of a put. Others nobody waits for:
 * prefetches, the keeping of hot chains, moves, drains, repairs; and of these there may be thousands at once. So the first
 * have their turn before the others, and a quarter of all places and turns is theirs alone: else those under way, which
 * may be slow, had all of them. The others may wait for long, while the first have all turns but one: they have deadlines
 * of their own, and whoever wants them asks again. That one is theirs, else a drain, or the repair of what was lost with
 * a node, would stand still for as long as there is enough to wait for.
 *
 * Threads: the directory's loop.
 */
#include "dir/dir_priv.h"

static uint32_t for_later(uint32_t max) {
    return max - max / DIR_TURNS_KEPT;
}

void dir_turns_init(struct dir_turns *t, uint32_t max, uint32_t busy_max) {
    *t = (struct dir_turns){.max = max, .busy_max = busy_max};
    dir_list_init(&t->queued[0]);
    dir_list_init(&t->queued[1]);
    dir_list_init(&t->busy);
}

int dir_turns_add(struct dir_turns *t, struct dir_turn *turn, int later) {
    if (t->count >= t->max || (later && t->later_count >= for_later(t->max)))
        return -YK_EAGAIN;
    turn->later = later != 0;
    turn->begun = 0;
    dir_list_add(&t->queued[turn->later], &turn->at);
    t->count++;
    t->later_count += turn->later;
    return 0;
}

struct dir_turn *dir_turns_next(struct dir_turns *t) {
    unsigned later = dir_list_empty(&t->queued[0]) || (t->later_busy == 0 && !dir_list_empty(&t->queued[1]));
    if (t->busy_count >= t->busy_max || dir_list_empty(&t->queued[later]) ||
        (later && t->later_busy >= for_later(t->busy_max)))
        return NULL;
    struct dir_turn *turn = DIR_ITEM(t->queued[later].next, struct dir_turn, at);
    dir_list_remove(&turn->at);
    dir_list_add(&t->busy, &turn->at);
    turn->begun = 1;
    t->busy_count++;
    t->later_busy += later;
    return turn;
}

void dir_turns_hurry(struct dir_turns *t, struct dir_turn *turn) {
    if (!turn->later)
        return;
    turn->later = 0;
    t->later_count--;
    if (turn->begun) {
        t->later_busy--;
        return;
    }
    dir_list_remove(&turn->at);
    dir_list_add(&t->queued[0], &turn->at);
}

void dir_turns_end(struct dir_turns *t, struct dir_turn *turn) {
    dir_list_remove(&turn->at);
    t->count--;
    t->later_count -= turn->later;
    t->busy_count -= turn->begun;
    t->later_busy -= turn->begun && turn->later;
}
