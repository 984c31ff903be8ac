/* The trainer. See trainer.h. */
#include "train/trainer.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "train/trainer_head.h"
#include "train/trainer_pairs.h"

static toque_status check_rows(const tq_dataset *set, toque_error *err) {
    for (size_t i = 0; i < set->n; i++) {
        const tq_example *e = &set->examples[i];
        if (tq_batch_length(e) == 0)
            return TQ_FAIL(err, EINVAL, "the row in line %u (file %d of the data) has no token to learn", e->line,
                           e->file + 1);
        if (!(e->weight > 0) || !isfinite(e->weight))
            return TQ_FAIL(err, EINVAL,
                           "the row in line %u (file %d of the data) has the weight %g; it must be above 0: "
                           "remove the row or give it another",
                           e->line, e->file + 1, (double)e->weight);
    }
    return TOQUE_OK;
}

static bool is_matrix(const tq_range *r) {
    return r->rows > 1 && r->cols > 1 && r->role < TQ_ROLE_COUNT;
}

static size_t state_floats(const tq_adapter *a, const tq_optimizer *o, int i) {
    size_t n = 0;
    for (size_t r = 0; r < a->n_ranges; r++)
        n += tq_optimizer_floats(o, a->ranges[r].rows, a->ranges[r].cols, is_matrix(&a->ranges[r]), i);
    return n;
}

static size_t scratch_floats(const tq_adapter *a, const tq_optimizer *o) {
    size_t most = 0;
    for (size_t r = 0; o->n_scratch && r < a->n_ranges; r++) {
        size_t n = o->n_scratch(a->ranges[r].rows, a->ranges[r].cols, is_matrix(&a->ranges[r]));
        if (n > most) most = n;
    }
    return most;
}

size_t tq_trainer_state_bytes(const tq_adapter *a, const tq_optimizer *o) {
    size_t n = scratch_floats(a, o);
    for (int i = 0; i < o->n_states; i++) n += state_floats(a, o, i);
    return n * sizeof(float);
}

static toque_status make_states(tq_trainer *t, toque_error *err) {
    const tq_optimizer *o = t->o.optimizer;
    tq_mem *mem = &t->ctx->mem;
    for (int i = 0; i < o->n_states; i++) {
        t->n_states[i] = state_floats(t->adapter, o, i);
        t->states[i] = TQ_NEW_ARRAY(mem, float, t->n_states[i]);
        if (!t->states[i]) return TQ_NOMEM(err);
    }
    t->scratch = TQ_NEW_ARRAY(mem, float, scratch_floats(t->adapter, o));
    if (!t->scratch) return TQ_NOMEM(err);
    if (!(t->o.ema > 0)) return TOQUE_OK;
    t->ema = tq_alloc(mem, t->adapter->n, sizeof(float));
    if (!t->ema) return TQ_NOMEM(err);
    memcpy(t->ema, t->adapter->values, t->adapter->n * sizeof(float));
    return TOQUE_OK;
}

static toque_status make_mix(tq_trainer *t, toque_error *err) {
    if (!t->o.n_sets) return TOQUE_OK;
    uint16_t *set_of = TQ_NEW_ARRAY(&t->ctx->mem, uint16_t, t->data->n);
    if (!set_of) return TQ_NOMEM(err);
    for (size_t i = 0; i < t->data->n; i++) set_of[i] = t->data->examples[i].file;
    toque_status status = tq_order_mix(&t->order, set_of, t->o.take, t->o.n_sets, err);
    tq_free(&t->ctx->mem, set_of);
    return status;
}

toque_status tq_trainer_init(tq_trainer *t, tq_adapter *adapter, const tq_dataset *data, const tq_dataset *held_out,
                             const tq_trainer_options *o, toque_error *err) {
    tq_ctx *ctx = adapter->model->ctx;
    *t = (tq_trainer){.ctx = ctx, .adapter = adapter, .data = data, .o = *o};
    if (!adapter->grads) return TQ_FAIL(err, EINVAL, "adapter %s was not made to be trained", adapter->name);
    toque_status status = TOQUE_OK;
    TQ_GO(check_rows(data, err));
    if (held_out) TQ_GO(check_rows(held_out, err));
    if ((size_t)o->rows > data->n) t->o.rows = (int)data->n; /* an epoch is one step */
    TQ_GO(tq_order_init(&t->order, &ctx->mem, data->n, (size_t)o->rows, o->shuffle, o->seed, err));
    TQ_GO(make_mix(t, err));
    t->hat = tq_adapter_hat(adapter, 1);
    t->hats = (tq_hats){.items = &t->hat, .n = 1};
    const int before = tq_hats_before_tokens(&t->hats);
    TQ_GO(tq_batch_init(&t->batch, &ctx->mem, data, held_out, t->o.rows, before, o->packing, err));
    t->squares = TQ_NEW_ARRAY(&ctx->mem, double, adapter->n_ranges);
    t->rows = TQ_NEW_ARRAY(&ctx->mem, uint32_t, t->o.rows);
    if (!t->squares || !t->rows) TQ_GO(TQ_NOMEM(err));
    TQ_GO(make_states(t, err));
    int rows = tq_batch_pass_rows(data, before, o->packing);
    int others = held_out ? tq_batch_pass_rows(held_out, before, o->packing) : 0;
    t->plan = (tq_plan){.max_rows = rows > others ? rows : others,
                        .train = true,
                        .max_rank = adapter->max_rank,
                        .recompute = o->recompute,
                        .max_bytes = o->max_bytes};
    TQ_GO(tq_machine_new(&t->machine, adapter->model, &t->plan, err));
    TQ_GO(tq_trainer_head_init(t, err));
    TQ_GO(tq_trainer_pairs_init(t, err));
done:
    if (status != TOQUE_OK) tq_trainer_clear(t);
    return status;
}

void tq_trainer_clear(tq_trainer *t) {
    if (!t->ctx) return;
    tq_machine_free(t->machine);
    tq_trainer_head_clear(t);
    tq_trainer_pairs_clear(t);
    tq_batch_clear(&t->batch);
    tq_order_clear(&t->order);
    for (int i = 0; i < TQ_OPTIMIZER_STATES; i++) tq_free(&t->ctx->mem, t->states[i]);
    tq_free(&t->ctx->mem, t->scratch);
    tq_free(&t->ctx->mem, t->ema);
    tq_free(&t->ctx->mem, t->squares);
    tq_free(&t->ctx->mem, t->rows);
    *t = (tq_trainer){0};
}

/* The first range of an array that holds a value which is not finite, or NULL. */
static const tq_range *not_finite(const tq_adapter *a, const float *array) {
    for (size_t r = 0; r < a->n_ranges; r++) {
        const tq_range *range = &a->ranges[r];
        const float *p = array + range->start;
        for (int64_t i = 0; i < (int64_t)range->rows * range->cols; i++)
            if (!isfinite(p[i])) return range;
    }
    return NULL;
}

static toque_status fail_loss(const tq_trainer *t, const tq_batch_pass *pass, toque_error *err) {
    const tq_range *r = not_finite(t->adapter, t->adapter->values);
    uint32_t line = t->data->examples[t->batch.example[pass->segment]].line;
    if (r)
        return TQ_FAIL(err, ENONFINITE, "step %lld: the loss is not finite, because %s (layer %d) is not: lower lr",
                       (long long)t->step + 1, r->name, r->layer);
    return TQ_FAIL(err, ENONFINITE,
                   "step %lld: the loss of a pass of %d rows (the first from line %u) is not finite, though all "
                   "trained values of layers 0 to %d are: lower lr, or try --compute f32",
                   (long long)t->step + 1, pass->n_segments, line, t->adapter->model->config.L - 1);
}

/* Forward, readout, backward of one pass. */
static toque_status run_pass(tq_trainer *t, int i, tq_step_result *result, toque_error *err) {
    const tq_batch *b = &t->batch;
    const tq_batch_pass *p = &b->passes[i];
    const tq_objective *objective = t->o.objective;
    tq_pass pass = tq_batch_pass_at(b, i, TQ_PASS_TRAIN, t->o.seed);
    pass.noise = (float)t->o.noise;
    TQ_TRY(tq_machine_forward(t->machine, &pass, err));
    const tq_target *targets = b->targets + p->target;
    float *logp = b->logp + p->target, *coef = b->coef + p->target;
    const bool smooth = t->o.smoothing > 0;
    float *mean = smooth ? b->mean + p->target : NULL, *mean_coef = smooth ? b->mean_coef + p->target : NULL;
    tq_readout read = {
        .n = p->n_targets, .weight = b->weights + p->target, .scale = 1 / b->weight, .smoothing = t->o.smoothing};
    if (objective->reads_logp) {
        tq_machine_logp(t->machine, targets, p->n_targets, NULL, logp);
        read.logp = logp;
    }
    objective->coef(&read, coef);
    if (smooth) objective->mean_coef(&read, mean_coef);
    tq_machine_logp_mean(t->machine, targets, p->n_targets, coef, mean_coef, logp, mean);
    read.logp = logp;
    read.mean = mean;
    double nll = tq_readout_nll(&read);
    if (!isfinite(nll)) return fail_loss(t, p, err);
    result->loss += nll;
    result->objective += objective->loss(&read);
    tq_machine_backward(t->machine);
    return TOQUE_OK;
}

toque_status tq_trainer_gradient(tq_trainer *t, tq_step_result *result, toque_error *err) {
    const uint32_t *rows;
    size_t n;
    int64_t epoch = tq_order_rows(&t->order, t->step, &rows, &n);
    tq_batch_lay(&t->batch, t->data, rows, (int)n, &t->hats, (uint32_t)epoch);
    *result = (tq_step_result){.step = t->step + 1,
                               .epoch = epoch,
                               .tokens = t->batch.n_tokens,
                               .targets = t->batch.n_targets,
                               .passes = t->batch.n_passes};
    memset(t->adapter->grads, 0, t->adapter->n * sizeof(float));
    if (t->pairs) {
        TQ_TRY(tq_trainer_pairs_gradient(t, &result->loss, err));
        result->objective = result->loss;
        return TOQUE_OK;
    }
    const double scale = t->head ? 1 / tq_trainer_head_weight(t, t->data) : 0;
    for (int i = 0; i < t->batch.n_passes; i++) {
        if (atomic_load(&t->ctx->canceled))
            return TQ_FAIL(err, ECANCELED, "canceled in step %lld", (long long)t->step + 1);
        if (t->head)
            TQ_TRY(tq_trainer_head_pass(t, t->data, i, true, scale, &result->loss, NULL, NULL, err));
        else
            TQ_TRY(run_pass(t, i, result, err));
    }
    if (t->head) result->objective = result->loss;
    return TOQUE_OK;
}

static size_t range_size(const tq_range *r) {
    return (size_t)r->rows * (size_t)r->cols;
}

/* A range's sum of squares in pieces of f32, added up in double: one worker a range, so threads do not matter. */
static void squares_job(tq_worker *w, void *arg) {
    tq_trainer *t = arg;
    enum { PIECE = 4096 };
    for (size_t r = (size_t)w->id; r < t->adapter->n_ranges; r += (size_t)w->count) {
        const float *g = t->adapter->grads + t->adapter->ranges[r].start;
        size_t n = range_size(&t->adapter->ranges[r]);
        double sum = 0;
        for (size_t i = 0; i < n; i += PIECE)
            sum += (double)t->ctx->k->sum_squares(g + i, (int64_t)(n - i < PIECE ? n - i : PIECE));
        t->squares[r] = sum;
    }
}

static toque_status gradient_norm(tq_trainer *t, double *norm, toque_error *err) {
    double sum = 0;
    tq_pool_run(t->ctx->pool, squares_job, t);
    for (size_t r = 0; r < t->adapter->n_ranges; r++) {
        const tq_range *range = &t->adapter->ranges[r];
        if (!isfinite(t->squares[r]))
            return TQ_FAIL(err, ENONFINITE,
                           "step %lld: the gradient of %s (layer %d) is not finite: lower lr, or try "
                           "--compute f32",
                           (long long)t->step + 1, range->name, range->layer);
        sum += t->squares[r];
    }
    *norm = sqrt(sum);
    return TOQUE_OK;
}

typedef struct update_job_arg {
    tq_trainer *t;
    tq_update u;
} update_job_arg;

static void update_job(tq_worker *w, void *arg) {
    const update_job_arg *job = arg;
    tq_trainer *t = job->t;
    const tq_optimizer *o = t->o.optimizer;
    size_t at[TQ_OPTIMIZER_STATES] = {0};
    for (size_t r = 0; r < t->adapter->n_ranges; r++) {
        const tq_range *range = &t->adapter->ranges[r];
        tq_update u = job->u;
        u.values = t->adapter->values + range->start;
        u.grads = t->adapter->grads + range->start;
        u.rows = range->rows;
        u.cols = range->cols;
        u.matrix = is_matrix(range);
        u.turn = (int64_t)r;
        u.decay = range->decays ? (float)t->o.weight_decay : 0;
        u.lr = job->u.lr * range->lr;
        for (int s = 0; s < o->n_states; s++) {
            u.state[s] = t->states[s] + at[s];
            at[s] += tq_optimizer_floats(o, u.rows, u.cols, u.matrix, s);
        }
        o->update(w, &u);
    }
    if (!t->ema) return;
    tq_barrier(w);
    /* The average of few steps would stay near the start: its decay grows with them (as in timm and TensorFlow). */
    double t1 = (double)job->u.t, decay = (1 + t1) / (10 + t1);
    float keep = (float)(decay < t->o.ema ? decay : t->o.ema);
    int64_t b, end;
    tq_share(w, (int64_t)t->adapter->n, 1024, &b, &end);
    for (int64_t i = b; i < end; i++) t->ema[i] = keep * t->ema[i] + (1 - keep) * t->adapter->values[i];
}

void tq_trainer_swap_ema(tq_trainer *t) {
    if (!t->ema) return;
    for (size_t i = 0; i < t->adapter->n; i++) {
        float value = t->adapter->values[i];
        t->adapter->values[i] = t->ema[i];
        t->ema[i] = value;
    }
    tq_adapter_changed(t->adapter);
}

toque_status tq_trainer_step(tq_trainer *t, tq_step_result *result, toque_error *err) {
    double start = tq_now();
    TQ_TRY(tq_trainer_gradient(t, result, err));
    TQ_TRY(gradient_norm(t, &result->grad_norm, err));
    result->lr = tq_schedule_at(&t->o.schedule, t->step);
    update_job_arg job = {.t = t, .u = {.k = t->ctx->k, .compute = t->ctx->compute, .scratch = t->scratch}};
    job.u.lr = (float)result->lr;
    job.u.t = t->step + 1;
    job.u.scale = (float)tq_clip_scale(result->grad_norm, t->o.clip);
    if (t->o.optimizer->begin) t->o.optimizer->begin(&job.u);
    tq_pool_run(t->ctx->pool, update_job, &job);
    tq_adapter_changed(t->adapter);
    t->step++;
    result->seconds = tq_now() - start;
    return TOQUE_OK;
}

void tq_trainer_lay_evaluation(tq_trainer *t, const tq_dataset *set, size_t at, int *n) {
    tq_batch *b = &t->batch;
    for (size_t i = 0; at == 0 && i < t->n_by_set; i++) t->by_set[i] = (tq_set_loss){0};
    *n = set->n - at < (size_t)b->max_rows ? (int)(set->n - at) : b->max_rows;
    for (int i = 0; i < *n; i++) t->rows[i] = (uint32_t)(at + (size_t)i);
    tq_batch_lay(b, set, t->rows, *n, &t->hats, 0);
}

/* The targets of a pass go to their rows' data sets. */
static void add_by_set(tq_trainer *t, const tq_dataset *set, const tq_batch_pass *p) {
    const tq_batch *b = &t->batch;
    if (!t->by_set) return;
    for (int s = 0, i = 0; s < p->n_segments; s++) {
        const tq_segment *segment = &b->segments[p->segment + s];
        tq_set_loss *to = &t->by_set[set->examples[b->example[p->segment + s]].file];
        for (; i < p->n_targets && b->targets[p->target + i].row < segment->row + segment->n; i++) {
            double weight = (double)b->weights[p->target + i];
            to->sum -= weight * (double)b->logp[p->target + i];
            to->weight += weight;
        }
    }
}

static toque_status finite_loss(const tq_trainer *t, double loss, toque_error *err) {
    if (isfinite(loss)) return TOQUE_OK;
    return TQ_FAIL(err, ENONFINITE, "after step %lld: the held-out loss is not finite: lower lr", (long long)t->step);
}

toque_status tq_trainer_evaluate_head(tq_trainer *t, const tq_dataset *set, double *loss, int64_t *targets,
                                      tq_outputs_fn *fn, void *arg, toque_error *err) {
    double sum = 0, weight = 0;
    int64_t count = 0;
    int n;
    for (size_t at = 0; at < set->n; at += (size_t)n) {
        tq_trainer_lay_evaluation(t, set, at, &n);
        for (int i = 0; i < t->batch.n_passes; i++) {
            if (atomic_load(&t->ctx->canceled)) return TQ_FAIL(err, ECANCELED, "canceled in an evaluation");
            TQ_TRY(tq_trainer_head_pass(t, set, i, false, 1, &sum, fn, arg, err));
        }
        weight += tq_trainer_head_weight(t, set);
        count += t->batch.n_targets;
    }
    *loss = sum / weight;
    if (targets) *targets = count;
    return finite_loss(t, *loss, err);
}

toque_status tq_trainer_evaluate(tq_trainer *t, const tq_dataset *set, double *loss, int64_t *targets,
                                 toque_error *err) {
    tq_batch *b = &t->batch;
    double sum = 0, weight = 0;
    int64_t count = 0;
    int n;
    if (t->head) return tq_trainer_evaluate_head(t, set, loss, targets, NULL, NULL, err);
    if (t->pairs) return tq_trainer_evaluate_pairs(t, set, loss, targets, NULL, err);
    for (size_t at = 0; at < set->n; at += (size_t)n) {
        tq_trainer_lay_evaluation(t, set, at, &n);
        for (int i = 0; i < b->n_passes; i++) {
            if (atomic_load(&t->ctx->canceled)) return TQ_FAIL(err, ECANCELED, "canceled in an evaluation");
            const tq_batch_pass *p = &b->passes[i];
            tq_pass pass = tq_batch_pass_at(b, i, TQ_PASS_PREFILL, 0);
            TQ_TRY(tq_machine_forward(t->machine, &pass, err));
            tq_machine_logp(t->machine, b->targets + p->target, p->n_targets, NULL, b->logp + p->target);
            sum += tq_readout_nll(&(tq_readout){
                .n = p->n_targets, .logp = b->logp + p->target, .weight = b->weights + p->target, .scale = 1});
            add_by_set(t, set, p);
        }
        weight += b->weight;
        count += b->n_targets;
    }
    *loss = sum / weight;
    if (targets) *targets = count;
    return finite_loss(t, *loss, err);
}
