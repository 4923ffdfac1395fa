/* SPDX-License-Identifier: Apache-2.0
 *
 * See addresses.h.
 *
 * Threads: any.
 */
#include "xfer/addresses.h"

#include <stdlib.h>
#include <string.h>

/* An engine's number is never 0: that would stand for any. */
static int read_engine(struct yk_addresses_item *item, struct yk_err *err) {
    const char *hex = item->text + strlen(YK_ADDRESSES_ENGINE);
    size_t len = strlen(hex);
    if (len > 0 && len <= 16 && strspn(hex, "0123456789abcdefABCDEF") == len)
        item->engine = strtoull(hex, NULL, 16);
    return item->engine != 0 ? 1
                             : yk_err_set(err, -YK_EINVAL, "'%.60s': expected " YK_ADDRESSES_ENGINE
                                          " and up to 16 hex digits, not all of them 0", item->text);
}

int yk_addresses_next(const char **list, struct yk_addresses_item *ret_item, struct yk_err *err) {
    size_t len = strcspn(*list, ",");
    if ((*list)[0] == 0)
        return 0;
    if (len == 0 || len >= sizeof(ret_item->text))
        return yk_err_set(err, -YK_EINVAL, "'%.100s' is no address", *list);
    ret_item->engine = 0;
    memcpy(ret_item->text, *list, len);
    ret_item->text[len] = 0;
    *list += len + ((*list)[len] == ',');
    if (strncmp(ret_item->text, YK_ADDRESSES_ENGINE, strlen(YK_ADDRESSES_ENGINE)) == 0)
        return read_engine(ret_item, err);
    return 1;
}

uint32_t yk_addresses_count(const char *list) {
    uint32_t n = list[0] != 0;
    for (; *list != 0; list++)
        n += *list == ',';
    return n;
}

int yk_addresses_of_file(const char *bytes, size_t n, char *ret_list, size_t cap, struct yk_err *err) {
    if (n < 2 || n > cap || memchr(bytes, 0, n) != NULL || (const char *)memchr(bytes, '\n', n) != bytes + n - 1)
        return yk_err_set(err, -YK_EIO, "expected one line of 1 to %zu bytes", cap - 1);
    memcpy(ret_list, bytes, n - 1);
    ret_list[n - 1] = 0;
    return 0;
}
