/* Any bytes as a Hugging Face folder: two bytes with config.json's length, config.json, tokenizer.json. Opening is an
 * error or gives a tokenizer that tokenizes a text with ordered offsets. There are no tensors, so that a whole model is
 * always an error. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "files/hf.h"
#include "fuzz.h"
#include "text/tokenizer.h"

static char dir[] = "/tmp/toque-fuzz-XXXXXX";
static char config[64], tokenizer[64];

static void remove_folder(void) {
    unlink(config);
    unlink(tokenizer);
    rmdir(dir);
}

static void put(const char *path, const uint8_t *data, size_t n) {
    FILE *f = fopen(path, "wb");
    fuzz_require(f && fwrite(data, 1, n, f) == n && fclose(f) == 0);
}

static void use(const tq_tokenizer *tok, tq_mem *mem) {
    static const char text[] =
        " The caf\xC3\xA9 e\xCC\x81 12345's  x\n\n\t<|end|>[SEP] \xE6\x9D\xB1\xE4\xBA\xAC \xFF\xF0\x9F";
    size_t n = sizeof text - 1;
    tq_tokens list = {.mem = mem, .want_offsets = true};
    toque_error err;
    if (tq_tokenize(tok, text, n, true, true, &list, &err) == TOQUE_OK)
        for (size_t i = 0; i < list.len; i++) {
            fuzz_require(list.ids[i] >= 0 && list.ids[i] < tq_tokenizer_size(tok));
            fuzz_require(list.start[i] <= list.end[i] && list.end[i] <= n);
            fuzz_require(i == 0 || list.start[i] >= list.start[i - 1]);
        }
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
    if (!config[0]) {
        fuzz_require(mkdtemp(dir) != NULL);
        snprintf(config, sizeof config, "%s/config.json", dir);
        snprintf(tokenizer, sizeof tokenizer, "%s/tokenizer.json", dir);
        atexit(remove_folder);
    }
    put(config, data + 2, n);
    put(tokenizer, data + 2 + n, size - 2 - n);
    fuzz_require(tq_model_file_open(&gguf, &mem, dir, TQ_MODEL_WHOLE, &err) != TOQUE_OK && !gguf);
    if (tq_model_file_open(&gguf, &mem, dir, TQ_MODEL_VOCABULARY, &err) == TOQUE_OK &&
        tq_tokenizer_from_gguf(&tok, &mem, gguf, &err) == TOQUE_OK)
        use(tok, &mem);
    tq_tokenizer_free(tok);
    tq_gguf_close(gguf);
    fuzz_check(&mem);
    return 0;
}
