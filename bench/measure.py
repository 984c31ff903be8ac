"""Measuring: programs that print one JSON object are run, ours and its peer by turns, and what they report is kept with
the peak memory of each child. Used by bench/run.py."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time


def median(values):
    values = sorted(values)
    n = len(values)
    return values[n // 2] if n % 2 else (values[n // 2 - 1] + values[n // 2]) / 2


def warn(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


class Failed(Exception):
    pass


class Priority:
    """Measured children run with real-time priority where this machine lets them, so that other work does not disturb."""

    def __init__(self, wanted=True):
        probe = ["chrt", "-r", "10", "true"]
        self.on = wanted and shutil.which("chrt") is not None and subprocess.run(probe, stderr=subprocess.DEVNULL).returncode == 0

    def prefix(self):
        return ["chrt", "-r", "10"] if self.on else []


class Side:
    """One program's way of doing a row's work. argv: what to run. value: takes (fields, seconds, folder) of a run, the
    object it printed, its wall time and its empty folder, and gives the row's figure. {folder} in argv stands for that
    folder. python: a driver of a peer, which takes its priority itself once its imports are done."""

    def __init__(self, name, argv, value, python=False):
        self.name, self.argv, self.value, self.python = name, argv, value, python

    def run(self, priority, threads):
        env = dict(os.environ, BENCH_REALTIME=str(int(priority.on)), BENCH_THREADS=str(threads),
                   OMP_NUM_THREADS=str(threads))
        with tempfile.TemporaryDirectory(prefix="toque-bench-") as folder:
            argv = [a.replace("{folder}", folder) for a in self.argv]
            if not self.python:
                argv = priority.prefix() + argv
            with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as log:
                start = time.perf_counter()
                child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=log, env=env)
                _, status, usage = os.wait4(child.pid, 0)
                seconds = time.perf_counter() - start
                child.returncode = os.waitstatus_to_exitcode(status)
                out.seek(0)
                text = out.read().decode(errors="replace")
                if child.returncode != 0:
                    log.seek(0)
                    raise Failed(f"{' '.join(argv)}: exit {child.returncode}\n{log.read().decode(errors='replace')[-2000:]}")
            fields = json.loads(text.strip().splitlines()[-1])
            return {"value": self.value(fields, seconds, folder), "peak": usage.ru_maxrss * 1024, "fields": fields}


class Row:
    """A line of the table. sides[0] is ours; the others are functions that make the peers' (they may have to write a file
    first), which are measured with --full alone unless they are native programs. bars and aims: the ratios that must and
    should be reached, by the peer's name; under our own name the figure itself. peak: the bytes that must not be passed.
    less: the figure is better when smaller, and its ratio is turned round. A ratio above 1 is always in our favour."""

    def __init__(self, unit, sides, pairs=5, less=False, bars=None, aims=None, peak=None, short_pairs=3, native=False):
        self.unit, self.sides, self.less, self.native = unit, sides, less, native
        self.pairs, self.short_pairs = pairs, short_pairs
        self.bars, self.aims, self.peak = bars or {}, aims or {}, peak

    def verdict(self, result):
        """What is reached of what was set for a side."""
        notes, mine = [], "ratio" not in result
        figure = result["median"] if mine else result["ratio"]
        for word, table in (("bar", self.bars), ("aim", self.aims)):
            if result["side"] in table:
                set_at = table[result["side"]]
                reached = figure <= set_at if mine and self.less else figure >= set_at
                notes.append(f"{word} {set_at:g}: {'reached' if reached else 'NOT REACHED'}")
        if mine and self.peak:
            within = result["peak_bytes"] <= self.peak
            notes.append(f"at most {self.peak / 1e9:g} GB: {'kept' if within else 'NOT KEPT'}")
        return notes

    def measure(self, name, full, priority, threads, pairs=None):
        """A result for each side: its figures, in order of the runs, which alternate between the sides; and whether a
        peer had to be left out."""
        sides = [self.sides[0]] + ([make() for make in self.sides[1:]] if full or self.native else [])
        runs = [[] for _ in sides]
        failed = []
        for _ in range(pairs or (self.pairs if full else self.short_pairs)):
            for i, side in enumerate(sides):
                if side in failed:
                    continue
                try:
                    runs[i].append(side.run(priority, threads))
                except Failed as e:  # the others go on; ours must run
                    if i == 0:
                        raise
                    warn(f"{name}: {side.name} left out: {e}")
                    failed.append(side)
        ours = [r["value"] for r in runs[0]]
        results = []
        for side, mine in zip(sides, runs):
            if side in failed:
                continue
            values = [r["value"] for r in mine]
            result = {"row": name, "side": side.name, "unit": self.unit, "median": median(values), "min": min(values),
                      "max": max(values), "values": values, "peak_bytes": max(r["peak"] for r in mine)}
            result |= {k: v for k, v in mine[-1]["fields"].items() if k in ("tokens", "bytes_per_pass", "version")}
            if side is not sides[0]:
                result["ratios"] = [b / a if self.less else a / b for a, b in zip(ours, values)]
                result["ratio"] = median(result["ratios"])
            results.append(result)
        return results, bool(failed)
