/* tokenizer.json: the ids of Hugging Face's tokenizers for every kind that is read (data/hf, made by
 * tools/reference/tokenizer_json.py), and damaged or unsupported files, which are errors that name the part. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "files/hf.h"
#include "text/tokenizer.h"

static tq_mem mem;
static char dir[] = "/tmp/toque-test-XXXXXX";
static char path[128];

static int make_folder(void **state) {
    (void)state;
    if (!mkdtemp(dir)) return -1;
    snprintf(path, sizeof path, "%s/tokenizer.json", dir);
    return 0;
}

static int remove_folder(void **state) {
    (void)state;
    unlink(path);
    return rmdir(dir);
}

static json_t *read_kind(const char *name) {
    char from[512];
    json_error_t where;
    snprintf(from, sizeof from, "%s/hf/%s.json", TEST_DATA, name);
    json_t *o = json_load_file(from, JSON_ALLOW_NUL, &where);
    if (!o) fail_msg("%s: %s", from, where.text);
    return o;
}

static toque_status open_folder(tq_gguf **gguf, tq_tokenizer **tok, toque_error *err) {
    *tok = NULL;
    toque_status status = tq_model_file_open(gguf, &mem, dir, TQ_MODEL_VOCABULARY, err);
    if (status == TOQUE_OK) status = tq_tokenizer_from_gguf(tok, &mem, *gguf, err);
    return status;
}

static size_t from_hex(const char *hex, char *out) {
    size_t n = strlen(hex) / 2;
    for (size_t i = 0; i < n; i++) {
        unsigned byte;
        assert_int_equal(sscanf(hex + 2 * i, "%2x", &byte), 1);
        out[i] = (char)byte;
    }
    return n;
}

/* One line of cases.txt; false if it differs. */
static bool agrees(const tq_tokenizer *tok, char *line) {
    static char text[4096];
    char *save, *hex = strtok_r(line, " \n", &save);
    size_t n = from_hex(hex, text), i = 0;
    toque_error err;
    tq_tokens list = {.mem = &mem, .want_offsets = true};
    if (tq_tokenize(tok, text, n, true, true, &list, &err) != TOQUE_OK) fail_msg("%s", err.message);
    bool same = true;
    for (char *id; (id = strtok_r(NULL, " \n", &save)); i++) same = same && i < list.len && list.ids[i] == atoi(id);
    same = same && i == list.len;
    for (size_t k = 0; k < list.len; k++) assert_true(list.start[k] <= list.end[k] && list.end[k] <= n);
    tq_tokens_clear(&list);
    return same;
}

static void ids_agree_with_hugging_face(void **state) {
    (void)state;
    char from[512], name[32] = "";
    static char line[1 << 14];
    snprintf(from, sizeof from, "%s/hf/cases.txt", TEST_DATA);
    FILE *f = fopen(from, "r");
    assert_non_null(f);
    tq_gguf *gguf = NULL;
    tq_tokenizer *tok = NULL;
    toque_error err;
    int cases = 0, wrong = 0;
    while (fgets(line, sizeof line, f)) {
        char *blank = strchr(line, ' ');
        *blank = 0;
        if (strcmp(name, line) != 0) {
            snprintf(name, sizeof name, "%s", line);
            tq_tokenizer_free(tok);
            tq_gguf_close(gguf);
            json_t *o = read_kind(name);
            assert_int_equal(json_dump_file(o, path, 0), 0);
            json_decref(o);
            if (open_folder(&gguf, &tok, &err) != TOQUE_OK) fail_msg("%s: %s", name, err.message);
        }
        char *hex = strdup(blank + 1);
        cases++;
        if (!agrees(tok, blank + 1)) print_message("%s differs: %s", name, hex), wrong++;
        free(hex);
    }
    fclose(f);
    tq_tokenizer_free(tok);
    tq_gguf_close(gguf);
    assert_int_equal(cases, 400);
    assert_int_equal(wrong, 0);
    assert_int_equal(atomic_load(&mem.used), 0);
}

/* The file of this kind with another value at a dotted path (numbers: array indices) fails with `expected` in the
 * message. value NULL: the key is removed. */
static void refuses(const char *name, const char *where, const char *value, const char *expected) {
    json_t *o = read_kind(name), *at = o;
    char copy[128], *save = NULL, *key, *next;
    snprintf(copy, sizeof copy, "%s", where);
    for (key = strtok_r(copy, "/", &save); (next = strtok_r(NULL, "/", &save)); key = next)
        at = json_is_array(at) ? json_array_get(at, (size_t)atoi(key)) : json_object_get(at, key);
    assert_non_null(at);
    json_t *v = value ? json_loads(value, JSON_DECODE_ANY, NULL) : NULL;
    assert_true(!value || v);
    if (json_is_array(at))
        json_array_set_new(at, (size_t)atoi(key), v);
    else if (v)
        json_object_set_new(at, key, v);
    else
        json_object_del(at, key);
    assert_int_equal(json_dump_file(o, path, 0), 0);
    json_decref(o);
    tq_gguf *gguf = NULL;
    tq_tokenizer *tok;
    toque_error err = {0};
    toque_status status = open_folder(&gguf, &tok, &err);
    if (status == TOQUE_OK) fail_msg("%s with %s = %s was accepted", name, where, value ? value : "(none)");
    if (!strstr(err.message, expected)) fail_msg("'%s' does not say '%s'", err.message, expected);
    tq_tokenizer_free(tok);
    tq_gguf_close(gguf);
    assert_int_equal(atomic_load(&mem.used), 0);
}

static void unsupported_parts_are_named(void **state) {
    (void)state;
    refuses("gpt2", "model/type", "\"Unigram\"", "Unigram");
    refuses("gpt2", "normalizer", "{\"type\":\"NFKC\"}", "NFKC");
    refuses("gpt2", "pre_tokenizer/add_prefix_space", "true", "add_prefix_space");
    refuses("gpt2", "pre_tokenizer", "{\"type\":\"Whitespace\"}", "Whitespace");
    refuses("gpt2", "pre_tokenizer", "null", "neither over bytes");
    refuses("gpt2", "model/dropout", "0.1", "dropout");
    refuses("gpt2", "model/end_of_word_suffix", "\"</w>\"", "end_of_word_suffix");
    refuses("gpt2", "added_tokens/0/lstrip", "true", "lstrip");
    refuses("gpt2", "post_processor", "{\"type\":\"Strange\"}", "Strange");
    refuses("qwen2", "pre_tokenizer/pretokenizers/0/pattern/Regex", "\"\\\\h+\"", "an escape at byte 0");
    refuses("qwen2", "pre_tokenizer/pretokenizers/0/pattern/Regex", "\"[a-z&&[aeiou]]\"", "&&");
    refuses("qwen2", "pre_tokenizer/pretokenizers/0/pattern/Regex", "\"(?<x>a)\"", "a group");
    refuses("qwen2", "pre_tokenizer/pretokenizers/0/pattern/Regex", "\"a(\"", "does not compile");
    refuses("qwen2", "pre_tokenizer/pretokenizers/0/behavior", "\"Removed\"", "Removed");
    refuses("llama2", "model/byte_fallback", "false", "byte_fallback");
    refuses("metafirst", "pre_tokenizer/split", "true", "split");
    refuses("bert", "normalizer/clean_text", "false", "clean_text");
    refuses("bert", "model/max_input_chars_per_word", "50", "max_input_chars_per_word");
    refuses("bert", "pre_tokenizer/type", "\"Whitespace\"", "Whitespace");
}

static void damaged_vocabularies_are_refused(void **state) {
    (void)state;
    refuses("gpt2", "model/vocab/a", "-1", "usable id");
    refuses("gpt2", "model/vocab/a", "1e30", "usable id");
    refuses("gpt2", "model/vocab/a", "0.5", "usable id");
    refuses("gpt2", "model/vocab/a", "3", "usable id");
    refuses("gpt2", "model/vocab/a", "9000000", "ids up to");
    refuses("gpt2", "model/vocab", "{}", "merge");
    refuses("gpt2", "model/vocab", "[]", "merge");
    refuses("gpt2", "model/merges/0", "\"ab\"", "merge");
    refuses("gpt2", "model/merges/0", "[\"a b\",\"c\"]", "merge 0");
    refuses("gpt2", "model/merges/0", "7", "merge 0");
    refuses("gpt2", "added_tokens/0/content", "7", "usable id");
    refuses("gpt2", "added_tokens/0/id", "5", "usable id");
    refuses("llama2", "model/vocab/<0x41>", NULL, "255 of 256");
    refuses("llama3", "post_processor/processors/1/special_tokens", "{}", "TemplateProcessing");
}

static void files_that_are_no_json_are_refused(void **state) {
    (void)state;
    static const char *const texts[] = {"", "[]", "{", "{\"model\":", "\xff\xfe", "{\"model\":{\"type\":\"BPE\"}}"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        fputs(texts[i], f);
        fclose(f);
        tq_gguf *gguf = NULL;
        tq_tokenizer *tok;
        toque_error err = {0};
        assert_int_not_equal(open_folder(&gguf, &tok, &err), TOQUE_OK);
        assert_non_null(strstr(err.message, "tokenizer.json"));
        assert_null(gguf);
        assert_int_equal(atomic_load(&mem.used), 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_agree_with_hugging_face),
        cmocka_unit_test(unsupported_parts_are_named),
        cmocka_unit_test(damaged_vocabularies_are_refused),
        cmocka_unit_test(files_that_are_no_json_are_refused),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
