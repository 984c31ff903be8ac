"""Expectations of tests/train/test_methods.c: loss, gradients and five steps of every method on the tests' small models,
by transformers and PEFT in f32. Development aid: pip install torch transformers peft gguf.

Usage: methods.py BUILD [CASE...] > tests/train/data/methods.txt      (BUILD/tests/train/write_small_model writes the models)
Lines: `case NAME MODEL`, `smoothed VALUE` (the loss with label smoothing before step 0), `grad TENSOR ROWS COLS NORM DOT` (a probe: sum of g_i cos(0.3 i + 1)), `loss STEP VALUE`.
Start values come from a formula (see `fill`), so both sides need no file."""
import math
import os
import subprocess
import sys
import tempfile

import torch
from peft import IA3Config, LNTuningConfig, LoraConfig, PrefixTuningConfig, PromptTuningConfig, VeraConfig, get_peft_model, get_peft_model_state_dict

from llama_gguf import load

STEPS, DECAY = 5, 0.1
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def fnv(name):
    h = 14695981039346656037
    for byte in name.encode():
        h = (h ^ byte) * 1099511628211 % 2**64
    return h


def fill(name, t, scale):
    """Small numbers that depend on the tensor's name: set for low-rank matrices, added to all others."""
    i = torch.arange(t.numel(), dtype=torch.float64)
    wave = scale * torch.sin(0.7 * i + fnv(name) % 1000 / 100)
    old = 0 if any(x in name for x in ("lora_A", "lora_B", "vera_", "prompt_")) else t.double().flatten()
    t.copy_((old + wave).reshape(t.shape).float())


def rows():
    for r in range(6):
        tokens = [5 + 11 * r]
        for t in range(1, 6 + 3 * r):
            tokens.append((tokens[-1] * 5 + 3 + t) % 64)
        yield tokens, [t > 0 and (t + r) % 4 != 0 for t in range(len(tokens))]


def saved_name(name):
    """The name in adapter_model.safetensors."""
    if name.startswith("prompt_encoder"):
        return "prompt_embeddings"
    name = name.replace(".modules_to_save.default", "").replace(".default", "")
    return name.removesuffix(".weight") if "magnitude" in name else name


def loss_of(model, smoothing=0.0):
    total, n = 0.0, 0
    for tokens, target in rows():
        logits = model(torch.tensor([tokens])).logits[0, -len(tokens):-1]  # a prompt's rows stand before
        labels = torch.tensor([i if t else -100 for i, t in zip(tokens, target)])[1:]
        total = total + torch.nn.functional.cross_entropy(logits, labels, reduction="sum", label_smoothing=smoothing)
        n += int((labels >= 0).sum())
    return total / n


def run(case, arch, path, config=None, trained=None, lr=1e-2, ratio=1.0, scale=0.05, smoothing=0.0):
    if sys.argv[2:] and case not in sys.argv[2:]:
        return
    torch.manual_seed(1)
    model = load(path)
    if config:
        model = get_peft_model(model, config)
    params = {}
    for name, p in model.named_parameters():
        if not config:
            p.requires_grad_(trained(name))
        if p.requires_grad:
            params[saved_name(name) if config else name] = p
    if config:
        have = {k for k in get_peft_model_state_dict(model) if k not in ("base_model.vera_A", "base_model.vera_B")}
        assert have == set(params), have ^ set(params)
    with torch.no_grad():
        for name, p in params.items() if scale else ():
            fill(name, p, scale)
    model.train()
    groups = []
    for name, p in params.items():
        plain = ("norm" in name or "bias" in name) and "lora" not in name
        faster = "lora_B" in name or "magnitude" in name
        groups.append({"params": [p], "weight_decay": 0 if plain else DECAY, "lr": lr * (ratio if faster else 1)})
    optimizer = torch.optim.AdamW(groups)
    print(f"case {case} {arch}")
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = loss_of(model, smoothing)
        loss.backward()
        with torch.no_grad():
            nll = loss_of(model).item() if smoothing else loss.item()
        print(f"loss {step} {nll:.8g}")
        if step == 0 and smoothing:
            print(f"smoothed {loss.item():.8g}")
        if step == 0:
            for name, p in params.items():
                g = p.grad.double().flatten()
                probe = torch.cos(0.3 * torch.arange(g.numel(), dtype=torch.float64) + 1)
                r, c = (p.shape[0], p.shape[1]) if p.dim() == 2 else (1, p.shape[0])
                print(f"grad {name} {r} {c} {g.norm().item():.7g} {(g * probe).sum().item():.7g}")
        torch.nn.utils.clip_grad_norm_(list(params.values()), 1.0)
        optimizer.step()


def lora(**more):
    return LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": ALL, "task_type": "CAUSAL_LM", **more})


folder = tempfile.mkdtemp()
for arch in ("llama", "qwen2"):
    path = os.path.join(folder, arch + ".gguf")
    subprocess.run([sys.argv[1] + "/tests/train/write_small_model", arch, path], check=True)
    run("lora", arch, path, lora())
    run("lora_patterns", arch, path, lora(rank_pattern={"q_proj": 2, "layers.1.mlp.up_proj": 6},
                                          alpha_pattern={"k_proj": 3}))
    run("lora_modules", arch, path, lora(use_rslora=True, target_modules=["q_proj", "down_proj"],
                                         modules_to_save=["embed_tokens", "post_attention_layernorm"]))
    run("loraplus", arch, path, lora(), lr=2e-3, ratio=4.0)
    run("dora", arch, path, lora(use_dora=True))
    run("pissa", arch, path, lora(init_lora_weights="pissa"), lr=1e-3, scale=0.0)
    run("vera", arch, path, VeraConfig(r=8, target_modules=ALL, task_type="CAUSAL_LM"))
    run("ia3", arch, path, IA3Config(target_modules=["k_proj", "v_proj", "down_proj"],
                                     feedforward_modules=["down_proj"], task_type="CAUSAL_LM"))
    run("prefix", arch, path, PrefixTuningConfig(num_virtual_tokens=5, task_type="CAUSAL_LM"), scale=0.5)
    run("prompt", arch, path, PromptTuningConfig(num_virtual_tokens=5, task_type="CAUSAL_LM"), scale=0.5)
    run("norms", arch, path, LNTuningConfig(target_modules=["input_layernorm", "post_attention_layernorm", "norm"],
                                            task_type="CAUSAL_LM"))
    run("full", arch, path, trained=lambda n: True, lr=1e-3, scale=0.0)
    run("freeze", arch, path, trained=lambda n: ".layers.1." in n, lr=1e-3, scale=0.0)
run("bitfit", "qwen2", path, trained=lambda n: n.endswith(".bias"))
for arch in ("llama", "qwen2"):
    run("smoothed", arch, os.path.join(folder, arch + ".gguf"), lora(), smoothing=0.2)
