/* SPDX-License-Identifier: Apache-2.0
 *
 * The balancer's plan: which slots move to whom next. It is a plan in small steps: each call gives a bounded
 * list, and what is measured after those moves decides the next ones.
 *
 * A member's weight is half its share of the slots and half its share of the measured load, so that a cold
 * cluster is balanced by number and one hot slot does not empty its owner. The heaviest gives to the
 * lightest until all are within `slack` of the mean, or a move would only swap who is heavier. Nobody gives
 * below half, or takes above twice, its fair number of slots: what one slot weighs is not known, only its
 * owner's load, and a hot slot must not be chased around.
 *
 * Limits are per interval, counted from its first move: moves in all; an eighth of what a member had, for
 * who gives; an eighth of a fair share, for who takes (an empty member is filled over minutes). A slot that
 * moved stays for an interval. A draining member gives up to what is allowed in all. Suspect members neither
 * take nor, unless they drain, give. Slots of an expelled member are not planned here: they go at once
 * (yk_dir_map_expel).
 *
 * Hurry: somebody asked for balance now. Until a plan made from loads that were measured after the last move finds
 * nothing to do, the limits of an interval are lifted; those of a plan, and the rest of a slot that moved, hold.
 *
 * Zones play no part: any node may look up any slot, and a slot has one owner.
 *
 * Threads: pure; an object is its holder's. No clock: time is passed in.
 */
#ifndef YK_DIR_BALANCE_H
#define YK_DIR_BALANCE_H

#include "dir/map.h"

#ifdef __cplusplus
extern "C" {
#endif

struct yk_balance;

/* Zero means the default in brackets. */
struct yk_balance_opts {
    uint32_t interval_ms; /* longer than loads need to be measured and told [10,000] */
    uint32_t moves;       /* in an interval, in all [256] */
    uint32_t batch;       /* in a plan [64] */
    uint32_t slack_ppm;   /* so far from the mean is balanced [50,000] */
};

/* What is known of a member now. Who is in the map as a member and not in the list is taken for suspect. */
struct yk_balance_member {
    uint32_t id;
    uint8_t suspect;
    double load; /* what it serves as an owner, in any unit that all share; not finite or below 0: as 0 */
};

struct yk_balance_move {
    uint32_t slot, to;
};

/* NULL: no memory. */
struct yk_balance *yk_balance_new(const struct yk_balance_opts *opts);
void yk_balance_free(struct yk_balance *balance);

/* The next moves, at most `batch` of them, none of a slot to its owner, taken for made: who does not make
 * them loses nothing but time. ret_moves has room for `batch`. Returns how many; 0: nothing to do now. */
uint32_t yk_balance_plan(struct yk_balance *balance, const struct yk_dir_map *map,
                         const struct yk_balance_member *members, uint32_t count, uint64_t now_ms,
                         struct yk_balance_move *ret_moves);

void yk_balance_hurry(struct yk_balance *balance);

/* What the last plan came to. */
struct yk_balance_rest {
    uint8_t hurries;     /* asked for, and not at rest yet */
    uint8_t even;        /* all are within the slack, and who drains has nothing left */
    uint32_t worst;      /* member whose weight is farthest from the mean; YK_DIR_NOBODY: there is none */
    double share;        /* its weight, in shares of the mean */
    uint32_t suspect;    /* a member that can neither give nor take; YK_DIR_NOBODY: none */
    uint32_t left;       /* slots of draining members */
};
void yk_balance_rest(const struct yk_balance *balance, struct yk_balance_rest *ret);

#ifdef __cplusplus
}
#endif

#endif
