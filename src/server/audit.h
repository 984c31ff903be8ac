/* The audit log: a line of JSON for each request that has ended. No prompts, no answers, no addresses. */
#ifndef TQ_SERVER_AUDIT_H
#define TQ_SERVER_AUDIT_H

#include "server/http.h"

typedef struct tq_audit {
    int file; /* -1: none is kept */
} tq_audit;

/* path NULL: no log. Lines are appended. */
toque_status tq_audit_open(tq_audit *a, const char *path, toque_error *err) TQ_MUST;
void tq_audit_close(tq_audit *a);
void tq_audit_write(tq_audit *a, const tq_exchange *x);

#endif
