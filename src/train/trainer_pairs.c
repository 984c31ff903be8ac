/* Steps of an objective that reads vectors of all the step's texts. See trainer_pairs.h. */
#include "train/trainer_pairs.h"

#include <math.h>
#include <string.h>

struct tq_trainer_pairs {
    int n;                             /* texts of the batch */
    float *raw, *unit, *grad, *scores; /* [max_segments, C] as read, of length 1 and their gradients; [max_segments] */
    int *part;                         /* [max_segments] number of the text in its row */
    uint64_t *id;
    float *weight;
    double *loss;
};

toque_status tq_trainer_pairs_init(tq_trainer *t, toque_error *err) {
    tq_mem *mem = &t->ctx->mem;
    if (!t->o.objective->step) return TOQUE_OK;
    struct tq_trainer_pairs *p = t->pairs = TQ_NEW(mem, struct tq_trainer_pairs);
    if (!p) return TQ_NOMEM(err);
    const size_t n = (size_t)t->batch.max_segments, C = (size_t)t->adapter->model->config.C;
    p->raw = tq_alloc(mem, n * C, sizeof *p->raw);
    p->unit = tq_alloc(mem, n * C, sizeof *p->unit);
    p->grad = tq_alloc(mem, n * C, sizeof *p->grad);
    p->scores = TQ_NEW_ARRAY(mem, float, n);
    p->part = TQ_NEW_ARRAY(mem, int, n);
    p->id = TQ_NEW_ARRAY(mem, uint64_t, n);
    p->weight = TQ_NEW_ARRAY(mem, float, n);
    p->loss = TQ_NEW_ARRAY(mem, double, n);
    bool ok = p->raw && p->unit && p->grad && p->scores && p->part && p->id && p->weight && p->loss;
    return ok ? TOQUE_OK : TQ_NOMEM(err);
}

void tq_trainer_pairs_clear(tq_trainer *t) {
    struct tq_trainer_pairs *p = t->pairs;
    if (!p) return;
    void *blocks[] = {p->raw, p->unit, p->grad, p->scores, p->part, p->id, p->weight, p->loss, p};
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) tq_free(&t->ctx->mem, blocks[i]);
    t->pairs = NULL;
}

static toque_status forward(tq_trainer *t, int i, tq_pass_kind kind, toque_error *err) {
    if (atomic_load(&t->ctx->canceled)) return TQ_FAIL(err, ECANCELED, "canceled after step %lld", (long long)t->step);
    tq_pass pass = tq_batch_pass_at(&t->batch, i, kind, t->o.seed);
    if (kind == TQ_PASS_TRAIN) pass.noise = (float)t->o.noise;
    return tq_machine_forward(t->machine, &pass, err);
}

/* The texts of the batch: which belong together, what they weigh, and whether two are the same. */
static double describe(tq_trainer *t, const tq_dataset *set) {
    struct tq_trainer_pairs *p = t->pairs;
    const tq_batch *b = &t->batch;
    double weight = 0;
    p->n = 0;
    for (int i = 0; i < b->n_passes; i++)
        for (int s = 0; s < b->passes[i].n_segments; s++, p->n++) {
            const tq_segment *segment = &b->segments[p->n];
            const tq_example *e = &set->examples[b->example[p->n]];
            const int32_t *tokens = b->tokens + b->passes[i].token + segment->row;
            const bool more = p->n > 0 && p->part[p->n - 1] + 1 < set->examples[b->example[p->n - 1]].n_parts;
            p->part[p->n] = more ? p->part[p->n - 1] + 1 : 0;
            p->weight[p->n] = e->weight;
            if (!more) weight += (double)e->weight;
            p->id[p->n] = tq_tokens_id(tokens, segment->n);
        }
    return weight;
}

static toque_status embed(tq_trainer *t, tq_pass_kind kind, toque_error *err) {
    struct tq_trainer_pairs *p = t->pairs;
    const size_t C = (size_t)t->adapter->model->config.C;
    for (int i = 0; i < t->batch.n_passes; i++) {
        TQ_TRY(forward(t, i, kind, err));
        tq_machine_read(t->machine, t->o.read, p->raw + (size_t)t->batch.passes[i].segment * C);
    }
    memcpy(p->unit, p->raw, (size_t)p->n * C * sizeof *p->unit);
    for (int i = 0; i < p->n; i++) {
        const float squares = t->ctx->k->sum_squares(p->unit + (size_t)i * C, (int64_t)C);
        if (!isfinite(squares) || !(squares > 0))
            return TQ_FAIL(err, ENONFINITE,
                           "after step %lld: the vector of a text is %s: lower lr, or try --compute f32",
                           (long long)t->step, isfinite(squares) ? "zero" : "not finite");
        t->ctx->k->scale(p->unit + (size_t)i * C, 1 / sqrtf(squares), (int64_t)C);
    }
    return TOQUE_OK;
}

static tq_vectors vectors_of(const tq_trainer *t, double scale) {
    const struct tq_trainer_pairs *p = t->pairs;
    return (tq_vectors){.k = t->ctx->k,
                        .C = t->adapter->model->config.C,
                        .n = p->n,
                        .v = p->unit,
                        .part = p->part,
                        .id = p->id,
                        .weight = p->weight,
                        .scale = scale,
                        .sharpness = t->o.sharpness,
                        .scores = p->scores};
}

/* grad of v / |v| as that of v, in place: (d - u (u . d)) / |v|. */
static void through_length(tq_trainer *t) {
    struct tq_trainer_pairs *p = t->pairs;
    const tq_kernels *k = t->ctx->k;
    const int64_t C = t->adapter->model->config.C;
    for (int i = 0; i < p->n; i++) {
        const float *u = p->unit + i * C;
        float *d = p->grad + i * C;
        k->axpy(d, -k->dot(u, d, C), u, C);
        k->scale(d, 1 / sqrtf(k->sum_squares(p->raw + i * C, C)), C);
    }
}

toque_status tq_trainer_pairs_gradient(tq_trainer *t, double *loss, toque_error *err) {
    struct tq_trainer_pairs *p = t->pairs;
    const size_t C = (size_t)t->adapter->model->config.C;
    const double scale = 1 / describe(t, t->data);
    TQ_TRY(embed(t, TQ_PASS_TRAIN, err));
    const tq_vectors v = vectors_of(t, scale);
    t->o.objective->step(&v, p->loss, p->grad);
    *loss = 0;
    for (int i = 0; i < p->n; i++) *loss += scale * (double)p->weight[i] * p->loss[i];
    if (!isfinite(*loss))
        return TQ_FAIL(err, ENONFINITE, "step %lld: the loss is not finite: lower lr, or try --compute f32",
                       (long long)t->step + 1);
    through_length(t);
    for (int i = t->batch.n_passes - 1; i >= 0; i--) {
        const size_t at = (size_t)t->batch.passes[i].segment * C;
        if (i < t->batch.n_passes - 1) TQ_TRY(forward(t, i, TQ_PASS_TRAIN, err));
        tq_machine_read_bwd(t->machine, t->o.read, p->raw + at, p->grad + at);
        tq_machine_backward(t->machine);
    }
    return TOQUE_OK;
}

/* The unit vectors of the batch's rows, the set's [first, first + n), to their places. */
static void put_vectors(const tq_trainer *t, const tq_dataset *set, size_t first, float *vectors) {
    const struct tq_trainer_pairs *p = t->pairs;
    const size_t C = (size_t)t->adapter->model->config.C;
    for (int i = 0; i < p->n; i++) {
        size_t at = (size_t)p->part[i];
        for (size_t r = first; r < t->batch.example[i]; r++) at += (size_t)set->examples[r].n_parts;
        memcpy(vectors + at * C, p->unit + (size_t)i * C, C * sizeof *vectors);
    }
}

toque_status tq_trainer_evaluate_pairs(tq_trainer *t, const tq_dataset *set, double *loss, int64_t *targets,
                                       float *vectors, toque_error *err) {
    struct tq_trainer_pairs *p = t->pairs;
    const size_t C = (size_t)t->adapter->model->config.C;
    double sum = 0, weight = 0;
    int n;
    for (size_t at = 0; at < set->n; at += (size_t)n) {
        tq_trainer_lay_evaluation(t, set, at, &n);
        weight += describe(t, set);
        TQ_TRY(embed(t, TQ_PASS_PREFILL, err));
        const tq_vectors v = vectors_of(t, 1);
        t->o.objective->step(&v, p->loss, NULL);
        for (int i = 0; i < p->n; i++) {
            const double w = p->part[i] == 0 ? (double)p->weight[i] : 0;
            sum += w * p->loss[i];
            if (!t->by_set) continue;
            tq_set_loss *to = &t->by_set[set->examples[t->batch.example[i]].file];
            to->sum += w * p->loss[i];
            to->weight += w;
        }
        if (!vectors) continue;
        put_vectors(t, set, at, vectors);
        for (int i = 0; i < n; i++) vectors += (size_t)set->examples[at + (size_t)i].n_parts * C;
    }
    *loss = sum / weight;
    if (targets) *targets = (int64_t)set->n;
    return TOQUE_OK;
}
