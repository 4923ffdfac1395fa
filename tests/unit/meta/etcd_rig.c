/* SPDX-License-Identifier: Apache-2.0
 *
 * etcd_rig.h. Nothing here waits for a member to be up: requests under test do that by themselves.
 */
#include "etcd_rig.h"

#include "rig.h"

#include "base/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static bool in_path(const char *name) {
    const char *path = getenv("PATH");
    char file[512];
    for (const char *at = path != NULL ? path : ""; *at != '\0';) {
        size_t len = strcspn(at, ":");
        snprintf(file, sizeof(file), "%.*s/%s", (int)len, at, name);
        if (access(file, X_OK) == 0)
            return true;
        at += len + (at[len] == ':');
    }
    return false;
}

const char *cluster_missing(void) {
    return !in_path("etcd")      ? "etcd is missing (etcd-server)"
           : !in_path("etcdctl") ? "etcdctl is missing (etcd-client)"
                                 : NULL;
}

static int bound(int type, int port) {
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    if (bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0)
        return fd;
    close(fd);
    return -1;
}

/* Not of those that the kernel gives to whoever dials: a member that is started, and started again, would find its port
 * taken, and its clients somebody else, now and then. While the cluster lives its ports are kept from other tests by
 * UDP sockets of the same numbers. */
static int take_port(int *ret_token) {
    static uint64_t at;
    at = at != 0 ? at : yk_now_ns() + (uint64_t)getpid() * 7919u;
    for (unsigned tries = 0; tries < 1000; tries++) {
        at = at * 6364136223846793005u + 1442695040888963407u;
        int port = 10000 + (int)((at >> 33) % 22000u), token = bound(SOCK_DGRAM, port);
        int fd = token >= 0 ? bound(SOCK_STREAM, port) : -1;
        if (fd >= 0) {
            close(fd);
            *ret_token = token;
            return port;
        }
        if (token >= 0)
            close(token);
    }
    fail_msg("no free port");
    return 0;
}

/* A child that dies with this thread; its output goes to the file. */
static pid_t spawn(const char *const *args, const char *log) {
    pid_t parent = getpid(), pid = fork();
    assert_true(pid >= 0);
    if (pid > 0)
        return pid;
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent || fd < 0)
        _exit(126);
    dup2(nothing, 0);
    dup2(fd, 1);
    dup2(fd, 2);
    execvp(args[0], (char *const *)(uintptr_t)args);
    _exit(127);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw) {
    return remove(path);
}

static void remove_tree(const char *path) {
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* A test that failed leaves its cluster; it goes when the program does, members before their folders. */
static pid_t owner;
static pid_t live_pids[64];
static char live_dirs[32][64];

static void clean_up(void) {
    if (getpid() != owner)
        return;
    for (unsigned i = 0; i < 64; i++)
        if (live_pids[i] != 0 && kill(live_pids[i], SIGKILL) == 0)
            waitpid(live_pids[i], NULL, 0);
    for (unsigned i = 0; i < 32; i++)
        if (live_dirs[i][0] != '\0')
            remove_tree(live_dirs[i]);
}

static void note_dir(const char *dir) {
    if (owner == 0) {
        owner = getpid();
        atexit(clean_up);
    }
    for (unsigned i = 0; i < 32; i++)
        if (live_dirs[i][0] == '\0') {
            snprintf(live_dirs[i], sizeof(live_dirs[i]), "%s", dir);
            return;
        }
}

static void note_pid(pid_t was, pid_t is) {
    for (unsigned i = 0; i < 64; i++)
        if (live_pids[i] == was) {
            live_pids[i] = is;
            return;
        }
}

void member_start(struct cluster *c, unsigned i) {
    static char text[16][512];
    const char *args[40], *scheme = c->tls ? "https" : "http";
    unsigned n = 0, t = 0;
    char log[128];
    assert_int_equal(c->pids[i], 0);
    snprintf(log, sizeof(log), "%s/m%u.log", c->dir, i);
#define ARG(name, ...)                                                                             \
    do {                                                                                           \
        args[n++] = name;                                                                          \
        snprintf(text[t], sizeof(text[t]), __VA_ARGS__);                                           \
        args[n++] = text[t++];                                                                     \
    } while (0)
    args[n++] = "etcd";
    ARG("--name", "m%u", i);
    ARG("--data-dir", "%s/m%u", c->dir, i);
    ARG("--listen-client-urls", "%s://127.0.0.1:%d", scheme, c->client_ports[i]);
    ARG("--advertise-client-urls", "%s://127.0.0.1:%d", scheme, c->client_ports[i]);
    ARG("--listen-peer-urls", "http://127.0.0.1:%d", c->peer_ports[i]);
    ARG("--initial-advertise-peer-urls", "http://127.0.0.1:%d", c->peer_ports[i]);
    args[n++] = "--initial-cluster";
    char *all = text[t++];
    args[n++] = all;
    for (unsigned k = 0, at = 0; k < c->count; k++)
        at += (unsigned)snprintf(all + at, sizeof(text[0]) - at, "%sm%u=http://127.0.0.1:%d",
                                 k > 0 ? "," : "", k, c->peer_ports[k]);
    if (c->tls) {
        ARG("--cert-file", "%s/server.pem", c->dir);
        ARG("--key-file", "%s/server.key", c->dir);
        ARG("--trusted-ca-file", "%s/ca.pem", c->dir);
        args[n++] = "--client-cert-auth";
    }
#undef ARG
    for (unsigned k = 0; c->extra[k] != NULL; k++)
        args[n++] = c->extra[k];
    args[n] = NULL;
    c->pids[i] = spawn(args, log);
    note_pid(0, c->pids[i]);
}

void member_signal(struct cluster *c, unsigned i, int sig) {
    if (c->pids[i] != 0)
        kill(c->pids[i], sig);
}

void member_kill(struct cluster *c, unsigned i) {
    if (c->pids[i] == 0)
        return;
    kill(c->pids[i], SIGKILL);
    while (waitpid(c->pids[i], NULL, 0) < 0 && errno == EINTR) {
    }
    note_pid(c->pids[i], 0);
    c->pids[i] = 0;
}

void member_wipe(struct cluster *c, unsigned i) {
    char path[128];
    snprintf(path, sizeof(path), "%s/m%u", c->dir, i);
    remove_tree(path);
}

static void make_certificates(struct cluster *c) {
    static const char script[] =
        "cd \"$1\" && exec >openssl.log 2>&1 </dev/null && set -e\n"
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj "
        "/CN=test-ca\n"
        "for n in server client; do\n"
        "openssl req -newkey rsa:2048 -nodes -keyout $n.key -out $n.csr -subj /CN=$n\n"
        "printf 'subjectAltName=IP:127.0.0.1\\nextendedKeyUsage=serverAuth,clientAuth\\n' >$n.ext\n"
        "openssl x509 -req -in $n.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out $n.pem -days 2 "
        "-extfile $n.ext\n"
        "done\n"
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout other.key -out other.pem -days 2 "
        "-subj /CN=other-ca\n";
    const char *args[] = {"sh", "-c", script, "sh", c->dir, NULL};
    int status = -1;
    pid_t pid = spawn(args, "/dev/null");
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

void cluster_start(struct cluster *c, unsigned count, bool tls, const char *extra) {
    const char *tmp = getenv("TMPDIR");
    size_t at = 0;
    memset(c, 0, sizeof(*c));
    c->count = count;
    c->tls = tls;
    c->extra[0] = extra;
    /* Memory: these tests wait for elections, not for disks. */
    snprintf(c->dir, sizeof(c->dir), "%s/yolk-etcd-XXXXXX",
             tmp != NULL && strlen(tmp) < 40               ? tmp
             : access("/dev/shm", R_OK | W_OK | X_OK) == 0 ? "/dev/shm"
                                                           : "/tmp");
    assert_non_null(mkdtemp(c->dir));
    note_dir(c->dir);
    if (tls)
        make_certificates(c);
    for (unsigned i = 0; i < count; i++) {
        c->client_ports[i] = take_port(&c->tokens[2 * i]);
        c->peer_ports[i] = take_port(&c->tokens[2 * i + 1]);
        at += (size_t)snprintf(c->endpoints + at, sizeof(c->endpoints) - at, "%s%s://127.0.0.1:%d",
                               i > 0 ? "," : "", tls ? "https" : "http", c->client_ports[i]);
    }
    for (unsigned i = 0; i < count; i++)
        member_start(c, i);
}

void cluster_stop(struct cluster *c) {
    for (unsigned i = 0; i < c->count; i++)
        member_kill(c, i);
    for (unsigned i = 0; i < 2 * c->count; i++)
        close(c->tokens[i]);
    remove_tree(c->dir);
    for (unsigned i = 0; i < 32; i++)
        if (strcmp(live_dirs[i], c->dir) == 0)
            live_dirs[i][0] = '\0';
    c->count = 0;
}

static int run_ctl(struct cluster *c, const char *user, const char *args, const char *out) {
    char command[1024], members[256];
    size_t at = 0;
    int status = -1;
    for (unsigned i = 0; i < c->count; i++)
        if (c->pids[i] != 0)
            at +=
                (size_t)snprintf(members + at, sizeof(members) - at, "%s%s://127.0.0.1:%d",
                                 at > 0 ? "," : "", c->tls ? "https" : "http", c->client_ports[i]);
    snprintf(
        command, sizeof(command),
        "exec timeout 30 etcdctl --endpoints %s %s%s --command-timeout 20s %s >%s 2>>%s/ctl.log",
        members, user != NULL ? "--user " : "", user != NULL ? user : "", args, out, c->dir);
    setenv("ETCDCTL_API", "3", 1);
    const char *run[] = {"sh", "-c", command, NULL};
    pid_t pid = spawn(run, "/dev/null");
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return status;
}

void cluster_ctl(struct cluster *c, const char *user, const char *args) {
    int status = run_ctl(c, user, args, "/dev/null");
    if (status != 0)
        fail_msg("etcdctl %s ended with status %d", args, status);
}

/* A line a member: "endpoint, id, version, size, is leader, is learner, term, index, applied, errors". */
unsigned cluster_leader(struct cluster *c) {
    char out[96], line[512], url[64];
    uint64_t end = yk_boot_ms() + RIG_WAIT_MS;
    snprintf(out, sizeof(out), "%s/status", c->dir);
    for (;;) {
        assert_true(yk_boot_ms() < end);
        run_ctl(c, NULL, "endpoint status", out);
        FILE *f = fopen(out, "r");
        int leader = -1;
        while (f != NULL && fgets(line, sizeof(line), f) != NULL)
            for (unsigned i = 0; i < c->count; i++) {
                char *field = line;
                snprintf(url, sizeof(url), "127.0.0.1:%d,", c->client_ports[i]);
                for (unsigned k = 0; k < 4 && field != NULL; k++)
                    field = (field = strchr(field, ',')) != NULL ? field + 1 : NULL;
                if (strstr(line, url) != NULL && field != NULL && strncmp(field, " true", 5) == 0)
                    leader = (int)i;
            }
        if (f != NULL)
            fclose(f);
        if (leader >= 0)
            return (unsigned)leader;
    }
}

struct yk_meta *cluster_open(struct cluster *c, int member, struct yk_meta_opts *o) {
    struct yk_meta_opts opts = {0};
    struct yk_meta *m = NULL;
    struct yk_err err = {0};
    char one[64];
    if (o != NULL)
        opts = *o;
    snprintf(one, sizeof(one), "%s://127.0.0.1:%d", c->tls ? "https" : "http",
             member >= 0 ? c->client_ports[member] : 0);
    if (opts.endpoints == NULL)
        opts.endpoints = member >= 0 ? one : c->endpoints;
    if (yk_meta_open(&opts, &m, &err) < 0)
        fail_msg("%s", err.text);
    assert_string_equal(yk_meta_backend_name(m), "etcd");
    return m;
}
