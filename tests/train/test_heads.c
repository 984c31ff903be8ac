/* Heads on a small model: the gradient of every tensor is the slope of the loss, for each objective that has a head and
 * each way of reading, with the whole body and with LoRA. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/peft.h"
#include "small_model.h"
#include "train/trainer.h"

enum { ROWS = 5 };
static char folder[64];

static void check(toque_status status, const toque_error *err) {
    if (status != TOQUE_OK) fail_msg("%s", err->message);
}

static void make_rows(tq_dataset *set, tq_mem *mem) {
    *set = (tq_dataset){.mem = mem, .n_rows = ROWS};
    tq_arena_init(&set->arena, mem, 4096);
    tq_buf_init(&set->notes, mem, 100);
    set->examples = TQ_NEW_ARRAY(mem, tq_example, ROWS);
    assert_non_null(set->examples);
    for (int r = 0; r < ROWS; r++) {
        tq_example *e = &set->examples[set->n++];
        *e = (tq_example){.n = 4 + 2 * r,
                          .weight = 1 + 0.5f * (float)r,
                          .row = (uint32_t)r,
                          .label = r % 3,
                          .value = (float)r,
                          .n_classes = 1,
                          .n_targets = 1,
                          .read = true};
        e->tokens = tq_arena_alloc(&set->arena, (size_t)e->n, sizeof *e->tokens);
        int32_t *classes = tq_arena_alloc(&set->arena, (size_t)e->n, sizeof *classes);
        assert_true(e->tokens && classes);
        for (int t = 0; t < e->n; t++) {
            e->tokens[t] = (t * 7 + r * 11 + 5) % 64;
            classes[t] = (t + r) % 3;
        }
        e->classes = classes;
    }
}

static void slopes(const char *kind, const tq_objective *objective, tq_read read) {
    tq_ctx *ctx;
    tq_model *model;
    tq_adapter *a;
    tq_dataset data;
    tq_trainer t;
    tq_step_result result;
    toque_error err;
    char path[128];
    const char *labels[] = {"a", "b", "c"};
    bool value = objective->head == TQ_HEAD_VALUE;
    tq_head head = {.kind = objective->head,
                    .read = read,
                    .n = value ? 1 : 3,
                    .labels = value ? NULL : (char **)(uintptr_t)labels,
                    .mean = 2,
                    .deviation = 1.5};
    snprintf(path, sizeof path, "%s/llama.gguf", folder);
    check(tq_ctx_new(&ctx, 2, 0, "f32", &err), &err);
    check(tq_model_open(&model, ctx, path, &err), &err);
    tq_adapter_options ao = {.kind = kind, .rank = 4, .alpha = 8, .heads = &head, .n_heads = 1, .seed = 1};
    check(tq_adapter_new(&a, model, &ao, &err), &err);
    for (size_t i = 0; strcmp(kind, "lora") == 0 && i < a->n; i++) a->values[i] += 0.05f * (float)sin(0.7 * (double)i);
    check(tq_adapter_train(a, &err), &err);
    make_rows(&data, &ctx->mem);
    for (size_t i = 0; read == TQ_READ_EACH && i < data.n; i++) data.examples[i].n_targets = data.examples[i].n;
    tq_trainer_options o = {.objective = objective,
                            .optimizer = &tq_optimizer_adamw,
                            .schedule = {.lr = 1e-3, .total = 1},
                            .rows = ROWS,
                            .packing = true};
    check(tq_trainer_init(&t, a, &data, NULL, &o, &err), &err);
    check(tq_trainer_gradient(&t, &result, &err), &err);
    for (size_t r = 0; r < a->n_ranges; r++) {
        const tq_range *range = &a->ranges[r];
        size_t n = (size_t)range->rows * (size_t)range->cols;
        double norm = 0, loss[2], h = 0.02;
        float *from = malloc(n * sizeof *from);
        assert_non_null(from);
        memcpy(from, a->values + range->start, n * sizeof *from);
        for (size_t i = 0; i < n; i++) norm += pow((double)a->grads[range->start + i], 2);
        norm = sqrt(norm);
        for (int side = 0; side < 2 && norm > 0; side++) {
            for (size_t i = 0; i < n; i++)
                a->values[range->start + i] =
                    (float)((double)from[i] + (side ? -h : h) * (double)a->grads[range->start + i] / norm);
            check(tq_trainer_evaluate(&t, &data, &loss[side], NULL, &err), &err);
        }
        memcpy(a->values + range->start, from, n * sizeof *from);
        free(from);
        double slope = norm > 0 ? (loss[0] - loss[1]) / (2 * h) : 0;
        if (!(fabs(slope - norm) <= 2e-2 * norm + 3e-4))
            fail_msg("%s, %s, %s: gradient %g, slope %g of %s", kind, objective->name, tq_read_name(read), norm, slope,
                     range->name);
    }
    tq_trainer_clear(&t);
    tq_dataset_clear(&data);
    tq_adapter_free(a);
    tq_model_close(model);
    tq_ctx_free(ctx);
}

static void gradients_are_the_slope_of_the_loss(void **state) {
    static const char *const kinds[] = {"head", "lora", "full"};
    (void)state;
    for (int k = 0; k < 3; k++) {
        slopes(kinds[k], &tq_objective_classify, TQ_READ_LAST);
        slopes(kinds[k], &tq_objective_multilabel, TQ_READ_MEAN);
        slopes(kinds[k], &tq_objective_regress, TQ_READ_MEAN);
        slopes(kinds[k], &tq_objective_regress, TQ_READ_FIRST);
        slopes(kinds[k], &tq_objective_tag, TQ_READ_EACH);
    }
}

static int set_up(void **state) {
    (void)state;
    char path[128];
    if (!small_folder(folder)) return 1;
    snprintf(path, sizeof path, "%s/llama.gguf", folder);
    return small_model_write_arch(path, "llama") ? 0 : 1;
}

static int tear_down(void **state) {
    (void)state;
    small_remove(folder);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(gradients_are_the_slope_of_the_loss)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
