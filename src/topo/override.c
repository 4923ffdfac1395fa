/* SPDX-License-Identifier: Apache-2.0
 *
 * The file that sets right what was found (topo.h has its form).
 *
 * jansson parses it and says where it is no JSON. It keeps no lines for what it has parsed, so that where
 * a value is wrong its line is looked up again, by the keys that lead to it: keys are unique (duplicates
 * are refused). A form of our own with a line a setting was rejected: `yolk topo --json` prints locations
 * as they are read here.
 *
 * Everything that the file names must be there: a name that is mistyped must not be silently without
 * effect.
 *
 * Threads: any.
 */
#include "topo/topo_priv.h"

#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct yk_override {
    const char *path; /* the caller's */
    char *text;
    json_t *root;
    json_t *devices, *locations; /* of root, or NULL */
    int is_bare;                 /* root itself is the locations */
};

/* ---- where something stands -------------------------------------------------------------------- */

struct place {
    const char *at;
    unsigned line;
    unsigned found;
};

static void skip_space(struct place *p) {
    for (; *p->at == ' ' || *p->at == '\t' || *p->at == '\r' || *p->at == '\n'; p->at++)
        p->line += *p->at == '\n';
}

/* Over a string; its length without quotes. */
static size_t skip_string(struct place *p) {
    const char *begin = ++p->at;
    while (*p->at != 0 && *p->at != '"')
        p->at += p->at[0] == '\\' && p->at[1] != 0 ? 2 : 1;
    size_t n = (size_t)(p->at - begin);
    p->at += *p->at == '"';
    return n;
}

/* Over a value of text that is known to be JSON; notes the line of the key that path leads to. */
static void skip_value(struct place *p, const char *const *path) {
    skip_space(p);
    char open = *p->at;
    if (open == '"') {
        (void)skip_string(p);
        return;
    }
    if (open != '{' && open != '[') {
        p->at += strcspn(p->at, ",]} \t\r\n");
        return;
    }
    p->at++;
    for (skip_space(p); *p->at != 0 && *p->at != '}' && *p->at != ']'; skip_space(p)) {
        const char *const *below = NULL;
        if (open == '{' && *p->at == '"') {
            const char *key = p->at + 1;
            unsigned line = p->line;
            size_t n = skip_string(p);
            int fits = path != NULL && path[0] != NULL && strlen(path[0]) == n &&
                       memcmp(path[0], key, n) == 0;
            if (fits && path[1] == NULL)
                p->found = line;
            below = fits ? path + 1 : NULL;
            skip_space(p);
            p->at += *p->at == ':';
        }
        skip_value(p, below);
        skip_space(p);
        p->at += *p->at == ',';
    }
    p->at += *p->at != 0;
}

/* "FILE:LINE: TEXT", the line of the key that a (and b in it, and c in that) lead to. */
static int wrong(const struct yk_override *o, struct yk_err *err, const char *const path[4],
                 const char *fmt, ...) __attribute__((format(printf, 4, 5)));
static int wrong(const struct yk_override *o, struct yk_err *err, const char *const path[4],
                 const char *fmt, ...) {
    struct place p = {.at = o->text, .line = 1, .found = 1};
    char text[YK_ERR_TEXT_MAX];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    skip_value(&p, path);
    return yk_err_set(err, -YK_EINVAL, "%s:%u: %s", o->path, p.found, text);
}

#define AT(...) ((const char *const[4]){__VA_ARGS__})

/* ---- reading ----------------------------------------------------------------------------------- */

/* A file's text; *ret_text is the caller's, whatever comes back. */
static int read_file(const char *path, char **ret_text, size_t *ret_len, struct yk_err *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t n = 0;
    ssize_t got = -1;
    char *text = *ret_text = fd < 0 ? NULL : malloc(YK_TOPO_FILE_MAX + 1);
    while (text != NULL && n < YK_TOPO_FILE_MAX &&
           ((got = read(fd, text + n, YK_TOPO_FILE_MAX - n)) > 0 || (got < 0 && errno == EINTR)))
        n += got > 0 ? (size_t)got : 0;
    int e = errno;
    if (fd >= 0)
        close(fd);
    if (fd >= 0 && text == NULL)
        return yk_err_set(err, -YK_ENOMEM, "no memory to read '%s'", path);
    if (fd < 0 || (got < 0 && n < YK_TOPO_FILE_MAX))
        return yk_err_set(err, -yk_status_from_errno(e), "cannot read '%s': %s", path, strerror(e));
    if (n == YK_TOPO_FILE_MAX)
        return yk_err_set(err, -YK_EINVAL, "'%s' is longer than %u bytes", path,
                          YK_TOPO_FILE_MAX - 1);
    *ret_len = n;
    return 0;
}

static const char *type_name(const json_t *v) {
    static const char *const names[] = {"an object", "a list",  "a text",  "a number",
                                        "a number",  "a truth", "a truth", "null"};
    return names[json_typeof(v)];
}

static int split(struct yk_override *o, struct yk_err *err) {
    const char *key;
    json_t *v;
    if (!json_is_object(o->root))
        return wrong(o, err, AT(NULL), "found %s, expected an object {...}", type_name(o->root));
    o->devices = json_object_get(o->root, "devices");
    o->locations = json_object_get(o->root, "locations");
    o->is_bare = o->devices == NULL && o->locations == NULL;
    if (o->is_bare)
        o->locations = o->root;
    json_object_foreach(o->root, key, v) {
        char quoted[YK_QUOTE_MAX];
        int known = o->is_bare ? strchr(key, ':') != NULL : v == o->devices || v == o->locations;
        if (!known)
            return wrong(o, err, AT(key),
                         "found %s, expected devices, locations, or a location such as cpu:0",
                         yk_quote(key, quoted));
        if (!o->is_bare && !json_is_object(v))
            return wrong(o, err, AT(key), "%s: found %s, expected an object {...}", key,
                         type_name(v));
    }
    return 0;
}

/* jansson quotes what it stumbled over as it is. */
static const char *one_line(char *text) {
    for (char *p = text; *p != 0; p++)
        *p = (unsigned char)*p < ' ' || *p == 127 ? '?' : *p;
    return text;
}

int yk_override_text(const char *path, const char *text, size_t len, struct yk_override **ret,
                     struct yk_err *err) {
    json_error_t e;
    int rc = 0;
    struct yk_override *o = calloc(1, sizeof(*o));
    if (o != NULL)
        o->text = malloc(len + 1);
    if (o == NULL || o->text == NULL) {
        free(o);
        return yk_err_set(err, -YK_ENOMEM, "no memory for a topology");
    }
    o->path = path;
    memcpy(o->text, text, len);
    o->text[len] = 0;
    o->root = json_loadb(o->text, len, JSON_REJECT_DUPLICATES, &e);
    if (o->root == NULL)
        rc = yk_err_set(err, -YK_EINVAL, "%s:%d: %.120s", path, e.line > 0 ? e.line : 1,
                        one_line(e.text));
    else
        rc = split(o, err);
    if (rc < 0) {
        yk_override_free(o);
        return rc;
    }
    *ret = o;
    return 0;
}

int yk_override_read(const char *path, struct yk_override **ret, struct yk_err *err) {
    char *text = NULL;
    size_t len = 0;
    int rc = read_file(path, &text, &len, err);
    if (rc == 0)
        rc = yk_override_text(path, text, len, ret, err);
    free(text);
    return rc;
}

void yk_override_free(struct yk_override *o) {
    if (o == NULL)
        return;
    json_decref(o->root);
    free(o->text);
    free(o);
}

/* ---- devices ----------------------------------------------------------------------------------- */

static int set_dev(const struct yk_override *o, struct yk_topo *t, const char *name,
                   struct yk_topo_dev *d, json_t *fields, struct yk_err *err) {
    const char *key;
    json_t *v;
    json_object_foreach(fields, key, v) {
        const char *const at[4] = {"devices", name, key};
        json_int_t n = json_integer_value(v);
        char quoted[YK_QUOTE_MAX];
        if (strcmp(key, "ignore") == 0) {
            if (!json_is_boolean(v))
                return wrong(o, err, at, "ignore: found %s, expected true or false", type_name(v));
            d->ignored = json_is_true(v);
        } else if (strcmp(key, "mbit") == 0) {
            if (!json_is_integer(v) || n < 1 || n > 100000000 || d->kind != YK_TOPO_NIC)
                return wrong(o, err, at,
                             "mbit: expected the speed of a network device, 1 to 100000000 Mbit/s");
            d->mbit = (uint32_t)n;
        } else if (strcmp(key, "node") == 0) {
            int known = 0;
            for (uint32_t i = 0; i < t->node_count; i++)
                known |= json_is_integer(v) && t->nodes[i].id == n;
            if (!known)
                return wrong(
                    o, err, at,
                    "node: expected the number of a NUMA node of this host (see yolk topo)");
            if (d->node != (int)n)
                d->path[0] = 0; /* what sysfs says of its place does not hold */
            d->node = (int)n;
        } else {
            return wrong(o, err, at, "found %s, expected node, mbit or ignore",
                         yk_quote(key, quoted));
        }
    }
    return 0;
}

int yk_override_devs(struct yk_override *o, struct yk_topo *t, struct yk_err *err) {
    const char *name;
    json_t *v;
    int rc = 0;
    json_object_foreach(o->devices, name, v) {
        char quoted[YK_QUOTE_MAX];
        struct yk_topo_dev *d = yk_topo_dev_find(t, name);
        if (d == NULL)
            return wrong(o, err, AT("devices", name),
                         "found %s, which is no device of this host (see yolk topo)",
                         yk_quote(name, quoted));
        if (!json_is_object(v))
            return wrong(o, err, AT("devices", name), "%s: found %s, expected an object {...}",
                         yk_quote(name, quoted), type_name(v));
        rc = set_dev(o, t, name, d, v, err);
        if (rc < 0)
            break;
    }
    return rc;
}

/* ---- locations --------------------------------------------------------------------------------- */

static int add_way(const struct yk_override *o, const struct yk_topo *t, struct yk_topo_loc *l,
                   const json_t *v, uint32_t distance, const char *const at[4],
                   struct yk_err *err) {
    char quoted[YK_QUOTE_MAX];
    const struct yk_topo_dev *d =
        json_is_string(v) ? yk_topo_dev_find(t, json_string_value(v)) : NULL;
    if (!json_is_string(v))
        return wrong(o, err, at, "%s: found %s, expected the name of a network device", l->name,
                     type_name(v));
    if (d == NULL || d->kind != YK_TOPO_NIC)
        return wrong(o, err, at,
                     "%s: found %s, which is no network device of this host (see yolk topo)",
                     l->name, yk_quote(json_string_value(v), quoted));
    uint32_t dev = (uint32_t)(d - t->devs);
    for (uint32_t i = 0; i < l->way_count; i++)
        if (l->ways[i].dev == dev)
            return wrong(o, err, at, "%s: found %s twice", l->name, yk_quote(d->name, quoted));
    l->ways[l->way_count++] = (struct yk_topo_way){.dev = dev, .distance = distance};
    return 0;
}

static int set_loc(const struct yk_override *o, const struct yk_topo *t, struct yk_topo_loc *l,
                   const json_t *v, const char *const at[4], struct yk_err *err) {
    l->way_count = l->near_count = 0;
    l->overridden = 1;
    if (!json_is_array(v) || json_array_size(v) != 2 || !json_is_array(json_array_get(v, 0)) ||
        !json_is_array(json_array_get(v, 1)))
        return wrong(o, err, at,
                     "%s: expected two lists of network devices, [[NEAR...], [OTHERS...]]",
                     l->name);
    for (uint32_t list = 0; list < 2; list++) {
        const json_t *names = json_array_get(v, list);
        for (size_t i = 0; i < json_array_size(names); i++) {
            int rc = add_way(o, t, l, json_array_get(names, i), list, at, err);
            if (rc < 0)
                return rc;
        }
        if (list == 0)
            l->near_count = l->way_count;
    }
    return 0;
}

int yk_override_locs(struct yk_override *o, struct yk_topo *t, struct yk_err *err) {
    const char *name;
    json_t *v;
    json_object_foreach(o->locations, name, v) {
        const char *const in[4] = {"locations", name}, *const bare[4] = {name};
        const char *const *at = o->is_bare ? bare : in;
        char quoted[YK_QUOTE_MAX];
        struct yk_topo_loc *l = NULL;
        for (uint32_t i = 0; i < t->loc_count; i++)
            if (strcmp(t->locs[i].name, name) == 0)
                l = &t->locs[i];
        if (l == NULL)
            return wrong(o, err, at, "found %s, which is no location of this host (see yolk topo)",
                         yk_quote(name, quoted));
        int rc = set_loc(o, t, l, v, at, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}
