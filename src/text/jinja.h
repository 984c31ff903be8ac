/* Inside the template interpreter. A template is parsed once into a tree of tq_jnode (immutable, shared by threads) and
 * rendered by a tq_jrun, which owns every value in one arena that is freed as a whole: values are never freed one by
 * one, and a pointer to a value's bytes stays valid for the run. Values are immutable except namespaces, loops and
 * generators.
 *
 * A string is a window on a byte store; the store says for runs of bytes where they came from. Appending to a string
 * that ends where its store ends extends the store in place, so that building a text piece by piece is linear; slices
 * share their store. Lists work alike.
 *
 * Bounds: a run counts steps (work), bytes of arena, and nesting; each has a limit and ends in ELIMIT. */
#ifndef TQ_TEXT_JINJA_H
#define TQ_TEXT_JINJA_H

#include "text/template.h"

enum {
    TQ_J_MAX_DEPTH = 900,   /* nesting of evaluation: a level takes at most some KB of stack with sanitizers */
    TQ_J_MAX_NESTING = 150, /* nesting of the parser */
    TQ_J_MAX_SOURCE = 8 << 20,
    TQ_J_MAX_RANGE = 100000, /* jinja2's sandbox has the same */
    TQ_J_NO_NAME = -1
};

/* ---- values ---- */

typedef enum tq_jtype {
    TQ_J_MISSING, /* no value at all: an absent argument, an unset variable */
    TQ_J_UNDEFINED,
    TQ_J_NONE,
    TQ_J_BOOL,
    TQ_J_INT,
    TQ_J_FLOAT,
    TQ_J_STR,
    TQ_J_LIST,
    TQ_J_TUPLE,
    TQ_J_DICT,
    TQ_J_RANGE,
    TQ_J_GEN,  /* what map, select, items, ... give: can be walked once */
    TQ_J_VIEW, /* dict.items(), dict.keys(), dict.values() */
    TQ_J_NAMESPACE,
    TQ_J_LOOP,
    TQ_J_MACRO,
    TQ_J_FUNC,   /* a global function */
    TQ_J_METHOD, /* bound to its object */
    TQ_J_CYCLER,
    TQ_J_JOINER
} tq_jtype;

typedef struct tq_jspan { /* bytes of a store up to end, from the end of the span before */
    size_t end;
    tq_origin origin;
} tq_jspan;

typedef struct tq_jbytes { /* a byte store */
    char *data;
    size_t len, cap; /* cap 0: borrowed bytes, which cannot grow */
    tq_jspan *spans;
    size_t n_spans, cap_spans;
    tq_jspan one; /* the spans of a store that has only one */
} tq_jbytes;

typedef struct tq_jstr {
    tq_jbytes *bytes;
    size_t start, len;
    size_t chars; /* code points; SIZE_MAX: not counted yet */
} tq_jstr;

typedef struct tq_jval {
    uint8_t type; /* tq_jtype */
    uint8_t field;
    bool safe;       /* STR: marked by the filters safe and escape: `+` then escapes the other side */
    int32_t message; /* with field: where this value came from; a string's bytes have their own marks */
    union {
        bool b;
        int64_t i;
        double f;
        tq_jstr *s;
        struct tq_jlist *list; /* LIST, TUPLE */
        struct tq_jdict *dict; /* DICT, NAMESPACE */
        struct tq_jrange *range;
        struct tq_jgen *gen;
        struct tq_jview *view;
        struct tq_jloop *loop;
        struct tq_jmacro *macro;
        const struct tq_jfunc *func;
        struct tq_jbound *bound;
        struct tq_jcycler *cycler;
        const struct tq_jundefined *undefined;
    };
} tq_jval;

typedef struct tq_jarray { /* the store of lists */
    tq_jval *items;
    size_t len, cap;
} tq_jarray;
typedef struct tq_jlist {
    tq_jarray *array;
    size_t start, len;
} tq_jlist;
static inline tq_jval *tq_jlist_items(const tq_jlist *l) {
    return l->array->items + l->start;
}

typedef struct tq_jdict { /* in order of insertion */
    tq_jval *keys, *values;
    size_t len, cap;
    uint32_t *index; /* open addressing, position + 1; NULL while small */
    size_t slots;
} tq_jdict;

typedef struct tq_jrange {
    int64_t start, step;
    size_t len;
} tq_jrange;
typedef struct tq_jgen {
    tq_jlist *list;
    size_t next;
} tq_jgen;
typedef enum tq_jview_kind { TQ_J_ITEMS, TQ_J_KEYS, TQ_J_VALUES } tq_jview_kind;
typedef struct tq_jview {
    const tq_jdict *dict;
    tq_jview_kind kind;
    uint8_t field;
    int32_t message;
} tq_jview;
typedef struct tq_jundefined { /* why it is undefined, for the message */
    const char *text;
} tq_jundefined;
typedef struct tq_jcycler { /* and joiner: items[0] is the separator, next tells whether it was used */
    tq_jlist *items;
    size_t next;
} tq_jcycler;

typedef struct tq_jframe { /* the variables of one scope */
    struct tq_jframe *parent;
    struct tq_jslot {
        int32_t name;
        tq_jval value;
    } * slots;
    size_t len, cap;
} tq_jframe;

typedef struct tq_jloop {
    const tq_jlist *items;
    size_t index0;
    size_t depth0;
    bool changed_set;
    tq_jval changed;                  /* the arguments of the last call of changed() */
    const struct tq_jnode *recursive; /* the FOR node when marked so */
    tq_jframe *outer;
} tq_jloop;

typedef struct tq_jmacro {
    const struct tq_jnode *node; /* MACRO, CALLBLOCK */
    tq_jframe *closure;
} tq_jmacro;

/* ---- the tree ---- */

typedef enum tq_jkind {
    /* expressions */
    TQ_JN_CONST,
    TQ_JN_NAME,
    TQ_JN_TUPLE,
    TQ_JN_LIST,
    TQ_JN_DICT,
    TQ_JN_PAIR,
    TQ_JN_ATTR,
    TQ_JN_ITEM,
    TQ_JN_SLICE,
    TQ_JN_CALL,
    TQ_JN_FILTER,
    TQ_JN_TEST,
    TQ_JN_NOT,
    TQ_JN_NEG,
    TQ_JN_POS,
    TQ_JN_AND,
    TQ_JN_OR,
    TQ_JN_BINARY,
    TQ_JN_CONCAT,
    TQ_JN_COMPARE,
    TQ_JN_OPERAND,
    TQ_JN_COND,
    TQ_JN_KWARG,
    TQ_JN_STAR,
    TQ_JN_STARSTAR,
    TQ_JN_NSREF,
    /* statements */
    TQ_JN_DATA,
    TQ_JN_OUTPUT,
    TQ_JN_FOR,
    TQ_JN_IF,
    TQ_JN_SET,
    TQ_JN_SETBLOCK,
    TQ_JN_MACRO,
    TQ_JN_CALLBLOCK,
    TQ_JN_FILTERBLOCK,
    TQ_JN_WITH,
    TQ_JN_BREAK,
    TQ_JN_CONTINUE,
    TQ_JN_GENERATION
} tq_jkind;

typedef enum tq_jop {
    TQ_JO_NONE,
    TQ_JO_ADD,
    TQ_JO_SUB,
    TQ_JO_MUL,
    TQ_JO_DIV,
    TQ_JO_FLOORDIV,
    TQ_JO_MOD,
    TQ_JO_POW,
    TQ_JO_EQ,
    TQ_JO_NE,
    TQ_JO_LT,
    TQ_JO_LE,
    TQ_JO_GT,
    TQ_JO_GE,
    TQ_JO_IN,
    TQ_JO_NOTIN,
    TQ_JO_LPAREN,
    TQ_JO_RPAREN,
    TQ_JO_LBRACKET,
    TQ_JO_RBRACKET,
    TQ_JO_LBRACE,
    TQ_JO_RBRACE,
    TQ_JO_TILDE,
    TQ_JO_PIPE,
    TQ_JO_DOT,
    TQ_JO_COMMA,
    TQ_JO_COLON,
    TQ_JO_SEMICOLON,
    TQ_JO_ASSIGN
} tq_jop;

/* Children by kind; lists are chains through next.
 *   ATTR a.name   ITEM a[b]   SLICE a:b:c   CALL a(list)   FILTER a|def(list)   TEST a is def(list)   PAIR a: b
 *   COMPARE a, list of OPERAND(op, a)   COND: a if b else c   KWARG name=a   TUPLE, LIST, DICT, CONCAT: list
 *   FOR: target a, iterable b, test c, body list, otherwise   IF: a, list, otherwise   SET a = b
 *   SETBLOCK a, filter b, body list   MACRO name(params), body list   CALLBLOCK (params), call a, body list
 *   FILTERBLOCK filter a, body list   WITH: params (SET chain), body list   NSREF name.value */
typedef struct tq_jnode {
    uint8_t kind, op;
    bool recursive;               /* FOR */
    bool varargs, kwargs, caller; /* MACRO, CALLBLOCK: the body uses that name */
    uint32_t line;
    int32_t name;
    struct tq_jnode *a, *b, *c, *list, *otherwise, *params, *next;
    const void *def; /* tq_jfilter or tq_jtest; NULL: unknown name, an error where it is reached */
    tq_jval value;   /* CONST, DATA; KWARG and ATTR: the name as a string */
} tq_jnode;

typedef struct tq_jname {
    const char *s;
    size_t n;
} tq_jname;

struct tq_template {
    tq_mem *mem;
    tq_arena arena;
    char *name;
    char *source; /* normalized: \n ends a line, one final newline removed */
    size_t len;
    tq_jnode *body;
    tq_jname *names; /* interned identifiers */
    size_t n_names, cap_names;
    uint32_t *slots; /* hash of names: position + 1 */
    size_t n_slots;
    int32_t loop, caller, varargs, kwargs; /* ids of these names; TQ_J_NO_NAME where the template has no use for them */
    bool has_generation;
};

/* ---- tokens ---- */

typedef enum tq_jtoken_kind {
    TQ_JT_EOF,
    TQ_JT_DATA,
    TQ_JT_VAR_BEGIN,
    TQ_JT_VAR_END,
    TQ_JT_BLOCK_BEGIN,
    TQ_JT_BLOCK_END,
    TQ_JT_NAME,
    TQ_JT_STRING,
    TQ_JT_INT,
    TQ_JT_FLOAT,
    TQ_JT_OP
} tq_jtoken_kind;
typedef struct tq_jtoken {
    uint8_t kind, op;
    uint32_t line;
    size_t at, len; /* in the source; STRING: with its quotes */
} tq_jtoken;
typedef struct tq_jtokens {
    tq_jtoken *items;
    size_t len, cap;
} tq_jtokens;
/* Errors name line and column. */
#define TQ_JINJA_FAIL(t, at, err, code, ...)                                                                           \
    ((void)tq_jinja_fail_at((t), (at), (err), TOQUE_##code, __VA_ARGS__), TOQUE_##code)
toque_status tq_jinja_fail_at(const tq_template *t, size_t at, toque_error *err, toque_status code, const char *format,
                              ...) TQ_PRINTF(5, 6);
toque_status tq_jinja_lex(const tq_template *t, tq_jtokens *tokens, toque_error *err) TQ_MUST;
/* Fills body and names from the source. */
toque_status tq_jinja_parse(tq_template *t, toque_error *err) TQ_MUST;

/* ---- a run ---- */

typedef enum tq_jflow { TQ_J_GO, TQ_J_BREAK, TQ_J_CONTINUE } tq_jflow;

typedef struct tq_jrun {
    const tq_template *t;
    const tq_render_options *options;
    tq_arena arena;
    size_t room, max_bytes; /* arena bytes left; longest string */
    bool over;              /* the last allocation failed because of room, not of memory */
    uint64_t steps, max_steps;
    int depth;
    uint32_t line; /* of the node being evaluated, for messages */
    tq_jflow flow;
    tq_jval *globals; /* by name id; MISSING when there is none */
    tq_jframe *frame;
    tq_jbytes *out;
    toque_error *err;
} tq_jrun;

typedef struct tq_jkw {
    tq_jval name, value;
} tq_jkw;
typedef struct tq_jargs {
    tq_jval *pos;
    size_t n;
    tq_jkw *kw;
    size_t n_kw;
} tq_jargs;

#define TQ_J_FAIL(j, ...) TQ_FAIL((j)->err, EINVAL, __VA_ARGS__)
#define TQ_J_STEP(j, n) TQ_TRY(tq_j_step((j), (n)))
static const tq_origin tq_j_template_origin = {-1, TQ_FIELD_NONE, 0};

/* jinja_mem: bounds */
toque_status tq_j_step(tq_jrun *j, uint64_t n) TQ_MUST;
toque_status tq_j_enter(tq_jrun *j) TQ_MUST; /* one level deeper; pair with tq_j_leave when it succeeded */
static inline void tq_j_leave(tq_jrun *j) {
    j->depth--;
}
void *tq_j_alloc(tq_jrun *j, size_t n, size_t size); /* zeroed; NULL: return tq_j_full(j) */
void tq_j_tell_full(tq_jrun *j);
static inline TQ_MUST toque_status tq_j_full(tq_jrun *j) {
    tq_j_tell_full(j);
    return j->over ? TOQUE_ELIMIT : TOQUE_ENOMEM;
}

/* jinja_str.c: strings */
static inline const char *tq_jstr_data(const tq_jstr *s) {
    return s->bytes->data + s->start;
}
tq_jbytes *tq_j_bytes(tq_jrun *j, size_t cap); /* an empty store; NULL: tq_j_full */
toque_status tq_j_put(tq_jrun *j, tq_jbytes *b, const char *data, size_t n, tq_origin o) TQ_MUST;
toque_status tq_j_puts(tq_jrun *j, tq_jbytes *b, const char *s, tq_origin o) TQ_MUST;
toque_status tq_j_put_part(tq_jrun *j, tq_jbytes *b, const tq_jstr *s, size_t start, size_t len) TQ_MUST;
toque_status tq_j_put_str(tq_jrun *j, tq_jbytes *b, const tq_jstr *s) TQ_MUST;
/* The whole store as a string value. */
toque_status tq_j_finish(tq_jrun *j, tq_jbytes *b, tq_jval *out) TQ_MUST;
toque_status tq_j_text(tq_jrun *j, const char *s, size_t n, tq_origin o, tq_jval *out) TQ_MUST; /* borrows s */
toque_status tq_j_text_copy(tq_jrun *j, const char *s, size_t n, tq_origin o, tq_jval *out) TQ_MUST;
toque_status tq_j_sub(tq_jrun *j, const tq_jstr *s, size_t start, size_t len, tq_jval *out) TQ_MUST;
toque_status tq_j_cat(tq_jrun *j, const tq_jstr *a, const tq_jstr *b, tq_jval *out) TQ_MUST;
/* Origin of the byte at offset `at` of s, and in *end the offset in s where its run ends. */
tq_origin tq_jstr_origin(const tq_jstr *s, size_t at, size_t *end);
size_t tq_jstr_chars(tq_jstr *s);
/* Byte offset of code point number `index` (at most the number of code points). */
size_t tq_jstr_offset(tq_jstr *s, size_t index);
/* First place of needle in [from, len) of s; SIZE_MAX if none. */
size_t tq_jstr_find(const tq_jstr *s, size_t from, const char *needle, size_t n);
bool tq_jstr_is(const tq_jval *v, const char *text);
bool tq_jstr_equal(const tq_jstr *a, const tq_jstr *b);
/* Decodes one code point of valid UTF-8 (an invalid byte counts as one); returns its bytes. */
size_t tq_j_decode(const char *s, size_t n, int32_t *cp);
size_t tq_j_encode(int32_t cp, char out[4]);
bool tq_j_is_space(int32_t cp);
/* upper, lower, ... : every code point mapped, origins kept. */
enum { TQ_J_SHARP_S_UPPER = -2, TQ_J_SHARP_S_TITLE = -3 }; /* written as "SS" and "Ss" */
typedef int32_t tq_j_mapping(int32_t cp, int32_t before);  /* before: the code point before it, or -1 */
toque_status tq_j_map(tq_jrun *j, const tq_jstr *s, tq_j_mapping *map, tq_jval *out) TQ_MUST;
/* strip: side 1 left, 2 right, 3 both; chars NULL: white space. */
toque_status tq_j_strip(tq_jrun *j, const tq_jval *v, const tq_jstr *chars, int side, tq_jval *out) TQ_MUST;
toque_status tq_j_replace(tq_jrun *j, const tq_jstr *s, const tq_jstr *old, const tq_jstr *with, int64_t count,
                          tq_jval *out) TQ_MUST;
/* Lines without their ends (Python's line boundaries), as a list. */
toque_status tq_j_splitlines(tq_jrun *j, const tq_jstr *s, bool keep_ends, tq_jval *out) TQ_MUST;
toque_status tq_j_escape(tq_jrun *j, const tq_jval *v, tq_jval *out) TQ_MUST; /* &<>'" as in HTML, unless safe */

/* jinja_value.c: other values */
static inline tq_jval tq_j_none(void) {
    return (tq_jval){.type = TQ_J_NONE, .message = -1};
}
static inline tq_jval tq_j_bool(bool b) {
    return (tq_jval){.type = TQ_J_BOOL, .message = -1, .b = b};
}
static inline tq_jval tq_j_int(int64_t i) {
    return (tq_jval){.type = TQ_J_INT, .message = -1, .i = i};
}
static inline tq_jval tq_j_float(double f) {
    return (tq_jval){.type = TQ_J_FLOAT, .message = -1, .f = f};
}
static inline tq_origin tq_j_origin(const tq_jval *v) {
    return (tq_origin){.message = v->message, .field = v->field, .generation = 0};
}
static inline bool tq_j_is_number(const tq_jval *v) {
    return v->type == TQ_J_BOOL || v->type == TQ_J_INT || v->type == TQ_J_FLOAT;
}
static inline bool tq_j_is_int(const tq_jval *v) {
    return v->type == TQ_J_BOOL || v->type == TQ_J_INT;
}
static inline int64_t tq_j_as_int(const tq_jval *v) {
    return v->type == TQ_J_BOOL ? v->b : v->i;
}
static inline double tq_j_as_float(const tq_jval *v) {
    return v->type == TQ_J_FLOAT ? v->f : (double)tq_j_as_int(v);
}
const char *tq_j_type_name(const tq_jval *v); /* Python's */
bool tq_j_true(const tq_jval *v);
toque_status tq_j_undefined(tq_jrun *j, tq_jval *out, const char *format, ...) TQ_PRINTF(3, 4);
toque_status tq_j_use_undefined(tq_jrun *j, const tq_jval *v) TQ_MUST;               /* the error that using it gives */
toque_status tq_j_list(tq_jrun *j, size_t cap, tq_jtype type, tq_jval *out) TQ_MUST; /* LIST or TUPLE, empty */
toque_status tq_j_push(tq_jrun *j, tq_jval *list, tq_jval item) TQ_MUST; /* only while nobody else has seen it */
toque_status tq_j_sublist(tq_jrun *j, const tq_jval *v, size_t start, size_t len, tq_jval *out) TQ_MUST;
toque_status tq_j_dict(tq_jrun *j, size_t cap, tq_jtype type, tq_jval *out) TQ_MUST; /* DICT or NAMESPACE */
toque_status tq_j_dict_set(tq_jrun *j, tq_jdict *d, tq_jval key, tq_jval value) TQ_MUST;
/* *found is NULL without the key. */
toque_status tq_j_dict_get(tq_jrun *j, tq_jdict *d, const tq_jval *key, tq_jval **found) TQ_MUST;
toque_status tq_j_dict_find(tq_jrun *j, tq_jdict *d, const char *key, tq_jval **found) TQ_MUST;
toque_status tq_j_equal(tq_jrun *j, const tq_jval *a, const tq_jval *b, bool *equal) TQ_MUST;
/* *order < 0, 0, > 0; an error for values without an order. */
toque_status tq_j_compare(tq_jrun *j, const tq_jval *a, const tq_jval *b, int *order) TQ_MUST;
toque_status tq_j_contains(tq_jrun *j, const tq_jval *in, const tq_jval *what, bool *yes) TQ_MUST;
/* What len() gives; *known is false for values without a length. */
toque_status tq_j_len(tq_jrun *j, const tq_jval *v, size_t *len, bool *known) TQ_MUST;
bool tq_j_iterable(const tq_jval *v);
/* All items of an iterable; a generator is used up. */
toque_status tq_j_items(tq_jrun *j, const tq_jval *v, const tq_jlist **items) TQ_MUST;
toque_status tq_j_join_lists(tq_jrun *j, const tq_jval *a, const tq_jval *b, tq_jval *out) TQ_MUST; /* a + b */
toque_status tq_j_gen(tq_jrun *j, const tq_jval *list, tq_jval *out) TQ_MUST;
/* Stable; keys[i] belongs to items[i]. */
toque_status tq_j_sort(tq_jrun *j, tq_jval *items, tq_jval *keys, size_t n, bool reverse) TQ_MUST;
/* jinja_input.c; tq_j_messages also gives reasoning the names that transformers gives it */
toque_status tq_j_from_json(tq_jrun *j, const json_t *json, tq_origin o, tq_jval *out) TQ_MUST;
toque_status tq_j_messages(tq_jrun *j, const json_t *messages, tq_jval *out) TQ_MUST;

/* jinja_print.c: values as text */
enum { TQ_J_NUMBER = 32 };
size_t tq_j_format_float(double f, char out[TQ_J_NUMBER]);                       /* Python's repr */
toque_status tq_j_put_value(tq_jrun *j, tq_jbytes *b, const tq_jval *v) TQ_MUST; /* str(v) */
toque_status tq_j_put_repr(tq_jrun *j, tq_jbytes *b, const tq_jval *v) TQ_MUST;
toque_status tq_j_str(tq_jrun *j, const tq_jval *v, tq_jval *out) TQ_MUST;
typedef struct tq_jjson {
    bool ascii, sort;
    bool pretty;
    tq_jval indent; /* STR: one level's */
    tq_jval comma, colon;
} tq_jjson;
toque_status tq_j_put_json(tq_jrun *j, tq_jbytes *b, const tq_jval *v, const tq_jjson *how, size_t level) TQ_MUST;

/* jinja_text_methods.c, shared with the filters */
bool tq_j_is_word(int32_t cp); /* letters, digits, _ */
int32_t tq_j_lower(int32_t cp, int32_t before);
int32_t tq_j_upper(int32_t cp, int32_t before);
int32_t tq_j_capitalize(int32_t cp, int32_t before);
bool tq_j_is_cased(const tq_jstr *s, bool upper); /* str.isupper, str.islower */
toque_status tq_j_center(tq_jrun *j, const tq_jval *v, int64_t width, tq_jval *out) TQ_MUST;
/* An optional argument: *v is `fallback` when it is MISSING or None; an error when it is no integer. */
toque_status tq_j_int_arg(tq_jrun *j, const tq_jval *p, int64_t fallback, int64_t *v) TQ_MUST;
toque_status tq_j_str_arg(tq_jrun *j, const tq_jval *p, const char *what) TQ_MUST; /* an error when it is no str */

/* jinja_format.c: text % values, text.format(...) */
toque_status tq_j_percent(tq_jrun *j, const tq_jstr *s, const tq_jval *args, tq_jval *out) TQ_MUST;
toque_status tq_j_format(tq_jrun *j, const tq_jstr *s, const tq_jargs *args, tq_jval *out) TQ_MUST;

/* jinja_eval.c, jinja_exec.c */
toque_status tq_j_eval(tq_jrun *j, const tq_jnode *n, tq_jval *out) TQ_MUST;
toque_status tq_j_args(tq_jrun *j, const tq_jnode *list, tq_jargs *args) TQ_MUST;
toque_status tq_j_body(tq_jrun *j, const tq_jnode *list) TQ_MUST;
toque_status tq_j_loop_again(tq_jrun *j, const tq_jloop *loop, const tq_jval *items, tq_jval *out) TQ_MUST;
toque_status tq_j_call_macro(tq_jrun *j, const tq_jmacro *m, const tq_jargs *args, tq_jval *out) TQ_MUST;
toque_status tq_j_scope(tq_jrun *j, tq_jframe *parent, tq_jframe **frame) TQ_MUST;
toque_status tq_j_assign(tq_jrun *j, int32_t name, tq_jval v) TQ_MUST; /* in the present scope */
tq_jval tq_j_lookup(const tq_jrun *j, int32_t name);                   /* MISSING if there is none */
toque_status tq_j_filter_node(tq_jrun *j, const tq_jnode *n, const tq_jval *in, tq_jval *out) TQ_MUST;

/* jinja_ops.c: operators, attributes, calls */
toque_status tq_j_binary(tq_jrun *j, tq_jop op, const tq_jval *a, const tq_jval *b, tq_jval *out) TQ_MUST;
toque_status tq_j_relation(tq_jrun *j, tq_jop op, const tq_jval *a, const tq_jval *b, bool *yes) TQ_MUST;
toque_status tq_j_attr(tq_jrun *j, const tq_jval *of, const tq_jval *name, tq_jval *out) TQ_MUST; /* of.name */
toque_status tq_j_item(tq_jrun *j, const tq_jval *of, const tq_jval *key, tq_jval *out) TQ_MUST;  /* of[key] */
toque_status tq_j_slice(tq_jrun *j, const tq_jval *of, const tq_jval part[3], tq_jval *out) TQ_MUST;
toque_status tq_j_call(tq_jrun *j, const tq_jval *f, const tq_jargs *args, tq_jval *out) TQ_MUST;

/* Tables. `params` names the parameters in order, separated by spaces; those from a '?' on may be left out; a final
 * '*' takes anything (the function reads args itself). A left-out parameter is MISSING. */
enum { TQ_J_PARAMS = 6 };
toque_status tq_j_bind(tq_jrun *j, const char *what, const char *params, const tq_jargs *args,
                       tq_jval out[TQ_J_PARAMS]) TQ_MUST;
typedef struct tq_jfilter {
    const char *name, *params;
    toque_status (*run)(tq_jrun *j, const tq_jval *in, const tq_jval *p, const tq_jargs *args, tq_jval *out);
} tq_jfilter;
typedef struct tq_jtest {
    const char *name;
    int args;
    toque_status (*run)(tq_jrun *j, const tq_jval *in, const tq_jval *arg, bool *yes);
} tq_jtest;
typedef struct tq_jmethod {
    tq_jtype of;
    const char *name, *params;
    toque_status (*run)(tq_jrun *j, const tq_jval *self, const tq_jval *p, const tq_jargs *args, tq_jval *out);
} tq_jmethod;
typedef struct tq_jfunc {
    const char *name, *params;
    toque_status (*run)(tq_jrun *j, const tq_jval *p, const tq_jargs *args, tq_jval *out);
} tq_jfunc;
typedef struct tq_jbound {
    tq_jval self;
    const tq_jmethod *method;
} tq_jbound;
extern const tq_jfilter tq_j_text_filters[], tq_j_list_filters[]; /* end with a NULL name */
extern const tq_jtest tq_j_tests[];
extern const tq_jmethod tq_j_text_methods[], tq_j_other_methods[];
extern const tq_jfunc tq_j_functions[];
const tq_jfilter *tq_j_find_filter(const char *s, size_t n);
const tq_jtest *tq_j_find_test(const char *s, size_t n);
const tq_jmethod *tq_j_find_method(tq_jtype of, const char *s, size_t n);
toque_status tq_j_run_filter(tq_jrun *j, const tq_jfilter *f, const tq_jval *in, const tq_jargs *args,
                             tq_jval *out) TQ_MUST;
toque_status tq_j_run_test(tq_jrun *j, const tq_jtest *t, const tq_jval *in, const tq_jargs *args, bool *yes) TQ_MUST;

#endif
