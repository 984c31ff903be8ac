"""The demo's task (WordNet nouns into 25 categories, script/demo-data) learned twice, by toque and by transformers + PEFT in
f32, from the same base (dequantized), the same rows in the same order, the same start of the adapter, steps and rates; then
both answer the test words: the likeliest label, its end of turn included. Development aid:
pip install torch transformers peft gguf safetensors.

Usage: wordnet_peft.py TOQUE MODEL.gguf DATA FOLDER ROWS METHOD...      (DATA: made by script/demo-data; METHOD: lora dora full)
Prints each side's share of right answers with its 95 % interval, the answers that differ, and McNemar's p. Measured
once for docs/methods/comparison.md."""

import json
import math
import os
import subprocess
import sys
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import DynamicCache, get_cosine_schedule_with_warmup

from llama_gguf import load

toque, model_path, data, folder, rows = sys.argv[1:6]
rows, methods = int(rows), sys.argv[6:]
SYSTEM = "Sort the word into its category."
COLUMNS = ["--text-column", "text", "--label-column", "label", "--system", SYSTEM]
BATCH, RANK = 16, 8
RATES = {"lora": 1e-3, "dora": 1e-3, "full": 5e-5}
labels = open(f"{data}/labels.txt").read().split()
os.makedirs(folder, exist_ok=True)


def run(*args, text=None):
    return subprocess.run([toque, *args], input=text, check=True, stdout=subprocess.PIPE, text=True).stdout


def tokens(text):
    return [int(i) for i in run("tokenize", "-m", model_path, "--ids", "--quiet", text=text).split()]


def shown(path):
    """Prompt and answer of every row, as token ids. All rows are tokenized at once: each begins with a control token,
    which no token reaches over."""
    found = json.loads(run("data", "inspect", "-m", model_path, path, *COLUMNS, "-n", "100000", "--json"))["shown"]
    assert all([p["learned"] for p in r["parts"]] == [False, True, False] for r in found)
    ids = tokens("".join("".join(p["text"] for p in r["parts"]) for r in found))
    at, out = 0, []
    for r in found:
        row = ids[at:at + r["tokens"]]
        at += r["tokens"]
        end = r["tokens"] - 1  # the newline behind the answer
        out.append((row[:end - r["target_tokens"]], row[end - r["target_tokens"]:end]))
    assert at == len(ids)
    return out


def hidden(model, **inputs):
    """The rows before the head, so that it runs for those alone that are targets."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return base.lm_head, base.model(**inputs)


def train(model, data, lr):
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=lr, weight_decay=0)
    steps = math.ceil(len(data) / BATCH)
    schedule = get_cosine_schedule_with_warmup(optimizer, math.ceil(steps * 0.03), steps)
    model.train()
    losses = []
    for step in range(steps):
        batch = data[step * BATCH:(step + 1) * BATCH]
        width = max(len(p) + len(a) for p, a in batch)
        ids = torch.tensor([p + a + [0] * (width - len(p) - len(a)) for p, a in batch])
        mask = torch.tensor([[1] * (len(p) + len(a)) + [0] * (width - len(p) - len(a)) for p, a in batch])
        before = torch.zeros(ids.shape, dtype=torch.bool)  # the rows that predict a target
        for i, (p, a) in enumerate(batch):
            before[i, len(p) - 1:len(p) + len(a) - 1] = True
        head, out = hidden(model, input_ids=ids, attention_mask=mask, use_cache=False)
        wanted = torch.tensor([t for _, a in batch for t in a])
        loss = torch.nn.functional.cross_entropy(head(out.last_hidden_state[before]), wanted)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if step % 10 == 0:
            print(f"  step {step + 1} of {steps}: loss {losses[-1]:.4f}", file=sys.stderr, flush=True)
    return losses


def likeliest(model, prompt, choices):
    """The choice with the largest sum. The sum is at most its first term, so few need more than the prompt's pass."""
    cache = DynamicCache()
    head, out = hidden(model, input_ids=torch.tensor([prompt]), past_key_values=cache, use_cache=True)
    first = head(out.last_hidden_state[0, -1]).log_softmax(-1)
    best, answer = -math.inf, None
    for i in sorted(range(len(choices)), key=lambda i: -first[choices[i][0]].item()):
        c = choices[i]
        if first[c[0]].item() <= best:
            break
        if cache.get_seq_length() > len(prompt):
            cache.crop(len(prompt) - cache.get_seq_length())
        head, out = hidden(model, input_ids=torch.tensor([c[:-1]]), past_key_values=cache, use_cache=True)
        logp = head(out.last_hidden_state[0]).log_softmax(-1)
        total = first[c[0]].item() + sum(logp[k - 1, c[k]].item() for k in range(1, len(c)))
        if total > best:
            best, answer = total, i
    return labels[answer]


def interval(right, n):
    p, z = right / n, 1.959964
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return [100 * (middle + s * half) / (1 + z * z / n) for s in (-1, 1)]


def mcnemar(b, c):
    """Exact, two-sided."""
    n = b + c
    return min(1.0, 2 * sum(math.comb(n, k) for k in range(min(b, c) + 1)) / 2 ** n)


with open(f"{folder}/train.csv", "w") as f:
    f.writelines(open(f"{data}/train.csv").readlines()[:rows + 1])
train_rows, test_rows = shown(f"{folder}/train.csv"), shown(f"{data}/test.csv")
choices = [tokens(x + "<|im_end|>") for x in labels]
truth = [labels[choices.index(answer)] for _, answer in test_rows]
print(f"{rows} rows to learn from, {sum(len(p) + len(a) for p, a in train_rows)} tokens, {len(test_rows)} to test on; "
      f"1 epoch, {BATCH} rows a step, clip 1, cosine", flush=True)

for method in methods:
    torch.manual_seed(7)
    start = []
    model = load(model_path)
    model.config._attn_implementation = "sdpa"
    if method != "full":
        model = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear",
                                                 use_dora=method == "dora", task_type="CAUSAL_LM"))
        model.save_pretrained(f"{folder}/start-{method}")
        start = ["--init-adapter", f"{folder}/start-{method}"]
    ours = f"{folder}/toque-{method}"
    clock = time.time()
    run("tune", "-m", model_path, "-d", f"{folder}/train.csv", *COLUMNS, "-o", ours, "--overwrite", "--order", "file",
        "--batch-size", str(BATCH), "--epochs", "1", "--lr", str(RATES[method]), "--quiet",
        *(start or ["--method", method]))
    seconds = [time.time() - clock]
    run("eval", "-m", model_path, "-a", ours, f"{data}/test.csv", *COLUMNS, "--labels", f"{data}/labels.txt", "-o",
        f"{folder}/toque-{method}.jsonl", "--quiet")
    answers = [json.loads(line)["answer"] for line in open(f"{folder}/toque-{method}.jsonl")]
    mine = [a == t for a, t in zip(answers, truth)]
    print(f"{method} toque: {sum(mine)} of {len(mine)}", flush=True)

    clock = time.time()
    losses = train(model, train_rows, RATES[method])
    seconds.append(time.time() - clock)
    if method != "full":
        model.save_pretrained(f"{folder}/peft-{method}")
    model.eval()
    with torch.no_grad():
        other = [likeliest(model, prompt, choices) for prompt, _ in test_rows]
    with open(f"{folder}/peft-{method}.jsonl", "w") as f:
        for i, (a, t) in enumerate(zip(other, truth)):
            f.write(json.dumps({"row": i + 1, "label": t, "answer": a, "correct": a == t}) + "\n")
    peer = [a == t for a, t in zip(other, truth)]
    steps = [json.loads(line) for line in open(f"{ours}/metrics.jsonl")]
    steps = [m["loss"] for m in steps if "loss" in m]
    assert len(steps) == len(losses)
    for side, right, took in (("toque", mine, seconds[0]), ("PyTorch", peer, seconds[1])):
        low, high = interval(sum(right), len(right))
        print(f"{method:5} {side:8} {sum(right)} of {len(right)}: {100 * sum(right) / len(right):.1f} % ({low:.1f} to {high:.1f}), "
              f"trained in {took:.0f} s")
    b, c = sum(m and not p for m, p in zip(mine, peer)), sum(p and not m for m, p in zip(mine, peer))
    worst = max(abs(x - y) for x, y in zip(steps, losses))
    print(f"      {sum(x != y for x, y in zip(answers, other))} answers differ; right only by toque {b}, only by PyTorch {c}, "
          f"p = {mcnemar(b, c):.2f} (McNemar); losses of the steps differ by {worst:.3f} at most, the last by "
          f"{abs(steps[-1] - losses[-1]):.3f}", flush=True)
    del model
