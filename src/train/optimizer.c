/* The table of optimizers. See optimizer.h. */
#include "train/optimizer.h"

#include <stdio.h>
#include <string.h>

#include "base/option.h"

static const tq_optimizer *const optimizers[] = {
#define X(name) &tq_optimizer_##name,
#include "train/optimizers.def"
#undef X
};
enum { N_OPTIMIZERS = sizeof optimizers / sizeof optimizers[0] };

static bool is_alias(const char *aliases, const char *name) {
    size_t n = strlen(name);
    for (const char *a = aliases; a && n; a = strchr(a, '|') ? strchr(a, '|') + 1 : NULL)
        if (strncmp(a, name, n) == 0 && (a[n] == '|' || a[n] == 0)) return true;
    return false;
}

toque_status tq_optimizer_find(const tq_optimizer **optimizer, const char *name, toque_error *err) {
    const char *names[N_OPTIMIZERS];
    char list[200] = "";
    for (size_t i = 0, n = 0; i < N_OPTIMIZERS; i++) {
        if (strcmp(optimizers[i]->name, name) == 0 || is_alias(optimizers[i]->aliases, name)) {
            *optimizer = optimizers[i];
            return TOQUE_OK;
        }
        names[i] = optimizers[i]->name;
        if (n < sizeof list) n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", i ? ", " : "", names[i]);
    }
    const char *near = tq_nearest(name, names, N_OPTIMIZERS);
    return TQ_FAIL(err, EINVAL, "optimizer: there is no \"%s\"%s%s%s; there are: %s", name,
                   near ? ", did you mean \"" : "", near ? near : "", near ? "\"?" : "", list);
}

size_t tq_optimizer_floats(const tq_optimizer *o, int64_t rows, int64_t cols, bool matrix, int i) {
    return o->n_floats ? o->n_floats(rows, cols, matrix, i) : (size_t)rows * (size_t)cols;
}

double tq_clip_scale(double norm, double clip) {
    double scale = clip > 0 ? clip / (norm + 1e-6) : 1;
    return scale < 1 ? scale : 1;
}
