/* SPDX-License-Identifier: Apache-2.0
 *
 * The parameters of each kind of session. Their table is gen_kinds.c.
 */
#ifndef YK_TRACE_GEN_KINDS_PRIV_H
#define YK_TRACE_GEN_KINDS_PRIV_H

#include "trace/gen.h"
#include "trace/rng_priv.h"

#define YK_CATALOGUE_MAX 400

struct yk_trace_kind_params {
    const char *name;
    uint32_t turns; /* mean; the count is geometric */
    uint32_t catalogue_items;
    uint32_t repeat_percent, edit_percent, tool_percent; /* of turns */
    bool compacts; /* a full context becomes a summary; otherwise the session ends */
    uint32_t catalogue_tokens[YK_QUANTILES];
    uint32_t first_tokens[YK_QUANTILES]; /* of the first message */
    uint32_t next_tokens[YK_QUANTILES];  /* of later ones; an agent's: tool results */
    uint32_t output_tokens[YK_QUANTILES];
    uint32_t pause_ms[YK_QUANTILES];      /* a person's, from the answer to the next request */
    uint32_t tool_pause_ms[YK_QUANTILES]; /* a tool's */
    uint32_t summary_tokens[YK_QUANTILES];
};

extern const struct yk_trace_kind_params yk_trace_kinds[YK_TRACE_KINDS];

#endif
