/* SPDX-License-Identifier: Apache-2.0
 *
 * Puts and gets under way through libyolk's public calls (bench/ssd_priv.h).
 *
 * A block carries its number at both ends, and each get compares: bytes of another block would be a
 * failure of the run, not a fast read. The rest of the payload is the same everywhere, since making it
 * anew for each block would cost as much as the copy that is measured.
 */
#include "bench/ssd_priv.h"

#include "base/clock.h"

#include <stdlib.h>
#include <sys/mman.h>

#define TIMEOUT_MS 30000u

/* ---- sets ----------------------------------------------------------------------------------------- */

int ssd_set_make(struct ssd_set *s, uint64_t first, uint64_t n, uint64_t *random) {
    ssd_set_free(s);
    if (n == 0 || n > UINT32_MAX)
        return -YK_EINVAL;
    s->order = malloc(n * sizeof(*s->order));
    if (s->order == NULL)
        return -YK_ENOMEM;
    s->first = first;
    s->n = n;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t j = yk_random_below(random, i + 1u);
        s->order[i] = s->order[j];
        s->order[j] = i;
    }
    return 0;
}

void ssd_set_free(struct ssd_set *s) {
    free(s->order);
    *s = (struct ssd_set){0};
}

static uint64_t pick(struct ssd_flow *f) {
    if (f->set.n > 0)
        return f->set.first + f->set.order[f->set.at++ % f->set.n];
    uint64_t far = f->far < f->next ? f->far : f->next;
    uint64_t span = far > f->near ? far - f->near : 1;
    return f->next - far + yk_random_below(&f->random, span);
}

/* ---- one block -------------------------------------------------------------------------------------- */

static void stamp(unsigned char *data, uint64_t bytes, uint64_t number) {
    memcpy(data, &number, sizeof(number));
    memcpy(data + bytes - sizeof(number), &number, sizeof(number));
}

static int is_stamped(const unsigned char *data, uint64_t bytes, uint64_t number) {
    return memcmp(data, &number, sizeof(number)) == 0 &&
           memcmp(data + bytes - sizeof(number), &number, sizeof(number)) == 0;
}

static int begin(struct ssd_flow *f, struct ssd_flow_slot *s) {
    s->number = s->is_put ? f->next++ : pick(f);
    yk_rig_key(s->number, s->key);
    if (s->is_put)
        stamp(s->iov.iov_base, f->bytes, s->number);
    s->op = (yk_op){.opcode = s->is_put ? YK_OP_PUT : YK_OP_GET,
                    .key = {s->key, sizeof(s->key)},
                    .iov = &s->iov,
                    .iov_count = 1,
                    .user = s};
    s->start_ns = yk_now_ns();
    int rc = yk_submit(f->c, &s->op, 1, TIMEOUT_MS);
    if (rc < 0)
        return yk_rig_failed(f->c, "submit", rc);
    s->busy = 1;
    f->busy++;
    return 0;
}

static int wrong(const struct ssd_flow_slot *s) {
    fprintf(stderr, "yolk bench: a get of block %llu returned other bytes\n",
            (unsigned long long)s->number);
    return -YK_ECORRUPT;
}

static int ended(struct ssd_flow *f, struct ssd_flow_slot *s, uint64_t now) {
    s->busy = 0;
    f->busy--;
    if (s->op.status == YK_MISS && !s->is_put) {
        f->misses++;
        return 0;
    }
    if (s->op.status != 0)
        return yk_rig_failed(f->c, s->is_put ? "put" : "get", s->op.status);
    if (!s->is_put && (s->op.len != f->bytes || !is_stamped(s->iov.iov_base, f->bytes, s->number)))
        return wrong(s);
    *(s->is_put ? &f->put_bytes : &f->get_bytes) += f->bytes;
    yk_hist_record(s->is_put ? &f->put : &f->get, now - s->start_ns);
    return 0;
}

/* ---- many ------------------------------------------------------------------------------------------- */

int ssd_flow_open(struct ssd_flow *f, yk_client *c, uint64_t bytes, uint32_t puts, uint32_t gets) {
    memset(f, 0, sizeof(*f));
    f->c = c;
    f->bytes = bytes;
    f->puts = puts;
    f->gets = gets;
    f->random = UINT64_C(88172645463325252);
    f->buffers = yk_bench_buffer(FLOW_MAX * bytes);
    if (f->buffers == NULL || puts + gets > FLOW_MAX)
        return -YK_ENOMEM;
    for (uint64_t i = 0; i + sizeof(uint64_t) <= FLOW_MAX * bytes; i += sizeof(uint64_t)) {
        uint64_t word = yk_random(&f->random);
        memcpy(f->buffers + i, &word, sizeof(word));
    }
    for (uint32_t i = 0; i < FLOW_MAX; i++)
        f->slots[i].iov = (struct iovec){f->buffers + i * bytes, bytes};
    return 0;
}

void ssd_flow_close(struct ssd_flow *f) {
    if (f->buffers != NULL)
        munmap(f->buffers, FLOW_MAX * f->bytes);
    f->buffers = NULL;
    ssd_set_free(&f->set);
}

void ssd_flow_reset(struct ssd_flow *f) {
    f->put_bytes = f->get_bytes = f->misses = 0;
    yk_hist_reset(&f->put);
    yk_hist_reset(&f->get);
}

static int reap(struct ssd_flow *f, int again) {
    yk_op *ops[FLOW_MAX];
    int n = yk_poll(f->c, ops, FLOW_MAX, TIMEOUT_MS);
    if (n <= 0)
        return yk_rig_failed(f->c, "poll", n < 0 ? n : -YK_ETIMEDOUT);
    uint64_t now = yk_now_ns();
    int rc = 0;
    for (int i = 0; i < n && rc == 0; i++)
        rc = ended(f, ops[i]->user, now);
    for (int i = 0; i < n && rc == 0 && again; i++)
        rc = begin(f, ops[i]->user);
    return rc;
}

int ssd_flow_run(struct ssd_flow *f, uint64_t until_ns, uint64_t put_bytes) {
    uint64_t goal = f->put_bytes + put_bytes;
    int rc = 0;
    /* Puts stand first, gets behind them. */
    for (uint32_t i = 0; i < f->puts + f->gets && rc == 0; i++) {
        struct ssd_flow_slot *s = &f->slots[i];
        if (s->busy)
            continue;
        s->is_put = i < f->puts;
        rc = begin(f, s);
    }
    while (rc == 0 && yk_now_ns() < until_ns && (put_bytes == 0 || f->put_bytes < goal))
        rc = reap(f, 1);
    return rc;
}

int ssd_flow_drain(struct ssd_flow *f) {
    int rc = 0;
    while (rc == 0 && f->busy > 0)
        rc = reap(f, 0);
    return rc;
}

int ssd_flow_get(struct ssd_flow *f, uint64_t *ret_ns) {
    struct ssd_flow_slot *s = &f->slots[0];
    size_t len = 0;
    s->number = pick(f);
    yk_rig_key(s->number, s->key);
    yk_key key = {s->key, sizeof(s->key)};
    uint64_t start = yk_now_ns();
    int rc = yk_get(f->c, key, s->iov.iov_base, f->bytes, &len);
    *ret_ns = yk_now_ns() - start;
    if (rc < 0)
        return yk_rig_failed(f->c, "get", rc);
    if (rc == 0 && (len != f->bytes || !is_stamped(s->iov.iov_base, f->bytes, s->number)))
        return wrong(s);
    return rc;
}

int ssd_flow_fill(struct ssd_flow *f, const struct ssd_bench *b, struct ssd_node *n) {
    struct ssd_snap snap;
    uint64_t want = b->size + b->dram, have = f->next * f->bytes;
    int rc = have < want ? ssd_flow_run(f, UINT64_MAX, want - have) : 0;
    if (rc == 0)
        rc = ssd_flow_drain(f);
    if (rc == 0)
        rc = ssd_node_idle(n);
    if (rc == 0)
        rc = ssd_node_snap(n, &snap);
    if (rc < 0)
        return rc;
    /* The youngest are in DRAM. Of those on SSD the oldest go while the cleaner makes its reserve. */
    uint64_t young = snap.store.blocks, on_ssd = snap.ssd.blocks / 10u * 9u;
    if (on_ssd <= young || f->next < young + on_ssd) {
        fprintf(stderr, "yolk bench: %llu blocks are on SSD, expected more than DRAM holds\n",
                (unsigned long long)snap.ssd.blocks);
        return -YK_EINTERNAL;
    }
    if (on_ssd * f->bytes < 8 * b->dram && !b->run.opts->quick)
        fprintf(stderr, "yolk bench: the set read is only %.1f times DRAM\n",
                (double)(on_ssd * f->bytes) / (double)b->dram);
    return ssd_set_make(&f->set, f->next - young - on_ssd, on_ssd, &f->random);
}
