/* The keys of a training that depend on its method: which are used, their defaults, and what an adapter is made with.
 * See recipe.h. */
#include "train/recipe.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "train/auto_targets.h"

bool tq_recipe_given(const tq_option_set *given, const char *key) {
    return given && tq_options_given(given, key);
}

/* Whether only some methods use this key. */
static bool is_of_methods(const char *key) {
    for (size_t i = 0; tq_peft_row(i); i++)
        if (tq_peft_uses(tq_peft_row(i), key)) return true;
    return false;
}

static bool is_of_objectives(const char *key) {
    for (size_t i = 0; tq_objective_row(i); i++)
        if (tq_objective_uses(tq_objective_row(i), key)) return true;
    return false;
}

bool tq_recipe_uses(const tq_recipe *r, const char *key) {
    if (is_of_objectives(key)) return r->objective_row && tq_objective_uses(r->objective_row, key);
    if (strcmp(key, "mixing_temperature") == 0) return r->mixing == TQ_MIX_TEMPERATURE;
    if (strcmp(key, "cycles") == 0) return tq_schedule_choice(r->scheduler) == TQ_SCHEDULE_RESTARTS;
    if (strcmp(key, "decay") == 0) return tq_schedule_choice(r->scheduler) == TQ_SCHEDULE_WSD;
    if (r->method_row && strcmp(key, "train_layers") == 0 && r->train_pattern.len) return false;
    return !is_of_methods(key) || (r->method_row && tq_peft_uses(r->method_row, key));
}

static toque_status refuse_unused(const tq_recipe *r, const tq_option_set *given, toque_error *err) {
    for (const tq_option *o = tq_recipe_table; o->key; o++) {
        if (!tq_recipe_given(given, o->key) || tq_recipe_uses(r, o->key)) continue;
        char users[200] = "";
        size_t n = 0;
        if (is_of_objectives(o->key)) {
            for (size_t i = 0; tq_objective_row(i); i++)
                if (tq_objective_uses(tq_objective_row(i), o->key) && n < sizeof users)
                    n +=
                        (size_t)snprintf(users + n, sizeof users - n, "%s%s", n ? ", " : "", tq_objective_row(i)->name);
            return TQ_FAIL(err, EINVAL, "%s is not used by objective %s, only by: %s", o->key, r->objective, users);
        }
        if (strcmp(o->key, "train_layers") == 0 && r->train_pattern.len)
            return TQ_FAIL(err, EINVAL, "train_layers and train_pattern both choose tensors: leave one of them out");
        if (strcmp(o->key, "mixing_temperature") == 0)
            return TQ_FAIL(err, EINVAL, "mixing_temperature is only used by mixing temperature");
        if (!is_of_methods(o->key))
            return TQ_FAIL(err, EINVAL, "%s is only used by scheduler %s", o->key,
                           strcmp(o->key, "cycles") == 0 ? "cosine_restarts" : "wsd");
        for (size_t i = 0; tq_peft_row(i); i++)
            if (tq_peft_uses(tq_peft_row(i), o->key) && n < sizeof users)
                n += (size_t)snprintf(users + n, sizeof users - n, "%s%s", n ? ", " : "", tq_peft_row(i)->name);
        return TQ_FAIL(err, EINVAL, "%s is not used by method %s, only by: %s", o->key, r->method, users);
    }
    return TOQUE_OK;
}

/* The items of a list with commas between, from the recipe's arena; NULL for an empty list. */
static toque_status join(tq_recipe *r, const tq_option_list *list, const char **text, toque_error *err) {
    tq_buf out;
    *text = NULL;
    if (!list->len) return TOQUE_OK;
    tq_buf_init(&out, r->arena.mem, 1 << 20);
    for (size_t i = 0; i < list->len; i++) tq_buf_printf(&out, "%s%s", i ? "," : "", list->items[i]);
    toque_status status = tq_buf_status(&out, "a list", err);
    if (status == TOQUE_OK && !(*text = tq_arena_strndup(&r->arena, out.data, out.len))) status = TQ_NOMEM(err);
    tq_buf_clear(&out);
    return status;
}

/* A list of one item, for recipe.yaml. */
static toque_status one_item(tq_recipe *r, tq_option_list *list, const char *text, toque_error *err) {
    const char **items = tq_arena_alloc(&r->arena, 1, sizeof *items);
    if (!items) return TQ_NOMEM(err);
    *items = text;
    *list = (tq_option_list){.items = items, .len = 1, .cap = 1};
    return TOQUE_OK;
}

toque_status tq_recipe_set_targets(tq_recipe *r, const char *text, size_t n, toque_error *err) {
    char *copy = tq_arena_strndup(&r->arena, text, n);
    if (!copy) return TQ_NOMEM(err);
    r->targets_text = copy;
    return one_item(r, &r->targets, copy, err);
}

/* "embed_tokens" is the parameter *.embed_tokens.weight (and of a model's top, lm_head.weight). */
static toque_status join_modules(tq_recipe *r, const tq_model *model, toque_error *err) {
    tq_buf out;
    tq_buf_init(&out, r->arena.mem, 1 << 20);
    for (size_t i = 0; i < r->train_modules.len; i++)
        for (const char *p = r->train_modules.items[i]; *p;) {
            size_t n = strcspn(p, ", ");
            if (n) tq_buf_printf(&out, "%s%.*s.weight,*.%.*s.weight", out.len ? "," : "", (int)n, p, (int)n, p);
            p += n + (p[n] != 0);
        }
    toque_status status = tq_buf_status(&out, "the list of modules", err);
    if (status == TOQUE_OK && !(r->own_text = tq_arena_strndup(&r->arena, out.data, out.len))) status = TQ_NOMEM(err);
    tq_buf_clear(&out);
    (void)model;
    return status;
}

/* The last N layers as patterns. */
static toque_status last_layers(tq_recipe *r, const tq_model *model, tq_buf *notes, const tq_option_set *given,
                                toque_error *err) {
    int L = model->config.L;
    if (r->train_layers > L)
        return TQ_FAIL(err, EINVAL, "train_layers is %lld, but the model has %d layers", (long long)r->train_layers, L);
    if (!tq_recipe_given(given, "train_layers"))
        tq_buf_printf(notes, "train_layers %lld: the default of method freeze\n", (long long)r->train_layers);
    const char *layer = model->config.arch->flags & TQ_ARCH_ENCODER ? "*encoder.layer" : "model.layers";
    char *text = tq_arena_alloc(&r->arena, (size_t)r->train_layers, 32);
    if (!text) return TQ_NOMEM(err);
    size_t n = 0;
    for (int l = L - (int)r->train_layers; l < L; l++)
        n += (size_t)snprintf(text + n, 32, "%s%s.%d.*", n ? "," : "", layer, l);
    r->own_text = text;
    return TOQUE_OK;
}

/* As many virtual tokens as the text has, where nobody said how many. */
static toque_status resolve_prompt(tq_recipe *r, const tq_option_set *given, const tq_model *model, tq_buf *notes,
                                   toque_error *err) {
    if (!r->prompt_init_text) {
        tq_buf_puts(notes, "the virtual tokens begin as tokens by chance (prompt_init_text names others)\n");
        return TOQUE_OK;
    }
    if (tq_recipe_given(given, "virtual_tokens")) return TOQUE_OK;
    tq_tokens tokens = {.mem = &model->ctx->mem};
    toque_status status = tq_prompt_tokens(model, r->prompt_init_text, &tokens, err);
    r->virtual_tokens = (int64_t)tokens.len;
    tq_tokens_clear(&tokens);
    tq_buf_printf(notes, "virtual_tokens %lld: those of prompt_init_text\n", (long long)r->virtual_tokens);
    return status;
}

toque_status tq_recipe_resolve_method(tq_recipe *r, const tq_option_set *given, tq_model *model, tq_buf *notes,
                                      toque_error *err) {
    r->method_row = tq_peft_find(r->method);
    if (!r->arena.mem) tq_arena_init(&r->arena, &model->ctx->mem, 4096);
    if (!r->method_row) {
        const char *names[32], *near;
        size_t n = 0;
        for (; tq_peft_row(n); n++) names[n] = tq_peft_row(n)->name;
        near = tq_nearest(r->method, names, n);
        return TQ_FAIL(err, EINVAL, "method: there is no \"%s\"%s%s%s; there are: " TQ_METHODS, r->method,
                       near ? ", did you mean \"" : "", near ? near : "", near ? "\"?" : "");
    }
    TQ_TRY(refuse_unused(r, given, err));
    if (r->neftune_alpha > 0 && (r->objective_row->row || r->objective_row->step))
        return TQ_FAIL(err, EINVAL, "neftune_alpha is for objectives sft and dft, not for %s", r->objective);
    if (r->method_row->is_prompt && r->objective_row->step)
        return TQ_FAIL(err, EINVAL, "method %s stands before one text, and a row of objective %s has several",
                       r->method, r->objective);
    if (r->init_adapter) return TOQUE_OK; /* it supplies the rest */
    if (r->method_row->is_prompt) TQ_TRY(resolve_prompt(r, given, model, notes, err));
    if (tq_recipe_uses(r, "virtual_tokens") && !r->prompt_init_text && !tq_recipe_given(given, "virtual_tokens"))
        tq_buf_printf(notes, "virtual_tokens %lld: the default of method %s\n", (long long)r->virtual_tokens,
                      r->method);
    if (r->method_row->rank && !tq_recipe_given(given, "rank")) {
        r->rank = r->method_row->rank;
        tq_buf_printf(notes, "rank %lld: the default of method %s\n", (long long)r->rank, r->method);
    }
    if (tq_recipe_uses(r, "alpha") && !tq_recipe_given(given, "alpha")) {
        r->alpha = 2 * (double)r->rank;
        tq_buf_printf(notes, "alpha %g: 2 x rank\n", r->alpha);
    }
    if (tq_recipe_uses(r, "targets") && !r->targets.len) {
        TQ_TRY(one_item(r, &r->targets, r->method_row->targets, err));
        tq_buf_printf(notes, "targets %s: the default of method %s\n", r->method_row->targets, r->method);
    }
    TQ_TRY(join(r, &r->targets, &r->targets_text, err));
    bool asked = false;
    TQ_TRY(tq_auto_targets_asked(r->targets_text, &asked, &r->auto_share, err));
    if (asked && (r->objective_row->row || r->objective_row->step))
        return TQ_FAIL(err, EINVAL, "targets auto is for objectives sft and dft, not for %s", r->objective);
    if (asked && !tq_recipe_uses(r, "alpha"))
        return TQ_FAIL(err, EINVAL, "targets auto is for methods lora and dora, not for %s", r->method);
    TQ_TRY(join(r, &r->rank_pattern, &r->rank_text, err));
    TQ_TRY(join(r, &r->alpha_pattern, &r->alpha_text, err));
    TQ_TRY(join(r, &r->train_pattern, &r->own_text, err));
    if (r->train_modules.len) TQ_TRY(join_modules(r, model, err));
    if (r->method_row == &tq_peft_freeze && !r->own_text) return last_layers(r, model, notes, given, err);
    return TOQUE_OK;
}

tq_adapter_options tq_recipe_adapter(const tq_recipe *r) {
    return (tq_adapter_options){.kind = r->method,
                                .rank = (int)r->rank,
                                .alpha = (float)r->alpha,
                                .dropout = tq_recipe_uses(r, "dropout") ? (float)r->dropout : 0,
                                .rslora = r->rslora,
                                .targets = r->targets_text,
                                .rank_pattern = r->rank_text,
                                .alpha_pattern = r->alpha_text,
                                .own = r->own_text,
                                .pissa = r->init == 1,
                                .virtual_tokens = (int)r->virtual_tokens,
                                .prompt_init_text = r->prompt_init_text,
                                .seed = (uint64_t)r->seed};
}

/* --- an adapter to go on from ----------------------------------------------------------------------------- */
/* Keys that only the adapter answers; a recipe with one must not have them, nor is it written with them. */
static const char *const supplied[] = {"rank_pattern",  "alpha_pattern", "train_modules",
                                       "train_pattern", "train_layers",  "prompt_init_text"};
enum { N_SUPPLIED = sizeof supplied / sizeof supplied[0] };

static bool is_supplied(const tq_recipe *r, const char *key) {
    if (!r->init_adapter) return false;
    for (size_t i = 0; i < N_SUPPLIED; i++)
        if (strcmp(key, supplied[i]) == 0) return true;
    return !r->targets.len && strcmp(key, "targets") == 0;
}

static toque_status must_equal(const tq_option_set *given, const char *key, double mine, double theirs,
                               const char *name, toque_error *err) {
    if (!tq_recipe_given(given, key) || fabs(mine - theirs) <= 1e-6 * fabs(theirs)) return TOQUE_OK;
    return TQ_FAIL(err, EINVAL, "%s is %g, but init_adapter %s has %g: leave %s out", key, mine, name, theirs, key);
}

/* The same set of targets may be spelled in other ways ("all-linear", another order): compare the sets. */
static toque_status same_targets(const tq_recipe *r, const tq_adapter *a, toque_error *err) {
    tq_adapter *other;
    TQ_TRY(tq_adapter_blank(&other, a->model, "targets", err));
    toque_status status = TOQUE_OK;
    for (size_t i = 0; status == TOQUE_OK && i < r->targets.len; i++)
        status = tq_adapter_target(other, r->targets.items[i], err);
    if (status == TOQUE_OK && memcmp(other->targets, a->targets, (size_t)a->model->config.L * sizeof *a->targets) != 0)
        status = TQ_FAIL(err, EINVAL, "targets are others than those of init_adapter %s: leave targets out", a->name);
    tq_adapter_free(other);
    return status;
}

toque_status tq_recipe_resolve_adapter(tq_recipe *r, const tq_option_set *given, const tq_adapter *a, tq_buf *notes,
                                       toque_error *err) {
    if (tq_recipe_given(given, "method") && strcmp(r->method, a->kind->name) != 0)
        return TQ_FAIL(err, EINVAL, "method is %s, but init_adapter %s is of method %s: leave method out", r->method,
                       a->name, a->kind->name);
    r->method = a->kind->name;
    r->method_row = a->kind;
    tq_arena_init(&r->arena, &a->model->ctx->mem, 4096);
    for (size_t i = 0; i < N_SUPPLIED; i++)
        if (tq_recipe_given(given, supplied[i]))
            return TQ_FAIL(err, EINVAL, "%s is supplied by init_adapter %s: leave it out", supplied[i], a->name);
    tq_buf_printf(notes, "method %s", r->method);
    if (tq_recipe_uses(r, "rank")) {
        TQ_TRY(must_equal(given, "rank", (double)r->rank, a->rank, a->name, err));
        r->rank = a->rank;
        tq_buf_printf(notes, ", rank %d", a->rank);
    }
    if (!tq_recipe_uses(r, "dropout") && a->dropout > 0)
        return TQ_FAIL(err, EUNSUPPORTED, "init_adapter %s was trained with dropout %g, which method %s has not here",
                       a->name, (double)a->dropout, r->method);
    if (tq_recipe_uses(r, "alpha")) {
        TQ_TRY(must_equal(given, "alpha", r->alpha, (double)a->alpha, a->name, err));
        TQ_TRY(must_equal(given, "dropout", r->dropout, (double)a->dropout, a->name, err));
        if (tq_recipe_given(given, "rslora") && r->rslora != a->rslora)
            return TQ_FAIL(err, EINVAL, "rslora is %s, but init_adapter %s has it %s: leave rslora out",
                           r->rslora ? "on" : "off", a->name, a->rslora ? "on" : "off");
        r->alpha = (double)a->alpha;
        r->dropout = (double)a->dropout;
        r->rslora = a->rslora;
        tq_buf_printf(notes, ", alpha %g, dropout %g", (double)a->alpha, (double)a->dropout);
    }
    if (tq_recipe_uses(r, "virtual_tokens")) r->virtual_tokens = a->table.n;
    if (tq_recipe_uses(r, "targets")) {
        if (tq_recipe_given(given, "targets")) TQ_TRY(same_targets(r, a, err));
        r->targets = (tq_option_list){0};
        tq_buf_puts(notes, ", targets");
    }
    tq_buf_printf(notes, ": those of init_adapter %s\n", a->name);
    return TOQUE_OK;
}

void tq_recipe_clear(tq_recipe *r) {
    if (!r->arena.mem) return;
    tq_arena_clear(&r->arena);
    r->arena = (tq_arena){0};
    r->targets = (tq_option_list){0}; /* may have lain in the arena */
}

bool tq_recipe_yaml(const tq_recipe *r, tq_buf *out) {
    enum { MOST = 128 };
    static const tq_option end = {0};
    tq_option used[MOST];
    size_t n = 0;
    for (const tq_option *o = tq_recipe_table; o->key && n + 1 < MOST; o++) {
        if (tq_recipe_uses(r, o->key) && !is_supplied(r, o->key)) used[n++] = *o;
    }
    used[n] = end;
    const tq_option *tables[] = {used, NULL};
    void *targets[] = {(void *)(uintptr_t)r};
    tq_option_set set = {.tables = tables, .targets = targets};
    return tq_options_to_yaml(&set, 0, out);
}
