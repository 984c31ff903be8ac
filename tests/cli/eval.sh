#!/bin/sh
# toque eval on a small random model: a label's likelihood is what toque score gives the row with that answer, and all
# else (answers, prior, examples, intervals, pairing) is worked out here again from those numbers. Bad input.
# shellcheck source=tests/shell.inc
. "$(dirname "$0")/../shell.inc"
unset TOQUE_MODEL
cd "$work" || exit 1
check "the small model is written" "$(dirname "$TOQUE")/tests/faults/write_small_model" m.gguf

cat >make.py <<'END'
import json, random
random.seed(7)
labels = ['a', 'ab', 'b', 'x']
def row(name, words):
    q = ' '.join(random.choice(words) for _ in range(3))
    return {'messages': [{'role': 'user', 'content': q + '?'}, {'role': 'assistant', 'content': random.choice(labels)}]}
for name, n, words in (('test', 40, ['is', 'it', 'red', 'old', 'why', 'Q']), ('prior', 12, ['be', 'no', 'to']), ('shots', 9, ['u', 'v'])):
    rows = [row(name, words) for _ in range(n)]
    with open(name + '.jsonl', 'w') as f:
        f.write(''.join(json.dumps(r) + '\n' for r in rows))
    # Every row with every label as its answer, for toque score; test rows also behind three examples.
    def all_of(rows, before, to):
        with open(to, 'w') as f:
            for r in rows:
                for l in labels:
                    f.write(json.dumps({'messages': before + r['messages'][:-1] + [{'role': 'assistant', 'content': l}]}) + '\n')
    all_of(rows, [], name + '.all.jsonl')
    if name == 'test': test = rows
    if name == 'shots':
        taken, seen = [], set()
        for r in rows: # the first rows, of labels that were not taken yet
            l = r['messages'][1]['content']
            if l not in seen and len(taken) < 6: seen.add(l); taken += r['messages']
        all_of(test, taken, 'fewshot.all.jsonl')
END
cat >hand.py <<'END'
import json, math, sys
labels = ['a', 'ab', 'b', 'x']
def scores(name):
    v = [json.loads(l)['logprob'] for l in open(name + '.scores')]
    return [v[i:i + 4] for i in range(0, len(v), 4)]
truth = [json.loads(l)['messages'][-1]['content'] for l in open('test.jsonl')]
got = json.load(open('.out'))
def lines(name): return [json.loads(l) for l in open(name)]
def wilson(k, n, z=1.959963984540054):
    p, m = k / n, (k / n + z * z / (2 * n)) / (1 + z * z / n)
    h = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (0 if k == 0 else m - h, 1 if k == n else m + h)
def share(x, k):
    low, high = wilson(k, len(truth))
    return x['correct'] == k and abs(x['accuracy'] - k / 40) < 1e-9 and abs(x['low'] - low) < 1e-9 and abs(x['high'] - high) < 1e-9
def pick(rows): return [labels[max(range(4), key=lambda i: r[i])] for r in rows]
def right(answers): return sum(a == t for a, t in zip(answers, truth))
def agrees(out, answers): # line by line
    l = lines(out)
    return [x['answer'] for x in l] == answers and [x['label'] for x in l] == truth and all(x['correct'] == (x['answer'] == x['label']) for x in l)
what = sys.argv[1]
test = scores('test')
if what == 'raw':
    ok = agrees('base.jsonl', pick(test)) and share(got['raw'], right(pick(test))) and 'corrected' not in got
    ok = ok and share(got['majority'], max(truth.count(l) for l in labels)) and got['rows'] == 40
elif what == 'prior': # how often each label is said on the prior's rows against how often it is right there
    said = [0] * 4
    for r in scores('prior'):
        top = max(r)
        e = [math.exp(x - top) for x in r]
        said = [m + x / sum(e) for m, x in zip(said, e)]
    real = [json.loads(l)['messages'][-1]['content'] for l in open('prior.jsonl')]
    add = [math.log(real.count(l) + .5) - math.log(m + .5) for l, m in zip(labels, said)]
    fixed = pick([[x + a for x, a in zip(r, add)] for r in test])
    ok = agrees('prior.out', fixed) and share(got['raw'], right(pick(test))) and share(got['corrected'], right(fixed)) and fixed != pick(test)
elif what == 'shots':
    ok = agrees('shots.out', pick(scores('fewshot'))) and pick(scores('fewshot')) != pick(test)
else: # paired
    here = [x['correct'] for x in lines('prior.out')]
    there = [x['correct'] for x in lines('base.jsonl')]
    a = sum(x and not y for x, y in zip(here, there))
    b = sum(y and not x for x, y in zip(here, there))
    p = min(1, 2 * sum(math.comb(a + b, i) for i in range(min(a, b) + 1)) / 2 ** (a + b))
    ok = a + b > 0 and got['paired']['only_this'] == a and got['paired']['only_other'] == b and abs(got['paired']['p'] - p) < 1e-9
sys.exit(0 if ok else 1)
END
by_hand() { python3 hand.py "$1"; }
check "rows are made" python3 make.py
set -- -m m.gguf --compute f32 --quiet --threads 1
for name in test prior fewshot; do
    run 0 score "$@" $name.all.jsonl
    cp "$out" $name.scores
done
run 0 eval "$@" test.jsonl --labels a,ab,b,x -o base.jsonl --json
ok "the answer is the label that score finds likeliest; shares have their intervals" by_hand raw
printf 'a\nab\nb\nx\n' >labels.txt
run 0 eval "$@" test.jsonl --labels labels.txt -o again.jsonl --threads 2
ok "labels from a file, and another number of threads, give the same answers" cmp -s base.jsonl again.jsonl
ok "accuracy is printed with its interval" sh -c "grep -qE 'likeliest label +[0-9.]+ %  \\([0-9.]+ to [0-9.]+\\)' '$out'"
run 0 eval "$@" test.jsonl --labels labels.txt --prior prior.jsonl -o prior.out --json
ok "the prior is what is said on its rows against what is right there" by_hand prior
run 0 eval "$@" test.jsonl --labels labels.txt --prior prior.jsonl --against base.jsonl --json
ok "two runs are paired row by row" by_hand paired
run 0 eval "$@" test.jsonl --labels labels.txt --against base.jsonl
ok "a run against itself differs nowhere" out_has "right only here 0, only there 0, p = 1"
run 0 eval "$@" test.jsonl --labels labels.txt --shots 3 --shots-from shots.jsonl -o shots.out --json
ok "examples stand before the question, of different labels first" by_hand shots

# --- bad input
run 2 eval "$@" test.jsonl
ok "labels are needed" err_has "--labels"
run 2 eval "$@" test.jsonl --labels a,b --shots 2
ok "examples need a source" err_has "--shots needs --shots-from"
run 2 eval "$@" test.jsonl --labels a,b --shots-from shots.jsonl
ok "and a number" err_has "--shots-from needs --shots"
: >empty
run 1 eval "$@" test.jsonl --labels empty
ok "an empty file of labels" err_has 'names 0: give at least two'
run 1 eval "$@" test.jsonl --labels a,b,a
ok "a label twice" err_has '--labels names "a" twice'
printf '%s\n' '{"prompt":"x?","completion":"a"}' '{"prompt":"x?","completion":"zebra"}' >unknown.jsonl
run 1 eval "$@" unknown.jsonl --labels a,b -o none.out
ok "an answer that is no label is told with its line" err_has 'unknown.jsonl: line 2: the answer "zebra" is none of --labels'
check "nothing is written then" test ! -e none.out
printf '{"messages":[{"role":"user","content":"x?"}]}\n' >open.jsonl
run 1 eval "$@" open.jsonl --labels a,b
ok "a row without an answer" err_has "open.jsonl"
run 1 eval "$@" empty --labels a,b
ok "an empty file" one_error_line
run 1 eval "$@" test.jsonl --labels labels.txt --prior empty
ok "an empty file for the prior" one_error_line
run 1 eval "$@" test.jsonl --labels labels.txt --shots 20 --shots-from shots.jsonl
ok "more examples than rows" err_has "20 examples were asked for"
printf '{"prompt":"%300s","completion":"a"}\n' x >long.jsonl
run 1 eval "$@" long.jsonl --labels a,b
ok "a row over the context" err_has "line 1 does not fit the model's context of 256 tokens"
run 1 eval "$@" test.jsonl --labels labels.txt --against none.jsonl
ok "the other run is missing" err_has "none.jsonl"
run 0 eval "$@" prior.jsonl --labels labels.txt -o other.jsonl
run 1 eval "$@" test.jsonl --labels labels.txt --against other.jsonl
ok "a run on other rows cannot be paired" err_has "line 1 is of another row"
head -n 39 base.jsonl >short.jsonl
run 1 eval "$@" test.jsonl --labels labels.txt --against short.jsonl
ok "nor one on fewer" err_has "has fewer rows than these 40"
run 1 eval "$@" test.jsonl --labels labels.txt --against test.jsonl
ok "nor a file that is no run" err_has "line 1 is not what eval --out writes"
run 1 eval "$@" test.jsonl --labels a,ab,b
ok "a label that the rows have and the list has not" err_has "is none of --labels"
finish
