/* See check.h. */
#include "check.h"

#include <sys/mman.h>
#include <unistd.h>

check_row check_rows[8];
int check_count;
const int check_sizes[] = {0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65, 127, 128, 129, 255, 577};
const int check_n_sizes = sizeof check_sizes / sizeof *check_sizes;

typedef struct block {
    struct block *next;
    char *map;
    size_t size;
} block;
static block *blocks;

void *guard(size_t n, bool front) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), inner = (n + page) / page * page;
    block *b = malloc(sizeof *b);
    assert_non_null(b);
    b->size = inner + 2 * page;
    b->map = mmap(NULL, b->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(b->map != MAP_FAILED);
    assert_int_equal(mprotect(b->map, page, PROT_NONE), 0);
    assert_int_equal(mprotect(b->map + page + inner, page, PROT_NONE), 0);
    memset(b->map + page, 0x5a, inner);
    b->next = blocks;
    blocks = b;
    return front ? b->map + page : b->map + page + inner - n;
}

void guard_reset(void) {
    while (blocks) {
        block *next = blocks->next;
        munmap(blocks->map, blocks->size);
        free(blocks);
        blocks = next;
    }
}

static uint64_t seed = 0x9e3779b97f4a7c15u;
static uint32_t next32(void) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 32);
}
double uniform(void) {
    return next32() * 0x1p-32;
}
void random_bytes(void *p, size_t n) {
    for (size_t i = 0; i < n; i++) ((uint8_t *)p)[i] = (uint8_t)next32();
}

float *guard_floats(int64_t n, bool front) {
    float *x = guard((size_t)n * sizeof *x, front);
    for (int64_t i = 0; i < n; i++) x[i] = (float)(2 * uniform() - 1);
    return x;
}
float *guard_copy(const float *x, int64_t n, bool front) {
    float *y = guard((size_t)n * sizeof *y, front);
    if (n) memcpy(y, x, (size_t)n * sizeof *y);
    return y;
}

/* Where a block's 16-bit floats stand. */
static int halves_of(tq_type type, int at[2]) {
    at[0] = 0;
    at[1] = 2;
    switch (type) {
    case TQ_Q4_0:
    case TQ_Q5_0:
    case TQ_Q8_0: return 1;
    case TQ_Q4_1:
    case TQ_Q5_1:
    case TQ_Q4_K:
    case TQ_Q5_K: return 2;
    case TQ_Q6_K: at[0] = 208; return 1;
    default: return 0;
    }
}

void *random_weights(tq_type type, int64_t n, bool front) {
    const tq_type_info *info = tq_type_get(type);
    if (type == TQ_F32) return guard_floats(n, front);
    int64_t blocks_n = n / info->block;
    uint8_t *p = guard((size_t)(blocks_n * info->bytes), front);
    random_bytes(p, (size_t)(blocks_n * info->bytes));
    int at[2], halves = halves_of(type, at);
    for (int64_t b = 0; b < blocks_n; b++) {
        uint16_t h = (uint16_t)(next32() & 0x83ff);
        if (type == TQ_F16 || type == TQ_BF16) { /* sizes in [0.5, 1) and [2^-1, 1] */
            h = (uint16_t)(type == TQ_F16 ? h | 0x3800 : (h & 0x807f) | 0x3f00);
            memcpy(p + b * 2, &h, 2);
        }
        for (int i = 0; i < halves; i++) {
            h = (uint16_t)((next32() & 0x83ff) | 0x2000); /* about 2^-7 */
            memcpy(p + b * info->bytes + at[i], &h, 2);
        }
    }
    return p;
}

tq_worker *check_worker(int id, int count) {
    static void *scratch;
    static tq_worker w;
    if (!scratch) scratch = aligned_alloc(64, TQ_SCRATCH_BYTES);
    assert_non_null(scratch);
    memset(scratch, 0xff, 65536); /* NaN: nothing may depend on what was there */
    w = (tq_worker){.id = id, .count = count, .scratch = scratch};
    return &w;
}

void near(const tq_kernels *k, const char *what, int64_t i, double x, double want, double tolerance, double size) {
    if (fabs(x - want) <= tolerance * size) return;
    fail_msg("%s: %s[%lld] is %.9g, expected %.9g (tolerance %.3g)", k->isa, what, (long long)i, x, want,
             tolerance * size);
}
