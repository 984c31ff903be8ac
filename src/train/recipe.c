/* The keys of a training. See recipe.h; docs/training.md describes them to users. */
#include "train/recipe.h"

#include <math.h>
#include <string.h>

#define AT(field) offsetof(tq_recipe, field)

const tq_option tq_recipe_table[] = {
    {"model", 'm', TQ_OPT_TEXT, AT(model), NULL, 0, 0, NULL, "M", "model_name_or_path|base_model", "base model"},
    {"data", 'd', TQ_OPT_LIST, AT(data), NULL, 0, 0, NULL, "DATA", "dataset|dataset_name|train_file",
     "rows to train on (may be repeated)"},
    {"format", 0, TQ_OPT_TEXT, AT(format), NULL, 0, 0, NULL, "NAME", NULL,
     "format of the rows: messages, alpaca, sharegpt, prompt, text, csv, tsv"},
    {"prompt_column", 0, TQ_OPT_TEXT, AT(prompt_column), NULL, 0, 0, NULL, "NAME", NULL, "column with the question"},
    {"answer_column", 0, TQ_OPT_TEXT, AT(answer_column), NULL, 0, 0, NULL, "NAME", NULL, "column with the answer"},
    {"text_column", 0, TQ_OPT_TEXT, AT(text_column), NULL, 0, 0, NULL, "NAME", NULL, "column with a text to classify"},
    {"label_column", 0, TQ_OPT_TEXT, AT(label_column), NULL, 0, 0, NULL, "NAME", NULL, "column with its label"},
    {"system", 0, TQ_OPT_TEXT, AT(system), NULL, 0, 0, NULL, "TEXT", "system_prompt",
     "system message of rows that have none"},
    {"method", 0, TQ_OPT_TEXT, AT(method), "lora", 0, 0, NULL, "NAME", "finetuning_type|fine_tune_type",
     "what is trained: lora"},
    {"objective", 0, TQ_OPT_TEXT, AT(objective), "sft", 0, 0, NULL, "NAME", "stage", "what for: sft, dft"},
    {"max_length", 0, TQ_OPT_INT, AT(max_length), NULL, 1, 1 << 20, NULL, "N",
     "sequence_len|cutoff_len|max_seq_length|max_seq_len",
     "longer rows are dropped and counted (default: 2048 or the model's context)"},
    {"batch_size", 0, TQ_OPT_INT, AT(batch_size), "8", 1, 65536, NULL, "N",
     "per_device_train_batch_size|micro_batch_size", "rows of a step"},
    {"grad_accum", 0, TQ_OPT_INT, AT(grad_accum), "1", 1, 65536, NULL, "N",
     "gradient_accumulation_steps|grad_accumulation_steps", "batches of a step"},
    {"epochs", 0, TQ_OPT_NUMBER, AT(epochs), "3", 0, 100000, NULL, "N", "num_train_epochs|num_epochs",
     "passes over the rows"},
    {"max_steps", 0, TQ_OPT_INT, AT(max_steps), "0", 0, 1e12, NULL, "N", "iters",
     "steps, instead of epochs (0: epochs)"},
    {"lr", 0, TQ_OPT_NUMBER, AT(lr), NULL, 0, 100, NULL, "X", "learning_rate",
     "peak learning rate (default: by method and size)"},
    {"scheduler", 0, TQ_OPT_CHOICE, AT(scheduler), "cosine", 0, 0, TQ_SCHEDULE_CHOICES, NULL,
     "lr_scheduler_type|lr_scheduler|lr_schedule", "how it goes down"},
    {"warmup", 0, TQ_OPT_NUMBER, AT(warmup), "0.03", 0, 1e12, NULL, "X", "warmup_ratio|warmup_steps|num_warmup_steps",
     "share of the steps (below 1) or number of steps in which it goes up"},
    {"weight_decay", 0, TQ_OPT_NUMBER, AT(weight_decay), "0", 0, 100, NULL, "X", NULL, "decay of the values"},
    {"clip", 0, TQ_OPT_NUMBER, AT(clip), "1", 0, 1e9, NULL, "X", "max_grad_norm|clip_grad_norm",
     "largest L2 norm of the gradient (0: any)"},
    {"optimizer", 0, TQ_OPT_TEXT, AT(optimizer), "adamw", 0, 0, NULL, "NAME", "optim", "adamw or sgd"},
    {"rank", 0, TQ_OPT_INT, AT(rank), "16", 1, 4096, NULL, "N", "lora_r|lora_rank|r", "rank of the adapter"},
    {"alpha", 0, TQ_OPT_NUMBER, AT(alpha), NULL, 0, 1e6, NULL, "X", "lora_alpha",
     "its scale is alpha / rank (default: 2 x rank)"},
    {"dropout", 0, TQ_OPT_NUMBER, AT(dropout), "0", 0, 0.99, NULL, "X", "lora_dropout",
     "dropout of the adapter's inputs"},
    {"rslora", 0, TQ_OPT_FLAG, AT(rslora), "off", 0, 0, NULL, NULL, "use_rslora",
     "scale by alpha / sqrt(rank) instead"},
    {"targets", 0, TQ_OPT_LIST, AT(targets), "all-linear", 0, 0, NULL, "NAMES",
     "lora_target_modules|target_modules|lora_target", "weights that get an adapter: all-linear, or names"},
    {"init_adapter", 0, TQ_OPT_TEXT, AT(init_adapter), NULL, 0, 0, NULL, "A", NULL,
     "adapter to go on from; it supplies rank, alpha, dropout and targets"},
    {"order", 0, TQ_OPT_CHOICE, AT(order), "shuffle", 0, 0, "shuffle|file", NULL, NULL, "order of the rows"},
    {"packing", 0, TQ_OPT_CHOICE, AT(packing), "on", 0, 0, "on|off|true|false", NULL, "sample_packing|neat_packing",
     "lay rows out without padding; results do not change"},
    {"train_on", 0, TQ_OPT_CHOICE, AT(train_on), "assistant", 0, 0, "assistant|last|all", NULL, NULL,
     "what of a conversation is learned"},
    {"eval_data", 0, TQ_OPT_LIST, AT(eval_data), NULL, 0, 0, NULL, "DATA", "eval_dataset|validation_file",
     "held-out rows from a file of their own"},
    {"eval_split", 0, TQ_OPT_NUMBER, AT(eval_split), NULL, 0, 0.9, NULL, "X", "val_set_size|val_size|validation_size",
     "share of the rows that is held out, at most 200 rows (default: 0.1)"},
    {"patience", 0, TQ_OPT_INT, AT(patience), "0", 0, 1e9, NULL, "N", "early_stopping_patience|early_stopping_steps",
     "stop after N evaluations in a row that were no better (0: never)"},
    {"keep", 0, TQ_OPT_CHOICE, AT(keep), NULL, 0, 0, "best|last", NULL, NULL,
     "which values the adapter gets (default: best, where rows are held out)"},
    {"eval_every", 0, TQ_OPT_INT, AT(eval_every), NULL, 0, 1e12, NULL, "N", "eval_steps|steps_per_eval",
     "steps between evaluations (0: only at the end; default: an epoch)"},
    {"save_every", 0, TQ_OPT_INT, AT(save_every), "0", 0, 1e12, NULL, "N", "save_steps|steps_per_save",
     "steps between checkpoints (0: only at the end and at Ctrl-C)"},
    {"seed", 0, TQ_OPT_INT, AT(seed), "42", 0, 9007199254740991.0, NULL, "N", "random_state", "seed of all chance"},
    {0},
};

/* Keys that say where things lie or when to save: they do not change what comes out. */
static bool is_free(const char *key) {
    static const char *const keys[] = {"model", "data", "eval_data", "init_adapter", "save_every"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (strcmp(keys[i], key) == 0) return true;
    return false;
}

static bool is_given(const tq_option_set *given, const char *key) {
    return given && tq_options_given(given, key);
}

static size_t parameters(const tq_model *m) {
    size_t n = (size_t)m->embedding.rows * (size_t)m->embedding.cols + (size_t)m->out_norm.cols;
    if (!m->config.tied) n += (size_t)m->head.rows * (size_t)m->head.cols;
    for (int l = 0; l < m->config.L; l++)
        for (int role = 0; role < TQ_ROLE_COUNT; role++) {
            const tq_weight *w = &m->weights[l][role];
            if (w->data) n += (size_t)w->rows * (size_t)w->cols;
        }
    return n;
}

static toque_status join_targets(tq_recipe *r, tq_mem *mem, toque_error *err) {
    tq_buf text;
    tq_buf_init(&text, mem, 4096);
    for (size_t i = 0; i < r->targets.len; i++) {
        const char *name = strcmp(r->targets.items[i], "all") == 0 ? "all-linear" : r->targets.items[i];
        tq_buf_printf(&text, "%s%s", i ? "," : "", name);
    }
    toque_status status = tq_buf_status(&text, "the list of targets", err);
    if (status == TOQUE_OK && !(r->targets_text = tq_buf_take(&text))) status = TQ_NOMEM(err);
    tq_buf_clear(&text);
    return status;
}

toque_status tq_recipe_resolve_model(tq_recipe *r, const tq_option_set *given, tq_model *model, tq_buf *notes,
                                     toque_error *err) {
    TQ_TRY(tq_objective_find(&r->objective_row, r->objective, err));
    TQ_TRY(tq_optimizer_find(&r->optimizer_row, r->optimizer, err));
    r->optimizer = r->optimizer_row->name;
    r->packing %= 2;
    if (strcmp(r->method, "lora") != 0)
        return TQ_FAIL(err, EUNSUPPORTED, "method \"%s\" cannot be trained by this toque; there is: lora", r->method);
    if (!(r->epochs > 0)) return TQ_FAIL(err, EINVAL, "epochs must be above 0 (fractions are fine), not %g", r->epochs);
    if (is_given(given, "lr") && !(r->lr > 0)) return TQ_FAIL(err, EINVAL, "lr must be above 0, not %g", r->lr);
    if (r->eval_data.len && is_given(given, "eval_split") && r->eval_split > 0)
        return TQ_FAIL(err, EINVAL,
                       "eval_split holds out rows of the data, but eval_data already gives a file of them: "
                       "leave one of the two out");
    if (!is_given(given, "max_length")) {
        r->max_length = model->config.context < 2048 ? model->config.context : 2048;
        tq_buf_printf(notes, "max_length %lld: %s\n", (long long)r->max_length,
                      r->max_length < 2048 ? "the model's context" : "the default, within the model's context");
    } else if (r->max_length > model->config.context) {
        return TQ_FAIL(err, EINVAL, "max_length %lld is above the model's context of %d", (long long)r->max_length,
                       model->config.context);
    }
    if (!is_given(given, "lr")) {
        size_t n = parameters(model);
        bool small = n < 500000000;
        r->lr = small ? 1e-3 : 2e-4;
        tq_buf_printf(notes, "lr %g: %s on a model of %.3gB parameters (%s 0.5B)\n", r->lr, r->method, (double)n / 1e9,
                      small ? "below" : "not below");
    }
    if (!is_given(given, "eval_split")) {
        bool none = r->eval_data.len > 0 || r->order == 1 || r->max_steps > 0;
        r->eval_split = none ? 0 : 0.1;
        if (!none)
            tq_buf_puts(
                notes,
                "eval_split 0.1: a tenth of the rows (at most 200) is held out to see how it does on new ones\n");
        else if (!r->eval_data.len)
            tq_buf_printf(notes, "eval_split 0: no rows are held out with %s\n",
                          r->order == 1 ? "order file" : "max_steps");
    }
    if (!is_given(given, "alpha")) {
        r->alpha = 2 * (double)r->rank;
        if (!r->init_adapter) tq_buf_printf(notes, "alpha %g: 2 x rank\n", r->alpha);
    }
    return join_targets(r, &model->ctx->mem, err);
}

/* The targets of an adapter in words that tq_adapter_new takes. */
static toque_status adapter_targets(const tq_adapter *a, tq_mem *mem, char **text, toque_error *err) {
    tq_buf list;
    tq_buf_init(&list, mem, 4096);
    for (int role = 0; role < TQ_ROLE_COUNT; role++) {
        if (!(a->targets >> role & 1)) continue;
        const char *name = strrchr(tq_role_hf((tq_role)role), '.');
        tq_buf_printf(&list, "%s%s", list.len ? "," : "", name ? name + 1 : tq_role_hf((tq_role)role));
    }
    toque_status status = tq_buf_status(&list, "the list of targets", err);
    if (status == TOQUE_OK && !(*text = tq_buf_take(&list))) status = TQ_NOMEM(err);
    tq_buf_clear(&list);
    return status;
}

static toque_status must_equal(const tq_option_set *given, const char *key, double mine, double theirs,
                               const char *name, toque_error *err) {
    if (!is_given(given, key) || fabs(mine - theirs) <= 1e-6 * fabs(theirs)) return TOQUE_OK;
    return TQ_FAIL(err, EINVAL, "%s is %g, but init_adapter %s has %g: leave %s out", key, mine, name, theirs, key);
}

toque_status tq_recipe_resolve_adapter(tq_recipe *r, const tq_option_set *given, const tq_adapter *a, tq_buf *notes,
                                       toque_error *err) {
    TQ_TRY(must_equal(given, "rank", (double)r->rank, a->rank, a->name, err));
    TQ_TRY(must_equal(given, "alpha", r->alpha, (double)a->alpha, a->name, err));
    TQ_TRY(must_equal(given, "dropout", r->dropout, (double)a->dropout, a->name, err));
    if (is_given(given, "rslora") && r->rslora != a->rslora)
        return TQ_FAIL(err, EINVAL, "rslora is %s, but init_adapter %s has it %s: leave rslora out",
                       r->rslora ? "on" : "off", a->name, a->rslora ? "on" : "off");
    tq_mem *mem = &a->model->ctx->mem;
    char *theirs = NULL;
    TQ_TRY(adapter_targets(a, mem, &theirs, err));
    if (is_given(given, "targets") && strcmp(theirs, r->targets_text) != 0) {
        /* The same set may be spelled in other ways ("all-linear", another order): compare what a fresh one would get.
         */
        tq_adapter *fresh = NULL;
        tq_adapter_options o = {.kind = r->method, .rank = a->rank, .alpha = a->alpha, .targets = r->targets_text};
        toque_status status = tq_adapter_new(&fresh, a->model, &o, err);
        if (status == TOQUE_OK && fresh->targets != a->targets)
            status = TQ_FAIL(err, EINVAL, "targets are %s, but init_adapter %s has %s: leave targets out",
                             r->targets_text, a->name, theirs);
        tq_adapter_free(fresh);
        if (status != TOQUE_OK) {
            tq_free(mem, theirs);
            return status;
        }
    }
    r->rank = a->rank;
    r->alpha = (double)a->alpha;
    r->dropout = (double)a->dropout;
    r->rslora = a->rslora;
    tq_free(mem, r->targets_text);
    r->targets_text = theirs;
    r->targets = (tq_option_list){.items = (const char **)&r->targets_text, .len = 1, .cap = 1}; /* for recipe.yaml */
    tq_buf_printf(notes, "rank %d, alpha %g, dropout %g, targets %s: those of init_adapter %s\n", a->rank,
                  (double)a->alpha, (double)a->dropout, theirs, a->name);
    return TOQUE_OK;
}

toque_status tq_recipe_resolve_rows(tq_recipe *r, const tq_option_set *given, size_t rows, size_t held_out,
                                    tq_buf *notes, toque_error *err) {
    int64_t batch = r->batch_size * r->grad_accum;
    r->steps_per_epoch = (int64_t)((rows + (size_t)batch - 1) / (size_t)batch);
    r->steps = r->max_steps > 0 ? r->max_steps : (int64_t)ceil(r->epochs * (double)r->steps_per_epoch);
    if (r->warmup >= 1 && r->warmup != floor(r->warmup))
        return TQ_FAIL(err, EINVAL, "warmup %g is neither a share (below 1) nor a whole number of steps", r->warmup);
    if (!held_out) {
        if (r->patience > 0) return TQ_FAIL(err, EINVAL, "patience needs held-out rows: give eval_split or eval_data");
        if (is_given(given, "keep") && r->keep == TQ_KEEP_BEST)
            return TQ_FAIL(err, EINVAL, "keep best needs held-out rows: give eval_split or eval_data");
        if (is_given(given, "eval_every") && r->eval_every > 0)
            return TQ_FAIL(err, EINVAL, "eval_every needs held-out rows: give eval_split or eval_data");
        r->keep = TQ_KEEP_LAST;
        r->eval_every = 0;
        return TOQUE_OK;
    }
    if (!is_given(given, "keep")) tq_buf_puts(notes, "keep best: the values with the lowest held-out loss\n");
    if (!is_given(given, "eval_every")) {
        r->eval_every = r->steps_per_epoch;
        tq_buf_printf(notes, "eval_every %lld: at the end of each epoch\n", (long long)r->eval_every);
    }
    if (r->patience > 0 && r->eval_every == 0)
        return TQ_FAIL(err, EINVAL, "patience needs evaluations on the way: give eval_every");
    return TOQUE_OK;
}

void tq_recipe_clear(tq_recipe *r, tq_mem *mem) {
    tq_free(mem, r->targets_text);
    r->targets_text = NULL;
    if (r->targets.items == (const char **)&r->targets_text) r->targets = (tq_option_list){0};
}

static json_t *json_of(const tq_option *o, const void *value) {
    const char *text, *choice = o->choices;
    const tq_option_list *list = value;
    json_t *array;
    switch (o->type) {
    case TQ_OPT_FLAG: return json_boolean(*(const bool *)value);
    case TQ_OPT_INT: return json_integer((json_int_t) * (const int64_t *)value);
    case TQ_OPT_NUMBER: return json_real(*(const double *)value);
    case TQ_OPT_BYTES: return json_integer((json_int_t) * (const uint64_t *)value);
    case TQ_OPT_CHOICE:
        for (int i = *(const int *)value; i > 0; i--) choice += strcspn(choice, "|") + 1;
        return json_stringn(choice, strcspn(choice, "|"));
    case TQ_OPT_TEXT: text = *(const char *const *)value; return text ? json_string(text) : json_null();
    case TQ_OPT_LIST:
        array = json_array();
        for (size_t i = 0; i < list->len; i++)
            if (json_array_append_new(array, json_string(list->items[i])) < 0) {
                json_decref(array);
                return NULL;
            }
        return array;
    }
    return NULL;
}

json_t *tq_recipe_json(const tq_recipe *r) {
    json_t *object = json_object();
    for (const tq_option *o = tq_recipe_table; object && o->key; o++) {
        if (is_free(o->key)) continue;
        bool targets = strcmp(o->key, "targets") == 0;
        json_t *value = targets ? json_string(r->targets_text) : json_of(o, (const char *)r + o->offset);
        if (!value || json_object_set_new(object, o->key, value) < 0) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}
