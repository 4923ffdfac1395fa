/* SPDX-License-Identifier: Apache-2.0
 *
 * What the commands of yolk share: the command table, the common options, exit codes, errors.
 *
 * A command is one `const struct yolk_cmd`, listed in commands.c and nowhere else. Its options are
 * rows of the option table (src/base/opt.h) over a config struct of its own, which begins with
 * struct yolk_common: main parses, opens nothing, and calls fn; a command that needs the node calls
 * yolk_open. --help and yolk(1) come from the same rows. getopt with a switch was rejected for the
 * reasons that opt.h gives.
 *
 * Output: results on standard output, with --json one JSON object a line and nothing else; errors
 * are one line on standard error. fn returns the exit code.
 *
 * Threads: one; top handles signals by a descriptor.
 */
#ifndef YOLK_CMD_H
#define YOLK_CMD_H

#include "base/json.h"
#include "base/opt.h"
#include "base/status.h"

#include <yolk/yolk.h>

enum yolk_exit {
    YOLK_OK = 0,
    YOLK_FAIL = 1,
    YOLK_USAGE = 2,
    YOLK_MISS =
        3, /* a block, or all of them, is not there; bench: what to compare with is missing */
    YOLK_CONFLICT = 4,
    YOLK_INTERRUPTED = 130, /* as the shell says it of what died of SIGINT */
};

/* Options of every command. First member of each command's config. */
struct yolk_common {
    char *url;
    char *name_space;
    int64_t epoch;
    uint64_t timeout_ns;
    bool json;
    bool map, shm; /* both must allow it */
    bool xfer;
    char *rails;
    char *transports;
    char *rdma;
};

/* Of an option: a list that yk_xfer_transports takes. */
int yolk_check_transports(const char *text, struct yk_err *err);

struct yolk_ctx;

/* The command works without a node: of the common options it takes --json only. */
#define YOLK_CMD_LOCAL (1u << 0)
/* It puts blocks: opening with a higher --epoch raises the namespace's. */
#define YOLK_CMD_PUTS (1u << 1)

struct yolk_cmd {
    const char *name;
    const char *args; /* "KEY [FILE]"; NULL: takes none */
    size_t min_args, max_args;
    const char *help; /* one line, for the list of commands */
    const char *more; /* sentences for --help and the manual; NULL: none */
    const struct yk_opt *options;
    size_t n_options;
    size_t config_bytes; /* of the struct that begins with struct yolk_common */
    unsigned flags;
    int (*fn)(struct yolk_ctx *ctx);
};

/* Initialises options and n_options from an array. */
#define YOLK_CMD_OPTIONS(rows) .options = (rows), .n_options = sizeof(rows) / sizeof((rows)[0])

/* In the order of --help; NULL at the end. */
extern const struct yolk_cmd *const yolk_commands[];

struct yolk_ctx {
    const struct yolk_cmd *cmd;
    void *config;                     /* the command's struct, filled */
    const struct yolk_common *common; /* the beginning of it */
    const struct yk_opts *opts;
    const char *const *args;
    size_t n_args;
    yk_client *client; /* after yolk_open; main closes it */
};

/* The figures of a limit that a call has met (EQUOTA, ELIMIT of hard pins), to be put behind its text;
 * "" for any other status. Asks the node. Returns buf. */
#define YOLK_LIMIT_TEXT_MAX 512
char *yolk_limit_text(const struct yolk_ctx *ctx, int status, char buf[YOLK_LIMIT_TEXT_MAX]);

/* Connects as the common options say. 0, or an exit code after the error was printed. Commands without
 * YOLK_CMD_PUTS make no namespace: one that is not there ends them with YOLK_MISS. */
int yolk_open(struct yolk_ctx *ctx, uint32_t more_flags);
/* The same for what concerns the node, and no namespace. */
int yolk_open_node(struct yolk_ctx *ctx);
uint32_t yolk_timeout_ms(const struct yolk_ctx *ctx);

/* "yolk: TEXT" on standard error; returns code. */
int yolk_fail(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The same for a failed call of libyolk: its text, or for a miss "get 'k': not here" from what and
 * key (NULL: none). Returns the exit code that fits the status. */
int yolk_fail_call(const struct yolk_ctx *ctx, int status, const char *what, const yk_key *key);
int yolk_exit_of(int status);

/* Flushes standard output: code, or YOLK_FAIL after a message when it could not be written. */
int yolk_finish(int code);

/* ---- main.c, man.c ---- */

/* A command's full option table: its rows, then the common ones. rows is the caller's, of at least
 * YOLK_ROWS_MAX. */
#define YOLK_ROWS_MAX 64
struct yolk_table {
    struct yk_opt rows[YOLK_ROWS_MAX];
    struct yk_opt_spec spec;
    char program[64]; /* "yolk put" */
    char summary[2048];
};
void yolk_table_make(const struct yolk_cmd *cmd, struct yolk_table *ret_table);

/* The table of the common options alone: `yolk --help`. */
extern const struct yk_opt_spec yolk_common_spec;

const struct yolk_cmd *yolk_command_find(const char *name);
void yolk_print_help(FILE *out);
void yolk_print_man(FILE *out);

#endif
