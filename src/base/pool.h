/* One thread pool per context. `tq_pool_run` makes all threads (the caller is worker 0) run one function:
 * a parallel region. Inside it work is shared by shape alone, with `tq_share`, and phases are parted by
 * `tq_barrier`: a short spin, then sleep. Parallel over outputs, never over a reduction, so results are
 * bitwise the same for any number of threads. */
#ifndef TQ_BASE_POOL_H
#define TQ_BASE_POOL_H

#include "base/error.h"
#include "base/mem.h"

enum { TQ_SCRATCH_BYTES = 8 << 20 }; /* private memory of each worker; untouched pages cost nothing */

typedef struct tq_pool tq_pool;
typedef struct tq_worker {
    tq_pool *pool; /* NULL: a lone worker (tests) */
    int id, count; /* 0 <= id < count */
    void *scratch; /* TQ_SCRATCH_BYTES, aligned to 64, content undefined between calls */
} tq_worker;
typedef void tq_job(tq_worker *worker, void *arg);

/* How many threads this process should use: affinity mask and cgroup quota. */
int tq_pool_default_threads(void);
/* threads = 0 takes the default. */
toque_status tq_pool_new(tq_pool **pool, tq_mem *mem, int threads, toque_error *err) TQ_MUST;
void tq_pool_free(tq_pool *pool);
int tq_pool_threads(const tq_pool *pool);
/* Runs job(worker, arg) once on every thread and returns when all are done. Not reentrant. */
void tq_pool_run(tq_pool *pool, tq_job *job, void *arg);
/* All workers of the region meet here; writes before it are seen after it. */
void tq_barrier(tq_worker *worker);

/* This worker's part [*begin, *end) of n items, cut at multiples of grain. */
static inline void tq_share(const tq_worker *w, int64_t n, int64_t grain, int64_t *begin, int64_t *end) {
    int64_t blocks = (n + grain - 1) / grain;
    int64_t b = blocks * w->id / w->count * grain, e = blocks * (w->id + 1) / w->count * grain;
    *begin = b < n ? b : n;
    *end = e < n ? e : n;
}

#endif
