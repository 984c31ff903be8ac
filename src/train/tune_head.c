/* What a training with a head does besides: labels from data to head, class weights, and figures of its answers. */
#include "train/tune_head.h"

#include <math.h>
#include <string.h>

static tq_read choose_read(const tq_tune *t) {
    const tq_recipe *r = t->recipe;
    const tq_config *c = &t->model->config;
    if (r->objective_row->head == TQ_HEAD_TAGS) return TQ_READ_EACH;
    if (r->pooling) return (tq_read)(r->pooling - 1);
    if (!(c->arch->flags & TQ_ARCH_ENCODER)) return TQ_READ_LAST;
    if (t->model->pooler.data && strcmp(r->method, "head") != 0) return TQ_READ_POOLER;
    return c->pooling == TQ_POOLING_CLS ? TQ_READ_FIRST : TQ_READ_MEAN;
}

static void note_read(tq_tune *t, tq_read read) {
    static const char *const why[] = {[TQ_READ_LAST] = "a text's last token has seen all of it",
                                      [TQ_READ_FIRST] = "as the model's files embed texts",
                                      [TQ_READ_MEAN] = "as the model's files embed texts",
                                      [TQ_READ_POOLER] = "as transformers' classification heads do",
                                      [TQ_READ_EACH] = ""};
    if (read == TQ_READ_EACH || t->recipe->pooling) return;
    t->recipe->pooling = (int)read + 1;
    tq_buf_printf(&t->notes, "pooling %s: %s\n", tq_read_name(read), why[read]);
}

/* The mean and deviation of the rows to train on. */
static toque_status standardize(const tq_dataset *d, tq_head *h, toque_error *err) {
    double sum = 0, squares = 0;
    for (size_t i = 0; i < d->n; i++) sum += (double)d->examples[i].value;
    h->mean = sum / (double)d->n;
    for (size_t i = 0; i < d->n; i++) squares += pow((double)d->examples[i].value - h->mean, 2);
    h->deviation = sqrt(squares / (double)d->n);
    if (h->deviation > 0) return TOQUE_OK;
    return TQ_FAIL(err, EINVAL, "all %zu targets are %g: there is nothing to learn", d->n, h->mean);
}

static toque_status check_counts(const tq_tune *t, const size_t *count, toque_error *err) {
    const tq_dataset *d = &t->data;
    size_t used = 0;
    for (size_t i = 0; i < d->n_labels; i++) used += count[i] > 0;
    if (used > 1 || t->recipe->objective_row->head != TQ_HEAD_CLASS) return TOQUE_OK;
    return TQ_FAIL(err, EINVAL, "all %zu rows to train on have the label \"%.80s\": there is nothing to tell apart",
                   d->n, d->labels[d->n ? d->examples[0].label : 0]);
}

/* Balanced (King & Zeng 2001, scikit-learn's formula): rows / (labels x rows of the label). */
static toque_status weigh_classes(tq_tune *t, toque_error *err) {
    tq_mem *mem = &t->ctx->mem;
    const tq_dataset *d = &t->data;
    size_t *count = TQ_NEW_ARRAY(mem, size_t, d->n_labels + 1);
    if (!count) return TQ_NOMEM(err);
    for (size_t i = 0; i < d->n; i++)
        if (d->examples[i].label >= 0) count[d->examples[i].label]++;
    toque_status status = check_counts(t, count, err);
    if (status == TOQUE_OK && t->recipe->class_weights && !(t->class_weights = TQ_NEW_ARRAY(mem, float, d->n_labels)))
        status = TQ_NOMEM(err);
    for (size_t i = 0; status == TOQUE_OK && t->class_weights && i < d->n_labels; i++)
        t->class_weights[i] = count[i] ? (float)((double)d->n / ((double)d->n_labels * (double)count[i])) : 1;
    tq_free(mem, count);
    return status;
}

const char *tq_head_label_column(tq_head_kind kind) {
    static const char *const columns[] = {"label", "labels", "label", "spans"};
    return columns[kind];
}

static toque_status check_loaded(const tq_tune *t, const tq_head *old, toque_error *err) {
    if (old || !t->adapter->n_heads) return TOQUE_OK;
    return TQ_FAIL(err, EINVAL, "init_adapter %s has a head for objective %s, not %s", t->adapter->name,
                   tq_head_kind_name(t->adapter->heads[0].kind), t->recipe->objective);
}

toque_status tq_tune_head_options(tq_tune *t, tq_data_options *o, bool held_out, toque_error *err) {
    const tq_recipe *r = t->recipe;
    const tq_head *old = t->adapter ? tq_adapter_head(t->adapter, r->objective_row->head) : NULL;
    if (t->adapter) TQ_TRY(check_loaded(t, old, err));
    o->fields = true;
    o->head = r->objective_row->head;
    o->text_column = r->text_column ? r->text_column : "text";
    o->label_column = r->label_column ? r->label_column : tq_head_label_column(o->head);
    o->io = r->tagging == 1;
    if (held_out) {
        o->labels = t->data.labels;
        o->n_labels = t->data.n_labels;
        o->closed = "rows to train on have: remove the row from eval_data, or train on rows of it";
    } else if (old && old->labels) {
        o->labels = (const char *const *)old->labels;
        o->n_labels = (size_t)old->n;
        if (!r->add_labels) o->closed = "init_adapter's head knows: add_labels gives it new ones";
    }
    return TOQUE_OK;
}

toque_status tq_tune_make_head(tq_tune *t, tq_head *h, toque_error *err) {
    const tq_recipe *r = t->recipe;
    const tq_head *old = t->adapter ? tq_adapter_head(t->adapter, r->objective_row->head) : NULL;
    *h = (tq_head){.kind = r->objective_row->head, .read = choose_read(t), .n = 1, .deviation = 1};
    if (old && r->pooling && old->read != h->read)
        return TQ_FAIL(err, EINVAL, "pooling is %s, but the head of init_adapter reads %s: leave pooling out",
                       tq_read_name(h->read), tq_read_name(old->read));
    if (old) h->read = old->read;
    note_read(t, h->read);
    if (h->kind == TQ_HEAD_VALUE) {
        if (!old) return standardize(&t->data, h, err);
        h->mean = old->mean;
        h->deviation = old->deviation;
        return TOQUE_OK;
    }
    h->n = (int)t->data.n_labels;
    h->labels = (char **)(uintptr_t)t->data.labels;
    if (h->n < (h->kind == TQ_HEAD_TAGS ? 2 : 1))
        return TQ_FAIL(err, EINVAL, "no row to train on has a %s: there is nothing to learn",
                       h->kind == TQ_HEAD_TAGS ? "span" : "label");
    t->old_labels = old ? old->n : 0;
    return weigh_classes(t, err);
}

/* --- figures ------------------------------------------------------------------------------------------------ */
static toque_status add_figures(void *arg, const tq_example *e, const float *y, int items, toque_error *err) {
    tq_tune *t = arg;
    const tq_truth truth = {.label = e->label, .value = (double)e->value, .classes = e->classes, .n = e->n_classes};
    TQ_TRY(tq_figures_add(&t->figures, &truth, y, items, err));
    if (t->old_labels <= 0 || e->label < 0 || e->label >= t->old_labels) return TOQUE_OK;
    int best = 0, n = t->at.step == 0 ? t->old_labels : t->trainer.head->n; /* before: the head as it was */
    for (int i = 1; i < n; i++)
        if (y[i] > y[best]) best = i;
    t->old_rows[t->at.step > 0]++;
    t->old_right[t->at.step > 0] += best == e->label;
    return TOQUE_OK;
}

toque_status tq_tune_head_evaluate(tq_tune *t, double *loss, int64_t *targets, toque_error *err) {
    tq_figures_clear(&t->figures);
    int when = t->at.step > 0;
    t->old_rows[when] = t->old_right[when] = 0;
    TQ_TRY(tq_figures_init(&t->figures, &t->ctx->mem, t->trainer.head, err));
    return tq_trainer_evaluate_head(&t->trainer, &t->held_out, loss, targets, add_figures, t, err);
}
