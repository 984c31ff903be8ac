/* GET /lora-adapters, POST /v1/load_lora_adapter and /v1/unload_lora_adapter. Adapters are read on the engine's thread,
 * between passes, from the folders that --adapter-dir names. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "model/peft.h"
#include "server/state.h"

static void list_one(void *arg, size_t id, const tq_garment *g) {
    (void)json_array_append_new(arg, json_pack("{s:I, s:s, s:s, s:f, s:s, s:s, s:i}", "id", (json_int_t)id, "name",
                                               g->name, "path", g->path, "scale", (double)g->scale, "kind",
                                               g->adapter->kind->name, "hash", g->hash, "rank", g->adapter->rank));
}

void tq_route_adapters(tq_exchange *x, json_t *body) {
    json_t *list = json_array();
    (void)body;
    tq_wardrobe_each(&tq_server_of(x)->wardrobe, list_one, list);
    tq_reply_json(x, 200, list);
}

typedef struct load_fields {
    const char *name, *path;
} load_fields;
static const tq_field name_field[] = {{"lora_name", TQ_VALUE_TEXT, offsetof(load_fields, name), 0, 0, true}, {0}};
static const tq_field path_field[] = {{"lora_path", TQ_VALUE_TEXT, offsetof(load_fields, path), 0, 0, true}, {0}};

/* Work for the engine's thread. */
typedef struct job {
    tq_call call;
    tq_exchange *x;
    json_t *body;
    load_fields f;
    char real[PATH_MAX];
} job;

static void finish(job *j, toque_status status, const char *param, const toque_error *err) {
    tq_server *s = tq_server_of(j->x);
    if (status == TOQUE_OK)
        tq_reply_json(j->x, 200, json_pack("{s:s, s:s}", "status", "ok", "model", j->f.name));
    else
        tq_reply_failure(j->x, status, param, err);
    tq_exchange_drop(j->x);
    json_decref(j->body);
    tq_free(s->mem, j);
}

static bool load(void *arg) {
    job *j = arg;
    tq_server *s = tq_server_of(j->x);
    toque_error err;
    toque_status status = tq_wardrobe_load(&s->wardrobe, j->f.name, j->real, 1, false, &err);
    if (status == TOQUE_OK) status = tq_engine_set_rank(s->engine, tq_wardrobe_max_rank(&s->wardrobe), &err);
    finish(j, status, "lora_path", &err);
    return false;
}

static bool unload(void *arg) {
    job *j = arg;
    toque_error err;
    finish(j, tq_wardrobe_unload(&tq_server_of(j->x)->wardrobe, j->f.name, &err), "lora_name", &err);
    return false;
}

/* True if the real path lies in one of the folders that adapters may come from. */
static bool may_read(const tq_server *s, const char *path, char real[PATH_MAX]) {
    if (!realpath(path, real)) return false;
    for (size_t i = 0; i < s->o.adapter_dirs.len; i++) {
        char dir[PATH_MAX];
        size_t n;
        if (!realpath(s->o.adapter_dirs.items[i], dir)) continue;
        n = strlen(dir);
        if (strncmp(real, dir, n) == 0 && (real[n] == '/' || n == 1)) return true;
    }
    return false;
}

static void start(tq_exchange *x, json_t *body, const tq_field *more, bool (*step)(void *arg)) {
    tq_server *s = tq_server_of(x);
    toque_error err;
    char param[TQ_PARAM];
    job *j = TQ_NEW(s->mem, job);
    if (!j) {
        tq_reply_failure(x, TQ_NOMEM(&err), NULL, &err);
        return;
    }
    tq_field_table tables[] = {{name_field, &j->f}, {more, &j->f}, {0}};
    toque_status status = tq_fields_read(body, tables, param, &err);
    if (status != TOQUE_OK) {
        tq_reply_failure(x, status, param, &err);
        tq_free(s->mem, j);
        return;
    }
    if (s->o.adapter_dirs.len == 0 || (j->f.path && !may_read(s, j->f.path, j->real))) {
        tq_reply_error(x, 403, "path_not_allowed", more ? "lora_path" : NULL, "%s",
                       s->o.adapter_dirs.len ? "no such path in the folders that --adapter-dir names"
                                             : "adapters cannot be changed: the server was started without "
                                               "--adapter-dir");
        tq_free(s->mem, j);
        return;
    }
    tq_exchange_keep(x);
    j->x = x;
    j->body = json_incref(body);
    j->call = (tq_call){.step = step, .arg = j};
    status = tq_engine_call(s->engine, &j->call, &err);
    if (status != TOQUE_OK) finish(j, status, NULL, &err);
}

void tq_route_load(tq_exchange *x, json_t *body) {
    start(x, body, path_field, load);
}

void tq_route_unload(tq_exchange *x, json_t *body) {
    start(x, body, NULL, unload);
}
