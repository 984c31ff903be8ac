"""llama.cpp's rates through llama-cpp-python's bindings of its C interface: the passes of bench/bench_model.c, the same
ids, greedy choice, no text. Flash attention is on or off as the last argument says.

Usage: llama_rates.py MODEL prefill N | decode DEPTH N | streams K N  [flash]
       llama_rates.py MODEL first N            seconds from opening the file to the first token of an N-token prompt
       llama_rates.py MODEL tokenize DOCUMENTS
       llama_rates.py MODEL quantize OUT Q4_0  the same model in its format of best speed"""

import ctypes
import sys
import time

import llama_cpp
from llama_cpp import llama_cpp as api

from common import THREADS, median, realtime, report, some_token, timed

REPEATS = 4
STREAM_DEPTH = 16
FILE_TYPES = {"Q4_0": 2}


@ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
def only_errors(level, text, _):
    if level == 4:
        sys.stderr.write(text.decode(errors="replace"))


class Engine:
    def __init__(self, path, context, sequences=1, flash=False, batch=512, vocabulary_only=False):
        p = api.llama_model_default_params()
        p.n_gpu_layers = 0
        p.vocab_only = vocabulary_only
        self.model = api.llama_model_load_from_file(path.encode(), p)
        assert self.model, path
        self.vocabulary = api.llama_model_get_vocab(self.model)
        self.size = api.llama_vocab_n_tokens(self.vocabulary)
        if vocabulary_only:
            return
        c = api.llama_context_default_params()
        c.n_ctx, c.n_batch, c.n_ubatch, c.n_seq_max = context * sequences, batch, batch, sequences
        c.n_threads = c.n_threads_batch = THREADS
        c.flash_attn_type = 1 if flash else 0
        c.kv_unified = False
        self.context = api.llama_init_from_model(self.model, c)
        assert self.context
        self.memory = api.llama_get_memory(self.context)
        self.greedy = api.llama_sampler_init_greedy()
        self.batch = api.llama_batch_init(max(batch, 16), 0, 1)

    def run(self, rows):
        """rows: (token, position, sequence, whether its logits are wanted)."""
        b = self.batch
        b.n_tokens = len(rows)
        for i, (token, position, sequence, wanted) in enumerate(rows):
            b.token[i], b.pos[i], b.n_seq_id[i], b.logits[i] = token, position, 1, wanted
            b.seq_id[i][0] = sequence
        assert api.llama_decode(self.context, b) == 0

    def prompt(self, n):
        """Runs n tokens in batches of 512; returns the token that follows."""
        for at in range(0, n, 512):
            part = range(at, min(n, at + 512))
            self.run([(some_token(i, self.size), i, 0, i == n - 1) for i in part])
        return api.llama_sampler_sample(self.greedy, self.context, -1)

    def clear(self):
        api.llama_memory_clear(self.memory, True)


def prefill(e, n):
    seconds = []
    for _ in range(REPEATS + 1):
        e.clear()
        seconds.append(timed(lambda: e.prompt(n)))
    report(tokens_per_second=n / median(seconds[1:]), first_seconds=seconds[0])


def decode(e, depth, n):
    token = e.prompt(depth)

    def step(at):
        nonlocal token
        e.run([(token, at, 0, True)])
        token = api.llama_sampler_sample(e.greedy, e.context, -1)

    step(depth)
    seconds = timed(lambda: [step(depth + 1 + i) for i in range(n)])
    report(tokens_per_second=n / seconds)


def streams(e, k, n):
    e.run([(some_token(s * STREAM_DEPTH + i, e.size), i, s, i == STREAM_DEPTH - 1)
           for s in range(k) for i in range(STREAM_DEPTH)])
    tokens = [api.llama_sampler_sample(e.greedy, e.context, s * STREAM_DEPTH + STREAM_DEPTH - 1) for s in range(k)]

    def step(at):
        e.run([(tokens[s], at, s, True) for s in range(k)])
        for s in range(k):
            tokens[s] = api.llama_sampler_sample(e.greedy, e.context, s)

    step(STREAM_DEPTH)
    seconds = timed(lambda: [step(STREAM_DEPTH + 1 + i) for i in range(n)])
    report(tokens_per_second=k * n / seconds)


def tokenize(e, path):
    data = open(path, "rb").read()
    documents = data.split(b"\0")
    room = (api.llama_token * (max(map(len, documents)) + 8))()
    total = 0

    def all_of_them():
        nonlocal total
        total = sum(api.llama_tokenize(e.vocabulary, d, len(d), room, len(room), False, True) for d in documents)

    seconds, begin = [], time.perf_counter()
    while len(seconds) < 2 or time.perf_counter() - begin < 1:
        seconds.append(timed(all_of_them))
    report(mb_per_second=len(data) / min(seconds) / 1e6, tokens=total, bytes=len(data))


def quantize(path, out, name):
    p = api.llama_model_quantize_default_params()
    p.ftype, p.allow_requantize, p.nthread = FILE_TYPES[name], True, THREADS
    assert api.llama_model_quantize(path.encode(), out.encode(), ctypes.byref(p)) == 0
    report(file=out)


def main(path, work, *arguments):
    flash = arguments[-1] == "flash"
    numbers = [int(a) for a in arguments if a.isdigit()]
    api.llama_log_set(only_errors, None)
    realtime()
    if work == "first":
        start = time.perf_counter()
        api.llama_backend_init()
        Engine(path, 512, flash=flash).prompt(numbers[0])
        report(seconds=time.perf_counter() - start, version=llama_cpp.__version__)
        return
    api.llama_backend_init()
    if work == "prefill":
        prefill(Engine(path, numbers[0] + 8, flash=flash), *numbers)
    elif work == "decode":
        decode(Engine(path, sum(numbers) + 8, flash=flash), *numbers)
    elif work == "streams":
        streams(Engine(path, STREAM_DEPTH + numbers[1] + 8, numbers[0], flash), *numbers)
    elif work == "tokenize":
        tokenize(Engine(path, 8, vocabulary_only=True), arguments[0])
    elif work == "quantize":
        quantize(path, *arguments)
    else:
        sys.exit(__doc__)


main(*sys.argv[1:])
