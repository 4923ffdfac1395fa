/* SPDX-License-Identifier: Apache-2.0
 *
 * All nodes at a glance (top_cluster.h).
 */
#include "top_cluster.h"

#include "cluster.h"
#include "keys.h"

#include "base/clock.h"
#include "base/fmt.h"
#include "dir/guest.h"
#include "wire/dir.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define NODE_MS   500u /* of each question */
#define REST_LOOKS 5u  /* for which a node that did not answer is left alone */
#define NODES_MAX 1024u

struct seen {
    char name[80], address[300], state[16];
    struct yk_guest *guest;
    json_t *before, *now; /* of two looks; NULL: it did not answer */
    uint64_t before_ns, now_ns;
    uint32_t rest;
    bool listed;
};

struct yolk_top_cluster {
    struct yk_guest *guest; /* of the node that tells who the others are */
    char address[300];
    json_t *info;
    struct seen *node[NODES_MAX];
    uint32_t count;
    struct yk_err err;
};

/* ---- asking ------------------------------------------------------------------------------------- */

static void hang_up(struct yk_guest **guest) {
    yk_guest_close(*guest);
    *guest = NULL;
}

/* JSON that a node says; NULL: it does not, and err has why. */
static json_t *ask(struct yk_guest **guest, const char *address, uint8_t what, struct yk_err *err) {
    const void *body;
    uint32_t len;
    int rc = *guest == NULL ? yk_guest_open(address, NODE_MS, guest, err) : 0;
    if (rc == 0)
        rc = yk_guest_ask(*guest, YK_DIR_INFO, &what, 1, NODE_MS, &body, &len, err);
    json_t *answer = rc == 0 ? json_loadb(body, len, 0, NULL) : NULL;
    if (rc == 0 && answer == NULL)
        yk_err_set(err, -YK_EPROTO, "the answer of %s cannot be read", address);
    if (answer == NULL)
        hang_up(guest);
    return answer;
}

static int find_peers(struct yolk_ctx *ctx, char *ret, size_t size) {
    char *text = NULL;
    int code = yolk_open_node(ctx);
    if (code != 0)
        return code;
    int rc = yk_stats_json(ctx->client, &text);
    if (rc < 0)
        return yolk_fail_call(ctx, rc, "top", NULL);
    json_t *stats = json_loads(text, 0, NULL);
    const char *peers = json_string_value(json_object_get(stats, "peers"));
    snprintf(ret, size, "%s", peers != NULL ? peers : "");
    json_decref(stats);
    free(text);
    return ret[0] != 0 ? 0 : yolk_fail(YOLK_FAIL, "top: this node is in no cluster (yolkd --etcd)");
}

int yolk_top_cluster_open(struct yolk_ctx *ctx, struct yolk_top_cluster **ret) {
    struct yolk_top_cluster *v = calloc(1, sizeof(*v));
    int code = v != NULL ? find_peers(ctx, v->address, sizeof(v->address)) : yolk_fail(YOLK_FAIL, "out of memory");
    if (code != 0) {
        free(v);
        return code;
    }
    *ret = v;
    return 0;
}

static void seen_free(struct seen *n) {
    hang_up(&n->guest);
    json_decref(n->before);
    json_decref(n->now);
    free(n);
}

void yolk_top_cluster_close(struct yolk_top_cluster *v) {
    if (v == NULL)
        return;
    for (uint32_t i = 0; i < v->count; i++)
        seen_free(v->node[i]);
    hang_up(&v->guest);
    json_decref(v->info);
    free(v);
}

/* ---- looking ------------------------------------------------------------------------------------ */

static const char *text_of(const json_t *o, const char *key) {
    const char *text = json_string_value(json_object_get(o, key));
    return text != NULL ? text : "";
}

static uint64_t number(const json_t *o, const char *key) {
    json_int_t n = json_integer_value(json_object_get(o, key));
    return n > 0 ? (uint64_t)n : 0;
}

static struct seen *seen_of(struct yolk_top_cluster *v, const char *name) {
    for (uint32_t i = 0; i < v->count; i++)
        if (strcmp(v->node[i]->name, name) == 0)
            return v->node[i];
    struct seen *n = v->count < NODES_MAX ? calloc(1, sizeof(*n)) : NULL;
    if (n == NULL)
        return NULL;
    snprintf(n->name, sizeof(n->name), "%s", name);
    v->node[v->count++] = n;
    return n;
}

/* Another life of a node is at another address, and counts from the beginning. */
static void take_member(struct yolk_top_cluster *v, const json_t *member) {
    struct seen *n = seen_of(v, text_of(member, "name"));
    const char *address = text_of(member, "peers");
    if (n == NULL)
        return;
    n->listed = true;
    snprintf(n->state, sizeof(n->state), "%s", yolk_member_state(member));
    if (strcmp(n->address, address) == 0)
        return;
    hang_up(&n->guest);
    json_decref(n->now);
    n->now = NULL;
    n->rest = 0;
    snprintf(n->address, sizeof(n->address), "%s", address);
}

static void forget_unlisted(struct yolk_top_cluster *v) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < v->count; i++)
        if (v->node[i]->listed)
            v->node[kept++] = v->node[i];
        else
            seen_free(v->node[i]);
    v->count = kept;
}

static void look_at(struct seen *n) {
    struct yk_err err;
    json_decref(n->before);
    n->before = n->now;
    n->before_ns = n->now_ns;
    n->now = NULL;
    if (n->rest > 0) {
        n->rest--;
        return;
    }
    if (n->address[0] == 0 || strcmp(n->state, "silent") == 0 || strcmp(n->state, "expelled") == 0)
        return;
    n->now = ask(&n->guest, n->address, YK_DIR_INFO_FIGURES, &err);
    n->now_ns = yk_now_ns();
    n->rest = n->now == NULL ? REST_LOOKS : 0;
}

int yolk_top_cluster_look(struct yolk_top_cluster *v) {
    size_t i;
    json_t *member;
    v->err.text[0] = 0;
    json_t *info = ask(&v->guest, v->address, YK_DIR_INFO_ALL, &v->err);
    if (info == NULL)
        return v->err.code;
    json_decref(v->info);
    v->info = info;
    for (uint32_t k = 0; k < v->count; k++)
        v->node[k]->listed = false;
    json_array_foreach(json_object_get(info, "nodes"), i, member)
        take_member(v, member);
    forget_unlisted(v);
    for (uint32_t k = 0; k < v->count; k++)
        look_at(v->node[k]);
    return 0;
}

const char *yolk_top_cluster_why(const struct yolk_top_cluster *v) {
    return v->err.text;
}

int yolk_top_cluster_node(const struct yolk_top_cluster *v, uint32_t i, const char **ret_name, const json_t **ret_says) {
    if (i >= v->count)
        return 0;
    *ret_name = v->node[i]->name;
    *ret_says = v->node[i]->now;
    return 1;
}

/* ---- showing ------------------------------------------------------------------------------------ */

static const char *const flows[] = {"hits", "misses", "commits", "pulled", "pulled_bytes", "pulled_cross_bytes", "lent"};
static const char *const stocks[] = {"slots_owned", "blocks", "block_bytes", "capacity_bytes", "unpublished", "removes_pending"};
enum { HITS, MISSES, PUTS, PULLS, PULLED, CROSS, LENT, FLOWS };
enum { SLOTS, BLOCKS, BYTES, CAPACITY, LAG, PENDING, STOCKS };

struct line {
    double flow[FLOWS]; /* a second */
    uint64_t stock[STOCKS];
};

static void line_of(const struct seen *n, struct line *ret, struct line *io_all) {
    double seconds = (double)(n->now_ns - n->before_ns) / 1e9;
    memset(ret, 0, sizeof(*ret));
    for (unsigned i = 0; i < FLOWS && n->before != NULL && seconds > 0; i++) {
        uint64_t was = number(n->before, flows[i]), is = number(n->now, flows[i]);
        ret->flow[i] = is > was ? (double)(is - was) / seconds : 0;
        io_all->flow[i] += ret->flow[i];
    }
    for (unsigned i = 0; i < STOCKS; i++) {
        ret->stock[i] = number(n->now, stocks[i]);
        io_all->stock[i] += ret->stock[i];
    }
}

static void put_line(struct yk_buf *out, const char *name, const char *state, const struct line *l) {
    char bytes[YK_FMT_MAX], capacity[YK_FMT_MAX], pulled[YK_FMT_MAX], cross[YK_FMT_MAX], blocks[YK_FMT_MAX];
    yk_buf_printf(out, "%-14.14s %-9s %5llu %7s %10s %10s %8.0f %8.0f %7.0f %7.0f %10s %10s %7.0f %6llu %6llu\n", name, state,
                  (unsigned long long)l->stock[SLOTS], yk_fmt_count(l->stock[BLOCKS], blocks),
                  yk_fmt_bytes(l->stock[BYTES], bytes), yk_fmt_bytes(l->stock[CAPACITY], capacity), l->flow[HITS],
                  l->flow[MISSES], l->flow[PUTS], l->flow[PULLS], yk_fmt_bytes((uint64_t)l->flow[PULLED], pulled),
                  yk_fmt_bytes((uint64_t)l->flow[CROSS], cross), l->flow[LENT], (unsigned long long)l->stock[LAG],
                  (unsigned long long)l->stock[PENDING]);
}

void yolk_top_cluster_text(const struct yolk_top_cluster *v, struct yk_buf *out) {
    struct line one, all = {.flow = {0}};
    char name[YOLK_KEY_TEXT_MAX];
    yk_buf_printf(out, "cluster %s, map %llu, as %s sees it%s%s\n\n", text_of(v->info, "cluster"),
                  (unsigned long long)number(v->info, "map_version"), yolk_safe_text(text_of(v->info, "self"), name),
                  v->err.text[0] != 0 ? "; no answer now: " : "", v->err.text);
    yk_buf_printf(out, "%-14s %-9s %5s %7s %10s %10s %8s %8s %7s %7s %10s %10s %7s %6s %6s\n", "NODE", "STATE", "SLOTS",
                  "BLOCKS", "BYTES", "CAPACITY", "HITS/s", "MISSES/s", "PUTS/s", "PULLS/s", "PULLED/s", "CROSS/s",
                  "LENT/s", "LAG", "REMOVE");
    for (uint32_t i = 0; i < v->count; i++) {
        const struct seen *n = v->node[i];
        yolk_safe_text(n->name, name);
        if (n->now == NULL) {
            yk_buf_printf(out, "%-14.14s %-9s %5s\n", name, strcmp(n->state, "member") == 0 ? "no answer" : n->state, "-");
            continue;
        }
        line_of(n, &one, &all);
        put_line(out, name, n->state, &one);
    }
    put_line(out, "all", "", &all);
}

/* Nodes that do not answer have their names and states alone. */
int yolk_top_cluster_json(const struct yolk_top_cluster *v, FILE *out) {
    json_t *nodes = json_array();
    for (uint32_t i = 0; i < v->count; i++) {
        const struct seen *n = v->node[i];
        json_t *o = n->now != NULL ? json_copy(n->now) : json_object();
        json_object_del(o, "namespaces"); /* yolk ns list --cluster shows them */
        json_object_set_new(o, "name", json_string(n->name));
        json_object_set_new(o, "state", json_string(n->state));
        json_object_set_new(o, "answers", json_boolean(n->now != NULL));
        json_array_append_new(nodes, o);
    }
    json_t *all = json_pack("{s:s, s:s, s:I, s:o}", "cluster", text_of(v->info, "cluster"), "self", text_of(v->info, "self"),
                            "map_version", (json_int_t)number(v->info, "map_version"), "nodes", nodes);
    int rc = all != NULL && json_dumpf(all, out, JSON_COMPACT) == 0 ? 0 : -YK_ENOMEM;
    fputc('\n', out);
    json_decref(all);
    return rc;
}
