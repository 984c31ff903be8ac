"""Hugging Face tokenizers on one core over the documents that bench_tokenize reads.
Usage: tokenizers_rate.py MODEL.gguf DOCUMENTS"""

import os
import sys
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
from transformers import AutoTokenizer  # noqa: E402

from common import realtime, report, timed  # noqa: E402

folder, name = os.path.split(sys.argv[1])
tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name).backend_tokenizer
data = open(sys.argv[2], "rb").read()
documents = data.decode().split("\0")
total = 0


def all_of_them():
    global total
    total = sum(len(e.ids) for e in tokenizer.encode_batch_fast(documents, add_special_tokens=False))


realtime()
seconds, begin = [], time.perf_counter()
while len(seconds) < 2 or time.perf_counter() - begin < 1:
    seconds.append(timed(all_of_them))
report(mb_per_second=len(data) / min(seconds) / 1e6, tokens=total, bytes=len(data))
