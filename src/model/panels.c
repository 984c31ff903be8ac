/* Panels of a model's quantized weights: a second layout, made before the first decode pass, that decode reads instead
 * of the file (kernels.h). It takes about as many bytes as the weights themselves; the file's pages stay for prefill.
 *
 * Weights are copied about with the tables that they stand in (an adapter of own tensors starts from the model's), so
 * each points to a slot of the model's, and all copies find the panels once they are there. */
#include "model/arch.h"

/* All weights that decode multiplies with, the head last; NULL past the end. */
static tq_weight *weight_at(tq_model *m, size_t i) {
    const size_t n = (size_t)m->config.L * TQ_ROLE_COUNT;
    return i < n ? &m->weights[i / TQ_ROLE_COUNT][i % TQ_ROLE_COUNT] : i == n ? &m->head : NULL;
}

static size_t panel_bytes(const tq_kernels *k, const tq_weight *w) {
    const struct tq_panels *p = &k->panels[w->type];
    return (size_t)(w->cols / p->block) * (size_t)p->bytes * (size_t)k->panel_rows;
}

toque_status tq_panels_plan(tq_model *m, toque_error *err) {
    const tq_kernels *k = m->ctx->k;
    m->panels = tq_zalloc(&m->ctx->mem, (size_t)m->config.L * TQ_ROLE_COUNT + 1, sizeof *m->panels);
    if (!m->panels) return TQ_NOMEM(err);
    tq_weight *w;
    for (size_t i = 0; (w = weight_at(m, i)); i++)
        if (w->data && k->panels[w->type].make && w->rows % k->panel_rows == 0) w->panels = &m->panels[i];
    return TOQUE_OK;
}

/* Workers share the panels of each weight. */
static void make_job(tq_worker *worker, void *arg) {
    tq_model *m = arg;
    const tq_kernels *k = m->ctx->k;
    const tq_weight *w;
    for (size_t i = 0; (w = weight_at(m, i)); i++) {
        if (!w->panels) continue;
        int64_t p, end;
        tq_share(worker, w->rows / k->panel_rows, 1, &p, &end);
        for (; p < end; p++)
            k->panels[w->type].make((char *)m->panels[i] + (size_t)p * panel_bytes(k, w),
                                    (const char *)w->data + (size_t)(p * k->panel_rows) * w->row_bytes, w->row_bytes,
                                    w->cols);
    }
}

toque_status tq_panels_make(tq_model *m, toque_error *err) {
    enum { LINE = 64 };
    const tq_kernels *k = m->ctx->k;
    size_t total = LINE;
    tq_weight *w;
    if (m->panel_block) return TOQUE_OK;
    for (size_t i = 0; (w = weight_at(m, i)); i++)
        if (w->panels) total += ((size_t)(w->rows / k->panel_rows) * panel_bytes(k, w) + LINE - 1) / LINE * LINE;
    m->panel_block = tq_alloc(&m->ctx->mem, total, 1);
    if (!m->panel_block) return TQ_NOMEM(err);
    uintptr_t at = ((uintptr_t)m->panel_block + LINE - 1) / LINE * LINE;
    for (size_t i = 0; (w = weight_at(m, i)); i++) {
        if (!w->panels) continue;
        m->panels[i] = (void *)at;
        at += ((size_t)(w->rows / k->panel_rows) * panel_bytes(k, w) + LINE - 1) / LINE * LINE;
    }
    tq_pool_run(m->ctx->pool, make_job, m);
    return TOQUE_OK;
}
