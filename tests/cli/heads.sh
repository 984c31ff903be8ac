#!/bin/sh
# Heads on a small random model: each kind is trained, saved, worn by predict, and gives the same to the byte for any
# number of threads; labels are added; bad input.
# shellcheck source=tests/shell.inc
. "$(dirname "$0")/../shell.inc"
unset TOQUE_MODEL
cd "$work" || exit 1
check "the small model is written" "$(dirname "$TOQUE")/tests/faults/write_small_model" m.gguf
cat >make.py <<'END'
import json, random
random.seed(3)
words = {'red': 'aaa', 'blue': 'xyz', 'old': 'QQQ'}
def rows(n, names):
    for i in range(n):
        label = names[i % len(names)]
        yield label, ' '.join(random.choice(['is', 'it', words[label]]) for _ in range(4)) + ' ' + words[label]
def write(name, objects):
    with open(name, 'w') as f: f.write(''.join(json.dumps(o) + '\n' for o in objects))
two = list(rows(40, ['red', 'blue']))
write('class.jsonl', ({'text': t, 'label': l} for l, t in two))
write('three.jsonl', ({'text': t, 'label': l} for l, t in rows(45, ['red', 'blue', 'old'])))
write('labels.jsonl', ({'text': t, 'labels': [l, 'it'] if 'it' in t else [l]} for l, t in two))
write('value.jsonl', ({'text': t, 'label': len(t) / 4} for l, t in two))
write('spans.jsonl', ({'text': 'é ' + t, 'spans': [{'start': 2 + len(t) - 3, 'end': 2 + len(t), 'label': l}]} for l, t in two))
write('one.jsonl', ({'text': t, 'label': 'red'} for l, t in two))
with open('class.csv', 'w') as f:
    f.write('what,body\n' + ''.join('%s,%s\n' % r for r in two))
END
check "rows are made" python3 make.py
set -- -m m.gguf --compute f32 --quiet --threads 1
few="--epochs 12 --rank 4 --lr 1e-2 --eval-split 0.2"
# shellcheck disable=SC2086
for kind in classify:class multilabel:labels regress:value tag:spans; do
    objective=${kind%:*} data=${kind#*:}
    run 0 tune "$@" -d "$data.jsonl" --objective "$objective" $few -o "run.$objective"
    ok "$objective is trained" test -s "run.$objective/head.json"
    run 0 tune "$@" --threads 3 -d "$data.jsonl" --objective "$objective" $few -o "again.$objective"
    ok "$objective: three threads give the same bytes" cmp -s "run.$objective/adapter_model.safetensors" "again.$objective/adapter_model.safetensors"
    run 0 predict "$@" -a "run.$objective" "$data.jsonl" -o "$objective.out"
    ok "$objective: every row is answered" test "$(wc -l <"$objective.out")" -eq 40
done
check "classes are learned" python3 -c "
import json
rows = [json.loads(l) for l in open('classify.out')]
assert sum(r['label'] == r['label_2'] for r in rows) > 30 and all(0.5 <= r['probability_2' if 'probability_2' in r else 'probability'] <= 1 for r in rows)"
check "labels are a list with as many probabilities" python3 -c "
import json
for r in map(json.loads, open('multilabel.out')): assert len(r['labels_2']) == len(r['probabilities_2'])"
check "a number is on the scale of the targets" python3 -c "
import json
rows = [json.loads(l) for l in open('regress.out')]
mean = sum(r['label'] for r in rows) / 40
assert abs(sum(r['value'] for r in rows) / 40 - mean) < 1"
check "spans count characters and lie in the text" python3 -c "
import json
n = 0
for r in map(json.loads, open('tag.out')):
    for s in r['spans_2']: assert 0 <= s['start'] < s['end'] <= len(r['text']) and s['label'] in ('red', 'blue', 'old'); n += 1
assert n > 0"
# shellcheck disable=SC2086
for kind in classify:class multilabel:labels regress:value tag:spans; do
    objective=${kind%:*} data=${kind#*:}
    run 0 eval -m m.gguf --compute f32 --quiet -a "run.$objective" "$data.jsonl" -o "$objective.lines" --json
    cp "$out" "$objective.eval"
    ok "$objective: eval writes a line a row" test "$(wc -l <"$objective.lines")" -eq 40
done
check "eval counts as predict's answers say" python3 -c "
import json
e = {k: json.load(open(k + '.eval')) for k in ('classify', 'multilabel', 'regress', 'tag')}
rows = [json.loads(l) for l in open('classify.out')]
right = [r['label'] == r['label_2'] for r in rows]
lines = [json.loads(l) for l in open('classify.lines')]
assert right == [l['correct'] for l in lines] and e['classify']['right']['correct'] == sum(right)
assert abs(e['classify']['accuracy'] - sum(right) / 40) < 1e-9
assert sum(map(sum, e['classify']['confusion'])) == 40 and len(e['classify']['labels']) == 2
assert sum(e['classify']['confusion'][i][i] for i in (0, 1)) == sum(right)
rows = [json.loads(l) for l in open('multilabel.out')]
assert e['multilabel']['right']['correct'] == sum(set(r['labels']) == set(r['labels_2']) for r in rows)
rows = [json.loads(l) for l in open('regress.out')]
x, y = [r['value'] for r in rows], [r['label'] for r in rows]
mx, my = sum(x) / 40, sum(y) / 40
pearson = sum((a - mx) * (b - my) for a, b in zip(x, y)) / (sum((a - mx)**2 for a in x) * sum((b - my)**2 for b in y))**.5
assert abs(e['regress']['pearson'] - pearson) < 1e-4
assert abs(e['regress']['mae'] - sum(abs(a - b) for a, b in zip(x, y)) / 40) < 1e-5
rows = [json.loads(l) for l in open('tag.out')]
said = [{(s['start'], s['end'], s['label']) for s in r['spans_2']} for r in rows]
true = [{(s['start'], s['end'], s['label']) for s in r['spans']} for r in rows]
tp = sum(len(a & b) for a, b in zip(said, true))
assert abs(e['tag']['span_f1'] - 2 * tp / (sum(map(len, said)) + sum(map(len, true)))) < 1e-9
assert e['tag']['right']['correct'] == sum(a == b for a, b in zip(said, true))"
run 0 eval -m m.gguf --compute f32 --quiet -a run.classify class.jsonl --against classify.lines
ok "a run against itself differs in nothing" out_has 'right only here 0, only there 0, p = 1'
ok "the table and the interval are printed" sh -c "grep -q 'truth . answer' '$out' && grep -q '^majority class' '$out'"
run 0 eval -m m.gguf --compute f32 --quiet -a run.regress value.jsonl --against regress.lines
ok "numbers are paired by their errors" out_has 'nearer here in 0 rows, there in 0, p = 1 (randomization)'
run 1 eval -m m.gguf --quiet -a run.regress value.jsonl --against classify.lines
ok "other rows are refused" err_has 'line 1 is of another row'
run 1 eval -m m.gguf --quiet -a run.classify three.jsonl
ok "eval: a label that the head does not know" err_has 'three.jsonl: line 3: the label "old" is none of the 2 that the head knows'
run 1 eval -m m.gguf --quiet -a run.classify class.jsonl --labels red,blue
ok "eval: labels beside a head" err_has 'labels has no use here'
check "figures are in metrics.jsonl" grep -q eval_macro_f1 run.classify/metrics.jsonl
check "and in the card" grep -q 'truth . answer' run.classify/README.md
check "transformers' keys are in head.json" grep -q id2label run.classify/head.json
check "the adapter is PEFT's" sh -c "grep -q SEQ_CLS run.classify/adapter_config.json && grep -q TOKEN_CLS run.tag/adapter_config.json"
# shellcheck disable=SC2086
for method in head full; do
    run 0 tune "$@" -d class.csv --objective classify --text-column body --label-column what --method $method \
        --epochs 2 --eval-split 0.2 --class-weights balanced -o run.$method
    ok "method $method" test -s run.$method/model.safetensors
    run 0 predict "$@" -a run.$method class.csv --text-column body -o $method.csv
    ok "method $method is worn" sh -c "head -n 1 $method.csv | grep -q '^what,body,label,probability'"
done
run 0 tune "$@" -d three.jsonl --objective classify --init-adapter run.classify --add-labels --epochs 1 -o run.added
ok "labels are added" grep -q '"old"' run.added/head.json

# --- figures are those of the values that are kept
python3 -c "
import json, random
random.seed(5)
with open('noise.jsonl', 'w') as f:
    for i in range(30): f.write(json.dumps({'text': 'row %d' % random.randrange(10**6), 'label': random.random()}) + '\n')"
run 0 tune "$@" -d noise.jsonl --objective regress --epochs 6 --rank 4 --lr 3e-2 --eval-split 0.3 --eval-every 1 -o noise
cp "$out" noise.first
run 0 tune --resume -o noise --quiet --compute f32 --threads 1
cp "$out" noise.again
check "the best step is not the last, its figures are printed, and again by a resumed run" python3 -c "
import json, re
lines = [l for l in map(json.loads, open('noise/metrics.jsonl')) if 'eval_loss' in l]
best = min((l for l in lines if l['step']), key=lambda l: l['eval_loss'])
assert best['step'] < lines[-1]['step'] and abs(best['eval_rmse'] - lines[-1]['eval_rmse']) > 1e-3 * best['eval_rmse']
for name in ('noise.first', 'noise.again', 'noise/README.md'):
    said = re.search(r'rmse ([0-9.e+-]+)', open(name).read())
    assert said and abs(float(said[1]) - best['eval_rmse']) < 1e-3 * best['eval_rmse'], (name, said, best)"
run 0 tune "$@" -d three.jsonl --eval-split 0.2 --objective classify --init-adapter run.classify --add-labels --epochs 1 -o grown
sed -n '/old labels/p' "$out" >grown.first
run 0 tune --resume -o grown --quiet --compute f32 --threads 1
sed -n '/old labels/p' "$out" >grown.again
ok "a run that went on from an adapter can be resumed" test -s grown/README.md
check "old labels are reported, again when resumed" sh -c "test -s grown.first && cmp grown.first grown.again"

# --- vectors
python3 - <<'PY'
import json, random
random.seed(8)
words = ['red', 'blue', 'old', 'new', 'big', 'far']
with open('pairs.jsonl', 'w') as f:
    for i in range(48):
        w = words[i % 6]
        row = {'query': 'what is %s %d' % (w, i), 'passage': w * 2 + ' thing %d' % i}
        if i % 3 == 0: row['negative'] = [words[(i + 1) % 6] * 2 + ' other', words[(i + 2) % 6]]
        f.write(json.dumps(row) + '\n')
PY
pairs="--objective contrastive --epochs 4 --rank 4 --lr 1e-2 --eval-split 0.25 --batch-size 12"
# shellcheck disable=SC2086
run 0 tune "$@" -d pairs.jsonl $pairs -o run.pairs
ok "vectors are trained" grep -q '"pooling": "last"' run.pairs/embedding.json
check "recall is told before and after" sh -c "grep -c eval_recall_at_1 run.pairs/metrics.jsonl | grep -q '^[2-9]'"
check "and in the card" grep -q 'recall@1' run.pairs/README.md
check "the loss of held-out rows fell" python3 -c "
import json
e = [json.loads(l)['eval_loss'] for l in open('run.pairs/metrics.jsonl') if 'eval_loss' in l]
assert min(e[1:]) < e[0]"
# shellcheck disable=SC2086
run 0 tune "$@" --threads 3 -d pairs.jsonl $pairs -o again.pairs
ok "vectors: three threads give the same bytes" cmp -s run.pairs/adapter_model.safetensors again.pairs/adapter_model.safetensors
printf 'what is red 1\nredred thing 1\n' >texts
run 1 embed -m m.gguf texts
ok "a language model embeds only with such an adapter" err_has 'objective contrastive'
run 0 embed -m m.gguf -a run.pairs --compute f32 texts
ok "with it, vectors have length 1" python3 -c "
import json
v = [json.loads(l) for l in open('$out')]
assert len(v) == 2 and all(abs(sum(x * x for x in w) - 1) < 1e-5 for w in v) and v[0] != v[1]"
run 1 generate -m m.gguf -a run.pairs --raw -p x -n 1
ok "other commands refuse it" err_has 'tuned to embed texts'
# shellcheck disable=SC2086
run 0 tune "$@" -d pairs.jsonl --objective contrastive --init-adapter run.pairs --epochs 1 -o run.more
ok "training goes on from it with its pooling" grep -q '"pooling": "last"' run.more/embedding.json
run 1 tune "$@" -d pairs.jsonl --objective contrastive --init-adapter run.pairs --pooling mean -o run.never
ok "another pooling is refused" err_has 'leave pooling out'
run 1 tune "$@" -d class.jsonl --objective contrastive -o run.never
ok "rows without a query are refused" err_has 'class.jsonl: line 1: neither "query" nor "anchor"'
printf '{"query": "a", "passage": "b", "negative": ["c", "b"]}\n' >same.jsonl
run 1 tune "$@" -d same.jsonl --objective contrastive -o run.never
ok "a negative that is the passage is refused" err_has 'negative 2 is the passage itself'

# --- spans within a token
printf '{"text":"abx x","spans":[{"start":0,"end":1,"label":"x"},{"start":1,"end":2,"label":"y"},{"start":2,"end":3,"label":"z"}]}\n' >inside.jsonl
run 0 tune "$@" -d inside.jsonl --eval-split 0 --objective tag --epochs 1 -o inside
ok "a span without a token of its own is counted" grep -q '1 spans lost: all their tokens belong to the span before' inside/README.md
run 0 tune "$@" -d spans.jsonl --eval-split 0 --objective tag --epochs 1 -o outside
ok "and only such a one" sh -c "! grep -q 'spans lost' outside/README.md"

# --- bad input
run 1 tune "$@" -d three.jsonl --objective classify --init-adapter run.classify -o bad
ok "a label that the head does not know" err_has 'the label "old" is none of the 2 that init_adapter'
run 1 tune "$@" -d value.jsonl --objective regress --init-adapter run.classify -o bad
ok "a head of another kind" err_has "has a head for objective classify, not regress"
run 1 tune "$@" -d one.jsonl --objective classify -o bad
ok "one class" err_has 'have the label "red": there is nothing to tell apart'
run 1 tune "$@" -d class.jsonl --eval-data three.jsonl --objective classify -o bad
ok "a held-out label that was not trained on" err_has 'three.jsonl: line 3: the label "old" is none of the 2 that rows to train on have'
printf '{"text":"a","label":"1.5"}\n{"text":"b","label":"nan"}\n' >nan.jsonl
run 1 tune "$@" -d nan.jsonl --objective regress -o bad
ok "a target that is no number" err_has "nan.jsonl: line 2: the target nan is no finite number"
printf '{"text":"abc","spans":[{"start":1,"end":9,"label":"x"}]}\n' >out.jsonl
run 1 tune "$@" -d out.jsonl --objective tag -o bad
ok "a span outside its text" err_has "out.jsonl: line 1: the span 1 to 9 is not within the text"
printf '{"text":"abcdef","spans":[{"start":0,"end":3,"label":"x"},{"start":2,"end":5,"label":"y"}]}\n' >over.jsonl
run 1 tune "$@" -d over.jsonl --objective tag -o bad
ok "spans that overlap" err_has 'over.jsonl: line 1: spans overlap: "x" and "y"'
run 1 tune "$@" -d class.jsonl --objective classify --train-on last -o bad
ok "a key of another objective" err_has "train_on is not used by objective classify, only by: sft, dft"
run 1 tune "$@" -d class.jsonl --objective sft --pooling mean -o bad
ok "and the other way round" err_has "pooling is not used by objective sft, only by: classify, multilabel, regress, contrastive"
run 1 tune "$@" -d class.jsonl --objective sft --method head -o bad
ok "method head without a head" err_has "objective sft has none"
run 1 tune "$@" -d class.jsonl --objective classify --pooling pooler -o bad
ok "a pooler that is not there" err_has "has no pooler"
run 1 tune "$@" -d class.jsonl --objective classify --add-labels -o bad
ok "labels added to nothing" err_has "add_labels goes with init_adapter"
run 1 predict "$@" -a run.classify class.jsonl --labels a,b
ok "labels beside a head" err_has "labels has no use here"
check "nothing of this is left" test ! -e bad

# --- a head is never left out
for command in "generate -p red" "perplexity class.jsonl" "score class.jsonl" "chat"; do
    # shellcheck disable=SC2086
    run 1 $command "$@" -a run.classify
    ok "${command%% *} refuses a head" err_has "run.classify answers with a head (classify), which ${command%% *} would leave out: toque predict -a run.classify"
done
run 1 merge "$@" -a run.classify -o merged.gguf
ok "merge refuses a head with the reason" err_has "has a head (classify), and a model file has no place for one"
check "nothing is merged" test ! -e merged.gguf
run 1 tune "$@" -d class.jsonl --objective sft --init-adapter run.classify -o bad
ok "nor does another training take it on" err_has "has a head for objective classify; objective sft has none"

# --- another base
python3 -c "
b = bytearray(open('m.gguf', 'rb').read())
b[-3] ^= 64
open('other.gguf', 'wb').write(b)"
for adapter in run.classify run.head run.full; do
    run 1 predict -m other.gguf --compute f32 --quiet -a $adapter class.jsonl
    ok "$adapter on another base of the same shapes" err_has "$adapter has a head that was trained on a base with hash"
    ok "both are named" err_has "but other.gguf is"
done
finish
