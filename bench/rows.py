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

    def answered(self, rows, length, targets):
        """Rows of exactly `length` tokens of which the answer has `targets`."""
        path = os.path.join(self.folder, f"answers-{rows}x{length}.jsonl")

        def write(question, answer):
            with open(path, "w") as f:
                for i in range(rows):
                    f.write(json.dumps({"prompt": self.words(question, i), "completion": self.words(answer, i + rows)}) + "\n")

        def count():
            out = subprocess.run([self.toque, "data", "inspect", "-m", self.model, path, "--json", "--quiet", "-n", "1"],
                                 check=True, stdout=subprocess.PIPE).stdout
            row = json.loads(out)["shown"][0]
            return row["tokens"], row["target_tokens"]

        write(8, 8)
        tokens, learned = count()
        answer = targets - (learned - 8)
        write(length - (tokens - 16) - answer, answer)
        if count() != (length, targets):
            raise Failed(f"answered rows have {count()} tokens instead of {(length, targets)}")
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

    def synthetic(self, shape, type):
        """A model of a known shape with random weights."""
        path = os.path.join(self.folder, f"{shape}-{type}.gguf")
        if not os.path.exists(path):
            subprocess.run([os.path.join(self.build, "bench", "make_model"), path, shape, type, self.model], check=True)
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


def passes(setup, *work, model=None):
    return Side("toque", [setup.bench("model"), model or setup.model, *map(str, work), str(setup.threads)], rate)


def llama(setup, model, *work, name="llama.cpp", value=rate, less=False):
    """llama.cpp at its best: flash attention on or off, whichever is faster in a trial."""
    sides = [Side(name, setup.peer("llama_rates.py", model, *work, *flash), value, python=True) for flash in ([], ["flash"])]
    trial = [side.run(setup.priority, setup.threads)["value"] for side in sides]
    return sides[trial.index(min(trial) if less else max(trial))]


def tune(setup, rows, length, *method, steps=6, model=None, data=None):
    argv = [setup.toque, "tune", "-m", model or setup.model, "-d", data or setup.texts(rows, length), "-o", "{folder}/run",
            "--batch-size", str(rows), "--max-steps", str(steps), "--max-length", str(length), "--threads",
            str(setup.threads), "--json", "--quiet", *method]
    return Side("toque", argv, tuned(rows, length))


def lora(setup, rows, length, rank=8, steps=6, model=None, data=None):
    return tune(setup, rows, length, "--rank", str(rank), steps=steps, model=model, data=data)


def peft(setup, mode, rows, length, rank=8, steps=5, model=None, targets=0):
    argv = setup.peer("peft_lora.py", model or setup.model, mode, rows, length, rank, steps, targets)
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


def lora_answers(s):
    """A third of the tokens are targets."""
    return Row("tokens/s", [lora(s, 4, 256, data=s.answered(4, 256, 85)), lambda: peft(s, "bf16", 4, 256, targets=85)],
               pairs=3, bars={"PEFT bf16": 1.6})


def shaped(s, shape, type, *work):
    model = s.synthetic(shape, type)
    return Row("tokens/s", [passes(s, *work, model=model), lambda: llama(s, model, *work)], pairs=3,
               bars={"llama.cpp": 1 if work[0] == "decode" else 1.5})


def lora_shaped(s, shape, type):
    """PEFT has the same shape in bf16 weights."""
    return Row("tokens/s", [lora(s, 4, 512, 16, 3, s.synthetic(shape, type)),
                            lambda: peft(s, "bf16", 4, 512, 16, 1, shape)], pairs=1, bars={"PEFT bf16": 1.5}, peak=2.5e9)


def two_processes(s):
    """Two programs decode at once, each with all threads; the share of one alone that they reach together. Without
    real-time priority: who waits for a thread that has no core must give its own away, as in ordinary use."""
    argv = ["chrt", "--other", "0", s.bench("model"), s.model, "decode", "16", "512", str(s.threads)]
    script = "import json,subprocess,sys\n" \
        "def start(): return subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE)\n" \
        "def rates(ps): return [json.loads(p.communicate()[0])['tokens_per_second'] for p in ps]\n" \
        "alone = rates([start()])[0]\n" \
        "both = rates([start(), start()])\n" \
        "print(json.dumps({'tokens_per_second': sum(both) / alone, 'alone': alone, 'both': both}))"
    return Row("of one", [Side("toque", ["python3", "-c", script, *argv], rate)], bars={"toque": 0.85})


def evening(s, shape, type=None):
    """Rows of 200 tokens that are seen three times in 8 hours of tuning (LoRA of rank 16)."""
    side = lora(s, 8, 200, 16, 3, s.synthetic(shape, type) if type else None)
    per_second = side.value
    side.value = lambda *about: per_second(*about) * 8 * 3600 / 600
    return Row("rows", [side], pairs=1)


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
    """A product of 512 rows with a weight; most peers are C libraries, so they are part of the short form too."""
    C, F = GEMM_SHAPES[shape]

    def side(engine):
        argv = [s.bench("gemm"), engine, compute, work, "512", str(C), str(F), str(s.threads)]
        return Side(engine, argv, lambda fields, seconds, folder: fields["gflop_per_second"])

    def torch():
        return Side("torch", s.peer("torch_gemm.py", compute, work, 512, C, F),
                    lambda fields, seconds, folder: fields["gflop_per_second"], python=True)

    peers = [e for e in s.gemm_engines() if e != "toque" and (e, compute) != ("openblas", "bf16")]
    return Row("GFLOP/s", [side("toque")] + [lambda e=e: side(e) for e in peers] + ([torch] if s.python else []), pairs=3,
               short_pairs=2, native=True)


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
    "LoRA r8 4x256, a third": (lora_answers, False),
    "1B Q4_K: decode": (lambda s: shaped(s, "llama-1b", "q4_k", "decode", 16, 32), False),
    "1B Q4_K: prefill 512": (lambda s: shaped(s, "llama-1b", "q4_k", "prefill", 512), False),
    "1B Q8_0: decode": (lambda s: shaped(s, "llama-1b", "q8_0", "decode", 16, 32), False),
    "7B Q4_K: decode": (lambda s: shaped(s, "llama-7b", "q4_k", "decode", 16, 16), False),
    "7B Q8_0: decode": (lambda s: shaped(s, "llama-7b", "q8_0", "decode", 16, 16), False),
    "1B Q4_K: LoRA r16 4x512": (lambda s: lora_shaped(s, "llama-1b", "q4_k"), False),
    "1B Q8_0: LoRA r16 4x512": (lambda s: lora_shaped(s, "llama-1b", "q8_0"), False),
    "an evening: 135M": (lambda s: evening(s, None), False),
    "an evening: 0.5B": (lambda s: evening(s, "llama-0.5b", "q8_0"), False),
    "an evening: 1B": (lambda s: evening(s, "llama-1b", "q8_0"), False),
    "an evening: 3B": (lambda s: evening(s, "llama-3b", "q8_0"), False),
    "two processes": (two_processes, False),
    "full 4x256": (lambda s: full(s, 3e9), True),
    "full 4x256, adamw8bit": (lambda s: full(s, 1.6e9, "--optimizer", "adamw8bit"), False),
    "start to first token": (start, True),
    "tokenizing, one core": (tokenizing, True),
} | {
    f"gemm {compute} {GEMM_WORK[work]} {shape}":
        (lambda s, compute=compute, work=work, shape=shape: product(s, compute, work, shape), True)
    for compute in ("f32", "bf16") for work in GEMM_WORK for shape in GEMM_SHAPES
}
