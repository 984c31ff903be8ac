/* What a store remembers of itself, as texts in its table `facts`: how it was made, and the threshold it learned. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rag/store_impl.h"

/* X(field) of the facts that are texts and always there */
#define TEXT_FACTS(X)                                                                                                  \
    X(embedder)                                                                                                        \
    X(hash)                                                                                                            \
    X(pooling)                                                                                                         \
    X(query_prefix)                                                                                                    \
    X(passage_prefix)

static toque_status put_fact(tq_rag *store, const char *key, const char *value, toque_error *err) {
    const char *const params[2] = {key, value};
    return tq_rag_run(store, "INSERT INTO facts VALUES($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                      params, 2, NULL, NULL, err);
}

static toque_status put_number(tq_rag *store, const char *key, double value, toque_error *err) {
    char text[40];
    snprintf(text, sizeof text, "%.17g", value);
    return put_fact(store, key, text, err);
}

toque_status tq_facts_write(tq_rag *store, const tq_rag_embedder *e, const tq_chunk_options *chunk, toque_error *err) {
    TQ_TRY(put_fact(store, "embedder", e->name, err));
    TQ_TRY(put_fact(store, "hash", e->hash, err));
    TQ_TRY(put_fact(store, "pooling", e->pooling, err));
    TQ_TRY(put_fact(store, "query_prefix", e->query_prefix, err));
    TQ_TRY(put_fact(store, "passage_prefix", e->passage_prefix, err));
    TQ_TRY(put_number(store, "dim", e->dim, err));
    TQ_TRY(put_number(store, "max_tokens", e->max_tokens, err));
    TQ_TRY(put_number(store, "chunker", TQ_CHUNKER_VERSION, err));
    TQ_TRY(put_number(store, "terms", TQ_TERMS_VERSION, err));
    TQ_TRY(put_number(store, "chunk_mode", (double)chunk->mode, err));
    TQ_TRY(put_number(store, "chunk_budget", chunk->budget, err));
    return put_number(store, "chunk_overlap", chunk->overlap, err);
}

toque_status tq_rag_remember_threshold(tq_rag *store, double threshold, double auc, int64_t pairs, toque_error *err) {
    TQ_TRY(tq_rag_run(store, store->ops->begin, NULL, 0, NULL, NULL, err));
    toque_status status;
    TQ_GO(put_number(store, "threshold", threshold, err));
    TQ_GO(put_number(store, "threshold_auc", auc, err));
    TQ_GO(put_number(store, "threshold_pairs", (double)pairs, err));
    TQ_GO(tq_rag_run(store, "COMMIT", NULL, 0, NULL, NULL, err));
    store->facts.calibrated = true;
    store->facts.threshold = threshold;
    store->facts.auc = auc;
    store->facts.pairs = pairs;
    return TOQUE_OK;
done:
    tq_rag_roll_back(store);
    return status;
}

toque_status tq_rag_remember_writing(tq_rag *store, const char *writer, double quote, double write, double p,
                                     int64_t questions, toque_error *err) {
    char *id = tq_arena_strndup(&store->arena, writer, strlen(writer));
    if (!id) return TQ_NOMEM(err);
    TQ_TRY(tq_rag_run(store, store->ops->begin, NULL, 0, NULL, NULL, err));
    toque_status status;
    TQ_GO(put_fact(store, "writer", writer, err));
    TQ_GO(put_number(store, "quote_score", quote, err));
    TQ_GO(put_number(store, "write_score", write, err));
    TQ_GO(put_number(store, "write_p", p, err));
    TQ_GO(put_number(store, "write_questions", (double)questions, err));
    TQ_GO(tq_rag_run(store, "COMMIT", NULL, 0, NULL, NULL, err));
    tq_rag_facts *f = &store->facts;
    f->writer = id;
    f->quote_score = quote;
    f->write_score = write;
    f->write_p = p;
    f->write_questions = questions;
    return TOQUE_OK;
done:
    tq_rag_roll_back(store);
    return status;
}

toque_status tq_rag_forget_threshold(tq_rag *store, toque_error *err) {
    store->facts.calibrated = false;
    return tq_rag_run(store, "DELETE FROM facts WHERE key LIKE 'threshold%'", NULL, 0, NULL, NULL, err);
}

/* --- reading --------------------------------------------------------------------------------------------- */

enum {
    DIM,
    MAX_TOKENS,
    CHUNKER,
    TERMS,
    MODE,
    BUDGET,
    OVERLAP,
    THRESHOLD,
    AUC,
    PAIRS,
    QUOTE_SCORE,
    WRITE_SCORE,
    WRITE_P,
    WRITE_QUESTIONS,
    NUMBERS
};
static const char *const keys[NUMBERS] = {
    "dim",       "max_tokens",    "chunker",         "terms",       "chunk_mode",  "chunk_budget", "chunk_overlap",
    "threshold", "threshold_auc", "threshold_pairs", "quote_score", "write_score", "write_p",      "write_questions"};
typedef struct reading {
    tq_rag *store;
    double number[NUMBERS];
    unsigned given; /* bits of those that are there */
} reading;

static toque_status read_fact(void *arg, const tq_row *row, toque_error *err) {
    reading *r = arg;
    tq_rag_facts *f = &r->store->facts;
    const char *key = row->text[0], *value = row->text[1];
    for (int i = 0; i < NUMBERS; i++)
        if (strcmp(key, keys[i]) == 0) r->number[i] = strtod(value, NULL), r->given |= 1u << i;
#define X(field)                                                                                                       \
    if (strcmp(key, #field) == 0 && !(f->field = tq_arena_strndup(&r->store->arena, value, row->len[1])))              \
        return TQ_NOMEM(err);
    TEXT_FACTS(X)
    X(writer)
#undef X
    return TOQUE_OK;
}

toque_status tq_facts_read(tq_rag *store, toque_error *err) {
    reading r = {.store = store};
    const double *number = r.number;
    tq_rag_facts *f = &store->facts;
    TQ_TRY(tq_rag_run(store, "SELECT key, value FROM facts", NULL, 0, read_fact, &r, err));
    const unsigned writing = 15u << QUOTE_SCORE;
    if (!f->writer || (r.given & writing) != writing) f->writer = "";
    const unsigned needed = (1u << THRESHOLD) - 1;
#define X(field) || !f->field
    if ((r.given & needed) != needed TEXT_FACTS(X)) return tq_store_damaged(store, "facts are missing", err);
#undef X
    for (int i = 0; i < THRESHOLD; i++)
        if (!(number[i] >= 0 && number[i] <= 1e8)) return tq_store_damaged(store, keys[i], err);
    if (number[CHUNKER] > TQ_CHUNKER_VERSION || number[TERMS] > TQ_TERMS_VERSION)
        return TQ_FAIL(err, EUNSUPPORTED,
                       "%s was made by a newer toque: use that one, or add its documents to a new store", store->path);
    f->dim = (int64_t)number[DIM];
    f->max_tokens = (int64_t)number[MAX_TOKENS];
    f->chunk = (tq_chunk_options){(tq_chunk_mode)(int)number[MODE], (int)number[BUDGET], (int)number[OVERLAP]};
    if (f->chunk.mode > TQ_CHUNK_PARENT || f->dim > 1 << 16) return tq_store_damaged(store, "facts out of range", err);
    if (*f->writer) {
        f->quote_score = number[QUOTE_SCORE];
        f->write_score = number[WRITE_SCORE];
        f->write_p = number[WRITE_P];
        f->write_questions = (int64_t)number[WRITE_QUESTIONS];
    }
    f->calibrated = r.given >> THRESHOLD & 1 && r.given >> AUC & 1 && r.given >> PAIRS & 1;
    if (f->calibrated) {
        f->threshold = number[THRESHOLD];
        f->auc = number[AUC];
        f->pairs = (int64_t)number[PAIRS];
    }
    return TOQUE_OK;
}
