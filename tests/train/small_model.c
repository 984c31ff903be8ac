/* See small_model.h. */
#include "small_model.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/rng.h"

enum { L = 2, C = 32, F = 64, H = 4, G = 2, D = 8 };

static const char template[] =
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/* GPT-2's printable stand-in for a byte, as UTF-8. */
static size_t stand_in(unsigned byte, char out[2]) {
    unsigned c = byte, n = 0;
    for (unsigned b = 0; b <= byte; b++) {
        bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        if (b == byte && !printable) c = 256 + n;
        n += !printable;
    }
    out[0] = (char)(c < 128 ? c : 0xc0 | c >> 6);
    out[1] = (char)(0x80 | (c & 63));
    return c < 128 ? 1 : 2;
}

static toque_status put_vocabulary(tq_gguf_writer *w, toque_error *err) {
    char bytes[256][2];
    tq_string words[SMALL_V] = {[SMALL_IM_START] = {"<|im_start|>", 12},
                                [SMALL_IM_END] = {"<|im_end|>", 10},
                                [SMALL_EOS] = {"<|endoftext|>", 13},
                                [SMALL_AB] = {"ab", 2}};
    int32_t kinds[SMALL_V];
    for (unsigned b = 0; b < 256; b++) words[b] = (tq_string){bytes[b], stand_in(b, bytes[b])};
    for (int i = 0; i < SMALL_V; i++)
        kinds[i] = i >= SMALL_IM_START && i <= SMALL_EOS ? TQ_TOKEN_CONTROL : TQ_TOKEN_NORMAL;
    const tq_string merge = {"a b", 3};
    TQ_TRY(tq_gguf_put_str(w, "tokenizer.ggml.model", "gpt2", 4, err));
    TQ_TRY(tq_gguf_put_str(w, "tokenizer.ggml.pre", "gpt-2", 5, err));
    TQ_TRY(tq_gguf_put_strings(w, "tokenizer.ggml.tokens", words, SMALL_V, err));
    TQ_TRY(tq_gguf_put_strings(w, "tokenizer.ggml.merges", &merge, 1, err));
    TQ_TRY(tq_gguf_put_numbers(w, "tokenizer.ggml.token_type", TQ_GGUF_I32, kinds, SMALL_V, err));
    TQ_TRY(tq_gguf_put_u32(w, "tokenizer.ggml.eos_token_id", SMALL_EOS, err));
    TQ_TRY(tq_gguf_put_bool(w, "tokenizer.ggml.add_eos_token", true, err));
    return tq_gguf_put_str(w, "tokenizer.chat_template", template, sizeof template - 1, err);
}

typedef struct tensor {
    const char *name;
    int64_t rows, cols; /* rows 1: a norm */
} tensor;

/* The biases at the end are Qwen 2's. */
static const tensor layer_tensors[] = {
    {"attn_norm.weight", 1, C},      {"attn_q.weight", H *D, C}, {"attn_k.weight", G *D, C}, {"attn_v.weight", G *D, C},
    {"attn_output.weight", C, H *D}, {"ffn_norm.weight", 1, C},  {"ffn_gate.weight", F, C},  {"ffn_up.weight", F, C},
    {"ffn_down.weight", C, F},       {"attn_q.bias", 1, H *D},   {"attn_k.bias", 1, G *D},   {"attn_v.bias", 1, G *D}};
enum { PER_LAYER = sizeof layer_tensors / sizeof layer_tensors[0], BIASES = 3 };

/* Qwen 2 has biases and here a head of its own, Llama neither. */
static int per_layer(bool qwen2) {
    return qwen2 ? PER_LAYER : PER_LAYER - BIASES;
}

static int n_tensors(bool qwen2) {
    return 2 + L * per_layer(qwen2) + qwen2;
}

static tensor tensor_at(int i, bool qwen2, char name[64]) {
    if (i == 0) return (tensor){"token_embd.weight", SMALL_V, C};
    if (i == 1) return (tensor){"output_norm.weight", 1, C};
    if (i == 2 + L * per_layer(qwen2)) return (tensor){"output.weight", SMALL_V, C};
    tensor t = layer_tensors[(i - 2) % per_layer(qwen2)];
    snprintf(name, 64, "blk.%d.%s", (i - 2) / per_layer(qwen2), t.name);
    t.name = name;
    return t;
}

static toque_status put_tensors(tq_gguf_writer *w, bool qwen2, toque_error *err) {
    char name[64];
    for (int i = 0; i < n_tensors(qwen2); i++) {
        tensor t = tensor_at(i, qwen2, name);
        TQ_TRY(tq_gguf_put_tensor(w, t.name, TQ_F32, t.rows > 1 ? 2 : 1, (int64_t[]){t.cols, t.rows}, err));
    }
    for (int i = 0; i < n_tensors(qwen2); i++) {
        static float data[SMALL_V * C];
        tensor t = tensor_at(i, qwen2, name);
        tq_rng rng;
        tq_rng_init(&rng, 1, TQ_RNG_INIT, (uint32_t)i, 0);
        float scale = i == 0 ? 1 : 0.25f;
        for (int64_t j = 0; j < t.rows * t.cols; j++)
            data[j] = t.rows == 1 ? 1 + 0.1f * (float)tq_rng_normal(&rng) : scale * (float)tq_rng_normal(&rng);
        TQ_TRY(tq_gguf_write_data(w, data, (size_t)(t.rows * t.cols) * sizeof(float), err));
    }
    return TOQUE_OK;
}

static toque_status put_all(tq_gguf_writer *w, const char *arch, toque_error *err) {
    bool qwen2 = strcmp(arch, "qwen2") == 0;
    const struct {
        const char *key;
        uint32_t value;
    } numbers[] = {{"block_count", L},          {"embedding_length", C},        {"feed_forward_length", F},
                   {"attention.head_count", H}, {"attention.head_count_kv", G}, {"context_length", 256},
                   {"rope.dimension_count", D}};
    char key[64];
    TQ_TRY(tq_gguf_put_str(w, "general.architecture", arch, strlen(arch), err));
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        snprintf(key, sizeof key, "%s.%s", arch, numbers[i].key);
        TQ_TRY(tq_gguf_put_u32(w, key, numbers[i].value, err));
    }
    snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", arch);
    TQ_TRY(tq_gguf_put_f32(w, key, 1e-5f, err));
    TQ_TRY(put_vocabulary(w, err));
    return put_tensors(w, qwen2, err);
}

bool small_model_write(const char *path) {
    return small_model_write_arch(path, "llama");
}

bool small_model_write_arch(const char *path, const char *arch) {
    tq_mem mem;
    tq_mem_init(&mem, 0);
    toque_error err = {0};
    tq_gguf_writer *w;
    toque_status status = tq_gguf_writer_new(&w, &mem, path, &err);
    if (status == TOQUE_OK) {
        status = put_all(w, arch, &err);
        if (status == TOQUE_OK)
            status = tq_gguf_writer_commit(w, &err);
        else
            tq_gguf_writer_abort(w);
    }
    if (status != TOQUE_OK) fprintf(stderr, "%s\n", err.message);
    return status == TOQUE_OK;
}

bool small_folder(char path[64]) {
    const char *where = getenv("TMPDIR");
    snprintf(path, 64, "%s/test_train.XXXXXX", where && strlen(where) < 40 ? where : P_tmpdir);
    return mkdtemp(path) != NULL;
}

void small_remove(const char *folder) {
    DIR *dir = opendir(folder);
    if (!dir) return;
    for (struct dirent *e; (e = readdir(dir));) {
        char path[512];
        struct stat st;
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (lstat(path, &st) == 0 && S_ISDIR(st.st_mode))
            small_remove(path);
        else
            unlink(path);
    }
    closedir(dir);
    rmdir(folder);
}

toque_status small_rows(tq_dataset *set, tq_mem *mem, size_t n, int longest, uint64_t seed) {
    *set = (tq_dataset){.mem = mem, .n_rows = n};
    tq_arena_init(&set->arena, mem, 4096);
    tq_buf_init(&set->notes, mem, 100);
    snprintf(set->hash, sizeof set->hash, "%064llx", (unsigned long long)seed);
    set->examples = TQ_NEW_ARRAY(mem, tq_example, n);
    if (!set->examples) return TOQUE_ENOMEM;
    tq_rng rng;
    tq_rng_init(&rng, seed, TQ_RNG_SAMPLE, 0, 0);
    for (size_t i = 0; i < n; i++) {
        tq_example *e = &set->examples[set->n++];
        *e = (tq_example){.n = 3 + (int)tq_rng_below(&rng, (uint32_t)longest - 2),
                          .weight = 1,
                          .row = (uint32_t)i,
                          .line = (uint32_t)i + 1,
                          .label = -1};
        e->tokens = tq_arena_alloc(&set->arena, (size_t)e->n, sizeof *e->tokens);
        e->target = tq_arena_alloc(&set->arena, (size_t)e->n, 1);
        if (!e->tokens || !e->target) return TOQUE_ENOMEM;
        e->tokens[0] = (tq_token)tq_rng_below(&rng, 64);
        for (int t = 1; t < e->n; t++) { /* a letter and its follower, with some noise */
            e->tokens[t] = tq_rng_below(&rng, 8) ? (e->tokens[t - 1] * 5 + 3) % 64 : (tq_token)tq_rng_below(&rng, 64);
            e->target[t] = t == 1 || tq_rng_below(&rng, 4) > 0;
            e->n_targets += e->target[t];
        }
        set->n_tokens += (size_t)e->n;
        set->n_targets += (size_t)e->n_targets;
    }
    return TOQUE_OK;
}
