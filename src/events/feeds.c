/* SPDX-License-Identifier: Apache-2.0
 *
 * Subscriptions (feeds.h). Sockets of libzmq belong to the one thread; others ask it by a state of the feed:
 *
 *   FREE -> NEW (add) -> LIVE (the thread has opened it) -> GOING (remove) -> FREE (the thread has closed it)
 *
 * The thread looks for such changes at least every LOOK_MS. While a feed waits for batches of the past its live ones
 * stay in libzmq's queue, but for the one that showed the gap, which is held.
 *
 * Numbers. `next` is the number that is due; `live` the last that came by itself. Live numbers only rise, so one that
 * does not is of an engine that began anew; one that rises and is below `next` was replayed already.
 */
#include "events/feeds.h"

#include "events/zmq_priv.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef YK_HAVE_ZMQ

int yk_feeds_new(struct yk_feeds **ret_feeds) {
    *ret_feeds = NULL;
    return 0;
}

void yk_feeds_free(struct yk_feeds *feeds) {
}

int yk_feeds_check(struct yk_err *err) {
    return yk_err_set(err, -YK_ENOTSUP, "KV events are not in this build: zmq.h was not there (libzmq3-dev)");
}

int yk_feeds_look(const struct yk_feed_opts *opts, struct yk_err *err) {
    return yk_feeds_check(err);
}

int yk_feeds_add(struct yk_feeds *feeds, const struct yk_feed_opts *opts, uint32_t *ret_id, struct yk_err *err) {
    return yk_feeds_check(err);
}

int yk_feeds_remove(struct yk_feeds *feeds, uint32_t id) {
    return YK_MISS;
}

void yk_feeds_total(struct yk_feeds *feeds, struct yk_feed_stats *ret_stats) {
    *ret_stats = (struct yk_feed_stats){0};
}

int yk_feeds_stats(struct yk_feeds *feeds, uint32_t id, struct yk_feed_stats *ret_stats) {
    return YK_MISS;
}

#else

#include "base/clock.h"

#define LOOK_MS     50
#define REPLAY_MS   2000u
#define BURST       64u /* messages of one feed before the next one's, */
#define BURST_BYTES (1u << 20) /* and bytes */
#define NICE        5 /* below what answers requests: a flood takes what is left */
#define NUMBER_LEN  8u
#define NUMBER_END  UINT64_MAX

enum state { FREE, NEW, LIVE, GOING };

struct message {
    zmq_msg_t number, batch;
    bool is_there;
};

struct feed {
    enum state state; /* lock */
    char endpoint[YK_FEED_ADDRESS_MAX + 1], replay[YK_FEED_ADDRESS_MAX + 1], topic[YK_FEED_TOPIC_MAX + 1];
    uint32_t replay_ms;
    struct yk_kv_sink sink;
    void (*lost)(void *arg);
    struct yk_feed_stats stats; /* lock */
    /* the thread's */
    void *sub, *dealer;
    bool begun, asking;
    uint64_t next, live, until_ns;
    struct yk_kv_groups groups;
    struct message held; /* the message that showed the gap */
};

/* Thread: any (lock `lock`), but what feeds say. */
struct yk_feeds {
    const struct zmq_fns *z;
    void *ctx;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* a feed's state, by the thread */
    pthread_t thread;
    bool runs, ends;
    struct feed *feeds[YK_FEEDS_MAX];
    uint32_t n; /* ever used */
    struct yk_feed_stats total; /* lock */
};

/* ---- messages ---- */

static uint64_t number_of(const struct yk_feeds *fs, zmq_msg_t *m) {
    const unsigned char *at = fs->z->msg_data(m);
    uint64_t value = 0;
    for (uint32_t i = 0; i < NUMBER_LEN; i++)
        value = value << 8 | at[i];
    return value;
}

static void message_fini(const struct yk_feeds *fs, struct message *m) {
    if (!m->is_there)
        return;
    fs->z->msg_close(&m->number);
    fs->z->msg_close(&m->batch);
    m->is_there = false;
}

/* Three parts, of which the first is the topic, or empty. 1: one is there; 0: none; -YK_EPROTO: of another form, and
 * passed over. */
static int message_read(const struct yk_feeds *fs, void *socket, struct message *ret) {
    const struct zmq_fns *z = fs->z;
    zmq_msg_t first, more;
    uint32_t parts = 1;
    z->msg_init(&first);
    if (z->msg_recv(&first, socket, ZMQ_DONTWAIT) < 0) {
        z->msg_close(&first);
        return 0;
    }
    z->msg_init(&ret->number);
    z->msg_init(&ret->batch);
    ret->is_there = true;
    zmq_msg_t *last = &first;
    while (z->msg_more(last)) {
        zmq_msg_t *into = parts == 1 ? &ret->number : parts == 2 ? &ret->batch : &more;
        if (parts == 3)
            z->msg_init(&more);
        if (z->msg_recv(into, socket, 0) < 0)
            break;
        last = into;
        parts++;
    }
    bool good = parts == 3 && z->msg_size(&ret->number) == NUMBER_LEN;
    if (parts > 3)
        z->msg_close(&more);
    z->msg_close(&first);
    if (!good)
        message_fini(fs, ret);
    return good ? 1 : -YK_EPROTO;
}

/* ---- one feed ---- */

#define COUNT(fs, f, field, by)                                                                                        \
    do {                                                                                                               \
        pthread_mutex_lock(&(fs)->lock);                                                                               \
        (f)->stats.field += (by);                                                                                      \
        (fs)->total.field += (by);                                                                                     \
        (f)->stats.next = (f)->next;                                                                                   \
        pthread_mutex_unlock(&(fs)->lock);                                                                             \
    } while (0)

static void lose(struct yk_feeds *fs, struct feed *f) {
    f->lost(f->sink.arg);
    COUNT(fs, f, lost, 1);
}

/* Those before this number will not come. */
static void miss_until(struct yk_feeds *fs, struct feed *f, uint64_t number) {
    COUNT(fs, f, missed, number - f->next);
    lose(fs, f);
}

static void apply(struct yk_feeds *fs, struct feed *f, struct message *m, uint64_t number) {
    struct yk_kv_batch batch;
    f->next = number + 1;
    int rc = yk_kv_decode(fs->z->msg_data(&m->batch), fs->z->msg_size(&m->batch), &f->sink, &f->groups, &batch, NULL);
    if (rc == 0) {
        COUNT(fs, f, blocks, batch.blocks);
        COUNT(fs, f, batches, 1);
        return;
    }
    COUNT(fs, f, malformed, 1);
    lose(fs, f);
}

/* 0: it has been asked. */
static int ask(struct yk_feeds *fs, struct feed *f, uint64_t from) {
    const struct zmq_fns *z = fs->z;
    unsigned char number[NUMBER_LEN];
    for (uint32_t i = 0; i < NUMBER_LEN; i++)
        number[i] = (unsigned char)(from >> (8 * (NUMBER_LEN - 1 - i)));
    if (f->replay[0] == '\0')
        return -YK_ENOTSUP;
    /* A new socket each time: what an earlier question is still answered with is nobody's. */
    if (f->dealer != NULL)
        z->close(f->dealer);
    int zero = 0, queue = YK_FEED_QUEUE;
    int64_t most = YK_KV_BATCH_MAX;
    f->dealer = z->socket(fs->ctx, ZMQ_DEALER);
    if (f->dealer == NULL || z->setsockopt(f->dealer, ZMQ_LINGER, &zero, sizeof(zero)) != 0 ||
        z->setsockopt(f->dealer, ZMQ_RCVHWM, &queue, sizeof(queue)) != 0 ||
        z->setsockopt(f->dealer, ZMQ_MAXMSGSIZE, &most, sizeof(most)) != 0 ||
        z->connect(f->dealer, f->replay) != 0 || z->send(f->dealer, "", 0, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0 ||
        z->send(f->dealer, number, sizeof(number), ZMQ_DONTWAIT) < 0)
        return -YK_EIO;
    f->asking = true;
    f->until_ns = yk_now_ns() + f->replay_ms * YK_NS_PER_MS;
    return 0;
}

/* The past has been told, or will not be: the held one is next. */
static void go_on(struct yk_feeds *fs, struct feed *f) {
    f->asking = false;
    if (f->dealer != NULL)
        fs->z->close(f->dealer);
    f->dealer = NULL;
    if (!f->held.is_there)
        return;
    uint64_t number = number_of(fs, &f->held.number);
    if (number > f->next)
        miss_until(fs, f, number);
    if (number >= f->next)
        apply(fs, f, &f->held, number);
    message_fini(fs, &f->held);
}

/* A gap before m, which is kept. */
static void repair(struct yk_feeds *fs, struct feed *f, struct message *m) {
    f->held = *m;
    m->is_there = false;
    if (ask(fs, f, f->next) < 0)
        go_on(fs, f);
}

static void on_live(struct yk_feeds *fs, struct feed *f, struct message *m) {
    uint64_t number = number_of(fs, &m->number);
    if (f->begun && number <= f->live) {
        COUNT(fs, f, restarts, 1);
        lose(fs, f);
        f->begun = false;
        f->groups = (struct yk_kv_groups){0};
    }
    if (!f->begun)
        f->next = 0;
    bool first = !f->begun;
    f->begun = true;
    f->live = number;
    if (number == f->next || (first && f->replay[0] == '\0')) {
        apply(fs, f, m, number);
    } else if (number > f->next) {
        if (!first)
            COUNT(fs, f, gaps, 1);
        repair(fs, f, m);
    }
}

static void on_replayed(struct yk_feeds *fs, struct feed *f, struct message *m) {
    uint64_t number = number_of(fs, &m->number);
    if (number == NUMBER_END) {
        go_on(fs, f);
        return;
    }
    if (number < f->next)
        return;
    if (number > f->next && f->next > 0)
        miss_until(fs, f, number); /* it has forgotten some: what is told from here on is right, as far as it goes */
    apply(fs, f, m, number);
    COUNT(fs, f, replayed, 1);
    f->until_ns = yk_now_ns() + f->replay_ms * YK_NS_PER_MS;
}

/* A message, if there is one; its bytes, or 0. */
static size_t read_one(struct yk_feeds *fs, struct feed *f) {
    struct message m = {.is_there = false};
    bool asking = f->asking;
    int rc = message_read(fs, asking ? f->dealer : f->sub, &m);
    size_t bytes = rc > 0 ? NUMBER_LEN + fs->z->msg_size(&m.batch) : rc < 0;
    if (rc < 0)
        COUNT(fs, f, malformed, 1);
    else if (rc > 0 && asking)
        on_replayed(fs, f, &m);
    else if (rc > 0)
        on_live(fs, f, &m);
    message_fini(fs, &m);
    return bytes;
}

static void read_feed(struct yk_feeds *fs, struct feed *f) {
    size_t bytes = 0, more = 1;
    for (uint32_t i = 0; i < BURST && bytes < BURST_BYTES && more > 0; i++) {
        more = read_one(fs, f);
        bytes += more;
    }
    if (f->asking && yk_now_ns() > f->until_ns)
        go_on(fs, f);
}

/* ---- the thread ---- */

static void open_feed(struct yk_feeds *fs, struct feed *f) {
    const struct zmq_fns *z = fs->z;
    int zero = 0, queue = YK_FEED_QUEUE;
    int64_t most = YK_KV_BATCH_MAX;
    f->sub = z->socket(fs->ctx, ZMQ_SUB);
    if (f->sub == NULL)
        return;
    z->setsockopt(f->sub, ZMQ_LINGER, &zero, sizeof(zero));
    z->setsockopt(f->sub, ZMQ_RCVHWM, &queue, sizeof(queue));
    z->setsockopt(f->sub, ZMQ_MAXMSGSIZE, &most, sizeof(most));
    z->setsockopt(f->sub, ZMQ_SUBSCRIBE, f->topic, strlen(f->topic));
    z->connect(f->sub, f->endpoint);
}

static void close_feed(struct yk_feeds *fs, struct feed *f) {
    message_fini(fs, &f->held);
    if (f->sub != NULL)
        fs->z->close(f->sub);
    if (f->dealer != NULL)
        fs->z->close(f->dealer);
    f->sub = f->dealer = NULL;
}

/* What was asked of the thread; and whom to wait for. */
static uint32_t look(struct yk_feeds *fs, struct feed *live[YK_FEEDS_MAX], bool *ret_ends) {
    uint32_t n = 0;
    pthread_mutex_lock(&fs->lock);
    for (uint32_t i = 0; i < fs->n; i++) {
        struct feed *f = fs->feeds[i];
        if (f != NULL && f->state == NEW && !fs->ends) {
            open_feed(fs, f);
            f->state = LIVE;
        } else if (f != NULL && f->state != FREE && (f->state == GOING || fs->ends)) {
            close_feed(fs, f); /* at the end all: a socket that stays open keeps libzmq */
            f->state = FREE;
            pthread_cond_broadcast(&fs->changed);
        }
        if (f != NULL && f->state == LIVE && f->sub != NULL)
            live[n++] = f;
    }
    *ret_ends = fs->ends;
    pthread_mutex_unlock(&fs->lock);
    return n;
}

static void *run(void *arg) {
    struct yk_feeds *fs = arg;
    struct feed *live[YK_FEEDS_MAX];
    zmq_pollitem_t items[YK_FEEDS_MAX];
    bool ends = false;
    pthread_setname_np(pthread_self(), "yolk-events");
    setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE); /* Linux: of this thread */
    for (;;) {
        uint32_t n = look(fs, live, &ends);
        if (ends)
            break;
        for (uint32_t i = 0; i < n; i++)
            items[i] = (zmq_pollitem_t){.socket = live[i]->asking ? live[i]->dealer : live[i]->sub, .events = ZMQ_POLLIN};
        fs->z->poll(items, (int)n, LOOK_MS);
        for (uint32_t i = 0; i < n; i++)
            if (items[i].revents != 0 || live[i]->asking)
                read_feed(fs, live[i]);
    }
    return NULL;
}

/* ---- making and asking ---- */

int yk_feeds_check(struct yk_err *err) {
    const struct zmq_fns *z;
    return zmq_load(&z, err);
}

int yk_feeds_new(struct yk_feeds **ret_feeds) {
    struct yk_feeds *fs = calloc(1, sizeof(*fs));
    if (fs == NULL)
        return -YK_ENOMEM;
    pthread_mutex_init(&fs->lock, NULL);
    pthread_cond_init(&fs->changed, NULL);
    *ret_feeds = fs;
    return 0;
}

void yk_feeds_free(struct yk_feeds *fs) {
    if (fs == NULL)
        return;
    pthread_mutex_lock(&fs->lock);
    fs->ends = true;
    bool runs = fs->runs;
    pthread_mutex_unlock(&fs->lock);
    if (runs) {
        pthread_join(fs->thread, NULL);
        fs->z->ctx_term(fs->ctx);
    }
    for (uint32_t i = 0; i < fs->n; i++)
        free(fs->feeds[i]);
    pthread_mutex_destroy(&fs->lock);
    pthread_cond_destroy(&fs->changed);
    free(fs);
}

/* Under the lock. */
static int start(struct yk_feeds *fs, struct yk_err *err) {
    int rc = fs->runs ? 0 : zmq_load(&fs->z, err); /* the thread reads it without the lock */
    if (rc < 0 || fs->runs)
        return rc;
    fs->ctx = fs->z->ctx_new();
    if (fs->ctx == NULL)
        return yk_err_set(err, -YK_ENOMEM, "out of memory");
    if (pthread_create(&fs->thread, NULL, run, fs) != 0) {
        fs->z->ctx_term(fs->ctx);
        return yk_err_set(err, -YK_ENOMEM, "no thread for KV events");
    }
    fs->runs = true;
    return 0;
}

static bool is_address(const char *text) {
    return (strncmp(text, "tcp://", 6) == 0 || strncmp(text, "ipc://", 6) == 0) && strlen(text) > 6 &&
           strlen(text) <= YK_FEED_ADDRESS_MAX && strchr(text, '*') == NULL;
}

/* A place that nobody uses. Under the lock. */
static struct feed *place(struct yk_feeds *fs, uint32_t *ret_id) {
    uint32_t i = 0;
    while (i < fs->n && fs->feeds[i]->state != FREE)
        i++;
    if (i == YK_FEEDS_MAX)
        return NULL;
    if (i == fs->n && (fs->feeds[i] = calloc(1, sizeof(*fs->feeds[i]))) == NULL)
        return NULL;
    fs->n += i == fs->n;
    *ret_id = i;
    return fs->feeds[i];
}

static void fill(struct feed *f, const struct yk_feed_opts *o) {
    *f = (struct feed){.state = NEW, .sink = o->sink, .lost = o->lost};
    f->replay_ms = o->replay_ms != 0 ? o->replay_ms : REPLAY_MS;
    strncpy(f->endpoint, o->endpoint, sizeof(f->endpoint) - 1);
    strncpy(f->replay, o->replay != NULL ? o->replay : "", sizeof(f->replay) - 1);
    strncpy(f->topic, o->topic != NULL ? o->topic : "", sizeof(f->topic) - 1);
}

int yk_feeds_look(const struct yk_feed_opts *o, struct yk_err *err) {
    const char *wrong = !is_address(o->endpoint)                                             ? o->endpoint
                        : o->replay != NULL && o->replay[0] != '\0' && !is_address(o->replay) ? o->replay
                                                                                              : NULL;
    if (wrong != NULL)
        return yk_err_set(err, -YK_EINVAL, "found '%.80s', expected tcp://HOST:PORT or ipc://PATH", wrong);
    if (o->topic != NULL && strlen(o->topic) > YK_FEED_TOPIC_MAX)
        return yk_err_set(err, -YK_EINVAL, "found a topic of %zu bytes, expected at most %u", strlen(o->topic), YK_FEED_TOPIC_MAX);
    return yk_feeds_check(err);
}

int yk_feeds_add(struct yk_feeds *fs, const struct yk_feed_opts *o, uint32_t *ret_id, struct yk_err *err) {
    int rc = yk_feeds_look(o, err);
    if (rc < 0)
        return rc;
    pthread_mutex_lock(&fs->lock);
    rc = start(fs, err);
    if (rc == 0) {
        struct feed *f = place(fs, ret_id);
        if (f != NULL)
            fill(f, o);
        else
            rc = yk_err_set(err, -YK_ELIMIT, "%u engines' events are listened to, and no more", YK_FEEDS_MAX);
    }
    pthread_mutex_unlock(&fs->lock);
    return rc;
}

int yk_feeds_remove(struct yk_feeds *fs, uint32_t id) {
    int rc = YK_MISS;
    pthread_mutex_lock(&fs->lock);
    struct feed *f = id < fs->n ? fs->feeds[id] : NULL;
    if (f != NULL && (f->state == NEW || f->state == LIVE)) {
        f->state = GOING;
        while (f->state == GOING)
            pthread_cond_wait(&fs->changed, &fs->lock);
        rc = 0;
    }
    pthread_mutex_unlock(&fs->lock);
    return rc;
}

void yk_feeds_total(struct yk_feeds *fs, struct yk_feed_stats *ret_stats) {
    pthread_mutex_lock(&fs->lock);
    *ret_stats = fs->total;
    pthread_mutex_unlock(&fs->lock);
}

int yk_feeds_stats(struct yk_feeds *fs, uint32_t id, struct yk_feed_stats *ret_stats) {
    int rc = YK_MISS;
    pthread_mutex_lock(&fs->lock);
    struct feed *f = id < fs->n ? fs->feeds[id] : NULL;
    if (f != NULL && f->state != FREE) {
        *ret_stats = f->stats;
        rc = 0;
    }
    pthread_mutex_unlock(&fs->lock);
    return rc;
}

#endif
