/* Questions about a store's own passages. See question.h. */
#include "rag/question.h"

#include <jansson.h>
#include <string.h>
#include <strings.h>

#include "base/rng.h"
#include "infer/generate.h"
#include "rag/measures.h"
#include "rag/prompt.h"

enum { MOST_TOKENS = 80 };

/* --- passages and sentences ------------------------------------------------------------------------------------ */

toque_status tq_question_passages(tq_rag *store, int64_t least, uint64_t seed, int64_t **chunks, size_t *n,
                                  toque_error *err) {
    sqlite3_stmt *s;
    tq_rng rng;
    size_t cap = 0;
    toque_status status;
    *chunks = NULL;
    *n = 0;
    TQ_TRY(tq_sql_prepare(
        store->db, &s, "SELECT document, ordinal FROM chunks WHERE end - start >= ? ORDER BY document, ordinal", err));
    sqlite3_bind_int64(s, 1, least);
    for (bool row;;) {
        TQ_GO(tq_sql_step(s, &row, err));
        if (!row) break;
        if (!TQ_GROW(store->mem, *chunks, *n, cap)) {
            status = TQ_NOMEM(err);
            goto done;
        }
        (*chunks)[(*n)++] = tq_chunk_id(sqlite3_column_int64(s, 0), sqlite3_column_int64(s, 1));
    }
    tq_rng_init(&rng, seed, TQ_RNG_SHUFFLE, 0, 0);
    for (size_t i = *n; i > 1; i--) {
        size_t j = tq_rng_below(&rng, (uint32_t)i);
        int64_t t = (*chunks)[i - 1];
        (*chunks)[i - 1] = (*chunks)[j];
        (*chunks)[j] = t;
    }
done:
    sqlite3_finalize(s);
    if (status != TOQUE_OK) {
        tq_free(store->mem, *chunks);
        *chunks = NULL;
    }
    return status;
}

toque_status tq_question_sentence(tq_rag *store, const tq_passage_info *passage, const char *answer, tq_arena *arena,
                                  const char **sentence, toque_error *err) {
    tq_sentences list = {0};
    toque_status status = tq_sentences_add(&list, store, passage, arena, err);
    *sentence = NULL;
    for (size_t i = 0; i < list.n && status == TOQUE_OK && !*sentence; i++) {
        tq_overlap o;
        status = tq_answer_overlap(store->mem, list.items[i].text, answer, &o, err);
        if (status == TOQUE_OK && o.holds) *sentence = list.items[i].text;
    }
    tq_free(store->mem, list.items);
    return status;
}

/* --- a model's questions --------------------------------------------------------------------------------------- */

/* The rest of a line, without quotation marks and blanks around it. */
static const char *line_after(const char *at, tq_arena *arena) {
    at += strspn(at, " \t\"'");
    size_t n = strcspn(at, "\n");
    while (n && strchr(" \t\r\"'", at[n - 1])) n--;
    return n ? tq_arena_strndup(arena, at, n) : NULL;
}

bool tq_question_parse(const char *text, tq_arena *arena, tq_question *out) {
    static const char first[] = "Question:", second[] = "Answer:";
    const char *q = strcasestr(text, first), *a = q ? strcasestr(q, second) : NULL;
    out->question = a ? line_after(q + strlen(first), arena) : NULL;
    out->answer = a ? line_after(a + strlen(second), arena) : NULL;
    return out->question && out->answer && *out->question && *out->answer;
}

static toque_status prompt(tq_model *model, const tq_passage_info *p, tq_tokens *tokens, toque_error *err) {
    static const char system[] = "You write a question that a text answers, and its short answer in words of the text.",
                      shown[] = "\"\"\"\nThe museum opens at nine. It is closed on Mondays, and children under six pay "
                                "nothing.\n\"\"\"",
                      written[] = "Question: On which day is the museum closed?\nAnswer: Mondays";
    tq_buf text;
    tq_rendered rendered = {0};
    if (!model->chat_template)
        return TQ_FAIL(err, ENOTFOUND, "the model has no chat template, so it cannot write questions");
    tq_buf_init(&text, &model->ctx->mem, SIZE_MAX / 4);
    tq_buf_puts(&text, "\"\"\"\n");
    if (*p->heading) {
        tq_prompt_fence(&text, p->heading, strlen(p->heading), false);
        tq_buf_puts(&text, "\n");
    }
    tq_prompt_fence(&text, p->text, p->text_len, false);
    tq_buf_puts(&text, "\n\"\"\"");
    toque_status status = tq_buf_status(&text, "the prompt", err);
    json_t *messages = status == TOQUE_OK
                           ? json_pack("[{s:s, s:s}, {s:s, s:s}, {s:s, s:s}, {s:s, s:s}]", "role", "system", "content",
                                       system, "role", "user", "content", shown, "role", "assistant", "content",
                                       written, "role", "user", "content", text.data)
                           : NULL;
    if (status == TOQUE_OK && !messages) status = TQ_NOMEM(err);
    if (status == TOQUE_OK) status = tq_model_render(model, messages, NULL, NULL, true, &rendered, err);
    if (status == TOQUE_OK) status = tq_model_tokenize_rendered(model, &rendered, tokens, err);
    tq_rendered_clear(&rendered);
    json_decref(messages);
    tq_buf_clear(&text);
    return status;
}

static toque_status ask_model(tq_session *session, const tq_hats *hats, const tq_passage_info *passage, tq_arena *arena,
                              tq_question *out, toque_error *err) {
    tq_model *model = tq_session_model(session);
    tq_tokens tokens = {.mem = &model->ctx->mem};
    tq_generated g;
    const tq_sampling greedy = tq_sampling_default();
    const tq_generate_options o = {.max_tokens = MOST_TOKENS, .prefill_only = true};
    tq_generated_init(&g, &model->ctx->mem);
    toque_status status = prompt(model, passage, &tokens, err);
    if (status == TOQUE_OK) status = tq_generate(session, tokens.ids, (int)tokens.len, hats, &greedy, &o, &g, err);
    if (status == TOQUE_OK && g.finish == TQ_FINISH_CANCELED) status = TQ_FAIL(err, ECANCELED, "interrupted");
    tq_buf_putc(&g.text, 0);
    if (status == TOQUE_OK) status = tq_buf_status(&g.text, "the model's words", err);
    if (status == TOQUE_OK)
        out->fate = tq_question_parse(g.text.data, arena, out) ? TQ_QUESTION_KEPT : TQ_QUESTION_NONE;
    tq_generated_clear(&g);
    tq_tokens_clear(&tokens);
    return status;
}

toque_status tq_question_write(tq_searcher *s, tq_session *session, const tq_hats *hats, const tq_passage_info *passage,
                               const tq_search_options *search, tq_arena *arena, tq_question *out, toque_error *err) {
    *out = (tq_question){0};
    TQ_TRY(ask_model(session, hats, passage, arena, out, err));
    if (out->fate != TQ_QUESTION_KEPT) return TOQUE_OK;
    toque_status status = tq_question_sentence(s->store, passage, out->answer, arena, &out->sentence, err);
    if (status == TOQUE_EINVAL) { /* an answer of signs alone */
        out->fate = TQ_QUESTION_NONE;
        return TOQUE_OK;
    }
    TQ_TRY(status);
    if (!out->sentence) {
        out->fate = TQ_QUESTION_ABSENT;
        return TOQUE_OK;
    }
    tq_hits hits;
    status = tq_search(s, &hits, out->question, search, err);
    out->fate = TQ_QUESTION_LOST;
    for (size_t i = 0; i < hits.n && status == TOQUE_OK; i++)
        if (hits.items[i].passage.chunk == passage->chunk) out->fate = TQ_QUESTION_KEPT;
    tq_hits_clear(&hits);
    return status;
}
