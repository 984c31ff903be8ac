/* Architectures: their configuration from metadata, and their programs. See arch.h; how to add a row:
 * docs/adding-an-architecture.md. */
#include "model/arch.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const tq_arch archs[] = {
#define X(gguf, hf, naming, flags, every, base) {#gguf, hf, naming, flags, every, base},
#include "model/archs.def"
#undef X
};

const tq_arch *tq_arch_find(const char *name, size_t n) {
    for (size_t i = 0; i < sizeof archs / sizeof archs[0]; i++)
        if ((strlen(archs[i].name) == n && memcmp(archs[i].name, name, n) == 0) ||
            (strlen(archs[i].hf_type) == n && memcmp(archs[i].hf_type, name, n) == 0))
            return &archs[i];
    return NULL;
}

const char *tq_arch_names(void) {
    return ""
#define X(gguf, hf, naming, flags, every, base) " " #gguf
#include "model/archs.def"
#undef X
        ;
}

/* Reads `<arch>.<name>` into *out, which must then lie in [min, max]. */
static toque_status read_int(const tq_gguf *gguf, const char *arch, const char *name, int *out, int64_t min,
                             int64_t max, toque_error *err) {
    char key[128];
    snprintf(key, sizeof key, "%s.%s", arch, name);
    uint32_t v = (uint32_t)*out;
    TQ_TRY(tq_gguf_u32(gguf, key, &v, err));
    if (v < min || v > max)
        return TQ_FAIL(err, EFORMAT, "%s: %s is %u, expected a number from %lld to %lld", tq_gguf_path(gguf), key, v,
                       (long long)min, (long long)max);
    *out = (int)v;
    return TOQUE_OK;
}

static toque_status read_float(const tq_gguf *gguf, const char *arch, const char *name, float *out, toque_error *err) {
    char key[128];
    snprintf(key, sizeof key, "%s.%s", arch, name);
    if (!tq_gguf_find(gguf, key)) return TOQUE_OK;
    TQ_TRY(tq_gguf_f32(gguf, key, out, err));
    if (!(*out > 0) || !isfinite(*out))
        return TQ_FAIL(err, EFORMAT, "%s: %s is %g, expected a positive number", tq_gguf_path(gguf), key, (double)*out);
    return TOQUE_OK;
}

static toque_status read_rope(tq_config *c, const tq_gguf *gguf, const char *a, toque_error *err) {
    c->rope_base = 10000;
    c->rope_factor = 1;
    if (c->arch->flags & TQ_ARCH_ENCODER) return TOQUE_OK;
    c->rope_dim = c->D;
    c->local_base = c->arch->local_base;
    TQ_TRY(read_float(gguf, a, "rope.freq_base_swa", &c->local_base, err));
    TQ_TRY(read_float(gguf, a, "rope.freq_base", &c->rope_base, err));
    TQ_TRY(read_int(gguf, a, "rope.dimension_count", &c->rope_dim, 2, c->D, err));
    if (c->rope_dim % 2)
        return TQ_FAIL(err, EFORMAT, "%s: rope.dimension_count %d is odd", tq_gguf_path(gguf), c->rope_dim);
    char key[128];
    snprintf(key, sizeof key, "%s.rope.scaling.type", a);
    tq_string type = {"none", 4};
    TQ_TRY(tq_gguf_str(gguf, key, &type, err));
    if (type.len == 6 && memcmp(type.data, "linear", 6) == 0) {
        TQ_TRY(read_float(gguf, a, "rope.scaling.factor", &c->rope_factor, err));
    } else if (!(type.len == 4 && memcmp(type.data, "none", 4) == 0)) {
        return TQ_FAIL(err, EUNSUPPORTED, "%s: rope scaling '%.*s' is not supported (none and linear are)",
                       tq_gguf_path(gguf), (int)type.len, type.data);
    }
    return TOQUE_OK;
}

/* Folders say which function the feed-forward block has; GGUF files mean the architecture's own. */
static toque_status check_activation(const tq_gguf *gguf, const char *arch, const char *own, toque_error *err) {
    char key[128];
    snprintf(key, sizeof key, "%s.feed_forward.activation", arch);
    tq_string s = {own, strlen(own)};
    TQ_TRY(tq_gguf_str(gguf, key, &s, err));
    if (s.len == strlen(own) && memcmp(s.data, own, s.len) == 0) return TOQUE_OK;
    return TQ_FAIL(err, EUNSUPPORTED, "%s: the activation '%.*s' is not supported; this architecture's is %s",
                   tq_gguf_path(gguf), (int)(s.len < 60 ? s.len : 60), s.data, own);
}

static toque_status read_windows(tq_config *c, const tq_gguf *gguf, const char *a, toque_error *err) {
    char key[128];
    snprintf(key, sizeof key, "%s.attention.sliding_window_pattern", a);
    TQ_TRY(read_int(gguf, a, "attention.sliding_window", &c->window, 0, INT32_MAX / 4, err));
    const tq_gguf_value *v = tq_gguf_find(gguf, key);
    if (!v) return TOQUE_OK;
    if (v->type != TQ_GGUF_ARRAY || v->item != TQ_GGUF_BOOL || v->count != (uint64_t)c->L)
        return TQ_FAIL(err, EUNSUPPORTED, "%s: %s must name each of %d layers", tq_gguf_path(gguf), key, c->L);
    c->slides = v->data;
    return TOQUE_OK;
}

/* How texts are embedded: an encoder's by the mean of the rows, a language model's by the last one, unless the file
 * says otherwise. */
static toque_status read_embedding(tq_config *c, const tq_gguf *gguf, const char *a, toque_error *err) {
    const bool encoder = c->arch->flags & TQ_ARCH_ENCODER;
    int pooling = TQ_POOLING_NONE;
    uint32_t types = 2;
    TQ_TRY(tq_gguf_u32(gguf, "tokenizer.ggml.token_type_count", &types, err));
    if (types < 1 || types > 1 << 16)
        return TQ_FAIL(err, EFORMAT, "%s: %u token types, expected 1 to %d", tq_gguf_path(gguf), types, 1 << 16);
    c->types = (int)types;
    TQ_TRY(read_int(gguf, a, "pooling_type", &pooling, 0, INT32_MAX, err));
    if (pooling >= TQ_POOLINGS)
        return TQ_FAIL(err, EUNSUPPORTED, "%s: pooling %d is not supported (1 mean, 2 CLS and 3 last are)",
                       tq_gguf_path(gguf), pooling);
    c->embeds = encoder || pooling != TQ_POOLING_NONE;
    if (pooling == TQ_POOLING_NONE) pooling = encoder ? TQ_POOLING_MEAN : TQ_POOLING_LAST;
    c->pooling = (tq_pooling)pooling;
    c->embed_max = c->context;
    uint32_t most = (uint32_t)c->context;
    TQ_TRY(tq_gguf_u32(gguf, "toque.embed.max_tokens", &most, err));
    if (most < (uint32_t)c->context) c->embed_max = most > 0 ? (int)most : c->context;
    /* A folder says whether it normalizes; GGUF files do not, and their runtimes do. */
    c->normalize = !tq_gguf_is_folder(gguf);
    return tq_gguf_bool(gguf, "toque.embed.normalize", &c->normalize, err);
}

toque_status tq_config_read(tq_config *c, const tq_gguf *gguf, toque_error *err) {
    *c = (tq_config){0};
    tq_string name = {0};
    TQ_TRY(tq_gguf_str(gguf, "general.architecture", &name, err));
    if (!name.data) return TQ_FAIL(err, EFORMAT, "%s: general.architecture is missing", tq_gguf_path(gguf));
    c->arch = tq_arch_find(name.data, name.len);
    if (!c->arch)
        return TQ_FAIL(err, EUNSUPPORTED, "%s: architecture '%.*s' is not supported (known:%s)", tq_gguf_path(gguf),
                       (int)(name.len < 60 ? name.len : 60), name.data, tq_arch_names());
    char a[64]; /* keys begin with the name as the file has it */
    snprintf(a, sizeof a, "%.*s", (int)name.len, name.data);
    enum { WIDTH_MAX = 1 << 18, COUNT_MAX = 1 << 12 };
    TQ_TRY(read_int(gguf, a, "block_count", &c->L, 1, COUNT_MAX, err));
    TQ_TRY(read_int(gguf, a, "embedding_length", &c->C, 1, WIDTH_MAX, err));
    TQ_TRY(read_int(gguf, a, "feed_forward_length", &c->F, 1, WIDTH_MAX * 4, err));
    TQ_TRY(read_int(gguf, a, "attention.head_count", &c->H, 1, COUNT_MAX, err));
    c->G = c->H;
    TQ_TRY(read_int(gguf, a, "attention.head_count_kv", &c->G, 1, c->H, err));
    if (c->H % c->G)
        return TQ_FAIL(err, EFORMAT, "%s: %d query heads are not a multiple of %d key/value heads", tq_gguf_path(gguf),
                       c->H, c->G);
    c->D = c->C % c->H ? 0 : c->C / c->H;
    TQ_TRY(read_int(gguf, a, "attention.key_length", &c->D, 2, 512, err));
    int value = c->D;
    TQ_TRY(read_int(gguf, a, "attention.value_length", &value, 2, 512, err));
    if (value != c->D)
        return TQ_FAIL(err, EUNSUPPORTED, "%s: heads of %d for keys but %d for values are not supported",
                       tq_gguf_path(gguf), c->D, value);
    c->context = 2048;
    TQ_TRY(read_int(gguf, a, "context_length", &c->context, 1, INT32_MAX / 4, err));
    int experts = 0;
    TQ_TRY(read_int(gguf, a, "expert_count", &experts, 0, INT32_MAX, err));
    if (experts)
        return TQ_FAIL(err, EUNSUPPORTED, "%s: mixture-of-experts models are not supported", tq_gguf_path(gguf));
    TQ_TRY(read_windows(c, gguf, a, err));
    c->eps = 1e-5f;
    bool encoder = c->arch->flags & TQ_ARCH_ENCODER;
    const char *eps = encoder ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon";
    TQ_TRY(read_float(gguf, a, eps, &c->eps, err));
    TQ_TRY(read_rope(c, gguf, a, err));
    c->attn_scale = 1 / sqrtf((float)c->D);
    if (!encoder) TQ_TRY(read_float(gguf, a, "attention.scale", &c->attn_scale, err));
    c->embedding_scale = c->arch->flags & TQ_ARCH_EMBED_SQRT ? sqrtf((float)c->C) : 1;
    const char *activation = encoder ? "gelu" : c->arch->flags & TQ_ARCH_GLU_GELU ? "gelu_pytorch_tanh" : "silu";
    TQ_TRY(check_activation(gguf, a, activation, err));
    return read_embedding(c, gguf, a, err);
}

/* --- the program --------------------------------------------------------------------------------------- */
static int buffer(tq_program *p, int width) {
    p->width[p->n_buffers] = width;
    return p->n_buffers++;
}

static int emit(tq_program *p, const tq_op *op, int in0, int in1, int in2, int width, tq_role role, tq_role bias) {
    tq_step *s = &p->steps[p->n_steps++];
    *s = (tq_step){.op = op, .in = {(int8_t)in0, (int8_t)in1, (int8_t)in2}, .role = (int8_t)role, .bias = (int8_t)bias};
    s->same_input = p->n_steps > 1 && op == &tq_op_linear && s[-1].op == op && s[-1].in[0] == in0;
    return s->out = (int8_t)buffer(p, width);
}

/* Attention turns q and k where they lie: what made them cannot be computed again from them alone. */
static bool is_turned(const tq_program *p, int buffer) {
    for (int i = 0; i < p->n_steps; i++)
        if (p->steps[i].op == &tq_op_attention && (p->steps[i].in[0] == buffer || p->steps[i].in[1] == buffer))
            return true;
    return false;
}

/* Norms and gates: a hundredth of a layer's work, and a third of what it would keep. */
static bool is_light(const tq_program *p, const tq_step *s) {
    if (!s->op->by_rows || s->out == p->out || !p->kept[s->out] || is_turned(p, s->out)) return false;
    for (int j = 0; j < 3; j++)
        if (s->in[j] > 0 && (!p->kept[s->in[j]] || p->light[s->in[j]])) return false;
    return s->in[0] >= 0;
}

/* Backward walks the steps in reverse: the last reader of a buffer is the first to write its gradient. */
static void finish(tq_program *p) {
    bool written[TQ_MAX_BUFFERS] = {false};
    for (int i = p->n_steps - 1; i >= 0; i--) {
        tq_step *s = &p->steps[i];
        for (int j = 0; j < 3; j++) {
            if (s->in[j] < 0) continue;
            s->first[j] = !written[s->in[j]];
            written[s->in[j]] = true;
            if (s->op->saved >> j & 1) p->kept[s->in[j]] = true;
        }
        if (s->op->saved >> 3 & 1) p->kept[s->out] = true;
    }
    for (int i = 0; i < p->n_steps; i++) p->light[p->steps[i].out] = is_light(p, &p->steps[i]);
}

void tq_program_emit_in(tq_program *p, const tq_config *c) {
    *p = (tq_program){0};
    p->out = emit(p, &tq_op_embed, -1, -1, -1, c->C, TQ_ROLE_NONE, TQ_ROLE_NONE);
    if (c->arch->flags & TQ_ARCH_ENCODER)
        p->out = emit(p, &tq_op_layernorm, p->out, -1, -1, c->C, TQ_ROLE_IN_NORM, TQ_ROLE_IN_NORM_BIAS);
    finish(p);
}

/* q, k and v from n, and attention over them; its output. */
static int emit_attention(tq_program *p, const tq_config *c, int n) {
    const tq_role none = TQ_ROLE_NONE;
    const unsigned flags = c->arch->flags;
    bool bias = flags & (TQ_ARCH_QKV_BIAS | TQ_ARCH_ENCODER);
    int q_width = c->H * c->D, kv_width = c->G * c->D;
    int q = emit(p, &tq_op_linear, n, -1, -1, q_width, TQ_ROLE_Q, bias ? TQ_ROLE_Q_BIAS : none);
    int k = emit(p, &tq_op_linear, n, -1, -1, kv_width, TQ_ROLE_K, bias ? TQ_ROLE_K_BIAS : none);
    int v = emit(p, &tq_op_linear, n, -1, -1, kv_width, TQ_ROLE_V, bias ? TQ_ROLE_V_BIAS : none);
    if (flags & TQ_ARCH_QK_NORM) {
        q = emit(p, &tq_op_headnorm, q, -1, -1, q_width, TQ_ROLE_Q_NORM, none);
        k = emit(p, &tq_op_headnorm, k, -1, -1, kv_width, TQ_ROLE_K_NORM, none);
    }
    return emit(p, &tq_op_attention, q, k, v, q_width, none, none);
}

/* BERT's: a norm follows each residual sum. */
static void emit_encoder(tq_program *p, const tq_config *c, int x) {
    const tq_role none = TQ_ROLE_NONE;
    int a = emit_attention(p, c, x);
    int o = emit(p, &tq_op_linear, a, -1, -1, c->C, TQ_ROLE_O, TQ_ROLE_O_BIAS);
    int y = emit(p, &tq_op_add, x, o, -1, c->C, none, none);
    int n = emit(p, &tq_op_layernorm, y, -1, -1, c->C, TQ_ROLE_ATTN_NORM, TQ_ROLE_ATTN_NORM_BIAS);
    int u = emit(p, &tq_op_linear, n, -1, -1, c->F, TQ_ROLE_UP, TQ_ROLE_UP_BIAS);
    int h = emit(p, &tq_op_gelu, u, -1, -1, c->F, none, none);
    int d = emit(p, &tq_op_linear, h, -1, -1, c->C, TQ_ROLE_DOWN, TQ_ROLE_DOWN_BIAS);
    int z = emit(p, &tq_op_add, n, d, -1, c->C, none, none);
    p->out = emit(p, &tq_op_layernorm, z, -1, -1, c->C, TQ_ROLE_FFN_NORM, TQ_ROLE_FFN_NORM_BIAS);
}

static void emit_decoder(tq_program *p, const tq_config *c, int x) {
    const tq_role none = TQ_ROLE_NONE;
    bool post = c->arch->flags & TQ_ARCH_POST_NORM;
    int n = emit(p, &tq_op_norm, x, -1, -1, c->C, TQ_ROLE_ATTN_NORM, none);
    int a = emit_attention(p, c, n);
    int o = emit(p, &tq_op_linear, a, -1, -1, c->C, TQ_ROLE_O, none);
    if (post) o = emit(p, &tq_op_norm, o, -1, -1, c->C, TQ_ROLE_ATTN_POST_NORM, none);
    int y = emit(p, &tq_op_add, x, o, -1, c->C, none, none);
    int m = emit(p, &tq_op_norm, y, -1, -1, c->C, TQ_ROLE_FFN_NORM, none);
    int g = emit(p, &tq_op_linear, m, -1, -1, c->F, TQ_ROLE_GATE, none);
    int u = emit(p, &tq_op_linear, m, -1, -1, c->F, TQ_ROLE_UP, none);
    int h = emit(p, &tq_op_glu, g, u, -1, c->F, none, none);
    int d = emit(p, &tq_op_linear, h, -1, -1, c->C, TQ_ROLE_DOWN, none);
    if (post) d = emit(p, &tq_op_norm, d, -1, -1, c->C, TQ_ROLE_FFN_POST_NORM, none);
    p->out = emit(p, &tq_op_add, y, d, -1, c->C, none, none);
}

void tq_program_emit(tq_program *p, const tq_config *c) {
    *p = (tq_program){0};
    int x = buffer(p, c->C);
    if (c->arch->flags & TQ_ARCH_ENCODER)
        emit_encoder(p, c, x);
    else
        emit_decoder(p, c, x);
    finish(p);
}
