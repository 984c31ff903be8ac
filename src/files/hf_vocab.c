/* Tokens and merges of a tokenizer.json. See hf_vocab.h. */
#include "files/hf_vocab.h"

#include <string.h>

enum { MAX_TOKENS = 1 << 24, NORMAL = 1, CONTROL = 3, USER_DEFINED = 4, UNUSED = 5, BYTE = 6 };

void tq_hf_vocab_init(hf_vocab *v, tq_mem *mem) {
    v->mem = mem;
    tq_arena_init(&v->arena, mem, 1 << 16);
}

void tq_hf_vocab_clear(hf_vocab *v) {
    tq_names_clear(&v->names);
    tq_arena_clear(&v->arena);
    tq_free(v->mem, v->texts);
    tq_free(v->mem, v->kinds);
}

bool tq_hf_vocab_find(const hf_vocab *v, const char *text, size_t len, uint32_t *id) {
    size_t i;
    if (!tq_names_find(&v->names, text, len, &i)) return false;
    *id = (uint32_t)i;
    return true;
}

static toque_status fail_id(const hf_folder *h, const char *text, toque_error *err) {
    return TQ_FAIL(err, EFORMAT, "%s/tokenizer.json: token '%.60s' has no usable id, or one that is taken", h->dir,
                   text);
}

/* GGUF's form of a WordPiece token. */
static toque_status wordpiece_text(hf_vocab *v, const char *text, size_t n, tq_string *out, toque_error *err) {
    if (n > 2 && text[0] == '#' && text[1] == '#') {
        *out = (tq_string){text + 2, n - 2};
        return TOQUE_OK;
    }
    char *copy = tq_arena_alloc(&v->arena, n + 4, 1);
    if (!copy) return TQ_NOMEM(err);
    memcpy(copy, TQ_HF_SPACE, 3);
    memcpy(copy + 3, text, n);
    *out = (tq_string){copy, n + 3};
    return TOQUE_OK;
}

static bool is_byte(const char *s, size_t n) {
    return n == 6 && memcmp(s, "<0x", 3) == 0 && s[5] == '>' && strspn(s + 3, "0123456789ABCDEFabcdef") == 2;
}

static toque_status read_model(hf_vocab *v, const hf_folder *h, const json_t *vocab, toque_error *err) {
    const char *text;
    json_t *item;
    size_t bytes = 0;
    json_object_foreach((json_t *)(uintptr_t)vocab, text, item) {
        uint32_t id;
        size_t n = strlen(text);
        if (!tq_hf_whole(item, v->n - 1.0, &id) || v->texts[id].data) return fail_id(h, text, err);
        v->texts[id] = (tq_string){text, n};
        v->kinds[id] = NORMAL;
        if (!tq_names_add(&v->names, text, n, id)) return fail_id(h, text, err);
        if (v->wordpiece) TQ_TRY(wordpiece_text(v, text, n, &v->texts[id], err));
        if (v->bytes && is_byte(text, n)) {
            v->kinds[id] = BYTE;
            bytes++;
        }
    }
    if (v->bytes && bytes != 256)
        return TQ_FAIL(err, EUNSUPPORTED, "%s/tokenizer.json: byte_fallback with %zu of 256 byte tokens", h->dir,
                       bytes);
    return TOQUE_OK;
}

/* Added tokens are found in a text before it is normalized and split; special ones are GGUF's control tokens. */
static toque_status read_added(hf_vocab *v, const hf_folder *h, const json_t *added, toque_error *err) {
    const json_t *item;
    size_t i;
    json_array_foreach(added, i, item) {
        const json_t *content = json_object_get(item, "content");
        const char *text = json_string_value(content);
        size_t n = json_string_length(content), known;
        uint32_t id;
        if (!text || !n || !tq_hf_whole(json_object_get(item, "id"), v->n - 1.0, &id))
            return fail_id(h, text ? text : "(none)", err);
        static const char *const flags[] = {"single_word", "lstrip", "rstrip"};
        for (int f = 0; f < 3; f++)
            if (json_is_true(json_object_get(item, flags[f])))
                return TQ_FAIL(err, EUNSUPPORTED, "%s/tokenizer.json: added token '%.60s' with '%s' is not supported",
                               h->dir, text, flags[f]);
        bool found = tq_names_find(&v->names, text, n, &known);
        if (found ? known != id : v->texts[id].data || !tq_names_add(&v->names, text, n, id))
            return fail_id(h, text, err);
        v->texts[id] = (tq_string){text, n};
        v->kinds[id] = json_is_true(json_object_get(item, "special")) ? CONTROL : USER_DEFINED;
    }
    return TOQUE_OK;
}

/* One more than the highest id. Ids may have gaps, but not so many that a few bytes of file ask for all memory. */
static toque_status count(hf_vocab *v, const hf_folder *h, const json_t *vocab, const json_t *added, toque_error *err) {
    const char *text;
    json_t *item;
    size_t i, tokens = json_object_size(vocab) + json_array_size(added);
    json_object_foreach((json_t *)(uintptr_t)vocab, text, item) {
        uint32_t id;
        if (!tq_hf_whole(item, MAX_TOKENS, &id)) return fail_id(h, text, err);
        if (id >= v->n) v->n = id + 1;
    }
    json_array_foreach(added, i, item) {
        uint32_t id;
        if (!tq_hf_whole(json_object_get(item, "id"), MAX_TOKENS, &id)) return fail_id(h, "(added)", err);
        if (id >= v->n) v->n = id + 1;
    }
    if (v->n == 0 || v->n > 2 * tokens + 65536)
        return TQ_FAIL(err, EFORMAT, "%s/tokenizer.json: %zu tokens with ids up to %u", h->dir, tokens, v->n);
    return TOQUE_OK;
}

toque_status tq_hf_vocab_read(hf_vocab *v, hf_folder *h, toque_error *err) {
    const json_t *vocab = json_object_get(json_object_get(h->tokenizer, "model"), "vocab");
    const json_t *added = json_object_get(h->tokenizer, "added_tokens");
    TQ_TRY(count(v, h, vocab, added, err));
    v->texts = TQ_NEW_ARRAY(v->mem, tq_string, v->n);
    v->kinds = TQ_NEW_ARRAY(v->mem, int32_t, v->n);
    if (!v->texts || !v->kinds || !tq_names_init(&v->names, v->mem, json_object_size(vocab) + json_array_size(added)))
        return TQ_NOMEM(err);
    TQ_TRY(read_model(v, h, vocab, err));
    TQ_TRY(read_added(v, h, added, err));
    for (uint32_t i = 0; i < v->n; i++)
        if (!v->texts[i].data) {
            v->texts[i] = (tq_string){"", 0};
            v->kinds[i] = UNUSED;
        }
    TQ_TRY(tq_gguf_put_strings(h->w, "tokenizer.ggml.tokens", v->texts, v->n, err));
    return tq_gguf_put_numbers(h->w, "tokenizer.ggml.token_type", TQ_GGUF_I32, v->kinds, v->n, err);
}

/* "left right", or newer: ["left", "right"]. */
static toque_status merge_text(hf_vocab *v, const json_t *item, tq_string *out, toque_error *err) {
    *out = (tq_string){json_string_value(item), json_string_length(item)};
    if (out->data) return TOQUE_OK;
    const json_t *a = json_array_get(item, 0), *b = json_array_get(item, 1);
    size_t n = json_string_length(a), m = json_string_length(b);
    *out = (tq_string){NULL, n + m + 1};
    if (json_array_size(item) != 2 || !n || !m) return TOQUE_OK;
    if (memchr(json_string_value(a), ' ', n) || memchr(json_string_value(b), ' ', m)) return TOQUE_OK;
    char *text = tq_arena_alloc(&v->arena, n + m + 1, 1);
    if (!text) return TQ_NOMEM(err);
    memcpy(text, json_string_value(a), n);
    text[n] = ' ';
    memcpy(text + n + 1, json_string_value(b), m);
    out->data = text;
    return TOQUE_OK;
}

toque_status tq_hf_vocab_merges(hf_vocab *v, hf_folder *h, const json_t *merges, toque_error *err) {
    size_t n = json_array_size(merges), i;
    const json_t *item;
    tq_string *texts = TQ_NEW_ARRAY(v->mem, tq_string, n);
    if (!texts) return TQ_NOMEM(err);
    toque_status status = TOQUE_OK;
    json_array_foreach(merges, i, item) {
        TQ_GO(merge_text(v, item, &texts[i], err));
        if (texts[i].data) continue;
        status = TQ_FAIL(err, EFORMAT, "%s/tokenizer.json: merge %zu is no pair of tokens without spaces", h->dir, i);
        goto done;
    }
    status = tq_gguf_put_strings(h->w, "tokenizer.ggml.merges", texts, n, err);
done:
    tq_free(v->mem, texts);
    return status;
}
