/* Rows for vectors: a query, the passage that answers it, and passages that do not. Each text is tokenized as the model
 * takes it alone; an example holds their tokens one after the other. */
#include <string.h>

#include "train/rows.h"

enum { MAX_NEGATIVES = 62 };

uint64_t tq_tokens_id(const tq_token *tokens, int n) {
    uint64_t h = 0xcbf29ce484222325u;
    for (int i = 0; i < n; i++) h = (h ^ (uint32_t)tokens[i]) * 0x100000001b3u;
    return h;
}

typedef struct pair {
    tq_dataset *set;
    tq_model *model;
    tq_tokens list;
    int32_t parts[2 + MAX_NEGATIVES];
    int n;
} pair;

static toque_status add_text(pair *p, const json_t *v, const char *name, toque_error *err) {
    const char *text = json_string_value(v);
    size_t before = p->list.len;
    if (!text) return TQ_FAIL(err, EFORMAT, "field \"%.80s\" is not a string", name);
    if (text[strspn(text, " \t\r\n")] == 0)
        return TQ_FAIL(err, EFORMAT, "field \"%.80s\" is empty: fill it in or remove the row", name);
    TQ_TRY(tq_tokenize(p->model->tokenizer, text, json_string_length(v), true, false, &p->list, err));
    p->parts[p->n++] = (int32_t)(p->list.len - before);
    return TOQUE_OK;
}

/* The field of that name, else the first of two usual names that there is. */
static toque_status add_field(pair *p, const tq_row *row, const char *given, const char *one, const char *two,
                              toque_error *err) {
    const char *name = given ? given : json_object_get(row->object, one) ? one : two;
    const json_t *v = json_object_get(row->object, name);
    if (v) return add_text(p, v, name, err);
    if (given) return TQ_FAIL(err, EFORMAT, "field \"%.80s\" is missing", given);
    return TQ_FAIL(err, EFORMAT,
                   "neither \"%s\" nor \"%s\" is there: a row for objective contrastive has a query (or anchor) and a "
                   "passage (or positive); --prompt-column and --answer-column name others",
                   one, two);
}

/* The field `negative`: a text, a list of texts, or nothing (in a table: an empty cell). */
static toque_status add_negatives(pair *p, const tq_row *row, toque_error *err) {
    const json_t *v = json_object_get(row->object, "negative");
    if (!v || json_is_null(v) || (json_is_string(v) && !*json_string_value(v))) return TOQUE_OK;
    if (!json_is_array(v)) return add_text(p, v, "negative", err);
    if (json_array_size(v) > MAX_NEGATIVES)
        return TQ_FAIL(err, ELIMIT, "%zu negatives; a row may have %d", json_array_size(v), MAX_NEGATIVES);
    for (size_t i = 0; i < json_array_size(v); i++) TQ_TRY(add_text(p, json_array_get(v, i), "negative", err));
    return TOQUE_OK;
}

/* A text that both is and is not the answer teaches nothing. */
static toque_status check_negatives(const pair *p, toque_error *err) {
    const tq_token *passage = p->list.ids + p->parts[0], *text = passage + p->parts[1];
    for (int i = 2; i < p->n; text += p->parts[i++])
        if (p->parts[i] == p->parts[1] && memcmp(text, passage, (size_t)p->parts[1] * sizeof *text) == 0)
            return TQ_FAIL(err, EFORMAT, "negative %d is the passage itself: remove it", i - 1);
    return TOQUE_OK;
}

static toque_status keep(pair *p, const tq_data_options *o, const tq_row *row, uint16_t file, toque_error *err) {
    tq_dataset *set = p->set;
    int longest = 0;
    for (int i = 0; i < p->n; i++) longest = p->parts[i] > longest ? p->parts[i] : longest;
    if (longest > set->longest) set->longest = longest;
    if (o->max_length > 0 && longest > o->max_length) {
        set->n_too_long++;
        return TOQUE_OK;
    }
    if (!TQ_GROW(set->mem, set->examples, set->n, set->cap)) return TQ_NOMEM(err);
    tq_token *tokens = tq_arena_alloc(&set->arena, p->list.len, sizeof *tokens);
    int32_t *parts = tq_arena_alloc(&set->arena, (size_t)p->n, sizeof *parts);
    if (!tokens || !parts) return TQ_NOMEM(err);
    memcpy(tokens, p->list.ids, p->list.len * sizeof *tokens);
    memcpy(parts, p->parts, (size_t)p->n * sizeof *parts);
    set->examples[set->n++] = (tq_example){.tokens = tokens,
                                           .n = (int)p->list.len,
                                           .parts = parts,
                                           .n_parts = p->n,
                                           .weight = row->weight,
                                           .row = (uint32_t)set->n_rows,
                                           .line = row->line,
                                           .file = file,
                                           .label = -1,
                                           .n_targets = 1,
                                           .read = true};
    set->n_tokens += p->list.len;
    set->n_targets++;
    return TOQUE_OK;
}

toque_status tq_dataset_add_pair(tq_dataset *set, tq_model *model, const tq_data_options *o, const tq_row *row,
                                 uint16_t file, toque_error *err) {
    pair p = {.set = set, .model = model, .list = {.mem = set->mem}};
    toque_status status = TOQUE_OK;
    TQ_GO(add_field(&p, row, o->prompt_column, "query", "anchor", err));
    TQ_GO(add_field(&p, row, o->answer_column, "passage", "positive", err));
    TQ_GO(add_negatives(&p, row, err));
    for (int i = 0; i < p.n; i++)
        if (!p.parts[i]) TQ_GO(TQ_FAIL(err, EFORMAT, "text %d of the row has no tokens", i + 1));
    TQ_GO(check_negatives(&p, err));
    status = keep(&p, o, row, file, err);
done:
    tq_tokens_clear(&p.list);
    return status;
}
