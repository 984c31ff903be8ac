/* What the keys of a training mean: rules that turn what the user gave into what is done. See recipe.h. */
#include "train/recipe.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Keys that say where things lie or when to save: they do not change what comes out. */
static bool is_free(const char *key) {
    static const char *const keys[] = {"model", "data", "eval_data", "init_adapter", "save_every", "recompute"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (strcmp(keys[i], key) == 0) return true;
    return false;
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

static void resolve_recompute(tq_recipe *r, tq_buf *notes) {
    if (r->recompute > 2) r->recompute -= 2; /* true and false */
    if (r->recompute) return;
    r->recompute = r->optimizer_row->lean && r->method_row == &tq_peft_full ? 1 : 2;
    if (r->recompute == 1)
        tq_buf_printf(notes, "recompute on: optimizer %s with method full is for little memory (off is faster)\n",
                      r->optimizer);
}

toque_status tq_recipe_resolve_model(tq_recipe *r, const tq_option_set *given, tq_model *model, tq_buf *notes,
                                     toque_error *err) {
    TQ_TRY(tq_objective_find(&r->objective_row, r->objective, err));
    TQ_TRY(tq_optimizer_find(&r->optimizer_row, r->optimizer, err));
    r->optimizer = r->optimizer_row->name;
    r->packing %= 2;
    if (!r->objective_row->row) {
        char what[60];
        snprintf(what, sizeof what, "objective %s", r->objective);
        if (!r->objective_row->step) TQ_TRY(tq_model_need_head(model, what, err));
        if (r->method && strcmp(r->method, "head") == 0)
            return TQ_FAIL(err, EINVAL,
                           "method head trains the head of objective classify, multilabel, regress or tag; "
                           "objective %s has none",
                           r->objective);
    }
    if (r->add_labels && !r->init_adapter)
        return TQ_FAIL(err, EINVAL, "add_labels goes with init_adapter, whose head gets them");
    TQ_TRY(tq_recipe_resolve_method(r, given, model, notes, err));
    resolve_recompute(r, notes);
    if (!(r->epochs > 0)) return TQ_FAIL(err, EINVAL, "epochs must be above 0 (fractions are fine), not %g", r->epochs);
    if (tq_recipe_given(given, "lr") && !(r->lr > 0)) return TQ_FAIL(err, EINVAL, "lr must be above 0, not %g", r->lr);
    if (r->eval_data.len && tq_recipe_given(given, "eval_split") && r->eval_split > 0)
        return TQ_FAIL(err, EINVAL,
                       "eval_split holds out rows of the data, but eval_data already gives a file of them: "
                       "leave one of the two out");
    int room = model->config.context - (tq_recipe_uses(r, "virtual_tokens") ? (int)r->virtual_tokens : 0);
    if (!tq_recipe_given(given, "max_length")) {
        r->max_length = room < 2048 ? room : 2048;
        tq_buf_printf(notes, "max_length %lld: %s\n", (long long)r->max_length,
                      r->max_length < 2048 ? "the model's context" : "the default, within the model's context");
    } else if (r->max_length > room) {
        return TQ_FAIL(err, EINVAL, "max_length %lld is above the model's context of %d%s", (long long)r->max_length,
                       room, room < model->config.context ? ", less its virtual tokens" : "");
    }
    if (!tq_recipe_given(given, "lr")) {
        size_t n = parameters(model);
        bool small = n < 500000000;
        r->lr = (small ? r->method_row->lr_small : r->method_row->lr_large) * r->optimizer_row->lr;
        if (r->optimizer_row->lr != 1)
            tq_buf_printf(notes, "lr: %g of what AdamW gets, for optimizer %s\n", r->optimizer_row->lr, r->optimizer);
        if (r->method_row->lr_small == r->method_row->lr_large)
            tq_buf_printf(notes, "lr %g: the default of method %s\n", r->lr, r->method);
        else
            tq_buf_printf(notes, "lr %g: %s on a model of %.3gB parameters (%s 0.5B)\n", r->lr, r->method,
                          (double)n / 1e9, small ? "below" : "not below");
    }
    if (!tq_recipe_given(given, "eval_split")) {
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
    return TOQUE_OK;
}

toque_status tq_recipe_resolve_rows(tq_recipe *r, const tq_option_set *given, size_t rows, size_t held_out,
                                    tq_buf *notes, toque_error *err) {
    int64_t batch = r->batch_size * r->grad_accum;
    if (batch > INT32_MAX)
        return TQ_FAIL(err, EINVAL, "a step of %lld rows is too large: lower batch_size", (long long)batch);
    r->steps_per_epoch = (int64_t)((rows + (size_t)batch - 1) / (size_t)batch);
    r->steps = r->max_steps > 0 ? r->max_steps : (int64_t)ceil(r->epochs * (double)r->steps_per_epoch);
    if (r->warmup >= 1 && r->warmup != floor(r->warmup))
        return TQ_FAIL(err, EINVAL, "warmup %g is neither a share (below 1) nor a whole number of steps", r->warmup);
    if (r->decay >= 1 && r->decay != floor(r->decay))
        return TQ_FAIL(err, EINVAL, "decay %g is neither a share (below 1) nor a whole number of steps", r->decay);
    if (tq_recipe_uses(r, "decay") &&
        tq_schedule_steps(r->warmup, r->steps) + tq_schedule_steps(r->decay, r->steps) > r->steps)
        return TQ_FAIL(err, EINVAL, "warmup %g and decay %g take more than the %lld steps there are", r->warmup,
                       r->decay, (long long)r->steps);
    if (!held_out) {
        if (r->patience > 0) return TQ_FAIL(err, EINVAL, "patience needs held-out rows: give eval_split or eval_data");
        if (tq_recipe_given(given, "keep") && r->keep == TQ_KEEP_BEST)
            return TQ_FAIL(err, EINVAL, "keep best needs held-out rows: give eval_split or eval_data");
        if (tq_recipe_given(given, "eval_every") && r->eval_every > 0)
            return TQ_FAIL(err, EINVAL, "eval_every needs held-out rows: give eval_split or eval_data");
        r->keep = TQ_KEEP_LAST;
        r->eval_every = 0;
        return TOQUE_OK;
    }
    if (!tq_recipe_given(given, "keep")) tq_buf_puts(notes, "keep best: the values with the lowest held-out loss\n");
    if (!tq_recipe_given(given, "eval_every")) {
        r->eval_every = r->steps_per_epoch;
        tq_buf_printf(notes, "eval_every %lld: at the end of each epoch\n", (long long)r->eval_every);
    }
    if (r->patience > 0 && r->eval_every == 0)
        return TQ_FAIL(err, EINVAL, "patience needs evaluations on the way: give eval_every");
    return TOQUE_OK;
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
        if (is_free(o->key) || !tq_recipe_uses(r, o->key)) continue;
        json_t *value = json_of(o, (const char *)r + o->offset);
        if (!value || json_object_set_new(object, o->key, value) < 0) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}
