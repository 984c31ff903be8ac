/* Heads on a small model: the gradient of every tensor is the slope of the loss, for each objective that has a head and
 * each way of reading, with the whole body and with LoRA; and training gives the same bytes for any number of threads,
 * that of a head alone packed or not. */
#include <stdlib.h>

#include "bench.h"
#include "small_model.h"

enum { ROWS = 5 };
static char folder[64];
static const char *const kinds[] = {"head", "lora", "full"};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

static void make_rows(tq_dataset *set, tq_mem *mem) {
    begin_rows(set, mem, ROWS);
    for (int r = 0; r < ROWS; r++) {
        tq_example *e = add_row(set, 4 + 2 * r);
        int32_t *classes = (int32_t *)(uintptr_t)e->classes;
        for (int t = 0; t < e->n; t++) {
            e->tokens[t] = (t * 7 + r * 11 + 5) % 64;
            classes[t] = (t + r) % 3;
        }
        e->weight = 1 + 0.5f * (float)r;
        e->label = r % 3;
        e->value = (float)r;
        e->n_classes = e->n_targets = 1;
        e->read = true;
    }
}

static void open_bench(bench *b, const char *kind, const tq_objective *objective, tq_read read, int threads,
                       bool packing) {
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
    open_model(b, path, threads);
    tq_adapter_options ao = {.kind = kind, .rank = 4, .alpha = 8, .heads = &head, .n_heads = 1, .seed = 1};
    check(tq_adapter_new(&b->adapter, b->model, &ao, &err), &err);
    tq_adapter *a = b->adapter;
    for (size_t i = 0; strcmp(kind, "lora") == 0 && i < a->n; i++) a->values[i] += 0.05f * (float)sin(0.7 * (double)i);
    tq_adapter_changed(a);
    check(tq_adapter_train(a, &err), &err);
    make_rows(&b->data, &b->ctx->mem);
    for (size_t i = 0; read == TQ_READ_EACH && i < b->data.n; i++)
        b->data.examples[i].n_targets = b->data.examples[i].n;
    tq_trainer_options o = {.objective = objective,
                            .optimizer = &tq_optimizer_adamw,
                            .schedule = {.lr = 1e-3, .total = 3},
                            .rows = ROWS,
                            .packing = packing};
    check(tq_trainer_init(&b->trainer, a, &b->data, NULL, &o, &err), &err);
}

static void slopes(const char *kind, const tq_objective *objective, tq_read read) {
    bench b;
    toque_error err;
    tq_step_result result;
    open_bench(&b, kind, objective, read, 2, true);
    tq_adapter *a = b.adapter;
    check(tq_trainer_gradient(&b.trainer, &result, &err), &err);
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
            check(tq_trainer_evaluate(&b.trainer, &b.data, &loss[side], NULL, &err), &err);
        }
        memcpy(a->values + range->start, from, n * sizeof *from);
        free(from);
        double slope = norm > 0 ? (loss[0] - loss[1]) / (2 * h) : 0;
        if (!(fabs(slope - norm) <= 2e-2 * norm + 3e-4))
            fail_msg("%s, %s, %s: gradient %g, slope %g of %s", kind, objective->name, tq_read_name(read), norm, slope,
                     range->name);
    }
    close_bench(&b);
}

static void gradients_are_the_slope_of_the_loss(void **state) {
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        slopes(kinds[k], &tq_objective_classify, TQ_READ_LAST);
        slopes(kinds[k], &tq_objective_multilabel, TQ_READ_MEAN);
        slopes(kinds[k], &tq_objective_regress, TQ_READ_MEAN);
        slopes(kinds[k], &tq_objective_regress, TQ_READ_FIRST);
        slopes(kinds[k], &tq_objective_tag, TQ_READ_EACH);
    }
}

static const struct {
    const tq_objective *objective;
    tq_read read;
} cases[] = {{&tq_objective_classify, TQ_READ_LAST},
             {&tq_objective_multilabel, TQ_READ_MEAN},
             {&tq_objective_regress, TQ_READ_FIRST},
             {&tq_objective_tag, TQ_READ_EACH}};
enum { CASES = 4 };

/* The values after three steps, or the first gradient; owned by the caller. */
static float *trained(int kind, int c, int threads, bool packing, bool gradient, size_t *n) {
    bench b;
    toque_error err;
    tq_step_result result;
    open_bench(&b, kinds[kind], cases[c].objective, cases[c].read, threads, packing);
    if (gradient) check(tq_trainer_gradient(&b.trainer, &result, &err), &err);
    for (int i = 0; i < 3 && !gradient; i++) check(tq_trainer_step(&b.trainer, &result, &err), &err);
    assert_int_equal(result.passes, packing ? 1 : ROWS);
    float *copy = malloc(b.adapter->n * sizeof *copy);
    assert_non_null(copy);
    memcpy(copy, gradient ? b.adapter->grads : b.adapter->values, b.adapter->n * sizeof *copy);
    *n = b.adapter->n;
    close_bench(&b);
    return copy;
}

static void threads_give_the_same_bytes(void **state) {
    (void)state;
    for (int k = 0; k < KINDS; k++)
        for (int c = 0; c < CASES; c++)
            for (int packing = 0; packing < 2; packing++) {
                size_t n, other;
                float *one = trained(k, c, 1, packing, false, &n);
                for (int threads = 2; threads <= 3; threads++) {
                    float *two = trained(k, c, threads, packing, false, &other);
                    assert_int_equal(n, other);
                    if (memcmp(one, two, n * sizeof *one))
                        fail_msg("%s, %s: %d threads differ from one", kinds[k], cases[c].objective->name, threads);
                    free(two);
                }
                free(one);
            }
}

/* A head's own sums run over the rows of a step in their order, whatever passes they came in. */
static void packing_changes_no_byte_of_a_head_and_no_gradient_of_a_body(void **state) {
    (void)state;
    for (int k = 0; k < KINDS; k++)
        for (int c = 0; c < CASES; c++) {
            size_t n, other;
            bool alone = k == 0;
            float *one = trained(k, c, 2, true, !alone, &n), *two = trained(k, c, 2, false, !alone, &other);
            assert_int_equal(n, other);
            double d = 0, norm = 0;
            for (size_t i = 0; i < n; i++) {
                d += pow((double)one[i] - (double)two[i], 2);
                norm += pow((double)one[i], 2);
            }
            if (!(norm > 0 && sqrt(d / norm) < 1e-5) || (alone && memcmp(one, two, n * sizeof *one)))
                fail_msg("%s, %s: %g", kinds[k], cases[c].objective->name, sqrt(d / norm));
            free(one);
            free(two);
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(gradients_are_the_slope_of_the_loss),
                                       cmocka_unit_test(threads_give_the_same_bytes),
                                       cmocka_unit_test(packing_changes_no_byte_of_a_head_and_no_gradient_of_a_body)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
