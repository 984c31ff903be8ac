/* Running a model's layers forwards and backwards. One parallel region a pass; each worker binds its own copy of the
 * execution state to a layer, so binding needs no barrier. See machine.h. */
#include "model/machine_impl.h"

#include <math.h>
#include <string.h>

#include "model/arch.h"
#include "model/peft.h"

/* Points e at layer l: its weights and buffers. */
static void bind(const tq_machine *m, tq_exec *e, int l) {
    const tq_program *p = &m->model->layer;
    e->layer = l;
    e->weights = m->own ? m->own->weights[l] : m->model->weights[l];
    for (int b = 1; b < p->n_buffers; b++) {
        float *own = m->kept[l * TQ_MAX_BUFFERS + b];
        e->v[b] = own ? own : m->shared[b];
    }
    e->v[0] = m->stream[l];
    e->v[p->out] = m->stream[l + 1];
    const tq_config *c = &m->model->config;
    bool slides = tq_config_slides(c, l);
    e->window = slides ? c->window : 0;
    e->rope = m->base.rope + (slides && c->local_base > 0 ? (int64_t)m->plan.max_rows * c->rope_dim : 0);
    memcpy(e->width, p->width, sizeof e->width);
    e->lse = !e->train && !m->prefixed ? NULL : m->kept_lse[l] ? m->kept_lse[l] : m->shared_lse;
}

/* The steps of a program; a barrier stands behind the last only if `closed`. */
static void run_program(const tq_program *p, tq_exec *e, tq_worker *w, bool closed) {
    for (int i = 0; i < p->n_steps; i++) {
        const tq_step *s = &p->steps[i];
        s->op->fwd(e, w, s);
        if (i + 1 < p->n_steps ? !tq_step_joined(e, s) : closed) tq_barrier(w);
    }
}

/* What a kept layer did not keep. */
static void run_light(const tq_program *p, tq_exec *e, tq_worker *w) {
    bool any = false;
    for (int i = 0; i < p->n_steps; i++) {
        const tq_step *s = &p->steps[i];
        if (!p->light[s->out]) continue;
        s->op->fwd(e, w, s);
        any = true;
    }
    if (any) tq_barrier(w);
}

/* cos and sin of position / base^(2i / dim), divided by the scaling factors unless `local`. Angles in double: positions
 * are large. */
static void rope_row(const tq_config *c, bool local, float *cs, int pos) {
    int half = c->rope_dim / 2;
    for (int i = 0; i < half; i++) {
        double freq = pow((double)(local ? c->local_base : c->rope_base), -2.0 * i / c->rope_dim);
        if (!local) freq /= (double)c->rope_factor;
        if (!local && c->rope_freqs) freq /= (double)c->rope_freqs[i];
        cs[i] = (float)cos(pos * freq);
        cs[half + i] = (float)sin(pos * freq);
    }
}

/* The rows' angles, for both bases where there are two. */
static void ropes(tq_machine *m, const tq_exec *e, tq_worker *w) {
    const tq_config *c = &m->model->config;
    float *rope = (float *)(uintptr_t)e->rope, *local = rope + (int64_t)m->plan.max_rows * c->rope_dim;
    int64_t t0, t1;
    if (!c->rope_dim) return;
    tq_share(w, e->T, 1, &t0, &t1);
    for (int i = 0; i < e->n_segments; i++) {
        const tq_segment *seg = &e->segments[i];
        const tq_virtual *prefix = tq_segment_prefix(seg);
        int before = prefix ? prefix->n : 0;
        for (int64_t t = seg->row > t0 ? seg->row : t0; t < t1 && t < seg->row + seg->n; t++) {
            int pos = before + seg->pos + (int)(t - seg->row);
            rope_row(c, false, rope + t * c->rope_dim, pos);
            if (c->local_base > 0) rope_row(c, true, local + t * c->rope_dim, pos);
        }
    }
}

/* Points e at the in program. */
static void bind_in(const tq_machine *m, tq_exec *e) {
    const tq_program *p = &m->model->in;
    e->weights = m->own ? m->own->in_weights : m->model->in_weights;
    memcpy(e->v, m->in, sizeof e->v);
    memcpy(e->width, p->width, sizeof e->width);
    e->v[p->out] = m->stream[0];
}

static void forward_job(tq_worker *w, void *arg) {
    tq_machine *m = arg;
    tq_exec e = m->base;
    const tq_program *in = &m->model->in, *p = &m->model->layer;
    const bool begins = p->steps[0].op->by_rows, joined = begins && p->steps[p->n_steps - 1].op->by_rows;
    bind_in(m, &e);
    ropes(m, &e, w);
    run_program(in, &e, w, !(begins && in->steps[in->n_steps - 1].op->by_rows));
    for (int l = 0; l < m->model->config.L; l++) {
        bind(m, &e, l);
        run_program(p, &e, w, !joined);
    }
}

/* Rows at the beginning of a sequence are its prompt's virtual tokens, all others are of the vocabulary. */
static toque_status check_tokens(const tq_machine *m, const tq_pass *p, const tq_segment *seg, toque_error *err) {
    const int V = m->model->config.V, before = tq_hats_before_tokens(seg->hats);
    for (int t = 0; t < seg->n; t++) {
        const int32_t token = p->tokens[seg->row + t];
        const bool is_virtual = seg->pos + t < before;
        if (is_virtual && token != -1 - (seg->pos + t))
            return TQ_FAIL(err, EUNSUPPORTED,
                           "an adapter with a prompt of %d virtual tokens is worn, and they are not before the tokens "
                           "here: leave that adapter out",
                           before);
        if (!is_virtual && (token < 0 || token >= V))
            return TQ_FAIL(err, EINVAL, "token %d at row %d is not in the vocabulary of %d", token, seg->row + t, V);
    }
    return TOQUE_OK;
}

/* Virtual tokens, of whichever sort, are one adapter's. */
static toque_status check_virtual(const tq_segment *seg, toque_error *err) {
    const tq_hat *first = NULL;
    for (int h = 0; seg->hats && h < seg->hats->n; h++) {
        const tq_hat *hat = &seg->hats->items[h];
        if (!hat->prefix && !hat->prompt) continue;
        if (first || hat->scale != 1)
            return TQ_FAIL(err, EINVAL, "adapter %s has virtual tokens: one such adapter can be worn, at scale 1",
                           hat->adapter->name);
        first = hat;
    }
    return TOQUE_OK;
}

static toque_status check_segment(const tq_machine *m, const tq_pass *p, const tq_segment *seg, int row,
                                  toque_error *err) {
    const tq_config *c = &m->model->config;
    if (seg->row != row || seg->n < 1)
        return TQ_FAIL(err, EINVAL, "segments must cover the rows of a pass in order, without gaps");
    const tq_virtual *prefix = tq_segment_prefix(seg);
    int before = prefix ? prefix->n : 0;
    if (seg->pos < 0 || before + seg->pos + seg->n > c->context)
        return TQ_FAIL(err, ELIMIT, "%d tokens do not fit the model's context of %d", before + seg->pos + seg->n,
                       c->context);
    if (seg->kv && p->kind == TQ_PASS_TRAIN) return TQ_FAIL(err, EINVAL, "a training pass has no cache");
    if (seg->kv && (seg->kv->length != seg->pos || seg->kv->length + seg->n > seg->kv->capacity))
        return TQ_FAIL(err, ELIMIT, "%d tokens do not fit a context of %d", seg->kv->length + seg->n,
                       seg->kv->capacity);
    for (int h = 0; seg->hats && h < seg->hats->n; h++) {
        const tq_adapter *a = seg->hats->items[h].adapter;
        if (a->model != m->model) return TQ_FAIL(err, EINVAL, "adapter %s was loaded for another model", a->name);
        if (a->max_rank > m->plan.max_rank)
            return TQ_FAIL(err, EINVAL, "adapter %s has rank %d; this pass was planned for %d", a->name, a->max_rank,
                           m->plan.max_rank);
        if (a->kind->alone && p->kind == TQ_PASS_TRAIN && seg->hats->n > 1)
            return TQ_FAIL(err, EINVAL, "adapter %s (%s) cannot be worn with others in training", a->name,
                           a->kind->name);
    }
    TQ_TRY(check_virtual(seg, err));
    return check_tokens(m, p, seg, err);
}

/* An adapter with own tensors stands in for the model: the whole pass wears it, or none of it. */
static toque_status find_own(const tq_pass *p, const tq_adapter **own, toque_error *err) {
    *own = NULL;
    for (int i = 0; i < p->n_segments; i++) {
        const tq_hats *hats = p->segments[i].hats;
        const tq_adapter *mine = NULL;
        for (int h = 0; hats && h < hats->n; h++) {
            const tq_hat *hat = &hats->items[h];
            if (!hat->adapter->weights) continue;
            if (mine)
                return TQ_FAIL(err, EINVAL, "%s and %s both replace tensors of the model: wear one of them", mine->name,
                               hat->adapter->name);
            if (hat->scale != 1)
                return TQ_FAIL(err, EINVAL, "%s replaces tensors of the model: its scale must be 1, not %g",
                               hat->adapter->name, (double)hat->scale);
            mine = hat->adapter;
        }
        if (i && mine != *own)
            return TQ_FAIL(err, EINVAL,
                           "%s replaces tensors of the model: rows with and without it need passes of "
                           "their own",
                           mine ? mine->name : (*own)->name);
        *own = mine;
    }
    return TOQUE_OK;
}

bool tq_machine_trains_in(const tq_machine *m) {
    bool any = m->model->embedding.grad;
    for (int role = 0; role < TQ_ROLE_COUNT; role++) any = any || m->model->in_weights[role].grad;
    return any;
}

/* The lowest layer with something to learn; -1: the embedding of an adapter's own; L when there is nothing. */
static int lowest_trained(const tq_machine *m, const tq_pass *p) {
    int L = m->model->config.L, lowest = L;
    for (int l = L - 1; l >= 0; l--)
        for (int role = 0; role < TQ_ROLE_COUNT; role++)
            if (m->model->weights[l][role].grad) lowest = l;
    for (int i = 0; i < p->n_segments; i++)
        for (int h = 0; p->segments[i].hats && h < p->segments[i].hats->n; h++) {
            const tq_adapter *a = p->segments[i].hats->items[h].adapter;
            for (size_t r = 0; a->grads && r < a->n_ranges; r++)
                if (a->ranges[r].layer < lowest) lowest = a->ranges[r].layer;
        }
    return lowest;
}

toque_status tq_machine_forward(tq_machine *m, const tq_pass *pass, toque_error *err) {
    const tq_config *c = &m->model->config;
    int most = pass->kind == TQ_PASS_DECODE ? TQ_DECODE_ROWS : m->plan.max_rows;
    if (pass->T < 1 || pass->T > most || pass->T > m->plan.max_rows)
        return TQ_FAIL(err, EINVAL, "a pass of %d rows; this machine was planned for %d", pass->T, most);
    if (pass->kind == TQ_PASS_TRAIN && !m->plan.train)
        return TQ_FAIL(err, EINVAL, "this machine was not planned for training");
    int row = 0;
    for (int i = 0; i < pass->n_segments; i++) {
        TQ_TRY(check_segment(m, pass, &pass->segments[i], row, err));
        row += pass->segments[i].n;
    }
    if (row != pass->T) return TQ_FAIL(err, EINVAL, "the segments hold %d rows, the pass %d", row, pass->T);

    TQ_TRY(find_own(pass, &m->own, err));
    m->prefixed = false;
    for (int i = 0; i < pass->n_segments; i++) m->prefixed |= tq_segment_prefix(&pass->segments[i]) != NULL;
    m->pass = *pass;
    tq_exec *e = &m->base;
    e->decode = pass->kind == TQ_PASS_DECODE;
    e->int8 = e->decode && m->model->ctx->int8;
    e->train = pass->kind == TQ_PASS_TRAIN;
    e->embedding = m->own ? &m->own->embedding : &m->model->embedding;
    e->bare = true;
    for (int i = 0; i < pass->n_segments; i++)
        if (pass->segments[i].hats && pass->segments[i].hats->n) e->bare = false;
    e->T = pass->T;
    e->tokens = pass->tokens;
    e->segments = pass->segments;
    e->n_segments = pass->n_segments;
    e->seed = pass->seed;
    e->noise = e->train ? pass->noise : 0;
    if (e->train) {
        memset(m->stream_grad[c->L % 2], 0, sizeof(float) * (size_t)pass->T * (size_t)c->C);
        const int lowest = lowest_trained(m, pass); /* -1: the embedding */
        m->trains_in = lowest < 0 || tq_machine_trains_in(m);
        m->lowest = m->trains_in ? 0 : lowest;
    }
    if (e->int8) TQ_TRY(tq_panels_make(m->model, err));
    tq_pool_run(m->model->ctx->pool, forward_job, m);
    for (int i = 0; i < pass->n_segments; i++)
        if (pass->segments[i].kv) pass->segments[i].kv->length += pass->segments[i].n;
    return TOQUE_OK;
}

/* The first layer has left its input's gradient in stream_grad[0]. */
static void backward_in(const tq_machine *m, tq_exec *e, tq_worker *w) {
    const tq_program *p = &m->model->in;
    bind_in(m, e);
    memcpy(e->g, m->in_grads, sizeof e->g);
    e->g[p->out] = m->stream_grad[0];
    for (int i = p->n_steps - 1; i >= 0; i--) p->steps[i].op->bwd(e, w, &p->steps[i]);
}

static void backward_job(tq_worker *w, void *arg) {
    tq_machine *m = arg;
    const tq_program *p = &m->model->layer;
    tq_exec e = m->base;
    memcpy(e.g, m->grads, sizeof e.g);
    for (int l = m->model->config.L - 1; l >= m->lowest; l--) {
        bind(m, &e, l);
        if (tq_machine_keeps(m, l))
            run_light(p, &e, w);
        else
            run_program(p, &e, w, true);
        e.g[p->out] = m->stream_grad[(l + 1) % 2];
        e.g[0] = l > m->lowest || m->trains_in ? m->stream_grad[l % 2] : NULL;
        for (int i = p->n_steps - 1; i >= 0; i--) p->steps[i].op->bwd(&e, w, &p->steps[i]);
    }
    if (m->trains_in) backward_in(m, &e, w);
}

void tq_machine_backward(tq_machine *m) {
    tq_pool_run(m->model->ctx->pool, backward_job, m);
}
