/* Common ground of the kernel checks: rows under test, operands between guard pages, random values, comparison. */
#ifndef TQ_TESTS_KERNELS_CHECK_H
#define TQ_TESTS_KERNELS_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* clang-format off */
#include <cmocka.h>
/* clang-format on */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"

/* The tables to check: the usable ones of this CPU and the emulated ones. */
typedef struct check_row {
    const tq_kernels *k;
    bool emulated;
} check_row;
extern check_row check_rows[8];
extern int check_count;
#define FOR_ROWS(k)                                                                                                    \
    for (int row_ = 0; row_ < check_count; row_++)                                                                     \
        for (const tq_kernels *k = check_rows[row_].k; k; k = NULL)

/* n bytes right before an unreadable page (or, with front, right behind one), filled with a pattern. Freed by
 * guard_reset. */
void *guard(size_t n, bool front);
void guard_reset(void);
float *guard_floats(int64_t n, bool front); /* uniform in [-1, 1) */
float *guard_copy(const float *x, int64_t n, bool front);
double uniform(void); /* [0, 1), the same sequence in every run */
void random_bytes(void *p, size_t n);
/* n elements of a type as random valid blocks with modest values. */
void *random_weights(tq_type type, int64_t n, bool front);

/* A lone worker with scratch, id of count. */
tq_worker *check_worker(int id, int count);
/* |x - want| <= tolerance * size, with a message that names the row, what and index. */
void near(const tq_kernels *k, const char *what, int64_t i, double x, double want, double tolerance, double size);

extern const int check_sizes[];
extern const int check_n_sizes;

void check_vec(void **state);
void check_exp(void **state);
void check_math(void **state);
void check_norm_backward(void **state);
void check_silu_backward(void **state);
void check_adamw(void **state);
void check_dynamic8(void **state);
void check_gelu(void **state);
void check_layer_norm(void **state);
void check_halves(void **state);
void check_vectors_of_gguf(void **state);
void check_dequant(void **state);
void check_rows_f32(void **state);
void check_rows_q8(void **state);
void check_rows_q8_together(void **state);
void check_panels(void **state);
void check_quant_q8(void **state);
void check_scan(void **state);
void check_gemm_values(void **state);
void check_gemm_types(void **state);
void check_gemm_blocks(void **state);
void check_gemm_stored_bf16(void **state);
void check_gemm_bits(void **state);
void check_gemm_bf16(void **state);
void check_attn_values(void **state);
void check_attn_bits(void **state);
void check_attn_backward(void **state);

#endif
