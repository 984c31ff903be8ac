/* Preparing a training. See tune.h. */
#include "train/tune.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "train/auto_targets.h"
#include "train/tune_head.h"
#include "train/tune_pairs.h"

tq_data_options tq_tune_data_options(const tq_tune *t, const tq_sources *sources) {
    const tq_recipe *r = t->recipe;
    return (tq_data_options){.paths = sources->paths,
                             .n_paths = sources->n,
                             .sources = sources->items,
                             .format = r->format,
                             .prompt_column = r->prompt_column,
                             .answer_column = r->answer_column,
                             .text_column = r->text_column,
                             .label_column = r->label_column,
                             .system = r->system,
                             .train_on = (tq_train_on)r->train_on,
                             .max_length = (int)r->max_length};
}

const tq_sources *tq_tune_held_out_sources(const tq_tune *t) {
    return t->own_held_out ? &t->eval_sources : &t->sources;
}

static toque_status load_rows(tq_tune *t, tq_dataset *set, const tq_sources *sources, toque_error *err) {
    tq_data_options o = tq_tune_data_options(t, sources);
    if (t->recipe->objective_row->row) TQ_TRY(tq_tune_head_options(t, &o, set == &t->held_out, err));
    if (t->recipe->objective_row->step) o.fields = o.pairs = true;
    TQ_TRY(tq_dataset_load(set, t->model, &o, err));
    tq_buf_puts(&t->notes, set->notes.data);
    return TOQUE_OK;
}

static toque_status load_data(tq_tune *t, toque_error *err) {
    tq_recipe *r = t->recipe;
    TQ_TRY(tq_sources_read(&t->sources, &t->ctx->mem, "data", &r->data, err));
    TQ_TRY(load_rows(t, &t->data, &t->sources, err));
    if (r->eval_data.len) {
        t->own_held_out = true;
        TQ_TRY(tq_sources_read(&t->eval_sources, &t->ctx->mem, "eval_data", &r->eval_data, err));
        return load_rows(t, &t->held_out, &t->eval_sources, err);
    }
    if (!(r->eval_split > 0)) return TOQUE_OK;
    TQ_TRY(tq_dataset_split(&t->data, &t->held_out, r->eval_split, TQ_HELD_OUT_ROWS, (uint64_t)r->seed, err));
    if (t->data.n) return TOQUE_OK;
    return TQ_FAIL(err, EINVAL, "eval_split %g leaves no row to train on: lower it", r->eval_split);
}

/* Counts the rows of each data set and, where they are mixed, how many of them an epoch takes. */
static toque_status mix_data(tq_tune *t, const tq_option_set *given, toque_error *err) {
    const tq_recipe *r = t->recipe;
    tq_mem *mem = &t->ctx->mem;
    const size_t n = t->sources.n, shown = tq_tune_held_out_sources(t)->n;
    if (n == 1 && (t->sources.weighted || tq_recipe_given(given, "mixing")) && r->mixing != TQ_MIX_PROPORTIONAL)
        return TQ_FAIL(err, EINVAL, "mixing is for several data sets, but data names one");
    if (n == 1 && t->sources.weighted)
        return TQ_FAIL(err, EINVAL, "weight is for several data sets, but data names one: leave it out");
    t->set_rows = TQ_NEW_ARRAY(mem, size_t, n);
    if (!t->set_rows) return TQ_NOMEM(err);
    for (size_t i = 0; i < t->data.n; i++) t->set_rows[t->data.examples[i].file]++;
    if (shown > 1 && tq_tune_has_held_out(t) && !(t->by_set = TQ_NEW_ARRAY(mem, tq_set_loss, shown)))
        return TQ_NOMEM(err);
    if (n == 1 || (r->mixing == TQ_MIX_PROPORTIONAL && !t->sources.weighted)) return TOQUE_OK;
    if (r->order == 1)
        return TQ_FAIL(err, EINVAL, "mixing and weights draw rows by chance: leave order file out, or them");
    t->take = TQ_NEW_ARRAY(mem, size_t, n);
    if (!t->take) return TQ_NOMEM(err);
    return tq_sources_mix(&t->sources, t->set_rows, (tq_mixing)r->mixing, r->mixing_temperature, t->take, err);
}

static toque_status load_adapter(tq_tune *t, const tq_option_set *given, toque_error *err) {
    tq_recipe *r = t->recipe;
    if (!r->init_adapter) return TOQUE_OK;
    TQ_TRY(tq_adapter_load(&t->adapter, t->model, r->init_adapter, err));
    return tq_recipe_resolve_adapter(r, given, t->adapter, &t->notes, err);
}

/* The learning rates of ranges: LoRA+ (Hayou et al. 2024) gives all but A another; layer-wise decay (Howard & Ruder
 * 2018) shrinks them towards the embedding, by one factor a layer. */
static void set_rates(tq_tune *t) {
    const tq_recipe *r = t->recipe;
    bool plus = tq_recipe_uses(r, "loraplus_lr_ratio");
    for (size_t i = 0; i < t->adapter->n_ranges; i++) {
        tq_range *range = &t->adapter->ranges[i];
        range->lr = plus && range->part > 0 && range->role < TQ_ROLE_COUNT ? (float)r->loraplus_lr_ratio : 1;
        range->lr *= (float)pow(r->layer_decay, t->model->config.L - range->layer);
    }
}

static toque_status make_adapter(tq_tune *t, toque_error *err) {
    tq_adapter_options o = tq_recipe_adapter(t->recipe);
    tq_head head;
    if (t->recipe->objective_row->row) {
        TQ_TRY(tq_tune_make_head(t, &head, err));
        o.heads = &head;
        o.n_heads = 1;
    }
    if (t->adapter && o.n_heads) {
        tq_adapter *grown;
        TQ_TRY(tq_adapter_with_heads(&grown, t->adapter, o.heads, 1, o.seed, err));
        tq_adapter_free(t->adapter);
        t->adapter = grown;
    } else if (t->adapter && t->adapter->n_heads) {
        return TQ_FAIL(err, EINVAL, "init_adapter %s has a head for objective %s; objective %s has none",
                       t->adapter->name, tq_head_kind_name(t->adapter->heads[0].kind), t->recipe->objective);
    }
    if (t->recipe->objective_row->step) TQ_TRY(tq_tune_choose_pooling(t, err));
    if (!t->adapter) TQ_TRY(tq_adapter_new(&t->adapter, t->model, &o, err));
    t->adapter->embeds = t->pooling;
    static const tq_type types[] = {TQ_F32, TQ_F16, TQ_BF16};
    t->adapter->save_type = types[t->recipe->save_dtype];
    set_rates(t);
    return TOQUE_OK;
}

static tq_trainer_options trainer_options(const tq_recipe *r) {
    return (tq_trainer_options){
        .objective = r->objective_row,
        .optimizer = r->optimizer_row,
        .schedule = {.kind = tq_schedule_choice(r->scheduler),
                     .lr = r->lr,
                     .warmup = tq_schedule_steps(r->warmup, r->steps),
                     .total = r->steps,
                     .decay = tq_schedule_steps(r->decay, r->steps),
                     .cycles = (double)r->cycles},
        .weight_decay = r->weight_decay,
        .ema = r->ema,
        .smoothing = r->label_smoothing,
        .noise = r->neftune_alpha,
        .clip = r->clip,
        .rows = (int)(r->batch_size * r->grad_accum),
        .packing = r->packing == 0,
        .shuffle = r->order == 0,
        .recompute = r->recompute == 1,
        .seed = (uint64_t)r->seed,
    };
}

/* Targets that are chosen by their gradients take the place of those that were asked for, in recipe.yaml too. */
static toque_status choose_targets(tq_tune *t, toque_error *err) {
    tq_recipe *r = t->recipe;
    if (!(r->auto_share > 0)) return TOQUE_OK;
    tq_trainer_options o = trainer_options(r);
    tq_adapter_options a = tq_recipe_adapter(r);
    size_t used = atomic_load(&t->ctx->mem.used), limit = t->ctx->mem.limit;
    if (limit) o.max_bytes = limit > used ? (limit - used) / 2 : 1;
    tq_buf text;
    tq_buf_init(&text, &t->ctx->mem, 1 << 20);
    toque_status status = tq_auto_targets(&text, t->model, &a, &t->data, &o, r->auto_share, &t->notes, err);
    if (status == TOQUE_OK) status = tq_recipe_set_targets(r, text.data, text.len, err);
    tq_buf_clear(&text);
    return status == TOQUE_OK ? make_adapter(t, err) : status;
}

static toque_status make_trainer(tq_tune *t, toque_error *err) {
    const tq_recipe *r = t->recipe;
    bool keep_best = r->keep == TQ_KEEP_BEST;
    size_t room;
    TQ_TRY(tq_memory_plan_make(&t->plan, t->adapter, r->optimizer_row, r->ema > 0, keep_best, &room, err));
    if (!t->plan.model_file) tq_gguf_forget(t->model->gguf);
    TQ_TRY(tq_adapter_train(t->adapter, err));
    if (keep_best) {
        t->best = TQ_NEW_ARRAY(&t->ctx->mem, float, t->adapter->n);
        if (!t->best) return TQ_NOMEM(err);
    }
    tq_trainer_options o = trainer_options(r);
    o.max_bytes = room;
    o.class_weights = t->class_weights;
    o.read = tq_pooling_read(t->pooling);
    o.sharpness = r->similarity_scale;
    o.take = t->take;
    o.n_sets = t->take ? t->sources.n : 0;
    TQ_TRY(tq_trainer_init(&t->trainer, t->adapter, &t->data, tq_tune_has_held_out(t) ? &t->held_out : NULL, &o, err));
    t->trainer.by_set = t->by_set;
    t->trainer.n_by_set = t->by_set ? tq_tune_held_out_sources(t)->n : 0;
    t->plan.activations = t->trainer.plan.bytes;
    t->plan.kept_layers = t->trainer.plan.kept_layers;
    return TOQUE_OK;
}

/* What the bytes of a run depend on, for its checkpoints. */
static toque_status describe_inputs(tq_tune *t, toque_error *err) {
    json_t *recipe = tq_recipe_json(t->recipe), *sets = tq_sources_json(&t->sources);
    json_t *eval_sets = tq_sources_json(&t->eval_sources);
    const char *base = tq_model_hash(t->model);
    if (!recipe || !sets || !eval_sets || !*base) {
        json_decref(recipe);
        json_decref(sets);
        json_decref(eval_sets);
        return TQ_NOMEM(err);
    }
    t->inputs =
        json_pack("{s:s, s:s, s:s, s:{s:s, s:s, s:s}, s:o, s:o, s:o}", "base model", base, "data", t->data.hash,
                  "eval_data", t->own_held_out ? t->held_out.hash : "", TQ_TUNE_MACHINE, "instruction set",
                  t->ctx->k->isa, "compute", t->ctx->compute == TQ_COMPUTE_BF16 ? "bf16" : "f32", "build",
                  TOQUE_VERSION ", " __VERSION__, "recipe", recipe, "data sets", sets, "eval_data sets", eval_sets);
    return t->inputs ? TOQUE_OK : TQ_NOMEM(err);
}

toque_status tq_tune_open(tq_tune *t, tq_ctx *ctx, tq_recipe *recipe, const tq_option_set *given, toque_error *err) {
    *t = (tq_tune){
        .ctx = ctx, .recipe = recipe, .saved = -1, .figures_step = -1, .run = {.lock = -1}, .metrics = {.fd = -1}};
    t->at = (tq_progress_state){.evaluated = -1, .base_eval = NAN, .best_eval = NAN, .last_eval = NAN};
    tq_buf_init(&t->notes, &ctx->mem, 1 << 16);
    toque_status status = TOQUE_OK;
    TQ_GO(tq_model_open(&t->model, ctx, recipe->model, err));
    TQ_GO(load_adapter(t, given, err));
    TQ_GO(tq_recipe_resolve_model(recipe, given, t->model, &t->notes, err));
    const bool headed = recipe->objective_row->row;                        /* whose labels are in the data */
    if (!(recipe->auto_share > 0) && !headed) TQ_GO(make_adapter(t, err)); /* a wrong name is told at once */
    TQ_GO(load_data(t, err));
    TQ_GO(mix_data(t, given, err));
    if (headed) TQ_GO(make_adapter(t, err));
    TQ_GO(tq_recipe_resolve_rows(recipe, given, t->data.n, t->held_out.n, &t->notes, err));
    TQ_GO(choose_targets(t, err));
    TQ_GO(make_trainer(t, err));
    TQ_GO(describe_inputs(t, err));
    TQ_GO(tq_buf_status(&t->notes, "the notes of the recipe", err));
done:
    if (status != TOQUE_OK) tq_tune_close(t);
    return status;
}

void tq_tune_close(tq_tune *t) {
    if (!t->ctx) return;
    tq_mem *mem = &t->ctx->mem;
    tq_metrics_close(&t->metrics);
    tq_run_close(&t->run);
    tq_trainer_clear(&t->trainer);
    tq_free(mem, t->best);
    tq_free(mem, t->class_weights);
    tq_free(mem, t->set_rows);
    tq_free(mem, t->take);
    tq_free(mem, t->by_set);
    tq_sources_clear(&t->sources);
    tq_sources_clear(&t->eval_sources);
    tq_figures_clear(&t->figures);
    tq_adapter_free(t->adapter);
    tq_dataset_clear(&t->held_out);
    tq_dataset_clear(&t->data);
    tq_recipe_clear(t->recipe);
    tq_model_close(t->model);
    tq_buf_clear(&t->notes);
    json_decref(t->inputs);
    *t = (tq_tune){0};
}

bool tq_tune_has_held_out(const tq_tune *t) {
    return t->held_out.n > 0;
}

int64_t tq_tune_kept_step(const tq_tune *t) {
    return t->best && t->at.best_step > 0 ? t->at.best_step : t->at.step;
}

static int by_value(const void *a, const void *b) {
    int x = *(const int *)a, y = *(const int *)b;
    return (x > y) - (x < y);
}

/* A line for each data set, where there are several. */
static void describe_sets(const tq_tune *t, tq_buf *out) {
    for (size_t i = 0; t->sources.n > 1 && i < t->sources.n; i++) {
        size_t held = 0;
        for (size_t k = 0; !t->own_held_out && k < t->held_out.n; k++) held += t->held_out.examples[k].file == i;
        tq_buf_printf(out, "data set %s: %zu rows to train on", t->sources.items[i].name, t->set_rows[i]);
        if (!t->own_held_out) tq_buf_printf(out, ", %zu held out", held);
        if (t->take)
            tq_buf_printf(out, "; an epoch takes %zu (%.1f %%)", t->take[i],
                          100 * (double)t->take[i] / (double)t->data.n);
        tq_buf_puts(out, "\n");
    }
}

bool tq_tune_describe_data(const tq_tune *t, tq_buf *out) {
    const tq_dataset *d = &t->data;
    int *lengths = TQ_NEW_ARRAY(&t->ctx->mem, int, d->n);
    if (!lengths) return false;
    size_t tokens = 0, targets = 0;
    for (size_t i = 0; i < d->n; i++) {
        lengths[i] = d->examples[i].n;
        tokens += (size_t)d->examples[i].n;
        targets += (size_t)d->examples[i].n_targets;
    }
    qsort(lengths, d->n, sizeof *lengths, by_value);
    tq_buf_printf(out, "data: %zu rows to train on, %zu held out", d->n, t->held_out.n);
    if (d->n_too_long)
        tq_buf_printf(out, ", %zu DROPPED: longer than max_length %lld (the longest has %d tokens)", d->n_too_long,
                      (long long)t->recipe->max_length, d->longest);
    size_t lost = d->n_lost_spans + t->held_out.n_lost_spans;
    if (lost) tq_buf_printf(out, ", %zu spans LOST: all their tokens belong to the span before", lost);
    if (d->n_split) tq_buf_printf(out, ", %zu rows split into one per assistant turn", d->n_split);
    tq_buf_printf(
        out, "\ntokens: %zu, of which %zu (%.0f %%) are learned; a row: min %d, 50 %% %d, 90 %% %d, 99 %% %d, max %d\n",
        tokens, targets, 100.0 * (double)targets / (double)tokens, lengths[0], lengths[d->n / 2],
        lengths[d->n * 9 / 10], lengths[d->n * 99 / 100], lengths[d->n - 1]);
    tq_free(&t->ctx->mem, lengths);
    describe_sets(t, out);
    return !out->failed;
}
