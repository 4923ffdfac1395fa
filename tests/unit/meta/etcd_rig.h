/* SPDX-License-Identifier: Apache-2.0
 *
 * etcd clusters of the test's own: members on free ports of 127.0.0.1, data in a folder that goes with
 * them. A member dies with the test's thread, however that ends.
 *
 * Thread: the test's main thread.
 */
#ifndef YK_TEST_META_ETCD_RIG_H
#define YK_TEST_META_ETCD_RIG_H

#include <stdbool.h>
#include <sys/types.h>

struct yk_meta;
struct yk_meta_opts;

#define CLUSTER_MAX 3

struct cluster {
    char dir[64];
    unsigned count;
    pid_t pids[CLUSTER_MAX]; /* 0: not running */
    int client_ports[CLUSTER_MAX], peer_ports[CLUSTER_MAX];
    int tokens[2 * CLUSTER_MAX]; /* sockets that keep the ports from other tests */
    const char *extra[4]; /* further arguments of each member; NULL ends them */
    bool tls;             /* certificates lie in dir: ca.pem, server.pem, client.pem, *.key */
    char endpoints[256];
};

/* Why etcd cannot be run here, or NULL. */
const char *cluster_missing(void);

void cluster_start(struct cluster *c, unsigned count, bool tls, const char *extra);
void cluster_stop(struct cluster *c); /* kills, removes the folder */

void member_start(struct cluster *c, unsigned i);
void member_kill(struct cluster *c, unsigned i); /* SIGKILL, and waits for it */
void member_signal(struct cluster *c, unsigned i, int sig);
void member_wipe(struct cluster *c, unsigned i); /* its data; while it does not run */

/* Runs etcdctl against members that run (user: "name:password" or NULL); fails the test unless it exits
 * with 0 within 30 s. */
void cluster_ctl(struct cluster *c, const char *user, const char *args);

/* Which member leads; asks until there is one. */
unsigned cluster_leader(struct cluster *c);

/* A handle on all members (or, for >= 0, on one). o may be NULL. */
struct yk_meta *cluster_open(struct cluster *c, int member, struct yk_meta_opts *o);

#endif
