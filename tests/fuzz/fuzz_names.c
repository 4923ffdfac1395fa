/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzz target: what names of segments are resolved to (xfer/addresses.h): the bytes are a file of a registry_dir, as
 * an engine finds it; what comes of it, or of the bytes themselves as a resolver's text, is taken apart.
 *
 * Thread: one.
 */
#include "xfer/addresses.h"
#include "xfer/engine_priv.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char dir[] = "/tmp/yk-fuzz-names-XXXXXX", path[64];

static void require(int holds) {
    if (!holds)
        abort();
}

static void clean(void) {
    unlink(path);
    rmdir(dir);
}

/* Each item stands in the list where it was taken from, and there are no more than there may be. */
static void take_apart(const char *list) {
    const char *at = list;
    struct yk_addresses_item item;
    struct yk_addr addr;
    uint32_t n = 0, most = yk_addresses_count(list);
    int rc = 1;
    while (rc > 0) {
        const char *from = at;
        rc = yk_addresses_next(&at, &item, NULL);
        if (rc <= 0)
            break;
        size_t len = strlen(item.text);
        require(len > 0 && memcmp(from, item.text, len) == 0 && (from[len] == ',' || from[len] == 0));
        require(at == from + len + (from[len] == ','));
        require((item.engine != 0) == (strncmp(item.text, "engine=", 7) == 0));
        if (yk_parse_addr(item.text, &addr, NULL) == 0)
            require(memchr(addr.host, 0, sizeof(addr.host)) != NULL);
        n++;
    }
    require(n <= most && (rc == -YK_EINVAL || (rc == 0 && *at == 0)));
}

static void as_file(const uint8_t *data, size_t size) {
    static struct yk_xfer e; /* its directory alone is looked at */
    struct yk_err err;
    char list[YK_ADDRESS_MAX];
    if (path[0] == 0) {
        require(mkdtemp(dir) != NULL);
        snprintf(path, sizeof(path), "%s/yk-n", dir);
        e.opts.registry_dir = dir;
        atexit(clean);
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    require(fd >= 0 && write(fd, data, size) == (ssize_t)size && close(fd) == 0);
    int rc = yk_resolve_find(&e, "n", list, sizeof(list), &err);
    require(rc == -YK_EIO || (rc == 0 && strlen(list) == size - 1 && memcmp(list, data, size - 1) == 0));
    if (rc == 0)
        take_apart(list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = malloc(size + 1);
    require(text != NULL);
    memcpy(text, data, size);
    text[size] = 0;
    take_apart(text);
    free(text);
    as_file(data, size);
    return 0;
}
