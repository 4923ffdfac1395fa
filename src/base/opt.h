/* SPDX-License-Identifier: Apache-2.0
 *
 * Options from one table: command line, environment, configuration file, --help and manual page.
 *
 * A program describes each option in one row (name, type, where it lands in the program's config
 * struct, default, limits, help). Everything else is derived from the row, so that a flag can't be
 * missing from the manual or be checked in one place and not in another. getopt and argp were
 * rejected since they know neither files nor units; a generic key-value store was rejected since
 * the code that uses an option would then look its name up at run time.
 *
 * Precedence: command line, environment, file, default; whatever the order of the calls. A value
 * that loses is checked all the same.
 *
 * Command line   --dram 8G, --dram=8G, -d 8G, -d8G; --json, --no-json, --json=no; -qv for -q -v;
 *                -- ends the options; options and arguments may be mixed. Names are not abbreviated
 *                (a later option would change the meaning of a script). --help and -h are built in.
 * Environment    YOLK_DRAM for --dram, YOLK_CHECK_CONFIG for --check-config. An empty variable is
 * as good as none. File           one `name = value` a line. '#' at the start of a line or after a
 * blank begins a comment. A value may stand in double quotes, with \" \\ \n \t inside; it must if
 *                it holds a '#' after a blank or begins or ends with one. `[section]` headers are
 *                optional; under one, only options of that section. An option set twice is an
 * error, lists excepted. Lists          items separated by commas; setting the option again in the
 * same place appends.
 *
 * Errors are one line: the place ('yolkd.conf:12: dram', 'environment YOLK_DRAM', '--dram'), what
 * was found, what was expected, and for unknown names the nearest known one.
 *
 * Thread: one at a time; after loading, the config struct is the caller's to share.
 */
#ifndef YK_BASE_OPT_H
#define YK_BASE_OPT_H

#include "base/parse.h"
#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The comment names the type of the field in the config struct. */
enum yk_opt_type {
    YK_OPT_BOOL,     /* bool */
    YK_OPT_INT,      /* int64_t or int; counts such as 10k are accepted */
    YK_OPT_SIZE,     /* uint64_t, bytes */
    YK_OPT_DURATION, /* uint64_t, nanoseconds */
    YK_OPT_PERCENT,  /* double, 0 to 1 */
    YK_OPT_REAL,     /* double */
    YK_OPT_STR,      /* char *, owned by the config; NULL if never set */
    YK_OPT_ENUM,     /* int, index into values */
    YK_OPT_ADDR,     /* struct yk_addr; empty text or "none" is YK_ADDR_NONE */
    YK_OPT_LIST,     /* struct yk_opt_list */
};

#define YK_OPT_LIST_MAX 256

struct yk_opt_list {
    char **items; /* owned by the config */
    size_t n;
};

enum yk_opt_flags {
    YK_OPT_NO_FILE = 1 << 0,     /* not allowed in a file */
    YK_OPT_NO_ENV = 1 << 1,      /* not taken from the environment */
    YK_OPT_SECRET = 1 << 2,      /* printed as (hidden), never quoted in an error */
    YK_OPT_CONFIG_FILE = 1 << 3, /* STR: names the file that yk_opt_load reads; implies NO_FILE */
};

#define YK_OPT_NAME_MAX 40

struct yk_opt {
    const char *name; /* "dram": a-z, 0-9 and '-', begins with a letter, not with "no-" */
    char letter;      /* 'd' for -d; 0: none */
    enum yk_opt_type type;
    size_t offset; /* these two: YK_OPT_AT */
    size_t field_size;
    const char *def;           /* as text; NULL: no, 0, none, the first of values */
    const char *min;           /* as text, of numeric types; NULL: no limit */
    const char *max;           /* likewise */
    const char *const *values; /* NULL-ended; ENUM; LIST: what its items may be, or NULL */
    const char *metavar;       /* "SIZE"; NULL: from the type */
    const char *section;       /* lower case; NULL: general */
    const char *help;          /* one or more sentences */
    unsigned flags;
    /* Further check of an STR or ADDR, or of each item of a LIST; NULL: none. Its text follows the place, so
     * it begins as those of parse.h do. */
    int (*check)(const char *text, struct yk_err *err);
};

/* Initialises offset and field_size: {.name = "dram", ..., YK_OPT_AT(struct config, dram_bytes)} */
#define YK_OPT_AT(type, field)                                                                     \
    .offset = offsetof(type, field), .field_size = sizeof(((type *)NULL)->field)

enum yk_opt_spec_flags {
    YK_OPT_STOP_AT_ARG = 1 << 0, /* the first argument ends the options: `yolk --json put -x` */
    /* A variable that begins with the prefix and is near an option's name but isn't one is an
     * error. Others are let pass: orchestrators add their own (YOLK_SERVICE_HOST). */
    YK_OPT_STRICT_ENV = 1 << 1,
};

struct yk_opt_spec {
    const char *program;    /* "yolkd", "yolk put" */
    const char *args;       /* "KEY [FILE]"; NULL: takes none */
    const char *summary;    /* a sentence or a paragraph for --help */
    const char *env_prefix; /* "YOLK_"; NULL: no environment */
    const struct yk_opt *options;
    size_t n_options;
    size_t min_args;
    size_t max_args;
    unsigned flags;
};

struct yk_opt_state;

/* Fields are private but for args and n_args: the arguments that are no options, borrowed from
 * argv. */
struct yk_opts {
    const struct yk_opt_spec *spec;
    void *config;
    struct yk_opt_state *states; /* one for each option */
    const char **args;
    size_t n_args;
    uint32_t run; /* counts sources read, to tell a repetition from another source */
};

/* Checks the table and fills config (borrowed until fini, old contents ignored) with the defaults.
 * -YK_EINVAL if the table is wrong: a mistake of the program, found at its first start. */
int yk_opt_init(struct yk_opts *opts, const struct yk_opt_spec *spec, void *config,
                struct yk_err *err);

/* Frees what init and the parsers allocated, strings and lists of the config included (they become
 * NULL). Fine after a failed init, and on zeroed memory. */
void yk_opt_fini(struct yk_opts *opts);

#define YK_OPT_HELP 1 /* --help or -h was given; nothing after it was read */

/* argv[0] is skipped. 0, YK_OPT_HELP or -YK_EINVAL. */
int yk_opt_parse_args(struct yk_opts *opts, int argc, char *const *argv, struct yk_err *err);

/* envp is NULL-ended, such as environ. */
int yk_opt_parse_env(struct yk_opts *opts, char *const *envp, struct yk_err *err);

/* Reads a file of at most YK_OPT_FILE_MAX bytes. -YK_ENOENT if it isn't there. */
#define YK_OPT_FILE_MAX (1u << 20)
int yk_opt_parse_file(struct yk_opts *opts, const char *path, struct yk_err *err);

/* The same from memory; path is for messages. */
int yk_opt_parse_text(struct yk_opts *opts, const char *path, const char *text, size_t len,
                      struct yk_err *err);

/* All of it: arguments, environment, then the file named by the option with YK_OPT_CONFIG_FILE (a
 * default file need not exist, nor one with a '-' before its name, as in systemd; another that was asked
 * for must). Returns as parse_args does. */
int yk_opt_load(struct yk_opts *opts, int argc, char *const *argv, char *const *envp,
                struct yk_err *err);

/* Whether an option's value came from anywhere but its default. name must be in the table. */
bool yk_opt_is_set(const struct yk_opts *opts, const char *name);

/* For checks between options: writes "PLACE: text" with the place where the named option's value
 * came from, returns -YK_EINVAL. */
int yk_opt_fail(const struct yk_opts *opts, const char *name, struct yk_err *err, const char *fmt,
                ...) __attribute__((format(printf, 4, 5)));

/* ---- texts from the table ---- */

/* --help, at most 80 columns. */
void yk_opt_print_help(const struct yk_opt_spec *spec, FILE *out);

/* Sections OPTIONS, ENVIRONMENT and, if there is a file, CONFIGURATION FILE of a manual page, in
 * man(7) macros. */
void yk_opt_print_man(const struct yk_opt_spec *spec, FILE *out);

/* For pages that describe several commands: the rows of a table without headings, and any text as
 * troff reads it. */
void yk_opt_print_man_rows(const struct yk_opt_spec *spec, FILE *out);
void yk_opt_man_text(FILE *out, const char *text);

/* A configuration file of the effective values: each option with its help as a comment, commented
 * out if it has its default. Reads back to the same values, secrets excepted. */
void yk_opt_print_config(const struct yk_opts *opts, FILE *out);

#ifdef __cplusplus
}
#endif

#endif
