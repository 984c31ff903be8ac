"""Expected token ids of random Unicode for the real model, by Hugging Face's tokenizers.

    python tools/reference/tokenizer.py MODEL.gguf > tests/text/data/smollm2_unicode.txt

The tokenizer is built from the GGUF file's vocabulary and merges and SmolLM2's pre-tokenizer (digits alone, then GPT-2's
words over bytes). A line of the output is

    P|S HEX-OF-UTF8 ID ID ...

P: control tokens are ordinary text; S: they are recognized. Characters that Unicode 14 has not assigned are not drawn,
since libraries differ in the Unicode version that tells letters from other characters.
"""
import random
import sys
import unicodedata

import gguf
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

SEED, CASES = 20240607, 300
CONTROL = 3


def read(path):
    fields = gguf.GGUFReader(path).fields
    return [fields["tokenizer.ggml." + key].contents() for key in ("tokens", "merges", "token_type")]


def build(tokens, merges):
    model = models.BPE({t: i for i, t in enumerate(tokens)}, [tuple(m.split(" ")) for m in merges])
    tok = Tokenizer(model)
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    return tok


def assigned(rng, low, high):
    while True:
        c = rng.randrange(low, high)
        if not 0xD800 <= c < 0xE000 and unicodedata.category(chr(c)) != "Cn":
            return chr(c)


WORDS = "the quick Brown fox's can't WE'LL I'd naïve Straße élan 12 3.14 0x1F foo_bar() -- ... https://x.y/z?a=b&c".split()
SPACES = [" ", "  ", "   ", "\t", "\n", "\r\n", "\n\n", "\u00a0", "\u2003", "\u3000", "\u0085", "\u180e", "\u200b", "\x0b"]
MARKS = ["\u0301", "\u0308", "\u0323", "\u20dd", "\u093f", "\u200d", "\ufe0f"]
LIKE = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|im_start", "|im_end|>", "<|im_end|>>", "<file_sep>", "<|im_|>"]


def piece(rng):
    kind = rng.randrange(12)
    if kind == 0: return rng.choice(WORDS)
    if kind == 1: return " " + rng.choice(WORDS)
    if kind == 2: return rng.choice(SPACES)
    if kind == 3: return rng.choice(SPACES) + rng.choice(SPACES)
    if kind == 4: return assigned(rng, 0x20, 0x250) + rng.choice(MARKS)
    if kind == 5: return assigned(rng, 0x250, 0x3000)
    if kind == 6: return assigned(rng, 0x3000, 0x10000)
    if kind == 7: return assigned(rng, 0x10000, 0x20000)
    if kind == 8: return assigned(rng, 0x20000, 0x110000)
    if kind == 9: return rng.choice(["😀", "👩‍🚀", "🇩🇪", "🦙", "❤️", "\U0001F3FD"])
    if kind == 10: return "".join(rng.choice("0123456789٣५①½") for _ in range(rng.randrange(1, 5)))
    return chr(rng.choice([0, 1, 4, 7, 8, 0x14, 0x16, 0x1B, 0x7F, 0x9F, 0xAD, 0xFEFF, 0xFFFD, 0xFFFF, 0x10FFFF]))


def main():
    tokens, merges, types = read(sys.argv[1])
    plain, special = build(tokens, merges), build(tokens, merges)
    special.add_special_tokens(
        [AddedToken(t, special=True, normalized=False) for t, k in zip(tokens, types) if k == CONTROL])
    rng = random.Random(SEED)
    for case in range(CASES):
        parts = [piece(rng) for _ in range(rng.randrange(1, 9))]
        if case % 5 == 0:
            parts.insert(rng.randrange(len(parts) + 1), rng.choice(LIKE))
        text = "".join(parts)
        for mode, tok in (("P", plain), ("S", special)):
            if mode == "P" or case % 5 == 0:
                ids = tok.encode(text, add_special_tokens=False).ids
                print(mode, text.encode().hex(), *ids)


main()
