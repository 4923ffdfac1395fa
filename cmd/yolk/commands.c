/* SPDX-License-Identifier: Apache-2.0
 *
 * The list of commands and the common options; --help and yolk(1) from them (cmd.h).
 */
#include "commands.h"

#include <yolk/transfer.h>

#include <string.h>

const struct yolk_cmd *const yolk_commands[] = {
    &yolk_cmd_put,
    &yolk_cmd_get,
    &yolk_cmd_ls,
    &yolk_cmd_stat,
    &yolk_cmd_rm,
    &yolk_cmd_match,
    &yolk_cmd_touch,
    &yolk_cmd_pin,
    &yolk_cmd_unpin,
    &yolk_cmd_expire,
    &yolk_cmd_prefetch,
    &yolk_cmd_ns,
    &yolk_cmd_top,
    &yolk_cmd_ssd,
    &yolk_cmd_sched,
    &yolk_cmd_topo,
    &yolk_cmd_xfer,
    &yolk_cmd_nodes,
    &yolk_cmd_slots,
    &yolk_cmd_locate,
    &yolk_cmd_drain,
    &yolk_cmd_forget,
    &yolk_cmd_rebalance,
    &yolk_cmd_copy,
    &yolk_cmd_move,
    &yolk_cmd_tasks,
    &yolk_cmd_route,
    &yolk_cmd_bench,
    &yolk_cmd_gen,
    &yolk_cmd_replay,
    &yolk_cmd_run,
    &yolk_cmd_sim,
    &yolk_cmd_version,
    NULL,
};

int yolk_check_transports(const char *text, struct yk_err *err) {
    uint32_t bits;
    int rc = yk_xfer_transports(text, &bits);
    return rc < 0 ? yk_err_set(err, rc, "%s", yk_xfer_error_text()) : 0;
}

#define ROW(name_, type_, field_)                                                                  \
    .name = (name_), .type = (type_), YK_OPT_AT(struct yolk_common, field_)

/* json is the first: commands that need no node take it alone. */
static const struct yk_opt common_rows[] = {
    {ROW("json", YK_OPT_BOOL, json), .letter = 'j', .section = "common",
     .help = "Print results as JSON, one object a line."},
    {ROW("url", YK_OPT_STR, url), .letter = 'u', .def = "unix:/run/yolk.sock", .metavar = "URL",
     .section = "common", .help = "The node: unix:PATH or tcp:HOST:PORT; several with commas between, of which the first that "
                                 "answers is taken; or etcd://HOST:PORT,.../CLUSTER?zone=ZONE, which knows them."},
    {ROW("namespace", YK_OPT_STR, name_space), .letter = 'n', .def = "default", .metavar = "NAME",
     .section = "common",
     .help = "Namespace of the keys. put makes one that is not there, and so does replay; for other "
             "commands nothing is in it, and they say so."},
    {ROW("epoch", YK_OPT_INT, epoch), .def = "0", .min = "0", .section = "common",
     .help = "Epoch of the weights that blocks belong to; 0 takes the namespace's. put with a "
             "higher one than the namespace's raises that: all its older blocks are dropped, for "
             "every client. Other commands raise nothing and refuse an epoch that it is not at."},
    {ROW("timeout", YK_OPT_DURATION, timeout_ns), .letter = 't', .def = "5s", .min = "1ms",
     .max = "7d", .section = "common",
     .help = "How long each call may take, waiting for space included."},
    {ROW("map", YK_OPT_BOOL, map), .def = "yes", .section = "common",
     .help = "Map the node's memory where it is on this host; --no-map has payload go through sockets."},
    {ROW("shm", YK_OPT_BOOL, shm), .def = "yes", .section = "common",
     .help = "Another name: --no-shm is --no-map."},
    {ROW("xfer", YK_OPT_BOOL, xfer), .def = "yes", .section = "common",
     .help = "Without a mapping large payload goes through the transfer engine, over all rails; --no-xfer "
             "has all of it go through the one connection to the node."},
    {ROW("rails", YK_OPT_STR, rails), .metavar = "NAME,...", .section = "common",
     .help = "Own devices or addresses that the engine may use, such as eth0,10.0.0.7; all that are useful "
             "when it is not given."},
    {ROW("transports", YK_OPT_STR, transports), .metavar = "LIST", .check = yolk_check_transports,
     .section = "common",
     .help = "Of mem, shm, tcp, file and rdma those that the engine may use, or all; all but rdma when it is not "
             "given."},
    {ROW("rdma", YK_OPT_STR, rdma), .metavar = "NAME=VALUE,...", .section = "common",
     .help = "Of rdma among --transports: device=NAME or device=NAME:PORT, again for each that may be used; gid-index, "
             "traffic-class, service-level, depth. All devices when it is not given."},
};

#define N_COMMON (sizeof(common_rows) / sizeof(common_rows[0]))

const struct yk_opt_spec yolk_common_spec = {
    .program = "yolk",
    .args = "COMMAND [ARGUMENT]...",
    .env_prefix = "YOLK_",
    .options = common_rows,
    .n_options = N_COMMON,
    .max_args = SIZE_MAX,
    .flags = YK_OPT_STOP_AT_ARG,
};

const struct yolk_cmd *yolk_command_find(const char *name) {
    for (size_t i = 0; yolk_commands[i] != NULL; i++)
        if (strcmp(yolk_commands[i]->name, name) == 0)
            return yolk_commands[i];
    return NULL;
}

void yolk_table_make(const struct yolk_cmd *cmd, struct yolk_table *ret_table) {
    struct yolk_table *t = ret_table;
    size_t n = 0;
    for (size_t i = 0; i < cmd->n_options && n + N_COMMON < YOLK_ROWS_MAX; i++) {
        t->rows[n] = cmd->options[i];
        t->rows[n++].flags |= YK_OPT_NO_ENV; /* YOLK_FORCE=1 must not be a thing */
    }
    for (size_t i = 0; i < (cmd->flags & YOLK_CMD_LOCAL ? 1 : N_COMMON); i++)
        t->rows[n++] = common_rows[i];
    snprintf(t->program, sizeof(t->program), "yolk %s", cmd->name);
    snprintf(t->summary, sizeof(t->summary), "%c%s.%s%s", cmd->help[0] - 'a' + 'A', cmd->help + 1,
             cmd->more != NULL ? " " : "", cmd->more != NULL ? cmd->more : "");
    t->spec = (struct yk_opt_spec){
        .program = t->program,
        .args = cmd->args,
        .summary = t->summary,
        .env_prefix = "YOLK_",
        .options = t->rows,
        .n_options = n,
        .min_args = cmd->min_args,
        .max_args = cmd->max_args,
    };
}

/* ---- texts ---------------------------------------------------------------------------------- */

struct exit_row {
    int code;
    const char *text;
};

static const struct exit_row exits[] = {
    {YOLK_OK, "It is done."},
    {YOLK_FAIL, "It failed; standard error says why."},
    {YOLK_USAGE, "Wrong usage: an option, argument, key, size or file; nothing was done."},
    {YOLK_MISS,
     "A block that was asked for is not there, or not one of them is (match), or their namespace is "
     "not. For bench, "
     "a program to compare with is not installed."},
    {YOLK_CONFLICT, "The key has other bytes already, and --upsert was not given."},
    {YOLK_INTERRUPTED,
     "replay, run: interrupted (SIGINT, SIGTERM, SIGHUP); the figures are of what ran."},
};

#define N_EXITS (sizeof(exits) / sizeof(exits[0]))

#define COLUMNS 79u

/* Words of a text, lines after the first one indented; the caller has written `indent` columns. */
static void wrap(const char *text, unsigned indent, FILE *out) {
    size_t at = indent;
    while (*text != '\0') {
        size_t n = strcspn(text, " ");
        if (at > indent && at + 1 + n > COLUMNS) {
            fprintf(out, "\n%*s", (int)indent, "");
            at = indent;
        }
        at += (size_t)fprintf(out, "%s%.*s", at > indent ? " " : "", (int)n, text);
        text += n;
        text += *text == ' ';
    }
    fputc('\n', out);
}

void yolk_print_help(FILE *out) {
    fputs("Usage: yolk [OPTION]... COMMAND [ARGUMENT]...\n"
          "Puts blocks into a Yolk node and gets them, and looks at the node.\n\nCommands:\n",
          out);
    for (size_t i = 0; yolk_commands[i] != NULL; i++) {
        fprintf(out, "  %-10s ", yolk_commands[i]->name);
        wrap(yolk_commands[i]->help, 13, out);
    }
    fputs("\nyolk COMMAND --help says more about each. Options of all commands: --url\n"
          "(or $YOLK_URL), --namespace, --epoch, --timeout, --json, --no-shm, --no-xfer,\n"
          "--rails, --transports, --rdma; --version.\n\n"
          "Exit status:\n",
          out);
    for (size_t i = 0; i < N_EXITS; i++) {
        fprintf(out, "  %-3d  ", exits[i].code);
        wrap(exits[i].text, 7, out);
    }
}

static void man_command(const struct yolk_cmd *cmd, FILE *out) {
    struct yolk_table table;
    yolk_table_make(cmd, &table);
    fprintf(out, ".SS \"%s", table.program);
    if (cmd->args != NULL)
        fprintf(out, " %s", cmd->args);
    fputs("\"\n", out);
    yk_opt_man_text(out, table.summary);
    fputc('\n', out);
    table.spec.n_options = cmd->n_options;
    yk_opt_print_man_rows(&table.spec, out);
}

void yolk_print_man(FILE *out) {
    fputs(".TH YOLK 1 \"\" \"yolk " YK_VERSION "\" \"Yolk\"\n"
          ".SH NAME\nyolk \\- put blocks into a Yolk node, get them, and look at it\n"
          ".SH SYNOPSIS\n\\fByolk\\fR [\\fIOPTION\\fR]... \\fICOMMAND\\fR [\\fIARGUMENT\\fR]...\n"
          ".SH DESCRIPTION\n"
          "The command line of a node that \\fByolkd\\fR(8) runs. Blocks are immutable bytes under "
          "a\n"
          "key of 1 to 255 bytes in a namespace; payload goes through files and pipes.\n"
          ".PP\n"
          "Keys are printed as text: bytes that are no printable UTF\\-8 as \\exNN, a backslash\n"
          "doubled. \\fB\\-\\-hex\\fR prints and reads keys as hex digits, for those that are "
          "binary.\n"
          ".SH COMMANDS\n",
          out);
    for (size_t i = 0; yolk_commands[i] != NULL; i++)
        man_command(yolk_commands[i], out);
    yk_opt_print_man(&yolk_common_spec, out);
    fputs(".SH EXIT STATUS\n", out);
    for (size_t i = 0; i < N_EXITS; i++) {
        fprintf(out, ".TP\n\\fB%d\\fR\n", exits[i].code);
        yk_opt_man_text(out, exits[i].text);
        fputc('\n', out);
    }
    fputs(".SH EXAMPLES\n.nf\n"
          "yolk put prompt/1 block.bin\n"
          "tar c dir | yolk put \\-\\-ttl 1h backup \\-\n"
          "yolk get prompt/1 | sha256sum\n"
          "yolk match prompt/1 prompt/2 prompt/3\n"
          "yolk ls \\-\\-hex | yolk stat \\-\\-hex \\-\\-keys \\-\n"
          "yolk \\-\\-json stat | jq .blocks\n"
          "yolk top\n"
          ".fi\n"
          ".SH SEE ALSO\n\\fByolkd\\fR(8)\n",
          out);
}
