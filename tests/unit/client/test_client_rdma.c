/* SPDX-License-Identifier: Apache-2.0
 *
 * Payload of handles without a map over RDMA devices: from and to memory that nobody has registered, through links that
 * are cut, nodes that are killed, and memory that may not be pinned. It needs devices, which a guest has
 * (tests/vm/test_rdma.py); without YOLK_RDMA_NODE all is skipped.
 *
 *   YOLK_RDMA_NODE  address of a device, where the node listens; its engine tells those of all devices
 *   YOLK_RDMA_CUT   its network devices: "n0b,n1b"; they are taken down and up
 *
 * The node is a process of its own. What devices moved is told from their packets, or where they count none from what
 * sockets did not carry: the bytes of a rail in the table of links are also those that its lanes' streams carried.
 */
#include "fixture.h"

#include "client/client_priv.h"

#include "base/clock.h"

#include "../xfer/rdma_devices.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <unistd.h>

#define KIB       1024u
#define LONG_MS   120000u /* of an operation: an emulated guest is slow */
#define LOOK_S    240u    /* for what must come in the end */
#define PACKET    4096u   /* bytes at most */
#define BLOCKS    4u
#define BLOCK     (256u * KIB + 4096u) /* a client gives a path three seconds, which is little for an emulated device */
#define DRAM      (32u * MIB)          /* and so is what it takes to register a chunk of it */

static const char *node_host;

#define NEEDS_DEVICES(links)                                                                    \
    (void)state;                                                                                \
    if (node_host == NULL || (int)rdma_cut_count < (links)) {                                        \
        print_message("YOLK_RDMA_NODE or _CUT is not set: no devices to test with\n");          \
        skip();                                                                                 \
    }

/* ---- the rig ---------------------------------------------------------------------------------------- */

struct rig {
    struct fixture f;
    yk_client *c;
    uint32_t round; /* of blocks: keys are never used again */
    int declares;   /* their memory, before it is used */
};

static void tune(struct yk_node_opts *o) {
    o->transfer = "0.0.0.0:0";
    o->allow_remote = 1;
    o->transports = YK_XFER_RDMA | YK_XFER_TCP;
}

static unsigned free_port(void) {
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(inet_pton(AF_INET, node_host, &a.sin_addr), 1);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    close(fd);
    return ntohs(a.sin_port);
}

/* A handle that has its engine: on a busy machine yk_open goes without rather than to wait. */
static yk_client *client(struct rig *r) {
    yk_open_opts o = {.size = sizeof(o), .flags = YK_OPEN_NO_MAP, .timeout_ms = LONG_MS, .transports = "rdma,tcp"};
    uint64_t until = yk_now_ns() + LOOK_S * YK_NS_PER_S;
    for (;;) {
        yk_client *c;
        assert_status(yk_open(r->f.url, &o, &c), 0);
        if (c->far.up) {
            rdma_be_patient(c->far.engine);
            return c;
        }
        yk_close(c);
        assert_true(yk_now_ns() < until);
    }
}

static void rig_open(struct rig *r, int pin) {
    memset(r, 0, sizeof(*r));
    fixture_init(&r->f, 1);
    r->f.dram = DRAM;
    snprintf(r->f.url, sizeof(r->f.url), "tcp:%s:%u", node_host, free_port());
    r->f.tune = tune;
    fixture_fork(&r->f);
    fixture_fork_spare(&r->f);
    if (!pin) /* before there are threads: each has its own capabilities */
        rdma_no_pinning();
    r->c = client(r);
}

static void rig_close(struct rig *r) {
    yk_close(r->c);
    fixture_fini(&r->f);
}

/* ---- blocks ----------------------------------------------------------------------------------------- */

/* A batch of yk_submit, of memory that is there for it alone. */
struct blocks {
    uint32_t round, left;
    yk_op ops[BLOCKS];
    struct iovec iov[BLOCKS];
    char keys[BLOCKS][40];
    void *memory;
};

static void begin(struct rig *r, struct blocks *b, uint32_t opcode, uint32_t round) {
    memset(b, 0, sizeof(*b));
    b->round = round;
    b->left = BLOCKS;
    b->memory = mmap(NULL, BLOCKS * BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(b->memory != MAP_FAILED);
    if (r->declares)
        assert_status(yk_register(r->c, b->memory, BLOCKS * BLOCK), 0);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        char *at = (char *)b->memory + i * BLOCK;
        snprintf(b->keys[i], sizeof(b->keys[i]), "round %u block %u", round, i);
        if (opcode == YK_OP_PUT)
            fill(at, BLOCK, round * 100u + i);
        b->iov[i] = (struct iovec){at, BLOCK};
        b->ops[i] = (yk_op){.opcode = opcode, .key = yk_key_str(b->keys[i]), .iov = &b->iov[i], .iov_count = 1};
    }
    assert_status(yk_submit(r->c, b->ops, BLOCKS, LONG_MS), 0);
}

/* Waits for all of them. How many succeeded: only those of a get are looked at, byte by byte. */
static uint32_t end(struct rig *r, struct blocks *b, uint32_t opcode) {
    yk_op *done[BLOCKS];
    uint32_t well = 0;
    while (b->left > 0) {
        int n = yk_poll(r->c, done, BLOCKS, LONG_MS);
        assert_true(n > 0);
        b->left -= (uint32_t)n;
    }
    for (uint32_t i = 0; i < BLOCKS; i++) {
        if (b->ops[i].status != 0) {
            print_message("%s: %s\n", b->keys[i], yk_status_text(b->ops[i].status));
            continue;
        }
        well++;
        assert_true(opcode == YK_OP_PUT || is_filled(b->iov[i].iov_base, BLOCK, b->round * 100u + i));
    }
    if (r->declares)
        assert_status(yk_unregister(r->c, b->memory), 0);
    munmap(b->memory, BLOCKS * BLOCK); /* nothing may touch it any more */
    return well;
}

/* What devices, sockets and wires had moved at a moment. */
struct mark {
    struct rdma_counters devices;
    uint64_t streamed, carried;
};

static struct mark mark(void) {
    return (struct mark){rdma_devices(), rdma_streamed(), rdma_carried()};
}

/* How many packets devices have received of a batch that all is well with. Those that count none (siw): what sockets did
 * not carry, if none of them was closed meanwhile. */
static uint64_t packets_of_batch(const struct mark *before) {
    const uint64_t all = (uint64_t)BLOCKS * BLOCK;
    if (before->devices.n > 0)
        return rdma_packets_since(&before->devices);
    uint64_t now = rdma_streamed();
    return now < before->streamed || now - before->streamed > all ? 0 : (all - (now - before->streamed)) / PACKET;
}

/* Whether something of it is on its way. */
static int has_begun(const struct mark *before) {
    return before->devices.n > 0 ? rdma_packets_since(&before->devices) >= BLOCK / PACKET
                                 : rdma_carried() - before->carried >= BLOCK;
}

/* Puts blocks and gets them; all must be well. Packets that devices received meanwhile, of each. */
struct packets {
    uint64_t put, get;
};

static struct packets exchange(struct rig *r) {
    struct blocks b;
    struct packets p;
    uint32_t round = ++r->round;
    struct mark before = mark();
    begin(r, &b, YK_OP_PUT, round);
    assert_int_equal(end(r, &b, YK_OP_PUT), BLOCKS);
    p.put = packets_of_batch(&before);
    before = mark();
    begin(r, &b, YK_OP_GET, round);
    assert_int_equal(end(r, &b, YK_OP_GET), BLOCKS);
    p.get = packets_of_batch(&before);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        char key[40];
        snprintf(key, sizeof(key), "round %u block %u", round, i);
        assert_status(yk_remove(r->c, yk_key_str(key)), 0);
    }
    return p;
}

static void tell_links(struct rig *r) {
    char *text;
    if (yk_xfer_links_json(r->c->far.engine, &text) < 0)
        return;
    for (char *at = text, *end; at != NULL; at = end != NULL ? end + 1 : NULL) { /* long lines are cut */
        end = strchr(at, '}');
        print_message("%.*s\n", end != NULL ? (int)(end - at) : (int)strlen(at), at);
    }
    free(text);
}

static int device_is_up(struct rig *r) {
    char *text;
    int up = 0;
    if (yk_xfer_links_json(r->c->far.engine, &text) < 0)
        return 0;
    for (const char *at = text; (at = strstr(at, "\"transport\": \"rdma\"")) != NULL; at++) {
        const char *lanes = strstr(at, "\"lanes_up\": ");
        up |= lanes != NULL && atoi(lanes + strlen("\"lanes_up\": ")) > 0;
    }
    free(text);
    return up;
}

/* Until the engine is used and a device has a lane: by requests for a block that there is not, which have as long as that takes. */
static void warm_up(struct rig *r) {
    static char local[MIB];
    uint64_t until = yk_now_ns() + LOOK_S * YK_NS_PER_S;
    yk_xfer_guard none = {.descriptor = 1, .generation = 1ull << 50};
    yk_xfer_submit_opts so = {.size = sizeof(so), .xclass = YK_XFER_DEMAND, .timeout_ms = LONG_MS};
    while (!r->c->far.up || !device_is_up(r)) {
        assert_true(yk_now_ns() < until);
        assert_int_equal(get_is(r->c, "no such", 1, 1), YK_MISS); /* it opens the segment again when its rest is over */
        if (!r->c->far.up) {
            (void)poll(NULL, 0, 50);
            continue;
        }
        yk_xfer_request q = {.op = YK_XFER_READ, .local = local, .segment = r->c->far.segment, .length = MIB,
                             .guard = &none};
        (void)yk_xfer_run(r->c->far.engine, &q, 1, &so);
    }
}

/* Until devices have moved a block of a put, and one of a get, whole. */
static struct packets until_devices_move(struct rig *r) {
    const uint64_t one = BLOCK / PACKET;
    uint64_t until = yk_now_ns() + LOOK_S * YK_NS_PER_S;
    struct packets most = {0, 0};
    for (;;) {
        warm_up(r);
        struct packets p = exchange(r);
        most.put = p.put > most.put ? p.put : most.put;
        most.get = p.get > most.get ? p.get : most.get;
        if (most.put >= one && most.get >= one)
            return most;
        print_message("%llu and %llu packets of %u, %llu fallbacks\n", (unsigned long long)p.put,
                      (unsigned long long)p.get, (unsigned)(BLOCKS * one),
                      (unsigned long long)STAT(r->c, xfer_fallbacks));
        if (yk_now_ns() < until)
            continue;
        tell_links(r);
        fail_msg("devices move nothing");
    }
}

/* ---- cases ------------------------------------------------------------------------------------------ */

static void devices_move_payload(void **state) {
    static const size_t sizes[] = {1, 64 * KIB, 64 * KIB + 1, MIB - 1, 3 * MIB + 17};
    struct rig r;
    NEEDS_DEVICES(0)
    rig_open(&r, 1);
    struct packets p = until_devices_move(&r);
    print_message("%u bytes: %llu packets for a put, %llu for a get; %llu bytes through the engine, %llu fallbacks\n",
                  BLOCKS * BLOCK, (unsigned long long)p.put, (unsigned long long)p.get,
                  (unsigned long long)STAT(r.c, xfer_bytes), (unsigned long long)STAT(r.c, xfer_fallbacks));
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        char key[32];
        snprintf(key, sizeof(key), "size %zu", sizes[i]);
        put_ok(r.c, key, sizes[i], i);
        assert_int_equal(get_is(r.c, key, sizes[i], i), 0);
    }
    rig_close(&r);
}

/* Pieces of a block that lie apart, as those of layers do: large ones are for devices, small ones are not. */
static void pieces_and_ranges(void **state) {
    enum { PIECES = 40, SMALL = 6000, LARGE = 90000, STEP = LARGE + 5000 };
    struct rig r;
    struct iovec out[PIECES], in[PIECES];
    size_t n;
    NEEDS_DEVICES(0)
    rig_open(&r, 1);
    char *from = malloc((size_t)PIECES * STEP), *to = calloc(PIECES, STEP);
    fill(from, (size_t)PIECES * STEP, 7);
    for (int i = 0; i < PIECES; i++) {
        out[i] = (struct iovec){from + i * STEP, i % 2 ? SMALL : LARGE};
        in[i] = (struct iovec){to + i * STEP + 1, out[i].iov_len};
    }
    assert_status(yk_putv(r.c, yk_key_str("pieces"), out, PIECES, NULL), 0);
    assert_status(yk_getv(r.c, yk_key_str("pieces"), in, PIECES, &n), 0);
    for (int i = 0; i < PIECES; i++) {
        assert_memory_equal(out[i].iov_base, in[i].iov_base, in[i].iov_len);
        for (size_t k = in[i].iov_len; k < STEP - 1; k++)
            assert_int_equal(((char *)in[i].iov_base)[k], 0); /* and nothing between */
    }
    put_ok(r.c, "range", 2 * MIB, 9);
    fill(from, 2 * MIB, 9);
    assert_status(yk_get_range(r.c, yk_key_str("range"), 12345, to, MIB), 0);
    assert_memory_equal(to, from + 12345, MIB);
    free(from);
    free(to);
    rig_close(&r);
}

/* In mid-transfer: when devices have moved some of it. 1: it was so. */
static int under_way(struct rig *r, struct blocks *b, const struct mark *before) {
    yk_op *done[BLOCKS];
    while (!has_begun(before)) {
        int n = yk_poll(r->c, done, BLOCKS, 0);
        assert_true(n >= 0);
        b->left -= (uint32_t)n;
        if (b->left == 0) /* each ends by its deadline */
            return 0;
    }
    return 1;
}

/* All links, one after the other, then all at once: another device, or TCP, goes on. No operation fails. */
static void links_are_cut(void **state) {
    struct rig r;
    struct blocks b;
    uint32_t hits = 0;
    NEEDS_DEVICES(1)
    rig_open(&r, 1);
    until_devices_move(&r);
    for (uint32_t cut = 0; cut <= rdma_cut_count; cut++) {
        uint32_t round = ++r.round;
        for (uint32_t op = YK_OP_PUT, i = 0; i < 2; op = YK_OP_GET, i++) {
            struct mark before = mark();
            begin(&r, &b, op, round);
            hits += (uint32_t)under_way(&r, &b, &before);
            for (uint32_t k = 0; k < rdma_cut_count; k++)
                if (k == cut || cut == rdma_cut_count)
                    rdma_set_link(k, "down");
            assert_int_equal(end(&r, &b, op), BLOCKS);
            print_message("%s down in a %s: all are well\n", cut < rdma_cut_count ? rdma_cuts[cut] : "all links",
                          op == YK_OP_PUT ? "put" : "get");
            rdma_links_up();
        }
    }
    assert_true(hits > 0);
    until_devices_move(&r); /* they have come back */
    rig_close(&r);
}

/* Devices know it before it is used, and once for all of its blocks. */
static void memory_that_is_declared(void **state) {
    struct rig r;
    NEEDS_DEVICES(0)
    rig_open(&r, 1);
    r.declares = 1;
    struct packets p = until_devices_move(&r);
    print_message("declared: %llu packets for a put, %llu for a get\n", (unsigned long long)p.put,
                  (unsigned long long)p.get);
    rig_close(&r);
}

/* It is killed with transfers under way, and started again: what was acknowledged is there. */
static void the_node_is_killed(void **state) {
    struct rig r;
    struct blocks b, kept;
    NEEDS_DEVICES(0)
    rig_open(&r, 1);
    until_devices_move(&r);
    begin(&r, &kept, YK_OP_PUT, 1000);
    assert_int_equal(end(&r, &kept, YK_OP_PUT), BLOCKS);
    struct mark before = mark();
    begin(&r, &b, YK_OP_GET, 1000);
    (void)under_way(&r, &b, &before);
    fixture_kill(&r.f, SIGKILL);
    fixture_start_spare(&r.f);
    print_message("killed and started again in a get: %u of %u are well\n", end(&r, &b, YK_OP_GET), BLOCKS);
    until_devices_move(&r); /* its engine is another one */
    begin(&r, &b, YK_OP_GET, 1000);
    assert_int_equal(end(&r, &b, YK_OP_GET), BLOCKS);
    rig_close(&r);
}

/* Nothing of the caller's can be made known to a device then: the connections carry it. */
static void memory_that_may_not_be_pinned(void **state) {
    struct rig r;
    NEEDS_DEVICES(0)
    rig_open(&r, 0);
    struct packets p = exchange(&r);
    print_message("no memory registered: %llu and %llu packets\n", (unsigned long long)p.put, (unsigned long long)p.get);
    assert_true(p.put < BLOCK / PACKET && p.get < BLOCK / PACKET);
    rig_close(&r);
    rdma_may_pin();
}

static int setup(void **state) {
    (void)state;
    node_host = getenv("YOLK_RDMA_NODE");
    rdma_cuts_read();
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(devices_move_payload), cmocka_unit_test(pieces_and_ranges),
        cmocka_unit_test(links_are_cut),        cmocka_unit_test(the_node_is_killed),
        cmocka_unit_test(memory_that_is_declared), cmocka_unit_test(memory_that_may_not_be_pinned),
    };
    if (getenv("YOLK_RDMA_CASE") != NULL)
        cmocka_set_test_filter(getenv("YOLK_RDMA_CASE"));
    return cmocka_run_group_tests(tests, setup, NULL);
}
