/* Reading texts by packed passes: see reader.h. */
#include "infer/reader.h"

#include <math.h>
#include <string.h>

enum { PASS_ROWS = 1024, PASS_SEGMENTS = 256 };

struct tq_reader {
    tq_model *model;
    tq_machine *machine;
    const tq_hats *hats;
    const tq_head *head;
    tq_reading_fn *fn;
    void *arg;
    int max_rows, max_rank;
    tq_tokens list; /* of one text */
    tq_segment segments[PASS_SEGMENTS];
    size_t id[PASS_SEGMENTS];
    int n_segments, rows;
    tq_token *tokens;      /* [max_rows], as what follows */
    uint32_t *start, *end; /* bytes of each token */
    float *read, *y;       /* [max_rows, C], [max_rows, n] */
};

static void drop_room(tq_reader *r) {
    void *blocks[] = {r->tokens, r->start, r->end, r->read, r->y};
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) tq_free(&r->model->ctx->mem, blocks[i]);
    tq_machine_free(r->machine);
    r->tokens = NULL;
    r->start = r->end = NULL;
    r->read = r->y = NULL;
    r->machine = NULL;
    r->max_rows = 0;
}

/* Room for passes of so many rows; the one there is must be empty. */
static toque_status make_room(tq_reader *r, int rows, toque_error *err) {
    tq_mem *mem = &r->model->ctx->mem;
    if (rows <= r->max_rows) return TOQUE_OK;
    drop_room(r);
    tq_plan plan = {.max_rows = rows, .max_rank = r->max_rank, .head_rows = 1};
    r->tokens = TQ_NEW_ARRAY(mem, tq_token, rows);
    r->start = TQ_NEW_ARRAY(mem, uint32_t, rows);
    r->end = TQ_NEW_ARRAY(mem, uint32_t, rows);
    r->read = tq_alloc(mem, (size_t)rows * (size_t)r->model->config.C, sizeof(float));
    r->y = tq_alloc(mem, (size_t)rows * (size_t)r->head->n, sizeof(float));
    if (!r->tokens || !r->start || !r->end || !r->read || !r->y) return TQ_NOMEM(err);
    TQ_TRY(tq_machine_new(&r->machine, r->model, &plan, err));
    r->max_rows = rows;
    return TOQUE_OK;
}

toque_status tq_reader_new(tq_reader **result, tq_model *model, const tq_hats *hats, int max_rank, const tq_head *head,
                           tq_reading_fn *fn, void *arg, toque_error *err) {
    *result = NULL;
    tq_mem *mem = &model->ctx->mem;
    tq_reader *r = TQ_NEW(mem, tq_reader);
    if (!r) return TQ_NOMEM(err);
    r->model = model;
    r->hats = hats;
    r->head = head;
    r->fn = fn;
    r->arg = arg;
    r->list = (tq_tokens){.mem = mem, .want_offsets = true};
    r->max_rank = max_rank;
    toque_status status = make_room(r, PASS_ROWS, err);
    if (status == TOQUE_OK)
        *result = r;
    else
        tq_reader_free(r);
    return status;
}

void tq_reader_free(tq_reader *r) {
    if (!r) return;
    tq_tokens_clear(&r->list);
    drop_room(r);
    tq_free(&r->model->ctx->mem, r);
}

toque_status tq_reader_flush(tq_reader *r, toque_error *err) {
    if (!r->rows) return TOQUE_OK;
    if (atomic_load(&r->model->ctx->canceled)) return TQ_FAIL(err, ECANCELED, "canceled while reading texts");
    tq_pass pass = {.kind = TQ_PASS_PREFILL,
                    .tokens = r->tokens,
                    .T = r->rows,
                    .segments = r->segments,
                    .n_segments = r->n_segments};
    TQ_TRY(tq_machine_forward(r->machine, &pass, err));
    int n = tq_machine_items(r->machine, r->head->read), item = 0;
    tq_machine_read(r->machine, r->head->read, r->read);
    tq_head_fwd(r->model->ctx, r->head, r->model->config.C, n, r->read, r->y);
    for (size_t i = 0; i < (size_t)n * (size_t)r->head->n; i++)
        if (!isfinite(r->y[i]))
            return TQ_FAIL(err, ENONFINITE, "an output of the head is not finite (check the model file and adapters)");
    for (int s = 0; s < r->n_segments; s++) {
        const tq_segment *seg = &r->segments[s];
        tq_reading reading = {.y = r->y + (size_t)item * (size_t)r->head->n,
                              .items = r->head->read == TQ_READ_EACH ? seg->n : 1,
                              .start = r->start + seg->row,
                              .end = r->end + seg->row};
        item += reading.items;
        TQ_TRY(r->fn(r->arg, r->id[s], &reading, err));
    }
    r->rows = r->n_segments = 0;
    return TOQUE_OK;
}

toque_status tq_reader_add(tq_reader *r, size_t id, const char *text, size_t n, toque_error *err) {
    r->list.len = 0;
    TQ_TRY(tq_tokenize(r->model->tokenizer, text, n, true, false, &r->list, err));
    int rows = (int)r->list.len;
    if (!rows) return TQ_FAIL(err, EINVAL, "the text has no tokens");
    if (rows > r->model->config.context) return r->fn(r->arg, id, &(tq_reading){0}, err);
    if (r->rows + rows > r->max_rows || r->n_segments == PASS_SEGMENTS) TQ_TRY(tq_reader_flush(r, err));
    TQ_TRY(make_room(r, rows, err)); /* a text longer than a pass gets one of its own length */
    r->id[r->n_segments] = id;
    r->segments[r->n_segments++] = (tq_segment){.row = r->rows, .n = rows, .hats = r->hats};
    memcpy(r->tokens + r->rows, r->list.ids, r->list.len * sizeof *r->tokens);
    memcpy(r->start + r->rows, r->list.start, r->list.len * sizeof *r->start);
    memcpy(r->end + r->rows, r->list.end, r->list.len * sizeof *r->end);
    r->rows += rows;
    return TOQUE_OK;
}
