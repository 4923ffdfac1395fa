/* SPDX-License-Identifier: Apache-2.0
 *
 * Lists of addresses as names are resolved to, "engine=ID,HOST:PORT,...,unix:/PATH", and the files of a
 * registry_dir that have one each. Bytes of others: every function takes anything.
 *
 * Threads: any; no state.
 */
#ifndef YK_XFER_ADDRESSES_H
#define YK_XFER_ADDRESSES_H

#include "base/parse.h"
#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_ADDRESSES_ENGINE "engine=" /* and its incarnation in hex */

struct yk_addresses_item {
    uint64_t engine;             /* "engine=ID": not 0, those behind it must be that engine's; 0: an address */
    char text[YK_ADDR_TEXT_MAX]; /* the item */
};

/* Takes the first item off a list, and moves *list behind it: 1; 0: there is none. -YK_EINVAL: it is empty, too
 * long, or no engine's number; an address is not looked into. err: or NULL. */
int yk_addresses_next(const char **list, struct yk_addresses_item *ret_item, struct yk_err *err);

/* How many items there are at most. */
uint32_t yk_addresses_count(const char *list);

/* The list in a file of n bytes: its one line, without the end of that. -YK_EIO: it is not one whole line of 1 to
 * cap - 1 bytes. err: or NULL. */
int yk_addresses_of_file(const char *bytes, size_t n, char *ret_list, size_t cap, struct yk_err *err);

#ifdef __cplusplus
}
#endif

#endif
