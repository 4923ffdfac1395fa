/* SPDX-License-Identifier: Apache-2.0
 *
 * See cm.h. iWARP stands on TCP: its queue pairs get a connection, and their state with it, from the kernel's
 * connection manager alone. librdmacm is loaded when the first iWARP port is looked at, and stays, as libibverbs does.
 *
 * Its events are a descriptor in the loop, one channel for each connection. Two of its calls may wait, and no loop does:
 * dialling (siw connects its socket within the call) has a thread of its own, and so has the end of a connection that
 * is half made, for which the kernel waits until the other side, or a time-out of its driver, has ended that step. The
 * queue pair goes with it, since the kernel holds that meanwhile: nothing was read over it.
 *
 * Each awaited connection has a port of its own, which is closed as soon as it is taken: one port for all lanes was
 * rejected, since its requests belong to loops of several threads. Who comes without the token is refused.
 *
 * Queue pairs are made by qp.c with a context of its own, not by librdmacm: the kernel goes by their number, and moves
 * them to their states by itself.
 *
 * Thread: the loop's; a call's thread has nothing of it but what it was given, and `call`.
 */
#include "cm.h"

#include "rdma_priv.h"

#include "base/clock.h"
#include "xfer/sock.h"

#include <dlfcn.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <rdma/rdma_cma.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define LIBRARY     "librdmacm.so.1"
#define STEP_MS     10000 /* of finding the way */
#define TRY_MS      500   /* of one try at the address: the kernel may miss an answer that is quicker than its question, and
                             looks again when this is over */
#define CONNECT_MS  30000 /* of the connection; who dialled the lane gives up earlier (connect_ms) */
#define PENDING_MAX 64u   /* of the process, not up or not gone: each may come to have a thread */
#define BACKLOG     8
#define REFUSED_MAX 64u   /* strangers at one port, and it is closed */

/* ---- the library ------------------------------------------------------------------------------------ */

static struct {
    struct rdma_event_channel *(*create_event_channel)(void);
    void (*destroy_event_channel)(struct rdma_event_channel *channel);
    int (*create_id)(struct rdma_event_channel *channel, struct rdma_cm_id **id, void *context,
                     enum rdma_port_space ps);
    int (*destroy_id)(struct rdma_cm_id *id);
    int (*bind_addr)(struct rdma_cm_id *id, struct sockaddr *addr);
    int (*set_option)(struct rdma_cm_id *id, int level, int name, void *value, size_t len);
    int (*listen)(struct rdma_cm_id *id, int backlog);
    __be16 (*get_src_port)(struct rdma_cm_id *id);
    int (*resolve_addr)(struct rdma_cm_id *id, struct sockaddr *from, struct sockaddr *to, int timeout_ms);
    int (*resolve_route)(struct rdma_cm_id *id, int timeout_ms);
    int (*connect)(struct rdma_cm_id *id, struct rdma_conn_param *param);
    int (*accept)(struct rdma_cm_id *id, struct rdma_conn_param *param);
    int (*reject)(struct rdma_cm_id *id, const void *data, uint8_t len);
    int (*get_cm_event)(struct rdma_event_channel *channel, struct rdma_cm_event **event);
    int (*ack_cm_event)(struct rdma_cm_event *event);
    const char *(*event_str)(enum rdma_cm_event_type event);
} lib;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static char why[200]; /* "" = it is loaded */
static uint32_t pending; /* connections; atomic: a count, which orders nothing */

/* Its parent's connections, and the threads that would end them, are not there. */
static void in_child(void) {
    pending = 0;
}

static void load(void) {
    const struct {
        const char *name;
        void *to;
    } symbols[] = {
        {"rdma_create_event_channel", &lib.create_event_channel},
        {"rdma_destroy_event_channel", &lib.destroy_event_channel},
        {"rdma_create_id", &lib.create_id},
        {"rdma_destroy_id", &lib.destroy_id},
        {"rdma_bind_addr", &lib.bind_addr},
        {"rdma_set_option", &lib.set_option},
        {"rdma_listen", &lib.listen},
        {"rdma_get_src_port", &lib.get_src_port},
        {"rdma_resolve_addr", &lib.resolve_addr},
        {"rdma_resolve_route", &lib.resolve_route},
        {"rdma_connect", &lib.connect},
        {"rdma_accept", &lib.accept},
        {"rdma_reject", &lib.reject},
        {"rdma_get_cm_event", &lib.get_cm_event},
        {"rdma_ack_cm_event", &lib.ack_cm_event},
        {"rdma_event_str", &lib.event_str},
    };
    (void)pthread_atfork(NULL, NULL, in_child);
    void *so = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (so == NULL) {
        snprintf(why, sizeof(why), "%s", dlerror());
        return;
    }
    for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
        void *found = dlsym(so, symbols[i].name);
        if (found == NULL) {
            snprintf(why, sizeof(why), LIBRARY " has no %s", symbols[i].name);
            return;
        }
        memcpy(symbols[i].to, &found, sizeof(found));
    }
}

int yk_cm_there(void) {
    pthread_once(&once, load);
    return why[0] == 0;
}

/* ---- one connection --------------------------------------------------------------------------------- */

enum state { RESOLVING, ROUTING, DIALLING, LISTENING, ACCEPTED, UP, FAILED };

enum call { NO_CALL, RUNNING, RETURNED, ABANDONED };

struct yk_cm {
    struct yk_loop *loop;
    const struct yk_cm_events *events;
    void *user;
    struct rdma_event_channel *channel;
    struct rdma_cm_id *id;       /* NULL while it is LISTENING */
    struct rdma_cm_id *listener; /* NULL: it dials, or has been taken */
    struct yk_watch watch;       /* the channel's */
    struct yk_watch returned;    /* that the call has returned; fd -1: none */
    struct yk_timer timer;       /* the step's deadline; FAILED: it is to be told */
    uint8_t state;               /* enum state */
    uint8_t counted, told;
    uint8_t halfway;             /* a step is under way whose end its own would wait for */
    uint8_t call;                /* atomic, enum call: who comes second of the thread and yk_cm_end clears up */
    int call_errno;              /* of the call; written before `returned` is, read behind it */
    uint32_t refused, tries;
    struct yk_sockaddr from, to; /* who dials, who is dialled */
    uint32_t qpn;
    uint8_t answers, asks, traffic_class;
    uint8_t token[YK_CM_TOKEN];
    unsigned char greeting[YK_CALL_BYTES];
    int code;
    char text[YK_ERR_TEXT_MAX];
    char device[64];
    void (*then)(void *user);
    void *then_user;
};

static int count_in(struct yk_cm *cm, struct yk_err *err) {
    if (__atomic_fetch_add(&pending, 1, __ATOMIC_RELAXED) >= PENDING_MAX) {
        __atomic_fetch_sub(&pending, 1, __ATOMIC_RELAXED);
        return yk_err_set(err, -YK_ELIMIT, "%u iWARP connections are being made", PENDING_MAX);
    }
    cm->counted = 1;
    return 0;
}

static void count_out(struct yk_cm *cm) {
    if (cm->counted)
        __atomic_fetch_sub(&pending, 1, __ATOMIC_RELAXED);
    cm->counted = 0;
}

static void deadline(struct yk_cm *cm, uint32_t ms) {
    (void)yk_loop_timer(cm->loop, &cm->timer, ms == 0 ? 0 : yk_now_ns() + ms * YK_NS_PER_MS);
}

/* Told from the loop's next turn: who called may be in the middle of something. */
static void fail(struct yk_cm *cm, int code, const char *what, const char *more) {
    if (cm->state == FAILED)
        return;
    cm->state = FAILED;
    cm->code = code;
    snprintf(cm->text, sizeof(cm->text), "%s: %s%s%s", cm->device, what, more[0] != 0 ? ": " : "", more);
    (void)yk_loop_timer(cm->loop, &cm->timer, 1);
}

static void fail_errno(struct yk_cm *cm, const char *what, int e) {
    fail(cm, e == ETIMEDOUT ? -YK_ETIMEDOUT : -YK_EIO, what, strerror(e));
}

static void on_timer(struct yk_timer *t) {
    struct yk_cm *cm = t->user;
    static const char *const late[] = {
        [RESOLVING] = "the peer's address is not found", [ROUTING] = "no way to the peer is found",
        [DIALLING] = "the peer does not answer",         [LISTENING] = "the peer does not connect",
        [ACCEPTED] = "the peer does not connect"};
    if (cm->state < UP)
        fail(cm, -YK_ETIMEDOUT, late[cm->state], "");
    (void)yk_loop_timer(cm->loop, &cm->timer, 0);
    if (cm->state == FAILED && !cm->told) {
        cm->told = 1;
        cm->events->failed(cm->user, cm->code, cm->text);
    }
}

static struct rdma_conn_param params(const struct yk_cm *cm) {
    return (struct rdma_conn_param){.responder_resources = cm->answers, .initiator_depth = cm->asks,
                                    .qp_num = cm->qpn};
}

/* ---- the end ---------------------------------------------------------------------------------------- */

static void bury(struct yk_cm *cm) {
    if (cm->id != NULL)
        lib.destroy_id(cm->id);
    if (cm->listener != NULL)
        lib.destroy_id(cm->listener);
    if (cm->channel != NULL)
        lib.destroy_event_channel(cm->channel);
    if (cm->returned.fd >= 0)
        close(cm->returned.fd);
    count_out(cm);
    if (cm->then != NULL)
        cm->then(cm->then_user);
    free(cm);
}

static void *bury_main(void *arg) {
    bury(arg);
    return NULL;
}

static int start(void *(*run)(void *), struct yk_cm *cm) {
    pthread_attr_t attr;
    pthread_t thread;
    sigset_t all, old;
    sigfillset(&all);
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    int rc = pthread_create(&thread, &attr, run, cm);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    return rc;
}

void yk_cm_end(struct yk_cm *cm, void (*then)(void *user), void *user) {
    if (cm == NULL)
        return;
    (void)yk_loop_timer(cm->loop, &cm->timer, 0);
    yk_loop_unwatch(cm->loop, &cm->watch);
    if (cm->returned.fd >= 0)
        yk_loop_unwatch(cm->loop, &cm->returned);
    cm->then = then;
    cm->then_user = user;
    /* Pairs with the exchange in call_main: who is second sees all of what the first did. */
    if (cm->returned.fd >= 0 && __atomic_exchange_n(&cm->call, ABANDONED, __ATOMIC_ACQ_REL) == RUNNING)
        return; /* its thread has it from here on */
    if (!cm->halfway || start(bury_main, cm) != 0)
        bury(cm);
}

/* ---- dialling --------------------------------------------------------------------------------------- */

static void *call_main(void *arg) {
    struct yk_cm *cm = arg;
    struct rdma_conn_param param = params(cm);
    param.private_data = cm->greeting;
    param.private_data_len = sizeof(cm->greeting);
    int e = lib.connect(cm->id, &param) == 0 ? 0 : errno;
    __atomic_store_n(&cm->call_errno, e, __ATOMIC_RELEASE); /* pairs with on_returned */
    (void)eventfd_write(cm->returned.fd, 1);
    if (__atomic_exchange_n(&cm->call, RETURNED, __ATOMIC_ACQ_REL) == ABANDONED)
        bury(cm);
    return NULL;
}

static void on_returned(struct yk_watch *w, uint32_t events) {
    struct yk_cm *cm = w->user;
    eventfd_t n;
    (void)events;
    if (eventfd_read(w->fd, &n) < 0)
        return;
    yk_loop_rewatch(cm->loop, w, 0);
    int e = __atomic_load_n(&cm->call_errno, __ATOMIC_ACQUIRE);
    if (e == 0)
        return; /* an event says the rest */
    cm->halfway = 0;
    fail_errno(cm, "the peer's queue pair cannot be connected", e);
}

static void call(struct yk_cm *cm) {
    cm->returned.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (cm->returned.fd < 0 || yk_loop_watch(cm->loop, &cm->returned) < 0) {
        fail(cm, -YK_ELIMIT, "no descriptor to dial with", "");
        if (cm->returned.fd >= 0)
            close(cm->returned.fd);
        cm->returned.fd = -1;
        return;
    }
    yk_rdma_call_encode(cm->greeting, cm->token);
    cm->state = DIALLING;
    cm->halfway = 1;
    __atomic_store_n(&cm->call, RUNNING, __ATOMIC_RELAXED); /* its thread does not run yet */
    deadline(cm, CONNECT_MS);
    if (start(call_main, cm) != 0) {
        __atomic_store_n(&cm->call, RETURNED, __ATOMIC_RELAXED);
        cm->halfway = 0;
        fail(cm, -YK_ELIMIT, "no thread to dial with", "");
    }
}

static int resolve(struct yk_cm *cm) {
    cm->tries++;
    return lib.resolve_addr(cm->id, &cm->from.u.any, &cm->to.u.any, TRY_MS);
}

/* ---- events ----------------------------------------------------------------------------------------- */

/* What is of interest in one; it is given back before anything is made of it, since its id may be destroyed. */
struct said {
    enum rdma_cm_event_type type;
    int status;
    struct rdma_cm_id *id;
    int known; /* it brought the token */
};

static void refuse(struct yk_cm *cm, struct rdma_cm_id *stranger) {
    (void)lib.reject(stranger, NULL, 0);
    lib.destroy_id(stranger);
    if (++cm->refused == REFUSED_MAX && cm->state == LISTENING)
        fail(cm, -YK_EPROTO, "strangers come in the peer's place", "");
}

static void take(struct yk_cm *cm, const struct said *said) {
    if (!said->known || cm->state != LISTENING) {
        refuse(cm, said->id);
        return;
    }
    struct rdma_conn_param param = params(cm);
    cm->id = said->id;
    cm->state = ACCEPTED;
    cm->halfway = 1;
    deadline(cm, CONNECT_MS);
    if (lib.accept(cm->id, &param) != 0) {
        cm->halfway = 0;
        fail_errno(cm, "the peer's queue pair cannot be accepted", errno);
    }
    lib.destroy_id(cm->listener); /* nobody else is to come */
    cm->listener = NULL;
}

static void established(struct yk_cm *cm) {
    cm->halfway = 0;
    if (cm->state != DIALLING && cm->state != ACCEPTED)
        return;
    cm->state = UP;
    count_out(cm);
    deadline(cm, 0);
    cm->events->up(cm->user);
}

static void handle(struct yk_cm *cm, const struct said *said) {
    switch (said->type) {
    case RDMA_CM_EVENT_CONNECT_REQUEST:
        take(cm, said);
        break;
    case RDMA_CM_EVENT_ADDR_RESOLVED:
        if (cm->state != RESOLVING)
            break;
        if (cm->id->verbs == NULL || strcmp(cm->id->verbs->device->name, cm->device) != 0) {
            fail(cm, -YK_EIO, "the way to the peer goes over another device", "");
            break;
        }
        cm->state = ROUTING;
        deadline(cm, STEP_MS);
        if (lib.resolve_route(cm->id, STEP_MS) != 0)
            fail_errno(cm, "no way to the peer is found", errno);
        break;
    case RDMA_CM_EVENT_ADDR_ERROR:
        if (cm->state == RESOLVING && (cm->tries >= STEP_MS / TRY_MS || resolve(cm) != 0))
            fail(cm, -YK_ETIMEDOUT, "the peer's address is not found", "");
        break;
    case RDMA_CM_EVENT_ROUTE_RESOLVED:
        if (cm->state == ROUTING)
            call(cm);
        break;
    case RDMA_CM_EVENT_ESTABLISHED:
        established(cm);
        break;
    case RDMA_CM_EVENT_DISCONNECTED:
        cm->halfway = 0;
        fail(cm, -YK_EGONE, "the peer has closed its queue pair", "");
        break;
    case RDMA_CM_EVENT_TIMEWAIT_EXIT:
        break;
    default: /* REJECTED, UNREACHABLE, an error of a step, the device is gone */
        cm->halfway = 0;
        fail(cm, said->status == -ETIMEDOUT ? -YK_ETIMEDOUT : -YK_EIO, "the peer's queue pair is not connected",
             lib.event_str(said->type));
    }
}

static int next_event(struct yk_cm *cm, struct said *ret_said) {
    struct rdma_cm_event *e;
    if (lib.get_cm_event(cm->channel, &e) != 0)
        return 0;
    *ret_said = (struct said){.type = e->event, .status = e->status, .id = e->id};
    if (e->event == RDMA_CM_EVENT_CONNECT_REQUEST)
        ret_said->known = e->param.conn.private_data != NULL &&
                          yk_rdma_call_is(e->param.conn.private_data, e->param.conn.private_data_len, cm->token);
    lib.ack_cm_event(e);
    return 1;
}

void yk_cm_look(struct yk_cm *cm) {
    struct said said;
    while (next_event(cm, &said))
        handle(cm, &said);
}

static void on_channel(struct yk_watch *w, uint32_t events) {
    (void)events;
    yk_cm_look(w->user);
}

/* ---- life ------------------------------------------------------------------------------------------- */

static int set_up(struct yk_cm *cm, struct rdma_cm_id **ret_id, struct yk_err *err) {
    cm->channel = lib.create_event_channel();
    if (cm->channel == NULL)
        return yk_err_set(err, -YK_ENOTSUP, "no iWARP: the connection manager cannot be opened: %s", strerror(errno));
    int flags = fcntl(cm->channel->fd, F_GETFL);
    cm->watch.fd = cm->channel->fd;
    if (flags < 0 || fcntl(cm->channel->fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
        lib.create_id(cm->channel, ret_id, NULL, RDMA_PS_TCP) != 0)
        return yk_err_set(err, -YK_EIO, "%s: no connection can be made: %s", cm->device, strerror(errno));
    if (cm->traffic_class != 0) /* a driver that knows of none is fine */
        (void)lib.set_option(*ret_id, RDMA_OPTION_ID, RDMA_OPTION_ID_TOS, &cm->traffic_class,
                             sizeof(cm->traffic_class));
    int rc = yk_loop_watch(cm->loop, &cm->watch);
    return rc < 0 ? yk_err_set(err, rc, "%s: a connection cannot be waited for", cm->device) : 0;
}

static struct yk_cm *cm_new(const struct yk_cm_opts *o, struct yk_err *err) {
    struct yk_cm *cm = NULL;
    if (!yk_cm_there()) {
        yk_err_set(err, -YK_ENOTSUP, "no iWARP: %s", why);
        return NULL;
    }
    cm = calloc(1, sizeof(*cm));
    if (cm == NULL || count_in(cm, err) < 0) {
        if (cm == NULL)
            yk_err_set(err, -YK_ENOMEM, "no memory for a connection");
        free(cm);
        return NULL;
    }
    cm->loop = o->loop;
    cm->events = o->events;
    cm->user = o->user;
    cm->watch = (struct yk_watch){.fd = -1, .events = EPOLLIN, .fn = on_channel, .user = cm};
    cm->returned = (struct yk_watch){.fd = -1, .events = EPOLLIN, .fn = on_returned, .user = cm};
    cm->timer = (struct yk_timer){.fn = on_timer, .user = cm};
    cm->qpn = o->qpn;
    cm->answers = o->answers;
    cm->asks = o->asks;
    cm->traffic_class = o->traffic_class;
    memcpy(cm->token, o->token, sizeof(cm->token));
    snprintf(cm->device, sizeof(cm->device), "%s", o->device);
    return cm;
}

/* Before it was given out: nothing is under way. */
static int undo(struct yk_cm *cm, int rc) {
    (void)yk_loop_timer(cm->loop, &cm->timer, 0);
    yk_loop_unwatch(cm->loop, &cm->watch);
    bury(cm);
    return rc;
}

int yk_cm_dial(const struct yk_cm_opts *o, const char *remote, uint16_t port, struct yk_cm **ret_cm,
               struct yk_err *err) {
    struct yk_cm *cm = cm_new(o, err);
    if (cm == NULL)
        return err->code;
    int rc = set_up(cm, &cm->id, err);
    cm->state = RESOLVING;
    if (rc == 0 && (yk_sock_parse(o->host, 0, &cm->from) < 0 || yk_sock_parse(remote, port, &cm->to) < 0))
        rc = yk_err_set(err, -YK_EINVAL, "no way from %s to %s", o->host, remote);
    if (rc == 0 && resolve(cm) != 0)
        rc = yk_err_set(err, -YK_EIO, "%s: no way to %s: %s", o->device, remote, strerror(errno));
    if (rc < 0)
        return undo(cm, rc);
    deadline(cm, STEP_MS);
    *ret_cm = cm;
    return 0;
}

int yk_cm_await(const struct yk_cm_opts *o, uint16_t *ret_port, struct yk_cm **ret_cm, struct yk_err *err) {
    struct yk_sockaddr at;
    struct yk_cm *cm = cm_new(o, err);
    if (cm == NULL)
        return err->code;
    int rc = set_up(cm, &cm->listener, err);
    cm->state = LISTENING;
    if (rc == 0 && yk_sock_parse(o->host, 0, &at) < 0)
        rc = yk_err_set(err, -YK_EINVAL, "%s is no address", o->host);
    if (rc == 0 && (lib.bind_addr(cm->listener, &at.u.any) != 0 || lib.listen(cm->listener, BACKLOG) != 0))
        rc = yk_err_set(err, -YK_EIO, "%s: no connection can be awaited at %s: %s", o->device, o->host,
                        strerror(errno));
    if (rc < 0)
        return undo(cm, rc);
    deadline(cm, CONNECT_MS);
    *ret_port = be16toh(lib.get_src_port(cm->listener));
    *ret_cm = cm;
    return 0;
}
