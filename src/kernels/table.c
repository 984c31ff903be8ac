/* The constant table of one ISA row. */
#include "kernels/row.h"

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)

const tq_kernels TQ_FN(table) = {
    .isa = TEXT(TQ_ISA),
    .has_bf16 = SIMD_HAS_BF16,
    .has_int8 = SIMD_HAS_INT8,
    .dot = TQ_FN(dot),
    .sum_squares = TQ_FN(sum_squares),
    .max = TQ_FN(max),
    .add = TQ_FN(add),
    .scale = TQ_FN(scale),
    .axpy = TQ_FN(axpy),
    .exp_sum = TQ_FN(exp_sum),
    .rms_norm = TQ_FN(rms_norm),
    .rms_norm_bwd = TQ_FN(rms_norm_bwd),
    .silu_mul = TQ_FN(silu_mul),
    .silu_mul_bwd = TQ_FN(silu_mul_bwd),
    .gelu = TQ_FN(gelu),
    .gelu_bwd = TQ_FN(gelu_bwd),
    .gelu_mul = TQ_FN(gelu_mul),
    .gelu_mul_bwd = TQ_FN(gelu_mul_bwd),
    .layer_norm = TQ_FN(layer_norm),
    .layer_norm_bwd = TQ_FN(layer_norm_bwd),
    .rope = TQ_FN(rope),
    .adamw = TQ_FN(adamw),
    .read_dynamic8 = TQ_FN(read_dynamic8),
    .write_dynamic8 = TQ_FN(write_dynamic8),
#define FLOAT(type, name, block, bytes) [TQ_##type] = TQ_FN(dequant_##name),
#define FORMAT(type, name, block, bytes) [TQ_##type] = TQ_FN(dequant_##name),
    .dequant_row =
        {
#include "kernels/format.def"
        },
#undef FLOAT
#undef FORMAT
    .quant_row = {[TQ_F32] = TQ_FN(quant_f32),
                  [TQ_F16] = TQ_FN(quant_f16),
                  [TQ_BF16] = TQ_FN(quant_bf16),
                  [TQ_Q8_0] = TQ_FN(quant_q8_0),
                  [TQ_Q4_0] = TQ_FN(quant_q4_0),
                  [TQ_Q4_1] = TQ_FN(quant_q4_1)},
    .quant_q8 = TQ_FN(quant_q8),
#define FLOAT(type, name, block, bytes) [TQ_##type] = TQ_FN(rows_f32_##name),
#define FORMAT(type, name, block, bytes) [TQ_##type] = TQ_FN(rows_f32_##name),
    .rows_f32 =
        {
#include "kernels/format.def"
        },
#undef FLOAT
#undef FORMAT
#define FLOAT(type, name, block, bytes)
#define FORMAT(type, name, block, bytes) [TQ_##type] = TQ_FN(rows_q8_##name),
    .rows_q8 =
        {
#include "kernels/format.def"
        },
#undef FLOAT
#undef FORMAT
    .panel_rows = VW,
#define PANEL(type, name, block, bytes) [TQ_##type] = {TQ_FN(panel_##name), TQ_FN(panels_q8_##name), block, bytes},
    .panels =
        {
#include "kernels/panel.def"
        },
#undef PANEL
    .scan_i8 = TQ_FN(scan_i8),
    .gemm = TQ_FN(gemm),
    .attn_fwd = TQ_FN(attn_fwd),
    .attn_bwd = TQ_FN(attn_bwd),
};
