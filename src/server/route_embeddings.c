/* POST /v1/embeddings and /rerank, by the encoder of --embedder. A request's texts go in batches between the engine's
 * passes, so that a long list does not hold up answers. A text that is longer than the encoder takes is refused. */
#include <math.h>
#include <string.h>

#include <openssl/evp.h>

#include "infer/embed.h"
#include "server/state.h"

enum { BATCH = 16, MOST_TEXTS = 2048 };

typedef struct embed_fields {
    json_t *input;
    const char *model, *format;
    int64_t dimensions;
} embed_fields;

#define AT(field) offsetof(embed_fields, field)
static const tq_field embed_table[] = {{"input", TQ_VALUE_ANY, AT(input), 0, 0, true},
                                       {"model", TQ_VALUE_TEXT, AT(model), 0, 0, false},
                                       {"encoding_format", TQ_VALUE_TEXT, AT(format), 0, 0, false},
                                       {"dimensions", TQ_VALUE_INT, AT(dimensions), 1, 1e6, false},
                                       {0}};
#undef AT

typedef struct rerank_fields {
    json_t *documents, *texts;
    const char *model, *query;
    int64_t top_n;
    bool return_documents, return_text;
} rerank_fields;

#define AT(field) offsetof(rerank_fields, field)
static const tq_field rerank_table[] = {{"query", TQ_VALUE_TEXT, AT(query), 0, 0, true},
                                        {"documents", TQ_VALUE_ARRAY, AT(documents), 0, 0, false},
                                        {"texts", TQ_VALUE_ARRAY, AT(texts), 0, 0, false},
                                        {"model", TQ_VALUE_TEXT, AT(model), 0, 0, false},
                                        {"top_n", TQ_VALUE_INT, AT(top_n), 1, 1e9, false},
                                        {"return_documents", TQ_VALUE_BOOL, AT(return_documents), 0, 0, false},
                                        {"return_text", TQ_VALUE_BOOL, AT(return_text), 0, 0, false},
                                        {0}};
#undef AT

typedef struct job {
    tq_call call;
    tq_exchange *x;
    tq_server *s;
    json_t *body;
    bool rerank;
    embed_fields e;
    rerank_fields r;
    tq_string *texts; /* [n] */
    size_t n, done;
    float *vectors; /* [n, dim] */
    tq_embed_stats stats;
} job;

static void job_free(job *j) {
    tq_mem *mem = j->s->mem;
    tq_free(mem, j->texts);
    tq_free(mem, j->vectors);
    json_decref(j->body);
    tq_exchange_drop(j->x);
    tq_free(mem, j);
}

/* --- embeddings -------------------------------------------------------------------------------------------- */

static json_t *base64(tq_mem *mem, const float *v, size_t dim) {
    size_t n = dim * sizeof *v;
    unsigned char *text = tq_alloc(mem, n / 3 * 4 + 8, 1);
    if (!text) return NULL;
    EVP_EncodeBlock(text, (const unsigned char *)v, (int)n); /* little-endian f32: this machine's own */
    json_t *value = json_string((char *)text);
    tq_free(mem, text);
    return value;
}

static json_t *floats(const float *v, size_t dim) {
    json_t *list = json_array();
    for (size_t i = 0; i < dim; i++) (void)json_array_append_new(list, json_real((double)v[i]));
    return list;
}

static json_t *embeddings_json(job *j) {
    size_t dim = (size_t)tq_embedder_dim(j->s->embedder);
    bool packed = j->e.format && strcmp(j->e.format, "base64") == 0;
    json_t *data = json_array();
    for (size_t i = 0; i < j->n; i++) {
        const float *v = j->vectors + i * dim;
        (void)json_array_append_new(data, json_pack("{s:s, s:I, s:o}", "object", "embedding", "index", (json_int_t)i,
                                                    "embedding", packed ? base64(j->s->mem, v, dim) : floats(v, dim)));
    }
    json_int_t tokens = (json_int_t)j->stats.tokens;
    return json_pack("{s:s, s:o, s:s, s:{s:I, s:I}}", "object", "list", "data", data, "model", j->s->embedder_name,
                     "usage", "prompt_tokens", tokens, "total_tokens", tokens);
}

/* --- rerank ------------------------------------------------------------------------------------------------ */

static double cosine(const float *a, const float *b, size_t dim) {
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < dim; i++) {
        ab += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    return aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : 0;
}

/* Both shapes: Jina's and Cohere's object for documents, the bare list of text-embeddings-inference for texts. The
 * query is text 0. */
static json_t *rerank_json(job *j) {
    size_t dim = (size_t)tq_embedder_dim(j->s->embedder), n = j->n - 1;
    bool bare = j->r.texts != NULL, with_text = bare ? j->r.return_text : j->r.return_documents;
    double *scores = tq_alloc(j->s->mem, n, sizeof *scores);
    json_t *list = json_array();
    if (!scores) {
        json_decref(list);
        return NULL;
    }
    for (size_t i = 0; i < n; i++) scores[i] = cosine(j->vectors, j->vectors + (i + 1) * dim, dim);
    size_t most = j->r.top_n && (size_t)j->r.top_n < n ? (size_t)j->r.top_n : n;
    for (size_t k = 0; k < most; k++) {
        size_t best = 0;
        for (size_t i = 1; i < n; i++)
            if (scores[i] > scores[best]) best = i;
        json_t *one =
            json_pack("{s:I, s:f}", "index", (json_int_t)best, bare ? "score" : "relevance_score", scores[best]);
        json_t *text = json_stringn(j->texts[best + 1].data, j->texts[best + 1].len);
        if (!with_text)
            json_decref(text);
        else if (bare)
            (void)json_object_set_new(one, "text", text);
        else
            (void)json_object_set_new(one, "document", json_pack("{s:o}", "text", text));
        (void)json_array_append_new(list, one);
        scores[best] = -INFINITY;
    }
    tq_free(j->s->mem, scores);
    if (bare) return list;
    return json_pack("{s:s, s:s, s:{s:I}, s:o}", "object", "list", "model", j->s->embedder_name, "usage",
                     "total_tokens", (json_int_t)j->stats.tokens, "results", list);
}

/* --- both -------------------------------------------------------------------------------------------------- */

/* A batch on the engine's thread. */
static bool step(void *arg) {
    job *j = arg;
    toque_error err;
    size_t dim = (size_t)tq_embedder_dim(j->s->embedder), n = j->n - j->done < BATCH ? j->n - j->done : BATCH;
    if (atomic_load(&j->x->canceled)) {
        tq_reply_canceled(j->x);
        job_free(j);
        return false;
    }
    toque_status status =
        tq_embed(j->s->embedder, j->texts + j->done, n, false, j->vectors + j->done * dim, &j->stats, &err);
    j->done += n;
    if (status == TOQUE_OK && j->done < j->n) return true;
    if (status != TOQUE_OK)
        tq_reply_failure(j->x, status, j->rerank ? "documents" : "input", &err);
    else
        tq_reply_json(j->x, 200, j->rerank ? rerank_json(j) : embeddings_json(j));
    job_free(j);
    return false;
}

static toque_status add_text(job *j, const json_t *value, const char *name, toque_error *err) {
    if (json_is_object(value)) value = json_object_get(value, "text"); /* Jina's {"text": ...} */
    if (!json_is_string(value))
        return TQ_FAIL(err, EINVAL, "%s holds what is no string; this encoder takes texts, not tokens", name);
    if (json_string_length(value) == 0) return TQ_FAIL(err, EINVAL, "%s holds an empty text", name);
    j->texts[j->n++] = (tq_string){json_string_value(value), json_string_length(value)};
    return TOQUE_OK;
}

static toque_status add_texts(job *j, const json_t *list, const char *query, const char *name, toque_error *err) {
    size_t i, n = json_is_array(list) ? json_array_size(list) : 1;
    json_t *one;
    if (n == 0 || n > MOST_TEXTS)
        return TQ_FAIL(err, EINVAL, "%s has %zu texts; expected 1 to %d", name, n, MOST_TEXTS);
    j->texts = TQ_NEW_ARRAY(j->s->mem, tq_string, n + 1);
    j->vectors = tq_alloc(j->s->mem, n + 1, (size_t)tq_embedder_dim(j->s->embedder) * sizeof *j->vectors);
    if (!j->texts || !j->vectors) return TQ_NOMEM(err);
    if (query) j->texts[j->n++] = (tq_string){query, strlen(query)};
    if (!json_is_array(list)) return add_text(j, list, name, err);
    json_array_foreach(list, i, one) TQ_TRY(add_text(j, one, name, err));
    return TOQUE_OK;
}

static toque_status check_model(const job *j, const char *model, char *param, toque_error *err) {
    if (!model || strcmp(model, j->s->embedder_name) == 0) return TOQUE_OK;
    snprintf(param, TQ_PARAM, "model");
    return TQ_FAIL(err, ENOTFOUND, "texts are embedded by %.200s here, not by %.200s", j->s->embedder_name, model);
}

static toque_status read_embed(job *j, char *param, toque_error *err) {
    tq_field_table tables[] = {{embed_table, &j->e}, {0}};
    TQ_TRY(tq_fields_read(j->body, tables, param, err));
    TQ_TRY(check_model(j, j->e.model, param, err));
    if (j->e.format && strcmp(j->e.format, "float") != 0 && strcmp(j->e.format, "base64") != 0) {
        snprintf(param, TQ_PARAM, "encoding_format");
        return TQ_FAIL(err, EINVAL, "encoding_format is %.40s; expected float or base64", j->e.format);
    }
    if (j->e.dimensions && j->e.dimensions != tq_embedder_dim(j->s->embedder)) {
        snprintf(param, TQ_PARAM, "dimensions");
        return TQ_FAIL(err, EINVAL, "dimensions is %lld; this encoder's vectors have %d and cannot be cut",
                       (long long)j->e.dimensions, tq_embedder_dim(j->s->embedder));
    }
    snprintf(param, TQ_PARAM, "input");
    return add_texts(j, j->e.input, NULL, "input", err);
}

static toque_status read_rerank(job *j, char *param, toque_error *err) {
    tq_field_table tables[] = {{rerank_table, &j->r}, {0}};
    TQ_TRY(tq_fields_read(j->body, tables, param, err));
    TQ_TRY(check_model(j, j->r.model, param, err));
    snprintf(param, TQ_PARAM, "documents");
    if (!j->r.documents == !j->r.texts) return TQ_FAIL(err, EINVAL, "expected documents or texts, one of them");
    return add_texts(j, j->r.texts ? j->r.texts : j->r.documents, j->r.query, j->r.texts ? "texts" : "documents", err);
}

static void start(tq_exchange *x, json_t *body, bool rerank) {
    tq_server *s = tq_server_of(x);
    toque_error err = {0};
    char param[TQ_PARAM] = "";
    if (!s->embedder) {
        tq_reply_error(x, 501, "no_embedder", NULL, "the server was started without --embedder");
        return;
    }
    job *j = TQ_NEW(s->mem, job);
    if (!j) {
        tq_reply_failure(x, TQ_NOMEM(&err), NULL, &err);
        return;
    }
    tq_exchange_keep(x);
    *j = (job){.x = x, .s = s, .body = json_incref(body), .rerank = rerank, .call = {.step = step, .arg = j}};
    toque_status status = rerank ? read_rerank(j, param, &err) : read_embed(j, param, &err);
    if (status == TOQUE_OK) status = tq_engine_call(s->engine, &j->call, &err);
    if (status == TOQUE_OK) return;
    tq_reply_failure(x, status, param[0] ? param : NULL, &err);
    job_free(j);
}

void tq_route_embeddings(tq_exchange *x, json_t *body) {
    start(x, body, false);
}

void tq_route_rerank(tq_exchange *x, json_t *body) {
    start(x, body, true);
}
