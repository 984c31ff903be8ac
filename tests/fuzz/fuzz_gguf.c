/* Any bytes as a GGUF file: an error, or a file whose every part can be touched. */
#include "files/gguf.h"
#include "fuzz.h"

static unsigned touch(const uint8_t *p, size_t n) {
    unsigned sum = 0;
    for (size_t i = 0; i < n; i++) sum += p[i];
    return sum;
}

static unsigned use_values(const tq_gguf *g) {
    unsigned sum = 0;
    for (size_t i = 0; i < tq_gguf_n_values(g); i++) {
        const tq_gguf_value *v = tq_gguf_value_at(g, i);
        sum += touch((const uint8_t *)v->key.data, v->key.len) + touch(v->data, (size_t)v->bytes);
        const uint8_t *at = v->data;
        tq_string s;
        while (tq_gguf_next_string(v, &at, &s)) sum += touch((const uint8_t *)s.data, s.len);
        for (uint64_t k = 0; v->item != TQ_GGUF_STRING && k < v->count; k++) sum += tq_gguf_number_at(v, k) > 0;
    }
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const keys[] = {"general.alignment", "k", "a"};
    tq_mem mem = {0};
    tq_gguf *g;
    toque_error err;
    volatile unsigned sum = 0;
    if (tq_gguf_open_memory(&g, &mem, data, size, "fuzz", &err) == TOQUE_OK) {
        sum += use_values(g);
        for (size_t i = 0; i < tq_gguf_n_tensors(g); i++) {
            const tq_tensor *t = tq_gguf_tensor_at(g, i);
            fuzz_require(tq_gguf_find_tensor(g, t->name) == t && t->rows > 0 && t->cols > 0);
            sum += touch(t->data, t->bytes);
        }
        for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
            uint32_t u;
            float f;
            bool b;
            tq_string s;
            sum += tq_gguf_u32(g, keys[i], &u, &err) + tq_gguf_f32(g, keys[i], &f, &err);
            sum += tq_gguf_bool(g, keys[i], &b, &err) + tq_gguf_str(g, keys[i], &s, &err);
        }
        tq_gguf_close(g);
    }
    (void)sum;
    fuzz_check(&mem);
    return 0;
}
