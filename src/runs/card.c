/* The model card. See card.h. */
#include "runs/card.h"

#include <math.h>

static void losses_by_set(const tq_card *c, tq_buf *out) {
    const char *name;
    json_t *last;
    if (!c->last_by_set) return;
    tq_buf_puts(out, "\n| data set | held-out loss before | last |\n|---|---|---|\n");
    json_object_foreach((json_t *)(uintptr_t)c->last_by_set, name, last)
        tq_buf_printf(out, "| %s | %.4f | %.4f |\n", name, json_number_value(json_object_get(c->first_by_set, name)),
                      json_number_value(last));
}

static void results(const tq_card *c, tq_buf *out) {
    tq_buf_printf(out, "## Results\n\n| | loss%s |\n|---|---|\n",
                  c->head || c->vectors ? "" : " (mean -log p of a target token)");
    tq_buf_printf(out, "| first training step | %.4f |\n| last training step | %.4f |\n", c->first_loss, c->last_loss);
    if (!isnan(c->base_eval)) tq_buf_printf(out, "| held-out rows, before training | %.4f |\n", c->base_eval);
    if (!isnan(c->best_eval)) tq_buf_printf(out, "| held-out rows, best | %.4f |\n", c->best_eval);
    if (!isnan(c->last_eval)) tq_buf_printf(out, "| held-out rows, last | %.4f |\n", c->last_eval);
    tq_buf_printf(out, "\n%lld optimizer steps (%.2f epochs); the adapter holds the values after step %lld.\n",
                  (long long)c->steps, c->epochs, (long long)c->kept_step);
    losses_by_set(c, out);
    if (c->figures) {
        tq_buf_puts(out, "\n");
        if (tq_figures_print(c->figures, "held-out, as kept, ", out, NULL) != TOQUE_OK) out->failed = true;
    }
    if (c->ranking) {
        tq_buf_puts(out, "\n");
        tq_ranking_print(c->ranking, out);
    }
    if (c->baseline) tq_buf_printf(out, "\n%s\n", c->baseline);
    if (isnan(c->best_eval))
        tq_buf_puts(out, "No rows were held out, so these figures do not tell how it does on new ones.\n");
    else if (!isnan(c->base_eval) && c->best_eval >= c->base_eval)
        tq_buf_puts(out, "**The held-out loss never fell below the base model's: this adapter did not help.**\n");
}

/* How transformers finds the head again: head.json has its configuration's keys. */
static void use_head(const tq_card *c, tq_buf *out) {
    const char *task = c->head->kind == TQ_HEAD_TAGS ? "Token" : "Sequence";
    tq_buf_printf(out, "\n## Use\n\n```\ntoque predict -m %s -a %s rows.csv --text-column text -o answers.csv\n```\n",
                  c->model, c->dir);
    if (c->head->labels) {
        tq_buf_puts(out, "Labels:");
        for (int i = 0; i < c->head->n; i++) tq_buf_printf(out, " `%s`", c->head->labels[i]);
        tq_buf_puts(out, "\n\n");
    } else {
        tq_buf_printf(out, "The number is %.9g + %.9g x the output.\n\n", c->head->mean, c->head->deviation);
    }
    if (c->head->read == TQ_READ_MEAN || c->head->read == TQ_READ_FIRST)
        tq_buf_printf(out, "The head reads the %s row; transformers' classes read another one: wear it with toque.\n",
                      tq_read_name(c->head->read));
    tq_buf_printf(out,
                  "`head.json` holds num_labels, id2label and label2id for transformers:\n```python\nimport json\n"
                  "from transformers import AutoModelFor%sClassification\n"
                  "head = json.load(open(\"%s/head.json\"))\n"
                  "keys = {k: head[k] for k in (\"num_labels\", \"id2label\", \"label2id\") if k in head}\n"
                  "base = AutoModelFor%sClassification.from_pretrained(BASE, **keys)\n%s```\n",
                  task, c->dir, task,
                  c->peft ? "from peft import PeftModel\nmodel = PeftModel.from_pretrained(base, \"RUN\")\n"
                          : "from safetensors.torch import load_file\n"
                            "base.load_state_dict(load_file(\"model.safetensors\"), strict=False)\n");
}

static void use_vectors(const tq_card *c, tq_buf *out) {
    tq_buf_printf(out,
                  "\n## Use\n\n```\ntoque embed -m %s -a %s texts.txt\n```\n`embedding.json` says how a text's rows "
                  "become its vector, which has length 1.\n",
                  c->model, c->dir);
    if (c->peft)
        tq_buf_printf(out,
                      "sentence-transformers, with a BASE that pools so:\n```python\n"
                      "from sentence_transformers import SentenceTransformer\n"
                      "from peft import PeftModel\nmodel = SentenceTransformer(\"BASE\")\n"
                      "model[0].auto_model = PeftModel.from_pretrained(model[0].auto_model, \"%s\")\n```\n",
                      c->dir);
}

static void use(const tq_card *c, tq_buf *out) {
    if (c->vectors) {
        use_vectors(c, out);
        return;
    }
    if (c->head) {
        use_head(c, out);
        return;
    }
    tq_buf_printf(out, "\n## Use\n\n```\ntoque chat -m %s -a %s\ntoque generate -m %s -a %s -p \"...\"\n```\n",
                  c->model, c->dir, c->model, c->dir);
    if (c->peft)
        tq_buf_printf(out,
                      "The folder is a PEFT adapter as well:\n```python\nfrom peft import PeftModel\n"
                      "model = PeftModel.from_pretrained(base_model, \"%s\")\n```\n",
                      c->dir);
    else
        tq_buf_puts(out, "`model.safetensors` holds the trained tensors under Hugging Face's names:\n```python\n"
                         "from safetensors.torch import load_file\n"
                         "base_model.load_state_dict(load_file(\"model.safetensors\"), strict=False)\n```\n");
}

bool tq_card_write(const tq_card *c, tq_buf *out) {
    tq_buf_printf(out, "---\nlibrary_name: %s\ntags:\n- toque\n- %s\n---\n", c->peft ? "peft" : "transformers",
                  c->method);
    tq_buf_printf(out, "# An adapter for %s\n\n", c->model);
    tq_buf_printf(out, "Trained with toque: method `%s`, objective `%s`, %zu trained values.\n\n", c->method,
                  c->objective, c->trained_values);
    tq_buf_printf(out, "## Base\n\n- file: `%s` (%s)\n- fingerprint: `%s`\n\n", c->model, c->architecture,
                  c->model_hash);
    tq_buf_puts(out, "## Data\n\n");
    for (size_t i = 0; i < c->n_data; i++) tq_buf_printf(out, "- `%s`\n", c->data[i]);
    tq_buf_printf(out, "- SHA-256: `%s`\n", c->data_hash);
    if (c->eval_hash) tq_buf_printf(out, "- SHA-256 of the held-out file: `%s`\n", c->eval_hash);
    tq_buf_printf(out,
                  "- %zu rows trained on (%zu tokens, %zu of them targets), %zu held out, %zu dropped as too long\n",
                  c->rows, c->tokens, c->targets, c->held_out_rows, c->dropped_rows);
    if (c->lost_spans)
        tq_buf_printf(out, "- %zu spans lost: all their tokens belong to the span before\n", c->lost_spans);
    tq_buf_puts(out, "\n");
    results(c, out);
    use(c, out);
    tq_buf_printf(out, "\n## Recipe\n\n`toque tune --config recipe.yaml -o OTHER` repeats the run.\n```yaml\n%s```\n",
                  c->recipe);
    return !out->failed;
}
