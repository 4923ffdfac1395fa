/* SPDX-License-Identifier: Apache-2.0
 *
 * Copies that are wanted (docs/decisions/0017), over whole nodes in one process (service_rig.h): what a put says is
 * true, copies are on nodes and in zones of their own, what lost one gets another, and nothing that was removed comes
 * back by a copy.
 */
#include "service_rig.h"

#include "base/clock.h"
#include "dir/guest.h"
#include "node/pool.h"
#include "wire/dir.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define KIB      1024u
#define UNTIL_MS 30000u

static int put(unsigned i, const char *key, size_t len, uint32_t replicas, const char *prefer) {
    unsigned char *p = rig_payload(key, len);
    yk_put_opts o = {.size = sizeof(o), .replicas = replicas, .prefer = prefer};
    int rc = yk_put(rig.n[i].client, yk_key_str(key), p, len, &o);
    if (rc < 0)
        fail_msg("put %s on node %u: %s", key, i, yk_error_text(rig.n[i].client));
    free(p);
    return rc;
}

/* A node that is slow to answer is passed by, and the put says so: then the copies are asked for again. */
static unsigned asked, had_at_once;

static void put_all(unsigned i, const char *key, size_t len, uint32_t replicas, const char *prefer) {
    uint64_t until = 0;
    int rc = put(i, key, len, replicas, prefer);
    asked++;
    had_at_once += rc == 0;
    while (rc == YK_FEWER && rig_patience(&until))
        rc = put(i, key, len, replicas, prefer);
    assert_int_equal(rc, 0);
}

/* Nodes of a busy machine are slow now and then: not mostly. */
static void most_puts_had_their_copies_at_once(void **state) {
    (void)state;
    assert_true(asked > 20 && had_at_once > asked / 2u);
}

static uint64_t epoch_of(unsigned i) {
    yk_ns_info info[4];
    int n = yk_ns_list(rig.n[i].client, info, 4);
    for (int k = 0; k < n; k++)
        if (strcmp(info[k].name, "default") == 0)
            return info[k].epoch;
    return 0;
}

/* What node i has of the key, as it is told (yk_dir_told); 0: nothing. */
static unsigned has(unsigned i, const char *key) {
    unsigned char body[300];
    struct yk_dirw_keys ask = {.ns = {"default", 7}, .epoch = epoch_of(i), .n = 1};
    struct yk_dirw_have have;
    struct yk_guest *guest;
    const void *reply;
    uint32_t len;
    struct yk_err err;
    struct yk_wr w;
    struct yk_rd r;
    yk_wr_init(&w, body, sizeof(body));
    yk_wr_dir_keys(&w, &ask);
    yk_wr_str8(&w, key, (uint32_t)strlen(key));
    assert_int_equal(yk_guest_open(yk_dir_address(rig.n[i].dir), UNTIL_MS, &guest, &err), 0);
    assert_int_equal(yk_guest_ask(guest, YK_DIR_HAVE, body, (uint32_t)yk_wr_len(&w), UNTIL_MS, &reply, &len, &err), 0);
    yk_rd_init(&r, reply, len);
    assert_int_equal(yk_rd_u32(&r), 1);
    yk_rd_dir_have(&r, &have);
    assert_true(yk_rd_ok(&r));
    yk_guest_close(guest);
    return have.status == 0 ? have.tiers : 0;
}

/* A figure of a node; figures are as old as a second. */
enum figure { TAKEN, HELD, PULLED };

static uint64_t figure(unsigned i, enum figure f) {
    struct yk_dir_stats st = rig_stats(&rig, i);
    return f == TAKEN ? st.taken : f == HELD ? st.core.held : st.pulled;
}

/* It may be asked for a copy once more than is needed, by an owner that has not heard of it yet. */
static int is_so(unsigned i, enum figure f, uint64_t n) {
    return f == TAKEN ? figure(i, f) >= n : figure(i, f) == n;
}

/* A reply has no end of its own. */
static char *text_of(const void *reply, uint32_t len) {
    char *text = calloc(1, len + 1u);
    assert_non_null(text);
    return memcpy(text, reply, len);
}

static void until(unsigned i, enum figure f, uint64_t n) {
    uint64_t end = yk_now_ns() + UNTIL_MS * YK_NS_PER_MS;
    struct timespec pause = {.tv_nsec = 5000000};
    while (!is_so(i, f, n) && yk_now_ns() < end)
        nanosleep(&pause, NULL);
    if (!is_so(i, f, n))
        assert_int_equal(figure(i, f), n);
}

static void a_copy_is_on_another_node_when_the_put_says_so(void **state) {
    (void)state;
    char key[16];
    rig_start_all(&rig, 3);
    for (unsigned k = 0; k < 10; k++) {
        snprintf(key, sizeof(key), "k%u", k);
        put_all(0, key, 100 * KIB + k, 2, NULL);
    }
    rig_stop(&rig, 0); /* and its memory with it */
    for (unsigned k = 0; k < 10; k++) {
        snprintf(key, sizeof(key), "k%u", k);
        rig_until_exists(&rig, 1, key, 1);
        rig_until_got(&rig, 1, key, 100 * KIB + k);
        rig_until_got(&rig, 2, key, 100 * KIB + k);
    }
}

static void three_copies_are_on_three_nodes(void **state) {
    (void)state;
    rig_start_all(&rig, 4);
    put_all(1, "three", 5 * KIB, 3, NULL);
    uint64_t end = yk_now_ns() + UNTIL_MS * YK_NS_PER_MS;
    uint32_t taken;
    do {
        taken = 0;
        for (unsigned i = 0; i < 4; i++)
            taken += (uint32_t)rig_stats(&rig, i).taken;
    } while (taken < 2 && yk_now_ns() < end);
    assert_in_range(taken, 2, 3); /* one that was slow to answer may have it besides */
    assert_int_equal(rig_stats(&rig, 1).taken, 0);
}

static void copies_go_to_other_zones_first(void **state) {
    (void)state;
    char key[16];
    rig.zone[0] = rig.zone[1] = "eu/a";
    rig.zone[2] = rig.zone[3] = "eu/b";
    rig_start_all(&rig, 4);
    for (unsigned k = 0; k < 16; k++) {
        snprintf(key, sizeof(key), "k%u", k);
        put_all(0, key, KIB, 2, NULL);
    }
    uint64_t end = yk_now_ns() + UNTIL_MS * YK_NS_PER_MS;
    while (figure(2, TAKEN) + figure(3, TAKEN) < 16 && yk_now_ns() < end)
        ;
    until(1, HELD, 0);
    assert_int_equal(rig_stats(&rig, 1).taken, 0);
    put_all(0, "all", KIB, 4, NULL); /* what is left is taken, too */
    until(1, HELD, 1);
}

static void fewer_nodes_than_copies_is_said(void **state) {
    (void)state;
    rig_start_all(&rig, 1);
    assert_int_equal(put(0, "a", KIB, 2, NULL), YK_FEWER);
    assert_int_equal(rig_get(&rig, 0, "a", KIB), 1);
    rig_start(&rig, 1);
    rig_until_members(&rig, 0, 2);
    assert_int_equal(put(0, "b", KIB, 3, NULL), YK_FEWER);
    until(1, HELD, 2); /* one copy of b; and a has got its second one, now that there is a node */
    rig_stop(&rig, 0);
    rig_until_got(&rig, 1, "a", KIB);
    rig_until_got(&rig, 1, "b", KIB);
}

static void more_copies_can_be_asked_for_later(void **state) {
    (void)state;
    rig_start_all(&rig, 2);
    put_all(0, "a", KIB, 0, NULL);
    put_all(0, "a", KIB, 2, NULL);
    until(1, TAKEN, 1);
    put_all(0, "a", KIB, 2, NULL); /* they are there: nothing is done */
    put_all(1, "a", KIB, 2, NULL);
    until(1, PULLED, 1);
    assert_int_equal(rig_stats(&rig, 0).taken, 0);
}

static void what_a_read_has_brought_is_kept(void **state) {
    (void)state;
    rig_start_all(&rig, 2);
    put_all(0, "a", 64 * KIB, 0, NULL);
    rig_until_got(&rig, 1, "a", 64 * KIB);
    put_all(0, "a", 64 * KIB, 2, NULL);
    until(1, PULLED, 1);
}

static void batches_have_copies(void **state) {
    (void)state;
    enum { N = 64 };
    static char names[N][16];
    static yk_op ops[N], *ended[N];
    yk_put_opts o = {.size = sizeof(o), .replicas = 2};
    struct iovec iov[N];
    rig_start_all(&rig, 3);
    for (unsigned k = 0; k < N; k++) {
        snprintf(names[k], sizeof(names[k]), "b%u", k);
        iov[k] = (struct iovec){rig_payload(names[k], 9 * KIB), 9 * KIB};
        ops[k] = (yk_op){.opcode = YK_OP_PUT, .key = yk_key_str(names[k]), .iov = &iov[k], .iov_count = 1, .put = &o};
    }
    assert_int_equal(yk_submit(rig.n[2].client, ops, N, 20000), 0);
    for (int n = 0; n < N;) {
        int more = yk_poll(rig.n[2].client, ended, N, 20000);
        assert_true(more > 0);
        n += more;
    }
    for (unsigned k = 0; k < N; k++) {
        free(iov[k].iov_base);
        if (ops[k].status == YK_FEWER)
            put_all(2, names[k], 9 * KIB, 2, NULL);
        else
            assert_int_equal(ops[k].status, 0);
    }
    rig_stop(&rig, 2);
    for (unsigned k = 0; k < N; k++) {
        rig_until_got(&rig, 0, names[k], 9 * KIB);
    }
}

/* Through the socket, and in place. */
static void every_way_to_put_has_copies(void **state) {
    (void)state;
    yk_open_opts open = {.size = sizeof(open), .flags = YK_OPEN_NO_MAP | YK_OPEN_NO_XFER, .timeout_ms = 20000};
    yk_put_opts o = {.size = sizeof(o), .replicas = 2, .prefer = "n1"};
    yk_reservation place;
    yk_client *far;
    char url[160];
    rig_start_all(&rig, 2);
    snprintf(url, sizeof(url), "unix:%s", rig.n[0].socket);
    assert_int_equal(yk_open(url, &open, &far), 0);
    unsigned char *p = rig_payload("socket", 70 * KIB);
    uint64_t until_ms = 0;
    int rc;
    while ((rc = yk_put(far, yk_key_str("socket"), p, 70 * KIB, &o)) == YK_FEWER && rig_patience(&until_ms))
        ;
    assert_int_equal(rc, 0);
    free(p);
    yk_close(far);
    assert_int_equal(yk_reserve(rig.n[0].client, 70 * KIB, 0, &place), 0);
    p = rig_payload("place", 70 * KIB);
    memcpy(place.data, p, 70 * KIB);
    free(p);
    rc = yk_commit(rig.n[0].client, &place, yk_key_str("place"), &o);
    if (rc == YK_FEWER)
        put_all(0, "place", 70 * KIB, 2, "n1");
    else
        assert_int_equal(rc, 0);
    rig_stop(&rig, 0);
    rig_until_got(&rig, 1, "socket", 70 * KIB);
    rig_until_got(&rig, 1, "place", 70 * KIB);
}

static uint32_t copies_by(unsigned i) {
    yk_ns_info info[4];
    int n = yk_ns_list(rig.n[i].client, info, 4);
    for (int k = 0; k < n; k++)
        if (strcmp(info[k].name, "default") == 0)
            return info[k].copies;
    return 0;
}

static void set_copies(unsigned from, unsigned nodes, uint32_t copies) {
    uint64_t until_ms = 0;
    assert_int_equal(yk_ns_set_copies(rig.n[from].client, "default", copies), 0);
    for (unsigned i = 0; i < nodes; i++)
        while (copies_by(i) != copies)
            assert_true(rig_patience(&until_ms));
}

static unsigned holders(unsigned nodes, const char *key) {
    unsigned n = 0;
    for (unsigned i = 0; i < nodes; i++)
        n += has(i, key) != 0;
    return n;
}

static void a_namespace_may_say_how_many_are_wanted(void **state) {
    (void)state;
    rig_start_all(&rig, 3);
    assert_int_equal(yk_ns_set_copies(rig.n[0].client, "default", YK_COPIES_MAX + 1), -YK_EINVAL);
    assert_int_equal(yk_ns_set_copies(rig.n[0].client, "nobody's", 2), -YK_ENONS);
    assert_int_equal(put(1, "had", 5 * KIB, 0, NULL), 0);
    assert_int_equal(holders(3, "had"), 1);
    set_copies(0, 3, 2);
    put_all(1, "had", 5 * KIB, 0, NULL); /* that it is here already says nothing of the other */
    assert_int_equal(holders(3, "had"), 2);
    put_all(1, "two", 5 * KIB, 0, NULL);
    assert_int_equal(holders(3, "two"), 2);
    assert_int_equal(put(1, "one", 5 * KIB, 1, NULL), 0); /* who names a number gets that */
    assert_int_equal(holders(3, "one"), 1);
    put_all(1, "three", 5 * KIB, 3, NULL);
    assert_int_equal(holders(3, "three"), 3);
    set_copies(2, 3, 4); /* more than there are nodes */
    assert_int_equal(put(1, "four", 5 * KIB, 0, NULL), YK_FEWER);
    set_copies(0, 3, 0);
    assert_int_equal(put(1, "last", 5 * KIB, 0, NULL), 0);
    assert_int_equal(holders(3, "last"), 1);
    rig_stop(&rig, 1); /* and its memory with it */
    rig_until_got(&rig, 0, "two", 5 * KIB);
}

static void a_namespace_that_others_have_not_opened_is_no_hindrance(void **state) {
    (void)state;
    yk_open_opts open = {.size = sizeof(open), .name_space = "alone", .timeout_ms = 20000};
    yk_put_opts o = {.size = sizeof(o), .replicas = 2};
    yk_client *client;
    char url[160];
    rig_start_all(&rig, 2);
    snprintf(url, sizeof(url), "unix:%s", rig.n[0].socket);
    assert_int_equal(yk_open(url, &open, &client), 0);
    uint64_t until_ms = 0;
    int rc;
    while ((rc = yk_put(client, yk_key_str("a"), "bytes", 5, &o)) == YK_FEWER && rig_patience(&until_ms))
        ;
    assert_int_equal(rc, 0);
    yk_close(client);
    until(1, TAKEN, 1);
}

static void a_preferred_node_has_the_block(void **state) {
    (void)state;
    rig_start_all(&rig, 3);
    put_all(0, "a", 30 * KIB, 0, "n2");
    until(2, TAKEN, 1);
    assert_int_equal(rig_stats(&rig, 1).taken, 0);
    put_all(2, "own", KIB, 0, "n2"); /* it is there */
    put_all(0, "two", KIB, 2, "n1");
    until(1, TAKEN, 1);
    assert_int_equal(put(0, "b", KIB, 0, "nobody"), YK_FEWER);
    rig_stop(&rig, 2);
    rig_until_members(&rig, 0, 2);
    assert_int_equal(put(0, "c", KIB, 0, "n2"), YK_FEWER); /* it stays where it was put */
    assert_int_equal(rig_get(&rig, 0, "c", KIB), 1);
    assert_int_equal(put(0, "d", KIB, 2, "n2"), YK_FEWER); /* and has its copies all the same */
    until(1, HELD, 2);
}

/* Each may make its own a guest, but not both. */
static void two_that_prefer_each_other_keep_one(void **state) {
    (void)state;
    enum { N = 100 };
    yk_put_opts prefer[2] = {{.size = sizeof(prefer[0]), .prefer = "n1"}, {.size = sizeof(prefer[0]), .prefer = "n0"}};
    char key[16];
    unsigned well = 0;
    rig_start_all(&rig, 2);
    for (unsigned k = 0; k < N; k++) {
        snprintf(key, sizeof(key), "k%u", k);
        unsigned char *p = rig_payload(key, 40 * KIB);
        struct iovec iov = {p, 40 * KIB};
        yk_op op[2], *ended;
        for (unsigned i = 0; i < 2; i++) {
            op[i] = (yk_op){.opcode = YK_OP_PUT, .key = yk_key_str(key), .iov = &iov, .iov_count = 1, .put = &prefer[i]};
            assert_int_equal(yk_submit(rig.n[i].client, &op[i], 1, 60000), 0);
        }
        for (unsigned i = 0; i < 2; i++) {
            assert_int_equal(yk_poll(rig.n[i].client, &ended, 1, 60000), 1);
            assert_true(op[i].status == 0 || op[i].status == YK_FEWER); /* the other was slow to answer */
            well += op[i].status == 0;
        }
        free(p);
    }
    assert_true(well > N / 2u);
    for (unsigned k = 0; k < N; k++) {
        snprintf(key, sizeof(key), "k%u", k);
        unsigned told[2] = {has(0, key), has(1, key)};
        assert_true((told[0] != 0 && !(told[0] & YK_DIR_GUEST)) || (told[1] != 0 && !(told[1] & YK_DIR_GUEST)));
    }
}

/* ---- moves ------------------------------------------------------------------------------------------- */

/* Asks node i for a task about the key; names NULL: whichever. The task's id, or why not. */
static int64_t task_begin(unsigned i, enum yk_dirw_task_kind kind, const char *key, const char *from, const char *to,
                          char text[YK_ERR_TEXT_MAX]) {
    unsigned char body[YK_DIR_TASK_BYTES_MAX];
    struct yk_dirw_task task = {.ns = {"default", 7},
                                .key = {key, (uint32_t)strlen(key)},
                                .node = {to, to != NULL ? (uint32_t)strlen(to) : 0},
                                .from = {from, from != NULL ? (uint32_t)strlen(from) : 0},
                                .epoch = epoch_of(i),
                                .timeout_ms = 600000,
                                .kind = (uint8_t)kind};
    struct yk_guest *guest;
    const void *reply;
    uint32_t len;
    struct yk_err err;
    struct yk_wr w;
    struct yk_rd r;
    yk_wr_init(&w, body, sizeof(body));
    yk_wr_dir_task(&w, &task);
    assert_int_equal(yk_guest_open(yk_dir_address(rig.n[i].dir), UNTIL_MS, &guest, &err), 0);
    assert_int_equal(yk_guest_ask(guest, YK_DIR_TASK, body, (uint32_t)yk_wr_len(&w), UNTIL_MS, &reply, &len, &err), 0);
    yk_rd_init(&r, reply, len);
    int status = (int32_t)yk_rd_u32(&r);
    int64_t id = (int64_t)yk_rd_u64(&r);
    yk_rd_text(&r, text, YK_ERR_TEXT_MAX);
    yk_guest_close(guest);
    return status < 0 ? status : id;
}

static int64_t move_begin(unsigned i, const char *key, const char *from, const char *to, char text[YK_ERR_TEXT_MAX]) {
    return task_begin(i, YK_DIR_TASK_MOVE, key, from, to, text);
}

/* Waits for its end: 1 done; 0 failed, with what the task says. */
static int move_ended(unsigned i, int64_t id, char text[YK_ERR_TEXT_MAX]) {
    uint64_t end = yk_now_ns() + UNTIL_MS * YK_NS_PER_MS;
    struct timespec pause = {.tv_nsec = 5000000};
    struct yk_guest *guest;
    struct yk_err err;
    char name[40];
    int over = -1;
    snprintf(name, sizeof(name), "\"id\": \"%016llx\"", (unsigned long long)id);
    assert_int_equal(yk_guest_open(yk_dir_address(rig.n[i].dir), UNTIL_MS, &guest, &err), 0);
    while (over < 0 && yk_now_ns() < end) {
        const void *reply;
        uint32_t len;
        assert_int_equal(yk_guest_ask(guest, YK_DIR_TASKS, NULL, 0, UNTIL_MS, &reply, &len, &err), 0);
        char *all = text_of(reply, len), *at = strstr(all, name);
        assert_non_null(at);
        at[strcspn(at, "}")] = 0;
        over = strstr(at, "\"state\": \"done\"") != NULL ? 1 : strstr(at, "\"state\": \"failed\"") != NULL ? 0 : -1;
        const char *why = strstr(at, "\"text\": \"");
        snprintf(text, YK_ERR_TEXT_MAX, "%s", why != NULL ? why + 9 : "");
        free(all);
        nanosleep(&pause, NULL);
    }
    yk_guest_close(guest);
    assert_true(over >= 0);
    return over;
}

static int move(unsigned i, const char *key, const char *from, const char *to, char text[YK_ERR_TEXT_MAX]) {
    int64_t id = move_begin(i, key, from, to, text);
    assert_true(id > 0);
    return move_ended(i, id, text);
}

static void a_moved_block_is_there_and_there_alone(void **state) {
    (void)state;
    char text[YK_ERR_TEXT_MAX];
    rig_start_all(&rig, 3);
    rig_put(&rig, 0, "a", 50 * KIB);
    assert_int_equal(move(2, "a", NULL, "n1", text), 1); /* asked of one that has nothing to do with it */
    assert_int_equal(has(0, "a"), 0);
    assert_true(has(1, "a") != 0 && !(has(1, "a") & YK_DIR_GUEST));
    assert_int_equal(move(2, "a", NULL, "n1", text), 1); /* it is there */
    assert_int_equal(move(0, "a", "n1", NULL, text), 1); /* away from there, to whichever */
    assert_int_equal(has(1, "a"), 0);
    assert_int_equal((has(0, "a") != 0) + (has(2, "a") != 0), 1);
    rig_until_got(&rig, 1, "a", 50 * KIB);
    put_all(0, "b", KIB, 2, NULL);
    unsigned second = has(1, "b") != 0 ? 1 : 2;
    assert_int_equal(move(0, "b", NULL, second == 1 ? "n2" : "n1", text), 0); /* which of the two? */
    assert_non_null(strstr(text, "2 nodes have it"));
    assert_int_equal(move(0, "b", "n0", NULL, text), 1); /* still two copies */
    assert_int_equal(has(0, "b"), 0);
    assert_true(has(1, "b") != 0 && has(2, "b") != 0);
    assert_int_equal(move(0, "b", "n1", "n2", text), 1); /* where one is already: one copy less */
    assert_int_equal(has(1, "b"), 0);
    assert_true(has(2, "b") != 0);
}

static void a_move_that_cannot_be_says_why(void **state) {
    (void)state;
    char text[YK_ERR_TEXT_MAX];
    yk_put_opts pinned = {.size = sizeof(pinned), .flags = YK_PUT_HARD_PIN};
    rig_start_all(&rig, 2);
    assert_int_equal(move_begin(0, "a", NULL, "n9", text), -YK_ENOENT);
    assert_int_equal(move_begin(0, "a", NULL, NULL, text), -YK_EINVAL);
    assert_int_equal(move_begin(0, "a", "n1", "n1", text), -YK_EINVAL);
    assert_int_equal(move(0, "a", NULL, "n1", text), 0);
    assert_non_null(strstr(text, "no node has it"));
    assert_int_equal(yk_put(rig.n[0].client, yk_key_str("a"), "abc", 3, &pinned), 0);
    assert_int_equal(move(1, "a", "n1", "n0", text), 0);
    assert_non_null(strstr(text, "no copy of its own"));
    assert_int_equal(move(1, "a", "n0", "n1", text), 0);
    assert_non_null(strstr(text, "pinned"));
    assert_true(has(0, "a") != 0);
    assert_int_equal(yk_unpin(rig.n[0].client, yk_key_str("a")), 0);
    assert_int_equal(move(1, "a", "n0", "n1", text), 1);
}

/* It gives its copies up, and counts on the others for that. */
static void nothing_is_moved_to_a_node_that_drains(void **state) {
    (void)state;
    unsigned char body[16];
    char text[YK_ERR_TEXT_MAX];
    uint64_t end = yk_now_ns() + UNTIL_MS * YK_NS_PER_MS;
    struct yk_guest *guest;
    struct yk_err err;
    struct yk_wr w;
    const void *reply;
    uint32_t len;
    int drains = 0;
    rig_start_all(&rig, 2);
    rig_put(&rig, 0, "a", KIB);
    yk_wr_init(&w, body, sizeof(body));
    yk_wr_str8(&w, "n1", 2);
    yk_wr_u8(&w, 1);
    assert_int_equal(yk_guest_open(yk_dir_address(rig.n[0].dir), UNTIL_MS, &guest, &err), 0);
    assert_int_equal(yk_guest_ask(guest, YK_DIR_DRAIN, body, (uint32_t)yk_wr_len(&w), UNTIL_MS, &reply, &len, &err), 0);
    while (!drains && yk_now_ns() < end) {
        assert_int_equal(yk_guest_ask(guest, YK_DIR_INFO, NULL, 0, UNTIL_MS, &reply, &len, &err), 0);
        char *info = text_of(reply, len);
        drains = strstr(info, "\"draining\": true") != NULL;
        free(info);
    }
    yk_guest_close(guest);
    assert_true(drains);
    assert_int_equal(move(0, "a", "n0", "n1", text), 0);
    assert_non_null(strstr(text, "drains"));
    assert_true(has(0, "a") != 0 && !(has(0, "a") & YK_DIR_GUEST));
}

/* Round in circles, all at once: wherever it comes to be, it is not lost. */
static void moves_against_each_other_leave_one_copy(void **state) {
    (void)state;
    enum { N = 20 };
    char key[16], text[YK_ERR_TEXT_MAX];
    int64_t id[N][3];
    rig_start_all(&rig, 3);
    for (unsigned k = 0; k < N; k++) {
        snprintf(key, sizeof(key), "k%u", k);
        put_all(0, key, 20 * KIB, 3, NULL);
    }
    for (unsigned k = 0; k < N; k++)
        for (unsigned i = 0; i < 3; i++) {
            char from[4] = {'n', (char)('0' + i), 0}, to[4] = {'n', (char)('0' + (i + 1) % 3), 0};
            snprintf(key, sizeof(key), "k%u", k);
            id[k][i] = move_begin(i, key, from, to, text);
            assert_true(id[k][i] > 0);
        }
    for (unsigned k = 0; k < N; k++) {
        unsigned left = 0;
        snprintf(key, sizeof(key), "k%u", k);
        for (unsigned i = 0; i < 3; i++)
            (void)move_ended(i, id[k][i], text); /* one that another one counts on fails */
        for (unsigned i = 0; i < 3; i++)
            left += has(i, key) != 0 && !(has(i, key) & YK_DIR_GUEST);
        assert_true(left >= 1);
    }
}

static void what_lost_a_copy_gets_another(void **state) {
    (void)state;
    enum { N = 50 };
    char key[16];
    rig_start_all(&rig, 3);
    for (unsigned k = 0; k < N; k++) {
        snprintf(key, sizeof(key), "k%u", k);
        put_all(0, key, 3 * KIB, 2, NULL);
    }
    put_all(0, "one", 3 * KIB, 0, NULL);
    rig_stop(&rig, 0);
    until(1, HELD, N); /* both of those that are left have all of them, and nothing of what wanted one copy */
    until(2, HELD, N);
    rig_stop(&rig, 1);
    for (unsigned k = 0; k < N; k++) {
        snprintf(key, sizeof(key), "k%u", k);
        rig_until_got(&rig, 2, key, 3 * KIB);
    }
    assert_int_equal(rig_get(&rig, 2, "one", 3 * KIB), 0);
}

/* The put's copies are under way while the remove is made; what it has answered with `done` is gone for good. */
static void a_remove_ends_copies_under_way(void **state) {
    (void)state;
    enum { ROUNDS = 30 };
    yk_put_opts o = {.size = sizeof(o), .replicas = 3};
    rig_start_all(&rig, 3);
    unsigned char *p = rig_payload("key", 200 * KIB);
    struct iovec iov = {p, 200 * KIB};
    for (unsigned k = 0; k < ROUNDS; k++) {
        yk_op op = {.opcode = YK_OP_PUT, .key = yk_key_str("key"), .iov = &iov, .iov_count = 1, .put = &o};
        yk_op *ended;
        int rc, over = 0;
        assert_int_equal(yk_submit(rig.n[0].client, &op, 1, 60000), 0);
        do {
            rc = yk_remove(rig.n[1 + k % 2].client, yk_key_str("key"));
            over |= yk_poll(rig.n[0].client, &ended, 1, 0) == 1; /* which moves the put on */
        } while (rc == YK_MISS);
        assert_int_equal(rc, 0);
        for (unsigned i = 0; i < 3; i++)
            assert_int_equal(rig_get(&rig, i, "key", 200 * KIB), 0);
        while (!over)
            over = yk_poll(rig.n[0].client, &ended, 1, 1000) == 1;
        if (op.status != 0 && op.status != YK_FEWER)
            fail_msg("round %u: the put ended with %d", k, op.status);
        for (unsigned i = 0; i < 3; i++)
            assert_int_equal(rig_get(&rig, i, "key", 200 * KIB), 0);
    }
    free(p);
}

static void an_option_that_cannot_be_is_refused(void **state) {
    (void)state;
    yk_put_opts o = {.size = sizeof(o), .replicas = YK_COPIES_MAX + 1};
    rig_start_all(&rig, 1);
    assert_int_equal(yk_put(rig.n[0].client, yk_key_str("a"), "x", 1, &o), -YK_EINVAL);
    o.replicas = 1;
    o.prefer = "a-name-that-is-longer-than-any-node's-name-may-be-0123456789-0123456789";
    assert_int_equal(yk_put(rig.n[0].client, yk_key_str("a"), "x", 1, &o), -YK_EINVAL);
    o.prefer = "";
    assert_int_equal(yk_put(rig.n[0].client, yk_key_str("a"), "x", 1, &o), 0);
}

/* With an argument: those of that name alone ("*" and "?" match). */
/* ---- copies that nobody waits for, and a put -------------------------------------------------------- */

static void hold(void *arg, struct yk_store *store) {
    (void)store;
    while (!__atomic_load_n((int *)arg, __ATOMIC_ACQUIRE))
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
}

/* A node that is away from its work holds up all copies for it: those of hot chains, and what operators want. A put whose
 * copy goes elsewhere has it all the same. */
static void a_put_has_its_copies_beside_slow_ones(void **state) {
    (void)state;
    char key[16], text[YK_ERR_TEXT_MAX];
    int go_on = 0;
    rig_start_all(&rig, 3);
    for (unsigned k = 0; k < 160; k++) {
        snprintf(key, sizeof(key), "slow-%u", k);
        rig_put(&rig, 0, key, KIB);
    }
    rig_until_published(&rig, 0, 160);
    assert_int_equal(yk_node_post(rig.n[1].node, hold, &go_on), 0);
    for (unsigned k = 0; k < 160; k++) {
        snprintf(key, sizeof(key), "slow-%u", k);
        assert_true(task_begin(0, k % 2 ? YK_DIR_TASK_COPY : YK_DIR_TASK_KEEP, key, NULL, "n1", text) > 0);
    }
    put_all(0, "quick", KIB, 2, "n2");
    __atomic_store_n(&go_on, 1, __ATOMIC_RELEASE);
    for (unsigned k = 0; k < 160; k++) {
        snprintf(key, sizeof(key), "slow-%u", k);
        rig_until_exists(&rig, 1, key, 1);
    }
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_copy_is_on_another_node_when_the_put_says_so, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(three_copies_are_on_three_nodes, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(copies_go_to_other_zones_first, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(fewer_nodes_than_copies_is_said, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(more_copies_can_be_asked_for_later, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(what_a_read_has_brought_is_kept, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(batches_have_copies, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(every_way_to_put_has_copies, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_namespace_may_say_how_many_are_wanted, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_namespace_that_others_have_not_opened_is_no_hindrance, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_preferred_node_has_the_block, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(two_that_prefer_each_other_keep_one, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_moved_block_is_there_and_there_alone, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_move_that_cannot_be_says_why, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(nothing_is_moved_to_a_node_that_drains, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(moves_against_each_other_leave_one_copy, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(what_lost_a_copy_gets_another, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_remove_ends_copies_under_way, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(an_option_that_cannot_be_is_refused, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_put_has_its_copies_beside_slow_ones, rig_setup, rig_teardown),
        cmocka_unit_test(most_puts_had_their_copies_at_once), /* last */
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("dir_copies", tests, NULL, NULL);
}
