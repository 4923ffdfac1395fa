/* SPDX-License-Identifier: Apache-2.0
 *
 * Connections of iWARP queue pairs, by themselves: who is let in and who is not, what is told when nobody comes or
 * answers, and their end in each state. It needs two ports of iWARP, each with an address that reaches the other:
 * YOLK_IWARP=1 says that the first of this host is such, and the next of the same family on another device; without it all
 * is skipped. YOLK_RDMA_CASE: one case alone. tests/vm has a guest with them.
 */
#include "xfer/rdma/rdma_priv.h"

#include "base/clock.h"
#include "xfer/sock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <unistd.h>

#include <cmocka.h>

#define LOOK_S    120u /* for what must come in the end: an emulated guest is slow, a driver gives up after 10 s */
#define TURN_NS   (20 * YK_NS_PER_MS)
#define AWAITED   64u  /* of the process: PENDING_MAX of cm.c */
#define MOMENTS   40   /* at which a pair is ended */

static struct yk_loop *loop;
static struct yk_rdma_settings settings;
static struct yk_rdma_port ports[YK_RDMA_PORTS_MAX];
static struct yk_rdma_dev *devs[2]; /* of the first two ports: a queue pair is made of a device that is open */
static const struct yk_rdma_offer call = {.iwarp = 1, .reads = 4};

struct end {
    struct yk_qp *qp;
    int up, failed;
    char text[YK_ERR_TEXT_MAX];
};

static void on_read(void *user, uint64_t tag) {
}

static void on_failed(void *user, int code, const char *text) {
    struct end *e = user;
    e->failed = code;
    snprintf(e->text, sizeof(e->text), "%s", text);
}

static void on_up(void *user) {
    ((struct end *)user)->up++;
}

static const struct yk_qp_events events = {on_read, on_failed, on_up};

#define UNTIL(condition)                                                                                  \
    for (uint64_t until_ns = yk_now_ns() + LOOK_S * YK_NS_PER_S; !(condition);) {                         \
        assert_true(yk_now_ns() < until_ns);                                                              \
        (void)yk_loop_turn(loop, TURN_NS);                                                                \
    }

static int await(struct end *e, struct yk_rdma_offer *ret_offer) {
    struct yk_err err = {0, ""};
    memset(e, 0, sizeof(*e));
    int rc = yk_qp_new(&settings, &ports[1], loop, &events, e, &e->qp, &err);
    if (rc == 0)
        rc = yk_qp_connect(e->qp, &call, NULL, &err);
    if (rc == 0)
        yk_qp_offer(e->qp, ret_offer);
    snprintf(e->text, sizeof(e->text), "%s", err.text);
    return rc;
}

static void dial(struct end *e, const struct yk_rdma_offer *offer) {
    struct yk_err err = {0, ""};
    memset(e, 0, sizeof(*e));
    if (yk_qp_new(&settings, &ports[0], loop, &events, e, &e->qp, &err) < 0 ||
        yk_qp_connect(e->qp, offer, ports[1].host, &err) < 0)
        fail_msg("%s", err.text);
}

static void end(struct end *e) {
    yk_qp_free(e->qp);
    e->qp = NULL;
}

/* Connections that the process has in the kernel. */
static int connections(void) {
    char path[300], to[300];
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    assert_non_null(d);
    for (struct dirent *f; (f = readdir(d)) != NULL;) {
        snprintf(path, sizeof(path), "/proc/self/fd/%s", f->d_name);
        ssize_t len = readlink(path, to, sizeof(to) - 1);
        to[len > 0 ? len : 0] = 0;
        n += strstr(to, "rdma_cm") != NULL;
    }
    closedir(d);
    return n;
}

static void one_comes_up(void) {
    struct yk_rdma_offer offer;
    struct end target, caller;
    assert_int_equal(await(&target, &offer), 0);
    assert_true(offer.iwarp && offer.port != 0);
    dial(&caller, &offer);
    UNTIL(caller.up || caller.failed);
    if (!caller.up)
        fail_msg("%s", caller.text);
    UNTIL(yk_qp_is_up(target.qp));
    assert_int_equal(yk_qp_room(target.qp), settings.depth);
    assert_int_equal(yk_qp_room(caller.qp), settings.depth);
    end(&caller);
    end(&target);
}

/* ---- cases -------------------------------------------------------------------------------------------- */

static int none(void) {
    return getenv("YOLK_IWARP") == NULL;
}

#define NEEDS_PORTS                                                                   \
    if (none()) {                                                                     \
        print_message("YOLK_IWARP is not set: no ports of iWARP to test with\n");     \
        skip();                                                                       \
    }

static int open_all(void **state) {
    struct yk_err err;
    uint32_t n = 0;
    if (none())
        return 0;
    assert_int_equal(yk_rdma_settings_parse(NULL, &settings, &err), 0);
    assert_int_equal(yk_loop_new(&loop, &err), 0);
    uint32_t found = yk_rdma_ports_now(&settings, ports, YK_RDMA_PORTS_MAX);
    for (uint32_t i = 0; i < found && n < 2; i++)
        if (ports[i].iwarp && (n == 0 || (strcmp(ports[i].device, ports[0].device) != 0 &&
                                          (strchr(ports[i].host, ':') == NULL) == (strchr(ports[0].host, ':') == NULL))))
            ports[n++] = ports[i];
    if (n < 2)
        fail_msg("%u ports of iWARP that could reach each other, of %u addresses of ports", n, found);
    print_message("%s of %s, %s of %s\n", ports[0].host, ports[0].device, ports[1].host, ports[1].device);
    for (uint32_t i = 0; i < 2; i++)
        if (yk_rdma_dev_get(ports[i].device, &devs[i], &err) < 0)
            fail_msg("%s", err.text);
    return 0;
}

static int close_all(void **state) {
    for (uint32_t i = 0; i < 2; i++)
        yk_rdma_dev_put(devs[i]);
    if (loop != NULL)
        yk_loop_free(loop);
    return 0;
}

static void both_ends_come_up(void **state) {
    NEEDS_PORTS
    one_comes_up();
    UNTIL(connections() == 0);
}

static void who_has_no_token_is_refused(void **state) {
    NEEDS_PORTS
    struct yk_rdma_offer offer, other;
    struct end target, stranger, caller;
    assert_int_equal(await(&target, &offer), 0);
    for (int i = 0; i < 3; i++) {
        other = offer;
        other.token[i * 7] ^= 1;
        dial(&stranger, &other);
        UNTIL(stranger.failed);
        assert_int_equal(stranger.up, 0);
        end(&stranger);
    }
    assert_int_equal(target.failed, 0);
    assert_false(yk_qp_is_up(target.qp));
    dial(&caller, &offer);
    UNTIL(caller.up || caller.failed);
    assert_int_equal(caller.up, 1);
    UNTIL(yk_qp_is_up(target.qp));
    dial(&stranger, &offer); /* with the token, but somebody else has come: the port is closed */
    UNTIL(stranger.failed);
    assert_int_equal(caller.failed, 0);
    assert_int_equal(target.failed, 0);
    end(&stranger);
    end(&caller);
    end(&target);
}

/* The connection is good, and what it leads to does not show the token that the offer has. */
static void another_queue_pair_is_noticed(void **state) {
    NEEDS_PORTS
    struct yk_rdma_offer a_offer, b_offer;
    struct end a, b, caller;
    assert_int_equal(await(&a, &a_offer), 0);
    assert_int_equal(await(&b, &b_offer), 0);
    b_offer.addr = a_offer.addr;
    b_offer.rkey = a_offer.rkey;
    dial(&caller, &b_offer);
    UNTIL(caller.failed);
    assert_int_equal(caller.up, 0);
    assert_int_equal(caller.failed, -YK_EPROTO);
    end(&caller);
    end(&a);
    end(&b);
}

static void nobody_listens(void **state) {
    NEEDS_PORTS
    struct yk_rdma_offer offer;
    struct end target, caller;
    assert_int_equal(await(&target, &offer), 0);
    end(&target);
    dial(&caller, &offer);
    UNTIL(caller.failed);
    assert_int_equal(caller.up, 0);
    assert_string_not_equal(caller.text, "");
    end(&caller);
}

/* Something takes the connection and says nothing: the end does not wait for what the kernel waits for. */
static void nobody_answers(void **state) {
    NEEDS_PORTS
    struct yk_rdma_offer offer = {.iwarp = 1, .reads = 4};
    struct yk_sockaddr at;
    struct end caller;
    int before = connections();
    assert_int_equal(yk_sock_parse(ports[1].host, 0, &at), 0);
    int fd = socket(at.u.any.sa_family, SOCK_STREAM, 0);
    assert_true(fd >= 0 && bind(fd, &at.u.any, at.len) == 0 && listen(fd, 4) == 0);
    assert_int_equal(getsockname(fd, &at.u.any, &at.len), 0);
    offer.port = yk_sock_port(&at.u.any);
    dial(&caller, &offer);
    uint64_t until = yk_now_ns() + YK_NS_PER_S;
    while (yk_now_ns() < until && !caller.failed)
        (void)yk_loop_turn(loop, TURN_NS);
    assert_int_equal(caller.up, 0);
    end(&caller);
    one_comes_up(); /* while that one is being ended */
    UNTIL(connections() == before);
    close(fd);
}

static void the_peer_closes(void **state) {
    NEEDS_PORTS
    struct yk_rdma_offer offer;
    struct end target, caller;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(await(&target, &offer), 0);
        dial(&caller, &offer);
        UNTIL(caller.up && yk_qp_is_up(target.qp));
        end(i == 0 ? &target : &caller);
        UNTIL(i == 0 ? caller.failed : target.failed);
        end(i == 0 ? &caller : &target);
    }
}

static void ends_at_every_moment(void **state) {
    NEEDS_PORTS
    struct yk_rdma_offer offer;
    struct end target, caller;
    int up = 0;
    for (int i = 0; i < 2 * MOMENTS; i++) {
        assert_int_equal(await(&target, &offer), 0);
        dial(&caller, &offer);
        for (int turn = 0; turn < i / 2; turn++)
            (void)yk_loop_turn(loop, turn % 4 == 3 ? YK_NS_PER_MS : 0);
        up += caller.up;
        end(i % 2 ? &caller : &target);
        (void)yk_loop_turn(loop, 0);
        end(i % 2 ? &target : &caller);
    }
    print_message("%d of %d were up\n", up, 2 * MOMENTS);
    one_comes_up();
    UNTIL(connections() == 0);
}

static void too_many_are_awaited(void **state) {
    NEEDS_PORTS
    static struct end targets[AWAITED + 1];
    struct yk_rdma_offer offer;
    uint32_t n = 0;
    int rc;
    UNTIL(connections() == 0);
    while ((rc = await(&targets[n], &offer)) == 0 && n < AWAITED)
        n++;
    print_message("%u are awaited; the next: %s\n", n, targets[n].text);
    assert_int_equal(rc, -YK_ELIMIT);
    assert_true(n >= 8); /* a device may have less room than that */
    for (uint32_t i = 0; i <= n; i++)
        end(&targets[i]);
    UNTIL(connections() == 0);
    one_comes_up();
}

static void nobody_comes(void **state) {
    NEEDS_PORTS
    struct yk_rdma_offer offer;
    struct end target;
    assert_int_equal(await(&target, &offer), 0);
    UNTIL(target.failed);
    assert_int_equal(target.failed, -YK_ETIMEDOUT);
    end(&target);
    UNTIL(connections() == 0);
}

/* An end that is not the other's. */
static void offers_that_do_not_fit(void **state) {
    NEEDS_PORTS
    struct yk_rdma_offer offer, roce = {.mtu = 5, .reads = 4, .qpn = 7};
    struct yk_err err;
    struct end e, target;
    assert_int_equal(await(&target, &offer), 0);
    memset(&e, 0, sizeof(e));
    assert_int_equal(yk_qp_new(&settings, &ports[0], loop, &events, &e, &e.qp, &err), 0);
    assert_int_equal(yk_qp_connect(e.qp, &roce, ports[1].host, &err), -YK_ENOTSUP);
    assert_int_equal(yk_qp_connect(e.qp, &call, ports[1].host, &err), -YK_EPROTO); /* it awaits nothing */
    assert_int_equal(yk_qp_connect(e.qp, &offer, NULL, &err), -YK_EPROTO);         /* a target is not told to dial */
    end(&e);
    end(&target);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_ends_come_up),
        cmocka_unit_test(who_has_no_token_is_refused),
        cmocka_unit_test(another_queue_pair_is_noticed),
        cmocka_unit_test(nobody_listens),
        cmocka_unit_test(nobody_answers),
        cmocka_unit_test(the_peer_closes),
        cmocka_unit_test(ends_at_every_moment),
        cmocka_unit_test(too_many_are_awaited),
        cmocka_unit_test(nobody_comes),
        cmocka_unit_test(offers_that_do_not_fit),
    };
    if (getenv("YOLK_RDMA_CASE") != NULL)
        cmocka_set_test_filter(getenv("YOLK_RDMA_CASE"));
    return cmocka_run_group_tests(tests, open_all, close_all);
}
