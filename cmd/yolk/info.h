/* SPDX-License-Identifier: Apache-2.0
 *
 * A block's attributes as a line of text or as JSON. ls, stat and match print them alike.
 *
 * Thread: one.
 */
#ifndef YOLK_INFO_H
#define YOLK_INFO_H

#include "cmd.h"

/* "dram", "dram,ssd"; "-" for none. Returns buf. */
#define YOLK_TIERS_MAX 40
char *yolk_tiers_text(uint32_t tiers, char buf[YOLK_TIERS_MAX]);

/* Members of the object that is open. */
void yolk_json_info(struct yk_json *json, const yk_block_info *info);

/* A line: bytes, tiers, pin, time to live, children, key. The head names the columns. */
void yolk_print_info_head(void);
void yolk_print_info(yk_key key, const yk_block_info *info, bool hex);

#endif
