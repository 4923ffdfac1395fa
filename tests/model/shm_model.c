/* SPDX-License-Identifier: Apache-2.0
 *
 * The modelled protocol's memory layout, starting state, crashes, deaths and invariants, and how a
 * counterexample is printed.
 *
 * Threads: single-threaded.
 */
#include "shm_model.h"

#include <stddef.h>
#include <string.h>

const struct scenario *sc;
enum mut mut, mut2;
struct layout at;
const uint8_t key_of[8] = {NONE, A, C, A, B, C, A, B};

static uint8_t names[MC_MAX_LOCS][3]; /* kind, numbers */
static const char *const state_name[] = {"FREE",    "RESERVED", "COMMITTED",
                                         "SUSPECT", "MOVING",   "RETIRED"};

static uint8_t number(char kind, int a, int b) {
    names[at.n][0] = (uint8_t)kind;
    names[at.n][1] = (uint8_t)a;
    names[at.n][2] = (uint8_t)b;
    return (uint8_t)at.n++;
}

static bool copies_references(void) {
    return sc->look[0][0].kind == LOOK_COPY;
}

static void layout(void) {
    memset(&at, 0, sizeof(at));
    for (int d = 0; d < sc->ndesc; d++) {
        at.word[d] = number('w', d, 0);
        at.key[d] = number('k', d, 0);
        at.sum[d] = number('s', d, 0);
        at.off[d] = number('o', d, 0);
        at.crc[d] = number('c', d, 0);
    }
    for (int s = 0; s < sc->nslot; s++)
        at.cell[s] = number('p', s, 0);
    at.nhazards = (uint8_t)(sc->nreaders + copies_references());
    for (int i = 0; i < at.nhazards; i++)
        at.hazard[i] = number('h', i, 0);
    for (int i = 0; sc->tops && i < at.nhazards; i++)
        at.top[i] = number('T', i, 0);
    at.active = number('a', 0, 0);
    for (int a = 0; a <= (sc->crashes > 0); a++) {
        at.table[a] = number('t', a, 0);
        for (int b = 0; b < 2; b++) {
            at.version[a][b] = number('v', a, b);
            for (int i = 0; i < sc->nent; i++)
                at.entry[a][b][i] = number('e', a, b << 4 | i);
        }
    }
    for (int i = 0; sc->chain && i < 3; i++) {
        at.next[i] = number('n', i, 0);
        at.over[i] = number('E', i, 0);
    }
    for (int i = 0; i < MAX_MAIL; i++)
        at.mail[i] = number('m', i, 0);
    if (sc->writer_ver) {
        at.grant = number('g', 0, 0);
        at.commit = number('G', 0, 0);
    }
}

/* Fields that readers under a hazard read: the owner must not write them before it knows they're
 * done. */
static void track_fields(struct mc *mc) {
    int slot = 0;
    for (int d = 0; d < sc->ndesc; d++) {
        mc_private(mc, at.crc[d]);
        mc_track(mc, at.sum[d], slot++);
        mc_track(mc, at.off[d], slot++);
    }
    for (int s = 0; s < sc->nslot; s++)
        mc_track(mc, at.cell[s], slot++);
}

static void init_block(struct mc *mc, int d, int ver) {
    struct owner *o = mc_local_of(mc, 0);
    mc_init_loc(mc, at.word[d], word_of(++o->gen, COMMITTED));
    mc_init_loc(mc, at.key[d], key_of[ver]);
    mc_init_loc(mc, at.sum[d], (uint8_t)ver);
    mc_init_loc(mc, at.off[d], (uint8_t)d);
    mc_init_loc(mc, at.crc[d], crc_of(key_of[ver], ver, d));
    mc_init_loc(mc, at.cell[d], (uint8_t)ver);
    mc_init_loc(mc, sc->chain ? at.over[2] : at.entry[0][0][d], entry_of(key_of[ver], d));
    o->dfree &= (uint8_t) ~(1 << d);
    o->sfree &= (uint8_t) ~(1 << d);
}

static void init(struct mc *mc) {
    struct owner *o = mc_local_of(mc, 0);
    o->dfree = (uint8_t)((1 << sc->ndesc) - 1);
    o->sfree = (uint8_t)((1 << sc->nslot) - 1);
    o->gen = 1;
    mc_init_loc(mc, at.table[0], 1);
    for (int i = 0; sc->chain && i < 2; i++)
        mc_init_loc(mc, at.next[i], (uint8_t)(i + 1));
    for (int d = 0; d < sc->ndesc; d++)
        if (sc->block[d])
            init_block(mc, d, sc->block[d]);
        else
            mc_init_loc(mc, at.word[d], word_of(1, FREE));
    track_fields(mc);
}

/* kill -9 of the owner, which a new one follows; deaths of readers and the writer. */
static bool interrupt(struct mc *mc, int t, int what) {
    struct owner *o = mc_local_of(mc, 0);
    if (what > 0)
        return false;
    if (t > 0) {
        if (!sc->deaths)
            return false;
        mc_stop(mc, t);
        mc_say(mc, "%s is killed", t <= sc->nreaders ? "reader" : "writer");
        return true;
    }
    if (o->crashes == sc->crashes)
        return false;
    memset(o, 0, offsetof(struct owner, crashes));
    o->crashes++;
    o->recovering = 1;
    mc_note(mc, SAW_CRASH);
    mc_say(mc, "is killed, a new owner starts");
    mc_restart(mc, 0, FN_OWNER);
    return true;
}

static bool live(enum state st) {
    return st == COMMITTED || st == SUSPECT;
}

/* In program order of the owner: a block's payload is its own, no two share a slot, and what is
 * acknowledged as gone is gone. */
static void invariant(struct mc *mc) {
    const struct owner *o = mc_local_of(mc, 0);
    if (mc_self(mc) != 0)
        return;
    for (int d = 0; d < sc->ndesc; d++) {
        if (!live(state_of(mc_latest(mc, at.word[d]))))
            continue;
        int sum = mc_latest(mc, at.sum[d]), off = mc_latest(mc, at.off[d]);
        if (mc_latest(mc, at.cell[off]) != sum || key_of[sum] != mc_latest(mc, at.key[d]))
            mc_fail(mc, "descriptor %d is committed over a payload that isn't its own", d);
        if (o->gone >> sum & 1)
            mc_fail(mc, "version %d is back after it was acknowledged as gone", sum);
        for (int e = 0; e < d; e++)
            if (live(state_of(mc_latest(mc, at.word[e]))) && mc_latest(mc, at.off[e]) == off)
                mc_fail(mc, "descriptors %d and %d share slot %d", d, e, off);
    }
}

static void print_loc(FILE *f, int loc) {
    const uint8_t *n = names[loc];
    switch (n[0]) {
    case 'v':
        fprintf(f, "version[area %d][bucket %d]", n[1], n[2]);
        return;
    case 'E':
        fprintf(f, "entry[overflow %d]", n[1]);
        return;
    case 'e':
        fprintf(f, "entry[area %d][bucket %d][%d]", n[1], n[2] >> 4, n[2] & 15);
        return;
    default:
        break;
    }
    const char *text = n[0] == 'w'   ? "word"
                       : n[0] == 'k' ? "key"
                       : n[0] == 's' ? "sum"
                       : n[0] == 'o' ? "off"
                       : n[0] == 'c' ? "crc"
                       : n[0] == 'p' ? "payload"
                       : n[0] == 'h' ? "hazard"
                       : n[0] == 'a' ? "active"
                       : n[0] == 'T' ? "hazard_top"
                       : n[0] == 't' ? "table"
                       : n[0] == 'n' ? "next"
                       : n[0] == 'm' ? "mail"
                       : n[0] == 'g' ? "grant"
                                     : "commit";
    fprintf(f, "%s[%d]", text, n[1]);
}

static void print_val(FILE *f, int loc, int val) {
    switch (names[loc][0]) {
    case 'w':
        fprintf(f, "(%d, %s)", gen_of((uint8_t)val), state_name[state_of((uint8_t)val)]);
        return;
    case 'a':
        fprintf(f, "(incarnation %d, area %d)", val >> 1, val & 1);
        return;
    case 'e':
    case 'E':
        if (val)
            fprintf(f, "(tag %d, descriptor %d)", val >> 4, (val & 15) - 1);
        else
            fputs("empty", f);
        return;
    case 'h':
        if (val)
            fprintf(f, "descriptor %d", val - 1);
        else
            fputs("none", f);
        return;
    default:
        fprintf(f, "%d", val);
    }
}

static const mc_fn fns[FNS] = {
    [FN_OWNER] = shm_owner,     [FN_PUT] = shm_put,         [FN_UPSERT] = shm_upsert,
    [FN_REMOVE] = shm_remove,   [FN_RETIRE] = shm_retire,   [FN_HAZARDS] = shm_hazards,
    [FN_SCAN] = shm_scan,       [FN_DRAIN] = shm_drain,     [FN_COMPACT] = shm_compact,
    [FN_SPLIT] = shm_split,     [FN_TRIM] = shm_trim,       [FN_RELOCATE] = shm_relocate,
    [FN_RESERVE] = shm_reserve, [FN_SETTLE] = shm_settle,   [FN_RECOVER] = shm_recover,
    [FN_ZERO] = shm_zero,       [FN_REBUILD] = shm_rebuild, [FN_LOSERS] = shm_retire_losers,
    [FN_READER] = shm_reader,   [FN_LOOKUP] = shm_lookup,   [FN_PASS] = shm_pass,
    [FN_ENTER] = shm_enter,     [FN_PIN] = shm_pin,         [FN_USE] = shm_use,
    [FN_COPY] = shm_copy,       [FN_PEEK] = shm_peek,       [FN_STEADY] = shm_steady,
    [FN_WRITER] = shm_writer,
};

struct mc_model shm_model(void) {
    layout();
    struct mc_model m = {
        .name = sc->name,
        .nthreads = 1 + sc->nreaders + (sc->writer_ver > 0),
        .nlocs = at.n,
        .fn = fns,
        .entry = {FN_OWNER, FN_READER, FN_READER},
        .thread_name = {"owner", "reader 1", "reader 2"},
        .init = init,
        .interrupt = interrupt,
        .invariant = invariant,
        .print_loc = print_loc,
        .print_val = print_val,
    };
    m.entry[1 + sc->nreaders] = FN_WRITER;
    m.thread_name[1 + sc->nreaders] = "writer";
    return m;
}
