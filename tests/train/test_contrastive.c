/* Vectors of pairs: loss and gradients against PyTorch (tools/reference/contrastive.py) on a tiny llama and a tiny
 * bert; the passes of a step do not change them; what is the same passage is no negative; the pooling travels with the
 * adapter. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../model/tiny.h"
#include "base/io.h"
#include "model/peft.h"
#include "train/trainer.h"
#include "train/trainer_pairs.h"

enum { ROWS = 4, FAMILIES = 2, CASES = 8, PARTS = 3 };
static const char *expectations;
static const char *const families[FAMILIES] = {"llama", "bert"};
static tiny folders[FAMILIES];

static void check(toque_status status, const toque_error *err) {
    if (status != TOQUE_OK) fail_msg("%s", err->message);
}

typedef struct bench {
    tq_ctx *ctx;
    tq_model *model;
    tq_adapter *adapter;
    tq_dataset data;
    tq_trainer trainer;
    tq_step_result result;
    size_t gradients; /* that were compared */
} bench;

typedef struct variant {
    int rows, threads, passage; /* passage -1: each row's own, else that of a row for all */
    bool packing;
} variant;

static int text_length(int r, int p) {
    return 4 + (r + 2 * p) % 5;
}

static void make_rows(tq_dataset *set, tq_mem *mem, int negatives, int passage) {
    *set = (tq_dataset){.mem = mem, .n_rows = ROWS};
    tq_arena_init(&set->arena, mem, 4096);
    tq_buf_init(&set->notes, mem, 100);
    set->examples = TQ_NEW_ARRAY(mem, tq_example, ROWS);
    assert_non_null(set->examples);
    for (int r = 0; r < ROWS; r++) {
        tq_example *e = &set->examples[set->n++];
        *e = (tq_example){.weight = 1, .row = (uint32_t)r, .n_targets = 1, .read = true, .n_parts = 2 + negatives};
        int32_t *parts = tq_arena_alloc(&set->arena, PARTS, sizeof *parts);
        e->tokens = tq_arena_alloc(&set->arena, 100, sizeof *e->tokens);
        assert_true(e->tokens && parts);
        for (int p = 0; p < e->n_parts; p++) {
            int row = p > 0 && passage >= 0 ? passage : r;
            parts[p] = text_length(row, p);
            for (int t = 0; t < parts[p]; t++) e->tokens[e->n++] = (row * 37 + p * 101 + t * 11 + 5) % 400;
        }
        e->parts = parts;
    }
}

static void open_bench(bench *b, const char *family, tq_read read, const char *method, int negatives, variant v) {
    toque_error err;
    const bool bert = strcmp(family, "bert") == 0;
    *b = (bench){0};
    check(tq_ctx_new(&b->ctx, v.threads, 0, "f32", &err), &err);
    check(tq_model_open(&b->model, b->ctx, folders[bert].dir, &err), &err);
    tq_adapter_options ao = {.kind = method, .rank = 4, .alpha = 8, .targets = "all-linear", .seed = 1};
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
    make_rows(&b->data, &b->ctx->mem, negatives, v.passage);
    tq_trainer_options o = {.objective = &tq_objective_contrastive,
                            .optimizer = &tq_optimizer_adamw,
                            .schedule = {.lr = 1e-3, .total = 1},
                            .rows = v.rows,
                            .read = read,
                            .sharpness = 20,
                            .packing = v.packing};
    check(tq_trainer_init(&b->trainer, b->adapter, &b->data, NULL, &o, &err), &err);
    check(tq_trainer_gradient(&b->trainer, &b->result, &err), &err);
}

static void close_bench(bench *b) {
    tq_trainer_clear(&b->trainer);
    tq_dataset_clear(&b->data);
    tq_adapter_free(b->adapter);
    tq_model_close(b->model);
    tq_ctx_free(b->ctx);
}

/* --- the comparison ---------------------------------------------------------------------------------------- */
static void check_gradient(const bench *b, const char *of, const char *line) {
    char name[160];
    int rows, cols;
    double norm, dot, mine = 0, probe = 0;
    const tq_range *r = NULL;
    assert_int_equal(sscanf(line, "grad %150s %d %d %lf %lf", name, &rows, &cols, &norm, &dot), 5);
    for (size_t i = 0; i < b->adapter->n_ranges; i++)
        if (strcmp(b->adapter->ranges[i].name, name) == 0) r = &b->adapter->ranges[i];
    if (!r) fail_msg("no range is called %s; the first is %s", name, b->adapter->ranges[0].name);
    assert_int_equal(r->rows * r->cols, rows * cols);
    const float *g = b->adapter->grads + r->start;
    for (int i = 0; i < rows * cols; i++) {
        mine += (double)g[i] * (double)g[i];
        probe += (double)g[i] * cos(0.3 * i + 1);
    }
    if (!(fabs(sqrt(mine) - norm) <= 1e-3 * norm + 1e-5) || !(fabs(probe - dot) <= 1e-3 * norm + 1e-5))
        fail_msg("%s: gradient of %s: norm %g, expected %g; probe %g, expected %g", of, name, sqrt(mine), norm, probe,
                 dot);
}

static tq_read read_of(const char *pooling) {
    return strcmp(pooling, "mean") == 0 ? TQ_READ_MEAN : strcmp(pooling, "cls") == 0 ? TQ_READ_FIRST : TQ_READ_LAST;
}

static void losses_and_gradients_are_those_of_pytorch(void **state) {
    (void)state;
    FILE *f = fopen(expectations, "r");
    assert_non_null(f);
    char line[300], of[100] = "", family[20], pooling[20], method[20];
    bench b = {0};
    int cases = 0, negatives;
    double want;
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, "case %19s %19s %19s %d", family, pooling, method, &negatives) == 4) {
            snprintf(of, sizeof of, "%s, %s, %s", family, pooling, method);
            open_bench(&b, family, read_of(pooling), method, negatives, (variant){ROWS, 2, -1, true});
        } else if (sscanf(line, "loss %lf", &want) == 1) {
            if (!(fabs(b.result.loss - want) <= 1e-4 * want))
                fail_msg("%s: loss %.8g, expected %.8g", of, b.result.loss, want);
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

/* Every row a pass of its own, or all in one: the same loss and gradient. */
static void passes_do_not_change_a_step(void **state) {
    (void)state;
    for (int i = 0; i < FAMILIES; i++) {
        bench one, many;
        tq_read read = i == 0 ? TQ_READ_LAST : TQ_READ_MEAN;
        open_bench(&one, families[i], read, "lora", 1, (variant){ROWS, 2, -1, true});
        open_bench(&many, families[i], read, "lora", 1, (variant){ROWS, 2, -1, false});
        assert_int_equal(one.result.passes, 1);
        assert_int_equal(many.result.passes, ROWS);
        double d = 0, norm = 0;
        for (size_t k = 0; k < one.adapter->n; k++) {
            d += pow((double)one.adapter->grads[k] - (double)many.adapter->grads[k], 2);
            norm += pow((double)one.adapter->grads[k], 2);
        }
        assert_true(norm > 0 && sqrt(d / norm) < 1e-5);
        assert_true(fabs(one.result.loss - many.result.loss) < 1e-6 * one.result.loss);
        close_bench(&one);
        close_bench(&many);
    }
}

static void threads_give_the_same_bytes(void **state) {
    (void)state;
    bench one, three;
    open_bench(&one, "bert", TQ_READ_MEAN, "full", 1, (variant){ROWS, 1, -1, false});
    open_bench(&three, "bert", TQ_READ_MEAN, "full", 1, (variant){ROWS, 3, -1, false});
    assert_memory_equal(one.adapter->grads, three.adapter->grads, one.adapter->n * sizeof(float));
    assert_true(one.result.loss == three.result.loss);
    close_bench(&one);
    close_bench(&three);
}

/* Rows that share their passage have nothing to tell apart. */
static void the_same_passage_is_no_negative(void **state) {
    (void)state;
    bench b;
    open_bench(&b, "bert", TQ_READ_MEAN, "lora", 0, (variant){ROWS, 1, 2, true});
    assert_true(fabs(b.result.loss) < 1e-9);
    close_bench(&b);
    open_bench(&b, "bert", TQ_READ_MEAN, "lora", 1, (variant){ROWS, 1, 2, true});
    assert_true(b.result.loss > 0.01); /* the negatives of all rows are others */
    close_bench(&b);
}

/* A set that takes several steps: loss and vectors row by row, as the set has them. */
static void evaluations_hand_out_the_vectors_of_a_set(void **state) {
    (void)state;
    bench all, steps;
    toque_error err;
    double loss[2];
    int64_t n;
    open_bench(&all, "bert", TQ_READ_MEAN, "lora", 1, (variant){ROWS, 1, -1, true});
    open_bench(&steps, "bert", TQ_READ_MEAN, "lora", 1, (variant){2, 1, -1, false});
    size_t size = (size_t)ROWS * PARTS * (size_t)all.model->config.C;
    float *one = malloc(size * sizeof *one), *two = malloc(size * sizeof *two);
    assert_true(one && two);
    check(tq_trainer_evaluate_pairs(&all.trainer, &all.data, &loss[0], &n, one, &err), &err);
    check(tq_trainer_evaluate_pairs(&steps.trainer, &steps.data, &loss[1], &n, two, &err), &err);
    assert_int_equal(n, ROWS);
    assert_memory_equal(one, two, size * sizeof *one);
    assert_true(fabs(loss[0] - all.result.loss) < 1e-6 * loss[0]);
    assert_true(loss[1] < loss[0]); /* fewer candidates */
    free(one);
    free(two);
    close_bench(&all);
    close_bench(&steps);
}

static toque_status all_of_it(bench *b, const tq_trainer_options *o, float *vectors, toque_error *err) {
    double loss;
    tq_step_result r;
    TQ_TRY(tq_trainer_init(&b->trainer, b->adapter, &b->data, &b->data, o, err));
    toque_status status = tq_trainer_gradient(&b->trainer, &r, err);
    if (status == TOQUE_OK) status = tq_trainer_evaluate_pairs(&b->trainer, &b->data, &loss, NULL, vectors, err);
    tq_trainer_clear(&b->trainer);
    return status;
}

static void no_memory_is_an_error_and_leaks_nothing(void **state) {
    (void)state;
    bench b;
    toque_error err;
    open_bench(&b, "bert", TQ_READ_MEAN, "lora", 1, (variant){ROWS, 1, -1, false});
    const tq_trainer_options o = b.trainer.o;
    tq_trainer_clear(&b.trainer);
    float *vectors = malloc((size_t)ROWS * PARTS * (size_t)b.model->config.C * sizeof *vectors);
    assert_non_null(vectors);
    tq_mem *mem = &b.ctx->mem;
    const size_t used = mem->used;
    toque_status status = TOQUE_ENOMEM;
    unsigned n = 0;
    while (status != TOQUE_OK) {
        assert_true(++n < 10000);
        mem->fail_at = mem->calls + n;
        status = all_of_it(&b, &o, vectors, &err);
        if (status != TOQUE_OK && status != TOQUE_ENOMEM) fail_msg("allocation %u: %s", n, err.message);
        assert_int_equal(mem->used, used);
    }
    mem->fail_at = 0;
    assert_true(n > 20);
    free(vectors);
    close_bench(&b);
}

static void the_pooling_travels_with_the_adapter(void **state) {
    (void)state;
    bench b;
    toque_error err;
    char dir[] = "/tmp/toque-pairs-XXXXXX", path[100];
    assert_non_null(mkdtemp(dir));
    open_bench(&b, "llama", TQ_READ_LAST, "lora", 0, (variant){ROWS, 1, -1, true});
    tq_adapter *loaded;
    b.adapter->embeds = TQ_POOLING_LAST;
    check(tq_adapter_save(b.adapter, dir, NULL, &err), &err);
    check(tq_adapter_load(&loaded, b.model, dir, &err), &err);
    assert_int_equal(loaded->embeds, TQ_POOLING_LAST);
    tq_adapter_free(loaded);
    snprintf(path, sizeof path, "%s/embedding.json", dir);
    check(tq_write_file(&b.ctx->mem, path, "{\"pooling\": \"sum\"}", 18, &err), &err);
    assert_int_equal(tq_adapter_load(&loaded, b.model, dir, &err), TOQUE_EFORMAT);
    assert_non_null(strstr(err.message, "mean, cls or last"));
    close_bench(&b);
    static const char *const files[] = {"embedding.json", "adapter_config.json", "adapter_model.safetensors"};
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        assert_int_equal(remove(path), 0);
    }
    assert_int_equal(rmdir(dir), 0);
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(losses_and_gradients_are_those_of_pytorch),
                                       cmocka_unit_test(passes_do_not_change_a_step),
                                       cmocka_unit_test(threads_give_the_same_bytes),
                                       cmocka_unit_test(the_same_passage_is_no_negative),
                                       cmocka_unit_test(evaluations_hand_out_the_vectors_of_a_set),
                                       cmocka_unit_test(no_memory_is_an_error_and_leaks_nothing),
                                       cmocka_unit_test(the_pooling_travels_with_the_adapter)};
    return cmocka_run_group_tests(tests, NULL, tear_down);
}
