#!/bin/sh
# The real model on the portable row of the kernels: a short generation, a scored row and a training step on two rows say
# what the best row of this machine says, as far as rounding goes. The whole suite is too slow there.
# shellcheck source=tests/shell.inc
. "$(dirname "$0")/../shell.inc"
unset TOQUE_MODEL
model=${TOQUE_TEST_MODEL:?}
cd "$work" || exit 1
for i in 1 2; do
    printf '{"messages":[{"role":"user","content":"Number %d?"},{"role":"assistant","content":"It is %d."}]}\n' $i $i
done >rows.jsonl
head -n 1 rows.jsonl >row.jsonl

# near NAME A B TOLERANCE: relative
near() {
    check "$1: $2 and $3" awk -v a="$2" -v b="$3" -v t="$4" 'BEGIN { d = a - b; if (d < 0) d = -d; s = a < 0 ? -a : a
        exit !(a != "" && b != "" && d <= t * s) }'
}
field() { sed -n "s/.*\"$1\": *\\([-0-9.e]*\\).*/\\1/p" "$2"; }

for isa in ref best; do
    if [ $isa = ref ]; then
        TOQUE_ISA=ref
        export TOQUE_ISA
    else
        unset TOQUE_ISA
    fi
    run 0 generate -m "$model" -p "The capital of France is" --raw -n 4 --compute f32 --json
    ok "$isa: generation" test -s "$out"
    sed -n 's/.*"text":"\([^"]*\)".*/\1/p' "$out" >text-$isa
    run 0 score -m "$model" row.jsonl --compute f32 --json
    field logprob "$out" >score-$isa
    run 0 tune -m "$model" -d rows.jsonl -o run-$isa --rank 2 --batch-size 2 --max-steps 1 --compute f32 --quiet --json
    field loss run-$isa/metrics.jsonl | head -n 1 >loss-$isa
    field grad_norm run-$isa/metrics.jsonl | head -n 1 >norm-$isa
done
check "the same text" cmp text-ref text-best
check "which is not empty" test -s text-ref
near "a row's log-probability" "$(cat score-ref)" "$(cat score-best)" 1e-4
near "a step's loss" "$(cat loss-ref)" "$(cat loss-best)" 1e-4
near "its gradient's norm" "$(cat norm-ref)" "$(cat norm-best)" 1e-3
finish
