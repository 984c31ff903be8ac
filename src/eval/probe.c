/* Linear probes. See probe.h. */
#include "eval/probe.h"

#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "eval/labels.h"

enum { SPLIT = 5, FEWEST = 20, MANY = 1000, EMBED_BATCH = 64 };
static const double strengths[] = {0.1, 1, 10, 100, 1000};
enum { N_STRENGTHS = sizeof strengths / sizeof *strengths };
static const double tolerance = 1e-4; /* scikit-learn's */

/* --- rows ----------------------------------------------------------------------------------------- */

void tq_probe_rows_init(tq_probe_rows *rows, tq_mem *mem) {
    *rows = (tq_probe_rows){.mem = mem};
    tq_arena_init(&rows->arena, mem, 1 << 18);
}

void tq_probe_rows_clear(tq_probe_rows *rows) {
    if (!rows->mem) return;
    tq_free(rows->mem, rows->texts);
    tq_free(rows->mem, rows->answers);
    tq_arena_clear(&rows->arena);
    *rows = (tq_probe_rows){0};
}

toque_status tq_probe_rows_add(tq_probe_rows *rows, const tq_row *row, toque_error *err) {
    const char *answer;
    TQ_TRY(tq_labels_truth(row, &answer, err));
    size_t n = json_array_size(row->messages) - 1;
    tq_buf text;
    tq_buf_init(&text, rows->mem, 2 * (size_t)TQ_ROW_MAX_BYTES);
    for (size_t i = 0; i < n; i++) {
        const json_t *message = json_array_get(row->messages, i), *content = json_object_get(message, "content");
        const char *role = json_string_value(json_object_get(message, "role"));
        if (!json_is_string(content) || (role && strcmp(role, "system") == 0)) continue;
        if (text.len) tq_buf_putc(&text, '\n');
        tq_buf_put(&text, json_string_value(content), json_string_length(content));
    }
    toque_status status = tq_buf_status(&text, "the row's text", err);
    if (status == TOQUE_OK && !text.len)
        status = TQ_FAIL(err, EFORMAT, "line %u has no text before its answer", row->line);
    if (status == TOQUE_OK) {
        char *copy = tq_arena_strndup(&rows->arena, text.data, text.len);
        char *said = tq_arena_strndup(&rows->arena, answer, strlen(answer));
        if (copy && said && TQ_GROW(rows->mem, rows->texts, rows->n, rows->cap) &&
            TQ_GROW(rows->mem, rows->answers, rows->n, rows->cap_answers)) {
            rows->texts[rows->n] = (tq_string){copy, text.len};
            rows->answers[rows->n++] = said;
        } else {
            status = TQ_NOMEM(err);
        }
    }
    tq_buf_clear(&text);
    return status;
}

/* --- labels and features ---------------------------------------------------------------------------- */

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

uint32_t tq_probe_label(const tq_probe *p, const char *answer) {
    const char *const *found = bsearch(&answer, p->labels, p->n_labels, sizeof *p->labels, by_text);
    return (uint32_t)(found ? (size_t)(found - p->labels) : p->n_labels);
}

static toque_status take_labels(tq_probe *p, const tq_probe_rows *train, toque_error *err) {
    p->labels = TQ_NEW_ARRAY(p->mem, const char *, train->n + 1);
    if (!p->labels) return TQ_NOMEM(err);
    for (size_t i = 0; i < train->n; i++) p->labels[i] = train->answers[i];
    if (train->n) qsort(p->labels, train->n, sizeof *p->labels, by_text);
    for (size_t i = 0; i < train->n; i++)
        if (!p->n_labels || strcmp(p->labels[p->n_labels - 1], p->labels[i]) != 0)
            p->labels[p->n_labels++] = p->labels[i];
    if (p->n_labels < 2)
        return TQ_FAIL(err, EINVAL, "the %zu training rows have %zu different answers: a probe needs at least two",
                       train->n, p->n_labels);
    return TOQUE_OK;
}

bool tq_probe_is_for(const tq_probe_rows *rows, size_t rows_a_label) {
    tq_probe p = {.mem = rows->mem};
    bool fits = take_labels(&p, rows, NULL) == TOQUE_OK && p.n_labels * rows_a_label <= rows->n;
    tq_free(p.mem, p.labels);
    return fits;
}

static toque_status embed(tq_probe *p, const tq_string *texts, size_t n, tq_sparse *x, toque_error *err) {
    size_t dim = (size_t)tq_embedder_dim(p->embedder);
    tq_embed_stats stats = {0};
    float *vectors = tq_alloc(p->mem, EMBED_BATCH, dim * sizeof *vectors);
    toque_status status = tq_sparse_init(x, p->mem, n, dim, err);
    if (status == TOQUE_OK && !vectors) status = TQ_NOMEM(err);
    for (size_t i = 0; i < n && status == TOQUE_OK; i += EMBED_BATCH) {
        size_t some = n - i < EMBED_BATCH ? n - i : EMBED_BATCH;
        TQ_GO(tq_embed(p->embedder, texts + i, some, true, vectors, &stats, err));
        for (size_t k = 0; k < some * dim; k++) {
            TQ_GO(tq_sparse_put(x, (uint32_t)(k % dim), (double)vectors[k], err));
            if ((k + 1) % dim == 0) x->start[i + k / dim + 1] = x->n;
        }
    }
done:
    p->cut += stats.truncated;
    tq_free(p->mem, vectors);
    if (status != TOQUE_OK) tq_sparse_clear(x);
    return status;
}

static toque_status features(tq_probe *p, const tq_probe_rows *rows, tq_sparse *x, toque_error *err) {
    return p->embedder ? embed(p, rows->texts, rows->n, x, err)
                       : tq_tfidf_features(p->tfidf, rows->texts, rows->n, x, err);
}

static uint32_t likeliest(const tq_logreg *m, const tq_sparse *x, size_t row, double *logp) {
    uint32_t best = 0;
    tq_logreg_logp(m, x, row, logp);
    for (size_t j = 1; j < m->labels; j++)
        if (logp[j] > logp[best]) best = (uint32_t)j;
    return best;
}

/* --- fitting ---------------------------------------------------------------------------------------- */

/* Every fifth row of each label, in an order by chance: the split follows from the rows alone. */
static void split(const tq_probe *p, const uint32_t *label, size_t n, size_t *seen, bool *learn) {
    for (size_t i = 0; i < n; i++) {
        tq_rng rng;
        if (seen[label[i]] % SPLIT == 0) { /* which of the next five */
            tq_rng_init(&rng, 0, TQ_RNG_SPLIT, label[i], (uint32_t)(seen[label[i]] / SPLIT));
            seen[p->n_labels + label[i]] = seen[label[i]] + tq_rng_below(&rng, SPLIT);
        }
        learn[i] = seen[label[i]]++ != seen[p->n_labels + label[i]];
    }
}

static toque_status choose(tq_probe *p, const tq_sparse *x, const uint32_t *label, const bool *learn, double *logp,
                           toque_error *err) {
    tq_sparse some = {0};
    tq_logreg model = {0};
    size_t n = 0;
    uint32_t *some_labels = TQ_NEW_ARRAY(p->mem, uint32_t, x->rows);
    toque_status status = some_labels ? TOQUE_OK : TQ_NOMEM(err);
    if (status != TOQUE_OK) goto done;
    for (size_t i = 0; i < x->rows; i++)
        if (learn[i]) some_labels[n++] = label[i];
    p->tried = x->rows - n;
    TQ_GO(tq_sparse_take(&some, x, learn, err));
    TQ_GO(tq_logreg_init(&model, p->mem, x->cols, p->n_labels, err));
    for (size_t s = 0; s < N_STRENGTHS; s++) {
        size_t right = 0;
        TQ_GO(tq_logreg_fit(&model, &some, some_labels, strengths[s], tolerance, p->canceled, err));
        for (size_t i = 0; i < x->rows; i++) right += !learn[i] && likeliest(&model, x, i, logp) == label[i];
        if (s > 0 && right <= p->tried_right) continue;
        p->tried_right = right;
        p->c = strengths[s];
    }
done:
    tq_free(p->mem, some_labels);
    tq_sparse_clear(&some);
    tq_logreg_clear(&model);
    return status;
}

toque_status tq_probe_fit(tq_probe *p, const tq_probe_rows *train, tq_mem *mem, tq_embedder *embedder,
                          const atomic_bool *canceled, toque_error *err) {
    *p = (tq_probe){.mem = mem, .embedder = embedder, .canceled = canceled, .c = 1};
    tq_sparse x = {0};
    uint32_t *label = TQ_NEW_ARRAY(mem, uint32_t, train->n + 1);
    bool *learn = TQ_NEW_ARRAY(mem, bool, train->n + 1);
    size_t *seen = NULL;
    double *logp = NULL;
    toque_status status = label && learn ? take_labels(p, train, err) : TQ_NOMEM(err);
    if (status != TOQUE_OK) goto done;
    seen = TQ_NEW_ARRAY(mem, size_t, 2 * p->n_labels);
    logp = TQ_NEW_ARRAY(mem, double, p->n_labels);
    if (!seen || !logp) TQ_GO(TQ_NOMEM(err));
    for (size_t i = 0; i < train->n; i++) label[i] = tq_probe_label(p, train->answers[i]);
    if (!embedder) TQ_GO(tq_tfidf_new(&p->tfidf, mem, train->texts, train->n, train->n < MANY ? 1 : 2, err));
    TQ_GO(features(p, train, &x, err));
    p->n_features = x.cols;
    split(p, label, train->n, seen, learn);
    if (train->n >= FEWEST) TQ_GO(choose(p, &x, label, learn, logp, err));
    TQ_GO(tq_logreg_init(&p->model, mem, x.cols, p->n_labels, err));
    TQ_GO(tq_logreg_fit(&p->model, &x, label, p->c, tolerance, canceled, err));
done:
    tq_sparse_clear(&x);
    tq_free(mem, label);
    tq_free(mem, learn);
    tq_free(mem, seen);
    tq_free(mem, logp);
    if (status != TOQUE_OK) tq_probe_clear(p);
    return status;
}

void tq_probe_clear(tq_probe *p) {
    if (!p->mem) return;
    tq_free(p->mem, p->labels);
    tq_tfidf_free(p->tfidf);
    tq_logreg_clear(&p->model);
    *p = (tq_probe){0};
}

toque_status tq_probe_answer(tq_probe *p, const tq_probe_rows *rows, uint32_t *answer, toque_error *err) {
    tq_sparse x;
    TQ_TRY(features(p, rows, &x, err));
    double *logp = TQ_NEW_ARRAY(p->mem, double, p->n_labels);
    for (size_t i = 0; logp && i < rows->n; i++) answer[i] = likeliest(&p->model, &x, i, logp);
    tq_sparse_clear(&x);
    toque_status status = logp ? TOQUE_OK : TQ_NOMEM(err);
    tq_free(p->mem, logp);
    return status;
}
