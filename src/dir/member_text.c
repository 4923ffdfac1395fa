/* SPDX-License-Identifier: Apache-2.0
 *
 * Values that membership keeps in etcd and on disk, as JSON: operators read them, and later versions may add
 * to them, so members that are not known are passed over. What is read is checked; a text says what was found.
 *
 * Random and exact 64-bit numbers are hex strings, since many readers of JSON know doubles only.
 */
#include "dir/member_priv.h"

#include "base/json.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <yolk/yolk.h>

#define FORMAT 1 /* of `cluster` and all that stands beside it */

static void put_hex(struct yk_json *j, const char *key, uint64_t value) {
    char text[20];
    snprintf(text, sizeof(text), "%016" PRIx64, value);
    yk_json_put_str(j, key, text);
}

/* ---- reading ---------------------------------------------------------------------------------- */

static json_t *read_object(const void *value, size_t len, const char *what, struct yk_err *err) {
    json_error_t e;
    json_t *o = json_loadb(value != NULL ? value : "", len, JSON_REJECT_DUPLICATES, &e);
    if (o != NULL && json_is_object(o))
        return o;
    yk_err_set(err, -YK_EPROTO, "%s is no JSON object: %.100s", what, o == NULL ? e.text : "another value");
    json_decref(o);
    return NULL;
}

static int bad(struct yk_err *err, const char *what, const char *key) {
    return yk_err_set(err, -YK_EPROTO, "%s has no good \"%s\"", what, key);
}

static int get_hex(const json_t *o, const char *what, const char *key, uint64_t *ret, struct yk_err *err) {
    const char *text = json_string_value(json_object_get(o, key));
    uint64_t value = 0;
    if (text == NULL || strlen(text) != 16 || strspn(text, "0123456789abcdef") != 16)
        return bad(err, what, key);
    for (; *text != '\0'; text++)
        value = value << 4 | (uint64_t)(*text <= '9' ? *text - '0' : *text - 'a' + 10);
    *ret = value;
    return 0;
}

static int get_number(const json_t *o, const char *what, const char *key, uint64_t *ret, struct yk_err *err) {
    const json_t *v = json_object_get(o, key);
    if (!json_is_integer(v) || json_integer_value(v) < 0)
        return bad(err, what, key);
    *ret = (uint64_t)json_integer_value(v);
    return 0;
}

static int get_text(const json_t *o, const char *what, const char *key, char *ret, size_t size, struct yk_err *err) {
    const char *text = json_string_value(json_object_get(o, key));
    if (text == NULL || strlen(text) >= size)
        return bad(err, what, key);
    snprintf(ret, size, "%s", text);
    return 0;
}

/* ---- cluster ---------------------------------------------------------------------------------- */

void yk_member_put_cluster(struct yk_buf *b, uint64_t cluster) {
    struct yk_json j;
    yk_json_init_buf(&j, b);
    yk_json_begin_object(&j);
    put_hex(&j, "id", cluster);
    yk_json_put_uint(&j, "format", FORMAT);
    yk_json_end_object(&j);
    yk_json_finish(&j);
}

int yk_member_read_cluster(const void *value, size_t len, uint64_t *ret_cluster, struct yk_err *err) {
    uint64_t format = 0, id = 0;
    json_t *o = read_object(value, len, "the cluster's key", err);
    if (o == NULL)
        return -YK_EPROTO;
    int rc = get_number(o, "the cluster's key", "format", &format, err);
    if (rc == 0 && format > FORMAT)
        rc = yk_err_set(err, -YK_EVERSION,
                        "the cluster has format %" PRIu64 ", and this program knows formats up to %d: run a newer one",
                        format, FORMAT);
    if (rc == 0)
        rc = get_hex(o, "the cluster's key", "id", &id, err);
    if (rc == 0 && id == 0)
        rc = bad(err, "the cluster's key", "id");
    json_decref(o);
    if (rc == 0)
        *ret_cluster = id;
    return rc;
}

/* What an older node does not say is "". */
static int get_new_text(const json_t *o, const char *what, const char *key, char *ret, size_t size, struct yk_err *err) {
    return json_object_get(o, key) != NULL ? get_text(o, what, key, ret, size, err) : 0;
}

/* ---- nodes ------------------------------------------------------------------------------------ */

void yk_member_put_node(struct yk_buf *b, const struct yk_member_node *n) {
    struct yk_json j;
    yk_json_init_buf(&j, b);
    yk_json_begin_object(&j);
    yk_json_put_uint(&j, "id", n->id);
    yk_json_put_uint(&j, "incarnation", n->incarnation);
    yk_json_put_str(&j, "clients", n->clients);
    yk_json_put_str(&j, "peers", n->peers);
    yk_json_put_str(&j, "transfer", n->transfer);
    yk_json_put_str(&j, "local", n->local);
    yk_json_put_str(&j, "host", n->host);
    yk_json_put_str(&j, "zone", n->zone);
    yk_json_put_str(&j, "version", n->version);
    yk_json_put_uint(&j, "capacity", n->capacity_bytes);
    yk_json_put_double(&j, "lookups", n->load.lookups_per_s);
    yk_json_put_uint(&j, "entries", n->load.entries);
    yk_json_put_uint(&j, "held", n->load.held_bytes);
    yk_json_end_object(&j);
    yk_json_finish(&j);
}

int yk_member_read_node(const char *name, const void *value, size_t len, struct yk_member_node *ret, struct yk_err *err) {
    static const char what[] = "a node's key";
    struct yk_member_node n = {.id = 0};
    uint64_t id = 0;
    json_t *o = read_object(value, len, what, err);
    if (o == NULL)
        return -YK_EPROTO;
    n.load.lookups_per_s = json_number_value(json_object_get(o, "lookups"));
    int ok = strlen(name) <= YK_DIR_NAME_MAX && get_number(o, what, "id", &id, err) == 0 &&
             get_number(o, what, "incarnation", &n.incarnation, err) == 0 &&
             get_text(o, what, "clients", n.clients, sizeof(n.clients), err) == 0 &&
             get_text(o, what, "peers", n.peers, sizeof(n.peers), err) == 0 &&
             get_text(o, what, "transfer", n.transfer, sizeof(n.transfer), err) == 0 &&
             get_new_text(o, what, "local", n.local, sizeof(n.local), err) == 0 &&
             get_new_text(o, what, "host", n.host, sizeof(n.host), err) == 0 &&
             get_text(o, what, "zone", n.zone, sizeof(n.zone), err) == 0 &&
             get_text(o, what, "version", n.version, sizeof(n.version), err) == 0 &&
             get_number(o, what, "capacity", &n.capacity_bytes, err) == 0 &&
             get_number(o, what, "entries", &n.load.entries, err) == 0;
    json_int_t held = json_integer_value(json_object_get(o, "held")); /* a node of before says nothing of it */
    n.load.held_bytes = held > 0 ? (uint64_t)held : 0;
    json_decref(o);
    if (ok && (id == 0 || id > UINT32_MAX || n.incarnation == 0))
        ok = bad(err, what, "id") == 0;
    if (!ok)
        return -YK_EPROTO;
    n.id = (uint32_t)id;
    snprintf(n.name, sizeof(n.name), "%.*s", (int)YK_DIR_NAME_MAX, name);
    *ret = n;
    return 0;
}

/* ---- namespaces ------------------------------------------------------------------------------- */

static const char *const space_members[] = {"epoch", "quota", "copies", "guarantee", "priority", "version"};

/* rest is an object of its own: what follows its first brace takes the place of our last one. */
static void put_rest(struct yk_buf *b, const char *rest) {
    if (b->status < 0)
        return;
    b->len--;
    yk_buf_puts(b, ", ");
    yk_buf_puts(b, rest + 1);
}

void yk_member_put_space(struct yk_buf *b, const struct yk_member_space *s, const char *rest) {
    struct yk_json j;
    yk_json_init_buf(&j, b);
    yk_json_begin_object(&j);
    yk_json_put_uint(&j, "epoch", s->epoch);
    yk_json_put_uint(&j, "quota", s->quota_bytes);
    if (s->copies > 0)
        yk_json_put_uint(&j, "copies", s->copies);
    if (s->guarantee_bytes > 0)
        yk_json_put_uint(&j, "guarantee", s->guarantee_bytes);
    if (s->priority > 0)
        yk_json_put_uint(&j, "priority", s->priority);
    if (s->version > 0)
        yk_json_put_uint(&j, "version", s->version);
    yk_json_end_object(&j);
    yk_json_finish(&j);
    if (rest != NULL)
        put_rest(b, rest);
}

/* Later than the rest: `none` where it is not. */
static int get_later(const json_t *o, const char *key, uint64_t none, uint64_t *ret, struct yk_err *err) {
    *ret = none;
    return json_object_get(o, key) != NULL ? get_number(o, "a namespace's key", key, ret, err) : 0;
}

static uint32_t at_most(uint64_t value, uint32_t max, uint32_t keep) {
    return value == UINT64_MAX ? keep : value < max ? (uint32_t)value : max;
}

/* Takes what is known out of o. More than is kept is none, with a text: the rest of the record counts. */
static int get_rest(json_t *o, char **ret_rest, struct yk_err *err) {
    for (size_t i = 0; i < sizeof(space_members) / sizeof(space_members[0]); i++)
        json_object_del(o, space_members[i]);
    if (json_object_size(o) == 0)
        return 0;
    char *rest = json_dumps(o, JSON_COMPACT | JSON_PRESERVE_ORDER);
    if (rest == NULL)
        return yk_err_set(err, -YK_ENOMEM, "no memory for a namespace's key");
    if (strlen(rest) > YK_MEMBER_REST_MAX) {
        free(rest);
        (void)yk_err_set(err, -YK_ETOOBIG, "a namespace's key has more that is not known than %u bytes: it is dropped",
                         YK_MEMBER_REST_MAX);
        return 0;
    }
    *ret_rest = rest;
    return 0;
}

int yk_member_read_space(const void *value, size_t len, struct yk_member_space *ret, char **ret_rest, struct yk_err *err) {
    static const char what[] = "a namespace's key";
    struct yk_member_space s = {.epoch = 0};
    uint64_t copies = 0, priority = 0;
    json_t *o = read_object(value, len, what, err);
    if (o == NULL)
        return -YK_EPROTO;
    int rc = get_number(o, what, "epoch", &s.epoch, err);
    if (rc == 0)
        rc = get_number(o, what, "quota", &s.quota_bytes, err);
    if (rc == 0)
        rc = get_later(o, "version", 0, &s.version, err);
    uint64_t none = s.version == 0 ? UINT64_MAX : 0; /* no number that is read: as it is (YK_MEMBER_KEEP_...) */
    if (rc == 0)
        rc = get_later(o, "copies", none, &copies, err);
    if (rc == 0)
        rc = get_later(o, "guarantee", none, &s.guarantee_bytes, err);
    if (rc == 0)
        rc = get_later(o, "priority", none, &priority, err);
    if (rc == 0)
        rc = get_rest(o, ret_rest, err);
    json_decref(o);
    if (rc == 0) {
        s.copies = at_most(copies, YK_COPIES_MAX, YK_MEMBER_KEEP_COPIES);
        s.priority = at_most(priority, YK_PRIORITY_MAX, YK_MEMBER_KEEP_PRIORITY);
        yk_member_space_copy(ret, &s);
    }
    return rc;
}

/* ---- this node's life -------------------------------------------------------------------------- */

void yk_member_put_life(struct yk_buf *b, const struct yk_member_life *l) {
    struct yk_json j;
    yk_json_init_buf(&j, b);
    yk_json_begin_object(&j);
    put_hex(&j, "cluster", l->cluster);
    yk_json_put_str(&j, "name", l->name);
    yk_json_put_uint(&j, "incarnation", l->incarnation);
    yk_json_put_bool(&j, "stale", l->stale != 0);
    yk_json_put_str(&j, "prefix", l->prefix);
    yk_json_end_object(&j);
    yk_json_finish(&j);
}

int yk_member_read_life(const void *value, size_t len, struct yk_member_life *ret, struct yk_err *err) {
    static const char what[] = "the file `node`";
    struct yk_member_life l = {.cluster = 0};
    json_t *o = read_object(value, len, what, err);
    if (o == NULL)
        return -YK_EPROTO;
    int ok = get_hex(o, what, "cluster", &l.cluster, err) == 0 &&
             get_text(o, what, "name", l.name, sizeof(l.name), err) == 0 &&
             get_number(o, what, "incarnation", &l.incarnation, err) == 0;
    l.stale = json_is_true(json_object_get(o, "stale"));
    if (ok && json_object_get(o, "prefix") != NULL) /* later than the rest */
        ok = get_text(o, what, "prefix", l.prefix, sizeof(l.prefix), err) == 0;
    json_decref(o);
    if (!ok)
        return -YK_EPROTO;
    *ret = l;
    return 0;
}
