/* SPDX-License-Identifier: Apache-2.0
 *
 * See fake.h. A rail serves its lanes' slices one after another: each is due when the rail is free and
 * has moved its bytes. A timer ends those that are due.
 */
#include "fake.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define ROOM 16u

struct fake fake;

struct dirt { /* memory that a dead lane may still write to */
    uint64_t lane, offset, len;
};
static struct dirt dirt[1024];
static uint32_t dirt_count;

struct fake_lane {
    struct yk_lane lane;
    uint32_t rail;
    int bulk;
    struct yk_list slices; /* by priv: 0, 1 the node; 2 when it is due, 3 cancelled */
    uint32_t count;
    uint64_t moved, proven;
    int up;
    struct yk_timer timer;
};

static struct yk_list *node_of(struct yk_slice *s) {
    return (struct yk_list *)(void *)s->priv;
}

static struct yk_slice *slice_of(struct yk_list *node) {
    return yk_list_of(node, struct yk_slice, priv);
}

static int make(const struct yk_xport_ops *ops, const struct yk_shard_env *env, struct yk_xport **ret_xport,
                struct yk_err *err) {
    struct yk_xport *x = calloc(1, sizeof(*x));
    if (x == NULL)
        return yk_err_set(err, -YK_ENOMEM, "fake: no memory");
    *x = (struct yk_xport){.ops = ops, .env = env};
    *ret_xport = x;
    return 0;
}

static int fake_open(const struct yk_shard_env *env, struct yk_xport **ret_xport, struct yk_err *err) {
    return make(fake_xports[0], env, ret_xport, err);
}

static int other_open(const struct yk_shard_env *env, struct yk_xport **ret_xport, struct yk_err *err) {
    return make(fake_xports[1], env, ret_xport, err);
}

static void fake_close(struct yk_xport *x) {
    free(x);
}

static uint32_t fake_rails(struct yk_xport *x, const struct yk_peer_info *peer,
                           struct yk_rail_desc *ret, uint32_t cap) {
    uint32_t first = x->ops == fake_xports[0] ? 0 : 1, n = 0;
    uint32_t end = first == 1 ? fake.split * fake.rail_count : fake.split ? 1 : fake.rail_count;
    (void)peer;
    __atomic_fetch_add(&fake.looks, 1, __ATOMIC_RELEASE);
    for (uint32_t i = first; i < end && n < cap; i++) {
        if (__atomic_load_n(&fake.rail[i].hidden, __ATOMIC_ACQUIRE))
            continue;
        ret[n++] = (struct yk_rail_desc){.caps = (YK_RAIL_READ | YK_RAIL_WRITE | YK_RAIL_NOTIFY) & ~fake.rail[i].lacks,
                                       .port = (uint16_t)i,
                                       .distance = fake.rail[i].distance,
                                       .connect_ms = fake.rail[i].connect_ms,
                                       .bytes_per_s = 1e9,
                                       .fixed_ns = 20000};
    }
    return n;
}

static void end(struct fake_lane *l, struct yk_slice *s, int status, enum yk_scope scope) {
    yk_list_remove(node_of(s));
    l->count--;
    s->status = status;
    s->scope = (uint8_t)scope;
    l->lane.xport->env->events->slice_done(&l->lane, s);
}

static void arm(struct fake_lane *l) {
    uint64_t due = UINT64_MAX;
    for (struct yk_list *at = l->slices.next; at != &l->slices; at = at->next)
        due = slice_of(at)->priv[2] < due ? slice_of(at)->priv[2] : due;
    (void)yk_loop_timer(l->lane.xport->env->loop, &l->timer, due == UINT64_MAX ? 0 : due);
}

static int overlaps(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len) {
    return a < b + b_len && b < a + a_len;
}

static void close_at_target(uint64_t lane) {
    for (uint32_t i = 0; i < dirt_count;)
        if (dirt[i].lane == lane)
            dirt[i] = dirt[--dirt_count];
        else
            i++;
}

static void carry_out(struct fake_lane *l, struct yk_slice *s) {
    struct fake_rail *r = &fake.rail[l->rail];
    if (s->op == YK_SLICE_FENCE) {
        close_at_target(s->offset);
    } else if (s->op == YK_SLICE_READ) {
        memcpy(s->local, fake.memory + s->offset, s->len);
    } else if (s->op == YK_SLICE_WRITE) {
        for (uint32_t i = 0; i < dirt_count; i++)
            fake.overwrites += overlaps(dirt[i].offset, dirt[i].len, s->offset, s->len);
        memcpy(fake.memory + s->offset, s->local, s->len);
    }
    s->aside = s->len <= r->aside_max;
    l->moved += s->len + 1;
    l->proven += s->aside ? 0 : s->len + 1;
    __atomic_fetch_add(&r->bytes, s->len, __ATOMIC_RELAXED);
    __atomic_fetch_add(&r->slices, 1, __ATOMIC_RELEASE);
}

static int is_silent(const struct fake_lane *l) {
    const struct fake_rail *r = &fake.rail[l->rail];
    return __atomic_load_n(&r->silent, __ATOMIC_ACQUIRE) ||
           l->lane.id == __atomic_load_n(&r->deaf, __ATOMIC_ACQUIRE) ||
           l->lane.id <= __atomic_load_n(&r->forgot, __ATOMIC_ACQUIRE);
}

static void due(struct yk_timer *t) {
    struct fake_lane *l = t->user;
    struct fake_rail *r = &fake.rail[l->rail];
    const struct yk_shard_events *ev = l->lane.xport->env->events;
    uint64_t now = yk_now_ns();
    if (!l->up) {
        if (is_silent(l))
            return; /* no answer to the connection */
        if (__atomic_load_n(&r->restarted, __ATOMIC_ACQUIRE)) {
            ev->lane_down(&l->lane, -YK_EGONE, YK_SCOPE_RAIL, "fake: another incarnation");
            return;
        }
        if (__atomic_load_n(&r->meagre, __ATOMIC_ACQUIRE)) {
            ev->lane_down(&l->lane, r->refusal < 0 ? r->refusal : -YK_ELIMIT, YK_SCOPE_LANE, "fake: no queue pair");
            return;
        }
        l->up = 1;
        l->lane.trip_ns = r->path_ns;
        l->lane.greet_ns = r->greet_ns;
        l->lane.patient = (int)r->patient;
        ev->lane_up(&l->lane);
        return;
    }
    uint32_t vain = __atomic_load_n(&r->vain, __ATOMIC_ACQUIRE);
    if (is_silent(l) || (vain && r->aside_max == 0)) { /* looks again later */
        (void)yk_loop_timer(l->lane.xport->env->loop, t, now + 2 * YK_NS_PER_MS);
        return;
    }
    struct yk_list *next;
    for (struct yk_list *at = l->slices.next; at != &l->slices; at = next) {
        struct yk_slice *s = slice_of(at);
        next = at->next;
        if (s->priv[2] > now)
            break;
        if (vain && s->len > r->aside_max)
            continue;
        uint32_t left = __atomic_load_n(&r->fail_at, __ATOMIC_ACQUIRE);
        if (left > 0 && s->op != YK_SLICE_FENCE) {
            __atomic_store_n(&r->fail_at, left - 1, __ATOMIC_RELEASE);
            if (left == 1) {
                ev->lane_down(&l->lane, -YK_EIO, YK_SCOPE_LANE, "fake: failed");
                return;
            }
        }
        carry_out(l, s);
        end(l, s, s->priv[3] ? -YK_ECANCELED : 0, s->priv[3] ? YK_SCOPE_REQUEST : YK_SCOPE_NONE);
        next = l->slices.next;
    }
    if (vain && !yk_list_empty(&l->slices))
        (void)yk_loop_timer(l->lane.xport->env->loop, t, now + 2 * YK_NS_PER_MS);
    else
        arm(l);
}

static int fake_connect(struct yk_xport *x, const struct yk_peer_info *peer,
                        const struct yk_rail_desc *rail, int bulk, struct yk_lane **ret_lane,
                        struct yk_err *err) {
    struct fake_rail *r = &fake.rail[rail->port];
    (void)peer;
    __atomic_fetch_add(&r->connects, 1, __ATOMIC_RELEASE);
    __atomic_fetch_add(&r->urgent, !bulk, __ATOMIC_RELEASE);
    if (__atomic_load_n(&r->poor, __ATOMIC_ACQUIRE))
        return yk_err_set(err, -YK_ELIMIT, "fake: no descriptor");
    if (r->refuse > 0) {
        __atomic_fetch_sub(&r->refuse, 1, __ATOMIC_RELEASE);
        return yk_err_set(err, -YK_EGONE, "fake: refused");
    }
    struct fake_lane *l = calloc(1, sizeof(*l));
    if (l == NULL)
        return yk_err_set(err, -YK_ENOMEM, "fake: no memory");
    l->lane = (struct yk_lane){.ops = x->ops, .xport = x};
    l->lane.id = __atomic_add_fetch(&fake.lanes, 1, __ATOMIC_RELEASE);
    l->rail = rail->port;
    l->bulk = bulk;
    yk_list_init(&l->slices);
    l->timer = (struct yk_timer){.fn = due, .user = l};
    uint32_t mute = __atomic_load_n(&r->mute, __ATOMIC_ACQUIRE);
    __atomic_store_n(&r->mute, mute > 0 ? mute - 1 : 0, __ATOMIC_RELEASE);
    (void)yk_loop_timer(x->env->loop, &l->timer, mute > 0 ? 0 : yk_now_ns() + r->connect_ns + 1);
    *ret_lane = &l->lane;
    return 0;
}

/* Writes that were with it may yet arrive at the target. */
static void fake_disconnect(struct yk_lane *lane) {
    struct fake_lane *l = (struct fake_lane *)lane;
    __atomic_fetch_add(&fake.rail[l->rail].downs, 1, __ATOMIC_RELEASE);
    while (!yk_list_empty(&l->slices)) {
        struct yk_slice *s = slice_of(l->slices.next);
        if (s->op == YK_SLICE_WRITE && dirt_count < 1024) {
            s->touched = 1;
            dirt[dirt_count++] = (struct dirt){lane->id, s->offset, s->len};
        }
        end(l, s, -YK_EGONE, YK_SCOPE_LANE);
    }
    (void)yk_loop_timer(lane->xport->env->loop, &l->timer, 0);
    free(l);
}

static uint32_t fake_room(const struct yk_lane *lane) {
    return ROOM - ((const struct fake_lane *)lane)->count;
}

static void fake_post_slice(struct yk_lane *lane, struct yk_slice *s) {
    struct fake_lane *l = (struct fake_lane *)lane;
    struct fake_rail *r = &fake.rail[l->rail];
    uint64_t now = yk_now_ns();
    fake.fences += s->op == YK_SLICE_FENCE;
    l->moved += s->op == YK_SLICE_PING && __atomic_load_n(&r->acks, __ATOMIC_ACQUIRE);
    /* The urgent lane and the others share the rail, as connections do. */
    uint64_t *free_at = l->bulk ? &r->free_at_ns : &r->urgent_free_at_ns;
    uint64_t other = l->bulk ? r->urgent_free_at_ns : r->free_at_ns;
    double share = other > now ? 2 : 1;
    uint64_t ns = (uint64_t)((double)s->len / r->bytes_per_s * share * 1e9) + 1000;
    uint64_t from = *free_at > now ? *free_at : now;
    *free_at = from + ns;
    yk_list_init(node_of(s));
    yk_list_add(&l->slices, node_of(s));
    s->priv[2] = from + ns;
    if (fake.log_count < FAKE_LOG)
        fake.log[fake.log_count++] = (struct fake_post){.rail = (uint8_t)l->rail,
                                                        .op = s->op,
                                                        .xclass = s->xclass,
                                                        .bulk = (uint8_t)l->bulk,
                                                        .len = s->len,
                                                        .offset = s->offset,
                                                        .at_ns = now,
                                                        .due_ns = from + ns};
    s->priv[3] = 0;
    l->count++;
    arm(l);
}

static void fake_cancel(struct yk_lane *lane, struct yk_slice *s) {
    struct fake_lane *l = (struct fake_lane *)lane;
    if (fake.keeps_on)
        return;
    if (s->op == YK_SLICE_READ)
        end(l, s, -YK_ECANCELED, YK_SCOPE_REQUEST);
    else
        s->priv[3] = 1; /* a write that was begun goes on to its end */
}

static uint64_t fake_moved(struct yk_lane *lane) {
    return ((struct fake_lane *)lane)->moved;
}

static uint64_t fake_proven(struct yk_lane *lane) {
    return ((struct fake_lane *)lane)->proven;
}

static uint64_t fake_lost(struct yk_lane *lane) {
    const struct fake_rail *r = &fake.rail[((struct fake_lane *)lane)->rail];
    return (uint64_t)r->loses * r->slices;
}

static int fake_reg(struct yk_region *region, struct yk_err *err) {
    (void)err;
    region->keys[0] = region;
    return 0;
}

static void fake_unreg(struct yk_region *region) {
    fake.torn += __atomic_load_n(&region->refs, __ATOMIC_RELAXED) != 0;
    region->keys[0] = NULL;
}

static int fake_unready(struct yk_region *region, int last) {
    fake.torn += __atomic_load_n(&region->refs, __ATOMIC_RELAXED) != 0;
    return __atomic_load_n(&fake.pins, __ATOMIC_ACQUIRE) && !last ? -YK_EAGAIN : 0;
}

#define OPS(name_, open_)                                                                          \
    {                                                                                              \
        .name = (name_), .bit = YK_XFER_TCP, .open = (open_), .close = fake_close,                 \
        .rails = fake_rails, .connect = fake_connect, .disconnect = fake_disconnect,               \
        .room = fake_room, .post = fake_post_slice, .cancel = fake_cancel, .moved = fake_moved,    \
        .proven = fake_proven, .lost = fake_lost, .reg = fake_reg, .unreg = fake_unreg,            \
        .unready = fake_unready                                                                    \
    }
static const struct yk_xport_ops ops = OPS("fake", fake_open), other_ops = OPS("other", other_open);
const struct yk_xport_ops *const fake_xports[] = {&ops, &other_ops, NULL};

/* ---- the rig ---------------------------------------------------------------------------------------- */

void fake_begin(struct fake_rig *rig, uint32_t rails, double bytes_per_s, uint64_t bytes,
                const yk_xfer_opts *opts) {
    struct yk_err err = {.code = 0};
    struct yk_peer_info info = {.incarnation = 4711};
    struct yk_seg seg = {.region = 1, .len = bytes, .access = YK_XFER_REMOTE_READ | YK_XFER_REMOTE_WRITE};
    memset(&fake, 0, sizeof(fake));
    dirt_count = 0;
    fake.rail_count = rails;
    fake.bytes = bytes;
    fake.memory = calloc(1, bytes);
    rig->local = calloc(1, bytes);
    assert_non_null(fake.memory);
    assert_non_null(rig->local);
    for (uint32_t i = 0; i < rails; i++)
        fake.rail[i].bytes_per_s = bytes_per_s;
    assert_int_equal(yk_engine_create(opts, fake_xports, &rig->engine, &err), 0);
    yk_xfer_memory m = {.addr = rig->local, .length = bytes, .fd = -1};
    assert_int_equal(yk_xfer_register(rig->engine, &m, 1), 0);
    assert_int_equal(yk_engine_peer(rig->engine, &info, 0, &seg.peer, &err), 0);
    assert_int_equal(yk_engine_segment(rig->engine, &seg, 0, &rig->segment, &err), 0);
    yk_peer_put(seg.peer);
}

void fake_end(struct fake_rig *rig) {
    yk_xfer_destroy(rig->engine);
    assert_int_equal(fake.overwrites, 0);
    assert_int_equal(fake.torn, 0);
    free(rig->local);
    free(fake.memory);
    fake.memory = NULL;
}

yk_xfer_request fake_request(const struct fake_rig *rig, uint32_t op, uint64_t offset, uint64_t len) {
    return (yk_xfer_request){.op = op,
                             .local = rig->local + offset,
                             .segment = rig->segment,
                             .offset = offset,
                             .length = len};
}

void fake_wait(const uint32_t *counter, uint32_t at_least) {
    uint64_t end_ns = yk_now_ns() + 10 * YK_NS_PER_S;
    while (__atomic_load_n(counter, __ATOMIC_ACQUIRE) < at_least && yk_now_ns() < end_ns)
        (void)poll(NULL, 0, 1);
    assert_true(__atomic_load_n(counter, __ATOMIC_ACQUIRE) >= at_least);
}
