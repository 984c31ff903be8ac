#!/usr/bin/env python3
"""Writes tests/kernels/data/quants.bin: random blocks and what the gguf package dequantizes them to, and values with
the blocks that it quantizes them to. Records: type, elements, kind (u32), the blocks, the values (f32), all
little-endian; kind 0 checks dequantization, 1 quantization. Needs numpy and gguf."""
import struct
import sys

import numpy as np
from gguf import quants
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as T

HALVES = {T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208]}
rng = np.random.default_rng(20240607)


def record(f, kind, qtype, blocks, values):
    f.write(struct.pack("<III", int(qtype), values.size, kind))
    f.write(blocks.tobytes())
    f.write(values.astype("<f4").tobytes())


def main(path):
    with open(path, "wb") as f:
        for qtype, halves in HALVES.items():
            block, size = GGML_QUANT_SIZES[qtype]
            n = 1 if block == 256 else 3
            raw = rng.integers(0, 256, (n, size), dtype=np.uint8)
            for at in halves:
                raw[:, at:at + 2] = rng.normal(0, 0.02, (n, 1)).astype("<f2").view(np.uint8)
            record(f, 0, qtype, raw, quants.dequantize(raw, qtype))
        for qtype in (T.F16, T.BF16, T.Q8_0, T.Q4_0, T.Q4_1):
            values = rng.normal(0, 1, (1, 64)).astype(np.float32)
            if qtype not in (T.F16, T.BF16):
                values[0, :32] *= 1e-3
                values[0, 32:] = np.round(values[0, 32:] * 4) / 4
            raw = values.astype("<f2") if qtype == T.F16 else quants.quantize(values, qtype)
            record(f, 1, qtype, raw, values)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "tests/kernels/data/quants.bin")
