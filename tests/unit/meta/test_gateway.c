/* SPDX-License-Identifier: Apache-2.0
 *
 * etcd's JSON gateway as bytes: what is asked, and what answers mean, in the forms of several versions.
 */
#include "meta/etcd/gateway.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct yk_gw_limits limits = {.max_keys = 100, .max_bytes = 10000};

static void decode(const char *text, long status, struct yk_gw_reply *r) {
    struct yk_err err = {0};
    if (yk_gw_decode(text, strlen(text), status, &limits, r, &err) < 0)
        fail_msg("%s: %s", text, err.text);
}

static void test_questions(void **state) {
    struct yk_buf b;
    yk_buf_init(&b, 4096);
    struct yk_gw_range r = {
        .key = "foo", .key_len = 3, .end = "fop", .end_len = 3, .limit = 10, .revision = 7};
    yk_gw_put_range(&b, &r);
    assert_string_equal(yk_buf_text(&b),
                        "{\"key\": \"Zm9v\", \"range_end\": \"Zm9w\", \"limit\": \"10\", "
                        "\"revision\": \"7\"}");
    yk_buf_clear(&b);
    struct yk_meta_compare c = {
        .key = "a", .field = YK_META_MOD_REVISION, .rel = YK_META_GREATER, .number = 5};
    struct yk_meta_change ch[] = {{.key = "b", .value = "", .lease = 9},
                                  {.key = "cc", .remove = true, .prefix = true}};
    struct yk_meta_txn txn = {.compares = &c, .compare_count = 1, .changes = ch, .change_count = 2};
    yk_gw_put_txn(&b, &txn);
    assert_string_equal(
        yk_buf_text(&b),
        "{\"compare\": [{\"key\": \"YQ==\", \"target\": \"MOD\", \"result\": \"GREATER\", "
        "\"mod_revision\": "
        "\"5\"}], \"success\": [{\"request_put\": {\"key\": \"Yg==\", \"value\": \"\", \"lease\": "
        "\"9\"}}, "
        "{\"request_delete_range\": {\"key\": \"Y2M=\", \"range_end\": \"Y2Q=\"}}], \"failure\": "
        "[{\"request_range\": {\"key\": \"YQ==\"}}]}");
    yk_buf_clear(&b);
    yk_gw_put_watch(&b, "k", 12);
    assert_string_equal(yk_buf_text(&b),
                        "{\"create_request\": {\"key\": \"aw==\", \"range_end\": \"bA==\", "
                        "\"start_revision\": \"12\", \"fragment\": true}}");
    yk_buf_fini(&b);
}

static void test_end_of_a_prefix(void **state) {
    char end[4];
    assert_int_equal(yk_gw_prefix_end("ab", 2, end), 2);
    assert_memory_equal(end, "ac", 2);
    assert_int_equal(yk_gw_prefix_end("a\xff\xff", 3, end), 1);
    assert_memory_equal(end, "b", 1);
    assert_int_equal(yk_gw_prefix_end("\xff", 1, end), 0);
}

static void test_answers(void **state) {
    struct yk_gw_reply r;
    decode(
        "{\"header\":{\"cluster_id\":\"15118495548433857066\",\"revision\":\"3\",\"raft_term\":"
        "\"2\"},"
        "\"kvs\":[{\"key\":\"Zm9v\",\"create_revision\":\"2\",\"mod_revision\":\"3\",\"version\":"
        "\"4\","
        "\"value\":\"AAEC\",\"lease\":\"77\"},{\"key\":\"YQ==\"}],\"more\":true,\"count\":\"5\"}",
        200, &r);
    assert_int_equal(r.meaning, YK_GW_FINE);
    assert_int_equal(r.cluster, 15118495548433857066ull);
    assert_int_equal(r.revision, 3);
    assert_true(r.more);
    assert_int_equal(r.count, 2);
    assert_string_equal(r.kvs[0].key, "foo");
    assert_int_equal(r.kvs[0].value_len, 3);
    assert_memory_equal(r.kvs[0].value, "\0\1\2", 3);
    assert_int_equal(r.kvs[0].lease, 77);
    assert_int_equal(r.kvs[1].value_len, 0);
    yk_gw_reply_free(&r);
    decode("{\"result\":{\"header\":{\"revision\":\"4\"},\"events\":[{\"kv\":{\"key\":\"YQ==\","
           "\"mod_revision\":"
           "\"4\"}},{\"type\":\"DELETE\",\"kv\":{\"key\":\"Yg==\",\"mod_revision\":\"4\"}}],"
           "\"fragment\":true}}",
           200, &r);
    assert_int_equal(r.count, 2);
    assert_false(r.kvs[0].deleted);
    assert_true(r.kvs[1].deleted);
    assert_true(r.fragment);
    yk_gw_reply_free(&r);
    decode("{\"result\":{\"header\":{},\"canceled\":true,\"compact_revision\":\"9\"}}", 200, &r);
    assert_true(r.canceled);
    assert_int_equal(r.compact_revision, 9);
    yk_gw_reply_free(&r);
    decode("{\"result\":{\"header\":{\"revision\":\"2\"},\"ID\":\"78\"}}", 200, &r); /* no lease */
    assert_int_equal(r.ttl_s, 0);
    yk_gw_reply_free(&r);
    decode("{\"succeeded\":true,\"responses\":[{\"response_put\":{}},{\"response_range\":{\"kvs\":["
           "{\"key\":"
           "\"YQ==\"}]}}]}",
           200, &r);
    assert_true(r.succeeded);
    assert_int_equal(r.count, 1);
    yk_gw_reply_free(&r);
}

static void test_errors(void **state) {
    static const struct {
        const char *text;
        long http;
        enum yk_gw_meaning meaning;
        int status;
    } rows[] = {
        {"{\"error\":\"etcdserver: permission denied\",\"message\":\"etcdserver: permission "
         "denied\",\"code\":7}",
         403, YK_GW_REFUSED, -YK_EPERM},
        {"{\"error\":\"etcdserver: invalid auth token\",\"code\":16}", 401, YK_GW_TOKEN, 0},
        {"{\"code\":3,\"message\":\"etcdserver: user name is empty\",\"details\":[]}", 400,
         YK_GW_TOKEN, 0},
        {"{\"error\":\"etcdserver: authentication failed, invalid user ID or "
         "password\",\"code\":3}",
         400, YK_GW_REFUSED, -YK_EPERM},
        {"{\"error\":\"etcdserver: mvcc: database space exceeded\",\"code\":8}", 429, YK_GW_REFUSED,
         -YK_ENOSPC},
        {"{\"error\":\"etcdserver: request timed out\",\"code\":14}", 503, YK_GW_UNSURE, 0},
        {"{\"error\":\"etcdserver: too many requests\",\"code\":8}", 429, YK_GW_ELSEWHERE, 0},
        {"{\"error\":{\"grpc_code\":14,\"http_code\":503,\"message\":\"etcdserver: no leader\"}}",
         200, YK_GW_ELSEWHERE, 0},
        {"{\"error\":{\"code\":11,\"message\":\"etcdserver: mvcc: required revision has been "
         "compacted\"}}",
         200, YK_GW_COMPACTED, -YK_ESTALE},
        {"{\"error\":\"etcdserver: lease already exists\",\"code\":9}", 412, YK_GW_EXISTS, 0},
        {"{\"error\":\"all SubConns are in TransientFailure\",\"code\":14}", 503, YK_GW_UNSURE, 0},
        {"{\"error\":\"something new\",\"code\":3}", 400, YK_GW_REFUSED, -YK_EINVAL},
        {"{\"error\":\"no code at all\"}", 500, YK_GW_REFUSED, -YK_EINVAL},
        {"{\"error\":7,\"code\":\"x\"}", 500, YK_GW_UNSURE, 0},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct yk_gw_reply r;
        decode(rows[i].text, rows[i].http, &r);
        if (r.meaning != rows[i].meaning || r.status != rows[i].status || r.error[0] == '\0')
            fail_msg("row %zu: meaning %d, status %d, '%s'", i, (int)r.meaning, r.status, r.error);
        yk_gw_reply_free(&r);
    }
}

static void test_garbage(void **state) {
    static const struct {
        const char *text;
        long http;
        int status;
        const char *says;
    } rows[] = {
        {"", 200, -YK_EPROTO, "is this an etcd?"},
        {"<html>", 200, -YK_EPROTO, "<html>"},
        {"[]", 200, -YK_EPROTO, ""},
        {"{}", 500, -YK_EPROTO, "500"},
        {"Not Found\n", 404, -YK_EVERSION, "3.4"},
        {"{\"kvs\":[{\"key\":\"Zm9\"}]}", 200, -YK_EPROTO, ""},
        {"{\"kvs\":[{\"key\":\"Z===\"}]}", 200, -YK_EPROTO, ""},
        {"{\"kvs\":[{\"key\":\"Zm9v\",\"version\":\"-1\"}]}", 200, -YK_EPROTO, ""},
        {"{\"kvs\":[{\"key\":\"Zm9v\",\"version\":\"99999999999999999999\"}]}", 200, -YK_EPROTO,
         ""},
        {"{\"kvs\":[7]}", 200, -YK_EPROTO, ""},
        {"{\"events\":[{}]}", 200, -YK_EPROTO, ""},
        {"{\"TTL\":{}}", 200, -YK_EPROTO, ""},
        {"{\"a\":1,\"a\":2}", 200, -YK_EPROTO, ""},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct yk_gw_reply r = {0};
        struct yk_err err = {0};
        int rc = yk_gw_decode(rows[i].text, strlen(rows[i].text), rows[i].http, &limits, &r, &err);
        if (rc != rows[i].status || strstr(err.text, rows[i].says) == NULL)
            fail_msg("row %zu: %d, '%s'", i, rc, err.text);
    }
}

static void test_limits(void **state) {
    struct yk_gw_limits few = {.max_keys = 1, .max_bytes = 100},
                        small = {.max_keys = 9, .max_bytes = 2};
    static const char two[] = "{\"kvs\":[{\"key\":\"Zm9v\"},{\"key\":\"Zm9w\"}]}";
    struct yk_gw_reply r;
    struct yk_err err;
    assert_int_equal(yk_gw_decode(two, strlen(two), 200, &few, &r, &err), -YK_ETOOBIG);
    assert_int_equal(yk_gw_decode(two, strlen(two), 200, &small, &r, &err), -YK_ETOOBIG);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_questions), cmocka_unit_test(test_end_of_a_prefix),
        cmocka_unit_test(test_answers),   cmocka_unit_test(test_errors),
        cmocka_unit_test(test_garbage),   cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests_name("meta_gateway", tests, NULL, NULL);
}
