/* Checkpoints. See checkpoint.h. */
#include "train/checkpoint.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char FORMAT[] = "toque-checkpoint";
enum { N_TENSORS = 3 + TQ_OPTIMIZER_STATES };

/* Losses that do not exist yet are NAN, which JSON cannot say. */
static json_t *number_or_null(double x) {
    return isfinite(x) ? json_real(x) : json_null();
}

static json_t *describe(const tq_checkpoint *c) {
    const tq_progress_state *s = &c->at;
    return json_pack("{s:s, s:i, s:I, s:I, s:I, s:I, s:b, s:o, s:o, s:o, s:O}", "format", FORMAT, "version",
                     TQ_CHECKPOINT_VERSION, "step", (json_int_t)s->step, "evaluated", (json_int_t)s->evaluated,
                     "best_step", (json_int_t)s->best_step, "worse", (json_int_t)s->worse, "stopped", s->stopped,
                     "base_eval", number_or_null(s->base_eval), "best_eval", number_or_null(s->best_eval), "last_eval",
                     number_or_null(s->last_eval), "inputs", c->inputs);
}

static const char *state_name(int i) {
    static const char *const names[TQ_OPTIMIZER_STATES] = {"state.0", "state.1"};
    return names[i];
}

static tq_save_tensor tensor(const char *name, const float *data, size_t n) {
    return (tq_save_tensor){.name = name, .type = TQ_F32, .n_dims = 1, .dims = {(int64_t)n}, .data = data};
}

toque_status tq_checkpoint_save(tq_mem *mem, const char *path, const tq_checkpoint *c, toque_error *err) {
    json_t *object = describe(c);
    char *text = object ? json_dumps(object, JSON_SORT_KEYS | JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
    json_decref(object);
    if (!text) return TQ_NOMEM(err);
    tq_save_tensor t[N_TENSORS];
    size_t n = 0;
    t[n++] = tensor("values", c->values, c->n);
    for (int i = 0; i < c->n_states; i++) t[n++] = tensor(state_name(i), c->states[i], c->state_floats[i]);
    if (c->ema) t[n++] = tensor("ema", c->ema, c->n);
    if (c->best) t[n++] = tensor("best", c->best, c->n);
    const char *metadata[] = {"toque", text};
    toque_status status = tq_safetensors_save(mem, path, t, n, metadata, 1, err);
    free(text); /* jansson's own memory */
    if (status != TOQUE_OK)
        tq_error_prefix(err, status, "the checkpoint could not be saved (the one before, if any, is intact)");
    return status;
}

struct tq_checkpoint_file {
    tq_mem *mem;
    tq_safetensors *st;
    json_t *object;
    char *path;
};

static toque_status check_format(const tq_checkpoint_file *f, toque_error *err) {
    const char *format = json_string_value(json_object_get(f->object, "format"));
    json_t *version = json_object_get(f->object, "version");
    if (!format || strcmp(format, FORMAT) != 0 || !json_is_integer(version))
        return TQ_FAIL(err, EFORMAT, "%s is not a checkpoint of toque", f->path);
    if (json_integer_value(version) != TQ_CHECKPOINT_VERSION)
        return TQ_FAIL(err, EUNSUPPORTED, "%s is a checkpoint of version %lld; this toque reads version %d", f->path,
                       (long long)json_integer_value(version), TQ_CHECKPOINT_VERSION);
    if (!json_is_object(json_object_get(f->object, "inputs")))
        return TQ_FAIL(err, EFORMAT, "%s does not tell what its run was made from (\"inputs\")", f->path);
    return TOQUE_OK;
}

toque_status tq_checkpoint_open(tq_checkpoint_file **result, tq_mem *mem, const char *path, toque_error *err) {
    *result = NULL;
    tq_checkpoint_file *f = TQ_NEW(mem, tq_checkpoint_file);
    if (!f) return TQ_NOMEM(err);
    toque_status status = TOQUE_OK;
    f->mem = mem;
    f->path = tq_strdup(mem, path);
    if (!f->path) TQ_GO(TQ_NOMEM(err));
    TQ_GO(tq_safetensors_open(&f->st, mem, path, err));
    const char *text = tq_safetensors_metadata(f->st, "toque");
    f->object = text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;
    TQ_GO(check_format(f, err));
    *result = f;
    f = NULL;
done:
    tq_checkpoint_close(f);
    return status;
}

void tq_checkpoint_close(tq_checkpoint_file *f) {
    if (!f) return;
    json_decref(f->object);
    tq_safetensors_close(f->st);
    tq_free(f->mem, f->path);
    tq_free(f->mem, f);
}

json_t *tq_checkpoint_inputs(const tq_checkpoint_file *f) {
    return json_object_get(f->object, "inputs");
}

bool tq_checkpoint_has_best(const tq_checkpoint_file *f) {
    return tq_safetensors_find(f->st, "best") != NULL;
}

static toque_status find(const tq_checkpoint_file *f, const char *name, size_t n, const tq_tensor **t,
                         toque_error *err) {
    *t = tq_safetensors_find(f->st, name);
    if (!*t) return TQ_FAIL(err, EFORMAT, "%s has no tensor \"%s\"", f->path, name);
    if ((*t)->type != TQ_F32 || (*t)->bytes != n * sizeof(float))
        return TQ_FAIL(err, EFORMAT, "%s: tensor \"%s\" has %zu bytes; %zu f32 values were expected", f->path, name,
                       (*t)->bytes, n);
    return TOQUE_OK;
}

static toque_status whole(const tq_checkpoint_file *f, const char *key, int64_t least, int64_t *out, toque_error *err) {
    json_t *v = json_object_get(f->object, key);
    if (!json_is_integer(v) || json_integer_value(v) < least)
        return TQ_FAIL(err, EFORMAT, "%s: \"%s\" must be a whole number from %lld on", f->path, key, (long long)least);
    *out = (int64_t)json_integer_value(v);
    return TOQUE_OK;
}

static double loss_of(const tq_checkpoint_file *f, const char *key) {
    json_t *v = json_object_get(f->object, key);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

toque_status tq_checkpoint_read(const tq_checkpoint_file *f, tq_checkpoint *c, toque_error *err) {
    const tq_tensor *t[N_TENSORS] = {0};
    float *to[N_TENSORS] = {c->values};
    int n = 0;
    TQ_TRY(find(f, "values", c->n, &t[n++], err));
    for (int i = 0; i < c->n_states; i++) {
        to[n] = c->states[i];
        TQ_TRY(find(f, state_name(i), c->state_floats[i], &t[n++], err));
    }
    if (c->ema) {
        to[n] = c->ema;
        TQ_TRY(find(f, "ema", c->n, &t[n++], err));
    }
    if (c->best) {
        to[n] = c->best;
        TQ_TRY(find(f, "best", c->n, &t[n++], err));
    }
    tq_progress_state s = {.stopped = json_is_true(json_object_get(f->object, "stopped"))};
    TQ_TRY(whole(f, "step", 0, &s.step, err));
    TQ_TRY(whole(f, "evaluated", -1, &s.evaluated, err));
    TQ_TRY(whole(f, "best_step", 0, &s.best_step, err));
    TQ_TRY(whole(f, "worse", 0, &s.worse, err));
    s.base_eval = loss_of(f, "base_eval");
    s.best_eval = loss_of(f, "best_eval");
    s.last_eval = loss_of(f, "last_eval");
    for (int i = 0; i < n; i++) memcpy(to[i], t[i]->data, t[i]->bytes);
    c->at = s;
    return TOQUE_OK;
}

toque_status tq_checkpoint_compare(json_t *before, json_t *now, const char *path, toque_error *err) {
    const char *key;
    json_t *value;
    json_object_foreach(now, key, value) {
        json_t *old = json_object_get(before, key);
        if (json_is_object(value) && json_is_object(old)) {
            TQ_TRY(tq_checkpoint_compare(old, value, path, err));
        } else if (!old || !json_equal(old, value)) {
            char *a = old ? json_dumps(old, JSON_ENCODE_ANY) : NULL, *b = json_dumps(value, JSON_ENCODE_ANY);
            toque_status status =
                TQ_FAIL(err, EINVAL,
                        "cannot resume %s: %s was %.120s, now it is %.120s; a resumed run must be the same run "
                        "(start another with -o and --init-adapter to go on from its adapter)",
                        path, key, a ? a : "not set", b ? b : "?");
            free(a); /* jansson's own memory */
            free(b); /* jansson's own memory */
            return status;
        }
    }
    json_object_foreach(before, key, value) if (!json_object_get(now, key)) return TQ_FAIL(
        err, EINVAL, "cannot resume %s: %s was set, now it is not", path, key);
    return TOQUE_OK;
}
