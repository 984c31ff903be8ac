/* Writes a model of a known shape with random weights, for measuring where no such model can be had: decode, prefill
 * and training cost the same whatever the weights are. Llama architecture; the vocabulary is another model file's.
 * Blocks are random bytes with fixed scales (weights of about 0.02 standard deviation), norms 1.
 * Usage: make_model OUT.gguf SHAPE TYPE VOCABULARY.gguf      SHAPE as below, TYPE q4_k or q8_0 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/rng.h"
#include "files/gguf.h"
#include "kernels/half.h"

typedef struct shape {
    const char *name;
    uint32_t C, F, L, H, G; /* width, inner width, layers, heads, key/value heads */
    bool tied;
} shape;

/* As bench/peers/common.py has them. */
static const shape shapes[] = {
    {"llama-0.5b", 896, 4864, 24, 14, 2, true}, /* heads, widths and depth of Qwen2.5-0.5B */
    {"llama-1b", 2048, 8192, 16, 32, 8, true},  /* of Llama 3.2 1B */
    {"llama-3b", 3072, 8192, 28, 24, 8, true},  /* of Llama 3.2 3B */
    {"llama-7b", 4096, 11008, 32, 32, 32, false},
};

enum { CHUNK = 4096 }; /* blocks that are made at a time */

typedef struct maker {
    tq_mem mem;
    tq_gguf *vocabulary;
    tq_gguf_writer *w;
    const shape *s;
    tq_type type;
    uint32_t V, tensors;
    bool declared; /* the first walk over the tensors declares them, the second writes their data */
    toque_error err;
} maker;

/* Random blocks with the scales of their type set. */
static void fill(uint8_t *at, size_t n, const tq_type_info *type, tq_rng *rng) {
    for (size_t b = 0; b < n; b++, at += (size_t)type->bytes) {
        for (size_t i = 0; i < (size_t)type->bytes; i += 4) {
            uint32_t word = tq_rng_u32(rng);
            memcpy(at + i, &word, (size_t)type->bytes - i < 4 ? (size_t)type->bytes - i : 4);
        }
        if (type->block == 32) { /* Q8_0: w = d q */
            uint16_t d = tq_float_to_half(0.02f / 74);
            memcpy(at, &d, 2);
        } else { /* Q4_K: w = d s q - dmin m, with every s and m 33 */
            uint16_t d = tq_float_to_half(0.02f / 4.6f / 33), dmin = tq_float_to_half(0.02f / 4.6f * 7.5f / 33);
            memcpy(at, &d, 2);
            memcpy(at + 2, &dmin, 2);
            memset(at + 4, 0xa1, 8); /* low six bits 33; the two high bits are those of the later four */
            memset(at + 12, 0x11, 4);
        }
    }
}

static toque_status write_random(maker *m, int64_t rows, int64_t cols) {
    const tq_type_info *type = tq_type_get(m->type);
    size_t blocks = (size_t)(rows * (cols / type->block)), bytes = blocks * (size_t)type->bytes;
    tq_rng rng;
    toque_status status;
    uint8_t *data = tq_alloc(&m->mem, bytes, 1);
    if (!data) return TQ_NOMEM(&m->err);
    tq_rng_init(&rng, 1, TQ_RNG_INIT, m->tensors, 0);
    size_t fresh = blocks < CHUNK ? blocks : CHUNK; /* the rest repeats them: the rate does not depend on it */
    fill(data, fresh, type, &rng);
    for (size_t at = fresh * (size_t)type->bytes; at < bytes; at += CHUNK * (size_t)type->bytes)
        memcpy(data + at, data, bytes - at < CHUNK * (size_t)type->bytes ? bytes - at : CHUNK * (size_t)type->bytes);
    status = tq_gguf_write_data(m->w, data, bytes, &m->err);
    tq_free(&m->mem, data);
    return status;
}

static toque_status matrix(maker *m, const char *name, uint32_t rows, uint32_t cols) {
    int64_t dims[2] = {cols, rows};
    m->tensors++;
    return m->declared ? write_random(m, rows, cols) : tq_gguf_put_tensor(m->w, name, m->type, 2, dims, &m->err);
}

static toque_status norm(maker *m, const char *name) {
    int64_t dims[1] = {m->s->C};
    float ones[8192];
    m->tensors++;
    if (!m->declared) return tq_gguf_put_tensor(m->w, name, TQ_F32, 1, dims, &m->err);
    for (uint32_t i = 0; i < m->s->C; i++) ones[i] = 1;
    return tq_gguf_write_data(m->w, ones, m->s->C * sizeof *ones, &m->err);
}

static toque_status tensors(maker *m) {
    const shape *s = m->s;
    uint32_t kv = s->C / s->H * s->G;
    const struct {
        const char *name;
        uint32_t rows, cols; /* rows 0: a norm */
    } parts[] = {{"attn_norm", 0, 0},      {"attn_q", s->C, s->C},      {"attn_k", kv, s->C},
                 {"attn_v", kv, s->C},     {"attn_output", s->C, s->C}, {"ffn_norm", 0, 0},
                 {"ffn_gate", s->F, s->C}, {"ffn_up", s->F, s->C},      {"ffn_down", s->C, s->F}};
    m->tensors = 0;
    TQ_TRY(matrix(m, "token_embd.weight", m->V, s->C));
    TQ_TRY(norm(m, "output_norm.weight"));
    if (!s->tied) TQ_TRY(matrix(m, "output.weight", m->V, s->C));
    for (uint32_t l = 0; l < s->L; l++)
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
            char name[64];
            snprintf(name, sizeof name, "blk.%u.%s.weight", l, parts[i].name);
            TQ_TRY(parts[i].rows ? matrix(m, name, parts[i].rows, parts[i].cols) : norm(m, name));
        }
    return TOQUE_OK;
}

static toque_status metadata(maker *m) {
    const shape *s = m->s;
    const struct {
        const char *key;
        uint32_t value;
    } numbers[] = {{"llama.block_count", s->L},          {"llama.context_length", 8192},
                   {"llama.embedding_length", s->C},     {"llama.feed_forward_length", s->F},
                   {"llama.attention.head_count", s->H}, {"llama.attention.head_count_kv", s->G},
                   {"llama.vocab_size", m->V},           {"llama.rope.dimension_count", s->C / s->H},
                   {"general.quantization_version", 2}};
    TQ_TRY(tq_gguf_put_str(m->w, "general.architecture", "llama", 5, &m->err));
    TQ_TRY(tq_gguf_put_str(m->w, "general.name", s->name, strlen(s->name), &m->err));
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        TQ_TRY(tq_gguf_put_u32(m->w, numbers[i].key, numbers[i].value, &m->err));
    TQ_TRY(tq_gguf_put_f32(m->w, "llama.rope.freq_base", 10000, &m->err));
    TQ_TRY(tq_gguf_put_f32(m->w, "llama.attention.layer_norm_rms_epsilon", 1e-5f, &m->err));
    for (size_t i = 0; i < tq_gguf_n_values(m->vocabulary); i++) {
        const tq_gguf_value *v = tq_gguf_value_at(m->vocabulary, i);
        if (v->key.len > 10 && memcmp(v->key.data, "tokenizer.", 10) == 0) TQ_TRY(tq_gguf_put_value(m->w, v, &m->err));
    }
    return TOQUE_OK;
}

int main(int argc, char **argv) {
    maker m = {.type = TQ_TYPE_END};
    toque_status status;
    for (size_t i = 0; argc == 5 && i < sizeof shapes / sizeof *shapes; i++)
        if (strcmp(shapes[i].name, argv[2]) == 0) m.s = &shapes[i];
    if (argc == 5 && strcmp(argv[3], "q4_k") == 0) m.type = TQ_Q4_K;
    if (argc == 5 && strcmp(argv[3], "q8_0") == 0) m.type = TQ_Q8_0;
    if (!m.s || m.type == TQ_TYPE_END) {
        fputs("usage: make_model OUT.gguf llama-0.5b|llama-1b|llama-3b|llama-7b q4_k|q8_0 VOCABULARY.gguf\n", stderr);
        return 2;
    }
    if (m.s->C % 256 && m.type == TQ_Q4_K) {
        fprintf(stderr, "make_model: rows of %u values are no blocks of 256: take q8_0\n", m.s->C);
        return 2;
    }
    tq_mem_init(&m.mem, 0);
    TQ_GO(tq_gguf_open(&m.vocabulary, &m.mem, argv[4], &m.err));
    const tq_gguf_value *tokens = tq_gguf_find(m.vocabulary, "tokenizer.ggml.tokens");
    if (!tokens) {
        fprintf(stderr, "make_model: %s: no tokenizer.ggml.tokens\n", argv[4]);
        tq_gguf_close(m.vocabulary);
        return 1;
    }
    m.V = (uint32_t)tokens->count;
    TQ_GO(tq_gguf_writer_new(&m.w, &m.mem, argv[1], &m.err));
    TQ_GO(metadata(&m));
    TQ_GO(tensors(&m));
    m.declared = true;
    TQ_GO(tensors(&m));
    status = tq_gguf_writer_commit(m.w, &m.err);
    m.w = NULL;
done:
    if (status != TOQUE_OK) fprintf(stderr, "make_model: %s\n", m.err.message);
    if (m.w) tq_gguf_writer_abort(m.w);
    tq_gguf_close(m.vocabulary);
    return status != TOQUE_OK;
}
