/* Messages of requests: checked, their content made plain text, and through the model's template to tokens. */
#ifndef TQ_SERVER_CHAT_H
#define TQ_SERVER_CHAT_H

#include "server/state.h"

/* Appends the tokens of messages; text, if wanted, gets the rendering. vars: further variables of the template, or
 * NULL. generation_prompt: the head of the answer stands behind. EINVAL names the message that is wrong. */
toque_status tq_chat_tokens(const tq_server *s, const json_t *messages, json_t *vars, bool generation_prompt,
                            tq_tokens *tokens, tq_buf *text, toque_error *err) TQ_MUST;

#endif
