/* Heads against transformers (tools/reference/heads.py): the loss and the gradient of every tensor on a tiny llama and
 * a tiny bert, for each objective, with the whole model trained and with LoRA. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "../model/tiny.h"
#include "model/peft.h"
#include "train/trainer.h"

enum { ROWS = 4, LABELS = 3, FAMILIES = 2, CASES = 16 };
static const char *expectations;
static const char *const families[FAMILIES] = {"llama", "bert"};
static tiny folders[FAMILIES];

static void check(toque_status status, const toque_error *err) {
    if (status != TOQUE_OK) fail_msg("%s", err->message);
}

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
    *set = (tq_dataset){.mem = mem, .n_rows = ROWS};
    tq_arena_init(&set->arena, mem, 4096);
    tq_buf_init(&set->notes, mem, 100);
    set->examples = TQ_NEW_ARRAY(mem, tq_example, ROWS);
    assert_non_null(set->examples);
    for (int r = 0; r < ROWS; r++) {
        tq_example *e = &set->examples[set->n++];
        *e = (tq_example){.n = 5 + 2 * r, .weight = 1, .row = (uint32_t)r, .read = true};
        e->tokens = tq_arena_alloc(&set->arena, (size_t)e->n, sizeof *e->tokens);
        int32_t *classes = tq_arena_alloc(&set->arena, (size_t)e->n, sizeof *classes);
        assert_true(e->tokens && classes);
        for (int t = 0; t < e->n; t++) e->tokens[t] = (r * 37 + t * 11 + 5) % 400;
        set_truth(e, kind, r, classes);
    }
}

/* --- a trainer of one case --------------------------------------------------------------------------------- */
typedef struct bench {
    tq_ctx *ctx;
    tq_model *model;
    tq_adapter *adapter;
    tq_dataset data;
    tq_trainer trainer;
    double loss;
    size_t gradients; /* that were compared */
} bench;

static const tq_objective *objective_of(const char *name) {
    static const tq_objective *const all[] = {&tq_objective_classify, &tq_objective_multilabel, &tq_objective_regress,
                                              &tq_objective_tag};
    for (int i = 0; i < 4; i++)
        if (strcmp(all[i]->name, name) == 0) return all[i];
    fail_msg("no objective %s", name);
    return NULL;
}

static void open_bench(bench *b, const char *family, const tq_objective *objective, const char *method) {
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
    *b = (bench){0};
    check(tq_ctx_new(&b->ctx, 2, 0, "f32", &err), &err);
    check(tq_model_open(&b->model, b->ctx, folders[bert].dir, &err), &err);
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
    b->loss = r.loss;
}

static void close_bench(bench *b) {
    tq_trainer_clear(&b->trainer);
    tq_dataset_clear(&b->data);
    tq_adapter_free(b->adapter);
    tq_model_close(b->model);
    tq_ctx_free(b->ctx);
}

/* --- the comparison ---------------------------------------------------------------------------------------- */
static const tq_range *find_range(const tq_adapter *a, const char *name) {
    for (size_t r = 0; r < a->n_ranges; r++)
        if (strcmp(a->ranges[r].name, name) == 0) return &a->ranges[r];
    fail_msg("no range is called %s; the first is %s", name, a->ranges[0].name);
    return NULL;
}

static void check_gradient(const bench *b, const char *of, const char *line) {
    char name[160];
    int rows, cols;
    double norm, dot, mine = 0, probe = 0;
    assert_int_equal(sscanf(line, "grad %150s %d %d %lf %lf", name, &rows, &cols, &norm, &dot), 5);
    const tq_range *r = find_range(b->adapter, name);
    assert_int_equal(r->rows * r->cols, rows * cols);
    const float *g = b->adapter->grads + r->start;
    for (int i = 0; i < rows * cols; i++) {
        mine += (double)g[i] * (double)g[i];
        probe += (double)g[i] * cos(0.3 * i + 1);
    }
    if (!(fabs(sqrt(mine) - norm) <= 1e-3 * norm + 1e-6) || !(fabs(probe - dot) <= 1e-3 * norm + 1e-6))
        fail_msg("%s: gradient of %s: norm %g, expected %g; probe %g, expected %g", of, name, sqrt(mine), norm, probe,
                 dot);
}

static void losses_and_gradients_are_those_of_transformers(void **state) {
    (void)state;
    FILE *f = fopen(expectations, "r");
    assert_non_null(f);
    char line[300], of[100] = "", family[20], objective[20], method[20];
    bench b = {0};
    int cases = 0;
    double want;
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, "case %19s %19s %19s", family, objective, method) == 3) {
            snprintf(of, sizeof of, "%s, %s, %s", family, objective, method);
            open_bench(&b, family, objective_of(objective), method);
        } else if (sscanf(line, "loss %lf", &want) == 1) {
            if (!(fabs(b.loss - want) <= 1e-4 * want)) fail_msg("%s: loss %.8g, expected %.8g", of, b.loss, want);
            if (b.gradients != b.adapter->n_ranges)
                fail_msg("%s: %zu tensors are trained, %zu in the reference", of, b.adapter->n_ranges, b.gradients);
            close_bench(&b);
            cases++;
        } else {
            check_gradient(&b, of, line);
            b.gradients++;
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
