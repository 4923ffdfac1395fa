/* SPDX-License-Identifier: Apache-2.0
 *
 * Sections of a manual page from the option table (opt.h), in man(7) macros.
 *
 * Thread: one at a time.
 */
#include "base/opt_priv.h"

#include <ctype.h>
#include <string.h>

/* Text of the table as troff input: '-' as the minus that can be copied, backslashes doubled, and
 * lines that would begin with a control character protected. */
void yk_opt_man_text(FILE *out, const char *text) {
    bool line_start = true;
    for (; *text != '\0'; text++) {
        if (line_start && (*text == '.' || *text == '\''))
            fputs("\\&", out);
        line_start = *text == '\n';
        if (*text == '\\')
            fputs("\\e", out);
        else if (*text == '-')
            fputs("\\-", out);
        else if (*text == '\'')
            fputs("\\(aq", out);
        else
            fputc(*text, out);
    }
}

static void put_font(FILE *out, char font, const char *text) {
    fprintf(out, "\\f%c", font);
    yk_opt_man_text(out, text);
    fputs("\\fR", out);
}

static void put_limits(const struct yk_opt *opt, FILE *out) {
    struct yk_buf limits;
    yk_buf_init(&limits, 4096);
    yk_opt_limits_format(opt, &limits);
    if (limits.len > 0) {
        limits.data[0] = (char)toupper((unsigned char)limits.data[0]);
        yk_opt_man_text(out, yk_buf_text(&limits));
        fputs(".\n", out);
    }
    yk_buf_fini(&limits);
    if (opt->def != NULL && opt->def[0] != '\0') {
        fputs("Default: ", out);
        put_font(out, 'B', opt->def);
        fputs(".\n", out);
    }
}

static void put_option(const struct yk_opt *opt, FILE *out) {
    char flag[YK_OPT_NAME_MAX + 3], letter[3] = {'-', opt->letter, '\0'};
    fputs(".TP\n", out);
    if (opt->letter != 0) {
        put_font(out, 'B', letter);
        fputs(", ", out);
    }
    snprintf(flag, sizeof(flag), "--%s", opt->name);
    put_font(out, 'B', flag);
    if (opt->type != YK_OPT_BOOL) {
        fputc(' ', out);
        put_font(out, 'I', yk_opt_metavar(opt));
    }
    fputc('\n', out);
    yk_opt_man_text(out, opt->help);
    fputc('\n', out);
    put_limits(opt, out);
}

static void put_options(const struct yk_opt_spec *spec, FILE *out) {
    const char *section;
    fputs(".SH OPTIONS\n", out);
    for (size_t i = 0; yk_opt_section(spec, i, &section); i++) {
        if (section != NULL) {
            fprintf(out, ".SS %c", toupper((unsigned char)section[0]));
            yk_opt_man_text(out, section + 1);
            fputc('\n', out);
        }
        for (size_t j = 0; j < spec->n_options; j++)
            if (yk_opt_same_section(spec->options[j].section, section))
                put_option(&spec->options[j], out);
    }
    fputs(".PP\n.TP\n\\fB\\-h\\fR, \\fB\\-\\-help\\fR\nShow a summary of the options.\n", out);
    fputs(".PP\nSizes take the suffixes K, M, G, T and P, which are powers of 1024 with or without "
          "B or iB\nafter them; times need a unit (ns, us, ms, s, m, h, d); percentages need the % "
          "sign.\nA switch is turned off by \\fB\\-\\-no\\-\\fINAME\\fR.\n",
          out);
}

void yk_opt_print_man_rows(const struct yk_opt_spec *spec, FILE *out) {
    for (size_t i = 0; i < spec->n_options; i++)
        put_option(&spec->options[i], out);
}

static void put_environment(const struct yk_opt_spec *spec, FILE *out) {
    char name[YK_OPT_ENV_NAME_MAX], flag[YK_OPT_NAME_MAX + 3];
    fputs(".SH ENVIRONMENT\nThe command line wins over the environment. An empty variable is as "
          "good as none.\n",
          out);
    for (size_t i = 0; i < spec->n_options; i++) {
        const struct yk_opt *opt = &spec->options[i];
        if (opt->flags & YK_OPT_NO_ENV)
            continue;
        fputs(".TP\n", out);
        put_font(out, 'B', yk_opt_env_name(spec, opt->name, name));
        snprintf(flag, sizeof(flag), "--%s", opt->name);
        fputs("\nAs ", out);
        put_font(out, 'B', flag);
        fputs(".\n", out);
    }
}

static bool reads_file(const struct yk_opt_spec *spec) {
    for (size_t i = 0; i < spec->n_options; i++)
        if (spec->options[i].flags & YK_OPT_CONFIG_FILE)
            return true;
    return false;
}

static void put_file_format(const struct yk_opt_spec *spec, FILE *out) {
    const char *section;
    fputs(".SH CONFIGURATION FILE\n"
          "One \\fIname\\fB = \\fIvalue\\fR a line; the names are those of the options without "
          "dashes in front.\n"
          "A \\(aq#\\(aq at the start of a line or after a blank begins a comment. A value may "
          "stand in double\n"
          "quotes, with the escapes \\e\\(dq, \\e\\e, \\en and \\et inside; it must if it holds a "
          "\\(aq#\\(aq after a blank,\n"
          "or begins or ends with one. An option may be set once, lists as often as wanted. The "
          "environment and\n"
          "the command line win over the file.\n",
          out);
    for (size_t i = 0; yk_opt_section(spec, i, &section); i++) {
        if (section == NULL)
            continue;
        fputs(".PP\nHeaders such as ", out);
        fputs("\\fB[", out);
        yk_opt_man_text(out, section);
        fputs("]\\fR are optional; below one, only options of that section may stand.\n", out);
        return;
    }
}

void yk_opt_print_man(const struct yk_opt_spec *spec, FILE *out) {
    put_options(spec, out);
    if (spec->env_prefix != NULL)
        put_environment(spec, out);
    if (reads_file(spec))
        put_file_format(spec, out);
}
