/* Tokenizing on one core: documents, separated by NUL bytes, are made into ids again and again for a while. Prints one
 * JSON object; `tokens` lets script/bench see whether another tokenizer made the same number.
 * Usage: bench_tokenize MODEL DOCUMENTS */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "text/tokenizer.h"

static toque_status tokenize_all(const tq_tokenizer *tok, const char *text, size_t n, tq_tokens *list, size_t *tokens,
                                 toque_error *err) {
    *tokens = 0;
    for (size_t at = 0, len; at < n; at += len + 1) {
        const char *end = memchr(text + at, 0, n - at);
        len = end ? (size_t)(end - (text + at)) : n - at;
        list->len = 0;
        TQ_TRY(tq_tokenize(tok, text + at, len, false, true, list, err));
        *tokens += list->len;
    }
    return TOQUE_OK;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fputs("usage: bench_tokenize MODEL DOCUMENTS\n", stderr);
        return 2;
    }
    tq_mem mem;
    tq_mem_init(&mem, 0);
    tq_gguf *gguf = NULL;
    tq_tokenizer *tok = NULL;
    char *text = NULL;
    size_t n, tokens;
    tq_tokens list = {.mem = &mem};
    toque_error err;
    toque_status status;
    TQ_GO(tq_gguf_open(&gguf, &mem, argv[1], &err));
    TQ_GO(tq_tokenizer_from_gguf(&tok, &mem, gguf, &err));
    TQ_GO(tq_read_file(&text, &n, &mem, argv[2], (size_t)1 << 30, &err));
    double begin = tq_now(), least = 1e30;
    for (int i = 0; i < 3 || tq_now() - begin < 1; i++) {
        double start = tq_now(), seconds;
        TQ_GO(tokenize_all(tok, text, n, &list, &tokens, &err));
        seconds = tq_now() - start;
        least = seconds < least ? seconds : least;
    }
    printf("{\"mb_per_second\": %.4f, \"tokens\": %zu, \"bytes\": %zu}\n", 1e-6 * (double)n / least, tokens, n);
done:
    if (status != TOQUE_OK) fprintf(stderr, "bench_tokenize: %s\n", err.message);
    tq_tokens_clear(&list);
    tq_free(&mem, text);
    tq_tokenizer_free(tok);
    tq_gguf_close(gguf);
    return status != TOQUE_OK;
}
