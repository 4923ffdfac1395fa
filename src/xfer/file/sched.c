/* SPDX-License-Identifier: Apache-2.0
 *
 * Which request starts next. Flushes first: a removal waits for one, and one serves all that wait.
 * Then reads by priority, then writes.
 *
 * A device that is given everything at once answers in its own order, and a read behind 64 MiB of
 * writes waits for them. So writes take half of the depth at most, and 8 while there are reads: enough
 * to keep the writes going (a device that is fast at depth 32 is nearly so at 8), little enough to
 * wait for. Reads that nobody waits for take half of the depth at most, so that one that somebody
 * waits for always finds room. Writes are never stopped altogether: a log that cannot be written
 * would stop its tier's puts for as long as anybody reads. Discards go last, one at a time.
 */
#include "xfer/file/file_priv.h"

#include <stddef.h>

void yk_file_list_add(struct yk_file_list *list, struct yk_file_req *req) {
    req->next = NULL;
    if (list->tail)
        list->tail->next = req;
    else
        list->head = req;
    list->tail = req;
}

struct yk_file_req *yk_file_list_take(struct yk_file_list *list) {
    struct yk_file_req *req = list->head;
    if (!req)
        return NULL;
    list->head = req->next;
    if (!list->head)
        list->tail = NULL;
    req->next = NULL;
    return req;
}

struct yk_file_req *yk_file_list_turn(struct yk_file_req *head) {
    struct yk_file_req *turned = NULL;
    while (head) {
        struct yk_file_req *next = head->next;
        head->next = turned;
        turned = head;
        head = next;
    }
    return turned;
}

static unsigned prio_of(const struct yk_file_req *req) {
    return req->prio > YK_FILE_PRIO_BACKGROUND ? YK_FILE_PRIO_BACKGROUND : req->prio;
}

void yk_file_sched_add(struct yk_file_sched *sched, struct yk_file_req *req) {
    if (req->op == YK_FILE_FLUSH)
        yk_file_list_add(&sched->flush, req);
    else if (req->op == YK_FILE_DISCARD)
        yk_file_list_add(&sched->discard, req);
    else
        yk_file_list_add(&sched->waiting[req->op][prio_of(req)], req);
    sched->waiting_reads += req->op == YK_FILE_READ;
}

static struct yk_file_req *next_read(struct yk_file_sched *sched) {
    for (unsigned p = 0; p <= YK_FILE_PRIO_BACKGROUND; p++) {
        if (p > YK_FILE_PRIO_DEMAND && sched->low_reads >= (sched->depth + 1u) / 2u)
            return NULL;
        struct yk_file_req *req = yk_file_list_take(&sched->waiting[YK_FILE_READ][p]);
        if (!req)
            continue;
        sched->waiting_reads--;
        sched->low_reads += p > YK_FILE_PRIO_DEMAND;
        return req;
    }
    return NULL;
}

static struct yk_file_req *next_write(struct yk_file_sched *sched) {
    uint32_t most = (sched->depth + 1u) / 2u;
    int reads = sched->waiting_reads > 0 || sched->under_way[YK_FILE_READ] > 0 ||
                __atomic_load_n(&sched->quick, __ATOMIC_RELAXED) > 0;
    if (reads && most > YK_FILE_WRITES_BESIDE)
        most = YK_FILE_WRITES_BESIDE;
    if (sched->under_way[YK_FILE_WRITE] >= most)
        return NULL;
    struct yk_file_req *req = NULL;
    for (unsigned p = 0; p <= YK_FILE_PRIO_BACKGROUND && !req; p++)
        req = yk_file_list_take(&sched->waiting[YK_FILE_WRITE][p]);
    return req;
}

struct yk_file_req *yk_file_sched_next(struct yk_file_sched *sched) {
    struct yk_file_req *req = NULL;
    if (sched->flush.head && sched->under_way[YK_FILE_FLUSH] == 0) {
        req = sched->flush.head;
        sched->flush.head = sched->flush.tail = NULL;
    } else if (sched->under_way[YK_FILE_READ] + sched->under_way[YK_FILE_WRITE] < sched->depth) {
        req = next_read(sched);
        if (!req)
            req = next_write(sched);
    }
    if (!req && sched->under_way[YK_FILE_DISCARD] == 0)
        req = yk_file_list_take(&sched->discard);
    if (req)
        sched->under_way[req->op]++;
    return req;
}

void yk_file_sched_done(struct yk_file_sched *sched, const struct yk_file_req *req) {
    sched->under_way[req->op]--;
    if (req->op == YK_FILE_READ && prio_of(req) > YK_FILE_PRIO_DEMAND)
        sched->low_reads--;
}
