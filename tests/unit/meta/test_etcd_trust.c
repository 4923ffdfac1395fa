/* SPDX-License-Identifier: Apache-2.0
 *
 * Users and passwords, TLS, and what is not the etcd that was meant: each with the text that says what was
 * found and what to do. Also etcd's space quota, and clusters in which only some endpoints are good.
 */
#include "etcd_rig.h"
#include "rig.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

static void expect(const struct answer *a, int status, const char *says) {
    if (a->status != status || strstr(a->text, says) == NULL)
        fail_msg("expected %s and '%s', found %s: %s", yk_status_name(status), says,
                 yk_status_name(a->status), a->text);
}

static int refused(const struct yk_meta_opts *o, const char *says) {
    struct yk_meta *m = NULL;
    struct yk_err err = {0};
    int rc = yk_meta_open(o, &m, &err);
    if (rc >= 0)
        fail_msg("opened, in spite of what should say '%s'", says);
    if (strstr(err.text, says) == NULL)
        fail_msg("expected '%s', found '%s'", says, err.text);
    return rc;
}

static void test_options(void **state) {
    static const struct {
        struct yk_meta_opts o;
        const char *says;
    } rows[] = {
        {{.endpoints = "localhost:2379"}, "http://HOST:2379"},
        {{.endpoints = "http://a:2379,,http://b:2379"}, "http://HOST:2379"},
        {{.endpoints = "ftp://a:2379"}, "ftp://a:2379"},
        {{.endpoints = "http://u:p@a:2379"}, "http://HOST:2379"},
        {{.endpoints = "http://a:2379/prefix"}, "http://HOST:2379"},
        {{.endpoints = "http://a:2379", .user = "u"}, "password"},
        {{.endpoints = "https://a:2379", .cert_file = "x"}, "key"},
        {{.endpoints = "https://a:2379", .ca_file = "/nonexistent/ca.pem"}, "/nonexistent/ca.pem"},
        {{.max_watches = 5000}, "max_watches"},
        {{.birth_key = ""}, "birth_key"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_int_equal(refused(&rows[i].o, rows[i].says), -YK_EINVAL);
}

/* ---- users ------------------------------------------------------------------------------------ */

static struct yk_meta *open_as(struct cluster *c, const char *user, const char *password) {
    struct yk_meta_opts o = {.user = user, .password = password, .birth_key = "u/birth"};
    return cluster_open(c, -1, &o);
}

static void test_users(void **state) {
    struct cluster c;
    struct answer a;
    static struct record r, other;
    cluster_start(&c, 1, false, "--bcrypt-cost=4");
    /* Before there are users, one that is given does no harm. */
    struct yk_meta *good = open_as(&c, "yolk", "right");
    rig_must_put(good, "u/a", "1", 0);
    cluster_ctl(&c, NULL, "user add root:rootpw");
    cluster_ctl(&c, NULL, "user add yolk:right");
    cluster_ctl(&c, NULL, "role add yolk");
    cluster_ctl(&c, NULL, "role grant-permission yolk readwrite --prefix=true u/");
    cluster_ctl(&c, NULL, "user grant-role yolk yolk");
    cluster_ctl(&c, NULL, "auth enable");
    rig_must_put(good, "u/a", "2", 0);
    record_open(&r, good, "u/", 0);
    record_wait(&r, "the state, as a user", has_key, "u/a");
    struct yk_meta *nobody = cluster_open(&c, -1, NULL), *wrong = open_as(&c, "yolk", "wrong");
    rig_get(nobody, "u/a", &a);
    expect(&a, -YK_EPERM, "asks for a user");
    rig_get(wrong, "u/a", &a);
    expect(&a, -YK_EPERM, "check user and password");
    rig_get(good, "elsewhere", &a);
    expect(&a, -YK_EPERM, "grant-permission");
    assert_non_null(strstr(a.text, c.endpoints));
    /* A watch that may not read says so, and goes on once it may. */
    record_open(&other, good, "elsewhere", 0);
    record_wait(&other, "trouble with permissions", in_trouble, NULL);
    assert_int_equal(other.trouble_status, -YK_EPERM);
    cluster_ctl(&c, "root:rootpw", "role grant-permission yolk readwrite --prefix=true elsewhere");
    rig_must_put(good, "elsewhere/b", "1", 0);
    record_wait(&other, "the state, now that it may", has_key, "elsewhere/b");
    record_close(&other);
    /* A token that etcd forgot is renewed; a password that was set right is found right. */
    member_kill(&c, 0);
    member_start(&c, 0);
    rig_must_put(good, "u/b", "3", 0);
    record_wait(&r, "a change after the restart", has_key, "u/b");
    assert_int_equal(r.resyncs, 0);
    cluster_ctl(&c, "root:rootpw", "user delete yolk");
    cluster_ctl(&c, "root:rootpw", "user add yolk:wrong");
    cluster_ctl(&c, "root:rootpw", "user grant-role yolk yolk");
    rig_get(wrong, "u/a", &a);
    assert_int_equal(a.status, 0);
    assert_string_equal(a.kvs[0].value, "2");
    record_close(&r);
    yk_meta_close(nobody);
    yk_meta_close(wrong);
    yk_meta_close(good);
    cluster_stop(&c);
}

/* ---- TLS -------------------------------------------------------------------------------------- */

static void path_of(char to[128], const struct cluster *c, const char *name) {
    snprintf(to, 128, "%s/%s", c->dir, name);
}

static void test_tls(void **state) {
    struct cluster c;
    struct answer a;
    static struct record r;
    char ca[128], cert[128], key[128], other[128], plain[64];
    cluster_start(&c, 1, true, NULL);
    path_of(ca, &c, "ca.pem");
    path_of(cert, &c, "client.pem");
    path_of(key, &c, "client.key");
    path_of(other, &c, "other.pem");
    snprintf(plain, sizeof(plain), "http://127.0.0.1:%d", c.client_ports[0]);
    struct yk_meta_opts good = {.ca_file = ca, .cert_file = cert, .key_file = key};
    struct yk_meta *m = cluster_open(&c, -1, &good);
    rig_must_put(m, "t/a", "1", 0);
    record_open(&r, m, "t/", 0);
    record_wait(&r, "the state over TLS", has_key, "t/a");
    rig_must_put(m, "t/b", "1", 0);
    record_wait(&r, "a change over TLS", has_key, "t/b");
    record_close(&r);
    yk_meta_close(m);
    struct {
        struct yk_meta_opts o;
        const char *says;
    } rows[] = {
        {{.ca_file = other, .cert_file = cert, .key_file = key}, "TLS failed"},
        {{.ca_file = ca}, "certificate"},
        {{.ca_file = ca, .endpoints = plain}, "https"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        m = cluster_open(&c, -1, &rows[i].o);
        rig_get_in(m, "t/a", 1500, &a);
        expect(&a, -YK_ETIMEDOUT, rows[i].says);
        expect(&a, -YK_ETIMEDOUT, "127.0.0.1");
        yk_meta_close(m);
    }
    cluster_stop(&c);
}

/* ---- others ----------------------------------------------------------------------------------- */

/* Takes connections and says always the same, or nothing. */
struct liar {
    int fd, port;
    const char *says;
    pthread_t thread;
};

static void *lie(void *arg) {
    struct liar *l = arg;
    for (;;) {
        char in[4096];
        int fd = accept(l->fd, NULL, NULL);
        if (fd < 0)
            return NULL;
        if (l->says != NULL) {
            (void)!read(fd, in, sizeof(in));
            (void)!write(fd, l->says, strlen(l->says));
            shutdown(fd, SHUT_WR);
            while (read(fd, in, sizeof(in)) > 0) {
            }
        } else {
            while (read(fd, in, sizeof(in)) > 0) {
            }
        }
        close(fd);
    }
}

static void liar_start(struct liar *l, const char *says) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof(a);
    l->says = says;
    l->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(l->fd, (struct sockaddr *)&a, len), 0);
    assert_int_equal(listen(l->fd, 16), 0);
    assert_int_equal(getsockname(l->fd, (struct sockaddr *)&a, &len), 0);
    l->port = ntohs(a.sin_port);
    assert_int_equal(pthread_create(&l->thread, NULL, lie, l), 0);
}

static void liar_stop(struct liar *l) {
    shutdown(l->fd, SHUT_RDWR);
    pthread_join(l->thread, NULL);
    close(l->fd);
}

#define HTTP(status, body) "HTTP/1.1 " status "\r\nConnection: close\r\n\r\n" body

static void test_not_an_etcd(void **state) {
    static const struct {
        const char *says, *told;
    } rows[] = {
        {HTTP("200 OK", "<html>hello</html>"), "is this an etcd?"},
        {HTTP("404 Not Found", "404 page not found"), "etcd 3.4 or newer"},
        {HTTP("200 OK", "{\"kvs\": [{\"key\": 5}]}"), "expected etcd's JSON"},
        {HTTP("503 Unavailable", "{\"error\": \"etcdserver: no leader\", \"code\": 14}"),
         "no leader"},
        {HTTP("429 Too Many", "{\"error\": \"etcdserver: too many requests\", \"code\": 8}"),
         "too many requests"},
        {"garbage\r\n\r\n", "127.0.0.1"},
        {NULL, "no answer in time"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct liar l;
        struct answer a;
        char url[64];
        liar_start(&l, rows[i].says);
        snprintf(url, sizeof(url), "http://127.0.0.1:%d", l.port);
        struct yk_meta_opts o = {.endpoints = url, .try_ms = 100};
        struct yk_meta *m = NULL;
        assert_int_equal(yk_meta_open(&o, &m, NULL), 0);
        for (uint32_t ms = 600; ms < 20000; ms *= 3) { /* its last try may have had no time for an answer */
            rig_get_in(m, "k", ms, &a);
            if (strstr(a.text, rows[i].told) != NULL)
                break;
        }
        expect(&a, -YK_ETIMEDOUT, rows[i].told);
        expect(&a, -YK_ETIMEDOUT, url);
        yk_meta_close(m);
        liar_stop(&l);
    }
}

/* Of five endpoints one is good: a silent one, a wrong one, a closed port, a name that is none. */
static void test_one_good_endpoint(void **state) {
    struct cluster c;
    struct liar silent, wrong;
    static struct record r;
    static struct lease_record l;
    char all[512];
    cluster_start(&c, 1, false, NULL);
    liar_start(&silent, NULL);
    liar_start(&wrong, HTTP("404 Not Found", "nothing here"));
    snprintf(all, sizeof(all),
             "http://127.0.0.1:%d,http://127.0.0.1:%d,http://127.0.0.1:1,http://"
             "no.such.host.invalid:2379,%s",
             silent.port, wrong.port, c.endpoints);
    for (unsigned round = 0; round < 3; round++) { /* each begins with a random one */
        struct yk_meta_opts o = {.endpoints = all, .try_ms = 300, .probe_ms = 300};
        struct yk_meta *m = cluster_open(&c, -1, &o);
        record_open(&r, m, "o/", 0);
        lease_open(&l, m, 20000);
        rig_must_put(m, "o/a", "1", 0);
        record_wait(&r, "a key", has_key, "o/a");
        lease_wait(&l, YK_META_LEASE_HELD);
        lease_close(&l, true);
        record_close(&r);
        yk_meta_close(m);
    }
    liar_stop(&silent);
    liar_stop(&wrong);
    cluster_stop(&c);
}

static void test_space_quota(void **state) {
    static char value[YK_META_VALUE_MAX];
    struct cluster c;
    struct answer a = {0};
    char key[24];
    memset(value, 'v', sizeof(value) - 1);
    cluster_start(&c, 1, false, "--quota-backend-bytes=2000000");
    struct yk_meta *m = cluster_open(&c, -1, NULL);
    for (unsigned i = 0; i < 100 && a.status == 0; i++) {
        snprintf(key, sizeof(key), "s/%u", i);
        rig_put(m, key, value, 0, &a);
    }
    expect(&a, -YK_ENOSPC, "database space exceeded");
    expect(&a, -YK_ENOSPC, "alarm disarm");
    rig_get(m, "s/0", &a); /* reading goes on */
    assert_int_equal(a.status, 0);
    assert_int_equal(a.count, 1);
    yk_meta_close(m);
    cluster_stop(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_users),
        cmocka_unit_test(test_tls),
        cmocka_unit_test(test_not_an_etcd),
        cmocka_unit_test(test_one_good_endpoint),
        cmocka_unit_test(test_space_quota),
    };
    signal(SIGPIPE, SIG_IGN);
    if (cluster_missing() != NULL) {
        printf("1..0 # SKIP %s\n", cluster_missing());
        return 77;
    }
    return cmocka_run_group_tests_name("meta_etcd_trust", tests, NULL, NULL);
}
