/* Tokenizers: text to token ids and back, built from a GGUF file's metadata (tokenizer.ggml.*). Kinds (rows of
 * tokenizers.def): byte-level BPE (`gpt2`, with a pre-tokenizer by name), SentencePiece BPE (`llama`), unigram
 * (`t5`-style scores), WordPiece (`bert`). A tokenizer is immutable and may be shared by threads. */
#ifndef TQ_TEXT_TOKENIZER_H
#define TQ_TEXT_TOKENIZER_H

#include "base/buf.h"
#include "files/gguf.h"

typedef int32_t tq_token;
enum { TQ_NO_TOKEN = -1 };

typedef enum tq_token_kind { /* GGUF's tokenizer.ggml.token_type */
                             TQ_TOKEN_NORMAL = 1,
                             TQ_TOKEN_UNKNOWN,
                             TQ_TOKEN_CONTROL,
                             TQ_TOKEN_USER_DEFINED,
                             TQ_TOKEN_UNUSED,
                             TQ_TOKEN_BYTE
} tq_token_kind;

typedef struct tq_tokenizer tq_tokenizer;
/* The strings stay in the file: gguf must outlive the tokenizer. */
toque_status tq_tokenizer_from_gguf(tq_tokenizer **tok, tq_mem *mem, const tq_gguf *gguf, toque_error *err) TQ_MUST;
void tq_tokenizer_free(tq_tokenizer *tok);

int32_t tq_tokenizer_size(const tq_tokenizer *tok);
/* Special ids, TQ_NO_TOKEN when the model has none. */
tq_token tq_tokenizer_bos(const tq_tokenizer *tok);
tq_token tq_tokenizer_eos(const tq_tokenizer *tok);
tq_token tq_tokenizer_unk(const tq_tokenizer *tok);
/* Whether plain text gets BOS in front / EOS behind by default (tokenizer.ggml.add_bos_token, ...). */
bool tq_tokenizer_add_bos(const tq_tokenizer *tok);
bool tq_tokenizer_add_eos(const tq_tokenizer *tok);
/* True for tokens that end an answer: EOS, EOT and the control tokens known by name (<|im_end|>, <|eot_id|>, ...). */
bool tq_tokenizer_is_end(const tq_tokenizer *tok, tq_token token);
tq_token_kind tq_tokenizer_kind(const tq_tokenizer *tok, tq_token token);
/* The token's text as stored in the vocabulary (not decoded). Out of range: "", 0. */
tq_string tq_tokenizer_text(const tq_tokenizer *tok, tq_token token);
/* The id of a token whose stored text is exactly s; TQ_NO_TOKEN if none. */
tq_token tq_tokenizer_find(const tq_tokenizer *tok, const char *s, size_t n);

typedef struct tq_tokens { /* a growing list; init with {.mem = mem}; free ids with tq_free */
    tq_mem *mem;
    tq_token *ids;
    uint32_t *start, *end; /* bytes [start, end) of the input that each token covers; filled when want_offsets */
    size_t len, cap;
    bool want_offsets; /* bytes of tokens that share one character are split at byte level where the kind allows */
} tq_tokens;
void tq_tokens_clear(tq_tokens *list);

/* A run of input in which special (control and user-defined) tokens are recognized in the text or not. */
typedef struct tq_text_span {
    size_t len;   /* bytes */
    bool special; /* recognize control tokens here; user-defined tokens are recognized everywhere */
} tq_text_span;

/* Appends the tokens of text to list. BOS and EOS only as add_special says and the model wants them. parse_special:
 * recognize control tokens in the text. Invalid UTF-8 is tokenized byte for byte where the kind has byte tokens. */
toque_status tq_tokenize(const tq_tokenizer *tok, const char *text, size_t n, bool add_special, bool parse_special,
                         tq_tokens *list, toque_error *err) TQ_MUST;
/* The same over a text in spans (rendered templates: specials only in template bytes). The spans sum to n. */
toque_status tq_tokenize_spans(const tq_tokenizer *tok, const char *text, size_t n, const tq_text_span *spans,
                               size_t n_spans, bool add_special, tq_tokens *list, toque_error *err) TQ_MUST;

/* Appends a token's bytes to out: may be part of a UTF-8 sequence. show_special: control tokens appear as their text,
 * otherwise as nothing. `first`: it is the first token of a text (SentencePiece drops its leading space there). */
bool tq_detokenize(const tq_tokenizer *tok, tq_token token, bool first, bool show_special, tq_buf *out);

/* Streaming: feed tokens, get whole UTF-8 characters. */
typedef struct tq_detok {
    const tq_tokenizer *tok;
    tq_buf pending;
    bool first, show_special;
} tq_detok;
void tq_detok_init(tq_detok *d, const tq_tokenizer *tok, tq_mem *mem, bool show_special);
void tq_detok_clear(tq_detok *d);
/* Appends to out all characters that are complete after this token; invalid bytes become U+FFFD. */
bool tq_detok_feed(tq_detok *d, tq_token token, tq_buf *out);
bool tq_detok_finish(tq_detok *d, tq_buf *out); /* what is left, as U+FFFD */

#endif
