/* The thread pool: a region counter that workers watch, and a barrier. Waiting spins for some tens of microseconds
 * (regions follow one another closely while a model runs), then gives its core away some times, since the worker that
 * it waits for may be the one that has none, and then sleeps on a condition. */
#include "base/pool.h"

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SPINS = 2000, YIELDS = 200 };

struct tq_pool {
    tq_mem *mem;
    int count;
    tq_worker *workers;
    pthread_t *threads;
    int started;

    tq_job *job;
    void *arg;

    pthread_mutex_t lock;
    pthread_cond_t wake;
    atomic_uint region;  /* odd values never occur; grows by one per region */
    atomic_uint phase;   /* barrier generation */
    atomic_int arrived;  /* workers at the barrier */
    atomic_int sleepers; /* workers in pthread_cond_wait */
    atomic_bool stop;
};

static inline void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Waits until *word differs from old. */
static void wait_change(tq_pool *pool, atomic_uint *word, unsigned old) {
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(word, memory_order_acquire) != old) return;
        relax();
    }
    for (int i = 0; i < YIELDS; i++) {
        if (atomic_load_explicit(word, memory_order_acquire) != old) return;
        sched_yield();
    }
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->sleepers, 1);
    while (atomic_load(word) == old) pthread_cond_wait(&pool->wake, &pool->lock);
    atomic_fetch_sub(&pool->sleepers, 1);
    pthread_mutex_unlock(&pool->lock);
}

static void change(tq_pool *pool, atomic_uint *word) {
    atomic_fetch_add(word, 1); /* sequentially consistent: ordered against the read of sleepers */
    if (atomic_load(&pool->sleepers) > 0) {
        pthread_mutex_lock(&pool->lock);
        pthread_cond_broadcast(&pool->wake);
        pthread_mutex_unlock(&pool->lock);
    }
}

void tq_barrier(tq_worker *worker) {
    tq_pool *pool = worker->pool;
    if (worker->count == 1) return;
    unsigned phase = atomic_load_explicit(&pool->phase, memory_order_acquire);
    if (atomic_fetch_add(&pool->arrived, 1) + 1 == pool->count) {
        atomic_store(&pool->arrived, 0);
        change(pool, &pool->phase);
    } else {
        wait_change(pool, &pool->phase, phase);
    }
}

static void *worker_main(void *arg) {
    tq_worker *w = arg;
    tq_pool *pool = w->pool;
    for (unsigned seen = 0;; seen++) {
        wait_change(pool, &pool->region, seen);
        if (atomic_load(&pool->stop)) return NULL;
        pool->job(w, pool->arg);
        tq_barrier(w);
    }
}

void tq_pool_run(tq_pool *pool, tq_job *job, void *arg) {
    pool->job = job;
    pool->arg = arg;
    if (pool->count > 1) change(pool, &pool->region);
    job(&pool->workers[0], arg);
    tq_barrier(&pool->workers[0]);
}

int tq_pool_threads(const tq_pool *pool) {
    return pool->count;
}

/* The cgroup v2 or v1 quota in whole CPUs (rounded up), or INT_MAX. */
static int cgroup_cpus(void) {
    long long quota = -1, period = 0;
    char text[64];
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (f) {
        if (fgets(text, sizeof text, f) && strncmp(text, "max", 3) != 0) {
            char *end;
            quota = strtoll(text, &end, 10);
            period = strtoll(end, NULL, 10);
        }
        fclose(f);
    } else {
        const char *const paths[] = {"/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"};
        for (int i = 0; i < 2; i++) {
            f = fopen(paths[i], "re");
            if (!f) return INT_MAX;
            if (fgets(text, sizeof text, f)) *(i ? &period : &quota) = strtoll(text, NULL, 10);
            fclose(f);
        }
    }
    if (quota <= 0 || period <= 0) return INT_MAX;
    long long n = (quota + period - 1) / period;
    return n < INT_MAX ? (int)n : INT_MAX;
}

int tq_pool_default_threads(void) {
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : (int)sysconf(_SC_NPROCESSORS_ONLN);
    int quota = cgroup_cpus();
    if (quota < n) n = quota;
    return n < 1 ? 1 : n;
}

void tq_pool_free(tq_pool *pool) {
    if (!pool) return;
    atomic_store(&pool->stop, true);
    if (pool->started) change(pool, &pool->region);
    for (int i = 0; i < pool->started; i++) pthread_join(pool->threads[i], NULL);
    if (pool->workers)
        for (int i = 0; i < pool->count; i++) tq_free(pool->mem, pool->workers[i].scratch);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
    tq_free(pool->mem, pool->workers);
    tq_free(pool->mem, pool->threads);
    tq_free(pool->mem, pool);
}

toque_status tq_pool_new(tq_pool **result, tq_mem *mem, int threads, toque_error *err) {
    *result = NULL;
    if (threads < 0 || threads > 1024) return TQ_FAIL(err, EINVAL, "threads must be from 1 to 1024, not %d", threads);
    tq_pool *pool = TQ_NEW(mem, tq_pool);
    if (!pool) return TQ_NOMEM(err);
    pool->mem = mem;
    pool->count = threads ? threads : tq_pool_default_threads();
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pool->workers = TQ_NEW_ARRAY(mem, tq_worker, pool->count);
    pool->threads = TQ_NEW_ARRAY(mem, pthread_t, pool->count);
    toque_status status = pool->workers && pool->threads ? TOQUE_OK : TQ_NOMEM(err);
    for (int i = 0; status == TOQUE_OK && i < pool->count; i++) {
        tq_worker *w = &pool->workers[i];
        *w = (tq_worker){.pool = pool, .id = i, .count = pool->count};
        w->scratch = tq_zalloc(mem, 1, TQ_SCRATCH_BYTES);
        if (!w->scratch) status = TQ_NOMEM(err);
    }
    for (int i = 1; status == TOQUE_OK && i < pool->count; i++) {
        int e = pthread_create(&pool->threads[pool->started], NULL, worker_main, &pool->workers[i]);
        if (e)
            status = TQ_FAIL(err, ELIMIT, "cannot start thread %d of %d: %s", i + 1, pool->count, strerror(e));
        else
            pool->started++;
    }
    if (status != TOQUE_OK) {
        tq_pool_free(pool);
        return status;
    }
    *result = pool;
    return TOQUE_OK;
}
