/* Chat templates: a Jinja interpreter that renders messages as a model's maker wrote them down, set up as
 * transformers sets up jinja2 (trim_blocks, lstrip_blocks, loop controls, {% generation %}, its tojson).
 * Every output byte carries its origin (DESIGN, "Masks"): the template, or a message's field. A template that
 * cannot be rendered is an error, never another format. Work is bounded: steps, output bytes, nesting. */
#ifndef TQ_TEXT_TEMPLATE_H
#define TQ_TEXT_TEMPLATE_H

#include <jansson.h>

#include "base/buf.h"

typedef struct tq_template tq_template;
/* Parses; EFORMAT names line and column. name is for messages. */
toque_status tq_template_parse(tq_template **t, tq_mem *mem, const char *source, size_t n, const char *name,
                               toque_error *err) TQ_MUST;
void tq_template_free(tq_template *t);

/* Where an output byte came from. */
typedef struct tq_origin {
    int32_t message;    /* index into messages, or -1: template text, variables, tools, anything else */
    int16_t field;      /* TQ_FIELD_*; 0 for the template */
    int16_t generation; /* 1 inside {% generation %} ... {% endgeneration %} */
} tq_origin;
enum {
    TQ_FIELD_NONE,
    TQ_FIELD_ROLE,
    TQ_FIELD_CONTENT,
    TQ_FIELD_REASONING,
    TQ_FIELD_TOOL_CALLS,
    TQ_FIELD_OTHER,
    TQ_FIELD_TOOLS
};
/* TQ_FIELD_TOOLS: of the option `tools`, with message -1 */

/* A run of output bytes of one origin. */
typedef struct tq_mark {
    size_t start, end;
    tq_origin origin;
} tq_mark;

typedef struct tq_render_options {
    json_t *messages; /* array; borrowed */
    json_t *tools;    /* array or NULL (none) */
    json_t *vars;     /* object of further variables (bos_token, eos_token, enable_thinking, ...) or NULL */
    bool add_generation_prompt;
    int64_t now;        /* seconds since 1970 for strftime_now (local time zone); 0: the clock */
    uint64_t max_steps; /* 0: default */
    size_t max_bytes;   /* 0: default */
} tq_render_options;

typedef struct tq_rendered {
    tq_mem *mem;
    char *text;
    size_t len;
    tq_mark *marks; /* in order, gapless, covering [0, len); neighbours differ */
    size_t n_marks;
    bool has_generation; /* the template has {% generation %} blocks */
} tq_rendered;
/* raise_exception() in the template gives EINVAL with its message. */
toque_status tq_template_render(const tq_template *t, tq_mem *mem, const tq_render_options *o, tq_rendered *out,
                                toque_error *err) TQ_MUST;
void tq_rendered_clear(tq_rendered *r);

#endif
