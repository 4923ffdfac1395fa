/* SPDX-License-Identifier: Apache-2.0
 *
 * See cuda.h. The library is loaded when memory of CUDA is registered for the first time, and stays: who has such memory
 * has it in the process already. Linking it was rejected: hosts without GPUs must start.
 *
 * Thread: any.
 */
#include "xfer/cuda.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LIBRARY "libcuda.so.1"

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct yk_cuda_driver driver;
static char why[200]; /* "" = it is loaded */

static int has_peermem(void) {
    return access("/sys/module/nvidia_peermem", F_OK) == 0 || access("/sys/module/nv_peer_mem", F_OK) == 0;
}

static void load(void) {
    const struct {
        const char *name;
        void *to; /* a pointer to a function: copied, since ISO C has no cast from void * */
    } symbols[] = {
        {"cuInit", &driver.init},
        {"cuPointerGetAttribute", &driver.attribute},
        {"cuPointerSetAttribute", &driver.set_attribute},
        {"cuCtxPushCurrent_v2", &driver.push_context},
        {"cuCtxPopCurrent_v2", &driver.pop_context},
        {"cuDevicePrimaryCtxRetain", &driver.retain_context},
        {"cuDevicePrimaryCtxRelease_v2", &driver.release_context},
    };
    void *lib = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (lib == NULL) {
        snprintf(why, sizeof(why), "no CUDA: %s", dlerror());
        return;
    }
    for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
        void *found = dlsym(lib, symbols[i].name);
        if (found == NULL) {
            snprintf(why, sizeof(why), "no CUDA: " LIBRARY " has no %s", symbols[i].name);
            return;
        }
        memcpy(symbols[i].to, &found, sizeof(found));
    }
    void *found = dlsym(lib, "cuMemGetHandleForAddressRange"); /* older drivers do not have it */
    memcpy(&driver.handle, &found, sizeof(found));
    driver.has_peermem = has_peermem;
    int rc = driver.init(0);
    if (rc != 0)
        snprintf(why, sizeof(why), "no CUDA: its driver does not start (error %d)", rc);
}

const struct yk_cuda_driver *yk_cuda_driver_load(struct yk_err *err) {
    pthread_once(&once, load);
    if (why[0] == 0)
        return &driver;
    yk_err_set(err, -YK_ENOTSUP, "%s", why);
    return NULL;
}
