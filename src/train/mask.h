/* Masks: which tokens of a conversation are learned (docs/masks.md). The chat template's interpreter says of every byte
 * of a rendering where it came from; a turn's span is found from that, and a token is learned when all its bytes lie in
 * a span. What comes out is exactly what the model sees, and is asked to write, when it serves. */
#ifndef TQ_TRAIN_MASK_H
#define TQ_TRAIN_MASK_H

#include "train/dataset.h"

/* A turn's span in a rendering. */
typedef struct tq_turn {
    int message;       /* index into messages */
    size_t start, end; /* bytes that are learned; start == end: the template wrote nothing of it */
    size_t content;    /* end of its last content byte */
    bool closed;       /* an end-of-turn token stands at its end */
} tq_turn;

/* One example as it comes out. */
typedef struct tq_masked {
    const tq_token *tokens;
    const uint8_t *target; /* [n] */
    const float *weight;   /* [n] of each target's turn; NULL: all are 1 */
    int n, n_targets;
    bool unclosed; /* a learned turn has no end-of-turn token: the model will not learn to stop */
    bool split;    /* one of several examples of a row whose template rewrites earlier turns */
} tq_masked;
/* Takes a copy of what it needs. */
typedef toque_status tq_mask_fn(void *arg, const tq_masked *example, toque_error *err);

typedef struct tq_mask_row {
    json_t *messages, *tools; /* tools may be NULL */
    const float *turns;       /* [messages] weight of each turn, 0: not learned; NULL: all 1 */
    tq_train_on train_on;
} tq_mask_row;

/* Renders, tokenizes and masks a conversation: one call of fn, or one per learned assistant turn where the template
 * writes earlier turns differently than they were when the model wrote them. No assistant turn: one call without
 * targets. ENOTFOUND without a chat template. */
toque_status tq_mask_messages(tq_model *model, const tq_mask_row *row, tq_mask_fn *fn, void *arg,
                              toque_error *err) TQ_MUST;
/* Plain text: BOS if the tokenizer adds one, the text, EOS if there is one and `end`. Tokens from byte `from` on are
 * learned, EOS too; from == n with end false: nothing is. */
toque_status tq_mask_text(tq_model *model, const char *text, size_t n, size_t from, bool end, tq_mask_fn *fn, void *arg,
                          toque_error *err) TQ_MUST;

/* The span of assistant turn `message` in the rendering r. served: the rendering of the messages before it with the
 * generation prompt, or NULL where the template cannot write that; bare: the same without the generation prompt (needed
 * only when r does not begin with served). tokens carry offsets into r. */
void tq_mask_turn(const tq_tokenizer *tok, const tq_rendered *r, const tq_tokens *tokens, int message,
                  const tq_rendered *served, const tq_rendered *bare, tq_turn *turn);

#endif
