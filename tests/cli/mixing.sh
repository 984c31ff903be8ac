#!/bin/sh
# Several data sets in one run on a small random model: shares, names and system prompts from a recipe, losses by data
# set, going on to the same bytes, bad input.
# shellcheck source=tests/shell.inc
. "$(dirname "$0")/../shell.inc"
unset TOQUE_MODEL
cd "$work" || exit 1
check "the small model is written" "$(dirname "$TOQUE")/tests/faults/write_small_model" m.gguf
i=0
while [ $i -lt 30 ]; do
    echo "{\"prompt\":\"aa $i\",\"completion\":\"xyz\"}" >&3
    [ $((i % 3)) -ne 0 ] || printf 'q%s;QQQ it\n' $i >&4
    i=$((i + 1))
done 3>big.jsonl 4>rest
{ echo 'Frage;Antwort' && cat rest; } >small.csv
cat >recipe.yaml <<'END2'
data:
  - path: big.jsonl
    name: big
  - path: small.csv
    name: small
    weight: 2
    system: aaa
    prompt_column: Frage
    answer_column: Antwort
mixing: equal
rank: 4
epochs: 2
lr: 5e-3
eval_split: 0.2
eval_every: 4
save_every: 3
label_smoothing_factor: 0.1
END2
set -- -m m.gguf --compute f32 --threads 1
run 0 tune "$@" --config recipe.yaml -o whole
ok "counts of each data set are told" err_has 'data set small: 8 rows to train on, 2 held out; an epoch takes 21 (65.6 %)'
ok "of the other too" err_has 'data set big: 24 rows to train on, 6 held out; an epoch takes 11 (34.4 %)'
ok "losses of each are told at the end" grep -q '^  big: held-out loss [0-9.]* before, [0-9.]* last$' "$out"
ok "every evaluation has them" test "$(grep -c '"eval_loss_by_task": {"big": [0-9.]*, "small": [0-9.]*}' whole/metrics.jsonl)" -eq 3
ok "a smoothed loss stands beside the plain one" test "$(grep -c '"loss": [0-9.]*, "sft_loss": ' whole/metrics.jsonl)" -eq 8
check "the loss is the weighted mean of the data sets'" python3 -c "
import json
for l in map(json.loads, open('whole/metrics.jsonl')):
    if 'eval_loss' in l:
        a, b = l['eval_loss_by_task'].values()
        assert min(a, b) < l['eval_loss'] < max(a, b)
    elif l['step'] > 1: assert abs(l['sft_loss'] - l['loss']) > 1e-4"
run 0 tune "$@" --quiet --config whole/recipe.yaml -o again
ok "recipe.yaml repeats the run" cmp -s whole/adapter_model.safetensors again/adapter_model.safetensors
run 0 tune "$@" --quiet --config recipe.yaml --max-steps 4 --json -o short
ok "--json has the losses" out_has '"eval_loss_by_task":{"big":'
sed 's/weight: 2/weight: 3/' recipe.yaml >other.yaml
run 1 tune --compute f32 --threads 1 --config other.yaml -m m.gguf -o whole --resume
ok "another weight is another run" err_has 'cannot resume whole: '
run 0 tune "$@" --quiet --rank 2 --epochs 1 --eval-split 0.2 -d big.jsonl -d big.jsonl --mixing temperature -o flags
ok "flags alone will do, and equal names get numbers" grep -q '"eval_loss_by_task": {"big.jsonl": [0-9.]*, "big.jsonl#2": ' flags/metrics.jsonl
run 0 tune "$@" --quiet --rank 2 --epochs 1 -d big.jsonl --eval-data big.jsonl --eval-data '{"path": "small.csv", "name": "new", "prompt_column": "Frage", "answer_column": "Antwort"}' -o held
ok "files of held-out rows have losses too" grep -q '"eval_loss_by_task": {"big.jsonl": [0-9.]*, "new": ' held/metrics.jsonl
check "and the card has a line for each, before and last" python3 -c "
import json
e = [json.loads(l)['eval_loss_by_task'] for l in open('held/metrics.jsonl') if 'eval_loss_by_task' in l]
card = open('held/README.md').read()
for name in ('big.jsonl', 'new'): assert '| %s | %.4f | %.4f |' % (name, e[0][name], e[-1][name]) in card, name"
sed 's/weight: 2/wieght: 2/' recipe.yaml >bad.yaml
run 2 tune "$@" --config bad.yaml -o no
ok "an unknown key of a data set" err_has 'bad.yaml, line 6: data: unknown key wieght; did you mean weight?'
sed 's/weight: 2/weight: -1/' recipe.yaml >bad.yaml
run 1 tune "$@" --config bad.yaml -o no
ok "a weight below 0" err_has 'data, item 2: weight must be a number above 0'
run 1 tune "$@" -d big.jsonl --mixing equal -o no
ok "one data set cannot be mixed" err_has 'mixing is for several data sets'
check "nothing is left behind" test ! -e no
finish
