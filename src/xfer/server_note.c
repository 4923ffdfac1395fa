/* SPDX-License-Identifier: Apache-2.0
 *
 * Notifications that arrive once. One whose lane broke before its answer is repeated over another, with
 * the same number: the numbers of the last thousands are kept, and what is among them is dropped.
 *
 * A table of sets of four, by a hash of initiator and number; in a set the oldest makes room. A number
 * is lost too early only if four others of its set come within one deadline. Rejected: the highest
 * number of each initiator (lanes overtake each other).
 *
 * Thread: the server's.
 */
#include "server_priv.h"

#include <stdlib.h>

#define SETS 2048u
#define WAYS 4u

struct yk_in_notes {
    struct {
        uint64_t incarnation, number;
    } seen[SETS][WAYS];
    uint8_t oldest[SETS];
};

static uint32_t set_of(uint64_t incarnation, uint64_t number) {
    return (uint32_t)((incarnation ^ number) * 0x9e3779b97f4a7c15ull >> 53);
}

int yk_in_note(struct yk_in_lane *l, uint64_t number, const void *data, uint32_t len) {
    struct yk_server *s = l->server;
    if (s->env.note == NULL)
        return -YK_ENOTSUP;
    if (number == 0)
        return s->env.note(s->env.user, l->peer, data, len);
    if (s->notes == NULL && (s->notes = calloc(1, sizeof(*s->notes))) == NULL)
        return -YK_ENOMEM;
    uint32_t set = set_of(l->incarnation, number);
    for (uint32_t i = 0; i < WAYS; i++)
        if (s->notes->seen[set][i].incarnation == l->incarnation && s->notes->seen[set][i].number == number)
            return 0;
    int rc = s->env.note(s->env.user, l->peer, data, len);
    if (rc != 0)
        return rc;
    uint32_t way = s->notes->oldest[set]++ % WAYS;
    s->notes->seen[set][way].incarnation = l->incarnation;
    s->notes->seen[set][way].number = number;
    return 0;
}
