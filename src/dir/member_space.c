/* SPDX-License-Identifier: Apache-2.0
 *
 * What is known of a namespace and what etcd says of it, brought together.
 *
 * Copies, guarantee and priority came later than the rest of a record, and a program that does not know one of them
 * writes the record without it. A record therefore says how often they were changed ("version"); whoever knows of
 * that writes it each time, so one without was written by an older program. Of such a record counts what it says,
 * and what it does not say is as it was; this member then writes the whole of it again, in its version. Of two
 * versions the higher counts: a member that was away brings back nothing that was changed meanwhile.
 *
 * What is lost all the same: an older program that knows a guarantee and takes it away writes what one writes that
 * never knew it. Its change does not hold; a newer program has to make it.
 *
 * Thread: yolk-member.
 */
#include "dir/member_priv.h"

static int same_terms(const struct yk_member_space *a, const struct yk_member_space *b) {
    return a->copies == b->copies && a->guarantee_bytes == b->guarantee_bytes && a->priority == b->priority;
}

int yk_member_same_space(const struct yk_member_space *a, const struct yk_member_space *b) {
    return a->epoch == b->epoch && a->quota_bytes == b->quota_bytes && a->version == b->version && same_terms(a, b);
}

static void take_terms(struct yk_member_space *s, const struct yk_member_space *from) {
    s->copies = from->copies;
    s->guarantee_bytes = from->guarantee_bytes;
    s->priority = from->priority;
}

void yk_member_space_no_terms(struct yk_member_space *s) {
    s->copies = s->priority = 0;
    s->guarantee_bytes = 0;
}

void yk_member_space_changed(struct yk_member_space *s, const struct yk_member_space *was) {
    if (!same_terms(s, was) && s->version < INT64_MAX) /* more cannot be read again */
        s->version++;
}

void yk_member_space_copy(struct yk_member_space *s, const struct yk_member_space *from) {
    s->epoch = from->epoch;
    s->quota_bytes = from->quota_bytes;
    s->version = from->version;
    take_terms(s, from);
}

/* A disk keeps no versions, so that an older program can read it: what it has is a first one, and what etcd has counts
 * as much or more. */
void yk_member_space_from_disk(struct yk_member_space *s) {
    const struct yk_member_space none = {.epoch = 0};
    s->version = !same_terms(s, &none);
}

/* Of an older program: what it knows counts, what it does not is kept. */
static void take_unversioned(struct yk_member_space *s, const struct yk_member_space *found) {
    struct yk_member_space was = *s;
    if (found->copies != YK_MEMBER_KEEP_COPIES)
        s->copies = found->copies;
    if (found->guarantee_bytes != YK_MEMBER_KEEP_GUARANTEE)
        s->guarantee_bytes = found->guarantee_bytes;
    if (found->priority != YK_MEMBER_KEEP_PRIORITY)
        s->priority = found->priority;
    if (found->quota_bytes == YK_MEMBER_NO_SPACE)
        yk_member_space_no_terms(s);
    yk_member_space_changed(s, &was);
}

/* What a record does not say is not there. */
static void says_none(struct yk_member_space *found) {
    if (found->copies == YK_MEMBER_KEEP_COPIES)
        found->copies = 0;
    if (found->guarantee_bytes == YK_MEMBER_KEEP_GUARANTEE)
        found->guarantee_bytes = 0;
    if (found->priority == YK_MEMBER_KEEP_PRIORITY)
        found->priority = 0;
}

/* Epochs never fall; all else counts unless it stands beside an epoch of before. */
int yk_member_space_merge(struct yk_member_seen_space *s, const struct yk_member_space *found) {
    struct yk_member_space was = s->space;
    int newer = found->epoch >= was.epoch;
    if (newer) {
        s->space.epoch = found->epoch;
        s->space.quota_bytes = found->quota_bytes;
    }
    if (found->version > 0 && found->version >= was.version) {
        s->space.version = found->version;
        take_terms(&s->space, found);
    } else if (found->version == 0 && (newer || was.version == 0)) { /* nothing but its epoch may be known here */
        take_unversioned(&s->space, found);
    }
    yk_member_space_copy(&s->in_etcd, found);
    says_none(&s->in_etcd);
    return !yk_member_same_space(&s->space, &was);
}

/* What etcd lacks: it came back empty or old, or an older program wrote it. */
int yk_member_space_is_missing(const struct yk_member_seen_space *s) {
    const struct yk_member_space *v = &s->space;
    return s->revision == 0 ? v->epoch > 0 || v->quota_bytes > 0 || v->version > 0
                            : s->in_etcd.epoch < v->epoch || s->in_etcd.version < v->version;
}
