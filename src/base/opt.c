/* SPDX-License-Identifier: Apache-2.0
 *
 * Option table (opt.h): checking the table, defaults, and setting a value by precedence.
 *
 * Each option remembers the rank of the source its value came from; a source of lower rank is
 * checked and dropped, so the order in which sources are read is free (the command line has to come
 * first, since it names the file).
 *
 * Thread: one at a time.
 */
#include "base/opt_priv.h"
#include "base/text.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define PATH_SHOWN_MAX 64 /* bytes of a file's path in a message: its end */

/* ---- look-up ---- */

const struct yk_opt *yk_opt_find(const struct yk_opt_spec *spec, const char *name, size_t len) {
    for (size_t i = 0; i < spec->n_options; i++)
        if (strlen(spec->options[i].name) == len && memcmp(spec->options[i].name, name, len) == 0)
            return &spec->options[i];
    return NULL;
}

const struct yk_opt *yk_opt_find_letter(const struct yk_opt_spec *spec, char letter) {
    for (size_t i = 0; i < spec->n_options; i++)
        if (spec->options[i].letter == letter)
            return &spec->options[i];
    return NULL;
}

bool yk_opt_same_section(const char *a, const char *b) {
    if (a == NULL || b == NULL)
        return a == b;
    return strcasecmp(a, b) == 0;
}

static bool is_first_of_section(const struct yk_opt_spec *spec, size_t at) {
    for (size_t i = 0; i < at; i++)
        if (yk_opt_same_section(spec->options[i].section, spec->options[at].section))
            return false;
    return true;
}

bool yk_opt_section(const struct yk_opt_spec *spec, size_t i, const char **ret_section) {
    for (size_t at = 0; at < spec->n_options; at++) {
        if (is_first_of_section(spec, at) && i-- == 0) {
            *ret_section = spec->options[at].section;
            return true;
        }
    }
    return false;
}

/* ---- words for messages ---- */

char *yk_opt_env_name(const struct yk_opt_spec *spec, const char *name,
                      char buf[YK_OPT_ENV_NAME_MAX]) {
    size_t at = (size_t)snprintf(buf, YK_OPT_ENV_NAME_MAX, "%s", spec->env_prefix);
    for (; *name != '\0' && at < YK_OPT_ENV_NAME_MAX - 1; name++)
        buf[at++] = (char)((*name == '-') ? '_' : toupper((unsigned char)*name));
    buf[at] = '\0';
    return buf;
}

char *yk_opt_file_place(const struct yk_opt_source *source, char buf[YK_OPT_PLACE_MAX]) {
    size_t len = strlen(source->path);
    bool cut = len > PATH_SHOWN_MAX;
    snprintf(buf, YK_OPT_PLACE_MAX, "%s%s:%u", cut ? "..." : "",
             source->path + (cut ? len - PATH_SHOWN_MAX : 0), (unsigned)source->line);
    return buf;
}

char *yk_opt_place(const struct yk_opt_spec *spec, const struct yk_opt *opt,
                   const struct yk_opt_source *source, char buf[YK_OPT_PLACE_MAX]) {
    char name[YK_OPT_ENV_NAME_MAX];
    switch (source->rank) {
    case YK_OPT_FILE:
        yk_opt_file_place(source, buf);
        snprintf(buf + strlen(buf), YK_OPT_PLACE_MAX - strlen(buf), ": %s", opt->name);
        break;
    case YK_OPT_ENV:
        snprintf(buf, YK_OPT_PLACE_MAX, "environment %s", yk_opt_env_name(spec, opt->name, name));
        break;
    case YK_OPT_ARGS:
        snprintf(buf, YK_OPT_PLACE_MAX, "--%s", opt->name);
        break;
    case YK_OPT_DEFAULT:
        snprintf(buf, YK_OPT_PLACE_MAX, "default of --%s", opt->name);
        break;
    }
    return buf;
}

char *yk_opt_hint(const struct yk_opt_spec *spec, const char *prefix, const char *name,
                  char buf[YK_OPT_HINT_MAX]) {
    unsigned best = yk_edit_tolerance(name) + 1;
    const char *near = NULL;
    for (size_t i = 0; i < spec->n_options; i++) {
        unsigned distance = yk_edit_distance(name, spec->options[i].name);
        if (distance < best) {
            best = distance;
            near = spec->options[i].name;
        }
    }
    buf[0] = '\0';
    if (near != NULL)
        snprintf(buf, YK_OPT_HINT_MAX, " (did you mean '%s%s'?)", prefix, near);
    return buf;
}

/* ---- the table ---- */

static bool name_ok(const char *name) {
    if (name == NULL || !(name[0] >= 'a' && name[0] <= 'z') || strlen(name) > YK_OPT_NAME_MAX)
        return false;
    if (strncmp(name, "no-", 3) == 0 || strcmp(name, "help") == 0)
        return false;
    return name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-")] == '\0';
}

static int table_error(const struct yk_opt *opt, const char *what, struct yk_err *err) {
    return yk_err_set(err, -YK_EINVAL, "option table: %s: %s",
                      (opt->name != NULL) ? opt->name : "(null)", what);
}

static int check_names(const struct yk_opt_spec *spec, const struct yk_opt *opt,
                       struct yk_err *err) {
    if (!name_ok(opt->name))
        return table_error(opt, "not a name", err);
    if (opt->letter != 0 && (!isalnum((unsigned char)opt->letter) || opt->letter == 'h'))
        return table_error(opt, "not a letter, or -h, which is taken", err);
    for (const struct yk_opt *other = spec->options; other < opt; other++) {
        if (strcmp(other->name, opt->name) == 0)
            return table_error(opt, "name used twice", err);
        if (opt->letter != 0 && other->letter == opt->letter)
            return table_error(opt, "letter used twice", err);
    }
    return 0;
}

static int check_row(const struct yk_opt *opt, struct yk_err *err) {
    if ((unsigned)opt->type > YK_OPT_LIST)
        return table_error(opt, "unknown type", err);
    if (yk_opt_wrong_size(opt) != 0)
        return table_error(opt, "the field's size is not the type's", err);
    if (opt->help == NULL || opt->help[0] == '\0')
        return table_error(opt, "no help text", err);
    if (opt->type == YK_OPT_ENUM && (opt->values == NULL || opt->values[0] == NULL))
        return table_error(opt, "no values", err);
    if (opt->type != YK_OPT_ENUM && opt->type != YK_OPT_LIST && opt->values != NULL)
        return table_error(opt, "values of a type that has none", err);
    if (!yk_opt_is_numeric(opt->type) && (opt->min != NULL || opt->max != NULL))
        return table_error(opt, "limits of a type that has none", err);
    if ((opt->flags & YK_OPT_CONFIG_FILE) && opt->type != YK_OPT_STR)
        return table_error(opt, "a file's name must be a string", err);
    return 0;
}

/* A limit must itself be a value within the limits. */
static int check_limit(const struct yk_opt *opt, const char *limit, struct yk_err *err) {
    union yk_opt_value value;
    if (limit != NULL && yk_opt_value_parse(opt, limit, &value, NULL) < 0)
        return table_error(opt, "limits that are no values, or the wrong way round", err);
    return 0;
}

static int check_table(const struct yk_opt_spec *spec, struct yk_err *err) {
    for (size_t i = 0; i < spec->n_options; i++) {
        const struct yk_opt *opt = &spec->options[i];
        int rc = check_names(spec, opt, err);
        rc = (rc < 0) ? rc : check_row(opt, err);
        rc = (rc < 0) ? rc : check_limit(opt, opt->min, err);
        rc = (rc < 0) ? rc : check_limit(opt, opt->max, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* ---- values ---- */

/* Puts the place in front of what the parser said; a secret's value stays out of the message. */
static int fail_at(const struct yk_opts *opts, const struct yk_opt *opt,
                   const struct yk_opt_source *source, const struct yk_err *why,
                   struct yk_err *err) {
    char place[YK_OPT_PLACE_MAX];
    yk_opt_place(opts->spec, opt, source, place);
    if (opt->flags & YK_OPT_SECRET)
        return yk_err_set(err, why->code, "%s: not an acceptable value (not shown)", place);
    return yk_err_set(err, why->code, "%s: %s", place, why->text);
}

static int remember(struct yk_opts *opts, const struct yk_opt *opt, struct yk_opt_state *state,
                    const struct yk_opt_source *source) {
    char place[YK_OPT_PLACE_MAX];
    char *copy = strdup(yk_opt_place(opts->spec, opt, source, place));
    if (copy == NULL)
        return -YK_ENOMEM;
    free(state->place);
    state->place = copy;
    state->rank = source->rank;
    state->run = opts->run;
    state->line = source->line;
    return 0;
}

static int check_repetition(const struct yk_opt *opt, const struct yk_opt_state *state,
                            const struct yk_opt_source *source, bool again, struct yk_err *why) {
    if (!again || source->rank != YK_OPT_FILE || opt->type == YK_OPT_LIST)
        return 0;
    return yk_err_set(why, -YK_EINVAL, "found a second time, expected once (first in line %u)",
                      (unsigned)state->line);
}

int yk_opt_set(struct yk_opts *opts, const struct yk_opt *opt, const struct yk_opt_source *source,
               const char *text, struct yk_err *err) {
    struct yk_opt_state *state = &opts->states[opt - opts->spec->options];
    bool again = state->rank == source->rank && state->run == opts->run;
    union yk_opt_value value;
    struct yk_err why = {0};
    int rc = check_repetition(opt, state, source, again, &why);
    if (rc == 0)
        rc = yk_opt_value_parse(opt, text, &value, &why);
    if (rc < 0)
        return fail_at(opts, opt, source, &why, err);
    if (source->rank < state->rank) {
        yk_opt_value_free(opt, &value);
        return 0;
    }
    rc = yk_opt_value_store(opt, opts->config, &value, again);
    if (rc < 0) {
        yk_opt_value_free(opt, &value);
        yk_err_set(&why, rc, "%s", yk_status_text(rc));
        return fail_at(opts, opt, source, &why, err);
    }
    rc = remember(opts, opt, state, source);
    return (rc < 0) ? yk_err_set(err, rc, "--%s: out of memory", opt->name) : 0;
}

static int set_defaults(struct yk_opts *opts, struct yk_err *err) {
    for (size_t i = 0; i < opts->spec->n_options; i++) {
        const struct yk_opt *opt = &opts->spec->options[i];
        const struct yk_opt_source source = {.rank = YK_OPT_DEFAULT};
        union yk_opt_value value;
        struct yk_err why = {0};
        if (opt->def == NULL)
            continue;
        int rc = yk_opt_value_parse(opt, opt->def, &value, &why);
        if (rc < 0)
            return fail_at(opts, opt, &source, &why, err);
        yk_opt_value_store(opt, opts->config, &value, false);
    }
    return 0;
}

int yk_opt_init(struct yk_opts *opts, const struct yk_opt_spec *spec, void *config,
                struct yk_err *err) {
    memset(opts, 0, sizeof(*opts));
    int rc = check_table(spec, err);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < spec->n_options; i++)
        memset((char *)config + spec->options[i].offset, 0, spec->options[i].field_size);
    opts->spec = spec;
    opts->config = config;
    opts->states = calloc(spec->n_options + 1, sizeof(*opts->states));
    if (opts->states == NULL)
        return yk_err_set(err, -YK_ENOMEM, "no memory for %zu options", spec->n_options);
    rc = set_defaults(opts, err);
    if (rc < 0)
        yk_opt_fini(opts);
    return rc;
}

void yk_opt_fini(struct yk_opts *opts) {
    for (size_t i = 0; opts->spec != NULL && i < opts->spec->n_options; i++) {
        yk_opt_field_free(&opts->spec->options[i], opts->config);
        if (opts->states != NULL)
            free(opts->states[i].place);
    }
    free(opts->states);
    free(opts->args);
    memset(opts, 0, sizeof(*opts));
}

bool yk_opt_is_set(const struct yk_opts *opts, const char *name) {
    const struct yk_opt *opt = yk_opt_find(opts->spec, name, strlen(name));
    return opt != NULL && opts->states[opt - opts->spec->options].rank != YK_OPT_DEFAULT;
}

int yk_opt_fail(const struct yk_opts *opts, const char *name, struct yk_err *err, const char *fmt,
                ...) {
    const struct yk_opt *opt = yk_opt_find(opts->spec, name, strlen(name));
    const char *place = (opt != NULL) ? opts->states[opt - opts->spec->options].place : NULL;
    char text[YK_ERR_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    int len = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (len < 0)
        text[0] = '\0';
    if (place != NULL)
        return yk_err_set(err, -YK_EINVAL, "%s: %s", place, text);
    return yk_err_set(err, -YK_EINVAL, "default of --%s: %s", name, text);
}
