/* SPDX-License-Identifier: Apache-2.0
 *
 * Layouts of the frames between nodes that the messenger itself reads: header, hello, refusal, ping.
 *
 *   header  u32 body_bytes | u8 op | u8 flags | u16 0 | u64 id      (as of wire/msg.h; little-endian)
 *   HELLO   u32 magic, u32 version, u32 oldest version, u32 member (0: a guest), u64 cluster (0: not known),
 *           u64 incarnation, u64 clock (CLOCK_BOOTTIME in ms); what follows is a newer version's -> likewise, or ERROR
 *   ERROR   (reply only; the last frame of its connection) i32 status, u16 len + text
 *   PING    empty -> empty
 *
 * The first 16 + 4 bytes of a hello, and ERROR, are the same in every version, so that versions that cannot
 * talk can at least say so.
 *
 * Threads: pure.
 */
#ifndef YK_DIR_PEER_WIRE_H
#define YK_DIR_PEER_WIRE_H

#include "base/status.h"
#include "dir/peer.h"
#include "wire/msg.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum yk_peer_op { YK_PEER_PING = 253, YK_PEER_ERROR, YK_PEER_HELLO };

#define YK_PEER_HELLO_BYTES (YK_FRAME_HDR + 40u)                    /* as written */
#define YK_PEER_HELLO_MAX   512u                                    /* body, as read */
#define YK_PEER_ERROR_BYTES (YK_FRAME_HDR + 6u + YK_ERR_TEXT_MAX) /* at most, as written */

struct yk_peer_hello {
    uint32_t version, version_min;
    uint64_t cluster;
    struct yk_peer_who who;
    uint64_t clock_ms;
};

/* Header of any frame behind the hello. -YK_EPROTO, -YK_ETOOBIG (more than body_max), with a text. */
int yk_peer_frame_decode(const void *bytes16, uint32_t body_max, struct yk_frame *ret_frame, struct yk_err *err);
/* Header of the first frame of an accepted connection. -YK_EPROTO: it is no hello. */
int yk_peer_first_decode(const void *bytes16, struct yk_frame *ret_frame, struct yk_err *err);
/* Header of what a hello is answered with: HELLO or ERROR. -YK_EPROTO. */
int yk_peer_answer_decode(const void *bytes16, struct yk_frame *ret_frame, struct yk_err *err);

/* A whole frame. */
void yk_peer_hello_encode(unsigned char ret_bytes[YK_PEER_HELLO_BYTES], int reply, const struct yk_peer_hello *hello);
/* The body. -YK_EPROTO: no magic, or too short. */
int yk_peer_hello_decode(const void *body, uint32_t len, struct yk_peer_hello *ret_hello, struct yk_err *err);
/* The version that both speak, or -YK_EVERSION, -YK_EPERM (another cluster); the text names both sides' values,
 * and fits whoever reads it. */
int yk_peer_hello_fit(const struct yk_peer_hello *mine, const struct yk_peer_hello *theirs, struct yk_err *err);

/* A whole frame; its bytes. */
size_t yk_peer_error_encode(unsigned char ret_bytes[YK_PEER_ERROR_BYTES], int status, const char *text);
/* Always below 0: what the body says, or -YK_EPROTO. */
int yk_peer_error_decode(const void *body, uint32_t len, struct yk_err *ret_err);

#ifdef __cplusplus
}
#endif

#endif
