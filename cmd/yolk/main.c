/* SPDX-License-Identifier: Apache-2.0
 *
 * yolk: finds the command, parses its options, runs it.
 *
 * Common options may stand before the command or after it. What stands before is parsed once with
 * the common table, to find the command, and then again, moved behind it, with the command's.
 */
#include "commands.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "client/route.h"
#include "meta/nodes.h"

extern char **environ;

/* ---- version -------------------------------------------------------------------------------- */

static int version(struct yolk_ctx *ctx) {
    struct yk_json json;
    if (!ctx->common->json) {
        printf("yolk %s (libyolk %s)\n", YK_VERSION, yk_version());
        return yolk_finish(YOLK_OK);
    }
    yk_json_init_file(&json, stdout);
    yk_json_begin_object(&json);
    yk_json_put_str(&json, "version", YK_VERSION);
    yk_json_put_str(&json, "libyolk", yk_version());
    yk_json_end_object(&json);
    yk_json_newline(&json);
    yk_json_finish(&json);
    return yolk_finish(YOLK_OK);
}

const struct yolk_cmd yolk_cmd_version = {
    .name = "version",
    .help = "print the version",
    .config_bytes = sizeof(struct yolk_common),
    .flags = YOLK_CMD_LOCAL,
    .fn = version,
};

/* ---- running a command ------------------------------------------------------------------------ */

static int run_parsed(const struct yolk_cmd *cmd, void *config, const struct yk_opts *opts) {
    struct yolk_ctx ctx = {.cmd = cmd,
                           .config = config,
                           .common = config,
                           .opts = opts,
                           .args = opts->args,
                           .n_args = opts->n_args};
    int code = cmd->fn(&ctx);
    yk_close(ctx.client);
    return code;
}

static int run(const struct yolk_cmd *cmd, int argc, char **argv) {
    struct yolk_table table;
    struct yk_opts opts = {0};
    struct yk_err err = {0};
    void *config = calloc(1, cmd->config_bytes);
    if (config == NULL)
        return yolk_fail(YOLK_FAIL, "out of memory");
    yolk_table_make(cmd, &table);
    int code, rc = yk_opt_init(&opts, &table.spec, config, &err);
    if (rc == 0)
        rc = yk_opt_load(&opts, argc, argv, environ, &err);
    if (rc < 0) {
        code = yolk_fail(YOLK_USAGE, "%s", err.text);
    } else if (rc == YK_OPT_HELP) {
        yk_opt_print_help(&table.spec, stdout);
        code = yolk_finish(YOLK_OK);
    } else {
        code = run_parsed(cmd, config, &opts);
    }
    yk_opt_fini(&opts);
    free(config);
    return code;
}

static int unknown(const char *name) {
    const char *names[64];
    char quoted[YK_QUOTE_MAX];
    size_t n = 0;
    for (; yolk_commands[n] != NULL && n < sizeof(names) / sizeof(names[0]); n++)
        names[n] = yolk_commands[n]->name;
    const char *near = yk_did_you_mean(name, names, n);
    if (near != NULL)
        return yolk_fail(YOLK_USAGE, "found %s, which is no command (did you mean '%s'?)",
                         yk_quote(name, quoted), near);
    return yolk_fail(YOLK_USAGE, "found %s, which is no command (see yolk --help)",
                     yk_quote(name, quoted));
}

/* argv without the command's name, and without the '--' that may stand before it. */
static int run_named(const char *name, int argc, char **argv) {
    const struct yolk_cmd *cmd = yolk_command_find(name);
    if (cmd == NULL)
        return unknown(name);
    char **words = calloc((size_t)argc + 1, sizeof(*words));
    int n = 0, at = 0;
    if (words == NULL)
        return yolk_fail(YOLK_FAIL, "out of memory");
    while (argv[at] != name)
        at++;
    for (int i = 0; i < argc; i++)
        if (i != at && !(i == at - 1 && strcmp(argv[i], "--") == 0))
            words[n++] = argv[i];
    int code = run(cmd, n, words);
    free(words);
    return code;
}

static int help_of(const char *name) {
    struct yolk_table table;
    const struct yolk_cmd *cmd = yolk_command_find(name);
    if (cmd == NULL)
        return unknown(name);
    yolk_table_make(cmd, &table);
    yk_opt_print_help(&table.spec, stdout);
    return yolk_finish(YOLK_OK);
}

/* What stands before the command, and the command's name. */
static int run_line(struct yk_opts *opts, int argc, char **argv) {
    static struct yolk_common common;
    struct yk_err err = {0};
    int rc = yk_opt_init(opts, &yolk_common_spec, &common, &err);
    if (rc == 0)
        rc = yk_opt_parse_args(opts, argc, argv, &err);
    if (rc < 0)
        return yolk_fail(YOLK_USAGE, "%s", err.text);
    if (rc == YK_OPT_HELP || (opts->n_args == 1 && strcmp(opts->args[0], "help") == 0)) {
        yolk_print_help(stdout);
        return yolk_finish(YOLK_OK);
    }
    if (opts->n_args == 0)
        return yolk_fail(YOLK_USAGE, "found no command (see yolk --help)");
    if (opts->n_args == 2 && strcmp(opts->args[0], "help") == 0)
        return help_of(opts->args[1]);
    return run_named(opts->args[0], argc, argv);
}

int main(int argc, char **argv) {
    struct yk_opts opts = {0};
    if (argc == 2 && strcmp(argv[1], "--print-man") == 0) { /* for the build only: in no table */
        yolk_print_man(stdout);
        return yolk_finish(YOLK_OK);
    }
    if (argc == 2 && strcmp(argv[1], "--version") == 0)
        argv[1] += 2; /* the command of that name */
    yk_client_find = yk_etcd_nodes; /* etcd:// in --url */
    int code = run_line(&opts, argc, argv);
    yk_opt_fini(&opts);
    return code;
}
