/* Tokens in requests and answers. */
#ifndef TQ_SERVER_TOKENS_H
#define TQ_SERVER_TOKENS_H

#include "server/state.h"

/* An array of ids below V; name is the field's in messages. */
toque_status tq_read_tokens(const tq_server *s, const json_t *array, const char *name, tq_tokens *out,
                            toque_error *err) TQ_MUST;
/* What tokens say, control tokens included. */
toque_status tq_tokens_text(const tq_server *s, const tq_tokens *tokens, tq_buf *out, toque_error *err) TQ_MUST;

#endif
