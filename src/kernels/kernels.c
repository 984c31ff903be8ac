/* The list of storage types and the choice of a kernel table. */
#include "kernels/kernels.h"

#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

static const tq_type_info types[TQ_TYPE_END] = {
#define FLOAT(type, name, block, bytes) [TQ_##type] = {#type, block, bytes},
#define FORMAT(type, name, block, bytes) [TQ_##type] = {#type, block, bytes},
#include "kernels/format.def"
#undef FLOAT
#undef FORMAT
};

const tq_type_info *tq_type_get(uint32_t type) {
    return type < TQ_TYPE_END && types[type].name ? &types[type] : NULL;
}

size_t tq_type_row_bytes(tq_type type, int64_t n) {
    return (size_t)(n / types[type].block) * (size_t)types[type].bytes;
}

#define ISA(name, test) extern const tq_kernels tq_table_##name;
#include "kernels/isa.def"
#undef ISA

static const char row_names[] =
#define ISA(name, test) " " #name
#include "kernels/isa.def"
#undef ISA
    ;

#define HAS(feature) __builtin_cpu_supports(feature)
#if defined(__x86_64__)
/* Not every compiler's __builtin_cpu_supports knows this one; its registers are those of AVX2, tested beside it. */
static bool has_f16c(void) {
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

const tq_kernels *tq_kernels_row(int i, bool *usable) {
    int row = 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
#endif
#define ISA(name, test)                                                                                                \
    if (row++ == i) {                                                                                                  \
        *usable = (test);                                                                                              \
        return &tq_table_##name;                                                                                       \
    }
#include "kernels/isa.def"
#undef ISA
    *usable = false;
    return NULL;
}

toque_status tq_kernels_select(const tq_kernels **kernels, const char *cap, toque_error *err) {
    *kernels = NULL;
    const char *from = "";
    if (!cap) {
        cap = getenv("TOQUE_ISA");
        from = " in the environment variable TOQUE_ISA";
    }
    bool usable;
    const tq_kernels *best = tq_kernels_row(0, &usable), *k; /* every machine can use the first */
    for (int i = 0; (k = tq_kernels_row(i, &usable)); i++) {
        if (usable) best = k;
        if (!cap || !*cap || strcmp(cap, k->isa) != 0) continue;
        if (!usable) {
            return TQ_FAIL(err, EINVAL, "instruction set '%s'%s is not there on this CPU; the best one here is '%s'",
                           cap, from, best->isa);
        }
        *kernels = k;
        return TOQUE_OK;
    }
    if (cap && *cap)
        return TQ_FAIL(err, EINVAL, "unknown instruction set '%.40s'%s; this build has%s", cap, from, row_names);
    *kernels = best;
    return TOQUE_OK;
}
