/* SPDX-License-Identifier: Apache-2.0
 *
 * The log of removes: changes, and the pieces of work that make them durable (rlog.h, rlog_priv.h).
 *
 * Compaction goes along with the work: each piece brings to the new file the records of the meantime and then the state
 * of some slots, which is of after those records. So what is read of the new file in order is right: records of a
 * slot before its state stands there are undone by that, those behind it belong to it.
 *
 * Threads: as rlog.h says.
 */
#include "dir/rlog_priv.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PIECE      (256u << 10) /* bytes of state with a piece of work, about */
#define TRIM_ONCE  1000u        /* removes */
#define MORE(a, b) ((a) == 0 ? (b) : (a))

static void opts_fill(struct yk_dir_rlog_opts *o) {
    o->keep_removes = MORE(o->keep_removes, 1000);
    o->keep_s = MORE(o->keep_s, 3600);
    o->max_kept_bytes = MORE(o->max_kept_bytes, 64u << 20);
    o->max_bytes = MORE(o->max_bytes, 256u << 20);
    o->max_buffer = MORE(o->max_buffer, 16u << 20);
    o->compact_min = MORE(o->compact_min, 4u << 20);
}

static int slot_is_empty(const struct rlog_slot *s) {
    return s->seen == 0 && s->led == 0 && s->last.term == 0 && s->base.term == 0 && s->count == 0 && !s->lost;
}

/* How large a file with nothing but the state is, about. */
static uint64_t alive_bytes(const struct yk_dir_rlog *log) {
    uint64_t bytes = RLOG_HEAD;
    for (uint32_t i = 0; i < YK_DIR_SLOTS; i++)
        if (!slot_is_empty(&log->slot[i]))
            bytes += RLOG_RECORD + rlog_state_bytes(&log->slot[i]);
    return bytes;
}

static int paths_make(struct yk_dir_rlog *log, const char *path) {
    size_t len = strlen(path) + sizeof(".new");
    log->path = strdup(path);
    log->new_path = malloc(len);
    if (log->path == NULL || log->new_path == NULL)
        return -YK_ENOMEM;
    snprintf(log->new_path, len, "%s.new", path);
    return 0;
}

static int image_append(struct rlog_file *file, const void *data, size_t len) {
    int rc = rlog_buf_need(&file->image, len);
    if (rc == 0 && len > 0)
        memcpy(file->image.data + file->image.len, data, len);
    if (rc == 0)
        file->image.len += len;
    return rc;
}

static int image_open(struct yk_dir_rlog *log, const struct yk_dir_rlog_opts *o, struct yk_dir_rlog_report *report,
                      struct yk_err *err) {
    unsigned char head[RLOG_HEAD];
    size_t last, end = sizeof(head);
    const void *from = o->image;
    if (from == NULL) {
        report->created = 1;
        log->file.id = rlog_id();
        log->file.number = 1;
        log->file.bytes = RLOG_HEAD;
        rlog_head_put(head, log->file.id);
        from = head;
    } else {
        int rc = rlog_load(log, from, o->image_len, &last, &end, report, err);
        if (rc != 0)
            return rc;
    }
    return image_append(&log->file, from, end) == 0 ? 0 : yk_err_set(err, -YK_ENOMEM, "no memory");
}

int yk_dir_rlog_open(const struct yk_dir_rlog_opts *opts, struct yk_dir_rlog **ret_log,
                     struct yk_dir_rlog_report *ret_report, struct yk_err *err) {
    struct yk_dir_rlog_report report = {0};
    struct yk_dir_rlog *log = calloc(1, sizeof(*log));
    if (log == NULL)
        return yk_err_set(err, -YK_ENOMEM, "no memory");
    log->opts = *opts;
    log->opts.path = NULL;
    log->opts.image = NULL;
    opts_fill(&log->opts);
    log->file.fd = log->fresh.fd = log->dir_fd = -1;
    int rc = opts->path != NULL ? paths_make(log, opts->path) : 0;
    if (rc == 0 && (rc = rlog_buf_need(&log->fill, RLOG_FRAME)) == 0) {
        log->fill.len = RLOG_FRAME;
        rc = opts->path != NULL ? rlog_file_open(log, &report, err) : image_open(log, opts, &report, err);
    } else {
        yk_err_set(err, rc, "no memory");
    }
    if (rc != 0) {
        yk_dir_rlog_close(log);
        return rc;
    }
    log->compact_soon = report.rotten > 0;
    log->settled = alive_bytes(log);
    if (ret_report != NULL)
        *ret_report = report;
    *ret_log = log;
    return 0;
}

void yk_dir_rlog_close(struct yk_dir_rlog *log) {
    if (log == NULL)
        return;
    for (uint32_t i = 0; i < YK_DIR_SLOTS; i++)
        rlog_slot_fini(log, &log->slot[i]);
    int fds[] = {log->file.fd, log->fresh.fd, log->dir_fd};
    for (int i = 0; i < 3; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    free(log->file.image.data);
    free(log->fresh.image.data);
    free(log->fill.data);
    free(log->frame.data);
    free(log->copy.data);
    free(log->path);
    free(log->new_path);
    free(log);
}

int yk_dir_rlog_terms(const char *path, uint64_t ret_terms[YK_DIR_SLOTS], struct yk_err *err) {
    struct yk_dir_rlog_opts o = {.path = path};
    struct yk_dir_rlog *log = NULL;
    memset(ret_terms, 0, YK_DIR_SLOTS * sizeof(ret_terms[0]));
    if (access(path, F_OK) != 0 && errno == ENOENT)
        return 0; /* to open it would make one */
    int rc = yk_dir_rlog_open(&o, &log, NULL, err);
    for (uint32_t i = 0; rc == 0 && i < YK_DIR_SLOTS; i++)
        ret_terms[i] = log->slot[i].seen;
    yk_dir_rlog_close(log);
    return rc;
}

/* ---- changes ------------------------------------------------------------------------------------ */

/* A change: its record, with a body of len bytes, is written between begin and end, and done by end. */
static int change_begin(struct yk_dir_rlog *log, uint32_t slot, unsigned type, size_t len, struct yk_wr *ret_body) {
    if (slot >= YK_DIR_SLOTS)
        return -YK_EINVAL;
    if (log->failed != 0)
        return -YK_EIO;
    /* One that is larger than the buffer has it for itself. */
    if (log->fill.len > RLOG_FRAME && log->fill.len + RLOG_RECORD + len > log->opts.max_buffer)
        return -YK_EAGAIN;
    return rlog_record_begin(&log->fill, slot, type, len, ret_body);
}

static int change_end(struct yk_dir_rlog *log, uint32_t slot, unsigned type, size_t len, uint64_t *ret_ticket) {
    int rc = rlog_apply(log, slot, type, log->fill.data + log->fill.len + RLOG_RECORD, len);
    if (rc != 0)
        return rc == -YK_EPROTO ? -YK_EINVAL : rc;
    rlog_record_end(&log->fill, len);
    log->tickets++;
    if (ret_ticket != NULL)
        *ret_ticket = log->tickets;
    return 0;
}

static int change_number(struct yk_dir_rlog *log, uint32_t slot, unsigned type, const struct yk_dir_num *num,
                         size_t len, uint64_t *ret_ticket) {
    struct yk_wr w;
    int rc = change_begin(log, slot, type, len, &w);
    if (rc != 0)
        return rc;
    yk_wr_u64(&w, num->term);
    if (len > 8)
        yk_wr_u64(&w, num->rseq);
    return change_end(log, slot, type, len, ret_ticket);
}

static int change_term(struct yk_dir_rlog *log, uint32_t slot, unsigned type, uint64_t known, uint64_t term,
                       uint64_t *ret_ticket) {
    if (term <= known) {
        if (ret_ticket != NULL)
            *ret_ticket = 0;
        return log->failed != 0 ? -YK_EIO : 0;
    }
    struct yk_dir_num num = {term, 0};
    return change_number(log, slot, type, &num, 8, ret_ticket);
}

int yk_dir_rlog_seen(struct yk_dir_rlog *log, uint32_t slot, uint64_t term, uint64_t *ret_ticket) {
    uint64_t known = slot < YK_DIR_SLOTS ? log->slot[slot].seen : 0;
    return change_term(log, slot, RLOG_SEEN, known, term, ret_ticket);
}

int yk_dir_rlog_led(struct yk_dir_rlog *log, uint32_t slot, uint64_t term, uint64_t *ret_ticket) {
    uint64_t known = slot < YK_DIR_SLOTS ? log->slot[slot].led : 0;
    return change_term(log, slot, RLOG_LED, known, term, ret_ticket);
}

/* May it be one of this slot's removes? */
static int remove_check(const struct yk_dir_remove *r, uint32_t slot) {
    return r->key.key_len == 0 || r->key.key_len > 255 || r->key.ns_len > YK_DIR_NS_MAX ||
                   yk_dir_slot_of(r->hash) != slot || r->origin.term == 0
               ? -YK_EINVAL
               : 0;
}

static int room_check(const struct yk_dir_rlog *log, const struct rlog_slot *s, uint32_t more, uint64_t bytes) {
    return s->count + more > YK_DIR_RLOG_REMOVES_MAX || log->remove_bytes + bytes > log->opts.max_bytes ? -YK_ELIMIT
                                                                                                        : 0;
}

static int change_remove(struct yk_dir_rlog *log, unsigned type, const struct yk_dir_remove *r, uint64_t now_s,
                         uint64_t *ret_ticket) {
    uint32_t slot = yk_dir_slot_of(r->hash);
    size_t len = rlog_remove_bytes(r);
    struct yk_dir_remove stamped = *r;
    stamped.time_s = r->time_s != 0 ? r->time_s : now_s;
    struct yk_wr w;
    int rc = change_begin(log, slot, type, len, &w);
    if (rc != 0)
        return rc;
    rlog_remove_put(&w, &stamped);
    return change_end(log, slot, type, len, ret_ticket);
}

int yk_dir_rlog_remove(struct yk_dir_rlog *log, const struct yk_dir_remove *r, uint64_t now_s, uint64_t *ret_ticket) {
    uint32_t slot = yk_dir_slot_of(r->hash);
    const struct rlog_slot *s = &log->slot[slot];
    int rc = remove_check(r, slot);
    if (rc == 0 && yk_dir_num_cmp(r->num, s->last) <= 0)
        rc = -YK_EINVAL;
    if (rc == 0 && !yk_dir_rlog_has(log, slot, r->origin))
        rc = room_check(log, s, 1, sizeof(struct rlog_remove) + r->key.ns_len + r->key.key_len);
    return rc != 0 ? rc : change_remove(log, RLOG_REMOVE, r, now_s, ret_ticket);
}

int yk_dir_rlog_merge(struct yk_dir_rlog *log, const struct yk_dir_remove *r, uint64_t now_s, uint64_t *ret_ticket) {
    uint32_t slot = yk_dir_slot_of(r->hash);
    int rc = remove_check(r, slot);
    if (rc != 0)
        return rc;
    if (yk_dir_rlog_has(log, slot, r->origin))
        return YK_MISS;
    rc = room_check(log, &log->slot[slot], 1, sizeof(struct rlog_remove) + r->key.ns_len + r->key.key_len);
    return rc != 0 ? rc : change_remove(log, RLOG_MERGE, r, now_s, ret_ticket);
}

int yk_dir_rlog_renumber(struct yk_dir_rlog *log, uint32_t slot, uint64_t term, uint64_t *ret_ticket) {
    if (slot >= YK_DIR_SLOTS || term <= log->slot[slot].last.term)
        return -YK_EINVAL;
    struct yk_dir_num num = {term, 0};
    return change_number(log, slot, RLOG_RENUMBER, &num, 8, ret_ticket);
}

int yk_dir_rlog_replace(struct yk_dir_rlog *log, uint32_t slot, const struct yk_dir_rlog_slot *state,
                        const struct yk_dir_remove *removes, uint32_t count, uint64_t now_s, uint64_t *ret_ticket) {
    if (slot >= YK_DIR_SLOTS)
        return -YK_EINVAL;
    const struct rlog_slot *s = &log->slot[slot];
    /* Whole, terms included: whoever reads it needs nothing of before. */
    struct rlog_slot none = {.seen = state->seen > s->seen ? state->seen : s->seen,
                             .led = state->led > s->led ? state->led : s->led,
                             .last = state->last,
                             .base = state->base,
                             .forgot = state->forgot};
    size_t len = rlog_state_bytes(&none);
    uint64_t bytes = 0;
    if (count > YK_DIR_RLOG_REMOVES_MAX)
        return -YK_ELIMIT;
    for (uint32_t i = 0; i < count; i++) {
        int rc = remove_check(&removes[i], slot);
        if (rc != 0)
            return rc;
        len += rlog_remove_bytes(&removes[i]);
        bytes += sizeof(struct rlog_remove) + removes[i].key.ns_len + removes[i].key.key_len;
    }
    int rc = room_check(log, &none, count, bytes);
    struct yk_wr w;
    if (rc != 0 || (rc = change_begin(log, slot, RLOG_STATE, len, &w)) != 0)
        return rc;
    unsigned char *counted = w.at + rlog_state_bytes(&none) - 4;
    rlog_state_put(&w, &none);
    for (int i = 0; i < 4; i++)
        counted[i] = (unsigned char)(count >> 8 * i);
    for (uint32_t i = 0; i < count; i++) {
        struct yk_dir_remove stamped = removes[i];
        stamped.time_s = stamped.time_s != 0 ? stamped.time_s : now_s;
        rlog_remove_put(&w, &stamped);
    }
    return change_end(log, slot, RLOG_STATE, len, ret_ticket);
}

/* ---- forgetting --------------------------------------------------------------------------------- */

void yk_dir_rlog_done(struct yk_dir_rlog *log, uint32_t slot, struct yk_dir_num num) {
    struct rlog_slot *s = slot < YK_DIR_SLOTS ? &log->slot[slot] : NULL;
    if (s != NULL && yk_dir_num_cmp(s->done, num) < 0)
        s->done = num;
}

/* How many of the slot's first may go, and must, at most max of them. */
static uint32_t trim_count(const struct yk_dir_rlog *log, const struct rlog_slot *s, uint64_t now_s, uint32_t max) {
    uint32_t n = 0;
    uint64_t freed = 0;
    for (; n < s->count && n < max; n++) {
        const struct rlog_remove *r = s->removes[n];
        int much = s->count - n > log->opts.keep_removes || log->remove_bytes - freed > log->opts.max_kept_bytes;
        int old = now_s >= log->opts.keep_s && r->time_s <= now_s - log->opts.keep_s;
        if (yk_dir_num_cmp(r->num, s->done) > 0 || (!much && !old))
            break;
        freed += sizeof(*r) + r->ns_len + r->key_len;
    }
    return n;
}

int yk_dir_rlog_trim(struct yk_dir_rlog *log, uint64_t now_s) {
    uint32_t left = TRIM_ONCE;
    for (uint32_t i = 0; i < YK_DIR_SLOTS && left > 0; i++) {
        uint32_t slot = (log->trim_at + i) % YK_DIR_SLOTS;
        const struct rlog_slot *s = &log->slot[slot];
        uint32_t n = trim_count(log, s, now_s, left);
        if (n == 0)
            continue;
        struct yk_dir_num num = s->removes[n - 1]->num;
        int rc = change_number(log, slot, RLOG_FORGET, &num, 16, NULL);
        if (rc != 0)
            return rc;
        left -= n;
        if (left == 0)
            log->trim_at = slot;
    }
    return left == 0;
}

/* ---- looking ------------------------------------------------------------------------------------ */

void yk_dir_rlog_slot(const struct yk_dir_rlog *log, uint32_t slot, struct yk_dir_rlog_slot *ret) {
    const struct rlog_slot *s = &log->slot[slot % YK_DIR_SLOTS];
    *ret = (struct yk_dir_rlog_slot){s->seen, s->led, s->last, s->base, s->forgot, s->count, s->lost};
}

int yk_dir_rlog_has(const struct yk_dir_rlog *log, uint32_t slot, struct yk_dir_num origin) {
    const struct rlog_slot *s = &log->slot[slot % YK_DIR_SLOTS];
    return yk_dir_num_cmp(origin, s->forgot) <= 0 || rlog_origin(s, origin) < s->count;
}

int yk_dir_rlog_next(const struct yk_dir_rlog *log, uint32_t slot, struct yk_dir_num after,
                     struct yk_dir_remove *ret) {
    const struct rlog_slot *s = &log->slot[slot % YK_DIR_SLOTS];
    uint32_t at = rlog_above(s, after);
    if (at == s->count)
        return 0;
    rlog_remove_tell(s->removes[at], ret);
    return 1;
}

int yk_dir_rlog_removed(const struct yk_dir_rlog *log, const struct yk_dir_key *key, uint64_t hash,
                        struct yk_dir_num after) {
    const struct rlog_slot *s = &log->slot[yk_dir_slot_of(hash)];
    for (uint32_t i = rlog_above(s, after); i < s->count; i++) {
        const struct rlog_remove *r = s->removes[i];
        if (r->hash == hash && r->gen == 0 && r->ns_len == key->ns_len && r->key_len == key->key_len &&
            (key->ns_len == 0 || memcmp(r->bytes, key->ns, key->ns_len) == 0) &&
            memcmp(r->bytes + r->ns_len, key->key, key->key_len) == 0)
            return 1;
    }
    return 0;
}

/* ---- making it durable -------------------------------------------------------------------------- */

/* The new file's part of a piece: [its head,] the records of the other part, some slots. */
static int compact_piece(struct yk_dir_rlog *log) {
    struct rlog_buf *c = &log->copy;
    size_t records = log->frame.len - RLOG_FRAME;
    c->len = 0;
    int rc = rlog_buf_need(c, RLOG_FRAME + records);
    if (rc != 0)
        return rc;
    if (records > 0)
        memcpy(c->data + RLOG_FRAME, log->frame.data + RLOG_FRAME, records);
    c->len = RLOG_FRAME + records;
    size_t from = c->len;
    for (; log->compact_at < YK_DIR_SLOTS && c->len - from < PIECE; log->compact_at++) {
        const struct rlog_slot *s = &log->slot[log->compact_at];
        if (slot_is_empty(s))
            continue;
        struct yk_wr w;
        size_t len = rlog_state_bytes(s);
        if ((rc = rlog_record_begin(c, log->compact_at, RLOG_STATE, len, &w)) != 0)
            return rc;
        rlog_state_put(&w, s);
        rlog_record_end(c, len);
    }
    rlog_frame_put(c, &log->fresh);
    return 0;
}

static void compact_start(struct yk_dir_rlog *log) {
    log->compacting = 1;
    log->compact_soon = 0;
    log->compact_at = 0;
    log->fresh.id = rlog_id();
    log->fresh.number = 1;
    log->fresh.bytes = 0;
    log->fresh.image.len = 0;
}

/* The first piece has the file's head before its frame. */
static int compact_head(struct yk_dir_rlog *log) {
    struct rlog_buf *c = &log->copy;
    int rc = rlog_buf_need(c, RLOG_HEAD);
    if (rc != 0)
        return rc;
    memmove(c->data + RLOG_HEAD, c->data, c->len);
    rlog_head_put(c->data, log->fresh.id);
    c->len += RLOG_HEAD;
    return 0;
}

static int begin_failed(struct yk_dir_rlog *log, int rc) {
    log->failed = rc;
    snprintf(log->text, sizeof(log->text), "no memory to compact the log of removes");
    return -YK_EIO;
}

int yk_dir_rlog_begin(struct yk_dir_rlog *log, struct yk_dir_rlog_io *ret_io) {
    if (log->failed != 0)
        return -YK_EIO;
    if (log->io_busy)
        return 0;
    if (!log->compacting && (log->compact_soon || (log->file.bytes >= log->opts.compact_min &&
                                                   log->file.bytes >= 2 * log->settled)))
        compact_start(log);
    if (log->fill.len == RLOG_FRAME && !log->compacting)
        return 0;
    int rc = rlog_buf_need(&log->frame, RLOG_FRAME);
    if (rc != 0)
        return begin_failed(log, rc);
    struct rlog_buf spare = log->frame;
    log->frame = log->fill;
    log->fill = spare;
    log->fill.len = RLOG_FRAME;
    size_t records = log->frame.len - RLOG_FRAME;
    if (log->compacting && ((rc = compact_piece(log)) != 0 ||
                            (log->fresh.bytes == 0 && (rc = compact_head(log)) != 0)))
        return begin_failed(log, rc);
    rlog_frame_put(&log->frame, &log->file);
    *ret_io = (struct yk_dir_rlog_io){.ticket = log->tickets,
                                      .fd = log->file.fd,
                                      .data = log->frame.data,
                                      .len = records > 0 ? log->frame.len : 0,
                                      .offset = log->file.bytes,
                                      .new_fd = log->fresh.fd,
                                      .dir_fd = log->dir_fd};
    if (log->compacting) {
        ret_io->new_path = log->new_path != NULL ? log->new_path : "";
        ret_io->path = log->compact_at == YK_DIR_SLOTS && log->path != NULL ? log->path : NULL;
        ret_io->new_data = log->copy.data;
        ret_io->new_len = log->copy.len;
        ret_io->new_offset = log->fresh.bytes;
    }
    log->io_busy = 1;
    return 1;
}

static void compact_end(struct yk_dir_rlog *log, const struct yk_dir_rlog_io *io) {
    log->fresh.fd = io->new_fd;
    log->fresh.bytes += io->new_len;
    log->fresh.number++;
    if (log->compact_at < YK_DIR_SLOTS)
        return;
    /* The old file was closed with its last piece; the old image serves the next compaction. */
    struct rlog_buf image = log->file.image;
    log->file = log->fresh;
    log->fresh = (struct rlog_file){.fd = -1, .image = image};
    log->settled = log->file.bytes;
    log->compacting = 0;
    log->compactions++;
}

int yk_dir_rlog_end(struct yk_dir_rlog *log, const struct yk_dir_rlog_io *io, struct yk_err *err) {
    int rc = io->status;
    log->io_busy = 0;
    if (rc == 0 && log->path == NULL && (image_append(&log->file, io->data, io->len) != 0 ||
                                         image_append(&log->fresh, io->new_data, io->new_len) != 0))
        rc = -YK_ENOMEM;
    if (rc != 0) {
        log->fresh.fd = io->new_fd;
        log->failed = rc;
        snprintf(log->text, sizeof(log->text), "%s", io->text);
        return yk_err_set(err, rc, "the log of removes has failed: %s", io->text);
    }
    if (io->len > 0) {
        log->file.bytes += io->len;
        log->file.number++;
        log->syncs++;
    }
    if (log->compacting)
        compact_end(log, io);
    log->durable = io->ticket;
    return 0;
}

uint64_t yk_dir_rlog_durable(const struct yk_dir_rlog *log) {
    return log->durable;
}

int yk_dir_rlog_failed(const struct yk_dir_rlog *log) {
    return log->failed;
}

const char *yk_dir_rlog_text(const struct yk_dir_rlog *log) {
    return log->text;
}

const void *yk_dir_rlog_image(const struct yk_dir_rlog *log, size_t *ret_len) {
    *ret_len = log->file.image.len;
    return log->file.image.data;
}

void yk_dir_rlog_counts(const struct yk_dir_rlog *log, struct yk_dir_rlog_counts *ret) {
    *ret = (struct yk_dir_rlog_counts){.removes = log->removes,
                                       .remove_bytes = log->remove_bytes,
                                       .file_bytes = log->file.bytes,
                                       .buffered_bytes = log->fill.len - RLOG_FRAME,
                                       .records = log->tickets,
                                       .syncs = log->syncs,
                                       .compactions = log->compactions};
}
