/* Tokenizers from GGUF metadata (see tokenizer.h): the kind by name, the vocabulary, the special ids and what the
 * file says about them. The kinds' own work is in tok_bpe.c, tok_spm.c, tok_unigram.c and tok_wordpiece.c. */
#include "text/tokenizer.h"

#include <stdio.h>
#include <string.h>

#include "text/tok.h"

static const struct kind_row {
    const char *model, *name;
    const tok_ops *ops;
    enum tq_tok_storage storage;
} kind_rows[] = {
#define X(model, name, ops, storage) {model, name, &ops, storage},
#include "text/tokenizers.def"
#undef X
};

static toque_status choose_kind(tq_tokenizer *tok, const tq_gguf *gguf, toque_error *err) {
    tq_string model = {0};
    TQ_TRY(tq_gguf_str(gguf, "tokenizer.ggml.model", &model, err));
    if (!model.len)
        return TQ_FAIL(err, EFORMAT,
                       "%s: no tokenizer (tokenizer.ggml.model is missing); the file holds no language "
                       "model's vocabulary",
                       tq_gguf_path(gguf));
    char known[200] = "";
    for (size_t i = 0; i < sizeof kind_rows / sizeof *kind_rows; i++) {
        const struct kind_row *row = &kind_rows[i];
        if (strlen(row->model) == model.len && memcmp(row->model, model.data, model.len) == 0) {
            tok->ops = row->ops;
            tok->storage = row->storage;
            return TOQUE_OK;
        }
        size_t len = strlen(known);
        snprintf(known + len, sizeof known - len, "%s%s (%s)", len ? ", " : "", row->model, row->name);
    }
    return TQ_FAIL(err, EUNSUPPORTED, "%s: tokenizer '%.*s' is not supported, only %s", tq_gguf_path(gguf),
                   (int)(model.len < 60 ? model.len : 60), model.data, known);
}

/* What the kind assumes where the file says nothing, as its makers do. */
static void set_defaults(tq_tokenizer *tok) {
    tok->bos = tok->eos = tok->unk = tok->sep = TQ_NO_TOKEN;
    if (tok->ops == &tq_tok_spm_ops) {
        tok->unk = 0;
        tok->bos = 1;
        tok->eos = 2;
        tok->add_bos = tok->add_space_prefix = true;
    } else if (tok->ops == &tq_tok_unigram_ops) {
        tok->eos = 1;
        tok->unk = 2;
        tok->add_eos = true;
    } else if (tok->ops == &tq_tok_wordpiece_ops) {
        tok->unk = 100;
        tok->bos = 101;
        tok->sep = 102;
        tok->add_bos = tok->add_eos = tok->lower = true;
    }
    tq_token *ids[] = {&tok->bos, &tok->eos, &tok->unk, &tok->sep};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
        if (*ids[i] >= tok->n) *ids[i] = TQ_NO_TOKEN;
}

static toque_status read_id(const tq_tokenizer *tok, const tq_gguf *gguf, const char *key, tq_token *id,
                            toque_error *err) {
    uint32_t value = UINT32_MAX;
    TQ_TRY(tq_gguf_u32(gguf, key, &value, err));
    if (value == UINT32_MAX) return TOQUE_OK;
    if (value >= (uint32_t)tok->n)
        return TQ_FAIL(err, EFORMAT, "%s: %s is %u, but the vocabulary has %d tokens", tq_gguf_path(gguf), key, value,
                       tok->n);
    *id = (tq_token)value;
    return TOQUE_OK;
}

/* generation_config.json's list. */
static toque_status read_ends(tq_tokenizer *tok, const tq_gguf *gguf, toque_error *err) {
    const tq_gguf_value *ids;
    TQ_TRY(tq_tok_array(gguf, "tokenizer.toque.end_ids", false, UINT64_MAX, &ids, err));
    for (uint64_t i = 0; ids && i < ids->count; i++) {
        double id = tq_gguf_number_at(ids, i);
        if (!(id >= 0 && id < tok->n))
            return TQ_FAIL(err, EFORMAT, "%s: the end token %g is not one of %d", tq_gguf_path(gguf), id, tok->n);
        tok->ends[(tq_token)id] = true;
    }
    return TOQUE_OK;
}

static toque_status read_specials(tq_tokenizer *tok, const tq_gguf *gguf, toque_error *err) {
    tq_token eot = TQ_NO_TOKEN, eom = TQ_NO_TOKEN;
    set_defaults(tok);
    if (tok->ops == &tq_tok_wordpiece_ops)
        TQ_TRY(read_id(tok, gguf, "tokenizer.ggml.cls_token_id", &tok->bos, err));
    else
        TQ_TRY(read_id(tok, gguf, "tokenizer.ggml.bos_token_id", &tok->bos, err));
    TQ_TRY(read_id(tok, gguf, "tokenizer.ggml.eos_token_id", &tok->eos, err));
    TQ_TRY(read_id(tok, gguf, "tokenizer.ggml.unknown_token_id", &tok->unk, err));
    TQ_TRY(read_id(tok, gguf, "tokenizer.ggml.seperator_token_id", &tok->sep, err)); /* GGUF's spelling */
    TQ_TRY(read_id(tok, gguf, "tokenizer.ggml.eot_token_id", &eot, err));
    TQ_TRY(read_id(tok, gguf, "tokenizer.ggml.eom_token_id", &eom, err));
    if (tok->ops == &tq_tok_wordpiece_ops && tok->sep != TQ_NO_TOKEN) tok->eos = tok->sep; /* BERT's texts end so */
    if (tok->eos != TQ_NO_TOKEN) tok->ends[tok->eos] = true;
    if (eot != TQ_NO_TOKEN) tok->ends[eot] = true;
    if (eom != TQ_NO_TOKEN) tok->ends[eom] = true;
    return read_ends(tok, gguf, err);
}

static toque_status read_flags(tq_tokenizer *tok, const tq_gguf *gguf, toque_error *err) {
    TQ_TRY(tq_gguf_bool(gguf, "tokenizer.ggml.add_bos_token", &tok->add_bos, err));
    TQ_TRY(tq_gguf_bool(gguf, "tokenizer.ggml.add_eos_token", &tok->add_eos, err));
    if (tok->storage == TQ_TOK_ESCAPED)
        TQ_TRY(tq_gguf_bool(gguf, "tokenizer.ggml.add_space_prefix", &tok->add_space_prefix, err));
    TQ_TRY(tq_gguf_bool(gguf, "tokenizer.ggml.remove_extra_whitespaces", &tok->merge_spaces, err));
    TQ_TRY(tq_gguf_bool(gguf, "tokenizer.ggml.normalizer.lowercase", &tok->lower, err));
    tq_string metaspace = {0};
    TQ_TRY(tq_gguf_str(gguf, "tokenizer.toque.metaspace", &metaspace, err));
    tok->prefix_missing = metaspace.len > 0;
    tok->prefix_once = metaspace.len == 5 && memcmp(metaspace.data, "first", 5) == 0;
    TQ_TRY(tq_gguf_bool(gguf, "tokenizer.toque.nfc", &tok->nfc, err));
    tok->strip_accents = tok->lower;
    return tq_gguf_bool(gguf, "tokenizer.ggml.normalizer.strip_accents", &tok->strip_accents, err);
}

/* True if no plain token has a U+2581 that follows another character. */
static bool spaces_start_words(const tq_tokenizer *tok) {
    for (tq_token id = 0; id < tok->n; id++) {
        const tok_word *w = &tok->words[id];
        if (!(TQ_KIND(tok->kinds[id]) & TQ_KINDS_PLAIN)) continue;
        size_t i = 0;
        while (w->raw_len - i >= TQ_SPACE_LEN && memcmp(w->raw + i, TQ_SPACE, TQ_SPACE_LEN) == 0) i += TQ_SPACE_LEN;
        if (memmem(w->raw + i, w->raw_len - i, TQ_SPACE, TQ_SPACE_LEN)) return false;
    }
    return true;
}

toque_status tq_tokenizer_from_gguf(tq_tokenizer **out, tq_mem *mem, const tq_gguf *gguf, toque_error *err) {
    tq_tokenizer *tok = TQ_NEW(mem, tq_tokenizer);
    if (!tok) return TQ_NOMEM(err);
    tok->mem = mem;
    toque_status status = TOQUE_OK;
    TQ_GO(choose_kind(tok, gguf, err));
    TQ_GO(tq_tok_vocab_load(tok, gguf, err));
    TQ_GO(read_specials(tok, gguf, err));
    TQ_GO(tok->ops->init(tok, gguf, err)); /* may change defaults, so the file's flags come after it */
    TQ_GO(read_flags(tok, gguf, err));
    tok->spaces_start_words = tok->storage == TQ_TOK_ESCAPED && spaces_start_words(tok);
done:
    if (status != TOQUE_OK) {
        tq_tokenizer_free(tok);
        return status;
    }
    *out = tok;
    return TOQUE_OK;
}

void tq_tokenizer_free(tq_tokenizer *tok) {
    if (!tok) return;
    if (tok->ops) tok->ops->clear(tok);
    tq_tok_vocab_clear(tok);
    tq_free(tok->mem, tok);
}

int32_t tq_tokenizer_size(const tq_tokenizer *tok) {
    return tok->n;
}

tq_token tq_tokenizer_bos(const tq_tokenizer *tok) {
    return tok->bos;
}

tq_token tq_tokenizer_eos(const tq_tokenizer *tok) {
    return tok->eos;
}

tq_token tq_tokenizer_unk(const tq_tokenizer *tok) {
    return tok->unk;
}

bool tq_tokenizer_add_bos(const tq_tokenizer *tok) {
    return tok->add_bos && tok->bos != TQ_NO_TOKEN;
}

bool tq_tokenizer_add_eos(const tq_tokenizer *tok) {
    return tok->add_eos && tok->eos != TQ_NO_TOKEN;
}

static bool in_range(const tq_tokenizer *tok, tq_token token) {
    return token >= 0 && token < tok->n;
}

bool tq_tokenizer_is_end(const tq_tokenizer *tok, tq_token token) {
    return in_range(tok, token) && tok->ends[token];
}

tq_token_kind tq_tokenizer_kind(const tq_tokenizer *tok, tq_token token) {
    return in_range(tok, token) ? (tq_token_kind)tok->kinds[token] : TQ_TOKEN_UNUSED;
}

tq_string tq_tokenizer_text(const tq_tokenizer *tok, tq_token token) {
    if (!in_range(tok, token)) return (tq_string){.data = "", .len = 0};
    return (tq_string){.data = tok->words[token].text, .len = tok->words[token].text_len};
}
