/* SPDX-License-Identifier: Apache-2.0
 *
 * Bodies of the frames between nodes (wire/dir.h).
 */
#include "wire/dir.h"

#include <string.h>

static const char *const op_names[YK_DIR_OPS - YK_DIR_OP_FIRST] = {
    [YK_DIR_CORE - YK_DIR_OP_FIRST] = "core",     [YK_DIR_FIND - YK_DIR_OP_FIRST] = "find",
    [YK_DIR_HAVE - YK_DIR_OP_FIRST] = "have",     [YK_DIR_LOCATE - YK_DIR_OP_FIRST] = "locate",
    [YK_DIR_REMOVE - YK_DIR_OP_FIRST] = "remove", [YK_DIR_MAP - YK_DIR_OP_FIRST] = "map",
    [YK_DIR_INFO - YK_DIR_OP_FIRST] = "info",     [YK_DIR_SPACE - YK_DIR_OP_FIRST] = "space",
    [YK_DIR_DRAIN - YK_DIR_OP_FIRST] = "drain",   [YK_DIR_FORGET - YK_DIR_OP_FIRST] = "forget",
    [YK_DIR_TAKE - YK_DIR_OP_FIRST] = "take",     [YK_DIR_TASK - YK_DIR_OP_FIRST] = "task",
    [YK_DIR_TASKS - YK_DIR_OP_FIRST] = "tasks",   [YK_DIR_REBALANCE - YK_DIR_OP_FIRST] = "rebalance",
    [YK_DIR_GIVE - YK_DIR_OP_FIRST] = "give",
};

const char *yk_dir_op_name(unsigned op) {
    return op >= YK_DIR_OP_FIRST && op < YK_DIR_OPS ? op_names[op - YK_DIR_OP_FIRST] : "unknown";
}

static void rd_str(struct yk_rd *r, struct yk_dirw_str *ret, uint32_t least) {
    ret->data = yk_rd_str8(r, &ret->len);
    if (ret->len < least)
        r->bad = 1;
}

void yk_rd_dir_key(struct yk_rd *r, struct yk_dirw_str *ret) {
    rd_str(r, ret, 1);
}

void yk_wr_dir_keys(struct yk_wr *w, const struct yk_dirw_keys *k) {
    yk_wr_str8(w, k->ns.data, k->ns.len);
    yk_wr_u64(w, k->epoch);
    yk_wr_u32(w, k->n);
}

void yk_rd_dir_keys(struct yk_rd *r, struct yk_dirw_keys *ret) {
    rd_str(r, &ret->ns, 1);
    ret->epoch = yk_rd_u64(r);
    ret->n = yk_rd_u32(r);
    if (ret->n == 0 || ret->n > YK_DIR_KEYS_MAX)
        r->bad = 1;
}

void yk_wr_dir_found(struct yk_wr *w, const struct yk_dirw_found *f) {
    yk_wr_u32(w, (uint32_t)f->status);
    yk_wr_u64(w, f->group);
    if (f->status != 0)
        return;
    yk_wr_u64(w, f->epoch);
    yk_wr_u64(w, f->len);
    yk_wr_u64(w, f->sum);
    yk_wr_u8(w, (uint8_t)f->count);
    for (uint32_t i = 0; i < f->count && i < YK_DIR_TELL_MAX; i++) {
        yk_wr_u32(w, f->copy[i].member);
        yk_wr_u8(w, f->copy[i].tiers);
        yk_wr_u64(w, f->copy[i].incarnation);
        yk_wr_u64(w, f->copy[i].gen);
    }
}

void yk_rd_dir_found(struct yk_rd *r, struct yk_dirw_found *ret) {
    memset(ret, 0, sizeof(*ret));
    ret->status = (int32_t)yk_rd_u32(r);
    ret->group = yk_rd_u64(r);
    if (ret->status != 0)
        return;
    ret->epoch = yk_rd_u64(r);
    ret->len = yk_rd_u64(r);
    ret->sum = yk_rd_u64(r);
    uint32_t count = yk_rd_u8(r);
    if (count == 0 || count > YK_DIR_TELL_MAX) {
        r->bad = 1;
        return;
    }
    ret->count = count;
    for (uint32_t i = 0; i < count; i++) {
        ret->copy[i].member = yk_rd_u32(r);
        ret->copy[i].tiers = yk_rd_u8(r);
        ret->copy[i].incarnation = yk_rd_u64(r);
        ret->copy[i].gen = yk_rd_u64(r);
    }
}

void yk_wr_dir_have(struct yk_wr *w, const struct yk_dirw_have *h) {
    yk_wr_u32(w, (uint32_t)h->status);
    if (h->status != 0)
        return;
    yk_wr_u64(w, h->gen);
    yk_wr_u64(w, h->len);
    yk_wr_u64(w, h->sum);
    yk_wr_u8(w, h->tiers);
}

void yk_rd_dir_have(struct yk_rd *r, struct yk_dirw_have *ret) {
    memset(ret, 0, sizeof(*ret));
    ret->status = (int32_t)yk_rd_u32(r);
    if (ret->status != 0)
        return;
    ret->gen = yk_rd_u64(r);
    ret->len = yk_rd_u64(r);
    ret->sum = yk_rd_u64(r);
    ret->tiers = yk_rd_u8(r);
}

void yk_wr_dir_locate(struct yk_wr *w, const struct yk_dirw_one *o) {
    yk_wr_str8(w, o->ns.data, o->ns.len);
    yk_wr_u64(w, o->epoch);
    yk_wr_u32(w, o->timeout_ms);
    yk_wr_str8(w, o->key.data, o->key.len);
}

void yk_rd_dir_locate(struct yk_rd *r, struct yk_dirw_one *ret) {
    memset(ret, 0, sizeof(*ret));
    rd_str(r, &ret->ns, 1);
    ret->epoch = yk_rd_u64(r);
    ret->timeout_ms = yk_rd_u32(r);
    rd_str(r, &ret->key, 1);
}

void yk_wr_dir_place(struct yk_wr *w, const struct yk_dirw_place *p) {
    yk_wr_u32(w, (uint32_t)p->status);
    if (p->status != 0)
        return;
    yk_wr_u32(w, p->idx);
    yk_wr_u64(w, p->gen);
    yk_wr_u64(w, p->offset);
    yk_wr_u64(w, p->len);
    yk_wr_u64(w, p->sum);
    yk_wr_u64(w, p->epoch);
    yk_wr_u64(w, p->left_ms);
    yk_wr_u64(w, p->term);
    yk_wr_u64(w, p->rseq);
    yk_wr_attrs(w, &p->attrs);
    yk_wr_str8(w, p->parent.data, p->parent.len);
}

void yk_rd_dir_place(struct yk_rd *r, struct yk_dirw_place *ret) {
    memset(ret, 0, sizeof(*ret));
    ret->status = (int32_t)yk_rd_u32(r);
    if (ret->status != 0)
        return;
    ret->idx = yk_rd_u32(r);
    ret->gen = yk_rd_u64(r);
    ret->offset = yk_rd_u64(r);
    ret->len = yk_rd_u64(r);
    ret->sum = yk_rd_u64(r);
    ret->epoch = yk_rd_u64(r);
    ret->left_ms = yk_rd_u64(r);
    ret->term = yk_rd_u64(r);
    ret->rseq = yk_rd_u64(r);
    yk_rd_attrs(r, &ret->attrs);
    rd_str(r, &ret->parent, 0);
    if (ret->len == 0 || ret->len > UINT32_MAX)
        r->bad = 1;
}

void yk_wr_dir_remove(struct yk_wr *w, const struct yk_dirw_one *o) {
    yk_wr_str8(w, o->ns.data, o->ns.len);
    yk_wr_u64(w, o->epoch);
    yk_wr_u64(w, o->until_ms);
    yk_wr_str8(w, o->key.data, o->key.len);
}

void yk_rd_dir_remove(struct yk_rd *r, struct yk_dirw_one *ret) {
    memset(ret, 0, sizeof(*ret));
    rd_str(r, &ret->ns, 1);
    ret->epoch = yk_rd_u64(r);
    ret->until_ms = yk_rd_u64(r);
    rd_str(r, &ret->key, 1);
}

void yk_wr_dir_take(struct yk_wr *w, const struct yk_dirw_take *t) {
    yk_wr_str8(w, t->ns.data, t->ns.len);
    yk_wr_u64(w, t->epoch);
    yk_wr_u32(w, t->timeout_ms);
    yk_wr_u8(w, t->wanted);
    yk_wr_u8(w, t->xclass);
    yk_wr_str8(w, t->key.data, t->key.len);
    yk_wr_dir_found(w, &t->found);
}

void yk_rd_dir_take(struct yk_rd *r, struct yk_dirw_take *ret) {
    rd_str(r, &ret->ns, 1);
    ret->epoch = yk_rd_u64(r);
    ret->timeout_ms = yk_rd_u32(r);
    ret->wanted = yk_rd_u8(r);
    ret->xclass = yk_rd_u8(r);
    rd_str(r, &ret->key, 1);
    yk_rd_dir_found(r, &ret->found);
    if (ret->found.status != 0 || ret->wanted == 0 || ret->wanted > YK_DIR_TELL_MAX ||
        ret->xclass >= YK_DIR_CLASSES)
        r->bad = 1;
}

void yk_wr_dir_task(struct yk_wr *w, const struct yk_dirw_task *t) {
    yk_wr_u8(w, t->kind);
    yk_wr_str8(w, t->ns.data, t->ns.len);
    yk_wr_u64(w, t->epoch);
    yk_wr_u32(w, t->timeout_ms);
    yk_wr_str8(w, t->node.data, t->node.len);
    yk_wr_str8(w, t->key.data, t->key.len);
    if (t->kind == YK_DIR_TASK_MOVE)
        yk_wr_str8(w, t->from.data, t->from.len);
}

void yk_rd_dir_task(struct yk_rd *r, struct yk_dirw_task *ret) {
    ret->kind = yk_rd_u8(r);
    rd_str(r, &ret->ns, 1);
    ret->epoch = yk_rd_u64(r);
    ret->timeout_ms = yk_rd_u32(r);
    rd_str(r, &ret->node, ret->kind == YK_DIR_TASK_MOVE ? 0 : 1);
    rd_str(r, &ret->key, 1);
    ret->from = (struct yk_dirw_str){NULL, 0};
    if (ret->kind == YK_DIR_TASK_MOVE)
        rd_str(r, &ret->from, 0);
}

void yk_wr_dir_give(struct yk_wr *w, const struct yk_dirw_give *g) {
    yk_wr_str8(w, g->ns.data, g->ns.len);
    yk_wr_u64(w, g->epoch);
    yk_wr_u32(w, g->timeout_ms);
    yk_wr_u32(w, g->to);
    yk_wr_str8(w, g->key.data, g->key.len);
}

void yk_rd_dir_give(struct yk_rd *r, struct yk_dirw_give *ret) {
    rd_str(r, &ret->ns, 1);
    ret->epoch = yk_rd_u64(r);
    ret->timeout_ms = yk_rd_u32(r);
    ret->to = yk_rd_u32(r);
    rd_str(r, &ret->key, 1);
}
