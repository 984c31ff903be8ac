"""A run with a head against PEFT over transformers: loads the run folder as an adapter of
AutoModelForSequenceClassification (or ...ForTokenClassification), gives it the texts of a JSONL file, and compares its
probabilities with those that `toque predict` wrote into it. Development aid: pip install torch transformers peft.

Usage: head_peft.py BASE RUN ANSWERS.jsonl      (BASE: a Hugging Face folder; ANSWERS: {"text", "label", "probability"})
Prints the largest difference; exit status 1 when it is above 1e-3."""
import json
import sys

import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

base, run, answers = sys.argv[1:]
head = json.load(open(run + "/head.json"))
kind = head["heads"][0]["kind"]
keys = {k: head[k] for k in ("num_labels", "id2label", "label2id", "problem_type") if head.get(k)}
if "id2label" in keys:
    keys["id2label"] = {int(k): v for k, v in keys["id2label"].items()}
auto = AutoModelForTokenClassification if kind == "tag" else AutoModelForSequenceClassification
model = PeftModel.from_pretrained(auto.from_pretrained(base, dtype=torch.float32, **keys), run).eval()
tokenizer = AutoTokenizer.from_pretrained(base)
worst, n = 0.0, 0
for line in open(answers):
    row = json.loads(line)
    with torch.no_grad():
        logits = model(**tokenizer(row["text"], return_tensors="pt")).logits[0]
    if kind == "classify":
        p = logits.softmax(-1)
        assert keys["id2label"][int(p.argmax())] == row["label_2" if "label_2" in row else "label"]
        difference = abs(float(p.max()) - row["probability"])
    elif kind == "regress":
        h = head["heads"][0]
        difference = abs(float(logits[0]) - (row["value"] - h["mean"]) / h["deviation"])
    elif kind == "multilabel":
        p = logits.sigmoid()
        difference = max([abs(float(p[head["label2id"][l]]) - q) for l, q in zip(row["labels"], row["probabilities"])] or [0])
    else:
        classes = [keys["id2label"][int(i)] for i in logits[1:-1].argmax(-1)]
        difference = 0.0 if sum(c[0] == "B" for c in classes) == sum(1 for s in row["spans"]) else 1.0
    worst, n = max(worst, difference), n + 1
print(f"{n} rows, largest difference {worst:.2e}")
sys.exit(worst > 1e-3)
