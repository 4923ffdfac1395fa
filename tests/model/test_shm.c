/* SPDX-License-Identifier: Apache-2.0
 *
 * Explores the shared-memory protocol (shm_model.h; docs/decisions/0002-shm-protocol-model.md).
 *
 * First every scenario as the protocol is: no counterexample in either memory, and everything that
 * the scenario is about did happen. Then every mutation: with one step taken away there must be a
 * counterexample (or none, where the step is a second defence; then the pair is tried, too).
 *
 *   model_shm                        all of it, one line each
 *   model_shm deep                   the large scenarios, which make check leaves out
 *   model_shm SCENARIO [MUT [MUT]]   one, in both memories, with the shortest counterexample
 *
 * Not cmocka: a table of explorations with their figures reads better than one of test names.
 *
 * Threads: single-threaded.
 */
#include "shm_model.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* In which memories the counterexample is expected. */
enum { NEVER = 0, ON_TSO = 1 << MC_TSO, ON_WEAK = 1 << MC_WEAK, BOTH = ON_TSO | ON_WEAK };

struct row {
    const char *name, *name2, *scenario;
    enum mut mut, mut2;
    int caught; /* in these; in the others it is not tried, unless NEVER: then in both */
};

#define ONE(m, scenario, caught)                                                                   \
    { #m, "", scenario, MUT_##m, MUT_NONE, caught }
#define TWO(m, m2, scenario, caught)                                                               \
    { #m, #m2, scenario, MUT_##m, MUT_##m2, caught }

/* clang-format off */
static const struct row rows[] = {
    ONE(NO_READER_FENCE, "reuse-1", BOTH),
    ONE(NO_READER_FENCE, "move", BOTH),
    ONE(NO_RECHECK, "reuse-1", BOTH),
    ONE(HAZARD_SET_RELAXED, "batch-1", ON_WEAK),
    ONE(HAZARD_CLEAR_RELAXED, "reuse-1", ON_WEAK),
    ONE(NO_KEY_COMPARE, "reuse-1", BOTH),
    ONE(CLEAR_BEFORE_USE, "reuse-1", BOTH),
    ONE(COPY_UNCHECKED, "copy", BOTH),
    ONE(TOP_AFTER_FENCE, "reuse-1", BOTH),
    ONE(MATCH_NO_RECHECK, "match", BOTH),
    ONE(MATCH_NO_FENCE, "match", ON_WEAK),
    ONE(MATCH_W1_RELAXED, "match", ON_WEAK),
    ONE(MATCH_STATE_ONLY, "match", BOTH),
    ONE(MOVING_IS_ABSENT, "move", BOTH),
    ONE(UNREADABLE_IS_ABSENT, "move", BOTH),
    ONE(UNREADABLE_IS_ABSENT, "crash-swap", BOTH),
    ONE(MISS_NO_VERSION, "upsert-1", BOTH),
    ONE(MISS_NO_VERSION, "relocate", BOTH),
    ONE(MISS_NO_TABLE, "crash-split", BOTH),
    ONE(MISS_NO_ACTIVE, "crash-other", BOTH),
    ONE(MISS_RELAXED, "crash-twice", ON_WEAK),
    ONE(MISS_ACTIVE_FIRST, "crash-twice", BOTH),
    ONE(ACTIVE_RELAXED, "crash-other", ON_WEAK),
    ONE(TABLE_RELAXED, "crash-split", ON_WEAK),
    ONE(VERSION_RELAXED, "relocate", ON_WEAK),
    ONE(NO_RETIRE_FENCE, "reuse-1", BOTH),
    ONE(NO_RETIRE_SCAN, "reuse-1", BOTH),
    ONE(SCAN_RELAXED, "reuse-1", ON_WEAK),
    ONE(SCAN_ONE_READER, "reuse", BOTH),
    ONE(FENCE_BEFORE_RETIRE, "reuse-1", BOTH),
    ONE(NO_RETIRE_WORD, "reuse-1", BOTH),
    ONE(COMMIT_RELAXED, "reuse-1", ON_WEAK),
    ONE(COMMIT_BEFORE_FIELDS, "reuse-1", BOTH),
    ONE(GENERATION_REPEATS, "match", BOTH),
    ONE(FREE_NOT_STORED, "crash", BOTH),
    ONE(SWAP_NO_BUMP, "upsert-1", BOTH),
    ONE(BUMP_BEFORE_SWAP, "upsert-1", BOTH),
    ONE(BUMP_RELAXED, "relocate", ON_WEAK),
    ONE(SPLIT_DELETE_FIRST, "crash-split", BOTH),
    ONE(SPLIT_PUBLISH_FIRST, "crash-split", BOTH),
    ONE(SPLIT_PUBLISH_RELAXED, "crash-split", ON_WEAK),
    ONE(SPLIT_DELETE_RELAXED, "crash-split", ON_WEAK),
    ONE(RELOCATE_NO_BUMP, "relocate", BOTH),
    ONE(RELOCATE_DELETE_FIRST, "relocate", BOTH),
    ONE(RELOCATE_BUMP_FIRST, "relocate", BOTH),
    ONE(TRIM_NO_BUMP, "trim", BOTH),
    ONE(TRIM_BUMP_FIRST, "trim", BOTH),
    ONE(TRIM_REUSE_RELAXED, "trim", ON_WEAK),
    ONE(ACK_BEFORE_RETIRE, "remove", BOTH),
    ONE(MOVE_NO_FENCE, "move", BOTH),
    ONE(MOVE_NO_SCAN, "move", BOTH),
    ONE(MOVE_NO_MOVING, "move", BOTH),
    ONE(MOVE_OFFSET_BEFORE_SCAN, "move", BOTH),
    ONE(MOVE_COPY_LAST, "move", BOTH),
    ONE(MOVE_COMMIT_RELAXED, "move", ON_WEAK),
    ONE(MOVE_SAME_GENERATION, "move-match", BOTH),
    ONE(RECOVER_NO_FENCE, "crash", ON_WEAK),
    ONE(RECOVER_NO_SCAN, "crash", BOTH),
    ONE(RECOVER_LOWER_WINS, "crash-swap", BOTH),
    ONE(RECOVER_KEEP_LOSER, "crash-upsert", BOTH),
    ONE(RECOVER_LOSER_NO_FENCE, "crash-upsert", BOTH),
    ONE(RECOVER_FLIP_FIRST, "crash-other", BOTH),
    ONE(RECOVER_FLIP_RELAXED, "crash-other", ON_WEAK),
    ONE(RECOVER_IN_PLACE, "crash-other", BOTH),
    ONE(RECOVER_ZERO_FIRST, "crash-other", BOTH),
    ONE(RECOVER_ZERO_NO_FENCE, "crash-other", ON_WEAK),
    ONE(RECOVER_NEW_GENERATION, "crash-swap", BOTH),
    ONE(RECOVER_DROP_MOVING, "crash-move", BOTH),
    ONE(RECOVER_KEEP_RETIRED, "remove", BOTH),
    ONE(RECOVER_FREE_RESERVED, "writer-crash", BOTH),
    ONE(ACTIVE_NO_INCARNATION, "crash-split", BOTH),
    ONE(WRITER_TIMEOUT, "writer", BOTH),
    ONE(READER_TIMEOUT, "writer", BOTH),
    /* Second defences: alone they may go, with their partner they may not. */
    ONE(RETIRE_BEFORE_BUMP, "upsert-1", NEVER),
    TWO(RETIRE_BEFORE_BUMP, UNREADABLE_IS_ABSENT, "upsert-1", BOTH),
    ONE(RETIRE_RELAXED, "upsert-1", NEVER),
    TWO(RETIRE_RELAXED, UNREADABLE_IS_ABSENT, "upsert-1", ON_WEAK),
    ONE(SWAP_BEFORE_COMMIT, "upsert-1", NEVER),
    TWO(SWAP_BEFORE_COMMIT, UNREADABLE_IS_ABSENT, "upsert-1", BOTH),
    ONE(SWAP_RELAXED, "upsert-1", NEVER),
    TWO(SWAP_RELAXED, UNREADABLE_IS_ABSENT, "upsert-1", ON_WEAK),
    ONE(ENTRY_RELAXED, "upsert-1", NEVER),
    TWO(ENTRY_RELAXED, UNREADABLE_IS_ABSENT, "upsert-1", ON_WEAK),
    ONE(MISS_NO_FENCE, "relocate", NEVER),
    TWO(MISS_NO_FENCE, ENTRY_RELAXED, "relocate", ON_WEAK),
    ONE(RECOVER_RETIRE_LAST, "crash-swap", NEVER),
    ONE(GET_W1_RELAXED, "reuse-1", NEVER),
    ONE(GET_W2_RELAXED, "reuse-1", NEVER),
    TWO(GET_W1_RELAXED, GET_W2_RELAXED, "move", NEVER), /* the sc fence does it */
    ONE(RECHECK_STATE_ONLY, "reuse-1", NEVER), /* the hazard does it */
    ONE(LOCATION_BEFORE_RECHECK, "move", NEVER), /* the generation does it */
    ONE(RESTORE_RELAXED, "move-match", NEVER), /* the sc fence before it does it */
    ONE(VERIFY_RELAXED, "crash-suspect", NEVER), /* nothing changed but the state */
};
/* clang-format on */

static int failures;

static const struct scenario *scenario_named(const char *name) {
    for (const struct scenario *s = shm_scenarios; s->name; s++)
        if (strcmp(s->name, name) == 0)
            return s;
    fprintf(stderr, "model_shm: no scenario '%s'\n", name);
    exit(2);
}

static enum mut mut_named(const char *name) {
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (strcmp(rows[i].name, name) == 0)
            return rows[i].mut;
    fprintf(stderr, "model_shm: no mutation '%s'\n", name);
    exit(2);
}

static struct mc_result explore(const struct scenario *s, enum mut m, enum mut m2,
                                const struct mc_opts *opts) {
    sc = s;
    mut = m;
    mut2 = m2;
    struct mc_model model = shm_model();
    struct mc_result res;
    if (mc_explore(&model, opts, &res) < 0) {
        printf("FAIL %s: over %u states, or out of memory\n", s->name, res.states);
        failures++;
    }
    return res;
}

static const char *memory(int mode) {
    return mode == MC_TSO ? "TSO " : "weak";
}

static void check_scenario(const struct scenario *s, enum mc_mode mode) {
    struct mc_opts opts = {.mode = mode, .trace = stdout, .max_states = s->deep ? 30000000 : 0};
    clock_t t0 = clock();
    struct mc_result res = explore(s, MUT_NONE, MUT_NONE, &opts);
    bool ok = res.exhausted && (res.notes & s->must) == s->must;
    printf("%s %-13s %s %8u states %8llu steps %5.2f s  %s%s\n", ok ? "ok  " : "FAIL", s->name,
           memory(mode), res.states, (unsigned long long)res.steps,
           (double)(clock() - t0) / CLOCKS_PER_SEC, s->what, res.failed ? res.text : "");
    if (res.exhausted && !ok)
        printf("     %s: never happened: %#llx\n", s->name,
               (unsigned long long)(s->must & ~res.notes));
    failures += !ok;
}

static void check_row(const struct row *r, enum mc_mode mode) {
    if (r->caught && !(r->caught & 1 << mode))
        return;
    struct mc_opts opts = {.mode = mode};
    struct mc_result res = explore(scenario_named(r->scenario), r->mut, r->mut2, &opts);
    bool ok = r->caught ? res.failed : res.exhausted;
    printf("%s %s%s%s, %s %s %8u states: %s\n", ok ? "ok  " : "FAIL", r->name, r->mut2 ? " + " : "",
           r->name2, r->scenario, memory(mode), res.states,
           res.failed ? res.text : "no counterexample");
    failures += !ok;
}

/* Each mutation has a row of its own. */
static void check_rows_complete(void) {
    bool has[MUTS] = {[MUT_NONE] = true};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (!rows[i].mut2)
            has[rows[i].mut] = true;
    for (int m = 0; m < MUTS; m++)
        if (!has[m]) {
            printf("FAIL mutation %d has no row\n", m);
            failures++;
        }
}

/* What the reduction leaves out changes no verdict: small scenarios without it. */
static void check_reduction(const char *name, enum mut m, enum mc_mode mode, bool fails) {
    struct mc_opts opts = {.mode = mode, .full = true};
    struct mc_result res = explore(scenario_named(name), m, MUT_NONE, &opts);
    bool ok = fails ? res.failed : res.exhausted;
    printf("%s unreduced %-13s %s %8u states, mutation %d\n", ok ? "ok  " : "FAIL", name,
           memory(mode), res.states, m);
    failures += !ok;
}

static int explore_one(int argc, char **argv) {
    enum mut m = argc > 2 ? mut_named(argv[2]) : MUT_NONE;
    enum mut m2 = argc > 3 ? mut_named(argv[3]) : MUT_NONE;
    for (int mode = 0; mode < MC_MODES; mode++) {
        struct mc_opts opts = {.mode = mode, .bfs = true, .trace = stdout};
        struct mc_result res = explore(scenario_named(argv[1]), m, m2, &opts);
        printf("%s %s: %u states, %s\n", argv[1], memory(mode), res.states,
               res.failed ? res.text : "no counterexample");
    }
    return 0;
}

static void check_scenarios(bool deep) {
    for (const struct scenario *s = shm_scenarios; s->name; s++)
        for (int mode = 0; mode < MC_MODES && s->deep == deep; mode++)
            check_scenario(s, mode);
}

static void check_rows(void) {
    check_rows_complete();
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        for (int mode = 0; mode < MC_MODES; mode++)
            check_row(&rows[i], mode);
}

static void check_reductions(void) {
    static const char *const small[] = {"reuse-1", "copy", "relocate", "upsert-1", "writer-crash"};
    for (size_t i = 0; i < sizeof(small) / sizeof(small[0]); i++)
        for (int mode = 0; mode < MC_MODES; mode++)
            check_reduction(small[i], MUT_NONE, mode, false);
    check_reduction("reuse-1", MUT_NO_READER_FENCE, MC_TSO, true);
    check_reduction("reuse-1", MUT_SCAN_RELAXED, MC_WEAK, true);
    check_reduction("relocate", MUT_BUMP_RELAXED, MC_WEAK, true);
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    bool deep = argc == 2 && strcmp(argv[1], "deep") == 0;
    if (argc > 1 && !deep)
        return explore_one(argc, argv);
    check_scenarios(deep);
    if (!deep) {
        check_rows();
        check_reductions();
    }
    printf("%s: %d failures\n", failures ? "FAIL" : "ok", failures);
    return failures > 0;
}
