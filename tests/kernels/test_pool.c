/* The thread pool: every region runs on every worker once, barriers part phases, shares cover all work once. Meant to
 * be run under ThreadSanitizer too: the counters are plain on purpose, so a missing ordering is a reported race. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* clang-format off */
#include <cmocka.h>
/* clang-format on */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/pool.h"
#include "kernels/context.h"

enum { MAX = 5 };

typedef struct state {
    long calls[MAX][16]; /* padded: one line a worker */
    long sum;
    long seen[MAX][16];
    int phases;
    bool bad;
} state;

static void count_job(tq_worker *w, void *arg) {
    state *s = arg;
    s->calls[w->id][0]++;
    if (w->count > MAX || !w->scratch || (uintptr_t)w->scratch % 64) s->bad = true;
}

static void every_worker_runs_each_region_once(void **unused) {
    (void)unused;
    for (int threads = 1; threads <= MAX; threads++) {
        tq_mem mem;
        tq_mem_init(&mem, 0);
        tq_pool *pool;
        state s = {.sum = 0};
        assert_int_equal(tq_pool_new(&pool, &mem, threads, NULL), TOQUE_OK);
        assert_int_equal(tq_pool_threads(pool), threads);
        for (int i = 0; i < (threads > 2 ? 50 : 2500); i++) {
            tq_pool_run(pool, count_job, &s);
            for (int t = 0; t < threads; t++) assert_int_equal(s.calls[t][0], i + 1);
        }
        assert_false(s.bad);
        tq_pool_free(pool);
        assert_int_equal(mem.used, 0);
    }
}

/* In each phase all write, then all read what the others wrote. */
static void barrier_job(tq_worker *w, void *arg) {
    state *s = arg;
    for (int p = 1; p <= s->phases; p++) {
        s->seen[w->id][0] = p * 100 + w->id;
        tq_barrier(w);
        for (int t = 0; t < w->count; t++)
            if (s->seen[t][0] != p * 100 + t) s->bad = true;
        tq_barrier(w);
        if (w->id == p % w->count) s->sum++;
    }
}

static void barriers_order_phases(void **unused) {
    (void)unused;
    for (int threads = 1; threads <= MAX; threads++) {
        tq_mem mem;
        tq_mem_init(&mem, 0);
        tq_pool *pool;
        state s = {.phases = threads > 2 ? 20 : 2000};
        assert_int_equal(tq_pool_new(&pool, &mem, threads, NULL), TOQUE_OK);
        for (int i = 0; i < 3; i++) tq_pool_run(pool, barrier_job, &s);
        assert_false(s.bad);
        assert_int_equal(s.sum, 3 * s.phases);
        tq_pool_free(pool);
    }
}

/* Workers that had gone to sleep come back. */
static void sleepers_wake(void **unused) {
    (void)unused;
    tq_mem mem;
    tq_mem_init(&mem, 0);
    tq_pool *pool;
    state s = {.sum = 0};
    assert_int_equal(tq_pool_new(&pool, &mem, 3, NULL), TOQUE_OK);
    for (int i = 0; i < 20; i++) {
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
        tq_pool_run(pool, count_job, &s);
        for (int t = 0; t < 3; t++) assert_int_equal(s.calls[t][0], i + 1);
    }
    tq_pool_free(pool);
}

static void shares_cover_everything_once(void **unused) {
    (void)unused;
    for (int count = 1; count <= 7; count++)
        for (int64_t n = 0; n < 100; n++)
            for (int64_t grain = 1; grain <= 32; grain += 5) {
                int64_t next = 0;
                for (int id = 0; id < count; id++) {
                    tq_worker w = {.id = id, .count = count};
                    int64_t b, e;
                    tq_share(&w, n, grain, &b, &e);
                    assert_true(b <= e && e <= n);
                    assert_int_equal(b, next);
                    assert_true(b == n || b % grain == 0);
                    next = e;
                }
                assert_int_equal(next, n);
            }
}

static void every_failed_allocation_is_returned(void **unused) {
    (void)unused;
    for (unsigned long long at = 1;; at++) {
        tq_mem mem;
        tq_mem_init(&mem, 0);
        mem.fail_at = at;
        tq_pool *pool;
        toque_error err;
        toque_status status = tq_pool_new(&pool, &mem, 3, &err);
        if (status == TOQUE_OK) {
            tq_pool_free(pool);
            assert_true(at > 3);
            break;
        }
        assert_int_equal(status, TOQUE_ENOMEM);
        assert_null(pool);
        assert_int_equal(mem.used, 0);
    }
    tq_mem mem;
    tq_mem_init(&mem, 0);
    tq_pool *pool;
    assert_int_equal(tq_pool_new(&pool, &mem, -1, NULL), TOQUE_EINVAL);
    assert_int_equal(tq_pool_new(&pool, &mem, 2000, NULL), TOQUE_EINVAL);
    assert_true(tq_pool_default_threads() >= 1);
}

static void keep_line(void *arg, tq_level level, const char *line) {
    snprintf(arg, 64, "%d %s", (int)level, line);
}

static void context_resolves_compute(void **unused) {
    (void)unused;
    tq_ctx *ctx;
    toque_error err;
    assert_int_equal(setenv("TOQUE_ISA", "ref", 1), 0);
    const struct {
        const char *compute;
        toque_status status;
        bool int8;
    } list[] = {{"auto", TOQUE_OK, false},
                {NULL, TOQUE_OK, false},
                {"f32", TOQUE_OK, false},
                {"int8", TOQUE_OK, true},
                {"bf16", TOQUE_EUNSUPPORTED, false},
                {"fp8", TOQUE_EINVAL, false}};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        assert_int_equal(tq_ctx_new(&ctx, 1, 0, list[i].compute, &err), list[i].status);
        if (list[i].status != TOQUE_OK) {
            assert_null(ctx);
            continue;
        }
        assert_string_equal(ctx->k->isa, "ref");
        assert_int_equal(ctx->compute, TQ_COMPUTE_F32);
        assert_int_equal(ctx->int8, list[i].int8);
        char line[64] = "";
        tq_log(ctx, TQ_WARNING, "x");
        ctx->log = keep_line;
        ctx->log_arg = line;
        tq_log(ctx, TQ_WARNING, "row %d", 7);
        assert_string_equal(line, "1 row 7");
        tq_ctx_free(ctx);
    }
    assert_int_equal(setenv("TOQUE_ISA", "mmx", 1), 0);
    assert_int_equal(tq_ctx_new(&ctx, 1, 0, "auto", &err), TOQUE_EINVAL);
    assert_non_null(strstr(err.message, "TOQUE_ISA"));
    assert_int_equal(unsetenv("TOQUE_ISA"), 0);
    assert_int_equal(tq_ctx_new(&ctx, 1, 1 << 20, "auto", &err), TOQUE_ENOMEM); /* scratch alone is more */
    assert_int_equal(tq_ctx_new(&ctx, 0, 0, "auto", &err), TOQUE_OK);
    assert_int_equal(ctx->int8, ctx->k->has_int8);
    assert_int_equal(ctx->compute, ctx->k->has_bf16 ? TQ_COMPUTE_BF16 : TQ_COMPUTE_F32);
    tq_ctx_free(ctx);
    tq_ctx_free(NULL);
}

static void rows_are_selected_by_name(void **unused) {
    (void)unused;
    const tq_kernels *k, *got;
    toque_error err;
    bool usable;
    const tq_kernels *best = NULL;
    int n = 0;
    for (; (k = tq_kernels_row(n, &usable)); n++) {
        assert_int_equal(tq_kernels_select(&got, k->isa, &err), usable ? TOQUE_OK : TOQUE_EINVAL);
        assert_ptr_equal(got, usable ? k : NULL);
        if (usable) best = k;
    }
    assert_true(n >= 1);
    assert_int_equal(tq_kernels_select(&got, NULL, &err), TOQUE_OK);
    assert_ptr_equal(got, best);
    assert_int_equal(tq_kernels_select(&got, "sse9", &err), TOQUE_EINVAL);
    assert_non_null(strstr(err.message, "ref"));
    assert_null(tq_type_get(TQ_TYPE_END));
    assert_null(tq_type_get(4));
    assert_null(tq_type_get(UINT32_MAX));
    assert_int_equal(tq_type_row_bytes(TQ_Q6_K, 512), 420);
    assert_string_equal(tq_type_get(TQ_Q4_1)->name, "Q4_1");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_worker_runs_each_region_once),
        cmocka_unit_test(barriers_order_phases),
        cmocka_unit_test(sleepers_wake),
        cmocka_unit_test(shares_cover_everything_once),
        cmocka_unit_test(every_failed_allocation_is_returned),
        cmocka_unit_test(context_resolves_compute),
        cmocka_unit_test(rows_are_selected_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
