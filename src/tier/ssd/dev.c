/* SPDX-License-Identifier: Apache-2.0
 *
 * A device while the tier runs: checkpoints, what happens when it fails, how it comes back.
 *
 *   OK --3 write errors in a row, no space, a failed flush, too few segments--> READ_ONLY
 *   any --vanished, replaced, does not answer--> GONE --found again, ours--> OK, empty
 *
 * A device that is gone misses what is removed meanwhile. So the run's number is raised and written to
 * the others: should this node be opened again with all of them, it has missed a run and comes back
 * empty. While no other device has recorded that, yk_ssd_hole says so, and whatever is removed has to wait
 * (commit.c). Where no other can, the run that the node remembers (yk_ssd_run) is all there is.
 *
 * A checkpoint is written to both slots, one after the other, each with a flush: what a segment with
 * namespace records was freed for is then not lost with one rotten slot.
 *
 * Threads: the owner's.
 */
#include "tier/ssd/ssd_priv.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <yolk/status.h>

#define BATCH_MEM                                                                                  \
    (YK_SSD_ROOM_MAX + YK_SSD_STAGE_BYTES + YK_SSD_BATCH_PUTS * sizeof(struct yk_ssd_bput))

#define CKPT_FAILS_MAX 3u /* in a row: the device cannot say any more what must not be lost */
#define CKPT_RETRY_MS  1000u

#define CLEAN_AHEAD (1ull << 30) /* a second of a fast device */

/* ---- memory ------------------------------------------------------------------------------------------ */

static int batches_mem(struct yk_ssd_dev *d) {
    d->mem_bytes = (uint64_t)YK_SSD_BATCHES * BATCH_MEM + YK_SSD_CLEAN_BUF + 2u * YK_SSD_SECTOR;
    d->mem = mmap(NULL, d->mem_bytes, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (d->mem == MAP_FAILED) {
        d->mem = NULL;
        return -YK_ENOMEM;
    }
    unsigned char *at = d->mem;
    for (uint32_t i = 0; i < YK_SSD_BATCHES; i++) {
        d->batches[i].head = at;
        d->batches[i].stage = at + YK_SSD_ROOM_MAX;
        d->batches[i].puts =
            (struct yk_ssd_bput *)(void *)(at + YK_SSD_ROOM_MAX + YK_SSD_STAGE_BYTES);
        at += BATCH_MEM;
    }
    d->clean.buf = d->mem + yk_ssd_up((uint64_t)(at - d->mem), YK_SSD_SECTOR);
    d->batches_free = YK_SSD_BATCHES;
    return 0;
}

/* How many segments are free when the cleaner rests: a fiftieth, or as much as is written while a flush
 * takes long, but no more than a sixth. */
static uint32_t target_of(const struct yk_ssd_dev *d) {
    uint64_t ahead = CLEAN_AHEAD / d->super.segment_bytes;
    uint64_t n = ahead < d->nseg / 6u ? ahead : d->nseg / 6u;
    if (n < d->nseg / 50u)
        n = d->nseg / 50u;
    return n > d->reserve ? (uint32_t)n : d->reserve + 1u;
}

int yk_ssd_dev_mem(struct yk_ssd_dev *d) {
    d->wreq_count = 64u + (uint32_t)(d->super.segment_bytes / YK_FILE_BYTES);
    d->wreqs = calloc(d->wreq_count, sizeof(*d->wreqs));
    d->freeq = calloc(d->nseg, sizeof(*d->freeq));
    d->seq_heads = calloc(d->nseg, sizeof(*d->seq_heads));
    d->clean.moves = calloc(YK_SSD_CLEAN_READS, sizeof(*d->clean.moves));
    if (d->wreqs == NULL || d->freeq == NULL || d->seq_heads == NULL || d->clean.moves == NULL)
        return -YK_ENOMEM;
    for (uint32_t i = 0; i < d->wreq_count; i++) {
        d->wreqs[i].next_free = d->wreq_free;
        d->wreq_free = &d->wreqs[i];
    }
    d->wreqs_free = d->wreq_count;
    d->room_want = YK_SSD_SECTOR;
    d->reserve = d->nseg > 8 ? 2 : 1;
    d->target = target_of(d);
    d->low = d->reserve + 1u + (d->target - d->reserve - 1u) / 2u;
    return batches_mem(d);
}

void yk_ssd_dev_free(struct yk_ssd_dev *d) {
    if (d == NULL)
        return;
    if (d->mem != NULL)
        munmap(d->mem, d->mem_bytes);
    for (uint32_t i = 0; i < YK_SSD_OPENS; i++)
        free(d->opens[i].foot);
    yk_ssd_scan_free(&d->clean.scan);
    for (uint32_t i = 0; i < YK_SSD_CLEAN_GROUP; i++)
        free(d->clean.v[i].recs);
    free(d->clean.moves);
    free(d->wreqs);
    free(d->freeq);
    free(d->seq_heads);
    free(d->back);
    free(d->ckpt_buf);
    free(d);
}

void yk_ssd_dev_segments_reset(struct yk_ssd_dev *d) {
    memset(d->segs, 0, d->nseg * sizeof(*d->segs));
    memset(d->seq_heads, 0, d->nseg * sizeof(*d->seq_heads));
    d->free_head = d->free_count = 0;
    for (uint32_t i = 0; i < d->nseg; i++) {
        d->segs[i].dev = d->index;
        yk_seg_free_push(d, i);
    }
}

/* ---- checkpoints --------------------------------------------------------------------------------------- */

static void ckpt_done(struct yk_ssd_dev *d, struct yk_ssd_script *s) {
    if (s->status < 0) {
        d->ckpt_at_ms = yk_now_ns() / YK_NS_PER_MS + CKPT_RETRY_MS;
        d->ckpt_wear = 0;
        if (++d->ckpt_fails >= CKPT_FAILS_MAX)
            yk_ssd_dev_read_only(d, "its checkpoints cannot be written");
        return;
    }
    d->ckpt_fails = 0;
    d->ckpt_ns_gen = d->ckpt_ns_gen_next;
    d->ckpt_run = d->ckpt_run_next;
    d->ckpt_clock = d->ckpt_clock_next;
    YK_SSD_ADD(d->ssd->c.checkpoints, 1);
}

/* Two slots with one content; the one that holds the older checkpoint goes first. */
static void ckpt_fill(struct yk_ssd_dev *d, struct yk_ssd_script *s, int started, int clean) {
    struct yk_ssd *ssd = d->ssd;
    struct yk_ssd_ckpt c = {.uid = d->super.uid,
                            .run = ssd->run,
                            .clock_ms = ssd->clock_ms,
                            .gen_max = ssd->gen,
                            .ns_gen = ssd->ns_gen,
                            .wear_bytes = d->wear_bytes,
                            .started = started ? ssd->run : ssd->started,
                            .clean = (uint8_t)clean};
    memcpy(c.ns, ssd->ns, sizeof(c.ns));
    d->ckpt_ns_gen_next = ssd->ns_gen;
    d->ckpt_run_next = ssd->run;
    d->ckpt_clock_next = ssd->clock_ms;
    d->ckpt_want = 0;
    for (uint32_t i = 0; i < 2; i++) {
        unsigned char *slot = d->ckpt_buf + (size_t)i * YK_SSD_CKPT_BYTES;
        c.seq = ++d->ckpt_seq;
        yk_ssd_ckpt_put(slot, &c);
        yk_ssd_script_add(s, YK_FILE_WRITE, YK_SSD_CKPT_AT(c.seq % 2), slot, YK_SSD_CKPT_BYTES);
        yk_ssd_script_add(s, YK_FILE_FLUSH, 0, NULL, 0);
    }
}

void yk_ssd_ckpt_start(struct yk_ssd_dev *d, int started, int clean) {
    d->ckpt.n = 0;
    ckpt_fill(d, &d->ckpt, started, clean);
    yk_ssd_script_start(d, &d->ckpt, ckpt_done);
}

int yk_ssd_ckpt_wait(struct yk_ssd_dev *d, int started, int clean) {
    d->ckpt.n = 0;
    ckpt_fill(d, &d->ckpt, started, clean);
    int rc = yk_ssd_script_wait(d, &d->ckpt);
    ckpt_done(d, &d->ckpt);
    return rc;
}

void yk_ssd_ckpt_pump(struct yk_ssd_dev *d) {
    if (!d->ckpt_want || d->state != YK_SSD_DEV_OK || d->ckpt.busy || d->ssd->closing)
        return;
    /* Its own bytes are no reason for the next one: an idle device would get one every 30 s. */
    d->ckpt_wear = d->wear_bytes + 2u * YK_SSD_CKPT_BYTES;
    yk_ssd_ckpt_start(d, 1, 0);
}

/* ---- failing --------------------------------------------------------------------------------------------- */

static void stop_writing(struct yk_ssd_dev *d, enum yk_ssd_dev_state state, const char *what,
                         const char *why) {
    uint64_t waits = yk_ssd_dev_waits(d);
    if (d->broken_from == 0)
        d->broken_from = waits != 0 ? waits : d->ssd->ticket + 1;
    d->state = (uint8_t)state;
    d->tk_done = d->tk_flush = 0;
    d->back_at = d->back_len = d->back_ticket = 0;
    d->flush_want = d->flush_started = d->flush_done;
    for (uint32_t i = 0; i < YK_SSD_BATCHES; i++)
        d->batches[i].ticket_min = 0;
    snprintf(d->note, sizeof(d->note), "%.120s: %s: %s", d->path, what, why);
}

void yk_ssd_dev_read_only(struct yk_ssd_dev *d, const char *why) {
    if (d->state == YK_SSD_DEV_OK)
        stop_writing(d, YK_SSD_DEV_READ_ONLY, "read-only from now on", why);
}

void yk_ssd_dev_gone(struct yk_ssd_dev *d, const char *why) {
    struct yk_ssd *ssd = d->ssd;
    if (d->state == YK_SSD_DEV_GONE)
        return;
    stop_writing(d, YK_SSD_DEV_GONE, "gone", why);
    ssd->broken_any = 1;
    ssd->sweep_left = ssd->table.top;
    d->ret_at_ms = yk_now_ns() / YK_NS_PER_MS + YK_SSD_RETURN_MS;
    d->gone_run = ++ssd->run;
    if (ssd->begun && !ssd->closing && ssd->o.on_run != NULL) /* before any device has it */
        ssd->o.on_run(ssd->o.arg, ssd->run, 0);
    for (uint32_t i = 0; i < ssd->ndev; i++)
        ssd->devs[i]->ckpt_want = 1;
}

int yk_ssd_hole(const struct yk_ssd *ssd) {
    int gone = 0;
    for (uint32_t i = 0; i < ssd->ndev; i++) {
        const struct yk_ssd_dev *d = ssd->devs[i];
        if (d->state != YK_SSD_DEV_GONE && d->ckpt_run == ssd->run)
            return 0;
        gone |= d->state == YK_SSD_DEV_GONE;
    }
    return gone;
}

int yk_ssd_hole_closes(const struct yk_ssd *ssd) {
    int ok = 0;
    for (uint32_t i = 0; i < ssd->ndev && ssd->broken_any; i++)
        ok |= ssd->devs[i]->state == YK_SSD_DEV_OK;
    return ok && yk_ssd_hole(ssd);
}

int yk_ssd_gone_recorded(const struct yk_ssd_dev *d) {
    const struct yk_ssd *ssd = d->ssd;
    for (uint32_t i = 0; i < ssd->ndev; i++)
        if (ssd->devs[i]->state != YK_SSD_DEV_GONE && ssd->devs[i]->ckpt_run >= d->gone_run)
            return 1;
    return 0;
}

/* ---- coming back -------------------------------------------------------------------------------------------- */

static void return_later(struct yk_ssd_dev *d) {
    d->ret_state = RETURN_NO;
    d->ret_at_ms = yk_now_ns() / YK_NS_PER_MS + YK_SSD_RETURN_MS;
    d->ops->close(d->io);
    d->io = NULL;
}

static void return_written(struct yk_ssd_dev *d, struct yk_ssd_script *s) {
    struct yk_ssd *ssd = d->ssd;
    d->ret_state = RETURN_NO;
    if (s->status < 0) {
        return_later(d);
        return;
    }
    ckpt_done(d, s);
    yk_ssd_dev_segments_reset(d);
    d->write_errors = 0;
    d->broken_from = 0; /* what was to be removed from it is not there any more */
    d->state = YK_SSD_DEV_OK;
    d->ops->mem_ready(d->io, ssd->mem_ready);
    snprintf(d->note, sizeof(d->note), "%.120s: came back, and was emptied", d->path);
    ssd->broken_any = 0;
    for (uint32_t i = 0; i < ssd->ndev; i++)
        ssd->broken_any |= ssd->devs[i]->state == YK_SSD_DEV_GONE;
}

/* It has its superblock still: a new uid makes all of it unknown. */
static void return_read(struct yk_ssd_dev *d, struct yk_ssd_script *s) {
    struct yk_ssd_super super;
    uint32_t version;
    if (s->status < 0 || yk_ssd_super_get(d->ckpt_buf, &super, &version) < 0 ||
        super.uid != d->super.uid || super.size_bytes != d->super.size_bytes) {
        if (s->status == 0)
            snprintf(d->note, sizeof(d->note),
                     "%.120s: something else stands there now; it is left alone", d->path);
        return_later(d);
        return;
    }
    d->super.uid = yk_ssd_random();
    s->n = 0;
    yk_ssd_super_write(d, s);
    ckpt_fill(d, s, 1, 0);
    d->ret_state = RETURN_WRITE;
    yk_ssd_script_start(d, s, return_written);
}

static int is_quiet(const struct yk_ssd_dev *d) {
    int opens = 0;
    for (uint32_t i = 0; i < YK_SSD_OPENS; i++)
        opens |= d->opens[i].used;
    return d->busy_count == 0 && d->fifo == NULL && d->live == 0 && !opens && !d->ckpt.busy &&
           d->clean.state == CLEAN_IDLE;
}

static void return_try(struct yk_ssd_dev *d) {
    struct yk_file_info info;
    d->ops->close(d->io);
    d->io = NULL;
    if (yk_ssd_dev_open_io(d, 1, NULL) < 0) {
        d->ret_at_ms = yk_now_ns() / YK_NS_PER_MS + YK_SSD_RETURN_MS;
        return;
    }
    d->ops->info(d->io, &info);
    yk_ssd_dev_look(d, &info);
    if (info.size_bytes < d->super.size_bytes) {
        return_later(d);
        return;
    }
    d->ret.n = 0;
    yk_ssd_script_add(&d->ret, YK_FILE_READ, YK_SSD_SUPER_AT(0), d->ckpt_buf, YK_SSD_SECTOR);
    d->ret_state = RETURN_READ;
    yk_ssd_script_start(d, &d->ret, return_read);
}

/* ---- what others see of it ------------------------------------------------------------------------------------ */

void yk_ssd_dev_look(struct yk_ssd_dev *d, const struct yk_file_info *info) {
    d->direct = info->direct;
    d->fixed_file = info->fixed_file;
    d->fixed_mem = info->fixed_mem;
    d->fixed_bytes = info->fixed_bytes;
    memcpy(d->io_note, info->note, sizeof(d->io_note));
}

static const char *cleaner_name(uint8_t state) {
    static const char *const names[] = {
        [CLEAN_IDLE] = "idle",       [CLEAN_META] = "meta",     [CLEAN_READ] = "read",
        [CLEAN_WRITE] = "write",     [CLEAN_OTHERS] = "others", [CLEAN_BARRIER] = "barrier",
        [CLEAN_CKPT] = "checkpoint", [CLEAN_ZERO] = "zero",     [CLEAN_FLUSH] = "flush",
        [CLEAN_DROP] = "drop",       [CLEAN_SWEEP] = "sweep",   [CLEAN_REFS] = "refs",
        [CLEAN_DISCARD] = "discard",
    };
    return state < sizeof(names) / sizeof(names[0]) ? names[state] : "";
}

void yk_ssd_dev_show(const struct yk_ssd_dev *d, struct yk_ssd_dev_stats *to) {
    snprintf(to->cleaner, sizeof(to->cleaner), "%s", cleaner_name(d->clean.state));
    to->stalled_ms = d->stalled_ms;
    memcpy(to->path, d->path, sizeof(to->path));
    memcpy(to->note, d->note, sizeof(to->note));
    memcpy(to->io_note, d->io_note, sizeof(to->io_note));
    to->state = d->state;
    to->direct = d->direct;
    to->fixed_file = d->fixed_file;
    to->fixed_mem = d->fixed_mem;
    to->fixed_bytes = d->fixed_bytes;
    to->size_bytes = d->super.size_bytes;
    to->segment_bytes = d->super.segment_bytes;
    to->segments = d->nseg;
    to->segments_free = d->free_count;
    to->live_bytes = d->live_bytes;
    to->wear_bytes = d->wear_bytes;
    memset(&to->io, 0, sizeof(to->io));
    if (d->io != NULL)
        d->ops->stats(d->io, &to->io);
}

/* ---- now and then --------------------------------------------------------------------------------------------- */

void yk_ssd_dev_tick(struct yk_ssd_dev *d) {
    uint64_t now = yk_now_ns() / YK_NS_PER_MS;
    struct yk_file_info info;
    if (d->state != YK_SSD_DEV_GONE && now >= d->check_at_ms) {
        d->check_at_ms = now + 1000;
        d->ops->info(d->io, &info);
        yk_ssd_dev_look(d, &info);
        d->stalled_ms = d->ops->stalled(d->io);
        if (d->ops->check(d->io) == -YK_EGONE)
            yk_ssd_dev_gone(d, "its file was removed, replaced or cut short");
        else if (d->stalled_ms >= YK_FILE_STALL_MS)
            yk_ssd_dev_gone(d, "it did not answer for 30 s");
    }
    yk_seg_retry(d);
    if (now >= d->ckpt_at_ms && d->wear_bytes != d->ckpt_wear) {
        d->ckpt_at_ms = now + YK_SSD_CKPT_MS;
        d->ckpt_want = 1;
    }
    if (d->state == YK_SSD_DEV_GONE && d->ret_state == RETURN_NO && now >= d->ret_at_ms &&
        is_quiet(d))
        return_try(d);
}
