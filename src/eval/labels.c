/* Labels: each is put behind the conversation as the assistant's answer, masked as in training, and scored. */
#include <math.h>
#include <string.h>

#include "eval/labels.h"
#include "train/mask.h"
#include "train/rows.h"

static toque_status add_label(tq_labels *labels, const char *s, size_t n, toque_error *err) {
    while (n > 0 && strchr(" \t\r", s[n - 1])) n--;
    while (n > 0 && strchr(" \t", *s)) s++, n--;
    if (n == 0) return TOQUE_OK;
    for (size_t i = 0; i < labels->n; i++)
        if (strlen(labels->items[i]) == n && memcmp(labels->items[i], s, n) == 0)
            return TQ_FAIL(err, EINVAL, "--labels names \"%.*s\" twice", (int)(n < 80 ? n : 80), s);
    char *copy = tq_strndup(labels->mem, s, n);
    if (!copy || !TQ_GROW(labels->mem, labels->items, labels->n, labels->cap)) {
        tq_free(labels->mem, copy);
        return TQ_NOMEM(err);
    }
    labels->items[labels->n++] = copy;
    return TOQUE_OK;
}

toque_status tq_labels_read(tq_labels *labels, tq_mem *mem, const char *text, toque_error *err) {
    *labels = (tq_labels){.mem = mem};
    char *data = NULL;
    size_t n = strlen(text);
    bool file = tq_path_exists(text);
    toque_status status = TOQUE_OK;
    if (file) TQ_TRY(tq_read_file(&data, &n, mem, text, 1 << 20, err));
    const char *from = file ? data : text, *end = from + n;
    for (const char *p = from; status == TOQUE_OK && p <= end; p++) {
        if (p < end && *p != (file ? '\n' : ',')) continue;
        status = add_label(labels, from, (size_t)(p - from), err);
        from = p + 1;
    }
    tq_free(mem, data);
    if (status == TOQUE_OK && labels->n < 2)
        status = TQ_FAIL(err, EINVAL,
                         "--labels \"%.200s\" names %zu: give at least two, with commas between, or a file with one "
                         "a line",
                         text, labels->n);
    if (status != TOQUE_OK) tq_labels_clear(labels);
    return status;
}

void tq_labels_clear(tq_labels *labels) {
    for (size_t i = 0; i < labels->n; i++) tq_free(labels->mem, labels->items[i]);
    if (labels->mem) tq_free(labels->mem, labels->items);
    *labels = (tq_labels){0};
}

typedef struct capture {
    tq_mem *mem;
    tq_score_item *item;
} capture;

static toque_status keep(void *arg, const tq_masked *m, toque_error *err) {
    capture *c = arg;
    tq_token *tokens = tq_alloc(c->mem, (size_t)m->n + 1, sizeof *tokens);
    uint8_t *target = tq_alloc(c->mem, (size_t)m->n + 1, 1);
    c->item->tokens = tokens;
    c->item->target = target;
    c->item->n = m->n;
    if (!tokens || !target) return TQ_NOMEM(err);
    memcpy(tokens, m->tokens, (size_t)m->n * sizeof *tokens);
    memcpy(target, m->target, (size_t)m->n);
    return TOQUE_OK;
}

/* The conversation with the label as its answer. */
static toque_status make_item(tq_model *model, json_t *messages, json_t *tools, const char *label, const tq_hats *hats,
                              tq_score_item *item, toque_error *err) {
    capture c = {.mem = &model->ctx->mem, .item = item};
    item->hats = hats;
    const char *only = json_string_value(json_object_get(json_array_get(messages, 0), "content"));
    if (!model->chat_template && json_array_size(messages) == 1) {
        tq_buf text;
        tq_buf_init(&text, c.mem, 2 * (size_t)TQ_ROW_MAX_BYTES);
        tq_buf_puts(&text, only);
        size_t from = text.len;
        tq_buf_puts(&text, label);
        toque_status status = tq_buf_status(&text, "the row", err);
        if (status == TOQUE_OK) status = tq_mask_text(model, text.data, text.len, from, true, keep, &c, err);
        tq_buf_clear(&text);
        return status;
    }
    json_t *all = json_copy(messages), *last = json_pack("{s:s, s:s}", "role", "assistant", "content", label);
    if (json_array_append_new(all, last)) {
        json_decref(all);
        return TQ_NOMEM(err);
    }
    tq_mask_row row = {.messages = all, .tools = tools, .train_on = TQ_TRAIN_ON_LAST};
    toque_status status = tq_mask_messages(model, &row, keep, &c, err);
    json_decref(all);
    return status;
}

size_t tq_labels_best(const double *logp, size_t n, double *share) {
    double sum = 0;
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (logp[i] > logp[best]) best = i;
    for (size_t i = 0; i < n; i++) sum += exp(logp[i] - logp[best]);
    *share = 1 / sum;
    return best;
}

int tq_labels_find(const tq_labels *labels, const char *s) {
    for (size_t i = 0; i < labels->n; i++)
        if (strcmp(labels->items[i], s) == 0) return (int)i;
    return -1;
}

toque_status tq_labels_truth(const tq_row *row, const char **truth, toque_error *err) {
    if (!row->messages || !row->answered)
        return TQ_FAIL(err, EFORMAT, "line %u has no answer to compare with", row->line);
    json_t *last = json_array_get(row->messages, json_array_size(row->messages) - 1);
    *truth = row->label ? row->label : json_string_value(json_object_get(last, "content"));
    return *truth ? TOQUE_OK : TQ_FAIL(err, EFORMAT, "line %u has no answer that is text", row->line);
}

toque_status tq_labels_score(const tq_labels *labels, tq_model *model, tq_chooser *chooser, const tq_hats *hats,
                             json_t *messages, json_t *tools, double *logp, bool *fits, toque_error *err) {
    tq_mem *mem = &model->ctx->mem;
    *fits = false;
    tq_score_item *items = TQ_NEW_ARRAY(mem, tq_score_item, labels->n);
    if (!items) return TQ_NOMEM(err);
    toque_status status = TOQUE_OK;
    for (size_t i = 0; i < labels->n; i++) {
        TQ_GO(make_item(model, messages, tools, labels->items[i], hats, &items[i], err));
        if (items[i].n > tq_model_context(model, hats)) goto done;
    }
    TQ_GO(tq_choose(chooser, items, labels->n, err));
    for (size_t i = 0; i < labels->n; i++) logp[i] = items[i].sum;
    *fits = true;
done:
    for (size_t i = 0; i < labels->n; i++) {
        tq_free(mem, (void *)(uintptr_t)items[i].tokens);
        tq_free(mem, (void *)(uintptr_t)items[i].target);
    }
    tq_free(mem, items);
    return status;
}
