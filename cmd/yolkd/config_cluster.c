/* SPDX-License-Identifier: Apache-2.0
 *
 * The cluster's options against each other (config.h).
 *
 * What etcd holds, whether it answers and takes the credentials, is found by the start.
 */
#include "config.h"

#include "base/clock.h"
#include "base/fmt.h"
#include "base/log.h"
#include "base/text.h"

#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PASSWORD_MAX 1024u
#define STATE_ROOT   "/var/lib/yolk"

/* What the options point to; as long as the process. */
static char password[PASSWORD_MAX + 2], name[YK_DIR_NAME_MAX + 2], state_dir[4096];
static char peer_listen[YK_ADDR_TEXT_MAX], transfer[YK_ADDR_TEXT_MAX], clients[YK_ADDR_TEXT_MAX],
    local[YK_ADDR_TEXT_MAX];

static int is_alone(const struct yolkd_config *config, struct yk_err *err) {
    static const char *const theirs[] = {"etcd-user", "etcd-password-file", "etcd-ca",   "etcd-cert", "etcd-key",
                                         "zone",      "peer-listen",        "advertise", "node-name", "cut-off",
                                           "local-copies"};
    for (size_t i = 0; i < sizeof(theirs) / sizeof(theirs[0]); i++)
        if (yk_opt_is_set(&config->opts, theirs[i]))
            return yk_opt_fail(&config->opts, theirs[i], err, "found it without --etcd, expected both: a node without "
                                                              "etcd is in no cluster");
    return 0;
}

static int read_password(const struct yolkd_config *config, struct yk_err *err) {
    const char *path = config->etcd_password_file;
    if (path == NULL)
        return config->etcd_user == NULL ? 0
                                         : yk_opt_fail(&config->opts, "etcd-user", err,
                                                       "found it without --etcd-password-file, expected both");
    if (config->etcd_user == NULL)
        return yk_opt_fail(&config->opts, "etcd-password-file", err, "found it without --etcd-user, expected both");
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return yk_opt_fail(&config->opts, "etcd-password-file", err, "cannot read '%.100s': %s", path,
                           strerror(errno));
    char *line = fgets(password, sizeof(password), f);
    (void)fclose(f);
    size_t len = line != NULL ? strcspn(password, "\r\n") : 0;
    if (len == 0 || len > PASSWORD_MAX)
        return yk_opt_fail(&config->opts, "etcd-password-file", err, "'%.100s' has no password of 1 to %u bytes in its "
                                                                     "first line",
                           path, PASSWORD_MAX);
    password[len] = 0;
    return 0;
}

static int find_name(const struct yolkd_config *config, struct yk_err *err) {
    char quoted[YK_QUOTE_MAX];
    if (config->node_name != NULL) {
        snprintf(name, sizeof(name), "%s", config->node_name);
        return 0;
    }
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    int rc = gethostname(name, sizeof(name));
    name[sizeof(name) - 1] = 0;
    size_t len = strlen(name);
    if (rc == 0 && len >= 1 && len <= YK_DIR_NAME_MAX && strspn(name, allowed) == len && name[0] != '.')
        return 0;
    return yk_opt_fail(&config->opts, "node-name", err, "the host's name %s cannot be the node's, expected one here",
                       yk_quote(name, quoted));
}

static void name_state_dir(const struct yolkd_config *config) {
    const char *root = getenv("STATE_DIRECTORY");
    if (root == NULL || root[0] != '/')
        root = STATE_ROOT;
    if (config->state_dir != NULL)
        snprintf(state_dir, sizeof(state_dir), "%s", config->state_dir);
    else
        snprintf(state_dir, sizeof(state_dir), "%.*s/%s", (int)strcspn(root, ":"), root, config->name);
}

static int find_state_dir(const struct yolkd_config *config, struct yk_err *err) {
    struct stat st;
    name_state_dir(config);
    char *slash = strrchr(state_dir, '/');
    if (slash == NULL || slash == state_dir || (stat(state_dir, &st) == 0 && S_ISDIR(st.st_mode)))
        return 0;
    *slash = 0;
    int well = stat(state_dir, &st) == 0 && S_ISDIR(st.st_mode);
    *slash = '/';
    return well ? 0
                : yk_opt_fail(&config->opts, "state-dir", err, "found '%.120s', expected a directory, or one to be "
                                                               "made in one that is there",
                              state_dir);
}

/* The first address of its kind in --listen; NULL: there is none. */
static const struct yk_addr *first_of(const struct yk_node_opts *node, enum yk_addr_kind kind) {
    for (uint32_t i = 0; i < node->listen_count; i++)
        if (node->listen[i].kind == kind)
            return &node->listen[i];
    return NULL;
}

/* Where clients of other hosts reach what listens at `tcp`: a wildcard is no address to go to. */
static const struct yk_addr *reached_by(const struct yolkd_config *config, const struct yk_addr *tcp,
                                        struct yk_addr *storage) {
    int wild = strcmp(tcp->host, "0.0.0.0") == 0 || strcmp(tcp->host, "::") == 0;
    if (!wild || config->advertise == NULL)
        return tcp;
    *storage = *tcp;
    snprintf(storage->host, sizeof(storage->host), "%s", config->advertise);
    return storage;
}

static void host_port(const struct yk_addr *addr, int port, char *ret, size_t size) {
    snprintf(ret, size, strchr(addr->host, ':') != NULL ? "[%s]:%d" : "%s:%d", addr->host, port);
}

static int find_addresses(const struct yolkd_config *config, struct yk_node_opts *node, struct yk_err *err) {
    struct yk_addr addr = {.kind = YK_ADDR_TCP, .host = "127.0.0.1"};
    struct yk_err none;
    const struct yk_addr *tcp = first_of(node, YK_ADDR_TCP), *unix_socket = first_of(node, YK_ADDR_UNIX);
    int is_auto = strcmp(config->peer_listen, "auto") == 0;
    if (is_auto && tcp != NULL)
        addr = *tcp;
    else if (!is_auto)
        (void)yk_parse_addr(config->peer_listen, &addr, &none);
    host_port(&addr, is_auto ? 0 : addr.port, peer_listen, sizeof(peer_listen));
    if (!config->insecure_network && yolkd_is_remote(&addr))
        return yk_opt_fail(&config->opts, "peer-listen", err,
                           "found '%s', expected a loopback address such as 127.0.0.1, or --insecure-network: nobody "
                           "is authenticated yet",
                           config->peer_listen);
    if (strcmp(config->transfer, "off") == 0)
        return yk_opt_fail(&config->opts, "transfer", err,
                           "found 'off' with --etcd, expected HOST:PORT or auto: other nodes read blocks through it");
    if (strcmp(config->transfer, "auto") == 0 && tcp == NULL) {
        host_port(&addr, 0, transfer, sizeof(transfer));
        node->transfer = transfer;
    }
    if (unix_socket != NULL && unix_socket->host[0] == '/') /* others do not know this process's folder */
        yk_addr_format(unix_socket, local);
    if (tcp != NULL)
        yk_addr_format(reached_by(config, tcp, &addr), clients);
    else if (node->listen_count > 0)
        yk_addr_format(&node->listen[0], clients);
    return 0;
}

static int check_etcd(const struct yolkd_config *config, struct yk_err *err) {
    if ((config->etcd_cert == NULL) != (config->etcd_key == NULL))
        return yk_opt_fail(&config->opts, config->etcd_cert != NULL ? "etcd-cert" : "etcd-key", err,
                           "found it without --%s, expected both",
                           config->etcd_cert != NULL ? "etcd-key" : "etcd-cert");
    return 0;
}

/* What the policy has learned is kept there, too: by a node alone if somebody named a directory, or has made the one
 * that all have. */
static int find_learned(const struct yolkd_config *config, bool alone, struct yk_node_opts *io_node, struct yk_err *err) {
    static char learned[sizeof(state_dir) + 16];
    struct yk_err none;
    if (config->ephemeral)
        return 0;
    int rc = find_state_dir(config, alone && config->state_dir == NULL ? &none : err);
    if (rc < 0)
        return alone && config->state_dir == NULL ? 0 : rc;
    snprintf(learned, sizeof(learned), "%s/learned", state_dir);
    io_node->store.learned_path = learned;
    return 0;
}

int yolkd_config_cluster(const struct yolkd_config *config, struct yk_node_opts *io_node, struct yk_dir_opts *ret_opts,
                         struct yk_err *err) {
    memset(ret_opts, 0, sizeof(*ret_opts));
    if (config->etcd == NULL || config->etcd[0] == 0) {
        int alone = is_alone(config, err);
        return alone == 0 ? find_learned(config, true, io_node, err) : alone;
    }
    int rc = check_etcd(config, err);
    if (rc == 0)
        rc = read_password(config, err);
    if (rc == 0)
        rc = find_name(config, err);
    if (rc == 0)
        rc = find_addresses(config, io_node, err);
    if (rc == 0)
        rc = find_state_dir(config, err);
    if (rc == 0)
        rc = find_learned(config, false, io_node, err);
    if (rc < 0)
        return rc;
    *ret_opts = (struct yk_dir_opts){
        .meta = {.endpoints = config->etcd,
                 .user = config->etcd_user,
                 .password = config->etcd_user != NULL ? password : NULL,
                 .ca_file = config->etcd_ca,
                 .cert_file = config->etcd_cert,
                 .key_file = config->etcd_key},
        .prefix = config->cluster,
        .name = name,
        .zone = config->zone,
        .listen = peer_listen,
        .advertise = config->advertise,
        .clients = clients,
        .local = local,
        .state_dir = state_dir,
        .allow_remote = config->insecure_network,
        .cut_off_ms = (uint32_t)(config->cut_off_ns / YK_NS_PER_MS),
    };
    return 0;
}
