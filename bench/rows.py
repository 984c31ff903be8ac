"""The rows of the table: what is measured of toque, and of whom else. See SPEED.md for the bars."""

import json
import os
import random
import subprocess

from measure import Failed, Row, Side, median

HERE = os.path.dirname(os.path.abspath(__file__))
WORDS = ("the of and to in is that for it was on are as with his they at be this from have or by one had not but what all "
         "were when we there can an your which their said if do will each about how up out them then she many some so these "
         "would other into has more her two like him see time could no make than first been its who now people my made over "
         "did down only way find use may water long little very after words called just where most know").split()


class Setup:
    """Where things are, and the files that rows need, made on first use in a temporary folder."""

    def __init__(self, root, build, model, python, folder, threads, priority):
        self.root, self.build, self.model, self.python, self.folder = root, build, model, python, folder
        self.threads, self.priority = threads, priority
        self.toque = os.path.join(build, "toque")

    def bench(self, name):
        return os.path.join(self.build, "bench", "bench_" + name)

    def peer(self, name, *arguments):
        return [self.python, "-W", "ignore", os.path.join(HERE, "peers", name), *map(str, arguments)]

    def gemm_engines(self):
        return subprocess.run([self.bench("gemm"), "engines"], check=True, stdout=subprocess.PIPE, text=True).stdout.split()

    def count_tokens(self, text):
        out = subprocess.run([self.toque, "tokenize", "-m", self.model, "--ids", "--quiet"], input=text.encode(), check=True,
                             stdout=subprocess.PIPE).stdout
        return len(out.split())

    def words(self, n, seed):
        """A text of n tokens: words that are one token each."""
        chosen = random.Random(seed).choices(WORDS, k=n)
        text = " ".join(chosen)
        if self.count_tokens(text) != n:
            raise Failed("the benchmark's words are not one token each in this model's vocabulary")
        return text

    def texts(self, rows, length):
        """A data file of rows of exactly `length` tokens, the end token included, all of them targets."""
        path = os.path.join(self.folder, f"texts-{rows}x{length}.jsonl")
        if not os.path.exists(path):
            with open(path, "w") as f:
                for i in range(rows):
                    f.write(json.dumps({"text": self.words(length - 1, i)}) + "\n")
        return path

    def documents(self):
        """WordNet's glosses (prose) and this project's sources, in documents of about 2 KB separated by NUL bytes."""
        path = os.path.join(self.folder, "documents")
        if os.path.exists(path):
            return path
        source = os.path.join(os.environ.get("WORDNET", "/usr/share/wordnet"), "data.noun")
        with open(source, encoding="utf-8") as f:
            glosses = [line.split("| ", 1)[1].strip() for line in f if "| " in line]
        lines = glosses[:12000]
        for folder, _, names in sorted(os.walk(os.path.join(self.root, "src"))):
            for name in sorted(names):
                if name.endswith((".c", ".h")):
                    lines += open(os.path.join(folder, name), encoding="utf-8").read().split("\n")
        documents, now = [], ""
        for line in lines:
            now += line + "\n"
            if len(now) > 2000:
                documents.append(now)
                now = ""
        with open(path, "w", encoding="utf-8") as f:
            f.write("\0".join(documents + [now]))
        return path

    def requantized(self, name):
        """The model in another of llama.cpp's formats."""
        path = os.path.join(self.folder, f"model-{name}.gguf")
        if not os.path.exists(path):
            subprocess.run(self.peer("llama_rates.py", self.model, "quantize", path, name), check=True,
                           stdout=subprocess.DEVNULL)
        return path


def rate(fields, _seconds, _folder):
    return fields["tokens_per_second"]


def tuned(rows, length):
    """Tokens per second of a step: the median of all steps but the first. Every step must have run all tokens."""

    def value(fields, _seconds, folder):
        with open(os.path.join(folder, "run", "metrics.jsonl")) as f:
            steps = [json.loads(line) for line in f]
        wrong = [s["tokens"] for s in steps if s["tokens"] != rows * length]
        if wrong or len(steps) < 3:
            raise Failed(f"{len(steps)} steps, with {wrong or 'right'} tokens instead of {rows * length}")
        return median([s["tokens_per_second"] for s in steps[1:]])

    return value


def passes(setup, *work):
    return Side("toque", [setup.bench("model"), setup.model, *map(str, work), str(setup.threads)], rate)


def llama(setup, model, *work, name="llama.cpp", value=rate, less=False):
    """llama.cpp at its best: flash attention on or off, whichever is faster in a trial."""
    sides = [Side(name, setup.peer("llama_rates.py", model, *work, *flash), value, python=True) for flash in ([], ["flash"])]
    trial = [side.run(setup.priority, setup.threads)["value"] for side in sides]
    return sides[trial.index(min(trial) if less else max(trial))]


def tune(setup, rows, length, *method, steps=6):
    argv = [setup.toque, "tune", "-m", setup.model, "-d", setup.texts(rows, length), "-o", "{folder}/run", "--batch-size",
            str(rows), "--max-steps", str(steps), "--max-length", str(length), "--threads", str(setup.threads), "--json",
            "--quiet", *method]
    return Side("toque", argv, tuned(rows, length))


def lora(setup, rows, length, rank=8, steps=6):
    return tune(setup, rows, length, "--rank", str(rank), steps=steps)


def peft(setup, mode, rows, length, rank=8, steps=5, model=None):
    argv = setup.peer("peft_lora.py", model or setup.model, mode, rows, length, rank, steps)
    return Side(f"PEFT {mode}" if rank else f"PyTorch {mode}", argv, rate, python=True)


Q4_0 = "llama.cpp Q4_0"


def decode(s, depth=16, n=128):
    """Tokens one after the other, behind depth others."""
    work = ("decode", depth, n)
    return Row("tokens/s", [passes(s, *work), lambda: llama(s, s.model, *work),
                            lambda: llama(s, s.requantized("Q4_0"), *work, name=Q4_0)],
               bars={"llama.cpp": 2}, aims={Q4_0: 1.4})


def streams(s):
    """Eight sequences together, in the library: no server is between."""
    work = ("streams", 8, 64)
    return Row("tokens/s", [passes(s, *work), lambda: llama(s, s.model, *work),
                            lambda: llama(s, s.requantized("Q4_0"), *work, name=Q4_0)],
               bars={"llama.cpp": 2}, aims={Q4_0: 2})


def lora_long(s, rows, length, rank=8):
    return Row("tokens/s", [lora(s, rows, length, rank, 4), lambda: peft(s, "bf16", rows, length, rank, 3)], pairs=3,
               bars={"PEFT bf16": 1.6})


def bandwidth(s):
    return Row("GB/s", [Side("toque", [s.bench("bandwidth"), str(s.threads)], lambda fields, *_: fields["gb_per_second"])])


def prefill(s):
    work = ("prefill", 512)
    return Row("tokens/s", [passes(s, *work), lambda: llama(s, s.model, *work),
                            lambda: llama(s, s.requantized("Q4_0"), *work, name=Q4_0)],
               bars={"llama.cpp": 4}, aims={Q4_0: 2})


def lora_short(s):
    return Row("tokens/s", [lora(s, 4, 256), lambda: peft(s, "bf16", 4, 256), lambda: peft(s, "f32", 4, 256)], pairs=3,
               bars={"PEFT bf16": 1.6}, aims={"PEFT bf16": 2}, peak=800e6)


def full(s, peak, *optimizer):
    """Full fine-tuning; the peer's AdamW holds its states in the weights' type."""
    return Row("tokens/s", [tune(s, 4, 256, "--method", "full", *optimizer), lambda: peft(s, "bf16", 4, 256, rank=0)],
               pairs=3, bars={"PyTorch bf16": 1.5}, aims={"PyTorch bf16": 2}, peak=peak)


def start(s):
    """Ours: the whole process. The peer: without the start of its Python and the loading of its library."""
    argv = [s.toque, "generate", "-m", s.model, "--raw", "-p", s.words(10, 1), "-n", "1", "--threads", str(s.threads),
            "--json", "--quiet"]
    return Row("s", [Side("toque", argv, lambda fields, seconds, folder: seconds),
                     lambda: llama(s, s.model, "first", 10, value=lambda fields, seconds, folder: fields["seconds"],
                                   less=True)], pairs=7, less=True,
               bars={"toque": 0.15}, aims={"toque": 0.06})


def tokenizing(s):
    def mb(fields, _seconds, _folder):
        return fields["mb_per_second"]

    return Row("MB/s", [Side("toque", [s.bench("tokenize"), s.model, s.documents()], mb),
                        lambda: Side("tokenizers", s.peer("tokenizers_rate.py", s.model, s.documents()), mb, python=True),
                        lambda: Side("llama.cpp", s.peer("llama_rates.py", s.model, "tokenize", s.documents()), mb,
                                     python=True)], bars={"toque": 10}, aims={"toque": 20})


GEMM_SHAPES = {"135M": (576, 1536), "1B": (2048, 8192), "7B": (4096, 11008)}  # C, F of the largest weight of a layer
GEMM_WORK = {"y": "XW'", "dx": "dYW", "dw": "dY'X"}


def product(s, compute, work, shape):
    """A product of 512 rows with a weight; the peers' are C libraries, so they are part of the short form too."""
    C, F = GEMM_SHAPES[shape]

    def side(engine):
        argv = [s.bench("gemm"), engine, compute, work, "512", str(C), str(F), str(s.threads)]
        return Side(engine, argv, lambda fields, seconds, folder: fields["gflop_per_second"])

    peers = [e for e in s.gemm_engines() if e != "toque" and (e, compute) != ("openblas", "bf16")]
    return Row("GFLOP/s", [side("toque")] + [lambda e=e: side(e) for e in peers], pairs=3, short_pairs=2, native=True)


# name: (what makes the row, whether it is part of the short form)
ROWS = {
    "read bandwidth": (bandwidth, True),
    "decode": (decode, True),
    "decode behind 1024": (lambda s: decode(s, 1024), False),
    "decode behind 4096": (lambda s: decode(s, 4096), False),
    "8 streams": (streams, False),
    "prefill 512": (prefill, True),
    "LoRA r8 4x256": (lora_short, True),
    "LoRA r64 4x256": (lambda s: lora_long(s, 4, 256, 64), False),
    "LoRA r8 1x1024": (lambda s: lora_long(s, 1, 1024), False),
    "LoRA r8 1x4096": (lambda s: lora_long(s, 1, 4096), False),
    "full 4x256": (lambda s: full(s, 3e9), True),
    "full 4x256, adamw8bit": (lambda s: full(s, 1.6e9, "--optimizer", "adamw8bit"), False),
    "start to first token": (start, True),
    "tokenizing, one core": (tokenizing, True),
} | {
    f"gemm {compute} {GEMM_WORK[work]} {shape}":
        (lambda s, compute=compute, work=work, shape=shape: product(s, compute, work, shape), True)
    for compute in ("f32", "bf16") for work in GEMM_WORK for shape in GEMM_SHAPES
}
