/* What tests of training share: rows made by hand, a trainer with all that it stands on, and the comparison of a
 * gradient with a line of a reference (`grad TENSOR ROWS COLS NORM PROBE`, as tools/reference writes them). */
#ifndef TEST_BENCH_H
#define TEST_BENCH_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "model/peft.h"
#include "train/trainer.h"

static inline void check(toque_status status, const toque_error *err) {
    if (status != TOQUE_OK) fail_msg("%s", err->message);
}

/* An empty set with room for `most` rows. */
static inline void begin_rows(tq_dataset *set, tq_mem *mem, size_t most) {
    *set = (tq_dataset){.mem = mem, .cap = most};
    tq_arena_init(&set->arena, mem, 4096);
    tq_buf_init(&set->notes, mem, 100);
    set->examples = TQ_NEW_ARRAY(mem, tq_example, most);
    assert_non_null(set->examples);
}

/* The next row, of n tokens that the caller fills in (zero, no target, no class). */
static inline tq_example *add_row(tq_dataset *set, int n) {
    assert_true(set->n < set->cap);
    uint32_t r = (uint32_t)set->n;
    tq_example *e = &set->examples[set->n++];
    set->n_rows++;
    set->n_tokens += (size_t)n;
    *e = (tq_example){.n = n, .weight = 1, .row = r, .line = r + 1, .label = -1};
    e->tokens = tq_arena_alloc(&set->arena, (size_t)n, sizeof *e->tokens);
    e->target = tq_arena_alloc(&set->arena, (size_t)n, 1);
    int32_t *classes = tq_arena_alloc(&set->arena, (size_t)n, sizeof *classes);
    assert_true(e->tokens && e->target && classes);
    memset(e->target, 0, (size_t)n);
    e->classes = classes;
    return e;
}

typedef struct bench {
    tq_ctx *ctx;
    tq_model *model;
    tq_adapter *adapter;
    tq_dataset data;
    tq_trainer trainer;
} bench;

static inline void open_model(bench *b, const char *path, int threads) {
    toque_error err;
    *b = (bench){0};
    check(tq_ctx_new(&b->ctx, threads, 0, "f32", &err), &err);
    check(tq_model_open(&b->model, b->ctx, path, &err), &err);
}

static inline void close_bench(bench *b) {
    tq_trainer_clear(&b->trainer);
    tq_dataset_clear(&b->data);
    tq_adapter_free(b->adapter);
    tq_model_close(b->model);
    tq_ctx_free(b->ctx);
}

static inline const tq_range *find_range(const tq_adapter *a, const char *name) {
    for (size_t r = 0; r < a->n_ranges; r++)
        if (strcmp(a->ranges[r].name, name) == 0) return &a->ranges[r];
    fail_msg("no range is called %s; the first is %s", name, a->ranges[0].name);
    return NULL;
}

/* of: the case, for messages. */
static inline void check_gradient(const tq_adapter *a, const char *of, const char *line) {
    char name[160];
    int rows, cols;
    double norm, dot, mine = 0, probe = 0;
    assert_int_equal(sscanf(line, "grad %150s %d %d %lf %lf", name, &rows, &cols, &norm, &dot), 5);
    const tq_range *r = find_range(a, name);
    assert_int_equal(r->rows * r->cols, rows * cols);
    if (!r->vector) assert_int_equal(r->rows, rows);
    const float *g = a->grads + r->start;
    for (int i = 0; i < rows * cols; i++) {
        mine += (double)g[i] * (double)g[i];
        probe += (double)g[i] * cos(0.3 * i + 1);
    }
    if (a->start) probe = dot; /* PiSSA's: singular vectors have no sign of their own */
    if (!(fabs(sqrt(mine) - norm) <= 1e-3 * norm + 1e-6) || !(fabs(probe - dot) <= 1e-3 * norm + 1e-6))
        fail_msg("%s: gradient of %s: norm %g, expected %g; probe %g, expected %g", of, name, sqrt(mine), norm, probe,
                 dot);
}

#endif
