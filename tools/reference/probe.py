#!/usr/bin/env python3
"""TF-IDF features and logistic regression of scikit-learn on a few texts, for tests/eval/test_probe.c.
usage: probe.py >tests/eval/data/probe.json (needs scikit-learn)"""
import json
import random

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_union

random.seed(3)
words = {"animal": "dog cat fur tail paw barks Ünïcode".split(), "food": "bread soup salt tasty eat baked x_1".split(),
         "place": "city river map north Straße hill 42".split()}
common = "the a of with is very old I to".split()
texts, labels = [], []
for i in range(36):
    label = list(words)[i % 3]
    own = words[label] if random.random() < 0.8 else sum(words.values(), [])
    text = [random.choice(own + common) for _ in range(random.randint(2, 9))]
    sep = random.choice([" ", "  ", ", ", "\n"])
    texts.append(sep.join(text) + random.choice(["", ".", "!", "\t"]))
    labels.append(label)
train, test = slice(0, 27), slice(27, 36)
union = make_union(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
                   TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True))
a, b = union.fit_transform(texts[train]), union.transform(texts[test])
model = LogisticRegression(C=10, tol=1e-9, max_iter=10000).fit(a, labels[train])
rng = np.random.default_rng(5)
dense = rng.normal(size=(40, 4)).round(4)
classes = (dense @ rng.normal(size=(4, 3)) + rng.normal(size=(40, 3))).argmax(1)
small = LogisticRegression(C=0.5, tol=1e-9, max_iter=10000).fit(dense, classes)
r = lambda x: np.asarray(x).round(7).tolist()
print(json.dumps({
    "train": texts[train], "labels": labels[train], "test": texts[test], "terms": a.shape[1],
    "train_values": [sorted(r(a[i].data)) for i in range(a.shape[0])],
    "test_values": [sorted(r(b[i].data)) for i in range(b.shape[0])],
    "c": 10, "probabilities": r(model.predict_proba(b)),
    "dense": dense.tolist(), "classes": classes.tolist(), "dense_c": 0.5,
    "coefficients": r(small.coef_), "intercepts": r(small.intercept_)}, ensure_ascii=True))
