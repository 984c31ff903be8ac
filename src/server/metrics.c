/* Counting, and GET /metrics. See metrics.h. */
#include "server/metrics.h"

#include "base/clock.h"
#include "server/state.h"

static const double bounds[TQ_BUCKETS] = {0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 15, 60};

void tq_metrics_init(tq_metrics *m) {
    *m = (tq_metrics){0};
    pthread_mutex_init(&m->lock, NULL);
}

void tq_metrics_clear(tq_metrics *m) {
    pthread_mutex_destroy(&m->lock);
}

static void observe(tq_histogram *h, double seconds) {
    int i = 0;
    while (i < TQ_BUCKETS && seconds > bounds[i]) i++;
    h->bucket[i]++;
    h->count++;
    h->sum += seconds;
}

void tq_metrics_sequence(tq_metrics *m, const tq_sequence *s, tq_finish finish, toque_status status) {
    pthread_mutex_lock(&m->lock);
    if (status != TOQUE_OK)
        m->failed++;
    else if (finish == TQ_FINISH_CANCELED)
        m->canceled++;
    else if (finish == TQ_FINISH_LENGTH)
        m->full++;
    else
        m->stopped++;
    if (s->drawn) observe(&m->first_token, s->first - s->queued);
    observe(&m->whole, tq_now() - s->queued);
    pthread_mutex_unlock(&m->lock);
}

static void number(tq_buf *out, const char *name, const char *type, const char *help, double value) {
    tq_buf_printf(out, "# HELP toque_%s %s\n# TYPE toque_%s %s\ntoque_%s %.15g\n", name, help, name, type, name, value);
}

static void histogram(tq_buf *out, const char *name, const char *help, const tq_histogram *h) {
    uint64_t sum = 0;
    tq_buf_printf(out, "# HELP toque_%s %s\n# TYPE toque_%s histogram\n", name, help, name);
    for (int i = 0; i < TQ_BUCKETS; i++)
        tq_buf_printf(out, "toque_%s_bucket{le=\"%g\"} %llu\n", name, bounds[i],
                      (unsigned long long)(sum += h->bucket[i]));
    tq_buf_printf(out, "toque_%s_bucket{le=\"+Inf\"} %llu\ntoque_%s_sum %.9g\ntoque_%s_count %llu\n", name,
                  (unsigned long long)h->count, name, h->sum, name, (unsigned long long)h->count);
}

static void write_metrics(tq_server *s, tq_buf *out) {
    tq_engine_stats e;
    tq_engine_get_stats(s->engine, &e);
    pthread_mutex_lock(&s->metrics.lock);
    tq_metrics m = s->metrics;
    pthread_mutex_unlock(&s->metrics.lock);
    number(out, "prompt_tokens_total", "counter", "Tokens of prompts that were computed.", (double)e.prompt_tokens);
    number(out, "cached_tokens_total", "counter", "Tokens of prompts that came from the cache.",
           (double)e.reused_tokens);
    number(out, "tokens_predicted_total", "counter", "Tokens that were drawn.", (double)e.drawn_tokens);
    number(out, "passes_total", "counter", "Passes through the model.", (double)e.passes);
    number(out, "decode_rows_total", "counter", "Rows of decode passes.", (double)e.decode_rows);
    number(out, "decode_passes_total", "counter", "Decode passes.", (double)e.decode_passes);
    number(out, "busy_seconds_total", "counter", "Time spent in passes.", e.busy);
    number(out, "requests_running", "gauge", "Answers that are being written.", e.running);
    number(out, "requests_waiting", "gauge", "Answers that wait for a slot.", e.waiting);
    number(out, "cache_bytes", "gauge", "Memory of the prefix cache.", (double)e.cache_bytes);
    tq_buf_printf(out, "# HELP toque_answers_total Answers by their end.\n# TYPE toque_answers_total counter\n");
    tq_buf_printf(out,
                  "toque_answers_total{end=\"stop\"} %llu\ntoque_answers_total{end=\"length\"} %llu\n"
                  "toque_answers_total{end=\"canceled\"} %llu\ntoque_answers_total{end=\"failed\"} %llu\n",
                  (unsigned long long)m.stopped, (unsigned long long)m.full, (unsigned long long)m.canceled,
                  (unsigned long long)m.failed);
    histogram(out, "time_to_first_token_seconds", "From the request to its first token.", &m.first_token);
    histogram(out, "answer_seconds", "From the request to its end.", &m.whole);
}

void tq_route_metrics(tq_exchange *x, json_t *body) {
    tq_server *s = tq_server_of(x);
    tq_buf out;
    (void)body;
    tq_buf_init(&out, s->mem, SIZE_MAX / 2);
    write_metrics(s, &out);
    if (out.failed)
        tq_reply_error(x, 500, "out_of_memory", NULL, "out of memory");
    else
        tq_reply_text(x, 200, "text/plain; version=0.0.4", out.data, out.len);
    tq_buf_clear(&out);
}
