/* The engine's thread: queue, slots, and the passes that they share. See engine.h. */
#include "server/engine.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

#include "base/clock.h"
#include "model/adapter.h"
#include "server/cache.h"

enum {
    PASS_ROWS = 512,  /* of a prefill pass while nobody draws */
    MIXED_ROWS = 192, /* while somebody does: bounds how long an answer stands still */
    LEAST_SHARE = 32  /* rows of one prompt in a pass that many share */
};

struct tq_engine {
    tq_model *model;
    tq_engine_options o;
    tq_machine *machine;
    tq_cache cache;
    float *logits; /* [TQ_DECODE_ROWS, V] */
    tq_sequence *slots[TQ_DECODE_ROWS];
    int n_slots;
    tq_sequence *waiting, **waiting_end; /* the engine's part of the queue */
    tq_call *call;                       /* the one that is being made */

    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t wake;
    tq_sequence *incoming, **incoming_end;
    tq_call *calls, **calls_end;
    int n_waiting; /* in both parts */
    bool stop, poked;
    tq_engine_stats stats;
};

/* --- the callers' side ------------------------------------------------------------------------------------- */

toque_status tq_engine_submit(tq_engine *e, tq_sequence *const *sequences, int n, toque_error *err) {
    double now = tq_now();
    pthread_mutex_lock(&e->lock);
    int room = e->o.queue + e->o.slots - e->n_waiting - e->stats.running;
    if (n > room || e->stop) {
        int waiting = e->n_waiting;
        pthread_mutex_unlock(&e->lock);
        return TQ_FAIL(err, EBUSY, "%d sequences are asked for while %d wait and %d may (--queue); try again later", n,
                       waiting, e->o.queue);
    }
    for (int i = 0; i < n; i++) {
        sequences[i]->next = NULL;
        sequences[i]->queued = now;
        *e->incoming_end = sequences[i];
        e->incoming_end = &sequences[i]->next;
    }
    e->n_waiting += n;
    pthread_cond_signal(&e->wake);
    pthread_mutex_unlock(&e->lock);
    return TOQUE_OK;
}

toque_status tq_engine_call(tq_engine *e, tq_call *call, toque_error *err) {
    pthread_mutex_lock(&e->lock);
    bool stop = e->stop;
    if (!stop) {
        call->next = NULL;
        *e->calls_end = call;
        e->calls_end = &call->next;
        pthread_cond_signal(&e->wake);
    }
    pthread_mutex_unlock(&e->lock);
    return stop ? TQ_FAIL(err, EBUSY, "the server is stopping") : TOQUE_OK;
}

void tq_engine_poke(tq_engine *e) {
    pthread_mutex_lock(&e->lock);
    e->poked = true;
    pthread_cond_signal(&e->wake);
    pthread_mutex_unlock(&e->lock);
}

void tq_engine_get_stats(tq_engine *e, tq_engine_stats *stats) {
    pthread_mutex_lock(&e->lock);
    *stats = e->stats;
    stats->waiting = e->n_waiting;
    pthread_mutex_unlock(&e->lock);
}

/* --- sequences --------------------------------------------------------------------------------------------- */

static void clear(tq_engine *e, tq_sequence *s) {
    tq_mem *mem = &e->model->ctx->mem;
    tq_sampler_free(s->sampler);
    tq_kv_free(e->model, s->kv);
    tq_free(mem, s->tokens);
    s->sampler = NULL;
    s->kv = NULL;
    s->tokens = NULL;
}

/* The last that is done with s: its owner may free it in on_end. */
static void end(tq_engine *e, tq_sequence *s, tq_finish finish, toque_status status, const toque_error *err) {
    clear(e, s);
    s->on_end(s->arg, finish, status, err);
}

/* A slot's sequence ends; the slot is emptied after the pass. */
static void end_slot(tq_engine *e, int i, tq_finish finish, toque_status status, const toque_error *err) {
    tq_sequence *s = e->slots[i];
    e->slots[i] = NULL;
    end(e, s, finish, status, err);
}

static void close_gaps(tq_engine *e) {
    int n = 0;
    for (int i = 0; i < e->n_slots; i++)
        if (e->slots[i]) e->slots[n++] = e->slots[i];
    e->n_slots = n;
}

/* A sampler whose bias also bans the end tokens if they are to be ignored. */
static toque_status make_sampler(tq_engine *e, tq_sequence *s, toque_error *err) {
    const tq_tokenizer *tok = e->model->tokenizer;
    tq_mem *mem = &e->model->ctx->mem;
    int32_t V = e->model->config.V;
    tq_sampling sampling = *s->sampling;
    tq_logit_bias *bias = NULL;
    if (s->ignore_eos) {
        size_t n = sampling.n_bias, most = n;
        for (tq_token t = 0; t < V; t++) most += tq_tokenizer_is_end(tok, t);
        bias = tq_alloc(mem, most, sizeof *bias);
        if (!bias) return TQ_NOMEM(err);
        if (n) memcpy(bias, sampling.bias, n * sizeof *bias);
        for (tq_token t = 0; t < V; t++)
            if (tq_tokenizer_is_end(tok, t)) bias[n++] = (tq_logit_bias){t, -INFINITY};
        sampling.bias = bias;
        sampling.n_bias = n;
    }
    toque_status status = tq_sampler_new(&s->sampler, mem, e->model->ctx->k, &sampling, V, err);
    tq_free(mem, bias);
    return status;
}

static toque_status start(tq_engine *e, tq_sequence *s, toque_error *err) {
    int capacity = s->n + (s->max_tokens > 1 ? s->max_tokens - 1 : 0); /* the last token drawn needs no place */
    s->started = tq_now();
    s->tokens = tq_alloc(&e->model->ctx->mem, (size_t)s->n + (size_t)s->max_tokens, sizeof *s->tokens);
    if (!s->tokens) return TQ_NOMEM(err);
    memcpy(s->tokens, s->prompt, (size_t)s->n * sizeof *s->tokens);
    TQ_TRY(make_sampler(e, s, err));
    TQ_TRY(tq_kv_new(&s->kv, e->model, capacity, err));
    if (!s->on_prompt) s->reused = tq_cache_take(&e->cache, s->worn, s->prompt, s->n, s->kv);
    return TOQUE_OK;
}

static bool is_canceled(const tq_sequence *s) {
    return s->canceled && atomic_load(s->canceled);
}

static bool reading(const tq_sequence *s) {
    return s->kv->length < s->n;
}

/* True if a running sequence reads a prompt that begins as s's does, which is then better waited for than read twice.
 */
static bool better_later(const tq_engine *e, const tq_sequence *s) {
    if (s->on_prompt) return false;
    for (int i = 0; i < e->n_slots; i++) {
        const tq_sequence *r = e->slots[i];
        if (reading(r) && r->n == s->n && strcmp(r->worn, s->worn) == 0 &&
            memcmp(r->prompt, s->prompt, (size_t)s->n * sizeof *s->prompt) == 0)
            return true;
    }
    return false;
}

/* Moves what waits into free slots. */
static void admit(tq_engine *e) {
    for (tq_sequence **at = &e->waiting; *at;) {
        tq_sequence *s = *at;
        bool canceled = is_canceled(s);
        if (!canceled && (e->n_slots == e->o.slots || better_later(e, s))) {
            at = &s->next;
            continue;
        }
        *at = s->next;
        if (e->waiting_end == &s->next) e->waiting_end = at;
        pthread_mutex_lock(&e->lock);
        e->n_waiting--;
        pthread_mutex_unlock(&e->lock);
        toque_error err = {0};
        toque_status status = TOQUE_OK;
        if (!canceled) status = start(e, s, &err);
        if (canceled || status != TOQUE_OK)
            end(e, s, TQ_FINISH_CANCELED, status, &err);
        else
            e->slots[e->n_slots++] = s;
    }
}

/* --- passes ------------------------------------------------------------------------------------------------ */

static const tq_adapter *own_of(const tq_sequence *s) {
    for (int i = 0; s->hats && i < s->hats->n; i++)
        if (s->hats->items[i].adapter->weights) return s->hats->items[i].adapter;
    return NULL;
}

/* Sequences of one pass, those with the same hats side by side. */
typedef struct batch {
    int slot[TQ_DECODE_ROWS], rows[TQ_DECODE_ROWS], n, total;
} batch;

static void add(const tq_engine *e, batch *b, int slot, int rows) {
    int at = b->n;
    const char *worn = e->slots[slot]->worn;
    for (int i = b->n; i > 0; i--)
        if (strcmp(e->slots[b->slot[i - 1]]->worn, worn) == 0) {
            at = i;
            break;
        }
    memmove(b->slot + at + 1, b->slot + at, (size_t)(b->n - at) * sizeof *b->slot);
    memmove(b->rows + at + 1, b->rows + at, (size_t)(b->n - at) * sizeof *b->rows);
    b->slot[at] = slot;
    b->rows[at] = rows;
    b->n++;
    b->total += rows;
}

static toque_status forward(tq_engine *e, const batch *b, tq_pass_kind kind, tq_segment *segments, tq_token *tokens,
                            toque_error *err) {
    int row = 0;
    for (int i = 0; i < b->n; i++) {
        const tq_sequence *s = e->slots[b->slot[i]];
        int pos = s->kv->length;
        memcpy(tokens + row, s->tokens + pos, (size_t)b->rows[i] * sizeof *tokens);
        segments[i] = (tq_segment){.row = row, .n = b->rows[i], .pos = pos, .kv = s->kv, .hats = s->hats};
        if (i && strcmp(s->worn, e->slots[b->slot[i - 1]]->worn) == 0) segments[i].hats = segments[i - 1].hats;
        row += b->rows[i];
    }
    tq_pass pass = {.kind = kind, .tokens = tokens, .T = row, .segments = segments, .n_segments = b->n};
    double before = tq_now();
    toque_status status = tq_machine_forward(e->machine, &pass, err);
    pthread_mutex_lock(&e->lock);
    e->stats.busy += tq_now() - before;
    e->stats.passes++;
    if (kind == TQ_PASS_DECODE) {
        e->stats.decode_passes++;
        e->stats.decode_rows += (uint64_t)row;
    } else {
        e->stats.prompt_tokens += (uint64_t)row;
    }
    pthread_mutex_unlock(&e->lock);
    return status;
}

/* A pass failed: those who were in it end with its error. */
static void fail(tq_engine *e, const batch *b, toque_status status, const toque_error *err) {
    for (int i = 0; i < b->n; i++) end_slot(e, b->slot[i], TQ_FINISH_CANCELED, status, err);
}

/* Draws the next token of a slot's sequence and ends it if that was the last. */
static void draw(tq_engine *e, int slot, const float *logits) {
    tq_sequence *s = e->slots[slot];
    int length = s->n + s->drawn;
    double logp = 0;
    tq_token token = tq_sampler_draw(s->sampler, logits, s->tokens, (size_t)length, s->stream, (uint32_t)length,
                                     s->want_logp ? &logp : NULL);
    if (token == TQ_NO_TOKEN) {
        toque_error err;
        (void)TQ_FAIL(&err, ENONFINITE,
                      "no token can be drawn at position %d: every one is banned, or the logits are not finite",
                      length);
        end_slot(e, slot, TQ_FINISH_CANCELED, TOQUE_ENONFINITE, &err);
        return;
    }
    if (s->drawn == 0) s->first = tq_now();
    s->tokens[length] = token;
    s->drawn++;
    bool ends = tq_tokenizer_is_end(e->model->tokenizer, token);
    bool on = s->on_token(s->arg, token, logp, logits);
    if (ends || !on)
        end_slot(e, slot, is_canceled(s) ? TQ_FINISH_CANCELED : TQ_FINISH_STOP, TOQUE_OK, NULL);
    else if (s->drawn == s->max_tokens)
        end_slot(e, slot, TQ_FINISH_LENGTH, TOQUE_OK, NULL);
}

/* Gives on_prompt the rows of a segment that the pass has just run, all but the prompt's last. */
static void show_prompt(tq_engine *e, tq_sequence *s, const tq_segment *seg) {
    int n = seg->pos + seg->n == s->n ? seg->n - 1 : seg->n;
    for (int i = 0; i < n; i += TQ_DECODE_ROWS) {
        int rows[TQ_DECODE_ROWS], k = n - i < TQ_DECODE_ROWS ? n - i : TQ_DECODE_ROWS;
        for (int j = 0; j < k; j++) rows[j] = seg->row + i + j;
        tq_machine_logits(e->machine, rows, k, e->logits);
        s->on_prompt(s->arg, seg->pos + i, k, e->logits);
    }
}

/* After a prefill pass: what was wanted of the prompts' rows, and the first tokens of those that were read whole. */
static void after_prefill(tq_engine *e, const batch *b, const tq_segment *segments) {
    int rows[TQ_DECODE_ROWS], ready[TQ_DECODE_ROWS], n = 0;
    size_t V = (size_t)e->model->config.V;
    for (int i = 0; i < b->n; i++) {
        tq_sequence *s = e->slots[b->slot[i]];
        if (s->on_prompt) show_prompt(e, s, &segments[i]);
        if (reading(s)) continue;
        tq_cache_put(&e->cache, s->worn, s->prompt, s->n, s->kv);
        pthread_mutex_lock(&e->lock);
        e->stats.reused_tokens += (uint64_t)s->reused;
        e->stats.cache_bytes = e->cache.bytes;
        pthread_mutex_unlock(&e->lock);
        if (s->max_tokens == 0) {
            end_slot(e, b->slot[i], TQ_FINISH_LENGTH, TOQUE_OK, NULL);
            continue;
        }
        ready[n] = b->slot[i];
        rows[n++] = segments[i].row + segments[i].n - 1;
    }
    if (!n) return;
    tq_machine_logits(e->machine, rows, n, e->logits);
    for (int i = 0; i < n; i++) draw(e, ready[i], e->logits + (size_t)i * V);
}

/* Chooses from the slots those of one kind that can share a pass: all wear own tensors of the same adapter, or none.
 * The oldest decides. */
static int choose(const tq_engine *e, bool read, int *slots) {
    int n = 0;
    const tq_adapter *own = NULL;
    for (int i = 0; i < e->n_slots; i++) {
        const tq_sequence *s = e->slots[i];
        if (reading(s) != read) continue;
        if (n == 0) own = own_of(s);
        if (own_of(s) == own) slots[n++] = i;
    }
    return n;
}

/* A chunk of every prompt that is being read: a fair share each, and what is left to the oldest. */
static void prefill(tq_engine *e, bool somebody_draws) {
    int slots[TQ_DECODE_ROWS], n = choose(e, true, slots), given[TQ_DECODE_ROWS] = {0};
    int left = somebody_draws ? MIXED_ROWS : PASS_ROWS;
    if (!n) return;
    int share = left / n > LEAST_SHARE ? left / n : LEAST_SHARE;
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < n; i++) {
            const tq_sequence *s = e->slots[slots[i]];
            int want = s->n - s->kv->length - given[i], most = round == 0 && share < left ? share : left;
            int k = want < most ? want : most;
            given[i] += k;
            left -= k;
        }
    batch b = {0};
    for (int i = 0; i < n; i++)
        if (given[i]) add(e, &b, slots[i], given[i]);
    tq_segment segments[TQ_DECODE_ROWS];
    tq_token tokens[PASS_ROWS];
    toque_error err;
    toque_status status = forward(e, &b, TQ_PASS_PREFILL, segments, tokens, &err);
    if (status != TOQUE_OK)
        fail(e, &b, status, &err);
    else
        after_prefill(e, &b, segments);
    close_gaps(e);
}

/* A token of every answer. */
static void decode(tq_engine *e) {
    int slots[TQ_DECODE_ROWS], n = choose(e, false, slots), rows[TQ_DECODE_ROWS];
    if (!n) return;
    batch b = {0};
    for (int i = 0; i < n; i++) add(e, &b, slots[i], 1);
    tq_segment segments[TQ_DECODE_ROWS];
    tq_token tokens[TQ_DECODE_ROWS];
    toque_error err;
    toque_status status = forward(e, &b, TQ_PASS_DECODE, segments, tokens, &err);
    if (status != TOQUE_OK) {
        fail(e, &b, status, &err);
    } else {
        for (int i = 0; i < n; i++) rows[i] = i;
        tq_machine_logits(e->machine, rows, n, e->logits);
        pthread_mutex_lock(&e->lock);
        e->stats.drawn_tokens += (uint64_t)n;
        pthread_mutex_unlock(&e->lock);
        for (int i = 0; i < n; i++) draw(e, b.slot[i], e->logits + (size_t)i * (size_t)e->model->config.V);
    }
    close_gaps(e);
    /* whoever could not be in this pass comes first in the next */
    if (n < e->n_slots && e->n_slots > 1) {
        tq_sequence *first = e->slots[0];
        memmove(e->slots, e->slots + 1, (size_t)(e->n_slots - 1) * sizeof *e->slots);
        e->slots[e->n_slots - 1] = first;
    }
}

static void drop_canceled(tq_engine *e) {
    for (int i = 0; i < e->n_slots; i++)
        if (is_canceled(e->slots[i])) end_slot(e, i, TQ_FINISH_CANCELED, TOQUE_OK, NULL);
    close_gaps(e);
}

/* --- the thread -------------------------------------------------------------------------------------------- */

/* Takes what came in; sleeps while there is nothing to do. False: it is the end. */
static bool collect(tq_engine *e) {
    pthread_mutex_lock(&e->lock);
    e->stats.running = e->n_slots;
    while (!e->stop && !e->poked && !e->incoming && !e->calls && !e->call && e->n_slots == 0 && !e->waiting)
        pthread_cond_wait(&e->wake, &e->lock);
    e->poked = false;
    if (e->incoming) {
        *e->waiting_end = e->incoming;
        e->waiting_end = e->incoming_end;
        e->incoming = NULL;
        e->incoming_end = &e->incoming;
    }
    if (!e->call && e->calls) {
        e->call = e->calls;
        e->calls = e->call->next;
        if (!e->calls) e->calls_end = &e->calls;
    }
    bool on = !e->stop;
    pthread_mutex_unlock(&e->lock);
    return on;
}

static void *work(void *arg) {
    tq_engine *e = arg;
    while (collect(e)) {
        if (e->call && !e->call->step(e->call->arg)) e->call = NULL;
        drop_canceled(e);
        admit(e);
        pthread_mutex_lock(&e->lock);
        e->stats.running = e->n_slots;
        pthread_mutex_unlock(&e->lock);
        int drawing = 0;
        for (int i = 0; i < e->n_slots; i++) drawing += !reading(e->slots[i]);
        prefill(e, drawing > 0);
        decode(e);
    }
    for (int i = 0; i < e->n_slots; i++) end_slot(e, i, TQ_FINISH_CANCELED, TOQUE_OK, NULL);
    e->n_slots = 0;
    for (tq_sequence *s = e->waiting, *next; s; s = next) {
        next = s->next;
        end(e, s, TQ_FINISH_CANCELED, TOQUE_OK, NULL);
    }
    e->waiting = NULL;
    while (e->call) { /* a call is made to its end: somebody waits for it */
        while (e->call->step(e->call->arg)) {}
        e->call = e->calls;
        if (e->calls) e->calls = e->calls->next;
    }
    return NULL;
}

static toque_status make_machine(tq_engine *e, int max_rank, toque_error *err) {
    tq_plan plan = {.max_rows = PASS_ROWS, .max_rank = max_rank};
    tq_machine *machine;
    TQ_TRY(tq_machine_new(&machine, e->model, &plan, err));
    tq_machine_free(e->machine);
    e->machine = machine;
    e->o.max_rank = max_rank;
    return TOQUE_OK;
}

toque_status tq_engine_set_rank(tq_engine *e, int max_rank, toque_error *err) {
    return max_rank > e->o.max_rank ? make_machine(e, max_rank, err) : TOQUE_OK;
}

toque_status tq_engine_new(tq_engine **result, tq_model *model, const tq_engine_options *o, toque_error *err) {
    *result = NULL;
    TQ_TRY(tq_model_need_head(model, "serving", err));
    tq_mem *mem = &model->ctx->mem;
    tq_engine *e = TQ_NEW(mem, tq_engine);
    if (!e) return TQ_NOMEM(err);
    e->model = model;
    e->o = *o;
    e->waiting_end = &e->waiting;
    e->incoming_end = &e->incoming;
    e->calls_end = &e->calls;
    tq_cache_init(&e->cache, model, o->cache_bytes);
    toque_status status = make_machine(e, o->max_rank, err);
    if (status == TOQUE_OK) {
        e->logits = tq_alloc(mem, TQ_DECODE_ROWS * (size_t)model->config.V, sizeof *e->logits);
        if (!e->logits) status = TQ_NOMEM(err);
    }
    if (status == TOQUE_OK) {
        pthread_mutex_init(&e->lock, NULL);
        pthread_cond_init(&e->wake, NULL);
        if (pthread_create(&e->thread, NULL, work, e) == 0) {
            *result = e;
            return TOQUE_OK;
        }
        status = TQ_FAIL(err, EIO, "the system gives no thread for the engine");
        pthread_cond_destroy(&e->wake);
        pthread_mutex_destroy(&e->lock);
    }
    tq_machine_free(e->machine);
    tq_free(mem, e->logits);
    tq_free(mem, e);
    return status;
}

void tq_engine_free(tq_engine *e) {
    if (!e) return;
    tq_mem *mem = &e->model->ctx->mem;
    pthread_mutex_lock(&e->lock);
    e->stop = true;
    pthread_cond_signal(&e->wake);
    pthread_mutex_unlock(&e->lock);
    pthread_join(e->thread, NULL);
    pthread_cond_destroy(&e->wake);
    pthread_mutex_destroy(&e->lock);
    tq_cache_clear(&e->cache);
    tq_machine_free(e->machine);
    tq_free(mem, e->logits);
    tq_free(mem, e);
}
