"""Expectations of tests/train/test_contrastive.c: the loss of pairs (in-batch negatives, cosines times 20, cross-entropy:
sentence-transformers' MultipleNegativesRankingLoss) and its gradients on the tiny llama and bert of tiny_models.py, whole
and with PEFT's LoRA, in f32. Development aid: pip install torch transformers peft.

Usage: contrastive.py > tests/train/data/contrastive.txt
Lines: `case FAMILY POOLING METHOD NEGATIVES`, `grad TENSOR ROWS COLS NORM DOT`, `loss VALUE`, as in heads.py. Row r has a
query, a passage and NEGATIVES negatives; text p of row r has the tokens (37 r + 101 p + 11 t + 5) mod 400."""
import torch
from peft import LoraConfig, get_peft_model
from transformers import BertModel, LlamaForCausalLM

from heads import LINEAR, saved_name
from tiny_models import FAMILIES, fill, u

ROWS, SCALE = 4, 20.0


def tokens(r, p):
    return [(r * 37 + p * 101 + t * 11 + 5) % 400 for t in range(4 + (r + 2 * p) % 5)]


def pool(hidden, pooling):
    return hidden.mean(0) if pooling == "mean" else hidden[0] if pooling == "cls" else hidden[-1]


def run(family, pooling, method, negatives):
    kind = LlamaForCausalLM if family == "llama" else BertModel
    config = FAMILIES[family][1]
    config._attn_implementation = "eager"
    model = kind(config).float().eval()
    if method == "lora":
        model = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=LINEAR[family])).eval()
    trained = {}
    for name, p in model.named_parameters():
        name = saved_name(name)
        plain = name.removeprefix("base_model.model.").replace("base_layer.", "")
        values = 0.4 * u(name, p.numel()) if "lora_" in name else fill(plain, p.numel(), family)[0]
        with torch.no_grad():
            p.copy_(torch.tensor(values).float().reshape(p.shape))
        if p.requires_grad and not name.startswith("pooler."):  # which no vector reads
            trained[name] = p
    body = model.base_model.model if method == "lora" else model
    body = body.model if family == "llama" else body

    def vectors(p):
        return torch.stack([torch.nn.functional.normalize(
            pool(body(torch.tensor([tokens(r, p)])).last_hidden_state[0], pooling), dim=0) for r in range(ROWS)])

    query, candidates = vectors(0), torch.cat([vectors(p) for p in range(1, 2 + negatives)])
    loss = torch.nn.functional.cross_entropy(SCALE * query @ candidates.T, torch.arange(ROWS))
    loss.backward()
    print("case", family, pooling, method, negatives)
    for name, p in trained.items():
        g = (p.grad if p.grad is not None else torch.zeros_like(p)).double().flatten()
        probe = torch.cos(0.3 * torch.arange(g.numel(), dtype=torch.float64) + 1)
        rows, cols = p.shape if p.dim() == 2 else (1, p.shape[0])
        print(f"grad {name} {rows} {cols} {g.norm().item():.7g} {(g * probe).sum().item():.7g}")
    print(f"loss {loss.item():.8g}")


def main():
    for method in ("full", "lora"):
        run("bert", "mean", method, 0)
        run("bert", "cls", method, 1)
        run("llama", "last", method, 1)
        run("llama", "mean", method, 0)


if __name__ == "__main__":
    main()
