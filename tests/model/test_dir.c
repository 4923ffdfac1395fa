/* SPDX-License-Identifier: Apache-2.0
 *
 * The directory's protocol of removes, explored: scenarios that must hold, and rules each of which,
 * left out, must give a counterexample of the property that is named beside it.
 *
 * model_dir               all of them
 * model_dir SCENARIO      that one
 * model_dir SCENARIO RULE without that rule, with the counterexample; RULE is a row's name
 *
 * Threads: single-threaded.
 */
#include "dir_model.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_STATES = 1000000 }; /* 370 MB, if all are used */

#define SAW(what) (1U << SAW_##what)

static const struct scenario {
    const char *name;
    struct bounds bounds;
    uint32_t must; /* notes */
} scenarios[] = {
    /* Old and new owner, each as slow as it likes, and a node that is expelled and returns. */
    {"pause",
     {.nodes = 3, .removes = 1, .terms = 2, .expulsions = 1},
     SAW(DONE) | SAW(RETURN) | SAW(RESENT)},
    {"crash",
     {.nodes = 3, .removes = 1, .terms = 1, .expulsions = 1, .crashes = 1},
     SAW(DONE) | SAW(RETURN)},
    {"crash-owner",
     {.nodes = 2, .removes = 2, .terms = 2, .crashes = 1, .trims = 1},
     SAW(DONE) | SAW(RESENT) | SAW(TRIM)},
    {"order",
     {.nodes = 2, .removes = 2, .terms = 3, .puts = 1, .trims = 1},
     SAW(DONE) | SAW(RESENT) | SAW(TRIM) | SAW(PUT)},
    {"copy",
     {.nodes = 3, .removes = 1, .empty = 4, .terms = 2, .copies = 1, .puts = 1},
     SAW(DONE) | SAW(COPY) | SAW(COPY_REFUSED)},
    {"copy-trim",
     {.nodes = 3, .removes = 1, .empty = 4, .terms = 1, .copies = 1, .trims = 2},
     SAW(DONE) | SAW(COPY) | SAW(COPY_REFUSED) | SAW(TRIM)},
    {"copy-return",
     {.nodes = 2, .removes = 1, .empty = 2, .terms = 1, .expulsions = 1, .copies = 2, .trims = 1},
     SAW(DONE) | SAW(COPY) | SAW(RETURN)},
    {"return-trim",
     {.nodes = 2, .removes = 2, .terms = 1, .expulsions = 1, .trims = 2},
     SAW(DONE) | SAW(RETURN) | SAW(DROP)},
    {"return-twice",
     {.nodes = 2, .removes = 1, .terms = 1, .expulsions = 2, .puts = 1},
     SAW(DONE) | SAW(RETURN)},
    {"return-crash",
     {.nodes = 2, .removes = 1, .terms = 2, .expulsions = 1, .crashes = 1, .trims = 1},
     SAW(DONE) | SAW(RETURN) | SAW(DROP)},
    {"return-terms",
     {.nodes = 2, .removes = 1, .terms = 3, .expulsions = 1, .puts = 1, .trims = 1},
     SAW(DONE) | SAW(RETURN) | SAW(RESENT) | SAW(DROP)},
    /* etcd comes back empty; all nodes say what they know. */
    {"reset",
     {.nodes = 3, .removes = 1, .terms = 1, .expulsions = 1, .resets = 1},
     SAW(DONE) | SAW(RETURN) | SAW(RESENT)},
    {"reset-crash",
     {.nodes = 2, .removes = 1, .terms = 1, .expulsions = 1, .crashes = 1, .resets = 1},
     SAW(DONE) | SAW(RETURN) | SAW(RESENT)},
    /* All at once, as far as it fits. */
    {"pause-crash",
     {.nodes = 3, .removes = 1, .terms = 2, .expulsions = 1, .crashes = 1},
     SAW(DONE) | SAW(RETURN) | SAW(RESENT)},
    {"pause-copy",
     {.nodes = 3, .removes = 1, .empty = 4, .terms = 2, .expulsions = 1, .copies = 1},
     SAW(DONE) | SAW(RETURN) | SAW(RESENT) | SAW(COPY) | SAW(COPY_REFUSED)},
    {"order-return",
     {.nodes = 2, .removes = 2, .terms = 3, .expulsions = 1, .trims = 2},
     SAW(DONE) | SAW(RETURN) | SAW(RESENT) | SAW(TRIM) | SAW(DROP)},
    {"copy-crash",
     {.nodes = 2,
      .removes = 1,
      .empty = 2,
      .terms = 2,
      .expulsions = 1,
      .crashes = 1,
      .copies = 2,
      .trims = 1},
     SAW(DONE) | SAW(RETURN) | SAW(RESENT) | SAW(TRIM) | SAW(COPY) | SAW(COPY_REFUSED)},
};

#define IGNORE(what) (1U << (what))

static const struct row {
    const char *name;
    enum rule rule;
    const char *scenario;
    char property; /* that is broken; 0: none, a second defence */
    uint32_t ignored;
} rows[] = {
    {"term", RULE_TERM, "pause", '5', 0},
    {"term", RULE_TERM, "pause", '6', IGNORE(LOWER_TERM)},
    {"term-persists", RULE_TERM_PERSISTS, "crash-owner", '5', 0},
    {"durable", RULE_DURABLE, "crash", '1', 0},
    {"no-gaps", RULE_NO_GAPS, "order", '1', 0},
    {"copy-log", RULE_COPY_LOG, "copy", '1', 0},
    {"copy-reach", RULE_COPY_REACH, "copy-trim", '1', 0},
    {"gather", RULE_GATHER, "pause", '6', 0},
    {"tail-adopts", RULE_TAIL_ADOPTS, "pause", '6', 0},
    {"once", RULE_ONCE, "order", '4', 0},
    {"reach", RULE_REACH, "return-trim", '1', 0},
    {"announce", RULE_ANNOUNCE, "pause", '1', 0},
    {"count-return", RULE_COUNT_RETURN, "pause", '1', 0},
    {"replay-first", RULE_REPLAY_FIRST, "copy-return", '1', 0},
    {"replay-first", RULE_REPLAY_FIRST, "return-twice", '4', 0},
    {"serve-after", RULE_SERVE_AFTER, "return-trim", '2', 0},
    {"incarnation", RULE_INCARNATION, "return-twice", '1', 0},
    {"known-expelled", RULE_KNOWN_EXPELLED, "pause", '1', 0},
    {"new-life", RULE_NEW_LIFE, "crash-owner", '1', 0},
    {"trim-done", RULE_TRIM_DONE, "order", '6', 0},
    {"order", RULE_ORDER, "order", '1', 0},
    {"begun", RULE_BEGUN, "order", '1', 0},
    {"seed-expelled", RULE_SEED_EXPELLED, "reset", '1', 0},
    {"map-durable", RULE_MAP_DURABLE, "reset-crash", '1', 0},
    /* The number of the last remove carries its term and is on disk as well. */
    {"term-persists", RULE_TERM_PERSISTS, "copy-crash", 0, IGNORE(LOWER_TERM)},
};

enum {
    SCENARIOS = sizeof(scenarios) / sizeof(scenarios[0]),
    ROWS = sizeof(rows) / sizeof(rows[0])
};

static int failures;

static struct world_result explore(const char *name, enum rule without, uint32_t ignored,
                                   FILE *trace) {
    struct world_result res = {.failed = "no such scenario"};
    for (int i = 0; i < SCENARIOS; i++) {
        if (strcmp(scenarios[i].name, name) != 0)
            continue;
        dir_bounds = scenarios[i].bounds;
        dir_without = without;
        dir_ignored = ignored;
        if (world_explore(&dir_model, MAX_STATES, trace, &res) < 0)
            res.failed = "out of memory";
    }
    return res;
}

static void check_scenario(const struct scenario *s) {
    struct world_result res = explore(s->name, RULE_NONE, 0, stdout);
    bool ok = res.exhausted && (res.notes & s->must) == s->must;
    printf("%s %-13s %8u states, %2u steps%s%s\n", ok ? "ok  " : "FAIL", s->name, res.states,
           res.depth, res.failed ? ": " : "", res.failed ? res.failed : "");
    if (res.exhausted && !ok)
        printf("     never happened: %#x\n", s->must & ~res.notes);
    failures += !ok;
}

static void check_row(const struct row *r) {
    struct world_result res = explore(r->scenario, r->rule, r->ignored, NULL);
    bool ok = r->property ? res.failed && res.failed[0] == r->property : res.exhausted;
    printf("%s without %-15s %-13s %8u states: %s\n", ok ? "ok  " : "FAIL", r->name, r->scenario,
           res.states, res.failed ? res.failed : "no counterexample");
    failures += !ok;
}

/* Each rule is shown to be needed. */
static void check_rows_complete(void) {
    bool has[RULES] = {[RULE_NONE] = true};
    for (int i = 0; i < ROWS; i++)
        if (rows[i].property)
            has[rows[i].rule] = true;
    for (int r = 0; r < RULES; r++)
        if (!has[r]) {
            printf("FAIL no row leaves rule %d out\n", r);
            failures++;
        }
}

static int explore_one(const char *scenario, const char *row) {
    enum rule without = RULE_NONE;
    uint32_t ignored = 0;
    for (int i = 0; row && i < ROWS; i++)
        if (strcmp(rows[i].name, row) == 0 && strcmp(rows[i].scenario, scenario) == 0) {
            without = rows[i].rule;
            ignored = rows[i].ignored;
            break;
        }
    struct world_result res = explore(scenario, without, ignored, stdout);
    printf("%s: %u states, %u steps, %s\n", scenario, res.states, res.depth,
           res.failed      ? res.failed
           : res.exhausted ? "no counterexample"
                           : "not all of them");
    return 0;
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 1)
        return explore_one(argv[1], argc > 2 ? argv[2] : NULL);
    for (int i = 0; i < SCENARIOS; i++)
        check_scenario(&scenarios[i]);
    check_rows_complete();
    for (int i = 0; i < ROWS; i++)
        check_row(&rows[i]);
    printf("%s: %d failures\n", failures ? "FAIL" : "ok", failures);
    return failures > 0;
}
