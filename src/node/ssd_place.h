/* SPDX-License-Identifier: Apache-2.0
 *
 * Where an SSD log lies, as people write it: PATH or PATH:SIZE. yolkd, embedded nodes and replays take
 * it in the same words.
 *
 * PATH is a file, a directory (then the file is PATH/yolk-NAME.ssd, so that nodes may share one) or a
 * block device. A colon belongs to the path unless a size stands after the last one. What can be known
 * without opening anything is checked here, so that a check of the configuration finds what a start
 * would find; what is on the device is the tier's business.
 *
 * Threads: any; nothing is kept.
 */
#ifndef YK_NODE_SSD_PLACE_H
#define YK_NODE_SSD_PLACE_H

#include "base/status.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_SSD_PLACE_PATH 256u /* as in the tier's statistics */

struct yk_ssd_place {
    char path[YK_SSD_PLACE_PATH];
    uint64_t size_bytes;  /* as asked for; 0 = all that is there */
    uint64_t there_bytes; /* of the file or device that is there; 0 = nothing is */
    uint8_t is_block;
};

/* name: of the node, for a file in a directory. segment_bytes: 0 = unknown. -YK_EINVAL, or -YK_ENOSPC when
 * the file system has no room for the file, with a text that begins "found '...'" and says what to do. */
int yk_ssd_place_parse(const char *text, const char *name, uint64_t segment_bytes,
                       struct yk_ssd_place *ret_place, struct yk_err *err);

#ifdef __cplusplus
}
#endif

#endif
