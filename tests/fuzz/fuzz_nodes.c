/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzz target: where a client may connect to, as a url and as what etcd says of the nodes (client/route.h). A first
 * byte of 0 makes the rest a url; else it is how much room there is, and the rest the nodes.
 *
 * Thread: one.
 */
#include "client/route.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int holds) {
    if (!holds)
        abort();
}

static void read_url(const char *text) {
    struct yk_route r;
    struct yk_err err = {0};
    yk_route_init(&r, 1);
    int rc = strncmp(text, "etcd:", 5) != 0 ? yk_route_read(&r, text, 0, &err) : -YK_EINVAL; /* that would ask */
    require(rc == 0 || rc == -YK_EINVAL);
    require(rc < 0 || (r.count > 0 && r.count <= YK_ROUTE_MAX && yk_route_next(&r, 0) == 0));
    yk_route_fini(&r);
}

static void read_nodes(const char *text, uint32_t most, uint64_t seed) {
    struct yk_found_end ends[YK_ROUTE_MAX];
    uint32_t n = yk_found_read(text, "h", "z", &seed, ends, most);
    require(n <= most);
    for (uint32_t i = 0; i < n; i++) {
        require(i == 0 || ends[i - 1].rank <= ends[i].rank);
        require(ends[i].addr.kind == YK_ADDR_TCP || (ends[i].addr.kind == YK_ADDR_UNIX && ends[i].rank == 0));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0)
        return 0;
    char *text = malloc(size);
    require(text != NULL);
    memcpy(text, data + 1, size - 1);
    text[size - 1] = 0;
    if (data[0] == 0)
        read_url(text);
    else
        read_nodes(text, 1u + data[0] % YK_ROUTE_MAX, data[0]);
    free(text);
    return 0;
}
