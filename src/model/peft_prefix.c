/* Prefix tuning (Li & Liang 2021): trained keys and values in every layer, as if n tokens stood before each sequence,
 * whose own positions begin at n. In files one table [n, L * 2 * G * D], as PEFT's without a projection: row i holds,
 * for each layer, the keys and then the values of virtual token i; keys are used as they are (no rope). The arithmetic
 * is src/ops/prefix.c's. */
#include "model/peft.h"

static size_t prefix_cols(const tq_model *m) {
    return (size_t)m->config.L * 2 * (size_t)m->config.G * (size_t)m->config.D;
}

static toque_status prefix_init(tq_adapter *a, const tq_adapter_options *o, toque_error *err) {
    (void)err;
    tq_rng rng;
    tq_rng_init(&rng, o->seed, TQ_RNG_INIT, 0, 2);
    for (size_t i = 0; i < a->n; i++) a->values[i] = 0.02f * (float)tq_rng_normal(&rng);
    return TOQUE_OK;
}

const tq_peft tq_peft_prefix = {
    .name = "prefix",
    .peft_type = "PREFIX_TUNING",
    .help = "keys and values that stand before every sequence, in every layer",
    .keys = "virtual_tokens",
    .decoders = true,
    .lr_small = 3e-2,
    .lr_large = 3e-2,
    .table_cols = prefix_cols,
    .init_table = prefix_init,
};
