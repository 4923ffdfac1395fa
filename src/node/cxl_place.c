/* SPDX-License-Identifier: Apache-2.0
 *
 * Parsing of places of slow memory (src/node/cxl_place.h).
 */
#include "node/cxl_place.h"

#include "base/fmt.h"
#include "base/parse.h"
#include "base/text.h"

#include <string.h>

#define NODE_MAX 1023u

int yk_cxl_place_parse(const char *text, uint64_t *ret_bytes, int *ret_node, struct yk_err *err) {
    char size[32], quoted[YK_QUOTE_MAX];
    const char *at = strchr(text, '@');
    size_t len = at != NULL ? (size_t)(at - text) : strlen(text);
    uint64_t bytes, node = 0;
    struct yk_err why = {0};
    if (len == 0 || len >= sizeof(size))
        return yk_err_set(err, -YK_EINVAL, "found %s, expected SIZE or SIZE@NODE such as 64GiB@2", yk_quote(text, quoted));
    memcpy(size, text, len);
    size[len] = '\0';
    int rc = yk_parse_size(size, &bytes, err);
    if (rc < 0)
        return rc;
    if (bytes < YK_CXL_BYTES_MIN || bytes > YK_CXL_BYTES_MAX)
        return yk_err_set(err, -YK_EINVAL, "found %s, expected 1MiB to 32TiB", yk_quote(size, quoted));
    if (at != NULL && (yk_parse_count(at + 1, &node, &why) < 0 || node > NODE_MAX))
        return yk_err_set(err, -YK_EINVAL, "found %s behind the @, expected the number of a NUMA node",
                          yk_quote(at + 1, quoted));
    *ret_bytes = bytes;
    *ret_node = at != NULL ? (int)node : -1;
    return 0;
}
