"""Trains the same adapter twice, with toque and with transformers + PEFT (f32), and compares: losses step by step, the final
adapter, and what each makes of the other's files. Development aid: pip install torch transformers peft gguf safetensors.

Usage: peft_tune.py TOQUE MODEL.gguf ROWS.jsonl FOLDER [STEPS]
Bars: losses within 1e-3 relative, cosine of the adapters' changes above 0.999, log-probs of rows within 1e-3 a token."""

import json
import math
import subprocess
import sys

import torch
from gguf import GGUFReader
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import get_cosine_schedule_with_warmup

from llama_gguf import load

toque, model_path, rows_path, folder = sys.argv[1:5]
steps = int(sys.argv[5]) if len(sys.argv) > 5 else 10
BATCH, LR, SEED = 4, 1e-3, 7


def run(*args):
    return subprocess.run([toque, *args], check=True, stdout=subprocess.PIPE, text=True).stdout


def token_bytes():
    """Bytes of each token of a byte-level vocabulary (GPT-2's stand-ins undone); control tokens stand for themselves."""
    fields = GGUFReader(model_path).fields
    printable = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174]
    others = [b for b in range(256) if b not in printable]
    back = {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}
    kinds = fields["tokenizer.ggml.token_type"].contents()
    texts = fields["tokenizer.ggml.tokens"].contents()
    return [t.encode() if k == 3 else bytes(back[c] for c in t) for t, k in zip(texts, kinds)]


def rows():
    """Token ids and targets of every row, as `toque data inspect` shows them."""
    sizes = [len(b) for b in token_bytes()]
    shown = json.loads(run("data", "inspect", "-m", model_path, rows_path, "-n", "1000", "--json"))["shown"]
    for row in shown:
        text = "".join(p["text"] for p in row["parts"])
        out = subprocess.run([toque, "tokenize", "-m", model_path, "--ids", "--quiet"], input=text.encode(), check=True,
                             stdout=subprocess.PIPE).stdout
        ids = [int(i) for i in out.split()]
        learned = [p["learned"] for p in row["parts"] for _ in p["text"].encode()]
        target, at = [], 0
        for i in ids:
            target.append(learned[at])
            at += sizes[i]
        assert at == len(learned), "the rendering was not tokenized whole"
        yield ids, target


def logprobs(model, data):
    with torch.no_grad():
        for ids, target in data:
            logp = model(torch.tensor([ids])).logits[0].log_softmax(-1)
            yield sum(logp[t - 1, ids[t]].item() for t in range(1, len(ids)) if target[t]), sum(target)


def scores(adapter):
    lines = run("score", "-m", model_path, "-a", adapter, "--compute", "f32", "--quiet", rows_path).splitlines()
    return [json.loads(line) for line in lines]


def compare_scores(name, model, adapter, data):
    worst = max(abs(a - s["logprob"]) / n for (a, n), s in zip(logprobs(model, data), scores(adapter)))
    print(f"{name}: log-probs of {len(data)} rows differ by at most {worst:.2e} a token")
    return worst


torch.manual_seed(SEED)
data = list(rows())
model = get_peft_model(load(model_path), LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"))
for name, p in model.named_parameters():
    if "lora_B" in name:
        torch.nn.init.normal_(p, std=0.01)
model.save_pretrained(folder + "/start")
bad = compare_scores("PEFT's adapter in toque", model, folder + "/start", data[:8]) > 1e-3

run("tune", "-m", model_path, "-d", rows_path, "-o", folder + "/toque", "--overwrite", "--init-adapter", folder + "/start",
    "--order", "file", "--batch-size", str(BATCH), "--max-steps", str(steps), "--lr", str(LR), "--compute", "f32", "--quiet")
mine = [json.loads(line) for line in open(folder + "/toque/metrics.jsonl")]

model.train()
params = [p for p in model.parameters() if p.requires_grad]
optimizer = torch.optim.AdamW(params, lr=LR, weight_decay=0)
schedule = get_cosine_schedule_with_warmup(optimizer, math.ceil(steps * 0.03), steps)
for step in range(steps):
    at = step % math.ceil(len(data) / BATCH) * BATCH
    batch = data[at:at + BATCH]
    n = sum(sum(target) for _, target in batch)
    total = 0.0
    for ids, target in batch:
        logits = model(torch.tensor([ids])).logits[0, :-1]
        labels = torch.tensor([i if t else -100 for i, t in zip(ids, target)])[1:]
        loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum") / n
        loss.backward()
        total += loss.item()
    norm = torch.nn.utils.clip_grad_norm_(params, 1.0).item()
    lr = schedule.get_last_lr()[0]
    optimizer.step()
    schedule.step()
    optimizer.zero_grad()
    m = mine[step]
    off = abs(m["loss"] - total) / total
    bad |= off > 1e-3 or abs(m["lr"] - lr) > 1e-9 or abs(m["grad_norm"] - norm) > 1e-2 * norm or m["target_tokens"] != n
    print(f"step {step + 1}: loss PEFT {total:.7f} toque {m['loss']:.7f} ({off:.1e}), norm {norm:.5f} {m['grad_norm']:.5f}, "
          f"lr {lr:.3e} {m['lr']:.3e}, targets {n} {m['target_tokens']}")
model.save_pretrained(folder + "/peft")

start, a, b = (load_file(f"{folder}/{x}/adapter_model.safetensors") for x in ("start", "peft", "toque"))
assert a.keys() == b.keys(), "the adapters have other tensors"


def flat(t):
    return torch.cat([t[k].flatten() for k in sorted(t)]).double()


values = torch.cosine_similarity(flat(a), flat(b), dim=0).item()
moved = torch.cosine_similarity(flat(a) - flat(start), flat(b) - flat(start), dim=0).item()
print(f"final adapter: cosine {values:.6f}, of the change {moved:.6f}")
bad |= values < 0.999 or moved < 0.999
del model
model = PeftModel.from_pretrained(load(model_path), folder + "/toque").eval()
bad |= compare_scores("toque's adapter in PEFT", model, folder + "/toque", data[:8]) > 1e-3
sys.exit(1 if bad else 0)
