/* SPDX-License-Identifier: Apache-2.0
 *
 * The shm transport: memory of other processes of this host. Who turns the loop copies, from or to memory
 * that is mapped or by process_vm_readv (xfer/share.h): no message, no other process takes part. What
 * needs the peer (guarded requests, notifications) goes over its unix socket (unix.c), and payload, too,
 * where copies are forbidden.
 *
 * A copy is made in pieces of PIECE_BYTES, so that an urgent slice waits for no more than one.
 *
 * That a peer is on this host is not believed but shown: its table of regions opens through /proc and
 * has its incarnation.
 *
 * Thread: the shard's.
 */
#include "xfer/shm/shm.h"

#include "base/clock.h"
#include "xfer/share.h"
#include "xfer/sock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define PIECE_BYTES (1u << 20)
#define QUEUE_MAX   256u /* slices in a lane */

enum state { CONNECTING, UP, DOWN };

struct shm_lane {
    struct yk_lane lane;
    struct yk_share_peer *peer;
    struct yk_timer timer; /* lane_up, lane_down and ended slices are told from the loop */
    enum state state;
    struct yk_slice *first, **last; /* posted */
    uint64_t done;                  /* bytes of the first that are in place */
    uint32_t count;
    uint64_t moved;
    int gone; /* the peer's process has ended */
    struct yk_err why;
};

static struct shm_lane *lane_of(const struct yk_lane *lane) {
    return (struct shm_lane *)(uintptr_t)(const void *)lane;
}

static int shm_open(const struct yk_shard_env *env, struct yk_xport **ret_xport, struct yk_err *err) {
    struct yk_xport *x = calloc(1, sizeof(*x));
    if (x == NULL)
        return yk_err_set(err, -YK_ENOMEM, "no memory for the shm transport");
    x->ops = &yk_xport_shm;
    x->env = env;
    *ret_xport = x;
    return 0;
}

static void shm_close(struct yk_xport *xport) {
    free(xport);
}

static int shm_reg(struct yk_region *region, struct yk_err *err) {
    return 0; /* the engine shows regions to peers (xfer/share.h) */
}

static void shm_unreg(struct yk_region *region) {
}

/* ---- rails ---------------------------------------------------------------------------------------- */

static uint32_t shm_rails(struct yk_xport *xport, const struct yk_peer_info *peer,
                          struct yk_rail_desc *ret_rails, uint32_t cap) {
    char boot[YK_BOOT_ID_BYTES];
    struct yk_share_peer *p;
    if (peer->share == 0 || cap == 0 || peer->incarnation == xport->env->incarnation ||
        !yk_host_boot_id(boot) || strcmp(boot, peer->boot_id) != 0)
        return 0;
    /* Opened to see whether it can be; each lane opens its own. */
    if (yk_share_open(peer->pid, (int)peer->share - 1, peer->incarnation, &p, NULL) < 0)
        return 0;
    yk_share_close(p);
    *ret_rails = (struct yk_rail_desc){.local = "shm",
                                       .remote = "shm",
                                       .caps = YK_RAIL_READ | YK_RAIL_WRITE | YK_RAIL_COPIES,
                                       .bytes_per_s = 8e9,
                                       .fixed_ns = 500};
    return 1;
}

/* ---- lanes ---------------------------------------------------------------------------------------- */

static void tell_later(struct shm_lane *l) {
    if (l->timer.slot == 0)
        (void)yk_loop_timer(l->lane.xport->env->loop, &l->timer, 1);
}

static void on_timer(struct yk_timer *t) {
    struct shm_lane *l = t->user;
    const struct yk_shard_events *events = l->lane.xport->env->events;
    if (l->state == CONNECTING) {
        l->state = UP;
        events->lane_up(&l->lane);
    } else if (l->state == DOWN) {
        struct yk_err why = l->why;
        events->lane_down(&l->lane, why.code, l->gone ? YK_SCOPE_PEER : YK_SCOPE_LANE, why.text);
    }
}

static int shm_connect(struct yk_xport *xport, const struct yk_peer_info *peer,
                       const struct yk_rail_desc *rail, int bulk, struct yk_lane **ret_lane,
                       struct yk_err *err) {
    struct shm_lane *l = calloc(1, sizeof(*l));
    if (l == NULL)
        return yk_err_set(err, -YK_ENOMEM, "no memory for a lane");
    l->lane = (struct yk_lane){.ops = &yk_xport_shm, .xport = xport};
    l->last = &l->first;
    l->timer = (struct yk_timer){.fn = on_timer, .user = l};
    int rc = 0;
    if (getrandom(&l->lane.id, sizeof(l->lane.id), 0) != (ssize_t)sizeof(l->lane.id))
        rc = yk_err_set(err, -YK_EIO, "no random number for a lane");
    else
        rc = yk_share_open(peer->pid, (int)peer->share - 1, peer->incarnation, &l->peer, err);
    if (rc == 0)
        rc = yk_loop_timer(xport->env->loop, &l->timer, 1);
    if (rc < 0) {
        yk_share_close(l->peer);
        free(l);
        return rc;
    }
    *ret_lane = &l->lane;
    return 0;
}

static void take_first(struct shm_lane *l, int status, enum yk_scope scope) {
    struct yk_slice *s = l->first;
    l->first = s->next;
    if (l->first == NULL)
        l->last = &l->first;
    l->count--;
    l->done = 0;
    s->next = NULL;
    s->status = status;
    s->scope = (uint8_t)scope;
    s->touched = 0; /* when it ends nothing of it is under way */
    l->lane.xport->env->events->slice_done(&l->lane, s);
}

static void shm_disconnect(struct yk_lane *lane) {
    struct shm_lane *l = lane_of(lane);
    (void)yk_loop_timer(lane->xport->env->loop, &l->timer, 0);
    l->state = DOWN;
    while (l->first != NULL)
        take_first(l, l->why.code != 0 ? l->why.code : -YK_EGONE, YK_SCOPE_LANE);
    yk_share_close(l->peer);
    free(l);
}

static uint32_t shm_room(const struct yk_lane *lane) {
    const struct shm_lane *l = lane_of(lane);
    return l->state == UP ? QUEUE_MAX - l->count : 0;
}

static void shm_post(struct yk_lane *lane, struct yk_slice *slice) {
    struct shm_lane *l = lane_of(lane);
    slice->next = NULL;
    *l->last = slice;
    l->last = &slice->next;
    l->count++;
}

static void shm_flush(struct yk_lane *lane) {
}

static void shm_cancel(struct yk_lane *lane, struct yk_slice *slice) {
    struct shm_lane *l = lane_of(lane);
    struct yk_slice **at = &l->first;
    while (*at != NULL && *at != slice)
        at = &(*at)->next;
    if (*at == NULL)
        return;
    if (at == &l->first) {
        take_first(l, -YK_ECANCELED, YK_SCOPE_REQUEST);
        return;
    }
    *at = slice->next;
    if (slice->next == NULL)
        l->last = at;
    l->count--;
    slice->next = NULL;
    slice->status = -YK_ECANCELED;
    slice->scope = YK_SCOPE_REQUEST;
    slice->touched = 0;
    lane->xport->env->events->slice_done(lane, slice);
}

static uint64_t shm_moved(struct yk_lane *lane) {
    return lane_of(lane)->moved;
}

static void shm_look(struct yk_lane *lane) {
}

/* One piece. 1: go on; 0: the lane has nothing to do, or is down. */
static int copy_piece(struct shm_lane *l, uint64_t *ret_bytes) {
    struct yk_slice *s = l->first;
    if (s == NULL || l->state != UP)
        return 0;
    if (s->device) { /* no processor may touch it */
        *ret_bytes = 0;
        take_first(l, -YK_ENOTSUP, YK_SCOPE_REQUEST);
        return 1;
    }
    uint64_t len = s->len - l->done < PIECE_BYTES ? s->len - l->done : PIECE_BYTES;
    int rc = s->op == YK_SLICE_READ || s->op == YK_SLICE_WRITE
                 ? yk_share_copy(l->peer, s->region, s->offset + l->done, s->local + l->done, len,
                                 s->op == YK_SLICE_WRITE, NULL)
                 : -YK_ENOTSUP;
    if (rc == -YK_EGONE && yk_share_gone(l->peer)) {
        yk_err_set(&l->why, rc, "the peer's process has ended");
        l->gone = 1;
        l->state = DOWN;
        tell_later(l);
        return 0;
    }
    if (rc == -YK_EIO || rc == -YK_ENOTSUP) {
        /* It cannot be reached in this way; over another rail it may. */
        yk_err_set(&l->why, rc, rc == -YK_ENOTSUP ? "copying from that process is not permitted"
                                             : "the peer's memory cannot be read or written");
        l->state = DOWN;
        tell_later(l);
        return 0;
    }
    *ret_bytes = len;
    l->moved += len;
    l->done += len;
    if (rc < 0)
        take_first(l, rc, YK_SCOPE_REQUEST);
    else if (l->done == s->len)
        take_first(l, 0, YK_SCOPE_NONE);
    return 1;
}

static int shm_progress(struct yk_lane *lane, uint64_t bytes) {
    struct shm_lane *l = lane_of(lane);
    uint64_t done = 0, one = 0;
    while (done < bytes && copy_piece(l, &one))
        done += one;
    return l->state == UP && l->first != NULL;
}

const struct yk_xport_ops yk_xport_shm = {
    .name = "shm",
    .bit = YK_XFER_SHM,
    .open = shm_open,
    .close = shm_close,
    .reg = shm_reg,
    .unreg = shm_unreg,
    .rails = shm_rails,
    .connect = shm_connect,
    .disconnect = shm_disconnect,
    .room = shm_room,
    .post = shm_post,
    .flush = shm_flush,
    .cancel = shm_cancel,
    .moved = shm_moved,
    .progress = shm_progress,
    .look = shm_look,
};
