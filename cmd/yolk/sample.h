/* SPDX-License-Identifier: Apache-2.0
 *
 * The node's statistics at one moment, and what happened between two.
 *
 * The JSON object of yk_stats_json, parsed once; fields are read by the names of docs/api.md. A
 * field that a node of another version does not have reads as 0.
 *
 * Thread: one.
 */
#ifndef YOLK_SAMPLE_H
#define YOLK_SAMPLE_H

#include <jansson.h>
#include <stdint.h>

#include <yolk/yolk.h>

struct yolk_sample {
    json_t *root; /* NULL: empty */
    uint64_t taken_ns;
};

/* 0, or the status of the call; -YK_EPROTO when it is no JSON object. */
int yolk_sample_take(yk_client *client, struct yolk_sample *ret_sample);
void yolk_sample_free(struct yolk_sample *sample);

uint64_t yolk_sample_get(const struct yolk_sample *sample, const char *name);
const char *yolk_sample_text(const struct yolk_sample *sample, const char *name);

/* A second, between two samples; 0 if there is no earlier one or the node was restarted. */
double yolk_sample_rate(const struct yolk_sample *before, const struct yolk_sample *now,
                        const char *name);
double yolk_sample_seconds(const struct yolk_sample *before, const struct yolk_sample *now);

/* Sums that several views need. */
uint64_t yolk_sample_hits(const struct yolk_sample *sample);
uint64_t yolk_sample_misses(const struct yolk_sample *sample);
uint64_t yolk_sample_got_bytes(const struct yolk_sample *sample);

/* Of all lookups, 0 to 1; NAN if there were none. before NULL or empty: since the start. */
double yolk_sample_hit_ratio(const struct yolk_sample *before, const struct yolk_sample *now);

#endif
