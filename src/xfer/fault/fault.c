/* SPDX-License-Identifier: Apache-2.0
 *
 * A transport around another: it has the other's name and bit, and hands everything on, but for every
 * Nth slice, or one in so many at random. Those it keeps (a delayed one until its time, a dropped one
 * until it is cancelled or its lane closed), fails, or corrupts when they come back. What it keeps was
 * never handed on, so that nothing of it is under way.
 *
 * Thread: the shard's.
 */
#include "xfer/fault/fault.h"

#include "base/clock.h"
#include "base/parse.h"

#include <stdlib.h>
#include <string.h>

enum kind { DELAY, DROP, ERROR, CORRUPT };
static const char *const kinds[] = {"delay", "drop", "error", "corrupt", NULL};

#define MARKS 64u /* slices of a lane that shall be corrupted and are under way */

struct spec {
    enum kind kind;
    uint64_t every; /* 0: by rate */
    double rate;
    uint64_t delay_ns;
    int request; /* an error is the request's alone */
};

struct fault_xport {
    struct yk_xport x;
    struct yk_xport_ops ops;  /* the inner one's name and bit, our functions */
    struct yk_shard_env env;  /* the shard's with our events */
    const struct yk_shard_env *outer;
    struct yk_xport *inner;
    struct spec spec;
    uint64_t slices, random;
};

struct fault_lane {
    struct yk_lane lane;
    struct yk_lane *inner;
    struct yk_slice *first, *last; /* kept; priv[0]: when it goes on, priv[1]: 1 = it fails then */
    uint32_t kept;
    struct yk_slice *marks[MARKS];
    uint32_t mark_count;
    struct yk_timer timer;
};

/* ---- the text ------------------------------------------------------------------------------------- */

static int take_word(struct spec *s, const char *word) {
    uint64_t n;
    double p;
    if (strncmp(word, "every=", 6) == 0 && yk_parse_count(word + 6, &n, NULL) == 0 && n > 0)
        s->every = n;
    else if (strncmp(word, "rate=", 5) == 0 && yk_parse_real(word + 5, &p, NULL) == 0 && p > 0 && p <= 1)
        s->rate = p;
    else if (strncmp(word, "ms=", 3) == 0 && yk_parse_count(word + 3, &n, NULL) == 0 && n <= 60000)
        s->delay_ns = n * YK_NS_PER_MS;
    else if (strcmp(word, "scope=request") == 0)
        s->request = 1;
    else if (strcmp(word, "scope=lane") != 0)
        return -YK_EINVAL;
    return 0;
}

static int parse(const char *text, struct spec *ret, struct yk_err *err) {
    char copy[128], *rest = NULL;
    struct spec s = {.delay_ns = 5 * YK_NS_PER_MS};
    if (strlen(text) >= sizeof(copy))
        return yk_err_set(err, -YK_EINVAL, "fault: %zu bytes of text", strlen(text));
    strcpy(copy, text);
    char *colon = strchr(copy, ':');
    int kind = -1;
    if (colon != NULL) {
        *colon = 0;
        (void)yk_parse_enum(copy, kinds, &kind, NULL);
    }
    if (kind < 0)
        return yk_err_set(err, -YK_EINVAL, "fault '%s': expected delay, drop, error or corrupt and ':'",
                          text);
    s.kind = (enum kind)kind;
    for (char *w = strtok_r(colon + 1, ",", &rest); w != NULL; w = strtok_r(NULL, ",", &rest))
        if (take_word(&s, w) < 0)
            return yk_err_set(err, -YK_EINVAL,
                              "fault '%s': expected every=N, rate=P, scope=lane|request or ms=M, found "
                              "'%s'",
                              text, w);
    if ((s.every > 0) == (s.rate > 0))
        return yk_err_set(err, -YK_EINVAL, "fault '%s': expected one of every=N and rate=P", text);
    *ret = s;
    return 0;
}

int yk_fault_check(const char *text, struct yk_err *err) {
    struct spec s;
    return parse(text, &s, err);
}

static int hits(struct fault_xport *f) {
    f->slices++;
    if (f->spec.every > 0)
        return f->slices % f->spec.every == 0;
    f->random ^= f->random << 13;
    f->random ^= f->random >> 7;
    f->random ^= f->random << 17;
    return (double)(f->random >> 11) / 9007199254740992.0 < f->spec.rate;
}

/* ---- kept slices ------------------------------------------------------------------------------------ */

static struct fault_xport *xport_of(const struct fault_lane *l) {
    return (struct fault_xport *)l->lane.xport;
}

static void arm(struct fault_lane *l) {
    uint64_t due = UINT64_MAX;
    for (const struct yk_slice *s = l->first; s != NULL; s = s->next)
        due = s->priv[0] < due ? s->priv[0] : due;
    (void)yk_loop_timer(xport_of(l)->env.loop, &l->timer, due == UINT64_MAX ? 0 : due);
}

static void keep(struct fault_lane *l, struct yk_slice *s, uint64_t due_ns, int fails) {
    s->priv[0] = due_ns;
    s->priv[1] = (uint64_t)fails;
    s->next = NULL;
    s->prev = l->last;
    if (l->last != NULL)
        l->last->next = s;
    else
        l->first = s;
    l->last = s;
    l->kept++;
    arm(l);
}

static void unkeep(struct fault_lane *l, struct yk_slice *s) {
    if (s->prev != NULL)
        s->prev->next = s->next;
    else
        l->first = s->next;
    if (s->next != NULL)
        s->next->prev = s->prev;
    else
        l->last = s->prev;
    l->kept--;
}

static void end_kept(struct fault_lane *l, struct yk_slice *s, int status, enum yk_scope scope) {
    unkeep(l, s);
    s->status = status;
    s->scope = (uint8_t)scope;
    s->touched = 0;
    xport_of(l)->outer->events->slice_done(&l->lane, s);
}

static void kept_due(struct yk_timer *t) {
    struct fault_lane *l = t->user;
    struct fault_xport *f = xport_of(l);
    uint64_t now = yk_now_ns();
    struct yk_slice *s = l->first;
    while (s != NULL && s->priv[0] > now)
        s = s->next;
    if (s == NULL) {
        arm(l);
        return;
    }
    if (!s->priv[1]) {
        unkeep(l, s);
        f->inner->ops->post(l->inner, s);
        if (f->inner->ops->flush != NULL)
            f->inner->ops->flush(l->inner);
    } else if (f->spec.request) {
        end_kept(l, s, -YK_EIO, YK_SCOPE_REQUEST);
    } else { /* with it all others, when the core closes the lane */
        f->outer->events->lane_down(&l->lane, -YK_EIO, YK_SCOPE_LANE, "fault: the lane failed");
        return;
    }
    arm(l);
}

/* ---- events of the inner lanes ------------------------------------------------------------------------ */

static void inner_done(struct yk_lane *lane, struct yk_slice *s) {
    struct fault_lane *l = lane->core;
    for (uint32_t i = 0; i < l->mark_count; i++) {
        if (l->marks[i] != s)
            continue;
        l->marks[i] = l->marks[--l->mark_count];
        if (s->status == 0 && !(s->device & YK_DEVICE_HERE))
            s->local[s->len / 2] = (char)(s->local[s->len / 2] ^ 0x40);
        break;
    }
    xport_of(l)->outer->events->slice_done(&l->lane, s);
}

static void inner_up(struct yk_lane *lane) {
    struct fault_lane *l = lane->core;
    l->lane.trip_ns = lane->trip_ns;
    l->lane.greet_ns = lane->greet_ns;
    l->lane.patient = lane->patient;
    xport_of(l)->outer->events->lane_up(&l->lane);
}

static void inner_down(struct yk_lane *lane, int code, enum yk_scope scope, const char *text) {
    struct fault_lane *l = lane->core;
    xport_of(l)->outer->events->lane_down(&l->lane, code, scope, text);
}

static const struct yk_shard_events inner_events = {
    .slice_done = inner_done, .lane_up = inner_up, .lane_down = inner_down};

/* ---- the table ------------------------------------------------------------------------------------- */

static void fault_close(struct yk_xport *x) {
    struct fault_xport *f = (struct fault_xport *)x;
    f->inner->ops->close(f->inner);
    free(f);
}

static uint32_t fault_rails(struct yk_xport *x, const struct yk_peer_info *peer,
                            struct yk_rail_desc *ret_rails, uint32_t cap) {
    struct fault_xport *f = (struct fault_xport *)x;
    uint32_t n = f->inner->ops->rails(f->inner, peer, ret_rails, cap);
    x->blind = f->inner->blind;
    for (uint32_t i = 0; i < n && f->spec.kind == CORRUPT; i++)
        ret_rails[i].caps |= YK_RAIL_NETWORK; /* its checksums are looked at */
    return n;
}

static int fault_connect(struct yk_xport *x, const struct yk_peer_info *peer,
                         const struct yk_rail_desc *rail, int bulk, struct yk_lane **ret_lane,
                         struct yk_err *err) {
    struct fault_xport *f = (struct fault_xport *)x;
    struct fault_lane *l = calloc(1, sizeof(*l));
    if (l == NULL)
        return yk_err_set(err, -YK_ENOMEM, "fault: no memory for a lane");
    int rc = f->inner->ops->connect(f->inner, peer, rail, bulk, &l->inner, err);
    if (rc < 0) {
        free(l);
        return rc;
    }
    l->inner->core = l;
    l->lane = (struct yk_lane){.ops = &f->ops, .xport = x, .id = l->inner->id, .up = l->inner->up};
    l->timer = (struct yk_timer){.fn = kept_due, .user = l};
    *ret_lane = &l->lane;
    return 0;
}

static void fault_disconnect(struct yk_lane *lane) {
    struct fault_lane *l = (struct fault_lane *)lane;
    (void)yk_loop_timer(xport_of(l)->env.loop, &l->timer, 0);
    while (l->first != NULL)
        end_kept(l, l->first, -YK_EGONE, YK_SCOPE_LANE);
    l->inner->ops->disconnect(l->inner);
    free(l);
}

static uint32_t fault_room(const struct yk_lane *lane) {
    const struct fault_lane *l = (const struct fault_lane *)lane;
    uint32_t room = l->inner->ops->room(l->inner);
    return room > l->kept ? room - l->kept : 0;
}

static void fault_post(struct yk_lane *lane, struct yk_slice *s) {
    struct fault_lane *l = (struct fault_lane *)lane;
    struct fault_xport *f = xport_of(l);
    int data = s->op == YK_SLICE_READ || s->op == YK_SLICE_WRITE;
    int summed = s->op == YK_SLICE_READ && s->guard != NULL && s->guard->has_checksum;
    if (!data || (f->spec.kind == CORRUPT && (!summed || l->mark_count == MARKS)) || !hits(f)) {
        l->inner->ops->post(l->inner, s);
    } else if (f->spec.kind == CORRUPT) {
        l->marks[l->mark_count++] = s;
        l->inner->ops->post(l->inner, s);
    } else if (f->spec.kind == DROP) {
        keep(l, s, UINT64_MAX, 0);
    } else {
        keep(l, s, yk_now_ns() + (f->spec.kind == DELAY ? f->spec.delay_ns : 0), f->spec.kind == ERROR);
    }
}

static void fault_flush(struct yk_lane *lane) {
    struct fault_lane *l = (struct fault_lane *)lane;
    if (l->inner->ops->flush != NULL)
        l->inner->ops->flush(l->inner);
}

static void fault_cancel(struct yk_lane *lane, struct yk_slice *s) {
    struct fault_lane *l = (struct fault_lane *)lane;
    for (struct yk_slice *k = l->first; k != NULL; k = k->next)
        if (k == s) {
            end_kept(l, s, -YK_ECANCELED, YK_SCOPE_REQUEST);
            return;
        }
    if (l->inner->ops->cancel != NULL)
        l->inner->ops->cancel(l->inner, s);
}

static uint64_t fault_moved(struct yk_lane *lane) {
    struct fault_lane *l = (struct fault_lane *)lane;
    return l->inner->ops->moved != NULL ? l->inner->ops->moved(l->inner) : 0;
}

static uint64_t fault_proven(struct yk_lane *lane) {
    struct fault_lane *l = (struct fault_lane *)lane;
    return l->inner->ops->proven != NULL ? l->inner->ops->proven(l->inner) : fault_moved(lane);
}

static uint64_t fault_lost(struct yk_lane *lane) {
    struct fault_lane *l = (struct fault_lane *)lane;
    return l->inner->ops->lost != NULL ? l->inner->ops->lost(l->inner) : 0;
}

static int fault_progress(struct yk_lane *lane, uint64_t bytes) {
    struct fault_lane *l = (struct fault_lane *)lane;
    return l->inner->ops->progress != NULL ? l->inner->ops->progress(l->inner, bytes) : 0;
}

static void fault_look(struct yk_lane *lane) {
    struct fault_lane *l = (struct fault_lane *)lane;
    if (l->inner->ops->look != NULL)
        l->inner->ops->look(l->inner);
}

static void fault_forget(struct yk_xport *x, uint64_t region) {
    struct fault_xport *f = (struct fault_xport *)x;
    if (f->inner->ops->forget != NULL)
        f->inner->ops->forget(f->inner, region);
}

int yk_fault_open(const struct yk_xport_ops *ops, const char *spec, const struct yk_shard_env *env,
                  struct yk_xport **ret_xport, struct yk_err *err) {
    struct fault_xport *f = calloc(1, sizeof(*f));
    if (f == NULL)
        return yk_err_set(err, -YK_ENOMEM, "fault: no memory");
    f->ops = (struct yk_xport_ops){.name = ops->name,
                                   .bit = ops->bit,
                                   .close = fault_close,
                                   .rails = fault_rails,
                                   .connect = fault_connect,
                                   .disconnect = fault_disconnect,
                                   .room = fault_room,
                                   .post = fault_post,
                                   .flush = fault_flush,
                                   .cancel = fault_cancel,
                                   .moved = fault_moved,
                                   .proven = fault_proven,
                                   .lost = fault_lost,
                                   .progress = fault_progress,
                                   .look = fault_look,
                                   .forget = fault_forget};
    f->outer = env;
    f->env = *env;
    f->env.events = &inner_events;
    f->x = (struct yk_xport){.ops = &f->ops, .env = env};
    f->random = 0x9e3779b97f4a7c15ull; /* the same faults in each run */
    int rc = parse(spec, &f->spec, err);
    if (rc == 0)
        rc = ops->open(&f->env, &f->inner, err);
    if (rc < 0) {
        free(f);
        return rc;
    }
    *ret_xport = &f->x;
    return 0;
}
