/* Datasets: files to examples, counts, notes and the split. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tiny.h"
#include "train/dataset.h"

static char folder[64];
static tiny chat, base;

static const char chatml[] =
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

static int setup(void **state) {
    (void)state;
    static const char *const specials[] = {"<s>", "</s>", "<|im_start|>", "<|im_end|>", NULL};
    strcpy(folder, "/tmp/test_dataset.XXXXXX");
    if (!mkdtemp(folder)) return -1;
    return tiny_open(&chat, specials, "<s>", "<|im_end|>", false, chatml, strlen(chatml)) &&
                   tiny_open(&base, specials, "<s>", "</s>", true, NULL, 0)
               ? 0
               : -1;
}

static int teardown(void **state) {
    (void)state;
    tiny_close(&chat);
    tiny_close(&base);
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command) || chat.ctx.mem.used || base.ctx.mem.used;
}

static const char *put(const char *name, const char *text) {
    static char paths[4][160];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
    return path;
}

static toque_status load(tq_dataset *set, tiny *t, const char *a, const char *b, tq_data_options o, toque_error *err) {
    const char *paths[2] = {a, b};
    o.paths = paths;
    o.n_paths = b ? 2 : 1;
    return tq_dataset_load(set, &t->model, &o, err);
}

static char *text_of(const tiny *t, const tq_example *e, tq_buf *out) {
    tq_buf_reset(out);
    for (int i = 0; i < e->n; i++) {
        if (e->target[i] && !e->target[i - 1]) tq_buf_putc(out, '{');
        assert_true(tq_detokenize(t->model.tokenizer, e->tokens[i], i == 0, true, out));
        if (e->target[i] && (i + 1 == e->n || !e->target[i + 1])) tq_buf_putc(out, '}');
    }
    return out->data;
}

static void files_become_examples(void **state) {
    (void)state;
    tq_dataset set;
    toque_error err;
    tq_mem mem = {0};
    tq_buf text;
    tq_buf_init(&text, &mem, 10000);
    const char *a = put(
        "a.jsonl", "{\"prompt\":\"q\",\"completion\":\"a\",\"weight\":2}\n\n{\"prompt\":\"r\",\"completion\":\"b\"}\n");
    const char *b = put("b.txt", "some text");
    if (load(&set, &chat, a, b, (tq_data_options){0}, &err) != TOQUE_OK) fail_msg("%s", err.message);
    assert_int_equal(set.n, 3);
    assert_int_equal(set.n_rows, 3);
    assert_string_equal(text_of(&chat, &set.examples[0], &text),
                        "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n{a<|im_end|>}\n");
    assert_string_equal(text_of(&chat, &set.examples[2], &text), "s{ome text<|im_end|>}");
    assert_true(set.examples[0].weight == 2 && set.examples[1].weight == 1);
    assert_int_equal(set.examples[1].line, 3);
    assert_int_equal(set.examples[1].row, 1);
    assert_int_equal(set.examples[2].file, 1);
    assert_int_equal(set.examples[2].label, -1);
    assert_int_equal(set.n_targets, 2 + 2 + 9);
    /* SHA-256 of the two files' bytes one after the other */
    assert_string_equal(set.hash, "81abec5da1c994e14b175e3467f57eee1b730c1630d878958bcc688b732f8730");
    assert_non_null(strstr(set.notes.data, "a.jsonl: JSON lines, UTF-8, prompt rows, 2 rows\n"));
    assert_non_null(strstr(set.notes.data, "b.txt: one text, UTF-8, 1 row\n"));
    tq_buf_clear(&text);
    tq_dataset_clear(&set);
}

/* A target's weight is that of the turn that it stands in. */
static void turns_weigh_their_tokens(void **state) {
    (void)state;
    tq_dataset set;
    toque_error err;
    const char *a =
        put("turns.jsonl", "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},"
                           "{\"role\":\"assistant\",\"content\":\"ab\",\"weight\":0.25},"
                           "{\"role\":\"user\",\"content\":\"r\"},{\"role\":\"assistant\",\"content\":\"b\"}]}\n"
                           "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},"
                           "{\"role\":\"assistant\",\"content\":\"a\"}]}\n");
    if (load(&set, &chat, a, NULL, (tq_data_options){0}, &err) != TOQUE_OK) fail_msg("%s", err.message);
    const tq_example *e = &set.examples[0];
    assert_non_null(e->token_weight);
    assert_null(set.examples[1].token_weight);
    int runs = 0;
    for (int i = 1; i < e->n; i++) {
        runs += e->target[i] && !e->target[i - 1];
        if (e->target[i]) assert_true(e->token_weight[i] == (runs == 1 ? 0.25f : 1));
    }
    assert_int_equal(runs, 2);
    tq_dataset_clear(&set);
    assert_int_equal(load(&set, &chat, a, NULL, (tq_data_options){.train_on = TQ_TRAIN_ON_ALL}, &err), TOQUE_EINVAL);
    assert_non_null(strstr(err.message, "train_on all learns all tokens alike"));
}

static void alpaca_rows_put_their_input_below_the_instruction(void **state) {
    (void)state;
    tq_dataset set;
    toque_error err;
    tq_mem mem = {0};
    tq_buf text;
    tq_buf_init(&text, &mem, 10000);
    const char *a = put("alpaca.json", "[{\"instruction\":\"sum up\",\"input\":\"a b\",\"output\":\"c\"},"
                                       "{\"instruction\":\"say a\",\"input\":\"\",\"output\":\"a\"},"
                                       "{\"instruction\":\"say b\",\"output\":\"b\"}]");
    if (load(&set, &chat, a, NULL, (tq_data_options){0}, &err) != TOQUE_OK) fail_msg("%s", err.message);
    assert_int_equal(set.n, 3);
    assert_string_equal(text_of(&chat, &set.examples[0], &text),
                        "<|im_start|>user\nsum up\n\na b<|im_end|>\n<|im_start|>assistant\n{c<|im_end|>}\n");
    assert_string_equal(text_of(&chat, &set.examples[1], &text),
                        "<|im_start|>user\nsay a<|im_end|>\n<|im_start|>assistant\n{a<|im_end|>}\n");
    assert_string_equal(text_of(&chat, &set.examples[2], &text),
                        "<|im_start|>user\nsay b<|im_end|>\n<|im_start|>assistant\n{b<|im_end|>}\n");
    tq_buf_clear(&text);
    tq_dataset_clear(&set);
}

static void models_without_a_template_get_the_texts_joined(void **state) {
    (void)state;
    tq_dataset set;
    toque_error err;
    tq_mem mem = {0};
    tq_buf text;
    tq_buf_init(&text, &mem, 10000);
    const char *a = put("a.jsonl", "{\"prompt\":\"q: \",\"completion\":\"a\"}\n");
    assert_int_equal(load(&set, &base, a, NULL, (tq_data_options){0}, &err), TOQUE_OK);
    assert_string_equal(text_of(&base, &set.examples[0], &text), "<s>q: {a</s>}");
    tq_dataset_clear(&set);
    assert_int_equal(load(&set, &base, a, NULL, (tq_data_options){.system = "s"}, &err), TOQUE_EINVAL);
    assert_non_null(strstr(err.message, "a.jsonl: line 1: the model has no chat template"));
    a = put("a.jsonl",
            "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"b\"}]}\n");
    toque_status status = load(&set, &base, a, NULL, (tq_data_options){0}, &err);
    assert_int_equal(status, TOQUE_ENOTFOUND);
    tq_buf_clear(&text);
}

static void long_rows_are_dropped_and_counted(void **state) {
    (void)state;
    tq_dataset set;
    toque_error err;
    const char *a = put("a.jsonl", "{\"text\":\"0123456789\"}\n{\"text\":\"0123\"}\n");
    assert_int_equal(load(&set, &chat, a, NULL, (tq_data_options){.max_length = 8}, &err), TOQUE_OK);
    assert_int_equal(set.n, 1);
    assert_int_equal(set.n_rows, 2);
    assert_int_equal(set.n_too_long, 1);
    assert_int_equal(set.longest, 11);
    assert_int_equal(set.examples[0].row, 1);
    tq_dataset_clear(&set);
    assert_int_equal(load(&set, &chat, a, NULL, (tq_data_options){.max_length = 4}, &err), TOQUE_EFORMAT);
    assert_non_null(strstr(err.message, "all 2 have more than max_length 4 tokens (the longest has 11)"));
}

static void rows_that_teach_nothing_are_errors(void **state) {
    (void)state;
    tq_dataset set;
    toque_error err;
    const char *a = put("a.jsonl", "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}\n");
    assert_int_equal(load(&set, &chat, a, NULL, (tq_data_options){0}, &err), TOQUE_EFORMAT);
    assert_non_null(strstr(err.message, "a.jsonl: line 1: there is nothing to learn"));
    assert_int_equal(load(&set, &chat, a, NULL, (tq_data_options){.allow_no_target = true}, &err), TOQUE_OK);
    assert_int_equal(set.examples[0].n_targets, 0);
    tq_dataset_clear(&set);
    assert_int_equal(load(&set, &chat, "/nowhere/x.jsonl", NULL, (tq_data_options){0}, &err), TOQUE_ENOTFOUND);
}

/* 100 rows of label x, 20 of y, 3 of z. */
static const char *labelled(void) {
    static char text[8000];
    size_t n = (size_t)sprintf(text, "t,l\n");
    for (int i = 0; i < 123; i++)
        n += (size_t)sprintf(text + n, "row %d,%s\n", i, i % 6 == 5 ? "y" : i > 119 ? "z" : "x");
    return put("l.csv", text);
}

static void the_split_is_stratified_stable_and_complete(void **state) {
    (void)state;
    toque_error err;
    const tq_data_options o = {.text_column = "t", .label_column = "l"};
    uint32_t chosen[2][64];
    size_t counts[2] = {0};
    for (int round = 0; round < 3; round++) {
        tq_dataset set, held;
        assert_int_equal(load(&set, &chat, labelled(), NULL, o, &err), TOQUE_OK);
        assert_int_equal(set.n_labels, 3);
        assert_string_equal(set.labels[0], "x");
        size_t tokens = set.n_tokens, targets = set.n_targets;
        assert_int_equal(tq_dataset_split(&set, &held, 0.2, 200, round < 2 ? 7 : 8, &err), TOQUE_OK);
        assert_int_equal(held.n, 25); /* 0.2 of 123 is 24.6 */
        assert_int_equal(set.n + held.n, 123);
        assert_int_equal(set.n_tokens + held.n_tokens, tokens);
        assert_int_equal(set.n_targets + held.n_targets, targets);
        size_t per[3] = {0}, all[3] = {0};
        bool seen[123] = {false};
        for (size_t i = 0; i < held.n; i++) {
            per[held.examples[i].label]++;
            all[held.examples[i].label]++;
            seen[held.examples[i].row] = true;
            if (i) assert_true(held.examples[i].row > held.examples[i - 1].row);
        }
        for (size_t i = 0; i < set.n; i++) {
            all[set.examples[i].label]++;
            assert_false(seen[set.examples[i].row]);
            seen[set.examples[i].row] = true;
            if (i) assert_true(set.examples[i].row > set.examples[i - 1].row);
        }
        for (int l = 0; l < 3; l++) /* each within one of its share */
            assert_true((double)per[l] > 0.2 * (double)all[l] - 1 && (double)per[l] < 0.2 * (double)all[l] + 1);
        if (round < 2) {
            counts[round] = held.n;
            for (size_t i = 0; i < held.n; i++) chosen[round][i] = held.examples[i].row;
        } else {
            bool same = true;
            for (size_t i = 0; i < held.n; i++) same = same && chosen[0][i] == held.examples[i].row;
            assert_false(same);
        }
        tq_dataset_clear(&held);
        tq_dataset_clear(&set);
    }
    assert_int_equal(counts[0], counts[1]);
    assert_memory_equal(chosen[0], chosen[1], counts[0] * sizeof chosen[0][0]);
}

static void the_split_has_bounds(void **state) {
    (void)state;
    toque_error err;
    static const struct {
        double share;
        size_t most, held;
    } cases[] = {{0, 10, 0}, {0.9, 5, 5}, {0.999, 1000, 122}, {0.001, 10, 0}};
    for (size_t i = 0; i < 4; i++) {
        tq_dataset set, held;
        assert_int_equal(
            load(&set, &chat, labelled(), NULL, (tq_data_options){.text_column = "t", .label_column = "l"}, &err),
            TOQUE_OK);
        assert_int_equal(tq_dataset_split(&set, &held, cases[i].share, cases[i].most, 1, &err), TOQUE_OK);
        assert_int_equal(held.n, cases[i].held);
        tq_dataset_clear(&held);
        assert_int_equal(tq_dataset_split(&set, &held, 1.0, 5, 1, &err), TOQUE_EINVAL);
        tq_dataset_clear(&set);
    }
}

static void no_memory_is_an_error_and_leaks_nothing(void **state) {
    (void)state;
    const char *a = put("a.jsonl", "{\"prompt\":\"q\",\"completion\":\"a\"}\n");
    const char *b = put("b.csv", "t,l\nx,y\nz,w\n");
    const char *c = put("pairs.jsonl", "{\"query\":\"a\",\"passage\":\"b\",\"negative\":[\"c\",\"ab\"]}\n");
    const char *d = put("spans.jsonl", "{\"text\":\"a b\",\"spans\":[{\"start\":0,\"end\":1,\"label\":\"x\"}]}\n");
    const tq_data_options tags = {.fields = true, .head = TQ_HEAD_TAGS, .text_column = "text", .label_column = "spans"};
    bool done = false;
    size_t before = chat.ctx.mem.used;
    for (unsigned long long n = 1; !done; n++) {
        tq_dataset set, held;
        toque_error err;
        chat.ctx.mem.fail_at = chat.ctx.mem.calls + n;
        toque_status status = load(&set, &chat, a, NULL, (tq_data_options){0}, &err);
        if (status == TOQUE_OK) {
            tq_dataset_clear(&set);
            status = load(&set, &chat, c, NULL, (tq_data_options){.fields = true, .pairs = true}, &err);
        }
        if (status == TOQUE_OK) {
            assert_int_equal(set.examples[0].n_parts, 4);
            tq_dataset_clear(&set);
            status = load(&set, &chat, d, NULL, tags, &err);
        }
        if (status == TOQUE_OK) {
            assert_int_equal(set.n_labels, 3);
            tq_dataset_clear(&set);
            status = load(&set, &chat, b, NULL, (tq_data_options){.text_column = "t", .label_column = "l"}, &err);
        }
        if (status == TOQUE_OK) {
            status = tq_dataset_split(&set, &held, 0.5, 10, 1, &err);
            if (status == TOQUE_OK) {
                assert_int_equal(held.n, 1);
                tq_dataset_clear(&held);
            }
            tq_dataset_clear(&set);
        }
        done = status == TOQUE_OK;
        if (!done) assert_int_equal(status, TOQUE_ENOMEM);
        assert_int_equal(chat.ctx.mem.used, before);
        assert_true(n < 100000);
    }
    chat.ctx.mem.fail_at = 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_become_examples),
        cmocka_unit_test(turns_weigh_their_tokens),
        cmocka_unit_test(alpaca_rows_put_their_input_below_the_instruction),
        cmocka_unit_test(models_without_a_template_get_the_texts_joined),
        cmocka_unit_test(long_rows_are_dropped_and_counted),
        cmocka_unit_test(rows_that_teach_nothing_are_errors),
        cmocka_unit_test(the_split_is_stratified_stable_and_complete),
        cmocka_unit_test(the_split_has_bounds),
        cmocka_unit_test(no_memory_is_an_error_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
