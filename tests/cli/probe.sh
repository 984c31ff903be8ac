#!/bin/sh
# toque probe: shares worked out again from the rows' lines, pairing with itself and its own kind, bad input.
# shellcheck source=tests/shell.inc
. "$(dirname "$0")/../shell.inc"
unset TOQUE_MODEL
cd "$work" || exit 1
cat >make.py <<'END2'
import random
random.seed(4)
words = {'fruit': 'apple pear plum sweet juice tree'.split(), 'tool': 'hammer saw drill steel nail sharp'.split(),
         'sea': 'wave salt fish ship tide deep'.split()}
def rows(name, n, extra=''):
    with open(name, 'w') as f:
        f.write('text,label\n')
        for i in range(n):
            label = random.choice(list(words))
            pool = words[label] if random.random() < .7 else sum(words.values(), [])
            f.write(' '.join(random.choice(pool) for _ in range(3)) + ',' + label + '\n')
        f.write(extra)
rows('train.csv', 90)
rows('test.csv', 40)
rows('other.csv', 40, 'a wave,cloud\n')
END2
cat >hand.py <<'END2'
import csv, json, sys
got, lines = json.load(open('.out')), [json.loads(l) for l in open('probe.jsonl')]
truth = [r['label'] for r in csv.DictReader(open('test.csv'))]
train = [r['label'] for r in csv.DictReader(open('train.csv'))]
right = sum(x['answer'] == t for x, t in zip(lines, truth))
f1 = []
for l in set(truth) | {x['answer'] for x in lines}:
    tp = sum(x['answer'] == l == t for x, t in zip(lines, truth))
    f1.append(2 * tp / (truth.count(l) + sum(x['answer'] == l for x in lines)))
ok = len(lines) == 40 and [x['label'] for x in lines] == truth and all(x['correct'] == (x['answer'] == x['label']) for x in lines)
ok = ok and got['raw']['correct'] == right and abs(got['macro_f1'] - sum(f1) / len(f1)) < 1e-9
ok = ok and got['majority']['correct'] == truth.count(max(sorted(set(train)), key=train.count)) and 15 <= got['split_rows'] <= 20
sys.exit(0 if ok and right > got['majority']['correct'] and got['rows'] == 40 else 1)
END2
check "rows are made" python3 make.py
set -- --text-column text --label-column label
run 0 probe "$@" -d train.csv test.csv -o probe.jsonl --json --threads 1
ok "shares, macro-F1 and lines agree with the rows; words beat the commonest label" python3 hand.py
run 0 probe "$@" -d train.csv test.csv -o again.jsonl --against probe.jsonl --threads 2
ok "a second run has the same answers" cmp -s probe.jsonl again.jsonl
ok "the strength that was chosen is printed" out_has "the best on "
ok "a probe is paired row by row" out_has "right only here 0, only there 0, p = 1"
run 0 probe "$@" -d train.csv other.csv -o other.jsonl
ok "an answer that no training row has is told and counts as wrong" err_has "1 rows have an answer that no training row has"
check "and is wrong" sh -c "tail -n 1 other.jsonl | grep -q '\"correct\":false'"

# --- beside a tuned model
check "the small model is written" "$(dirname "$TOQUE")/tests/faults/write_small_model" m.gguf
same() { # SHARE in the other command's output, ours printed with one digit
    python3 -c "import json; r = json.load(open('probe.json'))['raw']; t = json.load(open('.out'))['baseline']; exit(r != t)"
}
run 0 probe "$@" -d train.csv test.csv --json
cp "$out" probe.json
run 0 tune "$@" -m m.gguf -d train.csv --eval-data test.csv -o hat --rank 2 --epochs 1 --json --quiet
ok "tune measures the same probe on the rows it held out" same
check "the card shows it" grep -q '^baseline: logistic regression over TF-IDF .* of the 40 held-out answers' hat/README.md
run 0 tune "$@" -m m.gguf -d train.csv -o split --rank 2 --epochs 1 --quiet
ok "also on rows of the data itself" out_has "% of the 9 held-out answers right"
printf '{"prompt":"q%s","completion":"a story of its own, number %s"}\n' 1 1 2 2 3 3 4 4 5 5 6 6 7 7 8 8 9 9 >free.jsonl
run 0 tune -m m.gguf -d free.jsonl -o free --rank 2 --epochs 1 --quiet --eval-split 0.3
ok "rows without labels have no such baseline" sh -c "! grep -q baseline '$out'"

# --- bad input
run 2 probe "$@" test.csv
ok "rows to fit on are needed" err_has "-d TRAIN"
run 2 probe "$@" -d train.csv -m x.gguf test.csv
ok "TF-IDF takes no model" err_has "tfidf takes no model"
run 2 probe "$@" -d train.csv --features embed test.csv
ok "embeddings need one" one_error_line
run 1 probe "$@" -d none.csv test.csv
ok "a missing file" err_has none.csv
printf 'text,label\na,x\nb,x\n' >one.csv
run 1 probe "$@" -d one.csv test.csv -o none.jsonl
ok "one label alone" err_has "needs at least two"
check "nothing is written then" test ! -e none.jsonl
printf 'text,label\n' >empty.csv
run 1 probe "$@" -d empty.csv test.csv
ok "a file without rows" one_error_line
run 1 probe "$@" -d train.csv test.csv --against other.jsonl
ok "a run on other rows cannot be paired" err_has "line 1 is of another row"
finish
