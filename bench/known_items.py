#!/usr/bin/env python3
"""A retrieval test from manual pages: known_items.py OUT MANDIR... [--most N]

Writes OUT/pages/NAME.SECTION, each page without its section NAME, and OUT/questions.jsonl for `toque rag eval`: the one
line that stood there ("list directory contents") asks for its page. Pages that only point to others, descriptions of
fewer than three or more than thirty words and those that several pages share are left out, and counted. Pages are taken in order of their
name; with --most, evenly spread over it.
"""
import argparse, gzip, json, os, re, sys

ESCAPES = {r"\-": "-", r"\(aq": "'", r"\(cq": "'", r"\(co": "(c)", r"\(en": "-", r"\(em": "-", r"\&": "", r"\ ": " ", r"\~": " ",
           r"\e": "\\", r"\(lq": '"', r"\(rq": '"', r"\(dq": '"', r"\|": "", r"\^": "", r"\c": "", r"\/": "", r"\,": ""}


def plain(text):
    text = re.sub(r"\\f(\[\w*\]|\(..|.)", "", text)
    text = re.sub(r"\\s[-+]?\d", "", text)
    text = re.sub(r"\\u?\[u([0-9A-Fa-f]{4})\]", lambda m: chr(int(m.group(1), 16)), text)
    for escape in sorted(ESCAPES, key=len, reverse=True):
        text = text.replace(escape, ESCAPES[escape])
    return " ".join(text.split())


def read(path):
    data = gzip.open(path).read() if path.endswith(".gz") else open(path, "rb").read()
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def take_apart(source):
    """(description, page without it), or None when the page has no such section."""
    lines = source.split("\n")
    start = next((i for i, l in enumerate(lines) if re.match(r'\.\s*S[Hh]\s+"?(NAME|NOM|Name|Nom)"?\s*$', l)), None)
    if start is None:
        return None
    end = next((i for i in range(start + 1, len(lines)) if re.match(r"\.\s*S[Hh]\b", lines[i])), len(lines))
    section = lines[start + 1 : end]
    described = [l for l in section if re.match(r"\.\s*Nd\b", l)]
    if described:
        description = plain(re.sub(r"^\.\s*Nd\s*", "", described[0]).strip('"'))
    else:
        words = " ".join(re.sub(r"^\.\s*(B|I|BR|IR|RB|R)\s+", "", l) for l in section
                         if not re.match(r"""^(['.]\\"|\.\s*(?!B |I |BR |IR |RB |R )\w)""", l))
        parts = re.split(r"\s(?:\\\(e[mn]|\\?-{1,2})\s", words, maxsplit=1)
        if len(parts) != 2:
            return None
        description = plain(parts[1])
    return description, "\n".join(lines[:start] + lines[end:])


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("out")
    p.add_argument("mandirs", nargs="+", metavar="MANDIR", help="as /usr/share/man/man1")
    p.add_argument("--most", type=int, default=0, help="at most so many pages (0: all)")
    o = p.parse_args()
    pages, left, seen = {}, {"link": 0, "no description": 0, "short": 0, "long": 0}, {}
    for folder in o.mandirs:
        for name in sorted(os.listdir(folder)):
            path = os.path.join(folder, name)
            if os.path.islink(path) or not os.path.isfile(path):
                left["link"] += 1
                continue
            source = read(path)
            if re.match(r"\s*\.so\b", source):
                left["link"] += 1
                continue
            parts = take_apart(source)
            if not parts:
                left["no description"] += 1
            elif len(parts[0].split()) < 3:
                left["short"] += 1
            elif len(parts[0].split()) > 30:
                left["long"] += 1
            else:
                pages[name.removesuffix(".gz")] = parts
                seen[parts[0].lower()] = seen.get(parts[0].lower(), 0) + 1
    names = [n for n in sorted(pages) if seen[pages[n][0].lower()] == 1]
    left["shared"] = len(pages) - len(names)
    if o.most and len(names) > o.most:
        names = [names[i * len(names) // o.most] for i in range(o.most)]
    if not names:
        sys.exit("no page with a description of its own in " + ", ".join(o.mandirs))
    os.makedirs(os.path.join(o.out, "pages"))
    with open(os.path.join(o.out, "questions.jsonl"), "w") as questions:
        for name in names:
            description, page = pages[name]
            with open(os.path.join(o.out, "pages", name), "w") as f:
                f.write(page)
            questions.write(json.dumps({"question": description, "document": "pages/" + name}, ensure_ascii=False) + "\n")
    print(f"{len(names)} pages and questions; left out: " + ", ".join(f"{n} {why}" for why, n in left.items()))


if __name__ == "__main__":
    main()
