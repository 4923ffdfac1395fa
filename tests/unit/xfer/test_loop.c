/* SPDX-License-Identifier: Apache-2.0
 *
 * The event loop: timers in order, watches that go while events are ready, wake-ups that are not lost.
 */
#include "xfer/loop.h"

#include "base/clock.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static int open_loop(void **state) {
    struct yk_loop *l;
    assert_int_equal(yk_loop_new(&l, NULL), 0);
    *state = l;
    return 0;
}

static int close_loop(void **state) {
    yk_loop_free(*state);
    return 0;
}

/* ---- timers ------------------------------------------------------------------------------------ */

static uint64_t fired[256];
static unsigned fired_count;

static void on_timer(struct yk_timer *t) {
    assert_int_equal(t->due_ns, 0);
    fired[fired_count++] = (uint64_t)(uintptr_t)t->user;
}

static void timers_fire_in_order_each_once(void **state) {
    struct yk_loop *l = *state;
    struct yk_timer t[100];
    uint64_t base = yk_now_ns() - 1000;
    memset(t, 0, sizeof(t));
    fired_count = 0;
    for (unsigned i = 0; i < 100; i++) {
        t[i].fn = on_timer;
        t[i].user = (void *)(uintptr_t)(i * 37 % 100);
        assert_int_equal(yk_loop_timer(l, &t[i], base + i * 37 % 100), 0);
    }
    for (unsigned i = 0; i < 100; i += 2) /* half of them are moved, and back */
        yk_loop_timer(l, &t[i], base + 100000000000ull);
    for (unsigned i = 0; i < 100; i += 2)
        yk_loop_timer(l, &t[i], base + i * 37 % 100);
    yk_loop_timer(l, &t[0], 0); /* number 0 is taken back */
    assert_int_equal(yk_loop_turn(l, UINT64_MAX), 99);
    assert_int_equal(fired_count, 99);
    for (unsigned i = 0; i < 99; i++)
        assert_int_equal(fired[i], i + 1);
    assert_int_equal(yk_loop_turn(l, 0), 0);
}

static void on_timer_again(struct yk_timer *t) {
    fired_count++;
    if (fired_count < 5)
        yk_loop_timer(t->user, t, yk_now_ns());
}

static void a_timer_may_be_set_from_its_own_call(void **state) {
    struct yk_timer t = {.fn = on_timer_again, .user = *state};
    fired_count = 0;
    yk_loop_timer(*state, &t, yk_now_ns());
    uint64_t end = yk_now_ns() + 10 * YK_NS_PER_S;
    while (fired_count < 5 && yk_now_ns() < end)
        yk_loop_turn(*state, YK_NS_PER_MS);
    assert_int_equal(fired_count, 5);
}

static void a_sleep_ends_at_the_first_timer(void **state) {
    struct yk_timer t = {.fn = on_timer};
    fired_count = 0;
    uint64_t due = yk_now_ns() + 20 * YK_NS_PER_MS;
    yk_loop_timer(*state, &t, due);
    while (fired_count == 0)
        yk_loop_turn(*state, UINT64_MAX); /* for ever, were the timer not looked at */
    assert_true(yk_now_ns() >= due);
}

/* ---- watches ------------------------------------------------------------------------------------ */

struct pair {
    int fds[2];
    struct yk_watch w;
    struct yk_loop *loop;
    struct pair *victim;
    unsigned calls;
};

static void on_ready(struct yk_watch *w, uint32_t events) {
    struct pair *p = w->user;
    p->calls++;
    if (p->victim != NULL) {
        yk_loop_unwatch(p->loop, &p->victim->w);
        close(p->victim->fds[0]);
        p->victim->fds[0] = -1;
        p->victim = NULL;
    }
}

static void pair_open(struct pair *p, struct yk_loop *loop) {
    memset(p, 0, sizeof(*p));
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, p->fds), 0);
    p->loop = loop;
    p->w = (struct yk_watch){.fd = p->fds[0], .events = EPOLLIN, .fn = on_ready, .user = p};
    assert_int_equal(yk_loop_watch(loop, &p->w), 0);
}

static void pair_close(struct pair *p) {
    yk_loop_unwatch(p->loop, &p->w);
    for (int i = 0; i < 2; i++)
        if (p->fds[i] >= 0)
            close(p->fds[i]);
}

static void a_watch_that_goes_gets_no_event_that_was_ready(void **state) {
    struct pair a, b;
    pair_open(&a, *state);
    pair_open(&b, *state);
    a.victim = &b;
    b.victim = &a;
    assert_int_equal(write(a.fds[1], "x", 1), 1);
    assert_int_equal(write(b.fds[1], "x", 1), 1);
    yk_loop_turn(*state, YK_NS_PER_S); /* both are ready: whichever comes first takes the other away */
    assert_int_equal(a.calls + b.calls, 1);
    pair_close(&a);
    pair_close(&b);
}

/* Ready, gone, and another watch in its slot before the loop looks at the event. */
static struct pair late;
static void on_ready_replace(struct yk_watch *w, uint32_t events) {
    struct pair *p = w->user;
    on_ready(w, events);
    if (late.loop == NULL)
        pair_open(&late, p->loop);
}

static void a_new_watch_in_an_old_slot_gets_no_old_event(void **state) {
    struct pair a, b;
    memset(&late, 0, sizeof(late));
    pair_open(&a, *state);
    pair_open(&b, *state);
    a.w.fn = b.w.fn = on_ready_replace;
    a.victim = &b;
    b.victim = &a;
    assert_int_equal(write(a.fds[1], "x", 1), 1);
    assert_int_equal(write(b.fds[1], "x", 1), 1);
    yk_loop_turn(*state, YK_NS_PER_S);
    assert_non_null(late.loop);
    assert_int_equal(late.calls, 0);
    pair_close(&late);
    pair_close(&a);
    pair_close(&b);
}

static void events_follow_what_is_asked_for(void **state) {
    struct pair a;
    pair_open(&a, *state);
    yk_loop_turn(*state, 0);
    assert_int_equal(a.calls, 0);
    yk_loop_rewatch(*state, &a.w, EPOLLIN | EPOLLOUT);
    yk_loop_turn(*state, 0);
    assert_int_equal(a.calls, 1);
    yk_loop_rewatch(*state, &a.w, 0);
    assert_int_equal(write(a.fds[1], "x", 1), 1);
    yk_loop_turn(*state, 0);
    assert_int_equal(a.calls, 1);
    pair_close(&a);
}

/* ---- wake-ups ------------------------------------------------------------------------------------- */

#define WAKES 20000u

struct waker {
    struct yk_loop *loop;
    uint32_t posted, seen; /* atomic */
};

static void *wake_main(void *arg) {
    struct waker *w = arg;
    for (uint32_t i = 0; i < WAKES; i++) {
        __atomic_fetch_add(&w->posted, 1, __ATOMIC_SEQ_CST);
        yk_loop_wake(w->loop);
        if (i % 16 == 0) /* let it fall asleep: a wake-up that got lost would then stop both */
            while (__atomic_load_n(&w->seen, __ATOMIC_SEQ_CST) <= i)
                sched_yield();
    }
    return NULL;
}

static void no_wake_up_is_lost(void **state) {
    struct waker w = {.loop = *state};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, wake_main, &w), 0);
    while (w.seen < WAKES) {
        yk_loop_turn(*state, 20 * YK_NS_PER_S); /* a lost one would be seen as a test that hangs */
        __atomic_store_n(&w.seen, __atomic_load_n(&w.posted, __ATOMIC_SEQ_CST), __ATOMIC_SEQ_CST);
    }
    pthread_join(thread, NULL);
    assert_int_equal(w.posted, WAKES);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(timers_fire_in_order_each_once, open_loop, close_loop),
        cmocka_unit_test_setup_teardown(a_timer_may_be_set_from_its_own_call, open_loop, close_loop),
        cmocka_unit_test_setup_teardown(a_sleep_ends_at_the_first_timer, open_loop, close_loop),
        cmocka_unit_test_setup_teardown(a_watch_that_goes_gets_no_event_that_was_ready, open_loop,
                                        close_loop),
        cmocka_unit_test_setup_teardown(a_new_watch_in_an_old_slot_gets_no_old_event, open_loop,
                                        close_loop),
        cmocka_unit_test_setup_teardown(events_follow_what_is_asked_for, open_loop, close_loop),
        cmocka_unit_test_setup_teardown(no_wake_up_is_lost, open_loop, close_loop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
