/* SPDX-License-Identifier: Apache-2.0
 *
 * In place of cm.c where the header of librdmacm was not there when Yolk was built: ports of iWARP are left out.
 *
 * Thread: any.
 */
#include "cm.h"

int yk_cm_there(void) {
    return 0;
}

static int none(struct yk_err *err) {
    return yk_err_set(err, -YK_ENOTSUP, "no iWARP: this build is without it (rdma/rdma_cma.h was not there)");
}

int yk_cm_dial(const struct yk_cm_opts *opts, const char *remote, uint16_t port, struct yk_cm **ret_cm,
               struct yk_err *err) {
    return none(err);
}

int yk_cm_await(const struct yk_cm_opts *opts, uint16_t *ret_port, struct yk_cm **ret_cm, struct yk_err *err) {
    return none(err);
}

void yk_cm_look(struct yk_cm *cm) {
}

void yk_cm_end(struct yk_cm *cm, void (*then)(void *user), void *user) {
}
