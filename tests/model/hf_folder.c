/* See hf_folder.h. */
#include "hf_folder.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "files/safetensors.h"

static bool dump(json_t *o, const char *dir, const char *name) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    bool ok = o && json_dump_file(o, path, JSON_INDENT(1)) == 0;
    json_decref(o);
    if (!ok) fprintf(stderr, "cannot write %s\n", path);
    return ok;
}

static json_t *config_of(const tq_config *c) {
    return json_pack("{s:s, s:[s], s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:f, s:b, s:s, s:b, s:i}", "model_type",
                     "llama", "architectures", "LlamaForCausalLM", "hidden_size", c->C, "num_hidden_layers", c->L,
                     "intermediate_size", c->F, "num_attention_heads", c->H, "num_key_value_heads", c->G, "head_dim",
                     c->D, "max_position_embeddings", c->context, "rms_norm_eps", (double)c->eps, "rope_theta",
                     (double)c->rope_base, "tie_word_embeddings", c->tied, "hidden_act", "silu", "attention_bias", 0,
                     "vocab_size", c->V);
}

static json_t *tokenizer_of(const tq_model *m, const char *pre) {
    json_t *vocab = json_object(), *merges = json_array(), *added = json_array();
    for (int32_t id = 0; id < tq_tokenizer_size(m->tokenizer); id++) {
        tq_string s = tq_tokenizer_text(m->tokenizer, id);
        char text[512];
        snprintf(text, sizeof text, "%.*s", (int)s.len, s.data);
        json_object_set_new(vocab, text, json_integer(id));
        if (tq_tokenizer_kind(m->tokenizer, id) == TQ_TOKEN_CONTROL)
            json_array_append_new(added,
                                  json_pack("{s:i, s:s, s:b, s:b, s:b, s:b, s:b}", "id", id, "content", text,
                                            "single_word", 0, "lstrip", 0, "rstrip", 0, "normalized", 0, "special", 1));
    }
    const tq_gguf_value *v = tq_gguf_find(m->gguf, "tokenizer.ggml.merges");
    const uint8_t *at = v->data;
    for (tq_string s; tq_gguf_next_string(v, &at, &s);) json_array_append_new(merges, json_stringn(s.data, s.len));
    return json_pack("{s:o, s:n, s:o, s:n, s:{s:s, s:n, s:b, s:b, s:o, s:o}}", "added_tokens", added, "normalizer",
                     "pre_tokenizer", json_loads(pre, 0, NULL), "post_processor", "model", "type", "BPE", "unk_token",
                     "byte_fallback", 0, "ignore_merges", 0, "vocab", vocab, "merges", merges);
}

typedef struct saving {
    tq_model *m;
    tq_save_tensor tensors[1024];
    char names[1024][96];
    void *blocks[1024];
    size_t n;
    tq_type type;
} saving;

static bool add(saving *s, const tq_weight *w, const char *name) {
    const tq_kernels *k = s->m->ctx->k;
    size_t n = (size_t)(w->rows * w->cols);
    tq_type type = w->rows > 1 ? s->type : TQ_F32;
    float *row = tq_alloc(&s->m->ctx->mem, (size_t)w->cols, sizeof *row);
    char *out = s->blocks[s->n] = tq_alloc(&s->m->ctx->mem, n, type == TQ_F32 ? 4 : 2);
    if (!row || !out) return false;
    for (int64_t i = 0; i < w->rows; i++) {
        k->dequant_row[w->type](row, (const char *)w->data + (size_t)i * w->row_bytes, w->cols);
        k->quant_row[type](out + (size_t)i * tq_type_row_bytes(type, w->cols), row, w->cols);
    }
    tq_free(&s->m->ctx->mem, row);
    snprintf(s->names[s->n], sizeof s->names[0], "%s", name);
    s->tensors[s->n] =
        (tq_save_tensor){.name = s->names[s->n], .type = type, .n_dims = w->rows > 1 ? 2 : 1, .data = out};
    memcpy(s->tensors[s->n].dims, w->rows > 1 ? (int64_t[]){w->rows, w->cols} : (int64_t[]){w->cols, 0},
           2 * sizeof(int64_t));
    s->n++;
    return true;
}

static bool save(saving *s, const char *path) {
    tq_model *m = s->m;
    char name[96];
    bool ok = add(s, &m->embedding, "model.embed_tokens.weight") && add(s, &m->out_norm, "model.norm.weight") &&
              (m->config.tied || add(s, &m->head, "lm_head.weight"));
    for (int l = 0; ok && l < m->config.L; l++)
        for (int role = 0; ok && role < TQ_ROLE_COUNT; role++) {
            if (!m->weights[l][role].data) continue;
            snprintf(name, sizeof name, "model.layers.%d.%s.weight", l, tq_role_hf((tq_role)role));
            ok = add(s, &m->weights[l][role], name);
        }
    toque_error err = {0};
    const char *metadata[] = {"format", "pt"};
    ok = ok && tq_safetensors_save(&m->ctx->mem, path, s->tensors, s->n, metadata, 1, &err) == TOQUE_OK;
    if (!ok) fprintf(stderr, "%s: %s\n", path, err.message);
    for (size_t i = 0; i < s->n; i++) tq_free(&m->ctx->mem, s->blocks[i]);
    return ok;
}

bool hf_folder_write(tq_model *m, const char *dir, tq_type type, const char *pre) {
    char path[512];
    tq_string eos = tq_tokenizer_text(m->tokenizer, tq_tokenizer_eos(m->tokenizer));
    json_t *tokenizer_config = json_pack("{s:s%, s:s}", "eos_token", eos.data, eos.len, "chat_template",
                                         m->template_source ? m->template_source : "");
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    saving *s = TQ_NEW(&m->ctx->mem, saving);
    bool ok = s != NULL;
    if (ok) {
        s->m = m;
        s->type = type;
        ok = save(s, path);
    }
    tq_free(&m->ctx->mem, s);
    return dump(config_of(&m->config), dir, "config.json") && dump(tokenizer_of(m, pre), dir, "tokenizer.json") &&
           dump(tokenizer_config, dir, "tokenizer_config.json") && ok;
}
