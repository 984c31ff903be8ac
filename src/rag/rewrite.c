/* Follow-up questions in words that stand alone, by the model itself. See answer.h. */
#include <string.h>

#include "rag/prompt.h"

enum { MOST_TOKENS = 48 };

/* The first line, without quotation marks around it. */
static void first_line(tq_buf *text) {
    size_t n = strcspn(text->data, "\r\n"), start = 0;
    while (start < n && strchr(" \t\"", text->data[start])) start++;
    while (n > start && strchr(" \t\"", text->data[n - 1])) n--;
    if (text->data && start) memmove(text->data, text->data + start, n - start);
    tq_buf_cut(text, n - start);
}

static toque_status has_terms(tq_rag *store, const char *text, bool *has, toque_error *err) {
    tq_buf terms;
    tq_buf_init(&terms, store->mem, 1 << 20);
    toque_status status = tq_query_terms(store, text, NULL, &terms, err);
    *has = terms.len > 0;
    tq_buf_clear(&terms);
    return status;
}

static toque_status generate(const tq_writer *writer, const tq_prompt_parts *parts, const tq_ask_options *o,
                             tq_generated *g, toque_error *err) {
    tq_prompt prompt;
    static const char *const stops[] = {"\n"};
    tq_sampling greedy = tq_sampling_default();
    const tq_generate_options options = {
        .max_tokens = MOST_TOKENS, .prefill_only = o->prefill_only, .stop = stops, .n_stop = 1};
    int context = tq_session_context(writer->session, writer->hats);
    toque_status status = tq_prompt_make(&prompt, tq_session_model(writer->session), parts,
                                         context > MOST_TOKENS ? (size_t)(context - MOST_TOKENS) : 0, err);
    if (status == TOQUE_OK)
        status = tq_generate(writer->session, prompt.tokens.ids, (int)prompt.tokens.len, writer->hats, &greedy,
                             &options, g, err);
    tq_prompt_clear(&prompt);
    return status;
}

toque_status tq_rewrite_question(tq_searcher *s, const tq_writer *writer, const char *question,
                                 const tq_ask_options *options, tq_buf *out, toque_error *err) {
    tq_mem *mem = &tq_session_model(writer->session)->ctx->mem;
    tq_generated g;
    tq_buf turn;
    bool usable = false;
    tq_prompt_parts parts = {.system = options->system ? options->system : tq_ask_system,
                             .history = options->history,
                             .shots = options->shots};
    tq_generated_init(&g, mem);
    tq_buf_init(&turn, mem, SIZE_MAX / 4);
    tq_buf_printf(&turn,
                  "Do not answer. Write this question again so that it names what it is about, with words of our "
                  "conversation: %s",
                  question);
    parts.question = turn.data;
    toque_status status = tq_buf_status(&turn, "the question", err);
    if (status == TOQUE_OK) status = generate(writer, &parts, options, &g, err);
    if (status == TOQUE_OK && g.text.len && g.finish != TQ_FINISH_CANCELED) {
        first_line(&g.text);
        status = has_terms(s->store, g.text.data, &usable, err);
    }
    if (status == TOQUE_OK) {
        tq_buf_reset(out);
        tq_buf_puts(out, usable ? g.text.data : question);
        status = tq_buf_status(out, "the question", err);
    }
    tq_buf_clear(&turn);
    tq_generated_clear(&g);
    return status;
}
