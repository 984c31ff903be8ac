/* The prompt of a written answer. See prompt.h. */
#include "rag/prompt.h"

#include <string.h>

#include "text/unicode.h"

#define FENCE "\"\"\""

/* --- texts ----------------------------------------------------------------------------------------------------- */

/* Bytes of a number in square brackets at s, or 0. */
static size_t mark_at(const char *s, size_t n) {
    size_t i = 1;
    if (n < 3 || s[0] != '[') return 0;
    while (i < n && s[i] >= '0' && s[i] <= '9') i++;
    return i > 1 && i < n && s[i] == ']' ? i + 1 : 0;
}

void tq_prompt_fence(tq_buf *out, const char *text, size_t n, bool one_line) {
    bool blank = false;
    for (size_t i = 0, step; i < n; i += step) {
        size_t mark = mark_at(text + i, n - i);
        uint32_t cp;
        step = tq_utf8_next(text + i, n - i, &cp);
        if (one_line && (text[i] == '\n' || text[i] == '\r' || text[i] == '\t' || text[i] == ' ')) {
            blank = out->len > 0;
            continue;
        }
        if (blank) tq_buf_putc(out, ' ');
        blank = false;
        if (mark) {
            step = mark;
            tq_buf_printf(out, "(%.*s)", (int)mark - 2, text + i + 1);
        } else if (n - i >= 3 && memcmp(text + i, FENCE, 3) == 0) {
            step = 3;
            tq_buf_puts(out, "'''");
        } else if (cp >= TQ_UTF8_CUT) {
            tq_buf_puts(out, TQ_REPLACEMENT);
        } else {
            tq_buf_put(out, text + i, step);
        }
    }
}

static void put_source(tq_buf *out, const tq_reply_source *s, size_t number, bool passage) {
    tq_buf line;
    tq_buf_init(&line, out->mem, out->max);
    if (passage && *s->passage->heading) {
        tq_prompt_fence(&line, s->passage->heading, strlen(s->passage->heading), true);
        tq_buf_puts(&line, "\n");
    }
    if (passage) {
        tq_buf_printf(out, "[%zu] %s" FENCE "\n", number, line.len ? line.data : "");
        tq_buf_reset(&line);
    }
    tq_prompt_fence(&line, s->text, strlen(s->text), !passage);
    if (passage)
        tq_buf_printf(out, "%s\n" FENCE "\n", line.data);
    else
        tq_buf_printf(out, "[%zu] %s\n", number, line.data);
    out->failed |= line.failed;
    tq_buf_clear(&line);
}

static toque_status put_turn(json_t *messages, const tq_prompt_parts *parts, size_t n_sources, tq_mem *mem,
                             toque_error *err) {
    tq_buf text;
    tq_buf_init(&text, mem, SIZE_MAX / 4);
    for (size_t i = 0; i < n_sources; i++) put_source(&text, &parts->sources[i], i + 1, parts->passages);
    tq_buf_printf(&text, n_sources ? "\nQuestion: %s" : "%s", parts->question);
    toque_status status = tq_buf_status(&text, "the prompt", err);
    if (status == TOQUE_OK) {
        json_t *content = json_stringn(text.data, text.len);
        if (!content)
            status = TQ_FAIL(err, EINVAL, "the question is not valid UTF-8");
        else if (json_array_append_new(messages, json_pack("{s:s, s:o}", "role", "user", "content", content)))
            status = TQ_NOMEM(err);
    }
    tq_buf_clear(&text);
    return status;
}

/* --- the budget ------------------------------------------------------------------------------------------------ */

static bool is_role(const json_t *message, const char *role) {
    const char *r = json_string_value(json_object_get(message, "role"));
    return r && strcmp(r, role) == 0;
}

/* Where the last `keep` messages may begin: with a user's turn. Returns how many are kept. */
static size_t whole_turns(const json_t *history, size_t keep) {
    size_t n = json_array_size(history);
    while (keep && !is_role(json_array_get(history, n - keep), "user")) keep--;
    return keep;
}

/* What a good answer looks like: short, from the right sentence, in its words. In the other order, SmolLM2-135M put the
 * option into its answers to other questions. */
static const char *const shots[][2] = {
    {"[1] -q, --quiet: Print nothing but errors.\n"
     "[2] -o FILE, --output FILE: Write the result to FILE instead of the terminal.\n"
     "[3] See also the manual of the editor.\n"
     "\nQuestion: Which option writes to a file?",
     "The option -o FILE (--output FILE) writes the result to FILE."},
    {"[1] Members may borrow five books at a time.\n"
     "[2] The library opens at nine and closes at six, except on Sundays.\n"
     "\nQuestion: When does the library close?",
     "The library closes at six."}};

static bool add_message(json_t *messages, const char *role, const char *content) {
    return json_array_append_new(messages, json_pack("{s:s, s:s}", "role", role, "content", content)) == 0;
}

/* Tokens of the prompt with the first n_sources and the last n_messages. */
static toque_status render(tq_prompt *p, tq_model *model, const tq_prompt_parts *parts, size_t n_sources,
                           size_t n_messages, toque_error *err) {
    tq_mem *mem = &model->ctx->mem;
    tq_rendered text = {0};
    size_t all = json_array_size(parts->history);
    json_t *messages = json_pack("[{s:s, s:s}]", "role", "system", "content", parts->system);
    toque_status status = messages ? TOQUE_OK : TQ_FAIL(err, EINVAL, "the system text is not valid UTF-8");
    for (size_t i = 0; parts->shots && i < sizeof shots / sizeof *shots && status == TOQUE_OK; i++)
        if (!add_message(messages, "user", shots[i][0]) || !add_message(messages, "assistant", shots[i][1]))
            status = TQ_NOMEM(err);
    for (size_t i = all - n_messages; i < all && status == TOQUE_OK; i++) {
        json_t *m = json_array_get(parts->history, i);
        if (!is_role(m, "system") && json_array_append(messages, m)) status = TQ_NOMEM(err);
    }
    p->tokens.len = 0;
    if (status == TOQUE_OK) status = put_turn(messages, parts, n_sources, mem, err);
    if (status == TOQUE_OK) status = tq_model_render(model, messages, NULL, NULL, true, &text, err);
    if (status == TOQUE_OK) status = tq_model_tokenize_rendered(model, &text, &p->tokens, err);
    if (status == TOQUE_OK && parts->lead)
        status = tq_tokenize(model->tokenizer, parts->lead, strlen(parts->lead), false, false, &p->tokens, err);
    tq_rendered_clear(&text);
    json_decref(messages);
    return status;
}

static toque_status count(tq_model *model, const char *text, size_t n, size_t *tokens, toque_error *err) {
    tq_tokens list = {.mem = &model->ctx->mem};
    toque_status status = tq_tokenize(model->tokenizer, text, n, false, false, &list, err);
    *tokens = list.len;
    tq_tokens_clear(&list);
    return status;
}

/* How many sources fit into `room`, from the first on, by their own tokens. */
static toque_status sources_in(tq_model *model, const tq_prompt_parts *parts, size_t room, size_t *fit, size_t *used,
                               toque_error *err) {
    tq_buf text;
    size_t tokens = 0;
    tq_buf_init(&text, &model->ctx->mem, SIZE_MAX / 4);
    toque_status status = TOQUE_OK;
    *used = 0;
    for (*fit = 0; *fit < parts->n && status == TOQUE_OK; ++*fit, *used += tokens) {
        tq_buf_reset(&text);
        put_source(&text, &parts->sources[*fit], *fit + 1, parts->passages);
        status = tq_buf_status(&text, "the prompt", err);
        if (status == TOQUE_OK) status = count(model, text.data, text.len, &tokens, err);
        if (status == TOQUE_OK && *used + tokens > room) break;
    }
    tq_buf_clear(&text);
    return status;
}

/* How many messages fit into `room`, from the last on. */
static toque_status messages_in(tq_model *model, const json_t *history, size_t room, size_t *fit, size_t *used,
                                toque_error *err) {
    enum { AROUND = 8 }; /* tokens that a template puts around a message, about */
    size_t n = json_array_size(history), tokens;
    *used = 0;
    for (*fit = 0; *fit < n; ++*fit, *used += tokens) {
        json_t *content = json_object_get(json_array_get(history, n - 1 - *fit), "content");
        TQ_TRY(count(model, json_string_value(content) ? json_string_value(content) : "", json_string_length(content),
                     &tokens, err));
        tokens += AROUND;
        if (*used + tokens > room) break;
    }
    *fit = whole_turns(history, *fit);
    return TOQUE_OK;
}

static toque_status no_room(const tq_prompt *p, size_t room, const char *what, toque_error *err) {
    return TQ_FAIL(err, ELIMIT,
                   "%s: %zu tokens, and the context leaves %zu beside the answer; take a larger --context or a shorter "
                   "answer (-n)",
                   what, p->tokens.len, room);
}

toque_status tq_prompt_make(tq_prompt *p, tq_model *model, const tq_prompt_parts *parts, size_t room,
                            toque_error *err) {
    size_t used, of_history, n = parts->n, messages = 0;
    *p = (tq_prompt){.tokens.mem = &model->ctx->mem};
    if (!model->chat_template)
        return TQ_FAIL(err, ENOTFOUND, "the model has no chat template, so it cannot answer (--answer quote can)");
    TQ_TRY(render(p, model, parts, 0, 0, err));
    if (p->tokens.len > room) return no_room(p, room, "system text and question do not fit", err);
    size_t rest = room - p->tokens.len;
    if (json_array_size(parts->history)) {
        TQ_TRY(sources_in(model, parts, rest, &n, &used, err));
        TQ_TRY(messages_in(model, parts->history, rest - used > rest / 3 ? rest - used : rest / 3, &messages,
                           &of_history, err));
        rest -= of_history;
    }
    TQ_TRY(sources_in(model, parts, rest, &n, &used, err));
    for (;;) { /* those were counts of parts: the whole decides */
        if (n == 0) n = parts->n > 0;
        TQ_TRY(render(p, model, parts, n, messages, err));
        if (p->tokens.len <= room) break;
        if (messages)
            messages = whole_turns(parts->history, messages - 1);
        else if (n > 1)
            n--;
        else
            return no_room(p, room, "the question with its first source does not fit", err);
    }
    p->sources = n;
    p->messages = messages;
    return TOQUE_OK;
}

void tq_prompt_clear(tq_prompt *p) {
    tq_tokens_clear(&p->tokens);
}
