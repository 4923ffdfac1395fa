/* SPDX-License-Identifier: Apache-2.0
 *
 * Fields of a JSON object into a struct (fields.h).
 */
#include "http/fields.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

static const char *const type_texts[] = {
    [HTTP_U32] = "a whole number from 0 to 4294967295",
    [HTTP_U64] = "a whole number from 0 on",
    [HTTP_REAL] = "a number",
    [HTTP_BOOL] = "true or false",
    [HTTP_TEXT] = "a string",
    [HTTP_ARRAY] = "a list",
    [HTTP_OBJECT] = "an object",
};

static int read_number(const json_t *value, enum http_type type, void *into) {
    uint64_t most = type == HTTP_U32 ? UINT32_MAX : INT64_MAX;
    json_int_t number = json_integer_value(value);
    if (!json_is_integer(value) || number < 0 || (uint64_t)number > most)
        return -YK_EINVAL;
    if (type == HTTP_U32)
        *(uint32_t *)into = (uint32_t)number;
    else
        *(uint64_t *)into = (uint64_t)number;
    return 0;
}

static int read_value(const json_t *value, enum http_type type, void *into) {
    switch (type) {
    case HTTP_U32:
    case HTTP_U64:
        return read_number(value, type, into);
    case HTTP_REAL:
        *(double *)into = json_is_number(value) ? json_number_value(value) : NAN;
        return json_is_number(value) || json_is_null(value) ? 0 : -YK_EINVAL;
    case HTTP_BOOL:
        *(int *)into = json_is_true(value);
        return json_is_boolean(value) ? 0 : -YK_EINVAL;
    case HTTP_TEXT:
        *(const char **)into = json_string_value(value);
        return json_is_string(value) || json_is_null(value) ? 0 : -YK_EINVAL;
    case HTTP_ARRAY:
        *(const json_t **)into = value;
        return json_is_array(value) ? 0 : -YK_EINVAL;
    case HTTP_OBJECT:
        *(const json_t **)into = value;
        return json_is_object(value) ? 0 : -YK_EINVAL;
    }
    return -YK_EINVAL;
}

static const struct http_field *find(const struct http_field *fields, size_t n, const char *name) {
    for (size_t i = 0; i < n; i++)
        if (strcmp(fields[i].name, name) == 0)
            return &fields[i];
    return NULL;
}

int http_fields_read(const json_t *object, const struct http_field *fields, size_t n, void *into, struct yk_err *err) {
    json_t *o = (json_t *)(uintptr_t)object, *value;
    const char *name;
    if (!json_is_object(object))
        return yk_err_set(err, -YK_EINVAL, "expected an object");
    json_object_foreach(o, name, value) {
        const struct http_field *f = find(fields, n, name);
        if (f == NULL)
            return yk_err_set(err, -YK_EINVAL, "'%.60s' is no field of this", name);
        if (read_value(value, f->type, (char *)into + f->offset) < 0)
            return yk_err_set(err, -YK_EINVAL, "'%s': expected %s", name, type_texts[f->type]);
    }
    return 0;
}
