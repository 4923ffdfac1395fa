/* SPDX-License-Identifier: Apache-2.0
 *
 * See verbs.h. The library is loaded when something needs it and stays: its providers' threads and tables
 * do not survive being unloaded. Linking it was rejected: hosts without it must start. What keeps registered memory in
 * its place when the process forks is asked for first: where the kernel copies such pages itself (5.12) that does
 * nothing, else the library has them left out of children (MADV_DONTFORK).
 *
 * Thread: any.
 */
#include "verbs.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define LIBRARY       "libibverbs.so.1"
#define FORK_UNNEEDED 2 /* IBV_FORK_UNNEEDED, which older headers do not have */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct yk_verbs verbs;
static char why[240]; /* "" = it is loaded */
static int (*fork_init)(void);
static int (*fork_state)(void); /* NULL: the library is older than it */

/* What older libraries do not have. */
static void find_newer(void *lib) {
    void *found = dlsym(lib, "ibv_is_fork_initialized");
    memcpy(&fork_state, &found, sizeof(found));
    found = dlsym(lib, "ibv_reg_mr_iova2");
    memcpy(&verbs.reg_mr_iova2, &found, sizeof(found));
    found = dlsym(lib, "ibv_reg_dmabuf_mr");
    memcpy(&verbs.reg_dmabuf_mr, &found, sizeof(found));
}

static void load(void) {
    const struct {
        const char *name;
        void *to; /* a pointer to a function: copied, since ISO C has no cast from void * */
    } symbols[] = {
        {"ibv_get_device_list", &verbs.get_device_list},
        {"ibv_free_device_list", &verbs.free_device_list},
        {"ibv_get_device_name", &verbs.get_device_name},
        {"ibv_open_device", &verbs.open_device},
        {"ibv_close_device", &verbs.close_device},
        {"ibv_query_device", &verbs.query_device},
        {"ibv_query_port", &verbs.query_port},
        {"ibv_alloc_pd", &verbs.alloc_pd},
        {"ibv_dealloc_pd", &verbs.dealloc_pd},
        {"ibv_reg_mr", &verbs.reg_mr},
        {"ibv_dereg_mr", &verbs.dereg_mr},
        {"ibv_get_async_event", &verbs.get_async_event},
        {"ibv_ack_async_event", &verbs.ack_async_event},
        {"ibv_create_comp_channel", &verbs.create_comp_channel},
        {"ibv_destroy_comp_channel", &verbs.destroy_comp_channel},
        {"ibv_create_cq", &verbs.create_cq},
        {"ibv_destroy_cq", &verbs.destroy_cq},
        {"ibv_get_cq_event", &verbs.get_cq_event},
        {"ibv_ack_cq_events", &verbs.ack_cq_events},
        {"ibv_create_qp", &verbs.create_qp},
        {"ibv_modify_qp", &verbs.modify_qp},
        {"ibv_destroy_qp", &verbs.destroy_qp},
        {"ibv_wc_status_str", &verbs.wc_status_str},
        {"ibv_fork_init", &fork_init},
    };
    void *lib = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (lib == NULL) {
        snprintf(why, sizeof(why), "%s", dlerror());
        return;
    }
    for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
        void *found = dlsym(lib, symbols[i].name);
        if (found == NULL) {
            snprintf(why, sizeof(why), LIBRARY " has no %s", symbols[i].name);
            return;
        }
        memcpy(symbols[i].to, &found, sizeof(found));
    }
    /* Without it, and on kernels before 5.12, private memory of a process that forks (or runs a program) may move
     * from under the device: what it reads then arrives nowhere. So there is no RDMA rather than that. */
    int e = fork_init();
    if (e != 0)
        snprintf(why, sizeof(why), "ibv_fork_init: %.50s. Memory that this process registered by other means must, on "
                                   "this kernel, come after it: call it first, or set RDMAV_FORK_SAFE=1", strerror(e));
    find_newer(lib);
    verbs.forks_well = fork_state != NULL && fork_state() == FORK_UNNEEDED;
}

const struct yk_verbs *yk_verbs_load(struct yk_err *err) {
    pthread_once(&once, load);
    if (why[0] == 0)
        return &verbs;
    yk_err_set(err, -YK_ENOTSUP, "no RDMA: %s", why);
    return NULL;
}
