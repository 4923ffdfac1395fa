/* SPDX-License-Identifier: Apache-2.0
 *
 * yolk xfer: the transfer engine by itself: a target to measure against, whether one answers, which ways
 * lead to a segment and how a request would go.
 */
#include "commands.h"
#include "xfer_view.h"

#include "base/fmt.h"
#include "base/text.h"

#include <yolk/transfer.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WARM_BYTES (4u << 20) /* moved before links are shown, so that they have figures */

struct xfer_config {
    struct yolk_common common;
    char *listen, *advertise, *name, *rails, *topology;
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

static int create(const struct yolk_ctx *ctx, int listens, yk_xfer **ret_engine) {
    const struct xfer_config *c = ctx->config;
    yk_xfer_opts o = {.size = sizeof(o),
                      .listen = listens ? c->listen : NULL,
                      .advertise = listens ? c->advertise : NULL,
                      .insecure_network = c->insecure || !listens,
                      .rails = c->rails,
                      .topology = c->topology,
                      .transports = c->shm ? 0 : YK_XFER_MEM | YK_XFER_TCP | YK_XFER_FILE,
                      .shm_dir = c->shm ? NULL : ""};
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

static int open_segment(struct yolk_ctx *ctx, const char *where, yk_xfer **ret_engine,
                        yk_xfer_segment *ret_segment) {
    int code = create(ctx, 0, ret_engine);
    if (code != YOLK_OK)
        return code;
    int rc = yk_xfer_open(*ret_engine, where, yolk_timeout_ms(ctx), ret_segment);
    if (rc == 0)
        return YOLK_OK;
    code = failed(rc, where);
    yk_xfer_destroy(*ret_engine);
    return code;
}

/* Reads a few times, so that lanes are up and models have seen something. */
static int warm(yk_xfer *engine, yk_xfer_segment segment) {
    yk_xfer_segment_info info;
    void *memory;
    int rc = yk_xfer_segment_stat(engine, segment, &info);
    if (rc < 0 || !(info.access & YK_XFER_REMOTE_READ))
        return rc;
    uint64_t len = info.length < WARM_BYTES ? info.length : WARM_BYTES;
    rc = yk_xfer_alloc(engine, len, 0, &memory);
    for (uint64_t n = len; rc == 0 && n > 0; n /= 16) {
        yk_xfer_request r = {.op = YK_XFER_READ, .local = memory, .segment = segment, .length = n};
        rc = yk_xfer_run(engine, &r, 1, NULL);
    }
    return rc;
}

/* What the engine says of the segment: links, or how a read of so many bytes would go. */
static int show(struct yolk_ctx *ctx, int explains, uint64_t bytes) {
    yk_xfer *engine;
    yk_xfer_segment segment;
    char *text = NULL;
    int code = open_segment(ctx, ctx->args[1], &engine, &segment);
    if (code != YOLK_OK)
        return code;
    int rc = warm(engine, segment);
    if (rc >= 0)
        rc = explains ? yk_xfer_explain_json(engine, segment, bytes, YK_XFER_READ, &text)
                      : yk_xfer_links_json(engine, &text);
    if (rc < 0)
        code = failed(rc, ctx->args[1]);
    else if (ctx->common->json)
        printf("%s\n", text);
    else if ((explains ? yolk_xfer_print_choice(text) : yolk_xfer_print_links(text)) < 0)
        printf("%s\n", text);
    free(text);
    yk_xfer_destroy(engine);
    return code;
}

static int links(struct yolk_ctx *ctx) {
    return show(ctx, 0, 0);
}

static int explain(struct yolk_ctx *ctx) {
    struct yk_err err;
    uint64_t bytes;
    if (yk_parse_size(ctx->args[2], &bytes, &err) < 0)
        return yolk_fail(YOLK_USAGE, "xfer explain: %s", err.text);
    return show(ctx, 1, bytes);
}

static const struct {
    const char *name;
    size_t args; /* with the name */
    int (*fn)(struct yolk_ctx *ctx);
} verbs[] = {{"serve", 1, serve}, {"probe", 2, probe}, {"links", 2, links}, {"explain", 3, explain}};

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
    .max_args = 3,
    .help = "the transfer engine: a target, and the ways to one",
    .more = "serve publishes a segment until it is interrupted. probe asks whether an engine answers at "
            "HOST:PORT or unix:PATH. links SEGMENT shows the rails to a segment (HOST:PORT/NAME) with "
            "their modelled bandwidth and health; explain SEGMENT SIZE, how a read of so many bytes "
            "would go, and why.",
    YOLK_CMD_OPTIONS(rows),
    .config_bytes = sizeof(struct xfer_config),
    .flags = YOLK_CMD_LOCAL,
    .fn = xfer,
};
