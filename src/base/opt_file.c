/* SPDX-License-Identifier: Apache-2.0
 *
 * Configuration file (format in opt.h): one `name = value` a line, '#' comments, [sections].
 *
 * The file is read whole, up to a limit, and cut into lines in place; each line is one of: blank,
 * header, assignment. There is no continuation of lines, no include and no expansion of variables:
 * what a line means can be seen on the line.
 *
 * Thread: one at a time.
 */
#include "base/opt_priv.h"
#include "base/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct reader {
    struct yk_opts *opts;
    struct yk_opt_source source;
    const char *section; /* of the last header */
    bool in_section;     /* there was one */
    struct yk_err *err;
};

static int fail(const struct reader *reader, const char *text) {
    char place[YK_OPT_PLACE_MAX];
    return yk_err_set(reader->err, -YK_EINVAL, "%s: %s", yk_opt_file_place(&reader->source, place),
                      text);
}

/* As fail, with the offending text quoted in front: "found 'x', expected ...". */
static int fail_found(const struct reader *reader, const char *found, const char *expected) {
    char place[YK_OPT_PLACE_MAX], quoted[YK_QUOTE_MAX];
    return yk_err_set(reader->err, -YK_EINVAL, "%s: found %s, expected %s",
                      yk_opt_file_place(&reader->source, place), yk_quote(found, quoted), expected);
}

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\r';
}

static char *skip_blanks(char *p) {
    while (is_blank(*p))
        p++;
    return p;
}

static void cut_blanks_at_end(char *text) {
    size_t len = strlen(text);
    while (len > 0 && is_blank(text[len - 1]))
        text[--len] = '\0';
}

/* Ends the text at a '#' that follows a blank or begins it. */
static void cut_comment(char *text) {
    for (char *p = text; *p != '\0'; p++) {
        if (*p == '#' && (p == text || is_blank(p[-1]))) {
            *p = '\0';
            break;
        }
    }
    cut_blanks_at_end(text);
}

/* "..." with escapes, decoded in place; only a comment may follow. */
static int unquote(const struct reader *reader, char *text, char **ret_value) {
    char *out = text, *p = text + 1;
    for (; *p != '"'; p++) {
        if (*p == '\0')
            return fail(reader, "found no closing quote, expected \" at the end of the value");
        if (*p != '\\') {
            *out++ = *p;
            continue;
        }
        static const char escapes[] = "\"\\nt", meanings[] = "\"\\\n\t";
        const char *escape = (*++p != '\0') ? strchr(escapes, *p) : NULL;
        if (escape == NULL)
            return fail_found(reader, p - 1, "one of \\\" \\\\ \\n \\t inside quotes");
        *out++ = meanings[escape - escapes];
    }
    char *rest = skip_blanks(p + 1);
    if (*rest != '\0' && (*rest != '#' || rest == p + 1))
        return fail_found(reader, rest, "nothing after the closing quote");
    *out = '\0';
    *ret_value = text;
    return 0;
}

static int read_header(struct reader *reader, char *line) {
    char *close = strchr(line, ']');
    const char *section;
    char known[YK_ERR_TEXT_MAX / 2] = "one of the sections";
    size_t len = strlen(known);
    if (close == NULL || *skip_blanks(close + 1) != '\0')
        return fail_found(reader, line, "[section]");
    *close = '\0';
    line = skip_blanks(line + 1);
    cut_blanks_at_end(line);
    for (size_t i = 0; yk_opt_section(reader->opts->spec, i, &section); i++) {
        if (section == NULL)
            continue;
        if (yk_opt_same_section(section, line)) {
            reader->section = section;
            reader->in_section = true;
            return 0;
        }
        snprintf(known + len, sizeof(known) - len, " [%s]", section);
        len = strlen(known);
    }
    return fail_found(reader, line, known);
}

static int fail_unknown(const struct reader *reader, const char *name) {
    char place[YK_OPT_PLACE_MAX], quoted[YK_QUOTE_MAX], hint[YK_OPT_HINT_MAX];
    return yk_err_set(reader->err, -YK_EINVAL, "%s: found %s, which is no option%s",
                      yk_opt_file_place(&reader->source, place), yk_quote(name, quoted),
                      yk_opt_hint(reader->opts->spec, "", name, hint));
}

static int check_placement(const struct reader *reader, const struct yk_opt *opt) {
    char text[160];
    if (opt->flags & (YK_OPT_NO_FILE | YK_OPT_CONFIG_FILE)) {
        snprintf(text, sizeof(text), "%s: not allowed in a file, expected as --%s", opt->name,
                 opt->name);
        return fail(reader, text);
    }
    if (reader->in_section && !yk_opt_same_section(reader->section, opt->section)) {
        snprintf(text, sizeof(text), "%s: found under [%.40s], expected %s%.40s%s", opt->name,
                 reader->section, (opt->section != NULL) ? "under [" : "before any section",
                 (opt->section != NULL) ? opt->section : "", (opt->section != NULL) ? "]" : "");
        return fail(reader, text);
    }
    return 0;
}

static int read_assignment(struct reader *reader, char *line) {
    char *equals = strchr(line, '='), *value;
    if (equals == NULL) {
        cut_comment(line);
        return fail_found(reader, line, "name = value");
    }
    *equals = '\0';
    cut_blanks_at_end(line);
    const struct yk_opt *opt = yk_opt_find(reader->opts->spec, line, strlen(line));
    if (opt == NULL)
        return fail_unknown(reader, line);
    int rc = check_placement(reader, opt);
    value = skip_blanks(equals + 1);
    if (rc == 0 && *value == '"')
        rc = unquote(reader, value, &value);
    else
        cut_comment(value);
    return (rc < 0) ? rc : yk_opt_set(reader->opts, opt, &reader->source, value, reader->err);
}

static int read_line(struct reader *reader, char *line) {
    line = skip_blanks(line);
    if (*line == '\0' || *line == '#')
        return 0;
    if (*line != '[')
        return read_assignment(reader, line);
    cut_comment(line);
    return read_header(reader, line);
}

/* text is NUL-ended and is written to. */
static int read_lines(struct reader *reader, char *text, size_t len) {
    char *end = text + len;
    int rc = 0;
    while (rc == 0 && text < end) {
        char *eol = memchr(text, '\n', (size_t)(end - text));
        if (eol == NULL)
            eol = end;
        reader->source.line++;
        if (memchr(text, '\0', (size_t)(eol - text)) != NULL)
            return fail(reader, "found a NUL byte, expected text");
        *eol = '\0';
        rc = read_line(reader, text);
        text = eol + 1;
    }
    return rc;
}

static int too_big(const char *path, struct yk_err *err) {
    struct yk_opt_source source = {.path = path};
    char place[YK_OPT_PLACE_MAX];
    yk_opt_file_place(&source, place);
    return yk_err_set(err, -YK_ETOOBIG, "%s: found more than %u bytes, expected a short text file",
                      place, YK_OPT_FILE_MAX);
}

int yk_opt_parse_text(struct yk_opts *opts, const char *path, const char *text, size_t len,
                      struct yk_err *err) {
    struct reader reader = {
        .opts = opts, .source = {.rank = YK_OPT_FILE, .path = path}, .err = err};
    if (len > YK_OPT_FILE_MAX)
        return too_big(path, err);
    char *copy = malloc(len + 1);
    if (copy == NULL)
        return yk_err_set(err, -YK_ENOMEM, "no memory for a file of %zu bytes", len);
    memcpy(copy, text, len);
    copy[len] = '\0';
    opts->run++;
    int rc = read_lines(&reader, copy, len);
    free(copy);
    return rc;
}

static int open_failed(const char *path, int err_no, struct yk_err *err) {
    char quoted[YK_QUOTE_MAX], reason[80];
    int code = (err_no == ENOENT) ? YK_ENOENT : yk_status_from_errno(err_no);
    snprintf(reason, sizeof(reason), "%s", strerror(err_no));
    return yk_err_set(err, -code, "configuration file %s: %s", yk_quote(path, quoted), reason);
}

int yk_opt_parse_file(struct yk_opts *opts, const char *path, struct yk_err *err) {
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return open_failed(path, errno, err);
    char *text = malloc(YK_OPT_FILE_MAX + 1);
    int rc = -YK_ENOMEM;
    if (text == NULL) {
        yk_err_set(err, rc, "no memory to read a file");
        goto close;
    }
    errno = 0;
    size_t len = fread(text, 1, YK_OPT_FILE_MAX + 1, file);
    rc = ferror(file) ? open_failed(path, errno, err)
                      : yk_opt_parse_text(opts, path, text, len, err);
    free(text);
close:
    fclose(file);
    return rc;
}
