/* Any bytes as a chat template, up to a byte 0xFF; what follows it, if it is JSON, are the messages. A template
 * parses and renders or gives an error, within its limits, and the marks cover the text. */
#include <string.h>

#include "fuzz.h"
#include "text/template.h"

static json_t *messages_of(const uint8_t *data, size_t size) {
    static const char text[] =
        "[{\"role\":\"system\",\"content\":\"S "
        "\\u00e9\"},{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"Hi\"}]},"
        "{\"role\":\"assistant\",\"content\":null,\"reasoning\":\"r\",\"tool_calls\":[{\"function\":{\"name\":\"f\","
        "\"arguments\":{\"x\":1.5,\"y\":[true,null]}}}]},{\"role\":\"tool\",\"content\":\"42\"}]";
    json_t *j = data ? json_loadb((const char *)data, size, 0, NULL) : NULL;
    return j ? j : json_loads(text, 0, NULL);
}

static void check_marks(const tq_rendered *r) {
    size_t at = 0;
    for (size_t i = 0; i < r->n_marks; i++) {
        fuzz_require(r->marks[i].start == at && r->marks[i].end > at);
        at = r->marks[i].end;
    }
    fuzz_require(at == r->len && r->text[r->len] == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    tq_mem mem = {0};
    toque_error err;
    tq_template *t;
    const uint8_t *end = size ? memchr(data, 0xFF, size) : NULL;
    size_t n = end ? (size_t)(end - data) : size;
    if (tq_template_parse(&t, &mem, (const char *)data, n, "fuzz", &err) == TOQUE_OK) {
        tq_rendered r;
        tq_render_options o = {.messages = messages_of(end ? end + 1 : NULL, end ? size - n - 1 : 0),
                               .add_generation_prompt = true,
                               .now = 1721900000,
                               .max_steps = 20000,
                               .max_bytes = 1 << 16};
        o.tools = o.messages;
        toque_status status = tq_template_render(t, &mem, &o, &r, &err);
        fuzz_require(status != TOQUE_EINTERNAL && status != TOQUE_ENOMEM);
        if (status == TOQUE_OK) check_marks(&r);
        tq_rendered_clear(&r);
        json_decref(o.messages);
        tq_template_free(t);
    }
    fuzz_check(&mem);
    return 0;
}
