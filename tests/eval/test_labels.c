/* Labels: how they are given, that a label's log-probability is what scoring the row with that answer gives, and the
 * likeliest one's share. */
#include "../infer/small.h"

#include "eval/labels.h"
#include "train/mask.h"

static tq_mem mem;

static toque_status read_labels(tq_labels *l, const char *text, const char *want, toque_error *err) {
    char all[400] = "";
    toque_status status = tq_labels_read(l, &mem, text, err);
    for (size_t i = 0; status == TOQUE_OK && i < l->n; i++) {
        strcat(all, l->items[i]);
        strcat(all, "|");
    }
    if (want) assert_string_equal(all, want);
    return status;
}

static void labels_come_from_a_list_or_a_file(void **state) {
    small *s = *state;
    tq_labels l;
    char path[128];
    OK(s, read_labels(&l, " yes ,no,,may be", "yes|no|may be|", &s->err));
    assert_int_equal(tq_labels_find(&l, "no"), 1);
    assert_int_equal(tq_labels_find(&l, "No"), -1);
    tq_labels_clear(&l);
    snprintf(path, sizeof path, "%s/labels", s->folder);
    static const char text[] = "a, b\r\n\n  c\t\nd";
    OK(s, tq_write_file(&mem, path, text, strlen(text), &s->err));
    OK(s, read_labels(&l, path, "a, b|c|d|", &s->err)); /* a comma in a file is part of a label */
    tq_labels_clear(&l);
    static const struct {
        const char *text, *words;
    } bad[] = {{"", "names 0: give at least two"},
               {"\n \n", "names 0"},
               {"one\n", "names 1"},
               {"x\ny\nx\n", "\"x\" twice"},
               {"x\nx \n", "\"x\" twice"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        OK(s, tq_write_file(&mem, path, bad[i].text, strlen(bad[i].text), &s->err));
        assert_int_equal(read_labels(&l, path, NULL, &s->err), TOQUE_EINVAL);
        if (!strstr(s->err.message, bad[i].words)) fail_msg("%s", s->err.message);
    }
    assert_int_equal(read_labels(&l, "a,a", NULL, &s->err), TOQUE_EINVAL);
    assert_int_equal(read_labels(&l, "alone", NULL, &s->err), TOQUE_EINVAL);
    assert_int_equal(mem.used, 0);
}

static void shares_are_computed_from_the_largest(void **state) {
    (void)state;
    double share;
    assert_int_equal(tq_labels_best((double[]){-2000, -2000 + log(3), -3000}, 3, &share), 1);
    assert_true(fabs(share - 0.75) < 1e-9);
    assert_int_equal(tq_labels_best((double[]){-1, -1}, 2, &share), 0);
    assert_true(share == 0.5);
}

/* The row with its answer, as training sees it, scored whole. */
typedef struct whole {
    small *s;
    tq_scorer *scorer;
    const tq_hats *hats;
    double sum;
    int calls;
} whole;

static toque_status score_whole(void *arg, const tq_masked *m, toque_error *err) {
    whole *w = arg;
    tq_score_item item = {.tokens = m->tokens, .target = m->target, .n = m->n, .hats = w->hats};
    TQ_TRY(tq_score(w->scorer, &item, 1, err));
    w->sum = item.sum;
    w->calls++;
    return TOQUE_OK;
}

static const char *const names[] = {"a", "ab", "abc", "b", "a longer label than the others"};
enum { NAMES = sizeof names / sizeof names[0] };

static void a_label_scores_as_the_row_with_that_answer(void **state) {
    small *s = *state;
    tq_labels l;
    tq_chooser *chooser;
    whole w = {.s = s};
    OK(s, read_labels(&l, "a,ab,abc,b,a longer label than the others", NULL, &s->err));
    OK(s, tq_chooser_new(&chooser, s->model, 0, &s->err));
    OK(s, tq_scorer_new(&w.scorer, s->model, 0, &s->err));
    static const char *const questions[] = {"[{\"role\":\"user\",\"content\":\"what is it?\"}]",
                                            "[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":"
                                            "\"x\"},{\"role\":\"assistant\",\"content\":\"b\"},{\"role\":\"user\","
                                            "\"content\":\"what is that?\"}]"};
    for (size_t q = 0; q < 2; q++) {
        json_t *messages = json_loads(questions[q], 0, NULL);
        double logp[NAMES];
        bool fits = false;
        OK(s, tq_labels_score(&l, s->model, chooser, NULL, messages, NULL, logp, &fits, &s->err));
        assert_true(fits);
        for (int i = 0; i < NAMES; i++) {
            json_t *all = json_copy(messages);
            json_array_append_new(all, json_pack("{s:s, s:s}", "role", "assistant", "content", names[i]));
            tq_mask_row row = {.messages = all, .train_on = TQ_TRAIN_ON_LAST};
            w.calls = 0;
            OK(s, tq_mask_messages(s->model, &row, score_whole, &w, &s->err));
            assert_int_equal(w.calls, 1);
            if (!(fabs(logp[i] - w.sum) <= 2e-5 * fabs(w.sum)))
                fail_msg("%s: %.9g, expected %.9g", names[i], logp[i], w.sum);
            json_decref(all);
        }
        json_decref(messages);
    }
    tq_scorer_free(w.scorer);
    tq_chooser_free(chooser);
    tq_labels_clear(&l);
    assert_int_equal(mem.used, 0);
}

static void a_row_over_the_context_does_not_fit(void **state) {
    small *s = *state;
    tq_labels l;
    tq_chooser *chooser;
    double logp[2] = {7, 7};
    bool fits = true;
    char text[301];
    memset(text, 'q', 300);
    text[300] = 0;
    json_t *messages = json_pack("[{s:s, s:s}]", "role", "user", "content", text);
    OK(s, read_labels(&l, "a,b", NULL, &s->err));
    OK(s, tq_chooser_new(&chooser, s->model, 0, &s->err));
    OK(s, tq_labels_score(&l, s->model, chooser, NULL, messages, NULL, logp, &fits, &s->err));
    assert_false(fits);
    assert_true(logp[0] == 7 && logp[1] == 7);
    json_decref(messages);
    tq_chooser_free(chooser);
    tq_labels_clear(&l);
}

static void no_memory_is_returned(void **state) {
    small *s = *state;
    tq_mem *m = &s->ctx->mem;
    size_t before = m->used;
    json_t *messages = json_pack("[{s:s, s:s}]", "role", "user", "content", "what?");
    int failures = 0;
    for (unsigned n = 1;; n++) {
        tq_labels l;
        tq_chooser *chooser = NULL;
        double logp[3];
        bool fits;
        m->fail_at = m->calls + n;
        toque_status status = tq_labels_read(&l, m, "a,bb,ccc", &s->err);
        if (status == TOQUE_OK) status = tq_chooser_new(&chooser, s->model, 0, &s->err);
        if (status == TOQUE_OK)
            status = tq_labels_score(&l, s->model, chooser, NULL, messages, NULL, logp, &fits, &s->err);
        m->fail_at = 0;
        tq_chooser_free(chooser);
        tq_labels_clear(&l);
        if (m->used != before) fail_msg("allocation %u: %zu bytes stay", n, m->used - before);
        if (status == TOQUE_OK) break;
        assert_int_equal(status, TOQUE_ENOMEM);
        failures++;
    }
    assert_true(failures > 20);
    json_decref(messages);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(labels_come_from_a_list_or_a_file),
        cmocka_unit_test(shares_are_computed_from_the_largest),
        cmocka_unit_test(a_label_scores_as_the_row_with_that_answer),
        cmocka_unit_test(a_row_over_the_context_does_not_fit),
        cmocka_unit_test(no_memory_is_returned),
    };
    return cmocka_run_group_tests(tests, small_open, small_close);
}
