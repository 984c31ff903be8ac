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

/* A list of models, or the one that is asked for. */
typedef struct listing {
    const tq_server *s;
    json_t *list;
} listing;

static void add_adapter(void *arg, size_t id, const tq_garment *g) {
    listing *l = arg;
    char name[200];
    (void)id;
    snprintf(name, sizeof name, "%.90s:%s", l->s->name, g->name);
    (void)json_array_append_new(l->list, json_pack("{s:s, s:s, s:I, s:s, s:s, s:s, s:i}", "id", name, "object", "model",
                                                   "created", (json_int_t)g->loaded, "owned_by", "toque", "root",
                                                   g->path, "parent", l->s->name, "max_model_len", l->s->context));
}

static json_t *list_models(tq_server *s) {
    listing l = {s, json_array()};
    (void)json_array_append_new(l.list, base_json(s));
    tq_wardrobe_each(&s->wardrobe, add_adapter, &l);
    if (s->embedder)
        (void)json_array_append_new(l.list, json_pack("{s:s, s:s, s:I, s:s, s:s, s:n}", "id", s->embedder_name,
                                                      "object", "model", "created", (json_int_t)s->opened, "owned_by",
                                                      "toque", "root", s->embedder_name, "parent"));
    return l.list;
}

void tq_route_models(tq_exchange *x, json_t *body) {
    (void)body;
    tq_reply_json(x, 200, json_pack("{s:s, s:o}", "object", "list", "data", list_models(tq_server_of(x))));
}

void tq_route_model(tq_exchange *x, json_t *body) {
    json_t *list = list_models(tq_server_of(x)), *one, *found = NULL;
    size_t i;
    (void)body;
    json_array_foreach(list, i, one) if (strcmp(json_string_value(json_object_get(one, "id")), x->rest) == 0) found =
        json_incref(one);
    json_decref(list);
    if (found)
        tq_reply_json(x, 200, found);
    else
        tq_reply_error(x, 404, "model_not_found", "model", "there is no model %.200s here; GET /v1/models lists them",
                       x->rest);
}
