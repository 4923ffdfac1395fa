/* SPDX-License-Identifier: Apache-2.0
 *
 * Copies of hot chains (keeps.h): a queue, and a thread that asks this node's directory for one task after the other, as
 * a guest of its own. The directory has limits of its own for copies, and does them in the background class; what it
 * does not take now is asked for again, for as long as such a copy may take; what is refused, or not answered in time, the
 * next request for the chain asks for again.
 *
 * Thread: its own; want: any.
 */
#include "keeps.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "dir/guest.h"
#include "wire/dir.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define KEEPS_MAX 64u
#define KEYS_MAX  256u
#define RECENT    256u
#define AGAIN_NS  (60 * YK_NS_PER_S)
#define REFUSED_NS YK_NS_PER_S /* not at once: it is the same directory, and each request for a hot chain would ask it */
#define ASK_MS    1000u
#define COPY_MS   30000u
#define NICE      5
#define REST_MS   100u /* before a directory that has too many is asked again */

struct keep {
    struct keep *next;
    uint64_t hash;
    char node[YK_DIR_NAME_MAX + 1], ns[YK_NAMESPACE_MAX + 1];
    uint32_t n;
    unsigned char keys[]; /* each a byte of length and as many bytes */
};

struct recent {
    uint64_t hash, until_ns;
};

struct yolkd_keeps {
    const struct yk_dir *dir;
    struct yk_node *node;
    pthread_t thread;
    pthread_mutex_t lock; /* what follows */
    pthread_cond_t changed, ending;
    struct keep *first, **last;
    uint32_t n, next_recent;
    struct recent recent[RECENT];
    bool ends;
    struct yk_guest *self; /* the thread's */
};

/* ---- wanting ---------------------------------------------------------------------------------- */

/* Under the lock. NULL: not of late. */
static struct recent *find_recent(struct yolkd_keeps *k, uint64_t hash, uint64_t now_ns) {
    for (uint32_t i = 0; i < RECENT; i++)
        if (k->recent[i].hash == hash && now_ns < k->recent[i].until_ns)
            return &k->recent[i];
    return NULL;
}

/* Under the lock: was it wanted within a minute? If not, it is now. */
static bool was_wanted(struct yolkd_keeps *k, uint64_t hash) {
    uint64_t now_ns = yk_now_ns();
    if (find_recent(k, hash, now_ns) != NULL)
        return true;
    k->recent[k->next_recent++ % RECENT] = (struct recent){hash, now_ns + AGAIN_NS};
    return false;
}

/* It was not asked for, or not all of it. */
static void want_again(struct yolkd_keeps *k, uint64_t hash) {
    uint64_t now_ns = yk_now_ns();
    pthread_mutex_lock(&k->lock);
    struct recent *r = find_recent(k, hash, now_ns);
    if (r != NULL)
        r->until_ns = now_ns + REFUSED_NS;
    pthread_mutex_unlock(&k->lock);
}

static struct keep *keep_new(const struct yk_http_keep *what) {
    uint32_t n = what->n < KEYS_MAX ? what->n : KEYS_MAX;
    size_t bytes = 0, at = 0;
    for (uint32_t i = 0; i < n; i++)
        bytes += 1 + what->keys[i].len;
    struct keep *w = calloc(1, sizeof(*w) + bytes);
    if (w == NULL)
        return NULL;
    strncpy(w->node, what->node, sizeof(w->node) - 1);
    strncpy(w->ns, what->name_space, sizeof(w->ns) - 1);
    for (uint32_t i = 0; i < n; i++) {
        w->keys[at++] = (unsigned char)what->keys[i].len;
        memcpy(w->keys + at, what->keys[i].data, what->keys[i].len);
        at += what->keys[i].len;
    }
    w->n = n;
    return w;
}

static bool is_fit(const struct yk_http_keep *what) {
    for (uint32_t i = 0; i < what->n; i++)
        if (what->keys[i].len == 0 || what->keys[i].len > YK_KEY_MAX)
            return false;
    return what->n > 0 && what->node[0] != '\0' && strlen(what->node) <= YK_DIR_NAME_MAX &&
           what->name_space[0] != '\0' && strlen(what->name_space) <= YK_NAMESPACE_MAX;
}

static uint64_t hash_of(const struct yk_http_keep *what) {
    const struct yk_http_key *last = &what->keys[what->n - 1];
    return yk_hash64(last->data, last->len) ^ yk_hash64(what->node, strlen(what->node)) * 3 ^
           yk_hash64(what->name_space, strlen(what->name_space)) * 5;
}

uint32_t yolkd_keeps_want(void *arg, const struct yk_http_keep *what) {
    struct yolkd_keeps *k = arg;
    struct keep *w = is_fit(what) ? keep_new(what) : NULL;
    if (w == NULL)
        return 0;
    uint32_t n = w->n;
    w->hash = hash_of(what);
    pthread_mutex_lock(&k->lock);
    bool taken = !k->ends && k->n < KEEPS_MAX && !was_wanted(k, w->hash);
    if (taken) {
        *k->last = w;
        k->last = &w->next;
        k->n++;
        pthread_cond_signal(&k->changed);
    }
    pthread_mutex_unlock(&k->lock);
    if (!taken)
        free(w);
    return taken ? n : 0;
}

/* ---- asking ----------------------------------------------------------------------------------- */

/* That this node knows of the namespace; 0: it has none of the name. */
static uint64_t epoch_of(struct yolkd_keeps *k, const char *ns) {
    yk_ns_info info;
    for (uint32_t i = 0; i < YK_SHM_NAMESPACES; i++)
        if (yk_node_ns_info(k->node, i, &info) == 0 && strcmp(info.name, ns) == 0)
            return info.epoch;
    return 0;
}

static int ask_one(struct yolkd_keeps *k, const struct keep *w, uint64_t epoch, const unsigned char *key, uint32_t key_len,
                   struct yk_err *err) {
    unsigned char request[YK_DIR_TASK_BYTES_MAX];
    struct yk_dirw_task task = {.ns = {w->ns, (uint32_t)strlen(w->ns)}, .key = {key, key_len},
                                .node = {w->node, (uint32_t)strlen(w->node)}, .from = {"", 0}, .epoch = epoch,
                                .timeout_ms = COPY_MS, .kind = YK_DIR_TASK_KEEP};
    const void *body;
    uint32_t len;
    struct yk_wr out;
    struct yk_rd in;
    yk_wr_init(&out, request, sizeof(request));
    yk_wr_dir_task(&out, &task);
    int rc = k->self == NULL ? yk_guest_open(yk_dir_address(k->dir), ASK_MS, &k->self, err) : 0;
    if (rc == 0)
        rc = yk_guest_ask(k->self, YK_DIR_TASK, request, (uint32_t)yk_wr_len(&out), ASK_MS, &body, &len, err);
    if (rc < 0) {
        yk_guest_close(k->self);
        k->self = NULL;
        return rc;
    }
    yk_rd_init(&in, body, len);
    int status = (int32_t)yk_rd_u32(&in);
    (void)yk_rd_u64(&in); /* the task's number */
    yk_rd_text(&in, err->text, sizeof(err->text));
    return yk_rd_ok(&in) ? status : -YK_EPROTO;
}

static bool is_over(struct yolkd_keeps *k) {
    pthread_mutex_lock(&k->lock);
    bool ends = k->ends;
    pthread_mutex_unlock(&k->lock);
    return ends;
}

static void rest(struct yolkd_keeps *k) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += REST_MS * (long)YK_NS_PER_MS;
    until.tv_sec += until.tv_nsec / (long)YK_NS_PER_S;
    until.tv_nsec %= (long)YK_NS_PER_S;
    pthread_mutex_lock(&k->lock);
    while (!k->ends && pthread_cond_timedwait(&k->ending, &k->lock, &until) == 0)
        ;
    pthread_mutex_unlock(&k->lock);
}

/* As many as KEYS_MAX questions, each of ASK_MS: the end waits for one of them. */
static void ask_all(struct yolkd_keeps *k, const struct keep *w) {
    static struct yk_log_limit limit = YK_LOG_LIMIT_INIT(60000);
    const unsigned char *at = w->keys;
    uint64_t epoch = epoch_of(k, w->ns);
    struct yk_err err = {0};
    uint64_t until_ns = yk_now_ns() + COPY_MS * YK_NS_PER_MS;
    int rc = 0;
    for (uint32_t i = 0; i < w->n && rc >= 0 && !is_over(k);) {
        rc = ask_one(k, w, epoch, at + 1, *at, &err);
        if (rc == -YK_EAGAIN && yk_now_ns() < until_ns) {
            rest(k);
            rc = 0;
            continue;
        }
        at += 1 + *at;
        i++;
    }
    if (rc >= 0)
        return;
    yk_log_limited(&limit, YK_LOG_WARN, "yolkd", "copies of a hot chain for %s are not asked for: %s", w->node,
                   err.text[0] != '\0' ? err.text : yk_status_text(rc));
    want_again(k, w->hash);
}

static struct keep *take(struct yolkd_keeps *k) {
    pthread_mutex_lock(&k->lock);
    while (k->first == NULL && !k->ends)
        pthread_cond_wait(&k->changed, &k->lock);
    struct keep *w = k->ends ? NULL : k->first;
    if (w != NULL) {
        k->first = w->next;
        k->last = k->first == NULL ? &k->first : k->last;
        k->n--;
    }
    pthread_mutex_unlock(&k->lock);
    return w;
}

static void *run(void *arg) {
    struct yolkd_keeps *k = arg;
    struct keep *w;
    pthread_setname_np(pthread_self(), "yolkd-keeps");
    setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE); /* Linux: of this thread */
    while ((w = take(k)) != NULL) {
        ask_all(k, w);
        free(w);
    }
    return NULL;
}

/* ---- life ------------------------------------------------------------------------------------- */

int yolkd_keeps_start(const struct yk_dir *dir, struct yk_node *node, struct yolkd_keeps **ret, struct yk_err *err) {
    struct yolkd_keeps *k = calloc(1, sizeof(*k));
    if (k == NULL)
        return yk_err_set(err, -YK_ENOMEM, "out of memory");
    k->dir = dir;
    k->node = node;
    k->last = &k->first;
    pthread_mutex_init(&k->lock, NULL);
    pthread_cond_init(&k->changed, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&k->ending, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (pthread_create(&k->thread, NULL, run, k) != 0) {
        free(k);
        return yk_err_set(err, -YK_ENOMEM, "no thread for copies of hot chains");
    }
    *ret = k;
    return 0;
}

void yolkd_keeps_end(struct yolkd_keeps *k) {
    if (k == NULL)
        return;
    pthread_mutex_lock(&k->lock);
    k->ends = true;
    pthread_cond_signal(&k->changed);
    pthread_cond_signal(&k->ending);
    pthread_mutex_unlock(&k->lock);
    pthread_join(k->thread, NULL);
}

void yolkd_keeps_free(struct yolkd_keeps *k) {
    if (k == NULL)
        return;
    while (k->first != NULL) {
        struct keep *next = k->first->next;
        free(k->first);
        k->first = next;
    }
    yk_guest_close(k->self);
    pthread_mutex_destroy(&k->lock);
    pthread_cond_destroy(&k->changed);
    free(k);
}
