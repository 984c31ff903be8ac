/* Choosing targets by their gradients. See auto_targets.h.
 *
 * A fresh LoRA has B = 0, so its gradient is a sketch of the weight's: dB = s dW A^T with random A. Entries of A are
 * uniform in +-1 / sqrt(in), of variance 1 / (3 in), so |dW|^2 is about |dB|^2 3 in / (s^2 R): no gradient of W is
 * ever held. */
#include "train/auto_targets.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/peft.h"

typedef struct module {
    double square; /* of the gradient's norm */
    size_t values; /* that it would train */
    int layer, role;
    bool chosen;
} module;

toque_status tq_auto_targets_asked(const char *text, bool *asked, double *share, toque_error *err) {
    *asked = text && strncmp(text, "auto", 4) == 0;
    if (!*asked) return TOQUE_OK;
    char *end = NULL;
    *share = text[4] == ':' ? strtod(text + 5, &end) : 0;
    if (text[4] != ':' || end == text + 5 || *end || !(*share > 0 && *share <= 1))
        return TQ_FAIL(err, EINVAL, "targets %s: auto:SHARE takes a share above 0 and up to 1, like auto:0.25", text);
    return TOQUE_OK;
}

static toque_status measure(tq_trainer *t, module *modules, toque_error *err) {
    const tq_adapter *a = t->adapter;
    const tq_site_state *states = a->states;
    int64_t steps = (int64_t)((t->data->n + (size_t)t->o.rows - 1) / (size_t)t->o.rows);
    for (t->step = 0; t->step < TQ_AUTO_STEPS && t->step < steps; t->step++) {
        tq_step_result r;
        TQ_TRY(tq_trainer_gradient(t, &r, err));
        for (size_t i = 0; i < a->n_sites; i++) {
            const tq_site_state *s = &states[i];
            int64_t n = s->weight->rows * s->rank;
            double sketch = (double)t->ctx->k->sum_squares(a->grads + s->start[1], n);
            modules[i].square +=
                sketch * 3 * (double)s->weight->cols / ((double)s->scaling * (double)s->scaling * s->rank);
        }
    }
    for (size_t i = 0; i < a->n_sites; i++) {
        const tq_site_state *s = &states[i];
        modules[i].values = (size_t)s->rank * (size_t)(s->weight->rows + s->weight->cols);
        modules[i].layer = s->layer;
        modules[i].role = s->role;
    }
    return TOQUE_OK;
}

/* The largest first; equal ones by place, so that the order is one. */
static int by_square(const void *x, const void *y) {
    const module *a = *(const module *const *)x, *b = *(const module *const *)y;
    if (a->square != b->square) return a->square > b->square ? -1 : 1;
    return (a > b) - (a < b);
}

static size_t choose(module *modules, const module **order, size_t n, double share, size_t *all) {
    size_t budget, used = 0;
    *all = 0;
    for (size_t i = 0; i < n; i++) {
        order[i] = &modules[i];
        *all += modules[i].values;
    }
    budget = (size_t)((double)*all * share);
    qsort(order, n, sizeof *order, by_square);
    for (size_t i = 0; i < n; i++) {
        module *m = &modules[order[i] - modules];
        if (used + m->values > budget) continue;
        m->chosen = true;
        used += m->values;
    }
    return used;
}

static void describe(const module *modules, size_t n, tq_buf *notes) {
    for (int role = 0; role < TQ_ROLE_COUNT; role++) {
        double low = INFINITY, high = 0;
        int chosen = 0, all = 0;
        for (size_t i = 0; i < n; i++) {
            if (modules[i].role != role) continue;
            double norm = sqrt(modules[i].square);
            low = norm < low ? norm : low;
            high = norm > high ? norm : high;
            chosen += modules[i].chosen;
            all++;
        }
        if (!all) continue;
        tq_buf_printf(notes, "  %-18s gradient %.3g to %.3g, %d of %d layers:", tq_role_hf((tq_role)role), low, high,
                      chosen, all);
        for (size_t i = 0; i < n; i++)
            if (modules[i].role == role && modules[i].chosen) tq_buf_printf(notes, " %d", modules[i].layer);
        tq_buf_puts(notes, "\n");
    }
}

static toque_status pick(tq_trainer *t, double share, tq_buf *text, tq_buf *notes, toque_error *err) {
    tq_mem *mem = &t->ctx->mem;
    size_t n = t->adapter->n_sites, all, used;
    module *modules = TQ_NEW_ARRAY(mem, module, n);
    const module **order = TQ_NEW_ARRAY(mem, const module *, n);
    toque_status status = modules && order ? measure(t, modules, err) : TQ_NOMEM(err);
    if (status == TOQUE_OK) {
        used = choose(modules, order, n, share, &all);
        tq_buf_printf(notes, "targets auto:%g: the largest gradients of the first steps, %zu of %zu values\n", share,
                      used, all);
        describe(modules, n, notes);
        for (size_t i = 0; i < n; i++) {
            char path[100];
            if (!modules[i].chosen) continue;
            tq_module_path(path, t->adapter, modules[i].layer, modules[i].role);
            tq_buf_printf(text, "%s%s", text->len ? "," : "", path);
        }
        if (!used)
            status = TQ_FAIL(err, EINVAL, "targets auto:%g: no linear map is that small; raise the share", share);
    }
    tq_free(mem, modules);
    tq_free(mem, order);
    return status == TOQUE_OK ? tq_buf_status(text, "the list of targets", err) : status;
}

toque_status tq_auto_targets(tq_buf *text, tq_model *model, const tq_adapter_options *a, const tq_dataset *data,
                             const tq_trainer_options *o, double share, tq_buf *notes, toque_error *err) {
    tq_adapter *adapter;
    tq_adapter_options plain = {
        .kind = "lora", .rank = a->rank, .alpha = a->alpha, .targets = "all-linear", .seed = a->seed};
    TQ_TRY(tq_adapter_new(&adapter, model, &plain, err));
    tq_trainer t = {0};
    tq_trainer_options options = *o;
    options.optimizer = &tq_optimizer_sgd; /* keeps no state */
    options.ema = 0;
    toque_status status = tq_adapter_train(adapter, err);
    if (status == TOQUE_OK) status = tq_trainer_init(&t, adapter, data, NULL, &options, err);
    if (status == TOQUE_OK) status = pick(&t, share, text, notes, err);
    tq_trainer_clear(&t);
    tq_adapter_free(adapter);
    return status;
}
