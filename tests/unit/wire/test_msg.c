/* SPDX-License-Identifier: Apache-2.0
 *
 * Frames and the shared parts of bodies: round trips, and what a header may not say.
 *
 * A header is the first thing that a stranger sends. Its length decides how much is read and kept,
 * so the limits are tested at their edges for each op, in both directions.
 */
#include "wire/msg.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct yk_err err;

static int decode(const void *bytes, uint64_t max_payload, struct yk_frame *ret) {
    memset(&err, 0, sizeof(err));
    memset(ret, 0x77, sizeof(*ret));
    int rc = yk_frame_decode(bytes, max_payload, ret, &err);
    if (rc != 0) {
        assert_int_equal(rc, -YK_EPROTO);
        assert_int_equal(err.code, rc);
        assert_true(err.text[0] != 0 && strchr(err.text, '\n') == NULL);
        assert_int_equal(ret->op, 0x77); /* written on success only */
    }
    return rc;
}

static int decode_fields(uint32_t body, unsigned op, unsigned flags, uint64_t max_payload) {
    unsigned char bytes[YK_FRAME_HDR];
    struct yk_frame f = {
        .body_bytes = body, .op = (uint8_t)op, .flags = (uint8_t)flags, .id = UINT64_MAX - op};
    struct yk_frame got;
    yk_frame_encode(bytes, &f);
    int rc = decode(bytes, max_payload, &got);
    if (rc == 0) {
        assert_int_equal(got.body_bytes, body);
        assert_int_equal(got.op, op);
        assert_int_equal(got.flags, flags);
        assert_true(got.id == f.id);
    }
    return rc;
}

static void headers_come_back(void **state) {
    (void)state;
    for (unsigned op = 1; op < YK_MSG_OPS; op++) {
        for (unsigned flags = 0; flags <= YK_FRAME_REPLY; flags++) {
            assert_int_equal(decode_fields(0, op, flags, 0), 0);
            assert_int_equal(decode_fields(4096, op, flags, 0), 0);
        }
    }
    static const unsigned char want[YK_FRAME_HDR] = {0x04, 0x03, 0x02, 0x01, YK_MSG_PING, 1,
                                                     0,    0,    0x18, 0x17, 0x16,        0x15,
                                                     0x14, 0x13, 0x12, 0x11};
    unsigned char bytes[YK_FRAME_HDR];
    struct yk_frame f = {.body_bytes = 0x01020304,
                         .op = YK_MSG_PING,
                         .flags = YK_FRAME_REPLY,
                         .id = 0x1112131415161718ull};
    yk_frame_encode(bytes, &f);
    assert_memory_equal(bytes, want, sizeof(want));
}

static void strange_headers_are_refused(void **state) {
    (void)state;
    struct yk_frame f = {.op = YK_MSG_PING}, got;
    unsigned char good[YK_FRAME_HDR], bytes[YK_FRAME_HDR];
    assert_int_equal(decode_fields(0, 0, 0, 0), -YK_EPROTO);
    assert_non_null(strstr(err.text, "op 0"));
    for (unsigned op = YK_MSG_OPS; op < 256; op++)
        assert_int_equal(decode_fields(0, op, 0, 0), -YK_EPROTO);
    for (unsigned flags = YK_FRAME_REPLY + 1; flags < 256; flags++)
        assert_int_equal(decode_fields(0, YK_MSG_PING, flags, 0), -YK_EPROTO);
    yk_frame_encode(good, &f);
    for (unsigned bit = 0; bit < 16; bit++) { /* reserved */
        memcpy(bytes, good, sizeof(good));
        bytes[6 + bit / 8] = (unsigned char)(1u << bit % 8);
        assert_int_equal(decode(bytes, 0, &got), -YK_EPROTO);
    }
    static const char http[] = "GET / HTTP/1.1\r\n"; /* what a lost browser sends */
    assert_int_equal(decode(http, 1 << 20, &got), -YK_EPROTO);
}

static void bodies_have_limits(void **state) {
    (void)state;
    static const uint64_t payloads[] = {0, 1, 16u << 20, UINT32_MAX, UINT64_MAX};
    for (unsigned op = 1; op < YK_MSG_OPS; op++) {
        for (unsigned flags = 0; flags <= YK_FRAME_REPLY; flags++) {
            int large = op == (flags ? YK_MSG_GET : YK_MSG_PUT);
            for (unsigned i = 0; i < 5; i++) {
                uint64_t limit = large ? payloads[i] : YK_FRAME_BODY_MAX;
                if (large && payloads[i] < UINT64_MAX)
                    limit += 4096; /* attributes, keys */
                uint32_t at = limit < UINT32_MAX ? (uint32_t)limit : UINT32_MAX;
                assert_int_equal(decode_fields(at, op, flags, payloads[i]), 0);
                if (at < UINT32_MAX) {
                    assert_int_equal(decode_fields(at + 1, op, flags, payloads[i]), -YK_EPROTO);
                    assert_non_null(strstr(err.text, yk_wire_op_name(op)));
                    assert_int_equal(decode_fields(UINT32_MAX, op, flags, payloads[i]), -YK_EPROTO);
                }
            }
        }
    }
}

static void every_op_has_a_name(void **state) {
    (void)state;
    for (unsigned op = 0; op < YK_MSG_OPS; op++) {
        assert_non_null(yk_wire_op_name(op));
        for (unsigned other = 0; other < op; other++)
            assert_string_not_equal(yk_wire_op_name(op), yk_wire_op_name(other));
    }
    assert_string_equal(yk_wire_op_name(YK_MSG_OPS), "unknown");
    assert_string_equal(yk_wire_op_name(UINT32_MAX), "unknown");
}

/* Fills every byte with another value, so that fields that are swapped or cut show. */
static void fill(void *to, size_t n, unsigned from) {
    for (size_t i = 0; i < n; i++)
        ((unsigned char *)to)[i] = (unsigned char)(from + i);
}

static void attributes_come_back(void **state) {
    (void)state;
    struct yk_attrs a, b;
    unsigned char buf[YK_WIRE_ATTRS_BYTES];
    struct yk_wr w;
    struct yk_rd r;
    memset(&b, 0, sizeof(b));
    fill(&a, sizeof(a), 1);
    yk_wr_init(&w, buf, sizeof(buf));
    yk_wr_attrs(&w, &a);
    assert_true(yk_wr_ok(&w));
    assert_int_equal(yk_wr_len(&w), YK_WIRE_ATTRS_BYTES);
    yk_rd_init(&r, buf, sizeof(buf));
    yk_rd_attrs(&r, &b);
    assert_true(yk_rd_ok(&r));
    assert_true(a.flags == b.flags && a.ttl_ms == b.ttl_ms && a.pin_ms == b.pin_ms &&
                a.session == b.session && a.depth_tokens == b.depth_tokens &&
                a.length_tokens == b.length_tokens && a.model == b.model && a.kind == b.kind);
    for (size_t n = 0; n < sizeof(buf); n++) {
        unsigned char *cut = malloc(n > 0 ? n : 1);
        assert_non_null(cut);
        memcpy(cut, buf, n);
        yk_rd_init(&r, cut, n);
        yk_rd_attrs(&r, &b);
        assert_false(yk_rd_ok(&r));
        yk_wr_init(&w, cut, n);
        yk_wr_attrs(&w, &a);
        assert_false(yk_wr_ok(&w));
        free(cut);
    }
}

static void infos_come_back(void **state) {
    (void)state;
    yk_block_info a, b;
    unsigned char buf[YK_WIRE_INFO_BYTES];
    struct yk_wr w;
    struct yk_rd r;
    fill(&a, sizeof(a), 100);
    a.kind = 255;
    a.pinned = 2;
    a.tiers = 0x1e;
    a.has_parent = 1;
    yk_wr_init(&w, buf, sizeof(buf));
    yk_wr_info(&w, &a);
    assert_true(yk_wr_ok(&w));
    assert_int_equal(yk_wr_len(&w), YK_WIRE_INFO_BYTES);
    yk_rd_init(&r, buf, sizeof(buf));
    yk_rd_info(&r, &b);
    assert_true(yk_rd_ok(&r));
    assert_memory_equal(&a, &b, sizeof(a)); /* it has no padding */
    for (size_t n = 0; n < sizeof(buf); n++) {
        unsigned char *cut = malloc(n > 0 ? n : 1);
        assert_non_null(cut);
        memcpy(cut, buf, n);
        yk_rd_init(&r, cut, n);
        yk_rd_info(&r, &b);
        assert_false(yk_rd_ok(&r));
        free(cut);
    }
}

static void texts_are_cut_and_terminated(void **state) {
    (void)state;
    static char text[70000], got[70000];
    static unsigned char buf[70000];
    static const size_t lens[] = {0, 1, 7, 8, 255, 256, 65534, 65535, 65536, 69000};
    struct yk_wr w;
    struct yk_rd r;
    for (unsigned i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
        size_t kept = lens[i] < 65535 ? lens[i] : 65535;
        memset(text, 'a' + (int)i, lens[i]);
        text[lens[i]] = 0;
        yk_wr_init(&w, buf, sizeof(buf));
        yk_wr_text(&w, text);
        assert_true(yk_wr_ok(&w));
        assert_int_equal(yk_wr_len(&w), kept + 2);
        yk_rd_init(&r, buf, kept + 2);
        memset(got, 'z', sizeof(got));
        yk_rd_text(&r, got, sizeof(got));
        assert_true(yk_rd_ok(&r));
        assert_int_equal(strlen(got), kept);
        assert_memory_equal(got, text, kept);
        yk_rd_init(&r, buf, kept + 2);
        memset(got, 'z', sizeof(got));
        yk_rd_text(&r, got, 8); /* cut, and the rest is read over */
        assert_true(yk_rd_ok(&r));
        assert_int_equal(strlen(got), kept < 7 ? kept : 7);
        assert_int_equal(got[8], 'z');
        yk_rd_init(&r, buf, kept + 1);
        yk_rd_text(&r, got, sizeof(got));
        assert_string_equal(got, "");
        assert_false(yk_rd_ok(&r));
        yk_wr_init(&w, buf, kept + 1);
        yk_wr_text(&w, text);
        assert_false(yk_wr_ok(&w));
    }
    yk_rd_init(&r,
               "\x05\x00"
               "a\0b\0c",
               7);
    yk_rd_text(&r, got, sizeof(got));
    assert_true(yk_rd_ok(&r));
    assert_string_equal(got, "a"); /* zeros inside end it for its reader */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers_come_back),
        cmocka_unit_test(strange_headers_are_refused),
        cmocka_unit_test(bodies_have_limits),
        cmocka_unit_test(every_op_has_a_name),
        cmocka_unit_test(attributes_come_back),
        cmocka_unit_test(infos_come_back),
        cmocka_unit_test(texts_are_cut_and_terminated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
