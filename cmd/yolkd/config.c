/* SPDX-License-Identifier: Apache-2.0
 *
 * The option table of yolkd and its checks (config.h).
 *
 * The table is not const for two reasons: the names of policies come from src/sched's list, and the
 * default of --dram is this machine's, so that --help shows the figure that would be taken.
 */
#include "config.h"

#include "base/fmt.h"
#include "base/log.h"
#include "base/text.h"
#include "dir/member.h"
#include "machine.h"
#include "node/cxl_place.h"
#include "sched/cost.h"
#include "sched/policy.h"
#include "shm/segment.h"

#include <yolk/transfer.h>

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define NAME_MAX_BYTES 63u
#define POLICIES_MAX   16u
#define SHAPES_MAX     8u
#define DRAM_SHARE     4u             /* a quarter of the machine's memory by default */
#define DRAM_LEAST     (256ull << 20) /* of that default */
#define DEFAULT_DIR    "/dev/shm"

enum yolkd_huge { HUGE_AUTO, HUGE_OFF, HUGE_REQUIRE };

static const char *const huge_names[] = {"auto", "off", "require", NULL};
static const char *const level_names[] = {"error", "warn", "info", "debug", NULL};
static const char *const ssd_when_names[] = {"demotion", "write-through", NULL};
static const char *const trim_names[] = {"auto", "on", "off", NULL};
static const char *policy_names[POLICIES_MAX + 1], *ssd_admit_names[POLICIES_MAX + 1];
static const char *shape_names[SHAPES_MAX + 2] = {"none"}; /* and yk_cost_shapes */

static int check_name(const char *text, struct yk_err *err) {
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    char quoted[YK_QUOTE_MAX];
    size_t len = strlen(text);
    if (len >= 1 && len <= NAME_MAX_BYTES && strspn(text, allowed) == len && text[0] != '.')
        return 0;
    return yk_err_set(err, -YK_EINVAL,
                      "found %s, expected 1 to %u letters, digits, '_', '-' or '.', the first not "
                      "a '.'",
                      yk_quote(text, quoted), NAME_MAX_BYTES);
}

/* Only what is written as a number is judged here; names are resolved by the node. */
bool yolkd_is_remote(const struct yk_addr *addr) {
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM};
    struct addrinfo *ai = NULL;
    if (addr->kind != YK_ADDR_TCP || getaddrinfo(addr->host, NULL, &hints, &ai) != 0)
        return false;
    bool local = yolkd_address_is_local(ai->ai_addr);
    freeaddrinfo(ai);
    return !local;
}

static int check_listen(const char *text, struct yk_err *err) {
    struct yk_addr addr;
    if (strcmp(text, "none") == 0)
        return 0;
    int rc = yk_parse_addr(text, &addr, err);
    if (rc == 0 && addr.kind == YK_ADDR_TCP && addr.port == 0)
        return yk_err_set(err, -YK_EINVAL, "found '%s', expected a port from 1 to 65535", text);
    return rc;
}

/* Of the forms of an address, HTTP takes one: others are not to be proposed. */
static int check_http_form(const char *text, struct yk_err *err) {
    struct yk_addr addr;
    char found[sizeof(err->text)];
    char quoted[YK_QUOTE_MAX];
    snprintf(found, sizeof(found), "found %s", yk_quote(text, quoted));
    if (yk_parse_addr(text, &addr, err) == 0 && addr.kind == YK_ADDR_TCP)
        return 0;
    char *expected = strncmp(text, "unix:", 5) == 0 ? NULL : strstr(err->text, ", expected ");
    if (expected != NULL)
        snprintf(found, sizeof(found), "%.*s", (int)(expected - err->text), err->text);
    return yk_err_set(err, -YK_EINVAL, "%.150s, expected HOST:PORT such as 127.0.0.1:7780, or none",
                      found);
}

/* HOST:PORT; port 0 is any free one. */
static int check_transfer(const char *text, struct yk_err *err) {
    struct yk_addr addr;
    char quoted[YK_QUOTE_MAX];
    if (strcmp(text, "auto") == 0 || strcmp(text, "off") == 0)
        return 0;
    if (strncmp(text, "unix:", 5) != 0 && yk_parse_addr(text, &addr, err) == 0 && addr.kind == YK_ADDR_TCP)
        return 0;
    return yk_err_set(err, -YK_EINVAL, "found %s, expected HOST:PORT such as 127.0.0.1:7781, auto or off",
                      yk_quote(text, quoted));
}

static int check_transports(const char *text, struct yk_err *err) {
    uint32_t bits;
    int rc = yk_xfer_transports(text, &bits);
    return rc < 0 ? yk_err_set(err, rc, "%s", yk_xfer_error_text()) : 0;
}

/* HOST:PORT; port 0 is any free one. */
static int check_peer_listen(const char *text, struct yk_err *err) {
    struct yk_addr addr;
    char quoted[YK_QUOTE_MAX];
    if (strcmp(text, "auto") == 0 ||
        (strncmp(text, "unix:", 5) != 0 && yk_parse_addr(text, &addr, err) == 0 && addr.kind == YK_ADDR_TCP))
        return 0;
    return yk_err_set(err, -YK_EINVAL, "found %s, expected HOST:PORT such as 10.0.0.7:7782, or auto",
                      yk_quote(text, quoted));
}

static int check_label(const char *text, struct yk_err *err) {
    char quoted[YK_QUOTE_MAX];
    size_t len = strlen(text);
    if (len <= YK_MEMBER_LABEL_MAX && strcspn(text, " \t\"\\") == len)
        return 0;
    return yk_err_set(err, -YK_EINVAL, "found %s, expected at most %u letters, digits and signs without blanks",
                      yk_quote(text, quoted), YK_MEMBER_LABEL_MAX);
}

/* Keys of etcd begin with it. */
static int check_prefix(const char *text, struct yk_err *err) {
    char quoted[YK_QUOTE_MAX];
    size_t len = strlen(text);
    if (len >= 1 && len <= NAME_MAX_BYTES && text[len - 1] != '/' && strcspn(text, " \t\"\\") == len)
        return 0;
    return yk_err_set(err, -YK_EINVAL, "found %s, expected 1 to %u characters without blanks, the last not '/'",
                      yk_quote(text, quoted), NAME_MAX_BYTES);
}

static int check_mode(const char *text, struct yk_err *err) {
    char quoted[YK_QUOTE_MAX];
    size_t len = strlen(text);
    if (len >= 3 && len <= 4 && strspn(text, "01234567") == len && (len == 3 || text[0] == '0'))
        return 0;
    return yk_err_set(err, -YK_EINVAL, "found %s, expected octal permissions such as 0660",
                      yk_quote(text, quoted));
}

#define ROW(name_, type_, field_)                                                                  \
    .name = (name_), .type = (type_), YK_OPT_AT(struct yolkd_config, field_)
#define ONLY_ARGS (YK_OPT_NO_FILE | YK_OPT_NO_ENV)

static char dram_default[YK_FMT_MAX];

static struct yk_opt table[] = {
    {ROW("config", YK_OPT_STR, file), .letter = 'c', .metavar = "FILE", .flags = YK_OPT_CONFIG_FILE,
     .help = "Read options from this file too. With a dash before its name (--config=-FILE) it may "
             "be missing."},
    {ROW("dram", YK_OPT_SIZE, dram_bytes), .letter = 'd', .min = "4MiB", .max = "64TiB",
     .section = "memory",
     .help =
         "Memory pooled on this host. It is shared memory that stays when yolkd ends, so that a "
         "restart finds every block again. Not given: a quarter of the machine's memory, at "
         "least 256MiB."},
    {ROW("capacity-blocks", YK_OPT_INT, capacity_blocks), .def = "0", .min = "0", .max = "67108863",
     .section = "memory", .help = "Keep at most this many blocks; 0 keeps as many as fit."},
    {ROW("max-blocks", YK_OPT_INT, max_blocks), .def = "0", .min = "0", .max = "67108863",
     .section = "memory",
     .help = "Entries of the block table; 0 takes one for each 4 KiB of --dram. Another value than "
             "last time starts with an empty segment."},
    {ROW("policy", YK_OPT_ENUM, policy), .def = "learned", .values = policy_names, .section = "memory",
     .help = "Which blocks leave first when space is short. learned learns from what is asked for which are wanted again, "
             "never far below the better of lru and s3fifo; the others cost less CPU and memory."},
    {ROW("model-shape", YK_OPT_ENUM, model_shape), .def = "none", .values = shape_names, .section = "memory",
     .help = "Shape of the model whose blocks are kept: learned keeps what saves most compute then, which grows with a "
             "block's depth in the prompt as this model's attention does. none: all hits save alike."},
    {ROW("block-tokens", YK_OPT_INT, block_tokens), .def = "256", .min = "1", .max = "1048576", .section = "memory",
     .help = "With --model-shape: tokens of one block."},
    {ROW("reserve-percent", YK_OPT_INT, reserve_percent), .def = "2", .min = "0", .max = "25",
     .section = "memory",
     .help =
         "Percentage of the memory that is kept free ahead of need, so that a put does not wait "
         "for an eviction."},
    {ROW("held-percent", YK_OPT_INT, held_percent), .def = "25", .min = "1", .max = "90",
     .section = "memory",
     .help = "Percentage of the memory that reservations and hard pins together may hold."},
    {ROW("name", YK_OPT_STR, name), .def = "default", .check = check_name, .section = "memory",
     .help = "Name of the segment: its files are yolk-NAME.*. One node at a time may have it."},
    {ROW("shm-dir", YK_OPT_STR, shm_dir), .def = DEFAULT_DIR, .metavar = "DIR", .section = "memory",
     .help = "Where the segment's files are; a memory file system."},
    {ROW("ephemeral", YK_OPT_BOOL, ephemeral), .section = "memory",
     .help = "Use memory without a name: nothing is left behind, and nothing is found again."},
    {ROW("huge-pages", YK_OPT_ENUM, huge_pages), .def = "auto", .values = huge_names,
     .section = "memory",
     .help = "Hold the payload in 2 MiB pages of a hugetlbfs mount such as /dev/hugepages. auto "
             "does so if enough of them are free, and keeps the pages that an existing segment "
             "has."},
    {ROW("numa-node", YK_OPT_INT, numa_node), .def = "-1", .min = "-1", .max = "1023",
     .section = "memory", .help = "Prefer memory of this NUMA node; -1 has no preference."},
    {ROW("cxl", YK_OPT_STR, cxl), .metavar = "SIZE[@NODE]", .check = yolkd_check_cxl, .section = "memory",
     .help = "Slow memory to pool behind --dram, such as that of a CXL device: what leaves DRAM goes there, and comes "
             "back when its uses are worth it. NODE is the NUMA node that it is; without it, the one that has no "
             "processors. Another value than last time starts with an empty segment."},
    {ROW("populate", YK_OPT_BOOL, populate), .def = "yes", .section = "memory",
     .help = "Touch a new segment in the background, so that first puts find mapped pages. Without "
             "it memory is taken as blocks come, and none is registered with the SSD tier's devices."},
    {ROW("compact-percent", YK_OPT_INT, compact_percent), .def = "10", .min = "0", .max = "100",
     .section = "memory",
     .help = "Percentage of the memory in fragments above which blocks are moved together while "
             "the node is idle, so that a large put finds room; 0 moves only when one needs it."},
    {ROW("scrub-rate", YK_OPT_SIZE, scrub_rate_bytes), .def = "16MiB", .max = "1TiB",
     .metavar = "SIZE/s", .section = "memory",
     .help = "How fast the background pass reads blocks again to compare their checksums; 0 turns "
             "it off. After an unclean stop every block is verified whatever this says."},
    {ROW("scrub-interval", YK_OPT_DURATION, scrub_interval_ns), .def = "1h", .min = "1s",
     .max = "365d", .section = "memory", .help = "Pause between two such passes."},
    {ROW("ssd", YK_OPT_LIST, ssd), .letter = 's', .metavar = "LIST", .section = "ssd",
     .help = "Where blocks go that leave memory: PATH:SIZE for a file, which is made if it is not "
             "there; a directory stands for its file yolk-NAME.ssd; PATH for a file that is there, or "
             "for a block device. Up to 16 with commas between, one worker thread each. What is there "
             "is found again after a restart and a reboot."},
    {ROW("ssd-only-on", YK_OPT_ENUM, ssd_only_on), .def = "demotion", .values = ssd_when_names,
     .section = "ssd",
     .help = "When a block is written: as it leaves memory, or as soon as it was put (a crash of the "
             "host then loses little, and the device wears faster)."},
    {ROW("ssd-admit", YK_OPT_ENUM, ssd_admit), .def = "all", .values = ssd_admit_names,
     .section = "ssd",
     .help = "Which blocks that leave memory are worth a write: all, or those that were used since "
             "they were put."},
    {ROW("ssd-capacity-blocks", YK_OPT_INT, ssd_capacity_blocks), .def = "0", .min = "0",
     .max = "2000000000", .section = "ssd",
     .help = "Keep at most this many blocks on SSD; 0 keeps as many as fit."},
    {ROW("ssd-write-limit", YK_OPT_SIZE, ssd_write_limit), .def = "0", .max = "1TiB",
     .metavar = "SIZE/s", .section = "ssd",
     .help = "Bytes a second that all devices together may be written, to spare them; 0 has no limit. "
             "Blocks that find no turn in time are dropped from memory without a copy."},
    {ROW("ssd-wait", YK_OPT_DURATION, ssd_wait_ns), .def = "50ms", .min = "0", .max = "1h",
     .section = "ssd",
     .help = "How long a put waits for memory that an SSD is too slow to free. Then as many blocks as "
             "it needs are dropped unwritten. 0 waits as long as the put itself may take."},
    {ROW("ssd-clean-percent", YK_OPT_INT, ssd_clean_percent), .def = "40", .min = "1", .max = "900",
     .section = "ssd",
     .help = "Bytes that cleaning may write again for each 100 bytes of new blocks; what is over it is "
             "dropped. 40 bounds write amplification to 1.4."},
    {ROW("ssd-segment", YK_OPT_SIZE, ssd_segment_bytes), .def = "64MiB", .min = "1MiB",
     .max = "1GiB", .section = "ssd",
     .help = "Unit of writing and cleaning of a device that is formatted now; one that has its format "
             "keeps it. A block is never larger than it."},
    {ROW("ssd-trim", YK_OPT_ENUM, ssd_trim), .def = "auto", .values = trim_names, .section = "ssd",
     .help = "Tell devices which space is not needed any more (discard). auto does so on block "
             "devices; on files it frees their blocks in the file system."},
    {ROW("ssd-buffered", YK_OPT_BOOL, ssd_buffered), .section = "ssd",
     .help = "Go through the page cache, without O_DIRECT: costs a copy and memory."},
    {ROW("ssd-preload", YK_OPT_BOOL, ssd_preload), .def = "yes", .section = "ssd",
     .help = "After a start with an empty memory (a reboot) bring the most valuable blocks up in the "
             "background."},
    {ROW("prefetch-ahead", YK_OPT_BOOL, prefetch_ahead), .def = "yes", .section = "ssd",
     .help = "Bring chains up from SSD before they are asked for, where the policy (learned) predicts it well; where "
             "timing is not predictable it moves next to nothing."},
    {ROW("ssd-stop", YK_OPT_DURATION, ssd_stop_ns), .def = "10s", .min = "0", .max = "1h",
     .section = "ssd",
     .help = "How long a stop may take to write to SSD what only memory has, the most valuable first, "
             "so that a reboot finds it; 0 writes nothing."},
    {ROW("ssd-format", YK_OPT_BOOL, ssd_format), .flags = ONLY_ARGS, .section = "ssd",
     .help = "Overwrite whatever the places of --ssd hold. Without it anything that is not this "
             "node's is refused."},
    {ROW("listen", YK_OPT_LIST, listen), .letter = 'l', .def = "unix:/run/yolk.sock",
     .metavar = "LIST", .check = check_listen, .section = "network",
     .help = "Where clients connect: unix:PATH, or tcp:HOST:PORT on a loopback address, up to 8 of "
             "them with commas between. Sockets passed in by systemd come on top; with them the "
             "default is none."},
    {ROW("unix-mode", YK_OPT_STR, unix_mode), .def = "0600", .metavar = "MODE", .check = check_mode,
     .section = "network",
     .help = "Permissions of unix sockets. Whoever may connect shares the trust domain."},
    {ROW("http", YK_OPT_ADDR, http), .def = "127.0.0.1:7780", .metavar = "HOST:PORT",
     .check = check_http_form, .section = "network",
     .help = "Where metrics, health and statistics are served over HTTP; none turns it off."},
    {ROW("transfer", YK_OPT_STR, transfer), .def = "auto", .metavar = "HOST:PORT",
     .check = check_transfer, .section = "network",
     .help = "Where large payload of clients goes that cannot map the memory: over connections of its own, "
             "several at a time. auto listens on the host of the first tcp address of --listen, at any free "
             "port (as port 0 does), and nowhere without one. off sends all payload through the "
             "connections of --listen."},
    {ROW("transports", YK_OPT_STR, transports), .metavar = "LIST",
     .check = check_transports, .section = "network",
     .help = "Ways of the transfer engine to clients and other nodes: of mem, shm, tcp, file and rdma those to use, "
             "or all; all but rdma when it is not given. rdma,tcp,shm uses RDMA devices where there are some, and TCP "
             "beside them."},
    {ROW("rdma", YK_OPT_STR, rdma), .metavar = "NAME=VALUE,...", .section = "network",
     .help = "Of rdma among --transports: device=NAME or device=NAME:PORT, again for each that may be used; gid-index, "
             "traffic-class, service-level, depth. All devices, and their defaults, when it is not given."},
    {ROW("insecure-network", YK_OPT_BOOL, insecure_network), .section = "network",
     .help = "Allow addresses beyond loopback in --listen, --http, --transfer, --peer-listen and sockets passed "
             "in. There is no authentication and no encryption yet: whoever reaches such an address can read, "
             "replace and remove every block. Only for a network on which all may."},
    {ROW("max-clients", YK_OPT_INT, max_clients), .def = "2048", .min = "1", .max = "65535",
     .section = "network",
     .help = "Client processes that may map the memory at a time. Another value than last time "
             "starts with an empty segment."},
    {ROW("max-connections", YK_OPT_INT, max_connections), .def = "4096", .min = "1",
     .max = "1000000", .section = "network", .help = "Connections at a time; more are refused."},
    {ROW("etcd", YK_OPT_STR, etcd), .metavar = "URL,...", .section = "cluster",
     .help = "Be one of many nodes that find each other's blocks: members of etcd (v3), such as "
             "http://10.0.0.1:2379, with commas between. Not given: this node is alone."},
    {ROW("etcd-user", YK_OPT_STR, etcd_user), .metavar = "NAME", .section = "cluster",
     .help = "User of etcd."},
    {ROW("etcd-password-file", YK_OPT_STR, etcd_password_file), .metavar = "FILE", .section = "cluster",
     .help = "Its password is the first line of this file."},
    {ROW("etcd-ca", YK_OPT_STR, etcd_ca), .metavar = "FILE", .section = "cluster",
     .help = "Authorities that etcd's certificate must come from (PEM); not given: the system's."},
    {ROW("etcd-cert", YK_OPT_STR, etcd_cert), .metavar = "FILE", .section = "cluster",
     .help = "Certificate that is shown to etcd (PEM)."},
    {ROW("etcd-key", YK_OPT_STR, etcd_key), .metavar = "FILE", .section = "cluster",
     .help = "Key of that certificate (PEM)."},
    {ROW("cluster", YK_OPT_STR, cluster), .def = "yolk", .metavar = "PREFIX", .check = check_prefix,
     .section = "cluster", .help = "All keys in etcd begin with this; one for each cluster."},
    {ROW("node-name", YK_OPT_STR, node_name), .metavar = "NAME", .check = check_name, .section = "cluster",
     .help = "Name of this node in the cluster, for good. Not given: the host's name."},
    {ROW("zone", YK_OPT_STR, zone), .def = "", .metavar = "LABEL", .check = check_label, .section = "cluster",
     .help = "Where this node stands; blocks are read from nodes with the same label first."},
    {ROW("local-copies", YK_OPT_ENUM, local_copies), .def = "reused", .values = yk_local_copies_names,
     .section = "cluster",
     .help = "Whether a block of another node that was read here is kept: reused keeps it once it is used again "
             "(until then it is the first to go), always at once, never not at all."},
    {ROW("peer-listen", YK_OPT_STR, peer_listen), .def = "auto", .metavar = "HOST:PORT",
     .check = check_peer_listen, .section = "cluster",
     .help = "Where other nodes connect. auto is any free port (as port 0 is) on the host of the first tcp "
             "address of --listen, without one on 127.0.0.1."},
    {ROW("advertise", YK_OPT_STR, advertise), .metavar = "HOST", .section = "cluster",
     .help = "Host that other nodes reach --peer-listen by, if it is another than named there."},
    {ROW("state-dir", YK_OPT_STR, state_dir), .metavar = "DIR", .section = "service",
     .help = "Where this node keeps what its policy has learned and, with --etcd, its place in the cluster and the "
             "log of removes. Made if its parent is there. Without --etcd and a parent nothing is kept. Not given: NAME (of --name) in the service manager's state directory, else in "
             "/var/lib/yolk."},
    {ROW("cut-off", YK_OPT_DURATION, cut_off_ns), .def = "2m", .min = "1s", .max = "30d", .section = "cluster",
     .help = "How long this node's own clients find what it holds when it hears nothing from etcd: others may remove "
             "blocks without it then. Behind that their lookups are misses until etcd is heard again. At least a lease, "
             "3s."},
    {ROW("stop-timeout", YK_OPT_DURATION, stop_timeout_ns), .def = "2s", .min = "1ms", .max = "1h",
     .section = "service",
     .help = "How long replies under way may take once SIGTERM or SIGINT came."},
    {ROW("log-level", YK_OPT_ENUM, log_level), .def = "info", .values = level_names,
     .section = "service", .help = "Lines on standard error up to this level."},
    {ROW("check-config", YK_OPT_BOOL, check_config), .flags = ONLY_ARGS, .section = "service",
     .help = "Check the configuration, and whether it fits this machine now; print it as it takes "
             "effect, and exit."},
    {ROW("version", YK_OPT_BOOL, version), .flags = ONLY_ARGS, .section = "service",
     .help = "Print the version and exit."},
};

static const struct yk_opt_spec spec = {
    .program = "yolkd",
    .summary =
        "Runs a Yolk storage node in the foreground: a pool of this host's memory that keeps "
        "KV-cache blocks for the processes on it.",
    .env_prefix = "YOLK_",
    .options = table,
    .n_options = sizeof(table) / sizeof(table[0]),
};

static struct yk_opt *row(const char *name) {
    for (size_t i = 0; i < spec.n_options; i++)
        if (strcmp(table[i].name, name) == 0)
            return &table[i];
    abort(); /* a name in this file that is not in the table above */
}

static void fill_table(bool this_machine) {
    const struct yk_policy_ops *const *policies = yk_policy_list();
    uint64_t share = yolkd_memory_bytes() / DRAM_SHARE & ~(YOLKD_HUGE_PAGE - 1);
    for (size_t i = 0; i < POLICIES_MAX && policies[i] != NULL; i++)
        policy_names[i] = policies[i]->name;
    for (size_t i = 0; i < POLICIES_MAX && yk_policy_admit_list()[i].name != NULL; i++)
        ssd_admit_names[i] = yk_policy_admit_list()[i].name;
    for (size_t i = 0; i < SHAPES_MAX && yk_cost_shapes()[i].name != NULL; i++)
        shape_names[i + 1] = yk_cost_shapes()[i].name;
    yk_fmt_bytes_exact(share < DRAM_LEAST ? DRAM_LEAST : share, dram_default);
    row("dram")->def = this_machine ? dram_default : NULL;
}

int yolkd_config_load(struct yolkd_config *config, int argc, char *const *argv, char *const *envp,
                      struct yk_err *err) {
    memset(config, 0, sizeof(*config));
    fill_table(true);
    int rc = yk_opt_init(&config->opts, &spec, config, err);
    return rc < 0 ? rc : yk_opt_load(&config->opts, argc, argv, envp, err);
}

void yolkd_config_fini(struct yolkd_config *config) {
    yk_opt_fini(&config->opts);
}

void yolkd_config_help(FILE *out) {
    yk_opt_print_help(&spec, out);
}

/* ---- against the machine -------------------------------------------------------------------- */

/* Of both kinds of memory. Its option was checked. */
static uint64_t payload_bytes(const struct yolkd_config *config) {
    struct yk_err err;
    uint64_t slow = 0;
    int node;
    if (config->cxl != NULL && yk_cxl_place_parse(config->cxl, &slow, &node, &err) < 0)
        slow = 0;
    return config->dram_bytes + slow;
}

static int check_total(const struct yolkd_config *config, struct yk_err *err) {
    char asked[YK_FMT_MAX], total[YK_FMT_MAX];
    uint64_t bytes = yolkd_memory_bytes(), want = payload_bytes(config);
    if (bytes == 0 || want <= bytes)
        return 0;
    if (config->dram_bytes <= bytes)
        return yk_opt_fail(&config->opts, "cxl", err, "found %s, expected at most the %s that this machine has beside --dram",
                           yk_fmt_bytes_exact(want - config->dram_bytes, asked),
                           yk_fmt_bytes(bytes - config->dram_bytes, total));
    return yk_opt_fail(&config->opts, "dram", err,
                       "found %s, expected at most the %s this machine has",
                       yk_fmt_bytes_exact(config->dram_bytes, asked), yk_fmt_bytes(bytes, total));
}

static uint64_t round_up(uint64_t bytes, uint64_t unit) {
    return (bytes + unit - 1) / unit * unit;
}

/* What an old segment holds is free again if it is replaced, and needed no more if it is kept. */
static int check_room(const struct yolkd_config *config, struct yk_err *err) {
    char asked[YK_FMT_MAX], left[YK_FMT_MAX], more[YK_FMT_MAX];
    uint64_t bytes = 0, allocated = 0, slow = payload_bytes(config) - config->dram_bytes;
    const char *dir = config->ephemeral ? DEFAULT_DIR : config->shm_dir;
    if (!config->ephemeral && yolkd_segment_file(dir, config->name, &bytes, &allocated) &&
        bytes == round_up(config->dram_bytes, YK_SHM_PAGE) + round_up(slow, YK_SHM_PAGE))
        return 0;
    struct yk_store_opts so = {.segment = {.data_bytes = config->dram_bytes,
                                           .max_blocks = (uint32_t)config->max_blocks,
                                           .max_clients = (uint32_t)config->max_clients + 1u},
                               .cxl = {.bytes = slow}};
    uint64_t beside = yk_store_beside_bytes(&so);
    uint64_t room = yk_segment_room(dir);
    if (room == 0 || config->dram_bytes + slow + beside <= room + allocated)
        return 0;
    room += allocated;
    beside += slow;
    return yk_opt_fail(&config->opts, "dram", err,
                       "found %s, expected at most the %s that are free here and in %s beside %s for "
                       "%sthe block table and --max-clients=%d",
                       yk_fmt_bytes_exact(config->dram_bytes, asked),
                       yk_fmt_bytes(room > beside ? room - beside : 0, left), dir,
                       yk_fmt_bytes(beside, more), slow != 0 ? "--cxl, " : "", config->max_clients);
}

static int check_dir(const struct yolkd_config *config, struct yk_err *err) {
    char quoted[YK_QUOTE_MAX];
    struct stat st;
    if (config->ephemeral || (stat(config->shm_dir, &st) == 0 && S_ISDIR(st.st_mode)))
        return 0;
    return yk_opt_fail(&config->opts, "shm-dir", err, "found %s, expected a directory",
                       yk_quote(config->shm_dir, quoted));
}

static int fail_huge(const struct yolkd_config *config, const struct yolkd_huge_mount *mount,
                     uint64_t room, struct yk_err *err) {
    unsigned long long want = (unsigned long long)(config->dram_bytes / YOLKD_HUGE_PAGE);
    if (mount->dir[0] == '\0')
        return yk_opt_fail(
            &config->opts, "huge-pages", err,
            "found no writable hugetlbfs mount of 2 MiB pages, expected one (mount -t "
            "hugetlbfs none /dev/hugepages)");
    return yk_opt_fail(&config->opts, "huge-pages", err,
                       "found %llu free pages of 2 MiB in %s, expected %llu for --dram (write at "
                       "least that into /proc/sys/vm/nr_hugepages)",
                       (unsigned long long)(room / YOLKD_HUGE_PAGE), mount->dir, want);
}

/* Whether the payload goes to huge pages: *ret_dir is the mount or NULL. The files of an existing
 * segment decide under `auto`: going to other pages would lose its blocks. */
static int choose_pages(const struct yolkd_config *config, const char **ret_dir,
                        struct yk_err *err) {
    static struct yolkd_huge_mount mount; /* ret_dir points into it */
    uint64_t bytes, unused, allocated = 0;
    *ret_dir = NULL;
    memset(&mount, 0, sizeof(mount));
    if (config->huge_pages == HUGE_OFF)
        return 0;
    /* Pages of hugetlbfs are had by a call on the file, which does not look where a mapping wants them. */
    if (config->cxl != NULL)
        return config->huge_pages == HUGE_AUTO
                   ? 0
                   : yk_opt_fail(&config->opts, "huge-pages", err,
                                 "found 'require' with --cxl, expected one of them");
    if (config->ephemeral)
        return config->huge_pages == HUGE_AUTO
                   ? 0
                   : yk_opt_fail(&config->opts, "huge-pages", err,
                                 "found 'require' with --ephemeral, expected one of them");
    bool found = yolkd_huge_mount_find(&mount);
    uint64_t need = round_up(config->dram_bytes, YOLKD_HUGE_PAGE);
    bool ours = found && yolkd_segment_file(mount.dir, config->name, &bytes, &allocated);
    bool enough = found && (mount.free_bytes + allocated >= need || (ours && bytes == need));
    if (config->huge_pages == HUGE_REQUIRE && !enough)
        return fail_huge(config, &mount, mount.free_bytes + allocated, err);
    bool plain = yolkd_segment_file(config->shm_dir, config->name, &bytes, &unused) &&
                 bytes == round_up(config->dram_bytes, YK_SHM_PAGE);
    if (enough && (config->huge_pages == HUGE_REQUIRE || ours || !plain))
        *ret_dir = mount.dir;
    return 0;
}

static int check_machine(const struct yolkd_config *config, const char **ret_huge_dir,
                         struct yk_err *err) {
    int rc = check_dir(config, err);
    if (rc == 0)
        rc = check_total(config, err);
    if (rc == 0)
        rc = choose_pages(config, ret_huge_dir, err);
    if (rc == 0 && *ret_huge_dir == NULL)
        rc = check_room(config, err);
    if (rc == 0 && config->numa_node >= 0 && !yolkd_numa_node_exists(config->numa_node))
        rc = yk_opt_fail(&config->opts, "numa-node", err,
                         "found %d, expected a NUMA node of this machine (see lscpu) or -1",
                         config->numa_node);
    return rc;
}

/* ---- addresses ------------------------------------------------------------------------------ */

#define REMOTE_TEXT                                                                                \
    "found '%s', expected a loopback address such as 127.0.0.1, or --insecure-network: nobody is "  \
    "authenticated yet"

static int fill_listen(const struct yolkd_config *config, bool activated, struct yk_node_opts *opts,
                       struct yk_err *err) {
    if (activated && !yk_opt_is_set(&config->opts, "listen"))
        return 0;
    for (size_t i = 0; i < config->listen.n; i++) {
        if (strcmp(config->listen.items[i], "none") == 0)
            continue;
        if (opts->listen_count == YK_NODE_LISTEN_MAX)
            return yk_opt_fail(&config->opts, "listen", err,
                               "found %zu addresses, expected at most %u", config->listen.n,
                               YK_NODE_LISTEN_MAX);
        int rc = yk_parse_addr(config->listen.items[i], &opts->listen[opts->listen_count++], err);
        if (rc < 0)
            return rc;
        if (!config->insecure_network && yolkd_is_remote(&opts->listen[opts->listen_count - 1]))
            return yk_opt_fail(&config->opts, "listen", err, REMOTE_TEXT, config->listen.items[i]);
    }
    if (opts->listen_count > 0 || activated)
        return 0;
    return yk_opt_fail(&config->opts, "listen", err,
                       "found no address, expected one such as unix:/run/yolk.sock");
}

static int check_http(const struct yolkd_config *config, struct yk_err *err) {
    char text[YK_ADDR_TEXT_MAX];
    yk_addr_format(&config->http, text);
    if (config->insecure_network || !yolkd_is_remote(&config->http))
        return 0;
    return yk_opt_fail(&config->opts, "http", err, REMOTE_TEXT, text);
}

static int check_transfer_host(const struct yolkd_config *config, struct yk_err *err) {
    struct yk_addr addr;
    struct yk_err none;
    if (config->insecure_network || yk_parse_addr(config->transfer, &addr, &none) < 0 || !yolkd_is_remote(&addr))
        return 0;
    return yk_opt_fail(&config->opts, "transfer", err, REMOTE_TEXT, config->transfer);
}

static double saved_growth(const struct yolkd_config *config) {
    const struct yk_cost_shape *shape = yk_cost_shape_find(shape_names[config->model_shape]);
    return shape != NULL ? yk_cost_growth(shape, (uint32_t)config->block_tokens) : 0;
}

int yolkd_config_node(const struct yolkd_config *config, bool activated,
                      struct yk_node_opts *ret_opts, struct yk_err *err) {
    const char *huge_dir = NULL;
    struct yk_store_ssd_opts ssd = {.dev_count = 0};
    struct yk_store_cxl_opts cxl;
    struct yk_node_opts opts = {
        .unix_mode = (uint32_t)strtoul(config->unix_mode, NULL, 8),
        .max_conns = (uint32_t)config->max_connections,
        .stop_timeout_ms = (uint32_t)(config->stop_timeout_ns / 1000000u),
        .settle_ms = (uint32_t)(config->ssd_stop_ns / 1000000u),
        .scrub_bytes_per_s = config->scrub_rate_bytes,
        .scrub_interval_s = (uint32_t)(config->scrub_interval_ns / 1000000000u),
        .populate = config->populate,
        .compact_percent = (uint32_t)config->compact_percent,
        .allow_remote = config->insecure_network,
        .transfer = config->transfer,
        .rdma = config->rdma,
    };
    if (config->transports != NULL)
        (void)yk_xfer_transports(config->transports, &opts.transports); /* it was checked */
    int rc = fill_listen(config, activated, &opts, err);
    if (rc == 0)
        rc = check_http(config, err);
    if (rc == 0)
        rc = check_transfer_host(config, err);
    if (rc == 0)
        rc = check_machine(config, &huge_dir, err);
    if (rc == 0)
        rc = yolkd_config_cxl(config, &cxl, err);
    if (rc == 0)
        rc = yolkd_config_ssd(config, &ssd, err);
    if (rc < 0)
        return rc;
    opts.store = (struct yk_store_opts){
        .ssd = ssd,
        .cxl = cxl,
        .segment = {.dir = config->shm_dir,
                    .name = config->ephemeral ? NULL : config->name,
                    .huge_dir = huge_dir,
                    .data_bytes = config->dram_bytes,
                    .max_blocks = (uint32_t)config->max_blocks,
                    .max_clients = (uint32_t)config->max_clients + 1u, /* slot 0 is the node's */
                    .numa_node = config->numa_node},
        .policy = policy_names[config->policy],
        .saved_growth = saved_growth(config),
        .capacity_blocks = (uint64_t)config->capacity_blocks,
        .reserve_percent = (uint32_t)config->reserve_percent,
        .held_percent = (uint32_t)config->held_percent,
        .local_copies = (uint8_t)config->local_copies,
        .seed = 1, /* a constant: the same calls evict the same blocks */
    };
    *ret_opts = opts;
    return 0;
}

/* ---- the manual page ------------------------------------------------------------------------ */

void yolkd_config_man(FILE *out) {
    fill_table(false);
    fputs(
        ".TH YOLKD 8 \"\" \"yolk " YK_VERSION "\" \"Yolk\"\n"
        ".SH NAME\nyolkd \\- storage node of the Yolk KV\\-cache store\n"
        ".SH SYNOPSIS\n\\fByolkd\\fR [\\fIOPTION\\fR]...\n"
        ".SH DESCRIPTION\n"
        "Pools memory of this host and keeps KV\\-cache blocks in it for the inference engines "
        "that\n"
        "run here. Clients connect to a unix socket and then map the memory: their lookups and "
        "gets\n"
        "need no system call. yolkd stays in the foreground and writes its log to standard error.\n"
        ".PP\n"
        "The memory is shared memory with a name. It outlives the daemon: after a restart, an\n"
        "upgrade or a crash all blocks are there again. \\fBrm /dev/shm/yolk\\-\\fINAME\\fB.*\\fR\n"
        "gives it back when no yolkd runs on it.\n"
        ".PP\n"
        "With \\fB\\-\\-cxl\\fR slow memory is pooled behind DRAM: what leaves DRAM goes there, and clients read it "
        "there as\n"
        "they read DRAM.\n"
        ".PP\n"
        "With \\fB\\-\\-ssd\\fR blocks that leave memory go to files or devices and come up again "
        "when they\n"
        "are asked for; both tiers are one pool. They survive a reboot as well.\n"
        ".PP\n"
        "With \\fB\\-\\-etcd\\fR nodes are one cluster: what one of them has, clients of all find, and a "
        "remove\n"
        "is one everywhere. Blocks go from node to node through the transfer engine.\n",
        out);
    yk_opt_print_man(&spec, out);
    fputs(
        ".SH SIGNALS\n"
        ".TP\n\\fBSIGTERM\\fR, \\fBSIGINT\\fR\nStop in good order. A second one, half a second "
        "later or more,\nends the process at once; nothing is lost by that, but the next start verifies every block before its "
        "first\nuse.\n"
        ".TP\n\\fBSIGHUP\\fR\nNothing can be reloaded while it runs, and the log says so; when "
        "standard\n"
        "error is a terminal, as SIGTERM.\n"
        ".SH SYSTEMD\n"
        "yolkd says when it is ready (\\fBType=notify\\fR), answers a watchdog\n"
        "(\\fBWatchdogSec=\\fR) for as long as its event loop turns, and takes over the sockets of "
        "a\n"
        "\\fB.socket\\fR unit.\n"
        ".SH EXIT STATUS\n"
        ".TP\n\\fB0\\fR\nStopped in good order; or \\fB\\-\\-check\\-config\\fR found nothing "
        "wrong.\n"
        ".TP\n\\fB1\\fR\nIt could not start or go on: an address or the segment is in use, not\n"
        "permitted, an input/output error; or it was told to stop twice, or did not stop in time.\n"
        ".TP\n\\fB2\\fR\nWrong usage or configuration, asking for more memory than there is "
        "included;\nor what \\fB\\-\\-ssd\\fR names cannot be used as it is.\n"
        ".SH FILES\n"
        ".TP\n\\fI/dev/shm/yolk\\-NAME.meta\\fR, \\fI.data\\fR, \\fI.clients\\fR\nThe segment: "
        "block\n"
        "table and index, payload, and what clients hold.\n"
        ".TP\n\\fIyolk\\-NAME.ssd\\fR\nThe file of the SSD tier in a directory that \\fB\\-\\-ssd\\fR "
        "names.\n"
        ".TP\n\\fI/run/yolk.sock\\fR\nWhere clients connect.\n"
        ".SH EXAMPLES\n"
        ".nf\n"
        "yolkd \\-\\-dram 8G \\-\\-listen unix:$XDG_RUNTIME_DIR/yolk.sock\n"
        "yolkd \\-\\-dram 64G \\-\\-ssd /var/lib/yolk:500G\n"
        "yolkd \\-\\-dram 64G \\-\\-cxl 256G@2 \\-\\-ssd /var/lib/yolk:2T\n"
        "yolkd \\-\\-etcd http://10.0.0.1:2379 \\-\\-peer\\-listen 10.0.0.7:7782 "
        "\\-\\-insecure\\-network\n"
        "yolkd \\-\\-check\\-config \\-\\-config /etc/yolk/yolkd.conf\n"
        ".fi\n"
        ".SH SEE ALSO\n\\fByolk\\fR(1)\n",
        out);
}
