/* Pre-tokenizers on PCRE2 (see pretokenize.h). The expressions are compiled with its just-in-time compiler where the
 * machine allows one, and run over text that was checked to be UTF-8 before. Memory, PCRE2's included, comes from the
 * gateway. A match that outgrows the compiled code's stack is repeated by the interpreter, whose stack is the heap. */
#include "text/pretokenize.h"

#include "text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <assert.h>
#include <pcre2.h>
#include <string.h>

/* White_Space inside a character class, and runs of it: all but the last space before a word, which is the word's. */
#define S TQ_REGEX_SPACE
#define SPACES "[" S "]+(?![^" S "])|[" S "]+"
/* GPT-2's words; with digits split off first (they then end a run of spaces as the end of the text would). */
#define WORDS "'(?:[stmd]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^" S "\\p{L}\\p{N}]+|" SPACES
#define WORDS_DIGIT "'(?:[stmd]|ll|ve|re)| ?\\p{L}+| ?[^" S "\\p{L}\\p{N}]+|\\p{N}|[" S "]+(?![^" S "\\p{N}])|[" S "]+"
/* OpenAI's cl100k with the numbers given, and o200k with the numbers and what may end a word. */
#define CL100K(numbers)                                                                                                \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" numbers "| ?[^" S "\\p{L}\\p{N}]+[\\r\\n]*|"         \
    "[" S "]*[\\r\\n]+|" SPACES
#define CONTRACTION "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
#define UPPER "\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}"
#define LOWER "\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}"
#define O200K(numbers, ending)                                                                                         \
    "[^\\r\\n\\p{L}\\p{N}]?[" UPPER "]*[" LOWER "]+" ending "|[^\\r\\n\\p{L}\\p{N}]?[" UPPER "]+[" LOWER "]*" ending   \
    "|" numbers "| ?[^" S "\\p{L}\\p{N}]+[\\r\\n/]*|[" S "]*[\\r\\n]+|" SPACES
#define BAILING                                                                                                        \
    "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| ?[^" S "\\p{L}\\p{N}]++[\\r\\n]*|"                   \
    "[" S "]*[\\r\\n]|" SPACES
#define DEEPSEEK3                                                                                                      \
    "\\p{N}{1,3}", "[\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{30FF}]+",                                                        \
        "[!-/:-@\\[-`{-~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|"            \
        "[" S "]*[\\r\\n]+|" SPACES
#define BLOOM " ?[^(" S "|.,!?\\x{2026}\\x{3002}\\x{FF0C}\\x{3001}\\x{964}\\x{6D4}\\x{60C})]+"
/* DeepSeek's own list of letters that have case. */
#define CASED                                                                                                          \
    "A-Za-z\\x{B5}\\x{C0}-\\x{D6}\\x{D8}-\\x{F6}\\x{F8}-\\x{1BA}\\x{1BC}-\\x{1BF}\\x{1C4}-\\x{293}"                    \
    "\\x{295}-\\x{2AF}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37B}-\\x{37D}\\x{37F}\\x{386}\\x{388}-\\x{38A}"             \
    "\\x{38C}\\x{38E}-\\x{3A1}\\x{3A3}-\\x{3F5}\\x{3F7}-\\x{481}\\x{48A}-\\x{52F}\\x{531}-\\x{556}"                    \
    "\\x{10A0}-\\x{10C5}\\x{13A0}-\\x{13F5}\\x{13F8}-\\x{13FD}\\x{1C90}-\\x{1CBA}\\x{1CBD}-\\x{1CBF}"                  \
    "\\x{1D00}-\\x{1D2B}\\x{1D6B}-\\x{1D77}\\x{1D79}-\\x{1D9A}\\x{1E00}-\\x{1F15}\\x{1F18}-\\x{1F1D}"                  \
    "\\x{1F20}-\\x{1F45}\\x{1F48}-\\x{1F4D}\\x{1F50}-\\x{1F57}\\x{1F59}\\x{1F5B}\\x{1F5D}\\x{1F5F}-\\x{1F7D}"          \
    "\\x{1F80}-\\x{1FB4}\\x{1FB6}-\\x{1FBC}\\x{1FBE}\\x{1FC2}-\\x{1FC4}\\x{1FC6}-\\x{1FCC}\\x{1FD0}-\\x{1FD3}"         \
    "\\x{1FD6}-\\x{1FDB}\\x{1FE0}-\\x{1FEC}\\x{1FF2}-\\x{1FF4}\\x{1FF6}-\\x{1FFC}\\x{2102}\\x{2107}"                   \
    "\\x{210A}-\\x{2113}\\x{2115}\\x{2119}-\\x{211D}\\x{2124}\\x{2126}\\x{2128}\\x{212A}-\\x{212D}"                    \
    "\\x{212F}-\\x{2134}\\x{2139}\\x{213C}-\\x{213F}\\x{2145}-\\x{2149}\\x{214E}\\x{2183}\\x{2184}"                    \
    "\\x{2C00}-\\x{2C7B}\\x{2C7E}-\\x{2CE4}\\x{2CEB}-\\x{2CEE}\\x{2CF2}\\x{2CF3}\\x{A640}-\\x{A66D}"                   \
    "\\x{A680}-\\x{A69B}\\x{A722}-\\x{A76F}\\x{A771}-\\x{A787}\\x{A78B}-\\x{A78E}\\x{AB70}-\\x{ABBF}"                  \
    "\\x{FB00}-\\x{FB06}\\x{FB13}-\\x{FB17}\\x{FF21}-\\x{FF3A}\\x{FF41}-\\x{FF5A}\\x{10400}-\\x{1044F}"                \
    "\\x{104B0}-\\x{104D3}\\x{104D8}-\\x{104FB}\\x{10C80}-\\x{10CB2}\\x{10CC0}-\\x{10CF2}"                             \
    "\\x{118A0}-\\x{118DF}\\x{1E900}-\\x{1E943}"

enum { MAX_STAGES = 16 };

static const struct pretok_row {
    const char *name;
    int flags;
    const char *stages[MAX_STAGES + 1]; /* NULL-terminated */
} rows[] = {
#define X(name, flags, ...) {name, flags, {__VA_ARGS__}},
#include "text/pretokenizers.def"
#undef X
};

struct tq_pretok {
    tq_mem *mem;
    pcre2_general_context *memory;
    int flags;
    int n_stages;
    struct stage {
        pcre2_code *code;
        bool jit;
    } stages[MAX_STAGES];
};

struct tq_pretok_scratch {
    const tq_pretok *pre;
    pcre2_match_data *match[MAX_STAGES]; /* one a stage: stages nest */
};

static void *regex_alloc(size_t n, void *mem) {
    return tq_alloc(mem, n, 1);
}

static void regex_free(void *p, void *mem) {
    tq_free(mem, p);
}

static toque_status compile(struct stage *stage, const char *regex, pcre2_compile_context *context, const char *name,
                            toque_error *err) {
    int code;
    PCRE2_SIZE at;
    stage->code = pcre2_compile((PCRE2_SPTR)regex, PCRE2_ZERO_TERMINATED, PCRE2_UTF, &code, &at, context);
    if (!stage->code && code == PCRE2_ERROR_HEAP_FAILED) return TQ_NOMEM(err);
    if (!stage->code && !name)
        return TQ_FAIL(err, EFORMAT, "the pre-tokenizer's expression '%.200s' does not compile (PCRE2 error %d at %zu)",
                       regex, code, at);
    if (!stage->code)
        return TQ_FAIL(err, EINTERNAL, "the expression of pre-tokenizer '%s' does not compile (PCRE2 error %d at %zu)",
                       name, code, at);
    stage->jit = pcre2_jit_compile(stage->code, PCRE2_JIT_COMPLETE) == 0;
    return TOQUE_OK;
}

/* name NULL: the expressions are a file's. */
static toque_status compile_all(tq_pretok **out, tq_mem *mem, const char *const *stages, int flags, const char *name,
                                toque_error *err) {
    tq_pretok *pre = TQ_NEW(mem, tq_pretok);
    if (!pre) return TQ_NOMEM(err);
    pre->mem = mem;
    pre->flags = flags;
    pcre2_compile_context *context = NULL;
    toque_status status = TOQUE_OK;
    pre->memory = pcre2_general_context_create(regex_alloc, regex_free, mem);
    if (pre->memory) context = pcre2_compile_context_create(pre->memory);
    if (!context) status = TQ_NOMEM(err);
    for (int i = 0; status == TOQUE_OK && stages[i]; i++) {
        status = compile(&pre->stages[i], stages[i], context, name, err);
        if (status == TOQUE_OK) pre->n_stages++;
    }
    pcre2_compile_context_free(context);
    if (status != TOQUE_OK) {
        tq_pretok_free(pre);
        return status;
    }
    *out = pre;
    return TOQUE_OK;
}

toque_status tq_pretok_new(tq_pretok **out, tq_mem *mem, const char *name, size_t n, toque_error *err) {
    const struct pretok_row *row = NULL;
    for (size_t i = 0; i < sizeof rows / sizeof *rows && !row; i++)
        if (strlen(rows[i].name) == n && memcmp(rows[i].name, name, n) == 0) row = &rows[i];
    if (!row)
        return TQ_FAIL(err, EUNSUPPORTED,
                       "the pre-tokenizer '%.*s' (tokenizer.ggml.pre) is not known; its words cannot be split as the "
                       "model was trained",
                       (int)(n < 100 ? n : 100), name);
    return compile_all(out, mem, row->stages, row->flags, row->name, err);
}

toque_status tq_pretok_from_regexes(tq_pretok **out, tq_mem *mem, const tq_string *regexes, size_t n,
                                    toque_error *err) {
    const char *stages[MAX_STAGES + 1] = {NULL};
    tq_buf bufs[MAX_STAGES];
    if (n > MAX_STAGES)
        return TQ_FAIL(err, EUNSUPPORTED, "a pre-tokenizer of %zu stages; at most %d are supported", n, MAX_STAGES);
    toque_status status = TOQUE_OK;
    for (size_t i = 0; i < n; i++) {
        tq_buf_init(&bufs[i], mem, TQ_REGEX_MAX);
        if (status == TOQUE_OK) status = tq_regex_translate(&bufs[i], regexes[i].data, regexes[i].len, err);
        stages[i] = bufs[i].data;
    }
    if (status == TOQUE_OK) status = compile_all(out, mem, stages, 0, NULL, err);
    for (size_t i = 0; i < n; i++) tq_buf_clear(&bufs[i]);
    return status;
}

void tq_pretok_free(tq_pretok *pre) {
    if (!pre) return;
    for (int i = 0; i < pre->n_stages; i++) pcre2_code_free(pre->stages[i].code);
    pcre2_general_context_free(pre->memory);
    tq_free(pre->mem, pre);
}

int tq_pretok_flags(const tq_pretok *pre) {
    return pre->flags;
}

tq_pretok_scratch *tq_pretok_scratch_new(const tq_pretok *pre) {
    tq_pretok_scratch *scratch = TQ_NEW(pre->mem, tq_pretok_scratch);
    if (!scratch) return NULL;
    scratch->pre = pre;
    for (int i = 0; i < pre->n_stages; i++) {
        scratch->match[i] = pcre2_match_data_create(1, pre->memory);
        if (!scratch->match[i]) {
            tq_pretok_scratch_free(scratch);
            return NULL;
        }
    }
    return scratch;
}

void tq_pretok_scratch_free(tq_pretok_scratch *scratch) {
    if (!scratch) return;
    for (int i = 0; i < scratch->pre->n_stages; i++) pcre2_match_data_free(scratch->match[i]);
    tq_free(scratch->pre->mem, scratch);
}

/* The next match at or after `at`; false and OK when there is none. */
static toque_status next_match(const struct stage *stage, pcre2_match_data *data, const char *text, size_t n, size_t at,
                               bool *found, toque_error *err) {
    int rc = PCRE2_ERROR_JIT_STACKLIMIT;
    if (stage->jit)
        rc = pcre2_jit_match(stage->code, (PCRE2_SPTR)text, n, at, PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY, data, NULL);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
        rc = pcre2_match(stage->code, (PCRE2_SPTR)text, n, at, PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY | PCRE2_NO_JIT, data,
                         NULL);
    if (rc == PCRE2_ERROR_NOMEMORY) return TQ_NOMEM(err);
    if (rc < 0 && rc != PCRE2_ERROR_NOMATCH)
        return TQ_FAIL(err, ELIMIT, "the text cannot be split into words near byte %zu (PCRE2 error %d)", at, rc);
    *found = rc >= 0;
    return TOQUE_OK;
}

typedef struct piece_sink {
    const tq_pretok *pre;
    tq_pretok_scratch *scratch;
    tq_piece_fn piece;
    void *arg;
    toque_error *err;
} piece_sink;

static toque_status split(const piece_sink *sink, int k, const char *text, size_t n) {
    if (k == sink->pre->n_stages) return sink->piece(sink->arg, text, n, sink->err);
    pcre2_match_data *data = sink->scratch->match[k];
    const PCRE2_SIZE *span = pcre2_get_ovector_pointer(data);
    size_t at = 0;
    while (at < n) {
        bool found = false;
        TQ_TRY(next_match(&sink->pre->stages[k], data, text, n, at, &found, sink->err));
        size_t start = found ? span[0] : n, end = found ? span[1] : n;
        assert(end > at); /* an empty match is none (NOTEMPTY) */
        if (start > at) TQ_TRY(split(sink, k + 1, text + at, start - at));
        if (end > start) TQ_TRY(split(sink, k + 1, text + start, end - start));
        at = end;
    }
    return TOQUE_OK;
}

toque_status tq_pretok_split(const tq_pretok *pre, tq_pretok_scratch *scratch, const char *text, size_t n,
                             tq_piece_fn piece, void *arg, toque_error *err) {
    piece_sink sink = {.pre = pre, .scratch = scratch, .piece = piece, .arg = arg, .err = err};
    return split(&sink, 0, text, n);
}
