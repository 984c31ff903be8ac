/* What the sources of one ISA row share: the name suffix, the vocabulary, and the declarations of every function
 * that the row's table (table.c) names. The build defines TQ_ISA (avx2) and TQ_SIMD_H ("kernels/simd_avx2.h"). */
#ifndef TQ_KERNELS_ROW_H
#define TQ_KERNELS_ROW_H

#include <math.h>
#include <string.h>

#include "kernels/half.h"
#include "kernels/kernels.h"

#include TQ_SIMD_H

#define TQ_GLUE_(name, isa) tq_##name##_##isa
#define TQ_GLUE(name, isa) TQ_GLUE_(name, isa)
#define TQ_FN(name) TQ_GLUE(name, TQ_ISA) /* tq_dot_avx2 */

#define TQ_INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define TQ_UNROLL _Pragma("clang loop unroll(full)")
#else
#define TQ_UNROLL _Pragma("GCC unroll 32")
#endif

extern const tq_kernels TQ_FN(table);

/* k_vec.c, k_math.c */
float TQ_FN(dot)(const float *x, const float *y, int64_t n);
float TQ_FN(sum_squares)(const float *x, int64_t n);
float TQ_FN(max)(const float *x, int64_t n);
void TQ_FN(add)(float *z, const float *x, const float *y, int64_t n);
void TQ_FN(scale)(float *y, float a, int64_t n);
void TQ_FN(axpy)(float *y, float a, const float *x, int64_t n);
float TQ_FN(exp_sum)(float *y, const float *x, float shift, int64_t n);
float TQ_FN(rms_norm)(float *y, const float *x, const float *w, float eps, int64_t n);
void TQ_FN(rms_norm_bwd)(float *dx, float *dw, const float *dy, const float *x, const float *w, float r, int64_t n);
void TQ_FN(silu_mul)(float *y, const float *g, const float *u, int64_t n);
void TQ_FN(silu_mul_bwd)(float *dg, float *du, const float *dy, const float *g, const float *u, int64_t n);
void TQ_FN(rope)(float *x, const float *cs, int half, float sign);
void TQ_FN(adamw)(float *p, const float *g, float *m, float *v, int64_t n, float clip, float lr, float b1, float b2,
                  float eps, float decay, float c1, float c2);

/* k_dynamic8.c */
void TQ_FN(read_dynamic8)(float *y, const uint8_t *codes, float scale, bool is_signed, int64_t n);
float TQ_FN(write_dynamic8)(uint8_t *codes, const float *x, bool is_signed, int64_t n);

/* k_search.c */
void TQ_FN(scan_i8)(float *y, const int8_t *rows, const float *scale, int64_t n, int64_t width, const int8_t *x);

/* k_act.c */
void TQ_FN(gelu)(float *y, const float *x, int64_t n);
void TQ_FN(gelu_bwd)(float *dx, const float *dy, const float *x, int64_t n);
void TQ_FN(gelu_mul)(float *y, const float *g, const float *u, int64_t n);
void TQ_FN(gelu_mul_bwd)(float *dg, float *du, const float *dy, const float *g, const float *u, int64_t n);
void TQ_FN(layer_norm)(float *y, const float *x, const float *w, const float *b, float eps, int64_t n);
void TQ_FN(layer_norm_bwd)(float *dx, const float *dy, const float *x, const float *w, float eps, int64_t n);

/* k_gemm.c, k_attn.c */
void TQ_FN(gemm)(tq_worker *w, const tq_kernels *kernels, const tq_gemm *g);
void TQ_FN(attn_fwd)(tq_worker *w, const tq_attn *a, int h, int t0, int t1);
void TQ_FN(attn_bwd)(tq_worker *w, const tq_attn *a, int g, const float *d_o, float *dq, float *dk, float *dv);

/* k_panel.c */
#define PANEL(type, name, block, bytes)                                                                                \
    void TQ_FN(panel_##name)(void *panel, const void *w, size_t row_bytes, int64_t k);                                 \
    void TQ_FN(panels_q8_##name)(float *y, int64_t y_row, const void *panels, int64_t n, int64_t k, const tq_q8 *x,    \
                                 int T);
#include "kernels/panel.def"
#undef PANEL

/* q_*.c */
void TQ_FN(quant_q8)(tq_q8 *y, const float *x, int64_t n);
#define FLOAT(type, name, block, bytes)                                                                                \
    void TQ_FN(dequant_##name)(float *y, const void *x, int64_t n);                                                    \
    void TQ_FN(quant_##name)(void *y, const float *x, int64_t n);                                                      \
    void TQ_FN(rows_f32_##name)(float *y, const void *w, size_t row_bytes, int64_t n, int64_t k, const float *x);
#define FORMAT(type, name, block, bytes)                                                                               \
    void TQ_FN(dequant_##name)(float *y, const void *x, int64_t n);                                                    \
    void TQ_FN(rows_f32_##name)(float *y, const void *w, size_t row_bytes, int64_t n, int64_t k, const float *x);      \
    void TQ_FN(rows_q8_##name)(float *y, int64_t y_row, const void *w, size_t row_bytes, int64_t n, int64_t k,         \
                               const tq_q8 *x, int T);
#include "kernels/format.def"
#undef FLOAT
#undef FORMAT
void TQ_FN(quant_q8_0)(void *y, const float *x, int64_t n);
void TQ_FN(quant_q4_0)(void *y, const float *x, int64_t n);
void TQ_FN(quant_q4_1)(void *y, const float *x, int64_t n);

#endif
