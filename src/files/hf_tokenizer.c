/* tokenizer.json as GGUF metadata. A tokenizer is a chain of parts (normalizer, pre-tokenizer, model, post-processor,
 * decoder); the chains that are read are byte-level BPE (GPT-2, Llama 3, Qwen), BPE over characters with byte fallback
 * (Llama 2, Gemma; SentencePiece by origin) and WordPiece (BERT). Another part is refused by its name. */
#include <stdio.h>
#include <string.h>

#include "files/hf_impl.h"
#include "files/hf_vocab.h"

typedef struct chain {
    hf_folder *h;
    hf_vocab vocab;
    bool byte_level, nfc, prefix; /* prefix: a space stands before each stretch */
    const char *metaspace;        /* "first" or "always": the space as Metaspace puts it; NULL: as Prepend does */
    tq_string words[16];          /* regular expressions */
    size_t n_words;
} chain;

static toque_status fail_part(const chain *c, const char *part, const char *what, toque_error *err) {
    return TQ_FAIL(err, EUNSUPPORTED, "%s/tokenizer.json: %s '%.100s' is not supported", c->h->dir, part,
                   what ? what : "(no type)");
}

static const char *text_of(const json_t *o, const char *key) {
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static bool is(const json_t *o, const char *key, const char *value) {
    return strcmp(text_of(o, key), value) == 0;
}

/* Calls `each` for a part, or for the parts of a Sequence, whose list has this name. */
typedef toque_status part_fn(chain *c, const json_t *part, toque_error *err);
static toque_status walk(chain *c, const json_t *part, const char *list, part_fn *each, toque_error *err) {
    if (!part || json_is_null(part)) return TOQUE_OK;
    if (!is(part, "type", "Sequence")) return each(c, part, err);
    const json_t *parts = json_object_get(part, list), *item;
    size_t i;
    json_array_foreach(parts, i, item) TQ_TRY(walk(c, item, list, each, err));
    return TOQUE_OK;
}

/* --- pre-tokenizers ---------------------------------------------------------------------------------------- */
static toque_status add_words(chain *c, const char *regex, size_t n, toque_error *err) {
    if (c->n_words == sizeof c->words / sizeof *c->words)
        return TQ_FAIL(err, EUNSUPPORTED, "%s/tokenizer.json: the pre-tokenizer has more than %zu stages", c->h->dir,
                       c->n_words);
    c->words[c->n_words++] = (tq_string){regex, n};
    return TOQUE_OK;
}

#define WORDS(regex) add_words(c, regex, sizeof(regex) - 1, err)

static toque_status split_part(chain *c, const json_t *part, toque_error *err) {
    const json_t *pattern = json_object_get(part, "pattern"), *regex = json_object_get(pattern, "Regex");
    /* Where spaces have become U+2581 a split at spaces finds none. */
    if (is(pattern, "String", " ") && c->vocab.escaped) return TOQUE_OK;
    if (!json_is_string(regex))
        return fail_part(c, "pre-tokenizer Split with pattern", text_of(pattern, "String"), err);
    bool inverted = json_is_true(json_object_get(part, "invert"));
    if (!(is(part, "behavior", "Isolated") || (is(part, "behavior", "Removed") && inverted)))
        return fail_part(c, "pre-tokenizer Split with behavior", text_of(part, "behavior"), err);
    return add_words(c, json_string_value(regex), json_string_length(regex), err);
}

static toque_status byte_level_part(chain *c, const json_t *part, toque_error *err) {
    c->byte_level = true;
    if (json_is_true(json_object_get(part, "add_prefix_space")))
        return fail_part(c, "pre-tokenizer ByteLevel with", "add_prefix_space", err);
    if (json_is_false(json_object_get(part, "use_regex"))) return TOQUE_OK;
    return WORDS("'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+");
}

static toque_status metaspace_part(chain *c, const json_t *part, toque_error *err) {
    const json_t *split = json_object_get(part, "split"), *old = json_object_get(part, "add_prefix_space");
    const char *scheme = text_of(part, "prepend_scheme");
    if (!*scheme) scheme = json_is_false(old) ? "never" : "always";
    if (!is(part, "replacement", TQ_HF_SPACE)) return fail_part(c, "Metaspace with", text_of(part, "replacement"), err);
    if (!json_is_false(split)) return fail_part(c, "pre-tokenizer Metaspace with", "split", err);
    c->vocab.escaped = true;
    if (strcmp(scheme, "never") == 0) return TOQUE_OK;
    c->prefix = true;
    c->metaspace = strcmp(scheme, "first") == 0 ? "first" : "always";
    return TOQUE_OK;
}

static toque_status pre_part(chain *c, const json_t *part, toque_error *err) {
    if (is(part, "type", "ByteLevel")) return byte_level_part(c, part, err);
    if (is(part, "type", "Split")) return split_part(c, part, err);
    if (is(part, "type", "Metaspace")) return metaspace_part(c, part, err);
    if (is(part, "type", "Digits"))
        return json_is_true(json_object_get(part, "individual_digits")) ? WORDS("\\p{N}") : WORDS("\\p{N}+");
    return fail_part(c, "pre-tokenizer", text_of(part, "type"), err);
}

/* --- normalizers ------------------------------------------------------------------------------------------- */
static toque_status normal_part(chain *c, const json_t *part, toque_error *err) {
    if (is(part, "type", "NFC")) {
        c->nfc = true;
        return TOQUE_OK;
    }
    if (is(part, "type", "Prepend") && is(part, "prepend", TQ_HF_SPACE)) {
        c->prefix = true;
        return TOQUE_OK;
    }
    if (is(part, "type", "Replace") && is(json_object_get(part, "pattern"), "String", " ") &&
        is(part, "content", TQ_HF_SPACE)) {
        c->vocab.escaped = true;
        return TOQUE_OK;
    }
    return fail_part(c, "normalizer", text_of(part, "type"), err);
}

/* --- models ------------------------------------------------------------------------------------------------ */
static toque_status put_text(const hf_folder *h, const char *key, const char *value, toque_error *err) {
    return tq_gguf_put_str(h->w, key, value, strlen(value), err);
}

static toque_status put_bpe(chain *c, const json_t *model, toque_error *err) {
    const json_t *root = c->h->tokenizer;
    TQ_TRY(walk(c, json_object_get(root, "normalizer"), "normalizers", normal_part, err));
    TQ_TRY(walk(c, json_object_get(root, "pre_tokenizer"), "pretokenizers", pre_part, err));
    static const char *const refused[] = {"dropout", "continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (!tq_hf_empty(json_object_get(model, refused[i]))) return fail_part(c, "BPE with", refused[i], err);
    bool fallback = json_is_true(json_object_get(model, "byte_fallback"));
    if (c->byte_level == c->vocab.escaped)
        return fail_part(c, "BPE that is", c->byte_level ? "over bytes and U+2581" : "neither over bytes nor U+2581",
                         err);
    if (c->vocab.escaped && (!fallback || c->n_words || c->nfc))
        return fail_part(c, "BPE over characters",
                         !fallback    ? "without byte_fallback"
                         : c->n_words ? "with split words"
                                      : "with NFC",
                         err);
    hf_folder *h = c->h;
    TQ_TRY(put_text(h, "tokenizer.ggml.model", c->byte_level ? "gpt2" : "gemma4", err));
    TQ_TRY(tq_gguf_put_strings(h->w, "tokenizer.toque.words", c->words, c->n_words, err));
    if (c->nfc) TQ_TRY(tq_gguf_put_bool(h->w, "tokenizer.toque.nfc", true, err));
    if (json_is_true(json_object_get(model, "ignore_merges")))
        TQ_TRY(tq_gguf_put_bool(h->w, "tokenizer.toque.whole_words", true, err));
    if (c->vocab.escaped) TQ_TRY(tq_gguf_put_bool(h->w, "tokenizer.ggml.add_space_prefix", c->prefix, err));
    if (c->metaspace) TQ_TRY(put_text(h, "tokenizer.toque.metaspace", c->metaspace, err));
    c->vocab.bytes = c->vocab.escaped;
    TQ_TRY(tq_hf_vocab_read(&c->vocab, h, err));
    return tq_hf_vocab_merges(&c->vocab, h, json_object_get(model, "merges"), err);
}

static toque_status put_wordpiece(chain *c, const json_t *model, toque_error *err) {
    hf_folder *h = c->h;
    const json_t *normalizer = json_object_get(h->tokenizer, "normalizer");
    const json_t *pre = json_object_get(h->tokenizer, "pre_tokenizer"), *most;
    uint32_t n = 100;
    if (!is(normalizer, "type", "BertNormalizer")) return fail_part(c, "normalizer", text_of(normalizer, "type"), err);
    if (!is(pre, "type", "BertPreTokenizer")) return fail_part(c, "pre-tokenizer", text_of(pre, "type"), err);
    if (!json_is_true(json_object_get(normalizer, "clean_text")) ||
        !json_is_true(json_object_get(normalizer, "handle_chinese_chars")))
        return fail_part(c, "BertNormalizer without", "clean_text and handle_chinese_chars", err);
    most = json_object_get(model, "max_input_chars_per_word");
    if (most && (!tq_hf_whole(most, 1e6, &n) || n != 100))
        return fail_part(c, "WordPiece with", "max_input_chars_per_word other than 100", err);
    if (!is(model, "continuing_subword_prefix", "##"))
        return fail_part(c, "WordPiece with continuing_subword_prefix", text_of(model, "continuing_subword_prefix"),
                         err);
    bool lower = json_is_true(json_object_get(normalizer, "lowercase"));
    const json_t *accents = json_object_get(normalizer, "strip_accents");
    bool strip = json_is_boolean(accents) ? json_is_true(accents) : lower;
    TQ_TRY(put_text(h, "tokenizer.ggml.model", "bert", err));
    TQ_TRY(tq_gguf_put_bool(h->w, "tokenizer.ggml.normalizer.lowercase", lower, err));
    TQ_TRY(tq_gguf_put_bool(h->w, "tokenizer.ggml.normalizer.strip_accents", strip, err));
    c->vocab.wordpiece = true;
    return tq_hf_vocab_read(&c->vocab, h, err);
}

/* --- special tokens ---------------------------------------------------------------------------------------- */
static toque_status put_id(const hf_folder *h, const char *key, uint32_t id, toque_error *err) {
    return tq_gguf_put_u32(h->w, key, id, err);
}

/* A special token by its text in tokenizer_config.json, else by its id in config.json. */
static bool named_token(const chain *c, const char *name, uint32_t *id) {
    const json_t *v = json_object_get(c->h->tokenizer_config, name);
    if (json_is_object(v)) v = json_object_get(v, "content");
    if (json_is_string(v)) return tq_hf_vocab_find(&c->vocab, json_string_value(v), json_string_length(v), id);
    char key[64];
    snprintf(key, sizeof key, "%s_id", name);
    return tq_hf_whole(json_object_get(c->h->config, key), c->vocab.n - 1.0, id);
}

/* What the post-processor puts around one text. */
typedef struct around {
    bool has[2]; /* before, after */
    uint32_t id[2];
} around;

static toque_status template_step(const chain *c, const json_t *post, const json_t *step, bool after, around *a,
                                  toque_error *err) {
    const char *name = text_of(json_object_get(step, "SpecialToken"), "id");
    const json_t *ids = json_object_get(json_object_get(json_object_get(post, "special_tokens"), name), "ids");
    if (json_array_size(ids) != 1 || a->has[after] ||
        !tq_hf_whole(json_array_get(ids, 0), c->vocab.n - 1.0, &a->id[after]))
        return fail_part(c, "post-processor TemplateProcessing with", name, err);
    a->has[after] = true;
    return TOQUE_OK;
}

static toque_status post_part(chain *c, const json_t *post, around *a, toque_error *err) {
    if (is(post, "type", "ByteLevel")) return TOQUE_OK;
    if (is(post, "type", "BertProcessing") || is(post, "type", "RobertaProcessing")) {
        for (int i = 0; i < 2; i++)
            a->has[i] =
                tq_hf_whole(json_array_get(json_object_get(post, i ? "sep" : "cls"), 1), c->vocab.n - 1.0, &a->id[i]);
        if (a->has[0] && a->has[1]) return TOQUE_OK;
    }
    if (!is(post, "type", "TemplateProcessing")) return fail_part(c, "post-processor", text_of(post, "type"), err);
    const json_t *step;
    size_t i;
    bool after = false;
    json_array_foreach(json_object_get(post, "single"), i, step) {
        if (json_object_get(step, "SpecialToken"))
            TQ_TRY(template_step(c, post, step, after, a, err));
        else if (is(json_object_get(step, "Sequence"), "id", "A") && !after)
            after = true;
        else
            return fail_part(c, "post-processor TemplateProcessing", "of this form", err);
    }
    return after ? TOQUE_OK : fail_part(c, "post-processor TemplateProcessing", "without a text", err);
}

static toque_status read_around(chain *c, around *a, toque_error *err) {
    const json_t *post = json_object_get(c->h->tokenizer, "post_processor"), *item;
    size_t i;
    if (!post || json_is_null(post)) return TOQUE_OK;
    if (!is(post, "type", "Sequence")) return post_part(c, post, a, err);
    json_array_foreach(json_object_get(post, "processors"), i, item) TQ_TRY(post_part(c, item, a, err));
    return TOQUE_OK;
}

/* All of generation_config.json's (or config.json's) eos_token_id end an answer. */
static toque_status put_ends(const chain *c, toque_error *err) {
    const json_t *v = json_object_get(c->h->generation, "eos_token_id");
    if (!v || json_is_null(v)) v = json_object_get(c->h->config, "eos_token_id");
    uint32_t ids[64], n = 0;
    size_t count = json_is_array(v) ? json_array_size(v) : json_is_number(v) ? 1 : 0;
    for (size_t i = 0; i < count; i++)
        if (i >= 64 || !tq_hf_whole(json_is_array(v) ? json_array_get(v, i) : v, c->vocab.n - 1.0, &ids[n++]))
            return TQ_FAIL(err, EFORMAT, "%s: eos_token_id names no token of the vocabulary of %u", c->h->dir,
                           c->vocab.n);
    return tq_gguf_put_numbers(c->h->w, "tokenizer.toque.end_ids", TQ_GGUF_U32, ids, n, err);
}

static toque_status put_specials(chain *c, toque_error *err) {
    hf_folder *h = c->h;
    around a = {0};
    uint32_t bos, eos, unk;
    TQ_TRY(read_around(c, &a, err));
    bool has_bos = named_token(c, "bos_token", &bos), has_eos = named_token(c, "eos_token", &eos);
    if (c->vocab.wordpiece) {
        if (a.has[0]) TQ_TRY(put_id(h, "tokenizer.ggml.cls_token_id", a.id[0], err));
        if (a.has[1]) TQ_TRY(put_id(h, "tokenizer.ggml.seperator_token_id", a.id[1], err));
    } else {
        for (int i = 0; i < 2; i++)
            if (a.has[i] && (i ? has_eos && eos != a.id[i] : has_bos && bos != a.id[i]))
                return fail_part(c, "post-processor that adds another token than",
                                 i ? "eos_token at the end" : "bos_token in front", err);
        if (has_bos || a.has[0]) TQ_TRY(put_id(h, "tokenizer.ggml.bos_token_id", a.has[0] ? a.id[0] : bos, err));
        if (has_eos || a.has[1]) TQ_TRY(put_id(h, "tokenizer.ggml.eos_token_id", a.has[1] ? a.id[1] : eos, err));
    }
    const json_t *name = json_object_get(json_object_get(h->tokenizer, "model"), "unk_token");
    if (json_is_string(name) ? tq_hf_vocab_find(&c->vocab, json_string_value(name), json_string_length(name), &unk)
                             : named_token(c, "unk_token", &unk))
        TQ_TRY(put_id(h, "tokenizer.ggml.unknown_token_id", unk, err));
    TQ_TRY(tq_gguf_put_bool(h->w, "tokenizer.ggml.add_bos_token", a.has[0], err));
    TQ_TRY(tq_gguf_put_bool(h->w, "tokenizer.ggml.add_eos_token", a.has[1], err));
    return put_ends(c, err);
}

toque_status tq_hf_tokenizer(hf_folder *h, toque_error *err) {
    chain c = {.h = h};
    const json_t *model = json_object_get(h->tokenizer, "model");
    tq_hf_vocab_init(&c.vocab, h->mem);
    toque_status status;
    /* Old files leave the model's type out. */
    if (is(model, "type", "BPE") || (!json_object_get(model, "type") && json_object_get(model, "merges")))
        status = put_bpe(&c, model, err);
    else if (is(model, "type", "WordPiece"))
        status = put_wordpiece(&c, model, err);
    else
        status = fail_part(&c, "model", text_of(model, "type"), err);
    if (status == TOQUE_OK) status = put_specials(&c, err);
    tq_hf_vocab_clear(&c.vocab);
    return status;
}
