/* SPDX-License-Identifier: Apache-2.0
 *
 * Both ends of transfers whose every byte is checked, for tests that put something between them.
 *
 *   xfer_driver serve --listen HOST:PORT --seed S [--advertise LIST] [--shm-dir D]
 *       publishes "m", BYTES that follow from S and where they stand; says "HOST:PORT", and ends when its standard
 *       input does
 *
 *   xfer_driver ask [--shm-dir D] [--rails LIST] [--stall-ms MS] [--connect-ms MS] [--no-shm 1]
 *       says "ready", reads commands, answers each with one line:
 *         open WHERE TIMEOUT_MS                     ok NUMBER              (of the segment, from 0 on)
 *         probe ADDRESS TIMEOUT_MS                  ok
 *         read|write NUMBER CLASS OFFSET BYTES TIMEOUT_MS SEED             ok
 *         flow NUMBER BYTES DEEP MS TIMEOUT_MS SEED ok ENDED FAILED WRONG TEXT
 *             reads of so many bytes for MS milliseconds, DEEP of them under way at once; TEXT: of the first failure.
 *             Says "flows" first, when the first one has ended
 *         links                                     what the engine says, in one line
 *       or with "failed CODE TEXT", or "wrong OFFSET": the first byte that is not what SEED wants.
 */
#include <yolk/transfer.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BYTES     (16u << 20)
#define SEGMENTS  16u
#define DEEP_MAX  64u

struct options {
    const char *listen, *advertise, *shm_dir, *rails;
    uint64_t seed;
    uint32_t stall_ms, connect_ms, no_shm;
};

static uint64_t memory[BYTES / 8];
static yk_xfer_segment segments[SEGMENTS];
static uint32_t segment_count;

static uint64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* ---- bytes ---------------------------------------------------------------------------------------- */

static uint64_t word(uint64_t seed, uint64_t offset) {
    uint64_t x = (offset / 8 + 1) * 0x9e3779b97f4a7c15ull + seed * 0xbf58476d1ce4e5b9ull;
    return (x ^ (x >> 31)) * 0x94d049bb133111ebull;
}

static void fill(uint64_t *to, uint64_t seed, uint64_t offset, uint64_t bytes) {
    for (uint64_t i = 0; i < bytes / 8; i++)
        to[i] = word(seed, offset + i * 8);
}

/* Where it is not what it should be; UINT64_MAX: nowhere. */
static uint64_t first_wrong(const uint64_t *at, uint64_t seed, uint64_t offset, uint64_t bytes) {
    for (uint64_t i = 0; i < bytes / 8; i++)
        if (at[i] != word(seed, offset + i * 8))
            return offset + i * 8;
    return UINT64_MAX;
}

/* ---- answers -------------------------------------------------------------------------------------- */

static void say_failed(int rc) {
    printf("failed %d %s\n", rc, yk_xfer_error_text());
}

/* ---- commands ------------------------------------------------------------------------------------- */

static void do_open(yk_xfer *e, const char *args) {
    char where[512];
    unsigned timeout_ms;
    int rc = -YK_EINVAL;
    if (sscanf(args, "%511s %u", where, &timeout_ms) == 2 && segment_count < SEGMENTS)
        rc = yk_xfer_open(e, where, timeout_ms, &segments[segment_count]);
    if (rc < 0)
        say_failed(rc);
    else
        printf("ok %u\n", segment_count++);
}

static void do_probe(yk_xfer *e, const char *args) {
    char where[512];
    unsigned timeout_ms;
    int rc = -YK_EINVAL;
    if (sscanf(args, "%511s %u", where, &timeout_ms) == 2)
        rc = yk_xfer_probe(e, where, timeout_ms, NULL);
    if (rc < 0)
        say_failed(rc);
    else
        printf("ok\n");
}

static void do_one(yk_xfer *e, uint32_t op, const char *args) {
    unsigned number, xclass, timeout_ms;
    unsigned long long offset, bytes, seed;
    if (sscanf(args, "%u %u %llu %llu %u %llu", &number, &xclass, &offset, &bytes, &timeout_ms, &seed) != 6 ||
        number >= segment_count || offset > BYTES || bytes > BYTES - offset) {
        printf("failed %d wrong arguments\n", -YK_EINVAL);
        return;
    }
    yk_xfer_request q = {.op = op, .local = memory, .segment = segments[number], .offset = offset, .length = bytes};
    yk_xfer_submit_opts o = {.size = sizeof(o), .xclass = xclass, .timeout_ms = timeout_ms};
    if (op == YK_XFER_WRITE)
        fill(memory, seed, offset, bytes);
    else
        memset(memory, 0, bytes);
    int rc = yk_xfer_run(e, &q, 1, &o);
    uint64_t wrong = rc == 0 ? first_wrong(memory, seed, offset, bytes) : UINT64_MAX;
    if (rc < 0)
        say_failed(rc);
    else if (wrong != UINT64_MAX)
        printf("wrong %llu\n", (unsigned long long)wrong);
    else
        printf("ok\n");
}

struct flow {
    unsigned number, bytes, deep, ms, timeout_ms;
    unsigned long long seed;
    uint64_t next, ended, failed, wrong;
    uint64_t offset[DEEP_MAX];
    char text[256];
};

static uint64_t *place_of(const struct flow *f, uint64_t slot) {
    return memory + slot * f->bytes / 8;
}

static int flow_submit(yk_xfer *e, struct flow *f, uint64_t slot) {
    f->offset[slot] = f->next++ % (BYTES / f->bytes) * f->bytes;
    yk_xfer_request q = {.op = YK_XFER_READ,
                         .local = place_of(f, slot),
                         .segment = segments[f->number],
                         .offset = f->offset[slot],
                         .length = f->bytes};
    yk_xfer_submit_opts o = {.size = sizeof(o),
                             .xclass = YK_XFER_DEMAND,
                             .flags = YK_XFER_EVENT,
                             .timeout_ms = f->timeout_ms,
                             .user = (void *)(uintptr_t)slot};
    yk_xfer_batch b;
    return yk_xfer_submit(e, &q, 1, &o, &b);
}

static void flow_ended(yk_xfer *e, struct flow *f, const yk_xfer_completion *c) {
    uint64_t slot = (uint64_t)(uintptr_t)c->user;
    if (c->status != 0 && f->failed++ == 0) {
        (void)yk_xfer_wait(e, c->batch, 0); /* for its text */
        snprintf(f->text, sizeof(f->text), "%d %.200s", c->status, yk_xfer_error_text());
    }
    f->wrong += c->status == 0 && first_wrong(place_of(f, slot), f->seed, f->offset[slot], f->bytes) != UINT64_MAX;
    if (f->ended++ == 0)
        printf("flows\n");
    yk_xfer_batch_free(e, c->batch);
}

static void do_flow(yk_xfer *e, const char *args) {
    struct flow f = {.text = "-"};
    int rc = 0;
    if (sscanf(args, "%u %u %u %u %u %llu", &f.number, &f.bytes, &f.deep, &f.ms, &f.timeout_ms, &f.seed) != 6 ||
        f.number >= segment_count || f.deep > DEEP_MAX || f.bytes == 0 || (uint64_t)f.bytes * f.deep > BYTES) {
        printf("failed %d wrong arguments\n", -YK_EINVAL);
        return;
    }
    uint64_t end = now_ms() + f.ms, flying = 0;
    for (; flying < f.deep && rc == 0; flying += rc == 0)
        rc = flow_submit(e, &f, flying);
    while (flying > 0 && rc >= 0) {
        yk_xfer_completion c;
        rc = yk_xfer_poll(e, &c, 1, 100);
        if (rc <= 0)
            continue;
        flow_ended(e, &f, &c);
        flying--;
        rc = now_ms() < end ? flow_submit(e, &f, (uint64_t)(uintptr_t)c.user) : 1;
        flying += rc == 0;
    }
    if (rc < 0)
        say_failed(rc);
    else
        printf("ok %llu %llu %llu %s\n", (unsigned long long)f.ended, (unsigned long long)f.failed,
               (unsigned long long)f.wrong, f.text);
}

static void do_links(yk_xfer *e) {
    char *json;
    int rc = yk_xfer_links_json(e, &json);
    if (rc < 0) {
        say_failed(rc);
        return;
    }
    for (char *at = json; *at != 0; at++)
        *at = *at == '\n' ? ' ' : *at;
    puts(json);
    free(json);
}

static void command(yk_xfer *e, const char *line) {
    if (strncmp(line, "open ", 5) == 0)
        do_open(e, line + 5);
    else if (strncmp(line, "probe ", 6) == 0)
        do_probe(e, line + 6);
    else if (strncmp(line, "read ", 5) == 0)
        do_one(e, YK_XFER_READ, line + 5);
    else if (strncmp(line, "write ", 6) == 0)
        do_one(e, YK_XFER_WRITE, line + 6);
    else if (strncmp(line, "flow ", 5) == 0)
        do_flow(e, line + 5);
    else if (strcmp(line, "links\n") == 0)
        do_links(e);
    else
        printf("failed %d no such command\n", -YK_EINVAL);
}

/* ---- life ------------------------------------------------------------------------------------------- */

static int create(const struct options *o, yk_xfer **ret_engine) {
    yk_xfer_opts x = {.size = sizeof(x),
                      .listen = o->listen,
                      .advertise = o->advertise,
                      .insecure_network = 1,
                      .shm_dir = o->no_shm ? "" : o->shm_dir,
                      .transports = o->no_shm ? YK_XFER_TCP : YK_XFER_SHM | YK_XFER_TCP,
                      .rails = o->rails,
                      .stall_ms = o->stall_ms,
                      .connect_ms = o->connect_ms,
                      .any_local = 1};
    int rc = yk_xfer_create(&x, ret_engine);
    if (rc < 0)
        fprintf(stderr, "xfer_driver: %s\n", yk_xfer_error_text());
    return rc;
}

static int serve(const struct options *o) {
    yk_xfer *e;
    void *at;
    char c;
    if (create(o, &e) < 0)
        return 1;
    int rc = yk_xfer_alloc(e, BYTES, YK_XFER_REMOTE_READ | YK_XFER_REMOTE_WRITE, &at);
    if (rc == 0) {
        fill(at, o->seed, 0, BYTES);
        rc = yk_xfer_publish(e, "m", at, BYTES, NULL);
    }
    if (rc < 0) {
        fprintf(stderr, "xfer_driver: %s\n", yk_xfer_error_text());
        return 1;
    }
    printf("%s\n", yk_xfer_address(e));
    while (read(STDIN_FILENO, &c, 1) > 0)
        continue;
    yk_xfer_destroy(e);
    return 0;
}

static int ask(const struct options *o) {
    char line[1024];
    yk_xfer *e;
    if (create(o, &e) < 0)
        return 1;
    printf("ready\n");
    while (fgets(line, sizeof(line), stdin) != NULL)
        command(e, line);
    yk_xfer_destroy(e);
    return 0;
}

static int option(struct options *o, const char *name, const char *value) {
    static const struct {
        const char *name;
        size_t at;
    } texts[] = {{"--listen", offsetof(struct options, listen)},
                 {"--advertise", offsetof(struct options, advertise)},
                 {"--shm-dir", offsetof(struct options, shm_dir)},
                 {"--rails", offsetof(struct options, rails)}};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        if (strcmp(name, texts[i].name) == 0) {
            memcpy((char *)o + texts[i].at, &value, sizeof(value));
            return 1;
        }
    uint32_t n = (uint32_t)strtoul(value, NULL, 10);
    if (strcmp(name, "--seed") == 0)
        o->seed = n;
    else if (strcmp(name, "--stall-ms") == 0)
        o->stall_ms = n;
    else if (strcmp(name, "--connect-ms") == 0)
        o->connect_ms = n;
    else if (strcmp(name, "--no-shm") == 0)
        o->no_shm = n;
    else
        return 0;
    return 1;
}

int main(int argc, char **argv) {
    struct options o = {0};
    int good = argc >= 2 && argc % 2 == 0;
    for (int i = 2; good && i + 1 < argc; i += 2)
        good = option(&o, argv[i], argv[i + 1]);
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (good && strcmp(argv[1], "serve") == 0)
        return serve(&o);
    if (good && strcmp(argv[1], "ask") == 0)
        return ask(&o);
    fprintf(stderr, "usage: xfer_driver serve|ask [--OPTION VALUE]...\n");
    return 2;
}
