"""Expectations of tests/train/test_heads_reference.c: losses and gradients of heads on the tiny llama and bert of
tiny_models.py, by transformers' ...ForSequenceClassification and ...ForTokenClassification with their own losses, whole
and with PEFT's LoRA, in f32. Development aid: pip install torch transformers peft.

Usage: heads.py > tests/train/data/heads.txt
Lines: `case FAMILY OBJECTIVE METHOD`, `grad TENSOR ROWS COLS NORM DOT` (a probe: sum of g_i cos(0.3 i + 1)), `loss VALUE`.
Start values of the body are tiny_models.py's; of LoRA and heads 0.4 * u(name, i)."""
import torch
from peft import LoraConfig, get_peft_model
from transformers import (BertForSequenceClassification, BertForTokenClassification, LlamaForSequenceClassification,
                          LlamaForTokenClassification)

from tiny_models import FAMILIES, fill, u

ROWS, LABELS, MEAN, DEVIATION = 4, 3, 1.5, 2.0
KINDS = {"llama": (LlamaForSequenceClassification, LlamaForTokenClassification),
         "bert": (BertForSequenceClassification, BertForTokenClassification)}
PROBLEMS = {"classify": "single_label_classification", "multilabel": "multi_label_classification",
            "regress": "regression", "tag": None}
LINEAR = {"llama": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
          "bert": ["query", "key", "value", "intermediate.dense", "output.dense"]}


def saved_name(name):
    """The name in adapter_model.safetensors."""
    return name.replace(".modules_to_save.default", "").replace(".default", "")


def truth(objective, r, n):
    if objective == "classify":
        return torch.tensor([r % LABELS])
    if objective == "multilabel":
        return torch.tensor([[float(k == r % LABELS or (r % 2 == 1 and k == 0)) for k in range(LABELS)]])
    if objective == "regress":
        return torch.tensor([(r - MEAN) / DEVIATION])
    return torch.tensor([[-100 if t % 5 == 0 else (t + r) % LABELS for t in range(n)]])


def run(family, objective, method):
    body = FAMILIES[family][1]
    config = body.__class__(**{**body.to_dict(), "num_labels": 1 if objective == "regress" else LABELS,
                               "problem_type": PROBLEMS[objective]})
    config._attn_implementation = "eager"
    model = KINDS[family][objective == "tag"](config).float().eval()
    if method == "lora":
        model = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=LINEAR[family],
                                                 task_type="TOKEN_CLS" if objective == "tag" else "SEQ_CLS")).eval()
    trained = {}
    for name, p in model.named_parameters():
        name = saved_name(name)
        plain = name.removeprefix("base_model.model.").replace("base_layer.", "").replace("original_module.", "")
        fresh = "lora_" in name or plain.startswith(("score.", "classifier."))
        values = 0.4 * u(name, p.numel()) if fresh else fill(plain.removeprefix("bert."), p.numel(), family)[0]
        with torch.no_grad():
            p.copy_(torch.tensor(values).float().reshape(p.shape))
        if p.requires_grad:
            trained[name] = p
    total, n = 0.0, 0
    for r in range(ROWS):
        ids = [(r * 37 + t * 11 + 5) % 400 for t in range(5 + 2 * r)]
        labels = truth(objective, r, len(ids))
        weight = int((labels != -100).sum()) if objective == "tag" else 1
        total, n = total + weight * model(torch.tensor([ids]), labels=labels).loss, n + weight
    loss = total / n
    loss.backward()
    print("case", family, objective, method)
    for name, p in trained.items():
        g = p.grad.double().flatten()
        probe = torch.cos(0.3 * torch.arange(g.numel(), dtype=torch.float64) + 1)
        rows, cols = p.shape if p.dim() == 2 else (1, p.shape[0])
        print(f"grad {name} {rows} {cols} {g.norm().item():.7g} {(g * probe).sum().item():.7g}")
    print(f"loss {loss.item():.8g}")


def main():
    for family in KINDS:
        for objective in PROBLEMS:
            for method in ("full", "lora"):
                run(family, objective, method)


if __name__ == "__main__":
    main()
