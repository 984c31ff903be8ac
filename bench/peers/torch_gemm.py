"""torch's product of 512 rows with a weight, from plain row-major operands, as bench/bench_gemm.c counts it.

Usage: torch_gemm.py f32|bf16 y|dx|dw T C F"""

import sys
import time

import torch

from common import THREADS, realtime, report


def main(compute, work, T, C, F):
    T, C, F = int(T), int(C), int(F)
    torch.set_num_threads(THREADS)
    realtime()
    dtype = torch.bfloat16 if compute == "bf16" else torch.float32
    torch.manual_seed(1)
    m, n, k = {"y": (T, F, C), "dx": (T, C, F), "dw": (F, C, T)}[work]
    x, w, dy = (torch.rand(shape).to(dtype) for shape in ((T, C), (F, C), (T, F)))
    product = {"y": lambda: torch.nn.functional.linear(x, w), "dx": lambda: dy @ w, "dw": lambda: dy.t() @ x}[work]
    least, begin, runs = 1e30, time.perf_counter(), 0
    while runs < 3 or time.perf_counter() - begin < 0.4:
        start = time.perf_counter()
        product()
        least = min(least, time.perf_counter() - start)
        runs += 1
    report(gflop_per_second=2e-9 * m * n * k / least, m=m, n=n, k=k)


main(*sys.argv[1:])
