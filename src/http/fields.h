/* SPDX-License-Identifier: Apache-2.0
 *
 * Fields of a JSON object into a struct, by a table: what bodies of requests are read with. A field that is not in
 * the table, or of another type, is refused with a text that names it: a slip of the pen must not pass for a default.
 *
 * Thread: any.
 */
#ifndef YK_HTTP_FIELDS_H
#define YK_HTTP_FIELDS_H

#include "base/status.h"

#include <jansson.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum http_type {
    HTTP_U32,    /* uint32_t; 0 to its largest */
    HTTP_U64,    /* uint64_t; as jansson's integers, to 2^63 - 1 */
    HTTP_REAL,   /* double; any number, or null: NAN */
    HTTP_BOOL,   /* int */
    HTTP_TEXT,   /* const char *, borrowed from the JSON; null: NULL */
    HTTP_ARRAY,  /* const json_t *, likewise */
    HTTP_OBJECT, /* const json_t *, likewise */
};

struct http_field {
    const char *name;
    enum http_type type;
    size_t offset;
};

#define HTTP_FIELD(name, type, of, field) {name, type, offsetof(of, field)}

/* Fields that are not there are left as they are. -YK_EINVAL. */
int http_fields_read(const json_t *object, const struct http_field *fields, size_t n, void *into, struct yk_err *err);

#ifdef __cplusplus
}
#endif

#endif
