/* SPDX-License-Identifier: Apache-2.0
 *
 * The node's statistics, parsed (sample.h).
 */
#include "sample.h"

#include "base/clock.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int yolk_sample_take(yk_client *client, struct yolk_sample *ret_sample) {
    char *text = NULL;
    int rc = yk_stats_json(client, &text);
    if (rc < 0)
        return rc;
    json_t *root = json_loads(text, 0, NULL);
    free(text);
    if (!json_is_object(root)) {
        json_decref(root);
        return -YK_EPROTO;
    }
    *ret_sample = (struct yolk_sample){.root = root, .taken_ns = yk_now_ns()};
    return 0;
}

void yolk_sample_free(struct yolk_sample *sample) {
    json_decref(sample->root);
    sample->root = NULL;
}

uint64_t yolk_sample_get(const struct yolk_sample *sample, const char *name) {
    json_int_t n = json_integer_value(json_object_get(sample->root, name));
    return n > 0 ? (uint64_t)n : 0;
}

const char *yolk_sample_text(const struct yolk_sample *sample, const char *name) {
    const char *text = json_string_value(json_object_get(sample->root, name));
    return text != NULL ? text : "?";
}

/* Counters begin anew with each start of the node. */
static int is_usable(const struct yolk_sample *before, const struct yolk_sample *now) {
    return before != NULL && before->root != NULL && now->taken_ns > before->taken_ns &&
           yolk_sample_get(before, "pid") == yolk_sample_get(now, "pid") &&
           yolk_sample_get(before, "uptime_ms") <= yolk_sample_get(now, "uptime_ms");
}

double yolk_sample_seconds(const struct yolk_sample *before, const struct yolk_sample *now) {
    return is_usable(before, now) ? (double)(now->taken_ns - before->taken_ns) / 1e9 : 0;
}

double yolk_sample_rate(const struct yolk_sample *before, const struct yolk_sample *now,
                        const char *name) {
    double seconds = yolk_sample_seconds(before, now);
    if (seconds <= 0)
        return 0;
    uint64_t a = yolk_sample_get(before, name), b = yolk_sample_get(now, name);
    return b > a ? (double)(b - a) / seconds : 0;
}

uint64_t yolk_sample_hits(const struct yolk_sample *s) {
    return yolk_sample_get(s, "local_hits") + yolk_sample_get(s, "node_hits");
}

uint64_t yolk_sample_misses(const struct yolk_sample *s) {
    return yolk_sample_get(s, "local_misses") + yolk_sample_get(s, "node_misses");
}

uint64_t yolk_sample_got_bytes(const struct yolk_sample *s) {
    return yolk_sample_get(s, "local_hit_bytes") + yolk_sample_get(s, "node_get_bytes") +
           yolk_sample_get(s, "located_bytes");
}

double yolk_sample_hit_ratio(const struct yolk_sample *before, const struct yolk_sample *now) {
    uint64_t hits = yolk_sample_hits(now), misses = yolk_sample_misses(now);
    if (before != NULL && before->root != NULL) {
        if (!is_usable(before, now))
            return NAN;
        uint64_t old_hits = yolk_sample_hits(before), old_misses = yolk_sample_misses(before);
        hits = hits > old_hits ? hits - old_hits : 0;
        misses = misses > old_misses ? misses - old_misses : 0;
    }
    return hits + misses > 0 ? (double)hits / (double)(hits + misses) : NAN;
}
