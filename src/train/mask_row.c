/* From a conversation to examples: which renderings are needed so that each learned turn stands where it will stand
 * when the model serves. See mask.h. */
#include <limits.h>
#include <string.h>

#include "train/mask.h"
#include "train/mask_impl.h"

typedef struct work {
    tq_model *model;
    tq_mem *mem;
    const tq_mask_row *row;
    tq_mask_fn *fn;
    void *arg;
    int *learned; /* [n_learned] messages that are to be learned */
    size_t n_learned;
    tq_turn *turns; /* [n_learned] */
} work;

/* The first n messages. */
static toque_status render(work *w, size_t n, bool prompt, tq_rendered *out, toque_error *err) {
    *out = (tq_rendered){0};
    json_t *list = json_array();
    int bad = !list;
    for (size_t i = 0; i < n && !bad; i++) bad = json_array_append(list, json_array_get(w->row->messages, i));
    toque_status status = bad ? TQ_NOMEM(err) : tq_model_render(w->model, list, w->row->tools, NULL, prompt, out, err);
    json_decref(list);
    return status;
}

/* A rendering that some templates refuse (no message yet, two turns of one role): has = false then. */
static toque_status try_render(work *w, size_t n, bool prompt, tq_rendered *out, bool *has, toque_error *err) {
    toque_status status = render(w, n, prompt, out, err);
    *has = status == TOQUE_OK;
    if (status == TOQUE_OK || status == TOQUE_ENOMEM || status == TOQUE_ECANCELED) return status;
    *out = (tq_rendered){0};
    return TOQUE_OK;
}

static toque_status tokenize(work *w, const tq_rendered *r, tq_tokens *tokens, toque_error *err) {
    *tokens = (tq_tokens){.mem = w->mem, .want_offsets = true};
    if (r->len > INT_MAX) return TQ_FAIL(err, ELIMIT, "a conversation of %zu bytes", r->len);
    return tq_model_tokenize_rendered(w->model, r, tokens, err);
}

/* The weights of targets by the turn that they begin in; NULL where all are 1. */
static toque_status weigh(const work *w, const tq_tokens *tokens, const uint8_t *target, const tq_turn *turns,
                          size_t n_turns, float **weight, toque_error *err) {
    bool plain = true;
    *weight = NULL;
    for (size_t i = 0; w->row->turns && i < n_turns; i++) plain = plain && w->row->turns[turns[i].message] == 1;
    if (plain) return TOQUE_OK;
    *weight = TQ_NEW_ARRAY(w->mem, float, tokens->len + 1);
    if (!*weight) return TQ_NOMEM(err);
    for (size_t t = 0; t < tokens->len; t++)
        for (size_t i = 0; target[t] && i < n_turns; i++)
            if (tokens->start[t] >= turns[i].start && tokens->start[t] < turns[i].end)
                (*weight)[t] = w->row->turns[turns[i].message];
    return TOQUE_OK;
}

static toque_status emit(work *w, const tq_rendered *r, const tq_tokens *tokens, const tq_turn *turns, size_t n_turns,
                         bool split, toque_error *err) {
    uint8_t *target = tq_alloc(w->mem, tokens->len + 1, 1), *bytes = tq_alloc(w->mem, r->len + 1, 1);
    float *weight = NULL;
    toque_status status = TOQUE_OK;
    if (!target || !bytes) {
        status = TQ_NOMEM(err);
    } else {
        tq_masked m = {.tokens = tokens->ids, .target = target, .n = (int)tokens->len, .split = split};
        if (w->row->train_on == TQ_TRAIN_ON_ALL) {
            memset(target, 1, tokens->len);
            if (tokens->len) target[0] = 0;
            m.n_targets = tokens->len ? (int)tokens->len - 1 : 0;
        } else {
            m.n_targets = tq_mask_mark(r, tokens, turns, n_turns, bytes, target);
            for (size_t i = 0; i < n_turns; i++) m.unclosed = m.unclosed || !turns[i].closed;
            status = weigh(w, tokens, target, turns, n_turns, &weight, err);
            m.weight = weight;
        }
        if (status == TOQUE_OK) status = w->fn(w->arg, &m, err);
    }
    tq_free(w->mem, weight);
    tq_free(w->mem, target);
    tq_free(w->mem, bytes);
    return status;
}

/* Cuts everything from byte n on. */
static void clip(tq_rendered *r, size_t n) {
    r->len = n;
    r->text[n] = 0;
    while (r->n_marks && r->marks[r->n_marks - 1].start >= n) r->n_marks--;
    if (r->n_marks) r->marks[r->n_marks - 1].end = n;
}

/* The rendering of the conversation up to the assistant's turn `message`, with a user's turn behind it and cut where
 * the assistant's ends: some templates write the end of a turn only when another follows. *has false: no better than r.
 */
static toque_status render_followed(work *w, int message, const tq_rendered *r, size_t content, tq_rendered *out,
                                    bool *has, toque_error *err) {
    tq_tokens tokens = {.mem = w->mem};
    tq_turn turn = {0};
    json_t *list = json_array(), *next = json_pack("{s:s, s:s}", "role", "user", "content", ".");
    int bad = !list;
    *has = false;
    *out = (tq_rendered){0};
    for (int i = 0; i <= message && !bad; i++)
        bad = json_array_append(list, json_array_get(w->row->messages, (size_t)i));
    bad |= json_array_append_new(list, next);
    toque_error refused;
    toque_status status =
        bad ? TQ_NOMEM(err) : tq_model_render(w->model, list, w->row->tools, NULL, false, out, &refused);
    json_decref(list);
    if (status == TOQUE_ENOMEM) return TQ_NOMEM(err);
    if (status != TOQUE_OK) return TOQUE_OK;
    status = TOQUE_OK;
    if (out->len > content && memcmp(out->text, r->text, content) == 0) {
        TQ_GO(tokenize(w, out, &tokens, err));
        tq_mask_turn(w->model->tokenizer, out, &tokens, message, NULL, NULL, &turn);
        *has = turn.closed && turn.content == content;
    }
done:
    if (*has)
        clip(out, turn.end);
    else
        tq_rendered_clear(out);
    tq_tokens_clear(&tokens);
    return status;
}

/* The rendering and tokens of the first n messages, the last of them an assistant's turn if there are turns to learn.
 */
static toque_status render_closed(work *w, size_t n, tq_rendered *r, tq_tokens *tokens, toque_error *err) {
    TQ_TRY(render(w, n, false, r, err));
    TQ_TRY(tokenize(w, r, tokens, err));
    if (w->n_learned == 0) return TOQUE_OK;
    tq_turn turn;
    tq_mask_turn(w->model->tokenizer, r, tokens, (int)n - 1, NULL, NULL, &turn);
    if (turn.closed || turn.content == 0) return TOQUE_OK;
    tq_rendered followed;
    bool has;
    TQ_TRY(render_followed(w, (int)n - 1, r, turn.content, &followed, &has, err));
    if (!has) return TOQUE_OK;
    tq_rendered_clear(r);
    *r = followed;
    tq_tokens_clear(tokens);
    return tokenize(w, r, tokens, err);
}

/* The span of turn `message` in r; *same: up to its start, r is what the model is given when it serves. */
static toque_status find_turn(work *w, const tq_rendered *r, const tq_tokens *tokens, int message,
                              const tq_rendered *served, bool has_served, tq_turn *turn, bool *same, toque_error *err) {
    tq_rendered bare = {0};
    bool has_bare = false;
    if (has_served && !r->has_generation && (r->len < served->len || memcmp(r->text, served->text, served->len) != 0))
        TQ_TRY(try_render(w, (size_t)message, false, &bare, &has_bare, err));
    tq_mask_turn(w->model->tokenizer, r, tokens, message, has_served ? served : NULL, has_bare ? &bare : NULL, turn);
    tq_rendered_clear(&bare);
    size_t n = turn->start;
    if (has_served && n > served->len) n = served->len; /* {% generation %} may begin where it likes */
    *same = !has_served || memcmp(r->text, served->text, n) == 0;
    return TOQUE_OK;
}

/* Whether turn t, found in r, is written there as it is when it is the last one: to its end-of-turn token, or, where it
 * has none, as far as the template writes anything (some end the last turn only, or differently). */
static toque_status stays(work *w, const tq_rendered *r, const tq_turn *t, bool *same, toque_error *err) {
    tq_rendered own;
    TQ_TRY(render(w, (size_t)t->message + 1, false, &own, err));
    size_t n = own.len;
    while (n > 0 && strchr(" \n", own.text[n - 1])) n--;
    if (t->closed && t->end < n) n = t->end;
    *same = n >= t->content && n <= r->len && memcmp(r->text, own.text, n) == 0;
    tq_rendered_clear(&own);
    return TOQUE_OK;
}

/* Looks for all turns in one rendering; *whole false: the template rewrites, each turn needs its own. */
static toque_status find_all(work *w, const tq_rendered *r, const tq_tokens *tokens, bool *whole, toque_error *err) {
    *whole = true;
    for (size_t i = 0; i < w->n_learned && *whole; i++) {
        tq_rendered served;
        bool has;
        TQ_TRY(try_render(w, (size_t)w->learned[i], true, &served, &has, err));
        toque_status status = find_turn(w, r, tokens, w->learned[i], &served, has, &w->turns[i], whole, err);
        tq_rendered_clear(&served);
        TQ_TRY(status);
        if (w->turns[i].start == w->turns[i].end) *whole = false;
        if (*whole && i + 1 < w->n_learned) TQ_TRY(stays(w, r, &w->turns[i], whole, err));
    }
    return TOQUE_OK;
}

/* served followed by r from byte `from` on. */
static toque_status splice(work *w, tq_rendered *out, const tq_rendered *served, const tq_rendered *r, size_t from,
                           toque_error *err) {
    *out = (tq_rendered){.mem = w->mem, .len = served->len + r->len - from, .has_generation = r->has_generation};
    out->text = tq_alloc(w->mem, out->len + 1, 1);
    out->marks = tq_alloc(w->mem, served->n_marks + r->n_marks + 1, sizeof *out->marks);
    if (!out->text || !out->marks) {
        tq_rendered_clear(out);
        return TQ_NOMEM(err);
    }
    memcpy(out->text, served->text, served->len);
    memcpy(out->text + served->len, r->text + from, r->len - from);
    out->text[out->len] = 0;
    memcpy(out->marks, served->marks, served->n_marks * sizeof *out->marks);
    out->n_marks = served->n_marks;
    for (size_t i = 0; i < r->n_marks; i++) {
        tq_mark m = r->marks[i];
        if (m.end <= from) continue;
        if (m.start < from) m.start = from;
        m.start += served->len - from;
        m.end += served->len - from;
        out->marks[out->n_marks++] = m;
    }
    return TOQUE_OK;
}

/* One example for the turn, with the messages before it as they are when it is asked for. */
static toque_status one_turn(work *w, int message, toque_error *err) {
    tq_rendered r = {0}, served = {0}, spliced = {0};
    tq_tokens tokens = {.mem = w->mem};
    tq_turn turn;
    bool has, same;
    toque_status status;
    TQ_GO(render_closed(w, (size_t)message + 1, &r, &tokens, err));
    TQ_GO(try_render(w, (size_t)message, true, &served, &has, err));
    TQ_GO(find_turn(w, &r, &tokens, message, &served, has, &turn, &same, err));
    if (turn.start == turn.end) {
        status = TQ_FAIL(err, EFORMAT, "the chat template writes nothing of message %d", message + 1);
        goto done;
    }
    if (!same) { /* even the last turn changes what stands before it: put its answer behind what is served */
        TQ_GO(splice(w, &spliced, &served, &r, turn.start, err));
        tq_tokens_clear(&tokens);
        TQ_GO(tokenize(w, &spliced, &tokens, err));
        turn.end += served.len - turn.start;
        turn.content += served.len - turn.start;
        turn.start = served.len;
    }
    status = emit(w, same ? &r : &spliced, &tokens, &turn, 1, w->n_learned > 1, err);
done:
    tq_rendered_clear(&r);
    tq_rendered_clear(&served);
    tq_rendered_clear(&spliced);
    tq_tokens_clear(&tokens);
    return status;
}

static toque_status choose_turns(work *w, toque_error *err) {
    size_t n = json_array_size(w->row->messages);
    w->learned = TQ_NEW_ARRAY(w->mem, int, n + 1);
    w->turns = TQ_NEW_ARRAY(w->mem, tq_turn, n + 1);
    if (!w->learned || !w->turns) return TQ_NOMEM(err);
    if (w->row->train_on == TQ_TRAIN_ON_ALL) {
        for (size_t i = 0; w->row->turns && i < n; i++)
            if (w->row->turns[i] != 0 && w->row->turns[i] != 1)
                return TQ_FAIL(err, EINVAL, "message %zu has the weight %g, but train_on all learns all tokens alike",
                               i + 1, (double)w->row->turns[i]);
        return TOQUE_OK;
    }
    for (size_t i = 0; i < n; i++) {
        const char *role = json_string_value(json_object_get(json_array_get(w->row->messages, i), "role"));
        bool silent = w->row->turns && w->row->turns[i] == 0;
        if (role && strcmp(role, "assistant") == 0 && !silent) w->learned[w->n_learned++] = (int)i;
    }
    if (w->row->train_on == TQ_TRAIN_ON_LAST && w->n_learned > 1) {
        w->learned[0] = w->learned[w->n_learned - 1];
        w->n_learned = 1;
    }
    return TOQUE_OK;
}

toque_status tq_mask_messages(tq_model *model, const tq_mask_row *row, tq_mask_fn *fn, void *arg, toque_error *err) {
    work w = {.model = model, .mem = &model->ctx->mem, .row = row, .fn = fn, .arg = arg};
    tq_rendered r = {0};
    tq_tokens tokens = {.mem = w.mem};
    bool whole;
    toque_status status;
    TQ_GO(choose_turns(&w, err));
    /* Nothing after the last learned turn can matter to it. */
    size_t n = w.n_learned ? (size_t)w.learned[w.n_learned - 1] + 1 : json_array_size(row->messages);
    TQ_GO(render_closed(&w, n, &r, &tokens, err));
    TQ_GO(find_all(&w, &r, &tokens, &whole, err));
    if (whole) {
        status = emit(&w, &r, &tokens, w.turns, w.n_learned, false, err);
        goto done;
    }
    for (size_t i = 0; i < w.n_learned; i++) TQ_GO(one_turn(&w, w.learned[i], err));
done:
    tq_rendered_clear(&r);
    tq_tokens_clear(&tokens);
    tq_free(w.mem, w.learned);
    tq_free(w.mem, w.turns);
    return status;
}

toque_status tq_mask_text(tq_model *model, const char *text, size_t n, size_t from, bool end, tq_mask_fn *fn, void *arg,
                          toque_error *err) {
    tq_mem *mem = &model->ctx->mem;
    const tq_tokenizer *tok = model->tokenizer;
    tq_tokens list = {.mem = mem, .want_offsets = true};
    tq_token *ids = NULL, eos = tq_tokenizer_eos(tok);
    uint8_t *target = NULL;
    toque_status status;
    if (n > INT_MAX / 2) return TQ_FAIL(err, ELIMIT, "a text of %zu bytes", n);
    TQ_GO(tq_tokenize(tok, text, n, true, false, &list, err));
    size_t len = list.len;
    if (len && eos != TQ_NO_TOKEN && list.ids[len - 1] == eos && list.start[len - 1] == list.end[len - 1]) len--;
    ids = tq_alloc(mem, len + 1, sizeof *ids);
    target = tq_zalloc(mem, len + 1, 1);
    if (!ids || !target) {
        status = TQ_NOMEM(err);
        goto done;
    }
    tq_masked m = {.tokens = ids, .target = target};
    for (size_t i = 0; i < len; i++) {
        ids[i] = list.ids[i];
        bool inside = from == 0 || (list.start[i] >= from && list.end[i] > list.start[i]);
        target[i] = i > 0 && inside && (end || from < n);
    }
    if (end && eos != TQ_NO_TOKEN) {
        target[len] = len > 0;
        ids[len++] = eos;
    }
    m.n = (int)len;
    for (size_t i = 0; i < len; i++) m.n_targets += target[i];
    m.unclosed = end && eos == TQ_NO_TOKEN;
    status = fn(arg, &m, err);
done:
    tq_tokens_clear(&list);
    tq_free(mem, ids);
    tq_free(mem, target);
    return status;
}
