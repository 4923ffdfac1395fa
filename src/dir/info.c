/* SPDX-License-Identifier: Apache-2.0
 *
 * What a node tells of its cluster to whoever asks: INFO as JSON; and what it has written into etcd for them: DRAIN,
 * FORGET, REBALANCE (wire/dir.h).
 *
 * Threads: the directory's loop; `written`: the membership's.
 */
#include "dir/dir_priv.h"

#include "base/json.h"

#include <stdio.h>

#define WRITE_MS 5000u

static const char *state_name(const struct yk_dir_member *m) {
    return m->state == YK_DIR_MEMBER ? "member" : m->state == YK_DIR_RETURNING ? "returning" : "expelled";
}

static uint32_t slots_of(const struct yk_dir_map *map, uint32_t id) {
    uint32_t n = 0;
    for (uint32_t s = 0; s < YK_DIR_SLOTS; s++)
        n += map->slot[s].owner == id;
    return n;
}

static void put_id(struct yk_json *j, const char *key, uint64_t id) {
    char text[24];
    snprintf(text, sizeof(text), "%016llx", (unsigned long long)id);
    yk_json_put_str(j, key, text);
}

/* What a node says of itself, as long as it lives. */
static void put_say(const struct yk_dir *d, struct yk_json *j, const struct dir_peer *p) {
    yk_json_put_str(j, "peers", p->say.peers);
    yk_json_put_str(j, "clients", p->say.clients);
    yk_json_put_str(j, "transfer", p->say.transfer);
    yk_json_put_str(j, "zone", p->say.zone);
    yk_json_put_str(j, "version", p->say.version);
    yk_json_put_uint(j, "capacity_bytes", p->say.capacity_bytes);
    yk_json_put_double(j, "lookups_per_s", p->say.load.lookups_per_s);
    yk_json_put_uint(j, "entries", p->say.load.entries);
    yk_json_put_uint(j, "held_bytes", p->say.load.held_bytes);
    yk_json_put_bool(j, "suspect", p->say.id != d->self && dir_suspect(d, p->say.id));
}

static void put_member(const struct yk_dir *d, struct yk_json *j, const struct yk_dir_member *m) {
    const struct dir_peer *p = dir_peer_of(d, m->id);
    yk_json_begin_object(j);
    yk_json_put_str(j, "name", m->name);
    yk_json_put_uint(j, "id", m->id);
    yk_json_put_str(j, "state", state_name(m));
    yk_json_put_bool(j, "draining", m->draining != 0);
    yk_json_put_uint(j, "incarnation", m->incarnation);
    yk_json_put_uint(j, "slots", slots_of(d->map, m->id));
    yk_json_put_bool(j, "alive", p != NULL && !p->gone && p->say.incarnation == m->incarnation);
    if (p != NULL)
        put_say(d, j, p);
    if (m->id == d->self) /* no other knows more of it than the map does */
        yk_json_put_str(j, "trouble", d->log_text[0] != 0 ? d->log_text : d->state.text);
    yk_json_end_object(j);
}

/* Of a node that drains. */
static void put_drain(const struct yk_dir *d, struct yk_json *j) {
    struct dir_drain_stats s;
    if (!dir_drain_stats(d, &s))
        return;
    yk_json_key(j, "drain");
    yk_json_begin_object(j);
    yk_json_put_bool(j, "done", s.done != 0);
    yk_json_put_uint(j, "blocks_left", s.blocks_left);
    yk_json_put_uint(j, "bytes_left", s.bytes_left);
    yk_json_put_uint(j, "handed", s.handed);
    yk_json_put_uint(j, "handed_bytes", s.handed_bytes);
    yk_json_put_uint(j, "kept", s.kept);
    yk_json_put_str(j, "text", s.text);
    yk_json_end_object(j);
}

static void put_counts(const struct yk_dir *d, struct yk_json *j) {
    struct yk_dir_core_counts c = {0};
    if (d->core != NULL)
        yk_dir_core_counts(d->core, &c);
    yk_json_put_bool(j, "serves", d->core != NULL && yk_dir_core_serves(d->core));
    yk_json_put_uint(j, "slots_owned", c.slots_owned);
    yk_json_put_uint(j, "slots_whole", c.slots_whole);
    yk_json_put_uint(j, "entries", c.entries);
    yk_json_put_uint(j, "aliases", c.aliases);
    yk_json_put_uint(j, "held", c.held);
    yk_json_put_uint(j, "unpublished", c.unpublished);
    yk_json_put_uint(j, "removes_pending", c.removes_pending);
    yk_json_put_uint(j, "conflicts", c.conflicts);
    yk_json_put_uint(j, "finds", c.finds);
    yk_json_put_uint(j, "pulled", d->n.pulled);
    yk_json_put_uint(j, "pulled_bytes", d->n.pulled_bytes);
    yk_json_put_uint(j, "pull_failed", d->n.pull_failed);
    yk_json_put_uint(j, "far_pulled", d->n.far_pulled);
    yk_json_put_uint(j, "far_pulled_bytes", d->n.far_pulled_bytes);
    yk_json_put_uint(j, "copying", d->n.copying);
    yk_json_put_uint(j, "copies_done", d->n.copies_done);
    yk_json_put_uint(j, "copies_failed", d->n.copies_failed);
    yk_json_put_uint(j, "taken", d->n.taken);
    yk_json_put_uint(j, "take_failed", d->n.take_failed);
    yk_json_put_uint(j, "short_of_copies", d->n.short_of_copies);
}

void dir_info_json(const struct yk_dir *d, struct yk_buf *out) {
    struct yk_json j;
    yk_json_init_buf(&j, out);
    yk_json_begin_object(&j);
    put_id(&j, "cluster", d->state.cluster);
    yk_json_put_str(&j, "self", d->opts.name);
    yk_json_put_uint(&j, "id", d->self);
    yk_json_put_uint(&j, "map_version", d->map != NULL ? d->map->version : 0);
    yk_json_put_uint(&j, "expulsions", d->map != NULL ? d->map->expulsions : 0);
    yk_json_put_bool(&j, "etcd", d->state.good != 0);
    yk_json_put_bool(&j, "balancer", d->state.leads != 0);
    yk_json_put_str(&j, "rebalance", d->state.rebalance);
    put_drain(d, &j);
    put_counts(d, &j);
    yk_json_key(&j, "nodes");
    yk_json_begin_array(&j);
    for (uint32_t i = 0; d->map != NULL && i < d->map->member_count; i++)
        put_member(d, &j, &d->map->member[i]);
    yk_json_end_array(&j);
    yk_json_end_object(&j);
    (void)yk_json_finish(&j);
}

/* ---- DRAIN, FORGET, REBALANCE ----------------------------------------------------------------------- */

struct writing {
    struct dir_job job;
    unsigned op;
    struct yk_peer_reply_to to;
    int status;
    char text[YK_ERR_TEXT_MAX];
};

static void answer(struct dir_job *job) {
    struct writing *m = DIR_ITEM(job, struct writing, job);
    unsigned char body[8 + sizeof(m->text)];
    struct yk_wr w;
    yk_wr_init(&w, body, sizeof(body));
    yk_wr_u32(&w, (uint32_t)m->status);
    yk_wr_text(&w, m->text);
    dir_reply(job->dir, &m->to, m->op, body, yk_wr_len(&w));
    free(m);
}

static void written(void *user, int status, const char *text) {
    struct writing *m = user;
    m->status = status;
    snprintf(m->text, sizeof(m->text), "%s", text != NULL ? text : "");
    dir_to_loop(m->job.dir, &m->job);
}

/* NULL: no memory; the asker hears nothing. */
static struct writing *writing_new(struct yk_dir *d, unsigned op, const struct yk_peer_reply_to *to) {
    struct writing *m = calloc(1, sizeof(*m));
    if (m == NULL)
        return NULL;
    m->job.dir = d;
    m->job.back = answer;
    m->to = *to;
    m->op = op;
    return m;
}

static void refused(struct writing *m, int rc) {
    written(m, rc, rc == -YK_EINVAL ? "that is no name of a node" : "too much is under way");
}

int dir_serve_change(struct yk_dir *d, unsigned op, struct yk_rd *r, const struct yk_peer_reply_to *to) {
    char name[YK_DIR_NAME_MAX + 1] = "";
    uint32_t len;
    const void *text = yk_rd_str8(r, &len);
    uint8_t on = yk_rd_u8(r);
    if (!yk_rd_ok(r) || len > YK_DIR_NAME_MAX || on > 1)
        return -YK_EPROTO;
    struct writing *m = writing_new(d, op, to);
    if (m == NULL)
        return 0;
    memcpy(name, text, len);
    int rc = op == YK_DIR_DRAIN ? yk_member_drain(d->member, name, on, WRITE_MS, written, m)
                                : yk_member_forget(d->member, name, WRITE_MS, written, m);
    if (rc < 0)
        refused(m, rc);
    return 0;
}

int dir_serve_rebalance(struct yk_dir *d, struct yk_rd *r, const struct yk_peer_reply_to *to) {
    if (!yk_rd_ok(r))
        return -YK_EPROTO;
    struct writing *m = writing_new(d, YK_DIR_REBALANCE, to);
    int rc = m != NULL ? yk_member_rebalance(d->member, WRITE_MS, written, m) : 0;
    if (rc < 0)
        refused(m, rc);
    return 0;
}
