"""sentence-transformers' rate on the texts of bench_embed: FOLDER f32|bf16 < TEXTS. The best of some rounds."""
import sys
import time

import torch
from sentence_transformers import SentenceTransformer

torch.set_num_threads(2)
model = SentenceTransformer(sys.argv[1], device="cpu")
if sys.argv[2] == "bf16":
    model = model.to(torch.bfloat16)
texts = sys.stdin.read().splitlines()
tokens = sum(len(ids) for ids in model.tokenizer(texts)["input_ids"])
best = None
for i in range(6):
    start = time.perf_counter()
    model.encode(texts, batch_size=int(sys.argv[3]) if len(sys.argv) > 3 else 32, show_progress_bar=False)
    seconds = time.perf_counter() - start
    if i and (best is None or seconds < best):
        best = seconds
print(f"sentence-transformers {sys.argv[2]}: {tokens / best:.0f} tokens/s, {len(texts) / best:.1f} texts/s")
