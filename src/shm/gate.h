/* SPDX-License-Identifier: Apache-2.0
 *
 * Until when what a segment holds may be handed out (docs/decisions/0014, "A node that returns").
 *
 * A node of a cluster that is cut off, stopped or dead does not hear of removes, and those who read its memory ask
 * nobody. So the segment says until when they may: a time of CLOCK_BOOTTIME, which a node moves on while it hears that
 * it is a member, and which runs out by itself when it does not. 0 is no gate (a node by itself), YK_GATE_SHUT none
 * may pass: a node that begins, or has heard that it was expelled.
 *
 *   reader   enter: the gate, acquire -> look, pin, copy -> passed: acquire fence, the gate, the clock
 *   node     removes that it missed are applied -> the gate opens, release
 *
 * Passed is who found the gate open before it looked and after, for a time that is not over even now. The first makes
 * sure that whoever entered after a return sees what the return removed (the acquire pairs with the release); the
 * second that who was stopped in between hands out nothing late. A gate that shut and opened again in between is
 * passed: then the lookup began while it was open, and what it hands out was there at that time.
 *
 * Both times are compared with one look at the clock, the last thing: it costs 28 ns, and nothing where there is no
 * gate. Readers have the node's boot clock: a time namespace with an offset of its own must not map its memory.
 *
 * Threads: any.
 */
#ifndef YK_SHM_GATE_H
#define YK_SHM_GATE_H

#include "base/clock.h"
#include "shm/layout.h"

#ifdef __cplusplus
extern "C" {
#endif

#define YK_GATE_NONE 0u
#define YK_GATE_SHUT 1u

static inline uint64_t yk_gate_enter(const struct yk_shm_hdr *hdr) {
    return __atomic_load_n(&hdr->open_until_ns, __ATOMIC_ACQUIRE); /* pairs with yk_gate_set */
}

static inline int yk_gate_is_over(uint64_t until_ns, uint64_t now_ns) {
    return until_ns != YK_GATE_NONE && until_ns <= now_ns;
}

/* 1: what was found since yk_gate_enter, which returned `entered`, may be handed out. */
static inline int yk_gate_passed(const struct yk_shm_hdr *hdr, uint64_t entered) {
    __atomic_thread_fence(__ATOMIC_ACQUIRE); /* all that was read comes before */
    uint64_t until_ns = __atomic_load_n(&hdr->open_until_ns, __ATOMIC_RELAXED);
    if (entered == YK_GATE_NONE && until_ns == YK_GATE_NONE)
        return 1;
    uint64_t now_ns = yk_boot_ns();
    return !yk_gate_is_over(entered, now_ns) && !yk_gate_is_over(until_ns, now_ns);
}

/* Now. */
static inline int yk_gate_is_shut(const struct yk_shm_hdr *hdr) {
    return !yk_gate_passed(hdr, YK_GATE_NONE);
}

/* The node's. */
static inline void yk_gate_set(struct yk_shm_hdr *hdr, uint64_t until_ns) {
    __atomic_store_n(&hdr->open_until_ns, until_ns, __ATOMIC_RELEASE); /* pairs with yk_gate_enter */
}

#ifdef __cplusplus
}
#endif

#endif
