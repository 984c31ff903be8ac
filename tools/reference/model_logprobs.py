"""Makes tests/model/data/logprobs.txt: 100 random tokens and the log-probability that transformers (f32) gives each
after the ones before it. Usage: model_logprobs.py MODEL.gguf > tests/model/data/logprobs.txt"""

import sys

import numpy as np
import torch

from llama_gguf import load

model = load(sys.argv[1])
ids = np.random.RandomState(0).randint(20, 40000, size=100)
with torch.no_grad():
    logp = model(torch.tensor(ids)[None]).logits[0].log_softmax(-1)
for i, token in enumerate(ids):
    print(token, f"{logp[i - 1, token].item() if i else 0:.6f}")
