/* SPDX-License-Identifier: Apache-2.0
 *
 * yolkd: the storage node as a service.
 *
 * Everything that stores is in src/node; here is what a process has around it: configuration, the
 * log, signals, the service manager, HTTP, exit codes (yolkd(8)).
 *
 * Signals are blocked everywhere and fetched by a thread of their own with sigwaitinfo: no code
 * runs in a handler, and the second SIGTERM ends the process even while the main thread is inside a
 * start or a stop that does not come back. _exit is safe at any instant: so is kill -9, which the
 * segment is made to survive.
 *
 * Threads: main, which only waits once the node serves; signals; the node's own.
 */
#include "config.h"
#include "keeps.h"
#include "machine.h"
#include "reports.h"
#include "ssd.h"
#include "systemd.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/fmt.h"
#include "base/log.h"
#include "http/http.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* So soon after the first a signal is no second wish: timeout(1), for one, sends to the process and to its
 * group. */
#define DOUBLED_NS    (500 * YK_NS_PER_MS)
#define STOP_GRACE_NS (10 * YK_NS_PER_S) /* beyond --stop-timeout and --ssd-stop, before the process is ended */
#define STATUS_MS     30000              /* between two status lines for the service manager */
#define WAIT_SAY_NS   (60 * YK_NS_PER_S) /* between two lines of the log that say what a start waits for */
#define WAIT_MORE_S   30                  /* that the service manager is asked for, each time */
#define EXTRA_FDS     640                /* listeners, logs, epoll: open files beside clients' */
#define ADDRESSES_MAX 4096

extern char **environ;

enum yolkd_exit { EXIT_CLEAN = 0, EXIT_RUNTIME = 1, EXIT_CONFIG = 2 };

struct yolkd {
    struct yolkd_config config;
    struct yolkd_systemd systemd;
    struct yk_node_opts node_opts;
    struct yk_dir_opts dir_opts;
    struct yk_node *node;
    struct yk_dir *dir; /* NULL: this node is alone */
    struct yk_http *http;
    struct yolkd_reports *reports; /* NULL: no cluster, or no HTTP; and so keeps */
    struct yolkd_keeps *keeps;
    struct yolkd_ssd ssd;
    uint64_t said_ns; /* when the log was last told what the start waits for */
    int stop_fd; /* readable once a signal asked for a stop */
};

/* ---- signals -------------------------------------------------------------------------------- */

struct signals {
    sigset_t set;
    int stop_fd;
    uint64_t limit_ns; /* a stop that takes longer ends the process */
    bool hangup_stops; /* standard error is a terminal */
};

static void wait_for_stop(const struct signals *s) {
    for (;;) {
        siginfo_t info;
        int sig = sigwaitinfo(&s->set, &info);
        if (sig < 0)
            continue;
        if (sig == SIGHUP && !s->hangup_stops) {
            yk_log(YK_LOG_WARN, "yolkd",
                   "SIGHUP: nothing can be reloaded; restart to apply changes");
            continue;
        }
        yk_log(YK_LOG_INFO, "yolkd", "SIG%s: stopping", sigabbrev_np(sig));
        return;
    }
}

static void *signals_main(void *arg) {
    const struct signals *s = arg;
    uint64_t one = 1;
    pthread_setname_np(pthread_self(), "yolkd-signals");
    wait_for_stop(s);
    if (write(s->stop_fd, &one, sizeof(one)) < 0)
        _exit(EXIT_RUNTIME);
    uint64_t first = yk_now_ns(), deadline = first + s->limit_ns;
    for (;;) {
        uint64_t now = yk_now_ns();
        uint64_t left = now < deadline ? deadline - now : 0;
        struct timespec ts = {.tv_sec = (time_t)(left / YK_NS_PER_S),
                              .tv_nsec = (long)(left % YK_NS_PER_S)};
        int sig = sigtimedwait(&s->set, NULL, &ts);
        if (sig < 0 && errno == EINTR)
            continue;
        if (sig == SIGHUP || (sig > 0 && yk_now_ns() - first < DOUBLED_NS))
            continue;
        if (sig < 0)
            yk_log(YK_LOG_ERROR, "yolkd", "not stopped in time: ending at once");
        else
            yk_log(YK_LOG_WARN, "yolkd", "a second SIG%s: ending at once", sigabbrev_np(sig));
        _exit(EXIT_RUNTIME);
    }
}

static int signals_start(struct yolkd *d, struct yk_err *err) {
    static struct signals s; /* of the thread, which lives as long as the process */
    pthread_t thread;
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&s.set);
    sigaddset(&s.set, SIGTERM);
    sigaddset(&s.set, SIGINT);
    sigaddset(&s.set, SIGHUP);
    s.limit_ns = d->config.stop_timeout_ns + STOP_GRACE_NS +
                 (d->config.ssd.n > 0 ? d->config.ssd_stop_ns : 0);
    s.hangup_stops = isatty(STDERR_FILENO);
    s.stop_fd = d->stop_fd = eventfd(0, EFD_CLOEXEC);
    if (s.stop_fd < 0)
        return yk_err_set(err, -YK_EIO, "eventfd: %s", strerror(errno));
    pthread_sigmask(SIG_BLOCK, &s.set, NULL);
    if (pthread_create(&thread, NULL, signals_main, &s) != 0)
        return yk_err_set(err, -YK_EIO, "cannot start a thread");
    pthread_detach(thread);
    return 0;
}

/* ---- what the log and the service manager are told --------------------------------------------
 */

static void put_addresses(const struct yolkd *d, const char *sockets, struct yk_buf *out) {
    char text[YK_ADDR_TEXT_MAX];
    yk_buf_puts(out, sockets);
    for (uint32_t i = 0; i < d->node_opts.listen_count; i++)
        yk_buf_printf(out, "%s%s", out->len > 0 ? ", " : "",
                      yk_addr_format(&d->node_opts.listen[i], text));
    if (d->http != NULL)
        yk_buf_printf(out, ", http %s:%u", d->config.http.host, yk_http_port(d->http));
    if (d->dir != NULL)
        yk_buf_printf(out, ", peers %s", yk_dir_address(d->dir));
    if (yk_node_transfer(d->node)[0] != 0)
        yk_buf_printf(out, ", transfer %s", yk_node_transfer(d->node));
}

static void put_segment(const struct yolkd *d, struct yk_buf *out) {
    struct yk_node_stats n;
    char bytes[YK_FMT_MAX], time[YK_FMT_MAX];
    const char *why;
    enum yk_segment_found found = yk_node_found(d->node, &why);
    yk_node_stats(d->node, &n);
    if (d->config.ephemeral)
        yk_buf_puts(out, "nameless segment ");
    else
        yk_buf_printf(out, "segment '%s' ", d->config.name);
    if (found == YK_SEGMENT_FRESH) {
        yk_buf_puts(out, why[0] != '\0' ? "fresh, the old one was set aside: " : "fresh");
        yk_buf_puts(out, why);
        return;
    }
    yk_buf_printf(out, "%s, %llu blocks (%s) recovered in %s",
                  found == YK_SEGMENT_CLEAN ? "stopped clean" : "not stopped clean",
                  (unsigned long long)n.store.recovered,
                  yk_fmt_bytes(n.store.block_bytes + n.store.cxl_block_bytes, bytes),
                  yk_fmt_duration(n.store.recovery_us * 1000u, time));
    if (n.store.recovery_dropped > 0)
        yk_buf_printf(out, ", %llu dropped", (unsigned long long)n.store.recovery_dropped);
    if (why[0] != '\0')
        yk_buf_printf(out, " (%s)", why);
    if (n.store.suspect_blocks > 0)
        yk_buf_printf(out, ", %llu to be verified before their first use",
                      (unsigned long long)n.store.suspect_blocks);
}

static void log_cxl(const struct yolkd *d) {
    struct yk_node_stats n;
    char size[YK_FMT_MAX], dram[YK_FMT_MAX], slow[YK_FMT_MAX];
    yk_node_stats(d->node, &n);
    if (n.store.cxl_capacity_bytes == 0)
        return;
    yk_fmt_bytes(n.store.cxl_dram_bytes_per_s, dram);
    yk_fmt_bytes(n.store.cxl_bytes_per_s, slow);
    yk_log(n.store.cxl_used ? YK_LOG_INFO : YK_LOG_WARN, "yolkd",
           "%s of slow memory on NUMA node %d: %llu ns and %s/s, where DRAM has %llu ns and %s/s%s",
           yk_fmt_bytes(n.store.cxl_capacity_bytes, size), d->node_opts.store.cxl.node,
           (unsigned long long)n.store.cxl_latency_ns, slow, (unsigned long long)n.store.cxl_dram_latency_ns, dram,
           n.store.cxl_used ? "" : ". It is no quicker than an SSD, and nothing is put there");
}

static void log_start(const struct yolkd *d, const char *sockets) {
    struct yk_buf addresses, segment;
    char size[YK_FMT_MAX];
    yk_buf_init(&addresses, ADDRESSES_MAX);
    yk_buf_init(&segment, ADDRESSES_MAX);
    put_addresses(d, sockets, &addresses);
    put_segment(d, &segment);
    yk_log(YK_LOG_INFO, "yolkd", "%s serves %s of DRAM in %s pages, policy %s, on %s; %s",
           YK_VERSION, yk_fmt_bytes(d->config.dram_bytes, size),
           d->node_opts.store.segment.huge_dir != NULL ? "2 MiB" : "4 KiB",
           d->node_opts.store.policy, yk_buf_text(&addresses), yk_buf_text(&segment));
    yk_buf_fini(&addresses);
    yk_buf_fini(&segment);
    log_cxl(d);
    if (d->config.insecure_network)
        yk_log(YK_LOG_WARN, "yolkd",
               "--insecure-network: whoever reaches an address beyond loopback can read, replace "
               "and remove every block");
}

static void notify_status(const struct yolkd *d, const char *before) {
    struct yk_node_stats n;
    char used[YK_FMT_MAX], all[YK_FMT_MAX];
    yk_node_stats(d->node, &n);
    yolkd_systemd_notify(
        &d->systemd, "%sSTATUS=%llu blocks, %s of %s, %llu clients", before,
        (unsigned long long)n.store.blocks, yk_fmt_bytes(n.store.block_bytes, used),
        yk_fmt_bytes(n.store.capacity_bytes, all), (unsigned long long)n.store.clients);
}

/* ---- life -------------------------------------------------------------------------------------
 */

/* What a user can do about it belongs into the same line. */
static void explain(const struct yolkd *d, struct yk_err *err) {
    char text[sizeof(err->text)];
    if (err->code != -YK_EPERM || strstr(err->text, "cannot listen on") == NULL)
        return;
    memcpy(text, err->text, sizeof(text));
    yk_err_set(err, err->code, "%.120s: start as root, or with --listen unix:%s/yolk.sock", text,
               getenv("XDG_RUNTIME_DIR") != NULL ? "$XDG_RUNTIME_DIR" : "/tmp");
}

static void check_open_files(const struct yolkd *d) {
    uint64_t limit = yolkd_open_files_raise();
    uint64_t want =
        (uint64_t)d->config.max_connections + (uint64_t)d->config.max_clients + EXTRA_FDS;
    if (limit < want)
        yk_log(YK_LOG_WARN, "yolkd",
               "%llu open files are allowed, %d connections and %d clients need %llu: raise "
               "LimitNOFILE or ulimit -n",
               (unsigned long long)limit, d->config.max_connections, d->config.max_clients,
               (unsigned long long)want);
}

/* Names of the passed sockets, while they are still ours. */
static void name_sockets(const struct yolkd *d, struct yk_buf *out) {
    char name[160];
    for (unsigned i = 0; i < d->systemd.n_fds; i++)
        yk_buf_printf(out, "%s%s", i > 0 ? ", " : "",
                      yolkd_socket_name(d->systemd.fds[i], name, sizeof(name)));
}

static int start_http(struct yolkd *d, struct yk_err *err) {
    char text[sizeof(err->text)];
    struct yk_http_opts opts = {.listen = d->config.http,
                                .allow_remote = d->config.insecure_network};
    int rc = 0;
    if (d->config.http.kind == YK_ADDR_NONE)
        return 0;
    if (d->dir != NULL)
        rc = yolkd_keeps_start(d->dir, d->node, &d->keeps, err);
    if (rc < 0)
        return rc;
    if (d->keeps != NULL) {
        opts.keep = yolkd_keeps_want;
        opts.keep_arg = d->keeps;
    }
    rc = yk_http_start(&opts, d->node, &d->http, err);
    if (rc != -YK_EBUSY)
        return rc;
    memcpy(text, err->text, sizeof(text));
    return yk_err_set(err, rc, "%.180s: give --http another port, or none", text);
}

/* What asks other nodes goes before the cluster does, and what HTTP may still call after it. */
static void stop_http(struct yolkd *d) {
    yolkd_reports_stop(d->reports);
    yolkd_keeps_end(d->keeps);
    yk_http_stop(d->http);
    yolkd_keeps_free(d->keeps);
}

static void check_file_system(const struct yolkd *d) {
    const struct yk_segment_opts *o = &d->node_opts.store.segment;
    if (o->name != NULL && !yolkd_in_memory(o->dir))
        yk_log(YK_LOG_WARN, "yolkd",
               "--shm-dir %s is no memory file system: the kernel writes the pool to its disk again "
               "and again, and lookups wait for that",
               o->dir);
}

/* ---- the cluster ---------------------------------------------------------------------------- */

/* etcd is away, or other nodes are: the node waits, and so do its clients. It is not READY; the manager is told that
 * it lives. */
static int waits(void *arg, const char *why, uint64_t since_ns) {
    struct yolkd *d = arg;
    struct pollfd stop = {.fd = d->stop_fd, .events = POLLIN};
    uint64_t now = yk_now_ns(), seconds = (now - since_ns) / YK_NS_PER_S;
    if (d->said_ns == 0 || now - d->said_ns >= WAIT_SAY_NS) {
        yk_log(YK_LOG_WARN, "yolkd", "waits to be a member of its cluster since %llu s, and its clients wait with it: %s",
               (unsigned long long)seconds, why);
        d->said_ns = now;
    }
    yolkd_systemd_notify(&d->systemd, "EXTEND_TIMEOUT_USEC=%llu\nSTATUS=waits to be a member since %llu s: %.150s",
                         WAIT_MORE_S * 1000000ull, (unsigned long long)seconds, why);
    return poll(&stop, 1, 0) > 0;
}

static int dir_new(struct yolkd *d, struct yk_err *err) {
    if (d->dir_opts.meta.endpoints == NULL)
        return 0;
    d->dir_opts.waits = waits;
    d->dir_opts.waits_arg = d;
    int rc = yk_dir_new(&d->dir_opts, &d->dir, err);
    if (rc == 0)
        d->node_opts.pool = yk_dir_pool(d->dir);
    return rc;
}

static bool is_loopback(const char *address) {
    return strncmp(address, "127.", 4) == 0 || strncmp(address, "[::1]", 5) == 0 ||
           strncmp(address, "localhost:", 10) == 0;
}

static int join(struct yolkd *d, struct yk_err *err) {
    if (d->dir == NULL)
        return 0;
    int rc = yk_dir_start(d->dir, d->node, err);
    if (rc == 0 && is_loopback(yk_dir_address(d->dir)))
        yk_log(YK_LOG_WARN, "yolkd",
               "other nodes are told that this one is at %s: nodes on other hosts cannot reach it (--peer-listen, "
               "--advertise)",
               yk_dir_address(d->dir));
    return rc;
}

static int start(struct yolkd *d, struct yk_err *err) {
    struct yk_buf sockets;
    int rc = signals_start(d, err);
    if (rc < 0)
        return rc;
    check_open_files(d);
    check_file_system(d);
    yk_buf_init(&sockets, ADDRESSES_MAX);
    name_sockets(d, &sockets);
    d->node_opts.listen_fds = d->systemd.fds;
    d->node_opts.listen_fd_count = d->systemd.n_fds;
    d->node_opts.store.ssd.progress = yolkd_ssd_recovering;
    d->node_opts.store.ssd.progress_arg = &d->ssd;
    rc = dir_new(d, err);
    if (rc == 0) {
        rc = yk_node_start(&d->node_opts, &d->node, err);
        if (rc < 0)
            explain(d, err);
    }
    if (rc == 0)
        rc = join(d, err);
    if (rc == 0)
        rc = start_http(d, err);
    if (rc == 0 && d->dir != NULL && d->http != NULL)
        rc = yolkd_reports_start(d->dir, d->http, &d->reports, err);
    if (rc == 0) {
        log_start(d, yk_buf_text(&sockets));
        yolkd_ssd_started(&d->ssd, d->node);
    } else {
        stop_http(d);
        yk_dir_stop(d->dir);
        yk_node_discard(d->node);
        yk_dir_free(d->dir);
    }
    yk_buf_fini(&sockets);
    return rc;
}

/* Milliseconds between two looks at the beats. */
static int beat_ms(const struct yolkd *d) {
    uint64_t half_ms = d->systemd.watchdog_ns / 2u / YK_NS_PER_MS;
    if (half_ms != 0 && half_ms < STATUS_MS)
        return (int)half_ms;
    return d->systemd.notify[0] != '\0' ? STATUS_MS : -1;
}

/* Returns when a stop is asked for. The watchdog is fed only if the event loop has answered since
 * the last time. */
static void serve(struct yolkd *d) {
    struct pollfd stop = {.fd = d->stop_fd, .events = POLLIN};
    uint64_t beats = yk_node_beats(d->node), beat_ns = yk_now_ns();
    int every_ms = beat_ms(d), timeout_ms = every_ms;
    if (d->ssd.devices > 0 && (timeout_ms < 0 || timeout_ms > YOLKD_SSD_WATCH_MS))
        timeout_ms = YOLKD_SSD_WATCH_MS;
    for (;;) {
        if (poll(&stop, 1, timeout_ms) > 0)
            return;
        yolkd_ssd_watch(&d->ssd);
        if (every_ms < 0 || (timeout_ms != every_ms &&
                             yk_now_ns() - beat_ns < (uint64_t)every_ms * YK_NS_PER_MS))
            continue;
        uint64_t now = yk_node_beats(d->node);
        notify_status(d, now != beats ? "WATCHDOG=1\n" : "");
        beats = now;
        beat_ns = yk_now_ns();
    }
}

static void stop(struct yolkd *d) {
    struct yk_node_stats n;
    char bytes[YK_FMT_MAX];
    yolkd_systemd_notify(&d->systemd, "STOPPING=1\nSTATUS=stopping");
    yk_node_stats(d->node, &n);
    bool lost = yk_node_tier_lost(d->node) != 0;
    stop_http(d);
    yk_dir_stop(d->dir);
    yk_node_stop(d->node);
    yk_dir_free(d->dir);
    yk_log(YK_LOG_INFO, "yolkd", "stopped; %llu blocks (%s) %s",
           (unsigned long long)(n.store.blocks + n.store.cxl_blocks),
           yk_fmt_bytes(n.store.block_bytes + n.store.cxl_block_bytes, bytes),
           lost                  ? "are lost with its memory"
           : d->config.ephemeral ? "are gone with it"
                                 : "stay for the next start");
}

static int fail(const struct yk_err *err, int code) {
    fprintf(stderr, "yolkd: %s\n", err->text);
    return code;
}

/* Does the text name a place of the SSD tier? */
static bool names_ssd(const struct yolkd *d, const char *text) {
    const struct yk_store_ssd_opts *o = &d->node_opts.store.ssd;
    for (uint32_t i = 0; i < o->dev_count; i++)
        if (strstr(text, o->dev[i].path) != NULL)
            return true;
    return false;
}

/* What a start refuses because of what was asked for is a matter of configuration; so is what a place
 * of the SSD tier holds. */
static int start_exit(const struct yolkd *d, const struct yk_err *err) {
    switch (err->code) {
    case -YK_EINVAL:
    case -YK_ENOSPC:
        return EXIT_CONFIG;
    case -YK_EPERM:
    case -YK_ENOENT:
    case -YK_EVERSION:
    case -YK_ETOOBIG:
    case -YK_ECORRUPT:
        return names_ssd(d, err->text) ? EXIT_CONFIG : EXIT_RUNTIME;
    default:
        return EXIT_RUNTIME;
    }
}

static void print_ssd(const struct yk_store_ssd_opts *o) {
    char size[YK_FMT_MAX];
    for (uint32_t i = 0; i < o->dev_count; i++)
        printf("# SSD:  %s, %s.\n", o->dev[i].path,
               o->dev[i].size_bytes != 0 ? yk_fmt_bytes(o->dev[i].size_bytes, size)
                                         : "all that is there");
    if (o->dev_count > 0)
        printf("#       What they hold is looked at when the node starts.\n");
}

static int print_effective(const struct yolkd *d) {
    char dram[YK_FMT_MAX], total[YK_FMT_MAX];
    yk_opt_print_config(&d->config.opts, stdout);
    printf("\n# Fits: %s of this machine's %s, in %s pages.\n",
           yk_fmt_bytes(d->config.dram_bytes, dram), yk_fmt_bytes(yolkd_memory_bytes(), total),
           d->node_opts.store.segment.huge_dir != NULL ? "2 MiB" : "4 KiB");
    print_ssd(&d->node_opts.store.ssd);
    return fflush(stdout) == 0 ? EXIT_CLEAN : EXIT_RUNTIME;
}

static int run(struct yolkd *d, int argc, char **argv) {
    struct yk_err err = {0};
    int rc = yolkd_config_load(&d->config, argc, argv, environ, &err);
    if (rc == YK_OPT_HELP) {
        yolkd_config_help(stdout);
        return EXIT_CLEAN;
    }
    if (rc == 0 && d->config.version) {
        puts("yolkd " YK_VERSION);
        return EXIT_CLEAN;
    }
    if (rc == 0)
        rc = yolkd_systemd_init(&d->systemd, d->config.insecure_network, &err);
    if (rc == 0)
        rc = yolkd_config_node(&d->config, d->systemd.n_fds > 0, &d->node_opts, &err);
    if (rc == 0)
        rc = yolkd_config_cluster(&d->config, &d->node_opts, &d->dir_opts, &err);
    if (rc < 0)
        return fail(&err, EXIT_CONFIG);
    if (d->config.check_config)
        return print_effective(d);
    yk_log_init(STDERR_FILENO, (enum yk_log_level)d->config.log_level);
    rc = start(d, &err);
    if (rc == -YK_ECANCELED) { /* by a signal, which the log has told of */
        yk_log(YK_LOG_INFO, "yolkd", "%s", err.text);
        return EXIT_CLEAN;
    }
    if (rc < 0)
        return fail(&err, start_exit(d, &err));
    notify_status(d, "READY=1\n");
    serve(d);
    stop(d);
    return EXIT_CLEAN;
}

int main(int argc, char **argv) {
    struct yolkd d = {.stop_fd = -1};
    if (argc == 2 &&
        strcmp(argv[1], "--print-man") == 0) { /* for the build only: not in the table */
        yolkd_config_man(stdout);
        return fflush(stdout) == 0 ? EXIT_CLEAN : EXIT_RUNTIME;
    }
    int code = run(&d, argc, argv);
    yolkd_config_fini(&d.config);
    return code;
}
