/* Opening a model: configuration, weights by role, program, tokenizer, chat template. See model.h. */
#include "model/model.h"

#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "model/arch.h"

static const struct {
    const char *gguf, *hf;
} role_names[TQ_ROLE_COUNT] = {
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
};

const char *tq_role_gguf(tq_role role) {
    return role_names[role].gguf;
}

const char *tq_role_hf(tq_role role) {
    return role_names[role].hf;
}

/* The shape that the configuration gives to a role's weight; rows = 0: this architecture has none. */
static void role_shape(const tq_config *c, tq_role role, int64_t *rows, int64_t *cols) {
    int64_t q = (int64_t)c->H * c->D, kv = (int64_t)c->G * c->D;
    bool bias = c->arch->flags & TQ_ARCH_QKV_BIAS;
    *cols = c->C;
    switch (role) {
    case TQ_ROLE_ATTN_NORM:
    case TQ_ROLE_FFN_NORM: *rows = 1; break;
    case TQ_ROLE_Q: *rows = q; break;
    case TQ_ROLE_K:
    case TQ_ROLE_V: *rows = kv; break;
    case TQ_ROLE_O: *rows = c->C, *cols = q; break;
    case TQ_ROLE_GATE:
    case TQ_ROLE_UP: *rows = c->F; break;
    case TQ_ROLE_DOWN: *rows = c->C, *cols = c->F; break;
    case TQ_ROLE_Q_BIAS: *rows = bias, *cols = q; break;
    case TQ_ROLE_K_BIAS:
    case TQ_ROLE_V_BIAS: *rows = bias, *cols = kv; break;
    default: *rows = 0;
    }
}

static toque_status find_weight(tq_model *m, tq_weight *w, const char *name, int64_t rows, int64_t cols, size_t *used,
                                toque_error *err) {
    const char *path = tq_gguf_path(m->gguf);
    const tq_tensor *t = tq_gguf_find_tensor(m->gguf, name);
    if (!t) return TQ_FAIL(err, EFORMAT, "%s: tensor %s is missing", path, name);
    if (!tq_type_get(t->type) || !m->ctx->k->dequant_row[t->type])
        return TQ_FAIL(err, EUNSUPPORTED,
                       "%s: tensor %s has storage type %d, which is not supported (use a F32, F16, BF16, "
                       "Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K or Q6_K file)",
                       path, name, (int)t->type);
    if (t->rows != rows || t->cols != cols)
        return TQ_FAIL(err, EFORMAT, "%s: tensor %s is %lld x %lld, but the configuration says %lld x %lld", path, name,
                       (long long)t->rows, (long long)t->cols, (long long)rows, (long long)cols);
    if (rows == 1 && t->type != TQ_F32)
        return TQ_FAIL(err, EUNSUPPORTED, "%s: vector %s has storage type %s, expected F32", path, name,
                       tq_type_get(t->type)->name);
    *w = (tq_weight){
        .data = t->data, .type = t->type, .rows = rows, .cols = cols, .row_bytes = tq_type_row_bytes(t->type, cols)};
    (*used)++;
    return TOQUE_OK;
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

/* Llama 3.x: rope_freqs.weight holds a divisor for each frequency. */
static toque_status load_rope_freqs(tq_model *m, size_t *used, toque_error *err) {
    const tq_tensor *t = tq_gguf_find_tensor(m->gguf, "rope_freqs.weight");
    if (!t) return TOQUE_OK;
    int64_t n = m->config.rope_dim / 2;
    if (t->type != TQ_F32 || t->rows * t->cols != n)
        return TQ_FAIL(err, EFORMAT, "%s: rope_freqs.weight must hold %lld F32 numbers", tq_gguf_path(m->gguf),
                       (long long)n);
    m->rope_freqs = tq_alloc(&m->ctx->mem, (size_t)n, sizeof(float));
    if (!m->rope_freqs) return TQ_NOMEM(err);
    memcpy(m->rope_freqs, t->data, (size_t)n * sizeof(float));
    for (int64_t i = 0; i < n; i++)
        if (!(m->rope_freqs[i] > 0))
            return TQ_FAIL(err, EFORMAT, "%s: rope_freqs.weight[%lld] is not positive", tq_gguf_path(m->gguf),
                           (long long)i);
    m->config.rope_freqs = m->rope_freqs;
    (*used)++;
    return TOQUE_OK;
}

static toque_status load_weights(tq_model *m, toque_error *err) {
    tq_config *c = &m->config;
    size_t used = 0;
    const tq_tensor *e = tq_gguf_find_tensor(m->gguf, "token_embd.weight");
    if (!e) return TQ_FAIL(err, EFORMAT, "%s: tensor token_embd.weight is missing", tq_gguf_path(m->gguf));
    if (e->rows < 1 || e->rows > INT32_MAX / 2 || e->rows < tq_tokenizer_size(m->tokenizer))
        return TQ_FAIL(err, EFORMAT, "%s: the embedding has %lld rows for %d tokens", tq_gguf_path(m->gguf),
                       (long long)e->rows, (int)tq_tokenizer_size(m->tokenizer));
    c->V = (int)e->rows;
    TQ_TRY(find_weight(m, &m->embedding, "token_embd.weight", c->V, c->C, &used, err));
    TQ_TRY(find_weight(m, &m->out_norm, "output_norm.weight", 1, c->C, &used, err));
    c->tied = !tq_gguf_find_tensor(m->gguf, "output.weight");
    if (c->tied)
        m->head = m->embedding;
    else
        TQ_TRY(find_weight(m, &m->head, "output.weight", c->V, c->C, &used, err));
    for (int l = 0; l < c->L; l++)
        for (int role = 0; role < TQ_ROLE_COUNT; role++) {
            int64_t rows, cols;
            role_shape(c, (tq_role)role, &rows, &cols);
            char name[64];
            snprintf(name, sizeof name, "blk.%d.%s", l, role_names[role].gguf);
            if (rows) TQ_TRY(find_weight(m, &m->weights[l][role], name, rows, cols, &used, err));
        }
    TQ_TRY(load_rope_freqs(m, &used, err));
    if (used == tq_gguf_n_tensors(m->gguf)) return TOQUE_OK;
    /* A tensor that is left over (a bias, an expert, a norm) would change what the model says. */
    return TQ_FAIL(err, EUNSUPPORTED,
                   "%s: the file has %zu tensors, but a plain %s model of this shape has %zu: it has parts "
                   "that are not supported",
                   tq_gguf_path(m->gguf), tq_gguf_n_tensors(m->gguf), c->arch->name, used);
}

static toque_status load_template(tq_model *m, toque_error *err) {
    tq_string source = {0};
    TQ_TRY(tq_gguf_str(m->gguf, "tokenizer.chat_template", &source, err));
    if (!source.data) return TOQUE_OK;
    m->template_source = tq_strndup(&m->ctx->mem, source.data, source.len);
    if (!m->template_source) return TQ_NOMEM(err);
    return tq_template_parse(&m->chat_template, &m->ctx->mem, source.data, source.len, "the model's chat template",
                             err);
}

toque_status tq_model_open(tq_model **result, tq_ctx *ctx, const char *path, toque_error *err) {
    *result = NULL;
    tq_model *m = TQ_NEW(&ctx->mem, tq_model);
    if (!m) return TQ_NOMEM(err);
    m->ctx = ctx;
    toque_status status = tq_gguf_open(&m->gguf, &ctx->mem, path, err);
    if (status == TOQUE_OK) status = tq_config_read(&m->config, m->gguf, err);
    if (status == TOQUE_OK) status = tq_tokenizer_from_gguf(&m->tokenizer, &ctx->mem, m->gguf, err);
    if (status == TOQUE_OK) {
        m->weights = tq_zalloc(&ctx->mem, (size_t)m->config.L, sizeof *m->weights);
        status = m->weights ? load_weights(m, err) : TQ_NOMEM(err);
    }
    if (status == TOQUE_OK && m->config.arch->flags & TQ_ARCH_QK_INTERLEAVED) status = move_qk(m, err);
    if (status == TOQUE_OK) status = load_template(m, err);
    if (status != TOQUE_OK) { /* what reads the vocabulary and the template knows no file */
        if (err && status != TOQUE_ENOMEM && !strstr(err->message, path)) tq_error_prefix(err, status, "%s", path);
        tq_model_close(m);
        return status;
    }
    tq_program_emit(&m->layer, &m->config);
    *result = m;
    return TOQUE_OK;
}

void tq_model_close(tq_model *m) {
    if (!m) return;
    tq_mem *mem = &m->ctx->mem;
    tq_template_free(m->chat_template);
    tq_tokenizer_free(m->tokenizer);
    tq_free(mem, m->template_source);
    tq_free(mem, m->rope_freqs);
    tq_free(mem, m->moved);
    tq_free(mem, m->weights);
    tq_gguf_close(m->gguf);
    tq_free(mem, m);
}

const char *tq_model_hash(tq_model *m) {
    enum { PIECE = 4096 };
    if (m->hash[0]) return m->hash;
    tq_sha256 *sha = tq_sha256_new(&m->ctx->mem);
    if (!sha) return "";
    for (size_t i = 0; i < tq_gguf_n_tensors(m->gguf); i++) {
        const tq_tensor *t = tq_gguf_tensor_at(m->gguf, i);
        char head[256];
        int n = snprintf(head, sizeof head, "%s %d %lld %lld\n", t->name, (int)t->type, (long long)t->rows,
                         (long long)t->cols);
        size_t piece = t->bytes < PIECE ? t->bytes : PIECE;
        tq_sha256_add(sha, head, (size_t)n);
        tq_sha256_add(sha, t->data, piece);
        tq_sha256_add(sha, (const char *)t->data + (t->bytes - piece), piece);
    }
    tq_sha256_end(sha, m->hash);
    return m->hash;
}

/* --- chat ------------------------------------------------------------------------------------------------ */
static int put_token(json_t *vars, const tq_tokenizer *tok, const char *key, tq_token token) {
    if (token == TQ_NO_TOKEN || json_object_get(vars, key)) return 0;
    tq_string text = tq_tokenizer_text(tok, token);
    return json_object_set_new(vars, key, json_stringn_nocheck(text.data, text.len));
}

toque_status tq_model_render(tq_model *m, json_t *messages, json_t *tools, json_t *vars, bool generation_prompt,
                             tq_rendered *out, toque_error *err) {
    *out = (tq_rendered){0};
    if (!m->chat_template)
        return TQ_FAIL(err, ENOTFOUND, "%s has no chat template: use --raw, or a model that was tuned for chat",
                       tq_gguf_path(m->gguf));
    json_t *all = vars ? json_copy(vars) : json_object();
    if (!all) return TQ_NOMEM(err);
    toque_status status = TOQUE_OK;
    if (put_token(all, m->tokenizer, "bos_token", tq_tokenizer_bos(m->tokenizer)) ||
        put_token(all, m->tokenizer, "eos_token", tq_tokenizer_eos(m->tokenizer)) ||
        put_token(all, m->tokenizer, "unk_token", tq_tokenizer_unk(m->tokenizer)))
        status = TQ_NOMEM(err);
    tq_render_options o = {
        .messages = messages, .tools = tools, .vars = all, .add_generation_prompt = generation_prompt};
    if (status == TOQUE_OK) status = tq_template_render(m->chat_template, &m->ctx->mem, &o, out, err);
    json_decref(all);
    return status;
}

/* Whether control tokens are recognized in these bytes: in the template's own, and in a role that is a plain word,
 * since templates build headers from it ('<|' + role + '|>'); a plain word cannot hold a control token by itself. */
static bool may_be_special(const tq_rendered *r, const tq_mark *mark) {
    if (mark->origin.message < 0) return mark->origin.field != TQ_FIELD_TOOLS; /* a schema is text of others */
    if (mark->origin.field != TQ_FIELD_ROLE) return false;
    for (size_t i = mark->start; i < mark->end; i++) {
        char c = r->text[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_')) return false;
    }
    return true;
}

toque_status tq_model_tokenize_rendered(tq_model *m, const tq_rendered *r, tq_tokens *list, toque_error *err) {
    tq_text_span *spans = tq_alloc(&m->ctx->mem, r->n_marks + 1, sizeof *spans);
    if (!spans) return TQ_NOMEM(err);
    for (size_t i = 0; i < r->n_marks; i++)
        spans[i] =
            (tq_text_span){.len = r->marks[i].end - r->marks[i].start, .special = may_be_special(r, &r->marks[i])};
    size_t before = list->len;
    toque_status status = tq_tokenize_spans(m->tokenizer, r->text, r->len, spans, r->n_marks, false, list, err);
    tq_free(&m->ctx->mem, spans);
    if (status != TOQUE_OK) return status;
    tq_token bos = tq_tokenizer_bos(m->tokenizer);
    if (!tq_tokenizer_add_bos(m->tokenizer) || bos == TQ_NO_TOKEN || (list->len > before && list->ids[before] == bos))
        return TOQUE_OK;
    /* BOS goes in front with an empty range: append one token (EOS may come with it), then move the rest up. */
    bool offsets = list->want_offsets;
    size_t n = list->len;
    TQ_TRY(tq_tokenize(m->tokenizer, "", 0, true, false, list, err));
    list->len = n + 1;
    for (size_t i = n; i > before; i--) {
        list->ids[i] = list->ids[i - 1];
        if (offsets) list->start[i] = list->start[i - 1], list->end[i] = list->end[i - 1];
    }
    list->ids[before] = bos;
    if (offsets) list->start[before] = list->end[before] = 0;
    return TOQUE_OK;
}
