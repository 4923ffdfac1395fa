/* SPDX-License-Identifier: Apache-2.0
 *
 * The RDMA transport at the target: a queue pair beside each lane's stream, keys, and reading what peers want
 * written (docs/decisions/0019-rdma.md).
 *
 * Thread: the server's.
 */
#include "rdma_priv.h"

#include <stdlib.h>
#include <string.h>

struct yk_target {
    struct yk_rdma_dev *dev; /* counted: sinks outlive the queue pair */
    struct yk_qp *qp;
    const struct yk_target_events *events;
    void *user;
    struct yk_rdma_mem *held[YK_RDMA_DEPTH]; /* by tag: of reads under way */
    struct yk_rdma_loan *sinks[YK_RDMA_DEPTH]; /* likewise, of iWARP */
    uint8_t iwarp;
};

static void let_go(struct yk_target *t, uint64_t tag) {
    yk_rdma_return(t->dev, t->sinks[tag]); /* from here on its peer cannot write there */
    yk_rdma_mem_put(t->held[tag]);
    t->sinks[tag] = NULL;
    t->held[tag] = NULL;
}

static void on_read(void *user, uint64_t tag) {
    struct yk_target *t = user;
    let_go(t, tag);
    t->events->pulled(t->user, (uint32_t)tag);
}

static void on_failed(void *user, int code, const char *text) {
    struct yk_target *t = user;
    (void)code;
    t->events->failed(t->user, text);
}

static const struct yk_qp_events qp_events = {on_read, on_failed, NULL};

static int target_has(const struct yk_xfer_opts *opts, const char *host) {
    struct yk_rdma_port ports[YK_RDMA_PORTS_MAX];
    struct yk_rdma_settings s;
    if (yk_rdma_settings_parse(opts->rdma, &s, NULL) < 0)
        return 0;
    uint32_t n = yk_rdma_ports_now(&s, ports, YK_RDMA_PORTS_MAX);
    const struct yk_rdma_port *p = yk_rdma_port_of(ports, n, host);
    return p == NULL ? YK_RDMA_NONE : yk_rdma_port_kind(p);
}

static void target_close(struct yk_target *t) {
    if (t == NULL)
        return;
    yk_qp_free(t->qp);
    for (uint32_t i = 0; i < YK_RDMA_DEPTH; i++) {
        yk_rdma_return(t->dev, t->sinks[i]);
        yk_rdma_mem_put(t->held[i]);
    }
    yk_rdma_dev_put(t->dev);
    free(t);
}

static int target_open(const struct yk_xfer_opts *opts, struct yk_loop *loop, const struct yk_target_events *events,
                       void *user, const char *host, const void *offer, void *ret_answer,
                       struct yk_target **ret_target, struct yk_err *err) {
    struct yk_rdma_port ports[YK_RDMA_PORTS_MAX];
    struct yk_rdma_settings s;
    struct yk_rdma_offer theirs, ours;
    int rc = yk_rdma_offer_decode(offer, &theirs, err);
    if (rc == 0)
        rc = yk_rdma_settings_parse(opts->rdma, &s, err);
    if (rc < 0)
        return rc;
    const struct yk_rdma_port *port =
        yk_rdma_port_of(ports, yk_rdma_ports_now(&s, ports, YK_RDMA_PORTS_MAX), host);
    yk_rdma_gone_forget();
    if (port == NULL)
        return yk_err_set(err, -YK_ENOTSUP, "no active RDMA port has the address %s", host);
    struct yk_rdma_dev *dev;
    rc = yk_rdma_dev_soon(port->device, opts, &dev, err); /* a server does not wait for that: its peer comes again */
    if (rc < 0)
        return rc;
    struct yk_target *t = calloc(1, sizeof(*t));
    if (t == NULL) {
        yk_rdma_dev_put(dev);
        return yk_err_set(err, -YK_ENOMEM, "no memory for a queue pair");
    }
    t->dev = dev;
    t->events = events;
    t->user = user;
    t->iwarp = port->iwarp;
    rc = yk_qp_new(&s, port, loop, &qp_events, t, &t->qp, err);
    if (rc == 0)
        rc = yk_qp_connect(t->qp, &theirs, NULL, err);
    if (rc < 0) {
        target_close(t);
        return rc;
    }
    yk_qp_offer(t->qp, &ours);
    yk_rdma_offer_encode(ret_answer, &ours);
    *ret_target = t;
    return 0;
}

/* What has no other way than a device's is asked for again. */
static int later_of(struct yk_target *t, const struct yk_region *region, struct yk_rdma_mem *m, uint64_t offset,
                    uint64_t len, int rc) {
    if (rc != -YK_ENOTSUP || m == NULL || !yk_region_is_device(region) || len > UINT32_MAX)
        return rc;
    return yk_qp_room(t->qp) == 0 || yk_rdma_mem_comes(m, t->dev, offset, len) ? -YK_EAGAIN : rc;
}

static int target_key(struct yk_target *t, struct yk_region *region, uint64_t offset, uint64_t len, void *ret_key) {
    struct yk_rdma_mem *m = yk_rdma_mem_of(region);
    struct yk_rdma_key key;
    yk_qp_catch_up(t->qp);
    /* Who has a key reads: the end of a queue pair that is not known to be up is waited for by nobody (iWARP). */
    int rc = m != NULL && yk_qp_is_up(t->qp) ? yk_rdma_mem_key(m, t->dev, offset, len, &key) : -YK_ENOTSUP;
    rc = later_of(t, region, m, offset, len, rc);
    if (rc == 0)
        yk_rdma_key_encode(ret_key, &key);
    yk_rdma_mem_put(m);
    return rc;
}

static int target_pull(struct yk_target *t, uint32_t tag, struct yk_region *region, uint64_t offset, uint64_t len,
                       uint64_t addr, uint32_t rkey) {
    struct yk_rdma_mem *m = yk_rdma_mem_of(region);
    struct yk_rdma_key key;
    int device = yk_region_is_device(region);
    yk_qp_catch_up(t->qp); /* who sends this knows that it is up */
    int rc = m == NULL || len > UINT32_MAX || yk_qp_room(t->qp) == 0 || !yk_qp_takes(t->qp, len, device) ? -YK_ENOTSUP
             : t->iwarp ? yk_rdma_sink(t->dev, m, offset, len, &key, &t->sinks[tag])
                        : yk_rdma_mem_key(m, t->dev, offset, len, &key);
    if (yk_qp_takes(t->qp, len, device) && (!t->iwarp || yk_qp_room(t->qp) == 0)) /* what a device of iWARP did not take for one read it will not take */
        rc = later_of(t, region, m, offset, len, rc);
    if (rc < 0) {
        yk_rdma_mem_put(m);
        return rc;
    }
    t->held[tag] = m;
    yk_qp_read(t->qp, region->base + offset, key.lkey, (uint32_t)len, addr, rkey, device, tag);
    return 0;
}

static void target_flush(struct yk_target *t) {
    yk_qp_flush(t->qp);
}

const struct yk_target_ops yk_target_rdma = {
    .has = target_has, .open = target_open, .close = target_close, .key = target_key, .pull = target_pull,
    .flush = target_flush,
};
