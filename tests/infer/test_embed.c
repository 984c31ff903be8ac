/* Embeddings of the real model (all-MiniLM-L6-v2, folder in TOQUE_TEST_EMBEDDER): sentence-transformers' values
 * (data/embeddings.txt, made by tools/reference/embeddings.py), and what must not change them. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "infer/embed.h"

enum { MAX_TEXTS = 16, FIRST = 8, DIM = 384 };

typedef struct fixture {
    tq_ctx *ctx;
    tq_model *model;
    tq_embedder *e;
    toque_error err;
} fixture;

static const char *expected_path;
static char lines[MAX_TEXTS][2048];
static float expected[MAX_TEXTS][FIRST];
static tq_string texts[MAX_TEXTS];
static size_t n_texts;

#define OK(f, call)                                                                                                    \
    do {                                                                                                               \
        if ((call) != TOQUE_OK) fail_msg("%s", (f)->err.message);                                                      \
    } while (0)

static int read_expected(void **state) {
    (void)state;
    FILE *f = fopen(expected_path, "r");
    for (; f && n_texts < MAX_TEXTS && fgets(lines[n_texts], sizeof lines[0], f); n_texts++) {
        char *at = lines[n_texts];
        for (int i = 0; i < FIRST; i++) expected[n_texts][i] = strtof(at, &at);
        at++;
        texts[n_texts] = (tq_string){at, strcspn(at, "\n")};
    }
    if (f) fclose(f);
    return n_texts == 9 ? 0 : -1;
}

static void begin(fixture *f, int threads, const char *compute) {
    memset(f, 0, sizeof *f);
    const char *path = getenv("TOQUE_TEST_EMBEDDER");
    if (!path || !*path) fail_msg("TOQUE_TEST_EMBEDDER must name the folder that script/fetch-embedder prints");
    OK(f, tq_ctx_new(&f->ctx, threads, 0, compute, &f->err));
    OK(f, tq_model_open(&f->model, f->ctx, path, &f->err));
    OK(f, tq_embedder_new(&f->e, f->model, NULL, &f->err));
    assert_int_equal(tq_embedder_dim(f->e), DIM);
    assert_int_equal(tq_embedder_max_tokens(f->e), 256);
}

static void end(fixture *f) {
    tq_embedder_free(f->e);
    tq_model_close(f->model);
    tq_ctx_free(f->ctx);
}

static void values_are_those_of_sentence_transformers(void **state) {
    (void)state;
    static float out[MAX_TEXTS][DIM];
    static const char *const computes[] = {"f32", "bf16"};
    static const float near[] = {2e-6f, 4e-3f};
    bool has_bf16 = false; /* other CPUs refuse to be asked for it */
    for (int c = 0; c < (has_bf16 ? 2 : 1); c++) {
        fixture f;
        begin(&f, 0, computes[c]);
        has_bf16 = f.ctx->k->has_bf16;
        tq_embed_stats stats = {0};
        OK(&f, tq_embed(f.e, texts, n_texts, false, out[0], &stats, &f.err));
        assert_int_equal(stats.truncated, 0);
        float worst = 0;
        for (size_t i = 0; i < n_texts; i++) {
            for (int k = 0; k < FIRST; k++) worst = fmaxf(worst, fabsf(out[i][k] - expected[i][k]));
            assert_true(fabsf(f.ctx->k->sum_squares(out[i], DIM) - 1) < 1e-5f);
        }
        print_message("%s: largest difference of a value: %.2g\n", computes[c], (double)worst);
        assert_true(worst < near[c]);
        end(&f);
    }
}

static void company_and_threads_change_no_bit(void **state) {
    (void)state;
    static float together[MAX_TEXTS][DIM], alone[DIM];
    fixture f;
    begin(&f, 3, "f32");
    OK(&f, tq_embed(f.e, texts, n_texts, false, together[0], NULL, &f.err));
    end(&f);
    begin(&f, 1, "f32");
    for (size_t i = 0; i < n_texts; i++) {
        OK(&f, tq_embed(f.e, &texts[i], 1, false, alone, NULL, &f.err));
        assert_memory_equal(together[i], alone, sizeof alone);
    }
    end(&f);
}

static void long_texts_are_refused_or_cut_and_counted(void **state) {
    (void)state;
    static char words[4096];
    static float out[3][DIM];
    fixture f;
    begin(&f, 0, "f32");
    for (int i = 0; i < 400; i++) memcpy(words + 5 * i, "word ", 5);
    tq_string all[] = {{"short", 5}, {words, 2000}, {words, 5 * 254}};
    assert_int_equal(tq_embed(f.e, all, 3, false, out[0], NULL, &f.err), TOQUE_ELIMIT);
    assert_non_null(strstr(f.err.message, "text 2 has 402 tokens"));
    assert_non_null(strstr(f.err.message, "256"));
    tq_embed_stats stats = {0};
    OK(&f, tq_embed(f.e, all, 3, true, out[0], &stats, &f.err));
    assert_int_equal(stats.truncated, 1);
    assert_int_equal(stats.tokens, 3 + 256 + 256);
    assert_memory_equal(out[1], out[2], sizeof out[1]); /* the beginning, with [CLS] and [SEP] around it */
    tq_string bad = {"a\xff", 2};
    assert_int_equal(tq_embed(f.e, &bad, 1, true, out[0], NULL, &f.err), TOQUE_EINVAL);
    end(&f);
}

static void control_tokens_are_plain_text(void **state) {
    (void)state;
    static float out[2][DIM];
    fixture f;
    begin(&f, 0, "f32");
    tq_string two[] = {{"a [SEP] b", 9}, {"a b", 3}};
    tq_embed_stats stats = {0};
    OK(&f, tq_embed(f.e, two, 2, false, out[0], &stats, &f.err));
    assert_true(stats.tokens > 4 + 5); /* "[", "sep" in pieces and "]" */
    end(&f);
}

static void an_encoder_does_not_generate(void **state) {
    (void)state;
    fixture f;
    tq_kv *kv;
    begin(&f, 0, "f32");
    assert_int_equal(tq_kv_new(&kv, f.model, 10, &f.err), TOQUE_EUNSUPPORTED);
    assert_non_null(strstr(f.err.message, "encoder"));
    end(&f);
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    expected_path = argv[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_those_of_sentence_transformers),
        cmocka_unit_test(company_and_threads_change_no_bit),
        cmocka_unit_test(long_texts_are_refused_or_cut_and_counted),
        cmocka_unit_test(control_tokens_are_plain_text),
        cmocka_unit_test(an_encoder_does_not_generate),
    };
    return cmocka_run_group_tests(tests, read_expected, NULL);
}
