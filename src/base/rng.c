/* Philox 4x32-10 and what is drawn from it. See rng.h. */
#include "base/rng.h"

#include <math.h>

void tq_philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]) {
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3], k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c0 = n0, c1 = (uint32_t)p1, c2 = n2, c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

void tq_rng_init(tq_rng *rng, uint64_t seed, tq_rng_stream stream, uint32_t a, uint32_t b) {
    *rng = (tq_rng){.key = {(uint32_t)seed, (uint32_t)(seed >> 32)}, .counter = {0, (uint32_t)stream, a, b}};
}

uint32_t tq_rng_u32(tq_rng *rng) {
    if (rng->left == 0) {
        tq_philox(rng->word, rng->counter, rng->key);
        rng->counter[0]++;
        rng->left = 4;
    }
    return rng->word[4 - rng->left--];
}

double tq_rng_uniform(tq_rng *rng) {
    return tq_rng_u32(rng) * 0x1p-32;
}

uint32_t tq_rng_below(tq_rng *rng, uint32_t n) {
    uint32_t reject = -n % n; /* 2^32 mod n: draws below it would favour small results */
    uint32_t r;
    do r = tq_rng_u32(rng);
    while (r < reject);
    return r % n;
}

double tq_rng_normal(tq_rng *rng) {
    double u = (tq_rng_u32(rng) + 1.0) * 0x1p-32, v = tq_rng_uniform(rng);
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}
