/* SPDX-License-Identifier: Apache-2.0
 *
 * Operations of batches on lists of keys and on patterns: MATCH, PREFETCH, REMOVE_MANY, as the node is
 * asked for them. (yk_match, yk_prefetch and yk_remove_many are calls of their own: whoever waits for
 * one of them needs no record.)
 *
 * One operation is one frame at a time, and as many frames as its keys need; rec->at is how many keys
 * were answered, rec->asked how many the frame under way has. A frame that was lost with its connection
 * begins the list anew.
 *
 * Threads: the one that sends or receives, under the lock.
 */
#include "client/client_priv.h"

#include "client/fail.h"

/* Body of a frame, as of a call. */
#define ASK_BYTES YK_CALL_BYTES

/* What a later version's list, or one that is no list, says at its end. */
static int check_end(const yk_key_list *list) {
    if (list->size >= sizeof(*list) && (list->reserved != 0 || yk_sized_has_more(list, list->size, sizeof(*list))))
        return yk_fail(-YK_ENOTSUP, "a list of keys: fields beyond the first %zu bytes are set",
                       offsetof(yk_key_list, reserved));
    if (list->infos != NULL && yk_ask_infos(list).size > YK_INFO_SIZE_MAX)
        return yk_fail(-YK_EINVAL, "a list of keys: info_size is %u, expected %zu", list->info_size, sizeof(yk_block_info));
    return 0;
}

int yk_ask_check_list(const yk_key_list *list, int tier_too) {
    if (list == NULL || list->size < offsetof(yk_key_list, info_size) || list->size > YK_INFO_SIZE_MAX)
        return yk_fail(-YK_EINVAL, "a list of keys %s",
                       list == NULL ? "is NULL" : "whose size is not set");
    if (list->count > INT32_MAX || (list->keys == NULL && list->count > 0))
        return yk_fail(-YK_EINVAL, "a list of %zu keys at %p", list->count,
                       (const void *)list->keys);
    if (tier_too && (list->tier < YK_TIER_ANY || list->tier > YK_TIER_VRAM))
        return yk_fail(-YK_EINVAL, "prefetch: no tier has the number %d", list->tier);
    int rc = check_end(list);
    for (size_t i = 0; rc == 0 && i < list->count; i++)
        rc = yk_client_check_key(list->keys[i]);
    return rc;
}

struct yk_infos yk_ask_infos(const yk_key_list *list) {
    size_t size = list->size >= offsetof(yk_key_list, reserved) ? list->info_size : 0;
    return (struct yk_infos){list->infos, size > 0 ? size : YK_BLOCK_INFO_FIRST};
}

/* Count and keys, as many as there is room for. */
static void put_keys(struct yk_wr *w, struct yk_rec *rec) {
    const yk_key *keys = rec->op->list->keys;
    unsigned char *end = w->base + ASK_BYTES, *n = yk_wr_space(w, 4);
    struct yk_wr head;
    uint64_t at = rec->at;
    for (; at < rec->len && (size_t)(end - w->at) > keys[at].len; at++)
        yk_wr_str8(w, keys[at].data, keys[at].len);
    rec->asked = (uint32_t)(at - rec->at);
    yk_wr_init(&head, n, 4);
    yk_wr_u32(&head, rec->asked);
}

unsigned yk_ask_fill(yk_client *c, struct yk_wr *w, struct yk_rec *rec) {
    const yk_op *op = rec->op;
    (void)c;
    if (op->opcode == YK_OP_MATCH) {
        yk_wr_u64(w, rec->epoch);
        put_keys(w, rec);
        return op->list->infos != NULL ? YK_MSG_LOOKUP : YK_MSG_MATCH;
    }
    if (op->opcode == YK_OP_PREFETCH) {
        if (rec->at == 0)
            rec->op->len = 0;
        yk_wr_u8(w, (uint8_t)op->list->tier);
        yk_wr_u32(w, op->arg < UINT32_MAX ? (uint32_t)op->arg : UINT32_MAX);
        put_keys(w, rec);
        return YK_MSG_PREFETCH;
    }
    yk_wr_u8(w, (uint8_t)op->arg);
    yk_wr_str8(w, op->key.data, op->arg == YK_REMOVE_ALL ? 0 : op->key.len);
    return YK_MSG_REMOVE_MANY;
}

/* Statuses and infos: the run ends at the first key that is not there. */
static uint32_t run_of_infos(struct yk_rec *rec, struct yk_rd *r) {
    struct yk_infos infos = yk_ask_infos(rec->op->list);
    yk_block_info info;
    uint32_t run = 0;
    int whole = 1;
    if (yk_rd_u32(r) != rec->asked)
        return UINT32_MAX;
    for (uint32_t i = 0; i < rec->asked && !r->bad; i++) {
        int32_t status = (int32_t)yk_rd_u32(r);
        if (status == 0)
            yk_rd_info(r, &info);
        whole &= status == 0 && !r->bad;
        if (whole)
            yk_info_put(infos, rec->at + run++, &info);
    }
    return run;
}

static int match_answer(struct yk_rec *rec, struct yk_rd *r, int *ret_bad) {
    uint32_t run = rec->op->list->infos != NULL ? run_of_infos(rec, r) : yk_rd_u32(r);
    *ret_bad = !yk_rd_ok(r) || run > rec->asked;
    if (*ret_bad)
        return 0;
    rec->at += run;
    rec->op->len = rec->at > rec->op->len ? rec->at : rec->op->len;
    if (run == rec->asked && rec->at < rec->len)
        return YK_PENDING;
    rec->op->len = rec->at;
    return rec->at > 0 ? 0 : YK_MISS;
}

static int prefetch_answer(struct yk_rec *rec, struct yk_rd *r, int *ret_bad) {
    char text[YK_ERR_TEXT_MAX];
    int32_t status = (int32_t)yk_rd_u32(r);
    uint32_t n = yk_rd_u32(r);
    yk_rd_text(r, text, sizeof(text));
    *ret_bad = !yk_rd_ok(r) || status > 0;
    if (*ret_bad || status < 0)
        return status;
    rec->at += rec->asked;
    rec->op->len += n;
    return rec->at < rec->len ? YK_PENDING : 0;
}

int yk_ask_reply(yk_client *c, struct yk_rec *rec, struct yk_rd *r, int *ret_bad) {
    (void)c;
    if (rec->op->opcode == YK_OP_MATCH)
        return match_answer(rec, r, ret_bad);
    if (rec->op->opcode == YK_OP_PREFETCH)
        return prefetch_answer(rec, r, ret_bad);
    int32_t status = (int32_t)yk_rd_u32(r);
    uint64_t n = yk_rd_u64(r);
    *ret_bad = !yk_rd_ok(r) || status > 0;
    if (!*ret_bad && status == 0)
        rec->op->len = n;
    return status;
}
