/* SPDX-License-Identifier: Apache-2.0
 *
 * What the log is told about the SSD tier: what was found at the start, what is slower than it could
 * be, how recovery and preloading go on, and each change of a device's state.
 *
 * Thread: main's.
 */
#ifndef YOLKD_SSD_H
#define YOLKD_SSD_H

#include "base/clock.h"
#include "node/node.h"

struct yolkd_ssd {
    struct yk_node *node;
    uint32_t devices; /* 0: no tier, nothing to watch */
    uint8_t state[YK_SSD_DEVICES_MAX];
    char io_note[YK_SSD_DEVICES_MAX][400]; /* as it was last said */
    uint64_t preload_said_ns, start_ns;
    bool preloading;
    uint64_t recovery_said_ns; /* before the node is there */
};

/* How often yolkd_ssd_watch is called while there is a tier. */
#define YOLKD_SSD_WATCH_MS 1000

/* The tier's callback while it recovers; arg: the struct. */
void yolkd_ssd_recovering(void *arg, uint64_t done, uint64_t all);

/* After the start: a line for the tier, a line for each thing that is worth knowing about a device. */
void yolkd_ssd_started(struct yolkd_ssd *ssd, struct yk_node *node);

void yolkd_ssd_watch(struct yolkd_ssd *ssd);

#endif
