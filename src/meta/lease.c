/* SPDX-License-Identifier: Apache-2.0
 *
 * Leases: granted, kept alive, and known to be held for exactly as long as that is certain.
 *
 * What is left counts from when the keepalive was sent that was answered, by the clock that goes on while
 * the machine sleeps: the store counts from when it got it, so a lease ends here first (rule R11: this only
 * makes things faster; terms keep order). A keepalive leaves every third of the time. When the time is up
 * without an answer the lease is unsure and asking goes on: the store may still hold it, as etcd does for
 * all leases after a change of its leader.
 *
 *   ASKING --granted--> HELD --time up--> UNSURE --answer--> HELD
 *      |                  \---- "not there" ----\--> LOST         any --close--> ENDED
 *      \--refused--> LOST
 *
 * HELD: id is set, until_boot_ms lies ahead or the timer is due. ASKING, UNSURE: a request or the timer is
 * under way. LOST: neither.
 *
 * Threads: public functions on any; the rest on yolk-meta.
 */
#include "base/clock.h"
#include "meta/meta_priv.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define ASK_AGAIN_MS 200 /* after a refusal that may pass */

static void ask(struct yk_meta_lease *l);

uint64_t yk_meta_lease_id(const struct yk_meta_lease *l) {
    return __atomic_load_n(&l->id, __ATOMIC_RELAXED);
}

uint64_t yk_meta_lease_left_ms(const struct yk_meta_lease *l) {
    uint64_t until = __atomic_load_n(&l->until_boot_ms, __ATOMIC_RELAXED), now = yk_boot_ms();
    return until > now ? until - now : 0;
}

static void set_until(struct yk_meta_lease *l, uint64_t boot_ms) {
    __atomic_store_n(&l->until_boot_ms, boot_ms, __ATOMIC_RELAXED); /* pairs with left_ms */
}

static void tell_elections(struct yk_meta_lease *l) {
    struct yk_meta_election *el, *next;
    for (el = TAILQ_FIRST(&l->elections); el != NULL; el = next) {
        next = TAILQ_NEXT(el, of_lease);
        yk_election_lease_changed(el);
    }
}

static void set_state(struct yk_meta_lease *l, enum yk_meta_lease_state state, int status,
                      const char *text) {
    assert(l->state != YK_META_LEASE_ENDED &&
           (l->state != YK_META_LEASE_LOST || state == YK_META_LEASE_ENDED));
    if (l->state == state)
        return;
    l->state = state;
    struct yk_meta_lease_event e = {.state = state,
                                    .id = state == YK_META_LEASE_ASKING ? 0 : l->id,
                                    .left_ms = yk_meta_lease_left_ms(l),
                                    .status = status,
                                    .text = text};
    tell_elections(l);
    l->fn(l->user, &e);
}

static void lose(struct yk_meta_lease *l, int status, const char *text) {
    set_until(l, 0);
    yk_meta_timer_stop(l->meta, &l->timer);
    set_state(l, YK_META_LEASE_LOST, status, text);
}

static void ask_in(struct yk_meta_lease *l, uint64_t ms) {
    yk_meta_timer_set(l->meta, &l->timer, yk_now_ns() + ms * YK_NS_PER_MS);
}

/* The time is up, or an answer said no without saying that it is gone. */
static void without_answer(struct yk_meta_lease *l, int status, const char *text) {
    uint64_t left = yk_meta_lease_left_ms(l);
    if (l->state == YK_META_LEASE_HELD && left == 0)
        set_state(l, YK_META_LEASE_UNSURE, status, text);
    ask_in(l, left > 0 && left < ASK_AGAIN_MS ? left : ASK_AGAIN_MS);
}

static void answered(void *user, const struct yk_meta_result *r) {
    struct yk_meta_lease *l = user;
    struct yk_meta_req *req = l->req;
    bool granting = req->what == YK_META_DO_GRANT;
    l->req = NULL;
    if (r->status == 0) {
        set_until(l, req->sent_boot_ms + req->answer_ttl_ms);
        if (yk_meta_lease_left_ms(l) == 0) {
            without_answer(l, -YK_ETIMEDOUT, "the answer came after the lease's time");
            return;
        }
        /* From the sending, so that two answers that are slow don't add up. */
        uint64_t next = req->sent_boot_ms + req->answer_ttl_ms / 3, now = yk_boot_ms();
        set_state(l, YK_META_LEASE_HELD, 0, "");
        ask_in(l, next > now ? next - now : 1);
    } else if (granting ? r->status != -YK_ETIMEDOUT && r->status != -YK_EGONE
                        : r->status == -YK_ENOENT) {
        lose(l, r->status, r->text);
    } else {
        without_answer(l, r->status, r->text);
    }
}

static void ask(struct yk_meta_lease *l) {
    bool grant = yk_meta_lease_id(l) == 0 || l->state == YK_META_LEASE_ASKING;
    uint64_t left = yk_meta_lease_left_ms(l), id = l->id;
    if (grant && getrandom(&id, sizeof(id), GRND_NONBLOCK) != (ssize_t)sizeof(id))
        id = yk_now_ns() * 0x9e3779b97f4a7c15ull ^ (uintptr_t)l;
    if (grant)
        id = (id & INT64_MAX) | 1; /* etcd's are positive */
    l->req = yk_meta_req_new(l->meta, grant ? YK_META_DO_GRANT : YK_META_DO_KEEPALIVE, NULL,
                             answered, l);
    if (l->req == NULL) {
        without_answer(l, -YK_ENOMEM, "no memory to keep a lease");
        return;
    }
    __atomic_store_n(&l->id, id, __ATOMIC_RELAXED); /* pairs with yk_meta_lease_id */
    l->req->lease = id;
    l->req->ttl_ms = l->ttl_ms;
    yk_meta_req_start(l->req, yk_now_ns() + (left > 0 ? left : (uint64_t)l->ttl_ms) * YK_NS_PER_MS);
}

static void due(void *user) {
    struct yk_meta_lease *l = user;
    if (l->state == YK_META_LEASE_HELD && yk_meta_lease_left_ms(l) == 0)
        set_state(l, YK_META_LEASE_UNSURE, -YK_ETIMEDOUT,
                  "this process or machine was stopped for the lease's whole time");
    ask(l);
}

/* ---- opening and closing ---------------------------------------------------------------------- */

void yk_meta_lease_end(struct yk_meta_lease *l, int status, const char *text) {
    struct yk_meta_election *el;
    yk_meta_timer_stop(l->meta, &l->timer);
    if (l->req != NULL)
        yk_meta_req_drop(l->req);
    l->req = NULL;
    set_until(l, 0);
    if (l->state != YK_META_LEASE_ENDED)
        set_state(l, YK_META_LEASE_ENDED, status, text);
    while ((el = TAILQ_FIRST(&l->elections)) != NULL) {
        TAILQ_REMOVE(&l->elections, el, of_lease);
        el->lease = NULL;
    }
    TAILQ_REMOVE(&l->meta->leases, l, link);
    free(l);
}

static void revoked(void *user, const struct yk_meta_result *r) {
    struct yk_meta_lease *l = user;
    l->req = NULL;
    yk_meta_lease_end(l, r->status == -YK_ENOENT ? 0 : r->status, r->text);
}

static void close_posted(struct yk_meta_msg *msg) {
    struct yk_meta_lease *l = (void *)((char *)msg - offsetof(struct yk_meta_lease, close_msg));
    bool had = l->state == YK_META_LEASE_HELD || l->state == YK_META_LEASE_UNSURE || l->req != NULL;
    yk_meta_timer_stop(l->meta, &l->timer);
    if (l->req != NULL)
        yk_meta_req_drop(l->req);
    l->req =
        l->revoke && had ? yk_meta_req_new(l->meta, YK_META_DO_REVOKE, NULL, revoked, l) : NULL;
    set_until(l, 0);
    tell_elections(l); /* before the store lets others lead */
    if (l->req == NULL) {
        yk_meta_lease_end(l, 0, "");
        return;
    }
    l->req->lease = l->id;
    yk_meta_req_start(l->req, yk_now_ns() + YK_META_RESIGN_MS * YK_NS_PER_MS);
}

static void open_posted(struct yk_meta_msg *msg) {
    struct yk_meta_lease *l = (void *)((char *)msg - offsetof(struct yk_meta_lease, open_msg));
    TAILQ_INSERT_TAIL(&l->meta->leases, l, link);
    ask(l);
}

int yk_meta_lease_open(struct yk_meta *meta, uint32_t ttl_ms, yk_meta_lease_fn fn, void *user,
                       struct yk_meta_lease **ret_lease) {
    if (fn == NULL || ttl_ms < YK_META_TTL_MIN_MS || ttl_ms > YK_META_TTL_MAX_MS)
        return -YK_EINVAL;
    struct yk_meta_lease *l = calloc(1, sizeof(*l));
    if (l == NULL)
        return -YK_ENOMEM;
    l->meta = meta;
    l->ttl_ms = ttl_ms;
    l->fn = fn;
    l->user = user;
    l->timer.fn = due;
    l->timer.user = l;
    l->open_msg.fn = open_posted;
    l->close_msg.fn = close_posted;
    TAILQ_INIT(&l->elections);
    *ret_lease = l; /* before the first call to fn */
    int rc = yk_meta_post(meta, &l->open_msg);
    if (rc < 0)
        free(l);
    return rc;
}

void yk_meta_lease_close(struct yk_meta_lease *l, bool revoke) {
    l->revoke = revoke;                         /* read after the mailbox's lock */
    (void)yk_meta_post(l->meta, &l->close_msg); /* refused: the metadata ends it */
}
