/* A run of the small model from options to a finished folder, and whether two run folders hold the same bytes; for
 * tests of runs. */
#ifndef TEST_TUNING_H
#define TEST_TUNING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "small_model.h"
#include "train/tune.h"

static char model_path[128];
static int tuning_threads = 2;

/* Options as they come from a command line. */
typedef struct request {
    tq_mem mem;
    tq_option_set set;
    tq_recipe recipe;
    const tq_option *tables[2];
    void *targets[2];
} request;

static inline void ask(request *r, const char *data, const char *const *flags) {
    *r = (request){.tables = {tq_recipe_table, NULL}};
    r->targets[0] = &r->recipe;
    toque_error err;
    char *argv[40] = {(char *)(uintptr_t) "-m", model_path, (char *)(uintptr_t) "-d", (char *)(uintptr_t)data};
    int argc = 4;
    while (*flags) argv[argc++] = (char *)(uintptr_t)*flags++;
    tq_options_init(&r->set, &r->mem, r->tables, r->targets);
    if (tq_options_defaults(&r->set, &err) != TOQUE_OK || tq_options_parse(&r->set, argc, argv, &err) != TOQUE_OK)
        fail_msg("%s", err.message);
}

static const char *const usual[] = {"--epochs",
                                    "2",
                                    "--batch-size",
                                    "4",
                                    "--rank",
                                    "4",
                                    "--lr",
                                    "5e-3",
                                    "--save-every",
                                    "3",
                                    "--eval-every",
                                    "2",
                                    "--eval-split",
                                    "0.2",
                                    "--dropout",
                                    "0.1",
                                    "--neftune-alpha",
                                    "5",
                                    NULL};

typedef struct script { /* what happens in the middle of a run */
    tq_ctx *ctx;
    int64_t cancel_at, kill_at;
    bool other_machine;
    int steps;
} script;

static inline void on_step(void *arg, const tq_step_result *r) {
    script *s = arg;
    s->steps++;
    if (s->cancel_at && r->step >= s->cancel_at) atomic_store(&s->ctx->canceled, true);
    if (s->kill_at && r->step >= s->kill_at) (void)raise(SIGKILL);
}

/* One process's part of a run. */
static inline toque_status tune(const char *dir, tq_run_mode mode, const char *data, const char *const *flags,
                                script *s, tq_progress_state *at, toque_error *err) {
    request r;
    tq_ctx *ctx;
    ask(&r, data, flags);
    assert_int_equal(tq_ctx_new(&ctx, tuning_threads, 0, "f32", err), TOQUE_OK);
    tq_tune t;
    script none = {0};
    if (!s) s = &none;
    s->ctx = ctx;
    toque_status status = tq_tune_open(&t, ctx, &r.recipe, &r.set, err);
    if (status == TOQUE_OK) {
        tq_buf yaml;
        tq_buf_init(&yaml, &r.mem, 1 << 16);
        assert_true(tq_recipe_yaml(&r.recipe, &yaml));
        tq_tune_events events = {.arg = s, .step = on_step};
        t.other_machine = s->other_machine;
        status = tq_tune_start(&t, dir, mode, &yaml, err);
        if (status == TOQUE_OK) status = tq_tune_run(&t, &events, err);
        if (status == TOQUE_OK) status = tq_tune_write_card(&t, yaml.data, err);
        if (at) *at = t.at;
        tq_buf_clear(&yaml);
    }
    tq_tune_close(&t);
    assert_int_equal(r.mem.used > 0, true);
    tq_options_clear(&r.set);
    tq_ctx_free(ctx);
    return status;
}

static inline char *read_text(const char *dir, const char *name, size_t *n) {
    static tq_mem mem;
    char path[256], *data;
    toque_error err;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    if (tq_read_file(&data, n, &mem, path, 1 << 26, &err) != TOQUE_OK) fail_msg("%s", err.message);
    char *copy = malloc(*n + 1);
    memcpy(copy, data, *n + 1);
    tq_free(&mem, data);
    return copy;
}

/* Cuts every "tokens_per_second": ... out. */
static inline void without_rates(char *text) {
    char *to = text;
    for (const char *p = text; *p;) {
        if (strncmp(p, ", \"tokens_per_second\"", 21) == 0)
            p += strcspn(p, "}");
        else
            *to++ = *p++;
    }
    *to = 0;
}

static inline void assert_same_runs(const char *a, const char *b) {
    static const char *const names[] = {"adapter_model.safetensors", "adapter_config.json",
                                        "checkpoint/state.safetensors", "metrics.jsonl"};
    static const char *const own[] = {"model.safetensors", NULL, "checkpoint/state.safetensors", "metrics.jsonl"};
    char path[256];
    snprintf(path, sizeof path, "%s/model.safetensors", a);
    const char *const *list = tq_path_exists(path) ? own : names;
    for (int i = 0; i < 4; i++) {
        if (!list[i]) continue;
        size_t n, m;
        char *x = read_text(a, list[i], &n), *y = read_text(b, list[i], &m);
        if (i == 3) {
            without_rates(x);
            without_rates(y);
            assert_string_equal(x, y);
        } else if (n != m || memcmp(x, y, n)) {
            fail_msg("%s differs between %s and %s", list[i], a, b);
        }
        free(x);
        free(y);
    }
}

static inline void write_rows(const char *path, int n, int shift) {
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (int i = 0; i < n; i++)
        fprintf(f,
                "{\"messages\": [{\"role\": \"user\", \"content\": \"what is %d?\"}, {\"role\": \"assistant\", "
                "\"content\": "
                "\"it is %c%c%c\"}]}\n",
                i + shift, 'a' + (i + shift) % 7, 'a' + (i + shift) % 5, 'a' + (i + shift) % 3);
    assert_int_equal(fclose(f), 0);
}

#endif
