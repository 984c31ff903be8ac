/* Every entry of every row of the kernel table that can run here, natively or emulated, against plain loops in double,
 * with operands between guard pages, and against itself: the same bits in any company. */
#include "check.h"

#ifdef CHECK_EMULATED
extern const tq_kernels tq_table_emu512;
#endif

static bool listed(const char *isa) {
    for (int i = 0; i < check_count; i++)
        if (!strcmp(check_rows[i].k->isa, isa)) return true;
    return false;
}

int main(void) {
    const tq_kernels *k;
    bool usable;
    for (int i = 0; (k = tq_kernels_row(i, &usable)); i++) {
        if (usable) check_rows[check_count++] = (check_row){k, false};
        fprintf(stderr, "%-14s %s\n", k->isa, usable ? "runs natively" : "this CPU lacks it");
    }
#ifdef CHECK_EMULATED
    if (!listed("avx512bf16")) {
        check_rows[check_count++] = (check_row){&tq_table_emu512, true};
        fprintf(stderr, "%-14s the sources of avx512bf16 through SIMDe\n", tq_table_emu512.isa);
    }
#else
    if (!listed("avx512bf16")) fprintf(stderr, "SIMDe is not installed: the AVX-512 rows are not emulated\n");
#endif
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_vec),
        cmocka_unit_test(check_exp),
        cmocka_unit_test(check_math),
        cmocka_unit_test(check_norm_backward),
        cmocka_unit_test(check_silu_backward),
        cmocka_unit_test(check_adamw),
        cmocka_unit_test(check_halves),
        cmocka_unit_test(check_vectors_of_gguf),
        cmocka_unit_test(check_dequant),
        cmocka_unit_test(check_rows_f32),
        cmocka_unit_test(check_rows_q8),
        cmocka_unit_test(check_rows_q8_together),
        cmocka_unit_test(check_panels),
        cmocka_unit_test(check_quant_q8),
        cmocka_unit_test(check_gemm_values),
        cmocka_unit_test(check_gemm_types),
        cmocka_unit_test(check_gemm_bf16),
        cmocka_unit_test(check_gemm_blocks),
        cmocka_unit_test(check_gemm_stored_bf16),
        cmocka_unit_test(check_gemm_bits),
        cmocka_unit_test(check_attn_values),
        cmocka_unit_test(check_attn_bits),
        cmocka_unit_test(check_attn_backward),
        cmocka_unit_test(check_gelu),
        cmocka_unit_test(check_layer_norm),
        cmocka_unit_test(check_scan),
        cmocka_unit_test(check_dynamic8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
