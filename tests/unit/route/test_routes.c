/* SPDX-License-Identifier: Apache-2.0
 *
 * The router by its public calls: names, reports, who has what from where, decisions and outcomes, limits, threads.
 */
#include <yolk/route.h>

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const uint64_t chain[] = {11, 12, 13, 14, 15, 16, 17, 18, 19, 20};

static yk_routes *make(const yk_route_opts *opts) {
    yk_routes *r;
    if (yk_route_open(opts, &r) != 0)
        fail_msg("%s", yk_route_error_text());
    return r;
}

static void report(yk_routes *r, const char *name, uint32_t waiting, uint64_t tokens) {
    yk_route_load_report p = {.size = sizeof(p), .name = name, .waiting = waiting, .waiting_tokens = tokens};
    assert_int_equal(yk_route_load(r, &p), 0);
}

static yk_route_request request_of(uint32_t flags) {
    return (yk_route_request){.size = sizeof(yk_route_request), .flags = flags, .tokens = 5200, .block_tokens = 512,
                              .blocks = 10, .chain = chain};
}

static yk_route_answer ask(yk_routes *r, const yk_route_request *q, yk_route_choice choices[8]) {
    yk_route_answer a;
    if (yk_route_ask(r, q, choices, 8, &a) != 0)
        fail_msg("%s", yk_route_error_text());
    return a;
}

static void nobody_is_there(void **state) {
    yk_routes *r = make(NULL);
    yk_route_request q = request_of(YK_ROUTE_TAKE);
    yk_route_choice c[8];
    yk_route_answer a = ask(r, &q, c);
    assert_int_equal(a.verdict, YK_ROUTE_NOBODY);
    assert_int_equal(a.ranked, 0);
    assert_int_equal(a.decision, 0);
    yk_route_close(r);
    yk_route_close(NULL);
}

static void who_has_the_chain_is_first(void **state) {
    yk_routes *r = make(NULL);
    yk_route_request q = request_of(0);
    yk_route_choice c[8];
    report(r, "a", 0, 0);
    report(r, "b", 0, 0);
    report(r, "c", 0, 0);
    assert_int_equal(yk_route_stored(r, "b", YK_ROUTE_VRAM, chain, 7), 0);
    assert_int_equal(yk_route_stored(r, "c", YK_ROUTE_VRAM, chain, 3), 0);
    yk_route_answer a = ask(r, &q, c);
    assert_int_equal(a.verdict, YK_ROUTE_ADMIT);
    assert_int_equal(a.ranked, 3);
    assert_string_equal(c[0].name, "b");
    assert_int_equal(c[0].vram, 7);
    assert_int_equal(c[0].new_tokens, 5200 - 7 * 512);
    assert_string_equal(c[1].name, "c");
    assert_int_equal(yk_route_removed(r, "b", YK_ROUTE_VRAM, chain + 1, 1), 0);
    ask(r, &q, c);
    assert_string_equal(c[0].name, "c");
    assert_int_equal(yk_route_cleared(r, "c"), 0);
    assert_int_equal(yk_route_cleared(r, "nobody"), YK_MISS);
    ask(r, &q, c);
    assert_string_equal(c[0].name, "b");
    assert_int_equal(c[0].vram, 1);
    yk_route_close(r);
}

/* Its own memory, that of the node of its host, and a peer's over the network. */
static void blocks_come_from_node_and_peers(void **state) {
    yk_routes *r = make(NULL);
    yk_route_request q = request_of(0);
    yk_route_choice c[8];
    yk_route_load_report one = {.size = sizeof(one), .name = "one", .zone = "x", .node = "n1"},
                         two = {.size = sizeof(two), .name = "two", .zone = "x", .node = "n2"},
                         far = {.size = sizeof(far), .name = "far", .zone = "y", .far_bytes_per_s = 1e6};
    yk_route_held held[] = {{"n1", {0, 10, 10}}, {"one", {4, 0, 0}}, {"n2", {0, 0, 6}}};
    assert_int_equal(yk_route_load(r, &one), 0);
    assert_int_equal(yk_route_load(r, &two), 0);
    assert_int_equal(yk_route_load(r, &far), 0);
    q.held = held;
    q.n_held = 3;
    yk_route_answer a = ask(r, &q, c);
    assert_int_equal(a.ranked, 3); /* n1 and n2 serve nothing */
    assert_string_equal(c[0].name, "one");
    assert_int_equal(c[0].vram, 4);
    assert_int_equal(c[0].dram, 6);
    assert_string_equal(c[0].peer_name, "");
    assert_string_equal(c[1].name, "two");
    assert_int_equal(c[1].ssd + c[1].peer, 10);
    assert_string_equal(c[1].peer_name, "n1");
    assert_string_equal(c[2].name, "far");
    assert_int_equal(c[2].peer, 0); /* a megabyte a second */
    assert_int_equal(c[2].compute_blocks, 10);
    yk_route_close(r);
}

/* It may become known after its engine, be another one's, and go. */
static void an_engines_node_comes_changes_and_goes(void **state) {
    yk_routes *r = make(NULL);
    yk_route_request q = request_of(0);
    yk_route_choice c[8];
    yk_route_load_report p = {.size = sizeof(p), .name = "one", .node = "n1"};
    assert_int_equal(yk_route_load(r, &p), 0);
    ask(r, &q, c);
    assert_int_equal(c[0].dram, 0);
    assert_int_equal(yk_route_stored(r, "n1", YK_ROUTE_DRAM, chain, 6), 0);
    assert_int_equal(yk_route_stored(r, "n2", YK_ROUTE_DRAM, chain, 9), 0);
    p.node = NULL; /* as before */
    assert_int_equal(yk_route_load(r, &p), 0);
    ask(r, &q, c);
    assert_int_equal(c[0].dram, 6);
    p.node = "n2";
    assert_int_equal(yk_route_load(r, &p), 0);
    ask(r, &q, c);
    assert_int_equal(c[0].dram, 9);
    assert_int_equal(yk_route_gone(r, "n2"), 0);
    assert_int_equal(yk_route_stored(r, "x", YK_ROUTE_DRAM, chain, 9), 0); /* in its place */
    ask(r, &q, c);
    assert_int_equal(c[0].dram, 0);
    assert_int_equal(yk_route_stored(r, "n2", YK_ROUTE_DRAM, chain, 4), 0);
    ask(r, &q, c);
    assert_int_equal(c[0].dram, 4);
    yk_route_close(r);
}

/* What is no number is not known: no reason to fetch less. */
static void a_load_that_is_no_number_is_none(void **state) {
    yk_routes *r = make(NULL);
    yk_route_request q = request_of(0);
    yk_route_held held = {"store", {0, 10, 10}};
    yk_route_choice c[8];
    yk_route_load_report p = {.size = sizeof(p), .name = "one", .peer_bytes_per_s = 2e10},
                         store = {.size = sizeof(store), .name = "store", .flags = YK_ROUTE_STORE};
    double ms[2];
    q.held = &held;
    q.n_held = 1;
    assert_int_equal(yk_route_load(r, &store), 0);
    for (int i = 0; i < 2; i++, p.network_load = NAN) {
        assert_int_equal(yk_route_load(r, &p), 0);
        ask(r, &q, c);
        ms[i] = c[0].ttft_ms;
    }
    assert_true(c[0].peer == 10 && ms[0] == ms[1]);
    yk_route_close(r);
}

/* Engines share nothing unless they say so. */
static void private_caches_are_not_fetched_from(void **state) {
    yk_routes *r = make(NULL);
    yk_route_request q = request_of(0);
    yk_route_choice c[8];
    yk_route_load_report a = {.size = sizeof(a), .name = "a", .waiting = 100, .waiting_tokens = 1000000};
    assert_int_equal(yk_route_load(r, &a), 0);
    report(r, "b", 0, 0);
    yk_route_stored(r, "a", YK_ROUTE_VRAM, chain, 10);
    yk_route_stored(r, "b", YK_ROUTE_VRAM, chain, 0);
    ask(r, &q, c);
    assert_string_equal(c[0].name, "b");
    assert_int_equal(c[0].peer, 0);
    a.flags = YK_ROUTE_SHARES;
    assert_int_equal(yk_route_load(r, &a), 0);
    ask(r, &q, c);
    assert_int_equal(c[0].peer, 10);
    assert_string_equal(c[0].peer_name, "a");
    yk_route_close(r);
}

/* Nobody says what they have: who was given a chain is taken to have it. */
static void what_was_given_is_assumed(void **state) {
    yk_routes *r = make(NULL);
    yk_route_request q = request_of(YK_ROUTE_TAKE);
    yk_route_result done = {.size = sizeof(done), .queue_ms = 0, .transfer_ms = -1, .compute_ms = 400, .ttft_ms = 400};
    yk_route_choice c[8];
    char first[YK_ROUTE_NAME_MAX + 1];
    report(r, "a", 0, 0);
    report(r, "b", 0, 0);
    yk_route_answer a = ask(r, &q, c);
    assert_int_not_equal(a.decision, 0);
    memcpy(first, c[0].name, sizeof(first));
    assert_int_equal(yk_route_outcome(r, a.decision, &done), 0);
    assert_int_equal(yk_route_outcome(r, a.decision, &done), YK_MISS);
    a = ask(r, &q, c);
    assert_string_equal(c[0].name, first);
    assert_int_equal(c[0].vram, 10);
    assert_int_equal(yk_route_drop(r, a.decision), 0);
    assert_int_equal(yk_route_drop(r, a.decision), YK_MISS);
    assert_int_equal(yk_route_stored(r, first, YK_ROUTE_VRAM, chain, 2), 0); /* now it says so */
    ask(r, &q, c);
    for (int i = 0; i < 2; i++)
        if (strcmp(c[i].name, first) == 0)
            assert_int_equal(c[i].vram, 2);
    yk_route_close(r);
}

/* Both tell what they have, and the first has not yet computed what it was given. */
static void what_is_being_computed_counts_as_there(void **state) {
    yk_routes *r = make(NULL);
    yk_route_request q = request_of(YK_ROUTE_TAKE);
    yk_route_choice c[8];
    char first[YK_ROUTE_NAME_MAX + 1];
    report(r, "a", 0, 0);
    report(r, "b", 0, 0);
    yk_route_stored(r, "a", YK_ROUTE_VRAM, chain + 9, 1);
    yk_route_stored(r, "b", YK_ROUTE_VRAM, chain + 9, 1);
    uint64_t decision = ask(r, &q, c).decision;
    memcpy(first, c[0].name, sizeof(first));
    q.flags = 0;
    ask(r, &q, c);
    for (int i = 0; i < 2; i++) {
        bool same = strcmp(c[i].name, first) == 0;
        assert_int_equal(c[i].vram, same ? 10 : 0);
        assert_int_equal(c[i].in_flight, same);
    }
    assert_int_equal(yk_route_drop(r, decision), 0);
    ask(r, &q, c);
    assert_int_equal(c[0].vram + c[1].vram, 0);
    q.flags = YK_ROUTE_TAKE;
    ask(r, &q, c);
    assert_int_equal(yk_route_gone(r, c[0].name), 0);
    q.flags = 0;
    assert_int_equal(ask(r, &q, c).ranked, 1);
    assert_int_equal(c[0].vram, 0);
    yk_route_close(r);
}

static void targets_objective_and_refusal(void **state) {
    yk_routes *r = make(NULL);
    yk_route_request q = request_of(YK_ROUTE_TAKE);
    const char *const only[] = {"b", "unheard of"};
    yk_route_load_report full = {.size = sizeof(full), .name = "b", .flags = YK_ROUTE_REFUSES};
    yk_route_choice c[8];
    report(r, "a", 0, 0);
    report(r, "b", 3, 40000);
    q.targets = only;
    q.n_targets = 2;
    yk_route_answer a = ask(r, &q, c);
    assert_int_equal(a.ranked, 1);
    assert_string_equal(c[0].name, "b");
    q.objective_ms = c[0].worse_ms - c[0].queue_ms / 2;
    a = ask(r, &q, c);
    assert_int_equal(a.verdict, YK_ROUTE_REJECT);
    assert_int_equal(a.decision, 0);
    assert_true(a.wait_ms > 0 && a.wait_ms <= c[0].queue_ms);
    q.objective_ms = 0;
    assert_int_equal(yk_route_load(r, &full), 0);
    a = ask(r, &q, c);
    assert_int_equal(a.verdict, YK_ROUTE_NOBODY);
    yk_route_close(r);
}

static void names_and_limits(void **state) {
    yk_route_opts opts = {.size = sizeof(opts), .instances_max = 4, .blocks_max = 100, .forget_ms = 1};
    yk_routes *r = make(&opts);
    char name[80], *json;
    yk_route_load_report p = {.size = sizeof(p)};
    memset(name, 'x', sizeof(name));
    name[64] = '\0';
    const char *wrong[] = {NULL, "", "a\nb", name};
    for (size_t i = 0; i < 4; i++) {
        p.name = wrong[i];
        assert_int_equal(yk_route_load(r, &p), -YK_EINVAL);
        assert_true(yk_route_error_text()[0] != '\0');
    }
    for (size_t i = 2; i < 4; i++) {
        yk_route_load_report zone = {.size = sizeof(zone), .name = "a", .zone = wrong[i]},
                             node = {.size = sizeof(node), .name = "a", .node = wrong[i]};
        assert_int_equal(yk_route_load(r, &zone), -YK_EINVAL);
        assert_int_equal(yk_route_load(r, &node), -YK_EINVAL);
    }
    assert_int_equal(yk_route_stored(r, "a", 3, chain, 1), -YK_EINVAL);
    assert_int_equal(yk_route_gone(r, "a"), YK_MISS);
    for (int i = 0; i < 100; i++) { /* those before are forgotten after a millisecond */
        snprintf(name, sizeof(name), "%d", i);
        usleep(2000);
        report(r, name, 0, 0);
    }
    assert_int_equal(yk_route_json(r, &json), 0);
    assert_non_null(strstr(json, "\"99\""));
    assert_null(strstr(json, "\"1\""));
    free(json);
    yk_route_close(r);
    opts.forget_ms = 0;
    r = make(&opts);
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof(name), "%d", i);
        report(r, name, 0, 0);
    }
    p.name = "fifth";
    assert_int_equal(yk_route_load(r, &p), -YK_ELIMIT);
    assert_int_equal(yk_route_gone(r, "2"), 0);
    assert_int_equal(yk_route_load(r, &p), 0);
    yk_route_close(r);
}

/* What is no address is refused, and what was subscribed to before goes on. */
static void a_wrong_address_leaves_the_old_one(void **state) {
    yk_routes *r = make(NULL);
    char *json;
    int rc = yk_route_events(r, "e", "tcp://127.0.0.1:9", NULL, NULL);
    if (rc == -YK_ENOTSUP) {
        yk_route_close(r);
        skip();
    }
    assert_int_equal(rc, 0);
    assert_int_equal(yk_route_events(r, "e", "http://127.0.0.1:9", NULL, NULL), -YK_EINVAL);
    assert_int_equal(yk_route_events(r, "e", "tcp://127.0.0.1:10", "nowhere", NULL), -YK_EINVAL);
    char topic[65] = {0}; /* cut short it would be more topics */
    memset(topic, 'x', sizeof(topic) - 1);
    assert_int_equal(yk_route_events(r, "e", "tcp://127.0.0.1:10", NULL, topic), -YK_EINVAL);
    assert_int_equal(yk_route_json(r, &json), 0);
    assert_non_null(strstr(json, "\"tcp://127.0.0.1:9\""));
    free(json);
    assert_int_equal(yk_route_stored(r, "e", YK_ROUTE_VRAM, chain, 3), 0); /* of the old one */
    assert_int_equal(yk_route_events(r, "e", "tcp://127.0.0.1:10", NULL, NULL), 0);
    assert_int_equal(yk_route_json(r, &json), 0);
    assert_non_null(strstr(json, "\"tcp://127.0.0.1:10\""));
    assert_non_null(strstr(json, "{\"blocks\": 0,"));
    free(json);
    yk_route_close(r);
}

static void options_are_checked(void **state) {
    yk_route_opts opts = {.size = sizeof(opts), .model = "unheard of"};
    yk_routes *r;
    assert_int_equal(yk_route_open(&opts, &r), -YK_EINVAL);
    assert_non_null(strstr(yk_route_error_text(), "unheard of"));
    opts.model = "70b";
    opts.quantile = 7;
    assert_int_equal(yk_route_open(&opts, &r), -YK_EINVAL);
    opts.quantile = 0;
    opts.flops_per_s = NAN;
    assert_int_equal(yk_route_open(&opts, &r), -YK_EINVAL);
    opts.flops_per_s = 1e15;
    opts.instances_max = 1u << 20;
    assert_int_equal(yk_route_open(&opts, &r), -YK_EINVAL);
    opts.instances_max = 0;
    r = make(&opts);
    yk_route_close(r);
}

/* ---- threads ---- */

#define ROUNDS 2000

static void *ask_and_tell(void *arg) {
    yk_routes *r = arg;
    yk_route_choice c[8];
    yk_route_answer a;
    for (int i = 0; i < ROUNDS; i++) {
        yk_route_request q = request_of(YK_ROUTE_TAKE);
        yk_route_result done = {.size = sizeof(done), .queue_ms = 1, .transfer_ms = 0, .compute_ms = 5, .ttft_ms = -1};
        if (yk_route_ask(r, &q, c, 8, &a) == 0 && a.decision != 0)
            yk_route_outcome(r, a.decision, &done);
    }
    return NULL;
}

static void *report_and_go(void *arg) {
    yk_routes *r = arg;
    for (int i = 0; i < ROUNDS; i++) {
        char name[8], *json;
        snprintf(name, sizeof(name), "t%d", i % 5);
        yk_route_load_report p = {.size = sizeof(p), .name = name};
        yk_route_load(r, &p);
        yk_route_stored(r, name, (unsigned)i % 3, chain, 10);
        if (i % 7 == 0)
            yk_route_gone(r, name);
        if (i % 100 == 0 && yk_route_json(r, &json) == 0)
            free(json);
    }
    return NULL;
}

static void many_threads_at_once(void **state) {
    yk_routes *r = make(NULL);
    pthread_t threads[4];
    report(r, "a", 0, 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, i % 2 == 0 ? ask_and_tell : report_and_go, r), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    yk_route_close(r);
}

/* ---- bounds ---- */

static yk_route_figures figures(yk_routes *r) {
    yk_route_figures f = {.size = sizeof(f)};
    assert_int_equal(yk_route_figures_get(r, 60000, &f), 0);
    return f;
}

static void long_requests_are_refused(void **state) {
    yk_routes *r = make(NULL);
    yk_route_request q = request_of(0);
    yk_route_choice c[8];
    yk_route_answer a;
    static const char *names[YK_ROUTE_NAMES_MAX + 1];
    report(r, "e", 0, 0);
    q.blocks = YK_ROUTE_CHAIN_MAX + 1;
    assert_int_equal(yk_route_ask(r, &q, c, 8, &a), -YK_EINVAL);
    assert_non_null(strstr(yk_route_error_text(), "a chain of 65537 blocks, at most 65536 are taken"));
    q = request_of(0);
    q.targets = names;
    q.n_targets = YK_ROUTE_NAMES_MAX + 1;
    assert_int_equal(yk_route_ask(r, &q, c, 8, &a), -YK_EINVAL);
    assert_non_null(strstr(yk_route_error_text(), "4097 names, at most 4096 are taken"));
    yk_route_close(r);
}

struct teller {
    yk_routes *r;
    uint64_t *blocks;
    uint32_t n;
    int tells, ends; /* atomic */
};

static void *tell_much(void *arg) {
    struct teller *t = arg;
    while (!__atomic_load_n(&t->ends, __ATOMIC_ACQUIRE)) {
        yk_route_stored(t->r, "much", YK_ROUTE_VRAM, t->blocks, t->n);
        yk_route_cleared(t->r, "much");
        __atomic_add_fetch(&t->tells, 1, __ATOMIC_RELEASE);
    }
    return NULL;
}

/* Several requests are answered while one call tells of many blocks, and forgets them. */
static void what_is_told_at_length_holds_up_nobody(void **state) {
    enum { N = 400000 };
    struct teller t = {.r = make(NULL), .n = N, .blocks = calloc(N, sizeof(uint64_t))};
    yk_route_request q = request_of(0);
    yk_route_choice c[8];
    pthread_t thread;
    uint32_t most = 0, now = 0;
    int seen = 0;
    for (uint64_t i = 0; i < N; i++)
        t.blocks[i] = i * 7919 + 1000;
    report(t.r, "e", 0, 0);
    assert_int_equal(pthread_create(&thread, NULL, tell_much, &t), 0);
    while (most < 3) {
        ask(t.r, &q, c);
        int tells = __atomic_load_n(&t.tells, __ATOMIC_ACQUIRE);
        now = tells == seen ? now + 1 : 0;
        seen = tells;
        most = now > most ? now : most;
    }
    __atomic_store_n(&t.ends, 1, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    yk_route_close(t.r);
    free(t.blocks);
}

/* One that leaves with much goes as a whole, and its name is another's at once. */
static void who_leaves_with_much_is_gone(void **state) {
    enum { N = 100000 };
    yk_routes *r = make(NULL);
    yk_route_request q = request_of(0);
    yk_route_choice c[8];
    uint64_t *blocks = calloc(N, sizeof(*blocks));
    memcpy(blocks, chain, sizeof(chain));
    for (uint64_t i = 10; i < N; i++)
        blocks[i] = i + 1000;
    report(r, "e", 0, 0);
    assert_int_equal(yk_route_stored(r, "e", YK_ROUTE_VRAM, blocks, N), 0);
    ask(r, &q, c);
    assert_int_equal(c[0].vram, 10);
    assert_int_equal(yk_route_gone(r, "e"), 0);
    assert_int_equal(ask(r, &q, c).verdict, YK_ROUTE_NOBODY);
    report(r, "e", 0, 0);
    ask(r, &q, c);
    assert_int_equal(c[0].vram, 0);
    free(blocks);
    yk_route_close(r);
}

/* A request that tells of one for whom there is no place is answered by what else is known. */
static void a_full_table_refuses_no_request(void **state) {
    yk_route_opts opts = {.size = sizeof(opts), .instances_max = 1};
    yk_route_held held[] = {{"stranger", {0, 10, 10}}, {"another", {0, 10, 10}}, {"e", {4, 4, 4}}};
    yk_routes *r = make(&opts);
    yk_route_request q = request_of(0);
    yk_route_choice c[8];
    report(r, "e", 0, 0);
    q.held = held;
    q.n_held = 3;
    assert_int_equal(ask(r, &q, c).ranked, 1);
    assert_int_equal(c[0].vram, 4);
    held[1].name = "";
    yk_route_answer a;
    assert_int_equal(yk_route_ask(r, &q, c, 8, &a), -YK_EINVAL);
    yk_route_close(r);
}

/* An old one with much goes piece by piece: who comes meanwhile gets another number if there is one, and each report
 * takes a piece, so that what it had does not stay. */
static void one_that_goes_keeps_nobody_out(void **state) {
    enum { N = 200000, FORGET_MS = 500 };
    yk_route_opts opts = {.size = sizeof(opts), .instances_max = 3, .forget_ms = FORGET_MS};
    yk_routes *r = make(&opts);
    uint64_t *blocks = calloc(N, sizeof(*blocks));
    for (uint64_t i = 0; i < N; i++)
        blocks[i] = i + 1000;
    assert_int_equal(yk_route_stored(r, "old", YK_ROUTE_VRAM, blocks, N), 0);
    usleep((FORGET_MS + 10) * 1000); /* what it waits for is that time passes */
    assert_int_equal(yk_route_stored(r, "b", YK_ROUTE_VRAM, chain, 10), 0);
    assert_int_equal(yk_route_stored(r, "c", YK_ROUTE_VRAM, chain, 10), 0);
    assert_int_equal(yk_route_gone(r, "c"), 0);
    assert_int_equal(yk_route_stored(r, "new", YK_ROUTE_VRAM, chain, 10), 0);
    for (int i = 0; i < N / 1000; i++)
        report(r, "b", 0, 0);
    assert_true(figures(r).blocks <= 20);
    free(blocks);
    yk_route_close(r);
}

/* Most of the chain is far away; a part of it is in its own zone, and that is worth fetching. */
static void a_near_peer_is_found(void **state) {
    static const char *const zones[] = {"a", "b", "b", "c"}, *const names[] = {"a1", "b1", "b2", "c1"};
    static const uint32_t has[] = {10, 6, 0, 3};
    yk_routes *r = make(NULL);
    yk_route_request q = request_of(0);
    yk_route_choice c[8];
    for (int i = 0; i < 4; i++) {
        yk_route_load_report p = {.size = sizeof(p), .flags = YK_ROUTE_SHARES, .name = names[i], .zone = zones[i],
                                  .far_bytes_per_s = 1e6};
        assert_int_equal(yk_route_load(r, &p), 0);
        assert_int_equal(yk_route_stored(r, names[i], YK_ROUTE_DRAM, chain, has[i]), 0);
    }
    const char *only[] = {"b2"};
    q.targets = only;
    q.n_targets = 1;
    ask(r, &q, c);
    assert_int_equal(c[0].peer, 6);
    assert_string_equal(c[0].peer_name, "b1");
    only[0] = "c1"; /* alone in its zone */
    ask(r, &q, c);
    assert_int_equal(c[0].peer, 0);
    assert_int_equal(c[0].dram, 3);
    yk_route_close(r);
}

/* ---- what nodes measure ---- */

static double transfer_ms(yk_routes *r, const yk_route_held *held, size_t n) {
    const char *only[] = {"one"};
    yk_route_request q = request_of(0);
    yk_route_choice c[8];
    q.block_bytes = 1000000;
    q.held = held;
    q.n_held = n;
    q.targets = only;
    q.n_targets = 1;
    assert_int_equal(ask(r, &q, c).ranked, 1);
    assert_int_equal(c[0].compute_blocks, 0);
    return c[0].transfer_ms;
}

/* What comes from another's SSD comes no faster than that reads, over a link that nobody has measured yet, too. */
static void a_link_that_is_not_known_is_no_faster_than_the_ssd(void **state) {
    yk_routes *r = make(NULL);
    yk_route_load_report one = {.size = sizeof(one), .name = "one", .node = "n1"};
    yk_route_node_report n2 = {.size = sizeof(n2), .name = "n2", .ssd_bytes_per_s = 5e8, .ssd_latency_ms = 3};
    yk_route_held low[] = {{"n2", {0, 0, 10}}};
    assert_int_equal(yk_route_load(r, &one), 0);
    assert_int_equal(yk_route_node(r, &n2), 0);
    assert_float_equal(transfer_ms(r, low, 1), 23, 0.01);
    n2.ssd_bytes_per_s = 8e9; /* nor faster than the link is taken to be */
    assert_int_equal(yk_route_node(r, &n2), 0);
    assert_float_equal(transfer_ms(r, low, 1), 8, 0.01);
    yk_route_close(r);
}

static void transfers_go_by_what_nodes_measure(void **state) {
    yk_routes *r = make(NULL);
    yk_route_load_report one = {.size = sizeof(one), .name = "one", .node = "n1"},
                         two = {.size = sizeof(two), .name = "two", .node = "n2"};
    yk_route_node_report n1 = {.size = sizeof(n1), .name = "n1", .zone = "a", .near_bytes_per_s = 1e9, .far_bytes_per_s = 2e8,
                               .ssd_bytes_per_s = 5e8, .ssd_latency_ms = 4},
                         n2 = {.size = sizeof(n2), .name = "n2", .zone = "a"};
    yk_route_held there[] = {{"n2", {0, 10, 10}}}, here[] = {{"n1", {0, 0, 10}}}, low[] = {{"n2", {0, 0, 10}}};
    assert_int_equal(yk_route_load(r, &one), 0);
    assert_int_equal(yk_route_load(r, &two), 0);
    assert_float_equal(transfer_ms(r, there, 1), 5, 0.01); /* 10 MB at 2 GB/s, as nothing is known */
    assert_int_equal(yk_route_node(r, &n1), 0);
    assert_int_equal(yk_route_node(r, &n2), 0);
    assert_float_equal(transfer_ms(r, there, 1), 10, 0.01);
    assert_float_equal(transfer_ms(r, here, 1), 24, 0.01);
    n1.in_load = 0.5;
    assert_int_equal(yk_route_node(r, &n1), 0);
    assert_float_equal(transfer_ms(r, there, 1), 20, 0.01);
    n2.out_load = 0.75;
    n2.ssd_latency_ms = 3;
    assert_int_equal(yk_route_node(r, &n2), 0);
    assert_float_equal(transfer_ms(r, there, 1), 40, 0.01); /* the busier end */
    assert_float_equal(transfer_ms(r, low, 1), 43, 0.01);
    n2.zone = "b";
    n2.out_load = NAN;
    assert_int_equal(yk_route_node(r, &n2), 0);
    assert_float_equal(transfer_ms(r, there, 1), 100, 0.01); /* far */
    one.far_bytes_per_s = 4e8;
    assert_int_equal(yk_route_load(r, &one), 0);
    assert_float_equal(transfer_ms(r, there, 1), 50, 0.01); /* what the engine says itself comes first */
    yk_route_figures f = {.size = sizeof(f)};
    assert_int_equal(yk_route_figures_get(r, 60000, &f), 0);
    assert_int_equal(f.nodes, 2);
    assert_int_equal(f.instances, 2);
    n2.name = "";
    assert_int_equal(yk_route_node(r, &n2), -YK_EINVAL);
    yk_route_close(r);
}

/* ---- figures ---- */

static void what_it_did_is_counted(void **state) {
    yk_routes *r = make(NULL);
    yk_route_request q = request_of(YK_ROUTE_TAKE);
    yk_route_choice c[8];
    ask(r, &q, c);
    assert_int_equal(figures(r).unknown, 1);
    report(r, "e", 0, 0);
    yk_route_load_report full = {.size = sizeof(full), .name = "full", .flags = YK_ROUTE_REFUSES};
    assert_int_equal(yk_route_load(r, &full), 0);
    assert_int_equal(yk_route_stored(r, "store", YK_ROUTE_DRAM, chain, 10), 0);
    yk_route_answer a = ask(r, &q, c), b = ask(r, &q, c);
    yk_route_result done = {.size = sizeof(done), .queue_ms = c[0].queue_ms * 2, .transfer_ms = -1,
                            .compute_ms = c[0].compute_ms / 2, .ttft_ms = c[0].ttft_ms};
    assert_int_equal(yk_route_outcome(r, b.decision, &done), 0);
    assert_int_equal(yk_route_outcome(r, b.decision, &done), YK_MISS);
    assert_int_equal(yk_route_drop(r, a.decision), 0);
    q.objective_ms = 1e-3;
    assert_int_equal(ask(r, &q, c).verdict, YK_ROUTE_REJECT);
    const char *only[] = {"full"};
    q.targets = only;
    q.n_targets = 1;
    assert_int_equal(ask(r, &q, c).verdict, YK_ROUTE_NOBODY);
    yk_route_figures f = figures(r);
    assert_int_equal(f.instances, 2);
    assert_int_equal(f.others, 1);
    assert_int_equal(f.silent, 0);
    assert_int_equal(f.blocks, 10 + 10); /* what e was given is assumed */
    assert_int_equal(f.asked, 5);
    assert_int_equal(f.admitted, 2);
    assert_int_equal(f.late_work + f.late_queue, 1);
    assert_int_equal(f.refused, 1);
    assert_int_equal(f.taken, 2);
    assert_int_equal(f.outcomes, 1);
    assert_int_equal(f.strays, 1);
    assert_int_equal(f.dropped, 1);
    assert_int_equal(f.open, 0);
    assert_int_equal(f.queue.outcomes, 1);
    assert_float_equal(f.queue.mean, 0.5, 0.01);
    assert_int_equal(f.transfer.outcomes, 0);
    assert_float_equal(f.compute.p90, 1, 0.01);
    assert_float_equal(f.ttft.mean, 0, 0.01);
    yk_route_close(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_is_there),
        cmocka_unit_test(who_has_the_chain_is_first),
        cmocka_unit_test(blocks_come_from_node_and_peers),
        cmocka_unit_test(an_engines_node_comes_changes_and_goes),
        cmocka_unit_test(a_load_that_is_no_number_is_none),
        cmocka_unit_test(private_caches_are_not_fetched_from),
        cmocka_unit_test(what_was_given_is_assumed),
        cmocka_unit_test(what_is_being_computed_counts_as_there),
        cmocka_unit_test(targets_objective_and_refusal),
        cmocka_unit_test(names_and_limits),
        cmocka_unit_test(a_wrong_address_leaves_the_old_one),
        cmocka_unit_test(options_are_checked),
        cmocka_unit_test(many_threads_at_once),
        cmocka_unit_test(long_requests_are_refused),
        cmocka_unit_test(what_is_told_at_length_holds_up_nobody),
        cmocka_unit_test(who_leaves_with_much_is_gone),
        cmocka_unit_test(a_full_table_refuses_no_request),
        cmocka_unit_test(one_that_goes_keeps_nobody_out),
        cmocka_unit_test(a_near_peer_is_found),
        cmocka_unit_test(a_link_that_is_not_known_is_no_faster_than_the_ssd),
        cmocka_unit_test(transfers_go_by_what_nodes_measure),
        cmocka_unit_test(what_it_did_is_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
