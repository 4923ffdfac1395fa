/* SPDX-License-Identifier: Apache-2.0
 *
 * Whose turn it is (dir/turns.c), and the table of tasks: however much there is that nobody waits for, a part of all
 * limits stays free of it.
 */
#include "dir/copy_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

enum { MAX = 16, BUSY = 8, LATER = 12, LATER_BUSY = 6 };

static void add(struct dir_turns *t, struct dir_turn *turn, int later, int want) {
    assert_int_equal(dir_turns_add(t, turn, later), want);
}

static void test_a_part_is_kept(void **state) {
    struct dir_turns t;
    struct dir_turn turn[MAX + 2];
    dir_turns_init(&t, MAX, BUSY);
    for (unsigned i = 0; i < LATER; i++)
        add(&t, &turn[i], 1, 0);
    add(&t, &turn[LATER], 1, -YK_EAGAIN);
    for (unsigned i = 0; i < LATER_BUSY; i++)
        assert_ptr_equal(dir_turns_next(&t), &turn[i]); /* in order */
    assert_null(dir_turns_next(&t));
    for (unsigned i = LATER; i < MAX; i++)
        add(&t, &turn[i], 0, 0);
    add(&t, &turn[MAX], 0, -YK_EAGAIN);
    assert_ptr_equal(dir_turns_next(&t), &turn[LATER]); /* before those that came first */
    assert_ptr_equal(dir_turns_next(&t), &turn[LATER + 1]);
    assert_null(dir_turns_next(&t));
    dir_turns_end(&t, &turn[0]);
    assert_ptr_equal(dir_turns_next(&t), &turn[LATER + 2]);
    dir_turns_end(&t, &turn[LATER + 3]); /* it never had one */
    dir_turns_end(&t, &turn[LATER]);
    assert_ptr_equal(dir_turns_next(&t), &turn[LATER_BUSY]);
    assert_null(dir_turns_next(&t));
}

/* Whoever waits may take all of it: nothing is kept from them. */
static void test_who_waits_may_have_all(void **state) {
    struct dir_turns t;
    struct dir_turn turn[MAX + 1];
    dir_turns_init(&t, MAX, BUSY);
    for (unsigned i = 0; i < MAX; i++)
        add(&t, &turn[i], 0, 0);
    add(&t, &turn[MAX], 0, -YK_EAGAIN);
    for (unsigned i = 0; i < BUSY; i++)
        assert_ptr_equal(dir_turns_next(&t), &turn[i]);
    assert_null(dir_turns_next(&t));
}

/* However many there are that somebody waits for, one turn goes to the others, one after the other. */
static void test_the_others_go_on(void **state) {
    struct dir_turns t;
    struct dir_turn now[MAX - 2], later[2];
    dir_turns_init(&t, MAX, BUSY);
    for (unsigned i = 0; i < MAX - 2; i++)
        add(&t, &now[i], 0, 0);
    for (unsigned i = 0; i < BUSY; i++)
        assert_ptr_equal(dir_turns_next(&t), &now[i]);
    add(&t, &later[0], 1, 0);
    add(&t, &later[1], 1, 0);
    assert_null(dir_turns_next(&t));
    dir_turns_end(&t, &now[0]);
    assert_ptr_equal(dir_turns_next(&t), &later[0]);
    dir_turns_end(&t, &now[1]);
    assert_ptr_equal(dir_turns_next(&t), &now[BUSY]);
    dir_turns_end(&t, &later[0]);
    assert_ptr_equal(dir_turns_next(&t), &later[1]);
    assert_null(dir_turns_next(&t));
}

/* What was not waited for is now: it is before the others, and counts as none of them, begun or not. */
static void test_hurry(void **state) {
    struct dir_turns t;
    struct dir_turn turn[MAX + 2];
    dir_turns_init(&t, MAX, BUSY);
    for (unsigned i = 0; i < LATER; i++)
        add(&t, &turn[i], 1, 0);
    for (unsigned i = 0; i < LATER_BUSY; i++)
        assert_non_null(dir_turns_next(&t));
    dir_turns_hurry(&t, &turn[LATER - 1]);
    assert_ptr_equal(dir_turns_next(&t), &turn[LATER - 1]);
    dir_turns_hurry(&t, &turn[0]);
    dir_turns_hurry(&t, &turn[0]); /* once is enough */
    assert_ptr_equal(dir_turns_next(&t), &turn[LATER_BUSY]); /* in its place among the others */
    add(&t, &turn[LATER], 1, 0);
    add(&t, &turn[LATER + 1], 1, 0);
    for (unsigned i = 0; i < LATER + 2; i++)
        dir_turns_end(&t, &turn[i]);
    assert_int_equal(t.count + t.busy_count + t.later_count + t.later_busy, 0);
}

/* ---- pulls: what the loop is to begin lies in its inbox ---------------------------------------------------- */

static uint32_t begun(const struct yk_dir *d) {
    uint32_t n = 0;
    for (const struct dir_job *j = d->inbox; j != NULL; j = j->next)
        n++;
    return n;
}

/* Nobody has their blocks: each ends with its first turn, and leaves it to the next. */
static void run_all(struct yk_dir *d) {
    while (d->inbox != NULL) {
        struct dir_job *job = d->inbox;
        if ((d->inbox = job->next) == NULL)
            d->inbox_tail = &d->inbox;
        job->back(job);
    }
}

static struct dir_pull_want pull(char key[16], unsigned number, uint8_t xclass) {
    static const struct yk_dir_found nowhere;
    struct dir_pull_want w = {.key = {"default", 7, key, (uint32_t)snprintf(key, 16, "k%u", number)}, .epoch = 1,
                              .deadline_ns = UINT64_MAX, .xclass = xclass, .found = &nowhere};
    w.hash = yk_dir_hash(w.key.ns, w.key.ns_len, w.key.key, w.key.key_len);
    return w;
}

/* A request wants what a prefetch has in the queue: its turn is one of those that no prefetch can have. */
static void test_a_pull_that_is_joined_begins(void **state) {
    struct yk_dir *d = calloc(1, sizeof(*d));
    char key[16];
    unsigned n = 0;
    assert_non_null(d);
    pthread_mutex_init(&d->lock, NULL);
    assert_int_equal(uv_loop_init(&d->loop), 0);
    assert_int_equal(uv_async_init(&d->loop, &d->wake, NULL), 0);
    d->inbox_tail = &d->inbox;
    d->engine = (struct yk_xfer *)d; /* there is one; nothing is read */
    for (; begun(d) == n; n++) {
        struct dir_pull_want w = pull(key, n, YK_XFER_PREFETCH);
        assert_int_equal(dir_pull_start(d, &w, NULL), 0);
    }
    struct dir_pull_want later = pull(key, n - 1, YK_XFER_BACKGROUND);
    assert_int_equal(dir_pull_join(d, &later, NULL), 1);
    assert_int_equal(begun(d), n - 1);
    struct dir_pull_want now = pull(key, n - 1, YK_XFER_DEMAND);
    assert_int_equal(dir_pull_join(d, &now, NULL), 1);
    assert_int_equal(begun(d), n);
    run_all(d);
    assert_int_equal(d->n.pulling, 0);
    free(d->pulls);
    uv_close((uv_handle_t *)&d->wake, NULL);
    uv_run(&d->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&d->loop), 0);
    pthread_mutex_destroy(&d->lock);
    free(d);
}

static struct dir_task *task(struct yk_dir *d, enum yk_dirw_task_kind kind, unsigned number) {
    char key[16];
    int old;
    struct yk_dir_key k = {"default", 7, key, (uint32_t)snprintf(key, sizeof(key), "k%u", number)};
    struct dir_task *t = dir_task_new(d, kind, &k, 1, 0, 2, &old);
    assert_int_equal(old, 0);
    return t;
}

static void test_hot_chains_leave_room_for_tasks(void **state) {
    struct yk_dir *d = calloc(1, sizeof(*d));
    struct dir_task *first, *keep;
    unsigned n = 1;
    assert_non_null(d);
    assert_non_null(first = task(d, YK_DIR_TASK_COPY, 0));
    assert_non_null(keep = task(d, YK_DIR_TASK_KEEP, n));
    for (; task(d, YK_DIR_TASK_KEEP, n + 1) != NULL; n++)
        assert_in_range(n, 1, DIR_KEEPS_MAX);
    assert_int_equal(n, DIR_KEEPS_MAX);
    for (unsigned i = n + 2; i < 1 + DIR_TASKS_MAX; i++)
        assert_non_null(task(d, i % 2 ? YK_DIR_TASK_COPY : YK_DIR_TASK_MOVE, i));
    assert_null(task(d, YK_DIR_TASK_MOVE, 5000)); /* all are under way */
    dir_task_end(d, first, 0, 0, "");
    dir_task_end(d, keep, 0, 0, "");
    assert_non_null(task(d, YK_DIR_TASK_KEEP, 5001)); /* of a hot chain again, in the place of one */
    assert_int_equal(first->state, DIR_TASK_DONE);    /* whoever asked may still look at it */
    assert_null(task(d, YK_DIR_TASK_KEEP, 5002));
    assert_non_null(task(d, YK_DIR_TASK_COPY, 5003));
    dir_tasks_free(d);
    free(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_part_is_kept),
        cmocka_unit_test(test_who_waits_may_have_all),
        cmocka_unit_test(test_the_others_go_on),
        cmocka_unit_test(test_hurry),
        cmocka_unit_test(test_a_pull_that_is_joined_begins),
        cmocka_unit_test(test_hot_chains_leave_room_for_tasks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
