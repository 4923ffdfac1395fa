/* SPDX-License-Identifier: Apache-2.0
 *
 * yolk xfer: the transfer engine by itself: a target to measure against, whether one answers, which ways
 * lead to a segment and how a request would go.
 */
#include "commands.h"
#include "xfer_view.h"

#include "base/clock.h"
#include "base/fmt.h"
#include "base/text.h"

#include <yolk/transfer.h>

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define WARM_BYTES (4u << 20) /* moved before links are shown, so that they have figures */
#define SETTLE_MS  1500u      /* longer than a connection may take (connect_ms) */

struct xfer_config {
    struct yolk_common common;
    char *listen, *advertise, *name, *rails, *transports, *rdma, *topology;
    uint64_t bytes;
    bool insecure, shm;
};

static const struct yk_opt rows[] = {
    {.name = "listen",
     .letter = 'l',
     .type = YK_OPT_STR,
     YK_OPT_AT(struct xfer_config, listen),
     .metavar = "HOST:PORT",
     .def = "127.0.0.1:7781",
     .help = "Of serve: where peers connect to; port 0 is any free one."},
    {.name = "advertise",
     .type = YK_OPT_STR,
     YK_OPT_AT(struct xfer_config, advertise),
     .metavar = "LIST",
     .help = "Of serve: addresses HOST:PORT that peers are told, instead of those of the interfaces."},
    {.name = "segment",
     .type = YK_OPT_STR,
     YK_OPT_AT(struct xfer_config, name),
     .metavar = "NAME",
     .def = "bench",
     .help = "Of serve: the name of its segment."},
    {.name = "size",
     .type = YK_OPT_SIZE,
     YK_OPT_AT(struct xfer_config, bytes),
     .def = "256M",
     .min = "4K",
     .max = "1T",
     .help = "Of serve: bytes of its segment."},
    {.name = "rails",
     .type = YK_OPT_STR,
     YK_OPT_AT(struct xfer_config, rails),
     .metavar = "LIST",
     .help = "Own devices or addresses to use; all of them when it is not given."},
    {.name = "transports",
     .type = YK_OPT_STR,
     YK_OPT_AT(struct xfer_config, transports),
     .check = yolk_check_transports,
     .metavar = "LIST",
     .help = "Of mem, shm, tcp, file and rdma those to use, or all; all but rdma when it is not given."},
    {.name = "rdma",
     .type = YK_OPT_STR,
     YK_OPT_AT(struct xfer_config, rdma),
     .metavar = "NAME=VALUE,...",
     .help = "Of rdma among --transports: device=NAME or device=NAME:PORT, again for each that may be used; "
             "gid-index, traffic-class, service-level, depth."},
    {.name = "topology",
     .type = YK_OPT_STR,
     YK_OPT_AT(struct xfer_config, topology),
     .metavar = "FILE",
     .help = "Set what is found of devices and their distances right from this file (see yolk topo)."},
    {.name = "insecure-network",
     .type = YK_OPT_BOOL,
     YK_OPT_AT(struct xfer_config, insecure),
     .help = "Allow addresses beyond loopback: nobody is authenticated, anybody who reaches them can read "
             "and write the segment."},
    {.name = "shm",
     .type = YK_OPT_BOOL,
     YK_OPT_AT(struct xfer_config, shm),
     .def = "yes",
     .help = "Let processes of this host use shared memory; --no-shm keeps all to TCP."},
};

static int failed(int rc, const char *what) {
    const char *text = yk_xfer_error_text();
    return yolk_fail(yolk_exit_of(rc), "%s: %s", what, text[0] != '\0' ? text : yk_strerror(rc));
}

/* 0: the engine's choice. */
static int transports_of(const struct xfer_config *c, uint32_t *ret_transports) {
    uint32_t bits = 0;
    if (c->transports != NULL)
        (void)yk_xfer_transports(c->transports, &bits); /* it was checked */
    if (!c->shm && bits == YK_XFER_SHM)
        return yolk_fail(YOLK_USAGE, "xfer: --no-shm leaves none of --transports %s", c->transports);
    if (!c->shm)
        bits = (bits != 0 ? bits : YK_XFER_MEM | YK_XFER_TCP | YK_XFER_FILE) & ~(uint32_t)YK_XFER_SHM;
    *ret_transports = bits;
    return YOLK_OK;
}

static int create(const struct yolk_ctx *ctx, int listens, yk_xfer **ret_engine) {
    const struct xfer_config *c = ctx->config;
    yk_xfer_opts o = {.size = sizeof(o),
                      .listen = listens ? c->listen : NULL,
                      .advertise = listens ? c->advertise : NULL,
                      .insecure_network = c->insecure || !listens,
                      .rails = c->rails,
                      .rdma = c->rdma,
                      .topology = c->topology,
                      .shm_dir = c->shm ? NULL : ""};
    int code = transports_of(c, &o.transports);
    if (code != YOLK_OK)
        return code;
    int rc = yk_xfer_create(&o, ret_engine);
    if (rc == -YK_EPERM && listens)
        return yolk_fail(YOLK_USAGE, "xfer: --listen %s is beyond loopback, and nobody is authenticated there: "
                                     "--insecure-network allows it", c->listen);
    return rc < 0 ? failed(rc, "xfer") : YOLK_OK;
}

/* ---- serve ---------------------------------------------------------------------------------------- */

static int serve(struct yolk_ctx *ctx) {
    const struct xfer_config *c = ctx->config;
    char size[YK_FMT_MAX];
    yk_xfer *engine;
    void *memory;
    sigset_t stops;
    int signal_seen;
    sigemptyset(&stops);
    sigaddset(&stops, SIGINT);
    sigaddset(&stops, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &stops, NULL); /* before the engine's threads are there */
    int code = create(ctx, 1, &engine);
    if (code != YOLK_OK)
        return code;
    int rc = yk_xfer_alloc(engine, c->bytes, YK_XFER_REMOTE_READ | YK_XFER_REMOTE_WRITE, &memory);
    if (rc == 0)
        rc = yk_xfer_publish(engine, c->name, memory, c->bytes, NULL);
    if (rc < 0) {
        code = failed(rc, "xfer serve");
    } else if (ctx->common->json) {
        struct yk_json json;
        yk_json_init_file(&json, stdout);
        yk_json_begin_object(&json);
        yk_json_put_str(&json, "address", yk_xfer_address(engine));
        yk_json_put_str(&json, "segment", c->name);
        yk_json_put_uint(&json, "bytes", c->bytes);
        yk_json_end_object(&json);
        yk_json_newline(&json);
        yk_json_finish(&json);
    } else {
        printf("Segment %s/%s, %s, to read and to write; SIGINT ends it.\n", yk_xfer_address(engine),
               c->name, yk_fmt_bytes(c->bytes, size));
        printf("Elsewhere: yolk bench xfer --target %s/%s\n", yk_xfer_address(engine), c->name);
    }
    fflush(stdout);
    if (rc == 0)
        sigwait(&stops, &signal_seen);
    yk_xfer_destroy(engine);
    return code;
}

/* ---- probe ---------------------------------------------------------------------------------------- */

static int probe(struct yolk_ctx *ctx) {
    char text[YK_FMT_MAX];
    yk_xfer *engine;
    uint64_t ns;
    int code = create(ctx, 0, &engine);
    if (code != YOLK_OK)
        return code;
    int rc = yk_xfer_probe(engine, ctx->args[1], yolk_timeout_ms(ctx), &ns);
    if (rc < 0)
        code = failed(rc, ctx->args[1]);
    else if (ctx->common->json)
        printf("{\"address\": \"%s\", \"round_trip_us\": %.1f}\n", ctx->args[1], (double)ns / 1e3);
    else
        printf("%s answers in %s\n", ctx->args[1], yk_fmt_duration(ns, text));
    yk_xfer_destroy(engine);
    return code;
}

/* ---- links, explain -------------------------------------------------------------------------------- */

/* What is shown of which way. */
struct way {
    const char *segment; /* NULL: memory of this process, at `there` */
    const char *here, *there; /* locations; NULL: wherever it comes to lie */
    uint32_t op;         /* enum yk_xfer_op: how a request would go; 0: the links */
    uint64_t bytes;      /* of that request */
};

/* "cpu:0" and the like are memory, as yolk topo names it; everything else is a segment. */
static int is_location(const char *text) {
    return strchr(text, '/') == NULL && (strncmp(text, "cpu:", 4) == 0 || strncmp(text, "cxl:", 4) == 0 ||
                                         strncmp(text, "cuda:", 5) == 0);
}

/* WARM_BYTES that are said to lie there; they go with the process. */
static int memory_at(yk_xfer *engine, const char *location, char **ret_memory) {
    void *p = mmap(NULL, WARM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return -YK_ENOMEM;
    yk_xfer_memory m = {.addr = p,
                        .length = WARM_BYTES,
                        .location = location,
                        .access = YK_XFER_REMOTE_READ | YK_XFER_REMOTE_WRITE,
                        .fd = -1};
    *ret_memory = p;
    return yk_xfer_register(engine, &m, 1);
}

static int open_way(struct yolk_ctx *ctx, yk_xfer *engine, const struct way *w, yk_xfer_segment *ret_segment) {
    char *memory;
    if (w->segment != NULL)
        return yk_xfer_open(engine, w->segment, yolk_timeout_ms(ctx), ret_segment);
    int rc = memory_at(engine, w->there, &memory);
    if (rc == 0)
        rc = yk_xfer_publish(engine, "explain", memory, WARM_BYTES, NULL);
    return rc < 0 ? rc : yk_xfer_open(engine, "explain", 0, ret_segment);
}

/* Reads a little while connections are being made that nothing is known of yet, so that a rail which leads nowhere can
 * be told from one that is not wanted. */
static int settle(yk_xfer *engine, yk_xfer_segment segment, char *memory) {
    yk_xfer_request r = {.op = YK_XFER_READ, .local = memory, .segment = segment, .length = 1};
    uint64_t end = yk_now_ns() + SETTLE_MS * YK_NS_PER_MS;
    int rc = 0, open = 1;
    while (rc == 0 && open && yk_now_ns() < end) {
        char *text = NULL;
        rc = yk_xfer_links_json(engine, &text);
        open = rc == 0 && yolk_xfer_is_connecting(text);
        free(text);
        if (rc == 0 && open)
            rc = yk_xfer_run(engine, &r, 1, NULL);
        if (open)
            (void)poll(NULL, 0, 5);
    }
    return rc;
}

/* Reads a few times, so that lanes are up and models have seen something. */
static int warm(yk_xfer *engine, yk_xfer_segment segment, char *memory) {
    yk_xfer_segment_info info;
    int rc = yk_xfer_segment_stat(engine, segment, &info);
    if (rc < 0 || !(info.access & YK_XFER_REMOTE_READ))
        return rc;
    for (uint64_t n = info.length < WARM_BYTES ? info.length : WARM_BYTES; rc == 0 && n > 0; n /= 16) {
        yk_xfer_request r = {.op = YK_XFER_READ, .local = memory, .segment = segment, .length = n};
        rc = yk_xfer_run(engine, &r, 1, NULL);
    }
    return rc < 0 ? rc : settle(engine, segment, memory);
}

/* What the engine says of it. */
static int show(struct yolk_ctx *ctx, const struct way *w) {
    yk_xfer *engine;
    yk_xfer_segment segment;
    char *text = NULL, *memory;
    int code = create(ctx, 0, &engine);
    if (code != YOLK_OK)
        return code;
    const char *of = w->segment != NULL ? w->segment : w->there;
    int rc = memory_at(engine, w->here, &memory);
    if (rc < 0)
        of = w->here != NULL ? w->here : "own memory";
    if (rc == 0)
        rc = open_way(ctx, engine, w, &segment);
    if (rc == 0)
        rc = warm(engine, segment, memory);
    if (rc >= 0)
        rc = w->op != 0 ? yk_xfer_explain_json(engine, segment, w->bytes, w->op, &text)
                        : yk_xfer_links_json(engine, &text);
    if (rc < 0)
        code = failed(rc, of);
    else if (ctx->common->json)
        printf("%s\n", text);
    else if ((w->op != 0 ? yolk_xfer_print_choice(text) : yolk_xfer_print_links(text)) < 0)
        printf("%s\n", text);
    free(text);
    yk_xfer_destroy(engine);
    return code;
}

static int links(struct yolk_ctx *ctx) {
    struct way w = {.segment = ctx->args[1]};
    return show(ctx, &w);
}

static int explain(struct yolk_ctx *ctx) {
    struct yk_err err;
    const char *src = ctx->args[1], *dst = ctx->args[2];
    struct way w = {.op = is_location(dst) ? YK_XFER_READ : YK_XFER_WRITE};
    if (yk_parse_size(ctx->args[3], &w.bytes, &err) < 0)
        return yolk_fail(YOLK_USAGE, "xfer explain: %s", err.text);
    if (!is_location(src) && !is_location(dst))
        return yolk_fail(YOLK_USAGE, "xfer explain: found two segments, expected memory of this process, such as "
                                     "cpu:0, as SRC or DST (see yolk topo)");
    w.here = w.op == YK_XFER_READ ? dst : src;
    w.there = w.op == YK_XFER_READ ? src : dst;
    w.segment = is_location(w.there) ? NULL : w.there;
    return show(ctx, &w);
}

static const struct {
    const char *name;
    size_t args; /* with the name */
    int (*fn)(struct yolk_ctx *ctx);
} verbs[] = {{"serve", 1, serve}, {"probe", 2, probe}, {"links", 2, links}, {"explain", 4, explain}};

static int xfer(struct yolk_ctx *ctx) {
    char quoted[YK_QUOTE_MAX];
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        if (strcmp(ctx->args[0], verbs[i].name) != 0)
            continue;
        if (ctx->n_args != verbs[i].args)
            return yolk_fail(YOLK_USAGE, "xfer %s: found %zu arguments, expected %zu (see yolk xfer --help)",
                             verbs[i].name, ctx->n_args - 1, verbs[i].args - 1);
        return yolk_finish(verbs[i].fn(ctx));
    }
    return yolk_fail(YOLK_USAGE, "found xfer %s, expected serve, probe, links or explain",
                     yk_quote(ctx->args[0], quoted));
}

const struct yolk_cmd yolk_cmd_xfer = {
    .name = "xfer",
    .args = "serve|probe|links|explain [ARG]...",
    .min_args = 1,
    .max_args = 4,
    .help = "the transfer engine: a target, and the ways to one",
    .more = "serve publishes a segment until it is interrupted. probe asks whether an engine answers at "
            "HOST:PORT or unix:PATH. links SEGMENT shows the rails to a segment (HOST:PORT/NAME) with "
            "their modelled bandwidth and health. explain SRC DST SIZE shows how so many bytes would go from SRC "
            "to DST, and why: one of them is memory of this process (cpu:N, cxl:N, see yolk topo), the other a "
            "segment, a file (file:/PATH), or such memory, too.",
    YOLK_CMD_OPTIONS(rows),
    .config_bytes = sizeof(struct xfer_config),
    .flags = YOLK_CMD_LOCAL,
    .fn = xfer,
};
