/* SPDX-License-Identifier: Apache-2.0
 *
 * Loading libzmq: at run time, as a node without engines' events needs none of it.
 *
 * Thread: any; pthread_once.
 */
#include "events/zmq_priv.h"

#ifdef YK_HAVE_ZMQ
#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>

#define LIBRARY "libzmq.so.5"

static struct zmq_fns fns;
static struct yk_err why;
static pthread_once_t once = PTHREAD_ONCE_INIT;

struct symbol {
    const char *name;
    size_t offset;
};

#define SYMBOL(field) {"zmq_" #field, offsetof(struct zmq_fns, field)}

static const struct symbol symbols[] = {
    SYMBOL(ctx_new),  SYMBOL(ctx_term),  SYMBOL(socket),   SYMBOL(close),    SYMBOL(connect),
    SYMBOL(setsockopt), SYMBOL(send),    SYMBOL(poll),     SYMBOL(msg_init), SYMBOL(msg_recv),
    SYMBOL(msg_close), SYMBOL(msg_data), SYMBOL(msg_size), SYMBOL(msg_more), SYMBOL(strerror),
    {"zmq_errno", offsetof(struct zmq_fns, err_no)},
};

static void load(void) {
    void *lib = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (lib == NULL) {
        yk_err_set(&why, -YK_ENOTSUP, "KV events need %s, which cannot be loaded: %.150s", LIBRARY, dlerror());
        return;
    }
    for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
        void *found = dlsym(lib, symbols[i].name);
        if (found == NULL) {
            yk_err_set(&why, -YK_ENOTSUP, "KV events need %s of %s, which has none", symbols[i].name, LIBRARY);
            return;
        }
        memcpy((char *)&fns + symbols[i].offset, &found, sizeof(found));
    }
}

int zmq_load(const struct zmq_fns **ret_fns, struct yk_err *err) {
    pthread_once(&once, load);
    if (why.code < 0)
        return yk_err_set(err, why.code, "%s", why.text);
    *ret_fns = &fns;
    return 0;
}
#endif
