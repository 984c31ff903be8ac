/* Heads against transformers (tools/reference/heads.py): the loss and the gradient of every tensor on a tiny llama and
 * a tiny bert, for each objective, with the whole model trained and with LoRA. */
#include "../model/tiny.h"
#include "bench.h"

enum { ROWS = 4, LABELS = 3, FAMILIES = 2, CASES = 16 };
static const char *expectations;
static const char *const families[FAMILIES] = {"llama", "bert"};
static tiny folders[FAMILIES];

/* --- the reference's rows ---------------------------------------------------------------------------------- */
static void set_truth(tq_example *e, tq_head_kind kind, int r, int32_t *classes) {
    e->label = kind == TQ_HEAD_CLASS ? r % LABELS : -1;
    e->value = (float)r;
    e->n_targets = 1;
    e->classes = classes;
    if (kind == TQ_HEAD_LABELS) {
        if (r % 2 == 1 && r % LABELS) classes[e->n_classes++] = 0;
        classes[e->n_classes++] = r % LABELS;
    }
    if (kind != TQ_HEAD_TAGS) return;
    e->n_classes = e->n;
    e->n_targets = 0;
    for (int t = 0; t < e->n; t++) {
        classes[t] = t % 5 == 0 ? -1 : (t + r) % LABELS;
        e->n_targets += classes[t] >= 0;
    }
}

static void make_rows(tq_dataset *set, tq_mem *mem, tq_head_kind kind) {
    begin_rows(set, mem, ROWS);
    for (int r = 0; r < ROWS; r++) {
        tq_example *e = add_row(set, 5 + 2 * r);
        e->read = true;
        for (int t = 0; t < e->n; t++) e->tokens[t] = (r * 37 + t * 11 + 5) % 400;
        set_truth(e, kind, r, (int32_t *)(uintptr_t)e->classes);
    }
}

/* --- a trainer of one case --------------------------------------------------------------------------------- */
static const tq_objective *objective_of(const char *name) {
    static const tq_objective *const all[] = {&tq_objective_classify, &tq_objective_multilabel, &tq_objective_regress,
                                              &tq_objective_tag};
    for (int i = 0; i < 4; i++)
        if (strcmp(all[i]->name, name) == 0) return all[i];
    fail_msg("no objective %s", name);
    return NULL;
}

/* The loss is returned, the gradient left in the adapter. */
static double open_bench(bench *b, const char *family, const tq_objective *objective, const char *method) {
    toque_error err;
    tq_step_result r;
    const char *labels[LABELS] = {"a", "b", "c"};
    bool bert = strcmp(family, "bert") == 0, value = objective->head == TQ_HEAD_VALUE;
    tq_head head = {.kind = objective->head,
                    .read = objective->head == TQ_HEAD_TAGS ? TQ_READ_EACH
                            : bert                          ? TQ_READ_POOLER
                                                            : TQ_READ_LAST,
                    .n = value ? 1 : LABELS,
                    .labels = value ? NULL : (char **)(uintptr_t)labels,
                    .mean = 1.5,
                    .deviation = 2};
    open_model(b, folders[bert].dir, 2);
    tq_adapter_options ao = {
        .kind = method, .rank = 4, .alpha = 8, .targets = "all-linear", .heads = &head, .n_heads = 1, .seed = 1};
    if (strcmp(method, "lora") != 0) ao.targets = NULL;
    check(tq_adapter_new(&b->adapter, b->model, &ao, &err), &err);
    for (size_t i = 0; i < b->adapter->n_ranges; i++) {
        const tq_range *range = &b->adapter->ranges[i];
        if (range->part < 0) continue; /* the body's own stay */
        for (int k = 0; k < range->rows * range->cols; k++)
            b->adapter->values[range->start + (size_t)k] = (float)(0.4 * tiny_number(range->name, (uint32_t)k));
    }
    tq_adapter_changed(b->adapter);
    check(tq_adapter_train(b->adapter, &err), &err);
    make_rows(&b->data, &b->ctx->mem, objective->head);
    tq_trainer_options o = {.objective = objective,
                            .optimizer = &tq_optimizer_adamw,
                            .schedule = {.lr = 1e-3, .total = 1},
                            .rows = ROWS,
                            .packing = true};
    check(tq_trainer_init(&b->trainer, b->adapter, &b->data, NULL, &o, &err), &err);
    check(tq_trainer_gradient(&b->trainer, &r, &err), &err);
    return r.loss;
}

/* --- the comparison ---------------------------------------------------------------------------------------- */
static void losses_and_gradients_are_those_of_transformers(void **state) {
    (void)state;
    FILE *f = fopen(expectations, "r");
    assert_non_null(f);
    char line[300], of[100] = "", family[20], objective[20], method[20];
    bench b = {0};
    int cases = 0;
    size_t gradients = 0; /* that were compared */
    double want, loss = 0;
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, "case %19s %19s %19s", family, objective, method) == 3) {
            snprintf(of, sizeof of, "%s, %s, %s", family, objective, method);
            gradients = 0;
            loss = open_bench(&b, family, objective_of(objective), method);
        } else if (sscanf(line, "loss %lf", &want) == 1) {
            if (!(fabs(loss - want) <= 1e-4 * want)) fail_msg("%s: loss %.8g, expected %.8g", of, loss, want);
            if (gradients != b.adapter->n_ranges)
                fail_msg("%s: %zu tensors are trained, %zu in the reference", of, b.adapter->n_ranges, gradients);
            close_bench(&b);
            cases++;
        } else {
            check_gradient(b.adapter, of, line);
            gradients++;
        }
    }
    fclose(f);
    assert_int_equal(cases, CASES);
}

static int tear_down(void **state) {
    (void)state;
    for (int i = 0; i < FAMILIES; i++) tiny_remove(&folders[i]);
    return 0;
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    expectations = argv[1];
    for (int i = 0; i < FAMILIES; i++)
        if (!tiny_write(&folders[i], families[i], argv[2], argv[3])) return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(losses_and_gradients_are_those_of_transformers)};
    return cmocka_run_group_tests(tests, NULL, tear_down);
}
