/* The table of objectives. See objective.h. */
#include "train/objective.h"

#include <stdio.h>
#include <string.h>

#include "base/option.h"

static const tq_objective *const objectives[] = {
#define X(name) &tq_objective_##name,
#include "train/objectives.def"
#undef X
};
enum { N_OBJECTIVES = sizeof objectives / sizeof objectives[0] };

const tq_objective *tq_objective_row(size_t i) {
    return i < N_OBJECTIVES ? objectives[i] : NULL;
}

bool tq_objective_uses(const tq_objective *o, const char *key) {
    size_t n = strlen(key);
    for (const char *p = o->keys; p && *p; p += strspn(p, " ")) {
        size_t m = strcspn(p, " ");
        if (m == n && memcmp(p, key, n) == 0) return true;
        p += m;
    }
    return false;
}

toque_status tq_objective_find(const tq_objective **objective, const char *name, toque_error *err) {
    const char *names[N_OBJECTIVES];
    char list[200] = "";
    for (size_t i = 0, n = 0; i < N_OBJECTIVES; i++) {
        if (strcmp(objectives[i]->name, name) == 0) {
            *objective = objectives[i];
            return TOQUE_OK;
        }
        names[i] = objectives[i]->name;
        if (n < sizeof list) n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", i ? ", " : "", names[i]);
    }
    const char *near = tq_nearest(name, names, N_OBJECTIVES);
    return TQ_FAIL(err, EINVAL, "objective: there is no \"%s\"%s%s%s; there are: %s", name,
                   near ? ", did you mean \"" : "", near ? near : "", near ? "\"?" : "", list);
}

double tq_readout_nll(const tq_readout *r) {
    double sum = 0;
    for (int i = 0; i < r->n; i++) sum -= (double)r->weight[i] * (double)r->logp[i];
    return sum * r->scale;
}
