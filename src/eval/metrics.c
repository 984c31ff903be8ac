/* Metrics. See metrics.h. */
#include "eval/metrics.h"

#include <math.h>

toque_status tq_macro_f1(tq_mem *mem, const uint32_t *truth, const uint32_t *answer, size_t n, size_t n_labels,
                         double *f1, toque_error *err) {
    size_t *right = TQ_NEW_ARRAY(mem, size_t, n_labels), *all = TQ_NEW_ARRAY(mem, size_t, n_labels);
    toque_status status = right && all ? TOQUE_OK : TQ_NOMEM(err);
    double sum = 0;
    size_t seen = 0;
    for (size_t i = 0; i < n && status == TOQUE_OK; i++) {
        if (truth[i] < n_labels) all[truth[i]]++; /* truths and answers: 2 tp + fp + fn */
        if (answer[i] < n_labels) all[answer[i]]++;
        if (truth[i] < n_labels && truth[i] == answer[i]) right[truth[i]]++;
    }
    for (size_t k = 0; k < n_labels && status == TOQUE_OK; k++) {
        if (!all[k]) continue;
        sum += 2 * (double)right[k] / (double)all[k];
        seen++;
    }
    *f1 = seen ? sum / (double)seen : (double)NAN;
    tq_free(mem, right);
    tq_free(mem, all);
    return status;
}
