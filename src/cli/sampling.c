/* Sampling options: see sampling.h. */
#include "cli/sampling.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define AT(field) offsetof(tq_cli_sampling, field)
const tq_option tq_cli_sampling_table[] = {
    {.key = "temp",
     .type = TQ_OPT_NUMBER,
     .offset = AT(temp),
     .min = 0,
     .max = 100,
     .aliases = "temperature",
     .help = "temperature of sampling; 0 takes the likeliest token"},
    {.key = "top_k",
     .type = TQ_OPT_INT,
     .offset = AT(top_k),
     .fallback = "0",
     .min = 0,
     .max = 1e9,
     .help = "sample from the k likeliest tokens; 0: from all"},
    {.key = "top_p",
     .type = TQ_OPT_NUMBER,
     .offset = AT(top_p),
     .fallback = "1",
     .min = 0,
     .max = 1,
     .help = "sample from the fewest tokens with this much probability together; 1: from all"},
    {.key = "min_p",
     .type = TQ_OPT_NUMBER,
     .offset = AT(min_p),
     .min = 0,
     .max = 1,
     .help = "drop tokens below this share of the likeliest one's probability; 0: none"},
    {.key = "typical",
     .type = TQ_OPT_NUMBER,
     .offset = AT(typical),
     .fallback = "1",
     .min = 0,
     .max = 1,
     .aliases = "typical_p",
     .help = "locally typical sampling with this much probability; 1: off"},
    {.key = "repeat_penalty",
     .type = TQ_OPT_NUMBER,
     .offset = AT(repeat_penalty),
     .fallback = "1",
     .min = 0.01,
     .max = 100,
     .aliases = "repetition_penalty",
     .help = "divides the logits of tokens that occurred; 1: off"},
    {.key = "frequency_penalty",
     .type = TQ_OPT_NUMBER,
     .offset = AT(frequency_penalty),
     .fallback = "0",
     .min = -100,
     .max = 100,
     .help = "is subtracted from a token's logit for every occurrence"},
    {.key = "presence_penalty",
     .type = TQ_OPT_NUMBER,
     .offset = AT(presence_penalty),
     .fallback = "0",
     .min = -100,
     .max = 100,
     .help = "is subtracted once from the logits of tokens that occurred"},
    {.key = "repeat_window",
     .type = TQ_OPT_INT,
     .offset = AT(repeat_window),
     .fallback = "64",
     .min = -1,
     .max = 1e9,
     .aliases = "repeat_last_n",
     .help = "how many last tokens the penalties look at, prompt included; -1: all"},
    {.key = "seed",
     .type = TQ_OPT_INT,
     .offset = AT(seed),
     .min = 0,
     .max = 9007199254740991.0,
     .help = "of sampling: the same seed gives the same answer; without it, a new one each time"},
    {.key = "stop",
     .type = TQ_OPT_LIST,
     .offset = AT(stop),
     .value = "TEXT",
     .help = "end the answer where this text would begin; may be repeated"},
    {.key = "logit_bias",
     .type = TQ_OPT_LIST,
     .offset = AT(logit_bias),
     .value = "TOKEN=VALUE",
     .help = "add VALUE to a token's logit, -inf bans it; TOKEN is an id or a text that is one token"},
    {0}};
#undef AT

/* An id in digits, else the one token that the text becomes. */
static toque_status find_token(tq_cli *cli, const tq_tokenizer *tok, const char *text, size_t n, tq_token *token,
                               toque_error *err) {
    if (n < 10 && strspn(text, "0123456789") >= n) {
        *token = (tq_token)strtol(text, NULL, 10);
        if (*token < tq_tokenizer_size(tok)) return TOQUE_OK;
        return tq_cli_usage(cli, err, "option --logit-bias: there is no token %d; this model's are 0 to %d", *token,
                            tq_tokenizer_size(tok) - 1);
    }
    tq_tokens list = {.mem = &cli->mem};
    toque_status status = tq_tokenize(tok, text, n, false, true, &list, err);
    if (status == TOQUE_OK && list.len != 1)
        status = tq_cli_usage(cli, err,
                              "option --logit-bias: '%.*s' is %zu tokens of this model, not one (toque tokenize "
                              "shows them)",
                              (int)(n < 100 ? n : 100), text, list.len);
    if (status == TOQUE_OK) *token = list.ids[0];
    tq_tokens_clear(&list);
    return status;
}

static toque_status read_bias(tq_cli *cli, const tq_tokenizer *tok, const char *text, tq_logit_bias *bias,
                              toque_error *err) {
    const char *equals = strrchr(text, '=');
    char *end = NULL;
    double value = equals ? strtod(equals + 1, &end) : 0;
    if (!equals || equals == text || end == equals + 1 || *end || isnan(value) || value > 1e6)
        return tq_cli_usage(
            cli, err, "option --logit-bias expects TOKEN=VALUE with a number up to 1e6 or -inf, not '%.200s'", text);
    bias->value = (float)value;
    return find_token(cli, tok, text, (size_t)(equals - text), &bias->token, err);
}

toque_status tq_cli_sampling_get(tq_cli *cli, const tq_cli_sampling *o, const tq_cli_sampling_defaults *defaults,
                                 const tq_tokenizer *tok, tq_sampling *sampling, toque_error *err) {
    *sampling = (tq_sampling){.temperature = tq_options_given(&cli->set, "temp") ? o->temp : defaults->temp,
                              .min_p = tq_options_given(&cli->set, "min_p") ? o->min_p : defaults->min_p,
                              .top_k = o->top_k,
                              .top_p = o->top_p,
                              .typical = o->typical,
                              .repeat_penalty = o->repeat_penalty,
                              .frequency_penalty = o->frequency_penalty,
                              .presence_penalty = o->presence_penalty,
                              .penalty_window = o->repeat_window,
                              .seed = (uint64_t)o->seed,
                              .n_bias = o->logit_bias.len};
    if (sampling->temperature > 0 && !tq_options_given(&cli->set, "seed")) {
        uint32_t fresh = 0; /* short enough to be typed again */
        if (getrandom(&fresh, sizeof fresh, 0) != (ssize_t)sizeof fresh)
            return TQ_FAIL(err, EIO, "the system gives no random seed; give one with --seed");
        sampling->seed = fresh;
    }
    if (sampling->n_bias == 0) return TOQUE_OK;
    tq_logit_bias *bias = TQ_NEW_ARRAY(&cli->mem, tq_logit_bias, sampling->n_bias);
    if (!bias) return TQ_NOMEM(err);
    sampling->bias = bias;
    toque_status status = TOQUE_OK;
    for (size_t i = 0; status == TOQUE_OK && i < sampling->n_bias; i++)
        status = read_bias(cli, tok, o->logit_bias.items[i], &bias[i], err);
    if (status != TOQUE_OK) tq_cli_sampling_clear(cli, sampling);
    return status;
}

void tq_cli_sampling_clear(tq_cli *cli, tq_sampling *sampling) {
    tq_free(&cli->mem, (void *)sampling->bias);
    sampling->bias = NULL;
    sampling->n_bias = 0;
}

bool tq_cli_sampling_describe(const tq_sampling *s, tq_buf *out) {
    if (s->temperature == 0)
        tq_buf_puts(out, "greedy");
    else
        tq_buf_printf(out, "temperature %g", s->temperature);
    if (s->temperature > 0 && s->top_k > 0) tq_buf_printf(out, ", top-k %lld", (long long)s->top_k);
    if (s->temperature > 0 && s->typical < 1) tq_buf_printf(out, ", typical %g", s->typical);
    if (s->temperature > 0 && s->top_p < 1) tq_buf_printf(out, ", top-p %g", s->top_p);
    if (s->temperature > 0 && s->min_p > 0) tq_buf_printf(out, ", min-p %g", s->min_p);
    if (s->repeat_penalty != 1) tq_buf_printf(out, ", repeat penalty %g", s->repeat_penalty);
    if (s->frequency_penalty != 0) tq_buf_printf(out, ", frequency penalty %g", s->frequency_penalty);
    if (s->presence_penalty != 0) tq_buf_printf(out, ", presence penalty %g", s->presence_penalty);
    if (s->n_bias) tq_buf_printf(out, ", %zu logit bias%s", s->n_bias, s->n_bias > 1 ? "es" : "");
    if (s->temperature > 0) tq_buf_printf(out, ", seed %llu", (unsigned long long)s->seed);
    return !out->failed;
}
