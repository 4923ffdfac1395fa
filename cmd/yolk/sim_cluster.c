/* SPDX-License-Identifier: Apache-2.0
 *
 * yolk sim --nodes N: a trace against a simulated cluster (src/sim/cluster/cluster.h).
 */
#include "sim_cluster.h"

#include "base/fmt.h"
#include "base/parse.h"
#include "base/text.h"
#include "sim/sim.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const from_names[YK_SIM_FROMS] = {"vram", "dram", "ssd", "remote"};

/* ---- options ---- */

int sim_cluster_check(const struct yk_opts *opts, bool is_cluster) {
    static const char *const single[] = {"capacity", "cost", "prefetch-ahead", "block-bytes", "model-shape", NULL};
    const struct yk_opt_spec *spec = opts->spec;
    for (size_t i = 0; !is_cluster && i < spec->n_options; i++) {
        const struct yk_opt *o = &spec->options[i];
        if (o->section != NULL && strcmp(o->section, "cluster") == 0 && strcmp(o->name, "nodes") != 0 &&
            yk_opt_is_set(opts, o->name))
            return yolk_fail(YOLK_USAGE, "found --%s without --nodes, expected both: it is of a cluster", o->name);
    }
    for (size_t i = 0; is_cluster && single[i] != NULL; i++)
        if (yk_opt_is_set(opts, single[i]))
            return yolk_fail(YOLK_USAGE, "found --%s with --nodes, expected one of them: it is of a single cache, a "
                             "cluster has --vram, --dram, --ssd",
                             single[i]);
    return YOLK_OK;
}

static int make_opts(const struct sim_cluster_config *c, const struct sim_cluster_common *common,
                     const struct yk_sim_trace *trace, struct yk_sim_cluster_opts *o) {
    struct yk_err err = {0};
    yk_sim_cluster_opts_init(o);
    o->nodes = (uint32_t)c->nodes;
    o->zones = (uint32_t)c->zones;
    o->blocks[YK_SIM_VRAM] = (uint32_t)c->vram;
    o->blocks[YK_SIM_DRAM] = (uint32_t)c->dram;
    o->policy = common->policy;
    o->model = yk_sim_model_names[c->model];
    o->gpu = yk_sim_gpu_names[c->gpu];
    o->prefill_gpus = (uint32_t)c->prefill_gpus;
    o->decode_gpus = (uint32_t)c->decode_gpus;
    o->router = (enum yk_sim_router)c->router;
    o->prefetch = (enum yk_sim_prefetch)c->prefetch;
    o->replicas = (enum yk_sim_replicas)c->replicas;
    o->order = (enum yk_sim_order)c->order;
    o->writes = (enum yk_sim_writes)c->writes;
    o->oversubscription = c->oversubscription;
    o->ssd_bytes_s = (double)c->ssd_rate;
    o->load = c->load;
    o->report_s = (double)c->report_ns / 1e9;
    o->directory_s = (double)c->directory_ns / 1e9;
    o->mtbf_s = (double)c->mtbf_ns / 1e9;
    o->block_tokens = (uint32_t)c->block_tokens;
    o->ttft_objective_s = (double)c->ttft_ns / 1e9;
    o->tbt_objective_s = (double)c->tbt_ns / 1e9;
    o->seed = common->seed;
    if (yk_sim_link_parse(c->link, &o->link, &err) < 0)
        return yolk_fail(YOLK_USAGE, "--link: %s", err.text);
    /* One that takes all there is needs no more places than the trace has blocks. */
    uint64_t ssd = common->ssd_blocks == YK_SIM_BELOW_ALL ? trace->distinct : common->ssd_blocks;
    if (ssd > YK_SIM_CAPACITY_MAX)
        return yolk_fail(YOLK_USAGE, "--ssd: found %" PRIu64 ", expected at most %u blocks", ssd, YK_SIM_CAPACITY_MAX);
    o->blocks[YK_SIM_SSD] = (uint32_t)ssd;
    bool found = false;
    for (size_t i = 0; yk_sim_cluster_policy_names[i] != NULL; i++)
        found |= strcmp(yk_sim_cluster_policy_names[i], o->policy) == 0;
    if (!found)
        return yolk_fail(YOLK_USAGE, "found --policy %s with --nodes, expected lru, s3fifo or learned: nodes have no other",
                         o->policy);
    return YOLK_OK;
}

static void show_progress(void *arg, uint64_t done, uint64_t all) {
    (void)arg;
    fprintf(stderr, "\rsimulated: %" PRIu64 " of %" PRIu64 " requests (%u %%)\033[K", done, all, (unsigned)(done * 100 / all));
}

/* ---- output ---- */

static uint64_t hits_of(const struct yk_sim_cluster_result *r) {
    uint64_t hits = 0;
    for (int i = 0; i < YK_SIM_FROMS; i++)
        hits += r->hits[i];
    return hits;
}

static double ratio(double part, double all) {
    return all > 0 ? part / all : 0;
}

static double hidden(double load_s, double stalled_s) {
    return load_s > 0 ? 1 - stalled_s / load_s : 1;
}

static void put_times(struct yk_json *json, const char *key, const struct yk_hist *h) {
    yk_json_key(json, key);
    yk_json_begin_object(json);
    yk_json_put_double(json, "mean", yk_hist_mean(h) / 1e6);
    yk_json_put_double(json, "p50", (double)yk_hist_percentile(h, 50) / 1e6);
    yk_json_put_double(json, "p90", (double)yk_hist_percentile(h, 90) / 1e6);
    yk_json_put_double(json, "p99", (double)yk_hist_percentile(h, 99) / 1e6);
    yk_json_put_double(json, "max", (double)yk_hist_max(h) / 1e6);
    yk_json_end_object(json);
}

static void put_setup(struct yk_json *json, const struct yk_sim_cluster_opts *o) {
    yk_json_put_uint(json, "nodes", o->nodes);
    yk_json_put_uint(json, "zones", o->zones);
    yk_json_put_str(json, "router", yk_sim_router_names[o->router]);
    yk_json_put_str(json, "policy", o->policy);
    yk_json_put_str(json, "prefetch", yk_sim_prefetch_names[o->prefetch]);
    yk_json_put_str(json, "replicas", yk_sim_replicas_names[o->replicas]);
    yk_json_put_str(json, "order", yk_sim_order_names[o->order]);
    yk_json_put_str(json, "write", yk_sim_writes_names[o->writes]);
    yk_json_put_str(json, "model", o->model);
    yk_json_put_str(json, "gpu", o->gpu);
    yk_json_put_uint(json, "vram", o->blocks[YK_SIM_VRAM]);
    yk_json_put_uint(json, "dram", o->blocks[YK_SIM_DRAM]);
    yk_json_put_uint(json, "ssd", o->blocks[YK_SIM_SSD]);
    yk_json_put_double(json, "load", o->load);
    yk_json_put_uint(json, "seed", o->seed);
}

static void put_hits(struct yk_json *json, const struct yk_sim_cluster_result *r) {
    yk_json_put_uint(json, "requests", r->requests);
    yk_json_put_uint(json, "total_blocks", r->blocks);
    yk_json_put_uint(json, "hit_blocks", hits_of(r));
    yk_json_put_double(json, "hit_ratio", ratio((double)hits_of(r), (double)r->blocks));
    yk_json_key(json, "hit_ratio_by_source");
    yk_json_begin_object(json);
    for (int i = 0; i < YK_SIM_FROMS; i++)
        yk_json_put_double(json, from_names[i], ratio((double)r->hits[i], (double)r->blocks));
    yk_json_end_object(json);
}

static void put_service(struct yk_json *json, const struct yk_sim_cluster_result *r) {
    double seconds = r->ended_s - r->began_s;
    put_times(json, "ttft_ms", &r->ttft);
    put_times(json, "tbt_ms", &r->tbt);
    yk_json_put_double(json, "queue_ms_mean", 1e3 * ratio(r->queued_s, (double)r->requests));
    yk_json_put_double(json, "seconds", seconds);
    yk_json_put_double(json, "requests_per_s", ratio((double)r->finished, seconds));
    yk_json_put_double(json, "prompt_tokens_per_s", ratio((double)r->prompt_tokens, r->prefilled_s - r->began_s));
    yk_json_put_double(json, "goodput_per_s", ratio((double)r->good, seconds));
    yk_json_put_double(json, "good_ratio", ratio((double)r->good, (double)r->requests));
    yk_json_put_uint(json, "prompt_tokens", r->prompt_tokens);
    yk_json_put_uint(json, "computed_tokens", r->computed_tokens);
    yk_json_put_uint(json, "output_tokens", r->output_tokens);
}

static void put_traffic(struct yk_json *json, const struct yk_sim_cluster_result *r) {
    yk_json_put_double(json, "cross_node_bytes", r->asked_bytes[YK_SIM_REMOTE]);
    yk_json_put_double(json, "cross_zone_bytes", r->cross_zone_bytes);
    yk_json_put_double(json, "dram_read_bytes", r->asked_bytes[YK_SIM_DRAM]);
    yk_json_put_double(json, "ssd_read_bytes", r->asked_bytes[YK_SIM_SSD]);
    yk_json_put_double(json, "ssd_written_bytes", r->written_bytes);
    yk_json_put_uint(json, "not_demoted_blocks", r->not_demoted);
    yk_json_put_double(json, "load_s", r->load_s);
    yk_json_put_double(json, "stalled_s", r->stalled_s);
    yk_json_put_double(json, "hidden_share", hidden(r->load_s, r->stalled_s));
    yk_json_put_double(json, "hidden_share_ssd_network", hidden(r->far_load_s, r->far_stalled_s));
    yk_json_key(json, "utilisation");
    yk_json_begin_object(json);
    yk_json_put_double(json, "prefill", r->prefill_utilisation);
    yk_json_put_double(json, "decode", r->decode_utilisation);
    yk_json_put_double(json, "nic", r->nic_utilisation);
    yk_json_put_double(json, "uplink", r->uplink_utilisation);
    yk_json_put_double(json, "pcie", r->pcie_utilisation);
    yk_json_put_double(json, "ssd", r->ssd_utilisation);
    yk_json_end_object(json);
}

static void print_json(const struct yk_sim_cluster_opts *o, const struct yk_sim_cluster_result *r) {
    struct yk_json json;
    yk_json_init_file(&json, stdout);
    yk_json_begin_object(&json);
    put_setup(&json, o);
    put_hits(&json, r);
    put_service(&json, r);
    put_traffic(&json, r);
    yk_json_put_uint(&json, "failures", r->failures);
    yk_json_put_uint(&json, "repeated_requests", r->repeated);
    yk_json_put_uint(&json, "events", r->events);
    yk_json_put_uint(&json, "trainings", r->trainings);
    yk_json_end_object(&json);
    yk_json_newline(&json);
    (void)yk_json_finish(&json);
}

static void print_times(const char *what, const struct yk_hist *h) {
    printf("%-22s mean %.1f ms, p50 %.1f, p99 %.1f\n", what, yk_hist_mean(h) / 1e6,
           (double)yk_hist_percentile(h, 50) / 1e6, (double)yk_hist_percentile(h, 99) / 1e6);
}

static void print_text(const struct yk_sim_cluster_opts *o, const struct yk_sim_cluster_result *r) {
    char bytes[YK_FMT_MAX];
    printf("%u nodes of %s on %s, %s, %s: %" PRIu64 " requests in %.1f s\n", o->nodes, o->model, o->gpu,
           yk_sim_router_names[o->router], o->policy, r->requests, r->ended_s - r->began_s);
    printf("%-22s %.2f %% of %" PRIu64 " blocks:", "hits", 100 * ratio((double)hits_of(r), (double)r->blocks), r->blocks);
    for (int i = 0; i < YK_SIM_FROMS; i++)
        printf(" %s %.2f", from_names[i], 100 * ratio((double)r->hits[i], (double)r->blocks));
    printf("\n");
    print_times("time to first token", &r->ttft);
    print_times("time between tokens", &r->tbt);
    printf("%-22s %.2f requests/s keep to both objectives (%.1f %%)\n", "goodput",
           ratio((double)r->good, r->ended_s - r->began_s), 100 * ratio((double)r->good, (double)r->requests));
    printf("%-22s %s\n", "between nodes", yk_fmt_bytes((uint64_t)r->asked_bytes[YK_SIM_REMOTE], bytes));
    printf("%-22s %.1f %% of %.1f s\n", "loads hidden", 100 * hidden(r->load_s, r->stalled_s),
           r->load_s);
    printf("%-22s prefill %.1f %%, decode %.1f, NICs %.1f, PCIe %.1f, SSD %.1f\n", "used", 100 * r->prefill_utilisation,
           100 * r->decode_utilisation, 100 * r->nic_utilisation, 100 * r->pcie_utilisation, 100 * r->ssd_utilisation);
}

static int write_report(const char *path, const struct yk_sim_cluster_opts *o, const struct yk_sim_cluster_result *r) {
    char quoted[YK_QUOTE_MAX];
    FILE *out = fopen(path, "we");
    if (out == NULL)
        return yolk_fail(YOLK_USAGE, "cannot write %s: %s", yk_quote(path, quoted), strerror(errno));
    int rc = yk_sim_cluster_report(out, o, r);
    if (fclose(out) != 0 || rc < 0)
        return yolk_fail(YOLK_FAIL, "cannot write %s: %s", yk_quote(path, quoted), strerror(errno));
    return YOLK_OK;
}

int sim_cluster(const struct sim_cluster_config *c, const struct sim_cluster_common *common,
                const struct yk_sim_trace *trace) {
    struct yk_sim_cluster_opts opts;
    struct yk_sim_cluster_result *result = calloc(1, sizeof(*result));
    struct yk_err err = {0};
    int code = result != NULL ? make_opts(c, common, trace, &opts) : yolk_fail(YOLK_FAIL, "out of memory");
    if (code != YOLK_OK)
        goto out;
    bool shows = !common->quiet && isatty(STDERR_FILENO);
    opts.progress = shows ? show_progress : NULL;
    int rc = yk_sim_cluster_run(trace, &opts, result, &err);
    if (shows)
        fputs("\r\033[K", stderr);
    if (rc < 0) {
        code = yolk_fail(rc == -YK_EINVAL ? YOLK_USAGE : YOLK_FAIL, "%s", err.text);
        goto out;
    }
    if (common->json)
        print_json(&opts, result);
    else
        print_text(&opts, result);
    code = c->html != NULL ? write_report(c->html, &opts, result) : YOLK_OK;
    yk_sim_cluster_result_fini(result);
out:
    free(result);
    return code;
}
