"""How far products in bf16 and int8 move log-probabilities. docs/precision.md has the figures.

`cases` makes tests/infer/data/precision.json: two dozen rows (questions with sampled answers, of which the answer is
scored, and paragraphs of this project's docs) and the log-probability that transformers gives each target in f32, the
GGUF file dequantized. `peers` measures PyTorch's bf16 autocast and llama.cpp, decoding token by token, on those rows;
`f64` measures the reference itself against double precision.

Usage: precision.py MODEL.gguf cases > tests/infer/data/precision.json
       precision.py MODEL.gguf peers|f64 tests/infer/data/precision.json
Development aid: pip install torch transformers gguf llama-cpp-python."""

import json
import os
import sys

import torch
from transformers import AutoTokenizer

from llama_gguf import load

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
QUESTIONS = [
    "What should I pack for three days in the mountains?", "Explain what an index in a database is for.",
    "Write two sentences about an old lighthouse.", "How does a bicycle stay upright?",
    "Give me an idea for a birthday present for my father.", "What is the difference between weather and climate?",
    "Summarize what a contract is in one sentence.", "How do I boil an egg?", "Why do leaves change their colour in autumn?",
    "Name a good habit for saving money and say why it works.", "What does a compiler do?",
    "Write a polite reply to a customer whose parcel is late.",
]
ANSWER, PARAGRAPHS, LONGEST = 48, 12, 96


def log_probs(model, ids, **options):
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=options.get("bf16", False)):
        logits = model(torch.tensor([ids])).logits[0]
    rows = logits.double().log_softmax(-1)
    return [0.0] + [rows[i - 1, ids[i]].item() for i in range(1, len(ids))]


def answer(model, ids):
    """The ids and up to ANSWER sampled ones behind them."""
    past, new = None, ids
    with torch.no_grad():
        for _ in range(ANSWER):
            result = model(torch.tensor([new]), past_key_values=past, use_cache=True)
            past, row = result.past_key_values, result.logits[0, -1]
            new = [torch.multinomial((row / 0.8).softmax(-1), 1).item()]
            ids = ids + new
            if ids[-1] == 2:
                break
    return ids


def paragraphs():
    found = []
    for name in ("README.md", "docs/style.md", "docs/architecture.md"):
        for part in open(os.path.join(ROOT, name), encoding="utf-8").read().split("\n\n"):
            if len(part) > 200 and "|" not in part and "```" not in part:
                found.append(part)
    return found[:PARAGRAPHS]


def cases(path):
    torch.manual_seed(0)
    model = load(path)
    tokenizer = AutoTokenizer.from_pretrained(os.path.dirname(path), gguf_file=os.path.basename(path))
    rows = []
    for question in QUESTIONS:
        prompt = ("<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
                  f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n")
        ids = tokenizer(prompt, add_special_tokens=False).input_ids
        rows.append((answer(model, ids), len(ids)))
    for text in paragraphs():
        rows.append((tokenizer(text, add_special_tokens=False).input_ids[:LONGEST], 1))
    out = [{"tokens": ids, "first": first, "logp": [round(x, 5) for x in log_probs(model, ids)[first:]]}
           for ids, first in rows]
    print("[" + ",\n".join(json.dumps(row, separators=(",", ":")) for row in out) + "]")


def compare(name, rows, of_row):
    """Mean |difference| a token, the largest difference of a row's mean, and the mean difference with its sign."""
    total, count, signed, worst = 0.0, 0, 0.0, 0.0
    for row in rows:
        differences = [a - b for a, b in zip(of_row(row["tokens"])[row["first"]:], row["logp"])]
        total += sum(map(abs, differences))
        signed += sum(differences)
        count += len(differences)
        worst = max(worst, abs(sum(differences) / len(differences)))
    print(f"{name}: {count} tokens, mean |difference| {total / count:.5f}, worst row mean {worst:.5f}, mean {signed / count:+.6f}",
          flush=True)


def llama_decode(path):
    import llama_cpp
    engine = llama_cpp.Llama(path, n_ctx=512, n_threads=2, n_threads_batch=2, logits_all=False, verbose=False)
    size = engine.n_vocab()

    def of_row(ids):
        engine.reset()
        out = [0.0]
        for i, token in enumerate(ids[:-1]):
            engine.eval([token])
            logits = torch.tensor(llama_cpp.llama_get_logits(engine.ctx)[:size], dtype=torch.float64)
            out.append(logits.log_softmax(-1)[ids[i + 1]].item())
        return out

    return of_row


def main(path, what, cases_path=None):
    torch.set_num_threads(int(os.environ.get("THREADS", "1")))
    if what == "cases":
        return cases(path)
    rows = json.load(open(cases_path))
    if what == "f64":
        model = load(path).double()
        compare("transformers f32, written, against f64", rows, lambda ids: log_probs(model, ids))
        return
    model = load(path)
    compare("transformers f32", rows, lambda ids: log_probs(model, ids))
    compare("PyTorch bf16 autocast", rows, lambda ids: log_probs(model, ids, bf16=True))
    half = load(path).bfloat16()
    compare("PyTorch bf16 weights", rows, lambda ids: log_probs(half, ids))
    compare("llama.cpp, token by token", rows, llama_decode(path))


main(*sys.argv[1:])
