/* Choices: continuations over a shared trunk get the sums that tq_score gives to the whole sequences, whatever stood in
 * the trunk before, however many there are, and with adapters; limits, cancellation and a lack of memory. */
#include "small.h"

#include "infer/choices.h"
#include "model/adapter.h"

enum { MOST = 70, LONGEST = 120 };

/* n sequences with the same first `shared` tokens; from there on each goes its own way, and those are its targets. */
typedef struct family {
    tq_token tokens[MOST][LONGEST];
    uint8_t target[MOST][LONGEST];
    tq_score_item items[MOST];
    double want[MOST];
    int n;
} family;

static void make(family *f, int n, int shared, uint64_t seed, const tq_hats *hats) {
    f->n = n;
    for (int i = 0; i < n; i++) {
        int own = 1 + (i * 7) % 11; /* from one token on, so that some end with the trunk's own row */
        small_tokens(f->tokens[i], shared, seed);
        small_tokens(f->tokens[i] + shared, own + 2, seed * 1000 + (uint64_t)i);
        f->tokens[i][shared] = i; /* they part here at the latest */
        memset(f->target[i], 0, sizeof f->target[i]);
        memset(f->target[i] + shared, 1, (size_t)own);
        if (own > 3) f->target[i][shared + 1] = 0; /* not every token of an answer need be a target */
        f->items[i] =
            (tq_score_item){.tokens = f->tokens[i], .target = f->target[i], .n = shared + own + 2, .hats = hats};
    }
}

static void compare(small *s, family *f, tq_chooser *chooser, tq_scorer *scorer) {
    int counts[MOST];
    OK(s, tq_score(scorer, f->items, (size_t)f->n, &s->err));
    for (int i = 0; i < f->n; i++) {
        f->want[i] = f->items[i].sum;
        counts[i] = f->items[i].n_targets;
        f->items[i].sum = NAN;
    }
    OK(s, tq_choose(chooser, f->items, (size_t)f->n, &s->err));
    for (int i = 0; i < f->n; i++) {
        assert_int_equal(f->items[i].n_targets, counts[i]);
        if (!(fabs(f->items[i].sum - f->want[i]) <= 2e-5 * fabs(f->want[i])))
            fail_msg("continuation %d: %.9g, expected %.9g", i, f->items[i].sum, f->want[i]);
    }
}

static void sums_are_those_of_whole_sequences(void **state) {
    small *s = *state;
    static family f;
    tq_chooser *chooser;
    tq_scorer *scorer;
    OK(s, tq_chooser_new(&chooser, s->model, 0, &s->err));
    OK(s, tq_scorer_new(&scorer, s->model, 0, &s->err));
    static const struct {
        int n, shared;
        uint64_t seed;
    } cases[] = {{2, 1, 1}, {5, 40, 2}, {5, 60, 2}, {5, 40, 2}, {MOST, 33, 3}, {3, 100, 4}, {3, 5, 4}, {1, 20, 5}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) { /* the same seed: the trunk is grown, kept or cut */
        make(&f, cases[i].n, cases[i].shared, cases[i].seed, NULL);
        compare(s, &f, chooser, scorer);
    }
    tq_scorer_free(scorer);
    tq_chooser_free(chooser);
}

static void a_trunk_is_not_shared_between_adapters(void **state) {
    small *s = *state;
    static family f;
    tq_adapter_options o = {.kind = "lora", .rank = 4, .alpha = 64, .targets = "all", .seed = 1};
    tq_adapter *a;
    OK(s, tq_adapter_new(&a, s->model, &o, &s->err));
    for (size_t i = 0; i < a->n; i++) a->values[i] = 0.05f * (float)((int)(i % 7) - 3);
    tq_hat item = tq_adapter_hat(a, 1);
    tq_hats hats = {.items = &item, .n = 1};
    tq_chooser *chooser;
    tq_scorer *scorer;
    OK(s, tq_chooser_new(&chooser, s->model, 4, &s->err));
    OK(s, tq_scorer_new(&scorer, s->model, 4, &s->err));
    double base = 0;
    for (int i = 0; i < 4; i++) { /* the same tokens, by turns with and without */
        make(&f, 4, 30, 9, i % 2 ? &hats : NULL);
        compare(s, &f, chooser, scorer);
        if (i == 0) base = f.want[0];
        if (i == 1) assert_true(fabs(f.want[0] - base) > 1e-3);
    }
    tq_scorer_free(scorer);
    tq_chooser_free(chooser);
    tq_adapter_free(a);
}

static void wrong_input_is_refused(void **state) {
    small *s = *state;
    static family f;
    tq_chooser *chooser;
    OK(s, tq_chooser_new(&chooser, s->model, 0, &s->err));
    make(&f, 2, 10, 6, NULL);
    f.tokens[1][0] = (f.tokens[0][0] + 1) % 256;
    assert_int_equal(tq_choose(chooser, f.items, 2, &s->err), TOQUE_EINVAL);
    make(&f, 2, 10, 6, NULL);
    static tq_token long_one[257];
    f.items[1].tokens = long_one;
    f.items[1].n = 257; /* the model's context is 256 */
    memcpy(long_one, f.tokens[0], 10 * sizeof *long_one);
    static uint8_t late[257];
    late[256] = 1;
    f.items[1].target = late;
    assert_int_equal(tq_choose(chooser, f.items, 2, &s->err), TOQUE_ELIMIT);
    assert_non_null(strstr(s->err.message, "257 tokens; this model's context is 256"));
    make(&f, 2, 10, 6, NULL);
    atomic_store(&s->ctx->canceled, true);
    assert_int_equal(tq_choose(chooser, f.items, 2, &s->err), TOQUE_ECANCELED);
    atomic_store(&s->ctx->canceled, false);
    tq_scorer *scorer;
    OK(s, tq_scorer_new(&scorer, s->model, 0, &s->err));
    compare(s, &f, chooser, scorer); /* nothing is left over from the failures */
    tq_scorer_free(scorer);
    tq_chooser_free(chooser);
}

static void no_memory_is_returned(void **state) {
    small *s = *state;
    static family f;
    tq_mem *mem = &s->ctx->mem;
    size_t before = mem->used;
    int failures = 0;
    for (unsigned n = 1;; n++) {
        tq_chooser *chooser = NULL;
        make(&f, 40, 12, 8, NULL);
        mem->fail_at = mem->calls + n;
        toque_status status = tq_chooser_new(&chooser, s->model, 0, &s->err);
        if (status == TOQUE_OK) status = tq_choose(chooser, f.items, 40, &s->err);
        mem->fail_at = 0;
        tq_chooser_free(chooser);
        assert_int_equal(mem->used, before);
        if (status == TOQUE_OK) break;
        assert_int_equal(status, TOQUE_ENOMEM);
        failures++;
    }
    assert_true(failures >= 32); /* each branch has a cache */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_those_of_whole_sequences),
        cmocka_unit_test(a_trunk_is_not_shared_between_adapters),
        cmocka_unit_test(wrong_input_is_refused),
        cmocka_unit_test(no_memory_is_returned),
    };
    return cmocka_run_group_tests(tests, small_open, small_close);
}
