/* SPDX-License-Identifier: Apache-2.0
 *
 * Places, nodes, clients and keys of benchmarks (bench/rig.h).
 */
#include "bench/rig.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#define FILL_BATCH 1024u

void yk_bench_run_init(struct yk_bench_run *run, const char *name, const struct yk_bench_opts *opts,
                       double seconds, double seconds_quick) {
    *run = (struct yk_bench_run){.opts = opts, .seed = opts->seed != 0 ? opts->seed : 1};
    yk_bench_report_init(&run->report, name, opts->out, opts->json);
    run->report.cases = opts->cases;
    run->report.n_cases = opts->n_cases;
    run->seconds = opts->quick ? seconds_quick : seconds;
}

/* ---- places --------------------------------------------------------------------------------- */

static long topology(int cpu, const char *what) {
    char path[96];
    long value = -1;
    snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/topology/%s", cpu, what);
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return -1;
    if (fscanf(f, "%ld", &value) != 1)
        value = -1;
    fclose(f);
    return value;
}

/* Another core of the package of `cpu` among those we may use, or -1. */
static int other_core(const cpu_set_t *allowed, int cpu) {
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (i != cpu && CPU_ISSET(i, allowed) &&
            topology(i, "physical_package_id") == topology(cpu, "physical_package_id") &&
            topology(i, "core_id") != topology(cpu, "core_id"))
            return i;
    return -1;
}

void yk_bench_run_at(enum yk_bench_place place) {
    static cpu_set_t allowed; /* as this process was started */
    static int here = -1, there = -1;
    cpu_set_t set;
    if (here < 0) {
        if (sched_getaffinity(0, sizeof(allowed), &allowed) < 0)
            return;
        for (here = 0; here < CPU_SETSIZE - 1 && !CPU_ISSET(here, &allowed);)
            here++;
        there = other_core(&allowed, here);
    }
    set = allowed;
    if (place != YK_BENCH_ANYWHERE && there >= 0) {
        CPU_ZERO(&set);
        CPU_SET(place == YK_BENCH_HERE ? here : there, &set);
    }
    (void)sched_setaffinity(0, sizeof(set), &set);
}

/* ---- nodes, clients, keys ------------------------------------------------------------------- */

int yk_rig_failed(const yk_client *c, const char *what, int status) {
    const char *text = yk_error_text(c);
    fprintf(stderr, "yolk bench: %s: %s\n", what, text[0] != '\0' ? text : yk_strerror(status));
    return status;
}

int yk_rig_connect(const char *url, uint32_t flags, yk_client **ret_client) {
    yk_open_opts oo = {
        .size = sizeof(oo), .flags = flags, .name_space = "bench", .timeout_ms = 30000};
    int rc = yk_open(url, &oo, ret_client);
    return rc < 0 ? yk_rig_failed(NULL, "open", rc) : 0;
}

int yk_rig_open(struct yk_rig *rig, const struct yk_own_opts *opts, uint32_t flags) {
    struct yk_err err = {0};
    *rig = (struct yk_rig){.own.kept.life_fd = -1};
    int rc = yk_own_start(opts, &rig->own, &err);
    if (rc < 0) {
        fprintf(stderr, "yolk bench: %s\n", err.text);
        return rc;
    }
    rc = yk_rig_connect(rig->own.url, flags, &rig->client);
    if (rc < 0)
        yk_rig_close(rig);
    return rc;
}

void yk_rig_close(struct yk_rig *rig) {
    yk_close(rig->client);
    rig->client = NULL;
    yk_own_stop(&rig->own, NULL);
}

int yk_rig_keys_make(struct yk_rig_keys *k, uint64_t first, uint64_t n) {
    k->n = n;
    k->bytes = malloc(n * YK_RIG_KEY_BYTES);
    k->keys = malloc(n * sizeof(*k->keys));
    if (k->bytes == NULL || k->keys == NULL) {
        yk_rig_keys_free(k);
        return -YK_ENOMEM;
    }
    for (uint64_t i = 0; i < n; i++) {
        yk_rig_key(first + i, k->bytes + i * YK_RIG_KEY_BYTES);
        k->keys[i] = (yk_key){k->bytes + i * YK_RIG_KEY_BYTES, YK_RIG_KEY_BYTES};
    }
    return 0;
}

void yk_rig_keys_free(struct yk_rig_keys *k) {
    free(k->bytes);
    free(k->keys);
    memset(k, 0, sizeof(*k));
}

int yk_rig_fill(yk_client *c, const struct yk_rig_keys *k, uint64_t first, uint64_t n,
                const void *data, size_t len) {
    static yk_op ops[FILL_BATCH];
    struct iovec iov = {(void *)(uintptr_t)data, len};
    for (uint64_t at = first; at < first + n;) {
        uint32_t m = 0;
        for (; m < FILL_BATCH && at < first + n; m++, at++)
            ops[m] = (yk_op){.opcode = YK_OP_PUT, .key = k->keys[at], .iov = &iov, .iov_count = 1};
        int good = yk_run(c, ops, m, 0);
        if (good == (int)m)
            continue;
        for (uint32_t i = 0; i < m && good >= 0; i++)
            good = ops[i].status != 0 ? ops[i].status : good;
        return yk_rig_failed(c, "put", good);
    }
    return 0;
}

uint64_t yk_rig_memory(uint64_t wish) {
    uint64_t room = yk_own_room() / 3;
    return room != 0 && room < wish ? room : wish;
}
