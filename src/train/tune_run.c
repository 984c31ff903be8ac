/* Running a training into its run folder. See tune.h. */
#include "train/tune.h"

#include <math.h>
#include <string.h>

#include "runs/card.h"
#include "train/tune_head.h"
#include "train/tune_pairs.h"

static double epochs_at(const tq_tune *t, int64_t step) {
    return (double)step / (double)t->recipe->steps_per_epoch;
}

/* --- starting ------------------------------------------------------------------------------------ */

static tq_checkpoint checkpoint_of(tq_tune *t) {
    tq_checkpoint c = {.at = t->at,
                       .inputs = t->inputs,
                       .n = t->adapter->n,
                       .values = t->adapter->values,
                       .n_states = t->recipe->optimizer_row->n_states};
    c.ema = t->trainer.ema;
    for (int i = 0; i < c.n_states; i++) {
        c.states[i] = t->trainer.states[i];
        c.state_floats[i] = t->trainer.n_states[i];
    }
    return c;
}

/* Another instruction set, precision or compiler rounds differently: the run would end, but not in the same bytes. */
static toque_status compare_machine(tq_tune *t, json_t *before, toque_error *err) {
    const char *key;
    json_t *now, *old = json_object_get(before, TQ_TUNE_MACHINE);
    json_object_foreach(json_object_get(t->inputs, TQ_TUNE_MACHINE), key, now) {
        const char *was = json_string_value(json_object_get(old, key)), *is = json_string_value(now);
        if (was && strcmp(was, is) == 0) continue;
        if (!was) was = "not noted";
        if (!t->other_machine)
            return TQ_FAIL(
                err, EINVAL,
                "cannot resume %s: its %s was %.80s, now it is %.80s, and the result would not have the bytes "
                "of a run that never stopped; resume it as it was begun (TOQUE_ISA, --compute, the same "
                "toque), or go on all the same with --other-machine",
                t->run.dir, key, was, is);
        tq_log(t->ctx, TQ_WARNING, "%s was begun with %s %.80s and goes on with %.80s: its bytes will be others",
               t->run.dir, key, was, is);
    }
    return TOQUE_OK;
}

/* Everything else that the run was made from must be as it was. */
static toque_status compare_inputs(tq_tune *t, json_t *before, toque_error *err) {
    json_t *old = json_copy(before), *now = json_copy(t->inputs);
    toque_status status = old && now ? compare_machine(t, before, err) : TQ_NOMEM(err);
    json_object_del(old, TQ_TUNE_MACHINE);
    json_object_del(now, TQ_TUNE_MACHINE);
    if (status == TOQUE_OK) status = tq_checkpoint_compare(old, now, t->run.dir, err);
    json_decref(old);
    json_decref(now);
    return status;
}

static toque_status read_checkpoint(tq_tune *t, const char *path, toque_error *err) {
    tq_checkpoint_file *file = NULL;
    TQ_TRY(tq_checkpoint_open(&file, &t->ctx->mem, path, err));
    tq_checkpoint c = checkpoint_of(t);
    c.best = tq_checkpoint_has_best(file) ? t->best : NULL;
    toque_status status = compare_inputs(t, tq_checkpoint_inputs(file), err);
    if (status == TOQUE_OK) status = tq_checkpoint_read(file, &c, err);
    tq_checkpoint_close(file);
    if (status != TOQUE_OK) return status;
    if (c.at.step > t->recipe->steps || (c.at.best_step > 0 && !c.best != !t->best))
        return TQ_FAIL(err, EFORMAT, "%s contradicts itself: step %lld of %lld, %s best values", path,
                       (long long)c.at.step, (long long)t->recipe->steps, c.best ? "with" : "without");
    t->at = c.at;
    t->trainer.step = t->saved = t->resumed = c.at.step;
    tq_adapter_changed(t->adapter);
    return TOQUE_OK;
}

static toque_status open_metrics(tq_tune *t, toque_error *err) {
    char *path = tq_run_path(&t->run, TQ_RUN_METRICS);
    if (!path) return TQ_NOMEM(err);
    int64_t last;
    toque_status status = tq_metrics_open(&t->metrics, &t->ctx->mem, path, t->saved, t->at.evaluated, &last, err);
    if (status == TOQUE_OK && last < t->at.step)
        tq_log(t->ctx, TQ_WARNING,
               "%s ends at step %lld, the checkpoint is of step %lld: the steps between have no line", path,
               (long long)last, (long long)t->at.step);
    tq_free(&t->ctx->mem, path);
    return status;
}

/* How a head answered before the run gave it labels, which no checkpoint holds. */
static toque_status answers_before(tq_tune *t, toque_error *err) {
    double loss;
    int64_t targets;
    if (!t->recipe->add_labels || !tq_tune_has_held_out(t)) return TOQUE_OK;
    return tq_tune_head_evaluate(t, &loss, &targets, err);
}

toque_status tq_tune_start(tq_tune *t, const char *dir, tq_run_mode mode, const tq_buf *recipe_yaml, toque_error *err) {
    toque_status status = TOQUE_OK;
    char *state = NULL, *folder = NULL;
    TQ_GO(tq_run_open(&t->run, &t->ctx->mem, dir, mode, err));
    state = tq_run_path(&t->run, TQ_RUN_STATE);
    folder = tq_run_path(&t->run, TQ_RUN_CHECKPOINT);
    if (!state || !folder) TQ_GO(TQ_NOMEM(err));
    if (mode == TQ_RUN_RESUME && tq_path_exists(state)) {
        TQ_GO(answers_before(t, err));
        TQ_GO(read_checkpoint(t, state, err));
    } else
        TQ_GO(tq_run_write(&t->run, TQ_RUN_RECIPE, recipe_yaml, err));
    TQ_GO(tq_make_dirs(&t->ctx->mem, folder, err));
    TQ_GO(open_metrics(t, err));
done:
    tq_free(&t->ctx->mem, state);
    tq_free(&t->ctx->mem, folder);
    return status;
}

/* --- saving -------------------------------------------------------------------------------------- */

static float *kept_values(const tq_tune *t) {
    return t->best && t->at.best_step > 0 ? t->best : t->trainer.ema; /* NULL: the adapter's own */
}

/* The checkpoint comes last: a run that has one of its last step has nothing left to write. */
static toque_status save(tq_tune *t, const tq_tune_events *events, toque_error *err) {
    if (t->saved == t->at.step) return TOQUE_OK;
    TQ_TRY(tq_metrics_sync(&t->metrics, err));
    TQ_TRY(tq_adapter_save(t->adapter, t->run.dir, kept_values(t), err));
    tq_checkpoint c = checkpoint_of(t);
    c.best = t->at.best_step > 0 ? t->best : NULL;
    char *path = tq_run_path(&t->run, TQ_RUN_STATE);
    if (!path) return TQ_NOMEM(err);
    toque_status status = tq_checkpoint_save(&t->ctx->mem, path, &c, err);
    tq_free(&t->ctx->mem, path);
    if (status != TOQUE_OK) return status;
    t->saved = t->at.step;
    if (events->saved) events->saved(events->arg, t->at.step);
    return TOQUE_OK;
}

/* A run that cannot go on keeps what was best, without touching the checkpoint. */
static void save_best_on_failure(tq_tune *t) {
    toque_error second;
    const float *best = kept_values(t);
    if (best && tq_adapter_save(t->adapter, t->run.dir, best, &second) != TOQUE_OK)
        tq_log(t->ctx, TQ_WARNING, "the best values could not be saved either: %s", second.message);
}

/* --- the loop ------------------------------------------------------------------------------------ */

static bool evaluation_due(const tq_tune *t) {
    if (!tq_tune_has_held_out(t) || t->at.evaluated == t->at.step) return false;
    int64_t every = t->recipe->eval_every, step = t->at.step;
    return step == 0 || step == t->recipe->steps || (every > 0 && step % every == 0);
}

/* {name: loss} of the data sets that have held-out rows; stays NULL with one data set. */
static toque_status losses_by_set(const tq_tune *t, json_t **by_set, toque_error *err) {
    if (!t->by_set) return TOQUE_OK;
    const tq_sources *s = tq_tune_held_out_sources(t);
    *by_set = json_object();
    for (size_t i = 0; i < s->n; i++) {
        if (!(t->by_set[i].weight > 0)) continue;
        json_t *loss = json_real(t->by_set[i].sum / t->by_set[i].weight);
        if (json_object_set_new(*by_set, s->items[i].name, loss) < 0) return json_decref(*by_set), TQ_NOMEM(err);
    }
    return *by_set ? TOQUE_OK : TQ_NOMEM(err);
}

/* The held-out loss, with what is told beside it: figures of a head's answers, or ranks of vectors. */
static toque_status held_out_loss(tq_tune *t, double *loss, int64_t *targets, toque_error *err) {
    if (t->trainer.head) return tq_tune_head_evaluate(t, loss, targets, err);
    if (t->trainer.pairs) return tq_tune_pairs_evaluate(t, loss, targets, err);
    return tq_trainer_evaluate(&t->trainer, &t->held_out, loss, targets, err);
}

static toque_status put_evaluation(tq_tune *t, double loss, int64_t targets, toque_error *err) {
    const int64_t step = t->at.step;
    const bool told = t->trainer.head || t->trainer.pairs;
    json_t *by_set = NULL, *figures = t->trainer.head    ? tq_figures_json(&t->figures)
                                      : t->trainer.pairs ? tq_ranking_json(&t->ranking)
                                                         : NULL;
    toque_status status = told && !figures ? TQ_NOMEM(err) : losses_by_set(t, &by_set, err);
    if (status == TOQUE_OK)
        status = tq_metrics_put_eval(&t->metrics, step, epochs_at(t, step), loss, targets, figures, by_set, err);
    json_decref(figures);
    json_decref(by_set);
    return status;
}

static toque_status evaluate(tq_tune *t, const tq_tune_events *events, toque_error *err) {
    tq_progress_state *at = &t->at;
    double loss;
    int64_t targets;
    if (events->evaluating) events->evaluating(events->arg, at->step);
    tq_trainer_swap_ema(&t->trainer);
    toque_status status = held_out_loss(t, &loss, &targets, err);
    tq_trainer_swap_ema(&t->trainer);
    if (status != TOQUE_OK) return status;
    TQ_TRY(put_evaluation(t, loss, targets, err));
    at->evaluated = t->figures_step = at->step;
    at->last_eval = loss;
    t->saved = -1; /* a checkpoint of this step, if there is one, was made before the evaluation */
    bool best = at->step > 0 && (at->best_step == 0 || loss < at->best_eval);
    if (at->step == 0) at->base_eval = loss;
    if (best) {
        at->best_step = at->step;
        at->best_eval = loss;
        at->worse = 0;
        const float *values = t->trainer.ema ? t->trainer.ema : t->adapter->values;
        if (t->best) memcpy(t->best, values, t->adapter->n * sizeof(float));
    } else if (at->step > 0) {
        at->worse++;
    }
    if (t->recipe->patience > 0 && at->worse >= t->recipe->patience) at->stopped = true;
    if (events->evaluated) events->evaluated(events->arg, at->step, loss, best);
    return TOQUE_OK;
}

static toque_status one_step(tq_tune *t, const tq_tune_events *events, toque_error *err) {
    tq_step_result r;
    TQ_TRY(tq_trainer_step(&t->trainer, &r, err));
    t->at.step = t->trainer.step;
    bool same = !t->recipe->objective_row->reads_logp && !(t->recipe->label_smoothing > 0);
    tq_metrics_step line = {.step = r.step,
                            .epoch = epochs_at(t, r.step),
                            .loss = r.loss,
                            .objective = same ? NULL : t->recipe->objective_row->name,
                            .objective_loss = r.objective,
                            .lr = r.lr,
                            .grad_norm = r.grad_norm,
                            .tokens = r.tokens,
                            .target_tokens = r.targets,
                            .tokens_per_second = (double)r.tokens / (r.seconds > 1e-9 ? r.seconds : 1e-9)};
    TQ_TRY(tq_metrics_put_step(&t->metrics, &line, err));
    if (events->step) events->step(events->arg, &r);
    return TOQUE_OK;
}

static toque_status loop(tq_tune *t, const tq_tune_events *events, toque_error *err) {
    for (;;) {
        if (evaluation_due(t)) TQ_TRY(evaluate(t, events, err));
        bool end = t->at.stopped || t->at.step >= t->recipe->steps;
        int64_t every = t->recipe->save_every;
        if (end || (every > 0 && t->at.step > 0 && t->at.step % every == 0)) TQ_TRY(save(t, events, err));
        if (end) return TOQUE_OK;
        if (atomic_load(&t->ctx->canceled))
            return TQ_FAIL(err, ECANCELED, "canceled after step %lld", (long long)t->at.step);
        TQ_TRY(one_step(t, events, err));
    }
}

static void swap_values(tq_tune *t, float *values) {
    for (size_t i = 0; i < t->adapter->n; i++) {
        float value = t->adapter->values[i];
        t->adapter->values[i] = values[i];
        values[i] = value;
    }
    tq_adapter_changed(t->adapter);
}

/* The figures of the values that the run keeps, unless the last evaluation was of these. */
static toque_status figures_of_kept(tq_tune *t, toque_error *err) {
    float *kept = kept_values(t);
    double loss;
    int64_t targets;
    if ((!t->trainer.head && !t->trainer.pairs) || !tq_tune_has_held_out(t) || t->figures_step == tq_tune_kept_step(t))
        return TOQUE_OK;
    if (kept) swap_values(t, kept);
    toque_status status = held_out_loss(t, &loss, &targets, err);
    if (kept) swap_values(t, kept);
    if (status == TOQUE_OK) t->figures_step = tq_tune_kept_step(t);
    return status;
}

toque_status tq_tune_run(tq_tune *t, const tq_tune_events *events, toque_error *err) {
    toque_status status = loop(t, events, err);
    if (status == TOQUE_OK) status = figures_of_kept(t, err);
    if (status == TOQUE_ECANCELED) {
        /* An evaluation or step that was under way left no trace: the checkpoint stands before it. */
        toque_status saved = save(t, events, err);
        if (saved != TOQUE_OK) return saved;
    }
    if (status == TOQUE_ENONFINITE) save_best_on_failure(t);
    return status;
}

/* --- the card ------------------------------------------------------------------------------------- */

toque_status tq_tune_write_card(tq_tune *t, const char *recipe_yaml, toque_error *err) {
    const tq_recipe *r = t->recipe;
    tq_metrics_series series;
    TQ_TRY(tq_metrics_read(&series, &t->ctx->mem, t->metrics.path, err));
    size_t targets = 0, tokens = 0;
    for (size_t i = 0; i < t->data.n; i++) {
        tokens += (size_t)t->data.examples[i].n;
        targets += (size_t)t->data.examples[i].n_targets;
    }
    tq_card card = {.dir = t->run.dir,
                    .model = r->model,
                    .model_hash = tq_model_hash(t->model),
                    .architecture = t->model->config.arch->name,
                    .data = t->sources.paths,
                    .n_data = t->sources.n,
                    .data_hash = t->data.hash,
                    .eval_hash = t->own_held_out ? t->held_out.hash : NULL,
                    .rows = t->data.n,
                    .held_out_rows = t->held_out.n,
                    .dropped_rows = t->data.n_too_long,
                    .lost_spans = t->data.n_lost_spans + t->held_out.n_lost_spans,
                    .tokens = tokens,
                    .targets = targets,
                    .method = r->method,
                    .peft = r->method_row->peft_type != NULL,
                    .objective = r->objective,
                    .trained_values = t->adapter->n,
                    .steps = t->at.step,
                    .kept_step = tq_tune_kept_step(t),
                    .epochs = epochs_at(t, t->at.step),
                    .first_loss = series.n_loss ? series.loss[0].value : NAN,
                    .last_loss = series.n_loss ? series.loss[series.n_loss - 1].value : NAN,
                    .base_eval = t->at.base_eval,
                    .best_eval = t->at.best_eval,
                    .last_eval = t->at.last_eval,
                    .first_by_set = series.first_by_task,
                    .last_by_set = series.last_by_task,
                    .figures = t->trainer.head && t->figures.head ? &t->figures : NULL,
                    .head = t->trainer.head,
                    .vectors = t->trainer.pairs != NULL,
                    .ranking = t->ranking.n ? &t->ranking : NULL,
                    .baseline = t->baseline,
                    .recipe = recipe_yaml};
    tq_buf text;
    tq_buf_init(&text, &t->ctx->mem, 1 << 20);
    tq_card_write(&card, &text);
    toque_status status = tq_run_write(&t->run, TQ_RUN_CARD, &text, err);
    tq_buf_clear(&text);
    tq_metrics_series_clear(&series);
    return status;
}
