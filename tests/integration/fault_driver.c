/* SPDX-License-Identifier: Apache-2.0
 *
 * A client that checks every byte, for tests that kill, stop and starve the node or its clients.
 *
 *   fault_driver work   --url U --ledger F --id N --seed S [--keys K] [--len L] [--until-file P]
 *                       [--no-refs 1] [--timeout-ms T]
 *   fault_driver check  --url U --ledger F --workers W
 *   fault_driver hold   --url U --phase reserve|written|ref|idle|getting|putting|commit|async
 *                       (to be killed in that phase. commit, async: says "ready" first and waits for a
 *                       line on standard input, before which the node is stopped: no answer comes)
 *   fault_driver crowd  --url U --workers W     (processes that open, put and close, all at once)
 *
 * A worker owns K keys ("w<id>-<n>"). What it did to each is written to a ledger (a shared file
 * mapping, so that it survives the worker's own death): INTENT before a put or remove is sent, then
 * PRESENT or GONE once it is acknowledged. Payload and length follow from the key alone. So anybody
 * can tell whether an answer is right:
 *   PRESENT  exact bytes; a miss is counted (the node may have been killed or have evicted)
 *   GONE     a miss; anything else is an error: what was removed never comes back
 *   INTENT   either
 * Wrong bytes are an error in every state. A worker goes on through restarts of the node until the
 * file --until-file appears; exit 0 means that every answer was exact or a miss.
 */
#include <yolk/yolk.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define KEYS_MAX    65536u
#define WORKERS_MAX 128u
#define REFS        8u
#define LENGTHS     4u

enum entry { NEVER = 0, INTENT = 1, PRESENT = 2, GONE = 3 };

struct ledger {
    unsigned char key[WORKERS_MAX][KEYS_MAX]; /* enum entry */
    uint64_t gets[WORKERS_MAX], hits[WORKERS_MAX], puts[WORKERS_MAX], wrong[WORKERS_MAX];
    uint64_t late[WORKERS_MAX]; /* changes that ended at their deadline */
};

struct options {
    const char *url, *ledger, *until, *phase;
    uint32_t id, keys, len, workers, no_refs, timeout_ms;
    uint64_t seed;
};

static uint64_t mix(uint64_t x) {
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

static uint64_t rng;

static uint32_t pick(uint32_t below) {
    rng = mix(rng);
    return (uint32_t)(rng % below);
}

static size_t key_make(char *buf, uint32_t id, uint32_t n) {
    return (size_t)sprintf(buf, "w%u-%u", id, n);
}

/* Half of all have one of a few lengths, as a place that one block left is given to another of its length first; the
 * others have any. */
static uint32_t length_of(const struct options *o, uint32_t id, uint32_t n) {
    uint64_t m = mix((uint64_t)id << 32 | n);
    if (m & 1u)
        return o->len - (uint32_t)((m >> 1) % LENGTHS) * (o->len / LENGTHS);
    return 1u + (uint32_t)((m >> 1) % o->len);
}

static void fill(unsigned char *p, size_t len, uint32_t id, uint32_t n) {
    uint64_t base = (uint64_t)id << 40 | (uint64_t)n << 16;
    size_t i = 0;
    for (; i + 8 <= len; i += 8) {
        uint64_t w = (base ^ 0x5bd1e995u) * (i + 11u) + i;
        memcpy(p + i, &w, 8);
    }
    for (; i < len; i++)
        p[i] = (unsigned char)(base + i);
}

/* Position of the first wrong byte, or len. */
static size_t compare(const unsigned char *p, size_t len, uint32_t id, uint32_t n) {
    static unsigned char want[1u << 21];
    fill(want, len, id, n);
    if (memcmp(p, want, len) == 0)
        return len;
    size_t i = 0;
    while (p[i] == want[i])
        i++;
    return i;
}

static void wrong(struct ledger *l, const struct options *o, uint32_t n, const char *what,
                  size_t at) {
    l->wrong[o->id]++;
    fprintf(stderr, "fault_driver: WRONG: %s of w%u-%u at byte %zu, ledger says %u\n", what, o->id,
            n, at, l->key[o->id][n]);
}

/* What a lookup of block n answered, against the ledger. data NULL: a miss. */
static void judge(struct ledger *l, const struct options *o, uint32_t n, const unsigned char *data,
                  size_t len, const char *what) {
    unsigned state = l->key[o->id][n];
    l->gets[o->id]++;
    if (data == NULL)
        return;
    if (state == GONE || state == NEVER) {
        wrong(l, o, n, "a removed block came back: get", 0);
        return;
    }
    size_t good = len == length_of(o, o->id, n) ? compare(data, len, o->id, n) : 0;
    if (good != len || len != length_of(o, o->id, n))
        wrong(l, o, n, what, good);
    else
        l->hits[o->id]++;
}

static void count_late(struct ledger *l, const struct options *o, int rc) {
    l->late[o->id] += rc == -YK_ETIMEDOUT || rc == -YK_EGONE;
}

struct held {
    yk_ref ref;
    uint32_t n;
    int used;
};

struct worker {
    const struct options *o;
    struct ledger *l;
    yk_client *c;
    unsigned char *buf;
    struct held held[REFS];
};

static void do_put(struct worker *w, uint32_t n, int in_place) {
    const struct options *o = w->o;
    char key[32];
    yk_key k = {key, key_make(key, o->id, n)};
    uint32_t len = length_of(o, o->id, n);
    unsigned before = w->l->key[o->id][n];
    int rc;
    if (before != PRESENT)
        w->l->key[o->id][n] = INTENT;
    if (in_place) {
        yk_reservation r;
        rc = yk_reserve(w->c, len, 0, &r);
        if (rc == 0) {
            fill(r.data, len, o->id, n);
            if (pick(8) == 0) { /* nothing of an aborted one may ever be seen */
                yk_abort(w->c, &r);
                if (before == GONE || before == NEVER)
                    w->l->key[o->id][n] = (unsigned char)before;
                return;
            }
            rc = yk_commit(w->c, &r, k, NULL);
            if (rc == -YK_ETIMEDOUT) /* made or not: the place is not written again */
                yk_abort(w->c, &r);
        }
    } else {
        fill(w->buf, len, o->id, n);
        rc = yk_put(w->c, k, w->buf, len, NULL);
    }
    count_late(w->l, o, rc);
    if (rc == 0) {
        w->l->key[o->id][n] = PRESENT;
        w->l->puts[o->id]++;
    } else if (rc == -YK_ECONFLICT) {
        wrong(w->l, o, n, "conflict with our own bytes: put", 0);
    }
}

static void do_remove(struct worker *w, uint32_t n) {
    char key[32];
    yk_key k = {key, key_make(key, w->o->id, n)};
    if (w->l->key[w->o->id][n] == NEVER)
        return;
    w->l->key[w->o->id][n] = INTENT;
    int rc = yk_remove(w->c, k);
    count_late(w->l, w->o, rc);
    if (rc == 0 || rc == YK_MISS)
        w->l->key[w->o->id][n] = GONE;
}

static void do_get(struct worker *w, uint32_t n) {
    char key[32];
    yk_key k = {key, key_make(key, w->o->id, n)};
    size_t len = 0;
    int rc = yk_get(w->c, k, w->buf, w->o->len, &len);
    if (rc == 0 || rc == YK_MISS)
        judge(w->l, w->o, n, rc == 0 ? w->buf : NULL, len, "get");
}

/* References are looked at when they are taken and once more before they are let go. */
static void do_ref(struct worker *w, uint32_t n) {
    struct held *h = &w->held[pick(REFS)];
    char key[32];
    yk_key k = {key, key_make(key, w->o->id, n)};
    if (h->used) {
        uint32_t len = length_of(w->o, w->o->id, h->n);
        if (h->ref.len != len || compare(h->ref.data, len, w->o->id, h->n) != len)
            wrong(w->l, w->o, h->n, "a held reference changed", 0);
        yk_ref_release(w->c, &h->ref);
        h->used = 0;
        return;
    }
    int rc = yk_ref_get(w->c, k, &h->ref);
    if (rc == 0) {
        h->used = 1;
        h->n = n;
    }
    if (rc == 0 || rc == YK_MISS)
        judge(w->l, w->o, n, rc == 0 ? h->ref.data : NULL, rc == 0 ? h->ref.len : 0, "reference");
}

static void do_match(struct worker *w, uint32_t from) {
    char text[16][32];
    yk_key keys[16];
    for (uint32_t i = 0; i < 16; i++)
        keys[i] = (yk_key){text[i], key_make(text[i], w->o->id, (from + i) % w->o->keys)};
    int run = yk_match(w->c, keys, 16, NULL);
    for (int i = 0; i < run; i++) {
        uint32_t n = (from + (uint32_t)i) % w->o->keys;
        if (w->l->key[w->o->id][n] == GONE || w->l->key[w->o->id][n] == NEVER)
            wrong(w->l, w->o, n, "match of a removed block", 0);
    }
}

static int client_open(const struct options *o, yk_client **ret) {
    yk_open_opts oo = {
        .size = sizeof(oo), .flags = YK_OPEN_HANDLE_SIGBUS, .timeout_ms = o->timeout_ms};
    int rc = yk_open(o->url, &oo, ret);
    if (rc < 0)
        fprintf(stderr, "fault_driver: open: %s\n", yk_error_text(NULL));
    return rc;
}

static struct ledger *ledger_map(const struct options *o) {
    int fd = open(o->ledger, O_RDWR | O_CREAT, 0600);
    if (fd < 0 || ftruncate(fd, sizeof(struct ledger)) < 0) {
        perror(o->ledger);
        exit(2);
    }
    void *p = mmap(NULL, sizeof(struct ledger), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return p == MAP_FAILED ? NULL : p;
}

static int work(const struct options *o) {
    struct worker w = {.o = o, .l = ledger_map(o), .buf = malloc(o->len)};
    rng = o->seed ^ mix(o->id);
    if (w.l == NULL || w.buf == NULL || client_open(o, &w.c) < 0)
        return 2;
    while (access(o->until, F_OK) != 0) {
        uint32_t n = pick(o->keys);
        switch (pick(10)) {
        case 0:
        case 1:
            do_put(&w, n, 0);
            break;
        case 2:
            do_put(&w, n, 1);
            break;
        case 3:
            if (pick(4) == 0)
                do_remove(&w, n);
            break;
        case 4:
            do_match(&w, n);
            break;
        case 5:
        case 6:
            if (!o->no_refs)
                do_ref(&w, n);
            break;
        default:
            do_get(&w, n);
            break;
        }
    }
    for (unsigned i = 0; i < REFS; i++)
        if (w.held[i].used)
            yk_ref_release(w.c, &w.held[i].ref);
    yk_close(w.c);
    free(w.buf);
    return w.l->wrong[o->id] == 0 ? 0 : 1;
}

/* Every key of every worker once more: prints what was found and says whether it was right. */
static int check(struct options *o) {
    struct ledger *l = ledger_map(o);
    unsigned char *buf = malloc(o->len);
    uint64_t present = 0, intact = 0, failures = 0;
    yk_client *c;
    if (l == NULL || buf == NULL || client_open(o, &c) < 0)
        return 2;
    for (o->id = 0; o->id < o->workers; o->id++) {
        failures += l->wrong[o->id];
        for (uint32_t n = 0; n < o->keys; n++) {
            char key[32];
            yk_key k = {key, key_make(key, o->id, n)};
            size_t len = 0;
            uint64_t w0 = l->wrong[o->id];
            int rc = yk_get(c, k, buf, o->len, &len);
            present += l->key[o->id][n] == PRESENT;
            if (rc != 0 && rc != YK_MISS) {
                fprintf(stderr, "fault_driver: check of %s: %s\n", key, yk_error_text(c));
                failures++;
                continue;
            }
            judge(l, o, n, rc == 0 ? buf : NULL, len, "check");
            intact += rc == 0 && l->key[o->id][n] == PRESENT && l->wrong[o->id] == w0;
            failures += l->wrong[o->id] - w0;
        }
    }
    uint64_t gets = 0, hits = 0, puts = 0, late = 0;
    for (uint32_t i = 0; i < o->workers; i++) {
        gets += l->gets[i];
        hits += l->hits[i];
        puts += l->puts[i];
        late += l->late[i];
    }
    printf("{\"present\": %llu, \"intact\": %llu, \"wrong\": %llu, \"gets\": %llu, \"hits\": %llu, "
           "\"puts\": %llu, \"late\": %llu}\n",
           (unsigned long long)present, (unsigned long long)intact, (unsigned long long)failures,
           (unsigned long long)gets, (unsigned long long)hits, (unsigned long long)puts,
           (unsigned long long)late);
    yk_close(c);
    free(buf);
    return failures == 0 ? 0 : 1;
}

static void say(const char *what) {
    printf("%s\n", what);
    fflush(stdout);
}

/* Moves payload without end: most of its time is copying. */
static int hold_busy(const struct options *o, yk_client *c, unsigned char *data) {
    yk_put_opts upsert = {.size = sizeof(upsert), .flags = YK_PUT_UPSERT};
    size_t len;
    say(o->phase);
    for (unsigned char i = 0;; i++) {
        memset(data, i, strcmp(o->phase, "putting") == 0 ? o->len : 0);
        int rc = strcmp(o->phase, "putting") == 0
                     ? yk_put(c, yk_key_str("busy"), data, o->len, &upsert)
                     : yk_get(c, yk_key_str("hold"), data, o->len, &len);
        if (rc != 0)
            return 2;
    }
}

/* Sends what a node that is stopped will not answer. */
static int hold_unanswered(const struct options *o, yk_client *c, unsigned char *data) {
    enum { N = 8 };
    yk_op ops[N] = {0};
    char keys[N][16], line[16];
    yk_reservation r;
    struct iovec iov = {data, o->len};
    int commit = strcmp(o->phase, "commit") == 0;
    memset(data, 0x77, o->len);
    for (int i = 0; i < N; i++) {
        snprintf(keys[i], sizeof(keys[i]), "%s-%d", o->phase, i);
        ops[i] = (yk_op){
            .opcode = YK_OP_PUT, .key = yk_key_str(keys[i]), .iov = &iov, .iov_count = 1};
    }
    if (commit) {
        if (yk_reserve(c, o->len, 0, &r) < 0)
            return 2;
        memcpy(r.data, data, r.len);
        ops[0] = (yk_op){.opcode = YK_OP_COMMIT, .key = yk_key_str(keys[0]), .reservation = &r};
    }
    say("ready");
    if (fgets(line, sizeof(line), stdin) == NULL ||
        yk_submit(c, ops, commit ? 1 : N, o->timeout_ms) < 0)
        return 2;
    say(o->phase);
    for (;;)
        pause();
}

/* Gets into a phase, says so on standard output, and stays there until it is killed. */
static int hold(const struct options *o) {
    yk_client *c;
    yk_reservation r;
    yk_ref ref;
    if (client_open(o, &c) < 0)
        return 2;
    unsigned char *data = calloc(1, o->len);
    if (data == NULL || (strcmp(o->phase, "idle") != 0 &&
                         yk_put(c, yk_key_str("hold"), data, o->len, NULL) < 0))
        return 2;
    if (strcmp(o->phase, "getting") == 0 || strcmp(o->phase, "putting") == 0)
        return hold_busy(o, c, data);
    if (strcmp(o->phase, "commit") == 0 || strcmp(o->phase, "async") == 0)
        return hold_unanswered(o, c, data);
    if (strcmp(o->phase, "reserve") == 0 || strcmp(o->phase, "written") == 0) {
        if (yk_reserve(c, o->len, 0, &r) < 0)
            return 2;
        if (strcmp(o->phase, "written") == 0)
            memset(r.data, 0x77, r.len);
    } else if (strcmp(o->phase, "ref") == 0 && yk_ref_get(c, yk_key_str("hold"), &ref) != 0) {
        return 2;
    }
    say(o->phase);
    for (;;)
        pause();
}

/* One process of a crowd: waits for the start, then does what the smallest client does. */
static int crowd_one(const struct options *o, uint32_t id, int gate) {
    yk_client *c;
    char key[32], byte;
    yk_key k = {key, key_make(key, id, 0)};
    if (read(gate, &byte, 1) != 0)
        return 2;
    if (client_open(o, &c) < 0)
        return 1;
    int rc = yk_put(c, k, key, k.len, NULL);
    if (rc < 0)
        fprintf(stderr, "fault_driver: put of %s: %s\n", key, yk_error_text(c));
    yk_close(c);
    return rc == 0 ? 0 : 1;
}

/* All are there before the first one connects: they wait for the pipe's end. */
static int crowd(const struct options *o) {
    int gate[2], status;
    uint32_t started = 0, failed = 0;
    if (pipe(gate) < 0)
        return 2;
    for (; started < o->workers; started++) {
        pid_t pid = fork();
        if (pid == 0) {
            close(gate[1]);
            _exit(crowd_one(o, started, gate[0]));
        }
        if (pid < 0) {
            perror("fault_driver: fork");
            break;
        }
    }
    close(gate[1]);
    for (uint32_t i = 0; i < started; i++)
        failed += wait(&status) < 0 || status != 0;
    printf("{\"started\": %u, \"failed\": %u}\n", started, failed);
    return failed == 0 && started == o->workers ? 0 : 1;
}

int main(int argc, char **argv) {
    struct options o = {.keys = 512,
                        .len = 1u << 16,
                        .workers = 1,
                        .timeout_ms = 20000,
                        .seed = 1,
                        .phase = "idle"};
    if (argc < 2) {
        fprintf(stderr, "fault_driver: work, check, hold or crowd?\n");
        return 2;
    }
    for (int i = 2; i + 1 < argc; i += 2) {
        const char *name = argv[i], *v = argv[i + 1];
        if (strcmp(name, "--url") == 0)
            o.url = v;
        else if (strcmp(name, "--ledger") == 0)
            o.ledger = v;
        else if (strcmp(name, "--until-file") == 0)
            o.until = v;
        else if (strcmp(name, "--phase") == 0)
            o.phase = v;
        else if (strcmp(name, "--id") == 0)
            o.id = (uint32_t)strtoul(v, NULL, 10) % WORKERS_MAX;
        else if (strcmp(name, "--keys") == 0)
            o.keys = (uint32_t)strtoul(v, NULL, 10) % KEYS_MAX;
        else if (strcmp(name, "--len") == 0)
            o.len = (uint32_t)strtoul(v, NULL, 10) % (1u << 21);
        else if (strcmp(name, "--workers") == 0)
            o.workers = (uint32_t)strtoul(v, NULL, 10);
        else if (strcmp(name, "--timeout-ms") == 0)
            o.timeout_ms = (uint32_t)strtoul(v, NULL, 10);
        else if (strcmp(name, "--no-refs") == 0)
            o.no_refs = (uint32_t)strtoul(v, NULL, 10);
        else if (strcmp(name, "--seed") == 0)
            o.seed = strtoull(v, NULL, 10);
        else {
            fprintf(stderr, "fault_driver: unknown option %s\n", name);
            return 2;
        }
    }
    if (strcmp(argv[1], "work") == 0)
        return work(&o);
    if (strcmp(argv[1], "check") == 0) {
        o.workers = o.workers < WORKERS_MAX ? o.workers : WORKERS_MAX;
        return check(&o);
    }
    if (strcmp(argv[1], "hold") == 0)
        return hold(&o);
    if (strcmp(argv[1], "crowd") == 0)
        return crowd(&o);
    fprintf(stderr, "fault_driver: unknown command %s\n", argv[1]);
    return 2;
}
