/* Datasets: rows through masks into an arena of examples. See dataset.h. */
#include "train/dataset.h"

#include <limits.h>
#include <string.h>

#include "base/hash.h"
#include "train/mask.h"
#include "train/rows.h"

typedef struct load {
    tq_dataset *set;
    tq_model *model;
    const tq_data_options *o;
    const tq_row *row;
    uint16_t file;
    int32_t label;
    size_t made; /* examples of the current row, dropped ones included */
} load;

static toque_status keep(void *arg, const tq_masked *m, toque_error *err) {
    load *l = arg;
    tq_dataset *set = l->set;
    l->made++;
    if (m->n_targets == 0 && !l->o->allow_no_target)
        return TQ_FAIL(err, EFORMAT,
                       "there is nothing to learn in this row: it has no assistant turn, or none that may be "
                       "learned");
    if (m->n > set->longest) set->longest = m->n;
    if (l->o->max_length > 0 && m->n > l->o->max_length) {
        set->n_too_long++;
        return TOQUE_OK;
    }
    if (!TQ_GROW(set->mem, set->examples, set->n, set->cap)) return TQ_NOMEM(err);
    tq_example e = {.n = m->n,
                    .n_targets = m->n_targets,
                    .weight = l->row->weight,
                    .row = (uint32_t)set->n_rows,
                    .line = l->row->line,
                    .file = l->file,
                    .label = l->label};
    e.tokens = tq_arena_alloc(&set->arena, (size_t)m->n, sizeof *e.tokens);
    e.target = tq_arena_alloc(&set->arena, (size_t)m->n, 1);
    if (!e.tokens || !e.target) return TQ_NOMEM(err);
    memcpy(e.tokens, m->tokens, (size_t)m->n * sizeof *e.tokens);
    memcpy(e.target, m->target, (size_t)m->n);
    if (m->weight) {
        float *weight = tq_arena_alloc(&set->arena, (size_t)m->n, sizeof *weight);
        if (!weight) return TQ_NOMEM(err);
        memcpy(weight, m->weight, (size_t)m->n * sizeof *weight);
        e.token_weight = weight;
    }
    set->examples[set->n++] = e;
    set->n_tokens += (size_t)m->n;
    set->n_targets += (size_t)m->n_targets;
    set->n_unclosed += m->unclosed;
    return TOQUE_OK;
}

/* Rows made from two strings, for a model without a template: the prompt and the answer behind it. */
static toque_status join(load *l, toque_error *err) {
    json_t *messages = l->row->messages, *last = NULL;
    size_t n = json_array_size(messages);
    if (n > (l->row->answered ? 2u : 1u))
        return TQ_FAIL(err, EINVAL, "the model has no chat template, so there is no place for a system message");
    const json_t *prompt = json_object_get(json_array_get(messages, 0), "content");
    if (l->row->answered) last = json_object_get(json_array_get(messages, 1), "content");
    tq_buf text;
    tq_buf_init(&text, l->set->mem, 4 * (size_t)TQ_ROW_MAX_BYTES);
    tq_buf_put(&text, json_string_value(prompt), json_string_length(prompt));
    size_t from = text.len;
    if (last) tq_buf_put(&text, json_string_value(last), json_string_length(last));
    toque_status status = tq_buf_status(&text, "the row", err);
    if (l->o->train_on == TQ_TRAIN_ON_ALL) from = 0;
    if (status == TOQUE_OK) status = tq_mask_text(l->model, text.data, text.len, from, last != NULL, keep, l, err);
    tq_buf_clear(&text);
    return status;
}

toque_status tq_dataset_label(tq_dataset *set, const char *name, int32_t *number, toque_error *err) {
    for (size_t i = 0; i < set->n_labels; i++)
        if (strcmp(set->labels[i], name) == 0) {
            *number = (int32_t)i;
            return TOQUE_OK;
        }
    char *copy = tq_arena_strndup(&set->arena, name, strlen(name));
    if (!copy || !TQ_GROW(set->mem, set->labels, set->n_labels, set->cap_labels)) return TQ_NOMEM(err);
    *number = (int32_t)set->n_labels;
    set->labels[set->n_labels++] = copy;
    return TOQUE_OK;
}

static toque_status add_row(load *l, toque_error *err) {
    const tq_row *row = l->row;
    l->made = 0;
    l->label = -1;
    if (l->o->fields) {
        TQ_TRY(l->o->pairs ? tq_dataset_add_pair(l->set, l->model, l->o, row, l->file, err)
                           : tq_dataset_add_fields(l->set, l->model, l->o, row, l->file, err));
        l->set->n_rows++;
        return TOQUE_OK;
    }
    if (row->label) TQ_TRY(tq_dataset_label(l->set, row->label, &l->label, err));
    if (!row->messages) {
        TQ_TRY(tq_mask_text(l->model, row->text, row->text_len, 0, true, keep, l, err));
    } else if (row->plain && !l->model->chat_template) {
        TQ_TRY(join(l, err));
    } else {
        tq_mask_row m = {
            .messages = row->messages, .tools = row->tools, .turns = row->turns, .train_on = l->o->train_on};
        TQ_TRY(tq_mask_messages(l->model, &m, keep, l, err));
    }
    l->set->n_split += l->made > 1;
    l->set->n_rows++;
    return TOQUE_OK;
}

tq_data_options tq_data_options_of(const tq_data_options *o, size_t i) {
    tq_data_options own = *o;
    if (!o->sources) return own;
    const tq_source *s = &o->sources[i];
    if (s->system) own.system = s->system;
    if (s->format) own.format = s->format;
    if (s->prompt_column) own.prompt_column = s->prompt_column;
    if (s->answer_column) own.answer_column = s->answer_column;
    if (s->text_column) own.text_column = s->text_column;
    if (s->label_column) own.label_column = s->label_column;
    return own;
}

static toque_status read_file(load *l, const char *path, tq_sha256 *sha, toque_error *err) {
    tq_rows *rows;
    TQ_TRY(tq_rows_open(&rows, l->set->mem, path, l->o, err));
    size_t n;
    const char *bytes = tq_rows_bytes(rows, &n);
    tq_sha256_add(sha, bytes, n);
    toque_status status;
    for (;;) {
        tq_row row;
        bool more;
        status = tq_rows_next(rows, &row, &more, err);
        if (status != TOQUE_OK || !more) break;
        l->row = &row;
        if (l->set->n_rows == UINT32_MAX) {
            status = TQ_FAIL(err, ELIMIT, "more than %u rows", UINT32_MAX);
            break;
        }
        if (atomic_load_explicit(&l->model->ctx->canceled, memory_order_relaxed)) {
            status = TQ_FAIL(err, ECANCELED, "interrupted while reading %s", path);
            break;
        }
        status = add_row(l, err);
        if (status != TOQUE_OK) {
            tq_error_prefix(err, status, "%s: line %u", path, row.line);
            break;
        }
    }
    if (status == TOQUE_OK && !tq_rows_describe(rows, &l->set->notes)) status = TQ_NOMEM(err);
    tq_rows_close(rows);
    return status;
}

toque_status tq_dataset_load(tq_dataset *set, tq_model *model, const tq_data_options *o, toque_error *err) {
    tq_mem *mem = &model->ctx->mem;
    *set = (tq_dataset){.mem = mem};
    tq_arena_init(&set->arena, mem, 1 << 20);
    tq_buf_init(&set->notes, mem, 1 << 20);
    if (o->n_paths == 0 || o->n_paths > UINT16_MAX)
        return TQ_FAIL(err, EINVAL, "%zu data files: 1 to %d can be read", o->n_paths, UINT16_MAX);
    tq_sha256 *sha = tq_sha256_new(mem);
    if (!sha) return TQ_NOMEM(err);
    toque_status status = TOQUE_OK;
    load l = {.set = set, .model = model, .o = o};
    for (size_t i = 0; i < o->n_labels && status == TOQUE_OK; i++) {
        int32_t number;
        status = tq_dataset_label(set, o->labels[i], &number, err);
    }
    for (size_t i = 0; i < o->n_paths && status == TOQUE_OK; i++) {
        const tq_data_options own = tq_data_options_of(o, i);
        l.file = (uint16_t)i;
        l.o = &own;
        status = read_file(&l, o->paths[i], sha, err);
    }
    tq_sha256_end(sha, set->hash);
    if (status == TOQUE_OK && set->n == 0 && set->n_too_long)
        status =
            TQ_FAIL(err, EFORMAT, "no row is left: all %zu have more than max_length %d tokens (the longest has %d)",
                    set->n_too_long, o->max_length, set->longest);
    else if (status == TOQUE_OK && set->n == 0)
        status = TQ_FAIL(err, EFORMAT, "%s holds no rows", o->paths[0]);
    if (status != TOQUE_OK) tq_dataset_clear(set);
    return status;
}

void tq_dataset_clear(tq_dataset *set) {
    if (!set->mem) return;
    tq_free(set->mem, set->examples);
    tq_free(set->mem, set->labels);
    if (set->arena.mem) tq_arena_clear(&set->arena);
    if (set->notes.mem) tq_buf_clear(&set->notes);
    *set = (tq_dataset){0};
}

bool tq_dataset_describe(const tq_dataset *set, tq_buf *out) {
    tq_buf_put(out, set->notes.data, set->notes.len);
    tq_buf_printf(out, "%zu rows, %zu examples, %zu tokens, %zu of them learned; the longest has %d\n", set->n_rows,
                  set->n, set->n_tokens, set->n_targets, set->longest);
    if (set->n_labels) tq_buf_printf(out, "%zu labels\n", set->n_labels);
    if (set->n_too_long) tq_buf_printf(out, "%zu dropped: longer than max_length\n", set->n_too_long);
    if (set->n_split)
        tq_buf_printf(out, "%zu rows became one example per assistant turn: the chat template rewrites earlier turns\n",
                      set->n_split);
    if (set->n_unclosed)
        tq_buf_printf(out,
                      "warning: in %zu examples no end-of-turn token follows the answer (the chat template writes "
                      "none that the tokenizer knows): the model will not learn to stop\n",
                      set->n_unclosed);
    return !out->failed;
}
