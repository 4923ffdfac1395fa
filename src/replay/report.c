/* SPDX-License-Identifier: Apache-2.0
 *
 * What a replay found, for people and as JSON (src/replay/replay.h).
 */
#include "replay/replay.h"

#include "base/fmt.h"
#include "base/json.h"

#include <inttypes.h>

static double part(uint64_t n, uint64_t of) {
    return of == 0 ? 0 : (double)n / (double)of;
}

static double rate(uint64_t n, double seconds) {
    return seconds > 0 ? (double)n / seconds : 0;
}

void yk_replay_progress_line(const struct yk_replay_progress *p, char buf[YK_REPLAY_LINE_MAX]) {
    char put[YK_FMT_MAX], got[YK_FMT_MAX];
    snprintf(buf, YK_REPLAY_LINE_MAX,
             "%5.1f s  %3.0f %%  %" PRIu64 "/%" PRIu64
             " requests  hit %.1f %%  put %s  got %s  %.2f GB/s",
             p->elapsed_s, 100 * part(p->requests, p->requests_all), p->requests, p->requests_all,
             100 * part(p->hits, p->blocks), yk_fmt_bytes(p->put_bytes, put),
             yk_fmt_bytes(p->get_bytes, got),
             rate(p->put_bytes + p->get_bytes, p->elapsed_s) / 1e9);
}

/* ---- table ---------------------------------------------------------------------------------- */

static void print_latency(FILE *out, const char *name, const struct yk_hist *h) {
    char count[YK_FMT_MAX], a[YK_FMT_MAX], b[YK_FMT_MAX], c[YK_FMT_MAX], m[YK_FMT_MAX];
    fprintf(out, "  %-8s %9s %10s %10s %10s %10s\n", name, yk_fmt_count(yk_hist_count(h), count),
            yk_fmt_duration(yk_hist_percentile(h, 50), a),
            yk_fmt_duration(yk_hist_percentile(h, 99), b),
            yk_fmt_duration(yk_hist_percentile(h, 99.9), c), yk_fmt_duration(yk_hist_max(h), m));
}

static void print_node(FILE *out, const struct yk_replay_result *r) {
    char bytes[YK_FMT_MAX];
    if (!r->node.known)
        return;
    fprintf(out, "  %-28s %" PRIu64 " blocks, %s\n", "evicted", r->node.evictions,
            yk_fmt_bytes(r->node.evicted_bytes, bytes));
    fprintf(out, "  %-28s %" PRIu64 "\n", "blocks in the node at the end", r->node.blocks);
}

static void print_members(FILE *out, const struct yk_replay_opts *o, const struct yk_replay_result *r) {
    char pulled[YK_FMT_MAX], frames[YK_FMT_MAX];
    if (o->url_count == 0)
        return;
    fprintf(out, "\n  %-8s %9s %9s %9s %12s %9s %12s %9s\n", "node", "put", "hits", "from afar", "bytes", "lent",
            "directory", "at end");
    for (uint32_t i = 0; i < o->url_count; i++) {
        const struct yk_replay_member *m = &r->member[i];
        if (m->known)
            fprintf(out, "  n%-7u %9" PRIu64 " %9" PRIu64 " %9" PRIu64 " %12s %9" PRIu64 " %12s %9" PRIu64 "\n", i + 1,
                    m->commits, m->hits, m->pulled, yk_fmt_bytes(m->pulled_bytes, pulled), m->lent,
                    yk_fmt_bytes(m->frame_bytes, frames), m->blocks);
    }
}

static void json_members(struct yk_json *j, const struct yk_replay_opts *o, const struct yk_replay_result *r) {
    if (o->url_count == 0)
        return;
    yk_json_key(j, "nodes");
    yk_json_begin_array(j);
    for (uint32_t i = 0; i < o->url_count; i++) {
        const struct yk_replay_member *m = &r->member[i];
        yk_json_begin_object(j);
        yk_json_put_bool(j, "known", m->known);
        yk_json_put_uint(j, "commits", m->commits);
        yk_json_put_uint(j, "hits", m->hits);
        yk_json_put_uint(j, "pulled", m->pulled);
        yk_json_put_uint(j, "pulled_bytes", m->pulled_bytes);
        yk_json_put_uint(j, "lent", m->lent);
        yk_json_put_uint(j, "frame_bytes", m->frame_bytes);
        yk_json_put_uint(j, "blocks", m->blocks);
        yk_json_end_object(j);
    }
    yk_json_end_array(j);
}

/* gets: what the clients got, from whichever tier. */
static uint64_t dram_hits(const struct yk_replay_result *r) {
    return r->n.gets > r->ssd.hits ? r->n.gets - r->ssd.hits : 0;
}

static double amplification(const struct yk_replay_ssd_counts *s) {
    return part(s->written_bytes, s->put_bytes);
}

static void print_tiers(FILE *out, const struct yk_replay_result *r) {
    const struct yk_replay_ssd_counts *s = &r->ssd;
    if (!s->known)
        return;
    fprintf(out, "  %-28s DRAM %" PRIu64 ", SSD %" PRIu64 "\n", "blocks got from", dram_hits(r),
            s->hits);
    fprintf(out, "  %-28s down %.2f GB, up %.2f GB\n", "moved between the tiers",
            (double)s->demoted_bytes / 1e9, (double)s->raised_bytes / 1e9);
    fprintf(out, "  %-28s %.2f GB, amplification %.2f\n", "written to SSD",
            (double)s->written_bytes / 1e9, amplification(s));
    fprintf(out, "  %-28s %" PRIu64 "\n", "blocks on SSD at the end", s->blocks);
    if (s->ahead_moved > 0)
        fprintf(out, "  %-28s %" PRIu64 ", %" PRIu64 " used\n", "came up ahead", s->ahead_moved, s->ahead_used);
    if (s->failed > 0)
        fprintf(out, "  %-28s %" PRIu64 "\n", "moves that failed", s->failed);
}

static void print_alone(FILE *out, const struct yk_replay_opts *o,
                        const struct yk_replay_alone *a) {
    if (a->known)
        fprintf(out,
                "  %-28s %" PRIu64 " of %" PRIu64 " (%.1f %%; %s over the trace, without a node)\n",
                "with the same DRAM alone", a->tokens_saved, a->tokens,
                100 * part(a->tokens_saved, a->tokens), o->policy != NULL ? o->policy : "lru");
}

static void print_moved(FILE *out, const struct yk_replay_result *r) {
    const struct yk_replay_counts *n = &r->n;
    uint64_t bytes = n->put_bytes + n->get_bytes;
    fprintf(out, "  %-28s %.2f GB (put %.2f, got %.2f)\n", "moved", (double)bytes / 1e9,
            (double)n->put_bytes / 1e9, (double)n->get_bytes / 1e9);
    fprintf(out, "  %-28s %.2f GB/s; %.2f GB/s a client inside the calls\n", "rate",
            rate(bytes, r->elapsed_s) / 1e9, rate(bytes, (double)n->call_ns / 1e9) / 1e9);
    if (n->xfer_bytes > 0 || n->xfer_fallbacks > 0)
        fprintf(out, "  %-28s %.2f GB, %" PRIu64 " operations fell back to the connection\n",
                "by the transfer engine", (double)n->xfer_bytes / 1e9, n->xfer_fallbacks);
}

void yk_replay_print(FILE *out, const struct yk_replay_opts *o, const struct yk_replay_result *r) {
    const struct yk_replay_counts *n = &r->n;
    fprintf(out, "  %-28s %" PRIu64 " in %.1f s%s\n", "requests", n->requests, r->elapsed_s,
            r->interrupted ? " (interrupted)" : "");
    fprintf(out, "  %-28s %" PRIu64 ", of them hits %" PRIu64 "\n", "blocks", n->blocks, n->hits);
    fprintf(out, "  %-28s %.2f %%\n", "hit ratio", 100 * part(n->hits, n->blocks));
    fprintf(out, "  %-28s %" PRIu64 " of %" PRIu64 " (%.1f %%)\n", "tokens not recomputed",
            n->tokens_saved, n->tokens, 100 * part(n->tokens_saved, n->tokens));
    print_alone(out, o, &r->alone);
    print_tiers(out, r);
    print_moved(out, r);
    print_node(out, r);
    if (n->vanished > 0)
        fprintf(out, "  %-28s %" PRIu64 "\n", "hits gone before the get", n->vanished);
    if (n->refused > 0)
        fprintf(out, "  %-28s %" PRIu64 "\n", "puts refused (no room)", n->refused);
    if (o->speed > 0)
        fprintf(out, "  %-28s %.3f s\n", "furthest behind the trace", (double)n->late_ns_max / 1e9);
    fprintf(out, "  %-28s clients %.1f s", "CPU time", (double)n->cpu_ns / 1e9);
    if (o->url_count == 0)
        fprintf(out, ", node %.1f s", r->node_cpu_s);
    fprintf(out, "\n");
    fprintf(out, "  %-28s %" PRIu64 " (%s checked)\n", "wrong bytes", n->wrong_bytes,
            o->sample ? "a sample" : "every byte");
    fprintf(out, "\n  %-8s %9s %10s %10s %10s %10s\n", "latency", "calls", "p50", "p99", "p99.9",
            "max");
    print_latency(out, "put", &r->put);
    print_latency(out, "get", &r->get);
    print_latency(out, "match", &r->match);
    print_members(out, o, r);
}

/* ---- JSON ----------------------------------------------------------------------------------- */

static void json_latency(struct yk_json *j, const char *name, const struct yk_hist *h) {
    yk_json_key(j, name);
    yk_json_begin_object(j);
    yk_json_put_uint(j, "count", yk_hist_count(h));
    yk_json_put_double(j, "mean_us", yk_hist_mean(h) / 1e3);
    yk_json_put_double(j, "p50_us", (double)yk_hist_percentile(h, 50) / 1e3);
    yk_json_put_double(j, "p99_us", (double)yk_hist_percentile(h, 99) / 1e3);
    yk_json_put_double(j, "p999_us", (double)yk_hist_percentile(h, 99.9) / 1e3);
    yk_json_put_double(j, "max_us", (double)yk_hist_max(h) / 1e3);
    yk_json_end_object(j);
}

static void json_config(struct yk_json *j, const struct yk_replay_opts *o,
                        const struct yk_replay_result *r) {
    yk_json_put_uint(j, "block_bytes", o->block_bytes);
    yk_json_put_uint(j, "capacity_blocks", o->capacity_blocks);
    yk_json_put_uint(j, "dram_bytes", r->dram_bytes);
    yk_json_put_uint(j, "ssd_capacity_blocks", o->ssd_capacity_blocks);
    yk_json_put_bool(j, "exact", o->exact);
    yk_json_put_uint(j, "clients", o->clients);
    yk_json_put_uint(j, "inflight", o->inflight);
    yk_json_put_str(j, "policy", o->url == NULL && o->url_count == 0 ? o->policy : NULL);
    yk_json_put_str(j, "order", o->order == YK_REPLAY_TAIL_FIRST ? "tail-first" : "head-first");
    yk_json_put_double(j, "speed", o->speed);
    yk_json_put_str(j, "verify", o->sample ? "sample" : "full");
}

static void json_node(struct yk_json *j, const struct yk_replay_node_counts *n) {
    yk_json_key(j, "node");
    if (!n->known) {
        yk_json_null(j);
        return;
    }
    yk_json_begin_object(j);
    yk_json_put_uint(j, "evictions", n->evictions);
    yk_json_put_uint(j, "evictions_for_space", n->evict_space);
    yk_json_put_uint(j, "evicted_bytes", n->evicted_bytes);
    yk_json_put_uint(j, "commits", n->commits);
    yk_json_put_uint(j, "duplicates", n->duplicates);
    yk_json_put_uint(j, "events_lost", n->events_lost);
    yk_json_put_uint(j, "blocks", n->blocks);
    yk_json_put_uint(j, "capacity_bytes", n->capacity_bytes);
    yk_json_end_object(j);
}

static void json_ssd(struct yk_json *j, const struct yk_replay_result *r) {
    const struct yk_replay_ssd_counts *s = &r->ssd;
    yk_json_key(j, "ssd");
    if (!s->known) {
        yk_json_null(j);
        return;
    }
    yk_json_begin_object(j);
    yk_json_put_uint(j, "hits", s->hits);
    yk_json_put_uint(j, "dram_hits", dram_hits(r));
    yk_json_put_uint(j, "hit_bytes", s->hit_bytes);
    yk_json_put_uint(j, "demoted", s->demoted);
    yk_json_put_uint(j, "demoted_bytes", s->demoted_bytes);
    yk_json_put_uint(j, "raised", s->raised);
    yk_json_put_uint(j, "raised_bytes", s->raised_bytes);
    yk_json_put_uint(j, "prefetch_ahead_moved", s->ahead_moved);
    yk_json_put_uint(j, "prefetch_ahead_used", s->ahead_used);
    yk_json_put_uint(j, "failed", s->failed);
    yk_json_put_uint(j, "put_bytes", s->put_bytes);
    yk_json_put_uint(j, "written_bytes", s->written_bytes);
    yk_json_put_double(j, "write_amplification", amplification(s));
    yk_json_put_uint(j, "blocks", s->blocks);
    yk_json_put_uint(j, "capacity_bytes", s->capacity_bytes);
    yk_json_end_object(j);
}

static void json_alone(struct yk_json *j, const struct yk_replay_alone *a) {
    yk_json_key(j, "dram_alone");
    if (!a->known) {
        yk_json_null(j);
        return;
    }
    yk_json_begin_object(j);
    yk_json_put_uint(j, "hit_blocks", a->hits);
    yk_json_put_double(j, "hit_ratio", part(a->hits, a->blocks));
    yk_json_put_uint(j, "tokens_saved", a->tokens_saved);
    yk_json_end_object(j);
}

int yk_replay_print_json(FILE *out, const struct yk_replay_opts *o,
                         const struct yk_replay_result *r) {
    const struct yk_replay_counts *n = &r->n;
    struct yk_json j;
    yk_json_init_file(&j, out);
    yk_json_begin_object(&j);
    json_config(&j, o, r);
    yk_json_put_uint(&j, "requests", n->requests);
    yk_json_put_uint(&j, "blocks", n->blocks);
    yk_json_put_uint(&j, "hit_blocks", n->hits);
    yk_json_put_double(&j, "hit_ratio", part(n->hits, n->blocks));
    yk_json_put_uint(&j, "tokens", n->tokens);
    yk_json_put_uint(&j, "tokens_saved", n->tokens_saved);
    yk_json_put_uint(&j, "puts", n->puts);
    yk_json_put_uint(&j, "put_bytes", n->put_bytes);
    yk_json_put_uint(&j, "gets", n->gets);
    yk_json_put_uint(&j, "get_bytes", n->get_bytes);
    yk_json_put_double(&j, "bytes_per_s", rate(n->put_bytes + n->get_bytes, r->elapsed_s));
    yk_json_put_uint(&j, "vanished", n->vanished);
    yk_json_put_uint(&j, "refused", n->refused);
    yk_json_put_uint(&j, "xfer_bytes", n->xfer_bytes);
    yk_json_put_uint(&j, "xfer_fallbacks", n->xfer_fallbacks);
    yk_json_put_uint(&j, "wrong_bytes", n->wrong_bytes);
    yk_json_put_uint(&j, "checked_bytes", n->checked_bytes);
    yk_json_put_double(&j, "elapsed_s", r->elapsed_s);
    yk_json_put_double(&j, "late_s", (double)n->late_ns_max / 1e9);
    yk_json_put_double(&j, "clients_cpu_s", (double)n->cpu_ns / 1e9);
    yk_json_put_double(&j, "calls_s", (double)n->call_ns / 1e9);
    yk_json_put_double(&j, "node_cpu_s", r->node_cpu_s);
    yk_json_put_bool(&j, "interrupted", r->interrupted);
    json_node(&j, &r->node);
    json_ssd(&j, r);
    json_alone(&j, &r->alone);
    json_members(&j, o, r);
    json_latency(&j, "put", &r->put);
    json_latency(&j, "get", &r->get);
    json_latency(&j, "match", &r->match);
    yk_json_end_object(&j);
    yk_json_newline(&j);
    return yk_json_finish(&j);
}
