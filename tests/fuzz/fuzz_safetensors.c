/* Any bytes as a safetensors file: an error, or tensors that cover the data exactly. */
#include <string.h>

#include "files/safetensors.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    tq_mem mem = {0};
    tq_safetensors *st;
    toque_error err;
    volatile unsigned sum = 0;
    if (tq_safetensors_open_memory(&st, &mem, data, size, "fuzz", &err) == TOQUE_OK) {
        uint64_t header;
        memcpy(&header, data, 8);
        size_t total = 0;
        for (size_t i = 0; i < tq_safetensors_count(st); i++) {
            const tq_tensor *t = tq_safetensors_at(st, i);
            fuzz_require(tq_safetensors_find(st, t->name) == t && t->rows >= 0 && t->cols >= 0);
            if (t->type != TQ_TYPE_END) fuzz_require(t->bytes == (size_t)t->rows * tq_type_row_bytes(t->type, t->cols));
            for (size_t k = 0; k < t->bytes; k++) sum += ((const uint8_t *)t->data)[k];
            total += t->bytes;
        }
        fuzz_require(total == size - 8 - header);
        const char *format = tq_safetensors_metadata(st, "format");
        if (format) sum += (unsigned)strlen(format);
        tq_safetensors_close(st);
    }
    (void)sum;
    fuzz_check(&mem);
    return 0;
}
