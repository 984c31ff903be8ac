/* A pass of the trainer with a head: forward, what the head reads, its outputs, the objective's loss and gradient of
 * each, and the way back. See trainer.h. */
#include "train/trainer_head.h"

#include <math.h>
#include <string.h>

toque_status tq_trainer_head_init(tq_trainer *t, toque_error *err) {
    tq_mem *mem = &t->ctx->mem;
    if (!t->o.objective->row) return TOQUE_OK;
    const tq_head *h = tq_adapter_head(t->adapter, t->o.objective->head);
    if (!h)
        return TQ_FAIL(err, EINVAL, "adapter %s has no head for objective %s", t->adapter->name, t->o.objective->name);
    size_t rows = (size_t)t->plan.max_rows, C = (size_t)t->adapter->model->config.C;
    t->head = h;
    t->read = tq_alloc(mem, 2 * rows * C, sizeof(float));
    t->outputs = tq_alloc(mem, 2 * rows * (size_t)h->n, sizeof(float));
    return t->read && t->outputs ? TOQUE_OK : TQ_NOMEM(err);
}

void tq_trainer_head_clear(tq_trainer *t) {
    tq_free(&t->ctx->mem, t->read);
    tq_free(&t->ctx->mem, t->outputs);
}

static double class_weight(const tq_trainer *t, const tq_example *e) {
    return t->o.class_weights && e->label >= 0 ? (double)t->o.class_weights[e->label] : 1;
}

double tq_trainer_head_weight(const tq_trainer *t, const tq_dataset *set) {
    double sum = 0;
    for (int i = 0; i < t->batch.n_rows; i++) {
        const tq_example *e = &set->examples[t->batch.example[i]];
        sum += (double)e->weight * class_weight(t, e) * e->n_targets;
    }
    return sum;
}

toque_status tq_trainer_head_pass(tq_trainer *t, const tq_dataset *set, int i, bool train, double scale, double *loss,
                                  tq_outputs_fn *fn, void *arg, toque_error *err) {
    const tq_head *h = t->head;
    const int C = t->adapter->model->config.C;
    const tq_batch_pass *p = &t->batch.passes[i];
    tq_pass pass = tq_batch_pass_at(&t->batch, i, train ? TQ_PASS_TRAIN : TQ_PASS_PREFILL, t->o.seed);
    TQ_TRY(tq_machine_forward(t->machine, &pass, err));
    int n = tq_machine_items(t->machine, h->read);
    float *read = t->read, *dread = read + (size_t)t->plan.max_rows * (size_t)C;
    float *y = t->outputs, *dy = y + (size_t)t->plan.max_rows * (size_t)h->n;
    tq_machine_read(t->machine, h->read, read);
    tq_head_fwd(t->ctx, h, C, n, read, y);
    int item = 0;
    for (int s = 0; s < p->n_segments; s++) {
        const tq_example *e = &set->examples[t->batch.example[p->segment + s]];
        int items = h->read == TQ_READ_EACH ? e->n : 1;
        const double weight = (double)e->weight * class_weight(t, e) * scale;
        tq_set_loss *to = train || !t->by_set ? NULL : &t->by_set[e->file];
        if (to) to->weight += weight * e->n_targets;
        if (fn) TQ_TRY(fn(arg, e, y + (size_t)item * (size_t)h->n, items, err));
        for (int k = 0; k < items; k++, item++) {
            float *d = dy + (size_t)item * (size_t)h->n;
            bool counts;
            double l = t->o.objective->row(e, k, h, y + (size_t)item * (size_t)h->n, d, &counts);
            if (counts) *loss += weight * l;
            if (counts && to) to->sum += weight * l;
            for (int o = 0; o < h->n; o++) d[o] = counts ? (float)(weight * (double)d[o]) : 0;
        }
    }
    if (!isfinite(*loss))
        return TQ_FAIL(err, ENONFINITE, "step %lld: the loss of the head is not finite: lower lr, or try --compute f32",
                       (long long)t->step + 1);
    if (!train) return TOQUE_OK;
    bool below = t->adapter->n_body_ranges > 0; /* else nothing of the body is trained */
    tq_head_bwd(t->ctx, h, C, n, read, dy, below ? dread : NULL);
    if (!below) return TOQUE_OK;
    tq_machine_read_bwd(t->machine, h->read, read, dread);
    tq_machine_backward(t->machine);
    return TOQUE_OK;
}
