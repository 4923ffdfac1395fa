/* SPDX-License-Identifier: Apache-2.0
 *
 * Log lines about the SSD tier (ssd.h).
 *
 * Looking once a second at copies of counters is enough for a log and costs nothing; a callback from
 * the tier's owner thread would have to hand its lines over to this one anyway.
 */
#include "ssd.h"

#include "base/buf.h"
#include "base/fmt.h"
#include "base/log.h"

#include <string.h>

#define SAY_NS   (5 * YK_NS_PER_S) /* between two lines of progress */
#define LINE_MAX 4096

static unsigned percent(uint64_t done, uint64_t all) {
    return all == 0 || done >= all ? 100u : (unsigned)((double)done / (double)all * 100);
}

void yolkd_ssd_recovering(void *arg, uint64_t done, uint64_t all) {
    struct yolkd_ssd *ssd = arg;
    char a[YK_FMT_MAX], b[YK_FMT_MAX];
    uint64_t now = yk_now_ns();
    if (ssd->recovery_said_ns == 0)
        ssd->recovery_said_ns = now; /* the usual start is over before a line is due */
    if (now - ssd->recovery_said_ns < SAY_NS || done >= all)
        return;
    ssd->recovery_said_ns = now;
    yk_log(YK_LOG_INFO, "ssd", "recovering: %s of %s of the devices looked at (%u %%)",
           yk_fmt_bytes(done, a), yk_fmt_bytes(all, b), percent(done, all));
}

static void put_devices(const struct yk_ssd *tier, uint32_t n, struct yk_buf *out) {
    struct yk_ssd_dev_stats st;
    char size[YK_FMT_MAX];
    for (uint32_t i = 0; i < n; i++) {
        yk_ssd_dev_stats_get(tier, i, &st);
        yk_buf_printf(out, "%s%s (%s)", i > 0 ? ", " : "", st.path,
                      yk_fmt_bytes(st.size_bytes, size));
    }
}

static void say_start(const struct yk_ssd *tier, uint32_t devices) {
    struct yk_ssd_counters n;
    struct yk_buf names;
    char live[YK_FMT_MAX], all[YK_FMT_MAX], time[YK_FMT_MAX];
    yk_ssd_counters_get(tier, &n);
    yk_buf_init(&names, LINE_MAX);
    put_devices(tier, devices, &names);
    yk_log(
        YK_LOG_INFO, "ssd",
        "tier of %s on %u device%s: %s; %llu blocks (%s) recovered in %s, %llu dropped, %llu torn",
        yk_fmt_bytes(n.capacity_bytes, all), devices, devices == 1 ? "" : "s", yk_buf_text(&names),
        (unsigned long long)n.recovered, yk_fmt_bytes(n.block_bytes, live),
        yk_fmt_duration(n.recovery_us * 1000u, time), (unsigned long long)n.recovery_dropped,
        (unsigned long long)n.recovery_torn);
    yk_buf_fini(&names);
}

/* What the devices themselves say is slower than it could be. It changes: memory is registered while the
 * node serves, until the limit of locked memory ends that. */
static void say_io_note(struct yolkd_ssd *ssd, uint32_t i, const struct yk_ssd_dev_stats *st) {
    if (strcmp(st->io_note, ssd->io_note[i]) == 0)
        return;
    memcpy(ssd->io_note[i], st->io_note, sizeof(ssd->io_note[i]));
    if (st->io_note[0] != '\0')
        yk_log(YK_LOG_WARN, "ssd", "%s: %s", st->path, st->io_note);
}

void yolkd_ssd_started(struct yolkd_ssd *ssd, struct yk_node *node) {
    const struct yk_ssd *tier = yk_node_ssd(node);
    struct yk_ssd_counters n;
    struct yk_node_stats stats;
    struct yk_ssd_dev_stats st;
    char goal[YK_FMT_MAX];
    ssd->node = node;
    if (tier == NULL)
        return;
    yk_ssd_counters_get(tier, &n);
    ssd->devices = n.devices < YK_SSD_DEVICES_MAX ? (uint32_t)n.devices : YK_SSD_DEVICES_MAX;
    say_start(tier, ssd->devices);
    for (uint32_t i = 0; i < ssd->devices; i++) {
        yk_ssd_dev_stats_get(tier, i, &st);
        ssd->state[i] = YK_SSD_DEV_OK;
        if (st.note[0] != '\0') /* begins with the path */
            yk_log(YK_LOG_WARN, "ssd", "%s", st.note);
        say_io_note(ssd, i, &st);
    }
    yk_node_stats(node, &stats);
    ssd->start_ns = ssd->preload_said_ns = yk_now_ns();
    ssd->preloading = stats.store.preload_goal > stats.store.preloaded_bytes;
    if (ssd->preloading)
        yk_log(YK_LOG_INFO, "ssd", "preloading %s into memory, the most valuable blocks first",
               yk_fmt_bytes(stats.store.preload_goal, goal));
    yolkd_ssd_watch(ssd);
}

static void say_state(const struct yk_ssd_dev_stats *st, const struct yk_ssd_counters *n) {
    unsigned long long ok = n->devices_ok, all = n->devices;
    if (st->state == YK_SSD_DEV_OK)
        yk_log(YK_LOG_INFO, "ssd", "%s: in use again; %llu of %llu devices are", st->path, ok, all);
    else if (st->state == YK_SSD_DEV_READ_ONLY)
        yk_log(
            YK_LOG_WARN, "ssd",
            "%s: read-only, its writes fail (%llu errors): what is there is still served; see that "
            "its file system has room and the device works, then restart",
            st->path, (unsigned long long)st->io.errors[YK_FILE_WRITE]);
    else
        yk_log(YK_LOG_ERROR, "ssd",
               "%s: gone (removed, replaced, cut short, does not answer, or its reads fail): its "
               "blocks are misses, the node goes on; %llu of %llu devices are in use, it is looked for again",
               st->path, ok, all);
}

static void watch_preload(struct yolkd_ssd *ssd) {
    struct yk_node_stats n;
    char done[YK_FMT_MAX], all[YK_FMT_MAX], time[YK_FMT_MAX];
    uint64_t now = yk_now_ns();
    yk_node_stats(ssd->node, &n);
    yk_fmt_bytes(n.store.preloaded_bytes, done);
    if (n.store.preloaded_bytes >= n.store.preload_goal) {
        ssd->preloading = false;
        yk_log(YK_LOG_INFO, "ssd", "preloaded %s (%llu blocks) within %s", done,
               (unsigned long long)n.store.preloaded, yk_fmt_duration(now - ssd->start_ns, time));
    } else if (now - ssd->preload_said_ns >= SAY_NS) {
        ssd->preload_said_ns = now;
        yk_log(YK_LOG_INFO, "ssd", "preloading: %s of %s (%u %%)", done,
               yk_fmt_bytes(n.store.preload_goal, all),
               percent(n.store.preloaded_bytes, n.store.preload_goal));
    }
}

void yolkd_ssd_watch(struct yolkd_ssd *ssd) {
    const struct yk_ssd *tier = ssd->devices > 0 ? yk_node_ssd(ssd->node) : NULL;
    struct yk_ssd_counters n;
    struct yk_ssd_dev_stats st;
    if (tier == NULL)
        return;
    yk_ssd_counters_get(tier, &n);
    for (uint32_t i = 0; i < ssd->devices; i++) {
        yk_ssd_dev_stats_get(tier, i, &st);
        say_io_note(ssd, i, &st);
        if (st.state == ssd->state[i])
            continue;
        ssd->state[i] = st.state;
        say_state(&st, &n);
    }
    if (ssd->preloading)
        watch_preload(ssd);
}
