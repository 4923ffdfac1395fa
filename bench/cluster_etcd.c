/* SPDX-License-Identifier: Apache-2.0
 *
 * etcd's members (cluster_priv.h): children that end with this process. Their data lies in the run's folder in memory. Which one
 * leads is asked of the JSON gateway, by one request a connection: src/meta has no word for it, and needs none.
 *
 * Threads: one.
 */
#include "bench/cluster_priv.h"

#include "base/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <jansson.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define WAIT_NS  (30 * YK_NS_PER_S)
#define REPLY_MS 500

static int on_path(const char *name) {
    const char *path = getenv("PATH");
    char full[4096];
    while (path != NULL && *path != '\0') {
        size_t n = strcspn(path, ":");
        snprintf(full, sizeof(full), "%.*s/%s", (int)n, path, name);
        if (access(full, X_OK) == 0)
            return 1;
        path += n + (path[n] == ':');
    }
    return 0;
}

/* ---- a member ----------------------------------------------------------------------------------------- */

static void member_main(const struct cluster_etcd *e, uint32_t i) {
    char name[16], client[48], peer[48], all[256] = "", log[160];
    for (uint32_t k = 0; k < e->count; k++)
        snprintf(all + strlen(all), sizeof(all) - strlen(all), "%sm%u=http://127.0.0.1:%u", k > 0 ? "," : "", k,
                 e->at[k].peer_port);
    snprintf(name, sizeof(name), "m%u", i);
    snprintf(client, sizeof(client), "http://127.0.0.1:%u", e->at[i].port);
    snprintf(peer, sizeof(peer), "http://127.0.0.1:%u", e->at[i].peer_port);
    snprintf(log, sizeof(log), "%s.log", e->at[i].dir);
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600), none = open("/dev/null", O_RDONLY);
    if (fd < 0 || none < 0 || dup2(none, 0) < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0)
        _exit(1);
    execlp("etcd", "etcd", "--name", name, "--data-dir", e->at[i].dir, "--listen-client-urls", client,
           "--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
           "--initial-cluster", all, (char *)NULL);
    _exit(127);
}

static int member_start(struct cluster_etcd *e, uint32_t i) {
    pid_t parent = getpid();
    e->at[i].pid = fork();
    if (e->at[i].pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        member_main(e, i);
    }
    if (e->at[i].pid > 0)
        return 0;
    e->at[i].pid = 0;
    return -YK_EIO;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw) {
    return remove(path);
}

int cluster_etcd_again(struct cluster_etcd *e, uint32_t i, int empty) {
    if (empty)
        nftw(e->at[i].dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return member_start(e, i);
}

void cluster_etcd_kill(struct cluster_etcd *e, uint32_t i) {
    cluster_reap(&e->at[i].pid, 0);
}

/* ---- who leads ---------------------------------------------------------------------------------------- */

/* The reply's bytes with its head; 0: none came. */
static size_t ask(unsigned port, char *reply, size_t cap) {
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval wait = {0, REPLY_MS * 1000};
    static const char request[] = "POST /v3/maintenance/status HTTP/1.0\r\nHost: etcd\r\nContent-Length: 2\r\n\r\n{}";
    size_t len = 0;
    ssize_t n = 0;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return 0;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
    if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0 &&
        send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL) == (ssize_t)sizeof(request) - 1)
        while (len < cap - 1 && (n = recv(fd, reply + len, cap - 1 - len, 0)) > 0)
            len += (size_t)n;
    close(fd);
    reply[len] = '\0';
    return len;
}

static int leads(const struct cluster_etcd *e, uint32_t i) {
    char reply[4096];
    const char *leader = NULL, *self = NULL;
    if (e->at[i].pid == 0 || ask(e->at[i].port, reply, sizeof(reply)) == 0)
        return 0;
    const char *body = strstr(reply, "\r\n\r\n");
    json_t *j = body != NULL ? json_loads(body + 4, 0, NULL) : NULL;
    if (j == NULL)
        return 0;
    leader = json_string_value(json_object_get(j, "leader"));
    self = json_string_value(json_object_get(json_object_get(j, "header"), "member_id"));
    int yes = leader != NULL && self != NULL && strcmp(leader, self) == 0;
    json_decref(j);
    return yes;
}

int cluster_etcd_leader(struct cluster_etcd *e) {
    for (uint32_t i = 0; i < e->count; i++)
        if (leads(e, i))
            return (int)i;
    return -1;
}

int cluster_etcd_wait(struct cluster_etcd *e) {
    uint64_t until = yk_now_ns() + WAIT_NS;
    while (cluster_etcd_leader(e) < 0) {
        if (yk_now_ns() > until) {
            fprintf(stderr, "yolk bench: etcd has no leader after 30 s\n");
            return -YK_ETIMEDOUT;
        }
        cluster_pause_ms(20);
    }
    return 0;
}

int cluster_etcd_start(struct cluster_etcd *e, const struct cluster_place *place, uint32_t count) {
    int rc = 0;
    static unsigned runs;
    *e = (struct cluster_etcd){.count = count, .place = place};
    if (!on_path("etcd")) {
        static int told;
        if (told++ == 0)
            fprintf(stderr, "yolk bench: etcd is not installed (package etcd-server): cases with it are left out\n");
        return YK_BENCH_NO_PEER;
    }
    runs++;
    for (uint32_t i = 0; i < count; i++) {
        e->at[i].port = cluster_port();
        e->at[i].peer_port = cluster_port();
        snprintf(e->at[i].dir, sizeof(e->at[i].dir), "%s/etcd%u-%u",
                 place->memory[0] != '\0' ? place->memory : place->dir, runs, i);
        snprintf(e->urls + strlen(e->urls), sizeof(e->urls) - strlen(e->urls), "%shttp://127.0.0.1:%u", i > 0 ? "," : "",
                 e->at[i].port);
    }
    for (uint32_t i = 0; i < count && rc == 0; i++)
        rc = member_start(e, i);
    if (rc == 0)
        rc = cluster_etcd_wait(e);
    if (rc < 0)
        cluster_etcd_stop(e);
    return rc;
}

void cluster_etcd_stop(struct cluster_etcd *e) {
    for (uint32_t i = 0; i < e->count; i++)
        cluster_etcd_kill(e, i);
}
