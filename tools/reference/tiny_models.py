"""Tiny random models of every family by transformers (f32): configurations, tensors, log-probabilities or hidden
states, and gradients.

    python tools/reference/tiny_models.py > tests/model/data/families.txt

Weights come from a small hash that the test repeats, so the file holds none. A line is

    FAMILY config JSON
    FAMILY tokens ID...
    FAMILY tensor NAME ROWS COLS BASE SCALE GRADIENT     ROWS 0: a vector; values BASE + SCALE * u(NAME, i), u in
                                                         [-1/2, 1/2); GRADIENT: of the loss along u("d" + NAME), or -
    FAMILY logp VALUE...                                 of each token after the first; the loss is minus their mean
    FAMILY hidden VALUE...                               (encoders) mean over the rows; the loss is its product with
                                                         u("loss")
"""
import json

import numpy as np
import torch
from transformers import (BertConfig, BertModel, Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM,
                          Qwen3Config, Qwen3ForCausalLM)

V, N = 424, 14
SMALL = dict(vocab_size=V, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
             max_position_embeddings=64)
FAMILIES = {
    "llama": (LlamaForCausalLM, LlamaConfig(
        **SMALL, num_key_value_heads=2, rope_theta=500000.0, tie_word_embeddings=False,
        rope_scaling=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                          original_max_position_embeddings=32))),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config(**SMALL, num_key_value_heads=2, head_dim=16, tie_word_embeddings=True)),
    "gemma3": (Gemma3ForCausalLM, Gemma3TextConfig(
        **SMALL, num_key_value_heads=2, head_dim=16, query_pre_attn_scalar=24, sliding_window=4,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"])),
    "bert": (BertModel, BertConfig(**SMALL)),
}


def u(name, n):
    h = 0x811C9DC5
    for b in name.encode():
        h = (h ^ b) * 0x01000193 & 0xFFFFFFFF
    x = (np.arange(n, dtype=np.uint64) * 2654435761 + h) & 0xFFFFFFFF
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = (x ^ (x >> np.uint64(shift))) * factor & 0xFFFFFFFF
    x ^= x >> np.uint64(16)
    return (x >> np.uint64(8)).astype(np.float64) / 2**24 - 0.5


def numbers(values):
    return " ".join(f"{v:.9g}" for v in values)


def fill(name, n, family):
    """Start values of a tensor, with their base and scale."""
    norm = "norm" in name.lower() and name.endswith("weight")
    base = 1 if norm and family != "gemma3" else 0
    scale = 0.6 if norm or name.endswith("bias") else 2 if "embed" in name else 0.5
    return (base + scale * u(name, n)).astype(np.float32), base, scale


def main():
    for family, (kind, config) in FAMILIES.items():
        torch.manual_seed(0)
        model = kind(config).eval()
        tensors = []
        for name, p in model.named_parameters():
            if name.startswith("pooler."):
                p.requires_grad = False
            values, base, scale = fill(name, p.numel(), family)
            p.data = torch.tensor(values).reshape(p.shape)
            tensors.append((name, p, base, scale))
        ids = [int(i) for i in (u("tokens", N) + 0.5) * 400]
        if family == "bert":
            out = model(torch.tensor([ids])).last_hidden_state[0].mean(0)
            loss = (out * torch.tensor(u("loss", 32), dtype=torch.float32)).sum()
        else:
            logits = model(torch.tensor([ids])).logits[0].log_softmax(-1)
            out = logits[torch.arange(N - 1), torch.tensor(ids[1:])]
            loss = -out.mean()
        loss.backward()
        text = config.to_dict()
        text["architectures"] = [kind.__name__]
        print(family, "config", json.dumps({k: v for k, v in text.items() if v is not None}))
        print(family, "tokens", *ids)
        for name, p, base, scale in tensors:
            inside = family == "bert" or ".layers." in name
            rows, cols = (0, p.shape[0]) if p.dim() == 1 else p.shape
            along = (p.grad.double().flatten() * torch.tensor(u("d" + name, p.numel()))).sum() if inside and p.grad is not None else None
            print(family, "tensor", name, rows, cols, base, scale, "-" if along is None else f"{along:.9g}")
        print(family, "hidden" if family == "bert" else "logp", numbers(out.tolist()))


if __name__ == "__main__":
    main()
