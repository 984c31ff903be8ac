/* The public face of the template interpreter: source to tree, and a run over messages with the variables that
 * transformers gives a chat template. */
#include "text/template.h"

#include <string.h>
#include <utf8proc.h>

#include "text/jinja.h"

enum { DEFAULT_STEPS = 20000000, DEFAULT_BYTES = 64 << 20 };

/* jinja2 reads \r\n and \r as \n and drops one newline at the very end. */
static toque_status normalize(tq_template *t, const char *source, size_t n, toque_error *err) {
    char *to = t->source = tq_arena_alloc(&t->arena, n + 1, 1);
    if (!to) return TQ_NOMEM(err);
    for (size_t i = 0; i < n; i++) {
        if (source[i] == '\r' && i + 1 < n && source[i + 1] == '\n') continue;
        to[t->len++] = source[i] == '\r' ? '\n' : source[i];
    }
    if (t->len && to[t->len - 1] == '\n') t->len--;
    for (size_t i = 0; i < t->len;) {
        utf8proc_int32_t cp;
        utf8proc_ssize_t used = utf8proc_iterate((const utf8proc_uint8_t *)to + i, (utf8proc_ssize_t)(t->len - i), &cp);
        if (used <= 0) return TQ_JINJA_FAIL(t, i, err, EFORMAT, "byte %02x is not UTF-8", to[i] & 0xFF);
        i += (size_t)used;
    }
    return TOQUE_OK;
}

static int32_t known_name(const tq_template *t, const char *name) {
    for (size_t i = 0; i < t->n_names; i++)
        if (t->names[i].n == strlen(name) && memcmp(t->names[i].s, name, t->names[i].n) == 0) return (int32_t)i;
    return TQ_J_NO_NAME;
}

toque_status tq_template_parse(tq_template **out, tq_mem *mem, const char *source, size_t n, const char *name,
                               toque_error *err) {
    *out = NULL;
    if (n > TQ_J_MAX_SOURCE)
        return TQ_FAIL(err, ELIMIT, "template %s has %zu bytes, more than %d", name, n, TQ_J_MAX_SOURCE);
    tq_template *t = TQ_NEW(mem, tq_template);
    if (!t) return TQ_NOMEM(err);
    t->mem = mem;
    tq_arena_init(&t->arena, mem, 1 << 15);
    t->name = tq_arena_strndup(&t->arena, name, strlen(name));
    toque_status status = t->name ? normalize(t, source, n, err) : TQ_NOMEM(err);
    if (status == TOQUE_OK) status = tq_jinja_parse(t, err);
    if (status != TOQUE_OK) {
        tq_template_free(t);
        return status;
    }
    t->loop = known_name(t, "loop");
    t->caller = known_name(t, "caller");
    t->varargs = known_name(t, "varargs");
    t->kwargs = known_name(t, "kwargs");
    *out = t;
    return TOQUE_OK;
}

void tq_template_free(tq_template *t) {
    if (!t) return;
    tq_free(t->mem, t->names);
    tq_arena_clear(&t->arena);
    tq_free(t->mem, t);
}

static void set_global(tq_jrun *j, const char *name, tq_jval v) {
    int32_t id = known_name(j->t, name);
    if (id != TQ_J_NO_NAME) j->globals[id] = v;
}

/* Only names that the template uses need a value. */
static toque_status set_globals(tq_jrun *j) {
    const tq_render_options *o = j->options;
    tq_jval v;
    for (const tq_jfunc *f = tq_j_functions; f->name; f++)
        set_global(j, f->name, (tq_jval){.type = TQ_J_FUNC, .message = -1, .func = f});
    set_global(j, "documents", tq_j_none());
    const char *key;
    json_t *value;
    if (o->vars && !json_is_object(o->vars)) return TQ_J_FAIL(j, "the variables are not an object");
    json_object_foreach(o->vars, key, value) {
        if (known_name(j->t, key) == TQ_J_NO_NAME) continue;
        TQ_TRY(tq_j_from_json(j, value, tq_j_template_origin, &v));
        set_global(j, key, v);
    }
    if (o->tools && !json_is_array(o->tools) && !json_is_null(o->tools)) return TQ_J_FAIL(j, "tools are not an array");
    v = tq_j_none();
    if (o->tools) TQ_TRY(tq_j_from_json(j, o->tools, (tq_origin){-1, TQ_FIELD_TOOLS, 0}, &v));
    set_global(j, "tools", v);
    set_global(j, "add_generation_prompt", tq_j_bool(o->add_generation_prompt));
    TQ_TRY(tq_j_messages(j, o->messages, &v));
    set_global(j, "messages", v);
    return TOQUE_OK;
}

static toque_status give(tq_jrun *j, tq_mem *mem, tq_rendered *out) {
    const tq_jbytes *b = j->out;
    out->mem = mem;
    out->text = tq_strndup(mem, b->data, b->len);
    out->marks = out->text ? tq_alloc(mem, b->n_spans + 1, sizeof *out->marks) : NULL;
    if (!out->marks) {
        tq_rendered_clear(out);
        return TQ_NOMEM(j->err);
    }
    out->len = b->len;
    for (size_t i = 0, at = 0; i < b->n_spans; at = b->spans[i++].end)
        out->marks[out->n_marks++] = (tq_mark){at, b->spans[i].end, b->spans[i].origin};
    out->has_generation = j->t->has_generation;
    return TOQUE_OK;
}

toque_status tq_template_render(const tq_template *t, tq_mem *mem, const tq_render_options *o, tq_rendered *out,
                                toque_error *err) {
    toque_error local; /* so that the line can be put in front even if the caller wants no message */
    tq_jrun j = {.t = t, .options = o, .err = err ? err : &local};
    toque_status status;
    memset(out, 0, sizeof *out);
    out->mem = mem;
    j.max_steps = o->max_steps ? o->max_steps : DEFAULT_STEPS;
    j.max_bytes = o->max_bytes ? o->max_bytes : DEFAULT_BYTES;
    j.room = j.max_bytes > SIZE_MAX / 8 ? SIZE_MAX / 2 : 4 * j.max_bytes + ((size_t)64 << 20);
    tq_arena_init(&j.arena, mem, 1 << 16);
    j.globals = tq_j_alloc(&j, t->n_names + 1, sizeof *j.globals);
    j.out = j.globals ? tq_j_bytes(&j, 1024) : NULL;
    if (!j.out) {
        status = tq_j_full(&j);
        goto done;
    }
    TQ_GO(set_globals(&j));
    TQ_GO(tq_j_scope(&j, NULL, &j.frame));
    j.line = 1;
    status = tq_j_body(&j, t->body);
    if (status != TOQUE_OK)
        status = tq_error_prefix(j.err, status, "template %s, line %u", t->name, j.line);
    else
        status = give(&j, mem, out);
done:
    tq_arena_clear(&j.arena);
    return status;
}

void tq_rendered_clear(tq_rendered *r) {
    if (!r->mem) return;
    tq_free(r->mem, r->text);
    tq_free(r->mem, r->marks);
    memset(r, 0, sizeof *r);
}
