/* SPDX-License-Identifier: Apache-2.0
 *
 * `--wan`: the engine over a long way that loses packets: 50 ms there and back, 100 Mbit/s, of which one packet
 * in a hundred is lost each way (wan.h). The limit is the link's rate, headers included; beside it stands one plain TCP
 * connection, with the system's congestion control and with cubic.
 *
 *   child      the initiator, in a namespace of its own; makes both devices
 *   link       passes the packets
 *   host       the other namespace: the target, and what the plain connection reads from
 *
 * Namespaces and devices have no names that last: they go with their processes, however those end.
 *
 * Thread: one; processes as above.
 */
#include "bench/wan.h"
#include "bench/xfer_priv.h"

#include "base/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define LINK_BYTES_PER_S 12.5e6
#define PLAIN_PORT       5301
#define PLAIN_WAIT_S     10
#define SECONDS          10.0

struct wan {
    struct yk_bench_run *run;
    double seconds;
    int a, b;               /* the devices */
    int to_host, from_host; /* pipes; the host ends when the first is closed */
    int to_link;            /* the link does when this is */
    pid_t host, link, plain;
    char where[64];
};

/* ---- the other end --------------------------------------------------------------------------------- */

static int set_up(const char *address) {
    char text[160];
    snprintf(text, sizeof(text), "ip link set lo up && ip addr add %s/24 dev wan0 && ip link set wan0 txqueuelen 10000 up", address);
    return system(text) == 0 ? 0 : -YK_EIO;
}

/* Sends to whoever connects, as fast as it goes; the first byte says with which congestion control. */
static void plain_main(int listener) {
    static char block[64 << 10];
    for (;;) {
        char how;
        int fd = accept(listener, NULL, NULL);
        if (fd < 0 && errno != EINTR)
            _exit(1);
        if (fd >= 0 && recv(fd, &how, 1, 0) == 1 &&
            (how != 'c' || setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5) == 0))
            while (send(fd, block, sizeof(block), MSG_NOSIGNAL) > 0)
                continue;
        if (fd >= 0)
            close(fd);
    }
}

static pid_t plain_start(void) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(PLAIN_PORT)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(fd, 4) < 0)
        return -1;
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        plain_main(fd);
    }
    close(fd);
    return pid;
}

static void host_main(int tell, int hear) {
    struct xfer_target t;
    char byte;
    yk_xfer_opts o = {.size = sizeof(o), .transports = YK_XFER_TCP, .listen = "0.0.0.0:0", .insecure_network = 1,
                      .shm_dir = ""};
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (set_up("10.78.0.2") < 0)
        _exit(1);
    pid_t plain = plain_start();
    if (plain < 0 || xfer_target_start(&t, &o, 0) < 0)
        _exit(1);
    if (write(tell, t.address, sizeof(t.address)) == (ssize_t)sizeof(t.address))
        while (read(hear, &byte, 1) < 0 && errno == EINTR)
            continue;
    xfer_target_stop(&t);
    kill(plain, SIGKILL);
    waitpid(plain, NULL, 0);
    _exit(0);
}

/* ---- the rig ----------------------------------------------------------------------------------------- */

/* A namespace with the device; it stays this process's until the next. */
static int namespace_new(int *ret_device) {
    if (unshare(CLONE_NEWNET) < 0) {
        fprintf(stderr, "yolk bench: --wan needs root: it makes network namespaces (%s)\n", strerror(errno));
        return YK_BENCH_USAGE;
    }
    *ret_device = yk_wan_device("wan0");
    if (*ret_device < 0)
        fprintf(stderr, "yolk bench: no TUN device: %s\n", strerror(-*ret_device));
    return *ret_device < 0 ? YK_BENCH_USAGE : 0;
}

/* A child with one end of a pipe each way; it has no other of ours. -1: none. */
static pid_t child(int *ret_to, int *ret_from, int *ret_hear, int *ret_tell) {
    int down[2], up[2];
    if (pipe(down) < 0 || pipe(up) < 0)
        return -1;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        close(down[1]);
        close(up[0]);
        *ret_hear = down[0];
        *ret_tell = up[1];
        return 0;
    }
    close(down[0]);
    close(up[1]);
    *ret_to = down[1];
    *ret_from = up[0];
    return pid;
}

static int rig_open(struct wan *w) {
    struct yk_wan_opts o = {.delay_s = 0.025, .bytes_per_s = LINK_BYTES_PER_S, .loss = 0.01, .seed = w->run->seed};
    char address[512];
    int hear, tell, unused = -1;
    int rc = namespace_new(&w->b);
    if (rc != 0)
        return rc;
    w->host = child(&w->to_host, &w->from_host, &hear, &tell);
    if (w->host == 0)
        host_main(tell, hear);
    rc = w->host > 0 ? namespace_new(&w->a) : -YK_EIO;
    if (rc != 0)
        return rc;
    w->link = child(&w->to_link, &unused, &hear, &tell);
    if (w->link == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        close(w->to_host); /* else the host would not see its end */
        _exit(yk_wan_run(w->a, w->b, hear, &o, NULL) < 0);
    }
    close(unused);
    if (w->link < 0 || set_up("10.78.0.1") < 0)
        return -YK_EIO;
    for (size_t got = 0; got < sizeof(address);) {
        ssize_t n = read(w->from_host, address + got, sizeof(address) - got);
        if (n <= 0)
            return -YK_EGONE;
        got += (size_t)n;
    }
    address[sizeof(address) - 1] = 0;
    const char *port = strrchr(address, ':');
    snprintf(w->where, sizeof(w->where), "10.78.0.2%.8s/bench", port != NULL ? port : "");
    return 0;
}

static void end(int *fd, pid_t pid) {
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
    while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        continue;
}

static void rig_close(struct wan *w) {
    end(&w->to_host, w->host);
    end(&w->to_link, w->link);
    for (int i = 0; i < 3; i++) {
        int fd = i == 0 ? w->a : i == 1 ? w->b : w->from_host;
        if (fd >= 0)
            close(fd);
    }
}

/* ---- cases ------------------------------------------------------------------------------------------- */

static void row(struct wan *w, const char *name, double rate) {
    struct yk_bench_row r = YK_BENCH_ROW(name, "B/s", rate);
    r.limit = LINK_BYTES_PER_S;
    yk_bench_report_row(&w->run->report, &r);
}

/* One connection, read for a while; its first second does not count: it gets up to its rate. */
static int plain(struct wan *w, const char *name, char how) {
    static char block[256 << 10];
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(PLAIN_PORT)};
    struct timeval wait = {.tv_sec = PLAIN_WAIT_S};
    at.sin_addr.s_addr = htonl(0x0a4e0002);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), rc = -YK_EIO;
    uint64_t bytes = 0;
    if (fd < 0)
        return rc;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
    if (connect(fd, (struct sockaddr *)&at, sizeof(at)) == 0 && send(fd, &how, 1, MSG_NOSIGNAL) == 1) {
        uint64_t begun = yk_now_ns() + YK_NS_PER_S, until = begun + (uint64_t)(w->seconds * 1e9), now = 0;
        ssize_t n = 1;
        while (n > 0 && now < until) {
            n = recv(fd, block, sizeof(block), 0);
            now = yk_now_ns();
            bytes += n > 0 && now >= begun ? (uint64_t)n : 0;
        }
        rc = n > 0 ? 0 : -YK_EGONE;
        if (rc == 0)
            row(w, name, (double)bytes / ((double)(now - begun) / 1e9));
    }
    close(fd);
    return rc;
}

static int load(struct wan *w, const char *name, uint32_t op) {
    static struct yk_series s;
    struct xfer_side side;
    yk_xfer_opts o = {.size = sizeof(o), .transports = YK_XFER_TCP, .insecure_network = 1, .shm_dir = ""};
    int rc = xfer_side_open(&side, &o, w->where);
    if (rc < 0)
        return rc;
    struct xfer_load l = {.side = &side, .op = op, .xclass = YK_XFER_DEMAND, .bytes = MIB, .batch = 4, .deep = 4,
                          .threads = 1};
    memset(&s, 0, sizeof(s));
    s.many = xfer_load_many;
    s.arg = &l;
    s.per_round = (uint32_t)(w->seconds * LINK_BYTES_PER_S / MIB / 3) + 4;
    s.weight = (double)l.bytes;
    struct yk_series *one[] = {&s};
    rc = yk_measure(one, 1, w->seconds);
    xfer_side_close(&side);
    if (rc == 0)
        row(w, name, s.rate);
    return rc;
}

static int wants(struct wan *w, const char *name) {
    return yk_bench_wants(&w->run->report, (const char *const[]){name, NULL});
}

static int wan_child(struct yk_bench_run *run) {
    struct wan w = {.run = run, .a = -1, .b = -1, .to_host = -1, .from_host = -1, .to_link = -1};
    w.seconds = run->opts->quick ? 0.5 : run->opts->seconds > 0 ? run->opts->seconds / 4 : SECONDS;
    int rc = rig_open(&w);
    if (rc == 0)
        rc = plain(&w, "base one-connection", 'd');
    if (rc == 0)
        rc = plain(&w, "base one-connection cubic", 'c');
    if (rc == 0 && wants(&w, "wan read"))
        rc = load(&w, "wan read", YK_XFER_READ);
    if (rc == 0 && wants(&w, "wan write"))
        rc = load(&w, "wan write", YK_XFER_WRITE);
    rig_close(&w);
    return rc;
}

/* In a child: this process stays in its own namespace. */
int xfer_wan(struct yk_bench_run *run) {
    int status;
    if (system("command -v ip >/dev/null") != 0) {
        fprintf(stderr, "yolk bench: ip is not installed (package iproute2)\n");
        return YK_BENCH_NO_PEER;
    }
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0)
        return -YK_EIO;
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        int rc = wan_child(run);
        fflush(NULL);
        _exit(rc == 0 ? 0 : rc == YK_BENCH_USAGE ? 2 : 1);
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    if (!WIFEXITED(status) || WEXITSTATUS(status) == 1)
        return -YK_EIO;
    run->report.matched++; /* its rows were the child's */
    return WEXITSTATUS(status) == 2 ? YK_BENCH_USAGE : 0;
}
