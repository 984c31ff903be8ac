/* A generative model's help with a search. See helper.h. */
#include "rag/helper.h"

#include <jansson.h>
#include <string.h>
#include <strings.h>

#include "infer/generate.h"

enum { CONTEXT = 1024, PASSAGE_TOKENS = 80, QUERIES_TOKENS = 96 };

void tq_search_helper_clear(tq_search_helper *h) {
    tq_session_free(h->session);
    tq_scorer_free(h->scorer);
    h->session = NULL;
    h->scorer = NULL;
}

/* --- writing --------------------------------------------------------------------------------------------------- */

static toque_status prompt(tq_model *model, const char *request, const char *question, tq_tokens *tokens,
                           toque_error *err) {
    tq_buf text;
    tq_rendered rendered = {0};
    if (!model->chat_template)
        return TQ_FAIL(err, ENOTFOUND, "the model has no chat template, so it cannot expand a question (--expand)");
    tq_buf_init(&text, &model->ctx->mem, SIZE_MAX / 4);
    tq_buf_printf(&text, "%s\n\n%s", request, question);
    toque_status status = tq_buf_status(&text, "the prompt", err);
    json_t *messages = status == TOQUE_OK ? json_pack("[{s:s, s:s}]", "role", "user", "content", text.data) : NULL;
    if (status == TOQUE_OK && !messages) status = TQ_FAIL(err, EINVAL, "the question is not valid UTF-8");
    if (status == TOQUE_OK) status = tq_model_render(model, messages, NULL, NULL, true, &rendered, err);
    if (status == TOQUE_OK) status = tq_model_tokenize_rendered(model, &rendered, tokens, err);
    tq_rendered_clear(&rendered);
    json_decref(messages);
    tq_buf_clear(&text);
    return status;
}

static toque_status write_text(tq_search_helper *h, const char *request, const char *question, int most,
                               tq_generated *g, toque_error *err) {
    tq_tokens tokens = {.mem = &h->model->ctx->mem};
    const tq_sampling greedy = tq_sampling_default();
    const tq_generate_options o = {.max_tokens = most, .prefill_only = true};
    int context = h->model->config.context;
    toque_status status = TOQUE_OK;
    if (!h->session)
        status =
            tq_session_new(&h->session, h->model, context && context < CONTEXT ? context : CONTEXT, h->max_rank, err);
    if (status == TOQUE_OK) status = prompt(h->model, request, question, &tokens, err);
    if (status == TOQUE_OK) status = tq_generate(h->session, tokens.ids, (int)tokens.len, h->hats, &greedy, &o, g, err);
    if (status == TOQUE_OK && g->finish == TQ_FINISH_CANCELED) status = TQ_FAIL(err, ECANCELED, "interrupted");
    tq_tokens_clear(&tokens);
    return status;
}

static bool in(const char *set, char c) {
    return c && strchr(set, c);
}

toque_status tq_helper_lines(const char *text, const char *question, tq_arena *arena, const char *texts[TQ_EXPAND_MOST],
                             size_t *n, toque_error *err) {
    *n = 0;
    for (const char *line = text, *next; *line && *n < TQ_EXPAND_MOST; line = next) {
        const char *end = line + strcspn(line, "\n");
        next = *end ? end + 1 : end;
        const char *number = line + strspn(line, " \t0123456789");
        if (in(".):", *number)) line = number + 1; /* "2. " */
        while (line < end && in(" \t-*\"'", *line)) line++;
        while (end > line && in(" \t\r\"'", end[-1])) end--;
        size_t len = (size_t)(end - line);
        bool again = len == 0 || (strlen(question) == len && strncasecmp(question, line, len) == 0);
        for (size_t i = 0; i < *n && !again; i++)
            again = strlen(texts[i]) == len && strncasecmp(texts[i], line, len) == 0;
        if (again) continue;
        if (!(texts[*n] = tq_arena_strndup(arena, line, len))) return TQ_NOMEM(err);
        ++*n;
    }
    return TOQUE_OK;
}

toque_status tq_helper_expand(tq_search_helper *h, tq_expansion kind, const char *question, tq_arena *arena,
                              const char *texts[TQ_EXPAND_MOST], size_t *n, toque_error *err) {
    tq_generated g;
    bool passage = kind == TQ_EXPAND_HYDE;
    *n = 0;
    tq_generated_init(&g, &h->model->ctx->mem);
    toque_status status =
        passage ? write_text(h, "Write one or two sentences of a manual that answer this question.", question,
                             PASSAGE_TOKENS, &g, err)
                : write_text(h, "Ask this question in three other ways. Write one question a line and nothing else.",
                             question, QUERIES_TOKENS, &g, err);
    tq_buf_putc(&g.text, 0);
    if (status == TOQUE_OK) status = tq_buf_status(&g.text, "the model's words", err);
    if (status == TOQUE_OK && !passage) status = tq_helper_lines(g.text.data, question, arena, texts, n, err);
    if (status == TOQUE_OK && passage && *g.text.data) {
        texts[0] = tq_arena_strndup(arena, g.text.data, strlen(g.text.data));
        *n = 1;
        if (!texts[0]) status = TQ_NOMEM(err);
    }
    tq_generated_clear(&g);
    return status;
}

/* --- reading --------------------------------------------------------------------------------------------------- */

/* The tokens of "passage, request, question" into list; those from *from on are the question's. */
static toque_status sequence(tq_model *model, const tq_passage_info *p, const char *question, tq_tokens *list,
                             size_t *from, toque_error *err) {
    tq_buf text;
    tq_buf_init(&text, &model->ctx->mem, SIZE_MAX / 4);
    tq_buf_printf(&text, "%s%s", p->heading, *p->heading ? "\n" : "");
    tq_buf_put(&text, p->text, p->text_len);
    tq_buf_puts(&text, "\n\nA question that this text answers:");
    toque_status status = tq_buf_status(&text, "the passage", err);
    if (tq_tokenizer_add_bos(model->tokenizer)) { /* add_special would put an end behind the passage too */
        if (!TQ_GROW(list->mem, list->ids, list->len, list->cap)) status = TQ_NOMEM(err);
        if (status == TOQUE_OK) list->ids[list->len++] = tq_tokenizer_bos(model->tokenizer);
    }
    if (status == TOQUE_OK) status = tq_tokenize(model->tokenizer, text.data, text.len, false, false, list, err);
    *from = list->len;
    tq_buf_reset(&text);
    tq_buf_printf(&text, " %s", question);
    if (status == TOQUE_OK) status = tq_buf_status(&text, "the question", err);
    if (status == TOQUE_OK) status = tq_tokenize(model->tokenizer, text.data, text.len, false, false, list, err);
    tq_buf_clear(&text);
    return status;
}

toque_status tq_helper_rerank(tq_search_helper *h, const char *question, const tq_passage_info *const *passages,
                              size_t n, double *scores, toque_error *err) {
    tq_mem *mem = &h->model->ctx->mem;
    if (n == 0) return TOQUE_OK;
    tq_tokens *lists = tq_zalloc(mem, n, sizeof *lists);
    uint8_t **targets = tq_zalloc(mem, n, sizeof *targets);
    tq_score_item *items = tq_zalloc(mem, n, sizeof *items);
    toque_status status = lists && targets && items ? TOQUE_OK : TQ_NOMEM(err);
    if (status == TOQUE_OK && !h->scorer) status = tq_scorer_new(&h->scorer, h->model, h->max_rank, err);
    for (size_t i = 0, from; i < n && status == TOQUE_OK; i++) {
        lists[i].mem = mem;
        status = sequence(h->model, passages[i], question, &lists[i], &from, err);
        if (status != TOQUE_OK) break;
        if (!(targets[i] = tq_zalloc(mem, lists[i].len + 1, 1))) status = TQ_NOMEM(err);
        for (size_t j = from; j < lists[i].len && targets[i]; j++) targets[i][j] = 1;
        items[i] =
            (tq_score_item){.tokens = lists[i].ids, .target = targets[i], .n = (int)lists[i].len, .hats = h->hats};
    }
    if (status == TOQUE_OK) status = tq_score(h->scorer, items, n, err);
    if (status == TOQUE_ELIMIT) tq_error_prefix(err, status, "a passage is too long for the model to rerank it");
    for (size_t i = 0; i < n && status == TOQUE_OK; i++)
        scores[i] = items[i].n_targets ? items[i].sum / items[i].n_targets : 0;
    for (size_t i = 0; lists && i < n; i++)
        if (lists[i].mem) tq_tokens_clear(&lists[i]);
    for (size_t i = 0; targets && i < n; i++) tq_free(mem, targets[i]);
    tq_free(mem, lists);
    tq_free(mem, targets);
    tq_free(mem, items);
    return status;
}
