/* Names of modules and parameters, and the lists and patterns in which users and PEFT speak of them. */
#include "model/peft.h"

#include <fnmatch.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool tq_is_linear(int role) {
    return role == TQ_ROLE_Q || role == TQ_ROLE_K || role == TQ_ROLE_V || role == TQ_ROLE_O || role == TQ_ROLE_GATE ||
           role == TQ_ROLE_UP || role == TQ_ROLE_DOWN;
}

static bool is_encoder(const tq_model *m) {
    return m->config.arch->flags & TQ_ARCH_ENCODER;
}

/* What stands before the body's names: transformers' encoders have a name of their own only beside a head. */
static const char *body_prefix(const tq_adapter *a) {
    return !is_encoder(a->model) ? "model." : a->n_heads ? "bert." : "";
}

void tq_parameter_name(char out[100], const tq_adapter *a, int layer, int role) {
    char name[TQ_WEIGHT_NAME];
    const char *prefix = body_prefix(a);
    if (role == TQ_ROLE_HEAD)
        snprintf(name, sizeof name, "lm_head.weight"), prefix = "";
    else if (role == TQ_ROLE_EMBEDDING)
        snprintf(name, sizeof name, is_encoder(a->model) ? "embeddings.word_embeddings.weight" : "embed_tokens.weight");
    else if (role == TQ_ROLE_OUT_NORM)
        snprintf(name, sizeof name, "norm.weight");
    else if (role == TQ_ROLE_POOLER || role == TQ_ROLE_POOLER_BIAS)
        snprintf(name, sizeof name, "pooler.dense.%s", role == TQ_ROLE_POOLER ? "weight" : "bias");
    else
        tq_weight_name(a->model->config.arch, layer, (tq_role)role, true, name);
    snprintf(out, 100, "%s%.90s", prefix, name);
}

void tq_module_path(char out[100], const tq_adapter *a, int layer, int role) {
    tq_parameter_name(out, a, layer, role);
    char *end = strrchr(out, '.');
    if (end) *end = 0;
}

/* The end of a path at a dot: "q_proj" and "self_attn.q_proj" end "model.layers.3.self_attn.q_proj". */
static bool ends(const char *path, const char *name, size_t n) {
    size_t m = strlen(path);
    return m >= n && memcmp(path + m - n, name, n) == 0 && (m == n || path[m - n - 1] == '.');
}

/* By the family's own name, GGUF's, or Llama's, which the defaults of methods speak. */
static bool module_is_called(const tq_adapter *a, int layer, int role, const char *name, size_t n) {
    char path[100], gguf[100], llama[100];
    const char *stem = tq_role_gguf((tq_role)role);
    tq_module_path(path, a, layer, role);
    snprintf(gguf, sizeof gguf, "blk.%d.%.*s", layer, (int)strcspn(stem, "."), stem);
    snprintf(llama, sizeof llama, "layers.%d.%s", layer, tq_role_hf((tq_role)role));
    return ends(path, name, n) || ends(gguf, name, n) || ends(llama, name, n);
}

bool tq_is_down(const tq_adapter *a, const char *name) {
    bool down = false;
    for (int l = 0; l < a->model->config.L; l++)
        for (int role = 0; role < TQ_ROLE_COUNT; role++) {
            if (!a->model->weights[l][role].data || !module_is_called(a, l, role, name, strlen(name))) continue;
            if (role != TQ_ROLE_DOWN) return false;
            down = true;
        }
    return down;
}

static toque_status no_target(const tq_model *m, const char *name, size_t n, toque_error *err) {
    char list[400] = "";
    size_t len = 0;
    for (int role = 0; role < TQ_ROLE_COUNT; role++)
        if (tq_is_linear(role) && m->weights[0][role].data && len < sizeof list)
            len += (size_t)snprintf(list + len, sizeof list - len, "%s, ", strrchr(tq_role_hf((tq_role)role), '.') + 1);
    return TQ_FAIL(err, EINVAL,
                   "target '%.*s' matches nothing in this model: there are %sall-linear, and single modules like "
                   "layers.%d.self_attn.q_proj",
                   (int)(n < 100 ? n : 100), name, list, m->config.L - 1);
}

toque_status tq_adapter_target(tq_adapter *a, const char *list, toque_error *err) {
    const tq_model *m = a->model;
    bool any = false;
    for (const char *p = list; *p;) {
        size_t n = strcspn(p, ", ");
        bool all = (n == 10 && memcmp(p, "all-linear", 10) == 0) || (n == 3 && memcmp(p, "all", 3) == 0),
             found = n == 0;
        any |= n > 0;
        for (int l = 0; n && l < m->config.L; l++)
            for (int role = 0; role < TQ_ROLE_COUNT; role++) {
                if (!tq_is_linear(role) || !m->weights[l][role].data) continue;
                if (!all && !module_is_called(a, l, role, p, n)) continue;
                a->targets[l] |= 1u << role;
                found = true;
            }
        if (!found) return no_target(m, p, n, err);
        p += n + (p[n] != 0);
    }
    return any ? TOQUE_OK : TQ_FAIL(err, EINVAL, "no targets: name some, or all-linear");
}

bool tq_name_matches(const char *patterns, const char *name) {
    for (const char *p = patterns; p && *p;) {
        size_t n = strcspn(p, ", ");
        char pattern[200];
        if (n && n < sizeof pattern) {
            memcpy(pattern, p, n);
            pattern[n] = 0;
            if (fnmatch(pattern, name, 0) == 0) return true;
        }
        p += n + (p[n] != 0);
    }
    return false;
}

/* --- rank and alpha patterns --------------------------------------------------------------------------------- */
/* PEFT matches (.*\.)?(NAME)$ from the start of the module's path. */
static toque_status regex_matches(const char *name, size_t n, const char *path, bool *matches, toque_error *err) {
    char text[300];
    if (snprintf(text, sizeof text, "^(?:.*\\.)?(?:%.*s)$", (int)n, name) >= (int)sizeof text)
        return TQ_FAIL(err, EINVAL, "the pattern '%.*s' is too long", 60, name);
    int code;
    PCRE2_SIZE at;
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED, 0, &code, &at, NULL);
    if (!re) return TQ_FAIL(err, EINVAL, "the pattern '%.*s' is no regular expression", (int)n, name);
    pcre2_match_data *data = pcre2_match_data_create_from_pattern(re, NULL);
    *matches = data && pcre2_match(re, (PCRE2_SPTR)path, PCRE2_ZERO_TERMINATED, 0, 0, data, NULL) > 0;
    pcre2_match_data_free(data);
    pcre2_code_free(re);
    return data ? TOQUE_OK : TQ_NOMEM(err);
}

/* The next "NAME=VALUE" of a list; false at the end. */
static bool next_pattern(const char **p, const char **name, size_t *n, const char **value) {
    while (**p == ',' || **p == ' ') ++*p;
    if (!**p) return false;
    *name = *p;
    size_t len = strcspn(*p, ",");
    const char *sign = memchr(*p, '=', len);
    *n = sign ? (size_t)(sign - *p) : len;
    *value = sign ? sign + 1 : NULL;
    *p += len;
    return true;
}

static toque_status read_value(const char *name, size_t n, const char *text, double *value, toque_error *err) {
    char *end = NULL;
    if (text) *value = strtod(text, &end);
    if (!text || end == text || (*end && *end != ',') || !(*value > 0))
        return TQ_FAIL(err, EINVAL, "the pattern '%.*s' needs a value above 0: NAME=VALUE", (int)(n < 100 ? n : 100),
                       name);
    return TOQUE_OK;
}

toque_status tq_pattern_value(const tq_adapter *a, const char *patterns, int layer, int role, double fallback,
                              double *value, toque_error *err) {
    char path[100];
    const char *p = patterns ? patterns : "", *name, *text;
    size_t n;
    tq_module_path(path, a, layer, role);
    while (next_pattern(&p, &name, &n, &text)) {
        bool matches;
        TQ_TRY(regex_matches(name, n, path, &matches, err));
        if (matches) return read_value(name, n, text, value, err);
    }
    *value = fallback;
    return TOQUE_OK;
}

toque_status tq_pattern_check(const tq_adapter *a, const char *patterns, const char *key, toque_error *err) {
    const char *p = patterns ? patterns : "", *name, *text;
    size_t n;
    while (next_pattern(&p, &name, &n, &text)) {
        bool found = false;
        double value;
        TQ_TRY(read_value(name, n, text, &value, err));
        for (int l = 0; !found && l < a->model->config.L; l++)
            for (int role = 0; !found && role < TQ_ROLE_COUNT; role++) {
                if (!(a->targets[l] >> role & 1)) continue;
                char path[100];
                tq_module_path(path, a, l, role);
                TQ_TRY(regex_matches(name, n, path, &found, err));
            }
        if (!found)
            return TQ_FAIL(err, EINVAL, "%s: '%.*s' matches none of the targets (like %s)", key,
                           (int)(n < 100 ? n : 100), name, "self_attn.q_proj, or layers.0.mlp.up_proj");
    }
    return TOQUE_OK;
}
