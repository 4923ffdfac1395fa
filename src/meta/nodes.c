/* SPDX-License-Identifier: Apache-2.0
 *
 * nodes/ of a cluster, as text (src/meta/nodes.h). What each key holds is src/dir/member_text.c's; of that only the
 * addresses are read here, since this library shall not carry a node.
 */
#include "meta/nodes.h"

#include "meta/meta.h"

#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define URL_MAX      2048u
#define ENDPOINTS    32u
#define PASSWORD_MAX 1024u
#define CLUSTER      "yolk"

struct place {
    char text[URL_MAX], endpoints[URL_MAX + 8u * ENDPOINTS], prefix[YK_META_KEY_MAX], birth[YK_META_KEY_MAX];
    char password[PASSWORD_MAX + 2];
    struct yk_meta_opts opts;
};

/* ---- the url ------------------------------------------------------------------------------------ */

static int read_password(struct place *p, const char *path, struct yk_err *err) {
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return yk_err_set(err, -YK_EINVAL, "password-file '%.100s': %s", path, strerror(errno));
    if (fgets(p->password, sizeof(p->password), f) == NULL)
        p->password[0] = 0;
    fclose(f);
    p->password[strcspn(p->password, "\r\n")] = 0;
    p->opts.password = p->password;
    return 0;
}

static int read_option(struct place *p, const char *option, int *io_tls, struct yk_err *err) {
    const struct {
        const char *name, **to;
    } files[] = {{"ca=", &p->opts.ca_file}, {"cert=", &p->opts.cert_file}, {"key=", &p->opts.key_file}, {"user=", &p->opts.user}};
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
        if (strncmp(option, files[i].name, strlen(files[i].name)) == 0) {
            *files[i].to = option + strlen(files[i].name);
            return 0;
        }
    if (strncmp(option, "password-file=", 14) == 0)
        return read_password(p, option + 14, err);
    if (strcmp(option, "tls") == 0)
        *io_tls = 1;
    else if (strncmp(option, "zone=", 5) != 0)
        return yk_err_set(err, -YK_EINVAL,
                          "etcd: option '%.60s': expected zone=, tls, ca=, cert=, key=, user= or password-file=", option);
    return 0;
}

static int put_endpoints(struct place *p, char *hosts, int tls, struct yk_err *err) {
    size_t len = 0;
    char *save = NULL;
    unsigned n = 0;
    for (char *at = strtok_r(hosts, ",", &save); at != NULL; at = strtok_r(NULL, ",", &save), n++) {
        if (n == ENDPOINTS)
            return yk_err_set(err, -YK_EINVAL, "etcd: more than %u endpoints", ENDPOINTS);
        len += (size_t)snprintf(p->endpoints + len, sizeof(p->endpoints) - len, "%s%s://%s", n > 0 ? "," : "",
                                tls ? "https" : "http", at);
    }
    p->opts.endpoints = p->endpoints;
    return n > 0 ? 0 : yk_err_set(err, -YK_EINVAL, "etcd: expected etcd://HOST:PORT/CLUSTER, found no HOST");
}

static int read_url(struct place *p, const char *url, struct yk_err *err) {
    int rc = 0, tls = 0;
    char *save = NULL;
    if (strncmp(url, "etcd://", 7) != 0 || strlen(url) >= URL_MAX)
        return yk_err_set(err, -YK_EINVAL, "'%.80s': expected etcd://HOST:PORT,HOST:PORT/CLUSTER", url);
    strcpy(p->text, url + 7); /* its length was checked */
    char *options = strchr(p->text, '?');
    if (options != NULL)
        *options++ = 0;
    char *cluster = strchr(p->text, '/');
    if (cluster != NULL)
        *cluster++ = 0;
    const char *name = cluster != NULL && cluster[0] != 0 ? cluster : CLUSTER;
    if (snprintf(p->prefix, sizeof(p->prefix), "%s/nodes/", name) >= (int)sizeof(p->prefix) ||
        snprintf(p->birth, sizeof(p->birth), "%s/birth", name) >= (int)sizeof(p->birth))
        return yk_err_set(err, -YK_EINVAL, "etcd: the cluster's name is too long");
    p->opts.birth_key = p->birth; /* as the nodes do: a user may have no rights elsewhere */
    for (char *at = options != NULL ? strtok_r(options, "&", &save) : NULL; at != NULL && rc == 0;
         at = strtok_r(NULL, "&", &save))
        rc = read_option(p, at, &tls, err);
    return rc == 0 ? put_endpoints(p, p->text, tls, err) : rc;
}

/* ---- the answer --------------------------------------------------------------------------------- */

struct answer {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    int done, status;
    char *text;
    size_t size, len;
    char why[YK_ERR_TEXT_MAX];
};

/* One field; what would break the line is as if it were not there. */
static const char *field(const json_t *node, const char *key) {
    const char *text = json_string_value(json_object_get(node, key));
    return text != NULL && text[0] != 0 && strpbrk(text, "\t\n") == NULL ? text : "-";
}

static void add_node(struct answer *a, const struct yk_meta_kv *kv) {
    json_t *node = json_loadb(kv->value, kv->value_len, 0, NULL);
    int n = node == NULL ? 0
                         : snprintf(a->text + a->len, a->size - a->len, "%s\t%s\t%s\t%s\n", field(node, "host"),
                                    field(node, "zone"), field(node, "local"), field(node, "clients"));
    if (n > 0 && (size_t)n < a->size - a->len)
        a->len += (size_t)n;
    a->text[a->len] = 0; /* what does not fit whole is left out */
    json_decref(node);
}

static void came(void *user, const struct yk_meta_result *r) {
    struct answer *a = user;
    pthread_mutex_lock(&a->lock);
    for (size_t i = 0; r->status == 0 && i < r->count; i++)
        add_node(a, &r->kvs[i]);
    a->status = r->status;
    snprintf(a->why, sizeof(a->why), "%s", r->text);
    a->done = 1;
    pthread_cond_signal(&a->cond);
    pthread_mutex_unlock(&a->lock);
}

/* The metadata keeps the deadline: its callback comes, once. */
static int ask(struct yk_meta *meta, const char *prefix, uint32_t timeout_ms, struct answer *a, struct yk_err *err) {
    int rc = yk_meta_range(meta, prefix, timeout_ms, came, a);
    if (rc < 0)
        return yk_err_set(err, rc, "etcd: %s", yk_status_text(rc));
    pthread_mutex_lock(&a->lock);
    while (!a->done)
        pthread_cond_wait(&a->cond, &a->lock);
    pthread_mutex_unlock(&a->lock);
    return a->status < 0 ? yk_err_set(err, a->status, "etcd: %.200s", a->why) : 0;
}

int yk_etcd_nodes(const char *url, uint32_t timeout_ms, char *ret_text, size_t size, char *ret_err, size_t err_size) {
    struct answer a = {.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER, .text = ret_text, .size = size};
    struct yk_meta *meta = NULL;
    struct yk_err err = {0, ""};
    struct place *p = size > 0 ? calloc(1, sizeof(*p)) : NULL;
    int rc = p != NULL ? read_url(p, url, &err) : yk_err_set(&err, -YK_ENOMEM, "out of memory");
    if (rc == 0)
        ret_text[0] = 0;
    if (rc == 0)
        rc = yk_meta_open(&p->opts, &meta, &err);
    if (rc == 0)
        rc = ask(meta, p->prefix, timeout_ms > 0 ? timeout_ms : 1, &a, &err);
    yk_meta_close(meta);
    free(p);
    snprintf(ret_err, err_size, "%s", err.text);
    return rc;
}
