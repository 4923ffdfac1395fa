/* SPDX-License-Identifier: Apache-2.0
 *
 * --help and the sample configuration file, from the option table (opt.h).
 *
 * Thread: one at a time.
 */
#include "base/opt_priv.h"

#include <ctype.h>
#include <string.h>

#define COLUMNS     80
#define HELP_COLUMN 28

/* Writes text broken at blanks, so that no line passes COLUMNS; each further line begins with
 * prefix. The first is taken to start at column `at`. Line feeds in text stay. */
static void put_wrapped(FILE *out, const char *text, size_t at, const char *prefix) {
    size_t start = strlen(prefix);
    bool first = true; /* on this line */
    while (*text != '\0') {
        size_t len = strcspn(text, " \n");
        if (!first && at + 1 + len > COLUMNS) {
            fprintf(out, "\n%s", prefix);
            at = start;
            first = true;
        }
        if (len > 0) {
            fprintf(out, "%s%.*s", first ? "" : " ", (int)len, text);
            at += len + (first ? 0 : 1);
            first = false;
        }
        text += len;
        if (*text == '\n') {
            fprintf(out, "\n%s", prefix);
            at = start;
            first = true;
        }
        if (*text != '\0')
            text++;
    }
    fputc('\n', out);
}

/* "Pooled memory. One of a, b. (default 8GiB)" */
static void describe(const struct yk_opt *opt, struct yk_buf *text) {
    struct yk_buf limits;
    yk_buf_init(&limits, 4096);
    yk_opt_limits_format(opt, &limits);
    yk_buf_puts(text, opt->help);
    if (limits.len > 0)
        yk_buf_printf(text, " %c%s.", toupper((unsigned char)limits.data[0]), limits.data + 1);
    if (opt->def != NULL && opt->def[0] != '\0' && opt->type != YK_OPT_BOOL)
        yk_buf_printf(text, " (default %s)", opt->def);
    else if (opt->type == YK_OPT_BOOL && opt->def != NULL && opt->def[0] == 'y')
        yk_buf_printf(text, " (default yes; --no-%s turns it off)", opt->name);
    yk_buf_fini(&limits);
}

static void help_row(const char *left, const char *text, FILE *out) {
    static const char prefix[HELP_COLUMN + 1] = "                            ";
    int width = fprintf(out, "%s", left);
    if (width > HELP_COLUMN - 2)
        fprintf(out, "\n%s", prefix);
    else
        fprintf(out, "%*s", HELP_COLUMN - width, "");
    put_wrapped(out, text, HELP_COLUMN, prefix);
}

static void help_option(const struct yk_opt *opt, FILE *out) {
    struct yk_buf left, text;
    yk_buf_init(&left, 4096);
    yk_buf_init(&text, 65536);
    if (opt->letter != 0)
        yk_buf_printf(&left, "  -%c, --%s", opt->letter, opt->name);
    else
        yk_buf_printf(&left, "      --%s", opt->name);
    if (opt->type != YK_OPT_BOOL)
        yk_buf_printf(&left, " %s", yk_opt_metavar(opt));
    describe(opt, &text);
    help_row(yk_buf_text(&left), yk_buf_text(&text), out);
    yk_buf_fini(&left);
    yk_buf_fini(&text);
}

static void help_sections(const struct yk_opt_spec *spec, FILE *out) {
    const char *section;
    for (size_t i = 0; yk_opt_section(spec, i, &section); i++) {
        if (section == NULL)
            fputs("\nOptions:\n", out);
        else
            fprintf(out, "\n%c%s:\n", toupper((unsigned char)section[0]), section + 1);
        for (size_t j = 0; j < spec->n_options; j++)
            if (yk_opt_same_section(spec->options[j].section, section))
                help_option(&spec->options[j], out);
    }
    fputc('\n', out);
    help_row("  -h, --help", "Show this text.", out);
}

static bool takes_env(const struct yk_opt *opt) {
    return (opt->flags & YK_OPT_NO_ENV) == 0;
}

/* Which options the environment can set: those of one section, if none of another can be set there. (What
 * else cannot be, as --version, nobody would look for.) */
static void put_env_options(const struct yk_opt_spec *spec, const struct yk_opt *first,
                            struct yk_buf *text) {
    size_t same = 0, can = 0;
    for (size_t i = 0; i < spec->n_options; i++) {
        can += takes_env(&spec->options[i]);
        same += takes_env(&spec->options[i]) &&
                yk_opt_same_section(spec->options[i].section, first->section);
    }
    if (first->section == NULL || same < can || can == spec->n_options)
        yk_buf_puts(text, "Options");
    else
        yk_buf_printf(text, "%c%s options", toupper((unsigned char)first->section[0]),
                      first->section + 1);
}

/* How else options can be given, with the first one that can be as the example. */
static void help_environment(const struct yk_opt_spec *spec, FILE *out) {
    char name[YK_OPT_ENV_NAME_MAX];
    struct yk_buf text;
    for (size_t i = 0; spec->env_prefix != NULL && i < spec->n_options; i++) {
        if (!takes_env(&spec->options[i]))
            continue;
        yk_buf_init(&text, 4096);
        put_env_options(spec, &spec->options[i], &text);
        yk_buf_printf(&text,
                      " can also be set in the environment, --%s as %s for example; the command "
                      "line wins.",
                      spec->options[i].name, yk_opt_env_name(spec, spec->options[i].name, name));
        fputc('\n', out);
        put_wrapped(out, yk_buf_text(&text), 0, "");
        yk_buf_fini(&text);
        return;
    }
}

void yk_opt_print_help(const struct yk_opt_spec *spec, FILE *out) {
    fprintf(out, "Usage: %s%s%s%s\n", spec->program, (spec->n_options > 0) ? " [OPTION]..." : "",
            (spec->args != NULL) ? " " : "", (spec->args != NULL) ? spec->args : "");
    if (spec->summary != NULL)
        put_wrapped(out, spec->summary, 0, "");
    help_sections(spec, out);
    help_environment(spec, out);
}

/* ---- configuration file ---- */

static bool needs_quotes(const char *text) {
    size_t len = strlen(text);
    if (len == 0)
        return false;
    return strpbrk(text, "#\"\n\t\r") != NULL || text[0] == ' ' || text[len - 1] == ' ';
}

static void put_quoted(FILE *out, const char *text) {
    fputc('"', out);
    for (; *text != '\0'; text++) {
        if (*text == '\n')
            fputs("\\n", out);
        else if (*text == '\t')
            fputs("\\t", out);
        else if (*text == '"' || *text == '\\')
            fprintf(out, "\\%c", *text);
        else
            fputc(*text, out);
    }
    fputc('"', out);
}

static void put_value(const struct yk_opts *opts, const struct yk_opt *opt, FILE *out) {
    struct yk_buf text;
    yk_buf_init(&text, YK_OPT_FILE_MAX);
    yk_opt_value_format(opt, opts->config, &text);
    if (needs_quotes(yk_buf_text(&text)))
        put_quoted(out, yk_buf_text(&text));
    else
        fputs(yk_buf_text(&text), out);
    yk_buf_fini(&text);
}

static void config_option(const struct yk_opts *opts, const struct yk_opt *opt, FILE *out) {
    const struct yk_opt_state *state = &opts->states[opt - opts->spec->options];
    struct yk_buf text;
    yk_buf_init(&text, 65536);
    describe(opt, &text);
    fputs("\n# ", out);
    put_wrapped(out, yk_buf_text(&text), 2, "# ");
    yk_buf_fini(&text);
    if (opt->flags & YK_OPT_SECRET) {
        fprintf(out, "#%s = (hidden)\n", opt->name);
        return;
    }
    fprintf(out, "%s%s = ", (state->rank == YK_OPT_DEFAULT) ? "#" : "", opt->name);
    put_value(opts, opt, out);
    fputc('\n', out);
}

void yk_opt_print_config(const struct yk_opts *opts, FILE *out) {
    const struct yk_opt_spec *spec = opts->spec;
    const char *section;
    fprintf(out,
            "# Configuration of %s: name = value, one a line. Lines that begin with '#' are\n"
            "# comments; a commented option has its default.\n",
            spec->program);
    /* Options of no section first: a file has no way back out of one. */
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; yk_opt_section(spec, i, &section); i++) {
            if ((section == NULL) != (pass == 0))
                continue;
            if (section != NULL)
                fprintf(out, "\n[%s]\n", section);
            for (size_t j = 0; j < spec->n_options; j++)
                if (yk_opt_same_section(spec->options[j].section, section) &&
                    (spec->options[j].flags & (YK_OPT_NO_FILE | YK_OPT_CONFIG_FILE)) == 0)
                    config_option(opts, &spec->options[j], out);
        }
    }
}
