/* Counters for GET /metrics, in Prometheus' text format. */
#ifndef TQ_SERVER_METRICS_H
#define TQ_SERVER_METRICS_H

#include <pthread.h>

#include "server/engine.h"

enum { TQ_BUCKETS = 12 };

typedef struct tq_histogram {
    uint64_t bucket[TQ_BUCKETS + 1], count;
    double sum;
} tq_histogram;

typedef struct tq_metrics {
    pthread_mutex_t lock;
    uint64_t stopped, full, canceled, failed; /* answers by their end */
    tq_histogram first_token, whole;          /* seconds since the request was queued */
} tq_metrics;

void tq_metrics_init(tq_metrics *m);
void tq_metrics_clear(tq_metrics *m);
/* A sequence has ended. */
void tq_metrics_sequence(tq_metrics *m, const tq_sequence *s, tq_finish finish, toque_status status);

#endif
