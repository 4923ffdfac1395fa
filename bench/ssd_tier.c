/* SPDX-License-Identifier: Apache-2.0
 *
 * The SSD tier driven directly (bench/ssd_priv.h): payload lies in memory, and this thread does nothing
 * but give the tier work and take what ended. What the node and the client add shows beside it.
 *
 * Blocks that are on the device stand in an array, in no order, so that one can be taken at random and
 * one that went can be taken out at once.
 *
 * The clock that the tier sees counts blocks: one more block, one millisecond more. So blocks that expire
 * in order do so at any speed of the device.
 */
#include "bench/ssd_priv.h"

#include "base/clock.h"
#include "base/hash.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define MEM_BYTES (64 * MIB)
#define SLOTS_MAX 4096u
#define WAIT_MS   20
#define STUCK_NS  (30 * YK_NS_PER_S)
#define TICK_NS   (10 * YK_NS_PER_MS)
#define FIRST_MS  1000000u
#define TOUCHES   3u /* of random blocks for each new one, where they are to be kept */
#define NOWHERE   UINT32_MAX
#define BLOCK_LEAST                                                                                \
    4096u /* of the device, for the size of tables: a block takes its record at least */

struct ssd_tier {
    struct yk_ssd *ssd;
    int fd; /* eventfd: the tier has something to do */
    unsigned char *mem;
    uint64_t bytes;
    uint32_t slots, *free_slots, free_count;
    uint64_t next, gen, ttl;
    /* live blocks: ids, and where in that an id stands */
    uint32_t *live, *place;
    uint64_t live_count, live_max;
    uint64_t random, tick_ns;
    uint64_t put_bytes, read_bytes, fails;
    uint32_t reads;                  /* under way */
    uint64_t read_ns, read_begin_ns; /* of the last one */
    int read_ended;
};

/* ---- live blocks ---------------------------------------------------------------------------------- */

static void live_add(struct ssd_tier *t, uint32_t id) {
    if (id >= t->live_max || t->place[id] != NOWHERE)
        return;
    t->place[id] = (uint32_t)t->live_count;
    t->live[t->live_count++] = id;
}

static void live_remove(struct ssd_tier *t, uint32_t id) {
    if (id >= t->live_max || t->place[id] == NOWHERE)
        return;
    uint32_t at = t->place[id], last = t->live[--t->live_count];
    t->live[at] = last;
    t->place[last] = at;
    t->place[id] = NOWHERE;
}

/* ---- callbacks ------------------------------------------------------------------------------------- */

static void wake(void *arg) {
    const struct ssd_tier *t = arg;
    (void)eventfd_write(t->fd, 1);
}

static void on_put(void *arg, uint32_t id, uint64_t cookie, int status) {
    struct ssd_tier *t = arg;
    t->free_slots[t->free_count++] = (uint32_t)cookie;
    if (status == 0) {
        t->put_bytes += t->bytes;
        live_add(t, id);
    } else if (status != -YK_ECANCELED) {
        t->fails++;
    }
}

static void on_read(void *arg, uint64_t cookie, int status) {
    struct ssd_tier *t = arg;
    t->free_slots[t->free_count++] = (uint32_t)cookie;
    t->reads--;
    t->read_ended = 1;
    if (status == 0)
        t->read_bytes += t->bytes;
    else
        t->fails++;
}

static void on_durable(void *arg, uint64_t ticket) {
    (void)arg;
    (void)ticket;
}

static void on_drop(void *arg, uint32_t id) {
    live_remove(arg, id);
}

/* ---- open and close -------------------------------------------------------------------------------- */

static int tables(struct ssd_tier *t, uint64_t size, const struct ssd_tier_opts *o) {
    uint64_t least = o->block_bytes < BLOCK_LEAST ? 64 : o->block_bytes;
    t->live_max = o->blocks_max != 0 ? 2 * o->blocks_max : 2 * (size / least) + SLOTS_MAX;
    t->slots = (uint32_t)(MEM_BYTES / t->bytes < SLOTS_MAX ? MEM_BYTES / t->bytes : SLOTS_MAX);
    t->mem = yk_bench_buffer(MEM_BYTES);
    t->free_slots = malloc(t->slots * sizeof(*t->free_slots));
    t->live = malloc(t->live_max * sizeof(*t->live));
    t->place = malloc(t->live_max * sizeof(*t->place));
    if (t->mem == NULL || t->free_slots == NULL || t->live == NULL || t->place == NULL)
        return -YK_ENOMEM;
    for (uint64_t i = 0; i + sizeof(uint64_t) <= MEM_BYTES; i += sizeof(uint64_t)) {
        uint64_t word = yk_random(&t->random);
        memcpy(t->mem + i, &word, sizeof(word));
    }
    while (t->free_count < t->slots) {
        t->free_slots[t->free_count] = t->free_count;
        t->free_count++;
    }
    memset(t->place, 0xff, t->live_max * sizeof(*t->place));
    return 0;
}

static int open_ssd(struct ssd_tier *t, const struct ssd_bench *b, uint64_t size,
                    const struct ssd_tier_opts *o) {
    struct yk_err err = {0};
    struct yk_ssd_ns *ns = calloc(YK_SSD_NAMESPACES, sizeof(*ns));
    if (ns == NULL)
        return -YK_ENOMEM;
    ns[0] = (struct yk_ssd_ns){.uid = 1, .epoch = 1, .name = "bench"};
    struct yk_ssd_opts so = {
        .dev = {{b->tier.path, size}},
        .dev_count = 1,
        .format = 1,
        .capacity_blocks = o->blocks_max,
        .segment_bytes = size < 2048 * MIB ? 8 * MIB : 0,
        .mem = t->mem,
        .mem_bytes = MEM_BYTES,
        .now_ms = FIRST_MS,
        .wake = wake,
        .wake_fd = t->fd,
        .on_put = on_put,
        .on_read = on_read,
        .on_durable = on_durable,
        .on_drop = on_drop,
        .arg = t,
    };
    int rc = yk_ssd_open(&so, ns, &t->ssd, &err);
    if (rc < 0)
        fprintf(stderr, "yolk bench: %s\n", err.text);
    free(ns);
    return rc;
}

int ssd_tier_open(const struct ssd_bench *b, const struct ssd_tier_opts *opts,
                  struct ssd_tier **ret_tier) {
    uint64_t size = opts->size_bytes != 0 ? opts->size_bytes : b->size;
    struct ssd_tier *t = calloc(1, sizeof(*t));
    if (t == NULL)
        return -YK_ENOMEM;
    t->bytes = opts->block_bytes;
    t->random = b->run.seed * UINT64_C(0x9e3779b97f4a7c15) | 1u;
    t->gen = 1;
    t->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    int rc = t->fd < 0 ? -YK_EIO : tables(t, size, opts);
    if (rc == 0)
        rc = open_ssd(t, b, size, opts);
    if (rc < 0) {
        ssd_tier_close(t);
        return rc;
    }
    *ret_tier = t;
    return 0;
}

void ssd_tier_close(struct ssd_tier *t) {
    if (t == NULL)
        return;
    if (t->ssd != NULL)
        yk_ssd_close(t->ssd, 0, 5000);
    if (t->fd >= 0)
        close(t->fd);
    if (t->mem != NULL)
        munmap(t->mem, MEM_BYTES);
    free(t->free_slots);
    free(t->live);
    free(t->place);
    free(t);
}

const struct yk_ssd *ssd_tier_ssd(const struct ssd_tier *t) {
    return t->ssd;
}

uint64_t ssd_tier_live(const struct ssd_tier *t) {
    return t->live_count;
}

/* ---- turns ------------------------------------------------------------------------------------------ */

static uint64_t clock_ms(const struct ssd_tier *t) {
    return FIRST_MS + t->next;
}

static void upkeep(struct ssd_tier *t) {
    uint64_t now = yk_now_ns();
    yk_ssd_poll(t->ssd);
    if (now - t->tick_ns < TICK_NS)
        return;
    t->tick_ns = now;
    while (yk_ssd_tick(t->ssd, clock_ms(t)) != 0)
        continue;
}

/* Until the tier has something to say. */
static void wait(const struct ssd_tier *t) {
    struct pollfd p = {t->fd, POLLIN, 0};
    eventfd_t n;
    (void)poll(&p, 1, WAIT_MS);
    (void)eventfd_read(t->fd, &n);
}

static int failed(const char *what, int rc) {
    fprintf(stderr, "yolk bench: the tier: %s: %s\n", what, yk_strerror(rc));
    return rc;
}

/* One block more: 0, or -YK_EAGAIN. */
static int put(struct ssd_tier *t) {
    char key[YK_RIG_KEY_BYTES];
    uint32_t id;
    if (t->free_count == 0)
        return -YK_EAGAIN;
    int rc = yk_ssd_may_put(t->ssd, t->bytes);
    if (rc < 0)
        return rc;
    uint32_t slot = t->free_slots[t->free_count - 1u];
    yk_rig_key(t->next, key);
    struct yk_ssd_put p = {.key_len = sizeof(key),
                           .key = key,
                           .hash = yk_hash_key(0, key, sizeof(key)),
                           .gen = ++t->gen,
                           .sum = t->next,
                           .len = t->bytes,
                           .expiry_ms = t->ttl != 0 ? clock_ms(t) + t->ttl : 0,
                           .prio = YK_SSD_PRIO_BACKGROUND,
                           .payload = t->mem + slot * t->bytes,
                           .cookie = slot};
    rc = yk_ssd_put(t->ssd, &p, &id);
    if (rc < 0)
        return rc;
    t->free_count--;
    t->next++;
    return 0;
}

static int put_many(struct ssd_tier *t) {
    int rc;
    while ((rc = put(t)) == 0)
        continue;
    return rc == -YK_EAGAIN ? 0 : failed("put", rc);
}

/* One read more: 0, or -YK_EAGAIN. */
static int read_one(struct ssd_tier *t) {
    if (t->free_count == 0 || t->live_count == 0)
        return -YK_EAGAIN;
    uint32_t slot = t->free_slots[t->free_count - 1u];
    uint32_t id = t->live[yk_random_below(&t->random, t->live_count)];
    t->read_begin_ns = yk_now_ns();
    int rc = yk_ssd_read(t->ssd, id, t->mem + slot * t->bytes, YK_SSD_PRIO_DEMAND, slot);
    if (rc < 0)
        return rc;
    t->free_count--;
    t->reads++;
    return 0;
}

static int read_many(struct ssd_tier *t, uint32_t depth) {
    int rc = 0;
    while (rc == 0 && t->reads < depth)
        rc = read_one(t);
    return rc == 0 || rc == -YK_EAGAIN ? 0 : failed("read", rc);
}

static int quiet(const struct ssd_tier *t) {
    return t->free_count == t->slots;
}

static int drain(struct ssd_tier *t) {
    uint64_t end = yk_now_ns() + STUCK_NS;
    while (!quiet(t)) {
        upkeep(t);
        if (!quiet(t))
            wait(t);
        if (yk_now_ns() > end)
            return failed("does not come to rest", -YK_ETIMEDOUT);
    }
    return t->fails != 0 ? failed("puts or reads failed", -YK_EIO) : 0;
}

int ssd_tier_write(struct ssd_tier *t, double ramp_s, double seconds, double *ret_rate) {
    uint64_t begin = yk_now_ns(), ramp = begin + (uint64_t)(ramp_s * 1e9);
    uint64_t end = ramp + (uint64_t)(seconds * 1e9), now, from = 0, from_ns = 0;
    int rc = 0;
    while (rc == 0 && (now = yk_now_ns()) < end) {
        if (from_ns == 0 && now >= ramp) {
            from = t->put_bytes;
            from_ns = now;
        }
        rc = put_many(t);
        upkeep(t);
        if (rc == 0 && t->free_count == 0)
            wait(t);
        else if (rc == 0 && yk_ssd_may_put(t->ssd, t->bytes) == -YK_EAGAIN)
            wait(t);
    }
    *ret_rate = (double)(t->put_bytes - from) / ((double)(yk_now_ns() - from_ns) / 1e9);
    return rc < 0 ? rc : drain(t);
}

int ssd_tier_read(struct ssd_tier *t, uint32_t depth, double ramp_s, double seconds,
                  double *ret_rate, struct yk_hist *hist) {
    uint64_t begin = yk_now_ns(), ramp = begin + (uint64_t)(ramp_s * 1e9);
    uint64_t end = ramp + (uint64_t)(seconds * 1e9), now, from = 0, from_ns = 0;
    int rc = 0;
    while (rc == 0 && (now = yk_now_ns()) < end) {
        if (from_ns == 0 && now >= ramp) {
            from = t->read_bytes;
            from_ns = now;
        }
        t->read_ended = 0;
        rc = read_many(t, depth);
        upkeep(t);
        if (rc == 0 && !t->read_ended)
            wait(t);
        upkeep(t);
        if (depth == 1 && hist != NULL && t->read_ended && from_ns != 0)
            yk_hist_record(hist, yk_now_ns() - t->read_begin_ns);
    }
    *ret_rate = (double)(t->read_bytes - from) / ((double)(yk_now_ns() - from_ns) / 1e9);
    return rc < 0 ? rc : drain(t);
}

/* Most blocks were used since they were written, so that they are worth keeping. */
static void touch_some(struct ssd_tier *t) {
    for (uint32_t i = 0; i < TOUCHES && t->live_count > 0; i++)
        yk_ssd_touch(t->ssd, t->live[yk_random_below(&t->random, t->live_count)]);
}

/* Removes blocks at random until so many bytes are live, those under way counted. */
static void make_room(struct ssd_tier *t, uint64_t live_bytes) {
    uint64_t under_way = t->slots - t->free_count;
    while (t->live_count > 0 && (t->live_count + under_way + 1u) * t->bytes > live_bytes) {
        uint32_t id = t->live[yk_random_below(&t->random, t->live_count)];
        live_remove(t, id);
        (void)yk_ssd_remove(t->ssd, id, ++t->gen);
    }
}

int ssd_tier_fill(struct ssd_tier *t, uint64_t blocks, uint64_t ttl, uint32_t keep_percent) {
    struct yk_ssd_counters c;
    uint64_t goal = t->next + blocks, stuck = yk_now_ns() + STUCK_NS;
    yk_ssd_counters_get(t->ssd, &c);
    uint64_t live_bytes = c.capacity_bytes / 100u * keep_percent;
    int rc = 0;
    t->ttl = ttl;
    while (rc == 0 && t->next < goal) {
        uint64_t before = t->next;
        while (rc == 0 && t->next < goal) {
            if (keep_percent != 0)
                make_room(t, live_bytes);
            rc = put(t);
            if (rc == 0 && keep_percent != 0)
                touch_some(t);
        }
        rc = rc == -YK_EAGAIN ? 0 : rc < 0 ? failed("put", rc) : 0;
        upkeep(t);
        if (rc == 0 && t->next == before)
            wait(t);
        if (t->next != before)
            stuck = yk_now_ns() + STUCK_NS;
        else if (rc == 0 && yk_now_ns() > stuck)
            rc = failed("takes no more blocks", -YK_ETIMEDOUT);
    }
    t->ttl = 0;
    return rc < 0 ? rc : drain(t);
}
