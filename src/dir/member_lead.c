/* SPDX-License-Identifier: Apache-2.0
 *
 * What the balancer does besides being a member: it expels whose lease has ended, marks who shall be drained,
 * moves slots (balance.h), and fills an etcd that came back empty. Each is a transaction that compares the map's
 * revision and that this node still leads; two who both think so can hinder, but not contradict each other.
 *
 * Whose key went while this node watched has lost its lease, and is expelled at once. But not when this node
 * itself had no lease shortly before, or heard nothing: then it was etcd that was away, perhaps for everybody,
 * and who is alive will say so. Nor is a key that this node never saw (all restart, etcd came back empty) a
 * sign of death. These have grace_ms from when this node hears of etcd again.
 *
 * Thread: yolk-member.
 */
#include "dir/member_priv.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- expelling, draining, moving --------------------------------------------------------------- */

static int has_gone(struct yk_member *m, const struct yk_dir_member *who) {
    const struct yk_member_seen_node *s = yk_member_view_node(m, who->name);
    if (who->state == YK_DIR_EXPELLED || strcmp(who->name, m->self.name) == 0 || (s != NULL && s->revision != 0))
        return 0;
    return (s != NULL && s->went_ms >= m->view.since_ms + m->opts.lease_ms) ||
           yk_boot_ms() >= m->view.since_ms + m->opts.grace_ms;
}

/* How many changes were made to the copy. */
static unsigned expel(struct yk_member *m, struct yk_dir_map *copy) {
    unsigned n = 0;
    for (uint32_t i = 0; i < copy->member_count; i++)
        if (has_gone(m, &copy->member[i]) && yk_dir_map_expel(copy, copy->member[i].id) == 0)
            n++;
    return n;
}

static unsigned drain(struct yk_member *m, struct yk_dir_map *copy) {
    unsigned n = 0;
    for (uint32_t i = 0; i < copy->member_count; i++) {
        int wanted = yk_member_view_drains(m, copy->member[i].name);
        if (wanted != copy->member[i].draining && yk_dir_map_drain(copy, copy->member[i].id, wanted) == 0)
            n++;
    }
    return n;
}

/* Both parts of the load by their shares, so that neither unit counts more. */
static uint32_t measure(struct yk_member *m, const struct yk_dir_map *map, struct yk_balance_member *ret) {
    double lookups = 0, entries = 0;
    uint32_t n = 0;
    for (uint32_t i = 0; i < m->view.node_count; i++) {
        lookups += m->view.nodes[i].node.load.lookups_per_s;
        entries += (double)m->view.nodes[i].node.load.entries;
    }
    for (uint32_t i = 0; i < map->member_count; i++) {
        const struct yk_member_seen_node *s = yk_member_view_node(m, map->member[i].name);
        if (s == NULL || s->revision == 0)
            continue; /* not in the list: gets nothing */
        const struct yk_member_load *l = &s->node.load;
        ret[n++] = (struct yk_balance_member){
            .id = map->member[i].id,
            .load = (lookups > 0 ? l->lookups_per_s / lookups : 0) + (entries > 0 ? (double)l->entries / entries : 0)};
    }
    pthread_mutex_lock(&m->lock);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < m->suspect_count; k++)
            ret[i].suspect |= m->suspect[k] == ret[i].id;
    pthread_mutex_unlock(&m->lock);
    return n;
}

/* Not more often than the plan is made for. */
static unsigned move(struct yk_member *m, struct yk_dir_map *copy) {
    struct yk_balance_member members[YK_DIR_MEMBERS_MAX];
    struct yk_balance_move moves[64]; /* balance.h's batch */
    uint64_t now = yk_boot_ms();
    unsigned made = 0;
    if (yk_dir_map_members(copy, YK_DIR_MEMBER) < 2)
        return 0;
    if (m->turn_ms > 5 * m->plan_period_ms)
        m->turn_ms = 5 * m->plan_period_ms;
    if (now < m->plan_ms)
        return 0;
    m->plan_ms = now + m->plan_period_ms;
    uint32_t count = measure(m, copy, members), n = yk_balance_plan(m->balance, copy, members, count, now, moves);
    for (uint32_t i = 0; i < n; i++)
        made += yk_dir_map_move(copy, moves[i].slot, moves[i].to) == 0;
    return made;
}

/* Takes the copy. */
static void put_map(struct yk_member *m, struct yk_dir_map *copy) {
    struct yk_member_txn *txn = yk_member_txn_new(m);
    uint64_t revision;
    int unsure;
    if (txn == NULL) {
        free(copy);
        return;
    }
    yk_member_txn_same(txn, "map", m->view.map_revision);
    yk_member_txn_leads(txn);
    yk_member_txn_put(txn, "map", m->scratch, yk_member_encode(m, copy), 0);
    m->turn_ms = YK_MEMBER_RETRY_MS;
    if (yk_member_txn_make(txn, &revision, &unsure) != 1) {
        free(copy);
        return;
    }
    yk_member_made_map(m, copy, revision);
    if (m->turn_ms > m->plan_period_ms) /* there may be more to move */
        m->turn_ms = m->plan_period_ms;
}

/* ---- rebalance ---------------------------------------------------------------------------------- */

static const char *member_name(const struct yk_member *m, uint32_t id) {
    const struct yk_dir_member *who = yk_dir_map_member(m->map, id);
    return who != NULL ? who->name : "-";
}

/* How it ended, for the user. */
static void rest_text(const struct yk_member *m, const struct yk_balance_rest *r, char *ret, size_t size) {
    unsigned percent = r->share < 1e6 ? (unsigned)(100 * r->share + 0.5) : 100000000u;
    const char *worst = member_name(m, r->worst);
    if (yk_dir_map_members(m->map, YK_DIR_MEMBER) < 2)
        snprintf(ret, size, YK_MEMBER_BALANCED ": there is one member");
    else if (r->even)
        snprintf(ret, size, YK_MEMBER_BALANCED ": '%.63s' is farthest off, with %u %% of a fair share", worst, percent);
    else if (r->suspect != YK_DIR_NOBODY)
        snprintf(ret, size, "hindered: '%.63s' cannot be reached, it gives and takes no slots",
                 member_name(m, r->suspect));
    else if (r->left > 0)
        snprintf(ret, size, "hindered: nobody is left to take %u slots of draining nodes", r->left);
    else
        snprintf(ret, size, "hindered: '%.63s' has %u %% of a fair share, and no move mends it: a slot has one owner",
                 worst, percent);
}

static void hurry_begin(struct yk_member *m) {
    struct yk_member_view *v = &m->view;
    if (strcmp(v->rebalance, YK_MEMBER_WANTED) != 0 || m->hurried == v->rebalance_revision)
        return;
    m->hurried = v->rebalance_revision;
    yk_balance_hurry(m->balance);
    m->plan_ms = 0;
}

static void hurry_end(struct yk_member *m) {
    struct yk_member_view *v = &m->view;
    char text[YK_MEMBER_REBALANCE_MAX + 1];
    struct yk_balance_rest rest;
    uint64_t revision;
    int unsure;
    yk_balance_rest(m->balance, &rest);
    if (strcmp(v->rebalance, YK_MEMBER_WANTED) != 0 || m->hurried != v->rebalance_revision ||
        (rest.hurries && yk_dir_map_members(m->map, YK_DIR_MEMBER) > 1))
        return;
    rest_text(m, &rest, text, sizeof(text));
    struct yk_member_txn *txn = yk_member_txn_new(m);
    if (txn == NULL)
        return;
    yk_member_txn_same(txn, "rebalance", v->rebalance_revision);
    yk_member_txn_leads(txn);
    yk_member_txn_put(txn, "rebalance", text, strlen(text), 0);
    if (yk_member_txn_make(txn, &revision, &unsure) < 0)
        m->turn_ms = YK_MEMBER_RETRY_MS;
}

void yk_member_step_lead(struct yk_member *m) {
    if (!yk_member_leads(m) || m->incarnation == 0 || !m->current)
        return;
    hurry_begin(m);
    struct yk_dir_map *copy = yk_dir_map_copy(m->map);
    if (copy == NULL)
        return;
    unsigned n = expel(m, copy) + drain(m, copy);
    if (n + move(m, copy) > 0)
        put_map(m, copy);
    else
        free(copy);
    hurry_end(m);
}

/* ---- an etcd that came back empty --------------------------------------------------------------- */

static const struct yk_member_seed *seed_of(const struct yk_member *m, const char *name) {
    for (uint32_t i = 0; i < m->view.seed_count; i++)
        if (strcmp(m->view.seeds[i].name, name) == 0)
            return &m->view.seeds[i];
    return NULL;
}

/* Everybody has spoken, and nobody has a newer map than the one that is there; or it was time enough. */
static int all_have_spoken(struct yk_member *m, const struct yk_dir_map *map) {
    uint64_t now = yk_boot_ms();
    unsigned missing = 0;
    const char *first = "";
    for (uint32_t i = 0; i < map->member_count; i++)
        if (map->member[i].state == YK_DIR_MEMBER && seed_of(m, map->member[i].name) == NULL && missing++ == 0)
            first = map->member[i].name;
    for (uint32_t i = 0; i < m->view.seed_count; i++)
        if (m->view.seeds[i].version > map->version && missing++ == 0)
            first = m->view.seeds[i].name;
    if (m->grace_ms == 0)
        m->grace_ms = now + m->opts.grace_ms;
    if (missing == 0 || now >= m->grace_ms)
        return 1;
    if (m->grace_ms - now < m->turn_ms)
        m->turn_ms = (uint32_t)(m->grace_ms - now);
    yk_member_text(m, "etcd has lost the map: waits for %u of its members, '%.63s' among them, for %u ms more", missing,
                   first, (unsigned)(m->grace_ms - now));
    return 0;
}

static void raise_to(uint64_t *term, uint64_t at_least) {
    if (*term < at_least)
        *term = at_least;
}

/* From the newest map; should that leave no member whom the one that is there has not expelled, from that. */
static struct yk_dir_map *restored(struct yk_member *m, uint64_t *terms, const struct yk_dir_map *seed,
                                   const struct yk_dir_map *there) {
    for (uint32_t i = 0; i < m->view.seed_count; i++)
        for (uint32_t k = 0; k < m->view.seeds[i].count; k++)
            raise_to(&terms[m->view.seeds[i].term[k].owner], m->view.seeds[i].term[k].term);
    struct yk_dir_map *map = yk_dir_map_copy(seed);
    if (map == NULL || yk_dir_map_restore(map, there, terms) == 0)
        return map;
    free(map);
    map = yk_dir_map_copy(there);
    if (map == NULL || yk_dir_map_restore(map, seed, terms) == 0)
        return map;
    free(map);
    yk_member_text(m, "the map in etcd and that of the nodes have each expelled all members of the other: remove "
                      "the state directories of the nodes whose blocks can be lost");
    return NULL;
}

/* Those who were drained are. (More than these at a time are drained again by hand.) */
static void put_drains(struct yk_member_txn *txn, const struct yk_dir_map *map) {
    char key[YK_DIR_NAME_MAX + 8];
    for (uint32_t i = 0; i < map->member_count && txn->changes < YK_MEMBER_TXN_MAX; i++)
        if (map->member[i].draining) {
            snprintf(key, sizeof(key), "drain/%s", map->member[i].name);
            yk_member_txn_put(txn, key, "1", 1, 0);
        }
}

void yk_member_step_fill(struct yk_member *m, const struct yk_dir_map *there, uint64_t revision) {
    const struct yk_dir_map *seed = m->view.seed_map;
    uint64_t now;
    int unsure;
    if (seed == NULL || seed->cluster != m->cluster || !all_have_spoken(m, seed))
        return;
    uint64_t *terms = calloc(YK_DIR_SLOTS, sizeof(*terms));
    struct yk_dir_map *map = terms != NULL ? restored(m, terms, seed, there) : NULL;
    struct yk_member_txn *txn = map != NULL ? yk_member_txn_new(m) : NULL;
    if (txn != NULL) {
        yk_member_txn_same(txn, "map", revision);
        yk_member_txn_same(txn, "cluster", m->view.cluster_revision);
        yk_member_txn_same(txn, "seed-map", m->view.seed_map_revision);
        yk_member_txn_leads(txn);
        yk_member_txn_put(txn, "map", m->scratch, yk_member_encode(m, map), 0);
        yk_member_txn_remove(txn, "seed-map", 0);
        yk_member_txn_remove(txn, "seed/", 1);
        put_drains(txn, map);
        if (yk_member_txn_make(txn, &now, &unsure) == 1) {
            m->view.since_ms = yk_boot_ms(); /* from now on its members have to say that they live */
            yk_member_made_map(m, map, now);
            map = NULL;
        }
    }
    free(map);
    free(terms);
}
