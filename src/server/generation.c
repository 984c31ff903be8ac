/* From a request's fields to choices in the engine, and from tokens to text. See generation.h. */
#include "server/generation.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

/* --- fields ------------------------------------------------------------------------------------------------ */

#define AT(field) offsetof(tq_ask, field)
const tq_field tq_ask_fields[] = {{"model", TQ_VALUE_TEXT, AT(model), 0, 0, false},
                                  {"user", TQ_VALUE_TEXT, AT(user), 0, 0, false},
                                  {"stream", TQ_VALUE_BOOL, AT(stream), 0, 0, false},
                                  {"stream_options", TQ_VALUE_OBJECT, AT(stream_options), 0, 0, false},
                                  {"n", TQ_VALUE_INT, AT(n), 1, TQ_MOST_CHOICES, false},
                                  {"seed", TQ_VALUE_INT, AT(seed), -9007199254740991.0, 9007199254740991.0, false},
                                  {"stop", TQ_VALUE_ANY, AT(stop), 0, 0, false},
                                  {"logit_bias", TQ_VALUE_OBJECT, AT(logit_bias), 0, 0, false},
                                  {"temperature", TQ_VALUE_NUMBER, AT(temperature), 0, 100, false},
                                  {"top_p", TQ_VALUE_NUMBER, AT(top_p), 0, 1, false},
                                  {"top_k", TQ_VALUE_INT, AT(top_k), -1, 1e9, false},
                                  {"min_p", TQ_VALUE_NUMBER, AT(min_p), 0, 1, false},
                                  {"typical_p", TQ_VALUE_NUMBER, AT(typical), 0, 1, false},
                                  {"repeat_penalty", TQ_VALUE_NUMBER, AT(repeat_penalty), 0.01, 100, false},
                                  {"repetition_penalty", TQ_VALUE_NUMBER, AT(repeat_penalty), 0.01, 100, false},
                                  {"repeat_last_n", TQ_VALUE_INT, AT(repeat_window), -1, 1e9, false},
                                  {"frequency_penalty", TQ_VALUE_NUMBER, AT(frequency_penalty), -100, 100, false},
                                  {"presence_penalty", TQ_VALUE_NUMBER, AT(presence_penalty), -100, 100, false},
                                  {"lora", TQ_VALUE_ARRAY, AT(lora), 0, 0, false},
                                  {"ignore_eos", TQ_VALUE_BOOL, AT(ignore_eos), 0, 0, false},
                                  {0}};
#undef AT

enum { MOST_LABEL = 64, MOST_STOPS = 16, MOST_BIAS = 1024 };
#define NOT_GIVEN INT64_MIN

tq_ask tq_ask_default(const tq_server *s) {
    tq_sampling d = tq_sampling_default();
    return (tq_ask){.n = 1,
                    .seed = NOT_GIVEN,
                    .repeat_window = d.penalty_window,
                    .temperature = s->o.temperature,
                    .top_p = d.top_p,
                    .typical = d.typical,
                    .repeat_penalty = d.repeat_penalty};
}

static toque_status read_stops(tq_generation *g, char *param, toque_error *err) {
    json_t *stop = g->ask.stop;
    if (!stop) return TOQUE_OK;
    snprintf(param, TQ_PARAM, "stop");
    size_t n = json_is_array(stop) ? json_array_size(stop) : 1;
    if (n > MOST_STOPS) return TQ_FAIL(err, EINVAL, "stop has %zu strings; at most %d are taken", n, MOST_STOPS);
    g->stops = TQ_NEW_ARRAY(g->server->mem, const char *, n);
    if (!g->stops) return TQ_NOMEM(err);
    for (size_t i = 0; i < n; i++) {
        json_t *one = json_is_array(stop) ? json_array_get(stop, i) : stop;
        const char *text = json_string_value(one);
        if (!text || !*text || strlen(text) != json_string_length(one))
            return TQ_FAIL(err, EINVAL, "stop is a string or an array of strings, none of them empty");
        g->stops[g->n_stops++] = text;
    }
    return TOQUE_OK;
}

static toque_status read_bias(tq_generation *g, char *param, toque_error *err) {
    json_t *map = g->ask.logit_bias, *value;
    const char *key;
    if (!map) return TOQUE_OK;
    snprintf(param, TQ_PARAM, "logit_bias");
    if (json_object_size(map) > MOST_BIAS)
        return TQ_FAIL(err, EINVAL, "logit_bias names %zu tokens; at most %d are taken", json_object_size(map),
                       MOST_BIAS);
    g->bias = TQ_NEW_ARRAY(g->server->mem, tq_logit_bias, json_object_size(map));
    if (!g->bias) return TQ_NOMEM(err);
    json_object_foreach(map, key, value) {
        char *end;
        long token = strtol(key, &end, 10);
        if (end == key || *end || token < 0 || token >= g->server->model->config.V)
            return TQ_FAIL(err, EINVAL, "logit_bias names the token %.40s; this model's are 0 to %d", key,
                           g->server->model->config.V - 1);
        if (!json_is_number(value) || fabs(json_number_value(value)) > 100)
            return TQ_FAIL(err, EINVAL, "logit_bias of token %ld is no number from -100 to 100", token);
        /* -100 is a ban, as OpenAI has it */
        double bias = json_number_value(value);
        g->bias[g->sampling.n_bias++] = (tq_logit_bias){(tq_token)token, bias == -100 ? -INFINITY : (float)bias};
    }
    g->sampling.bias = g->bias;
    return TOQUE_OK;
}

static toque_status read_stream_options(tq_generation *g, char *param, toque_error *err) {
    if (!g->ask.stream_options) return TOQUE_OK;
    static const tq_field fields[] = {{"include_usage", TQ_VALUE_BOOL, 0, 0, 0, false}, {0}};
    tq_field_table tables[] = {{fields, &g->include_usage}, {0}};
    if (!g->ask.stream) {
        snprintf(param, TQ_PARAM, "stream_options");
        return TQ_FAIL(err, EINVAL, "stream_options is given without stream");
    }
    return tq_fields_read(g->ask.stream_options, tables, param, err);
}

static toque_status read_sampling(tq_generation *g, char *param, toque_error *err) {
    const tq_ask *a = &g->ask;
    if (a->user && strlen(a->user) > MOST_LABEL) {
        snprintf(param, TQ_PARAM, "user");
        return TQ_FAIL(err, EINVAL, "user has %zu bytes; at most %d are taken", strlen(a->user), MOST_LABEL);
    }
    snprintf(g->x->label, sizeof g->x->label, "%s", a->user ? a->user : "");
    uint64_t seed = (uint64_t)a->seed;
    if (a->seed == NOT_GIVEN && getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed)
        return TQ_FAIL(err, EIO, "the system gives no random seed");
    g->sampling = (tq_sampling){.temperature = a->temperature,
                                .top_k = a->top_k < 0 ? 0 : a->top_k,
                                .top_p = a->top_p,
                                .min_p = a->min_p,
                                .typical = a->typical,
                                .repeat_penalty = a->repeat_penalty,
                                .frequency_penalty = a->frequency_penalty,
                                .presence_penalty = a->presence_penalty,
                                .penalty_window = a->repeat_window,
                                .seed = seed};
    TQ_TRY(read_bias(g, param, err));
    TQ_TRY(read_stops(g, param, err));
    TQ_TRY(read_stream_options(g, param, err));
    param[0] = 0;
    return tq_sampling_check(&g->sampling, g->server->model->config.V, err);
}

/* --- the life of a generation ------------------------------------------------------------------------------ */

static toque_status generation_new(tq_generation **result, tq_exchange *x, const tq_shape *shape, json_t *body,
                                   toque_error *err) {
    *result = NULL;
    tq_server *s = tq_server_of(x);
    tq_generation *g = TQ_NEW(s->mem, tq_generation);
    if (!g) return TQ_NOMEM(err);
    *g = (tq_generation){.x = x,
                         .server = s,
                         .shape = shape,
                         .body = json_incref(body),
                         .ask = tq_ask_default(s),
                         .created = (int64_t)time(NULL),
                         .max_tokens = -1,
                         .top = -1};
    snprintf(g->id, sizeof g->id, "%s%s", shape->id, x->id);
    tq_exchange_keep(x);
    *result = g;
    return TOQUE_OK;
}

static void clear_choice(tq_choice *c) {
    tq_detok_clear(&c->detok);
    tq_stop_clear(&c->stop);
    tq_buf_clear(&c->piece);
    tq_buf_clear(&c->text);
    tq_free(c->g->server->mem, c->logs);
}

void tq_generation_free(tq_generation *g) {
    if (!g) return;
    tq_mem *mem = g->server->mem;
    for (int i = 0; i < g->n_choices; i++) clear_choice(&g->choices[i]);
    for (int i = 0; i < g->n_prompts; i++) {
        tq_tokens_clear(&g->prompts[i].tokens);
        tq_buf_clear(&g->prompts[i].text);
    }
    tq_free(mem, g->choices);
    tq_free(mem, g->prompts);
    tq_free(mem, g->bias);
    tq_free(mem, g->stops);
    tq_free(mem, g->scratch);
    json_decref(g->body);
    tq_outfit_clear(&g->outfit);
    tq_exchange_drop(g->x);
    tq_free(mem, g);
}

tq_prompt *tq_generation_prompt(tq_generation *g) {
    tq_prompt *p = tq_realloc(g->server->mem, g->prompts, (size_t)g->n_prompts + 1, sizeof *p);
    if (!p) return NULL;
    g->prompts = p;
    p += g->n_prompts++;
    *p = (tq_prompt){.tokens = {.mem = g->server->mem}};
    tq_buf_init(&p->text, g->server->mem, SIZE_MAX / 2);
    return p;
}

static void generation_refuse(tq_generation *g, tq_exchange *x, toque_status status, const char *param,
                              const toque_error *err) {
    tq_reply_failure(x, status, param && *param ? param : NULL, err);
    tq_generation_free(g);
}

/* --- log-probabilities ------------------------------------------------------------------------------------- */

/* Puts token v before those that are less likely; ties to the lowest id. */
static void rank(tq_logged *log, int most, tq_token v, float logit) {
    if (log->n_top == most && !(logit > log->top_logp[most - 1])) return;
    int at = log->n_top < most ? log->n_top++ : most - 1;
    for (; at > 0 && logit > log->top_logp[at - 1]; at--) {
        log->top[at] = log->top[at - 1];
        log->top_logp[at] = log->top_logp[at - 1];
    }
    log->top[at] = v;
    log->top_logp[at] = logit;
}

/* All numbers of a token come from one subtraction each of the same float, so that equal ones are equal. */
static bool log_token(tq_choice *c, tq_token token, const float *logits, bool prompt) {
    tq_generation *g = c->g;
    const tq_kernels *k = g->server->model->ctx->k;
    int64_t V = g->server->model->config.V;
    if (!TQ_GROW(g->server->mem, c->logs, c->n_logs, c->cap_logs)) return false;
    tq_logged *log = &c->logs[c->n_logs++];
    *log = (tq_logged){.token = token, .first = !logits, .prompt = prompt};
    if (!logits) return true;
    float max = k->max(logits, V), norm = max + logf(k->exp_sum(g->scratch, logits, max, V));
    for (tq_token v = 0; g->top > 0 && v < V; v++)
        if (log->n_top < g->top || logits[v] > log->top_logp[g->top - 1]) rank(log, g->top, v, logits[v]);
    for (int i = 0; i < log->n_top; i++) log->top_logp[i] -= norm;
    log->logp = logits[token] - norm;
    return true;
}

json_t *tq_token_json(const tq_server *s, tq_token token, json_t **bytes) {
    tq_buf raw, text;
    tq_buf_init(&raw, s->mem, SIZE_MAX / 2);
    tq_buf_init(&text, s->mem, SIZE_MAX / 2);
    tq_detok d;
    tq_detok_init(&d, s->model->tokenizer, s->mem, true);
    d.first = false;
    (void)(tq_detokenize(s->model->tokenizer, token, false, true, &raw) && tq_detok_feed(&d, token, &text) &&
           tq_detok_finish(&d, &text));
    json_t *value = raw.failed || text.failed ? NULL : json_stringn(text.data, text.len);
    if (bytes && value) {
        *bytes = json_array();
        for (size_t i = 0; i < raw.len; i++) (void)json_array_append_new(*bytes, json_integer((uint8_t)raw.data[i]));
    }
    tq_detok_clear(&d);
    tq_buf_clear(&raw);
    tq_buf_clear(&text);
    return value;
}

/* --- text, on the engine's thread -------------------------------------------------------------------------- */

/* Sends what there is of a stream. */
static bool show(tq_choice *c, const char *finish) {
    size_t n = c->text.len - c->shown;
    if (!n && !finish) return true;
    bool on = c->g->shape->piece(c, c->text.data + c->shown, n, finish);
    c->begun = true;
    c->shown = c->text.len;
    c->logs_shown = c->n_logs;
    return on;
}

/* Stops the whole request with an error; further choices end silently. */
static void fail(tq_generation *g, toque_status status, const toque_error *err) {
    if (g->failed) return;
    g->failed = true;
    if (tq_exchange_streams(g->x)) {
        (void)tq_stream_event(g->x, NULL, tq_error_json(500, "failed", NULL, err->message));
        tq_stream_end(g->x);
    } else {
        tq_reply_failure(g->x, status, NULL, err);
    }
    atomic_store(&g->x->canceled, true);
}

static void no_memory(tq_generation *g) {
    toque_error err;
    fail(g, TQ_NOMEM(&err), &err);
}

static void on_prompt(void *arg, int first, int n, const float *logits) {
    tq_choice *c = arg;
    size_t V = (size_t)c->g->server->model->config.V;
    for (int i = 0; i < n && !c->g->failed; i++)
        if (!log_token(c, c->prompt->tokens.ids[first + i + 1], logits + (size_t)i * V, true)) no_memory(c->g);
}

static bool on_token(void *arg, tq_token token, double logp, const float *logits) {
    tq_choice *c = arg;
    tq_generation *g = c->g;
    (void)logp;
    bool ok = g->top < 0 || log_token(c, token, logits, false);
    tq_buf_reset(&c->piece);
    ok = ok && tq_detok_feed(&c->detok, token, &c->piece) &&
         tq_stop_feed(&c->stop, c->piece.data, c->piece.len, &c->text);
    if (!ok) {
        no_memory(g);
        return false;
    }
    if (g->ask.stream && !show(c, NULL)) return false;
    return !c->stop.met;
}

/* Bytes that never became a character, and what was held back as the beginning of a stop string. */
static bool finish_text(tq_choice *c) {
    tq_buf_reset(&c->piece);
    bool ok = tq_detok_finish(&c->detok, &c->piece) && tq_stop_feed(&c->stop, c->piece.data, c->piece.len, &c->text) &&
              tq_stop_finish(&c->stop, &c->text);
    if (c->stop.met) c->finish = TQ_FINISH_STOP;
    return ok;
}

static void on_end(void *arg, tq_finish finish, toque_status status, const toque_error *err) {
    tq_choice *c = arg;
    tq_generation *g = c->g;
    c->finish = finish;
    c->ended = true;
    tq_metrics_sequence(&g->server->metrics, &c->seq, finish, status);
    if (status != TOQUE_OK) {
        fail(g, status, err);
    } else if (!g->failed && finish == TQ_FINISH_CANCELED) {
        g->failed = true;
        if (tq_exchange_streams(g->x)) {
            bool closing = atomic_load(&g->x->why) != TQ_WHY_LATE;
            (void)tq_stream_event(g->x, NULL,
                                  tq_error_json(closing ? 503 : 408, closing ? "unavailable" : "timeout", NULL,
                                                closing ? "the server is stopping" : "the request took too long"));
            tq_stream_end(g->x);
        } else {
            tq_reply_canceled(g->x);
        }
    } else if (!g->failed) {
        if (!finish_text(c))
            no_memory(g);
        else if (g->ask.stream)
            (void)show(c, tq_finish_reason(c));
    }
    if (--g->left) return;
    if (!g->failed && g->ask.stream) {
        (void)g->shape->end(g);
        tq_stream_end(g->x);
    } else if (!g->failed) {
        tq_reply_json(g->x, 200, g->shape->whole(g));
    }
    tq_generation_free(g);
}

const char *tq_finish_reason(const tq_choice *c) {
    return c->finish == TQ_FINISH_LENGTH ? "length" : "stop";
}

json_t *tq_usage_json(const tq_generation *g) {
    json_int_t prompt = 0, drawn = 0, cached = 0;
    for (int i = 0; i < g->n_prompts; i++) prompt += (json_int_t)g->prompts[i].tokens.len;
    for (int i = 0; i < g->n_choices; i++) drawn += g->choices[i].seq.drawn;
    for (int i = 0; i < g->n_choices; i += (int)g->ask.n) cached += g->choices[i].seq.reused;
    return json_pack("{s:I, s:I, s:I, s:{s:I}}", "prompt_tokens", prompt, "completion_tokens", drawn, "total_tokens",
                     prompt + drawn, "prompt_tokens_details", "cached_tokens", cached);
}

/* --- starting ---------------------------------------------------------------------------------------------- */

/* Room for an answer behind a prompt of n tokens; the last token drawn needs no place. */
static bool find_room(tq_generation *g, int n, int *most) {
    const int most_here = tq_model_context(g->server->model, &g->outfit.hats); /* less under virtual tokens */
    const int context = g->server->context < most_here ? g->server->context : most_here;
    int64_t room = (int64_t)context - n + 1, want = g->max_tokens < 0 ? room : g->max_tokens;
    if (n <= context && want <= room) {
        *most = (int)want;
        return true;
    }
    char message[256];
    if (g->max_tokens > 0)
        snprintf(message, sizeof message,
                 "the prompt has %d tokens and up to %lld are asked for; the context holds %d of both", n,
                 (long long)g->max_tokens, context);
    else
        snprintf(message, sizeof message, "the prompt has %d tokens; the context holds %d", n, context);
    json_t *value = tq_error_json(400, "context_length_exceeded", NULL, message), *e = json_object_get(value, "error");
    (void)(json_object_set_new(e, "n_prompt_tokens", json_integer(n)) == 0 &&
           json_object_set_new(e, "n_ctx", json_integer(context)) == 0);
    tq_reply_json(g->x, 400, value);
    return false;
}

static toque_status make_choice(tq_generation *g, tq_choice *c, int most, toque_error *err) {
    tq_mem *mem = g->server->mem;
    *c = (tq_choice){.g = g, .index = g->n_choices, .prompt = &g->prompts[g->n_choices / g->ask.n]};
    g->n_choices++;
    tq_detok_init(&c->detok, g->server->model->tokenizer, mem, false);
    c->detok.first = false; /* the answer continues a text: its first space stays */
    tq_stop_init(&c->stop, mem, g->stops, g->n_stops);
    tq_buf_init(&c->piece, mem, SIZE_MAX / 2);
    tq_buf_init(&c->text, mem, SIZE_MAX / 2);
    c->seq = (tq_sequence){.prompt = c->prompt->tokens.ids,
                           .n = (int)c->prompt->tokens.len,
                           .max_tokens = most,
                           .hats = g->outfit.hats.n ? &g->outfit.hats : NULL,
                           .worn = g->outfit.worn,
                           .sampling = &g->sampling,
                           .stream = (uint32_t)(c->index % g->ask.n),
                           .ignore_eos = g->ask.ignore_eos,
                           .canceled = &g->x->canceled,
                           .on_prompt = g->echo && g->top >= 0 ? on_prompt : NULL,
                           .on_token = on_token,
                           .on_end = on_end,
                           .arg = c};
    if (!g->echo) return TOQUE_OK;
    if (!tq_buf_put(&c->text, c->prompt->text.data, c->prompt->text.len)) return TQ_NOMEM(err);
    if (g->top >= 0 && !log_token(c, c->prompt->tokens.ids[0], NULL, true)) return TQ_NOMEM(err);
    return TOQUE_OK;
}

/* OK with *replied: what was wrong has been answered. */
static toque_status make_choices(tq_generation *g, bool *replied, toque_error *err) {
    tq_mem *mem = g->server->mem;
    int64_t n = g->n_prompts * g->ask.n;
    if (n > TQ_MOST_CHOICES)
        return TQ_FAIL(err, EINVAL, "%d prompts with n %lld make %lld answers; at most %d are given in one request",
                       g->n_prompts, (long long)g->ask.n, (long long)n, TQ_MOST_CHOICES);
    g->choices = TQ_NEW_ARRAY(mem, tq_choice, n);
    if (g->top >= 0) g->scratch = tq_alloc(mem, (size_t)g->server->model->config.V, sizeof *g->scratch);
    if (!g->choices || (g->top >= 0 && !g->scratch)) return TQ_NOMEM(err);
    for (int i = 0; i < n; i++) {
        int most;
        const tq_prompt *p = &g->prompts[i / g->ask.n];
        if (p->tokens.len == 0) return TQ_FAIL(err, EINVAL, "the prompt has no tokens; give it some text");
        if (p->tokens.len > INT_MAX / 2) return TQ_FAIL(err, ELIMIT, "the prompt has %zu tokens", p->tokens.len);
        *replied = !find_room(g, (int)p->tokens.len, &most);
        if (*replied) return TOQUE_OK;
        TQ_TRY(make_choice(g, &g->choices[i], most, err));
    }
    return TOQUE_OK;
}

static toque_status find_model(tq_generation *g, char *param, toque_error *err) {
    g->model = g->outfit.name;
    snprintf(param, TQ_PARAM, "%s", g->ask.lora ? "lora" : "model");
    return tq_outfit_choose(&g->outfit, &g->server->wardrobe, g->ask.model, g->ask.lora, err);
}

static void generation_start(tq_generation *g) {
    toque_error err = {0};
    char param[TQ_PARAM] = "";
    bool replied = false;
    toque_status status = find_model(g, param, &err);
    if (status == TOQUE_OK) status = read_sampling(g, param, &err);
    if (status == TOQUE_OK) status = make_choices(g, &replied, &err);
    tq_sequence **list = NULL;
    if (status == TOQUE_OK && !replied) {
        list = tq_alloc(g->server->mem, (size_t)g->n_choices, sizeof *list);
        if (!list) status = TQ_NOMEM(&err);
    }
    if (list) {
        for (int i = 0; i < g->n_choices; i++) list[i] = &g->choices[i].seq;
        g->left = g->n_choices;
        tq_mem *mem = g->server->mem;
        status = tq_engine_submit(g->server->engine, list, g->n_choices, &err); /* g may be gone behind this */
        tq_free(mem, list);
        if (status == TOQUE_OK) return;
    }
    if (replied)
        tq_generation_free(g);
    else
        generation_refuse(g, g->x, status, param, &err);
}

void tq_generation_run(tq_exchange *x, json_t *body, const tq_shape *shape, tq_generation_read *read) {
    toque_error err = {0};
    char param[TQ_PARAM] = "";
    tq_generation *g = NULL;
    toque_status status = generation_new(&g, x, shape, body, &err);
    if (status == TOQUE_OK) status = read(g, param, &err);
    if (status == TOQUE_OK)
        generation_start(g);
    else
        generation_refuse(g, x, status, param, &err);
}
