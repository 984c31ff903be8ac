/* A model's weights by role: their names in GGUF files and in Hugging Face's folders, their shapes, and where they lie.
 * Matrices stay in the file's map with their type; vectors are F32 and converted where the file has another type. */
#include <stdio.h>
#include <string.h>

#include "model/arch.h"

typedef struct role_name {
    const char *gguf, *hf; /* without layer; hf without ".weight" */
} role_name;

static const role_name names[][TQ_ROLE_COUNT] =
    {
        [TQ_NAMING_LLAMA] =
            {
                [TQ_ROLE_ATTN_NORM] = {"attn_norm.weight", "input_layernorm"},
                [TQ_ROLE_Q] = {"attn_q.weight", "self_attn.q_proj"},
                [TQ_ROLE_K] = {"attn_k.weight", "self_attn.k_proj"},
                [TQ_ROLE_V] = {"attn_v.weight", "self_attn.v_proj"},
                [TQ_ROLE_O] = {"attn_output.weight", "self_attn.o_proj"},
                [TQ_ROLE_FFN_NORM] = {"ffn_norm.weight", "post_attention_layernorm"},
                [TQ_ROLE_GATE] = {"ffn_gate.weight", "mlp.gate_proj"},
                [TQ_ROLE_UP] = {"ffn_up.weight", "mlp.up_proj"},
                [TQ_ROLE_DOWN] = {"ffn_down.weight", "mlp.down_proj"},
                [TQ_ROLE_Q_BIAS] = {"attn_q.bias", "self_attn.q_proj.bias"},
                [TQ_ROLE_K_BIAS] = {"attn_k.bias", "self_attn.k_proj.bias"},
                [TQ_ROLE_V_BIAS] = {"attn_v.bias", "self_attn.v_proj.bias"},
                [TQ_ROLE_Q_NORM] = {"attn_q_norm.weight", "self_attn.q_norm"},
                [TQ_ROLE_K_NORM] = {"attn_k_norm.weight", "self_attn.k_norm"},
            },
        [TQ_NAMING_GEMMA] =
            {
                [TQ_ROLE_ATTN_NORM] = {"attn_norm.weight", "input_layernorm"},
                [TQ_ROLE_Q] = {"attn_q.weight", "self_attn.q_proj"},
                [TQ_ROLE_K] = {"attn_k.weight", "self_attn.k_proj"},
                [TQ_ROLE_V] = {"attn_v.weight", "self_attn.v_proj"},
                [TQ_ROLE_O] = {"attn_output.weight", "self_attn.o_proj"},
                [TQ_ROLE_FFN_NORM] = {"ffn_norm.weight", "pre_feedforward_layernorm"},
                [TQ_ROLE_GATE] = {"ffn_gate.weight", "mlp.gate_proj"},
                [TQ_ROLE_UP] = {"ffn_up.weight", "mlp.up_proj"},
                [TQ_ROLE_DOWN] = {"ffn_down.weight", "mlp.down_proj"},
                [TQ_ROLE_Q_NORM] = {"attn_q_norm.weight", "self_attn.q_norm"},
                [TQ_ROLE_K_NORM] = {"attn_k_norm.weight", "self_attn.k_norm"},
                [TQ_ROLE_ATTN_POST_NORM] = {"post_attention_norm.weight", "post_attention_layernorm"},
                [TQ_ROLE_FFN_POST_NORM] = {"post_ffw_norm.weight", "post_feedforward_layernorm"},
            },
        [TQ_NAMING_BERT] =
            {
                [TQ_ROLE_Q] = {"attn_q.weight", "attention.self.query"},
                [TQ_ROLE_K] = {"attn_k.weight", "attention.self.key"},
                [TQ_ROLE_V] = {"attn_v.weight", "attention.self.value"},
                [TQ_ROLE_O] = {"attn_output.weight", "attention.output.dense"},
                [TQ_ROLE_ATTN_NORM] = {"attn_output_norm.weight", "attention.output.LayerNorm"},
                [TQ_ROLE_UP] = {"ffn_up.weight", "intermediate.dense"},
                [TQ_ROLE_DOWN] = {"ffn_down.weight", "output.dense"},
                [TQ_ROLE_FFN_NORM] = {"layer_output_norm.weight", "output.LayerNorm"},
                [TQ_ROLE_Q_BIAS] = {"attn_q.bias", "attention.self.query.bias"},
                [TQ_ROLE_K_BIAS] = {"attn_k.bias", "attention.self.key.bias"},
                [TQ_ROLE_V_BIAS] = {"attn_v.bias", "attention.self.value.bias"},
                [TQ_ROLE_O_BIAS] = {"attn_output.bias", "attention.output.dense.bias"},
                [TQ_ROLE_UP_BIAS] = {"ffn_up.bias", "intermediate.dense.bias"},
                [TQ_ROLE_DOWN_BIAS] = {"ffn_down.bias", "output.dense.bias"},
                [TQ_ROLE_ATTN_NORM_BIAS] = {"attn_output_norm.bias", "attention.output.LayerNorm.bias"},
                [TQ_ROLE_FFN_NORM_BIAS] = {"layer_output_norm.bias", "output.LayerNorm.bias"},
                [TQ_ROLE_POSITIONS] = {"position_embd.weight", "embeddings.position_embeddings"},
                [TQ_ROLE_TYPES] = {"token_types.weight", "embeddings.token_type_embeddings"},
                [TQ_ROLE_IN_NORM] = {"token_embd_norm.weight", "embeddings.LayerNorm"},
                [TQ_ROLE_IN_NORM_BIAS] = {"token_embd_norm.bias", "embeddings.LayerNorm.bias"},
            },
};

/* Names of what stands outside the layers. prefixes: what may stand before all of a folder's names. */
static const struct outside {
    const char *prefixes[3], *layer, *embedding, *out_norm;
} outside[] = {
    [TQ_NAMING_LLAMA] = {{"model.", ""}, "layers.%d.", "embed_tokens", "norm"},
    [TQ_NAMING_GEMMA] = {{"model.", ""}, "layers.%d.", "embed_tokens", "norm"},
    [TQ_NAMING_BERT] = {{"bert.", ""}, "encoder.layer.%d.", "embeddings.word_embeddings", NULL},
};

const char *tq_role_gguf(tq_role role) {
    const char *name = names[TQ_NAMING_LLAMA][role].gguf;
    return name ? name : "";
}

const char *tq_role_hf(tq_role role) {
    const char *name = names[TQ_NAMING_LLAMA][role].hf;
    return name ? name : "";
}

void tq_weight_name(const tq_arch *arch, int layer, tq_role role, bool folder, char out[TQ_WEIGHT_NAME]) {
    const role_name *n = &names[arch->naming][role];
    char at[32] = "";
    out[0] = 0;
    if (!n->hf) return;
    if (layer >= 0) snprintf(at, sizeof at, folder ? outside[arch->naming].layer : "blk.%d.", layer);
    size_t len = strlen(n->hf);
    bool whole = len > 5 && strcmp(n->hf + len - 5, ".bias") == 0;
    snprintf(out, TQ_WEIGHT_NAME, "%s%s%s", at, folder ? n->hf : n->gguf, folder && !whole ? ".weight" : "");
}

typedef struct loader {
    tq_model *m;
    bool folder;
    const char *prefix; /* of a folder's names */
    size_t used;        /* tensors that have found their place */
} loader;

/* The shape that the configuration gives to a role's weight; rows = 0: this architecture has none. */
static void role_shape(const tq_config *c, tq_role role, int64_t *rows, int64_t *cols) {
    int64_t q = (int64_t)c->H * c->D, kv = (int64_t)c->G * c->D;
    const unsigned flags = c->arch->flags;
    bool encoder = flags & TQ_ARCH_ENCODER, bias = encoder || flags & TQ_ARCH_QKV_BIAS;
    *cols = c->C;
    switch (role) {
    case TQ_ROLE_ATTN_NORM:
    case TQ_ROLE_FFN_NORM: *rows = 1; break;
    case TQ_ROLE_O_BIAS:
    case TQ_ROLE_DOWN_BIAS:
    case TQ_ROLE_ATTN_NORM_BIAS:
    case TQ_ROLE_FFN_NORM_BIAS: *rows = encoder; break;
    case TQ_ROLE_UP_BIAS: *rows = encoder, *cols = c->F; break;
    case TQ_ROLE_ATTN_POST_NORM:
    case TQ_ROLE_FFN_POST_NORM: *rows = flags & TQ_ARCH_POST_NORM ? 1 : 0; break;
    case TQ_ROLE_Q_NORM:
    case TQ_ROLE_K_NORM: *rows = flags & TQ_ARCH_QK_NORM ? 1 : 0, *cols = c->D; break;
    case TQ_ROLE_Q: *rows = q; break;
    case TQ_ROLE_K:
    case TQ_ROLE_V: *rows = kv; break;
    case TQ_ROLE_O: *rows = c->C, *cols = q; break;
    case TQ_ROLE_GATE: *rows = encoder ? 0 : c->F; break;
    case TQ_ROLE_UP: *rows = c->F; break;
    case TQ_ROLE_DOWN: *rows = c->C, *cols = c->F; break;
    case TQ_ROLE_Q_BIAS: *rows = bias, *cols = q; break;
    case TQ_ROLE_K_BIAS:
    case TQ_ROLE_V_BIAS: *rows = bias, *cols = kv; break;
    default: *rows = 0;
    }
}

/* The shape of what stands before the layers. */
static void in_shape(const tq_config *c, tq_role role, int64_t *rows, int64_t *cols) {
    bool encoder = c->arch->flags & TQ_ARCH_ENCODER;
    *cols = c->C;
    *rows = 0;
    if (encoder && role == TQ_ROLE_POSITIONS) *rows = c->context;
    if (encoder && role == TQ_ROLE_TYPES) *rows = c->types;
    if (encoder && (role == TQ_ROLE_IN_NORM || role == TQ_ROLE_IN_NORM_BIAS)) *rows = 1;
}

/* A vector as F32. Those of folders are always copied: their data need not be aligned. */
static toque_status take_vector(loader *l, tq_weight *w, const tq_tensor *t, toque_error *err) {
    if (!l->folder && t->type == TQ_F32) return TOQUE_OK;
    float *copy = tq_arena_alloc(&l->m->vectors, (size_t)w->cols, sizeof(float));
    if (!copy) return TQ_NOMEM(err);
    l->m->ctx->k->dequant_row[t->type](copy, t->data, w->cols);
    w->data = copy;
    w->type = TQ_F32;
    w->row_bytes = (size_t)w->cols * sizeof(float);
    bool shifted = l->folder && l->m->config.arch->flags & TQ_ARCH_NORM_FROM_ONE && strstr(t->name, "norm");
    for (int64_t i = 0; shifted && i < w->cols; i++) copy[i] += 1;
    return TOQUE_OK;
}

static toque_status find_weight(loader *l, tq_weight *w, const char *name, int64_t rows, int64_t cols,
                                toque_error *err) {
    const char *path = tq_gguf_path(l->m->gguf);
    const tq_tensor *t = tq_gguf_find_tensor(l->m->gguf, name);
    if (!t) return TQ_FAIL(err, EFORMAT, "%s: tensor %s is missing", path, name);
    if (!tq_type_get(t->type) || !l->m->ctx->k->dequant_row[t->type])
        return TQ_FAIL(err, EUNSUPPORTED,
                       "%s: tensor %s has storage type %d, which is not supported (use a F32, F16, BF16, "
                       "Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K or Q6_K file)",
                       path, name, (int)t->type);
    if (t->rows != rows || t->cols != cols)
        return TQ_FAIL(err, EFORMAT, "%s: tensor %s is %lld x %lld, but the configuration says %lld x %lld", path, name,
                       (long long)t->rows, (long long)t->cols, (long long)rows, (long long)cols);
    *w = (tq_weight){
        .data = t->data, .type = t->type, .rows = rows, .cols = cols, .row_bytes = tq_type_row_bytes(t->type, cols)};
    l->used++;
    return rows == 1 ? take_vector(l, w, t, err) : TOQUE_OK;
}

/* A role's weight; layer -1: outside the layers. */
static toque_status find_role(loader *l, tq_weight *w, int layer, tq_role role, toque_error *err) {
    char name[TQ_WEIGHT_NAME], full[TQ_WEIGHT_NAME];
    int64_t rows, cols;
    (layer < 0 ? in_shape : role_shape)(&l->m->config, role, &rows, &cols);
    if (!rows) return TOQUE_OK;
    tq_weight_name(l->m->config.arch, layer, role, l->folder, name);
    snprintf(full, sizeof full, "%s%s", l->folder ? l->prefix : "", name);
    return find_weight(l, w, full, rows, cols, err);
}

/* ggml's llama rotates neighbours (2i, 2i+1) where Hugging Face rotates halves (i, i + D/2): its converter moved the
 * rows of q and k. Moving them back puts every adapter, prefix and gradient in the one order (DESIGN: Order of rope).
 * dst and src: heads * D rows. */
static void move_rows(char *dst, const char *src, size_t row_bytes, int heads, int D) {
    for (int h = 0; h < heads; h++)
        for (int i = 0; i < D / 2; i++)
            for (int j = 0; j < 2; j++)
                memcpy(dst + ((size_t)h * (size_t)D + (size_t)j * (size_t)(D / 2) + (size_t)i) * row_bytes,
                       src + ((size_t)h * (size_t)D + 2 * (size_t)i + (size_t)j) * row_bytes, row_bytes);
}

static toque_status move_qk(tq_model *m, toque_error *err) {
    const tq_config *c = &m->config;
    size_t total = 0;
    for (int l = 0; l < c->L; l++)
        for (int role = TQ_ROLE_Q; role <= TQ_ROLE_K; role++)
            total += (size_t)m->weights[l][role].rows * m->weights[l][role].row_bytes;
    char *at = m->moved = tq_alloc(&m->ctx->mem, total, 1);
    if (!at) return TQ_NOMEM(err);
    for (int l = 0; l < c->L; l++)
        for (int role = TQ_ROLE_Q; role <= TQ_ROLE_K; role++) {
            tq_weight *w = &m->weights[l][role];
            move_rows(at, w->data, w->row_bytes, role == TQ_ROLE_Q ? c->H : c->G, c->D);
            w->data = at;
            at += (size_t)w->rows * w->row_bytes;
        }
    return TOQUE_OK;
}

/* Llama 3.x: a divisor for each frequency, from rope_freqs.weight or a folder's metadata. */
static toque_status load_rope_freqs(loader *l, toque_error *err) {
    tq_model *m = l->m;
    int64_t n = m->config.rope_dim / 2;
    const tq_tensor *t = l->folder ? NULL : tq_gguf_find_tensor(m->gguf, "rope_freqs.weight");
    const tq_gguf_value *v = tq_gguf_find(m->gguf, "toque.rope_freqs");
    if (!t && !v) return TOQUE_OK;
    if (t ? t->type != TQ_F32 || t->rows * t->cols != n
          : v->type != TQ_GGUF_ARRAY || v->item != TQ_GGUF_F32 || v->count != (uint64_t)n)
        return TQ_FAIL(err, EFORMAT, "%s: the divisors of rotary frequencies must be %lld F32 numbers",
                       tq_gguf_path(m->gguf), (long long)n);
    float *freqs = tq_arena_alloc(&m->vectors, (size_t)n, sizeof(float));
    if (!freqs) return TQ_NOMEM(err);
    memcpy(freqs, t ? t->data : v->data, (size_t)n * sizeof(float));
    for (int64_t i = 0; i < n; i++)
        if (!(freqs[i] > 0))
            return TQ_FAIL(err, EFORMAT, "%s: the divisor of rotary frequency %lld is not positive",
                           tq_gguf_path(m->gguf), (long long)i);
    m->config.rope_freqs = freqs;
    l->used += t != NULL;
    return TOQUE_OK;
}

/* Tensors of folders that nothing computes with: positions and frequencies that were saved, a head that is tied, and an
 * encoder's heads for other tasks. */
static bool is_idle(const tq_model *m, const char *name) {
    const tq_config *c = &m->config;
    const char *dot = strrchr(name, '.');
    bool pooled = m->pooler.data && strstr(name, "pooler.dense.");
    return (dot && (strcmp(dot, ".inv_freq") == 0 || strcmp(dot, ".position_ids") == 0)) ||
           (c->tied && strcmp(name, "lm_head.weight") == 0) ||
           (c->arch->flags & TQ_ARCH_ENCODER && !pooled &&
            (strncmp(name, "pooler.", 7) == 0 || strncmp(name, "cls.", 4) == 0 ||
             strncmp(name, "bert.pooler.", 12) == 0));
}

/* A tensor that is left over (a bias, an expert, a norm) would change what the model says. */
static toque_status refuse_others(loader *l, toque_error *err) {
    const tq_gguf *g = l->m->gguf;
    for (size_t i = 0; l->folder && i < tq_gguf_n_tensors(g); i++)
        l->used += is_idle(l->m, tq_gguf_tensor_at(g, i)->name);
    if (l->used == tq_gguf_n_tensors(g)) return TOQUE_OK;
    return TQ_FAIL(err, EUNSUPPORTED,
                   "%s: the file has %zu tensors, but a plain %s model of this shape has %zu: it has parts "
                   "that are not supported",
                   tq_gguf_path(g), tq_gguf_n_tensors(g), l->m->config.arch->name, l->used);
}

static toque_status load_embedding(loader *l, toque_error *err) {
    tq_model *m = l->m;
    tq_naming naming = m->config.arch->naming;
    char name[160] = "token_embd.weight";
    const tq_tensor *t = NULL;
    if (!l->folder) t = tq_gguf_find_tensor(m->gguf, name);
    for (int i = 0; l->folder && !t && outside[naming].prefixes[i]; i++) {
        l->prefix = outside[naming].prefixes[i];
        snprintf(name, sizeof name, "%s%s.weight", l->prefix, outside[naming].embedding);
        t = tq_gguf_find_tensor(m->gguf, name);
        if (!*l->prefix) break;
    }
    if (!t) return TQ_FAIL(err, EFORMAT, "%s: tensor %s is missing", tq_gguf_path(m->gguf), name);
    if (t->rows < 1 || t->rows > INT32_MAX / 2 || t->rows < tq_tokenizer_size(m->tokenizer))
        return TQ_FAIL(err, EFORMAT, "%s: the embedding has %lld rows for %d tokens", tq_gguf_path(m->gguf),
                       (long long)t->rows, (int)tq_tokenizer_size(m->tokenizer));
    m->config.V = (int)t->rows;
    return find_weight(l, &m->embedding, name, m->config.V, m->config.C, err);
}

/* A folder's pooler: nothing of embeddings, but what transformers' classification heads read. */
static toque_status load_pooler(loader *l, toque_error *err) {
    tq_model *m = l->m;
    char weight[TQ_WEIGHT_NAME], bias[TQ_WEIGHT_NAME];
    snprintf(weight, sizeof weight, "%spooler.dense.weight", l->prefix ? l->prefix : "");
    snprintf(bias, sizeof bias, "%spooler.dense.bias", l->prefix ? l->prefix : "");
    if (!l->folder || !(m->config.arch->flags & TQ_ARCH_ENCODER) || !tq_gguf_find_tensor(m->gguf, weight) ||
        !tq_gguf_find_tensor(m->gguf, bias))
        return TOQUE_OK;
    TQ_TRY(find_weight(l, &m->pooler, weight, m->config.C, m->config.C, err));
    return find_weight(l, &m->pooler_bias, bias, 1, m->config.C, err);
}

static toque_status load_head(loader *l, toque_error *err) {
    tq_model *m = l->m;
    tq_config *c = &m->config;
    if (c->arch->flags & TQ_ARCH_ENCODER) return TOQUE_OK;
    char name[160] = "output_norm.weight";
    const char *head = l->folder ? "lm_head.weight" : "output.weight";
    if (l->folder) snprintf(name, sizeof name, "%s%s.weight", l->prefix, outside[c->arch->naming].out_norm);
    TQ_TRY(find_weight(l, &m->out_norm, name, 1, c->C, err));
    c->tied = !tq_gguf_find_tensor(m->gguf, head);
    TQ_TRY(tq_gguf_bool(m->gguf, "toque.tied", &c->tied, err));
    m->head = m->embedding;
    return c->tied ? TOQUE_OK : find_weight(l, &m->head, head, c->V, c->C, err);
}

toque_status tq_weights_load(tq_model *m, toque_error *err) {
    const tq_config *c = &m->config;
    loader l = {.m = m, .folder = tq_gguf_is_folder(m->gguf)};
    m->weights = tq_zalloc(&m->ctx->mem, (size_t)c->L, sizeof *m->weights);
    if (!m->weights) return TQ_NOMEM(err);
    TQ_TRY(load_embedding(&l, err));
    TQ_TRY(load_head(&l, err));
    TQ_TRY(load_pooler(&l, err));
    for (int role = 0; role < TQ_ROLE_COUNT; role++)
        TQ_TRY(find_role(&l, &m->in_weights[role], -1, (tq_role)role, err));
    for (int i = 0; i < c->L; i++)
        for (int role = 0; role < TQ_ROLE_COUNT; role++)
            TQ_TRY(find_role(&l, &m->weights[i][role], i, (tq_role)role, err));
    TQ_TRY(load_rope_freqs(&l, err));
    TQ_TRY(refuse_others(&l, err));
    if (c->arch->flags & TQ_ARCH_QK_INTERLEAVED && !l.folder) TQ_TRY(move_qk(m, err));
    return tq_panels_plan(m, err);
}
