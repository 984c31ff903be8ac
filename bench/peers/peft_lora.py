"""LoRA steps with transformers and PEFT, or with RANK 0 steps of full fine-tuning: SEQUENCES rows of LENGTH tokens, AdamW
on what is trained, gradients clipped as ours are; a warm-up step, then STEPS timed ones. MODEL is a GGUF file (its weights dequantized) or the name of a shape
(weights random: for speed only).

Usage: peft_lora.py MODEL f32|bf16|autocast SEQUENCES LENGTH [RANK [STEPS [TARGETS [sdpa|eager [compile]]]]]
TARGETS: how many tokens at the end of each row are targets (0: all)."""

import os
import sys

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from common import SHAPES, THREADS, median, realtime, report, some_token, timed

sys.path.append(os.path.join(os.path.dirname(__file__), "../../tools/reference"))


def random_model(name, dtype):
    C, F, L, H, G, tied = SHAPES[name]
    config = LlamaConfig(vocab_size=49152, hidden_size=C, intermediate_size=F, num_hidden_layers=L,
                         num_attention_heads=H, num_key_value_heads=G, tie_word_embeddings=tied)
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    model = model.to(dtype).to_empty(device="cpu")
    with torch.no_grad():
        for p in model.parameters():
            p.uniform_(-0.02, 0.02)
        rotary = model.model.rotary_emb
        model.model.rotary_emb = type(rotary)(config)  # its frequencies were on no device
    model.tie_weights()
    return model


def gguf_model(path, dtype):
    from llama_gguf import load
    return load(path).to(dtype)


def main(name, mode, sequences, length, rank="8", steps="5", targets="0", attention="sdpa", compiled=""):
    torch.set_num_threads(THREADS)
    sequences, length, targets = int(sequences), int(length), int(targets)
    realtime()
    dtype = torch.bfloat16 if mode == "bf16" else torch.float32
    model = (random_model if name in SHAPES else gguf_model)(name, dtype)
    model.config._attn_implementation = attention
    model.config.use_cache = False
    if int(rank):
        model = get_peft_model(model, LoraConfig(r=int(rank), lora_alpha=2 * int(rank), target_modules="all-linear",
                                                 task_type="CAUSAL_LM"))
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4 if int(rank) else 2e-5, weight_decay=0)
    size = model.config.vocab_size
    ids = torch.tensor([[some_token(r * length + i, size) for i in range(length)] for r in range(sequences)])
    labels = ids.clone()
    if targets:
        labels[:, :length - targets] = -100
    run = torch.compile(model) if compiled else model

    def step():
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mode == "autocast"):
            loss = run(input_ids=ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        assert torch.isfinite(loss)

    first = timed(step)
    seconds = [timed(step) for _ in range(int(steps))]
    report(tokens_per_second=sequences * length / median(seconds), first_seconds=first)


main(*sys.argv[1:])
