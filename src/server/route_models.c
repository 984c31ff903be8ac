/* GET /health, /v1/models and /v1/models/ID. */
#include <string.h>

#include "server/state.h"

void tq_route_health(tq_exchange *x, json_t *body) {
    (void)body;
    if (atomic_load(&tq_server_of(x)->ready)) {
        tq_reply_json(x, 200, json_pack("{s:s}", "status", "ok"));
        return;
    }
    x->retry = "2";
    tq_reply_error(x, 503, "unavailable", NULL, "the model is loading");
}

static json_t *base_json(const tq_server *s) {
    const tq_config *c = &s->model->config;
    return json_pack("{s:s, s:s, s:I, s:s, s:s, s:n, s:i, s:{s:i, s:i, s:i, s:s}}", "id", s->name, "object", "model",
                     "created", (json_int_t)s->opened, "owned_by", "toque", "root", s->name, "parent", "max_model_len",
                     s->context, "meta", "n_vocab", c->V, "n_ctx_train", c->context, "n_embd", c->C, "architecture",
                     c->arch->name);
}

void tq_route_models(tq_exchange *x, json_t *body) {
    (void)body;
    tq_reply_json(x, 200, json_pack("{s:s, s:[o]}", "object", "list", "data", base_json(tq_server_of(x))));
}

void tq_route_model(tq_exchange *x, json_t *body) {
    tq_server *s = tq_server_of(x);
    (void)body;
    if (strcmp(x->rest, s->name) == 0)
        tq_reply_json(x, 200, base_json(s));
    else
        tq_reply_error(x, 404, "model_not_found", "model", "there is no model %.200s here; GET /v1/models lists them",
                       x->rest);
}
