/* TF-IDF features of texts, as scikit-learn's TfidfVectorizer defines them (sublinear_tf=True), in two blocks side by
 * side: words alone and in pairs (runs of two or more letters, digits and underscores), and groups of 2 to 5 characters
 * within words (`char_wb`: each word between two blanks). Texts are put in lower case character by character.
 *
 *     value = (1 + ln tf) (ln((1 + rows) / (1 + df)) + 1),   each block of a row scaled to length 1
 */
#ifndef TQ_EVAL_TFIDF_H
#define TQ_EVAL_TFIDF_H

#include "eval/sparse.h"
#include "text/tokenizer.h"

typedef struct tq_tfidf tq_tfidf;
/* Learns terms and their df from texts (UTF-8); a term must stand in min_df of them. EFORMAT when no term is left. */
toque_status tq_tfidf_new(tq_tfidf **t, tq_mem *mem, const tq_string *texts, size_t n, int min_df,
                          toque_error *err) TQ_MUST;
void tq_tfidf_free(tq_tfidf *t);
size_t tq_tfidf_terms(const tq_tfidf *t);
/* The features of these texts; terms that were not learned count for nothing. */
toque_status tq_tfidf_features(const tq_tfidf *t, const tq_string *texts, size_t n, tq_sparse *x,
                               toque_error *err) TQ_MUST;

#endif
