/* See tiny.h. The vocabulary goes through a GGUF file, as real ones do. */
#include "tiny.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* GPT-2's printable stand-in for a byte: itself where it is printable Latin-1, else U+0100 and up in order. */
static unsigned stand_in(unsigned byte) {
    bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    if (printable) return byte;
    unsigned n = 0;
    for (unsigned b = 0; b < byte; b++) n += !((b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174);
    return 256 + n;
}

static toque_status write_vocabulary(tq_mem *mem, const char *path, const char *const *specials, const char *bos,
                                     const char *eos, bool add_bos, toque_error *err) {
    enum { MAX = 400 };
    static char bytes[256][3];
    tq_string words[MAX];
    int32_t kinds[MAX];
    size_t n = 256;
    int bos_id = -1, eos_id = -1;
    for (unsigned b = 0; b < 256; b++) {
        unsigned c = stand_in(b);
        bytes[b][0] = (char)(c < 128 ? c : 0xc0 | c >> 6);
        bytes[b][1] = (char)(c < 128 ? 0 : 0x80 | (c & 63));
        words[b] = (tq_string){bytes[b], c < 128 ? 1 : 2};
        kinds[b] = TQ_TOKEN_NORMAL;
    }
    for (size_t i = 0; specials[i] && n < MAX; i++) {
        if (bos && !strcmp(specials[i], bos)) bos_id = (int)n;
        if (eos && !strcmp(specials[i], eos)) eos_id = (int)n;
        /* as real files have it: thinking is not hidden, and is recognized in messages too */
        kinds[n] = strstr(specials[i], "think>") ? TQ_TOKEN_USER_DEFINED : TQ_TOKEN_CONTROL;
        words[n++] = (tq_string){specials[i], strlen(specials[i])};
    }
    tq_gguf_writer *w;
    TQ_TRY(tq_gguf_writer_new(&w, mem, path, err));
    const tq_string merge = {"a b", 3};
    toque_status status;
    TQ_GO(tq_gguf_put_str(w, "general.architecture", "llama", 5, err));
    TQ_GO(tq_gguf_put_str(w, "tokenizer.ggml.model", "gpt2", 4, err));
    TQ_GO(tq_gguf_put_str(w, "tokenizer.ggml.pre", "gpt-2", 5, err));
    /* Merging needs a rule; this one makes a token "ab". */
    words[n] = (tq_string){"ab", 2};
    kinds[n++] = TQ_TOKEN_NORMAL;
    TQ_GO(tq_gguf_put_strings(w, "tokenizer.ggml.tokens", words, n, err));
    TQ_GO(tq_gguf_put_strings(w, "tokenizer.ggml.merges", &merge, 1, err));
    TQ_GO(tq_gguf_put_numbers(w, "tokenizer.ggml.token_type", TQ_GGUF_I32, kinds, n, err));
    if (bos_id >= 0) TQ_GO(tq_gguf_put_u32(w, "tokenizer.ggml.bos_token_id", (uint32_t)bos_id, err));
    if (eos_id >= 0) TQ_GO(tq_gguf_put_u32(w, "tokenizer.ggml.eos_token_id", (uint32_t)eos_id, err));
    TQ_GO(tq_gguf_put_bool(w, "tokenizer.ggml.add_bos_token", add_bos, err));
    return tq_gguf_writer_commit(w, err);
done:
    tq_gguf_writer_abort(w);
    return status;
}

bool tiny_open(tiny *t, const char *const *specials, const char *bos, const char *eos, bool add_bos,
               const char *chat_template, size_t n_template) {
    memset(t, 0, sizeof *t);
    t->model.ctx = &t->ctx;
    toque_error err = {0};
    tq_mem *mem = &t->ctx.mem;
    char folder[] = "/tmp/test_tiny.XXXXXX", path[64];
    if (!mkdtemp(folder)) return false;
    snprintf(path, sizeof path, "%s/vocabulary.gguf", folder);
    toque_status status = write_vocabulary(mem, path, specials, bos, eos, add_bos, &err);
    if (status == TOQUE_OK) status = tq_gguf_open(&t->model.gguf, mem, path, &err);
    if (status == TOQUE_OK) status = tq_tokenizer_from_gguf(&t->model.tokenizer, mem, t->model.gguf, &err);
    if (status == TOQUE_OK && chat_template)
        status =
            tq_template_parse(&t->model.chat_template, mem, chat_template, n_template, "the test's template", &err);
    unlink(path);
    rmdir(folder);
    if (status == TOQUE_OK) return true;
    fprintf(stderr, "%s\n", err.message);
    tiny_close(t);
    return false;
}

void tiny_close(tiny *t) {
    tq_template_free(t->model.chat_template);
    tq_tokenizer_free(t->model.tokenizer);
    tq_gguf_close(t->model.gguf);
    t->model = (tq_model){.ctx = &t->ctx};
}
