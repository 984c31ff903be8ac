"""A GGUF llama or qwen2 model as transformers' LlamaForCausalLM or Qwen2ForCausalLM in float32: every tensor dequantized, the rows of q and k
moved back to Hugging Face's order. Development aid: pip install torch transformers gguf."""

import numpy as np
import torch
from gguf import GGUFReader, dequantize
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM


def load(path):
    reader = GGUFReader(path)
    tensors = {t.name: t for t in reader.tensors}

    arch = reader.fields["general.architecture"].contents()
    qwen2 = arch == "qwen2"

    def number(key, fallback=None):
        field = reader.fields.get(f"{arch}.{key}")
        return field.contents() if field else fallback

    def get(name):
        t = tensors[name]
        shape = list(reversed(t.shape.tolist()))
        return torch.from_numpy(np.array(dequantize(t.data, t.tensor_type), dtype=np.float32).reshape(shape))

    def unmove(w, heads):
        if qwen2:
            return w
        dim = w.shape[0] // heads
        return w.reshape(heads, dim // 2, 2, -1).swapaxes(1, 2).reshape(w.shape)

    heads, kv_heads, layers = number("attention.head_count"), number("attention.head_count_kv"), number("block_count")
    config = (Qwen2Config if qwen2 else LlamaConfig)(
        vocab_size=int(tensors["token_embd.weight"].shape[1]), hidden_size=number("embedding_length"),
        intermediate_size=number("feed_forward_length"), num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=kv_heads, max_position_embeddings=number("context_length"),
        rope_theta=number("rope.freq_base", 10000.0), rms_norm_eps=number("attention.layer_norm_rms_epsilon"),
        tie_word_embeddings="output.weight" not in tensors, attn_implementation="eager")
    model = (Qwen2ForCausalLM if qwen2 else LlamaForCausalLM)(config).float().eval()
    state = model.state_dict()
    state["model.embed_tokens.weight"] = get("token_embd.weight")
    state["lm_head.weight"] = get("output.weight" if "output.weight" in tensors else "token_embd.weight")
    state["model.norm.weight"] = get("output_norm.weight")
    names = {"self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate",
             "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
             "post_attention_layernorm": "ffn_norm"}
    for l in range(layers):
        for hf, gguf in names.items():
            state[f"model.layers.{l}.{hf}.weight"] = get(f"blk.{l}.{gguf}.weight")
        state[f"model.layers.{l}.self_attn.q_proj.weight"] = unmove(get(f"blk.{l}.attn_q.weight"), heads)
        state[f"model.layers.{l}.self_attn.k_proj.weight"] = unmove(get(f"blk.{l}.attn_k.weight"), kv_heads)
        for p in "qkv" if qwen2 else "":
            state[f"model.layers.{l}.self_attn.{p}_proj.bias"] = get(f"blk.{l}.attn_{p}.bias").flatten()
    model.load_state_dict(state)
    return model
