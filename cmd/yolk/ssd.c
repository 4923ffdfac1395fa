/* SPDX-License-Identifier: Apache-2.0
 *
 * yolk ssd: looks at devices of the SSD tier without a node. check reads everything and verifies it;
 * dump prints what is there, record by record.
 *
 * A payload that does not match its checksum in the last segments that were written is what a power
 * cut leaves, and costs nobody anything but that block; check tells of it like of any other damage.
 */
#include "commands.h"
#include "keys.h"
#include "progress.h"

#include "base/fmt.h"
#include "base/text.h"
#include "tier/ssd/offline.h"

#include <stdio.h>
#include <string.h>

struct ssd_config {
    struct yolk_common common;
    bool quick;
};

static const struct yk_opt rows[] = {
    {.name = "quick",
     .type = YK_OPT_BOOL,
     YK_OPT_AT(struct ssd_config, quick),
     .help = "Of check: read the records only, no payload."},
};

static const char *part_name(enum yk_ssd_part part) {
    static const char *const names[] = {"good", "none", "damaged", "unreadable"};
    return names[part];
}

static void put_hex(struct yk_json *json, const char *key, uint64_t value) {
    char text[20];
    snprintf(text, sizeof(text), "%016llx", (unsigned long long)value);
    yk_json_put_str(json, key, text);
}

/* ---- what stands at the beginning -------------------------------------------------------------- */

static void info_json(struct yk_json *json, const char *path, const struct yk_ssd_offline_info *i) {
    yk_json_put_str(json, "path", path);
    put_hex(json, "node_id", i->super.node_id);
    put_hex(json, "uid", i->super.uid);
    yk_json_put_uint(json, "size_bytes", i->super.size_bytes);
    yk_json_put_uint(json, "segment_bytes", i->super.segment_bytes);
    yk_json_put_uint(json, "segments", i->segments);
    yk_json_key(json, "superblocks");
    yk_json_begin_array(json);
    yk_json_str(json, part_name(i->super_part[0]));
    yk_json_str(json, part_name(i->super_part[1]));
    yk_json_end_array(json);
    yk_json_key(json, "checkpoints");
    yk_json_begin_array(json);
    yk_json_str(json, part_name(i->ckpt_part[0]));
    yk_json_str(json, part_name(i->ckpt_part[1]));
    yk_json_end_array(json);
    if (!i->has_ckpt)
        return;
    yk_json_put_uint(json, "run", i->ckpt.run);
    yk_json_put_uint(json, "clock_ms", i->ckpt.clock_ms);
    yk_json_put_uint(json, "gen_max", i->ckpt.gen_max);
    yk_json_put_uint(json, "wear_bytes", i->ckpt.wear_bytes);
    yk_json_put_bool(json, "clean", i->ckpt.clean);
}

static void info_text(const char *path, const struct yk_ssd_offline_info *i) {
    char size[YK_FMT_MAX], segment[YK_FMT_MAX], wear[YK_FMT_MAX], when[YK_FMT_MAX];
    printf("%s: node %016llx, %s in %llu segments of %s\n", path,
           (unsigned long long)i->super.node_id, yk_fmt_bytes(i->super.size_bytes, size),
           (unsigned long long)i->segments, yk_fmt_bytes(i->super.segment_bytes, segment));
    printf("superblocks: %s, %s; checkpoints: %s, %s\n", part_name(i->super_part[0]),
           part_name(i->super_part[1]), part_name(i->ckpt_part[0]), part_name(i->ckpt_part[1]));
    if (i->has_ckpt)
        printf("run %llu, %s, clock %s, %s written\n", (unsigned long long)i->ckpt.run,
               i->ckpt.clean ? "stopped in good order" : "in use, or killed",
               yk_fmt_utc(i->ckpt.clock_ms, when), yk_fmt_bytes(i->ckpt.wear_bytes, wear));
}

static uint64_t part_bad(enum yk_ssd_part a, enum yk_ssd_part b) {
    return (uint64_t)(a == YK_SSD_PART_DAMAGED || a == YK_SSD_PART_UNREADABLE) +
           (uint64_t)(b == YK_SSD_PART_DAMAGED || b == YK_SSD_PART_UNREADABLE);
}

/* ---- check ---------------------------------------------------------------------------------------- */

struct check {
    struct yk_ssd_offline *off;
    const struct ssd_config *config;
    struct yolk_progress progress;
    uint64_t bytes;
    uint64_t used, footers, blocks, tombs, expiries, payload_bytes;
    uint64_t damaged, unreadable, bad_payloads;
};

static int check_record(void *arg, uint64_t segment, const struct yk_ssd_rec *rec) {
    struct check *c = arg;
    if (rec->type != YK_SSD_REC_BLOCK || c->config->quick)
        return 0;
    int rc = yk_ssd_offline_payload(c->off, segment, rec);
    if (rc == -YK_ENOMEM)
        return rc;
    c->bad_payloads += rc == -YK_ECORRUPT;
    c->unreadable += rc == -YK_EIO;
    c->bytes += rec->len;
    yolk_progress_at(&c->progress, c->bytes);
    return 0;
}

static int check_segments(struct check *c) {
    const struct yk_ssd_offline_info *info = yk_ssd_offline_info(c->off);
    for (uint64_t i = 0; i < info->segments; i++) {
        struct yk_ssd_offline_segment s;
        int rc = yk_ssd_offline_segment(c->off, i, check_record, c, &s);
        if (rc < 0)
            return rc;
        c->used += s.seq != 0;
        c->footers += s.footer;
        c->blocks += s.blocks;
        c->tombs += s.tombs;
        c->expiries += s.expiries;
        c->payload_bytes += s.payload_bytes;
        c->damaged += s.damaged;
        c->unreadable += s.unreadable;
    }
    return 0;
}

static void check_json(const struct check *c, const char *path) {
    struct yk_json json;
    yk_json_init_file(&json, stdout);
    yk_json_begin_object(&json);
    info_json(&json, path, yk_ssd_offline_info(c->off));
    yk_json_put_uint(&json, "segments_used", c->used);
    yk_json_put_uint(&json, "footers", c->footers);
    yk_json_put_uint(&json, "blocks", c->blocks);
    yk_json_put_uint(&json, "payload_bytes", c->payload_bytes);
    yk_json_put_uint(&json, "tombstones", c->tombs);
    yk_json_put_uint(&json, "expiries", c->expiries);
    yk_json_put_uint(&json, "damaged_records", c->damaged);
    yk_json_put_uint(&json, "damaged_payloads", c->bad_payloads);
    yk_json_put_uint(&json, "unreadable", c->unreadable);
    yk_json_end_object(&json);
    yk_json_newline(&json);
    yk_json_finish(&json);
}

static void check_text(const struct check *c, const char *path) {
    char bytes[YK_FMT_MAX];
    info_text(path, yk_ssd_offline_info(c->off));
    printf("%llu segments in use, %llu of them with a footer\n", (unsigned long long)c->used,
           (unsigned long long)c->footers);
    printf("%llu records of blocks (%s), %llu of removals, %llu of expiries\n",
           (unsigned long long)c->blocks, yk_fmt_bytes(c->payload_bytes, bytes),
           (unsigned long long)c->tombs, (unsigned long long)c->expiries);
    printf("damaged: %llu headers and footers, %llu payloads; unreadable: %llu%s\n",
           (unsigned long long)c->damaged, (unsigned long long)c->bad_payloads,
           (unsigned long long)c->unreadable, c->config->quick ? " (payloads were not read)" : "");
}

static int check(struct yolk_ctx *ctx, struct yk_ssd_offline *off, const char *path) {
    const struct yk_ssd_offline_info *info = yk_ssd_offline_info(off);
    struct check c = {.off = off, .config = ctx->config};
    c.damaged = part_bad(info->super_part[0], info->super_part[1]) +
                part_bad(info->ckpt_part[0], info->ckpt_part[1]);
    yolk_progress_begin(&c.progress, "ssd check", info->super.size_bytes, ctx->common->json);
    int rc = check_segments(&c);
    yolk_progress_end(&c.progress);
    if (rc < 0)
        return yolk_fail(YOLK_FAIL, "%s: %s", path, yk_status_text(rc));
    if (ctx->common->json)
        check_json(&c, path);
    else
        check_text(&c, path);
    return c.damaged + c.bad_payloads + c.unreadable > 0 || !info->has_ckpt ? YOLK_FAIL : YOLK_OK;
}

/* ---- dump ------------------------------------------------------------------------------------------- */

static const char *const type_names[] = {"", "block", "removal", "expiry", "namespace", "order"};

static int dump_json(void *arg, uint64_t segment, const struct yk_ssd_rec *r) {
    struct yk_json json;
    (void)arg;
    yk_json_init_file(&json, stdout);
    yk_json_begin_object(&json);
    yk_json_put_uint(&json, "segment", segment);
    yk_json_put_str(&json, "type", type_names[r->type]);
    yk_json_put_uint(&json, "namespace_uid", r->ns_uid);
    yk_json_put_uint(&json, "generation", r->gen);
    if (r->type == YK_SSD_REC_NS) {
        yk_json_key(&json, "name");
        yk_json_strn(&json, r->ns.name, strnlen(r->ns.name, sizeof(r->ns.name)));
        yk_json_put_uint(&json, "number", r->ns_number);
        yk_json_put_uint(&json, "epoch", r->ns.epoch);
        yk_json_put_bool(&json, "removed", r->ns.removed);
    } else if (r->type == YK_SSD_REC_ORDER) {
        yk_json_put_uint(&json, "from", r->origin);
        yk_json_put_uint(&json, "hashes", r->key_len / 8u);
    } else {
        yk_json_key(&json, "key");
        yk_json_strn(&json, (const char *)r->key, r->key_len);
    }
    if (r->type == YK_SSD_REC_BLOCK) {
        yk_json_put_uint(&json, "bytes", r->len);
        yk_json_put_uint(&json, "place", (uint64_t)r->place * YK_SSD_UNIT);
        yk_json_put_uint(&json, "epoch", r->epoch);
        put_hex(&json, "checksum", r->sum);
        if (r->parent_len > 0) {
            yk_json_key(&json, "parent");
            yk_json_strn(&json, (const char *)r->parent, r->parent_len);
        }
    }
    if (r->type == YK_SSD_REC_BLOCK || r->type == YK_SSD_REC_EXPIRY)
        yk_json_put_uint(&json, "expiry_ms", r->expiry_ms);
    if (r->type == YK_SSD_REC_TOMB)
        yk_json_put_uint(&json, "origin", r->origin);
    yk_json_end_object(&json);
    yk_json_newline(&json);
    return yk_json_finish(&json);
}

static int dump_text(void *arg, uint64_t segment, const struct yk_ssd_rec *r) {
    char raw[256] = "", name[YOLK_KEY_TEXT_MAX];
    (void)arg;
    if (r->type == YK_SSD_REC_NS)
        memcpy(raw, r->ns.name, sizeof(r->ns.name));
    else if (r->type == YK_SSD_REC_ORDER)
        snprintf(raw, sizeof(raw), "%u hashes from %llu on", r->key_len / 8u,
                 (unsigned long long)r->origin);
    else
        memcpy(raw, r->key, r->key_len);
    printf("%6llu %-9s %12llu %10u  %s\n", (unsigned long long)segment, type_names[r->type],
           (unsigned long long)r->gen, r->len, yolk_safe_text(raw, name));
    return ferror(stdout) ? -YK_EIO : 0;
}

static int dump(struct yolk_ctx *ctx, struct yk_ssd_offline *off, const char *path) {
    const struct yk_ssd_offline_info *info = yk_ssd_offline_info(off);
    struct yk_ssd_offline_segment s;
    struct yk_json json;
    int rc = 0;
    if (ctx->common->json) {
        yk_json_init_file(&json, stdout);
        yk_json_begin_object(&json);
        info_json(&json, path, info);
        yk_json_end_object(&json);
        yk_json_newline(&json);
        yk_json_finish(&json);
    } else {
        info_text(path, info);
        printf("%6s %-9s %12s %10s  %s\n", "SEGM", "RECORD", "GENERATION", "BYTES", "KEY");
    }
    for (uint64_t i = 0; i < info->segments && rc == 0; i++)
        rc = yk_ssd_offline_segment(off, i, ctx->common->json ? dump_json : dump_text, NULL, &s);
    return rc < 0 ? yolk_fail(YOLK_FAIL, "%s: %s", path, yk_status_text(rc)) : YOLK_OK;
}

/* ---- the command --------------------------------------------------------------------------------------- */

/* A file that is none of the SSD tier's is a slip of the pen; one that is, and is broken, is a finding. */
static int open_exit(int code) {
    return code == -YK_ENOENT || code == -YK_EPERM ? YOLK_USAGE : YOLK_FAIL;
}

static int ssd(struct yolk_ctx *ctx) {
    int (*fn)(struct yolk_ctx *, struct yk_ssd_offline *, const char *) = NULL;
    int code = YOLK_OK;
    if (strcmp(ctx->args[0], "check") == 0)
        fn = check;
    else if (strcmp(ctx->args[0], "dump") == 0)
        fn = dump;
    else
        return yolk_fail(YOLK_USAGE, "ssd: found '%.40s', expected check or dump", ctx->args[0]);
    for (size_t i = 1; i < ctx->n_args; i++) {
        struct yk_ssd_offline *off = NULL;
        struct yk_err err;
        if (yk_ssd_offline_open(ctx->args[i], &off, &err) < 0) {
            code = yolk_fail(open_exit(err.code), "%s", err.text);
            continue;
        }
        int one = fn(ctx, off, ctx->args[i]);
        code = one != YOLK_OK ? one : code;
        yk_ssd_offline_close(off);
    }
    return yolk_finish(code);
}

const struct yolk_cmd yolk_cmd_ssd = {
    .name = "ssd",
    .args = "check|dump PATH...",
    .min_args = 2,
    .max_args = SIZE_MAX,
    .help = "look at devices of the SSD tier without a node",
    .more = "check reads everything on each device, verifies all checksums and prints what it "
            "found; it ends with 1 if anything is damaged. dump prints every record. Nothing is "
            "written. Of a device that a node is using, what is written meanwhile may look "
            "damaged; after a power cut, the blocks written last may be.",
    YOLK_CMD_OPTIONS(rows),
    .config_bytes = sizeof(struct ssd_config),
    .flags = YOLK_CMD_LOCAL,
    .fn = ssd,
};
