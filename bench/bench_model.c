/* Steady rates of a model's passes, as script/bench compares them with other programs: prefill of N tokens, decode of N
 * tokens behind DEPTH others, and K sequences decoded together. Prints one JSON object: tokens_per_second, the seconds
 * of a first run (cold pages) where there is one, and the bytes of weights and cache that one decode pass reads.
 * Usage: bench_model MODEL (prefill N | decode DEPTH N | streams K N) [THREADS] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "infer/session.h"
#include "model/machine.h"

enum { REPEATS = 4, MAX_STREAMS = TQ_DECODE_ROWS, STREAM_DEPTH = 16 };

typedef struct bench {
    tq_ctx *ctx;
    tq_model *model;
    toque_error err;
} bench;

/* Text does not matter for the rate; the same ids in each run do. */
static tq_token some_token(const bench *b, int i) {
    return (tq_token)(((uint32_t)i * 2654435761u >> 8) % (uint32_t)b->model->config.V);
}

static tq_token likeliest(const bench *b, const float *logits) {
    int best = 0;
    for (int i = 1; i < b->model->config.V; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *x, int n) {
    qsort(x, (size_t)n, sizeof *x, by_value);
    return n % 2 ? x[n / 2] : 0.5 * (x[n / 2 - 1] + x[n / 2]);
}

/* Bytes that a decode pass reads: every weight once (of an embedding that is not the head: a row) and the cache. */
static double bytes_read(const bench *b, int depth) {
    const tq_config *c = &b->model->config;
    double bytes = 0;
    for (size_t i = 0; i < tq_gguf_n_tensors(b->model->gguf); i++) {
        const tq_tensor *t = tq_gguf_tensor_at(b->model->gguf, i);
        if (c->tied || strcmp(t->name, "token_embd.weight") != 0) bytes += (double)t->bytes;
    }
    size_t element = b->ctx->compute == TQ_COMPUTE_F32 ? 4 : 2;
    return bytes + 2.0 * c->L * c->G * c->D * (double)element * depth;
}

static toque_status prefill(bench *b, int n) {
    tq_session *s = NULL;
    tq_token *tokens = tq_alloc(&b->ctx->mem, (size_t)n, sizeof *tokens);
    toque_status status;
    double seconds[REPEATS + 1];
    if (!tokens) return TQ_NOMEM(&b->err);
    for (int i = 0; i < n; i++) tokens[i] = some_token(b, i);
    TQ_GO(tq_session_new(&s, b->model, n, 0, &b->err));
    for (int i = 0; i <= REPEATS; i++) {
        tq_session_reset(s);
        double start = tq_now();
        TQ_GO(tq_session_sync(s, tokens, n, NULL, true, &b->err));
        seconds[i] = tq_now() - start;
    }
    printf("{\"tokens_per_second\": %.3f, \"first_seconds\": %.6f}\n", n / median(seconds + 1, REPEATS), seconds[0]);
done:
    tq_session_free(s);
    tq_free(&b->ctx->mem, tokens);
    return status;
}

static toque_status decode(bench *b, int depth, int n) {
    tq_session *s = NULL;
    tq_token *tokens = tq_alloc(&b->ctx->mem, (size_t)depth, sizeof *tokens);
    toque_status status;
    if (!tokens) return TQ_NOMEM(&b->err);
    for (int i = 0; i < depth; i++) tokens[i] = some_token(b, i);
    TQ_GO(tq_session_new(&s, b->model, depth + n + 1, 0, &b->err));
    TQ_GO(tq_session_sync(s, tokens, depth, NULL, false, &b->err));
    TQ_GO(tq_session_decode(s, likeliest(b, tq_session_logits(s)), &b->err)); /* its first pass is not counted */
    double start = tq_now();
    for (int i = 0; i < n; i++) TQ_GO(tq_session_decode(s, likeliest(b, tq_session_logits(s)), &b->err));
    double seconds = tq_now() - start;
    printf("{\"tokens_per_second\": %.3f, \"bytes_per_pass\": %.0f}\n", n / seconds, bytes_read(b, depth + n / 2));
done:
    tq_session_free(s);
    tq_free(&b->ctx->mem, tokens);
    return status;
}

/* Runs n tokens of each of k sequences in one pass and takes each one's likeliest next token. */
static toque_status pass_of(bench *b, tq_machine *m, tq_pass_kind kind, tq_kv **kv, int k, int n, tq_token *tokens,
                            float *logits) {
    tq_segment segments[MAX_STREAMS];
    int rows[MAX_STREAMS];
    for (int i = 0; i < k; i++) {
        segments[i] = (tq_segment){.row = i * n, .n = n, .pos = kv[i]->length, .kv = kv[i]};
        rows[i] = i * n + n - 1;
    }
    tq_pass pass = {.kind = kind, .tokens = tokens, .T = k * n, .segments = segments, .n_segments = k};
    TQ_TRY(tq_machine_forward(m, &pass, &b->err));
    tq_machine_logits(m, rows, k, logits);
    for (int i = 0; i < k; i++) tokens[i] = likeliest(b, logits + (size_t)i * (size_t)b->model->config.V);
    return TOQUE_OK;
}

static toque_status streams(bench *b, int k, int n) {
    tq_kv *kv[MAX_STREAMS] = {NULL};
    tq_machine *m = NULL;
    tq_token tokens[MAX_STREAMS * STREAM_DEPTH];
    float *logits = tq_alloc(&b->ctx->mem, (size_t)k * (size_t)b->model->config.V, sizeof *logits);
    tq_plan plan = {.max_rows = k * STREAM_DEPTH};
    toque_status status;
    if (!logits) return TQ_NOMEM(&b->err);
    for (int i = 0; i < k * STREAM_DEPTH; i++) tokens[i] = some_token(b, i);
    for (int i = 0; i < k; i++) TQ_GO(tq_kv_new(&kv[i], b->model, STREAM_DEPTH + n + 1, &b->err));
    TQ_GO(tq_machine_new(&m, b->model, &plan, &b->err));
    TQ_GO(pass_of(b, m, TQ_PASS_PREFILL, kv, k, STREAM_DEPTH, tokens, logits));
    TQ_GO(pass_of(b, m, TQ_PASS_DECODE, kv, k, 1, tokens, logits));
    double start = tq_now();
    for (int i = 0; i < n; i++) TQ_GO(pass_of(b, m, TQ_PASS_DECODE, kv, k, 1, tokens, logits));
    double seconds = tq_now() - start;
    printf("{\"tokens_per_second\": %.3f, \"bytes_per_pass\": %.0f}\n", k * n / seconds,
           bytes_read(b, k * (STREAM_DEPTH + n / 2)));
done:
    tq_machine_free(m);
    for (int i = 0; i < k; i++) tq_kv_free(b->model, kv[i]);
    tq_free(&b->ctx->mem, logits);
    return status;
}

/* The next argument as a number in 1 .. most; -1 if it is none. */
static int number(char ***at, int most) {
    char *end = NULL;
    if (!**at) return -1;
    long x = strtol(*(*at)++, &end, 10);
    return *end || x < 1 || x > most ? -1 : (int)x;
}

int main(int argc, char **argv) {
    static const char usage[] = "usage: bench_model MODEL (prefill N | decode DEPTH N | streams K N) [THREADS]\n";
    if (argc < 4) return fputs(usage, stderr), 2;
    char **at = argv + 3;
    bool one = strcmp(argv[2], "prefill") == 0, many = strcmp(argv[2], "streams") == 0;
    if (!one && !many && strcmp(argv[2], "decode") != 0) return fputs(usage, stderr), 2;
    int first = one ? 0 : number(&at, many ? MAX_STREAMS : 1 << 20), n = number(&at, 1 << 20);
    int threads = *at ? number(&at, 1024) : 0;
    if (first < 0 || n < 0 || threads < 0 || *at) return fputs(usage, stderr), 2;

    bench b = {0};
    toque_status status;
    TQ_GO(tq_ctx_new(&b.ctx, threads, 0, "auto", &b.err));
    TQ_GO(tq_model_open(&b.model, b.ctx, argv[1], &b.err));
    status = one ? prefill(&b, n) : many ? streams(&b, first, n) : decode(&b, first, n);
done:
    if (status != TOQUE_OK) fprintf(stderr, "bench_model: %s\n", b.err.message);
    tq_model_close(b.model);
    tq_ctx_free(b.ctx);
    return status != TOQUE_OK;
}
