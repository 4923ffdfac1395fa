/* SPDX-License-Identifier: Apache-2.0
 *
 * yolk sim --beside FILE: several tenants on one cache, and what shares cost.
 */
#ifndef YOLK_SIM_TENANTS_H
#define YOLK_SIM_TENANTS_H

#include "cmd.h"

#include "base/json.h"
#include "sim/tenants.h"

struct sim_tenants {
    const char *const *files; /* of the traces */
    const struct yk_sim_trace *traces;
    uint32_t count;
    const char *policy;
    uint32_t capacity;
    uint64_t seed;
    bool shares, cost, json;
};

/* Exit code. */
int sim_tenants(const struct sim_tenants *what);

/* What shares cost a block, by themselves: as fields, or as a line. YOLK_OK, or the exit code after a text. */
int sim_shares_cost(const struct sim_tenants *what, struct yk_json *json);

#endif
