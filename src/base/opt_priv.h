/* SPDX-License-Identifier: Apache-2.0
 *
 * What the parts of the option table share (opt.h):
 *
 *     opt.c        table check, defaults, setting a value by precedence
 *     opt_value.c  text to value and back, by type
 *     opt_args.c   command line, environment, loading
 *     opt_file.c   configuration file
 *     opt_print.c  --help and sample configuration
 *     opt_man.c    manual page
 */
#ifndef YK_BASE_OPT_PRIV_H
#define YK_BASE_OPT_PRIV_H

#include "base/buf.h"
#include "base/opt.h"

/* In order of precedence. */
enum yk_opt_rank { YK_OPT_DEFAULT, YK_OPT_FILE, YK_OPT_ENV, YK_OPT_ARGS };

struct yk_opt_state {
    enum yk_opt_rank rank;
    uint32_t run;
    uint32_t line; /* in a file */
    char *place;   /* NULL: the default */
};

/* Where a text was found. */
struct yk_opt_source {
    enum yk_opt_rank rank;
    const char *path; /* file */
    uint32_t line;    /* file */
};

/* A parsed value that is not in the config yet. */
union yk_opt_value {
    bool flag;
    int64_t number;
    uint64_t amount; /* bytes or nanoseconds */
    double real;
    char *text;
    int index;
    struct yk_addr addr;
    struct yk_opt_list list;
};

#define YK_OPT_PLACE_MAX 160

/* ---- opt.c ---- */

/* Row of a name or of a letter, or NULL. */
const struct yk_opt *yk_opt_find(const struct yk_opt_spec *spec, const char *name, size_t len);
const struct yk_opt *yk_opt_find_letter(const struct yk_opt_spec *spec, char letter);

/* "yolkd.conf:12: dram", "environment YOLK_DRAM", "--dram", "default of --dram". A long path keeps
 * its end. */
char *yk_opt_place(const struct yk_opt_spec *spec, const struct yk_opt *opt,
                   const struct yk_opt_source *source, char buf[YK_OPT_PLACE_MAX]);

/* "yolkd.conf:12" */
char *yk_opt_file_place(const struct yk_opt_source *source, char buf[YK_OPT_PLACE_MAX]);

/* "YOLK_CHECK_CONFIG" */
#define YK_OPT_ENV_NAME_MAX 80
char *yk_opt_env_name(const struct yk_opt_spec *spec, const char *name,
                      char buf[YK_OPT_ENV_NAME_MAX]);

/* Checks text and, unless a source of higher precedence came before, stores it. */
int yk_opt_set(struct yk_opts *opts, const struct yk_opt *opt, const struct yk_opt_source *source,
               const char *text, struct yk_err *err);

/* " (did you mean '--dram'?)" with the nearest option's name after prefix, or "". */
#define YK_OPT_HINT_MAX 80
char *yk_opt_hint(const struct yk_opt_spec *spec, const char *prefix, const char *name,
                  char buf[YK_OPT_HINT_MAX]);

/* The i-th section in order of appearance (NULL is the general one); false past the last. */
bool yk_opt_section(const struct yk_opt_spec *spec, size_t i, const char **ret_section);
bool yk_opt_same_section(const char *a, const char *b);

/* ---- opt_value.c ---- */

/* Size of the field that the type needs; 0 if field_size is fine. */
size_t yk_opt_wrong_size(const struct yk_opt *opt);
bool yk_opt_is_numeric(enum yk_opt_type type);
const char *yk_opt_metavar(const struct yk_opt *opt);

/* Text to value, with range and check. The error begins "found ...". */
int yk_opt_value_parse(const struct yk_opt *opt, const char *text, union yk_opt_value *ret_value,
                       struct yk_err *err);

/* Moves value into the config; what was there is freed, or, of a list, kept in front if append. On
 * failure value is still the caller's. */
int yk_opt_value_store(const struct yk_opt *opt, void *config, union yk_opt_value *value,
                       bool append);
void yk_opt_value_free(const struct yk_opt *opt, union yk_opt_value *value);
void yk_opt_field_free(const struct yk_opt *opt, void *config);

/* The config's value as text that parses back. */
void yk_opt_value_format(const struct yk_opt *opt, const void *config, struct yk_buf *out);

/* "64MiB to 1TiB", "at least 1", "one of lru, s3fifo", or "". */
void yk_opt_limits_format(const struct yk_opt *opt, struct yk_buf *out);

#endif
