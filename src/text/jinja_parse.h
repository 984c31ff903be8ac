/* Between the two halves of the template parser: jinja_parse.c (statements) and jinja_parse_expr.c (expressions). */
#ifndef TQ_TEXT_JINJA_PARSE_H
#define TQ_TEXT_JINJA_PARSE_H

#include "text/jinja.h"

typedef struct tq_jmacro_use { /* special names that the body of a macro uses; one for each open macro */
    struct tq_jmacro_use *outer;
    tq_jnode *node;
} tq_jmacro_use;

typedef struct tq_jparser {
    tq_template *t;
    const tq_jtoken *at; /* present token; the final one is EOF */
    toque_error *err;
    int depth;                /* nesting, at most TQ_J_MAX_NESTING */
    int loops;                /* loops that break and continue may leave from here */
    bool soft;                /* under an if: unknown filters and tests fail only when reached, as in jinja2 */
    const tq_jtoken *unknown; /* the first filter or test that does not exist, outside such branches */
    tq_jmacro_use *macro;
} tq_jparser;

toque_status tq_jp_node(tq_jparser *p, tq_jkind kind, tq_jnode **out) TQ_MUST;
toque_status tq_jp_name(tq_jparser *p, const tq_jtoken *token, int32_t *id) TQ_MUST;
/* A string constant over text that lives as long as the template. */
toque_status tq_jp_text(tq_jparser *p, const char *s, size_t n, tq_jval *out) TQ_MUST;
void tq_jp_tell_unexpected(tq_jparser *p, const char *expected);
static inline TQ_MUST toque_status tq_jp_unexpected(tq_jparser *p, const char *expected) {
    tq_jp_tell_unexpected(p, expected);
    return TOQUE_EFORMAT;
}
toque_status tq_jp_expect(tq_jparser *p, tq_jop op, const char *text) TQ_MUST;
bool tq_jp_is_name(const tq_jparser *p, const tq_jtoken *token, const char *name);
bool tq_jp_is_op(const tq_jparser *p, tq_jop op);
bool tq_jp_skip_op(tq_jparser *p, tq_jop op);
bool tq_jp_skip_name(tq_jparser *p, const char *name);
toque_status tq_jp_enter(tq_jparser *p) TQ_MUST;

toque_status tq_jp_expr(tq_jparser *p, tq_jnode **out) TQ_MUST;
/* One expression or an unparenthesized tuple. condexpr: `a if b` belongs to it. end: a name that ends it, or NULL. */
toque_status tq_jp_tuple(tq_jparser *p, bool condexpr, const char *end, tq_jnode **out) TQ_MUST;
toque_status tq_jp_primary(tq_jparser *p, bool nsref, tq_jnode **out) TQ_MUST;
/* `| a | b(x)` applied to in (may be NULL: the block's text); first: the name stands without a pipe. */
toque_status tq_jp_filters(tq_jparser *p, tq_jnode *in, bool first, tq_jnode **out) TQ_MUST;

#endif
