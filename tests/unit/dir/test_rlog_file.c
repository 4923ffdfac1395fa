/* SPDX-License-Identifier: Apache-2.0
 *
 * The log of removes on files: they stay small, compactions may end at any time, what was cut off is cut; writes and
 * syncs fail, and nothing counts any more; limits hold. What it has in it: test_rlog.c.
 */
#include "rlog_fixture.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- files -------------------------------------------------------------------------------------- */

struct folder {
    char name[64], path[96], new_path[104];
};

static void folder_make(struct folder *f) {
    snprintf(f->name, sizeof(f->name), "/tmp/yk-rlog-XXXXXX");
    assert_non_null(mkdtemp(f->name));
    snprintf(f->path, sizeof(f->path), "%s/removes", f->name);
    snprintf(f->new_path, sizeof(f->new_path), "%s.new", f->path);
}

static void folder_remove(const struct folder *f) {
    unlink(f->path);
    unlink(f->new_path);
    rmdir(f->name);
}

static struct yk_dir_rlog *file_open(const struct folder *f, struct yk_dir_rlog_report *report) {
    struct yk_dir_rlog *log = NULL;
    struct yk_dir_rlog_opts opts = {.path = f->path, .keep_removes = 5, .keep_s = 50, .compact_min = 4096};
    struct yk_err err = {0};
    if (yk_dir_rlog_open(&opts, &log, report, &err) != 0)
        print_message("%s\n", err.text);
    assert_non_null(log);
    return log;
}

static void log_remove(struct yk_dir_rlog *log, uint64_t rseq, uint64_t *ret_ticket) {
    struct test_key k;
    key_make(&k, (uint32_t)rseq, 1);
    k.hash &= 0xffffffffull;
    struct yk_dir_num num = {1, rseq};
    struct yk_dir_remove r = remove_of(&k, num, num);
    assert_int_equal(yk_dir_rlog_remove(log, &r, 1, ret_ticket), 0);
}

static uint32_t log_count(const struct yk_dir_rlog *log) {
    struct yk_dir_rlog_slot s;
    yk_dir_rlog_slot(log, 0, &s);
    return s.removes;
}

static void a_file_is_kept_small_and_whole(void **state) {
    (void)state;
    struct folder f;
    struct yk_dir_rlog_report report;
    struct yk_dir_rlog_counts counts;
    struct stat st;
    folder_make(&f);
    struct yk_dir_rlog *log = file_open(&f, &report);
    assert_int_equal(report.created, 1);
    uint64_t ticket = 0;
    for (uint64_t i = 1; i <= 2000; i++) {
        log_remove(log, i, &ticket);
        if (i > 10)
            yk_dir_rlog_done(log, 0, (struct yk_dir_num){1, i - 10});
        assert_int_equal(yk_dir_rlog_trim(log, 1), 0);
        assert_int_equal(work(log), 1);
        assert_true(yk_dir_rlog_durable(log) >= ticket);
        assert_int_equal(stat(f.path, &st), 0);
        yk_dir_rlog_counts(log, &counts);
        assert_true((uint64_t)st.st_size == counts.file_bytes);
        assert_true(st.st_size < 3 * 4096);
        if (i % 400 == 0) { /* at any moment of a compaction */
            yk_dir_rlog_close(log);
            log = file_open(&f, &report);
            assert_true(report.created == 0 && report.cut_bytes == 0 && report.rotten == 0);
            struct yk_dir_rlog_slot s;
            yk_dir_rlog_slot(log, 0, &s);
            assert_true(s.last.rseq == i && s.removes == 10 && s.base.rseq == i - 10 && s.forgot.rseq == i - 10);
        }
    }
    yk_dir_rlog_close(log);
    folder_remove(&f);
}

/* A crash during a compaction: the old file counts. What is done during one is in both. */
enum { BIG_SLOTS = 600, BIG_REMOVES = 3000 };

static void check_big(const struct yk_dir_rlog *log, const uint64_t *seen) {
    for (uint32_t s = 0; s < BIG_SLOTS; s++) {
        struct yk_dir_rlog_slot is;
        yk_dir_rlog_slot(log, s, &is);
        assert_true(is.seen == seen[s] && is.removes == BIG_REMOVES / BIG_SLOTS && is.last.rseq == is.removes);
    }
}

/* Terms rise until a compaction is under way, and `more` pieces of work longer. Returns how many pieces it took. */
static uint32_t big_churn(struct yk_dir_rlog *log, const struct folder *f, uint64_t *seen, uint32_t more) {
    uint32_t pieces = 0;
    for (uint32_t round = 0; round < 200; round++) {
        for (uint32_t i = 0; i < (pieces > 0 ? 10 : 3 * BIG_SLOTS); i++)
            assert_int_equal(yk_dir_rlog_seen(log, i * 7 % BIG_SLOTS, ++seen[i * 7 % BIG_SLOTS], NULL), 0);
        assert_int_equal(work(log), 1);
        if (access(f->new_path, F_OK) != 0 && pieces > 0)
            return pieces + 1; /* it has its name */
        pieces += access(f->new_path, F_OK) == 0;
        if (pieces > more)
            return pieces;
    }
    fail();
    return 0;
}

static void a_compaction_may_end_at_any_time(void **state) {
    (void)state;
    struct folder f;
    struct yk_dir_rlog_report report;
    struct yk_dir_rlog *log = NULL;
    static uint64_t seen[BIG_SLOTS];
    char key[200];
    folder_make(&f);
    struct yk_dir_rlog_opts opts = {.path = f.path, .compact_min = 1u << 19};
    assert_int_equal(yk_dir_rlog_open(&opts, &log, &report, NULL), 0);
    memset(key, 'k', sizeof(key));
    for (uint32_t i = 0; i < BIG_REMOVES; i++) {
        struct yk_dir_num num = {1, 1 + i / BIG_SLOTS};
        struct yk_dir_remove r = {
            .origin = num, .num = num, .key = {"ns", 2, key, 200}, .hash = (uint64_t)(i % BIG_SLOTS) << 52};
        assert_int_equal(yk_dir_rlog_remove(log, &r, 1, NULL), 0);
    }
    uint32_t most = 0;
    for (uint32_t more = 0; more < 6; more++) {
        uint32_t pieces = big_churn(log, &f, seen, more);
        most = pieces > most ? pieces : most;
        yk_dir_rlog_close(log); /* as it is; all is durable */
        assert_int_equal(yk_dir_rlog_open(&opts, &log, &report, NULL), 0);
        assert_true(report.cut_bytes == 0 && report.rotten == 0 && report.created == 0);
        assert_int_not_equal(access(f.new_path, F_OK), 0);
        check_big(log, seen);
    }
    assert_true(most >= 3);
    yk_dir_rlog_close(log);
    folder_remove(&f);
}

static void a_cut_file_is_cut(void **state) {
    (void)state;
    struct folder f;
    struct yk_dir_rlog_report report;
    struct stat st;
    folder_make(&f);
    struct yk_dir_rlog *log = file_open(&f, NULL);
    off_t len[4] = {0};
    for (uint64_t i = 1; i <= 3; i++) {
        log_remove(log, i, NULL);
        assert_int_equal(work(log), 1);
        assert_int_equal(stat(f.path, &st), 0);
        len[i] = st.st_size;
    }
    yk_dir_rlog_close(log);
    assert_int_equal(truncate(f.path, len[3] - 1), 0);
    log = file_open(&f, &report);
    assert_true(report.cut_bytes == (uint64_t)(len[3] - 1 - len[2]) && log_count(log) == 2);
    assert_int_equal(stat(f.path, &st), 0);
    assert_true(st.st_size == len[2]);
    log_remove(log, 3, NULL);
    assert_int_equal(work(log), 1);
    yk_dir_rlog_close(log);
    log = file_open(&f, &report);
    assert_true(report.cut_bytes == 0 && log_count(log) == 3);
    yk_dir_rlog_close(log);
    folder_remove(&f);
}

/* For who has to know them before it opens the log: where there is none, none is made. */
static void terms_are_read_beforehand(void **state) {
    (void)state;
    static uint64_t terms[YK_DIR_SLOTS];
    struct folder f;
    struct yk_err err;
    folder_make(&f);
    terms[5] = 1;
    assert_int_equal(yk_dir_rlog_terms(f.path, terms, &err), 0);
    assert_int_equal(terms[5], 0);
    assert_int_equal(access(f.path, F_OK), -1);
    struct yk_dir_rlog *log = file_open(&f, NULL);
    assert_int_equal(yk_dir_rlog_seen(log, 5, 77, NULL), 0);
    assert_int_equal(work(log), 1);
    assert_int_equal(yk_dir_rlog_seen(log, 6, 88, NULL), 0); /* not written yet */
    assert_int_equal(yk_dir_rlog_terms(f.path, terms, &err), -YK_EBUSY);
    yk_dir_rlog_close(log);
    assert_int_equal(yk_dir_rlog_terms(f.path, terms, &err), 0);
    assert_int_equal(terms[5], 77);
    assert_int_equal(terms[6], 0);
    folder_remove(&f);
}

static void what_cannot_be_opened_says_why(void **state) {
    (void)state;
    struct folder f;
    struct yk_dir_rlog *log, *other = NULL;
    struct yk_err err;
    folder_make(&f);
    struct yk_dir_rlog_opts opts = {.path = f.path};
    log = file_open(&f, NULL);
    assert_int_equal(yk_dir_rlog_open(&opts, &other, NULL, &err), -YK_EBUSY);
    assert_non_null(strstr(err.text, "another process"));
    yk_dir_rlog_close(log);
    /* A newer format, its head whole. */
    unsigned char head[HEAD];
    int fd = open(f.path, O_RDWR);
    assert_true(fd >= 0 && pread(fd, head, HEAD, 0) == HEAD);
    head[8] = 2;
    uint64_t sum = yk_hash64(head, HEAD - 8);
    for (int i = 0; i < 8; i++)
        head[HEAD - 8 + i] = (unsigned char)(sum >> 8 * i);
    assert_int_equal(pwrite(fd, head, HEAD, 0), HEAD);
    assert_int_equal(yk_dir_rlog_open(&opts, &other, NULL, &err), -YK_EVERSION);
    assert_non_null(strstr(err.text, "format 2"));
    head[8] = 1;
    assert_int_equal(pwrite(fd, head, HEAD, 0), HEAD);
    assert_int_equal(yk_dir_rlog_open(&opts, &other, NULL, &err), -YK_ECORRUPT);
    assert_non_null(strstr(err.text, f.path));
    close(fd);
    opts.path = "/nowhere-at-all/removes";
    assert_int_equal(yk_dir_rlog_open(&opts, &other, NULL, &err), -YK_ENOENT);
    assert_null(other);
    folder_remove(&f);
}

/* Nothing counts after a failure, and nothing is tried again. */
static void check_failed(struct yk_dir_rlog *log, uint64_t durable) {
    struct yk_dir_rlog_io io;
    struct yk_dir_num num = {9, 1};
    struct test_key k;
    key_make(&k, 1, 1);
    struct yk_dir_remove r = remove_of(&k, num, num);
    assert_int_equal(yk_dir_rlog_failed(log), -YK_EIO);
    assert_int_equal(yk_dir_rlog_durable(log), durable);
    assert_int_equal(yk_dir_rlog_begin(log, &io), -YK_EIO);
    assert_int_equal(yk_dir_rlog_remove(log, &r, 1, NULL), -YK_EIO);
    assert_int_equal(yk_dir_rlog_seen(log, 1, 99, NULL), -YK_EIO);
    assert_int_equal(yk_dir_rlog_seen(log, 1, 0, NULL), -YK_EIO);
    assert_int_equal(yk_dir_rlog_renumber(log, 1, 99, NULL), -YK_EIO);
}

static void a_failure_is_final(void **state) {
    (void)state;
    struct folder f;
    struct yk_dir_rlog_io io;
    struct yk_err err;
    struct yk_dir_rlog_report report;
    folder_make(&f);
    struct yk_dir_rlog *log = file_open(&f, NULL);
    uint64_t first, second;
    log_remove(log, 1, &first);
    assert_int_equal(work(log), 1);
    log_remove(log, 2, &second);
    assert_int_equal(yk_dir_rlog_begin(log, &io), 1);
    assert_int_equal(yk_dir_rlog_begin(log, &io), 0); /* one at a time */
    /* A disk that is full. */
    int fd = io.fd;
    io.fd = open("/dev/full", O_WRONLY);
    yk_dir_rlog_io(&io);
    close(io.fd);
    io.fd = fd;
    assert_int_equal(yk_dir_rlog_end(log, &io, &err), -YK_EIO);
    assert_non_null(strstr(err.text, "write"));
    assert_non_null(strstr(yk_dir_rlog_text(log), "No space left on device"));
    check_failed(log, first);
    yk_dir_rlog_close(log);
    log = file_open(&f, &report);
    assert_true(log_count(log) == 1 && report.cut_bytes == 0);
    /* A sync that fails: what cannot be synced is a pipe. What was written may be there after a start, or not. */
    log_remove(log, 2, &second);
    assert_int_equal(yk_dir_rlog_begin(log, &io), 1);
    io.status = -YK_EIO;
    snprintf(io.text, sizeof(io.text), "fdatasync: said the test");
    assert_int_equal(yk_dir_rlog_end(log, &io, &err), -YK_EIO);
    assert_non_null(strstr(err.text, "said the test"));
    check_failed(log, 0);
    yk_dir_rlog_close(log);
    folder_remove(&f);
}

/* ---- limits ------------------------------------------------------------------------------------- */

static void limits_hold(void **state) {
    (void)state;
    struct yk_dir_rlog *log = NULL;
    struct yk_dir_rlog_opts opts = {.max_buffer = 2000, .max_bytes = 4000};
    struct test_key k;
    key_make(&k, 1, 1);
    k.hash = 5;
    assert_int_equal(yk_dir_rlog_open(&opts, &log, NULL, NULL), 0);
    int rc = 0;
    uint64_t n = 0;
    while (rc == 0 && n < 1000) {
        struct yk_dir_num num = {1, ++n};
        struct yk_dir_remove r = remove_of(&k, num, num);
        if ((rc = yk_dir_rlog_remove(log, &r, 1, NULL)) != -YK_EAGAIN)
            continue;
        assert_true(log_count(log) == n - 1); /* nothing was changed */
        assert_int_equal(work(log), 1);
        rc = 0;
        n--;
    }
    assert_int_equal(rc, -YK_ELIMIT);
    assert_in_range(n, 20, 60);
    assert_true(log_count(log) == n - 1);
    /* What is not needed goes, and there is room again. */
    assert_int_equal(yk_dir_rlog_trim(log, 1u << 20), 0);
    assert_true(log_count(log) == n - 1); /* all is needed */
    yk_dir_rlog_done(log, 0, (struct yk_dir_num){1, n});
    while (work(log) == 1)
        ;
    assert_int_equal(yk_dir_rlog_trim(log, 1u << 20), 0);
    assert_int_equal(log_count(log), 0);
    struct yk_dir_num num = {1, n};
    struct yk_dir_remove r = remove_of(&k, num, num);
    assert_int_equal(yk_dir_rlog_remove(log, &r, 1, NULL), 0);
    /* Nonsense. */
    r.key.key_len = 0;
    assert_int_equal(yk_dir_rlog_merge(log, &r, 1, NULL), -YK_EINVAL);
    r = remove_of(&k, num, num);
    struct yk_dir_rlog_slot fresh = {0};
    assert_int_equal(yk_dir_rlog_replace(log, 1, &fresh, &r, 1, 1, NULL), -YK_EINVAL); /* another slot's */
    assert_int_equal(yk_dir_rlog_replace(log, 0, &fresh, &r, YK_DIR_RLOG_REMOVES_MAX + 1, 1, NULL), -YK_ELIMIT);
    assert_int_equal(yk_dir_rlog_renumber(log, 0, 1, NULL), -YK_EINVAL); /* not a new term */
    assert_int_equal(yk_dir_rlog_led(log, YK_DIR_SLOTS, 1, NULL), -YK_EINVAL);
    yk_dir_rlog_close(log);
}

/* One of a single generation is no remove of the key. */
static void single_generations_do_not_count(void **state) {
    (void)state;
    struct yk_dir_rlog *log = image_open(NULL, 0, 5, NULL);
    struct test_key k;
    key_make(&k, 1, 1);
    struct yk_dir_num num = {1, 1}, none = {0, 0};
    struct yk_dir_remove r = remove_of(&k, num, num), is;
    r.gen = 7;
    r.member = 3;
    assert_int_equal(yk_dir_rlog_remove(log, &r, 1, NULL), 0);
    assert_int_equal(yk_dir_rlog_removed(log, &k.key, k.hash, none), 0);
    assert_int_equal(yk_dir_rlog_next(log, yk_dir_slot_of(k.hash), none, &is), 1);
    assert_true(is.gen == 7 && is.member == 3);
    r = remove_of(&k, (struct yk_dir_num){1, 2}, (struct yk_dir_num){1, 2});
    assert_int_equal(yk_dir_rlog_remove(log, &r, 1, NULL), 0);
    assert_int_equal(yk_dir_rlog_removed(log, &k.key, k.hash, num), 1);
    assert_int_equal(yk_dir_rlog_removed(log, &k.key, k.hash, r.num), 0);
    k.key.ns = "x";
    k.key.ns_len = 1;
    assert_int_equal(yk_dir_rlog_removed(log, &k.key, k.hash, num), 0);
    yk_dir_rlog_close(log);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_kept_small_and_whole),
        cmocka_unit_test(a_compaction_may_end_at_any_time),
        cmocka_unit_test(a_cut_file_is_cut),
        cmocka_unit_test(terms_are_read_beforehand),
        cmocka_unit_test(what_cannot_be_opened_says_why),
        cmocka_unit_test(a_failure_is_final),
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(single_generations_do_not_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
