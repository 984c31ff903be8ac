/* NEFTune's noise at the embedding: its bounds and spread, and what it depends on. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ops/op.h"

enum { C = 64, T = 30 };
static const tq_kernels *kernels;
static char scratch[C * sizeof(float)];

/* out [T, C] of rows of zeros, in the segments given. */
static void embed(const tq_segment *segments, int n, float noise, uint64_t seed, float *out) {
    static const float zeros[C];
    static const int32_t tokens[T];
    tq_weight table = {.data = zeros, .type = TQ_F32, .rows = 1, .cols = C, .row_bytes = sizeof zeros};
    tq_weight weights[TQ_ROLE_COUNT] = {{0}};
    tq_exec e = {.k = kernels,
                 .train = true,
                 .T = T,
                 .tokens = tokens,
                 .segments = segments,
                 .n_segments = n,
                 .embedding = &table,
                 .embedding_scale = 1,
                 .weights = weights,
                 .v = {out},
                 .width = {C},
                 .seed = seed,
                 .noise = noise};
    tq_worker lone = {.count = 1, .scratch = scratch};
    tq_step step = {.op = &tq_op_embed, .out = 0};
    tq_op_embed.fwd(&e, &lone, &step);
}

static void noise_is_uniform_within_alpha_over_sqrt_of_n_c(void **state) {
    (void)state;
    float out[T * C];
    tq_segment one = {.n = T, .id = 7};
    embed(&one, 1, 5, 42, out);
    double bound = 5 / sqrt((double)T * C), sum = 0, square = 0, most = 0;
    for (int i = 0; i < T * C; i++) {
        sum += (double)out[i];
        square += (double)out[i] * (double)out[i];
        most = fmax(most, fabs((double)out[i]));
    }
    assert_true(most <= bound && most > 0.99 * bound);
    assert_true(fabs(sum / (T * C)) < 4 * bound / sqrt(3.0 * T * C));
    assert_true(fabs(square / (T * C) / (bound * bound / 3) - 1) < 0.1); /* the variance of a uniform number */
    embed(&one, 1, 0, 42, out);
    for (int i = 0; i < T * C; i++) assert_true(out[i] == 0);
}

static void noise_follows_from_row_use_position_and_seed_alone(void **state) {
    (void)state;
    float a[T * C], b[T * C];
    tq_segment two[] = {{.n = 10, .id = 3, .use = 1}, {.row = 10, .n = 20, .id = 4, .use = 1}};
    tq_segment turned[] = {{.n = 20, .id = 4, .use = 1}, {.row = 20, .n = 10, .id = 3, .use = 1}};
    embed(two, 2, 5, 42, a);
    embed(turned, 2, 5, 42, b);
    assert_memory_equal(a, b + 20 * C, 10 * C * sizeof *a);
    assert_memory_equal(a + 10 * C, b, 20 * C * sizeof *a);
    two[0].use = 2;
    embed(two, 2, 5, 42, b);
    assert_memory_not_equal(a, b, C * sizeof *a);
    assert_memory_equal(a + 10 * C, b + 10 * C, 20 * C * sizeof *a);
    embed(two, 2, 5, 43, b);
    assert_memory_not_equal(a + 10 * C, b + 10 * C, C * sizeof *a);
    assert_memory_not_equal(a, a + C, C * sizeof *a);
}

int main(void) {
    toque_error err;
    if (tq_kernels_select(&kernels, NULL, &err) != TOQUE_OK) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(noise_is_uniform_within_alpha_over_sqrt_of_n_c),
        cmocka_unit_test(noise_follows_from_row_use_position_and_seed_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
