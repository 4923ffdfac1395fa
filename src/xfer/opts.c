/* SPDX-License-Identifier: Apache-2.0
 *
 * The options of an engine: checked with a text that says which and why, defaults filled in, texts copied.
 *
 * Thread: the caller's of create and destroy.
 */
#include "xfer/engine_priv.h"
#include "xfer/fault/fault.h"
#include "xfer/rdma/rdma.h"
#include "xfer/sock.h"

#include "base/parse.h"
#include "base/sized.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT (YK_XFER_MEM | YK_XFER_SHM | YK_XFER_TCP | YK_XFER_FILE)
#define ALL     (DEFAULT | YK_XFER_RDMA)

static const struct {
    const char *name;
    uint32_t bits;
} transports[] = {{"mem", YK_XFER_MEM},   {"shm", YK_XFER_SHM},   {"tcp", YK_XFER_TCP},
                  {"file", YK_XFER_FILE}, {"rdma", YK_XFER_RDMA}, {"all", ALL}};

static uint32_t bits_of(const char *name, size_t len) {
    for (size_t i = 0; i < sizeof(transports) / sizeof(transports[0]); i++)
        if (strlen(transports[i].name) == len && memcmp(name, transports[i].name, len) == 0)
            return transports[i].bits;
    return 0;
}

int yk_xfer_transports(const char *names, uint32_t *ret_transports) {
    uint32_t all = 0;
    if (names == NULL || ret_transports == NULL)
        return yk_xfer_fail(-YK_EINVAL, "names or ret_transports is NULL");
    for (const char *at = names; at == names || *at != 0;) {
        size_t len = strcspn(at, ",");
        uint32_t bits = bits_of(at, len);
        if (bits == 0)
            return yk_xfer_fail(-YK_EINVAL, "found '%.40s', expected mem, shm, tcp, file, rdma or all, with commas "
                                            "between", at);
        all |= bits;
        at += len;
        if (*at == ',' && *++at == 0)
            return yk_xfer_fail(-YK_EINVAL, "'%.80s' ends with a comma", names);
    }
    *ret_transports = all;
    return 0;
}

int yk_xfer_rdma_check(const char *rdma) {
    struct yk_err err;
    if (rdma == NULL)
        return yk_xfer_fail(-YK_EINVAL, "rdma is NULL");
    return yk_rdma_settings_check(rdma, &err) < 0 ? yk_xfer_fail_err(&err) : 0;
}

static int bad(struct yk_err *err, const char *name, unsigned value, unsigned low, unsigned high) {
    return yk_err_set(err, -YK_EINVAL, "options: %s is %u, expected %u to %u", name, value, low, high);
}

static int check_numbers(const struct yk_xfer_opts *o, struct yk_err *err) {
    if (o->transports & ~(uint32_t)ALL)
        return yk_err_set(err, -YK_EINVAL, "options: transports %#x has bits that mean nothing",
                          o->transports);
    if (o->any_local > 1)
        return bad(err, "any_local", o->any_local, 0, 1);
    if (o->shards > YK_SHARDS_MAX)
        return bad(err, "shards", o->shards, 0, YK_SHARDS_MAX);
    if (o->lanes > 8)
        return bad(err, "lanes", o->lanes, 0, 8);
    if (o->inflight_max > 1u << 24)
        return bad(err, "inflight_max", o->inflight_max, 0, 1u << 24);
    if (o->poll_us > 1000)
        return bad(err, "poll_us", o->poll_us, 0, 1000);
    if (o->connect_ms > 600000)
        return bad(err, "connect_ms", o->connect_ms, 0, 600000);
    if (o->stall_ms > 600000)
        return bad(err, "stall_ms", o->stall_ms, 0, 600000);
    return 0;
}

static int is_loopback(const char *host) {
    return strncmp(host, "127.", 4) == 0 || strcmp(host, "::1") == 0 || strcmp(host, "localhost") == 0;
}

static int check_texts(const struct yk_xfer_opts *o, struct yk_err *err) {
    struct yk_err why;
    struct yk_addr addr;
    if (o->listen != NULL && (yk_parse_addr(o->listen, &addr, &why) < 0 || addr.kind != YK_ADDR_TCP))
        return yk_err_set(err, -YK_EINVAL, "options: listen '%.60s', expected HOST:PORT", o->listen);
    if (o->listen != NULL && !is_loopback(addr.host) && !o->insecure_network)
        return yk_err_set(err, -YK_EPERM,
                          "options: listen '%.60s' is beyond loopback, and nobody is authenticated: set "
                          "insecure_network to allow it",
                          o->listen);
    if (o->listen == NULL && o->advertise != NULL)
        return yk_err_set(err, -YK_EINVAL, "options: advertise without listen");
    if (o->resolver != NULL && o->registry_dir != NULL)
        return yk_err_set(err, -YK_EINVAL, "options: a resolver and registry_dir: one of them");
    if (o->resolver != NULL && (o->resolver->size < sizeof(*o->resolver) ||
                                o->resolver->publish == NULL || o->resolver->withdraw == NULL ||
                                o->resolver->resolve == NULL))
        return yk_err_set(err, -YK_EINVAL, "options: the resolver's size or a function is not set");
    if (o->registry_dir != NULL && access(o->registry_dir, R_OK | W_OK | X_OK) < 0)
        return yk_err_set(err, -YK_EINVAL, "options: registry_dir '%.100s' cannot be written",
                          o->registry_dir);
    if (o->rdma != NULL && !(o->transports & YK_XFER_RDMA))
        return yk_err_set(err, -YK_EINVAL, "options: rdma '%.60s', and rdma is not among the transports", o->rdma);
    int rc = o->rdma != NULL ? yk_rdma_settings_check(o->rdma, err) : 0;
    return rc == 0 && o->fault != NULL ? yk_fault_check(o->fault, err) : rc;
}

static void fill_in(struct yk_xfer_opts *o) {
    o->transports = o->transports != 0 ? o->transports : (uint32_t)DEFAULT;
    o->shards = o->shards != 0 ? o->shards : 1;
    o->lanes = o->lanes != 0 ? o->lanes : 1;
    o->inflight_max = o->inflight_max != 0 ? o->inflight_max : 65536;
    o->connect_ms = o->connect_ms != 0 ? o->connect_ms : 1000;
    o->stall_ms = o->stall_ms != 0 ? o->stall_ms : 200;
    if (o->shm_dir == NULL)
        o->shm_dir = yk_sock_dir();
}

static const char **text_of(struct yk_xfer_opts *o, int i) {
    const char **texts[] = {&o->listen,        &o->advertise, &o->shm_dir, &o->registry_dir,
                            &o->rails,     &o->fault,     &o->topology, &o->rdma};
    return i < (int)(sizeof(texts) / sizeof(texts[0])) ? texts[i] : NULL;
}

int yk_opts_take(const struct yk_xfer_opts *opts, struct yk_xfer_opts *ret_opts, struct yk_err *err) {
    struct yk_xfer_opts o = {.size = sizeof(o)};
    if (opts != NULL && opts->size < offsetof(struct yk_xfer_opts, listen))
        return yk_err_set(err, -YK_EINVAL, "options: size is %u, not sizeof the struct", opts->size);
    if (opts != NULL && opts->size <= 4096u && yk_sized_has_more(opts, opts->size, sizeof(o)))
        return yk_err_set(err, -YK_ENOTSUP, "options: fields beyond the first %zu bytes are set", sizeof(o));
    if (opts != NULL)
        memcpy(&o, opts, opts->size < sizeof(o) ? opts->size : sizeof(o));
    int rc = check_numbers(&o, err);
    if (rc == 0)
        rc = check_texts(&o, err);
    if (rc < 0)
        return rc;
    fill_in(&o);
    int failed = 0;
    for (int i = 0; text_of(&o, i) != NULL; i++) {
        const char **t = text_of(&o, i);
        if (*t != NULL) {
            *t = strdup(*t);
            failed |= *t == NULL;
        }
    }
    yk_xfer_resolver *resolver = NULL;
    if (o.resolver != NULL) {
        resolver = malloc(sizeof(*resolver));
        failed |= resolver == NULL;
        if (resolver != NULL)
            *resolver = *o.resolver;
    }
    o.resolver = resolver;
    *ret_opts = o;
    if (!failed)
        return 0;
    yk_opts_drop(ret_opts);
    return yk_err_set(err, -YK_ENOMEM, "no memory for the options");
}

void yk_opts_drop(struct yk_xfer_opts *o) {
    for (int i = 0; text_of(o, i) != NULL; i++) {
        free((void *)(uintptr_t)*text_of(o, i));
        *text_of(o, i) = NULL;
    }
    free((void *)(uintptr_t)o->resolver);
    o->resolver = NULL;
}
