"""Embeddings by sentence-transformers (f32).

    python tools/reference/embeddings.py FOLDER expect > tests/infer/data/embeddings.txt
    python tools/reference/embeddings.py FOLDER compare build/toque [--compute X]

expect: a few texts, each a line: its first 8 values and the text. compare: 200 random texts of 1 to 400 words through
`toque embed --truncate`, and the smallest cosine and largest difference of a value to sentence-transformers'.
"""
import json
import random
import subprocess
import sys

import numpy as np
from sentence_transformers import SentenceTransformer

TEXTS = [
    "Hello world",
    "How do I get my money back?",
    "The refund policy allows returns within thirty days of purchase.",
    "Übergröße, naïve café — 東京タワーは高い。",
    "x",
    "def f(a, b):\treturn a[b] ** 2  # comment",
    "Zero\u200bwidth, soft\u00adhyphen, \U0001F642 and <tags> [in brackets].",
    "a" * 120 + " unknown",
    " ".join(["adapters are small trained additions to a frozen model"] * 12),
]
WORDS = ("time person year way day thing man world life hand part child eye woman place work week case point company "
         "number group problem fact be have do say get make go know take see come think look want give use find tell "
         "good new first last long great little own other old right big high different small large next early Zürich "
         "naïve 東京 3.14 2024 don't e-mail, (yes) foo_bar https://example.org/x?y=1 antidisestablishmentarianism").split()

model = SentenceTransformer(sys.argv[1], device="cpu")
if sys.argv[2] == "expect":
    for text, v in zip(TEXTS, model.encode(TEXTS)):
        print(*(f"{x:.7f}" for x in v[:8]), text, sep=" ")
    sys.exit()
rng = random.Random(7)
texts = TEXTS + [" ".join(rng.choice(WORDS) for _ in range(int(10 ** rng.uniform(0, 2.6)))) for _ in range(191)]
out = subprocess.run([sys.argv[3], "embed", "-m", sys.argv[1], "--truncate", *sys.argv[4:]], input="\n".join(texts),
                     capture_output=True, text=True, check=True)
ours = np.array([json.loads(line) for line in out.stdout.splitlines()])
theirs = model.encode(texts)
cosine = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
print(out.stderr.strip())
for i in np.argsort(cosine)[:3]:
    print(f"{cosine[i]:.9f} {texts[i][:60]!r}")
print(f"{len(texts)} texts, smallest cosine {cosine.min():.9f}, largest difference {np.abs(ours - theirs).max():.2e}")
