/* SPDX-License-Identifier: Apache-2.0
 *
 * Option table: command line, environment, precedence, messages, and tables that are refused.
 */
#include "opt_fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))

static struct yk_opts opts;
static struct config config;
static struct yk_err err;

static int setup(void **state) {
    (void)state;
    memset(&config, 0xa5, sizeof(config)); /* old contents are ignored */
    memset(&err, 0, sizeof(err));
    return yk_opt_init(&opts, &spec, &config, &err);
}

static int teardown(void **state) {
    (void)state;
    yk_opt_fini(&opts);
    assert_null(config.path);
    assert_null(config.listen.items);
    return 0;
}

/* Parses words, NULL-ended, as a command line. */
static int parse(const char *const *words) {
    char *argv[32] = {(char *)"yolkd"};
    int argc = 1;
    for (; *words != NULL; words++)
        argv[argc++] = (char *)*words;
    memset(&err, 0, sizeof(err));
    return yk_opt_parse_args(&opts, argc, argv, &err);
}

#define PARSE(...) parse((const char *const[]){__VA_ARGS__, NULL})

static int parse_env(const char *entry) {
    char *envp[] = {(char *)"HOME=/", (char *)entry, NULL};
    memset(&err, 0, sizeof(err));
    return yk_opt_parse_env(&opts, envp, &err);
}

/* The code is -YK_EINVAL and the text exactly this. */
static void said(int rc, const char *text) {
    assert_int_equal(rc, -YK_EINVAL);
    assert_int_equal(err.code, -YK_EINVAL);
    assert_string_equal(err.text, text);
}

static void defaults(void **state) {
    (void)state;
    assert_true(config.dram_bytes == 1ull << 30);
    assert_true(config.timeout_ns == 500000000);
    assert_true(config.clients == 1000);
    assert_int_equal(config.shards, -1);
    assert_true(fabs(config.high_water - 0.95) < 1e-12);
    assert_true(config.speed == 1.5);
    assert_int_equal(config.policy, 1);
    assert_int_equal(config.http.port, 7780);
    assert_int_equal(config.listen.n, 1);
    assert_string_equal(config.listen.items[0], "unix:/run/yolk.sock");
    assert_null(config.path);
    assert_false(config.json);
    assert_true(config.scrub);
    assert_false(yk_opt_is_set(&opts, "dram"));
}

static void long_options(void **state) {
    (void)state;
    assert_int_equal(PARSE("--dram", "8G", "--timeout=3s", "--clients=10k", "--shards", "-2",
                           "--high-water=80%", "--speed", "0.25", "--path=/a=b", "--policy", "lru",
                           "--http=[::1]:80", "--json", "--no-scrub"),
                     0);
    assert_true(config.dram_bytes == 8ull << 30);
    assert_true(config.timeout_ns == 3000000000);
    assert_true(config.clients == 10000);
    assert_int_equal(config.shards, -2);
    assert_true(fabs(config.high_water - 0.8) < 1e-12);
    assert_true(config.speed == 0.25);
    assert_string_equal(config.path, "/a=b");
    assert_int_equal(config.policy, 0);
    assert_string_equal(config.http.host, "::1");
    assert_true(config.json);
    assert_false(config.scrub);
    assert_true(yk_opt_is_set(&opts, "dram"));
    assert_int_equal(opts.n_args, 0);
}

static void letters(void **state) {
    (void)state;
    assert_int_equal(PARSE("-jd8G", "-t", "2s", "-n5"), 0);
    assert_true(config.json);
    assert_true(config.dram_bytes == 8ull << 30);
    assert_true(config.timeout_ns == 2000000000);
    assert_true(config.clients == 5);
    said(PARSE("-jx"), "found '-jx', which is no option (see yolkd --help)");
    said(PARSE("-jd"), "--dram: found nothing after it, expected SIZE");
}

static void switches(void **state) {
    (void)state;
    assert_int_equal(PARSE("--json=no", "--scrub=off"), 0);
    assert_false(config.json || config.scrub);
    assert_int_equal(PARSE("--json", "--no-json", "--json=1"), 0);
    assert_true(config.json);
    said(PARSE("--json=maybe"), "--json: found 'maybe', expected yes or no");
    said(PARSE("--no-json=yes"), "found '--no-json' with a value, expected --json=yes|no");
    said(PARSE("--no-dram"), "found '--no-dram', expected --dram with a value");
    said(PARSE("--no-dram=1G"), "found '--no-dram' with a value, expected --dram with a value");
    said(PARSE("--no-"), "found '--no-', which is no option (see yolkd --help)");
}

static void the_last_of_a_command_line_wins(void **state) {
    (void)state;
    assert_int_equal(PARSE("--dram=1G", "--dram=2G", "--path=a", "--path=b"), 0);
    assert_true(config.dram_bytes == 2ull << 30);
    assert_string_equal(config.path, "b");
}

static void arguments_mix_with_options(void **state) {
    (void)state;
    assert_int_equal(PARSE("k", "--json", "-"), 0);
    assert_int_equal(opts.n_args, 2);
    assert_string_equal(opts.args[0], "k");
    assert_string_equal(opts.args[1], "-");
    assert_int_equal(PARSE("--", "--json", "-x"), 0);
    assert_int_equal(opts.n_args, 2);
    assert_string_equal(opts.args[0], "--json");
    said(PARSE("a", "b", "c"), "found 3 arguments, expected yolkd KEY [FILE]");
}

static void argument_counts_are_checked(void **state) {
    (void)state;
    struct yk_opts other;
    struct yk_opt_spec none = spec, one = spec;
    char *argv[] = {(char *)"x", (char *)"stray", NULL};
    none.max_args = 0;
    one.min_args = one.max_args = 1;
    yk_opt_fini(&opts);
    assert_int_equal(yk_opt_init(&other, &none, &config, &err), 0);
    said(yk_opt_parse_args(&other, 2, argv, &err),
         "found 'stray', expected no arguments (see yolkd --help)");
    yk_opt_fini(&other);
    assert_int_equal(yk_opt_init(&other, &one, &config, &err), 0);
    said(yk_opt_parse_args(&other, 1, argv, &err), "found 0 arguments, expected yolkd KEY [FILE]");
    assert_int_equal(yk_opt_parse_args(&other, 0, argv, &err), -YK_EINVAL);
    yk_opt_fini(&other);
    assert_int_equal(yk_opt_init(&opts, &spec, &config, &err), 0);
}

static void options_can_end_at_the_first_argument(void **state) {
    (void)state;
    struct yk_opt_spec stop = spec;
    stop.flags |= YK_OPT_STOP_AT_ARG;
    stop.max_args = 10;
    opts.spec = &stop;
    assert_int_equal(PARSE("--json", "put", "--whatever", "-x"), 0);
    assert_true(config.json);
    assert_int_equal(opts.n_args, 3);
    assert_string_equal(opts.args[1], "--whatever");
    opts.spec = &spec;
}

static void help_is_reported(void **state) {
    (void)state;
    assert_int_equal(PARSE("--json", "--help", "--bogus"), YK_OPT_HELP);
    assert_int_equal(PARSE("-jh"), YK_OPT_HELP);
    assert_int_equal(PARSE("-h"), YK_OPT_HELP);
    assert_int_equal(PARSE("--", "-h"), 0);
}

static void unknown_flags_get_a_suggestion(void **state) {
    (void)state;
    said(PARSE("--drma", "8G"), "found '--drma', which is no option (did you mean '--dram'?)");
    said(PARSE("--check_config"),
         "found '--check_config', which is no option (did you mean '--check-config'?)");
    said(PARSE("--quota=5"), "found '--quota=5', which is no option (see yolkd --help)");
    said(PARSE("--dra=5"), "found '--dra=5', which is no option (did you mean '--dram'?)");
    said(PARSE("--a\nb"), "found '--a?b', which is no option (see yolkd --help)");
    char flag[400] = "--";
    memset(flag + 2, 'x', sizeof(flag) - 3);
    assert_int_equal(PARSE(flag), -YK_EINVAL);
    assert_null(strchr(err.text, '\n'));
}

static void wrong_values_say_what_was_expected(void **state) {
    (void)state;
    said(PARSE("--dram=8X"), "--dram: found '8X', expected a size such as 512MiB, 16K or 1.5G");
    said(PARSE("--dram=1K"), "--dram: found '1K', expected 64MiB to 1TiB");
    said(PARSE("--dram=2TiB"), "--dram: found '2TiB', expected 64MiB to 1TiB");
    said(PARSE("--timeout=2h"), "--timeout: found '2h', expected at most 1h");
    said(PARSE("--timeout=5"), "--timeout: found '5', expected a duration such as 500ms, 3s or 5m");
    said(PARSE("--clients=0"), "--clients: found '0', expected at least 1");
    said(PARSE("--high-water=49%"), "--high-water: found '49%', expected at least 50%");
    said(PARSE("--high-water=0.8"),
         "--high-water: found '0.8', expected a percentage from 0% to 100%, such as 80%");
    said(PARSE("--speed=-1"), "--speed: found '-1', expected 0 to 1000");
    said(PARSE("--shards=3G"), "--shards: found '3G', expected -2147483648 to 2147483647");
    said(PARSE("--policy=lfu"), "--policy: found 'lfu', expected one of lru, s3fifo, chain-lru "
                                "(did you mean 'lru'?)");
    said(PARSE("--http=80"), "--http: found '80', expected unix:/PATH, tcp:HOST:PORT or HOST:PORT");
    said(PARSE("--dram"), "--dram: found nothing after it, expected SIZE");
    assert_true(config.dram_bytes == 1ull << 30); /* untouched by any of these */
    assert_false(yk_opt_is_set(&opts, "dram"));
}

static void limits_include_their_ends(void **state) {
    (void)state;
    assert_int_equal(
        PARSE("--dram=64M", "--timeout=60m", "--high-water=50%", "--speed=1000", "--clients=1"), 0);
    assert_int_equal(PARSE("--dram=1T"), 0);
}

static void lists(void **state) {
    (void)state;
    assert_int_equal(PARSE("--tiers= ssd ,dram", "--tiers", "cxl"), 0);
    assert_int_equal(config.tiers.n, 3);
    assert_string_equal(config.tiers.items[0], "ssd");
    assert_string_equal(config.tiers.items[1], "dram");
    assert_string_equal(config.tiers.items[2], "cxl");
    assert_int_equal(PARSE("--listen=a:1", "-l", "b:2"), 0);
    assert_int_equal(config.listen.n, 2); /* the default is gone */
    assert_int_equal(PARSE("--listen="), 0);
    assert_int_equal(config.listen.n, 0); /* another command line replaces */
    said(PARSE("--tiers=dram,,ssd"), "--tiers: found an empty item, expected items between commas");
    said(PARSE("--tiers=dram,"), "--tiers: found an empty item, expected items between commas");
    said(PARSE("--tiers=dram,tape"), "--tiers: found 'tape', expected one of dram, cxl, ssd");
    said(PARSE("--listen=a:1,b"),
         "--listen: found 'b', expected unix:/PATH, tcp:HOST:PORT or HOST:PORT");
}

static void lists_have_a_limit(void **state) {
    (void)state;
    char text[YK_OPT_LIST_MAX * 4 + 8] = "";
    for (int i = 0; i < YK_OPT_LIST_MAX; i++)
        strcat(text, (i > 0) ? ",h:1" : "h:1");
    assert_int_equal(PARSE("--listen", text), 0);
    assert_int_equal(config.listen.n, YK_OPT_LIST_MAX);
    assert_int_equal(PARSE("--listen", text, "--listen=h:1"), -YK_ELIMIT);
    strcat(text, ",h:1");
    assert_int_equal(PARSE("--listen", text), -YK_ELIMIT);
    assert_non_null(strstr(err.text, "--listen: found more than 256 items"));
}

static void an_address_can_be_turned_off(void **state) {
    (void)state;
    assert_int_equal(PARSE("--http=none"), 0);
    assert_int_equal(config.http.kind, YK_ADDR_NONE);
    assert_int_equal(PARSE("--http=unix:/x"), 0);
    assert_int_equal(PARSE("--http="), 0);
    assert_int_equal(config.http.kind, YK_ADDR_NONE);
    assert_string_equal(config.http.host, "");
}

static void environment(void **state) {
    (void)state;
    assert_int_equal(parse_env("YOLK_DRAM=2G"), 0);
    assert_true(config.dram_bytes == 2ull << 30);
    assert_int_equal(parse_env("YOLK_HIGH_WATER=60%"), 0);
    assert_true(fabs(config.high_water - 0.6) < 1e-12);
    assert_int_equal(parse_env("YOLK_DRAM="), 0); /* as good as none */
    assert_true(config.dram_bytes == 2ull << 30);
    said(parse_env("YOLK_DRAM=many"), "environment YOLK_DRAM: found 'many', expected a size such "
                                      "as 512MiB, 16K or 1.5G");
}

static void unknown_variables(void **state) {
    (void)state;
    said(parse_env("YOLK_DRMA=2G"),
         "environment YOLK_DRMA: no option has this name (did you mean 'YOLK_DRAM'?)");
    /* An orchestrator's, or another program's: none of our business. */
    assert_int_equal(parse_env("YOLK_SERVICE_HOST=10.0.0.1"), 0);
    assert_int_equal(parse_env("YOLK_PORT_7780_TCP=tcp://10.0.0.1:7780"), 0);
    assert_int_equal(parse_env("YOLKDRAM=1"), 0);
    assert_int_equal(parse_env("YOLK_DRAM"), 0); /* no '=': not a variable */
    char *check[] = {(char *)"YOLK_CHECK_CONFIG=yes", NULL};
    assert_int_equal(yk_opt_parse_env(&opts, check, &err), 0); /* not taken from there */
    assert_false(config.check_config);
    struct yk_opt_spec lenient = spec;
    lenient.flags = 0;
    opts.spec = &lenient;
    assert_int_equal(parse_env("YOLK_DRMA=2G"), 0);
    lenient.env_prefix = NULL;
    assert_int_equal(parse_env("YOLK_DRAM=2G"), 0);
    assert_true(config.dram_bytes == 1ull << 30);
    opts.spec = &spec;
}

static void precedence_does_not_depend_on_order(void **state) {
    (void)state;
    static const char file[] = "dram = 4G\ntimeout = 4s\nlisten = f:4\npath = file\n";
    static const int orders[][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                    {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    char *envp[] = {(char *)"YOLK_DRAM=3G", (char *)"YOLK_TIMEOUT=3s", (char *)"YOLK_LISTEN=e:3",
                    NULL};
    for (size_t i = 0; i < COUNT_OF(orders); i++) {
        yk_opt_fini(&opts);
        assert_int_equal(yk_opt_init(&opts, &spec, &config, &err), 0);
        for (int j = 0; j < 3; j++) {
            if (orders[i][j] == 0)
                assert_int_equal(yk_opt_parse_text(&opts, "f", file, sizeof(file) - 1, &err), 0);
            else if (orders[i][j] == 1)
                assert_int_equal(yk_opt_parse_env(&opts, envp, &err), 0);
            else
                assert_int_equal(PARSE("--dram=2G"), 0);
        }
        assert_true(config.dram_bytes == 2ull << 30); /* command line */
        assert_true(config.timeout_ns == 3000000000); /* environment */
        assert_string_equal(config.path, "file");     /* file */
        assert_true(config.clients == 1000);          /* default */
        assert_int_equal(config.listen.n, 1);         /* lists of two sources don't mix */
        assert_string_equal(config.listen.items[0], "e:3");
    }
}

static void a_losing_value_is_checked_too(void **state) {
    (void)state;
    assert_int_equal(PARSE("--dram=2G"), 0);
    assert_int_equal(parse_env("YOLK_DRAM=x"), -YK_EINVAL);
    assert_int_equal(yk_opt_parse_text(&opts, "f", "dram=x", 6, &err), -YK_EINVAL);
    assert_true(config.dram_bytes == 2ull << 30);
}

static void secrets_stay_out_of_messages(void **state) {
    (void)state;
    static const struct yk_opt secret[] = {{.name = "token",
                                            .type = YK_OPT_STR,
                                            YK_OPT_AT(struct config, token),
                                            .check = check_addr,
                                            .help = "Secret.",
                                            .flags = YK_OPT_SECRET}};
    static const struct yk_opt_spec one = {.program = "x", .options = secret, .n_options = 1};
    char *argv[] = {(char *)"x", (char *)"--token=hunter2", NULL};
    struct yk_opts other;
    assert_int_equal(yk_opt_init(&other, &one, &config, &err), 0);
    said(yk_opt_parse_args(&other, 2, argv, &err), "--token: not an acceptable value (not shown)");
    yk_opt_fini(&other);
}

static void failures_between_options_name_the_place(void **state) {
    (void)state;
    said(yk_opt_fail(&opts, "dram", &err, "expected more than %d", 5),
         "default of --dram: expected more than 5");
    assert_int_equal(yk_opt_parse_text(&opts, "y.conf", "\n\ndram=1G", 9, &err), 0);
    said(yk_opt_fail(&opts, "dram", &err, "expected more"), "y.conf:3: dram: expected more");
    assert_int_equal(parse_env("YOLK_DRAM=1G"), 0);
    said(yk_opt_fail(&opts, "dram", &err, "expected more"), "environment YOLK_DRAM: expected more");
    assert_int_equal(PARSE("-d1G"), 0);
    said(yk_opt_fail(&opts, "dram", &err, "expected more"), "--dram: expected more");
}

/* ---- loading ---- */

static char path[] = "/tmp/test_opt.XXXXXX";

static void write_file(const char *text) {
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static int load(const char *flag, const char *entry) {
    char *argv[] = {(char *)"yolkd", (char *)flag, NULL};
    char *envp[] = {(char *)entry, NULL};
    memset(&err, 0, sizeof(err));
    return yk_opt_load(&opts, (flag != NULL) ? 2 : 1, argv, envp, &err);
}

static void the_file_is_named_by_flag_or_variable(void **state) {
    (void)state;
    char text[64];
    write_file("dram = 4G\nclients = 7\n");
    snprintf(text, sizeof(text), "--config=%s", path);
    assert_int_equal(load(text, "YOLK_CLIENTS=8"), 0);
    assert_true(config.dram_bytes == 4ull << 30);
    assert_true(config.clients == 8);
    yk_opt_fini(&opts);
    assert_int_equal(yk_opt_init(&opts, &spec, &config, &err), 0);
    snprintf(text, sizeof(text), "YOLK_CONFIG=%s", path);
    assert_int_equal(load(NULL, text), 0);
    assert_true(config.clients == 7);
    unlink(path);
    assert_int_equal(load("-h", NULL), YK_OPT_HELP);
    assert_int_equal(load("--bogus", NULL), -YK_EINVAL);
    assert_int_equal(load(NULL, "YOLK_DRAM=x"), -YK_EINVAL);
}

static void a_missing_file_matters_if_it_was_asked_for(void **state) {
    (void)state;
    assert_int_equal(load("--config=/nonexistent/yolk.conf", NULL), -YK_ENOENT);
    assert_string_equal(err.text,
                        "configuration file '/nonexistent/yolk.conf': No such file or directory");
    /* Static: the fixture's teardown still reads them. */
    static struct yk_opt table[1];
    static const struct yk_opt_spec with_default = {
        .program = "x", .options = table, .n_options = 1};
    table[0] = options[0];
    table[0].def = "/nonexistent/yolk.conf";
    yk_opt_fini(&opts);
    assert_int_equal(yk_opt_init(&opts, &with_default, &config, &err), 0);
    assert_int_equal(load(NULL, NULL), 0);
    assert_int_equal(yk_opt_parse_file(&opts, "/", &err), -YK_EIO);
}

/* ---- tables that are wrong ---- */

static void refused(struct yk_opt row, const char *why) {
    struct yk_opt table[] = {options[3], row};
    struct yk_opt_spec bad = {.program = "x", .options = table, .n_options = 2};
    struct yk_opts other;
    struct config to;
    assert_int_equal(yk_opt_init(&other, &bad, &to, &err), -YK_EINVAL);
    if (strstr(err.text, why) == NULL)
        fail_msg("%s", err.text);
    yk_opt_fini(&other);
}

static void wrong_tables_are_refused(void **state) {
    (void)state;
    const struct yk_opt good = {
        .name = "x", .type = YK_OPT_INT, YK_OPT_AT(struct config, clients), .help = "Help."};
    struct yk_opt row;
#define REFUSED(why, ...)                                                                          \
    do {                                                                                           \
        row = good;                                                                                \
        __VA_ARGS__;                                                                               \
        refused(row, why);                                                                         \
    } while (0)
    REFUSED("not a name", row.name = NULL);
    REFUSED("not a name", row.name = "");
    REFUSED("not a name", row.name = "Dram");
    REFUSED("not a name", row.name = "a_b");
    REFUSED("not a name", row.name = "no-x");
    REFUSED("not a name", row.name = "help");
    REFUSED("not a name", row.name = "1x");
    REFUSED("not a name", row.name = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    REFUSED("name used twice", row.name = "dram");
    REFUSED("letter used twice", row.letter = 'd');
    REFUSED("not a letter", row.letter = 'h');
    REFUSED("not a letter", row.letter = '-');
    REFUSED("unknown type", row.type = (enum yk_opt_type)99);
    REFUSED("field's size", row.field_size = 2);
    REFUSED("field's size", row.type = YK_OPT_ADDR);
    REFUSED("no help", row.help = NULL);
    REFUSED("no help", row.help = "");
    REFUSED("values of a type", row.values = tier_names);
    REFUSED("no values", row.type = YK_OPT_ENUM; row.field_size = sizeof(int));
    REFUSED("limits of a type", row.type = YK_OPT_STR; row.min = "1");
    REFUSED("limits that are no values", row.min = "x");
    REFUSED("limits that are no values", row.min = "5"; row.max = "4");
    REFUSED("name must be a string", row.flags = YK_OPT_CONFIG_FILE);
    REFUSED("default of --x: found '7', expected at most 5", row.def = "7"; row.max = "5");
    REFUSED("default of --x: found 'y', expected a whole number", row.def = "y");
#undef REFUSED
}

static void fini_takes_anything(void **state) {
    (void)state;
    struct yk_opts zero = {0};
    yk_opt_fini(&zero);
    yk_opt_fini(&zero);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(defaults),
        TEST(long_options),
        TEST(letters),
        TEST(switches),
        TEST(the_last_of_a_command_line_wins),
        TEST(arguments_mix_with_options),
        TEST(argument_counts_are_checked),
        TEST(options_can_end_at_the_first_argument),
        TEST(help_is_reported),
        TEST(unknown_flags_get_a_suggestion),
        TEST(wrong_values_say_what_was_expected),
        TEST(limits_include_their_ends),
        TEST(lists),
        TEST(lists_have_a_limit),
        TEST(an_address_can_be_turned_off),
        TEST(environment),
        TEST(unknown_variables),
        TEST(precedence_does_not_depend_on_order),
        TEST(a_losing_value_is_checked_too),
        TEST(secrets_stay_out_of_messages),
        TEST(failures_between_options_name_the_place),
        TEST(the_file_is_named_by_flag_or_variable),
        TEST(a_missing_file_matters_if_it_was_asked_for),
        cmocka_unit_test(wrong_tables_are_refused),
        cmocka_unit_test(fini_takes_anything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
