/* SPDX-License-Identifier: Apache-2.0
 *
 * What stands under the cluster's prefix, as the watch tells it, key by key. Nodes and namespaces are told
 * on; the map is not yet: it has to be on disk first (member_join.c).
 *
 * What cannot be read is as if it were not there, but for the map and the cluster's id, where that would be
 * taken for an empty etcd: with `broken` set nothing is changed.
 *
 * Limits: as many nodes as a map has members, YK_MEMBER_SPACES_MAX namespaces; what goes beyond is passed
 * over, and the text says so.
 *
 * Thread: yolk-member.
 */
#include "dir/member_priv.h"

#include "base/clock.h"
#include "base/text.h"
#include "wire/codec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NODES_MAX (2 * YK_DIR_MEMBERS_MAX) /* with those that went */

void *yk_member_grow(void *array, uint32_t *count, uint32_t *cap, size_t bytes) {
    void **p = array;
    if (*count == *cap) {
        uint32_t n = *cap > 0 ? *cap * 2 : 8;
        void *bigger = realloc(*p, n * bytes);
        if (bigger == NULL)
            return NULL;
        *p = bigger;
        *cap = n;
    }
    return memset((char *)*p + bytes * (*count)++, 0, bytes);
}

static void drop(void *array, uint32_t *count, uint32_t at, size_t bytes) {
    char *a = array;
    --*count;
    memmove(a + at * bytes, a + (at + 1) * bytes, (*count - at) * bytes);
}

void yk_member_view_clear(struct yk_member_view *v) {
    for (uint32_t i = 0; i < v->seed_count; i++)
        free(v->seeds[i].term);
    for (uint32_t i = 0; i < v->space_count; i++)
        free(v->spaces[i].rest);
    free(v->map);
    free(v->seed_map);
    free(v->nodes);
    free(v->spaces);
    free(v->seeds);
    free(v->drains);
    memset(v, 0, sizeof(*v));
}

/* ---- nodes ------------------------------------------------------------------------------------ */

struct yk_member_seen_node *yk_member_view_node(struct yk_member *m, const char *name) {
    for (uint32_t i = 0; i < m->view.node_count; i++)
        if (strcmp(m->view.nodes[i].node.name, name) == 0)
            return &m->view.nodes[i];
    return NULL;
}

static void tell_node(struct yk_member *m, const struct yk_member_node *node, int gone) {
    if (m->opts.ops.node != NULL)
        m->opts.ops.node(m->opts.ops.arg, node, gone);
}

static void forget_one_that_went(struct yk_member_view *v) {
    for (uint32_t i = 0; i < v->node_count; i++)
        if (v->nodes[i].revision == 0) {
            drop(v->nodes, &v->node_count, i, sizeof(v->nodes[0]));
            return;
        }
}

static void take_node(struct yk_member *m, const char *name, const struct yk_member_news *n) {
    struct yk_member_seen_node *s = yk_member_view_node(m, name);
    struct yk_member_node node;
    struct yk_err err = {0};
    int here = !n->deleted;
    if (here && yk_member_read_node(name, n->value, n->value_len, &node, &err) < 0) {
        yk_member_text(m, "%s/%s: %s", m->prefix, n->key, err.text);
        here = 0;
    }
    if (!here) {
        if (s != NULL && s->revision != 0)
            tell_node(m, &s->node, 1);
        if (s != NULL) {
            s->revision = 0;
            s->unsure = 0;
            s->went_ms = yk_boot_ms();
        }
        return;
    }
    if (s == NULL && m->view.node_count >= NODES_MAX)
        forget_one_that_went(&m->view);
    if (s == NULL && (m->view.node_count >= NODES_MAX ||
                      (s = yk_member_grow(&m->view.nodes, &m->view.node_count, &m->view.node_cap, sizeof(*s))) == NULL)) {
        yk_member_text(m, "there are more nodes than %u, or no memory for one more: %s is passed over", NODES_MAX, name);
        return;
    }
    *s = (struct yk_member_seen_node){.node = node, .revision = n->revision, .lease = n->lease};
    tell_node(m, &s->node, 0);
}

void yk_member_view_settle(struct yk_member *m) {
    struct yk_member_view *v = &m->view;
    for (uint32_t i = 0; i < v->node_count;) {
        if (!v->nodes[i].unsure) {
            i++;
            continue;
        }
        if (v->nodes[i].revision != 0)
            tell_node(m, &v->nodes[i].node, 1);
        drop(v->nodes, &v->node_count, i, sizeof(v->nodes[0]));
    }
}

/* ---- namespaces ------------------------------------------------------------------------------- */

struct yk_member_seen_space *yk_member_view_space(struct yk_member *m, const char *name) {
    struct yk_member_view *v = &m->view;
    for (uint32_t i = 0; i < v->space_count; i++)
        if (strcmp(v->spaces[i].space.name, name) == 0)
            return &v->spaces[i];
    if (strlen(name) == 0 || strlen(name) > YK_MEMBER_SPACE_MAX)
        return NULL;
    struct yk_member_seen_space *s = v->space_count < YK_MEMBER_SPACES_MAX
                                         ? yk_member_grow(&v->spaces, &v->space_count, &v->space_cap, sizeof(*s))
                                         : NULL;
    if (s != NULL)
        snprintf(s->space.name, sizeof(s->space.name), "%s", name);
    return s;
}

static void take_space(struct yk_member *m, const char *name, const struct yk_member_news *n) {
    struct yk_member_seen_space *s = yk_member_view_space(m, name);
    struct yk_member_space found = {.epoch = 0};
    struct yk_err err = {0};
    if (s == NULL) {
        yk_member_text(m, "there are more namespaces than %u: one more is passed over", YK_MEMBER_SPACES_MAX);
        return;
    }
    s->revision = 0;
    if (n->deleted)
        return;
    free(s->rest);
    s->rest = NULL;
    if (yk_member_read_space(n->value, n->value_len, &found, &s->rest, &err) < 0) {
        yk_member_space_copy(&s->in_etcd, &found); /* and is written anew */
    } else if (yk_member_space_merge(s, &found)) {
        s->untold = 1;
        m->spaces_dirty = 1;
    }
    if (err.text[0] != '\0')
        yk_member_text(m, "%s/ns: %s", m->prefix, err.text);
    s->revision = n->revision;
}

/* ---- drains and seeds -------------------------------------------------------------------------- */

int yk_member_view_drains(const struct yk_member *m, const char *name) {
    for (uint32_t i = 0; i < m->view.drain_count; i++)
        if (strcmp(m->view.drains[i], name) == 0)
            return 1;
    return 0;
}

static void take_drain(struct yk_member *m, const char *name, const struct yk_member_news *n) {
    struct yk_member_view *v = &m->view;
    char(*at)[YK_DIR_NAME_MAX + 1];
    for (uint32_t i = 0; i < v->drain_count; i++)
        if (strcmp(v->drains[i], name) == 0) {
            if (n->deleted)
                drop(v->drains, &v->drain_count, i, sizeof(v->drains[0]));
            return;
        }
    if (n->deleted || strlen(name) > YK_DIR_NAME_MAX || v->drain_count >= YK_DIR_MEMBERS_MAX ||
        (at = yk_member_grow(&v->drains, &v->drain_count, &v->drain_cap, sizeof(*at))) == NULL)
        return; /* of no node, or of more than there can be */
    snprintf(*at, sizeof(*at), "%s", name);
}

static void read_seed(struct yk_member_seed *s, const struct yk_member_news *n) {
    struct yk_rd r;
    yk_rd_init(&r, n->value, n->value_len);
    s->version = yk_rd_u64(&r);
    size_t count = yk_rd_left(&r) / 12;
    if (count > YK_DIR_SLOTS || (s->term = calloc(count + 1, sizeof(*s->term))) == NULL)
        return;
    for (; s->count < count; s->count++) {
        s->term[s->count].owner = yk_rd_u32(&r) % YK_DIR_SLOTS;
        s->term[s->count].term = yk_rd_u64(&r);
    }
}

static void take_seed(struct yk_member *m, const char *name, const struct yk_member_news *n) {
    struct yk_member_view *v = &m->view;
    struct yk_member_seed *s;
    for (uint32_t i = 0; i < v->seed_count; i++)
        if (strcmp(v->seeds[i].name, name) == 0) {
            free(v->seeds[i].term);
            drop(v->seeds, &v->seed_count, i, sizeof(v->seeds[0]));
            break;
        }
    if (n->deleted || strlen(name) > YK_DIR_NAME_MAX || v->seed_count >= YK_DIR_MEMBERS_MAX ||
        (s = yk_member_grow(&v->seeds, &v->seed_count, &v->seed_cap, sizeof(*s))) == NULL)
        return; /* counts as one that has not spoken */
    snprintf(s->name, sizeof(s->name), "%s", name);
    s->revision = n->revision;
    s->lease = n->lease;
    read_seed(s, n);
}

static void take_rebalance(struct yk_member *m, const struct yk_member_news *n) {
    struct yk_member_view *v = &m->view;
    v->rebalance_revision = n->deleted ? 0 : n->revision;
    snprintf(v->rebalance, sizeof(v->rebalance), "%.*s", n->deleted ? 0 : (int)n->value_len, n->value);
}

/* ---- all -------------------------------------------------------------------------------------- */

static void begin_state(struct yk_member *m) {
    struct yk_member_view *v = &m->view;
    for (uint32_t i = 0; i < v->seed_count; i++)
        free(v->seeds[i].term);
    free(v->map);
    free(v->seed_map);
    v->map = v->seed_map = NULL;
    v->cluster = v->cluster_revision = v->map_revision = v->seed_map_revision = 0;
    v->seed_count = v->drain_count = 0;
    v->rebalance_revision = 0;
    v->rebalance[0] = '\0';
    v->broken[0] = '\0';
    for (uint32_t i = 0; i < v->node_count; i++)
        v->nodes[i].unsure = 1;
    for (uint32_t i = 0; i < v->space_count; i++)
        v->spaces[i].revision = 0;
    v->since_ms = yk_boot_ms();
    v->known = 1;
}

static void take_map(struct yk_member *m, struct yk_dir_map **map, uint64_t *revision, const struct yk_member_news *n) {
    struct yk_err err = {0};
    if (n->revision <= *revision)
        return; /* this node made it, or a later one */
    free(*map);
    *map = NULL;
    *revision = n->deleted ? 0 : n->revision;
    if (!n->deleted && yk_dir_map_decode(n->value, n->value_len, map, &err) < 0)
        snprintf(m->view.broken, sizeof(m->view.broken), "%.60s/%s: %.150s", m->prefix, n->key, err.text);
}

static void take_cluster(struct yk_member *m, const struct yk_member_news *n) {
    struct yk_err err = {0};
    m->view.cluster = 0;
    m->view.cluster_revision = n->deleted ? 0 : n->revision;
    if (!n->deleted && yk_member_read_cluster(n->value, n->value_len, &m->view.cluster, &err) < 0)
        snprintf(m->view.broken, sizeof(m->view.broken), "%.60s/%s: %.150s", m->prefix, n->key, err.text);
}

static const char *under(const char *key, const char *folder) {
    size_t len = strlen(folder);
    return strncmp(key, folder, len) == 0 && key[len] != '\0' ? key + len : NULL;
}

void yk_member_view_take(struct yk_member *m, struct yk_member_news *n) {
    const char *name;
    if (n->all)
        begin_state(m);
    else if (strcmp(n->key, "cluster") == 0)
        take_cluster(m, n);
    else if (strcmp(n->key, "map") == 0)
        take_map(m, &m->view.map, &m->view.map_revision, n);
    else if (strcmp(n->key, "seed-map") == 0)
        take_map(m, &m->view.seed_map, &m->view.seed_map_revision, n);
    else if (strcmp(n->key, "rebalance") == 0)
        take_rebalance(m, n);
    else if ((name = under(n->key, "nodes/")) != NULL)
        take_node(m, name, n);
    else if ((name = under(n->key, "ns/")) != NULL)
        take_space(m, name, n);
    else if ((name = under(n->key, "drain/")) != NULL)
        take_drain(m, name, n);
    else if ((name = under(n->key, "seed/")) != NULL)
        take_seed(m, name, n);
}
