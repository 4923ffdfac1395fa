/* SPDX-License-Identifier: Apache-2.0
 *
 * What models cost on GPUs.
 *
 * Prefill is FLOPs: 2 for each active parameter and token, and 4 x width x layers for each pair of a token and one
 * before it, at half of the GPU's peak. A decode step reads weights and the KV of all contexts, at 0.7 of the memory's
 * bandwidth, or is FLOPs if that takes longer. Named shapes are those of src/sched/cost.h; GPUs' figures are their
 * vendors' (16-bit, dense). The shares of the peak are what tuned engines are commonly seen to reach; nothing here was
 * fitted to a machine.
 */
#include "sim/cluster/cluster_priv.h"

#include "base/parse.h"
#include "sched/cost.h"

#include <string.h>

#define PREFILL_SHARE 0.5
#define DECODE_SHARE  0.7
#define START_S       0.005 /* of each prefill: scheduling, launches, the first token's sampling */

/* Beside yk_cost_shapes, by name. */
static const struct {
    const char *name;
    double weight_bytes, active_bytes;
    uint32_t gpus; /* of an instance, if nobody says */
} weights[] = {
    {"8b", 16e9, 16e9, 1},
    {"70b", 141e9, 141e9, 4},
    {"moe", 671e9, 37e9, 16}, /* 8-bit */
};

static const struct {
    const char *name;
    double flops_s, bytes_s, pcie_bytes_s;
} gpus[] = {
    {"h100", 989e12, 3.35e12, 50e9},
    {"h200", 989e12, 4.8e12, 50e9},
    {"a100", 312e12, 2.04e12, 25e9},
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

const char *const yk_sim_model_names[] = {"8b", "70b", "moe", NULL};
const char *const yk_sim_gpu_names[] = {"h100", "h200", "a100", NULL};

int cost_init(struct cost *c, const struct yk_sim_cluster_opts *o, struct yk_err *err) {
    const struct yk_cost_shape *shape = yk_cost_shape_find(o->model);
    size_t m = 0, g = 0;
    while (m < COUNT(weights) && strcmp(weights[m].name, o->model) != 0)
        m++;
    while (g < COUNT(gpus) && strcmp(gpus[g].name, o->gpu) != 0)
        g++;
    if (shape == NULL || m == COUNT(weights))
        return yk_err_set(err, -YK_EINVAL, "found model '%s', expected 8b, 70b or moe", o->model);
    if (g == COUNT(gpus))
        return yk_err_set(err, -YK_EINVAL, "found GPU '%s', expected h100, h200 or a100", o->gpu);
    *c = (struct cost){.layers = shape->layers,
                       .active_params = shape->active_params,
                       .attention = 4.0 * shape->attention_width * shape->layers,
                       .token_bytes = shape->kv_bytes_per_token,
                       .block_bytes = (double)shape->kv_bytes_per_token * o->block_tokens,
                       .weight_bytes = weights[m].weight_bytes,
                       .active_bytes = weights[m].active_bytes,
                       .prefill_gpus = o->prefill_gpus != 0 ? o->prefill_gpus : weights[m].gpus,
                       .decode_gpus = o->decode_gpus != 0 ? o->decode_gpus : weights[m].gpus};
    c->prefill_flops_s = c->prefill_gpus * gpus[g].flops_s * PREFILL_SHARE;
    c->decode_flops_s = c->decode_gpus * gpus[g].flops_s * PREFILL_SHARE;
    c->decode_bytes_s = c->decode_gpus * gpus[g].bytes_s * DECODE_SHARE;
    c->pcie_bytes_s = c->prefill_gpus * gpus[g].pcie_bytes_s;
    return 0;
}

double cost_prefill_s(const struct cost *c, double hit, double tokens) {
    double pairs = (tokens * tokens - hit * hit) / 2;
    return START_S + (2 * c->active_params * (tokens - hit) + c->attention * pairs) / c->prefill_flops_s;
}

double cost_step_s(const struct cost *c, uint32_t requests, double context) {
    double read = requests * c->active_bytes < c->weight_bytes ? requests * c->active_bytes : c->weight_bytes;
    double memory_s = (read + context * c->token_bytes) / c->decode_bytes_s;
    double flops = 2 * c->active_params * requests + c->attention * context;
    return memory_s > flops / c->decode_flops_s ? memory_s : flops / c->decode_flops_s;
}

/* ---- links ---- */

#define TCP_BYTES_S    8.75e9 /* 100 Gbit/s, of which a stream's copies leave 0.7 */
#define RDMA_BYTES_S   22.5e9 /* 200 Gbit/s, 0.9 of it payload */
#define NVLINK_BYTES_S 360e9  /* 450 GB/s, 0.8 of it */
#define RDMA_NICS      8u
#define RDMA_NICS_MAX  64u

static int parse_nics(const char *text, uint64_t *ret_nics, struct yk_err *err) {
    if (yk_parse_count(text, ret_nics, NULL) < 0 || *ret_nics == 0 || *ret_nics > RDMA_NICS_MAX)
        return yk_err_set(err, -YK_EINVAL, "found '%s', expected 1 to %u NICs", text, RDMA_NICS_MAX);
    return 0;
}

int yk_sim_link_parse(const char *text, struct yk_sim_link *ret, struct yk_err *err) {
    uint64_t nics = RDMA_NICS;
    if (strncmp(text, "rdma:", 5) == 0 && parse_nics(text + 5, &nics, err) < 0)
        return -YK_EINVAL;
    double rdma = (double)nics * RDMA_BYTES_S;
    if (strcmp(text, "tcp") == 0)
        *ret = (struct yk_sim_link){TCP_BYTES_S, TCP_BYTES_S, 50e-6};
    else if (strcmp(text, "rdma") == 0 || strncmp(text, "rdma:", 5) == 0)
        *ret = (struct yk_sim_link){rdma, rdma, 5e-6};
    else if (strcmp(text, "nvlink") == 0)
        *ret = (struct yk_sim_link){NVLINK_BYTES_S, RDMA_NICS * RDMA_BYTES_S, 2e-6};
    else
        return yk_err_set(err, -YK_EINVAL, "found '%s', expected tcp, rdma, rdma:NICS or nvlink", text);
    return 0;
}
