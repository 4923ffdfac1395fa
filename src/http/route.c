/* SPDX-License-Identifier: Apache-2.0
 *
 * The router over HTTP (yolk/route.h): the bodies of requests into its structs, and its answers as JSON.
 *
 *   POST /v1/route           who should serve this request?
 *   POST /v1/route/outcome   how it went
 *   POST /v1/route/load      an instance reports
 *   POST /v1/route/blocks    what one has
 *   GET  /v1/route           what is known and was learned
 *
 * The router is made by the first POST: nodes that are not asked pay nothing for it. docs/api.md has the fields.
 *
 * Thread: the one for what may take long (later.h).
 */
#include "http/fields.h"
#include "http/http_priv.h"

#include "base/json.h"

#include <yolk/route.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_MAX   (1u << 20)
#define CHOICES_MAX  64u
#define CHOICES      8u
#define HELD_MAX     1024u
#define KEEP_MAX     256u
#define BLOCKS_MAX   1048576u /* told at once */
#define HOLDERS_MAX  2048u /* engines, and as many nodes: of a large cluster all report what they measure */
#define WHOLE_DIGITS 16u /* hex digits of a hash that is taken as it is; longer ones are hashed */

static int refuse(struct yk_err *err, const char *what) {
    return yk_err_set(err, -YK_EINVAL, "%s", what);
}

/* What the router says of a failure. */
static int router_err(int rc, struct yk_err *err) {
    return rc < 0 ? yk_err_set(err, rc, "%s", yk_route_error_text()) : rc;
}

/* ---- hashes ---- */

/* An odd digit is none. */
static int hex_hash(const char *digits, uint64_t *ret) {
    unsigned char bytes[256];
    size_t n = strlen(digits);
    char *end;
    if (n == 0 || strspn(digits, "0123456789abcdefABCDEF") != n || (n > WHOLE_DIGITS && n % 2 != 0) ||
        n > 2 * sizeof(bytes))
        return -YK_EINVAL;
    if (n <= WHOLE_DIGITS) {
        *ret = strtoull(digits, &end, 16);
        return 0;
    }
    for (size_t i = 0; i < n / 2; i++) {
        const char two[3] = {digits[2 * i], digits[2 * i + 1], '\0'};
        bytes[i] = (unsigned char)strtoul(two, &end, 16);
    }
    *ret = yk_route_hash(bytes, n / 2);
    return 0;
}

static int decimal_hash(const char *text, uint64_t *ret) {
    char *end;
    errno = 0;
    *ret = strtoull(text, &end, 10);
    return *text >= '0' && *text <= '9' && *end == '\0' && errno == 0 ? 0 : -YK_EINVAL;
}

/* A number, or text: decimal, or 0x and hex digits. */
static int read_hash(const json_t *value, uint64_t *ret) {
    const char *text = json_string_value(value);
    if (json_is_integer(value)) {
        *ret = (uint64_t)json_integer_value(value);
        return 0;
    }
    if (text == NULL)
        return -YK_EINVAL;
    return strncmp(text, "0x", 2) == 0 ? hex_hash(text + 2, ret) : decimal_hash(text, ret);
}

static int read_key(const json_t *value, uint64_t *ret) {
    if (!json_is_string(value))
        return -YK_EINVAL;
    *ret = yk_route_hash(json_string_value(value), json_string_length(value));
    return 0;
}

/* The caller frees *ret. */
static int read_list(const json_t *list, uint32_t most, int (*read)(const json_t *, uint64_t *), const char *wrong,
                     uint64_t **ret, uint32_t *ret_n, struct yk_err *err) {
    size_t n = json_array_size(list);
    if (n > most)
        return yk_err_set(err, -YK_EINVAL, "found %zu blocks, at most %u are taken", n, most);
    *ret = malloc((n > 0 ? n : 1) * sizeof(**ret));
    if (*ret == NULL)
        return yk_err_set(err, -YK_ENOMEM, "out of memory");
    for (size_t i = 0; i < n; i++)
        if (read(json_array_get(list, i), &(*ret)[i]) < 0)
            return refuse(err, wrong);
    *ret_n = (uint32_t)n;
    return 0;
}

#define HASH_TEXT "a block's hash: expected a whole number, or a string of decimal digits or of 0x and hex digits"
#define KEY_TEXT  "'keys': expected strings"

/* ---- asking ---- */

struct ask {
    yk_route_request request;
    const json_t *chain, *keys, *held, *targets;
    uint64_t *hashes;
    yk_route_held *holders;
    const char **names;
    uint32_t count;
    int take, keep;
    const char *name_space;
};

static const struct http_field ask_fields[] = {
    HTTP_FIELD("tokens", HTTP_U32, struct ask, request.tokens),
    HTTP_FIELD("output_tokens", HTTP_U32, struct ask, request.output_tokens),
    HTTP_FIELD("block_tokens", HTTP_U32, struct ask, request.block_tokens),
    HTTP_FIELD("blocks", HTTP_U32, struct ask, request.blocks),
    HTTP_FIELD("block_bytes", HTTP_U64, struct ask, request.block_bytes),
    HTTP_FIELD("objective_ms", HTTP_REAL, struct ask, request.objective_ms),
    HTTP_FIELD("chain", HTTP_ARRAY, struct ask, chain),
    HTTP_FIELD("keys", HTTP_ARRAY, struct ask, keys),
    HTTP_FIELD("held", HTTP_OBJECT, struct ask, held),
    HTTP_FIELD("targets", HTTP_ARRAY, struct ask, targets),
    HTTP_FIELD("count", HTTP_U32, struct ask, count),
    HTTP_FIELD("take", HTTP_BOOL, struct ask, take),
    HTTP_FIELD("keep", HTTP_BOOL, struct ask, keep),
    HTTP_FIELD("namespace", HTTP_TEXT, struct ask, name_space),
};

static const struct http_field held_fields[] = {
    HTTP_FIELD("vram", HTTP_U32, yk_route_held, blocks[0]),
    HTTP_FIELD("dram", HTTP_U32, yk_route_held, blocks[1]),
    HTTP_FIELD("ssd", HTTP_U32, yk_route_held, blocks[2]),
};

#define N(rows) (sizeof(rows) / sizeof((rows)[0]))

static int read_held(struct ask *a, struct yk_err *err) {
    json_t *value;
    const char *name;
    size_t n = json_object_size(a->held);
    if (n > HELD_MAX)
        return refuse(err, "'held': more than 1024 names");
    a->holders = calloc(n > 0 ? n : 1, sizeof(*a->holders));
    if (a->holders == NULL)
        return yk_err_set(err, -YK_ENOMEM, "out of memory");
    json_object_foreach((json_t *)(uintptr_t)a->held, name, value) {
        yk_route_held *h = &a->holders[a->request.n_held];
        h->name = name;
        int rc = http_fields_read(value, held_fields, N(held_fields), h, err);
        if (rc < 0)
            return rc;
        a->request.n_held++;
    }
    a->request.held = a->holders;
    return 0;
}

static int read_targets(struct ask *a, struct yk_err *err) {
    size_t n = json_array_size(a->targets);
    if (n == 0 || n > HELD_MAX)
        return refuse(err, "'targets': expected 1 to 1024 names");
    a->names = calloc(n, sizeof(*a->names));
    if (a->names == NULL)
        return yk_err_set(err, -YK_ENOMEM, "out of memory");
    for (size_t i = 0; i < n; i++)
        if ((a->names[i] = json_string_value(json_array_get(a->targets, i))) == NULL)
            return refuse(err, "'targets': expected names");
    a->request.targets = a->names;
    a->request.n_targets = n;
    return 0;
}

static int read_chain(struct ask *a, struct yk_err *err) {
    uint32_t said = a->request.blocks;
    int rc = a->chain != NULL ? read_list(a->chain, YK_ROUTE_CHAIN_MAX, read_hash, HASH_TEXT, &a->hashes, &a->request.blocks, err)
                              : read_list(a->keys, YK_ROUTE_CHAIN_MAX, read_key, KEY_TEXT, &a->hashes, &a->request.blocks, err);
    if (rc == 0 && said != 0 && said != a->request.blocks)
        return refuse(err, "'blocks' is another number than there are in the chain");
    a->request.chain = a->hashes;
    return rc;
}

static int read_ask(const json_t *body, struct ask *a, struct yk_err *err) {
    int rc = http_fields_read(body, ask_fields, N(ask_fields), a, err);
    if (rc == 0 && a->chain != NULL && a->keys != NULL)
        return refuse(err, "'chain' and 'keys': one of them");
    if (rc == 0 && (a->chain != NULL || a->keys != NULL))
        rc = read_chain(a, err);
    if (rc == 0 && a->held != NULL)
        rc = read_held(a, err);
    if (rc == 0 && a->targets != NULL)
        rc = read_targets(a, err);
    if (rc == 0 && a->keep && (a->keys == NULL || a->name_space == NULL))
        return refuse(err, "'keep': expected 'keys' beside it, and the name of their namespace");
    if (rc == 0 && a->request.tokens == 0)
        return refuse(err, "'tokens': expected the prompt's length");
    if (rc == 0 && (a->count == 0 || a->count > CHOICES_MAX))
        return refuse(err, "'count': expected 1 to 64");
    a->request.flags = a->take ? YK_ROUTE_TAKE : 0;
    return rc;
}

static void put_choice(struct yk_json *j, const yk_route_choice *c) {
    yk_json_begin_object(j);
    yk_json_put_str(j, "name", c->name);
    yk_json_put_double(j, "ttft_ms", c->ttft_ms);
    yk_json_put_double(j, "queue_ms", c->queue_ms);
    yk_json_put_double(j, "transfer_ms", c->transfer_ms);
    yk_json_put_double(j, "compute_ms", c->compute_ms);
    yk_json_put_double(j, "worse_ms", c->worse_ms);
    yk_json_key(j, "blocks");
    yk_json_begin_object(j);
    yk_json_put_uint(j, "vram", c->vram);
    yk_json_put_uint(j, "dram", c->dram);
    yk_json_put_uint(j, "ssd", c->ssd);
    yk_json_put_uint(j, "peer", c->peer);
    yk_json_put_uint(j, "compute", c->compute_blocks);
    yk_json_end_object(j);
    yk_json_put_str(j, "peer", c->peer_name[0] != '\0' ? c->peer_name : NULL);
    yk_json_put_uint(j, "new_tokens", c->new_tokens);
    yk_json_put_uint(j, "transfer_bytes", c->transfer_bytes);
    yk_json_put_uint(j, "in_flight", c->in_flight);
    yk_json_put_bool(j, "silent", c->silent != 0);
    yk_json_put_bool(j, "meets", c->meets != 0);
    yk_json_end_object(j);
}

/* The node of the first choice is to keep what of the chain others would have to be asked for. For how many blocks that
 * was asked. */
static uint32_t keep(struct yk_http *h, const struct ask *a, const yk_route_answer *answer, const yk_route_choice *first) {
    struct yk_http_key keys[KEEP_MAX];
    char node[YK_ROUTE_NAME_MAX + 1];
    uint32_t there = first->vram + first->dram + first->ssd + first->peer, n = there < KEEP_MAX ? there : KEEP_MAX;
    if (h->keep == NULL || !a->keep || !answer->replicate || answer->decision == 0 || first->peer == 0 ||
        yk_route_node_of(http_routes(h), first->name, node) != 0)
        return 0;
    for (uint32_t i = 0; i < n; i++) {
        const json_t *key = json_array_get(a->keys, i);
        keys[i] = (struct yk_http_key){json_string_value(key), json_string_length(key)};
    }
    struct yk_http_keep what = {.node = node, .name_space = a->name_space, .keys = keys, .n = n};
    uint32_t asked = h->keep(h->keep_arg, &what);
    yk_metric_add(&h->kept, asked);
    return asked;
}

static void put_answer(struct yk_json *j, const yk_route_answer *a, const yk_route_choice *choices, uint32_t kept) {
    static const char *const verdicts[] = {"admit", "reject", "nobody"};
    char decision[24];
    snprintf(decision, sizeof(decision), "%llu", (unsigned long long)a->decision);
    yk_json_begin_object(j);
    yk_json_put_str(j, "verdict", verdicts[a->verdict]);
    yk_json_put_str(j, "decision", a->decision != 0 ? decision : NULL);
    yk_json_put_double(j, "wait_ms", a->wait_ms);
    yk_json_put_bool(j, "hot", a->hot != 0);
    yk_json_put_bool(j, "replicate", a->replicate != 0);
    yk_json_put_uint(j, "keeping", kept);
    yk_json_put_bool(j, "thrifty", a->thrifty != 0);
    yk_json_key(j, "ranked");
    yk_json_begin_array(j);
    for (uint32_t i = 0; i < a->ranked; i++)
        put_choice(j, &choices[i]);
    yk_json_end_array(j);
    yk_json_end_object(j);
    yk_json_newline(j);
}

static int on_ask(struct yk_http *h, const json_t *body, struct yk_buf *out, struct yk_err *err) {
    struct ask a = {.request = {.size = sizeof(a.request)}, .count = CHOICES, .take = 1, .name_space = "default"};
    yk_route_choice choices[CHOICES_MAX];
    yk_route_answer answer;
    int rc = read_ask(body, &a, err);
    if (rc == 0)
        rc = router_err(yk_route_ask(http_routes(h), &a.request, choices, a.count, &answer), err);
    if (rc == 0) {
        struct yk_json j;
        yk_json_init_buf(&j, out);
        put_answer(&j, &answer, choices, keep(h, &a, &answer, choices));
        rc = yk_json_finish(&j);
    }
    free(a.hashes);
    free(a.holders);
    free(a.names);
    return rc;
}

/* ---- outcomes ---- */

struct outcome {
    const char *decision;
    yk_route_result result;
    int dropped;
};

static const struct http_field outcome_fields[] = {
    HTTP_FIELD("decision", HTTP_TEXT, struct outcome, decision),
    HTTP_FIELD("queue_ms", HTTP_REAL, struct outcome, result.queue_ms),
    HTTP_FIELD("transfer_ms", HTTP_REAL, struct outcome, result.transfer_ms),
    HTTP_FIELD("compute_ms", HTTP_REAL, struct outcome, result.compute_ms),
    HTTP_FIELD("ttft_ms", HTTP_REAL, struct outcome, result.ttft_ms),
    HTTP_FIELD("new_tokens", HTTP_U32, struct outcome, result.new_tokens),
    HTTP_FIELD("dropped", HTTP_BOOL, struct outcome, dropped),
};

static int on_outcome(struct yk_http *h, const json_t *body, struct yk_buf *out, struct yk_err *err) {
    yk_routes *r = http_routes(h);
    struct outcome o = {.result = {.size = sizeof(o.result), .queue_ms = -1, .transfer_ms = -1, .compute_ms = -1, .ttft_ms = -1}};
    uint64_t decision;
    int rc = http_fields_read(body, outcome_fields, N(outcome_fields), &o, err);
    if (rc < 0)
        return rc;
    if (o.decision == NULL || decimal_hash(o.decision, &decision) < 0)
        return refuse(err, "'decision': expected what the answer had, a string of digits");
    rc = o.dropped ? yk_route_drop(r, decision) : yk_route_outcome(r, decision, &o.result);
    if (rc == YK_MISS)
        yk_err_set(err, rc, "no decision %s waits for its outcome", o.decision);
    return rc;
}

/* ---- reports ---- */

struct load {
    yk_route_load_report report;
    const json_t *events;
    int refuses, shares, store, gone;
};

static const struct http_field load_fields[] = {
    HTTP_FIELD("name", HTTP_TEXT, struct load, report.name),
    HTTP_FIELD("zone", HTTP_TEXT, struct load, report.zone),
    HTTP_FIELD("node", HTTP_TEXT, struct load, report.node),
    HTTP_FIELD("waiting", HTTP_U32, struct load, report.waiting),
    HTTP_FIELD("running", HTTP_U32, struct load, report.running),
    HTTP_FIELD("waiting_tokens", HTTP_U64, struct load, report.waiting_tokens),
    HTTP_FIELD("tokens_per_s", HTTP_REAL, struct load, report.tokens_per_s),
    HTTP_FIELD("dram_bytes_per_s", HTTP_REAL, struct load, report.dram_bytes_per_s),
    HTTP_FIELD("ssd_bytes_per_s", HTTP_REAL, struct load, report.ssd_bytes_per_s),
    HTTP_FIELD("peer_bytes_per_s", HTTP_REAL, struct load, report.peer_bytes_per_s),
    HTTP_FIELD("far_bytes_per_s", HTTP_REAL, struct load, report.far_bytes_per_s),
    HTTP_FIELD("network_load", HTTP_REAL, struct load, report.network_load),
    HTTP_FIELD("events", HTTP_OBJECT, struct load, events),
    HTTP_FIELD("refuses", HTTP_BOOL, struct load, refuses),
    HTTP_FIELD("shares", HTTP_BOOL, struct load, shares),
    HTTP_FIELD("store", HTTP_BOOL, struct load, store),
    HTTP_FIELD("gone", HTTP_BOOL, struct load, gone),
};

struct events {
    const char *endpoint, *replay, *topic;
};

static const struct http_field events_fields[] = {
    HTTP_FIELD("endpoint", HTTP_TEXT, struct events, endpoint),
    HTTP_FIELD("replay", HTTP_TEXT, struct events, replay),
    HTTP_FIELD("topic", HTTP_TEXT, struct events, topic),
};

static int on_load(struct yk_http *h, const json_t *body, struct yk_buf *out, struct yk_err *err) {
    yk_routes *r = http_routes(h);
    struct load l = {.report = {.size = sizeof(l.report)}};
    struct events e = {0};
    int rc = http_fields_read(body, load_fields, N(load_fields), &l, err);
    if (rc == 0 && l.events != NULL)
        rc = http_fields_read(l.events, events_fields, N(events_fields), &e, err);
    if (rc < 0)
        return rc;
    if (l.gone)
        return l.report.name != NULL ? yk_route_gone(r, l.report.name) : refuse(err, "'name' is wanted");
    l.report.flags = (l.refuses ? YK_ROUTE_REFUSES : 0u) | (l.shares ? YK_ROUTE_SHARES : 0u) | (l.store ? YK_ROUTE_STORE : 0u);
    rc = router_err(yk_route_load(r, &l.report), err);
    if (rc == 0 && l.events != NULL)
        rc = router_err(yk_route_events(r, l.report.name, e.endpoint, e.replay, e.topic), err);
    return rc;
}

/* ---- who has what ---- */

struct blocks {
    const char *name, *tier;
    const json_t *stored, *removed;
    int cleared;
};

static const struct http_field blocks_fields[] = {
    HTTP_FIELD("name", HTTP_TEXT, struct blocks, name),
    HTTP_FIELD("tier", HTTP_TEXT, struct blocks, tier),
    HTTP_FIELD("stored", HTTP_ARRAY, struct blocks, stored),
    HTTP_FIELD("removed", HTTP_ARRAY, struct blocks, removed),
    HTTP_FIELD("cleared", HTTP_BOOL, struct blocks, cleared),
};

static int tier_of(const char *text, unsigned *ret) {
    static const char *const names[] = {"vram", "dram", "ssd"};
    for (unsigned t = 0; t < 3; t++) {
        if (text != NULL && strcmp(text, names[t]) == 0) {
            *ret = t;
            return 0;
        }
    }
    return -YK_EINVAL;
}

static int tell(yk_routes *r, const struct blocks *b, unsigned tier, const json_t *list,
                int (*fn)(yk_routes *, const char *, unsigned, const uint64_t *, size_t), struct yk_err *err) {
    uint64_t *hashes = NULL;
    uint32_t n = 0;
    if (list == NULL)
        return 0;
    int rc = read_list(list, BLOCKS_MAX, read_hash, HASH_TEXT, &hashes, &n, err);
    if (rc == 0)
        rc = router_err(fn(r, b->name, tier, hashes, n), err);
    free(hashes);
    return rc;
}

static int on_blocks(struct yk_http *h, const json_t *body, struct yk_buf *out, struct yk_err *err) {
    yk_routes *r = http_routes(h);
    struct blocks b = {0};
    unsigned tier = 0;
    int rc = http_fields_read(body, blocks_fields, N(blocks_fields), &b, err);
    if (rc < 0)
        return rc;
    if (b.name == NULL)
        return refuse(err, "'name' is wanted");
    if ((b.stored != NULL || b.removed != NULL) && tier_of(b.tier, &tier) < 0)
        return refuse(err, "'tier': expected vram, dram or ssd");
    if (b.cleared)
        yk_route_cleared(r, b.name);
    rc = tell(r, &b, tier, b.removed, yk_route_removed, err);
    return rc < 0 ? rc : tell(r, &b, tier, b.stored, yk_route_stored, err);
}

/* ---- the paths ---- */

typedef int (*post_fn)(struct yk_http *h, const json_t *body, struct yk_buf *out, struct yk_err *err);

static const struct {
    const char *path;
    post_fn fn;
} posts[] = {
    {"/v1/route", on_ask},
    {"/v1/route/outcome", on_outcome},
    {"/v1/route/load", on_load},
    {"/v1/route/blocks", on_blocks},
};

static post_fn find_post(const char *path) {
    for (size_t i = 0; i < N(posts); i++)
        if (strcmp(posts[i].path, path) == 0)
            return posts[i].fn;
    return NULL;
}

int http_route_takes(const char *path) {
    return find_post(path) != NULL;
}

yk_routes *http_routes(const struct yk_http *h) {
    return __atomic_load_n(&h->routes, __ATOMIC_ACQUIRE); /* pairs with open_router */
}

static int open_router(struct yk_http *h, struct yk_err *err) {
    yk_route_opts opts = {.size = sizeof(opts), .instances_max = HOLDERS_MAX};
    yk_routes *r = NULL;
    int rc = router_err(yk_route_open(&opts, &r), err);
    if (rc == 0)
        __atomic_store_n(&h->routes, r, __ATOMIC_RELEASE); /* pairs with http_routes */
    return rc;
}

int http_route_post(struct yk_http *h, const char *path, const char *body, size_t len, struct yk_buf *out,
                    struct yk_err *err) {
    json_error_t why;
    int rc = http_routes(h) == NULL ? open_router(h, err) : 0;
    if (rc < 0)
        return rc;
    json_t *json = json_loadb(body, len, JSON_REJECT_DUPLICATES, &why);
    if (json == NULL)
        return yk_err_set(err, -YK_EINVAL, "no JSON: line %d: %.150s", why.line, why.text);
    rc = find_post(path)(h, json, out, err);
    json_decref(json);
    return rc;
}

int http_route_get(struct yk_http *h, char **ret_json) {
    if (http_routes(h) == NULL) {
        *ret_json = strdup("{\"blocks\": 0, \"instances\": []}");
        return *ret_json != NULL ? 0 : -YK_ENOMEM;
    }
    return yk_route_json(h->routes, ret_json);
}
