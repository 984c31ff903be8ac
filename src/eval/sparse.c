/* Rows of features. See sparse.h. */
#include "eval/sparse.h"

toque_status tq_sparse_init(tq_sparse *x, tq_mem *mem, size_t rows, size_t cols, toque_error *err) {
    *x = (tq_sparse){.mem = mem, .rows = rows, .cols = cols};
    x->start = TQ_NEW_ARRAY(mem, size_t, rows + 1);
    return x->start ? TOQUE_OK : TQ_NOMEM(err);
}

toque_status tq_sparse_put(tq_sparse *x, uint32_t col, double value, toque_error *err) {
    if (x->n == x->cap) {
        size_t cap = x->cap ? 2 * x->cap : 1024;
        uint32_t *cols = tq_realloc(x->mem, x->col, cap, sizeof *cols);
        if (!cols) return TQ_NOMEM(err);
        x->col = cols;
        double *values = tq_realloc(x->mem, x->value, cap, sizeof *values);
        if (!values) return TQ_NOMEM(err);
        x->value = values;
        x->cap = cap;
    }
    x->col[x->n] = col;
    x->value[x->n++] = value;
    return TOQUE_OK;
}

void tq_sparse_clear(tq_sparse *x) {
    if (!x->mem) return;
    tq_free(x->mem, x->start);
    tq_free(x->mem, x->col);
    tq_free(x->mem, x->value);
    *x = (tq_sparse){0};
}

toque_status tq_sparse_take(tq_sparse *out, const tq_sparse *x, const bool *keep, toque_error *err) {
    size_t rows = 0, row = 0;
    for (size_t i = 0; i < x->rows; i++) rows += keep[i];
    TQ_TRY(tq_sparse_init(out, x->mem, rows, x->cols, err));
    toque_status status = TOQUE_OK;
    for (size_t i = 0; i < x->rows; i++) {
        if (!keep[i]) continue;
        for (size_t k = x->start[i]; k < x->start[i + 1]; k++) TQ_GO(tq_sparse_put(out, x->col[k], x->value[k], err));
        out->start[++row] = out->n;
    }
done:
    if (status != TOQUE_OK) tq_sparse_clear(out);
    return status;
}
