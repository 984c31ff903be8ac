/* Counter-based random numbers: Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as
 * 1, 2, 3", SC 2011). A value depends on its key and counter alone, so no state has to be saved to resume
 * and no thread count changes what is drawn. */
#ifndef TQ_BASE_RNG_H
#define TQ_BASE_RNG_H

#include <stdint.h>

/* The raw block: 4 words from a 4-word counter and a 2-word key. */
void tq_philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]);

/* What a stream is for; the same seed gives independent numbers in each. */
typedef enum tq_rng_stream {
    TQ_RNG_INIT = 1,
    TQ_RNG_SHUFFLE,
    TQ_RNG_DROPOUT,
    TQ_RNG_SAMPLE,
    TQ_RNG_SPLIT,
    TQ_RNG_NOISE
} tq_rng_stream;

/* A sequence of draws: (seed, stream, a, b) name it, `at` counts within it. */
typedef struct tq_rng {
    uint32_t key[2], counter[4];
    uint32_t word[4];
    int left;
} tq_rng;
void tq_rng_init(tq_rng *rng, uint64_t seed, tq_rng_stream stream, uint32_t a, uint32_t b);
uint32_t tq_rng_u32(tq_rng *rng);
double tq_rng_uniform(tq_rng *rng);             /* [0, 1), 32 bits of it */
uint32_t tq_rng_below(tq_rng *rng, uint32_t n); /* 0 .. n-1 without bias; n > 0 */
double tq_rng_normal(tq_rng *rng);              /* mean 0, variance 1 (Box-Muller) */

#endif
