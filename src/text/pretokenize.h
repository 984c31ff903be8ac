/* Pre-tokenizers: named sequences of regular expressions (pretokenizers.def) that cut a text into the words within
 * which byte pairs merge. Each expression splits the pieces that the one before it left, and what it does not match
 * is kept as a piece: the "Split, isolated" of Hugging Face's tokenizers. Immutable; shared by threads. */
#ifndef TQ_TEXT_PRETOKENIZE_H
#define TQ_TEXT_PRETOKENIZE_H

#include "base/error.h"
#include "base/mem.h"
#include "files/gguf.h" /* tq_string */

typedef struct tq_pretok tq_pretok;

enum tq_pretok_flags {
    TQ_PRETOK_WHOLE_WORDS = 1, /* a word that is a token stands as it is, whatever the merges would make of it */
    TQ_PRETOK_ADD_BOS = 2,     /* texts begin with BOS unless the file says otherwise */
};

/* EUNSUPPORTED for a name that pretokenizers.def lacks. */
toque_status tq_pretok_new(tq_pretok **pre, tq_mem *mem, const char *name, size_t n, toque_error *err) TQ_MUST;
/* From expressions of a file, in the syntax of Hugging Face's tokenizers (Oniguruma's), in the order in which they
 * split. None: texts are whole. EUNSUPPORTED names what in an expression is not understood. */
toque_status tq_pretok_from_regexes(tq_pretok **pre, tq_mem *mem, const tq_string *regexes, size_t n,
                                    toque_error *err) TQ_MUST;
void tq_pretok_free(tq_pretok *pre); /* accepts NULL */
int tq_pretok_flags(const tq_pretok *pre);

/* One text at a time is split with a scratch; a thread has its own. NULL: no memory. */
typedef struct tq_pretok_scratch tq_pretok_scratch;
tq_pretok_scratch *tq_pretok_scratch_new(const tq_pretok *pre);
void tq_pretok_scratch_free(tq_pretok_scratch *scratch); /* accepts NULL */

/* Receives the pieces in order; they are gapless and none is empty. A failure ends the splitting. */
typedef toque_status (*tq_piece_fn)(void *arg, const char *piece, size_t n, toque_error *err);
/* text must be well-formed UTF-8. */
toque_status tq_pretok_split(const tq_pretok *pre, tq_pretok_scratch *scratch, const char *text, size_t n,
                             tq_piece_fn piece, void *arg, toque_error *err) TQ_MUST;

#endif
