/* SPDX-License-Identifier: Apache-2.0
 *
 * Copies that were asked for by name, with an id and a state that can be looked at (docs/decisions/0017).
 *
 *   PENDING --its first step--> RUNNING --> DONE | FAILED (why)
 *
 * The table is a list, the oldest first; one that has ended makes room for a new one, those of hot chains first, which
 * nobody looks at. Of these a quarter of the table may be under way, so that whoever asks for a copy or a move finds room
 * however many chains are hot. It is the memory of this process:
 * a node that starts again knows of no task. An id is the node's in its high half, and a number that begins at the
 * wall clock's second, so that an id of an earlier life is not taken for one of this.
 *
 * Threads: the directory's loop.
 */
#include "dir/copy_priv.h"

#include "base/json.h"

#define DEADLINE_MS 60000u
#define DEADLINE_MAX_MS 3600000u

struct listed {
    struct dir_link all;
    struct yk_dir *dir;
    struct dir_task task;
};

struct dir_tasks {
    struct dir_link all;
    uint32_t count, next, keeps; /* keeps: under way */
};

static int is_open(const struct dir_task *t) {
    return t->state == DIR_TASK_PENDING || t->state == DIR_TASK_RUNNING;
}

static struct dir_tasks *table_of(struct yk_dir *d) {
    if (d->tasks != NULL)
        return d->tasks;
    d->tasks = calloc(1, sizeof(*d->tasks));
    if (d->tasks != NULL) {
        dir_list_init(&d->tasks->all);
        d->tasks->next = (uint32_t)(yk_wall_ms() / 1000u);
    }
    return d->tasks;
}

static int is_same(const struct dir_task *t, enum yk_dirw_task_kind kind, const struct yk_dir_key *key, uint64_t epoch,
                   uint32_t from, uint32_t to) {
    return t->kind == kind && t->wanted_from == from && t->to == to && t->epoch == epoch && t->ns_len == key->ns_len &&
           t->key_len == key->key_len && memcmp(t->ns, key->ns, t->ns_len) == 0 &&
           memcmp(t->key, key->key, t->key_len) == 0;
}

static int has_ended(const struct dir_task *t, int keep) {
    return !is_open(t) && (!keep || t->kind == YK_DIR_TASK_KEEP);
}

/* The oldest that has ended goes, with `keep` of hot chains. 0: none has. */
static int make_room(struct dir_tasks *all, int keep) {
    for (struct dir_link *l = all->all.next; l != &all->all; l = l->next) {
        struct listed *e = DIR_ITEM(l, struct listed, all);
        if (!has_ended(&e->task, keep))
            continue;
        dir_list_remove(l);
        free(e);
        all->count--;
        return 1;
    }
    return 0;
}

struct dir_task *dir_task_new(struct yk_dir *d, enum yk_dirw_task_kind kind, const struct yk_dir_key *key, uint64_t epoch,
                              uint32_t from, uint32_t to, int *ret_old) {
    struct dir_tasks *all = table_of(d);
    *ret_old = 0;
    if (all == NULL)
        return NULL;
    for (struct dir_link *l = all->all.next; l != &all->all; l = l->next) {
        struct dir_task *t = &DIR_ITEM(l, struct listed, all)->task;
        if (is_open(t) && is_same(t, kind, key, epoch, from, to)) {
            *ret_old = 1;
            return t;
        }
    }
    int keep = kind == YK_DIR_TASK_KEEP;
    if ((keep && all->keeps == DIR_KEEPS_MAX) ||
        (all->count == DIR_TASKS_MAX && !make_room(all, 1) && !make_room(all, 0)))
        return NULL;
    struct listed *e = calloc(1, sizeof(*e));
    if (e == NULL)
        return NULL;
    e->dir = d;
    e->task = (struct dir_task){.id = (uint64_t)d->self << 32 | ++all->next,
                                .kind = (uint8_t)kind,
                                .state = DIR_TASK_PENDING,
                                .from = from,
                                .wanted_from = from,
                                .to = to,
                                .begun_ms = yk_wall_ms(),
                                .epoch = epoch,
                                .ns_len = key->ns_len,
                                .key_len = key->key_len};
    memcpy(e->task.ns, key->ns, key->ns_len);
    memcpy(e->task.key, key->key, key->key_len);
    dir_list_add(&all->all, &e->all);
    all->count++;
    all->keeps += keep;
    return &e->task;
}

void dir_task_end(struct yk_dir *d, struct dir_task *t, int status, uint64_t bytes, const char *text) {
    d->tasks->keeps -= t->kind == YK_DIR_TASK_KEEP;
    t->state = status == 0 ? DIR_TASK_DONE : DIR_TASK_FAILED;
    t->status = status;
    t->bytes = bytes;
    t->ended_ms = yk_wall_ms();
    const char *why = text[0] != 0 ? text : status == YK_MISS ? "no node has it" : yk_status_text(status);
    snprintf(t->text, sizeof(t->text), "%s", status == 0 ? "" : why);
}

void dir_tasks_free(struct yk_dir *d) {
    while (d->tasks != NULL && !dir_list_empty(&d->tasks->all)) {
        struct listed *e = DIR_ITEM(d->tasks->all.next, struct listed, all);
        dir_list_remove(&e->all);
        free(e);
    }
    free(d->tasks);
    d->tasks = NULL;
}

/* ---- TASK ------------------------------------------------------------------------------------------- */

static void copied(void *arg, const struct dir_copy_end *e) {
    struct dir_task *t = arg;
    dir_task_end(DIR_ITEM(t, struct listed, task)->dir, t, e->status, e->bytes, e->text);
}

static uint64_t deadline_of(const struct yk_dirw_task *w) {
    uint32_t ms = w->timeout_ms == 0 ? DEADLINE_MS : w->timeout_ms < DEADLINE_MAX_MS ? w->timeout_ms : DEADLINE_MAX_MS;
    return yk_now_ns() + ms * YK_NS_PER_MS;
}

static int begin_copy(struct yk_dir *d, const struct yk_dirw_task *w, uint32_t to, uint64_t *ret_id) {
    struct dir_copy_want want = {.key = {w->ns.data, w->ns.len, w->key.data, w->key.len},
                                 .epoch = w->epoch,
                                 .wanted = 1,
                                 .to = to,
                                 .xclass = YK_XFER_BACKGROUND};
    int old;
    struct dir_task *t = dir_task_new(d, w->kind, &want.key, w->epoch, 0, to, &old);
    if (t == NULL)
        return -YK_EAGAIN;
    *ret_id = t->id;
    want.deadline_ns = deadline_of(w);
    if (old)
        return 0;
    t->state = DIR_TASK_RUNNING;
    int rc = dir_copy_start(d, &want, copied, t);
    if (rc < 0)
        dir_task_end(d, t, rc, 0, "");
    return rc;
}

/* ---- a move: its source sees to it (give.c); who that is, is looked for if it was not said ------------------ */

static struct yk_dir_key key_of(const struct dir_task *t) {
    return (struct yk_dir_key){t->ns, t->ns_len, t->key, t->key_len};
}

static void given(void *arg, int status, uint64_t bytes, const char *text) {
    struct dir_task *t = arg;
    dir_task_end(DIR_ITEM(t, struct listed, task)->dir, t, status, bytes, text);
}

static void give_answered(void *user, int status, const void *body, uint32_t len) {
    char text[YK_ERR_TEXT_MAX] = "";
    uint64_t bytes = 0;
    struct yk_rd r;
    yk_rd_init(&r, body, len);
    if (status == 0) {
        status = (int32_t)yk_rd_u32(&r);
        bytes = yk_rd_u64(&r);
        yk_rd_text(&r, text, sizeof(text));
        status = yk_rd_ok(&r) ? status : -YK_EPROTO;
    }
    given(user, status, bytes, text);
}

static void give(struct yk_dir *d, struct dir_task *t) {
    unsigned char body[YK_DIR_GIVE_BYTES_MAX];
    struct yk_dirw_give w = {.ns = {t->ns, t->ns_len},
                             .key = {t->key, t->key_len},
                             .epoch = t->epoch,
                             .timeout_ms = dir_left_ms(t->deadline_ns, UINT32_MAX),
                             .to = t->to};
    struct dir_give_want want = {
        .key = key_of(t), .epoch = t->epoch, .deadline_ns = t->deadline_ns, .to = t->to};
    struct yk_wr wr;
    int rc = -YK_ETIMEDOUT;
    yk_wr_init(&wr, body, sizeof(body));
    yk_wr_dir_give(&wr, &w);
    if (t->from == d->self)
        rc = dir_give_start(d, &want, given, t);
    else if (w.timeout_ms > 0)
        rc = dir_peers_ask(d, t->from, YK_DIR_GIVE, &wr, w.timeout_ms, give_answered, t);
    if (rc < 0)
        dir_task_end(d, t, rc, 0, "");
}

/* One that has it, beside the node that shall have it. */
static void located(struct dir_ask *a) {
    struct dir_task *t = a->arg;
    struct yk_dir *d = a->dir;
    struct yk_dir_found f = a->key[0].found;
    char text[YK_ERR_TEXT_MAX];
    uint32_t n = 0, there = 0;
    dir_ask_free(a);
    for (uint32_t i = 0; i < f.count && f.status == 0; i++) {
        int counts = !(f.copy[i].tiers & YK_DIR_GUEST);
        there |= counts && f.copy[i].member == t->to;
        if (!counts || f.copy[i].member == t->to)
            continue;
        t->from = f.copy[i].member;
        n++;
    }
    snprintf(text, sizeof(text), "%u nodes have it: say which of them shall not", n);
    if (f.status != 0 || (n == 0 && !there))
        dir_task_end(d, t, f.status != 0 ? f.status : YK_MISS, 0, "");
    else if (n == 0)
        dir_task_end(d, t, 0, f.len, ""); /* it is there already, and nowhere else */
    else if (n > 1)
        dir_task_end(d, t, -YK_EINVAL, 0, text);
    else
        give(d, t);
}

static int locate(struct yk_dir *d, struct dir_task *t) {
    struct dir_ask *a = dir_ask_new(d, 1);
    if (a == NULL)
        return -YK_ENOMEM;
    a->arg = t;
    a->done = located;
    a->epoch = t->epoch;
    a->deadline_ns = t->deadline_ns;
    a->ns_len = t->ns_len;
    memcpy(a->ns, t->ns, t->ns_len);
    a->key[0].key = t->key;
    a->key[0].key_len = t->key_len;
    dir_ask_start(a);
    return 0;
}

static int begin_move(struct yk_dir *d, const struct yk_dirw_task *w, uint32_t from, uint32_t to, uint64_t *ret_id) {
    struct yk_dir_key key = {w->ns.data, w->ns.len, w->key.data, w->key.len};
    int old, rc = 0;
    struct dir_task *t = dir_task_new(d, YK_DIR_TASK_MOVE, &key, w->epoch, from, to, &old);
    if (t == NULL)
        return -YK_EAGAIN;
    *ret_id = t->id;
    if (old)
        return 0;
    t->state = DIR_TASK_RUNNING;
    t->deadline_ns = deadline_of(w);
    if (from != YK_DIR_NOBODY)
        give(d, t);
    else if ((rc = locate(d, t)) < 0)
        dir_task_end(d, t, rc, 0, "");
    return rc;
}

/* A name that is there, or (if that may be) none at all. 1: *ret_id is whose; 0: `text` says why not. */
static int named(const struct yk_dir *d, const struct yk_dirw_str *str, int may_be_empty, uint32_t *ret_id, char *text,
                 size_t size) {
    char name[YK_DIR_NAME_MAX + 1] = "";
    if (str->len > 0 && str->len <= YK_DIR_NAME_MAX)
        memcpy(name, str->data, str->len);
    const struct yk_dir_member *m = d->map != NULL ? yk_dir_map_named(d->map, name) : NULL;
    *ret_id = m != NULL ? m->id : YK_DIR_NOBODY;
    if (m != NULL || (may_be_empty && str->len == 0))
        return 1;
    snprintf(text, size, "the cluster has no node '%s'", name);
    return 0;
}

int dir_task_serve(struct yk_dir *d, const struct yk_peer_who *asker, struct yk_rd *r,
                   const struct yk_peer_reply_to *to) {
    unsigned char body[16 + YK_ERR_TEXT_MAX];
    char text[YK_ERR_TEXT_MAX] = "";
    struct yk_dirw_task task;
    struct yk_wr w;
    uint64_t id = 0;
    uint32_t whither, from = YK_DIR_NOBODY;
    int rc = -YK_ENOENT;
    yk_rd_dir_task(r, &task);
    int move = task.kind == YK_DIR_TASK_MOVE;
    if (!yk_rd_ok(r) || (task.kind != YK_DIR_TASK_COPY && task.kind != YK_DIR_TASK_KEEP && !move))
        return -YK_EPROTO;
    dir_epoch_hear(d, asker, &task.ns, task.epoch);
    if (named(d, &task.node, move, &whither, text, sizeof(text)) &&
        (!move || named(d, &task.from, 1, &from, text, sizeof(text)))) {
        if (move && from == whither) {
            rc = -YK_EINVAL;
            snprintf(text, sizeof(text), "a move needs two nodes, or one of them");
        } else {
            rc = move ? begin_move(d, &task, from, whither, &id) : begin_copy(d, &task, whither, &id);
            if (rc < 0)
                snprintf(text, sizeof(text), "too many copies are under way");
        }
    }
    yk_wr_init(&w, body, sizeof(body));
    yk_wr_u32(&w, (uint32_t)rc);
    yk_wr_u64(&w, id);
    yk_wr_text(&w, text);
    dir_reply(d, to, YK_DIR_TASK, body, yk_wr_len(&w));
    return 0;
}

/* ---- TASKS ------------------------------------------------------------------------------------------ */

static const char *name_of(const struct yk_dir *d, uint32_t id) {
    const struct yk_dir_member *m = d->map != NULL ? yk_dir_map_member(d->map, id) : NULL;
    return m != NULL ? m->name : "";
}

/* A key is bytes: as hex, and as it is where it is text. */
static void put_key(struct yk_json *j, const struct dir_task *t) {
    char hex[2u * YK_KEY_MAX + 1u], text[YK_KEY_MAX + 1u];
    uint32_t plain = 1;
    for (uint32_t i = 0; i < t->key_len; i++) {
        snprintf(hex + 2u * i, 3, "%02x", t->key[i]);
        plain &= t->key[i] >= 0x20 && t->key[i] < 0x7f;
    }
    memcpy(text, t->key, t->key_len);
    text[t->key_len] = 0;
    yk_json_put_str(j, "key_hex", hex);
    if (plain)
        yk_json_put_str(j, "key", text);
}

static void put_task(const struct yk_dir *d, struct yk_json *j, const struct dir_task *t) {
    static const char *const kinds[] = {"", "copy", "move", "keep"};
    static const char *const states[] = {"", "pending", "running", "done", "failed"};
    char id[24];
    snprintf(id, sizeof(id), "%016llx", (unsigned long long)t->id);
    yk_json_begin_object(j);
    yk_json_put_str(j, "id", id);
    yk_json_put_str(j, "kind", kinds[t->kind]);
    yk_json_put_str(j, "state", states[t->state]);
    yk_json_put_str(j, "namespace", t->ns);
    put_key(j, t);
    yk_json_put_str(j, "from", name_of(d, t->from));
    yk_json_put_str(j, "to", name_of(d, t->to));
    yk_json_put_uint(j, "bytes", t->bytes);
    yk_json_put_uint(j, "begun_ms", t->begun_ms);
    yk_json_put_uint(j, "ended_ms", t->ended_ms);
    yk_json_put_str(j, "text", t->text);
    yk_json_end_object(j);
}

int dir_tasks_serve(struct yk_dir *d, const struct yk_peer_reply_to *to) {
    struct yk_buf out;
    struct yk_json j;
    yk_buf_init(&out, YK_PEER_BODY_MAX);
    yk_json_init_buf(&j, &out);
    yk_json_begin_object(&j);
    yk_json_key(&j, "tasks");
    yk_json_begin_array(&j);
    for (struct dir_link *l = d->tasks != NULL ? d->tasks->all.next : NULL; l != NULL && l != &d->tasks->all; l = l->next)
        put_task(d, &j, &DIR_ITEM(l, struct listed, all)->task);
    yk_json_end_array(&j);
    yk_json_end_object(&j);
    (void)yk_json_finish(&j);
    dir_reply(d, to, YK_DIR_TASKS, yk_buf_text(&out), out.len);
    yk_buf_fini(&out);
    return 0;
}
