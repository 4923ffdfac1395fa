/* SPDX-License-Identifier: Apache-2.0
 *
 * The keeper of a cluster of one's own (src/replay/many.h): network, etcd, nodes, and their end.
 *
 * It waits for three things at once: the life pipe's end, a child's end (signalfd) and the nodes' READY=1, which they
 * send as they would to a service manager. Every wait has a limit: what does not serve by START_MS is an error, what
 * does not stop by STOP_MS is killed.
 *
 * Threads: one.
 */
#include "replay/many_priv.h"

#include "base/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define START_MS 60000 /* a node leaves an empty etcd to others for 2 s; on a busy machine all takes longer */
#define STOP_MS  20000 /* a node stops in less than its own 10 s */
#define ETCD_LOOK_MS 50
#define ARGS_MAX 24
#define ARG_MAX_BYTES 200

struct keeper {
    const struct yk_many_opts *o;
    struct yk_many *m;
    struct yk_err err;
    int life_fd, child_fd, notify_fd;
    char host[16]; /* of etcd */
    int port[2];   /* of etcd: clients, peers */
    pid_t etcd, node[YK_MANY_MAX];
    uint32_t ready;
};

/* ---- commands ----------------------------------------------------------------------------------- */

static int command(struct keeper *k, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int command(struct keeper *k, const char *fmt, ...) {
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    int rc = system(text);
    return rc == 0 ? 0 : yk_err_set(&k->err, -YK_EIO, "'%.150s' failed with %d", text, rc);
}

static int is_there(const char *program) {
    char text[128];
    snprintf(text, sizeof(text), "command -v %s >/dev/null 2>&1", program);
    return system(text) == 0;
}

struct args {
    char text[ARGS_MAX][ARG_MAX_BYTES];
    char *list[ARGS_MAX + 1];
    int count;
};

static void arg(struct args *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void arg(struct args *a, const char *fmt, ...) {
    va_list ap;
    if (a->count == ARGS_MAX)
        return;
    va_start(ap, fmt);
    vsnprintf(a->text[a->count], ARG_MAX_BYTES, fmt, ap);
    va_end(ap);
    a->list[a->count] = a->text[a->count];
    a->list[++a->count] = NULL;
}

/* In the child: becomes the program, with its output in a file of the folder. */
static void become(const struct keeper *k, struct args *a, const char *name) __attribute__((noreturn));
static void become(const struct keeper *k, struct args *a, const char *name) {
    char path[160];
    sigset_t none;
    snprintf(path, sizeof(path), "%s/%s.log", k->m->dir, name);
    int log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600), in = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (log < 0 || in < 0 || dup2(in, 0) < 0 || dup2(log, 1) < 0 || dup2(log, 2) < 0)
        _exit(127);
    signal(SIGINT, SIG_IGN); /* the terminal's is the run's; the keeper stops us */
    signal(SIGTERM, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execvp(a->list[0], a->list);
    fprintf(stderr, "%s: %s\n", a->list[0], strerror(errno));
    _exit(127);
}

/* Ends with the keeper, however that ends. */
static pid_t child(struct keeper *k) {
    pid_t keeper = getpid(), pid = fork();
    if (pid < 0)
        return yk_err_set(&k->err, -YK_EIO, "fork: %s", strerror(errno));
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != keeper)
            _exit(1);
    }
    return pid;
}

/* The last line of a program's log. */
static void last_line(const struct keeper *k, const char *name, char *ret, size_t size) {
    char path[160], line[YK_ERR_TEXT_MAX];
    snprintf(path, sizeof(path), "%s/%s.log", k->m->dir, name);
    FILE *f = fopen(path, "re");
    ret[0] = '\0';
    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (line[0] != '\0')
            snprintf(ret, size, "%.200s", line);
    }
    if (f != NULL)
        fclose(f);
}

/* ---- network ------------------------------------------------------------------------------------ */

/* A namespace of the keeper's own with a bridge, as root; else addresses of this host. */
static int network(struct keeper *k) {
    k->m->apart = geteuid() == 0 && is_there("ip") && unshare(CLONE_NEWNET) == 0;
    snprintf(k->host, sizeof(k->host), "%s", k->m->apart ? "10.78.0.254" : "127.0.0.1");
    if (!k->m->apart)
        return 0;
    return command(k, "ip link set lo up && ip link add name switch type bridge && "
                      "ip address add %s/24 dev switch && ip link set switch up",
                   k->host);
}

static void node_host(const struct keeper *k, uint32_t i, char ret[16]) {
    snprintf(ret, 16, k->m->apart ? "10.78.0.%u" : "127.0.0.1", i + 1u);
}

/* In the node's process: its end of the link, once the keeper has made it. */
static void node_network(uint32_t i, int tell, int hear) {
    char text[200], byte = 'x';
    if (unshare(CLONE_NEWNET) < 0 || write(tell, &byte, 1) != 1 || read(hear, &byte, 1) != 1)
        _exit(127);
    snprintf(text, sizeof(text), "ip link set lo up && ip address add 10.78.0.%u/24 dev eth0 && ip link set eth0 up",
             i + 1u);
    if (system(text) != 0)
        _exit(127);
}

static int link_node(struct keeper *k, uint32_t i, int hear, int tell) {
    char byte;
    if (read(hear, &byte, 1) != 1)
        return yk_err_set(&k->err, -YK_EIO, "node %u got no network namespace", i + 1u);
    int rc = command(k, "ip link add name port%u type veth peer name eth0 netns %d && "
                        "ip link set port%u master switch && ip link set port%u up",
                     i + 1u, (int)k->node[i], i + 1u, i + 1u);
    return rc < 0 || write(tell, "x", 1) == 1 ? rc : yk_err_set(&k->err, -YK_EGONE, "node %u ended", i + 1u);
}

/* ---- etcd --------------------------------------------------------------------------------------- */

static int free_port(void) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), port = 0;
    if (fd >= 0 && bind(fd, (struct sockaddr *)&a, len) == 0 && getsockname(fd, (struct sockaddr *)&a, &len) == 0)
        port = ntohs(a.sin_port);
    if (fd >= 0)
        close(fd);
    return port;
}

static int start_etcd(struct keeper *k) {
    struct args a = {.count = 0};
    if (!is_there("etcd"))
        return yk_err_set(&k->err, -YK_ENOENT, "there is no etcd: install etcd-server");
    for (int i = 0; i < 2; i++)
        k->port[i] = k->m->apart ? 2379 + i : free_port();
    arg(&a, "etcd");
    arg(&a, "--data-dir=%s/etcd", k->m->dir);
    arg(&a, "--listen-client-urls=http://%s:%d", k->host, k->port[0]);
    arg(&a, "--advertise-client-urls=http://%s:%d", k->host, k->port[0]);
    arg(&a, "--listen-peer-urls=http://%s:%d", k->host, k->port[1]);
    arg(&a, "--initial-advertise-peer-urls=http://%s:%d", k->host, k->port[1]);
    arg(&a, "--initial-cluster=default=http://%s:%d", k->host, k->port[1]);
    k->etcd = child(k);
    if (k->etcd == 0)
        become(k, &a, "etcd");
    return k->etcd < 0 ? k->err.code : 0;
}

/* ---- nodes -------------------------------------------------------------------------------------- */

/* yolkd beside this program, where it is installed or built; else in the PATH. */
static void find_yolkd(char ret[ARG_MAX_BYTES]) {
    static const char *const beside[] = {"/yolkd", "/../yolkd/yolkd"};
    char self[120];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    self[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(self, '/');
    if (slash != NULL)
        *slash = '\0';
    for (size_t i = 0; i < sizeof(beside) / sizeof(beside[0]) && slash != NULL; i++) {
        snprintf(ret, ARG_MAX_BYTES, "%s%s", self, beside[i]);
        if (access(ret, X_OK) == 0)
            return;
    }
    snprintf(ret, ARG_MAX_BYTES, "yolkd");
}

static void node_args(const struct keeper *k, uint32_t i, struct args *a) {
    const struct yk_many_opts *o = k->o;
    char yolkd[ARG_MAX_BYTES], host[16];
    find_yolkd(yolkd);
    node_host(k, i, host);
    arg(a, "%s", yolkd);
    arg(a, "--etcd=http://%s:%d", k->host, k->port[0]);
    arg(a, "--node-name=n%u", i + 1u);
    arg(a, "--name=n%u", i + 1u);
    arg(a, "--ephemeral");
    arg(a, "--state-dir=%s/n%u", k->m->dir, i + 1u);
    arg(a, "--listen=%s", k->m->url[i]);
    arg(a, "--peer-listen=%s:0", host);
    arg(a, "--http=none");
    arg(a, "--dram=%llu", (unsigned long long)o->dram_bytes);
    arg(a, "--capacity-blocks=%llu", (unsigned long long)o->capacity_blocks);
    arg(a, "--max-clients=%u", o->max_clients);
    arg(a, "--policy=%s", o->policy != NULL ? o->policy : "lru");
    if (k->m->apart)
        arg(a, "--insecure-network");
    if (o->ssd_bytes > 0) {
        arg(a, "--ssd=%s/n%u.ssd:%llu", k->m->dir, i + 1u, (unsigned long long)o->ssd_bytes);
        arg(a, "--ssd-segment=%llu", (unsigned long long)o->ssd_segment_bytes);
        arg(a, "--ssd-capacity-blocks=%llu", (unsigned long long)o->ssd_capacity_blocks);
    }
}

static int start_node(struct keeper *k, uint32_t i) {
    int to[2], from[2];
    char name[16];
    struct args a = {.count = 0};
    if (pipe2(to, O_CLOEXEC) < 0)
        return yk_err_set(&k->err, -YK_EIO, "pipe: %s", strerror(errno));
    if (pipe2(from, O_CLOEXEC) < 0) {
        close(to[0]);
        close(to[1]);
        return yk_err_set(&k->err, -YK_EIO, "pipe: %s", strerror(errno));
    }
    k->node[i] = child(k);
    if (k->node[i] == 0) {
        close(to[1]);
        close(from[0]);
        if (k->m->apart)
            node_network(i, from[1], to[0]);
        node_args(k, i, &a);
        snprintf(name, sizeof(name), "n%u", i + 1u);
        become(k, &a, name);
    }
    close(to[0]);
    close(from[1]);
    int rc = k->node[i] < 0 ? k->err.code : k->m->apart ? link_node(k, i, from[0], to[1]) : 0;
    close(to[1]);
    close(from[0]);
    return rc;
}

/* ---- waiting ------------------------------------------------------------------------------------ */

/* Nodes tell this socket what they would tell a service manager. */
static int notify_open(struct keeper *k) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof(a.sun_path), "%s/notify", k->m->dir);
    k->notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (k->notify_fd < 0 || bind(k->notify_fd, (struct sockaddr *)&a, sizeof(a)) < 0 ||
        setenv("NOTIFY_SOCKET", a.sun_path, 1) < 0)
        return yk_err_set(&k->err, -YK_EIO, "a socket for the nodes' readiness: %s", strerror(errno));
    return 0;
}

static void take_notices(struct keeper *k) {
    char text[512];
    ssize_t n;
    while ((n = recv(k->notify_fd, text, sizeof(text) - 1, MSG_DONTWAIT)) > 0) {
        text[n] = '\0';
        k->ready += strncmp(text, "READY=1", 7) == 0;
    }
}

/* Has one of those that are to stay ended? */
static int check_children(struct keeper *k) {
    struct signalfd_siginfo info;
    char name[16] = "etcd", line[YK_ERR_TEXT_MAX];
    (void)!read(k->child_fd, &info, sizeof(info));
    for (uint32_t i = 0; i <= k->m->nodes; i++) {
        pid_t *pid = i < k->m->nodes ? &k->node[i] : &k->etcd;
        if (*pid <= 0 || waitpid(*pid, NULL, WNOHANG) != *pid)
            continue;
        *pid = 0;
        if (i < k->m->nodes)
            snprintf(name, sizeof(name), "n%u", i + 1u);
        last_line(k, name, line, sizeof(line));
        return yk_err_set(&k->err, -YK_EGONE, "%s ended: %.180s", name, line[0] != '\0' ? line : "without a word");
    }
    return 0;
}

/* One turn: 0, -YK_ECANCELED (the run is over), or what check_children says. */
static int turn(struct keeper *k, int timeout_ms) {
    struct pollfd p[3] = {{k->life_fd, POLLIN, 0}, {k->child_fd, POLLIN, 0}, {k->notify_fd, POLLIN, 0}};
    if (poll(p, 3, timeout_ms) < 0 && errno != EINTR)
        return yk_err_set(&k->err, -YK_EIO, "poll: %s", strerror(errno));
    if (p[0].revents != 0)
        return yk_err_set(&k->err, -YK_ECANCELED, "interrupted");
    take_notices(k);
    return p[1].revents != 0 ? check_children(k) : 0;
}

static int wait_ready(struct keeper *k) {
    uint64_t until = yk_now_ns() + START_MS * YK_NS_PER_MS;
    int rc = 0;
    while (rc == 0 && k->ready < k->m->nodes) {
        uint64_t now = yk_now_ns();
        if (now >= until)
            return yk_err_set(&k->err, -YK_ETIMEDOUT, "%u of %u nodes serve after %d s", k->ready, k->m->nodes,
                              START_MS / 1000);
        rc = turn(k, (int)((until - now) / YK_NS_PER_MS) + 1);
    }
    return rc;
}

/* Does etcd say that it is well? (It tells a service manager only where that is systemd.) */
static int etcd_is_well(const struct keeper *k) {
    static const char request[] = "GET /health HTTP/1.0\r\n\r\n";
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)k->port[0])};
    struct timeval patience = {1, 0};
    char text[1024];
    ssize_t n, len = 0;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || inet_pton(AF_INET, k->host, &a.sin_addr) != 1)
        return 0;
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0 &&
        send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL) == (ssize_t)sizeof(request) - 1)
        while (len < (ssize_t)sizeof(text) - 1 && (n = recv(fd, text + len, sizeof(text) - 1 - (size_t)len, 0)) > 0)
            len += n;
    close(fd);
    text[len] = '\0';
    return strstr(text, "\"true\"") != NULL;
}

static int wait_etcd(struct keeper *k) {
    uint64_t until = yk_now_ns() + START_MS * YK_NS_PER_MS;
    int rc = 0;
    while (rc == 0 && !etcd_is_well(k)) {
        if (yk_now_ns() >= until)
            return yk_err_set(&k->err, -YK_ETIMEDOUT, "etcd does not serve after %d s", START_MS / 1000);
        rc = turn(k, ETCD_LOOK_MS);
    }
    return rc;
}

/* ---- the end ------------------------------------------------------------------------------------ */

static void end_one(pid_t *pid, uint64_t until_ns) {
    while (*pid > 0 && waitpid(*pid, NULL, WNOHANG) == 0) {
        if (yk_now_ns() >= until_ns)
            kill(*pid, SIGKILL);
        poll(NULL, 0, 5);
    }
    *pid = 0;
}

/* Nodes first: they give their leases back. */
static void end_all(struct keeper *k) {
    uint64_t until = yk_now_ns() + STOP_MS * YK_NS_PER_MS;
    for (uint32_t i = 0; i < k->m->nodes; i++)
        if (k->node[i] > 0)
            kill(k->node[i], SIGTERM);
    for (uint32_t i = 0; i < k->m->nodes; i++)
        end_one(&k->node[i], until);
    if (k->etcd > 0)
        kill(k->etcd, SIGTERM);
    end_one(&k->etcd, yk_now_ns() + STOP_MS / 4 * YK_NS_PER_MS);
    many_remove(k->m->dir);
}

/* ---- the whole ---------------------------------------------------------------------------------- */

static int begin(struct keeper *k) {
    int rc = network(k);
    if (rc == 0)
        rc = start_etcd(k);
    if (rc == 0) /* after it: etcd might tell, too */
        rc = notify_open(k);
    if (rc == 0)
        rc = wait_etcd(k);
    for (uint32_t i = 0; i < k->m->nodes && rc == 0; i++)
        rc = start_node(k, i);
    return rc == 0 ? wait_ready(k) : rc;
}

static void signals(struct keeper *k) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    k->child_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    sigprocmask(SIG_SETMASK, &set, NULL);
}

void many_keep(const struct yk_many_opts *o, struct yk_many *m, int life_fd, int report_fd) {
    struct keeper k = {.o = o, .m = m, .life_fd = life_fd, .notify_fd = -1};
    prctl(PR_SET_NAME, "yolk-keeper");
    signals(&k);
    int rc = begin(&k), told = yk_kept_tell(report_fd, rc, m->apart, k.err.text);
    /* One that ends in the middle is told by the calls of its clients, which fail. */
    while (rc == 0 && told && turn(&k, -1) != -YK_ECANCELED)
        continue;
    end_all(&k);
}
