"""Makes tests/infer/data/cases.json: what transformers (f32, the GGUF file dequantized) says about greedy continuations,
log-probabilities of chosen tokens and a text's perplexity.
Usage: infer_cases.py MODEL.gguf tests/infer/data/text.txt > tests/infer/data/cases.json"""

import json
import os
import sys

import numpy as np
import torch
from transformers import AutoTokenizer

from llama_gguf import load

torch.set_num_threads(int(os.environ.get("THREADS", "1")))
path = sys.argv[1]
text = open(sys.argv[2], encoding="utf-8").read()
model = load(path)
tokenizer = AutoTokenizer.from_pretrained(os.path.dirname(path), gguf_file=os.path.basename(path))
N = 64
MIN_GAP = 0.02  # between the two likeliest tokens at every step: no test depends on a near-tie

PROMPTS = [
    "What is the capital of France?", "Write a haiku about the sea.", "Name three rivers.", "Explain what a prime number is.",
    "Translate 'good morning' into Spanish.", "Give me a recipe for pancakes.", "Who wrote Hamlet?",
    "List the planets of the solar system.", "What is photosynthesis?", "Tell me a short story about a fox.",
    "How do I sort a list in Python?", "What causes the seasons?", "Describe a sunset.", "What is 12 times 12?",
    "Why is the sky blue?", "Give two tips for learning a language.",
]


def chat(prompt):
    return ("<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
            f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n")


def greedy(ids):
    """N tokens, end tokens never drawn (as with --ignore-eos), or None when a step is a near-tie."""
    out, past, new = [], None, torch.tensor([ids])
    ends = [tokenizer.convert_tokens_to_ids(t) for t in ("<|im_end|>", "<|endoftext|>")]
    smallest = 9.0
    while len(out) < N:
        result = model(new, past_key_values=past, use_cache=True)
        past, row = result.past_key_values, result.logits[0, -1].log_softmax(-1)
        row[ends] = -torch.inf
        best = torch.topk(row, 2)
        smallest = min(smallest, (best.values[0] - best.values[1]).item())
        if smallest < MIN_GAP:
            return None, smallest
        out.append(best.indices[0].item())
        new = torch.tensor([[out[-1]]])
    return out, smallest


def log_probs(ids):
    rows = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return [0.0] + [rows[i - 1, ids[i]].item() for i in range(1, len(ids))]


with torch.no_grad():
    cases = []
    for prompt in PROMPTS:
        ids = tokenizer(chat(prompt), add_special_tokens=False).input_ids
        out, gap = greedy(ids)
        print(prompt, "gap", gap, file=sys.stderr, flush=True)
        if out:
            cases.append({"prompt": prompt, "prompt_tokens": ids, "tokens": out})
        if len(cases) == 5:
            break

    random = np.random.RandomState(0)
    sequences = []
    ids = tokenizer(text, add_special_tokens=False).input_ids
    for begin, n in ((0, 40), (40, 7), (60, 90), (3, 2)):
        part = ids[begin:begin + n]
        sequences.append({"tokens": part, "target": (random.rand(n) < 0.6).astype(int).tolist(),
                          "logp": [round(x, 6) for x in log_probs(part)]})
    longer = random.randint(20, 40000, size=700).tolist()  # over one pass of 512 rows
    logp = log_probs(longer)
    at = list(range(1, 700, 25)) + [511, 512, 513, 514, 699]
    long_case = {"tokens": longer, "at": at, "logp": [round(logp[i], 6) for i in at], "sum": sum(logp)}

    windows = []
    for context, stride in ((64, 64), (64, 24), (4096, 4096)):
        total, count, scored_to, begin = 0.0, 0, 0, 0
        while scored_to < len(ids):
            window = ids[begin:begin + context]
            logp = log_probs(window)
            for i in range(1, len(window)):
                if begin + i >= scored_to:
                    total -= logp[i]
                    count += 1
            scored_to = begin + len(window)
            begin += stride
        windows.append({"context": context, "stride": stride, "tokens": count, "nll": total / count})

json.dump({"greedy": cases, "score": sequences, "long": long_case, "text_tokens": len(ids), "perplexity": windows}, sys.stdout,
          separators=(",", ":"))
print()
