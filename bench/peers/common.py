"""What the peers' drivers share. A driver does one kind of work with another program and prints one JSON object with
the fields that our own programs print; bench/run.py starts it with the peers' Python."""

import json
import os
import time

THREADS = int(os.environ.get("BENCH_THREADS", "2"))
# Shapes of the synthetic models, as bench/make_model.c has them: C, F, L, H, G, tied.
SHAPES = {"llama-0.5b": (896, 4864, 24, 14, 2, True), "llama-1b": (2048, 8192, 16, 32, 8, True),
          "llama-3b": (3072, 8192, 28, 24, 8, True), "llama-7b": (4096, 11008, 32, 32, 32, False)}


def realtime():
    """Real-time priority for every thread of this process (as our programs have) when bench/run.py asks for it; imports
    run before, without it."""
    if os.environ.get("BENCH_REALTIME") == "1":
        for thread in os.listdir("/proc/self/task"):
            os.sched_setscheduler(int(thread), os.SCHED_RR, os.sched_param(10))


def median(values):
    values = sorted(values)
    n = len(values)
    return values[n // 2] if n % 2 else (values[n // 2 - 1] + values[n // 2]) / 2


def timed(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def some_token(i, size):
    """The ids that bench_model runs."""
    return ((i * 2654435761 & 0xFFFFFFFF) >> 8) % size


def report(**fields):
    print(json.dumps(fields), flush=True)
