/* SPDX-License-Identifier: Apache-2.0
 *
 * How a node gets into its cluster and stays there (docs/decisions/0014): the cluster's key and first map,
 * joining in a new incarnation, coming back after it was expelled, and what all nodes do when etcd came back
 * without their map.
 *
 * Each step begins from what the view shows. A change is a transaction that compares every key it was made
 * from; when one of them has changed meanwhile, the watch will tell, and the step is made again.
 *
 * Before a node joins, the incarnation that it asks for is on its disk. So it is never less there than in the
 * map, unless the disk is an old one or another process took the name: then the node may have acknowledged
 * removes that its log lacks, and is `stale`.
 *
 * An emptied etcd: each node writes seed/NAME (which map it has, which terms it knows to be higher), the one
 * with the newest map writes that into seed-map, and the balancer makes the map from both (member_lead.c). One
 * map and not one a node: a thousand would be more than a watch can tell.
 *
 * Thread: yolk-member.
 */
#include "dir/member_priv.h"

#include "base/clock.h"
#include "wire/codec.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static void refuse(struct yk_member *m) {
    m->phase = YK_MEMBER_REFUSED; /* the text is set */
}

static char *node_key(const struct yk_member *m, char ret[YK_DIR_NAME_MAX + 8]) {
    snprintf(ret, YK_DIR_NAME_MAX + 8, "nodes/%s", m->self.name);
    return ret;
}

static const struct yk_dir_member *me(struct yk_member *m) {
    return m->map != NULL ? yk_dir_map_named(m->map, m->self.name) : NULL;
}

/* This node's key as it is in etcd, or NULL. */
static const struct yk_member_seen_node *my_key(struct yk_member *m) {
    const struct yk_member_seen_node *s = yk_member_view_node(m, m->self.name);
    return s != NULL && s->revision != 0 ? s : NULL;
}

/* ---- the map ---------------------------------------------------------------------------------- */

int yk_member_adopt(struct yk_member *m) {
    const struct yk_dir_map *is = m->view.map;
    if (is == NULL || (m->map != NULL && is->version <= m->map->version))
        return 0;
    struct yk_dir_map *copy = yk_dir_map_copy(is);
    if (copy == NULL) {
        yk_member_text(m, "no memory for a map");
        return -YK_ENOMEM;
    }
    int rc = yk_member_disk_map(m, copy);
    if (rc < 0) {
        free(copy);
        return rc;
    }
    free(m->map);
    m->map = copy;
    if (m->opts.ops.map != NULL)
        m->opts.ops.map(m->opts.ops.arg, m->map);
    return 0;
}

int yk_member_made_map(struct yk_member *m, struct yk_dir_map *map, uint64_t revision) {
    free(m->view.map);
    m->view.map = map;
    m->view.map_revision = revision;
    int rc = yk_member_adopt(m);
    m->current = rc == 0;
    return rc;
}

/* ---- this node's key --------------------------------------------------------------------------- */

static int put_self(struct yk_member *m, struct yk_member_txn *txn, struct yk_buf *b, uint64_t lease) {
    char key[YK_DIR_NAME_MAX + 8];
    yk_buf_init(b, 4096);
    yk_member_put_node(b, &m->self);
    yk_member_txn_put(txn, node_key(m, key), b->data, b->len, lease);
    return b->status;
}

static void know_self(struct yk_member *m, uint64_t revision, uint64_t lease) {
    struct yk_member_seen_node *s = yk_member_view_node(m, m->self.name);
    if (s != NULL)
        *s = (struct yk_member_seen_node){.node = m->self, .revision = revision, .lease = lease};
}

/* A transaction that puts this node's key beside what it has already; 1, 0 or -YK_E... */
static int make_with_self(struct yk_member *m, struct yk_member_txn *txn, uint64_t lease, uint64_t *ret_revision) {
    struct yk_buf b;
    int unsure, rc = put_self(m, txn, &b, lease);
    if (rc < 0) {
        yk_member_text(m, "no memory for the node's key");
        free(txn);
    } else {
        rc = yk_member_txn_make(txn, ret_revision, &unsure);
    }
    yk_buf_fini(&b);
    if (rc == 1)
        know_self(m, *ret_revision, lease);
    return rc;
}

static int differs(double a, double b) {
    return (a - b) * (a - b) > 0.0025 * b * b; /* 5 % */
}

static int load_changed(const struct yk_member_load *a, const struct yk_member_load *b) {
    return differs(a->lookups_per_s, b->lookups_per_s) || differs((double)a->entries, (double)b->entries) ||
           differs((double)a->held_bytes, (double)b->held_bytes);
}

/* Each report goes to every node: the more there are, the fewer each sends. */
static uint32_t load_period(const struct yk_member *m) {
    uint32_t n = m->map->member_count / 64;
    return m->opts.load_ms * (n > 1 ? n : 1);
}

/* The key stands, on this lease, and tells the load. */
static void keep_key(struct yk_member *m, uint64_t lease) {
    const struct yk_member_seen_node *s = my_key(m);
    struct yk_member_load load;
    char key[YK_DIR_NAME_MAX + 8];
    uint64_t revision, now = yk_boot_ms();
    pthread_mutex_lock(&m->lock);
    load = m->load;
    pthread_mutex_unlock(&m->lock);
    int stands = s != NULL && s->lease == lease && s->node.incarnation == m->incarnation;
    if (stands && (now < m->load_ms || !load_changed(&load, &s->node.load)))
        return;
    struct yk_member_txn *txn = yk_member_txn_new(m);
    if (txn == NULL)
        return;
    m->self.load = load;
    m->self.id = me(m)->id;
    m->self.incarnation = m->incarnation;
    yk_member_txn_same(txn, node_key(m, key), s != NULL ? s->revision : 0);
    if (!stands)
        yk_member_txn_same(txn, "map", m->view.map_revision); /* which names this incarnation */
    if (make_with_self(m, txn, lease, &revision) == 1)
        m->load_ms = now + load_period(m);
    else
        m->turn_ms = YK_MEMBER_RETRY_MS;
}

/* ---- joining ---------------------------------------------------------------------------------- */

static int name_is_taken(struct yk_member *m, uint64_t lease) {
    const struct yk_member_seen_node *s = my_key(m);
    if (s == NULL || s->lease == lease || s->node.incarnation == m->lived ||
        (m->own != 0 && s->node.incarnation == m->own))
        return 0;
    yk_member_text(m,
                   "the name '%.63s' is in use by a node that lives, incarnation %" PRIu64 " at %.60s: give this node "
                   "another name and state directory, or stop that one",
                   m->self.name, s->node.incarnation, s->node.peers);
    return 1;
}

static void joined(struct yk_member *m, uint64_t incarnation) {
    m->incarnation = incarnation;
    m->planned = 0;
    m->load_ms = 0;
}

/* The transaction that was not sure to be made: it was, if the key on this lease says so. */
static int was_made(struct yk_member *m, const struct yk_dir_member *mine, uint64_t lease) {
    const struct yk_member_seen_node *s = my_key(m);
    return m->planned != 0 && mine != NULL && mine->state != YK_DIR_EXPELLED && mine->incarnation == m->planned &&
           s != NULL && s->lease == lease && s->node.incarnation == m->planned;
}

static int plan(struct yk_member *m, const struct yk_dir_member *mine) {
    uint64_t in_map = mine != NULL ? mine->incarnation : 0;
    int stale = m->stale || mine == NULL || m->lived < in_map;
    if (m->planned > in_map)
        return 0; /* on disk already */
    uint64_t next = (m->lived > in_map ? m->lived : in_map) + 1;
    if (m->lived >= in_map)
        m->own = m->lived; /* its key may still stand on an old lease */
    int rc = yk_member_disk_life(m, m->view.cluster, next, stale);
    m->planned = rc == 0 ? next : 0;
    return rc;
}

static void join(struct yk_member *m, uint64_t lease) {
    const struct yk_dir_member *mine = me(m);
    const struct yk_member_seen_node *s = my_key(m);
    char key[YK_DIR_NAME_MAX + 8];
    uint64_t revision;
    uint32_t id;
    m->phase = YK_MEMBER_STARTING;
    if (was_made(m, mine, lease)) {
        joined(m, m->planned);
        return;
    }
    if (name_is_taken(m, lease)) {
        refuse(m);
        return;
    }
    m->turn_ms = YK_MEMBER_RETRY_MS;
    struct yk_dir_map *map = plan(m, mine) == 0 ? yk_dir_map_copy(m->map) : NULL;
    struct yk_member_txn *txn = map != NULL ? yk_member_txn_new(m) : NULL;
    int rc = map != NULL ? yk_dir_map_join(map, m->self.name, m->planned, &id) : 0;
    if (rc < 0) {
        yk_member_text(m, "the map has %u names, and no room for '%s': forget some that are expelled",
                       m->map->member_count, m->self.name);
        refuse(m);
    }
    if (txn == NULL || rc < 0) {
        free(txn);
        free(map);
        return;
    }
    m->self.id = id;
    m->self.incarnation = m->planned;
    yk_member_txn_same(txn, "map", m->view.map_revision);
    yk_member_txn_same(txn, "cluster", m->view.cluster_revision);
    yk_member_txn_same(txn, node_key(m, key), s != NULL ? s->revision : 0);
    yk_member_txn_put(txn, "map", m->scratch, yk_member_encode(m, map), 0);
    if (make_with_self(m, txn, lease, &revision) != 1)
        free(map);
    else if (yk_member_made_map(m, map, revision) == 0)
        joined(m, m->planned);
}

/* ---- a new cluster ----------------------------------------------------------------------------- */

static uint64_t random_id(void) {
    uint64_t id = 0;
    if (getrandom(&id, sizeof(id), GRND_NONBLOCK) != (ssize_t)sizeof(id) || id == 0)
        id = (yk_now_ns() * 0x9e3779b97f4a7c15ull) ^ yk_wall_ms() ^ (uint64_t)(uintptr_t)&id;
    return id != 0 ? id : 1;
}

static void make_cluster(struct yk_member *m, uint64_t lease, struct yk_dir_map *map) {
    struct yk_member_txn *txn = yk_member_txn_new(m);
    char key[YK_DIR_NAME_MAX + 8];
    uint64_t revision;
    struct yk_buf b;
    if (txn == NULL)
        goto err_map;
    yk_buf_init(&b, 256);
    yk_member_put_cluster(&b, map->cluster);
    m->self.id = map->member[0].id;
    m->self.incarnation = map->member[0].incarnation;
    yk_member_txn_same(txn, "cluster", 0);
    yk_member_txn_same(txn, "map", 0);
    yk_member_txn_same(txn, node_key(m, key), 0);
    yk_member_txn_put(txn, "cluster", b.data, b.len, 0);
    yk_member_txn_put(txn, "map", m->scratch, yk_member_encode(m, map), 0);
    int rc = make_with_self(m, txn, lease, &revision);
    yk_buf_fini(&b);
    if (rc != 1)
        goto err_map; /* another one's; or, unsure, it is seen and joined like that: with nothing to lose */
    m->view.cluster = map->cluster;
    m->view.cluster_revision = revision;
    if (yk_member_disk_life(m, map->cluster, m->self.incarnation, 0) < 0)
        goto err_map;
    if (yk_member_made_map(m, map, revision) == 0)
        joined(m, m->self.incarnation);
    return;
err_map:
    free(map);
}

/* Nothing is there, and this node knows of nothing: but nodes with a past may be about to put theirs there. */
static void be_first(struct yk_member *m, uint64_t lease) {
    uint64_t now = yk_boot_ms();
    uint32_t id;
    m->phase = YK_MEMBER_STARTING;
    if (m->birth_ms == 0)
        m->birth_ms = now + m->opts.birth_ms;
    if (now < m->birth_ms) {
        m->turn_ms = (uint32_t)(m->birth_ms - now);
        yk_member_text(m, "etcd has nothing under '%.100s/': a new cluster is made unless nodes of an old one come",
                       m->prefix);
        return;
    }
    m->turn_ms = YK_MEMBER_RETRY_MS;
    struct yk_dir_map *map = yk_dir_map_new(random_id());
    if (map == NULL || yk_dir_map_join(map, m->self.name, 1, &id) < 0) {
        yk_member_text(m, "no memory for a map");
        free(map);
        return;
    }
    make_cluster(m, lease, map);
}

static void put_cluster(struct yk_member *m) {
    struct yk_member_txn *txn = yk_member_txn_new(m);
    uint64_t revision;
    struct yk_buf b;
    int unsure;
    if (txn == NULL)
        return;
    yk_buf_init(&b, 256);
    yk_member_put_cluster(&b, m->cluster);
    yk_member_txn_same(txn, "cluster", 0);
    yk_member_txn_put(txn, "cluster", b.data, b.len, 0);
    if (yk_member_txn_make(txn, &revision, &unsure) == 1) {
        m->view.cluster = m->cluster;
        m->view.cluster_revision = revision;
    }
    yk_buf_fini(&b);
}

/* ---- an etcd without the map ------------------------------------------------------------------- */

static int is_behind(const struct yk_dir_map *there, const struct yk_dir_map *here) {
    return there == NULL || there->version < here->version ||
           (there->version == here->version && memcmp(there, here, sizeof(*there)) != 0);
}

static uint64_t term_seen(const struct yk_member *m, uint32_t slot) {
    return __atomic_load_n(&m->terms[slot], __ATOMIC_RELAXED); /* pairs with yk_member_term */
}

static int put_seed(struct yk_member *m, uint64_t lease, uint64_t map_revision) {
    char key[YK_DIR_NAME_MAX + 8];
    uint64_t revision;
    struct yk_wr w;
    int unsure;
    for (uint32_t i = 0; i < m->view.seed_count; i++) {
        const struct yk_member_seed *s = &m->view.seeds[i];
        if (strcmp(s->name, m->self.name) == 0 && s->lease == lease && s->version == m->map->version)
            return 1;
    }
    struct yk_member_txn *txn = yk_member_txn_new(m);
    if (txn == NULL)
        return 0;
    yk_wr_init(&w, m->scratch, 8 + YK_DIR_SLOTS * 12);
    yk_wr_u64(&w, m->map->version);
    for (uint32_t i = 0; i < YK_DIR_SLOTS; i++)
        if (term_seen(m, i) > m->map->slot[i].term) { /* terms of maps come with the maps */
            yk_wr_u32(&w, i);
            yk_wr_u64(&w, term_seen(m, i));
        }
    snprintf(key, sizeof(key), "seed/%s", m->self.name);
    yk_member_txn_same(txn, "map", map_revision);
    yk_member_txn_put(txn, key, m->scratch, yk_wr_len(&w), lease);
    return yk_member_txn_make(txn, &revision, &unsure) == 1;
}

static int put_seed_map(struct yk_member *m, uint64_t map_revision) {
    const struct yk_dir_map *seed = m->view.seed_map;
    uint64_t revision;
    int unsure;
    if (seed != NULL && seed->cluster == m->cluster && seed->version >= m->map->version)
        return 1;
    struct yk_member_txn *txn = yk_member_txn_new(m);
    if (txn == NULL)
        return 0;
    yk_member_txn_same(txn, "map", map_revision);
    yk_member_txn_same(txn, "seed-map", m->view.seed_map_revision);
    yk_member_txn_put(txn, "seed-map", m->scratch, yk_member_encode(m, m->map), 0);
    return yk_member_txn_make(txn, &revision, &unsure) == 1;
}

static int spaces_stand(const struct yk_member *m) {
    for (uint32_t i = 0; i < m->view.space_count; i++) {
        const struct yk_member_seen_space *s = &m->view.spaces[i];
        if (s->space.epoch > 0 && (s->revision == 0 || s->in_etcd.epoch < s->space.epoch))
            return 0;
    }
    return 1;
}

/* Is this map of the cluster older than what this node, or another that says so, has? */
static int has_lost(struct yk_member *m, const struct yk_dir_map *there) {
    const struct yk_dir_map *seed = m->view.seed_map;
    if (m->map == NULL && there == NULL)
        return 1;
    return (m->map != NULL && is_behind(there, m->map)) ||
           (seed != NULL && seed->cluster == m->cluster && is_behind(there, seed));
}

/* What the watch shows may be old; what is read is not. */
static void fill(struct yk_member *m, uint64_t lease) {
    struct yk_dir_map *there = NULL;
    uint64_t revision;
    if (m->phase == YK_MEMBER_REFUSED)
        m->phase = YK_MEMBER_STARTING;
    m->turn_ms = YK_MEMBER_RETRY_MS;
    if (yk_member_fetch_map(m, &there, &revision) < 0)
        return;
    if (has_lost(m, there)) { /* else the watch will tell */
        yk_member_text(m, m->map != NULL ? "etcd has lost the map: it is filled again by the nodes"
                                         : "etcd has lost the map: its old nodes have to come first");
        int spoken = m->map == NULL || (spaces_stand(m) && put_seed(m, lease, revision) && put_seed_map(m, revision));
        if (spoken && yk_member_leads(m))
            yk_member_step_fill(m, there, revision);
    }
    free(there);
}

/* ---- which cluster ----------------------------------------------------------------------------- */

/* 1: the cluster there is this node's, or will be; *ret_there 0: there is none. */
static int check_cluster(struct yk_member *m, uint64_t *ret_there) {
    const struct yk_member_view *v = &m->view;
    uint64_t in_map = v->map != NULL ? v->map->cluster : 0;
    if ((v->cluster_revision != 0 && v->cluster == 0) || (v->map_revision != 0 && v->map == NULL)) {
        yk_member_text(m, "%s", v->broken);
        return 0;
    }
    if (v->cluster != 0 && in_map != 0 && v->cluster != in_map) {
        yk_member_text(m,
                       "two clusters write under '%.60s/': %016" PRIx64 ", and the map is of %016" PRIx64 ": give each a "
                       "prefix of its own",
                       m->prefix, v->cluster, in_map);
        return 0;
    }
    *ret_there = v->cluster != 0 ? v->cluster : in_map;
    if (*ret_there == 0 || m->cluster == 0 || *ret_there == m->cluster)
        return 1;
    yk_member_text(m,
                   "the cluster under '%.40s/' is %016" PRIx64 ", and %.60s is of %016" PRIx64 ": give this node the "
                   "prefix of its cluster, or a new state directory (it then drops what it holds)",
                   m->prefix, *ret_there, m->dir, m->cluster);
    return 0;
}

/* Nothing is there: an etcd that was emptied, or not where this node's cluster is? */
static int is_elsewhere(struct yk_member *m) {
    if (m->lived_prefix[0] == '\0' || strcmp(m->lived_prefix, m->prefix) == 0)
        return 0;
    yk_member_text(m,
                   "etcd has nothing under '%.40s/', and %.50s is of the cluster %016" PRIx64 " under '%.40s/': give this "
                   "node that prefix (--cluster)",
                   m->prefix, m->dir, m->cluster, m->lived_prefix);
    return 1;
}

/* ---- being in ---------------------------------------------------------------------------------- */

static void admit(struct yk_member *m, const struct yk_dir_member *mine) {
    uint64_t revision, replayed;
    int unsure;
    pthread_mutex_lock(&m->lock);
    replayed = m->replayed;
    pthread_mutex_unlock(&m->lock);
    if (replayed != m->incarnation || m->stale)
        return;
    m->turn_ms = YK_MEMBER_RETRY_MS;
    struct yk_dir_map *map = yk_dir_map_copy(m->map);
    struct yk_member_txn *txn = map != NULL ? yk_member_txn_new(m) : NULL;
    if (txn == NULL || yk_dir_map_admit(map, mine->id, m->incarnation) < 0) {
        free(txn);
        free(map);
        return;
    }
    yk_member_txn_same(txn, "map", m->view.map_revision);
    yk_member_txn_put(txn, "map", m->scratch, yk_member_encode(m, map), 0);
    if (yk_member_txn_make(txn, &revision, &unsure) != 1)
        free(map);
    else
        yk_member_made_map(m, map, revision);
}

/* Whoever knows a higher term of a slot takes nothing from its owner. Messages overtake the watch, so what counts is
 * only what the map has not reached after a while. */
static void outgrow(struct yk_member *m) {
    uint64_t now = yk_boot_ms(), revision;
    int unsure, behind = 0;
    for (uint32_t i = 0; i < YK_DIR_SLOTS && !behind; i++)
        behind = term_seen(m, i) > m->map->slot[i].term && m->map->slot[i].owner != YK_DIR_NOBODY;
    m->outgrow_ms = !behind ? 0 : m->outgrow_ms == 0 ? now + m->opts.lease_ms : m->outgrow_ms;
    if (!behind || now < m->outgrow_ms)
        return;
    uint64_t *terms = malloc(YK_DIR_SLOTS * sizeof(*terms));
    struct yk_dir_map *map = terms != NULL ? yk_dir_map_copy(m->map) : NULL;
    for (uint32_t i = 0; map != NULL && i < YK_DIR_SLOTS; i++)
        terms[i] = term_seen(m, i);
    struct yk_member_txn *txn = map != NULL && yk_dir_map_outgrow(map, terms) > 0 ? yk_member_txn_new(m) : NULL;
    free(terms);
    if (txn == NULL) {
        free(map);
        return;
    }
    m->turn_ms = YK_MEMBER_RETRY_MS;
    yk_member_txn_same(txn, "map", m->view.map_revision);
    yk_member_txn_put(txn, "map", m->scratch, yk_member_encode(m, map), 0);
    if (yk_member_txn_make(txn, &revision, &unsure) != 1)
        free(map);
    else
        yk_member_made_map(m, map, revision);
}

static int is_in(struct yk_member *m) {
    const struct yk_dir_member *mine = me(m);
    return m->incarnation != 0 && mine != NULL && mine->incarnation == m->incarnation &&
           mine->state != YK_DIR_EXPELLED;
}

static void tell_expelled(struct yk_member *m) {
    m->incarnation = 0;
    m->phase = YK_MEMBER_STARTING;
    yk_member_text(m, "this node was expelled, or its name taken: it comes back in a new incarnation");
    yk_member_say(m);
    m->text[0] = '\0';
}

/* The map is there, and this node's is as new. */
static void be_in(struct yk_member *m, uint64_t lease) {
    if (m->incarnation != 0 && !is_in(m))
        tell_expelled(m);
    if (m->incarnation == 0)
        join(m, lease);
    if (!is_in(m))
        return;
    keep_key(m, lease);
    if (m->current)
        outgrow(m);
    if (me(m)->state == YK_DIR_RETURNING)
        admit(m, me(m));
    m->phase = me(m)->state == YK_DIR_MEMBER ? YK_MEMBER_IN : YK_MEMBER_RETURNING;
}

void yk_member_step_join(struct yk_member *m, uint64_t lease) {
    uint64_t there = 0;
    m->at_home = m->current = 0;
    if (!check_cluster(m, &there)) {
        refuse(m);
        return;
    }
    if (there == 0 && m->cluster == 0) {
        be_first(m, lease);
        return;
    }
    m->birth_ms = 0;
    if (there == 0 && is_elsewhere(m)) {
        refuse(m);
        return;
    }
    if (m->cluster == 0)
        m->cluster = there;
    if (m->view.cluster == 0)
        put_cluster(m);
    m->at_home = m->view.cluster != 0;
    if (!m->at_home) {
        m->turn_ms = YK_MEMBER_RETRY_MS;
        return;
    }
    if (has_lost(m, m->view.map)) {
        fill(m, lease);
        return;
    }
    m->grace_ms = 0;
    m->current = yk_member_adopt(m) == 0;
    if (m->current)
        be_in(m, lease);
    else
        m->turn_ms = YK_MEMBER_RETRY_MS;
}
