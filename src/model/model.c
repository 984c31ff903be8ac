/* Opening a model: configuration, program, tokenizer, chat template; its weights are read in weights.c. See model.h. */
#include "model/model.h"

#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "files/hf.h"
#include "model/arch.h"

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
    tq_arena_init(&m->vectors, &ctx->mem, 1 << 16);
    toque_status status = tq_model_file_open(&m->gguf, &ctx->mem, path, TQ_MODEL_WHOLE, err);
    if (status == TOQUE_OK) status = tq_config_read(&m->config, m->gguf, err);
    if (status == TOQUE_OK) status = tq_tokenizer_from_gguf(&m->tokenizer, &ctx->mem, m->gguf, err);
    if (status == TOQUE_OK) status = tq_weights_load(m, err);
    if (status == TOQUE_OK) status = load_template(m, err);
    if (status != TOQUE_OK) { /* what reads the vocabulary and the template knows no file */
        if (err && status != TOQUE_ENOMEM && !strstr(err->message, path)) tq_error_prefix(err, status, "%s", path);
        tq_model_close(m);
        return status;
    }
    tq_program_emit_in(&m->in, &m->config);
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
    tq_arena_clear(&m->vectors);
    tq_free(mem, m->moved);
    tq_free(mem, m->panels);
    tq_free(mem, m->panel_block);
    tq_free(mem, m->weights);
    tq_gguf_close(m->gguf);
    tq_free(mem, m);
}

toque_status tq_model_need_head(const tq_model *m, const char *what, toque_error *err) {
    if (m->head.data) return TOQUE_OK;
    return TQ_FAIL(err, EUNSUPPORTED,
                   "%s: %s models are encoders: they embed texts (toque embed); %s needs a language "
                   "model",
                   tq_gguf_path(m->gguf), m->config.arch->name, what);
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
