/* SPDX-License-Identifier: Apache-2.0
 *
 * Lists over block numbers (src/sim/cache_priv.h).
 */
#include "sim/cache_priv.h"

int yk_sim_lists_init(struct yk_sim_lists *l, uint64_t blocks) {
    l->older = malloc((blocks + 1) * sizeof(*l->older));
    l->younger = malloc((blocks + 1) * sizeof(*l->younger));
    l->in = calloc(blocks + 1, 1);
    for (int i = 0; i < YK_SIM_LISTS; i++) {
        l->oldest[i] = l->youngest[i] = YK_SIM_NONE;
        l->count[i] = 0;
    }
    return l->older != NULL && l->younger != NULL && l->in != NULL ? 0 : -YK_ENOMEM;
}

void yk_sim_lists_fini(struct yk_sim_lists *l) {
    free(l->older);
    free(l->younger);
    free(l->in);
}

void yk_sim_lists_drop(struct yk_sim_lists *l, uint32_t b) {
    if (l->in[b] == 0)
        return;
    int list = l->in[b] - 1;
    uint32_t older = l->older[b], younger = l->younger[b];
    *(older != YK_SIM_NONE ? &l->younger[older] : &l->oldest[list]) = younger;
    *(younger != YK_SIM_NONE ? &l->older[younger] : &l->youngest[list]) = older;
    l->count[list]--;
    l->in[b] = 0;
}

void yk_sim_lists_move(struct yk_sim_lists *l, uint32_t b, int list) {
    yk_sim_lists_drop(l, b);
    l->older[b] = l->youngest[list];
    l->younger[b] = YK_SIM_NONE;
    *(l->youngest[list] != YK_SIM_NONE ? &l->younger[l->youngest[list]] : &l->oldest[list]) = b;
    l->youngest[list] = b;
    l->count[list]++;
    l->in[b] = (uint8_t)(list + 1);
}
