/* SPDX-License-Identifier: Apache-2.0
 *
 * Texts made from the option table: --help, manual page, sample configuration and its way back.
 */
#include "opt_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static struct yk_opts opts;
static struct config config;
static struct yk_err err;
static char *printed;

static int setup(void **state) {
    (void)state;
    printed = NULL;
    return yk_opt_init(&opts, &spec, &config, &err);
}

static int teardown(void **state) {
    (void)state;
    yk_opt_fini(&opts);
    free(printed);
    return 0;
}

typedef void (*print_spec_fn)(const struct yk_opt_spec *, FILE *);

static void print(print_spec_fn fn, const struct yk_opt_spec *of) {
    size_t len;
    free(printed);
    printed = NULL;
    FILE *out = open_memstream(&printed, &len);
    assert_non_null(out);
    if (fn != NULL)
        fn(of, out);
    else
        yk_opt_print_config(&opts, out);
    fclose(out);
}

static void has(const char *text) {
    if (strstr(printed, text) == NULL)
        fail_msg("'%s' is not in:\n%s", text, printed);
}

static void has_not(const char *text) {
    if (strstr(printed, text) != NULL)
        fail_msg("'%s' is in:\n%s", text, printed);
}

static void help_shows_every_option(void **state) {
    (void)state;
    print(yk_opt_print_help, &spec);
    has("Usage: yolkd [OPTION]... KEY [FILE]\nServes blocks.\n");
    for (size_t i = 0; i < spec.n_options; i++) {
        char flag[60];
        snprintf(flag, sizeof(flag), "--%s", spec.options[i].name);
        has(flag);
    }
    has("\nOptions:\n  -c, --config FILE         Read this file.\n");
    has("\nMemory:\n  -d, --dram SIZE           Pooled memory of this node. It is allocated at "
        "the\n"
        "                            start and shared with the local clients. 64MiB to\n"
        "                            1TiB. (default 1GiB)\n");
    has("  -s, --scrub               Verify checksums in the background. (default yes;\n"
        "                            --no-scrub turns it off)\n");
    has("One of lru, s3fifo, chain-lru.");
    has("  -l, --listen ADDRESS,...  Where to listen.");
    has("  -h, --help                Show this text.\n");
    has("--config as YOLK_CONFIG for example");
    for (const char *line = printed; *line != '\0'; line += strcspn(line, "\n") + 1)
        assert_true(strcspn(line, "\n") <= 80);
}

static void help_of_a_bare_program(void **state) {
    (void)state;
    const struct yk_opt_spec bare = {.program = "yolk version"};
    print(yk_opt_print_help, &bare);
    assert_string_equal(printed, "Usage: yolk version\n\n  -h, --help                Show this "
                                 "text.\n");
}

/* Where only options of one section can be set there, help says which. */
static void help_says_which_options_the_environment_sets(void **state) {
    (void)state;
    static const struct yk_opt rows[] = {
        {.name = "own",
         .type = YK_OPT_STR,
         YK_OPT_AT(struct config, path),
         .flags = YK_OPT_NO_ENV,
         .help = "Its own."},
        {.name = "url",
         .type = YK_OPT_STR,
         YK_OPT_AT(struct config, path),
         .section = "common",
         .help = "All have it."}};
    struct yk_opt_spec some = {
        .program = "x", .env_prefix = "X_", .options = rows, .n_options = 2};
    print(yk_opt_print_help, &some);
    has("Common options can also be set in the environment, --url as X_URL for example");
    some.options = &rows[1];
    some.n_options = 1;
    print(yk_opt_print_help, &some);
    has("\nOptions can also be set in the environment, --url as X_URL for example");
}

static void long_flags_and_words_do_not_break_the_layout(void **state) {
    (void)state;
    static const struct yk_opt row[] = {
        {.name = "a-rather-long-name-of-an-option",
         .type = YK_OPT_STR,
         YK_OPT_AT(struct config, path),
         .help = "A-word-that-is-longer-than-the-rest-of-the-line-and-can-not-be-broken end.\nNew "
                 "line."}};
    const struct yk_opt_spec one = {.program = "x", .options = row, .n_options = 1};
    print(yk_opt_print_help, &one);
    has("      --a-rather-long-name-of-an-option TEXT\n"
        "                            A-word-that-is-longer-than-the-rest-of-the-line-and-can-not-"
        "be-broken\n"
        "                            end.\n"
        "                            New line.\n");
}

static void the_manual_has_its_sections(void **state) {
    (void)state;
    print(yk_opt_print_man, &spec);
    has(".SH OPTIONS\n");
    has(".SS Memory\n");
    has(".TP\n\\fB\\-d\\fR, \\fB\\-\\-dram\\fR \\fISIZE\\fR\nPooled memory");
    has("64MiB to 1TiB.\nDefault: \\fB1GiB\\fR.\n");
    has(".SH ENVIRONMENT\n");
    has(".TP\n\\fBYOLK_HIGH_WATER\\fR\nAs \\fB\\-\\-high\\-water\\fR.\n");
    has_not("YOLK_CHECK_CONFIG");
    has(".SH CONFIGURATION FILE\n");
    /* Lines that troff would take for requests are only ours. */
    for (const char *line = printed; *line != '\0'; line += strcspn(line, "\n") + 1)
        if (*line == '.' || *line == '\'')
            assert_true(strncmp(line, ".SH ", 4) == 0 || strncmp(line, ".SS ", 4) == 0 ||
                        strncmp(line, ".TP\n", 4) == 0 || strncmp(line, ".PP\n", 4) == 0);
}

static void the_manual_escapes_what_troff_would_read(void **state) {
    (void)state;
    static const struct yk_opt row[] = {{.name = "path",
                                         .type = YK_OPT_STR,
                                         YK_OPT_AT(struct config, path),
                                         .help = ".so it's a \\ back-slash\n'x"}};
    const struct yk_opt_spec one = {.program = "x", .options = row, .n_options = 1};
    print(yk_opt_print_man, &one);
    has("\n\\&.so it\\(aqs a \\e back\\-slash\n\\&\\(aqx\n");
    has_not("ENVIRONMENT");
    has_not("CONFIGURATION FILE");
}

static void a_fresh_configuration_is_all_comments(void **state) {
    (void)state;
    print(NULL, NULL);
    has("\n[memory]\n");
    has("\n# Pooled memory of this node. It is allocated at the start and shared with the\n"
        "# local clients. 64MiB to 1TiB. (default 1GiB)\n#dram = 1GiB\n");
    has("\n#listen = unix:/run/yolk.sock\n");
    has("\n#http = tcp:127.0.0.1:7780\n");
    has("\n#token = (hidden)\n");
    has_not("check-config");
    for (const char *line = printed; *line != '\0'; line += strcspn(line, "\n") + 1)
        assert_non_null(strchr("#[\n", *line));
}

/* Uncommenting every option must give a file that reads back. */
static void a_sample_uncommented_is_valid(void **state) {
    (void)state;
    print(NULL, NULL);
    size_t kept = 0;
    for (char *p = printed; *p != '\0'; p++)
        if (!(*p == '#' && p[1] != ' ' && (p == printed || p[-1] == '\n')))
            printed[kept++] = *p;
    printed[kept] = '\0';
    if (yk_opt_parse_text(&opts, "y.conf", printed, kept, &err) != 0)
        fail_msg("%s", err.text);
    assert_true(config.dram_bytes == 1ull << 30);
    assert_int_equal(config.listen.n, 1);
}

static void effective_values_read_back(void **state) {
    (void)state;
    char *argv[] = {(char *)"x",
                    (char *)"--dram=1536M",
                    (char *)"--timeout=90s",
                    (char *)"--clients=123456",
                    (char *)"--shards=-7",
                    (char *)"--high-water=99.25%",
                    (char *)"--speed=0.125",
                    (char *)"--path= \"q\" # \\ \n\ttail ",
                    (char *)"--policy=chain-lru",
                    (char *)"--http=[::1]:80",
                    (char *)"--listen=unix:/a b#c,h:1",
                    (char *)"--tiers=",
                    (char *)"--json",
                    (char *)"--no-scrub",
                    (char *)"--token=hunter2"};
    struct yk_opts again;
    struct config back;
    assert_int_equal(yk_opt_parse_args(&opts, sizeof(argv) / sizeof(argv[0]), argv, &err), 0);
    print(NULL, NULL);
    has("\ndram = 1536MiB\n");
    has_not("hunter2");
    assert_int_equal(yk_opt_init(&again, &spec, &back, &err), 0);
    if (yk_opt_parse_text(&again, "y.conf", printed, strlen(printed), &err) != 0)
        fail_msg("%s", err.text);
    assert_true(back.dram_bytes == config.dram_bytes && back.timeout_ns == config.timeout_ns);
    assert_true(back.clients == config.clients && back.shards == config.shards);
    assert_true(back.high_water == config.high_water && back.speed == config.speed);
    assert_string_equal(back.path, config.path);
    assert_int_equal(back.policy, config.policy);
    assert_memory_equal(&back.http, &config.http, sizeof(back.http));
    assert_int_equal(back.listen.n, 2);
    assert_string_equal(back.listen.items[0], "unix:/a b#c");
    assert_int_equal(back.tiers.n, 0);
    assert_true(back.json && !back.scrub);
    assert_null(back.token);
    yk_opt_fini(&again);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(help_shows_every_option),
        TEST(help_of_a_bare_program),
        TEST(help_says_which_options_the_environment_sets),
        TEST(long_flags_and_words_do_not_break_the_layout),
        TEST(the_manual_has_its_sections),
        TEST(the_manual_escapes_what_troff_would_read),
        TEST(a_fresh_configuration_is_all_comments),
        TEST(a_sample_uncommented_is_valid),
        TEST(effective_values_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
