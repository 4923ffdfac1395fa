/* SPDX-License-Identifier: Apache-2.0
 *
 * SIGBUS guard: a mapped file that is truncated under us, or a huge page that cannot be had, costs
 * the mapping, not the process (R6).
 *
 * A guarded range has a flag. When an access inside it raises SIGBUS the handler puts anonymous
 * zero pages over the whole range, sets the flag, and the access goes on: it reads zeros, which no
 * lookup accepts (state FREE, checksum mismatch), and the owner of the flag gives the tier up at
 * its next look. A SIGBUS outside all ranges goes to the handler that was there before.
 *
 * Threads: any; ranges are slots claimed by compare-and-swap, read by the handler without a lock.
 */
#ifndef YK_SHM_GUARD_H
#define YK_SHM_GUARD_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Installs the handler once in this process. 0 or -YK_EIO. */
int yk_guard_install(void);

/* Guards [base, base + bytes); *lost is set to 1 when it was lost and must outlive the range.
 * prot: of the mapping (PROT_READ...). -YK_ELIMIT: all slots are taken. */
int yk_guard_add(void *base, size_t bytes, int prot, int *lost);

/* Ends the guarding of the range that begins at base; before munmap. */
void yk_guard_remove(void *base);

#ifdef __cplusplus
}
#endif

#endif
