#!/bin/sh
# toque merge with a small random model: what every kind of adapter makes of the base is in the file, scaled and several at
# once; what cannot be merged is refused and leaves nothing.
# shellcheck source=tests/shell.inc
. "$(dirname "$0")/../shell.inc"
unset TOQUE_MODEL
write_model=$(dirname "$TOQUE")/tests/faults/write_small_model
cd "$work" || exit 1
check "the small model is written" "$write_model" m.gguf
printf '{"prompt":"a?","completion":"b"}\n{"prompt":"b?","completion":"c"}\n{"prompt":"c?","completion":"d"}\n' >rows.jsonl

scores() { "$TOQUE" score "$@" rows.jsonl --compute f32 --quiet | sed 's/.*"logprob": *\([-0-9.e]*\).*/\1/'; }
# The worst difference of the rows' log-probabilities is below $3; and merging changed them by more than that.
agree() {
    [ "$(wc -l <"$1")" -eq 3 ] &&
        paste "$1" "$2" | awk -v most="$3" '{ d = $1 - $2; if (d < 0) d = -d; if (d > most || d != d) bad = 1 } END { exit bad }'
}
differ() { ! agree "$1" "$2" "$3"; }
train() { "$TOQUE" tune -m m.gguf -d rows.jsonl -o "$1" --quiet --eval-split 0 --max-steps 4 --warmup 0 --lr "$2" --method "$3"; }
scores -m m.gguf >base

for method in lora dora vera ia3 norms full freeze; do
    train $method 0.05 $method >"$out" 2>"$err"
    expect 0 $?
    ok "$method is trained" test -d $method
    scores -m m.gguf -a $method >worn
    check "$method changes the model" differ base worn 0.001
    run 0 merge -m m.gguf -a $method -o $method.gguf --type f32 --compute f32 --json
    ok "$method is merged" out_has '"mean_difference"'
    scores -m $method.gguf >merged
    check "$method: the file does what base and adapter do" agree worn merged 0.001
done

# The scale of rsLoRA and the base that PiSSA takes from itself are in the file too; biases are of models that have them.
"$(dirname "$TOQUE")/tests/train/write_small_model" qwen2 q.gguf || exit 1
closely() { # HAT BASE OPTION...
    hat=$1 base=$2
    shift 2
    "$TOQUE" tune -m $base -d rows.jsonl -o $hat --quiet --eval-split 0 --max-steps 4 --warmup 0 --lr 0.02 "$@" >"$out" 2>"$err"
    expect 0 $?
    ok "$hat is trained" test -d $hat
    scores -m $base >plain
    scores -m $base -a $hat >worn
    check "$hat changes the model" differ plain worn 0.001
    run 0 merge -m $base -a $hat -o $hat.gguf --type f32 --compute f32
    ok "$hat is merged" test -s $hat.gguf
    scores -m $hat.gguf >merged
    check "$hat: merged is worn, to 1e-4" agree worn merged 0.0001
}
closely rslora m.gguf --method lora --rank 8 --rslora
closely pissa m.gguf --method lora --rank 4 --init pissa
closely bitfit q.gguf --method bitfit

scores -m m.gguf -a lora:0.5 -a dora:0.25 >worn
run 0 merge -m m.gguf -a lora:0.5 -a dora:0.25 -o two.gguf --type f32 --compute f32
ok "two at a scale each are merged" out_has "log-probabilities differ"
scores -m two.gguf >merged
check "two at a scale each: the same" agree worn merged 0.001
for type in f16 bf16; do
    run 0 merge -m m.gguf -a lora -o $type.gguf --type $type
    ok "$type is smaller" test "$(wc -c <$type.gguf)" -lt "$(wc -c <two.gguf)"
    scores -m m.gguf -a lora >worn
    scores -m $type.gguf >merged
    check "$type: nearly the same" agree worn merged 0.5
done

# refused NAME WORDS ARGUMENT...
refused() {
    what=$1 words=$2
    shift 2
    run 1 merge "$@"
    ok "$what: one line" one_error_line
    ok "$what: it is told" err_has "$words"
    check "$what: nothing is left" test ! -e no.gguf
}
train prefix 0.05 prefix >"$out" 2>"$err"
refused "virtual tokens" "cannot be merged" -m m.gguf -a prefix -o no.gguf
train prompt 0.05 prompt >"$out" 2>"$err"
refused "a prompt" "cannot be merged" -m m.gguf -a prompt -o no.gguf
refused "two that replace tensors" "both replace" -m m.gguf -a full -a freeze -o no.gguf
refused "a scale of replaced tensors" "must be 1" -m m.gguf -a full:0.5 -o no.gguf
run 1 merge -m lora.gguf -a lora -o no.gguf # a warning that it is loaded stands before the error
ok "another base is refused" err_has "was trained on another base"
check "another base: nothing is left" test ! -e no.gguf
refused "a folder that is no adapter" "none" -m m.gguf -a none -o no.gguf
refused "a folder that is not there" "no.gguf" -m m.gguf -a lora -o nowhere/no.gguf
before=$(cksum <two.gguf)
run 1 merge -m m.gguf -a lora -o two.gguf
ok "a file that exists is kept" err_has "--overwrite"
check "a file that exists is as it was" test "$before" = "$(cksum <two.gguf)"
run 0 merge -m m.gguf -a lora -o two.gguf --overwrite --quiet
ok "or replaced when asked" test "$before" != "$(cksum <two.gguf)"
run 2 merge -m m.gguf -a lora
ok "without a file to write: wrong usage" err_has "-o OUT"
run 2 merge -m m.gguf -o no.gguf
ok "without an adapter: wrong usage" err_has "-a A"
finish
