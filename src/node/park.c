/* SPDX-License-Identifier: Apache-2.0
 *
 * Requests that wait for blocks to come up from SSD, or for the pool (pool.c), and replies that wait for a
 * removal to be durable.
 *
 * A request that needs a block in DRAM is kept as it came, and handled again from its beginning when all
 * its raises have ended, and the pool has answered: then it takes what there is. It waits a second time only where
 * a block did not come up from SSD, and is looked for elsewhere. So no handler is cut in two. A raise ends in the middle of the store's work, where nothing may call the store: it only
 * puts the request into the ready list, which the loop runs at the end of its turn.
 *
 * A reply is kept as it was written. Replies of one connection may overtake each other, as the protocol
 * allows: ids say which is which.
 *
 * Threads: the owner loop's.
 */
#include "node/conn_priv.h"

#include "base/clock.h"

#include <stdlib.h>
#include <string.h>

int park_init(struct yk_node *node) {
    node->held_tail = &node->held;
    node->parked = calloc(PARKED_MAX, sizeof(*node->parked));
    if (node->parked == NULL)
        return -YK_ENOMEM;
    for (uint32_t i = PARKED_MAX; i-- > 0;) {
        node->parked[i].next = node->parked_free;
        node->parked_free = i + 1u;
    }
    return 0;
}

void park_fini(struct yk_node *node) {
    for (uint32_t i = 0; node->parked != NULL && i < PARKED_MAX; i++) {
        free(node->parked[i].body);
        free(node->parked[i].answers);
    }
    free(node->parked);
    for (struct held *h = node->held, *next; h != NULL; h = next) {
        next = h->next;
        free(h);
    }
}

/* A token: slot + 1 in 16 bits, the item's number in 16, the slot's use in 32. */
struct parked *park_find(struct yk_node *node, uint64_t token) {
    uint32_t at = (uint32_t)(token & 0xffffu) - 1u;
    if (at >= PARKED_MAX || !node->parked[at].used || node->parked[at].seq != token >> 32)
        return NULL;
    return &node->parked[at];
}

static void parked_free(struct yk_node *node, struct parked *p) {
    free(p->body);
    if (p->keys > 0)
        pool_forget_keys(node, p);
    free(p->answers);
    p->body = NULL;
    p->answers = NULL;
    p->conn = NULL;
    p->used = 0;
    p->next = node->parked_free;
    node->parked_free = (uint32_t)(p - node->parked) + 1u;
    node->parked_count--;
}

uint64_t park_take(struct yk_node *node) {
    if (node->parked_free == 0)
        return 0;
    uint32_t at = node->parked_free - 1u;
    struct parked *p = &node->parked[at];
    node->parked_free = p->next;
    node->parked_count++;
    p->used = 1;
    p->seq++;
    p->pending = p->keys = p->owed_each = 0;
    p->owed = 0;
    p->next = 0;
    return (uint64_t)p->seq << 32 | (at + 1u);
}

void park_drop(struct yk_node *node, uint64_t token) {
    struct parked *p = park_find(node, token);
    if (p != NULL)
        parked_free(node, p);
}

static void ready_add(struct yk_node *node, struct parked *p) {
    p->next = node->parked_ready;
    node->parked_ready = (uint32_t)(p - node->parked) + 1u;
}

int park_keep(struct yk_node *node, uint64_t token, struct conn *c, const struct yk_frame *f,
              const void *body, uint32_t pending) {
    struct parked *p = park_find(node, token);
    if (p == NULL)
        return -YK_EINTERNAL;
    p->pending = pending;
    p->begun_ns = c->begun_ns;
    p->body = malloc(f->body_bytes + 1u);
    if (p->body == NULL) { /* the connection ends; the slot is free when its raises have ended */
        if (pending == 0)
            parked_free(node, p);
        return -YK_ENOMEM;
    }
    memcpy(p->body, body, f->body_bytes);
    p->conn = c;
    p->frame = *f;
    if (pending == 0) /* all of it was answered at once */
        ready_add(node, p);
    return 0;
}

void park_ended(struct yk_node *node, struct parked *p, uint32_t n) {
    if (p->pending == 0 || n == 0)
        return;
    p->pending -= n < p->pending ? n : p->pending;
    if (p->pending == 0)
        ready_add(node, p);
}

void park_raised(void *arg, uint64_t token) {
    struct yk_node *node = arg;
    struct parked *p = park_find(node, token);
    if (p != NULL)
        park_ended(node, p, 1);
}

int held_add(struct yk_node *node, struct conn *c, uint64_t ticket, const struct yk_frame *f,
             const void *body, int rerun) {
    if (node->held_count == HELD_MAX)
        return -YK_EAGAIN;
    struct held *h = malloc(sizeof(*h) + f->body_bytes);
    if (h == NULL)
        return -YK_ENOMEM;
    *h = (struct held){.conn = c, .ticket = ticket, .frame = *f, .rerun = rerun};
    memcpy(h->body, body, f->body_bytes);
    *node->held_tail = h;
    node->held_tail = &h->next;
    node->held_count++;
    return 0;
}

/* 0: sent, or its request is done with; 1: not now. */
static int held_release(struct yk_node *node, struct held *h) {
    int rc = yk_store_durable(node->store, h->ticket);
    if (h->conn == NULL)
        return 0;
    if (rc == 0)
        return 1;
    if (h->rerun)
        return conn_rerun(h->conn, &h->frame, h->body, yk_now_ns(), NULL);
    if (rc < 0)
        reply_fail(h->body, h->frame.body_bytes, h->frame.op, rc);
    return conn_reply(h->conn, &h->frame, h->body);
}

static void held_run(struct yk_node *node) {
    struct held *list = node->held;
    node->held = NULL;
    node->held_tail = &node->held;
    for (struct held *h = list, *next; h != NULL; h = next) {
        next = h->next;
        h->next = NULL;
        *node->held_tail = h; /* in the list while it runs: its connection may end meanwhile */
        struct held **at = node->held_tail;
        node->held_tail = &h->next;
        if (held_release(node, h) == 1)
            continue;
        *at = h->next; /* others may have been added behind it */
        if (node->held_tail == &h->next)
            node->held_tail = at;
        free(h);
        node->held_count--;
    }
}

static void ready_run(struct yk_node *node) {
    uint32_t link = node->parked_ready;
    node->parked_ready = 0;
    while (link != 0) {
        struct parked *p = &node->parked[link - 1u];
        uint32_t next = p->next;
        if (p->conn != NULL && conn_rerun(p->conn, &p->frame, p->body, p->begun_ns, p) == 1) {
            p->next = node->parked_ready;
            node->parked_ready = link;
        } else {
            parked_free(node, p);
        }
        link = next;
    }
}

void park_run(struct yk_node *node) {
    if (node->parked_ready != 0)
        ready_run(node);
    if (node->held != NULL)
        held_run(node);
}

void park_forget(struct yk_node *node, const struct conn *c) {
    for (uint32_t i = 0; node->parked_count > 0 && i < PARKED_MAX; i++)
        if (node->parked[i].conn == c)
            node->parked[i].conn = NULL;
    for (struct held *h = node->held; h != NULL; h = h->next)
        if (h->conn == c)
            h->conn = NULL;
}
