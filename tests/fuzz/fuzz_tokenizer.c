/* Any bytes as a model's vocabulary and a text: two bytes with the text's length, the text, a GGUF file. Loading is an
 * error or gives a tokenizer that tokenizes the text with ordered offsets and decodes any token. */
#include "fuzz.h"
#include "text/tokenizer.h"

static void check_offsets(const tq_tokens *list, size_t n) {
    for (size_t i = 0; i < list->len; i++) {
        fuzz_require(list->start[i] <= list->end[i] && list->end[i] <= n);
        fuzz_require(i == 0 || list->start[i] >= list->start[i - 1]);
    }
}

static void use(const tq_tokenizer *tok, tq_mem *mem, const char *text, size_t n) {
    tq_tokens list = {.mem = mem, .want_offsets = true};
    tq_text_span spans[] = {{n / 2, true}, {n - n / 2, false}};
    toque_error err;
    tq_buf out;
    tq_detok d;
    tq_buf_init(&out, mem, 1 << 24);
    tq_detok_init(&d, tok, mem, true);
    if (tq_tokenize(tok, text, n, true, true, &list, &err) == TOQUE_OK) check_offsets(&list, n);
    list.len = 0;
    if (tq_tokenize_spans(tok, text, n, spans, 2, false, &list, &err) == TOQUE_OK) check_offsets(&list, n);
    for (size_t i = 0; i < list.len; i++) {
        fuzz_require(list.ids[i] >= 0 && list.ids[i] < tq_tokenizer_size(tok));
        tq_detok_feed(&d, list.ids[i], &out);
    }
    for (tq_token id = -1; id <= tq_tokenizer_size(tok) && id < 1000; id++) {
        tq_string s = tq_tokenizer_text(tok, id);
        tq_token found = tq_tokenizer_find(tok, s.data, s.len);
        fuzz_require(found == TQ_NO_TOKEN || found <= id);
        tq_detok_feed(&d, id, &out);
        (void)tq_tokenizer_is_end(tok, id);
    }
    tq_detok_finish(&d, &out);
    tq_detok_clear(&d);
    tq_buf_clear(&out);
    tq_tokens_clear(&list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    tq_mem mem = {0};
    tq_gguf *gguf = NULL;
    tq_tokenizer *tok = NULL;
    toque_error err;
    if (size < 2) return 0;
    size_t n = (size_t)data[0] | (size_t)data[1] << 8;
    if (n > size - 2) return 0;
    const uint8_t *file = data + 2 + n;
    if (tq_gguf_open_memory(&gguf, &mem, file, size - 2 - n, "fuzz", &err) == TOQUE_OK &&
        tq_tokenizer_from_gguf(&tok, &mem, gguf, &err) == TOQUE_OK)
        use(tok, &mem, (const char *)data + 2, n);
    tq_tokenizer_free(tok);
    tq_gguf_close(gguf);
    fuzz_check(&mem);
    return 0;
}
