/* SPDX-License-Identifier: Apache-2.0
 *
 * The log of removes against a model of it: random changes with fixed seeds, and after each the same answers. Then
 * what disks do: the file is cut at every byte, and what was durable there is found, no less and no more; every byte
 * is changed, and a slot that does not say that it lost its log has exactly what it had. All on images of files; on
 * files: test_rlog_file.c.
 */
#include "rlog_fixture.h"

#include <stdlib.h>

enum { SLOTS = 3, KEYS = 12, MODEL_MAX = 400 };

struct model_remove {
    struct yk_dir_num origin, num;
    uint32_t key;
    uint64_t time_s;
};

struct model_slot {
    uint64_t seen, led;
    struct yk_dir_num last, base, forgot, done;
    struct model_remove list[MODEL_MAX]; /* in any order */
    uint32_t count;
    uint8_t lost;
};

struct model {
    struct yk_dir_rlog *log;
    struct model_slot slot[SLOTS];
    struct test_key key[SLOTS][KEYS];
    uint64_t seed, now_s, ticket, durable;
    uint32_t keep;
};

static void model_keys(struct model *m) {
    for (uint32_t s = 0; s < SLOTS; s++)
        for (uint32_t k = 0; k < KEYS; k++) {
            key_make(&m->key[s][k], s * KEYS + k, 2);
            m->key[s][k].hash = (uint64_t)s << 52 | (m->key[s][k].hash & 0xfffffffffffffull);
        }
}

static uint32_t model_find(const struct model_slot *s, struct yk_dir_num origin) {
    uint32_t i = 0;
    while (i < s->count && yk_dir_num_cmp(s->list[i].origin, origin) != 0)
        i++;
    return i;
}

static int model_has(const struct model_slot *s, struct yk_dir_num origin) {
    return yk_dir_num_cmp(origin, s->forgot) <= 0 || model_find(s, origin) < s->count;
}

/* The lowest number above; NULL: none. */
static const struct model_remove *model_next(const struct model_slot *s, struct yk_dir_num after) {
    const struct model_remove *best = NULL;
    for (uint32_t i = 0; i < s->count; i++)
        if (yk_dir_num_cmp(s->list[i].num, after) > 0 &&
            (best == NULL || yk_dir_num_cmp(s->list[i].num, best->num) < 0))
            best = &s->list[i];
    return best;
}

static void model_take(struct model_slot *s, uint32_t i) {
    s->list[i] = s->list[--s->count];
}

static void check_slot(const struct model *m, const struct yk_dir_rlog *log, uint32_t slot) {
    const struct model_slot *s = &m->slot[slot];
    struct yk_dir_rlog_slot is;
    struct yk_dir_remove r;
    struct yk_dir_num after = {0, 0};
    yk_dir_rlog_slot(log, slot, &is);
    assert_true(is.seen == s->seen && is.led == s->led && is.removes == s->count && is.lost == s->lost);
    assert_int_equal(yk_dir_num_cmp(is.last, s->last), 0);
    assert_int_equal(yk_dir_num_cmp(is.base, s->base), 0);
    assert_int_equal(yk_dir_num_cmp(is.forgot, s->forgot), 0);
    for (uint32_t i = 0; i < s->count; i++) {
        const struct model_remove *want = model_next(s, after);
        assert_non_null(want);
        assert_int_equal(yk_dir_rlog_next(log, slot, after, &r), 1);
        const struct test_key *k = &m->key[slot][want->key];
        assert_int_equal(yk_dir_num_cmp(r.num, want->num), 0);
        assert_int_equal(yk_dir_num_cmp(r.origin, want->origin), 0);
        assert_true(r.hash == k->hash && r.key.key_len == k->key.key_len && r.time_s == want->time_s);
        assert_memory_equal(r.key.key, k->bytes, r.key.key_len);
        assert_memory_equal(r.key.ns, k->ns, r.key.ns_len);
        after = r.num;
    }
    assert_int_equal(yk_dir_rlog_next(log, slot, after, &r), 0);
}

static void check_removed(const struct model *m, uint32_t slot, uint32_t key, struct yk_dir_num after) {
    const struct model_slot *s = &m->slot[slot];
    int want = 0;
    for (uint32_t i = 0; i < s->count; i++)
        want |= s->list[i].key == key && yk_dir_num_cmp(s->list[i].num, after) > 0;
    assert_int_equal(yk_dir_rlog_removed(m->log, &m->key[slot][key].key, m->key[slot][key].hash, after), want);
}

/* The next remove: a new one, or one that is sent again. */
static void step_remove(struct model *m, uint32_t slot) {
    struct model_slot *s = &m->slot[slot];
    struct yk_dir_num num = {s->last.term, s->last.rseq + 1}, origin = num;
    uint32_t key = random_below(&m->seed, KEYS);
    if (s->last.term == 0)
        num = origin = (struct yk_dir_num){1, 1};
    if (s->count > 0 && random_below(&m->seed, 4) == 0) {
        const struct model_remove *again = &s->list[random_below(&m->seed, s->count)];
        origin = again->origin;
        key = again->key;
    } else if (random_below(&m->seed, 10) == 0 && s->forgot.term > 0) {
        origin = s->forgot; /* long applied */
    }
    struct yk_dir_remove r = remove_of(&m->key[slot][key], origin, num);
    assert_int_equal(yk_dir_rlog_has(m->log, slot, origin), model_has(s, origin));
    assert_int_equal(yk_dir_rlog_remove(m->log, &r, m->now_s, &m->ticket), 0);
    uint32_t at = model_find(s, origin);
    if (at < s->count)
        s->list[at].num = num;
    else if (!model_has(s, origin))
        s->list[s->count++] = (struct model_remove){origin, num, key, m->now_s};
    s->last = num;
    assert_int_equal(yk_dir_rlog_remove(m->log, &r, m->now_s, NULL), -YK_EINVAL); /* not above the last */
}

/* A new owner: others' removes come between, then all get new numbers. */
static void step_owner(struct model *m, uint32_t slot) {
    struct model_slot *s = &m->slot[slot];
    uint64_t term = (s->last.term > s->seen ? s->last.term : s->seen) + 1;
    for (uint32_t n = random_below(&m->seed, 4); n > 0; n--) {
        struct yk_dir_num origin = {1 + random_below(&m->seed, (uint32_t)term), 1000 + random_below(&m->seed, 50)};
        uint32_t key = random_below(&m->seed, KEYS);
        struct yk_dir_remove r = remove_of(&m->key[slot][key], origin, origin);
        int want = model_has(s, origin) ? YK_MISS : 0;
        r.time_s = 5;
        assert_int_equal(yk_dir_rlog_merge(m->log, &r, m->now_s, &m->ticket), want);
        if (want == 0)
            s->list[s->count++] = (struct model_remove){origin, origin, key, 5};
    }
    assert_int_equal(yk_dir_rlog_seen(m->log, slot, term, NULL), 0);
    assert_int_equal(yk_dir_rlog_led(m->log, slot, term, NULL), 0);
    assert_int_equal(yk_dir_rlog_renumber(m->log, slot, term, &m->ticket), 0);
    s->seen = s->led = term;
    s->last = (struct yk_dir_num){term, s->count};
    for (uint32_t i = 0; i < s->count; i++) {
        uint64_t place = 1;
        for (uint32_t j = 0; j < s->count; j++)
            place += yk_dir_num_cmp(s->list[j].origin, s->list[i].origin) < 0;
        s->list[i].num = (struct yk_dir_num){term, place};
    }
}

static void step_replace(struct model *m, uint32_t slot) {
    struct model_slot *s = &m->slot[slot];
    struct yk_dir_remove removes[5];
    struct yk_dir_rlog_slot state = {.seen = s->seen + random_below(&m->seed, 3), .led = 0};
    uint64_t term = s->last.term + 1;
    uint32_t n = random_below(&m->seed, 6);
    state.last = (struct yk_dir_num){term, 10};
    state.base = (struct yk_dir_num){term, 0};
    state.forgot = s->forgot;
    s->count = n;
    for (uint32_t i = 0; i < n; i++) {
        struct yk_dir_num num = {term, n - i}; /* in any order */
        uint32_t key = random_below(&m->seed, KEYS);
        removes[i] = remove_of(&m->key[slot][key], num, num);
        s->list[i] = (struct model_remove){num, num, key, m->now_s};
    }
    assert_int_equal(yk_dir_rlog_replace(m->log, slot, &state, removes, n, m->now_s, &m->ticket), 0);
    s->seen = state.seen > s->seen ? state.seen : s->seen;
    s->last = state.last;
    s->base = state.base;
    s->lost = 0;
}

static void step_trim(struct model *m, uint32_t slot) {
    struct model_slot *s = &m->slot[slot];
    const struct model_remove *r = model_next(s, s->done);
    if (r != NULL && random_below(&m->seed, 2)) {
        s->done = r->num;
        yk_dir_rlog_done(m->log, slot, r->num);
    }
    m->now_s += random_below(&m->seed, 5);
    assert_int_equal(yk_dir_rlog_trim(m->log, m->now_s), 0);
    for (uint32_t i = 0; i < SLOTS; i++) {
        s = &m->slot[i];
        const struct model_remove *first;
        while ((first = model_next(s, (struct yk_dir_num){0, 0})) != NULL &&
               yk_dir_num_cmp(first->num, s->done) <= 0 && (s->count > m->keep || first->time_s + 50 <= m->now_s)) {
            s->base = yk_dir_num_cmp(s->base, first->num) < 0 ? first->num : s->base;
            s->forgot = yk_dir_num_cmp(s->forgot, first->origin) < 0 ? first->origin : s->forgot;
            model_take(s, (uint32_t)(first - s->list));
        }
    }
    m->ticket = 0; /* whatever it wrote */
}

static void step(struct model *m) {
    uint32_t slot = random_below(&m->seed, SLOTS), what = random_below(&m->seed, 100);
    struct model_slot *s = &m->slot[slot];
    m->now_s += random_below(&m->seed, 2);
    if (what < 60 && s->count < MODEL_MAX - 10)
        step_remove(m, slot);
    else if (what < 66 && s->count < MODEL_MAX - 10)
        step_owner(m, slot);
    else if (what < 68)
        step_replace(m, slot);
    else if (what < 75) {
        uint64_t term = random_below(&m->seed, 50);
        assert_int_equal(yk_dir_rlog_seen(m->log, slot, term, NULL), 0);
        s->seen = term > s->seen ? term : s->seen;
    } else
        step_trim(m, slot);
    check_slot(m, m->log, slot);
    check_removed(m, slot, random_below(&m->seed, KEYS), s->base);
}

static struct model *model_new(uint64_t seed, uint32_t keep) {
    struct model *m = calloc(1, sizeof(*m));
    assert_non_null(m);
    m->seed = seed;
    m->now_s = 1000;
    m->keep = keep;
    m->log = image_open(NULL, 0, keep, NULL);
    model_keys(m);
    return m;
}

static void model_free(struct model *m) {
    yk_dir_rlog_close(m->log);
    free(m);
}

/* Another process: the same image. */
static void model_again(struct model *m) {
    struct yk_dir_rlog_report report;
    size_t len;
    while (work(m->log) == 1)
        ;
    const void *image = yk_dir_rlog_image(m->log, &len);
    struct yk_dir_rlog *log = image_open(image, len, m->keep, &report);
    assert_true(report.cut_bytes == 0 && report.rotten == 0 && report.lost_slots == 0 && !report.created);
    yk_dir_rlog_close(m->log);
    m->log = log;
    for (uint32_t s = 0; s < SLOTS; s++) {
        m->slot[s].done = (struct yk_dir_num){0, 0}; /* is not on disk */
        check_slot(m, log, s);
    }
}

static void behaves_as_the_model(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        struct model *m = model_new(seed * 31337, 20);
        struct yk_dir_rlog_counts counts = {0};
        uint64_t compactions = 0;
        for (uint32_t i = 0; i < 6000; i++) {
            step(m);
            if (random_below(&m->seed, 5) == 0 && work(m->log) == 1 && m->ticket != 0)
                assert_true(yk_dir_rlog_durable(m->log) >= m->ticket);
            if (i % 500 == 499) {
                yk_dir_rlog_counts(m->log, &counts);
                compactions += counts.compactions;
                model_again(m);
            }
        }
        assert_true(compactions > 3);
        assert_true(counts.file_bytes < 1u << 20); /* bounded, however much was written */
        model_free(m);
    }
}

/* ---- power cuts and rot ------------------------------------------------------------------------- */

enum { FRAMES = 22 };

/* A log without compaction and what it was after each frame. */
struct history {
    struct model *m;
    struct model_slot *was; /* [FRAMES + 1][SLOTS] */
    size_t len[FRAMES + 1]; /* of the image with that many frames */
    unsigned char *image;
};

static void history_note(struct history *h, uint32_t frame) {
    memcpy(&h->was[frame * SLOTS], h->m->slot, sizeof(h->m->slot));
    yk_dir_rlog_image(h->m->log, &h->len[frame]);
}

static struct history history_new(uint64_t seed) {
    struct history h = {.m = calloc(1, sizeof(*h.m)), .was = calloc((FRAMES + 1) * SLOTS, sizeof(*h.was))};
    assert_non_null(h.m);
    assert_non_null(h.was);
    h.m->seed = seed;
    h.m->now_s = 1000;
    h.m->keep = 20;
    model_keys(h.m);
    struct yk_dir_rlog_opts opts = {.keep_removes = 20, .keep_s = 50};
    assert_int_equal(yk_dir_rlog_open(&opts, &h.m->log, NULL, NULL), 0);
    history_note(&h, 0);
    for (uint32_t f = 1; f <= FRAMES; f++) {
        int n;
        do {
            step(h.m);
            if (random_below(&h.m->seed, 3) == 0)
                step(h.m);
        } while ((n = work(h.m->log)) == 0);
        assert_int_equal(n, 1);
        history_note(&h, f);
        assert_true(h.len[f] > h.len[f - 1]);
    }
    size_t len;
    const void *image = yk_dir_rlog_image(h.m->log, &len);
    h.image = malloc(len);
    assert_non_null(h.image);
    memcpy(h.image, image, len);
    return h;
}

static void history_free(struct history *h) {
    model_free(h->m);
    free(h->was);
    free(h->image);
}

/* What was after that frame, in the model's place. */
static const struct model *history_at(struct history *h, uint32_t frame) {
    memcpy(h->m->slot, &h->was[frame * SLOTS], sizeof(h->m->slot));
    return h->m;
}

static void check_cut(struct history *h, const void *image, size_t len, uint32_t frame) {
    struct yk_dir_rlog_report report;
    struct yk_dir_rlog *log = image_open(image, len, 20, &report);
    assert_true(report.rotten == 0 && report.lost_slots == 0 && report.cut_bytes == len - h->len[frame]);
    for (uint32_t s = 0; s < SLOTS; s++)
        check_slot(history_at(h, frame), log, s);
    size_t kept;
    yk_dir_rlog_image(log, &kept);
    assert_true(kept == h->len[frame]);
    yk_dir_rlog_close(log);
}

static void a_cut_file_has_what_was_durable(void **state) {
    (void)state;
    struct history h = history_new(77);
    uint32_t frame = 0;
    uint64_t seed = 5;
    for (size_t len = HEAD; len <= h.len[FRAMES]; len++) {
        while (frame < FRAMES && h.len[frame + 1] <= len)
            frame++;
        check_cut(&h, h.image, len, frame);
        if (len % 32 != 0)
            continue;
        /* The file is longer than what was written into it, or has something else there. */
        size_t junk = len + 1 + random_below(&seed, 300);
        unsigned char *bytes = calloc(1, junk);
        assert_non_null(bytes);
        memcpy(bytes, h.image, len);
        for (size_t i = len; len % 64 == 0 && i < junk; i++)
            bytes[i] = (unsigned char)random_next(&seed);
        check_cut(&h, bytes, junk, frame);
        free(bytes);
    }
    for (size_t len = 0; len < HEAD; len++) {
        struct yk_dir_rlog *log = NULL;
        struct yk_err err = {0};
        struct yk_dir_rlog_opts opts = {.image = h.image, .image_len = len};
        assert_int_equal(yk_dir_rlog_open(&opts, &log, NULL, &err), -YK_ECORRUPT);
        assert_non_null(strstr(err.text, "moved away"));
        assert_null(log);
    }
    history_free(&h);
}

/* Not lost: exactly what it was. Returns how many of the slots are lost. */
static uint32_t check_rot(struct history *h, struct yk_dir_rlog *log, uint32_t frame) {
    const struct model *m = history_at(h, frame);
    uint32_t lost = 0;
    for (uint32_t s = 0; s < SLOTS; s++) {
        struct yk_dir_rlog_slot is;
        yk_dir_rlog_slot(log, s, &is);
        lost += is.lost;
        if (!is.lost)
            check_slot(m, log, s);
    }
    return lost;
}

static void a_rotten_byte_is_never_unnoticed(void **state) {
    (void)state;
    struct history h = history_new(78);
    uint32_t frame = 1, one = 0, all = 0;
    uint64_t seed = 9;
    for (size_t at = HEAD; at < h.len[FRAMES]; at++) {
        struct yk_dir_rlog_report report;
        while (h.len[frame] <= at)
            frame++;
        unsigned char was = h.image[at];
        h.image[at] ^= (unsigned char)(1u << random_below(&seed, 8));
        struct yk_dir_rlog *log = image_open(h.image, h.len[FRAMES], 20, &report);
        if (frame == FRAMES) { /* looks like a cut */
            assert_true(report.rotten == 0 && report.cut_bytes == h.len[FRAMES] - h.len[FRAMES - 1]);
            assert_int_equal(check_rot(&h, log, FRAMES - 1), 0);
        } else {
            assert_int_equal(report.rotten, 1);
            assert_int_equal(report.cut_bytes, 0);
            uint32_t lost = check_rot(&h, log, FRAMES);
            one += lost == 1 && report.lost_slots == 1;
            all += lost == SLOTS;
        }
        yk_dir_rlog_close(log);
        h.image[at] = was;
    }
    assert_true(one > 100 && all > 100);
    /* A frame that is missing altogether. */
    size_t gap = h.len[11] - h.len[10];
    memmove(h.image + h.len[10], h.image + h.len[11], h.len[FRAMES] - h.len[11]);
    struct yk_dir_rlog_report report;
    struct yk_dir_rlog *log = image_open(h.image, h.len[FRAMES] - gap, 20, &report);
    assert_int_equal(report.rotten, 1);
    check_rot(&h, log, FRAMES);
    yk_dir_rlog_close(log);
    history_free(&h);
}

/* What was lost stays lost through compactions and starts, until the slot's state is put in its place. */
static void lost_is_lost_until_replaced(void **state) {
    (void)state;
    struct history h = history_new(79);
    struct yk_dir_rlog_report report;
    h.image[h.len[10] + 8] ^= 1; /* the head of a frame: all */
    struct yk_dir_rlog *log = image_open(h.image, h.len[FRAMES], 20, &report);
    assert_true(report.lost_slots > 4000);
    while (work(log) == 1)
        ;
    struct yk_dir_rlog_counts counts;
    yk_dir_rlog_counts(log, &counts);
    assert_int_equal(counts.compactions, 1);
    struct yk_dir_rlog_slot fresh = {.last = {900, 1}, .base = {900, 1}};
    assert_int_equal(yk_dir_rlog_replace(log, 7, &fresh, NULL, 0, 1, NULL), 0);
    while (work(log) == 1)
        ;
    size_t len;
    const void *image = yk_dir_rlog_image(log, &len);
    struct yk_dir_rlog *again = image_open(image, len, 20, &report);
    struct yk_dir_rlog_slot is;
    yk_dir_rlog_slot(again, 7, &is);
    assert_true(is.lost == 0 && is.last.term == 900);
    yk_dir_rlog_slot(again, 8, &is);
    assert_true(is.lost == 1 && report.rotten == 0);
    yk_dir_rlog_close(again);
    yk_dir_rlog_close(log);
    history_free(&h);
}

/* A slot's whole state is whole: it needs nothing of what stood before it. */
static void a_state_needs_nothing_of_before(void **state) {
    (void)state;
    struct yk_dir_rlog *log = image_open(NULL, 0, 5, NULL);
    struct yk_dir_rlog_slot fresh = {.last = {3, 1}, .base = {3, 1}}, is;
    struct yk_dir_rlog_report report;
    size_t len;
    assert_int_equal(yk_dir_rlog_seen(log, 3, 9, NULL), 0);
    assert_int_equal(yk_dir_rlog_led(log, 3, 8, NULL), 0);
    assert_int_equal(work(log), 1);
    assert_int_equal(yk_dir_rlog_replace(log, 3, &fresh, NULL, 0, 1, NULL), 0);
    assert_int_equal(work(log), 1);
    const void *image = yk_dir_rlog_image(log, &len);
    unsigned char *rotten = malloc(len);
    assert_non_null(rotten);
    memcpy(rotten, image, len);
    rotten[HEAD + 40 + 24] ^= 1; /* the first record's term */
    struct yk_dir_rlog *again = image_open(rotten, len, 5, &report);
    yk_dir_rlog_slot(again, 3, &is);
    assert_true(report.rotten == 1 && report.lost_slots == 0);
    assert_true(is.seen == 9 && is.led == 8 && is.last.term == 3);
    yk_dir_rlog_close(again);
    yk_dir_rlog_close(log);
    free(rotten);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(behaves_as_the_model),
        cmocka_unit_test(a_cut_file_has_what_was_durable),
        cmocka_unit_test(a_rotten_byte_is_never_unnoticed),
        cmocka_unit_test(lost_is_lost_until_replaced),
        cmocka_unit_test(a_state_needs_nothing_of_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
