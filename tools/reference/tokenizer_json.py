"""Small tokenizer.json files of every kind that is read, and the ids that Hugging Face's tokenizers give random texts.

    python tools/reference/tokenizer_json.py tests/text/data/hf

Writes NAME.json for each kind and cases.txt, whose lines are

    NAME HEX-OF-UTF8 ID ID ...

with the post-processor's special tokens. Vocabularies are trained on this project's own documents.
"""
import json
import pathlib
import random
import sys
import unicodedata

from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors,
                        trainers)

SEED, CASES, SIZE = 20261, 40, 420
QWEN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
        r"\s+(?!\S)|\s+")
ROOT = pathlib.Path(__file__).resolve().parents[2]
CORPUS = [line for name in ("README.md", "docs/style.md", "docs/training.md")
          for line in (ROOT / name).read_text().splitlines()] + ["naïve café Übergröße 12345", "東京 は 日本"] * 3


def bytes_of():
    return pre_tokenizers.ByteLevel.alphabet()


def byte_level(name):
    tok = Tokenizer(models.BPE(ignore_merges=name == "llama3"))
    if name == "gpt2":
        tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    elif name == "digits":
        tok.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    else:
        regex = QWEN if name == "qwen2" else QWEN.replace(r"\p{N}|", r"\p{N}{1,3}|")
        tok.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(regex), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)])
    if name == "qwen2":
        tok.normalizer = normalizers.NFC()
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=SIZE, initial_alphabet=bytes_of(), show_progress=False,
                                    special_tokens=["<|begin|>", "<|end|>"]))
    tok.add_tokens([AddedToken("<tool>", normalized=False)])
    if name == "llama3":
        tok.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing(
            single="<|begin|> $A", special_tokens=[("<|begin|>", tok.token_to_id("<|begin|>"))])])
    return tok


def characters(name):
    """SentencePiece's form: bytes as tokens, spaces as U+2581."""
    train = Tokenizer(models.BPE())
    train.normalizer = normalizers.Replace(" ", "▁")
    if name != "gemma":
        train.pre_tokenizer = pre_tokenizers.Metaspace("▁", "always")
    train.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=SIZE - 256, show_progress=False))
    trained = json.loads(train.to_str())["model"]
    vocab = {t: i for i, t in enumerate(["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)])}
    for token, _ in sorted(trained["vocab"].items(), key=lambda x: x[1]):
        vocab.setdefault(token, len(vocab))
    tok = Tokenizer(models.BPE(vocab, [tuple(m) for m in trained["merges"]], unk_token="<unk>", fuse_unk=True,
                               byte_fallback=True))
    if name == "llama2":
        tok.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    elif name == "gemma":
        tok.normalizer = normalizers.Replace(" ", "▁")
        tok.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    else:
        tok.pre_tokenizer = pre_tokenizers.Metaspace("▁", name[4:], split=False)
    tok.add_special_tokens([AddedToken(t, normalized=False) for t in ("<unk>", "<s>", "</s>")])
    tok.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tok


def wordpiece(cased):
    tok = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tok.normalizer = normalizers.BertNormalizer(lowercase=not cased)
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tok.train_from_iterator(CORPUS, trainers.WordPieceTrainer(
        vocab_size=SIZE, show_progress=False, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]))
    tok.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(t, tok.token_to_id(t)) for t in ("[CLS]", "[SEP]")])
    tok.decoder = decoders.WordPiece()
    return tok


def assigned(rng, low, high):
    while True:
        c = rng.randrange(low, high)
        if not 0xD800 <= c < 0xE000 and unicodedata.category(chr(c)) != "Cn":
            return chr(c)


def text(rng):
    out = ""
    for _ in range(rng.randrange(1, 14)):
        out += rng.choice([
            lambda: rng.choice("abcdefghijklmnopqrstuvwxyz") * rng.randrange(1, 3),
            lambda: rng.choice([" the", " model's", "Adapter", " rows'LL", "naïve", "Über", "cafe\u0301", "A\u030a"]),
            lambda: " " * rng.randrange(1, 5),
            lambda: rng.choice(["\n", "\n\n", "\r\n", "\t", "\u00a0", "\u3000", "\u180e", "\u200b", " \n "]),
            lambda: str(rng.randrange(0, 100000)),
            lambda: rng.choice(["<tool>", "<|end|>", "</s>", "[SEP]", "<0x41>", "▁", "##a", "<"]),
            lambda: assigned(rng, 0x20, 0x300),
            lambda: assigned(rng, 0x300, 0x3100),
            lambda: assigned(rng, 0x4E00, 0x10000),
            lambda: assigned(rng, 0x10000, 0x20000),
            lambda: rng.choice("!?.,;:-()'\"#@")])()
    return out


folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
kinds = {n: byte_level(n) for n in ("gpt2", "digits", "qwen2", "llama3")}
kinds |= {n: characters(n) for n in ("llama2", "gemma", "metafirst", "metaalways")}
kinds |= {"bert": wordpiece(False), "bertcased": wordpiece(True)}
lines = []
for name, tok in kinds.items():
    compact = json.dumps(json.loads(tok.to_str()), ensure_ascii=False, separators=(",", ":"))
    (folder / f"{name}.json").write_text(compact + "\n")
    rng = random.Random(SEED)
    for _ in range(CASES):
        t = text(rng)
        lines.append(" ".join([name, t.encode().hex()] + [str(i) for i in tok.encode(t).ids]))
(folder / "cases.txt").write_text("\n".join(lines) + "\n")
