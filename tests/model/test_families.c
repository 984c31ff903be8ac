/* Every family against transformers (f32): log-probabilities or hidden states, and the gradient of every weight, on a
 * tiny random model; the same gradients by finite differences; the same model through a GGUF file. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/machine.h"
#include "tiny.h"

static const char *families_path, *tokenizers;
static const char *const families[] = {"llama", "qwen3", "gemma3", "bert"};
enum { FAMILIES = sizeof families / sizeof *families, N = TINY_TOKENS };
static toque_error err;

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        if ((call) != TOQUE_OK) fail_msg("%s", err.message);                                                           \
    } while (0)

typedef struct fixture {
    tiny t;
    tq_ctx *ctx;
    tq_model *model;
    tq_machine *m;
    double got[TINY_VALUES];
    float *trained[TINY_TENSORS], *grads[TINY_TENSORS]; /* copies of the weights that the test moves, by tensor */
} fixture;

static void open_family(fixture *f, const char *family, size_t max_bytes, int threads) {
    memset(f, 0, sizeof *f);
    if (!tiny_write(&f->t, family, families_path, tokenizers)) fail_msg("no tiny %s", family);
    OK(tq_ctx_new(&f->ctx, threads, 0, "f32", &err));
    OK(tq_model_open(&f->model, f->ctx, f->t.dir, &err));
    tq_plan plan = {.max_rows = N, .train = true, .max_bytes = max_bytes};
    OK(tq_machine_new(&f->m, f->model, &plan, &err));
    if (max_bytes) assert_true(plan.kept_layers < f->model->config.L);
}

static void close_family(fixture *f) {
    for (int i = 0; i < f->t.n_tensors; i++) {
        free(f->trained[i]);
        free(f->grads[i]);
    }
    tq_machine_free(f->m);
    tq_model_close(f->model);
    tq_ctx_free(f->ctx);
    tiny_remove(&f->t);
}

/* The weight of a tensor's name, NULL if the backward pass gives no gradient for it. */
static tq_weight *weight_of(tq_model *m, const char *name) {
    if (strncmp(name, "model.", 6) == 0) name += 6;
    char own[TQ_WEIGHT_NAME];
    if (strcmp(name, "embeddings.word_embeddings.weight") == 0) return &m->embedding;
    for (int l = -1; l < m->config.L; l++)
        for (int role = 0; role < TQ_ROLE_COUNT; role++) {
            tq_weight *w = l < 0 ? &m->in_weights[role] : &m->weights[l][role];
            tq_weight_name(m->config.arch, l, (tq_role)role, true, own);
            if (w->data && strcmp(own, name) == 0) return w;
        }
    return NULL;
}

/* Every weight that has a gradient gets one, and values that may be moved. */
static void train_all(fixture *f) {
    int n = 0;
    for (int i = 0; i < f->t.n_tensors; i++) {
        const struct tiny_tensor *x = &f->t.tensors[i];
        if (!x->has_gradient) continue;
        tq_weight *w = weight_of(f->model, x->name);
        if (!w) fail_msg("%s has no place in the model", x->name);
        size_t size = (size_t)(w->rows * w->cols);
        f->trained[i] = malloc(size * sizeof(float));
        f->grads[i] = calloc(size, sizeof(float));
        memcpy(f->trained[i], w->data, size * sizeof(float));
        w->data = f->trained[i];
        w->grad = f->grads[i];
        n++;
    }
    assert_true(n > 20);
}

static double loss_of(fixture *f, bool grad) {
    const tq_config *c = &f->model->config;
    tq_segment seg = {.n = N};
    tq_pass pass = {.kind = TQ_PASS_TRAIN, .tokens = f->t.tokens, .T = N, .segments = &seg, .n_segments = 1};
    OK(tq_machine_forward(f->m, &pass, &err));
    double loss = 0;
    if (f->t.encoder) {
        float hidden[N * 32], d[N * 32];
        int rows[N];
        assert_int_equal(c->C, 32);
        for (int i = 0; i < N; i++) rows[i] = i;
        tq_machine_hidden(f->m, rows, N, hidden);
        memset(f->got, 0, sizeof f->got);
        for (int i = 0; i < N * 32; i++) {
            f->got[i % 32] += (double)hidden[i] / N;
            d[i] = (float)(tiny_number("loss", (uint32_t)(i % 32)) / N);
        }
        for (int i = 0; i < 32; i++) loss += f->got[i] * tiny_number("loss", (uint32_t)i);
        if (grad) tq_machine_hidden_bwd(f->m, rows, N, d);
    } else {
        tq_target targets[N - 1];
        float logp[N - 1], coef[N - 1];
        for (int i = 0; i < N - 1; i++) {
            targets[i] = (tq_target){i, f->t.tokens[i + 1]};
            coef[i] = -1.0f / (N - 1);
        }
        tq_machine_logp(f->m, targets, N - 1, grad ? coef : NULL, logp);
        for (int i = 0; i < N - 1; i++) {
            f->got[i] = (double)logp[i];
            loss -= (double)logp[i] / (N - 1);
        }
    }
    if (grad) tq_machine_backward(f->m);
    return loss;
}

static void values_agree(const fixture *f) {
    assert_int_equal(f->t.n_values, f->t.encoder ? 32 : N - 1);
    for (int i = 0; i < f->t.n_values; i++)
        if (!(fabs(f->got[i] - f->t.values[i]) < 1e-4))
            fail_msg("%s: value %d is %.7f, expected %.7f", f->t.family, i, f->got[i], f->t.values[i]);
}

static void outputs_agree_with_transformers(void **state) {
    (void)state;
    for (int k = 0; k < FAMILIES; k++) {
        fixture f;
        open_family(&f, families[k], 0, 2);
        loss_of(&f, false);
        values_agree(&f);
        close_family(&f);
    }
}

static double along(const float *grad, size_t n, const char *name) {
    char direction[128];
    double sum = 0;
    snprintf(direction, sizeof direction, "d%s", name);
    for (size_t i = 0; i < n; i++) sum += (double)grad[i] * tiny_number(direction, (uint32_t)i);
    return sum;
}

static void gradients_agree_with_transformers(void **state) {
    (void)state;
    for (int k = 0; k < FAMILIES; k++) {
        fixture f;
        open_family(&f, families[k], 0, 2);
        train_all(&f);
        loss_of(&f, true);
        for (int i = 0; i < f.t.n_tensors; i++) {
            const struct tiny_tensor *x = &f.t.tensors[i];
            if (!x->has_gradient) continue;
            size_t n = (size_t)(x->rows ? x->rows * x->cols : x->cols);
            double got = along(f.grads[i], n, x->name);
            if (!(fabs(got - x->gradient) < 1e-4 * (1 + fabs(x->gradient))))
                fail_msg("%s: the gradient of %s is %.7f, expected %.7f", f.t.family, x->name, got, x->gradient);
        }
        close_family(&f);
    }
}

/* The loss along a random direction of each weight changes as its gradient says. */
static void gradients_agree_with_differences(void **state) {
    (void)state;
    for (int k = 0; k < FAMILIES; k++) {
        fixture f;
        open_family(&f, families[k], 0, 2);
        train_all(&f);
        loss_of(&f, true);
        for (int i = 0; i < f.t.n_tensors; i++) {
            const struct tiny_tensor *x = &f.t.tensors[i];
            if (!x->has_gradient) continue;
            size_t n = (size_t)(x->rows ? x->rows * x->cols : x->cols);
            char direction[128];
            double slope = along(f.grads[i], n, x->name), loss[2];
            const double h = 2e-3;
            float *old = malloc(n * sizeof *old);
            memcpy(old, f.trained[i], n * sizeof *old);
            snprintf(direction, sizeof direction, "d%s", x->name);
            for (int s = 0; s < 2; s++) {
                for (size_t j = 0; j < n; j++)
                    f.trained[i][j] = old[j] + (float)((s ? -h : h) * tiny_number(direction, (uint32_t)j));
                loss[s] = loss_of(&f, false);
            }
            memcpy(f.trained[i], old, n * sizeof *old);
            free(old);
            double difference = (loss[0] - loss[1]) / (2 * h);
            if (!(fabs(slope - difference) < 0.02 * fabs(difference) + 2e-3))
                fail_msg("%s: the slope of %s is %.6f, by differences %.6f", f.t.family, x->name, slope, difference);
        }
        close_family(&f);
    }
}

static void recomputing_and_threads_change_no_bit_of_gradients(void **state) {
    (void)state;
    for (int k = 0; k < FAMILIES; k++) {
        fixture a, b;
        tq_plan all = {.max_rows = N, .train = true};
        tq_machine *m;
        open_family(&a, families[k], 0, 1);
        OK(tq_machine_new(&m, a.model, &all, &err));
        tq_machine_free(m);
        open_family(&b, families[k], all.bytes - 1000, 3);
        train_all(&a);
        train_all(&b);
        loss_of(&a, true);
        loss_of(&b, true);
        for (int i = 0; i < a.t.n_tensors; i++) {
            const struct tiny_tensor *x = &a.t.tensors[i];
            size_t n = (size_t)(x->rows ? x->rows * x->cols : x->cols);
            if (x->has_gradient) assert_memory_equal(a.grads[i], b.grads[i], n * sizeof(float));
        }
        close_family(&a);
        close_family(&b);
    }
}

/* ggml's order of q and k rows, from Hugging Face's: the inverse of what opening a llama file does. */
static void interleave(float *w, int rows, int cols, int D) {
    float *copy = malloc((size_t)(rows * cols) * sizeof *copy);
    memcpy(copy, w, (size_t)(rows * cols) * sizeof *copy);
    for (int r = 0; r < rows; r++) {
        int head = r / D, i = r % D, from = head * D + (i % 2) * (D / 2) + i / 2;
        memcpy(w + r * cols, copy + from * cols, (size_t)cols * sizeof *w);
    }
    free(copy);
}

typedef struct gguf_tensor {
    char name[TQ_WEIGHT_NAME];
    const tq_weight *w;
    bool moved;
} gguf_tensor;

static int list_tensors(tq_model *m, gguf_tensor *list) {
    int n = 0;
    list[n++] = (gguf_tensor){"token_embd.weight", &m->embedding, false};
    if (m->out_norm.data) list[n++] = (gguf_tensor){"output_norm.weight", &m->out_norm, false};
    if (m->head.data && !m->config.tied) list[n++] = (gguf_tensor){"output.weight", &m->head, false};
    for (int l = -1; l < m->config.L; l++)
        for (int role = 0; role < TQ_ROLE_COUNT; role++) {
            const tq_weight *w = l < 0 ? &m->in_weights[role] : &m->weights[l][role];
            if (!w->data) continue;
            tq_weight_name(m->config.arch, l, (tq_role)role, false, list[n].name);
            list[n].w = w;
            list[n++].moved =
                m->config.arch->flags & TQ_ARCH_QK_INTERLEAVED && (role == TQ_ROLE_Q || role == TQ_ROLE_K);
        }
    return n;
}

/* The model's own metadata under the GGUF architecture's name, and its tensors in F32. */
static void write_gguf(tq_model *m, const char *path) {
    tq_gguf_writer *w;
    static gguf_tensor list[TINY_TENSORS];
    const char *type = m->config.arch->hf_type, *arch = m->config.arch->name;
    int n = list_tensors(m, list);
    OK(tq_gguf_writer_new(&w, &m->ctx->mem, path, &err));
    for (size_t i = 0; i < tq_gguf_n_values(m->gguf); i++) {
        tq_gguf_value v = *tq_gguf_value_at(m->gguf, i);
        char key[128];
        size_t len = strlen(type);
        if (v.key.len == 20 && memcmp(v.key.data, "general.architecture", 20) == 0) {
            OK(tq_gguf_put_str(w, "general.architecture", arch, strlen(arch), &err));
            continue;
        }
        if (v.key.len > len && memcmp(v.key.data, type, len) == 0 && v.key.data[len] == '.') {
            int k = snprintf(key, sizeof key, "%s%.*s", arch, (int)(v.key.len - len), v.key.data + len);
            v.key = (tq_string){key, (size_t)k};
        }
        OK(tq_gguf_put_value(w, &v, &err));
    }
    for (int i = 0; i < n; i++)
        OK(tq_gguf_put_tensor(w, list[i].name, TQ_F32, list[i].w->rows > 1 ? 2 : 1,
                              (int64_t[]){list[i].w->cols, list[i].w->rows}, &err));
    for (int i = 0; i < n; i++) {
        size_t bytes = (size_t)(list[i].w->rows * list[i].w->cols) * sizeof(float);
        float *data = malloc(bytes);
        memcpy(data, list[i].w->data, bytes);
        if (list[i].moved) interleave(data, (int)list[i].w->rows, (int)list[i].w->cols, m->config.D);
        OK(tq_gguf_write_data(w, data, bytes, &err));
        free(data);
    }
    OK(tq_gguf_writer_commit(w, &err));
}

static void a_gguf_file_of_the_family_gives_the_same_bits(void **state) {
    (void)state;
    for (int k = 0; k < FAMILIES; k++) {
        fixture f;
        char path[128];
        open_family(&f, families[k], 0, 2);
        loss_of(&f, false);
        double folder[TINY_VALUES];
        memcpy(folder, f.got, sizeof folder);
        snprintf(path, sizeof path, "%s/model.gguf", f.t.dir);
        write_gguf(f.model, path);
        tq_machine_free(f.m);
        tq_model_close(f.model);
        OK(tq_model_open(&f.model, f.ctx, path, &err));
        assert_string_equal(f.model->config.arch->name, families[k]);
        tq_plan plan = {.max_rows = N, .train = true};
        OK(tq_machine_new(&f.m, f.model, &plan, &err));
        loss_of(&f, false);
        assert_memory_equal(folder, f.got, sizeof folder);
        close_family(&f);
    }
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    families_path = argv[1];
    tokenizers = argv[2];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(outputs_agree_with_transformers),
        cmocka_unit_test(gradients_agree_with_transformers),
        cmocka_unit_test(gradients_agree_with_differences),
        cmocka_unit_test(recomputing_and_threads_change_no_bit_of_gradients),
        cmocka_unit_test(a_gguf_file_of_the_family_gives_the_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
