/* SPDX-License-Identifier: Apache-2.0
 *
 * A node that answers libyolk with whatever bytes it likes.
 *
 * The first byte of the input chooses what the client asks, the rest is what comes back after a
 * proper welcome. Some handles are granted a filter that allows every key, so that what they miss is
 * raised, or asked for. Others are granted a transfer engine, which is one of this process: payload of
 * every length goes through it, to where the answers say. A thread plays the node's listener; the answers are written by the fuzzing thread
 * itself, frame by frame between polls, so that later frames can answer requests which earlier ones
 * caused (ids are predictable: sequence << 20 | table index). Whatever happens, each operation must
 * end exactly once and nothing be read or written outside its buffer.
 */
#include "client/dial.h"
#include "client/far.h"
#include "shm/filter.h"
#include "shm/segment.h"
#include "wire/msg.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <yolk/transfer.h>
#include <yolk/yolk.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct sockaddr_un address = {.sun_family = AF_UNIX};
static int listener = -1, accepted[2];
static struct yk_segment segment;
static int filter_fd = -1, grant_filter; /* atomic: for the next welcome */
static uint64_t filter_bytes;
static char far_address[64]; /* of the engine */
static unsigned char far_memory[1u << 16];

static void welcome(int fd, uint32_t flags) {
    unsigned char frame[512];
    struct yk_wr w;
    yk_wr_init(&w, frame + YK_FRAME_HDR, sizeof(frame) - YK_FRAME_HDR);
    yk_wr_u32(&w, 0);
    yk_wr_text(&w, "");
    yk_wr_u32(&w, flags);
    yk_wr_u32(&w, 1);
    yk_wr_u64(&w, 77);
    yk_wr_u64(&w, 1);
    yk_wr_u32(&w, 0);
    yk_wr_u64(&w, 0);
    yk_wr_u32(&w, 1);
    yk_wr_u64(&w, segment.layout.meta_bytes);
    yk_wr_u64(&w, segment.layout.data_bytes);
    yk_wr_u64(&w, segment.layout.clients_bytes);
    yk_wr_u64(&w, 1u << 20);
    yk_wr_u64(&w, 4096);
    yk_wr_u64(&w, 0);
    if (flags & YK_HELLO_FILTER)
        yk_wr_u64(&w, filter_bytes);
    if (flags & YK_HELLO_XFER) {
        yk_wr_text(&w, far_address);
        yk_wr_text(&w, "fuzz");
    }
    struct yk_frame f = {(uint32_t)yk_wr_len(&w), YK_MSG_HELLO, YK_FRAME_REPLY, 1};
    yk_frame_encode(frame, &f);
    union {
        char buf[CMSG_SPACE(4 * sizeof(int))];
        struct cmsghdr align;
    } u;
    struct iovec iov = {frame, YK_FRAME_HDR + yk_wr_len(&w)};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    const int fds[4] = {segment.fd_meta_ro, segment.fd_data, segment.fd_clients, filter_fd};
    size_t fd_bytes = (flags & YK_HELLO_FILTER) ? sizeof(fds) : 3 * sizeof(int);
    if (flags & YK_HELLO_MAP) {
        memset(&u, 0, sizeof(u));
        m.msg_control = u.buf;
        m.msg_controllen = CMSG_SPACE(fd_bytes);
        struct cmsghdr *h = CMSG_FIRSTHDR(&m);
        h->cmsg_level = SOL_SOCKET;
        h->cmsg_type = SCM_RIGHTS;
        h->cmsg_len = CMSG_LEN(fd_bytes);
        memcpy(CMSG_DATA(h), fds, fd_bytes);
    }
    if (sendmsg(fd, &m, MSG_NOSIGNAL) < 0)
        abort();
}

static void *listen_main(void *arg) {
    (void)arg;
    for (int fd; (fd = accept(listener, NULL, NULL)) >= 0;) {
        unsigned char hello[256];
        if (recv(fd, hello, sizeof(hello), 0) < 20)
            abort();
        uint32_t may = __atomic_load_n(&grant_filter, __ATOMIC_RELAXED)
                           ? YK_HELLO_MAP | YK_HELLO_FILTER
                           : YK_HELLO_MAP;
        uint32_t want = hello[YK_FRAME_HDR + 8];
        welcome(fd, want & ((want & YK_HELLO_MAP) ? may : (uint32_t)YK_HELLO_XFER));
        if (write(accepted[1], &fd, sizeof(fd)) != (ssize_t)sizeof(fd))
            abort();
    }
    return NULL;
}

static void remove_socket(void) {
    unlink(address.sun_path);
}

static uint64_t no_hash(const void *arg, uint32_t id) {
    (void)arg;
    return id;
}

static void no_prefetch(const void *arg, uint32_t id) {
    (void)arg;
    (void)id;
}

/* Not complete: it allows every key. */
static void make_filter(void) {
    struct yk_index_ids ids = {no_hash, no_prefetch, NULL, 256};
    struct yk_index index;
    filter_bytes = yk_filter_bytes(ids.max);
    filter_fd = memfd_create("filter", MFD_CLOEXEC);
    void *mem = filter_fd >= 0 && ftruncate(filter_fd, (off_t)filter_bytes) == 0
                    ? mmap(NULL, filter_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, filter_fd, 0)
                    : MAP_FAILED;
    if (mem == MAP_FAILED || yk_filter_make(mem, filter_bytes, &ids, &index) < 0)
        abort();
    munmap(mem, filter_bytes);
}

/* Half of the generations are held. */
static int far_pin(void *user, uint32_t op, uint64_t descriptor, uint64_t generation, uint64_t epoch,
                   uint64_t offset, uint64_t length, uint64_t *ret_pin) {
    (void)user;
    (void)op;
    (void)epoch;
    if (offset > sizeof(far_memory) || length > sizeof(far_memory) - offset)
        abort();
    *ret_pin = descriptor;
    return generation & 1 ? 0 : YK_MISS;
}

static void far_unpin(void *user, uint64_t pin) {
    (void)user;
    (void)pin;
}

static int far_publish(void *user, const char *name, const char *where) {
    (void)user;
    (void)name;
    snprintf(far_address, sizeof(far_address), "%s", where);
    return 0;
}

static int far_withdraw(void *user, const char *name) {
    (void)user;
    (void)name;
    return 0;
}

static int far_resolve(void *user, const char *name, char *ret, size_t cap) {
    (void)user;
    (void)name;
    (void)ret;
    (void)cap;
    return -YK_ENOENT;
}

/* Never destroyed: it ends with the process. */
static void make_engine(void) {
    static yk_xfer *engine;
    yk_xfer_resolver r = {sizeof(r), NULL, far_publish, far_withdraw, far_resolve};
    yk_xfer_opts o = {.size = sizeof(o), .resolver = &r};
    yk_xfer_guard_ops guard = {sizeof(guard), NULL, far_pin, far_unpin};
    yk_xfer_memory m = {.addr = far_memory,
                        .length = sizeof(far_memory),
                        .access = YK_XFER_REMOTE_READ | YK_XFER_REMOTE_WRITE | YK_XFER_REMOTE_GUARDED,
                        .fd = -1};
    if (yk_xfer_create(&o, &engine) < 0 || yk_xfer_register(engine, &m, 1) < 0 ||
        yk_xfer_publish(engine, "fuzz", far_memory, sizeof(far_memory), &guard) < 0)
        abort();
}

static void start(void) {
    pthread_t thread;
    struct yk_err err;
    struct yk_segment_opts o = {.data_bytes = 1u << 20,
                                .extents_bytes = 4096,
                                .max_blocks = 256,
                                .max_clients = 2,
                                .numa_node = -1};
    snprintf(address.sun_path, sizeof(address.sun_path), "/tmp/yk-fuzz-client-%d", (int)getpid());
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(listener, 8) < 0 || pipe(accepted) < 0 || yk_segment_open(&segment, &o, &err) < 0 ||
        pthread_create(&thread, NULL, listen_main, NULL) != 0)
        abort();
    make_filter();
    make_engine();
    atexit(remove_socket);
}

/* Writes the next frame of the input, or all that is left when it is none. */
static void answer(int fd, const uint8_t **data, size_t *size) {
    size_t n = *size;
    if (n >= YK_FRAME_HDR) {
        uint32_t body = (uint32_t)(*data)[0] | (uint32_t)(*data)[1] << 8 |
                        (uint32_t)(*data)[2] << 16 | (uint32_t)(*data)[3] << 24;
        if (body < n - YK_FRAME_HDR)
            n = YK_FRAME_HDR + body;
    }
    (void)!send(fd, *data, n, MSG_NOSIGNAL | MSG_DONTWAIT);
    *data += n;
    *size -= n;
}

#define OPS 10

/* Operations of all kinds at once, polled while the answers come in. */
static void many(yk_client *c, int fd, const uint8_t *data, size_t size) {
    static const uint32_t codes[OPS] = {YK_OP_PUT,    YK_OP_PUT,       YK_OP_PUT,   YK_OP_GET,
                                        YK_OP_GET,    YK_OP_GET_RANGE, YK_OP_TOUCH, YK_OP_EXISTS,
                                        YK_OP_EXISTS, YK_OP_REMOVE};
    char keys[OPS][2], buf[OPS][64];
    struct iovec iov[OPS];
    yk_op ops[OPS], *out[OPS];
    int ended = 0;
    memset(ops, 0, sizeof(ops));
    for (int i = 0; i < OPS; i++) {
        keys[i][0] = (char)('a' + i);
        iov[i] = (struct iovec){buf[i], i == 2 ? 33 : 32};
        memset(buf[i], i, sizeof(buf[i]));
        ops[i] = (yk_op){.opcode = codes[i], .key = {keys[i], 1}, .iov = &iov[i], .iov_count = 1};
    }
    if (yk_submit(c, ops, OPS, 0) != 0)
        abort();
    while (size > 0) {
        answer(fd, &data, &size);
        int n = yk_poll(c, out, OPS, 0);
        ended += n > 0 ? n : 0;
    }
    shutdown(fd, SHUT_RDWR);
    while (ended < OPS) {
        int n = yk_poll(c, out, OPS, 1000);
        if (n <= 0)
            abort(); /* one did not end */
        ended += n;
    }
    for (int i = 0; i < OPS; i++)
        if (ops[i].status == YK_PENDING || buf[i][40] != i)
            abort();
}

#define LISTS 8

/* The same of operations on lists, references and places. */
static void lists(yk_client *c, int fd, const uint8_t *data, size_t size) {
    yk_key keys[3] = {yk_key_str("a"), yk_key_str("b"), yk_key_str("c")};
    yk_block_info infos[4], info[2];
    yk_ref ref;
    yk_reservation r;
    yk_key_list list = {.size = sizeof(list), .keys = keys, .count = 3};
    yk_key_list told = {.size = sizeof(told), .keys = keys, .count = 3, .infos = infos};
    yk_op *out[LISTS],
        ops[LISTS] = {{.opcode = YK_OP_STAT, .key = keys[0], .info = &info[0]},
                      {.opcode = YK_OP_STAT, .key = keys[1], .info = &info[1]},
                      {.opcode = YK_OP_MATCH, .list = &list},
                      {.opcode = YK_OP_MATCH, .list = &told},
                      {.opcode = YK_OP_REF, .key = keys[1], .ref = &ref},
                      {.opcode = YK_OP_PREFETCH, .list = &list, .arg = 1},
                      {.opcode = YK_OP_REMOVE_MANY, .key = keys[2], .arg = YK_REMOVE_PREFIX},
                      {.opcode = YK_OP_RESERVE, .reservation = &r, .arg = 33}};
    int ended = 0;
    memset(&infos[3], 7, sizeof(infos[3]));
    if (yk_submit(c, ops, LISTS, 0) != 0)
        abort();
    while (size > 0) {
        answer(fd, &data, &size);
        int n = yk_poll(c, out, LISTS, 0);
        ended += n > 0 ? n : 0;
    }
    shutdown(fd, SHUT_RDWR);
    while (ended < LISTS) {
        int n = yk_poll(c, out, LISTS, 1000);
        if (n <= 0)
            abort(); /* one did not end */
        ended += n;
    }
    for (int i = 0; i < LISTS; i++)
        if (ops[i].status == YK_PENDING || (i >= 2 && i < 4 && ops[i].len > 3))
            abort();
    for (size_t i = 0; i < sizeof(infos[3]); i++)
        if (((const unsigned char *)&infos[3])[i] != 7)
            abort();
    yk_ref_release(c, &ref);
    if (ops[7].status == 0)
        (void)yk_abort(c, &r);
}

static int ignore(void *arg, yk_key key, const yk_block_info *info) {
    (void)arg;
    (void)info;
    return key.len > YK_KEY_MAX;
}

/* One call, whose answer is there already. */
static void single(yk_client *c, unsigned what) {
    const yk_key keys[3] = {yk_key_str("a"), yk_key_str("b"), yk_key_str("c")};
    yk_block_info infos[3];
    yk_ns_info spaces[2];
    yk_reservation r;
    yk_ref ref;
    uint64_t n;
    char *json;
    switch (what) {
    case 0:
        yk_match(c, keys, 3, NULL);
        break;
    case 1:
        yk_match(c, keys, 3, infos);
        break;
    case 2:
        yk_list(c, keys[0], ignore, NULL);
        break;
    case 3:
        if (yk_stats_json(c, &json) == 0)
            free(json);
        break;
    case 4:
        yk_ns_list(c, spaces, 2);
        break;
    case 5:
        yk_prefetch(c, keys, 3, YK_TIER_DRAM, 1);
        break;
    case 6:
        yk_remove_many(c, YK_REMOVE_PREFIX, keys[0], &n);
        break;
    case 7:
        yk_verify(c, keys, 3);
        break;
    case 8:
        if (yk_ref_get(c, keys[0], &ref) == 0)
            yk_ref_release(c, &ref);
        break;
    case 9:
        yk_ns_create(c, "x", 1);
        break;
    default:
        if (yk_reserve(c, 100, 0, &r) == 0) {
            memset(r.data, 1, r.len);
            yk_commit(c, &r, keys[0], NULL);
        }
    }
}

/* A filter that is the input. It may be refused; what is taken for one must hold what is asked of it. */
static void odd_filter(const char *url, const yk_open_opts *o, const uint8_t *data, size_t size) {
    yk_client *c;
    int fd;
    size_t n = size < filter_bytes ? size : (size_t)filter_bytes;
    if (pwrite(filter_fd, data, n, 0) != (ssize_t)n)
        abort();
    int rc = yk_open(url, o, &c);
    if (read(accepted[0], &fd, sizeof(fd)) != (ssize_t)sizeof(fd))
        abort();
    shutdown(fd, SHUT_RDWR);
    for (unsigned i = 0; rc == 0 && i < 64; i++)
        if (yk_exists(c, (yk_key){&i, sizeof(i)}) != 0)
            abort();
    if (rc == 0)
        yk_close(c);
    close(fd);
    close(filter_fd);
    make_filter();
}

/* First bytes: 0 and 1 many, mapped and not; 2 to 12 one call; 13 a welcome; then with tiers below DRAM:
 * many, the calls of single() that are other ones then, and a filter; lists, mapped and not; with a
 * transfer engine: many, and a reference. */
#define FIRST_LOWER 14u
static const unsigned lower_calls[] = {0, 1, 8, 10};
#define ODD_FILTER (FIRST_LOWER + 1u + (unsigned)(sizeof(lower_calls) / sizeof(lower_calls[0])))
#define FIRST_LIST (ODD_FILTER + 1u)
#define FIRST_FAR  (FIRST_LIST + 2u)
#define KINDS      (FIRST_FAR + 2u)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct yk_welcome ignored;
    yk_client *c;
    int fd;
    if (listener < 0)
        start();
    if (size == 0)
        return 0;
    unsigned what = data[0] % KINDS;
    data++;
    size--;
    if (what == 13) {
        (void)yk_dial_welcome(data, (uint32_t)size, &ignored, NULL);
        return 0;
    }
    char url[128];
    int lower = what >= FIRST_LOWER && what < FIRST_LIST;
    int mapped = what == 0 || what == 12 || lower || what == FIRST_LIST;
    yk_open_opts o = {.size = sizeof(o),
                      .timeout_ms = 5000,
                      .inflight_max = 16,
                      .flags = YK_OPEN_NO_RECONNECT | (mapped ? 0u : (uint32_t)YK_OPEN_NO_MAP) |
                               (what < FIRST_FAR ? (uint32_t)YK_OPEN_NO_XFER : 0u)};
    snprintf(url, sizeof(url), "unix:%s", address.sun_path);
    __atomic_store_n(&grant_filter, lower, __ATOMIC_RELAXED);
    if (what == ODD_FILTER) {
        odd_filter(url, &o, data, size);
        return 0;
    }
    if (yk_open(url, &o, &c) != 0)
        abort();
    if (read(accepted[0], &fd, sizeof(fd)) != (ssize_t)sizeof(fd))
        abort();
    yk_far_set_inline(c, 0);
    if (what < 2 || what == FIRST_LOWER || what == FIRST_FAR) {
        many(c, fd, data, size);
    } else if (what >= FIRST_LIST && what < FIRST_FAR) {
        lists(c, fd, data, size);
    } else {
        (void)!send(fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        shutdown(fd, SHUT_WR);
        single(c, what >= FIRST_FAR ? 8u : lower ? lower_calls[what - FIRST_LOWER - 1] : what - 2);
    }
    shutdown(fd, SHUT_RDWR);
    yk_close(c);
    close(fd);
    return 0;
}
