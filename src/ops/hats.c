/* What hats do around the product of a linear op: adapters that change the input of W, or multiply its output. Those
 * that only add (LoRA) need nothing of this. Rows that wear no such adapter pass through unchanged. */
#include "ops/op.h"

#include <string.h>

const tq_hats *tq_hats_run(const tq_exec *e, int *i, int *t0, int *t1) {
    while (*i < e->n_segments) {
        const tq_segment *seg = &e->segments[*i];
        const tq_hats *hats = seg->hats;
        *t0 = seg->row;
        do *t1 = e->segments[*i].row + e->segments[*i].n;
        while (++*i < e->n_segments && e->segments[*i].hats == hats);
        if (hats && hats->n) return hats;
    }
    return NULL;
}

const tq_site *tq_hat_site(const tq_exec *e, const tq_hat *hat, int role) {
    const tq_site *site = hat->sites ? &hat->sites[e->layer * TQ_ROLE_COUNT + role] : NULL;
    return site && site->state ? site : NULL;
}

bool tq_hats_before(const tq_exec *e, int role) {
    int i = 0, t0, t1;
    for (const tq_hats *hats; (hats = tq_hats_run(e, &i, &t0, &t1));)
        for (int h = 0; h < hats->n; h++) {
            const tq_site *site = tq_hat_site(e, &hats->items[h], role);
            if (site && site->before) return true;
        }
    return false;
}

bool tq_hats_turn(const tq_exec *e, int role) {
    int i = 0, t0, t1;
    for (const tq_hats *hats; (hats = tq_hats_run(e, &i, &t0, &t1));)
        for (int h = 0; h < hats->n; h++) {
            const tq_site *site = tq_hat_site(e, &hats->items[h], role);
            if (site && site->turn) return true;
        }
    return false;
}

/* e->turned = rows of width n; with a barrier. */
static void copy_rows(tq_exec *e, tq_worker *w, const float *rows, int64_t n) {
    int64_t b, end;
    tq_share(w, (int64_t)e->T * n, 64, &b, &end);
    memcpy(e->turned + b, rows + b, sizeof(float) * (size_t)(end - b));
    tq_barrier(w);
}

const float *tq_hats_input(tq_exec *e, tq_worker *w, const tq_step *s) {
    copy_rows(e, w, e->v[s->in[0]], e->width[s->in[0]]);
    int i = 0, t0, t1;
    for (const tq_hats *hats; (hats = tq_hats_run(e, &i, &t0, &t1));)
        for (int h = 0; h < hats->n; h++) {
            const tq_site *site = tq_hat_site(e, &hats->items[h], s->role);
            if (site && site->before) site->before(e, w, site, hats->items[h].scale, t0, t1, e->turned);
        }
    return e->turned;
}

const float *tq_hats_output_grad(tq_exec *e, tq_worker *w, const tq_step *s) {
    const float *dy = e->g[s->out];
    copy_rows(e, w, dy, e->width[s->out]);
    int i = 0, t0, t1;
    for (const tq_hats *hats; (hats = tq_hats_run(e, &i, &t0, &t1));)
        for (int h = 0; h < hats->n; h++) {
            const tq_site *site = tq_hat_site(e, &hats->items[h], s->role);
            if (site && site->turn) site->turn(e, w, site, hats->items[h].scale, t0, t1, e->v[s->in[0]], dy, e->turned);
        }
    return e->turned;
}

void tq_hats_input_grad(tq_exec *e, tq_worker *w, const tq_step *s) {
    int i = 0, t0, t1;
    for (const tq_hats *hats; (hats = tq_hats_run(e, &i, &t0, &t1));)
        for (int h = hats->n - 1; h >= 0; h--) {
            const tq_site *site = tq_hat_site(e, &hats->items[h], s->role);
            if (site && site->before_bwd)
                site->before_bwd(e, w, site, hats->items[h].scale, t0, t1, e->v[s->in[0]], e->wide);
        }
    int64_t b, end;
    float *dx = e->g[s->in[0]];
    tq_share(w, (int64_t)e->T * e->width[s->in[0]], 64, &b, &end);
    if (s->first[0])
        memcpy(dx + b, e->wide + b, sizeof(float) * (size_t)(end - b));
    else
        e->k->add(dx + b, dx + b, e->wide + b, end - b);
    tq_barrier(w);
}
