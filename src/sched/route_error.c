/* SPDX-License-Identifier: Apache-2.0
 *
 * How far off the router's predictions were, part by part: a ring of the last ones, from which a mean and a quantile
 * are made when somebody asks. Exact, and cheaper for each outcome than a sketch would be.
 */
#include "sched/route_priv.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LEAST_S 1e-3 /* of an actual time: a relative error of microseconds says nothing */

void route_note_error(struct yk_router *router, enum yk_router_part part, double predicted_s, double actual_s) {
    struct route_errors *e = &router->errors[part];
    if (!(actual_s >= 0) || !isfinite(actual_s) || !isfinite(predicted_s))
        return;
    e->last[e->n++ % ROUTE_ERRORS] = (float)(fabs(predicted_s - actual_s) / fmax(actual_s, LEAST_S));
    if (e->n == UINT32_MAX)
        e->n = UINT32_MAX / ROUTE_ERRORS * ROUTE_ERRORS;
}

static int by_size(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

void yk_router_error(const struct yk_router *router, enum yk_router_part part, struct yk_router_error *ret) {
    float sorted[ROUTE_ERRORS];
    const struct route_errors *e = &router->errors[part];
    uint32_t n = e->n < ROUTE_ERRORS ? e->n : ROUTE_ERRORS;
    *ret = (struct yk_router_error){.outcomes = n};
    if (n == 0)
        return;
    memcpy(sorted, e->last, n * sizeof(sorted[0]));
    qsort(sorted, n, sizeof(sorted[0]), by_size);
    for (uint32_t i = 0; i < n; i++)
        ret->mean += (double)sorted[i] / n;
    ret->p90 = (double)sorted[(n - 1) * 9 / 10];
}
