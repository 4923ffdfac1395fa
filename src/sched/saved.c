/* SPDX-License-Identifier: Apache-2.0
 *
 * What the learned policy knows, as bytes, and back (learned.h): so that a restart goes on as if nothing was.
 *
 * Saving has two halves. The owner copies what it has, some thousand records at a time between requests, since a
 * million of them are a tenth of a second; then any thread makes the bytes: sorts the records by their last use,
 * gives them new numbers, and writes lists in their order. What changed while it was copied makes the copy one of a
 * stretch of time and not of a moment: a record that was moved between caches meanwhile may be in both, or in
 * none. That costs an order and no more, as all of it is a guess of what is worth keeping. Copied in one step, as a stop
 * does, it is exact: what is loaded from it decides as the one that was saved would have.
 *
 * Rejected: to copy all of it at once (the loop would stand still), and a lock or marks on records that are not
 * copied yet (each request would pay for them).
 *
 * The bytes: a head with the sizes of all that follows and a sum over it, then the models, records (least recently used
 * first), the keeper's leaves, the three queues of s3fifo, examples, and moments that are planned. Integers and
 * floats are this machine's; other machines' are another version. A record is named by its place among the records.
 *
 * Loading looks at all of it before it changes anything: sums may be right by somebody's intention.
 *
 * Thread: begin, step and load the owner's, end any.
 */
#include "sched/learned_priv.h"

#include "base/hash.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC   UINT64_C(0x64656e7261656c79) /* "ylearned"; another order of bytes reads otherwise */
#define VERSION 4u                           /* another model, other features: another version */
#define NONE    YK_RECORD_NONE

/* Longer is longer than 24 days for an age, which is modulo 49. */
#define AGE_MAX_MS INT32_MAX
#define QUEUES     3 /* SMALL, MAIN, GHOST */
/* Far above what lessons.c waits for: a policy that waited for more would never learn. */
#define REQUESTS_DUE_MAX 10000u
/* A logarithm, -22 at the least as it is made; from 87 on its rate is no float, and no model comes of it. */
#define PRIOR_MAX 40.0f

struct saved_head {
    uint64_t magic;
    uint32_t version, head_bytes;
    uint64_t bytes; /* of all */
    uint64_t sum;   /* of what follows this */
    uint64_t now_ms;
    uint64_t capacity_bytes, model_ms, lessons_random, blocks, blocks_ever, fit_random;
    struct yk_choice choice;
    double room, mean, stay_ms, near_s;
    uint32_t request, peak, capacity, follows, next_refreshed, trims;
    uint32_t unit_bytes;
    uint32_t records, leaves, queued[QUEUES], lessons, planned;
    uint32_t lessons_next, requests_due, requests;
    uint8_t has_fit, fit_features[YK_TREES_FEATURES];
};

struct saved_record {
    uint64_t key_hash;
    uint32_t parent; /* NONE */
    uint32_t first_ms, last_ms;
    uint32_t uses, children, request, bytes;
    uint8_t x[YK_TREES_FEATURES];
    uint8_t turn, in, freq, announced, padding[5];
};

/* struct yk_trees without what aligns its last part: what is saved stays as it is when that moves. */
struct saved_trees {
    uint32_t count, waits, n_used;
    uint8_t used[YK_TREES_FEATURES];
    yk_trees_pair base;
    yk_trees_pair leaf[YK_TREES_MAX][YK_TREES_LEAVES];
    uint32_t left_over[YK_TREES_FEATURES][YK_TREES_VALUES][YK_TREES_MAX];
};
_Static_assert(VERSION != 4 || (sizeof(struct saved_trees) == 122920 && sizeof(struct saved_head) == 312 &&
                                sizeof(struct saved_record) == 64 && sizeof(struct yk_fit_example) == 28),
               "another layout is another version");

struct saved_leaf {
    uint32_t record;
    float value;
};

struct saved_lesson {
    uint32_t record; /* NONE: it is not open, or its record is not among these */
    uint32_t at_ms, used_ms;
    uint8_t open, used, padding[2];
};

struct saved_plan {
    uint32_t record; /* NONE: its block was used since */
    uint32_t at_ms;
};

/* A record as the owner had it. */
struct seen {
    uint64_t touched;
    uint32_t number, generation, parent_gen;
    uint32_t heap_at, queue_older;
    float value;
    uint8_t queue;
    struct saved_record r;
};

struct yk_learned_saving {
    const struct learned *policy; /* of the steps alone */
    uint32_t at, max, count;      /* the next record; seen: room, and how many there are */
    uint64_t since; /* records that were touched before are left out */
    struct seen *seen;
    struct saved_head head;
    struct yk_trees trees;
    struct yk_fit_example *examples;
    struct yk_lesson *lessons;
    struct yk_plan *plans;
    uint32_t *order;     /* seen, least recently used first */
    uint32_t *place_of;  /* by number: in order, or NONE */
    uint32_t numbers;
};

/* ---- copied by the owner ---------------------------------------------------------------------- */

static int compare_u64(const void *a, const void *b) {
    const uint64_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

/* More than may be saved: from which use on are there about so many? By some of them. */
static uint64_t since(const struct yk_history *h) {
    enum { SAMPLE = 1024 };
    uint64_t touched[SAMPLE];
    if (h->used <= YK_LEARNED_SAVED_MAX)
        return 0;
    for (uint32_t i = 0; i < SAMPLE; i++)
        touched[i] = h->records[(uint64_t)i * h->used / SAMPLE].touched;
    qsort(touched, SAMPLE, sizeof(touched[0]), compare_u64);
    return touched[SAMPLE - (uint64_t)SAMPLE * YK_LEARNED_SAVED_MAX / h->used];
}

struct yk_learned_saving *yk_learned_saving_begin(const struct yk_policy *p) {
    const struct learned *l = (const struct learned *)p;
    struct yk_learned_saving *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return NULL;
    uint64_t room = (uint64_t)l->history.used + l->history.used / 4 + 4096; /* new ones come in meanwhile */
    uint64_t most = YK_LEARNED_SAVED_MAX + YK_LEARNED_SAVED_MAX / 8;
    s->policy = l;
    s->since = since(&l->history);
    s->max = (uint32_t)(room < most ? room : most);
    s->seen = malloc(s->max * sizeof(*s->seen));
    s->examples = malloc(YK_LESSONS * sizeof(*s->examples));
    s->lessons = malloc(YK_LESSONS * sizeof(*s->lessons));
    s->plans = malloc(YK_LESSONS_PLANNED * sizeof(*s->plans));
    if (s->seen == NULL || s->examples == NULL || s->lessons == NULL || s->plans == NULL) {
        yk_learned_saving_free(s);
        return NULL;
    }
    return s;
}

void yk_learned_saving_free(struct yk_learned_saving *s) {
    if (s == NULL)
        return;
    free(s->seen);
    free(s->examples);
    free(s->lessons);
    free(s->plans);
    free(s->order);
    free(s->place_of);
    free(s);
}

static void see(struct yk_learned_saving *s, uint32_t number) {
    const struct learned *l = s->policy;
    const struct yk_record *r = &l->history.records[number];
    if (r->touched < s->since || s->count == s->max)
        return;
    struct seen *n = &s->seen[s->count++];
    *n = (struct seen){.touched = r->touched,
                       .number = number,
                       .generation = r->generation,
                       .parent_gen = r->parent_gen,
                       .heap_at = r->heap_at,
                       .queue_older = r->queue_older,
                       .value = r->heap_at != NONE ? l->keeper.heap[r->heap_at].value : 0,
                       .queue = r->queue,
                       .r = {.key_hash = r->key_hash, .parent = r->parent, .first_ms = r->first_ms,
                             .last_ms = r->last_ms, .uses = r->uses, .children = r->children,
                             .request = r->request, .bytes = r->bytes, .turn = r->turn, .in = r->in, .freq = r->freq,
                             .announced = r->announced}};
    memcpy(n->r.x, r->x, sizeof(n->r.x));
}

static void see_rest(struct yk_learned_saving *s) {
    const struct learned *l = s->policy;
    struct saved_head *h = &s->head;
    *h = (struct saved_head){.magic = MAGIC, .version = VERSION, .head_bytes = sizeof(*h), .now_ms = l->last_ms, .model_ms = l->model_ms,
                             .lessons_random = l->lessons.random, .blocks = l->lessons.blocks,
                             .blocks_ever = l->lessons.blocks_ever, .choice = l->choice,
                             .room = l->room, .mean = l->mean, .unit_bytes = l->unit_bytes, .stay_ms = l->training->place.stay_ms,
                             .near_s = (double)l->training->place.used_s, .request = l->history.request, .peak = l->peak,
                             .capacity = l->capacity,
                             .capacity_bytes = l->keeper.capacity_bytes, .follows = l->follows,
                             .next_refreshed = l->keeper.next_refreshed, .trims = l->keeper.trims, .lessons = l->lessons.count,
                             .planned = l->lessons.planned, .lessons_next = l->lessons.next,
                             .requests_due = l->lessons.requests_due, .requests = l->lessons.requests};
    if (!l->training->is_taken) { /* else another thread has it */
        h->has_fit = 1;
        h->fit_random = l->training->fit.random;
        memcpy(h->fit_features, l->training->fit.features, sizeof(h->fit_features));
    }
    s->trees = *l->keeper.trees;
    memcpy(s->examples, l->lessons.examples, h->lessons * sizeof(*s->examples));
    memcpy(s->lessons, l->lessons.lessons, h->lessons * sizeof(*s->lessons));
    memcpy(s->plans, l->lessons.plans, h->planned * sizeof(*s->plans));
}

bool yk_learned_saving_step(struct yk_learned_saving *s, uint32_t records) {
    const struct learned *l = s->policy;
    if (l == NULL)
        return true;
    for (; s->at < l->history.used && records > 0; records--)
        see(s, s->at++);
    if (s->at < l->history.used)
        return false;
    s->numbers = s->at;
    see_rest(s);
    s->policy = NULL;
    return true;
}

/* ---- made into bytes -------------------------------------------------------------------------- */

/* By (touched, which): a sort of two words is all there is to it. */
struct by_use {
    uint64_t touched;
    uint32_t which;
};

static int compare_uses(const void *a, const void *b) {
    const struct by_use *x = a, *y = b;
    return x->touched < y->touched ? -1 : x->touched > y->touched;
}

static int number_anew(struct yk_learned_saving *s) {
    struct by_use *uses = malloc(((size_t)s->count + 1) * sizeof(*uses));
    s->order = malloc(((size_t)s->count + 1) * sizeof(*s->order));
    s->place_of = malloc(((size_t)s->numbers + 1) * sizeof(*s->place_of));
    if (uses == NULL || s->order == NULL || s->place_of == NULL) {
        free(uses);
        return -YK_ENOMEM;
    }
    for (uint32_t i = 0; i < s->count; i++)
        uses[i] = (struct by_use){s->seen[i].touched, i};
    qsort(uses, s->count, sizeof(*uses), compare_uses);
    uint32_t left_out = s->count > YK_LEARNED_SAVED_MAX ? s->count - YK_LEARNED_SAVED_MAX : 0;
    memset(s->place_of, 0xff, ((size_t)s->numbers + 1) * sizeof(*s->place_of));
    s->head.records = s->count - left_out;
    for (uint32_t i = 0; i < s->head.records; i++) {
        s->order[i] = uses[left_out + i].which;
        s->place_of[s->seen[s->order[i]].number] = i;
    }
    free(uses);
    return 0;
}

static struct seen *seen_at(const struct yk_learned_saving *s, uint32_t place) {
    return &s->seen[s->order[place]];
}

/* NONE: it is not among them. Numbers of records that came after the last step are beyond `numbers`. */
static uint32_t place_of(const struct yk_learned_saving *s, uint32_t number) {
    return number < s->numbers ? s->place_of[number] : NONE;
}

static void put_records(struct yk_learned_saving *s, struct saved_record *to) {
    for (uint32_t i = 0; i < s->head.records; i++) {
        const struct seen *n = seen_at(s, i);
        uint32_t parent = n->r.parent != NONE ? place_of(s, n->r.parent) : NONE;
        to[i] = n->r;
        to[i].parent = parent != NONE && seen_at(s, parent)->generation == n->parent_gen ? parent : NONE;
    }
}

static int compare_leaves(const void *a, const void *b) {
    const struct by_use *x = a, *y = b; /* touched: the place in the heap */
    return x->touched != y->touched ? (x->touched < y->touched ? -1 : 1) : (x->which > y->which) - (x->which < y->which);
}

static int put_leaves(struct yk_learned_saving *s, struct saved_leaf *to) {
    struct by_use *at = malloc(((size_t)s->head.leaves + 1) * sizeof(*at));
    if (at == NULL)
        return -YK_ENOMEM;
    for (uint32_t i = 0, k = 0; i < s->head.records; i++)
        if (seen_at(s, i)->heap_at != NONE)
            at[k++] = (struct by_use){seen_at(s, i)->heap_at, i};
    qsort(at, s->head.leaves, sizeof(*at), compare_leaves);
    for (uint32_t k = 0; k < s->head.leaves; k++)
        to[k] = (struct saved_leaf){at[k].which, seen_at(s, at[k].which)->value};
    free(at);
    return 0;
}

/* Follows the links of one queue from every record whose older neighbour is not there, the least recently used first.
 * That is one list where nothing changed meanwhile. Returns how many. */
static uint32_t put_queue(const struct yk_learned_saving *s, uint8_t queue, uint32_t *younger, uint32_t *to) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->head.records; i++)
        younger[i] = NONE;
    for (uint32_t i = 0; i < s->head.records; i++) {
        uint32_t older = seen_at(s, i)->queue == queue ? place_of(s, seen_at(s, i)->queue_older) : NONE;
        if (older != NONE && seen_at(s, older)->queue == queue && younger[older] == NONE)
            younger[older] = i;
        else if (seen_at(s, i)->queue == queue)
            to[n++] = i; /* a beginning; in order, at the front for now */
    }
    uint32_t begins = n, *heads = malloc(((size_t)begins + 1) * sizeof(*heads));
    if (heads == NULL)
        return 0;
    memcpy(heads, to, begins * sizeof(*heads));
    n = 0;
    for (uint32_t b = 0; b < begins; b++)
        for (uint32_t i = heads[b]; i != NONE; i = younger[i])
            to[n++] = i;
    free(heads);
    return n;
}

static void put_lessons(const struct yk_learned_saving *s, struct saved_lesson *lessons, struct saved_plan *plans) {
    for (uint32_t i = 0; i < s->head.lessons; i++) {
        const struct yk_lesson *l = &s->lessons[i];
        lessons[i] = (struct saved_lesson){.record = l->open ? place_of(s, l->record) : NONE,
                                           .at_ms = l->at_ms,
                                           .used_ms = l->used_ms,
                                           .open = l->open,
                                           .used = l->used};
    }
    for (uint32_t i = 0; i < s->head.planned; i++) {
        const struct yk_plan *p = &s->plans[i];
        uint32_t place = place_of(s, p->record);
        bool still = place != NONE && seen_at(s, place)->touched == p->touched;
        plans[i] = (struct saved_plan){still ? place : NONE, p->at_ms};
    }
}

/* Where the parts of it are: as many bytes as a head's sizes ask for. */
struct parts {
    size_t trees, records, leaves, queues, examples, lessons, plans, bytes;
};

static struct parts parts_of(const struct saved_head *h) {
    struct parts p;
    p.trees = (sizeof(*h) + 7) & ~(size_t)7;
    p.records = p.trees + ((sizeof(struct saved_trees) + 7) & ~(size_t)7);
    p.leaves = p.records + (size_t)h->records * sizeof(struct saved_record);
    p.queues = p.leaves + (size_t)h->leaves * sizeof(struct saved_leaf);
    p.examples = p.queues + ((size_t)h->queued[0] + h->queued[1] + h->queued[2]) * sizeof(uint32_t);
    p.lessons = p.examples + (size_t)h->lessons * sizeof(struct yk_fit_example);
    p.plans = p.lessons + (size_t)h->lessons * sizeof(struct saved_lesson);
    p.bytes = p.plans + (size_t)h->planned * sizeof(struct saved_plan);
    return p;
}

#define SUM_FROM (offsetof(struct saved_head, sum) + sizeof(uint64_t))

static void count_parts(struct yk_learned_saving *s) {
    s->head.leaves = 0;
    for (uint32_t i = 0; i < s->head.records; i++)
        s->head.leaves += seen_at(s, i)->heap_at != NONE;
}

static void put_trees(const struct yk_trees *t, struct saved_trees *to) {
    to->count = t->count;
    to->waits = t->waits;
    to->n_used = t->n_used;
    to->base = t->base;
    memcpy(to->used, t->used, sizeof(to->used));
    memcpy(to->leaf, t->leaf, sizeof(to->leaf));
    memcpy(to->left_over, t->left_over, sizeof(to->left_over));
}

/* The queues may come out shorter than the records say, so what is behind them is written last. */
static int put_all(struct yk_learned_saving *s, unsigned char *bytes) {
    struct parts p = parts_of(&s->head);
    uint32_t *younger = malloc(((size_t)s->head.records + 1) * sizeof(*younger));
    uint32_t *queues = (uint32_t *)(void *)(bytes + p.queues), n = 0;
    int rc = younger != NULL ? put_leaves(s, (struct saved_leaf *)(void *)(bytes + p.leaves)) : -YK_ENOMEM;
    for (uint8_t q = 0; rc == 0 && q < QUEUES; q++, n += s->head.queued[q - 1])
        s->head.queued[q] = put_queue(s, (uint8_t)(q + YK_SHADOW_SMALL), younger, queues + n);
    free(younger);
    if (rc != 0)
        return rc;
    p = parts_of(&s->head);
    put_trees(&s->trees, (struct saved_trees *)(void *)(bytes + p.trees));
    put_records(s, (struct saved_record *)(void *)(bytes + p.records));
    memcpy(bytes + p.examples, s->examples, s->head.lessons * sizeof(*s->examples));
    put_lessons(s, (struct saved_lesson *)(void *)(bytes + p.lessons), (struct saved_plan *)(void *)(bytes + p.plans));
    s->head.bytes = p.bytes;
    memcpy(bytes, &s->head, sizeof(s->head));
    s->head.sum = yk_hash64(bytes + SUM_FROM, p.bytes - SUM_FROM);
    memcpy(bytes, &s->head, sizeof(s->head));
    return 0;
}

int yk_learned_saving_end(struct yk_learned_saving *s, void **ret_bytes, size_t *ret_len) {
    int rc = s->policy == NULL ? number_anew(s) : -YK_EINVAL;
    unsigned char *bytes = NULL;
    if (rc == 0) {
        count_parts(s);
        s->head.queued[0] = s->head.records; /* room; in all of them at most */
        bytes = calloc(1, parts_of(&s->head).bytes);
        s->head.queued[0] = 0;
        rc = bytes != NULL ? put_all(s, bytes) : -YK_ENOMEM;
    }
    if (rc != 0) {
        free(bytes);
        return rc;
    }
    *ret_bytes = bytes;
    *ret_len = s->head.bytes;
    return 0;
}

int yk_learned_save(const struct yk_policy *p, void **ret_bytes, size_t *ret_len) {
    struct yk_learned_saving *s = yk_learned_saving_begin(p);
    if (s == NULL)
        return -YK_ENOMEM;
    (void)yk_learned_saving_step(s, UINT32_MAX);
    int rc = yk_learned_saving_end(s, ret_bytes, ret_len);
    yk_learned_saving_free(s);
    return rc;
}

/* ---- looked at before it is loaded ------------------------------------------------------------- */

static bool is_share(double x) { /* of blocks */
    return x >= 0 && x < 1e18;
}

static bool head_is_sane(const struct saved_head *h) {
    bool sane = h->records <= YK_LEARNED_SAVED_MAX && h->leaves <= h->records && h->lessons <= YK_LESSONS &&
                h->planned <= YK_LESSONS_PLANNED && h->lessons_next < YK_LESSONS && h->follows < FOLLOWED &&
                h->requests_due >= 1 && h->requests_due <= REQUESTS_DUE_MAX &&
                yk_choice_is_sane(&h->choice) && is_share(h->room) && h->mean > 0 && is_share(h->mean) && is_share(h->stay_ms) &&
                is_share(h->near_s) &&
                (uint64_t)h->queued[0] + h->queued[1] + h->queued[2] <= h->records;
    return sane && (h->lessons == YK_LESSONS || h->lessons_next == h->lessons);
}

static bool features_are_sane(const uint8_t *x) {
    uint8_t all = 0;
    for (uint32_t i = 0; i < YK_TREES_FEATURES; i++)
        all |= x[i];
    return all < YK_TREES_VALUES;
}

static bool step_is_sane(yk_trees_pair step) {
    return fabsf(step[0]) < 1e6f && fabsf(step[1]) < 1e6f;
}

static bool trees_are_sane(const struct saved_trees *t) {
    bool sane = t->count <= YK_TREES_MAX && t->n_used <= YK_TREES_FEATURES && step_is_sane(t->base);
    for (uint32_t i = 0; i < YK_TREES_FEATURES; i++)
        sane = sane && t->used[i] < YK_TREES_FEATURES;
    for (uint32_t i = 0; i < YK_TREES_MAX; i++)
        for (uint32_t k = 0; k < YK_TREES_LEAVES; k++)
            sane = sane && step_is_sane(t->leaf[i][k]);
    return sane;
}

static bool records_are_sane(const struct saved_head *h, const unsigned char *at) {
    struct saved_record r;
    for (uint32_t i = 0; i < h->records; i++) {
        memcpy(&r, at + (size_t)i * sizeof(r), sizeof(r));
        if ((r.bytes != 0 && h->unit_bytes == 0) || (r.parent != NONE && (r.parent >= h->records || r.parent == i)) || !features_are_sane(r.x) ||
            r.in >= 1u << FOLLOWED || r.freq > 3 || r.key_hash > YK_POLICY_HASH_BITS)
            return false;
    }
    return true;
}

static bool places_are_sane(const struct saved_head *h, const unsigned char *bytes, const struct parts *p) {
    struct saved_leaf leaf;
    struct saved_plan plan;
    uint32_t place;
    for (uint32_t i = 0; i < h->leaves; i++) {
        memcpy(&leaf, bytes + p->leaves + (size_t)i * sizeof(leaf), sizeof(leaf));
        if (leaf.record >= h->records || !(fabsf(leaf.value) <= 1e9f))
            return false;
    }
    for (size_t at = p->queues; at < p->examples; at += sizeof(place)) {
        memcpy(&place, bytes + at, sizeof(place));
        if (place >= h->records)
            return false;
    }
    for (uint32_t i = 0; i < h->planned; i++) {
        memcpy(&plan, bytes + p->plans + (size_t)i * sizeof(plan), sizeof(plan));
        if (plan.record != NONE && plan.record >= h->records)
            return false;
    }
    return true;
}

static bool lessons_are_sane(const struct saved_head *h, const unsigned char *bytes, const struct parts *p) {
    struct yk_fit_example e;
    struct saved_lesson l;
    for (uint32_t i = 0; i < h->lessons; i++) {
        memcpy(&e, bytes + p->examples + (size_t)i * sizeof(e), sizeof(e));
        memcpy(&l, bytes + p->lessons + (size_t)i * sizeof(l), sizeof(l));
        if (!features_are_sane(e.x) || !(fabsf(e.prior) < PRIOR_MAX) || (l.record != NONE && l.record >= h->records))
            return false;
    }
    return true;
}

static int look(const void *bytes, size_t len, struct saved_head *ret_head, struct yk_err *err) {
    struct saved_head h;
    struct saved_trees trees;
    if (len < sizeof(h))
        return yk_err_set(err, -YK_ECORRUPT, "%zu bytes are less than a head", len);
    memcpy(&h, bytes, sizeof(h));
    if (h.magic != MAGIC)
        return yk_err_set(err, -YK_ECORRUPT, "it is not what a policy has learned");
    if (h.version != VERSION || h.head_bytes != sizeof(h))
        return yk_err_set(err, -YK_EVERSION, "its version is %u, expected %u", h.version, VERSION);
    if (!head_is_sane(&h) || h.bytes != len || parts_of(&h).bytes != len)
        return yk_err_set(err, -YK_ECORRUPT, "its sizes do not fit its %zu bytes", len);
    if (h.sum != yk_hash64((const unsigned char *)bytes + SUM_FROM, len - SUM_FROM))
        return yk_err_set(err, -YK_ECORRUPT, "its sum is wrong");
    const struct parts p = parts_of(&h);
    memcpy(&trees, (const unsigned char *)bytes + p.trees, sizeof(trees));
    if (!trees_are_sane(&trees) || !records_are_sane(&h, (const unsigned char *)bytes + p.records) ||
        !places_are_sane(&h, bytes, &p) || !lessons_are_sane(&h, bytes, &p))
        return yk_err_set(err, -YK_ECORRUPT, "its sum is right, and what it says is not");
    *ret_head = h;
    return 0;
}

/* ---- loaded -------------------------------------------------------------------------------------- */

/* Where it goes, and what its times are by now. */
struct loading {
    struct learned *l;
    struct saved_head h;
    struct parts p;
    const unsigned char *bytes;
    uint32_t skipped; /* records, for which there is no room */
    uint32_t now_ms, away_ms;
};

static uint32_t number_of(const struct loading *o, uint32_t place) {
    return place != NONE && place >= o->skipped ? place - o->skipped : NONE;
}

/* A time of then as one of now. */
static uint32_t time_of(const struct loading *o, uint32_t then_ms, uint32_t away_ms) {
    uint32_t age_ms = (uint32_t)o->h.now_ms - then_ms;
    return o->now_ms - (age_ms < AGE_MAX_MS - away_ms ? age_ms + away_ms : AGE_MAX_MS);
}

static void load_record(const struct loading *o, uint32_t place) {
    struct yk_history *h = &o->l->history;
    struct saved_record s;
    memcpy(&s, o->bytes + o->p.records + (size_t)place * sizeof(s), sizeof(s));
    struct yk_record *r = &h->records[yk_history_add(h, s.key_hash, 0)];
    uint32_t parent = number_of(o, s.parent);
    r->first_ms = time_of(o, s.first_ms, o->away_ms);
    r->last_ms = time_of(o, s.last_ms, o->away_ms);
    r->uses = s.uses;
    r->children = s.children;
    r->request = s.request;
    r->bytes = s.bytes;
    o->l->keeper.is_mixed |= s.bytes != 0 && s.bytes != o->h.unit_bytes;
    r->predicted = s.request - 1;
    r->turn = s.turn;
    r->freq = s.freq;
    r->announced = s.announced;
    memcpy(r->x, s.x, sizeof(r->x));
    if (parent != NONE) { /* records are numbered as they come, and each is the first of its number */
        r->parent = parent;
        r->parent_gen = 1;
    }
}

static uint8_t caches_of(const struct loading *o, uint32_t record) {
    struct saved_record s;
    memcpy(&s, o->bytes + o->p.records + (size_t)(record + o->skipped) * sizeof(s), sizeof(s));
    return s.in;
}

/* The youngest of those that a cache had, if there is no room for all. */
static uint32_t first_in(const struct loading *o, uint8_t bit) {
    uint32_t n = 0, record = o->h.records - o->skipped;
    while (record > 0 && n < o->l->capacity_max)
        n += (caches_of(o, --record) & bit) != 0;
    return record;
}

static void load_caches(const struct loading *o) {
    struct learned *l = o->l;
    uint32_t records = o->h.records - o->skipped;
    for (uint32_t i = first_in(o, l->lru.bit); i < records; i++)
        if (caches_of(o, i) & l->lru.bit)
            yk_shadow_lru_restore(&l->lru, i);
    for (uint32_t i = first_in(o, l->keeper.bit); i < records; i++)
        if (caches_of(o, i) & l->keeper.bit)
            yk_keeper_restore(&l->keeper, i);
    for (uint32_t i = 0; i < o->h.leaves; i++) {
        struct saved_leaf leaf;
        memcpy(&leaf, o->bytes + o->p.leaves + (size_t)i * sizeof(leaf), sizeof(leaf));
        if (number_of(o, leaf.record) != NONE)
            yk_keeper_restore_leaf(&l->keeper, (struct yk_keeper_place){leaf.value, number_of(o, leaf.record)});
    }
    yk_keeper_restored(&l->keeper, records);
    l->keeper.next_refreshed = o->h.next_refreshed;
    l->keeper.trims = o->h.trims;
}

static void load_queues(const struct loading *o) {
    const unsigned char *at = o->bytes + o->p.queues;
    for (uint32_t q = 0; q < QUEUES; q++)
        for (uint32_t i = 0, place; i < o->h.queued[q]; i++, at += sizeof(place)) {
            memcpy(&place, at, sizeof(place));
            uint32_t record = number_of(o, place);
            if (record != NONE && o->l->history.records[record].queue == YK_SHADOW_OUT)
                yk_shadow_s3fifo_restore(&o->l->s3fifo, record, YK_SHADOW_SMALL + q);
        }
}

/* Nobody was here to see whether what they wait for came while this node was away, so that does not count. */
static void load_lessons(const struct loading *o) {
    struct yk_lessons *l = &o->l->lessons;
    for (uint32_t i = 0; i < o->h.lessons; i++) {
        struct saved_lesson s;
        memcpy(&s, o->bytes + o->p.lessons + (size_t)i * sizeof(s), sizeof(s));
        memcpy(&l->examples[i], o->bytes + o->p.examples + (size_t)i * sizeof(l->examples[i]),
               sizeof(l->examples[i]));
        uint32_t record = s.open ? number_of(o, s.record) : NONE;
        l->lessons[i] = (struct yk_lesson){.record = record,
                                           .at_ms = time_of(o, s.at_ms, 0),
                                           .used_ms = time_of(o, s.open ? (uint32_t)o->h.now_ms : s.used_ms, 0),
                                           .used = s.used && !s.open,
                                           .open = record != NONE};
        if (record != NONE)
            yk_lessons_wait(l, i);
    }
    l->count = o->h.lessons;
    l->looked = l->judged = o->h.lessons < YK_LESSONS ? o->h.lessons : YK_LESSONS + o->h.lessons_next;
    l->next = o->h.lessons_next;
    l->requests_due = o->h.requests_due;
    l->requests = o->h.requests;
    l->blocks = o->h.blocks;
    l->blocks_ever = o->h.blocks_ever;
    l->random = o->h.lessons_random;
}

static void load_plans(const struct loading *o) {
    for (uint32_t i = 0; i < o->h.planned; i++) {
        struct saved_plan s;
        memcpy(&s, o->bytes + o->p.plans + (size_t)i * sizeof(s), sizeof(s));
        uint32_t record = number_of(o, s.record);
        uint64_t touched = record != NONE ? o->l->history.records[record].touched : UINT64_MAX;
        int32_t ahead_ms = (int32_t)(s.at_ms - (uint32_t)o->h.now_ms);
        yk_lessons_plan(&o->l->lessons,
                        (struct yk_plan){o->now_ms + (uint32_t)ahead_ms, record != NONE ? record : 0, touched});
    }
}

static bool is_permutation(const uint8_t *features) {
    uint32_t seen = 0;
    for (uint32_t i = 0; i < YK_TREES_FEATURES; i++)
        seen |= features[i] < YK_TREES_FEATURES ? 1u << features[i] : 0;
    return seen == (1u << YK_TREES_FEATURES) - 1;
}

/* The last leaf is left over of every tree whatever is asked (trees_priv.h): so a score stays within its trees. */
static void load_trees(const struct loading *o, struct yk_trees *trees) {
    struct saved_trees s;
    memcpy(&s, o->bytes + o->p.trees, sizeof(s));
    trees->count = s.count;
    trees->waits = s.waits;
    trees->n_used = s.n_used;
    trees->base = s.base;
    memcpy(trees->used, s.used, sizeof(trees->used));
    memcpy(trees->leaf, s.leaf, sizeof(trees->leaf));
    memcpy(trees->left_over, s.left_over, sizeof(trees->left_over));
    for (uint32_t f = 0; f < YK_TREES_FEATURES; f++)
        for (uint32_t v = 0; v < YK_TREES_VALUES; v++)
            for (uint32_t k = 0; k < YK_TREES_MAX; k++)
                trees->left_over[f][v][k] |= 1u << (YK_TREES_LEAVES - 1);
}

static void load_model(const struct loading *o) {
    struct yk_learned_training *t = o->l->training;
    load_trees(o, &t->trees[t->used]);
    yk_keeper_set_trees(&o->l->keeper, &t->trees[t->used]);
    t->place.stay_ms = o->h.stay_ms;
    t->place.used_s = (float)o->h.near_s;
    uint64_t age_ms = o->h.now_ms > o->h.model_ms ? o->h.now_ms - o->h.model_ms : 0;
    o->l->model_ms = o->l->last_ms - (age_ms + o->away_ms); /* by a clock that may have begun since */
    if (o->h.has_fit && is_permutation(o->h.fit_features)) {
        t->fit.random = o->h.fit_random;
        memcpy(t->fit.features, o->h.fit_features, sizeof(t->fit.features));
    }
}

static void load_choice(const struct loading *o) {
    struct learned *l = o->l;
    uint32_t capacity = o->h.capacity < l->capacity_max ? o->h.capacity : l->capacity_max;
    l->choice = o->h.choice;
    l->room = o->h.room;
    l->peak = o->h.peak < l->capacity_max ? o->h.peak : l->capacity_max;
    l->follows = o->h.follows;
    l->mean = o->h.mean;
    l->unit_bytes = l->keeper.unit_bytes = o->h.unit_bytes;
    yk_learned_set_capacity(l, capacity > 0 ? capacity : 1);
    if (capacity == o->h.capacity) /* as it was when it was saved: what came in since has changed the mean */
        l->lru.capacity_bytes = l->s3fifo.capacity_bytes = l->keeper.capacity_bytes = o->h.capacity_bytes;
    l->history.request = o->h.request;
    l->requests_clock = l->history.clock;
}

/* They were saved by a policy that had more room. */
static void trim(const struct loading *o) {
    struct learned *l = o->l;
    uint32_t gone;
    while (yk_shadow_lru_trim(&l->lru) != NONE || yk_shadow_s3fifo_trim(&l->s3fifo) != NONE)
        continue;
    while (yk_keeper_trim(&l->keeper, &gone))
        continue;
}

int yk_learned_load(struct yk_policy *p, const void *bytes, size_t len, uint64_t now_ms, uint64_t away_ms,
                    struct yk_err *err) {
    struct loading o = {.l = (struct learned *)p, .bytes = bytes, .now_ms = (uint32_t)now_ms};
    struct yk_history *h = &o.l->history;
    if (h->used > 0 || yk_order_count(&o.l->order) > 0)
        return yk_err_set(err, -YK_EBUSY, "the policy has seen something already");
    int rc = look(bytes, len, &o.h, err);
    if (rc != 0)
        return rc;
    o.p = parts_of(&o.h);
    o.away_ms = away_ms < AGE_MAX_MS ? (uint32_t)away_ms : AGE_MAX_MS;
    o.skipped = o.h.records > h->max ? o.h.records - h->max : 0;
    uint64_t limit = YK_LEARNED_RECORDS_OF((uint64_t)o.h.peak);
    h->limit = limit < h->max ? (uint32_t)limit : h->max;
    if (h->limit < o.h.records - o.skipped)
        h->limit = o.h.records - o.skipped;
    o.l->last_ms = now_ms;
    h->now_ms = o.now_ms;
    for (uint32_t i = o.skipped; i < o.h.records; i++)
        load_record(&o, i);
    load_choice(&o);
    load_caches(&o);
    load_queues(&o);
    load_lessons(&o);
    load_plans(&o);
    load_model(&o);
    if (o.l->capacity != o.h.capacity)
        trim(&o);
    return 0;
}
