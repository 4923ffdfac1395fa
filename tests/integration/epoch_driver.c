/* SPDX-License-Identifier: Apache-2.0
 *
 * A client of a pool of several nodes that loads new weights all the time, and a keeper of pins, for tests that hurt
 * nodes and the metadata's members meanwhile (test_cluster_faults.py). One process, one call at a time.
 *
 *   epoch_driver --urls U,U,... --ns NAME --seed S --until-file P [--keys K] [--len L] [--timeout-ms T]
 *
 * It has a handle at each node, of the epoch that was the newest when the handle was opened, or that the handle has
 * raised to since. Through handles at random it puts and gets K keys, and raises the epoch. The payload says key and
 * epoch in every word. What must hold (rule R9): what a handle gets is of exactly its epoch; nothing conflicts, since
 * a key has one content in one epoch; every call ends.
 *
 * When P is there, and the nodes are to be well by then, it raises once more, puts all keys through the first node
 * with hard pins, and each must be found through every node; a handle of the epoch before must be refused by each;
 * and behind as much other payload as the first node's memory holds the pinned blocks must be there still.
 *
 * Exits 0 when nothing was wrong; what was wrong is said with its time, in seconds of CLOCK_MONOTONIC. The last line
 * of its output is a JSON object of counts.
 */
#include <yolk/yolk.h>

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define URLS_MAX 64u
#define KEYS_MAX 4096u
#define WORDS    2u     /* of the payload at least: key, epoch */
#define TEXT_MAX 32u    /* of a key */
#define GRACE_MS 10000u /* of a call beyond its deadline: machines stand still, too */
#define WELL_MS  60000u /* of what must come about at the end */

static struct {
    char *url[URLS_MAX];
    uint32_t urls, keys, len, timeout_ms;
    const char *ns, *until;
    uint64_t seed, fill_bytes;
} o = {.keys = 16, .len = 8192, .timeout_ms = 5000, .fill_bytes = 96u << 20};

static struct {
    yk_client *client;
    uint64_t epoch;
} at[URLS_MAX];

static uint64_t newest = 1; /* epoch that somebody has agreed to */
static uint64_t asked = 1;  /* the highest that was asked for: it may be raised to at any later time */
static struct {
    uint64_t gets, hits, puts, raises, refused, failed, wrong, late;
} count;
static uint64_t *words, *want;

static uint64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

static void is_wrong(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void is_wrong(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fprintf(stderr, "epoch_driver: %.3f WRONG: ", (double)now_ms() / 1000.0);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    count.wrong++;
}

static uint32_t pick(uint32_t below) {
    o.seed = o.seed * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)((o.seed >> 33) % below);
}

static yk_key key_of(char text[TEXT_MAX], const char *what, uint32_t n) {
    return (yk_key){text, (size_t)snprintf(text, TEXT_MAX, "%s%u", what, n)};
}

static void fill(uint64_t *to, uint32_t n, uint64_t epoch) {
    for (uint32_t i = 0; i < o.len / sizeof(*to); i += WORDS) {
        to[i] = n;
        to[i + 1] = epoch;
    }
}

/* What every call ends with. */
static int ended(uint64_t begun_ms, int rc, const char *what) {
    if (now_ms() - begun_ms > o.timeout_ms + GRACE_MS) {
        fprintf(stderr, "epoch_driver: %.3f LATE: %s took %" PRIu64 " ms\n", (double)now_ms() / 1000.0, what,
                now_ms() - begun_ms);
        count.late++;
    }
    count.failed += rc < 0;
    return rc;
}

static int open_at(uint32_t u, uint64_t epoch, yk_client **ret_client) {
    yk_open_opts oo = {.size = sizeof(oo), .flags = YK_OPEN_HANDLE_SIGBUS, .timeout_ms = o.timeout_ms, .name_space = o.ns,
                       .epoch = epoch};
    uint64_t begun = now_ms();
    return ended(begun, yk_open(o.url[u], &oo, ret_client), "an open");
}

static void do_open(uint32_t u) {
    yk_close(at[u].client);
    at[u].client = NULL;
    int rc = open_at(u, newest, &at[u].client);
    at[u].epoch = newest;
    if (rc == -YK_ESTALE && asked == newest)
        is_wrong("%s knows a higher epoch than %" PRIu64 ", which nobody asked for", o.url[u], newest);
    if (rc == -YK_ESTALE)
        newest++; /* one that was asked for, and not answered */
}

static int do_get(uint32_t u, const char *what, uint32_t n) {
    char text[TEXT_MAX];
    size_t len = 0;
    uint64_t begun = now_ms();
    int rc = ended(begun, yk_get(at[u].client, key_of(text, what, n), words, o.len, &len), "a get");
    count.gets++;
    if (rc != 0)
        return rc;
    count.hits++;
    fill(want, n, at[u].epoch);
    if (len != o.len || memcmp(words, want, len) != 0)
        is_wrong("got %s%u of epoch %" PRIu64 " at %s, as of epoch %" PRIu64 " (%zu bytes)", what, n, words[1], o.url[u],
                 at[u].epoch, len);
    return rc;
}

static int do_put(uint32_t u, const char *what, uint32_t n, uint32_t flags) {
    char text[TEXT_MAX];
    yk_put_opts po = {.size = sizeof(po), .flags = flags};
    fill(words, n, at[u].epoch);
    uint64_t begun = now_ms();
    int rc = ended(begun, yk_put(at[u].client, key_of(text, what, n), words, o.len, &po), "a put");
    count.puts += rc == 0;
    if (rc == -YK_ECONFLICT)
        is_wrong("a conflict over %s%u at %s in epoch %" PRIu64, what, n, o.url[u], at[u].epoch);
    return rc;
}

static int do_raise(uint32_t u) {
    uint64_t to = newest + 1u, begun = now_ms();
    asked = to > asked ? to : asked;
    int rc = ended(begun, yk_ns_raise_epoch(at[u].client, o.ns, to), "a raise");
    if (rc == 0) {
        newest = at[u].epoch = to;
        count.raises++;
    } else {
        do_open(u); /* whether its epoch followed nobody knows */
    }
    return rc;
}

static void step(void) {
    uint32_t u = pick(o.urls), n = pick(o.keys), what = pick(1000);
    if (at[u].client == NULL || what < 10)
        do_open(u);
    else if (what < 15)
        do_raise(u);
    else if (what < 600)
        do_get(u, "k", n);
    else if (do_put(u, "k", n, 0) == -YK_ESTALE)
        do_open(u);
}

/* ---- when all is well ------------------------------------------------------------------------------- */

#define UNTIL(condition, ...)                                                                                     \
    do {                                                                                                           \
        uint64_t until_ms = now_ms() + WELL_MS;                                                                    \
        while (!(condition) && now_ms() < until_ms)                                                                \
            usleep(10000);                                                                                         \
        if (now_ms() >= until_ms) {                                                                                \
            is_wrong(__VA_ARGS__);                                                                                 \
            return;                                                                                                \
        }                                                                                                          \
    } while (0)

static int opened(uint32_t u) {
    do_open(u);
    return at[u].client != NULL && at[u].epoch == newest;
}

static int is_refused(uint32_t u, uint64_t epoch) {
    yk_client *client = NULL;
    int rc = open_at(u, epoch, &client);
    yk_close(client);
    count.refused += rc == -YK_ESTALE;
    return rc == -YK_ESTALE;
}

/* Each word of the payload is checked by do_get. */
static void all_are_found(void) {
    for (uint32_t u = 0; u < o.urls; u++)
        for (uint32_t n = 0; n < o.keys; n++)
            UNTIL(do_get(u, "k", n) == 0, "k%u, pinned and put in epoch %" PRIu64 ", is not found at %s", n, newest,
                  o.url[u]);
}

static void at_the_end(void) {
    UNTIL(opened(0), "the first node cannot be opened: %s", yk_error_text(NULL));
    UNTIL(do_raise(0) == 0, "the epoch cannot be raised to %" PRIu64, newest + 1u);
    for (uint32_t u = 1; u < o.urls; u++)
        UNTIL(opened(u), "%s cannot be opened: %s", o.url[u], yk_error_text(NULL));
    for (uint32_t u = 0; u < o.urls; u++)
        UNTIL(is_refused(u, newest - 1u), "%s takes epoch %" PRIu64 " yet", o.url[u], newest - 1u);
    for (uint32_t n = 0; n < o.keys; n++)
        UNTIL(do_put(0, "k", n, YK_PUT_HARD_PIN) == 0, "k%u cannot be put: %s", n, yk_error_text(at[0].client));
    all_are_found();
    for (uint32_t n = 0; n < o.fill_bytes / o.len; n++)
        UNTIL(do_put(0, "other", n, 0) == 0, "other%u cannot be put: %s", n, yk_error_text(at[0].client));
    if (count.wrong == 0)
        all_are_found();
}

static int option(const char *name, char *value) {
    if (strcmp(name, "--urls") == 0) {
        for (char *u = strtok(value, ","); u != NULL && o.urls < URLS_MAX; u = strtok(NULL, ","))
            o.url[o.urls++] = u;
    } else if (strcmp(name, "--ns") == 0) {
        o.ns = value;
    } else if (strcmp(name, "--until-file") == 0) {
        o.until = value;
    } else if (strcmp(name, "--seed") == 0) {
        o.seed = strtoull(value, NULL, 10);
    } else if (strcmp(name, "--keys") == 0) {
        o.keys = (uint32_t)strtoul(value, NULL, 10);
    } else if (strcmp(name, "--len") == 0) {
        o.len = (uint32_t)strtoul(value, NULL, 10);
    } else if (strcmp(name, "--timeout-ms") == 0) {
        o.timeout_ms = (uint32_t)strtoul(value, NULL, 10);
    } else {
        return -1;
    }
    return 0;
}

int main(int argc, char **argv) {
    int bad = 0;
    for (int i = 1; i < argc && !bad; i += 2)
        bad = i + 1 == argc || option(argv[i], argv[i + 1]) < 0;
    if (bad || o.urls == 0 || o.ns == NULL || o.until == NULL || o.keys == 0 || o.keys > KEYS_MAX ||
        o.len % (WORDS * sizeof(*words)) != 0 || o.len == 0) {
        fprintf(stderr, "epoch_driver: see the head of epoch_driver.c\n");
        return 2;
    }
    words = malloc(o.len);
    want = malloc(o.len);
    if (words == NULL || want == NULL)
        return 2;
    while (access(o.until, F_OK) != 0)
        step();
    at_the_end();
    for (uint32_t u = 0; u < o.urls; u++)
        yk_close(at[u].client);
    printf("{\"gets\": %" PRIu64 ", \"hits\": %" PRIu64 ", \"puts\": %" PRIu64 ", \"raises\": %" PRIu64
           ", \"refused\": %" PRIu64 ", \"failed\": %" PRIu64 ", \"wrong\": %" PRIu64 ", \"late\": %" PRIu64 "}\n",
           count.gets, count.hits, count.puts, count.raises, count.refused, count.failed, count.wrong, count.late);
    free(words);
    free(want);
    return count.wrong == 0 && count.late == 0 ? 0 : 1;
}
