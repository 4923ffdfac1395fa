/* SPDX-License-Identifier: Apache-2.0
 *
 * Values of options: text to value, limits, storing into the config struct, and back to text.
 *
 * Everything that depends on the type is here, one switch for each direction. Limits are kept as
 * text in the table ("64MiB") and go through the same parsers as values, so that a table reads like
 * its manual and a message quotes the limit as it was written.
 *
 * Thread: one at a time.
 */
#include "base/fmt.h"
#include "base/opt_priv.h"
#include "base/text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

size_t yk_opt_wrong_size(const struct yk_opt *opt) {
    static const size_t sizes[] = {
        [YK_OPT_BOOL] = sizeof(bool),           [YK_OPT_INT] = sizeof(int64_t),
        [YK_OPT_SIZE] = sizeof(uint64_t),       [YK_OPT_DURATION] = sizeof(uint64_t),
        [YK_OPT_PERCENT] = sizeof(double),      [YK_OPT_REAL] = sizeof(double),
        [YK_OPT_STR] = sizeof(char *),          [YK_OPT_ENUM] = sizeof(int),
        [YK_OPT_ADDR] = sizeof(struct yk_addr), [YK_OPT_LIST] = sizeof(struct yk_opt_list),
    };
    if (opt->type == YK_OPT_INT && opt->field_size == sizeof(int))
        return 0;
    return (opt->field_size == sizes[opt->type]) ? 0 : sizes[opt->type];
}

bool yk_opt_is_numeric(enum yk_opt_type type) {
    return type == YK_OPT_INT || type == YK_OPT_SIZE || type == YK_OPT_DURATION ||
           type == YK_OPT_PERCENT || type == YK_OPT_REAL;
}

const char *yk_opt_metavar(const struct yk_opt *opt) {
    static const char *const names[] = {
        [YK_OPT_BOOL] = "yes|no",   [YK_OPT_INT] = "N",           [YK_OPT_SIZE] = "SIZE",
        [YK_OPT_DURATION] = "TIME", [YK_OPT_PERCENT] = "PERCENT", [YK_OPT_REAL] = "NUMBER",
        [YK_OPT_STR] = "TEXT",      [YK_OPT_ENUM] = "NAME",       [YK_OPT_ADDR] = "ADDRESS",
        [YK_OPT_LIST] = "LIST",
    };
    return (opt->metavar != NULL) ? opt->metavar : names[opt->type];
}

/* ---- text to value ---- */

static int parse_int(const struct yk_opt *opt, const char *text, int64_t *ret_value,
                     struct yk_err *err) {
    char quoted[YK_QUOTE_MAX];
    int64_t value = 0;
    int rc = yk_parse_int(text, &value, err);
    if (rc < 0)
        return rc;
    if (opt->field_size == sizeof(int) && (value < INT32_MIN || value > INT32_MAX))
        return yk_err_set(err, -YK_EINVAL, "found %s, expected %d to %d", yk_quote(text, quoted),
                          INT32_MIN, INT32_MAX);
    *ret_value = value;
    return 0;
}

static int parse_addr(const struct yk_opt *opt, const char *text, struct yk_addr *ret_addr,
                      struct yk_err *err) {
    if (text[0] == '\0' || strcmp(text, "none") == 0) {
        memset(ret_addr, 0, sizeof(*ret_addr));
        return 0;
    }
    int rc = opt->check != NULL ? opt->check(text, err) : 0;
    return rc < 0 ? rc : yk_parse_addr(text, ret_addr, err);
}

static int parse_str(const struct yk_opt *opt, const char *text, char **ret_text,
                     struct yk_err *err) {
    int rc = (opt->check != NULL) ? opt->check(text, err) : 0;
    if (rc < 0)
        return rc;
    *ret_text = strdup(text);
    return (*ret_text != NULL) ? 0 : yk_err_set(err, -YK_ENOMEM, "out of memory");
}

static void list_free(struct yk_opt_list *list) {
    for (size_t i = 0; i < list->n; i++)
        free(list->items[i]);
    free(list->items);
    list->items = NULL;
    list->n = 0;
}

static int list_push(struct yk_opt_list *list, char *item) {
    char **items;
    if (list->n >= YK_OPT_LIST_MAX)
        return -YK_ELIMIT;
    items = realloc(list->items, (list->n + 1) * sizeof(*items));
    if (items == NULL)
        return -YK_ENOMEM;
    list->items = items;
    list->items[list->n++] = item;
    return 0;
}

static bool is_blank(char c) {
    return c == ' ' || c == '\t';
}

/* One item, not NUL-ended, with blanks around it. */
static int add_item(const struct yk_opt *opt, const char *start, size_t len,
                    struct yk_opt_list *list, struct yk_err *err) {
    int unused, rc = 0;
    while (len > 0 && is_blank(start[len - 1]))
        len--;
    for (; len > 0 && is_blank(*start); len--)
        start++;
    if (len == 0)
        return yk_err_set(err, -YK_EINVAL, "found an empty item, expected items between commas");
    char *item = strndup(start, len);
    if (item == NULL)
        return yk_err_set(err, -YK_ENOMEM, "out of memory");
    if (opt->values != NULL)
        rc = yk_parse_enum(item, opt->values, &unused, err);
    if (rc == 0 && opt->check != NULL)
        rc = opt->check(item, err);
    if (rc == 0) {
        rc = list_push(list, item);
        if (rc < 0)
            yk_err_set(err, rc, "found more than %d items, or no memory for them", YK_OPT_LIST_MAX);
    }
    if (rc < 0)
        free(item);
    return rc;
}

static int parse_list(const struct yk_opt *opt, const char *text, struct yk_opt_list *ret_list,
                      struct yk_err *err) {
    struct yk_opt_list list = {0};
    if (text[strspn(text, " \t")] == '\0') {
        *ret_list = list;
        return 0;
    }
    for (;;) {
        size_t len = strcspn(text, ",");
        int rc = add_item(opt, text, len, &list, err);
        if (rc < 0) {
            list_free(&list);
            return rc;
        }
        if (text[len] == '\0')
            break;
        text += len + 1;
    }
    *ret_list = list;
    return 0;
}

static int parse_by_type(const struct yk_opt *opt, const char *text, union yk_opt_value *ret,
                         struct yk_err *err) {
    switch (opt->type) {
    case YK_OPT_BOOL:
        return yk_parse_bool(text, &ret->flag, err);
    case YK_OPT_INT:
        return parse_int(opt, text, &ret->number, err);
    case YK_OPT_SIZE:
        return yk_parse_size(text, &ret->amount, err);
    case YK_OPT_DURATION:
        return yk_parse_duration(text, &ret->amount, err);
    case YK_OPT_PERCENT:
        return yk_parse_percent(text, &ret->real, err);
    case YK_OPT_REAL:
        return yk_parse_real(text, &ret->real, err);
    case YK_OPT_STR:
        return parse_str(opt, text, &ret->text, err);
    case YK_OPT_ENUM:
        return yk_parse_enum(text, opt->values, &ret->index, err);
    case YK_OPT_ADDR:
        return parse_addr(opt, text, &ret->addr, err);
    case YK_OPT_LIST:
        return parse_list(opt, text, &ret->list, err);
    }
    return yk_err_set(err, -YK_EINTERNAL, "option of unknown type %d", (int)opt->type);
}

/* ---- limits ---- */

static int compare(enum yk_opt_type type, const union yk_opt_value *a,
                   const union yk_opt_value *b) {
    switch (type) {
    case YK_OPT_INT:
        return (a->number > b->number) - (a->number < b->number);
    case YK_OPT_SIZE:
    case YK_OPT_DURATION:
        return (a->amount > b->amount) - (a->amount < b->amount);
    default:
        return (a->real > b->real) - (a->real < b->real);
    }
}

static int check_limits(const struct yk_opt *opt, const char *text, const union yk_opt_value *value,
                        struct yk_err *err) {
    union yk_opt_value limit;
    char quoted[YK_QUOTE_MAX], limits[100];
    bool low = opt->min != NULL && parse_by_type(opt, opt->min, &limit, NULL) == 0 &&
               compare(opt->type, value, &limit) < 0;
    bool high = opt->max != NULL && parse_by_type(opt, opt->max, &limit, NULL) == 0 &&
                compare(opt->type, value, &limit) > 0;
    if (!low && !high)
        return 0;
    struct yk_buf buf;
    yk_buf_init(&buf, sizeof(limits) - 1);
    yk_opt_limits_format(opt, &buf);
    snprintf(limits, sizeof(limits), "%s", yk_buf_text(&buf));
    yk_buf_fini(&buf);
    return yk_err_set(err, -YK_EINVAL, "found %s, expected %s", yk_quote(text, quoted), limits);
}

void yk_opt_limits_format(const struct yk_opt *opt, struct yk_buf *out) {
    if (opt->values != NULL) {
        yk_buf_puts(out, (opt->type == YK_OPT_LIST) ? "any of" : "one of");
        for (size_t i = 0; opt->values[i] != NULL; i++)
            yk_buf_printf(out, "%s %s", (i > 0) ? "," : "", opt->values[i]);
    } else if (opt->min != NULL && opt->max != NULL) {
        yk_buf_printf(out, "%s to %s", opt->min, opt->max);
    } else if (opt->min != NULL) {
        yk_buf_printf(out, "at least %s", opt->min);
    } else if (opt->max != NULL) {
        yk_buf_printf(out, "at most %s", opt->max);
    }
}

int yk_opt_value_parse(const struct yk_opt *opt, const char *text, union yk_opt_value *ret_value,
                       struct yk_err *err) {
    union yk_opt_value value;
    int rc = parse_by_type(opt, text, &value, err);
    if (rc == 0 && yk_opt_is_numeric(opt->type))
        rc = check_limits(opt, text, &value, err);
    if (rc == 0)
        *ret_value = value;
    return rc;
}

/* ---- the config struct ---- */

static void *field_of(const struct yk_opt *opt, void *config) {
    return (char *)config + opt->offset;
}

static int list_append(struct yk_opt_list *to, struct yk_opt_list *from) {
    char **items;
    if (to->n + from->n > YK_OPT_LIST_MAX)
        return -YK_ELIMIT;
    if (from->n == 0)
        return 0;
    items = realloc(to->items, (to->n + from->n) * sizeof(*items));
    if (items == NULL)
        return -YK_ENOMEM;
    memcpy(items + to->n, from->items, from->n * sizeof(*items));
    to->items = items;
    to->n += from->n;
    free(from->items); /* the strings have moved */
    from->items = NULL;
    from->n = 0;
    return 0;
}

static void store_number(const struct yk_opt *opt, void *field, int64_t number) {
    int narrow = (int)number;
    if (opt->field_size == sizeof(int))
        memcpy(field, &narrow, sizeof(narrow));
    else
        memcpy(field, &number, sizeof(number));
}

int yk_opt_value_store(const struct yk_opt *opt, void *config, union yk_opt_value *value,
                       bool append) {
    void *field = field_of(opt, config);
    if (opt->type == YK_OPT_LIST && append)
        return list_append(field, &value->list);
    yk_opt_field_free(opt, config);
    if (opt->type == YK_OPT_INT)
        store_number(opt, field, value->number);
    else
        memcpy(field, value, opt->field_size); /* members of the union have the fields' types */
    return 0;
}

void yk_opt_value_free(const struct yk_opt *opt, union yk_opt_value *value) {
    if (opt->type == YK_OPT_STR)
        free(value->text);
    else if (opt->type == YK_OPT_LIST)
        list_free(&value->list);
}

void yk_opt_field_free(const struct yk_opt *opt, void *config) {
    void *field = field_of(opt, config);
    if (opt->type == YK_OPT_STR) {
        free(*(char **)field);
        *(char **)field = NULL;
    } else if (opt->type == YK_OPT_LIST) {
        list_free(field);
    }
}

/* ---- value to text ---- */

static void format_list(const struct yk_opt_list *list, struct yk_buf *out) {
    for (size_t i = 0; i < list->n; i++)
        yk_buf_printf(out, "%s%s", (i > 0) ? ", " : "", list->items[i]);
}

static int64_t load_number(const struct yk_opt *opt, const void *field) {
    int64_t number;
    int narrow;
    if (opt->field_size == sizeof(int)) {
        memcpy(&narrow, field, sizeof(narrow));
        return narrow;
    }
    memcpy(&number, field, sizeof(number));
    return number;
}

void yk_opt_value_format(const struct yk_opt *opt, const void *config, struct yk_buf *out) {
    const void *field = (const char *)config + opt->offset;
    char number[YK_FMT_MAX], addr[YK_ADDR_TEXT_MAX];
    switch (opt->type) {
    case YK_OPT_BOOL:
        yk_buf_puts(out, *(const bool *)field ? "yes" : "no");
        break;
    case YK_OPT_INT:
        yk_buf_printf(out, "%" PRId64, load_number(opt, field));
        break;
    case YK_OPT_SIZE:
        yk_buf_puts(out, yk_fmt_bytes_exact(*(const uint64_t *)field, number));
        break;
    case YK_OPT_DURATION:
        yk_buf_puts(out, yk_fmt_duration_exact(*(const uint64_t *)field, number));
        break;
    case YK_OPT_PERCENT:
        yk_buf_puts(out, yk_fmt_percent(*(const double *)field, number));
        break;
    case YK_OPT_REAL:
        yk_buf_puts(out, yk_fmt_real(*(const double *)field, number));
        break;
    case YK_OPT_STR:
        if (*(char *const *)field != NULL)
            yk_buf_puts(out, *(char *const *)field);
        break;
    case YK_OPT_ENUM:
        yk_buf_puts(out, opt->values[*(const int *)field]);
        break;
    case YK_OPT_ADDR:
        yk_buf_puts(out, yk_addr_format(field, addr));
        break;
    case YK_OPT_LIST:
        format_list(field, out);
        break;
    }
}
