/* SPDX-License-Identifier: Apache-2.0
 *
 * A client of a pool of several nodes that checks every byte, for tests that kill, stop, cut off and drain
 * nodes and the metadata's members meanwhile.
 *
 *   pool_driver work  --urls U,U,... --at I --ledger F --id N --workers W --seed S --until-file P
 *                     [--keys K] [--len L] [--timeout-ms T] [--prefix X]
 *   pool_driver check --urls U,U,... --ledger F --workers W [--keys K] [--len L] [--timeout-ms T] [--prefix X]
 *
 *   pool_driver pin    --urls U,U,... --at I               [--keys K] [--len L] [--timeout-ms T] [--prefix X]
 *   pool_driver fill   --urls U,U,... --at I --until-file P           [--len L] [--timeout-ms T] [--prefix X]
 *   pool_driver pinned --urls U,U,... [--lost I]...        [--keys K] [--len L] [--timeout-ms T] [--prefix X]
 *
 * A worker owns K keys ("<X>w<id>-<n>"): it alone puts and removes them, through the node at urls[I] or, when
 * that one cannot be opened any more, the next one. All workers get the keys of all. Each put after a remove
 * has another version, from which length and bytes follow, and which the payload begins with.
 *
 * The ledger is a shared file mapping; of each key it has the highest version whose put was begun, that was
 * acknowledged, and whose remove is done. Whoever gets version v of a key, exact in every byte, is right if v
 * is above what was removed before the get began, and not above what was begun when it has ended. Anything
 * else that is no miss is wrong: bytes that never were, or a block that came back. A remove that is not done
 * (its deadline passed, a node did not answer) says nothing, and is asked for again before the key is put
 * again. Nor does a put that was not answered: it may lie before a node that is stopped, and land after a
 * remove; that version is right whenever it is exact.
 *
 * Every fourth key is put with two copies (docs/decisions/0017). A version of which the put said that both are there is
 * `safe`: it is to be found after any one node has lost its memory, or its state.
 *
 * The first bytes of the ledger are written by the test, one for each URL: not 0 while that node may be expelled
 * and not know it. Its own clients may then get from it what was removed meanwhile (rule R10): counted as `behind`.
 *
 * `pin` puts K keys through the node at urls[I] with hard pins. `fill` puts more there than its memory holds, without
 * pins, until P is there. `pinned`: after the first of each node, and when all is well, they are found through every node,
 * and are pinned at their own; then they are no more. Those of urls[I] that is `lost` are not asked for.
 *
 * What was wrong is said with its time, in seconds of CLOCK_MONOTONIC.
 *
 * `work` exits 0 when nothing was wrong and every call ended within its deadline; `check` gets all keys through
 * every node once more, and prints what all of them counted. A key is `present` when its put was acknowledged and
 * no remove of it was asked for since, and none before that may be made yet: one that is not `found` then was lost
 * or evicted, and is named. Of the present ones `safe` counts those that are, `safe_found` those of them that are found.
 */
#include <yolk/yolk.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define KEYS_MAX    4096u
#define WORKERS_MAX 32u
#define URLS_MAX    64u
#define TIRED       4u     /* calls in a row that failed, after which another node is asked */
#define PREFIX_MAX  64u
#define CLOUDY_MAX  4096u  /* versions of a key that are told apart in `cloudy` */
#define LENGTHS     4u     /* that many blocks share */
#define TEXT_MAX    (PREFIX_MAX + 32u) /* of a key */
#define COPIES      2u     /* of every fourth key */
#define FILL_BYTES  (96u << 20) /* more than a node of the tests has */
#define PINNED_HARD 2u /* of yk_block_info */
#define WELL_MS     60000u /* of what must come about when all is well */
#define GRACE_MS    10000u /* of a call beyond its deadline: machines stand still, too */

struct entry { /* written by its owner alone */
    uint32_t begun, present, removed; /* versions; 0 = none */
    uint32_t safe; /* the highest whose copies are all there */
    uint32_t asked; /* the highest whose remove was asked for, done or not */
    uint32_t unsure; /* removes that were not done: each may be made at any later time */
    uint32_t cloudy[CLOUDY_MAX / 32u]; /* a bit for each whose put was not answered: it may land at any later time */
};

struct counts {
    uint64_t gets, hits, others, puts, removes, unsure, failed, wrong, late, moved, behind, fewer;
};

struct ledger {
    unsigned char apart[URLS_MAX]; /* written by the test */
    struct entry key[WORKERS_MAX][KEYS_MAX];
    struct counts n[WORKERS_MAX];
};

struct options {
    char *url[URLS_MAX];
    uint32_t urls, at, id, workers, keys, len, timeout_ms;
    unsigned char lost[URLS_MAX];
    const char *ledger, *until, *prefix;
    uint64_t seed;
};

struct worker {
    const struct options *o;
    struct ledger *l;
    struct counts *n;
    yk_client *c;
    uint32_t at, tired;
    unsigned char *buf, *want;
    uint64_t rng;
    int apart; /* the node was so before the call under way */
    unsigned char open_remove[KEYS_MAX]; /* a remove that is not done */
};

/* ---- blocks ----------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t x) {
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

static uint32_t pick(struct worker *w, uint32_t below) {
    w->rng = mix(w->rng);
    return (uint32_t)(w->rng % below);
}

static yk_key key_of(const struct options *o, char text[TEXT_MAX], uint32_t id, uint32_t n) {
    return (yk_key){text, (size_t)snprintf(text, TEXT_MAX, "%sw%u-%u", o->prefix, id, n)};
}

/* Half of all have one of a few lengths, as a place that one block left is given to another of its length first; the
 * others have any. */
static size_t length_of(const struct options *o, uint32_t id, uint32_t n, uint32_t version) {
    uint64_t number = (uint64_t)id << 52 | (uint64_t)n << 32 | version, m = mix(number);
    if (m & 1u)
        return o->len - (m >> 1) % LENGTHS * (o->len / LENGTHS - 1u);
    return sizeof(number) + (m >> 1) % (o->len - sizeof(number));
}

/* The number first, then what follows from it. */
static void fill(unsigned char *p, size_t len, uint32_t id, uint32_t n, uint32_t version) {
    uint64_t number = (uint64_t)id << 52 | (uint64_t)n << 32 | version;
    memcpy(p, &number, sizeof(number));
    for (size_t i = sizeof(number); i < len; i++)
        p[i] = (unsigned char)((number * 0x9e3779b97f4a7c15ull >> (i % 56)) + i);
}

static uint32_t read_version(const uint32_t *at) {
    return __atomic_load_n(at, __ATOMIC_SEQ_CST);
}

/* Bits are set by the owner of the key alone. */
static int is_cloudy(const struct entry *e, uint32_t version) {
    return read_version(&e->cloudy[version % CLOUDY_MAX / 32u]) >> version % 32u & 1u;
}

static void write_version(uint32_t *at, uint32_t version) {
    __atomic_store_n(at, version, __ATOMIC_SEQ_CST);
}

static void set_cloudy(struct entry *e, uint32_t version) {
    uint32_t *bits = &e->cloudy[version % CLOUDY_MAX / 32u];
    write_version(bits, *bits | 1u << version % 32u);
}

static int any_cloudy(const struct entry *e) {
    uint32_t any = 0;
    for (uint32_t i = 0; i < CLOUDY_MAX / 32u; i++)
        any |= e->cloudy[i];
    return any != 0;
}

/* ---- calls ------------------------------------------------------------------------------------ */

static uint64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

static int open_at(struct worker *w) {
    yk_open_opts oo = {.size = sizeof(oo), .flags = YK_OPEN_HANDLE_SIGBUS, .timeout_ms = w->o->timeout_ms};
    for (uint32_t i = 0; i < w->o->urls; i++) {
        if (yk_open(w->o->url[(w->at + i) % w->o->urls], &oo, &w->c) == 0) {
            w->at = (w->at + i) % w->o->urls;
            return 0;
        }
    }
    return -1;
}

/* What every call ends with. */
static void ended(struct worker *w, uint64_t begun_ms, int rc, const char *what) {
    if (now_ms() - begun_ms > w->o->timeout_ms + GRACE_MS) {
        w->n->late++;
        fprintf(stderr, "pool_driver: %.3f LATE: %s took %llu ms, %u were given\n", (double)now_ms() / 1000.0, what,
                (unsigned long long)(now_ms() - begun_ms), w->o->timeout_ms);
    }
    if (rc >= 0 || rc == -YK_ECONFLICT) {
        w->tired = 0;
        return;
    }
    w->n->failed++;
    if (w->o->until == NULL || ++w->tired < TIRED) /* a check stays where it is */
        return;
    w->tired = 0;
    yk_close(w->c);
    w->c = NULL;
    w->at++;
    w->n->moved++;
    while (open_at(w) < 0 && access(w->o->until, F_OK) != 0)
        usleep(10000);
}

static void wrong(struct worker *w, uint32_t id, uint32_t n, const char *what, uint32_t version,
                  const struct entry *before) {
    const struct entry *e = &w->l->key[id][n];
    w->n->wrong++;
    fprintf(stderr,
            "pool_driver: %.3f WRONG: %s of w%u-%u at %s: version %u; begun %u, present %u; removed %u before "
            "the call, %u now\n",
            (double)now_ms() / 1000.0, what, id, n, w->o->url[w->at % w->o->urls], version, e->begun, e->present, before->removed,
            e->removed);
}

static int is_apart(const struct worker *w) {
    return __atomic_load_n(&w->l->apart[w->at % w->o->urls], __ATOMIC_SEQ_CST);
}

static void came_back(struct worker *w, uint32_t id, uint32_t n, const char *what, uint32_t version,
                      const struct entry *before) {
    if (w->apart || is_apart(w))
        w->n->behind++;
    else
        wrong(w, id, n, what, version, before);
}

/* Whose bytes these are, and how far: what else of a fault can tell its cause. */
static void whose(struct worker *w, uint64_t number, size_t len) {
    uint32_t id = (uint32_t)(number >> 52), n = (uint32_t)(number >> 32) & 0xfffffu, version = (uint32_t)number;
    size_t full = length_of(w->o, id, n, version), same = 0;
    fill(w->want, full, id, n, version);
    while (same < len && same < full && w->buf[same] == w->want[same])
        same++;
    fprintf(stderr, "pool_driver: %zu bytes, of which the first %zu are those of w%u-%u, version %u, which has %zu\n", len,
            same, id, n, version, full);
}

static void judge(struct worker *w, uint32_t id, uint32_t n, size_t len, const struct entry *before) {
    uint64_t number = 0;
    if (len >= sizeof(number))
        memcpy(&number, w->buf, sizeof(number));
    uint32_t version = (uint32_t)number;
    size_t full = length_of(w->o, id, n, version);
    fill(w->want, full, id, n, version);
    if (len != full || memcmp(w->buf, w->want, len) != 0) {
        wrong(w, id, n, "bytes that never were: get", version, before);
        whose(w, number, len);
    } else if (version <= before->removed && !is_cloudy(&w->l->key[id][n], version))
        came_back(w, id, n, "a removed block came back: get", version, before);
    else if (version > read_version(&w->l->key[id][n].begun))
        wrong(w, id, n, "a block of the future: get", version, before);
    w->n->hits++;
    w->n->others += id != w->o->id;
}

static int do_get(struct worker *w, uint32_t id, uint32_t n) {
    char text[TEXT_MAX];
    struct entry *e = &w->l->key[id][n], before = {.removed = read_version(&e->removed)};
    size_t len = 0;
    w->apart = is_apart(w);
    uint64_t begun = now_ms();
    int rc = yk_get(w->c, key_of(w->o, text, id, n), w->buf, w->o->len, &len);
    w->n->gets++;
    if (rc == 0)
        judge(w, id, n, len, &before);
    ended(w, begun, rc, "a get");
    return rc;
}

static void do_put(struct worker *w, uint32_t n) {
    char text[TEXT_MAX];
    struct entry *e = &w->l->key[w->o->id][n];
    uint32_t version = e->removed + 1u; /* of one that was put already: the same bytes once more */
    size_t len = length_of(w->o, w->o->id, n, version);
    fill(w->buf, len, w->o->id, n, version);
    write_version(&e->begun, version);
    w->apart = is_apart(w);
    yk_put_opts po = {.size = sizeof(po), .replicas = n % 4u == 0 ? COPIES : 0};
    uint64_t begun = now_ms();
    int rc = yk_put(w->c, key_of(w->o, text, w->o->id, n), w->buf, len, &po);
    if (rc >= 0) {
        write_version(&e->present, version);
        if (rc == 0 && po.replicas > 0)
            write_version(&e->safe, version);
        w->n->fewer += rc == YK_FEWER;
        w->n->puts++;
    } else if (rc == -YK_ECONFLICT) { /* with one that landed late, or is removed elsewhere: this one was not put */
        w->open_remove[n] = 1;
        if (!any_cloudy(e))
            came_back(w, w->o->id, n, "conflict: put", version, e);
    } else {
        set_cloudy(e, version);
    }
    ended(w, begun, rc, "a put");
}

static void do_remove(struct worker *w, uint32_t n) {
    char text[TEXT_MAX];
    struct entry *e = &w->l->key[w->o->id][n];
    if (e->begun == e->removed)
        return;
    uint64_t begun = now_ms();
    write_version(&e->asked, e->begun);
    int rc = yk_remove(w->c, key_of(w->o, text, w->o->id, n));
    w->open_remove[n] = rc != 0 && rc != YK_MISS;
    if (!w->open_remove[n]) {
        write_version(&e->removed, e->begun);
        w->n->removes++;
    }
    w->n->unsure += w->open_remove[n];
    write_version(&e->unsure, e->unsure + w->open_remove[n]);
    ended(w, begun, rc, "a remove");
}

static void step(struct worker *w) {
    uint32_t n = pick(w, w->o->keys), what = pick(w, 100);
    if (what < 60)
        do_get(w, pick(w, w->o->workers), n);
    else if (w->open_remove[n] || what >= 92)
        do_remove(w, n);
    else
        do_put(w, n);
}

/* ---- work and check --------------------------------------------------------------------------- */

static int worker_open(struct worker *w, const struct options *o) {
    int fd = open(o->ledger, O_RDWR | O_CREAT, 0600);
    *w = (struct worker){.o = o, .at = o->at, .rng = o->seed ^ mix(o->id), .l = MAP_FAILED};
    if (fd >= 0 && ftruncate(fd, sizeof(struct ledger)) == 0)
        w->l = mmap(NULL, sizeof(struct ledger), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (w->l == MAP_FAILED) {
        perror(o->ledger);
        return -1;
    }
    close(fd);
    w->n = &w->l->n[o->id];
    w->buf = malloc(o->len);
    w->want = malloc(o->len);
    if (w->buf == NULL || w->want == NULL || open_at(w) < 0) {
        fprintf(stderr, "pool_driver: open: %s\n", yk_error_text(NULL));
        return -1;
    }
    return 0;
}

static void worker_close(struct worker *w) {
    yk_close(w->c);
    free(w->buf);
    free(w->want);
}

static int work(const struct options *o) {
    static struct worker w;
    if (worker_open(&w, o) < 0)
        return 2;
    while (access(o->until, F_OK) != 0 && w.c != NULL)
        step(&w);
    worker_close(&w);
    return w.n->wrong == 0 && w.n->late == 0 ? 0 : 1;
}

struct checked {
    uint64_t present, found, safe, safe_found, failed;
};

static void print_counts(const struct options *o, const struct ledger *l, const struct checked *c) {
    struct counts s = {0};
    for (uint32_t i = 0; i < o->workers; i++) {
        const uint64_t *from = (const uint64_t *)&l->n[i];
        for (size_t f = 0; f < sizeof(s) / sizeof(*from); f++)
            ((uint64_t *)&s)[f] += from[f];
    }
    const char *name[] = {"gets", "hits", "others", "puts", "removes", "unsure", "failed", "wrong", "late", "moved",
                          "behind", "fewer"};
    printf("{\"present\": %llu, \"found\": %llu, \"safe\": %llu, \"safe_found\": %llu, \"unanswered\": %llu",
           (unsigned long long)c->present, (unsigned long long)c->found, (unsigned long long)c->safe,
           (unsigned long long)c->safe_found, (unsigned long long)c->failed);
    for (size_t f = 0; f < sizeof(s) / sizeof(uint64_t); f++)
        printf(", \"%s\": %llu", name[f], (unsigned long long)((uint64_t *)&s)[f]);
    printf("}\n");
}

static int check(const struct options *o) {
    static struct worker w;
    struct checked all = {0};
    if (worker_open(&w, o) < 0)
        return 2;
    for (uint32_t u = 0; u < o->urls && w.c != NULL; u++) {
        for (uint32_t id = 0; id < o->workers; id++) {
            for (uint32_t n = 0; n < o->keys; n++) {
                const struct entry *e = &w.l->key[id][n];
                int there = e->present > e->asked && e->unsure == 0, safe = there && e->safe == e->present;
                int rc = do_get(&w, id, n);
                all.present += there;
                all.found += there && rc == 0;
                all.safe += safe;
                all.safe_found += safe && rc == 0;
                if (there && rc == YK_MISS)
                    fprintf(stderr, "pool_driver: not found at %s: %sw%u-%u, version %u, safe %u\n", o->url[u], o->prefix,
                            id, n, e->present, e->safe);
                all.failed += rc < 0;
            }
        }
        yk_close(w.c);
        w.c = NULL;
        w.at = u + 1u;
        if (u + 1u < o->urls && open_at(&w) < 0)
            return 2;
    }
    print_counts(o, w.l, &all);
    int rc = w.n->wrong == 0 && w.n->late == 0 && all.failed == 0 ? 0 : 1;
    worker_close(&w);
    return rc;
}

/* ---- pins -------------------------------------------------------------------------------------- */

enum pin_call { PIN, FILL, FOUND, IS_PINNED, UNPIN };

static const char *const pin_call_name[] = {"put", "put", "found", "seen to be pinned", "unpinned"};

/* Other bytes than the block's are wrong once and for all. */
static int pin_judge(const struct worker *w, uint32_t id, uint32_t n, size_t len) {
    if (len == w->o->len && memcmp(w->buf, w->want, len) == 0)
        return 0;
    fprintf(stderr, "pool_driver: %.3f WRONG: bytes of the pinned %sw%u-%u at %s\n", (double)now_ms() / 1000.0, w->o->prefix, id, n,
            w->o->url[w->at]);
    exit(1);
}

static int pin_call(struct worker *w, enum pin_call what, uint32_t id, uint32_t n) {
    char text[TEXT_MAX];
    size_t len = 0;
    yk_put_opts po = {.size = sizeof(po), .flags = what == PIN ? YK_PUT_HARD_PIN : 0};
    yk_block_info info = {.pinned = 0};
    yk_key key = key_of(w->o, text, id, n);
    int rc = -1;
    uint64_t begun = now_ms();
    fill(w->want, w->o->len, id, n, 1);
    if (what == PIN || what == FILL)
        rc = yk_put(w->c, key, w->want, w->o->len, &po);
    else if (what == FOUND)
        rc = yk_get(w->c, key, w->buf, w->o->len, &len) == 0 ? pin_judge(w, id, n, len) : -1;
    else if (what == IS_PINNED)
        rc = yk_stat(w->c, key, &info) != 0 || info.pinned != PINNED_HARD || (info.tiers & YK_TIERS_ELSEWHERE);
    else
        rc = yk_unpin(w->c, key);
    return now_ms() - begun > w->o->timeout_ms + GRACE_MS ? -1 : rc;
}

/* Of all keys of a node, each again until it is so; else it is said. */
static int pin_calls(struct worker *w, enum pin_call what, uint32_t id) {
    uint32_t n = 0;
    for (uint64_t end = now_ms() + WELL_MS; n < w->o->keys && now_ms() < end;) {
        if (pin_call(w, what, id, n) == 0)
            n++;
        else
            usleep(10000);
    }
    if (n == w->o->keys)
        return 0;
    fprintf(stderr, "pool_driver: %.3f WRONG: %sw%u-%u cannot be %s at %s\n", (double)now_ms() / 1000.0, w->o->prefix, id, n,
            pin_call_name[what], w->o->url[w->at]);
    return 1;
}

/* At this node and at no other. */
static int pin_open(struct worker *w, uint32_t u) {
    yk_open_opts oo = {.size = sizeof(oo), .flags = YK_OPEN_HANDLE_SIGBUS, .timeout_ms = w->o->timeout_ms};
    w->at = u;
    for (uint64_t end = now_ms() + WELL_MS; now_ms() < end; usleep(10000))
        if (yk_open(w->o->url[u], &oo, &w->c) == 0)
            return 0;
    fprintf(stderr, "pool_driver: open %s: %s\n", w->o->url[u], yk_error_text(NULL));
    return -1;
}

static int pin_at(struct worker *w, uint32_t u) {
    int wrong = pin_open(w, u) < 0 || pin_calls(w, PIN, u);
    yk_close(w->c);
    return wrong;
}

static int fill_at(struct worker *w, uint32_t u) {
    if (pin_open(w, u) < 0)
        return 2;
    for (uint32_t n = 0; n < FILL_BYTES / w->o->len && access(w->o->until, F_OK) != 0; n++)
        (void)pin_call(w, FILL, URLS_MAX + u, n); /* what finds no room finds none */
    yk_close(w->c);
    return 0;
}

/* First where they were put: a get at another node leaves a copy there. */
static int pinned_at(struct worker *w, uint32_t u, enum pin_call what) {
    int wrong = pin_open(w, u) < 0;
    for (uint32_t id = 0; id < w->o->urls && !wrong; id++)
        if (!w->o->lost[id] && (what == FOUND || id == u))
            wrong = pin_calls(w, what, id);
    yk_close(w->c);
    w->c = NULL;
    return wrong;
}

static int pinned(struct worker *w) {
    static const enum pin_call calls[] = {IS_PINNED, FOUND, UNPIN};
    int wrong = 0;
    for (unsigned i = 0; i < sizeof(calls) / sizeof(*calls); i++)
        for (uint32_t u = 0; u < w->o->urls && !wrong; u++)
            wrong = pinned_at(w, u, calls[i]);
    return wrong;
}

static int pins(const struct options *o, const char *what) {
    static struct worker w;
    w = (struct worker){.o = o, .buf = malloc(o->len), .want = malloc(o->len)};
    int wrong = w.buf == NULL || w.want == NULL || o->at >= o->urls ? 2
                : strcmp(what, "pinned") == 0                       ? pinned(&w)
                : strcmp(what, "fill") == 0                         ? fill_at(&w, o->at)
                                                                    : pin_at(&w, o->at);
    free(w.buf);
    free(w.want);
    return wrong;
}

static uint32_t number(const char *text) {
    return (uint32_t)strtoul(text, NULL, 10);
}

static int option(struct options *o, const char *name, char *value) {
    if (strcmp(name, "--urls") == 0) {
        for (char *u = strtok(value, ","); u != NULL && o->urls < URLS_MAX; u = strtok(NULL, ","))
            o->url[o->urls++] = u;
        return 0;
    }
    if (strcmp(name, "--ledger") == 0)
        o->ledger = value;
    else if (strcmp(name, "--until-file") == 0)
        o->until = value;
    else if (strcmp(name, "--prefix") == 0)
        o->prefix = value;
    else if (strcmp(name, "--lost") == 0)
        o->lost[number(value) % URLS_MAX] = 1;
    else if (strcmp(name, "--at") == 0)
        o->at = number(value);
    else if (strcmp(name, "--id") == 0)
        o->id = number(value);
    else if (strcmp(name, "--workers") == 0)
        o->workers = number(value);
    else if (strcmp(name, "--keys") == 0)
        o->keys = number(value);
    else if (strcmp(name, "--len") == 0)
        o->len = number(value);
    else if (strcmp(name, "--timeout-ms") == 0)
        o->timeout_ms = number(value);
    else if (strcmp(name, "--seed") == 0)
        o->seed = number(value);
    else
        return -1;
    return 0;
}

int main(int argc, char **argv) {
    struct options o = {.workers = 1, .keys = 64, .len = 65536, .timeout_ms = 5000, .prefix = ""};
    int bad = argc < 2;
    for (int i = 2; i < argc && !bad; i += 2)
        bad = i + 1 == argc || option(&o, argv[i], argv[i + 1]) < 0;
    const char *what = bad ? "" : argv[1];
    int works = strcmp(what, "work") == 0, is_fill = strcmp(what, "fill") == 0;
    int pin = is_fill || strcmp(what, "pin") == 0 || strcmp(what, "pinned") == 0;
    if (bad || o.urls == 0 || (o.ledger == NULL) != pin || o.workers == 0 || o.workers > WORKERS_MAX || o.id >= o.workers ||
        o.keys == 0 || o.keys > KEYS_MAX || o.len < 64 || strlen(o.prefix) > PREFIX_MAX ||
        (works || is_fill) != (o.until != NULL)) {
        fprintf(stderr, "pool_driver: see the head of pool_driver.c\n");
        return 2;
    }
    if (pin)
        return pins(&o, what);
    return works ? work(&o) : check(&o);
}
