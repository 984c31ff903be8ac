#!/bin/sh
# A training that is killed (SIGKILL) again and again and resumed each time must leave the bytes of one that never stopped:
# adapter, checkpoint, and metrics.jsonl without tokens_per_second. Also SIGTERM (as Ctrl-C), a changed recipe, and other
# threads and memory on the way. The model is the real one (TOQUE_TEST_MODEL).
# shellcheck source=tests/shell.inc
. "$(dirname "$0")/../shell.inc"
unset TOQUE_MODEL
model=${TOQUE_TEST_MODEL:?}
child=
trap 'test -z "$child" || kill -9 "$child" 2>/dev/null || :; rm -rf "$work"' EXIT
cd "$work" || exit 1

i=0
while [ $i -lt 24 ]; do
    printf '{"messages":[{"role":"user","content":"Number %d?"},{"role":"assistant","content":"It comes after %d."}]}\n' \
        $i $((i - 1))
    i=$((i + 1))
done >rows.jsonl
set -- -m "$model" -d rows.jsonl --rank 4 --batch-size 2 --epochs 1 --eval-split 0.1 --eval-every 4 --save-every 2 \
    --dropout 0.05 --quiet
run 0 tune "$@" -o whole --json
ok "tune trains" out_has '"steps":11'
check "a line of metrics for every step" test "$(grep -c '"loss"' whole/metrics.jsonl)" = 11

lines() { if [ -f cut/metrics.jsonl ]; then wc -l <cut/metrics.jsonl; else echo 0; fi; }
# interrupt SIGNAL LINES ARGUMENT...: starts or resumes; the signal comes as soon as so many more lines of metrics are there.
interrupt() {
    signal=$1 more=$2
    shift 2
    before=$(lines)
    "$TOQUE" tune "$@" >"$out" 2>"$err" &
    child=$!
    while kill -0 $child 2>/dev/null; do
        now=$(lines)
        # A resumed run first removes lines: what is fewer than before counts as the new beginning.
        [ "$now" -lt "$before" ] && before=$now
        [ "$now" -ge $((before + more)) ] && break
        sleep 0.05
    done
    kill -"$signal" $child 2>/dev/null || :
    wait $child 2>/dev/null
    code=$?
    child=
}
interrupt KILL 2 "$@" -o cut
check "the first run was killed" test $code = 137
interrupt KILL 3 -o cut --resume --quiet
check "a resumed run was killed" test $code = 137
interrupt KILL 1 -o cut --resume --quiet --threads 1
check "another was killed" test $code = 137
interrupt TERM 2 -o cut --resume --quiet
expect 1 $code
ok "SIGTERM saves and tells how to go on" err_has "go on with toque tune -o cut --resume"
run 1 tune -o cut --resume --quiet --lr 9e-9
ok "another lr is refused by name" err_has "lr was 0.001"
export TOQUE_ISA=ref
run 1 tune -o cut --resume --quiet --compute f32
unset TOQUE_ISA
ok "another instruction set is refused, and how to go on is told" err_has "--other-machine"
run 2 tune -o cut --other-machine
ok "--other-machine alone is wrong usage" err_has "--other-machine goes with --resume"
run 0 tune -o cut --resume --quiet --threads 1 --max-memory 600M
ok "the last resume finishes" out_has "in 11 steps"

for name in adapter_model.safetensors adapter_config.json checkpoint/state.safetensors recipe.yaml; do
    check "$name has the bytes of a run never stopped" cmp -s "whole/$name" "cut/$name"
done
for dir in whole cut; do sed 's/, "tokens_per_second": [^}]*//' $dir/metrics.jsonl >$dir.metrics; done
check "metrics.jsonl has them too" cmp -s whole.metrics cut.metrics
run 1 tune "$@" -o whole
ok "a run is not replaced without --overwrite" err_has "--overwrite"
run 0 tune --config whole/recipe.yaml -o again --quiet
ok "recipe.yaml repeats the run" cmp -s whole/adapter_model.safetensors again/adapter_model.safetensors
run 0 tune "$@" --dry-run
ok "a dry run writes nothing" out_has "nothing was written"
finish
