"""Runs the rows of bench/rows.py and prints what they say. Started by script/bench, which builds first; see its usage."""

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
import tempfile

import rows as rows_module
from measure import Failed, Priority, warn


def machine(setup):
    """What a result holds for: the CPU, the instruction set, the program."""
    info = json.loads(subprocess.run([setup.toque, "info", "--json"], check=True, stdout=subprocess.PIPE).stdout)
    cpu = "unknown"
    if os.path.exists("/proc/cpuinfo"):
        found = dict(re.findall(r"^(model name|cpu family|model|stepping)\s*: (.*)$", open("/proc/cpuinfo").read(), re.M))
        cpu = f"{found.get('model name', cpu)} {found.get('cpu family')}/{found.get('model')}/{found.get('stepping')}"
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=setup.root, stdout=subprocess.PIPE, text=True)
    return {"cpu": cpu, "isa": info["isa"], "compute": info["compute"], "commit": commit.stdout.strip(),
            "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")}


def last_medians(path, where):
    """Our own figures of the last time on the same CPU, instruction set and thread count."""
    found = {}
    if os.path.exists(path):
        with open(path) as f:
            for line in f:
                old = json.loads(line)
                if old["side"] == "toque" and all(old[k] == where[k] for k in ("cpu", "isa", "threads")):
                    found[old["row"]] = old
    return found


def figure(x):
    return f"{x:.0f}" if x >= 1000 else f"{x:.4g}"


def print_row(name, row, results, before):
    for r in results:
        notes = row.verdict(r)
        if "tokens" in r and r["tokens"] != results[0].get("tokens"):
            warn(f"{name}: {r['side']} made {r['tokens']} tokens and toque {results[0]['tokens']}: not the same work")
        if "ratio" in r:
            notes.insert(0, f"{r['ratio']:.2f}x ({min(r['ratios']):.2f} to {max(r['ratios']):.2f})")
        elif name in before:
            old = before[name]
            change = old["median"] / r["median"] if row.less else r["median"] / old["median"]
            notes.insert(0, f"{change:.2f}x of {old['commit']}")
        print(f"{name if r is results[0] else '':24} {r['side']:16} {figure(r['median']):>9} {row.unit:9} "
              f"[{figure(r['min'])}, {figure(r['max'])}]  peak {r['peak_bytes'] / 1e9:.3f} GB  {', '.join(notes)}", flush=True)


def main():
    p = argparse.ArgumentParser(prog="script/bench")
    p.add_argument("--full", action="store_true")
    p.add_argument("--peers", metavar="VENV")
    p.add_argument("--only", metavar="REGEX", default="")
    p.add_argument("--pairs", type=int)
    p.add_argument("--threads", type=int, default=0)
    p.add_argument("--isa", choices=["avx2"])
    p.add_argument("--save", metavar="FILE", default="bench.jsonl")
    p.add_argument("--normal-priority", action="store_true")
    p.add_argument("--build", required=True)
    p.add_argument("--model", required=True)
    a = p.parse_args()
    root = os.path.dirname(rows_module.HERE)
    threads = a.threads or len(os.sched_getaffinity(0))
    if a.isa:  # everyone; the peers' llama.cpp must have been compiled so
        os.environ |= {"TOQUE_ISA": "avx2", "ATEN_CPU_CAPABILITY": "avx2", "DNNL_MAX_CPU_ISA": "AVX2",
                       "MKL_ENABLE_INSTRUCTIONS": "AVX2", "OPENBLAS_CORETYPE": "Haswell"}
    priority = Priority(not a.normal_priority)
    status = 0
    with tempfile.TemporaryDirectory(prefix="toque-bench-") as folder:
        python = os.path.join(a.peers, "bin", "python") if a.peers else None
        setup = rows_module.Setup(root, a.build, a.model, python, folder, threads, priority)
        where = dict(machine(setup), threads=threads, realtime=priority.on)
        print(f"{where['cpu']}, {where['isa']}, {threads} threads, commit {where['commit']}, "
              f"{'real-time' if priority.on else 'normal'} priority; median [min, max]; a ratio above 1 is in our favour")
        before = last_medians(a.save, where)
        for name, (make, short) in rows_module.ROWS.items():
            if not re.search(a.only, name) or not (a.full or a.only or short):
                continue
            try:
                row = make(setup)
                results, incomplete = row.measure(name, a.full, priority, threads, a.pairs)
                status |= incomplete
            except (Failed, subprocess.CalledProcessError) as e:
                warn(f"{name}: {e}")
                status = 1
                continue
            print_row(name, row, results, before)
            with open(a.save, "a") as f:
                for r in results:
                    f.write(json.dumps({**r, **where}) + "\n")
    return status


sys.exit(main())
