/* SPDX-License-Identifier: Apache-2.0
 *
 * Options from the command line and the environment, and loading all sources in order (opt.h).
 *
 * getopt_long is not used: it prints its own errors, abbreviates names and keeps its state in
 * globals.
 *
 * Thread: one at a time.
 */
#include "base/opt_priv.h"
#include "base/text.h"

#include <stdlib.h>
#include <string.h>

static const struct yk_opt_source from_args = {.rank = YK_OPT_ARGS};

struct args {
    struct yk_opts *opts;
    char *const *argv;
    int argc;
    int at; /* the next to be read */
    bool help;
    struct yk_err *err;
};

static int unknown_flag(const struct args *args, const char *flag, const char *name) {
    char quoted[YK_QUOTE_MAX], hint[YK_OPT_HINT_MAX];
    yk_quote(flag, quoted);
    yk_opt_hint(args->opts->spec, "--", name, hint);
    if (hint[0] != '\0')
        return yk_err_set(args->err, -YK_EINVAL, "found %s, which is no option%s", quoted, hint);
    return yk_err_set(args->err, -YK_EINVAL, "found %s, which is no option (see %s --help)", quoted,
                      args->opts->spec->program);
}

/* The value of an option that needs one: what follows in the same word, or the next word. */
static int set_with_value(struct args *args, const struct yk_opt *opt, const char *value) {
    if (value == NULL) {
        if (args->at >= args->argc)
            return yk_err_set(args->err, -YK_EINVAL, "--%s: found nothing after it, expected %s",
                              opt->name, yk_opt_metavar(opt));
        value = args->argv[args->at++];
    }
    return yk_opt_set(args->opts, opt, &from_args, value, args->err);
}

/* --name, --name=value, --no-name; word is without the dashes. */
static int parse_long(struct args *args, const char *flag, const char *word) {
    const struct yk_opt_spec *spec = args->opts->spec;
    size_t len = strcspn(word, "=");
    const char *value = (word[len] == '=') ? word + len + 1 : NULL;
    char name[2 * YK_OPT_NAME_MAX];
    if (strcmp(word, "help") == 0) {
        args->help = true;
        return 0;
    }
    const struct yk_opt *opt = yk_opt_find(spec, word, len);
    if (opt != NULL && opt->type == YK_OPT_BOOL)
        return yk_opt_set(args->opts, opt, &from_args, (value != NULL) ? value : "yes", args->err);
    if (opt != NULL)
        return set_with_value(args, opt, value);
    if (len > 3 && strncmp(word, "no-", 3) == 0)
        opt = yk_opt_find(spec, word + 3, len - 3);
    if (opt != NULL && opt->type == YK_OPT_BOOL && value == NULL)
        return yk_opt_set(args->opts, opt, &from_args, "no", args->err);
    if (opt != NULL)
        return yk_err_set(args->err, -YK_EINVAL, "found '--no-%s'%s, expected --%s%s", opt->name,
                          (value != NULL) ? " with a value" : "", opt->name,
                          (opt->type == YK_OPT_BOOL) ? "=yes|no" : " with a value");
    snprintf(name, sizeof(name), "%.*s", (int)((len < sizeof(name)) ? len : sizeof(name) - 1),
             word);
    return unknown_flag(args, flag, name);
}

/* -q, -qv, -d8G, -d 8G; word is without the dash. */
static int parse_letters(struct args *args, const char *flag, const char *word) {
    for (; *word != '\0'; word++) {
        const struct yk_opt *opt = yk_opt_find_letter(args->opts->spec, *word);
        int rc;
        if (*word == 'h') {
            args->help = true;
            return 0;
        }
        if (opt == NULL)
            return unknown_flag(args, flag, word);
        if (opt->type != YK_OPT_BOOL)
            return set_with_value(args, opt, (word[1] != '\0') ? word + 1 : NULL);
        rc = yk_opt_set(args->opts, opt, &from_args, "yes", args->err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static void keep_rest(struct args *args) {
    while (args->at < args->argc)
        args->opts->args[args->opts->n_args++] = args->argv[args->at++];
}

static int parse_word(struct args *args) {
    const char *word = args->argv[args->at++];
    if (strcmp(word, "--") == 0) {
        keep_rest(args);
        return 0;
    }
    if (strncmp(word, "--", 2) == 0)
        return parse_long(args, word, word + 2);
    if (word[0] == '-' && word[1] != '\0')
        return parse_letters(args, word, word + 1);
    args->opts->args[args->opts->n_args++] = word;
    if (args->opts->spec->flags & YK_OPT_STOP_AT_ARG)
        keep_rest(args);
    return 0;
}

static int check_arg_count(const struct yk_opts *opts, struct yk_err *err) {
    const struct yk_opt_spec *spec = opts->spec;
    char quoted[YK_QUOTE_MAX];
    if (opts->n_args > 0 && spec->max_args == 0)
        return yk_err_set(err, -YK_EINVAL, "found %s, expected no arguments (see %s --help)",
                          yk_quote(opts->args[0], quoted), spec->program);
    if (opts->n_args < spec->min_args || opts->n_args > spec->max_args)
        return yk_err_set(err, -YK_EINVAL, "found %zu argument%s, expected %s %s", opts->n_args,
                          (opts->n_args == 1) ? "" : "s", spec->program,
                          (spec->args != NULL) ? spec->args : "");
    return 0;
}

int yk_opt_parse_args(struct yk_opts *opts, int argc, char *const *argv, struct yk_err *err) {
    struct args args = {.opts = opts, .argv = argv, .argc = argc, .at = 1, .err = err};
    opts->run++;
    free(opts->args);
    opts->n_args = 0;
    opts->args = calloc((size_t)((argc > 0) ? argc : 1), sizeof(*opts->args));
    if (opts->args == NULL)
        return yk_err_set(err, -YK_ENOMEM, "no memory for %d arguments", argc);
    while (args.at < argc) {
        int rc = parse_word(&args);
        if (rc < 0)
            return rc;
        if (args.help)
            return YK_OPT_HELP;
    }
    return check_arg_count(opts, err);
}

/* The value if entry is "NAME=value", else NULL. */
static const char *value_of(const char *entry, const char *name) {
    size_t len = strlen(name);
    return (strncmp(entry, name, len) == 0 && entry[len] == '=') ? entry + len + 1 : NULL;
}

static bool taken_from_env(const struct yk_opt *opt) {
    return (opt->flags & YK_OPT_NO_ENV) == 0;
}

/* A variable with our prefix that no option has: an error only if it is nearly one that has. */
static int check_unknown(const struct yk_opts *opts, const char *entry, struct yk_err *err) {
    size_t len = strcspn(entry, "=");
    unsigned best = 3; /* two slips at most: variables of others are near sooner than flags are */
    char near[YK_OPT_ENV_NAME_MAX] = "", name[YK_OPT_ENV_NAME_MAX], found[YK_OPT_ENV_NAME_MAX];
    if (len >= sizeof(found))
        return 0;
    memcpy(found, entry, len);
    found[len] = '\0';
    for (size_t i = 0; i < opts->spec->n_options; i++) {
        const struct yk_opt *opt = &opts->spec->options[i];
        if (!taken_from_env(opt))
            continue;
        unsigned distance = yk_edit_distance(found, yk_opt_env_name(opts->spec, opt->name, name));
        if (distance == 0)
            return 0;
        if (distance < best) {
            best = distance;
            memcpy(near, name, sizeof(near));
        }
    }
    if (near[0] == '\0')
        return 0;
    return yk_err_set(err, -YK_EINVAL,
                      "environment %s: no option has this name (did you mean '%s'?)", found, near);
}

int yk_opt_parse_env(struct yk_opts *opts, char *const *envp, struct yk_err *err) {
    const struct yk_opt_spec *spec = opts->spec;
    const struct yk_opt_source source = {.rank = YK_OPT_ENV};
    char name[YK_OPT_ENV_NAME_MAX];
    int rc = 0;
    opts->run++;
    if (spec->env_prefix == NULL)
        return 0;
    for (; rc == 0 && *envp != NULL; envp++) {
        if (strncmp(*envp, spec->env_prefix, strlen(spec->env_prefix)) != 0)
            continue;
        for (size_t i = 0; rc == 0 && i < spec->n_options; i++) {
            const struct yk_opt *opt = &spec->options[i];
            const char *value = value_of(*envp, yk_opt_env_name(spec, opt->name, name));
            if (value != NULL && value[0] != '\0' && taken_from_env(opt))
                rc = yk_opt_set(opts, opt, &source, value, err);
        }
        if (rc == 0 && (spec->flags & YK_OPT_STRICT_ENV))
            rc = check_unknown(opts, *envp, err);
    }
    return rc;
}

static int load_file(struct yk_opts *opts, struct yk_err *err) {
    const struct yk_opt_spec *spec = opts->spec;
    for (size_t i = 0; i < spec->n_options; i++) {
        const struct yk_opt *opt = &spec->options[i];
        const char *path = NULL;
        if ((opt->flags & YK_OPT_CONFIG_FILE) == 0)
            continue;
        memcpy(&path, (const char *)opts->config + opt->offset, sizeof(path));
        if (path == NULL || path[0] == '\0')
            continue;
        bool optional = opts->states[i].rank == YK_OPT_DEFAULT || path[0] == '-';
        int rc = yk_opt_parse_file(opts, path + (path[0] == '-'), err);
        if (rc == -YK_ENOENT && optional)
            continue;
        if (rc < 0)
            return rc;
    }
    return 0;
}

int yk_opt_load(struct yk_opts *opts, int argc, char *const *argv, char *const *envp,
                struct yk_err *err) {
    int rc = yk_opt_parse_args(opts, argc, argv, err);
    if (rc != 0)
        return rc;
    rc = yk_opt_parse_env(opts, envp, err);
    return (rc < 0) ? rc : load_file(opts, err);
}
