/* The keys of a training (DESIGN, "Training keys"): one option table that makes flags, recipe keys and their check, and
 * the rules that turn what the user gave into what is done. A default that depends on the model or the data is resolved
 * here, once, and its reason noted for the user to see; recipe.yaml then holds every key as resolved. */
#ifndef TQ_TRAIN_RECIPE_H
#define TQ_TRAIN_RECIPE_H

#include <jansson.h>

#include "base/option.h"
#include "model/peft.h"
#include "train/dataset.h"
#include "train/objective.h"
#include "train/optimizer.h"
#include "train/schedule.h"
#include "train/source.h"

#define TQ_METHODS                                                                                                     \
    "lora, dora, vera, ia3, full, freeze, prefix, prompt, norms, bitfit, head" /* the rows of model/peft.def           \
                                                                                */

typedef enum tq_keep { TQ_KEEP_BEST, TQ_KEEP_LAST } tq_keep;

typedef struct tq_recipe {
    const char *model;
    tq_option_list data;
    int mixing; /* tq_mixing */
    double mixing_temperature;
    const char *format, *prompt_column, *answer_column, *text_column, *label_column, *system;
    const char *method, *objective, *optimizer, *init_adapter;
    int64_t rank;
    double alpha, dropout;
    bool rslora;
    tq_option_list targets, rank_pattern, alpha_pattern, train_modules, train_pattern;
    double loraplus_lr_ratio;
    int init; /* 1: pissa */
    int64_t train_layers, virtual_tokens;
    const char *prompt_init_text;
    int save_dtype; /* 0: f32, 1: f16, 2: bf16 */
    int64_t max_length, batch_size, grad_accum, max_steps;
    double epochs, lr, warmup, weight_decay, clip, decay, layer_decay, ema, neftune_alpha, label_smoothing;
    int64_t cycles;
    int scheduler; /* see tq_schedule_choice */
    int order;     /* 0: shuffle, 1: file */
    int packing;   /* 0: on, 1: off */
    int recompute; /* 1: on, 2: off; 0: not resolved yet */
    int train_on;  /* tq_train_on */
    tq_option_list eval_data;
    double eval_split;
    int64_t patience, eval_every, save_every, seed;
    int keep; /* tq_keep */
    double similarity_scale;
    int pooling;       /* 0: by model and method, else tq_read + 1 */
    int class_weights; /* 1: balanced */
    int tagging;       /* 0: bio, 1: io */
    bool add_labels;

    /* resolved from the above */
    const tq_objective *objective_row;
    const tq_optimizer *optimizer_row;
    const tq_peft *method_row;
    tq_arena arena; /* owns the texts below */
    /* What the adapter is made with; lists are joined with commas, NULL: the method has none. */
    const char *targets_text, *rank_text, *alpha_text, *own_text;
    double auto_share; /* above 0: targets are still to be chosen, see auto_targets.h */
    int64_t steps_per_epoch, steps;
} tq_recipe;

extern const tq_option tq_recipe_table[];

/* given: the set that the recipe was read by, to tell what was set explicitly. notes gets a line for every default that
 * was chosen. In the order of use: what the loaded adapter decides (with init_adapter); what needs the model; what
 * needs the rows (held_out_rows: after the split). A key that the method or another choice does not use is an error
 * that names those which do. */
toque_status tq_recipe_resolve_adapter(tq_recipe *r, const tq_option_set *given, const tq_adapter *loaded,
                                       tq_buf *notes, toque_error *err) TQ_MUST;
toque_status tq_recipe_resolve_model(tq_recipe *r, const tq_option_set *given, tq_model *model, tq_buf *notes,
                                     toque_error *err) TQ_MUST;
toque_status tq_recipe_resolve_rows(tq_recipe *r, const tq_option_set *given, size_t rows, size_t held_out_rows,
                                    tq_buf *notes, toque_error *err) TQ_MUST;
void tq_recipe_clear(tq_recipe *r);
/* What a new adapter is made with. */
tq_adapter_options tq_recipe_adapter(const tq_recipe *r);
/* Every key that a result depends on, as an object; paths and what only says when to save are left out. */
json_t *tq_recipe_json(const tq_recipe *r);
/* Every key that is used, as YAML. */
bool tq_recipe_yaml(const tq_recipe *r, tq_buf *out);

/* --- shared by recipe.c and recipe_method.c ---------------------------------------------------------- */
/* The method and the keys that depend on it. */
toque_status tq_recipe_resolve_method(tq_recipe *r, const tq_option_set *given, tq_model *model, tq_buf *notes,
                                      toque_error *err) TQ_MUST;
/* Targets chosen later: comma-separated. */
toque_status tq_recipe_set_targets(tq_recipe *r, const char *text, size_t n, toque_error *err) TQ_MUST;
bool tq_recipe_given(const tq_option_set *given, const char *key);
/* Whether the choices made use this key of the table. */
bool tq_recipe_uses(const tq_recipe *r, const char *key);

#endif
