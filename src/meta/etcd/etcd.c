/* SPDX-License-Identifier: Apache-2.0
 *
 * The etcd backend's ops table, its beginning and end (etcd_priv.h has the map).
 *
 * Thread: yolk-meta, but for open, close and wake.
 */
#include "base/clock.h"
#include "meta/etcd/etcd_priv.h"

#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

static void etcd_close(void *backend) {
    struct yk_etcd *etcd = backend;
    yk_auth_fini(etcd);
    yk_endpoints_free(etcd);
    yk_http_free(etcd->http);
    free(etcd);
}

static int etcd_open(struct yk_meta *meta, const struct yk_meta_opts *opts, void **ret_backend,
                     struct yk_err *err) {
    struct yk_etcd *etcd = calloc(1, sizeof(*etcd));
    if (etcd == NULL)
        return yk_err_set(err, -YK_ENOMEM, "no memory for metadata");
    etcd->meta = meta;
    etcd->opts = opts;
    etcd->history = 1;
    etcd->auth = opts->user != NULL ? YK_AUTH_NONE : YK_AUTH_OFF;
    TAILQ_INIT(&etcd->waiting);
    TAILQ_INIT(&etcd->watches);
    if (getrandom(&etcd->random, sizeof(etcd->random), GRND_NONBLOCK) < 0)
        etcd->random = yk_now_ns() ^ (uint64_t)getpid() << 32;
    int rc = yk_endpoints_parse(etcd, opts->endpoints, err);
    if (rc == 0)
        rc = yk_http_new(opts, &etcd->http, err);
    if (rc < 0) {
        yk_endpoints_free(etcd);
        free(etcd);
        return rc;
    }
    *ret_backend = etcd;
    return 0;
}

static void turn(void *backend, int wait_ms) {
    yk_http_turn(((struct yk_etcd *)backend)->http, wait_ms);
}

static void wake(void *backend) {
    yk_http_wake(((struct yk_etcd *)backend)->http);
}

const struct yk_meta_backend yk_meta_etcd = {
    .name = "etcd",
    .open = etcd_open,
    .close = etcd_close,
    .start = yk_etcd_start,
    .stop = yk_etcd_stop,
    .watch = yk_etcd_watch,
    .unwatch = yk_etcd_unwatch,
    .turn = turn,
    .wake = wake,
};
