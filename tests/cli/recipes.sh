#!/bin/sh
# Every recipe on a small random model: its data is read, its keys are used, and two steps leave a run.
# shellcheck source=tests/shell.inc
. "$(dirname "$0")/../shell.inc"
unset TOQUE_MODEL
cd "$(dirname "$0")/../.." || exit 1
check "the small model is written" "$(dirname "$TOQUE")/tests/faults/write_small_model" "$work/m.gguf"
set -- -m "$work/m.gguf" --compute f32 --threads 1 --quiet --max-steps 2
recipe() { # what is too large for the small model is replaced by a flag
    name=$1
    shift
    smaller=$(sed -n 's/^rank: .*/--rank 2/p; s/^train_layers: .*/--train-layers 1/p' "recipes/$name.yaml")
    # shellcheck disable=SC2086
    run 0 tune --config "recipes/$name.yaml" "$@" $smaller -o "$work/$name"
    ok "recipe $name" test -s "$work/$name/metrics.jsonl"
}
for file in recipes/*.yaml; do
    name=$(basename "$file" .yaml)
    [ "$name" = add-labels ] || recipe "$name" "$@"
done
recipe add-labels "$@" --init-adapter "$work/classify-frozen-encoder"
finish
