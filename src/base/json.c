/* SPDX-License-Identifier: Apache-2.0
 *
 * Streaming JSON writer (json.h).
 *
 * What may come next follows from four facts: whether there is a level above, its kind, whether it
 * has items yet, and whether a key waits for its value. Levels are bits of two words.
 *
 * Thread: one at a time.
 */
#include "base/json.h"

#include "base/fmt.h"
#include "base/text.h"

#include <yolk/status.h>

#include <inttypes.h>
#include <math.h>
#include <string.h>

void yk_json_init_buf(struct yk_json *json, struct yk_buf *buf) {
    memset(json, 0, sizeof(*json));
    json->buf = buf;
}

void yk_json_init_file(struct yk_json *json, FILE *file) {
    memset(json, 0, sizeof(*json));
    json->file = file;
}

static void put(struct yk_json *json, const char *data, size_t len) {
    if (json->status < 0)
        return;
    if (json->buf != NULL) {
        yk_buf_append(json->buf, data, len);
        json->status = json->buf->status;
    } else if (fwrite(data, 1, len, json->file) != len) {
        json->status = -YK_EIO;
    }
}

static void put_text(struct yk_json *json, const char *text) {
    put(json, text, strlen(text));
}

static void misused(struct yk_json *json) {
    if (json->status == 0)
        json->status = -YK_EINTERNAL;
}

static uint32_t level_bit(const struct yk_json *json) {
    return 1u << (json->depth - 1);
}

/* Before the next item of a level. */
static void separate(struct yk_json *json) {
    if (json->has_item & level_bit(json))
        put_text(json, ", ");
    json->has_item |= level_bit(json);
}

/* Before any value: whether one may stand here, and the comma if one is due. */
static void before_value(struct yk_json *json) {
    if (json->depth == 0) {
        if (json->has_root)
            misused(json);
        json->has_root = true;
    } else if (json->in_array & level_bit(json)) {
        separate(json);
    } else if (!json->has_key) {
        misused(json);
    }
    json->has_key = false;
}

static void begin(struct yk_json *json, bool array) {
    before_value(json);
    if (json->depth == YK_JSON_DEPTH_MAX) {
        misused(json);
        return;
    }
    put_text(json, array ? "[" : "{");
    json->depth++;
    json->has_item &= ~level_bit(json);
    json->in_array &= ~level_bit(json);
    if (array)
        json->in_array |= level_bit(json);
}

static void end(struct yk_json *json, bool array) {
    if (json->depth == 0 || json->has_key || ((json->in_array & level_bit(json)) != 0) != array) {
        misused(json);
        return;
    }
    put_text(json, array ? "]" : "}");
    json->depth--;
}

void yk_json_begin_object(struct yk_json *json) {
    begin(json, false);
}

void yk_json_end_object(struct yk_json *json) {
    end(json, false);
}

void yk_json_begin_array(struct yk_json *json) {
    begin(json, true);
}

void yk_json_end_array(struct yk_json *json) {
    end(json, true);
}

/* One character that can't stand for itself. */
static void put_escape(struct yk_json *json, unsigned char c) {
    static const char plain[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    const char *at = (c != '\0') ? strchr(plain, c) : NULL;
    char text[8];
    if (at != NULL)
        snprintf(text, sizeof(text), "\\%c", letters[at - plain]);
    else
        snprintf(text, sizeof(text), "\\u%04x", c);
    put_text(json, text);
}

static bool stands_for_itself(unsigned char c) {
    return c >= 0x20 && c != '"' && c != '\\';
}

/* Runs of ordinary characters go out in one piece. */
static void put_string(struct yk_json *json, const char *text, size_t len) {
    size_t run = 0, at = 0;
    put_text(json, "\"");
    while (at < len) {
        size_t n = yk_utf8_len(text + at, len - at);
        if (n > 0 && stands_for_itself((unsigned char)text[at])) {
            at += n;
            continue;
        }
        put(json, text + run, at - run);
        if (n == 0)
            put_text(json, YK_UTF8_REPLACEMENT);
        else
            put_escape(json, (unsigned char)text[at]);
        run = ++at;
    }
    put(json, text + run, at - run);
    put_text(json, "\"");
}

void yk_json_key(struct yk_json *json, const char *key) {
    if (json->depth == 0 || (json->in_array & level_bit(json)) || json->has_key) {
        misused(json);
        return;
    }
    separate(json);
    put_string(json, key, strlen(key));
    put_text(json, ": ");
    json->has_key = true;
}

void yk_json_strn(struct yk_json *json, const char *text, size_t len) {
    before_value(json);
    put_string(json, text, len);
}

void yk_json_str(struct yk_json *json, const char *text) {
    if (text == NULL)
        yk_json_null(json);
    else
        yk_json_strn(json, text, strlen(text));
}

void yk_json_int(struct yk_json *json, int64_t value) {
    char text[YK_FMT_MAX];
    snprintf(text, sizeof(text), "%" PRId64, value);
    before_value(json);
    put_text(json, text);
}

void yk_json_uint(struct yk_json *json, uint64_t value) {
    char text[YK_FMT_MAX];
    snprintf(text, sizeof(text), "%" PRIu64, value);
    before_value(json);
    put_text(json, text);
}

void yk_json_double(struct yk_json *json, double value) {
    char text[YK_FMT_MAX];
    before_value(json);
    put_text(json, isfinite(value) ? yk_fmt_double(value, text) : "null");
}

void yk_json_bool(struct yk_json *json, bool value) {
    before_value(json);
    put_text(json, value ? "true" : "false");
}

void yk_json_null(struct yk_json *json) {
    before_value(json);
    put_text(json, "null");
}

void yk_json_newline(struct yk_json *json) {
    if (json->depth > 0 || !json->has_root)
        misused(json);
    put_text(json, "\n");
    json->has_root = false;
}

int yk_json_finish(struct yk_json *json) {
    if (json->depth > 0)
        misused(json);
    if (json->file != NULL && (fflush(json->file) != 0 || ferror(json->file)) && json->status == 0)
        json->status = -YK_EIO;
    return json->status;
}
