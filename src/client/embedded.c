/* SPDX-License-Identifier: Apache-2.0
 *
 * "embedded:OPTIONS": a node inside this process, spoken to over a socket pair like any other.
 *
 * The node lives in libyolk-node, which a plain client must not need: it is looked for among what
 * the process has loaded (a program linked with it), then loaded. It stays loaded, since its threads
 * run its code.
 *
 * Threads: any.
 */
#include "client/client_priv.h"

#include <dlfcn.h>
#include <unistd.h>

#define NODE_LIBRARY "libyolk-node.so.0"

typedef int (*embed_fn)(const char *options, int *ret_fd, void **ret_node, char *err,
                        size_t err_bytes);
typedef void (*unembed_fn)(void *node);

static void *lookup(const char *name) {
    void *f = dlsym(RTLD_DEFAULT, name);
    if (f != NULL)
        return f;
    void *lib = dlopen(NODE_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    return lib != NULL ? dlsym(lib, name) : NULL;
}

int yk_embedded_start(const char *options, int *ret_fd, void **ret_node, struct yk_err *err) {
    char text[YK_ERR_TEXT_MAX] = "";
    int fd = -1;
    void *node = NULL;
    embed_fn embed = (embed_fn)lookup("yk_node_embed");
    if (embed == NULL) {
        const char *why = dlerror();
        return yk_err_set(err, -YK_ENOTSUP, "embedded: needs %s: %s", NODE_LIBRARY,
                          why != NULL ? why : "it has no node");
    }
    int rc = embed(options, &fd, &node, text, sizeof(text));
    if (rc < 0)
        return yk_err_set(err, rc, "embedded: %s", text[0] != 0 ? text : yk_status_text(rc));
    *ret_fd = fd;
    *ret_node = node;
    return 0;
}

void yk_embedded_stop(void *node) {
    if (node == NULL)
        return;
    unembed_fn unembed = (unembed_fn)lookup("yk_node_unembed");
    if (unembed != NULL)
        unembed(node);
}
