/* SPDX-License-Identifier: Apache-2.0
 *
 * Members of etcd: which is asked, which has failed and is left alone for a while.
 *
 * One member is current and keeps being asked as long as it answers; each node begins with a random one,
 * so that nodes spread. A member that failed is left for the next, and asked again after a back-off that
 * doubles, with jitter, so that a cluster's nodes don't come back in step. All reads are linearizable, so
 * it does not matter who answers.
 *
 * Thread: yolk-meta.
 */
#include "base/clock.h"
#include "base/text.h"
#include "meta/etcd/etcd_priv.h"

#include <stdlib.h>
#include <string.h>

#define BACKOFF_FIRST_MS 50u
#define BACKOFF_LAST_MS  1000u

uint64_t yk_etcd_random(struct yk_etcd *etcd) {
    uint64_t x = etcd->random += 0x9e3779b97f4a7c15ull; /* splitmix64 */
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return x ^ x >> 31;
}

uint64_t yk_etcd_backoff_ns(struct yk_etcd *etcd, unsigned fails) {
    uint64_t ms = fails > 6 ? BACKOFF_LAST_MS : BACKOFF_FIRST_MS << (fails > 0 ? fails - 1 : 0);
    if (ms > BACKOFF_LAST_MS)
        ms = BACKOFF_LAST_MS;
    return (ms / 2 + yk_etcd_random(etcd) % (ms / 2 + 1)) * YK_NS_PER_MS;
}

static int bad_url(struct yk_err *err, const char *text) {
    char quoted[YK_QUOTE_MAX];
    return yk_err_set(err, -YK_EINVAL,
                      "found %s, expected etcd endpoints like http://HOST:2379,https://HOST:2379",
                      yk_quote(text, quoted));
}

static int add(struct yk_etcd *etcd, const char *text, size_t len, struct yk_err *err) {
    struct yk_endpoint *e = &etcd->endpoints[etcd->count];
    if (etcd->count == YK_ENDPOINTS_MAX)
        return yk_err_set(err, -YK_EINVAL, "more than %d etcd endpoints", YK_ENDPOINTS_MAX);
    while (len > 0 && text[len - 1] == '/')
        len--;
    if ((e->url = strndup(text, len)) == NULL)
        return yk_err_set(err, -YK_ENOMEM, "no memory for endpoints");
    etcd->count++;
    e->etcd = etcd;
    const char *host = strncmp(e->url, "http://", 7) == 0    ? e->url + 7
                       : strncmp(e->url, "https://", 8) == 0 ? e->url + 8
                                                             : NULL;
    if (host == NULL || host[0] == '\0' || strpbrk(host, "/ \t?#@") != NULL || len > 512)
        return bad_url(err, e->url);
    return 0;
}

int yk_endpoints_parse(struct yk_etcd *etcd, const char *text, struct yk_err *err) {
    for (const char *at = text;; at++) {
        while (*at == ' ')
            at++;
        size_t len = strcspn(at, ",");
        int rc = add(etcd, at, len, err);
        if (rc < 0)
            return rc;
        at += len;
        if (*at == '\0')
            break;
    }
    etcd->current = (unsigned)(yk_etcd_random(etcd) % etcd->count);
    return 0;
}

void yk_endpoints_free(struct yk_etcd *etcd) {
    for (unsigned i = 0; i < etcd->count; i++)
        free(etcd->endpoints[i].url);
    etcd->count = 0;
}

struct yk_endpoint *yk_endpoint_pick(struct yk_etcd *etcd, uint64_t *ret_retry_ns) {
    uint64_t now = yk_now_ns(), first = UINT64_MAX;
    for (unsigned i = 0; i < etcd->count; i++) {
        unsigned k = (etcd->current + i) % etcd->count;
        struct yk_endpoint *e = &etcd->endpoints[k];
        if (e->retry_ns <= now) {
            etcd->current = k;
            return e;
        }
        first = e->retry_ns < first ? e->retry_ns : first;
    }
    *ret_retry_ns = first;
    return NULL;
}

void yk_endpoint_good(struct yk_endpoint *at) {
    at->fails = 0;
    at->retry_ns = 0;
}

void yk_endpoint_bad(struct yk_endpoint *at) {
    struct yk_etcd *etcd = at->etcd;
    uint64_t now = yk_now_ns();
    if (at->retry_ns > now)
        return; /* several calls of one failure */
    at->fails++;
    at->retry_ns = now + yk_etcd_backoff_ns(etcd, at->fails);
    if (&etcd->endpoints[etcd->current] == at)
        etcd->current = (etcd->current + 1) % etcd->count;
}

void yk_endpoint_err(const struct yk_endpoint *at, struct yk_err *err, int code, const char *why) {
    yk_err_set(err, code, "etcd %s: %s", at->url, why);
}
